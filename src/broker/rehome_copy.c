/* rehome_copy.c - a session, its deliveries and their messages into the store of the new home.
 *
 * In the order of their names, which is that of the rows: a tree that is written from one end
 * to the other takes a fraction of the time, and so does reading the old one.
 */
#include "broker/layout_internal.h"
#include "broker/retained.h"

enum {
    MOVE_AT_BYTES = 16 << 20, /* gathered for a store: then they are written */
    READ_AT_ONCE = 10000,     /* messages */
    LIST_FIRST = 1024,
};

void moving_flush(struct moving *moving, uint32_t lane, size_t at_bytes)
{
    struct mr_store *store = moving->stores[lane];

    if (mr_store_gathered(store) > at_bytes) {
        mr_store_seal(store);
        mr_store_submit(store);
        moving->failed |= !mr_store_take_written(store);
    }
}

/* What of an old shard goes to one new lane. */
struct copying {
    struct moving *moving;
    struct mr_shard *shard;
    uint32_t lane;
    struct mr_store *store;
    struct keep **keeps;
    size_t keep_count;
    size_t keep_room;
    struct kept **messages;
    size_t message_count;
    size_t message_room;
};

static void *list_grow(void *list, size_t count, size_t *room, size_t size)
{
    if (count < *room) {
        return list;
    }
    *room = *room == 0 ? LIST_FIRST : *room * 2;
    return mr_realloc(list, *room * size);
}

/* Each once, however many are owed it. */
static void message_note(struct copying *copying, struct kept *kept)
{
    if (kept->copied_to == copying->lane + 1) {
        return;
    }
    kept->copied_to = (uint16_t)(copying->lane + 1);
    copying->messages = list_grow(copying->messages, copying->message_count, &copying->message_room,
                                  sizeof(struct kept *));
    copying->messages[copying->message_count++] = kept;
}

static void session_copy(struct copying *copying, const struct keep *keep)
{
    struct moving *moving = copying->moving;

    row_session_put(copying->store, keep);
    for (const struct mr_sub *sub = keep->session->subs; sub != NULL; sub = sub->owner_next) {
        row_sub_put(copying->store, keep, sub);
    }
    for (uint32_t i = 0; i < keep->count; i++) {
        const struct delivery *delivery = queue_at(keep, i);
        if (delivery->state != DELIVERY_DONE) {
            message_note(copying, delivery->kept);
            row_delivery_put(copying->store, keep, delivery);
            moving->deliveries += 1;
        }
    }
    moving->sessions += 1;
    moving_flush(moving, copying->lane, MOVE_AT_BYTES);
}

static int by_name(uint32_t lane_a, uint64_t a, uint32_t lane_b, uint64_t b)
{
    if (lane_a != lane_b) {
        return lane_a < lane_b ? -1 : 1;
    }
    return a < b ? -1 : a > b;
}

static int keeps_compare(const void *a, const void *b)
{
    const struct keep *x = *(struct keep *const *)a;
    const struct keep *y = *(struct keep *const *)b;

    return by_name(x->lane, x->number, y->lane, y->number);
}

static int messages_compare(const void *a, const void *b)
{
    const struct kept *x = *(struct kept *const *)a;
    const struct kept *y = *(struct kept *const *)b;

    return by_name(x->lane, x->seq, y->lane, y->seq);
}

static void sessions_copy(struct copying *copying)
{
    const struct mr_journal *journal = copying->moving->broker->run.journal;
    const struct mr_shard *shard = copying->shard;
    size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;

    for (size_t i = 0; i < slots; i++) {
        for (struct session *s = shard->sessions[i]; s != NULL; s = s->table_next) {
            if (s->keep != NULL && mr_journal_home_of(journal, session_id(s),
                                                      copying->moving->lanes) == copying->lane) {
                copying->keeps = list_grow(copying->keeps, copying->keep_count, &copying->keep_room,
                                           sizeof(struct keep *));
                copying->keeps[copying->keep_count++] = s->keep;
            }
        }
    }
    if (copying->keep_count != 0) {
        qsort(copying->keeps, copying->keep_count, sizeof(struct keep *), keeps_compare);
    }
    for (size_t i = 0; i < copying->keep_count && !copying->moving->failed; i++) {
        session_copy(copying, copying->keeps[i]);
    }
}

static void messages_copy(struct copying *copying)
{
    struct mr_message message;

    if (copying->message_count != 0) {
        qsort(copying->messages, copying->message_count, sizeof(struct kept *), messages_compare);
    }
    for (size_t i = 0; i < copying->message_count && !copying->moving->failed; i++) {
        const struct kept *kept = copying->messages[i];

        enum mr_err err = kept_read(copying->shard, kept, &message);
        if (err == MR_OK) { /* else the store has said so */
            row_message_put(copying->store, kept->lane, kept->seq, &message);
            moving_flush(copying->moving, copying->lane, MOVE_AT_BYTES);
        }
        copying->moving->failed |= err == MR_ERR_IO;
        if (i % READ_AT_ONCE == 0) { /* not a snapshot of the old store for seconds */
            kept_read_end(copying->shard);
        }
    }
    kept_read_end(copying->shard);
}

static void retained_copy(void *arg, struct kept *kept)
{
    struct copying *copying = arg;

    message_note(copying, kept);
    row_retained_put(copying->store, kept->lane, kept->seq);
}

void moving_copy(struct moving *moving, struct mr_shard *shard, uint32_t lane)
{
    struct copying copying = {
        .moving = moving, .shard = shard, .lane = lane, .store = moving->stores[lane]};

    sessions_copy(&copying);
    if (shard->index == 0) {
        retained_each(shard, retained_copy, &copying);
    }
    messages_copy(&copying);
    moving_flush(moving, lane, 0);
    mr_free(copying.keeps);
    mr_free(copying.messages);
}
