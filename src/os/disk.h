/* disk.h - what kind of disk a folder lies on, and how long it takes to keep something.
 *
 * The journal's promise ends where the file system or the device does not keep what a flush was
 * told to keep.  Here are the facts as the kernel tells them; what follows from them is said in
 * journal/disk_promise.h.
 *
 * Thread: any.   Memory: none that stays.   Time: the disk's; start-up and tools only.
 */
#ifndef MR_OS_DISK_H
#define MR_OS_DISK_H

#include "base/span.h"

enum mr_disk_cache {
    MR_DISK_CACHE_UNKNOWN,
    MR_DISK_CACHE_NONE,     /* "write through": the device says that it has nothing to lose */
    MR_DISK_CACHE_VOLATILE, /* "write back": only a flush keeps what was written */
};

struct mr_disk {
    char filesystem[32];    /* "ext4" */
    char source[256];       /* "/dev/vda1", "server:/export" */
    char mount_point[1024]; /* "/" */
    char options[1024];     /* of the mount and of the file system, comma between them */
    enum mr_disk_cache cache;
    bool is_virtual; /* of a virtual machine: what lies behind it is the host's */
    bool rotating;   /* false also where nobody knows; a virtual disk says anything */
};

/* The mount of `path` (absolute, without links) by the text of a mountinfo file (proc(5)): fills
 * all but what is the device's.  False: no line fits.
 */
bool mr_disk_mount_find(struct mr_span mountinfo, const char *path, struct mr_disk *out);

/* The facts about the disk that holds `path`, which must exist.  MR_ERR_REJECT: it does not;
 * MR_ERR_IO: the kernel does not say.
 */
enum mr_err mr_disk_describe(const char *path, struct mr_disk *out) MR_MUST_USE;

/* Is `name` one of the options, either alone or as "name=..."?  `name` may carry the value. */
bool mr_disk_has_option(const struct mr_disk *disk, const char *name);

/* Write `count` blocks of 4 KiB into the file `path`, which has at least `file_bytes` (a multiple
 * of 4 KiB), one after the other and past the page cache, each with a flush (fdatasync) behind it
 * or all without; the nanoseconds that each took come out.  MR_ERR_REJECT: this file system cannot
 * write past the page cache; MR_ERR_IO, MR_ERR_FULL as in file.h.
 */
enum mr_err mr_disk_time_writes(const char *path, uint64_t file_bytes, bool flush, int64_t *out_ns,
                                size_t count) MR_MUST_USE;

#endif
