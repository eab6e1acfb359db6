/* bench_commit.c - ways to make a batch durable, one of them a run.
 *
 * DESIGN
 *
 * An owner has a batch now and then, and waits until it is durable, as a shard does.  What
 * differs is who writes it (the owner itself, a thread, io_uring), how (buffered or past the
 * page cache; fdatasync or RWF_DSYNC), and into what (a file whose blocks were written before,
 * one that is only reserved, one that grows).  The files are those of the gateway: batches
 * follow each other, and a write goes to the end of its page.  Two lanes have a batch each at
 * the same time: in two files with a thread each, or in one.
 *
 * CPU is that of the process, threads of the kernel's that work for its io_uring included.
 */
#include "bench.h"
#include "bench_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, LANES_MAX = 2, WARM_UP = 50 };

struct commit_run;

/* A file, and who writes to it. */
struct commit_lane {
    struct commit_run *run;
    int fd;
    uint64_t pos;
    uint8_t *mirror; /* what the file holds, so that whole pages can be written */
    struct bench_ring *ring;
    pthread_t thread;
    int begin_fd; /* rung: there is a batch */
};

struct commit_run {
    const char *path;
    const char *by;
    const char *into;
    uint64_t bytes;
    uint64_t count;
    uint64_t file_bytes;
    uint64_t pause_us;
    uint64_t lane_count;
    bool direct;
    bool dsync;
    bool by_thread;
    int done_fd;
    _Atomic bool stopping;
    struct commit_lane lanes[LANES_MAX];
    struct mr_histogram latency;
};

static void ring_bell(int fd)
{
    const uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) != sizeof(one)) {
        bench_fail("eventfd: %s", bench_cause());
    }
}

static uint64_t await_bell(int fd)
{
    uint64_t rung = 0;

    while (read(fd, &rung, sizeof(rung)) < 0) {
        if (errno != EINTR) {
            bench_fail("eventfd: %s", bench_cause());
        }
    }
    return rung;
}

/* ---- the file ---- */

static void file_zero(const struct commit_lane *lane, uint64_t bytes)
{
    for (uint64_t pos = 0; pos < bytes; pos += (uint64_t)1 << 20) {
        if (pwrite(lane->fd, lane->mirror, (size_t)1 << 20, (off_t)pos) != 1 << 20) {
            bench_fail("write: %s", bench_cause());
        }
    }
}

static void file_open(struct commit_lane *lane, uint64_t index)
{
    const struct commit_run *run = lane->run;
    char path[512];

    (void)snprintf(path, sizeof(path), "%s.%llu", run->path, (unsigned long long)index);
    lane->fd =
        open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | (run->direct ? O_DIRECT : 0), 0600);
    if (lane->fd < 0) {
        bench_fail("cannot create '%s': %s", path, bench_cause());
    }
    (void)unlink(path);
    lane->mirror = aligned_alloc(PAGE, run->file_bytes);
    mr_assert(lane->mirror != NULL);
    memset(lane->mirror, 0, run->file_bytes);
    if (strcmp(run->into, "zeroed") == 0) {
        file_zero(lane, run->file_bytes);
    } else if (strcmp(run->into, "reserved") == 0) {
        int failed = posix_fallocate(lane->fd, 0, (off_t)run->file_bytes);
        if (failed != 0) {
            errno = failed;
            bench_fail("cannot reserve '%s': %s", path, bench_cause());
        }
    } else if (strcmp(run->into, "growing") != 0) {
        bench_fail("--into is zeroed, reserved or growing");
    }
    if (fsync(lane->fd) != 0) {
        bench_fail("fsync: %s", bench_cause());
    }
}

/* ---- a commit ---- */

