/* test_retained_answer.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what a wildcard SUBSCRIBE brings stays right while it is on its way and other things
 *         happen: each message that is retained all the time comes once, nothing older follows what
 *         is newer, and nothing comes twice; from several shards, with QoS 2, for overlapping
 *         subscriptions, with No Local, Message Expiry, Retain Handling and several who ask.
 * Method: a subscriber with a small Receive Maximum that does not acknowledge holds its walk where
 *         it is until everything else has happened; then it takes the rest.
 */
#include "broker_peer.h"

enum { MANY = 240, MORE = 20, TOPICS = MANY + MORE, WINDOW = 5, IDS = 3, PUBLISHERS = 6 };

/* Who takes, and what it got. */
struct taker {
    struct peer peer;
    uint16_t held[WINDOW]; /* packet ids that it has not acknowledged */
    uint32_t held_count;
    uint8_t qos;
    unsigned brought[IDS][TOPICS]; /* with RETAIN, by subscription identifier */
    unsigned live[TOPICS];
    unsigned ids[TOPICS]; /* subscription identifiers of the live one, one bit each */
    unsigned total;       /* of those with RETAIN */
};

static void topic_name(char name[16], unsigned topic)
{
    (void)snprintf(name, 16, "r/%03u", topic);
}

/* ---- publishing ---- */

struct what {
    const char *payload; /* "": clear */
    uint8_t qos;
    uint32_t expiry_s;
};

static void send_retained(struct peer *peer, unsigned topic, const struct what *what)
{
    char name[16];
    uint8_t bytes[256];
    uint8_t raw[8] = {0x02, (uint8_t)(what->expiry_s >> 24), (uint8_t)(what->expiry_s >> 16),
                      (uint8_t)(what->expiry_s >> 8), (uint8_t)what->expiry_s};
    struct mr_mqtt_publish packet = {.payload = mr_span_of(what->payload),
                                     .qos = what->qos,
                                     .packet_id = (uint16_t)(what->qos == 0 ? 0 : topic + 1),
                                     .retain = true};

    topic_name(name, topic);
    packet.topic = mr_span_of(name);
    if (what->expiry_s != 0) {
        packet.props_raw = mr_span_make(raw, 5);
        packet.props.message_expiry_s = what->expiry_s;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_MESSAGE_EXPIRY);
    }
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, peer->version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

/* Topics first, first + step, ... below `end`; all is acknowledged at the end. */
static void retain(struct peer *peer, unsigned first, unsigned end, unsigned step,
                   const struct what *what)
{
    for (unsigned topic = first; topic < end; topic += step) {
        send_retained(peer, topic, what);
    }
    for (unsigned topic = first; topic < end && what->qos != 0; topic += step) {
        (void)peer_expect_ack(peer, what->qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC,
                              (uint16_t)(topic + 1));
    }
    for (unsigned topic = first; topic < end && what->qos == 2; topic += step) {
        peer_send_ack(peer, MR_MQTT_PUBREL, (uint16_t)(topic + 1));
        (void)peer_expect_ack(peer, MR_MQTT_PUBCOMP, (uint16_t)(topic + 1));
    }
    peer_quiet(peer);
}

/* ---- taking ---- */

static void join(struct taker *taker, struct kit *kit, const struct peer_connect *how, uint8_t qos)
{
    struct mr_mqtt_connack connack;

    *taker = (struct taker){.qos = qos};
    peer_open(&taker->peer, kit);
    peer_send_connect(&taker->peer, how);
    peer_expect_connack(&taker->peer, &connack);
    mr_assert(connack.reason == 0);
}

static void join_plain(struct taker *taker, struct kit *kit, const char *id, uint8_t qos)
{
    join(taker, kit,
         &(struct peer_connect){.client_id = id, .version = MR_MQTT_5, .receive_max = WINDOW}, qos);
}

