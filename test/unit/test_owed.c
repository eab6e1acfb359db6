/* test_owed.c
 * links: journal os_sim base
 *
 * Goal:   what was in a lane when it was opened counts as owed to whoever holds it, until it is
 *         read: publishers wait in time, the records of sessions go on, and reading lets everybody
 *         go on.
 * Method: the simulated disk, stepped by hand; a reader that holds a lane which is half full when
 *         it is opened.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/control.h"
#include "journal/reader.h"
#include "lane_commit.h"
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 64 << 10, PAYLOAD = 4000, OLD = 30 };

static struct mr_journal *journal;
static struct mr_lane *lane;

static void take(void)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "owed",
                                               .max_bytes = 16 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16384,
                                               .record_bytes_max = 8000,
                                               .manual = true};

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    lane = mr_journal_lane(journal, 0);
}

static void give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static enum mr_err append(void)
{
    static uint8_t payload[PAYLOAD];
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .client = mr_span_of("c"),
                                   .topic = mr_span_of("t"),
                                   .payload = mr_span_make(payload, PAYLOAD)};
    struct mr_appended out;
    enum mr_err err = mr_lane_append(lane, &record, NULL, &out);

    lane_commit(lane, mr_lane_next_seq(lane) - 1);
    mr_journal_step_keeper(journal);
    return err;
}

static enum mr_err append_of_session(void)
{
    uint8_t bytes[64];
    const struct mr_control end = {.kind = MR_CONTROL_END, .client = mr_span_of("c")};
    struct mr_record_raw record = {
        .type = MR_RECORD_SESSION,
        .body = mr_span_make(bytes, (size_t)(mr_control_put(bytes, &end) - bytes))};
    struct mr_appended out;
    enum mr_err err = mr_lane_append(lane, &record, NULL, &out);

    lane_commit(lane, mr_lane_next_seq(lane) - 1);
    return err;
}

/* So many until publishers wait. */
static uint64_t until_they_wait(void)
{
    uint64_t count = 0;

    while (append() == MR_OK) {
        count += 1;
        mr_assert(count < 200);
    }
    mr_assert(mr_lane_state(lane) == MR_LANE_BEHIND);
    mr_assert(strstr(mr_lane_state_text(lane), "until sessions have what they are owed") != NULL);
    mr_assert(append_of_session() == MR_OK);
    return count;
}

/* An eighth of the lane is 32 records, and two segments of old ones are nearly that. */
static void test_from(uint64_t first, uint64_t least, uint64_t most)
{
    const struct mr_reader_options holds = {.holds = true};
    struct mr_reader *reader;

    mr_sim_start(first);
    take();
    for (int i = 0; i < OLD; i++) {
        mr_assert(append() == MR_OK);
    }
    give();
    take();
    mr_assert(mr_reader_open(&reader, journal, 0, first, &holds, NULL) == MR_OK);
    uint64_t before = until_they_wait();
    mr_assert(before >= least && before <= most);
    mr_reader_done(reader, OLD);
    if (first <= OLD) {
        mr_assert(until_they_wait() > 10);
    }
    mr_reader_done(reader, mr_lane_next_seq(lane) - 1);
    mr_assert(append() == MR_OK && mr_lane_state(lane) == MR_LANE_OPEN);
    (void)until_they_wait();
    mr_reader_close(reader);
    mr_assert(append() == MR_OK); /* nobody holds it any more */
    give();
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_from(1, 0, 3);
    test_from(OLD + 1, 25, 35);
    test_from(OLD / 2 + 3, 8, 25);
    return 0;
}
