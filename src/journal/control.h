/* control.h - the records that are not events: PUBREL and session changes.
 *
 * Encoding and decoding of their bodies (struct mr_record_raw.body), exactly as
 * docs/JOURNAL.md says.  What they mean is in docs/SESSIONS.md.
 *
 *     mr_control_put(&control, buffer) ─▶ record.body ─▶ mr_lane_append
 *     mr_view_record ─▶ raw.body ─▶ mr_control_get(raw.type, raw.body, &control)
 *
 * Thread: pure functions.   Memory: none; spans borrow the caller's bytes.
 * Time:   none.
 */
#ifndef MR_JOURNAL_CONTROL_H
#define MR_JOURNAL_CONTROL_H

#include "base/bytes.h"

/* PUBREL is record type 2; the others are kinds of record type 3. */
enum mr_control_kind {
    MR_CONTROL_PUBREL = 0,      /* packet_id: its exchange is over, the id is free */
    MR_CONTROL_OPEN = 1,        /* a connection begins or goes on with the session */
    MR_CONTROL_CLOSE = 2,       /* the connection has ended, the session stays */
    MR_CONTROL_END = 3,         /* the session is gone with all it had */
    MR_CONTROL_SUBSCRIBE = 4,   /* `list`: filters */
    MR_CONTROL_UNSUBSCRIBE = 5, /* `list`: filters */
    MR_CONTROL_SETTLE = 6,      /* `list`: ordinals that are not owed any more */
    MR_CONTROL_RELEASE = 7,     /* `list`: ordinals whose PUBREC has come (QoS 2) */
    MR_CONTROL_COPY = 8,        /* an event of another lane that this one needs */
    MR_CONTROL_READ = 9,        /* `list`: positions up to which lanes were read */
    MR_CONTROL_GIVE = 10,       /* a message that goes to members of groups ($share) */
    MR_CONTROL_OVERLAP = 11,    /* how overlapping subscriptions count from here on */
    MR_CONTROL_KINDS
};

enum mr_control_flags {
    MR_CONTROL_CLEAN = 1,       /* OPEN: an earlier session of this client is dropped first */
    MR_CONTROL_HAS_WILL = 2,    /* OPEN */
    MR_CONTROL_WILL_RETAIN = 4, /* OPEN */
    MR_CONTROL_WILL_QOS_SHIFT = 3,
    MR_CONTROL_COPY_QOS = 3,      /* COPY, GIVE */
    MR_CONTROL_COPY_RETAIN = 4,   /* COPY, GIVE */
    MR_CONTROL_GIVE_SOURCE = 8,   /* GIVE: `lane` and `seq` say whose turn it was */
    MR_CONTROL_MERGED = 1,        /* OVERLAP: one copy for all of a session's; else one for each */
    MR_CONTROL_WILL_REVOKED = 32, /* CLOSE: DISCONNECT 0x00, the will is not published */
};

struct mr_control {
    struct mr_span client;
    struct mr_span username;   /* OPEN; COPY, GIVE: the publisher's, as `client` */
    struct mr_span list;       /* SUBSCRIBE ... RELEASE, READ, GIVE; see the iterators */
    struct mr_span from;       /* GIVE: the session that had it as `ordinal`; empty: none */
    struct mr_span retained;   /* SUBSCRIBE: retained messages it brought, in their order */
    struct mr_span will_topic; /* OPEN; COPY, GIVE: of the event, as the next two */
    struct mr_span will_props;
    struct mr_span will_payload;
    uint64_t seq;          /* COPY, GIVE: of the record in `lane` that brought it about */
    int64_t received_us;   /* COPY, GIVE */
    uint64_t ordinal;      /* CLOSE: the first delivery that was never sent; GIVE: of `from` */
    uint32_t expiry_s;     /* OPEN, CLOSE: UINT32_MAX: never */
    uint32_t will_delay_s; /* OPEN */
    uint32_t lane;         /* COPY, GIVE */
    uint16_t window;       /* OPEN: deliveries that may be under way */
    uint16_t packet_id;    /* PUBREL */
    uint8_t kind;          /* enum mr_control_kind */
    uint8_t flags;
};

/* The record type that carries `kind`. */
uint8_t mr_control_record_type(uint8_t kind);

/* Bytes that put() writes. */
size_t mr_control_size(const struct mr_control *control);

/* Write the body; returns the byte behind it. */
uint8_t *mr_control_put(uint8_t *out, const struct mr_control *control);

/* Decode a body of record type 2 or 3.  AGAIN: a kind that this version does not
 * know; pass it over.  CORRUPT: it does not parse.
 */
enum mr_err mr_control_get(uint8_t record_type, struct mr_span body,
                           struct mr_control *out) MR_MUST_USE;

/* One filter of SUBSCRIBE, or of UNSUBSCRIBE (the filter alone). */
struct mr_control_filter {
    struct mr_span filter;
    uint32_t subscription_id; /* 0: none */
    uint8_t qos;
    bool no_local;
    bool retain_as_published;
    bool brings; /* more of its retained messages follow, in records of their own */
};
size_t mr_control_filter_size(uint8_t kind, const struct mr_control_filter *filter);
uint8_t *mr_control_filter_put(uint8_t *out, uint8_t kind, const struct mr_control_filter *filter);

/* The next one of a list; begin with mr_take_from(control.list).  False: the end, or
 * take->failed.
 */
bool mr_control_filter_next(struct mr_take *take, uint8_t kind, struct mr_control_filter *out);

/* A member that a GIVE names: its client id, and the whole "$share/group/filter". */
struct mr_control_taker {
    struct mr_span client;
    struct mr_span filter;
    bool keeps; /* its session outlives its connection, so the message becomes owed to it */
};
size_t mr_control_taker_size(const struct mr_control_taker *taker);
uint8_t *mr_control_taker_put(uint8_t *out, const struct mr_control_taker *taker);
bool mr_control_taker_next(struct mr_take *take, struct mr_control_taker *out);

/* A retained message that a SUBSCRIBE brought with QoS 1 or 2. */
struct mr_control_ref {
    uint64_t seq;
    uint32_t lane;
    uint8_t qos;
};
enum { MR_CONTROL_REF_BYTES_MAX = 16 };
uint8_t *mr_control_ref_put(uint8_t *out, const struct mr_control_ref *ref);
bool mr_control_ref_next(struct mr_take *take, struct mr_control_ref *out);

/* Another lane, read up to `seq`. */
enum { MR_CONTROL_POSITION_BYTES_MAX = 2 * MR_VARINT_MAX };
uint8_t *mr_control_position_put(uint8_t *out, uint32_t lane, uint64_t seq);
bool mr_control_position_next(struct mr_take *take, uint32_t *lane, uint64_t *seq);

/* Runs of ordinals, ascending: [first, first + count).  *end is where the run before
 * ended, 0 at first.
 */
enum { MR_CONTROL_RUN_BYTES_MAX = 2 * MR_VARINT_MAX };
uint8_t *mr_control_run_put(uint8_t *out, uint64_t *end, uint64_t first, uint64_t count);
bool mr_control_run_next(struct mr_take *take, uint64_t *end, uint64_t *first, uint64_t *count);

#endif
