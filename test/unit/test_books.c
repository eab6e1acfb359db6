/* test_books.c
 * links: pipeline journal codec config os base
 *
 * Goal:   whatever happens to a bridge, its books say what became of every record that the
 *         cursor has passed: after any verdicts, retries, seeks both ways, crashes and damage
 *         each column is what a count of the records gives; and where it is not, that is said.
 * Method: the scripted sink behind a real journal, stepped by hand, restarted, put elsewhere,
 *         and crashed (the table of cursors of a moment ago is put back) as a seeded die says.
 *         The seed is printed: ./test_books <seed>
 */
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/text.h"
#include "cursor_table.h"
#include "journal/ranges.h"
#include "journal/scan.h"
#include "os/clock.h"
#include "os/file.h"
#include "pipeline_kit.h"
#include "said.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the model ---- */

static const struct scripted_conf plain = {
    .topic = "t_${topic[2]}", .key = "${clientid}", .full_percent = 10, .retry_per_mille = 30};

static bool no_event[EVENTS + 1]; /* a record that is none for this bridge */
static uint64_t wanted[MR_COLUMNS];
static uint64_t wanted_seq;

/* What settling everything up to `seq` adds. */
static void model_pass(uint64_t seq)
{
    while (wanted_seq < seq) {
        wanted_seq += 1;
        enum mr_column column = MR_COLUMN_DELIVERED;
        if (no_event[wanted_seq]) {
            column = MR_COLUMN_CONTROL;
        } else if (is_dead(wanted_seq)) {
            column = MR_COLUMN_DEAD_LETTERS;
        } else if (fate_of(wanted_seq) == FATE_SKIP) {
            column = MR_COLUMN_SKIPPED;
        }
        wanted[column] += 1;
    }
}

static void model_seek(uint64_t seq)
{
    if (seq < wanted_seq) {
        wanted[MR_COLUMN_REPEATED] += wanted_seq - seq;
    } else {
        wanted[MR_COLUMN_GIVEN_UP] += seq - wanted_seq;
    }
    wanted_seq = seq;
    memset(delivered, 0, sizeof(delivered)); /* the order of first deliveries begins anew */
    memset(newest_of, 0, sizeof(newest_of));
}

static void model_begin(void)
{
    memset(no_event, 0, sizeof(no_event));
    memset(wanted, 0, sizeof(wanted));
    wanted_seq = 0;
}

/* ---- helpers ---- */

static struct mr_books_row row;

static void on_row(void *arg, const struct mr_books_row *found)
{
    (void)arg;
    mr_assert(strcmp(found->name, "test") == 0);
    row = *found;
}

static void books_look(struct mr_journal *journal)
{
    row = (struct mr_books_row){.name = NULL};
    mr_books_list(journal, on_row, NULL);
    mr_assert(row.name != NULL);
}

static void books_check(struct mr_journal *journal)
{
    books_look(journal);
    mr_assert(mr_books_difference(&row.books, row.seq + row.ahead) == 0);
    mr_assert(row.books.begin == 0);
    model_pass(row.seq);
    mr_assert(wanted_seq == row.seq);
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        if (row.books.columns[i] != wanted[i]) {
            printf("%s: %" PRIu64 ", not %" PRIu64 "\n", mr_column_names[i], row.books.columns[i],
                   wanted[i]);
        }
        mr_assert(row.books.columns[i] == wanted[i]);
    }
}

/* The ranges of the bridge, one after the other, lead from where the books begin to the cursor, and
 * add up to their columns.
 */
static uint64_t ranges_sum[MR_COLUMNS];
static uint64_t ranges_at;
static int64_t ranges_accepted;

static void on_range(void *arg, const struct mr_range *range)
{
    (void)arg;
    mr_assert(strcmp(range->name, "test") == 0 && range->lane == 0 && range->at_us > 0);
    if (range->is_acceptance) {
        ranges_accepted += range->accepted;
        return;
    }
    mr_assert(range->from >= ranges_at); /* settled up to there */
    ranges_sum[range->column] +=
        range->to > range->from ? range->to - range->from : range->from - range->to;
    mr_assert((range->to < range->from) == (range->column == MR_COLUMN_REPEATED));
    ranges_at = range->to;
}

