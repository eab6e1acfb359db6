/* test_pipeline_live.c
 * links: pipeline journal codec config os base
 *
 * Goal:   with drain: live_first fresh events overtake a backlog, which follows at its rate and is
 *         marked; each of the two streams is in order, every event is delivered (exactly once
 *         where the target keeps a position), and the books balance: through failures, crashes
 *         at any moment, seeks, pauses, and a configuration that wants it in order again.  Books
 *         that are off are said, and can be accepted, at either.
 * Method: the scripted sink and the vault, which count each record, behind a real journal; both
 *         workers are stepped by hand.  A crash puts back the table of cursors as it was on disk
 *         in that moment, while the target keeps what it has.
 *         The seed is printed: ./test_pipeline_live <seed>
 */
#include "base/log.h"
#include "cursor_table.h"
#include "journal/live.h"
#include "journal/ranges.h"
#include "os/clock.h"
#include "said.h"
#include "vault_sink.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- helpers ---- */

static const struct scripted_conf plain = {.topic = "t_${topic[2]}", .key = "${clientid}"};
static const struct scripted_conf rough = {.topic = "t_${topic[2]}",
                                           .key = "${clientid}",
                                           .headers = MR_HEADERS_ID,
                                           .full_percent = 10,
                                           .retry_per_mille = 30};

static struct mr_bridge_conf live_conf; /* of the bridges made */
static int64_t now_ns;                  /* their time */

static struct mr_journal *begin(void)
{
    live_conf = bridge_conf;
    conf_now = &live_conf;
    live_conf.drain = MR_DRAIN_LIVE_FIRST;
    live_conf.live_after_us = 60 * 1000000; /* the events are years old */
    live_conf.backfill_rate = 1000000;
    vault_empty();
    with_faults = false;
    return journal_make();
}

static void end(struct mr_bridge *bridge)
{
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
}

static bool any_order; /* a seek: what was passed over comes behind what is newer */

static struct mr_bridge_stats step(struct mr_bridge *bridge)
{
    if (any_order) {
        memset(newest_of, 0, sizeof(newest_of));
    }
    struct mr_bridge_stats stats = bridge_turn(bridge, &now_ns);

    mr_assert(!stats.live.open || stats.cursor_seq <= stats.live.from);
    return stats;
}

enum until { UNTIL_OPEN, UNTIL_LIVE, UNTIL_JOINED, UNTIL_CURSOR };

/* Step until there are two positions, the second is at `seq`, there is one, it is at `seq`. */
static struct mr_bridge_stats run(struct mr_bridge *bridge, enum until until, uint64_t seq)
{
    int64_t stop_ns = mr_clock_mono_ns() + (int64_t)120 * 1000000000;
    struct mr_bridge_stats stats;
    bool there = false;

    while (!there) {
        stats = step(bridge);
        there = until == UNTIL_OPEN   ? stats.live.open
                : until == UNTIL_LIVE ? stats.live.open && stats.live.seq >= seq
                                      : !stats.live.open && stats.cursor_seq >= seq;
        mr_assert(mr_clock_mono_ns() < stop_ns);
    }
    return stats;
}

static void check_delivered(uint64_t from, uint64_t to, bool backfill)
{
    for (uint64_t seq = from; seq <= to; seq++) {
        mr_assert(delivered[seq] == (fate_of(seq) == FATE_SEND));
        mr_assert(backfilled[seq] == (delivered[seq] && backfill));
    }
}

static struct mr_books_row row;

static void on_row(void *arg, const struct mr_books_row *found)
{
    (void)arg;
    mr_assert(row.name == NULL); /* one of the bridge, with both positions */
    row = *found;
}

static void books_look(struct mr_journal *journal)
{
    row = (struct mr_books_row){.name = NULL};
    mr_books_list(journal, on_row, NULL);
    mr_assert(row.name != NULL && row.books.begin == 0);
    mr_assert(mr_books_difference(&row.books, row.seq + row.ahead) == 0);
}

static uint32_t cursors;

static void on_cursor(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    (void)arg;
    (void)name;
    (void)lane;
    (void)seq;
    cursors += 1;
}

static uint32_t cursor_count(struct mr_journal *journal)
{
    cursors = 0;
    mr_cursor_list(journal, on_cursor, NULL);
    return cursors;
}

/* ---- one at a time ---- */

