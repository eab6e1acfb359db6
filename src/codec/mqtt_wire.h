/* mqtt_wire.h - what all MQTT packets share: versions, types, reason codes and
 * the fixed header that cuts a byte stream into packets.
 *
 *     received bytes -> mr_mqtt_frame() -> type, flags, body -> mr_mqtt_<packet>_decode()
 *
 * Statement numbers such as [MQTT-2.1.3-1] are those of MQTT 5.0; a number of
 * MQTT 3.1.1 is written [3.1.1: MQTT-2.2.2-1].
 *
 * Thread: pure functions, no state.   Memory: none; spans borrow the input.
 * Time:   none.
 */
#ifndef MR_CODEC_MQTT_WIRE_H
#define MR_CODEC_MQTT_WIRE_H

#include "base/span.h"

/* The protocol level byte of CONNECT. */
enum mr_mqtt_version {
    MR_MQTT_31 = 3,  /* protocol name MQIsdp */
    MR_MQTT_311 = 4, /* MQTT 3.1.1 */
    MR_MQTT_5 = 5,   /* MQTT 5.0 */
};

/* Table 2-1.  Type 0 is reserved on the wire; here it stands for the will
 * inside CONNECT, which has properties like a packet of its own.
 */
enum mr_mqtt_type {
    MR_MQTT_WILL = 0,
    MR_MQTT_CONNECT = 1,
    MR_MQTT_CONNACK = 2,
    MR_MQTT_PUBLISH = 3,
    MR_MQTT_PUBACK = 4,
    MR_MQTT_PUBREC = 5,
    MR_MQTT_PUBREL = 6,
    MR_MQTT_PUBCOMP = 7,
    MR_MQTT_SUBSCRIBE = 8,
    MR_MQTT_SUBACK = 9,
    MR_MQTT_UNSUBSCRIBE = 10,
    MR_MQTT_UNSUBACK = 11,
    MR_MQTT_PINGREQ = 12,
    MR_MQTT_PINGRESP = 13,
    MR_MQTT_DISCONNECT = 14,
    MR_MQTT_AUTH = 15,
};

/* Table 2-6.  The codes of 3.x are translated to these on decode and back on
 * encode, so nobody above the codec meets two sets of numbers.
 */
enum mr_mqtt_reason {
    MR_MQTT_SUCCESS = 0x00, /* also: normal disconnection, granted QoS 0 */
    MR_MQTT_GRANTED_QOS1 = 0x01,
    MR_MQTT_GRANTED_QOS2 = 0x02,
    MR_MQTT_DISCONNECT_WITH_WILL = 0x04,
    MR_MQTT_NO_MATCHING_SUBSCRIBERS = 0x10,
    MR_MQTT_NO_SUBSCRIPTION_EXISTED = 0x11,
    MR_MQTT_CONTINUE_AUTHENTICATION = 0x18,
    MR_MQTT_REAUTHENTICATE = 0x19,
    MR_MQTT_UNSPECIFIED = 0x80, /* the only SUBACK failure of 3.1.1 */
    MR_MQTT_MALFORMED = 0x81,
    MR_MQTT_PROTOCOL_ERROR = 0x82,
    MR_MQTT_IMPLEMENTATION_ERROR = 0x83,
    MR_MQTT_UNSUPPORTED_VERSION = 0x84,
    MR_MQTT_CLIENT_ID_INVALID = 0x85,
    MR_MQTT_BAD_CREDENTIALS = 0x86,
    MR_MQTT_NOT_AUTHORIZED = 0x87,
    MR_MQTT_SERVER_UNAVAILABLE = 0x88,
    MR_MQTT_SERVER_BUSY = 0x89,
    MR_MQTT_BANNED = 0x8A,
    MR_MQTT_SERVER_SHUTTING_DOWN = 0x8B,
    MR_MQTT_BAD_AUTH_METHOD = 0x8C,
    MR_MQTT_KEEP_ALIVE_TIMEOUT = 0x8D,
    MR_MQTT_SESSION_TAKEN_OVER = 0x8E,
    MR_MQTT_TOPIC_FILTER_INVALID = 0x8F,
    MR_MQTT_TOPIC_NAME_INVALID = 0x90,
    MR_MQTT_PACKET_ID_IN_USE = 0x91,
    MR_MQTT_PACKET_ID_NOT_FOUND = 0x92,
    MR_MQTT_RECEIVE_MAX_EXCEEDED = 0x93,
    MR_MQTT_TOPIC_ALIAS_INVALID = 0x94,
    MR_MQTT_PACKET_TOO_LARGE = 0x95,
    MR_MQTT_RATE_TOO_HIGH = 0x96,
    MR_MQTT_QUOTA_EXCEEDED = 0x97,
    MR_MQTT_ADMINISTRATIVE_ACTION = 0x98,
    MR_MQTT_PAYLOAD_FORMAT_INVALID = 0x99,
    MR_MQTT_RETAIN_NOT_SUPPORTED = 0x9A,
    MR_MQTT_QOS_NOT_SUPPORTED = 0x9B,
    MR_MQTT_USE_ANOTHER_SERVER = 0x9C,
    MR_MQTT_SERVER_MOVED = 0x9D,
    MR_MQTT_SHARED_NOT_SUPPORTED = 0x9E,
    MR_MQTT_RATE_EXCEEDED = 0x9F,
    MR_MQTT_MAXIMUM_CONNECT_TIME = 0xA0,
    MR_MQTT_SUBSCRIPTION_ID_NOT_SUPPORTED = 0xA1,
    MR_MQTT_WILDCARD_NOT_SUPPORTED = 0xA2,
};

