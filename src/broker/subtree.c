/* subtree.c - see subtree.h for the contract.
 *
 * DESIGN
 *
 * A node is one level of one or more filters.  It knows its parent, so that
 * empty branches can be taken away from the leaf upwards; its '+' and '#'
 * children directly; its other children are found in one open hash table
 * shared by the whole tree, keyed by (parent, level).  So a node with a million
 * children (one per device) costs no more than one with two, and 128 bytes
 * suffice for a node with its level's text in most cases.
 *
 * Matching walks the tree depth first with a stack of its own: at each level
 * there are two ways on (the level itself, '+'), one of which is put aside.  A
 * tree has no second way to a node, so no node is visited twice, and at most one
 * alternative is put aside per level.
 *
 * Rejected: a cache of match results by topic.  The connection's topic cache
 * already answers the common question ("nobody wants it") for one comparison.
 *
 * Rejected: recursion.  Topics have up to 200 levels by choice of a device.
 *
 * INVARIANTS
 *
 *   (1) A node other than the root has a subscription or a child.
 *   (2) node->children counts '+', '#' and those in the table.
 *   (3) Topics whose first level begins with '$' never meet '+' or '#' at the
 *       root [MQTT-4.7.2-1].
 */
#include "broker/subtree.h"

#include "codec/topic.h"

enum { TABLE_FIRST = 64 };

struct subtree_node {
    struct subtree_node *table_next;
    struct subtree_node *parent;
    struct subtree_node *plus;
    struct subtree_node *hash;
    struct mr_sub *subs;
    uint64_t hash_value;
    size_t capacity; /* as lent by the pool */
    uint32_t children;
    uint16_t depth; /* root 0 */
    uint16_t level_len;
    uint16_t interest; /* while it has subscriptions and others see them: its bit */
    uint8_t level[];
};

struct mr_subtree {
    struct mr_bufpool *pool;
    struct mr_hash_key key;
    struct subtree_node *root;
    struct subtree_node **table; /* lent */
    size_t table_capacity;
    size_t table_mask; /* slots - 1 */
    size_t table_count;
    uint64_t version;
    uint64_t count;
    uint64_t shared_count;        /* of these, in a group */
    struct mr_interest *interest; /* NULL: nobody else looks */
};

static uint64_t level_hash(const struct mr_subtree *tree, const struct subtree_node *parent,
                           struct mr_span level)
{
    /* The parent's address makes equal levels of different parents differ. */
    struct mr_hash_key key = {.k0 = tree->key.k0 ^ (uint64_t)(uintptr_t)parent, .k1 = tree->key.k1};

    return mr_siphash(&key, level.at, level.len);
}

static bool is_level(struct mr_span level, uint8_t c)
{
    return level.len == 1 && level.at[0] == c;
}

static struct subtree_node *child_find(const struct mr_subtree *tree,
                                       const struct subtree_node *parent, struct mr_span level)
{
    uint64_t hash = level_hash(tree, parent, level);
    struct subtree_node *node = tree->table[hash & tree->table_mask];

    while (node != NULL) {
        if (node->hash_value == hash && node->parent == parent && node->level_len == level.len &&
            (level.len == 0 || memcmp(node->level, level.at, level.len) == 0)) {
            return node;
        }
        node = node->table_next;
    }
    return NULL;
}

/* Twice the table once it is full on average; if the pool has no room the chains
 * grow longer, which is slower and not wrong.
 */
static void table_grow(struct mr_subtree *tree)
{
    size_t slots = (tree->table_mask + 1) * 2;
    size_t capacity = 0;
    struct subtree_node **table = (struct subtree_node **)(void *)mr_bufpool_take(
        tree->pool, slots * sizeof(*table), &capacity);

    if (table == NULL) {
        return;
    }
    memset(table, 0, slots * sizeof(*table));
    for (size_t i = 0; i <= tree->table_mask; i++) {
        struct subtree_node *node = tree->table[i];
        while (node != NULL) {
            struct subtree_node *next = node->table_next;
            node->table_next = table[node->hash_value & (slots - 1)];
            table[node->hash_value & (slots - 1)] = node;
            node = next;
        }
    }
    mr_bufpool_give(tree->pool, (uint8_t *)tree->table, tree->table_capacity);
    tree->table = table;
    tree->table_capacity = capacity;
    tree->table_mask = slots - 1;
}

