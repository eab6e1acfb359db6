/* restore.c - sessions and retained messages at start: the store, then the journal's tail.
 *
 * DESIGN
 *
 * Rows come in the order of their keys, so sessions, subscriptions and deliveries are
 * walked in step; messages lie in a sorted array for as long as that takes.  Then every
 * record behind the vector is applied as it was live.  If the tail is long (the store was
 * away) the store is written on the way, so that memory does not have to hold it.
 *
 * Last, sessions that were connected when the process ended are closed: their time begins
 * now, and what was in their window may have been sent.
 */
#include "broker/keep_internal.h"

#include "os/clock.h"
#include "os/file.h"

enum { LIST_FIRST = 1024, RESTORE_AT_QUEUED = 100000 };

/* A growing array of pointers. */
struct list {
    void **items;
    size_t count;
    size_t capacity;
    size_t at; /* of a walk in step */
};

struct restoring {
    struct mr_shard *shard;
    struct list keeps;    /* struct keep, by number */
    struct list messages; /* struct kept, by (lane, seq) */
    uint64_t vector_seq;
    uint64_t records;
    bool has_vector;
    bool is_foreign; /* the store is of another journal */
    uint32_t lanes;  /* that there were when the store was written; 0: not known */
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

/* ---- rows ---- */

static bool load_vector(void *arg, struct mr_span key, struct mr_span value)
{
    struct restoring *restoring = arg;

    const struct mr_journal_id *id = mr_journal_identity(restoring->shard->broker->run.journal);

    struct mr_shard *shard = restoring->shard;

    if (key.len != 4 || value.len < VECTOR_ROW_ID + VECTOR_ROW_LANE) {
        return false;
    }
    restoring->is_foreign |= memcmp(value.at, id->bytes, sizeof(id->bytes)) != 0;
    restoring->lanes = (uint32_t)((value.len - VECTOR_ROW_ID) / VECTOR_ROW_LANE);
    for (size_t at = VECTOR_ROW_ID; at + VECTOR_ROW_LANE <= value.len; at += VECTOR_ROW_LANE) {
        uint32_t lane = mr_get_u32(value.at + at);
        uint64_t seq = mr_get_u64(value.at + at + 4);
        if (lane == shard->index) {
            restoring->has_vector = true;
            restoring->vector_seq = seq;
        } else if (shard->foreign != NULL && lane < shard->broker->shard_count) {
            shard->foreign[lane].pos = seq;
        }
    }
    return true;
}

static bool load_message(void *arg, struct mr_span key, struct mr_span value)
{
    struct restoring *restoring = arg;
    struct mr_message m;

    if (key.len != MESSAGE_KEY_BYTES || !message_decode(value, &m)) {
        return false;
    }
    struct kept *kept = kept_stored_new(restoring->shard, mr_get_be32(key.at), get_be64(key.at + 4),
                                        (uint32_t)(m.topic.len + m.props.len + m.payload.len));
    if (kept == NULL) {
        restoring->shard->restore_short = true;
        return false;
    }
    kept->qos = m.qos;
    kept->received_us = m.received_us;
    list_add(&restoring->messages, kept);
    return true;
}

static struct kept *find_message(const struct restoring *restoring, uint32_t lane, uint64_t seq)
{
    size_t low = 0;
    size_t high = restoring->messages.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct kept *kept = restoring->messages.items[middle];
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
        inbound_add(&session->inbound, mr_get_u16(ids.at + i));
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
    struct restoring *restoring = arg;
    struct mr_shard *shard = restoring->shard;
    struct mr_take take = mr_take_from(value);
    struct mr_span fixed = mr_take_bytes(&take, SESSION_ROW_FIXED);
    struct mr_span id = take_lengthed(&take);
    struct mr_span username = take_lengthed(&take);
    struct mr_span ids = take_lengthed(&take);

    if (key.len != SESSION_KEY_BYTES || take.failed) {
        return false;
    }
    if (mr_get_be32(key.at) != shard->index) {
        return true;
    }
    struct session *session = session_new(shard, NULL, id, username);
    if (session == NULL || !keep_make(shard, session, get_be64(key.at + 4)) ||
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
        keep_closed(keep, keep->closed_us);
    }
    list_add(&restoring->keeps, keep);
    return true;
}

/* The session of the row with `key`, in step; NULL: it has none (any more). */
static struct keep *walk_to(struct restoring *restoring, struct mr_span key)
{
    struct list *keeps = &restoring->keeps;
    uint64_t number = get_be64(key.at + 4);

