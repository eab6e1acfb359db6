/* handle_auth.c - AUTH from a client (sections 3.15, 4.12): before its CONNACK, and again
 * while it is connected.
 */
#include "broker/exchange_internal.h"

static bool auth_decode(const struct mr_mqtt_frame *frame, uint8_t version,
                        struct mr_mqtt_disconnect *packet, struct mr_mqtt_why *why)
{
    const struct mr_mqtt_mode mode = {.version = version, .from = MR_MQTT_FROM_CLIENT};

    if (mr_mqtt_disconnect_decode(frame, mode, packet, why) != MR_OK) {
        return false;
    }
    if (!mr_span_is(packet->props.auth_method, MR_SCRAM_METHOD)) {
        *why = (struct mr_mqtt_why){
            .reason = MR_MQTT_PROTOCOL_ERROR, /* [MQTT-4.12.0-5] [MQTT-4.12.1-1] */
            .what = "AUTH with another authentication method than CONNECT"};
        return false;
    }
    return true;
}

/* ---- before CONNACK ---- */

/* The CONNECT that was kept, now that it is known whose it is. */
static enum verdict connect_again(struct client *client)
{
    struct exchange *exchange = client->exchange;
    struct mr_mqtt_frame frame;
    enum mr_err err = mr_mqtt_frame(mr_span_make(exchange->connect, exchange->connect_len),
                                    MR_MQTT_PACKET_MAX, &frame);

    mr_assert(err == MR_OK);
    return connect_go_on(client, &frame);
}

static enum verdict auth_first(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_disconnect packet;
    struct mr_mqtt_why why;

    if (!client->exchange->proven) { /* else it waits for room in the journal */
        if (!auth_decode(frame, MR_MQTT_5, &packet, &why)) {
            return connect_refuse(client, MR_MQTT_5, why.reason, why.what);
        }
        if (packet.reason != MR_MQTT_CONTINUE_AUTHENTICATION) { /* [MQTT-4.12.0-3] */
            return connect_refuse(client, MR_MQTT_5, MR_MQTT_PROTOCOL_ERROR,
                                  "its AUTH does not go on with its authentication");
        }
        if (exchange_is_suspect(client)) {
            return connect_refuse(client, MR_MQTT_5, MR_MQTT_SERVER_BUSY,
                                  "its address has sent too many wrong passwords meanwhile");
        }
        const char *fault = exchange_end(client, packet.props.auth_data);
        if (fault != NULL) { /* [MQTT-4.12.0-4] */
            return connect_refuse(client, MR_MQTT_5, MR_MQTT_NOT_AUTHORIZED, fault);
        }
    }
    return connect_again(client);
}

enum verdict exchange_packet(struct client *client, const struct mr_mqtt_frame *frame)
{
    if (frame->type == MR_MQTT_AUTH) {
        return auth_first(client, frame);
    }
    if (frame->type == MR_MQTT_DISCONNECT) {
        client_end(client, END_CLIENT);
        return PACKET_END;
    }
    return connect_refuse(client, MR_MQTT_5, MR_MQTT_PROTOCOL_ERROR,
                          "another packet than AUTH before its CONNACK"); /* [MQTT-3.1.2-30] */
}

/* ---- while it is connected (4.12.1) ---- */

/* [MQTT-4.12.1-2] */
static enum verdict again_refuse(struct client *client, uint8_t reason, const char *what)
{
    return client_refuse(client, reason == MR_MQTT_PROTOCOL_ERROR ? END_PROTOCOL : END_AUTH, reason,
                         what);
}

static enum verdict again_begin(struct client *client, struct mr_span data)
{
    if (client->exchange != NULL) {
        return again_refuse(client, MR_MQTT_PROTOCOL_ERROR,
                            "a second re-authentication before the first has ended");
    }
    if (exchange_new(client, 0) == NULL) {
        return again_refuse(client, MR_MQTT_SERVER_BUSY,
                            "there is no memory for its re-authentication");
    }
    const char *fault = exchange_begin(client, data);
    if (fault == NULL &&
        !mr_span_equal(exchange_user(client->exchange), session_username(client->session))) {
        fault = "it wants to become another user";
    }
    return fault == NULL ? PACKET_DONE : again_refuse(client, MR_MQTT_NOT_AUTHORIZED, fault);
}

static enum verdict again_end(struct client *client, struct mr_span data)
{
    if (client->exchange == NULL) {
        return again_refuse(client, MR_MQTT_PROTOCOL_ERROR,
                            "AUTH goes on with an authentication that has not begun");
    }
    const char *fault = exchange_end(client, data);
    if (fault != NULL) {
        return again_refuse(client, MR_MQTT_NOT_AUTHORIZED, fault);
    }
    enum mr_err err = send_auth(client, MR_MQTT_SUCCESS, mr_span_of(MR_SCRAM_METHOD),
                                exchange_proof(client->exchange));
    exchange_drop(client);
    if (err != MR_OK) {
        client_end(client, END_MEMORY);
        return PACKET_END;
    }
    return PACKET_DONE;
}

enum verdict handle_auth(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_disconnect packet;
    struct mr_mqtt_why why;

    if (client->version == MR_MQTT_5 && !client->enhanced) { /* [MQTT-4.12.0-7] */
        return client_refuse(client, END_PROTOCOL, MR_MQTT_PROTOCOL_ERROR,
                             "AUTH, and its CONNECT had no authentication method");
    }
    if (!auth_decode(frame, client->version, &packet, &why)) {
        return again_refuse(client, why.reason, why.what);
    }
    return packet.reason == MR_MQTT_REAUTHENTICATE ? again_begin(client, packet.props.auth_data)
                                                   : again_end(client, packet.props.auth_data);
}
