/* apply.c - what a record changes.
 *
 * The same functions run live, right after the append, and at start, over the journal's
 * tail; so the state is always that of the records so far, in their order
 * (docs/SESSIONS.md).  Nothing here sends or appends anything.
 */
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"
#include "broker/outgoing_internal.h"
#include "broker/retained_internal.h"

/* ---- events ---- */

struct applied {
    struct mr_shard *shard;
    const struct mr_message *message;
    struct kept *kept; /* made at the first match */
    uint32_t lane;
    uint64_t seq;
    bool no_memory;
};

static struct kept *applied_kept(struct applied *applied)
{
    if (applied->kept == NULL && !applied->no_memory) {
        applied->kept =
            kept_new(applied->shard, applied->message, applied->lane, applied->seq, KEPT_FRESH);
        applied->no_memory = applied->kept == NULL;
    }
    return applied->kept;
}

static void event_found(void *arg, const struct mr_sub *sub)
{
    struct applied *applied = arg;
    const struct mr_message *message = applied->message;
    struct session *session = sub->owner;
    uint8_t qos = message->qos < sub->qos ? message->qos : sub->qos;

    if (session->keep == NULL || qos == 0 ||
        (sub->no_local && mr_span_equal(session_id(session), message->client))) {
        return; /* [MQTT-3.8.3-3] */
    }
    if (!applied->shard->restoring && !access_reads(applied->shard, sub, message->topic)) {
        queue_skip(applied->shard, session->keep);
        return;
    }
    struct delivery how = {.subscription_id = sub->subscription_id,
                           .qos = qos,
                           .retain = sub->retain_as_published && message->retain};
    queue_push(applied->shard, session->keep, applied_kept(applied), &how);
}

void event_apply(struct mr_shard *shard, const struct mr_message *message, uint32_t lane,
                 uint64_t seq, bool foreign)
{
    struct applied applied = {.shard = shard, .message = message, .lane = lane, .seq = seq};

    if (message->retain) {
        retained_apply(shard, message, &applied.kept, lane, seq,
                       foreign ? RETAINED_FOREIGN : RETAINED_OWN);
    }
    if (message->qos != 0 && shard->keeps_count != 0) {
        merge_match(shard, message, 0, event_found, &applied);
    }
    if (applied.kept != NULL) {
        kept_unref(shard, applied.kept);
    }
}

static void owed_found(void *arg, const struct mr_sub *sub)
{
    const struct session *session = sub->owner;

    if (session->keep != NULL && sub->qos != 0) {
        *(bool *)arg = true;
    }
}

bool event_is_owed(struct mr_shard *shard, const struct mr_message *message)
{
    bool owed = false;

    if (message->qos != 0 && shard->keeps_count != 0) {
        mr_subtree_match(shard->subtree, message->topic, owed_found, &owed);
    }
    return owed;
}

struct mr_message copy_message(const struct mr_control *copy)
{
    return (struct mr_message){.topic = copy->will_topic,
                               .props = copy->will_props,
                               .payload = copy->will_payload,
                               .client = copy->client,
                               .username = copy->username,
                               .received_us = copy->received_us,
                               .qos = copy->flags & MR_CONTROL_COPY_QOS,
                               .retain = (copy->flags & MR_CONTROL_COPY_RETAIN) != 0};
}

/* An event of another lane, which was copied into this one when it was read. */
static void apply_copy(struct mr_shard *shard, const struct mr_control *control, uint64_t seq)
{
    struct mr_message message = copy_message(control);

    foreign_is_read(shard, control->lane, control->seq);
    event_apply(shard, &message, shard->index, seq, true);
}

static void apply_read(struct mr_shard *shard, const struct mr_control *control)
{
    struct mr_take take = mr_take_from(control->list);
    uint32_t lane = 0;
    uint64_t seq = 0;

    while (mr_control_position_next(&take, &lane, &seq)) {
        share_passed(shard, lane, seq);
    }
}

/* ---- sessions ---- */

bool keep_make(struct mr_shard *shard, struct session *session, uint32_t lane, uint64_t number)
{
    size_t capacity = 0;
    struct keep *keep =
        (struct keep *)(void *)mr_bufpool_take(&shard->pool, sizeof(*keep), &capacity);

    if (keep == NULL) {
        return false;
    }
    *keep = (struct keep){
        .session = session, .lane = lane, .number = number, .capacity = (uint32_t)capacity};
    keep->ring = &keep->first;
    keep->ring_capacity = 1;
    session->keep = keep;
    shard->keeps_count += 1;
    return true;
}

void keep_mark(struct mr_shard *shard, struct keep *keep)
{
    if (!keep->dirty) {
        keep->dirty = true;
        keep->dirty_next = shard->dirty;
        shard->dirty = keep;
    }
}

