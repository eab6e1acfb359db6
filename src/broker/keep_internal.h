/* keep_internal.h - what a persistent session keeps (docs/SESSIONS.md).
 *
 *     session ── keep ── deliveries owed ──▶ kept (a message, once for all sessions)
 *     retained tree ───────────────────────▶ kept
 *
 *     kept.c      messages, in memory or in the store
 *     queue.c     deliveries: push, send, acknowledge, settle
 *     control.c   control records into the journal
 *     apply.c     what a record changes, live and at start
 *     restore.c   load the store, apply the journal's tail
 *     checkpoint.c  hand over to the store what has changed
 *     rows_internal.h  the rows of the store, written and read
 *     layout.c, rehome.c, rehome_copy.c  another number of shards
 *     expiry.c    sessions and wills whose time has come
 *     bring.c, bring_look.c, bring_turn.c  to whom retained messages (retained.h) are brought
 *
 * Thread: the shard's.   Memory: lent by the shard's pool; see MEMORY.md.
 */
#ifndef MR_BROKER_KEEP_INTERNAL_H
#define MR_BROKER_KEEP_INTERNAL_H

#include "broker/broker_internal.h"
#include "broker/rows_internal.h"
#include "broker/share_internal.h"
#include "journal/control.h"
#include "journal/cursor.h"
#include "journal/reader.h"
#include "net/wheel.h"
#include "store/store.h"

#include <stdlib.h>

enum {
    ORDINALS_MAX = 65535, /* deliveries between the oldest owed one and the newest sent */
};

/* The message that an event of the journal was; borrows what the event borrows. */
static inline struct mr_message message_of(const struct mr_event *event)
{
    return (struct mr_message){.topic = event->topic,
                               .payload = event->payload,
                               .props = event->properties,
                               .client = event->client,
                               .username = event->username,
                               .received_us = event->received_us,
                               .qos = event->qos,
                               .retain = event->retain,
                               .will = event->will};
}

/* ---- kept.c ---- */

enum kept_state {
    KEPT_FRESH,   /* in shard->fresh: not in the store */
    KEPT_WRITING, /* in shard->writing: on its way there */
    KEPT_STORED,  /* in the store; `copy` may be NULL */
    KEPT_EXEMPT,  /* never stored: its topic is in journal.exclude */
};

enum { KEPT_BYTES = 64 }; /* of its head, lent by the pool */

/* A message that somebody is owed, or that is retained. */
struct kept {
    struct kept *next; /* in fresh or writing */
    struct kept *prev;
    struct stored *copy;
    uint64_t seq;
    int64_t received_us;
    uint32_t lane;
    uint32_t refs;
    uint32_t bytes; /* what counts against max_queued_bytes */
    uint8_t state;  /* enum kept_state */
    uint8_t qos;
    bool is_retained; /* by the tree */
    bool retained_row;
    uint16_t copied_to; /* rehome.c: one more than the lane whose store got it last */
    uint32_t expiry_s;  /* of a retained one: its life; UINT32_MAX: it has no end */
};

/* One reference for the caller.  NULL: no memory. */
struct kept *kept_new(struct mr_shard *shard, const struct mr_message *message, uint32_t lane,
                      uint64_t seq, enum kept_state state);
size_t kept_copy_bytes(const struct mr_message *message); /* what its copy is lent */
struct kept *kept_stored_new(struct mr_shard *shard, uint32_t lane, uint64_t seq, uint32_t bytes);
void kept_unref(struct mr_shard *shard, struct kept *kept);

/* Its message; spans hold until kept_read_end().  REJECT: the store lacks it, which has been told
 * and counted.   IO: not now.
 */
enum mr_err kept_read(struct mr_shard *shard, const struct kept *kept,
                      struct mr_message *message) MR_MUST_USE;
void kept_read_end(struct mr_shard *shard);
void kept_lacks(struct mr_shard *shard, uint32_t lane, uint64_t seq); /* tell and count it */

/* Checkpoint: fresh ones go into the delta; then, written, they leave memory. */
void kept_write_fresh(struct mr_shard *shard);
void kept_written(struct mr_shard *shard);
void kept_drop_all(struct mr_shard *shard);

/* Not in the tree any more. */
void kept_not_retained(struct mr_shard *shard, struct kept *kept);

/* ---- queue.c ---- */

