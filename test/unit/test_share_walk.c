/* test_share_walk.c
 * links: broker net store journal codec config os base
 *
 * Goal:   shared subscriptions under random use: each acknowledged message reaches a member of its
 *         group, QoS 2 once, QoS 1 more than once only if it was unsettled when its member left or
 *         the machine stopped; in the order of its publisher, as long as nobody comes or goes.
 *         Members leave with and without their sessions, the machine stops at any moment (not
 *         only when all is quiet), and the number of shards changes.
 * Method: a ledger of all messages beside a real broker, whose journal commits by hand.  Two
 *         members are never out of their groups, so nothing may be lost.
 *
 * The seed is printed; MR_SEED starts with the same again (when a shard does something is its own).
 *
 *     test_share_walk [STEPS]    of each walk; 60
 */
#include "base/rng.h"
#include "broker/foreign_internal.h"
#include "broker/keep_internal.h"
#include "broker_peer.h"
#include "lanes_kit.h"

enum {
    MEMBERS = 5,
    STEADY = 2, /* of them, never leave their groups */
    PUBLISHERS = 3,
    GROUPS = 2,
    MESSAGES = 4000,
    OWED = 4096,
    PATIENCE_NS = 500000,
};

struct message {
    uint32_t period; /* of the walk, in which it was published */
    uint8_t qos;
    uint8_t group;
    uint8_t publisher;
    uint16_t deliveries; /* QoS 2: those that were no repetition */
    bool accepted;       /* its PUBACK or PUBREC came */
    bool again;          /* QoS 1: it may come again */
    bool excused;        /* QoS 2: it may have been in progress in a session that ended */
};

struct owed {
    uint8_t type;
    uint16_t packet_id;
    int message; /* -1: of PUBREL */
};

struct member {
    struct peer peer;
    bool connected;
    bool persistent; /* its session outlives this connection */
    struct owed owed[OWED];
    size_t owed_count;
    bool held[65536]; /* QoS 2 ids between PUBLISH and PUBREL */
    int last[PUBLISHERS];
};

struct publisher {
    struct peer peer;
    bool connected;
    uint16_t id_next;
    int under[65536]; /* message of a packet id */
};

static struct mr_rng rng;
static struct kit kit;
static struct member members[MEMBERS];
static struct publisher publishers[PUBLISHERS];
static struct message messages[MESSAGES];
static int published;
static uint32_t period; /* changes when somebody comes or goes */
static const char *const filters[GROUPS] = {"$share/a/g0/#", "$share/b/g1/+"};
static uint64_t crashes;
static bool fragile; /* a session that a crash ends has, or had just now, something of a group */

static bool chance(uint64_t percent)
{
    return mr_rng_below(&rng, 100) < percent;
}

static bool commit_all(void)
{
    bool any = lanes_commit(&kit);

    mr_journal_step_keeper(kit.journal);
    return any;
}

/* ---- what comes ---- */

static void member_publish(struct member *member, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_publish packet;
    struct mr_mqtt_why why;

    mr_assert(mr_mqtt_publish_decode(frame, mode, &packet, &why) == MR_OK);
    int number = (int)strtol((const char *)packet.payload.at, NULL, 10);
    mr_assert(number >= 0 && number < published && packet.qos != 0);
    struct message *message = &messages[number];
    mr_assert(packet.qos == message->qos);
    mr_assert(member->owed_count < OWED);
    member->owed[member->owed_count++] =
        (struct owed){.type = packet.qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC,
                      .packet_id = packet.packet_id,
                      .message = number};
    if (packet.qos == 2 && member->held[packet.packet_id]) {
        return; /* a repetition */
    }
    member->held[packet.packet_id] |= packet.qos == 2;
    if (message->deliveries != 0 && !message->again) {
        fprintf(stderr, "message %d (QoS %u) came twice, now to member %d\n", number, message->qos,
                (int)(member - members));
        abort();
    }
    if (message->deliveries == 0 && message->period == period) {
        if (number < member->last[message->publisher]) {
            fprintf(stderr, "message %d came behind %d\n", number,
                    member->last[message->publisher]);
            abort();
        }
        member->last[message->publisher] = number;
    }
    message->deliveries += 1;
}

