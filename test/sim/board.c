/* board.c - clients that set and clear retained messages, and one who comes to look.
 *
 * A board has a few topics of its own and writes on them with QoS 1, one number after the
 * other; an empty payload clears.  What was not acknowledged is sent again, in its order.  So
 * what is retained in the end is what was written last, whatever happened.
 *
 *   (1) What is retained is never older than what was acknowledged before the SUBSCRIBE.  (With
 *       several shards: in the end.  Another shard learns of it a little later.)
 *   (2) In the end, and after one more kill -9, it is what was written last.
 */
#include "peer.h"

#include "base/bytes.h"

#include <stdio.h>
#include <string.h>

enum {
    MAGIC = 0x2e7a12ed,
    TOPICS = 4,
    POSTS_MAX = 1024, /* of one board */
    WINDOW = 8,
    PAYLOAD_BYTES = 12,
};

struct post {
    uint8_t topic;
    bool clears;
};

struct board {
    struct peer peer;
    uint32_t written; /* posts that were sent for the first time */
    uint32_t acked;   /* the first of them, so many */
    struct post posts[POSTS_MAX];
};

static struct board boards[BOARDS_MAX];

/* Who looks; each time a new session. */
static struct {
    struct peer peer;
    bool subscribed;                    /* it has its SUBACK */
    uint32_t least[BOARDS_MAX][TOPICS]; /* post, and one more, that was acknowledged before */
    uint32_t found[BOARDS_MAX][TOPICS]; /* ... that it was sent; 0: none */
} looker;

void boards_open(void)
{
    for (uint32_t i = 0; i < plan.boards; i++) {
        peer_init(&boards[i].peer, "board", i, roll(2) == 0);
    }
    if (plan.boards != 0) {
        peer_init(&looker.peer, "looker", 0, false);
    }
}

/* ---- writing ---- */

static void post_send(struct board *b, uint32_t number, bool dup)
{
    uint8_t payload[PAYLOAD_BYTES];
    char topic[16];
    const struct post *post = &b->posts[number];
    struct mr_mqtt_publish packet = {
        .qos = 1, .retain = true, .dup = dup, .packet_id = (uint16_t)(1 + number % 1000)};

    (void)snprintf(topic, sizeof(topic), "r/%u/%u", (unsigned)(b - boards), post->topic);
    mr_put_u32(payload, MAGIC);
    mr_put_u32(payload + 4, (uint32_t)(b - boards));
    mr_put_u32(payload + 8, number);
    packet.topic = mr_span_of(topic);
    packet.payload = mr_span_make(payload, post->clears ? 0 : sizeof(payload));
    peer_publish(&b->peer, &packet);
}

static void write_next(struct board *b)
{
    if (b->written == POSTS_MAX || b->written - b->acked == WINDOW ||
        !link_has_room(&b->peer.link, 256)) {
        return;
    }
    b->posts[b->written] = (struct post){.topic = (uint8_t)roll(TOPICS), .clears = chance(200)};
    b->written += 1;
    post_send(b, b->written - 1, false);
}

static void on_board_frame(void *arg, const struct mr_mqtt_frame *frame)
{
    struct board *b = arg;

    switch (frame->type) {
    case MR_MQTT_CONNACK: {
        bool present = peer_is_let_in(&b->peer, frame);
        for (uint32_t i = b->acked; b->peer.state == PEER_UP && i < b->written; i++) {
            post_send(b, i, present);
        }
        break;
    }
    case MR_MQTT_PUBACK:
        if (peer_take_ack(&b->peer, frame) != 1 + b->acked % 1000 || b->acked == b->written) {
            broken("%s: a PUBACK out of turn", b->peer.name);
        }
        b->acked += 1;
        break;
    case MR_MQTT_DISCONNECT:
        link_cut(&b->peer.link, "DISCONNECT by the gateway");
        break;
    default:
        broken("%s: %s", b->peer.name, mr_mqtt_type_name(frame->type));
    }
}

void board_act(uint32_t index)
{
    struct board *b = &boards[index];

    if (b->peer.state == PEER_AWAY) {
        (void)(chance(300) && peer_connect(&b->peer, NULL));
        return;
    }
    if (chance(plan.network)) {
        if (chance(300)) {
            peer_disconnect(&b->peer);
            return;
        }
        b->peer.link.cut_soon = true;
    }
    for (uint64_t count = roll(4); b->peer.state == PEER_UP && count > 0; count--) {
        write_next(b);
    }
}

/* ---- what others see of it ---- */

bool board_has_topic(struct mr_span topic)
{
    return topic.len > 2 && memcmp(topic.at, "r/", 2) == 0;
}

