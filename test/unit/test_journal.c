/* test_journal.c
 *
 * Goal:   what was reported durable is read back, in order and byte for byte: by
 *         readers that keep up and readers that lag, across segments, restarts and
 *         kill -9; and a full journal waits instead of losing anything.
 * Method: a real journal in a temporary folder with its real threads.  Every
 *         payload carries its seq and a pattern made from it, so any mix-up shows.
 *
 * links: journal os base
 */
#include "journal/cursor.h"
#include "journal/journal.h"
#include "journal/reader.h"
#include "journal/scan.h"

#include "os/clock.h"
#include "os/file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAYLOAD_MAX = 4096 };

static char folder[256];

static struct mr_journal_options small_options(void)
{
    return (struct mr_journal_options){
        .path = folder,
        .name = "test",
        .max_bytes = 8 << 20,
        .segment_bytes = 256 << 10,
        .block_bytes = 32 << 10,
        .block_count = 12,
        .record_bytes_max = 64 << 10,
    };
}

static void folder_make(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof(folder), "%s/mr-journal-XXXXXX", base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(folder) != NULL);
}

static void remove_under(void *arg, const char *name)
{
    char path[1024];

    snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    if (unlink(path) != 0) {
        mr_assert(mr_dir_list(path, remove_under, path) == MR_OK);
        mr_assert(rmdir(path) == 0);
    }
}

static void folder_remove(void)
{
    mr_assert(mr_dir_list(folder, remove_under, folder) == MR_OK);
    mr_assert(rmdir(folder) == 0);
}

/* ---- one event, a function of its seq ---- */

static size_t payload_of(uint64_t seq, uint8_t out[PAYLOAD_MAX])
{
    size_t len = 8 + seq * 31 % 193;

    memcpy(out, &seq, sizeof(seq));
    for (size_t i = 8; i < len; i++) {
        out[i] = (uint8_t)(seq * 7 + i);
    }
    return len;
}

static uint64_t device_of(uint64_t seq)
{
    return seq * 2654435761u % 97;
}

static void names_of(uint64_t seq, char client[32], char topic[64])
{
    snprintf(client, 32, "device-%llu", (unsigned long long)device_of(seq));
    snprintf(topic, 64, "sensors/%llu/temperature", (unsigned long long)device_of(seq));
}

static enum mr_err append_one(struct mr_lane *lane, uint64_t seq, struct mr_name_ref *ref)
{
    uint8_t payload[PAYLOAD_MAX];
    char client[32];
    char topic[64];
    struct mr_appended out;

    names_of(seq, client, topic);
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .received_us = 1700000000000000 + (int64_t)seq,
        .client = mr_span_of(client),
        .username = device_of(seq) % 3 == 0 ? mr_span_of("operator") : mr_span_of(""),
        .topic = mr_span_of(topic),
        .payload = mr_span_make(payload, payload_of(seq, payload)),
        .qos = 1,
        .retain = seq % 5 == 0,
    };
    enum mr_err err = mr_lane_append(lane, &record, ref, &out);
    if (err == MR_OK) {
        mr_assert(out.seq == seq);
        mr_assert(memcmp(out.payload, payload, record.payload.len) == 0);
    }
    return err;
}

static void check_event(const struct mr_event *event, uint64_t seq)
{
    uint8_t payload[PAYLOAD_MAX];
    size_t len = payload_of(seq, payload);
    char client[32];
    char topic[64];

    names_of(seq, client, topic);
    mr_assert(event->seq == seq);
    mr_assert(event->received_us == 1700000000000000 + (int64_t)seq);
    mr_assert(event->payload.len == len && memcmp(event->payload.at, payload, len) == 0);
    mr_assert(mr_span_is(event->client, client));
    mr_assert(mr_span_is(event->topic, topic));
    mr_assert(mr_span_is(event->username, device_of(seq) % 3 == 0 ? "operator" : ""));
    mr_assert(event->retain == (seq % 5 == 0));
    mr_assert(event->qos == 1);
}

/* ---- helpers ---- */

static struct mr_wake owner;

static struct mr_journal *open_journal(const struct mr_journal_options *options,
                                       struct mr_recovery *recovery)
{
    struct mr_journal *journal = NULL;
    struct mr_error why = {.text = ""};
    enum mr_err err = mr_journal_open(&journal, options, recovery, &why);