static void ranges_check(struct mr_journal *journal)
{
    static const enum mr_column moved[] = {MR_COLUMN_GIVEN_UP, MR_COLUMN_CONFIRMED,
                                           MR_COLUMN_REPEATED, MR_COLUMN_DROPPED};

    books_look(journal);
    memset(ranges_sum, 0, sizeof(ranges_sum));
    ranges_at = row.books.begin;
    ranges_accepted = 0;
    mr_ranges_list(journal, on_range, NULL);
    mr_assert(ranges_at <= row.seq && ranges_accepted == row.books.accepted);
    for (size_t i = 0; i < MR_COUNT_OF(moved); i++) {
        mr_assert(ranges_sum[moved[i]] == row.books.columns[moved[i]]);
    }
}

/* Step until the cursor is at `seq` or beyond. */
static void run_to(struct mr_bridge *bridge, uint64_t seq)
{
    struct mr_bridge_stats stats;
    int64_t now_ns = mr_clock_mono_ns();
    int64_t until_ns = now_ns + (int64_t)120 * 1000000000;

    for (mr_bridge_stats(bridge, &stats); stats.cursor_seq < seq; mr_bridge_stats(bridge, &stats)) {
        int64_t sleep_ns = mr_bridge_step(bridge, now_ns);
        now_ns += sleep_ns > 5000000 ? 5000000 : sleep_ns + 1000; /* the bridge's time */
        mr_assert(mr_clock_mono_ns() < until_ns);
    }
}

static void end(struct mr_bridge *bridge)
{
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
}

/* A record that is no event, or a letter for somebody else. */
static void append_other(struct mr_lane *lane, uint64_t seq)
{
    static const char other[] = "other";
    struct mr_record_raw record = {
        .type = seq % 2 == 0 ? MR_RECORD_SESSION : MR_RECORD_DEAD_LETTER,
        .received_us = 1700000000000000 + (int64_t)seq * 1000,
        .client = mr_span_of(seq % 2 == 0 ? "" : "device-1"),
        .topic = mr_span_of(seq % 2 == 0 ? "" : "sensors/1/kind1"),
        .body = mr_span_of("\x01"),
        .dead_seq = 1,
        .dead_bridge = mr_span_of(other),
        .dead_reason = mr_span_of("because"),
    };
    struct mr_appended out;

    while (mr_lane_append(lane, &record, NULL, &out) == MR_ERR_FULL) {
        mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
        mr_lane_release(lane, mr_lane_durable(lane));
    }
    mr_assert(out.seq == seq);
    no_event[seq] = true;
}

static void append_mixed(struct mr_lane *lane, uint64_t from, uint64_t to, struct mr_rng *rng)
{
    while (from <= to) {
        uint64_t piece = from + mr_rng_below(rng, 90);
        if (piece > to) {
            piece = to;
        }
        if (piece > from) {
            append_all(lane, from, piece - 1);
        }
        append_other(lane, piece);
        from = piece + 1;
    }
    while (mr_lane_durable(lane) < to) {
        mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
    }
}

/* ---- tests ---- */

/* One life of the gateway: `last` is the newest record.  Returns the journal of the next. */
static struct mr_journal *live(struct mr_journal *journal, uint64_t last, struct mr_rng *rng)
{
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    bool crash = mr_rng_below(rng, 3) == 0;
    uint64_t to = wanted_seq + 1 + mr_rng_below(rng, last - wanted_seq);

    run_to(bridge, wanted_seq + 1 + (to - wanted_seq) / 2);
    mr_bridge_refresh(bridge);
    table_file(false); /* written by the keeper, whenever that was */
    run_to(bridge, to);
    end(bridge);
    if (!crash) {
        books_check(journal);
    }
    mr_assert(mr_journal_close(journal) == MR_OK);
    if (crash) {
        table_file(true);
    }
    journal = journal_open();
    if (crash) {
        /* What was delivered since comes again; the books know nothing of it yet. */
        memset(delivered, 0, sizeof(delivered));
        memset(newest_of, 0, sizeof(newest_of));
    }
    books_check(journal);
    return journal;
}

/* The cursor is put elsewhere, in one step or in two.  A crash may come
 * between the range and the cursor: then nothing has happened.
 */
static struct mr_journal *seek_somewhere(struct mr_journal *journal, uint64_t last,
                                         struct mr_rng *rng)
{
    struct mr_cursor *cursor = NULL;
    bool is_new;
    uint64_t seq = mr_rng_below(rng, last + 1);
    /* A range that goes on where the last one ended takes its place, and that is gone by the time
     * the table is put back: no crash could leave it so.
     */
    bool crash = mr_rng_below(rng, 3) == 0 && wanted_seq != ranges_at;

