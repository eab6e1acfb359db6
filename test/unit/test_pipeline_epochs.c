/* test_pipeline_epochs.c
 * links: pipeline journal codec config os base
 *
 * Goal:   after the number of lanes was changed nothing of an epoch is offered before
 *         everything of the one before it is settled, in every lane; whoever waits is
 *         woken; the lanes of a bridge have one journal of dead letters; and whoever is given
 *         back is rung no more.
 * Method: the bridges of all lanes, with their threads, and a sink that settles late.
 *         The sink counts what each epoch still has to settle, and looks at every submit.
 */
#include "base/log.h"
#include "journal_folder.h"
#include "os/clock.h"
#include "pipeline/bridge_internal.h"

enum { LANES_MAX = 4, HELD_MAX = 256, PER_LANE = 400, DESTS_MAX = 100 };

static struct mr_wake owner;

/* ---- the sink ---- */

static _Atomic uint64_t unsettled[8]; /* by epoch */
static _Atomic uint64_t settled_count;
static _Atomic bool held; /* nothing is settled */

struct late {
    struct mr_sink_port *port;
    const struct mr_batch *batches[HELD_MAX];
    uint32_t count;
    uint32_t ticks;
};

static enum mr_err late_init(void *state, const void *conf, struct mr_sink_port *port,
                             struct mr_error *why)
{
    (void)conf;
    (void)why;
    ((struct late *)state)->port = port;
    return MR_OK;
}

static enum mr_err late_open(void *state, struct mr_error *why)
{
    (void)why;
    mr_sink_up(((struct late *)state)->port);
    return MR_OK;
}

static enum mr_err late_submit(void *state, const struct mr_batch *batch)
{
    struct late *late = state;

    for (uint32_t epoch = 1; epoch < batch->epoch; epoch++) {
        mr_assert(atomic_load(&unsettled[epoch]) == 0); /* the promise */
    }
    if (late->count == HELD_MAX) {
        return MR_ERR_FULL;
    }
    late->batches[late->count++] = batch;
    return MR_OK;
}

/* Settles the newest first, a few at every third tick. */
static void late_tick(void *state, int64_t now_ns)
{
    struct late *late = state;

    (void)now_ns;
    if (atomic_load(&held) || late->count == 0) {
        return;
    }
    late->ticks += 1;
    if (late->ticks % 3 == 0) {
        const struct mr_batch *batch = late->batches[--late->count];
        uint32_t records = batch->record_count;
        uint32_t epoch = batch->epoch;
        mr_sink_settle(late->port, batch->token, records, MR_VERDICT_DONE, NULL);
        atomic_fetch_add(&settled_count, records);
        atomic_fetch_sub(&unsettled[epoch], records);
    }
    mr_sink_wake(late->port);
}

static void late_close(void *state, int64_t patience_ns)
{
    struct late *late = state;

    (void)patience_ns;
    while (late->count > 0) {
        const struct mr_batch *batch = late->batches[--late->count];
        mr_sink_settle(late->port, batch->token, batch->record_count, MR_VERDICT_RETRY, NULL);
    }
}

enum { LEAVING = 1 };             /* the lane of the one that is given back */
static struct mr_bridge *ringing; /* it runs on, and rings the others, while one is given back */
static uint32_t given_back;

static void late_fini(void *state)
{
    (void)state;
    given_back += 1;
    if (ringing != NULL) {
        mr_assert(ringing->options.group->members[LEAVING] == NULL);
        mr_group_settled(ringing);
    }
}

static void late_shape(const void *conf, struct mr_shape *out)
{
    (void)conf;
    *out = (struct mr_shape){.dest_template = "t_${topic[1]}",
                             .dest_option = "topic",
                             .key_option = "key",
                             .dests_max = DESTS_MAX};
}

static const struct mr_sink_ops late_sink = {
    .name = "late",
    .state_size = sizeof(struct late),
    .conf_size = 1,
    .shape = late_shape,
    .init = late_init,
    .open = late_open,
    .submit = late_submit,
    .tick = late_tick,
    .close = late_close,
    .fini = late_fini,
};

/* ---- the journal ---- */

static struct mr_journal *journal_open(uint32_t lanes)
{
    return folder_journal(&(struct mr_journal_options){.lane_count = lanes,
                                                       .max_bytes = 64 << 20,
                                                       .segment_bytes = 256 << 10,
                                                       .block_bytes = 64 << 10,
                                                       .block_count = 12,
                                                       .record_bytes_max = 32 << 10});
}

static void append_one(struct mr_lane *lane, const char *topic)
{
    struct mr_appended out = {.seq = 0};
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .received_us = 1700000000000000,
                                   .client = mr_span_of("device"),
                                   .topic = mr_span_of(topic),
                                   .payload = mr_span_of("x")};

    mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK);
    if (out.seq % 50 == 0) {
        mr_lane_submit(lane, mr_clock_mono_ns());
    }
}

