/* test_journal_repair_calls.c
 * links: journal os_sim base
 *
 * Goal:   a repair destroys nothing, whichever of its calls to the disk fails and wherever the
 *         machine stops: it says so, and when it is run again all that was whole is there, what is
 *         lost is named, and the damaged file lies aside as it was.
 * Method: one damaged batch, on the simulated disk; a repair with a fault at its first call to the
 *         disk, its second, and so on, and then one without.
 */
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

enum { SEGMENT = 64 << 10, PAYLOAD = 4000, RECORDS = 50, DAMAGED_AT = 4096 + 3 * (PAYLOAD + 100) };

static const char damaged[] = "/j/lane-00/00000000000000000001.seg";
static const char aside[] = "/j/damaged/lane-00/00000000000000000001.seg";

static uint8_t before[SEGMENT]; /* the damaged file */
static uint64_t lost_seq;       /* the last that a repair has named */
static uint64_t lost_count;
static bool said_unchanged; /* by the last repair */

static struct mr_journal *take(bool cursors_only)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "repair",
                                               .max_bytes = 16 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16384,
                                               .block_count = 12,
                                               .record_bytes_max = 8000,
                                               .keep_us = UINT64_C(3600000000),
                                               .cursors_only = cursors_only,
                                               .manual = true};
    struct mr_journal *journal = NULL;
    struct mr_error why = {.text = ""};

    enum mr_err err = mr_journal_open(&journal, &options, NULL, &why);
    mr_assert((err == MR_OK) == (journal != NULL) && (err == MR_OK || why.text[0] != '\0'));
    return journal;
}

static void payload_of(uint64_t seq, uint8_t out[PAYLOAD])
{
    memset(out, (int)(seq % 200), PAYLOAD);
    memcpy(out, &seq, sizeof(seq));
}

static void file_bytes(const char *path, uint8_t *out, size_t *got)
{
    struct mr_file file;

    mr_assert(mr_file_open(&file, path, MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, out, SEGMENT, 0, got) == MR_OK);
    mr_file_close(&file);
}

static void make(void)
{
    struct mr_journal *journal = take(false);
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    uint8_t payload[PAYLOAD];
    struct mr_appended out;
    size_t got = 0;

    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        payload_of(seq, payload);
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .client = mr_span_of("c"),
                                       .topic = mr_span_of("t"),
                                       .payload = mr_span_make(payload, PAYLOAD)};
        while (mr_lane_append(lane, &record, NULL, &out) != MR_OK) {
            mr_journal_step_keeper(journal);
        }
        lane_commit(lane, seq);
    }
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_assert(mr_sim_file_damage(damaged, DAMAGED_AT, 0x40) == MR_OK);
    file_bytes(damaged, before, &got);
    mr_assert(got == SEGMENT);
}

static void on_lost(void *arg, const struct mr_repair_loss *loss)
{
    (void)arg;
    mr_assert(loss->seq_first == loss->seq_last && strcmp(loss->path, damaged) == 0);
    lost_seq = loss->seq_first;
    lost_count += 1;
}

/* Not OK: it says why. */
static enum mr_err repair(void)
{
    struct mr_journal *journal = take(true);
    struct mr_repair how = {.lost = on_lost};
    struct mr_error why = {.text = ""};

    if (journal == NULL) {
        return MR_ERR_IO;
    }
    enum mr_err err = mr_journal_repair(journal, &how, &why);
    mr_assert(err == MR_OK || err == MR_ERR_IO || err == MR_ERR_FULL);
    mr_assert(err == MR_OK || why.text[0] != '\0');
    said_unchanged = err != MR_OK && strstr(why.text, "nothing was changed") != NULL;
    mr_assert(mr_journal_close(journal) == MR_OK);
    return err;
}

/* All but the one that is lost. */
static void read_all(void)
{
    struct mr_journal *journal = take(false);
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    uint8_t payload[PAYLOAD];
    uint64_t seq = 0;

    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while (seq < RECORDS) {
        mr_assert(mr_reader_next(reader, &view) == MR_OK);
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            seq += seq + 1 == lost_seq ? 2 : 1;
            payload_of(seq, payload);
            mr_assert(event.seq == seq && mr_span_is(event.client, "c"));
            mr_assert(mr_span_equal(event.payload, mr_span_make(payload, PAYLOAD)));
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void repair_step(void *arg)
{
    *(enum mr_err *)arg = repair();
}

/* False: it makes no `nth` call. */
static bool repair_with(uint64_t nth, uint64_t count, enum mr_sim_fault fault)
{
    static uint8_t now[SEGMENT];
    enum mr_err err = MR_ERR_IO;
    size_t got = 0;

    mr_sim_start(nth);
    lost_count = 0;
    said_unchanged = false;
    make();
    uint64_t calls = mr_sim_calls(MR_SIM_ANY);
    mr_sim_inject(MR_SIM_ANY, nth, count, fault);
    (void)mr_sim_run(repair_step, &err);
    bool met = mr_sim_calls(MR_SIM_ANY) - calls >= nth;
    mr_sim_inject_clear();
    if (said_unchanged) {
        file_bytes(damaged, now, &got);
        mr_assert(got == SEGMENT && memcmp(now, before, SEGMENT) == 0);
    }
    mr_assert(repair() == MR_OK);
    mr_assert(lost_count >= 1);
    file_bytes(aside, now, &got);
    mr_assert(got == SEGMENT && memcmp(now, before, SEGMENT) == 0);
    read_all();
    lost_count = 0;
    mr_assert(repair() == MR_OK && lost_count == 0);
    mr_sim_stop();
    return met;
}

int main(void)
{
    uint64_t nth = 0;
    bool met = true;

    mr_log_set_writer(drop_line);
    while (met) {
        nth += 1;
        met = repair_with(nth, 1, MR_SIM_FAULT_CRASH);
        met = repair_with(nth, 1, MR_SIM_FAULT_IO) || met;
        met = repair_with(nth, 0, MR_SIM_FAULT_FULL) || met;
    }
    printf("%llu calls\n", (unsigned long long)nth);
    mr_assert(nth > 20);
    return 0;
}
