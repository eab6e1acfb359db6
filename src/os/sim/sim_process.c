/* sim_process.c - clock.h, thread.h and process.h in the simulated world.
 *
 * One thread: whoever drives the simulation calls the steps of each part by
 * hand.  So a thread cannot be started, a wake is a flag, and a wait never
 * blocks: what it would wait for can only happen after it has returned.
 */
#include "os/clock.h"
#include "os/process.h"
#include "os/sim/sim_internal.h"
#include "os/thread.h"

int64_t mr_clock_mono_ns(void)
{
    return sim_now_ns();
}

int64_t mr_clock_wall_us(void)
{
    return sim_wall_us();
}

int64_t mr_clock_cpu_ns(void)
{
    return sim_now_ns();
}

/* ---- thread.h ---- */

enum mr_err mr_thread_start(struct mr_thread **out, const char *name, void (*run)(void *arg),
                            void *arg, struct mr_error *why)
{
    (void)run;
    (void)arg;
    *out = NULL;
    return mr_error_set(why, MR_ERR_CONFIG,
                        "cannot start thread '%s': the simulator has one thread; run its steps by "
                        "hand",
                        name);
}

void mr_thread_join(struct mr_thread *thread)
{
    mr_assert(thread == NULL); /* none was ever started */
}

enum mr_err mr_wake_open(struct mr_wake *wake, struct mr_error *why)
{
    (void)why;
    atomic_init(&wake->rung, 0);
    atomic_init(&wake->waiting, 0);
    wake->fd = sim_handle_open(SIM_WAKE, NULL);
    return MR_OK;
}

void mr_wake_close(struct mr_wake *wake)
{
    if (sim_handle_kind(wake->fd) == SIM_WAKE) { /* a crash has closed it already */
        sim_handle_close(wake->fd);
    }
    wake->fd = -1;
}

void mr_wake_ring(struct mr_wake *wake)
{
    atomic_store(&wake->rung, 1);
}

bool mr_wake_wait(struct mr_wake *wake, int64_t timeout_ns)
{
    (void)timeout_ns;
    return atomic_exchange(&wake->rung, 0) != 0;
}

int mr_wake_fd(const struct mr_wake *wake)
{
    return wake->fd;
}

/* With one thread a mutex that is taken twice would never be given back, so it
 * remembers that it is taken.
 */
void mr_mutex_init(struct mr_mutex *mutex)
{
    mutex->opaque[0] = 0;
}

void mr_mutex_fini(struct mr_mutex *mutex)
{
    mr_assert(mutex->opaque[0] == 0);
}

void mr_mutex_lock(struct mr_mutex *mutex)
{
    mr_assert(mutex->opaque[0] == 0);
    mutex->opaque[0] = 1;
}

void mr_mutex_unlock(struct mr_mutex *mutex)
{
    mr_assert(mutex->opaque[0] == 1);
    mutex->opaque[0] = 0;
}

/* ---- process.h ---- */

void mr_signals_route(struct mr_wake *wake)
{
    (void)wake;
}

void mr_signals_ignore_pipe(void) {}

unsigned mr_signals_take(void)
{
    return 0; /* no one sends any */
}

void mr_os_random(void *into, size_t len)
{
    uint8_t *bytes = into;

    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)mr_rng_u64(sim_rng());
    }
}

uint64_t mr_descriptors_raise(void)
{
    return 1 << 20;
}

uint64_t mr_descriptors_open(void)
{
    return 0;
}

uint64_t mr_memory_total(void)
{
    return (uint64_t)1 << 30;
}

uint64_t mr_memory_resident(void)
{
    return 0;
}

unsigned mr_cpu_count(void)
{
    return 1;
}

bool mr_is_terminal(int fd)
{
    (void)fd;
    return false;
}

bool mr_secret_ask(const char *prompt, char *into, size_t size)
{
    (void)prompt;
    (void)into;
    (void)size;
    return false;
}

int64_t mr_process_id(void)
{
    return 1;
}

enum mr_err mr_watch_open(const char *path, int *fd, struct mr_error *why)
{
    *fd = -1;
    return mr_error_set(why, MR_ERR_CONFIG,
                        "cannot watch folder %s: the simulator has no one else who could change it",
                        path);
}

bool mr_watch_wait(int fd, int64_t timeout_ns)
{
    (void)fd;
    (void)timeout_ns;
    return false;
}

void mr_watch_close(int fd)
{
    (void)fd;
}
