/* send_connack.c - CONNACK (section 3.2). */
#include "broker/keep_internal.h"

enum mr_err send_connack(struct client *client, const struct mr_mqtt_connack *packet,
                         uint8_t version)
{
    uint8_t bytes[CONNACK_BYTES_MAX];
    ptrdiff_t len = mr_mqtt_connack_encode(packet, version, bytes, sizeof(bytes));

    /* 3.x has no code for some failures; then closing says it [3.1.1: MQTT-3.2.2-6].  Nor is
     * anything sent that is more than the client takes [MQTT-3.1.2-24].
     */
    if (client->packet_max != 0 && len > (ptrdiff_t)client->packet_max) {
        return MR_ERR_REJECT;
    }
    return len > 0 ? mr_conn_send(client_conn(client), bytes, (size_t)len) : MR_ERR_REJECT;
}

void hold_connack(struct client *client, const struct mr_mqtt_connack *packet, uint64_t seq)
{
    uint8_t bytes[CONNACK_BYTES_MAX];
    ptrdiff_t len = mr_mqtt_connack_encode(packet, client->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    answer_hold(client, seq, bytes, (size_t)len);
    client->joining = true;
    client->join_seq = seq;
}
