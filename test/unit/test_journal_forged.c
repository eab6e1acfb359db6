/* test_journal_forged.c
 * links: journal os_sim base
 *
 * Goal:   a batch whose checksum fits and whose records do not: no event is given under a wrong
 *         name or another number, what cannot be given is said to be lost, once, and everything
 *         beside it is given.  A repair keeps all that could be read and names the rest, so that
 *         nothing is found by the next one.
 * Method: one record of one batch is changed on the simulated disk, each way at each place, and the
 *         checksum made to fit; the journal is read by events and by records, repaired, and read.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "crash_kit.h"
#include "journal/reader.h"
#include "journal/repair.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 64 << 10, PER_BATCH = 4, BATCHES = 6, RECORDS = 2 * PER_BATCH * BATCHES };
enum { NAMES = 3 };

static const char first_file[] = "/j/lane-00/00000000000000000001.seg";
static const char second_file[] = "/j/lane-00/00000000000000000025.seg";

static struct mr_journal *journal;

static void take(bool cursors_only)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "forged",
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

static void texts_of(uint64_t seq, char client[16], char payload[16])
{
    (void)snprintf(client, 16, "c-%u", (unsigned)(seq % NAMES));
    (void)snprintf(payload, 16, "event %u", (unsigned)seq);
}

/* Two segments, the second begun by a restart. */
static void make(void)
{
    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        char client[16];
        char payload[16];
        struct mr_appended out;

        if (seq % (RECORDS / 2) == 1) {
            take(false);
        }
        texts_of(seq, client, payload);
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of(client),
                                       .topic = mr_span_of("t"),
                                       .payload = mr_span_of(payload)};
        struct mr_lane *lane = mr_journal_lane(journal, 0);
        mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK && out.seq == seq);
        if (seq % PER_BATCH == 0) {
            lane_commit(lane, seq);
        }
        if (seq % (RECORDS / 2) == 0) {
            give();
        }
    }
}

/* ---- forging ---- */

enum forgery {
    NO_SUCH_NAMING,  /* it does not parse, and says how long it is */
    TOO_LONG,        /* nor that: nothing behind it can be found */
    NO_LENGTH,       /* ... for its length is no number */
    NO_SUCH_NAME,    /* refers to one that nobody defined */
    NOTHING_DEFINED, /* defines a name with a number that there is not */
    NO_SUCH_TYPE,    /* of a later version: passed over */
    FORGERIES
};

static void forge_record(uint8_t *at, enum forgery forgery)
{
    switch (forgery) {
    case NO_SUCH_NAMING:
        at[2] |= 3 << 4;
        break;
    case TOO_LONG:
        at[0] = 127;
        break;
    case NO_LENGTH:
        memset(at, 0xff, 11);
        break;
    case NO_SUCH_NAME:
        at[2] &= 0xcf;
        at[4] = 99;
        break;
    case NOTHING_DEFINED:
        at[2] = (uint8_t)((at[2] & 0xcf) | 1 << 4);
        memset(at + 4, 0xff, 4);
        break;
    default:
        at[1] = 99;
    }
}

static void forge(const char *path, uint32_t batch, uint32_t record, enum forgery forgery)
{
    static uint8_t bytes[SEGMENT];
    struct mr_batch_header header;
    struct mr_record_raw raw;
    struct mr_file file;
    size_t got = 0;

    mr_assert(mr_file_open(&file, path, MR_FILE_READ_WRITE, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, bytes, sizeof(bytes), 0, &got) == MR_OK);
    uint64_t pos = MR_SEGMENT_HEADER_BYTES;
    mr_batch_header_read(bytes + pos, &header);
    for (uint32_t i = 0; i < batch; i++) {
        pos = mr_batch_next_pos(pos, header.byte_length);
        mr_batch_header_read(bytes + pos, &header);
    }
    struct mr_take records = mr_take_from(mr_span_make(bytes + pos + MR_BATCH_HEADER_BYTES,
                                                       header.byte_length - MR_BATCH_HEADER_BYTES));
    for (uint32_t i = 0; i < record; i++) {
        mr_assert(mr_record_get(&records, 0, &raw) == MR_OK);
    }
    forge_record(bytes + (records.at - bytes), forgery);
    mr_batch_header_put(&header, bytes + pos);
    struct mr_span part = mr_span_make(bytes + pos, header.byte_length);
    mr_assert(mr_file_write(&file, &part, 1, pos) == MR_OK && mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
}

/* ---- reading ---- */

typedef bool next_of(const struct mr_view *view, struct mr_view_at *at, struct mr_event *out);

static void check_event(const struct mr_event *event, bool seen[RECORDS + 1])
{
    char client[16];
    char payload[16];

    mr_assert(event->seq >= 1 && event->seq <= RECORDS && !seen[event->seq]);
    seen[event->seq] = true;
    texts_of(event->seq, client, payload);
    mr_assert(mr_span_is(event->client, client) && mr_span_is(event->topic, "t"));
    mr_assert(mr_span_is(event->payload, payload));
}

/* What is given is marked.  Returns how many are said to be lost. */
static uint64_t read_all(next_of *next, bool seen[RECORDS + 1], uint64_t *control, uint64_t from)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    uint64_t lost = 0;
    uint64_t expected = from;
    enum mr_err err;

    memset(seen, 0, RECORDS + 1);
    *control = 0;
    mr_assert(mr_reader_open(&reader, journal, 0, from, NULL, NULL) == MR_OK);
    while ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT) {
        mr_assert(view.seq_first == expected && view.seq_last >= expected);
        expected = view.seq_last + 1;
        if (err == MR_ERR_CORRUPT) {
            lost += view.seq_last - view.seq_first + 1;
            continue;
        }
        struct mr_view_at at = mr_view_begin(&view);
        while (next(&view, &at, &event)) {
            mr_assert(event.seq >= view.seq_first && event.seq <= view.seq_last);
            if (event.type == MR_RECORD_EVENT) {
                check_event(&event, seen);
            } else {
                *control += 1;
            }
        }
        *control += at.control;
        lost += at.lost;
        mr_view_unpin(&view);
    }
    mr_assert(err == MR_ERR_AGAIN && expected == RECORDS + 1);
    mr_reader_close(reader);
    return lost;
}

