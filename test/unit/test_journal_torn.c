/* test_journal_torn.c
 *
 * Goal:   whatever happens to the last segment's bytes, recovery gives exactly what
 *         is still whole: a cut tail that nobody was thanked for goes silently,
 *         damage to what was durable is reported with the right seqs, and no event
 *         ever comes back changed or under another device's name.
 * Method: a log of 64 records in several commits, one of them of two batches, on
 *         the simulated disk.  It is cut at EVERY byte and EVERY bit of it is
 *         flipped; what must come back is computed from the undamaged batches.
 *         ./test_journal_torn wide: the same with longer records, 100,000 images and
 *         more (./dev soak images).
 *
 * links: journal os_sim base
 */
#include "base/log.h"
#include "journal/journal.h"
#include "journal/reader.h"
#include "journal/scan.h"

#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    RECORDS = 64,
    DEVICES = 7,
    BATCHES_MAX = 32,
    FILE_MAX = 65536,
    PAYLOAD_MAX = 400,
    BLOCK_BYTES = 4096,
};

static uint32_t wide = 1; /* records are so many times as long */
static uint64_t images;

static const char segment_path[] = "/j/lane-00/00000000000000000001.seg";

struct written {
    uint64_t pos;
    struct mr_batch_header header;
};

static struct written batches[BATCHES_MAX];
static size_t batch_count;
static uint64_t file_end;          /* behind the last batch */
static size_t defined_in[DEVICES]; /* batch that defines the device's name */
static uint8_t pristine[FILE_MAX];
static struct mr_journal *abandoned; /* by the crash; kept reachable */

/* ---- the log ---- */

static uint64_t device_of(uint64_t seq)
{
    return seq < 20 ? seq % 4 : seq % DEVICES;
}

static size_t payload_of(uint64_t seq, char out[PAYLOAD_MAX])
{
    int len = snprintf(out, PAYLOAD_MAX, "{\"seq\":%llu,\"v\":%llu}", (unsigned long long)seq,
                       (unsigned long long)(seq * seq));
    size_t total = (size_t)len + seq * wide % (75 * wide);

    memset(out + len, 'x', total - (size_t)len);
    return total;
}

static void append_one(struct mr_lane *lane, uint64_t seq)
{
    char payload[PAYLOAD_MAX];
    char client[32];
    struct mr_appended out;

    snprintf(client, sizeof(client), "device-%llu", (unsigned long long)device_of(seq));
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .received_us = 1000 * (int64_t)seq,
        .client = mr_span_of(client),
        .topic = mr_span_of("sensors/t"),
        .payload = mr_span_make(payload, payload_of(seq, payload)),
        .qos = 1,
    };
    mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK && out.seq == seq);
}

static struct mr_journal_options options_of(bool read_only)
{
    return (struct mr_journal_options){
        .path = "/j",
        .name = "torn",
        .max_bytes = 1 << 20,
        .segment_bytes = 64 << 10,
        .block_bytes = BLOCK_BYTES,
        .record_bytes_max = 512,
        .manual = true,
        .read_only = read_only,
    };
}

static void commit(struct mr_lane *lane, uint64_t seq, bool now)
{
    static int64_t now_ns;

    do {
        now_ns += 1000000000;
        mr_assert(mr_lane_submit(lane, now_ns) == -1);
        mr_assert(!now || mr_lane_step_commit(lane));
    } while (now && mr_lane_durable(lane) != seq);
}

/* Commits of growing size.  What was handed over at 55 waits until the block is
 * full, so that two batches are written at once and say the same durable seq.
 */
static void write_log(void)
{
    struct mr_journal_options options = options_of(false);

    mr_assert(mr_journal_open(&abandoned, &options, NULL, NULL) == MR_OK);
    struct mr_lane *lane = mr_journal_lane(abandoned, 0);
    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        append_one(lane, seq);
        if (seq == 3 || seq == 4 || seq == 10 || seq == 19 || seq == 30 || seq == 55 ||
            seq == RECORDS) {
            commit(lane, seq, seq != 55);
        }
    }
    /* Left open: a close would cut the file, and what is wanted is a crash. */
}

static void note_names(size_t batch, struct mr_span bytes)
{
    struct mr_take take = mr_take_from(
        mr_span_make(bytes.at + MR_BATCH_HEADER_BYTES, bytes.len - MR_BATCH_HEADER_BYTES));
    struct mr_record_raw raw;

    while (take.at != take.end) {
        mr_assert(mr_record_get(&take, 0, &raw) == MR_OK);
        if (raw.naming == MR_NAMING_DEFINE) {
            defined_in[raw.client.at[raw.client.len - 1] - '0'] = batch;
        }
    }
}

