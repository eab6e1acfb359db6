/* mqtt_internal.h - what the packet files of the codec share.
 *
 * Thread: pure functions, no state.   Memory: none.   Time: none.
 */
#ifndef MR_CODEC_MQTT_INTERNAL_H
#define MR_CODEC_MQTT_INTERNAL_H

#include "base/bytes.h"
#include "base/text.h"
#include "codec/mqtt.h"

static inline enum mr_err mqtt_refuse(struct mr_mqtt_why *why, enum mr_err err, uint8_t reason,
                                      const char *what)
{
    why->reason = reason;
    why->what = what;
    return err;
}

/* "Cannot be parsed according to this specification" (1.2). */
static inline enum mr_err mqtt_malformed(struct mr_mqtt_why *why, const char *what)
{
    return mqtt_refuse(why, MR_ERR_CORRUPT, MR_MQTT_MALFORMED, what);
}

/* "Detected after the packet has been parsed" (1.2). */
static inline enum mr_err mqtt_protocol_error(struct mr_mqtt_why *why, const char *what)
{
    return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_PROTOCOL_ERROR, what);
}

/* What every decoder checks first. */
enum mr_err mqtt_begin(const struct mr_mqtt_frame *frame, uint8_t version,
                       struct mr_mqtt_why *why) MR_MUST_USE;

/* Readings.  After a failure `take->failed` is set and the value is 0 or empty. */
static inline uint16_t mqtt_take_u16(struct mr_take *take)
{
    struct mr_span span = mr_take_bytes(take, 2);
    return span.len == 2 ? mr_get_be16(span.at) : 0;
}

static inline uint32_t mqtt_take_u32(struct mr_take *take)
{
    struct mr_span span = mr_take_bytes(take, 4);
    return span.len == 4 ? mr_get_be32(span.at) : 0;
}

/* Binary data, or a string whose UTF-8 the caller checks (1.5.4, 1.5.6). */
static inline struct mr_span mqtt_take_binary(struct mr_take *take)
{
    return mr_take_bytes(take, mqtt_take_u16(take));
}

/* A variable byte integer: at most four bytes, none too many [MQTT-1.5.5-1]. */
uint32_t mqtt_take_varint(struct mr_take *take);

static inline struct mr_span mqtt_take_rest(struct mr_take *take)
{
    return mr_take_bytes(take, mr_take_left(take));
}

/* Length and properties of a packet; in 3.x there are none.  *raw (may be NULL)
 * is the section without its length.
 */
enum mr_err mqtt_take_props(struct mr_take *take, enum mr_mqtt_type packet,
                            struct mr_mqtt_mode mode, struct mr_mqtt_props *out,
                            struct mr_span *raw, struct mr_mqtt_why *why) MR_MUST_USE;

/* Where an encoder writes.  With at == NULL it only counts, so one function
 * gives both the size and the bytes, and the two cannot disagree.
 */
struct mqtt_put {
    uint8_t *at;
    size_t len;
    bool failed; /* something cannot be expressed */
};

static inline void mqtt_put_u8(struct mqtt_put *put, uint8_t v)
{
    if (put->at != NULL) {
        put->at[put->len] = v;
    }
    put->len += 1;
}

static inline void mqtt_put_u16(struct mqtt_put *put, uint16_t v)
{
    if (put->at != NULL) {
        mr_put_be16(put->at + put->len, v);
    }
    put->len += 2;
}

static inline void mqtt_put_u32(struct mqtt_put *put, uint32_t v)
{
    if (put->at != NULL) {
        mr_put_be32(put->at + put->len, v);
    }
    put->len += 4;
}

static inline void mqtt_put_bytes(struct mqtt_put *put, struct mr_span span)
{
    if (put->at != NULL && span.len != 0) {
        memcpy(put->at + put->len, span.at, span.len);
    }
    put->len += span.len;
}

/* Two bytes of length, then the bytes. */
static inline void mqtt_put_binary(struct mqtt_put *put, struct mr_span span)
{
    put->failed |= span.len > UINT16_MAX;
    mqtt_put_u16(put, (uint16_t)span.len);
    mqtt_put_bytes(put, span);
}

void mqtt_put_varint(struct mqtt_put *put, uint32_t v);

/* Properties with their length in front. */
void mqtt_put_props(struct mqtt_put *put, const struct mr_mqtt_props *props,
                    enum mr_mqtt_type packet);

/* Writes everything behind the fixed header of one kind of packet. */
typedef void mqtt_body_fn(struct mqtt_put *put, const void *packet, uint8_t version);

/* Bytes of the packet whose body `body` writes, and the packet itself. */
size_t mqtt_packet_size(mqtt_body_fn *body, const void *packet, uint8_t version);
ptrdiff_t mqtt_packet_encode(uint8_t first_byte, mqtt_body_fn *body, const void *packet,
                             uint8_t version, uint8_t *out, size_t out_size) MR_MUST_USE;

/* Result of an encoder that has counted with `count` and may then write:
 * 0 = go on, otherwise the error to return.
 */
static inline ptrdiff_t mqtt_put_check(const struct mqtt_put *count, size_t out_size)
{
    if (count->failed || count->len > MR_MQTT_PACKET_MAX) {
        return MR_ERR_REJECT;
    }
    return count->len > out_size ? MR_ERR_FULL : 0;
}

/* A set of reason codes: all of them lie in 0x00 to 0x1f or 0x80 to 0xbf. */
struct mqtt_reasons {
    uint32_t low;
    uint64_t high;
};
#define MQTT_HIGH(code) ((uint64_t)1 << ((code) - 0x80))

static inline bool mqtt_reason_in(struct mqtt_reasons set, uint8_t reason)
{
    if (reason < 0x20) {
        return (set.low >> reason & 1) != 0;
    }
    return reason >= 0x80 && reason < 0xc0 && (set.high >> (reason - 0x80) & 1) != 0;
}

#endif
