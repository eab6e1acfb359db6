/* test_journal_flush.c
 * links: journal os_sim base
 *
 * Goal:   a flush that finds no room (file systems that copy on write, quotas, thin pools) ends
 *         nothing.  Nothing that it was to bring to the medium counts as durable before all of it
 *         was written once more and flushed: behind such a flush the pages may be gone.
 * Method: a lane that is committed by hand on the simulated disk, where a flush that fails loses
 *         pages; then the power is cut, and everything that was said to be durable must be there.
 */
#include "base/log.h"
#include "journal/cursor.h"
#include "journal/journal.h"
#include "journal/reader.h"

#include "crash_kit.h"
#include "os/sim.h"

#include <string.h>

enum { SEGMENT = 64 << 10, PAYLOAD = 900, SEEDS = 40 };

static struct mr_journal *journal;
static struct mr_lane *lane;

static void start(void)
{
    struct mr_journal_options options = {
        .path = "/j",
        .name = "flush",
        .max_bytes = 16 * SEGMENT,
        .segment_bytes = SEGMENT,
        .block_bytes = 16384,
        .block_count = 40,
        .record_bytes_max = 8000,
        .manual = true,
    };
    struct mr_recovery recovery;

    mr_assert(mr_journal_open(&journal, &options, &recovery, NULL) == MR_OK);
    mr_assert(recovery.seqs_lost == 0 && recovery.corrupt_ranges == 0);
    lane = mr_journal_lane(journal, 0);
    mr_journal_step_keeper(journal);
}

static void append(uint64_t count)
{
    uint8_t payload[PAYLOAD];
    struct mr_appended out = {.seq = 0};

    for (uint64_t i = 0; i < count; i++) {
        memset(payload, (int)(mr_lane_next_seq(lane) % 250), sizeof(payload));
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of("c"),
                                       .topic = mr_span_of("t"),
                                       .payload = mr_span_make(payload, sizeof(payload))};
        mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK);
    }
}

/* One attempt; true: all that was appended is durable now. */
static bool commit(void)
{
    static int64_t now_ns;

    now_ns += 1000000000;
    (void)mr_lane_submit(lane, now_ns);
    (void)mr_lane_step_commit(lane);
    mr_assert(mr_lane_state(lane) != MR_LANE_FAILED);
    return mr_lane_durable(lane) == mr_lane_next_seq(lane) - 1;
}

static void expect_all(uint64_t durable)
{
    struct mr_reader *reader;
    struct mr_view view;
    uint64_t seq = 1;

    mr_assert(mr_lane_durable(lane) >= durable);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while (seq <= mr_lane_durable(lane)) {
        struct mr_view_at at;
        struct mr_event event;

        mr_assert(mr_reader_next(reader, &view) == MR_OK);
        at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.seq == seq && event.payload.len == PAYLOAD);
            mr_assert(event.payload.at[PAYLOAD - 1] == (uint8_t)(seq % 250));
            seq += 1;
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
}

/* So many records are durable; the next commit's first flush will find no room so often. */
static void begin(uint64_t seed, uint64_t before, uint64_t failures)
{
    mr_sim_start(seed);
    start();
    append(before);
    mr_assert(before == 0 || commit());
    mr_sim_inject(MR_SIM_SYNC, 1, failures, MR_SIM_FAULT_FULL);
}

/* In a segment that has its name, and in one that has not. */
static void test_what_was_to_be_flushed_is_written_again(uint64_t before)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t failures = 1 + seed % 3;

        begin(seed, before, failures);
        append(10);
        for (uint64_t i = 0; i < failures; i++) {
            mr_assert(!commit() && mr_lane_durable(lane) == before);
            mr_assert(mr_lane_state(lane) == MR_LANE_FULL);
            mr_assert(strstr(mr_lane_state_text(lane), "is full; make room on it") != NULL);
            append(1);
        }
        (void)commit(); /* what the flush was for, and then what came meanwhile */
        mr_assert(commit() && mr_lane_state(lane) == MR_LANE_OPEN);
        uint64_t durable = mr_lane_durable(lane);
        mr_assert(durable == before + 10 + failures);
        mr_sim_crash();
        start();
        expect_all(durable);
        mr_assert(mr_journal_close(journal) == MR_OK);
        mr_sim_stop();
    }
}

/* The process is killed while it waits for room: what the next start accepts stays. */
static void test_killed_while_it_waits(void)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed, 5, 2);
        append(10);
        mr_assert(!commit() && !commit());
        mr_sim_inject_clear();
        mr_sim_kill();
        start();
        uint64_t accepted = mr_lane_durable(lane);
        mr_sim_crash();
        start();
        mr_assert(mr_lane_durable(lane) == accepted);
        expect_all(5);
        mr_assert(mr_journal_close(journal) == MR_OK);
        mr_sim_stop();
    }
}

