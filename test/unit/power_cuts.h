/* power_cuts.h - a trial with the machine stopped in its n-th call to the disk, kind by kind.
 *
 * Thread: the test's.   Memory: none.   Time: some ten trials for each power of two of calls.
 */
#ifndef MR_TEST_POWER_CUTS_H
#define MR_TEST_POWER_CUTS_H

#include "os/sim.h"

/* `cut_at` makes one; false: it made fewer calls of that kind, and nothing was cut.  The first of
 * each kind are all tried, later ones ever more seldom.
 */
static inline void power_cuts(bool (*cut_at)(enum mr_sim_call call, uint64_t nth))
{
    static const enum mr_sim_call calls[] = {MR_SIM_WRITE, MR_SIM_SYNC, MR_SIM_RENAME,
                                             MR_SIM_DIR_SYNC};

    for (size_t i = 0; i < MR_COUNT_OF(calls); i++) {
        uint64_t nth = 1;
        while (cut_at(calls[i], nth)) {
            nth += 1 + nth / 10;
        }
        mr_assert(nth > 5);
    }
}

#endif
