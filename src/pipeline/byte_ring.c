/* byte_ring.c - see byte_ring.h. */
#include "pipeline/byte_ring.h"

enum { TURN_SHARE = 128 }; /* of the ring: for less the head does not turn back */

/* What is left at the end of the ring is skipped, and given back together with what follows. */
uint8_t *mr_bytes_take(struct byte_ring *ring, size_t size)
{
    if (size > ring->size / 2) {
        return NULL;
    }

    uint64_t head = (ring->head + 7) & ~(uint64_t)7;
    size_t at = (size_t)(head % ring->size);
    if (at + size > ring->size) {
        head += ring->size - at;
        at = 0;
    }
    if (head + size - ring->tail > ring->size) {
        return NULL;
    }
    ring->head = head + size;
    return ring->at + at;
}

void mr_bytes_shorten(struct byte_ring *ring, const uint8_t *end)
{
    size_t at = (size_t)((ring->head - 1) % ring->size) + 1;

    ring->head -= at - (size_t)(end - ring->at);
}

uint64_t mr_ring_turn(uint64_t head, uint64_t tail, uint64_t size, uint64_t least)
{
    uint64_t used = head - tail;
    uint64_t room = tail % size; /* in front of what is in use */

    return room + used < size && room >= least && room >= used ? size - (room + used) : 0;
}

void mr_bytes_turn_back(struct byte_ring *ring)
{
    ring->head += mr_ring_turn(ring->head, ring->tail, ring->size, ring->size / TURN_SHARE);
}