static uint64_t count(const bool seen[RECORDS + 1])
{
    uint64_t n = 0;

    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        n += seen[seq];
    }
    return n;
}

/* ---- repairing ---- */

static bool named[RECORDS + 1]; /* as lost */

static void on_lost(void *arg, const struct mr_repair_loss *loss)
{
    (void)arg;
    for (uint64_t seq = loss->seq_first; seq <= loss->seq_last; seq++) {
        mr_assert(seq >= 1 && seq <= RECORDS && !named[seq]);
        named[seq] = true;
    }
}

static uint64_t repair(bool dry_run)
{
    struct mr_repair how = {.lost = on_lost, .dry_run = dry_run};

    memset(named, 0, sizeof(named));
    take(true);
    mr_assert(mr_journal_repair(journal, &how, NULL) == MR_OK);
    give();
    return how.seqs_lost;
}

static void test_forged(const char *path, uint32_t batch, uint32_t record, enum forgery forgery)
{
    bool before[RECORDS + 1];
    bool after[RECORDS + 1];
    uint64_t control;

    mr_sim_start(batch + 1);
    make();
    forge(path, batch, record, forgery);
    take(false);
    uint64_t lost = read_all(mr_view_event, before, &control, 1);
    mr_assert(count(before) + lost + control == RECORDS);
    mr_assert(control == (forgery == NO_SUCH_TYPE));
    /* Of a record that is passed over only the name can be missed that it has defined. */
    mr_assert(lost != 0 || (forgery == NO_SUCH_TYPE && (batch != 0 || record >= NAMES)));
    (void)read_all(mr_view_record, after, &control, 1);
    mr_assert(memcmp(before, after, sizeof(before)) == 0);
    (void)read_all(mr_view_event, after, &control, RECORDS / 2 + 2); /* from the middle of one */
    mr_assert(count(after) <= RECORDS / 2 - 1);
    give();

    uint64_t told = repair(true);
    mr_assert(repair(false) == told);
    mr_assert(told == lost);
    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        mr_assert(!named[seq] || !before[seq]); /* nothing that could be read is given up */
    }
    take(false);
    (void)read_all(mr_view_event, after, &control, 1);
    mr_assert(count(after) + told + (forgery == NO_SUCH_TYPE) == RECORDS);
    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        mr_assert(after[seq] || !before[seq]);
    }
    (void)read_all(mr_view_record, before, &control, 1);
    mr_assert(memcmp(before, after, sizeof(before)) == 0);
    (void)read_all(mr_view_record, before, &control, RECORDS / 2 + 2); /* in a gap, perhaps */
    mr_assert(count(before) <= RECORDS / 2 - 1);
    give();
    mr_assert(repair(false) == 0);
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    for (int forgery = 0; forgery < FORGERIES; forgery++) {
        for (uint32_t batch = 0; batch < BATCHES; batch += 2) {
            for (uint32_t record = 0; record < PER_BATCH; record++) {
                test_forged(first_file, batch, record, (enum forgery)forgery);
                test_forged(second_file, batch, record, (enum forgery)forgery);
            }
        }
    }
    return 0;
}