static struct subtree_node *node_new(struct mr_subtree *tree, struct subtree_node *parent,
                                     struct mr_span level)
{
    size_t capacity = 0;
    struct subtree_node *node = (struct subtree_node *)(void *)mr_bufpool_take(
        tree->pool, sizeof(*node) + level.len, &capacity);

    if (node == NULL) {
        return NULL;
    }
    memset(node, 0, sizeof(*node));
    node->capacity = capacity;
    node->parent = parent;
    node->level_len = (uint16_t)level.len;
    if (level.len != 0) {
        memcpy(node->level, level.at, level.len);
    }
    if (parent == NULL) {
        return node;
    }
    node->depth = (uint16_t)(parent->depth + 1);
    parent->children += 1;
    if (is_level(level, '+')) {
        parent->plus = node;
    } else if (is_level(level, '#')) {
        parent->hash = node;
    } else {
        node->hash_value = level_hash(tree, parent, level);
        node->table_next = tree->table[node->hash_value & tree->table_mask];
        tree->table[node->hash_value & tree->table_mask] = node;
        tree->table_count += 1;
        if (tree->table_count > tree->table_mask) {
            table_grow(tree);
        }
    }
    return node;
}

static void node_unlink(struct mr_subtree *tree, struct subtree_node *node)
{
    struct subtree_node *parent = node->parent;

    parent->children -= 1;
    if (parent->plus == node) {
        parent->plus = NULL;
    } else if (parent->hash == node) {
        parent->hash = NULL;
    } else {
        struct subtree_node **at = &tree->table[node->hash_value & tree->table_mask];
        while (*at != node) {
            at = &(*at)->table_next;
        }
        *at = node->table_next;
        tree->table_count -= 1;
    }
}

/* Take away `node` and then its ancestors as long as nothing needs them: (1). */
static void node_prune(struct mr_subtree *tree, struct subtree_node *node)
{
    while (node->parent != NULL && node->children == 0 && node->subs == NULL) {
        struct subtree_node *parent = node->parent;
        node_unlink(tree, node);
        mr_bufpool_give(tree->pool, (uint8_t *)node, node->capacity);
        node = parent;
    }
}

static struct subtree_node *node_child(const struct mr_subtree *tree,
                                       const struct subtree_node *parent, struct mr_span level)
{
    if (is_level(level, '+')) {
        return parent->plus;
    }
    if (is_level(level, '#')) {
        return parent->hash;
    }
    return child_find(tree, parent, level);
}

static struct subtree_node *node_find(const struct mr_subtree *tree, struct mr_span filter)
{
    struct subtree_node *node = tree->root;
    struct mr_span level;

    while (node != NULL && mr_topic_level_next(&filter, &level)) {
        node = node_child(tree, node, level);
    }
    return node;
}

struct mr_subtree *mr_subtree_open(struct mr_bufpool *pool, const struct mr_hash_key *key)
{
    struct mr_subtree *tree = mr_alloc(sizeof(*tree));

    tree->pool = pool;
    tree->key = *key;
    tree->version = 1;
    tree->table_mask = TABLE_FIRST - 1;
    tree->table = (struct subtree_node **)(void *)mr_bufpool_take(
        pool, TABLE_FIRST * sizeof(*tree->table), &tree->table_capacity);
    tree->root = node_new(tree, NULL, (struct mr_span){0});
    if (tree->table == NULL || tree->root == NULL) { /* a pool at its start lends so much */
        mr_memory_refused(TABLE_FIRST * sizeof(*tree->table));
    }
    memset(tree->table, 0, TABLE_FIRST * sizeof(*tree->table));
    return tree;
}

void mr_subtree_show(struct mr_subtree *tree, struct mr_interest *interest)
{
    mr_assert(tree->count == 0);
    tree->interest = interest;
}

