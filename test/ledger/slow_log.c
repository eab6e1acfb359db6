/* slow_log.c - preloaded into a broker: its writes to a log take longer while a file exists.
 *
 *     LD_PRELOAD=slow_log.so SLOW_LOG_WHILE=file SLOW_LOG_MS=100 java ...
 *
 * Concerns write, writev and pwrite on files whose name ends in ".log".  Thread: any.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 512, MS_DEFAULT = 100 };

static int is_log(int fd)
{
    static const char end[] = ".log";
    char link[64];
    char path[PATH_BYTES];
    ssize_t len = 0;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path));
    return len >= (ssize_t)sizeof(end) &&
           memcmp(path + len - (sizeof(end) - 1), end, sizeof(end) - 1) == 0;
}

static void wait_for_disk(int fd)
{
    const char *file = getenv("SLOW_LOG_WHILE");
    const char *text = getenv("SLOW_LOG_MS");
    long ms = text == NULL ? MS_DEFAULT : strtol(text, NULL, 10);
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    if (file == NULL || access(file, F_OK) != 0 || !is_log(fd)) {
        return;
    }
    nanosleep(&left, NULL); /* sleep: the fault itself */
}

/* The function behind this one. */
#define REAL(name)                                         \
    static __typeof__(&name) real;                         \
    if (real == NULL) {                                    \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
    }

ssize_t write(int fd, const void *bytes, size_t len)
{
    REAL(write)
    wait_for_disk(fd);
    return real(fd, bytes, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev)
    wait_for_disk(fd);
    return real(fd, parts, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    REAL(pwrite)
    wait_for_disk(fd);
    return real(fd, bytes, len, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    REAL(pwrite64)
    wait_for_disk(fd);
    return real(fd, bytes, len, at);
}