static void test_closed_while_it_waits(void)
{
    begin(1, 5, 0);
    append(10);
    mr_assert(!commit());
    mr_assert(mr_journal_close(journal) == MR_ERR_IO);
    mr_sim_inject_clear();
    start();
    expect_all(5);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

/* The cursors' flush finds no room: nothing goes for what may not be on the medium, until a later
 * round has written it again.
 */
static void test_cursors_wait_for_room(void)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct mr_cursor *cursor;
        struct mr_lane_stats stats;
        bool is_new;

        mr_sim_start(seed);
        start();
        mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
                  MR_OK);
        for (int i = 0; i < 40; i++) {
            append(5);
            mr_assert(commit() || commit()); /* of two blocks one after the other */
            mr_lane_release(lane, mr_lane_durable(lane));
            mr_journal_step_keeper(journal);
        }
        mr_cursor_set(cursor, mr_lane_durable(lane));
        mr_sim_inject(MR_SIM_SYNC, 1, 1 + seed % 2, MR_SIM_FAULT_FULL);
        mr_journal_step_keeper(journal);
        mr_assert(mr_lane_state(lane) == MR_LANE_OPEN);
        mr_lane_stats(lane, &stats);
        mr_assert(stats.seq_oldest == 1 && stats.segments > 2);
        if (seed % 4 < 2) {
            mr_journal_step_keeper(journal);
            mr_journal_step_keeper(journal);
            mr_lane_stats(lane, &stats);
            mr_assert(stats.seq_oldest > 1);
        }
        mr_sim_inject_clear();
        mr_sim_crash();
        start(); /* says that nothing is lost */
        mr_assert(mr_lane_durable(lane) == 200);
        mr_assert(mr_journal_close(journal) == MR_OK);
        mr_sim_stop();
    }
}

static bool is_paused(void)
{
    struct mr_cursor *cursor;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    mr_cursor_close(cursor);
    return mr_cursor_is_paused(cursor);
}

/* A pause that is refused changes nothing, not at the next start either. */
static void test_a_refused_pause_is_none(enum mr_sim_call call, enum mr_sim_fault fault)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        mr_sim_start(seed);
        start();
        mr_assert(!is_paused());
        mr_sim_inject(call, 1, 1, fault);
        mr_assert(mr_cursor_pause(journal, "bridge", true) != MR_OK && !is_paused());
        mr_journal_step_keeper(journal);
        mr_sim_crash();
        start();
        mr_assert(!is_paused());
        mr_assert(mr_cursor_pause(journal, "bridge", true) == MR_OK && is_paused());
        mr_sim_crash();
        start();
        mr_assert(is_paused());
        mr_sim_inject(call, 1, 1, fault);
        mr_assert(mr_cursor_pause(journal, "bridge", false) != MR_OK && is_paused());
        mr_journal_step_keeper(journal);
        mr_sim_crash();
        start();
        mr_assert(is_paused());
        mr_assert(mr_journal_close(journal) == MR_OK);
        mr_sim_stop();
    }
}

/* Two seeks fail one after the other: what the first one has written may still be there, so that is
 * what is held until the cursor can be written again.
 */
static void test_the_lowest_doubt_holds(void)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct mr_cursor *cursor;
        bool is_new;

        mr_sim_start(seed);
        start();
        mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
                  MR_OK);
        for (int i = 0; i < 40; i++) {
            append(5);
            mr_assert(commit() || commit());
            mr_journal_step_keeper(journal);
        }
        mr_cursor_set(cursor, 200);
        mr_journal_step_keeper(journal);
        mr_sim_inject(MR_SIM_SYNC, 1, 1, MR_SIM_FAULT_IO);
        mr_assert(mr_cursor_seek(cursor, 10) == MR_ERR_IO);
        mr_sim_inject(MR_SIM_WRITE, 1, 0, MR_SIM_FAULT_FULL);
        mr_assert(mr_cursor_seek(cursor, 190) == MR_ERR_FULL);
        mr_lane_release(lane, 200);
        mr_journal_step_keeper(journal);
        mr_sim_inject_clear();
        mr_sim_crash();
        start(); /* says that nothing is lost */
        mr_assert(mr_journal_close(journal) == MR_OK);
        mr_sim_stop();
    }
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_what_was_to_be_flushed_is_written_again(0);
    test_what_was_to_be_flushed_is_written_again(5);
    test_killed_while_it_waits();
    test_closed_while_it_waits();
    test_cursors_wait_for_room();
    test_the_lowest_doubt_holds();
    test_a_refused_pause_is_none(MR_SIM_WRITE, MR_SIM_FAULT_FULL);
    test_a_refused_pause_is_none(MR_SIM_SYNC, MR_SIM_FAULT_IO);
    return 0;
}
