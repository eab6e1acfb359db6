/* ring.h - bytes from one thread to one other, in order, without a lock.
 *
 *     writer:  at = mr_ring_reserve(size) ; fill in ; mr_ring_publish(size)
 *     reader:  entry = mr_ring_peek()     ; use it  ; mr_ring_pop()
 *
 * Entries are of any size up to half of the ring and lie in one piece.  Waking the
 * reader is the caller's business, once for as many entries as it likes.
 *
 * Thread: one writer, one reader.
 * Memory: `size` bytes, taken at once; the kernel backs what is really used.
 * Time:   ~5 ns an entry and the copying; each side reads the other's position only
 *         when it seems to be out of room, or of entries.
 */
#ifndef MR_BASE_RING_H
#define MR_BASE_RING_H

#include "base/span.h"

#include <stdatomic.h>

struct mr_ring;

/* `size`: a power of two, 64 at least. */
struct mr_ring *mr_ring_open(uint32_t size);
void mr_ring_close(struct mr_ring *ring); /* no one uses it any more; NULL: nothing */

/* ---- the writer ---- */

/* Room for an entry of `size` bytes, 8-aligned.  NULL: not now, or, above half of the
 * ring, never.  A second call without publish() forgets the first.
 */
uint8_t *mr_ring_reserve(struct mr_ring *ring, size_t size) MR_MUST_USE;

/* The entry reserved last is `size` bytes long, at most what was reserved. */
void mr_ring_publish(struct mr_ring *ring, size_t size);

/* ---- the reader ---- */

/* The oldest entry; at == NULL: there is none. */
struct mr_span mr_ring_peek(struct mr_ring *ring);
void mr_ring_pop(struct mr_ring *ring); /* the entry that was peeked at last */

#endif
