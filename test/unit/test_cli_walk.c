/* test_cli_walk.c
 *
 * links: cli journal codec config os base
 *
 * Goal:   passing over records (mr_walk_pass(), what verify does) finds the same records, gaps and
 *         damage as reading each of them (mr_walk_next()), whatever stands in a batch.
 * Method: a journal of records of all kinds by a seeded die; then bytes of most batches are changed
 *         and their checksums with them, so that it is the records that do not parse, or are others
 *         than were written.  Both walks go through it side by side.
 */
#include "app/cli/walk.h"
#include "base/rng.h"
#include "cli_journal_kit.h"

enum { RECORDS = 20000, NAMES = 300 };

static struct mr_rng rng;

struct found {
    uint64_t records;
    uint64_t gaps;
    uint64_t damages;
};

/* ---- a journal of all kinds of records ---- */

static void append_random(struct mr_journal *journal)
{
    static uint8_t payload[5000];
    uint64_t dice = mr_rng_below(&rng, 100);
    char topic[32];
    struct mr_appended out;

    (void)snprintf(topic, sizeof(topic), "plant/%u", (unsigned)mr_rng_below(&rng, NAMES));
    struct mr_record_raw record = {
        .type = dice < 2 ? MR_RECORD_SESSION : MR_RECORD_EVENT,
        .received_us = 1700000000000000 + (int64_t)(1ull << mr_rng_below(&rng, 40)),
        .client = mr_span_of("press-7"),
        .topic = mr_span_of(topic),
        .payload = mr_span_make(payload, dice == 50 ? sizeof(payload) : mr_rng_below(&rng, 40)),
        .properties = mr_span_make("\x01\x01", dice == 60 ? 2 : 0),
        .body = mr_span_make("\x09\0\0", dice < 2 ? 3 : 0),
        .packet_id = 7,
        .qos = (uint8_t)(dice == 70 ? 2 : dice & 1),
        .retain = dice == 80,
        .will = dice == 90,
    };
    while (mr_lane_append(mr_journal_lane(journal, 0), &record, NULL, &out) != MR_OK) {
        commit(journal);
    }
}

static void journal_fill(void)
{
    struct mr_journal *journal = journal_open(true);

    for (unsigned i = 0; i < RECORDS; i++) {
        append_random(journal);
        if (mr_rng_below(&rng, 20) == 0) {
            commit(journal);
        }
    }
    commit(journal);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* ---- bytes of records that are others ---- */

static void bytes_forge(uint8_t *records, size_t len)
{
    static const uint8_t telling[] = {0, 1, 2, MR_RECORD_GAP, 0x10, 0x40, 0x7f, 0x80, 0xff};

    for (uint64_t left = mr_rng_below(&rng, 4); left > 0; left--) {
        records[mr_rng_below(&rng, len)] = mr_rng_below(&rng, 2) == 0
                                               ? telling[mr_rng_below(&rng, sizeof(telling))]
                                               : (uint8_t)mr_rng_u64(&rng);
    }
}

static void batch_forge(struct mr_file *file, const struct mr_batch_header *header,
                        struct mr_span batch, uint64_t pos)
{
    uint8_t *bytes = mr_alloc(batch.len);
    struct mr_span part = mr_span_make(bytes, batch.len);

    memcpy(bytes, batch.at, batch.len);
    bytes_forge(bytes + MR_BATCH_HEADER_BYTES, batch.len - MR_BATCH_HEADER_BYTES);
    mr_batch_header_put(header, bytes);
    mr_assert(mr_file_write(file, &part, 1, pos) == MR_OK);
    mr_free(bytes);
}

static void segment_forge(const char *path)
{
    struct mr_scan *scan = NULL;
    struct mr_segment_header segment;
    struct mr_batch_header header;
    struct mr_span batch;
    struct mr_file file;
    uint64_t pos = 0;

    mr_assert(mr_scan_open(&scan, path, &segment, NULL) == MR_OK);
    mr_assert(mr_file_open(&file, path, MR_FILE_READ_WRITE, NULL) == MR_OK);
    while (mr_scan_next(scan, &header, &batch, &pos) == MR_OK) {
        batch_forge(&file, &header, batch, pos);
    }
    mr_file_close(&file);
    mr_scan_close(scan);
}

/* ---- both ways ---- */

static void check_damage(const struct mr_walk_damage *a, const struct mr_walk_damage *b)
{
    mr_assert(strcmp(a->path, b->path) == 0 && strcmp(a->what, b->what) == 0);
    mr_assert(a->pos == b->pos && a->loss == b->loss);
    mr_assert(a->seq_first == b->seq_first && a->seq_last == b->seq_last);
}

/* The records of the run, one by one. */
static void check_run(struct mr_walk *each, const struct mr_walk_run *run)
{
    struct mr_walk_damage damage;
    struct mr_walk_event event = {.seq_last = run->seq_first - 1};

    mr_assert(run->records > 0);
    for (uint32_t i = 0; i < run->records; i++) {
        uint64_t seq = event.seq_last + 1;

        mr_assert(mr_walk_next(each, &event, &damage, NULL) == MR_OK && event.seq == seq);
        mr_assert((event.raw.type == MR_RECORD_GAP) == (run->gap && i + 1 == run->records));
    }
    mr_assert(event.seq_last == run->seq_last);
}

static struct found check_both(void)
{
    struct found found = {0};
    struct mr_walk *each = NULL;
    struct mr_walk *pass = NULL;
    struct mr_walk_run run;
    struct mr_walk_event event;
    struct mr_walk_damage damages[2];
    enum mr_err err = MR_OK;

    mr_assert(mr_walk_open(&each, lane_folder, 0, NULL) == MR_OK);
    mr_assert(mr_walk_open(&pass, lane_folder, 0, NULL) == MR_OK);
    while (err != MR_ERR_AGAIN) {
        err = mr_walk_pass(pass, &run, &damages[0], NULL);
        if (err == MR_OK) {
            check_run(each, &run);
            found.records += run.records;
            found.gaps += run.gap ? 1 : 0;
            continue;
        }
        mr_assert(mr_walk_next(each, &event, &damages[1], NULL) == err);
        if (err == MR_ERR_CORRUPT) {
            check_damage(&damages[0], &damages[1]);
            found.damages += 1;
        } else {
            mr_assert(err == MR_ERR_AGAIN);
        }
    }
    mr_walk_close(each);
    mr_walk_close(pass);
    return found;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20261127;
    char path[512];

    (void)printf("seed %llu\n", (unsigned long long)seed);
    mr_rng_seed(&rng, seed);
    folder_make();
    journal_fill();
    struct found found = check_both();
    mr_assert(found.records == RECORDS && found.gaps == 0 && found.damages == 0);

    for (size_t i = 0, count = segment_path(0, path); i < count; i++) {
        (void)segment_path(i, path);
        segment_forge(path);
    }
    found = check_both();
    mr_assert(found.records > RECORDS / 4 && found.gaps > 0 && found.damages > 100);
    folder_remove();
    return 0;
}
