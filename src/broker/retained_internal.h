/* retained_internal.h - the tree of retained messages, for the files that go about in it.
 *
 *     retained.c         the tree itself: set, clear, restore
 *     retained_walk.c    what a filter matches, a step at a time
 *     retained_index.c   by (lane, seq), while a start applies the journal
 *     retained_expiry.c  those whose life is over
 *
 * Thread: the shard's.   Memory: nodes are lent by the pool, tables by mr_alloc.   Time: none.
 */
#ifndef MR_BROKER_RETAINED_INTERNAL_H
#define MR_BROKER_RETAINED_INTERNAL_H

#include "broker/keep_internal.h"
#include "broker/retained.h"

struct retained_node {
    struct retained_node *table_next;
    struct retained_node *parent;
    struct retained_node *children; /* a list by `next` and `prev`, the youngest first */
    struct retained_node *next;
    struct retained_node *prev;
    struct kept *kept;
    uint64_t stamp;     /* when `kept` was set; 0: each walk gives it (retained_apply()) */
    int64_t cleared_us; /* there was one until then; 0: that does not matter (any more) */
    uint64_t hash;
    uint32_t capacity; /* as lent by the pool */
    uint32_t walks;    /* that pause here */
    uint16_t level_len;
    uint8_t level[];
};

struct retained {
    struct retained_node *root;
    struct retained_node **table; /* mr_alloc, as the table of sessions */
    size_t slots;
    size_t nodes;
    size_t mortal;                /* of them have a message with a Message Expiry Interval */
    size_t unpaid;                /* slots of the last pass of retained_expire_for() */
    size_t swept;                 /* the slot that retained_expire() looks at next */
    struct retained_index *index; /* NULL: nobody has asked for it */
};

/* ---- retained.c ---- */

struct retained_node *retained_child(const struct mr_shard *shard,
                                     const struct retained_node *parent, struct mr_span level);

/* Take `node` away if nothing keeps it, and so upwards. */
void retained_prune(struct mr_shard *shard, struct retained_node *node);

/* Its message is not retained any more; the node stays until it is pruned. */
void retained_node_clear(struct mr_shard *shard, struct retained_node *node);

/* ---- retained_expiry.c ---- */

/* Seconds that the message may be retained; UINT32_MAX: for ever [MQTT-3.3.2-5]. */
uint32_t retained_life(const struct mr_message *message);

/* There is no room for this one: what was over when it was received goes.  Nodes may be gone. */
void retained_expire_for(struct mr_shard *shard, const struct mr_message *message);

/* ---- retained_walk.c ---- */

/* What a filter matches, found a step at a time, whatever changes in between.  */
struct retained_walk {
    struct retained_node *at; /* looked at last; NULL: the end */
    uint64_t stamp;           /* of what was found last: shard->retained_stamp when it was set */
    uint32_t level;
    uint32_t below;
};
void retained_walk_begin(const struct mr_shard *shard, struct retained_walk *walk);

/* The next one, in no order.  NULL: *steps, which it counts down, are used up, or the end. */
struct kept *retained_walk_next(struct mr_shard *shard, struct retained_walk *walk,
                                struct mr_span filter, uint32_t *steps);

/* Around everything that may change the tree. */
void retained_walk_pause(struct retained_walk *walk);
void retained_walk_resume(struct retained_walk *walk);
void retained_walk_end(struct mr_shard *shard, struct retained_walk *walk); /* of a paused one */

/* ---- retained_index.c ---- */

/* The retained message of this record, or NULL.  At a start, until retained_find_end(). */
struct kept *retained_find(struct mr_shard *shard, uint32_t lane, uint64_t seq);
void retained_find_end(struct mr_shard *shard);

struct retained_index;
void retained_index_add(struct retained_index *index, struct kept *kept);
void retained_index_remove(struct retained_index *index, const struct kept *kept);
void retained_index_free(struct retained_index *index);

/* ---- cleared.c ---- */

/* Of what may have been cleared as far as some shard knows: the latest receive time; 0: nothing. */
int64_t cleared_mark_us(const struct mr_shard *shard);

/* The shard has read all lanes to their ends, and remembers nothing that was cleared. */
void cleared_mark_settled(struct mr_shard *shard);

#endif
