/* fleet.h - many runs, in several processes.
 *
 * Thread: one.   Memory: what the processes tell is shared.   Time: as long as the runs take.
 */
#ifndef MR_TEST_SIM_FLEET_H
#define MR_TEST_SIM_FLEET_H

#include "world.h"

enum { FLEET_JOBS_MAX = 64 };

struct fleet_options {
    uint64_t *seeds; /* NULL: from `from` on */
    uint32_t *worlds;
    uint32_t world;
    uint64_t from;
    uint64_t count;
    uint32_t steps; /* 0: as many as usual */
    uint32_t jobs;
    enum plant plant;
    bool trace;
    bool twice;
    bool expect_find;
    bool quiet;
};

/* Runs all, says which have failed and what happened in sum.  Returns the exit code. */
int fleet_run(const struct fleet_options *with);

#endif
