/* ring.c - see ring.h.
 *
 * DESIGN
 *
 * Positions count bytes for ever and are never wrapped, so full and empty differ.  Each
 * entry has a word in front that says its length.  One that does not fit before the end
 * of the memory begins at its start; what is left at the end is marked as skipped.
 *
 * INVARIANTS
 *
 *   (1) tail <= head <= tail + size; both are multiples of 8.
 *   (2) Bytes in [tail, head) are the reader's, all others the writer's.
 */
#include "base/ring.h"

enum { WORD = 8, CACHE_LINE = 64 };

#define SKIPPED UINT64_MAX

struct mr_ring {
    uint8_t *memory;
    uint64_t size;
    uint8_t apart[CACHE_LINE]; /* so that the two sides do not share a cache line */
    /* ---- the writer's ---- */
    _Atomic uint64_t head;
    uint64_t at;        /* where the reserved entry's word is */
    uint64_t tail_seen; /* tail, when it was last looked at */
    uint8_t apart_too[CACHE_LINE];
    /* ---- the reader's ---- */
    _Atomic uint64_t tail;
    uint64_t next;      /* behind the entry that was peeked at */
    uint64_t head_seen; /* head, when it was last looked at */
};

struct mr_ring *mr_ring_open(uint32_t size)
{
    struct mr_ring *ring = mr_alloc(sizeof(*ring));

    mr_assert(size >= CACHE_LINE && (size & (size - 1)) == 0);
    ring->memory = mr_alloc(size);
    ring->size = size;
    return ring;
}

void mr_ring_close(struct mr_ring *ring)
{
    if (ring != NULL) {
        mr_free(ring->memory);
        mr_free(ring);
    }
}

static uint64_t *word_at(const struct mr_ring *ring, uint64_t position)
{
    return (uint64_t *)(void *)(ring->memory + (position & (ring->size - 1)));
}

static uint64_t entry_bytes(size_t size)
{
    return WORD + (((uint64_t)size + WORD - 1) & ~(uint64_t)(WORD - 1));
}

uint8_t *mr_ring_reserve(struct mr_ring *ring, size_t size)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t to_end = ring->size - (head & (ring->size - 1));
    uint64_t bytes = entry_bytes(size);

    if (size > ring->size / 2 - WORD) {
        return NULL;
    }
    uint64_t end = head + (bytes > to_end ? to_end + bytes : bytes);
    if (end - ring->tail_seen > ring->size) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (end - ring->tail_seen > ring->size) {
            return NULL;
        }
    }
    if (bytes > to_end) {
        *word_at(ring, head) = SKIPPED;
        head += to_end;
    }
    ring->at = head;
    return (uint8_t *)(word_at(ring, head) + 1);
}

void mr_ring_publish(struct mr_ring *ring, size_t size)
{
    *word_at(ring, ring->at) = size;
    atomic_store_explicit(&ring->head, ring->at + entry_bytes(size), memory_order_release);
}

struct mr_span mr_ring_peek(struct mr_ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    if (tail == ring->head_seen) {
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
        if (tail == ring->head_seen) {
            return (struct mr_span){.at = NULL, .len = 0};
        }
    }
    uint64_t size = *word_at(ring, tail);
    if (size == SKIPPED) {
        tail += ring->size - (tail & (ring->size - 1));
        size = *word_at(ring, tail);
    }
    ring->next = tail + entry_bytes((size_t)size);
    return (struct mr_span){.at = (const uint8_t *)(word_at(ring, tail) + 1), .len = (size_t)size};
}

void mr_ring_pop(struct mr_ring *ring)
{
    atomic_store_explicit(&ring->tail, ring->next, memory_order_release);
}
