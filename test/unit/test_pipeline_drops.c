/* test_pipeline_drops.c
 * links: pipeline journal codec config os base
 *
 * Goal:   `when_full: drop_oldest`, the bridge's side: of every record it is known whether it was
 *         delivered or dropped, never both and never neither, whatever was in flight when its
 *         segment went, and through a restart and a crash of the table of cursors.
 * Method: a small journal whose keeper drops by itself, and the scripted sink, which holds what it
 *         was given for as long as the target is away; the bridge is stepped by hand.
 */
#include "base/log.h"
#include "journal/books.h"
#include "journal/drops.h"
#include "journal/format.h"
#include "pipeline_kit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct scripted_conf target = {.topic = "t_${topic[2]}", .key = "${clientid}"};

static struct mr_bridge *ranked_bridge(struct mr_journal *journal)
{
    struct mr_bridge *bridge = bridge_make(journal, &target);

    mr_cursors_rank(journal, "test", &(struct mr_cursor_rank){.priority = 1, .may_drop = true});
    mr_drops_arm(journal);
    return bridge;
}

/* Some turns; the journal goes on meanwhile. */
static void turns(struct mr_bridge *bridge, int count)
{
    for (int i = 0; i < count; i++) {
        (void)mr_bridge_step(bridge, mr_clock_mono_ns());
    }
}

static void run_to(struct mr_bridge *bridge, uint64_t seq)
{
    struct mr_bridge_stats stats;
    int64_t until_ns = mr_clock_mono_ns() + (int64_t)120 * 1000000000;

    for (mr_bridge_stats(bridge, &stats); stats.cursor_seq < seq; mr_bridge_stats(bridge, &stats)) {
        turns(bridge, 1);
        mr_assert(mr_clock_mono_ns() < until_ns);
    }
}

static struct mr_books_row row;

static void on_row(void *arg, const struct mr_books_row *found)
{
    (void)arg;
    row = *found;
}

/* Each record is in one column; what is not there is in a range of the list. */
static void check_all(struct mr_journal *journal, uint64_t last)
{
    uint64_t delivered_count = 0;
    uint64_t missing = 0;

    mr_books_list(journal, on_row, NULL);
    mr_assert(row.seq == last && mr_books_difference(&row.books, last) == 0);
    for (uint64_t seq = 1; seq <= last; seq++) {
        bool listed = mr_drops_in(journal, "test", 0, seq, seq) != 0;

        delivered_count += delivered[seq];
        if (fate_of(seq) == FATE_SEND && !delivered[seq]) {
            mr_assert(listed);
            missing += 1;
        }
    }
    const uint64_t *columns = row.books.columns;
    mr_assert(columns[MR_COLUMN_DELIVERED] == delivered_count);
    mr_assert(columns[MR_COLUMN_LOST] == 0);
    mr_assert(columns[MR_COLUMN_DROPPED] >= missing && missing != 0);
    mr_assert(columns[MR_COLUMN_DELIVERED] + columns[MR_COLUMN_SKIPPED] +
                  columns[MR_COLUMN_DEAD_LETTERS] + columns[MR_COLUMN_DROPPED] ==
              last);
    mr_assert(columns[MR_COLUMN_DROPPED] <= mr_drops_in(journal, "test", 0, 1, last));
}

/* What the target has in hand when its segment goes is still delivered, and counted once. */
static void test_in_flight_is_delivered(void)
{
    folder_make();
    memset(delivered, 0, sizeof(delivered));
    memset(newest_of, 0, sizeof(newest_of));
    struct mr_journal *journal = journal_small(NULL);
    struct mr_bridge *bridge = ranked_bridge(journal);
    struct mr_lane *lane = mr_journal_lane(journal, 0);

    target.hold = true;
    append_all(lane, 1, 400);
    turns(bridge, 50);
    mr_assert(mr_drops_in(journal, "test", 0, 1, EVENTS) == 0);
    append_all(lane, 401, 3000); /* and nobody asks the bridge */
    uint64_t first = mr_drops_in(journal, "test", 0, 1, EVENTS);
    mr_assert(first > 400);
    turns(bridge, 50);
    append_all(lane, 3001, 5000);
    mr_assert(mr_drops_in(journal, "test", 0, 1, EVENTS) > first);
    target.hold = false;
    run_to(bridge, 5000);
    for (uint64_t seq = 1; seq <= 300; seq++) { /* it had them in hand */
        mr_assert(delivered[seq] || fate_of(seq) != FATE_SEND);
    }
    check_all(journal, 5000);
    /* From here on it keeps up, and nothing more is dropped. */
    uint64_t dropped = row.books.columns[MR_COLUMN_DROPPED];
    append_all(lane, 5001, 5500);
    run_to(bridge, 5500);
    check_all(journal, 5500);
    mr_assert(row.books.columns[MR_COLUMN_DROPPED] == dropped);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    journal_remove(journal);
}

/* A restart while its segments are gone: nothing is called lost, and what the target did not get
 * is dropped, record by record.
 */
