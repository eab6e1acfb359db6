/* test_journal_spares.c
 * links: journal os_sim base
 *
 * Goal:   while no next segment can be had because the process can open no file, nothing is lost,
 *         acknowledged or dropped that was not before: the lane goes on as long as it has a
 * segment, then it is full and says why.  When descriptors are back, so is the lane, by itself. And
 *         a new spare never takes the name of one that is being written.
 * Method: a lane that is committed by hand on the simulated disk, whose descriptors run out before
 *         a segment is made, before one is used again, and before one gets its name.
 */
#include "base/log.h"
#include "journal/cursor.h"
#include "journal/drops.h"
#include "journal/journal.h"
#include "journal/reader.h"

#include "crash_kit.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <string.h>

enum { SEGMENT = 64 << 10, PAYLOAD = 4000, SEGMENTS = 6, RECORDS_MAX = 1000 };

static struct mr_journal *journal;
static struct mr_lane *lane;

static void start(enum mr_when_full when_full, uint64_t max_bytes)
{
    struct mr_journal_options options = {
        .path = "/j",
        .name = "spares",
        .max_bytes = max_bytes,
        .segment_bytes = SEGMENT,
        .block_bytes = 16384,
        .block_count = 12,
        .record_bytes_max = 8000,
        .when_full = when_full,
        .manual = true,
    };

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    lane = mr_journal_lane(journal, 0);
    mr_journal_step_keeper(journal);
}

static void stop(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static enum mr_err append_one(void)
{
    uint8_t payload[PAYLOAD];
    struct mr_appended out = {.seq = 0};

    memset(payload, (int)(mr_lane_next_seq(lane) % 250), sizeof(payload));
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .client = mr_span_of("c"),
                                   .topic = mr_span_of("t"),
                                   .payload = mr_span_make(payload, sizeof(payload))};
    return mr_lane_append(lane, &record, NULL, &out);
}

static uint64_t last_seq(void)
{
    return mr_lane_next_seq(lane) - 1;
}

/* Append and commit until nothing more is taken. */
static void fill(void)
{
    for (int i = 0; i < RECORDS_MAX && append_one() == MR_OK; i++) {
        lane_commit(lane, last_seq());
        mr_journal_step_keeper(journal);
    }
    mr_assert(append_one() == MR_ERR_FULL);
}

static uint64_t segments(void)
{
    struct mr_lane_stats stats;

    mr_lane_stats(lane, &stats);
    return stats.segments;
}

static void expect_waiting(void)
{
    uint64_t durable = mr_lane_durable(lane);

    for (int i = 0; i < 3; i++) {
        mr_journal_step_keeper(journal);
        mr_assert(append_one() == MR_ERR_FULL);
    }
    mr_assert(mr_lane_durable(lane) == durable && durable == last_seq());
    mr_assert(mr_lane_state(lane) == MR_LANE_FULL);
    const char *text = mr_lane_state_text(lane);
    mr_assert(strstr(text, "too many open files") != NULL);
    mr_assert(strstr(text, "LimitNOFILE") != NULL && strstr(text, "/j/lane-00") != NULL);
}

static void expect_going_on(void)
{
    uint64_t before = mr_lane_durable(lane);

    mr_journal_step_keeper(journal);
    mr_assert(append_one() == MR_OK && mr_lane_state(lane) == MR_LANE_OPEN);
    lane_commit(lane, last_seq());
    mr_assert(mr_lane_durable(lane) == before + 1);
}

/* Every record from `seq` on is there, as it was appended. */
static void expect_all_from(uint64_t seq)
{
    struct mr_reader *reader;
    struct mr_view view;

    mr_assert(mr_reader_open(&reader, journal, 0, seq, NULL, NULL) == MR_OK);
    while (seq <= mr_lane_durable(lane)) {
        struct mr_view_at at;
        struct mr_event event;

        mr_assert(mr_reader_next(reader, &view) == MR_OK);
        at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.seq == seq && event.payload.len == PAYLOAD);
            mr_assert(event.payload.at[0] == (uint8_t)(seq % 250));
            seq += 1;
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
}

