/* session_peer.c - see session_peer.h. */
#include "session_peer.h"

#include "mqtt_any.h"
#include "os/loop.h"
#include "os/sim.h"

#include <string.h>

void peer_open(struct peer *peer)
{
    struct mr_error why = {.text = ""};

    peer_drop(peer, false);
    memset(&peer->version, 0,
           offsetof(struct peer, inbound_count) - offsetof(struct peer, version));
    peer->sent_len = 0;
    peer->in_len = 0;
    peer->packet_max = MR_MQTT_PACKET_MAX;
    if (mr_socket_connect(MACHINE_ADDRESS, &peer->fd, &why) != MR_OK) {
        broken("%s cannot connect: %s", peer->name, why.text);
    }
}

void peer_drop(struct peer *peer, bool reset)
{
    if (peer->fd >= 0) {
        tell("%s (%d) drops%s", peer->name, peer->fd, reset ? ", with a reset" : "");
        peer_is_dropped(peer);
        if (reset) {
            mr_sim_stream_break(peer->fd);
        }
        mr_socket_close(peer->fd);
        peer->fd = -1;
    }
}

/* ---- what it has sent ---- */

static void owe(struct peer *peer, uint8_t type, uint16_t id, int16_t tag)
{
    if (peer->owed_count == OWED_MAX) {
        peer_drop(peer, false); /* it asks more than we can note */
        return;
    }
    peer->owed[peer->owed_count++] = (struct owed){.type = type, .id = id, .tag = tag};
}

static void breaks(struct peer *peer, uint8_t reason)
{
    if (!peer->asked) {
        owe(peer, MR_MQTT_CONNACK, 0, NO_TAG); /* one that refuses, perhaps */
    }
    tell("%s (%d) breaks 0x%02x", peer->name, peer->fd, reason);
    peer->broke = true;
    peer->reason = reason;
    peer->sent_len = 0;
}

static void sent_connect(struct peer *peer, const struct mr_mqtt_connect *connect)
{
    const struct mr_mqtt_props *props = &connect->props;

    tell("  as '%.*s', version %u%s%s", (int)connect->client_id.len,
         (const char *)connect->client_id.at, connect->version,
         connect->clean_start ? ", clean" : "", connect->has_will ? ", with a will" : "");
    if (peer->asked) {
        breaks(peer, MR_MQTT_PROTOCOL_ERROR);
        return;
    }
    peer->asked = true;
    peer->wants_clean = connect->clean_start;
    peer->keep_alive = connect->keep_alive_s != 0;
    peer->receive_max = UINT16_MAX;
    peer->no_expiry = true;
    if (connect->version == MR_MQTT_5) {
        if (mr_mqtt_has(props, MR_MQTT_PROP_TOPIC_ALIAS_MAX)) {
            peer->alias_max = props->topic_alias_max;
        }
        if (mr_mqtt_has(props, MR_MQTT_PROP_RECEIVE_MAX)) {
            peer->receive_max = props->receive_max;
        }
        if (mr_mqtt_has(props, MR_MQTT_PROP_PACKET_MAX)) {
            peer->packet_max = props->packet_max;
            peer->doubt = props->packet_max < 128; /* its CONNACK may not fit */
        }
        if (mr_mqtt_has(props, MR_MQTT_PROP_AUTH_METHOD)) {
            peer->doubt = true; /* it is not let in */
        }
        peer->no_expiry =
            !mr_mqtt_has(props, MR_MQTT_PROP_SESSION_EXPIRY) || props->session_expiry_s == 0;
    }
    peer->id_len = connect->client_id.len < PEER_ID_MAX ? connect->client_id.len : PEER_ID_MAX;
    memcpy(peer->id, connect->client_id.at, peer->id_len);
    owe(peer, MR_MQTT_CONNACK, 0, NO_TAG);
    if (peer->id_len != 0) {
        peer_took_over(peer);
    }
}

