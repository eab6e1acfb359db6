/* test_connect_memory.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   a CONNECT that is refused for lack of memory has ended nothing: the session that it was
 * to replace is still there. Method: a real broker, whose pool lends all it has to the test before
 * the CONNECT comes.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

enum { LEFT_MAX = 4096, STEP = 64, TURNS = 3, WILL = 600 };

/* So that what the older session gives back is not enough for the new one. */
static char will[WILL + 1];

/* A chain of what was lent. */
struct lent {
    struct lent *next;
    size_t capacity;
};

struct taking {
    struct lent *first;
    size_t left;
};

static void take_all(struct mr_shard *shard, void *arg)
{
    struct taking *taking = arg;
    size_t capacity = 0;

    for (size_t bytes = 1 << 20; bytes >= 64; bytes /= 2) {
        while (mr_bufpool_fits(&shard->pool, bytes + taking->left)) {
            struct lent *lent =
                (struct lent *)(void *)mr_bufpool_take(&shard->pool, bytes, &capacity);
            mr_assert(lent != NULL);
            *lent = (struct lent){.next = taking->first, .capacity = capacity};
            taking->first = lent;
        }
    }
}

static void give_all(struct mr_shard *shard, void *arg)
{
    struct taking *taking = arg;

    while (taking->first != NULL) {
        struct lent *lent = taking->first;
        taking->first = lent->next;
        mr_bufpool_give(&shard->pool, (uint8_t *)lent, lent->capacity);
    }
}

static void nothing(struct mr_shard *shard, void *arg)
{
    (void)shard;
    (void)arg;
}

/* The persistent session, which is there or not. */
static void join(struct kit *kit, bool present)
{
    struct mr_mqtt_connack connack;
    struct peer peer;

    peer_open(&peer, kit);
    peer_send_connect(
        &peer, &(struct peer_connect){
                   .client_id = "plc", .version = 5, .keep_session = true, .expiry_s = 3600});
    peer_expect_connack(&peer, &connack);
    mr_assert(connack.reason == 0 && connack.session_present == present);
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
