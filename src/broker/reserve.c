/* reserve.c - see reserve_internal.h.
 *
 * INVARIANTS
 *
 *   (1) A queue of a persistent session has room for one more, or is on the list `tight`, or
 *       gateway.memory is used up.
 *   (2) While a queue is on the list, no event is appended that sessions may be owed.
 */
#include "broker/reserve_internal.h"

#include "broker/keep_internal.h"

enum { COPY_BYTES_MAX = 64 << 10 }; /* a larger one is not kept for the next message */

static void reserve_give(struct mr_shard *shard, uint8_t **buffer, size_t capacity)
{
    if (*buffer != NULL) {
        mr_bufpool_give(&shard->pool, *buffer, capacity);
        *buffer = NULL;
    }
}

static bool queues_have_room(struct mr_shard *shard)
{
    struct keep *keep = NULL;

    while ((keep = shard->reserve.tight) != NULL) {
        if (keep->session != NULL && !queue_make_room(shard, keep)) {
            return false;
        }
        shard->reserve.tight = keep->tight_next;
        keep->tight = false;
        keep_let_go(shard, keep);
    }
    return true;
}

/* The system's word, not the pool's: by that there is room. */
static bool reserve_refused(const struct mr_shard *shard, size_t bytes)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (!mr_bufpool_fits(&shard->pool, bytes)) {
        return false;
    }
    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_WARN, "mqtt",
               "the system refuses %zu bytes; publishers wait, nothing is lost (%llu more): give "
               "the gateway more memory, or lower `gateway.memory`",
               bytes, (unsigned long long)held);
    }
    return true;
}

bool reserve_for(struct mr_shard *shard, const struct mr_message *message)
{
    struct reserve *reserve = &shard->reserve;
    size_t bytes = kept_copy_bytes(message);
    size_t capacity = 0;

    if (MR_UNLIKELY(reserve->tight != NULL) && !queues_have_room(shard)) {
        (void)reserve_refused(shard, sizeof(struct delivery));
        return false;
    }
    if (!kept_has_memory(shard, 2 * bytes)) {
        return true;
    }
    if (reserve->head == NULL) {
        reserve->head = mr_bufpool_take(&shard->pool, KEPT_BYTES, &capacity);
    }
    if (reserve->copy == NULL || reserve->copy_capacity < bytes ||
        (reserve->copy_capacity > COPY_BYTES_MAX && reserve->copy_capacity / 2 >= bytes)) {
        reserve_give(shard, &reserve->copy, reserve->copy_capacity);
        reserve->copy = mr_bufpool_take(&shard->pool, bytes, &reserve->copy_capacity);
    }
    return (reserve->head != NULL && reserve->copy != NULL) || !reserve_refused(shard, bytes);
}

uint8_t *reserve_take_head(struct mr_shard *shard, size_t bytes, size_t *capacity)
{
    uint8_t *head = shard->reserve.head;

    shard->reserve.head = NULL;
    *capacity = KEPT_BYTES;
    return head != NULL ? head : mr_bufpool_take(&shard->pool, bytes, capacity);
}

/* One that is much too large would waste what it has beyond. */
uint8_t *reserve_take_copy(struct mr_shard *shard, size_t bytes, size_t *capacity)
{
    struct reserve *reserve = &shard->reserve;
    uint8_t *copy = reserve->copy;

    if (copy == NULL || reserve->copy_capacity < bytes || reserve->copy_capacity / 2 >= bytes) {
        copy = mr_bufpool_take(&shard->pool, bytes, capacity);
        if (copy != NULL || reserve->copy == NULL || reserve->copy_capacity < bytes) {
            return copy;
        }
        copy = reserve->copy;
    }
    *capacity = reserve->copy_capacity;
    reserve->copy = NULL;
    return copy;
}

void reserve_tight(struct mr_shard *shard, struct keep *keep)
{
    if (!keep->tight) {
        keep->tight = true;
        keep->tight_next = shard->reserve.tight;
        shard->reserve.tight = keep;
    }
}

void reserve_close(struct mr_shard *shard)
{
    struct keep *keep = NULL;

    while ((keep = shard->reserve.tight) != NULL) {
        shard->reserve.tight = keep->tight_next;
        keep->tight = false;
        keep_let_go(shard, keep);
    }
    reserve_give(shard, &shard->reserve.head, KEPT_BYTES);
    reserve_give(shard, &shard->reserve.copy, shard->reserve.copy_capacity);
}
