/* handle_pubrec.c - PUBREC from a subscriber (section 3.5): it has the message, and
 * PUBREL lets it forget the packet id.
 */
#include "broker/keep_internal.h"

enum { PUBREL_BYTES_MAX = 8 };

enum verdict pubrel_unknown(struct client *client, uint16_t packet_id)
{
    struct mr_mqtt_ack answer = {
        .type = MR_MQTT_PUBREL,
        .packet_id = packet_id,
        .reason = client->version == MR_MQTT_5 ? MR_MQTT_PACKET_ID_NOT_FOUND : MR_MQTT_SUCCESS};
    uint8_t bytes[PUBREL_BYTES_MAX];
    ptrdiff_t len = mr_mqtt_ack_encode(&answer, client->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    if (answer_reserve(client, (size_t)len) != MR_OK) {
        shard_stall(client->shard);
        return PACKET_LATER;
    }
    answer_hold(client, 0, bytes, (size_t)len);
    return PACKET_DONE;
}

enum verdict handle_pubrec(struct client *client, const struct mr_mqtt_frame *frame)
{
    const struct mr_mqtt_mode mode = {.version = client->version, .from = MR_MQTT_FROM_CLIENT};
    struct mr_mqtt_ack packet;
    struct mr_mqtt_why why;
    uint8_t bytes[MR_MQTT_ACK_BYTES];

    if (mr_mqtt_ack_decode(frame, mode, &packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    if (client->session->keep != NULL) {
        return queue_received(client, &packet);
    }
    if (!outbound_received(client, packet.packet_id, packet.reason)) {
        return pubrel_unknown(client, packet.packet_id);
    }
    if (packet.reason >= MR_MQTT_UNSPECIFIED) { /* 4.3.3: over */
        outbound_drain(client);
        return PACKET_DONE;
    }
    (void)mr_mqtt_ack_put(bytes, MR_MQTT_PUBREL, packet.packet_id);
    if (mr_conn_send(client_conn(client), bytes, sizeof(bytes)) != MR_OK) {
        client_end(client, END_MEMORY);
        return PACKET_END;
    }
    return PACKET_DONE;
}
