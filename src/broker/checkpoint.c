/* checkpoint.c - hand over to the store what has changed.
 *
 * DESIGN
 *
 * State in memory is always that of all records so far.  So a checkpoint is: note what
 * differs from the store (a delta), remember the seq of the last record, P, and go on.
 * When the journal is durable up to P the delta is written, in a thread of the store;
 * when that is done the cursor `$sessions` moves to P.  At most one delta is under way.
 *
 * Rows that go are noted when they go; rows that come are noted at the checkpoint, so
 * that what came and went in between costs nothing.  A queue's new deliveries are at its
 * end, those the store has in front, so noting them means walking back from the end.
 *
 * When nothing has changed the store is as good as it was, and only the cursor moves.  It says
 * with which state of the store, for the folder may be replaced by an older copy (restore.c).
 *
 * INVARIANTS
 *
 *   (1) A delta is sealed only when no settle waits for the journal: else memory would be
 *       ahead of the records.  But not while the journal has no room: the checkpoint may be
 *       what makes some.  A settle that the delta is ahead of does no harm: the client had
 *       answered, and the record, when it comes, finds nothing more to settle.
 *   (2) A row is deleted in the delta in which it was put or in a later one.
 */
#include "broker/foreign_internal.h"
#include "broker/keep_internal.h"

#include "os/clock.h"

enum {
    CHECKPOINT_EVERY_MS = 2000,
    LAST_PATIENCE_MS = 200,         /* at a clean stop */
    LOOK_AGAIN_NS = 1000000,        /* ... at a write that may fail, of which no wake tells */
    CHECKPOINT_EMPTY_MS = 200,      /* only the cursor moves: a small journal needs it soon */
    CHECKPOINT_AT_QUEUED = 50000,   /* new deliveries: some 5 ms of noting */
    CHECKPOINT_AT_BYTES = 16 << 20, /* of messages that only memory and journal have */
    CHECKPOINT_AT_DELTA = 16 << 20,
    BESIDE_BYTES = 16 << 10,
};

/* ---- rows that go ---- */

void delivery_forget(struct mr_shard *shard, const struct keep *keep,
                     const struct delivery *delivery)
{
    uint8_t key[DELIVERY_KEY_BYTES];

    if (delivery->stored && shard->store == NULL) {
        return; /* the shard is closing, the rows stay */
    }
    if (delivery->stored) {
        delivery_key(keep, delivery->ordinal, key);
        mr_store_delete(shard->store, MR_STORE_DELIVERIES, mr_span_make(key, sizeof(key)));
    } else {
        shard->unstored -= 1;
    }
}

void sub_forget(struct mr_shard *shard, const struct keep *keep, const struct mr_sub *sub)
{
    uint8_t key[SUB_KEY_BYTES];

    if (shard->store != NULL) {
        sub_key(keep, sub->row, key);
        mr_store_delete(shard->store, MR_STORE_SUBSCRIPTIONS, mr_span_make(key, sizeof(key)));
    }
}

void checkpoint_forget(struct mr_shard *shard, struct keep *keep)
{
    uint8_t key[SESSION_KEY_BYTES];

    /* One that could not begin has no rows: to delete them would be a change, and bring on a
     * checkpoint, which wakes the shard, which tries again, for as long as there is no room.
     */
    if (shard->store == NULL || keep->number == KEEP_NOT_BEGUN) {
        return;
    }
    for (const struct mr_sub *sub = keep->session->subs; sub != NULL; sub = sub->owner_next) {
        sub_forget(shard, keep, sub);
    }
    session_key(keep, key);
    mr_store_delete(shard->store, MR_STORE_SESSIONS, mr_span_make(key, sizeof(key)));
}

/* ---- rows that come ---- */

void delivery_write(struct mr_shard *shard, const struct keep *keep, struct delivery *delivery)
{
    row_delivery_put(shard->store, keep, delivery);
    if (!delivery->stored) {
        delivery->stored = true;
        shard->unstored -= 1;
    }
}

static void deliveries_write(struct mr_shard *shard, struct keep *keep)
{
    uint32_t first = keep->count;

    while (first > 0) {
        const struct delivery *delivery = queue_at(keep, first - 1);
        if (delivery->stored && delivery->state != DELIVERY_DONE) {
            break;
        }
        first -= 1;
    }
    for (; first < keep->count; first++) {
        struct delivery *delivery = queue_at(keep, first);
        if (delivery->state != DELIVERY_DONE && !delivery->stored) {
            delivery_write(shard, keep, delivery);
        }
    }
}

static void subs_write(struct mr_shard *shard, const struct keep *keep)
{
    for (struct mr_sub *sub = keep->session->subs; sub != NULL; sub = sub->owner_next) {
        if (!sub->is_stored) {
            row_sub_put(shard->store, keep, sub);
            sub->is_stored = true;
        }
    }
}