static void note(struct taker *taker, const struct mr_mqtt_publish *got)
{
    struct mr_span rest = got->props.subscription_ids_raw;
    char name[16] = "";
    unsigned topic = TOPICS;
    uint32_t id = 0;
    unsigned ids = 0;

    mr_assert(got->topic.len < sizeof(name));
    memcpy(name, got->topic.at, got->topic.len);
    mr_assert(sscanf(name, "r/%u", &topic) == 1 && topic < TOPICS);
    if (mr_mqtt_has(&got->props, MR_MQTT_PROP_SUBSCRIPTION_ID)) {
        ids = 1U << got->props.subscription_id;
        while (mr_mqtt_subscription_id_next(&rest, &id)) {
            ids |= 1U << id;
        }
    }
    if (!got->retain) {
        taker->live[topic] += 1;
        taker->ids[topic] |= ids;
        return;
    }
    mr_assert(mr_span_is(got->payload, "old"));
    mr_assert(taker->live[topic] == 0); /* nothing older follows what is newer */
    taker->brought[got->props.subscription_id][topic] += 1;
    taker->total += 1;
}

/* One packet.  Its PUBLISH is acknowledged, or held back. */
static void take(struct taker *taker, bool hold)
{
    const struct mr_mqtt_mode mode = {.version = MR_MQTT_5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_frame frame;
    struct mr_mqtt_publish got;
    struct mr_mqtt_ack ack;
    struct mr_mqtt_why why;

    mr_assert(peer_frame(&taker->peer, &frame));
    if (frame.type == MR_MQTT_PUBREL) {
        mr_assert(mr_mqtt_ack_decode(&frame, mode, &ack, &why) == MR_OK);
        peer_send_ack(&taker->peer, MR_MQTT_PUBCOMP, ack.packet_id);
        return;
    }
    mr_assert(frame.type == MR_MQTT_PUBLISH);
    mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK && got.qos <= taker->qos);
    note(taker, &got);
    if (hold) {
        taker->held[taker->held_count++] = got.packet_id;
    } else if (got.qos != 0) {
        peer_send_ack(&taker->peer, got.qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC, got.packet_id);
    }
}

/* The walk has begun, and rests for the window is used up. */
static void hold(struct taker *taker)
{
    while (taker->held_count != WINDOW) {
        take(taker, true);
    }
    peer_quiet(&taker->peer);
}

static void let_go(struct taker *taker)
{
    for (uint32_t i = 0; i < taker->held_count; i++) {
        peer_send_ack(&taker->peer, taker->qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC,
                      taker->held[i]);
    }
    taker->held_count = 0;
}

static void subscribe(struct taker *taker, const char *filter, uint32_t id,
                      struct mr_mqtt_subscription how)
{
    how.filter = mr_span_of(filter);
    how.qos = taker->qos;
    mr_assert(peer_subscribe(&taker->peer, &how, id) == taker->qos);
}

/* Everything is on its way or here: take until nothing comes any more. */
static void take_all(struct taker *taker, bool (*is_over)(const struct taker *taker))
{
    while (!is_over(taker)) {
        take(taker, false);
    }
    while (taker->qos == 2) { /* the ends of its exchanges, up to the answer to a PING */
        const uint8_t *at = taker->peer.in + taker->peer.begin;
        if (taker->peer.begin == taker->peer.end || *at >> 4 != MR_MQTT_PUBREL) {
            break;
        }
        take(taker, false);
    }
}

