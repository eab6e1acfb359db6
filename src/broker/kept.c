/* kept.c - messages that somebody is owed, each once.
 *
 * DESIGN
 *
 * A message that goes to persistent sessions is copied once, however many they are.
 * Most are settled within milliseconds and never leave memory.  Those that are still
 * owed at a checkpoint are written to the store and their copies given back: from then
 * on the head of 64 bytes is all that is in memory, and reading is a look-up in the
 * store.  The row is deleted with the last reference.
 *
 * INVARIANTS
 *
 *   (1) copy == NULL  =>  state is KEPT_STORED.
 *   (2) In `fresh` are exactly the KEPT_FRESH, in `writing` the KEPT_WRITING, and only in
 *       `writing` may be some without references.
 */
#include "broker/keep_internal.h"

_Static_assert(sizeof(struct kept) <= KEPT_BYTES, "a buffer class of the pool");

static void kept_link(struct kept **list, struct kept *kept)
{
    kept->prev = NULL;
    kept->next = *list;
    if (*list != NULL) {
        (*list)->prev = kept;
    }
    *list = kept;
}

static void kept_unlink(struct kept **list, struct kept *kept)
{
    if (kept->prev != NULL) {
        kept->prev->next = kept->next;
    } else {
        *list = kept->next;
    }
    if (kept->next != NULL) {
        kept->next->prev = kept->prev;
    }
}

static struct kept *kept_take(struct mr_shard *shard, size_t bytes)
{
    size_t capacity = 0;
    struct kept *kept = (struct kept *)(void *)reserve_take_head(shard, KEPT_BYTES, &capacity);

    if (kept != NULL) {
        mr_assert(capacity == KEPT_BYTES); /* so that it need not be remembered */
        *kept = (struct kept){.refs = 1, .bytes = (uint32_t)bytes};
        shard->kept_count += 1;
        shard->kept_bytes += bytes;
    }
    return kept;
}

static void kept_free(struct mr_shard *shard, struct kept *kept)
{
    if (kept->copy != NULL) {
        stored_free(&shard->pool, kept->copy);
    }
    shard->kept_count -= 1;
    shard->kept_bytes -= kept->bytes;
    mr_bufpool_give(&shard->pool, (uint8_t *)kept, KEPT_BYTES);
}

/* Of what may be retained it must be known whose it is (access_source_may()). */
static unsigned kept_parts(const struct mr_message *message)
{
    return STORED_PAYLOAD | (message->retain ? STORED_NAMES : 0);
}

size_t kept_copy_bytes(const struct mr_message *message)
{
    return stored_bytes(message, kept_parts(message));
}

struct kept *kept_new(struct mr_shard *shard, const struct mr_message *message, uint32_t lane,
                      uint64_t seq, enum kept_state state)
{
    /* A start may use all of it, or what was dropped for lack of memory would prevent it. */
    bool room = shard->restoring || kept_has_memory(shard, 0);
    size_t bytes = message_bytes(message);
    size_t capacity = 0;
    struct kept *kept = room ? kept_take(shard, bytes) : NULL;

    if (kept == NULL) {
        return NULL;
    }
    uint8_t *copy = reserve_take_copy(shard, kept_copy_bytes(message), &capacity);
    if (copy == NULL) {
        kept_free(shard, kept);
        return NULL;
    }
    kept->copy = stored_put(copy, capacity, message, kept_parts(message));
    kept->lane = lane;
    kept->seq = seq;
    kept->state = (uint8_t)state;
    kept->qos = message->qos;
    kept->received_us = message->received_us;
    if (state == KEPT_FRESH) {
        kept_link(&shard->fresh, kept);
        shard->fresh_bytes += kept->bytes;
    }
    return kept;
}

struct kept *kept_stored_new(struct mr_shard *shard, uint32_t lane, uint64_t seq, uint32_t bytes)
{
    struct kept *kept = kept_take(shard, bytes);

    if (kept != NULL) {
        kept->lane = lane;
        kept->seq = seq;
        kept->state = KEPT_STORED;
    }
    return kept;
}

static void kept_row_delete(struct mr_shard *shard, const struct kept *kept,
                            enum mr_store_table table)
{
    uint8_t key[MESSAGE_KEY_BYTES];

