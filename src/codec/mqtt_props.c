/* mqtt_props.c - see mqtt_props.h for the contract.
 *
 * DESIGN
 *
 * One row per property says everything the specification says about it; decoder
 * and encoder walk the same rows.  The identifier is the index, so decoding a
 * property is one load, two bit tests and the reading of its value.
 *
 * The encoder writes properties by rising identifier, then the user properties
 * in the sender's order ([MQTT-3.3.2-18]).  The order of the others has no
 * meaning (2.2.2.2).
 *
 * Rejected: a list of decoded (id, value) pairs.  Every user would search it,
 * and its length would need a limit that the specification does not have.
 *
 * INVARIANTS
 *
 *   (1) A field is written only by the row whose bit is then set in `present`.
 *   (2) What the decoder accepts, the encoder can write in no more bytes.
 */
#include "codec/mqtt_internal.h"
#include "codec/topic.h"

enum prop_kind {
    PROP_NONE, /* no such identifier */
    PROP_U8,
    PROP_U16,
    PROP_U32,
    PROP_VARINT,
    PROP_UTF8,
    PROP_TOPIC, /* UTF-8 and a topic name */
    PROP_BINARY,
    PROP_PAIR,
};

#define ON(type) (1u << MR_MQTT_##type)
#define FIELD(name) offsetof(struct mr_mqtt_props, name)

enum {
    ON_ACKS = ON(PUBACK) | ON(PUBREC) | ON(PUBREL) | ON(PUBCOMP),
    ON_SUBACKS = ON(SUBACK) | ON(UNSUBACK),
    ON_MESSAGE = ON(PUBLISH) | ON(WILL),
};

