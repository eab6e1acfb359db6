/* test_ranges.c
 * links: journal os_sim base
 *
 * Goal:   the list of where cursors were put says what happened, and no more: a put that was
 *         refused is not in it, whatever the cursor does next and wherever the power goes; nor is
 *         anything of a cursor that was forgotten, even if another one has its name.  When all
 *         entries are in use the oldest makes room, and never one that the operator wrote; what is
 *         no entry of this version is passed over.
 * Method: the simulated disk refuses each call of a put; then the cursor settles, is written, and
 *         the machine stops.  Entries with a checksum that fits are written by hand.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/log.h"
#include "crash_kit.h"
#include "journal/format.h"
#include "journal/ranges.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

enum { RECORDS = 60, ENTRY_BYTES = 256 };

static struct mr_journal *journal;
static struct mr_cursor *cursor;

static void journal_take_as(bool read_only, bool cursors_only)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "ranges",
                                               .max_bytes = 1 << 20,
                                               .segment_bytes = 64 << 10,
                                               .block_bytes = 16384,
                                               .record_bytes_max = 8000,
                                               .keep_ranges = true,
                                               .read_only = read_only,
                                               .cursors_only = cursors_only,
                                               .manual = true};
    bool is_new;

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
}

/* Without lanes: quick. */
static void journal_look(void)
{
    journal_take_as(false, true);
}

static void journal_give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void start(uint64_t seed)
{
    mr_sim_start(seed);
    journal_take_as(false, false);
    lane_fill(mr_journal_lane(journal, 0), RECORDS);
}

static void settle(uint64_t count)
{
    const uint64_t add[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = count};

    mr_assert(mr_cursor_settle(cursor, mr_cursor_get(cursor) + count, add));
    mr_journal_step_keeper(journal);
}

/* ---- what the list says ---- */

static size_t listed;
static size_t accepted;
static uint64_t lowest; /* number */
static uint64_t sums[MR_COLUMNS];

static void on_range(void *arg, const struct mr_range *range)
{
    (void)arg;
    lowest = listed == 0 ? range->number : lowest;
    mr_assert(range->number >= lowest);
    listed += 1;
    accepted += range->is_acceptance;
    sums[range->column] +=
        range->to > range->from ? range->to - range->from : range->from - range->to;
}

static size_t list(void)
{
    listed = 0;
    accepted = 0;
    memset(sums, 0, sizeof(sums));
    mr_ranges_list(journal, on_range, NULL);
    return listed;
}

/* The entries of the bridge are what its books say. */
static void check(void)
{
    static const enum mr_column moved[] = {MR_COLUMN_GIVEN_UP, MR_COLUMN_CONFIRMED,
                                           MR_COLUMN_REPEATED, MR_COLUMN_LOST, MR_COLUMN_DROPPED};
    struct mr_books books;
    uint64_t seq = mr_cursor_books(cursor, &books);

    (void)list();
    mr_assert(mr_books_difference(&books, seq) == 0);
    for (size_t i = 0; i < MR_COUNT_OF(moved); i++) {
        mr_assert(sums[moved[i]] == books.columns[moved[i]]);
    }
}

/* ---- refused ---- */

enum move { PUT_BACK, PUT_FORWARD, PASS, LOSE, MOVES };

static enum mr_err moved(enum move move)
{
    uint64_t at = mr_cursor_get(cursor);

    switch (move) {
    case PUT_BACK:
        return mr_cursor_put(cursor, at - 2, MR_CURSOR_LEADS);
    case PUT_FORWARD:
        return mr_cursor_put(cursor, at + 2, MR_CURSOR_FOLLOWS);
    case PASS:
        return mr_cursor_put(cursor, at + 3, MR_CURSOR_LEADS);
    default:
        return mr_cursor_lose(cursor, at - 3, at - 1);
    }
}

/* The `nth` call of a put fails, and `count` in all.  False: it makes fewer. */
static bool refused_at(enum move move, uint64_t nth, uint64_t count, enum mr_sim_fault fault,
                       bool cut)
{
    start(nth + 1);
    settle(10);
    mr_assert(mr_cursor_put(cursor, 12, MR_CURSOR_LEADS) == MR_OK);
    uint64_t calls = mr_sim_calls(MR_SIM_ANY);
    mr_sim_inject(MR_SIM_ANY, nth, count, fault);
    enum mr_err err = moved(move);
    bool met = mr_sim_calls(MR_SIM_ANY) - calls >= nth;
    mr_sim_inject_clear();
    mr_assert(err == MR_OK || err == MR_ERR_FULL || err == MR_ERR_IO);
    check();
    settle(1); /* its next write has the generation that the refused one would have had */
    check();
    if (cut) {
        mr_sim_crash();
    } else {
        journal_give();
    }
    journal_look();
    check();
    journal_give();
    mr_sim_stop();
    return met;
}