/* Nothing more comes. */
static void expect_end(struct taker *taker)
{
    uint8_t ping[2];

    for (int i = 0; i < 2; i++) {
        (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
        peer_write(&taker->peer, ping, sizeof(ping));
        for (;;) {
            struct mr_mqtt_frame frame;
            while (taker->peer.begin == taker->peer.end) {
                peer_receive(&taker->peer, 100000000);
            }
            if (taker->peer.in[taker->peer.begin] >> 4 != MR_MQTT_PUBREL) {
                mr_assert(peer_frame(&taker->peer, &frame) && frame.type == MR_MQTT_PINGRESP);
                break;
            }
            take(taker, false);
        }
    }
    peer_close(&taker->peer);
}

/* ---- several shards ---- */

/* Every tenth topic changed, every tenth was cleared, and some are new. */
static bool is_changed(unsigned topic)
{
    return topic >= MANY || topic % 10 == 1 || topic % 10 == 2;
}

static bool all_came(const struct taker *taker)
{
    for (unsigned topic = 0; topic < TOPICS; topic++) {
        if (is_changed(topic) ? taker->live[topic] == 0 : taker->brought[1][topic] == 0) {
            return false;
        }
    }
    return true;
}

static bool all_live(const struct taker *taker)
{
    for (unsigned topic = 0; topic < MANY; topic++) {
        if (taker->live[topic] == 0) {
            return false;
        }
    }
    return true;
}

static void test_shards(uint32_t lanes, uint8_t qos)
{
    const struct what old = {.payload = "old", .qos = qos};
    const struct what new = {.payload = "new", .qos = qos};
    const struct what none = {.payload = "", .qos = qos};
    struct peer pubs[PUBLISHERS];
    struct taker first;
    struct taker taker;
    struct kit kit;

    kit_open(&kit, &(struct kit_options){.lanes = lanes});
    join_plain(&first, &kit, "taker", qos); /* at home where `taker` will be */
    subscribe(&first, "r/#", 1, (struct mr_mqtt_subscription){0});
    for (unsigned i = 0; i < PUBLISHERS; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "pub-%u", i);
        peer_join(&pubs[i], &kit, id, MR_MQTT_5);
        retain(&pubs[i], i, MANY, PUBLISHERS, &old);
    }
    take_all(&first, all_live); /* so they are retained in that shard, too */
    peer_close(&first.peer);

    join_plain(&taker, &kit, "taker", qos);
    subscribe(&taker, "r/#", 1, (struct mr_mqtt_subscription){0});
    hold(&taker);
    retain(&pubs[0], 1, MANY, 10, &new);
    retain(&pubs[1], 2, MANY, 10, &none);
    retain(&pubs[2], MANY, TOPICS, 2, &new);
    retain(&pubs[3], MANY + 1, TOPICS, 2, &new);
    let_go(&taker);
    take_all(&taker, all_came);
    expect_end(&taker);
    for (unsigned topic = 0; topic < TOPICS; topic++) {
        mr_assert(taker.live[topic] == is_changed(topic));
        mr_assert(taker.brought[1][topic] <= (topic < MANY));
    }
    for (unsigned i = 0; i < PUBLISHERS; i++) {
        peer_close(&pubs[i]);
    }
    kit_close(&kit);
}

/* ---- one shard ---- */

static void begin(struct kit *kit, struct peer *pub, const struct kit_options *options, uint8_t qos)
{
    kit_open(kit, options);
    peer_join(pub, kit, "pub", MR_MQTT_5);
    retain(pub, 0, MANY, 1, &(struct what){.payload = "old", .qos = qos});
}

static bool both_came(const struct taker *taker)
{
    for (unsigned topic = 0; topic < MANY; topic++) {
        if (topic % 10 == 1 ? taker->live[topic] == 0
                            : taker->brought[1][topic] == 0 || taker->brought[2][topic] == 0) {
            return false;
        }
    }
    return true;
}

/* Two filters that overlap, of which each brings its own; what is live comes once for both. */
static void test_overlapping(uint8_t qos)
{
    struct taker taker;
    struct peer pub;
    struct kit kit;

    begin(&kit, &pub, &(struct kit_options){.overlapping = MR_OVERLAPPING_MERGED}, qos);
    join_plain(&taker, &kit, "taker", qos);
    subscribe(&taker, "r/#", 1, (struct mr_mqtt_subscription){0});
    hold(&taker);
    subscribe(&taker, "r/+", 2, (struct mr_mqtt_subscription){0});
    retain(&pub, 1, MANY, 10, &(struct what){.payload = "new", .qos = qos});
    let_go(&taker);
    take_all(&taker, both_came);
    expect_end(&taker);
    for (unsigned topic = 0; topic < MANY; topic++) {
        bool changed = topic % 10 == 1;
        mr_assert(taker.live[topic] == changed && (!changed || taker.ids[topic] == (2 | 4)));
        mr_assert(taker.brought[1][topic] <= 1 && taker.brought[2][topic] <= 1);
    }
    peer_close(&pub);
    kit_close(&kit);
}

static bool all_but_own(const struct taker *taker)
{
    for (unsigned topic = 0; topic < MANY; topic++) {
        if (topic % 10 != 1 && taker->brought[1][topic] == 0) {
            return false;
        }
    }
    return true;
}

/* What it retains itself meanwhile does not come [MQTT-3.8.3-3], nor what that took the place of.
 */
