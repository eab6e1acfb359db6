/* lane_commit.h - what was appended to a lane that is committed by hand is durable, and released;
 * events to begin with.
 *
 * Thread: the test's.   Memory: none.   Time: as many commits as it takes.
 */
#ifndef MR_TEST_LANE_COMMIT_H
#define MR_TEST_LANE_COMMIT_H

#include "journal/journal.h"

/* Up to `seq`.  Time goes on by a second each time, so that nothing gathers. */
static inline void lane_commit(struct mr_lane *lane, uint64_t seq)
{
    static int64_t now_ns;

    while (mr_lane_durable(lane) < seq) {
        now_ns += 1000000000;
        (void)mr_lane_submit(lane, now_ns);
        mr_assert(mr_lane_step_commit(lane));
    }
    mr_lane_release(lane, seq);
}

/* `count` events in an empty lane. */
static inline void lane_fill(struct mr_lane *lane, uint64_t count)
{
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT, .client = mr_span_of("c"), .topic = mr_span_of("t")};
    struct mr_appended out;

    for (uint64_t i = 0; i < count; i++) {
        mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK);
    }
    lane_commit(lane, count);
}

#endif
