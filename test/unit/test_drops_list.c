/* test_drops_list.c
 * links: journal os_sim base
 *
 * Goal:   the list of what was dropped holds in trouble: when all of it is in use nobody drops
 *         anything, until somebody has passed what stands there; whichever call to the disk fails
 *         while something is dropped, or while the list is opened, what a bridge has not got is
 *         there or in the list, and who is refused gets a sentence; a disk without room for the
 *         list means that nothing is dropped; what is no entry of this version is passed over.
 *         Another lane that drops behind a sync that failed takes nothing out of the list.
 * Method: manual steps on the simulated disk; slots with a checksum that fits are written by hand.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/log.h"
#include "crash_kit.h"
#include "journal/drops.h"
#include "journal/ranges.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAYLOAD = 7900, SEGMENT = 64 << 10, LANES = 2, SLOT_BYTES = 256 };

static struct mr_journal *journal;

static enum mr_err take_as(struct mr_journal_options options, struct mr_error *why)
{
    options.path = "/j";
    options.name = "list";
    options.lane_count_new = LANES;
    options.max_bytes = LANES * 5 * SEGMENT;
    options.segment_bytes = SEGMENT;
    options.block_bytes = 16384;
    options.block_count = 12;
    options.record_bytes_max = 8000;
    options.manual = true;
    return mr_journal_open(&journal, &options, NULL, why);
}

static void take(void)
{
    const struct mr_journal_options options = {.when_full = MR_WHEN_FULL_DROP};

    mr_assert(take_as(options, NULL) == MR_OK);
}

static void give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static struct mr_cursor *bridge(uint32_t i, uint32_t lane)
{
    struct mr_cursor *cursor = NULL;
    char name[32];
    bool is_new;

    (void)snprintf(name, sizeof(name), "bridge-%u", i);
    mr_assert(mr_cursor_open(journal, name, lane, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    mr_cursors_rank(journal, name, &(struct mr_cursor_rank){.priority = 100, .may_drop = true});
    return cursor;
}

/* So many more events; false: the lane is full, or has failed, before. */
static bool put(uint32_t in, uint64_t count)
{
    static uint8_t payload[PAYLOAD];
    static int64_t now_ns;
    struct mr_lane *lane = mr_journal_lane(journal, in);
    struct mr_appended out;
    int tries = 0;

    while (count != 0 && tries < 4) {
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of("c"),
                                       .topic = mr_span_of("t"),
                                       .payload = mr_span_make(payload, PAYLOAD)};
        bool taken = mr_lane_append(lane, &record, NULL, &out) == MR_OK;
        count -= taken;
        tries = taken ? 0 : tries + 1;
        now_ns += 1000000000;
        (void)mr_lane_submit(lane, now_ns);
        (void)mr_lane_step_commit(lane);
        mr_lane_release(lane, mr_lane_durable(lane));
        mr_journal_step_keeper(journal);
    }
    return count == 0;
}

static uint64_t oldest(uint32_t in)
{
    struct mr_lane_stats stats;

    mr_lane_stats(mr_journal_lane(journal, in), &stats);
    return stats.seq_oldest;
}

static size_t listed;
static struct mr_drop last_listed;

static void on_drop(void *arg, const struct mr_drop *drop)
{
    (void)arg;
    listed += 1;
    last_listed = *drop;
}

static size_t list(void)
{
    listed = 0;
    mr_drops_list(journal, on_drop, NULL);
    return listed;
}

/* What the bridge has not passed is there, or in the list. */
static void check(struct mr_cursor *cursor, const char *name, uint32_t lane)
{
    uint64_t from = mr_cursor_get(cursor) + 1;

    mr_assert(from >= oldest(lane) ||
              mr_drops_in(journal, name, lane, from, oldest(lane) - 1) == oldest(lane) - from);
}

/* ---- all in use ---- */

enum { BRIDGES = MR_DROPS_MAX - 1, FEW = 30 };

/* A range is one per bridge and lane; where it goes on it needs a slot more for a moment. */
static void test_all_in_use(void)
{
    static struct mr_cursor *cursors[BRIDGES];

    mr_sim_start(1);
    take();
    for (uint32_t i = 0; i < BRIDGES; i++) {
        cursors[i] = bridge(i, 0);
    }
    mr_drops_arm(journal);
    while (list() == 0) {
        mr_assert(put(0, 1));
    }
    mr_assert(list() == BRIDGES);
    uint64_t gone = oldest(0);
    mr_assert(!put(0, 100) && mr_lane_state(mr_journal_lane(journal, 0)) == MR_LANE_FULL);
    mr_assert(oldest(0) == gone && list() == BRIDGES);
    /* They pass what stands there, and its slots serve those that are still away. */
    for (uint32_t i = 0; i + FEW < BRIDGES; i++) {
        mr_cursor_set(cursors[i], mr_lane_durable(mr_journal_lane(journal, 0)));
    }
    mr_journal_step_keeper(journal);
    mr_assert(put(0, 20) && oldest(0) > gone);
    for (uint32_t i = BRIDGES - FEW; i < BRIDGES; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "bridge-%u", i);
        check(cursors[i], name, 0);
        mr_assert(mr_drops_in(journal, name, 1, 1, gone) == 0); /* of the other lane nothing */
    }
    /* Where nothing is left nobody can be put back to. */
    struct mr_cursor *away = cursors[BRIDGES - 1];
    mr_cursor_set(away, 3);
    mr_assert(mr_cursor_lose(away, 1, 2) == MR_ERR_AGAIN && mr_cursor_get(away) == 3);
    mr_assert(mr_cursor_put(away, 2, MR_CURSOR_LEADS) == MR_ERR_AGAIN);
    mr_assert(mr_cursor_get(away) == 3);
    give();
    mr_sim_stop();
}

