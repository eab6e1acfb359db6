/* lent_kit.h - a shard's pool lends all it has to the test, so that nobody else finds memory.
 *
 *     struct taking taking = {.left = N};        so many bytes are left
 *     shard_call(shard, take_all, &taking) ─▶ ... ─▶ shard_call(shard, give_all, &taking)
 */
#ifndef MR_TEST_LENT_KIT_H
#define MR_TEST_LENT_KIT_H

#include "broker/keep_internal.h"

/* A chain of what was lent. */
struct lent {
    struct lent *next;
    size_t capacity;
};

struct taking {
    struct lent *first;
    size_t left;
};

static inline void take_all(struct mr_shard *shard, void *arg)
{
    struct taking *taking = arg;
    size_t capacity = 0;

    for (size_t bytes = 1 << 20; bytes >= 64; bytes /= 2) {
        while (mr_bufpool_fits(&shard->pool, bytes + taking->left)) {
            struct lent *lent =
                (struct lent *)(void *)mr_bufpool_take(&shard->pool, bytes, &capacity);
            mr_assert(lent != NULL);
            *lent = (struct lent){.next = taking->first, .capacity = capacity};
            taking->first = lent;
        }
    }
}

static inline void give_all(struct mr_shard *shard, void *arg)
{
    struct taking *taking = arg;

    while (taking->first != NULL) {
        struct lent *lent = taking->first;
        taking->first = lent->next;
        mr_bufpool_give(&shard->pool, (uint8_t *)lent, lent->capacity);
    }
}

/* One turn of the shard. */
static inline void nothing(struct mr_shard *shard, void *arg)
{
    (void)shard;
    (void)arg;
}

#endif
