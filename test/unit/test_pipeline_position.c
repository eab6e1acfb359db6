/* test_pipeline_position.c
 * links: pipeline journal codec config os base
 *
 * Goal:   with a target that keeps a position beside its data every event arrives exactly
 *         once, through failed commits, commits whose outcome is unknown, and crashes that
 *         leave the cursor behind; where cursor and position differ, the right one is believed.
 * Method: a vault that takes data and position in one step, as a seeded die says, behind the
 *         scripted sink's events; the bridge is stepped by hand and counted by one byte per seq.
 *         The seed is printed: ./test_pipeline_position <seed>
 */
#include "base/log.h"
#include "cursor_table.h"
#include "journal/books.h"
#include "journal/drops.h"
#include "os/clock.h"
#include "vault_sink.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- helpers ---- */

static const struct scripted_conf conf = {
    .topic = "t_${topic[2]}", .key = "${clientid}", .dests_max = 100};

static void vault_forget(void)
{
    vault_empty();
    memset(delivered, 0, sizeof(delivered));
    memset(newest_of, 0, sizeof(newest_of));
}

static struct mr_journal *begin(void)
{
    vault_forget();
    return journal_make();
}

static bool said_another;

static void on_line(const char *line, size_t len)
{
    static const char another[] = "another one was delivered to meanwhile";

    said_another = said_another || memmem(line, len, another, sizeof(another) - 1) != NULL;
    if (getenv("MR_TEST_LOG") != NULL) {
        (void)fwrite(line, 1, len, stderr);
    }
}

static int64_t now_ns;       /* the bridge's time */
static bool believes = true; /* the cursor never passes the position */

/* Step until the cursor is at `last`, `steps` are done (0: any number) or it is stopped. */
static enum mr_bridge_state run(struct mr_bridge *bridge, uint64_t last, uint64_t steps)
{
    struct mr_bridge_stats stats;
    int64_t until_ns = mr_clock_mono_ns() + (int64_t)120 * 1000000000;

    do {
        int64_t sleep_ns = mr_bridge_step(bridge, now_ns);
        now_ns += sleep_ns > 5000000 ? 5000000 : sleep_ns + 1000;
        mr_bridge_stats(bridge, &stats);
        mr_assert(!believes || stats.cursor_seq <= vaulted[0].seq);
        mr_assert(mr_clock_mono_ns() < until_ns);
    } while (stats.cursor_seq < last && stats.state != MR_BRIDGE_STOPPED && --steps != 0);
    return stats.state;
}

/* The cursor is ahead of the position; until the target has everything up to `last`. */
static void deliver_from(struct mr_bridge *bridge, uint64_t last)
{
    uint64_t placed = places;

    believes = false;
    while (places == placed) {
        (void)run(bridge, UINT64_MAX, 1);
    }
    believes = true;
    (void)run(bridge, last, 0);
}

static void end(struct mr_bridge *bridge)
{
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
}

static struct mr_cursor *cursor_of(struct mr_journal *journal)
{
    struct mr_cursor *cursor = NULL;
    struct mr_error why;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, &why) == MR_OK);
    return cursor;
}

static void check_copies(uint64_t from, uint64_t to, unsigned wanted)
{
    for (uint64_t seq = from; seq <= to; seq++) {
        mr_assert(!is_dead(seq) || copies[seq] == 0);
        mr_assert(copies[seq] == (fate_of(seq) == FATE_SEND ? wanted : 0));
    }
}

/* ---- tests ---- */

