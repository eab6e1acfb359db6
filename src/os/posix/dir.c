/* dir.c - folders and names; see file.h for the contract. */
#include "os/file.h"
#include "os/posix/posix_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static enum mr_err dir_error(int errnum)
{
    posix_note_cause(errnum);
    if (errnum == ENOENT) {
        return MR_ERR_REJECT;
    }
    return errnum == ENOSPC || errnum == EDQUOT ? MR_ERR_FULL : MR_ERR_IO;
}

/* The end of the path's component that begins behind `at`; 0: there is none. */
static size_t component_end(const char *path, size_t at)
{
    at += strspn(path + at, "/");
    return path[at] == '\0' ? 0 : at + strcspn(path + at, "/");
}

static bool folder_is_there(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Flush the names in a folder; an errno, or 0. */
static int names_flush(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int errnum = fd < 0 || fsync(fd) != 0 ? errno : 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    return errnum;
}

/* A folder that was found may be one that an earlier run made and, killed, did not flush.  Not so a
 * mount point; and where `parent` may not be read, or cannot be written or flushed, nothing is to
 * be done.
 */
static int found_flush(const char *path, const char *parent)
{
    struct stat folder;
    struct stat above;

    if (stat(path, &folder) != 0 || stat(parent, &above) != 0 || folder.st_dev != above.st_dev) {
        return 0;
    }
    int errnum = names_flush(parent);
    bool is_beyond_us = errnum == EACCES || errnum == EPERM || errnum == EROFS ||
                        errnum == EINVAL || errnum == ENOTSUP;
    return is_beyond_us ? 0 : errnum;
}

/* Make one folder, certain in its parent; an errno, 0 if it is there afterwards.  `next`: the one
 * that comes below it is there.  Then this one was flushed before that one was made.
 */
static int dir_make_one(const char *path, const char *parent, bool next)
{
    if (mkdir(path, 0700) != 0) {
        int errnum = errno;
        /* Whatever mkdir complained of (EEXIST, EACCES, EROFS), a folder that
         * is there needs no making.
         */
        if (!folder_is_there(path)) {
            return errnum;
        }
        return next ? 0 : found_flush(path, parent);
    }
    int errnum = names_flush(parent);
    if (errnum != 0) {
        (void)rmdir(path); /* else the next start would find it, and might ask for less */
    }
    return errnum;
}

enum mr_err mr_dir_create(const char *path, struct mr_error *why)
{
    char partial[PATH_MAX];
    char below[PATH_MAX];
    char parent[PATH_MAX] = ".";
    size_t len = strlen(path);

    if (path[0] == '/') {
        parent[0] = '/';
    }
    if (len == 0 || len >= sizeof(partial)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "cannot make folder '%.200s': its path has %zu "
                            "characters, %d is the most",
                            path, len, PATH_MAX - 1);
    }
    for (size_t end = component_end(path, 0); end != 0; end = component_end(path, end)) {
        size_t next = component_end(path, end);

        (void)snprintf(partial, sizeof(partial), "%.*s", (int)end, path);
        (void)snprintf(below, sizeof(below), "%.*s", (int)next, path);
        int errnum = dir_make_one(partial, parent, next != 0 && folder_is_there(below));
        if (errnum != 0) {
            enum mr_err code = errnum == ENOSPC || errnum == EDQUOT ? MR_ERR_FULL : MR_ERR_IO;
            return mr_error_set(why, code, "cannot make folder %s: %s", partial,
                                posix_cause(errnum));
        }
        memcpy(parent, partial, end + 1);
    }
    return MR_OK;
}

enum mr_err mr_dir_open(const char *path, struct mr_file *dir, struct mr_error *why)
{
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd >= 0) {
        return MR_OK;
    }
    int errnum = errno;
    enum mr_err code = dir_error(errnum);
    (void)mr_error_set(why, code, "cannot open folder %s: %s", path, posix_cause(errnum));
    return code;
}

