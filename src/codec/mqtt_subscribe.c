/* mqtt_subscribe.c - SUBSCRIBE, UNSUBSCRIBE and their acknowledgements; see
 * mqtt.h for the contract.
 *
 * The decoders walk the whole list once with the same reading functions that the
 * iterators use afterwards, so an iterator over a decoded packet cannot fail.
 */
#include "codec/mqtt_internal.h"
#include "codec/topic.h"

/* Bits of the subscription options (3.8.3.1). */
enum {
    OPTION_QOS = 0x03,
    OPTION_NO_LOCAL = 0x04,
    OPTION_RETAIN_AS_PUBLISHED = 0x08,
    OPTION_RETAIN_HANDLING = 0x30,
    OPTION_RETAIN_HANDLING_SHIFT = 4,
    OPTION_RESERVED = 0xc0,
    OPTION_RESERVED_V3 = 0xfc,
};

/* Packet identifier and properties: the same in all four packets. */
static enum mr_err subscribe_head(struct mr_take *take, uint8_t type, struct mr_mqtt_mode mode,
                                  uint16_t *packet_id, struct mr_mqtt_props *props,
                                  struct mr_mqtt_why *why)
{
    *packet_id = mqtt_take_u16(take);
    if (take->failed) {
        return mqtt_malformed(why, "packet identifier missing");
    }
    if (*packet_id == 0) { /* [MQTT-2.2.1-3] */
        return mqtt_protocol_error(why, "packet identifier 0");
    }
    /* UNSUBACK of 3.x ends here, and has no properties. */
    return mqtt_take_props(take, type, mode, props, NULL, why);
}

/* One filter of either packet. */
static enum mr_err subscribe_filter(struct mr_take *take, struct mr_span *filter, bool *is_shared,
                                    struct mr_mqtt_why *why)
{
    struct mr_span group;
    struct mr_span inner;

    *filter = mqtt_take_binary(take);
    if (take->failed) {
        return mqtt_malformed(why, "topic filter cut short");
    }
    if (!mr_utf8_valid(*filter)) { /* [MQTT-3.8.3-1], [MQTT-3.10.3-1] */
        return mqtt_malformed(why, "topic filter is not valid UTF-8 or contains U+0000");
    }
    enum mr_err shared = mr_topic_share_split(*filter, &group, &inner);
    *is_shared = shared == MR_OK;
    /* [MQTT-4.8.2-1], [MQTT-4.8.2-2]: a code in the SUBACK refuses it and takes no other filter
     * with it; no subscription ever has it.
     */
    const char *fault = shared == MR_ERR_REJECT ? NULL : mr_topic_filter_fault(*filter);
    if (fault != NULL) { /* [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1] */
        return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_TOPIC_FILTER_INVALID, fault);
    }
    return MR_OK;
}

static enum mr_err subscribe_options(uint8_t options, bool is_shared, uint8_t version,
                                     struct mr_mqtt_why *why)
{
    const uint8_t reserved = version == MR_MQTT_5 ? OPTION_RESERVED : OPTION_RESERVED_V3;

    if ((options & reserved) != 0) { /* [MQTT-3.8.3-5], [3.1.1: MQTT-3.8.3-4] */
        return mqtt_malformed(why, "SUBSCRIBE with reserved option bits");
    }
    if ((options & OPTION_QOS) == 3) { /* 3.8.3.1, [3.1.1: MQTT-3.8.3-4] */
        return mqtt_protocol_error(why, "SUBSCRIBE with QoS 3");
    }
    if ((options & OPTION_RETAIN_HANDLING) == OPTION_RETAIN_HANDLING) { /* 3.8.3.1 */
        return mqtt_protocol_error(why, "SUBSCRIBE with retain handling 3");
    }
    if ((options & OPTION_NO_LOCAL) != 0 && is_shared) { /* [MQTT-3.8.3-4] */
        return mqtt_protocol_error(why, "No Local on a shared subscription");
    }
    return MR_OK;
}

static enum mr_err subscribe_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                    struct mr_mqtt_subscribe *out, struct mr_mqtt_why *why)
{
    const struct mr_mqtt_mode mode = {.version = version, .from = MR_MQTT_FROM_CLIENT};
    struct mr_take take = mr_take_from(frame->body);

