/* test_cursor_copies.c
 * links: journal os_sim base
 *
 * Goal:   of a cursor's two copies one is always certain: as long as a write of the other was not
 *         flushed, nothing overwrites it.  So no power cut takes a cursor behind what segments
 *         have gone for, nor to where a put that failed wanted it, nor finds one whose making
 *         failed.  A stop says if the cursors could not be written.  A start that cannot flush the
 *         table it read changes nothing in it.
 * Method: the disk refuses the second of two cursors, then the first, of which a part is written,
 *         and the machine stops; the seed says what of the unsynced writes is lost.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/cursor.h"
#include "journal/journal.h"
#include "journal/live.h"
#include "lane_commit.h"
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

enum { SEEDS = 60, CERTAIN = 10, RECORDS = 200, PAYLOAD = 2000, REFUSALS = 2 };

static struct mr_journal_options journal_options(void)
{
    return (struct mr_journal_options){.path = "/j",
                                       .name = "copies",
                                       .max_bytes = 1 << 20,
                                       .segment_bytes = 64 << 10,
                                       .block_bytes = 16384,
                                       .record_bytes_max = 8000,
                                       .manual = true};
}

static struct mr_journal *journal_take(struct mr_cursor *cursors[2], struct mr_recovery *recovery)
{
    static const char *const names[2] = {"first", "second"};
    struct mr_journal_options options = journal_options();
    struct mr_journal *journal = NULL;
    bool is_new;

    mr_assert(mr_journal_open(&journal, &options, recovery, NULL) == MR_OK);
    for (int i = 0; i < 2; i++) {
        mr_assert(mr_cursor_open(journal, names[i], 0, MR_START_OLDEST, &cursors[i], &is_new,
                                 NULL) == MR_OK);
    }
    return journal;
}

static void append_all(struct mr_journal *journal)
{
    static uint8_t payload[PAYLOAD];
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .client = mr_span_of("c"),
                                   .topic = mr_span_of("t"),
                                   .payload = mr_span_make(payload, sizeof(payload))};
    struct mr_appended out;

    for (uint64_t i = 1; i <= RECORDS; i++) {
        while (mr_lane_append(lane, &record, NULL, &out) != MR_OK) {
            lane_commit(lane, i - 1);
            mr_journal_step_keeper(journal);
        }
    }
    lane_commit(lane, RECORDS);
}

static void cursors_set(struct mr_cursor *cursors[2], uint64_t seq)
{
    for (int i = 0; i < 2; i++) {
        mr_cursor_set(cursors[i], seq);
    }
}

static void test_refused(uint64_t seed)
{
    struct mr_cursor *cursors[2];

    mr_sim_start(seed);
    struct mr_journal *journal = journal_take(cursors, NULL);
    append_all(journal);
    cursors_set(cursors, CERTAIN);
    mr_journal_step_keeper(journal);
    for (uint64_t i = 1; i <= REFUSALS; i++) {
        cursors_set(cursors, CERTAIN + i);
        mr_sim_inject(MR_SIM_WRITE, 1 + REFUSALS - i, 1, MR_SIM_FAULT_FULL);
        mr_journal_step_keeper(journal);
        mr_sim_inject_clear();
    }
    mr_sim_crash();
    journal = journal_take(cursors, NULL);
    mr_assert(mr_cursor_get(cursors[0]) >= CERTAIN && mr_cursor_get(cursors[1]) >= CERTAIN);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

/* A power cut; behind it no record is missing that a cursor stands in front of. */
static void crash_loses_nothing(struct mr_cursor *cursors[2])
{
    struct mr_recovery recovery;

    mr_sim_crash();
    struct mr_journal *journal = journal_take(cursors, &recovery);
    mr_assert(recovery.seqs_lost == 0);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

/* It, or both its positions, are put back, which cannot be made certain; then all is settled, and
 * goes.
 */
static void test_put_fails(uint64_t seed, bool split)
{
    struct mr_cursor *live = NULL;
    struct mr_cursor *cursors[2];

    mr_sim_start(seed);
    struct mr_journal *journal = journal_take(cursors, NULL);
    append_all(journal);
    mr_cursor_set(cursors[0], RECORDS);
    mr_journal_step_keeper(journal);
    if (split) {
        mr_assert(mr_cursor_live_begin(cursors[0], RECORDS, &live, NULL) == MR_OK);
    }
    mr_sim_inject(MR_SIM_SYNC, 1, 1, MR_SIM_FAULT_IO);
    mr_assert(mr_cursor_seek(cursors[0], CERTAIN) == MR_ERR_IO);
    mr_sim_inject_clear();
    mr_cursor_set(cursors[1], RECORDS);
    mr_journal_step_keeper(journal);
    crash_loses_nothing(cursors);
}

/* One more is made, a bridge's or a second position, which cannot be made certain, nor, if two
 * syncs fail, be taken back; the others settle all, and it goes, unless the journal ends.
 */
static void test_make_fails(uint64_t seed, bool split, uint64_t failures)
{
    struct mr_cursor *cursors[2];
    struct mr_cursor *more = NULL;
    bool is_new;

    mr_sim_start(seed);
    struct mr_journal *journal = journal_take(cursors, NULL);
    append_all(journal);
    mr_sim_inject(MR_SIM_SYNC, 1, failures, MR_SIM_FAULT_IO);
    if (split) {
        mr_assert(mr_cursor_live_begin(cursors[0], CERTAIN, &more, NULL) == MR_ERR_IO);
    } else {
        mr_assert(mr_cursor_open(journal, "third", 0, MR_START_OLDEST, &more, &is_new, NULL) ==
                  MR_ERR_IO);
    }
    mr_sim_inject_clear();
    cursors_set(cursors, RECORDS);
    mr_journal_step_keeper(journal);
    crash_loses_nothing(cursors);
}

/* A stop that cannot write how far the bridges are does not look like a clean one. */
static void test_no_room_at_the_end(uint64_t seed)
{
    struct mr_cursor *cursors[2];

    mr_sim_start(seed);
    struct mr_journal *journal = journal_take(cursors, NULL);
    append_all(journal);
    mr_cursor_set(cursors[0], RECORDS);
    mr_sim_inject(MR_SIM_WRITE, 1, 100, MR_SIM_FAULT_FULL);
    mr_assert(mr_journal_close(journal) == MR_ERR_FULL);
    mr_sim_inject_clear();
    journal = journal_take(cursors, NULL);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

/* The two positions of a cursor are joined, which is not flushed: whoever reads the file finds them
 * joined, and a power cut perhaps not.  The start behind it cannot flush it either.
 */
static void test_joined_and_a_start_that_fails(uint64_t seed)
{
    struct mr_journal_options options = journal_options();
    struct mr_journal *journal;
    struct mr_cursor *cursors[2];
    struct mr_cursor *live = NULL;
    struct mr_cursor *more = NULL;
    bool is_new;

    mr_sim_start(seed);
    journal = journal_take(cursors, NULL);
    append_all(journal);
    mr_cursor_set(cursors[0], CERTAIN);
    mr_assert(mr_cursor_live_begin(cursors[0], CERTAIN + 1, &live, NULL) == MR_OK);
    for (uint64_t i = seed % 2; i < 2; i++) { /* its newer copy in either half */
        mr_cursor_set(live, RECORDS - 1 + i);
        mr_journal_step_keeper(journal);
    }
    mr_sim_inject(MR_SIM_SYNC, 1, UINT32_MAX, MR_SIM_FAULT_FULL);
    mr_assert(mr_cursor_open(journal, "third", 0, MR_START_OLDEST, &more, &is_new, NULL) ==
              MR_ERR_IO); /* so the journal writes none of them any more, and ends */
    mr_assert(mr_cursor_live_end(cursors[0], RECORDS, MR_CURSOR_LEADS) == MR_ERR_IO);
    mr_assert(mr_journal_close(journal) != MR_OK);
    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) != MR_OK);
    mr_sim_inject_clear();
    mr_sim_crash();
    journal = journal_take(cursors, NULL);
    mr_assert(mr_cursor_live_found(cursors[0], &live, NULL) == MR_OK);
    if (live == NULL) { /* the join is there */
        mr_assert(mr_cursor_get(cursors[0]) == RECORDS);
    } else {
        mr_assert(mr_cursor_get(cursors[0]) == CERTAIN && mr_cursor_get(live) == RECORDS);
    }
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        test_refused(seed);
        test_put_fails(seed, false);
        test_put_fails(seed, true);
        for (uint64_t failures = 1; failures <= 2; failures++) {
            test_make_fails(seed, false, failures);
            test_make_fails(seed, true, failures);
        }
        test_no_room_at_the_end(seed);
    }
    for (uint64_t seed = 1; seed <= 2 * SEEDS; seed++) { /* one in a hundred loses just that */
        test_joined_and_a_start_that_fails(seed);
    }
    return 0;
}