static void test_fresh_events_overtake_a_backlog(void)
{
    struct mr_journal *journal = begin();

    live_conf.backfill_rate = 2000;
    append_all(mr_journal_lane(journal, 0), 1, 3000);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    struct mr_bridge_stats stats = run(bridge, UNTIL_OPEN, 0);
    int64_t begun_ns = now_ns;
    mr_assert(stats.live.from == 3000 && stats.cursor_seq < 3000);
    uint64_t already = stats.cursor_seq; /* in flight when the target was found to be there */
    append_all(mr_journal_lane(journal, 0), 3001, 3200);
    stats = run(bridge, UNTIL_LIVE, 3200);
    mr_assert(stats.cursor_seq < 3000 && stats.lag_records == 3000 - stats.cursor_seq);
    books_look(journal);
    mr_assert(row.ahead == 200 && row.seq == stats.cursor_seq);
    run(bridge, UNTIL_JOINED, 3200);
    check_delivered(1, already, false);
    check_delivered(already + 1, 3000, true);
    check_delivered(3001, 3200, false);
    /* So many events a second; some of them match no filter, and need none. */
    mr_assert(now_ns - begun_ns > (int64_t)(3000 - already) * 8 / 10 * 500000);
    append_all(mr_journal_lane(journal, 0), 3201, 3300);
    run(bridge, UNTIL_CURSOR, 3300);
    check_delivered(3201, 3300, false);
    mr_assert(cursor_count(journal) == 1);
    end(bridge);
    journal_remove(journal);
}

/* One position: the books' sum is that of any bridge. */
static void test_stays_in_order_where_that_is_wanted_or_little_waits(void)
{
    for (int what = 0; what < 3; what++) {
        struct mr_journal *journal = begin();
        uint64_t last = what == 1 ? 999 : 3000;
        if (what == 0) {
            live_conf.drain = MR_DRAIN_ORDERED;
        } else if (what == 2) {
            live_conf.live_after_us = (uint64_t)100 * 365 * 86400 * 1000000;
        }
        append_all(mr_journal_lane(journal, 0), 1, last);
        struct mr_bridge *bridge = bridge_make(journal, &plain);
        struct mr_bridge_stats stats;
        do {
            stats = step(bridge);
            mr_assert(!stats.live.open);
        } while (stats.cursor_seq < last);
        check_delivered(1, last, false);
        end(bridge);
        journal_remove(journal);
    }
}

/* A name that leaves no room for the second position's. */
static void test_a_name_that_is_too_long_is_drained_in_order(void)
{
    static const char name[] =
        "a-bridge-with-a-name-of-one-hundred-and-twenty-three-bytes-which-is-more-than-anybody-"
        "would-type-but-not-more-than-a-cursor-has";
    struct mr_journal *journal = begin();

    mr_assert(sizeof(name) - 1 > 122 && sizeof(name) - 1 <= MR_CURSOR_NAME_MAX);
    name_now = name;
    append_all(mr_journal_lane(journal, 0), 1, 2000);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    run(bridge, UNTIL_CURSOR, 2000);
    check_delivered(1, 2000, false);
    end(bridge);
    name_now = "test";
    journal_remove(journal);
}

/* The configuration wants it in order: fresh events wait until the backlog is through. */
static void test_back_to_ordered(void)
{
    struct mr_journal *journal = begin();

    live_conf.backfill_rate = 1000;
    append_all(mr_journal_lane(journal, 0), 1, 3000);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    run(bridge, UNTIL_OPEN, 0);
    append_all(mr_journal_lane(journal, 0), 3001, 3100);
    run(bridge, UNTIL_LIVE, 3100);
    end(bridge);

    live_conf.drain = MR_DRAIN_ORDERED;
    append_all(mr_journal_lane(journal, 0), 3101, 3200);
    bridge = bridge_make(journal, &plain);
    struct mr_bridge_stats stats = step(bridge);
    mr_assert(stats.live.open);
    while (stats.live.open) {
        mr_assert(stats.live.seq == 3100);
        stats = step(bridge);
    }
    run(bridge, UNTIL_CURSOR, 3200);
    check_delivered(3001, 3200, false);
    mr_assert(delivered[3000] && backfilled[3000]);
    end(bridge);
    journal_remove(journal);
}

