/* loop.c - epoll; see loop.h for the contract.
 *
 * DESIGN
 *
 * Level-triggered, because the owner may stop in the middle of a socket's bytes
 * (fairness, back-pressure) and must hear of the rest without bookkeeping.
 *
 * Sends go to io_uring where they may (ring.c), else each is a call.
 *
 * The wake's eventfd is one more descriptor in the set, under a tag that no one
 * else may use.  Before blocking, the loop takes its side of the handshake that
 * thread.h describes; so a ring while the loop is busy costs no syscall, neither
 * the ringer's write nor our read.
 */
#include "os/loop.h"
#include "base/log.h"
#include "os/posix/posix_internal.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WAKE_TAG UINT64_MAX

enum {
    EVENTS_PER_WAIT = 256, /* 3 KiB of stack; more do not make a wake-up cheaper */
    RING_WORTH = 2,        /* sends; one alone is a call either way */
};

struct mr_loop {
    int epoll_fd;
    int wake_fd;             /* registered in the set; -1: none yet */
    bool no_pwait2;          /* the kernel is older than 5.11 */
    struct posix_ring *ring; /* NULL: sends are calls, one by one */
};

enum mr_err mr_loop_open(struct mr_loop **out, struct mr_error *why)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "cannot make an epoll set: %s; raise the limit of open files "
                            "(ulimit -n)",
                            posix_cause(errno));
    }
    struct mr_loop *loop = mr_alloc(sizeof(*loop));
    loop->epoll_fd = fd;
    loop->wake_fd = -1;
    *out = loop;
    return MR_OK;
}

void mr_loop_close(struct mr_loop *loop)
{
    posix_ring_close(loop->ring);
    (void)close(loop->epoll_fd);
    mr_free(loop);
}

static struct epoll_event loop_event(uint32_t what, uint64_t tag)
{
    struct epoll_event event = {.data.u64 = tag};

    if ((what & MR_READY_READ) != 0) {
        event.events |= EPOLLIN | EPOLLRDHUP;
    }
    if ((what & MR_READY_EDGE) != 0) {
        event.events |= EPOLLET;
    }
    if ((what & MR_READY_WRITE) != 0) {
        event.events |= EPOLLOUT;
    }
    return event;
}

enum mr_err mr_loop_add(struct mr_loop *loop, int fd, uint32_t what, uint64_t tag)
{
    struct epoll_event event = loop_event(what, tag);

    mr_assert(tag != WAKE_TAG);
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) {
        return MR_OK;
    }
    mr_assert(errno == ENOSPC || errno == ENOMEM); /* else the descriptor was not ours to add */
    return MR_ERR_FULL;
}

void mr_loop_change(struct mr_loop *loop, int fd, uint32_t what, uint64_t tag)
{
    struct epoll_event event = loop_event(what, tag);

    mr_assert(tag != WAKE_TAG);
    int failed = epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event);
    mr_assert(failed == 0);
}

void mr_loop_remove(struct mr_loop *loop, int fd)
{
    int failed = epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    mr_assert(failed == 0);
}

enum mr_err mr_loop_batch_sends(struct mr_loop *loop, struct mr_error *why)
{
    return loop->ring != NULL ? MR_OK : posix_ring_open(&loop->ring, why);
}

/* By the ring, as many as go that way; how many those were. */
static size_t loop_send_by_ring(struct mr_loop *loop, struct mr_send *sends, size_t count)
{
    size_t done = 0;

    while (loop->ring != NULL && count - done >= RING_WORTH) {
        size_t some = count - done < POSIX_RING_SENDS ? count - done : POSIX_RING_SENDS;
        size_t made = posix_ring_send(loop->ring, sends + done, some);
        done += made;
        if (MR_UNLIKELY(made < some)) {
            posix_ring_close(loop->ring);
            loop->ring = NULL;
            mr_log(MR_LOG_WARN, "net", "io_uring has failed; sends are calls of their own now");
        }
    }
    return done;
}

