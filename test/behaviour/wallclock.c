/* wallclock.c - preloaded beside libfaketime, which does not know the waits of C11's threads.
 *
 * librdkafka waits by cnd_timedwait() until a wall time.  libfaketime sets the clock from which
 * that time is made and not the one by which the kernel waits, so a wait of a second would take as
 * long as the clock was set.  Here it takes the second, whatever the clock says.
 *
 * Thread: any.   Memory: none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000 };

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex,
                  const struct timespec *restrict until)
{
    struct timespec now;
    struct timespec end;
    long long left = 0;

    clock_gettime(CLOCK_REALTIME, &now); /* libfaketime's */
    left = (until->tv_sec - now.tv_sec) * (long long)NS_PER_S + until->tv_nsec - now.tv_nsec;
    left = left < 0 ? 0 : left;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &end);
    left += end.tv_nsec;
    end.tv_sec += left / NS_PER_S;
    end.tv_nsec = left % NS_PER_S;
    switch (pthread_cond_clockwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex,
                                   CLOCK_MONOTONIC, &end)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
