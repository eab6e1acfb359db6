/* bring.c - the retained messages that a SUBSCRIBE brings, however many they are.
 *
 * DESIGN
 *
 * What a subscription matches is found by a walk through the tree (retained_walk.c), a batch at
 * a time, and a batch goes on its way before the next one is looked for:
 *
 *     with QoS 0                  into the connection, up to half of what may wait there,
 *                                 so that live messages have the other half
 *     QoS 1 and 2                 the same, while the client's window is open
 *     ... of a persistent session into its queue, as long as that is less than half full,
 *                                 by a record that names them (docs/SESSIONS.md)
 *
 * So what a subscriber makes us hold is one batch of references, whatever it reads.  A session
 * whose walk cannot go on rests until its socket is empty, an ack comes, or it connects again;
 * the others take turns, a few steps each, for about a millisecond in each turn of the shard.  A
 * short answer needs no second turn: the SUBSCRIBE itself may go some steps.
 *
 * A message that was retained after the SUBSCRIBE comes live, so the walk passes it over: what
 * is older never follows what is newer.  One of QoS 0 may not have come, for the subscriber was
 * slow, or away: then the walk brings it (`missed`).
 *
 * INVARIANTS
 *
 *   (1) A bringing has a walk or a batch.
 *   (2) Between steps each walk pauses at its node, or has come to its end.
 *   (3) owed: the session is persistent, and no record says yet what the batch has, all of it
 *       from the first walk, and whether that has ended.  Nothing of the batch has left.
 */
#include "broker/bring_internal.h"

enum {
    TABLE_SLOTS = 1024,
    LIST_FIXED = 16, /* bytes of a record's filter beside its text */
};

/* ---- making and dropping ---- */

/* The place in the table for it: the session itself has but a flag, for most have never one. */
static struct bringing **slot_of(const struct mr_shard *shard, const struct session *session)
{
    uint64_t mixed = (uint64_t)(uintptr_t)session * UINT64_C(0x9E3779B97F4A7C15);

    return &shard->bringing_table[mixed >> 32 & (TABLE_SLOTS - 1)];
}

struct bringing *bringing_find(const struct mr_shard *shard, const struct session *session)
{
    struct bringing *bringing = session->brings ? *slot_of(shard, session) : NULL;

    while (bringing != NULL && bringing->session != session) {
        bringing = bringing->table_next;
    }
    return bringing;
}

static struct bringing *bringing_of(struct mr_shard *shard, struct session *session)
{
    struct bringing *bringing = bringing_find(shard, session);
    size_t capacity = 0;

    if (bringing != NULL) {
        return bringing;
    }
    bringing =
        (struct bringing *)(void *)mr_bufpool_take(&shard->pool, sizeof(*bringing), &capacity);
    if (bringing == NULL) {
        return NULL;
    }
    if (shard->bringing_table == NULL) {
        shard->bringing_table = mr_alloc(TABLE_SLOTS * sizeof(struct bringing *));
    }
    struct bringing **slot = slot_of(shard, session);
    memset(bringing, 0, offsetof(struct bringing, batch));
    bringing->session = session;
    bringing->capacity = capacity;
    bringing->table_next = *slot;
    *slot = bringing;
    session->brings = true;
    shard->bringing_count += 1;
    return bringing;
}

static void batch_drop(struct mr_shard *shard, struct bringing *bringing)
{
    while (bringing->at < bringing->count) {
        kept_unref(shard, bringing->batch[bringing->at++].kept);
    }
    bringing->at = 0;
    bringing->count = 0;
    bringing->owed = false;
}

static void bring_free(struct mr_shard *shard, struct bringing *bringing, struct bring *bring)
{
    bring_unread_drop(shard, bring);
    retained_walk_end(shard, &bring->walk);
    bring->sub->bring = NULL;
    if (bring->prev != NULL) {
        bring->prev->next = bring->next;
    } else {
        bringing->first = bring->next;
    }
    if (bring->next != NULL) {
        bring->next->prev = bring->prev;
    } else {
        bringing->last = bring->prev;
    }
    mr_bufpool_give(&shard->pool, (uint8_t *)bring, bring->capacity);
}

void bringing_free(struct mr_shard *shard, struct bringing *bringing)
{
    mr_bufpool_give(&shard->pool, (uint8_t *)bringing, bringing->capacity);
}

