/* test_journal_epochs.c
 * links: journal os base
 *
 * Goal:   a changed number of lanes begins an epoch: where each lane ended is on disk,
 *         views never mix epochs, seqs go on, lanes that were dropped can be read until
 *         they are delivered, and journals of the first format open.
 * Method: a real journal in a temporary folder, opened again and again with other counts.
 */
#include "base/hash.h"
#include "base/log.h"
#include "journal/cursor.h"
#include "journal/journal.h"
#include "journal/reader.h"
#include "os/clock.h"
#include "os/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[256];
static struct mr_wake owner;

static void remove_under(void *arg, const char *name)
{
    char path[1024];

    snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    if (unlink(path) != 0) {
        mr_assert(mr_dir_list(path, remove_under, path) == MR_OK);
        mr_assert(rmdir(path) == 0);
    }
}

static void folder_make(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof(folder), "%s/mr-epochs-XXXXXX", base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(folder) != NULL);
}

static void folder_remove(void)
{
    mr_assert(mr_dir_list(folder, remove_under, folder) == MR_OK);
    mr_assert(rmdir(folder) == 0);
}

static struct mr_journal_options options_of(uint32_t lanes)
{
    return (struct mr_journal_options){
        .path = folder,
        .name = "test",
        .lane_count = lanes,
        .max_bytes = 8 << 20,
        .segment_bytes = 256 << 10,
        .block_bytes = 32 << 10,
        .block_count = 12,
        .record_bytes_max = 64 << 10,
    };
}

static struct mr_journal *journal_open(uint32_t lanes)
{
    struct mr_journal_options options = options_of(lanes);
    struct mr_journal *journal = NULL;
    struct mr_error why = {.text = ""};

    if (mr_journal_open(&journal, &options, NULL, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    for (uint32_t i = 0; i < mr_journal_lane_count(journal); i++) {
        mr_lane_set_owner(mr_journal_lane(journal, i), &owner);
    }
    return journal;
}

static enum mr_err journal_refused(uint32_t lanes, struct mr_error *why)
{
    struct mr_journal_options options = options_of(lanes);
    struct mr_journal *journal = NULL;

    return mr_journal_open(&journal, &options, NULL, why);
}

/* Append `count` events of `bytes` to `lane` and make them durable; returns the last seq. */
static uint64_t append(struct mr_journal *journal, uint32_t lane_index, int count, size_t bytes)
{
    struct mr_lane *lane = mr_journal_lane(journal, lane_index);
    static uint8_t payload[64 << 10];
    struct mr_appended out = {.seq = 0};

    for (int i = 0; i < count; i++) {
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .received_us = 1700000000000000,
                                       .client = mr_span_of("device"),
                                       .topic = mr_span_of("a/b"),
                                       .payload = mr_span_make(payload, bytes)};
        while (mr_lane_append(lane, &record, NULL, &out) == MR_ERR_FULL) {
            mr_lane_submit(lane, mr_clock_mono_ns());
            mr_wake_wait(&owner, 1000000);
            mr_lane_release(lane, mr_lane_durable(lane));
        }
    }
    while (mr_lane_durable(lane) < out.seq) {
        mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
    }
    mr_lane_release(lane, out.seq);
    return out.seq;
}

/* How many events of `epoch` there are in `lane`; no view may have two epochs' events. */
static uint64_t count_events(struct mr_journal *journal, uint32_t lane, uint32_t epoch)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    uint64_t count = 0;

