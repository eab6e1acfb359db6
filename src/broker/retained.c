/* retained.c - the retained message of each topic (section 3.3.1.3).
 *
 * DESIGN
 *
 * A tree of topic levels, one node per level, children found by a hash table of
 * (parent, level) for a level that is known and by a list for '+' and '#'.  So a
 * SUBSCRIBE without wildcards costs a few look-ups, and one with them what it finds.
 *
 * INVARIANTS
 *
 *   (1) A node other than the root has a message, a child, or was cleared lately, or a walk
 *       pauses there (retained_walk.c).
 *   (2) count is the number of nodes with a message, bytes the sum of theirs.
 */
#include "broker/retained_internal.h"

enum { TABLE_FIRST = 64 };

static uint64_t node_hash(const struct mr_shard *shard, const struct retained_node *parent,
                          struct mr_span level)
{
    struct mr_hash_key key = {.k0 = shard->key.k0 ^ (uint64_t)(uintptr_t)parent,
                              .k1 = shard->key.k1};

    return mr_siphash(&key, level.at, level.len);
}

struct retained_node *retained_child(const struct mr_shard *shard,
                                     const struct retained_node *parent, struct mr_span level)
{
    const struct retained *tree = shard->retained;
    uint64_t hash = node_hash(shard, parent, level);
    struct retained_node *node = tree->table[hash & (tree->slots - 1)];

    while (node != NULL && (node->hash != hash || node->parent != parent ||
                            !mr_span_equal(mr_span_make(node->level, node->level_len), level))) {
        node = node->table_next;
    }
    return node;
}

static void table_grow(struct retained *tree)
{
    size_t slots = tree->slots == 0 ? TABLE_FIRST : tree->slots * 2;
    struct retained_node **table = mr_alloc(slots * sizeof(struct retained_node *));

    for (size_t i = 0; i < tree->slots; i++) {
        struct retained_node *node = tree->table[i];
        while (node != NULL) {
            struct retained_node *next = node->table_next;
            node->table_next = table[node->hash & (slots - 1)];
            table[node->hash & (slots - 1)] = node;
            node = next;
        }
    }
    mr_free(tree->table);
    tree->table = table;
    tree->slots = slots;
}

static struct retained_node *child_make(struct mr_shard *shard, struct retained_node *parent,
                                        struct mr_span level)
{
    struct retained *tree = shard->retained;
    size_t capacity = 0;
    struct retained_node *node = (struct retained_node *)(void *)mr_bufpool_take(
        &shard->pool, sizeof(*node) + level.len, &capacity);

    if (node == NULL) {
        return NULL;
    }
    *node = (struct retained_node){.parent = parent,
                                   .next = parent->children,
                                   .hash = node_hash(shard, parent, level),
                                   .capacity = (uint32_t)capacity,
                                   .level_len = (uint16_t)level.len};
    if (level.len != 0) {
        memcpy(node->level, level.at, level.len);
    }
    if (parent->children != NULL) {
        parent->children->prev = node;
    }
    parent->children = node;
    if (tree->nodes >= tree->slots) {
        table_grow(tree);
    }
    struct retained_node **slot = &tree->table[node->hash & (tree->slots - 1)];
    node->table_next = *slot;
    *slot = node;
    tree->nodes += 1;
    return node;
}

void retained_prune(struct mr_shard *shard, struct retained_node *node)
{
    struct retained *tree = shard->retained;

    while (node->parent != NULL && node->kept == NULL && node->cleared_us == 0 &&
           node->children == NULL && node->walks == 0) { /* (1) */
        struct retained_node *parent = node->parent;
        struct retained_node **at = &tree->table[node->hash & (tree->slots - 1)];

        while (*at != node) {
            at = &(*at)->table_next;
        }
        *at = node->table_next;
        if (node->prev != NULL) {
            node->prev->next = node->next;
        } else {
            parent->children = node->next;
        }
        if (node->next != NULL) {
            node->next->prev = node->prev;
        }
        mr_bufpool_give(&shard->pool, (uint8_t *)node, node->capacity);
        tree->nodes -= 1;
        node = parent;
    }
}

static struct retained_node *node_find(const struct mr_shard *shard, struct mr_span topic)
{
    struct retained_node *node = shard->retained->root;
    struct mr_span rest = topic;
    struct mr_span level;

    while (node != NULL && mr_topic_level_next(&rest, &level)) {
        node = retained_child(shard, node, level);
    }
    return node;
}

static struct retained_node *node_make(struct mr_shard *shard, struct mr_span topic)
{
    struct retained_node *node = shard->retained->root;
    struct mr_span rest = topic;
    struct mr_span level;

    while (mr_topic_level_next(&rest, &level)) {
        struct retained_node *child = retained_child(shard, node, level);
        if (child == NULL) {
            child = child_make(shard, node, level);
        }
        if (child == NULL) {
            retained_prune(shard, node);
            return NULL;
        }
        node = child;
    }
    return node;
}

