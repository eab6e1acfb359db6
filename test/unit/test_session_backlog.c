/* test_session_backlog.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a start with more behind a shard's position in another lane than memory holds is no
 *         longer than one without, and the session that is owed it gets all of it, in order.
 * Method: a shard is kept from its turns while another one takes messages for its absent
 *         subscriber; the disk as it then is, is what the next start finds.
 */
#include "broker/broker_internal.h"
#include "broker_peer.h"
#include "os/thread.h"

enum { MESSAGES = 30, PAYLOAD = 400 << 10, START_MAX_S = 30 };

struct hold {
    struct kit *kit;
    struct mr_wake holds;
    struct mr_wake over;
};

static void hold_turn(struct mr_shard *shard, void *arg)
{
    struct hold *hold = arg;

    (void)shard;
    mr_wake_ring(&hold->holds);
    mr_assert(mr_wake_wait(&hold->over, KIT_PATIENCE_S * INT64_C(1000000000)));
}

static void hold_shard(void *arg)
{
    struct hold *hold = arg;

    mr_assert(shard_call(broker_shard(hold->kit->broker, 1), hold_turn, hold) == MR_OK);
}

/* An id whose client is at home in that shard. */
static void id_of(struct kit *kit, uint32_t home, char id[16])
{
    int n = 0;

    do {
        (void)snprintf(id, 16, "id-%d", n++);
    } while (mr_journal_home(kit->journal, mr_span_of(id)) != home);
}

static void join(struct peer *peer, struct kit *kit, const char *id, bool present)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(peer,
                      &(struct peer_connect){
                          .client_id = id, .version = 5, .keep_session = true, .expiry_s = 1000});
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0 && connack.session_present == present);
}

/* What is on the disk now, for a kit of its own. */
static void picture(struct kit *kit, struct kit *after)
{
    *after = (struct kit){.options = kit->options};
    kit_folder(after);
    mr_assert(mr_dir_list(kit->folder, kit_copy,
                          &(struct kit_copying){kit->folder, after->folder}) == MR_OK);
    mr_assert(!kit_copy_torn); /* nobody appends */
}

static void publish_all(struct peer *pub)
{
    static uint8_t payload[PAYLOAD];
    static uint8_t bytes[PAYLOAD + 64];

    for (uint16_t i = 1; i <= MESSAGES; i++) {
        payload[0] = (uint8_t)i;
        struct mr_mqtt_publish packet = {.topic = mr_span_of("t"),
                                         .payload = mr_span_make(payload, sizeof(payload)),
                                         .qos = 1,
                                         .packet_id = i};
        ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
        mr_assert(len > 0);
        peer_write(pub, bytes, (size_t)len);
        mr_assert(peer_expect_puback(pub, i) == 0);
    }
}

static void take_all(struct peer *sub)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_publish got;
    struct mr_mqtt_why why;
    struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};

    for (uint16_t i = 1; i <= MESSAGES; i++) {
        mr_assert(peer_frame(sub, &frame) && frame.type == MR_MQTT_PUBLISH);
        mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
        mr_assert(got.payload.len == PAYLOAD && got.payload.at[0] == i);
        peer_ack(sub, got.packet_id);
    }
}

int main(void)
{
    struct kit kit;
    struct kit after;
    struct peer sub;
    struct peer pub;
    struct mr_thread *holder = NULL;
    struct mr_error why;
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 1};
    struct hold hold = {.kit = &kit};
    char sub_id[16];
    char pub_id[16];

    mr_assert(mr_wake_open(&hold.holds, &why) == MR_OK && mr_wake_open(&hold.over, &why) == MR_OK);
    kit_open(&kit, &(struct kit_options){
                       .lanes = 2, .memory_bytes = 8 << 20, .journal_bytes = 512 << 20});
    id_of(&kit, 1, sub_id);
    id_of(&kit, 0, pub_id);
    join(&sub, &kit, sub_id, false);
    mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
    peer_close(&sub);
    peer_join(&pub, &kit, pub_id, 5);
    mr_assert(mr_thread_start(&holder, "holder", hold_shard, &hold, &why) == MR_OK);
    mr_assert(mr_wake_wait(&hold.holds, KIT_PATIENCE_S * INT64_C(1000000000)));
    publish_all(&pub);
    picture(&kit, &after);
    mr_wake_ring(&hold.over);
    mr_thread_join(holder);
    mr_wake_close(&hold.holds);
    mr_wake_close(&hold.over);
    peer_close(&pub);
    kit_close(&kit);

    int64_t began_ns = mr_clock_mono_ns();
    kit_begin(&after);
    join(&sub, &after, sub_id, true);
    mr_assert(mr_clock_mono_ns() - began_ns < START_MAX_S * INT64_C(1000000000));
    take_all(&sub);
    peer_close(&sub);
    kit_close(&after);
    return 0;
}
