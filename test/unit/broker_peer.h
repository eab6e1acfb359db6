/* broker_peer.h - a client for test_broker*.c: sends encoded packets, reads answers.
 *
 * Non-blocking underneath, so that it can go on receiving while it sends; every
 * wait has a limit (broker_kit.h).
 */
#ifndef MR_TEST_BROKER_PEER_H
#define MR_TEST_BROKER_PEER_H

#include "broker_kit.h"
#include "codec/mqtt.h"

enum { PEER_BUFFER = 4 << 20 };

struct peer {
    int fd;
    struct mr_loop *loop;
    uint8_t *in;
    size_t begin;
    size_t end;
    uint8_t version;
    bool closed;
};

static inline void peer_open(struct peer *peer, struct kit *kit)
{
    struct mr_error why = {.text = ""};
    struct mr_ready ready;

    *peer = (struct peer){.in = mr_alloc(PEER_BUFFER)};
    mr_assert(mr_loop_open(&peer->loop, &why) == MR_OK);
    mr_assert(mr_socket_connect(mr_broker_bound_address(kit->broker, 0), &peer->fd, &why) == MR_OK);
    mr_assert(mr_loop_add(peer->loop, peer->fd, MR_READY_WRITE, 1) == MR_OK);
    while (mr_loop_wait(peer->loop, &ready, 1, 1000000000, NULL, NULL) == 0) {
    }
    mr_assert(mr_socket_connected(peer->fd, &why) == MR_OK);
    mr_loop_change(peer->loop, peer->fd, MR_READY_READ, 1);
}

static inline void peer_close(struct peer *peer)
{
    mr_loop_remove(peer->loop, peer->fd);
    mr_socket_close(peer->fd);
    mr_loop_close(peer->loop);
    mr_free(peer->in);
    peer->in = NULL;
}

/* Take what has arrived, waiting at most `wait_ns` for anything. */
static inline void peer_receive(struct peer *peer, int64_t wait_ns)
{
    struct mr_ready ready;
    size_t got = 0;

    if (peer->begin == peer->end) {
        peer->begin = 0;
        peer->end = 0;
    }
    if (peer->end == PEER_BUFFER) {
        memmove(peer->in, peer->in + peer->begin, peer->end - peer->begin);
        peer->end -= peer->begin;
        peer->begin = 0;
    }
    if (mr_loop_wait(peer->loop, &ready, 1, wait_ns, NULL, NULL) == 0) {
        return;
    }
    enum mr_err err = mr_socket_read(peer->fd, peer->in + peer->end, PEER_BUFFER - peer->end, &got);
    if (err == MR_OK && got != 0) {
        peer->end += got;
    } else if (err != MR_ERR_AGAIN) {
        peer->closed = true;
    }
}

/* Send all; what comes back meanwhile is kept. */
static inline void peer_write(struct peer *peer, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    int64_t deadline = kit_deadline();

    while (len != 0) {
        size_t sent = 0;
        if (mr_socket_write(peer->fd, at, len, &sent) != MR_OK) {
            peer->closed = true;
            return;
        }
        at += sent;
        len -= sent;
        if (sent == 0) {
            peer_receive(peer, 1000000);
        }
        kit_patience(deadline, "the broker to read");
    }
}

/* The next packet; false: the broker has closed the connection. */
static inline bool peer_frame(struct peer *peer, struct mr_mqtt_frame *frame)
{
    int64_t deadline = kit_deadline();

    for (;;) {
        struct mr_span bytes = {.at = peer->in + peer->begin, .len = peer->end - peer->begin};
        enum mr_err err = mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, frame);
        mr_assert(err == MR_OK || err == MR_ERR_AGAIN);
        if (err == MR_OK) {
            peer->begin += frame->total_bytes;
            return true;
        }
        if (peer->closed) {
            return false;
        }
        peer_receive(peer, 100000000);
        kit_patience(deadline, "a packet");
    }
}