    table_file(false);
    mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    if (seq > wanted_seq && mr_rng_below(rng, 2) == 0) {
        uint64_t middle = wanted_seq + (seq - wanted_seq) / 2;
        mr_assert(mr_cursor_seek(cursor, middle) == MR_OK);
        mr_assert(mr_cursor_seek(cursor, seq) == MR_OK); /* one range */
        if (!crash) {
            model_seek(seq);
        }
    } else {
        mr_assert(mr_cursor_seek(cursor, seq) == MR_OK);
        if (!crash) {
            model_seek(seq);
        }
    }
    if (crash) {
        mr_cursor_close(cursor);
        mr_assert(mr_journal_close(journal) == MR_OK);
        table_file(true);
        journal = journal_open();
        mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
                  MR_OK);
    }
    mr_assert(mr_cursor_pause(journal, "test", true) == MR_OK); /* writes it once more */
    mr_assert(mr_cursor_pause(journal, "test", false) == MR_OK);
    mr_cursor_close(cursor);
    books_check(journal);
    ranges_check(journal);
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open();
    ranges_check(journal);
    return journal;
}

static void every_record_is_in_one_column(uint64_t seed)
{
    struct mr_journal *journal;
    struct mr_rng rng;
    uint64_t last = 0;

    mr_rng_seed(&rng, seed);
    die_seed = seed;
    with_faults = true;
    journal_keep_us = (uint64_t)1 << 60; /* the events are of 2023 */
    model_begin();
    journal = journal_make();
    while (last < EVENTS) {
        uint64_t more = 1 + mr_rng_below(&rng, EVENTS / 4);
        uint64_t to = last + more > EVENTS ? EVENTS : last + more;
        append_mixed(mr_journal_lane(journal, 0), last + 1, to, &rng);
        last = to;
        journal = live(journal, last, &rng);
        if (mr_rng_below(&rng, 2) == 0) {
            journal = seek_somewhere(journal, last, &rng);
        }
        die_seed += 1;
    }
    if (wanted_seq < last) {
        struct mr_bridge *bridge = bridge_make(journal, &plain);
        run_to(bridge, last);
        end(bridge);
        books_check(journal);
    }
    with_faults = false;
    journal_keep_us = 0;
    journal_remove(journal);
}

/* A segment that somebody removed is in the column of what is lost. */
static void lost_records_are_lost(void)
{
    char **paths = NULL;
    char lane_path[300];
    size_t count = 0;

    model_begin();
    struct mr_journal *journal = journal_make();
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    end(bridge); /* has a cursor, so nothing is retired */
    append_all(mr_journal_lane(journal, 0), 1, EVENTS);
    mr_assert(mr_journal_close(journal) == MR_OK);
    snprintf(lane_path, sizeof(lane_path), "%s/lane-00", journal_path);
    mr_assert(mr_scan_list(lane_path, &paths, &count) == MR_OK && count >= 3);
    uint64_t first = strtoull(strrchr(paths[1], '/') + 1, NULL, 10);
    uint64_t next = strtoull(strrchr(paths[2], '/') + 1, NULL, 10);
    journal = journal_open();
    bridge = bridge_make(journal, &plain);
    mr_assert(unlink(paths[1]) == 0);
    run_to(bridge, EVENTS);
    end(bridge);
    books_look(journal);
    mr_assert(row.seq == EVENTS && mr_books_difference(&row.books, row.seq + row.ahead) == 0);
    mr_assert(row.books.columns[MR_COLUMN_LOST] == next - first);
    for (size_t i = 0; i < count; i++) {
        mr_free(paths[i]);
    }
    mr_free(paths);
    journal_remove(journal);
}

static bool metric_is(const char *line)
{
    static char page[1 << 18];
    struct mr_text text = mr_text_over(page, sizeof(page));

    mr_assert(mr_metric_render(&text) == MR_OK);
    return strstr(page, line) != NULL;
}

