/* test_journal_pressure.c
 *
 * Goal:   whoever holds blocks or keeps the disk waiting, the writer gets FULL at
 *         worst, and goes on as soon as the disk does: never because of a reader,
 *         and never with a crash.
 * Method: manual steps on the simulated disk, so that "the disk is slow" is a commit
 *         step that was not taken yet.
 *
 * links: journal os_sim base
 */
#include "base/log.h"
#include "journal/cursor.h"
#include "journal/journal.h"
#include "journal/reader.h"

#include "lane_commit.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16384, LARGE = 30000, SMALL = 100 };

static struct mr_journal *journal;
static struct mr_lane *lane;

static void start(void)
{
    struct mr_journal_options options = {
        .path = "/j",
        .name = "pressure",
        .max_bytes = 4 << 20,
        .segment_bytes = 128 << 10,
        .block_bytes = BLOCK,
        .block_count = 12,
        .record_bytes_max = 40000,
        .manual = true,
    };

    mr_sim_start(3);
    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    lane = mr_journal_lane(journal, 0);
}

static void stop(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

static enum mr_err append(uint64_t seq, size_t len)
{
    static uint8_t payload[LARGE];
    struct mr_appended out = {0};

    memset(payload, (int)seq, len);
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .client = mr_span_of("c"),
        .topic = mr_span_of("t"),
        .payload = mr_span_make(payload, len),
    };
    enum mr_err err = mr_lane_append(lane, &record, NULL, &out);
    mr_assert(err != MR_OK || out.seq == seq);
    return err;
}

static void commit_all(uint64_t seq)
{
    lane_commit(lane, seq);
    mr_journal_step_keeper(journal);
}

static uint64_t check_view(const struct mr_view *view, uint64_t seq)
{
    struct mr_view_at at = mr_view_begin(view);
    struct mr_event event;

    while (mr_view_event(view, &at, &event)) {
        mr_assert(event.seq == seq);
        for (size_t i = 0; i < event.payload.len; i++) {
            mr_assert(event.payload.at[i] == (uint8_t)seq);
        }
        seq += 1;
    }
    return seq;
}

/* A target that is away holds what it was offered, for hours.  Records larger than
 * a block have few places in memory; the writer must not need them back.
 */
static void test_pinned_large_records_do_not_stop_the_writer(void)
{
    enum { COUNT = 40 };
    struct mr_reader *reader;
    struct mr_view views[COUNT];

    start();
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    for (uint64_t seq = 1; seq <= COUNT; seq++) {
        mr_assert(append(seq, LARGE) == MR_OK);
        commit_all(seq);
        mr_assert(mr_reader_next(reader, &views[seq - 1]) == MR_OK);
    }
    for (uint64_t seq = 1; seq <= COUNT; seq++) {
        mr_assert(check_view(&views[seq - 1], seq) == seq + 1);
        mr_view_unpin(&views[seq - 1]);
    }
    mr_reader_close(reader);
    stop();
}

/* While the disk hangs, large records find no room and small ones between them do.
 * Each refusal must leave the lane as it was, however many there are.
 */