enum mr_err mr_dir_flush(struct mr_file *dir)
{
    if (fsync(dir->fd) == 0) {
        return MR_OK;
    }
    posix_note_cause(errno);
    return MR_ERR_IO;
}

enum mr_err mr_dir_sync(const char *path)
{
    struct mr_file dir;
    enum mr_err err = mr_dir_open(path, &dir, NULL);

    if (err == MR_OK) {
        err = mr_dir_flush(&dir);
        mr_file_close(&dir);
    }
    return err;
}

enum mr_err mr_dir_list(const char *path, void (*each)(void *arg, const char *name), void *arg)
{
    DIR *dir = opendir(path);

    if (dir == NULL) {
        return dir_error(errno);
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            each(arg, entry->d_name);
        }
    }
    int errnum = errno;
    (void)closedir(dir);
    if (errnum == 0) {
        return MR_OK;
    }
    posix_note_cause(errnum);
    return MR_ERR_IO;
}

enum mr_err mr_path_rename(const char *from, const char *to)
{
    return rename(from, to) == 0 ? MR_OK : dir_error(errno);
}

enum mr_err mr_path_remove(const char *path)
{
    return remove(path) == 0 ? MR_OK : dir_error(errno);
}

bool mr_path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool mr_path_is_open_to_others(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && (info.st_mode & S_IROTH) != 0;
}

void mr_path_own_as(const char *path, const char *from)
{
    struct stat info;

    if (stat(from, &info) == 0) {
        int owned = chown(path, info.st_uid, info.st_gid);
        if (owned == 0) { /* another group's members have no business in it */
            (void)chmod(path, S_IRUSR | S_IWUSR | (info.st_mode & S_IRGRP));
        }
    }
}

enum mr_err mr_disk_free(const char *path, uint64_t *out_bytes)
{
    struct statvfs info;

    if (statvfs(path, &info) != 0) {
        return dir_error(errno);
    }
    *out_bytes = (uint64_t)info.f_bavail * info.f_frsize; /* without root's reserve */
    return MR_OK;
}

/* The pid that the holder wrote into its lock file; 0 if it is not readable. */
static long lock_holder(int fd)
{
    char digits[24] = "";
    ssize_t got = pread(fd, digits, sizeof(digits) - 1, 0);

    return got > 0 ? strtol(digits, NULL, 10) : 0;
}

enum mr_err mr_dir_lock(const char *path, struct mr_file *lock, struct mr_error *why)
{
    char name[PATH_MAX];
    int len = snprintf(name, sizeof(name), "%s/LOCK", path);

    lock->fd = -1;
    if (len < 0 || (size_t)len >= sizeof(name)) {
        return mr_error_set(why, MR_ERR_CONFIG, "cannot lock %.200s: its path is too long", path);
    }
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        int errnum = errno;
        return mr_error_set(why, errnum == ENOSPC || errnum == EDQUOT ? MR_ERR_FULL : MR_ERR_IO,
                            "cannot open %s: %s", name, posix_cause(errnum));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int errnum = errno;
        long pid = lock_holder(fd);

        (void)close(fd);
        if (errnum != EWOULDBLOCK) {
            return mr_error_set(why, MR_ERR_IO, "cannot lock %s: %s", name, posix_cause(errnum));
        }
        return mr_error_set(why, MR_ERR_AGAIN,
                            "folder %s is in use by process %ld; stop that one first, or give "
                            "this one a folder of its own",
                            path, pid);
    }

    /* The number is for people; the lock holds without it. */
    char digits[24];
    int digit_count = snprintf(digits, sizeof(digits), "%" PRId64 "\n", (int64_t)getpid());
    if (ftruncate(fd, 0) == 0) {
        (void)!pwrite(fd, digits, (size_t)digit_count, 0);
    }
    lock->fd = fd;
    return MR_OK;
}
