/* bridge_internal.h - what the files of this folder share; never leaves it.
 *
 *     worker.c   the worker's turn: states FLOWING, DRAINING, PAUSING
 *     fill.c     view ─▶ span of records
 *     route.c    names ─▶ destination, key; cached per name of a segment
 *     record.c   event and route ─▶ record: time, value, what depends on the payload
 *     headers.c  its headers
 *     shaping.c  the templates and rules that these follow, compiled
 *     start.c    where a new bridge begins
 *     flight.c   what is in flight, verdicts, the contiguous cursor
 *     dead.c     the dead letters
 *     seek.c     going on elsewhere, as the operator says
 *     letters.c  dead letters that were retried or dropped
 *     call.c     what the control plane has the worker do; partitions.c
 *     group.c    what the lanes of a bridge have in common
 *     port.c     what a sink may call
 *     position.c targets that keep a position of their own
 *     live.c     fresh events ahead of a backlog
 *     room.c     a cursor's write that found no room on the disk
 *     unread.c   a part of the journal that cannot be read just now
 *     bridge.c   options, life cycle, statistics
 *
 * Thread: "worker" fields belong to the worker; "shared" ones are atomic or under
 * the mutex.
 */
#ifndef MR_PIPELINE_BRIDGE_INTERNAL_H
#define MR_PIPELINE_BRIDGE_INTERNAL_H

#include "base/bufpool.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/rng.h"
#include "codec/timestamp.h"
#include "journal/live.h"
#include "pipeline/bridge.h"
#include "pipeline/byte_ring.h"
#include "pipeline/dead_internal.h"
#include "pipeline/live_internal.h"
#include "pipeline/operate_internal.h"
#include "pipeline/position_internal.h"
#include "pipeline/room_internal.h"
#include "pipeline/shaping_internal.h"
#include "pipeline/start_internal.h"
#include "pipeline/template.h"
#include "pipeline/unread_internal.h"

enum {
    FLIGHTS_MAX = 256,         /* spans in flight; power of two */
    FLIGHT_RECORDS_MAX = 8192, /* per span: a view of 1 MiB of 100-byte events fits */
    COMMITTED_TIMES = 3,       /* `inflight_records` of a target that commits */
    REJECTS_MAX = 64,          /* told by other threads, not yet written */
    REASON_MAX = 512,
    SAID_REFUSALS_MAX = 8,
    ROUTE_POOL_BYTES = 256 << 20,
    ROUTE_KEEP_BYTES = 4 << 20,
};

#define NS_PER_MS ((int64_t)1000000)
#define NS_PER_S ((int64_t)1000000000)

/* ---- routes (route.c) ---- */

enum route_kind {
    ROUTE_SEND,
    ROUTE_SKIP, /* no filter of `from` matches */
    ROUTE_DEAD, /* has no destination or key; `reason` says why */
};

/* Begins with what the sink sees.  Its texts stand behind it in the same memory. */
struct route {
    struct mr_route pub;
    enum route_kind kind;
    const char *reason;
    size_t capacity; /* of the pool's buffer; 0: in the byte ring */
};

struct dests {
    struct mr_dest **items;
    uint32_t *hashes;
    uint32_t *places; /* by hash: index of the item + 1; 0: free */
    uint32_t place_mask;
    uint32_t count;
    uint32_t max;
};

/* ---- spans in flight (flight.c) ---- */

/* A contiguous range of seqs, with the records of it that are the sink's.  The
 * token of its batch.  Retired in order: a span that is settled waits for those
 * before it.
 */