/* Table 2-4 and the value rules of the property's own section. */
static const struct prop_rule {
    uint32_t from_client; /* bit n: packets of type n may carry it */
    uint32_t from_server;
    uint32_t value_min;
    uint32_t value_max;
    uint16_t offset;
    uint8_t kind;
} prop_rules[] = {
    [MR_MQTT_PROP_PAYLOAD_FORMAT] = {ON_MESSAGE, ON(PUBLISH), 0, 1, FIELD(payload_format), PROP_U8},
    [MR_MQTT_PROP_MESSAGE_EXPIRY] = {ON_MESSAGE, ON(PUBLISH), 0, UINT32_MAX,
                                     FIELD(message_expiry_s), PROP_U32},
    [MR_MQTT_PROP_CONTENT_TYPE] = {ON_MESSAGE, ON(PUBLISH), 0, 0, FIELD(content_type), PROP_UTF8},
    [MR_MQTT_PROP_RESPONSE_TOPIC] = {ON_MESSAGE, ON(PUBLISH), 0, 0, FIELD(response_topic),
                                     PROP_TOPIC},
    [MR_MQTT_PROP_CORRELATION_DATA] = {ON_MESSAGE, ON(PUBLISH), 0, 0, FIELD(correlation_data),
                                       PROP_BINARY},
    /* [MQTT-3.3.4-6]: in PUBLISH only from the server. */
    [MR_MQTT_PROP_SUBSCRIPTION_ID] = {ON(SUBSCRIBE), ON(PUBLISH), 1, MR_MQTT_LENGTH_MAX,
                                      FIELD(subscription_id), PROP_VARINT},
    /* [MQTT-3.14.2-2]: in DISCONNECT only from the client. */
    [MR_MQTT_PROP_SESSION_EXPIRY] = {ON(CONNECT) | ON(DISCONNECT), ON(CONNACK), 0, UINT32_MAX,
                                     FIELD(session_expiry_s), PROP_U32},
    [MR_MQTT_PROP_ASSIGNED_CLIENT_ID] = {0, ON(CONNACK), 0, 0, FIELD(assigned_client_id),
                                         PROP_UTF8},
    [MR_MQTT_PROP_SERVER_KEEP_ALIVE] = {0, ON(CONNACK), 0, UINT16_MAX, FIELD(server_keep_alive),
                                        PROP_U16},
    [MR_MQTT_PROP_AUTH_METHOD] = {ON(CONNECT) | ON(AUTH), ON(CONNACK) | ON(AUTH), 0, 0,
                                  FIELD(auth_method), PROP_UTF8},
    [MR_MQTT_PROP_AUTH_DATA] = {ON(CONNECT) | ON(AUTH), ON(CONNACK) | ON(AUTH), 0, 0,
                                FIELD(auth_data), PROP_BINARY},
    [MR_MQTT_PROP_REQUEST_PROBLEM_INFO] = {ON(CONNECT), 0, 0, 1, FIELD(request_problem_info),
                                           PROP_U8},
    [MR_MQTT_PROP_WILL_DELAY] = {ON(WILL), 0, 0, UINT32_MAX, FIELD(will_delay_s), PROP_U32},
    [MR_MQTT_PROP_REQUEST_RESPONSE_INFO] = {ON(CONNECT), 0, 0, 1, FIELD(request_response_info),
                                            PROP_U8},
    [MR_MQTT_PROP_RESPONSE_INFO] = {0, ON(CONNACK), 0, 0, FIELD(response_info), PROP_UTF8},
    [MR_MQTT_PROP_SERVER_REFERENCE] = {0, ON(CONNACK) | ON(DISCONNECT), 0, 0,
                                       FIELD(server_reference), PROP_UTF8},
    [MR_MQTT_PROP_REASON_STRING] = {ON_ACKS | ON(DISCONNECT) | ON(AUTH),
                                    ON_ACKS | ON_SUBACKS | ON(CONNACK) | ON(DISCONNECT) | ON(AUTH),
                                    0, 0, FIELD(reason_string), PROP_UTF8},
    [MR_MQTT_PROP_RECEIVE_MAX] = {ON(CONNECT), ON(CONNACK), 1, UINT16_MAX, FIELD(receive_max),
                                  PROP_U16},
    [MR_MQTT_PROP_TOPIC_ALIAS_MAX] = {ON(CONNECT), ON(CONNACK), 0, UINT16_MAX,
                                      FIELD(topic_alias_max), PROP_U16},
    [MR_MQTT_PROP_TOPIC_ALIAS] = {ON(PUBLISH), ON(PUBLISH), 1, UINT16_MAX, FIELD(topic_alias),
                                  PROP_U16},
    [MR_MQTT_PROP_MAXIMUM_QOS] = {0, ON(CONNACK), 0, 1, FIELD(maximum_qos), PROP_U8},
    [MR_MQTT_PROP_RETAIN_AVAILABLE] = {0, ON(CONNACK), 0, 1, FIELD(retain_available), PROP_U8},
    [MR_MQTT_PROP_USER] = {ON(CONNECT) | ON_MESSAGE | ON_ACKS | ON(SUBSCRIBE) | ON(UNSUBSCRIBE) |
                               ON(DISCONNECT) | ON(AUTH),
                           ON(CONNACK) | ON(PUBLISH) | ON_ACKS | ON_SUBACKS | ON(DISCONNECT) |
                               ON(AUTH),
                           0, 0, 0, PROP_PAIR},
    [MR_MQTT_PROP_PACKET_MAX] = {ON(CONNECT), ON(CONNACK), 1, UINT32_MAX, FIELD(packet_max),
                                 PROP_U32},
    [MR_MQTT_PROP_WILDCARD_AVAILABLE] = {0, ON(CONNACK), 0, 1, FIELD(wildcard_available), PROP_U8},
    [MR_MQTT_PROP_SUBSCRIPTION_ID_AVAILABLE] = {0, ON(CONNACK), 0, 1,
                                                FIELD(subscription_id_available), PROP_U8},
    [MR_MQTT_PROP_SHARED_AVAILABLE] = {0, ON(CONNACK), 0, 1, FIELD(shared_available), PROP_U8},
};

static bool prop_is_number(uint8_t kind)
{
    return kind >= PROP_U8 && kind <= PROP_VARINT;
}

/* Read a number of the given kind. */
static uint32_t prop_take_number(struct mr_take *take, uint8_t kind)
{
    switch (kind) {
    case PROP_U8:
        return mr_take_u8(take);
    case PROP_U16:
        return mqtt_take_u16(take);
    case PROP_U32:
        return mqtt_take_u32(take);
    default:
        return mqtt_take_varint(take);
    }
}