static void test_no_local(void)
{
    struct taker taker;
    struct peer pub;
    struct kit kit;
    unsigned before[TOPICS];

    begin(&kit, &pub, &(struct kit_options){.lanes = 1}, 1);
    join_plain(&taker, &kit, "taker", 1);
    subscribe(&taker, "r/#", 1, (struct mr_mqtt_subscription){.no_local = true});
    hold(&taker);
    memcpy(before, taker.brought[1], sizeof(before));
    retain(&taker.peer, 1, MANY, 10, &(struct what){.payload = "own", .qos = 1});
    let_go(&taker);
    take_all(&taker, all_but_own);
    expect_end(&taker);
    for (unsigned topic = 0; topic < MANY; topic++) {
        bool own = topic % 10 == 1;
        mr_assert(taker.live[topic] == 0);
        mr_assert(taker.brought[1][topic] == (own ? before[topic] : 1));
    }
    peer_close(&pub);
    kit_close(&kit);
}

/* What expires while it waits for its turn is not sent. */
static void test_expiry(void)
{
    const struct what brief = {.payload = "old", .qos = 1, .expiry_s = 1};
    struct taker taker;
    struct peer pub;
    struct kit kit;
    int64_t until_ns;

    begin(&kit, &pub, &(struct kit_options){.lanes = 1}, 1);
    join_plain(&taker, &kit, "taker", 1);
    retain(&pub, 1, MANY, 10, &brief);
    until_ns = mr_clock_mono_ns() + 1100000000; /* its second, and that of a clock's grain */
    subscribe(&taker, "r/#", 1, (struct mr_mqtt_subscription){0});
    hold(&taker);
    while (mr_clock_mono_ns() < until_ns) {
        peer_receive(&taker.peer, until_ns - mr_clock_mono_ns());
    }
    let_go(&taker);
    unsigned before = 0;
    for (unsigned topic = 1; topic < MANY; topic += 10) {
        before += taker.brought[1][topic];
    }
    take_all(&taker, all_but_own);
    expect_end(&taker);
    mr_assert(taker.total == MANY - MANY / 10 + before && before <= WINDOW);
    peer_close(&pub);
    kit_close(&kit);
}

static bool has_all(const struct taker *taker)
{
    for (unsigned topic = 0; topic < MANY; topic++) {
        if (taker->brought[1][topic] + taker->brought[2][topic] == 0) {
            return false;
        }
    }
    return true;
}

/* The same filter once more: 1 and 2 bring nothing more, and what was under way goes on. */
static void test_retain_handling(uint8_t handling)
{
    struct taker taker;
    struct peer pub;
    struct kit kit;

    begin(&kit, &pub, &(struct kit_options){.lanes = 1}, 1);
    join_plain(&taker, &kit, "taker", 1);
    subscribe(&taker, "r/#", 1, (struct mr_mqtt_subscription){0});
    hold(&taker);
    subscribe(&taker, "r/#", 2, (struct mr_mqtt_subscription){.retain_handling = handling});
    let_go(&taker);
    take_all(&taker, has_all);
    if (handling == 0) { /* all of it once more, those too that were there already */
        while (taker.total < MANY + WINDOW) {
            take(&taker, false);
        }
    }
    if (handling != 0) {
        expect_end(&taker);
        mr_assert(taker.total == MANY);
    } else {
        peer_close(&taker.peer);
    }
    peer_close(&pub);
    kit_close(&kit);
}

