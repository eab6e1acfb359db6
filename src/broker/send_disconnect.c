/* send_disconnect.c - DISCONNECT from the server (section 3.14); 5.0 only. */
#include "broker/broker_internal.h"

void send_disconnect(struct client *client, uint8_t reason, const char *what)
{
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_DISCONNECT, .reason = reason};
    uint8_t bytes[DISCONNECT_BYTES_MAX];

    if (connack_waits(client)) {
        return;
    }
    /* A reason string may not make the packet larger than the client takes
     * [MQTT-3.14.2-3], and only those get one who want problem information
     * (3.1.2.11.7 allows it in DISCONNECT; devices that said no mean it).
     */
    if (what != NULL && client->wants_detail) {
        packet.props.reason_string = mr_span_of(what);
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_REASON_STRING);
        size_t size = mr_mqtt_disconnect_size(&packet, client->version);
        if (size > sizeof(bytes) || (client->packet_max != 0 && size > client->packet_max)) {
            packet.props.present = 0;
        }
    }
    const char *reference = client->shard->limits.server_reference;
    if (reason == MR_MQTT_USE_ANOTHER_SERVER && reference != NULL) { /* 3.14.2.2.5 */
        packet.props.server_reference = mr_span_of(reference);
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SERVER_REFERENCE);
        size_t size = mr_mqtt_disconnect_size(&packet, client->version);
        if (size > sizeof(bytes) || (client->packet_max != 0 && size > client->packet_max)) {
            packet.props.present = 0;
        }
    }
    ptrdiff_t len = mr_mqtt_disconnect_encode(&packet, client->version, bytes, sizeof(bytes));
    if (len > 0) {
        /* Without memory for it the end comes without a reason. */
        (void)!mr_conn_send(client_conn(client), bytes, (size_t)len);
    }
}
