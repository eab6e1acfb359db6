/* send_publish.c - PUBLISH to a subscriber (section 3.3). */
#include "broker/broker_internal.h"
#include "broker/outgoing_internal.h"

enum {
    SUBSCRIPTION_ID_BYTES = 5, /* identifier and the longest varint of four bytes */
    SUBSCRIPTION_IDS_MAX = 64, /* in one merged copy */
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

/* What is of the connection, not of the message; `id_bytes` hold the identifiers. */
static void add_own_props(struct client *client, const struct outgoing *outgoing,
                          struct mr_mqtt_publish *packet, uint8_t *id_bytes, size_t id_room)
{
    struct mr_span ids;

    if (outgoing->props != NULL) {
        packet->props = *outgoing->props;
    }
    if (outgoing->subscription_id == 0) {
        return;
    }
    if (MR_UNLIKELY(outgoing->subscription_id == SUBSCRIPTION_IDS_ALL)) {
        ids = merge_ids(client->session, client->shard->subtree, packet->topic, id_bytes, id_room);
    } else {
        ptrdiff_t len = mr_mqtt_subscription_id_put(outgoing->subscription_id, id_bytes, id_room);
        ids = mr_span_make(id_bytes, (size_t)len);
    }
    if (ids.len != 0) {
        packet->props.subscription_ids_raw = ids;
        mr_mqtt_set(&packet->props, MR_MQTT_PROP_SUBSCRIPTION_ID);
    }
}

/* Let an alias stand for the topic, if the client offers some. */
static struct alias_out add_alias(struct client *client, struct mr_mqtt_publish *packet)
{
    struct alias_out alias = alias_out(client, packet->topic);

    if (alias.number != 0) {
        packet->props.topic_alias = alias.number;
        mr_mqtt_set(&packet->props, MR_MQTT_PROP_TOPIC_ALIAS);
        if (alias.known) {
            packet->topic = (struct mr_span){0};
        }
    }
    return alias;
}

/* To define an alias takes more than it saves this time: is the packet small enough without it? */
static bool drop_alias(const struct client *client, struct mr_mqtt_publish *packet,
                       struct alias_out *alias, size_t *size)
{
    if (alias->number == 0 || alias->known) {
        return false;
    }
    *alias = (struct alias_out){.number = 0};
    mr_mqtt_unset(&packet->props, MR_MQTT_PROP_TOPIC_ALIAS);
    *size = mr_mqtt_publish_size(packet, client->version);
    return *size <= client->packet_max;
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
    uint8_t id_bytes[SUBSCRIPTION_ID_BYTES * SUBSCRIPTION_IDS_MAX];
    struct alias_out alias = {.number = 0};

    if (client->version == MR_MQTT_5) {
        add_own_props(client, outgoing, &packet, id_bytes, sizeof(id_bytes));
        if (client->alias_max != 0) {
            alias = add_alias(client, &packet);
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
    if (MR_UNLIKELY(client->packet_max != 0 && size > client->packet_max) &&
        !drop_alias(client, &packet, &alias, &size)) {
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
    if (alias.number != 0) {
        alias_out_sent(client, &alias, message->topic);
    }
    if (mr_conn_waiting(conn) >= PUSH_BYTES) {
        mr_conn_push(conn); /* a thousand copies of a large message are too many */
    }
    mr_metric_add(client->shard->metrics.publish_sent[outgoing->qos], 1);
    client->sent += 1;
    client->shard->payload_sent += message->payload.len;
    return MR_OK;
}
