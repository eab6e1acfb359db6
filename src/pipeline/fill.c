/* fill.c - turn a stretch of a view into one span of records.
 *
 * DESIGN
 *
 * One pass over the events: route by the name's number, take a record from the
 * ring, point it at the payload where it lies in the journal's memory.  Raw values
 * are never copied.  JSON values and headers are written into the span's bytes.
 *
 * Where records are not shaped, runs of plain events (mr_view_plain()) whose route is known become
 * records in a loop of their own (fill_plain); what ends a run goes the long way.
 *
 * When a ring is full in the middle of a view, the span ends before the event that
 * did not fit and the view stays open; the next span begins there.  An event that does
 * not fit although nothing else is in the ring never will: it is a dead letter.
 *
 * An event that cannot be sent for what it is goes to the dead letters right here
 * and counts as settled when the letter is durable (flight_retire).
 *
 * An event that was received while the clock was ahead, and is sent when it has been put
 * right, gets the time of now: targets refuse what claims to be of the future, and its own
 * time is known to be wrong.
 */
#include "pipeline/bridge_internal.h"

#include "os/clock.h"

#include <inttypes.h>

/* Never in silence: a metric (flight_count), and now and then a line. */
static void say_time_replaced(const struct mr_bridge *b, const struct mr_event *event,
                              const char *reason)
{
    static struct mr_log_limit limit;
    uint64_t held_back;

    if (mr_log_allowed(&limit, 60 * 1000000, &held_back)) {
        mr_log(MR_LOG_WARN, "bridge",
               "%s: record %" PRIu64 " of lane %u has no usable time of its own and gets its "
               "receive time: %s (%" PRIu64 " more since the last such line)",
               b->name, event->seq, b->options.lane, reason, held_back);
    }
}

/* A gap that a repair left, or events whose names were lost with another batch; what does not read
 * at all is worker_lose()'s.
 */
static void say_lost(const struct mr_bridge *b, uint64_t first, uint64_t last, uint64_t lost)
{
    static struct mr_log_limit limit;
    uint64_t held_back;

    if (mr_log_allowed(&limit, 1000000, &held_back)) {
        mr_log(MR_LOG_ERROR, "bridge",
               "%s: %" PRIu64 " records of lane %u between %" PRIu64 " and %" PRIu64
               " are lost: the journal was damaged there, or repaired; going on behind them "
               "(%" PRIu64 " more such lines held back)",
               b->name, lost, b->options.lane, first, last, held_back);
    }
}

/* The receive time, or now if that is earlier. */
static inline int64_t record_ms(const struct mr_bridge *b, int64_t received_us)
{
    return (MR_LIKELY(received_us <= b->received_max_us) ? received_us : b->received_max_us) / 1000;
}

/* A value that is the payload needs nothing but this; all else is in record.c. */
static inline enum put_result put_record(struct mr_bridge *b, const struct mr_event *event,
                                         struct route *route, struct flight *flight,
                                         struct mr_record *record, struct put_note *note)
{
    *record = (struct mr_record){
        .seq = event->seq,
        .time_ms = record_ms(b, event->received_us),
        .route = &route->pub,
        .value = event->payload,
        .payload = event->payload,
        .qos = event->qos,
        .retain = event->retain,
    };
    if (MR_LIKELY(!b->shaping.shaped) &&
        MR_LIKELY(record->value.len <= b->shaping.value_bytes_max)) {
        return PUT_DONE;
    }
    enum put_result result = mr_shape_record(b, event, record, note);
    if (result == PUT_DONE && MR_UNLIKELY(note->time_replaced)) {
        flight->times_replaced += 1;
        say_time_replaced(b, event, note->time_reason);
    }
    return result;
}

/* Nothing is in the ring, so nothing will give room back. */
static bool ring_is_empty(const struct mr_bridge *b)
{
    return b->flight_head == b->flight_tail && b->bytes.head == b->bytes.tail;
}

/* One event into the span.  OK; FULL: end the span before it; IO: stop. */
static enum mr_err fill_event(struct mr_bridge *b, struct flight *flight,
                              const struct mr_event *event)
{
    bool alone = ring_is_empty(b);
    struct route *route = mr_route_of(b, &b->view, event);
    struct put_note note;
    const char *reason = note.reason;

    if (MR_UNLIKELY(route == NULL)) {
        return MR_ERR_FULL;
    }
    if (MR_LIKELY(route->kind == ROUTE_SEND)) {
        struct mr_record *record = &b->records[b->records_head % b->records_size];
        enum put_result result = put_record(b, event, route, flight, record, &note);
        if (MR_LIKELY(result == PUT_DONE)) {
            b->records_head += 1;
            flight->batch.record_count += 1;
            flight->value_bytes += record->value.len;
            return MR_OK;
        }
        if (result == PUT_NO_ROOM && !alone) {
            return MR_ERR_FULL;
        }
        if (result == PUT_NO_ROOM) {
            reason = "key, value and headers together need more memory than there is room for";
        }
    } else if (route->kind == ROUTE_SKIP) {
        flight->skipped += 1;
        return MR_OK;
    } else {
        reason = route->reason;
    }

    enum mr_err err = mr_dead_letter(b, event, reason, &flight->dead_seq);
    if (err == MR_OK) {
        flight->dead += 1;
    }
    return err;
}

/* A dead letter in the lane itself has been retried: it is for its bridge alone. */
static bool fill_is_ours(const struct mr_bridge *b, const struct mr_event *event)
{
    return event->type == MR_RECORD_DEAD_LETTER &&
           mr_span_is(event->raw.dead_bridge, mr_bridge_identity(b));
}

