/* append.c - the owner's side of a lane: append, seal, hand over.
 *
 * DESIGN
 *
 * The fast path is: is there room in the open batch, encode, count.  Everything
 * else (a new batch, block or segment) is append_make_room(), which either brings
 * all of it or changes nothing that matters: FULL leaves no half-made record.
 * Room is asked for with an upper bound of the record's size, because the exact
 * size depends on the segment's names, and the segment on the room.
 *
 * Where events are refused for lack of room (MR_WHEN_FULL_REFUSE), what speaks for a session
 * still finds some: without a next segment, events end `reserve_bytes` before the end of this
 * one.  A record of a session that goes behind that gets room for itself alone, so that the fast
 * path of the next event cannot follow it there.
 *
 * Events are not the lane's only records: those who read it for sessions append what they are owed.
 * So events wait when these have much to read (owed.c).
 *
 * Sealing hands a batch to the commit thread.  It happens when the commit thread
 * is free and it is time (mr_lane_submit; gather.c says when), or when the block is full.
 *
 * INVARIANTS (append_check)
 *
 *   (1) batch != NULL  =>  batch < at <= limit, all inside block, 8-aligned start.
 *   (2) seq_next - batch_seq = records of the open batch.
 *   (3) at - block->memory + block->pos is the segment position of the next byte.
 */
#include "journal/control.h"
#include "journal/journal_internal.h"

#include "os/clock.h"

static void append_check(const struct mr_lane *lane)
{
    if (lane->batch != NULL) {
        mr_assert(lane->batch >= lane->block->memory);
        mr_assert(lane->at > lane->batch && lane->at <= lane->limit);
        mr_assert(lane->limit <= lane->block->memory + lane->block->capacity);
        mr_assert(lane->seq_next > lane->batch_seq);
    }
}

/* Where the next batch would begin. */
static uint64_t append_pos(const struct mr_lane *lane)
{
    return lane->block->pos + (uint64_t)(lane->at - lane->block->memory);
}

void mr_lane_seal(struct mr_lane *lane)
{
    uint32_t length = (uint32_t)(lane->at - lane->batch);
    uint32_t count = (uint32_t)(lane->seq_next - lane->batch_seq);
    uint64_t payload_before = atomic_load_explicit(&lane->payload_bytes_seen, memory_order_relaxed);

    append_check(lane);
    while ((uintptr_t)(lane->at - lane->block->memory) % MR_BATCH_ALIGN != 0) {
        *lane->at++ = 0;
    }

    mr_mutex_lock(&lane->mutex);
    mr_assert(lane->queue_head - lane->queue_tail < lane->queue_size);
    lane->queue[lane->queue_head % lane->queue_size] = (struct sealed){
        .block = lane->block,
        .segment = lane->segment,
        .at = lane->batch,
        .pos = lane->block->pos + (uint64_t)(lane->batch - lane->block->memory),
        .header = {.seq_first = lane->batch_seq,
                   .time_base_us = lane->time_base_us,
                   .byte_length = length,
                   .record_count = count,
                   .salt = lane->segment->header.salt,
                   .epoch = lane->segment->header.epoch},
    };
    lane->queue_head += 1;
    atomic_store_explicit(&lane->busy, true, memory_order_relaxed);
    mr_mutex_unlock(&lane->mutex);

    lane->batch = NULL;
    mr_owed_mark(lane, lane->seq_next);
    mr_gather_sealed(&lane->gather, count);
    atomic_store_explicit(&lane->seq_next_seen, lane->seq_next, memory_order_relaxed);
    atomic_store_explicit(&lane->payload_bytes_seen, lane->payload_bytes, memory_order_relaxed);
    mr_metric_add(lane->metrics.appended_records, count);
    mr_metric_add(lane->metrics.appended_bytes, lane->payload_bytes - payload_before);
    mr_metric_set(lane->metrics.next_seq, (int64_t)lane->seq_next);
    mr_wake_ring(&lane->commit_wake);
}

static enum mr_err append_blocked(struct mr_lane *lane, enum blocked by)
{
    atomic_store_explicit(&lane->blocked, by, memory_order_relaxed);
    return MR_ERR_FULL;
}

/* Go on in the spare.  The block of the old segment is left at once, so that a
 * missing new one cannot tempt the next append into it.
 */
static enum mr_err append_roll(struct mr_lane *lane)
{
    struct segment *spare;