static void sent_publish(struct peer *peer, const struct mr_mqtt_publish *publish, int16_t tag)
{
    if (publish->qos != 0 && peer->version == MR_MQTT_5 && peer->publishes >= MACHINE_RECEIVE_MAX) {
        peer->doubt = true; /* whatever else is wrong with it */
    }
    if (mr_mqtt_has(&publish->props, MR_MQTT_PROP_TOPIC_ALIAS)) {
        uint16_t alias = publish->props.topic_alias;
        if (alias > MACHINE_ALIASES) {
            breaks(peer, MR_MQTT_TOPIC_ALIAS_INVALID);
            return;
        }
        if (publish->topic.len == 0 && !peer->known_alias[alias]) {
            breaks(peer, MR_MQTT_PROTOCOL_ERROR); /* 3.3.4 */
            return;
        }
        peer->known_alias[alias] = true;
    }
    if (publish->topic.len != 0 && publish->topic.at[0] == '$') {
        peer->doubt = true;
    }
    if (publish->qos == 0) {
        return;
    }
    peer->publishes += 1;
    owe(peer, publish->qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC, publish->packet_id, tag);
}

/* What the broker sent is answered; else it may wonder. */
static void sent_ack(struct peer *peer, const struct mr_mqtt_ack *ack)
{
    if (ack->type == MR_MQTT_PUBREL) {
        owe(peer, MR_MQTT_PUBCOMP, ack->packet_id, NO_TAG);
        return;
    }
    if (ack->reason >= 0x80 || ack->type != MR_MQTT_PUBREC) {
        peer->in_flight -= peer->in_flight != 0 ? 1 : 0;
    }
}

static void sent_packet(struct peer *peer, const struct any *any, int16_t tag)
{
    const struct mr_mqtt_publish *publish = &any->publish;

    tell("%s (%d) sends %s", peer->name, peer->fd, mr_mqtt_type_name(any->type));
    if (any->type == MR_MQTT_PUBLISH) {
        tell("  message %d to '%.*s', QoS %u, id %u, %zu bytes%s%s%s", tag, (int)publish->topic.len,
             (const char *)publish->topic.at, publish->qos, publish->packet_id,
             publish->payload.len, publish->retain ? ", retained" : "",
             publish->dup ? ", again" : "",
             mr_mqtt_has(&publish->props, MR_MQTT_PROP_MESSAGE_EXPIRY) ? ", expires" : "");
    }
    switch ((enum mr_mqtt_type)any->type) {
    case MR_MQTT_CONNECT:
        sent_connect(peer, &any->connect);
        break;
    case MR_MQTT_PUBLISH:
        sent_publish(peer, &any->publish, tag);
        break;
    case MR_MQTT_SUBSCRIBE:
        owe(peer, MR_MQTT_SUBACK, any->subscribe.packet_id, NO_TAG);
        break;
    case MR_MQTT_UNSUBSCRIBE:
        owe(peer, MR_MQTT_UNSUBACK, any->subscribe.packet_id, NO_TAG);
        break;
    case MR_MQTT_PINGREQ:
        owe(peer, MR_MQTT_PINGRESP, 0, NO_TAG);
        break;
    case MR_MQTT_DISCONNECT:
        peer->said_bye = true;
        peer->doubt = true; /* of an expiry that it may not ask for, among others */
        break;
    case MR_MQTT_AUTH: /* none has a method and is let in */
        breaks(peer, MR_MQTT_PROTOCOL_ERROR);
        break;
    default:
        sent_ack(peer, &any->ack);
    }
}