static void note_batches(void)
{
    struct mr_segment_header header;
    struct mr_scan *scan;
    struct mr_span bytes;
    struct mr_file file;
    size_t got;

    mr_assert(mr_scan_open(&scan, segment_path, &header, NULL) == MR_OK);
    while (mr_scan_next(scan, &batches[batch_count].header, &bytes, &batches[batch_count].pos) ==
           MR_OK) {
        note_names(batch_count, bytes);
        file_end = batches[batch_count].pos + bytes.len;
        batch_count += 1;
        mr_assert(batch_count < BATCHES_MAX);
    }
    mr_scan_close(scan);
    mr_assert(file_end < FILE_MAX);
    mr_assert(mr_file_open(&file, segment_path, MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, pristine, FILE_MAX, 0, &got) == MR_OK && got == FILE_MAX);
    mr_file_close(&file);
}

static bool some_were_written_at_once(void)
{
    bool some = false;

    for (size_t i = 1; i < batch_count; i++) {
        some = some || batches[i].header.durable_seq == batches[i - 1].header.durable_seq;
    }
    return some;
}

/* ---- what must come back ---- */

struct expected {
    bool damaged; /* corruption is to be reported */
    size_t lost;  /* this batch; SIZE_MAX: none */
    uint64_t seq_end;
};

static uint64_t batch_end(size_t batch)
{
    return batches[batch].header.seq_first + batches[batch].header.record_count;
}

/* A later batch that was sealed when `batch` was durable proves it was. */
static bool proof_behind(size_t batch)
{
    for (size_t i = batch + 1; i < batch_count; i++) {
        if (batches[i].header.durable_seq >= batches[batch].header.seq_first) {
            return true;
        }
    }
    return false;
}

static struct expected expect_flip(uint64_t pos)
{
    struct expected all = {.lost = SIZE_MAX, .seq_end = RECORDS + 1};

    if (pos < 64) {
        return (struct expected){.damaged = true, .lost = SIZE_MAX, .seq_end = 1};
    }
    for (size_t i = 0; i < batch_count; i++) {
        if (pos < batches[i].pos || pos >= batches[i].pos + batches[i].header.byte_length) {
            continue;
        }
        if (proof_behind(i)) {
            return (struct expected){.damaged = true, .lost = i, .seq_end = RECORDS + 1};
        }
        return (struct expected){
            .damaged = i == 0, .lost = SIZE_MAX, .seq_end = batches[i].header.seq_first};
    }
    return all; /* between batches, or in the unused part of the header */
}

static struct expected expect_cut(uint64_t bytes)
{
    struct expected expected = {.lost = SIZE_MAX, .seq_end = 1};

    for (size_t i = 0; i < batch_count; i++) {
        if (batches[i].pos + batches[i].header.byte_length <= bytes) {
            expected.seq_end = batch_end(i);
        }
    }
    expected.damaged = expected.seq_end == 1;
    return expected;
}

static bool expect_event(const struct expected *expected, uint64_t seq)
{
    if (seq >= expected->seq_end) {
        return false;
    }
    if (expected->lost == SIZE_MAX) {
        return true;
    }
    const struct mr_batch_header *lost = &batches[expected->lost].header;
    bool inside = seq >= lost->seq_first && seq < lost->seq_first + lost->record_count;
    return !inside && defined_in[device_of(seq)] != expected->lost;
}

/* ---- what does come back ---- */

static void check_event(const struct mr_event *event)
{
    char payload[PAYLOAD_MAX];
    char client[32];
    size_t len = payload_of(event->seq, payload);

    snprintf(client, sizeof(client), "device-%llu", (unsigned long long)device_of(event->seq));
    mr_assert(mr_span_equal(event->payload, mr_span_make(payload, len)));
    mr_assert(mr_span_is(event->client, client));
    mr_assert(mr_span_is(event->topic, "sensors/t"));
    mr_assert(event->received_us == 1000 * (int64_t)event->seq);
}