    if (mr_get_be32(key.at) != restoring->shard->index) {
        return NULL;
    }
    while (keeps->at < keeps->count && ((struct keep *)keeps->items[keeps->at])->number < number) {
        keeps->at += 1;
    }
    struct keep *keep = keeps->at < keeps->count ? keeps->items[keeps->at] : NULL;
    return keep != NULL && keep->number == number ? keep : NULL;
}

static bool load_subscription(void *arg, struct mr_span key, struct mr_span value)
{
    struct restoring *restoring = arg;
    struct mr_shard *shard = restoring->shard;
    struct mr_sub *sub = NULL;

    if (key.len != SUB_KEY_BYTES || value.len < 5) {
        return false;
    }
    struct keep *keep = walk_to(restoring, key);
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
    sub->subscription_id = mr_get_u32(value.at + 1);
    sub->row = mr_get_be32(key.at + SESSION_KEY_BYTES);
    sub->is_stored = true;
    return true;
}

static bool load_delivery(void *arg, struct mr_span key, struct mr_span value)
{
    struct restoring *restoring = arg;
    struct mr_shard *shard = restoring->shard;

    if (key.len != DELIVERY_KEY_BYTES || value.len != DELIVERY_ROW_BYTES) {
        return false;
    }
    struct keep *keep = walk_to(restoring, key);
    struct kept *kept = find_message(restoring, mr_get_u32(value.at), mr_get_u64(value.at + 4));
    if (keep == NULL || kept == NULL) {
        return true;
    }
    struct delivery delivery = {.ordinal = get_be64(key.at + SESSION_KEY_BYTES),
                                .subscription_id = mr_get_u32(value.at + 12),
                                .qos = value.at[20] & ROW_QOS,
                                .retain = (value.at[20] & ROW_RETAIN) != 0,
                                .state = (value.at[20] & ROW_RELEASED) != 0 ? DELIVERY_RELEASED
                                                                            : DELIVERY_OWED,
                                .stored = true};
    shard->restore_short |= !queue_append(shard, keep, kept, &delivery);
    return !shard->restore_short;
}

static bool load_retained(void *arg, struct mr_span key, struct mr_span value)
{
    struct restoring *restoring = arg;
    struct mr_message message;

    (void)value;
    if (key.len != MESSAGE_KEY_BYTES) {
        return false;
    }
    struct kept *kept = find_message(restoring, mr_get_be32(key.at), get_be64(key.at + 4));
    if (kept == NULL || !kept_read(restoring->shard, kept, &message)) {
        return true;
    }
    restoring->shard->restore_short |= !retained_restore(restoring->shard, kept, message.topic);
    return !restoring->shard->restore_short;
}

static bool load(struct restoring *restoring)
{
    struct mr_store *store = restoring->shard->store;

    if (!mr_store_each(store, MR_STORE_VECTOR, load_vector, restoring)) {
        return false;
    }
    if (restoring->is_foreign) { /* its seqs mean nothing here */
        mr_log(
            MR_LOG_WARN, "sessions",
            "%s belongs to another journal, of which nothing is left here; sessions and retained "
            "messages begin anew",
            restoring->shard->broker->run.sessions_path);
        restoring->has_vector = false;
        restoring->vector_seq = 0;
        return mr_store_clear(store);
    }
    if (!mr_store_each(store, MR_STORE_MESSAGES, load_message, restoring) ||
        !mr_store_each(store, MR_STORE_SESSIONS, load_session, restoring) ||
        !mr_store_each(store, MR_STORE_SUBSCRIPTIONS, load_subscription, restoring)) {
        return false;
    }
    restoring->keeps.at = 0;
    return mr_store_each(store, MR_STORE_DELIVERIES, load_delivery, restoring) &&
           mr_store_each(store, MR_STORE_RETAINED, load_retained, restoring);
}

/* ---- the tail ---- */

static void apply_event(struct mr_shard *shard, const struct mr_event *event)
{
    struct session *session = NULL;
    struct mr_message message = message_of(event);

    if (event->will || event->qos == 2) {
        session = session_find(shard, event->client);
    }
    if (session != NULL && session->keep != NULL) {
        keep_mark(shard, session->keep);
        if (event->will && session->will != NULL) { /* it has been published */
            stored_free(&shard->pool, session->will);
            session->will = NULL;
        }
        if (event->qos == 2 && !event->will) {
            if (inbound_reserve(&shard->pool, &session->inbound)) {
                inbound_add(&session->inbound, event->raw.packet_id);
            } else {
                shard->restore_short = true;
            }
        }
    }
    event_apply(shard, &message, event->seq, false);
}

static void apply_record(struct restoring *restoring, const struct mr_event *record)
{
    struct mr_shard *shard = restoring->shard;
    struct mr_control control;

    restoring->records += 1;
    if (record->type == MR_RECORD_EVENT) {
        apply_event(shard, record);
        return;
    }
    enum mr_err err = mr_control_get(record->type, record->raw.body, &control);
    if (err == MR_OK) {
        control_apply(shard, &control, record->received_us, record->seq);
    } else if (err == MR_ERR_CORRUPT) {
        mr_log(MR_LOG_ERROR, "sessions", "record %llu of lane %u does not parse; please report",
               (unsigned long long)record->seq, shard->index);
    }
}

static enum mr_err apply_tail(struct restoring *restoring, uint64_t seq_from, struct mr_error *why)
{
    struct mr_shard *shard = restoring->shard;
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event record;
    enum mr_err err =
        mr_reader_open(&reader, shard->broker->run.journal, shard->index, seq_from, NULL, why);

