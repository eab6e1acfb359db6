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

void mr_bytes_turn_back(struct byte_ring *ring)
{
    size_t used = (size_t)(ring->head - ring->tail);
    size_t room = (size_t)(ring->tail % ring->size); /* in front of what is in use */

    if (room + used < ring->size && room >= ring->size / TURN_SHARE && room >= used) {
        ring->head += ring->size - (room + used);
    }
}
