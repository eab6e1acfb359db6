/* share.c - see share.h for the contract.
 *
 * DESIGN
 *
 * Groups are found in two ways: by their whole filter, in a hash table, and by the topics
 * they want, in a subscription tree whose owners they are.  Members stand in an array and
 * take turns: the choice begins behind the one chosen last and takes the first that has
 * room; if none has, the connected one with the least waiting; if none is connected, one
 * whose session waits for it.
 *
 * A group lives as long as it has members.  Who still holds one after that (a message on
 * its way) sees it without members.
 *
 * INVARIANTS
 *
 *   (1) A group in the table has at least one member, and its filter is in the tree.
 *   (2) group->lasting counts the members with a persistent session.
 */
#include "broker/share.h"

#include "base/bufpool.h"
#include "broker/share_rights.h"
#include "broker/subtree.h"
#include "codec/topic.h"
#include "os/process.h"
#include "os/thread.h"

enum { TABLE_FIRST = 64, MEMBERS_FIRST = 4, MEMORY_SHARE = 16, MEMORY_LEAST = 1 << 20 };

struct share_member {
    struct share_client *client;
    uint8_t qos;
};

struct share_group {
    struct share_group *table_next;
    struct mr_sub *subs; /* its one place in the tree */
    struct share_member *members;
    uint64_t hash;
    _Atomic uint32_t refs;
    uint32_t count;
    uint32_t capacity;
    uint32_t turn; /* who is asked first */
    uint32_t lasting;
    uint32_t filter_len;
    uint8_t filter[];
};

struct shares {
    struct mr_mutex mutex;
    struct mr_bufpool pool; /* of the tree */
    struct mr_hash_key key;
    struct mr_subtree *tree;
    struct share_group **table;
    size_t mask;
    _Atomic uint64_t version;
    _Atomic uint64_t online;
    _Atomic size_t count;
    _Atomic bool stopping;
};

struct shares *shares_open(uint64_t memory_bytes)
{
    struct shares *shares = mr_alloc(sizeof(*shares));
    uint64_t limit = memory_bytes / MEMORY_SHARE;

    mr_mutex_init(&shares->mutex);
    mr_bufpool_init(&shares->pool, limit < MEMORY_LEAST ? MEMORY_LEAST : limit, 0);
    mr_os_random(&shares->key, sizeof(shares->key));
    shares->tree = mr_subtree_open(&shares->pool, &shares->key);
    shares->table = mr_alloc(TABLE_FIRST * sizeof(struct share_group *));
    shares->mask = TABLE_FIRST - 1;
    atomic_store(&shares->version, 1);
    return shares;
}

void shares_stop(struct shares *shares)
{
    atomic_store(&shares->stopping, true);
}

void shares_close(struct shares *shares)
{
    if (shares == NULL) {
        return;
    }
    mr_assert(atomic_load(&shares->count) == 0);
    mr_subtree_close(shares->tree);
    mr_bufpool_fini(&shares->pool);
    mr_mutex_fini(&shares->mutex);
    mr_free(shares->table);
    mr_free(shares);
}

uint64_t shares_version(const struct shares *shares)
{
    return atomic_load_explicit(&shares->version, memory_order_acquire);
}

bool shares_any(const struct shares *shares)
{
    return atomic_load_explicit(&shares->count, memory_order_acquire) != 0;
}

uint64_t shares_online(const struct shares *shares)
{
    return atomic_load_explicit(&shares->online, memory_order_relaxed);
}

void shares_came_online(struct shares *shares)
{
    atomic_fetch_add_explicit(&shares->online, 1, memory_order_relaxed);
}

bool shares_has(struct shares *shares, struct mr_span topic)
{
    if (!shares_any(shares)) {
        return false;
    }
    mr_mutex_lock(&shares->mutex);
    bool has = mr_subtree_has(shares->tree, topic);
    mr_mutex_unlock(&shares->mutex);
    return has;
}

/* ---- clients and groups ---- */

struct share_client *share_client_new(struct mr_span id, uint32_t shard, bool persistent)
{
    struct share_client *client = mr_alloc(sizeof(*client) + id.len);

    atomic_store(&client->refs, 1);
    client->shard = shard;
    client->persistent = persistent;
    client->id_len = (uint16_t)id.len;
    memcpy(client->id, id.at, id.len);
    return client;
}

void share_client_hold(struct share_client *client)
{
    atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
}

void share_client_drop(struct share_client *client)
{
    if (atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) == 1) {
        share_rights_free(client->rights);
        mr_free(client);
    }
}

void shares_set_rights(struct shares *shares, struct share_client *client,
                       struct share_rights *rights)
{
    mr_mutex_lock(&shares->mutex);
    struct share_rights *before = client->rights;
    client->rights = rights;
    mr_mutex_unlock(&shares->mutex);
    share_rights_free(before);
}

struct mr_span share_client_id(const struct share_client *client)
{
    return mr_span_make(client->id, client->id_len);
}

