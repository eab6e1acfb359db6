/* ring.c - the sends of a turn by io_uring; see posix_internal.h and loop.h for the contract.
 *
 * DESIGN
 *
 * io_uring as a way to make many calls with one: as many sends as there are, one
 * io_uring_enter, and all of them are over when it returns.  MSG_DONTWAIT makes the kernel
 * refuse what it could not do at once, so nothing is ever in flight between two turns: no
 * buffer has to outlive a call, a connection may be closed or moved as with plain calls, and
 * whoever uses the loop cannot tell the difference.  Each send is answered, and the answers
 * are counted: a short one must not be taken for a whole one.
 *
 * Rejected, all measured with the floor server (docs/BENCHMARKS.md): receiving by io_uring
 * (multishot with provided buffers, or in one piece as the sends) is no cheaper than epoll and
 * recv, and the sends lose part of their gain; registered files save nothing; answers only for
 * what failed (IOSQE_CQE_SKIP_SUCCESS) neither.
 */
#include "os/posix/posix_internal.h"

#include <errno.h>
#include <liburing.h>
#include <sys/socket.h>

struct posix_ring {
    struct io_uring uring;
};

/* What to do about a ring that cannot be made, by its cause. */
static const char *ring_hint(int errnum)
{
    switch (errnum) {
    case EPERM:
    case EACCES:
        return "; kernel.io_uring_disabled is set, or a container forbids it (a seccomp profile)";
    case ENOSYS:
        return "; this kernel was built without it, or a container hides it";
    case EINVAL:
        return "; this kernel is older than 5.18";
    case ENOMEM:
        return "; raise the limit of locked memory (ulimit -l)";
    case EMFILE:
    case ENFILE:
        return "; raise the limit of open files (ulimit -n)";
    default:
        return "";
    }
}

enum mr_err posix_ring_open(struct posix_ring **out, struct mr_error *why)
{
    struct posix_ring *ring = mr_alloc(sizeof(*ring));
    /* One bad send must not keep those behind it. */
    struct io_uring_params params = {.flags = IORING_SETUP_SUBMIT_ALL};
    int err = io_uring_queue_init_params(POSIX_RING_SENDS, &ring->uring, &params);

    if (err != 0) {
        mr_free(ring);
        return mr_error_set(why, MR_ERR_CONFIG, "io_uring: %s%s", posix_cause(-err),
                            ring_hint(-err));
    }
    *out = ring;
    return MR_OK;
}

void posix_ring_close(struct posix_ring *ring)
{
    if (ring != NULL) {
        io_uring_queue_exit(&ring->uring);
        mr_free(ring);
    }
}

static void ring_answer(struct mr_send *send, int result)
{
    bool none = result == -EAGAIN || result == -EINTR;

    send->sent = result > 0 ? (uint32_t)result : 0;
    send->err = result >= 0 || none ? MR_OK : MR_ERR_IO;
}

/* The answers of `count` sends that the kernel has taken. */
static void ring_answers(struct posix_ring *ring, struct mr_send *sends, size_t count)
{
    while (count > 0) {
        struct io_uring_cqe *found[POSIX_RING_SENDS];
        unsigned got = io_uring_peek_batch_cqe(&ring->uring, found, POSIX_RING_SENDS);

        for (unsigned i = 0; i < got; i++) {
            ring_answer(&sends[found[i]->user_data], found[i]->res);
        }
        io_uring_cq_advance(&ring->uring, got);
        mr_assert(got <= count);
        count -= got;
        if (MR_UNLIKELY(got == 0)) { /* none is late by what MSG_DONTWAIT says; but if, we wait */
            (void)io_uring_wait_cqe(&ring->uring, found);
        }
    }
}

size_t posix_ring_send(struct posix_ring *ring, struct mr_send *sends, size_t count)
{
    int taken;

    mr_assert(count <= POSIX_RING_SENDS);
    for (size_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
        mr_assert(sqe != NULL);
        io_uring_prep_send(sqe, sends[i].fd, sends[i].at, sends[i].len,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        sqe->user_data = i;
    }
    do {
        taken = io_uring_submit_and_wait(&ring->uring, (unsigned)count);
    } while (taken == -EINTR);
    if (taken <= 0) {
        return 0;
    }
    ring_answers(ring, sends, (size_t)taken);
    return (size_t)taken;
}
