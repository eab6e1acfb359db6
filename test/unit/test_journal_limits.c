/* test_journal_limits.c
 * links: journal os_sim base
 *
 * Goal:   at its limits the journal is slower or says no, and never wrong: more devices in one
 *         segment than its table of names holds, more cursors than there are slots, a cursor that
 *         cannot be written, a segment for whose removal there is no room, spares that an earlier
 * life left. Method: the simulated disk, stepped by hand; what was appended is read back, from
 * memory and behind a restart.
 */
#include "base/hash.h"
#include "base/log.h"
#include "journal/books.h"
#include "journal/journal.h"
#include "journal/reader.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>

enum { DEVICES = MR_NAMES_MAX + 5000 };

static struct mr_journal *journal;
static struct mr_lane *lane;

static void open_with(uint32_t segment_bytes, uint64_t max_bytes)
{
    struct mr_journal_options options = {
        .path = "/j",
        .name = "limits",
        .max_bytes = max_bytes,
        .segment_bytes = segment_bytes,
        .block_bytes = 64 << 10,
        .record_bytes_max = 4096,
        .manual = true,
    };
    struct mr_error why = {.text = ""};

    if (mr_journal_open(&journal, &options, NULL, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    lane = mr_journal_lane(journal, 0);
}

static void close_journal(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void commit(uint64_t seq)
{
    lane_commit(lane, seq);
}

/* ---- names ---- */

static void names_of(uint64_t seq, char client[32], char topic[32])
{
    snprintf(client, 32, "device-%llu", (unsigned long long)(seq % DEVICES));
    snprintf(topic, 32, "plant/%llu", (unsigned long long)(seq % DEVICES));
}

static void append_event(uint64_t seq, size_t payload_len)
{
    static uint8_t payload[4000];
    char client[32];
    char topic[32];
    struct mr_appended out;

    names_of(seq, client, topic);
    memset(payload, (int)seq, payload_len);
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .client = mr_span_of(client),
                                   .topic = mr_span_of(topic),
                                   .payload = mr_span_make(payload, payload_len)};
    mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK && out.seq == seq);
    if (seq % 500 == 0) {
        commit(seq);
    }
}

static void read_all(uint64_t last)
{
    struct mr_reader *reader;
    struct mr_event event;
    struct mr_view view;
    uint64_t seq = 1;
    enum mr_err err;

    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while ((err = mr_reader_next(reader, &view)) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            char client[32];
            char topic[32];
            names_of(seq, client, topic);
            mr_assert(event.seq == seq && mr_span_is(event.client, client));
            mr_assert(mr_span_is(event.topic, topic));
            mr_assert(event.payload.len == 8 && event.payload.at[0] == (uint8_t)seq);
            seq += 1;
        }
        mr_view_unpin(&view);
    }
    mr_assert(err == MR_ERR_AGAIN && seq == last + 1);
    mr_reader_close(reader);
}

/* A name longer than the table notes is written in full each time, and is the same. */
static void test_long_names(void)
{
    enum { LONG = 70000, LONG_RECORD = 3 * LONG };
    static char text[LONG + 1];
    struct mr_journal_options options = {.path = "/j",
                                         .name = "limits",
                                         .max_bytes = 16 << 20,
                                         .segment_bytes = 1 << 20,
                                         .record_bytes_max = LONG_RECORD,
                                         .manual = true};
    struct mr_appended out;
    struct mr_reader *reader;
    struct mr_event event;
    struct mr_view view;

    memset(text, 'n', LONG);
    mr_sim_start(9);
    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    lane = mr_journal_lane(journal, 0);
    for (uint64_t seq = 1; seq <= 6; seq++) {
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of(seq % 3 == 0 ? text : "c"),
                                       .username = mr_span_of(seq % 3 == 1 ? text : "u"),
                                       .topic = mr_span_of(seq % 3 == 2 ? text : "t")};
        mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK && out.seq == seq);
        commit(seq);
    }
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    uint64_t seq = 1;
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.seq == seq && event.name_id == MR_NAME_NONE);
            mr_assert(mr_span_is(event.client, seq % 3 == 0 ? text : "c"));
            mr_assert(mr_span_is(event.username, seq % 3 == 1 ? text : "u"));
            mr_assert(mr_span_is(event.topic, seq % 3 == 2 ? text : "t"));
            seq += 1;
        }
        mr_view_unpin(&view);
    }
    mr_assert(seq == 7);
    mr_reader_close(reader);
    close_journal();
    mr_sim_stop();
}

