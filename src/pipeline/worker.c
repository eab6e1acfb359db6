/* worker.c - the turn of a bridge's thread: read, fill, submit, settle, start over.
 *
 *                    any RETRY or SUSPECT
 *        FLOWING ───────────────────────────▶ DRAINING
 *           ▲                                    │ nothing in flight
 *           └──── go back to the cursor ◀── PAUSING (back-off with jitter)
 *
 * DESIGN
 *
 * One loop does everything a bridge does; nothing else touches its state, so
 * nothing in here is locked.  It sleeps on one wake, which the journal (durable
 * rose), the sink (its library has something) and verdicts ring.
 *
 * Order.  After a failure nothing new is submitted until the sink has given its
 * verdict on all it holds.  Then the bridge forgets what was in flight and reads
 * from the cursor again.  What had arrived out of the middle arrives twice; what
 * arrives first arrives in order.
 *
 * Slow start.  Up to where the failed attempt had come, spans are offered one at a
 * time, each settled before the next, beginning with a single record and doubling
 * with every success.  So a target that refuses for hours (a topic without
 * permission) gets one record per attempt, not everything that was in flight again
 * and again.
 *
 * Suspects.  A target that refuses many records for one of them does not say for
 * which.  The span is halved instead, until a single record is refused alone: that
 * one is the dead letter.  One bad record among n costs about log2(n) refusals.
 *
 * Rejected: a queue between a reading and a sending thread.  A hand-over per view
 * costs more than reading it, and memory would be bounded twice.
 */
#include "pipeline/bridge_internal.h"

#include "journal/drops.h"
#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>

enum { TURN_VIEWS_MAX = 16, REFUSED_WAIT_MS = 100, LIVE_WAIT_MS = 20, IDLE_WAIT_MS = 1000 };

/* For the operator: the bridge does nothing more, its events stay in the journal. */
void mr_worker_stop(struct mr_bridge *b, const char *why)
{
    if (b->state != WORKER_STOPPED) {
        b->state = WORKER_STOPPED;
        atomic_store_explicit(&b->stopped, true, memory_order_relaxed);
        mr_port_error(b, why);
        mr_log(MR_LOG_ERROR, "bridge",
               "%s: stopped in front of record %" PRIu64 " of lane %u: %s; its events stay in the "
               "journal, restart the gateway when the cause is gone",
               b->name, b->seq_cursor + 1, b->options.lane, why);
    }
}

bool mr_worker_rewind(struct mr_bridge *b)
{
    struct mr_error why;
    struct mr_reader_options options = {.wake = &b->wake,
                                        .seq_to = b->live.open ? b->live.from : 0};

    mr_flight_drop_all(b);
    mr_dead_rewind(b);
    if (b->reader != NULL) {
        mr_reader_close(b->reader);
        b->reader = NULL;
    }
    if (mr_reader_open(&b->reader, b->options.journal, b->options.lane, b->seq_cursor + 1, &options,
                       &why) != MR_OK) {
        b->reader = NULL;
        mr_worker_stop(b, why.text);
        return false;
    }
    return true;
}

static bool worker_open(struct mr_bridge *b, int64_t now_ns)
{
    struct mr_error why;

    enum mr_err err = b->options.sink->open(b->sink_state, &why);
    if (err == MR_OK) {
        b->opened = true;
        mr_position_asked(b);
        return b->state != WORKER_STOPPED && (b->reader != NULL || mr_worker_rewind(b));
    }
    if (err == MR_ERR_CONFIG) {
        mr_worker_stop(b, why.text);
        return false;
    }
    mr_sink_refused(&b->port, why.text); /* said, though the target may be away besides */
    b->pause_until_ns = now_ns + (int64_t)b->options.conf->retry_max_us * 1000;
    b->state = WORKER_PAUSING;
    return false;
}

/* ---- failures ---- */

