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
#include "base/log.h"
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

static void test_lagging_reader_reads_the_disk(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    uint64_t first = next_seq(journal);
    struct mr_reader_options lagging = {.pins_max = 3, .view_bytes_max = 4096};
    struct mr_reader *reader;

    mr_assert(mr_reader_open(&reader, journal, 0, first, &lagging, NULL) == MR_OK);
    append_range(lane, first, first + 9999);
    read_to(reader, first + 4999);
    append_range(lane, first + 10000, first + 14999);
    read_to(reader, first + 14999);
    struct mr_view view;
    mr_assert(mr_reader_next(reader, &view) == MR_ERR_AGAIN);
    mr_reader_close(reader);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* Views stay what they were while the writer goes on; more than pins_max are
 * refused; and a reader that pins all it may never stops the writer.
 */
static void test_pins_hold_and_never_stop_the_writer(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    uint64_t first = next_seq(journal);
    struct mr_reader_options pinning = {.pins_max = 20};
    struct mr_reader *reader;
    struct mr_view views[21];
    uint64_t seq = first;

    mr_assert(mr_reader_open(&reader, journal, 0, first, &pinning, NULL) == MR_OK);
    for (size_t i = 0; i < 20; i++) {
        append_range(lane, seq, seq + 399); /* more than a block each time */
        seq += 400;
        mr_assert(mr_reader_next(reader, &views[i]) == MR_OK);
    }
    mr_assert(mr_reader_next(reader, &views[20]) == MR_ERR_FULL);
    append_range(lane, seq, seq + 9999);
    for (size_t i = 0; i < 20; i++) {
        struct mr_view_at at = mr_view_begin(&views[i]);
        struct mr_event event;
        for (uint64_t s = views[i].seq_first; s <= views[i].seq_last; s++) {
            mr_assert(mr_view_event(&views[i], &at, &event));
            check_event(&event, s);
        }
        mr_view_unpin(&views[i]);
    }
    read_to(reader, seq + 9999);
    mr_reader_close(reader);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* What a session is owed of what somebody has read. */
static enum mr_err append_owed(struct mr_lane *lane)
{
    static const uint8_t body[32 << 10] = {0};
    struct mr_record_raw record = {.type = MR_RECORD_SESSION,
                                   .received_us = 1700000000000000,
                                   .body = mr_span_make(body, sizeof(body))};
    struct mr_appended out;

    return mr_lane_append(lane, &record, NULL, &out);
}

/* On to behind `last`, whatever is there. */
static void read_over(struct mr_reader *reader, uint64_t last)
{
    while (mr_reader_seq(reader) <= last) {
        struct mr_view view;
        mr_assert(mr_reader_next(reader, &view) == MR_OK);
        mr_view_unpin(&view);
    }
}

static void wait_a_while(struct mr_lane *lane)
{
    mr_lane_submit(lane, mr_clock_mono_ns());
    mr_wake_wait(&owner, 10000000);
    mr_lane_release(lane, mr_lane_durable(lane));
}

/* Events, until they wait for somebody who has not read.  Returns the next seq. */
static uint64_t append_until_read(struct mr_lane *lane, uint64_t seq)
{
    const uint64_t first = seq;
    struct mr_name_ref none = {0};

    for (;;) {
        if (append_one(lane, seq, &none) == MR_OK) {
            none = (struct mr_name_ref){0};
            seq += 1;
            mr_assert(seq < first + 200000);
        } else if (mr_lane_durable(lane) == seq - 1 && mr_lane_state(lane) == MR_LANE_BEHIND) {
            return seq;
        } else {
            wait_a_while(lane);
        }
    }
}

/* No cursor holds anything; a reader that asked for it does, until it has read.  Events leave most
 * of the lane to what he may append for what he reads.
 */
static void test_a_holding_reader_keeps_segments(void)
{
    struct mr_journal_options options = small_options();
    char path[300];

    snprintf(path, sizeof(path), "%s/holding", folder);
    options.path = path;
    struct mr_journal *journal = open_journal(&options, NULL);
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct mr_reader_options holding = {.pins_max = 1, .holds = true};
    struct mr_reader *reader;
    struct mr_lane_stats stats;
    uint64_t first = next_seq(journal);

    mr_assert(mr_reader_open(&reader, journal, 0, first, &holding, NULL) == MR_OK);
    uint64_t seq = append_until_read(lane, first);
    mr_lane_stats(lane, &stats);
    mr_assert(stats.bytes_used <= options.max_bytes / 4 + 2 * options.segment_bytes);
    uint64_t owed = 0;
    while (mr_lane_state(lane) != MR_LANE_FULL) {
        if (append_owed(lane) == MR_OK) {
            owed += 1;
        } else {
            wait_a_while(lane);
        }
    }
    mr_assert(owed * (32 << 10) > options.max_bytes / 2);
    make_durable(lane, seq + owed - 1);
    read_to(reader, seq - 1);
    read_over(reader, seq + owed - 1);
    mr_assert(append_one(lane, seq + owed, &(struct mr_name_ref){0}) == MR_ERR_FULL);
    mr_reader_done(reader, seq + owed - 1); /* reading alone is not enough */
    seq += owed;
    for (int i = 0; i < 10; i++, seq += 200) { /* there is room again, round after round */
        append_range(lane, seq, seq + 199);
        read_to(reader, seq + 199);
        mr_reader_done(reader, seq + 199);
    }
    mr_reader_close(reader);
    append_range(lane, seq, seq + 60000);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void test_full_journal_waits_and_goes_on(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct mr_name_ref none = {0};
    struct mr_cursor *cursor;
    struct mr_lane_stats stats;
    bool is_new;
    uint64_t seq = next_seq(journal);

    mr_assert(mr_cursor_open(journal, "slow", 0, MR_START_NOW, &cursor, &is_new, NULL) == MR_OK);
    mr_assert(is_new && mr_cursor_get(cursor) == seq - 1);
    uint64_t held = seq;
    while (mr_lane_state(lane) != MR_LANE_FULL) {
        none = (struct mr_name_ref){0};
        if (append_one(lane, seq, &none) == MR_OK) {
            seq += 1;
            mr_assert(seq < held + 200000);
        } else {
            mr_lane_submit(lane, mr_clock_mono_ns());
            mr_wake_wait(&owner, 10000000);
            mr_lane_release(lane, mr_lane_durable(lane));
        }
    }
    mr_assert(strstr(mr_lane_state_text(lane), "max_size") != NULL);
    make_durable(lane, seq - 1);
    mr_lane_stats(lane, &stats);
    mr_assert(stats.bytes_used <= stats.bytes_max && stats.seq_oldest <= held);
    read_all(journal, held, seq - 1); /* nothing of what the cursor needs is gone */

    mr_cursor_set(cursor, seq - 1);
    while (append_one(lane, seq, &none) == MR_ERR_FULL) {
        mr_wake_wait(&owner, 1000000000);
    }
    mr_assert(mr_lane_state(lane) == MR_LANE_OPEN);
    append_range(lane, seq + 1, seq + 5000);
    mr_lane_stats(lane, &stats);
    mr_assert(stats.bytes_used <= stats.bytes_max);
    mr_cursor_set(cursor, seq + 5000);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = open_journal(&options, NULL);
    mr_assert(mr_cursor_open(journal, "slow", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_assert(!is_new && mr_cursor_get(cursor) == seq + 5000);
    mr_assert(mr_cursor_forget(journal, "slow") == MR_OK);
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = open_journal(&options, NULL);
    mr_assert(mr_cursor_open(journal, "slow", 0, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_assert(is_new);
    mr_assert(mr_cursor_forget(journal, "slow") == MR_OK);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void test_refusals(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    struct mr_journal *second;
    struct mr_error why;
    struct mr_appended out;
    uint8_t *large = calloc(1, options.record_bytes_max + 1);
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .client = mr_span_of("c"),
        .topic = mr_span_of("t"),
        .payload = mr_span_make(large, options.record_bytes_max + 1),
    };

    mr_assert(mr_journal_open(&second, &options, NULL, &why) == MR_ERR_AGAIN);
    mr_assert(mr_lane_append(mr_journal_lane(journal, 0), &record, NULL, &out) == MR_ERR_REJECT);
    free(large);
    mr_assert(mr_journal_close(journal) == MR_OK);
    options.max_bytes = 1000;
    mr_assert(mr_journal_open(&second, &options, NULL, &why) == MR_ERR_CONFIG);
    options.read_only = true;
    options.path = "/nonexistent/journal";
    mr_assert(mr_journal_open(&second, &options, NULL, &why) == MR_ERR_CONFIG);
}

/* Records larger than a block, among small ones. */
static void test_large_records(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    uint64_t first = next_seq(journal);
    uint8_t *large = malloc(60000);
    struct mr_reader *reader;

    mr_assert(mr_reader_open(&reader, journal, 0, first, NULL, NULL) == MR_OK);
    for (uint64_t seq = first; seq < first + 200; seq++) {
        size_t len = seq % 3 == 0 ? 60000 - seq % 1000 : 100;
        struct mr_record_raw record = {
            .type = MR_RECORD_EVENT,
            .client = mr_span_of("c"),
            .topic = mr_span_of("t"),
            .payload = mr_span_make(large, len),
        };
        struct mr_appended out;
        memset(large, (int)seq, len);
        while (mr_lane_append(lane, &record, NULL, &out) == MR_ERR_FULL) {
            mr_lane_submit(lane, mr_clock_mono_ns());
            mr_wake_wait(&owner, 10000000);
            mr_lane_release(lane, mr_lane_durable(lane));
        }
    }
    make_durable(lane, first + 199);
    for (uint64_t seq = first; seq < first + 200;) {
        struct mr_view view;
        struct mr_event event;
        mr_assert(mr_reader_next(reader, &view) == MR_OK);
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            size_t len = seq % 3 == 0 ? 60000 - seq % 1000 : 100;
            memset(large, (int)seq, len);
            mr_assert(event.seq == seq);
            mr_assert(mr_span_equal(event.payload, mr_span_make(large, len)));
            seq += 1;
        }
        mr_view_unpin(&view);
    }
    free(large);
    mr_reader_close(reader);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void test_read_only_beside_a_running_journal(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal_options read_only = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    uint64_t first = next_seq(journal);

    append_range(mr_journal_lane(journal, 0), first, first + 2999);
    read_only.read_only = true;
    struct mr_journal *tool = open_journal(&read_only, NULL);
    mr_assert(mr_lane_durable(mr_journal_lane(tool, 0)) == first + 2999);
    read_all(tool, first, first + 2999);
    mr_assert(mr_journal_close(tool) == MR_OK);
    append_range(mr_journal_lane(journal, 0), first + 3000, first + 3999);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void look_again_and_again(void *arg)
{
    struct mr_journal_options read_only = small_options();
    _Atomic bool *done = arg;

    read_only.read_only = true;
    do {
        struct mr_recovery recovery;
        struct mr_journal *tool = open_journal(&read_only, &recovery);
        uint64_t last = mr_lane_durable(mr_journal_lane(tool, 0));

        mr_assert(recovery.corrupt_ranges == 0);
        read_all(tool, last < 500 ? 1 : last - 499, last);
        mr_assert(mr_journal_close(tool) == MR_OK);
    } while (!atomic_load(done));
}

/* What is only half written when a tool looks is never taken for damage. */
static void test_tools_look_while_it_is_written(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    uint64_t first = next_seq(journal);
    struct mr_cursor *cursor;
    struct mr_thread *thread;
    _Atomic bool done = false;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "hold", 0, MR_START_NOW, &cursor, &is_new, NULL) == MR_OK);
    mr_assert(mr_thread_start(&thread, "tool", look_again_and_again, &done, NULL) == MR_OK);
    append_range(mr_journal_lane(journal, 0), first, first + 29999);
    atomic_store(&done, true);
    mr_thread_join(thread);
    mr_assert(mr_cursor_forget(journal, "hold") == MR_OK);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void test_clean_close_cuts_the_last_segment(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    uint64_t first = next_seq(journal);
    char path[512];
    struct mr_file file;
    uint64_t bytes;

    append_range(mr_journal_lane(journal, 0), first, first + 9);
    mr_assert(mr_journal_close(journal) == MR_OK);
    snprintf(path, sizeof(path), "%s/lane-00/%020llu.seg", folder, (unsigned long long)first);
    mr_assert(mr_file_open(&file, path, MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_size(&file, &bytes) == MR_OK && bytes < 8192);
    mr_file_close(&file);
}

/* A writer that is killed tells through a pipe what was durable before. */
static void test_kill_loses_nothing_durable(void)
{
    struct mr_journal_options options = small_options();

    for (unsigned round = 0; round < 5; round++) {
        struct mr_journal *journal = open_journal(&options, NULL);
        uint64_t first = next_seq(journal);
        uint64_t told = first - 1;
        uint64_t durable;
        int ends[2];

        mr_assert(mr_journal_close(journal) == MR_OK);
        mr_assert(pipe(ends) == 0);
        fflush(NULL);
        pid_t child = fork();
        mr_assert(child >= 0);
        if (child == 0) {
            journal = open_journal(&options, NULL);
            for (uint64_t seq = first;; seq += 50) {
                append_range(mr_journal_lane(journal, 0), seq, seq + 49);
                durable = seq + 49;
                mr_assert(write(ends[1], &durable, sizeof(durable)) == sizeof(durable));
            }
        }
        close(ends[1]);
        for (unsigned i = 0; i < 20 + 17 * round; i++) {
            mr_assert(read(ends[0], &told, sizeof(told)) == sizeof(told));
        }
        mr_assert(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
        while (read(ends[0], &durable, sizeof(durable)) == sizeof(durable)) {
            told = durable;
        }
        close(ends[0]);

        struct mr_recovery recovery;
        journal = open_journal(&options, &recovery);
        mr_assert(recovery.corrupt_ranges == 0);
        mr_assert(next_seq(journal) > told);
        read_all(journal, first, next_seq(journal) - 1);
        mr_assert(mr_journal_close(journal) == MR_OK);
    }
}

struct follower {
    struct mr_journal *journal;
    uint64_t from;
    uint64_t to;
    struct mr_wake wake;
    struct mr_thread *thread;
};

static void follow(void *arg)
{
    struct follower *f = arg;
    struct mr_reader_options options = {.wake = &f->wake, .pins_max = 4};
    struct mr_reader *reader;
    uint64_t seq = f->from;

    mr_assert(mr_reader_open(&reader, f->journal, 0, f->from, &options, NULL) == MR_OK);
    while (seq <= f->to) {
        struct mr_view view;
        struct mr_event event;
        enum mr_err err = mr_reader_next(reader, &view);

        if (err == MR_ERR_AGAIN) {
            mr_wake_wait(&f->wake, 1000000000);
            continue;
        }
        mr_assert(err == MR_OK);
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            check_event(&event, seq++);
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
}

static void test_readers_follow_from_other_threads(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    uint64_t first = next_seq(journal);
    struct follower followers[3];
    struct mr_cursor *cursor;
    bool is_new;

    /* Holds everything back, so that no follower can fall out of the journal. */
    mr_assert(mr_cursor_open(journal, "hold", 0, MR_START_NOW, &cursor, &is_new, NULL) == MR_OK);
    for (size_t i = 0; i < MR_COUNT_OF(followers); i++) {
        followers[i] = (struct follower){.journal = journal, .from = first, .to = first + 29999};
        mr_assert(mr_wake_open(&followers[i].wake, NULL) == MR_OK);
        mr_assert(mr_thread_start(&followers[i].thread, "follower", follow, &followers[i], NULL) ==
                  MR_OK);
    }
    append_range(mr_journal_lane(journal, 0), first, first + 29999);
    for (size_t i = 0; i < MR_COUNT_OF(followers); i++) {
        mr_thread_join(followers[i].thread);
        mr_wake_close(&followers[i].wake);
    }
    mr_assert(mr_cursor_forget(journal, "hold") == MR_OK);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* While the disk is slow many segments wait for their first commit, all still named as
 * spares: none may get the file of another.
 */
static void test_many_segments_wait_for_a_slow_disk(void)
{
    struct mr_journal_options options = small_options();
    char path[300];

    snprintf(path, sizeof(path), "%s/slow", folder);
    options.path = path;
    options.segment_bytes = 128 << 10;
    options.block_count = 80;
    options.record_bytes_max = 16 << 10;
    options.manual = true;
    struct mr_journal *journal = open_journal(&options, NULL);
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct mr_lane_stats stats;
    struct mr_name_ref none = {0};
    uint64_t seq = 1;

    do {
        none = (struct mr_name_ref){0};
        if (append_one(lane, seq, &none) == MR_OK) {
            seq += 1;
        } else {
            mr_journal_step_keeper(journal);
        }
        mr_lane_stats(lane, &stats);
    } while (stats.segments < 12);
    mr_assert(mr_lane_durable(lane) == 0);
    (void)mr_lane_submit(lane, mr_clock_mono_ns() + 1000000000);
    mr_assert(mr_lane_step_commit(lane));
    mr_lane_release(lane, mr_lane_durable(lane));
    mr_assert(mr_journal_close(journal) == MR_OK);
    options.manual = false;
    journal = open_journal(&options, NULL);
    mr_assert(next_seq(journal) == seq);
    read_all(journal, 1, seq - 1);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

/* Each lane numbers for itself, and an existing journal keeps its count when none is named. */
static void test_lanes_are_independent(void)
{
    struct mr_journal_options options = small_options();
    char path[300];

    snprintf(path, sizeof(path), "%s/lanes", folder);
    options.path = path;
    options.lane_count = 3;
    for (uint64_t round = 0; round < 2; round++) {
        struct mr_journal *journal = open_journal(&options, NULL);
        mr_assert(mr_journal_lane_count(journal) == 3);
        for (uint32_t lane = 0; lane < 3; lane++) {
            mr_lane_set_owner(mr_journal_lane(journal, lane), &owner);
            uint64_t first = round * 500 * (lane + 1) + 1;
            append_range(mr_journal_lane(journal, lane), first, first + 500 * (lane + 1) - 1);
        }
        for (uint32_t lane = 0; lane < 3; lane++) {
            struct mr_reader *reader;
            mr_assert(mr_reader_open(&reader, journal, lane, 1, NULL, NULL) == MR_OK);
            read_to(reader, (round + 1) * 500 * (lane + 1));
            mr_reader_close(reader);
        }
        mr_assert(mr_journal_close(journal) == MR_OK);
        options.lane_count = 0;
    }
}

static void count_drop(void *arg, void *value)
{
    mr_assert(value != NULL);
    *(int *)arg += 1;
}

/* A value per name lives as long as the names, and is dropped once. */
static void test_name_slots_are_dropped(void)
{
    struct mr_journal_options options = small_options();
    struct mr_journal *journal = open_journal(&options, NULL);
    uint64_t first = next_seq(journal);
    struct mr_reader *reader;
    struct mr_view view;
    struct mr_event event;
    int made = 0;
    int dropped = 0;

    append_range(mr_journal_lane(journal, 0), first, first + 4999);
    mr_assert(mr_reader_open(&reader, journal, 0, first, NULL, NULL) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        mr_names_on_drop(view.names, count_drop, &dropped);
        while (mr_view_event(&view, &at, &event)) {
            void **slot = mr_names_slot(view.names, event.name_id);
            if (*slot == NULL) {
                *slot = &made;
                made += 1;
            }
        }
        mr_view_unpin(&view);
    }
    mr_assert(made >= 97 && dropped < made);
    mr_reader_close(reader);
    mr_assert(dropped == made);
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void drop_line(const char *line, size_t len)
{
    (void)line;
    (void)len;
}

int main(int argc, char **argv)
{
    if (argc == 1) {
        mr_log_set_writer(drop_line); /* any argument shows what the journal says */
    }
    (void)argv;
    mr_assert(mr_wake_open(&owner, NULL) == MR_OK);
    folder_make();
    test_reads_what_it_wrote_after_reopen();
    test_rolls_over_many_segments();
    test_lagging_reader_reads_the_disk();
    test_pins_hold_and_never_stop_the_writer();
    test_a_holding_reader_keeps_segments();
    test_full_journal_waits_and_goes_on();
    test_refusals();
    test_large_records();
    test_read_only_beside_a_running_journal();
    test_tools_look_while_it_is_written();
    test_clean_close_cuts_the_last_segment();
    test_kill_loses_nothing_durable();
    test_readers_follow_from_other_threads();
    test_many_segments_wait_for_a_slow_disk();
    test_lanes_are_independent();
    test_name_slots_are_dropped();
    folder_remove();
    mr_wake_close(&owner);
    return 0;
}