void mr_loop_send(struct mr_loop *loop, struct mr_send *sends, size_t count)
{
    for (size_t i = loop_send_by_ring(loop, sends, count); i < count; i++) {
        size_t sent = 0;
        sends[i].err = mr_socket_write(sends[i].fd, sends[i].at, sends[i].len, &sent);
        sends[i].sent = (uint32_t)sent;
    }
}

static void loop_register_wake(struct mr_loop *loop, const struct mr_wake *wake)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_TAG};

    if (MR_LIKELY(loop->wake_fd == wake->fd)) {
        return;
    }
    mr_assert(loop->wake_fd < 0); /* the same wake each time */
    int failed = epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, wake->fd, &event);
    mr_assert(failed == 0);
    loop->wake_fd = wake->fd;
}

/* epoll_wait with nanoseconds; 0 when a signal came. */
static size_t loop_epoll(struct mr_loop *loop, struct epoll_event *events, size_t max,
                         int64_t timeout_ns)
{
    int count = -1;

    if (MR_LIKELY(!loop->no_pwait2)) {
        struct timespec limit = posix_timespec(timeout_ns < 0 ? 0 : timeout_ns);
        count =
            epoll_pwait2(loop->epoll_fd, events, (int)max, timeout_ns < 0 ? NULL : &limit, NULL);
        loop->no_pwait2 = count < 0 && errno == ENOSYS;
    }
    if (MR_UNLIKELY(loop->no_pwait2)) {
        /* Rounded up: waking before the time would make callers spin. */
        int64_t ms = timeout_ns < 0 ? -1 : timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
        count = epoll_wait(loop->epoll_fd, events, (int)max, ms > INT32_MAX ? INT32_MAX : (int)ms);
    }
    mr_assert(count >= 0 || errno == EINTR);
    return count < 0 ? 0 : (size_t)count;
}

/* Translate for the owner; takes the wake's own event out.  True: it was there. */
static bool loop_translate(const struct epoll_event *from, size_t from_count, struct mr_ready *into,
                           size_t *into_count)
{
    bool woken = false;
    size_t count = 0;

    for (size_t i = 0; i < from_count; i++) {
        uint32_t bits = from[i].events;
        struct mr_ready ready = {.tag = from[i].data.u64};

        if (ready.tag == WAKE_TAG) {
            woken = true;
            continue;
        }
        ready.what |= (bits & (EPOLLIN | EPOLLRDHUP)) != 0 ? MR_READY_READ : 0u;
        ready.what |= (bits & EPOLLRDHUP) != 0 ? MR_READY_END : 0u;
        ready.what |= (bits & EPOLLOUT) != 0 ? MR_READY_WRITE : 0u;
        /* EPOLLHUP alone is an end, of a Unix socket even before what is unread has been. */
        ready.what |= (bits & EPOLLERR) != 0 ? MR_READY_GONE : 0u;
        into[count] = ready;
        count += 1;
    }
    *into_count = count;
    return woken;
}

size_t mr_loop_wait(struct mr_loop *loop, struct mr_ready *events, size_t max, int64_t timeout_ns,
                    struct mr_wake *wake, bool *woken)
{
    struct epoll_event found[EVENTS_PER_WAIT];
    size_t count = 0;
    bool rung = false;

    max = max < EVENTS_PER_WAIT ? max : EVENTS_PER_WAIT;
    mr_assert(max > 0);
    if (wake != NULL) {
        loop_register_wake(loop, wake);
        atomic_store(&wake->waiting, 1);
        rung = atomic_exchange(&wake->rung, 0) != 0;
    }

    size_t found_count = loop_epoll(loop, found, max, rung ? 0 : timeout_ns);
    bool readable = loop_translate(found, found_count, events, &count);

    if (wake != NULL) {
        atomic_store(&wake->waiting, 0);
        if (readable) {
            rung |= posix_drain(wake->fd);
        }
        rung |= atomic_exchange(&wake->rung, 0) != 0;
        *woken = rung;
    }
    return count;
}
