/* reader.h - read what is durable, in order, each reader at its own pace.
 *
 *     while (mr_reader_next(reader, &view) == MR_OK) {
 *         struct mr_view_at at = mr_view_begin(&view);
 *         while (mr_view_event(&view, &at, &event)) { ... event.payload ... }
 *         ... later, in any order, any thread ... mr_view_unpin(&view);
 *     }
 *
 * A view is one or more whole batches, pinned: its bytes and all spans of its
 * events stay until it is unpinned.  Fresh views borrow the writer's blocks;
 * when the reader lags they are read from disk into its own buffers and checked
 * (predicate, CRC) again.  A reader never holds up the writer: it can pin at
 * most `pins_max` views, and of the writer's blocks never so many that it lacks
 * one.
 *
 * Thread: a reader belongs to one thread; unpin from any.
 * Memory: pins_max buffers of the journal's block size, only while lagging;
 *         names of the segments in use (<= 65,536 each).
 * Time:   ~10 ns an event.
 */
#ifndef MR_JOURNAL_READER_H
#define MR_JOURNAL_READER_H

#include "journal/journal.h"

struct mr_reader;
struct mr_names; /* client, user, topic of one segment's name ids */

/* One event, borrowed from its view. */
struct mr_event {
    uint64_t seq;
    int64_t received_us;
    struct mr_span client;
    struct mr_span username;
    struct mr_span topic;
    struct mr_span properties;
    struct mr_span payload;
    uint32_t name_id; /* same id in the same `names` = same client, user, topic */
    uint8_t type;     /* MR_RECORD_EVENT or MR_RECORD_DEAD_LETTER; mr_view_record(): any */
    uint8_t qos;
    bool retain;
    bool will;
    struct mr_record_raw raw; /* everything else, for tools */
};

enum { MR_NAME_NONE = 0xffffffffu }; /* event.name_id when named inline */

struct mr_view {
    uint32_t lane;
    uint32_t epoch;
    uint64_t seq_first;
    uint64_t seq_last;
    struct mr_span bytes;   /* whole batches, headers included */
    struct mr_names *names; /* identity for caches keyed by name_id; see names_attach */
    void *pin;              /* opaque */
};

struct mr_reader_options {
    uint32_t pins_max;       /* views that may be pinned at once; 0: 64 */
    uint32_t view_bytes_max; /* batches are joined up to this; 0: block_bytes */
    struct mr_wake *wake;    /* rung when there is more; may be NULL */
    bool holds;              /* segments stay until it has read them */
    uint64_t seq_to;         /* the last record it is to give; 0: there is none */
};

/* Start at the first record with seq >= `seq_from`.  If that is older than the
 * journal, at its oldest.
 */
enum mr_err mr_reader_open(struct mr_reader **out, struct mr_journal *journal, uint32_t lane,
                           uint64_t seq_from, const struct mr_reader_options *options,
                           struct mr_error *why) MR_MUST_USE;
void mr_reader_close(struct mr_reader *reader); /* all views must be unpinned */

/* AGAIN: nothing durable beyond what was given; the wake will ring.
 * FULL: pins_max views are pinned; unpin some.
 * CORRUPT: what was durable does not read back, or its file was removed by somebody
 * else: `out` has lane, seq_first and seq_last of the range that is lost (logged with
 * file and position), nothing is pinned, and the next call goes on behind it.
 * IO: the disk refuses; stop.
 */
enum mr_err mr_reader_next(struct mr_reader *reader, struct mr_view *out) MR_MUST_USE;
void mr_view_unpin(struct mr_view *view);

struct mr_view_at {
    struct mr_take records;
    uint64_t seq;
    int64_t time_base_us;
    uint32_t left;
    const uint8_t *next_batch;
    uint64_t control; /* records passed over so far that are no events */
    uint64_t lost;    /* ... and those of a gap, or that do not parse */
};

struct mr_view_at mr_view_begin(const struct mr_view *view);

/* The next event of a view, if it is what comes by the million (mr_lane_append_again()) and its
 * name has a value of the reader's (mr_names_slot()): all that a reader needs who knows its names
 * already.
 */
struct mr_plain {
    uint64_t seq;
    int64_t received_us;
    struct mr_span payload; /* the record ends with it */
    void *slot;             /* the value, not NULL */
    uint8_t qos;            /* 0 or 1 */
};

/* Look at it.  False: it is something else, for mr_view_event().  Either way `at` has not moved. */
bool mr_view_plain(const struct mr_view *view, const struct mr_view_at *at, struct mr_plain *out);

/* Go on behind it. */
static inline void mr_view_pass(struct mr_view_at *at, const struct mr_plain *plain)
{
    at->records.at = plain->payload.at + plain->payload.len;
    at->seq += 1;
    at->left -= 1;
}

/* The next event or dead letter of the view; false at its end.  Other record
 * types are passed over.  Events below the reader's `seq_from` do not appear.
 */
bool mr_view_event(const struct mr_view *view, struct mr_view_at *at, struct mr_event *out);

/* As mr_view_event(), but every record that is not a gap: of other types than events
 * the body is in out->raw (control.h).
 */
bool mr_view_record(const struct mr_view *view, struct mr_view_at *at, struct mr_event *out);

/* A reader's own value per name id of this view's names: a route cache.  Zero at
 * first; `names` live until the last view of their segment is unpinned and the
 * reader has moved on, then `drop` (given at first use) is called per non-zero
 * value.  For name ids below MR_NAMES_MAX only.
 */
void **mr_names_slot(struct mr_names *names, uint32_t name_id);
void mr_names_on_drop(struct mr_names *names, void (*drop)(void *arg, void *value), void *arg);

/* Where the next view will begin. */
uint64_t mr_reader_seq(const struct mr_reader *reader);

/* Of a reader that holds: everything up to `seq` is dealt with, what it calls for is appended.  As
 * long as too much is not, appends of events say FULL.
 */
void mr_reader_done(struct mr_reader *reader, uint64_t seq);

#endif
