/* test_os_folder.c
 * links: os base
 *
 * Goal:   a folder is certain when mr_dir_create() returns, also if an earlier run made it and was
 *         killed before it had flushed the parent; and where that cannot be had it does not
 *         stand in the way, or says so.
 * Method: fsync is ours: it notes which folder was flushed, or fails as told.
 */
#include "fd_path.h"
#include "os/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/test_os_folder.XXXXXX";

static char flushed[1024]; /* what was flushed since the last look, relative to `folder` */
static int flush_errno;    /* ... instead, if not 0 */

int fsync(int fd)
{
    char path[FD_PATH_BYTES];
    size_t used = strlen(flushed);

    fd_path(fd, path);
    mr_assert(path[0] != '\0');
    const char *name = strncmp(path, folder, strlen(folder)) == 0 ? path + strlen(folder) : path;
    (void)snprintf(flushed + used, sizeof(flushed) - used, "[%s]", name);
    errno = flush_errno;
    return flush_errno == 0 ? 0 : -1;
}

static const char *path_of(const char *name)
{
    static char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

/* Make `name` and compare what is flushed. */
static void make(const char *name, const char *expected)
{
    struct mr_error why = {.text = ""};

    flushed[0] = '\0';
    mr_assert(mr_dir_create(path_of(name), &why) == MR_OK);
    if (strcmp(flushed, expected) != 0) {
        (void)fprintf(stderr, "%s: flushed %s, not %s\n", name, flushed, expected);
    }
    mr_assert(strcmp(flushed, expected) == 0);
}

static void made_by_a_run_that_was_killed(const char *name)
{
    mr_assert(mkdir(path_of(name), 0700) == 0);
}

static void gone(const char *name)
{
    mr_assert(rmdir(path_of(name)) == 0);
}

static void test_each_new_name_is_flushed(void)
{
    make("x/y/z", "[/tmp][][/x][/x/y]"); /* who made what was there is not known */
    gone("x/y/z");
    gone("x/y");
    gone("x");
}

static void test_a_name_that_was_found_is_flushed(void)
{
    made_by_a_run_that_was_killed("x");
    make("x", "[]");
    make("x/", "[]");
    make("x//y/", "[][/x]"); /* before anything is made below it */
    made_by_a_run_that_was_killed("x/y/z");
    make("x/y/z", "[/x/y]"); /* x and y were flushed before it was made */
    gone("x/y/z");
    gone("x/y");
    gone("x");
}

static void test_a_mount_point_is_left_alone(void)
{
    struct mr_error why;

    flushed[0] = '\0';
    mr_assert(mr_dir_create("/proc", &why) == MR_OK && mr_dir_create("/", &why) == MR_OK);
    mr_assert(flushed[0] == '\0');
}

static void test_a_parent_that_cannot_be_flushed(void)
{
    static const int beyond_us[] = {EACCES, EPERM, EROFS, EINVAL};
    struct mr_error why;

    made_by_a_run_that_was_killed("x");
    for (size_t i = 0; i < MR_COUNT_OF(beyond_us); i++) {
        flush_errno = beyond_us[i];
        make("x", "[]");
    }
    flush_errno = EIO;
    mr_assert(mr_dir_create(path_of("x"), &why) == MR_ERR_IO);
    mr_assert(strstr(why.text, "/x: input/output error") != NULL);
    flush_errno = ENOSPC;
    mr_assert(mr_dir_create(path_of("x"), &why) == MR_ERR_FULL);
    gone("x");

    /* One that was made and is not certain is not left to be found. */
    flush_errno = EACCES;
    mr_assert(mr_dir_create(path_of("x"), &why) == MR_ERR_IO && !mr_path_exists(path_of("x")));
    mr_assert(strstr(why.text, "/x: permission denied") != NULL);
    flush_errno = 0;
}

int main(void)
{
    mr_assert(mkdtemp(folder) != NULL);
    test_each_new_name_is_flushed();
    test_a_name_that_was_found_is_flushed();
    test_a_mount_point_is_left_alone();
    test_a_parent_that_cannot_be_flushed();
    mr_assert(rmdir(folder) == 0);
    return 0;
}