static void member_frame(struct member *member, const struct mr_mqtt_frame *frame)
{
    if (frame->type == MR_MQTT_PUBLISH) {
        member_publish(member, frame);
    } else if (frame->type == MR_MQTT_PUBREL) {
        uint16_t id = mr_get_be16(frame->body.at);
        member->held[id] = false;
        mr_assert(member->owed_count < OWED);
        member->owed[member->owed_count++] =
            (struct owed){.type = MR_MQTT_PUBCOMP, .packet_id = id, .message = -1};
    }
}

static void publisher_frame(struct publisher *publisher, const struct mr_mqtt_frame *frame)
{
    if (frame->type == MR_MQTT_PUBACK || frame->type == MR_MQTT_PUBREC) {
        uint16_t id = mr_get_be16(frame->body.at);
        messages[publisher->under[id]].accepted = true;
        if (frame->type == MR_MQTT_PUBREC) {
            peer_send_ack(&publisher->peer, MR_MQTT_PUBREL, id);
        }
    }
}

/* A whole packet that has arrived. */
static bool packet_here(struct peer *peer, struct mr_mqtt_frame *frame)
{
    struct mr_span bytes = mr_span_make(peer->in + peer->begin, peer->end - peer->begin);

    if (mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, frame) != MR_OK) {
        return false;
    }
    peer->begin += frame->total_bytes;
    return true;
}

/* The next packet of `type`; those before it are dealt with. */
static void await(struct peer *peer, struct member *member, struct publisher *publisher,
                  uint8_t type, struct mr_mqtt_frame *frame)
{
    int64_t deadline = kit_deadline();

    for (;;) {
        while (!packet_here(peer, frame)) {
            (void)commit_all();
            peer_receive(peer, PATIENCE_NS);
            kit_patience(deadline, mr_mqtt_type_name(type));
        }
        if (frame->type == type) {
            return;
        }
        if (member != NULL) {
            member_frame(member, frame);
        } else {
            publisher_frame(publisher, frame);
        }
    }
}

/* All that it sent has been handled, and what came meanwhile is known. */
static void sync_peer(struct peer *peer, struct member *member, struct publisher *publisher)
{
    struct mr_mqtt_frame frame;
    uint8_t ping[2];

    (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
    peer_write(peer, ping, sizeof(ping));
    await(peer, member, publisher, MR_MQTT_PINGRESP, &frame);
}

static void sync_all(void)
{
    for (int i = 0; i < MEMBERS; i++) {
        if (members[i].connected) {
            sync_peer(&members[i].peer, &members[i], NULL);
        }
    }
    for (int i = 0; i < PUBLISHERS; i++) {
        if (publishers[i].connected) {
            sync_peer(&publishers[i].peer, NULL, &publishers[i]);
        }
    }
}

/* ---- what they do ---- */

static void leave(struct peer *peer)
{
    int64_t deadline = kit_deadline();

    mr_socket_shutdown(peer->fd);
    while (!peer->closed) {
        peer->begin = peer->end;
        (void)commit_all();
        peer_receive(peer, PATIENCE_NS);
        kit_patience(deadline, "the end of a connection");
    }
    peer_close(peer);
}

static void period_next(void)
{
    period += 1;
    for (int i = 0; i < MEMBERS; i++) {
        for (int p = 0; p < PUBLISHERS; p++) {
            members[i].last[p] = -1;
        }
    }
}

/* What it has not acknowledged, with QoS 1, may go to another. */
static void member_leave(struct member *member)
{
    sync_peer(&member->peer, member, NULL);
    for (size_t i = 0; i < member->owed_count; i++) {
        if (member->owed[i].message >= 0) {
            messages[member->owed[i].message].again |= messages[member->owed[i].message].qos == 1;
        }
    }
    leave(&member->peer);
    member->connected = false;
    member->owed_count = 0;
    period_next();
}

static void session_has_ended(struct member *member)
{
    memset(member->held, 0, sizeof(member->held));
    for (int i = 0; i < published; i++) { /* what it may have been in the middle of */
        messages[i].excused |= messages[i].qos == 2;
    }
}

static void member_subscribe(struct member *member, int group)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filters[group]), .qos = 2};
    struct mr_mqtt_frame frame;

    peer_send_subscribe(&member->peer, &wanted, 0);
    await(&member->peer, member, NULL, MR_MQTT_SUBACK, &frame);
    period_next();
}

