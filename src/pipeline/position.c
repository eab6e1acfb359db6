/* position.c - targets that keep a position of their own, beside the data.
 *
 *     ASKED ─ found ─▶ FOUND ─ place(seq) ─▶ PLACING ─ stands ─▶ AGREED ─ on disk ─▶ PLACED
 *       ▲ open           ▲ a seek, or found again ◀─────────────────────────────────────┘
 *
 * DESIGN
 *
 * The target's position and its data change in one step, so its word is the truth, and the
 * cursor in the journal is a copy that a crash may leave a little behind.  Where they differ
 * the target is believed:
 *
 *   found, ahead of the cursor    the cursor goes there: that much has been delivered
 *   found, behind the cursor      it goes back: the target has lost what it had confirmed
 *   found, beyond the journal     the journal is not the one that was delivered from: stop
 *   none, where there was one     the cursor is all there is; said loudly
 *   none, and never was           the cursor, which begins where the bridge does
 *
 * Except when the cursor leads: the operator put it elsewhere, or the bridge has delivered
 * without a position since.  Then the target is told, in a step of its own, before anything
 * is offered; the rule is on disk on either side of that step, so that a crash between finds
 * the one or the other.
 *
 * A cursor that cannot be written, for want of room on the disk, is written later (room.c); until
 * then nothing is offered.
 *
 * The target is told even when nothing changes: after that it is certain that we may write
 * there, and whoever comes later can see who wrote last.
 *
 * INVARIANTS
 *
 *   (1) The cursor never passes `position.seq`: a span retires when the position covers it.
 *   (2) Nothing is submitted unless PLACED.
 *   (3) While the cursor's rule is LEADS, nothing was committed behind the cursor, but for what a
 *       second position had under way (live.c); that has ended before we are PLACED.
 */
#include "pipeline/bridge_internal.h"

#include <inttypes.h>
#include <stdio.h>

void mr_position_asked(struct mr_bridge *b)
{
    if (b->shape.keeps_position) {
        b->position.state = POSITION_ASKED;
        return;
    }
    bool follows = mr_cursor_rule(b->cursor) == MR_CURSOR_FOLLOWS;
    b->position.state = follows ? POSITION_LEFT : POSITION_NONE;
}

/* What the cursor is to say must be on the disk before `next`; false: not yet, or it had to stop.
 */
static bool cursor_says(struct mr_bridge *b, enum mr_cursor_rule rule, enum position_state next,
                        int64_t now_ns)
{
    enum mr_err err = MR_OK;

    if (mr_cursor_rule(b->cursor) != rule) {
        err = mr_cursor_put(b->cursor, mr_cursor_get(b->cursor), rule);
    }
    if (err == MR_ERR_FULL) {
        mr_room_missing(b, "goes on", now_ns);
    } else if (err != MR_OK) {
        mr_worker_stop(b, "its cursor cannot be written");
    } else {
        mr_room_found(b);
        b->position.state = next;
    }
    return err == MR_OK;
}

void mr_sink_found(struct mr_sink_port *port, const struct mr_position *position)
{
    struct mr_bridge *b = port->bridge;
    struct position *p = &b->position;

    p->state = POSITION_FOUND;
    p->known = position != NULL;
    if (position != NULL) {
        p->found_seq = position->seq;
        p->found_epoch = position->epoch;
        p->seq = position->seq;
        snprintf(p->where, sizeof(p->where), "%s", position->where);
    }
}

/* The epoch that record `seq` of this lane is of, as far as the journal remembers. */
static uint32_t epoch_of(const struct mr_bridge *b, uint64_t seq)
{
    const struct mr_journal *journal = b->options.journal;
    uint32_t epoch = mr_journal_epoch(journal);

    while (epoch > 1 && seq <= mr_journal_epoch_end(journal, epoch - 1, b->options.lane)) {
        epoch -= 1;
    }
    return epoch;
}

/* The newest record that this worker can have delivered. */
static uint64_t newest(const struct mr_bridge *b)
{
    return b->live.open ? b->live.from : mr_lane_durable(b->lane);
}