    mr_mutex_lock(&lane->mutex);
    spare = lane->spare;
    if (spare != NULL) {
        int64_t now_us = mr_clock_wall_us();

        lane->spare = NULL;
        atomic_store_explicit(&lane->spare_state, SPARE_PREPARING, memory_order_relaxed);
        spare->header.seq_first = lane->seq_next;
        spare->header.epoch = lane->journal->epoch; /* it may be left from an earlier one */
        spare->header.created_us = now_us;
        spare->next = NULL;
        if (lane->newest != NULL) {
            if (lane->segment != NULL) {
                lane->newest->seq_end = lane->seq_next;
                lane->newest->closed_us = now_us;
            }
            lane->newest->next = spare;
        } else {
            lane->oldest = spare;
        }
        lane->newest = spare;
        lane->segment = spare;
        if (lane->block != NULL) {
            lane->block->seq_end = lane->seq_next;
            lane->block = NULL;
        }
    }
    mr_mutex_unlock(&lane->mutex);
    enum mr_err err = spare == NULL ? append_blocked(lane, BLOCKED_BY_SEGMENT) : MR_OK;
    mr_wake_ring(&lane->journal->keeper_wake); /* behind that: the keeper goes by it */
    if (err != MR_OK) {
        return err;
    }
    mr_writer_names_reset(&lane->names);
    return MR_OK;
}

/* Room for one more sealed batch, and for the one that close may add.  Blocks alone do
 * not bound the queue: while the disk hangs, a large record that finds no block seals
 * the batch each time, and a small one opens the next in the same block.
 */
static bool append_may_seal(struct mr_lane *lane)
{
    mr_mutex_lock(&lane->mutex);
    bool may = lane->queue_head - lane->queue_tail + 1 < lane->queue_size;
    mr_mutex_unlock(&lane->mutex);
    return may;
}

/* What a session needs to go on: not what it is owed, which may be as large as events are. */
static bool is_of_session(const struct mr_record_raw *record)
{
    return record->type == MR_RECORD_PUBREL ||
           (record->type == MR_RECORD_SESSION && record->body.len != 0 &&
            record->body.at[0] != MR_CONTROL_COPY && record->body.at[0] != MR_CONTROL_GIVE);
}

/* Where `record` must end in the segment that is being written. */
static uint64_t append_end(const struct mr_lane *lane, bool reserved)
{
    uint64_t end = lane->segment->header.segment_bytes;
    bool last = atomic_load_explicit(&lane->spare_state, memory_order_relaxed) != SPARE_READY;

    return last && !reserved ? end - lane->reserve_bytes : end;
}

/* How far the block may be written to now. */
static uint8_t *append_limit(const struct mr_lane *lane, uint64_t end)
{
    uint64_t left = end > lane->block->pos ? end - lane->block->pos : 0;

    return lane->block->memory + (left < lane->block->capacity ? left : lane->block->capacity);
}

/* Afterwards a batch is open with room for `bound` bytes more. */
static enum mr_err append_make_room(struct mr_lane *lane, const struct mr_record_raw *record,
                                    size_t bound)
{
    size_t bytes = MR_BATCH_HEADER_BYTES + bound + MR_BATCH_ALIGN;
    bool reserved = lane->reserve_bytes != 0 && is_of_session(record);
    bool fits = false;

    if (lane->batch != NULL) {
        if (!append_may_seal(lane)) {
            return append_blocked(lane, BLOCKED_BY_BLOCKS);
        }
        mr_lane_seal(lane);
    }
    if (lane->block != NULL) {
        lane->limit = append_limit(lane, append_end(lane, reserved));
        fits = lane->limit > lane->at && (size_t)(lane->limit - lane->at) >= bytes;
    }
    if (!fits) {
        uint64_t pos = lane->block == NULL ? MR_SEGMENT_HEADER_BYTES : append_pos(lane);

        if (lane->segment == NULL || pos + bytes > append_end(lane, reserved)) {
            enum mr_err err = append_roll(lane);
            if (err != MR_OK) {
                return err;
            }
            pos = MR_SEGMENT_HEADER_BYTES;
        }
        if (mr_block_take(lane, bytes, pos) != MR_OK) {
            return append_blocked(lane, BLOCKED_BY_BLOCKS);
        }
        lane->at = lane->block->memory;
        lane->limit = append_limit(lane, append_end(lane, reserved));
    }
    if (lane->at + bytes > append_limit(lane, append_end(lane, false))) {
        lane->limit = lane->at + bytes; /* it alone, or the first of its segment */
    }
    if (!reserved && atomic_load_explicit(&lane->blocked, memory_order_relaxed) != BLOCKED_NOT) {
        atomic_store_explicit(&lane->blocked, BLOCKED_NOT, memory_order_relaxed);
    }
    lane->batch = lane->at;
    lane->at += MR_BATCH_HEADER_BYTES;
    lane->time_base_us = record->received_us;
    lane->batch_seq = lane->seq_next;
    return MR_OK;
}

/* So much is owed to readers that it has to be looked whether another event may be appended. */
static inline bool append_is_to_look(const struct mr_lane *lane)
{
    return lane->owed.bytes >= atomic_load_explicit(&lane->owed.stop, memory_order_relaxed);
}

