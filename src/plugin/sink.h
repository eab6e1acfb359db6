/* sink.h - what a sink promises the pipeline, and the other way round.
 *
 * THE RULE: a sink never answers "delivered" by returning.  submit() only
 * takes the batch on; the verdict arrives later through mr_sink_settle(),
 * when the target itself has confirmed.  The journal may drop a record only
 * after every bridge has settled it.
 *
 *     journal ─▶ pipeline: match, route, encode ─▶ submit(batch) ─▶ target
 *        cursor ◀── contiguous ◀── mr_sink_settle(range, verdict) ◀── its word
 *
 * LIFE CYCLE, in this order, all called by the bridge's own worker thread:
 *
 *     init    parse nothing, connect nothing; take memory
 *     open    begin connecting; may be called again after close.  CONFIG: the bridge stops, for
 *             the operator; else it is tried again after a pause
 *     submit  take a batch, or refuse it with MR_ERR_FULL
 *     tick    drive the client library; settle what it has confirmed
 *     close   stop accepting, wait at most `patience` for what is in flight;
 *             what is unsettled when it returns counts as RETRY
 *     fini    release everything.  May block.
 *
 * RETRY AND ORDER.  After a sink settles anything with RETRY (or SUSPECT) it must
 * settle all it still holds of that lane, soon, DONE or RETRY, and sends nothing
 * new of it.  The pipeline submits nothing to the lane meanwhile, then goes back
 * to the first seq that is not settled and offers everything from there again,
 * after a pause.  So first deliveries stay in order.
 *
 * POSITION.  A target that takes data and a position in one step (a transaction) makes
 * "exactly once": shape says `keeps_position`, and then
 *
 *     open ─▶ mr_sink_found()   how far the target is by its own word, or that it has none
 *          ─▶ place(seq)        the pipeline's answer: the position becomes `seq`, for certain
 *          ─▶ mr_sink_stands()  so it is
 *     submit … commit of what was submitted, with the position that mr_sink_reach() gives
 *          ─▶ mr_sink_settle(DONE) and mr_sink_stands(), when the commit is known to hold
 *
 * Nothing is submitted between found and stands.  The sink may say found again at any time
 * (it had to connect anew, a commit's outcome was unknown and is known now) once it holds
 * nothing unsettled; the target's word is what counts.  The cursor never passes the position.
 *
 * Thread: as above; settle, reject and wake may come from any thread; found, stands, reach,
 *         tick_at and stop only from within the worker's calls.
 * Memory: a batch and all it points to stays until its whole range is settled.
 * Time:   submit and tick must not block longer than a second.
 */
#ifndef MR_PLUGIN_SINK_H
#define MR_PLUGIN_SINK_H

#include "base/span.h"
#include "config/option.h"

struct mr_sink_port; /* the pipeline's side of the bargain; opaque here */

/* Where records go at the target: a Kafka topic, a table, a stream.  One object
 * per name and bridge, made by the pipeline, alive as long as the bridge.
 */
struct mr_dest {
    const char *name;
    void *sink_data; /* the sink's own, NULL at first; freed by its fini() */
};

/* Everything that follows from client and topic alone, worked out once and
 * shared by all their records in a segment.  Where the destination or the key
 * depends on more (the payload), each record has one of its own.
 */
struct mr_route {
    struct mr_dest *dest;
    struct mr_span key; /* empty: no key */
    struct mr_span client;
    struct mr_span username;
    struct mr_span topic; /* MQTT */
    int32_t partition;    /* cache for the sink; -1: not worked out yet */
};

struct mr_header {
    struct mr_span name; /* with a NUL behind it, which is not counted */
    struct mr_span value;
};

/* Beside its own a record has a header for each user property, of which there are
 * 256 at most.
 */
enum { MR_RECORD_HEADERS_MAX = 272 };

struct mr_record {
    uint64_t seq;
    int64_t time_ms; /* event time, Unix */
    struct mr_route *route;
    struct mr_span value;   /* encoded as the bridge says */
    struct mr_span payload; /* as the device sent it */
    const struct mr_header *headers;
    uint16_t header_count;
    uint8_t qos;
    bool retain;
};

/* Records of one lane within [seq_first, seq_last].  The bytes may be sent without
 * copying and must not be written to.  Records that the bridge did not match are
 * inside the range but not in `records`; the port settles them itself, so a sink
 * settles just the seqs it was given (ranges that span the others are fine).
 */
struct mr_batch {
    uint64_t seq_first;
    uint64_t seq_last;
    const struct mr_record *records;
    uint32_t record_count; /* >= 1 */
    uint32_t lane;
    uint32_t epoch;
    void *token; /* the port's; give it back with settle */
};

enum mr_verdict {
    MR_VERDICT_DONE,    /* the target has it, durably, by its own word */
    MR_VERDICT_RETRY,   /* not delivered, or unknown: offer it again */
    MR_VERDICT_SUSPECT, /* refused together with others, for what one of them is:
                           offer each alone; refused alone it is a dead letter */
};

/* What the pipeline must know of a sink's configuration to shape records. */
enum mr_value_encoder { MR_VALUE_RAW, MR_VALUE_JSON };
enum mr_headers {
    MR_HEADERS_NONE,
    MR_HEADERS_ID,   /* millrace_id */
    MR_HEADERS_FULL, /* and what MQTT says of the event */
    MR_HEADERS_LIST, /* the templates of `header_list` */
};

