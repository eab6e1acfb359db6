/* mortal.c - clients with a will, whose connections end in every way.
 *
 * Each connection has a will of its own, with its number in it; their sessions outlive them.
 *
 *   (1) A will is one record, and comes once to a subscriber of QoS 2.
 *   (2) It comes to whoever was subscribed before the connection began, if the connection ended
 *       without DISCONNECT after its CONNACK: if it has a delay, unless the client tried to come
 *       back, or a CONNECT of one of its last connections may have come in late and done so.
 *   (3) No will comes of a connection that was not begun.
 */
#include "peer.h"

#include "base/bytes.h"
#include "os/clock.h"

#include <stdio.h>
#include <string.h>

enum { MAGIC = 0x3177311, LIVES_MAX = 512, PAYLOAD_BYTES = 12, DELAY_S = 2 };

enum fate {
    FATE_OPEN, /* it may come */
    FATE_OWED, /* it has to come */
};

struct life {
    enum fate fate;
    bool let_in;
    bool due[SUBSCRIBERS_MAX];
    bool received[SUBSCRIBERS_MAX];
    uint8_t in_journal; /* at the last scan */
};

struct mortal {
    struct peer peer;
    uint8_t qos;
    bool delayed;
    uint32_t lives; /* connections that were begun */
    struct life life[LIVES_MAX];
};

static struct mortal mortals[MORTALS_MAX];

void mortals_open(void)
{
    for (uint32_t i = 0; i < plan.mortals; i++) {
        struct mortal *m = &mortals[i];
        peer_init(&m->peer, "mortal", i, true);
        m->qos = (uint8_t)(1 + roll(2));
        m->delayed = m->peer.version == MR_MQTT_5 && chance(500);
    }
}

static struct life *life_now(struct mortal *m)
{
    return m->lives == 0 ? NULL : &m->life[m->lives - 1];
}

/* The CONNECT of an earlier connection may still be under way, and take over the session. */
static bool may_come_late(const struct mortal *m)
{
    uint32_t before = m->lives - 1;

    return (before >= 1 && !m->life[before - 1].let_in) ||
           (before >= 2 && !m->life[before - 2].let_in);
}

/* Its connection has ended, without DISCONNECT. */
static void dies(struct mortal *m)
{
    struct life *life = life_now(m);

    if (life != NULL && life->let_in && !(m->delayed && may_come_late(m))) {
        life->fate = FATE_OWED;
    }
}

static void begin_life(struct mortal *m)
{
    uint8_t payload[PAYLOAD_BYTES];
    char topic[16];
    struct mr_mqtt_connect like = {.has_will = true, .will_qos = m->qos};

    if (m->lives == LIVES_MAX) {
        return;
    }
    (void)snprintf(topic, sizeof(topic), "w/%u", (unsigned)(m - mortals));
    mr_put_u32(payload, MAGIC);
    mr_put_u32(payload + 4, (uint32_t)(m - mortals));
    mr_put_u32(payload + 8, m->lives);
    like.will_topic = mr_span_of(topic);
    like.will_payload = mr_span_make(payload, sizeof(payload));
    if (m->delayed) {
        like.will_props.will_delay_s = DELAY_S;
        mr_mqtt_set(&like.will_props, MR_MQTT_PROP_WILL_DELAY);
    }
    if (!peer_connect(&m->peer, &like)) {
        return;
    }
    if (m->delayed && m->lives != 0) {
        life_now(m)->fate = FATE_OPEN; /* it is back, perhaps in time */
    }
    struct life *life = &m->life[m->lives];
    m->lives += 1;
    ledger_subscribers(life->due);
    say("%s begins life %u", m->peer.name, m->lives - 1);
}

static void on_frame(void *arg, const struct mr_mqtt_frame *frame)
{
    struct mortal *m = arg;

    switch (frame->type) {
    case MR_MQTT_CONNACK:
        (void)peer_is_let_in(&m->peer, frame);
        life_now(m)->let_in = m->peer.state == PEER_UP;
        break;
    case MR_MQTT_DISCONNECT:
        link_cut(&m->peer.link, "DISCONNECT by the gateway");
        break;
    default:
        broken("%s: %s", m->peer.name, mr_mqtt_type_name(frame->type));
    }
}

