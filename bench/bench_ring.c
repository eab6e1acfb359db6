/* bench_ring.c - see bench_ring.h. */
#include "bench_ring.h"

#include "bench.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 4 };

struct bench_ring {
    int fd;
    struct io_uring_sqe *sqes;
    _Atomic uint32_t *sq_tail;
    uint32_t *sq_array;
    uint32_t sq_mask;
    _Atomic uint32_t *cq_head;
    _Atomic uint32_t *cq_tail;
    const struct io_uring_cqe *cqes;
    uint32_t cq_mask;
    void *memory;
    size_t memory_bytes;
};

struct bench_ring *bench_ring_open(void)
{
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &params);

    if (fd < 0 || (params.features & IORING_FEAT_SINGLE_MMAP) == 0) {
        return NULL;
    }
    struct bench_ring *ring = mr_alloc(sizeof(*ring));
    size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);

    ring->fd = fd;
    ring->memory_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
    uint8_t *at = mmap(NULL, ring->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                       fd, IORING_OFF_SQ_RING);
    ring->sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
    if (at == MAP_FAILED || ring->sqes == MAP_FAILED) {
        bench_fail("no memory for the rings: %s", bench_cause());
    }
    ring->memory = at;
    ring->sq_tail = (_Atomic uint32_t *)(void *)(at + params.sq_off.tail);
    ring->sq_array = (uint32_t *)(void *)(at + params.sq_off.array);
    ring->sq_mask = params.sq_entries - 1;
    ring->cq_head = (_Atomic uint32_t *)(void *)(at + params.cq_off.head);
    ring->cq_tail = (_Atomic uint32_t *)(void *)(at + params.cq_off.tail);
    ring->cqes = (const struct io_uring_cqe *)(void *)(at + params.cq_off.cqes);
    ring->cq_mask = params.cq_entries - 1;
    return ring;
}

void bench_ring_close(struct bench_ring *ring)
{
    (void)munmap(ring->sqes, ENTRIES * sizeof(struct io_uring_sqe));
    (void)munmap(ring->memory, ring->memory_bytes);
    (void)close(ring->fd);
    mr_free(ring);
}

static void ring_add(struct bench_ring *ring, const struct io_uring_sqe *request)
{
    uint32_t tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed);
    uint32_t slot = tail & ring->sq_mask;

    ring->sqes[slot] = *request;
    ring->sq_array[slot] = slot;
    atomic_store_explicit(ring->sq_tail, tail + 1, memory_order_release);
}

void bench_ring_commit(struct bench_ring *ring, int fd, const struct iovec *part, uint64_t pos,
                       int dsync)
{
    struct io_uring_sqe write = {.opcode = IORING_OP_WRITEV,
                                 .fd = fd,
                                 .off = pos,
                                 .addr = (uint64_t)(uintptr_t)part,
                                 .len = 1};
    const struct io_uring_sqe sync = {
        .opcode = IORING_OP_FSYNC, .fd = fd, .fsync_flags = IORING_FSYNC_DATASYNC};
    uint32_t wanted = dsync ? 1 : 2;
    uint32_t done = 0;

    if (dsync) {
        write.rw_flags = RWF_DSYNC;
    } else {
        write.flags = IOSQE_IO_LINK;
    }
    ring_add(ring, &write);
    if (!dsync) {
        ring_add(ring, &sync);
    }
    while (syscall(SYS_io_uring_enter, ring->fd, done == 0 ? wanted : 0, wanted - done,
                   IORING_ENTER_GETEVENTS, NULL, 0) < 0) {
        if (errno != EINTR) {
            bench_fail("io_uring: %s", bench_cause());
        }
    }
    uint32_t head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
    for (; done < wanted; done++) {
        if (head == atomic_load_explicit(ring->cq_tail, memory_order_acquire)) {
            bench_fail("io_uring gave fewer answers than there were requests");
        }
        const struct io_uring_cqe *answer = &ring->cqes[head & ring->cq_mask];
        if (answer->res < 0) {
            errno = -answer->res;
            bench_fail("a commit by io_uring: %s", bench_cause());
        }
        head += 1;
    }
    atomic_store_explicit(ring->cq_head, head, memory_order_release);
}
