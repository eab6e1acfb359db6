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
 * When nothing has changed the store is as good as it was, and only the cursor moves.
 *
 * INVARIANTS
 *
 *   (1) A delta is sealed only when no settle waits for the journal: else memory would be
 *       ahead of the records.  But not while the journal has no room: the checkpoint may be
 *       what makes some.  A settle that the delta is ahead of does no harm: the client had
 *       answered, and the record, when it comes, finds nothing more to settle.
 *   (2) A row is deleted in the delta in which it was put or in a later one.
 */
#include "broker/keep_internal.h"

#include "os/clock.h"

enum {
    CHECKPOINT_EVERY_MS = 2000,
    LAST_PATIENCE_MS = 200,         /* at a clean stop */
    CHECKPOINT_EMPTY_MS = 200,      /* only the cursor moves: a small journal needs it soon */
    CHECKPOINT_AT_QUEUED = 50000,   /* new deliveries: some 5 ms of noting */
    CHECKPOINT_AT_BYTES = 16 << 20, /* of messages that only memory and journal have */
    CHECKPOINT_AT_DELTA = 16 << 20,
};

static void put_be64(uint8_t *at, uint64_t v)
{
    mr_put_be32(at, (uint32_t)(v >> 32));
    mr_put_be32(at + 4, (uint32_t)v);
}

void session_key(const struct mr_shard *shard, const struct keep *keep,
                 uint8_t out[SESSION_KEY_BYTES])
{
    mr_put_be32(out, shard->index);
    put_be64(out + 4, keep->number);
}

static void delivery_key(const struct mr_shard *shard, const struct keep *keep, uint64_t ordinal,
                         uint8_t out[DELIVERY_KEY_BYTES])
{
    session_key(shard, keep, out);
    put_be64(out + SESSION_KEY_BYTES, ordinal);
}

static void sub_key(const struct mr_shard *shard, const struct keep *keep, uint32_t row,
                    uint8_t out[SUB_KEY_BYTES])
{
    session_key(shard, keep, out);
    mr_put_be32(out + SESSION_KEY_BYTES, row);
}

/* ---- rows that go ---- */

void delivery_forget(struct mr_shard *shard, const struct keep *keep,
                     const struct delivery *delivery)
{
    uint8_t key[DELIVERY_KEY_BYTES];

    if (delivery->stored && shard->store == NULL) {
        return; /* the shard is closing, the rows stay */
    }
    if (delivery->stored) {
        delivery_key(shard, keep, delivery->ordinal, key);
        mr_store_delete(shard->store, MR_STORE_DELIVERIES, mr_span_make(key, sizeof(key)));
    } else {
        shard->unstored -= 1;
    }
}

void sub_forget(struct mr_shard *shard, const struct keep *keep, const struct mr_sub *sub)
{
    uint8_t key[SUB_KEY_BYTES];

    if (shard->store != NULL) {
        sub_key(shard, keep, sub->row, key);
        mr_store_delete(shard->store, MR_STORE_SUBSCRIPTIONS, mr_span_make(key, sizeof(key)));
    }
}

void checkpoint_forget(struct mr_shard *shard, struct keep *keep)
{
    uint8_t key[SESSION_KEY_BYTES];

    if (shard->store == NULL) {
        return;
    }
    for (const struct mr_sub *sub = keep->session->subs; sub != NULL; sub = sub->owner_next) {
        sub_forget(shard, keep, sub);
    }
    session_key(shard, keep, key);
    mr_store_delete(shard->store, MR_STORE_SESSIONS, mr_span_make(key, sizeof(key)));
}

/* ---- rows that come ---- */

