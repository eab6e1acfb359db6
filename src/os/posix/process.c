/* process.c - signals, limits and identity; see process.h for the contract. */
#include "os/process.h"
#include "os/posix/posix_internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

static _Atomic unsigned signals_arrived;
static struct mr_wake *_Atomic signals_wake;

/* Only what is async-signal-safe: lock-free atomics and write(). */
static void signal_arrived(int number)
{
    unsigned bit = number == SIGHUP    ? MR_SIGNAL_RELOAD
                   : number == SIGUSR1 ? MR_SIGNAL_DUMP
                                       : MR_SIGNAL_TERMINATE;
    struct mr_wake *wake = atomic_load(&signals_wake);

    atomic_fetch_or(&signals_arrived, bit);
    if (wake != NULL) {
        mr_wake_ring(wake);
    }
}

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_POINTER_LOCK_FREE == 2,
               "a signal handler may use lock-free atomics only");

void mr_signals_route(struct mr_wake *wake)
{
    static const int routed[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    struct sigaction action = {.sa_handler = signal_arrived, .sa_flags = SA_RESTART};

    atomic_store(&signals_wake, wake);
    (void)sigfillset(&action.sa_mask);
    for (size_t i = 0; i < MR_COUNT_OF(routed); i++) {
        int failed = sigaction(routed[i], &action, NULL);
        mr_assert(failed == 0);
    }
    mr_signals_ignore_pipe();
}

void mr_signals_ignore_pipe(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};

    (void)sigemptyset(&action.sa_mask);
    int failed = sigaction(SIGPIPE, &action, NULL);
    mr_assert(failed == 0);
}

unsigned mr_signals_take(void)
{
    return atomic_exchange(&signals_arrived, 0);
}

void mr_os_random(void *into, size_t len)
{
    uint8_t *next = into;

    while (len > 0) {
        ssize_t got = getrandom(next, len, 0);
        if (got > 0) {
            next += got;
            len -= (size_t)got;
        } else {
            /* Ids and keys made from anything weaker would be worse than none. */
            mr_assert(errno == EINTR);
        }
    }
}

uint64_t mr_descriptors_raise(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    rlim_t had = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : had;
}

/* The first line of a small kernel file; false if there is none. */
static bool file_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        return false;
    }
    bool got = fgets(line, (int)size, file) != NULL;
    (void)fclose(file);
    return got;
}

/* Read the file `name` of the control group (v2) this process is in.  Inside a
 * container the group is usually the root of what is mounted.
 */
static bool cgroup_line(const char *name, char *line, size_t size)
{
    char group[512];
    char path[640];

    if (file_line("/proc/self/cgroup", group, sizeof(group)) && strncmp(group, "0::", 3) == 0) {
        group[strcspn(group, "\n")] = '\0';
        (void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", group + 3, name);
        if (file_line(path, line, size)) {
            return true;
        }
    }
    (void)snprintf(path, sizeof(path), "/sys/fs/cgroup/%s", name);
    return file_line(path, line, size);
}

uint64_t mr_memory_total(void)
{
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char line[64];

    if (cgroup_line("memory.max", line, sizeof(line)) ||
        file_line("/sys/fs/cgroup/memory/memory.limit_in_bytes", line, sizeof(line))) {
        uint64_t limit = strtoull(line, NULL, 10); /* "max" gives 0 */
        if (limit > 0 && limit < total) {
            return limit;
        }
    }
    return total;
}

uint64_t mr_memory_resident(void)
{
    char line[128];

    if (!file_line("/proc/self/statm", line, sizeof(line))) {
        return 0;
    }
    char *second = strchr(line, ' '); /* total, resident, shared … in pages */
    return second == NULL ? 0 : strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

unsigned mr_cpu_count(void)
{
    cpu_set_t set;
    char line[64];
    unsigned count = 1;

    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        count = (unsigned)CPU_COUNT(&set);
    } else {
        long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than cpu_set_t holds */
        count = online > 0 ? (unsigned)online : 1;
    }

    /* A container's share: "quota period", both in microseconds, or "max …". */
    if (cgroup_line("cpu.max", line, sizeof(line))) {
        char *end = NULL;
        uint64_t quota = strtoull(line, &end, 10);
        uint64_t period = strtoull(end, NULL, 10);
        if (quota > 0 && period > 0) {
            uint64_t share = (quota + period - 1) / period;
            count = share < count ? (unsigned)share : count;
        }
    }
    return count == 0 ? 1 : count;
}

uint64_t mr_descriptors_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (dir == NULL) {
        return 0;
    }
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += entry->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(dir);
    return count - 1; /* without the one we opened to count */
}

