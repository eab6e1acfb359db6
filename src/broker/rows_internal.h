/* rows_internal.h - the rows of the session store (docs/SESSIONS.md).
 *
 *     rows.c       keys, rows written, what one says
 *     rows_load.c  a shard's state from all of them
 *
 * Thread: the shard's.   Memory: the store's.   Time: none.
 */
#ifndef MR_BROKER_ROWS_INTERNAL_H
#define MR_BROKER_ROWS_INTERNAL_H

#include "broker/broker_internal.h"
#include "store/store.h"

struct keep;
struct delivery;

enum {
    SESSION_KEY_BYTES = 12, /* lane, number */
    DELIVERY_KEY_BYTES = 20,
    SUB_KEY_BYTES = 16,
    MESSAGE_KEY_BYTES = 12, /* lane, seq; of RETAINED too */
    DELIVERY_ROW_BYTES = 21,
    CLEARED_ROW_FIXED = 8,          /* when; then the topic */
    DELIVERY_ROW_SHARED_BYTES = 22, /* the slot of the shared subscription, too */
    VECTOR_ROW_FIXED = 20,          /* journal id, epoch; then lane and seq of each lane */
    VECTOR_ROW_LANE = 12,
    STEPS_KEY_BYTES = 1, /* in VECTOR too */
    STEP_ROW_BYTES = 16, /* before, after */
    SESSIONS_PATH_BYTES = 1024,
    SESSION_ROW_FIXED = 39,
    ROW_QOS = 3,
    ROW_RETAIN = 4,
    ROW_NAMES = 8,    /* of a message */
    ROW_RELEASED = 8, /* of a delivery */
    ROW_NO_LOCAL = 4,
    ROW_RETAIN_AS_PUBLISHED = 8,
    ROW_BRINGS = 16, /* of a subscription: not all retained messages are in records */
};

#define VECTOR_LANE_ROUTE UINT32_MAX          /* the last entry's: how far groups were given it */
#define VECTOR_LANE_OVERLAP (UINT32_MAX - 1)  /* ... in front of it: how overlaps count */
#define VECTOR_LANE_ENDED (UINT32_C(1) << 31) /* ... in front of that: a lane that is no more */

/* A lane that is no more: how far groups have been given it. */
struct ended_pos {
    uint64_t seq;
    uint32_t lane;
};

/* What a vector says of overlapping subscriptions (merge.c). */
enum overlap { OVERLAP_UNKNOWN, OVERLAP_EACH, OVERLAP_MERGED };

/* As of which records a store is, and of which layout of lanes. */
struct vector {
    struct mr_journal_id journal;
    uint32_t home;  /* its shard */
    uint32_t lanes; /* that there are */
    uint32_t epoch; /* of the journal; 0: not known */
    uint64_t route; /* of the own lane, as far as groups have been given it */
    struct ended_pos ended[SHARDS_MAX];
    uint32_t ended_count;
    uint8_t overlap; /* enum overlap */
};

void kept_key(uint32_t lane, uint64_t seq, uint8_t out[MESSAGE_KEY_BYTES]);
void session_key(const struct keep *keep, uint8_t out[SESSION_KEY_BYTES]);
void delivery_key(const struct keep *keep, uint64_t ordinal, uint8_t out[DELIVERY_KEY_BYTES]);
void sub_key(const struct keep *keep, uint32_t row, uint8_t out[SUB_KEY_BYTES]);

void row_session_put(struct mr_store *store, const struct keep *keep);
void row_sub_put(struct mr_store *store, const struct keep *keep, const struct mr_sub *sub);
void row_delivery_put(struct mr_store *store, const struct keep *keep,
                      const struct delivery *delivery);
void row_message_put(struct mr_store *store, uint32_t lane, uint64_t seq,
                     const struct mr_message *message);
void row_retained_put(struct mr_store *store, uint32_t lane, uint64_t seq);
/* In RETAINED too: a topic whose message was cleared by this record (cleared.c). */
void row_cleared_put(struct mr_store *store, uint32_t lane, uint64_t seq, struct mr_span topic,
                     int64_t received_us);
void row_cleared_delete(struct mr_store *store, uint32_t lane, uint64_t seq);
void row_vector_put(struct mr_store *store, const struct vector *vector,
                    uint64_t (*seq_of)(void *arg, uint32_t lane), void *arg);

/* In VECTOR too: how the wall clock was set (clock.c). */
void row_steps_put(struct mr_store *store, const struct clock_step steps[CLOCK_STEPS]);
bool row_is_steps(struct mr_span key);

/* Behind those that are there already, as many as have room. */
void row_steps_get(struct mr_span value, struct clock_step steps[CLOCK_STEPS]);

bool message_decode(struct mr_span bytes, struct mr_message *message);
/* *lanes: VECTOR_ROW_LANE bytes each, of the lanes that there are. */
bool row_vector_get(struct mr_span key, struct mr_span value, struct vector *out,
                    struct mr_span *lanes);

/* What the store of a shard says of itself. */
struct rows_loaded {
    uint64_t seq;   /* of the own lane, up to which it is */
    uint64_t route; /* ... up to which groups have been given it */
    uint32_t lanes; /* that there were when it was written; 0: it is new */
    uint32_t epoch; /* ... and the journal's epoch; 0: not known */
    bool has_vector;
};

/* Sessions, deliveries and retained messages, and how far the other lanes were read.  False:
 * it cannot be read, or memory is short (shard->restore_short).
 */
bool rows_load(struct mr_shard *shard, struct rows_loaded *out);

#endif
