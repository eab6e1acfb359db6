/* systree.c - $SYS/broker: the broker's own numbers, as topics.
 *
 *     atomics of all shards ─▶ sums ─▶ texts ─▶ this shard's subscribers
 *
 * DESIGN
 *
 * Names, formats and units are those of Mosquitto, so that dashboards and exporters that were
 * made for it go on working: counts are decimal numbers, loads are averages per minute with
 * two decimals, the up time is "N seconds".
 *
 * Every shard has a tree of its own and gathers by itself, from numbers that all shards
 * show in atomics anyway.  So nothing has to be sent between them, and a subscriber gets
 * what its shard has.  The loads of two shards differ by what happened between their ticks.
 *
 * These messages are sent with QoS 0.  They look retained to a new subscriber and are not: they
 * have no record, no place among the retained messages, and no bridge sees them.
 *
 * What leaves as an answer is counted by what it answers: every CONNECT, AUTH, SUBSCRIBE,
 * UNSUBSCRIBE, PINGREQ, PUBREC and PUBREL has one, and every accepted PUBLISH of QoS 1 and 2.  So
 * the path of a PUBACK has no counter of its own.
 *
 * A load is an exponential average over 1, 5 and 15 minutes of a rate per minute.
 */
#include "broker/keep_internal.h"

#include <inttypes.h>
#include <math.h>

enum { TOPIC_BYTES = 60, VALUE_BYTES = 44 };

/* What is summed over the shards. */
enum sum {
    SUM_CLIENTS,
    SUM_CLIENTS_ONLINE,
    SUM_CLIENTS_OFFLINE,
    SUM_CLIENTS_EXPIRED,
    SUM_CLIENTS_MAX,
    SUM_PACKETS_RECEIVED,
    SUM_PACKETS_SENT,
    SUM_PUBLISH_RECEIVED,
    SUM_PUBLISH_SENT,
    SUM_PUBLISH_DROPPED,
    SUM_PAYLOAD_RECEIVED,
    SUM_PAYLOAD_SENT,
    SUM_BYTES_RECEIVED,
    SUM_BYTES_SENT,
    SUM_SUBSCRIPTIONS,
    SUM_SHARED,
    SUM_RETAINED,
    SUM_STORED,
    SUM_STORED_BYTES,
    SUM_MEMORY,
    SUM_MEMORY_MAX,
    SUM_SOCKETS,
    SUM_CONNECTS,
    SUM_COUNT
};

struct row {
    const char *name; /* below $SYS/broker/ */
    enum sum sum;
};

static const struct row counts[] = {
    {"clients/total", SUM_CLIENTS},
    {"clients/connected", SUM_CLIENTS_ONLINE},
    {"clients/active", SUM_CLIENTS_ONLINE}, /* the older name */
    {"clients/disconnected", SUM_CLIENTS_OFFLINE},
    {"clients/inactive", SUM_CLIENTS_OFFLINE}, /* the older name */
    {"clients/expired", SUM_CLIENTS_EXPIRED},
    {"clients/maximum", SUM_CLIENTS_MAX},
    {"messages/received", SUM_PACKETS_RECEIVED},
    {"messages/sent", SUM_PACKETS_SENT},
    {"messages/stored", SUM_STORED}, /* the older name */
    {"store/messages/count", SUM_STORED},
    {"store/messages/bytes", SUM_STORED_BYTES},
    {"publish/messages/dropped", SUM_PUBLISH_DROPPED},
    {"publish/messages/received", SUM_PUBLISH_RECEIVED},
    {"publish/messages/sent", SUM_PUBLISH_SENT},
    {"publish/bytes/received", SUM_PAYLOAD_RECEIVED},
    {"publish/bytes/sent", SUM_PAYLOAD_SENT},
    {"bytes/received", SUM_BYTES_RECEIVED},
    {"bytes/sent", SUM_BYTES_SENT},
    {"subscriptions/count", SUM_SUBSCRIPTIONS},
    {"shared_subscriptions/count", SUM_SHARED},
    {"retained messages/count", SUM_RETAINED},
    {"heap/current", SUM_MEMORY},
    {"heap/maximum", SUM_MEMORY_MAX},
};

