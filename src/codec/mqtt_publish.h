/* mqtt_publish.h - PUBLISH (section 3.3) and the bare PUBACK: the hot path.
 *
 * The inline decoder handles the packet that makes up the load of a gateway:
 * ASCII topic, no properties, nothing wrong.  Everything else goes to
 * mr_mqtt_publish_decode_full(), which alone names reasons.  A test checks that
 * the two never disagree.
 *
 * Thread: pure functions, no state.   Memory: none; spans borrow the packet.
 * Time:   none.
 */
#ifndef MR_CODEC_MQTT_PUBLISH_H
#define MR_CODEC_MQTT_PUBLISH_H

#include "base/bytes.h"
#include "codec/mqtt_props.h"

struct mr_mqtt_publish {
    struct mr_span topic;     /* valid topic name; empty only with a topic alias */
    struct mr_span payload;   /* any bytes, perhaps none */
    struct mr_span props_raw; /* property section without its length; empty in 3.x */
    uint16_t packet_id;       /* 0 with QoS 0, never 0 otherwise */
    uint8_t qos;              /* 0, 1, 2 */
    bool dup;
    bool retain;
    bool props_verbatim;        /* encoder only: write props_raw as it is, ignore props */
    struct mr_mqtt_props props; /* the same, decoded; .present == 0 if there are none */
};

/* As mr_mqtt_publish_decode(), for every packet.
 *
 * MR_ERR_CORRUPT  0x81: QoS 3 [MQTT-3.3.1-4], cut short, topic not UTF-8 or with
 *                 U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2], length not shortest.
 * MR_ERR_REJECT   0x82: DUP with QoS 0 [MQTT-3.3.1-2], packet id 0
 *                 [MQTT-2.2.1-3], no topic and no alias, subscription id from
 *                 a client [MQTT-3.3.4-6]; 0x90: wildcard in the topic
 *                 [MQTT-3.3.2-2]; and what mr_mqtt_props_decode() refuses.
 *
 * Not judged here, because they need the session: alias above the announced
 * maximum (0x94) or unknown (0x82), QoS and retain not offered (0x9B, 0x9A), Receive
 * Maximum (0x93).
 */
enum mr_err mr_mqtt_publish_decode_full(const struct mr_mqtt_frame *frame, struct mr_mqtt_mode mode,
                                        struct mr_mqtt_publish *out,
                                        struct mr_mqtt_why *why) MR_MUST_USE;

/* Which of the eight bytes have their top bit set, or are 0, '+' or '#'?
 * Zero if none.  x - 0x01 borrows into the top bit where a byte of x is 0; x has
 * been turned into 0 where it equals the wanted byte.
 */
static inline uint64_t mr_mqtt_odd_bytes(const uint8_t *at)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t x = mr_get_u64(at);
    uint64_t plus = x ^ ones * '+';
    uint64_t hash = x ^ ones * '#';

    return (x | ((x - ones) & ~x) | ((plus - ones) & ~plus) | ((hash - ones) & ~hash)) &
           ones * 0x80;
}

/* Is it a topic name of ASCII characters only?  False also means "look closer".
 */
static inline bool mr_mqtt_topic_is_plain(const uint8_t *at, size_t len)
{
    uint64_t odd = 0;

    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8) {
            odd |= mr_mqtt_odd_bytes(at + i);
        }
        return (odd | mr_mqtt_odd_bytes(at + len - 8)) == 0;
    }
    for (size_t i = 0; i < len; i++) {
        odd |= at[i] >= 0x80 || at[i] == 0 || at[i] == '+' || at[i] == '#';
    }
    return len != 0 && odd == 0;
}

/* Decode a PUBLISH that mr_mqtt_frame() has cut.  Errors as above. */
MR_MUST_USE static inline enum mr_err mr_mqtt_publish_decode(const struct mr_mqtt_frame *frame,
                                                             struct mr_mqtt_mode mode,
                                                             struct mr_mqtt_publish *out,
                                                             struct mr_mqtt_why *why)
{
    const uint8_t *at = frame->body.at;
    const size_t len = frame->body.len;
    const unsigned qos = frame->flags >> 1 & 3;
    const bool dup = frame->flags >> 3;
    const bool is_v5 = mode.version == MR_MQTT_5;
    const size_t id_bytes = qos != 0 ? 2 : 0;

    if (MR_UNLIKELY(len < 2 || qos == 3 || (dup && qos == 0) || frame->padded)) {
        return mr_mqtt_publish_decode_full(frame, mode, out, why);
    }
    const size_t topic_len = mr_get_be16(at);
    const size_t head = 2 + topic_len + id_bytes + is_v5;
    if (MR_UNLIKELY(head > len || (is_v5 && at[head - 1] != 0))) {
        return mr_mqtt_publish_decode_full(frame, mode, out, why);
    }
    const uint16_t packet_id = qos != 0 ? mr_get_be16(at + 2 + topic_len) : 0;
    if (MR_UNLIKELY((qos != 0 && packet_id == 0) || !mr_mqtt_topic_is_plain(at + 2, topic_len))) {
        return mr_mqtt_publish_decode_full(frame, mode, out, why);
    }
    out->topic = (struct mr_span){.at = at + 2, .len = topic_len};
    out->payload = (struct mr_span){.at = at + head, .len = len - head};
    out->props_raw = (struct mr_span){.at = at + head, .len = 0};
    out->packet_id = packet_id;
    out->qos = (uint8_t)qos;
    out->dup = dup;
    out->retain = frame->flags & 1;
    out->props_verbatim = false;
    out->props.present = 0;
    return MR_OK;
}

/* Does the payload keep what its payload format indicator claims?  False: the
 * receiver may answer 0x99 (section 3.3.2.3.2).  Reads the whole payload.
 */
bool mr_mqtt_payload_format_holds(const struct mr_mqtt_props *props, struct mr_span payload);

/* Bytes of the whole packet, and of all of it but the payload. */
size_t mr_mqtt_publish_size(const struct mr_mqtt_publish *packet, uint8_t version);
size_t mr_mqtt_publish_head_size(const struct mr_mqtt_publish *packet, uint8_t version);

/* Write the packet, or only what precedes the payload (which the caller sends
 * from where it lies).  In 3.x properties are left out.
 * Returns bytes written, or MR_ERR_FULL: `out` is too small and holds nothing of use;
 * MR_ERR_REJECT: longer than the protocol can express.
 */
ptrdiff_t mr_mqtt_publish_encode(const struct mr_mqtt_publish *packet, uint8_t version,
                                 uint8_t *out, size_t out_size) MR_MUST_USE;
ptrdiff_t mr_mqtt_publish_head_encode(const struct mr_mqtt_publish *packet, uint8_t version,
                                      uint8_t *out, size_t out_size) MR_MUST_USE;

enum { MR_MQTT_ACK_BYTES = 4 };

/* A PUBACK, PUBREC, PUBREL or PUBCOMP of success, valid in every version
 * (5.0 leaves reason 0 and empty properties away).  Returns the byte after it.
 */
static inline uint8_t *mr_mqtt_ack_put(uint8_t *at, uint8_t type, uint16_t packet_id)
{
    at[0] = (uint8_t)(type << 4 | (type == MR_MQTT_PUBREL ? 2 : 0));
    at[1] = 2;
    mr_put_be16(at + 2, packet_id);
    return at + MR_MQTT_ACK_BYTES;
}

#endif