static void commit_one(struct commit_lane *lane)
{
    const struct commit_run *run = lane->run;
    uint64_t from = run->direct ? lane->pos & ~(uint64_t)(PAGE - 1) : lane->pos;
    uint64_t end = (lane->pos + run->bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    struct iovec part = {.iov_base = lane->mirror + from, .iov_len = end - from};

    memset(lane->mirror + lane->pos, 'x', run->bytes);
    lane->pos += run->bytes & ~(uint64_t)7;
    if (lane->ring != NULL) {
        bench_ring_commit(lane->ring, lane->fd, &part, from, run->dsync);
        return;
    }
    if (pwritev2(lane->fd, &part, 1, (off_t)from, run->dsync ? RWF_DSYNC : 0) !=
        (ssize_t)part.iov_len) {
        bench_fail("write: %s", bench_cause());
    }
    if (!run->dsync && fdatasync(lane->fd) != 0) {
        bench_fail("fdatasync: %s", bench_cause());
    }
}

static void *commit_thread(void *arg)
{
    struct commit_lane *lane = arg;

    for (;;) {
        (void)await_bell(lane->begin_fd);
        if (atomic_load(&lane->run->stopping)) {
            return NULL;
        }
        commit_one(lane);
        ring_bell(lane->run->done_fd);
    }
}

/* A batch of each lane; returns when all are durable. */
static void commit_all(struct commit_run *run)
{
    uint64_t done = 0;

    for (uint64_t i = 0; i < run->lane_count; i++) {
        if (run->by_thread) {
            ring_bell(run->lanes[i].begin_fd);
        } else {
            commit_one(&run->lanes[i]);
        }
    }
    while (run->by_thread && done < run->lane_count) {
        done += await_bell(run->done_fd);
    }
}

static void run_open(struct commit_run *run)
{
    run->by_thread = strcmp(run->by, "thread") == 0;
    run->done_fd = eventfd(0, EFD_CLOEXEC);
    for (uint64_t i = 0; i < run->lane_count; i++) {
        struct commit_lane *lane = &run->lanes[i];

        lane->run = run;
        lane->begin_fd = eventfd(0, EFD_CLOEXEC);
        file_open(lane, i);
        if (strcmp(run->by, "ring") == 0) {
            lane->ring = bench_ring_open();
            if (lane->ring == NULL) {
                bench_fail("no io_uring: %s", bench_cause());
            }
        } else if (!run->by_thread && strcmp(run->by, "owner") != 0) {
            bench_fail("--by is owner, thread or ring");
        }
        if (run->by_thread && pthread_create(&lane->thread, NULL, commit_thread, lane) != 0) {
            bench_fail("cannot start a thread");
        }
    }
}

static void run_close(struct commit_run *run)
{
    atomic_store(&run->stopping, true);
    for (uint64_t i = 0; i < run->lane_count; i++) {
        struct commit_lane *lane = &run->lanes[i];

        if (run->by_thread) {
            ring_bell(lane->begin_fd);
            (void)pthread_join(lane->thread, NULL);
        }
        if (lane->ring != NULL) {
            bench_ring_close(lane->ring);
        }
        (void)close(lane->begin_fd);
        (void)close(lane->fd);
        free(lane->mirror);
    }
    (void)close(run->done_fd);
}

static uint64_t switches(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_nvcsw;
}

static void run_measure(struct commit_run *run)
{
    int64_t cpu_ns = 0;
    uint64_t slept = 0;

    for (uint64_t i = 0; i < run->count + WARM_UP && !bench_stopped(); i++) {
        if (i == WARM_UP) {
            cpu_ns = bench_cpu_ns();
            slept = switches();
        }
        for (uint64_t lane = 0; lane < run->lane_count; lane++) {
            if (run->lanes[lane].pos + run->bytes + PAGE > run->file_bytes) {
                run->lanes[lane].pos = 0; /* recycled, as segments are */
            }
        }
        int64_t begin_ns = bench_mono_ns();
        commit_all(run);
        if (i >= WARM_UP) {
            mr_histogram_add(&run->latency, bench_mono_ns() - begin_ns);
        }
        if (run->pause_us > 0) {
            (void)usleep((useconds_t)run->pause_us);
        }
    }

    struct bench_json json = bench_json_open("commit");
    double commits = run->latency.count == 0 ? 1 : (double)run->latency.count;
    bench_json_u64(&json, "commits", run->latency.count);
    bench_json_number(&json, "cpu_ns_per_commit", (double)(bench_cpu_ns() - cpu_ns) / commits);
    bench_json_number(&json, "switches_per_commit", (double)(switches() - slept) / commits);
    bench_json_histogram(&json, "commit", &run->latency);
    bench_json_close(&json);
}

int main(int argc, char **argv)
{
    static struct commit_run run = {.path = "bench_commit.tmp",
                                    .by = "thread",
                                    .into = "zeroed",
                                    .bytes = 1200,
                                    .count = 2000,
                                    .file_bytes = UINT64_C(64) << 20,
                                    .pause_us = 300,
                                    .lane_count = 1};
    const struct bench_option table[] = {
        {"path", BENCH_TEXT, &run.path, "files to make (and remove), on the disk to be measured"},
        {"by", BENCH_TEXT, &run.by, "who commits: owner, thread or ring"},
        {"into", BENCH_TEXT, &run.into, "zeroed, reserved (posix_fallocate) or growing"},
        {"direct", BENCH_FLAG, &run.direct, "past the page cache"},
        {"dsync", BENCH_FLAG, &run.dsync, "RWF_DSYNC instead of fdatasync"},
        {"lanes", BENCH_U64, &run.lane_count, "1 or 2 batches at the same time, a file each"},
        {"bytes", BENCH_U64, &run.bytes, "of each batch"},
        {"count", BENCH_U64, &run.count, "commits"},
        {"file-bytes", BENCH_U64, &run.file_bytes, "size of a file"},
        {"pause", BENCH_U64, &run.pause_us, "microseconds between a commit and the next batch"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "ways to make a batch durable", table);
    bench_stop_on_signals();
    run.file_bytes -= run.file_bytes % (1 << 20);
    if (run.lane_count == 0 || run.lane_count > LANES_MAX || run.bytes == 0 ||
        run.bytes + PAGE > run.file_bytes) {
        bench_fail("--lanes must be 1 or 2, and --file-bytes hold a batch of --bytes");
    }
    run_open(&run);
    run_measure(&run);
    run_close(&run);
    return 0;
}
