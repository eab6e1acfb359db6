/* test_session_room.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what a session is asked to remember while the journal has no room waits, unanswered, and
 * is done as soon as there is some: PUBREC, PUBREL, SUBSCRIBE, UNSUBSCRIBE, the end of a
 *         connection.  Whoever was answered then finds it so behind a crash.
 * Method: a cursor that stands still fills a small journal to the brim; each packet comes from a
 *         client of its own, so that none waits behind another.
 */
#include "broker_peer.h"
#include "journal/cursor.h"

enum {
    BIG = 1500,
    BIG_COUNT = 500,
    SMALL_COUNT = 400,
    EXCHANGE = 9,
    EXPIRY_S = 600,
    BRIM_NS = 700000000
};

static struct kit kit;
static struct mr_cursor *cursor; /* holds the journal */

static bool join(struct peer *peer, const char *id)
{
    return peer_join_as(
        peer, &kit,
        &(struct peer_connect){
            .client_id = id, .version = 5, .keep_session = true, .expiry_s = EXPIRY_S});
}

static void send_subscribe(struct peer *peer, const char *filter)
{
    peer_send_subscribe(peer,
                        &(struct mr_mqtt_subscription){.filter = mr_span_of(filter), .qos = 2}, 0);
}

static void expect(struct peer *peer, uint8_t type)
{
    struct mr_mqtt_frame frame;

    mr_assert(peer_frame(peer, &frame) && frame.type == type);
}

static void send_unsubscribe(struct peer *peer, const char *filter)
{
    uint8_t filters[64];
    uint8_t bytes[128];
    ptrdiff_t len = mr_mqtt_unsubscription_put(mr_span_of(filter), filters, sizeof(filters));
    struct mr_mqtt_subscribe packet = {.packet_id = 3, .raw = mr_span_make(filters, (size_t)len)};

    len = mr_mqtt_unsubscribe_encode(&packet, 5, bytes, sizeof(bytes));
    peer_write(peer, bytes, (size_t)len);
}

static void join_and_subscribe(struct peer *peer, const char *id, const char *filter)
{
    mr_assert(!join(peer, id));
    send_subscribe(peer, filter);
    expect(peer, MR_MQTT_SUBACK);
}

static void publish(struct peer *pub, const char *topic)
{
    static uint16_t id;

    id += 1;
    peer_publish(pub, topic, "m", 1, id);
    mr_assert(peer_expect_puback(pub, id) == 0);
}

static uint64_t paused_now(void)
{
    struct mr_broker_stats stats;

    mr_broker_stats(kit.broker, &stats);
    return stats.connections_paused;
}

/* Large ones as long as there is room, and then small ones. */
static void fill(struct peer *large, struct peer *small)
{
    static char payload[BIG + 1];
    int64_t deadline = kit_deadline();

    memset(payload, 'x', BIG);
    peer_join(large, &kit, "large", 4);
    peer_join(small, &kit, "small", 4);
    for (uint16_t i = 1; i <= BIG_COUNT; i++) {
        peer_publish(large, "fill", payload, 1, i);
    }
    while (paused_now() == 0 || mr_lane_state(kit.lane) != MR_LANE_FULL) {
        peer_receive(large, 10000000);
        kit_patience(deadline, "the journal to be full");
    }
    for (uint16_t i = 1; i <= SMALL_COUNT; i++) {
        peer_publish(small, "fill", "", 1, i);
    }
    int64_t until = mr_clock_mono_ns() + BRIM_NS; /* some ticks, each of which tries again */
    while (mr_clock_mono_ns() < until) {
        size_t before = small->end;
        peer_receive(small, 10000000);
        until = small->end == before ? until : mr_clock_mono_ns() + BRIM_NS;
        kit_patience(deadline, "the journal to be full to the brim");
    }
    mr_assert(paused_now() == 2);
}

static void drain(struct peer *large, struct peer *small)
{
    int64_t deadline = kit_deadline();

    for (uint16_t large_acked = 0, small_acked = 0;
         large_acked < BIG_COUNT || small_acked < SMALL_COUNT;) {
        mr_cursor_set(cursor, mr_lane_durable(kit.lane));
        peer_receive(large, 1000000);
        peer_receive(small, 1000000);
        while (large->end - large->begin >= 4) {
            large_acked += 1;
            mr_assert(peer_expect_puback(large, large_acked) == 0);
        }
        while (small->end - small->begin >= 4) {
            small_acked += 1;
            mr_assert(peer_expect_puback(small, small_acked) == 0);
        }
        kit_patience(deadline, "the publishers to go on");
    }
    peer_close(large);
    peer_close(small);
}

static void expect_nothing(struct peer *peer)
{
    peer_receive(peer, 50000000);
    mr_assert(peer->begin == peer->end);
}

