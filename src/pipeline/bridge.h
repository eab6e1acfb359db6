/* bridge.h - carry events from the journal to one target.
 *
 *     reader ─▶ match `from` ─▶ route (dest, key; cached per name) ─▶ encode value
 *            ─▶ sink.submit ─▶ settle ─▶ contiguous cursor
 *                                └─▶ dead letters (their own journal)
 *
 * One worker thread per bridge and lane.  A slow or absent target holds up this
 * bridge only: what waits stays on disk, and memory is bounded by
 * `inflight_records` and the reader's pins.
 *
 * Thread: create/start/stop by the main thread; the rest is the worker's.
 * Memory: bounded; taken at create.   Time: ~40 ns an event beside the sink.
 */
#ifndef MR_PIPELINE_BRIDGE_H
#define MR_PIPELINE_BRIDGE_H

#include "config/option.h"
#include "journal/cursor.h"
#include "journal/reader.h"
#include "plugin/sink.h"

struct mr_bridge;

/* What a record of the backlog carries while fresh ones overtake it; its value is 1. */
#define MR_BACKFILL_HEADER "millrace_backfill"

/* In which order a bridge catches up. */
enum mr_drain { MR_DRAIN_ORDERED, MR_DRAIN_LIVE_FIRST };

/* What becomes of an event whose time is missing, unreadable or impossible. */
enum mr_timestamp_on_error { MR_TIMESTAMP_RECEIVED, MR_TIMESTAMP_DEAD_LETTER };

/* Keys that every bridge has, whatever its type. */
struct mr_bridge_conf {
    const char *type;                 /* default: the bridge's name */
    struct mr_list from;              /* MQTT filters; empty: everything */
    const char *start;                /* of a bridge that is new: oldest (NULL), now, or RFC 3339 */
    const char *timestamp;            /* received (NULL), or a template of the event time */
    uint32_t timestamp_unit;          /* enum mr_time_unit */
    uint32_t timestamp_on_error;      /* enum mr_timestamp_on_error */
    uint64_t timestamp_max_past_us;   /* before the receive time; 0: no bound */
    uint64_t timestamp_max_future_us; /* behind it */
    uint32_t drain;                   /* enum mr_drain */
    uint64_t live_after_us;           /* live_first: so far behind, before fresh ones overtake */
    uint64_t backfill_rate;           /* live_first: records a second; 0: as fresh ones come */
    uint32_t live_least;              /* live_first: so many behind, at least; 0: 1,000 */
    uint64_t inflight_records;
    uint64_t priority; /* with `when_full: drop_oldest`, the higher the more important */
    bool may_drop;
    uint64_t retry_min_us; /* pause after a failure, doubling with jitter up to max */
    uint64_t retry_max_us;
};
extern const struct mr_option mr_bridge_options[];

/* What the lanes of one bridge have in common: whose turn it is after their number was
 * changed (an epoch is delivered before the next one begins), and the dead letters.
 * Opening it finds or makes the bridge's cursors in all lanes of the journal.
 */
struct mr_bridge_group;
enum mr_err mr_bridge_group_open(struct mr_bridge_group **out, struct mr_journal *journal,
                                 const char *name, const struct mr_bridge_conf *conf,
                                 struct mr_error *why) MR_MUST_USE;
void mr_bridge_group_close(struct mr_bridge_group *group); /* its bridges are destroyed */

/* Has `lane` anything to deliver, now or later?  False for a lane of an earlier epoch
 * once it is settled; then it needs no bridge.
 */
bool mr_bridge_group_needs(const struct mr_bridge_group *group, uint32_t lane);

struct mr_bridge_options_run {
    struct mr_bridge_group *group; /* outlives the bridge; NULL: a lane by itself */
    const char *name;              /* as in the configuration */
    const char *gateway_name;
    struct mr_journal *journal;
    uint32_t lane;
    const struct mr_bridge_conf *conf;
    const struct mr_sink_ops *sink;
    const void *sink_conf;
    const char *dead_letters_path; /* folder of this bridge's dead-letter journal */
    uint64_t dead_letters_bytes_max;
    uint32_t record_bytes_max; /* the journal's; a dead letter must fit too.  0: 1 MiB */
    uint32_t packet_bytes_max; /* mqtt.max_packet_size; 0: not known */
};

/* Why a bridge cannot be called that; NULL: it can. */
const char *mr_bridge_name_fault(const char *name);

/* Check what can be checked without running: filters, templates, the sink's own.
 * Every fault is said, as "option: what is wrong"; returns how many there were.
 */
uint32_t mr_bridge_check(const struct mr_bridge_conf *conf, const struct mr_sink_ops *sink,
                         const void *sink_conf, void (*say)(void *arg, const char *fault),
                         void *arg);

/* Make the bridge and find (or make) its cursor.  Nothing runs yet. */
enum mr_err mr_bridge_create(struct mr_bridge **out, const struct mr_bridge_options_run *options,
                             struct mr_error *why) MR_MUST_USE;

/* Not OK: there is no thread for it, or for its second worker; mr_bridge_stop() before destroy. */
enum mr_err mr_bridge_start(struct mr_bridge *bridge, struct mr_error *why) MR_MUST_USE;