static void restart(uint64_t seq)
{
    uint64_t durable = mr_lane_durable(lane);

    stop();
    start(MR_WHEN_FULL_HOLD, SEGMENTS * SEGMENT);
    mr_assert(mr_lane_durable(lane) == durable);
    expect_all_from(seq);
}

/* The lane uses up what it has (the spare gets its name without a descriptor), waits, goes on. */
static void test_no_descriptor_for_a_new_segment(void)
{
    mr_sim_start(1);
    start(MR_WHEN_FULL_HOLD, SEGMENTS * SEGMENT);
    mr_assert(append_one() == MR_OK);
    lane_commit(lane, last_seq());
    mr_journal_step_keeper(journal);

    mr_sim_descriptors(false);
    fill();
    mr_assert(segments() == 2);
    expect_waiting();
    mr_sim_descriptors(true);
    expect_going_on();
    mr_assert(segments() == 3);
    expect_all_from(1);
    restart(1);
    stop();
    mr_sim_stop();
}

/* A segment that nobody needs keeps its name until its file can be opened. */
static void test_no_descriptor_to_use_one_again(void)
{
    struct mr_cursor *cursor;
    bool is_new;

    mr_sim_start(2);
    start(MR_WHEN_FULL_HOLD, 3 * SEGMENT);
    mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    fill();
    mr_assert(segments() == 3 && mr_lane_state(lane) == MR_LANE_FULL);

    mr_sim_descriptors(false);
    mr_cursor_set(cursor, mr_lane_durable(lane));
    expect_waiting();
    mr_assert(segments() == 3);
    mr_sim_descriptors(true);
    expect_going_on();
    expect_all_from(mr_lane_durable(lane) - 1);
    mr_cursor_close(cursor);
    stop();
    mr_sim_stop();
}

/* What may be dropped for want of room is not dropped for want of a descriptor. */
static void test_nothing_is_dropped_for_it(void)
{
    const struct mr_cursor_rank rank = {.priority = 1, .may_drop = true};
    struct mr_cursor *cursor;
    bool is_new;

    mr_sim_start(3);
    start(MR_WHEN_FULL_DROP, SEGMENTS * SEGMENT);
    mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    mr_cursors_rank(journal, "bridge", &rank);
    mr_drops_arm(journal);
    mr_assert(append_one() == MR_OK);
    lane_commit(lane, last_seq());
    mr_journal_step_keeper(journal);

    mr_sim_descriptors(false);
    fill();
    expect_waiting();
    mr_sim_descriptors(true);
    expect_going_on();
    expect_all_from(1);
    mr_cursor_close(cursor);
    stop();
    mr_sim_stop();
}

/* A file that was taken and has no name yet is removed by hand: the next spare must not be what
 * gets that name, for it holds nothing.
 */
static void test_a_new_spare_is_not_named_for_another(void)
{
    mr_sim_start(4);
    start(MR_WHEN_FULL_HOLD, SEGMENTS * SEGMENT);
    mr_assert(append_one() == MR_OK);
    mr_assert(mr_lane_submit(lane, 1) == -1);
    mr_assert(mr_path_remove("/j/lane-00/spare-0.seg") == MR_OK);
    mr_journal_step_keeper(journal);
    mr_assert(mr_lane_step_commit(lane));
    mr_assert(mr_lane_state(lane) == MR_LANE_FAILED && mr_lane_durable(lane) == 0);
    mr_assert(strstr(mr_lane_state_text(lane), "cannot be given its name") != NULL);
    mr_assert(mr_journal_close(journal) == MR_ERR_IO);
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_no_descriptor_for_a_new_segment();
    test_no_descriptor_to_use_one_again();
    test_nothing_is_dropped_for_it();
    test_a_new_spare_is_not_named_for_another();
    return 0;
}
