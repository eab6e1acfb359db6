/* merge.c - overlapping subscriptions of one session: a copy for each, or one for all.
 *
 * [MQTT-3.3.4-2] leaves the choice.  `overlapping: each` is what Mosquitto and EMQX do and
 * costs nothing here.  `merged` finds all matches first, with what each session has had of
 * them so far noted in the session; then there is one delivery for each, with the highest
 * QoS.  If several of the subscriptions have an identifier, the copy has all of them: they
 * are looked up again when it is sent, because a queue has room for one number only.
 */
#include "broker/keep_internal.h"
#include "broker/outgoing_internal.h"

struct merging {
    const struct mr_message *message;
    struct session *first;
};

/* [MQTT-3.8.3-3], for what is live and for what is queued. */
static bool is_own(const struct session *session, const struct mr_sub *sub,
                   const struct mr_message *message)
{
    if (!sub->no_local) {
        return false;
    }
    if (session->keep != NULL) {
        return mr_span_equal(session_id(session), message->client);
    }
    return mr_conn_id(client_conn(session->client)) == message->publisher;
}

static void merge_found(void *arg, const struct mr_sub *sub)
{
    struct merging *merging = arg;
    struct session *session = sub->owner;
    struct mr_sub *merged = &session->merged;

    if (is_own(session, sub, merging->message)) {
        return;
    }
    if (merged->owner == NULL) {
        *merged = (struct mr_sub){.owner = session};
        session->merge_next = merging->first;
        merging->first = session;
    }
    merged->qos = sub->qos > merged->qos ? sub->qos : merged->qos;
    merged->retain_as_published |= sub->retain_as_published;
    if (sub->subscription_id != 0) {
        merged->subscription_id =
            merged->subscription_id == 0 ? sub->subscription_id : SUBSCRIPTION_IDS_ALL;
    }
}

void merge_match(struct mr_shard *shard, const struct mr_message *message,
                 void (*found)(void *arg, const struct mr_sub *sub), void *arg)
{
    struct merging merging = {.message = message};

    if (MR_LIKELY(shard->limits.overlapping == MR_OVERLAPPING_EACH)) {
        mr_subtree_match(shard->subtree, message->topic, found, arg);
        return;
    }
    mr_subtree_match(shard->subtree, message->topic, merge_found, &merging);
    while (merging.first != NULL) {
        struct session *session = merging.first;
        merging.first = session->merge_next;
        struct mr_sub merged = session->merged;
        session->merged.owner = NULL;
        found(arg, &merged);
    }
}

/* ---- all identifiers of a copy ---- */

struct gathering {
    const struct session *session;
    uint8_t *at;
    uint8_t *end;
};

static void gather_found(void *arg, const struct mr_sub *sub)
{
    struct gathering *gathering = arg;

    if (sub->owner == gathering->session && sub->subscription_id != 0) {
        ptrdiff_t len = mr_mqtt_subscription_id_put(sub->subscription_id, gathering->at,
                                                    (size_t)(gathering->end - gathering->at));
        gathering->at += len > 0 ? len : 0;
    }
}

struct mr_span merge_ids(const struct session *session, struct mr_subtree *tree,
                         struct mr_span topic, uint8_t *out, size_t size)
{
    struct gathering gathering = {.session = session, .at = out, .end = out + size};

    mr_subtree_match(tree, topic, gather_found, &gathering);
    return mr_span_make(out, (size_t)(gathering.at - out));
}
