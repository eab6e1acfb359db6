/* share_route.c - messages on their way to members of groups; who is chosen is share.c's.
 *
 * DESIGN
 *
 * The shard that a message came in at chooses, for each group that wants it, one member.
 * QoS 0 goes there at once.  QoS 1 and 2 messages are chosen for when they are durable
 * (share_lanes.c).
 *
 * What becomes owed to a persistent session, or leaves the shard, is a GIVE record: the
 * message, the takers, and which record brought it about.  The last one says how far the
 * lane was read.  A taker that is at home here gets it by applying the record; one that is
 * at home elsewhere when its shard reads this lane, and then the same is done there, with
 * a record in that lane.  A member that is gone by then is replaced by another.
 *
 * Without a record goes what ends with its connection anyway: from here to a member
 * of here whose session is not persistent, in a group that has no persistent ones.
 *
 * What a member that leaves has not acknowledged goes to another: QoS 1, and QoS 2 that was
 * never sent.  QoS 2 that was sent stays with its session [MQTT-4.8.2-4] [MQTT-4.8.2-5].
 *
 * INVARIANT
 *
 *   A GIVE names several takers, so a message is given to all its groups or to none.
 */
#include "broker/keep_internal.h"

static struct shares *shares_of(const struct mr_shard *shard)
{
    return shard->broker->shares;
}

/* Does it become owed to a persistent session? */
static bool target_keeps(const struct share_target *target, const struct mr_message *message)
{
    return target->client->persistent && target->qos != 0 && message->qos != 0;
}

static bool target_is_recorded(const struct mr_shard *shard, const struct giving *giving,
                               const struct share_target *target)
{
    return target_keeps(target, giving->message) || target->client->shard != shard->index ||
           (target->lasting && !giving->recorded);
}

/* ---- to one member ---- */

/* The member's subscription, if it can be sent something now. */
static struct mr_sub *member_sub(struct mr_shard *shard, struct mr_span client_id,
                                 struct mr_span filter)
{
    struct session *session = session_find(shard, client_id);

    if (session == NULL || session->share == NULL || session->client == NULL ||
        connack_waits(session->client)) {
        return NULL;
    }
    return mr_subtree_find(shard->subtree, filter, &session->subs);
}

/* `group`: for when it leaves without an acknowledgement; NULL: it is not given again. */
static void member_send(struct mr_shard *shard, struct mr_sub *sub, struct share_group *group,
                        const struct mr_message *message)
{
    struct session *session = sub->owner;
    struct mr_mqtt_props props;
    struct outgoing outgoing = {.message = message,
                                .group = group,
                                .subscription_id = sub->subscription_id,
                                .qos = message->qos < sub->qos ? message->qos : sub->qos,
                                .retain = sub->retain_as_published && message->retain};

    if (MR_UNLIKELY(!access_may(shard, session, message->topic, MR_ACL_READ))) {
        mr_metric_add(shard->metrics.denied_deliver, 1);
        return;
    }
    if (session->keep != NULL) {
        outgoing.qos = 0; /* what has a record is in its queue */
    }
    outgoing.props = message_props(message, &props);
    deliver_one(session->client, &outgoing);
    share_load(shard, session);
}

static void wait_for_room(struct mr_shard *shard, struct share_group *group,
                          const struct mr_message *message)
{
    struct stored *stored = deliver_has_memory(shard, 0)
                                ? stored_new(&shard->pool, message, STORED_NAMES | STORED_PAYLOAD)
                                : NULL;

    if (stored == NULL) {
        mr_metric_add(shard->metrics.dropped_memory, 1);
        return;
    }
    share_group_hold(group);
    stored->group = group;
    stored_push(&shard->shared_first, &shard->shared_last, stored);
}