    if (err != MR_OK) {
        printf("open: %d %s\n", err, why.text);
    }
    mr_assert(err == MR_OK);
    if (!options->read_only) {
        mr_lane_set_owner(mr_journal_lane(journal, 0), &owner);
    }
    return journal;
}

static uint64_t next_seq(struct mr_journal *journal)
{
    struct mr_lane_stats stats;

    mr_lane_stats(mr_journal_lane(journal, 0), &stats);
    return stats.seq_next;
}

/* As the owner's loop would: submit, and wait for the wake, until durable. */
static void make_durable(struct mr_lane *lane, uint64_t seq)
{
    while (mr_lane_durable(lane) < seq) {
        mr_assert(mr_lane_state(lane) != MR_LANE_FAILED);
        int64_t wait_ns = mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, wait_ns < 0 ? 1000000000 : wait_ns);
    }
    mr_lane_release(lane, seq);
}

/* Append [from, to], waiting for room where needed. */
static void append_range(struct mr_lane *lane, uint64_t from, uint64_t to)
{
    struct mr_name_ref refs[97] = {{0}};

    for (uint64_t seq = from; seq <= to; seq++) {
        while (append_one(lane, seq, &refs[device_of(seq)]) == MR_ERR_FULL) {
            mr_lane_submit(lane, mr_clock_mono_ns());
            mr_wake_wait(&owner, 10000000);
            mr_lane_release(lane, mr_lane_durable(lane));
        }
        if (seq % 64 == 0) {
            mr_lane_submit(lane, mr_clock_mono_ns());
            mr_lane_release(lane, mr_lane_durable(lane));
        }
    }
    make_durable(lane, to);
}

/* Read from the reader's position to `last`, checking every event. */
static void read_to(struct mr_reader *reader, uint64_t last)
{
    uint64_t seq = mr_reader_seq(reader);

    while (seq <= last) {
        struct mr_view view;
        struct mr_event event;

        mr_assert(mr_reader_next(reader, &view) == MR_OK);
        mr_assert(view.seq_first == seq);
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            check_event(&event, seq);
            seq += 1;
        }
        mr_assert(seq == view.seq_last + 1);
        mr_view_unpin(&view);
    }
}

static void read_all(struct mr_journal *journal, uint64_t from, uint64_t to)
{
    struct mr_reader *reader;

    mr_assert(mr_reader_open(&reader, journal, 0, from, NULL, NULL) == MR_OK);
    read_to(reader, to);
    mr_reader_close(reader);
}

/* ---- tests ---- */

static void test_reads_what_it_wrote_after_reopen(void)
{
    struct mr_journal_options options = small_options();

    for (uint64_t round = 0; round < 4; round++) {
        struct mr_recovery recovery;
        struct mr_journal *journal = open_journal(&options, &recovery);

        mr_assert(recovery.corrupt_ranges == 0 && recovery.torn_bytes == 0);
        mr_assert(next_seq(journal) == round * 100 + 1);
        append_range(mr_journal_lane(journal, 0), round * 100 + 1, round * 100 + 100);
        read_all(journal, 1, round * 100 + 100);
        read_all(journal, round * 100 + 51, round * 100 + 100);
        mr_assert(mr_journal_close(journal) == MR_OK);
    }
}

static void test_rolls_over_many_segments(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    uint64_t first = next_seq(journal);
    struct mr_reader *live;

    mr_assert(mr_reader_open(&live, journal, 0, first, NULL, NULL) == MR_OK);
    for (uint64_t seq = first; seq < first + 20000; seq += 500) {
        append_range(mr_journal_lane(journal, 0), seq, seq + 499);
        read_to(live, seq + 499);
    }
    read_all(journal, 1, first + 19999);
    mr_reader_close(live);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = open_journal(&options, NULL);
    mr_assert(next_seq(journal) == first + 20000);
    read_all(journal, 1, first + 19999);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

int main(void)
{
    mr_assert(mr_wake_open(&owner, NULL) == MR_OK);
    folder_make();
    test_reads_what_it_wrote_after_reopen();
    test_rolls_over_many_segments();
    folder_remove();
    mr_wake_close(&owner);
    return 0;
}