static void test_every_event_exactly_once(uint64_t seed)
{
    journal_keep_us = (uint64_t)3600 * 1000000; /* a crash that takes the cursor back */
    struct mr_journal *journal = begin();
    struct mr_rng rng;
    enum mr_bridge_state state = MR_BRIDGE_UP;

    mr_rng_seed(&rng, seed);
    die_seed = seed;
    trouble_percent = 20;
    with_faults = true;
    append_all(mr_journal_lane(journal, 0), 1, EVENTS);
    for (bool done = false; !done;) {
        struct mr_bridge *bridge = bridge_make(journal, &conf);
        struct mr_bridge_stats stats;
        state = run(bridge, EVENTS, 200 + mr_rng_below(&rng, 600));
        mr_bridge_stats(bridge, &stats);
        done = stats.cursor_seq == EVENTS;
        end(bridge);
        /* A crash: the cursor on disk may be older than the position. */
        struct mr_cursor *cursor = cursor_of(journal);
        uint64_t seq = mr_cursor_get(cursor);
        mr_assert(mr_cursor_rule(cursor) == MR_CURSOR_FOLLOWS);
        if (!done) {
            mr_assert(mr_cursor_put(cursor, seq - mr_rng_below(&rng, seq / 2 + 1),
                                    MR_CURSOR_FOLLOWS) == MR_OK);
        }
        mr_cursor_close(cursor);
        die_seed += 1;
    }
    mr_assert(state != MR_BRIDGE_STOPPED && vaulted[0].seq == EVENTS);
    check_copies(1, EVENTS, 1);
    with_faults = false;
    journal_remove(journal);
    journal_keep_us = 0;
}

static struct mr_books_row books;

static void on_books(void *arg, const struct mr_books_row *row)
{
    (void)arg;
    books = *row;
}

/* Each event has come once, or is in a range; how many of those did not come. */
static uint64_t count_missing(struct mr_journal *journal)
{
    uint64_t missing = 0;

    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        mr_assert(copies[seq] <= 1);
        if (fate_of(seq) == FATE_SEND && copies[seq] == 0) {
            mr_assert(mr_drops_in(journal, "test", 0, seq, seq) == 1);
            missing += 1;
        }
    }
    return missing;
}

/* Ranges go while transactions are open, their outcome is unknown, or a crash has left the cursor
 * behind the position, which may then lie in the middle of what was dropped.  How many are missing:
 * none if the bridge was quick enough each time.
 */
static uint64_t what_is_dropped_comes_once_or_not_at_all(uint64_t seed)
{
    struct mr_rng rng;
    uint64_t missing = 0;

    mr_rng_seed(&rng, seed);
    vault_forget();
    folder_make();
    trouble_percent = 20;
    for (uint64_t last = 1500; last <= EVENTS; last += 1500) {
        struct mr_recovery recovery;
        struct mr_journal *journal = journal_small(&recovery);
        struct mr_bridge *bridge = bridge_make(journal, &conf);

        mr_assert(recovery.seqs_lost == 0);
        mr_cursors_rank(journal, "test", &(struct mr_cursor_rank){.priority = 1, .may_drop = true});
        mr_drops_arm(journal);
        (void)run(bridge, EVENTS, mr_rng_below(&rng, 12) + 1);
        append_all(mr_journal_lane(journal, 0), last - 1499, last);
        (void)run(bridge, EVENTS, last == EVENTS ? 0 : mr_rng_below(&rng, 12) + 1);
        end(bridge);
        struct mr_cursor *cursor = cursor_of(journal);
        uint64_t seq = mr_cursor_get(cursor);
        struct mr_lane_stats stats;
        mr_lane_stats(mr_journal_lane(journal, 0), &stats);
        if (last != EVENTS &&
            seq >= stats.seq_oldest) { /* no further: the rest was passed on disk */
            seq -= mr_rng_below(&rng, seq - stats.seq_oldest + 2);
            mr_assert(mr_cursor_put(cursor, seq, mr_cursor_rule(cursor)) == MR_OK);
        }
        mr_cursor_close(cursor);
        mr_books_list(journal, on_books, NULL);
        mr_assert(mr_books_difference(&books.books, books.seq) == 0);
        mr_assert(books.books.columns[MR_COLUMN_LOST] == 0);
        missing = last == EVENTS ? count_missing(journal) : 0;
        mr_assert(mr_journal_close(journal) == MR_OK);
    }
    mr_assert(books.books.columns[MR_COLUMN_DROPPED] >= missing);
    folder_remove();
    return missing;
}