struct mr_shape {
    const char *dest_template; /* must begin with literal text */
    const char *dest_option;   /* its option name, for messages */
    const char *key_template;  /* NULL: no key */
    const char *key_option;
    enum mr_value_encoder value_encoder;
    enum mr_headers headers;
    const char *header_option;
    struct mr_pairs header_list; /* LIST: names and templates */
    bool keeps_position;         /* see POSITION above */
    uint32_t dests_max;          /* more destinations than this: dead letters */
    uint32_t value_bytes_max;    /* larger values: dead letters; 0: no limit */
    /* Is `name` a possible destination?  NULL: yes; else the reason why not. */
    const char *(*dest_refused)(struct mr_span name);
};

struct mr_sink_ops {
    const char *name;                /* as written in `type:` */
    size_t state_size;               /* the pipeline allocates, zeroed */
    size_t conf_size;                /* the loader fills this from options */
    const struct mr_option *options; /* terminated by a row without a name */

    /* Checks the tables cannot express; called by `millrace check` too. */
    enum mr_err (*check)(const void *conf, struct mr_error *why);
    void (*shape)(const void *conf, struct mr_shape *out);

    enum mr_err (*init)(void *state, const void *conf, struct mr_sink_port *port,
                        struct mr_error *why);
    enum mr_err (*open)(void *state, struct mr_error *why);
    /* keeps_position only: make `seq` of `epoch` the target's position, then mr_sink_stands(). */
    void (*place)(void *state, uint64_t seq, uint32_t epoch);
    enum mr_err (*submit)(void *state, const struct mr_batch *batch);
    void (*tick)(void *state, int64_t now_ns);
    /* How many parts destination `name` has, if that is known by now; 0: it is not.  NULL op:
     * there are none.
     */
    uint32_t (*partitions)(const void *state, const char *name);
    void (*close)(void *state, int64_t patience_ns);
    void (*fini)(void *state);
};

/* ---- the port: called by the sink ---- */

/* Verdict on `count` records of the batch that `token` belongs to.  Each record
 * is settled once.  `reason` (may be NULL) is for RETRY and SUSPECT: a sentence for
 * the log and, if it comes to that, the dead letter.
 */
void mr_sink_settle(struct mr_sink_port *port, void *token, uint32_t count, enum mr_verdict verdict,
                    const char *reason);

/* This one record can never be delivered: to the dead letters, then settled. */
void mr_sink_reject(struct mr_sink_port *port, void *token, uint64_t seq, const char *reason);

/* The target can be reached, or cannot and why.  The port logs changes once and
 * keeps the metric; call it as often as convenient.
 */
void mr_sink_up(struct mr_sink_port *port);
void mr_sink_down(struct mr_sink_port *port, const char *why);

/* As down, for what only an operator can change (a password, a permission): the log
 * has it even if the target was away before for another reason, each reason once.
 */
void mr_sink_refused(struct mr_sink_port *port, const char *why);

/* Something for tick() has come: wake the worker.  The descriptor takes an 8-byte
 * write of the number 1 (eventfd), for libraries that signal that way.
 */
void mr_sink_wake(struct mr_sink_port *port);
int mr_sink_wake_fd(struct mr_sink_port *port);

/* Tick again at `at_ns` (monotonic) at the latest; each call replaces the one before. */
void mr_sink_tick_at(struct mr_sink_port *port, int64_t at_ns);

/* Only the operator can help, by what `why` says: the bridge stops, nothing is tried again
 * before the gateway is restarted.
 */
void mr_sink_stop(struct mr_sink_port *port, const char *why);

/* The target's own word at open.  NULL: it has no position of this bridge and lane. */
struct mr_position {
    uint64_t seq; /* it has everything up to here, or was told to pass it over */
    uint32_t epoch;
    const char *where; /* for the log: "the position record in millrace.positions" */
};
void mr_sink_found(struct mr_sink_port *port, const struct mr_position *position);

/* The target's position is `seq`, durably, by its own word. */
void mr_sink_stands(struct mr_sink_port *port, uint64_t seq);

/* How far a commit may put the position now: everything up to `seq` was submitted, or is
 * skipped, or lies durably in the dead letters.  Less than the last batch's seq_last: dead
 * letters are still on their way to the disk.
 */
struct mr_reach {
    uint64_t seq;
    uint32_t epoch;
    bool more;       /* there is a backlog: a longer transaction is worth it */
    bool hurry;      /* nothing more comes before something is settled */
    bool failing;    /* something was not accepted: give everything back */
    uint64_t cursor; /* everything up to here is settled */
};
void mr_sink_reach(struct mr_sink_port *port, struct mr_reach *out);

/* The largest event a device may send, in bytes of its MQTT packet; 0: not known. */
uint32_t mr_sink_packet_bytes_max(struct mr_sink_port *port);

/* Whether the time of every record is the one at which it was received: this machine's clock, and
 * nothing that a device said.
 */
bool mr_sink_times_are_ours(struct mr_sink_port *port);

/* Who this is: "<journal id>", and the lane. */
const char *mr_sink_journal_id(struct mr_sink_port *port);
uint32_t mr_sink_lane(struct mr_sink_port *port);
const char *mr_sink_bridge_name(struct mr_sink_port *port);

/* Which of a bridge's sinks in a lane this is: "", or "live" for the one that fresh events go
 * through while they overtake a backlog.  Each has a position of its own.
 */
const char *mr_sink_stream(struct mr_sink_port *port);
const char *mr_sink_gateway_name(struct mr_sink_port *port);

#endif