static const struct row loads[] = {
    {"messages/received", SUM_PACKETS_RECEIVED},
    {"messages/sent", SUM_PACKETS_SENT},
    {"publish/dropped", SUM_PUBLISH_DROPPED},
    {"publish/received", SUM_PUBLISH_RECEIVED},
    {"publish/sent", SUM_PUBLISH_SENT},
    {"bytes/received", SUM_BYTES_RECEIVED},
    {"bytes/sent", SUM_BYTES_SENT},
    {"sockets", SUM_SOCKETS},
    {"connections", SUM_CONNECTS},
};

static const struct age {
    const char *name;
    double seconds;
} ages[] = {{"1min", 60}, {"5min", 300}, {"15min", 900}};

enum {
    COUNT_ROWS = sizeof(counts) / sizeof(counts[0]),
    LOAD_ROWS = sizeof(loads) / sizeof(loads[0]),
    AGES = sizeof(ages) / sizeof(ages[0]),
    LEAF_VERSION = 0,
    LEAF_UPTIME = 1,
    LEAF_COUNTS = 2,
    LEAF_LOADS = LEAF_COUNTS + COUNT_ROWS,
    LEAVES = LEAF_LOADS + LOAD_ROWS * AGES,
};

struct leaf {
    char topic[TOPIC_BYTES];
    char value[VALUE_BYTES];
    bool changed; /* since it was sent */
};

struct systree {
    uint64_t sums[SUM_COUNT];
    double averages[LOAD_ROWS][AGES];
    int64_t gathered_ns;
    int64_t due_ns; /* when it is sent again */
    struct leaf leaves[LEAVES];
};

static void leaf_name(struct leaf *leaf, const char *head, const char *name, const char *tail)
{
    struct mr_text text = mr_text_over(leaf->topic, sizeof(leaf->topic));

    mr_text_fmt(&text, "$SYS/broker/%s%s%s", head, name, tail);
    mr_assert(!text.truncated);
}

void systree_open(struct mr_shard *shard)
{
    struct systree *tree = mr_alloc(sizeof(*tree));

    leaf_name(&tree->leaves[LEAF_VERSION], "", "version", "");
    leaf_name(&tree->leaves[LEAF_UPTIME], "", "uptime", "");
    for (size_t i = 0; i < COUNT_ROWS; i++) {
        leaf_name(&tree->leaves[LEAF_COUNTS + i], "", counts[i].name, "");
    }
    for (size_t i = 0; i < LOAD_ROWS * AGES; i++) {
        char tail[16];
        struct mr_text text = mr_text_over(tail, sizeof(tail));

        mr_text_fmt(&text, "/%s", ages[i % AGES].name);
        leaf_name(&tree->leaves[LEAF_LOADS + i], "load/", loads[i / AGES].name, tail);
    }
    tree->gathered_ns = shard->now_ns;
    tree->due_ns = shard->now_ns;
    shard->systree = tree;
}

void systree_close(struct mr_shard *shard)
{
    mr_free(shard->systree);
    shard->systree = NULL;
}

/* ---- gathering ---- */

static uint64_t metric(const struct mr_metric *metric)
{
    return (uint64_t)mr_metric_get(metric);
}

static uint64_t shown(const _Atomic uint64_t *stat)
{
    return atomic_load_explicit(stat, memory_order_relaxed);
}

