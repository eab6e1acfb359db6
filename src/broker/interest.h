/* interest.h - might a shard's subscribers want a topic?  Asked by the other shards.
 *
 *     its shard:  subtree add / remove ─▶ counts ─▶ bits, version
 *     others:     mr_interest_of_topic(topic) ─▶ mr_interest_has() for each shard
 *
 * The subscription tree belongs to its shard; what the others see of it is one bit per
 * hash of the literal levels that its filters begin with.  So "no" is certain, and
 * "yes" is a maybe: the shard looks again.
 *
 * Thread: add and drop by the shard, the rest by any.
 * Memory: 20 KiB a shard, with several shards only.
 * Time:   of_topic ~30 ns a level, has ~5 ns.
 */
#ifndef MR_BROKER_INTEREST_H
#define MR_BROKER_INTEREST_H

#include "base/hash.h"
#include "base/span.h"

#include <stdatomic.h>

enum {
    MR_INTEREST_BITS = 4096,
    MR_INTEREST_LEVELS = 8, /* so many levels of a filter are looked at */
};

struct mr_interest {
    struct mr_hash_key key;    /* the same for all shards */
    _Atomic uint32_t *version; /* of all shards together: rises when a bit changes */
    uint32_t counts[MR_INTEREST_BITS];
    _Atomic uint64_t bits[MR_INTEREST_BITS / 64];
};

/* The bit of a filter. */
uint16_t mr_interest_of_filter(const struct mr_hash_key *key, struct mr_span filter);

/* A filter with this bit exists from now on; or one less. */
void mr_interest_add(struct mr_interest *interest, uint16_t bit);
void mr_interest_drop(struct mr_interest *interest, uint16_t bit);

/* All bits that a filter matching `topic` may have. */
struct mr_interest_bits {
    uint16_t bits[MR_INTEREST_LEVELS + 1];
    uint32_t count;
};
struct mr_interest_bits mr_interest_of_topic(const struct mr_hash_key *key, struct mr_span topic);
bool mr_interest_has(const struct mr_interest *interest, const struct mr_interest_bits *topic);

#endif
