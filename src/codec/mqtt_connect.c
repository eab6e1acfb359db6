/* mqtt_connect.c - CONNECT and CONNACK; see mqtt.h for the contract.
 *
 * The first packet of a connection comes from anybody, so it is the most strictly
 * read one.  Its fields are taken in the order of the specification; each step
 * is a function that stops at the first fault.
 */
#include "codec/mqtt_internal.h"
#include "codec/topic.h"

/* Bits of the connect flags (3.1.2.3). */
enum {
    CONNECT_RESERVED = 0x01,
    CONNECT_CLEAN_START = 0x02,
    CONNECT_WILL = 0x04,
    CONNECT_WILL_QOS = 0x18,
    CONNECT_WILL_QOS_SHIFT = 3,
    CONNECT_WILL_RETAIN = 0x20,
    CONNECT_PASSWORD = 0x40,
    CONNECT_USERNAME = 0x80,
};

/* Protocol name and level.  3.1 calls itself MQIsdp; a name with the other's
 * level is nobody's protocol.
 */
static enum mr_err connect_version(struct mr_take *take, struct mr_mqtt_connect *out,
                                   struct mr_mqtt_why *why)
{
    struct mr_span name = mqtt_take_binary(take);

    if (take->failed) {
        return mqtt_malformed(why, "CONNECT cut short in its protocol name");
    }
    bool is_mqtt = mr_span_is(name, "MQTT");
    out->version = mr_take_u8(take);
    if (take->failed) {
        return mqtt_malformed(why, "CONNECT without protocol level");
    }
    if (!is_mqtt && !mr_span_is(name, "MQIsdp")) { /* [MQTT-3.1.2-1] */
        return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_UNSUPPORTED_VERSION,
                           "CONNECT with an unknown protocol name");
    }
    bool known = is_mqtt ? out->version == MR_MQTT_311 || out->version == MR_MQTT_5
                         : out->version == MR_MQTT_31;
    if (!known) { /* [MQTT-3.1.2-2] */
        return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_UNSUPPORTED_VERSION,
                           "CONNECT with an unsupported protocol level");
    }
    return MR_OK;
}

static enum mr_err connect_flags(struct mr_take *take, struct mr_mqtt_connect *out,
                                 struct mr_mqtt_why *why)
{
    const uint8_t flags = mr_take_u8(take);

    out->keep_alive_s = mqtt_take_u16(take);
    if (take->failed) {
        return mqtt_malformed(why, "CONNECT cut short in flags or keep alive");
    }
    /* [MQTT-3.1.2-3]; 3.1 leaves the bit undefined. */
    if ((flags & CONNECT_RESERVED) != 0 && out->version != MR_MQTT_31) {
        return mqtt_malformed(why, "CONNECT with reserved flag");
    }
    out->clean_start = (flags & CONNECT_CLEAN_START) != 0;
    out->has_will = (flags & CONNECT_WILL) != 0;
    out->will_qos = (flags & CONNECT_WILL_QOS) >> CONNECT_WILL_QOS_SHIFT;
    out->will_retain = (flags & CONNECT_WILL_RETAIN) != 0;
    out->has_password = (flags & CONNECT_PASSWORD) != 0;
    out->has_username = (flags & CONNECT_USERNAME) != 0;
    if (out->will_qos == 3) { /* [MQTT-3.1.2-12] */
        return mqtt_malformed(why, "CONNECT with will QoS 3");
    }
    if (!out->has_will && out->will_qos != 0) { /* [MQTT-3.1.2-11] */
        return mqtt_protocol_error(why, "CONNECT with will QoS but no will");
    }
    if (!out->has_will && out->will_retain) { /* [MQTT-3.1.2-13] */
        return mqtt_protocol_error(why, "CONNECT with will retain but no will");
    }
    /* [3.1.1: MQTT-3.1.2-22]; 5.0 allows a password alone (3.1.2.9). */
    if (out->has_password && !out->has_username && out->version != MR_MQTT_5) {
        return mqtt_protocol_error(why, "CONNECT with password but no user name");
    }
    return MR_OK;
}