void mortals_pump(void)
{
    for (uint32_t i = 0; i < plan.mortals; i++) {
        struct mortal *m = &mortals[i];
        bool was_there = m->peer.state != PEER_AWAY;
        peer_pump(&m->peer, on_frame, m);
        if (was_there && m->peer.state == PEER_AWAY) {
            dies(m);
        }
    }
}

void mortal_act(uint32_t index)
{
    struct mortal *m = &mortals[index];

    if (m->peer.state == PEER_AWAY) {
        if (chance(300)) {
            begin_life(m);
        }
    } else if (chance(100)) {
        peer_disconnect(&m->peer);
    } else if (chance(150)) {
        link_cut(&m->peer.link, "it dies");
        m->peer.state = PEER_AWAY;
        dies(m);
    }
}

/* ---- what others see of it ---- */

bool mortal_has_topic(struct mr_span topic)
{
    return topic.len > 2 && memcmp(topic.at, "w/", 2) == 0;
}

static struct life *will_read(struct mr_span topic, struct mr_span payload)
{
    uint32_t index = topic.len == 3 ? (uint32_t)(topic.at[2] - '0') : MORTALS_MAX;

    if (index >= plan.mortals || payload.len != PAYLOAD_BYTES || mr_get_u32(payload.at) != MAGIC ||
        mr_get_u32(payload.at + 4) != index || mr_get_u32(payload.at + 8) >= mortals[index].lives) {
        broken("phantom: a will of topic '%.*s'", (int)topic.len, (const char *)topic.at);
    }
    return &mortals[index].life[mr_get_u32(payload.at + 8)];
}

void mortal_received(uint32_t subscriber, struct mr_span topic, struct mr_span payload,
                     bool is_repeat)
{
    struct life *life = will_read(topic, payload);
    const struct mortal *m = &mortals[topic.at[2] - '0'];

    say("subscriber %u gets will %u of %s", subscriber, mr_get_u32(payload.at + 8), m->peer.name);
    if (life->received[subscriber] && !is_repeat && m->qos == 2 &&
        subscriber_qos(subscriber) == 2) {
        broken("doubled: will %u of %s came to subscriber %u twice", mr_get_u32(payload.at + 8),
               m->peer.name, subscriber);
    }
    life->received[subscriber] = true;
}

void mortals_scan_begin(void)
{
    for (uint32_t i = 0; i < plan.mortals; i++) {
        for (uint32_t n = 0; n < mortals[i].lives; n++) {
            mortals[i].life[n].in_journal = 0;
        }
    }
}

void mortals_scan_will(struct mr_span topic, struct mr_span payload)
{
    struct life *life = will_read(topic, payload);

    say("the journal has will %u of mortal %c", mr_get_u32(payload.at + 8), topic.at[2]);
    life->in_journal += 1;
    if (life->in_journal > 1) {
        broken("doubled: will %u of %s is in the journal twice", mr_get_u32(payload.at + 8),
               mortals[topic.at[2] - '0'].peer.name);
    }
}

/* ---- the end ---- */

/* No new lives: the last of each ends too. */
void mortals_calm(void)
{
    for (uint32_t i = 0; i < plan.mortals; i++) {
        struct mortal *m = &mortals[i];
        if (m->peer.state != PEER_AWAY) {
            link_cut(&m->peer.link, "it dies");
            m->peer.state = PEER_AWAY;
            dies(m);
        }
    }
}

bool mortals_are_done(bool tell)
{
    for (uint32_t i = 0; i < plan.mortals; i++) {
        for (uint32_t n = 0; n < mortals[i].lives; n++) {
            const struct life *life = &mortals[i].life[n];
            for (uint32_t s = 0; s < plan.subscribers && life->fate == FATE_OWED; s++) {
                if (life->due[s] && !life->received[s]) {
                    if (tell) {
                        say("will %u of %s has not come to subscriber %u", n, mortals[i].peer.name,
                            s);
                    }
                    return false;
                }
            }
        }
    }
    return true;
}
