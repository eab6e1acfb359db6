/* test_retained_lanes.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what a shard makes of the retained messages of other lanes: of one lane the later record
 *         counts, whatever the clock was set to between the two, also behind a clear; of two lanes
 *         the one that was received later, in whatever order they are read.  And that nothing is
 *         older for its expiry than it is.
 * Method: a bare shard is given the events, as it reads them, with the times that their shards gave
 *         them (retained_time()).
 */
#include "broker/foreign_internal.h"
#include "broker/retained_internal.h"

static const int64_t noon_us = INT64_C(1767268800000000) / SHARDS_MAX * SHARDS_MAX;
static const int64_t hour_us = INT64_C(3600000000);

enum { HERE = 2, SHARDS = 3 };

static struct mr_shard *shard_make(void)
{
    struct mr_shard *shard = mr_alloc(sizeof(*shard));

    shard->key = (struct mr_hash_key){.k0 = 1, .k1 = 2};
    shard->index = HERE;
    shard->limits.max_retained_messages = 100;
    shard->limits.max_retained_bytes = 1 << 20;
    shard->foreign = mr_alloc(SHARDS * sizeof(*shard->foreign));
    shard->broker = mr_alloc(sizeof(*shard->broker));
    shard->broker->shard_count = SHARDS;
    shard->broker->cleared_mark = cleared_mark_new();
    mr_bufpool_init(&shard->pool, 8 << 20, 0);
    return shard;
}

static void shard_end(struct mr_shard *shard)
{
    retained_close(shard);
    mr_assert(shard->pool.lent_bytes == 0);
    mr_bufpool_fini(&shard->pool);
    mr_free(shard->foreign);
    cleared_mark_free(shard->broker->cleared_mark);
    mr_free(shard->broker);
    mr_free(shard);
}

/* The record of `lane` is read: its topic is set, or cleared. */
static void read_event(struct mr_shard *shard, uint32_t lane, int64_t at_us, const char *payload)
{
    static uint64_t seq = 0;
    struct kept *kept = NULL;
    struct mr_message message = {.topic = mr_span_of("state"),
                                 .payload = mr_span_of(payload),
                                 .received_us = at_us + lane,
                                 .qos = 1,
                                 .retain = true};

    seq += 1;
    retained_apply(shard, &message, &kept, HERE, seq, RETAINED_FOREIGN);
    if (kept != NULL) {
        kept_unref(shard, kept);
    }
}

/* Another topic takes the last place, or gives it back. */
static void read_other(struct mr_shard *shard, int64_t at_us, const char *payload)
{
    struct kept *kept = NULL;
    struct mr_message message = {.topic = mr_span_of("other"),
                                 .payload = mr_span_of(payload),
                                 .received_us = at_us,
                                 .qos = 1,
                                 .retain = true};

    retained_apply(shard, &message, &kept, HERE, UINT64_C(1) << 40, RETAINED_FOREIGN);
    if (kept != NULL) {
        kept_unref(shard, kept);
    }
}

/* When what is retained was received; 0: nothing is. */
static void retained_look(void *arg, struct kept *kept)
{
    *(int64_t *)arg = kept->received_us;
}

static int64_t retained_us(struct mr_shard *shard)
{
    int64_t at_us = 0;

    retained_each(shard, retained_look, &at_us);
    return at_us;
}

/* The shard that it came in at had forgotten the clear, and this one had not yet. */
static void test_clock_set_back(void)
{
    struct mr_shard *shard = shard_make();

    read_event(shard, 0, noon_us, "on");
    read_event(shard, 0, noon_us + SHARDS_MAX, "");
    mr_assert(retained_us(shard) == 0);
    read_event(shard, 0, noon_us - hour_us, "off");
    mr_assert(retained_us(shard) == noon_us - hour_us);
    read_event(shard, 0, noon_us - 2 * hour_us, "");
    mr_assert(retained_us(shard) == 0);
    read_event(shard, 0, noon_us - 3 * hour_us, "on");
    mr_assert(retained_us(shard) == noon_us - 3 * hour_us);
    shard_end(shard);
}

static void test_two_lanes(void)
{
    struct mr_shard *shard = shard_make();

    read_event(shard, 1, noon_us, ""); /* which of the two is read first does not matter */
    read_event(shard, 0, noon_us - SHARDS_MAX, "on");
    mr_assert(retained_us(shard) == 0);
    read_event(shard, 0, noon_us + SHARDS_MAX, "off");
    mr_assert(retained_us(shard) == noon_us + SHARDS_MAX);
    read_event(shard, 1, noon_us, "on");
    mr_assert(retained_us(shard) == noon_us + SHARDS_MAX);
    read_event(shard, 1, noon_us + 2 * SHARDS_MAX, "");
    mr_assert(retained_us(shard) == 0);
    shard_end(shard);
}