static void test_paused_and_resumed(void)
{
    struct mr_journal *journal = begin();

    live_conf.backfill_rate = 1000;
    append_all(mr_journal_lane(journal, 0), 1, 2000);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    run(bridge, UNTIL_OPEN, 0);
    mr_assert(mr_cursor_pause(journal, "test", true) == MR_OK);
    struct mr_bridge_stats stats;
    for (int i = 0; i < 300; i++) {
        stats = step(bridge);
    }
    uint64_t held = stats.cursor_seq;
    append_all(mr_journal_lane(journal, 0), 2001, 2100);
    for (int i = 0; i < 300; i++) {
        stats = step(bridge);
        mr_assert(stats.state == MR_BRIDGE_PAUSED);
    }
    mr_assert(stats.live.seq == 2000 && stats.cursor_seq == held);
    mr_assert(mr_cursor_pause(journal, "test", false) == MR_OK);
    run(bridge, UNTIL_JOINED, 2100);
    check_delivered(2001, 2100, false);
    end(bridge);
    journal_remove(journal);
}

/* ---- seeks ---- */

static void turn(struct mr_bridge *bridge)
{
    (void)step(bridge);
}

/* A seek ends the second position: all goes on behind the new place, in order. */
static void test_a_seek_ends_it(bool running)
{
    static const uint64_t targets[] = {0, 1500, 2050, 2150};

    journal_keep_us = (uint64_t)3600 * 1000000;
    for (size_t i = 0; i < MR_COUNT_OF(targets); i++) {
        struct mr_journal *journal = begin();
        live_conf.backfill_rate = 1000;
        append_all(mr_journal_lane(journal, 0), 1, 2000);
        struct mr_bridge *bridge = bridge_make(journal, &plain);
        run(bridge, UNTIL_OPEN, 0);
        append_all(mr_journal_lane(journal, 0), 2001, 2100);
        mr_assert(run(bridge, UNTIL_LIVE, 2100).cursor_seq < 1200);
        append_all(mr_journal_lane(journal, 0), 2101, 2200);
        live_conf.live_after_us = (uint64_t)100 * 365 * 86400 * 1000000; /* not once more */
        any_order = true;
        if (running) {
            seek_running(bridge, targets[i], turn);
        } else {
            end(bridge);
            struct mr_cursor *cursor = NULL;
            struct mr_error why;
            bool is_new;
            mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, &why) ==
                      MR_OK);
            books_look(journal);
            uint64_t to = targets[i];
            uint64_t first = row.seq;
            uint64_t second = 2000 + row.ahead;
            mr_assert(mr_cursor_seek(cursor, to) == MR_OK);
            books_look(journal);
            mr_assert(row.seq == to && row.ahead == 0);
            mr_assert(row.books.columns[MR_COLUMN_GIVEN_UP] ==
                      (to < first ? 0 : (to < 2000 ? to : 2000) - first) +
                          (to > second ? to - second : 0));
            mr_assert(row.books.columns[MR_COLUMN_REPEATED] ==
                      (to < first ? first - to : 0) +
                          (to > second ? 0 : second - (to < 2000 ? 2000 : to)));
            mr_cursor_close(cursor);
            bridge = bridge_make(journal, &plain);
        }
        run(bridge, UNTIL_CURSOR, 2200);
        books_look(journal);
        mr_assert(row.ahead == 0 && row.seq == 2200);
        mr_assert(row.books.columns[MR_COLUMN_GIVEN_UP] == 0 || targets[i] != 0);
        mr_assert(row.books.columns[MR_COLUMN_REPEATED] != 0 || targets[i] > 2100);
        mr_assert(cursor_count(journal) == 1);
        any_order = false;
        end(bridge);
        journal_remove(journal);
    }
    journal_keep_us = 0;
}

/* ---- the table of cursors, between the writes ---- */

/* Replace the slots of a name in the table that is kept by those that the file has now. */
static void table_mix(const char *name)
{
    static uint8_t then[TABLE_BYTES];

    memcpy(then, table_then, TABLE_BYTES);
    table_file(false);
    for (size_t at = 0; at < TABLE_BYTES; at += MR_CURSOR_SLOT_BYTES) {
        size_t len = table_then[at + 40];
        bool is = len == strlen(name) && memcmp(table_then + at + 41, name, len) == 0;
        memcpy(then + at, is ? table_then + at : then + at, MR_CURSOR_SLOT_BYTES);
    }
    memcpy(table_then, then, TABLE_BYTES);
}