static void retained_make(struct mr_shard *shard)
{
    if (shard->retained == NULL) {
        shard->retained = mr_alloc(sizeof(*shard->retained));
        shard->retained->root = mr_alloc(sizeof(*shard->retained->root));
        table_grow(shard->retained);
    }
}

void retained_node_clear(struct mr_shard *shard, struct retained_node *node)
{
    if (node->kept != NULL) {
        shard->retained_count -= 1;
        shard->retained_bytes -= node->kept->bytes;
        shard->retained->mortal -= node->kept->expiry_s != UINT32_MAX;
        if (MR_UNLIKELY(shard->retained->index != NULL)) {
            retained_index_remove(shard->retained->index, node->kept);
        }
        kept_not_retained(shard, node->kept);
        node->kept = NULL;
    }
}

static void node_set(struct mr_shard *shard, struct retained_node *node, struct kept *kept,
                     const struct mr_message *message)
{
    retained_node_clear(shard, node);
    node->cleared_us = 0;
    node->kept = kept;
    kept->refs += 1;
    kept->is_retained = true;
    kept->expiry_s = retained_life(message);
    node->stamp = ++shard->retained_stamp;
    shard->retained_count += 1;
    shard->retained_bytes += kept->bytes;
    shard->retained->mortal += kept->expiry_s != UINT32_MAX;
    if (MR_UNLIKELY(shard->retained->index != NULL)) {
        retained_index_add(shard->retained->index, kept);
    }
}

/* Not retained, although it should be. */
static void refusal_say(struct mr_shard *shard, const struct mr_message *message, const char *what,
                        bool replaces)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (shard->restoring) {
        return; /* it was told when it came */
    }
    mr_metric_add(shard->metrics.dropped_retained, 1);
    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_WARN, "mqtt",
               "a message for '%.*s' was delivered but not retained%s: %s (%llu more such lines "
               "held back)",
               (int)(message->topic.len < 100 ? message->topic.len : 100),
               (const char *)message->topic.at,
               replaces ? ", and the one it replaces is not retained any more" : "", what,
               (unsigned long long)held);
    }
}

static bool retained_fits(const struct mr_shard *shard, const struct retained_node *node,
                          size_t bytes)
{
    const struct mr_broker_limits *limits = &shard->limits;
    uint64_t before = node == NULL || node->kept == NULL ? 0 : node->kept->bytes;

    return (before != 0 || shard->retained_count < limits->max_retained_messages) &&
           shard->retained_bytes - before + bytes <= limits->max_retained_bytes;
}

/* Of the last event that set or cleared it, as far as that is known. */
static int64_t node_us(const struct retained_node *node)
{
    if (node == NULL) {
        return 0;
    }
    return node->kept != NULL ? node->kept->received_us : node->cleared_us;
}

int64_t retained_time(const struct mr_shard *shard, struct mr_span topic)
{
    if (shard->foreign == NULL) {
        return shard->wall_us;
    }
    int64_t known_us = shard->retained == NULL ? 0 : node_us(node_find(shard, topic));
    int64_t own_us = shard->wall_us - shard->wall_us % SHARDS_MAX + shard->index;
    if (known_us == 0) {
        known_us = cleared_mark_us(shard); /* forgotten here, and perhaps not elsewhere */
    }
    if (own_us <= known_us) {
        own_us = known_us - known_us % SHARDS_MAX + shard->index;
        own_us += own_us <= known_us ? SHARDS_MAX : 0;
    }
    return own_us;
}

/* Behind a clock that was set back it counts as received in the past, and its life from there on.
 * Whole seconds are all there is: so it may stay for one more.
 */
bool retained_lengthen(const struct mr_shard *shard, const struct mr_message *message,
                       struct mr_mqtt_props *props)
{
    int64_t waited_us = shard_waited_us(shard, message->received_us);

    if (!mr_mqtt_has(props, MR_MQTT_PROP_MESSAGE_EXPIRY) || waited_us < 1000) {
        return false; /* what it was rounded by is nothing */
    }
    int64_t life_s = props->message_expiry_s + (waited_us + 999999) / 1000000;
    props->message_expiry_s = life_s < UINT32_MAX ? (uint32_t)life_s : UINT32_MAX;
    return true;
}

/* Cleared at `received_us`, 0: that need not be known.  The node may be gone afterwards. */
static void node_remember(struct mr_shard *shard, struct retained_node *node, struct mr_span topic,
                          int64_t received_us, uint64_t seq, bool is_stored)
{
    node->cleared_us = received_us; /* at once: an older one that goes may prune what is above it */
    if (received_us != 0 && !cleared_add(shard, topic, received_us, seq, is_stored)) {
        node->cleared_us = 0;
    }
    retained_prune(shard, node);
}

/* [MQTT-3.3.1-6].  With several shards it is remembered for a while, even if there was none. */
static void retained_clear(struct mr_shard *shard, struct retained_node *node,
                           const struct mr_message *message, uint64_t seq)
{
    bool remember = shard->foreign != NULL && seq != 0;

    if (node == NULL && remember) {
        node = node_make(shard, message->topic);
    }
    if (node == NULL) {
        return;
    }
    retained_node_clear(shard, node);
    node_remember(shard, node, message->topic, remember ? message->received_us : 0, seq, false);
}