static void member_unsubscribe(struct member *member, int group)
{
    uint8_t list[32];
    uint8_t bytes[64];
    struct mr_mqtt_frame frame;
    ptrdiff_t len = mr_mqtt_unsubscription_put(mr_span_of(filters[group]), list, sizeof(list));
    struct mr_mqtt_subscribe packet = {.packet_id = 3, .raw = mr_span_make(list, (size_t)len)};

    len = mr_mqtt_unsubscribe_encode(&packet, 5, bytes, sizeof(bytes));
    peer_write(&member->peer, bytes, (size_t)len);
    await(&member->peer, member, NULL, MR_MQTT_UNSUBACK, &frame);
    period_next();
}

static void member_connect(struct member *member, int index, bool goes_on)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_why why;
    char id[32];
    bool clean = !goes_on && index >= STEADY && chance(15);

    (void)snprintf(id, sizeof(id), "member-%d", index);
    member->persistent = goes_on || index < STEADY || !clean || chance(40);
    peer_open(&member->peer, &kit);
    peer_send_connect(&member->peer,
                      &(struct peer_connect){.client_id = id,
                                             .version = 5,
                                             .keep_session = !clean,
                                             .expiry_s = member->persistent ? 1000 : 0,
                                             .receive_max = (uint16_t)(1 + mr_rng_below(&rng, 6))});
    await(&member->peer, member, NULL, MR_MQTT_CONNACK, &frame);
    mr_assert(mr_mqtt_connack_decode(&frame, 5, &connack, &why) == MR_OK && connack.reason == 0);
    mr_assert(connack.session_present || index >= STEADY || period < 4);
    if (!connack.session_present) {
        session_has_ended(member);
    }
    member->connected = true;
    fragile |= !member->persistent;
    period_next();
}

static void member_answer(struct member *member)
{
    size_t count = member->owed_count == 0 ? 0 : 1 + mr_rng_below(&rng, member->owed_count);

    while (count-- > 0) {
        struct owed owed = member->owed[0];
        memmove(member->owed, member->owed + 1, (member->owed_count - 1) * sizeof(owed));
        member->owed_count -= 1;
        peer_send_ack(&member->peer, owed.type, owed.packet_id);
    }
}

static void member_act(struct member *member, int index)
{
    uint64_t what = mr_rng_below(&rng, 100);

    if (!member->connected) {
        if (what < 40) {
            member_connect(member, index, false);
        }
    } else if (what < 10) {
        member_leave(member);
        if (!member->persistent) {
            session_has_ended(member);
        }
    } else if (what < 20) {
        member_subscribe(member, (int)mr_rng_below(&rng, GROUPS));
    } else if (what < 24 && index >= STEADY) {
        member_unsubscribe(member, (int)mr_rng_below(&rng, GROUPS));
    } else {
        sync_peer(&member->peer, member, NULL);
        member_answer(member);
    }
}

