/* interest.c - see interest.h.
 *
 * A filter matches only topics that begin with its literal levels, those in front of
 * its first wildcard.  So a topic is compared with each of its own beginnings: none of
 * its levels, the first, the first two, ...  More than MR_INTEREST_LEVELS levels are
 * cut off on both sides, which only makes more filters look alike.
 */
#include "broker/interest.h"

#include "codec/topic.h"

static uint16_t bit_of(const struct mr_hash_key *key, const uint8_t *at, size_t len)
{
    return (uint16_t)(mr_siphash(key, at, len) % MR_INTEREST_BITS);
}

uint16_t mr_interest_of_filter(const struct mr_hash_key *key, struct mr_span filter)
{
    struct mr_span rest = filter;
    struct mr_span level;
    size_t len = 0;

    for (int i = 0; i < MR_INTEREST_LEVELS && mr_topic_level_next(&rest, &level); i++) {
        if (level.len == 1 && (level.at[0] == '+' || level.at[0] == '#')) {
            break;
        }
        len = (size_t)(level.at + level.len - filter.at);
    }
    return bit_of(key, filter.at, len);
}

struct mr_interest_bits mr_interest_of_topic(const struct mr_hash_key *key, struct mr_span topic)
{
    struct mr_interest_bits out = {.count = 1};
    struct mr_span rest = topic;
    struct mr_span level;

    out.bits[0] = bit_of(key, topic.at, 0);
    for (int i = 0; i < MR_INTEREST_LEVELS && mr_topic_level_next(&rest, &level); i++) {
        out.bits[out.count++] = bit_of(key, topic.at, (size_t)(level.at + level.len - topic.at));
    }
    return out;
}

static void bit_change(struct mr_interest *interest, uint16_t bit)
{
    atomic_fetch_xor_explicit(&interest->bits[bit / 64], UINT64_C(1) << (bit % 64),
                              memory_order_relaxed);
    atomic_fetch_add_explicit(interest->version, 1, memory_order_release);
}

void mr_interest_add(struct mr_interest *interest, uint16_t bit)
{
    interest->counts[bit] += 1;
    if (interest->counts[bit] == 1) {
        bit_change(interest, bit);
    }
}

void mr_interest_drop(struct mr_interest *interest, uint16_t bit)
{
    mr_assert(interest->counts[bit] != 0);
    interest->counts[bit] -= 1;
    if (interest->counts[bit] == 0) {
        bit_change(interest, bit);
    }
}

bool mr_interest_has(const struct mr_interest *interest, const struct mr_interest_bits *topic)
{
    for (uint32_t i = 0; i < topic->count; i++) {
        uint16_t bit = topic->bits[i];
        uint64_t word = atomic_load_explicit(&interest->bits[bit / 64], memory_order_relaxed);
        if ((word >> (bit % 64) & 1) != 0) {
            return true;
        }
    }
    return false;
}
