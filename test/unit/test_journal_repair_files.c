/* test_journal_repair_files.c
 * links: journal os_sim base
 *
 * Goal:   a repair of files that say nothing, or something else: one of which nothing can be read
 *         is lost as a whole, with as many numbers as it could have held; one whose header is
 *         damaged is read by its batches; one of another journal or lane is not touched, and the
 *         repair says what to do, as it does if it cannot keep the damaged file.
 * Method: two segments on the simulated disk, changed by hand; what reads before reads after.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/log.h"
#include "crash_kit.h"
#include "journal/reader.h"
#include "journal/repair.h"
#include "lane_commit.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 64 << 10, RECORDS = 20, HALF = RECORDS / 2 };

static const char *const files[] = {"/j/lane-00/00000000000000000001.seg",
                                    "/j/lane-00/00000000000000000011.seg"};

static struct mr_journal *journal;
static struct mr_error why;

static void take(bool cursors_only)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "files",
                                               .max_bytes = 16 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16384,
                                               .record_bytes_max = 8000,
                                               .keep_us = UINT64_C(3600000000),
                                               .cursors_only = cursors_only,
                                               .manual = true};

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
}

static void give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void make(uint64_t seed)
{
    mr_sim_start(seed);
    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        struct mr_appended out;
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .received_us = mr_clock_wall_us(),
                                       .client = mr_span_of("c"),
                                       .topic = mr_span_of("t"),
                                       .payload = mr_span_make(&seq, sizeof(seq))};

        if (seq % HALF == 1) {
            take(false);
        }
        struct mr_lane *lane = mr_journal_lane(journal, 0);
        mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK && out.seq == seq);
        lane_commit(lane, seq);
        if (seq % HALF == 0) {
            give();
        }
    }
}

/* How many events from `first` to `last` are there; each as it was. */
static uint64_t read_between(uint64_t first, uint64_t last)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    uint64_t count = 0;
    enum mr_err err;

    take(false);
    mr_assert(mr_lane_next_seq(mr_journal_lane(journal, 0)) > RECORDS);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT) {
        if (err == MR_ERR_CORRUPT) {
            continue;
        }
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.payload.len == sizeof(event.seq));
            mr_assert(memcmp(event.payload.at, &event.seq, sizeof(event.seq)) == 0);
            count += event.seq >= first && event.seq <= last;
        }
        mr_view_unpin(&view);
    }
    mr_assert(err == MR_ERR_AGAIN);
    mr_reader_close(reader);
    give();
    return count;
}

static uint64_t lost_first;
static uint64_t lost_last;

static void on_lost(void *arg, const struct mr_repair_loss *loss)
{
    (void)arg;
    lost_first = loss->seq_first < lost_first ? loss->seq_first : lost_first;
    lost_last = loss->seq_last > lost_last ? loss->seq_last : lost_last;
}

static enum mr_err repair(struct mr_repair *how)
{
    lost_first = UINT64_MAX;
    lost_last = 0;
    why.text[0] = '\0';
    *how = (struct mr_repair){.lost = on_lost};
    take(true);
    enum mr_err err = mr_journal_repair(journal, how, &why);
    give();
    mr_assert(err == MR_OK || why.text[0] != '\0');
    return err;
}

static void repaired(void)
{
    struct mr_repair how;

    mr_assert(repair(&how) == MR_OK && how.segments_damaged == 0 && how.seqs_lost == 0);
}

/* ---- bytes ---- */

static void bytes_get(const char *path, uint64_t pos, uint8_t *bytes, size_t len)
{
    struct mr_file file;
    size_t got = 0;

    mr_assert(mr_file_open(&file, path, MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, bytes, len, pos, &got) == MR_OK && got == len);
    mr_file_close(&file);
}