/* ---- calls that fail while something is dropped ---- */

static void fill(void)
{
    struct mr_cursor *cursor = bridge(0, 0);

    (void)bridge(1, 0);
    (void)bridge(0, 1);
    mr_drops_arm(journal);
    mr_assert(put(0, 45) && put(1, 10));
    mr_assert(list() == 2);
    mr_cursor_set(cursor, 5);
    mr_journal_step_keeper(journal);
}

static bool drop_with(uint64_t nth, uint64_t count, enum mr_sim_fault fault)
{
    mr_sim_start(nth);
    take();
    fill();
    uint64_t calls = mr_sim_calls(MR_SIM_ANY);
    mr_sim_inject(MR_SIM_ANY, nth, count, fault);
    bool whole = put(0, 8);
    bool met = mr_sim_calls(MR_SIM_ANY) - calls >= nth;
    mr_sim_inject_clear();
    bool failed = mr_lane_state(mr_journal_lane(journal, 0)) == MR_LANE_FAILED;
    mr_assert(whole || failed || fault == MR_SIM_FAULT_FULL);
    if (failed) {
        mr_assert(strstr(mr_lane_state_text(mr_journal_lane(journal, 0)), "cannot") != NULL);
    }
    mr_assert(list() >= 2); /* nothing that was in it is missing now */
    check(bridge(0, 0), "bridge-0", 0);
    (void)put(1, 60); /* the other lane goes on, if it may */
    if (failed) {
        mr_sim_crash();
    } else {
        (void)!mr_journal_close(journal);
    }
    take();
    check(bridge(0, 0), "bridge-0", 0);
    check(bridge(1, 0), "bridge-1", 0);
    check(bridge(0, 1), "bridge-0", 1);
    mr_drops_arm(journal);
    mr_assert(put(0, 20)); /* and it goes on */
    check(bridge(0, 0), "bridge-0", 0);
    check(bridge(1, 0), "bridge-1", 0);
    give();
    mr_sim_stop();
    return met;
}

static void test_dropping_fails(void)
{
    bool met = true;

    for (uint64_t nth = 1; met; nth++) {
        met = drop_with(nth, 1, nth % 2 == 0 ? MR_SIM_FAULT_IO : MR_SIM_FAULT_FULL);
        met = drop_with(nth, 8, nth % 2 == 0 ? MR_SIM_FAULT_FULL : MR_SIM_FAULT_IO) || met;
    }
}

/* ---- calls that fail while it is opened ---- */

static bool open_with(uint64_t nth, bool first, enum mr_sim_fault fault)
{
    const struct mr_journal_options options = {.when_full = MR_WHEN_FULL_DROP,
                                               .cursors_only = !first};
    struct mr_error why = {.text = ""};

    mr_sim_start(nth);
    if (!first) {
        take();
        fill();
        give();
    }
    uint64_t calls = mr_sim_calls(MR_SIM_ANY);
    mr_sim_inject(MR_SIM_ANY, nth, 1, fault);
    enum mr_err err = take_as(options, &why);
    bool met = mr_sim_calls(MR_SIM_ANY) - calls >= nth;
    mr_sim_inject_clear();
    mr_assert(err == MR_OK || ((err == MR_ERR_IO || err == MR_ERR_FULL) && why.text[0] != '\0'));
    if (err == MR_OK) {
        (void)!mr_journal_close(journal);
    }
    take();
    mr_assert(list() == (first ? 0 : 2));
    give();
    mr_sim_stop();
    return met;
}

static void test_opening_fails(void)
{
    uint64_t nth = 1;

    while (open_with(nth, true, nth % 2 == 0 ? MR_SIM_FAULT_IO : MR_SIM_FAULT_FULL)) {
        nth += 1;
    }
    mr_assert(nth > 20);
    for (nth = 1; open_with(nth, false, MR_SIM_FAULT_IO); nth++) {
        mr_assert(open_with(nth, false, MR_SIM_FAULT_FULL));
    }
}

/* Without the list nothing is dropped; the next start makes it. */
static void test_no_room_for_the_list(void)
{
    const struct mr_journal_options hold = {.when_full = MR_WHEN_FULL_HOLD};

    mr_sim_start(1);
    mr_assert(take_as(hold, NULL) == MR_OK);
    (void)bridge(0, 0);
    mr_assert(!put(0, 200));
    give();
    mr_sim_inject(MR_SIM_FILL, 1, 0, MR_SIM_FAULT_FULL);
    take();
    mr_sim_inject_clear();
    (void)bridge(0, 0);
    mr_drops_arm(journal);
    mr_assert(!put(0, 20) && oldest(0) == 1 && list() == 0);
    mr_assert(mr_drops_in(journal, "bridge-0", 0, 1, 100) == 0);
    give();
    take();
    (void)bridge(0, 0);
    mr_drops_arm(journal);
    mr_assert(put(0, 20) && oldest(0) > 1 && list() == 1);
    give();
    mr_sim_stop();
}