/* A record refused alone is the one: its letter, and on. */
static bool worker_condemn(struct mr_bridge *b)
{
    struct flight *flight = mr_flight_at(b, b->flight_tail);
    char reason[REASON_MAX];

    if (b->flight_tail == b->flight_head || !flight->submitted || !atomic_load(&flight->suspect) ||
        flight->batch.record_count != 1 || flight->rejected != 0) {
        return false;
    }
    for (uint64_t i = b->flight_tail + 1; i != b->flight_head; i++) {
        if (mr_flight_at(b, i)->submitted) {
            return false; /* not alone */
        }
    }
    mr_mutex_lock(&b->mutex);
    memcpy(reason, b->fail_reason, sizeof(reason));
    mr_mutex_unlock(&b->mutex);
    if (reason[0] == '\0') {
        snprintf(reason, sizeof(reason), "refused by %s without a reason", b->options.sink->name);
    }
    if (mr_dead_letter_of(b, flight, flight->batch.records[0].seq, reason) != MR_OK) {
        return true; /* no room, or stopped: stay here and look again */
    }
    atomic_store(&flight->suspect, false);
    atomic_store(&flight->failed, false);
    atomic_store(&b->failing, false);
    b->state = WORKER_FLOWING;
    mr_mutex_lock(&b->mutex);
    b->fail_reason[0] = '\0';
    mr_mutex_unlock(&b->mutex);
    return true;
}

/* Doubling from min to max, then somewhere in its upper half, so that many gateways do not come
 * back at once.
 */
int64_t mr_worker_pause_ns(struct mr_bridge *b, uint32_t attempt)
{
    uint64_t pause_us = b->options.conf->retry_min_us;
    uint64_t max_us = b->options.conf->retry_max_us;

    for (uint32_t i = 0; i < attempt && pause_us < max_us; i++) {
        pause_us *= 2;
    }
    if (pause_us > max_us) {
        pause_us = max_us;
    }
    return (int64_t)((pause_us / 2 + mr_rng_below(&b->rng, pause_us / 2 + 1)) * 1000);
}

/* All verdicts are in: make smaller pieces, or wait a while. */
static void worker_drained(struct mr_bridge *b, int64_t now_ns)
{
    uint64_t suspect_seq = atomic_exchange(&b->suspect_seq, 0);
    uint32_t largest = 1;
    char reason[REASON_MAX];

    for (uint64_t i = b->flight_tail; i != b->flight_head; i++) {
        struct flight *flight = mr_flight_at(b, i);
        if (atomic_load(&flight->suspect) && flight->batch.record_count > largest) {
            largest = flight->batch.record_count;
        }
    }
    mr_mutex_lock(&b->mutex);
    memcpy(reason, b->fail_reason, sizeof(reason));
    snprintf(b->last_error, sizeof(b->last_error), "%s", b->fail_reason);
    b->fail_reason[0] = '\0';
    mr_mutex_unlock(&b->mutex);

    b->pause_until_ns = now_ns;
    if (b->seq_done > b->isolate_until) {
        b->isolate_until = b->seq_done;
    }
    b->isolate_chunk = 1;
    if (suspect_seq > b->seq_cursor) {
        b->isolate_chunk = (largest + 1) / 2;
    } else {
        b->pause_until_ns += mr_worker_pause_ns(b, b->attempt);
        b->attempt += 1;
    }
    mr_metric_add(b->metrics.retries, 1);
    atomic_fetch_add_explicit(&b->retries, 1, memory_order_relaxed);
    mr_log(b->attempt > 1 ? MR_LOG_DEBUG : MR_LOG_INFO, "bridge",
           "%s: going back to record %" PRIu64 " of lane %u in %" PRId64 " ms: %s", b->name,
           b->seq_cursor + 1, b->options.lane, (b->pause_until_ns - now_ns) / NS_PER_MS,
           reason[0] == '\0' ? "no reason given" : reason);
    b->state = WORKER_PAUSING;
}

/* ---- flowing ---- */

