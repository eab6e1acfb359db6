/* flight.c - what the sink holds, and how far everything before it is settled.
 *
 * DESIGN
 *
 * A view is cut into spans: contiguous ranges of seqs, each with the records that
 * the sink got.  Spans stand in a ring in the order of the journal.  A verdict
 * only counts down those of its span; which record it was for does not matter,
 * because the cursor moves by whole spans.  So settling costs one atomic
 * subtraction for any number of records, from any thread, in any order.
 *
 * Everything a span needs (records, encoded values, routes of nameless events)
 * is taken from two rings in the same order in which spans retire, so giving it
 * back is moving a tail.
 *
 * The books (journal/books.h) take from each span what was counted where it was decided:
 * verdicts, letters, what was skipped or no event.  None of it is derived from the cursor,
 * so that the two check each other.
 *
 * Rejected: a bit per record, to repeat only what failed.  After a failure the
 * records behind it are repeated anyway, for the order; a span bounds the rest.
 *
 * INVARIANTS (flight_check, after every change)
 *
 *   (1) Spans are contiguous: each begins one behind the end of the one before.
 *   (2) The cursor is the last seq of the last retired span; a span retires only
 *       with no verdict missing, none negative, its dead letters durable.
 *   (3) Ring tails never pass heads, and belong to the oldest span.
 *   (4) A view is unpinned with its last span, hence after all that borrow it.
 *   (5) Of a target that keeps a position no span retires behind that.
 */
#include "pipeline/bridge_internal.h"

#include <inttypes.h>

enum { TURN_SHARE = 64 }; /* of the ring of records: for less its head does not turn back */

static void flight_check(const struct mr_bridge *b)
{
    mr_assert(b->flight_tail <= b->flight_head && b->flight_head - b->flight_tail <= FLIGHTS_MAX);
    mr_assert(b->records_tail <= b->records_head &&
              b->records_head - b->records_tail <= b->records_size);
    mr_assert(b->bytes.tail <= b->bytes.head && b->bytes.head - b->bytes.tail <= b->bytes.size);
    mr_assert(b->seq_cursor <= b->seq_done);
}

struct flight *mr_flight_at(struct mr_bridge *b, uint64_t index)
{
    return &b->flights[index & (FLIGHTS_MAX - 1)];
}

uint64_t mr_flight_records(const struct mr_bridge *b)
{
    uint64_t places = b->records_head - b->records_tail;

    return b->records_tail < b->records_turned ? places - b->records_passed : places;
}

/* A bridge that always has something on its way never empties its rings.  So that it does not touch
 * all of their memory for the little it needs, the next span lies at the beginning again as soon
 * as there is room for as much as is in use; what lies between is given back with that span.
 */
void mr_flight_turn_back(struct mr_bridge *b)
{
    if (b->flight_head == b->flight_tail) { /* no piece has to be cut at the ring's end */
        b->records_head = 0;
        b->records_tail = 0;
        b->records_turned = 0;
        b->bytes.head = 0;
        b->bytes.tail = 0;
        return;
    }

    uint64_t passed = mr_ring_turn(b->records_head, b->records_tail, b->records_size,
                                   b->records_size / TURN_SHARE);

    mr_bytes_turn_back(&b->bytes);
    if (passed != 0) {
        b->records_passed = passed;
        b->records_head += passed;
        b->records_turned = b->records_head;
    }
}

/* How many records the next span may have without wrapping round. */
size_t mr_flight_records_room(const struct mr_bridge *b)
{
    size_t used = (size_t)(b->records_head - b->records_tail);
    size_t to_end = b->records_size - (size_t)(b->records_head % b->records_size);
    size_t free_count = b->records_size - used;

    return free_count < to_end ? free_count : to_end;
}

struct flight *mr_flight_open(struct mr_bridge *b)
{
    if (b->flight_head - b->flight_tail == FLIGHTS_MAX) {
        return NULL;
    }