static bool is_beyond(const struct mr_bridge *b)
{
    return b->position.found_seq > newest(b) ||
           b->position.found_epoch > mr_journal_epoch(b->options.journal);
}

static void stop_beyond(struct mr_bridge *b)
{
    char why[2 * REASON_MAX];

    snprintf(why, sizeof(why),
             "%s names record %" PRIu64 " (epoch %" PRIu32 "), but the newest of this journal is "
             "%" PRIu64 " (epoch %" PRIu32 "): the data folder is an older copy of the one that "
             "was delivered from. Put the newer one back; or stop the gateway and say where to go "
             "on: `millrace bridge seek %s --lane %" PRIu32 " --to PLACE --yes`",
             b->position.where, b->position.found_seq, b->position.found_epoch, newest(b),
             mr_journal_epoch(b->options.journal), mr_bridge_identity(b), b->options.lane);
    mr_worker_stop(b, why);
}

static void say_none(struct mr_bridge *b)
{
    bool lost = mr_cursor_rule(b->cursor) == MR_CURSOR_FOLLOWS;

    mr_log(lost ? MR_LOG_WARN : MR_LOG_INFO, "bridge",
           lost ? "%s: the target has lost the position of lane %u (was it deleted there, or is it "
                  "another one than before?); going "
                  "on behind record %" PRIu64 ", where the cursor of the journal is: what was "
                  "committed in the last moments before the end of the last run may come twice"
                : "%s: the target has no position of lane %u yet; it begins behind record %" PRIu64,
           b->name, b->options.lane, b->seq_cursor);
}

/* The target has lost what it had confirmed, or has more than the cursor knows. */
static bool go_where_found(struct mr_bridge *b, int64_t now_ns)
{
    uint64_t before = b->seq_cursor;
    uint64_t seq = b->position.found_seq;

    if (b->main != NULL && seq < mr_cursor_live_from(b->cursor)) {
        seq = mr_cursor_live_from(b->cursor); /* what is before that is the backlog's */
    }
    enum mr_err err = mr_worker_move(b, &seq, mr_cursor_rule(b->cursor));
    if (err == MR_ERR_FULL) {
        mr_room_missing(b, "goes on where its target is", now_ns);
    }
    if (err != MR_OK) {
        return false;
    }
    mr_room_found(b);
    if (before <= b->position.found_seq) {
        return true;
    }
    mr_log(MR_LOG_WARN, "bridge",
           "%s: lane %u goes back from record %" PRIu64 " to %" PRIu64 ", where the target says it "
           "is (%s): it has lost what it had confirmed, or another one was delivered to meanwhile",
           b->name, b->options.lane, before, b->position.found_seq, b->position.where);
    if (seq > b->position.found_seq && b->main == NULL) {
        mr_log(MR_LOG_ERROR, "bridge",
               "%s: records %" PRIu64 " to %" PRIu64 " of lane %u cannot be delivered again: the "
               "journal does not hold them any more",
               b->name, b->position.found_seq + 1, seq, b->options.lane);
        mr_metric_add(b->metrics.lost, seq - b->position.found_seq);
    }
    return true;
}

/* A cursor that never followed and is ahead has been moved by deliveries without a position;
 * what the target says is of an earlier life of it.
 */
static bool cursor_leads(const struct mr_bridge *b)
{
    enum mr_cursor_rule rule = mr_cursor_rule(b->cursor);

    return rule == MR_CURSOR_LEADS ||
           (rule == MR_CURSOR_NEW && b->position.found_seq < b->seq_cursor);
}

