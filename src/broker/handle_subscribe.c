/* handle_subscribe.c - SUBSCRIBE and its SUBACK (sections 3.8, 3.9).
 *
 * Of a persistent session the granted filters are one record, and so are the retained
 * messages that they bring with QoS 1 or 2, because those take ordinals
 * (docs/SESSIONS.md); what is more than a turn's worth of them follows (bring.c).  What cannot
 * be undone comes last:
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
    uint32_t granted; /* filters */
    bool is_first;    /* no retained messages were on their way to the session */
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
    if (!existed) {
        sub->since = mr_lane_next_seq(client->shard->lane) - 1;
    }
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

/* Does this filter bring its retained messages?  3.8.3.1: 0 always, 1 if it is new. */
static bool brings_retained(const struct subscribing *subscribing,
                            const struct mr_mqtt_subscription *wanted, size_t index)
{
    return subscribing->codes[index] < MR_MQTT_UNSPECIFIED && wanted->retain_handling != 2 &&
           !share_is(wanted->filter) && /* 4.8.2: no retained messages */
           (wanted->retain_handling == 0 || subscribing->is_new[index]);
}

/* Its retained messages are to come.  False: no memory, and nobody is subscribed. */
static bool subscribe_bring(struct subscribing *subscribing,
                            const struct mr_mqtt_subscription *wanted, size_t index)
{
    struct mr_shard *shard = subscribing->client->shard;
    struct session *session = subscribing->client->session;
    struct mr_sub *sub = mr_subtree_find(shard->subtree, wanted->filter, &session->subs);
    struct mr_control_filter filter = filter_of(subscribing, wanted);

    if (bring_add(shard, sub, &filter)) {
        return true;
    }
    if (subscribing->is_new[index]) {
        mr_subtree_remove(shard->subtree, sub, &session->subs);
        subscribing->is_new[index] = false;
    }
    return false;
}

static void subscribe_make_all(struct subscribing *subscribing)
{
    const struct mr_shard *shard = subscribing->client->shard;
    struct mr_span rest = subscribing->packet.raw;
    struct mr_mqtt_subscription wanted;

    subscribing->is_first = !subscribing->client->session->brings;
    for (size_t i = 0; mr_mqtt_subscription_next(&rest, &wanted); i++) {
        subscribing->codes[i] =
            subscribe_make(subscribing->client, &wanted, &subscribing->is_new[i]);
        if (shard->retained_count != 0 && brings_retained(subscribing, &wanted, i) &&
            !subscribe_bring(subscribing, &wanted, i)) {
            subscribing->codes[i] = MR_MQTT_QUOTA_EXCEEDED;
        }
        subscribing->granted += subscribing->codes[i] < MR_MQTT_UNSPECIFIED;
    }
}

/* The record had no room: as if nothing had been asked for. */
static void subscribe_undo(struct subscribing *subscribing)
{
    struct session *session = subscribing->client->session;
    struct mr_subtree *tree = subscribing->client->shard->subtree;
    struct mr_span rest = subscribing->packet.raw;
    struct mr_mqtt_subscription wanted;

    if (subscribing->is_first) {
        bring_drop(subscribing->client->shard, session);
    }
    for (size_t i = 0; mr_mqtt_subscription_next(&rest, &wanted); i++) {
        struct mr_sub *sub = mr_subtree_find(tree, wanted.filter, &session->subs);
        if (subscribing->is_new[i] && sub != NULL) {
            if (sub->is_shared) {
                share_leave(subscribing->client->shard, session, wanted.filter);
            }
            bring_cancel(subscribing->client->shard, sub);
            mr_subtree_remove(tree, sub, &session->subs);
        }
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

/* The record's list, behind bring_first(), which has looked how much there is. */
static void list_put(struct subscribing *subscribing)
{
    struct session *session = subscribing->client->session;
    struct mr_span rest = subscribing->packet.raw;
    struct mr_mqtt_subscription wanted;

    for (size_t i = 0; mr_mqtt_subscription_next(&rest, &wanted); i++) {
        if (subscribing->codes[i] < MR_MQTT_UNSPECIFIED) {
            const struct mr_sub *sub =
                mr_subtree_find(subscribing->client->shard->subtree, wanted.filter, &session->subs);
            struct mr_control_filter filter = filter_of(subscribing, &wanted);
            filter.brings = !bring_is_ended(sub);
            subscribing->at = mr_control_filter_put(subscribing->at, MR_CONTROL_SUBSCRIBE, &filter);
        }
    }
}

/* The record of a persistent session.  FULL: nothing was appended, later perhaps.
 * REJECT: no record can name it all.
 */
static enum mr_err subscribe_record(struct subscribing *subscribing, uint64_t *seq)
{
    struct client *client = subscribing->client;
    uint8_t refs[BRING_REFS_BYTES_MAX];
    size_t refs_len = 0;

    if (subscribing->is_first) {
        bring_first(client->shard, client->session);
        refs_len = bring_refs(client->shard, client->session, refs);
    }
    list_put(subscribing);
    struct mr_control control = {
        .kind = MR_CONTROL_SUBSCRIBE,
        .client = session_id(client->session),
        .list = mr_span_make(subscribing->list, (size_t)(subscribing->at - subscribing->list)),
        .retained = mr_span_make(refs, refs_len)};
    return control_append(client->shard, &control, seq);
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
        struct mr_control_filter filter = filter_of(subscribing, &wanted);
        bring_set(sub, &filter);
        sub->qos = wanted.qos;
        sub->no_local = wanted.no_local;
        sub->retain_as_published = wanted.retain_as_published;
        sub->subscription_id = subscribing->subscription_id;
        sub->brings = session->keep != NULL && !bring_is_ended(sub);
        sub->is_stored = false;
        if (subscribing->is_new[i] && session->keep != NULL) {
            sub_number(session, sub);
        }
    }
    if (session->keep != NULL) {
        keep_mark(shard, session->keep);
        if (subscribing->is_first) {
            bring_recorded(shard, session, seq);
        }
    }
    bring_start(shard, session);
    subscribe_send_sys(subscribing);
}

/* It is too much: each filter is refused, which says so at least to 5.0. */
static void subscribe_refuse(struct subscribing *subscribing)
{
    static struct mr_log_limit limit;
    struct client_label label;
    uint64_t held = 0;

    memset(subscribing->codes, MR_MQTT_QUOTA_EXCEEDED, subscribing->packet.filter_count);
    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_WARN, "mqtt",
               "%s: a SUBSCRIBE of %u filters was refused, for a record of the journal cannot hold "
               "them all (%llu more); let it use several SUBSCRIBEs, or set a larger "
               "`max_packet_size`",
               client_label(subscribing->client, &label), subscribing->packet.filter_count,
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

    if (suback_is_beyond(client, &answer)) { /* [MQTT-3.1.2-24], before anything has been done */
        return client_refuse(client, END_PROTOCOL, MR_MQTT_PACKET_TOO_LARGE,
                             "its SUBACK would be larger than its Maximum Packet Size");
    }
    subscribe_make_all(subscribing);
    if (client->session->keep != NULL && subscribing->granted != 0) {
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
