/* handle_subscribe.c - SUBSCRIBE and its SUBACK (sections 3.8, 3.9).
 *
 * Of a persistent session the granted filters are one record, and so are the retained
 * messages that they bring with QoS 1 or 2, because those take ordinals
 * (docs/SESSIONS.md).  What cannot be undone comes last:
 *
 *     nodes of new filters ▸ room for the SUBACK ▸ append ▸ options, retained messages
 */
#include "broker/keep_internal.h"

/* One SUBSCRIBE being handled. */
struct subscribing {
    struct client *client;
    struct mr_mqtt_subscribe packet;
    uint32_t subscription_id;
    uint8_t *codes; /* per filter: what the SUBACK says */
    uint8_t *told;  /* ... to 3.1 */
    bool *is_new;   /* per filter */
    uint8_t *list;  /* the record's filters; written at `at` */
    uint8_t *at;
    uint8_t *refs;     /* the record's retained messages; NULL: only count */
    size_t refs_count; /* of both walks */
    size_t refs_first; /* of the first */
    size_t refs_bytes;
    struct mr_control_filter filter; /* the one whose retained messages are looked for */
    bool guarded;                    /* not all of what it matches may be read */
    bool sourced;                    /* nor what its publisher may not publish any more */
};

static struct mr_control_filter filter_of(const struct subscribing *subscribing,
                                          const struct mr_mqtt_subscription *wanted)
{
    return (struct mr_control_filter){.filter = wanted->filter,
                                      .subscription_id = subscribing->subscription_id,
                                      .qos = wanted->qos,
                                      .no_local = wanted->no_local,
                                      .retain_as_published = wanted->retain_as_published};
}

/* Have a subscription for the filter: its code.  The options are not touched yet. */
static uint8_t subscribe_make(struct client *client, const struct mr_mqtt_subscription *wanted,
                              bool *is_new)
{
    struct mr_subtree *tree = client->shard->subtree;
    struct session *session = client->session;
    struct mr_span group;
    struct mr_span inner;
    struct mr_sub *sub = NULL;

    *is_new = false;
    enum mr_err shared = mr_topic_share_split(wanted->filter, &group, &inner);
    if (shared == MR_ERR_REJECT) {
        return MR_MQTT_TOPIC_FILTER_INVALID; /* [MQTT-4.8.2-1], [MQTT-4.8.2-2] */
    }
    if (access_covers(client->shard, session, inner) == MR_ACL_COVERS_NONE) {
        access_denied_subscribe(client, wanted->filter);
        return MR_MQTT_NOT_AUTHORIZED;
    }
    if (topic_is_beyond(client, wanted->filter)) {
        return MR_MQTT_TOPIC_FILTER_INVALID;
    }
    bool existed = mr_subtree_find(tree, wanted->filter, &session->subs) != NULL;
    if (!existed && mr_subtree_owned(session->subs) >= client_limits(client)->subscriptions_max) {
        return MR_MQTT_QUOTA_EXCEEDED;
    }
    enum mr_err err = mr_subtree_add(tree, wanted->filter, session, &session->subs, &sub);
    if (err != MR_OK) {
        return err == MR_ERR_FULL ? MR_MQTT_QUOTA_EXCEEDED : MR_MQTT_TOPIC_FILTER_INVALID;
    }
    *is_new = !existed;
    if (shared == MR_OK) {
        uint8_t reason = share_join(client->shard, session, sub, wanted->filter, wanted->qos);
        if (reason != 0) {
            if (!existed) {
                mr_subtree_remove(tree, sub, &session->subs);
                *is_new = false;
            }
            return reason;
        }
    }
    return wanted->qos;
}

static void subscribe_make_all(struct subscribing *subscribing)
{
    struct mr_span rest = subscribing->packet.raw;
    struct mr_mqtt_subscription wanted;

    for (size_t i = 0; mr_mqtt_subscription_next(&rest, &wanted); i++) {
        subscribing->codes[i] =
            subscribe_make(subscribing->client, &wanted, &subscribing->is_new[i]);
        if (subscribing->codes[i] < MR_MQTT_UNSPECIFIED) {
            struct mr_control_filter filter = filter_of(subscribing, &wanted);
            subscribing->at = mr_control_filter_put(subscribing->at, MR_CONTROL_SUBSCRIBE, &filter);
        }
    }
}

