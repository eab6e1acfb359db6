/* thread.c - threads, wakes and mutexes on pthreads and eventfd; the waits of libraries.
 *
 * Why the wake is a handshake and not just an eventfd is told in thread.h.
 *
 * C11's cnd_timedwait() waits until a wall time, and librdkafka waits so in all of its threads.
 * When a clock is set back by an hour (at boot, where it kept local time), a wait of a second
 * would last an hour: nothing is sent again, nothing is connected again.  So the definition here
 * takes the place of the C library's for the whole process, its libraries included, and waits for
 * as long as there was left when it was called (test/behaviour/test_kafka_clock.py).
 */
#include "os/thread.h"
#include "os/posix/posix_internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

struct mr_thread {
    pthread_t id;
    void (*run)(void *arg);
    void *arg;
    char name[16]; /* the kernel's limit, NUL included */
};

static void *thread_main(void *arg)
{
    struct mr_thread *thread = arg;

    (void)pthread_setname_np(pthread_self(), thread->name);
    thread->run(thread->arg);
    return NULL;
}

enum mr_err mr_thread_start(struct mr_thread **out, const char *name, void (*run)(void *arg),
                            void *arg, struct mr_error *why)
{
    struct mr_thread *thread = mr_alloc(sizeof(*thread));

    thread->run = run;
    thread->arg = arg;
    (void)snprintf(thread->name, sizeof(thread->name), "%s", name);
    int failed = pthread_create(&thread->id, NULL, thread_main, thread);
    if (failed != 0) {
        mr_free(thread);
        return mr_error_set(why, MR_ERR_CONFIG,
                            "cannot start thread '%s': %s; raise the limit of processes "
                            "(ulimit -u, TasksMax=)",
                            name, posix_cause(failed));
    }
    *out = thread;
    return MR_OK;
}

void mr_thread_join(struct mr_thread *thread)
{
    int failed = pthread_join(thread->id, NULL);

    mr_assert(failed == 0);
    mr_free(thread);
}

enum mr_err mr_wake_open(struct mr_wake *wake, struct mr_error *why)
{
    atomic_init(&wake->rung, 0);
    atomic_init(&wake->waiting, 0);
    wake->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake->fd < 0) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "cannot make an eventfd: %s; raise the limit of open files (ulimit -n)",
                            posix_cause(errno));
    }
    return MR_OK;
}

void mr_wake_close(struct mr_wake *wake)
{
    if (wake->fd >= 0) {
        (void)close(wake->fd);
        wake->fd = -1;
    }
}

void mr_wake_ring(struct mr_wake *wake)
{
    if (atomic_exchange(&wake->rung, 1) != 0 || atomic_load(&wake->waiting) == 0) {
        return;
    }

    const uint64_t one = 1;
    int errno_before = errno; /* we may be inside a signal handler */
    while (write(wake->fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    /* EAGAIN means that the counter is full: it is readable, which is all we
     * want.
     */
    errno = errno_before;
}

bool mr_wake_wait(struct mr_wake *wake, int64_t timeout_ns)
{
    bool readable = false;

    atomic_store(&wake->waiting, 1);
    if (atomic_exchange(&wake->rung, 0) == 0) {
        struct pollfd entry = {.fd = wake->fd, .events = POLLIN};
        struct timespec limit = posix_timespec(timeout_ns < 0 ? 0 : timeout_ns);
        int count = ppoll(&entry, 1, timeout_ns < 0 ? NULL : &limit, NULL);

        atomic_store(&wake->waiting, 0);
        readable = count > 0 && posix_drain(wake->fd);
        return atomic_exchange(&wake->rung, 0) != 0 || readable;
    }
    atomic_store(&wake->waiting, 0);
    return true;
}

int mr_wake_fd(const struct mr_wake *wake)
{
    return wake->fd;
}

_Static_assert(sizeof(pthread_mutex_t) <= sizeof(struct mr_mutex), "mr_mutex holds a pthread one");
_Static_assert(_Alignof(pthread_mutex_t) <= _Alignof(struct mr_mutex), "and aligns it");

static pthread_mutex_t *mutex_of(struct mr_mutex *mutex)
{
    return (pthread_mutex_t *)(void *)mutex;
}

void mr_mutex_init(struct mr_mutex *mutex)
{
    int failed = pthread_mutex_init(mutex_of(mutex), NULL);
    mr_assert(failed == 0);
}

void mr_mutex_fini(struct mr_mutex *mutex)
{
    int failed = pthread_mutex_destroy(mutex_of(mutex));
    mr_assert(failed == 0);
}

void mr_mutex_lock(struct mr_mutex *mutex)
{
    int failed = pthread_mutex_lock(mutex_of(mutex));
    mr_assert(failed == 0);
}

void mr_mutex_unlock(struct mr_mutex *mutex)
{
    int failed = pthread_mutex_unlock(mutex_of(mutex));
    mr_assert(failed == 0);
}

/* ---- the waits of libraries ---- */

_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t) && sizeof(mtx_t) == sizeof(pthread_mutex_t),
               "glibc's C11 threads are its POSIX ones");

static int64_t ns_of(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex,
                  const struct timespec *restrict until)
{
    struct timespec wall;
    struct timespec mono;

    (void)clock_gettime(CLOCK_REALTIME, &wall);
    (void)clock_gettime(CLOCK_MONOTONIC, &mono);
    int64_t left = ns_of(until) - ns_of(&wall);
    struct timespec end = posix_timespec(ns_of(&mono) + (left > 0 ? left : 0));
    switch (pthread_cond_clockwait((pthread_cond_t *)(void *)cond, (pthread_mutex_t *)(void *)mutex,
                                   CLOCK_MONOTONIC, &end)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