    mr_assert(mr_reader_open(&reader, journal, lane, 1, NULL, NULL) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        if (view.epoch == epoch) {
            count += view.seq_last - view.seq_first + 1;
            mr_assert(view.seq_last <= mr_journal_epoch_end(journal, epoch, lane));
            mr_assert(view.seq_first > mr_journal_epoch_end(journal, epoch - 1, lane));
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    return count;
}

static void test_each_epoch_knows_where_its_lanes_ended(void)
{
    folder_make();
    struct mr_journal *journal = journal_open(1);
    mr_assert(mr_journal_epoch(journal) == 1 && mr_journal_epoch_end(journal, 1, 0) == UINT64_MAX);
    mr_assert(append(journal, 0, 10, 100) == 10);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open(3);
    mr_assert(mr_journal_epoch(journal) == 2 && mr_journal_lane_count(journal) == 3);
    mr_assert(mr_journal_epoch_end(journal, 1, 0) == 10);
    mr_assert(mr_journal_epoch_end(journal, 1, 2) == 0);
    mr_assert(append(journal, 0, 5, 100) == 15); /* seqs go on */
    mr_assert(append(journal, 1, 7, 100) == 7);
    mr_assert(append(journal, 2, 9, 100) == 9);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open(0); /* as it is */
    mr_assert(mr_journal_epoch(journal) == 2 && mr_journal_lane_count(journal) == 3);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open(2);
    mr_assert(mr_journal_epoch(journal) == 3 && mr_journal_lane_count(journal) == 2);
    mr_assert(mr_journal_lane_total(journal) == 3);
    mr_assert(mr_journal_epoch_end(journal, 2, 0) == 15);
    mr_assert(mr_journal_epoch_end(journal, 2, 2) == 9);
    mr_assert(append(journal, 1, 1, 100) == 8);
    mr_assert(count_events(journal, 0, 1) == 10 && count_events(journal, 0, 2) == 5);
    mr_assert(count_events(journal, 1, 2) == 7 && count_events(journal, 1, 3) == 1);
    mr_assert(count_events(journal, 2, 2) == 9); /* dropped, and still there */
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open(4);
    mr_assert(mr_journal_epoch(journal) == 4 && mr_journal_lane_total(journal) == 4);
    mr_assert(append(journal, 2, 1, 100) == 10); /* a lane that comes back goes on */
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

static void test_clients_have_one_home(void)
{
    uint32_t clients[3] = {0, 0, 0};
    char id[32];

    folder_make();
    struct mr_journal *journal = journal_open(3);
    for (int i = 0; i < 3000; i++) {
        snprintf(id, sizeof(id), "device-%d", i);
        uint32_t home = mr_journal_home(journal, mr_span_of(id));
        mr_assert(home < 3 && home == mr_journal_home(journal, mr_span_of(id)));
        clients[home] += 1;
    }
    mr_assert(clients[0] > 850 && clients[1] > 850 && clients[2] > 850);
    uint32_t home = mr_journal_home(journal, mr_span_of("device-1"));
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open(0); /* the key is kept */
    mr_assert(mr_journal_home(journal, mr_span_of("device-1")) == home);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

static void meta_rewrite(void (*change)(uint8_t *meta, size_t *len))
{
    uint8_t bytes[1024];
    char path[300];
    size_t len = 0;
    struct mr_file file;

    snprintf(path, sizeof(path), "%s/meta", folder);
    mr_assert(mr_file_open(&file, path, MR_FILE_READ_WRITE, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, bytes, sizeof(bytes), 0, &len) == MR_OK);
    change(bytes, &len);
    struct mr_span part = mr_span_make(bytes, len);
    mr_assert(mr_file_write(&file, &part, 1, 0) == MR_OK);
    mr_assert(mr_file_truncate(&file, len) == MR_OK);
    mr_file_close(&file);
}

/* What version 1 wrote: 128 bytes, and nothing behind the segment size. */
static void as_version_1(uint8_t *meta, size_t *len)
{
    mr_put_u16(meta + 8, 1);
    memset(meta + 76, 0, 48);
    mr_put_u32(meta + 124, mr_crc32c(0, meta, 124));
    *len = 128;
}

static void flip_an_end(uint8_t *meta, size_t *len)
{
    mr_assert(*len > 128 + 16);
    meta[128 + 16] ^= 1;
}

static void cut_the_ends(uint8_t *meta, size_t *len)
{
    (void)meta;
    *len = 130;
}

static void test_a_journal_of_the_first_format_opens(void)
{
    folder_make();
    struct mr_journal *journal = journal_open(1);
    mr_assert(append(journal, 0, 10, 100) == 10);
    mr_assert(mr_journal_close(journal) == MR_OK);
    meta_rewrite(as_version_1);
    journal = journal_open(0);
    mr_assert(mr_journal_epoch(journal) == 1 && mr_journal_lane_total(journal) == 1);
    mr_assert(append(journal, 0, 1, 100) == 11);
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open(2);
    mr_assert(mr_journal_epoch(journal) == 2 && mr_journal_epoch_end(journal, 1, 0) == 11);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

static void test_damaged_epochs_are_refused(void)
{
    struct mr_error why;

    folder_make();
    struct mr_journal *journal = journal_open(1);
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open(2);
    mr_assert(mr_journal_close(journal) == MR_OK);
    meta_rewrite(flip_an_end);
    mr_assert(journal_refused(0, &why) == MR_ERR_CORRUPT && strstr(why.text, "epochs") != NULL);
    meta_rewrite(flip_an_end); /* back */
    journal = journal_open(0);
    mr_assert(mr_journal_close(journal) == MR_OK);
    meta_rewrite(cut_the_ends);
    mr_assert(journal_refused(0, &why) == MR_ERR_CORRUPT);
    mr_assert(journal_refused(300, &why) == MR_ERR_CONFIG);
    folder_remove();
}

/* The numbering of a lane whose files were taken away goes on behind what it had. */
static void test_no_seq_is_given_twice(void)
{
    char path[300];

    folder_make();
    struct mr_journal *journal = journal_open(2);
    mr_assert(append(journal, 1, 10, 100) == 10);
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open(1);
    mr_assert(mr_journal_close(journal) == MR_OK);
    snprintf(path, sizeof(path), "%s/lane-01", folder);
    mr_assert(mr_dir_list(path, remove_under, path) == MR_OK);
    journal = journal_open(2);
    mr_assert(append(journal, 1, 1, 100) == 11);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

static uint64_t bytes_of_all(struct mr_journal *journal)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < mr_journal_lane_total(journal); i++) {
        struct mr_lane_stats stats;
        mr_lane_stats(mr_journal_lane(journal, i), &stats);
        bytes += stats.bytes_used;
    }
    return bytes;
}

static void wait_for_segments(struct mr_journal *journal, uint32_t lane, uint64_t at_most)
{
    int64_t until_ns = mr_clock_mono_ns() + 20000000000;
    struct mr_lane_stats stats;

    do {
        mr_assert(mr_clock_mono_ns() < until_ns);
        (void)usleep(1000); /* sleep: the keeper looks every 100 ms */
        mr_lane_stats(mr_journal_lane(journal, lane), &stats);
    } while (stats.segments > at_most);
}

/* What a bridge has not delivered stays, and is counted; then it goes. */
static void test_a_dropped_lane_goes_when_it_is_delivered(void)
{
    struct mr_cursor *cursor = NULL;
    struct mr_lane_stats stats;
    bool is_new = false;

    folder_make();
    struct mr_journal *journal = journal_open(2);
    mr_assert(mr_cursor_open(journal, "slow", 1, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    uint64_t last = append(journal, 1, 100, 20 << 10); /* some 2 MiB: 8 segments */
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open(1);
    mr_lane_stats(mr_journal_lane(journal, 1), &stats);
    mr_assert(stats.segments >= 8 && stats.durable_seq == last);
    /* Lane 0 has all of the 8 MiB now, less what lane 1 still holds. */
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct mr_cursor *own = NULL;
    mr_assert(mr_cursor_open(journal, "slow", 0, MR_START_OLDEST, &own, &is_new, NULL) == MR_OK);
    int64_t until_ns = mr_clock_mono_ns() + 20000000000;
    while (mr_lane_state(lane) != MR_LANE_FULL) {
        static const uint8_t payload[20 << 10];
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .payload = mr_span_make(payload, sizeof(payload))};
        struct mr_appended out;
        if (mr_lane_append(lane, &record, NULL, &out) != MR_OK) {
            mr_lane_submit(lane, mr_clock_mono_ns());
            mr_wake_wait(&owner, 1000000);
            mr_lane_release(lane, mr_lane_durable(lane));
        }
        mr_assert(bytes_of_all(journal) <= 8 << 20);
        mr_assert(mr_clock_mono_ns() < until_ns);
    }
    mr_assert(strstr(mr_lane_state_text(lane), "slow") != NULL);

    mr_assert(mr_cursor_open(journal, "slow", 1, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_assert(!is_new);
    mr_cursor_set(cursor, last);
    wait_for_segments(journal, 1, 1);
    until_ns = mr_clock_mono_ns() + 20000000000;
    while (mr_lane_state(lane) == MR_LANE_FULL) { /* there is room again */
        mr_assert(mr_clock_mono_ns() < until_ns);
        mr_wake_wait(&owner, 1000000);
    }
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open(0);
    mr_lane_stats(mr_journal_lane(journal, 1), &stats);
    mr_assert(stats.durable_seq == last); /* and it knows where it ended */
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

static void test_many_epochs(void)
{
    folder_make();
    for (uint32_t i = 1; i <= 70; i++) {
        struct mr_journal *journal = journal_open(1 + i % 2);
        mr_assert(mr_journal_epoch(journal) == i);
        mr_assert(mr_journal_epoch_end(journal, i, 0) == UINT64_MAX);
        append(journal, 0, 1, 100);
        mr_assert(mr_journal_close(journal) == MR_OK);
    }
    struct mr_journal *journal = journal_open(0);
    mr_assert(mr_journal_epoch_end(journal, 69, 0) == 69);
    mr_assert(mr_journal_epoch_end(journal, 1, 0) == 0); /* no bridge needs to know any more */
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

struct counting {
    const char *name;
    uint32_t lanes; /* as bits */
    uint64_t lowest;
};

static void on_cursor(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    struct counting *counting = arg;

    if (strcmp(name, counting->name) == 0) {
        counting->lanes |= 1u << lane;
        counting->lowest = seq < counting->lowest ? seq : counting->lowest;
    }
}

static struct counting cursors_of(struct mr_journal *journal, const char *name)
{
    struct counting counting = {.name = name, .lowest = UINT64_MAX};

    mr_cursor_list(journal, on_cursor, &counting);
    return counting;
}

static void cursor_open(struct mr_journal *journal, const char *name, uint32_t lane)
{
    struct mr_cursor *cursor;
    bool is_new;

    mr_assert(mr_cursor_open(journal, name, lane, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
}

/* A bridge that is not configured while the number of lanes changes holds the new ones too. */
static void test_who_is_away_follows_into_new_lanes(void)
{
    folder_make();
    struct mr_journal *journal = journal_open(1);
    cursor_open(journal, "away", 0);
    cursor_open(journal, "stays", 0);
    cursor_open(journal, "$own", 0);
    append(journal, 0, 1, 100);
    mr_assert(mr_journal_close(journal) == MR_OK);

    journal = journal_open(3);
    cursor_open(journal, "stays", 0);
    for (int twice = 0; twice < 2; twice++) {
        mr_assert(mr_cursors_follow(journal, NULL) == MR_OK);
        mr_assert(cursors_of(journal, "away").lanes == 7 &&
                  cursors_of(journal, "away").lowest == 0);
        mr_assert(cursors_of(journal, "stays").lanes == 1); /* it sees to itself */
        mr_assert(cursors_of(journal, "$own").lanes == 1);
    }
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal = journal_open(3);
    mr_assert(cursors_of(journal, "away").lanes == 7);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

int main(void)
{
    mr_assert(mr_wake_open(&owner, NULL) == MR_OK);
    test_each_epoch_knows_where_its_lanes_ended();
    test_clients_have_one_home();
    test_a_journal_of_the_first_format_opens();
    test_damaged_epochs_are_refused();
    test_no_seq_is_given_twice();
    test_a_dropped_lane_goes_when_it_is_delivered();
    test_many_epochs();
    test_who_is_away_follows_into_new_lanes();
    mr_wake_close(&owner);
    printf("ok\n");
    return 0;
}