/* The record had no room: as if nothing had been asked for. */
static void subscribe_undo(struct subscribing *subscribing)
{
    struct session *session = subscribing->client->session;
    struct mr_subtree *tree = subscribing->client->shard->subtree;
    struct mr_span rest = subscribing->packet.raw;
    struct mr_mqtt_subscription wanted;

    for (size_t i = 0; mr_mqtt_subscription_next(&rest, &wanted); i++) {
        struct mr_sub *sub = mr_subtree_find(tree, wanted.filter, &session->subs);
        if (subscribing->is_new[i] && sub != NULL) {
            if (sub->is_shared) {
                share_leave(subscribing->client->shard, session, wanted.filter);
            }
            mr_subtree_remove(tree, sub, &session->subs);
        }
    }
}

/* Does this filter bring its retained messages?  3.8.3.1: 0 always, 1 if it is new. */
static bool brings_retained(const struct subscribing *subscribing,
                            const struct mr_mqtt_subscription *wanted, size_t index)
{
    return subscribing->codes[index] < MR_MQTT_UNSPECIFIED && wanted->retain_handling != 2 &&
           !share_is(wanted->filter) && /* 4.8.2: no retained messages */
           (wanted->retain_handling == 0 || subscribing->is_new[index]);
}

static void each_retained(struct subscribing *subscribing,
                          void (*found)(void *arg, struct kept *kept))
{
    struct mr_span rest = subscribing->packet.raw;
    struct mr_mqtt_subscription wanted;

    subscribing->sourced =
        access_asks_sources(subscribing->client->shard, subscribing->client->session);
    for (size_t i = 0; mr_mqtt_subscription_next(&rest, &wanted); i++) {
        if (brings_retained(subscribing, &wanted, i)) {
            subscribing->filter = filter_of(subscribing, &wanted);
            subscribing->guarded =
                access_covers(subscribing->client->shard, subscribing->client->session,
                              wanted.filter) != MR_ACL_COVERS_ALL;
            retained_match(subscribing->client->shard, wanted.filter, found, subscribing);
        }
    }
}

/* The QoS in which it is sent; what has no seq cannot be queued. */
static uint8_t retained_qos(const struct subscribing *subscribing, const struct kept *kept)
{
    bool persistent = subscribing->client->session->keep != NULL;
    uint8_t qos = kept->qos < subscribing->filter.qos ? kept->qos : subscribing->filter.qos;

    return persistent && kept->state == KEPT_EXEMPT ? 0 : qos;
}

/* A retained message that the rules keep from this client. */
static bool retained_is_hidden(const struct subscribing *subscribing, const struct kept *kept)
{
    struct mr_shard *shard = subscribing->client->shard;
    struct mr_message message;

    if (MR_LIKELY(!subscribing->guarded && !subscribing->sourced)) {
        return false;
    }
    return !kept_read(shard, kept, &message) ||
           (subscribing->guarded &&
            !access_may(shard, subscribing->client->session, message.topic, MR_ACL_READ)) ||
           (subscribing->sourced && !access_source_may(shard, &message));
}

static void retained_note(void *arg, struct kept *kept)
{
    struct subscribing *subscribing = arg;
    struct mr_control_ref ref = {
        .seq = kept->seq, .lane = kept->lane, .qos = retained_qos(subscribing, kept)};

    if (ref.qos == 0 || retained_is_hidden(subscribing, kept)) {
        return;
    }
    if (subscribing->refs != NULL) {
        uint8_t *at = subscribing->refs + subscribing->refs_bytes;
        subscribing->refs_bytes = (size_t)(mr_control_ref_put(at, &ref) - subscribing->refs);
    }
    subscribing->refs_count += 1;
}