bool mr_is_terminal(int fd)
{
    return isatty(fd) == 1;
}

/* One byte of stdin, with the signals of `during` let in only while it waits; NULL: as they are. */
static bool byte_read(char *byte, const sigset_t *during)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

    return (during == NULL || ppoll(&in, 1, NULL, during) == 1) && read(STDIN_FILENO, byte, 1) == 1;
}

/* A line of stdin without its end, byte by byte: what follows is the next asker's. */
static bool line_read(char *into, size_t size, const sigset_t *during)
{
    size_t len = 0;
    char byte = 0;

    while (byte_read(&byte, during)) {
        if (byte == '\n') {
            into[len] = 0;
            return true;
        }
        if (len + 1 == size) {
            return false;
        }
        into[len] = byte;
        len += 1;
    }
    into[len] = 0;
    return len != 0;
}

static volatile sig_atomic_t secret_interrupted; /* by this signal; 0: not */

static void secret_interrupt(int number)
{
    secret_interrupted = number;
}

/* What would end us, and leave the terminal without echo, ends the reading instead. */
static const int secret_signals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
enum { SECRET_SIGNALS = sizeof(secret_signals) / sizeof(secret_signals[0]) };

struct secret_guard {
    struct sigaction handlers[SECRET_SIGNALS];
    sigset_t mask;
};

static void secret_guard(struct secret_guard *before)
{
    struct sigaction interrupt = {.sa_handler = secret_interrupt};

    secret_interrupted = 0;
    (void)sigemptyset(&interrupt.sa_mask);
    for (int i = 0; i < SECRET_SIGNALS; i++) {
        (void)sigaddset(&interrupt.sa_mask, secret_signals[i]);
    }
    (void)sigprocmask(SIG_BLOCK, &interrupt.sa_mask, &before->mask);
    for (int i = 0; i < SECRET_SIGNALS; i++) {
        (void)sigaction(secret_signals[i], &interrupt, &before->handlers[i]);
    }
}

/* The terminal is as it was: now the signal may do what it came for. */
static void secret_unguard(const struct secret_guard *before)
{
    for (int i = 0; i < SECRET_SIGNALS; i++) {
        (void)sigaction(secret_signals[i], &before->handlers[i], NULL);
    }
    if (secret_interrupted != 0) {
        (void)raise(secret_interrupted);
    }
    (void)sigprocmask(SIG_SETMASK, &before->mask, NULL);
}

bool mr_secret_ask(const char *prompt, char *into, size_t size)
{
    struct termios before;
    struct secret_guard guard;
    bool is_terminal = tcgetattr(STDIN_FILENO, &before) == 0;

    if (!is_terminal) {
        return line_read(into, size, NULL);
    }
    secret_guard(&guard);
    struct termios silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent); /* first: it drops what was typed before */
    (void)fputs(prompt, stderr);
    bool read_it = line_read(into, size, &guard.mask);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    (void)fputs("\n", stderr);
    secret_unguard(&guard);
    return read_it && secret_interrupted == 0;
}

int64_t mr_process_id(void)
{
    return getpid();
}

enum mr_err mr_watch_open(const char *path, int *fd, struct mr_error *why)
{
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

    if (watch >= 0 &&
        inotify_add_watch(watch, path,
                          IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM) >= 0) {
        *fd = watch;
        return MR_OK;
    }
    int errnum = errno;
    if (watch >= 0) {
        (void)close(watch);
    }
    return mr_error_set(why, errnum == ENOENT ? MR_ERR_REJECT : MR_ERR_CONFIG,
                        "cannot watch folder %s: %s%s", path, posix_cause(errnum),
                        errnum == ENOSPC || errnum == EMFILE
                            ? "; raise fs.inotify.max_user_watches and max_user_instances"
                            : "");
}

bool mr_watch_wait(int fd, int64_t timeout_ns)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    struct timespec limit = posix_timespec(timeout_ns < 0 ? 0 : timeout_ns);

    return ppoll(&entry, 1, timeout_ns < 0 ? NULL : &limit, NULL) > 0 && posix_drain(fd);
}

void mr_watch_close(int fd)
{
    (void)close(fd);
}