struct flight {
    struct mr_bridge *bridge;
    struct mr_batch batch;
    struct mr_view view; /* what its records borrow from */
    bool ends_view;      /* unpin when retired */
    bool submitted;      /* the sink has it */
    /* Records without a verdict, and from VERDICT_DONE on those with DONE from the target: one
     * number, so that a verdict is one subtraction.
     */
    _Atomic uint64_t verdicts;
    _Atomic bool failed;  /* some RETRY or SUSPECT */
    _Atomic bool suspect; /* some SUSPECT */
    uint32_t rejected;    /* records that became dead letters after submit */
    uint32_t dead;        /* dead letters made while filling */
    uint32_t skipped;
    uint64_t control;          /* no events, or another bridge's letters */
    uint64_t lost;             /* the journal could not read them back */
    uint64_t dropped;          /* ... because they were given up (journal/drops.h) */
    uint32_t times_replaced;   /* records whose event time was of no use */
    int64_t received_first_us; /* of its first and last event */
    int64_t received_last_us;
    uint64_t value_bytes;
    uint64_t dead_seq;    /* in the dead-letter journal; durable before retiring */
    uint64_t records_end; /* ring positions behind it */
    uint64_t bytes_end;
};

#define VERDICT_DONE ((uint64_t)1 << 32)

static inline uint32_t flight_left(const struct flight *flight)
{
    return (uint32_t)atomic_load_explicit(&flight->verdicts, memory_order_acquire);
}

struct reject {
    struct flight *flight;
    uint64_t seq;
    char reason[REASON_MAX];
};

/* ---- a bridge's lanes (group.c) ---- */

struct mr_bridge_group {
    struct mr_journal *journal;
    char name[MR_CURSOR_NAME_MAX + 1];
    uint32_t lane_count; /* all of the journal, those of earlier epochs too */
    struct mr_cursor **cursors;
    struct mr_mutex mutex; /* the members and the destinations */
    struct mr_bridge **members;
    struct dests dests; /* of all lanes, for their number; max is 0 until the first */
    struct dead_store dead;
};

/* ---- the bridge ---- */

struct mr_sink_port {
    struct mr_bridge *bridge;
};

enum worker_state {
    WORKER_FLOWING,
    WORKER_DRAINING, /* something failed: nothing new until all is settled */
    WORKER_PAUSING,  /* back-off before offering again */
    WORKER_STOPPED,  /* for the operator: the journal or the dead letters failed */
};

struct bridge_metrics {
    struct mr_metric *up;
    struct mr_metric *records;
    struct mr_metric *bytes;
    struct mr_metric *skipped;
    struct mr_metric *retries;
    struct mr_metric *dead_letters;
    struct mr_metric *times_replaced;
    struct mr_metric *lost;
    struct mr_metric *inflight;
    struct mr_metric *lag_records;
    struct mr_metric *lag_seconds;
    struct mr_metric *lag_bytes; /* written by refresh */
    struct mr_metric *committed_seq;
    struct mr_metric *position;           /* of a target that keeps one */
    struct mr_metric *ledger[MR_COLUMNS]; /* written by refresh, as what follows */
    struct mr_metric *unbalanced;
};

struct mr_bridge {
    /* ---- constant after create ---- */
    struct mr_sink_port port;
    struct mr_bridge_options_run options;
    char name[MR_CURSOR_NAME_MAX + 1];
    char gateway_name[128];
    char dead_path[1024];
    char id_prefix[64]; /* "<journal id>-<lane>-" */
    size_t id_prefix_len;
    char journal_id[37];
    struct mr_lane *lane;
    struct mr_bridge *main;   /* of a second worker (live.c): the first; NULL: this is it */
    struct mr_cursor *cursor; /* of a second worker: NULL while it is idle or fencing */
    struct mr_shape shape;
    struct shaping shaping;
    void *sink_state;
    struct bridge_metrics metrics;
    struct mr_wake wake;

