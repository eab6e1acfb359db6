/* lane_commit.h - what was appended to a lane that is committed by hand is durable, and released.
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

#endif
