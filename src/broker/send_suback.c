/* send_suback.c - SUBACK and UNSUBACK (sections 3.9, 3.11). */
#include "broker/broker_internal.h"

enum verdict send_suback(struct client *client, const struct mr_mqtt_suback *packet)
{
    struct mr_conn *conn = client_conn(client);
    size_t size = mr_mqtt_suback_size(packet, client->version);
    uint8_t *room = mr_conn_reserve(conn, size);

    if (room == NULL) {
        client_end(client, END_MEMORY);
        return PACKET_END;
    }
    ptrdiff_t len = mr_mqtt_suback_encode(packet, client->version, room, size);
    mr_assert(len > 0);
    mr_conn_commit(conn, (size_t)len);
    return PACKET_DONE;
}