/* How many records up to `seq_last` were given up, of those that no span covers yet. */
static uint64_t dropped_to(const struct mr_bridge *b, uint64_t seq_last)
{
    return seq_last <= b->seq_done ? 0
                                   : mr_drops_in(b->options.journal, mr_bridge_identity(b),
                                                 b->options.lane, b->seq_done + 1, seq_last);
}

/* Up to `seq_last` nothing can be read back; what is in front of `seq_first` was given up, or is
 * lost, too.
 */
static void worker_lose(struct mr_bridge *b, uint64_t seq_first, uint64_t seq_last)
{
    uint64_t dropped = dropped_to(b, seq_first - 1);

    mr_log(MR_LOG_ERROR, "bridge",
           "%s: records %" PRIu64 " to %" PRIu64 " of lane %u are lost (see the journal's "
           "message); going on behind them",
           b->name, seq_first, seq_last, b->options.lane);
    if (seq_last > b->seq_done) {
        mr_flight_lose(b, seq_last, seq_last - b->seq_done - dropped, dropped);
    }
}

/* The journal goes on behind `seq_last`: what is in front was given up, or is lost. */
static void worker_skip(struct mr_bridge *b, uint64_t seq_last)
{
    uint64_t first = b->seq_done + 1;
    uint64_t count = seq_last - b->seq_done;
    uint64_t dropped = dropped_to(b, seq_last);

    if (dropped < count) {
        mr_log(MR_LOG_ERROR, "bridge",
               "%s: of records %" PRIu64 " to %" PRIu64 " of lane %u %" PRIu64 " are lost (see the "
               "journal's message); going on behind them",
               b->name, first, seq_last, b->options.lane, count - dropped);
    } else {
        mr_log(MR_LOG_WARN, "bridge",
               "%s: goes on behind records %" PRIu64 " to %" PRIu64 " of lane %u, which were "
               "dropped when the journal was full",
               b->name, first, seq_last, b->options.lane);
    }
    mr_flight_lose(b, seq_last, count - dropped, dropped);
}

/* All that is left of the backlog was dropped: the reader, which ends with it, has no more. */
static bool worker_backlog_is_gone(const struct mr_bridge *b)
{
    struct mr_lane_stats stats;

    mr_lane_stats(b->lane, &stats);
    return b->seq_done < b->live.from && stats.seq_oldest > b->live.from &&
           mr_drops_in(b->options.journal, mr_bridge_identity(b), b->options.lane, b->seq_done + 1,
                       b->live.from) == b->live.from - b->seq_done;
}

/* Read the next view.  True: there is one, or something to pass. */
bool mr_worker_read(struct mr_bridge *b, int64_t now_ns)
{
    if (b->flight_head - b->flight_tail == FLIGHTS_MAX || mr_unread_waits(b, now_ns)) {
        b->held_up = true;
        return false;
    }
    enum mr_err err = mr_reader_next(b->reader, &b->view);

    if (MR_UNLIKELY(b->unread.attempt != 0) && (err == MR_OK || err == MR_ERR_CORRUPT) &&
        b->view.seq_last >= b->unread.seq) {
        mr_unread_over(b);
    }
    switch (err) {
    case MR_OK:
        if (MR_UNLIKELY(b->view.seq_first > b->seq_done + 1)) {
            worker_skip(b, b->view.seq_first - 1);
        }
        b->view_at = mr_view_begin(&b->view);
        b->view_open = true;
        mr_names_on_drop(b->view.names, mr_route_drop, b);
        return true;
    case MR_ERR_CORRUPT:
        worker_lose(b, b->view.seq_first, b->view.seq_last);
        return true;
    case MR_ERR_FULL:
        b->held_up = true;
        return false;
    case MR_ERR_AGAIN:
        if (MR_UNLIKELY(b->live.open) && worker_backlog_is_gone(b)) {
            worker_skip(b, b->live.from);
            return true;
        }
        b->caught_up = true;
        return false;
    default:
        mr_unread(b, now_ns);
        b->held_up = true;
        return false;
    }
}

