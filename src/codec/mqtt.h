/* mqtt.h - every packet of MQTT 3.1, 3.1.1 and 5.0, both directions.
 *
 * Pure: bytes in, structs out, and back.  One struct per packet; its spans
 * borrow the input (decode) or the caller's memory (encode).  No packet needs
 * memory of its own: lists (filters, codes) are iterated where they lie, after
 * the decoder has checked all of them.
 *
 *     mr_mqtt_frame() -> mr_mqtt_<packet>_decode(&frame, mode, &packet, &why)
 *     mr_mqtt_<packet>_encode(&packet, version, out, out_size) -> bytes
 *
 * Decoders answer
 *   MR_OK           the packet obeys every rule that can be judged from its bytes;
 *   MR_ERR_CORRUPT  it cannot be parsed (reason 0x81), or
 *   MR_ERR_REJECT   it parses and is not allowed (0x82 and more specific ones);
 * in both cases `why` names reason and cause, and the connection must be closed
 * ([MQTT-4.13.1-1]).  `out` is then unspecified unless said otherwise.
 * The frame must come from mr_mqtt_frame() and be of the decoder's type.
 *
 * Encoders answer the bytes written, MR_ERR_FULL if `out` is too small (nothing
 * of use is in it), MR_ERR_REJECT if the protocol cannot express the packet.
 * They do not repeat the decoders' checks.  Properties are left out in 3.x.
 * mr_mqtt_<packet>_size() is the exact size for the same arguments.
 *
 * Thread: pure functions, no state.   Memory: none.   Time: none.
 */
#ifndef MR_CODEC_MQTT_H
#define MR_CODEC_MQTT_H

#include "codec/mqtt_props.h"
#include "codec/mqtt_publish.h"
#include "codec/mqtt_wire.h"

/* Section 3.1. */
struct mr_mqtt_connect {
    struct mr_span client_id;    /* may be empty: the server assigns one (5.0, or clean in 3.1.1) */
    struct mr_span will_topic;   /* valid topic name; only with has_will */
    struct mr_span will_payload; /* only with has_will */
    struct mr_span username;     /* only with has_username */
    struct mr_span password;     /* only with has_password; bytes */
    uint16_t keep_alive_s;       /* 0 = none */
    uint8_t version;             /* enum mr_mqtt_version */
    bool clean_start;            /* 3.x: clean session */
    bool has_will;
    uint8_t will_qos;
    bool will_retain;
    bool has_username;
    bool has_password;
    struct mr_mqtt_props props;
    struct mr_mqtt_props will_props;
    struct mr_span will_props_raw; /* section without its length; for the journal */
};

/* REJECT with 0x84 (unknown name or level, [MQTT-3.1.2-1] [MQTT-3.1.2-2]): out->version is
 * the level as sent, which may still be answered by a CONNACK; 0x85: the client
 * id is empty where 3.x forbids it [3.1.1: MQTT-3.1.3-8].  After any failure
 * out->version is what was read of it, 0 if nothing was: it tells in which version
 * to answer.
 */
enum mr_err mr_mqtt_connect_decode(const struct mr_mqtt_frame *frame, struct mr_mqtt_connect *out,
                                   struct mr_mqtt_why *why) MR_MUST_USE;
size_t mr_mqtt_connect_size(const struct mr_mqtt_connect *packet);
ptrdiff_t mr_mqtt_connect_encode(const struct mr_mqtt_connect *packet, uint8_t *out,
                                 size_t out_size) MR_MUST_USE;

/* Section 3.2. */
struct mr_mqtt_connack {
    bool session_present;
    uint8_t reason; /* of 5.0 in every version; see mr_mqtt_connack_code_v3() */
    struct mr_mqtt_props props;
};

/* The return code of 3.x for a reason of 5.0.  0 for a failure means: 3.x has no
 * code for it, close without CONNACK ([3.1.1: MQTT-3.2.2-6]); the encoder then
 * answers MR_ERR_REJECT.
 */
uint8_t mr_mqtt_connack_code_v3(uint8_t reason);

enum mr_err mr_mqtt_connack_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                   struct mr_mqtt_connack *out,
                                   struct mr_mqtt_why *why) MR_MUST_USE;
size_t mr_mqtt_connack_size(const struct mr_mqtt_connack *packet, uint8_t version);
ptrdiff_t mr_mqtt_connack_encode(const struct mr_mqtt_connack *packet, uint8_t version,
                                 uint8_t *out, size_t out_size) MR_MUST_USE;

/* PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7): one shape, told apart by type.
 * See mr_mqtt_ack_put() for the common case.
 */
struct mr_mqtt_ack {
    uint8_t type;       /* enum mr_mqtt_type */
    uint8_t reason;     /* 0 in 3.x; in 5.0 one that the type may carry */
    uint16_t packet_id; /* never 0 */
    struct mr_mqtt_props props;
};

enum mr_err mr_mqtt_ack_decode(const struct mr_mqtt_frame *frame, struct mr_mqtt_mode mode,
                               struct mr_mqtt_ack *out, struct mr_mqtt_why *why) MR_MUST_USE;
size_t mr_mqtt_ack_size(const struct mr_mqtt_ack *packet, uint8_t version);
ptrdiff_t mr_mqtt_ack_encode(const struct mr_mqtt_ack *packet, uint8_t version, uint8_t *out,
                             size_t out_size) MR_MUST_USE;

