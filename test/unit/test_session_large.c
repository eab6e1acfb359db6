/* test_session_large.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   messages that are many times larger than what a socket takes come to a persistent session
 *         that reads late, all of them and in order; beyond `max_queued_bytes` the newest ones are
 *         dropped, and counted, as with `max_queued_messages`.  What no record of the journal can
 * hold is refused, and nobody has a part of it. Method: a subscriber that does not read, or is
 * away, while megabytes are published to it.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

enum { BYTES = 60000, MESSAGES = 200, BEYOND = 400 };

static struct kit kit;
static char payload[BYTES + 1];

static void publish(struct peer *pub, int number)
{
    static uint8_t bytes[BYTES + 64];

    (void)snprintf(payload, 8, "%06d", number);
    payload[6] = 'x';
    peer_write(pub, bytes, put_publish(bytes, sizeof(bytes), 5, "d", payload, 1, 1));
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

/* The number of the next one, which is more than `before`; -1: there is none. */
static int take(struct peer *sub, int before)
{
    const struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_publish got;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;

    mr_assert(peer_frame(sub, &frame));
    if (frame.type == MR_MQTT_PINGRESP) {
        return -1;
    }
    mr_assert(frame.type == MR_MQTT_PUBLISH);
    mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
    mr_assert(got.payload.len == BYTES && !got.dup);
    int number = (int)strtol((const char *)got.payload.at, NULL, 10);
    mr_assert(number > before && number < BEYOND);
    peer_ack(sub, got.packet_id);
    return number;
}

static void begin(struct peer *sub, struct peer *pub)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("d"), .qos = 1};

    memset(payload, 'x', BYTES);
    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 5});
    peer_join_kept(sub, &kit, false);
    mr_assert(peer_subscribe(sub, &wanted, 0) == 1);
    peer_join(pub, &kit, "pub", 5);
}

static void test_reads_late(void)
{
    struct peer sub;
    struct peer pub;

    begin(&sub, &pub);
    for (int i = 0; i < MESSAGES; i++) {
        publish(&pub, i);
    }
    for (int i = 0; i < MESSAGES; i++) {
        mr_assert(take(&sub, i - 1) == i);
    }
    peer_quiet(&sub);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

static void test_beyond_the_quota(void)
{
    struct peer sub;
    struct peer pub;
    uint8_t ping[2];
    int came = 0;

    begin(&sub, &pub);
    peer_close(&sub);
    int64_t before = mr_metric_get(kit.broker->shards[0]->metrics.dropped_slow);
    for (int i = 0; i < BEYOND; i++) {
        publish(&pub, i);
    }
    peer_join_kept(&sub, &kit, true);
    int64_t dropped = mr_metric_get(kit.broker->shards[0]->metrics.dropped_slow) - before;
    for (int number = -1; came < BEYOND - dropped; came++) {
        number = take(&sub, number);
        mr_assert(number >= 0);
    }
    (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
    peer_write(&sub, ping, sizeof(ping));
    mr_assert(take(&sub, 0) < 0);
    mr_assert((uint64_t)came * BYTES <= kit.limits.max_queued_bytes);
    mr_assert((uint64_t)(came + 2) * BYTES > kit.limits.max_queued_bytes);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* Larger than a record of the journal may be: 5.0 is told so, and nobody gets a part of it. */
static void test_larger_than_a_record(uint8_t version)
{
    enum { SEGMENT_BYTES = 64 << 10, LARGE = SEGMENT_BYTES / 2 };
    static char large[LARGE + 1];
    static uint8_t bytes[LARGE + 64];
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("t"), .qos = 1};
    struct mr_mqtt_publish got;
    struct peer sub;
    struct peer peer;

    memset(large, 'x', LARGE);
    kit_open(&kit, &(struct kit_options){.segment_bytes = SEGMENT_BYTES});
    peer_join(&sub, &kit, "sub", 5);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_join(&peer, &kit, "large", version);
    peer_write(&peer, bytes, put_publish(bytes, sizeof(bytes), version, "t", large, 1, 1));
    if (version == 5) {
        peer_expect_disconnect(&peer, MR_MQTT_PACKET_TOO_LARGE);
    } else {
        peer_expect_closed(&peer);
    }
    mr_assert(mr_lane_durable(kit.lane) == 0);
    peer_close(&peer);
    peer_join(&peer, &kit, "large", version);
    peer_publish(&peer, "t", "small", 1, 1);
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    peer_expect_publish(&sub, "t", "small", 1, &got);
    peer_close(&peer);
    peer_close(&sub);
    kit_close(&kit);
}

int main(void)
{
    mr_log_set_level(MR_LOG_ERROR);
    test_reads_late();
    test_beyond_the_quota();
    test_larger_than_a_record(4);
    test_larger_than_a_record(5);
    (void)puts("what had room came");
    return 0;
}