/* All `count` that were appended become durable; the lane is nobody's again. */
static void append_end(struct mr_lane *lane, uint64_t count)
{
    while (mr_lane_durable(lane) < count) {
        mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
    }
    mr_lane_release(lane, count);
    mr_lane_set_owner(lane, NULL);
}

/* PER_LANE events in each lane; of every lane the first `dead` have no destination. */
static void append(struct mr_journal *journal, int dead)
{
    uint32_t epoch = mr_journal_epoch(journal);

    for (uint32_t i = 0; i < mr_journal_lane_count(journal); i++) {
        struct mr_lane *lane = mr_journal_lane(journal, i);
        uint64_t before = mr_lane_durable(lane);

        mr_lane_set_owner(lane, &owner);
        for (int n = 0; n < PER_LANE; n++) {
            append_one(lane, n < dead ? "a" : "a/b");
        }
        append_end(lane, before + PER_LANE);
        atomic_fetch_add(&unsettled[epoch], PER_LANE - (uint64_t)dead);
    }
}

/* ---- the bridges of all lanes ---- */

static struct mr_bridge_conf bridge_conf = {
    .inflight_records = 1000, .retry_min_us = 1000, .retry_max_us = 4000};

struct bridges {
    struct mr_bridge_group *group;
    struct mr_bridge *of_lane[LANES_MAX];
    uint32_t count;
};

static void bridges_start(struct bridges *bridges, struct mr_journal *journal)
{
    struct mr_error why = {.text = ""};

    *bridges = (struct bridges){.group = NULL};
    mr_assert(mr_bridge_group_open(&bridges->group, journal, "test", &bridge_conf, &why) == MR_OK);
    /* The newest lanes first: they have to wait for the others. */
    for (uint32_t lane = mr_journal_lane_total(journal); lane-- > 0;) {
        if (!mr_bridge_group_needs(bridges->group, lane)) {
            continue;
        }
        struct mr_bridge_options_run options = {.group = bridges->group,
                                                .name = "test",
                                                .journal = journal,
                                                .lane = lane,
                                                .conf = &bridge_conf,
                                                .sink = &late_sink,
                                                .sink_conf = "",
                                                .dead_letters_path = dead_path,
                                                .dead_letters_bytes_max = 16 << 20,
                                                .record_bytes_max = 32 << 10};
        struct mr_bridge *bridge = NULL;
        if (mr_bridge_create(&bridge, &options, &why) != MR_OK) {
            fprintf(stderr, "%s\n", why.text);
            abort();
        }
        mr_assert(mr_bridge_start(bridge, &why) == MR_OK);
        bridges->of_lane[bridges->count++] = bridge;
    }
}

static void bridges_stop(struct bridges *bridges)
{
    for (uint32_t i = 0; i < bridges->count; i++) {
        mr_bridge_stop_begin(bridges->of_lane[i], 0);
    }
    for (uint32_t i = 0; i < bridges->count; i++) {
        mr_bridge_stop(bridges->of_lane[i], 0);
        mr_bridge_destroy(bridges->of_lane[i]);
    }
    mr_bridge_group_close(bridges->group);
}

static void wait_settled(struct bridges *bridges)
{
    int64_t until_ns = mr_clock_mono_ns() + 60000000000;

    for (uint32_t i = 0; i < bridges->count; i++) {
        struct mr_bridge_stats stats;
        do {
            (void)usleep(1000); /* sleep: other threads settle */
            mr_bridge_stats(bridges->of_lane[i], &stats);
            mr_assert(mr_clock_mono_ns() < until_ns);
        } while (stats.cursor_seq < stats.durable_seq);
    }
}

static void begin(void)
{
    folder_make();
    for (size_t i = 0; i < MR_COUNT_OF(unsettled); i++) {
        atomic_store(&unsettled[i], 0);
    }
    atomic_store(&settled_count, 0);
}

/* ---- the tests ---- */

