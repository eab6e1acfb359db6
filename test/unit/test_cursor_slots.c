/* test_cursor_slots.c
 * links: journal os_sim base
 *
 * Goal:   the table of cursors says no where it must, in a sentence, and never takes for a cursor
 *         what is none: when it is full, when a slot's bytes cannot be, when the file is cut short.
 *         Who is not configured is told of, is followed into new lanes as long as there are slots,
 *         and whoever is paused is paused in each lane.
 * Method: the simulated disk; slots with a checksum that fits are written by hand.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/log.h"
#include "crash_kit.h"
#include "journal/cursor.h"
#include "journal/format.h"
#include "journal/live.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 64 << 10 };

static struct mr_journal *journal;
static struct mr_error why;

static enum mr_err open_as(uint32_t lanes, bool read_only, bool cursors_only)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "slots",
                                               .lane_count = lanes,
                                               .max_bytes = 16 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16384,
                                               .record_bytes_max = 8000,
                                               .read_only = read_only,
                                               .cursors_only = cursors_only,
                                               .manual = true};

    why.text[0] = '\0';
    return mr_journal_open(&journal, &options, NULL, &why);
}

static void take(uint32_t lanes)
{
    mr_assert(open_as(lanes, false, false) == MR_OK);
}

static void give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static enum mr_err cursor_open(const char *name, uint32_t lane, struct mr_cursor **out)
{
    bool is_new;

    return mr_cursor_open(journal, name, lane, MR_START_OLDEST, out, &is_new, &why);
}

static struct mr_cursor *cursor_of(const char *name, uint32_t lane)
{
    struct mr_cursor *cursor;

    mr_assert(cursor_open(name, lane, &cursor) == MR_OK);
    return cursor;
}

static size_t cursors;
static char last_name[MR_CURSOR_NAME_MAX + 1];

static void on_cursor(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    (void)arg;
    (void)lane;
    (void)seq;
    cursors += 1;
    (void)snprintf(last_name, sizeof(last_name), "%s", name);
}

static size_t count(void)
{
    cursors = 0;
    mr_cursor_list(journal, on_cursor, NULL);
    return cursors;
}

/* ---- what is logged ---- */

static const char *listened;
static size_t heard;

static void hear(const char *line, size_t len)
{
    (void)len;
    heard += listened != NULL && strstr(line, listened) != NULL;
}

static void listen_to(const char *text)
{
    listened = text;
    heard = 0;
}

/* ---- names ---- */

static void test_names(void)
{
    char name[MR_CURSOR_NAME_MAX + 2];
    struct mr_cursor *cursor;
    struct mr_cursor *live;

    mr_sim_start(1);
    take(1);
    mr_assert(cursor_open("", 0, &cursor) == MR_ERR_CONFIG);
    memset(name, 'n', sizeof(name));
    name[MR_CURSOR_NAME_MAX + 1] = '\0';
    mr_assert(cursor_open(name, 0, &cursor) == MR_ERR_CONFIG && why.text[0] == '"');
    name[MR_CURSOR_NAME_MAX] = '\0';
    cursor = cursor_of(name, 0);
    mr_assert(mr_cursor_live_begin(cursor, 0, &live, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "too long for a second position") != NULL);
    mr_assert(mr_cursor_live_found(cursor, &live, &why) == MR_OK && live == NULL);
    give();
    take(0);
    mr_assert(count() == 1 && strcmp(last_name, name) == 0);
    give();
    mr_sim_stop();
}

static void test_watch_and_pause(void)
{
    struct mr_cursor *watched;
    struct mr_wake wake;

    mr_sim_start(2);
    take(3);
    mr_assert(mr_wake_open(&wake, NULL) == MR_OK);
    mr_assert(mr_cursor_pause(journal, "bridge", true) == MR_ERR_REJECT);
    (void)cursor_of("other", 0);
    struct mr_cursor *cursor = cursor_of("bridge", 0);
    mr_assert(mr_cursor_watch(journal, "bridge", 1, &wake, &watched) == MR_ERR_REJECT);
    mr_assert(mr_cursor_watch(journal, "bridge", 0, &wake, &watched) == MR_OK && watched == cursor);
    mr_assert(mr_cursor_watch(journal, "bridge", 0, &wake, &watched) == MR_ERR_REJECT);
    mr_cursor_ring(cursor);
    mr_cursor_unwatch(cursor);
    mr_cursor_ring(cursor);
    mr_wake_close(&wake);
    (void)cursor_of("bridge", 1);
    mr_assert(mr_cursor_pause(journal, "bridge", true) == MR_OK);
    mr_assert(mr_cursor_is_paused(cursor) && mr_cursor_is_paused(cursor_of("bridge", 2)));
    mr_assert(!mr_cursor_is_paused(cursor_of("other", 1)));
    give();
    take(0);
    mr_assert(mr_cursor_is_paused(cursor_of("bridge", 1)) &&
              !mr_cursor_is_paused(cursor_of("other", 0)));
    give();
    mr_sim_stop();
}