static void test_refused(void)
{
    for (int move = 0; move < MOVES; move++) {
        bool met = true;
        for (uint64_t nth = 1; met; nth++) {
            met = false;
            bool cut = (move + nth) % 2 != 0;
            met = refused_at((enum move)move, nth, 1, MR_SIM_FAULT_FULL, cut) || met;
            met = refused_at((enum move)move, nth, 0, MR_SIM_FAULT_FULL, !cut) || met;
            met = refused_at((enum move)move, nth, 1, MR_SIM_FAULT_IO, cut) || met;
            met = refused_at((enum move)move, nth, 0, MR_SIM_FAULT_IO, !cut) || met;
        }
    }
}

/* However often it is tried without room: that costs the list nothing. */
static void test_refused_often(void)
{
    start(8);
    settle(10);
    mr_assert(mr_cursor_put(cursor, 4, MR_CURSOR_LEADS) == MR_OK && list() == 1);
    uint64_t first = lowest;
    for (size_t i = 0; i < 2 * MR_RANGES_MAX; i++) {
        mr_sim_inject_clear();
        mr_sim_inject(MR_SIM_WRITE, 1 + i % 2, 0, MR_SIM_FAULT_FULL);
        mr_assert(mr_cursor_put(cursor, 2, MR_CURSOR_LEADS) == MR_ERR_FULL);
    }
    mr_sim_inject_clear();
    mr_assert(list() == 1 && lowest == first);
    settle(1);
    mr_assert(mr_cursor_put(cursor, 2, MR_CURSOR_LEADS) == MR_OK && list() == 2);
    check();
    journal_give();
    journal_look();
    check();
    mr_assert(list() == 2 && lowest == first);
    journal_give();
    mr_sim_stop();
}

/* ---- forgotten ---- */

/* Another bridge of the name has moved nowhere. */
static void test_forgotten(uint64_t seed)
{
    bool is_new;

    start(seed);
    settle(20);
    mr_assert(mr_cursor_put(cursor, 5, MR_CURSOR_LEADS) == MR_OK);
    mr_cursor_close(cursor);
    mr_assert(mr_cursor_forget(journal, "bridge") == MR_OK && list() == 0);
    mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    settle(1);
    mr_sim_crash();
    journal_look();
    check();
    mr_assert(list() == 0);
    journal_give();
    mr_sim_stop();
}

/* The power goes before its entries are off the disk. */
static void test_forgotten_and_cut(void)
{
    start(7);
    settle(20);
    mr_assert(mr_cursor_put(cursor, 5, MR_CURSOR_LEADS) == MR_OK);
    mr_cursor_close(cursor);
    mr_assert(mr_cursor_forget(journal, "bridge") == MR_OK);
    mr_sim_crash();
    journal_take_as(false, false);
    mr_assert(list() == 0 && mr_cursor_get(cursor) == 0);
    journal_give();
    mr_sim_stop();
}

/* ---- all in use ---- */

static void move_often(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t at = mr_cursor_get(cursor);
        mr_assert(mr_cursor_put(cursor, at == 10 ? 8 : 10, MR_CURSOR_LEADS) == MR_OK);
    }
}

/* Settled, and more is counted than there was, so that there is something to accept. */
static void miscount(void)
{
    const uint64_t add[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = 2};

    mr_assert(!mr_cursor_settle(cursor, mr_cursor_get(cursor) + 1, add));
}

static void test_all_in_use(void)
{
    int64_t difference = 0;

    start(3);
    settle(10);
    mr_assert(mr_cursor_accept(cursor, "nothing", &difference) == MR_ERR_REJECT);
    miscount();
    mr_assert(mr_cursor_accept(cursor, "looked at", &difference) == MR_OK && difference == 1);
    mr_assert(list() == 1 && accepted == 1);
    move_often(MR_RANGES_MAX - 1);
    mr_assert(list() == MR_RANGES_MAX);
    uint64_t first = lowest;
    move_often(5);
    mr_assert(list() == MR_RANGES_MAX && accepted == 1 && lowest == first);
    journal_give();
    journal_look();
    mr_assert(list() == MR_RANGES_MAX && accepted == 1 && lowest == first);
    journal_give();
    mr_sim_stop();
}

