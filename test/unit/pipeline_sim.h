/* pipeline_sim.h - one lane of a journal on the simulated disk, for tests of bridges.
 *
 * Thread: the test's.   Memory: static.   Time: stepped by hand.
 */
#ifndef MR_TEST_PIPELINE_SIM_H
#define MR_TEST_PIPELINE_SIM_H

#include "lane_commit.h"
#include "os/sim.h"
#include "pipeline_kit.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEGMENT = 64 << 10 };

static struct mr_journal *journal;
static struct mr_lane *lane;

static void journal_take(void)
{
    struct mr_error why = {.text = ""};
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "test",
                                               .lane_count = 1,
                                               .max_bytes = 16 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16 << 10,
                                               .record_bytes_max = 8 << 10,
                                               .keep_us = (uint64_t)3600 * 1000000,
                                               .keep_ranges = true,
                                               .manual = true};

    if (mr_journal_open(&journal, &options, NULL, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    lane = mr_journal_lane(journal, 0);
}

/* The events of these numbers, durable. */
static void append(uint64_t from, uint64_t to)
{
    struct event_memory memory;
    struct mr_appended out;

    for (uint64_t seq = from; seq <= to; seq++) {
        struct mr_record_raw record = event_of(seq, &memory);
        while (mr_lane_append(lane, &record, NULL, &out) == MR_ERR_FULL) {
            lane_commit(lane, seq - 1);
            mr_journal_step_keeper(journal);
        }
        mr_assert(out.seq == seq);
    }
    lane_commit(lane, to);
}

#endif