/* Each device comes twice: the second time those of the table by number, the others in full. */
static void test_more_devices_than_names(void)
{
    uint64_t last = 2 * (uint64_t)DEVICES;
    struct mr_lane_stats stats;

    mr_sim_start(1);
    open_with(32 << 20, 128 << 20);
    for (uint64_t seq = 1; seq <= last; seq++) {
        append_event(seq, 8);
    }
    commit(last);
    mr_lane_stats(lane, &stats);
    mr_assert(stats.segments == 1);
    read_all(last);
    close_journal();
    open_with(32 << 20, 128 << 20);
    read_all(last);
    close_journal();
    mr_sim_stop();
}

/* ---- cursors ---- */

static enum mr_err cursor_open(unsigned number, struct mr_cursor **out)
{
    char name[32];
    bool is_new;

    snprintf(name, sizeof(name), "bridge-%u", number);
    return mr_cursor_open(journal, name, 0, MR_START_OLDEST, out, &is_new, NULL);
}

static void test_more_cursors_than_slots(void)
{
    struct mr_cursor *cursor = NULL;
    struct mr_error why = {.text = ""};
    char longest[MR_CURSOR_NAME_MAX + 2];
    bool is_new;

    mr_sim_start(2);
    open_with(1 << 20, 16 << 20);
    for (unsigned i = 0; i < MR_CURSORS_MAX; i++) {
        mr_assert(cursor_open(i, &cursor) == MR_OK);
    }
    mr_assert(mr_cursor_open(journal, "one-more", 0, MR_START_OLDEST, &cursor, &is_new, &why) ==
              MR_ERR_FULL);
    mr_assert(strstr(why.text, "millrace journal forget") != NULL);
    mr_assert(mr_cursor_forget(journal, "bridge-7") == MR_OK);
    mr_assert(mr_cursor_open(journal, "one-more", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    mr_assert(mr_cursor_open(journal, longest, 0, MR_START_OLDEST, &cursor, &is_new, &why) ==
              MR_ERR_CONFIG);
    close_journal();
    open_with(1 << 20, 16 << 20);
    mr_assert(cursor_open(7, &cursor) == MR_ERR_FULL); /* its slot has another name now */
    close_journal();
    mr_sim_stop();
}

/* An operator's word that does not come to the medium changes nothing. */
static void test_a_cursor_that_cannot_be_written(void)
{
    struct mr_cursor *cursor = NULL;
    struct mr_books before;
    struct mr_books after;

    mr_sim_start(3);
    open_with(1 << 20, 16 << 20);
    for (uint64_t seq = 1; seq <= 100; seq++) {
        append_event(seq, 8);
    }
    commit(100);
    mr_assert(cursor_open(1, &cursor) == MR_OK);
    mr_assert(mr_cursor_put(cursor, 40, MR_CURSOR_FOLLOWS) == MR_OK);
    mr_assert(mr_cursor_books(cursor, &before) == 40);
    for (int i = 0; i < 2; i++) {
        enum mr_sim_fault fault = i == 0 ? MR_SIM_FAULT_IO : MR_SIM_FAULT_FULL;
        mr_sim_inject(i == 0 ? MR_SIM_SYNC : MR_SIM_WRITE, 1, 1, fault);
        mr_assert(mr_cursor_seek(cursor, 90) == (i == 0 ? MR_ERR_IO : MR_ERR_FULL));
        mr_sim_inject_clear();
        mr_assert(mr_cursor_books(cursor, &after) == 40);
        mr_assert(mr_cursor_rule(cursor) == MR_CURSOR_FOLLOWS);
        mr_assert(memcmp(&before, &after, sizeof(before)) == 0);
    }
    mr_assert(mr_cursor_seek(cursor, 90) == MR_OK && mr_cursor_get(cursor) == 90);
    mr_assert(mr_cursor_rule(cursor) == MR_CURSOR_LEADS);
    close_journal();
    mr_sim_stop();
}

/* ---- segments ---- */

static uint64_t oldest(void)
{
    struct mr_lane_stats stats;

    mr_lane_stats(lane, &stats);
    return stats.seq_oldest;
}

static void step_keeper(void)
{
    for (int i = 0; i < 20; i++) {
        mr_sim_advance(1000000000);
        mr_journal_step_keeper(journal);
    }
}

/* File systems that copy on write need some room to remove a file. */
static void test_a_segment_that_cannot_go(void)
{
    struct mr_cursor *cursor = NULL;
    uint64_t seq = 1;

    mr_sim_start(4);
    open_with(256 << 10, 8 << 20);
    mr_assert(cursor_open(1, &cursor) == MR_OK);
    for (; seq <= 1000; seq++) {
        append_event(seq, 2000);
        mr_journal_step_keeper(journal);
    }
    commit(1000);
    mr_assert(oldest() == 1);
    mr_cursor_set(cursor, 1000);
    mr_sim_inject(MR_SIM_REMOVE, 1, 0, MR_SIM_FAULT_FULL);
    step_keeper();
    uint64_t stays = oldest();
    mr_assert(stays < 500);
    for (; seq <= 1200; seq++) { /* nothing is in the way of what comes */
        append_event(seq, 2000);
        mr_journal_step_keeper(journal);
    }
    commit(1200);
    mr_assert(oldest() >= stays && mr_lane_state(lane) == MR_LANE_OPEN);
    mr_sim_inject_clear();
    step_keeper();
    mr_assert(oldest() > 800); /* the segment of the cursor is still needed */
    close_journal();
    mr_sim_stop();
}

static void leave_spare(uint32_t slot, uint64_t bytes)
{
    struct mr_file file;
    char path[64];

    snprintf(path, sizeof(path), "/j/lane-00/spare-%u.seg", slot);
    mr_assert(mr_file_open(&file, path, MR_FILE_CREATE, NULL) == MR_OK);
    mr_assert(mr_file_fill_zero(&file, bytes) == MR_OK);
    mr_file_close(&file);
}

static void count_spare(void *arg, const char *name)
{
    *(int *)arg += strncmp(name, "spare-", 6) == 0 ? 1 : 0;
}

/* Of the spares that an earlier life left one is used, of the right size, and no other stays. */
static void test_spares_of_an_earlier_life(void)
{
    int spares = 0;

    mr_sim_start(6);
    open_with(64 << 10, 512 << 10);
    close_journal();
    leave_spare(3, 32 << 10);
    leave_spare(17, 64 << 10);
    leave_spare(18, 64 << 10);
    leave_spare(1023, 64 << 10);
    open_with(64 << 10, 512 << 10);
    mr_assert(mr_dir_list("/j/lane-00", count_spare, &spares) == MR_OK && spares == 1);
    close_journal();
    mr_sim_stop();
}

static void drop_line(const char *line, size_t len)
{
    (void)line;
    (void)len;
}

int main(void)
{
    test_long_names();
    mr_log_set_writer(drop_line);
    test_more_devices_than_names();
    test_more_cursors_than_slots();
    test_a_cursor_that_cannot_be_written();
    test_a_segment_that_cannot_go();
    test_spares_of_an_earlier_life();
    (void)puts("limits: ok");
    return 0;
}
