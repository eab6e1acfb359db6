/* device.c - devices that publish, as the specification wants it.
 *
 * Each keeps what was not acknowledged and sends it again, in its order, with DUP where its
 * session is still there.  What was acknowledged it forgets, and the ledger remembers.
 */
#include "world.h"

#include "codec/mqtt.h"

#include <stdio.h>
#include <string.h>

/* A reason code of PUBACK and PUBREC. */
enum { QUOTA_EXCEEDED = 0x97 };

enum { WINDOW_MAX = 24, IDS = 40, PACKET_BESIDE = 128, PACKET_BYTES = PAYLOAD_MAX + PACKET_BESIDE };

enum device_state { AWAY, CONNECTING, UP };
enum outgoing_state { SENT, RECEIVED };

struct outgoing {
    uint32_t number;
    uint16_t id;
    uint8_t qos;
    enum outgoing_state state; /* RECEIVED: its PUBREC has come */
};

struct device {
    uint32_t index;
    uint8_t version;
    bool persistent;
    bool had_session; /* a CONNACK has said that it is kept */
    unsigned qos0_percent;
    unsigned qos2_percent;
    uint32_t window;
    enum device_state state;
    uint32_t next;
    uint16_t id_last;
    uint32_t count;
    struct outgoing outgoing[WINDOW_MAX]; /* oldest first */
    struct link link;
    struct link ghost; /* an earlier connection that has not noticed yet */
};

static struct device devices[DEVICES_MAX];

void devices_open(void)
{
    for (uint32_t i = 0; i < plan.devices; i++) {
        struct device *d = &devices[i];
        d->index = i;
        d->version = roll(2) == 0 ? MR_MQTT_311 : MR_MQTT_5;
        d->persistent = roll(3) != 0;
        d->qos0_percent = (unsigned)roll(30);
        d->qos2_percent = (unsigned)roll(3) * 50;
        d->window = 1 + (uint32_t)roll(WINDOW_MAX);
        d->link.fd = -1;
        d->link.ack = plan.ack[i];
        d->ghost.fd = -1;
    }
}

uint8_t device_qos(uint32_t index, uint32_t percent)
{
    const struct device *d = &devices[index];

    if (percent < d->qos0_percent) {
        return 0;
    }
    return (percent * 7 + 3) % 100 < d->qos2_percent ? 2 : 1;
}

bool device_is_persistent(uint32_t index)
{
    return devices[index].persistent;
}

static struct event_id event_of(const struct device *d, uint32_t number)
{
    return (struct event_id){.device = d->index, .number = number};
}

/* ---- sending ---- */

static void send_publish(struct device *d, struct event_id id, uint16_t packet_id, bool dup)
{
    uint8_t payload[PAYLOAD_MAX];
    uint8_t bytes[PACKET_BYTES];
    char topic[32];
    struct mr_mqtt_publish packet = {.qos = event_qos(id), .packet_id = packet_id, .dup = dup};

    event_topic(id, topic);
    packet.topic = mr_span_of(topic);
    packet.payload = mr_span_make(payload, event_payload(id, payload));
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, d->version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    ledger_sent(id);
    link_put(&d->link, bytes, (size_t)len);
}

static void send_ack(struct device *d, uint8_t type, uint16_t packet_id)
{
    uint8_t bytes[MR_MQTT_ACK_BYTES];

    (void)mr_mqtt_ack_put(bytes, type, packet_id);
    link_put(&d->link, bytes, sizeof(bytes));
}

/* Room for any of them. */
static size_t packet_bytes(void)
{
    return (plan.payload_max > PAYLOAD_USUAL ? PAYLOAD_MAX : PAYLOAD_USUAL) + PACKET_BESIDE;
}

static bool id_is_free(const struct device *d, uint16_t id)
{
    for (uint32_t i = 0; i < d->count; i++) {
        if (d->outgoing[i].id == id) {
            return false;
        }
    }
    return true;
}

