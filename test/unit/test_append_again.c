/* test_append_again.c
 * links: journal os_sim base
 *
 * Goal:   an event that is appended the short way is the same as one appended the long way, and the
 *         short way does nothing where it is not one: no batch is open, the name is of another
 *         segment, there is no room, the event is too large, the lane has failed.
 * Method: the simulated disk, stepped by hand; what was appended is read back, from memory and
 *         behind a restart.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/reader.h"
#include "lane_commit.h"
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 64 << 10, RECORD_MAX = 8000, EVENTS = 200 };

static struct mr_journal *journal;
static struct mr_lane *lane;
static struct mr_name_ref name;
static uint8_t payload[2 * RECORD_MAX];

static void take(void)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "again",
                                               .max_bytes = 64 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16384,
                                               .record_bytes_max = RECORD_MAX,
                                               .manual = true};

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    lane = mr_journal_lane(journal, 0);
}

static size_t len_of(uint64_t seq)
{
    return 8 + seq * 37 % 1000;
}

static struct mr_span payload_of(uint64_t seq)
{
    memset(payload, (int)(seq % 251), sizeof(payload));
    return mr_span_make(payload, len_of(seq));
}

static uint64_t again(struct mr_span what)
{
    const struct mr_event_again event = {
        .name = &name, .names_bytes = 2, .received_us = 1000, .qos = 1};

    return mr_lane_append_again(lane, &event, what);
}

static void append(uint64_t seq)
{
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .client = mr_span_of("c"),
                                   .topic = mr_span_of("t"),
                                   .payload = payload_of(seq),
                                   .received_us = 1000,
                                   .qos = 1};
    struct mr_appended out;

    mr_assert(mr_lane_append(lane, &record, &name, &out) == MR_OK && out.seq == seq);
}

static void read_all(void)
{
    struct mr_reader *reader;
    struct mr_view view;
    struct mr_event event;
    uint64_t seq = 1;

    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.seq == seq && event.qos == 1 && event.received_us == 1000);
            mr_assert(mr_span_is(event.client, "c") && mr_span_is(event.topic, "t"));
            mr_assert(mr_span_equal(event.payload, payload_of(seq)));
            seq += 1;
        }
        mr_view_unpin(&view);
    }
    mr_assert(seq == EVENTS + 1);
    mr_reader_close(reader);
}

static void test_the_same(void)
{
    uint64_t long_way = 0;

    mr_sim_start(1);
    take();
    mr_assert(again(payload_of(1)) == 0); /* nothing was named yet, and no batch is open */
    for (uint64_t seq = 1; seq <= EVENTS; seq++) {
        uint64_t got = again(payload_of(seq));
        mr_assert(got == 0 || got == seq);
        if (got == 0) {
            append(seq);
            long_way += 1;
        }
        if (seq % 50 == 0) {
            lane_commit(lane, seq);
            mr_journal_step_keeper(journal);
            mr_assert(again(payload_of(seq)) == 0); /* it was handed over */
        }
    }
    mr_assert(long_way >= 10 && long_way < EVENTS / 2); /* one a batch, a block or a segment */
    read_all();
    mr_assert(mr_journal_close(journal) == MR_OK);
    take();
    read_all();
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

static void test_not_this_way(void)
{
    mr_sim_start(2);
    take();
    append(1);
    mr_assert(again(mr_span_make(payload, RECORD_MAX + 1)) == 0);
    name.generation += 1;
    mr_assert(again(payload_of(2)) == 0);
    name.generation -= 1;
    mr_assert(again(payload_of(2)) == 2 && mr_lane_next_seq(lane) == 3);
    mr_sim_inject(MR_SIM_SYNC, 1, 1, MR_SIM_FAULT_IO);
    (void)mr_lane_submit(lane, 0);
    (void)mr_lane_submit(lane, INT64_C(1000000000));
    mr_assert(mr_lane_step_commit(lane));
    mr_sim_inject_clear();
    mr_assert(mr_lane_state(lane) == MR_LANE_FAILED && mr_lane_durable(lane) == 0);
    mr_assert(again(payload_of(3)) == 0 && mr_lane_next_seq(lane) == 3);
    mr_assert(mr_journal_close(journal) == MR_ERR_IO);
    mr_sim_stop();
}

/* A batch is open when it fails. */
static void test_fails_meanwhile(void)
{
    mr_sim_start(3);
    take();
    append(1);
    (void)mr_lane_submit(lane, 0);
    (void)mr_lane_submit(lane, INT64_C(1000000000));
    append(2);
    mr_sim_inject(MR_SIM_WRITE, 1, 1, MR_SIM_FAULT_IO);
    mr_assert(mr_lane_step_commit(lane));
    mr_sim_inject_clear();
    mr_assert(mr_lane_state(lane) == MR_LANE_FAILED);
    mr_assert(again(payload_of(3)) == 0 && mr_lane_next_seq(lane) == 3);
    mr_assert(mr_journal_close(journal) == MR_ERR_IO);
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_the_same();
    test_not_this_way();
    test_fails_meanwhile();
    return 0;
}
