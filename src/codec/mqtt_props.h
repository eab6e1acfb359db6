/* mqtt_props.h - the properties of MQTT 5.0 (section 2.2.2).
 *
 * Every property that may occur once has a field; `present` says which fields
 * mean anything (bit = property identifier).  What may occur many times (user
 * properties; subscription identifiers in PUBLISH) stays where it is, in the
 * packet's own bytes, and is walked with an iterator.
 *
 * One table in mqtt_props.c knows identifier, type, limits, multiplicity, and
 * which packet from which side may carry it (Table 2-4).
 *
 * Thread: pure functions, no state.   Memory: none; spans borrow the packet.
 * Time:   none.
 */
#ifndef MR_CODEC_MQTT_PROPS_H
#define MR_CODEC_MQTT_PROPS_H

#include "codec/mqtt_wire.h"

enum mr_mqtt_prop {
    MR_MQTT_PROP_PAYLOAD_FORMAT = 0x01,
    MR_MQTT_PROP_MESSAGE_EXPIRY = 0x02,
    MR_MQTT_PROP_CONTENT_TYPE = 0x03,
    MR_MQTT_PROP_RESPONSE_TOPIC = 0x08,
    MR_MQTT_PROP_CORRELATION_DATA = 0x09,
    MR_MQTT_PROP_SUBSCRIPTION_ID = 0x0B,
    MR_MQTT_PROP_SESSION_EXPIRY = 0x11,
    MR_MQTT_PROP_ASSIGNED_CLIENT_ID = 0x12,
    MR_MQTT_PROP_SERVER_KEEP_ALIVE = 0x13,
    MR_MQTT_PROP_AUTH_METHOD = 0x15,
    MR_MQTT_PROP_AUTH_DATA = 0x16,
    MR_MQTT_PROP_REQUEST_PROBLEM_INFO = 0x17,
    MR_MQTT_PROP_WILL_DELAY = 0x18,
    MR_MQTT_PROP_REQUEST_RESPONSE_INFO = 0x19,
    MR_MQTT_PROP_RESPONSE_INFO = 0x1A,
    MR_MQTT_PROP_SERVER_REFERENCE = 0x1C,
    MR_MQTT_PROP_REASON_STRING = 0x1F,
    MR_MQTT_PROP_RECEIVE_MAX = 0x21,
    MR_MQTT_PROP_TOPIC_ALIAS_MAX = 0x22,
    MR_MQTT_PROP_TOPIC_ALIAS = 0x23,
    MR_MQTT_PROP_MAXIMUM_QOS = 0x24,
    MR_MQTT_PROP_RETAIN_AVAILABLE = 0x25,
    MR_MQTT_PROP_USER = 0x26,
    MR_MQTT_PROP_PACKET_MAX = 0x27,
    MR_MQTT_PROP_WILDCARD_AVAILABLE = 0x28,
    MR_MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE = 0x29,
    MR_MQTT_PROP_SHARED_AVAILABLE = 0x2A,
};

/* A field whose bit is not in `present` is undefined, not 0: an empty property
 * section costs the decoder one store.
 */
struct mr_mqtt_props {
    uint64_t present; /* bit (1 << enum mr_mqtt_prop); see mr_mqtt_has() */

    /* Property bytes in which the iterators find the repeatable ones; other
     * properties among them are skipped.  Set by the decoder to the whole
     * section if bit USER (SUBSCRIPTION_ID) is present.  The encoders copy the
     * user properties (subscription identifiers of PUBLISH) found in them.
     */
    struct mr_span user_raw;
    struct mr_span subscription_ids_raw;

    struct mr_span content_type;       /* UTF-8 */
    struct mr_span response_topic;     /* UTF-8, a valid topic name */
    struct mr_span correlation_data;   /* bytes */
    struct mr_span assigned_client_id; /* UTF-8 */
    struct mr_span auth_method;        /* UTF-8 */
    struct mr_span auth_data;          /* bytes */
    struct mr_span response_info;      /* UTF-8 */
    struct mr_span server_reference;   /* UTF-8 */
    struct mr_span reason_string;      /* UTF-8 */