static void sum_packets(uint64_t sums[SUM_COUNT], const struct mr_shard *shard)
{
    static const uint8_t answered[] = {MR_MQTT_CONNECT, MR_MQTT_SUBSCRIBE, MR_MQTT_UNSUBSCRIBE,
                                       MR_MQTT_PINGREQ, MR_MQTT_PUBREC,    MR_MQTT_PUBREL,
                                       MR_MQTT_AUTH};
    const struct shard_metrics *m = &shard->metrics;

    for (uint8_t type = 1; type < 16; type++) {
        sums[SUM_PACKETS_RECEIVED] += metric(m->packets_received[type]);
    }
    for (size_t i = 0; i < sizeof(answered); i++) {
        sums[SUM_PACKETS_SENT] += metric(m->packets_received[answered[i]]);
    }
    sums[SUM_PACKETS_SENT] += metric(m->publish_received[1]) + metric(m->publish_received[2]);
    for (int qos = 0; qos <= 2; qos++) {
        sums[SUM_PACKETS_SENT] += metric(m->publish_sent[qos]);
    }
    sums[SUM_CONNECTS] += metric(m->packets_received[MR_MQTT_CONNECT]);
}

static void sum_shard(uint64_t sums[SUM_COUNT], const struct mr_shard *shard)
{
    const struct shard_stats *s = &shard->stats;

    sum_packets(sums, shard);
    sums[SUM_CLIENTS] += shown(&s->clients);
    sums[SUM_CLIENTS_ONLINE] += shown(&s->clients_online);
    sums[SUM_CLIENTS_EXPIRED] += shown(&s->clients_expired);
    sums[SUM_PUBLISH_RECEIVED] += shown(&s->publishes_received);
    sums[SUM_PUBLISH_SENT] += shown(&s->publishes_sent);
    sums[SUM_PUBLISH_DROPPED] += shown(&s->dropped);
    sums[SUM_PAYLOAD_RECEIVED] += shown(&s->payload_received);
    sums[SUM_PAYLOAD_SENT] += shown(&s->payload_sent);
    sums[SUM_BYTES_RECEIVED] += shown(&s->bytes_received);
    sums[SUM_BYTES_SENT] += shown(&s->bytes_sent);
    uint64_t shared = shown(&s->shared);
    uint64_t all = shown(&s->subscriptions);
    sums[SUM_SUBSCRIPTIONS] += all > shared ? all - shared : 0; /* as Mosquitto counts */
    sums[SUM_SHARED] += shared;
    sums[SUM_STORED] += shown(&s->kept);
    sums[SUM_STORED_BYTES] += shown(&s->kept_bytes);
    sums[SUM_MEMORY] += shown(&s->memory);
    sums[SUM_SOCKETS] += shown(&s->connections_total);
    uint64_t retained = shown(&s->retained); /* every shard has all of them */
    if (retained > sums[SUM_RETAINED]) {
        sums[SUM_RETAINED] = retained;
    }
}

static void largest(uint64_t *max, uint64_t before, uint64_t now)
{
    *max = before > now ? before : now;
}

static void leaf_set(struct leaf *leaf, const char *value)
{
    if (strcmp(leaf->value, value) != 0) {
        struct mr_text text = mr_text_over(leaf->value, sizeof(leaf->value));
        mr_text_add(&text, value);
        leaf->changed = true;
    }
}

static void leaves_set(struct mr_shard *shard)
{
    struct systree *tree = shard->systree;
    char value[VALUE_BYTES];

    leaf_set(&tree->leaves[LEAF_VERSION], "millrace version " MR_VERSION);
    struct mr_text text = mr_text_over(value, sizeof(value));
    mr_text_fmt(&text, "%" PRId64 " seconds", (shard->now_ns - shard->start_ns) / 1000000000);
    leaf_set(&tree->leaves[LEAF_UPTIME], value);
    for (size_t i = 0; i < COUNT_ROWS; i++) {
        text = mr_text_over(value, sizeof(value));
        mr_text_fmt(&text, "%" PRIu64, tree->sums[counts[i].sum]);
        leaf_set(&tree->leaves[LEAF_COUNTS + i], value);
    }
    for (size_t i = 0; i < LOAD_ROWS * AGES; i++) {
        text = mr_text_over(value, sizeof(value));
        mr_text_fmt(&text, "%.2f", tree->averages[i / AGES][i % AGES]);
        leaf_set(&tree->leaves[LEAF_LOADS + i], value);
    }
}

