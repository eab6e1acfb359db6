/* handle_puback.c - PUBACK from a subscriber (section 3.4): its window opens. */
#include "broker/keep_internal.h"

enum verdict handle_puback(struct client *client, const struct mr_mqtt_frame *frame)
{
    const struct mr_mqtt_mode mode = {.version = client->version, .from = MR_MQTT_FROM_CLIENT};
    struct mr_mqtt_ack packet;
    struct mr_mqtt_why why;

    if (mr_mqtt_ack_decode(frame, mode, &packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    /* An id we do not know is no error here: the specification names no answer
     * to a PUBACK, and a late one after a lost session does no harm.
     */
    bool known = client->session->keep != NULL ? queue_acked(client, packet.packet_id)
                                               : outbound_acked(client, packet.packet_id);
    if (known) {
        outbound_drain(client);
    }
    return PACKET_DONE;
}