/* Offer the newest span.  False: the sink takes nothing now. */
static bool worker_submit(struct mr_bridge *b, struct flight *flight, int64_t now_ns)
{
    if (flight->batch.record_count == 0) {
        flight->submitted = true;
        return true;
    }
    flight->submitted = true; /* verdicts may come before submit returns */
    if (b->options.sink->submit(b->sink_state, &flight->batch) != MR_OK) {
        flight->submitted = false;
        b->refused_ns = now_ns;
        return false;
    }
    b->refused_ns = 0;
    return true;
}

/* One step forward: submit what waits, else make a span.  False: nothing to do. */
static bool worker_flow(struct mr_bridge *b, int64_t now_ns)
{
    bool isolating = b->isolate_until != 0;
    uint32_t records_max =
        isolating && b->isolate_chunk < FLIGHT_RECORDS_MAX ? b->isolate_chunk : FLIGHT_RECORDS_MAX;

    if (b->flight_head != b->flight_tail) {
        struct flight *newest = mr_flight_at(b, b->flight_head - 1);
        if (!newest->submitted) {
            return worker_submit(b, newest, now_ns);
        }
        if (isolating || (MR_UNLIKELY(b->live.worker != NULL) && mr_live_waits(b))) {
            b->held_up = true;
            return false; /* one at a time */
        }
    }
    if (now_ns < b->blocked_until_ns) {
        b->held_up = true;
        return false;
    }
    if (!b->view_open) {
        return mr_worker_read(b, now_ns);
    }
    if (MR_UNLIKELY(b->view.epoch > b->epoch) && !mr_group_enter_epoch(b, b->view.epoch)) {
        b->held_up = true;
        return false;
    }
    if (MR_UNLIKELY(b->live.open)) {
        records_max = mr_live_allowed(b, records_max, now_ns);
        if (records_max == 0) {
            return false;
        }
    }
    switch (mr_fill_span(b, records_max, now_ns)) {
    case FILL_READY:
        mr_live_spend(b, mr_flight_at(b, b->flight_head - 1)->batch.record_count);
        return worker_submit(b, mr_flight_at(b, b->flight_head - 1), now_ns);
    case FILL_EMPTY:
        return true;
    case FILL_FULL:
        b->held_up = true;
        return false;
    case FILL_BROKEN:
        break;
    }
    return false;
}

/* Time of the oldest record that is not settled, as well as it is known: in flight, or
 * in the view that is open; else that of the last one settled.
 */
int64_t mr_worker_oldest_ms(struct mr_bridge *b)
{
    if (b->flight_tail != b->flight_head) {
        const struct flight *oldest = mr_flight_at(b, b->flight_tail);
        if (oldest->batch.record_count != 0) {
            return oldest->received_first_us / 1000;
        }
    } else if (b->view_open) {
        struct mr_view_at at = b->view_at;
        struct mr_event event;
        if (mr_view_event(&b->view, &at, &event)) {
            return event.received_us / 1000;
        }
    }
    return b->settled_ms;
}

static void worker_measure(struct mr_bridge *b)
{
    uint64_t durable = mr_lane_durable(b->lane);
    bool idle = b->main != NULL && (mr_live_is_idle(b) || mr_live_is_fencing(b));
    uint64_t last = b->live.open ? b->live.from : (idle ? 0 : durable);
    uint64_t lag = last > b->seq_cursor ? last - b->seq_cursor : 0;
    int64_t since_ms = lag == 0 ? 0 : mr_worker_oldest_ms(b);

    int64_t lag_ms = lag == 0 || since_ms == 0 ? 0 : mr_clock_wall_us() / 1000 - since_ms;
    mr_metric_set(b->metrics.up, atomic_load_explicit(&b->up, memory_order_relaxed));
    mr_metric_set(b->metrics.inflight, (int64_t)mr_flight_records(b));
    mr_metric_set(b->metrics.lag_records, (int64_t)lag);
    mr_metric_set(b->metrics.lag_seconds, lag_ms < 0 ? 0 : lag_ms / 1000);
    mr_metric_set(b->metrics.committed_seq, (int64_t)b->seq_cursor);
}