/* Send it now, or queue it: in the same order as it was noted. */
static void retained_send(void *arg, struct kept *kept)
{
    struct subscribing *subscribing = arg;
    struct client *client = subscribing->client;
    struct mr_shard *shard = client->shard;
    struct mr_message message;
    struct mr_mqtt_props props;
    struct mr_mqtt_why why;
    uint8_t qos = retained_qos(subscribing, kept);

    if (retained_is_hidden(subscribing, kept)) {
        return;
    }
    if (client->session->keep != NULL && qos != 0) {
        struct delivery how = {
            .subscription_id = subscribing->filter.subscription_id, .qos = qos, .retain = true};
        queue_push(shard, client->session->keep, kept, &how);
        return;
    }
    struct outgoing outgoing = {.message = &message,
                                .subscription_id = subscribing->filter.subscription_id,
                                .qos = qos,
                                .retain = true}; /* [MQTT-3.3.1-8] */
    if (kept_read(shard, kept, &message)) {
        if (message.props.len != 0 &&
            mr_mqtt_props_decode(message.props, MR_MQTT_PUBLISH, MR_MQTT_FROM_CLIENT, &props,
                                 &why) == MR_OK) {
            outgoing.props = &props;
        }
        deliver_retained(client, &outgoing);
    }
}

/* What $SYS has now, as if it were retained; it takes no ordinals, being of QoS 0. */
static void subscribe_send_sys(const struct subscribing *subscribing)
{
    struct mr_span rest = subscribing->packet.raw;
    struct mr_mqtt_subscription wanted;

    for (size_t i = 0; mr_mqtt_subscription_next(&rest, &wanted); i++) {
        if (brings_retained(subscribing, &wanted, i)) {
            systree_send(subscribing->client, wanted.filter, subscribing->subscription_id);
        }
    }
}

/* The record of a persistent session.  FULL: nothing was appended, later perhaps.
 * REJECT: so many retained messages that no record can name them.
 */
static enum mr_err subscribe_record(struct subscribing *subscribing, uint64_t *seq)
{
    struct client *client = subscribing->client;
    struct mr_shard *shard = client->shard;
    size_t capacity = 0;

    each_retained(subscribing, retained_note);
    subscribing->refs_first = subscribing->refs_count;
    if (subscribing->refs_count != 0) {
        subscribing->refs = mr_bufpool_take(
            &shard->pool, subscribing->refs_count * MR_CONTROL_REF_BYTES_MAX, &capacity);
        if (subscribing->refs == NULL) {
            return MR_ERR_REJECT; /* to wait for so much could be to wait for ever */
        }
        each_retained(subscribing, retained_note);
    }
    kept_read_end(shard);
    struct mr_control control = {
        .kind = MR_CONTROL_SUBSCRIBE,
        .client = session_id(client->session),
        .list = mr_span_make(subscribing->list, (size_t)(subscribing->at - subscribing->list)),
        .retained = mr_span_make(subscribing->refs, subscribing->refs_bytes)};
    enum mr_err err = control_append(shard, &control, seq);
    if (subscribing->refs != NULL) {
        mr_bufpool_give(&shard->pool, subscribing->refs, capacity);
    }
    return err;
}

/* Options as they are from now on [MQTT-3.8.4-3], then what is retained. */
static void subscribe_finish(struct subscribing *subscribing, uint64_t seq)
{
    struct client *client = subscribing->client;
    struct mr_shard *shard = client->shard;
    struct session *session = client->session;
    struct mr_span rest = subscribing->packet.raw;
    struct mr_mqtt_subscription wanted;

    for (size_t i = 0; mr_mqtt_subscription_next(&rest, &wanted); i++) {
        struct mr_sub *sub = mr_subtree_find(shard->subtree, wanted.filter, &session->subs);
        if (subscribing->codes[i] >= MR_MQTT_UNSPECIFIED || sub == NULL) {
            continue;
        }
        sub->qos = wanted.qos;
        sub->no_local = wanted.no_local;
        sub->retain_as_published = wanted.retain_as_published;
        sub->subscription_id = subscribing->subscription_id;
        sub->is_stored = false;
        if (subscribing->is_new[i] && session->keep != NULL) {
            sub_number(session, sub);
        }
    }
    if (session->keep != NULL) {
        keep_mark(shard, session->keep);
        if (subscribing->refs_count != 0) {
            session->keep->brought_seq = seq;
        }
    }
    each_retained(subscribing, retained_send);
    kept_read_end(shard);
    subscribe_send_sys(subscribing);
}

