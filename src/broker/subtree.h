/* subtree.h - who wants this topic?
 *
 * The live subscriptions of a shard as a tree of topic levels.  A level's
 * children are found through one hash table of (parent, level); '+' and '#' are
 * children like others.
 *
 *     mr_subtree_add(filter, owner) ─▶ subscription, linked to its owner too
 *     mr_subtree_match(topic, found) ─▶ found() for each matching subscription
 *
 * Thread: owned by one event loop.
 * Memory: from the pool, when subscribing; matching takes none.
 * Time:   matching ~50 ns per level and matching branch.
 */
#ifndef MR_BROKER_SUBTREE_H
#define MR_BROKER_SUBTREE_H

#include "base/bufpool.h"
#include "base/span.h"
#include "broker/interest.h"

struct mr_subtree;
struct subtree_node;

/* Options of one subscription, set by the owner after add(). */
struct mr_sub {
    struct mr_sub *node_next; /* the same filter's other subscriptions */
    struct mr_sub *node_prev;
    struct mr_sub *owner_next; /* the owner's other filters */
    struct mr_sub *owner_prev;
    struct subtree_node *node;
    void *owner;
    void *bring;              /* its retained messages are on their way (bring.c), or NULL */
    size_t capacity;          /* as lent by the pool */
    uint64_t since;           /* of the own lane: up to here nothing comes live (deliver.c) */
    uint32_t subscription_id; /* 0: none */
    uint32_t row;             /* of a persistent session: its number in the store */
    uint8_t qos;
    bool no_local;
    bool retain_as_published;
    bool is_stored;       /* the store knows it as it is */
    bool brings;          /* of a persistent session: not all retained messages are in records */
    bool is_shared;       /* "$share/…": its owner is a member of a group */
    uint32_t owner_count; /* of the first in the owner's list: how long that is */
    uint32_t acl_free;    /* the version of the rules that let it read all it matches */
    uint32_t acl_asked;   /* ... that were asked whether they do */
};

/* Deeper filters are refused, deeper topics match nobody: what a walk has room for.  It is above
 * any `max_topic_levels`, which is asked where a client subscribes: what was once accepted stays,
 * however few levels a new SUBSCRIBE may have now.
 */
enum { MR_SUBTREE_LEVELS_MAX = 1024 };

/* `pool` outlives the tree; `key` protects against chosen collisions. */
struct mr_subtree *mr_subtree_open(struct mr_bufpool *pool, const struct mr_hash_key *key);

/* Let others see what there are filters for; before the first subscription. */
void mr_subtree_show(struct mr_subtree *tree, struct mr_interest *interest);
void mr_subtree_close(struct mr_subtree *tree); /* all subscriptions must have been removed */

/* Find or make the subscription of `owner` to the valid `filter`.  `owned` is the
 * head of the owner's list, into which a new one is linked.
 * FULL: the pool has no room.   REJECT: more than MR_SUBTREE_LEVELS_MAX levels.
 */
enum mr_err mr_subtree_add(struct mr_subtree *tree, struct mr_span filter, void *owner,
                           struct mr_sub **owned, struct mr_sub **out) MR_MUST_USE;

/* The owner's subscription to exactly `filter`, or NULL. */
struct mr_sub *mr_subtree_find(const struct mr_subtree *tree, struct mr_span filter,
                               struct mr_sub *const *owned);

/* How many subscriptions are in an owner's list. */
static inline uint32_t mr_subtree_owned(const struct mr_sub *owned)
{
    return owned == NULL ? 0 : owned->owner_count;
}

/* Its filter, as it was given to add(). */
size_t mr_subtree_filter_len(const struct mr_sub *sub);
void mr_subtree_filter_put(const struct mr_sub *sub, uint8_t *out);

void mr_subtree_remove(struct mr_subtree *tree, struct mr_sub *sub, struct mr_sub **owned);

/* Call found() for each subscription that matches the valid topic name.  The tree
 * must not be changed meanwhile.
 */
void mr_subtree_match(const struct mr_subtree *tree, struct mr_span topic,
                      void (*found)(void *arg, const struct mr_sub *sub), void *arg);

/* Does any match?  Stays true or false until the version changes. */
bool mr_subtree_has(const struct mr_subtree *tree, struct mr_span topic);
uint64_t mr_subtree_version(const struct mr_subtree *tree); /* never 0 */
uint64_t mr_subtree_count(const struct mr_subtree *tree);   /* subscriptions */

/* Mark a subscription as one of a group; it counts as such until it is removed. */
void mr_subtree_share(struct mr_subtree *tree, struct mr_sub *sub);
uint64_t mr_subtree_shared_count(const struct mr_subtree *tree); /* of mr_subtree_count() */

#endif