    /* ---- worker ---- */
    enum worker_state state;
    int64_t turn_ns; /* when its turn has begun */
    bool opened;     /* the sink is */
    struct mr_reader *reader;
    struct mr_view view; /* being filled from */
    struct mr_view_at view_at;
    bool view_open;
    uint64_t seq_done;       /* last seq that some span covers */
    int64_t received_max_us; /* now: what claims to be later came while the clock was ahead */
    uint64_t seq_cursor;
    uint64_t seq_epoch_end; /* the others are told when the cursor gets there */
    uint32_t epoch;         /* the latest whose turn has come */
    bool said_epoch;
    struct flight *flights; /* ring of FLIGHTS_MAX */
    uint64_t flight_head;
    uint64_t flight_tail;
    struct mr_record *records; /* ring of records_size */
    size_t records_size;
    uint64_t records_head;
    uint64_t records_tail;
    uint64_t records_turned; /* where the head last turned back to the beginning, */
    uint64_t records_passed; /* and how many places that passed over */
    struct byte_ring bytes;
    struct mr_bufpool route_pool;
    struct dests dests;
    struct mr_template_facts facts; /* of the event being shaped */
    struct dead dead;
    struct dead_store dead_alone; /* of a bridge without a group */
    struct position position;
    struct live live;
    struct room room;
    struct unread unread;
    int64_t tick_at_ns; /* the sink wants to be called by then; 0: it does not say */
    bool held_up;       /* no room for more before something is settled */
    bool caught_up;     /* the last turn read everything there was */
    struct mr_rng rng;
    uint32_t attempt; /* failures since something was delivered */
    int64_t pause_until_ns;
    int64_t refused_ns;       /* when the sink last said FULL; 0: it did not */
    int64_t blocked_until_ns; /* dead letters full: when to look again */
    uint64_t isolate_until;   /* offer in small pieces, one at a time, up to here */
    uint32_t isolate_chunk;
    int64_t settled_ms; /* time of the last record that was settled */
    bool said_paused;
    bool said_unbalanced;

    /* ---- shared ---- */
    struct mr_thread *thread;
    _Atomic bool stopping;
    _Atomic int64_t patience_ns;
    _Atomic bool failing;
    _Atomic uint64_t suspect_seq; /* highest seq of a span with a SUSPECT */
    _Atomic bool up;
    _Atomic bool seek_wanted;
    _Atomic bool refuses;        /* whoever asks something of the worker */
    _Atomic bool stopped;        /* WORKER_STOPPED, as others see it */
    _Atomic uint32_t live_state; /* enum live_state, of a second worker */
    _Atomic uint64_t delivered;
    _Atomic uint64_t skipped;
    _Atomic uint64_t dead_count;
    _Atomic uint64_t retries;
    struct mr_mutex mutex; /* what follows */
    struct reject rejects[REJECTS_MAX];
    uint32_t reject_count;
    char fail_reason[REASON_MAX];
    char last_error[REASON_MAX];
    uint32_t said_refusals[SAID_REFUSALS_MAX]; /* hashes of what the log has, while away */
    uint32_t said_refusal_count;
    bool known; /* up or down was ever said */
    int64_t down_since_ns;
    struct seek seek;
    struct bridge_call *_Atomic calls; /* the newest first */
};

/* route.c */
enum mr_err mr_dests_open(struct mr_bridge *bridge, struct mr_error *why) MR_MUST_USE;
void mr_dests_close(struct dests *dests);
struct route *mr_route_of(struct mr_bridge *bridge, const struct mr_view *view,
                          const struct mr_event *event);
void mr_route_drop(void *bridge, void *route);
struct mr_dest *mr_dest_of(struct mr_bridge *bridge, struct mr_span name, struct mr_error *why);
const char *mr_route_filter(const struct mr_list *from, struct mr_span topic, bool *matches);

/* A second worker beside `bridge`, idle. */
enum mr_err mr_bridge_create_second(struct mr_bridge **out, struct mr_bridge *bridge,
                                    struct mr_error *why) MR_MUST_USE;
const char *mr_bridge_identity(const struct mr_bridge *bridge); /* its name in the configuration */

enum mr_err mr_bridge_shape_init(struct mr_bridge *bridge,
                                 const struct mr_bridge_options_run *options,
                                 struct mr_error *why) MR_MUST_USE;