/* What it brings is too much: each filter is refused, which says so at least to 5.0. */
static void subscribe_refuse(struct subscribing *subscribing)
{
    static struct mr_log_limit limit;
    struct client_label label;
    uint64_t held = 0;

    memset(subscribing->codes, MR_MQTT_QUOTA_EXCEEDED, subscribing->packet.filter_count);
    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_WARN, "mqtt",
               "%s: a SUBSCRIBE that brings %zu retained messages was refused, that is more than "
               "a record of the journal can name (%llu more); let it use narrower filters, or set "
               "a larger `max_packet_size`",
               client_label(subscribing->client, &label), subscribing->refs_first,
               (unsigned long long)held);
    }
}

/* 3.1 knows no refusal: such a filter is granted QoS 0, and brings nothing. */
static struct mr_span subscribe_told(const struct subscribing *subscribing)
{
    uint32_t count = subscribing->packet.filter_count;

    if (subscribing->client->version != MR_MQTT_31) {
        return mr_span_make(subscribing->codes, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t code = subscribing->codes[i];
        subscribing->told[i] = code >= MR_MQTT_UNSPECIFIED ? 0 : code;
    }
    return mr_span_make(subscribing->told, count);
}

/* Everything but memory for the lists. */
static enum verdict subscribe_all(struct subscribing *subscribing)
{
    struct client *client = subscribing->client;
    struct mr_shard *shard = client->shard;
    struct mr_mqtt_suback answer = {
        .type = MR_MQTT_SUBACK,
        .packet_id = subscribing->packet.packet_id,
        .codes = mr_span_make(subscribing->codes, subscribing->packet.filter_count)};
    uint64_t seq = 0;

    subscribe_make_all(subscribing);
    if (client->session->keep != NULL && subscribing->at != subscribing->list) {
        if (answer_reserve(client, suback_size(client, &answer)) != MR_OK) {
            shard_stall(shard);
            subscribe_undo(subscribing);
            return PACKET_LATER;
        }
        enum mr_err err = foreign_note(shard);
        if (err == MR_OK) {
            err = subscribe_record(subscribing, &seq);
        }
        if (err != MR_OK) {
            subscribe_undo(subscribing);
        }
        if (err == MR_ERR_REJECT) {
            subscribe_refuse(subscribing);
            answer.codes = subscribe_told(subscribing);
            return send_suback(client, &answer, 0);
        }
        if (err != MR_OK) {
            return PACKET_LATER;
        }
    }
    foreign_follow(shard);
    share_follow(shard);
    answer.codes = subscribe_told(subscribing);
    enum verdict verdict = send_suback(client, &answer, seq);
    if (verdict == PACKET_DONE) {
        subscribe_finish(subscribing, seq);
    }
    return verdict;
}

enum verdict handle_subscribe(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_shard *shard = client->shard;
    struct subscribing subscribing = {.client = client};
    struct mr_mqtt_subscribe *packet = &subscribing.packet;
    struct mr_mqtt_why why;
    size_t capacity = 0;

    if (mr_mqtt_subscribe_decode(frame, client->version, packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    if (client->session->keep != NULL && shard->stalled) {
        return PACKET_LATER;
    }
    if (mr_mqtt_has(&packet->props, MR_MQTT_PROP_SUBSCRIPTION_ID)) {
        subscribing.subscription_id = packet->props.subscription_id;
    }
    /* Codes, flags, codes for 3.1, and the record's list: as on the wire, and up to 6 bytes a
     * filter more. */
    uint8_t *bytes = mr_bufpool_take(&shard->pool,
                                     packet->raw.len + packet->filter_count * (size_t)9, &capacity);
    if (bytes == NULL) {
        return client_refuse(client, END_MEMORY, MR_MQTT_QUOTA_EXCEEDED,
                             "no memory for a subscription");
    }
    subscribing.codes = bytes;
    subscribing.is_new = (bool *)(bytes + packet->filter_count);
    subscribing.told = bytes + 2 * (size_t)packet->filter_count;
    subscribing.list = bytes + 3 * (size_t)packet->filter_count;
    subscribing.at = subscribing.list;
    enum verdict verdict = subscribe_all(&subscribing);
    mr_bufpool_give(&shard->pool, bytes, capacity);
    return verdict;
}
