/* rng.h - seeded random numbers for tests, back-off jitter and simulate.
 *
 * xoshiro256**; the same seed gives the same numbers on every machine.  Not
 * for secrets or ids: those come from os/ (mr_os_random).
 *
 * Thread: values; one owner each.   Memory: 32 bytes.   Time: ~1 ns.
 */
#ifndef MR_BASE_RNG_H
#define MR_BASE_RNG_H

#include "base/base.h"

struct mr_rng {
    uint64_t state[4];
};

void mr_rng_seed(struct mr_rng *rng, uint64_t seed);
uint64_t mr_rng_u64(struct mr_rng *rng);

/* Uniform in [0, bound); bound > 0. */
uint64_t mr_rng_below(struct mr_rng *rng, uint64_t bound);

/* Uniform in [0, 1). */
double mr_rng_unit(struct mr_rng *rng);

#endif