enum delivery_state {
    DELIVERY_OWED,
    DELIVERY_RELEASED, /* QoS 2: PUBREC came; PUBREL is what is sent now */
    DELIVERY_DONE,     /* settled, and others before it are not */
};

struct delivery {
    struct kept *kept;
    uint64_t ordinal;
    uint32_t subscription_id;
    uint8_t qos;
    uint8_t state; /* enum delivery_state */
    uint8_t share; /* slot of the shared subscription that brought it; 0: none */
    bool retain : 1;
    bool stored : 1; /* the store has, or will have, a row */
};
_Static_assert(sizeof(struct delivery) == 24, "what docs/MEMORY.md says a message owed takes");

struct run {
    uint64_t first;
    uint64_t count;
};

#define KEEP_NOT_BEGUN UINT64_MAX /* number: the journal had no room for its open record */

struct keep {
    struct session *session; /* NULL: it has ended, and only lists still know it */
    uint64_t number;         /* seq of its first open record ... */
    uint32_t lane;           /* ... in this lane: its name in the store, wherever it moves */
    uint64_t ordinal_next;
    uint64_t ordinal_sent; /* those below have been sent at least once */
    uint64_t brought_seq;  /* the last SUBSCRIBE that brought retained messages, or 0 */
    struct delivery *ring;
    size_t ring_bytes;      /* as lent by the pool */
    uint32_t ring_capacity; /* a power of two */
    uint32_t begin;
    uint32_t count;
    uint32_t next;      /* index of the first that this connection was not sent */
    uint32_t under_way; /* sent to this connection, not settled */
    uint32_t sub_next;  /* index of the next subscription's row */
    uint64_t bytes;     /* of the messages owed */
    struct run *runs;   /* settled in this turn */
    uint32_t runs_count;
    uint32_t runs_capacity;
    struct keep *kick_next;
    struct keep *settle_next;
    struct keep *dirty_next;
    struct keep *tight_next;    /* reserve.c */
    struct delivery first;      /* the ring, until there is a second */
    struct mr_wheel_node timer; /* while it is not connected: the next time to look at it */
    int64_t closed_us;          /* Unix; 0: connected */
    int64_t will_ns;            /* monotonic: when the will is due; INT64_MAX: none is */
    int64_t ends_ns;            /* ... when the session ends; INT64_MAX: never, or connected */
    int64_t shifted_ns;         /* when others were last asked to take what it has of groups */
    uint64_t shifted_online;    /* ... and how often members had come by then */
    uint32_t expiry_s;          /* UINT32_MAX: never */
    uint32_t will_delay_s;
    uint32_t capacity; /* as lent by the pool */
    uint16_t window;
    bool kicked;
    bool settling;
    bool dirty;
    bool tight;
    bool close_owed; /* the journal had no room for the close record */
    bool may_bring;  /* retained messages of some subscription may not have been brought */
};

_Static_assert(sizeof(struct keep) <= 256, "a buffer class of the pool");

/* A matching message: the next ordinal.  `kept` NULL: no memory for it, settle it. */
void queue_push(struct mr_shard *shard, struct keep *keep, struct kept *kept,
                const struct delivery *how);

/* One more has room, or gateway.memory has none; false: the system refuses it. */
bool queue_make_room(struct mr_shard *shard, struct keep *keep);

/* ... that the session may not have: its ordinal is settled at once. */
void queue_skip(struct mr_shard *shard, struct keep *keep);

/* Everything pushed by now and durable: send it, and keep to the quotas. */
void queue_kick(struct mr_shard *shard, uint64_t durable_seq);

void queue_drain(struct client *client, uint64_t durable_seq);
void queue_attach(struct keep *keep);                       /* a connection begins */
void queue_wake(struct mr_shard *shard, struct keep *keep); /* onto the kick list */
void queue_may_have_sent(struct keep *keep);                /* its window, before a crash */

/* What the subscriber answered.  LATER: no room for the record. */
bool queue_acked(struct client *client, uint16_t packet_id);
enum verdict queue_received(struct client *client, const struct mr_mqtt_ack *packet);
bool queue_completed(struct client *client, uint16_t packet_id);

void queue_settle(struct mr_shard *shard, struct keep *keep, uint64_t ordinal);
void queue_settle_flush(struct mr_shard *shard);

