/* session_walk.h - clients that do random things to a real broker, and its state as text.
 *
 * For test_session_model.c and test_session_move.c.  The journal is committed by hand, so that
 * what is durable is known; the seed is printed, MR_SEED repeats a run.
 */
#ifndef MR_TEST_SESSION_WALK_H
#define MR_TEST_SESSION_WALK_H

#include "base/rng.h"
#include "base/text.h"
#include "broker/foreign_internal.h"
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"
#include "broker/retained.h"
#include "broker_peer.h"
#include "lanes_kit.h"

#include <stdarg.h>

enum { CLIENTS = 4, TOPICS = 6, OWED_MAX = 4096, DUMP_BYTES = 4 << 20, ALIASES_OUT = 4 };

struct owed {
    uint8_t type; /* of the ack that is due */
    uint16_t packet_id;
};

struct actor {
    struct peer peer;
    bool connected;
    struct owed owed[OWED_MAX];
    size_t owed_count;
    uint16_t inbound[64]; /* QoS 2 ids it has under way */
    size_t inbound_count;
    uint16_t id_next;
    bool aliased[TOPICS];            /* our alias n + 1 stands for topic n */
    char names[ALIASES_OUT + 1][16]; /* what the broker's aliases stand for */
};

static struct mr_rng rng;
static struct kit kit;
static struct actor actors[CLIENTS];
static uint64_t published;
static uint8_t topics_of[100000]; /* of what was published, by number */
static uint64_t aliases_met;      /* messages whose topic was the broker's alias alone */
static uint64_t compared;         /* lines */

static bool chance(uint64_t percent)
{
    return mr_rng_below(&rng, 100) < percent;
}

static bool commit_all(void)
{
    return lanes_commit(&kit);
}

/* ---- the state as text ---- */

static int line_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct lines {
    char *items[20000];
    size_t count;
};

static void line_add(struct lines *lines, const char *fmt, ...) MR_PRINTF(2, 3);
static void line_add(struct lines *lines, const char *fmt, ...)
{
    char text[400];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    mr_assert(lines->count < MR_COUNT_OF(lines->items));
    lines->items[lines->count++] = mr_strdup(text);
}

/* A message by what it says, which no other one does. */
static void message_text(struct mr_shard *shard, struct kept *kept, char out[64])
{
    struct mr_message message;

    mr_assert(kept_read(shard, kept, &message) == MR_OK);
    (void)snprintf(out, 64, "%.*s '%.*s'", (int)message.topic.len, (const char *)message.topic.at,
                   (int)message.payload.len, (const char *)message.payload.at);
    kept_read_end(shard);
}

static void dump_keep(struct lines *lines, struct mr_shard *shard, const struct session *session)
{
    const struct keep *keep = session->keep;
    const char *id = (const char *)session->text;
    int id_len = session->id_len;

    line_add(lines, "%.*s: next %llu expiry %u will %s", id_len, id,
             (unsigned long long)keep->ordinal_next, keep->expiry_s,
             session->will == NULL ? "none" : "some");
    for (uint32_t i = 0; i < inbound_count(session->inbound); i++) {
        line_add(lines, "%.*s: awaits %u", id_len, id, session->inbound->ids[i].id);
    }
    for (const struct mr_sub *sub = session->subs; sub != NULL; sub = sub->owner_next) {
        uint8_t filter[128] = {0};
        mr_subtree_filter_put(sub, filter);
        line_add(lines, "%.*s: wants %s %u %d %d %u", id_len, id, (const char *)filter, sub->qos,
                 sub->no_local, sub->retain_as_published, sub->subscription_id);
    }
    for (uint32_t i = 0; i < keep->count; i++) {
        const struct delivery *d = queue_at(keep, i);
        char message[64];
        if (d->state != DELIVERY_DONE) {
            message_text(shard, d->kept, message);
            line_add(lines, "%.*s: owed %llu %s qos %u retain %d sub %u state %u", id_len, id,
                     (unsigned long long)d->ordinal, message, d->qos, d->retain, d->subscription_id,
                     d->state);
        }
    }
}

struct dumping {
    struct lines *lines;
    struct mr_shard *shard;
};

