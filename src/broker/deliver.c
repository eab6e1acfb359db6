/* deliver.c - to live subscribers.
 *
 * DESIGN
 *
 * A QoS 0 publish goes to those who listen at once.  A QoS 1 or 2 publish goes when
 * its record is durable (to persistent sessions by way of their queues, queue.c): until then a
 * small copy of topic and properties waits in a list sorted by seq, and its payload stays where it
 * already is, in the journal's block.
 *
 * A slow subscriber never slows a publisher.  What its socket does not take
 * waits in its out buffer up to CLIENT_OUT_MAX, QoS 1 and 2 then in its queue, bounded
 * in messages and bytes; beyond that new messages are dropped and counted.
 * Deliveries may use three quarters of the pool, those that wait for the disk seven
 * eighths, so that subscribers cannot take the memory that receiving needs.
 *
 * What waits for the disk while a SUBSCRIBE comes is older than the subscription, and does not come
 * live: its topic's retained message, which the SUBSCRIBE brings at once, may be newer.
 *
 * Overlapping subscriptions of one client get one copy each, every one with its
 * own QoS and identifier, or one for all of them (merge.c).
 *
 * INVARIANTS
 *
 *   (1) pending is sorted by seq.
 *   (2) The ids in flight towards a subscriber are in cyclic ascending order in
 *       their ring, so the next id can only collide with the oldest.
 *   (3) While the queue holds something, no QoS 1 or 2 message passes it.
 */
#include "broker/keep_internal.h"
#include "broker/outgoing_internal.h"

struct fanout {
    struct mr_shard *shard;
    const struct mr_message *message;
    const struct mr_mqtt_props *props;
    uint64_t seq; /* of a message that has waited for the disk; else 0 */
    bool journaled;
};

bool deliver_has_memory(const struct mr_shard *shard, size_t bytes)
{
    return shard->pool.lent_bytes + bytes < shard->pool.limit_bytes / 4 * 3;
}

/* The subscriber's side of QoS 1 and 2, made when it is needed. */
static struct outbound *outbound_of(struct client *client)
{
    struct session *session = client->session;
    size_t capacity = 0;

    if (session->outbound != NULL) {
        return session->outbound;
    }
    uint16_t window = client->receive_max < INFLIGHT_MAX ? client->receive_max : INFLIGHT_MAX;
    struct outbound *outbound = (struct outbound *)(void *)mr_bufpool_take(
        &client->shard->pool, sizeof(*outbound) + window * sizeof(outbound->ids[0]), &capacity);
    if (outbound != NULL) {
        *outbound = (struct outbound){.capacity = (uint32_t)capacity, .window = window};
        session->outbound = outbound;
    }
    return outbound;
}

/* The id of the next message; 0: the window is used up. */
static uint16_t outbound_id_next(const struct outbound *outbound)
{
    uint16_t id = outbound->id_last == UINT16_MAX ? 1 : (uint16_t)(outbound->id_last + 1);

    if (outbound->count == outbound->window ||
        (outbound->count != 0 && outbound->ids[outbound->begin].packet_id == id)) { /* (2) */
        return 0;
    }
    return id;
}

static void outbound_id_take(struct outbound *outbound, uint16_t id, uint8_t qos)
{
    outbound->ids[(outbound->begin + outbound->count) % outbound->window] =
        (struct under_way){.packet_id = id, .awaits = qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC};
    outbound->count += 1;
    outbound->id_last = id;
}

static void outbound_enqueue(struct client *client, struct outbound *outbound,
                             const struct outgoing *outgoing)
{
    struct mr_shard *shard = client->shard;
    const struct mr_broker_limits *limits = &shard->limits;
    struct stored *stored = NULL;

    if (outbound->queue_count >= limits->max_queued_messages ||
        outbound->queue_bytes + message_bytes(outgoing->message) > limits->max_queued_bytes) {
        static struct mr_log_limit limit;
        uint64_t held = 0;
        struct client_label label;
        if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
            mr_log(MR_LOG_WARN, "mqtt",
                   "%s reads too slowly: its queue of %u messages is full and new ones are "
                   "dropped (%llu more such lines held back); see `max_queued_messages`",
                   client_label(client, &label), outbound->queue_count, (unsigned long long)held);
        }
        mr_metric_add(shard->metrics.dropped_slow, 1);
        return;
    }
    if (deliver_has_memory(shard, 0)) {
        stored = stored_new(&shard->pool, outgoing->message, STORED_PAYLOAD);
    }
    if (stored == NULL) {
        mr_metric_add(shard->metrics.dropped_memory, 1);
        return;
    }
    if (outgoing->group != NULL) {
        share_group_hold(outgoing->group);
        stored->group = outgoing->group;
    }
    stored->subscription_id = outgoing->subscription_id;
    stored->qos = outgoing->qos;
    stored->retain = outgoing->retain;
    outbound->queue_count += 1;
    outbound->queue_bytes += message_bytes(&stored->message);
    stored_push(&outbound->queue_first, &outbound->queue_last, stored);
}