    if (err != MR_OK) {
        return err;
    }
    while ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT) {
        if (err == MR_ERR_CORRUPT) {
            continue; /* the journal has said what is lost */
        }
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_record(&view, &at, &record)) {
            apply_record(restoring, &record);
        }
        mr_view_unpin(&view);
        if (shard->store != NULL && (shard->fresh_bytes > checkpoint_at_bytes(shard) ||
                                     shard->unstored > RESTORE_AT_QUEUED)) {
            checkpoint_now(shard, view.seq_last);
        }
    }
    mr_reader_close(reader);
    return err == MR_ERR_AGAIN
               ? MR_OK
               : mr_error_set(why, MR_ERR_IO, "the journal cannot be read; check the disk");
}

/* ---- who was connected ---- */

static void close_all(struct mr_shard *shard)
{
    size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;

    for (size_t i = 0; i < slots; i++) {
        struct session *session = shard->sessions[i];
        while (session != NULL) {
            struct session *next = session->table_next;
            if (session->keep != NULL && session->keep->closed_us == 0) {
                struct client gone = {.shard = shard};
                queue_may_have_sent(session->keep);
                session_leave(shard, session, &gone);
            }
            session = next;
        }
    }
}

static bool say_no(void *arg, struct mr_span key, struct mr_span value)
{
    (void)arg;
    (void)key;
    (void)value;
    return false;
}

static bool find_ours(void *arg, struct mr_span key, struct mr_span value)
{
    const struct mr_journal_id *id = arg;

    (void)key;
    return value.len < VECTOR_ROW_ID || memcmp(value.at, id->bytes, sizeof(id->bytes)) != 0;
}

/* Is there anything of this journal in the store of a lane that is not used any more? */
static bool lane_is_empty(const struct mr_shard *shard, uint32_t lane)
{
    struct mr_store *store = NULL;
    char path[SESSIONS_PATH_BYTES];
    struct mr_text text = mr_text_over(path, sizeof(path));

    mr_text_fmt(&text, "%s/lane-%02u", shard->broker->run.sessions_path, lane);
    if (!mr_path_exists(path)) {
        return true;
    }
    if (mr_store_open(&store, &(struct mr_store_options){.path = path, .manual = true}, NULL) !=
        MR_OK) {
        return false;
    }
    struct mr_journal_id id = *mr_journal_identity(shard->broker->run.journal);
    bool empty = mr_store_each(store, MR_STORE_VECTOR, find_ours, &id) ||
                 (mr_store_each(store, MR_STORE_SESSIONS, say_no, NULL) &&
                  mr_store_each(store, MR_STORE_RETAINED, say_no, NULL));
    mr_store_close(store);
    return empty;
}

