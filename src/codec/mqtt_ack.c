/* mqtt_ack.c - the packets that consist of a reason: PUBACK, PUBREC, PUBREL,
 * PUBCOMP, DISCONNECT, AUTH, and the empty PINGREQ and PINGRESP; see mqtt.h.
 *
 * In 5.0 all of them may leave away properties if there are none, and the reason
 * too if it is success.  The encoders always write the shortest form.
 */
#include "codec/mqtt_internal.h"

/* Tables 3-4 and 3-5. */
static const struct mqtt_reasons puback_reasons = {
    .low = 1u << 0x00 | 1u << 0x10,
    .high = MQTT_HIGH(0x80) | MQTT_HIGH(0x83) | MQTT_HIGH(0x87) | MQTT_HIGH(0x90) |
            MQTT_HIGH(0x91) | MQTT_HIGH(0x97) | MQTT_HIGH(0x99),
};
/* Tables 3-6 and 3-7. */
static const struct mqtt_reasons pubrel_reasons = {
    .low = 1u << 0x00,
    .high = MQTT_HIGH(0x92),
};
/* Table 3-10.  0x00 is listed for the client only, yet 3.14.2.1 lets either side
 * leave the code away when it is 0x00, so it is taken from both.
 */
#define DISCONNECT_HIGH_BOTH                                                                   \
    (MQTT_HIGH(0x80) | MQTT_HIGH(0x81) | MQTT_HIGH(0x82) | MQTT_HIGH(0x83) | MQTT_HIGH(0x90) | \
     MQTT_HIGH(0x93) | MQTT_HIGH(0x94) | MQTT_HIGH(0x95) | MQTT_HIGH(0x96) | MQTT_HIGH(0x97) | \
     MQTT_HIGH(0x98) | MQTT_HIGH(0x99))
static const struct mqtt_reasons disconnect_reasons_client = {
    .low = 1u << 0x00 | 1u << 0x04,
    .high = DISCONNECT_HIGH_BOTH,
};
/* 0x8C is missing in Table 3-10, but Table 2-6 gives it to DISCONNECT: a failed
 * re-authentication ends with it (4.12.1).
 */
static const struct mqtt_reasons disconnect_reasons_server = {
    .low = 1u << 0x00,
    .high = DISCONNECT_HIGH_BOTH | MQTT_HIGH(0x87) | MQTT_HIGH(0x89) | MQTT_HIGH(0x8B) |
            MQTT_HIGH(0x8C) | MQTT_HIGH(0x8D) | MQTT_HIGH(0x8E) | MQTT_HIGH(0x8F) |
            MQTT_HIGH(0x9A) | MQTT_HIGH(0x9B) | MQTT_HIGH(0x9C) | MQTT_HIGH(0x9D) |
            MQTT_HIGH(0x9E) | MQTT_HIGH(0x9F) | MQTT_HIGH(0xA0) | MQTT_HIGH(0xA1) | MQTT_HIGH(0xA2),
};
/* Table 3-11. */
static const struct mqtt_reasons auth_reasons_client = {.low = 1u << 0x18 | 1u << 0x19};
static const struct mqtt_reasons auth_reasons_server = {.low = 1u << 0x00 | 1u << 0x18};

static bool ack_is_type(uint8_t type)
{
    return type >= MR_MQTT_PUBACK && type <= MR_MQTT_PUBCOMP;
}

/* Reason and properties, either of which may have been left away, up to the end. */
static enum mr_err ack_reason(struct mr_take *take, uint8_t type, struct mr_mqtt_mode mode,
                              uint8_t *reason, struct mr_mqtt_props *props, struct mr_mqtt_why *why)
{
    if (mode.version == MR_MQTT_5 && mr_take_left(take) != 0) {
        *reason = mr_take_u8(take);
        if (mr_take_left(take) != 0) {
            enum mr_err err = mqtt_take_props(take, type, mode, props, NULL, why);
            if (err != MR_OK) {
                return err;
            }
        }
    }
    return mr_take_left(take) == 0 ? MR_OK : mqtt_malformed(why, "packet with trailing bytes");
}

static void ack_put_reason(struct mqtt_put *put, uint8_t type, uint8_t reason,
                           const struct mr_mqtt_props *props, uint8_t version)
{
    if (version != MR_MQTT_5 || (reason == MR_MQTT_SUCCESS && props->present == 0)) {
        return;
    }
    mqtt_put_u8(put, reason);
    if (props->present != 0) {
        mqtt_put_props(put, props, type);
    }
}

enum mr_err mr_mqtt_ack_decode(const struct mr_mqtt_frame *frame, struct mr_mqtt_mode mode,
                               struct mr_mqtt_ack *out, struct mr_mqtt_why *why)
{
    struct mr_take take = mr_take_from(frame->body);

