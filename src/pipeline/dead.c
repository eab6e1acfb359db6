/* dead.c - what can never be delivered: kept with its reason, in a journal of its own.
 *
 * DESIGN
 *
 * A dead letter is the event as it came, with the bridge, the lane, the seq and the
 * reason.  It lies in a small journal beside the main one, opened at the first
 * letter.  A cursor that nobody moves holds its segments, so letters stay until an
 * operator takes them out.
 *
 * The event counts as settled when its letter is durable, never before: a span
 * remembers the last letter it made, and retires behind it.
 *
 * The lanes of a bridge append to the same journal, one at a time under a mutex: letters
 * are rare, and whoever reads them wants them in one place.  The first of them is the
 * owner whom that journal rings; the others have a reader each, for its ring alone.
 *
 * When there is no room for a letter the bridge stops in front of the event and
 * tries again every second.  It does not drop.  When the letters cannot be opened or read back
 * (no descriptor left, the disk has a bad moment) it waits and tries again in the same way, with
 * pauses from retry_min to retry_max.
 *
 * The bridge may offer an event again: after a failure, or because the cursor was a
 * little behind at a crash.  So the letters of events above the cursor are known, and no
 * letter is written twice.  They are read back when the journal is opened, and when the cursor
 * was put elsewhere: as soon as the last of them is durable, and before anything is offered from
 * there.  Letters outlive the journal: those of one that was replaced have the same seqs, but not
 * the same times.
 */
#include "pipeline/bridge_internal.h"

#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DEAD_SEGMENT_BYTES_MIN = 1 << 20,
    DEAD_RECORD_EXTRA = 300 * 1024, /* names and reason beside the event */
};

static int known_order(const void *a, const void *b)
{
    const struct letter_of *x = a;
    const struct letter_of *y = b;

    if (x->seq != y->seq) {
        return x->seq < y->seq ? -1 : 1;
    }
    return x->received_us < y->received_us ? -1 : x->received_us > y->received_us;
}

/* Forget what the cursor has passed. */
static void known_prune(struct mr_bridge *b)
{
    struct dead *dead = &b->dead;
    size_t kept = 0;
    size_t kept_sorted = 0;

    for (size_t i = 0; i < dead->known_count; i++) {
        if (dead->known[i].seq > b->seq_cursor) {
            dead->known[kept++] = dead->known[i];
            kept_sorted += i < dead->known_sorted;
        }
    }
    dead->known_count = kept;
    dead->known_sorted = kept_sorted;
}

/* Grows only with what is above the cursor, hence in flight. */
static void known_add(struct mr_bridge *b, uint64_t seq, int64_t received_us)
{
    struct dead *dead = &b->dead;

    if (dead->known_count == dead->known_room) {
        known_prune(b);
        if (dead->known_count * 2 >= dead->known_room) {
            dead->known_room = dead->known_room == 0 ? 64 : dead->known_room * 2;
            dead->known = mr_realloc(dead->known, dead->known_room * sizeof(*dead->known));
        }
    }
    dead->known[dead->known_count++] = (struct letter_of){.seq = seq, .received_us = received_us};
}

static bool known_has(const struct dead *dead, const struct mr_event *event)
{
    const struct letter_of of = {.seq = event->seq, .received_us = event->received_us};

    return dead->known_sorted != 0 &&
           bsearch(&of, dead->known, dead->known_sorted, sizeof(of), known_order) != NULL;
}

/* From here on what comes may have come before. */
void mr_dead_rewind(struct mr_bridge *b)
{
    known_prune(b);
    if (b->dead.known_count > 1) {
        qsort(b->dead.known, b->dead.known_count, sizeof(*b->dead.known), known_order);
    }
    b->dead.known_sorted = b->dead.known_count;
}

static void recall(struct mr_bridge *b, const struct mr_event *letter)
{
    if (letter->raw.dead_seq > b->seq_cursor && letter->raw.dead_lane == b->options.lane &&
        mr_span_is(letter->raw.dead_bridge, mr_bridge_identity(b))) {
        known_add(b, letter->raw.dead_seq, letter->received_us);
    }
}

/* Read back the letters that the cursor does not cover (any more).  All of them are durable. */
static enum mr_err dead_recall(struct mr_bridge *b, struct mr_error *why)
{
    b->dead.known_count = 0; /* what was dropped since may come anew */
    enum mr_err err = mr_letters_each(b, recall, why);
    mr_dead_rewind(b);
    b->dead.recalls = err != MR_OK;
    return err;
}

void mr_dead_moved(struct mr_bridge *b)
{
    b->dead.recalls = b->dead.journal != NULL; /* else opening it does the same */
}

