/* merge.c - overlapping subscriptions of one session: a copy for each, or one for all.
 *
 * [MQTT-3.3.4-2] leaves the choice.  `overlapping: each` is what Mosquitto and EMQX do and
 * costs nothing here.  `merged` walks the tree twice: once to gather in each session what its
 * matches come to, and once to deliver that at its first match, with the highest QoS.  It is
 * one number a session, so there is nothing to run out of: a delivery more or less, depending
 * on the memory, would be an ordinal that a start does not count.  If
 * several of the subscriptions have an identifier, the copy has all of them: they
 * are looked up again when it is sent, because a queue has room for one number only.
 *
 * Ordinals depend on the choice, so what is in force is what the journal says: a record when it
 * changes, in each lane, and the vector of the store (docs/SESSIONS.md).
 */
#include "broker/keep_internal.h"
#include "broker/outgoing_internal.h"

struct merging {
    const struct mr_message *message;
    void (*found)(void *arg, const struct mr_sub *sub);
    void *arg;
    uint64_t seq;
    uint32_t acl_version;
};

/* What a session's matches come to, in session->merged; 0: none. */
enum { MERGED_ID_BITS = 28, MERGED_QOS_SHIFT = 30 };                   /* the QoS and one */
static const uint32_t merged_id = (UINT32_C(1) << MERGED_ID_BITS) - 1; /* the identifier */
static const uint32_t merged_ids = UINT32_C(1) << MERGED_ID_BITS;      /* several have one */
static const uint32_t merged_retain = UINT32_C(2) << MERGED_ID_BITS;   /* Retain As Published */

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

static void merge_gather(void *arg, const struct mr_sub *sub)
{
    const struct merging *merging = arg;
    struct session *session = sub->owner;
    uint32_t merged = session->merged;
    uint32_t qos = sub->qos + UINT32_C(1);

    if (is_own(session, sub, merging->message) ||
        (sub->since >= merging->seq && merging->seq != 0)) {
        return;
    }
    if (qos > merged >> MERGED_QOS_SHIFT) {
        merged = (merged & ((UINT32_C(1) << MERGED_QOS_SHIFT) - 1)) | qos << MERGED_QOS_SHIFT;
    }
    if (sub->retain_as_published) {
        merged |= merged_retain;
    }
    if (sub->subscription_id != 0) {
        merged |= (merged & merged_id) == 0 ? sub->subscription_id : merged_ids;
    }
    session->merged = merged;
}

static void merge_found(void *arg, const struct mr_sub *sub)
{
    const struct merging *merging = arg;
    struct session *session = sub->owner;
    uint32_t merged = session->merged;

    if (merged == 0) {
        return; /* it has its copy, or is the publisher */
    }
    session->merged = 0;
    /* It is no filter of the tree, so the rules are asked for the topic alone: acl_asked. */
    merging->found(merging->arg,
                   &(struct mr_sub){.owner = session,
                                    .subscription_id = (merged & merged_ids) != 0
                                                           ? SUBSCRIPTION_IDS_ALL
                                                           : merged & merged_id,
                                    .acl_asked = merging->acl_version,
                                    .qos = (uint8_t)((merged >> MERGED_QOS_SHIFT) - 1),
                                    .retain_as_published = (merged & merged_retain) != 0});
}

void merge_match(struct mr_shard *shard, const struct mr_message *message, uint64_t seq,
                 void (*found)(void *arg, const struct mr_sub *sub), void *arg)
{
    struct merging merging = {.message = message,
                              .found = found,
                              .arg = arg,
                              .seq = seq,
                              .acl_version = shard->acl_version};

    if (MR_LIKELY(!shard->merges)) {
        mr_subtree_match(shard->subtree, message->topic, found, arg);
        return;
    }
    mr_subtree_match(shard->subtree, message->topic, merge_gather, &merging);
    mr_subtree_match(shard->subtree, message->topic, merge_found, &merging);
}

/* ---- which of the two ---- */

void merge_set(struct mr_shard *shard, bool merges)
{
    shard->merges_new |= merges != shard->merges;
    shard->merges = merges;
}

void merge_follow(struct mr_shard *shard)
{
    bool wanted = shard->limits.overlapping == MR_OVERLAPPING_MERGED;
    struct mr_control overlap = {.kind = MR_CONTROL_OVERLAP,
                                 .flags = wanted ? MR_CONTROL_MERGED : 0};
    uint64_t seq = 0;

    if (shard->merges != wanted && !shard->stalled &&
        control_append(shard, &overlap, &seq) == MR_OK) {
        merge_set(shard, wanted);
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