static void test_restart(void)
{
    struct mr_recovery recovery;

    folder_make();
    memset(delivered, 0, sizeof(delivered));
    memset(newest_of, 0, sizeof(newest_of));
    target.hold = true;
    for (uint64_t last = 1500; last <= 6000; last += 1500) {
        struct mr_journal *journal = journal_small(&recovery);
        mr_assert(recovery.seqs_lost == 0 && recovery.corrupt_ranges == 0);
        struct mr_bridge *bridge = ranked_bridge(journal);
        turns(bridge, 20); /* takes something in hand, which is nobody's in the next life */
        append_all(mr_journal_lane(journal, 0), last - 1499, last);
        turns(bridge, 20);
        mr_bridge_stop(bridge, 0);
        mr_bridge_destroy(bridge);
        mr_assert(mr_journal_close(journal) == MR_OK);
    }
    target.hold = false;
    struct mr_journal *journal = journal_small(&recovery);
    mr_assert(recovery.seqs_lost == 0 && recovery.corrupt_ranges == 0);
    struct mr_bridge *bridge = ranked_bridge(journal);
    run_to(bridge, 6000);
    check_all(journal, 6000);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    journal_remove(journal);
}

/* With a target that fails now and then a record may arrive and be given up all the same, as one
 * that is offered again may arrive twice.  The books balance, and name every record once.
 */
static void test_with_failures(void)
{
    folder_make();
    memset(delivered, 0, sizeof(delivered));
    memset(newest_of, 0, sizeof(newest_of));
    target.retry_per_mille = 100;
    target.full_percent = 10;
    struct mr_journal *journal = journal_small(NULL);
    struct mr_bridge *bridge = ranked_bridge(journal);

    for (uint64_t seq = 1; seq <= EVENTS; seq += 500) {
        append_all(mr_journal_lane(journal, 0), seq, seq + 499);
        turns(bridge, 3);
    }
    run_to(bridge, EVENTS);
    mr_books_list(journal, on_row, NULL);
    mr_assert(mr_books_difference(&row.books, row.seq) == 0);
    mr_assert(row.books.columns[MR_COLUMN_LOST] == 0);
    mr_assert(row.books.columns[MR_COLUMN_DROPPED] != 0);
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        mr_assert(fate_of(seq) != FATE_SEND || delivered[seq] ||
                  mr_drops_in(journal, "test", 0, seq, seq) != 0);
    }
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    journal_remove(journal);
    target.retry_per_mille = 0;
    target.full_percent = 0;
}

/* What is left of a segment that began like this cannot be read from its beginning on. */
static void damage_oldest(struct mr_journal *journal)
{
    static const char junk[] = "this is no batch of records";
    struct mr_lane_stats stats;
    char path[512];

    mr_lane_stats(mr_journal_lane(journal, 0), &stats);
    snprintf(path, sizeof(path), "%s/lane-00/%020" PRIu64 ".seg", journal_path, stats.seq_oldest);
    FILE *file = fopen(path, "r+b");
    mr_assert(file != NULL && fseek(file, MR_SEGMENT_HEADER_BYTES, SEEK_SET) == 0);
    mr_assert(fwrite(junk, 1, sizeof(junk), file) == sizeof(junk) && fclose(file) == 0);
}

/* What follows what was dropped is damaged: the one is dropped, the other lost, and each counted.
 * How many are lost: none if the keeper came by once more and dropped that, too.
 */
static uint64_t damage_behind_what_was_dropped(void)
{
    folder_make();
    memset(delivered, 0, sizeof(delivered));
    memset(newest_of, 0, sizeof(newest_of));
    struct mr_journal *journal = journal_small(NULL);
    struct mr_bridge *bridge = ranked_bridge(journal);

    target.hold = true;
    append_all(mr_journal_lane(journal, 0), 1, 400);
    turns(bridge, 50);
    append_all(mr_journal_lane(journal, 0), 401, 5000); /* and nobody asks the bridge */
    damage_oldest(journal);
    target.hold = false;
    run_to(bridge, 5000);
    mr_books_list(journal, on_row, NULL);
    mr_assert(row.seq == 5000 && mr_books_difference(&row.books, 5000) == 0);
    mr_assert(row.books.columns[MR_COLUMN_DROPPED] != 0);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    journal_remove(journal);
    return row.books.columns[MR_COLUMN_LOST];
}

static void test_damage_behind_what_was_dropped(void)
{
    for (int i = 0; damage_behind_what_was_dropped() == 0; i++) {
        mr_assert(i < 50);
    }
}

int main(void)
{
    struct mr_error why;

    mr_log_set_level(getenv("MR_TEST_LOG") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR);
    mr_assert(mr_wake_open(&owner, &why) == MR_OK);
    test_in_flight_is_delivered();
    test_restart();
    test_with_failures();
    test_damage_behind_what_was_dropped();
    mr_wake_close(&owner);
    return 0;
}