/* Lanes 1, 3, 2 and 4, all undelivered when the bridges begin. */
static void test_an_epoch_is_settled_before_the_next_begins(void)
{
    static const uint32_t counts[] = {1, 3, 2, 4};
    struct mr_journal *journal = NULL;
    struct bridges bridges;
    uint64_t all = 0;

    begin();
    for (size_t i = 0; i < MR_COUNT_OF(counts); i++) {
        journal = journal_open(counts[i]);
        append(journal, 0);
        all += (uint64_t)counts[i] * PER_LANE;
        if (i + 1 < MR_COUNT_OF(counts)) {
            mr_assert(mr_journal_close(journal) == MR_OK);
        }
    }
    bridges_start(&bridges, journal);
    mr_assert(bridges.count == 4);
    wait_settled(&bridges);
    mr_assert(atomic_load(&settled_count) == all);
    bridges_stop(&bridges);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open(1); /* what is settled needs no bridge any more */
    bridges_start(&bridges, journal);
    mr_assert(bridges.count == 1);
    bridges_stop(&bridges);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

/* A target that takes nothing of one lane holds the next epoch, also over a restart. */
static void test_the_next_epoch_waits_for_a_slow_lane(void)
{
    struct bridges bridges;

    begin();
    struct mr_journal *journal = journal_open(2);
    append(journal, 0);
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open(1);
    append(journal, 0);
    atomic_store(&held, true);
    bridges_start(&bridges, journal);
    mr_assert(bridges.count == 2);
    bridges_stop(&bridges);
    mr_assert(atomic_load(&settled_count) == 0);
    atomic_store(&held, false);
    bridges_start(&bridges, journal);
    wait_settled(&bridges);
    mr_assert(atomic_load(&settled_count) == 3 * PER_LANE);
    bridges_stop(&bridges);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

/* Every lane has dead letters: all of them are in one place, with their lane. */
static void test_lanes_share_the_dead_letters(void)
{
    enum { DEAD = 37 };
    struct mr_journal_options options = {.path = dead_path, .name = "dead", .read_only = true};
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct bridges bridges;
    uint32_t of_lane[3] = {0, 0, 0};

    begin();
    struct mr_journal *journal = journal_open(3);
    append(journal, DEAD);
    bridges_start(&bridges, journal);
    wait_settled(&bridges);
    bridges_stop(&bridges);
    mr_assert(mr_journal_close(journal) == MR_OK);

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        struct mr_event event;
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.type == MR_RECORD_DEAD_LETTER && event.raw.dead_lane < 3);
            of_lane[event.raw.dead_lane] += 1;
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(of_lane[0] == DEAD && of_lane[1] == DEAD && of_lane[2] == DEAD);
    folder_remove();
}

/* `dests_max` bounds the destinations of the bridge, not those of each lane. */
static void test_lanes_share_the_bound_of_destinations(void)
{
    enum { LANES = 3, NAMES = DESTS_MAX };
    struct bridges bridges;
    uint64_t dead = 0;

    begin();
    struct mr_journal *journal = journal_open(LANES);
    for (uint32_t i = 0; i < LANES; i++) {
        struct mr_lane *lane = mr_journal_lane(journal, i);
        mr_lane_set_owner(lane, &owner);
        for (uint32_t n = 0; n < NAMES; n++) {
            char topic[32]; /* each lane has names of its own, and one that all have */
            snprintf(topic, sizeof(topic), "a/%u-%u", n == 0 ? 9 : i, n);
            append_one(lane, topic);
        }
        append_end(lane, NAMES);
    }
    atomic_fetch_add(&unsettled[1], DESTS_MAX + LANES - 1);
    bridges_start(&bridges, journal);
    wait_settled(&bridges);
    for (uint32_t i = 0; i < bridges.count; i++) {
        struct mr_bridge_stats stats;
        mr_bridge_stats(bridges.of_lane[i], &stats);
        dead += stats.dead_letters;
    }
    bridges_stop(&bridges);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
    printf("destinations: %llu events, %llu dead letters\n",
           (unsigned long long)atomic_load(&settled_count), (unsigned long long)dead);
    mr_assert(dead == LANES * (NAMES - 1) + 1 - DESTS_MAX);
    mr_assert(atomic_load(&settled_count) == DESTS_MAX + LANES - 1);
}

/* Neither it nor its second worker is rung when they are given back (AddressSanitizer sees it). */
static void test_nobody_rings_who_is_given_back(void)
{
    struct bridges bridges;

    begin();
    bridge_conf.drain = MR_DRAIN_LIVE_FIRST;
    struct mr_journal *journal = journal_open(2);
    bridges_start(&bridges, journal);
    mr_assert(bridges.count == 2 && bridges.of_lane[0]->options.lane == LEAVING &&
              bridges.of_lane[0]->live.worker != NULL);
    for (uint32_t i = 0; i < bridges.count; i++) {
        mr_bridge_stop(bridges.of_lane[i], 0);
    }
    given_back = 0;
    ringing = bridges.of_lane[1];
    mr_bridge_destroy(bridges.of_lane[0]);
    ringing = NULL;
    mr_assert(given_back == 2);
    mr_bridge_destroy(bridges.of_lane[1]);
    mr_bridge_group_close(bridges.group);
    bridge_conf.drain = MR_DRAIN_ORDERED;
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

int main(void)
{
    mr_assert(mr_wake_open(&owner, NULL) == MR_OK);
    test_an_epoch_is_settled_before_the_next_begins();
    test_the_next_epoch_waits_for_a_slow_lane();
    test_lanes_share_the_dead_letters();
    test_lanes_share_the_bound_of_destinations();
    test_nobody_rings_who_is_given_back();
    mr_wake_close(&owner);
    printf("ok\n");
    return 0;
}