bool bringing_end(struct mr_shard *shard, struct bringing *bringing)
{
    if (bringing->first != NULL || bringing->at < bringing->count) {
        return false;
    }
    struct bringing **at = slot_of(shard, bringing->session);
    while (*at != bringing) {
        at = &(*at)->table_next;
    }
    *at = bringing->table_next;
    bringing->session->brings = false;
    bringing->session = NULL;
    shard->bringing_count -= 1;
    if (!bringing->queued) {
        bringing_free(shard, bringing);
    }
    return true;
}

static void bring_begin(struct mr_shard *shard, struct bring *bring)
{
    bring->stamp = shard->retained_stamp;
    retained_walk_begin(shard, &bring->walk);
    retained_walk_pause(&bring->walk);
}

void bring_set(struct mr_sub *sub, const struct mr_control_filter *filter)
{
    struct bring *bring = sub->bring;

    if (bring != NULL) {
        bring->qos = filter->qos;
        bring->subscription_id = filter->subscription_id;
    }
}

bool bring_add(struct mr_shard *shard, struct mr_sub *sub, const struct mr_control_filter *filter)
{
    struct bring *bring = sub->bring;
    size_t capacity = 0;

    if (bring != NULL) {
        bring_unread_drop(shard, bring);
        retained_walk_end(shard, &bring->walk);
        bring_begin(shard, bring);
        bring_set(sub, filter);
        return true;
    }
    if (shard->retained_count == 0) {
        return true;
    }
    struct bringing *bringing = bringing_of(shard, sub->owner);
    if (bringing == NULL) {
        return false;
    }
    bring = (struct bring *)(void *)mr_bufpool_take(&shard->pool,
                                                    sizeof(*bring) + filter->filter.len, &capacity);
    if (bring == NULL) {
        (void)bringing_end(shard, bringing);
        return false;
    }
    *bring = (struct bring){.prev = bringing->last,
                            .sub = sub,
                            .capacity = (uint32_t)capacity,
                            .filter_len = (uint32_t)filter->filter.len};
    memcpy(bring->filter, filter->filter.at, filter->filter.len);
    if (bringing->last != NULL) {
        bringing->last->next = bring;
    } else {
        bringing->first = bring;
    }
    bringing->last = bring;
    sub->bring = bring;
    bring_begin(shard, bring);
    bring_set(sub, filter);
    return true;
}

/* What waits in the batch for a subscription that is removed. */
static void batch_forget(struct mr_shard *shard, struct bringing *bringing,
                         const struct mr_sub *sub)
{
    uint16_t left = bringing->at;

    for (uint16_t i = bringing->at; i < bringing->count; i++) {
        if (bringing->batch[i].sub == sub) {
            kept_unref(shard, bringing->batch[i].kept);
        } else {
            bringing->batch[left++] = bringing->batch[i];
        }
    }
    bringing->count = left;
}

void bring_cancel(struct mr_shard *shard, struct mr_sub *sub)
{
    const struct session *session = sub->owner;
    struct bringing *bringing = bringing_find(shard, session);
    struct bring *bring = sub->bring;

    if (bringing == NULL) {
        return;
    }
    batch_forget(shard, bringing, sub);
    if (bring != NULL) {
        bringing->owed &= bring != bringing->first;
        bring_free(shard, bringing, bring);
    }
    (void)bringing_end(shard, bringing);
}

void bring_drop(struct mr_shard *shard, struct session *session)
{
    struct bringing *bringing = bringing_find(shard, session);

    if (bringing == NULL) {
        return;
    }
    batch_drop(shard, bringing);
    while (bringing->first != NULL) {
        bring_free(shard, bringing, bringing->first);
    }
    (void)bringing_end(shard, bringing);
}

/* ---- persistent sessions: the record ---- */

/* Is it for the queue, and still what is retained? */
static bool is_queued(const struct brought *one)
{
    return one->qos != 0 && one->kept->is_retained;
}

size_t bring_refs(const struct mr_shard *shard, const struct session *session,
                  uint8_t out[BRING_REFS_BYTES_MAX])
{
    const struct bringing *bringing = bringing_find(shard, session);
    uint8_t *at = out;

    for (uint16_t i = 0; bringing != NULL && i < bringing->count; i++) {
        const struct brought *one = &bringing->batch[i];
        struct mr_control_ref ref = {
            .seq = one->kept->seq, .lane = one->kept->lane, .qos = one->qos};
        if (is_queued(one)) {
            at = mr_control_ref_put(at, &ref);
        }
    }
    return (size_t)(at - out);
}

