/* file.h - files and folders, as the journal needs them.
 *
 * Writes are at explicit positions and complete or fail; "short" does not
 * exist above this line.  Errors come in the two classes that matter:
 *
 *     MR_ERR_FULL  no space (ENOSPC, EDQUOT): nothing is broken; the same write
 *                  may be repeated when there is room again
 *     MR_ERR_IO    everything else: what is on disk is now unknown.  Never
 *                  retry a failed sync (the kernel forgets dirty pages after
 *                  reporting the error once)
 *
 * Two implementations of this header: os/posix (the kernel) and os/sim (pages
 * that are lost unless synced, faults at any call, crash at any step).
 *
 * Thread: any, but one writer per file.  Memory: none.   Time: the disk's.
 */
#ifndef MR_OS_FILE_H
#define MR_OS_FILE_H

#include "base/span.h"

struct mr_file {
    int fd; /* -1: closed */
};

enum mr_file_mode {
    MR_FILE_READ,       /* must exist */
    MR_FILE_READ_WRITE, /* must exist */
    MR_FILE_CREATE,     /* created, mode 0600; MR_ERR_REJECT if it exists */
};

/* Why the last call of this header that failed in this thread did so, as a person reads
 * it: "input/output error".  Borrowed, until this thread's next call of this header.
 */
const char *mr_file_last_cause(void);

/* ... and was that a lack of descriptors or of the kernel's memory (EMFILE, ENFILE, ENOMEM)?  Then
 * an open has done nothing, and may succeed later.
 */
bool mr_file_last_was_shortage(void);

/* MR_ERR_REJECT: not there (or there, for CREATE).  FULL, IO as above. */
enum mr_err mr_file_open(struct mr_file *file, const char *path, enum mr_file_mode mode,
                         struct mr_error *why) MR_MUST_USE;
void mr_file_close(struct mr_file *file);

/* Write all of `parts`, one after the other, from byte `pos` on.  After an error
 * any part of it may have been written.
 */
enum mr_err mr_file_write(struct mr_file *file, const struct mr_span *parts, size_t part_count,
                          uint64_t pos) MR_MUST_USE;

/* Read up to `len` bytes at `pos`; *got < len only at the end of the file. */
enum mr_err mr_file_read(struct mr_file *file, void *into, size_t len, uint64_t pos,
                         size_t *got) MR_MUST_USE;

/* fdatasync: what was written is on the medium when this returns MR_OK.  After any
 * failure the pages may be gone, for lack of space (MR_ERR_FULL) too: whoever goes on
 * writes all of it again that was written since the last sync, before the next one.
 */
enum mr_err mr_file_sync(struct mr_file *file) MR_MUST_USE;

enum mr_err mr_file_size(struct mr_file *file, uint64_t *out_bytes) MR_MUST_USE;
enum mr_err mr_file_truncate(struct mr_file *file, uint64_t bytes) MR_MUST_USE;

/* Fill [0, bytes) with zeroes that really occupy the disk, and sync (data and
 * size), so that later writes inside change no metadata.  After MR_ERR_FULL the
 * file holds zeroes up to some point: remove it, or fill it again.
 */
enum mr_err mr_file_fill_zero(struct mr_file *file, uint64_t bytes) MR_MUST_USE;

/* Folders.  Names given to `each` are borrowed for the call. */

/* Make the folder and its parents as far as they are missing, mode 0700; each
 * new name is synced into its parent before anything is made below it.  MR_OK if
 * it is there already; then the last name that was found is synced once more,
 * because who made it may have been killed before.
 */
enum mr_err mr_dir_create(const char *path, struct mr_error *why) MR_MUST_USE;
enum mr_err mr_dir_sync(const char *path) MR_MUST_USE;

/* A folder that is flushed often is held open: then no lack of descriptors can come in between.
 * Closed by mr_file_close().  MR_ERR_REJECT: not there.
 */
enum mr_err mr_dir_open(const char *path, struct mr_file *dir, struct mr_error *why) MR_MUST_USE;
enum mr_err mr_dir_flush(struct mr_file *dir) MR_MUST_USE;

enum mr_err mr_dir_list(const char *path, void (*each)(void *arg, const char *name),
                        void *arg) MR_MUST_USE;

/* A renamed file replaces `to`.  MR_ERR_REJECT: `from` is not there. */
enum mr_err mr_path_rename(const char *from, const char *to) MR_MUST_USE;
/* A file, or a folder in which there is nothing.  MR_ERR_REJECT: not there. */
enum mr_err mr_path_remove(const char *path) MR_MUST_USE;
bool mr_path_exists(const char *path);

/* May every user of this machine read it?  False too if that cannot be told. */
bool mr_path_is_open_to_others(const char *path);

/* Give `path` the owner, the group and the group's right to read of `from`, as far as we
 * may; for a file that replaces another one.
 */
void mr_path_own_as(const char *path, const char *from);

/* Free bytes of the file system that holds `path`, for ordinary users. */
enum mr_err mr_disk_free(const char *path, uint64_t *out_bytes) MR_MUST_USE;

/* Take the folder's lock file (flock).  MR_ERR_AGAIN: another process has it;
 * `why` names its pid.  Held until mr_file_close(lock) or the process ends.
 */
enum mr_err mr_dir_lock(const char *path, struct mr_file *lock, struct mr_error *why) MR_MUST_USE;

#endif