static enum mr_err append_look(struct mr_lane *lane)
{
    if (!mr_owed_has_room(lane)) {
        return append_blocked(lane, BLOCKED_BY_READER);
    }
    if (atomic_load_explicit(&lane->blocked, memory_order_relaxed) == BLOCKED_BY_READER) {
        atomic_store_explicit(&lane->blocked, BLOCKED_NOT, memory_order_relaxed);
    }
    return MR_OK;
}

/* No record is larger than this, whatever its names become. */
static inline size_t record_bound(const struct mr_record_raw *record)
{
    size_t bound = RECORD_OVERHEAD_MAX + record->payload.len + record->properties.len +
                   record->client.len + record->username.len + record->topic.len;

    if (MR_UNLIKELY(record->type != MR_RECORD_EVENT)) {
        bound += record->body.len + record->dead_bridge.len + record->dead_reason.len;
    }
    return bound;
}

enum mr_err mr_lane_append(struct mr_lane *lane, struct mr_record_raw *record,
                           struct mr_name_ref *name, struct mr_appended *out)
{
    size_t bound = record_bound(record);

    if (MR_UNLIKELY(atomic_load_explicit(&lane->failed, memory_order_relaxed))) {
        return MR_ERR_IO;
    }
    if (MR_UNLIKELY(bound > lane->record_bytes_max + RECORD_OVERHEAD_MAX)) {
        return MR_ERR_REJECT;
    }
    if (MR_UNLIKELY(append_is_to_look(lane)) && record->type == MR_RECORD_EVENT) {
        enum mr_err err = append_look(lane);
        if (err != MR_OK) {
            return err;
        }
    }
    if (MR_UNLIKELY(lane->batch == NULL ||
                    (size_t)(lane->limit - lane->at) < bound + MR_BATCH_ALIGN)) {
        enum mr_err err = append_make_room(lane, record, bound);
        if (err != MR_OK) {
            return err;
        }
    }
    lane->owed.bytes += bound;
    if (MR_LIKELY(record->type == MR_RECORD_EVENT)) {
        if (mr_writer_names_resolve(&lane->names, record, name)) {
            atomic_store_explicit(&lane->block->has_names, 1, memory_order_relaxed);
        }
    } else {
        record->naming = MR_NAMING_INLINE;
    }
    lane->at = mr_record_put(lane->at, record, lane->time_base_us, &out->payload);
    lane->payload_bytes += record->payload.len;
    out->seq = lane->seq_next++;
    return MR_OK;
}

uint64_t mr_lane_append_again(struct mr_lane *lane, const struct mr_event_again *again,
                              struct mr_span payload)
{
    size_t bound = RECORD_OVERHEAD_MAX + payload.len + again->names_bytes;

    if (MR_UNLIKELY(lane->batch == NULL || again->name->generation != lane->names.generation ||
                    (size_t)(lane->limit - lane->at) < bound + MR_BATCH_ALIGN ||
                    bound > lane->record_bytes_max + RECORD_OVERHEAD_MAX ||
                    append_is_to_look(lane) ||
                    atomic_load_explicit(&lane->failed, memory_order_relaxed))) {
        return 0;
    }
    lane->at = mr_record_put_again(lane->at, again->name->id, again->qos,
                                   again->received_us - lane->time_base_us, payload);
    lane->owed.bytes += bound;
    lane->payload_bytes += payload.len;
    return lane->seq_next++;
}

uint64_t mr_lane_next_seq(const struct mr_lane *lane)
{
    return lane->seq_next;
}

int64_t mr_lane_submit(struct mr_lane *lane, int64_t now_ns)
{
    bool busy = atomic_load_explicit(&lane->busy, memory_order_acquire);

    mr_gather_look(&lane->gather, lane->seq_next, busy, now_ns);
    if (lane->batch == NULL || busy) {
        return -1;
    }
    int64_t limit_ns = lane->journal->commit_delay_ns_max;
    int64_t left_ns = mr_gather_left_ns(&lane->gather, limit_ns, now_ns);
    if (left_ns > 0) {
        return left_ns;
    }
    mr_gather_handed(&lane->gather, limit_ns, now_ns);
    mr_lane_seal(lane);
    return -1;
}

int64_t mr_lane_nap_ns(struct mr_lane *lane)
{
    int64_t limit_ns = lane->journal->commit_delay_ns_max;

    if (!mr_gather_naps(&lane->gather, limit_ns)) {
        return 0;
    }
    return mr_gather_nap_ns(&lane->gather, limit_ns, mr_clock_mono_ns());
}

void mr_lane_release(struct mr_lane *lane, uint64_t seq)
{
    mr_assert(seq < lane->seq_next);
    if (seq > atomic_load_explicit(&lane->released_seq, memory_order_relaxed)) {
        atomic_store_explicit(&lane->released_seq, seq, memory_order_relaxed);
    }
}