static enum mr_err connect_client_id(struct mr_take *take, struct mr_mqtt_connect *out,
                                     struct mr_mqtt_why *why)
{
    out->client_id = mqtt_take_binary(take);
    if (take->failed) { /* [MQTT-3.1.3-3] */
        return mqtt_malformed(why, "CONNECT cut short in its client id");
    }
    if (!mr_utf8_valid(out->client_id)) { /* [MQTT-3.1.3-4] */
        return mqtt_malformed(why, "client id is not valid UTF-8 or contains U+0000");
    }
    /* An empty one asks the server to assign one: in 3.1.1 only for a session
     * that ends with the connection [3.1.1: MQTT-3.1.3-8], in 3.1 never.
     */
    if (out->client_id.len == 0 &&
        (out->version == MR_MQTT_31 || (out->version == MR_MQTT_311 && !out->clean_start))) {
        return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_CLIENT_ID_INVALID,
                           "empty client id where the version needs one");
    }
    return MR_OK;
}

static enum mr_err connect_will(struct mr_take *take, struct mr_mqtt_connect *out,
                                struct mr_mqtt_why *why)
{
    const struct mr_mqtt_mode mode = {.version = out->version, .from = MR_MQTT_FROM_CLIENT};

    if (!out->has_will) {
        return MR_OK;
    }
    enum mr_err err =
        mqtt_take_props(take, MR_MQTT_WILL, mode, &out->will_props, &out->will_props_raw, why);
    if (err != MR_OK) {
        return err;
    }
    out->will_topic = mqtt_take_binary(take);
    out->will_payload = mqtt_take_binary(take);
    if (take->failed) { /* [MQTT-3.1.2-9] */
        return mqtt_malformed(why, "CONNECT cut short in its will");
    }
    if (!mr_utf8_valid(out->will_topic)) { /* [MQTT-3.1.3-11] */
        return mqtt_malformed(why, "will topic is not valid UTF-8 or contains U+0000");
    }
    if (!mr_topic_name_valid(out->will_topic)) { /* [MQTT-4.7.0-1], [MQTT-4.7.3-1] */
        return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_TOPIC_NAME_INVALID,
                           "will topic is empty or contains a wildcard");
    }
    return MR_OK;
}

static enum mr_err connect_credentials(struct mr_take *take, struct mr_mqtt_connect *out,
                                       struct mr_mqtt_why *why)
{
    if (out->has_username) { /* [MQTT-3.1.2-17] */
        out->username = mqtt_take_binary(take);
    }
    if (out->has_password) { /* [MQTT-3.1.2-19] */
        out->password = mqtt_take_binary(take);
    }
    if (take->failed) {
        return mqtt_malformed(why, "CONNECT cut short in user name or password");
    }
    if (!mr_utf8_valid(out->username)) { /* [MQTT-3.1.3-12] */
        return mqtt_malformed(why, "user name is not valid UTF-8 or contains U+0000");
    }
    if (mr_take_left(take) != 0) { /* [MQTT-3.1.2-16], [MQTT-3.1.2-18] */
        return mqtt_malformed(why, "CONNECT with trailing bytes");
    }
    return MR_OK;
}

enum mr_err mr_mqtt_connect_decode(const struct mr_mqtt_frame *frame, struct mr_mqtt_connect *out,
                                   struct mr_mqtt_why *why)
{
    struct mr_take take = mr_take_from(frame->body);

    mr_assert(frame->type == MR_MQTT_CONNECT);
    *out = (struct mr_mqtt_connect){0};
    enum mr_err err = connect_version(&take, out, why);
    if (err == MR_OK) {
        err = mqtt_begin(frame, out->version, why);
    }
    if (err == MR_OK) {
        err = connect_flags(&take, out, why);
    }
    if (err == MR_OK) {
        struct mr_mqtt_mode mode = {.version = out->version, .from = MR_MQTT_FROM_CLIENT};
        err = mqtt_take_props(&take, MR_MQTT_CONNECT, mode, &out->props, NULL, why);
    }
    if (err == MR_OK && mr_mqtt_has(&out->props, MR_MQTT_PROP_AUTH_DATA) &&
        !mr_mqtt_has(&out->props, MR_MQTT_PROP_AUTH_METHOD)) { /* 3.1.2.11.10 */
        err = mqtt_protocol_error(why, "authentication data without authentication method");
    }
    /* The payload's order is fixed [MQTT-3.1.3-1]. */
    if (err == MR_OK) {
        err = connect_client_id(&take, out, why);
    }
    if (err == MR_OK) {
        err = connect_will(&take, out, why);
    }
    if (err == MR_OK) {
        err = connect_credentials(&take, out, why);
    }
    return err;
}