static void prop_store_number(struct mr_mqtt_props *props, const struct prop_rule *rule,
                              uint32_t number)
{
    uint8_t *field = (uint8_t *)props + rule->offset;

    if (rule->kind == PROP_U8) {
        *field = (uint8_t)number;
    } else if (rule->kind == PROP_U16) {
        *(uint16_t *)(void *)field = (uint16_t)number;
    } else {
        *(uint32_t *)(void *)field = number;
    }
}

static uint32_t prop_load_number(const struct mr_mqtt_props *props, const struct prop_rule *rule)
{
    const uint8_t *field = (const uint8_t *)props + rule->offset;

    if (rule->kind == PROP_U8) {
        return *field;
    }
    if (rule->kind == PROP_U16) {
        return *(const uint16_t *)(const void *)field;
    }
    return *(const uint32_t *)(const void *)field;
}

static struct mr_span *prop_span(struct mr_mqtt_props *props, const struct prop_rule *rule)
{
    return (struct mr_span *)(void *)((uint8_t *)props + rule->offset);
}

/* The value of one number property. */
static enum mr_err prop_number(struct mr_take *take, const struct prop_rule *rule, uint8_t id,
                               struct mr_mqtt_props *out, struct mr_mqtt_why *why)
{
    uint32_t number = prop_take_number(take, rule->kind);

    if (take->failed) {
        return mqtt_malformed(why, "number property cut short or not in its shortest form");
    }
    if (number < rule->value_min || number > rule->value_max) {
        if (id == MR_MQTT_PROP_TOPIC_ALIAS) { /* [MQTT-3.3.2-8] */
            return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_TOPIC_ALIAS_INVALID, "topic alias 0");
        }
        return mqtt_protocol_error(why, "property value out of range");
    }
    /* Of several subscription identifiers the first stays in the field. */
    if (!mr_mqtt_has(out, id)) {
        prop_store_number(out, rule, number);
    }
    return MR_OK;
}

/* The value of one string, binary or pair property. */
static enum mr_err prop_text(struct mr_take *take, const struct prop_rule *rule,
                             struct mr_mqtt_props *out, struct mr_mqtt_why *why)
{
    struct mr_span value = mqtt_take_binary(take);
    struct mr_span second = {0};

    if (rule->kind == PROP_PAIR) {
        second = mqtt_take_binary(take);
    }
    if (take->failed) {
        return mqtt_malformed(why, "property cut short");
    }
    /* [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-1.5.7-1] */
    if (rule->kind != PROP_BINARY && (!mr_utf8_valid(value) || !mr_utf8_valid(second))) {
        return mqtt_malformed(why, "property is not valid UTF-8 or contains U+0000");
    }
    if (rule->kind == PROP_TOPIC && !mr_topic_name_valid(value)) { /* [MQTT-3.3.2-14] */
        return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_TOPIC_NAME_INVALID,
                           "response topic is empty or contains a wildcard");
    }
    if (rule->kind != PROP_PAIR) {
        *prop_span(out, rule) = value;
    }
    return MR_OK;
}

enum mr_err mr_mqtt_props_decode(struct mr_span raw, enum mr_mqtt_type packet,
                                 enum mr_mqtt_side from, struct mr_mqtt_props *out,
                                 struct mr_mqtt_why *why)
{
    out->present = 0;
    if (raw.len == 0) {
        return MR_OK;
    }
    struct mr_take take = mr_take_from(raw);
    while (mr_take_left(&take) != 0) {
        /* An identifier is a variable byte integer, but all of them are below
         * 0x80: a longer one is either unknown or not in its shortest form.
         */
        uint8_t id = mr_take_u8(&take);
        if (id >= MR_COUNT_OF(prop_rules) || prop_rules[id].kind == PROP_NONE) {
            return mqtt_malformed(why, "unknown property");
        }
        const struct prop_rule *rule = &prop_rules[id];
        uint32_t mine = from == MR_MQTT_FROM_CLIENT ? rule->from_client : rule->from_server;
        if (((rule->from_client | rule->from_server) >> packet & 1) == 0) { /* 2.2.2.2 */
            return mqtt_malformed(why, "property not valid for this type of packet");
        }
        if ((mine >> packet & 1) == 0) {
            return mqtt_protocol_error(why, "property that only the other side may send");
        }
        bool repeats = id == MR_MQTT_PROP_USER ||
                       (id == MR_MQTT_PROP_SUBSCRIPTION_ID && packet == MR_MQTT_PUBLISH);
        if (mr_mqtt_has(out, id) && !repeats) {
            return mqtt_protocol_error(why, "property given twice");
        }
        enum mr_err err = prop_is_number(rule->kind) ? prop_number(&take, rule, id, out, why)
                                                     : prop_text(&take, rule, out, why);
        if (err != MR_OK) {
            return err;
        }
        mr_mqtt_set(out, id);
    }
    out->user_raw = mr_mqtt_has(out, MR_MQTT_PROP_USER) ? raw : (struct mr_span){0};
    out->subscription_ids_raw =
        mr_mqtt_has(out, MR_MQTT_PROP_SUBSCRIPTION_ID) ? raw : (struct mr_span){0};
    return MR_OK;
}

