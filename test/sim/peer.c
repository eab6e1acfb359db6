/* peer.c - what clients of all kinds do alike. */
#include "peer.h"

#include <stdio.h>

enum { PACKET_BYTES = 512 };

void peer_init(struct peer *peer, const char *kind, uint32_t index, bool persistent)
{
    *peer = (struct peer){.persistent = persistent, .link.fd = -1};
    peer->version = roll(2) == 0 ? MR_MQTT_311 : MR_MQTT_5;
    if (plan.when_full == FULL_REFUSES) {
        peer->version = MR_MQTT_311; /* it waits, and is not refused */
    }
    (void)snprintf(peer->name, sizeof(peer->name), "%s-%u", kind, index);
}

bool peer_connect(struct peer *peer, const struct mr_mqtt_connect *like)
{
    uint8_t bytes[PACKET_BYTES];
    struct mr_mqtt_connect packet = {.version = 0};

    if (!link_open(&peer->link)) {
        return false;
    }
    if (like != NULL) {
        packet = *like;
    }
    packet.version = peer->version;
    packet.clean_start = !peer->persistent;
    packet.client_id = mr_span_of(peer->name);
    if (peer->version == MR_MQTT_5 && peer->persistent) {
        packet.props.session_expiry_s = 100000000;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
    mr_assert(len > 0);
    link_put(&peer->link, bytes, (size_t)len);
    peer->state = PEER_CONNECTING;
    return true;
}

bool peer_is_let_in(struct peer *peer, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_connack packet;
    struct mr_mqtt_why why;

    if (mr_mqtt_connack_decode(frame, peer->version, &packet, &why) != MR_OK ||
        peer->state != PEER_CONNECTING) {
        broken("%s: a CONNACK that is none", peer->name);
    }
    if (packet.reason != 0 && plan.world == WORLD_MEMORY) {
        link_cut(&peer->link, "refused");
        return false;
    }
    if (packet.reason != 0) {
        broken("%s is not let in", peer->name);
    }
    if (peer->had_session && !packet.session_present) {
        broken("lost: the session of %s, that it was told is kept", peer->name);
    }
    if (!peer->persistent && packet.session_present) {
        broken("%s is given a session that it did not want", peer->name);
    }
    peer->had_session = peer->persistent;
    peer->state = PEER_UP;
    return packet.session_present;
}

void peer_publish(struct peer *peer, const struct mr_mqtt_publish *packet)
{
    uint8_t bytes[PACKET_BYTES];
    ptrdiff_t len = mr_mqtt_publish_encode(packet, peer->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    link_put(&peer->link, bytes, (size_t)len);
}

void peer_subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    uint8_t filters[64];
    uint8_t bytes[128];
    struct mr_mqtt_subscription one = {.filter = mr_span_of(filter), .qos = qos};
    ptrdiff_t len = mr_mqtt_subscription_put(&one, filters, sizeof(filters));

    mr_assert(len > 0);
    struct mr_mqtt_subscribe packet = {.packet_id = 1, .raw = mr_span_make(filters, (size_t)len)};
    len = mr_mqtt_subscribe_encode(&packet, peer->version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    link_put(&peer->link, bytes, (size_t)len);
}

void peer_ack(struct peer *peer, uint8_t type, uint16_t packet_id)
{
    uint8_t bytes[MR_MQTT_ACK_BYTES];

    (void)mr_mqtt_ack_put(bytes, type, packet_id);
    link_put(&peer->link, bytes, sizeof(bytes));
}

void peer_disconnect(struct peer *peer)
{
    uint8_t bytes[8];
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_DISCONNECT};
    ptrdiff_t len = mr_mqtt_disconnect_encode(&packet, peer->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    link_put(&peer->link, bytes, (size_t)len);
    link_flush(&peer->link);
    link_cut(&peer->link, "by the client");
    peer->state = PEER_AWAY;
}

void peer_pump(struct peer *peer, void (*each)(void *arg, const struct mr_mqtt_frame *frame),
               void *arg)
{
    (void)link_read(&peer->link, each, arg);
    link_flush(&peer->link);
    if (peer->link.fd < 0) {
        peer->state = PEER_AWAY;
    }
}

void peer_take_publish(const struct peer *peer, const struct mr_mqtt_frame *frame,
                       struct mr_mqtt_publish *out)
{
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_why why;

    if (mr_mqtt_publish_decode(frame, mode, out, &why) != MR_OK) {
        broken("%s: a PUBLISH that is none", peer->name);
    }
}

uint16_t peer_take_ack(const struct peer *peer, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_ack ack;
    struct mr_mqtt_why why;

    if (mr_mqtt_ack_decode(frame, mode, &ack, &why) != MR_OK || ack.reason >= 0x80) {
        broken("%s: %s that is none, or refuses", peer->name, mr_mqtt_type_name(frame->type));
    }
    return ack.packet_id;
}
