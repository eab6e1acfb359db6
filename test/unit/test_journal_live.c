/* test_journal_live.c
 * links: journal os_sim base
 *
 * Goal:   the slot of a second position (live.h): one that a full or failing disk did not let free
 *         is freed as soon as that is possible, and stands in nobody's way meanwhile; with
 *         `when_full: drop_oldest` it has the rank of its bridge, and what a bridge gives up at its
 *         two positions is exactly what neither had settled, through a restart and the join.
 *         Books that are off at either position can be accepted while there are two.
 * Method: manual steps on the simulated disk, whose writes fail when they are told to.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/books.h"
#include "journal/drops.h"
#include "journal/live.h"
#include "journal/ranges.h"

#include "lane_commit.h"
#include "os/sim.h"
#include "power_cuts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 400, SEGMENT = 64 << 10 };

static struct mr_journal *journal;
static struct mr_lane *lane;
static uint64_t seq_next;

static struct mr_recovery journal_take(void)
{
    struct mr_journal_options options = {
        .path = "/j",
        .name = "live",
        .lane_count = 1,
        .max_bytes = 6 * SEGMENT,
        .segment_bytes = SEGMENT,
        .block_bytes = 16384,
        .block_count = 12,
        .record_bytes_max = 8000,
        .when_full = MR_WHEN_FULL_DROP,
        .manual = true,
    };
    struct mr_recovery recovery = {0};
    struct mr_error why = {.text = ""};

    if (mr_journal_open(&journal, &options, &recovery, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    lane = mr_journal_lane(journal, 0);
    seq_next = mr_lane_next_seq(lane);
    return recovery;
}

static void start(void)
{
    mr_sim_start(7);
    (void)journal_take();
}

static void stop(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

/* Nothing is called lost that is not. */
static void reopen(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
    struct mr_recovery found = journal_take();
    mr_assert(found.seqs_lost == 0 && found.corrupt_ranges == 0);
}

static enum mr_err append(void)
{
    static uint8_t payload[SMALL];
    struct mr_appended out = {0};
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .client = mr_span_of("c"),
        .topic = mr_span_of("t"),
        .payload = mr_span_make(payload, sizeof(payload)),
    };
    enum mr_err err = mr_lane_append(lane, &record, NULL, &out);

    seq_next += err == MR_OK;
    return err;
}

static void keep(void)
{
    lane_commit(lane, seq_next - 1);
    mr_journal_step_keeper(journal);
}

/* So many more events; false: the lane is full before. */
static bool put(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        int tries = 0;
        while (append() != MR_OK) {
            keep();
            if (++tries == 4) {
                return false;
            }
        }
        if (i % 16 == 0) {
            keep();
        }
    }
    keep();
    return true;
}

static uint64_t oldest(void)
{
    struct mr_lane_stats stats;

    mr_lane_stats(lane, &stats);
    return stats.seq_oldest;
}

static struct mr_cursor *cursor_open(const char *name)
{
    struct mr_cursor *cursor = NULL;
    bool is_new;