bool client_has_room(struct client *client)
{
    return mr_conn_waiting(client_conn(client)) < CLIENT_OUT_MAX &&
           deliver_has_memory(client->shard, 0);
}

static void deliver_qos0(struct client *client, struct outgoing *outgoing)
{
    struct mr_shard *shard = client->shard;

    if (!client_has_room(client)) {
        bring_missed(client, outgoing->message);
        mr_metric_add(shard->metrics.dropped_slow, 1);
        return;
    }
    enum mr_err err = send_publish(client, outgoing);
    if (err != MR_OK) {
        bring_missed(client, outgoing->message);
        mr_metric_add(
            err == MR_ERR_FULL ? shard->metrics.dropped_memory : shard->metrics.dropped_large, 1);
    }
}

static void deliver_qos12(struct client *client, struct outgoing *outgoing)
{
    struct mr_shard *shard = client->shard;
    struct outbound *outbound = outbound_of(client);

    if (outbound == NULL) {
        mr_metric_add(shard->metrics.dropped_memory, 1);
        return;
    }
    outgoing->packet_id = outbound_id_next(outbound);
    if (outbound->queue_first != NULL || outgoing->packet_id == 0 || !client_has_room(client)) {
        outbound_enqueue(client, outbound, outgoing);
        return;
    }
    enum mr_err err = send_publish(client, outgoing);
    if (err == MR_OK) {
        outbound_id_take(outbound, outgoing->packet_id, outgoing->qos);
        if (outgoing->group != NULL) {
            share_sent(client, outgoing);
        }
    } else {
        mr_metric_add(
            err == MR_ERR_FULL ? shard->metrics.dropped_memory : shard->metrics.dropped_large, 1);
    }
}

void deliver_one(struct client *client, struct outgoing *outgoing)
{
    if (outgoing->qos == 0) {
        deliver_qos0(client, outgoing);
    } else {
        deliver_qos12(client, outgoing);
    }
}

bool deliver_may_bring(struct client *client, uint8_t qos)
{
    if (mr_conn_waiting(client_conn(client)) >= CLIENT_OUT_MAX / 2) {
        return false;
    }
    if (!deliver_has_memory(client->shard, 0)) {
        outbound_drain_later(client);
        return false;
    }
    if (qos == 0) {
        return true;
    }
    const struct outbound *outbound = outbound_of(client);
    if (outbound == NULL) {
        outbound_drain_later(client);
        return false;
    }
    return outbound->queue_first == NULL && outbound_id_next(outbound) != 0;
}

enum mr_err deliver_retained(struct client *client, struct outgoing *outgoing)
{
    struct outbound *outbound = client->session->outbound;

    outgoing->packet_id = outgoing->qos == 0 ? 0 : outbound_id_next(outbound);
    enum mr_err err = send_publish(client, outgoing);
    if (err == MR_ERR_FULL) {
        outbound_drain_later(client);
        return err;
    }
    if (err != MR_OK) {
        mr_metric_add(client->shard->metrics.dropped_large, 1);
    } else if (outgoing->qos != 0) {
        outbound_id_take(outbound, outgoing->packet_id, outgoing->qos);
    }
    return MR_OK;
}

/* A persistent session: its queue has what is journaled with QoS 1 or 2 (event_apply()). */
static void deliver_persistent(const struct fanout *fanout, const struct mr_sub *sub)
{
    const struct mr_message *message = fanout->message;
    struct session *session = sub->owner;
    struct client *client = session->client;
    bool queued = fanout->journaled && message->qos != 0 && sub->qos != 0;

    if (queued || client == NULL || connack_waits(client) ||
        (sub->no_local && mr_span_equal(session_id(session), message->client))) {
        return;
    }
    struct outgoing outgoing = {.message = message,
                                .props = fanout->props,
                                .subscription_id = sub->subscription_id,
                                .retain = sub->retain_as_published && message->retain};
    deliver_qos0(client, &outgoing);
}

