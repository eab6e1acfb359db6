/* handle_pingreq.c - PINGREQ (section 3.12). */
#include "broker/broker_internal.h"

enum verdict handle_pingreq(struct client *client, const struct mr_mqtt_frame *frame)
{
    uint8_t bytes[MR_MQTT_PING_BYTES];
    struct mr_mqtt_why why;

    if (mr_mqtt_ping_decode(frame, client->version, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    (void)mr_mqtt_ping_put(bytes, MR_MQTT_PINGRESP);
    if (mr_conn_send(client_conn(client), bytes, sizeof(bytes)) != MR_OK) {
        client_end(client, END_MEMORY);
        return PACKET_END;
    }
    return PACKET_DONE;
}