    mr_assert(mr_cursor_open(journal, name, 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    return cursor;
}

static void rank(const char *name, uint32_t priority, bool may_drop)
{
    mr_cursors_rank(journal, name,
                    &(struct mr_cursor_rank){.priority = priority, .may_drop = may_drop});
}

/* As its bridge does when its target has taken all up to `seq`. */
static void deliver(struct mr_cursor *cursor, uint64_t seq)
{
    const uint64_t add[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = seq - mr_cursor_get(cursor)};

    mr_assert(mr_cursor_settle(cursor, seq, add));
}

static uint32_t cursors;

static void on_cursor(void *arg, const char *name, uint32_t in, uint64_t seq)
{
    (void)arg;
    (void)name;
    (void)in;
    (void)seq;
    cursors += 1;
}

static uint32_t cursor_count(void)
{
    cursors = 0;
    mr_cursor_list(journal, on_cursor, NULL);
    return cursors;
}

static struct mr_cursor *split_at(struct mr_cursor *cursor, uint64_t from)
{
    struct mr_cursor *live = NULL;
    struct mr_error why = {.text = ""};

    if (mr_cursor_live_begin(cursor, from, &live, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    mr_assert(mr_cursor_get(live) == from);
    return live;
}

static enum mr_err join(struct mr_cursor *cursor, struct mr_cursor *live)
{
    return mr_cursor_live_end(cursor, mr_cursor_get(live), mr_cursor_rule(cursor));
}

/* ---- a slot that cannot be freed ---- */

static struct mr_cursor *split_and_caught_up(struct mr_cursor **live)
{
    start();
    mr_assert(put(100));
    struct mr_cursor *cursor = cursor_open("kafka");
    *live = split_at(cursor, 60);
    deliver(*live, 100);
    deliver(cursor, 60);
    keep();
    return cursor;
}

/* The second write of a join is that which frees the slot. */
static void test_joined_on_a_full_disk(enum mr_sim_fault fault)
{
    struct mr_cursor *live = NULL;
    struct mr_cursor *cursor = split_and_caught_up(&live);

    mr_sim_inject(MR_SIM_WRITE, 2, 1, fault);
    mr_assert(join(cursor, live) == MR_OK && cursor_count() == 2);
    mr_sim_inject_clear();
    keep();
    mr_assert(cursor_count() == 1);
    /* It does not hold the journal any more. */
    deliver(cursor, mr_lane_durable(lane));
    for (int i = 0; i < 20; i++) {
        mr_assert(put(100));
        deliver(cursor, mr_lane_durable(lane));
    }
    mr_assert(oldest() > 1000);
    stop();
}

/* Without a round of the keeper in between. */
static void test_begun_again_on_a_full_disk(void)
{
    struct mr_cursor *live = NULL;
    struct mr_cursor *cursor = split_and_caught_up(&live);
    struct mr_error why = {.text = ""};

    mr_sim_inject(MR_SIM_WRITE, 2, 3, MR_SIM_FAULT_FULL);
    mr_assert(join(cursor, live) == MR_OK && cursor_count() == 2);
    mr_assert(mr_cursor_live_begin(cursor, 100, &live, &why) == MR_ERR_AGAIN);
    mr_assert(strstr(why.text, "kafka") != NULL);
    mr_assert(mr_cursor_live_begin(cursor, 100, &live, &why) == MR_ERR_AGAIN);
    live = split_at(cursor, 100);
    mr_assert(cursor_count() == 2);
    mr_assert(put(10));
    deliver(live, 110);
    mr_assert(join(cursor, live) == MR_OK && cursor_count() == 1);
    mr_assert(mr_cursor_get(cursor) == 110);
    stop();
}

/* Each of the writes of a beginning, and then that which takes it back.  It does without the second
 * copy of the new slot for a while.
 */
static void test_not_begun_on_a_full_disk(void)
{
    for (uint64_t nth = 1; nth <= 3; nth++) {
        for (uint64_t count = 1; count <= 2; count++) {
            struct mr_cursor *live = NULL;
            struct mr_error why = {.text = ""};
            start();
            mr_assert(put(100));
            struct mr_cursor *cursor = cursor_open("kafka");
            mr_sim_inject(MR_SIM_WRITE, nth, count, MR_SIM_FAULT_FULL);
            enum mr_err err = mr_cursor_live_begin(cursor, 60, &live, &why);
            mr_sim_inject_clear();
            keep();
            if (nth == 2 && count == 1) {
                mr_assert(err == MR_OK);
            } else {
                mr_assert(err == MR_ERR_AGAIN && strstr(why.text, "kafka") != NULL);
                mr_assert(cursor_count() == 1);
                live = split_at(cursor, 60);
            }
            mr_assert(cursor_count() == 2);
            reopen();
            cursor = cursor_open("kafka");
            mr_assert(mr_cursor_live_found(cursor, &live, NULL) == MR_OK && live != NULL);
            stop();
        }
    }
}

/* Left by a crash, of a bridge that nobody opens. */
static void test_left_of_a_bridge_that_is_gone(void)
{
    struct mr_cursor *live = NULL;
    struct mr_cursor *cursor = split_and_caught_up(&live);

    mr_sim_inject(MR_SIM_WRITE, 2, 0, MR_SIM_FAULT_FULL);
    mr_assert(join(cursor, live) == MR_OK && cursor_count() == 2);
    mr_sim_crash();
    mr_sim_inject_clear();
    (void)journal_take();
    keep();
    mr_assert(cursor_count() == 1);
    stop();
}

/* ---- the rank of its bridge ---- */

static struct mr_drop listed[16];
static size_t listed_count;

static void on_drop(void *arg, const struct mr_drop *drop)
{
    (void)arg;
    mr_assert(listed_count < MR_COUNT_OF(listed) && strcmp(drop->name, "kafka") == 0);
    listed[listed_count++] = *drop;
}

/* The ranges of the bridge are these, and no other. */
static void check_ranges(size_t count, const uint64_t (*ranges)[2])
{
    listed_count = 0;
    mr_drops_list(journal, on_drop, NULL);
    mr_assert(listed_count == count);
    for (size_t i = 0; i < count; i++) {
        bool found = false;
        for (size_t k = 0; k < count; k++) {
            found = found ||
                    (listed[k].seq_first == ranges[i][0] && listed[k].seq_last == ranges[i][1]);
        }
        mr_assert(found);
    }
}

/* Backlog from 51 to 100; of the fresh ones those up to `live_seq` are delivered. */
static struct mr_cursor *split_far_behind(uint64_t live_seq, struct mr_cursor **live)
{
    mr_assert(put(100));
    struct mr_cursor *cursor = cursor_open("kafka");
    deliver(cursor, 50);
    *live = split_at(cursor, 100);
    mr_assert(put(100));
    deliver(*live, live_seq);
    keep();
    return cursor;
}

static void fill_until_behind(uint64_t seq)
{
    while (oldest() <= seq) {
        mr_assert(put(10));
    }
}

/* What the second position has delivered lies in no range, what neither has lies in one. */
static void test_both_positions_drop(bool restart, bool orphan)
{
    struct mr_cursor *live = NULL;

    start();
    (void)split_far_behind(150, &live);
    if (restart || orphan) {
        reopen();
    }
    if (restart) {
        struct mr_cursor *cursor = cursor_open("kafka");
        mr_assert(mr_cursor_live_found(cursor, &live, NULL) == MR_OK);
        mr_assert(mr_cursor_get(live) == 150);
    }
    if (!orphan) {
        rank("kafka", 100, true);
    }
    mr_drops_arm(journal);
    fill_until_behind(600);
    const uint64_t ranges[2][2] = {{51, 100}, {151, oldest() - 1}};
    check_ranges(2, ranges);
    mr_assert(mr_drops_in(journal, "kafka", 0, 51, 200) == 50 + 50);
    mr_assert(mr_drops_in(journal, "$live-kafka", 0, 1, 1000) == 0);
    reopen();
    mr_drops_arm(journal);
    if (!orphan) {
        struct mr_cursor *cursor = cursor_open("kafka");
        mr_assert(mr_cursor_live_found(cursor, &live, NULL) == MR_OK);
        mr_assert(mr_cursor_get(cursor) == 50 && mr_cursor_get(live) == 150);
        rank("kafka", 100, true);
    }
    fill_until_behind(900);
    const uint64_t longer[2][2] = {{51, 100}, {151, oldest() - 1}};
    check_ranges(2, longer);
    stop();
}

/* The second one has delivered nothing yet: what the bridge gives up is one range. */
static void test_one_range_where_it_is_one(void)
{
    struct mr_cursor *live = NULL;

    start();
    struct mr_cursor *cursor = split_far_behind(100, &live);
    rank("kafka", 100, true);
    mr_drops_arm(journal);
    fill_until_behind(400);
    const uint64_t range[1][2] = {{51, oldest() - 1}};
    check_ranges(1, range);
    /* Joined, it goes on from there. */
    mr_assert(mr_cursor_live_end(cursor, 100, mr_cursor_rule(cursor)) == MR_OK);
    mr_assert(cursor_count() == 1);
    fill_until_behind(700);
    const uint64_t longer[1][2] = {{51, oldest() - 1}};
    check_ranges(1, longer);
    mr_assert(mr_cursor_get(cursor) == 100);
    stop();
}

/* Nobody drops anything, and the log names the bridge. */
static void test_neither_drops_where_the_bridge_may_not(void)
{
    struct mr_cursor *live = NULL;

    start();
    struct mr_cursor *cursor = split_far_behind(120, &live);
    rank("kafka", 900, false);
    mr_drops_arm(journal);
    mr_assert(!put(2000) && oldest() == 1);
    mr_assert(strstr(mr_lane_state_text(lane), "'kafka' needs what is behind record 50 ") != NULL);
    deliver(cursor, 100); /* so that the second one is what holds it */
    keep();
    mr_assert(!put(2000) && oldest() == 1);
    mr_assert(strstr(mr_lane_state_text(lane), "'kafka' needs what is behind record 120 ") != NULL);
    check_ranges(0, NULL);
    /* A reload takes the bridge out of the configuration. */
    mr_cursors_rank(journal, "kafka", &mr_rank_of_nobody);
    fill_until_behind(200);
    const uint64_t range[1][2] = {{121, oldest() - 1}};
    check_ranges(1, range);
    stop();
}

/* Who is to configure it again, or to forget it, is told its name, not that of the slot. */
static void test_the_holder_is_the_bridge(void)
{
    struct mr_cursor *live = NULL;

    start();
    struct mr_cursor *cursor = split_far_behind(150, &live);
    deliver(cursor, 100);
    reopen();
    mr_assert(!put(2000)); /* not armed */
    const char *text = mr_lane_state_text(lane);
    mr_assert(strstr(text, "journal forget kafka ") != NULL && strstr(text, "$live") == NULL);
    mr_assert(mr_cursor_forget(journal, "kafka") == MR_OK && cursor_count() == 0);
    stop();
}

/* ---- books of both ---- */

static int64_t difference_now(struct mr_cursor *cursor)
{
    struct mr_books books;
    uint64_t ahead = 0;
    uint64_t seq = mr_cursor_books_all(cursor, &books, &ahead);

    return mr_books_difference(&books, seq + ahead);
}

/* One record more, and a delivery too many in its books. */
static bool miscount(struct mr_cursor *cursor)
{
    const uint64_t add[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = 2};

    return mr_cursor_settle(cursor, mr_cursor_get(cursor) + 1, add);
}

static void check_accepted(struct mr_cursor *cursor, int64_t accepted)
{
    struct mr_books books;
    uint64_t ahead = 0;

    (void)mr_cursor_books_all(cursor, &books, &ahead);
    mr_assert(difference_now(cursor) == 0 && books.accepted == accepted);
}

/* They are off at the position that is `wrong`: 0 the first, 1 the second. */
static void test_books_are_accepted_while_there_are_two(int wrong)
{
    struct mr_cursor *live = NULL;
    int64_t difference = 0;

    start();
    struct mr_cursor *cursor = split_far_behind(150, &live);
    mr_assert(mr_cursor_accept(cursor, "nothing", &difference) == MR_ERR_REJECT);
    mr_assert(!miscount(wrong == 0 ? cursor : live) && difference_now(cursor) == 1);
    mr_assert(mr_cursor_accept(cursor, "looked at", &difference) == MR_OK && difference == 1);
    check_accepted(cursor, 1);
    deliver(cursor, 60); /* and whoever settles is told that they balance */
    deliver(live, 160);
    reopen();
    cursor = cursor_open("kafka");
    mr_assert(mr_cursor_live_found(cursor, &live, NULL) == MR_OK && live != NULL);
    check_accepted(cursor, 1);
    deliver(live, 170);
    /* Off once more, at the other one. */
    mr_assert(!miscount(wrong == 0 ? live : cursor) && difference_now(cursor) == 1);
    mr_assert(mr_cursor_accept(cursor, "once more", &difference) == MR_OK && difference == 1);
    deliver(cursor, 100);
    mr_assert(join(cursor, live) == MR_OK);
    check_accepted(cursor, 2);
    deliver(cursor, 180);
    reopen();
    check_accepted(cursor_open("kafka"), 2);
    stop();
}

/* ---- power cuts ---- */

static struct mr_cursor *cut_cursor;
static struct mr_cursor *cut_live;

static void drop_join_and_go_on(void *arg)
{
    (void)arg;
    mr_assert(put(600));
    deliver(cut_cursor, 100);
    mr_assert(join(cut_cursor, cut_live) == MR_OK);
    mr_assert(put(600));
}

/* Whatever the cut hits: what neither had passed is there, or in a range. */
static void check_after_cut(const struct mr_recovery *found)
{
    struct mr_cursor *cursor = cursor_open("kafka");
    struct mr_cursor *live = NULL;

    mr_assert(found->seqs_lost == 0 && found->corrupt_ranges == 0);
    mr_assert(mr_cursor_live_found(cursor, &live, NULL) == MR_OK);
    uint64_t last = oldest() - 1;
    uint64_t first = mr_cursor_get(cursor);
    uint64_t to = live == NULL || last < 100 ? last : 100;
    mr_assert(first >= to || mr_drops_in(journal, "kafka", 0, first + 1, to) == to - first);
    uint64_t second = live == NULL ? last : mr_cursor_get(live);
    mr_assert(second >= last ||
              mr_drops_in(journal, "kafka", 0, second + 1, last) == last - second);
    mr_assert(mr_drops_in(journal, "kafka", 0, 101, 150) == 0); /* the second one had them */
    rank("kafka", 1, true);
}

static bool cut_at(enum mr_sim_call call, uint64_t nth)
{
    struct mr_recovery found = {0};

    mr_sim_start(nth * MR_SIM_CALLS + (uint64_t)call + 1);
    (void)journal_take();
    cut_cursor = split_far_behind(150, &cut_live);
    rank("kafka", 1, true);
    mr_drops_arm(journal);
    mr_assert(put(600)); /* from here on it drops */
    mr_sim_inject(call, nth, 1, MR_SIM_FAULT_CRASH);
    bool whole = mr_sim_run(drop_join_and_go_on, NULL);
    mr_sim_inject_clear();
    if (!whole) {
        found = journal_take();
    }
    check_after_cut(&found);
    mr_drops_arm(journal);
    mr_assert(put(600)); /* and it goes on */
    reopen();
    check_after_cut(&found);
    stop();
    return !whole;
}

int main(void)
{
    mr_log_set_level(getenv("MR_TEST_LOG") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR + 1);
    test_joined_on_a_full_disk(MR_SIM_FAULT_FULL);
    test_joined_on_a_full_disk(MR_SIM_FAULT_IO);
    test_begun_again_on_a_full_disk();
    test_not_begun_on_a_full_disk();
    test_left_of_a_bridge_that_is_gone();
    test_both_positions_drop(false, false);
    test_both_positions_drop(true, false);
    test_both_positions_drop(false, true);
    test_one_range_where_it_is_one();
    test_neither_drops_where_the_bridge_may_not();
    test_the_holder_is_the_bridge();
    test_books_are_accepted_while_there_are_two(0);
    test_books_are_accepted_while_there_are_two(1);
    power_cuts(cut_at);
    return 0;
}