static void test_what_is_dropped_comes_once_or_not_at_all(uint64_t seed)
{
    for (int i = 0; what_is_dropped_comes_once_or_not_at_all(seed + 1000 * i) == 0; i++) {
        mr_assert(i < 50);
    }
}

/* The bridge passes what was dropped, and a crash takes its cursor back in front of that: the
 * target's position lies behind it, and does not make of what was dropped something confirmed.
 */
static void test_what_a_position_has_passed_may_be_dropped(void)
{
    struct mr_recovery recovery;

    vault_forget();
    folder_make();
    struct mr_journal *journal = journal_small(&recovery);
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    mr_cursors_rank(journal, "test", &(struct mr_cursor_rank){.priority = 1, .may_drop = true});
    append_all(mr_journal_lane(journal, 0), 1, 100);
    (void)run(bridge, 100, 0);
    end(bridge);
    mr_drops_arm(journal);
    append_all(mr_journal_lane(journal, 0), 101, 4000);
    mr_assert(mr_journal_close(journal) == MR_OK);
    table_file(false);
    journal = journal_small(&recovery);
    bridge = bridge_make(journal, &conf);
    (void)run(bridge, 4000, 0);
    end(bridge);
    mr_books_list(journal, on_books, NULL);
    const uint64_t dropped = books.books.columns[MR_COLUMN_DROPPED];
    mr_assert(dropped != 0 && mr_drops_in(journal, "test", 0, 1, 4000) == dropped);
    mr_assert(mr_journal_close(journal) == MR_OK);
    table_file(true);

    journal = journal_small(&recovery);
    mr_books_list(journal, on_books, NULL);
    mr_assert(books.seq == 100);
    bridge = bridge_make(journal, &conf);
    (void)run(bridge, 4000, 0);
    end(bridge);
    mr_books_list(journal, on_books, NULL);
    mr_assert(books.seq == 4000 && mr_books_difference(&books.books, books.seq) == 0);
    mr_assert(books.books.columns[MR_COLUMN_DROPPED] == dropped);
    mr_assert(books.books.columns[MR_COLUMN_CONFIRMED] == 3900 - dropped);
    check_copies(101 + dropped, 4000, 1);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

/* What no filter matches moves the position too, and is no reason to fill the ring. */
static void test_skipped_events_move_the_position(void)
{
    struct mr_journal *journal = begin();
    struct mr_error why;
    static const char *const nothing[] = {"nothing/like/this"};
    struct mr_bridge_conf bare = bridge_conf;
    struct mr_bridge_options_run options = run_options(journal, &conf);
    struct mr_bridge *bridge = NULL;

    bare.from = (struct mr_list){.items = (const char **)(uintptr_t)nothing, .count = 1};
    options.conf = &bare;
    append_all(mr_journal_lane(journal, 0), 1, EVENTS);
    mr_assert(mr_bridge_create(&bridge, &options, &why) == MR_OK);
    mr_assert(run(bridge, EVENTS, 0) != MR_BRIDGE_STOPPED);
    mr_assert(vaulted[0].seq == EVENTS && commits != 0);
    end(bridge);
    journal_remove(journal);
}

static void test_stops_when_the_position_is_beyond_the_journal(void)
{
    struct mr_journal *journal = begin();
    struct mr_bridge_stats stats;

    append_all(mr_journal_lane(journal, 0), 1, 100);
    vaulted[0].has = true;
    vaulted[0].seq = 101;
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    mr_assert(run(bridge, 100, 0) == MR_BRIDGE_STOPPED);
    mr_bridge_stats(bridge, &stats);
    mr_assert(strstr(stats.last_error, "names record 101") != NULL);
    mr_assert(strstr(stats.last_error, "bridge seek test --lane 0") != NULL);
    mr_assert(commits == 0 && places == 0);
    end(bridge);

    /* The operator says where to go on: the target is told, and it delivers. */
    struct mr_cursor *cursor = cursor_of(journal);
    mr_assert(mr_cursor_seek(cursor, 40) == MR_OK);
    mr_cursor_close(cursor);
    bridge = bridge_make(journal, &conf);
    mr_assert(run(bridge, 100, 0) == MR_BRIDGE_UP);
    end(bridge);
    check_copies(1, 40, 0);
    check_copies(41, 100, 1);
    journal_remove(journal);
}

/* The target lost what it had confirmed: what it lacks comes again. */
static void test_goes_back_to_an_older_position(void)
{
    struct mr_journal *journal = begin();

    journal_keep_us = (uint64_t)3600 * 1000000;
    append_all(mr_journal_lane(journal, 0), 1, 500);
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    (void)run(bridge, 500, 0);
    end(bridge);
    vaulted[0].seq = 200;
    bridge = bridge_make(journal, &conf);
    deliver_from(bridge, 500);
    end(bridge);
    check_copies(1, 200, 1);
    check_copies(201, 500, 2);
    journal_keep_us = 0;
    journal_remove(journal);
}

/* Without a position the cursor is all there is. */
static void test_goes_on_at_the_cursor_when_the_position_is_gone(void)
{
    struct mr_journal *journal = begin();

    append_all(mr_journal_lane(journal, 0), 1, 300);
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    (void)run(bridge, 300, 0);
    end(bridge);
    vaulted[0].has = false;
    append_all(mr_journal_lane(journal, 0), 301, 600);
    bridge = bridge_make(journal, &conf);
    deliver_from(bridge, 600);
    end(bridge);
    check_copies(1, 600, 1);
    journal_remove(journal);
}

/* Another target for a while, then the first one again: each has all from where it was. */
static void test_two_targets_in_turn(void)
{
    static uint8_t copies_of_first[EVENTS * 2 + 1];
    struct mr_journal *journal = begin();

    journal_keep_us = (uint64_t)3600 * 1000000;
    append_all(mr_journal_lane(journal, 0), 1, 300);
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    (void)run(bridge, 300, 0);
    end(bridge);
    const struct vaulted first = vaulted[0];
    memcpy(copies_of_first, copies, sizeof(copies));
    vault_forget();
    append_all(mr_journal_lane(journal, 0), 301, 600);
    bridge = bridge_make(journal, &conf);
    deliver_from(bridge, 600);
    end(bridge);
    check_copies(1, 300, 0);
    check_copies(301, 600, 1);
    vault_forget();
    vaulted[0] = first;
    memcpy(copies, copies_of_first, sizeof(copies));
    append_all(mr_journal_lane(journal, 0), 601, 700);
    said_another = false;
    bridge = bridge_make(journal, &conf);
    deliver_from(bridge, 700);
    end(bridge);
    mr_assert(said_another);
    check_copies(1, 700, 1);
    journal_keep_us = 0;
    journal_remove(journal);
}

/* Delivered at least once in between: the old position does not count. */
static void test_does_not_believe_a_position_it_has_left_behind(void)
{
    struct mr_journal *journal = begin();

    append_all(mr_journal_lane(journal, 0), 1, 300);
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    (void)run(bridge, 300, 0);
    end(bridge);
    append_all(mr_journal_lane(journal, 0), 301, 600);
    sink_ops = &scripted_sink;
    memset(newest_of, 0, sizeof(newest_of));
    bridge = bridge_make(journal, &conf);
    believes = false;
    (void)run(bridge, 600, 0);
    believes = true;
    end(bridge);
    sink_ops = &vault_sink;
    append_all(mr_journal_lane(journal, 0), 601, 700);
    mr_assert(vaulted[0].seq == 300);
    bridge = bridge_make(journal, &conf);
    deliver_from(bridge, 700);
    end(bridge);
    check_copies(1, 300, 1);
    check_copies(301, 600, 0); /* they went the other way */
    check_copies(601, 700, 1);
    journal_remove(journal);
}

/* A cursor that was forgotten and made anew, and delivered at least once since. */
static void test_does_not_believe_a_position_of_an_earlier_life(void)
{
    struct mr_journal *journal = begin();

    append_all(mr_journal_lane(journal, 0), 1, 300);
    sink_ops = &scripted_sink;
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    believes = false;
    (void)run(bridge, 300, 0);
    believes = true;
    end(bridge);
    sink_ops = &vault_sink;
    vaulted[0].has = true;
    vaulted[0].seq = 100;
    append_all(mr_journal_lane(journal, 0), 301, 400);
    bridge = bridge_make(journal, &conf);
    deliver_from(bridge, 400);
    end(bridge);
    check_copies(1, 300, 0);
    check_copies(301, 400, 1);
    journal_remove(journal);
}

static void turn(struct mr_bridge *bridge)
{
    mr_bridge_step(bridge, now_ns++);
}

/* A seek of a running bridge is in the target before anything is offered from there. */
static void test_a_seek_tells_the_target(void)
{
    struct mr_journal *journal = begin();

    journal_keep_us = (uint64_t)3600 * 1000000;
    append_all(mr_journal_lane(journal, 0), 1, 400);
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    (void)run(bridge, 400, 0);
    seek_running(bridge, 100, turn);
    (void)run(bridge, 400, 0);
    end(bridge);
    check_copies(1, 100, 1);
    check_copies(101, 400, 2);
    journal_keep_us = 0;
    journal_remove(journal);
}

/* What it has taken waits for a commit, which ends the offering: so it may take more of it. */
static void test_a_target_that_commits_takes_more(void)
{
    enum { HELD = 3000, OFFERED = 4500 };
    struct mr_journal *journal = begin();
    struct mr_bridge_conf small = bridge_conf;
    struct mr_bridge_stats stats;

    small.inflight_records = HELD / 3;
    conf_now = &small;
    append_all(mr_journal_lane(journal, 0), 1, 100);
    struct mr_bridge *bridge = bridge_make(journal, &conf);
    (void)run(bridge, 100, 0);
    is_silent = true;
    append_all(mr_journal_lane(journal, 0), 101, OFFERED);
    for (int i = 0; i < 100; i++) {
        stats = bridge_turn(bridge, &now_ns);
        mr_assert(stats.inflight <= HELD);
    }
    mr_assert(stats.inflight == HELD);
    is_silent = false;
    (void)run(bridge, OFFERED, 0);
    end(bridge);
    check_copies(1, OFFERED, 1);
    conf_now = &bridge_conf;
    journal_remove(journal);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)mr_clock_wall_us() % 100000;
    struct mr_error why;

    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    mr_log_set_level(getenv("MR_TEST_LOG") != NULL ? MR_LOG_DEBUG : MR_LOG_WARN);
    mr_log_set_writer(on_line);
    mr_assert(mr_wake_open(&owner, &why) == MR_OK);
    now_ns = mr_clock_mono_ns();
    vault_make();
    for (uint64_t i = 0; i < 2; i++) {
        test_every_event_exactly_once(seed + 100 * i);
    }
    test_what_is_dropped_comes_once_or_not_at_all(seed);
    test_what_a_position_has_passed_may_be_dropped();
    test_skipped_events_move_the_position();
    test_stops_when_the_position_is_beyond_the_journal();
    test_goes_back_to_an_older_position();
    test_goes_on_at_the_cursor_when_the_position_is_gone();
    test_two_targets_in_turn();
    test_does_not_believe_a_position_it_has_left_behind();
    test_does_not_believe_a_position_of_an_earlier_life();
    test_a_seek_tells_the_target();
    test_a_target_that_commits_takes_more();
    mr_wake_close(&owner);
    return 0;
}
