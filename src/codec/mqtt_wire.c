/* mqtt_wire.c - see mqtt_wire.h and mqtt_internal.h for the contracts.
 *
 * DESIGN
 *
 * An encoder is one function that writes a body into a `struct mqtt_put`.  It
 * runs twice: the first time without memory, to learn the remaining length,
 * which stands in front of the body; the second time to write.
 *
 * Rejected: writing first and moving the body when the length turns out longer.
 * It saves the count but touches every payload byte twice, and needs room for
 * the longest header in every buffer.
 *
 * INVARIANTS
 *
 *   (1) Both runs of a body function advance `len` by the same amount; asserted.
 *   (2) A counting run never writes; a writing run never fails, because the
 *       counting run would have failed before it.
 */
#include "codec/mqtt_internal.h"

const char *mr_mqtt_type_name(uint8_t type)
{
    static const char *const names[] = {
        "?",       "CONNECT",  "CONNACK",    "PUBLISH", "PUBACK",      "PUBREC",
        "PUBREL",  "PUBCOMP",  "SUBSCRIBE",  "SUBACK",  "UNSUBSCRIBE", "UNSUBACK",
        "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
    };
    return type < MR_COUNT_OF(names) ? names[type] : "?";
}

const char *mr_mqtt_reason_name(uint8_t reason)
{
    static const char *const failures[] = {
        "unspecified error",
        "malformed packet",
        "protocol error",
        "implementation specific error",
        "unsupported protocol version",
        "client identifier not valid",
        "bad user name or password",
        "not authorized",
        "server unavailable",
        "server busy",
        "banned",
        "server shutting down",
        "bad authentication method",
        "keep alive timeout",
        "session taken over",
        "topic filter invalid",
        "topic name invalid",
        "packet identifier in use",
        "packet identifier not found",
        "receive maximum exceeded",
        "topic alias invalid",
        "packet too large",
        "message rate too high",
        "quota exceeded",
        "administrative action",
        "payload format invalid",
        "retain not supported",
        "QoS not supported",
        "use another server",
        "server moved",
        "shared subscriptions not supported",
        "connection rate exceeded",
        "maximum connect time",
        "subscription identifiers not supported",
        "wildcard subscriptions not supported",
    };
    _Static_assert(MR_COUNT_OF(failures) == MR_MQTT_WILDCARD_NOT_SUPPORTED - 0x80 + 1,
                   "one name for each failure of Table 2-6");

    if (reason >= 0x80) {
        unsigned index = reason - 0x80u;
        return index < MR_COUNT_OF(failures) ? failures[index] : "unknown reason";
    }
    switch (reason) {
    case MR_MQTT_SUCCESS:
        return "success";
    case MR_MQTT_GRANTED_QOS1:
        return "granted QoS 1";
    case MR_MQTT_GRANTED_QOS2:
        return "granted QoS 2";
    case MR_MQTT_DISCONNECT_WITH_WILL:
        return "disconnect with will message";
    case MR_MQTT_NO_MATCHING_SUBSCRIBERS:
        return "no matching subscribers";
    case MR_MQTT_NO_SUBSCRIPTION_EXISTED:
        return "no subscription existed";
    case MR_MQTT_CONTINUE_AUTHENTICATION:
        return "continue authentication";
    case MR_MQTT_REAUTHENTICATE:
        return "re-authenticate";
    default:
        return "unknown reason";
    }
}

enum mr_err mqtt_begin(const struct mr_mqtt_frame *frame, uint8_t version, struct mr_mqtt_why *why)
{
    /* [MQTT-1.5.5-1]; 3.x has no such rule. */
    if (frame->padded && version == MR_MQTT_5) {
        return mqtt_malformed(why, "remaining length not in its shortest form");
    }
    /* [MQTT-2.1.3-1]; only 3.1 marks a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE. */
    if (frame->type != MR_MQTT_PUBLISH && (frame->flags & 8) != 0 && version != MR_MQTT_31) {
        return mqtt_malformed(why, "reserved flags of fixed header");
    }
    return MR_OK;
}

uint32_t mqtt_take_varint(struct mr_take *take)
{
    uint32_t v = 0;

    for (unsigned shift = 0; shift <= 21; shift += 7) {
        uint8_t byte = mr_take_u8(take);
        v |= (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            take->failed |= byte == 0 && shift != 0;
            return take->failed ? 0 : v;
        }
    }
    take->failed = true;
    return 0;
}

void mqtt_put_varint(struct mqtt_put *put, uint32_t v)
{
    put->failed |= v > MR_MQTT_LENGTH_MAX;
    while (v >= 0x80) {
        mqtt_put_u8(put, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    mqtt_put_u8(put, (uint8_t)v);
}

static struct mqtt_put wire_count(mqtt_body_fn *body, const void *packet, uint8_t version,
                                  uint32_t *body_bytes)
{
    struct mqtt_put count = {0};

    body(&count, packet, version);
    count.failed |= count.len > MR_MQTT_LENGTH_MAX;
    *body_bytes = count.failed ? 0 : (uint32_t)count.len;
    mqtt_put_u8(&count, 0); /* the first byte */
    mqtt_put_varint(&count, *body_bytes);
    return count;
}

size_t mqtt_packet_size(mqtt_body_fn *body, const void *packet, uint8_t version)
{
    uint32_t body_bytes;
    return wire_count(body, packet, version, &body_bytes).len;
}

ptrdiff_t mqtt_packet_encode(uint8_t first_byte, mqtt_body_fn *body, const void *packet,
                             uint8_t version, uint8_t *out, size_t out_size)
{
    uint32_t body_bytes;
    struct mqtt_put count = wire_count(body, packet, version, &body_bytes);
    ptrdiff_t refused = mqtt_put_check(&count, out_size);

    if (refused != 0) {
        return refused;
    }
    struct mqtt_put put = {.at = out};
    mqtt_put_u8(&put, first_byte);
    mqtt_put_varint(&put, body_bytes);
    body(&put, packet, version);
    mr_assert(put.len == count.len);
    return (ptrdiff_t)put.len;
}