static void connect_body(struct mqtt_put *put, const void *packet, uint8_t version)
{
    const struct mr_mqtt_connect *connect = packet;
    unsigned flags = 0;

    if (connect->has_will) {
        flags |= CONNECT_WILL | (unsigned)connect->will_qos << CONNECT_WILL_QOS_SHIFT |
                 (connect->will_retain ? CONNECT_WILL_RETAIN : 0);
    }
    flags |= connect->clean_start ? CONNECT_CLEAN_START : 0;
    flags |= connect->has_username ? CONNECT_USERNAME : 0;
    flags |= connect->has_password ? CONNECT_PASSWORD : 0;

    mqtt_put_binary(put, mr_span_of(version == MR_MQTT_31 ? "MQIsdp" : "MQTT"));
    mqtt_put_u8(put, version);
    mqtt_put_u8(put, (uint8_t)flags);
    mqtt_put_u16(put, connect->keep_alive_s);
    if (version == MR_MQTT_5) {
        mqtt_put_props(put, &connect->props, MR_MQTT_CONNECT);
    }
    mqtt_put_binary(put, connect->client_id);
    if (connect->has_will) {
        if (version == MR_MQTT_5) {
            mqtt_put_props(put, &connect->will_props, MR_MQTT_WILL);
        }
        mqtt_put_binary(put, connect->will_topic);
        mqtt_put_binary(put, connect->will_payload);
    }
    if (connect->has_username) {
        mqtt_put_binary(put, connect->username);
    }
    if (connect->has_password) {
        mqtt_put_binary(put, connect->password);
    }
}

size_t mr_mqtt_connect_size(const struct mr_mqtt_connect *packet)
{
    return mqtt_packet_size(connect_body, packet, packet->version);
}

ptrdiff_t mr_mqtt_connect_encode(const struct mr_mqtt_connect *packet, uint8_t *out,
                                 size_t out_size)
{
    return mqtt_packet_encode(MR_MQTT_CONNECT << 4, connect_body, packet, packet->version, out,
                              out_size);
}

/* Table 3-1 of 3.1.1 against Table 3-1 of 5.0.  The index is the code of 3.x. */
static const uint8_t connack_reasons_v3[] = {
    MR_MQTT_SUCCESS,           MR_MQTT_UNSUPPORTED_VERSION,
    MR_MQTT_CLIENT_ID_INVALID, MR_MQTT_SERVER_UNAVAILABLE,
    MR_MQTT_BAD_CREDENTIALS,   MR_MQTT_NOT_AUTHORIZED,
};

uint8_t mr_mqtt_connack_code_v3(uint8_t reason)
{
    switch (reason) {
    case MR_MQTT_UNSUPPORTED_VERSION:
        return 1;
    case MR_MQTT_CLIENT_ID_INVALID:
        return 2;
    /* All of these say "not now": 3 is "the MQTT service is unavailable". */
    case MR_MQTT_SERVER_UNAVAILABLE:
    case MR_MQTT_SERVER_BUSY:
    case MR_MQTT_SERVER_SHUTTING_DOWN:
    case MR_MQTT_QUOTA_EXCEEDED:
    case MR_MQTT_USE_ANOTHER_SERVER:
    case MR_MQTT_SERVER_MOVED:
    case MR_MQTT_RATE_EXCEEDED:
        return 3;
    case MR_MQTT_BAD_CREDENTIALS:
    case MR_MQTT_BAD_AUTH_METHOD:
        return 4;
    case MR_MQTT_NOT_AUTHORIZED:
    case MR_MQTT_BANNED:
        return 5;
    default:
        return 0;
    }
}