/* Nothing may arrive: everything before the PINGRESP has been looked at. */
static inline void peer_quiet(struct peer *peer)
{
    uint8_t ping[2];
    struct mr_mqtt_frame frame;

    (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
    peer_write(peer, ping, sizeof(ping));
    mr_assert(peer_frame(peer, &frame));
    mr_assert(frame.type == MR_MQTT_PINGRESP);
}

static inline void peer_expect_closed(struct peer *peer)
{
    struct mr_mqtt_frame frame;

    if (peer_frame(peer, &frame)) {
        fprintf(stderr, "expected the end, got %s\n", mr_mqtt_type_name(frame.type));
        abort();
    }
}

struct peer_connect {
    const char *client_id;
    uint8_t version;
    uint16_t keep_alive_s;
    const char *will_topic;
    const char *will_payload;
    uint8_t will_qos;
    uint16_t receive_max;
    uint16_t alias_max; /* 5.0: topic aliases it lets the broker use */
    bool keep_session;
    uint32_t expiry_s; /* 5.0 */
    uint32_t will_delay_s;
    bool will_retain;
    const char *username;
    const char *password;
};

static inline void peer_send_connect(struct peer *peer, const struct peer_connect *how)
{
    uint8_t bytes[1024];
    struct mr_mqtt_connect packet = {
        .version = how->version,
        .client_id = mr_span_of(how->client_id),
        .clean_start = !how->keep_session,
        .keep_alive_s = how->keep_alive_s,
    };

    if (how->will_topic != NULL) {
        packet.has_will = true;
        packet.will_topic = mr_span_of(how->will_topic);
        packet.will_payload = mr_span_of(how->will_payload);
        packet.will_qos = how->will_qos;
        packet.will_retain = how->will_retain;
        if (how->will_delay_s != 0) {
            packet.will_props.will_delay_s = how->will_delay_s;
            mr_mqtt_set(&packet.will_props, MR_MQTT_PROP_WILL_DELAY);
        }
    }
    if (how->expiry_s != 0) {
        packet.props.session_expiry_s = how->expiry_s;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    if (how->username != NULL) {
        packet.has_username = true;
        packet.username = mr_span_of(how->username);
    }
    if (how->password != NULL) {
        packet.has_password = true;
        packet.password = mr_span_of(how->password);
    }
    if (how->receive_max != 0) {
        packet.props.receive_max = how->receive_max;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_RECEIVE_MAX);
    }
    if (how->alias_max != 0) {
        packet.props.topic_alias_max = how->alias_max;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_TOPIC_ALIAS_MAX);
    }
    peer->version = how->version;
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

static inline void peer_expect_connack(struct peer *peer, struct mr_mqtt_connack *out)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;

    mr_assert(peer_frame(peer, &frame));
    mr_assert(frame.type == MR_MQTT_CONNACK);
    mr_assert(mr_mqtt_connack_decode(&frame, peer->version, out, &why) == MR_OK);
}

/* Connect so and be accepted.  True: the session was there. */
static inline bool peer_join_as(struct peer *peer, struct kit *kit, const struct peer_connect *how)
{
    struct mr_mqtt_connack got;

    peer_open(peer, kit);
    peer_send_connect(peer, how);
    peer_expect_connack(peer, &got);
    mr_assert(got.reason == 0);
    return got.session_present;
}

/* With a session of its own. */
static inline void peer_join(struct peer *peer, struct kit *kit, const char *id, uint8_t version)
{
    mr_assert(
        !peer_join_as(peer, kit, &(struct peer_connect){.client_id = id, .version = version}));
}

static inline size_t put_publish(uint8_t *out, size_t size, uint8_t version, const char *topic,
                                 const char *payload, uint8_t qos, uint16_t packet_id)
{
    struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                     .payload = mr_span_of(payload),
                                     .qos = qos,
                                     .packet_id = packet_id};
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, version, out, size);

    mr_assert(len > 0);
    return (size_t)len;
}

static inline void peer_publish(struct peer *peer, const char *topic, const char *payload,
                                uint8_t qos, uint16_t packet_id)
{
    uint8_t bytes[2048];

    peer_write(peer, bytes,
               put_publish(bytes, sizeof(bytes), peer->version, topic, payload, qos, packet_id));
}

/* The next packet is this kind of ack; returns its reason. */
static inline uint8_t peer_expect_ack(struct peer *peer, uint8_t type, uint16_t packet_id)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_ack ack;
    struct mr_mqtt_why why;
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};

    mr_assert(peer_frame(peer, &frame));
    if (frame.type != type) {
        fprintf(stderr, "expected %s, got %s\n", mr_mqtt_type_name(type),
                mr_mqtt_type_name(frame.type));
        abort();
    }
    mr_assert(mr_mqtt_ack_decode(&frame, mode, &ack, &why) == MR_OK);
    mr_assert(ack.packet_id == packet_id);
    return ack.reason;
}

static inline uint8_t peer_expect_puback(struct peer *peer, uint16_t packet_id)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_ack ack;
    struct mr_mqtt_why why;
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};

    mr_assert(peer_frame(peer, &frame));
    mr_assert(frame.type == MR_MQTT_PUBACK);
    mr_assert(mr_mqtt_ack_decode(&frame, mode, &ack, &why) == MR_OK);
    mr_assert(ack.packet_id == packet_id);
    return ack.reason;
}

