/* byte_ring.h - in-order memory for what a bridge writes per record: keys, headers, shaped values.
 *
 *     mr_bytes_take() ──▶ piece, mr_bytes_shorten() ──▶ its span notes `head`
 *     the span retires ──▶ `tail` = what it noted
 *
 * Taken at the head, given back at the tail.  A bridge that always has something on its way never
 * empties its ring; so that it does not touch all of it for the little it needs, the head goes
 * back to the beginning as soon as there is room for as much again (mr_bytes_turn_back()).
 *
 * Thread: the bridge's worker.
 * Memory: the owner's; nothing is allocated here.
 * Time:   constant.
 */
#ifndef MR_PIPELINE_BYTE_RING_H
#define MR_PIPELINE_BYTE_RING_H

#include <stddef.h>
#include <stdint.h>

struct byte_ring {
    uint8_t *at;
    size_t size;
    uint64_t head; /* both only grow, but for a ring that is empty; the place is modulo `size` */
    uint64_t tail;
};

/* Room for `size` bytes, 8-aligned; NULL: not now, or more than half of the ring. */
uint8_t *mr_bytes_take(struct byte_ring *ring, size_t size);

/* The newest piece turned out shorter: it ends at `end`. */
void mr_bytes_shorten(struct byte_ring *ring, const uint8_t *end);

/* How many places the head of a ring of `size` passes over so that what comes next lies at its
 * beginning; 0: it stays where it is, for there are fewer than `least` places in front of the tail,
 * or fewer than are in use.
 */
uint64_t mr_ring_turn(uint64_t head, uint64_t tail, uint64_t size, uint64_t least);

/* Between two spans: if the beginning of the ring has plenty of room, and more than is in use, the
 * next piece is taken there.
 */
void mr_bytes_turn_back(struct byte_ring *ring);

#endif