/* Sessions of clients that are at home in another shard now. */
static uint64_t strangers_count(const struct mr_shard *shard)
{
    size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;
    uint64_t count = 0;

    for (size_t i = 0; i < slots; i++) {
        for (const struct session *s = shard->sessions[i]; s != NULL; s = s->table_next) {
            count += mr_journal_home(shard->broker->run.journal, session_id(s)) != shard->index;
        }
    }
    return count;
}

/* With another number of lanes clients are at home elsewhere, and so would their sessions
 * have to be.  They are not thrown away for it.
 */
static enum mr_err check_lanes(const struct restoring *restoring, struct mr_error *why)
{
    const struct mr_shard *shard = restoring->shard;
    uint32_t lanes = shard->broker->shard_count;
    bool changed = restoring->lanes != 0 && !restoring->is_foreign && restoring->lanes != lanes;
    bool kept = strangers_count(shard) != 0;

    if (changed) {
        kept = shard->keeps_count + shard->retained_count != 0;
    }
    /* Shard 0 may never have had anything to write, so its store need not know. */
    uint32_t total = shard->store != NULL && shard->index == 0
                         ? mr_journal_lane_total(shard->broker->run.journal)
                         : 0;
    for (uint32_t lane = lanes; lane < total; lane++) {
        kept = kept || !lane_is_empty(shard, lane);
    }
    if (!kept) {
        return MR_OK;
    }
    return mr_error_set(
        why, MR_ERR_CONFIG,
        "there are persistent sessions or retained messages, kept with another number of shards "
        "than the %u of now, and they do not move; set `gateway.shards` to what it was, or let "
        "them "
        "expire and clear them first",
        lanes);
}

static void restored_say(const struct restoring *restoring, int64_t began_ns)
{
    const struct mr_shard *shard = restoring->shard;

    if (shard->keeps_count + shard->retained_count == 0) {
        return;
    }
    mr_log(MR_LOG_INFO, "sessions",
           "%llu sessions with %llu queued messages, %llu retained messages; %llu records of the "
           "journal applied, %lld ms",
           (unsigned long long)shard->keeps_count, (unsigned long long)shard->queued,
           (unsigned long long)shard->retained_count, (unsigned long long)restoring->records,
           (long long)((mr_clock_mono_ns() - began_ns) / 1000000));
}

enum mr_err restore(struct mr_shard *shard, struct mr_error *why)
{
    struct restoring restoring = {.shard = shard};
    int64_t began_ns = mr_clock_mono_ns();
    bool loaded = true;
    enum mr_err err = MR_OK;

    shard->restoring = true;
    if (shard->store != NULL) {
        loaded = load(&restoring);
    }
    for (size_t i = 0; i < restoring.messages.count; i++) {
        kept_unref(shard, restoring.messages.items[i]);
    }
    mr_free(restoring.messages.items);
    mr_free(restoring.keeps.items);
    if (loaded) {
        uint64_t seq = restoring.vector_seq;
        uint64_t durable_seq = mr_lane_durable(shard->lane);
        if (seq > durable_seq) { /* an older copy of the journal: go on from what it has */
            seq = durable_seq;
            checkpoint_now(shard, seq);
        }
        if (restoring.has_vector && shard->cursor != NULL && mr_cursor_get(shard->cursor) > seq) {
            seq = mr_cursor_get(shard->cursor); /* nothing had changed up to there */
        }
        err = apply_tail(&restoring, seq + 1, why);
    }
    shard->restoring = false;
    if (shard->restore_short) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "memory is too small for the sessions, queues and retained messages "
                            "that there are; set a larger `gateway.memory`");
    }
    if (!loaded) {
        return mr_error_set(why, MR_ERR_CORRUPT,
                            "%s: the session store cannot be read; move the folder away to start "
                            "without it",
                            shard->broker->run.sessions_path);
    }
    if (err == MR_OK) {
        err = check_lanes(&restoring, why);
    }
    if (err == MR_OK && shard->store != NULL && restoring.lanes != shard->broker->shard_count) {
        checkpoint_now(shard, mr_lane_durable(shard->lane)); /* it says how many lanes there are */
    }
    if (err == MR_OK) {
        foreign_restored(shard);
        close_all(shard);
        restored_say(&restoring, began_ns);
    }
    return err;
}