enum mr_err mqtt_take_props(struct mr_take *take, enum mr_mqtt_type packet,
                            struct mr_mqtt_mode mode, struct mr_mqtt_props *out,
                            struct mr_span *raw, struct mr_mqtt_why *why)
{
    struct mr_span section = {.at = take->at, .len = 0};

    if (mode.version == MR_MQTT_5) {
        uint32_t bytes = mqtt_take_varint(take);
        if (take->failed) {
            return mqtt_malformed(why, "property length missing or not in its shortest form");
        }
        section = mr_take_bytes(take, bytes);
        if (take->failed) {
            return mqtt_malformed(why, "property length beyond the end of the packet");
        }
    }
    if (raw != NULL) {
        *raw = section;
    }
    return mr_mqtt_props_decode(section, packet, mode.from, out, why);
}

/* Move `rest` to the value of the next property `wanted`; false at the end. */
static bool prop_seek(struct mr_take *rest, uint8_t wanted)
{
    while (!rest->failed && mr_take_left(rest) != 0) {
        uint8_t id = mr_take_u8(rest);
        if (id == wanted) {
            return true;
        }
        uint8_t kind = id < MR_COUNT_OF(prop_rules) ? prop_rules[id].kind : (uint8_t)PROP_NONE;
        if (kind == PROP_NONE) {
            return false;
        }
        if (prop_is_number(kind)) {
            (void)prop_take_number(rest, kind);
        } else {
            (void)mqtt_take_binary(rest);
            if (kind == PROP_PAIR) {
                (void)mqtt_take_binary(rest);
            }
        }
    }
    return false;
}

bool mr_mqtt_user_property_next(struct mr_span *rest, struct mr_span *name, struct mr_span *value)
{
    if (rest->len == 0) {
        return false;
    }
    struct mr_take take = mr_take_from(*rest);
    bool found = prop_seek(&take, MR_MQTT_PROP_USER);

    if (found) {
        *name = mqtt_take_binary(&take);
        *value = mqtt_take_binary(&take);
    }
    *rest = (struct mr_span){.at = take.at, .len = mr_take_left(&take)};
    return found && !take.failed;
}

bool mr_mqtt_subscription_id_next(struct mr_span *rest, uint32_t *id)
{
    if (rest->len == 0) {
        return false;
    }
    struct mr_take take = mr_take_from(*rest);
    bool found = prop_seek(&take, MR_MQTT_PROP_SUBSCRIPTION_ID);

    if (found) {
        *id = mqtt_take_varint(&take);
    }
    *rest = (struct mr_span){.at = take.at, .len = mr_take_left(&take)};
    return found && !take.failed;
}

static void prop_put_user(struct mqtt_put *put, struct mr_span name, struct mr_span value)
{
    mqtt_put_u8(put, MR_MQTT_PROP_USER);
    mqtt_put_binary(put, name);
    mqtt_put_binary(put, value);
}

static void prop_put_number(struct mqtt_put *put, uint8_t kind, uint32_t number)
{
    if (kind == PROP_U8) {
        mqtt_put_u8(put, (uint8_t)number);
    } else if (kind == PROP_U16) {
        mqtt_put_u16(put, (uint16_t)number);
    } else if (kind == PROP_U32) {
        mqtt_put_u32(put, number);
    } else {
        mqtt_put_varint(put, number);
    }
}