/* ---- not configured ---- */

static void test_nobody_opens_it(void)
{
    mr_sim_start(3);
    take(1);
    struct mr_cursor *bridge = cursor_of("bridge", 0);
    struct mr_cursor *live;
    mr_assert(mr_cursor_live_begin(bridge, 0, &live, NULL) == MR_OK);
    (void)cursor_of("here", 0);
    give();
    take(0);
    (void)cursor_of("here", 0);
    listen_to("but no such bridge");
    mr_journal_step_keeper(journal);
    mr_assert(heard == 0); /* it may still come */
    mr_sim_advance(INT64_C(11000000000));
    mr_journal_step_keeper(journal);
    mr_journal_step_keeper(journal);
    mr_assert(heard == 1);
    listen_to(NULL);
    give();
    mr_sim_stop();
}

static void fill_table(void)
{
    for (uint32_t i = 0; count() < MR_CURSORS_MAX; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "gone-%u", i);
        (void)cursor_of(name, 0);
    }
}

static void test_full(void)
{
    struct mr_cursor *cursor;

    mr_sim_start(4);
    take(1);
    cursor = cursor_of("bridge", 0);
    fill_table();
    mr_assert(cursor_open("one-more", 0, &cursor) == MR_ERR_FULL);
    mr_assert(strstr(why.text, "journal forget NAME") != NULL);
    struct mr_cursor *live;
    mr_assert(mr_cursor_live_begin(cursor_of("bridge", 0), 0, &live, &why) == MR_ERR_FULL);
    give();
    take(2);
    (void)cursor_of("bridge", 0);
    listen_to("is not kept for");
    mr_assert(mr_cursors_follow(journal, &why) == MR_OK && heard == MR_CURSORS_MAX - 1);
    listen_to(NULL);
    mr_assert(count() == MR_CURSORS_MAX);
    mr_assert(mr_cursor_forget(journal, "gone-0") == MR_OK && count() == MR_CURSORS_MAX - 1);
    mr_assert(mr_cursors_follow(journal, &why) == MR_OK && count() == MR_CURSORS_MAX);
    give();
    mr_sim_stop();
}

/* Which call to the disk fails does not matter: it says so, and the next try follows. */
static void test_following_fails(void)
{
    bool met = true;

    for (uint64_t nth = 1; met; nth++) {
        mr_sim_start(nth);
        take(1);
        (void)cursor_of("gone", 0);
        (void)cursor_of("$own", 0);
        give();
        take(2);
        (void)cursor_of("here", 0);
        mr_sim_inject(MR_SIM_ANY, nth, 1, MR_SIM_FAULT_FULL);
        uint64_t calls = mr_sim_calls(MR_SIM_ANY);
        enum mr_err err = mr_cursors_follow(journal, &why);
        met = mr_sim_calls(MR_SIM_ANY) - calls >= nth;
        mr_sim_inject_clear();
        mr_assert(err == MR_OK || (err == MR_ERR_FULL && strstr(why.text, "'gone'") != NULL) ||
                  (err == MR_ERR_IO && why.text[0] != '\0'));
        mr_assert(err != MR_OK || count() == 4);
        mr_assert(mr_cursors_follow(journal, &why) == MR_OK && count() == 4);
        (void)!mr_journal_close(journal);
        mr_sim_stop();
    }
}

/* ---- forgetting ---- */

static void test_forgetting_fails(void)
{
    mr_sim_start(5);
    take(1);
    (void)cursor_of("bridge", 0);
    mr_assert(mr_cursor_forget(journal, "nobody") == MR_OK && count() == 1);
    mr_sim_inject(MR_SIM_WRITE, 1, 1, MR_SIM_FAULT_FULL);
    mr_assert(mr_cursor_forget(journal, "bridge") == MR_ERR_FULL && count() == 1);
    mr_sim_inject(MR_SIM_SYNC, 1, 1, MR_SIM_FAULT_IO);
    mr_assert(mr_cursor_forget(journal, "bridge") == MR_ERR_IO);
    mr_sim_inject_clear();
    mr_assert(mr_journal_close(journal) == MR_ERR_IO); /* what is there is not known */
    mr_sim_stop();
}