static void bytes_put(const char *path, uint64_t pos, const uint8_t *bytes, size_t len)
{
    struct mr_span part = mr_span_make(bytes, len);
    struct mr_file file;

    mr_assert(mr_file_open(&file, path, MR_FILE_READ_WRITE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &part, 1, pos) == MR_OK && mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
}

/* The header of a segment with `bytes` of it changed, and a checksum that fits. */
static void header_change(const char *path, size_t at, uint8_t xor_with)
{
    uint8_t header[64];

    bytes_get(path, 0, header, sizeof(header));
    header[at] ^= xor_with;
    mr_put_u32(header + 60, mr_crc32c(0, header, 60));
    bytes_put(path, 0, header, sizeof(header));
}

/* ---- tests ---- */

/* The header, and with it all, or the batches too. */
static void test_header(size_t which, bool batches)
{
    static const uint8_t nothing[SEGMENT];
    uint64_t first = which * HALF + 1;
    struct mr_repair how;

    make(which + 1);
    mr_assert(mr_sim_file_damage(files[which], 20, 1) == MR_OK);
    if (batches) {
        mr_assert(mr_sim_file_cut(files[which], MR_SEGMENT_HEADER_BYTES + 100) == MR_OK);
        bytes_put(files[which], MR_SEGMENT_HEADER_BYTES, nothing, 100);
    }
    mr_assert(repair(&how) == MR_OK && how.segments_damaged == 1);
    mr_assert((how.seqs_lost != 0) == batches);
    if (batches) {
        mr_assert(lost_first == first && lost_last >= first + HALF - 1);
    }
    mr_assert(read_between(first, first + HALF - 1) == (batches ? 0 : HALF));
    uint64_t other = which == 0 ? HALF + 1 : 1;
    mr_assert(read_between(other, other + HALF - 1) == HALF);
    repaired();
    mr_sim_stop();
}

/* Whoever reads to a record in the middle of what is lost is told of so much, and no more. */
static void test_read_to(uint64_t seq_to)
{
    const struct mr_reader_options options = {.seq_to = seq_to};
    struct mr_reader *reader;
    struct mr_view view;
    uint64_t next = 1;
    enum mr_err err;

    make(8);
    mr_assert(mr_sim_file_damage(files[0], 20, 1) == MR_OK);
    take(false);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, &options, NULL) == MR_OK);
    while ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT) {
        mr_assert(view.seq_first == next && view.seq_last <= seq_to);
        mr_assert((err == MR_OK) == (next > HALF));
        next = view.seq_last + 1;
        if (err == MR_OK) {
            mr_view_unpin(&view);
        }
    }
    mr_assert(err == MR_ERR_AGAIN && next == seq_to + 1);
    mr_reader_close(reader);
    give();
    mr_sim_stop();
}

/* A start beside what is of another journal or lane touches nothing either. */
static void test_foreign_at_start(size_t at)
{
    const struct mr_journal_options options = {.path = "/j", .manual = true};

    make(9);
    header_change(files[0], at, 1);
    mr_assert(mr_journal_open(&journal, &options, NULL, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "belongs to another journal or lane") != NULL);
    mr_sim_stop();
}

/* Shorter than a header. */
static void test_cut(uint64_t bytes)
{
    struct mr_repair how;

    make(3);
    mr_assert(mr_sim_file_cut(files[1], bytes) == MR_OK);
    mr_assert(repair(&how) == MR_OK && how.segments_damaged == 1 && lost_first == HALF + 1);
    mr_assert(read_between(1, HALF) == HALF && read_between(HALF + 1, RECORDS) == 0);
    repaired();
    mr_sim_stop();
}

/* It says of itself that it begins elsewhere: the name counts, it was renamed when it was whole. */
static void test_another_beginning(void)
{
    struct mr_repair how;

    make(4);
    header_change(files[1], 32, 1);
    mr_assert(repair(&how) == MR_OK && how.segments_damaged == 1 && how.seqs_lost == 0);
    mr_assert(read_between(1, RECORDS) == RECORDS);
    repaired();
    mr_sim_stop();
}