struct mr_span share_filter(const struct share_group *group)
{
    return mr_span_make(group->filter, group->filter_len);
}

void share_group_hold(struct share_group *group)
{
    atomic_fetch_add_explicit(&group->refs, 1, memory_order_relaxed);
}

void share_group_drop(struct share_group *group)
{
    if (atomic_fetch_sub_explicit(&group->refs, 1, memory_order_acq_rel) == 1) {
        mr_free(group->members);
        mr_free(group);
    }
}

static struct share_group *group_find(const struct shares *shares, struct mr_span filter)
{
    uint64_t hash = mr_siphash(&shares->key, filter.at, filter.len);
    struct share_group *group = shares->table[hash & shares->mask];

    while (group != NULL && (group->hash != hash || !mr_span_equal(share_filter(group), filter))) {
        group = group->table_next;
    }
    return group;
}

/* Twice the table once it is full on average. */
static void table_grow(struct shares *shares)
{
    size_t slots = (shares->mask + 1) * 2;
    struct share_group **table = mr_alloc(slots * sizeof(struct share_group *));

    for (size_t i = 0; i <= shares->mask; i++) {
        struct share_group *group = shares->table[i];
        while (group != NULL) {
            struct share_group *next = group->table_next;
            group->table_next = table[group->hash & (slots - 1)];
            table[group->hash & (slots - 1)] = group;
            group = next;
        }
    }
    mr_free(shares->table);
    shares->table = table;
    shares->mask = slots - 1;
}

static enum mr_err group_make(struct shares *shares, struct mr_span filter,
                              struct share_group **out)
{
    struct share_group *group = mr_alloc(sizeof(*group) + filter.len);
    struct mr_span name;
    struct mr_span inner;
    struct mr_sub *sub;

    if (mr_topic_share_split(filter, &name, &inner) != MR_OK) {
        mr_free(group);
        return MR_ERR_REJECT;
    }
    enum mr_err err = mr_subtree_add(shares->tree, inner, group, &group->subs, &sub);
    if (err != MR_OK) {
        mr_free(group);
        return err;
    }
    atomic_store(&group->refs, 1);
    group->hash = mr_siphash(&shares->key, filter.at, filter.len);
    group->filter_len = (uint32_t)filter.len;
    memcpy(group->filter, filter.at, filter.len);
    struct share_group **slot = &shares->table[group->hash & shares->mask];
    group->table_next = *slot;
    *slot = group;
    if (atomic_fetch_add(&shares->count, 1) > shares->mask) {
        table_grow(shares);
    }
    atomic_fetch_add(&shares->version, 1);
    *out = group;
    return MR_OK;
}

static void group_end(struct shares *shares, struct share_group *group)
{
    struct share_group **at = &shares->table[group->hash & shares->mask];

    while (*at != group) {
        at = &(*at)->table_next;
    }
    *at = group->table_next;
    mr_subtree_remove(shares->tree, group->subs, &group->subs);
    atomic_fetch_sub(&shares->count, 1);
    atomic_fetch_add(&shares->version, 1);
    share_group_drop(group);
}

static struct share_member *member_find(const struct share_group *group,
                                        const struct share_client *client)
{
    for (uint32_t i = 0; i < group->count; i++) {
        if (group->members[i].client == client) {
            return &group->members[i];
        }
    }
    return NULL;
}

static void member_add(struct share_group *group, struct share_client *client, uint8_t qos)
{
    if (group->count == group->capacity) {
        group->capacity = group->capacity == 0 ? MEMBERS_FIRST : group->capacity * 2;
        group->members = mr_realloc(group->members, group->capacity * sizeof(*group->members));
    }
    share_client_hold(client);
    group->members[group->count++] = (struct share_member){.client = client, .qos = qos};
    group->lasting += client->persistent;
}

enum mr_err shares_join(struct shares *shares, struct share_client *client, struct mr_span filter,
                        uint8_t qos)
{
    enum mr_err err = MR_OK;

    mr_mutex_lock(&shares->mutex);
    struct share_group *group = group_find(shares, filter);
    if (group == NULL) {
        err = group_make(shares, filter, &group);
    }
    if (err == MR_OK) {
        struct share_member *member = member_find(group, client);
        if (member != NULL) {
            member->qos = qos;
        } else {
            bool outlives = client->persistent && group->lasting == 0 && group->count != 0;
            member_add(group, client, qos);
            shares_came_online(shares);
            if (outlives) { /* for whoever reads lanes it is as if there had been no group before */
                atomic_fetch_add(&shares->version, 1);
            }
        }
    }
    mr_mutex_unlock(&shares->mutex);
    return err;
}

