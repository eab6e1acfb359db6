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
#include "broker/broker_internal.h"

/* Levels below $SYS are ours alone, as Mosquitto has it. */
static bool topic_is_ours(struct mr_span topic)
{
    return topic.len >= 4 && memcmp(topic.at, "$SYS", 4) == 0 &&
           (topic.len == 4 || topic.at[4] == '/');
}

bool topic_is_excluded(const struct mr_shard *shard, struct mr_span topic)
{
    const struct mr_list *exclude = &shard->broker->run.journal_exclude;

    for (size_t i = 0; i < exclude->count; i++) {
        if (mr_topic_matches(mr_span_of(exclude->items[i]), topic)) {
            return true;
        }
    }
    return false;
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
}

/* An entry to fill: a new one while there is room, else the next in turn. */
static struct topic_entry *entry_choose(struct client *client)
{
    struct topic_cache *cache = &client->topics;
    struct mr_bufpool *pool = &client->shard->pool;
    size_t capacity = 0;

    if (cache->used == cache->count && cache->count < TOPICS_MAX) {
        uint8_t count = cache->count == 0 ? 1 : TOPICS_MAX;
        struct topic_entry *entries = (struct topic_entry *)(void *)mr_bufpool_take(
            pool, count * sizeof(*entries), &capacity);
        if (entries == NULL && cache->count == 0) {
            return &client->shard->long_topic; /* works without a cache, only slower */
        }
        if (entries != NULL && cache->count != 0) {
            memcpy(entries, cache->entries, cache->count * sizeof(*entries));
            mr_bufpool_give(pool, (uint8_t *)cache->entries,
                            cache->count * sizeof(*cache->entries));
        }
        if (entries != NULL) {
            mr_assert(capacity == count * sizeof(*entries));
            cache->entries = entries;
            cache->count = count;
        }
    }
    if (cache->used < cache->count) {
        cache->last = cache->used;
        cache->used += 1;
    } else {
        mr_assert(cache->count != 0); /* the first entries were taken above */
        cache->last = (uint8_t)((cache->last + 1) % cache->count);
    }
    return &cache->entries[cache->last];
}

static struct topic_entry *entry_find(struct client *client, struct mr_span topic)
{
    struct topic_cache *cache = &client->topics;

    for (uint8_t i = 0; i < cache->used; i++) {
        struct topic_entry *entry = &cache->entries[i];
        if (entry->len == topic.len && memcmp(entry->text, topic.at, topic.len) == 0) {
            cache->last = i;
            return entry;
        }
    }
    struct topic_entry *entry =
        topic.len > TOPIC_CACHED_MAX ? &client->shard->long_topic : entry_choose(client);
    entry_fill(client, entry, topic);
    return entry;
}

struct topic_entry *topic_look_up(struct client *client, struct mr_span topic)
{
    struct topic_cache *cache = &client->topics;
    struct mr_subtree *tree = client->shard->subtree;
    struct topic_entry *entry = &cache->entries[cache->last];

    if (MR_UNLIKELY(cache->used == 0 || entry->len != topic.len ||
                    memcmp(entry->text, topic.at, topic.len) != 0)) {
        entry = entry_find(client, topic);
    }
    /* Both only ever rise, so their sum stays the same only if both do. */
    struct shares *shares = client->shard->broker->shares;
    uint64_t version = mr_subtree_version(tree) + shares_version(shares);
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
    struct topic_cache *cache = &client->topics;

    if (cache->entries != NULL) {
        mr_bufpool_give(&client->shard->pool, (uint8_t *)cache->entries,
                        cache->count * sizeof(*cache->entries));
    }
    *cache = (struct topic_cache){0};
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
        client->aliases =
            (struct alias *)(void *)mr_bufpool_take(pool, max * sizeof(struct alias), &capacity);
        if (client->aliases == NULL) {
            *no_room = true;
            return 0;
        }
        memset(client->aliases, 0, max * sizeof(struct alias));
        client->aliases_capacity = (uint32_t)capacity;
    }
    struct alias *alias = &client->aliases[number - 1];
    if (packet->topic.len == 0) {
        packet->topic = (struct mr_span){.at = alias->topic, .len = alias->len};
        return alias->topic == NULL ? MR_MQTT_TOPIC_ALIAS_INVALID : 0;
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
        if (client->aliases[i].topic != NULL) {
            mr_bufpool_give(pool, client->aliases[i].topic, client->aliases[i].capacity);
        }
    }
    mr_bufpool_give(pool, (uint8_t *)client->aliases, client->aliases_capacity);
    client->aliases = NULL;
}