void mr_subtree_close(struct mr_subtree *tree)
{
    if (tree == NULL) {
        return;
    }
    mr_assert(tree->count == 0 && tree->root->children == 0);
    mr_bufpool_give(tree->pool, (uint8_t *)tree->root, tree->root->capacity);
    mr_bufpool_give(tree->pool, (uint8_t *)tree->table, tree->table_capacity);
    mr_free(tree);
}

struct mr_sub *mr_subtree_find(const struct mr_subtree *tree, struct mr_span filter,
                               struct mr_sub *const *owned)
{
    struct subtree_node *node = node_find(tree, filter);

    if (node == NULL) {
        return NULL;
    }
    /* An owner may have a hundred thousand filters, and a filter as many owners, but
     * rarely both: along the two lists in step, the shorter decides.
     */
    const void *owner = *owned == NULL ? NULL : (*owned)->owner;
    struct mr_sub *of_node = node->subs;
    for (struct mr_sub *sub = *owned; sub != NULL && of_node != NULL; sub = sub->owner_next) {
        if (sub->node == node) {
            return sub;
        }
        if (of_node->owner == owner) {
            return of_node;
        }
        of_node = of_node->node_next;
    }
    return NULL;
}

size_t mr_subtree_filter_len(const struct mr_sub *sub)
{
    size_t len = sub->node->depth - 1u; /* the separators */

    for (const struct subtree_node *node = sub->node; node->parent != NULL; node = node->parent) {
        len += node->level_len;
    }
    return len;
}

void mr_subtree_filter_put(const struct mr_sub *sub, uint8_t *out)
{
    uint8_t *at = out + mr_subtree_filter_len(sub);

    for (const struct subtree_node *node = sub->node; node->parent != NULL; node = node->parent) {
        at -= node->level_len;
        memcpy(at, node->level, node->level_len);
        if (at != out) {
            *--at = '/';
        }
    }
}

/* The node of `filter`, made if need be; NULL if the pool is empty. */
static struct subtree_node *node_make(struct mr_subtree *tree, struct mr_span filter)
{
    struct subtree_node *node = tree->root;
    struct mr_span level;

    while (mr_topic_level_next(&filter, &level)) {
        struct subtree_node *child = node_child(tree, node, level);
        if (child == NULL) {
            child = node_new(tree, node, level);
        }
        if (child == NULL) {
            node_prune(tree, node);
            return NULL;
        }
        node = child;
    }
    return node;
}

enum mr_err mr_subtree_add(struct mr_subtree *tree, struct mr_span filter, void *owner,
                           struct mr_sub **owned, struct mr_sub **out)
{
    size_t capacity = 0;

    if (mr_topic_level_count(filter) > MR_SUBTREE_LEVELS_MAX) {
        return MR_ERR_REJECT;
    }
    *out = mr_subtree_find(tree, filter, owned);
    if (*out != NULL) {
        return MR_OK;
    }
    struct mr_sub *sub =
        (struct mr_sub *)(void *)mr_bufpool_take(tree->pool, sizeof(*sub), &capacity);
    struct subtree_node *node = sub == NULL ? NULL : node_make(tree, filter);
    if (node == NULL) {
        if (sub != NULL) {
            mr_bufpool_give(tree->pool, (uint8_t *)sub, capacity);
        }
        return MR_ERR_FULL;
    }
    *sub = (struct mr_sub){.node = node, .owner = owner, .capacity = capacity};
    sub->node_next = node->subs;
    if (node->subs != NULL) {
        node->subs->node_prev = sub;
    } else if (tree->interest != NULL) {
        node->interest = mr_interest_of_filter(&tree->interest->key, filter);
        mr_interest_add(tree->interest, node->interest);
    }
    node->subs = sub;
    sub->owner_next = *owned;
    sub->owner_count = mr_subtree_owned(*owned) + 1;
    if (*owned != NULL) {
        (*owned)->owner_prev = sub;
    }
    *owned = sub;
    tree->version += 1;
    tree->count += 1;
    *out = sub;
    return MR_OK;
}

