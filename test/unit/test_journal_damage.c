/* test_journal_damage.c
 *
 * Goal:   damage anywhere is told with the seqs it cost and costs no more; seqs are
 *         never given twice; foreign and newer files are refused; crashes in a loop
 *         do not eat the disk.
 * Method: a journal of several small segments on the simulated disk, one kind of
 *         damage per test.
 *
 * links: journal os_sim base
 */
#include "base/hash.h"
#include "base/log.h"
#include "crash_kit.h"
#include "journal/cursor.h"
#include "journal/journal.h"
#include "journal/reader.h"
#include "journal/scan.h"

#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"
#include "said.h"

#include <stdio.h>
#include <stdlib.h>

enum { EVENTS = 900, PAYLOAD = 300 };

static struct mr_journal *journal;
static struct mr_lane *lane;
static char **paths; /* of the segments */
static size_t path_count;

static struct mr_journal_options options_of(void)
{
    return (struct mr_journal_options){
        .path = "/j",
        .name = "damage",
        .max_bytes = 1 << 20,
        .segment_bytes = 64 << 10,
        .block_bytes = 16384,
        .record_bytes_max = 4096,
        .manual = true,
    };
}

static enum mr_err open_again(struct mr_recovery *recovery, struct mr_error *why)
{
    struct mr_journal_options options = options_of();
    enum mr_err err = mr_journal_open(&journal, &options, recovery, why);

    lane = err == MR_OK ? mr_journal_lane(journal, 0) : NULL;
    return err;
}

static void close_journal(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static enum mr_err append_event(uint64_t seq)
{
    uint8_t payload[PAYLOAD];
    char client[16];
    struct mr_appended out;

    memset(payload, (int)seq, sizeof(payload));
    snprintf(client, sizeof(client), "c%llu", (unsigned long long)(seq % 10));
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .client = mr_span_of(client),
        .topic = mr_span_of("t"),
        .payload = mr_span_make(payload, sizeof(payload)),
    };
    enum mr_err err = mr_lane_append(lane, &record, NULL, &out);
    mr_assert(err != MR_OK || out.seq == seq);
    return err;
}

static void commit_all(uint64_t seq)
{
    lane_commit(lane, seq);
}

static void append_to(uint64_t last)
{
    struct mr_lane_stats stats;

    mr_lane_stats(lane, &stats);
    for (uint64_t seq = stats.seq_next; seq <= last; seq++) {
        mr_assert(append_event(seq) == MR_OK);
        if (seq % 30 == 0 || seq == last) {
            commit_all(seq);
            mr_journal_step_keeper(journal);
        }
    }
}

static void start(void)
{
    mr_sim_start(7);
    mr_assert(open_again(NULL, NULL) == MR_OK);
    append_to(EVENTS);
    close_journal();
    mr_assert(mr_scan_list("/j/lane-00", &paths, &path_count) == MR_OK && path_count > 4);
}

static void stop(void)
{
    for (size_t i = 0; i < path_count; i++) {
        mr_free(paths[i]);
    }
    mr_free(paths);
    mr_sim_stop();
}

static uint64_t seq_of(const char *path)
{
    return strtoull(path + strlen(path) - 24, NULL, 10);
}

struct seen {
    uint64_t events;
    uint64_t lost;
    uint64_t lost_first; /* of the first lost range */
    uint64_t lost_last;  /* of the last one */
};

/* Read all from seq 1; each seq must come exactly once, whole or lost. */
static struct seen read_all(uint64_t last)
{
    struct seen seen = {0};
    struct mr_reader *reader;
    struct mr_view view;
    struct mr_event event;
    uint64_t next = 1;
    enum mr_err err;

    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while ((err = mr_reader_next(reader, &view)) != MR_ERR_AGAIN) {
        mr_assert(view.seq_first == next);
        next = view.seq_last + 1;
        if (err == MR_ERR_CORRUPT) {
            seen.lost_first = seen.lost == 0 ? view.seq_first : seen.lost_first;
            seen.lost_last = view.seq_last;
            seen.lost += view.seq_last - view.seq_first + 1;
            continue;
        }
        mr_assert(err == MR_OK);
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.payload.len == PAYLOAD && event.payload.at[7] == (uint8_t)event.seq);
            mr_assert(event.client.at[1] == '0' + event.seq % 10);
            seen.events += 1;
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    mr_assert(next == last + 1);
    return seen;
}

