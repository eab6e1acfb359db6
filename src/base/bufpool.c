/* bufpool.c - see bufpool.h for the contract.
 *
 * INVARIANTS (checked by bufpool_check)
 *
 *   (1) lent_bytes <= limit_bytes.
 *   (2) kept_bytes <= keep_bytes, and is the sum over the free lists.
 *   (3) A buffer is in one free list or lent, never both.  Under
 *       AddressSanitizer a kept buffer is poisoned, so touching it after
 *       giving it back is reported at once.
 */
#include "base/bufpool.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define BUFFER_POISON(at, size) ASAN_POISON_MEMORY_REGION(at, size)
#define BUFFER_UNPOISON(at, size) ASAN_UNPOISON_MEMORY_REGION(at, size)
#else
#define BUFFER_POISON(at, size) ((void)(at), (void)(size))
#define BUFFER_UNPOISON(at, size) ((void)(at), (void)(size))
#endif

static void bufpool_check(const struct mr_bufpool *pool)
{
    mr_assert(pool->lent_bytes <= pool->limit_bytes);
    mr_assert(pool->kept_bytes <= pool->keep_bytes);
}

/* The smallest class that holds `size`; its capacity is 1 << class. */
static unsigned bufpool_class(size_t size)
{
    if (size <= (size_t)1 << MR_BUFPOOL_CLASS_MIN) {
        return MR_BUFPOOL_CLASS_MIN;
    }
    return 64 - (unsigned)__builtin_clzll(size - 1);
}

void mr_bufpool_init(struct mr_bufpool *pool, size_t limit_bytes, size_t keep_bytes)
{
    *pool = (struct mr_bufpool){.limit_bytes = limit_bytes, .keep_bytes = keep_bytes};
}

/* A kept buffer begins with the pointer to the next one of its class. */
static uint8_t *bufpool_pop(struct mr_bufpool *pool, unsigned class, size_t capacity)
{
    void **list = &pool->free_list[class - MR_BUFPOOL_CLASS_MIN];
    uint8_t *buffer = *list;

    if (buffer != NULL) {
        BUFFER_UNPOISON(buffer, capacity);
        memcpy(list, buffer, sizeof(*list));
        pool->kept_bytes -= capacity;
    }
    return buffer;
}

bool mr_bufpool_fits(const struct mr_bufpool *pool, size_t size)
{
    return size <= (size_t)1 << MR_BUFPOOL_CLASS_MAX &&
           (size_t)1 << bufpool_class(size) <= pool->limit_bytes - pool->lent_bytes;
}

uint8_t *mr_bufpool_take(struct mr_bufpool *pool, size_t size, size_t *capacity)
{
    if (!mr_bufpool_fits(pool, size)) {
        return NULL;
    }

    unsigned class = bufpool_class(size);
    size_t bytes = (size_t)1 << class;
    uint8_t *buffer = bufpool_pop(pool, class, bytes);
    if (buffer == NULL) {
        buffer = malloc(bytes);
        if (buffer == NULL) {
            return NULL; /* the system's limit is as good a reason to wait as ours */
        }
    }
    pool->lent_bytes += bytes;
    *capacity = bytes;
    bufpool_check(pool);
    return buffer;
}

void mr_bufpool_give(struct mr_bufpool *pool, uint8_t *buffer, size_t capacity)
{
    unsigned class = bufpool_class(capacity);

    mr_assert(buffer != NULL && capacity == (size_t)1 << class);
    mr_assert(capacity <= pool->lent_bytes);
    pool->lent_bytes -= capacity;

    if (capacity > pool->keep_bytes - pool->kept_bytes) {
        free(buffer);
    } else {
        void **list = &pool->free_list[class - MR_BUFPOOL_CLASS_MIN];
        memcpy(buffer, list, sizeof(*list));
        *list = buffer;
        pool->kept_bytes += capacity;
        BUFFER_POISON(buffer, capacity);
    }
    bufpool_check(pool);
}

void mr_bufpool_fini(struct mr_bufpool *pool)
{
    mr_assert(pool->lent_bytes == 0);
    for (unsigned class = MR_BUFPOOL_CLASS_MIN; class <= MR_BUFPOOL_CLASS_MAX; class ++) {
        uint8_t *buffer = NULL;
        while ((buffer = bufpool_pop(pool, class, (size_t)1 << class)) != NULL) {
            free(buffer);
        }
    }
    mr_assert(pool->kept_bytes == 0);
}
