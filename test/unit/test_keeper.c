/* test_keeper.c
 * links: journal os_sim base
 *
 * Goal:   what the keeper does when a commit finds no room on the disk, and what it tells: with
 *         `drop_oldest` one segment goes, what nobody needs first, and a second later another one;
 *         else nothing goes.  Before the journal is full it says when that will be and what comes
 *         then, and when it is over.  When the cursors cannot be written every lane has failed.
 *         A file over which a lane fails counts on, as the next start may find it.
 * Method: the simulated disk and its clock, stepped by hand; the lines of the log are read.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/drops.h"
#include "journal/journal.h"
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 64 << 10, PAYLOAD = 4000, LANES = 2 };

static const int64_t second_ns = 1000000000;

static struct mr_journal *journal;
static struct mr_lane *lane;
static struct mr_cursor *bridge;

static void open_journal(enum mr_when_full when_full, uint64_t keep_us)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "keeper",
                                               .lane_count = LANES,
                                               .max_bytes = LANES * 8 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16384,
                                               .block_count = 12,
                                               .record_bytes_max = 8000,
                                               .keep_us = keep_us,
                                               .when_full = when_full,
                                               .manual = true};
    bool is_new;

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    lane = mr_journal_lane(journal, 0);
    mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &bridge, &is_new, NULL) ==
              MR_OK);
    mr_cursors_rank(journal, "bridge", &(struct mr_cursor_rank){.priority = 1, .may_drop = true});
    mr_drops_arm(journal);
}

static void start(enum mr_when_full when_full, uint64_t keep_us)
{
    mr_sim_start(1);
    open_journal(when_full, keep_us);
}

static void stop(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

static void append(uint64_t count)
{
    static uint8_t payload[PAYLOAD];
    static int64_t now_ns;
    struct mr_appended out;

    for (uint64_t i = 0; i < count; i++) {
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of("c"),
                                       .topic = mr_span_of("t"),
                                       .payload = mr_span_make(payload, PAYLOAD)};
        mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK);
        now_ns += second_ns;
        (void)mr_lane_submit(lane, now_ns);
        mr_assert(mr_lane_step_commit(lane));
        mr_lane_release(lane, mr_lane_durable(lane));
        mr_journal_step_keeper(journal);
    }
}

static struct mr_lane_stats stats(void)
{
    struct mr_lane_stats out;

    mr_lane_stats(lane, &out);
    return out;
}

static size_t listed;
static enum mr_drop_reason reason;

static void on_drop(void *arg, const struct mr_drop *drop)
{
    (void)arg;
    listed += 1;
    reason = drop->reason;
}

static size_t list(void)
{
    listed = 0;
    mr_drops_list(journal, on_drop, NULL);
    return listed;
}

/* ---- what is logged ---- */

static const char *listened;
static size_t heard;

static void hear(const char *line, size_t len)
{
    (void)len;
    if (getenv("MR_TEST_LOG") != NULL) {
        (void)fwrite(line, 1, len, stderr);
    }
    heard += listened != NULL && strstr(line, listened) != NULL;
}

static void listen_to(const char *text)
{
    listened = text;
    heard = 0;
}

/* ---- a commit without room ---- */

/* Segments are there, and the disk has no room for what is written into them. */
static void commit_fails(void)
{
    mr_sim_inject(MR_SIM_WRITE, 1, 1, MR_SIM_FAULT_FULL);
    uint64_t durable = mr_lane_durable(lane);
    static uint8_t payload[PAYLOAD];
    struct mr_appended out;
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .client = mr_span_of("c"),
                                   .topic = mr_span_of("t"),
                                   .payload = mr_span_make(payload, PAYLOAD)};
    mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK);
    static int64_t now_ns = INT64_C(1) << 50;
    now_ns += second_ns;
    (void)mr_lane_submit(lane, now_ns);
    mr_assert(mr_lane_step_commit(lane));
    mr_assert(mr_lane_durable(lane) == durable && mr_lane_state(lane) == MR_LANE_FULL);
    mr_assert(strstr(mr_lane_state_text(lane), "is full; make room on it") != NULL);
    mr_sim_inject_clear();
}

static void commit_goes_on(void)
{
    while (mr_lane_step_commit(lane)) {
    }
    mr_assert(mr_lane_durable(lane) + 1 == mr_lane_next_seq(lane));
    mr_assert(mr_lane_state(lane) == MR_LANE_OPEN);
    mr_lane_release(lane, mr_lane_durable(lane));
}

static void test_relief(enum mr_when_full when_full, bool settled)
{
    bool goes = when_full == MR_WHEN_FULL_DROP;

    start(when_full, INT64_C(3600000000)); /* settled segments stay for an hour */
    append(60);
    if (settled) {
        mr_cursor_set(bridge, mr_lane_durable(lane));
        mr_journal_step_keeper(journal);
    }
    mr_sim_advance(2 * second_ns);
    uint64_t oldest = stats().seq_oldest;
    mr_assert(oldest == 1);
    commit_fails();
    mr_journal_step_keeper(journal);
    mr_assert((stats().seq_oldest > oldest) == goes);
    mr_assert(list() == (goes && !settled) && (listed == 0 || reason == MR_DROP_DISK));
    oldest = stats().seq_oldest;
    mr_journal_step_keeper(journal);
    mr_assert(stats().seq_oldest == oldest); /* it may be enough */
    mr_sim_advance(2 * second_ns);
    mr_journal_step_keeper(journal);
    mr_assert((stats().seq_oldest > oldest) == goes);
    commit_goes_on();
    oldest = stats().seq_oldest;
    mr_sim_advance(2 * second_ns);
    mr_journal_step_keeper(journal);
    mr_assert(stats().seq_oldest == oldest);
    mr_assert(list() == (goes && !settled)); /* it went on, so it is one */
    stop();
}

