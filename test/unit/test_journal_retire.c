/* test_journal_retire.c
 * links: journal os_sim base
 *
 * Goal:   a segment does not go while somebody begins to need it: a cursor that is put back, a new
 *         one that begins at the oldest record, a reader that holds.  Each finds the segment whole,
 *         or is told that it is gone, through a crash at any moment.  On a disk without room even
 *         for another name all of them stay, and publishers wait until there is some.
 * Method: the keeper and whoever comes in a thread each, which the seed lets take turns at the
 * calls to the disk; several segments are settled, so that the keeper has much to give back.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/books.h"
#include "journal/drops.h"
#include "journal/reader.h"
#include "lane_commit.h"
#include "os/clock.h"
#include "os/sim.h"
#include "os/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEEDS = 80,
    SEGMENT = 64 << 10,
    PAYLOAD = 2000,
    SETTLED = 150, /* records: five segments, which nobody needs */
    COUNT = 200,
    ROUNDS = 3,
    CALLS = 16,
};

static struct {
    struct mr_journal *journal;
    struct mr_lane *lane;
    struct mr_cursor *cursor;
    uint64_t seed;
    uint64_t wanted; /* behind this record it wants to go on */
    uint64_t calls;  /* to the disk, before it all begins */
    bool met;        /* the keeper had begun to give back, and had not ended */
    unsigned ended;
} world;

static void journal_take(struct mr_recovery *recovery)
{
    struct mr_journal_options options = {
        .path = "/j",
        .name = "retire",
        .max_bytes = 16 * SEGMENT,
        .segment_bytes = SEGMENT,
        .block_bytes = 16384,
        .block_count = 12,
        .record_bytes_max = 8000,
        .keep_ranges = true,
        .manual = true,
    };
    struct mr_error why = {.text = ""};

    if (mr_journal_open(&world.journal, &options, recovery, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    world.lane = mr_journal_lane(world.journal, 0);
}

static struct mr_cursor *cursor_of(const char *name, enum mr_cursor_start start)
{
    struct mr_cursor *cursor = NULL;
    bool is_new;

    mr_assert(mr_cursor_open(world.journal, name, 0, start, &cursor, &is_new, NULL) == MR_OK);
    return cursor;
}

static void append_one(uint64_t seq)
{
    static uint8_t payload[PAYLOAD];
    struct mr_appended out = {0};
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .client = mr_span_of("c"),
                                   .topic = mr_span_of("t"),
                                   .payload = mr_span_make(payload, sizeof(payload))};

    while (mr_lane_append(world.lane, &record, NULL, &out) != MR_OK) {
        lane_commit(world.lane, seq - 1);
        mr_journal_step_keeper(world.journal);
    }
    mr_assert(out.seq == seq);
}

/* The oldest record that can be read, less one. */
static uint64_t lane_floor(void)
{
    struct mr_lane_stats stats;

    mr_lane_stats(world.lane, &stats);
    return stats.seq_oldest - 1;
}

/* Up to SETTLED nobody needs anything, and the keeper does not know it yet. */
static void begin(uint64_t seed, uint64_t wanted)
{
    mr_sim_start(seed);
    mr_sim_disk_pace(50, 20000);
    memset(&world, 0, sizeof(world));
    world.seed = seed;
    journal_take(NULL);
    world.cursor = cursor_of("bridge", MR_START_OLDEST);
    for (uint64_t seq = 1; seq <= COUNT; seq++) {
        append_one(seq);
    }
    lane_commit(world.lane, COUNT);
    mr_journal_step_keeper(world.journal);
    mr_assert(lane_floor() == 0);
    mr_cursor_set(world.cursor, SETTLED);
    world.wanted = wanted;
    world.calls = mr_sim_calls(MR_SIM_ANY);
}

static void end(void)
{
    mr_assert(mr_journal_close(world.journal) == MR_OK);
    mr_sim_stop();
}

static void run_keeper(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        mr_journal_step_keeper(world.journal);
    }
    world.ended += 1;
}