void mr_bridge_shape_fini(struct mr_bridge *bridge);
void mr_bridge_id_prefix(struct mr_bridge *bridge, const char *journal_id);

/* record.c */
enum put_result {
    PUT_DONE,
    PUT_NO_ROOM,  /* end the span before this event */
    PUT_REJECTED, /* for the dead letters; note.reason says why */
};

struct put_note {
    bool time_replaced; /* by the receive time; time_reason says why */
    char reason[REASON_MAX];
    char time_reason[REASON_MAX];
};

/* `record` is what names and payload give; the rest is done to it. */
enum put_result mr_shape_record(struct mr_bridge *bridge, const struct mr_event *event,
                                struct mr_record *record, struct put_note *note);

/* headers.c */
void mr_mark_backfill(struct mr_record *records, uint32_t count); /* of records without headers */
enum put_result mr_shape_headers(struct mr_bridge *bridge, const struct mr_event *event,
                                 struct mr_record *record, struct put_note *note);

/* fill.c */
enum fill_result {
    FILL_READY, /* a span was made: the newest in flight */
    FILL_EMPTY, /* the view had nothing more; read the next */
    FILL_FULL,  /* no room, or the dead letters are full: later */
    FILL_BROKEN /* the dead letters failed */
};
enum fill_result mr_fill_span(struct mr_bridge *bridge, uint32_t records_max, int64_t now_ns);

/* flight.c */
struct flight *mr_flight_at(struct mr_bridge *bridge, uint64_t index);
struct flight *mr_flight_open(struct mr_bridge *bridge); /* NULL: no room */
void mr_flight_close(struct mr_bridge *bridge, struct flight *flight, uint64_t seq_last);
/* Up to there nothing comes: so many are lost, and so many were given up. */
void mr_flight_lose(struct mr_bridge *bridge, uint64_t seq_last, uint64_t lost, uint64_t dropped);
bool mr_flight_retire(struct mr_bridge *bridge);
bool mr_flight_settled(const struct mr_bridge *bridge); /* the sink owes no verdict */
bool mr_flight_absorb(struct mr_bridge *bridge, const struct flight *flight, uint64_t seq_last);
void mr_flight_drop_all(struct mr_bridge *bridge);
size_t mr_flight_records_room(const struct mr_bridge *bridge);
uint64_t mr_flight_records(const struct mr_bridge *bridge); /* on their way */
/* Between two spans: with enough room at the beginning of the rings the next one lies there. */
void mr_flight_turn_back(struct mr_bridge *bridge);

/* group.c */
void mr_group_join(struct mr_bridge *bridge);
void mr_group_leave(struct mr_bridge *bridge);
void mr_group_settled(struct mr_bridge *bridge); /* the cursor has come to seq_epoch_end */
bool mr_group_enter_epoch(struct mr_bridge *bridge, uint32_t epoch); /* false: wait */

/* worker.c */
void mr_worker_run(void *bridge);
void mr_worker_stop(struct mr_bridge *bridge, const char *why);
void mr_worker_close(struct mr_bridge *bridge, int64_t patience_ns);

bool mr_worker_rewind(struct mr_bridge *bridge);               /* false: it had to stop */
bool mr_worker_read(struct mr_bridge *bridge, int64_t now_ns); /* the next view; false: none now */
/* How long to wait before the attempt behind that one. */
int64_t mr_worker_pause_ns(struct mr_bridge *bridge, uint32_t attempt);
int64_t mr_worker_oldest_ms(struct mr_bridge *bridge); /* that is not settled; 0: not known */

/* port.c */
void mr_port_settled(struct flight *flight, uint32_t count, uint32_t done);
void mr_port_fail(struct mr_bridge *bridge, struct flight *flight, enum mr_verdict verdict,
                  const char *reason);
void mr_port_error(struct mr_bridge *bridge, const char *text);

#endif
