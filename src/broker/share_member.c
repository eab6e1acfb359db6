/* share_member.c - a session as a member of groups: it joins, gets busy, leaves.
 *
 * A shared subscription is an ordinary one of its session, with the whole filter
 * ("$share/group/filter"): so it is stored, found again and removed like any other, and
 * as nobody publishes to such a topic it matches nothing by itself.
 *
 * A delivery knows by its slot which of the session's shared subscriptions brought it: a
 * number of 1 to 255 that follows from the subscription's row, and rows are given such
 * that no two of a session have the same, nor one that something owed still has of a subscription
 * that is gone.
 */
#include "broker/keep_internal.h"
#include "broker/share_rights.h"

enum {
    SLOTS = 255,
    FILTER_STACK_BYTES = 256,
    UNREAD_MAX = 16, /* reads that fail in one go: the disk may take its time for each */
};

/* A filter written out of the tree. */
struct filter_text {
    struct mr_span span;
    uint8_t *large;
    uint8_t small[FILTER_STACK_BYTES];
};

/* A long one is not lent by the pool: whoever leaves a group must leave it when that is empty, too.
 */
static void filter_text(const struct mr_sub *sub, struct filter_text *text)
{
    size_t len = mr_subtree_filter_len(sub);

    text->large = len > sizeof(text->small) ? mr_alloc(len) : NULL;
    uint8_t *at = text->large != NULL ? text->large : text->small;
    mr_subtree_filter_put(sub, at);
    text->span = mr_span_make(at, len);
}

static void filter_text_end(const struct filter_text *text)
{
    mr_free(text->large);
}

/* ---- slots ---- */

uint8_t sub_slot(const struct mr_sub *sub)
{
    return (uint8_t)(sub->row % SLOTS + 1);
}

static const struct mr_sub *slot_sub(const struct session *session, uint8_t slot)
{
    const struct mr_sub *sub = session->subs;

    while (sub != NULL && (!sub->is_shared || sub->row == UINT32_MAX || sub_slot(sub) != slot)) {
        sub = sub->owner_next;
    }
    return sub;
}

/* Which slots its subscriptions have, and those that are not numbered yet. */
static uint32_t slots_of_subs(const struct session *session, bool used[SLOTS + 1])
{
    uint32_t unnumbered = 0;

    for (const struct mr_sub *sub = session->subs; sub != NULL; sub = sub->owner_next) {
        if (sub->is_shared && sub->row == UINT32_MAX) {
            unnumbered += 1;
        } else if (sub->is_shared) {
            used[sub_slot(sub)] = true;
        }
    }
    return unnumbered;
}

/* Which slots what it is owed has, also of subscriptions that are gone. */
static void slots_of_queue(const struct keep *keep, bool used[SLOTS + 1])
{
    for (uint32_t i = 0; i < keep->count; i++) {
        used[queue_at(keep, i)->share] = true;
    }
}

/* Is there a slot for one more? */
static bool slot_is_free(const struct session *session)
{
    bool used[SLOTS + 1] = {false};
    uint32_t count = slots_of_subs(session, used);

    slots_of_queue(session->keep, used);
    for (int slot = 1; slot <= SLOTS; slot++) {
        count += used[slot];
    }
    return count < SLOTS;
}

/* At a start what is owed may have more slots than it had live, where it was settled in that
 * turn already: then it is enough that no other subscription has this one's.
 */
void sub_number(struct session *session, struct mr_sub *sub)
{
    struct keep *keep = session->keep;
    bool used[SLOTS + 1] = {false};
    bool owed[SLOTS + 1] = {false};
    uint32_t row = keep->sub_next;

    if (sub->is_shared) {
        sub->row = UINT32_MAX;
        (void)slots_of_subs(session, used);
        slots_of_queue(keep, owed);
        while (row - keep->sub_next < SLOTS && (used[row % SLOTS + 1] || owed[row % SLOTS + 1])) {
            row += 1;
        }
        while (used[row % SLOTS + 1] && row - keep->sub_next < 2 * SLOTS) {
            row += 1;
        }
    }
    sub->row = row;
    keep->sub_next = row + 1;
}

/* ---- in and out ---- */

bool share_is(struct mr_span filter)
{
    struct mr_span group;
    struct mr_span inner;

    return filter.len > 7 && filter.at[0] == '$' &&
           mr_topic_share_split(filter, &group, &inner) == MR_OK;
}