/* The last batch of an old segment: not looked at when starting, told when read. */
static void test_old_segment(void)
{
    struct mr_segment_header header;
    struct mr_batch_header batch = {0};
    struct mr_batch_header next;
    struct mr_recovery recovery;
    struct mr_scan *scan;
    struct mr_span bytes;
    uint64_t pos = 0;

    start();
    mr_assert(mr_scan_open(&scan, paths[1], &header, NULL) == MR_OK);
    while (mr_scan_next(scan, &next, &bytes, &pos) == MR_OK) {
        batch = next;
    }
    mr_scan_close(scan);
    uint64_t first = seq_of(paths[2]) - batch.record_count;
    mr_assert(mr_sim_file_damage(paths[1], pos + 60, 1) == MR_OK);
    mr_assert(open_again(&recovery, NULL) == MR_OK && recovery.corrupt_ranges == 0);
    struct seen seen = read_all(EVENTS);
    mr_assert(seen.lost_first == first && seen.lost_last == seq_of(paths[2]) - 1);
    mr_assert(seen.lost == seen.lost_last - seen.lost_first + 1);
    mr_assert(seen.events == EVENTS - seen.lost);
    close_journal();
    stop();
}

static void test_header_of_old_segment(void)
{
    struct mr_recovery recovery;

    start();
    mr_assert(mr_sim_file_damage(paths[1], 20, 1) == MR_OK);
    mr_assert(open_again(&recovery, NULL) == MR_OK);
    mr_assert(recovery.corrupt_ranges == 1);
    mr_assert(recovery.seqs_lost == seq_of(paths[2]) - seq_of(paths[1]));
    struct seen seen = read_all(EVENTS);
    mr_assert(seen.lost_first == seq_of(paths[1]) && seen.lost_last == seq_of(paths[2]) - 1);
    mr_assert(seen.events == EVENTS - recovery.seqs_lost);
    close_journal();
    stop();
}

static void test_missing_segment(void)
{
    struct mr_recovery recovery;

    start();
    mr_assert(mr_path_remove(paths[1]) == MR_OK);
    mr_assert(open_again(&recovery, NULL) == MR_OK);
    struct seen seen = read_all(EVENTS);
    mr_assert(seen.lost_first == seq_of(paths[1]) && seen.lost_last == seq_of(paths[2]) - 1);
    close_journal();
    stop();
}