void keep_let_go(struct mr_shard *shard, struct keep *keep)
{
    if (keep->session == NULL && !keep->kicked && !keep->settling && !keep->dirty && !keep->tight) {
        mr_bufpool_give(&shard->pool, (uint8_t *)keep, keep->capacity);
    }
}

void keep_free(struct mr_shard *shard, struct session *session)
{
    struct keep *keep = session->keep;

    if (keep == NULL) {
        return;
    }
    mr_wheel_cancel(&shard->expiries, &keep->timer);
    checkpoint_forget(shard, keep);
    queue_drop(shard, keep);
    keep->runs_count = 0;
    keep->session = NULL;
    session->keep = NULL;
    shard->keeps_count -= 1;
    keep_let_go(shard, keep);
}

void keep_open(struct mr_shard *shard, struct session *session, const struct mr_control *open)
{
    struct keep *keep = session->keep;
    bool was_open = keep->closed_us == 0;

    /* No record says how far the last connection came: it may have sent as much as its own window
     * allowed (queue_may_have_sent).
     */
    if (!was_open || open->window > keep->window) {
        keep->window = open->window;
    }
    keep->closed_us = 0;
    keep->close_owed = false;
    keep->will_ns = INT64_MAX;
    keep->ends_ns = INT64_MAX;
    mr_wheel_cancel(&shard->expiries, &keep->timer);
    keep->expiry_s = open->expiry_s;
    keep->will_delay_s = open->will_delay_s;
    keep_mark(shard, keep);
}

void keep_close(struct mr_shard *shard, struct keep *keep, int64_t at_us)
{
    keep_closed(shard, keep, at_us);
    keep_mark(shard, keep);
}

/* `seconds` after it closed, by the clock that nobody sets. */
static int64_t due_ns(const struct mr_shard *shard, const struct keep *keep, uint32_t seconds)
{
    int64_t waited_us = shard_waited_us(shard, keep->closed_us);

    return shard->now_ns + ((int64_t)seconds * 1000000 - waited_us) * 1000;
}

void keep_closed(struct mr_shard *shard, struct keep *keep, int64_t at_us)
{
    uint32_t delay_s = keep->will_delay_s < keep->expiry_s ? keep->will_delay_s : keep->expiry_s;

    keep->closed_us = at_us == 0 ? 1 : at_us;
    keep->will_ns = keep->session->will == NULL ? INT64_MAX : due_ns(shard, keep, delay_s);
    keep->ends_ns = keep->expiry_s == UINT32_MAX ? INT64_MAX : due_ns(shard, keep, keep->expiry_s);
    expiry_arm(shard, keep);
}

bool keep_subscribe(struct mr_shard *shard, struct session *session,
                    const struct mr_control_filter *filter, bool *is_new)
{
    struct mr_sub *sub = NULL;

    *is_new = mr_subtree_find(shard->subtree, filter->filter, &session->subs) == NULL;
    if (mr_subtree_add(shard->subtree, filter->filter, session, &session->subs, &sub) != MR_OK) {
        return false;
    }
    sub->qos = filter->qos;
    sub->no_local = filter->no_local;
    sub->retain_as_published = filter->retain_as_published;
    sub->subscription_id = filter->subscription_id;
    sub->brings = filter->brings;
    sub->is_stored = false;
    if (session->keep != NULL) {
        session->keep->may_bring |= filter->brings;
    }
    if (share_is(filter->filter) &&
        share_join(shard, session, sub, filter->filter, filter->qos) != 0) {
        return false;
    }
    if (*is_new && session->keep != NULL) {
        sub_number(session, sub);
    }
    return true;
}

/* ---- control records, at start ---- */

static void apply_open(struct mr_shard *shard, struct session *session, uint64_t seq,
                       const struct mr_control *open)
{
    if (session != NULL && (open->flags & MR_CONTROL_CLEAN) != 0) {
        session_free(shard, session);
        session = NULL;
    }
    if (session == NULL) {
        session = session_new(shard, NULL, open->client, open->username);
        if (session == NULL || !keep_make(shard, session, shard->index, seq)) {
            shard->restore_short = true;
            return;
        }
    }
    if (session->will != NULL) {
        stored_free(&shard->pool, session->will);
        session->will = NULL;
    }
    if (!session_set_username(shard, session, open->username)) {
        shard->restore_short = true;
    }
    if ((open->flags & MR_CONTROL_HAS_WILL) != 0) {
        struct mr_message will = {.topic = open->will_topic,
                                  .props = open->will_props,
                                  .payload = open->will_payload,
                                  .client = open->client,
                                  .username = open->username,
                                  .qos = open->flags >> MR_CONTROL_WILL_QOS_SHIFT & 3,
                                  .retain = (open->flags & MR_CONTROL_WILL_RETAIN) != 0,
                                  .will = true};
        session->will = stored_new(&shard->pool, &will, STORED_NAMES | STORED_PAYLOAD);
        shard->restore_short |= session->will == NULL;
    }
    keep_open(shard, session, open);
}