uint8_t share_join(struct mr_shard *shard, struct session *session, struct mr_sub *sub,
                   struct mr_span filter, uint8_t qos)
{
    if (!sub->is_shared && !sub->is_stored) {
        sub->row = UINT32_MAX; /* not numbered yet */
    }
    if (session->keep != NULL && !sub->is_shared && !shard->restoring && !slot_is_free(session)) {
        return MR_MQTT_QUOTA_EXCEEDED;
    }
    mr_subtree_share(shard->subtree, sub);
    if (session->share == NULL) {
        session->share = share_client_new(session_id(session), shard->index, session->keep != NULL);
        atomic_store(&session->share->connected, session->client != NULL);
        share_rights_renew(shard, session);
    }
    enum mr_err err = shares_join(shard->broker->shares, session->share, filter, qos);
    return err == MR_OK         ? 0
           : err == MR_ERR_FULL ? MR_MQTT_QUOTA_EXCEEDED
                                : MR_MQTT_TOPIC_FILTER_INVALID;
}

void share_leave(struct mr_shard *shard, struct session *session, struct mr_span filter)
{
    if (session->share != NULL) {
        shares_leave(shard->broker->shares, session->share, filter);
    }
}

void share_online(const struct mr_shard *shard, struct session *session, bool connected)
{
    if (session->share != NULL) {
        share_rights_renew(shard, session);
        atomic_store(&session->share->connected, connected);
        share_load(shard, session);
        if (connected) {
            shares_came_online(shard->broker->shares);
        }
    }
}

static enum share_load load_of(const struct mr_shard *shard, const struct session *session)
{
    uint64_t most = shard->limits.max_queued_messages;
    const struct keep *keep = session->keep;
    const struct outbound *outbound = session->outbound;

    if (keep != NULL) {
        uint32_t waits = keep->count - keep->next;
        uint32_t window = session->client == NULL ? 0 : keep->window;
        return waits + keep->under_way < window ? SHARE_FREE
               : waits >= most                  ? SHARE_FULL
                                                : SHARE_QUEUES;
    }
    if (outbound == NULL) {
        return SHARE_FREE;
    }
    return outbound->queue_count >= most                                          ? SHARE_FULL
           : outbound->queue_first != NULL || outbound->count == outbound->window ? SHARE_QUEUES
                                                                                  : SHARE_FREE;
}

void share_load(const struct mr_shard *shard, struct session *session)
{
    if (MR_LIKELY(session->share == NULL)) {
        return;
    }
    atomic_store_explicit(&session->share->load, load_of(shard, session), memory_order_relaxed);
}

/* ---- what it leaves behind ---- */

/* May it be given to another member?  If the session ends, also what it was given just now. */
static bool delivery_moves(const struct mr_shard *shard, const struct keep *keep,
                           const struct delivery *delivery, enum share_who who)
{
    return delivery->share != 0 && delivery->state == DELIVERY_OWED &&
           (delivery->qos == 1 || delivery->ordinal >= keep->ordinal_sent) &&
           (who == SHARE_ANYONE || delivery->kept->lane != shard->index ||
            delivery->kept->seq <= shard->seq_released);
}

/* The store has lost its message, as the log says: nobody can have it. */
static void delivery_lost(struct mr_shard *shard, struct keep *keep, uint64_t ordinal)
{
    queue_settle(shard, keep, ordinal);
    queue_forget(shard, keep, ordinal, 1);
}

/* To another member of its group.  AGAIN: there is none now.   FULL: no room.   IO: it cannot be
 * read now.
 */
static enum mr_err delivery_move(struct mr_shard *shard, struct session *session,
                                 const struct delivery *delivery, enum share_who who)
{
    const struct mr_sub *sub = slot_sub(session, delivery->share);
    struct share_target target;
    struct filter_text text;
    struct mr_message message;

    if (sub == NULL) {
        return MR_ERR_AGAIN;
    }
    struct kept *kept = delivery->kept;
    struct giving giving = {.message = &message,
                            .targets = &target,
                            .count = 1,
                            .from = session_id(session),
                            .ordinal = delivery->ordinal};
    kept->refs += 1; /* the delivery goes, and the message is read until then */
    filter_text(sub, &text);
    enum mr_err err = kept_read(shard, kept, &message);
    if (MR_UNLIKELY(err == MR_ERR_REJECT)) {
        delivery_lost(shard, session->keep, giving.ordinal);
    } else if (err == MR_OK && shares_choose(shard->broker->shares, text.span, message.topic,
                                             session->share, who, &target)) {
        err = share_give(shard, &giving);
        shares_release(&target, 1);
    } else if (err == MR_OK) {
        err = MR_ERR_AGAIN;
    }
    kept_read_end(shard);
    kept_unref(shard, kept);
    filter_text_end(&text);
    return err;
}

