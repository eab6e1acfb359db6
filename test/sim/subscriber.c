/* subscriber.c - clients whose sessions are kept, and to whom everything is owed; or, together
 * as members of a group, each event of the bridges' to one of them.
 *
 * They answer late and in pieces, go and come back; a packet id of QoS 2 they remember until
 * PUBREL, as the specification wants it.
 */
#include "world.h"

#include "codec/mqtt.h"

#include <stdio.h>
#include <string.h>

enum { OWED_MAX = 4096 };

enum subscriber_state { AWAY, CONNECTING, UP };

struct owed {
    uint8_t type;
    uint16_t id;
};

struct subscriber {
    uint32_t index;
    uint8_t version;
    uint8_t qos;
    bool had_session;
    bool subscribed; /* a SUBACK has said so */
    enum subscriber_state state;
    bool has_id[65536]; /* QoS 2: received, not released */
    uint32_t owed_count;
    struct owed owed[OWED_MAX]; /* answers, oldest first */
    struct link link;
};

/* Those with everything, and behind them the members of the group. */
static struct subscriber subscribers[SUBSCRIBERS_MAX + MEMBERS_MAX];
static bool got_some;

static uint32_t count_all(void)
{
    return plan.subscribers + plan.members;
}

static bool is_member(const struct subscriber *s)
{
    return s->index >= plan.subscribers;
}

void subscribers_open(void)
{
    for (uint32_t i = 0; i < count_all(); i++) {
        struct subscriber *s = &subscribers[i];
        s->index = i;
        s->version = roll(2) == 0 ? MR_MQTT_311 : MR_MQTT_5;
        s->qos = is_member(s) ? plan.group_qos : (uint8_t)(1 + roll(2));
        s->link.fd = -1;
    }
}

uint8_t subscriber_qos(uint32_t index)
{
    return subscribers[index].qos;
}

static void connect(struct subscriber *s)
{
    uint8_t bytes[256];
    char name[24];
    struct mr_mqtt_connect packet = {.version = s->version, .clean_start = false};

    if (!link_open(&s->link)) {
        return;
    }
    say("subscriber %u connects", s->index);
    (void)snprintf(name, sizeof(name), "subscriber-%u", s->index);
    packet.client_id = mr_span_of(name);
    if (s->version == MR_MQTT_5) {
        packet.props.session_expiry_s = 100000000;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
        packet.props.receive_max = (uint16_t)(1 + roll(20));
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_RECEIVE_MAX);
    }
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
    mr_assert(len > 0);
    link_put(&s->link, bytes, (size_t)len);
    s->owed_count = 0; /* answers belong to a connection */
    s->state = CONNECTING;
}

