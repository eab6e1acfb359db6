/* disk.c - see os/disk.h.
 *
 * DESIGN
 *
 * A folder's mount is the longest mount point that begins its real path; of several at the same
 * place the last one lies on top.  The device's own words are in sysfs, under the number of the
 * block device; a partition has its queue at its parent.  File systems without a device of their
 * own number (btrfs) are found by the device they name as their source.
 */
#include "os/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/text.h"
#include "os/clock.h"
#include "os/posix/posix_internal.h"

enum { BLOCK_BYTES = 4096, MOUNTINFO_BYTES_MAX = 1 << 20 };

/* ---- mountinfo ---- */

/* Take the next word of a line; empty at its end. */
static struct mr_span word_next(struct mr_span *line)
{
    while (line->len > 0 && line->at[0] == ' ') {
        *line = mr_span_make(line->at + 1, line->len - 1);
    }
    const uint8_t *space = line->len == 0 ? NULL : memchr(line->at, ' ', line->len);
    size_t len = space == NULL ? line->len : (size_t)(space - line->at);
    struct mr_span word = mr_span_make(line->at, len);

    *line = mr_span_make(line->at + len, line->len - len);
    return word;
}

static bool is_octal(uint8_t byte)
{
    return byte >= '0' && byte <= '7';
}

/* The kernel writes blanks and backslashes in paths as \ooo. */
static void word_copy(char *into, size_t size, struct mr_span word)
{
    size_t len = 0;

    for (size_t i = 0; i < word.len && len + 1 < size; i++) {
        const uint8_t *at = word.at + i;
        if (at[0] == '\\' && i + 3 < word.len && is_octal(at[1]) && is_octal(at[2]) &&
            is_octal(at[3])) {
            into[len] = (char)(((at[1] - '0') << 6) | ((at[2] - '0') << 3) | (at[3] - '0'));
            i += 3;
        } else {
            into[len] = (char)at[0];
        }
        len += 1;
    }
    into[len] = '\0';
}

/* Does `path` lie at or below `mount_point`? */
static bool is_below(const char *path, const char *mount_point)
{
    size_t len = strlen(mount_point);

    if (len == 1 && mount_point[0] == '/') {
        return path[0] == '/';
    }
    return strncmp(path, mount_point, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [FIELDS...] - TYPE SOURCE SUPER-OPTIONS */
static bool line_take(struct mr_span line, const char *path, struct mr_disk *best)
{
    struct mr_disk disk = {0};
    struct mr_text options = mr_text_over(disk.options, sizeof(disk.options));

    for (int skipped = 0; skipped < 4; skipped++) {
        (void)word_next(&line);
    }
    word_copy(disk.mount_point, sizeof(disk.mount_point), word_next(&line));
    if (!is_below(path, disk.mount_point) || strlen(disk.mount_point) < strlen(best->mount_point)) {
        return false;
    }
    mr_text_span(&options, word_next(&line));
    struct mr_span word = word_next(&line);
    while (word.len > 0 && !mr_span_equal(word, mr_span_of("-"))) {
        word = word_next(&line);
    }
    word_copy(disk.filesystem, sizeof(disk.filesystem), word_next(&line));
    word_copy(disk.source, sizeof(disk.source), word_next(&line));
    mr_text_add(&options, ",");
    mr_text_span(&options, word_next(&line));
    if (disk.filesystem[0] == '\0') {
        return false;
    }
    *best = disk;
    return true;
}

bool mr_disk_mount_find(struct mr_span mountinfo, const char *path, struct mr_disk *out)
{
    bool found = false;

    *out = (struct mr_disk){0};
    while (mountinfo.len > 0) {
        const uint8_t *end = memchr(mountinfo.at, '\n', mountinfo.len);
        size_t len = end == NULL ? mountinfo.len : (size_t)(end - mountinfo.at);
        size_t taken = end == NULL ? len : len + 1;

        found = line_take(mr_span_make(mountinfo.at, len), path, out) || found;
        mountinfo = mr_span_make(mountinfo.at + taken, mountinfo.len - taken);
    }
    return found;
}

bool mr_disk_has_option(const struct mr_disk *disk, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = disk->options; at != NULL; at = strchr(at, ',')) {
        at += *at == ',' ? 1 : 0;
        if (strncmp(at, name, len) == 0 && (at[len] == '\0' || at[len] == ',' || at[len] == '=')) {
            return true;
        }
    }
    return false;
}

/* ---- the device ---- */

/* The first bytes of a small file of the kernel's, without its line end; false: not there. */
static bool kernel_read(const char *path, char *into, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, into, size - 1);

    if (fd >= 0) {
        (void)close(fd);
    }
    if (got < 0) {
        return false;
    }
    into[got] = '\0';
    into[strcspn(into, "\n")] = '\0';
    return true;
}

