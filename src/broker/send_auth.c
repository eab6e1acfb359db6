/* send_auth.c - AUTH from the server (section 3.15); 5.0 only. */
#include "broker/broker_internal.h"

enum { AUTH_BYTES_MAX = MR_SCRAM_MESSAGE_MAX + 64 };

enum mr_err send_auth(struct client *client, uint8_t reason, struct mr_span method,
                      struct mr_span data)
{
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_AUTH, .reason = reason};
    uint8_t bytes[AUTH_BYTES_MAX];

    packet.props.auth_method = method; /* [MQTT-4.12.0-5] */
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_AUTH_METHOD);
    packet.props.auth_data = data;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_AUTH_DATA);
    ptrdiff_t len = mr_mqtt_disconnect_encode(&packet, MR_MQTT_5, bytes, sizeof(bytes));
    if (len <= 0 || (client->packet_max != 0 && (size_t)len > client->packet_max)) {
        return MR_ERR_FULL; /* [MQTT-3.1.2-24] */
    }
    return mr_conn_send(client_conn(client), bytes, (size_t)len);
}