/* One packet of what it sent; false: there is none that is whole. */
static bool sent_next(struct peer *peer, int16_t tag)
{
    struct mr_span rest = mr_span_make(peer->sent, peer->sent_len);
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why = {.reason = 0};
    struct any any;
    enum mr_err err = mr_mqtt_frame(rest, MACHINE_PACKET_MAX, &frame);

    if (err == MR_ERR_AGAIN) {
        return false;
    }
    if (err != MR_OK) {
        breaks(peer, err == MR_ERR_FULL ? MR_MQTT_PACKET_TOO_LARGE : MR_MQTT_MALFORMED);
        return false;
    }
    if (!mr_mqtt_may_send(MR_MQTT_FROM_CLIENT, frame.type) ||
        (!peer->asked && frame.type != MR_MQTT_CONNECT)) {
        breaks(peer, MR_MQTT_PROTOCOL_ERROR);
        return false;
    }
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_CLIENT};
    if (any_decode(&frame, mode, &any, &why) != MR_OK) {
        if (!peer->asked) {
            peer->version = any.connect.version;
        }
        breaks(peer, why.reason);
        if (peer->asked && (frame.type == MR_MQTT_CONNECT || frame.type == MR_MQTT_AUTH)) {
            peer->reason_too = MR_MQTT_PROTOCOL_ERROR; /* whatever is in it */
        }
        return false;
    }
    if (frame.type == MR_MQTT_CONNECT && !peer->asked) {
        peer->version = any.connect.version;
    }
    sent_packet(peer, &any, tag);
    if (peer->broke || peer->said_bye || peer->fd < 0) {
        return false;
    }
    peer->sent_len -= frame.total_bytes;
    memmove(peer->sent, peer->sent + frame.total_bytes, peer->sent_len);
    return true;
}

void peer_send(struct peer *peer, const uint8_t *bytes, size_t len, int16_t tag)
{
    size_t done = 0;

    if (peer->fd < 0 || len == 0) {
        return;
    }
    if (mr_socket_write(peer->fd, bytes, len, &done) != MR_OK || done < len) {
        peer_drop(peer, false); /* closed by the broker, or more than fits */
        return;
    }
    if (peer->broke || peer->said_bye) {
        return;
    }
    if (peer->sent_len + len > PEER_SENT_BYTES) {
        peer_drop(peer, false);
        return;
    }
    memcpy(peer->sent + peer->sent_len, bytes, len);
    peer->sent_len += len;
    while (sent_next(peer, tag)) {
    }
}