static inline void peer_send_ack(struct peer *peer, uint8_t type, uint16_t packet_id)
{
    uint8_t bytes[MR_MQTT_ACK_BYTES];

    (void)mr_mqtt_ack_put(bytes, type, packet_id);
    peer_write(peer, bytes, sizeof(bytes));
}

static inline void peer_ack(struct peer *peer, uint16_t packet_id)
{
    peer_send_ack(peer, MR_MQTT_PUBACK, packet_id);
}

static inline void peer_send_subscribe(struct peer *peer,
                                       const struct mr_mqtt_subscription *subscription,
                                       uint32_t subscription_id)
{
    uint8_t filters[512];
    uint8_t bytes[1024];
    ptrdiff_t len = mr_mqtt_subscription_put(subscription, filters, sizeof(filters));

    mr_assert(len > 0);
    struct mr_mqtt_subscribe packet = {.packet_id = 7, .raw = mr_span_make(filters, (size_t)len)};
    if (subscription_id != 0) {
        packet.props.subscription_id = subscription_id;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SUBSCRIPTION_ID);
    }
    len = mr_mqtt_subscribe_encode(&packet, peer->version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

/* Subscribe to one filter; returns the code of the SUBACK. */
static inline uint8_t peer_subscribe(struct peer *peer,
                                     const struct mr_mqtt_subscription *subscription,
                                     uint32_t subscription_id)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_suback suback;
    struct mr_mqtt_why why;

    peer_send_subscribe(peer, subscription, subscription_id);
    mr_assert(peer_frame(peer, &frame) && frame.type == MR_MQTT_SUBACK);
    mr_assert(mr_mqtt_suback_decode(&frame, peer->version, &suback, &why) == MR_OK);
    mr_assert(suback.packet_id == 7 && suback.codes.len == 1);
    return suback.codes.at[0];
}

/* The next packet must be this PUBLISH.  Its fields stay until the next read. */
static inline void peer_expect_publish(struct peer *peer, const char *topic, const char *payload,
                                       uint8_t qos, struct mr_mqtt_publish *out)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};

    mr_assert(peer_frame(peer, &frame));
    mr_assert(frame.type == MR_MQTT_PUBLISH);
    mr_assert(mr_mqtt_publish_decode(&frame, mode, out, &why) == MR_OK);
    if (!mr_span_is(out->topic, topic) || !mr_span_is(out->payload, payload) || out->qos != qos) {
        fprintf(stderr, "got '%.*s' '%.*s' qos %u, expected '%s' '%s' qos %u\n",
                (int)out->topic.len, (const char *)out->topic.at, (int)out->payload.len,
                (const char *)out->payload.at, out->qos, topic, payload, qos);
        abort();
    }
}

/* The next packet is DISCONNECT with `reason` (5.0), then the end. */
static inline void peer_expect_disconnect(struct peer *peer, uint8_t reason)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_disconnect packet;
    struct mr_mqtt_why why;
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};

    mr_assert(peer_frame(peer, &frame));
    if (frame.type != MR_MQTT_DISCONNECT) {
        fprintf(stderr, "expected DISCONNECT, got %s\n", mr_mqtt_type_name(frame.type));
        abort();
    }
    mr_assert(mr_mqtt_disconnect_decode(&frame, mode, &packet, &why) == MR_OK);
    if (packet.reason != reason) {
        fprintf(stderr, "DISCONNECT 0x%02x, expected 0x%02x\n", packet.reason, reason);
        abort();
    }
    peer_expect_closed(peer);
}

/* DISCONNECT as it should be. */
static inline void peer_leave(struct peer *peer)
{
    peer_write(peer, "\xe0\x00", 2);
    peer_expect_closed(peer);
    peer_close(peer);
}

/* Publish with QoS 0 or 1, the topic as its payload, until it is acknowledged. */
static inline void peer_tell(struct peer *pub, const char *topic, uint8_t qos)
{
    peer_publish(pub, topic, topic, qos, qos == 0 ? 0 : 1);
    if (qos == 0) {
        peer_quiet(pub);
    } else {
        mr_assert(peer_expect_puback(pub, 1) == 0);
    }
}

/* Get what somebody told. */
static inline void peer_hear(struct peer *sub, const char *topic, uint8_t qos)
{
    struct mr_mqtt_publish got;

    peer_expect_publish(sub, topic, topic, qos, &got);
    if (qos != 0) {
        peer_ack(sub, got.packet_id);
    }
}

/* As a subscriber whose session stays for an hour; `present`: there is one. */
static inline void peer_join_kept(struct peer *peer, struct kit *kit, bool present)
{
    mr_assert(peer_join_as(peer, kit,
                           &(struct peer_connect){.client_id = "scada",
                                                  .version = 5,
                                                  .keep_session = true,
                                                  .expiry_s = 3600}) == present);
}

#endif
