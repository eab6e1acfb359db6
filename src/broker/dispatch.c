/* dispatch.c - cut what was received into packets and hand each to its handler. */
#include "broker/broker_internal.h"

/* A frame that cannot be followed any further. */
static enum verdict frame_refuse(struct client *client, enum mr_err err,
                                 const struct mr_mqtt_frame *frame)
{
    return client_refuse(client, END_PROTOCOL,
                         err == MR_ERR_FULL ? MR_MQTT_PACKET_TOO_LARGE : MR_MQTT_MALFORMED,
                         frame->what);
}

static enum verdict dispatch_other(struct client *client, const struct mr_mqtt_frame *frame)
{
    if (frame->type == MR_MQTT_CONNECT) {
        return handle_connect(client, frame);
    }
    if (client->session == NULL) {
        return client_refuse(client, END_REFUSED, MR_MQTT_PROTOCOL_ERROR,
                             "the first packet is not CONNECT"); /* [MQTT-3.1.0-1] */
    }
    switch (frame->type) {
    case MR_MQTT_PUBACK:
        return handle_puback(client, frame);
    case MR_MQTT_SUBSCRIBE:
        return handle_subscribe(client, frame);
    case MR_MQTT_UNSUBSCRIBE:
        return handle_unsubscribe(client, frame);
    case MR_MQTT_PINGREQ:
        return handle_pingreq(client, frame);
    case MR_MQTT_DISCONNECT:
        return handle_disconnect(client, frame);
    case MR_MQTT_PUBREC:
    case MR_MQTT_PUBREL:
    case MR_MQTT_PUBCOMP:
        return client_refuse(client, END_PROTOCOL, MR_MQTT_PROTOCOL_ERROR,
                             "a packet of QoS 2, which was not agreed");
    default:
        return client_refuse(client, END_PROTOCOL, MR_MQTT_PROTOCOL_ERROR,
                             "a packet that clients do not send here");
    }
}

size_t dispatch_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes)
{
    struct mr_shard *shard = arg;
    struct client *client = mr_conn_user(conn);
    const uint32_t packet_max = (uint32_t)shard->limits.max_packet_size;
    struct mr_span rest = bytes;
    struct mr_mqtt_frame frame;
    enum verdict verdict = PACKET_DONE;

    while (rest.len != 0 && verdict == PACKET_DONE) {
        enum mr_err err = mr_mqtt_frame(rest, packet_max, &frame);
        if (MR_UNLIKELY(err == MR_ERR_AGAIN)) {
            mr_conn_need(conn, frame.total_bytes);
            break;
        }
        if (MR_UNLIKELY(err != MR_OK)) {
            (void)frame_refuse(client, err, &frame);
            break;
        }
        if (MR_LIKELY(frame.type == MR_MQTT_PUBLISH && client->session != NULL)) {
            verdict = handle_publish(client, &frame);
        } else {
            verdict = dispatch_other(client, &frame);
        }
        if (MR_UNLIKELY(verdict == PACKET_LATER)) {
            mr_conn_pause(conn);
            break;
        }
        mr_metric_add(shard->metrics.packets_received[frame.type], 1);
        rest.at += frame.total_bytes;
        rest.len -= frame.total_bytes;
    }
    mr_ackgate_cut(shard->gate);
    return bytes.len - rest.len;
}
