/* clock.c - the kernel's clocks. */
#include "os/clock.h"

#include <time.h>

static int64_t clock_ns(clockid_t id)
{
    struct timespec now;
    int failed = clock_gettime(id, &now);

    mr_assert(failed == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t mr_clock_mono_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t mr_clock_wall_us(void)
{
    return clock_ns(CLOCK_REALTIME) / 1000;
}

int64_t mr_clock_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}