static struct mr_cursor *cursor_open(struct mr_journal *journal, struct mr_cursor **live)
{
    struct mr_cursor *cursor = NULL;
    struct mr_error why;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, &why) == MR_OK);
    mr_assert(mr_cursor_live_found(cursor, live, &why) == MR_OK);
    return cursor;
}

static struct mr_journal *reopen(struct mr_journal *journal)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
    table_file(true);
    return journal_open();
}

/* As a bridge does whose target has taken what lies between. */
static void settle_to(struct mr_cursor *cursor, uint64_t seq)
{
    const uint64_t add[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = seq - mr_cursor_get(cursor)};

    mr_assert(mr_cursor_settle(cursor, seq, add));
}

static void test_a_crash_between_two_writes_of_the_table(void)
{
    struct mr_journal *journal = begin();
    struct mr_cursor *live = NULL;
    struct mr_error why;

    journal_keep_us = (uint64_t)3600 * 1000000;
    append_all(mr_journal_lane(journal, 0), 1, 500);
    struct mr_cursor *cursor = cursor_open(journal, &live);
    mr_assert(live == NULL);
    settle_to(cursor, 100);
    table_file(false);
    mr_assert(mr_cursor_live_begin(cursor, 300, &live, &why) == MR_OK);
    mr_assert(mr_cursor_rule(live) == MR_CURSOR_LEADS && mr_cursor_live_from(live) == 300);
    /* Only the second one's slot has reached the disk: there is none. */
    table_mix(MR_LIVE_PREFIX "test");
    journal = reopen(journal);
    cursor = cursor_open(journal, &live); /* frees it, if the keeper has not yet */
    mr_assert(live == NULL && cursor_count(journal) == 1);
    if (mr_cursor_get(cursor) < 100) {
        settle_to(cursor, 100);
    }
    /* Both have, and it has settled something. */
    mr_assert(mr_cursor_live_begin(cursor, 300, &live, &why) == MR_OK);
    settle_to(live, 350);
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open();
    cursor = cursor_open(journal, &live);
    mr_assert(live != NULL && mr_cursor_get(live) == 350 && mr_cursor_get(cursor) == 100);
    uint64_t from;
    uint64_t to;
    mr_assert(mr_cursor_ahead(cursor, &from, &to) && from == 300 && to == 350);
    /* Joined, and the second one's slot is not freed yet. */
    table_file(false);
    mr_assert(mr_cursor_live_end(cursor, 20, MR_CURSOR_LEADS) == MR_OK);
    table_mix("test");
    journal = reopen(journal);
    cursor = cursor_open(journal, &live);
    mr_assert(live == NULL && mr_cursor_get(cursor) == 20 && cursor_count(journal) == 1);
    mr_assert(mr_cursor_rule(cursor) == MR_CURSOR_LEADS);
    /* Forgotten: both. */
    mr_assert(mr_cursor_live_begin(cursor, 400, &live, &why) == MR_OK);
    mr_assert(mr_cursor_forget(journal, "test") == MR_OK && cursor_count(journal) == 0);
    journal_keep_us = 0;
    journal_remove(journal);
}

/* ---- books that are off ---- */

/* More fresh events, and what the log says until the second position is behind them. */
static const char *said_until(struct mr_journal *journal, struct mr_bridge *bridge,
                              const struct mr_cursor *live, uint64_t to)
{
    said_begin();
    append_all(mr_journal_lane(journal, 0), to - 99, to);
    while (mr_cursor_get(live) < to) {
        now_ns += mr_bridge_step(bridge, now_ns) + 1000;
    }
    mr_log_set_writer(NULL);
    return said;
}

/* At the second position, while there are two: accepted, it is no alarm for either of them, and
 * what is off after that is told by itself.
 */
static void test_what_is_off_ahead_of_a_backlog_is_accepted(void)
{
    const uint64_t twice[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = 1};
    struct mr_journal *journal = begin();
    struct mr_cursor *live = NULL;
    int64_t difference = 0;

    live_conf.backfill_rate = 100;
    append_all(mr_journal_lane(journal, 0), 1, 3000);
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    run(bridge, UNTIL_OPEN, 0);
    struct mr_cursor *cursor = cursor_open(journal, &live);
    mr_assert(!mr_cursor_settle(live, mr_cursor_get(live), twice));
    mr_assert(mr_cursor_accept(cursor, "looked", &difference) == MR_OK && difference == 1);
    mr_assert(strstr(said_until(journal, bridge, live, 3100), "do not balance") == NULL);
    books_look(journal);
    mr_assert(!mr_cursor_settle(live, mr_cursor_get(live), twice));
    mr_assert(strstr(said_until(journal, bridge, live, 3200), " 1 records too many ") != NULL);
    mr_assert(mr_cursor_accept(cursor, "again", &difference) == MR_OK && difference == 1);
    end(bridge);
    journal_remove(journal);
}

