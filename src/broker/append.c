/* append.c - into the journal, and what the broker publishes in its own name. */
#include "broker/keep_internal.h"
#include "broker/retained.h"

bool publish_props(struct mr_shard *shard, const struct mr_mqtt_props *rest, size_t raw_len,
                   struct mr_span *props, uint8_t **buffer, size_t *capacity)
{
    *buffer = NULL;
    *props = (struct mr_span){0};
    if (rest->present == 0) {
        return true;
    }
    *buffer = mr_bufpool_take(&shard->pool, raw_len, capacity);
    if (*buffer == NULL) {
        return false;
    }
    ptrdiff_t len = mr_mqtt_props_encode(rest, MR_MQTT_PUBLISH, *buffer, *capacity);
    mr_assert(len >= 0);
    *props = mr_span_make(*buffer, (size_t)len);
    return true;
}

enum mr_err message_append(struct mr_shard *shard, const struct mr_message *message,
                           struct mr_name_ref *name, struct mr_appended *out)
{
    struct mr_record_raw *record = &shard->record;

    record->type = MR_RECORD_EVENT;
    record->received_us = message->received_us;
    record->client = message->client;
    record->username = message->username;
    record->topic = message->topic;
    record->properties = message->props;
    record->payload = message->payload;
    record->packet_id = message->packet_id;
    record->qos = message->qos;
    record->retain = message->retain;
    record->will = message->will;

    enum mr_err err = mr_lane_append(shard->lane, record, name, out);
    if (MR_LIKELY(err == MR_OK)) {
        if (shard->sample_ns == 0) {
            shard->sample_ns = shard->now_ns;
            shard->sample_seq = out->seq;
        }
        return MR_OK;
    }
    if (err == MR_ERR_FULL) {
        if (!shard_refuses(shard)) {
            shard_stall(shard);
        }
    } else if (err == MR_ERR_IO) {
        shard_fail(shard);
    }
    return err;
}

void message_apply(struct mr_shard *shard, const struct mr_message *message, uint64_t seq)
{
    struct kept *kept = NULL;

    if (seq != 0) {
        if (message->retain) {
            foreign_tell(shard, seq);
        }
        event_apply(shard, message, shard->index, seq, false);
        return;
    }
    if (message->retain) { /* of an excluded topic: in memory only */
        retained_apply(shard, message, &kept, shard->index, 0, RETAINED_EXEMPT);
        if (kept != NULL) {
            kept_unref(shard, kept);
        }
    }
}

/* FULL: nothing has happened.  Otherwise the will has been dealt with. */
static enum mr_err will_append_as(struct mr_shard *shard, const struct mr_message *message)
{
    struct mr_appended at = {0};
    struct stored *pending = NULL;

    bool wanted = mr_subtree_has(shard->subtree, message->topic);
    bool excluded = topic_is_excluded(shard, message->topic);
    if (!excluded && !reserve_for(shard, message)) {
        shard_stall(shard);
        return MR_ERR_FULL;
    }
    if (wanted && message->qos != 0 && !excluded &&
        pending_new(shard, message, &pending) != MR_OK) {
        shard_stall(shard);
        return MR_ERR_FULL;
    }
    enum mr_err err = excluded ? MR_OK : message_append(shard, message, NULL, &at);
    if (err == MR_OK && (excluded || message->qos == 0)) {
        if (wanted) {
            deliver_now(shard, message, !excluded);
        }
        if (topic_is_wanted_abroad(shard, message->topic)) {
            mailbox_send_message(shard, message);
        }
        if (shares_has(shard->broker->shares, message->topic)) {
            share_deliver(shard, message);
        }
    }
    if (err == MR_OK) {
        message_apply(shard, message, excluded ? 0 : at.seq);
    }
    if (pending != NULL) {
        if (err == MR_OK) {
            pending_push(shard, pending, &at);
        } else {
            stored_free(&shard->pool, pending);
        }
    }
    if (err == MR_ERR_REJECT) {
        mr_log(MR_LOG_WARN, "mqtt", "a will of %zu bytes is larger than the journal takes; dropped",
               message->payload.len);
    }
    return err;
}

/* The time and the life of one with RETAIN.  *buffer, if lent, goes back.  False: no memory. */
static bool will_time(struct mr_shard *shard, struct mr_message *message, uint8_t **buffer,
                      size_t *capacity)
{
    struct mr_mqtt_props props;

    message->received_us = retained_time(shard, message->topic);
    if (message_props(message, &props) == NULL || !retained_lengthen(shard, message, &props)) {
        return true;
    }
    return publish_props(shard, &props, message->props.len, &message->props, buffer, capacity);
}

/* The same.  What was made of it for the journal is not kept: it may be tried again. */
static enum mr_err will_append(struct mr_shard *shard, const struct stored *will)
{
    struct mr_message message = will->message;
    uint8_t *buffer = NULL;
    size_t capacity = 0;

    if (message.retain && !will_time(shard, &message, &buffer, &capacity)) {
        shard_stall(shard);
        return MR_ERR_FULL;
    }
    enum mr_err err = will_append_as(shard, &message);
    if (buffer != NULL) {
        mr_bufpool_give(&shard->pool, buffer, capacity);
    }
    return err;
}

/* Keep it until the journal has room.  That may be hours, in which devices come and
 * go: their wills may not take the memory in which they are served meanwhile.
 */
static void will_wait(struct mr_shard *shard, struct stored *will)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (deliver_has_memory(shard, 0)) {
        stored_push(&shard->wills_first, &shard->wills_last, will);
        return;
    }
    mr_metric_add(shard->metrics.dropped_memory, 1);
    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_WARN, "mqtt",
               "so many wills wait for room in the journal that one was dropped (%llu more); see "
               "`gateway.memory`",
               (unsigned long long)held);
    }
    stored_free(&shard->pool, will);
}

void will_publish(struct mr_shard *shard, struct stored *will)
{
    will->message.received_us = shard->wall_us;
    /* Behind those that wait already, so that order holds. */
    if (shard->wills_first != NULL || shard->stalled || will_append(shard, will) == MR_ERR_FULL) {
        will_wait(shard, will);
        return;
    }
    stored_free(&shard->pool, will);
}

bool will_publish_kept(struct mr_shard *shard, struct session *session)
{
    struct stored *will = session->will;

    if (will == NULL) {
        return true;
    }
    if (!access_will(shard, session, will->message.topic)) {
        session->will = NULL;
        keep_mark(shard, session->keep);
        stored_free(&shard->pool, will);
        return true;
    }
    will->message.received_us = shard->wall_us;
    if (shard->wills_first != NULL || shard->stalled || will_append(shard, will) == MR_ERR_FULL) {
        return false;
    }
    session->will = NULL;
    keep_mark(shard, session->keep);
    stored_free(&shard->pool, will);
    return true;
}

void wills_retry(struct mr_shard *shard)
{
    while (shard->wills_first != NULL && !shard->stalled) {
        if (will_append(shard, shard->wills_first) == MR_ERR_FULL) {
            return;
        }
        stored_free(&shard->pool, stored_pop(&shard->wills_first, &shard->wills_last));
    }
}
