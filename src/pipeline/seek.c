/* seek.c - going on elsewhere in the journal, as the operator says.
 *
 * DESIGN
 *
 * The worker does it between two turns, when the sink holds nothing: it waits a while
 * for what is in flight, then closes the sink, which gives back the rest, and opens it
 * again.  So a record that was offered before the jump is never settled behind it.
 *
 * The cursor is on disk before anything is offered from the new place; a crash in
 * between finds the one or the other.
 *
 * A jump back offers events again that have a dead letter already.  The letters behind
 * the new cursor are read back before anything is offered, so none is written twice.
 *
 * A second position (live.c) ends with the jump: all goes on behind the new place, in order, as
 * soon as the target has ended what that one may have under way.
 *
 * Only what the journal holds can come: the keeper may retire a segment while the jump
 * is made; then the cursor is not put, and it is looked again from where on there is any.
 *
 * Without room on the disk nothing changes: the operator is told so, and the bridge goes on.
 *
 * The asker waits for a while only, for the target may be slow; then it has gone, and nothing is
 * made.  So the worker takes the seek, under the mutex, in the moment from which it cannot be
 * undone, and from then on the asker stays until it has the answer.
 */
#include "pipeline/bridge_internal.h"

#include "journal/ranges.h"
#include "os/clock.h"

#include <inttypes.h>

static const int64_t settle_patience_ns = 2 * NS_PER_S;
static const int64_t asker_patience_ns = 15 * NS_PER_S;

/* Behind which record the lane's oldest one stands. */
static uint64_t lane_floor(struct mr_bridge *b)
{
    struct mr_lane_stats stats;

    mr_lane_stats(b->lane, &stats);
    return stats.seq_oldest == 0 ? 0 : stats.seq_oldest - 1;
}

/* A target that has more than the cursor knows is believed to the record: what the journal does
 * not hold behind that was dropped, and the worker finds it so when it reads on.
 */
static enum mr_err seek_cursor(struct mr_bridge *b, uint64_t *seq, enum mr_cursor_rule rule)
{
    bool forward = rule != MR_CURSOR_LEADS && *seq >= mr_cursor_get(b->cursor);
    bool loses = rule != MR_CURSOR_LEADS && b->main == NULL; /* what the target had and has lost */
    const uint64_t wanted = *seq;
    enum mr_err err;

    do {
        uint64_t oldest = forward ? 0 : lane_floor(b);
        *seq = *seq < oldest ? oldest : *seq;
        if (b->live.open && rule == MR_CURSOR_LEADS) {
            err = mr_cursor_live_end(b->cursor, *seq, rule);
            if (err == MR_OK) {
                mr_live_closed(b);
                mr_live_fence(b);
            }
        } else if (loses && *seq > wanted) {
            err = mr_cursor_lose(b->cursor, wanted, *seq);
        } else {
            err = mr_cursor_put(b->cursor, *seq, rule);
        }
    } while (err == MR_ERR_AGAIN);
    return err;
}

enum mr_err mr_worker_move(struct mr_bridge *b, uint64_t *seq, enum mr_cursor_rule rule)
{
    enum mr_err err = seek_cursor(b, seq, rule);

    if (err == MR_ERR_FULL) {
        return MR_ERR_FULL;
    }
    mr_flight_drop_all(b);
    if (err != MR_OK) {
        mr_worker_stop(b, "its cursor cannot be written");
        return MR_ERR_IO;
    }
    return mr_worker_moved(b, *seq);
}

enum mr_err mr_worker_moved(struct mr_bridge *b, uint64_t seq)
{
    b->seq_cursor = seq;
    b->seq_done = seq;
    b->epoch = 0; /* it looks anew whether it may enter that of its next record */
    b->isolate_until = 0;
    b->attempt = 0;
    b->settled_ms = 0;
    b->pause_until_ns = 0;
    atomic_store(&b->suspect_seq, 0);
    atomic_store(&b->failing, false);
    mr_dead_moved(b);
    mr_group_settled(b);
    b->state = WORKER_FLOWING;
    return b->reader == NULL || mr_worker_rewind(b) ? MR_OK : MR_ERR_IO;
}

/* The sink holds nothing any more. */
static enum mr_err seek_do(struct mr_bridge *b, uint64_t *seq)
{
    uint64_t before = b->seq_cursor;
    enum mr_err err = mr_worker_move(b, seq, MR_CURSOR_LEADS);

    if (err != MR_OK) {
        return err;
    }
    mr_position_moved(b);
    mr_log(MR_LOG_WARN, "bridge",
           "%s: lane %u goes on behind record %" PRIu64 " instead of %" PRIu64
           ", as the operator said",
           b->name, b->options.lane, *seq, before);
    return MR_OK;
}

static void seek_answer(struct mr_bridge *b, enum mr_err err, uint64_t seq)
{
    mr_mutex_lock(&b->mutex);
    b->seek.state = SEEK_DONE;
    b->seek.err = err;
    b->seek.seq = seq;
    if (b->seek.asker != NULL) {
        mr_wake_ring(b->seek.asker);
    }
    mr_mutex_unlock(&b->mutex);
}

