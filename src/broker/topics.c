/* topics.c - what a client publishes to.
 *
 * DESIGN
 *
 * A device publishes to one topic, perhaps to four.  So the answers to what must
 * be known about a topic (may it be published to, is it journaled, does anyone
 * listen, where has the journal last named it) are kept with the connection, and
 * a repeated topic costs one comparison of bytes.  The first entry is lent at
 * the first publish, room for four at the second topic; then the oldest gives
 * way in turn.
 *
 * "Does anyone listen", and "does a group", are kept with the version of the subscription
 * tree and of the groups, and asked again when that has changed; "does anyone in another shard"
 * with the version of all shards' interests.
 */
#include "broker/gates_internal.h"

/* Levels below $SYS are ours alone, as Mosquitto has it. */
static bool topic_is_ours(struct mr_span topic)
{
    return topic.len >= 4 && memcmp(topic.at, "$SYS", 4) == 0 &&
           (topic.len == 4 || topic.at[4] == '/');
}

bool topic_is_excluded(const struct mr_shard *shard, struct mr_span topic)
{
    const struct mr_list *exclude = &shard->broker->run.journal_exclude;

    return mr_topic_first_match(exclude->items, exclude->count, topic) != NULL;
}

bool topic_is_wanted_abroad(const struct mr_shard *shard, struct mr_span topic)
{
    const struct mr_broker *broker = shard->broker;

    if (broker->shard_count == 1) {
        return false;
    }
    struct mr_interest_bits bits = mr_interest_of_topic(&broker->interest_key, topic);
    for (uint32_t i = 0; i < broker->shard_count; i++) {
        if (i != shard->index && mr_interest_has(broker->shards[i]->interest, &bits)) {
            return true;
        }
    }
    return false;
}

uint8_t topic_refused(const struct mr_shard *shard, struct mr_span topic)
{
    if (topic_is_ours(topic)) {
        return MR_MQTT_NOT_AUTHORIZED;
    }
    if (topic.len >= 7 && memcmp(topic.at, "$share/", 7) == 0) {
        return MR_MQTT_TOPIC_NAME_INVALID; /* the tree has members' subscriptions there */
    }
    return mr_topic_level_count(topic) > shard->limits.max_topic_levels ? MR_MQTT_TOPIC_NAME_INVALID
                                                                        : 0;
}

static void topics_free(struct client *client)
{
    if (client->topics != NULL) {
        mr_bufpool_give(&client->shard->pool, (uint8_t *)client->topics,
                        client->topics_room * sizeof(*client->topics));
    }
}

static void entry_fill(struct client *client, struct topic_entry *entry, struct mr_span topic)
{
    struct mr_shard *shard = client->shard;

    *entry = (struct topic_entry){0};
    if (topic.len <= TOPIC_CACHED_MAX) {
        entry->len = (uint16_t)topic.len;
        memcpy(entry->text, topic.at, topic.len);
    }
    entry->refused = topic_refused(shard, topic);
    if (entry->refused == 0 && topic_is_beyond(client, topic)) {
        entry->refused = MR_MQTT_TOPIC_NAME_INVALID;
    } else if (entry->refused == 0 && !access_may(shard, client->session, topic, MR_ACL_WRITE)) {
        entry->refused = MR_MQTT_NOT_AUTHORIZED;
    }
    entry->excluded = topic_is_excluded(shard, topic);
    entry->bridged = !entry->excluded && gate_wants(client, topic);
}

/* Room for `count` entries instead of those there are.  False: no memory. */
static bool entries_grow(struct client *client, uint8_t count)
{
    struct mr_bufpool *pool = &client->shard->pool;
    size_t capacity = 0;
    struct topic_entry *entries =
        (struct topic_entry *)(void *)mr_bufpool_take(pool, count * sizeof(*entries), &capacity);

    if (entries == NULL) {
        return false;
    }
    mr_assert(capacity == count * sizeof(*entries));
    if (client->topics_room != 0) {
        memcpy(entries, client->topics, client->topics_room * sizeof(*entries));
    }
    topics_free(client);
    client->topics = entries;
    client->topics_room = count;
    return true;
}

/* An entry to fill: a new one while there is room, else the next in turn. */
static struct topic_entry *entry_choose(struct client *client)
{
    uint8_t room = client->topics_room;

    if (client->topics_used == room && room < TOPICS_MAX &&
        !entries_grow(client, room == 0 ? 1 : TOPICS_MAX) && room == 0) {
        return &client->shard->long_topic; /* works without a cache, only slower */
    }
    if (client->topics_used < client->topics_room) {
        client->topics_last = client->topics_used;
        client->topics_used += 1;
    } else {
        mr_assert(client->topics_room != 0); /* the first entry was taken above */
        client->topics_last = (uint8_t)((client->topics_last + 1) % client->topics_room);
    }
    return &client->topics[client->topics_last];
}