    *out = (struct mr_mqtt_subscribe){0};
    enum mr_err err = mqtt_begin(frame, version, why);
    if (err == MR_OK) {
        err = subscribe_head(&take, frame->type, mode, &out->packet_id, &out->props, why);
    }
    if (err != MR_OK) {
        return err;
    }
    out->raw = (struct mr_span){.at = take.at, .len = mr_take_left(&take)};
    if (out->raw.len == 0) { /* [MQTT-3.8.3-2], [MQTT-3.10.3-2] */
        return mqtt_protocol_error(why, "no topic filter");
    }
    while (mr_take_left(&take) != 0) {
        struct mr_span filter;
        bool is_shared;
        err = subscribe_filter(&take, &filter, &is_shared, why);
        if (err == MR_OK && frame->type == MR_MQTT_SUBSCRIBE) {
            uint8_t options = mr_take_u8(&take);
            err = take.failed ? mqtt_malformed(why, "topic filter without options")
                              : subscribe_options(options, is_shared, version, why);
        }
        if (err != MR_OK) {
            return err;
        }
        out->filter_count += 1;
    }
    return MR_OK;
}

enum mr_err mr_mqtt_subscribe_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                     struct mr_mqtt_subscribe *out, struct mr_mqtt_why *why)
{
    mr_assert(frame->type == MR_MQTT_SUBSCRIBE);
    return subscribe_decode(frame, version, out, why);
}

enum mr_err mr_mqtt_unsubscribe_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                       struct mr_mqtt_subscribe *out, struct mr_mqtt_why *why)
{
    mr_assert(frame->type == MR_MQTT_UNSUBSCRIBE);
    return subscribe_decode(frame, version, out, why);
}

bool mr_mqtt_subscription_next(struct mr_span *rest, struct mr_mqtt_subscription *out)
{
    if (rest->len == 0) {
        return false;
    }
    struct mr_take take = mr_take_from(*rest);
    out->filter = mqtt_take_binary(&take);
    uint8_t options = mr_take_u8(&take);
    out->qos = options & OPTION_QOS;
    out->no_local = (options & OPTION_NO_LOCAL) != 0;
    out->retain_as_published = (options & OPTION_RETAIN_AS_PUBLISHED) != 0;
    out->retain_handling = options >> OPTION_RETAIN_HANDLING_SHIFT & 3;
    *rest = (struct mr_span){.at = take.at, .len = mr_take_left(&take)};
    return !take.failed;
}

bool mr_mqtt_unsubscription_next(struct mr_span *rest, struct mr_span *filter)
{
    if (rest->len == 0) {
        return false;
    }
    struct mr_take take = mr_take_from(*rest);
    *filter = mqtt_take_binary(&take);
    *rest = (struct mr_span){.at = take.at, .len = mr_take_left(&take)};
    return !take.failed;
}

ptrdiff_t mr_mqtt_subscription_put(const struct mr_mqtt_subscription *subscription, uint8_t *out,
                                   size_t out_size)
{
    unsigned options = subscription->qos | (unsigned)subscription->retain_handling
                                               << OPTION_RETAIN_HANDLING_SHIFT;
    options |= subscription->no_local ? OPTION_NO_LOCAL : 0;
    options |= subscription->retain_as_published ? OPTION_RETAIN_AS_PUBLISHED : 0;

    ptrdiff_t bytes = mr_mqtt_unsubscription_put(subscription->filter, out, out_size);
    if (bytes < 0) {
        return bytes;
    }
    if ((size_t)bytes == out_size) {
        return MR_ERR_FULL;
    }
    out[bytes] = (uint8_t)options;
    return bytes + 1;
}

ptrdiff_t mr_mqtt_unsubscription_put(struct mr_span filter, uint8_t *out, size_t out_size)
{
    struct mqtt_put put = {.at = out};

    if (filter.len > UINT16_MAX) {
        return MR_ERR_REJECT;
    }
    if (filter.len + 2 > out_size) {
        return MR_ERR_FULL;
    }
    mqtt_put_binary(&put, filter);
    return (ptrdiff_t)put.len;
}

static void subscribe_put(struct mqtt_put *put, const struct mr_mqtt_subscribe *packet,
                          uint8_t version, enum mr_mqtt_type type)
{
    mqtt_put_u16(put, packet->packet_id);
    if (version == MR_MQTT_5) {
        mqtt_put_props(put, &packet->props, type);
    }
    mqtt_put_bytes(put, packet->raw);
}

static void subscribe_body(struct mqtt_put *put, const void *packet, uint8_t version)
{
    subscribe_put(put, packet, version, MR_MQTT_SUBSCRIBE);
}

static void unsubscribe_body(struct mqtt_put *put, const void *packet, uint8_t version)
{
    subscribe_put(put, packet, version, MR_MQTT_UNSUBSCRIBE);
}

size_t mr_mqtt_subscribe_size(const struct mr_mqtt_subscribe *packet, uint8_t version)
{
    return mqtt_packet_size(subscribe_body, packet, version);
}

ptrdiff_t mr_mqtt_subscribe_encode(const struct mr_mqtt_subscribe *packet, uint8_t version,
                                   uint8_t *out, size_t out_size)
{
    return mqtt_packet_encode(MR_MQTT_SUBSCRIBE << 4 | 2, subscribe_body, packet, version, out,
                              out_size);
}

