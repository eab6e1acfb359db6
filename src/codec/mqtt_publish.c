/* mqtt_publish.c - see mqtt_publish.h for the contract.
 *
 * The decoder here repeats every check of the inline one, in an order that
 * names the first fault a reader of the specification would name.
 */
#include "codec/mqtt_internal.h"
#include "codec/topic.h"

/* The topic field; empty is judged later, when the alias is known. */
static enum mr_err publish_topic(struct mr_take *take, struct mr_span *topic,
                                 struct mr_mqtt_why *why)
{
    *topic = mqtt_take_binary(take);
    if (take->failed) {
        return mqtt_malformed(why, "PUBLISH cut short in its topic");
    }
    if (!mr_utf8_valid(*topic)) { /* [MQTT-3.3.2-1], [MQTT-1.5.4-1], [MQTT-1.5.4-2] */
        return mqtt_malformed(why, "PUBLISH topic is not valid UTF-8 or contains U+0000");
    }
    if (mr_topic_has_wildcard(*topic)) { /* [MQTT-3.3.2-2] */
        return mqtt_refuse(why, MR_ERR_REJECT, MR_MQTT_TOPIC_NAME_INVALID,
                           "PUBLISH topic contains a wildcard");
    }
    return MR_OK;
}

enum mr_err mr_mqtt_publish_decode_full(const struct mr_mqtt_frame *frame, struct mr_mqtt_mode mode,
                                        struct mr_mqtt_publish *out, struct mr_mqtt_why *why)
{
    struct mr_take take = mr_take_from(frame->body);

    mr_assert(frame->type == MR_MQTT_PUBLISH);
    enum mr_err err = mqtt_begin(frame, mode.version, why);
    if (err != MR_OK) {
        return err;
    }
    out->qos = frame->flags >> 1 & 3;
    out->dup = frame->flags >> 3;
    out->retain = frame->flags & 1;
    out->props_verbatim = false;
    out->packet_id = 0;
    if (out->qos == 3) { /* [MQTT-3.3.1-4] */
        return mqtt_malformed(why, "PUBLISH with QoS 3");
    }
    if (out->dup && out->qos == 0) { /* [MQTT-3.3.1-2] */
        return mqtt_protocol_error(why, "PUBLISH with DUP and QoS 0");
    }
    err = publish_topic(&take, &out->topic, why);
    if (err != MR_OK) {
        return err;
    }
    if (out->qos != 0) {
        out->packet_id = mqtt_take_u16(&take);
        if (take.failed) {
            return mqtt_malformed(why, "PUBLISH without packet identifier");
        }
        if (out->packet_id == 0) { /* [MQTT-2.2.1-3], [MQTT-2.2.1-4] */
            return mqtt_protocol_error(why, "PUBLISH with packet identifier 0");
        }
    }
    err = mqtt_take_props(&take, MR_MQTT_PUBLISH, mode, &out->props, &out->props_raw, why);
    if (err != MR_OK) {
        return err;
    }
    if (out->topic.len == 0 && !mr_mqtt_has(&out->props, MR_MQTT_PROP_TOPIC_ALIAS)) {
        /* 3.3.2.1; in 3.1.1 [3.1.1: MQTT-4.7.3-1]. */
        return mqtt_protocol_error(why, "PUBLISH with neither topic nor topic alias");
    }
    out->payload = mqtt_take_rest(&take);
    return MR_OK;
}

bool mr_mqtt_payload_format_holds(const struct mr_mqtt_props *props, struct mr_span payload)
{
    struct mr_span rest = payload;

    if (!mr_mqtt_has(props, MR_MQTT_PROP_PAYLOAD_FORMAT) || props->payload_format != 1) {
        return true;
    }
    /* A payload may contain U+0000, which the UTF-8 check of topics refuses: it
     * is no part of a longer character, so what lies between may be judged alone.
     */
    while (rest.at != NULL) {
        if (!mr_utf8_valid(mr_span_split(&rest, 0))) {
            return false;
        }
    }
    return true;
}

static void publish_put_head(struct mqtt_put *put, const struct mr_mqtt_publish *packet,
                             uint8_t version)
{
    mqtt_put_binary(put, packet->topic);
    if (packet->qos != 0) {
        mqtt_put_u16(put, packet->packet_id);
    }
    if (version != MR_MQTT_5) {
        return;
    }
    if (packet->props_verbatim) {
        put->failed |= packet->props_raw.len > MR_MQTT_LENGTH_MAX;
        mqtt_put_varint(put, (uint32_t)packet->props_raw.len);
        mqtt_put_bytes(put, packet->props_raw);
    } else {
        mqtt_put_props(put, &packet->props, MR_MQTT_PUBLISH);
    }
}

/* Count the whole head; *length is the remaining length. */
static struct mqtt_put publish_count(const struct mr_mqtt_publish *packet, uint8_t version,
                                     uint32_t *length)
{
    struct mqtt_put count = {0};

    if (version == MR_MQTT_5) {
        publish_put_head(&count, packet, version);
    } else { /* known without a walk; a thousand subscribers are a thousand of these */
        count.len = 2 + packet->topic.len + (packet->qos != 0 ? 2 : 0);
        count.failed = packet->topic.len > UINT16_MAX;
    }
    count.failed |=
        count.len > MR_MQTT_LENGTH_MAX || packet->payload.len > MR_MQTT_LENGTH_MAX - count.len;
    *length = count.failed ? 0 : (uint32_t)(count.len + packet->payload.len);
    mqtt_put_u8(&count, 0);
    mqtt_put_varint(&count, *length);
    return count;
}

size_t mr_mqtt_publish_head_size(const struct mr_mqtt_publish *packet, uint8_t version)
{
    uint32_t length;
    return publish_count(packet, version, &length).len;
}

size_t mr_mqtt_publish_size(const struct mr_mqtt_publish *packet, uint8_t version)
{
    return mr_mqtt_publish_head_size(packet, version) + packet->payload.len;
}

ptrdiff_t mr_mqtt_publish_head_encode(const struct mr_mqtt_publish *packet, uint8_t version,
                                      uint8_t *out, size_t out_size)
{
    uint32_t length;
    struct mqtt_put count = publish_count(packet, version, &length);
    ptrdiff_t refused = mqtt_put_check(&count, out_size);

    if (refused != 0) {
        return refused;
    }
    struct mqtt_put put = {.at = out};
    mqtt_put_u8(&put, (uint8_t)(MR_MQTT_PUBLISH << 4 | packet->dup << 3 | packet->qos << 1 |
                                packet->retain));
    mqtt_put_varint(&put, length);
    publish_put_head(&put, packet, version);
    mr_assert(put.len == count.len);
    return (ptrdiff_t)put.len;
}

ptrdiff_t mr_mqtt_publish_encode(const struct mr_mqtt_publish *packet, uint8_t version,
                                 uint8_t *out, size_t out_size)
{
    ptrdiff_t head = mr_mqtt_publish_head_encode(packet, version, out, out_size);

    if (head < 0) {
        return head;
    }
    if (packet->payload.len > out_size - (size_t)head) {
        return MR_ERR_FULL;
    }
    if (packet->payload.len != 0) {
        memcpy(out + head, packet->payload.at, packet->payload.len);
    }
    return head + (ptrdiff_t)packet->payload.len;
}