/* The member it was for is gone: to another one.  FULL: not now. */
static enum mr_err pass_on(struct mr_shard *shard, const struct share_group *group,
                           const struct mr_message *message)
{
    struct share_target target;

    if (!shares_choose(shares_of(shard), share_filter(group), message->topic, NULL, SHARE_ANYONE,
                       &target)) {
        return MR_OK; /* nobody is left */
    }
    struct giving giving = {.message = message, .targets = &target, .count = 1};
    enum mr_err err = share_give(shard, &giving);
    shares_release(&target, 1);
    return err;
}

static void stored_done(struct mr_shard *shard, struct stored *stored)
{
    share_group_drop(stored->group);
    stored_free(&shard->pool, stored);
}

void share_pass_on(struct mr_shard *shard, struct stored *stored)
{
    if (shard->stalled || pass_on(shard, stored->group, &stored->message) == MR_ERR_FULL) {
        stored_push(&shard->shared_first, &shard->shared_last, stored);
    } else {
        stored_done(shard, stored);
    }
}

void share_retry(struct mr_shard *shard)
{
    while (shard->shared_first != NULL && !shard->stalled) {
        struct stored *stored = shard->shared_first;
        if (pass_on(shard, stored->group, &stored->message) == MR_ERR_FULL) {
            return;
        }
        stored_done(shard, stored_pop(&shard->shared_first, &shard->shared_last));
    }
}

void share_stop_say(struct mr_shard *shard)
{
    uint64_t count = 0;

    for (const struct stored *stored = shard->shared_first; stored != NULL; stored = stored->next) {
        count += 1;
    }
    if (count != 0) {
        mr_metric_add(shard->metrics.dropped_memory, count);
        mr_log(MR_LOG_WARN, "mqtt",
               "%llu messages of shared subscriptions could not go to another member: no room",
               (unsigned long long)count);
    }
}

/* The taker's id stands where the publisher's would. */
void share_pending(struct mr_shard *shard, struct stored *pending)
{
    struct mr_sub *sub = member_sub(shard, pending->message.username, share_filter(pending->group));

    pending->message.username = (struct mr_span){0};
    if (sub == NULL) {
        share_pass_on(shard, pending);
        return;
    }
    member_send(shard, sub, pending->group, &pending->message);
    stored_done(shard, pending);
}

/* ---- giving ---- */

static size_t list_size(const struct mr_shard *shard, const struct giving *giving)
{
    size_t size = 0;

    for (size_t i = 0; i < giving->count; i++) {
        const struct share_target *target = &giving->targets[i];
        struct mr_control_taker taker = {.client = share_client_id(target->client),
                                         .filter = share_filter(target->group)};
        if (target_is_recorded(shard, giving, target)) {
            size += mr_control_taker_size(&taker);
        }
    }
    return size;
}

static void list_put(const struct mr_shard *shard, const struct giving *giving, uint8_t *at)
{
    for (size_t i = 0; i < giving->count; i++) {
        const struct share_target *target = &giving->targets[i];
        struct mr_control_taker taker = {.client = share_client_id(target->client),
                                         .filter = share_filter(target->group),
                                         .keeps = target_keeps(target, giving->message)};
        if (target_is_recorded(shard, giving, target)) {
            at = mr_control_taker_put(at, &taker);
        }
    }
}

/* Append and apply the record. */
static enum mr_err give_append(struct mr_shard *shard, const struct giving *giving, size_t size,
                               uint64_t *seq)
{
    const struct mr_message *message = giving->message;
    size_t capacity = 0;
    uint8_t *list = mr_bufpool_take(&shard->pool, size, &capacity);

    if (list == NULL) {
        shard_stall(shard);
        return MR_ERR_FULL;
    }
    list_put(shard, giving, list);
    struct mr_control give = {.kind = MR_CONTROL_GIVE,
                              .flags = (uint8_t)(message->qos |
                                                 (message->retain ? MR_CONTROL_COPY_RETAIN : 0) |
                                                 (giving->seq != 0 ? MR_CONTROL_GIVE_SOURCE : 0)),
                              .client = message->client,
                              .list = mr_span_make(list, size),
                              .from = giving->from,
                              .ordinal = giving->ordinal,
                              .will_topic = message->topic,
                              .will_props = message->props,
                              .will_payload = message->payload,
                              .lane = giving->lane,
                              .seq = giving->seq,
                              .received_us = message->received_us};
    enum mr_err err = control_append(shard, &give, seq);
    if (err == MR_OK) {
        share_apply(shard, &give, shard->index, *seq);
    }
    mr_bufpool_give(&shard->pool, list, capacity);
    return err;
}