/* There was no room for the later one, and there is when the earlier one is read. */
static void test_refused(void)
{
    struct mr_shard *shard = shard_make();

    shard->limits.max_retained_messages = 1;
    shard->metrics.dropped_retained =
        mr_metric_new(MR_METRIC_COUNTER, "millrace_test_total", "of a test", "");
    read_other(shard, noon_us - hour_us, "there");
    read_event(shard, 1, noon_us, "off");
    read_other(shard, noon_us - hour_us, "");
    read_event(shard, 0, noon_us - SHARDS_MAX, "on");
    mr_assert(retained_us(shard) == 0);
    read_event(shard, 0, noon_us + SHARDS_MAX, "on");
    mr_assert(retained_us(shard) == noon_us + SHARDS_MAX);
    shard_end(shard);
}

/* The clock was set back by an hour, which this shard, asleep, saw five seconds after another one
 * had received a message.
 */
static void test_step_seen_late(void)
{
    struct mr_shard *shard = shard_make();
    const int64_t second_us = 1000000;

    shard->steps[1] =
        (struct clock_step){.before_us = noon_us - hour_us, .after_us = noon_us - hour_us};
    shard->steps[0] = (struct clock_step){.before_us = noon_us + 7 * second_us,
                                          .after_us = noon_us - hour_us + 7 * second_us};
    shard->wall_us = noon_us - hour_us + 8 * second_us;
    mr_assert(shard_waited_us(shard, noon_us - hour_us + 2 * second_us) == 6 * second_us);
    mr_assert(shard_waited_us(shard, noon_us + 7 * second_us) == second_us);
    shard_end(shard);
}

/* The store has both clears of the topic still, in the order of their records. */
static void test_restart(void)
{
    struct mr_shard *shard = shard_make();

    retained_restore_cleared(shard, mr_span_of("state"), noon_us, 10);
    retained_restore_cleared(shard, mr_span_of("state"), noon_us - hour_us, 20);
    read_event(shard, 1, noon_us - hour_us - SHARDS_MAX, "on");
    mr_assert(retained_us(shard) == 0);
    read_event(shard, 1, noon_us - hour_us, "on");
    mr_assert(retained_us(shard) == noon_us - hour_us + 1);
    shard_end(shard);
}

/* The shard at which it is set again has forgotten the clear, from a third lane, and then the
 * clock was set back; this one remembers it.
 */
static void test_forgotten_elsewhere(void)
{
    struct mr_shard *shard = shard_make();
    struct mr_shard *other = shard_make();
    struct mr_broker *own = other->broker;

    other->broker = shard->broker;
    other->index = 1;
    read_event(shard, 0, noon_us, "");
    read_event(other, 0, noon_us, "");
    cleared_close(other);
    other->wall_us = noon_us - hour_us;
    int64_t at_us = retained_time(other, mr_span_of("state"));
    mr_assert(at_us % SHARDS_MAX == 1);
    read_event(shard, 1, at_us - 1, "on");
    mr_assert(retained_us(shard) == at_us);

    /* Nobody remembers anything any more: it has the time of now. */
    cleared_close(shard);
    for (uint32_t i = 0; i < SHARDS; i++) {
        mr_assert(retained_time(other, mr_span_of("state")) == at_us);
        shard->index = i;
        shard->now_ns = 1;
        cleared_mark_settled(shard);
    }
    mr_assert(retained_time(other, mr_span_of("state")) == noon_us - hour_us + 1);
    other->broker = own;
    shard_end(other);
    shard_end(shard);
}

/* Its time, which is rounded to what is of its lane alone, may be a little ahead of the clock. */
static void test_no_age_at_once(void)
{
    struct mr_shard *shard = shard_make();

    shard->wall_us = noon_us;
    shard->steps[0] =
        (struct clock_step){.before_us = noon_us - hour_us, .after_us = noon_us - hour_us};
    int64_t at_us = retained_time(shard, mr_span_of("state"));
    mr_assert(at_us == noon_us + HERE);
    mr_assert(shard_waited_us(shard, at_us) == 0);
    shard_end(shard);
}

/* It was set a minute ago, then the clock was set back by an hour, and it is set again. */
static void test_life(void)
{
    struct mr_shard *shard = shard_make();
    struct mr_message message = {.retain = true};
    struct mr_mqtt_props props = {.message_expiry_s = 60};

    mr_mqtt_set(&props, MR_MQTT_PROP_MESSAGE_EXPIRY);
    shard->steps[1] =
        (struct clock_step){.before_us = noon_us - 2 * hour_us, .after_us = noon_us - 2 * hour_us};
    shard->steps[0] = (struct clock_step){.before_us = noon_us, .after_us = noon_us - hour_us};
    shard->wall_us = noon_us - hour_us;
    read_event(shard, 0, noon_us - INT64_C(60000000) / SHARDS_MAX * SHARDS_MAX, "on");
    message.received_us = retained_time(shard, mr_span_of("state"));
    mr_assert(retained_lengthen(shard, &message, &props));
    mr_assert(props.message_expiry_s == 120);
    mr_assert(shard_waited_us(shard, message.received_us) / 1000000 == 59);
    props.message_expiry_s = UINT32_MAX - 1;
    mr_assert(retained_lengthen(shard, &message, &props));
    mr_assert(props.message_expiry_s == UINT32_MAX);
    shard_end(shard);
}

int main(void)
{
    test_forgotten_elsewhere();
    test_no_age_at_once();
    test_life();
    test_clock_set_back();
    test_restart();
    test_two_lanes();
    test_refused();
    test_step_seen_late();
    return 0;
}