static void deliver_found(void *arg, const struct mr_sub *sub)
{
    const struct fanout *fanout = arg;
    const struct mr_message *message = fanout->message;
    struct session *session = sub->owner;
    struct client *client = session->client;

    if (sub->since >= fanout->seq && fanout->seq != 0) {
        return;
    }
    if (!access_reads(fanout->shard, sub, message->topic)) {
        return;
    }
    if (session->keep != NULL) {
        deliver_persistent(fanout, sub);
        return;
    }
    if (sub->no_local && mr_conn_id(client_conn(client)) == message->publisher) {
        return; /* [MQTT-3.8.3-3] */
    }
    struct outgoing outgoing = {.message = message,
                                .props = fanout->props,
                                .subscription_id = sub->subscription_id,
                                .qos = message->qos < sub->qos ? message->qos : sub->qos,
                                .retain = sub->retain_as_published && message->retain};
    deliver_one(client, &outgoing);
}

static void deliver_behind(struct mr_shard *shard, const struct mr_message *message, bool journaled,
                           uint64_t seq)
{
    struct mr_mqtt_props props;
    struct fanout fanout = {.shard = shard, .message = message, .seq = seq, .journaled = journaled};

    fanout.props = message_props(message, &props);
    merge_match(shard, message, seq, deliver_found, &fanout);
}

void deliver_now(struct mr_shard *shard, const struct mr_message *message, bool journaled)
{
    deliver_behind(shard, message, journaled, 0);
}

enum mr_err pending_new(struct mr_shard *shard, const struct mr_message *message,
                        struct stored **out)
{
    bool room = shard->pool.lent_bytes < shard->pool.limit_bytes / 8 * 7;

    *out = room ? stored_new(&shard->pool, message, 0) : NULL;
    if (*out != NULL) {
        (*out)->message.payload = (struct mr_span){.at = NULL, .len = message->payload.len};
        return MR_OK;
    }
    if (shard->pending_first != NULL ||
        (room && mr_bufpool_fits(&shard->pool, stored_bytes(message, 0)))) {
        return MR_ERR_FULL; /* room comes back, or it is the system that refuses it */
    }
    /* Not the disk has the memory, so waiting for it would be waiting for ever. */
    mr_metric_add(shard->metrics.dropped_memory, 1);
    return MR_OK;
}

void pending_push(struct mr_shard *shard, struct stored *pending, const struct mr_appended *at)
{
    mr_assert(shard->pending_last == NULL || shard->pending_last->seq < at->seq); /* (1) */
    pending->seq = at->seq;
    pending->message.payload.at = at->payload;
    stored_push(&shard->pending_first, &shard->pending_last, pending);
}

void pending_deliver(struct mr_shard *shard, uint64_t durable_seq)
{
    while (shard->pending_first != NULL && shard->pending_first->seq <= durable_seq) {
        struct stored *pending = stored_pop(&shard->pending_first, &shard->pending_last);
        if (MR_UNLIKELY(pending->group != NULL)) {
            share_pending(shard, pending);
            continue;
        }
        deliver_behind(shard, &pending->message, true, pending->seq);
        stored_free(&shard->pool, pending);
    }
}

/* Its queue waits for nothing but memory: neither an ack nor its socket will call
 * again, so a tick has to.
 */
void outbound_drain_later(struct client *client)
{
    client->drain_again = true;
    client->shard->drain_again = true;
}

static void drain_again(void *arg, struct mr_conn *conn)
{
    struct client *client = mr_conn_user(conn);

    (void)arg;
    if (client->drain_again) {
        client->drain_again = false;
        outbound_drain(client);
    }
}

void outbound_drain_waiting(struct mr_shard *shard)
{
    if (shard->drain_again && deliver_has_memory(shard, 0)) {
        shard->drain_again = false;
        mr_net_each(shard->net, drain_again, NULL);
    }
}