/* Of the subscription with slot `only` (0: of all); `unsent`: what this connection was not sent.
 * False: some of it has no room, or cannot be read, and is to be tried again.
 */
static bool shift(struct mr_shard *shard, struct session *session, enum share_who who, uint8_t only,
                  bool unsent)
{
    struct keep *keep = session->keep;
    bool tried[SLOTS + 1] = {false}; /* in vain */
    uint32_t unread = 0;
    uint32_t i = 0;

    while (i < keep->count && !shard->stalled && unread < UNREAD_MAX) {
        struct delivery *delivery = queue_at(keep, i);
        uint32_t before = keep->count;

        if (!delivery_moves(shard, keep, delivery, who) || tried[delivery->share] ||
            (only != 0 && delivery->share != only) || (unsent && i < keep->next)) {
            i += 1;
            continue;
        }
        uint8_t slot = delivery->share;
        enum mr_err err = delivery_move(shard, session, delivery, who);
        tried[slot] = err == MR_ERR_AGAIN && shard->acl_version == 0; /* else others may read it */
        unread += err == MR_ERR_IO;
        /* What is taken out of the front is gone, what is taken out behind it stays as DONE. */
        i = keep->count < before ? 0 : i + 1;
    }
    return unread == 0 && !shard->stalled;
}

void share_shift(struct mr_shard *shard, struct session *session, enum share_who who)
{
    (void)shift(shard, session, who, 0, false); /* expiry.c asks again */
}

bool share_leaving(struct mr_shard *shard, struct session *session, const struct mr_sub *sub)
{
    return session->keep == NULL || !sub->is_shared ||
           shift(shard, session, SHARE_ANYONE, sub_slot(sub), true);
}

bool share_hand_over(struct mr_shard *shard, struct session *session)
{
    return session->share == NULL || session->keep == NULL ||
           shift(shard, session, SHARE_ANYONE, 0, false);
}

/* Of a session that is not persistent: what waits, and QoS 1 that was sent. */
static void outbound_pass_on(struct mr_shard *shard, struct outbound *outbound)
{
    struct stored *stored;

    while ((stored = stored_pop(&outbound->shared_first, &outbound->shared_last)) != NULL) {
        share_pass_on(shard, stored);
    }
    while ((stored = stored_pop(&outbound->queue_first, &outbound->queue_last)) != NULL) {
        if (stored->group != NULL) {
            share_pass_on(shard, stored);
        } else {
            stored_free(&shard->pool, stored);
        }
    }
}

void share_end(struct mr_shard *shard, struct session *session)
{
    struct filter_text text;

    if (session->share == NULL) {
        return;
    }
    atomic_store(&session->share->connected, false);
    for (const struct mr_sub *sub = session->subs; sub != NULL; sub = sub->owner_next) {
        if (sub->is_shared) {
            filter_text(sub, &text);
            shares_leave(shard->broker->shares, session->share, text.span);
            filter_text_end(&text);
        }
    }
    if (!shard->closing && !shard->restoring && session->keep == NULL &&
        session->outbound != NULL) {
        outbound_pass_on(shard, session->outbound);
    }
    share_client_drop(session->share);
    session->share = NULL;
}

/* ---- towards a session that is not persistent ---- */

void share_sent(struct client *client, const struct outgoing *outgoing)
{
    struct mr_shard *shard = client->shard;
    struct outbound *outbound = client->session->outbound;
    struct stored *copy = outgoing->qos != 1 || !deliver_has_memory(shard, 0)
                              ? NULL
                              : stored_new(&shard->pool, outgoing->message, STORED_PAYLOAD);

    if (copy != NULL) {
        share_group_hold(outgoing->group);
        copy->group = outgoing->group;
        copy->packet_id = outgoing->packet_id;
        copy->qos = outgoing->qos;
        stored_push(&outbound->shared_first, &outbound->shared_last, copy);
    }
}

void share_acked(struct mr_shard *shard, struct outbound *outbound, uint16_t packet_id)
{
    struct stored *before = NULL;
    struct stored *stored = outbound->shared_first;

    while (stored != NULL && stored->packet_id != packet_id) {
        before = stored;
        stored = stored->next;
    }
    if (stored == NULL) {
        return;
    }
    if (before == NULL) {
        outbound->shared_first = stored->next;
    } else {
        before->next = stored->next;
    }
    if (outbound->shared_last == stored) {
        outbound->shared_last = before;
    }
    share_group_drop(stored->group);
    stored_free(&shard->pool, stored);
}
