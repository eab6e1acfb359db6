/* bench_ring.h - the least of an io_uring: some requests in, all of them done.
 *
 * Of the kernel's interface itself, so that a measurement needs no library.
 *
 * Thread: one owner.   Memory: the kernel's rings.   Errors end the process.
 */
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include <stdint.h>
#include <sys/uio.h>

struct bench_ring;

/* NULL: the kernel does not let us have one. */
struct bench_ring *bench_ring_open(void);
void bench_ring_close(struct bench_ring *ring);

/* Write `part` at `pos` and make it durable: by a request of fdatasync that is linked to the
 * write, or with `dsync` by the write itself.  Returns when that is done.
 */
void bench_ring_commit(struct bench_ring *ring, int fd, const struct iovec *part, uint64_t pos,
                       int dsync);

#endif
