/* replay.c - run a fuzzer without a fuzzing engine, for the ordinary suite.
 *
 *     replay_mqtt_server <corpus folder> [seed [count [first]]]
 *
 * Every file of the corpus is fed as it is, then `count` random mutations of them:
 * bytes changed, inserted, removed, or two files spliced.  Mutation number n, from 0
 * on, depends on seed and n only.  With `first` it begins with that mutation, and the
 * files are left out: so a fuzzer with a state of its own is led to a find again.
 *
 * When the process dies, the input that killed it is in replay-input-<pid>.bin in
 * the working folder, behind eight bytes of the mutation's number (of a file all ones)
 * and eight of its length: a shared mapping, so that a sanitizer's sudden end leaves it
 * behind too.  While the process runs it says how far it is.
 */
#include "fuzz.h"

#include "base/rng.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FILES_MAX = 8192, INPUT_MAX = 4096 };

static struct {
    uint8_t *at;
    size_t len;
} files[FILES_MAX];
static size_t file_count;

static struct last { /* mapped */
    uint64_t number;
    uint64_t len;
    uint8_t input[INPUT_MAX];
} *last;
static char last_path[64];

static void load(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;

    if (dir == NULL) {
        fprintf(stderr, "cannot open corpus folder %s\n", folder);
        exit(1);
    }
    while ((entry = readdir(dir)) != NULL) {
        char path[4096];
        uint8_t buffer[INPUT_MAX];
        if (entry->d_name[0] == '.') {
            continue;
        }
        mr_assert(file_count < FILES_MAX);
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "rb");
        mr_assert(file != NULL);
        size_t len = fread(buffer, 1, sizeof(buffer), file);
        fclose(file);
        files[file_count].at = malloc(len + 1);
        mr_assert(files[file_count].at != NULL);
        memcpy(files[file_count].at, buffer, len);
        files[file_count].len = len;
        file_count += 1;
    }
    closedir(dir);
}

/* readdir gives the files in any order; a seed must mean the same everywhere. */
static void sort_files(void)
{
    for (size_t i = 1; i < file_count; i++) {
        for (size_t j = i; j != 0; j--) {
            size_t a = files[j - 1].len;
            size_t b = files[j].len;
            int order = memcmp(files[j - 1].at, files[j].at, a < b ? a : b);
            if (order < 0 || (order == 0 && a <= b)) {
                break;
            }
            uint8_t *at = files[j].at;
            files[j].at = files[j - 1].at;
            files[j].len = a;
            files[j - 1].at = at;
            files[j - 1].len = b;
        }
    }
}

static void remember_open(void)
{
    int fd;

    snprintf(last_path, sizeof(last_path), "replay-input-%ld.bin", (long)getpid());
    fd = open(last_path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    mr_assert(fd >= 0 && ftruncate(fd, sizeof(*last)) == 0);
    last = mmap(NULL, sizeof(*last), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    mr_assert(last != MAP_FAILED);
    close(fd);
    last->number = UINT64_MAX;
}

static void feed(const uint8_t *at, size_t len)
{
    uint8_t *exact = malloc(len != 0 ? len : 1); /* a read behind its end is seen */

    mr_assert(exact != NULL);
    memcpy(exact, at, len);
    memcpy(last->input, at, len);
    last->len = len;
    (void)LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

static size_t mutate(struct mr_rng *rng, uint8_t *out)
{
    size_t pick = mr_rng_below(rng, file_count);
    size_t len = files[pick].len;

    memcpy(out, files[pick].at, len);
    if (mr_rng_below(rng, 8) == 0) { /* splice */
        size_t other = mr_rng_below(rng, file_count);
        size_t keep = mr_rng_below(rng, len + 1);
        size_t from = mr_rng_below(rng, files[other].len + 1);
        size_t add = files[other].len - from;
        add = add < INPUT_MAX - keep ? add : INPUT_MAX - keep;
        memcpy(out + keep, files[other].at + from, add);
        len = keep + add;
    }
    for (uint64_t n = 1 + mr_rng_below(rng, 4); n != 0 && len != 0; n--) {
        size_t at = mr_rng_below(rng, len);
        switch (mr_rng_below(rng, 5)) {
        case 0:
            out[at] = (uint8_t)mr_rng_u64(rng);
            break;
        case 1:
            out[at] ^= (uint8_t)(1u << mr_rng_below(rng, 8));
            break;
        case 2:
            memmove(out + at, out + at + 1, len - at - 1);
            len -= 1;
            break;
        case 3:
            out[at] = out[mr_rng_below(rng, len)];
            break;
        default:
            if (len < INPUT_MAX) {
                memmove(out + at + 1, out + at, len - at);
                out[at] = (uint8_t)mr_rng_u64(rng);
                len += 1;
            }
        }
    }
    return len;
}

int main(int argc, char **argv)
{
    unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    unsigned long count = argc > 3 ? strtoul(argv[3], NULL, 10) : 200000;
    unsigned long first = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
    static uint8_t input[INPUT_MAX];

    if (argc < 2) {
        fprintf(stderr, "usage: %s <corpus folder> [seed [count [first]]]\n", argv[0]);
        return 1;
    }
    load(argv[1]);
    sort_files();
    mr_assert(file_count != 0);
    remember_open();
    printf("seed %lu, %zu files, %lu mutations; a failing input is left in %s\n", seed, file_count,
           count, last_path);
    fflush(stdout);
    if (argc <= 4) {
        feed(input, 0);
        for (size_t i = 0; i < file_count; i++) {
            feed(files[i].at, files[i].len);
        }
    }
    for (unsigned long n = first; n < first + count; n++) {
        struct mr_rng rng;
        last->number = n;
        mr_rng_seed(&rng, seed * 1000003 + n);
        feed(input, mutate(&rng, input));
    }
    for (size_t i = 0; i < file_count; i++) {
        free(files[i].at);
    }
    munmap(last, sizeof(*last));
    unlink(last_path);
    return 0;
}
