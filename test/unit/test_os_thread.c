/* test_os_thread.c
 * links: os base
 *
 * Goal:   no ring is ever lost, whatever the order of ringer and waiter; clocks,
 *         signals, mutexes and process facts hold.
 * Method: threads pass counters back and forth as fast as they can: a lost ring
 *         would leave both asleep and the test would never end.  Also run under
 *         ThreadSanitizer.
 */
#include "os/clock.h"
#include "os/process.h"
#include "os/thread.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 20000, RINGERS = 3, NS = 1000000000 };

struct ping_pong {
    struct mr_wake to_echo;
    struct mr_wake to_main;
    uint64_t asked; /* plain; ordered by the flags */
    uint64_t answered;
    _Atomic bool asked_flag;
    _Atomic bool answered_flag;
};

static void echo(void *arg)
{
    struct ping_pong *both = arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        while (!atomic_exchange_explicit(&both->asked_flag, false, memory_order_acquire)) {
            (void)mr_wake_wait(&both->to_echo, -1);
        }
        both->answered = both->asked + 1;
        atomic_store_explicit(&both->answered_flag, true, memory_order_release);
        mr_wake_ring(&both->to_main);
    }
}

static void test_ping_pong_loses_no_ring(void)
{
    struct ping_pong both = {.asked = 0};
    struct mr_thread *thread = NULL;

    mr_assert(mr_wake_open(&both.to_echo, NULL) == MR_OK);
    mr_assert(mr_wake_open(&both.to_main, NULL) == MR_OK);
    mr_assert(mr_thread_start(&thread, "echo", echo, &both, NULL) == MR_OK);
    for (unsigned i = 0; i < ROUNDS; i++) {
        both.asked = i;
        atomic_store_explicit(&both.asked_flag, true, memory_order_release);
        mr_wake_ring(&both.to_echo);
        while (!atomic_exchange_explicit(&both.answered_flag, false, memory_order_acquire)) {
            (void)mr_wake_wait(&both.to_main, -1);
        }
    }
    mr_thread_join(thread);
    mr_assert(both.answered == ROUNDS);
    mr_wake_close(&both.to_echo);
    mr_wake_close(&both.to_main);
}

struct many {
    struct mr_wake wake;
    _Atomic uint64_t count;
};

static void ring_often(void *arg)
{
    struct many *many = arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        atomic_fetch_add_explicit(&many->count, 1, memory_order_relaxed);
        mr_wake_ring(&many->wake);
    }
}

static void test_many_ringers_one_waiter(void)
{
    struct many many = {.count = 0};
    struct mr_thread *threads[RINGERS];

    mr_assert(mr_wake_open(&many.wake, NULL) == MR_OK);
    for (unsigned i = 0; i < RINGERS; i++) {
        mr_assert(mr_thread_start(&threads[i], "ringer", ring_often, &many, NULL) == MR_OK);
    }
    while (atomic_load_explicit(&many.count, memory_order_relaxed) < ROUNDS * RINGERS) {
        (void)mr_wake_wait(&many.wake, -1);
    }
    for (unsigned i = 0; i < RINGERS; i++) {
        mr_thread_join(threads[i]);
    }
    mr_wake_close(&many.wake);
}

static void test_wake_by_hand(void)
{
    struct mr_wake wake;
    const uint64_t one = 1;

    mr_assert(mr_wake_open(&wake, NULL) == MR_OK);
    mr_assert(!mr_wake_wait(&wake, 0));
    mr_wake_ring(&wake);
    mr_wake_ring(&wake);
    mr_assert(mr_wake_wait(&wake, -1)); /* rung before: returns at once */
    mr_assert(!mr_wake_wait(&wake, 0)); /* and rings are not counted */

    int64_t before = mr_clock_mono_ns();
    mr_assert(!mr_wake_wait(&wake, 2000000));
    mr_assert(mr_clock_mono_ns() - before >= 2000000);

    /* As librdkafka does it. */
    mr_assert(write(mr_wake_fd(&wake), &one, sizeof(one)) == sizeof(one));
    mr_assert(mr_wake_wait(&wake, -1));
    mr_assert(!mr_wake_wait(&wake, 0));
    mr_wake_close(&wake);
}

struct counter {
    struct mr_mutex mutex;
    uint64_t count; /* plain: the mutex alone protects it */
};

static void count_up(void *arg)
{
    struct counter *counter = arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        mr_mutex_lock(&counter->mutex);
        counter->count += 1;
        mr_mutex_unlock(&counter->mutex);
    }
}