static void apply_close(struct mr_shard *shard, struct session *session,
                        const struct mr_control *control, int64_t at_us)
{
    struct keep *keep = session->keep;

    keep->expiry_s = control->expiry_s;
    if (control->ordinal > keep->ordinal_sent) {
        keep->ordinal_sent = control->ordinal;
    }
    if ((control->flags & MR_CONTROL_WILL_REVOKED) != 0 && session->will != NULL) {
        stored_free(&shard->pool, session->will);
        session->will = NULL;
    }
    keep_close(shard, keep, at_us);
}

/* The retained messages that the record names, each by the record it came in. */
static void apply_retained(struct mr_shard *shard, struct keep *keep, struct mr_span refs,
                           uint32_t subscription_id)
{
    struct mr_take take = mr_take_from(refs);
    struct mr_control_ref ref;

    for (; mr_control_ref_next(&take, &ref); keep->ordinal_next++) {
        struct delivery how = {.ordinal = keep->ordinal_next,
                               .subscription_id = subscription_id,
                               .qos = ref.qos,
                               .retain = true};
        struct kept *kept = retained_find(shard, ref.lane, ref.seq);
        if (kept != NULL) {
            shard->restore_short |= !queue_append(shard, keep, kept, &how);
        }
    }
}

static void apply_subscribe(struct mr_shard *shard, struct session *session,
                            const struct mr_control *control)
{
    struct mr_take take = mr_take_from(control->list);
    struct mr_control_filter filter = {.subscription_id = 0};
    bool is_new;

    while (mr_control_filter_next(&take, MR_CONTROL_SUBSCRIBE, &filter)) {
        shard->restore_short |= !keep_subscribe(shard, session, &filter, &is_new);
    }
    apply_retained(shard, session->keep, control->retained, filter.subscription_id);
    keep_mark(shard, session->keep);
}

static void apply_unsubscribe(struct mr_shard *shard, struct session *session,
                              const struct mr_control *control)
{
    struct mr_take take = mr_take_from(control->list);
    struct mr_control_filter filter;

    while (mr_control_filter_next(&take, MR_CONTROL_UNSUBSCRIBE, &filter)) {
        struct mr_sub *sub = mr_subtree_find(shard->subtree, filter.filter, &session->subs);
        if (sub != NULL) {
            if (sub->is_shared) {
                share_leave(shard, session, filter.filter);
            }
            sub_forget(shard, session->keep, sub);
            mr_subtree_remove(shard->subtree, sub, &session->subs);
        }
    }
}

static void apply_runs(struct mr_shard *shard, struct session *session,
                       const struct mr_control *control)
{
    struct mr_take take = mr_take_from(control->list);
    uint64_t end = 0;
    uint64_t first;
    uint64_t count;

    while (mr_control_run_next(&take, &end, &first, &count)) {
        if (control->kind == MR_CONTROL_SETTLE) {
            queue_forget(shard, session->keep, first, count);
        } else {
            queue_release(shard, session->keep, first, count);
        }
    }
    keep_mark(shard, session->keep);
}

void control_apply(struct mr_shard *shard, const struct mr_control *control, int64_t at_us,
                   uint64_t seq)
{
    struct session *session = session_find(shard, control->client);

    if (control->kind == MR_CONTROL_OPEN) {
        apply_open(shard, session, seq, control);
        return;
    }
    if (control->kind == MR_CONTROL_COPY) {
        apply_copy(shard, control, seq);
        return;
    }
    if (control->kind == MR_CONTROL_READ) {
        apply_read(shard, control);
        return;
    }
    if (control->kind == MR_CONTROL_OVERLAP) {
        merge_set(shard, (control->flags & MR_CONTROL_MERGED) != 0);
        return;
    }
    if (control->kind == MR_CONTROL_GIVE) {
        share_apply(shard, control, shard->index, seq);
        return;
    }
    if (session == NULL || session->keep == NULL) {
        return; /* it had ended before: nothing to change */
    }
    switch (control->kind) {
    case MR_CONTROL_PUBREL:
        (void)inbound_remove(session->inbound, control->packet_id);
        keep_mark(shard, session->keep);
        break;
    case MR_CONTROL_CLOSE:
        apply_close(shard, session, control, at_us);
        break;
    case MR_CONTROL_END:
        session_free(shard, session);
        break;
    case MR_CONTROL_SUBSCRIBE:
        apply_subscribe(shard, session, control);
        break;
    case MR_CONTROL_UNSUBSCRIBE:
        apply_unsubscribe(shard, session, control);
        break;
    default:
        apply_runs(shard, session, control);
        break;
    }
}