/* Nothing makes room for the cursor's move then, and the cursor stays. */
static void test_all_accepted(void)
{
    int64_t difference = 0;

    start(4);
    for (size_t i = 0; i < MR_RANGES_MAX; i++) {
        const uint64_t add[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = 1};
        mr_assert(!mr_cursor_settle(cursor, 0, add));
        mr_assert(mr_cursor_accept(cursor, "again", &difference) == MR_OK && difference == 1);
    }
    mr_assert(list() == MR_RANGES_MAX && accepted == MR_RANGES_MAX);
    mr_assert(mr_cursor_put(cursor, 7, MR_CURSOR_LEADS) == MR_ERR_FULL);
    mr_assert(mr_cursor_get(cursor) == 0 && list() == MR_RANGES_MAX);
    miscount();
    mr_assert(mr_cursor_accept(cursor, "once more", &difference) == MR_ERR_FULL);
    journal_give();
    journal_look();
    struct mr_books books;
    (void)mr_cursor_books(cursor, &books);
    mr_assert(books.accepted == MR_RANGES_MAX && list() == MR_RANGES_MAX);
    /* They are the cursor's, and go with it. */
    mr_cursor_close(cursor);
    mr_assert(mr_cursor_forget(journal, "bridge") == MR_OK && list() == 0);
    journal_give();
    journal_look();
    mr_assert(list() == 0);
    mr_assert(mr_cursor_put(cursor, 7, MR_CURSOR_LEADS) == MR_OK && list() == 1);
    journal_give();
    mr_sim_stop();
}

/* ---- repetitions ---- */

static struct mr_range newest;

static void on_newest(void *arg, const struct mr_range *range)
{
    (void)arg;
    newest = *range;
}

/* The books balance before and after, through a restart. */
static void test_repetitions_are_accepted(void)
{
    uint64_t seq = 0;

    start(5);
    settle(10);
    mr_assert(mr_cursor_accept_repeated(cursor, "at_least_once until today", &seq) == MR_OK);
    mr_assert(seq == 10);
    settle(5);
    for (int life = 0; life < 2; life++) {
        check();
        mr_assert(listed == 1 && accepted == 1);
        mr_ranges_list(journal, on_newest, NULL);
        mr_assert(newest.is_acceptance && newest.accepted == 0 && newest.to == 10);
        mr_assert(strcmp(newest.reason, "at_least_once until today") == 0);
        journal_give();
        journal_look();
    }
    journal_give();
    mr_sim_stop();
}

/* However often: they stand for what was accepted before, and leave the list to the moves. */
static void test_repetitions_are_one_entry(void)
{
    uint64_t seq = 0;

    start(6);
    settle(10);
    mr_assert(mr_cursor_accept_repeated(cursor, "first", &seq) == MR_OK);
    mr_assert(mr_cursor_put(cursor, 4, MR_CURSOR_LEADS) == MR_OK);
    for (int i = 0; i < 2 * MR_RANGES_MAX; i++) {
        mr_assert(mr_cursor_accept_repeated(cursor, "again", &seq) == MR_OK && seq == 4);
    }
    check();
    mr_assert(listed == 3 && accepted == 2); /* the first goes farther */
    settle(10);
    mr_assert(mr_cursor_accept_repeated(cursor, "all", &seq) == MR_OK && seq == 14);
    for (int life = 0; life < 2; life++) {
        mr_ranges_list(journal, on_newest, NULL);
        mr_assert(newest.is_acceptance && newest.from == 14 && newest.to == 14);
        mr_assert(strcmp(newest.reason, "all") == 0);
        journal_give();
        journal_look();
    }
    journal_give();
    mr_sim_stop();
}

/* ---- bytes ---- */

static void entry_file(uint64_t slot, uint8_t entry[ENTRY_BYTES], bool put)
{
    struct mr_span part = mr_span_make(entry, ENTRY_BYTES);
    struct mr_file file;
    size_t got = 0;

    mr_assert(mr_file_open(&file, "/j/ranges", put ? MR_FILE_READ_WRITE : MR_FILE_READ, NULL) ==
              MR_OK);
    if (put) {
        mr_put_u32(entry + ENTRY_BYTES - 4, mr_crc32c(0, entry, ENTRY_BYTES - 4));
        mr_assert(mr_file_write(&file, &part, 1, slot * ENTRY_BYTES) == MR_OK);
        mr_assert(mr_file_sync(&file) == MR_OK);
    } else {
        mr_assert(mr_file_read(&file, entry, ENTRY_BYTES, slot * ENTRY_BYTES, &got) == MR_OK);
        mr_assert(got == ENTRY_BYTES);
    }
    mr_file_close(&file);
}

