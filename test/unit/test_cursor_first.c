/* test_cursor_first.c
 * links: journal os_sim base
 *
 * Goal:   a cursor whose bridge has never moved survives what one that has moved does: no byte that
 *         changes takes it away without a word, from the moment that it was made, in a slot that is
 *         new or was another's, also if a version made it that wrote one copy only and this one was
 *         started since.  A power cut while it is made is nobody's damage: nothing is said, and the
 *         start behind it makes it.
 * Method: the simulated disk; each byte of either copy changes, and of both; the machine stops in
 *         each call of the making, with many seeds; the disk has no room for the second copy.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/cursor.h"
#include "journal/format.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

enum { RECORDS = 7, SEEDS = 24, HALF_BYTES = MR_CURSORS_MAX * MR_CURSOR_SLOT_BYTES };

static struct mr_journal *journal;
static bool found;
static size_t said;

static void take(bool read_only)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "first",
                                               .lane_count = read_only ? 0 : 1,
                                               .max_bytes = 1 << 20,
                                               .segment_bytes = 64 << 10,
                                               .block_bytes = 16384,
                                               .record_bytes_max = 8000,
                                               .read_only = read_only,
                                               .cursors_only = read_only,
                                               .manual = true};

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
}

/* Made behind all that there is, so that one that begins anew would be told from it. */
static enum mr_err bridge_make(bool *is_new)
{
    struct mr_cursor *cursor;

    return mr_cursor_open(journal, "bridge", 0, MR_START_NOW, &cursor, is_new, NULL);
}

static void on_cursor(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    (void)arg;
    found |= strcmp(name, "bridge") == 0 && lane == 0 && seq == RECORDS;
}

static void hear(const char *line, size_t len)
{
    said += memmem(line, len, "damaged in both copies", 22) != NULL;
    drop_line(line, len);
}

/* Is it there, where it was made? */
static bool look(void)
{
    said = 0;
    take(true);
    found = false;
    mr_cursor_list(journal, on_cursor, NULL);
    mr_assert(mr_journal_close(journal) == MR_OK);
    return found;
}

static void damage(uint64_t pos)
{
    mr_assert(mr_sim_file_damage("/j/cursors", pos, 0xff) == MR_OK);
}

/* ---- how it was made ---- */

static void another_had_the_slot(void)
{
    struct mr_cursor *cursor;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "gone", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_cursor_close(cursor);
    mr_assert(mr_cursor_forget(journal, "gone") == MR_OK);
}

static void copy_read(uint64_t pos, uint8_t copy[MR_CURSOR_SLOT_BYTES])
{
    struct mr_file file;
    size_t got = 0;

    mr_assert(mr_file_open(&file, "/j/cursors", MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, copy, MR_CURSOR_SLOT_BYTES, pos, &got) == MR_OK);
    mr_assert(got == MR_CURSOR_SLOT_BYTES);
    mr_file_close(&file);
}

/* An older version wrote one copy, and left the other as it was; the gateway starts once, and
 * stops.
 */