static void subscribe(struct subscriber *s)
{
    uint8_t filters[64];
    uint8_t bytes[128];
    const char *name = is_member(s) ? "$share/group/s/#" : "#";
    struct mr_mqtt_subscription filter = {.filter = mr_span_of(name), .qos = s->qos};
    ptrdiff_t len = mr_mqtt_subscription_put(&filter, filters, sizeof(filters));

    mr_assert(len > 0);
    struct mr_mqtt_subscribe packet = {.packet_id = 1, .raw = mr_span_make(filters, (size_t)len)};
    len = mr_mqtt_subscribe_encode(&packet, s->version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    link_put(&s->link, bytes, (size_t)len);
}

static void owe(struct subscriber *s, uint8_t type, uint16_t id)
{
    mr_assert(s->owed_count < OWED_MAX);
    s->owed[s->owed_count] = (struct owed){.type = type, .id = id};
    s->owed_count += 1;
}

static void on_connack(struct subscriber *s, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_connack packet;
    struct mr_mqtt_why why;

    if (mr_mqtt_connack_decode(frame, s->version, &packet, &why) != MR_OK ||
        s->state != CONNECTING) {
        broken("subscriber %u: a CONNACK that is none", s->index);
    }
    if (packet.reason != 0 && plan.world == WORLD_MEMORY) {
        link_cut(&s->link, "refused");
        return;
    }
    if (packet.reason != 0) {
        broken("subscriber %u is not let in", s->index);
    }
    if (s->had_session && !packet.session_present) {
        broken("lost: the session of subscriber %u, that it was told is kept", s->index);
    }
    if (!packet.session_present) {
        memset(s->has_id, 0, sizeof(s->has_id));
    }
    s->had_session = true;
    s->state = UP;
    if (!s->subscribed) {
        subscribe(s);
    }
}

static void take(const struct subscriber *s, const struct mr_mqtt_publish *packet, bool is_repeat)
{
    if (board_has_topic(packet->topic)) {
        board_check(packet->topic, packet->payload);
        return;
    }
    if (mortal_has_topic(packet->topic)) {
        mortal_received(s->index, packet->topic, packet->payload, is_repeat);
        return;
    }
    struct event_id id = event_read(packet->topic, packet->payload, packet->qos);
    say("subscriber %u gets event %u of device %u, QoS %u, id %u%s", s->index, id.number, id.device,
        packet->qos, packet->packet_id, packet->dup ? ", DUP" : "");
    if (is_member(s)) {
        ledger_group_received(s->index - plan.subscribers, id, is_repeat);
    } else {
        ledger_received(s->index, id, is_repeat);
    }
}

static void on_publish(struct subscriber *s, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_mode mode = {.version = s->version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_publish packet;
    struct mr_mqtt_why why;

    if (mr_mqtt_publish_decode(frame, mode, &packet, &why) != MR_OK) {
        broken("subscriber %u: a PUBLISH that is none", s->index);
    }
    take(s, &packet, packet.qos == 2 && s->has_id[packet.packet_id]);
    got_some = true;
    if (packet.qos == 2) {
        s->has_id[packet.packet_id] = true;
        owe(s, MR_MQTT_PUBREC, packet.packet_id);
    }
    if (packet.qos == 1) {
        owe(s, MR_MQTT_PUBACK, packet.packet_id);
    }
}

static void on_frame(void *arg, const struct mr_mqtt_frame *frame)
{
    struct subscriber *s = arg;
    struct mr_mqtt_mode mode = {.version = s->version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_ack ack;
    struct mr_mqtt_why why;

    switch (frame->type) {
    case MR_MQTT_CONNACK:
        on_connack(s, frame);
        break;
    case MR_MQTT_SUBACK:
        say("subscriber %u is subscribed", s->index);
        s->subscribed = true;
        if (is_member(s)) {
            ledger_grouped();
        } else {
            ledger_subscribed(s->index);
        }
        break;
    case MR_MQTT_PUBLISH:
        on_publish(s, frame);
        break;
    case MR_MQTT_PUBREL:
        if (mr_mqtt_ack_decode(frame, mode, &ack, &why) != MR_OK) {
            broken("subscriber %u: a PUBREL that is none", s->index);
        }
        s->has_id[ack.packet_id] = false;
        owe(s, MR_MQTT_PUBCOMP, ack.packet_id);
        break;
    case MR_MQTT_DISCONNECT:
        link_cut(&s->link, "DISCONNECT by the gateway");
        break;
    default:
        broken("subscriber %u: %s", s->index, mr_mqtt_type_name(frame->type));
    }
}

/* Give the oldest `count` answers. */
static void answer(struct subscriber *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t bytes[MR_MQTT_ACK_BYTES];
        (void)mr_mqtt_ack_put(bytes, s->owed[i].type, s->owed[i].id);
        link_put(&s->link, bytes, sizeof(bytes));
    }
    s->owed_count -= count;
    memmove(s->owed, s->owed + count, s->owed_count * sizeof(s->owed[0]));
}

void subscribers_pump(void)
{
    for (uint32_t i = 0; i < count_all(); i++) {
        struct subscriber *s = &subscribers[i];
        (void)link_read(&s->link, on_frame, s);
        if (world_is_calm) {
            answer(s, s->owed_count);
        }
        link_flush(&s->link);
        if (s->link.fd < 0) {
            s->state = AWAY;
            s->owed_count = 0;
        }
    }
}

void subscriber_act(uint32_t index)
{
    struct subscriber *s = &subscribers[index];

    if (s->state == AWAY) {
        if (chance(300)) {
            connect(s);
        }
        return;
    }
    if (chance(plan.network)) {
        if (chance(500)) {
            s->link.cut_soon = true;
        } else {
            link_cut(&s->link, "lost");
            s->state = AWAY;
            return;
        }
    }
    answer(s, s->owed_count == 0 ? 0 : (uint32_t)roll(s->owed_count + 1));
}

bool subscribers_got_some(void)
{
    bool some = got_some;

    got_some = false;
    return some;
}

void subscribers_calm(void)
{
    for (uint32_t i = 0; i < count_all(); i++) {
        subscribers[i].link.cut_soon = false;
        if (subscribers[i].state == AWAY) {
            connect(&subscribers[i]);
        }
    }
}