static void test_mutex(void)
{
    struct counter counter = {.count = 0};
    struct mr_thread *thread = NULL;

    mr_mutex_init(&counter.mutex);
    mr_assert(mr_thread_start(&thread, "a name that is far too long", count_up, &counter, NULL) ==
              MR_OK);
    count_up(&counter);
    mr_thread_join(thread);
    mr_assert(counter.count == 2 * ROUNDS);
    mr_mutex_fini(&counter.mutex);
}

/* ---- the waits of libraries ---- */

struct timed {
    mtx_t mutex;
    cnd_t cond;
    bool said;
};

/* A wait for so long, by the wall clock as C11 has it. */
static int timed_wait(struct timed *timed, int64_t ns)
{
    int64_t until_ns = mr_clock_wall_us() * 1000 + ns;
    struct timespec until = {.tv_sec = until_ns / NS, .tv_nsec = until_ns % NS};

    return cnd_timedwait(&timed->cond, &timed->mutex, &until);
}

static void timed_say(void *arg)
{
    struct timed *timed = arg;

    mr_assert(mtx_lock(&timed->mutex) == thrd_success);
    timed->said = true;
    mr_assert(cnd_signal(&timed->cond) == thrd_success);
    mr_assert(mtx_unlock(&timed->mutex) == thrd_success);
}

static void test_timed_waits(void)
{
    struct mr_thread *thread;
    struct timed timed = {.said = false};
    int64_t began_ns = mr_clock_mono_ns();

    mr_assert(mtx_init(&timed.mutex, mtx_plain) == thrd_success);
    mr_assert(cnd_init(&timed.cond) == thrd_success);
    mr_assert(mtx_lock(&timed.mutex) == thrd_success);
    mr_assert(timed_wait(&timed, -NS) == thrd_timedout);
    mr_assert(timed_wait(&timed, NS / 20) == thrd_timedout);
    mr_assert(mr_clock_mono_ns() - began_ns >= NS / 20 - NS / 1000);
    mr_assert(mr_thread_start(&thread, "says", timed_say, &timed, NULL) == MR_OK);
    while (!timed.said) {
        mr_assert(timed_wait(&timed, 60 * (int64_t)NS) == thrd_success);
    }
    mr_assert(mtx_unlock(&timed.mutex) == thrd_success);
    mr_thread_join(thread);
    cnd_destroy(&timed.cond);
    mtx_destroy(&timed.mutex);
}

static void test_signals_ring(void)
{
    struct mr_wake wake;

    mr_assert(mr_wake_open(&wake, NULL) == MR_OK);
    mr_signals_route(&wake);
    mr_assert(mr_signals_take() == 0);
    mr_assert(raise(SIGHUP) == 0 && raise(SIGTERM) == 0);
    mr_assert(mr_wake_wait(&wake, -1));
    mr_assert(mr_signals_take() == (MR_SIGNAL_RELOAD | MR_SIGNAL_TERMINATE));
    mr_assert(mr_signals_take() == 0);
    mr_assert(raise(SIGUSR1) == 0 && raise(SIGPIPE) == 0); /* the latter does nothing */
    mr_assert(mr_signals_take() == MR_SIGNAL_DUMP);
    mr_signals_route(NULL);
    mr_wake_close(&wake);
}

static void test_clocks(void)
{
    int64_t mono = mr_clock_mono_ns();
    int64_t cpu = mr_clock_cpu_ns();

    mr_assert(mr_clock_wall_us() > INT64_C(1767225600000000)); /* later than 2026-01-01 */
    while (mr_clock_cpu_ns() == cpu) {
    }
    mr_assert(mr_clock_cpu_ns() > cpu && mr_clock_mono_ns() > mono);
}

static void test_process_facts(void)
{
    uint8_t a[64] = {0};
    uint8_t b[64] = {0};
    uint64_t open_before = mr_descriptors_open();
    struct mr_wake wake;

    mr_os_random(a, sizeof(a));
    mr_os_random(b, sizeof(b));
    mr_assert(memcmp(a, b, sizeof(a)) != 0);
    mr_assert(mr_wake_open(&wake, NULL) == MR_OK);
    mr_assert(mr_descriptors_open() == open_before + 1);
    mr_wake_close(&wake);
    mr_assert(mr_descriptors_raise() >= open_before);
    mr_assert(mr_cpu_count() >= 1);
    mr_assert(mr_memory_total() > mr_memory_resident() && mr_memory_resident() > 0);
    mr_assert(mr_process_id() == getpid());
    mr_assert(!mr_is_terminal(-1));
}

int main(void)
{
    test_wake_by_hand();
    test_ping_pong_loses_no_ring();
    test_many_ringers_one_waiter();
    test_mutex();
    test_timed_waits();
    test_signals_ring();
    test_clocks();
    test_process_facts();
    return 0;
}