/* The properties that may repeat, copied from where they lie. */
static void prop_put_repeated(struct mqtt_put *put, const struct mr_mqtt_props *props, uint8_t id)
{
    if (id == MR_MQTT_PROP_USER) {
        struct mr_span rest = props->user_raw;
        struct mr_span name;
        struct mr_span value;
        while (mr_mqtt_user_property_next(&rest, &name, &value)) {
            prop_put_user(put, name, value);
        }
        return;
    }
    struct mr_span rest = props->subscription_ids_raw;
    uint32_t number;
    while (mr_mqtt_subscription_id_next(&rest, &number)) {
        mqtt_put_u8(put, id);
        mqtt_put_varint(put, number);
    }
}

static void props_put(struct mqtt_put *put, const struct mr_mqtt_props *props,
                      enum mr_mqtt_type packet)
{
    for (uint64_t left = props->present; left != 0; left &= left - 1) {
        uint8_t id = (uint8_t)__builtin_ctzll(left);
        mr_assert(id < MR_COUNT_OF(prop_rules) && prop_rules[id].kind != PROP_NONE);
        const struct prop_rule *rule = &prop_rules[id];
        mr_assert(((rule->from_client | rule->from_server) >> packet & 1) != 0);

        if (id == MR_MQTT_PROP_USER ||
            (id == MR_MQTT_PROP_SUBSCRIPTION_ID && packet == MR_MQTT_PUBLISH)) {
            prop_put_repeated(put, props, id);
            continue;
        }
        mqtt_put_u8(put, id);
        if (prop_is_number(rule->kind)) {
            prop_put_number(put, rule->kind, prop_load_number(props, rule));
        } else {
            mqtt_put_binary(put, *prop_span((struct mr_mqtt_props *)props, rule));
        }
    }
}

void mqtt_put_props(struct mqtt_put *put, const struct mr_mqtt_props *props,
                    enum mr_mqtt_type packet)
{
    struct mqtt_put count = {0};

    if (props->present == 0) { /* [MQTT-2.2.2-1] */
        mqtt_put_u8(put, 0);
        return;
    }
    props_put(&count, props, packet);
    count.failed |= count.len > MR_MQTT_LENGTH_MAX;
    put->failed |= count.failed;
    if (count.failed) {
        return;
    }
    mqtt_put_varint(put, (uint32_t)count.len);
    props_put(put, props, packet);
}

size_t mr_mqtt_props_size(const struct mr_mqtt_props *props, enum mr_mqtt_type packet)
{
    struct mqtt_put count = {0};

    props_put(&count, props, packet);
    return count.len;
}

size_t mr_mqtt_props_size_framed(const struct mr_mqtt_props *props, enum mr_mqtt_type packet)
{
    struct mqtt_put count = {0};

    mqtt_put_props(&count, props, packet);
    return count.len;
}

ptrdiff_t mr_mqtt_props_encode(const struct mr_mqtt_props *props, enum mr_mqtt_type packet,
                               uint8_t *out, size_t out_size)
{
    struct mqtt_put count = {0};
    struct mqtt_put put = {.at = out};

    props_put(&count, props, packet);
    ptrdiff_t refused = mqtt_put_check(&count, out_size);
    if (refused == 0) {
        props_put(&put, props, packet);
        mr_assert(put.len == count.len);
    }
    return refused != 0 ? refused : (ptrdiff_t)put.len;
}

ptrdiff_t mr_mqtt_user_property_put(struct mr_span name, struct mr_span value, uint8_t *out,
                                    size_t out_size)
{
    struct mqtt_put count = {0};
    struct mqtt_put put = {.at = out};

    prop_put_user(&count, name, value);
    ptrdiff_t refused = mqtt_put_check(&count, out_size);
    if (refused == 0) {
        prop_put_user(&put, name, value);
    }
    return refused != 0 ? refused : (ptrdiff_t)put.len;
}

ptrdiff_t mr_mqtt_subscription_id_put(uint32_t id, uint8_t *out, size_t out_size)
{
    struct mqtt_put count = {.len = 1, .failed = id == 0};
    struct mqtt_put put = {.at = out};

    mqtt_put_varint(&count, id);
    ptrdiff_t refused = mqtt_put_check(&count, out_size);
    if (refused == 0) {
        mqtt_put_u8(&put, MR_MQTT_PROP_SUBSCRIPTION_ID);
        mqtt_put_varint(&put, id);
    }
    return refused != 0 ? refused : (ptrdiff_t)put.len;
}
