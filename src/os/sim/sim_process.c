/* sim_process.c - clock.h and process.h in the simulated world. */
#include "os/clock.h"
#include "os/process.h"
#include "os/sim/sim_internal.h"

/* To look at the clock takes a thread a little time, so that what it does until a time
 * has come to an end comes to an end.
 */
enum { LOOK_NS = 200 };

int64_t mr_clock_mono_ns(void)
{
    if (sim_in_thread()) {
        mr_sim_advance(LOOK_NS);
    }
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

/* ---- process.h ---- */

void mr_signals_route(struct mr_wake *wake)
{
    (void)wake;
}

void mr_signals_ignore_pipe(void) {}

void mr_map_faults_tell(const char *name, const char *advice, int code)
{
    (void)name; /* nothing is mapped here */
    (void)advice;
    (void)code;
}

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