/* From now on the asker waits for the answer; false: it has gone. */
static bool seek_take(struct mr_bridge *b, uint64_t *seq)
{
    mr_mutex_lock(&b->mutex);
    bool taken = b->seek.state == SEEK_WANTED;
    if (taken) {
        b->seek.state = SEEK_TAKEN;
        *seq = b->seek.seq;
    }
    atomic_store(&b->seek_wanted, false);
    mr_mutex_unlock(&b->mutex);
    return taken;
}

/* Whether there is still time to wait for what is in flight. */
static bool seek_may_wait(struct mr_bridge *b, int64_t now_ns)
{
    mr_mutex_lock(&b->mutex);
    if (b->seek.since_ns == 0) {
        b->seek.since_ns = now_ns;
    }
    bool wait = now_ns - b->seek.since_ns < settle_patience_ns;
    mr_mutex_unlock(&b->mutex);
    return wait;
}

/* What is in flight comes again, wherever the bridge goes on: the asker may have gone meanwhile.
 * False: it had to stop.
 */
static bool seek_takes_back(struct mr_bridge *b)
{
    b->options.sink->close(b->sink_state, 0);
    b->opened = false;
    mr_dead_take_rejects(b);
    (void)mr_flight_retire(b);
    return mr_worker_rewind(b);
}

bool mr_seek_turn(struct mr_bridge *b, int64_t now_ns)
{
    uint64_t seq = 0;

    if (MR_LIKELY(!atomic_load_explicit(&b->seek_wanted, memory_order_acquire))) {
        return false;
    }
    if (b->state == WORKER_STOPPED) {
        if (seek_take(b, &seq)) {
            seek_answer(b, MR_ERR_AGAIN, b->seq_cursor);
        }
        return true;
    }
    if (seek_may_wait(b, now_ns) && !mr_flight_settled(b)) {
        return true;
    }
    if (!mr_flight_settled(b) && !seek_takes_back(b)) {
        return true;
    }
    if (b->dead.journal != NULL && !mr_dead_durable(b, b->dead.seq_last)) {
        return true; /* the letters are read back below, all of them */
    }
    if (!mr_live_left(b)) {
        return true; /* a seek ends a second position */
    }
    mr_flight_retire(b);
    if (seek_take(b, &seq)) {
        enum mr_err err = seek_do(b, &seq);
        seek_answer(b, err, seq);
    }
    return true;
}

/* Until the worker has answered; false: not within patience, and it is not wanted
 * any more.
 */
static bool seek_wait(struct mr_bridge *b, struct mr_wake *wake)
{
    int64_t until_ns = mr_clock_mono_ns() + asker_patience_ns;
    enum seek_state state = SEEK_WANTED;

    while (state == SEEK_WANTED || state == SEEK_TAKEN) {
        int64_t left_ns = until_ns - mr_clock_mono_ns();
        left_ns = left_ns > 0 ? left_ns : 0;
        (void)mr_wake_wait(wake, state == SEEK_TAKEN ? -1 : left_ns);
        mr_mutex_lock(&b->mutex);
        bool gives_up = mr_clock_mono_ns() >= until_ns || atomic_load(&b->refuses);
        if (b->seek.state == SEEK_WANTED && gives_up) {
            b->seek.state = SEEK_NONE;
            atomic_store(&b->seek_wanted, false);
        }
        state = b->seek.state;
        mr_mutex_unlock(&b->mutex);
    }
    return state == SEEK_DONE;
}

enum mr_err mr_bridge_seek(struct mr_bridge *b, uint64_t seq, uint64_t *out, struct mr_error *why)
{
    struct mr_wake wake;

    if (seq > mr_lane_durable(b->lane)) {
        return mr_error_set(why, MR_ERR_REJECT,
                            "record %" PRIu64
                            " of lane %u does not exist yet; the newest is %" PRIu64,
                            seq, b->options.lane, mr_lane_durable(b->lane));
    }
    enum mr_err err = mr_wake_open(&wake, why);
    if (err != MR_OK) {
        return err;
    }
    mr_mutex_lock(&b->mutex);
    b->seek = (struct seek){.state = SEEK_WANTED, .seq = seq, .asker = &wake};
    atomic_store_explicit(&b->seek_wanted, true, memory_order_release);
    mr_mutex_unlock(&b->mutex);
    mr_wake_ring(&b->wake);
    bool done = seek_wait(b, &wake);

    mr_mutex_lock(&b->mutex);
    b->seek.asker = NULL;
    err = b->seek.err;
    *out = b->seek.seq;
    mr_mutex_unlock(&b->mutex);
    mr_wake_close(&wake);
    if (!done || err == MR_ERR_AGAIN) {
        return mr_error_set(why, MR_ERR_AGAIN,
                            done ? "bridge '%s' is stopped, see its last error; restart the gateway"
                                 : "bridge '%s' is busy; nothing was changed, try again",
                            b->name);
    }
    if (err == MR_ERR_FULL) {
        return mr_error_set(why, MR_ERR_FULL,
                            "the disk of the journal has no room to write the cursor of '%s'; "
                            "nothing was changed, make room on it and try again",
                            b->name);
    }
    return err == MR_OK ? MR_OK
                        : mr_error_set(why, err, "the cursor of '%s' cannot be written", b->name);
}