void outbound_drain(struct client *client)
{
    struct mr_shard *shard = client->shard;
    struct outbound *outbound = client->session == NULL ? NULL : client->session->outbound;

    if (client->session != NULL) {
        bring_wake(shard, client->session); /* behind what is queued */
    }
    if (client->session != NULL && client->session->keep != NULL) {
        queue_drain(client, shard->seq_released);
        return;
    }
    if (outbound == NULL) {
        return;
    }
    while (outbound->queue_first != NULL && client_has_room(client)) {
        struct stored *stored = outbound->queue_first;
        struct mr_mqtt_props props;
        struct outgoing outgoing = {.message = &stored->message,
                                    .group = stored->group,
                                    .subscription_id = stored->subscription_id,
                                    .packet_id = outbound_id_next(outbound),
                                    .qos = stored->qos,
                                    .retain = stored->retain};
        if (outgoing.packet_id == 0) {
            return;
        }
        bool may = access_may(shard, client->session, stored->message.topic, MR_ACL_READ);
        outgoing.props = message_props(&stored->message, &props);
        enum mr_err err = may ? send_publish(client, &outgoing) : MR_ERR_REJECT;
        if (err == MR_ERR_FULL) {
            outbound_drain_later(client);
            return;
        }
        if (err == MR_OK) {
            outbound_id_take(outbound, outgoing.packet_id, outgoing.qos);
            if (outgoing.group != NULL) {
                share_sent(client, &outgoing);
            }
        } else if (!may) {
            mr_metric_add(shard->metrics.denied_deliver, 1);
        } else {
            mr_metric_add(shard->metrics.dropped_large, 1);
        }
        (void)stored_pop(&outbound->queue_first, &outbound->queue_last);
        outbound->queue_count -= 1;
        outbound->queue_bytes -= message_bytes(&stored->message);
        if (stored->group != NULL) {
            share_group_drop(stored->group);
        }
        stored_free(&shard->pool, stored);
    }
    share_load(shard, client->session);
    if (outbound->queue_first != NULL && !deliver_has_memory(shard, 0)) {
        outbound_drain_later(client);
    }
}

/* The place of `packet_id` in the ring if it awaits `type`; count: it does not. */
static uint16_t outbound_find(const struct outbound *outbound, uint16_t packet_id, uint16_t type)
{
    uint16_t index = 0;

    while (index < outbound->count) {
        const struct under_way *one = &outbound->ids[(outbound->begin + index) % outbound->window];
        if (one->packet_id == packet_id && one->awaits == type) {
            break;
        }
        index += 1;
    }
    return index;
}

static void outbound_remove(struct outbound *outbound, uint16_t index)
{
    /* Clients acknowledge in order, so there is rarely anything to move. */
    for (; index > 0; index--) {
        outbound->ids[(outbound->begin + index) % outbound->window] =
            outbound->ids[(outbound->begin + index - 1) % outbound->window];
    }
    outbound->begin = (uint16_t)((outbound->begin + 1) % outbound->window);
    outbound->count -= 1;
}

static bool outbound_answered(struct client *client, uint16_t packet_id, uint16_t type)
{
    struct outbound *outbound = client->session->outbound;
    uint16_t index = outbound == NULL ? 0 : outbound_find(outbound, packet_id, type);

    if (outbound == NULL || index == outbound->count) {
        return false;
    }
    outbound_remove(outbound, index);
    if (MR_UNLIKELY(outbound->shared_first != NULL)) {
        share_acked(client->shard, outbound, packet_id);
    }
    return true;
}

bool outbound_acked(struct client *client, uint16_t packet_id)
{
    return outbound_answered(client, packet_id, MR_MQTT_PUBACK);
}

bool outbound_completed(struct client *client, uint16_t packet_id)
{
    return outbound_answered(client, packet_id, MR_MQTT_PUBCOMP);
}

bool outbound_received(struct client *client, uint16_t packet_id, uint8_t reason)
{
    struct outbound *outbound = client->session->outbound;

    if (reason >= MR_MQTT_UNSPECIFIED) {
        return outbound_answered(client, packet_id, MR_MQTT_PUBREC);
    }
    uint16_t index = outbound == NULL ? 0 : outbound_find(outbound, packet_id, MR_MQTT_PUBREC);
    if (outbound == NULL || index == outbound->count) {
        return outbound != NULL &&
               outbound_find(outbound, packet_id, MR_MQTT_PUBCOMP) != outbound->count;
    }
    outbound->ids[(outbound->begin + index) % outbound->window].awaits = MR_MQTT_PUBCOMP;
    return true;
}

void outbound_drop(struct mr_shard *shard, struct session *session)
{
    struct outbound *outbound = session->outbound;
    struct stored *stored;

    if (outbound == NULL) {
        return;
    }
    while ((stored = stored_pop(&outbound->queue_first, &outbound->queue_last)) != NULL ||
           (stored = stored_pop(&outbound->shared_first, &outbound->shared_last)) != NULL) {
        if (stored->group != NULL) {
            share_group_drop(stored->group);
        }
        stored_free(&shard->pool, stored);
    }
    mr_bufpool_give(&shard->pool, (uint8_t *)outbound, outbound->capacity);
    session->outbound = NULL;
}