size_t mr_mqtt_unsubscribe_size(const struct mr_mqtt_subscribe *packet, uint8_t version)
{
    return mqtt_packet_size(unsubscribe_body, packet, version);
}

ptrdiff_t mr_mqtt_unsubscribe_encode(const struct mr_mqtt_subscribe *packet, uint8_t version,
                                     uint8_t *out, size_t out_size)
{
    return mqtt_packet_encode(MR_MQTT_UNSUBSCRIBE << 4 | 2, unsubscribe_body, packet, version, out,
                              out_size);
}

/* Tables 3-8 and 3-9. */
static const struct mqtt_reasons suback_reasons = {
    .low = 1u << 0x00 | 1u << 0x01 | 1u << 0x02,
    .high = MQTT_HIGH(0x80) | MQTT_HIGH(0x83) | MQTT_HIGH(0x87) | MQTT_HIGH(0x8F) |
            MQTT_HIGH(0x91) | MQTT_HIGH(0x97) | MQTT_HIGH(0x9E) | MQTT_HIGH(0xA1) | MQTT_HIGH(0xA2),
};
static const struct mqtt_reasons unsuback_reasons = {
    .low = 1u << 0x00 | 1u << 0x11,
    .high = MQTT_HIGH(0x80) | MQTT_HIGH(0x83) | MQTT_HIGH(0x87) | MQTT_HIGH(0x8F) | MQTT_HIGH(0x91),
};
/* [3.1.1: MQTT-3.9.3-2] */
static const struct mqtt_reasons suback_reasons_v3 = {
    .low = 1u << 0x00 | 1u << 0x01 | 1u << 0x02,
    .high = MQTT_HIGH(0x80),
};

static enum mr_err suback_codes(struct mr_span codes, uint8_t type, uint8_t version,
                                struct mr_mqtt_why *why)
{
    const bool is_v5 = version == MR_MQTT_5;

    if (type == MR_MQTT_UNSUBACK && !is_v5) {
        return codes.len == 0 ? MR_OK : mqtt_malformed(why, "UNSUBACK with trailing bytes");
    }
    if (codes.len == 0) {
        return mqtt_malformed(why, "acknowledgement without codes");
    }
    struct mqtt_reasons allowed = type == MR_MQTT_UNSUBACK ? unsuback_reasons
                                  : is_v5                  ? suback_reasons
                                                           : suback_reasons_v3;
    for (size_t i = 0; i < codes.len; i++) {
        if (!mqtt_reason_in(allowed, codes.at[i])) { /* [MQTT-3.9.3-2], [MQTT-3.11.3-2] */
            return mqtt_protocol_error(why, "acknowledgement with a code of another packet");
        }
    }
    return MR_OK;
}

enum mr_err mr_mqtt_suback_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                  struct mr_mqtt_suback *out, struct mr_mqtt_why *why)
{
    const struct mr_mqtt_mode mode = {.version = version, .from = MR_MQTT_FROM_SERVER};
    struct mr_take take = mr_take_from(frame->body);

    mr_assert(frame->type == MR_MQTT_SUBACK || frame->type == MR_MQTT_UNSUBACK);
    *out = (struct mr_mqtt_suback){.type = frame->type};
    enum mr_err err = mqtt_begin(frame, version, why);
    if (err == MR_OK) {
        err = subscribe_head(&take, frame->type, mode, &out->packet_id, &out->props, why);
    }
    if (err != MR_OK) {
        return err;
    }
    out->codes = mqtt_take_rest(&take);
    return suback_codes(out->codes, frame->type, version, why);
}

static void suback_body(struct mqtt_put *put, const void *packet, uint8_t version)
{
    const struct mr_mqtt_suback *suback = packet;

    mqtt_put_u16(put, suback->packet_id);
    if (version == MR_MQTT_5) {
        mqtt_put_props(put, &suback->props, suback->type);
        mqtt_put_bytes(put, suback->codes);
        return;
    }
    if (suback->type == MR_MQTT_UNSUBACK) {
        return;
    }
    for (size_t i = 0; i < suback->codes.len; i++) {
        uint8_t code = suback->codes.at[i];
        mqtt_put_u8(put, code >= 0x80 ? (uint8_t)MR_MQTT_UNSPECIFIED : code);
    }
}

size_t mr_mqtt_suback_size(const struct mr_mqtt_suback *packet, uint8_t version)
{
    return mqtt_packet_size(suback_body, packet, version);
}

ptrdiff_t mr_mqtt_suback_encode(const struct mr_mqtt_suback *packet, uint8_t version, uint8_t *out,
                                size_t out_size)
{
    mr_assert(packet->type == MR_MQTT_SUBACK || packet->type == MR_MQTT_UNSUBACK);
    return mqtt_packet_encode((uint8_t)(packet->type << 4), suback_body, packet, version, out,
                              out_size);
}
