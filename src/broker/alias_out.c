/* alias_out.c - topic aliases towards a client that offers them (3.3.2.3.4).
 *
 * DESIGN
 *
 * A table of the connection, lent when the first topic gets an alias: first come, first
 * served; once it is full, the one that was not used for longest gives way, but not
 * before it was idle for a while, or a subscriber of more topics than aliases would have
 * each of them defined anew all the time.  Short topics gain nothing, long ones would take
 * memory; both are sent as they are.
 *
 * An alias is a matter of one connection and of the order of its bytes: every PUBLISH is
 * encoded in the order in which it leaves, repetitions begin a connection and so with an
 * empty table, and what was not sent after all has defined nothing (alias_out_sent).
 */
#include "broker/broker_internal.h"
#include "broker/outgoing_internal.h"

enum {
    TOPIC_MIN = 5, /* alias and its identifier are three bytes */
    TOPIC_MAX = 240,
    IDLE_ROUNDS = 4, /* as many messages as this, per alias */
};

struct alias_entry {
    uint64_t hash;
    uint32_t used; /* client->sent at the time */
    uint16_t len;
    uint8_t topic[TOPIC_MAX];
};

struct alias_table {
    size_t capacity; /* as lent by the pool */
    uint16_t room;
    uint16_t count;
    struct alias_entry entries[];
};

static struct alias_table *table_of(struct client *client)
{
    uint64_t most = client->shard->limits.max_topic_alias_broker;
    size_t room = client->alias_max < most ? client->alias_max : most;
    size_t capacity = 0;

    if (client->aliases_out == NULL && room != 0) {
        struct alias_table *table = (struct alias_table *)(void *)mr_bufpool_take(
            &client->shard->pool, sizeof(*table) + room * sizeof(table->entries[0]), &capacity);
        if (table != NULL) {
            *table = (struct alias_table){.capacity = capacity, .room = (uint16_t)room};
            client->aliases_out = table;
        }
    }
    return client->aliases_out;
}

/* A place for a new topic; room: none gives way. */
static uint16_t entry_choose(const struct client *client, const struct alias_table *table)
{
    uint16_t oldest = 0;

    if (table->count < table->room) {
        return table->count;
    }
    for (uint16_t i = 1; i < table->count; i++) {
        if (client->sent - table->entries[i].used > client->sent - table->entries[oldest].used) {
            oldest = i;
        }
    }
    uint32_t idle = client->sent - table->entries[oldest].used;
    return idle > (uint32_t)table->room * IDLE_ROUNDS ? oldest : table->room;
}

struct alias_out alias_out(struct client *client, struct mr_span topic)
{
    if (topic.len < TOPIC_MIN || topic.len > TOPIC_MAX) {
        return (struct alias_out){.number = 0};
    }
    struct alias_table *table = table_of(client);
    if (table == NULL) {
        return (struct alias_out){.number = 0};
    }
    uint64_t hash = mr_siphash(&client->shard->key, topic.at, topic.len);
    for (uint16_t i = 0; i < table->count; i++) {
        struct alias_entry *entry = &table->entries[i];
        if (entry->hash == hash && entry->len == topic.len &&
            memcmp(entry->topic, topic.at, topic.len) == 0) {
            entry->used = client->sent;
            return (struct alias_out){.number = (uint16_t)(i + 1), .known = true};
        }
    }
    uint16_t at = entry_choose(client, table);
    return (struct alias_out){.hash = hash, .number = at < table->room ? (uint16_t)(at + 1) : 0};
}

void alias_out_sent(struct client *client, const struct alias_out *alias, struct mr_span topic)
{
    struct alias_table *table = client->aliases_out;
    struct alias_entry *entry = &table->entries[alias->number - 1];

    if (alias->known) {
        return;
    }
    entry->hash = alias->hash;
    entry->used = client->sent;
    entry->len = (uint16_t)topic.len;
    memcpy(entry->topic, topic.at, topic.len);
    if (alias->number > table->count) {
        table->count = alias->number;
    }
}

void alias_out_drop(struct client *client)
{
    if (client->aliases_out != NULL) {
        mr_bufpool_give(&client->shard->pool, (uint8_t *)client->aliases_out,
                        client->aliases_out->capacity);
        client->aliases_out = NULL;
    }
}