/* Table 3-1. */
static const struct mqtt_reasons connack_reasons = {
    .low = 1,
    .high = MQTT_HIGH(0x80) | MQTT_HIGH(0x81) | MQTT_HIGH(0x82) | MQTT_HIGH(0x83) |
            MQTT_HIGH(0x84) | MQTT_HIGH(0x85) | MQTT_HIGH(0x86) | MQTT_HIGH(0x87) |
            MQTT_HIGH(0x88) | MQTT_HIGH(0x89) | MQTT_HIGH(0x8A) | MQTT_HIGH(0x8C) |
            MQTT_HIGH(0x90) | MQTT_HIGH(0x95) | MQTT_HIGH(0x97) | MQTT_HIGH(0x99) |
            MQTT_HIGH(0x9A) | MQTT_HIGH(0x9B) | MQTT_HIGH(0x9C) | MQTT_HIGH(0x9D) | MQTT_HIGH(0x9F),
};

static enum mr_err connack_reason(uint8_t code, uint8_t version, struct mr_mqtt_connack *out,
                                  struct mr_mqtt_why *why)
{
    if (version != MR_MQTT_5) {
        if (code >= MR_COUNT_OF(connack_reasons_v3)) {
            return mqtt_protocol_error(why, "CONNACK with a reserved return code");
        }
        out->reason = connack_reasons_v3[code];
        return MR_OK;
    }
    if (!mqtt_reason_in(connack_reasons, code)) { /* [MQTT-3.2.2-8] */
        return mqtt_protocol_error(why, "CONNACK with a reason code of another packet");
    }
    out->reason = code;
    return MR_OK;
}

enum mr_err mr_mqtt_connack_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                                   struct mr_mqtt_connack *out, struct mr_mqtt_why *why)
{
    const struct mr_mqtt_mode mode = {.version = version, .from = MR_MQTT_FROM_SERVER};
    struct mr_take take = mr_take_from(frame->body);

    mr_assert(frame->type == MR_MQTT_CONNACK);
    *out = (struct mr_mqtt_connack){0};
    enum mr_err err = mqtt_begin(frame, version, why);
    if (err != MR_OK) {
        return err;
    }
    uint8_t flags = mr_take_u8(&take);
    uint8_t code = mr_take_u8(&take);
    if (take.failed) {
        return mqtt_malformed(why, "CONNACK cut short");
    }
    if (version == MR_MQTT_31) {
        flags = 0; /* 3.1 knows no session present and leaves the byte undefined */
    }
    if ((flags & 0xfe) != 0) { /* [MQTT-3.2.2-1] */
        return mqtt_malformed(why, "CONNACK with reserved flags");
    }
    out->session_present = flags & 1;
    err = connack_reason(code, version, out, why);
    if (err != MR_OK) {
        return err;
    }
    if (out->session_present && out->reason != MR_MQTT_SUCCESS) { /* [MQTT-3.2.2-6] */
        return mqtt_protocol_error(why, "CONNACK refuses with session present");
    }
    err = mqtt_take_props(&take, MR_MQTT_CONNACK, mode, &out->props, NULL, why);
    if (err == MR_OK && mr_take_left(&take) != 0) {
        err = mqtt_malformed(why, "CONNACK with trailing bytes");
    }
    return err;
}

static void connack_body(struct mqtt_put *put, const void *packet, uint8_t version)
{
    const struct mr_mqtt_connack *connack = packet;

    mqtt_put_u8(put, connack->session_present && version != MR_MQTT_31);
    if (version == MR_MQTT_5) {
        mqtt_put_u8(put, connack->reason);
        mqtt_put_props(put, &connack->props, MR_MQTT_CONNACK);
        return;
    }
    uint8_t code = mr_mqtt_connack_code_v3(connack->reason);
    put->failed |= code == 0 && connack->reason != MR_MQTT_SUCCESS;
    mqtt_put_u8(put, code);
}

size_t mr_mqtt_connack_size(const struct mr_mqtt_connack *packet, uint8_t version)
{
    return mqtt_packet_size(connack_body, packet, version);
}

ptrdiff_t mr_mqtt_connack_encode(const struct mr_mqtt_connack *packet, uint8_t version,
                                 uint8_t *out, size_t out_size)
{
    return mqtt_packet_encode(MR_MQTT_CONNACK << 4, connack_body, packet, version, out, out_size);
}