/* A member of here whose session is not persistent: now, or once `seq` is durable. */
static void give_live(struct mr_shard *shard, const struct giving *giving,
                      const struct share_target *target, uint64_t seq)
{
    struct mr_message message = *giving->message;

    if (seq == 0) {
        struct mr_sub *sub =
            member_sub(shard, share_client_id(target->client), share_filter(target->group));
        if (sub != NULL) {
            member_send(shard, sub, target->group, &message);
        } else {
            wait_for_room(shard, target->group, &message);
        }
        return;
    }
    message.username = share_client_id(target->client);
    struct stored *pending = stored_new(&shard->pool, &message, STORED_NAMES | STORED_PAYLOAD);
    if (pending == NULL) {
        mr_metric_add(shard->metrics.dropped_memory, 1);
        return;
    }
    share_group_hold(target->group);
    pending->group = target->group;
    pending->seq = seq;
    stored_push(&shard->pending_first, &shard->pending_last, pending);
}

enum mr_err share_give(struct mr_shard *shard, const struct giving *giving)
{
    size_t size = list_size(shard, giving);
    uint64_t seq = 0;

    if (size != 0 &&
        (checkpoint_is_behind(shard, giving->message) || !reserve_for(shard, giving->message))) {
        shard_stall(shard);
    }
    if (size != 0) {
        enum mr_err err = shard->stalled ? MR_ERR_FULL : give_append(shard, giving, size, &seq);
        if (err == MR_ERR_REJECT) {
            mr_metric_add(shard->metrics.dropped_large, 1); /* larger than a record with all that */
            return MR_OK;
        }
        if (err != MR_OK) {
            return MR_ERR_FULL;
        }
    }
    for (size_t i = 0; i < giving->count; i++) {
        const struct share_target *target = &giving->targets[i];
        if (target->client->shard == shard->index && !target_keeps(target, giving->message)) {
            give_live(shard, giving, target, target_is_recorded(shard, giving, target) ? seq : 0);
        }
    }
    return MR_OK;
}

struct mr_sub *share_taker(struct mr_shard *shard, const struct mr_control_taker *taker)
{
    struct session *session = session_find(shard, taker->client);
    struct mr_sub *sub = session == NULL || session->keep == NULL
                             ? NULL
                             : mr_subtree_find(shard->subtree, taker->filter, &session->subs);

    return sub != NULL && sub->qos != 0 ? sub : NULL;
}

void share_apply(struct mr_shard *shard, const struct mr_control *give, uint32_t lane, uint64_t seq)
{
    struct mr_take take = mr_take_from(give->list);
    struct mr_message message = copy_message(give);
    struct mr_control_taker taker;
    struct kept *kept = NULL;

    const bool own = lane == shard->index;

    if (own && (give->flags & MR_CONTROL_GIVE_SOURCE) != 0) {
        share_passed(shard, give->lane, give->seq);
    }
    struct session *from = own && give->from.len != 0 ? session_find(shard, give->from) : NULL;
    if (from != NULL && from->keep != NULL) {
        queue_forget(shard, from->keep, give->ordinal, 1);
        keep_mark(shard, from->keep);
    }
    while (mr_control_taker_next(&take, &taker)) {
        struct mr_sub *sub = taker.keeps ? share_taker(shard, &taker) : NULL;
        if (sub == NULL) {
            continue;
        }
        struct session *session = sub->owner;
        if (kept == NULL) {
            kept = kept_new(shard, &message, lane, seq, KEPT_FRESH);
        }
        struct delivery how = {.subscription_id = sub->subscription_id,
                               .qos = message.qos < sub->qos ? message.qos : sub->qos,
                               .share = sub_slot(sub),
                               .retain = sub->retain_as_published && message.retain};
        queue_push(shard, session->keep, kept, &how);
        share_load(shard, session);
        if (session->keep->closed_us != 0 && !shard->restoring) {
            expiry_arm(shard, session->keep); /* others may take it */
        }
    }
    if (kept != NULL) {
        kept_unref(shard, kept);
    }
}