static void dump_retained(void *arg, struct kept *kept)
{
    const struct dumping *dumping = arg;
    char message[64];

    message_text(dumping->shard, kept, message);
    line_add(dumping->lines, "retained: %s", message);
}

static void dump_shard(struct lines *lines, struct mr_shard *shard)
{
    size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;

    for (size_t i = 0; i < slots; i++) {
        for (struct session *s = shard->sessions[i]; s != NULL; s = s->table_next) {
            if (s->keep != NULL) {
                dump_keep(lines, shard, s);
            }
        }
    }
}

static void lines_free(struct lines *lines)
{
    for (size_t i = 0; i < lines->count; i++) {
        mr_free(lines->items[i]);
    }
    mr_free(lines);
}

static void compare(const struct lines *before, const struct lines *after)
{
    size_t count = before->count < after->count ? before->count : after->count;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(before->items[i], after->items[i]) != 0) {
            fprintf(stderr, "before: %s\nafter:  %s\n", before->items[i], after->items[i]);
            abort();
        }
    }
    compared += count;
    if (before->count != after->count) {
        fprintf(stderr, "%zu lines before, %zu after: '%s'\n", before->count, after->count,
                before->count > count ? before->items[count] : after->items[count]);
        abort();
    }
}

static struct lines *dump_retained_of(struct mr_shard *shard)
{
    struct lines *lines = mr_alloc(sizeof(*lines));

    retained_each(shard, dump_retained, &(struct dumping){lines, shard});
    qsort(lines->items, lines->count, sizeof(lines->items[0]), line_compare);
    return lines;
}

/* The state of a broker whose shards do not run. */
static struct lines *dump(struct mr_broker *broker)
{
    struct lines *lines = mr_alloc(sizeof(*lines));

    for (uint32_t i = 0; i < broker->shard_count; i++) {
        dump_shard(lines, broker->shards[i]);
    }
    struct lines *first = dump_retained_of(broker->shards[0]);
    for (uint32_t i = 1; i < broker->shard_count; i++) { /* all have the same */
        struct lines *other = dump_retained_of(broker->shards[i]);
        compare(first, other);
        lines_free(other);
    }
    for (size_t i = 0; i < first->count; i++) {
        line_add(lines, "%s", first->items[i]);
    }
    lines_free(first);
    qsort(lines->items, lines->count, sizeof(lines->items[0]), line_compare);
    return lines;
}

/* ---- clients ---- */

/* What the broker's alias stands for; its topic must be the one that the message was published to.
 */
static void actor_topic(struct actor *actor, const struct mr_mqtt_publish *publish)
{
    struct mr_span topic = publish->topic;

    if (mr_mqtt_has(&publish->props, MR_MQTT_PROP_TOPIC_ALIAS)) {
        uint16_t alias = publish->props.topic_alias;
        mr_assert(alias >= 1 && alias <= ALIASES_OUT && topic.len < sizeof(actor->names[0]));
        if (topic.len != 0) {
            memset(actor->names[alias], 0, sizeof(actor->names[alias]));
            memcpy(actor->names[alias], topic.at, topic.len);
        } else {
            aliases_met += 1;
        }
        topic = mr_span_of(actor->names[alias]);
    }
    mr_assert(topic.len != 0);
    if (topic.at[0] == 't' && publish->payload.len != 0) { /* no will */
        char text[24] = "";
        memcpy(text, publish->payload.at, publish->payload.len);
        uint64_t number = strtoull(text, NULL, 10);
        mr_assert(number < published && topic.at[topic.len - 1] == '0' + topics_of[number]);
    }
}

