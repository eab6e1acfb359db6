/* c11_threads.c - C11's threads by the names of POSIX, for builds under the thread sanitizer.
 *
 * The sanitizer knows pthread_create() and pthread_mutex_lock(), and not thrd_create() and
 * mtx_lock(), which librdkafka calls: a thread that it was not told of crashes in it, and a mutex
 * that it does not see orders nothing.  In glibc the ones are the others, so these take the place
 * of the C library's for the whole process (as os/posix/thread.c does with cnd_timedwait()).
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t) &&
                   sizeof(mtx_t) == sizeof(pthread_mutex_t) && sizeof(thrd_t) == sizeof(pthread_t),
               "glibc's C11 threads are its POSIX ones");

struct begin {
    thrd_start_t run;
    void *arg;
};

static int result_of(int error)
{
    return error == 0 ? thrd_success : thrd_error;
}

static void *thread_main(void *arg)
{
    const struct begin begin = *(struct begin *)arg;

    free(arg);
    return (void *)(intptr_t)begin.run(begin.arg);
}

int thrd_create(thrd_t *thread, thrd_start_t run, void *arg)
{
    struct begin *begin = malloc(sizeof(*begin));

    if (begin == NULL) {
        return thrd_nomem;
    }
    *begin = (struct begin){.run = run, .arg = arg};
    int error = pthread_create(thread, NULL, thread_main, begin);
    if (error != 0) {
        free(begin);
    }
    return result_of(error);
}

int thrd_join(thrd_t thread, int *result)
{
    void *got = NULL;
    int error = pthread_join(thread, &got);

    if (result != NULL) {
        *result = (int)(intptr_t)got;
    }
    return result_of(error);
}

static pthread_mutex_t *posix_mutex(mtx_t *mutex)
{
    return (pthread_mutex_t *)(void *)mutex;
}

static pthread_cond_t *posix_cond(cnd_t *cond)
{
    return (pthread_cond_t *)(void *)cond;
}

int mtx_init(mtx_t *mutex, int type)
{
    pthread_mutexattr_t kind;

    (void)pthread_mutexattr_init(&kind);
    (void)pthread_mutexattr_settype(&kind, (type & mtx_recursive) != 0 ? PTHREAD_MUTEX_RECURSIVE
                                                                       : PTHREAD_MUTEX_NORMAL);
    int error = pthread_mutex_init(posix_mutex(mutex), &kind);
    (void)pthread_mutexattr_destroy(&kind);
    return result_of(error);
}

void mtx_destroy(mtx_t *mutex)
{
    (void)pthread_mutex_destroy(posix_mutex(mutex));
}

int mtx_lock(mtx_t *mutex)
{
    return result_of(pthread_mutex_lock(posix_mutex(mutex)));
}

int mtx_unlock(mtx_t *mutex)
{
    return result_of(pthread_mutex_unlock(posix_mutex(mutex)));
}

int cnd_init(cnd_t *cond)
{
    return result_of(pthread_cond_init(posix_cond(cond), NULL));
}

void cnd_destroy(cnd_t *cond)
{
    (void)pthread_cond_destroy(posix_cond(cond));
}

int cnd_signal(cnd_t *cond)
{
    return result_of(pthread_cond_signal(posix_cond(cond)));
}

int cnd_broadcast(cnd_t *cond)
{
    return result_of(pthread_cond_broadcast(posix_cond(cond)));
}

int cnd_wait(cnd_t *cond, mtx_t *mutex)
{
    return result_of(pthread_cond_wait(posix_cond(cond), posix_mutex(mutex)));
}