/* The record is there: what it names is owed, and what has QoS 0 stays in the batch. */
static void batch_push(struct mr_shard *shard, struct bringing *bringing, uint64_t seq)
{
    struct keep *keep = bringing->session->keep;
    uint16_t left = 0;

    mr_assert(keep != NULL);
    for (uint16_t i = 0; i < bringing->count; i++) {
        struct brought one = bringing->batch[i];
        if (one.qos == 0) {
            bringing->batch[left++] = one;
            continue;
        }
        if (is_queued(&one)) {
            struct delivery how = {
                .subscription_id = one.subscription_id, .qos = one.qos, .retain = true};
            queue_push(shard, keep, one.kept, &how);
            keep->brought_seq = seq;
        }
        kept_unref(shard, one.kept);
    }
    bringing->count = left;
    bringing->owed = false;
}

bool bring_is_ended(const struct mr_sub *sub)
{
    const struct bring *bring = sub->bring;

    return bring == NULL ? !sub->brings : bring_walk_ended(bring);
}

void bring_first(struct mr_shard *shard, struct session *session)
{
    struct bringing *bringing = bringing_find(shard, session);
    struct bring *bring = bringing == NULL ? NULL : bringing->first;

    for (; bring != NULL && shard->bring_steps != 0; bring = bring->next) {
        bring_look(shard, bringing, bring, &shard->bring_steps);
        if (!bring_walk_ended(bring)) {
            break;
        }
    }
}

void bring_recorded(struct mr_shard *shard, struct session *session, uint64_t seq)
{
    struct bringing *bringing = bringing_find(shard, session);

    if (bringing == NULL) {
        return;
    }
    batch_push(shard, bringing, seq);
    while (bringing->first != NULL && bring_walk_ended(bringing->first)) {
        bring_free(shard, bringing, bringing->first);
    }
    (void)bringing_end(shard, bringing);
}

/* A SUBSCRIBE record once more: what was found since the last one, and whether there is more. */
static enum mr_err record_append(struct mr_shard *shard, struct bringing *bringing)
{
    struct bring *bring = bringing->first;
    struct mr_sub *sub = bring->sub;
    uint8_t refs[BRING_REFS_BYTES_MAX];
    size_t capacity = 0;
    uint64_t seq = 0;
    struct mr_control_filter filter = {.filter = bring_filter(bring),
                                       .subscription_id = sub->subscription_id,
                                       .qos = sub->qos,
                                       .no_local = sub->no_local,
                                       .retain_as_published = sub->retain_as_published,
                                       .brings = !bring_walk_ended(bring)};
    uint8_t *list = mr_bufpool_take(&shard->pool, bring->filter_len + LIST_FIXED, &capacity);

    if (list == NULL) {
        shard_stall(shard);
        return MR_ERR_FULL;
    }
    uint8_t *end = mr_control_filter_put(list, MR_CONTROL_SUBSCRIBE, &filter);
    struct mr_control control = {
        .kind = MR_CONTROL_SUBSCRIBE,
        .client = session_id(bringing->session),
        .list = mr_span_make(list, (size_t)(end - list)),
        .retained = mr_span_make(refs, bring_refs(shard, bringing->session, refs))};
    enum mr_err err = control_append(shard, &control, &seq);
    mr_bufpool_give(&shard->pool, list, capacity);
    if (err != MR_OK) {
        return err;
    }
    if (sub->brings != filter.brings) {
        sub->brings = filter.brings;
        sub->is_stored = false;
        keep_mark(shard, bringing->session->keep);
    }
    batch_push(shard, bringing, seq);
    return MR_OK;
}

enum outcome bring_next(struct mr_shard *shard, struct bringing *bringing, uint32_t *steps)
{
    struct keep *keep = bringing->session->keep;
    struct bring *bring = bringing->first;

    if (keep != NULL && !bringing->owed) {
        if (shard->stalled) {
            return BRING_HELD;
        }
        if (bring_room(shard, keep) == 0) {
            return BRING_RESTS;
        }
    }
    if (!bringing->owed) {
        bring_look(shard, bringing, bring, steps);
        bringing->owed = keep != NULL && (bringing->count != 0 || bring_walk_ended(bring));
        if (MR_UNLIKELY(bringing->count == 0 && bring->unread != NULL)) {
            outbound_drain_later(bringing->session->client); /* the next tick reads again */
            return BRING_RESTS;
        }
    }
    if (bringing->owed && (shard->stalled || record_append(shard, bringing) != MR_OK)) {
        return BRING_HELD;
    }
    if (bring_walk_ended(bring)) {
        bring_free(shard, bringing, bring);
    }
    return BRING_MORE;
}