    struct flight *flight = mr_flight_at(b, b->flight_head);
    *flight = (struct flight){
        .bridge = b,
        .view = b->view,
        .batch = {.seq_first = b->seq_done + 1,
                  .records = &b->records[b->records_head % b->records_size],
                  .lane = b->options.lane,
                  .epoch = b->view.epoch,
                  .token = flight},
    };
    return flight;
}

/* The span covers everything up to `seq_last`; from here on it is in the ring. */
void mr_flight_close(struct mr_bridge *b, struct flight *flight, uint64_t seq_last)
{
    mr_assert(seq_last >= flight->batch.seq_first);
    flight->batch.seq_last = seq_last;
    flight->records_end = b->records_head;
    flight->bytes_end = b->bytes.head;
    atomic_store_explicit(&flight->verdicts, flight->batch.record_count, memory_order_relaxed);
    b->seq_done = seq_last;
    b->flight_head += 1;
    flight_check(b);
}

/* A span without records right behind another one becomes part of it, because each would
 * wait in the ring for the position, with a view of its own.  Nothing borrows from `flight`'s
 * view, so that is given back.  False: it has to stand by itself.
 */
bool mr_flight_absorb(struct mr_bridge *b, const struct flight *flight, uint64_t seq_last)
{
    if (!b->shape.keeps_position || b->flight_head == b->flight_tail ||
        flight->batch.record_count != 0 || !flight->ends_view) {
        return false;
    }
    struct flight *newest = mr_flight_at(b, b->flight_head - 1);
    if (newest->batch.record_count != 0 || !newest->ends_view) {
        return false;
    }
    mr_view_unpin(&b->view);
    newest->batch.seq_last = seq_last;
    newest->batch.epoch = flight->batch.epoch;
    newest->skipped += flight->skipped;
    newest->control += flight->control;
    newest->lost += flight->lost;
    newest->dropped += flight->dropped;
    newest->dead += flight->dead;
    newest->times_replaced += flight->times_replaced;
    newest->dead_seq = flight->dead_seq > newest->dead_seq ? flight->dead_seq : newest->dead_seq;
    newest->received_last_us = flight->received_last_us;
    b->seq_done = seq_last;
    flight_check(b);
    return true;
}

void mr_flight_lose(struct mr_bridge *b, uint64_t seq_last, uint64_t lost, uint64_t dropped)
{
    struct flight *flight = mr_flight_open(b);

    mr_assert(flight != NULL);
    flight->lost = lost;
    flight->dropped = dropped;
    mr_flight_close(b, flight, seq_last);
}

static void flight_count(struct mr_bridge *b, const struct flight *flight,
                         uint64_t columns[MR_COLUMNS])
{
    uint64_t sent = atomic_load_explicit(&flight->verdicts, memory_order_relaxed) / VERDICT_DONE;
    uint64_t dead = (uint64_t)flight->dead + flight->rejected;

    if (sent != 0) {
        b->attempt = 0;
        b->settled_ms = flight->received_last_us / 1000;
    }
    atomic_fetch_add_explicit(&b->delivered, sent, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->skipped, flight->skipped, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->dead_count, dead, memory_order_relaxed);
    mr_metric_add(b->metrics.records, sent);
    mr_metric_add(b->metrics.bytes, flight->value_bytes);
    mr_metric_add(b->metrics.skipped, flight->skipped);
    mr_metric_add(b->metrics.dead_letters, dead);
    mr_metric_add(b->metrics.times_replaced, flight->times_replaced);
    mr_metric_add(b->metrics.lost, flight->lost);
    columns[MR_COLUMN_DELIVERED] += sent;
    columns[MR_COLUMN_SKIPPED] += flight->skipped;
    columns[MR_COLUMN_DEAD_LETTERS] += dead;
    columns[MR_COLUMN_LOST] += flight->lost;
    columns[MR_COLUMN_CONTROL] += flight->control;
    columns[MR_COLUMN_DROPPED] += flight->dropped;
}

