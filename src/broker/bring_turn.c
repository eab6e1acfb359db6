/* bring_turn.c - retained messages into their connections, session after session (bring.c).
 *
 * A session that can go on is in the shard's list, and each in the list goes some steps in its
 * turn.  One that cannot is in no list: what it waits for, its socket, an ack, memory, its
 * connection, calls bring_wake().
 */
#include "broker/bring_internal.h"
#include "broker/outgoing_internal.h"

#include "os/clock.h"

enum {
    QUANTUM = 128,     /* steps of one session, then it is the next one's turn */
    TURN_NS = 1000000, /* for all, in one turn of the shard */
};

/* ---- sending ---- */

/* The rules have changed since the batch was chosen. */
static bool rules_let(const struct mr_shard *shard, const struct session *session,
                      const struct mr_message *message)
{
    return access_may(shard, session, message->topic, MR_ACL_READ) &&
           (!access_asks_sources(shard, session) || access_source_may(shard, message));
}

/* One of the batch to the client.  FULL: not now. */
static enum mr_err brought_send(struct client *client, const struct bringing *bringing,
                                const struct brought *one)
{
    struct mr_shard *shard = client->shard;
    struct mr_message message;
    struct mr_mqtt_props props;
    struct outgoing outgoing = {.message = &message,
                                .subscription_id = one->subscription_id,
                                .qos = one->qos,
                                .retain = true}; /* [MQTT-3.3.1-8] */

    if (!one->kept->is_retained) {
        return MR_OK; /* cleared, or a newer one has come live */
    }
    if (!deliver_may_bring(client, one->qos)) {
        return MR_ERR_FULL;
    }
    enum mr_err err = kept_read(shard, one->kept, &message);
    if (MR_UNLIKELY(err != MR_OK)) {
        if (err == MR_ERR_IO) {
            outbound_drain_later(client);
        }
        return err == MR_ERR_IO ? MR_ERR_FULL : MR_OK;
    }
    if (MR_UNLIKELY(bringing->acl_version != shard->acl_version) &&
        !rules_let(shard, bringing->session, &message)) {
        return MR_OK;
    }
    outgoing.props = message_props(&message, &props);
    return deliver_retained(client, &outgoing);
}

/* The batch to the client.  False: the rest not now. */
static bool batch_send(struct mr_shard *shard, struct client *client, struct bringing *bringing)
{
    bool sent = true;

    while (bringing->at < bringing->count && sent) {
        struct brought *one = &bringing->batch[bringing->at];
        sent = brought_send(client, bringing, one) == MR_OK;
        if (sent) {
            kept_unref(shard, one->kept);
            bringing->at += 1;
        }
    }
    kept_read_end(shard);
    if (sent) {
        bringing->at = 0;
        bringing->count = 0;
    }
    return sent;
}

/* ---- taking turns ---- */

static enum outcome bringing_step(struct mr_shard *shard, struct bringing *bringing,
                                  uint32_t *steps)
{
    struct client *client = bringing->session->client;

    if (client == NULL || connack_waits(client)) {
        return BRING_RESTS;
    }
    for (;;) {
        if (!bringing->owed && !batch_send(shard, client, bringing)) {
            return BRING_RESTS;
        }
        if (bringing->first == NULL) {
            (void)bringing_end(shard, bringing);
            return BRING_ENDED;
        }
        if (*steps == 0) {
            return BRING_MORE;
        }
        enum outcome outcome = bring_next(shard, bringing, steps);
        if (outcome != BRING_MORE) {
            return outcome;
        }
    }
}

static void list_push(struct mr_shard *shard, struct bringing *bringing)
{
    bringing->queued = true;
    bringing->run_next = NULL;
    if (shard->bringing_last != NULL) {
        shard->bringing_last->run_next = bringing;
    } else {
        shard->bringing_first = bringing;
    }
    shard->bringing_last = bringing;
}

static struct bringing *list_pop(struct mr_shard *shard)
{
    struct bringing *bringing = shard->bringing_first;