/* At start: an ordinal is not owed any more, or has had its PUBREC. */
void queue_forget(struct mr_shard *shard, struct keep *keep, uint64_t first, uint64_t count);
void queue_release(struct mr_shard *shard, struct keep *keep, uint64_t first, uint64_t count);
/* Behind the last; takes a reference of its own.  False: no memory. */
bool queue_append(struct mr_shard *shard, struct keep *keep, struct kept *kept,
                  const struct delivery *delivery);
void queue_drop(struct mr_shard *shard, struct keep *keep);
struct delivery *queue_at(const struct keep *keep, uint32_t index);

/* ---- control.c ---- */

/* Append a control record.  FULL: the shard is stalled now.  IO: it has failed. */
enum mr_err control_append(struct mr_shard *shard, const struct mr_control *control,
                           uint64_t *seq) MR_MUST_USE;

/* Hold `len` bytes for the client until `seq` is durable; 0: until its turn. */
enum mr_err answer_reserve(struct client *client, size_t len) MR_MUST_USE;
void answer_hold(struct client *client, uint64_t seq, const void *bytes, size_t len);
void answer_hold_at(struct client *client, uint8_t gate, uint64_t seq, const void *bytes,
                    size_t len);

/* ---- apply.c ---- */

/* An event was appended (or is read at start): retained messages and queues. */
void event_apply(struct mr_shard *shard, const struct mr_message *message, uint32_t lane,
                 uint64_t seq, bool foreign);

/* Does a persistent session want it with QoS 1 or 2? */
bool event_is_owed(struct mr_shard *shard, const struct mr_message *message);
struct mr_message copy_message(const struct mr_control *copy);

/* A control record is read at start. */
void control_apply(struct mr_shard *shard, const struct mr_control *control, int64_t at_us,
                   uint64_t seq);

/* An open record was appended: `session` is persistent from now on.  False: no memory
 * (only if it was not persistent before).
 */
bool keep_make(struct mr_shard *shard, struct session *session, uint32_t lane, uint64_t number);
void keep_open(struct mr_shard *shard, struct session *session, const struct mr_control *open);
void keep_close(struct mr_shard *shard, struct keep *keep, int64_t at_us);
/* The same, when the store knows it already. */
void keep_closed(struct mr_shard *shard, struct keep *keep, int64_t at_us);
void keep_free(struct mr_shard *shard, struct session *session);
/* Off a list: free it if its session has ended and no other list has it. */
void keep_let_go(struct mr_shard *shard, struct keep *keep);
void keep_mark(struct mr_shard *shard, struct keep *keep); /* the store must learn of it */

/* A subscription as a record says it; at start only. */
bool keep_subscribe(struct mr_shard *shard, struct session *session,
                    const struct mr_control_filter *filter, bool *is_new);

/* ---- bring.c, bring_look.c, bring_turn.c ---- */

enum { BRING_STEPS = 2048 }; /* of all SUBSCRIBEs in one turn; what is left takes turns */

/* The retained messages of a subscription are to be brought to its session, from the first on,
 * also if that is under way.  False: no memory.
 */
bool bring_add(struct mr_shard *shard, struct mr_sub *sub, const struct mr_control_filter *filter);

/* What is under way for it goes on with these options. */
void bring_set(struct mr_sub *sub, const struct mr_control_filter *filter);
void bring_cancel(struct mr_shard *shard, struct mr_sub *sub); /* it is removed */

/* Of a persistent session that had nothing under way: look for the first ones, which the
 * SUBSCRIBE's record is to name, as far as the turn's steps reach.
 */
void bring_first(struct mr_shard *shard, struct session *session);
enum { BRING_REFS_BYTES_MAX = 4096 };
size_t bring_refs(const struct mr_shard *shard, const struct session *session,
                  uint8_t out[BRING_REFS_BYTES_MAX]);
void bring_recorded(struct mr_shard *shard, struct session *session, uint64_t seq);
bool bring_is_ended(const struct mr_sub *sub); /* nothing of it is left to look for */

/* Begin to send, as far as the turn's steps reach. */
void bring_start(struct mr_shard *shard, struct session *session);

/* Its socket or its window may have room again, or its connection has begun. */
void bring_wake(struct mr_shard *shard, struct session *session);

/* A connection goes on with the session: with what was under way, too. */
void bring_resume(struct mr_shard *shard, struct session *session);

/* This live message of QoS 0 does not reach the client: if it is retained, and its topic's turn is
 * still to come, it is brought.
 */