void delivery_write(struct mr_shard *shard, const struct keep *keep, struct delivery *delivery)
{
    uint8_t key[DELIVERY_KEY_BYTES];

    delivery_key(shard, keep, delivery->ordinal, key);
    uint8_t *at = mr_store_put_room(shard->store, MR_STORE_DELIVERIES,
                                    mr_span_make(key, sizeof(key)), DELIVERY_ROW_BYTES);
    mr_put_u32(at, delivery->kept->lane);
    mr_put_u64(at + 4, delivery->kept->seq);
    mr_put_u32(at + 12, delivery->subscription_id);
    mr_put_u32(at + 16, delivery->kept->bytes);
    at[20] = (uint8_t)(delivery->qos | (delivery->retain ? ROW_RETAIN : 0) |
                       (delivery->state == DELIVERY_RELEASED ? ROW_RELEASED : 0));
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
        uint8_t key[SUB_KEY_BYTES];

        if (sub->is_stored) {
            continue;
        }
        sub_key(shard, keep, sub->row, key);
        size_t len = mr_subtree_filter_len(sub);
        uint8_t *at = mr_store_put_room(shard->store, MR_STORE_SUBSCRIPTIONS,
                                        mr_span_make(key, sizeof(key)), 5 + len);
        at[0] = (uint8_t)(sub->qos | (sub->no_local ? ROW_NO_LOCAL : 0) |
                          (sub->retain_as_published ? ROW_RETAIN_AS_PUBLISHED : 0));
        mr_put_u32(at + 1, sub->subscription_id);
        mr_subtree_filter_put(sub, at + 5);
        sub->is_stored = true;
    }
}

static size_t lengthed(struct mr_span span)
{
    return mr_varint_size(span.len) + span.len;
}

static uint8_t *put_lengthed(uint8_t *at, struct mr_span span)
{
    at = mr_put_varint(at, span.len);
    if (span.len != 0) {
        memcpy(at, span.at, span.len);
    }
    return at + span.len;
}

/* Fixed: ordinal_next, ordinal_sent, closed (u64 each), expiry, delay, sub_next (u32),
 * window (u16), flags (u8); then client, user, ids, and the will.
 */
static void session_write(struct mr_shard *shard, struct keep *keep)
{
    struct session *session = keep->session;
    const struct mr_message *will = session->will == NULL ? NULL : &session->will->message;
    struct mr_span ids = mr_span_make(session->inbound.ids, session->inbound.count * 2);
    size_t len = SESSION_ROW_FIXED + lengthed(session_id(session)) +
                 lengthed(session_username(session)) + lengthed(ids);
    uint8_t key[SESSION_KEY_BYTES];

    if (will != NULL) {
        len += 1 + lengthed(will->topic) + lengthed(will->props) + lengthed(will->payload) +
               lengthed(will->username);
    }
    session_key(shard, keep, key);
    uint8_t *at =
        mr_store_put_room(shard->store, MR_STORE_SESSIONS, mr_span_make(key, sizeof(key)), len);
    mr_put_u64(at, keep->ordinal_next);
    mr_put_u64(at + 8, keep->ordinal_sent);
    mr_put_u64(at + 16, (uint64_t)keep->closed_us);
    mr_put_u32(at + 24, keep->expiry_s);
    mr_put_u32(at + 28, keep->will_delay_s);
    mr_put_u32(at + 32, keep->sub_next);
    mr_put_u16(at + 36, keep->window);
    at[38] = will != NULL;
    at = put_lengthed(at + SESSION_ROW_FIXED, session_id(session));
    at = put_lengthed(at, session_username(session));
    at = put_lengthed(at, ids);
    if (will != NULL) {
        *at++ = (uint8_t)(will->qos | (will->retain ? ROW_RETAIN : 0));
        at = put_lengthed(at, will->topic);
        at = put_lengthed(at, will->props);
        at = put_lengthed(at, will->payload);
        (void)put_lengthed(at, will->username);
    }
}

static void dirty_write(struct mr_shard *shard)
{
    struct keep *keep;

    while ((keep = shard->dirty) != NULL) {
        shard->dirty = keep->dirty_next;
        keep->dirty = false;
        if (keep->session != NULL) {
            session_write(shard, keep);
            subs_write(shard, keep);
            deliveries_write(shard, keep);
        }
        keep_let_go(shard, keep);
    }
}