/* ---- from the other lanes ---- */

/* The member that a GIVE of another lane names, or who takes its place.  False: nobody. */
static bool taker_find(struct mr_shard *shard, const struct mr_control_taker *taker,
                       struct mr_span topic, bool live, struct share_target *target)
{
    struct session *session = session_find(shard, taker->client);

    if (session != NULL && session->share != NULL &&
        (session->keep != NULL || session->client != NULL) &&
        shares_find(shares_of(shard), taker->filter, session->share, target)) {
        return true;
    }
    /* What was not kept for it went with the crash. */
    return (live || taker->keeps) &&
           shares_choose(shares_of(shard), taker->filter, topic, NULL, SHARE_ANYONE, target);
}

bool share_get(const struct mr_event *record, struct mr_control *give)
{
    return record->type == MR_RECORD_SESSION && record->raw.body.len != 0 &&
           record->raw.body.at[0] == MR_CONTROL_GIVE &&
           mr_control_get(record->type, record->raw.body, give) == MR_OK;
}

enum mr_err share_take(struct mr_shard *shard, uint32_t lane, const struct mr_event *record,
                       bool live)
{
    struct share_target targets[SHARE_TARGETS_MAX];
    struct mr_control give;
    struct mr_control_taker taker;
    enum mr_err err = MR_OK;
    size_t count = 0;

    if (!share_get(record, &give)) {
        return MR_OK;
    }
    struct mr_message message = copy_message(&give);
    struct mr_take take = mr_take_from(give.list);
    bool kept = false; /* a start finds another for it */
    while (count < SHARE_TARGETS_MAX && mr_control_taker_next(&take, &taker)) {
        if (mr_journal_home(shard->broker->run.journal, taker.client) == shard->index) {
            count += taker_find(shard, &taker, message.topic, live, &targets[count]);
            kept |= taker.keeps;
        }
    }
    if (count != 0) {
        struct giving giving = {.message = &message,
                                .targets = targets,
                                .count = count,
                                .lane = lane,
                                .seq = record->seq,
                                .recorded = !kept};
        err = share_give(shard, &giving);
        if (err == MR_OK) {
            share_passed(shard, lane, record->seq);
        }
    }
    shares_release(targets, count);
    return err;
}

/* ---- QoS 0, and what is not journaled ---- */

void share_deliver(struct mr_shard *shard, const struct mr_message *message)
{
    struct share_target targets[SHARE_TARGETS_MAX];
    size_t count =
        shares_choose_all(shares_of(shard), message->topic, 0, targets, SHARE_TARGETS_MAX);

    for (size_t i = 0; i < count; i++) {
        struct mr_span id = share_client_id(targets[i].client);
        struct mr_span filter = share_filter(targets[i].group);
        if (targets[i].client->shard != shard->index) {
            mailbox_send_shared(shard, message, targets[i].client->shard, id, filter);
        } else {
            share_deliver_to(shard, message, id, filter);
        }
    }
    shares_release(targets, count);
}

void share_deliver_to(struct mr_shard *shard, const struct mr_message *message,
                      struct mr_span client_id, struct mr_span filter)
{
    struct mr_sub *sub = member_sub(shard, client_id, filter);

    if (sub != NULL) {
        member_send(shard, sub, NULL, message);
    } else {
        mr_metric_add(shard->metrics.dropped_slow, 1);
    }
}

void share_close(struct mr_shard *shard)
{
    struct stored *stored;

    while ((stored = stored_pop(&shard->shared_first, &shard->shared_last)) != NULL) {
        stored_done(shard, stored);
    }
}