static void an_older_version_made_it(uint64_t pos, const uint8_t before[MR_CURSOR_SLOT_BYTES])
{
    struct mr_span part = mr_span_make(before, MR_CURSOR_SLOT_BYTES);
    struct mr_file file;

    mr_assert(mr_file_open(&file, "/j/cursors", MR_FILE_READ_WRITE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &part, 1, pos) == MR_OK && mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
    take(false);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

enum made { NEW_SLOT, USED_SLOT, BY_AN_OLDER_VERSION, BY_AN_OLDER_VERSION_IN_A_USED_SLOT, WAYS };

static void make(enum made how)
{
    bool used = how == USED_SLOT || how == BY_AN_OLDER_VERSION_IN_A_USED_SLOT;
    uint64_t second = used ? 0 : HALF_BYTES; /* the copy that is written last */
    uint8_t before[MR_CURSOR_SLOT_BYTES];
    bool is_new = false;

    mr_sim_start(1);
    take(false);
    lane_fill(mr_journal_lane(journal, 0), RECORDS);
    if (used) {
        another_had_the_slot();
    }
    copy_read(second, before);
    mr_assert(bridge_make(&is_new) == MR_OK && is_new);
    mr_sim_crash(); /* it was told, so it is there */
    if (how >= BY_AN_OLDER_VERSION) {
        an_older_version_made_it(second, before);
    }
    mr_assert(look());
}

/* ---- what becomes of it ---- */

static void test_bytes(enum made how, uint64_t step)
{
    make(how);
    for (uint64_t pos = 0; pos < MR_CURSOR_SLOT_BYTES; pos += step) {
        damage(pos);
        mr_assert(look());
        damage(HALF_BYTES + pos);
        mr_assert(!look() && said == 1);
        damage(pos);
        mr_assert(look());
        damage(HALF_BYTES + pos);
    }
    mr_sim_stop();
}

/* A start has both copies again, so that the next damage is met too. */
static void test_one_after_the_other(void)
{
    make(NEW_SLOT);
    for (uint64_t i = 0; i < 4; i++) {
        damage(i % 2 * HALF_BYTES + 24);
        take(false);
        mr_assert(mr_journal_close(journal) == MR_OK);
        mr_assert(look());
    }
    mr_sim_stop();
}

static void bridge_make_stopped(void *arg)
{
    bool is_new;

    (void)arg;
    (void)!bridge_make(&is_new);
}

/* The machine stops in the `nth` call of the making; false: there is none. */
static bool stop_at(uint64_t nth, uint64_t seed, bool used)
{
    bool is_new = false;

    mr_sim_start(seed);
    take(false);
    lane_fill(mr_journal_lane(journal, 0), RECORDS);
    if (used) {
        another_had_the_slot();
    }
    mr_sim_inject(MR_SIM_ANY, nth, 1, MR_SIM_FAULT_CRASH);
    bool met = !mr_sim_run(bridge_make_stopped, NULL);
    mr_sim_inject_clear();
    if (!met) {
        mr_sim_crash();
    }
    bool is_there = look();
    mr_assert(said == 0 && (met || is_there));
    take(false);
    mr_assert(bridge_make(&is_new) == MR_OK && is_new == !is_there && said == 0);
    mr_assert(mr_journal_close(journal) == MR_OK);
    damage(seed % 2 * HALF_BYTES + 24);
    mr_assert(look());
    mr_sim_stop();
    return met;
}

static void test_power_cut(void)
{
    uint64_t nth = 1;

    for (bool met = true; met; nth++) {
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            met = stop_at(nth, seed, seed % 4 < 2);
        }
    }
    mr_assert(nth > 4); /* two writes and two flushes at least */
}

/* It counts with one copy, and has the other one as soon as there is room. */
static void test_no_room_for_the_second(void)
{
    bool is_new = false;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        mr_sim_start(seed);
        take(false);
        lane_fill(mr_journal_lane(journal, 0), RECORDS);
        mr_sim_inject(MR_SIM_WRITE, 2, 2, MR_SIM_FAULT_FULL);
        mr_assert(bridge_make(&is_new) == MR_OK && is_new);
        mr_journal_step_keeper(journal);
        mr_journal_step_keeper(journal);
        mr_sim_inject_clear();
        mr_sim_crash();
        damage(24);
        mr_assert(look());
        mr_sim_stop();
    }
}

/* It is refused, and nothing of it is left, or nothing more is written. */
static void test_the_second_fails(void)
{
    for (uint64_t failures = 1; failures <= 3; failures++) {
        bool is_new = false;

        mr_sim_start(failures);
        take(false);
        lane_fill(mr_journal_lane(journal, 0), RECORDS);
        mr_sim_inject(MR_SIM_SYNC, 2, failures, MR_SIM_FAULT_IO);
        mr_assert(bridge_make(&is_new) == MR_ERR_IO);
        mr_sim_inject_clear();
        mr_assert((mr_journal_close(journal) == MR_OK) == (failures == 1));
        mr_sim_crash();
        mr_assert(failures > 1 || !look());
        mr_sim_stop();
    }
}

int main(void)
{
    mr_log_set_writer(hear);
    for (enum made how = NEW_SLOT; how < WAYS; how++) {
        test_bytes(how, how == NEW_SLOT ? 1 : 8);
    }
    test_one_after_the_other();
    test_power_cut();
    test_no_room_for_the_second();
    test_the_second_fails();
    return 0;
}