static void publisher_act(struct publisher *publisher, int index)
{
    char text[32];
    uint8_t bytes[256];
    struct mr_mqtt_frame frame;
    struct mr_mqtt_publish packet = {.qos = (uint8_t)(1 + mr_rng_below(&rng, 2))};
    int group = (int)mr_rng_below(&rng, GROUPS);

    if (!publisher->connected) {
        (void)snprintf(text, sizeof(text), "publisher-%d", index);
        peer_open(&publisher->peer, &kit);
        peer_send_connect(&publisher->peer,
                          &(struct peer_connect){.client_id = text, .version = 5});
        await(&publisher->peer, NULL, publisher, MR_MQTT_CONNACK, &frame);
        publisher->connected = true;
    }
    for (uint64_t n = 1 + mr_rng_below(&rng, 4); n > 0 && published < MESSAGES; n--) {
        char topic[8];
        publisher->id_next = (uint16_t)(publisher->id_next % 60000 + 1);
        publisher->under[publisher->id_next] = published;
        messages[published] = (struct message){.period = period,
                                               .qos = packet.qos,
                                               .group = (uint8_t)group,
                                               .publisher = (uint8_t)index};
        (void)snprintf(topic, sizeof(topic), "g%d/%u", group, (unsigned)mr_rng_below(&rng, 3));
        (void)snprintf(text, sizeof(text), "%d ", published++);
        packet.topic = mr_span_of(topic);
        packet.payload = mr_span_of(text);
        packet.packet_id = publisher->id_next;
        ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
        mr_assert(len > 0);
        peer_write(&publisher->peer, bytes, (size_t)len);
    }
}

/* ---- the machine stops ---- */

static void take_what_came(struct peer *peer, struct member *member, struct publisher *publisher)
{
    struct mr_mqtt_frame frame;

    peer_receive(peer, 0);
    while (packet_here(peer, &frame)) {
        if (member != NULL) {
            member_frame(member, &frame);
        } else {
            publisher_frame(publisher, &frame);
        }
    }
}

static void shard_is_quiet(struct mr_shard *shard, void *arg)
{
    bool *quiet = arg;

    *quiet = *quiet && shard->settling == NULL && shard->pending_first == NULL &&
             shard->shared_first == NULL && shard_has_read_all(shard) &&
             shard->route.pos >= mr_lane_durable(shard->lane);
}

/* Sessions that end with their connection end now, and others have what they had. */
static void end_fragile(void)
{
    for (int i = 0; i < MEMBERS; i++) {
        if (members[i].connected && !members[i].persistent) {
            member_leave(&members[i]);
            session_has_ended(&members[i]);
        }
    }
    if (fragile) {
        lanes_wait(&kit, commit_all, shard_is_quiet);
        fragile = false;
    }
}

/* At whatever moment this is: what is not on the disk is gone. */
static void crash(void)
{
    static const uint32_t counts[] = {1, 2, 3, 5};

    end_fragile();
    for (int i = 0; i < MEMBERS; i++) {
        if (members[i].connected) {
            take_what_came(&members[i].peer, &members[i], NULL);
        }
    }
    for (int i = 0; i < PUBLISHERS; i++) {
        if (publishers[i].connected) {
            take_what_came(&publishers[i].peer, NULL, &publishers[i]);
        }
    }
    for (int i = 0; i < published; i++) { /* its acknowledgement may be lost */
        messages[i].again |= messages[i].qos == 1 && messages[i].deliveries != 0;
    }
    kit.options.lanes = chance(60) ? counts[mr_rng_below(&rng, 4)] : kit.options.lanes;
    kit_crash(&kit);
    for (int i = 0; i < MEMBERS; i++) {
        if (members[i].connected) {
            peer_close(&members[i].peer);
            members[i].connected = false;
            members[i].owed_count = 0;
        }
    }
    for (int i = 0; i < PUBLISHERS; i++) {
        if (publishers[i].connected) {
            peer_close(&publishers[i].peer);
            publishers[i].connected = false;
        }
    }
    period_next();
    crashes += 1;
}