/* ---- the walk ---- */

static uint64_t splits;

/* One life of the gateway. */
static void live(struct mr_journal *journal, const struct scripted_conf *conf, struct mr_rng *rng,
                 uint64_t *last)
{
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct mr_bridge_stats stats = {.cursor_seq = 0};
    bool was_open = false;

    live_conf.drain = mr_rng_below(rng, 8) == 0 ? MR_DRAIN_ORDERED : MR_DRAIN_LIVE_FIRST;
    live_conf.backfill_rate = mr_rng_below(rng, 3) == 0 ? 0 : 200000;
    struct mr_bridge *bridge = bridge_make(journal, conf);
    for (uint64_t steps = 100 + mr_rng_below(rng, 900); steps != 0; steps--) {
        stats = step(bridge);
        splits += stats.live.open && !was_open;
        was_open = stats.live.open;
        if (*last < EVENTS && mr_rng_below(rng, 20) == 0) {
            uint64_t more = 1 + mr_rng_below(rng, 100);
            uint64_t to = *last + more < EVENTS ? *last + more : EVENTS;
            append_all(lane, *last + 1, to);
            *last = to;
        }
    }
    table_file(false);
    end(bridge);
}

static void walk(uint64_t seed, const struct scripted_conf *conf, bool exactly)
{
    struct mr_journal *journal = begin();
    struct mr_rng rng;
    uint64_t last = 0;

    journal_keep_us = (uint64_t)3600 * 1000000;
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open();
    sink_ops = exactly ? &vault_sink : &scripted_sink;
    mr_rng_seed(&rng, seed);
    die_seed = seed;
    with_faults = true;
    trouble_percent = 20;
    splits = 0;
    do {
        uint64_t to = last + 1200 < EVENTS ? last + 1200 : EVENTS;
        if (to > last) {
            append_all(mr_journal_lane(journal, 0), last + 1, to);
            last = to;
        }
        live(journal, conf, &rng, &last);
        books_look(journal);
        bool crash = mr_rng_below(&rng, 2) == 0;
        mr_assert(mr_journal_close(journal) == MR_OK);
        if (crash) {
            table_file(true);
        }
        journal = journal_open();
        die_seed += 1;
        books_look(journal);
    } while (row.seq < EVENTS || row.ahead != 0);
    books_look(journal);
    mr_assert(splits != 0);
    mr_assert(row.seq == EVENTS && row.ahead == 0 && cursor_count(journal) == 1);
    mr_assert(row.books.columns[MR_COLUMN_GIVEN_UP] == 0);
    mr_assert(row.books.columns[MR_COLUMN_REPEATED] == 0);
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        mr_assert(delivered[seq] == (fate_of(seq) == FATE_SEND) &&
                  !(is_dead(seq) && delivered[seq]));
        mr_assert(!exactly || copies[seq] == (fate_of(seq) == FATE_SEND));
    }
    with_faults = false;
    sink_ops = &scripted_sink;
    journal_keep_us = 0;
    journal_remove(journal);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)mr_clock_wall_us() % 100000;
    struct mr_error why;

    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    mr_log_set_level(getenv("MR_TEST_LOG") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR);
    mr_assert(mr_wake_open(&owner, &why) == MR_OK);
    now_ns = mr_clock_mono_ns();
    vault_make();
    sink_ops = &scripted_sink;
    test_a_crash_between_two_writes_of_the_table();
    test_fresh_events_overtake_a_backlog();
    test_stays_in_order_where_that_is_wanted_or_little_waits();
    test_a_name_that_is_too_long_is_drained_in_order();
    test_back_to_ordered();
    test_paused_and_resumed();
    test_a_seek_ends_it(true);
    test_a_seek_ends_it(false);
    test_what_is_off_ahead_of_a_backlog_is_accepted();
    for (uint64_t i = 0; i < 2; i++) {
        walk(seed + 100 * i, &rough, false);
        walk(seed + 100 * i, &plain, true);
    }
    mr_wake_close(&owner);
    return 0;
}
