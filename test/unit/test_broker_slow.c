/* test_broker_slow.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a subscriber that never reads slows nobody: not publishers, not other subscribers;
 *         what is kept for it is bounded and the rest is dropped and counted.
 * Method: the same traffic with and without such subscribers (QoS 0, 1, 2, with and without a
 *         session that stays), round trips of a publisher measured in both.
 */
#include "broker_peer.h"

enum { SLOW = 4, ROUNDS = 1500, PAYLOAD = 4096, QUEUED = 100 };

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void slow_join(struct peer *peer, struct kit *kit, int number)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("t"), .qos = (uint8_t)(number % 3)};
    struct mr_mqtt_connack connack;
    char id[24];

    (void)snprintf(id, sizeof(id), "slow-%d", number);
    peer_open(peer, kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id,
                                                   .version = 5,
                                                   .keep_session = number == 3,
                                                   .expiry_s = number == 3 ? 100 : 0});
    peer_expect_connack(peer, &connack);
    wanted.qos = number == 3 ? 1 : wanted.qos;
    mr_assert(peer_subscribe(peer, &wanted, 0) == wanted.qos);
}

/* 99 of 100 round trips of a publish, through the disk and to a subscriber that reads, took
 * at most so long.
 */
static int64_t traffic_p99(struct kit *kit)
{
    static int64_t took_ns[ROUNDS];
    static char payload[PAYLOAD + 1];
    static uint8_t bytes[PAYLOAD + 64];
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("t"), .qos = 0};
    struct mr_mqtt_publish got;
    struct peer pub;
    struct peer sub;

    memset(payload, 'p', PAYLOAD);
    peer_join(&pub, kit, "pub", 5);
    peer_join(&sub, kit, "sub", 5);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        uint16_t id = (uint16_t)(i + 1);
        int64_t began_ns = mr_clock_mono_ns();
        peer_write(&pub, bytes, put_publish(bytes, sizeof(bytes), 5, "t", payload, 1, id));
        mr_assert(peer_expect_puback(&pub, id) == 0);
        peer_expect_publish(&sub, "t", payload, 0, &got);
        took_ns[i] = mr_clock_mono_ns() - began_ns;
    }
    peer_close(&pub);
    peer_close(&sub);
    qsort(took_ns, ROUNDS, sizeof(took_ns[0]), compare);
    return took_ns[ROUNDS * 99 / 100];
}

/* What one that never reads makes us hold, here all that is retained and more than the
 * memory, takes nothing from what sessions that are away are owed.
 */
static void test_takes_nothing_from_sessions(void)
{
    enum { RETAINED = 1100, MESSAGES = 400 };
    const struct peer_connect how = {
        .client_id = "away", .version = 5, .keep_session = true, .expiry_s = 3600};
    static char payload[PAYLOAD + 1];
    static uint8_t bytes[PAYLOAD + 64];
    struct mr_mqtt_subscription all = {.filter = mr_span_of("r/#"), .qos = 0};
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("q"), .qos = 1};
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct mr_mqtt_frame frame;
    struct kit kit;
    struct peer pub;
    struct peer slow[SLOW];
    struct peer away;

    kit_open(&kit, &(struct kit_options){.memory_bytes = 4 << 20, .checkpoint_ms = 60000});
    peer_open(&away, &kit);
    peer_send_connect(&away, &how);
    peer_expect_connack(&away, &connack);
    mr_assert(peer_subscribe(&away, &wanted, 0) == 1);
    peer_close(&away);
    memset(payload, 'p', PAYLOAD);
    peer_join(&pub, &kit, "pub", 5);
    for (int i = 0; i < RETAINED; i++) {
        char topic[16];
        (void)snprintf(topic, sizeof(topic), "r/%d", i);
        struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                         .payload = mr_span_of(payload),
                                         .qos = 1,
                                         .packet_id = 1,
                                         .retain = true};
        ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
        mr_assert(len > 0);
        peer_write(&pub, bytes, (size_t)len);
        mr_assert(peer_expect_puback(&pub, 1) == 0);
    }
    for (int i = 0; i < SLOW; i++) { /* what the kernel takes is none of ours */
        char id[24];
        (void)snprintf(id, sizeof(id), "never-%d", i);
        peer_join(&slow[i], &kit, id, 5);
        peer_send_subscribe(&slow[i], &all, 0);
        mr_assert(peer_frame(&slow[i], &frame) && frame.type == MR_MQTT_SUBACK);
    }
    payload[1500] = '\0';
    for (int i = 0; i < MESSAGES; i++) {
        (void)snprintf(payload, 16, "%06d", i);
        payload[6] = 'p';
        peer_publish(&pub, "q", payload, 1, (uint16_t)(i + 1));
        mr_assert(peer_expect_puback(&pub, (uint16_t)(i + 1)) == 0);
    }
    kit_crash(&kit);
    peer_open(&away, &kit);
    peer_send_connect(&away, &how);
    peer_expect_connack(&away, &connack);
    for (int i = 0; i < MESSAGES; i++) {
        (void)snprintf(payload, 16, "%06d", i);
        payload[6] = 'p';
        peer_expect_publish(&away, "q", payload, 1, &got);
        peer_ack(&away, got.packet_id);
    }
    peer_close(&away);
    for (int i = 0; i < SLOW; i++) {
        peer_close(&slow[i]);
    }
    peer_close(&pub);
    kit_close(&kit);
}

int main(void)
{
    struct kit kit;
    struct peer slow[SLOW];
    struct mr_broker_stats stats;

    kit_open(&kit, &(struct kit_options){.memory_bytes = 16 << 20, .max_queued_messages = QUEUED});
    int64_t alone_ns = traffic_p99(&kit);
    for (int i = 0; i < SLOW; i++) {
        slow_join(&slow[i], &kit, i);
    }
    int64_t beside_ns = traffic_p99(&kit);
    mr_broker_stats(kit.broker, &stats);
    printf("p99 %lld us alone, %lld us beside %d that do not read; %llu dropped, %llu queued\n",
           (long long)(alone_ns / 1000), (long long)(beside_ns / 1000), SLOW,
           (unsigned long long)stats.messages_dropped, (unsigned long long)stats.queued);
    (void)fflush(stdout);
    /* A busy machine may be ten times slower in the second half; waiting for somebody who
     * never reads would be for ever.
     */
    mr_assert(beside_ns < alone_ns * 10 + 500000000);
    mr_assert(stats.messages_dropped > 0);
    mr_assert(stats.queued <= QUEUED + 1024 + 64); /* what waits, a window, what came since */
    for (int i = 0; i < SLOW; i++) {
        peer_close(&slow[i]);
    }
    kit_close(&kit);
    test_takes_nothing_from_sessions();
    printf("ok\n");
    return 0;
}
