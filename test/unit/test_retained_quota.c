/* test_retained_quota.c
 * links: broker net store journal codec config os base
 *
 * Goal:   `max_retained_messages` and `max_retained_bytes` never leave a subscriber with what was
 *         once true: a message that has no room takes the one it replaces with it, also after a
 *         crash and after a checkpoint; and a message whose life is over keeps no room, whatever
 * the clock was set to. Method: a real broker and journal, crashes by a copy of the disk
 * (broker_kit.h); the wall clock is ours to set.
 */
#include "broker_peer.h"

#include <sys/syscall.h>
#include <time.h>

enum { QUOTA = 4096, BIG = 1500 };

static char big[BIG + 1];

static _Atomic int64_t set_by_s; /* the wall clock */

int clock_gettime(clockid_t id, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, id, now);

    now->tv_sec += id == CLOCK_REALTIME ? atomic_load(&set_by_s) : 0;
    return failed;
}

/* With RETAIN and QoS 1, and its PUBACK; `life_s` 0: for ever. */
static void retain_for(struct peer *pub, const char *topic, const char *payload, uint8_t life_s)
{
    uint8_t life[] = {0x02, 0, 0, 0, life_s};
    uint8_t bytes[2048];
    struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                     .payload = mr_span_of(payload),
                                     .qos = 1,
                                     .packet_id = 1,
                                     .retain = true};
    if (life_s != 0) {
        packet.props_raw = mr_span_make(life, sizeof(life));
        packet.props.message_expiry_s = life_s;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_MESSAGE_EXPIRY);
    }
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, pub->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(pub, bytes, (size_t)len);
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

static void retain(struct peer *pub, const char *topic, const char *payload)
{
    retain_for(pub, topic, payload, 0);
}

/* What a new subscriber to `topic` is brought; NULL: nothing. */
static void expect_retained(struct kit *kit, const char *topic, const char *payload)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(topic), .qos = 1};
    struct mr_mqtt_publish got;
    struct peer sub;

    peer_join(&sub, kit, "late", 5);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    if (payload != NULL) {
        peer_expect_publish(&sub, topic, payload, 1, &got);
        mr_assert(got.retain);
    }
    peer_quiet(&sub);
    peer_close(&sub);
}

static void expect_count(const struct kit *kit, uint64_t count)
{
    struct mr_broker_stats stats;
    int64_t deadline = kit_deadline();

    do {
        (void)usleep(1000); /* sleep: until the shard's turn has counted */
        mr_broker_stats(kit->broker, &stats);
        kit_patience(deadline, "the count of retained messages");
    } while (stats.retained != count);
}

/* The newest has no room: nothing is retained, rather than what it replaces. */
static void test_nothing_stale(uint32_t checkpoint_ms)
{
    struct kit kit;
    struct peer pub;

    kit_open(&kit,
             &(struct kit_options){.max_retained_bytes = QUOTA, .checkpoint_ms = checkpoint_ms});
    peer_join(&pub, &kit, "pub", 5);
    retain(&pub, "valve", "open");
    retain(&pub, "fill/1", big);
    retain(&pub, "fill/2", big);
    expect_retained(&kit, "valve", "open");
    retain(&pub, "valve", big);
    expect_retained(&kit, "valve", NULL);
    expect_count(&kit, 2);
    peer_close(&pub);
    kit_crash(&kit);
    expect_count(&kit, 2);
    expect_retained(&kit, "valve", NULL);
    peer_join(&pub, &kit, "pub", 5);
    retain(&pub, "valve", "shut"); /* which has room */
    expect_retained(&kit, "valve", "shut");
    retain(&pub, "fill/1", "small"); /* an update needs no room but for what it is larger */
    expect_retained(&kit, "fill/1", "small");
    peer_close(&pub);
    kit_close(&kit);
}

/* What is over makes room, and a start gives it to the same ones again. */
static void test_over_makes_room(uint32_t checkpoint_ms)
{
    struct kit kit;
    struct peer pub;

    kit_open(&kit,
             &(struct kit_options){.max_retained_messages = 2, .checkpoint_ms = checkpoint_ms});
    peer_join(&pub, &kit, "pub", 5);
    retain_for(&pub, "weather/now", "rain", 1);
    retain(&pub, "valve", "open");
    retain(&pub, "late", "no room yet");
    expect_count(&kit, 1); /* its life is over */
    retain(&pub, "pump", "on");
    expect_count(&kit, 2);
    expect_retained(&kit, "pump", "on");
    peer_close(&pub);
    kit_crash(&kit);
    expect_count(&kit, 2);
    expect_retained(&kit, "valve", "open");
    expect_retained(&kit, "pump", "on");
    expect_retained(&kit, "weather/now", NULL);
    kit_close(&kit);
}

static void lane_stored(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    (void)lane;
    *(uint64_t *)arg = strcmp(name, "$sessions") == 0 ? seq : *(uint64_t *)arg;
}

/* Until the store of sessions has what is durable. */
static void expect_checkpoint(const struct kit *kit)
{
    int64_t deadline = kit_deadline();
    uint64_t seq = 0;

    do {
        (void)usleep(1000); /* sleep: until the store has written */
        mr_cursor_list(kit->journal, lane_stored, &seq);
        kit_patience(deadline, "a checkpoint");
    } while (seq < mr_lane_durable(kit->lane));
}

/* The clock was set back between what is over and what has its place.  A start knows that from the
 * checkpoint that the step brings on: without it, what is over had come later.
 */
static void test_over_before_the_clock_was_set_back(void)
{
    struct kit kit;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.max_retained_messages = 1, .checkpoint_ms = 100000});
    peer_join(&pub, &kit, "pub", 5);
    retain_for(&pub, "weather/now", "rain", 1);
    expect_count(&kit, 0);
    atomic_store(&set_by_s, -3600);
    retain(&pub, "valve", "open");
    expect_checkpoint(&kit);
    peer_close(&pub);
    kit_crash(&kit);
    expect_count(&kit, 1);
    expect_retained(&kit, "valve", "open");
    expect_retained(&kit, "weather/now", NULL);
    kit_close(&kit);
    atomic_store(&set_by_s, 0);
}

int main(void)
{
    memset(big, 'x', BIG);
    test_nothing_stale(1);
    test_nothing_stale(100000);
    test_over_makes_room(1);
    test_over_makes_room(100000);
    test_over_before_the_clock_was_set_back();
    return 0;
}