/* Where to go on; false: not yet, or the bridge had to stop. */
static bool decide(struct mr_bridge *b, int64_t now_ns)
{
    struct position *p = &b->position;

    if (!p->known) {
        say_none(b);
        return true;
    }
    if (cursor_leads(b)) {
        mr_log(MR_LOG_INFO, "bridge",
               "%s: lane %u goes on behind record %" PRIu64
               ", where its cursor was put; %s (%" PRIu64 ") is overwritten",
               b->name, b->options.lane, b->seq_cursor, p->where, p->found_seq);
        return true;
    }
    if (is_beyond(b)) {
        stop_beyond(b);
        return false;
    }
    bool moves = p->found_seq != b->seq_cursor;
    if (moves && !go_where_found(b, now_ns)) {
        return false;
    }
    mr_log(moves || !p->said ? MR_LOG_INFO : MR_LOG_DEBUG, "bridge",
           "%s: lane %u goes on behind record %" PRIu64 " (%s)", b->name, b->options.lane,
           b->seq_cursor, p->where);
    p->said = true;
    return true;
}

bool mr_position_turn(struct mr_bridge *b, int64_t now_ns)
{
    struct position *p = &b->position;

    if (MR_LIKELY(p->state == POSITION_NONE || p->state == POSITION_PLACED)) {
        return true;
    }
    if (mr_room_is_awaited(b, now_ns)) {
        return false;
    }
    if (p->state == POSITION_LEFT) {
        return cursor_says(b, MR_CURSOR_LEADS, POSITION_NONE, now_ns);
    }
    if (p->state == POSITION_AGREED) {
        return cursor_says(b, MR_CURSOR_FOLLOWS, POSITION_PLACED, now_ns);
    }
    if (p->state == POSITION_FOUND && mr_flight_settled(b) && mr_live_is_fenced(b) &&
        decide(b, now_ns)) {
        p->state = POSITION_PLACING;
        p->placing_seq = b->seq_cursor;
        b->options.sink->place(b->sink_state, p->placing_seq, epoch_of(b, p->placing_seq));
    }
    return false;
}

void mr_position_moved(struct mr_bridge *b)
{
    struct position *p = &b->position;

    if (p->state >= POSITION_PLACING) {
        p->state = POSITION_FOUND;
        p->known = true;
        p->found_seq = p->seq;
    }
}

void mr_sink_stands(struct mr_sink_port *port, uint64_t seq)
{
    struct mr_bridge *b = port->bridge;
    struct position *p = &b->position;

    p->seq = seq;
    mr_metric_set(b->metrics.position, (int64_t)seq);
    if (p->state != POSITION_PLACING || seq != p->placing_seq) {
        return;
    }
    p->state = POSITION_AGREED;
}

/* A letter of `flight` is not even written; under the mutex. */
static bool has_reject(const struct mr_bridge *b, const struct flight *flight)
{
    for (uint32_t i = 0; i < b->reject_count; i++) {
        if (b->rejects[i].flight == flight) {
            return true;
        }
    }
    return false;
}

void mr_sink_reach(struct mr_sink_port *port, struct mr_reach *out)
{
    struct mr_bridge *b = port->bridge;
    bool paused = mr_live_is_held(b);

    *out = (struct mr_reach){
        .seq = b->seq_cursor,
        .cursor = b->seq_cursor,
        .epoch = b->epoch,
        .more = !paused && !b->caught_up && b->seq_done < mr_lane_durable(b->lane),
        .failing = atomic_load(&b->failing),
    };
    out->hurry = b->held_up || paused || b->seq_done >= b->seq_epoch_end ||
                 atomic_load(&b->seek_wanted) || b->live.wanted ||
                 (b->main != NULL && mr_live_is_ending(b)) ||
                 (atomic_load(&b->stopping) && !out->more);
    mr_mutex_lock(&b->mutex);
    for (uint64_t i = b->flight_tail; i != b->flight_head; i++) {
        const struct flight *flight = mr_flight_at(b, i);
        if ((!flight->submitted && flight->batch.record_count != 0) ||
            atomic_load(&flight->failed) || has_reject(b, flight) ||
            !mr_dead_durable(b, flight->dead_seq)) {
            break;
        }
        out->seq = flight->batch.seq_last;
        out->epoch = flight->batch.epoch;
    }
    mr_mutex_unlock(&b->mutex);
}