void peer_connect(struct peer *peer, const struct mr_mqtt_connect *packet)
{
    uint8_t bytes[1024];
    ptrdiff_t len = mr_mqtt_connect_encode(packet, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_send(peer, bytes, (size_t)len, NO_TAG);
}

void peer_ack(struct peer *peer, uint8_t type, uint16_t id)
{
    uint8_t bytes[MR_MQTT_ACK_BYTES];

    (void)mr_mqtt_ack_put(bytes, type, id);
    peer_send(peer, bytes, sizeof(bytes), NO_TAG);
}

/* ---- what it gets ---- */

/* Strike the oldest such answer from what is owed; false: there is none. */
static bool answered(struct peer *peer, uint8_t type, uint16_t id, int16_t *tag)
{
    for (uint32_t i = 0; i < peer->owed_count; i++) {
        if (peer->owed[i].type == type && peer->owed[i].id == id) {
            *tag = peer->owed[i].tag;
            peer->owed_count -= 1;
            memmove(&peer->owed[i], &peer->owed[i + 1],
                    (peer->owed_count - i) * sizeof(peer->owed[0]));
            return true;
        }
    }
    return false;
}

static void got_connack(struct peer *peer, const struct mr_mqtt_connack *connack)
{
    if (connack->reason != 0) {
        peer->doubt = true;
        if (peer->broke && !peer->asked && peer->version == MR_MQTT_5 &&
            connack->reason != peer->reason) {
            broken("%s broke 0x%02x at its CONNECT and is told 0x%02x", peer->name, peer->reason,
                   connack->reason);
        }
        return;
    }
    if (!peer->asked) {
        broken("%s is let in with a CONNECT that is none", peer->name);
    }
    if (peer->wants_clean && connack->session_present) {
        broken("%s is given a session that it did not want", peer->name);
    }
    peer->let_in = true;
    peer->session_present = connack->session_present;
}

static bool inbound_is_new(struct peer *peer, uint16_t id)
{
    for (uint32_t i = 0; i < peer->inbound_count; i++) {
        if (peer->inbound[i] == id) {
            return false;
        }
    }
    mr_assert(peer->inbound_count < INBOUND_MAX);
    peer->inbound[peer->inbound_count++] = id;
    return true;
}

static void inbound_end(struct peer *peer, uint16_t id)
{
    for (uint32_t i = 0; i < peer->inbound_count; i++) {
        if (peer->inbound[i] == id) {
            peer->inbound_count -= 1;
            peer->inbound[i] = peer->inbound[peer->inbound_count];
            return;
        }
    }
}

static void we_owe(struct peer *peer, uint8_t type, uint16_t id)
{
    if (peer->acks_at_once) {
        peer_ack(peer, type, id);
    } else if (peer->pending_count < PENDING_MAX) {
        peer->pending[peer->pending_count++] = (struct pending){.type = type, .id = id};
    }
}

static void got_publish(struct peer *peer, const struct mr_mqtt_publish *publish)
{
    if (mr_mqtt_has(&publish->props, MR_MQTT_PROP_TOPIC_ALIAS)) {
        uint16_t alias = publish->props.topic_alias;
        if (alias > peer->alias_max || alias > MACHINE_ALIASES_OUT ||
            (publish->topic.len == 0 && !peer->names_alias[alias])) {
            broken("%s gets topic alias %u, which it does not know", peer->name, alias);
        }
        peer->names_alias[alias] = true;
    }
    bool is_new =
        publish->qos < 2 || !peer->keeps_track || inbound_is_new(peer, publish->packet_id);
    if (publish->qos != 0) {
        peer->in_flight += 1;
        if (peer->version == MR_MQTT_5 && peer->in_flight > peer->receive_max && !peer->spoilt) {
            broken("%s gets more than its Receive Maximum of %u", peer->name, peer->receive_max);
        }
        we_owe(peer, publish->qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC, publish->packet_id);
    }
    if (is_new && peer->keeps_track) {
        peer_got(publish);
    }
}

static void got_ack(struct peer *peer, const struct mr_mqtt_ack *ack)
{
    int16_t tag = NO_TAG;

    if (ack->type == MR_MQTT_PUBREL) {
        inbound_end(peer, ack->packet_id);
        we_owe(peer, MR_MQTT_PUBCOMP, ack->packet_id);
        return;
    }
    if (!answered(peer, ack->type, ack->packet_id, &tag)) {
        broken("%s gets a %s of id %u, which nothing asked for", peer->name,
               mr_mqtt_type_name(ack->type), ack->packet_id);
    }
    if (ack->type != MR_MQTT_PUBREC || ack->reason >= 0x80) {
        peer->publishes -= peer->publishes != 0 ? 1 : 0;
    }
    if (tag != NO_TAG && ack->reason < 0x80) {
        peer_was_accepted(peer, tag);
    }
    if (ack->type == MR_MQTT_PUBREC && peer->acks_at_once) {
        peer_ack(peer, MR_MQTT_PUBREL, ack->packet_id);
    }
}

static void got_disconnect(struct peer *peer, uint8_t reason)
{
    peer->told_bye = true;
    if (peer->broke && !peer->doubt && !peer->taken && reason != peer->reason &&
        (peer->reason_too == 0 || reason != peer->reason_too)) {
        broken("%s broke 0x%02x and is told 0x%02x", peer->name, peer->reason, reason);
    }
    if (!peer->broke && !peer->doubt && !peer->taken) {
        broken("%s is told 0x%02x for nothing", peer->name, reason);
    }
}

/* An unsupported version is answered in one that is known. */
static enum mr_err decode(struct peer *peer, const struct mr_mqtt_frame *frame, struct any *any)
{
    static const uint8_t versions[] = {MR_MQTT_5, MR_MQTT_311};
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_why why;
    enum mr_err err;

    if (!mr_mqtt_may_send(MR_MQTT_FROM_SERVER, frame->type)) {
        return MR_ERR_REJECT;
    }
    if (peer->asked || frame->type != MR_MQTT_CONNACK) {
        return any_decode(frame, mode, any, &why);
    }
    for (size_t i = 0; i < MR_COUNT_OF(versions); i++) {
        mode.version = versions[i];
        err = any_decode(frame, mode, any, &why);
        if (err == MR_OK) {
            peer->version = mode.version;
            return MR_OK;
        }
    }
    return MR_ERR_REJECT;
}

static void got_frame(struct peer *peer, const struct mr_mqtt_frame *frame)
{
    int16_t tag;
    struct any any;

    if (decode(peer, frame, &any) != MR_OK) {
        broken("%s gets a %s that does not decode", peer->name, mr_mqtt_type_name(frame->type));
    }
    tell("%s (%d) gets %s of %u bytes", peer->name, peer->fd, mr_mqtt_type_name(frame->type),
         frame->total_bytes);
    if (peer->told_bye || (!peer->let_in && frame->type != MR_MQTT_CONNACK)) { /* [MQTT-3.14.0-1] */
        broken("%s gets a %s, and is %s", peer->name, mr_mqtt_type_name(frame->type),
               peer->told_bye ? "gone" : "not let in");
    }
    if (frame->total_bytes > peer->packet_max && !peer->spoilt) {
        broken("%s gets %u bytes, and said that it takes %u", peer->name, frame->total_bytes,
               peer->packet_max);
    }
    switch ((enum mr_mqtt_type)any.type) {
    case MR_MQTT_PUBLISH:
        got_publish(peer, &any.publish);
        return;
    case MR_MQTT_DISCONNECT:
        got_disconnect(peer, any.disconnect.reason);
        return;
    case MR_MQTT_PUBACK:
    case MR_MQTT_PUBREC:
    case MR_MQTT_PUBREL:
    case MR_MQTT_PUBCOMP:
        got_ack(peer, &any.ack);
        return;
    default:
        break;
    }
    bool numbered = any.type == MR_MQTT_SUBACK || any.type == MR_MQTT_UNSUBACK;
    if (!answered(peer, any.type, numbered ? any.suback.packet_id : 0, &tag)) {
        broken("%s gets a %s that nothing asked for", peer->name, mr_mqtt_type_name(any.type));
    }
    if (any.type == MR_MQTT_CONNACK) {
        got_connack(peer, &any.connack);
    }
}

static void ended(struct peer *peer)
{
    tell("%s (%d) is ended", peer->name, peer->fd);
    if (!peer->broke && !peer->doubt && !peer->taken && !peer->spoilt && peer->asked) {
        broken("the connection of %s is ended for nothing", peer->name);
    }
    peer_drop(peer, false);
}

static void read_frames(struct peer *peer)
{
    struct mr_mqtt_frame frame;
    size_t done = 0;

    while (peer->fd >= 0) {
        struct mr_span rest = mr_span_make(peer->in + done, peer->in_len - done);
        enum mr_err err = mr_mqtt_frame(rest, PEER_IN_BYTES, &frame);
        if (err == MR_ERR_AGAIN) {
            break;
        }
        if (err != MR_OK) {
            broken("%s gets what is no packet", peer->name);
        }
        done += frame.total_bytes;
        got_frame(peer, &frame);
    }
    peer->in_len -= done;
    memmove(peer->in, peer->in + done, peer->in_len);
}

bool peer_read(struct peer *peer)
{
    bool any = false;

    for (int nothing = 0; peer->fd >= 0 && nothing < 2;) { /* it is said between pieces too */
        size_t got = 0;
        enum mr_err err =
            mr_socket_read(peer->fd, peer->in + peer->in_len, PEER_IN_BYTES - peer->in_len, &got);
        if (err == MR_ERR_AGAIN) {
            nothing += 1;
            continue;
        }
        any = true;
        nothing = 0;
        if (err != MR_OK || got == 0) {
            ended(peer);
            break;
        }
        peer->in_len += got;
        read_frames(peer);
    }
    return any;
}

void peer_waited(struct peer *peer)
{
    if (peer->keep_alive || !peer->asked || peer->sent_len != 0) {
        peer->doubt = true;
    }
}