static void say_unbalanced(struct mr_bridge *b)
{
    struct mr_books books;
    uint64_t ahead = 0;
    uint64_t seq = mr_cursor_books_all(b->cursor, &books, &ahead);
    int64_t difference = mr_books_difference(&books, seq + ahead);

    if (!b->said_unbalanced && difference != 0) {
        b->said_unbalanced = true;
        mr_log(MR_LOG_ERROR, "bridge",
               "%s: the books of lane %u do not balance at record %" PRIu64 ": %" PRIu64
               " records too %s are accounted for; events may be lost or doubled: `millrace audit "
               "%s` shows the columns, `millrace audit --kafka` compares with the target; please "
               "report it",
               b->name, b->options.lane, b->seq_cursor,
               difference < 0 ? 0 - (uint64_t)difference : (uint64_t)difference,
               difference < 0 ? "few" : "many", b->name);
    }
}

/* Retire settled spans from the oldest on; true: the cursor moved. */
bool mr_flight_retire(struct mr_bridge *b)
{
    uint64_t before = b->seq_cursor;
    uint64_t columns[MR_COLUMNS] = {0};

    while (b->flight_tail != b->flight_head) {
        struct flight *flight = mr_flight_at(b, b->flight_tail);
        if (flight_left(flight) != 0 ||
            atomic_load_explicit(&flight->failed, memory_order_relaxed) ||
            !mr_dead_durable(b, flight->dead_seq) ||
            (b->shape.keeps_position && flight->batch.seq_last > b->position.seq)) {
            break;
        }
        flight_count(b, flight, columns);
        b->seq_cursor = flight->batch.seq_last;
        b->records_tail = flight->records_end;
        b->bytes.tail = flight->bytes_end;
        if (flight->ends_view) {
            mr_view_unpin(&flight->view);
        }
        if (flight->batch.record_count != 0 && b->isolate_chunk < FLIGHT_RECORDS_MAX) {
            b->isolate_chunk *= 2; /* means something only while isolating */
        }
        b->flight_tail += 1;
        flight_check(b);
    }
    if (b->seq_cursor == before) {
        return false;
    }
    if (b->seq_cursor >= b->isolate_until) {
        b->isolate_until = 0;
    }
    if (MR_UNLIKELY(!mr_cursor_settle(b->cursor, b->seq_cursor, columns))) {
        say_unbalanced(b);
    }
    if (MR_UNLIKELY(b->seq_cursor >= b->seq_epoch_end)) {
        mr_group_settled(b);
    }
    return true;
}

bool mr_flight_settled(const struct mr_bridge *b)
{
    for (uint64_t i = b->flight_tail; i != b->flight_head; i++) {
        const struct flight *flight = &b->flights[i & (FLIGHTS_MAX - 1)];
        if (flight->submitted && flight_left(flight) != 0) {
            return false;
        }
    }
    return true;
}

/* Forget all spans, settled or not, and the view being filled from.  The sink must
 * hold nothing any more.  Rejects for which there was no room in the dead letters lie in
 * spans that are forgotten; who offers their records again hears of them again.
 */
void mr_flight_drop_all(struct mr_bridge *b)
{
    mr_mutex_lock(&b->mutex);
    b->reject_count = 0;
    mr_mutex_unlock(&b->mutex);
    for (; b->flight_tail != b->flight_head; b->flight_tail++) {
        struct flight *flight = mr_flight_at(b, b->flight_tail);
        if (flight->ends_view) {
            mr_view_unpin(&flight->view);
        }
    }
    if (b->view_open) {
        mr_view_unpin(&b->view);
        b->view_open = false;
    }
    b->records_tail = b->records_head;
    b->bytes.tail = b->bytes.head;
    b->seq_done = b->seq_cursor;
    flight_check(b);
}