static void publish_next(struct device *d)
{
    struct event_id id = event_of(d, d->next);
    uint8_t qos;

    if (d->next == EVENTS_MAX || !link_has_room(&d->link, packet_bytes())) {
        return;
    }
    qos = event_qos(id);
    if (qos == 0) {
        d->next += 1;
        send_publish(d, id, 0, false);
        return;
    }
    if (d->count == d->window) {
        return;
    }
    do {
        d->id_last = d->id_last % IDS + 1;
    } while (!id_is_free(d, d->id_last));
    d->next += 1;
    d->outgoing[d->count] =
        (struct outgoing){.number = id.number, .id = d->id_last, .qos = qos, .state = SENT};
    d->count += 1;
    send_publish(d, id, d->id_last, false);
}

static void connect(struct device *d)
{
    uint8_t bytes[256];
    char name[16];
    struct mr_mqtt_connect packet = {.version = d->version, .clean_start = !d->persistent};

    if (!link_open(&d->link)) {
        return;
    }
    say("device %u connects, %u unacknowledged", d->index, d->count);
    (void)snprintf(name, sizeof(name), "device-%u", d->index);
    packet.client_id = mr_span_of(name);
    if (d->version == MR_MQTT_5 && d->persistent) {
        packet.props.session_expiry_s = 100000000;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
    mr_assert(len > 0);
    link_put(&d->link, bytes, (size_t)len);
    d->state = CONNECTING;
}

/* ---- receiving ---- */

static void outgoing_remove(struct device *d, uint32_t at)
{
    d->count -= 1;
    memmove(&d->outgoing[at], &d->outgoing[at + 1], (d->count - at) * sizeof(d->outgoing[0]));
}

/* Everything that is not acknowledged, again. */
static void send_again(struct device *d, bool present)
{
    uint32_t at = 0;

    while (at < d->count) {
        struct outgoing *o = &d->outgoing[at];
        if (o->state == RECEIVED && !present) {
            outgoing_remove(d, at); /* the gateway had it, and this session knows no more */
            continue;
        }
        if (o->state == RECEIVED) {
            send_ack(d, MR_MQTT_PUBREL, o->id);
        } else {
            send_publish(d, event_of(d, o->number), o->id, present);
        }
        at += 1;
    }
}

static void on_connack(struct device *d, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_connack packet;
    struct mr_mqtt_why why;

    if (mr_mqtt_connack_decode(frame, d->version, &packet, &why) != MR_OK ||
        d->state != CONNECTING) {
        broken("device %u: a CONNACK that is none", d->index);
    }
    if (packet.reason != 0 && plan.world == WORLD_MEMORY) {
        link_cut(&d->link, "refused");
        return;
    }
    if (packet.reason != 0) {
        broken("device %u is refused: 0x%02x", d->index, packet.reason);
    }
    if (d->had_session && !packet.session_present) {
        broken("lost: the session of device %u, that it was told is kept", d->index);
    }
    if (!d->persistent && packet.session_present) {
        broken("device %u is given a session that it did not want", d->index);
    }
    d->had_session = d->persistent;
    d->state = UP;
    send_again(d, packet.session_present);
}

/* The oldest that waits for `type`: acknowledgements come in the order of the publishes. */
static uint32_t awaited(struct device *d, uint8_t type, uint16_t id)
{
    for (uint32_t i = 0; i < d->count; i++) {
        const struct outgoing *o = &d->outgoing[i];
        bool waits = type == MR_MQTT_PUBACK   ? o->qos == 1
                     : type == MR_MQTT_PUBREC ? o->qos == 2 && o->state == SENT
                                              : o->id == id && o->state == RECEIVED;
        if (waits && o->id == id) {
            return i;
        }
        if (waits) {
            broken("device %u: %s of id %u before that of id %u", d->index, mr_mqtt_type_name(type),
                   id, o->id);
        }
    }
    broken("device %u: %s of id %u, which waits for none", d->index, mr_mqtt_type_name(type), id);
}

static void on_ack(struct device *d, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_mode mode = {.version = d->version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_ack ack;
    struct mr_mqtt_why why;

    if (mr_mqtt_ack_decode(frame, mode, &ack, &why) != MR_OK) {
        broken("device %u: an acknowledgement that is none", d->index);
    }
    uint32_t at = awaited(d, frame->type, ack.packet_id);
    struct outgoing *o = &d->outgoing[at];
    if (ack.reason == QUOTA_EXCEEDED && frame->type != MR_MQTT_PUBCOMP) {
        say("device %u: event %u is refused", d->index, o->number);
        ledger_refused(event_of(d, o->number));
        outgoing_remove(d, at);
        return;
    }
    if (ack.reason >= 0x80 && frame->type != MR_MQTT_PUBCOMP) {
        broken("device %u: event %u is refused: 0x%02x", d->index, o->number, ack.reason);
    }
    if (frame->type == MR_MQTT_PUBREC) {
        ledger_acked(event_of(d, o->number), d->link.life);
        o->state = RECEIVED;
        send_ack(d, MR_MQTT_PUBREL, o->id);
        return;
    }
    if (frame->type == MR_MQTT_PUBACK) {
        ledger_acked(event_of(d, o->number), d->link.life);
    }
    outgoing_remove(d, at);
}

static void on_frame(void *arg, const struct mr_mqtt_frame *frame)
{
    struct device *d = arg;

    switch (frame->type) {
    case MR_MQTT_CONNACK:
        on_connack(d, frame);
        break;
    case MR_MQTT_PUBACK:
    case MR_MQTT_PUBREC:
    case MR_MQTT_PUBCOMP:
        on_ack(d, frame);
        break;
    case MR_MQTT_DISCONNECT:
        link_cut(&d->link, "DISCONNECT by the gateway");
        break;
    default:
        broken("device %u: %s", d->index, mr_mqtt_type_name(frame->type));
    }
}

static void on_ghost_frame(void *arg, const struct mr_mqtt_frame *frame)
{
    (void)arg;
    (void)frame;
}

void devices_pump(void)
{
    for (uint32_t i = 0; i < plan.devices; i++) {
        struct device *d = &devices[i];
        (void)link_read(&d->ghost, on_ghost_frame, d);
        (void)link_read(&d->link, on_frame, d);
        link_flush(&d->link);
        if (d->link.fd < 0) {
            d->state = AWAY;
        }
    }
}

/* ---- what it does ---- */

/* A second connection, while the first one still believes that it lives. */
static void connect_anew(struct device *d)
{
    link_cut(&d->ghost, "a ghost is forgotten");
    d->ghost = d->link;
    d->link.fd = -1;
    d->state = AWAY;
    connect(d);
}

static void disconnect(struct device *d)
{
    uint8_t bytes[8];
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_DISCONNECT};
    ptrdiff_t len = mr_mqtt_disconnect_encode(&packet, d->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    link_put(&d->link, bytes, (size_t)len);
    link_flush(&d->link);
    link_cut(&d->link, "by the device");
    d->state = AWAY;
}

void device_act(uint32_t index)
{
    struct device *d = &devices[index];

    if (d->state == AWAY) {
        if (chance(300)) {
            connect(d);
        }
        return;
    }
    if (chance(plan.network)) {
        switch (roll(5)) {
        case 0:
            disconnect(d);
            return;
        case 1:
            connect_anew(d);
            return;
        case 2:
            link_cut(&d->link, "lost");
            d->state = AWAY;
            return;
        default:
            d->link.cut_soon = true;
            break;
        }
    }
    if (d->state == UP) {
        for (uint64_t count = 1 + roll(8); count > 0; count--) {
            publish_next(d);
        }
    }
}

void devices_calm(void)
{
    for (uint32_t i = 0; i < plan.devices; i++) {
        devices[i].link.cut_soon = false;
        if (devices[i].state == AWAY) {
            connect(&devices[i]);
        }
    }
}

bool devices_are_done(void)
{
    bool done = true;

    for (uint32_t i = 0; i < plan.devices; i++) {
        done = done && devices[i].state == UP && devices[i].count == 0;
    }
    return done;
}