/* Let it begin to stop; mr_bridge_stop() then waits.  So that several do it at once. */
void mr_bridge_stop_begin(struct mr_bridge *bridge, int64_t patience_ns);

/* Deliver what can be delivered within `patience_ns`, write the cursor, stop.
 * What is left stays in the journal.
 */
void mr_bridge_stop(struct mr_bridge *bridge, int64_t patience_ns);
void mr_bridge_destroy(struct mr_bridge *bridge);

/* Go on behind record `seq`, which may repeat records or pass some over for good.  What
 * is in flight is settled first, or taken back from the sink; letters of what comes
 * again are not written again.  Waits for it.  *out: behind which record it really goes
 * on, for what the journal does not hold any more cannot come.
 * REJECT: `seq` is beyond the newest record; AGAIN: the bridge is stopped, or busy for
 * too long; IO: the cursor cannot be written.  Control plane, one caller at a time.
 */
enum mr_err mr_bridge_seek(struct mr_bridge *bridge, uint64_t seq, uint64_t *out,
                           struct mr_error *why) MR_MUST_USE;

/* How many partitions `dest` has, as far as this bridge's sink has had to know by now; 0: it
 * has not.  Waits for the worker, and for no other caller.  Any thread.
 */
uint32_t mr_bridge_partitions(struct mr_bridge *bridge, const char *dest);

/* Dead letters (seqs of their journal) that have been dealt with are there no more when
 * this returns.  Waits for the worker.
 * FULL: there is no room to note it; IO; REJECT: no such letters.  Control plane, one
 * caller at a time.
 */
struct mr_seq_range {
    uint64_t first;
    uint64_t last;
};
enum mr_err mr_bridge_letters_done(struct mr_bridge *bridge, const struct mr_seq_range *ranges,
                                   size_t count, struct mr_error *why) MR_MUST_USE;

/* Those that have been dealt with, in order, what is no letter among them; release with mr_free().
 * Waits for the worker.  Control plane, one caller at a time.
 */
enum mr_err mr_bridge_letters_gone(struct mr_bridge *bridge, struct mr_seq_range **out,
                                   size_t *count, struct mr_error *why) MR_MUST_USE;

/* Note, durably, that copies of those letters are about to be appended behind `seq` of `lane`: a
 * start after a crash looks there which were.  No ranges: nothing is meant any more.  As above.
 */
enum mr_err mr_bridge_letters_retry(struct mr_bridge *bridge, const struct mr_seq_range *ranges,
                                    size_t count, uint32_t lane, uint64_t seq,
                                    struct mr_error *why) MR_MUST_USE;

/* The ranges of a LETTERS_DONE record's body, or of a LETTERS_RETRY's behind lane and seq, one
 * after the other; false: no more.
 */
bool mr_letters_done_get(struct mr_take *take, struct mr_seq_range *range);

/* The gateway ends: who waits for the worker (seek, partitions, letters) is answered AGAIN, and so
 * is who asks from now on.  A seek that is being made is made.  Any thread.
 */
void mr_bridge_refuse(struct mr_bridge *bridge);

/* Look now at what the control plane has changed (cursor.h: paused). */
void mr_bridge_nudge(struct mr_bridge *bridge);

/* One turn of the worker, for tests and tools that run a bridge without its thread
 * (no start).  Returns for how many ns there is nothing to do unless the wake rings.
 */
int64_t mr_bridge_step(struct mr_bridge *bridge, int64_t now_ns);

enum mr_bridge_state {
    MR_BRIDGE_UP,      /* delivers, or has nothing to deliver */
    MR_BRIDGE_DOWN,    /* its target cannot be reached, or refuses; it tries again */
    MR_BRIDGE_STOPPED, /* waits for the operator; last_error says why */
    MR_BRIDGE_PAUSED,  /* by the operator */
};
const char *mr_bridge_state_name(enum mr_bridge_state state); /* "up" */

struct mr_bridge_stats {
    const char *name;
    const char *type; /* "kafka" */
    uint32_t lane;
    enum mr_bridge_state state;
    uint64_t cursor_seq; /* everything at or below is settled */
    uint64_t durable_seq;
    uint64_t delivered; /* since start */
    uint64_t skipped;   /* did not match `from` */
    uint64_t dead_letters;
    uint64_t retries;
    uint64_t inflight;
    uint64_t lag_records; /* durable and not settled */
    uint64_t lag_bytes;   /* about what they take in the journal */
    uint64_t lag_s;       /* age of the oldest of them */
    struct {              /* fresh events overtake a backlog (drain: live_first) */
        bool open;
        uint64_t from; /* the backlog ends here */
        uint64_t seq;  /* settled ahead of it */
        uint64_t lag_records;
        uint64_t lag_s;
    } live;
    bool up;
    bool balanced;        /* the books are (journal/books.h) */
    char last_error[512]; /* "": none since it was last up */
};
void mr_bridge_stats(struct mr_bridge *bridge, struct mr_bridge_stats *out); /* any thread */

/* Bring the metrics up to date that are too dear for every turn.  One thread. */
void mr_bridge_refresh(struct mr_bridge *bridge);

#endif
