/* bench_disk.c - how long one durable commit takes, at least.
 *
 * DESIGN
 *
 * pwrite and fdatasync, one after the other, into a file that was filled with
 * zeroes and synced before, so that no commit changes the file's size or its
 * blocks.  Nothing else runs in the process.  A journal cannot commit faster than
 * this; its PUBACK latency is measured against it.
 *
 * Sizes are taken in turn: a single one (--bytes), or those of a real run (--trace): lines
 * of a time in microseconds and a size, as bench_trace.so writes them.  Each commit then
 * begins at its time after the first one, or when the one before is done.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { COMMITS_MAX = 1000000, BLOCK_BYTES = 1 << 20 };

struct disk_commit {
    int64_t at_ns;
    uint64_t bytes;
};

struct disk {
    const char *path;
    const char *trace;
    uint64_t bytes;
    uint64_t count;
    uint64_t file_bytes;
    uint64_t pause_us;
    struct disk_commit *commits; /* given by --trace, or one for all */
    uint64_t commit_count;
    uint64_t size_max;
    uint64_t written;
    struct mr_histogram latency;
};

static void disk_trace_read(struct disk *run)
{
    FILE *file = fopen(run->trace, "re");
    char line[128];
    int64_t first_us = 0;

    if (file == NULL) {
        bench_fail("cannot read '%s': %s", run->trace, bench_cause());
    }
    while (run->commit_count < COMMITS_MAX && fgets(line, sizeof(line), file) != NULL) {
        char *at = line;
        int64_t at_us = strtoll(at, &at, 10);
        uint64_t bytes = strtoull(at, &at, 10);

        if (bytes > 0) {
            first_us = run->commit_count == 0 ? at_us : first_us;
            run->commits[run->commit_count++] =
                (struct disk_commit){.at_ns = (at_us - first_us) * 1000, .bytes = bytes};
            run->size_max = bytes > run->size_max ? bytes : run->size_max;
        }
    }
    (void)fclose(file);
    if (run->commit_count == 0) {
        bench_fail("'%s' has no commits", run->trace);
    }
    run->count = run->commit_count;
}

static void disk_commits(struct disk *run)
{
    run->commits = mr_alloc(COMMITS_MAX * sizeof(*run->commits));
    if (run->trace != NULL) {
        disk_trace_read(run);
        return;
    }
    run->commits[0].bytes = run->bytes;
    run->commit_count = 1;
    run->size_max = run->bytes;
}

/* Sleep until it is due, if that is still to come. */
static void disk_await(const struct disk *run, int64_t due_ns)
{
    int64_t left_ns = run->trace == NULL ? 0 : due_ns - bench_mono_ns();

    if (left_ns > 0) {
        struct timespec pause = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
        (void)nanosleep(&pause, NULL);
    }
}

static void disk_write(int fd, const uint8_t *from, uint64_t len, uint64_t pos)
{
    while (len > 0) {
        ssize_t done = pwrite(fd, from, len, (off_t)pos);
        if (done < 0) {
            bench_fail("write: %s", bench_cause());
        }
        from += done;
        len -= (uint64_t)done;
        pos += (uint64_t)done;
    }
}

static int disk_prepare(struct disk *run)
{
    uint8_t *zeroes = mr_alloc(BLOCK_BYTES);
    int fd = open(run->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) {
        bench_fail("cannot create '%s': %s", run->path, bench_cause());
    }
    for (uint64_t pos = 0; pos < run->file_bytes; pos += BLOCK_BYTES) {
        disk_write(fd, zeroes, BLOCK_BYTES, pos);
    }
    if (fsync(fd) != 0) {
        bench_fail("fsync: %s", bench_cause());
    }
    mr_free(zeroes);
    return fd;
}

static void disk_run(struct disk *run, int fd)
{
    uint8_t *data = mr_alloc(run->size_max);
    uint64_t pos = 0;

    int64_t first_ns = bench_mono_ns();

    mr_assert(run->commit_count > 0);
    memset(data, 'x', run->size_max);
    for (uint64_t i = 0; i < run->count && !bench_stopped(); i++) {
        const struct disk_commit *commit = &run->commits[i % run->commit_count];
        uint64_t size = commit->bytes;

        disk_await(run, first_ns + commit->at_ns);
        if (pos + size > run->file_bytes) {
            pos = 0; /* recycled, as segments are */
        }
        int64_t begin_ns = bench_mono_ns();
        disk_write(fd, data, size, pos);
        if (fdatasync(fd) != 0) {
            bench_fail("fdatasync: %s", bench_cause());
        }
        mr_histogram_add(&run->latency, bench_mono_ns() - begin_ns);
        pos += size;
        run->written += size;
        if (run->pause_us > 0) {
            (void)usleep((useconds_t)run->pause_us);
        }
    }
    mr_free(data);
}

int main(int argc, char **argv)
{
    static struct disk run = {
        .path = "bench_disk.tmp", .bytes = 4096, .count = 2000, .file_bytes = UINT64_C(64) << 20};
    const struct bench_option table[] = {
        {"path", BENCH_TEXT, &run.path, "file to make (and remove), on the disk to be measured"},
        {"bytes", BENCH_U64, &run.bytes, "bytes of each commit"},
        {"trace", BENCH_TEXT, &run.trace, "file with the times and sizes of commits"},
        {"count", BENCH_U64, &run.count, "commits"},
        {"file-bytes", BENCH_U64, &run.file_bytes, "size of the preallocated file"},
        {"pause", BENCH_U64, &run.pause_us, "microseconds between commits"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "pwrite and fdatasync into a preallocated file", table);
    bench_stop_on_signals();
    (void)prctl(PR_SET_TIMERSLACK, 1); /* 50 us otherwise: as long as a flush */
    disk_commits(&run);
    run.file_bytes -= run.file_bytes % BLOCK_BYTES;
    if (run.size_max > run.file_bytes || run.count == 0) {
        bench_fail("--file-bytes must hold the largest commit, and --count be at least 1");
    }
    int fd = disk_prepare(&run);
    disk_run(&run, fd);
    (void)close(fd);
    (void)unlink(run.path);

    struct bench_json json = bench_json_open("disk");
    bench_json_u64(&json, "commits", run.latency.count);
    bench_json_u64(&json, "bytes_mean",
                   run.written / (run.latency.count == 0 ? 1 : run.latency.count));
    bench_json_histogram(&json, "commit", &run.latency);
    bench_json_close(&json);
    return 0;
}