static void test_forgetting_who_is_not_there(void)
{
    mr_sim_start(6);
    take(1);
    (void)cursor_of("$a-1", 0);
    (void)cursor_of("$a-2", 0);
    (void)cursor_of("$b-1", 0);
    give();
    take(0);
    (void)cursor_of("$a-2", 0);
    mr_assert(mr_cursor_forget_unopened(journal, "$a-") == MR_OK);
    mr_assert(count() == 2 && strcmp(last_name, "$b-1") == 0);
    give();
    mr_sim_stop();
}

/* ---- bytes ---- */

static void slot_file(uint32_t copy, uint32_t index, uint8_t slot[MR_CURSOR_SLOT_BYTES], bool put)
{
    uint64_t pos = ((uint64_t)copy * MR_CURSORS_MAX + index) * MR_CURSOR_SLOT_BYTES;
    struct mr_span part = mr_span_make(slot, MR_CURSOR_SLOT_BYTES);
    struct mr_file file;
    size_t got = 0;

    mr_assert(mr_file_open(&file, "/j/cursors", MR_FILE_READ_WRITE, NULL) == MR_OK);
    if (put) {
        mr_put_u32(slot + MR_CURSOR_SLOT_BYTES - 4, mr_crc32c(0, slot, MR_CURSOR_SLOT_BYTES - 4));
        mr_assert(mr_file_write(&file, &part, 1, pos) == MR_OK && mr_file_sync(&file) == MR_OK);
    } else {
        mr_assert(mr_file_read(&file, slot, MR_CURSOR_SLOT_BYTES, pos, &got) == MR_OK);
    }
    mr_file_close(&file);
}

/* docs/JOURNAL.md, Cursors. */
static void test_slots(void)
{
    uint8_t slot[MR_CURSOR_SLOT_BYTES];
    uint8_t changed[MR_CURSOR_SLOT_BYTES];

    mr_sim_start(7);
    take(1);
    (void)cursor_of("bridge", 0);
    give();
    slot_file(0, 0, slot, false);
    memcpy(changed, slot, sizeof(slot));
    changed[40] = MR_CURSOR_NAME_MAX + 1; /* no name is as long */
    slot_file(0, 0, changed, true);
    slot_file(1, 0, changed, true);
    mr_assert(open_as(0, true, true) == MR_OK && count() == 0);
    give();
    memcpy(changed, slot, sizeof(slot));
    changed[6] = 1; /* there is no such lane */
    slot_file(0, 0, changed, true);
    slot_file(1, 0, changed, true);
    mr_assert(open_as(0, true, true) == MR_OK && count() == 0);
    give();
    memcpy(changed, slot, sizeof(slot));
    mr_put_u64(changed + 16, mr_get_u64(slot + 16) + 1); /* the newer copy is of another */
    changed[41] = 'B';
    slot_file(0, 0, slot, true);
    slot_file(1, 0, changed, true);
    mr_assert(open_as(0, true, true) == MR_OK && count() == 1);
    mr_assert(strcmp(last_name, "Bridge") == 0);
    give();
    mr_put_u64(changed + 16, mr_get_u64(slot + 16) - 1);
    slot_file(1, 0, changed, true);
    mr_assert(open_as(0, true, true) == MR_OK && count() == 1);
    mr_assert(strcmp(last_name, "bridge") == 0);
    give();
    listen_to("is damaged in both copies");
    mr_assert(mr_sim_file_damage("/j/cursors", 45, 1) == MR_OK);
    mr_assert(mr_sim_file_damage("/j/cursors", 45 + MR_CURSORS_MAX * MR_CURSOR_SLOT_BYTES, 1) ==
              MR_OK);
    mr_assert(open_as(0, true, true) == MR_OK && count() == 0 && heard == 1);
    give();
    listen_to("is cut short");
    slot_file(0, 0, slot, true);
    mr_assert(mr_sim_file_cut("/j/cursors", 1000) == MR_OK);
    mr_assert(open_as(0, false, true) == MR_OK && count() == 1 && heard == 1);
    give();
    mr_assert(open_as(0, false, true) == MR_OK && count() == 1 && heard == 1); /* whole again */
    give();
    listen_to(NULL);
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(hear);
    test_names();
    test_watch_and_pause();
    test_nobody_opens_it();
    test_full();
    test_following_fails();
    test_forgetting_fails();
    test_forgetting_who_is_not_there();
    test_slots();
    return 0;
}
