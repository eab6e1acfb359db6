/* merge.c - overlapping subscriptions of one session: a copy for each, or one for all.
 *
 * [MQTT-3.3.4-2] leaves the choice.  `overlapping: each` is what Mosquitto and EMQX do and
 * costs nothing here.  `merged` finds all matches first and gathers, in a lent buffer, what
 * they come to for each session, which meanwhile has its place in it; then there is one
 * delivery for each, with the highest QoS.  Without memory for that there are several.  If
 * several of the subscriptions have an identifier, the copy has all of them: they
 * are looked up again when it is sent, because a queue has room for one number only.
 *
 * Ordinals depend on the choice, so what is in force is what the journal says: a record when it
 * changes, in each lane, and the vector of the store (docs/SESSIONS.md).
 */
#include "broker/keep_internal.h"
#include "broker/outgoing_internal.h"

/* What a session's matches come to. */
struct merged {
    struct session *session;
    uint32_t subscription_id;
    uint8_t qos;
    bool retain_as_published;
};

struct merging {
    const struct mr_message *message;
    struct mr_bufpool *pool;
    struct merged *all; /* lent */
    size_t capacity;    /* of `all`, bytes */
    uint32_t count;
    void (*found)(void *arg, const struct mr_sub *sub);
    void *arg;
};

enum { MERGED_FIRST = 32 };

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

/* Room for one more; false: no memory. */
static bool merging_reserve(struct merging *merging)
{
    size_t wanted =
        merging->all == NULL ? MERGED_FIRST * sizeof(*merging->all) : merging->capacity * 2;
    size_t capacity = 0;

    if ((merging->count + 1) * sizeof(*merging->all) <= merging->capacity) {
        return true;
    }
    struct merged *all = (struct merged *)(void *)mr_bufpool_take(merging->pool, wanted, &capacity);
    if (all == NULL) {
        return false;
    }
    if (merging->all != NULL) {
        memcpy(all, merging->all, merging->count * sizeof(*all));
        mr_bufpool_give(merging->pool, (uint8_t *)merging->all, merging->capacity);
    }
    merging->all = all;
    merging->capacity = capacity;
    return true;
}

static void merge_found(void *arg, const struct mr_sub *sub)
{
    struct merging *merging = arg;
    struct session *session = sub->owner;

    if (is_own(session, sub, merging->message)) {
        return;
    }
    if (session->merged == 0) {
        if (!merging_reserve(merging)) {
            merging->found(merging->arg, sub);
            return;
        }
        merging->all[merging->count] = (struct merged){.session = session};
        session->merged = ++merging->count;
    }
    struct merged *merged = &merging->all[session->merged - 1];
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
    struct merging merging = {.message = message, .pool = &shard->pool, .found = found, .arg = arg};

    if (MR_LIKELY(!shard->merges)) {
        mr_subtree_match(shard->subtree, message->topic, found, arg);
        return;
    }
    mr_subtree_match(shard->subtree, message->topic, merge_found, &merging);
    for (uint32_t i = 0; i < merging.count; i++) {
        merging.all[i].session->merged = 0;
    }
    for (uint32_t i = 0; i < merging.count; i++) {
        const struct merged *merged = &merging.all[i];
        found(arg, &(struct mr_sub){.owner = merged->session,
                                    .subscription_id = merged->subscription_id,
                                    .qos = merged->qos,
                                    .retain_as_published = merged->retain_as_published});
    }
    if (merging.all != NULL) {
        mr_bufpool_give(merging.pool, (uint8_t *)merging.all, merging.capacity);
    }
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
