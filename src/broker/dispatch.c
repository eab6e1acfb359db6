/* dispatch.c - cut what was received into packets and hand each to its handler. */
#include "broker/enhanced_internal.h"
#include "broker/gates_internal.h"

/* Whoever begins with anything but CONNECT is closed at its first byte, whatever length
 * it claims [MQTT-3.1.0-1].  (During an exchange of AUTH packets CONNECT lies behind it.)
 */
static bool begins_wrong(const struct client *client, struct mr_span bytes)
{
    return client->session == NULL && client->exchange == NULL && bytes.len != 0 &&
           bytes.at[0] != MR_MQTT_CONNECT << 4;
}

/* What other protocols begin with, which no CONNECT does; NULL: none of those known. */
static const char *stranger_name(struct mr_span bytes)
{
    static const struct {
        const char *begin;
        size_t len;
        const char *what;
    } strangers[] = {
        {"\x16\x03", 2,
         "it speaks TLS and this listener plain text; give the client the port of a listener "
         "with `tls`, or no TLS"},
        {"GET ", 4,
         "it speaks HTTP and this listener plain MQTT; give the client the port of a listener "
         "with `websocket`"},
        {"PROXY ", 6,
         "it sends a PROXY header and this listener takes none; set `proxy_protocol: true` on it "
         "if only a proxy can reach it"},
        {"\r\n\r\n\0\r\nQUIT\n", 12,
         "it sends a PROXY header and this listener takes none; set `proxy_protocol: true` on it "
         "if only a proxy can reach it"},
    };

    for (size_t i = 0; i < MR_COUNT_OF(strangers); i++) {
        if (bytes.len >= strangers[i].len &&
            memcmp(bytes.at, strangers[i].begin, strangers[i].len) == 0) {
            return strangers[i].what;
        }
    }
    return NULL;
}

/* The version that a CONNECT names of which only the beginning may be here; 0: not known. */
static uint8_t version_named(const struct mr_mqtt_frame *frame, struct mr_span rest)
{
    size_t head = 1; /* type and length: up to the byte without its highest bit */

    while (head < rest.len && (rest.at[head] & 0x80) != 0) {
        head += 1;
    }
    size_t at = head + 1 + 2 + 4; /* behind "MQTT" */
    bool is_here = frame->type == MR_MQTT_CONNECT && rest.len > at &&
                   memcmp(rest.at + head + 1, "\0\4MQTT", 6) == 0;
    return is_here ? rest.at[at] : 0;
}

/* A frame that cannot be followed any further. */
static enum verdict frame_refuse(struct client *client, enum mr_err err,
                                 const struct mr_mqtt_frame *frame, struct mr_span rest)
{
    const char *what = client->session == NULL ? stranger_name(rest) : NULL;

    if (err == MR_ERR_FULL && client->session == NULL && what == NULL) {
        return connect_refuse(client, version_named(frame, rest), MR_MQTT_PACKET_TOO_LARGE,
                              "its CONNECT is larger than `max_connect_size`");
    }
    if (what == NULL) {
        what = err == MR_ERR_AGAIN ? "the first packet is not CONNECT" : frame->what;
    }
    return client_refuse(client, END_PROTOCOL,
                         err == MR_ERR_FULL ? MR_MQTT_PACKET_TOO_LARGE : MR_MQTT_MALFORMED, what);
}

static enum verdict dispatch_other(struct client *client, const struct mr_mqtt_frame *frame)
{
    if (frame->type == MR_MQTT_CONNECT) {
        enum verdict verdict = handle_connect(client, frame);
        if (verdict == PACKET_DONE || verdict == PACKET_JOINING) {
            mr_conn_secrets_end(client_conn(client));
        }
        return verdict;
    }
    if (client->session == NULL) {
        if (client->exchange != NULL) {
            return exchange_packet(client, frame);
        }
        size_t head = frame->total_bytes - frame->body.len;
        const char *what = stranger_name(mr_span_make(frame->body.at - head, frame->total_bytes));
        return client_refuse(client, END_REFUSED, MR_MQTT_PROTOCOL_ERROR,
                             what != NULL ? what
                                          : "the first packet is not CONNECT"); /* [MQTT-3.1.0-1] */
    }
    switch (frame->type) {
    case MR_MQTT_PUBACK:
        return handle_puback(client, frame);
    case MR_MQTT_SUBSCRIBE:
        return handle_subscribe(client, frame);
    case MR_MQTT_UNSUBSCRIBE:
        return handle_unsubscribe(client, frame);
    case MR_MQTT_PINGREQ:
        return handle_pingreq(client, frame);
    case MR_MQTT_DISCONNECT:
        return handle_disconnect(client, frame);
    case MR_MQTT_AUTH:
        return handle_auth(client, frame);
    case MR_MQTT_PUBREC:
        return handle_pubrec(client, frame);
    case MR_MQTT_PUBREL:
        return handle_pubrel(client, frame);
    case MR_MQTT_PUBCOMP:
        return handle_pubcomp(client, frame);
    default:
        return client_refuse(client, END_PROTOCOL, MR_MQTT_PROTOCOL_ERROR,
                             "a packet that clients do not send here");
    }
}

size_t dispatch_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes)
{
    struct mr_shard *shard = arg;
    struct client *client = mr_conn_user(conn);
    struct mr_span rest = bytes;
    struct mr_mqtt_frame frame;
    enum verdict verdict = PACKET_DONE;

    if (MR_UNLIKELY(client->joining)) {
        if (connack_waits(client)) {
            mr_conn_pause(conn); /* CONNACK is the first packet it gets [MQTT-3.2.0-1] */
            return 0;
        }
        client->joining = false;
    }
    while (rest.len != 0 && verdict == PACKET_DONE) {
        enum mr_err err = mr_mqtt_frame(rest, client->packet_told, &frame);
        if (MR_UNLIKELY(err == MR_ERR_AGAIN) && !begins_wrong(client, rest)) {
            mr_conn_need(conn, frame.total_bytes);
            break;
        }
        if (MR_UNLIKELY(err != MR_OK)) { /* AGAIN: of a first packet that is no CONNECT */
            (void)frame_refuse(client, err, &frame, rest);
            break;
        }
        if (MR_UNLIKELY(client->rate != NULL) && !rate_admits(client, &frame)) {
            break;
        }
        if (MR_LIKELY(frame.type == MR_MQTT_PUBLISH && client->session != NULL)) {
            verdict = handle_publish(client, &frame);
        } else {
            verdict = dispatch_other(client, &frame);
        }
        if (MR_UNLIKELY(verdict == PACKET_AWAY)) {
            if (mailbox_send_client(client, rest) == MR_OK) {
                return bytes.len; /* client and conn are not ours any more */
            }
            verdict = PACKET_LATER;
        }
        if (MR_UNLIKELY(verdict == PACKET_LATER)) {
            mr_conn_pause(conn);
            break;
        }
        if (MR_UNLIKELY(client->rate != NULL)) {
            rate_charge(client, &frame);
        }
        mr_metric_add(shard->metrics.packets_received[frame.type], 1);
        rest.at += frame.total_bytes;
        rest.len -= frame.total_bytes;
        if (MR_UNLIKELY(verdict == PACKET_JOINING)) {
            mr_conn_pause(conn); /* what it sent behind its CONNECT waits */
        } else if (frame.type == MR_MQTT_PUBLISH && rest.len != 0) {
            size_t used = publish_run(client, rest);
            rest.at += used;
            rest.len -= used;
        }
    }
    gates_cut(shard);
    return bytes.len - rest.len;
}
