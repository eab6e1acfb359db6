/* bring_internal.h - what a SUBSCRIBE brings, for the three files that bring it.
 *
 *     bring.c        the walks of a session, and its batch: what comes next
 *     bring_look.c   ... and how it is found
 *     bring_turn.c   the batch into the connection; sessions take turns
 *
 * Thread: the shard's.   Memory: lent by its pool.   Time: none.
 */
#ifndef MR_BROKER_BRING_INTERNAL_H
#define MR_BROKER_BRING_INTERNAL_H

#include "broker/retained_internal.h"

enum {
    BATCH = 80,            /* messages looked for at a time */
    BRINGING_BYTES = 2048, /* the buffer class that a session's walks take with it */
};
_Static_assert(BATCH *MR_CONTROL_REF_BYTES_MAX <= BRING_REFS_BYTES_MAX, "room for a batch");

/* The walk of one subscription. */
struct bring {
    struct bring *next;
    struct bring *prev;
    struct mr_sub *sub;
    struct retained_walk walk;
    struct kept *unread; /* found last, and the store could not be read for it; held; or NULL */
    uint64_t stamp;      /* of the SUBSCRIBE: what was retained later comes live */
    uint32_t subscription_id;
    uint32_t capacity; /* as lent by the pool */
    uint32_t filter_len;
    uint8_t qos;
    uint8_t filter[];
};

static inline struct mr_span bring_filter(const struct bring *bring)
{
    return mr_span_make(bring->filter, bring->filter_len);
}

struct brought {
    struct kept *kept; /* held */
    const struct mr_sub *sub;
    uint32_t subscription_id;
    uint8_t qos;
};

/* All walks of a session. */
struct bringing {
    struct bringing *run_next;
    struct bringing *table_next;
    struct session *session; /* NULL: it has gone, and only the list still knows this */
    struct bring *first;
    struct bring *last;
    uint64_t missed; /* a live message of QoS 0 before this stamp did not come */
    size_t capacity;
    uint32_t acl_version; /* of the rules by which the batch was chosen */
    uint16_t count;
    uint16_t at; /* those before it have left */
    bool queued; /* in the shard's list */
    bool owed;
    struct brought batch[BATCH];
};
_Static_assert(sizeof(struct bringing) <= BRINGING_BYTES, "see docs/MEMORY.md");

enum outcome {
    BRING_MORE,  /* go on */
    BRING_HELD,  /* when the journal has room */
    BRING_RESTS, /* until bring_wake() */
    BRING_ENDED, /* it is gone */
};

/* NULL: nothing is under way. */
struct bringing *bringing_find(const struct mr_shard *shard, const struct session *session);

/* Is nothing of it left?  Then it has been freed, or is by the list. */
bool bringing_end(struct mr_shard *shard, struct bringing *bringing);
void bringing_free(struct mr_shard *shard, struct bringing *bringing);

/* ---- bring_look.c ---- */

/* How many may still be put into the queue of a persistent session. */
uint32_t bring_room(const struct mr_shard *shard, const struct keep *keep);

/* Fill the batch from this walk, which pauses before and after, for at most *steps. */
void bring_look(struct mr_shard *shard, struct bringing *bringing, struct bring *bring,
                uint32_t *steps);
bool bring_walk_ended(const struct bring *bring); /* there is nothing more to look at */
void bring_unread_drop(struct mr_shard *shard, struct bring *bring);

/* ---- bring.c ---- */

/* The next batch, and its record.  MORE: the batch is ready, or the steps are used up. */
enum outcome bring_next(struct mr_shard *shard, struct bringing *bringing, uint32_t *steps);

#endif