void bring_missed(struct client *client, const struct mr_message *message);

void bring_turn(struct mr_shard *shard); /* each in turn, about a millisecond in all */
void bring_drop(struct mr_shard *shard, struct session *session);
void bring_close(struct mr_shard *shard); /* all sessions have been freed */

/* ---- cleared.c ---- */

/* `seq`: the record of the own lane that cleared it.  False: no memory. */
bool cleared_add(struct mr_shard *shard, struct mr_span topic, int64_t received_us, uint64_t seq,
                 bool is_stored);
void cleared_write(struct mr_shard *shard);  /* into the delta */
void cleared_expire(struct mr_shard *shard); /* at a tick */
void cleared_close(struct mr_shard *shard);

/* ---- shard_state.c ---- */

void shard_state_open(struct mr_shard *shard, struct mr_broker *broker, uint32_t index,
                      uint64_t memory);
/* All sessions, without a record: they go on at the next start. */
void shard_sessions_close(struct mr_shard *shard);
void shard_state_close(struct mr_shard *shard); /* behind it */

/* ---- expiry.c ---- */

void expiry_arm(struct mr_shard *shard, struct keep *keep); /* its times have changed */
void expiry_tick(struct mr_shard *shard);
/* Its connection has ended: close record, will, or the end of the session. */
void session_leave(struct mr_shard *shard, struct session *session, const struct client *client);
/* Publish its will if it has one, end it. */
bool session_end(struct mr_shard *shard, struct session *session);

/* ---- checkpoint.c ---- */

/* Write everything up to `seq`, and wait for it: at start. */
void checkpoint_now(struct mr_shard *shard, uint64_t seq);
/* Messages that only memory and journal have: so many bytes bring a checkpoint on. */
uint64_t checkpoint_at_bytes(const struct mr_shard *shard);

/* No memory for this message, and the store is at work to make some: publishers wait for it. */
bool checkpoint_is_behind(const struct mr_shard *shard, const struct mr_message *message);
void checkpoint_turn(struct mr_shard *shard);                          /* at a turn's end */
void checkpoint_durable(struct mr_shard *shard, uint64_t durable_seq); /* it rose */
void checkpoint_forget(struct mr_shard *shard, struct keep *keep);     /* the session has gone */
void checkpoint_last(struct mr_shard *shard);                          /* at a clean stop */
bool checkpoint_pends(const struct mr_shard *shard); /* so do not sleep for ever */

void delivery_forget(struct mr_shard *shard, const struct keep *keep,
                     const struct delivery *delivery);
void delivery_write(struct mr_shard *shard, const struct keep *keep, struct delivery *delivery);
void sub_forget(struct mr_shard *shard, const struct keep *keep, const struct mr_sub *sub);

/* ---- restore.c ---- */

struct restored {
    struct rows_loaded rows;
    uint64_t records; /* of the journal that were applied */
    int64_t began_ns;
};

/* The state as of record `upto` of the lane: store, then tail.  `cursor`: up to where the store has
 * all that matters, if it is the one that it was written with, else it is put back; NULL: there is
 * none.  CONFIG: memory is too small.  CORRUPT: the store is damaged.  IO: `why` says it.
 */
enum mr_err restore_state(struct mr_shard *shard, struct mr_cursor *cursor, uint64_t upto,
                          struct restored *out, struct mr_error *why) MR_MUST_USE;

/* Much has been applied up to `seq`, and memory need not hold it: into the store.  Not when there
 * was no memory for some of it: this start fails, and the next one has to find it in the journal.
 */
void restore_relieve(struct mr_shard *shard, uint64_t seq);

/* Why the state could not be made: the error for that. */
enum mr_err restore_fault(const struct mr_shard *shard, struct mr_error *why);

/* At start, each for all shards before the next: the state; what is owed from other lanes, for
 * which all groups must be known; nobody is connected, and sessions that end with that leave what
 * they have of groups to members anywhere.
 */
enum mr_err restore(struct mr_shard *shard, struct restored *out, struct mr_error *why) MR_MUST_USE;
void restore_others(struct mr_shard *shard, const struct restored *restored);
void restore_end(struct mr_shard *shard, const struct restored *restored);

/* ---- rehome.c ---- */

/* The session stores are for another number of lanes than the journal has now: bring what
 * they and the journal hold to where it belongs.  Before any shard is restored.
 */
enum mr_err rehome(struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;

#endif