static void test_refusals_while_the_disk_hangs(void)
{
    struct mr_reader *reader;
    uint64_t seq = 1;
    uint64_t next = 1;

    start();
    while (append(seq, LARGE) == MR_OK) {
        seq += 1;
    }
    for (int i = 0; i < 500; i++) {
        if (append(seq, SMALL) == MR_OK) {
            seq += 1;
        }
        mr_assert(append(seq, LARGE) == MR_ERR_FULL);
    }
    mr_assert(mr_lane_state(lane) == MR_LANE_BEHIND);
    commit_all(seq - 1);
    mr_assert(append(seq, LARGE) == MR_OK);
    mr_assert(mr_lane_state(lane) == MR_LANE_OPEN);
    commit_all(seq);

    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while (next <= seq) {
        struct mr_view view;
        mr_assert(mr_reader_next(reader, &view) == MR_OK);
        next = check_view(&view, next);
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    stop();
}

/* Append until the journal is full. */
static uint64_t fill(uint64_t seq)
{
    enum mr_err err = MR_OK;

    while ((err = append(seq, SMALL)) == MR_OK || mr_lane_state(lane) != MR_LANE_FULL) {
        seq += err == MR_OK;
        if (err != MR_OK || seq % 50 == 0) {
            commit_all(seq - 1);
        }
    }
    commit_all(seq - 1);
    return seq;
}

/* A full journal says whose cursor holds it, and when that bridge is gone; and it
 * is not called full any more as soon as there is room.
 */
static void test_full_names_who_holds_it(void)
{
    struct mr_cursor *fast;
    struct mr_cursor *slow;
    struct mr_error why;
    bool is_new;

    start();
    mr_assert(mr_cursor_open(journal, "history", 0, MR_START_OLDEST, &fast, &is_new, NULL) ==
              MR_OK);
    mr_assert(mr_cursor_open(journal, "kafka", 0, MR_START_OLDEST, &slow, &is_new, NULL) == MR_OK);
    uint64_t seq = fill(1);
    mr_cursor_set(fast, seq - 1);
    mr_journal_step_keeper(journal);
    mr_assert(mr_lane_state(lane) == MR_LANE_FULL);
    mr_assert(strstr(mr_lane_state_text(lane), "kafka") != NULL);
    mr_assert(strstr(mr_lane_state_text(lane), "history") == NULL);
    mr_assert(strstr(mr_lane_state_text(lane), "no such bridge") == NULL);
    mr_assert(mr_journal_close(journal) == MR_OK);

    struct mr_journal_options options = {
        .path = "/j", .name = "pressure", .record_bytes_max = 40000, .manual = true};
    mr_assert(mr_journal_open(&journal, &options, NULL, &why) == MR_OK);
    lane = mr_journal_lane(journal, 0);
    mr_assert(mr_cursor_open(journal, "history", 0, MR_START_OLDEST, &fast, &is_new, NULL) ==
              MR_OK);
    seq = fill(seq);
    mr_journal_step_keeper(journal);
    mr_assert(strstr(mr_lane_state_text(lane), "kafka") != NULL);
    mr_assert(strstr(mr_lane_state_text(lane), "no such bridge") != NULL);
    mr_assert(strstr(mr_lane_state_text(lane), "millrace journal forget kafka --data /j") != NULL);

    mr_assert(mr_cursor_forget(journal, "kafka") == MR_OK);
    mr_cursor_set(fast, seq - 1);
    mr_journal_step_keeper(journal);
    mr_assert(mr_lane_state(lane) == MR_LANE_OPEN);
    mr_assert(append(seq, SMALL) == MR_OK);
    commit_all(seq);
    stop();
}

/* What a batch of five records is told to wait when the last ones had ten. */
static int64_t wait_when_busy(uint32_t commit_delay_us_max)
{
    struct mr_journal_options options = {.path = "/j",
                                         .name = "pressure",
                                         .max_bytes = 4 << 20,
                                         .segment_bytes = 128 << 10,
                                         .record_bytes_max = 40000,
                                         .commit_delay_us_max = commit_delay_us_max,
                                         .manual = true};
    int64_t now_ns = 1000000000;
    int64_t wait_ns = -1;
    uint64_t seq = 1;

    mr_sim_start(4);
    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    lane = mr_journal_lane(journal, 0);
    for (int commit = 0; commit < 100; commit++) {
        for (int i = 0; i < (commit == 99 ? 5 : 10); i++) {
            mr_assert(append(seq++, SMALL) == MR_OK);
        }
        now_ns += 1000;
        wait_ns = mr_lane_submit(lane, now_ns);
        mr_assert(mr_lane_step_commit(lane) == (wait_ns < 0));
        if (wait_ns >= 0) {
            now_ns += wait_ns;
            mr_assert(mr_lane_submit(lane, now_ns) == -1 && mr_lane_step_commit(lane));
        }
        mr_lane_release(lane, seq - 1);
    }
    mr_assert(mr_lane_durable(lane) == seq - 1);
    stop();
    return wait_ns;
}

/* A busy lane gathers, unless it was told not to. */
static void test_gathering_can_be_switched_off(void)
{
    mr_assert(wait_when_busy(0) > 0);
    mr_assert(wait_when_busy(20) > 0 && wait_when_busy(20) <= 20000);
    mr_assert(wait_when_busy(MR_COMMIT_AT_ONCE) == -1);
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
    test_pinned_large_records_do_not_stop_the_writer();
    test_refusals_while_the_disk_hangs();
    test_full_names_who_holds_it();
    test_gathering_can_be_switched_off();
    return 0;
}
