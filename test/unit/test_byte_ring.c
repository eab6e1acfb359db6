/* test_byte_ring.c
 * links: pipeline journal codec config os base
 *
 * Goal:   pieces that are in use never overlap and lie within the ring; what is given back can be
 *         had again, so a piece of up to half of the ring always finds room at last; and a ring
 *         that is never empty is touched only as far as what is in use needs it.
 * Method: spans of pieces of random sizes, taken at the head and retired at the tail at random;
 *         each piece carries its number in all of its bytes until its span retires.
 */
#include "base/rng.h"
#include "pipeline/byte_ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 8 << 20, SPANS_MAX = 64, PIECES_MAX = 32 };

struct piece {
    uint8_t *at;
    size_t size;
};

struct span {
    struct piece pieces[PIECES_MAX];
    uint32_t count;
    uint64_t end;
    uint8_t mark;
};

static struct span spans[SPANS_MAX];
static uint64_t spans_head, spans_tail;
static size_t touched; /* up to which place */

static void retire(struct byte_ring *ring)
{
    struct span *span = &spans[spans_tail++ % SPANS_MAX];

    for (uint32_t i = 0; i < span->count; i++) {
        for (size_t k = 0; k < span->pieces[i].size; k++) {
            mr_assert(span->pieces[i].at[k] == span->mark);
        }
    }
    ring->tail = span->end;
}

static bool put(struct byte_ring *ring, struct span *span, size_t size, size_t shorter)
{
    uint8_t *at = mr_bytes_take(ring, size);

    if (at == NULL) {
        return false;
    }
    mr_assert(at >= ring->at && at + size <= ring->at + ring->size && (uintptr_t)at % 8 == 0);
    mr_bytes_shorten(ring, at + size - shorter);
    memset(at, span->mark, size - shorter);
    span->pieces[span->count++] = (struct piece){.at = at, .size = size - shorter};
    if ((size_t)(at - ring->at) + size > touched) {
        touched = (size_t)(at - ring->at) + size;
    }
    return true;
}

/* A span of `count` pieces, as far as there is room for them; without one: nothing. */
static bool add_span(struct byte_ring *ring, struct mr_rng *rng, uint32_t count, size_t size_max)
{
    struct span *span = &spans[spans_head % SPANS_MAX];

    if (spans_head == spans_tail) {
        ring->head = 0;
        ring->tail = 0;
    } else {
        mr_bytes_turn_back(ring);
    }
    *span = (struct span){.mark = (uint8_t)spans_head};
    for (uint32_t i = 0; i < count; i++) {
        size_t size = 1 + mr_rng_below(rng, size_max);
        if (!put(ring, span, size, mr_rng_below(rng, size))) {
            mr_assert(spans_head != spans_tail || i != 0); /* an empty ring has room */
            break;
        }
    }
    span->end = ring->head;
    spans_head += span->count != 0;
    return span->count != 0;
}

static void test_random_spans(struct byte_ring *ring, uint64_t seed, size_t size_max)
{
    struct mr_rng rng;
    uint32_t added = 0;

    mr_rng_seed(&rng, seed);
    for (uint32_t step = 0; step < 4000; step++) {
        bool full = spans_head - spans_tail == SPANS_MAX;
        uint32_t count = 1 + (uint32_t)mr_rng_below(&rng, PIECES_MAX);
        if (!full && mr_rng_below(&rng, 100) < 52 && add_span(ring, &rng, count, size_max)) {
            added += 1;
        } else if (spans_head != spans_tail) {
            retire(ring);
        }
    }
    while (spans_head != spans_tail) {
        retire(ring);
    }
    mr_assert(added > 1000);
}

/* 40 spans of some 2 KiB under way at any time, a hundred times round the ring. */
static void test_never_empty(struct byte_ring *ring)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, 1);
    touched = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        mr_assert(add_span(ring, &rng, 16, 256));
        if (spans_head - spans_tail > 40) {
            retire(ring);
        }
    }
    printf("touched %zu bytes\n", touched);
    mr_assert(touched < 512 << 10);
    while (spans_head != spans_tail) {
        retire(ring);
    }
}

/* Whatever is under way in front of it, half a ring finds room as soon as that has retired. */
static void test_half_a_ring(struct byte_ring *ring)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, 2);
    for (uint32_t i = 0; i < 500; i++) {
        while (!add_span(ring, &rng, 4, 64 << 10)) {
            retire(ring);
        }
        struct span *span = &spans[spans_head % SPANS_MAX];
        mr_bytes_turn_back(ring);
        while (mr_bytes_take(ring, RING / 2) == NULL) {
            mr_assert(spans_head != spans_tail);
            retire(ring);
            if (spans_head == spans_tail) {
                ring->head = 0;
                ring->tail = 0;
            }
        }
        *span = (struct span){.end = ring->head};
        spans_head += 1;
    }
    mr_assert(mr_bytes_take(ring, RING / 2 + 1) == NULL);
}

int main(void)
{
    struct byte_ring ring = {.at = malloc(RING), .size = RING};

    mr_assert(ring.at != NULL);
    for (uint64_t seed = 0; seed < 8; seed++) {
        test_random_spans(&ring, seed, seed % 2 == 0 ? 600 : 40000);
    }
    test_never_empty(&ring);
    test_half_a_ring(&ring);
    free(ring.at);
    return 0;
}