/* docs/JOURNAL.md, Ranges: what makes an entry none. */
static void test_no_entry(void)
{
    static const struct {
        size_t at;
        uint8_t byte;
    } wrong[] = {{0, 'm'}, {4, 99}, {8, MR_COLUMNS}, {6, 1}, {72, 200}, {73, 200}, {73, 170}};
    uint8_t entry[ENTRY_BYTES];
    uint8_t changed[ENTRY_BYTES];

    start(5);
    settle(10);
    mr_assert(mr_cursor_put(cursor, 4, MR_CURSOR_LEADS) == MR_OK && list() == 1);
    journal_give();
    entry_file(0, entry, false);
    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        memcpy(changed, entry, ENTRY_BYTES);
        changed[wrong[i].at] = wrong[i].byte;
        entry_file(0, changed, true);
        journal_look();
        mr_assert(list() == 0);
        journal_give();
    }
    entry_file(0, entry, true);
    mr_assert(mr_sim_file_damage("/j/ranges", 20, 1) == MR_OK);
    journal_look();
    mr_assert(list() == 0);
    journal_give();
    entry_file(0, entry, true);
    journal_look();
    check();
    mr_assert(list() == 1);
    journal_give();
    mr_sim_stop();
}

/* Whoever only looks sees the same, what is void left out, and writes nothing. */
static void test_looking(void)
{
    uint8_t entry[ENTRY_BYTES];

    start(6);
    settle(10);
    mr_assert(mr_cursor_put(cursor, 4, MR_CURSOR_LEADS) == MR_OK);
    journal_give();
    entry_file(0, entry, false);
    mr_put_u64(entry + 16, 7);       /* number */
    mr_put_u64(entry + 32, 1 << 20); /* generation */
    entry_file(1, entry, true);
    uint64_t written = mr_sim_calls(MR_SIM_WRITE) + mr_sim_calls(MR_SIM_SYNC);
    journal_take_as(true, true);
    check();
    mr_assert(list() == 1);
    journal_give();
    mr_assert(written == mr_sim_calls(MR_SIM_WRITE) + mr_sim_calls(MR_SIM_SYNC));
    journal_look();
    check();
    journal_give();
    entry_file(1, entry, false);
    mr_assert(entry[0] == 0); /* void, and gone */
    mr_sim_stop();
}

/* ---- starts ---- */

static bool start_fails_at(uint64_t nth, enum mr_sim_fault fault)
{
    const struct mr_journal_options options = {
        .path = "/j", .name = "ranges", .keep_ranges = true, .cursors_only = true};
    struct mr_error why = {.text = ""};

    start(nth);
    settle(10);
    mr_assert(mr_cursor_put(cursor, 12, MR_CURSOR_LEADS) == MR_OK);
    mr_assert(mr_cursor_put(cursor, 4, MR_CURSOR_LEADS) == MR_OK);
    journal_give();
    uint64_t calls = mr_sim_calls(MR_SIM_ANY);
    mr_sim_inject(MR_SIM_ANY, nth, 1, fault);
    enum mr_err err = mr_journal_open(&journal, &options, NULL, &why);
    mr_sim_inject_clear();
    bool met = mr_sim_calls(MR_SIM_ANY) - calls >= nth;
    mr_assert(err == MR_OK || (err == MR_ERR_IO && why.text[0] != '\0'));
    if (err == MR_OK) {
        journal_give();
    }
    journal_look();
    check();
    mr_assert(list() == 2);
    journal_give();
    mr_sim_stop();
    return met;
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_refused();
    test_refused_often();
    for (uint64_t seed = 1; seed <= 10; seed++) {
        test_forgotten(seed);
    }
    test_forgotten_and_cut();
    test_all_in_use();
    test_all_accepted();
    test_repetitions_are_accepted();
    test_repetitions_are_one_entry();
    test_no_entry();
    test_looking();
    for (uint64_t nth = 1; start_fails_at(nth, MR_SIM_FAULT_IO); nth++) {
    }
    return 0;
}