/* Both threads, until they have ended.  False: a crash hit. */
static bool run_beside_keeper(void (*other)(void *arg))
{
    struct mr_thread *keeper = NULL;
    struct mr_thread *thread = NULL;

    mr_assert(mr_thread_start(&keeper, "keeper", run_keeper, NULL, NULL) == MR_OK);
    mr_assert(mr_thread_start(&thread, "other", other, NULL, NULL) == MR_OK);
    while (world.ended < 2) {
        enum mr_sim_turn turn = mr_sim_turn();
        if (turn == MR_SIM_CRASHED) {
            return false;
        }
        if (turn == MR_SIM_IDLE) {
            mr_assert(mr_sim_next_ns() != INT64_MAX);
            mr_sim_advance(mr_sim_next_ns() - mr_clock_mono_ns());
        }
    }
    mr_thread_join(thread);
    mr_thread_join(keeper);
    return true;
}

static void wait(int64_t ns)
{
    struct mr_wake wake;

    mr_assert(mr_wake_open(&wake, NULL) == MR_OK);
    (void)mr_wake_wait(&wake, ns);
    mr_wake_close(&wake);
}

/* Until some moment of the keeper's round. */
static void wait_some(void)
{
    uint64_t call = world.calls + world.seed * 7919 % CALLS;

    while (mr_sim_calls(MR_SIM_ANY) < call && world.ended == 0) {
        (void)mr_clock_mono_ns(); /* which moves time on, for the keeper's flushes */
        wait(0);
    }
    world.met = lane_floor() != 0 && lane_floor() + 2 * SEGMENT / PAYLOAD < SETTLED;
}

/* ---- a cursor that is put back ---- */

/* As far as the journal has what is behind it (pipeline/seek.c). */
static void put_back(void *arg)
{
    enum mr_err err = MR_ERR_AGAIN;

    (void)arg;
    wait_some();
    while (err == MR_ERR_AGAIN) {
        uint64_t oldest = lane_floor();
        err = mr_cursor_put(world.cursor, world.wanted > oldest ? world.wanted : oldest,
                            MR_CURSOR_LEADS);
    }
    mr_assert(err == MR_OK);
    world.ended += 1;
}

static void test_put_back(void)
{
    unsigned met = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed, seed % 20);
        mr_assert(run_beside_keeper(put_back));
        mr_assert(mr_cursor_get(world.cursor) >= lane_floor());
        met += world.met;
        end();
    }
    mr_assert(met > SEEDS / 20);
}

/* What is behind it is not asked for if it is not there: nothing is written then. */
static void test_put_behind_what_is_gone(void)
{
    struct mr_books before;
    struct mr_books after;

    begin(1, 0);
    run_keeper(NULL);
    uint64_t oldest = lane_floor();
    mr_assert(oldest > SETTLED - 2 * SEGMENT / PAYLOAD && oldest <= SETTLED);
    mr_assert(mr_cursor_books(world.cursor, &before) == SETTLED);
    mr_assert(mr_cursor_put(world.cursor, oldest - 1, MR_CURSOR_LEADS) == MR_ERR_AGAIN);
    mr_assert(mr_cursor_books(world.cursor, &after) == SETTLED);
    mr_assert(memcmp(&before, &after, sizeof(before)) == 0);
    mr_assert(mr_cursor_rule(world.cursor) == MR_CURSOR_NEW);
    mr_assert(mr_cursor_put(world.cursor, oldest, MR_CURSOR_LEADS) == MR_OK);
    end();
}

/* ---- a cursor that is new ---- */

static void begin_anew(void *arg)
{
    (void)arg;
    wait_some();
    world.cursor = cursor_of("another", MR_START_OLDEST);
    world.ended += 1;
}

static void test_begin_anew(void)
{
    unsigned met = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed, 0);
        mr_assert(run_beside_keeper(begin_anew));
        mr_assert(mr_cursor_get(world.cursor) >= lane_floor());
        met += world.met;
        end();
    }
    mr_assert(met > SEEDS / 20);
}

/* The machine stops, and no start believes that something is missing. */
static void test_crash(void (*other)(void *arg))
{
    for (uint64_t nth = 1; nth <= CALLS; nth++) {
        struct mr_recovery recovery;

        begin(nth, nth);
        mr_sim_inject(MR_SIM_ANY, nth, 1, MR_SIM_FAULT_CRASH);
        if (run_beside_keeper(other)) {
            mr_sim_crash();
        }
        journal_take(&recovery);
        mr_assert(recovery.seqs_lost == 0 && recovery.corrupt_ranges == 0);
        end();
    }
}

