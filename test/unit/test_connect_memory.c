/* test_connect_memory.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   a CONNECT that is refused for lack of memory has ended nothing: the session that it was
 * to replace is still there. Method: a real broker, whose pool lends all it has to the test before
 * the CONNECT comes.
 */
#include "broker_peer.h"
#include "lent_kit.h"

enum { LEFT_MAX = 4096, STEP = 64, TURNS = 3, WILL = 600 };

/* So that what the older session gives back is not enough for the new one. */
static char will[WILL + 1];

/* The persistent session, which is there or not. */
static void join(struct kit *kit, bool present)
{
    struct peer peer;

    mr_assert(peer_join_as(&peer, kit,
                           &(struct peer_connect){.client_id = "plc",
                                                  .version = 5,
                                                  .keep_session = true,
                                                  .expiry_s = 3600}) == present);
    peer_close(&peer);
}

/* A clean start while `left` bytes can be had.  True: it was let in. */
static bool replace(struct kit *kit, size_t left)
{
    struct taking taking = {.left = left};
    struct mr_shard *shard = kit->broker->shards[0];
    struct mr_mqtt_connack connack;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;
    struct peer peer;
    int64_t deadline = kit_deadline();

    peer_open(&peer, kit);
    mr_assert(shard_call(shard, take_all, &taking) == MR_OK);
    peer_send_connect(
        &peer, &(struct peer_connect){
                   .client_id = "plc", .version = 5, .will_topic = "will", .will_payload = will});
    for (int i = 0; i < TURNS; i++) {
        mr_assert(shard_call(shard, nothing, NULL) == MR_OK);
        peer_receive(&peer, 1000000);
    }
    mr_assert(shard_call(shard, give_all, &taking) == MR_OK);
    while (mr_mqtt_frame(mr_span_make(peer.in + peer.begin, peer.end - peer.begin),
                         MR_MQTT_PACKET_MAX, &frame) != MR_OK &&
           !peer.closed) {
        peer_receive(&peer, 1000000);
        kit_patience(deadline, "an answer, or the end");
    }
    bool in = mr_mqtt_frame(mr_span_make(peer.in + peer.begin, peer.end - peer.begin),
                            MR_MQTT_PACKET_MAX, &frame) == MR_OK;
    in = in && frame.type == MR_MQTT_CONNACK &&
         mr_mqtt_connack_decode(&frame, peer.version, &connack, &why) == MR_OK &&
         connack.reason == 0;
    peer_close(&peer);
    return in;
}

int main(void)
{
    bool present = false;
    int refused = 0;
    struct kit kit;

    memset(will, 'w', WILL);
    kit_open(&kit, &(struct kit_options){.memory_bytes = 32 << 20});
    for (size_t left = 0; left <= LEFT_MAX; left += STEP) {
        join(&kit, present);
        present = !replace(&kit, left);
        refused += present;
    }
    mr_assert(refused != 0);
    join(&kit, present);
    kit_close(&kit);
    return 0;
}
