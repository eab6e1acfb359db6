/* bench_trace.c - preloaded into the gateway: what its commits are, and what they made durable.
 *
 *     LD_PRELOAD=bench_trace.so BENCH_TRACE=FILE BENCH_DURABLE=FILE BENCH_FLUSH_US=N millrace ...
 *
 * DESIGN
 *
 * A commit is what one thread named commit-* writes by pwritev until its fdatasync returns.  Two
 * things are made of it, each only if its variable is set:
 *
 *   BENCH_TRACE    a line per commit: when it began (microseconds, monotonic clock), its bytes,
 *                  how long write and flush took together.  bench_disk --trace repeats it
 *                  without us.  Kept in memory and written at the end of the process.
 *   BENCH_DURABLE  a table in shared memory: for each device of bench_load the highest number
 *                  that a flush which has *returned* covers.  The events are found in the bytes
 *                  that are written.  bench_load --durable compares every PUBACK with it.
 *
 * BENCH_FLUSH_US makes every flush so much longer, before the table is raised: an
 * acknowledgement that does not wait for it has all that time to be seen.
 *
 * The product has no code for this.  A journal that would write or flush by other calls shows
 * no commits here, and every acknowledgement counts as early: nothing passes unseen.
 *
 * Thread: any; each keeps its own commit.  Memory: the trace is bounded by COMMITS_MAX.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The places of bench.h, which this library does not link. */
#define MARK "{\"d\":1"
enum { DEVICE_AT = 5, DEVICE_DIGITS = 7, SEQ_AT = 17, SEQ_DIGITS = 10, EVENT_MIN = 68 };
enum { DEVICES_MAX = 1000000, COMMITS_MAX = 1000000, COVERED_MAX = 1000000 };

struct commit {
    int64_t began_ns;
    int64_t took_ns;
    uint64_t bytes;
};

struct covered {
    uint32_t device;
    uint64_t seq;
};

static struct {
    const char *trace_path;
    struct commit *commits;
    _Atomic uint64_t commit_count;
    _Atomic uint64_t *durable;
    long flush_us;
} trace;

/* What this thread has written since its last flush. */
static _Thread_local struct {
    bool asked;
    bool commits; /* its name says so */
    int64_t began_ns;
    uint64_t bytes;
    struct covered *covered;
    size_t covered_count;
} own;

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Backed as far as it is touched, and left to the end of the process. */
static void *map_memory(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED) {
        perror("bench_trace");
        _exit(1);
    }
    return at;
}

static void *map_table(const char *path)
{
    const size_t bytes = DEVICES_MAX * sizeof(uint64_t);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *at = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
        at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (at == MAP_FAILED) {
        perror(path);
        _exit(1);
    }
    (void)close(fd);
    return at;
}

__attribute__((constructor)) static void trace_begin(void)
{
    const char *durable = getenv("BENCH_DURABLE");
    const char *flush_us = getenv("BENCH_FLUSH_US");

    trace.trace_path = getenv("BENCH_TRACE");
    trace.flush_us = flush_us == NULL ? 0 : strtol(flush_us, NULL, 10);
    if (durable != NULL) {
        trace.durable = map_table(durable);
    }
    if (trace.trace_path != NULL) {
        trace.commits = map_memory(COMMITS_MAX * sizeof(*trace.commits));
    }
}

__attribute__((destructor)) static void trace_end(void)
{
    FILE *file = trace.commits == NULL ? NULL : fopen(trace.trace_path, "we");

    if (file == NULL) {
        return;
    }
    uint64_t count = atomic_load(&trace.commit_count);
    for (uint64_t i = 0; i < count && i < COMMITS_MAX; i++) {
        const struct commit *commit = &trace.commits[i];
        (void)fprintf(file, "%lld %llu %lld\n", (long long)(commit->began_ns / 1000),
                      (unsigned long long)commit->bytes, (long long)(commit->took_ns / 1000));
    }
    (void)fclose(file);
}

static bool is_commit_thread(void)
{
    if (!own.asked) {
        char name[16] = "";

        own.asked = true;
        own.commits = pthread_getname_np(pthread_self(), name, sizeof(name)) == 0 &&
                      strncmp(name, "commit-", 7) == 0;
    }
    return own.commits;
}

/* UINT64_MAX: not digits. */
static uint64_t digits_read(const char *at, unsigned digits)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < digits; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return UINT64_MAX;
        }
        value = value * 10 + (uint64_t)(at[i] - '0');
    }
    return value;
}

static void note_event(const char *at)
{
    uint64_t device = digits_read(at + DEVICE_AT, DEVICE_DIGITS) - 1000000;
    uint64_t seq = digits_read(at + SEQ_AT, SEQ_DIGITS) - 1000000000;

    if (device >= DEVICES_MAX || seq > UINT32_MAX) {
        return; /* something else that looks like one */
    }
    if (own.covered_count > 0 && own.covered[own.covered_count - 1].device == device) {
        own.covered[own.covered_count - 1].seq = seq;
        return;
    }
    if (own.covered == NULL) {
        own.covered = map_memory(COVERED_MAX * sizeof(*own.covered));
    }
    if (own.covered_count == COVERED_MAX) {
        _exit(1); /* a commit has room for fewer */
    }
    own.covered[own.covered_count++] = (struct covered){.device = (uint32_t)device, .seq = seq};
}

static void note_events(const struct iovec *part)
{
    const char *at = part->iov_base;
    const char *end = at + part->iov_len;

    while ((at = memmem(at, (size_t)(end - at), MARK, sizeof(MARK) - 1)) != NULL) {
        if (end - at < EVENT_MIN) {
            return;
        }
        note_event(at);
        at += EVENT_MIN;
    }
}

static void raise_durable(void)
{
    for (size_t i = 0; i < own.covered_count; i++) {
        _Atomic uint64_t *cell = &trace.durable[own.covered[i].device];
        if (own.covered[i].seq > atomic_load_explicit(cell, memory_order_relaxed)) {
            atomic_store_explicit(cell, own.covered[i].seq, memory_order_release);
        }
    }
    own.covered_count = 0;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t pos)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t);

    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "pwritev");
    }
    if (!is_commit_thread()) {
        return real(fd, parts, count, pos);
    }
    own.began_ns = own.bytes == 0 ? now_ns() : own.began_ns;
    for (int i = 0; i < count && trace.durable != NULL; i++) {
        note_events(&parts[i]);
    }
    ssize_t done = real(fd, parts, count, pos);
    own.bytes += done > 0 ? (uint64_t)done : 0;
    return done;
}

int fdatasync(int fd)
{
    static int (*real)(int);

    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    }
    int result = real(fd);
    if (result != 0 || own.bytes == 0) {
        return result;
    }
    if (trace.flush_us > 0) {
        const struct timespec pause = {.tv_nsec = trace.flush_us * 1000};
        (void)nanosleep(&pause, NULL);
    }
    if (trace.commits != NULL) {
        uint64_t at = atomic_fetch_add(&trace.commit_count, 1);
        if (at < COMMITS_MAX) {
            trace.commits[at] = (struct commit){
                .began_ns = own.began_ns, .took_ns = now_ns() - own.began_ns, .bytes = own.bytes};
        }
    }
    if (trace.durable != NULL) {
        raise_durable();
    }
    own.bytes = 0;
    return result;
}
