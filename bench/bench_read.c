/* bench_read.c - read the segments of a journal one after the other, with CRC32C: no more.
 *
 * DESIGN
 *
 * What a start or a verification cannot be faster than, if it looks at every byte: large
 * sequential reads of the same files, and the checksum at the speed of memory.  Nothing is
 * parsed.  Where the caches are to be cold the caller drops them.
 */
#include "bench.h"

#include "base/hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20, PATH_BYTES = 1024 };

static uint64_t read_file(const char *path, uint8_t *block, uint32_t *crc)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t total = 0;

    if (fd < 0) {
        bench_fail("cannot open '%s': %s", path, bench_cause());
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        ssize_t got = read(fd, block, BLOCK_BYTES);
        if (got < 0) {
            bench_fail("cannot read '%s': %s", path, bench_cause());
        }
        if (got == 0) {
            break;
        }
        *crc = mr_crc32c(*crc, block, (size_t)got);
        total += (uint64_t)got;
    }
    (void)close(fd);
    return total;
}

static bool is_segment(const char *name)
{
    const char *end = strrchr(name, '.');

    return end != NULL && strcmp(end, ".seg") == 0 && strncmp(name, "spare-", 6) != 0;
}

int main(int argc, char **argv)
{
    const char *folder = NULL;
    const struct bench_option table[] = {
        {"folder", BENCH_TEXT, &folder, "a lane's folder; its segments are read"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };
    uint64_t bytes = 0;
    uint32_t crc = 0;

    bench_options(argc, argv, "read segments sequentially, with CRC32C", table);
    DIR *dir = folder == NULL ? NULL : opendir(folder);
    if (dir == NULL) {
        bench_fail("--folder is needed: %s", folder == NULL ? "" : bench_cause());
    }
    uint8_t *block = mr_alloc(BLOCK_BYTES);
    int64_t begin_ns = bench_mono_ns();
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[PATH_BYTES];

        if (is_segment(entry->d_name)) {
            (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            bytes += read_file(path, block, &crc);
        }
    }
    double seconds = (double)(bench_mono_ns() - begin_ns) / 1e9;
    (void)closedir(dir);
    mr_free(block);

    struct bench_json json = bench_json_open("read");
    bench_json_u64(&json, "bytes", bytes);
    bench_json_u64(&json, "crc", crc);
    bench_json_number(&json, "seconds", seconds);
    bench_json_number(&json, "bytes_per_s", (double)bytes / seconds);
    bench_json_close(&json);
    return 0;
}