static void actor_frame(struct actor *actor, const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_mode mode = {.version = actor->peer.version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_publish publish;
    struct mr_mqtt_ack ack;
    struct mr_mqtt_why why;
    struct owed owed = {0};

    if (frame->type == MR_MQTT_PUBLISH) {
        mr_assert(mr_mqtt_publish_decode(frame, mode, &publish, &why) == MR_OK);
        owed.type = publish.qos == 1 ? MR_MQTT_PUBACK : publish.qos == 2 ? MR_MQTT_PUBREC : 0;
        owed.packet_id = publish.packet_id;
        actor_topic(actor, &publish);
    } else if (frame->type == MR_MQTT_PUBREL) {
        mr_assert(mr_mqtt_ack_decode(frame, mode, &ack, &why) == MR_OK);
        owed = (struct owed){.type = MR_MQTT_PUBCOMP, .packet_id = ack.packet_id};
    }
    if (owed.type != 0) {
        mr_assert(actor->owed_count < OWED_MAX);
        actor->owed[actor->owed_count++] = owed;
    }
}

/* Everything it sent has been handled; what came meanwhile is noted. */
static void actor_sync(struct actor *actor)
{
    struct mr_mqtt_frame frame;
    uint8_t ping[2];
    int64_t deadline = kit_deadline();

    if (!actor->connected) {
        return;
    }
    (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
    peer_write(&actor->peer, ping, sizeof(ping));
    for (;;) {
        while (actor->peer.begin == actor->peer.end && !actor->peer.closed) {
            (void)commit_all(); /* a CONNACK may be what we wait for */
            peer_receive(&actor->peer, 500000);
            kit_patience(deadline, "an answer");
        }
        mr_assert(peer_frame(&actor->peer, &frame));
        if (frame.type == MR_MQTT_PINGRESP) {
            return;
        }
        actor_frame(actor, &frame);
    }
}

static void actor_connect(struct actor *actor, size_t index)
{
    char id[16];
    struct mr_mqtt_connack connack;
    int64_t deadline = kit_deadline();

    (void)snprintf(id, sizeof(id), "client-%zu", index);
    struct peer_connect how = {.client_id = id,
                               .version = index % 2 == 0 ? 5 : 4,
                               .keep_session = !chance(8),
                               .expiry_s = index % 2 == 0 ? 1000 : 0,
                               .receive_max = index % 2 == 0 ? 7 : 0,
                               .alias_max = index % 2 == 0 ? ALIASES_OUT : 0};
    if (index % 2 == 0 && chance(30)) {
        how.will_topic = "w/x";
        how.will_payload = "gone";
        how.will_qos = 1;
        how.will_delay_s = 900;
    }
    if (!how.keep_session) {
        actor->inbound_count = 0;
    }
    peer_open(&actor->peer, &kit);
    peer_send_connect(&actor->peer, &how);
    while (actor->peer.begin == actor->peer.end) {
        (void)commit_all();
        peer_receive(&actor->peer, 500000);
        kit_patience(deadline, "a CONNACK");
    }
    peer_expect_connack(&actor->peer, &connack);
    mr_assert(connack.reason == 0);
    if (!connack.session_present) {
        actor->inbound_count = 0;
    }
    actor->connected = true;
    actor->owed_count = 0;
    memset(actor->aliased, 0, sizeof(actor->aliased));
    memset(actor->names, 0, sizeof(actor->names));
}

/* The end of its stream, and the broker's: then all it wrote has been handled, and so has the end
 * of the connection. */
static void actor_leave(struct actor *actor)
{
    int64_t deadline = kit_deadline();

    if (actor->connected) {
        mr_socket_shutdown(actor->peer.fd);
        while (!actor->peer.closed) {
            actor->peer.begin = actor->peer.end;
            peer_receive(&actor->peer, 500000);
            kit_patience(deadline, "the end of a connection");
        }
        peer_close(&actor->peer);
        actor->connected = false;
    }
}

static void actor_subscribe(struct actor *actor)
{
    static const char *const filters[] = {"topic/0", "topic/1", "topic/+", "#",
                                          "topic/2", "+/3",     "topic/#"};
    struct mr_mqtt_subscription filter = {
        .filter = mr_span_of(filters[mr_rng_below(&rng, MR_COUNT_OF(filters))]),
        .qos = (uint8_t)mr_rng_below(&rng, 3)};

    if (actor->peer.version == 5) {
        filter.no_local = chance(20);
        filter.retain_as_published = chance(30);
        filter.retain_handling = (uint8_t)mr_rng_below(&rng, 3);
    }
    peer_send_subscribe(&actor->peer, &filter, actor->peer.version == 5 && chance(30) ? 17 : 0);
}

static void actor_unsubscribe(struct actor *actor)
{
    uint8_t filters[32];
    uint8_t bytes[64];
    ptrdiff_t len = mr_mqtt_unsubscription_put(mr_span_of(chance(50) ? "topic/+" : "#"), filters,
                                               sizeof(filters));
    struct mr_mqtt_subscribe packet = {.packet_id = 3, .raw = mr_span_make(filters, (size_t)len)};

    len = mr_mqtt_unsubscribe_encode(&packet, actor->peer.version, bytes, sizeof(bytes));
    peer_write(&actor->peer, bytes, (size_t)len);
}

static void actor_publish(struct actor *actor)
{
    char topic[16];
    char payload[32];
    uint8_t bytes[256];
    struct mr_mqtt_publish packet = {.qos = (uint8_t)mr_rng_below(&rng, 3), .retain = chance(35)};

    if (packet.qos == 2 && actor->inbound_count == MR_COUNT_OF(actor->inbound)) {
        return;
    }
    size_t which = (size_t)mr_rng_below(&rng, TOPICS);
    (void)snprintf(topic, sizeof(topic), "topic/%u", (unsigned)which);
    (void)snprintf(payload, sizeof(payload), "%llu", (unsigned long long)published);
    mr_assert(published < MR_COUNT_OF(topics_of));
    topics_of[published++] = (uint8_t)which;
    packet.topic = mr_span_of(topic);
    if (actor->peer.version == 5 && chance(50)) { /* its name once, then the alias alone */
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_TOPIC_ALIAS);
        packet.props.topic_alias = (uint16_t)(which + 1);
        packet.topic = actor->aliased[which] ? (struct mr_span){0} : packet.topic;
        actor->aliased[which] = true;
    }
    packet.payload = packet.retain && chance(30) ? (struct mr_span){0} : mr_span_of(payload);
    if (packet.qos != 0) {
        actor->id_next = actor->id_next == UINT16_MAX ? 1 : (uint16_t)(actor->id_next + 1);
        packet.packet_id = actor->id_next;
    }
    if (packet.qos == 2) {
        actor->inbound[actor->inbound_count++] = packet.packet_id;
    }
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, actor->peer.version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(&actor->peer, bytes, (size_t)len);
}

static void actor_ack(struct actor *actor)
{
    size_t count = actor->owed_count == 0 ? 0 : 1 + mr_rng_below(&rng, actor->owed_count);

    while (count-- > 0) { /* mostly in order */
        size_t at = chance(90) ? 0 : mr_rng_below(&rng, actor->owed_count);
        struct owed owed = actor->owed[at];
        memmove(actor->owed + at, actor->owed + at + 1,
                (actor->owed_count - at - 1) * sizeof(owed));
        actor->owed_count -= 1;
        peer_send_ack(&actor->peer, owed.type, owed.packet_id);
    }
}

static void actor_release(struct actor *actor)
{
    if (actor->inbound_count != 0) {
        size_t at = mr_rng_below(&rng, actor->inbound_count);
        peer_send_ack(&actor->peer, MR_MQTT_PUBREL, actor->inbound[at]);
        actor->inbound[at] = actor->inbound[--actor->inbound_count];
    }
}

static void actor_act(struct actor *actor, size_t index)
{
    uint64_t what = mr_rng_below(&rng, 100);

    if (!actor->connected) {
        if (what < 30) {
            actor_connect(actor, index);
        }
        return;
    }
    if (what < 6) {
        actor_leave(actor);
    } else if (what < 14) {
        actor_subscribe(actor);
    } else if (what < 17) {
        actor_unsubscribe(actor);
    } else if (what < 60) {
        actor_publish(actor);
    } else if (what < 85) {
        actor_sync(actor);
        actor_ack(actor);
    } else {
        actor_release(actor);
    }
}

/* ---- everything is durable ---- */

/* What comes next on this connection, while the test commits what the broker hands over. */
static void probe_next(struct peer *probe, uint8_t type)
{
    struct mr_mqtt_frame frame;
    int64_t deadline = kit_deadline();

    while (probe->begin == probe->end) {
        (void)commit_all();
        peer_receive(probe, 500000);
        kit_patience(deadline, "the probe's answer");
    }
    mr_assert(peer_frame(probe, &frame));
    mr_assert(frame.type == type);
}

static void shard_is_quiet(struct mr_shard *shard, void *arg)
{
    bool *quiet = arg;

    *quiet = *quiet && shard_has_read_all(shard);
}

/* Until all that was sent has been handled and is durable: an event that nobody subscribes to (its
 * topic begins with $) is acknowledged after everything that the lane was given before it. */
static void settle_down(void)
{
    struct peer probe;
    uint8_t publish[64];
    size_t len = put_publish(publish, sizeof(publish), 4, "$probe", "", 1, 1);

    peer_open(&probe, &kit);
    peer_send_connect(&probe, &(struct peer_connect){.client_id = "probe", .version = 4});
    probe_next(&probe, MR_MQTT_CONNACK);
    for (int round = 0; round < 2; round++) { /* what became durable may have been sent on */
        for (size_t i = 0; i < CLIENTS; i++) {
            actor_sync(&actors[i]);
        }
        peer_write(&probe, publish, len);
        probe_next(&probe, MR_MQTT_PUBACK);
    }
    peer_close(&probe);
    lanes_wait(&kit, commit_all, shard_is_quiet);
}

/* ---- the machine stops ---- */

/* Another folder with what the disk had, between two transactions of the stores. */
static void folder_copy(const char *from, const char *to)
{
    mr_assert(mr_dir_list(to, kit_remove, (void *)(uintptr_t)to) == MR_OK);
    mr_assert(mr_dir_list(from, kit_copy, &(struct kit_copying){from, to}) == MR_OK);
}

static void folder_remove_all(const char *folder)
{
    mr_assert(mr_dir_list(folder, kit_remove, (void *)(uintptr_t)folder) == MR_OK);
    mr_assert(rmdir(folder) == 0);
}

/* `kit` is what the disk has from now on, and has not begun; the state as it was. */
static struct lines *crash(void)
{
    struct kit after = {.options = kit.options};
    uint8_t before_head[8192];
    uint8_t now_head[8192];

    settle_down();
    kit_folder(&after);
    do {
        kit_copy_torn = false;
        kit_store_head(&kit, before_head);
        folder_copy(kit.folder, after.folder);
        kit_store_head(&kit, now_head);
    } while (kit_copy_torn || memcmp(before_head, now_head, sizeof(now_head)) != 0);
    mr_broker_stop(kit.broker, 0);
    struct lines *before = dump(kit.broker);
    mr_broker_close(kit.broker);
    mr_assert(mr_journal_close(kit.journal) == MR_OK);
    folder_remove_all(kit.folder);
    kit = after;
    return before;
}

/* Begin again, and go on. */
static void begin_and_compare(struct lines *before)
{
    struct mr_error why = {.text = ""};

    kit_ready(&kit);
    struct lines *now = dump(kit.broker);
    compare(before, now);
    lines_free(before);
    lines_free(now);
    mr_assert(mr_broker_start(kit.broker, &why) == MR_OK);
    for (size_t i = 0; i < CLIENTS; i++) {
        actor_leave(&actors[i]);
    }
}

static void walk(uint64_t seed, const struct kit_options *options, int steps,
                 void (*crash_and_compare)(void))
{
    struct kit_options with_aliases = *options;

    with_aliases.topic_aliases = ALIASES_OUT;
    mr_rng_seed(&rng, seed);
    memset(actors, 0, sizeof(actors));
    kit_open(&kit, &with_aliases);
    for (int step = 0; step < steps; step++) {
        size_t index = mr_rng_below(&rng, CLIENTS);
        actor_act(&actors[index], index);
        if (chance(50)) { /* one at a time, so that they are read in any order */
            uint32_t lane = (uint32_t)mr_rng_below(&rng, mr_journal_lane_count(kit.journal));
            (void)mr_lane_step_commit(mr_journal_lane(kit.journal, lane));
        }
        if (chance(1)) {
            crash_and_compare();
        }
    }
    crash_and_compare();
    kit_close(&kit);
}

static uint64_t walk_seed(void)
{
    const char *given = getenv("MR_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)mr_clock_wall_us();

    mr_log_set_level(MR_LOG_ERROR);
    fprintf(stderr, "MR_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

#endif