static struct topic_entry *entry_find(struct client *client, struct mr_span topic)
{
    for (uint8_t i = 0; i < client->topics_used; i++) {
        struct topic_entry *entry = &client->topics[i];
        if (entry->len == topic.len && memcmp(entry->text, topic.at, topic.len) == 0) {
            client->topics_last = i;
            return entry;
        }
    }
    struct topic_entry *entry =
        topic.len > TOPIC_CACHED_MAX ? &client->shard->long_topic : entry_choose(client);
    entry_fill(client, entry, topic);
    return entry;
}

/* Both only ever rise, so their sum stays the same only if both do. */
uint64_t topics_version(const struct mr_shard *shard)
{
    return mr_subtree_version(shard->subtree) + shares_version(shard->broker->shares);
}

struct topic_entry *topic_look_up(struct client *client, struct mr_span topic)
{
    struct mr_subtree *tree = client->shard->subtree;
    struct topic_entry *entry =
        MR_LIKELY(client->topics_used != 0) ? &client->topics[client->topics_last] : NULL;

    if (MR_UNLIKELY(entry == NULL || entry->len != topic.len ||
                    memcmp(entry->text, topic.at, topic.len) != 0)) {
        entry = entry_find(client, topic);
    }
    struct shares *shares = client->shard->broker->shares;
    uint64_t version = topics_version(client->shard);
    if (MR_UNLIKELY(entry->tree_version != version)) {
        entry->tree_version = version;
        entry->subscribed = mr_subtree_has(tree, topic);
        entry->shared = shares_has(shares, topic);
    }
    uint32_t interest =
        atomic_load_explicit(&client->shard->broker->interest_version, memory_order_acquire);
    if (MR_UNLIKELY(entry->interest_version != interest)) {
        entry->interest_version = interest;
        entry->abroad = topic_is_wanted_abroad(client->shard, topic);
    }
    return entry;
}

void topics_drop(struct client *client)
{
    topics_free(client);
    client->topics = NULL;
    client->topics_room = 0;
    client->topics_used = 0;
    client->topics_last = 0;
}

uint8_t alias_resolve(struct client *client, struct mr_mqtt_publish *packet, bool *no_room)
{
    struct mr_bufpool *pool = &client->shard->pool;
    size_t max = client->aliases_max;
    uint16_t number = packet->props.topic_alias;
    size_t capacity = 0;

    *no_room = false;
    if (number == 0 || number > max) {
        return MR_MQTT_TOPIC_ALIAS_INVALID; /* [MQTT-3.3.2-9] */
    }
    if (client->aliases == NULL) {
        struct aliases *made = (struct aliases *)(void *)mr_bufpool_take(
            pool, sizeof(*made) + max * sizeof(made->each[0]), &capacity);
        if (made == NULL) {
            *no_room = true;
            return 0;
        }
        made->capacity = (uint32_t)capacity;
        memset(made->each, 0, max * sizeof(made->each[0]));
        client->aliases = made;
    }
    struct alias *alias = &client->aliases->each[number - 1];
    if (packet->topic.len == 0) {
        packet->topic = (struct mr_span){.at = alias->topic, .len = alias->len};
        return alias->topic == NULL ? MR_MQTT_PROTOCOL_ERROR : 0; /* 3.3.4 */
    }
    if (packet->topic.len > alias->capacity) {
        uint8_t *topic = mr_bufpool_take(pool, packet->topic.len, &capacity);
        if (topic == NULL) {
            *no_room = true;
            return 0;
        }
        if (alias->topic != NULL) {
            mr_bufpool_give(pool, alias->topic, alias->capacity);
        }
        alias->topic = topic;
        alias->capacity = (uint32_t)capacity;
    }
    memcpy(alias->topic, packet->topic.at, packet->topic.len);
    alias->len = (uint32_t)packet->topic.len;
    return 0;
}

void aliases_drop(struct client *client)
{
    struct mr_bufpool *pool = &client->shard->pool;

    if (client->aliases == NULL) {
        return;
    }
    for (uint32_t i = 0; i < client->aliases_max; i++) {
        struct alias *alias = &client->aliases->each[i];
        if (alias->topic != NULL) {
            mr_bufpool_give(pool, alias->topic, alias->capacity);
        }
    }
    mr_bufpool_give(pool, (uint8_t *)client->aliases, client->aliases->capacity);
    client->aliases = NULL;
}
