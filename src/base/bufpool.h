/* bufpool.h - borrow a buffer while there is something to hold.
 *
 * An idle connection owns no buffer.  When a packet is incomplete, or bytes
 * wait to be sent, it borrows one from its shard's pool and gives it back as
 * soon as it is empty.  Size classes are powers of two; freed buffers are kept
 * per class (most recently used first, it is still in the cache) up to
 * `keep_bytes`, beyond that they go back to the system.
 *
 * Thread: owned by one event loop; no locks.
 * Memory: at most `limit_bytes` lent at any time; take() says NULL beyond.
 * Time:   none.
 */
#ifndef MR_BASE_BUFPOOL_H
#define MR_BASE_BUFPOOL_H

#include "base/base.h"

enum {
    MR_BUFPOOL_CLASS_MIN = 6,  /* 64 B */
    MR_BUFPOOL_CLASS_MAX = 28, /* 256 MiB: the largest MQTT packet */
    MR_BUFPOOL_CLASSES = MR_BUFPOOL_CLASS_MAX - MR_BUFPOOL_CLASS_MIN + 1
};

struct mr_bufpool {
    void *free_list[MR_BUFPOOL_CLASSES];
    size_t limit_bytes; /* lent buffers never exceed this */
    size_t keep_bytes;  /* freed buffers kept for reuse */
    size_t lent_bytes;
    size_t kept_bytes;
};

void mr_bufpool_init(struct mr_bufpool *pool, size_t limit_bytes, size_t keep_bytes);

/* Borrow at least `size` bytes (not zeroed); *capacity is what it really has.
 * NULL: the limit is reached; apply back-pressure.  Give back with the same
 * capacity.
 */
uint8_t *mr_bufpool_take(struct mr_bufpool *pool, size_t size, size_t *capacity) MR_MUST_USE;
void mr_bufpool_give(struct mr_bufpool *pool, uint8_t *buffer, size_t capacity);

/* Whether so many bytes more stay within the limit: then take() says NULL only because the system
 * refuses them.
 */
bool mr_bufpool_fits(const struct mr_bufpool *pool, size_t size);

/* Free what is kept.  Everything lent must have been given back. */
void mr_bufpool_fini(struct mr_bufpool *pool);

#endif
