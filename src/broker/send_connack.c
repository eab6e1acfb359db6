/* send_connack.c - CONNACK (section 3.2). */
#include "broker/broker_internal.h"

enum { CONNACK_FIXED_MAX = 128 }; /* all we send but the assigned client id */

enum mr_err send_connack(struct client *client, const struct mr_mqtt_connack *packet,
                         uint8_t version)
{
    uint8_t bytes[CONNACK_FIXED_MAX + 64];
    ptrdiff_t len = mr_mqtt_connack_encode(packet, version, bytes, sizeof(bytes));

    /* 3.x has no code for some failures; then closing says it [3.1.1:
     * MQTT-3.2.2-6].
     */
    return len > 0 ? mr_conn_send(client_conn(client), bytes, (size_t)len) : MR_ERR_REJECT;
}