/* Some who ask and take nothing keep nobody else from getting all. */
static void test_fairness(void)
{
    enum { RESTING = 4 };
    struct taker resting[RESTING];
    struct taker taker;
    struct peer pub;
    struct kit kit;

    begin(&kit, &pub, &(struct kit_options){.lanes = 1}, 1);
    for (int i = 0; i < RESTING; i++) {
        char id[32];
        (void)snprintf(id, sizeof(id), "rests-%d", i);
        join_plain(&resting[i], &kit, id, 1);
        subscribe(&resting[i], "r/#", 1, (struct mr_mqtt_subscription){0});
        hold(&resting[i]);
    }
    join_plain(&taker, &kit, "taker", 1);
    subscribe(&taker, "r/#", 1, (struct mr_mqtt_subscription){0});
    take_all(&taker, has_all);
    expect_end(&taker);
    for (int i = RESTING; i-- > 0;) {
        let_go(&resting[i]);
        take_all(&resting[i], has_all);
        expect_end(&resting[i]);
        mr_assert(resting[i].total == MANY);
    }
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- a session that stays ---- */

/* Until all are retained in the shard of this client: a lane is read when it is its turn. */
static void await_retained(struct kit *kit, const char *id)
{
    struct taker taker = {.total = 0};

    while (taker.total < MANY) {
        bool is_over = false;
        uint8_t ping[2];
        join_plain(&taker, kit, id, 0);
        subscribe(&taker, "r/#", 1, (struct mr_mqtt_subscription){0});
        (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
        peer_write(&taker.peer, ping, sizeof(ping));
        while (taker.total < MANY && !is_over) {
            while (taker.peer.begin == taker.peer.end) {
                peer_receive(&taker.peer, 100000000);
            }
            is_over = taker.peer.in[taker.peer.begin] >> 4 != MR_MQTT_PUBLISH;
            if (!is_over) {
                take(&taker, false);
            }
        }
        peer_close(&taker.peer);
    }
}

/* Another count of shards in the middle of it: nothing is missed. */
static void test_move(uint32_t from, uint32_t to, bool clean)
{
    const struct peer_connect stays = {.client_id = "stays",
                                       .version = MR_MQTT_5,
                                       .receive_max = WINDOW,
                                       .keep_session = true,
                                       .expiry_s = 3600};
    struct taker before;
    struct taker after;
    struct peer pub;
    struct kit kit;

    begin(&kit, &pub, &(struct kit_options){.lanes = from, .max_queued_messages = 40}, 1);
    peer_close(&pub);
    await_retained(&kit, stays.client_id);
    join(&before, &kit, &stays, 1);
    subscribe(&before, "r/#", 1, (struct mr_mqtt_subscription){0});
    hold(&before);
    kit.options.lanes = to;
    if (clean) {
        peer_close(&before.peer);
        kit_end(&kit, 5000000000);
        kit_begin(&kit);
    } else {
        kit_crash(&kit);
        peer_close(&before.peer);
    }
    join(&after, &kit, &stays, 1);
    take_all(&after, has_all);
    peer_close(&after.peer);
    kit_close(&kit);
}

/* By the time it is back nothing is retained any more, so it is over, and stays so. */
static void test_nothing_left(void)
{
    const struct peer_connect stays = {.client_id = "stays",
                                       .version = MR_MQTT_5,
                                       .receive_max = WINDOW,
                                       .keep_session = true,
                                       .expiry_s = 3600};
    struct taker taker;
    struct peer pub;
    struct kit kit;

    begin(&kit, &pub, &(struct kit_options){.max_queued_messages = 40}, 1);
    join(&taker, &kit, &stays, 1);
    subscribe(&taker, "r/#", 1, (struct mr_mqtt_subscription){0});
    hold(&taker);
    for (unsigned marker = MANY; marker < MANY + 2; marker++) {
        peer_close(&taker.peer);
        peer_close(&pub);
        kit_end(&kit, 5000000000);
        kit_begin(&kit);
        peer_join(&pub, &kit, "pub", MR_MQTT_5);
        if (marker == MANY) {
            retain(&pub, 0, MANY, 1, &(struct what){.payload = "", .qos = 0});
        }
        join(&taker, &kit, &stays, 1);
        retain(&pub, marker, marker + 1, 1, &(struct what){.payload = "new", .qos = 1});
        while (taker.live[marker] == 0) {
            take(&taker, false);
        }
    }
    expect_end(&taker);
    peer_close(&pub);
    kit_close(&kit);
}

int main(void)
{
    mr_log_set_level(MR_LOG_ERROR);
    test_shards(3, 1);
    test_shards(3, 2);
    test_shards(1, 1);
    test_overlapping(1);
    test_overlapping(2);
    test_no_local();
    test_expiry();
    for (uint8_t handling = 0; handling <= 2; handling++) {
        test_retain_handling(handling);
    }
    test_fairness();
    test_move(1, 3, true);
    test_move(3, 2, false);
    test_move(2, 1, true);
    test_nothing_left();
    (void)puts("retained answer: ok");
    return 0;
}
