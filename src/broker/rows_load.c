/* rows_load.c - the state of a shard from the rows of its store (rows.c).
 *
 * Rows come in the order of their keys, so sessions, subscriptions and deliveries are
 * walked in step; messages lie in a sorted array for as long as that takes.
 */
#include "broker/foreign_internal.h"
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"
#include "broker/retained.h"

enum { LIST_FIRST = 1024 };

/* A growing array of pointers. */
struct list {
    void **items;
    size_t count;
    size_t capacity;
    size_t at; /* of a walk in step */
};

struct loading {
    struct mr_shard *shard;
    struct rows_loaded *loaded;
    struct list keeps;    /* struct keep, by lane and number */
    struct list messages; /* struct kept, by (lane, seq) */
    bool is_foreign;      /* the store is of another journal */
};

static void list_add(struct list *list, void *item)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? LIST_FIRST : list->capacity * 2;
        list->items = mr_realloc(list->items, list->capacity * sizeof(void *));
    }
    list->items[list->count++] = item;
}

static uint64_t get_be64(const uint8_t *at)
{
    return (uint64_t)mr_get_be32(at) << 32 | mr_get_be32(at + 4);
}

static struct mr_span take_lengthed(struct mr_take *take)
{
    return mr_take_bytes(take, mr_take_varint(take));
}

static bool load_vector(void *arg, struct mr_span key, struct mr_span value)
{
    struct loading *loading = arg;
    struct mr_shard *shard = loading->shard;
    const struct mr_journal_id *id = mr_journal_identity(shard->broker->run.journal);
    struct vector vector;
    struct mr_span lanes;

    if (row_is_steps(key)) {
        row_steps_get(value, shard->steps);
        return true;
    }
    if (!row_vector_get(key, value, &vector, &lanes)) {
        return false;
    }
    loading->is_foreign |= memcmp(vector.journal.bytes, id->bytes, sizeof(id->bytes)) != 0;
    loading->loaded->lanes = vector.lanes;
    loading->loaded->epoch = vector.epoch;
    for (size_t at = 0; at < lanes.len; at += VECTOR_ROW_LANE) {
        uint32_t lane = mr_get_u32(lanes.at + at);
        uint64_t seq = mr_get_u64(lanes.at + at + 4);
        if (lane == shard->index) {
            loading->loaded->has_vector = true;
            loading->loaded->seq = seq;
            loading->loaded->route = vector.route < seq ? vector.route : seq;
        } else if (shard->foreign != NULL && lane < shard->broker->shard_count) {
            shard->foreign[lane].pos = seq;
        }
    }
    if (!loading->is_foreign) {
        bool configured = shard->limits.overlapping == MR_OVERLAPPING_MERGED;
        bool known = vector.overlap != OVERLAP_UNKNOWN;
        shard->merges = known ? vector.overlap == OVERLAP_MERGED : configured;
        shard->merges_new = !known;
    }
    for (uint32_t i = 0; i < vector.ended_count && !loading->is_foreign; i++) {
        const struct ended_pos *ended = &vector.ended[i];
        if (ended->lane < mr_journal_lane_total(shard->broker->run.journal) &&
            share_ended_lane(shard, ended->lane) == NULL) {
            share_ended_add(shard, ended->lane, ended->seq);
        }
    }
    return true;
}

static bool load_message(void *arg, struct mr_span key, struct mr_span value)
{
    struct loading *loading = arg;
    struct mr_message m;

    if (key.len != MESSAGE_KEY_BYTES || !message_decode(value, &m)) {
        return false;
    }
    struct kept *kept = kept_stored_new(loading->shard, mr_get_be32(key.at), get_be64(key.at + 4),
                                        (uint32_t)message_bytes(&m));
    if (kept == NULL) {
        loading->shard->restore_short = true;
        return false;
    }
    kept->qos = m.qos;
    kept->received_us = m.received_us;
    list_add(&loading->messages, kept);
    return true;
}