/* What a span was filled from. */
struct filled {
    uint64_t seq_last;
    int64_t first_us;
    int64_t last_us;
};

/* Plain events from here on, up to so many, while nothing about them is to be decided. */
static void fill_plain(struct mr_bridge *b, struct flight *flight, uint32_t records_max,
                       struct filled *filled)
{
    struct mr_record *record = &b->records[b->records_head % b->records_size];
    uint32_t max = records_max - flight->batch.record_count;
    uint32_t count = 0;
    struct mr_plain plain;

    while (count < max && mr_view_plain(&b->view, &b->view_at, &plain)) {
        struct route *route = plain.slot;
        if (route->kind != ROUTE_SEND || plain.payload.len > b->shaping.value_bytes_max) {
            break;
        }
        mr_view_pass(&b->view_at, &plain);
        *record++ = (struct mr_record){.seq = plain.seq,
                                       .time_ms = record_ms(b, plain.received_us),
                                       .route = &route->pub,
                                       .value = plain.payload,
                                       .payload = plain.payload,
                                       .qos = plain.qos};
        flight->value_bytes += plain.payload.len;
        filled->seq_last = plain.seq;
        filled->last_us = plain.received_us;
        filled->first_us = filled->first_us == 0 ? plain.received_us : filled->first_us;
        count += 1;
    }
    b->records_head += count;
    flight->batch.record_count += count;
}

/* Events of the open view into the span, until it is full or the view ends (flight->ends_view). */
static enum mr_err fill_events(struct mr_bridge *b, struct flight *flight, uint32_t records_max,
                               struct filled *filled)
{
    struct mr_event event;

    for (;;) {
        if (MR_LIKELY(!b->shaping.shaped)) {
            fill_plain(b, flight, records_max, filled);
        }
        if (flight->batch.record_count >= records_max) {
            return MR_OK;
        }
        struct mr_view_at before = b->view_at;
        if (!mr_view_event(&b->view, &b->view_at, &event)) {
            flight->ends_view = true;
            return MR_OK;
        }
        if (MR_LIKELY(event.type == MR_RECORD_EVENT) || fill_is_ours(b, &event)) {
            uint64_t bytes_head = b->bytes.head;
            enum mr_err err = fill_event(b, flight, &event);
            if (MR_UNLIKELY(err != MR_OK)) {
                b->bytes.head = bytes_head;
                b->view_at = before;
                return err;
            }
        } else {
            flight->control += 1;
        }
        filled->seq_last = event.seq;
        filled->last_us = event.received_us;
        filled->first_us = filled->first_us == 0 ? event.received_us : filled->first_us;
    }
}

/* The view had nothing more.  The span before this one may have ended with its last
 * event without knowing it, and still borrow from it: then it is that span's to
 * unpin.
 */
static void fill_leave_view(struct mr_bridge *b)
{
    if (b->flight_head != b->flight_tail) {
        struct flight *newest = mr_flight_at(b, b->flight_head - 1);
        if (!newest->ends_view && newest->view.pin == b->view.pin) {
            newest->ends_view = true;
            return;
        }
    }
    mr_view_unpin(&b->view);
}

/* The span is whole.  Where records have no headers a backlog's get theirs here (live.c); else
 * headers.c gives it.
 */
static enum fill_result fill_close(struct mr_bridge *b, struct flight *flight, uint64_t seq_last)
{
    uint32_t count = flight->batch.record_count;

    if (flight->ends_view && mr_flight_absorb(b, flight, seq_last)) {
        return FILL_EMPTY;
    }
    if (MR_UNLIKELY(b->live.open) && b->shape.headers == MR_HEADERS_NONE) {
        mr_mark_backfill(&b->records[(b->records_head - count) % b->records_size], count);
    }
    mr_flight_close(b, flight, seq_last);
    return FILL_READY;
}

/* Make one span of at most `records_max` records from the open view. */
enum fill_result mr_fill_span(struct mr_bridge *b, uint32_t records_max, int64_t now_ns)
{
    mr_flight_turn_back(b);

    size_t room = mr_flight_records_room(b);
    struct flight *flight = room == 0 ? NULL : mr_flight_open(b);
    struct filled filled = {.seq_last = b->seq_done};
    struct mr_view_at began = b->view_at;

    if (flight == NULL) {
        return FILL_FULL;
    }
    b->received_max_us = mr_clock_wall_us();
    if (room < records_max) {
        records_max = (uint32_t)room;
    }
    enum mr_err err = fill_events(b, flight, records_max, &filled);
    flight->control += b->view_at.control - began.control;
    flight->lost += b->view_at.lost - began.lost;
    if (MR_UNLIKELY(flight->lost != 0)) {
        say_lost(b, flight->batch.seq_first, flight->ends_view ? b->view.seq_last : filled.seq_last,
                 flight->lost);
    }
    flight->received_first_us = filled.first_us;
    flight->received_last_us = filled.last_us;
    if (err == MR_ERR_IO) {
        return FILL_BROKEN;
    }
    if (err == MR_ERR_FULL && mr_dead_waits(b)) {
        b->blocked_until_ns = b->dead.not_before_ns;
    } else if (err == MR_ERR_FULL && b->dead.said_full) {
        b->blocked_until_ns = now_ns + NS_PER_S;
    }
    if (flight->ends_view) {
        filled.seq_last = b->view.seq_last;
        b->view_open = false;
    }
    if (filled.seq_last == b->seq_done) {
        if (flight->ends_view) {
            fill_leave_view(b);
            return FILL_EMPTY;
        }
        return FILL_FULL;
    }
    return fill_close(b, flight, filled.seq_last);
}
