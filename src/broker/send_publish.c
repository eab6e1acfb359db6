/* send_publish.c - PUBLISH to a subscriber (section 3.3). */
#include "broker/broker_internal.h"

enum {
    SUBSCRIPTION_ID_BYTES = 5, /* identifier and the longest varint of four bytes */
    PUSH_BYTES = 64 << 10,     /* waiting: not kept until the turn ends */
};

/* What is left of the message's life; false: nothing [MQTT-3.3.2-5]. */
static bool expiry_update(struct mr_mqtt_props *props, int64_t waited_us)
{
    if (!mr_mqtt_has(props, MR_MQTT_PROP_MESSAGE_EXPIRY) || waited_us < 1000000) {
        return true;
    }
    uint64_t waited_s = (uint64_t)waited_us / 1000000;
    if (waited_s >= props->message_expiry_s) {
        return false;
    }
    props->message_expiry_s -= (uint32_t)waited_s; /* [MQTT-3.3.2-6] */
    return true;
}

enum mr_err send_publish(struct client *client, const struct outgoing *outgoing)
{
    const struct mr_message *message = outgoing->message;
    struct mr_mqtt_publish packet = {.topic = message->topic,
                                     .payload = message->payload,
                                     .packet_id = outgoing->packet_id,
                                     .qos = outgoing->qos,
                                     .dup = outgoing->dup,
                                     .retain = outgoing->retain};
    uint8_t id_bytes[SUBSCRIPTION_ID_BYTES];

    if (client->version == MR_MQTT_5) {
        if (outgoing->props != NULL) {
            packet.props = *outgoing->props;
        }
        if (outgoing->subscription_id != 0) {
            ptrdiff_t len =
                mr_mqtt_subscription_id_put(outgoing->subscription_id, id_bytes, sizeof(id_bytes));
            packet.props.subscription_ids_raw = mr_span_make(id_bytes, (size_t)len);
            mr_mqtt_set(&packet.props, MR_MQTT_PROP_SUBSCRIPTION_ID);
        }
    }
    if (outgoing->props != NULL) {
        struct mr_mqtt_props *life =
            client->version == MR_MQTT_5 ? &packet.props : &(struct mr_mqtt_props){0};
        if (life != &packet.props) {
            life->present = outgoing->props->present;
            life->message_expiry_s = outgoing->props->message_expiry_s;
        }
        if (!expiry_update(life, shard_waited_us(client->shard, message->received_us))) {
            if (!outgoing->dup || outgoing->qos != 2) {
                return MR_ERR_REJECT;
            }
            life->message_expiry_s = 0; /* it has been begun, so it is finished [MQTT-4.3.3-7] */
        }
    }
    size_t size = mr_mqtt_publish_size(&packet, client->version);
    if (client->packet_max != 0 && size > client->packet_max) {
        return MR_ERR_REJECT; /* [MQTT-3.1.2-24] */
    }
    struct mr_conn *conn = client_conn(client);
    uint8_t *room = mr_conn_reserve(conn, size);
    if (room == NULL) {
        return MR_ERR_FULL;
    }
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, client->version, room, size);
    if (len < 0) {
        return MR_ERR_REJECT;
    }
    mr_conn_commit(conn, (size_t)len);
    if (mr_conn_waiting(conn) >= PUSH_BYTES) {
        mr_conn_push(conn); /* a thousand copies of a large message are too many */
    }
    mr_metric_add(client->shard->metrics.publish_sent[outgoing->qos], 1);
    client->sent += 1;
    client->shard->payload_sent += message->payload.len;
    return MR_OK;
}