    uint32_t message_expiry_s;  /* seconds left to live */
    uint32_t session_expiry_s;  /* UINT32_MAX = never */
    uint32_t will_delay_s;      /* seconds */
    uint32_t packet_max;        /* bytes, never 0 */
    uint32_t subscription_id;   /* 1 to 268435455; of several in PUBLISH the first */
    uint16_t server_keep_alive; /* seconds */
    uint16_t receive_max;       /* packets, never 0; absent means 65535 */
    uint16_t topic_alias_max;   /* absent means 0 */
    uint16_t topic_alias;       /* never 0 */

    uint8_t payload_format; /* 1 = the payload claims to be UTF-8 */
    uint8_t maximum_qos;    /* 0 or 1; absent means 2 */
    uint8_t request_problem_info;
    uint8_t request_response_info;
    uint8_t retain_available;
    uint8_t wildcard_available;
    uint8_t subscription_id_available;
    uint8_t shared_available;
};

static inline bool mr_mqtt_has(const struct mr_mqtt_props *props, enum mr_mqtt_prop prop)
{
    return (props->present >> prop & 1) != 0;
}

/* Say that a field has been filled in: mr_mqtt_set(&p, MR_MQTT_PROP_RECEIVE_MAX). */
static inline void mr_mqtt_set(struct mr_mqtt_props *props, enum mr_mqtt_prop prop)
{
    props->present |= (uint64_t)1 << prop;
}

static inline void mr_mqtt_unset(struct mr_mqtt_props *props, enum mr_mqtt_prop prop)
{
    props->present &= ~((uint64_t)1 << prop);
}

/* Decode a property section (without its length) of a packet of type `packet`
 * sent by `from`; MR_MQTT_WILL for those of the will.  `out` borrows `raw`.
 *
 * MR_ERR_CORRUPT  0x81: unknown, not valid for this type of packet (2.2.2.2), cut
 *                 short, invalid UTF-8.
 * MR_ERR_REJECT   0x82: not allowed from this side, twice, or out of range;
 *                 0x94: topic alias 0 [MQTT-3.3.2-8]; 0x90: response topic empty or
 *                 with a wildcard [MQTT-3.3.2-14].
 */
enum mr_err mr_mqtt_props_decode(struct mr_span raw, enum mr_mqtt_type packet,
                                 enum mr_mqtt_side from, struct mr_mqtt_props *out,
                                 struct mr_mqtt_why *why) MR_MUST_USE;

/* Bytes of the section for `props`, without and with its length in front. */
size_t mr_mqtt_props_size(const struct mr_mqtt_props *props, enum mr_mqtt_type packet);
size_t mr_mqtt_props_size_framed(const struct mr_mqtt_props *props, enum mr_mqtt_type packet);

/* Write the section without its length: this is what the journal keeps and
 * what mr_mqtt_props_decode() reads.  Returns its bytes or MR_ERR_FULL; MR_ERR_REJECT if a
 * string is longer than 65535 bytes.  A property that the packet may not
 * carry is a bug of the caller and asserted.
 */
ptrdiff_t mr_mqtt_props_encode(const struct mr_mqtt_props *props, enum mr_mqtt_type packet,
                               uint8_t *out, size_t out_size) MR_MUST_USE;

/* The next user property in `rest`, which is moved behind it.  Begin with
 * rest = props->user_raw.  False at the end.  Order is the sender's and must be
 * kept when forwarding ([MQTT-3.3.2-18]).
 */
bool mr_mqtt_user_property_next(struct mr_span *rest, struct mr_span *name, struct mr_span *value);

/* The next subscription identifier; begin with props->subscription_ids_raw. */
bool mr_mqtt_subscription_id_next(struct mr_span *rest, uint32_t *id);

/* Write one property, to build user_raw or subscription_ids_raw.  Returns its
 * bytes or MR_ERR_FULL; MR_ERR_REJECT if it cannot be expressed.
 */
ptrdiff_t mr_mqtt_user_property_put(struct mr_span name, struct mr_span value, uint8_t *out,
                                    size_t out_size) MR_MUST_USE;
ptrdiff_t mr_mqtt_subscription_id_put(uint32_t id, uint8_t *out, size_t out_size) MR_MUST_USE;

#endif
