/* test_commit_thread.c
 * links: journal os_sim base
 *
 * Goal:   a commit that finds no room is tried again by itself until there is some, and nothing is
 *         called durable meanwhile; a stop does not wait for room, and says that the last commit
 *         did not succeed; after a failure the thread is gone, and the stop says so too.
 * Method: the journal with its threads in the simulated world, whose disk refuses writes.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/reader.h"
#include "os/clock.h"
#include "os/sim.h"
#include "os/thread.h"

#include <stdlib.h>
#include <string.h>

static const int64_t second_ns = 1000000000;

static struct mr_journal *journal;
static struct mr_lane *lane;
static struct mr_wake owner;
static bool ended;

static void take(bool manual)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "thread",
                                               .max_bytes = 1 << 20,
                                               .segment_bytes = 64 << 10,
                                               .block_bytes = 16384,
                                               .record_bytes_max = 8000,
                                               .commit_delay_us_max = MR_COMMIT_AT_ONCE,
                                               .manual = manual};

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    lane = mr_journal_lane(journal, 0);
}

static uint64_t append(void)
{
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT, .client = mr_span_of("c"), .topic = mr_span_of("t")};
    struct mr_appended out;

    mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK);
    (void)mr_lane_submit(lane, mr_clock_mono_ns());
    return out.seq;
}

static void wait_for(enum mr_lane_state state)
{
    while (mr_lane_state(lane) != state) {
        (void)mr_wake_wait(&owner, second_ns);
    }
}

static void wait_durable(uint64_t seq)
{
    while (mr_lane_durable(lane) < seq) {
        (void)mr_wake_wait(&owner, second_ns);
    }
    mr_lane_release(lane, seq);
}

static void live(void *arg)
{
    enum mr_sim_fault fault = *(const enum mr_sim_fault *)arg;

    mr_assert(mr_wake_open(&owner, NULL) == MR_OK);
    take(false);
    mr_lane_set_owner(lane, &owner);
    wait_durable(append());
    mr_sim_inject(MR_SIM_WRITE, 1, 0, MR_SIM_FAULT_FULL);
    uint64_t seq = append();
    wait_for(MR_LANE_FULL);
    uint64_t calls = mr_sim_calls(MR_SIM_WRITE);
    (void)mr_wake_wait(&owner, 10 * second_ns);
    mr_assert(mr_sim_calls(MR_SIM_WRITE) >= calls + 10 && mr_lane_durable(lane) + 1 == seq);
    mr_sim_inject_clear();
    wait_durable(seq);
    mr_assert(mr_lane_state(lane) == MR_LANE_OPEN);
    mr_sim_inject(MR_SIM_WRITE, 1, 0, fault);
    seq = append();
    wait_for(fault == MR_SIM_FAULT_FULL ? MR_LANE_FULL : MR_LANE_FAILED);
    mr_assert(mr_lane_durable(lane) + 1 == seq);
    mr_lane_set_owner(lane, NULL);
    mr_assert(mr_journal_close(journal) == MR_ERR_IO);
    mr_wake_close(&owner);
    ended = true;
}

static void test_no_room(enum mr_sim_fault fault)
{
    struct mr_thread *thread = NULL;

    mr_sim_start((uint64_t)fault + 1);
    ended = false;
    mr_assert(mr_thread_start(&thread, "gateway", live, &fault, NULL) == MR_OK);
    while (!ended) {
        if (mr_sim_turn() == MR_SIM_IDLE) {
            mr_sim_advance(mr_sim_next_ns() - mr_clock_mono_ns());
        }
    }
    mr_sim_inject_clear();
    mr_sim_crash();
    take(true);
    /* What was refused may be there, or not. */
    mr_assert(mr_lane_durable(lane) == 2 || mr_lane_durable(lane) == 3);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_no_room(MR_SIM_FAULT_FULL);
    test_no_room(MR_SIM_FAULT_IO);
    return 0;
}