static void dirty_write(struct mr_shard *shard)
{
    struct keep *keep;

    while ((keep = shard->dirty) != NULL) {
        shard->dirty = keep->dirty_next;
        keep->dirty = false;
        if (keep->session != NULL) {
            row_session_put(shard->store, keep);
            subs_write(shard, keep);
            deliveries_write(shard, keep);
        }
        keep_let_go(shard, keep);
    }
}

struct vector_now {
    const struct mr_shard *shard;
    uint64_t seq;
};

static uint64_t vector_seq(void *arg, uint32_t lane)
{
    const struct vector_now *now = arg;

    return lane == now->shard->index ? now->seq : now->shard->foreign[lane].pos;
}

static void vector_write(struct mr_shard *shard, uint64_t seq)
{
    const struct mr_broker *broker = shard->broker;

    shard->merges_new = false;
    struct vector vector = {.journal = *mr_journal_identity(broker->run.journal),
                            .home = shard->index,
                            .lanes = broker->shard_count,
                            .epoch = broker->epoch,
                            .route = shard->route.pos_sealed < seq ? shard->route.pos_sealed : seq,
                            .overlap = shard->merges ? OVERLAP_MERGED : OVERLAP_EACH,
                            .ended_count = shard->ended_count};

    for (uint32_t i = 0; i < shard->ended_count; i++) {
        vector.ended[i] = (struct ended_pos){.lane = shard->ended[i].lane,
                                             .seq = shard->ended[i].route.pos_sealed};
    }
    row_vector_put(shard->store, &vector, vector_seq,
                   &(struct vector_now){.shard = shard, .seq = seq});
    if (shard->steps_new) {
        row_steps_put(shard->store, shard->steps);
        shard->steps_new = false;
    }
}

/* ---- when ---- */

static bool nothing_changed(const struct mr_shard *shard)
{
    return !shard->merges_new && !shard->steps_new && shard->dirty == NULL &&
           shard->fresh == NULL && shard->cleared_new == NULL &&
           mr_store_gathered(shard->store) == 0;
}

/* Close the delta: everything up to the last record is in it. */
static void checkpoint_seal(struct mr_shard *shard)
{
    shard->checkpoint_seq = mr_lane_next_seq(shard->lane) - 1;
    shard->checkpoint_ns = shard->now_ns;
    shard->checkpoint_empty = nothing_changed(shard);
    shard->checkpoint = CHECKPOINT_SEALED;
    foreign_sealed(shard);
    share_lanes_sealed(shard);
    if (shard->checkpoint_empty) {
        return;
    }
    kept_write_fresh(shard);
    cleared_write(shard);
    dirty_write(shard);
    vector_write(shard, shard->checkpoint_seq);
    mr_store_seal(shard->store);
}

/* Note everything up to `seq` and have it written, whatever else is to be done. */
static void checkpoint_begin(struct mr_shard *shard, uint64_t seq)
{
    shard->checkpoint_seq = seq;
    share_lanes_sealed(shard);
    kept_write_fresh(shard);
    cleared_write(shard);
    dirty_write(shard);
    vector_write(shard, seq);
    mr_store_seal(shard->store);
    mr_store_submit(shard->store);
}

/* The store has it. */
static void checkpoint_written(struct mr_shard *shard)
{
    kept_written(shard);
    shard->store_seq = shard->checkpoint_seq;
}

void checkpoint_now(struct mr_shard *shard, uint64_t seq)
{
    checkpoint_begin(shard, seq);
    while (!mr_store_take_written(shard->store)) {
        (void)mr_wake_wait(&shard->wake, -1);
    }
    checkpoint_written(shard);
}

uint64_t checkpoint_at_bytes(const struct mr_shard *shard)
{
    uint64_t share = shard->pool.limit_bytes / 16;

    return share < CHECKPOINT_AT_BYTES ? share : CHECKPOINT_AT_BYTES;
}

bool checkpoint_is_behind(const struct mr_shard *shard, const struct mr_message *message)
{
    size_t wanted = message_bytes(message);
    size_t bytes = 2 * wanted + BESIDE_BYTES;
    uint64_t unwritten = shard->fresh_bytes + shard->writing_bytes;

    /* The pool rounds up, at most twofold; and what else a message takes on its way.  If what
     * is not written yet is not what has the memory, waiting would help nobody.
     */
    if (MR_LIKELY(deliver_has_memory(shard, bytes)) || shard->store == NULL || shard->restoring) {
        return false;
    }
    uint64_t most = kept_has_memory(shard, bytes) ? checkpoint_at_bytes(shard) : 0;
    return unwritten > most && !mr_store_is_failing(shard->store);
}