/* Sections 3.8 and 3.10. */
struct mr_mqtt_subscribe {
    uint16_t packet_id;    /* never 0 */
    uint32_t filter_count; /* at least 1; the encoder does not need it */
    struct mr_span raw;    /* the filters as on the wire; see the iterators */
    struct mr_mqtt_props props;
};

/* One filter of a SUBSCRIBE.  A "$share/…" filter is given whole;
 * mr_topic_share_split() takes it apart.
 */
struct mr_mqtt_subscription {
    struct mr_span filter;    /* valid topic filter, or a "$share" one that is refused */
    uint8_t qos;              /* 0, 1, 2 */
    bool no_local;            /* 5.0 */
    bool retain_as_published; /* 5.0 */
    uint8_t retain_handling;  /* 5.0: 0 send, 1 send if new, 2 do not send */
};

/* REJECT with 0x8F: a filter whose wildcards are misplaced [MQTT-4.7.1-1] [MQTT-4.7.1-2];
 * 0x82: no filter at all [MQTT-3.8.3-2], No Local on a shared one [MQTT-3.8.3-4]; 0x81: reserved
 * option bits [MQTT-3.8.3-5].  A "$share" filter without name or filter [MQTT-4.8.2-1] is let
 * through: mr_topic_share_split() tells it, and its code in the SUBACK says so.
 */
enum mr_err mr_mqtt_subscribe_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                     struct mr_mqtt_subscribe *out,
                                     struct mr_mqtt_why *why) MR_MUST_USE;
/* The next filter; begin with rest = packet.raw.  False at the end. */
bool mr_mqtt_subscription_next(struct mr_span *rest, struct mr_mqtt_subscription *out);
/* Write one filter with its options, to build `raw`. */
ptrdiff_t mr_mqtt_subscription_put(const struct mr_mqtt_subscription *subscription, uint8_t *out,
                                   size_t out_size) MR_MUST_USE;
size_t mr_mqtt_subscribe_size(const struct mr_mqtt_subscribe *packet, uint8_t version);
ptrdiff_t mr_mqtt_subscribe_encode(const struct mr_mqtt_subscribe *packet, uint8_t version,
                                   uint8_t *out, size_t out_size) MR_MUST_USE;

/* UNSUBSCRIBE has the same struct; its list holds filters without options. */
enum mr_err mr_mqtt_unsubscribe_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                       struct mr_mqtt_subscribe *out,
                                       struct mr_mqtt_why *why) MR_MUST_USE;
bool mr_mqtt_unsubscription_next(struct mr_span *rest, struct mr_span *filter);
ptrdiff_t mr_mqtt_unsubscription_put(struct mr_span filter, uint8_t *out,
                                     size_t out_size) MR_MUST_USE;
size_t mr_mqtt_unsubscribe_size(const struct mr_mqtt_subscribe *packet, uint8_t version);
ptrdiff_t mr_mqtt_unsubscribe_encode(const struct mr_mqtt_subscribe *packet, uint8_t version,
                                     uint8_t *out, size_t out_size) MR_MUST_USE;

/* SUBACK and UNSUBACK (3.9, 3.11).  One code per filter, in the order of the
 * request.  For 3.x the encoder turns every failure into 0x80, and UNSUBACK has
 * no codes.
 */
struct mr_mqtt_suback {
    uint8_t type; /* MR_MQTT_SUBACK or MR_MQTT_UNSUBACK */
    uint16_t packet_id;
    struct mr_span codes; /* one byte each: enum mr_mqtt_reason */
    struct mr_mqtt_props props;
};

enum mr_err mr_mqtt_suback_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                  struct mr_mqtt_suback *out, struct mr_mqtt_why *why) MR_MUST_USE;
size_t mr_mqtt_suback_size(const struct mr_mqtt_suback *packet, uint8_t version);
ptrdiff_t mr_mqtt_suback_encode(const struct mr_mqtt_suback *packet, uint8_t version, uint8_t *out,
                                size_t out_size) MR_MUST_USE;

/* PINGREQ and PINGRESP (3.12, 3.13) have no content: the decoder checks that. */
enum { MR_MQTT_PING_BYTES = 2 };
enum mr_err mr_mqtt_ping_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                struct mr_mqtt_why *why) MR_MUST_USE;
/* `type` is MR_MQTT_PINGREQ or MR_MQTT_PINGRESP; returns the byte after it. */
static inline uint8_t *mr_mqtt_ping_put(uint8_t *at, uint8_t type)
{
    at[0] = (uint8_t)(type << 4);
    at[1] = 0;
    return at + MR_MQTT_PING_BYTES;
}

/* DISCONNECT and AUTH (3.14, 3.15).  A DISCONNECT of 3.x has no content and only
 * a client sends it; AUTH exists in 5.0 only (else 0x82).
 */
struct mr_mqtt_disconnect {
    uint8_t type; /* MR_MQTT_DISCONNECT or MR_MQTT_AUTH */
    uint8_t reason;
    struct mr_mqtt_props props;
};

enum mr_err mr_mqtt_disconnect_decode(const struct mr_mqtt_frame *frame, struct mr_mqtt_mode mode,
                                      struct mr_mqtt_disconnect *out,
                                      struct mr_mqtt_why *why) MR_MUST_USE;
size_t mr_mqtt_disconnect_size(const struct mr_mqtt_disconnect *packet, uint8_t version);
ptrdiff_t mr_mqtt_disconnect_encode(const struct mr_mqtt_disconnect *packet, uint8_t version,
                                    uint8_t *out, size_t out_size) MR_MUST_USE;

#endif