static void an_operator_accepts_it(struct mr_journal *journal)
{
    struct mr_cursor *cursor = NULL;
    int64_t difference = 0;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_assert(mr_cursor_accept(cursor, "looked, and it is one", &difference) == MR_OK);
    mr_assert(difference == 1);
    mr_assert(mr_cursor_accept(cursor, "again", &difference) == MR_ERR_REJECT && difference == 0);
    mr_cursor_close(cursor);
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open();
    ranges_check(journal);
    mr_assert(row.books.accepted == 1 && mr_books_difference(&row.books, row.seq + row.ahead) == 0);
    mr_assert(mr_cursor_forget(journal, "test") == MR_OK);
    ranges_accepted = 0;
    mr_ranges_list(journal, on_range, NULL);
    mr_assert(ranges_accepted == 0); /* it went with its cursor */
    journal_remove(journal);
}

/* A record counted twice, or without a verdict: the log and a metric say it, once, and a
 * restart does not make it good.
 */
static void what_does_not_balance_is_said(void)
{
    const uint64_t twice[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = 1};
    static const char alert[] = "millrace_ledger_unbalanced{bridge=\"test\",lane=\"0\"} ";
    char line[128];
    struct mr_cursor *cursor = NULL;
    bool is_new;

    model_begin();
    struct mr_journal *journal = journal_make();
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    append_all(mr_journal_lane(journal, 0), 1, 200);
    run_to(bridge, 100);
    mr_bridge_refresh(bridge);
    snprintf(line, sizeof(line), "%s0\n", alert);
    mr_assert(metric_is(line));

    mr_assert(mr_cursor_open(journal, "test", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_assert(!mr_cursor_settle(cursor, mr_cursor_get(cursor), twice));
    said_begin();
    append_all(mr_journal_lane(journal, 0), 201, 400);
    run_to(bridge, 400);
    mr_log_set_writer(NULL);
    const char *first = strstr(said, "the books of lane 0 do not balance");
    mr_assert(first != NULL && strstr(first + 1, "the books of") == NULL);
    mr_assert(strstr(first, "1 records too many are accounted for") != NULL);
    mr_bridge_refresh(bridge);
    snprintf(line, sizeof(line), "%s1\n", alert);
    mr_assert(metric_is(line));
    end(bridge);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open();
    books_look(journal);
    mr_assert(mr_books_difference(&row.books, row.seq) == 1);
    an_operator_accepts_it(journal);
}

/* A slot that an older version wrote has none: they begin at its cursor. */
static void books_begin_at_a_cursor_of_an_older_version(void)
{
    model_begin();
    struct mr_journal *journal = journal_make();
    struct mr_bridge *bridge = bridge_make(journal, &plain);
    append_all(mr_journal_lane(journal, 0), 1, 300);
    run_to(bridge, 300);
    end(bridge);
    mr_assert(mr_journal_close(journal) == MR_OK);
    table_file(false);
    for (size_t at = 0; at < TABLE_BYTES; at += MR_CURSOR_SLOT_BYTES) {
        uint8_t *slot = table_then + at;
        if (memcmp(slot, "MRCU", 4) == 0) {
            mr_assert((slot[12] & 16) != 0);
            slot[12] &= (uint8_t)~16;
            memset(slot + 172, 0, 80);
            mr_put_u32(slot + 252, mr_crc32c(0, slot, 252));
        }
    }
    table_file(true);
    journal = journal_open();
    books_look(journal);
    mr_assert(row.seq == 300 && row.books.begin == 300);
    mr_assert(mr_books_difference(&row.books, row.seq + row.ahead) == 0);
    bridge = bridge_make(journal, &plain);
    append_all(mr_journal_lane(journal, 0), 301, 400);
    run_to(bridge, 400);
    end(bridge);
    books_look(journal);
    mr_assert(row.seq == 400 && mr_books_difference(&row.books, row.seq + row.ahead) == 0);
    journal_remove(journal);
}

int main(int argc, char **argv)
{
    struct mr_error why;
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)mr_clock_wall_us();

    printf("seed %" PRIu64 "\n", seed);
    fflush(stdout);
    mr_log_set_level(getenv("MR_TEST_LOG") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR);
    mr_assert(mr_wake_open(&owner, &why) == MR_OK);
    for (uint64_t i = 0; i < 2; i++) {
        every_record_is_in_one_column(seed + i);
    }
    lost_records_are_lost();
    what_does_not_balance_is_said();
    books_begin_at_a_cursor_of_an_older_version();
    mr_wake_close(&owner);
    return 0;
}
