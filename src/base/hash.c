/* hash.c - see hash.h for what each hash is for. */
#include "base/hash.h"
#include "base/bytes.h"

#include <isa-l/crc.h>

/* ISA-L takes an int as length; one GiB a call keeps far from its end. */
#define CRC_CALL_MAX ((size_t)1 << 30)

uint32_t mr_crc32c(uint32_t crc, const void *at, size_t len)
{
    /* crc32_iscsi is the bare division; the complement before and after is
     * what RFC 3720 adds.  Taking it back off first is what lets calls chain.
     * Its pointer lacks a const but it only reads.
     */
    unsigned char *next = (unsigned char *)(uintptr_t)at;
    uint32_t rest = ~crc;

    while (len > 0) {
        size_t piece = len < CRC_CALL_MAX ? len : CRC_CALL_MAX;
        rest = crc32_iscsi(next, (int)piece, rest);
        next += piece;
        len -= piece;
    }
    return ~rest;
}

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void sip_round(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate_left(s->v1, 13) ^ s->v0;
    s->v3 = rotate_left(s->v3, 16) ^ s->v2;
    s->v0 = rotate_left(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate_left(s->v1, 17) ^ s->v2;
    s->v3 = rotate_left(s->v3, 21) ^ s->v0;
    s->v2 = rotate_left(s->v2, 32);
}

static inline void sip_block(struct sip_state *s, uint64_t block)
{
    s->v3 ^= block;
    sip_round(s); /* the 1 of SipHash-1-3 */
    s->v0 ^= block;
}

uint64_t mr_siphash(const struct mr_hash_key *key, const void *at, size_t len)
{
    const uint8_t *next = at;
    size_t left = len;
    struct sip_state s = {
        .v0 = key->k0 ^ 0x736f6d6570736575u,
        .v1 = key->k1 ^ 0x646f72616e646f6du,
        .v2 = key->k0 ^ 0x6c7967656e657261u,
        .v3 = key->k1 ^ 0x7465646279746573u,
    };

    for (; left >= 8; left -= 8, next += 8) {
        sip_block(&s, mr_get_u64(next));
    }

    uint64_t last = (uint64_t)len << 56; /* the length goes into the top byte */
    for (size_t i = 0; i < left; i++) {
        last |= (uint64_t)next[i] << (8 * i);
    }
    sip_block(&s, last);

    s.v2 ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s); /* the 3 */
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint32_t mr_murmur2(const void *at, size_t len)
{
    const uint32_t factor = 0x5bd1e995u;
    const uint8_t *next = at;
    size_t left = len;
    uint32_t hash = 0x9747b28cu ^ (uint32_t)len;

    for (; left >= 4; left -= 4, next += 4) {
        uint32_t block = mr_get_u32(next) * factor;
        block ^= block >> 24;
        hash = hash * factor ^ block * factor;
    }
    if (left > 0) {
        for (size_t i = 0; i < left; i++) {
            hash ^= (uint32_t)next[i] << (8 * i);
        }
        hash *= factor;
    }
    hash ^= hash >> 13;
    hash *= factor;
    return hash ^ hash >> 15;
}
