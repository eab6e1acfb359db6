/* cleared.c - retained messages that were cleared lately, of which another lane may still say
 * that they are set.
 *
 * DESIGN
 *
 * Several shards read each other's lanes at their own pace, so one may see a message set after
 * it saw the later one that clears it.  So that all end with the same, an event with RETAIN has
 * a time of its own (retained_time()), later than all that its shard knew of the topic and
 * different from those of other lanes; the latest one counts, of one lane the last (its shard may
 * have forgotten a clear, and then the clock was set back).  Of a clear the time is remembered for
 * as long as an earlier event may still come: until all lanes have been read to their ends, and
 * KEPT_S at least, for what was under way to the disk.
 *
 * A shard that has forgotten may be the one at which the topic is set again, while another still
 * remembers, or is to read of it yet.  If the clock was set back, the time of now would be too
 * early.  So all shards have one mark: the latest time of what any of them remembered, until all
 * have read all lanes to their ends and remember nothing.  What is set and of which nothing is
 * known is later than that, which costs nothing while the clock is true.
 *
 * They go with the checkpoints, because what was cleared before one may be read again after a
 * start.  At most CLEARED_MAX and, with their nodes in the tree of retained messages, a
 * sixteenth of the memory: beyond that the oldest is forgotten.
 */
#include "broker/retained_internal.h"

enum { KEPT_S = 10, CLEARED_MAX = 65536, MEMORY_SHARE = 16, NODE_BYTES = 128 };

/* One that was cleared; in the order in which they were. */
struct cleared {
    struct cleared *next;
    int64_t received_us; /* of the event that cleared it */
    int64_t since_ns;
    uint64_t seq; /* of the record in the own lane: its name in the store */
    size_t capacity;
    uint16_t topic_len;
    bool is_stored;
    uint8_t topic[];
};

struct cleared_mark {
    _Atomic int64_t latest_us; /* written under the mutex */
    struct mr_mutex mutex;
    int64_t changed_ns; /* when somebody remembered or forgot something */
    int64_t settled_ns[SHARDS_MAX];
};

struct cleared_mark *cleared_mark_new(void)
{
    struct cleared_mark *mark = mr_alloc(sizeof(*mark));

    mr_mutex_init(&mark->mutex);
    return mark;
}

void cleared_mark_free(struct cleared_mark *mark)
{
    if (mark != NULL) {
        mr_mutex_fini(&mark->mutex);
        mr_free(mark);
    }
}

int64_t cleared_mark_us(const struct mr_shard *shard)
{
    return atomic_load_explicit(&shard->broker->cleared_mark->latest_us, memory_order_relaxed);
}

static bool mark_is_set(const struct mr_shard *shard)
{
    return shard->broker->cleared_mark != NULL && cleared_mark_us(shard) != 0;
}

/* Something of that time is remembered, or forgotten. */
static void mark_change(struct mr_shard *shard, int64_t received_us)
{
    struct cleared_mark *mark = shard->broker->cleared_mark;

    if (mark == NULL) {
        return;
    }
    mr_mutex_lock(&mark->mutex);
    if (received_us > cleared_mark_us(shard)) {
        atomic_store_explicit(&mark->latest_us, received_us, memory_order_relaxed);
    }
    mark->changed_ns = shard->now_ns;
    mr_mutex_unlock(&mark->mutex);
}

void cleared_mark_settled(struct mr_shard *shard)
{
    struct cleared_mark *mark = shard->broker->cleared_mark;
    bool settled = true;

    if (!mark_is_set(shard)) {
        return;
    }
    mr_mutex_lock(&mark->mutex);
    mark->settled_ns[shard->index] = shard->now_ns;
    for (uint32_t i = 0; i < shard->broker->shard_count; i++) {
        settled = settled && mark->settled_ns[i] > mark->changed_ns;
    }
    if (settled) {
        atomic_store_explicit(&mark->latest_us, 0, memory_order_relaxed);
    }
    mr_mutex_unlock(&mark->mutex);
}

static struct mr_span cleared_topic(const struct cleared *cleared)
{
    return mr_span_make(cleared->topic, cleared->topic_len);
}

/* With its nodes: one a level, which have its name once more. */
static uint64_t cleared_cost(const struct cleared *cleared)
{
    return 2 * cleared->capacity +
           (uint64_t)mr_topic_level_count(cleared_topic(cleared)) * NODE_BYTES;
}

/* The first one goes. */
static void cleared_drop(struct mr_shard *shard)
{
    struct cleared *first = shard->cleared_first;

    if (first->is_stored && shard->store != NULL) {
        row_cleared_delete(shard->store, shard->index, first->seq);
    }
    if (shard->cleared_new == first) {
        shard->cleared_new = first->next;
    }
    shard->cleared_first = first->next;
    if (first->next == NULL) {
        shard->cleared_last = NULL;
    }
    shard->cleared_count -= 1;
    shard->cleared_bytes -= cleared_cost(first);
    retained_forget_cleared(shard, cleared_topic(first), first->received_us);
    mark_change(shard, first->received_us);
    mr_bufpool_give(&shard->pool, (uint8_t *)first, first->capacity);
}

bool cleared_add(struct mr_shard *shard, struct mr_span topic, int64_t received_us, uint64_t seq,
                 bool is_stored)
{
    size_t capacity = 0;

    while (shard->cleared_count == CLEARED_MAX ||
           (shard->cleared_first != NULL &&
            shard->cleared_bytes > shard->pool.limit_bytes / MEMORY_SHARE)) {
        cleared_drop(shard);
    }
    struct cleared *cleared = (struct cleared *)(void *)mr_bufpool_take(
        &shard->pool, sizeof(*cleared) + topic.len, &capacity);
    if (cleared == NULL) {
        return false;
    }
    *cleared = (struct cleared){.received_us = received_us,
                                .since_ns = shard->now_ns,
                                .seq = seq,
                                .capacity = capacity,
                                .topic_len = (uint16_t)topic.len,
                                .is_stored = is_stored};
    memcpy(cleared->topic, topic.at, topic.len);
    if (shard->cleared_last != NULL) {
        shard->cleared_last->next = cleared;
    } else {
        shard->cleared_first = cleared;
    }
    shard->cleared_last = cleared;
    if (shard->cleared_new == NULL && !is_stored) {
        shard->cleared_new = cleared;
    }
    shard->cleared_count += 1;
    shard->cleared_bytes += cleared_cost(cleared);
    mark_change(shard, received_us);
    return true;
}

void cleared_write(struct mr_shard *shard)
{
    for (; shard->cleared_new != NULL; shard->cleared_new = shard->cleared_new->next) {
        struct cleared *cleared = shard->cleared_new;
        row_cleared_put(shard->store, shard->index, cleared->seq, cleared_topic(cleared),
                        cleared->received_us);
        cleared->is_stored = true;
    }
}

void cleared_expire(struct mr_shard *shard)
{
    int64_t before_ns = shard->now_ns - KEPT_S * INT64_C(1000000000);
    bool due = shard->cleared_first != NULL ? shard->cleared_first->since_ns <= before_ns
                                            : mark_is_set(shard);

    if (!due || !foreign_is_read_up(shard)) {
        return;
    }
    while (shard->cleared_first != NULL && shard->cleared_first->since_ns <= before_ns) {
        cleared_drop(shard);
    }
    if (shard->cleared_first == NULL) {
        cleared_mark_settled(shard);
    }
}

void cleared_close(struct mr_shard *shard)
{
    while (shard->cleared_first != NULL) {
        cleared_drop(shard);
    }
}