/* Open the journal itself; the store's mutex is held. */
static enum mr_err store_open(struct mr_bridge *b, struct mr_error *why)
{
    struct dead_store *store = b->dead.store;
    struct mr_recovery recovery;
    uint64_t segment_bytes = (uint64_t)b->options.record_bytes_max + 2 * DEAD_RECORD_EXTRA;
    bool is_new;

    if (segment_bytes < DEAD_SEGMENT_BYTES_MIN) {
        segment_bytes = DEAD_SEGMENT_BYTES_MIN;
    }
    struct mr_journal_options options = {
        .path = b->dead_path,
        .name = "dead letters",
        .lane_count = 1,
        .max_bytes = b->options.dead_letters_bytes_max,
        .segment_bytes = (uint32_t)segment_bytes,
        .block_bytes = 256 << 10,
        .record_bytes_max = (uint32_t)(segment_bytes - DEAD_RECORD_EXTRA),
    };
    enum mr_err err = mr_journal_open(&store->journal, &options, &recovery, why);
    if (err != MR_OK) {
        store->journal = NULL;
        return err;
    }
    err = mr_cursor_open(store->journal, "dead-letters", 0, MR_START_OLDEST, &store->cursor,
                         &is_new, why);
    if (err == MR_OK) {
        mr_lane_set_owner(mr_journal_lane(store->journal, 0), &b->wake);
        store->owner = b;
    } else {
        (void)mr_journal_close(store->journal);
        store->journal = NULL;
    }
    return err;
}

/* One user less; the last one closes. */
static enum mr_err store_leave(struct mr_bridge *b)
{
    struct dead_store *store = b->dead.store;
    enum mr_err err = MR_OK;

    mr_mutex_lock(&store->mutex);
    if (b->dead.rung != NULL) {
        mr_reader_close(b->dead.rung);
        b->dead.rung = NULL;
    }
    if (store->owner == b) {
        mr_lane_set_owner(b->dead.lane, NULL);
        store->owner = NULL;
    }
    store->users -= 1;
    if (store->users == 0) {
        err = mr_journal_close(store->journal);
        store->journal = NULL;
    }
    mr_mutex_unlock(&store->mutex);
    b->dead.journal = NULL;
    return err;
}

/* Use the store, and know which of this lane's events have their letter already. */
enum mr_err mr_dead_open(struct mr_bridge *b, struct mr_error *why)
{
    struct dead *dead = &b->dead;
    struct dead_store *store = dead->store;
    struct mr_reader_options options = {.pins_max = 1, .wake = &b->wake};
    enum mr_err err = MR_OK;

    mr_mutex_lock(&store->mutex);
    if (store->journal == NULL) {
        err = store_open(b, why);
    }
    if (err == MR_OK) {
        store->users += 1;
        dead->journal = store->journal;
        dead->lane = mr_journal_lane(store->journal, 0);
        if (store->owner != b) {
            err = mr_reader_open(&dead->rung, store->journal, 0, UINT64_MAX, &options, why);
        }
    }
    mr_mutex_unlock(&store->mutex);
    if (dead->journal == NULL) {
        return err;
    }
    if (err == MR_OK) {
        err = dead_recall(b, why);
    }
    if (err != MR_OK) {
        (void)store_leave(b);
    }
    return err;
}

/* Is there room again, or not any more?  Said once each way. */
static void dead_say_full(struct mr_bridge *b, bool full, const char *why)
{
    if (full == b->dead.said_full) {
        return;
    }
    b->dead.said_full = full;
    if (full) {
        mr_log(
            MR_LOG_ERROR, "bridge",
            "%s: no room for dead letters in %s: %s; the bridge waits in front of record %" PRIu64
            " of lane %u and drops nothing: make room there, or raise the limit",
            b->name, b->dead_path, why, b->seq_cursor + 1, b->options.lane);
        mr_port_error(b, "no room for dead letters");
    } else {
        mr_log(MR_LOG_INFO, "bridge", "%s: there is room for dead letters again", b->name);
    }
}

/* It is of a time when devices might send more; the dead letters take what they may now. */
static void stop_too_large(struct mr_bridge *b, const struct mr_event *event)
{
    char why[REASON_MAX];

    snprintf(why, sizeof(why),
             "record %" PRIu64 " is for the dead letters and too large for them: its payload has "
             "%zu bytes, and mqtt.max_packet_size was larger when it came; set that to at least "
             "this much again until it is through",
             event->seq, event->payload.len);
    mr_worker_stop(b, why);
}