    shard->bringing_first = bringing->run_next;
    if (shard->bringing_first == NULL) {
        shard->bringing_last = NULL;
    }
    bringing->queued = false;
    return bringing;
}

void bring_start(struct mr_shard *shard, struct session *session)
{
    struct bringing *bringing = bringing_find(shard, session);

    if (bringing == NULL || bringing->queued) {
        return;
    }
    enum outcome outcome = bringing_step(shard, bringing, &shard->bring_steps);
    if (outcome == BRING_MORE || outcome == BRING_HELD) {
        list_push(shard, bringing);
        shard->bring_left |= outcome == BRING_MORE;
    }
}

void bring_wake(struct mr_shard *shard, struct session *session)
{
    struct bringing *bringing = bringing_find(shard, session);

    if (bringing != NULL && !bringing->queued) {
        list_push(shard, bringing);
        shard->bring_left = true;
    }
}

void bring_turn(struct mr_shard *shard)
{
    int64_t end_ns = mr_clock_mono_ns() + TURN_NS;
    struct bringing *held = NULL;
    bool time = true;

    while (shard->bringing_first != NULL && time) {
        struct bringing *bringing = list_pop(shard);
        uint32_t steps = QUANTUM;
        if (bringing->session == NULL) {
            bringing_free(shard, bringing);
            continue;
        }
        enum outcome outcome = bringing_step(shard, bringing, &steps);
        if (outcome == BRING_MORE) {
            list_push(shard, bringing);
        } else if (outcome == BRING_HELD) {
            bringing->run_next = held;
            held = bringing;
        }
        time = mr_clock_mono_ns() < end_ns;
    }
    shard->bring_left = shard->bringing_first != NULL;
    while (held != NULL) { /* again when the journal has room; a tick looks, too */
        struct bringing *next = held->run_next;
        list_push(shard, held);
        held = next;
    }
}

/* ---- a session's connections ---- */

void bring_missed(struct client *client, const struct mr_message *message)
{
    struct bringing *bringing = bringing_find(client->shard, client->session);

    if (bringing != NULL && message->retain) {
        bringing->missed = client->shard->retained_stamp + 1; /* it is set right after */
    }
}

/* What a restart interrupted begins anew: what the records name is known, but not where in the
 * tree that was.
 */
static void bring_again(struct mr_shard *shard, struct session *session)
{
    session->keep->may_bring = false;
    for (struct mr_sub *sub = session->subs; sub != NULL; sub = sub->owner_next) {
        uint8_t *filter;
        size_t capacity = 0;
        size_t len = mr_subtree_filter_len(sub);
        bool added = false;

        if (!sub->brings || sub->bring != NULL) {
            continue;
        }
        filter = mr_bufpool_take(&shard->pool, len, &capacity);
        if (filter != NULL) {
            mr_subtree_filter_put(sub, filter);
            struct mr_control_filter wanted = {.filter = mr_span_make(filter, len),
                                               .subscription_id = sub->subscription_id,
                                               .qos = sub->qos};
            added = bring_add(shard, sub, &wanted);
            mr_bufpool_give(&shard->pool, filter, capacity);
        }
        session->keep->may_bring |= !added; /* at its next CONNECT, perhaps */
        if (added && sub->bring == NULL) {  /* none is retained any more: it is over */
            sub->brings = false;
            sub->is_stored = false;
            keep_mark(shard, session->keep);
        }
    }
}

void bring_resume(struct mr_shard *shard, struct session *session)
{
    struct bringing *bringing = bringing_find(shard, session);

    if (bringing != NULL) { /* what came with QoS 0 meanwhile is not in its queue */
        bringing->missed = shard->retained_stamp;
    }
    if (session->keep->may_bring) {
        bring_again(shard, session);
    }
    bring_wake(shard, session);
}

void bring_close(struct mr_shard *shard)
{
    while (shard->bringing_first != NULL) {
        bringing_free(shard, list_pop(shard));
    }
    mr_free(shard->bringing_table);
    shard->bringing_table = NULL;
}