static struct kept *find_message(const struct loading *loading, uint32_t lane, uint64_t seq)
{
    size_t low = 0;
    size_t high = loading->messages.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct kept *kept = loading->messages.items[middle];
        if (kept->lane == lane && kept->seq == seq) {
            return kept;
        }
        if (kept->lane < lane || (kept->lane == lane && kept->seq < seq)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static bool load_inbound(struct mr_shard *shard, struct session *session, struct mr_span ids)
{
    for (size_t i = 0; i + 2 <= ids.len; i += 2) {
        if (!inbound_reserve(&shard->pool, &session->inbound)) {
            return false;
        }
        inbound_add(session->inbound, mr_get_u16(ids.at + i));
    }
    return true;
}

static bool load_will(struct mr_shard *shard, struct session *session, struct mr_take *take)
{
    uint8_t flags = mr_take_u8(take);
    struct mr_message will = {.client = session_id(session),
                              .qos = flags & ROW_QOS,
                              .retain = (flags & ROW_RETAIN) != 0,
                              .will = true};

    will.topic = take_lengthed(take);
    will.props = take_lengthed(take);
    will.payload = take_lengthed(take);
    will.username = take_lengthed(take);
    session->will = stored_new(&shard->pool, &will, STORED_NAMES | STORED_PAYLOAD);
    return session->will != NULL;
}

static bool load_session(void *arg, struct mr_span key, struct mr_span value)
{
    struct loading *loading = arg;
    struct mr_shard *shard = loading->shard;
    struct mr_take take = mr_take_from(value);
    struct mr_span fixed = mr_take_bytes(&take, SESSION_ROW_FIXED);
    struct mr_span id = take_lengthed(&take);
    struct mr_span username = take_lengthed(&take);
    struct mr_span ids = take_lengthed(&take);

    if (key.len != SESSION_KEY_BYTES || take.failed) {
        return false;
    }
    struct session *session = session_new(shard, NULL, id, username);
    if (session == NULL || !keep_make(shard, session, mr_get_be32(key.at), get_be64(key.at + 4)) ||
        !load_inbound(shard, session, ids) ||
        (fixed.at[38] != 0 && !load_will(shard, session, &take))) {
        shard->restore_short = true;
        return false;
    }
    struct keep *keep = session->keep;
    keep->ordinal_next = mr_get_u64(fixed.at);
    keep->ordinal_sent = mr_get_u64(fixed.at + 8);
    keep->closed_us = (int64_t)mr_get_u64(fixed.at + 16);
    keep->expiry_s = mr_get_u32(fixed.at + 24);
    keep->will_delay_s = mr_get_u32(fixed.at + 28);
    keep->sub_next = mr_get_u32(fixed.at + 32);
    keep->window = mr_get_u16(fixed.at + 36);
    if (keep->closed_us != 0) {
        keep_closed(shard, keep, keep->closed_us);
    }
    list_add(&loading->keeps, keep);
    return true;
}

/* The session of the row with `key`, in step; NULL: it has none (any more). */
static struct keep *walk_to(struct loading *loading, struct mr_span key)
{
    struct list *keeps = &loading->keeps;
    uint32_t lane = mr_get_be32(key.at);
    uint64_t number = get_be64(key.at + 4);

    for (; keeps->at < keeps->count; keeps->at++) {
        struct keep *keep = keeps->items[keeps->at];
        if (keep->lane == lane && keep->number == number) {
            return keep;
        }
        if (keep->lane > lane || (keep->lane == lane && keep->number > number)) {
            break;
        }
    }
    return NULL;
}

static bool load_subscription(void *arg, struct mr_span key, struct mr_span value)
{
    struct loading *loading = arg;
    struct mr_shard *shard = loading->shard;
    struct mr_sub *sub = NULL;

    if (key.len != SUB_KEY_BYTES || value.len < 5) {
        return false;
    }
    struct keep *keep = walk_to(loading, key);
    if (keep == NULL) {
        return true;
    }
    struct session *session = keep->session;
    if (mr_subtree_add(shard->subtree, mr_span_make(value.at + 5, value.len - 5), session,
                       &session->subs, &sub) != MR_OK) {
        shard->restore_short = true;
        return false;
    }
    sub->qos = value.at[0] & ROW_QOS;
    sub->no_local = (value.at[0] & ROW_NO_LOCAL) != 0;
    sub->retain_as_published = (value.at[0] & ROW_RETAIN_AS_PUBLISHED) != 0;
    sub->brings = (value.at[0] & ROW_BRINGS) != 0;
    keep->may_bring |= sub->brings;
    sub->subscription_id = mr_get_u32(value.at + 1);
    sub->row = mr_get_be32(key.at + SESSION_KEY_BYTES);
    sub->is_stored = true;
    struct mr_span filter = mr_span_make(value.at + 5, value.len - 5);
    if (share_is(filter) && share_join(shard, session, sub, filter, sub->qos) != 0) {
        shard->restore_short = true;
        return false;
    }
    return true;
}

/* What was read before is all that the store has, so what this row asks for is gone for good; said
 * once, for the row goes, too.
 */
static void row_lost(struct loading *loading, enum mr_store_table table, struct mr_span key,
                     uint32_t lane, uint64_t seq)
{
    kept_lacks(loading->shard, lane, seq);
    mr_store_delete(loading->shard->store, table, key);
}

static bool load_delivery(void *arg, struct mr_span key, struct mr_span value)
{
    struct loading *loading = arg;
    struct mr_shard *shard = loading->shard;

    if (key.len != DELIVERY_KEY_BYTES ||
        (value.len != DELIVERY_ROW_BYTES && value.len != DELIVERY_ROW_SHARED_BYTES)) {
        return false;
    }
    struct keep *keep = walk_to(loading, key);
    struct kept *kept = find_message(loading, mr_get_u32(value.at), mr_get_u64(value.at + 4));
    if (MR_UNLIKELY(keep == NULL || kept == NULL)) {
        row_lost(loading, MR_STORE_DELIVERIES, key, mr_get_u32(value.at), mr_get_u64(value.at + 4));
        return true;
    }
    struct delivery delivery = {.ordinal = get_be64(key.at + SESSION_KEY_BYTES),
                                .subscription_id = mr_get_u32(value.at + 12),
                                .qos = value.at[20] & ROW_QOS,
                                .retain = (value.at[20] & ROW_RETAIN) != 0,
                                .state = (value.at[20] & ROW_RELEASED) != 0 ? DELIVERY_RELEASED
                                                                            : DELIVERY_OWED,
                                .share = value.len == DELIVERY_ROW_SHARED_BYTES ? value.at[21] : 0,
                                .stored = true};
    shard->restore_short |= !queue_append(shard, keep, kept, &delivery);
    return !shard->restore_short;
}

static bool load_retained(void *arg, struct mr_span key, struct mr_span value)
{
    struct loading *loading = arg;
    struct mr_message message;

    if (key.len != MESSAGE_KEY_BYTES) {
        return false;
    }
    if (value.len > CLEARED_ROW_FIXED) {
        retained_restore_cleared(
            loading->shard,
            mr_span_make(value.at + CLEARED_ROW_FIXED, value.len - CLEARED_ROW_FIXED),
            (int64_t)mr_get_u64(value.at), get_be64(key.at + 4));
        return true;
    }
    struct kept *kept = find_message(loading, mr_get_be32(key.at), get_be64(key.at + 4));
    if (MR_UNLIKELY(kept == NULL)) {
        row_lost(loading, MR_STORE_RETAINED, key, mr_get_be32(key.at), get_be64(key.at + 4));
        return true;
    }
    if (kept_read(loading->shard, kept, &message) != MR_OK) {
        return false;
    }
    loading->shard->restore_short |= !retained_restore(loading->shard, kept, &message);
    return !loading->shard->restore_short;
}

static bool load_all(struct loading *loading)
{
    struct mr_shard *shard = loading->shard;
    struct mr_store *store = shard->store;

    if (!mr_store_each(store, MR_STORE_VECTOR, load_vector, loading)) {
        return false;
    }
    if (loading->is_foreign) { /* its seqs mean nothing here */
        mr_log(
            MR_LOG_WARN, "sessions",
            "%s belongs to another journal, of which nothing is left here; sessions and retained "
            "messages begin anew",
            shard->broker->run.sessions_path);
        *loading->loaded = (struct rows_loaded){.seq = 0};
        for (uint32_t i = 0; shard->foreign != NULL && i < shard->broker->shard_count; i++) {
            shard->foreign[i].pos = 0;
        }
        return mr_store_clear(store);
    }
    if (!mr_store_each(store, MR_STORE_MESSAGES, load_message, loading) ||
        !mr_store_each(store, MR_STORE_SESSIONS, load_session, loading) ||
        !mr_store_each(store, MR_STORE_SUBSCRIPTIONS, load_subscription, loading)) {
        return false;
    }
    loading->keeps.at = 0;
    return mr_store_each(store, MR_STORE_DELIVERIES, load_delivery, loading) &&
           mr_store_each(store, MR_STORE_RETAINED, load_retained, loading);
}

bool rows_load(struct mr_shard *shard, struct rows_loaded *out)
{
    struct loading loading = {.shard = shard, .loaded = out};

    *out = (struct rows_loaded){.seq = 0};
    bool loaded = load_all(&loading);
    for (size_t i = 0; i < loading.messages.count; i++) {
        kept_unref(shard, loading.messages.items[i]);
    }
    mr_free(loading.messages.items);
    mr_free(loading.keeps.items);
    return loaded;
}
