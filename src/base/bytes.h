/* bytes.h - fixed-width and variable-width integers in byte buffers.
 *
 * Disk format: little-endian, LEB128 varints.  MQTT: big-endian.  All readers
 * take a `struct mr_take` that turns "past the end" into a sticky
 * flag, so a decoder checks once at its end instead of at every field.
 *
 * Thread: values; no state.   Memory: none.   Time: none.
 */
#ifndef MR_BASE_BYTES_H
#define MR_BASE_BYTES_H

#include "base/span.h"

static inline void mr_put_u16(uint8_t *at, uint16_t v)
{
    memcpy(at, &v, sizeof(v));
}
static inline void mr_put_u32(uint8_t *at, uint32_t v)
{
    memcpy(at, &v, sizeof(v));
}
static inline void mr_put_u64(uint8_t *at, uint64_t v)
{
    memcpy(at, &v, sizeof(v));
}

static inline uint16_t mr_get_u16(const uint8_t *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

static inline uint32_t mr_get_u32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

static inline uint64_t mr_get_u64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the disk format is little-endian and written with memcpy");

/* Put `count` bytes behind the *len that `into` has, of `size`; false: they do not fit, none was.
 */
static inline bool mr_append(void *into, size_t size, size_t *len, const void *at, size_t count)
{
    if (count > size - *len) {
        return false;
    }
    memcpy((uint8_t *)into + *len, at, count);
    *len += count;
    return true;
}

/* Are these `len` bytes the same?  For names of a few dozen, where a call costs more than they do.
 */
static inline bool mr_bytes_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    uint64_t differ = 0;

    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            differ |= mr_get_u64(a + i) ^ mr_get_u64(b + i);
        }
        return (differ | (mr_get_u64(a + len - 8) ^ mr_get_u64(b + len - 8))) == 0;
    }
    for (size_t i = 0; i < len; i++) {
        differ |= a[i] ^ b[i];
    }
    return differ == 0;
}

static inline void mr_put_be16(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)(v >> 8);
    at[1] = (uint8_t)v;
}

static inline void mr_put_be32(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)(v >> 24);
    at[1] = (uint8_t)(v >> 16);
    at[2] = (uint8_t)(v >> 8);
    at[3] = (uint8_t)v;
}

static inline uint16_t mr_get_be16(const uint8_t *at)
{
    return (uint16_t)((unsigned)at[0] << 8 | at[1]);
}

static inline uint32_t mr_get_be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

enum { MR_VARINT_MAX = 10 }; /* bytes of the longest LEB128 form of a u64 */

/* Bytes that mr_put_varint() will write for `v`. */
static inline size_t mr_varint_size(uint64_t v)
{
    return (size_t)(63 - __builtin_clzll(v | 1)) / 7 + 1;
}

/* Write `v` as LEB128; returns the byte after it.  Needs mr_varint_size(v). */
static inline uint8_t *mr_put_varint(uint8_t *at, uint64_t v)
{
    while (v >= 0x80) {
        *at++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *at++ = (uint8_t)v;
    return at;
}

/* Signed numbers near zero become small unsigned ones. */
static inline uint64_t mr_zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}
static inline int64_t mr_unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* A reading position.  After any read past the end `failed` stays true, reads
 * give 0 or an empty span, and `at` stays inside the buffer.
 */
struct mr_take {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct mr_take mr_take_from(struct mr_span span)
{
    return (struct mr_take){.at = span.at, .end = span.at + span.len, .failed = false};
}

static inline size_t mr_take_left(const struct mr_take *take)
{
    return (size_t)(take->end - take->at);
}

static inline struct mr_span mr_take_bytes(struct mr_take *take, size_t len)
{
    struct mr_span span = {.at = take->at, .len = len};

    if (MR_UNLIKELY(len > mr_take_left(take))) {
        take->failed = true;
        take->at = take->end;
        return (struct mr_span){.at = take->end, .len = 0};
    }
    take->at += len;
    return span;
}

static inline uint8_t mr_take_u8(struct mr_take *take)
{
    if (MR_UNLIKELY(take->at == take->end)) {
        take->failed = true;
        return 0;
    }
    return *take->at++;
}

static inline uint64_t mr_take_varint(struct mr_take *take)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = mr_take_u8(take);
        if (shift == 63 && byte > 1) {
            break;
        }
        v |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return take->failed ? 0 : v;
        }
    }
    take->failed = true;
    return 0;
}

#endif
