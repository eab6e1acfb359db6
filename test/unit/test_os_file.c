/* test_os_file.c
 * links: os base
 *
 * Goal:   file.h on the real kernel: writes are whole, positions are right, and
 *         errors come in the class that the caller must react to.
 * Method: a folder of its own, made by mkdtemp and removed at the end.
 */
#include "base/rng.h"
#include "os/file.h"
#include "os/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static char folder[] = "/tmp/test_os_file.XXXXXX";

static const char *path_of(const char *name)
{
    static char paths[4][256]; /* up to four in one expression */
    static unsigned turn;
    char *path = paths[turn++ % 4];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void test_open_modes(void)
{
    struct mr_file file;
    struct mr_error why;

    mr_assert(mr_file_open(&file, path_of("a"), MR_FILE_READ, &why) == MR_ERR_REJECT);
    mr_assert(strstr(why.text, "/a: no such file") != NULL && file.fd == -1);
    mr_assert(mr_file_open(&file, path_of("a"), MR_FILE_READ_WRITE, NULL) == MR_ERR_REJECT);
    mr_assert(mr_file_open(&file, path_of("a"), MR_FILE_CREATE, &why) == MR_OK);
    mr_file_close(&file);
    mr_file_close(&file); /* twice is harmless */
    mr_assert(mr_file_open(&file, path_of("a"), MR_FILE_CREATE, &why) == MR_ERR_REJECT);
    mr_assert(mr_file_open(&file, path_of("no/a"), MR_FILE_CREATE, &why) == MR_ERR_IO);
    mr_assert(mr_path_exists(path_of("a")) && !mr_path_exists(path_of("b")));
    mr_assert(mr_path_remove(path_of("a")) == MR_OK);
    mr_assert(mr_path_remove(path_of("a")) == MR_ERR_REJECT);
}

static void test_write_many_parts(void)
{
    struct mr_file file;
    struct mr_span parts[200]; /* more than one call's worth, some empty */
    uint8_t expected[4096];
    uint8_t found[4096];
    size_t total = 0;
    size_t got = 0;

    for (size_t i = 0; i < sizeof(expected); i++) {
        expected[i] = (uint8_t)(i * 7 + i / 256);
    }
    for (size_t i = 0; i < MR_COUNT_OF(parts); i++) {
        parts[i] = mr_span_make(expected + total, i % 3 == 0 ? 0 : i % 17);
        total += parts[i].len;
    }
    mr_assert(total < sizeof(expected));
    mr_assert(mr_file_open(&file, path_of("w"), MR_FILE_CREATE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, parts, MR_COUNT_OF(parts), 1000) == MR_OK);
    mr_assert(mr_file_write(&file, parts, 0, 5000) == MR_OK);
    mr_assert(mr_file_sync(&file) == MR_OK);

    uint64_t size = 0;
    mr_assert(mr_file_size(&file, &size) == MR_OK && size == 1000 + total);
    mr_assert(mr_file_read(&file, found, sizeof(found), 1000, &got) == MR_OK && got == total);
    mr_assert(memcmp(found, expected, total) == 0);
    mr_assert(mr_file_read(&file, found, 1000, 0, &got) == MR_OK && got == 1000);
    mr_assert(found[0] == 0 && found[999] == 0); /* the hole before it */
    mr_assert(mr_file_read(&file, found, 10, size, &got) == MR_OK && got == 0);
    mr_assert(mr_file_truncate(&file, 1001) == MR_OK);
    mr_assert(mr_file_size(&file, &size) == MR_OK && size == 1001);
    mr_file_close(&file);

    mr_assert(mr_file_open(&file, path_of("w"), MR_FILE_READ, NULL) == MR_OK);
    parts[0] = mr_span_of("x");
    mr_assert(mr_file_write(&file, parts, 1, 0) == MR_ERR_IO);
    mr_file_close(&file);
    mr_assert(mr_path_remove(path_of("w")) == MR_OK);
}

static void test_fill_zero_really_fills(void)
{
    struct mr_file file;
    static uint8_t found[3 << 20];
    const struct mr_span old = mr_span_of("old content of a recycled segment");
    uint64_t size = 0;
    size_t got = 0;

    mr_assert(mr_file_open(&file, path_of("z"), MR_FILE_CREATE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &old, 1, 0) == MR_OK);
    mr_assert(mr_file_fill_zero(&file, (2 << 20) + 17) == MR_OK);
    mr_assert(mr_file_size(&file, &size) == MR_OK && size == (2 << 20) + 17);
    mr_assert(mr_file_read(&file, found, sizeof(found), 0, &got) == MR_OK && got == size);
    for (size_t i = 0; i < got; i++) {
        mr_assert(found[i] == 0);
    }
    mr_file_close(&file);
    mr_assert(mr_path_remove(path_of("z")) == MR_OK);
}

static void test_no_space_is_full(void)
{
    struct mr_file file = {.fd = -1};
    const struct mr_span some = mr_span_of("some");

    /* /dev/full answers every write with ENOSPC. */
    if (mr_file_open(&file, "/dev/full", MR_FILE_READ_WRITE, NULL) != MR_OK) {
        printf("/dev/full is not here: FULL not tested\n");
        return;
    }
    mr_assert(mr_file_write(&file, &some, 1, 0) == MR_ERR_FULL);
    mr_assert(strcmp(mr_file_last_cause(), "no space left on device") == 0);
    mr_assert(mr_file_fill_zero(&file, 10) == MR_ERR_FULL);
    mr_file_close(&file);
}

static void collect(void *arg, const char *name)
{
    unsigned *seen = arg;

    mr_assert(strlen(name) == 1 && name[0] >= 'a' && name[0] <= 'c');
    *seen |= 1u << (name[0] - 'a');
}

static void make_file(const char *path)
{
    struct mr_file file;
    mr_assert(mr_file_open(&file, path, MR_FILE_CREATE, NULL) == MR_OK);
    mr_file_close(&file);
}

/* A failed call leaves its cause until the next one fails. */
static void test_last_cause(void)
{
    struct mr_file file = {.fd = -1};
    const struct mr_span some = mr_span_of("some");

    mr_assert(mr_path_remove(path_of("z")) == MR_ERR_REJECT);
    mr_assert(strcmp(mr_file_last_cause(), "no such file or directory") == 0);
    make_file(path_of("z"));
    mr_assert(mr_file_open(&file, path_of("z"), MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &some, 1, 0) == MR_ERR_IO);
    mr_assert(strcmp(mr_file_last_cause(), "bad file descriptor") == 0);
    mr_file_close(&file);
    mr_assert(mr_path_remove(path_of("z")) == MR_OK);
    mr_assert(mr_dir_sync(path_of("z")) == MR_ERR_REJECT);
    mr_assert(strcmp(mr_file_last_cause(), "no such file or directory") == 0);
    mr_assert(mr_file_open(&file, "/", MR_FILE_READ, NULL) == MR_OK);
    uint8_t byte;
    size_t got = 0;
    mr_assert(mr_file_read(&file, &byte, 1, 0, &got) == MR_ERR_IO);
    mr_assert(strcmp(mr_file_last_cause(), "is a directory") == 0);
    mr_file_close(&file);
}

/* With no descriptor left a folder that is open can be flushed, and nothing else is done. */
static void test_no_descriptor(void)
{
    struct mr_file dir = {.fd = -1};
    struct mr_file file = {.fd = -1};
    struct rlimit before;
    struct mr_error why;

    mr_assert(mr_dir_open(path_of("nowhere"), &dir, &why) == MR_ERR_REJECT);
    mr_assert(!mr_file_last_was_shortage() && strstr(why.text, "nowhere") != NULL);
    mr_assert(mr_dir_open(path_of("."), &dir, &why) == MR_OK);
    mr_assert(getrlimit(RLIMIT_NOFILE, &before) == 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    mr_assert(setrlimit(RLIMIT_NOFILE, &none) == 0);
    mr_assert(mr_file_open(&file, path_of("n"), MR_FILE_CREATE, NULL) == MR_ERR_IO);
    mr_assert(mr_file_last_was_shortage());
    mr_assert(strcmp(mr_file_last_cause(), "too many open files") == 0);
    mr_assert(mr_dir_sync(path_of(".")) == MR_ERR_IO);
    mr_assert(mr_dir_flush(&dir) == MR_OK);
    mr_assert(setrlimit(RLIMIT_NOFILE, &before) == 0);
    mr_assert(!mr_path_exists(path_of("n")));
    mr_file_close(&dir);
}

static void test_folders(void)
{
    struct mr_error why;
    unsigned seen = 0;
    uint64_t free_bytes = 0;

    mr_assert(mr_dir_create(path_of("x/y/z"), &why) == MR_OK);
    mr_assert(mr_dir_create(path_of("x/y//z/"), &why) == MR_OK); /* is there already */
    make_file(path_of("x/y/z/a"));
    make_file(path_of("x/y/z/b"));
    make_file(path_of("x/y/z/d"));
    mr_assert(mr_path_rename(path_of("x/y/z/d"), path_of("x/y/z/b")) == MR_OK); /* replaces */
    mr_assert(mr_path_rename(path_of("x/y/z/d"), path_of("x/y/z/c")) == MR_ERR_REJECT);
    mr_assert(mr_path_rename(path_of("x/y/z/b"), path_of("x/y/z/c")) == MR_OK);
    mr_assert(mr_dir_sync(path_of("x/y/z")) == MR_OK);
    mr_assert(mr_dir_list(path_of("x/y/z"), collect, &seen) == MR_OK && seen == 5);
    mr_assert(mr_dir_list(path_of("nowhere"), collect, &seen) == MR_ERR_REJECT);
    mr_assert(mr_dir_sync(path_of("nowhere")) == MR_ERR_REJECT);

    mr_assert(mr_dir_create(path_of("x/y/z/a/b"), &why) == MR_ERR_IO); /* a is a file */
    mr_assert(strstr(why.text, "x/y/z/a") != NULL);
    mr_assert(mr_disk_free(folder, &free_bytes) == MR_OK && free_bytes > 0);
    mr_assert(mr_path_remove(path_of("x/y/z/a")) == MR_OK);
    mr_assert(mr_path_remove(path_of("x/y/z/c")) == MR_OK);
    mr_assert(remove(path_of("x/y/z")) == 0 && remove(path_of("x/y")) == 0);
    mr_assert(remove(path_of("x")) == 0);
}

static void test_lock_names_its_holder(void)
{
    struct mr_file lock;
    struct mr_file second;
    struct mr_error why;
    char pid[32];

    (void)snprintf(pid, sizeof(pid), "process %lld;", (long long)mr_process_id());
    mr_assert(mr_dir_lock(folder, &lock, &why) == MR_OK);
    mr_assert(mr_dir_lock(folder, &second, &why) == MR_ERR_AGAIN);
    mr_assert(strstr(why.text, pid) != NULL && second.fd == -1);
    mr_file_close(&lock);
    mr_assert(mr_dir_lock(folder, &second, &why) == MR_OK);
    mr_file_close(&second);
    mr_assert(mr_dir_lock(path_of("nowhere"), &lock, &why) == MR_ERR_IO);
    mr_assert(mr_path_remove(path_of("LOCK")) == MR_OK);
}

static void test_watch_hears_of_changes(void)
{
    struct mr_error why;
    int watch = -1;

    mr_assert(mr_watch_open(path_of("nowhere"), &watch, &why) == MR_ERR_REJECT);
    mr_assert(mr_watch_open(folder, &watch, &why) == MR_OK);
    mr_assert(!mr_watch_wait(watch, 0));
    make_file(path_of("n"));
    mr_assert(mr_watch_wait(watch, -1));
    mr_assert(!mr_watch_wait(watch, 1000000)); /* one wait takes all that happened */
    mr_assert(mr_path_remove(path_of("n")) == MR_OK);
    mr_assert(mr_watch_wait(watch, -1));
    mr_watch_close(watch);
}

int main(void)
{
    mr_assert(mkdtemp(folder) != NULL);
    test_open_modes();
    test_write_many_parts();
    test_fill_zero_really_fills();
    test_no_space_is_full();
    test_last_cause();
    test_no_descriptor();
    test_folders();
    test_lock_names_its_holder();
    test_watch_hears_of_changes();
    mr_assert(remove(folder) == 0);
    return 0;
}
