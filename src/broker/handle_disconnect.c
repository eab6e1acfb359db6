/* handle_disconnect.c - DISCONNECT from a client (section 3.14). */
#include "broker/keep_internal.h"

enum verdict handle_disconnect(struct client *client, const struct mr_mqtt_frame *frame)
{
    const struct mr_mqtt_mode mode = {.version = client->version, .from = MR_MQTT_FROM_CLIENT};
    struct mr_mqtt_disconnect packet;
    struct mr_mqtt_why why;

    if (mr_mqtt_disconnect_decode(frame, mode, &packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    if (client->ends_at_once && mr_mqtt_has(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY) &&
        packet.props.session_expiry_s != 0) { /* 3.14.2.2.2: no valid DISCONNECT */
        return client_refuse(client, END_PROTOCOL, MR_MQTT_PROTOCOL_ERROR,
                             "DISCONNECT prolongs a session that was to end at once");
    }
    struct keep *keep = client->session->keep;
    if (keep != NULL && mr_mqtt_has(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY)) {
        uint64_t max_us = client->shard->limits.max_session_expiry_us;
        keep->expiry_s = packet.props.session_expiry_s;
        if (max_us != 0 && keep->expiry_s > max_us / 1000000) {
            keep->expiry_s = (uint32_t)(max_us / 1000000);
        }
    }
    /* Only a normal disconnection revokes the will [MQTT-3.14.4-3]; any other
     * reason (0x04: "with will") leaves it to be published.
     */
    client->will_dropped = packet.reason == MR_MQTT_SUCCESS;
    client_end(client, END_CLIENT);
    return PACKET_END;
}
