/* file.c - files through the kernel; see file.h for the contract.
 *
 * DESIGN
 *
 * pread/pwrite at explicit positions, so a file has no hidden position and
 * readers need no lock.  A short write is continued here: above this line it
 * either happened or failed.
 *
 * Rejected: retrying a failed fdatasync.  The kernel marks the pages clean when
 * it reports the error, so the second call would succeed without having written
 * anything.
 */
#include "os/file.h"
#include "os/posix/posix_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    PARTS_PER_CALL = 64,      /* one KiB of stack; a batch has far fewer */
    ZERO_PIECE = 1024 * 1024, /* large enough that the disk, not the calls, is the limit */
};

static enum mr_err file_error(int errnum)
{
    posix_note_cause(errnum);
    return errnum == ENOSPC || errnum == EDQUOT ? MR_ERR_FULL : MR_ERR_IO;
}

enum mr_err mr_file_open(struct mr_file *file, const char *path, enum mr_file_mode mode,
                         struct mr_error *why)
{
    static const int flags_of_mode[] = {
        [MR_FILE_READ] = O_RDONLY,
        [MR_FILE_READ_WRITE] = O_RDWR,
        [MR_FILE_CREATE] = O_RDWR | O_CREAT | O_EXCL,
    };

    do {
        file->fd = open(path, flags_of_mode[mode] | O_CLOEXEC, 0600);
    } while (file->fd < 0 && errno == EINTR);
    if (file->fd >= 0) {
        return MR_OK;
    }

    int errnum = errno;
    enum mr_err err = file_error(errnum);
    bool name_is_wrong = mode == MR_FILE_CREATE ? errnum == EEXIST : errnum == ENOENT;
    return mr_error_set(why, name_is_wrong ? MR_ERR_REJECT : err, "cannot %s %s: %s",
                        mode == MR_FILE_CREATE ? "create" : "open", path, posix_cause(errnum));
}

void mr_file_close(struct mr_file *file)
{
    if (file->fd >= 0) {
        (void)close(file->fd); /* what matters was synced, and its result looked at */
        file->fd = -1;
    }
}

/* Write `count` parts completely; changes them. */
static enum mr_err write_all(int fd, struct iovec *parts, size_t count, uint64_t pos)
{
    while (count > 0) {
        ssize_t done = pwritev(fd, parts, (int)count, (off_t)pos);
        if (done < 0) {
            if (errno == EINTR) {
                continue;
            }
            return file_error(errno);
        }

        size_t left = (size_t)done;
        pos += left;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts += 1;
            count -= 1;
        }
        if (count > 0) {
            if (done == 0) {
                return file_error(EIO); /* no error and no progress: trust it no further */
            }
            parts->iov_base = (uint8_t *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
    return MR_OK;
}

enum mr_err mr_file_write(struct mr_file *file, const struct mr_span *parts, size_t part_count,
                          uint64_t pos)
{
    struct iovec vectors[PARTS_PER_CALL];

    while (part_count > 0) {
        size_t count = 0;
        uint64_t bytes = 0;

        for (; part_count > 0 && count < PARTS_PER_CALL; parts++, part_count--) {
            if (parts->len > 0) {
                vectors[count].iov_base = (void *)(uintptr_t)parts->at; /* only read from */
                vectors[count].iov_len = parts->len;
                bytes += parts->len;
                count += 1;
            }
        }
        enum mr_err err = write_all(file->fd, vectors, count, pos);
        if (err != MR_OK) {
            return err;
        }
        pos += bytes;
    }
    return MR_OK;
}

enum mr_err mr_file_read(struct mr_file *file, void *into, size_t len, uint64_t pos, size_t *got)
{
    size_t total = 0;

    while (total < len) {
        ssize_t done = pread(file->fd, (uint8_t *)into + total, len - total, (off_t)(pos + total));
        if (done == 0) {
            break;
        }
        if (done > 0) {
            total += (size_t)done;
        } else if (errno != EINTR) {
            return file_error(errno);
        }
    }
    *got = total;
    return MR_OK;
}

enum mr_err mr_file_sync(struct mr_file *file)
{
    return fdatasync(file->fd) == 0 ? MR_OK : file_error(errno);
}

enum mr_err mr_file_size(struct mr_file *file, uint64_t *out_bytes)
{
    off_t end = lseek(file->fd, 0, SEEK_END); /* the position it moves is used by no one */

    if (end < 0) {
        return file_error(errno);
    }
    *out_bytes = (uint64_t)end;
    return MR_OK;
}

enum mr_err mr_file_truncate(struct mr_file *file, uint64_t bytes)
{
    while (ftruncate(file->fd, (off_t)bytes) != 0) {
        if (errno != EINTR) {
            return file_error(errno);
        }
    }
    return MR_OK;
}

enum mr_err mr_file_fill_zero(struct mr_file *file, uint64_t bytes)
{
    static unsigned char zeroes[ZERO_PIECE]; /* never written: the kernel's shared zero page */

    for (uint64_t pos = 0; pos < bytes;) {
        uint64_t left = bytes - pos;
        size_t piece = left < ZERO_PIECE ? (size_t)left : ZERO_PIECE;
        struct iovec vector = {.iov_base = zeroes, .iov_len = piece};

        enum mr_err err = write_all(file->fd, &vector, 1, pos);
        if (err != MR_OK) {
            return err;
        }
        pos += piece;
    }
    /* Some file systems notice only now that there is no space.  Nothing of
     * value is in the file, so that is FULL here and not IO.
     */
    return fsync(file->fd) == 0 ? MR_OK : file_error(errno);
}
