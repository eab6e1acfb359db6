/* bench_disk.c - how long one durable commit takes, at least.
 *
 * DESIGN
 *
 * pwrite and fdatasync, one after the other, into a file that was filled with
 * zeroes and synced before, so that no commit changes the file's size or its
 * blocks.  Nothing else runs in the process.  A journal cannot commit faster than
 * this; its PUBACK latency is measured against it.
 *
 * Sizes are taken in turn: a single one (--bytes), or those of a real run, one
 * number per line (--trace).
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { SIZES_MAX = 100000, BLOCK_BYTES = 1 << 20 };

struct disk {
    const char *path;
    const char *trace;
    uint64_t bytes;
    uint64_t count;
    uint64_t file_bytes;
    uint64_t pause_us;
    uint64_t *sizes;
    uint64_t size_count;
    uint64_t size_max;
    uint64_t written;
    struct mr_histogram latency;
};

static void disk_sizes(struct disk *run)
{
    char line[64];

    run->sizes = mr_alloc(SIZES_MAX * sizeof(*run->sizes));
    if (run->trace == NULL) {
        run->sizes[0] = run->bytes;
        run->size_count = 1;
        run->size_max = run->bytes;
        return;
    }
    FILE *file = fopen(run->trace, "re");
    if (file == NULL) {
        bench_fail("cannot read '%s': %s", run->trace, bench_cause());
    }
    while (run->size_count < SIZES_MAX && fgets(line, sizeof(line), file) != NULL) {
        uint64_t size = strtoull(line, NULL, 10);
        if (size > 0) {
            run->sizes[run->size_count++] = size;
            run->size_max = size > run->size_max ? size : run->size_max;
        }
    }
    (void)fclose(file);
    if (run->size_count == 0) {
        bench_fail("'%s' has no sizes", run->trace);
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

    mr_assert(run->size_count > 0);
    memset(data, 'x', run->size_max);
    for (uint64_t i = 0; i < run->count && !bench_stopped(); i++) {
        uint64_t size = run->sizes[i % run->size_count];

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
        {"trace", BENCH_TEXT, &run.trace, "file with the sizes of commits, one per line"},
        {"count", BENCH_U64, &run.count, "commits"},
        {"file-bytes", BENCH_U64, &run.file_bytes, "size of the preallocated file"},
        {"pause", BENCH_U64, &run.pause_us, "microseconds between commits"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "pwrite and fdatasync into a preallocated file", table);
    bench_stop_on_signals();
    disk_sizes(&run);
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