static enum mr_err dead_append(struct mr_bridge *b, const struct mr_event *event,
                               const char *reason, uint64_t *dead_seq)
{
    struct mr_record_raw raw = event->raw;
    struct mr_appended appended;

    raw.type = MR_RECORD_DEAD_LETTER;
    raw.naming = MR_NAMING_INLINE;
    raw.received_us = event->received_us;
    raw.client = event->client;
    raw.username = event->username;
    raw.topic = event->topic;
    raw.properties = event->properties;
    raw.payload = event->payload;
    raw.qos = event->qos;
    raw.retain = event->retain;
    raw.will = event->will;
    raw.dead_lane = b->options.lane;
    raw.dead_epoch = b->view.epoch;
    raw.dead_seq = event->seq;
    raw.dead_bridge = mr_span_of(mr_bridge_identity(b));
    raw.dead_reason = mr_span_of(reason);

    mr_mutex_lock(&b->dead.store->mutex);
    enum mr_err err = mr_lane_append(b->dead.lane, &raw, NULL, &appended);
    mr_mutex_unlock(&b->dead.store->mutex);
    switch (err) {
    case MR_OK:
        dead_say_full(b, false, "");
        mr_log(MR_LOG_DEBUG, "bridge", "%s: record %" PRIu64 " of lane %u is a dead letter: %s",
               b->name, event->seq, b->options.lane, reason);
        b->dead.seq_last = appended.seq;
        *dead_seq = appended.seq;
        known_add(b, event->seq, event->received_us);
        return MR_OK;
    case MR_ERR_FULL:
        if (mr_lane_state(b->dead.lane) == MR_LANE_FULL) {
            dead_say_full(b, true, mr_lane_state_text(b->dead.lane));
        }
        return MR_ERR_FULL;
    case MR_ERR_REJECT:
        stop_too_large(b, event);
        return MR_ERR_IO;
    default:
        mr_worker_stop(b, mr_lane_state_text(b->dead.lane));
        return MR_ERR_IO;
    }
}

/* A call to the disk may fail for a while only, as in unread.c: nothing was changed. */
static void dead_unread(struct mr_bridge *b, const char *why)
{
    if (b->dead.attempt == 0) {
        mr_log(MR_LOG_ERROR, "bridge",
               "%s: waits in front of record %" PRIu64
               " of lane %u: its dead letters cannot be opened: %s; nothing is lost, it is tried "
               "again (if the descriptors have run out, raise LimitNOFILE=)",
               b->name, b->seq_cursor + 1, b->options.lane, why);
    }
    mr_port_error(b, why);
    b->dead.not_before_ns = b->turn_ns + mr_worker_pause_ns(b, b->dead.attempt);
    b->dead.attempt += 1;
}

static void dead_unread_over(struct mr_bridge *b)
{
    if (MR_LIKELY(b->dead.attempt == 0)) {
        return;
    }
    mr_log(MR_LOG_INFO, "bridge", "%s: lane %u: the dead letters can be opened again", b->name,
           b->options.lane);
    mr_port_error(b, "");
    b->dead.attempt = 0;
    b->dead.not_before_ns = 0;
}

bool mr_dead_waits(const struct mr_bridge *b)
{
    return b->turn_ns < b->dead.not_before_ns;
}

/* Open, and known what is in it.  FULL: not yet.  IO: the bridge had to stop. */
static enum mr_err dead_ready(struct mr_bridge *b)
{
    struct mr_error why;

    if (MR_LIKELY(b->dead.journal != NULL && !b->dead.recalls)) {
        dead_unread_over(b); /* a call of the operator's may have opened it meanwhile */
        return MR_OK;
    }
    if (mr_dead_waits(b)) {
        return MR_ERR_FULL;
    }
    enum mr_err err = b->dead.journal == NULL ? mr_dead_open(b, &why) : dead_recall(b, &why);
    switch (err) {
    case MR_OK:
        dead_unread_over(b);
        return MR_OK;
    case MR_ERR_FULL:
    case MR_ERR_AGAIN:
        dead_say_full(b, true, why.text);
        b->dead.not_before_ns = b->turn_ns + NS_PER_S;
        return MR_ERR_FULL;
    case MR_ERR_IO:
        dead_unread(b, why.text);
        return MR_ERR_FULL;
    default:
        mr_worker_stop(b, why.text);
        return MR_ERR_IO;
    }
}

bool mr_dead_is_known(struct mr_bridge *b)
{
    return MR_LIKELY(!b->dead.recalls) ||
           (mr_dead_durable(b, b->dead.seq_last) && dead_ready(b) == MR_OK);
}