/* The beginning is gone, and a cursor still needed it. */
static void test_missing_beginning(void)
{
    struct mr_cursor *cursor;
    struct mr_recovery recovery;
    bool is_new;

    start();
    mr_assert(open_again(NULL, NULL) == MR_OK);
    mr_assert(mr_cursor_open(journal, "b", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_cursor_set(cursor, 10);
    close_journal();
    mr_assert(mr_path_remove(paths[0]) == MR_OK);
    mr_assert(mr_path_remove(paths[1]) == MR_OK);
    mr_assert(open_again(&recovery, NULL) == MR_OK);
    mr_assert(recovery.corrupt_ranges == 1);
    mr_assert(recovery.seqs_lost == seq_of(paths[2]) - 11);
    mr_assert(mr_cursor_open(journal, "b", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_cursor_set(cursor, seq_of(paths[2]) - 1);
    close_journal();
    mr_assert(open_again(&recovery, NULL) == MR_OK && recovery.corrupt_ranges == 0);
    close_journal();
    stop();
}

/* The journal is full, a bridge catches up, and somebody made room by hand meanwhile:
 * what went is settled, so it is no reason to stop.
 */
static void test_settled_segment_removed_by_hand(void)
{
    struct mr_cursor *cursor;
    bool is_new;
    uint64_t seq = EVENTS + 1;

    start();
    mr_assert(open_again(NULL, NULL) == MR_OK);
    mr_assert(mr_cursor_open(journal, "b", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    while (append_event(seq) == MR_OK) {
        if (seq % 30 == 0) {
            commit_all(seq);
            mr_journal_step_keeper(journal);
        }
        seq += 1;
    }
    commit_all(seq - 1);
    mr_journal_step_keeper(journal);
    mr_assert(mr_lane_state(lane) == MR_LANE_FULL);
    mr_cursor_set(cursor, seq - 1);
    for (size_t i = 0; i < path_count; i++) { /* those of the last life are short, they go */
        mr_assert(mr_path_remove(paths[i]) == MR_OK);
        mr_free(paths[i]);
    }
    mr_free(paths);
    mr_assert(mr_scan_list("/j/lane-00", &paths, &path_count) == MR_OK && path_count > 2);
    mr_assert(mr_path_remove(paths[0]) == MR_OK);
    mr_journal_step_keeper(journal);
    mr_assert(mr_lane_state(lane) == MR_LANE_OPEN);
    append_to(seq + 500);
    mr_assert(mr_lane_state(lane) == MR_LANE_OPEN);
    close_journal();
    stop();
}

/* Somebody removes files while the journal is open: what was in them is told as lost,
 * and what is behind is read.  The file being written is another matter.
 */
static void test_segment_removed_while_open(void)
{
    struct mr_reader *reader;
    struct mr_view view;

    start();
    mr_assert(open_again(NULL, NULL) == MR_OK);
    mr_assert(mr_path_remove(paths[1]) == MR_OK);
    mr_assert(mr_path_remove(paths[path_count - 1]) == MR_OK);
    uint64_t last_first = seq_of(paths[path_count - 1]);
    struct seen seen = read_all(EVENTS);
    mr_assert(seen.lost_first == seq_of(paths[1]) && seen.lost_last == EVENTS);
    mr_assert(seen.lost == seq_of(paths[2]) - seq_of(paths[1]) + EVENTS + 1 - last_first);
    mr_assert(seen.events == EVENTS - seen.lost);

    append_to(EVENTS + 600);
    for (size_t i = 0; i < path_count; i++) {
        mr_free(paths[i]);
    }
    mr_free(paths);
    mr_assert(mr_scan_list("/j/lane-00", &paths, &path_count) == MR_OK);
    mr_assert(mr_path_remove(paths[path_count - 1]) == MR_OK);
    uint64_t written = seq_of(paths[path_count - 1]);
    mr_assert(mr_reader_open(&reader, journal, 0, written + 1, NULL, NULL) == MR_OK);
    mr_assert(mr_reader_next(reader, &view) == MR_ERR_IO);
    mr_reader_close(reader);
    (void)mr_journal_close(journal); /* as the last segment has no name any more */
    stop();
}

/* A disk that refuses to be read is not damage. */
static void test_unreadable_is_not_lost(void)
{
    struct mr_reader *reader;
    struct mr_view view;

    start();
    mr_assert(open_again(NULL, NULL) == MR_OK);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    mr_sim_inject(MR_SIM_READ, 1, 1, MR_SIM_FAULT_IO);
    mr_assert(mr_reader_next(reader, &view) == MR_ERR_IO);
    mr_assert(mr_reader_next(reader, &view) == MR_OK && view.seq_first == 1);
    mr_view_unpin(&view);
    mr_reader_close(reader);
    close_journal();
    stop();
}

/* The first batch of the first commit of a segment is damaged.  The file had its
 * name, so that whole commit was durable: its other batches are kept, and their
 * seqs are not given again.
 */
static void test_first_batch_of_first_commit(void)
{
    struct mr_segment_header header;
    struct mr_batch_header first;
    struct mr_recovery recovery;
    struct mr_lane_stats stats;
    struct mr_scan *scan;
    struct mr_span bytes;
    uint64_t pos;

    mr_sim_start(5);
    mr_assert(open_again(NULL, NULL) == MR_OK);
    for (uint64_t seq = 1; seq <= 100; seq++) { /* more than a block: two batches */
        mr_assert(append_event(seq) == MR_OK);
    }
    commit_all(100);
    close_journal();
    mr_assert(mr_scan_list("/j/lane-00", &paths, &path_count) == MR_OK && path_count == 1);
    mr_assert(mr_scan_open(&scan, paths[0], &header, NULL) == MR_OK);
    mr_assert(mr_scan_next(scan, &first, &bytes, &pos) == MR_OK && first.record_count < 100);
    mr_scan_close(scan);
    mr_assert(mr_sim_file_damage(paths[0], pos + 60, 1) == MR_OK);

    mr_assert(open_again(&recovery, NULL) == MR_OK);
    mr_assert(recovery.corrupt_ranges == 1 && recovery.seqs_lost == first.record_count);
    mr_lane_stats(lane, &stats);
    mr_assert(stats.seq_next == 101);
    (void)read_all(100);
    close_journal();
    stop();
}

/* The end is gone, but a cursor remembers it: nothing is numbered twice. */
static void test_cursor_beyond_the_end(void)
{
    struct mr_cursor *cursor;
    struct mr_recovery recovery;
    struct mr_lane_stats stats;
    bool is_new;

    start();
    mr_assert(open_again(NULL, NULL) == MR_OK);
    mr_assert(mr_cursor_open(journal, "hold", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_assert(mr_cursor_open(journal, "b", 0, MR_START_NOW, &cursor, &is_new, NULL) == MR_OK);
    close_journal();
    uint64_t first_lost = seq_of(paths[path_count - 1]);
    mr_assert(mr_path_remove(paths[path_count - 1]) == MR_OK);
    for (int round = 0; round < 2; round++) {
        mr_assert(open_again(&recovery, NULL) == MR_OK);
        mr_assert(recovery.corrupt_ranges == 1);
        mr_assert(recovery.seqs_lost == EVENTS + 1 - first_lost);
        mr_lane_stats(lane, &stats);
        mr_assert(stats.seq_next == EVENTS + 1);
        close_journal();
    }
    mr_assert(open_again(&recovery, NULL) == MR_OK);
    append_to(EVENTS + 50);
    for (int round = 0; round < 2; round++) {
        struct mr_reader *reader;
        struct mr_view view;
        mr_assert(mr_reader_open(&reader, journal, 0, first_lost, NULL, NULL) == MR_OK);
        mr_assert(mr_reader_next(reader, &view) == MR_ERR_CORRUPT);
        mr_assert(view.seq_first == first_lost && view.seq_last == EVENTS);
        mr_assert(mr_reader_next(reader, &view) == MR_OK && view.seq_first == EVENTS + 1);
        mr_view_unpin(&view);
        mr_reader_close(reader);
        close_journal();
        mr_assert(open_again(&recovery, NULL) == MR_OK);
    }
    close_journal();
    stop();
}

/* A start has both again. */
static void test_one_copy_of_a_cursor_is_enough(void)
{
    struct mr_cursor *cursor;
    bool is_new;

    start();
    mr_assert(open_again(NULL, NULL) == MR_OK);
    mr_assert(mr_cursor_open(journal, "b", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_cursor_set(cursor, 10);
    mr_journal_step_keeper(journal);
    mr_cursor_set(cursor, 20);
    close_journal();
    for (uint64_t half = 0; half < 2; half++) {
        uint64_t pos = half * MR_CURSORS_MAX * MR_CURSOR_SLOT_BYTES + 30;
        mr_assert(mr_sim_file_damage("/j/cursors", pos, 0xff) == MR_OK);
        mr_assert(open_again(NULL, NULL) == MR_OK);
        mr_assert(mr_cursor_open(journal, "b", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
                  MR_OK);
        mr_assert(!is_new && (mr_cursor_get(cursor) == 10 || mr_cursor_get(cursor) == 20));
        close_journal();
    }
    stop();
}

static void rewrite(const char *path, uint64_t pos, const void *bytes, size_t len)
{
    struct mr_file file;
    struct mr_span part = mr_span_make(bytes, len);

    mr_assert(mr_file_open(&file, path, MR_FILE_READ_WRITE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &part, 1, pos) == MR_OK);
    mr_file_close(&file);
}

/* A cursor that a newer version wrote is neither read nor taken for damaged. */
static void test_newer_cursors_are_refused(void)
{
    uint8_t slot[MR_CURSOR_SLOT_BYTES];
    uint8_t before[MR_CURSOR_SLOT_BYTES];
    struct mr_cursor *cursor;
    struct mr_error why;
    struct mr_file file;
    size_t got = 0;
    bool is_new;

    start();
    mr_assert(open_again(NULL, &why) == MR_OK);
    mr_assert(mr_cursor_open(journal, "one", 0, MR_START_OLDEST, &cursor, &is_new, &why) == MR_OK);
    close_journal();
    mr_assert(mr_file_open(&file, "/j/cursors", MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, before, sizeof(before), 0, &got) == MR_OK);
    mr_file_close(&file);
    mr_assert(got == sizeof(before) && memcmp(before, "MRCU", 4) == 0);
    memcpy(slot, before, sizeof(slot));
    mr_put_u16(slot + 4, MR_FORMAT_VERSION + 1);
    mr_put_u32(slot + sizeof(slot) - 4, mr_crc32c(0, slot, sizeof(slot) - 4));
    rewrite("/j/cursors", 0, slot, sizeof(slot));
    mr_assert(open_again(NULL, &why) == MR_ERR_CONFIG && strstr(why.text, "newer") != NULL);
    rewrite("/j/cursors", 0, before, sizeof(before));
    mr_assert(open_again(NULL, &why) == MR_OK);
    mr_assert(mr_cursor_open(journal, "one", 0, MR_START_NOW, &cursor, &is_new, &why) == MR_OK);
    mr_assert(!is_new);
    close_journal();
    stop();
}

static void test_foreign_and_newer_files_are_refused(void)
{
    struct mr_segment_header header;
    struct mr_scan *scan;
    struct mr_error why;
    uint8_t bytes[MR_META_BYTES];
    uint8_t meta[MR_META_BYTES];
    struct mr_file file;
    size_t got;

    start();
    mr_assert(mr_scan_open(&scan, paths[0], &header, NULL) == MR_OK);
    mr_scan_close(scan);
    header.journal_id.bytes[0] ^= 1;
    mr_segment_header_put(&header, bytes);
    rewrite(paths[0], 0, bytes, 64);
    mr_assert(open_again(NULL, &why) == MR_ERR_CONFIG && strstr(why.text, paths[0]) != NULL);
    header.journal_id.bytes[0] ^= 1;
    mr_segment_header_put(&header, bytes);
    mr_put_u16(bytes + 8, MR_FORMAT_VERSION + 1);
    mr_put_u32(bytes + 60, mr_crc32c(0, bytes, 60));
    rewrite(paths[0], 0, bytes, 64);
    mr_assert(open_again(NULL, &why) == MR_ERR_CONFIG && strstr(why.text, "newer") != NULL);
    mr_segment_header_put(&header, bytes);
    rewrite(paths[0], 0, bytes, 64);
    mr_assert(open_again(NULL, &why) == MR_OK);
    close_journal();

    mr_assert(mr_file_open(&file, "/j/meta", MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, meta, sizeof(meta), 0, &got) == MR_OK && got == sizeof(meta));
    mr_file_close(&file);
    memcpy(bytes, meta, sizeof(meta));
    mr_put_u16(bytes + 8, MR_META_VERSION + 1);
    mr_put_u32(bytes + 124, mr_crc32c(0, bytes, 124));
    rewrite("/j/meta", 0, bytes, sizeof(bytes));
    mr_assert(open_again(NULL, &why) == MR_ERR_CONFIG);
    bytes[20] ^= 1;
    rewrite("/j/meta", 0, bytes, sizeof(bytes));
    mr_assert(open_again(NULL, &why) == MR_ERR_CORRUPT);
    rewrite("/j/meta", 0, meta, sizeof(meta));
    mr_assert(open_again(NULL, &why) == MR_OK);
    close_journal();
    stop();
}

/* An epoch that has begun has begun for good: its segments would not fit the one before. */
static void test_power_cut_behind_a_new_epoch(void)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct mr_journal_options options = options_of();

        mr_sim_start(seed);
        options.lane_count = 2;
        mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
        lane = mr_journal_lane(journal, 0);
        append_to(10);
        close_journal();

        options.lane_count = 1;
        mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
        mr_assert(mr_journal_epoch(journal) == 2);
        mr_sim_crash();

        mr_assert(open_again(NULL, NULL) == MR_OK); /* with as many lanes as there are */
        mr_assert(mr_journal_epoch(journal) == 2 && mr_journal_lane_count(journal) == 1);
        mr_assert(read_all(10).events == 10);
        close_journal();
        mr_sim_stop();
    }
}

static uint64_t looped;
static bool loop_with_cursor;

static void step_loop(void *arg)
{
    struct mr_cursor *cursor;
    bool is_new;

    (void)arg;
    mr_assert(open_again(NULL, NULL) == MR_OK);
    if (loop_with_cursor) {
        mr_assert(mr_cursor_open(journal, "b", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
                  MR_OK);
    }
    looped += 1;
    mr_assert(append_event(looped) == MR_OK);
    commit_all(looped);
    if (loop_with_cursor) {
        mr_cursor_set(cursor, looped);
    }
    mr_journal_step_keeper(journal);
}

/* Each life leaves a segment with one record; they must not fill max_size. */
static void test_crash_loop(bool with_cursor)
{
    mr_sim_start(9);
    looped = 0;
    loop_with_cursor = with_cursor;
    for (int life = 0; life < 400; life++) {
        mr_assert(mr_sim_run(step_loop, NULL));
        mr_sim_crash();
    }
    mr_assert(open_again(NULL, NULL) == MR_OK);
    struct mr_lane_stats stats;
    mr_lane_stats(lane, &stats);
    mr_assert(stats.seq_next == 401 && stats.bytes_used <= stats.bytes_max);
    close_journal();
    mr_sim_stop();
}

/* A sync fails, the process ends and starts again on the same machine: what recovery
 * then accepts from the page cache must survive a power cut.
 */
static void test_restart_after_failed_sync(void)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        mr_sim_start(seed);
        mr_assert(open_again(NULL, NULL) == MR_OK);
        append_to(10);
        for (uint64_t seq = 11; seq <= 30; seq++) {
            mr_assert(append_event(seq) == MR_OK);
        }
        mr_sim_inject(MR_SIM_SYNC, 1, 1, MR_SIM_FAULT_IO);
        mr_assert(mr_lane_submit(lane, INT64_MAX / 2) == -1);
        mr_assert(mr_lane_step_commit(lane));
        mr_assert(mr_lane_state(lane) == MR_LANE_FAILED && mr_lane_durable(lane) == 10);
        mr_assert(append_event(31) == MR_ERR_IO);
        mr_assert(mr_journal_close(journal) == MR_ERR_IO);

        mr_assert(open_again(NULL, NULL) == MR_OK);
        uint64_t accepted = mr_lane_durable(lane);
        mr_assert(accepted >= 10);
        mr_sim_crash();
        mr_assert(open_again(NULL, NULL) == MR_OK);
        mr_assert(mr_lane_durable(lane) == accepted);
        mr_assert(read_all(accepted).events == accepted);
        close_journal();
        mr_sim_stop();
    }
}

/* The lane fails at the nth `call` of its next commit; what it says of itself. */
static const char *fail_with(enum mr_sim_call call)
{
    mr_sim_start(5);
    mr_assert(open_again(NULL, NULL) == MR_OK);
    append_to(10);
    mr_assert(append_event(11) == MR_OK);
    mr_sim_inject(call, 1, 1, MR_SIM_FAULT_IO);
    said_begin();
    mr_assert(mr_lane_submit(lane, INT64_MAX / 2) == -1 && mr_lane_step_commit(lane));
    mr_assert(mr_lane_state(lane) == MR_LANE_FAILED && said[0] == '\0');
    return mr_lane_state_text(lane);
}

/* What failed, why and what to do: by the owner, or, when nobody asked, at close. */
static void test_failure_is_said_once(void (*write_line)(const char *line, size_t len))
{
    static const char wanted[] = "damage lane 0: /j/lane-00/00000000000000000001.seg cannot be "
                                 "flushed: input/output error; check the disk and restart";

    mr_assert(strcmp(fail_with(MR_SIM_SYNC), wanted) == 0);
    mr_assert(mr_journal_close(journal) == MR_ERR_IO && said_times("level=error") == 0);
    mr_sim_stop();

    mr_assert(strstr(fail_with(MR_SIM_WRITE), "seg cannot be written: input/output error") != NULL);
    (void)mr_journal_close(journal);
    mr_sim_stop();

    mr_sim_start(6);
    mr_assert(open_again(NULL, NULL) == MR_OK);
    said_begin();
    mr_assert(append_event(1) == MR_OK);
    mr_sim_inject(MR_SIM_SYNC, 1, 1, MR_SIM_FAULT_IO);
    mr_assert(mr_journal_close(journal) == MR_ERR_IO);
    mr_assert(said_times("level=error") == 1 && strstr(said, wanted) != NULL);
    mr_sim_stop();
    mr_log_set_writer(write_line);
}

/* A dead letter keeps where it came from, and why. */
static void test_dead_letter(void)
{
    struct mr_record_raw record = {
        .type = MR_RECORD_DEAD_LETTER,
        .client = mr_span_of("c"),
        .topic = mr_span_of("t/1"),
        .payload = mr_span_of("poison"),
        .qos = 1,
        .dead_lane = 3,
        .dead_epoch = 1,
        .dead_seq = 77,
        .dead_bridge = mr_span_of("kafka"),
        .dead_reason = mr_span_of("too large"),
    };
    struct mr_appended out;
    struct mr_reader *reader;
    struct mr_view view;
    struct mr_event event;

    mr_sim_start(1);
    mr_assert(open_again(NULL, NULL) == MR_OK);
    mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK && out.seq == 1);
    commit_all(1);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    mr_assert(mr_reader_next(reader, &view) == MR_OK);
    struct mr_view_at at = mr_view_begin(&view);
    mr_assert(mr_view_event(&view, &at, &event));
    mr_assert(event.type == MR_RECORD_DEAD_LETTER && event.name_id == MR_NAME_NONE);
    mr_assert(mr_span_is(event.client, "c") && mr_span_is(event.topic, "t/1"));
    mr_assert(mr_span_is(event.payload, "poison") && event.raw.dead_seq == 77);
    mr_assert(mr_span_is(event.raw.dead_bridge, "kafka"));
    mr_assert(mr_span_is(event.raw.dead_reason, "too large"));
    mr_view_unpin(&view);
    mr_reader_close(reader);
    close_journal();
    mr_sim_stop();
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        mr_log_set_writer(drop_line); /* any argument shows what the journal says */
    }
    (void)argv;
    test_old_segment();
    test_header_of_old_segment();
    test_missing_segment();
    test_missing_beginning();
    test_settled_segment_removed_by_hand();
    test_segment_removed_while_open();
    test_unreadable_is_not_lost();
    test_first_batch_of_first_commit();
    test_cursor_beyond_the_end();
    test_one_copy_of_a_cursor_is_enough();
    test_newer_cursors_are_refused();
    test_foreign_and_newer_files_are_refused();
    test_power_cut_behind_a_new_epoch();
    test_crash_loop(true);
    test_crash_loop(false);
    test_restart_after_failed_sync();
    test_dead_letter();
    test_failure_is_said_once(argc == 1 ? drop_line : NULL);
    return 0;
}