/* Move the averages towards what came in the `seconds` since the last time. */
static void averages_move(struct systree *tree, const uint64_t before[SUM_COUNT], double seconds)
{
    for (size_t i = 0; i < LOAD_ROWS; i++) {
        enum sum sum = loads[i].sum;
        double per_minute = (double)(tree->sums[sum] - before[sum]) * 60 / seconds;

        for (size_t age = 0; age < AGES; age++) {
            double keep = exp(-seconds / ages[age].seconds);
            tree->averages[i][age] = per_minute + keep * (tree->averages[i][age] - per_minute);
        }
    }
}

static void gather(struct mr_shard *shard)
{
    struct systree *tree = shard->systree;
    uint64_t before[SUM_COUNT];
    uint64_t *sums = tree->sums;

    memcpy(before, sums, sizeof(before));
    memset(sums, 0, sizeof(tree->sums));
    for (uint32_t i = 0; i < shard->broker->shard_count; i++) {
        sum_shard(sums, broker_shard(shard->broker, i));
    }
    if (sums[SUM_CLIENTS_ONLINE] > sums[SUM_CLIENTS]) {
        sums[SUM_CLIENTS] = sums[SUM_CLIENTS_ONLINE]; /* of different moments */
    }
    sums[SUM_CLIENTS_OFFLINE] = sums[SUM_CLIENTS] - sums[SUM_CLIENTS_ONLINE];
    largest(&sums[SUM_CLIENTS_MAX], before[SUM_CLIENTS_MAX], sums[SUM_CLIENTS]);
    largest(&sums[SUM_MEMORY_MAX], before[SUM_MEMORY_MAX], sums[SUM_MEMORY]);
    if (shard->now_ns > tree->gathered_ns && tree->leaves[LEAF_VERSION].value[0] != '\0') {
        averages_move(tree, before, (double)(shard->now_ns - tree->gathered_ns) / 1e9);
    }
    tree->gathered_ns = shard->now_ns;
    leaves_set(shard);
}

/* ---- sending ---- */

static struct mr_message leaf_message(const struct mr_shard *shard, const struct leaf *leaf)
{
    return (struct mr_message){.topic = mr_span_of(leaf->topic),
                               .payload = mr_span_of(leaf->value),
                               .received_us = shard->wall_us,
                               .retain = true};
}

int64_t systree_due_ns(const struct mr_shard *shard)
{
    return shard->limits.sys_interval_us == 0 ? INT64_MAX : shard->systree->due_ns;
}

void systree_tick(struct mr_shard *shard)
{
    struct systree *tree = shard->systree;

    if (shard->now_ns < systree_due_ns(shard)) {
        return;
    }
    gather(shard);
    tree->due_ns = shard->now_ns + (int64_t)shard->limits.sys_interval_us * 1000;
    for (size_t i = 0; i < LEAVES; i++) {
        struct leaf *leaf = &tree->leaves[i];

        if (leaf->changed) {
            struct mr_message message = leaf_message(shard, leaf);
            leaf->changed = false;
            deliver_now(shard, &message, false);
        }
    }
}

void systree_send(struct client *client, struct mr_span filter, uint32_t subscription_id)
{
    struct mr_shard *shard = client->shard;

    if (shard->limits.sys_interval_us == 0 || filter.len < 4 || memcmp(filter.at, "$SYS", 4) != 0) {
        return;
    }
    if (shard->systree->leaves[LEAF_VERSION].value[0] == '\0') {
        gather(shard); /* the first tick has not been */
    }
    for (size_t i = 0; i < LEAVES; i++) {
        const struct leaf *leaf = &shard->systree->leaves[i];

        if (mr_topic_matches(filter, mr_span_of(leaf->topic)) &&
            access_may(shard, client->session, mr_span_of(leaf->topic), MR_ACL_READ)) {
            struct mr_message message = leaf_message(shard, leaf);
            struct outgoing outgoing = {
                .message = &message, .subscription_id = subscription_id, .retain = true};
            deliver_one(client, &outgoing);
        }
    }
}