/* Read everything; every seq comes back exactly once, as an event or as lost. */
static void check_reader(struct mr_journal *journal, const struct expected *expected)
{
    struct mr_reader *reader;
    struct mr_view view;
    struct mr_event event;
    uint64_t next = 1;
    uint64_t given = 0;
    enum mr_err err;

    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while ((err = mr_reader_next(reader, &view)) != MR_ERR_AGAIN) {
        mr_assert(view.seq_first == next && view.seq_last >= next);
        if (err == MR_OK) {
            struct mr_view_at at = mr_view_begin(&view);
            for (uint64_t seq = view.seq_first; seq <= view.seq_last; seq++) {
                mr_assert(mr_view_event(&view, &at, &event) && event.seq == seq);
                mr_assert(expect_event(expected, seq));
                check_event(&event);
                given += 1;
            }
            mr_assert(!mr_view_event(&view, &at, &event));
            mr_view_unpin(&view);
        } else {
            mr_assert(err == MR_ERR_CORRUPT && expected->damaged);
        }
        next = view.seq_last + 1;
    }
    mr_reader_close(reader);
    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        given -= expect_event(expected, seq);
    }
    mr_assert(given == 0);
    mr_assert(next >= expected->seq_end);
}

static void check(const struct expected *expected, bool read_only)
{
    struct mr_journal_options options = options_of(read_only);
    struct mr_recovery recovery;
    struct mr_journal *journal;
    struct mr_lane_stats stats;

    images += 1;
    mr_assert(mr_journal_open(&journal, &options, &recovery, NULL) == MR_OK);
    mr_assert((recovery.corrupt_ranges != 0) == expected->damaged);
    if (expected->lost != SIZE_MAX) {
        mr_assert(recovery.corrupt_ranges == 1);
        mr_assert(recovery.seqs_lost == batches[expected->lost].header.record_count);
    }
    mr_lane_stats(mr_journal_lane(journal, 0), &stats);
    if (expected->seq_end == 1) {
        mr_assert(stats.seq_next > batches[0].header.record_count); /* no seq is given twice */
    } else {
        mr_assert(stats.seq_next == expected->seq_end);
    }
    check_reader(journal, expected);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* ---- tests ---- */

static void test_every_bit(void)
{
    for (uint64_t pos = 0; pos < file_end + 64; pos++) {
        if (pos == 80) {
            pos = MR_SEGMENT_HEADER_BYTES - 16; /* the unused part of the header */
        }
        struct expected expected = expect_flip(pos);
        for (unsigned bit = 0; bit < 8; bit++) {
            mr_assert(mr_sim_file_damage(segment_path, pos, (uint8_t)(1u << bit)) == MR_OK);
            check(&expected, true);
            mr_assert(mr_sim_file_damage(segment_path, pos, (uint8_t)(1u << bit)) == MR_OK);
        }
    }
}

static void restore(uint64_t from)
{
    struct mr_file file;
    struct mr_span part = mr_span_make(pristine + from, FILE_MAX - from);

    mr_assert(mr_file_open(&file, segment_path, MR_FILE_READ_WRITE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &part, 1, from) == MR_OK);
    mr_assert(mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
}

static void test_every_cut(void)
{
    for (uint64_t bytes = 0; bytes <= file_end; bytes++) {
        if (bytes == 80) {
            bytes = MR_SEGMENT_HEADER_BYTES - 16;
        }
        struct expected expected = expect_cut(bytes);
        mr_assert(mr_sim_file_cut(segment_path, bytes) == MR_OK);
        check(&expected, true);
        restore(0);
    }
}

/* A real recovery after each kind of damage, twice: the second finds what the first
 * left, goes on numbering behind it, and reports the same damage.
 */
static void test_recovery_is_stable(void)
{
    for (uint64_t pos = batches[1].pos; pos < file_end; pos += 61) {
        struct expected expected = expect_flip(pos);

        mr_assert(mr_sim_file_damage(segment_path, pos, 0x10) == MR_OK);
        check(&expected, false);
        check(&expected, false);
        check(&expected, true);
        restore(0);
    }
}

static void drop_line(const char *line, size_t len)
{
    (void)line;
    (void)len;
}

int main(int argc, char **argv)
{
    wide = argc > 1 && strcmp(argv[1], "wide") == 0 ? 5 : 1;
    mr_log_set_writer(drop_line); /* tens of thousands of reports are expected */
    mr_sim_start(1);
    write_log();
    mr_sim_crash();
    note_batches();
    printf("%zu batches to byte %llu\n", batch_count, (unsigned long long)file_end);
    mr_assert(batch_count >= 7 && some_were_written_at_once());
    mr_assert(mr_path_remove("/j/cursors") == MR_OK); /* half of the time of an open */
    test_every_cut();
    test_every_bit();
    test_recovery_is_stable();
    printf("%llu images\n", (unsigned long long)images);
    mr_sim_stop();
    return 0;
}
