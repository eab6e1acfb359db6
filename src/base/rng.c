/* rng.c - xoshiro256** (Blackman and Vigna), seeded by splitmix64. */
#include "base/rng.h"

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

void mr_rng_seed(struct mr_rng *rng, uint64_t seed)
{
    /* splitmix64 spreads near seeds (1, 2, 3 …) far apart and never yields
     * the all-zero state, from which xoshiro could not leave.
     */
    for (size_t i = 0; i < MR_COUNT_OF(rng->state); i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        rng->state[i] = z ^ z >> 31;
    }
}

uint64_t mr_rng_u64(struct mr_rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t mr_rng_below(struct mr_rng *rng, uint64_t bound)
{
    mr_assert(bound > 0);

    /* The lowest 2^64 mod bound values would make small results a little more
     * likely than large ones; they are thrown away.
     */
    uint64_t skip = -bound % bound;
    uint64_t drawn = mr_rng_u64(rng);

    while (drawn < skip) {
        drawn = mr_rng_u64(rng);
    }
    return drawn % bound;
}

double mr_rng_unit(struct mr_rng *rng)
{
    return (double)(mr_rng_u64(rng) >> 11) * 0x1.0p-53; /* 53 bits fit a double exactly */
}