void shares_leave(struct shares *shares, struct share_client *client, struct mr_span filter)
{
    mr_mutex_lock(&shares->mutex);
    struct share_group *group = group_find(shares, filter);
    struct share_member *member = group == NULL ? NULL : member_find(group, client);
    if (member != NULL) {
        group->lasting -= client->persistent;
        group->count -= 1;
        memmove(member, member + 1,
                (size_t)(&group->members[group->count] - member) * sizeof(*member));
        share_client_drop(client);
        if (group->count == 0) {
            group_end(shares, group);
        }
    }
    mr_mutex_unlock(&shares->mutex);
}

/* ---- choosing ---- */

enum { NOBODY = 100, IS_AWAY = 10, LEAVES = 20 };

/* What is to be given away. */
struct choosing {
    struct mr_span topic;
    const struct share_client *but; /* not to this one; NULL: to any */
    enum share_who who;
    uint8_t qos;
    bool stopping; /* who is connected leaves */
    struct share_target *targets;
    size_t count;
    size_t max;
};

/* How badly one more message suits it: the least is best. */
static unsigned member_rank(const struct share_member *member, const struct choosing *choosing)
{
    const struct share_client *client = member->client;
    unsigned load = atomic_load_explicit(&client->load, memory_order_relaxed);
    bool connected = atomic_load_explicit(&client->connected, memory_order_relaxed);
    bool keeps = client->persistent && choosing->qos != 0 && member->qos != 0;

    if (connected && (keeps || !choosing->stopping)) {
        return load;
    }
    if (choosing->who == SHARE_CONNECTED || (!keeps && !connected)) {
        return NOBODY;
    }
    return keeps ? IS_AWAY + load : LEAVES + load;
}

static bool member_may(const struct share_member *member, struct mr_span topic)
{
    return MR_LIKELY(member->client->rights == NULL) ||
           share_rights_may(member->client->rights, share_client_id(member->client), topic);
}

static bool group_choose(struct share_group *group, const struct choosing *choosing,
                         struct share_target *target)
{
    unsigned least = NOBODY;
    uint32_t best = 0;

    for (uint32_t i = 0; i < group->count && least != SHARE_FREE; i++) {
        uint32_t at = (group->turn + i) % group->count;
        const struct share_member *member = &group->members[at];
        unsigned rank = member->client == choosing->but ? NOBODY : member_rank(member, choosing);
        if (rank < least && member_may(member, choosing->topic)) {
            least = rank;
            best = at;
        }
    }
    if (least == NOBODY || (choosing->who == SHARE_CONNECTED && least == SHARE_FULL)) {
        return false;
    }
    struct share_member *member = &group->members[best];
    group->turn = best + 1;
    share_group_hold(group);
    share_client_hold(member->client);
    *target = (struct share_target){.group = group,
                                    .client = member->client,
                                    .qos = member->qos,
                                    .lasting = group->lasting != 0};
    return true;
}

static void choose_found(void *arg, const struct mr_sub *sub)
{
    struct choosing *choosing = arg;

    if (choosing->count < choosing->max &&
        group_choose(sub->owner, choosing, &choosing->targets[choosing->count])) {
        choosing->count += 1;
    }
}

size_t shares_choose_all(struct shares *shares, struct mr_span topic, uint8_t qos,
                         struct share_target *targets, size_t max)
{
    struct choosing choosing = {.topic = topic,
                                .who = SHARE_ANYONE,
                                .qos = qos,
                                .stopping =
                                    atomic_load_explicit(&shares->stopping, memory_order_relaxed),
                                .targets = targets,
                                .max = max};

    mr_mutex_lock(&shares->mutex);
    mr_subtree_match(shares->tree, topic, choose_found, &choosing);
    mr_mutex_unlock(&shares->mutex);
    return choosing.count;
}

bool shares_choose(struct shares *shares, struct mr_span filter, struct mr_span topic,
                   const struct share_client *but, enum share_who who, struct share_target *target)
{
    const struct choosing choosing = {
        .topic = topic,
        .but = but,
        .who = who,
        .qos = 1,
        .stopping = atomic_load_explicit(&shares->stopping, memory_order_relaxed)};

    mr_mutex_lock(&shares->mutex);
    struct share_group *group = group_find(shares, filter);
    bool found = group != NULL && group_choose(group, &choosing, target);
    mr_mutex_unlock(&shares->mutex);
    return found;
}

bool shares_find(struct shares *shares, struct mr_span filter, struct share_client *client,
                 struct share_target *target)
{
    mr_mutex_lock(&shares->mutex);
    struct share_group *group = group_find(shares, filter);
    struct share_member *member = group == NULL ? NULL : member_find(group, client);
    if (member != NULL) {
        share_group_hold(group);
        share_client_hold(client);
        *target = (struct share_target){
            .group = group, .client = client, .qos = member->qos, .lasting = group->lasting != 0};
    }
    mr_mutex_unlock(&shares->mutex);
    return member != NULL;
}

void shares_release(const struct share_target *targets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        share_client_drop(targets[i].client);
        share_group_drop(targets[i].group);
    }
}