void mr_subtree_remove(struct mr_subtree *tree, struct mr_sub *sub, struct mr_sub **owned)
{
    struct subtree_node *node = sub->node;
    uint32_t left = (*owned)->owner_count - 1;

    tree->shared_count -= sub->is_shared ? 1 : 0;
    if (sub->node_prev != NULL) {
        sub->node_prev->node_next = sub->node_next;
    } else {
        node->subs = sub->node_next;
    }
    if (sub->node_next != NULL) {
        sub->node_next->node_prev = sub->node_prev;
    }
    if (sub->owner_prev != NULL) {
        sub->owner_prev->owner_next = sub->owner_next;
    } else {
        *owned = sub->owner_next;
    }
    if (sub->owner_next != NULL) {
        sub->owner_next->owner_prev = sub->owner_prev;
    }
    if (*owned != NULL) {
        (*owned)->owner_count = left;
    }
    if (node->subs == NULL && tree->interest != NULL) {
        mr_interest_drop(tree->interest, node->interest);
    }
    mr_bufpool_give(tree->pool, (uint8_t *)sub, sub->capacity);
    tree->version += 1;
    tree->count -= 1;
    node_prune(tree, node);
}

/* Report a node's subscriptions; true if the walk may end here. */
static bool node_report(const struct subtree_node *node,
                        void (*found)(void *arg, const struct mr_sub *sub), void *arg)
{
    if (found == NULL) {
        return node->subs != NULL;
    }
    for (const struct mr_sub *sub = node->subs; sub != NULL; sub = sub->node_next) {
        found(arg, sub);
    }
    return false;
}

/* The walk.  Without `found`: true as soon as one subscription matches. */
static bool tree_walk(const struct mr_subtree *tree, struct mr_span topic,
                      void (*found)(void *arg, const struct mr_sub *sub), void *arg)
{
    struct mr_span levels[MR_SUBTREE_LEVELS_MAX];
    const struct subtree_node *aside[MR_SUBTREE_LEVELS_MAX + 1];
    uint32_t level_count = 0;
    uint32_t aside_count = 0;
    bool hidden = topic.len != 0 && topic.at[0] == '$';

    while (topic.at != NULL && level_count < MR_SUBTREE_LEVELS_MAX) {
        (void)mr_topic_level_next(&topic, &levels[level_count]);
        level_count += 1;
    }
    if (topic.at != NULL) {
        return false; /* deeper than any filter may be; '#' filters are told not to match */
    }
    const struct subtree_node *node = tree->root;
    for (;;) {
        bool wild = node->depth != 0 || !hidden; /* (3) */
        if (wild && node->hash != NULL && node_report(node->hash, found, arg)) {
            return true;
        }
        const struct subtree_node *next = NULL;
        if (node->depth == level_count) {
            if (node_report(node, found, arg)) {
                return true;
            }
        } else {
            next = node->children == 0 ? NULL : child_find(tree, node, levels[node->depth]);
            if (wild && node->plus != NULL) {
                if (next != NULL) {
                    aside[aside_count++] = next;
                }
                next = node->plus;
            }
        }
        if (next == NULL && aside_count == 0) {
            return false;
        }
        node = next != NULL ? next : aside[--aside_count];
    }
}

void mr_subtree_match(const struct mr_subtree *tree, struct mr_span topic,
                      void (*found)(void *arg, const struct mr_sub *sub), void *arg)
{
    if (tree->count != 0) {
        (void)tree_walk(tree, topic, found, arg);
    }
}

bool mr_subtree_has(const struct mr_subtree *tree, struct mr_span topic)
{
    return tree->count != 0 && tree_walk(tree, topic, NULL, NULL);
}

uint64_t mr_subtree_version(const struct mr_subtree *tree)
{
    return tree->version;
}

uint64_t mr_subtree_count(const struct mr_subtree *tree)
{
    return tree->count;
}

void mr_subtree_share(struct mr_subtree *tree, struct mr_sub *sub)
{
    tree->shared_count += sub->is_shared ? 0 : 1;
    sub->is_shared = true;
}

uint64_t mr_subtree_shared_count(const struct mr_subtree *tree)
{
    return tree->shared_count;
}