/* Which board and topic; the number, and one more, or 0 if it clears. */
static struct board *post_read(struct mr_span topic, struct mr_span payload, uint32_t *at,
                               uint32_t *number)
{
    uint32_t index = topic.len == 5 ? (uint32_t)(topic.at[2] - '0') : BOARDS_MAX;

    *at = topic.len == 5 ? (uint32_t)(topic.at[4] - '0') : TOPICS;
    *number = 0;
    if (index >= plan.boards || *at >= TOPICS) {
        broken("phantom: a message of topic '%.*s'", (int)topic.len, (const char *)topic.at);
    }
    struct board *b = &boards[index];
    if (payload.len == 0) {
        return b;
    }
    if (payload.len != PAYLOAD_BYTES || mr_get_u32(payload.at) != MAGIC ||
        mr_get_u32(payload.at + 4) != index || mr_get_u32(payload.at + 8) >= b->written) {
        broken("phantom: a message of %zu bytes that %s has not sent", payload.len, b->peer.name);
    }
    *number = mr_get_u32(payload.at + 8) + 1;
    const struct post *post = &b->posts[*number - 1];
    if (post->topic != *at || post->clears) {
        broken("corrupt: post %u of %s", *number - 1, b->peer.name);
    }
    return b;
}

void board_check(struct mr_span topic, struct mr_span payload)
{
    uint32_t at;
    uint32_t number;

    (void)post_read(topic, payload, &at, &number);
}

/* ---- looking ---- */

static void look(void)
{
    if (!peer_connect(&looker.peer, NULL)) {
        return;
    }
    looker.subscribed = false;
    memset(looker.found, 0, sizeof(looker.found));
    memset(looker.least, 0, sizeof(looker.least));
}

static void look_subscribe(void)
{
    for (uint32_t i = 0; i < plan.boards; i++) {
        for (uint32_t n = 0; n < boards[i].acked; n++) {
            looker.least[i][boards[i].posts[n].topic] = n + 1;
        }
    }
    peer_subscribe(&looker.peer, "r/#", 1);
}

static void look_at(const struct mr_mqtt_publish *packet)
{
    uint32_t at;
    uint32_t number;
    const struct board *b = post_read(packet->topic, packet->payload, &at, &number);
    uint32_t index = (uint32_t)(b - boards);

    say("looker sees post %u of board %u on topic %u%s", number - 1, index, at,
        packet->retain ? ", retained" : "");
    if (packet->retain && number == 0) {
        broken("topic %u of board %u: an empty message is retained", at, index);
    }
    if (packet->retain && plan.lanes == 1 && plan.relane == 0 && number < looker.least[index][at]) {
        broken("topic %u of board %u: post %u is retained, post %u was acknowledged", at, index,
               number - 1, looker.least[index][at] - 1);
    }
    looker.found[index][at] = number;
}

static void on_looker_frame(void *arg, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_publish packet;

    (void)arg;
    switch (frame->type) {
    case MR_MQTT_CONNACK:
        (void)peer_is_let_in(&looker.peer, frame);
        if (looker.peer.state == PEER_UP) {
            look_subscribe();
        }
        break;
    case MR_MQTT_SUBACK:
        looker.subscribed = true;
        break;
    case MR_MQTT_PUBLISH:
        peer_take_publish(&looker.peer, frame, &packet);
        look_at(&packet);
        if (packet.qos == 1) {
            peer_ack(&looker.peer, MR_MQTT_PUBACK, packet.packet_id);
        }
        break;
    case MR_MQTT_DISCONNECT:
        link_cut(&looker.peer.link, "DISCONNECT by the gateway");
        break;
    default:
        broken("looker: %s", mr_mqtt_type_name(frame->type));
    }
}

void looker_act(void)
{
    if (looker.peer.state == PEER_AWAY) {
        look();
    } else if (chance(300)) {
        link_cut(&looker.peer.link, "it has seen enough");
        looker.peer.state = PEER_AWAY;
    }
}

void boards_pump(void)
{
    for (uint32_t i = 0; i < plan.boards; i++) {
        peer_pump(&boards[i].peer, on_board_frame, &boards[i]);
    }
    if (plan.boards != 0) {
        peer_pump(&looker.peer, on_looker_frame, NULL);
    }
}

/* ---- the end ---- */

void boards_calm(void)
{
    for (uint32_t i = 0; i < plan.boards; i++) {
        boards[i].peer.link.cut_soon = false;
        if (boards[i].peer.state == PEER_AWAY) {
            (void)peer_connect(&boards[i].peer, NULL);
        }
    }
    if (plan.boards != 0 && looker.peer.state == PEER_AWAY) {
        look();
    }
}

bool boards_are_done(void)
{
    bool done = true;

    for (uint32_t i = 0; i < plan.boards; i++) {
        done = done && boards[i].acked == boards[i].written;
    }
    return done;
}

/* Of each topic the looker has what was written last. */
bool looker_is_right(bool tell)
{
    if (plan.boards != 0 && !looker.subscribed) {
        return false;
    }
    for (uint32_t i = 0; i < plan.boards; i++) {
        uint32_t last[TOPICS] = {0};
        for (uint32_t n = 0; n < boards[i].written; n++) {
            const struct post *post = &boards[i].posts[n];
            last[post->topic] = post->clears ? 0 : n + 1;
        }
        for (uint32_t t = 0; t < TOPICS; t++) {
            if (looker.found[i][t] != last[t]) {
                if (tell) {
                    say("topic %u of board %u: seen is %u, written was %u", t, i,
                        looker.found[i][t], last[t]);
                }
                return false;
            }
        }
    }
    return true;
}

/* It looks anew. */
void looker_again(void)
{
    if (plan.boards != 0) {
        link_cut(&looker.peer.link, "it looks anew");
        looker.peer.state = PEER_AWAY;
        looker.subscribed = false;
    }
}