/* Why a decoder refused.  Written only when it did. */
struct mr_mqtt_why {
    uint8_t reason;   /* enum mr_mqtt_reason to send before the close */
    const char *what; /* for the log; static text, lives for ever */
};

/* What a decoder must know besides the bytes. */
enum mr_mqtt_side { MR_MQTT_FROM_CLIENT, MR_MQTT_FROM_SERVER };
struct mr_mqtt_mode {
    uint8_t version; /* enum mr_mqtt_version, agreed by CONNECT */
    uint8_t from;    /* enum mr_mqtt_side: who sends (sent) the packet */
};

/* "PUBLISH", for logs; "?" for a number that is no type. */
const char *mr_mqtt_type_name(uint8_t type);

/* "packet too large", in the words of Table 2-6; "unknown reason" otherwise. */
const char *mr_mqtt_reason_name(uint8_t reason);

/* May this side send a packet of this type at all?  If not: 0x82. */
static inline bool mr_mqtt_may_send(enum mr_mqtt_side side, uint8_t type)
{
    /* Bit n = type n, from Table 2-1, column "direction of flow". */
    return ((side == MR_MQTT_FROM_CLIENT ? 0xd5fau : 0xeafcu) >> type & 1) != 0;
}

enum {
    MR_MQTT_LENGTH_MAX = 268435455, /* largest remaining length, section 2.1.4 */
    MR_MQTT_PACKET_MAX = MR_MQTT_LENGTH_MAX + 5,
    MR_MQTT_HEADER_MAX = 5, /* bytes of the longest fixed header */
};

/* One packet, cut out of the stream. */
struct mr_mqtt_frame {
    struct mr_span body;  /* variable header and payload; borrows the input */
    uint32_t total_bytes; /* whole packet; with AGAIN: how many are needed, 0 = not known yet */
    uint8_t type;         /* enum mr_mqtt_type, 1 to 15 */
    uint8_t flags;        /* low four bits of the first byte */
    bool padded;          /* length not in its shortest form: MQTT 5.0 forbids it */
    const char *what;     /* with CORRUPT and FULL: static text for the log */
};

/* Cut the first packet off `bytes`.  Reserved flags and the reserved type are
 * refused here, at the first byte, so that a port scanner's HTTP request never
 * occupies a buffer.
 *
 * MR_OK           `out` is complete.
 * MR_ERR_AGAIN    more bytes are needed; total_bytes says how many in all.
 * MR_ERR_CORRUPT  0x81: reserved type or flags ([MQTT-2.1.3-1]) or a length of more
 *                 than four bytes (1.5.5).  The stream cannot be followed further.
 * MR_ERR_FULL     0x95: larger than packet_max, known before the body arrived.
 *
 * A length that is not in its shortest form is a violation of [MQTT-1.5.5-1] but
 * no rule of 3.1.1, and small devices do send it; since the version is the
 * session's, the frame only notes it and the decoders of 5.0 refuse it.
 */
MR_MUST_USE static inline enum mr_err mr_mqtt_frame(struct mr_span bytes, uint32_t packet_max,
                                                    struct mr_mqtt_frame *out)
{
    const uint8_t *at = bytes.at;
    uint32_t length = 0;
    unsigned used = 1;

    out->total_bytes = 0;
    if (bytes.len == 0) {
        return MR_ERR_AGAIN;
    }
    out->type = at[0] >> 4;
    out->flags = at[0] & 0x0f;
    /* PUBREL (6), SUBSCRIBE (8) and UNSUBSCRIBE (10) carry 0b0010, all other
     * types but PUBLISH carry 0.  MQTT 3.1 sets bit 3 (DUP) when it repeats one of
     * those three; the decoders refuse that in later versions.
     */
    const unsigned numbered = 0x0540u >> out->type & 1;
    if (out->type != MR_MQTT_PUBLISH &&
        MR_UNLIKELY(out->type == 0 || (out->flags & ~(numbered << 3)) != numbered << 1)) {
        out->what = out->type == 0 ? "reserved packet type 0" : "reserved flags of fixed header";
        return MR_ERR_CORRUPT;
    }
    for (unsigned shift = 0;; shift += 7) {
        if (used == bytes.len) {
            return MR_ERR_AGAIN;
        }
        uint8_t byte = at[used++];
        length |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            out->padded = byte == 0 && shift != 0;
            break;
        }
        if (MR_UNLIKELY(shift == 21)) {
            out->what = "remaining length of more than four bytes";
            return MR_ERR_CORRUPT;
        }
    }
    out->total_bytes = used + length;
    if (MR_UNLIKELY(out->total_bytes > packet_max)) {
        out->what = "packet larger than the announced maximum";
        return MR_ERR_FULL;
    }
    if (bytes.len < out->total_bytes) {
        return MR_ERR_AGAIN;
    }
    out->body = (struct mr_span){.at = at + used, .len = length};
    return MR_OK;
}

#endif