/* ---- the end ---- */

static bool is_missing(const struct message *message)
{
    return message->accepted && message->deliveries == 0 && !message->excused;
}

static bool any_missing(void)
{
    bool any = false;

    for (int i = 0; i < published && !any; i++) {
        any = is_missing(&messages[i]);
    }
    return any;
}

static void missing_say(uint64_t queued)
{
    fprintf(stderr, "%llu messages are queued at the end\n", (unsigned long long)queued);
    for (int i = 0; i < published; i++) {
        if (is_missing(&messages[i])) {
            fprintf(stderr, "message %d (QoS %u, group %u) has come to nobody\n", i,
                    messages[i].qos, messages[i].group);
        }
    }
}

/* Everybody takes all there is, and nothing is missing then. */
static void take_all(void)
{
    int64_t deadline = kit_deadline();
    struct mr_broker_stats stats;

    end_fragile();
    for (int i = 0; i < MEMBERS; i++) {
        if (!members[i].connected) {
            member_connect(&members[i], i, true);
        }
    }
    do {
        (void)commit_all();
        sync_all();
        for (int i = 0; i < MEMBERS; i++) {
            member_answer(&members[i]);
        }
        mr_broker_stats(kit.broker, &stats);
        if (mr_clock_mono_ns() > deadline) {
            missing_say(stats.queued);
            abort();
        }
    } while (any_missing() || stats.queued != 0);
}

static void walk(uint64_t seed, const struct kit_options *options, int steps)
{
    mr_rng_seed(&rng, seed);
    memset(members, 0, sizeof(members));
    memset(publishers, 0, sizeof(publishers));
    published = 0;
    period = 0;
    fragile = false;
    kit_open(&kit, options);
    for (int i = 0; i < STEADY; i++) {
        member_connect(&members[i], i, true);
        for (int group = 0; group < GROUPS; group++) {
            member_subscribe(&members[i], group);
        }
    }
    for (int step = 0; step < steps; step++) {
        if (chance(50)) {
            int index = (int)mr_rng_below(&rng, MEMBERS);
            member_act(&members[index], index);
        } else {
            int index = (int)mr_rng_below(&rng, PUBLISHERS);
            publisher_act(&publishers[index], index);
        }
        if (chance(60)) { /* one at a time, so that they are read in any order */
            uint32_t lane = (uint32_t)mr_rng_below(&rng, mr_journal_lane_count(kit.journal));
            (void)mr_lane_step_commit(mr_journal_lane(kit.journal, lane));
        }
        if (chance(3)) {
            crash();
        }
    }
    take_all();
    crash();
    take_all();
    for (int i = 0; i < MEMBERS; i++) {
        leave(&members[i].peer);
    }
    for (int i = 0; i < PUBLISHERS; i++) {
        if (publishers[i].connected) {
            leave(&publishers[i].peer);
        }
    }
    kit_end(&kit, 0);
    mr_assert(mr_dir_list(kit.folder, kit_remove, kit.folder) == MR_OK);
    mr_assert(rmdir(kit.folder) == 0);
}

int main(int argc, char **argv)
{
    static const uint32_t checkpoint_ms[] = {3, 40, 100000};
    int steps = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 60;
    const char *given = getenv("MR_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)mr_clock_wall_us();
    int total = 0;

    mr_log_set_level(MR_LOG_ERROR);
    fprintf(stderr, "MR_SEED=%llu\n", (unsigned long long)seed);
    for (uint32_t i = 0; i < 3; i++) {
        walk(seed + i,
             &(struct kit_options){.manual = true,
                                   .lanes = i + 1,
                                   .segment_bytes = 1 << 20,
                                   .checkpoint_ms = checkpoint_ms[i]},
             steps);
        total += published;
    }
    printf("%d messages, %llu crashes\n", total, (unsigned long long)crashes);
    mr_assert(total > steps && crashes != 0);
    return 0;
}