/* Until when there is nothing to do, unless the wake rings. */
static int64_t worker_sleep_ns(struct mr_bridge *b, int64_t now_ns, int64_t dead_ns)
{
    int64_t sleep_ns = IDLE_WAIT_MS * NS_PER_MS;

    if (b->state == WORKER_PAUSING) {
        sleep_ns = b->pause_until_ns - now_ns;
    } else if (b->refused_ns != 0) {
        sleep_ns = REFUSED_WAIT_MS * NS_PER_MS;
    } else if (MR_UNLIKELY(b->live.open || b->live.wanted)) {
        sleep_ns = LIVE_WAIT_MS * NS_PER_MS;
    }
    if (sleep_ns > IDLE_WAIT_MS * NS_PER_MS) {
        sleep_ns = IDLE_WAIT_MS * NS_PER_MS;
    }
    if (mr_unread_waits(b, now_ns) && b->unread.not_before_ns - now_ns < sleep_ns) {
        sleep_ns = b->unread.not_before_ns - now_ns;
    }
    if (dead_ns >= 0 && dead_ns < sleep_ns) {
        sleep_ns = dead_ns;
    }
    if (b->tick_at_ns != 0 && b->opened && b->tick_at_ns - now_ns < sleep_ns) {
        sleep_ns = b->tick_at_ns - now_ns;
    }
    return sleep_ns < 0 ? 0 : sleep_ns;
}

static void worker_states(struct mr_bridge *b, int64_t now_ns)
{
    if (b->state == WORKER_PAUSING && now_ns >= b->pause_until_ns) {
        if (!b->opened) {
            b->state = worker_open(b, now_ns) ? WORKER_FLOWING : b->state;
        } else if (mr_worker_rewind(b)) {
            atomic_store(&b->failing, false);
            b->state = WORKER_FLOWING;
        }
    }
    if (b->state == WORKER_FLOWING && atomic_load_explicit(&b->failing, memory_order_acquire)) {
        b->state = WORKER_DRAINING;
    }
    if (b->state == WORKER_DRAINING && mr_flight_settled(b)) {
        if (!worker_condemn(b)) {
            worker_drained(b, now_ns);
        }
    }
}

/* Held by the operator?  What is in flight goes on; of what waits only the first view
 * is opened, so that its age is known.
 */
static bool worker_is_held(struct mr_bridge *b, int64_t now_ns)
{
    bool paused = mr_live_is_held(b);

    if (MR_UNLIKELY(paused != b->said_paused) && b->main == NULL) {
        b->said_paused = paused;
        mr_log(MR_LOG_INFO, "bridge",
               paused ? "%s: is paused in lane %u behind record %" PRIu64
                        "; its events stay in the journal until `millrace bridge resume`"
                      : "%s: is resumed in lane %u behind record %" PRIu64,
               b->name, b->options.lane, b->seq_cursor);
    }
    if (MR_UNLIKELY(paused) && !b->view_open && b->flight_head == b->flight_tail) {
        (void)mr_worker_read(b, now_ns);
    }
    return paused;
}