/* ---- bytes ---- */

static void slot_file(uint64_t slot, uint8_t bytes[SLOT_BYTES], bool write)
{
    struct mr_span part = mr_span_make(bytes, SLOT_BYTES);
    struct mr_file file;
    size_t got = 0;

    mr_assert(mr_file_open(&file, "/j/drops", write ? MR_FILE_READ_WRITE : MR_FILE_READ, NULL) ==
              MR_OK);
    if (write) {
        mr_put_u32(bytes + SLOT_BYTES - 4, mr_crc32c(0, bytes, SLOT_BYTES - 4));
        mr_assert(mr_file_write(&file, &part, 1, slot * SLOT_BYTES) == MR_OK);
        mr_assert(mr_file_sync(&file) == MR_OK);
    } else {
        mr_assert(mr_file_read(&file, bytes, SLOT_BYTES, slot * SLOT_BYTES, &got) == MR_OK);
    }
    mr_file_close(&file);
}

/* One that was dropped for bridge-0 in lane 0, in slot *at. */
static void one_range(uint8_t slot[SLOT_BYTES], uint64_t *at)
{
    take();
    (void)bridge(0, 0);
    mr_drops_arm(journal);
    while (list() == 0) {
        mr_assert(put(0, 1));
    }
    mr_assert(list() == 1);
    give();
    for (*at = 0;; *at += 1) {
        slot_file(*at, slot, false);
        if (memcmp(slot, "MRDR", 4) == 0) {
            return;
        }
    }
}

/* docs/JOURNAL.md, Drops: what makes a slot free. */
static void test_no_range(void)
{
    static const struct {
        size_t at;
        uint8_t byte;
    } wrong[] = {{0, 'm'}, {4, 99}, {9, MR_CURSOR_NAME_MAX + 1}};
    uint8_t slot[SLOT_BYTES];
    uint8_t changed[SLOT_BYTES];
    uint64_t at;

    mr_sim_start(2);
    one_range(slot, &at);
    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        memcpy(changed, slot, SLOT_BYTES);
        changed[wrong[i].at] = wrong[i].byte;
        slot_file(at, changed, true);
        take();
        mr_assert(list() == 0);
        give();
    }
    slot_file(at, slot, true);
    mr_assert(mr_sim_file_damage("/j/drops", at * SLOT_BYTES + 20, 1) == MR_OK);
    take();
    mr_assert(list() == 0);
    give();
    mr_sim_stop();
}

/* A reason and a lane that this version does not know are told as they are; a range that a later
 * one contains is not told again, another's is.  Who only looks sees the same and writes nothing.
 */
static void test_what_is_listed(void)
{
    const struct mr_journal_options look = {.read_only = true};
    uint8_t slot[SLOT_BYTES];
    uint8_t changed[SLOT_BYTES];
    uint64_t at;

    mr_sim_start(3);
    one_range(slot, &at);
    memcpy(changed, slot, SLOT_BYTES);
    changed[8] = 77; /* reason */
    changed[6] = 9;  /* lane */
    slot_file(at + 1, changed, true);
    take();
    mr_assert(list() == 2 && last_listed.lane == 9);
    mr_assert(strcmp(mr_drop_reasons[last_listed.reason], "unknown") == 0);
    give();
    memcpy(changed, slot, SLOT_BYTES);
    mr_put_u64(changed + 16, 100);                       /* number */
    mr_put_u64(changed + 24, mr_get_u64(slot + 24) + 1); /* begins later: not the same range */
    slot_file(at + 1, changed, true);
    take();
    mr_assert(list() == 2);
    give();
    mr_put_u64(changed + 24, mr_get_u64(slot + 24));
    mr_put_u64(changed + 32, mr_get_u64(slot + 32) - 1); /* ends before */
    slot_file(at + 1, changed, true);
    take();
    mr_assert(list() == 2);
    give();
    mr_put_u64(changed + 32, mr_get_u64(slot + 32) + 1); /* contains it */
    slot_file(at + 1, changed, true);
    uint64_t written = mr_sim_calls(MR_SIM_WRITE) + mr_sim_calls(MR_SIM_SYNC);
    mr_assert(take_as(look, NULL) == MR_OK);
    mr_assert(list() == 1 && last_listed.seq_last == mr_get_u64(slot + 32) + 1);
    give();
    mr_assert(written == mr_sim_calls(MR_SIM_WRITE) + mr_sim_calls(MR_SIM_SYNC));
    take();
    mr_assert(list() == 1);
    give();
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_all_in_use();
    test_dropping_fails();
    test_opening_fails();
    test_no_room_for_the_list();
    test_no_range();
    test_what_is_listed();
    return 0;
}