/* A line of the device's queue, or of the queue of the disk it is a partition of. */
static bool queue_read(dev_t device, const char *name, char *into, size_t size)
{
    static const char *const places[] = {"", "../"};
    char path[128];

    for (size_t i = 0; i < MR_COUNT_OF(places); i++) {
        (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(device),
                       minor(device), places[i], name);
        if (kernel_read(path, into, size)) {
            return true;
        }
    }
    return false;
}

static void device_describe(const char *path, struct mr_disk *disk)
{
    struct stat info;
    char text[64];

    if (stat(path, &info) != 0) {
        return;
    }
    dev_t device = info.st_dev;
    if (major(device) == 0 && stat(disk->source, &info) == 0 && S_ISBLK(info.st_mode)) {
        device = info.st_rdev;
    }
    if (queue_read(device, "write_cache", text, sizeof(text))) {
        disk->cache = strcmp(text, "write back") == 0 ? MR_DISK_CACHE_VOLATILE : MR_DISK_CACHE_NONE;
    }
    disk->is_virtual =
        strncmp(disk->source, "/dev/vd", 7) == 0 || strncmp(disk->source, "/dev/xvd", 8) == 0;
    if (!disk->is_virtual && queue_read(device, "rotational", text, sizeof(text))) {
        disk->rotating = text[0] == '1';
    }
}

/* The text of this process's mountinfo; the caller frees it.  NULL: there is none. */
static char *mountinfo_read(size_t *len)
{
    int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    char *text = fd < 0 ? NULL : mr_alloc(MOUNTINFO_BYTES_MAX);
    ssize_t got = 0;

    *len = 0;
    while (text != NULL && *len < MOUNTINFO_BYTES_MAX &&
           (got = read(fd, text + *len, MOUNTINFO_BYTES_MAX - *len)) > 0) {
        *len += (size_t)got;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return text;
}

enum mr_err mr_disk_describe(const char *path, struct mr_disk *out)
{
    char real[PATH_MAX];
    size_t len = 0;

    *out = (struct mr_disk){0};
    if (realpath(path, real) == NULL) {
        posix_note_cause(errno);
        return MR_ERR_REJECT;
    }
    char *text = mountinfo_read(&len);
    bool found = text != NULL && mr_disk_mount_find(mr_span_make(text, len), real, out);
    if (found) {
        device_describe(real, out);
    }
    mr_free(text);
    return found ? MR_OK : MR_ERR_IO;
}

/* ---- timing ---- */

static enum mr_err time_error(int errnum)
{
    posix_note_cause(errnum);
    return errnum == ENOSPC || errnum == EDQUOT ? MR_ERR_FULL
           : errnum == EINVAL                   ? MR_ERR_REJECT
                                                : MR_ERR_IO;
}

/* A short write has no cause; the next one has, if it was not by chance.  All of the block again,
 * for O_DIRECT takes no rest of it.
 */
static enum mr_err block_write(int fd, const void *block, uint64_t pos)
{
    ssize_t put = 0;

    for (int i = 0; i < 2 && put >= 0 && put < BLOCK_BYTES; i++) {
        put = pwrite(fd, block, BLOCK_BYTES, (off_t)pos);
    }
    return put == BLOCK_BYTES ? MR_OK : time_error(put < 0 ? errno : EIO);
}

/* `block` is aligned as O_DIRECT asks for. */
static enum mr_err time_one(int fd, const void *block, uint64_t pos, bool flush, int64_t *out_ns)
{
    int64_t begin_ns = mr_clock_mono_ns();
    enum mr_err err = block_write(fd, block, pos);

    if (err != MR_OK) {
        return err;
    }
    if (flush && fdatasync(fd) != 0) {
        posix_note_cause(errno);
        return MR_ERR_IO;
    }
    *out_ns = mr_clock_mono_ns() - begin_ns;
    return MR_OK;
}

enum mr_err mr_disk_time_writes(const char *path, uint64_t file_bytes, bool flush, int64_t *out_ns,
                                size_t count)
{
    static const _Alignas(BLOCK_BYTES) uint8_t block[BLOCK_BYTES] = "millrace prove";
    enum mr_err err = MR_OK;
    int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);

    mr_assert(file_bytes >= BLOCK_BYTES);
    if (fd < 0) {
        err = time_error(errno);
    }
    for (size_t i = 0; i < count && err == MR_OK; i++) {
        err = time_one(fd, block, i * BLOCK_BYTES % file_bytes, flush, &out_ns[i]);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return err;
}
