/* handle_pubcomp.c - PUBCOMP from a subscriber (section 3.7): a QoS 2 delivery is over. */
#include "broker/keep_internal.h"

enum verdict handle_pubcomp(struct client *client, const struct mr_mqtt_frame *frame)
{
    const struct mr_mqtt_mode mode = {.version = client->version, .from = MR_MQTT_FROM_CLIENT};
    struct mr_mqtt_ack packet;
    struct mr_mqtt_why why;

    if (mr_mqtt_ack_decode(frame, mode, &packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    /* An id we do not know: as in handle_puback.c.  The reason, 0x92 perhaps, changes
     * nothing: either way nobody remembers the id any more.
     */
    bool known = client->session->keep != NULL ? queue_completed(client, packet.packet_id)
                                               : outbound_completed(client, packet.packet_id);
    if (known) {
        outbound_drain(client);
    }
    return PACKET_DONE;
}