    if (shard->store == NULL) {
        return; /* the shard is closing, the rows stay */
    }
    kept_key(kept->lane, kept->seq, key);
    mr_store_delete(shard->store, table, mr_span_make(key, sizeof(key)));
}

void kept_unref(struct mr_shard *shard, struct kept *kept)
{
    mr_assert(kept->refs != 0);
    kept->refs -= 1;
    if (kept->refs != 0) {
        return;
    }
    switch (kept->state) {
    case KEPT_FRESH:
        kept_unlink(&shard->fresh, kept);
        shard->fresh_bytes -= kept->bytes;
        break;
    case KEPT_WRITING:
        return; /* kept_written() does the rest */
    case KEPT_STORED:
        kept_row_delete(shard, kept, MR_STORE_MESSAGES);
        break;
    default:
        break;
    }
    kept_free(shard, kept);
}

void kept_not_retained(struct mr_shard *shard, struct kept *kept)
{
    kept->is_retained = false;
    if (kept->retained_row) {
        kept->retained_row = false;
        kept_row_delete(shard, kept, MR_STORE_RETAINED);
    }
    kept_unref(shard, kept);
}

static void waits_say(const struct kept *kept)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_ERROR, "sessions",
               "the session store cannot be read for message %u-%llu, which waits (%llu more); "
               "check the disk",
               kept->lane, (unsigned long long)kept->seq, (unsigned long long)held);
    }
}

void kept_lacks(struct mr_shard *shard, uint32_t lane, uint64_t seq)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    mr_metric_add(shard->metrics.dropped_damaged, 1);
    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_ERROR, "sessions",
               "the session store lacks message %u-%llu, which is dropped (%llu more); check the "
               "disk",
               lane, (unsigned long long)seq, (unsigned long long)held);
    }
}

enum mr_err kept_read(struct mr_shard *shard, const struct kept *kept, struct mr_message *message)
{
    uint8_t key[MESSAGE_KEY_BYTES];
    struct mr_span value;

    if (kept->copy != NULL) {
        *message = kept->copy->message;
        return MR_OK;
    }
    kept_key(kept->lane, kept->seq, key);
    enum mr_err err =
        mr_store_get(shard->store, MR_STORE_MESSAGES, mr_span_make(key, sizeof(key)), &value);
    if (err == MR_OK && !message_decode(value, message)) {
        err = MR_ERR_REJECT;
    }
    if (MR_UNLIKELY(err == MR_ERR_IO)) {
        waits_say(kept);
    } else if (MR_UNLIKELY(err != MR_OK)) {
        kept_lacks(shard, kept->lane, kept->seq);
    }
    return err;
}

void kept_read_end(struct mr_shard *shard)
{
    if (shard->store != NULL) {
        mr_store_read_end(shard->store);
    }
}

/* ---- checkpoints ---- */

void kept_write_fresh(struct mr_shard *shard)
{
    struct kept *kept;

    mr_assert(shard->writing == NULL);
    while ((kept = shard->fresh) != NULL) {
        kept_unlink(&shard->fresh, kept);
        kept->state = KEPT_WRITING;
        kept_link(&shard->writing, kept);
        row_message_put(shard->store, kept->lane, kept->seq, &kept->copy->message);
        if (kept->is_retained) {
            row_retained_put(shard->store, kept->lane, kept->seq);
            kept->retained_row = true;
        }
    }
    shard->writing_bytes = shard->fresh_bytes;
    shard->fresh_bytes = 0;
}

void kept_written(struct mr_shard *shard)
{
    struct kept *kept;

    shard->writing_bytes = 0;
    while ((kept = shard->writing) != NULL) {
        kept_unlink(&shard->writing, kept);
        kept->state = KEPT_STORED;
        if (kept->refs == 0) {
            kept_row_delete(shard, kept, MR_STORE_MESSAGES);
            kept_free(shard, kept);
        } else {
            stored_free(&shard->pool, kept->copy);
            kept->copy = NULL;
        }
    }
}

void kept_drop_all(struct mr_shard *shard)
{
    struct kept *kept;

    mr_assert(shard->fresh == NULL);
    while ((kept = shard->writing) != NULL) {
        kept_unlink(&shard->writing, kept);
        mr_assert(kept->refs == 0);
        kept_free(shard, kept);
    }
}