/* There is no room for it.  What it replaces goes all the same: a subscriber would take it for
 * the newest.  So it would an older one that another lane brings later.
 */
static void retained_refuse(struct mr_shard *shard, struct retained_node *node,
                            const struct mr_message *message, uint64_t seq, const char *what)
{
    refusal_say(shard, message, what, node != NULL && node->kept != NULL);
    retained_clear(shard, node, message, seq);
}

void retained_forget_cleared(struct mr_shard *shard, struct mr_span topic, int64_t received_us)
{
    struct retained_node *node = shard->retained == NULL ? NULL : node_find(shard, topic);

    if (node != NULL && node->cleared_us == received_us) {
        node->cleared_us = 0;
        retained_prune(shard, node);
    }
}

void retained_restore_cleared(struct mr_shard *shard, struct mr_span topic, int64_t received_us,
                              uint64_t seq)
{
    retained_make(shard);
    struct retained_node *node = node_make(shard, topic);

    if (node == NULL) {
        return;
    }
    if (node->kept == NULL) { /* the last row of a topic is the one that counts */
        node_remember(shard, node, topic, received_us, seq, true);
    }
}

/* Two lanes are read in no order of theirs: the later one stays.  A lane is read in its own order,
 * which holds when its shard's clock was set back, and it does not know any more what was cleared.
 */
static bool is_older(int64_t received_us, int64_t known_us)
{
    return known_us > received_us && known_us % SHARDS_MAX != received_us % SHARDS_MAX;
}

void retained_apply(struct mr_shard *shard, const struct mr_message *message, struct kept **kept,
                    uint32_t lane, uint64_t seq, enum retained_from from)
{
    retained_make(shard);
    struct retained_node *node = node_find(shard, message->topic);
    uint64_t cleared_seq = from == RETAINED_EXEMPT ? 0 : seq; /* if it clears */

    if (from == RETAINED_FOREIGN && is_older(message->received_us, node_us(node))) {
        return;
    }
    if (message->payload.len == 0) {
        retained_clear(shard, node, message, cleared_seq);
        return;
    }
    if (!retained_fits(shard, node, message_bytes(message))) {
        retained_expire_for(shard, message);
        node = node_find(shard, message->topic);
    }
    if (!retained_fits(shard, node, message_bytes(message))) {
        retained_refuse(shard, node, message, cleared_seq,
                        "see `max_retained_messages` and `max_retained_bytes`");
        return;
    }
    /* Not what sessions have for themselves: it stays, and so do its nodes. */
    bool room = shard->restoring || deliver_has_memory(shard, 0);
    if (*kept == NULL && room) {
        *kept =
            kept_new(shard, message, lane, seq, from == RETAINED_EXEMPT ? KEPT_EXEMPT : KEPT_FRESH);
    }
    if (*kept != NULL && node == NULL) {
        node = node_make(shard, message->topic);
    }
    if (*kept == NULL || node == NULL) {
        shard->restore_short = true;
        retained_refuse(shard, node, message, cleared_seq, "no memory, see `gateway.memory`");
        return;
    }
    node_set(shard, node, *kept, message);
    if (from == RETAINED_FOREIGN && message->qos == 0) {
        node->stamp = 0; /* it came live before, perhaps to nobody */
    }
}

void retained_outdate(struct mr_shard *shard, struct mr_span topic)
{
    struct retained_node *node = shard->retained == NULL ? NULL : node_find(shard, topic);

    if (node != NULL && node->kept != NULL) {
        node->stamp = ++shard->retained_stamp;
    }
}

bool retained_restore(struct mr_shard *shard, struct kept *kept, const struct mr_message *message)
{
    retained_make(shard);
    struct retained_node *node = node_make(shard, message->topic);

    if (node == NULL) {
        return false;
    }
    node_set(shard, node, kept, message);
    kept->retained_row = true;
    return true;
}

void retained_each(struct mr_shard *shard, void (*each)(void *arg, struct kept *kept), void *arg)
{
    struct retained *tree = shard->retained;

    for (size_t i = 0; tree != NULL && i < tree->slots; i++) {
        for (const struct retained_node *node = tree->table[i]; node != NULL;
             node = node->table_next) {
            if (node->kept != NULL) {
                each(arg, node->kept);
            }
        }
    }
}

void retained_close(struct mr_shard *shard)
{
    struct retained *tree = shard->retained;

    cleared_close(shard);
    if (tree == NULL) {
        return;
    }
    while (tree->root->children != NULL) {
        struct retained_node *node = tree->root->children;
        while (node->children != NULL) {
            node = node->children;
        }
        retained_node_clear(shard, node);
        retained_prune(shard, node);
    }
    retained_index_free(tree->index);
    mr_free(tree->root);
    mr_free(tree->table);
    mr_free(tree);
    shard->retained = NULL;
}
