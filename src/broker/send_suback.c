/* send_suback.c - SUBACK and UNSUBACK (sections 3.9, 3.11). */
#include "broker/keep_internal.h"

size_t suback_size(struct client *client, const struct mr_mqtt_suback *packet)
{
    return mr_mqtt_suback_size(packet, client->version);
}

bool suback_is_beyond(struct client *client, const struct mr_mqtt_suback *packet)
{
    return MR_UNLIKELY(client->packet_max != 0) && suback_size(client, packet) > client->packet_max;
}

static enum verdict suback_send_now(struct client *client, const struct mr_mqtt_suback *packet)
{
    struct mr_conn *conn = client_conn(client);
    size_t size = suback_size(client, packet);
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

enum verdict send_suback(struct client *client, const struct mr_mqtt_suback *packet, uint64_t seq)
{
    if (seq == 0) {
        return suback_send_now(client, packet);
    }
    /* Not of the pool: the record has been appended, and what it says must happen now. */
    size_t size = suback_size(client, packet);
    uint8_t *bytes = mr_alloc(size);
    ptrdiff_t len = mr_mqtt_suback_encode(packet, client->version, bytes, size);
    mr_assert(len > 0);
    answer_hold(client, seq, bytes, (size_t)len);
    mr_free(bytes);
    return PACKET_DONE;
}
