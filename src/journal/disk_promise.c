/* disk_promise.c - see disk_promise.h.
 *
 * DESIGN
 *
 * A table of file systems and mount options, the worst that fits wins.  The marks of the measured
 * flush: a disk that rotates cannot put a block in its place in under a millisecond, and a volatile
 * cache that is emptied costs more than a few microseconds; what is faster has not been done.
 */
#include "journal/disk_promise.h"

#include <string.h>

struct doubt {
    const char *filesystem; /* NULL: any */
    const char *option;     /* NULL: whatever the options */
    enum mr_disk_promise promise;
    const char *why;
};

static const struct doubt doubts[] = {
    {"tmpfs", NULL, MR_DISK_BROKEN,
     "it lies in memory; nothing of it is left after a restart of the machine. Put the data folder "
     "on a disk"},
    {"ramfs", NULL, MR_DISK_BROKEN,
     "it lies in memory; nothing of it is left after a restart of the machine. Put the data folder "
     "on a disk"},
    {NULL, "nobarrier", MR_DISK_BROKEN,
     "it is mounted with 'nobarrier', so a flush does not reach the medium. Mount it without"},
    {NULL, "barrier=0", MR_DISK_BROKEN,
     "it is mounted with 'barrier=0', so a flush does not reach the medium. Mount it without"},
    {"f2fs", "fsync_mode=nobarrier", MR_DISK_BROKEN,
     "it is mounted with 'fsync_mode=nobarrier', so a flush does not reach the medium. Mount it "
     "with fsync_mode=strict"},
    {"overlay", NULL, MR_DISK_DOUBTFUL,
     "it is the layer of a container and goes with it. Give the data folder a volume of its own"},
    {"nfs", NULL, MR_DISK_DOUBTFUL,
     "what a flush means is the server's to say ('async' exports keep nothing), and two machines "
     "may open it. Prefer a local disk"},
    {"nfs4", NULL, MR_DISK_DOUBTFUL,
     "what a flush means is the server's to say ('async' exports keep nothing), and two machines "
     "may open it. Prefer a local disk"},
    {"cifs", NULL, MR_DISK_DOUBTFUL,
     "what a flush means is the server's to say. Prefer a local disk"},
    {"smb3", NULL, MR_DISK_DOUBTFUL,
     "what a flush means is the server's to say. Prefer a local disk"},
    {"9p", NULL, MR_DISK_DOUBTFUL, "what a flush means is the host's to say. Prefer a local disk"},
    {"virtiofs", NULL, MR_DISK_DOUBTFUL,
     "what a flush means is the host's to say. Prefer a disk of the machine's own"},
    {"fuse", NULL, MR_DISK_DOUBTFUL,
     "what a flush means is up to a program. Prefer a file system of the kernel"},
    {"vfat", NULL, MR_DISK_DOUBTFUL,
     "it has no journal; a power cut may take whole files. Prefer ext4 or xfs"},
    {"exfat", NULL, MR_DISK_DOUBTFUL,
     "it has no journal; a power cut may take whole files. Prefer ext4 or xfs"},
    {"ext2", NULL, MR_DISK_DOUBTFUL,
     "it has no journal; a power cut may take whole files. Prefer ext4 or xfs"},
    {"zfs", NULL, MR_DISK_DOUBTFUL,
     "'sync=disabled' of a dataset makes flushes empty and cannot be seen from here. See 'zfs get "
     "sync'"},
};

enum { ROTATION_NS = 1000000, FLUSH_NS = 5000 };

/* "fuse" stands for "fuse.sshfs" and "fuseblk" too. */
static bool filesystem_fits(const char *wanted, const char *is)
{
    return wanted == NULL || strcmp(wanted, is) == 0 ||
           (strcmp(wanted, "fuse") == 0 && strncmp(is, "fuse", 4) == 0);
}

enum mr_disk_promise mr_disk_promise(const struct mr_disk *disk, struct mr_text *why)
{
    const struct doubt *worst = NULL;

    for (size_t i = 0; i < MR_COUNT_OF(doubts); i++) {
        const struct doubt *row = &doubts[i];
        bool fits = filesystem_fits(row->filesystem, disk->filesystem) &&
                    (row->option == NULL || mr_disk_has_option(disk, row->option));
        if (fits && (worst == NULL || row->promise > worst->promise)) {
            worst = row;
        }
    }
    if (worst == NULL) {
        return MR_DISK_HOLDS;
    }
    mr_text_fmt(why, "%s at %s: %s", disk->filesystem, disk->mount_point, worst->why);
    return worst->promise;
}

enum mr_disk_promise mr_disk_promise_measured(const struct mr_disk *disk, int64_t write_ns,
                                              int64_t flush_ns, struct mr_text *why)
{
    if (disk->rotating && flush_ns < ROTATION_NS) {
        mr_text_fmt(why,
                    "a flush takes %.3f ms, less than a disk that rotates needs: a cache answers "
                    "for it. If that cache has no battery, switch it off (hdparm -W 0)",
                    (double)flush_ns / 1e6);
        return MR_DISK_DOUBTFUL;
    }
    if (disk->cache == MR_DISK_CACHE_VOLATILE && flush_ns - write_ns < FLUSH_NS) {
        mr_text_fmt(why,
                    "the device has a volatile cache and a flush of it costs %.1f us, next to "
                    "nothing: it seems not to be done. Prove it by pulling the plug (--cut)",
                    (double)(flush_ns - write_ns) / 1e3);
        return MR_DISK_DOUBTFUL;
    }
    return MR_DISK_HOLDS;
}