    mr_assert(ack_is_type(frame->type));
    *out = (struct mr_mqtt_ack){.type = frame->type};
    enum mr_err err = mqtt_begin(frame, mode.version, why);
    if (err != MR_OK) {
        return err;
    }
    out->packet_id = mqtt_take_u16(&take);
    if (take.failed) {
        return mqtt_malformed(why, "acknowledgement without packet identifier");
    }
    if (out->packet_id == 0) { /* [MQTT-2.2.1-5]: no PUBLISH can have had it */
        return mqtt_protocol_error(why, "acknowledgement with packet identifier 0");
    }
    err = ack_reason(&take, frame->type, mode, &out->reason, &out->props, why);
    if (err != MR_OK) {
        return err;
    }
    /* [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1] */
    bool is_first = frame->type == MR_MQTT_PUBACK || frame->type == MR_MQTT_PUBREC;
    if (!mqtt_reason_in(is_first ? puback_reasons : pubrel_reasons, out->reason)) {
        return mqtt_protocol_error(why, "acknowledgement with a reason code of another packet");
    }
    return MR_OK;
}

static void ack_body(struct mqtt_put *put, const void *packet, uint8_t version)
{
    const struct mr_mqtt_ack *ack = packet;

    mqtt_put_u16(put, ack->packet_id);
    ack_put_reason(put, ack->type, ack->reason, &ack->props, version);
}

size_t mr_mqtt_ack_size(const struct mr_mqtt_ack *packet, uint8_t version)
{
    return mqtt_packet_size(ack_body, packet, version);
}

ptrdiff_t mr_mqtt_ack_encode(const struct mr_mqtt_ack *packet, uint8_t version, uint8_t *out,
                             size_t out_size)
{
    mr_assert(ack_is_type(packet->type));
    uint8_t first = (uint8_t)(packet->type << 4 | (packet->type == MR_MQTT_PUBREL ? 2 : 0));
    return mqtt_packet_encode(first, ack_body, packet, version, out, out_size);
}

enum mr_err mr_mqtt_ping_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                struct mr_mqtt_why *why)
{
    mr_assert(frame->type == MR_MQTT_PINGREQ || frame->type == MR_MQTT_PINGRESP);
    if (frame->body.len != 0) { /* 3.12, 3.13: remaining length is 0 */
        return mqtt_malformed(why, "ping with trailing bytes");
    }
    return mqtt_begin(frame, version, why);
}

static bool disconnect_may_say(uint8_t type, enum mr_mqtt_side from, uint8_t reason)
{
    const bool is_client = from == MR_MQTT_FROM_CLIENT;

    if (type == MR_MQTT_AUTH) {
        return mqtt_reason_in(is_client ? auth_reasons_client : auth_reasons_server, reason);
    }
    return mqtt_reason_in(is_client ? disconnect_reasons_client : disconnect_reasons_server,
                          reason);
}

enum mr_err mr_mqtt_disconnect_decode(const struct mr_mqtt_frame *frame, struct mr_mqtt_mode mode,
                                      struct mr_mqtt_disconnect *out, struct mr_mqtt_why *why)
{
    struct mr_take take = mr_take_from(frame->body);

    mr_assert(frame->type == MR_MQTT_DISCONNECT || frame->type == MR_MQTT_AUTH);
    *out = (struct mr_mqtt_disconnect){.type = frame->type};
    enum mr_err err = mqtt_begin(frame, mode.version, why);
    if (err != MR_OK) {
        return err;
    }
    if (mode.version != MR_MQTT_5) {
        if (frame->type == MR_MQTT_AUTH) { /* Table 2.1 of 3.1.1: type 15 is reserved */
            return mqtt_protocol_error(why, "AUTH before MQTT 5.0");
        }
        if (mode.from == MR_MQTT_FROM_SERVER) { /* 3.14 of 3.1.1 */
            return mqtt_protocol_error(why, "DISCONNECT from a server before MQTT 5.0");
        }
    }
    err = ack_reason(&take, frame->type, mode, &out->reason, &out->props, why);
    if (err != MR_OK) {
        return err;
    }
    if (!disconnect_may_say(frame->type, mode.from, out->reason)) { /* 3.14.2.1, 3.15.2.1 */
        return mqtt_protocol_error(why, "reason code that this side may not send here");
    }
    /* 3.15.2.2.2; without any content AUTH is the short form of success. */
    if (frame->type == MR_MQTT_AUTH && frame->body.len != 0 &&
        !mr_mqtt_has(&out->props, MR_MQTT_PROP_AUTH_METHOD)) {
        return mqtt_protocol_error(why, "AUTH without authentication method");
    }
    return MR_OK;
}

static void disconnect_body(struct mqtt_put *put, const void *packet, uint8_t version)
{
    const struct mr_mqtt_disconnect *disconnect = packet;

    put->failed |= disconnect->type == MR_MQTT_AUTH && version != MR_MQTT_5;
    ack_put_reason(put, disconnect->type, disconnect->reason, &disconnect->props, version);
}

size_t mr_mqtt_disconnect_size(const struct mr_mqtt_disconnect *packet, uint8_t version)
{
    return mqtt_packet_size(disconnect_body, packet, version);
}

ptrdiff_t mr_mqtt_disconnect_encode(const struct mr_mqtt_disconnect *packet, uint8_t version,
                                    uint8_t *out, size_t out_size)
{
    mr_assert(packet->type == MR_MQTT_DISCONNECT || packet->type == MR_MQTT_AUTH);
    return mqtt_packet_encode((uint8_t)(packet->type << 4), disconnect_body, packet, version, out,
                              out_size);
}