/* Of another journal, another lane, a newer version: it stays as it is. */
static void test_foreign(size_t at, uint8_t xor_with, const char *says)
{
    uint8_t before[SEGMENT / 16];
    uint8_t after[SEGMENT / 16];
    struct mr_repair how;

    make(5);
    header_change(files[0], at, xor_with);
    bytes_get(files[0], 0, before, sizeof(before));
    mr_assert(repair(&how) == MR_ERR_CONFIG && strstr(why.text, says) != NULL);
    bytes_get(files[0], 0, after, sizeof(after));
    mr_assert(memcmp(before, after, sizeof(before)) == 0);
    mr_sim_stop();
}

static void file_make(const char *path)
{
    struct mr_file file;

    mr_assert(mr_file_open(&file, path, MR_FILE_CREATE, NULL) == MR_OK);
    mr_file_close(&file);
}

/* Earlier repairs have left so many files that there is no name for another one. */
static void test_no_name_left(void)
{
    char path[128];
    struct mr_repair how;

    make(6);
    mr_assert(mr_sim_file_damage(files[0], MR_SEGMENT_HEADER_BYTES + 60, 1) == MR_OK);
    mr_assert(mr_dir_create("/j/damaged/lane-00", NULL) == MR_OK);
    for (unsigned n = 1; n < 1000; n++) {
        (void)snprintf(path, sizeof(path), "/j/damaged/lane-00/%020d.seg.%u", 1, n);
        file_make(path);
    }
    (void)snprintf(path, sizeof(path), "/j/damaged/lane-00/%020d.seg", 1);
    file_make(path);
    mr_assert(repair(&how) == MR_ERR_CONFIG && strstr(why.text, "is full of old repairs") != NULL);
    mr_assert(mr_path_remove(path) == MR_OK);
    mr_assert(repair(&how) == MR_OK && how.segments_damaged == 1);
    mr_assert(mr_path_exists(path));
    repaired();
    mr_sim_stop();
}

/* What cannot be read now is not lost: the repair ends, and is run again.  (The first batch names
 * whom all of its segment are of.)
 */
static void test_reads_fail(bool header)
{
    bool met = true;

    for (uint64_t nth = 1; met; nth++) {
        struct mr_repair how;

        make(nth);
        mr_assert(mr_sim_file_damage(files[0], header ? 20 : MR_SEGMENT_HEADER_BYTES + 60, 1) ==
                  MR_OK);
        take(true);
        uint64_t reads = mr_sim_calls(MR_SIM_READ);
        mr_sim_inject(MR_SIM_READ, nth, 1, MR_SIM_FAULT_IO);
        how = (struct mr_repair){.lost = on_lost};
        enum mr_err err = mr_journal_repair(journal, &how, &why);
        met = mr_sim_calls(MR_SIM_READ) - reads >= nth;
        mr_sim_inject_clear();
        give();
        mr_assert(err == MR_OK || err == MR_ERR_IO);
        mr_assert(err != MR_OK || how.segments_damaged == 1);
        mr_assert(repair(&how) == MR_OK);
        mr_assert(read_between(1, RECORDS) == (header ? RECORDS : HALF));
        repaired();
        mr_sim_stop();
    }
}

int main(void)
{
    mr_log_set_writer(drop_line);
    for (size_t which = 0; which < 2; which++) {
        test_header(which, false);
        test_header(which, true);
    }
    test_read_to(HALF / 2);
    test_read_to(HALF);
    test_read_to(HALF + 3);
    test_foreign_at_start(16);
    test_foreign_at_start(10);
    test_cut(0);
    test_cut(63);
    test_another_beginning();
    test_foreign(16, 1, "belongs to another journal or lane");
    test_foreign(10, 1, "belongs to another journal or lane");
    test_foreign(8, 64, "written by a newer millrace");
    test_no_name_left();
    test_reads_fail(false);
    test_reads_fail(true);
    return 0;
}