static struct {
    struct peer pub;
    struct peer releases;
    struct peer records;
    struct peer subscribes;
    struct peer unsubscribes;
    struct peer leaves;
    uint16_t delivered;
} all;

static void begin(void)
{
    struct mr_mqtt_publish got;
    bool is_new;

    kit_open(&kit, &(struct kit_options){.journal_bytes = 512 << 10,
                                         .segment_bytes = 128 << 10,
                                         .checkpoint_ms = 60000});
    mr_assert(mr_cursor_open(kit.journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    peer_join(&all.pub, &kit, "pub", 5);
    mr_assert(!join(&all.releases, "releases"));
    peer_publish(&all.releases, "x", "first", 2, EXCHANGE);
    mr_assert(peer_expect_ack(&all.releases, MR_MQTT_PUBREC, EXCHANGE) == 0);
    mr_assert(!join(&all.records, "records"));
    send_subscribe(&all.records, "r");
    expect(&all.records, MR_MQTT_SUBACK);
    peer_publish(&all.pub, "r", "m", 2, 1);
    mr_assert(peer_expect_ack(&all.pub, MR_MQTT_PUBREC, 1) == 0);
    peer_send_ack(&all.pub, MR_MQTT_PUBREL, 1);
    mr_assert(peer_expect_ack(&all.pub, MR_MQTT_PUBCOMP, 1) == 0);
    peer_expect_publish(&all.records, "r", "m", 2, &got);
    all.delivered = got.packet_id;
    mr_assert(!join(&all.subscribes, "subscribes"));
    join_and_subscribe(&all.unsubscribes, "unsubscribes", "u");
    join_and_subscribe(&all.leaves, "leaves", "l");
}

static void ask_without_room(void)
{
    peer_send_ack(&all.releases, MR_MQTT_PUBREL, EXCHANGE);
    peer_send_ack(&all.records, MR_MQTT_PUBREC, all.delivered);
    send_subscribe(&all.subscribes, "s");
    send_unsubscribe(&all.unsubscribes, "u");
    peer_close(&all.leaves);
    expect_nothing(&all.releases);
    expect_nothing(&all.records);
    expect_nothing(&all.subscribes);
    expect_nothing(&all.unsubscribes);
}

static void be_answered(void)
{
    mr_assert(peer_expect_ack(&all.releases, MR_MQTT_PUBCOMP, EXCHANGE) == 0);
    mr_assert(peer_expect_ack(&all.records, MR_MQTT_PUBREL, all.delivered) == 0);
    expect(&all.subscribes, MR_MQTT_SUBACK);
    expect(&all.unsubscribes, MR_MQTT_UNSUBACK);
}

/* Each session is as its client was told; the one that only left is there. */
static void look_behind_a_crash(void)
{
    struct mr_mqtt_publish got;

    kit_crash(&kit);
    peer_close(&all.pub);
    peer_close(&all.releases);
    peer_close(&all.records);
    peer_close(&all.subscribes);
    peer_close(&all.unsubscribes);
    peer_join(&all.pub, &kit, "pub", 5);
    mr_assert(join(&all.records, "records"));
    mr_assert(peer_expect_ack(&all.records, MR_MQTT_PUBREL, all.delivered) == 0);
    mr_assert(join(&all.subscribes, "subscribes") && join(&all.unsubscribes, "unsubscribes"));
    mr_assert(join(&all.leaves, "leaves") && join(&all.releases, "releases"));
    uint64_t before = mr_lane_durable(kit.lane);
    peer_publish(&all.releases, "x", "second", 2, EXCHANGE); /* the id is free: a new message */
    mr_assert(peer_expect_ack(&all.releases, MR_MQTT_PUBREC, EXCHANGE) == 0);
    mr_assert(mr_lane_durable(kit.lane) > before);
    publish(&all.pub, "s");
    publish(&all.pub, "u");
    publish(&all.pub, "l");
    peer_expect_publish(&all.subscribes, "s", "m", 1, &got);
    peer_expect_publish(&all.leaves, "l", "m", 1, &got);
    peer_quiet(&all.unsubscribes);
    peer_quiet(&all.records);
}

static void end(void)
{
    peer_close(&all.pub);
    peer_close(&all.releases);
    peer_close(&all.records);
    peer_close(&all.subscribes);
    peer_close(&all.unsubscribes);
    peer_close(&all.leaves);
    kit_close(&kit);
}

int main(void)
{
    struct peer large;
    struct peer small;

    begin();
    fill(&large, &small);
    ask_without_room();
    drain(&large, &small);
    be_answered();
    look_behind_a_crash();
    end();
    printf("ok\n");
    return 0;
}