/* Store or journal have it: the cursors may move. */
static void checkpoint_moved(struct mr_shard *shard)
{
    uint64_t seq = shard->route.pos_sealed < shard->checkpoint_seq ? shard->route.pos_sealed
                                                                   : shard->checkpoint_seq;

    shard->checkpoint = CHECKPOINT_NONE;
    /* The first group since then is given what is behind it, and may not be that far yet. */
    if (seq > mr_cursor_get(shard->cursor)) {
        mr_cursor_set_with(shard->cursor, seq, shard->store_seq);
    }
    foreign_checkpointed(shard);
    share_lanes_checkpointed(shard);
}

static void checkpoint_end(struct mr_shard *shard)
{
    checkpoint_written(shard);
    checkpoint_moved(shard);
}

/* The same at the end.  Nobody waits for a disk that fails: the journal has all of it, for the next
 * start.
 */
static void checkpoint_now_or_never(struct mr_shard *shard, uint64_t seq)
{
    checkpoint_begin(shard, seq);
    while (!mr_store_take_written(shard->store)) {
        if (mr_store_is_failing(shard->store)) {
            return;
        }
        (void)mr_wake_wait(&shard->wake, LOOK_AGAIN_NS);
    }
    checkpoint_written(shard);
}

void checkpoint_last(struct mr_shard *shard)
{
    int64_t end_ns = mr_clock_mono_ns() + LAST_PATIENCE_MS * INT64_C(1000000);
    uint64_t seq = mr_lane_next_seq(shard->lane) - 1;

    if (shard->store == NULL || shard->settling != NULL) {
        return;
    }
    while (mr_lane_durable(shard->lane) < seq || shard->checkpoint == CHECKPOINT_WRITING) {
        if (mr_clock_mono_ns() > end_ns || mr_lane_state(shard->lane) == MR_LANE_FAILED) {
            return; /* the journal has it, for the next start */
        }
        (void)mr_lane_submit(shard->lane, mr_clock_mono_ns());
        (void)mr_wake_wait(&shard->wake, LOOK_AGAIN_NS);
        if (shard->checkpoint == CHECKPOINT_WRITING && mr_store_take_written(shard->store)) {
            checkpoint_end(shard);
        }
        checkpoint_durable(shard, mr_lane_durable(shard->lane));
    }
    if (shard->checkpoint == CHECKPOINT_NONE && !nothing_changed(shard)) {
        checkpoint_now_or_never(shard, seq);
    }
}

static bool checkpoint_is_due(const struct mr_shard *shard)
{
    uint32_t given_ms = shard->broker->run.checkpoint_ms;
    int64_t every_ms = nothing_changed(shard) ? CHECKPOINT_EMPTY_MS
                       : given_ms != 0        ? given_ms
                                              : CHECKPOINT_EVERY_MS;

    return shard->now_ns - shard->checkpoint_ns > every_ms * INT64_C(1000000) || shard->stalled ||
           shard->steps_new || /* the times in the journal cannot be told without them */
           shard->unstored > CHECKPOINT_AT_QUEUED ||
           shard->fresh_bytes > checkpoint_at_bytes(shard) ||
           mr_store_gathered(shard->store) > CHECKPOINT_AT_DELTA;
}

bool checkpoint_pends(const struct mr_shard *shard)
{
    return shard->store != NULL &&
           (shard->checkpoint == CHECKPOINT_SEALED || !nothing_changed(shard) ||
            (shard->checkpoint == CHECKPOINT_NONE &&
             mr_lane_next_seq(shard->lane) - 1 != mr_cursor_get(shard->cursor)));
}

void checkpoint_turn(struct mr_shard *shard)
{
    if (shard->store == NULL) {
        return;
    }
    if (shard->checkpoint == CHECKPOINT_WRITING && mr_store_take_written(shard->store)) {
        checkpoint_end(shard);
        if (shard->stalled) {
            mr_wake_ring(&shard->wake); /* there is memory again for those who wait */
        }
    }
    if (shard->checkpoint == CHECKPOINT_NONE &&
        (shard->settling == NULL || shard->stalled) && /* (1) */
        checkpoint_is_due(shard) &&
        (!nothing_changed(shard) || foreign_has_moved(shard) ||
         mr_lane_next_seq(shard->lane) - 1 != mr_cursor_get(shard->cursor))) {
        checkpoint_seal(shard);
        checkpoint_durable(shard, shard->seq_released);
    }
}

void checkpoint_durable(struct mr_shard *shard, uint64_t durable_seq)
{
    if (shard->checkpoint != CHECKPOINT_SEALED || durable_seq < shard->checkpoint_seq) {
        return;
    }
    if (shard->checkpoint_empty) {
        checkpoint_moved(shard);
        return;
    }
    shard->checkpoint = CHECKPOINT_WRITING;
    mr_store_submit(shard->store);
}
