/* reserve_internal.h - memory that an event will need behind its append, had before it.
 *
 *     reserve_for(message) ▸ append ▸ kept_new(), queue_append() take what is reserved
 *
 * A record that is in the journal cannot be taken back: if the system then refused the memory in
 * which sessions are owed it, they would miss what was acknowledged.  So the event waits in front
 * of the journal instead.  Beyond `gateway.memory` it does not: what sessions are owed beyond that
 * is dropped and counted, as beyond their quotas.
 *
 * Thread: the shard's.   Memory: one head and one copy, lent by the shard's pool.
 * Time:   a few comparisons where both are there.
 */
#ifndef MR_BROKER_RESERVE_INTERNAL_H
#define MR_BROKER_RESERVE_INTERNAL_H

#include "base/base.h"

struct keep;
struct mr_message;
struct mr_shard;

struct reserve {
    uint8_t *head; /* of a struct kept; NULL: none */
    uint8_t *copy; /* of its message; NULL: none */
    size_t copy_capacity;
    struct keep *tight; /* queues without room for one more */
};

/* False: the system refuses what the message needs; try again later. */
bool reserve_for(struct mr_shard *shard, const struct mr_message *message);

/* What is reserved and of that size, or else the pool's.  NULL: none. */
uint8_t *reserve_take_head(struct mr_shard *shard, size_t bytes, size_t *capacity);
uint8_t *reserve_take_copy(struct mr_shard *shard, size_t bytes, size_t *capacity);

/* The queue is full, and the system refuses a larger one. */
void reserve_tight(struct mr_shard *shard, struct keep *keep);

/* The shard ends. */
void reserve_close(struct mr_shard *shard);

#endif