static int64_t worker_step(struct mr_bridge *b, int64_t now_ns)
{
    bool progress = false;

    b->turn_ns = now_ns;
    if (MR_UNLIKELY(b->main != NULL) && mr_live_is_idle(b)) {
        return IDLE_WAIT_MS * NS_PER_MS;
    }
    if (!b->opened && b->state == WORKER_FLOWING) {
        worker_open(b, now_ns);
    }
    if (b->opened) {
        b->options.sink->tick(b->sink_state, now_ns);
    }
    if (b->state != WORKER_STOPPED) {
        mr_dead_take_rejects(b);
        progress = mr_flight_retire(b);
        worker_states(b, now_ns);
    }
    if (mr_seek_turn(b, now_ns)) {
        progress = progress || !atomic_load_explicit(&b->seek_wanted, memory_order_relaxed);
    } else if (MR_UNLIKELY(b->main != NULL) && mr_live_ends(b, now_ns)) {
        progress = progress || mr_live_is_idle(b);
    } else if (b->state == WORKER_FLOWING && b->opened && mr_dead_is_known(b) &&
               mr_position_turn(b, now_ns) && !worker_is_held(b, now_ns) &&
               !mr_live_turn(b, now_ns)) {
        b->held_up = false;
        b->caught_up = false;
        for (int i = 0;
             i < TURN_VIEWS_MAX && b->state == WORKER_FLOWING &&
             !atomic_load_explicit(&b->failing, memory_order_relaxed) && worker_flow(b, now_ns);
             i++) {
            progress = true;
        }
    }
    mr_call_turn(b);
    int64_t dead_ns = mr_dead_turn(b, now_ns);
    worker_measure(b);
    return progress ? 0 : worker_sleep_ns(b, now_ns, dead_ns);
}

/* One turn of a lane; its second worker has a thread of its own if the first one has. */
int64_t mr_bridge_step(struct mr_bridge *b, int64_t now_ns)
{
    int64_t sleep_ns = worker_step(b, now_ns);

    if (b->live.worker != NULL) {
        int64_t second_ns = worker_step(b->live.worker, now_ns);
        sleep_ns = second_ns < sleep_ns ? second_ns : sleep_ns;
    }
    return sleep_ns;
}

/* Nothing durable is left that may be delivered, and nothing in flight.  A backlog that is
 * delivered slowly is not waited for.
 */
static bool worker_caught_up(const struct mr_bridge *b)
{
    if (b->main != NULL && mr_live_is_idle(b)) {
        return true;
    }
    return b->seq_cursor >= mr_lane_durable(b->lane) ||
           ((b->live.open || mr_live_is_held(b)) && mr_flight_settled(b));
}

/* Close the sink: within `patience_ns` it settles what it can. */
void mr_worker_close(struct mr_bridge *b, int64_t patience_ns)
{
    if (b->opened) {
        b->options.sink->close(b->sink_state, patience_ns);
        b->opened = false;
    }
    mr_dead_take_rejects(b);
    if (b->dead.journal != NULL) {
        int64_t until_ns = mr_clock_mono_ns() + NS_PER_S;
        while (!mr_dead_durable(b, b->dead.seq_last) && mr_clock_mono_ns() < until_ns &&
               mr_lane_state(b->dead.lane) == MR_LANE_OPEN) {
            (void)mr_dead_submit(b, mr_clock_mono_ns());
            mr_wake_wait(&b->wake, NS_PER_MS);
        }
    }
    mr_flight_retire(b);
    mr_flight_drop_all(b);
    if (b->reader != NULL) {
        mr_reader_close(b->reader);
        b->reader = NULL;
    }
    worker_measure(b);
}

/* The thread. */
void mr_worker_run(void *bridge)
{
    struct mr_bridge *b = bridge;
    int64_t until_ns = -1; /* once stopping */

    for (;;) {
        int64_t now_ns = mr_clock_mono_ns();
        if (until_ns < 0 && atomic_load(&b->stopping)) {
            int64_t patience_ns = atomic_load(&b->patience_ns);
            /* Who is away will hardly come back now. */
            until_ns = now_ns + (atomic_load(&b->up) ? patience_ns : patience_ns / 10);
        }
        if (until_ns >= 0 &&
            (now_ns >= until_ns || worker_caught_up(b) || b->state == WORKER_STOPPED)) {
            break;
        }
        int64_t sleep_ns = worker_step(b, now_ns);
        if (until_ns >= 0 && sleep_ns > 20 * NS_PER_MS) {
            sleep_ns = 20 * NS_PER_MS;
        }
        if (sleep_ns != 0) {
            mr_wake_wait(&b->wake, sleep_ns);
        }
    }
    int64_t left_ns = until_ns - mr_clock_mono_ns();
    mr_worker_close(b, left_ns > 0 ? left_ns : 0);
}