static void vector_write(struct mr_shard *shard, uint64_t seq)
{
    const struct mr_journal_id *id = mr_journal_identity(shard->broker->run.journal);
    uint8_t key[4];
    uint32_t lanes = shard->foreign == NULL ? 1 : shard->broker->shard_count;

    mr_put_be32(key, shard->index);
    uint8_t *at = mr_store_put_room(shard->store, MR_STORE_VECTOR, mr_span_make(key, sizeof(key)),
                                    VECTOR_ROW_ID + (size_t)lanes * VECTOR_ROW_LANE);
    memcpy(at, id->bytes, sizeof(id->bytes));
    at += VECTOR_ROW_ID;
    for (uint32_t i = 0; i < lanes; i++) {
        uint32_t lane = lanes == 1 ? shard->index : i;
        mr_put_u32(at, lane);
        mr_put_u64(at + 4, lane == shard->index ? seq : shard->foreign[lane].pos);
        at += VECTOR_ROW_LANE;
    }
}

/* ---- when ---- */

static bool nothing_changed(const struct mr_shard *shard)
{
    return shard->dirty == NULL && shard->fresh == NULL && mr_store_gathered(shard->store) == 0;
}

/* Close the delta: everything up to the last record is in it. */
static void checkpoint_seal(struct mr_shard *shard)
{
    shard->checkpoint_seq = mr_lane_next_seq(shard->lane) - 1;
    shard->checkpoint_ns = shard->now_ns;
    shard->checkpoint_empty = nothing_changed(shard);
    shard->checkpoint = CHECKPOINT_SEALED;
    foreign_sealed(shard);
    if (shard->checkpoint_empty) {
        return;
    }
    kept_write_fresh(shard);
    dirty_write(shard);
    vector_write(shard, shard->checkpoint_seq);
    mr_store_seal(shard->store);
}

void checkpoint_now(struct mr_shard *shard, uint64_t seq)
{
    shard->checkpoint_seq = seq;
    kept_write_fresh(shard);
    dirty_write(shard);
    vector_write(shard, seq);
    mr_store_seal(shard->store);
    mr_store_submit(shard->store);
    while (!mr_store_take_written(shard->store)) {
        (void)mr_wake_wait(&shard->wake, -1);
    }
    kept_written(shard);
}

uint64_t checkpoint_at_bytes(const struct mr_shard *shard)
{
    uint64_t share = shard->pool.limit_bytes / 8;

    return share < CHECKPOINT_AT_BYTES ? share : CHECKPOINT_AT_BYTES;
}

/* Store or journal have it: the cursors may move. */
static void checkpoint_moved(struct mr_shard *shard)
{
    shard->checkpoint = CHECKPOINT_NONE;
    mr_cursor_set(shard->cursor, shard->checkpoint_seq);
    foreign_checkpointed(shard);
}

static void checkpoint_end(struct mr_shard *shard)
{
    kept_written(shard);
    checkpoint_moved(shard);
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
        (void)mr_wake_wait(&shard->wake, 1000000);
        if (shard->checkpoint == CHECKPOINT_WRITING && mr_store_take_written(shard->store)) {
            checkpoint_end(shard);
        }
        checkpoint_durable(shard, mr_lane_durable(shard->lane));
    }
    if (shard->checkpoint == CHECKPOINT_NONE && !nothing_changed(shard)) {
        checkpoint_now(shard, seq);
    }
}

static bool checkpoint_is_due(const struct mr_shard *shard)
{
    uint32_t given_ms = shard->broker->run.checkpoint_ms;
    int64_t every_ms = nothing_changed(shard) ? CHECKPOINT_EMPTY_MS
                       : given_ms != 0        ? given_ms
                                              : CHECKPOINT_EVERY_MS;

    return shard->now_ns - shard->checkpoint_ns > every_ms * INT64_C(1000000) || shard->stalled ||
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
