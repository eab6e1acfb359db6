/* test_pipeline_start.c
 * links: pipeline journal codec config os_sim base
 *
 * Goal:   `start: TIME` is never taken to be somewhere else because a part of the journal cannot be
 *         read just now: the bridge begins at that time, or is not made, with the reason.
 * Method: a journal on a simulated disk that was opened again, so that its events are read from
 *         there; one read after the other fails while the place is looked for.
 */
#include "base/log.h"
#include "lane_commit.h"
#include "os/sim.h"
#include "pipeline_kit.h"

#include <string.h>

enum { SEGMENT = 64 << 10, ALL = 600, BEHIND = 399, READS_MAX = 1000 };

static const struct scripted_conf conf = {.topic = "t_${topic[2]}", .key = "${clientid}"};

static struct mr_bridge_conf conf_here;
static struct mr_journal *journal;

static void journal_take(void)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "test",
                                               .lane_count = 1,
                                               .max_bytes = 16 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16 << 10,
                                               .record_bytes_max = 8 << 10,
                                               .keep_us = (uint64_t)3600 * 1000000,
                                               .manual = true};

    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
}

static void append(void)
{
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct event_memory memory;
    struct mr_appended out;

    for (uint64_t seq = 1; seq <= ALL; seq++) {
        struct mr_record_raw record = event_of(seq, &memory);
        while (mr_lane_append(lane, &record, NULL, &out) == MR_ERR_FULL) {
            lane_commit(lane, seq - 1);
            mr_journal_step_keeper(journal);
        }
    }
    lane_commit(lane, ALL);
}

/* Made: then it begins where it shall. */
static enum mr_err make(struct mr_error *why)
{
    struct mr_bridge_options_run options = run_options(journal, &conf);
    struct mr_bridge *bridge = NULL;
    struct mr_bridge_stats stats;
    enum mr_err err = mr_bridge_create(&bridge, &options, why);

    if (err == MR_OK) {
        mr_bridge_stats(bridge, &stats);
        mr_assert(stats.cursor_seq == BEHIND);
        mr_bridge_destroy(bridge);
    }
    return err;
}

/* How many reads it took; the `nth` has failed. */
static uint64_t begin_at_a_time(uint64_t nth)
{
    struct mr_error why = {.text = ""};

    mr_sim_start(1);
    journal_take();
    append();
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal_take();
    uint64_t reads = mr_sim_calls(MR_SIM_READ);
    mr_sim_inject(MR_SIM_READ, nth, 1, MR_SIM_FAULT_IO);
    enum mr_err err = make(&why);
    reads = mr_sim_calls(MR_SIM_READ) - reads;
    mr_assert(err == MR_OK || (err == MR_ERR_IO && strstr(why.text, "cannot be read") != NULL));
    mr_sim_inject_clear();
    mr_assert(make(&why) == MR_OK);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
    return err == MR_OK ? reads : UINT64_MAX;
}

int main(void)
{
    uint64_t nth = 1;

    mr_log_set_level(MR_LOG_ERROR);
    conf_here = bridge_conf;
    conf_here.start = "2023-11-14T22:13:20.400Z";
    conf_now = &conf_here;
    while (begin_at_a_time(nth) >= nth) {
        nth += 1;
        mr_assert(nth < READS_MAX);
    }
    mr_assert(nth > 1);
    return 0;
}