/* Write the letter of `event`; *dead_seq rises to what must be durable. */
enum mr_err mr_dead_letter(struct mr_bridge *b, const struct mr_event *event, const char *reason,
                           uint64_t *dead_seq)
{
    static struct mr_log_limit limit;
    uint64_t held_back;
    enum mr_err err = dead_ready(b);

    if (err != MR_OK) {
        return err;
    }
    if (known_has(&b->dead, event)) {
        *dead_seq = b->dead.seq_last; /* if it is of this run, it may not be durable yet */
        return MR_OK;
    }

    err = dead_append(b, event, reason, dead_seq);
    if (err == MR_OK && mr_log_allowed(&limit, 10 * 1000000, &held_back)) {
        mr_log(MR_LOG_WARN, "bridge",
               "%s: record %" PRIu64 " of lane %u went to the dead letters: %s (%" PRIu64
               " more since the last such line)",
               b->name, event->seq, b->options.lane, reason, held_back);
    }
    return err;
}

/* The same for a record the sink has seen: find its event again in the view. */
enum mr_err mr_dead_letter_of(struct mr_bridge *b, struct flight *flight, uint64_t seq,
                              const char *reason)
{
    struct mr_view_at at = mr_view_begin(&flight->view);
    struct mr_event event;
    enum mr_err err;

    do {
        bool found = mr_view_event(&flight->view, &at, &event);
        mr_assert(found); /* the sink names only seqs it was given */
    } while (event.seq != seq);

    err = mr_dead_letter(b, &event, reason, &flight->dead_seq);
    if (err != MR_OK) {
        return err;
    }
    flight->rejected += 1;
    for (uint32_t i = 0; i < flight->batch.record_count; i++) {
        if (flight->batch.records[i].seq == seq) {
            flight->value_bytes -= flight->batch.records[i].value.len;
        }
    }
    return MR_OK;
}

/* Write what sinks have rejected; what finds no room waits for the next turn. */
void mr_dead_take_rejects(struct mr_bridge *b)
{
    for (;;) {
        struct reject reject = {.flight = NULL};
        mr_mutex_lock(&b->mutex);
        if (b->reject_count != 0) {
            reject = b->rejects[0];
        }
        mr_mutex_unlock(&b->mutex);
        if (reject.flight == NULL ||
            mr_dead_letter_of(b, reject.flight, reject.seq, reject.reason) != MR_OK) {
            return;
        }
        mr_mutex_lock(&b->mutex);
        b->reject_count -= 1;
        memmove(&b->rejects[0], &b->rejects[1], b->reject_count * sizeof(b->rejects[0]));
        mr_mutex_unlock(&b->mutex);
        mr_port_settled(reject.flight, 1, 0);
    }
}

bool mr_dead_durable(const struct mr_bridge *b, uint64_t dead_seq)
{
    return dead_seq == 0 || mr_lane_durable(b->dead.lane) >= dead_seq;
}

/* Hand over what was appended, as mr_lane_submit(). */
int64_t mr_dead_submit(struct mr_bridge *b, int64_t now_ns)
{
    mr_mutex_lock(&b->dead.store->mutex);
    mr_lane_release(b->dead.lane, mr_lane_durable(b->dead.lane));
    int64_t wait_ns = mr_lane_submit(b->dead.lane, now_ns);
    mr_mutex_unlock(&b->dead.store->mutex);
    return wait_ns;
}

/* End of the worker's turn: hand over what was appended.  In how many ns to come
 * again; -1: when the wake rings.  Letters that will never be durable stop the bridge
 * here, because their events would wait for them without a word.
 */
int64_t mr_dead_turn(struct mr_bridge *b, int64_t now_ns)
{
    int64_t again_ns = mr_dead_waits(b) ? b->dead.not_before_ns - now_ns : -1;

    if (b->dead.journal == NULL) {
        return again_ns;
    }
    if (mr_lane_state(b->dead.lane) == MR_LANE_FAILED) {
        if (b->state != WORKER_STOPPED) {
            mr_worker_stop(b, mr_lane_state_text(b->dead.lane));
        }
        return -1;
    }
    int64_t wait_ns = mr_dead_submit(b, now_ns);
    return again_ns >= 0 && (wait_ns < 0 || again_ns < wait_ns) ? again_ns : wait_ns;
}

void mr_dead_close(struct mr_bridge *b)
{
    if (b->dead.journal != NULL && store_leave(b) != MR_OK) {
        mr_log(MR_LOG_ERROR, "bridge",
               "%s: the last dead letters may not be on disk; their events "
               "will be offered again",
               b->name);
    }
    mr_free(b->dead.known);
    b->dead.known = NULL;
    b->dead.known_count = 0;
    b->dead.known_room = 0;
    b->dead.known_sorted = 0;
}