/* Nothing that could go. */
static void test_no_relief(void)
{
    start(MR_WHEN_FULL_DROP, 0);
    append(3);
    mr_sim_advance(2 * second_ns);
    commit_fails();
    mr_journal_step_keeper(journal);
    mr_assert(stats().seq_oldest == 1 && list() == 0);
    commit_goes_on();
    stop();
}

/* ---- what is told ---- */

static void test_forecast(enum mr_when_full when_full, const char *then)
{
    start(when_full, 0);
    listen_to("min at the present rate");
    for (int i = 0; i < 9; i++) {
        append(1);
        mr_sim_advance(2 * second_ns);
    }
    mr_assert(heard == 0); /* too soon to say */
    for (int i = 0; i < 6; i++) {
        append(1);
        mr_sim_advance(2 * second_ns);
    }
    mr_assert(heard == 1);
    listen_to(then);
    for (int i = 0; i < 85; i++) {
        append(1);
        mr_sim_advance(2 * second_ns);
    }
    mr_assert(heard == 1); /* the last minute */
    listen_to("is not filling up any more");
    mr_cursor_set(bridge, mr_lane_durable(lane));
    for (int i = 0; i < 3; i++) {
        mr_sim_advance(second_ns);
        mr_journal_step_keeper(journal);
    }
    mr_assert(heard == 1);
    listen_to(NULL);
    stop();
}

static void test_cursors_cannot_be_written(void)
{
    start(MR_WHEN_FULL_HOLD, 0);
    append(3);
    mr_cursor_set(bridge, 2);
    mr_sim_inject(MR_SIM_WRITE, 1, 1, MR_SIM_FAULT_IO);
    mr_journal_step_keeper(journal);
    mr_sim_inject_clear();
    for (uint32_t i = 0; i < LANES; i++) {
        const struct mr_lane *one = mr_journal_lane(journal, i);
        mr_assert(mr_lane_state(one) == MR_LANE_FAILED);
        mr_assert(strstr(mr_lane_state_text(one), "/j/cursors") != NULL);
    }
    mr_journal_step_keeper(journal); /* and it stays so */
    struct mr_appended out;
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT, .client = mr_span_of("c"), .topic = mr_span_of("t")};
    mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_ERR_IO);
    mr_assert(!mr_lane_step_commit(lane));
    mr_assert(mr_journal_close(journal) == MR_ERR_IO);
    mr_sim_stop();
}

/* ---- a lane that fails over a file ---- */

/* The call fails by which the oldest of so many segments goes, or, with 0, the first spare behind
 * the first segment is made: what the next start finds was counted before.
 */
static void test_what_is_left_counts(enum mr_sim_call call, uint64_t nth, uint64_t segments)
{
    start(MR_WHEN_FULL_HOLD, 0);
    while (stats().segments < segments) {
        append(1);
    }
    if (segments != 0) {
        mr_cursor_set(bridge, mr_lane_durable(lane));
        mr_sim_inject(call, nth, 1, MR_SIM_FAULT_IO);
        mr_journal_step_keeper(journal);
    } else {
        mr_sim_inject(call, nth, 1, MR_SIM_FAULT_IO);
        append(1);
    }
    mr_sim_inject_clear();
    mr_assert(mr_lane_state(lane) == MR_LANE_FAILED);
    uint64_t counted = stats().bytes_used;
    mr_assert(mr_journal_close(journal) == MR_ERR_IO);
    open_journal(MR_WHEN_FULL_HOLD, INT64_C(3600000000)); /* nothing goes meanwhile */
    mr_assert(stats().bytes_used <= counted);
    stop();
}

int main(void)
{
    mr_log_set_writer(hear);
    test_relief(MR_WHEN_FULL_DROP, false);
    test_relief(MR_WHEN_FULL_DROP, true);
    test_relief(MR_WHEN_FULL_HOLD, false);
    test_relief(MR_WHEN_FULL_REFUSE, true);
    test_no_relief();
    test_forecast(MR_WHEN_FULL_HOLD, "s at the present rate; then nothing is acknowledged");
    test_forecast(MR_WHEN_FULL_REFUSE, "s at the present rate; then publishes are refused");
    test_forecast(MR_WHEN_FULL_DROP, "s at the present rate; then the oldest events are dropped");
    test_cursors_cannot_be_written();
    test_what_is_left_counts(MR_SIM_DIR_SYNC, 2, 0); /* the first is of the segment's name */
    test_what_is_left_counts(MR_SIM_REMOVE, 1, 4);
    test_what_is_left_counts(MR_SIM_RENAME, 1, 8);
    test_what_is_left_counts(MR_SIM_DIR_SYNC, 1, 8);
    return 0;
}