/* ---- a reader that holds ---- */

static void read_all(void *arg)
{
    struct mr_reader_options options = {.holds = true};
    struct mr_reader *reader;
    struct mr_view view;
    uint64_t seq = 0;

    (void)arg;
    wait_some();
    mr_assert(mr_reader_open(&reader, world.journal, 0, 1, &options, NULL) == MR_OK);
    uint64_t there = lane_floor() + 1;
    wait((int64_t)(world.seed * 31 % 20) * 1000);
    while (seq < COUNT) {
        mr_assert(mr_reader_next(reader, &view) == MR_OK);
        mr_assert(view.seq_first == (seq == 0 ? there : seq + 1));
        seq = view.seq_last;
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    world.ended += 1;
}

static void test_reader(void)
{
    unsigned met = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed, 0);
        mr_assert(run_beside_keeper(read_all));
        met += world.met;
        end();
    }
    mr_assert(met > SEEDS / 20);
}

/* ---- no room to go ---- */

/* Whatever there is room for now is appended and committed; the newest seq. */
static uint64_t append_some(uint64_t seq)
{
    struct mr_appended out = {.seq = seq};
    enum mr_err err = MR_OK;

    while (err == MR_OK) {
        static uint8_t payload[PAYLOAD];
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of("c"),
                                       .topic = mr_span_of("t"),
                                       .payload = mr_span_make(payload, sizeof(payload))};
        err = mr_lane_append(world.lane, &record, NULL, &out);
        if (out.seq % 4 == 0 || err != MR_OK) {
            lane_commit(world.lane, out.seq);
        }
    }
    mr_assert(err == MR_ERR_FULL);
    return out.seq;
}

/* A disk that copies on write and is full has no room even for another name: publishers wait, with
 * the cause, what is there can be read on, and nothing is lost; then it goes on.
 */
static void test_no_room_for_another_name(bool crashes)
{
    struct mr_recovery recovery = {.seqs_lost = 1};

    begin(1, 0);
    uint64_t newest = append_some(COUNT); /* up to the end of what was ready */
    mr_sim_inject(MR_SIM_RENAME, 1, 0, MR_SIM_FAULT_FULL);
    for (int i = 0; i < ROUNDS; i++) {
        run_keeper(NULL);
        mr_assert(append_some(newest) == newest);
    }
    mr_assert(mr_lane_state(world.lane) == MR_LANE_FULL);
    mr_assert(strstr(mr_lane_state_text(world.lane), "make room on it") != NULL);
    mr_assert(lane_floor() == 0 && mr_lane_durable(world.lane) == newest);
    world.ended = 0;
    world.calls = 0;
    read_all(NULL);
    mr_sim_inject_clear();
    if (crashes) {
        mr_sim_crash();
        journal_take(&recovery);
        mr_assert(recovery.seqs_lost == 0 && recovery.corrupt_ranges == 0);
        mr_assert(mr_lane_durable(world.lane) == newest);
    }
    run_keeper(NULL);
    mr_assert(lane_floor() != 0 && append_some(newest) > newest);
    end();
}

/* A flush of the folder is not repeated: what it did is not known, and so the lane has failed. */
static void test_a_flush_that_fails(void)
{
    struct mr_recovery recovery;

    begin(1, 0);
    (void)append_some(COUNT);
    mr_sim_inject(MR_SIM_DIR_SYNC, 1, 1, MR_SIM_FAULT_IO);
    run_keeper(NULL);
    mr_assert(mr_lane_state(world.lane) == MR_LANE_FAILED);
    mr_sim_crash();
    journal_take(&recovery);
    mr_assert(recovery.seqs_lost == 0 && recovery.corrupt_ranges == 0);
    end();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_put_back();
    test_put_behind_what_is_gone();
    test_begin_anew();
    test_crash(put_back);
    test_crash(begin_anew);
    test_reader();
    test_no_room_for_another_name(false);
    test_no_room_for_another_name(true);
    test_a_flush_that_fails();
    return 0;
}
