/* test_disk.c
 * links: journal os base
 *
 * Goal:   the mount of a path is found in what the kernel writes: the longest that fits, of two
 *         at one place the upper, blanks in names, optional fields; options by name and value.
 *         What cannot hold a promise is called so, with the next step.
 * Method: mountinfo texts by hand; the real one for this machine's own folder.
 */
#include "base/text.h"
#include "journal/disk_promise.h"

#include <stdio.h>

static const char mountinfo[] =
    "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"
    "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
    "31 22 8:17 / /srv/data rw,noatime shared:7 master:2 - xfs /dev/sdb1 rw,nobarrier\n"
    "32 22 8:33 / /srv/data2 rw - ext4 /dev/sdc1 rw,barrier=0,data=ordered\n"
    "33 31 0:44 / /srv/data/in\\040memory rw - tmpfs my\\134tmp rw,size=4k\n"
    "34 22 0:45 / /srv/twice rw - ext4 /dev/below rw\n"
    "35 34 0:46 / /srv/twice rw - nfs4 host:/above rw,vers=4.2\n"
    "36 22 0:47";

static struct mr_disk find(const char *path)
{
    struct mr_disk disk;
    bool found = mr_disk_mount_find(mr_span_of(mountinfo), path, &disk);

    mr_assert(found);
    return disk;
}

static void test_the_longest_mount_that_fits(void)
{
    struct mr_disk disk = find("/var/lib/millrace");

    mr_assert(strcmp(disk.filesystem, "ext4") == 0 && strcmp(disk.source, "/dev/vda1") == 0);
    mr_assert(strcmp(disk.mount_point, "/") == 0);
    disk = find("/srv/data/x");
    mr_assert(strcmp(disk.filesystem, "xfs") == 0);
    disk = find("/srv/data2/x"); /* not below /srv/data, though it begins like it */
    mr_assert(strcmp(disk.source, "/dev/sdc1") == 0);
    disk = find("/srv/data/in memory");
    mr_assert(strcmp(disk.filesystem, "tmpfs") == 0 && strcmp(disk.source, "my\\tmp") == 0);
    disk = find("/srv/twice/x");
    mr_assert(strcmp(disk.filesystem, "nfs4") == 0);
}

static void test_options(void)
{
    struct mr_disk disk = find("/srv/data2");

    mr_assert(mr_disk_has_option(&disk, "barrier=0") && mr_disk_has_option(&disk, "barrier"));
    mr_assert(mr_disk_has_option(&disk, "data=ordered") && mr_disk_has_option(&disk, "rw"));
    mr_assert(!mr_disk_has_option(&disk, "data=order") && !mr_disk_has_option(&disk, "arrier=0"));
    disk = find("/srv/data");
    mr_assert(mr_disk_has_option(&disk, "nobarrier") && mr_disk_has_option(&disk, "noatime"));
    mr_assert(!mr_disk_has_option(&disk, "barrier"));
}

static void test_nothing_fits(void)
{
    struct mr_disk disk;

    mr_assert(!mr_disk_mount_find(mr_span_of(""), "/", &disk));
    mr_assert(!mr_disk_mount_find(mr_span_of("garbage\n\n - \n"), "/", &disk));
    mr_assert(mr_disk_describe("/no/such/folder", &disk) == MR_ERR_REJECT);
}

static bool root_is_listed(void)
{
    char line[4096];
    char mount_point[4096];
    bool listed = false;
    FILE *table = fopen("/proc/self/mountinfo", "re");

    mr_assert(table != NULL);
    while (!listed && fgets(line, sizeof(line), table) != NULL) {
        listed = sscanf(line, "%*s %*s %*s %*s %4095s", mount_point) == 1 &&
                 strcmp(mount_point, "/") == 0;
    }
    mr_assert(fclose(table) == 0);
    return listed;
}

static void test_the_real_one(void)
{
    struct mr_disk disk;
    enum mr_err err = mr_disk_describe(".", &disk);

    /* In a chroot that is no mount itself the table does not have what is above it. */
    mr_assert(err == (root_is_listed() ? MR_OK : MR_ERR_IO));
    mr_assert(err != MR_OK || (disk.filesystem[0] != '\0' && disk.mount_point[0] == '/'));
}

/* The verdict on a disk, and whether the sentence has `part` (NULL: there is none). */
static void judged(struct mr_disk disk, enum mr_disk_promise promise, const char *part)
{
    char buffer[512] = "";
    struct mr_text why = mr_text_over(buffer, sizeof(buffer));

    mr_assert(mr_disk_promise(&disk, &why) == promise && !why.truncated);
    mr_assert(part == NULL ? buffer[0] == '\0' : strstr(buffer, part) != NULL);
}

static void test_what_a_mount_can_promise(void)
{
    judged(find("/"), MR_DISK_HOLDS, NULL);
    judged(find("/srv/data"), MR_DISK_BROKEN, "xfs at /srv/data: it is mounted with 'nobarrier'");
    judged(find("/srv/data2"), MR_DISK_BROKEN, "'barrier=0'");
    judged(find("/srv/data/in memory"), MR_DISK_BROKEN, "memory");
    judged(find("/srv/twice"), MR_DISK_DOUBTFUL, "the server's");
    judged((struct mr_disk){.filesystem = "fuse.sshfs"}, MR_DISK_DOUBTFUL, "a program");
    judged((struct mr_disk){.filesystem = "fuseblk"}, MR_DISK_DOUBTFUL, "a program");
    judged((struct mr_disk){.filesystem = "f2fs", .options = "rw,fsync_mode=nobarrier"},
           MR_DISK_BROKEN, "strict");
    judged((struct mr_disk){.filesystem = "f2fs", .options = "rw,fsync_mode=posix"}, MR_DISK_HOLDS,
           NULL);
}

static enum mr_disk_promise measured(struct mr_disk disk, int64_t write_ns, int64_t flush_ns)
{
    char buffer[512];
    struct mr_text why = mr_text_over(buffer, sizeof(buffer));

    return mr_disk_promise_measured(&disk, write_ns, flush_ns, &why);
}

static void test_what_a_flush_took(void)
{
    const struct mr_disk rotating = {.rotating = true, .cache = MR_DISK_CACHE_VOLATILE};
    const struct mr_disk cached = {.cache = MR_DISK_CACHE_VOLATILE};
    const struct mr_disk uncached = {.cache = MR_DISK_CACHE_NONE};

    mr_assert(measured(rotating, 50000, 8000000) == MR_DISK_HOLDS);
    mr_assert(measured(rotating, 50000, 200000) == MR_DISK_DOUBTFUL);
    mr_assert(measured(cached, 40000, 41000) == MR_DISK_DOUBTFUL);
    mr_assert(measured(cached, 40000, 90000) == MR_DISK_HOLDS);
    mr_assert(measured(uncached, 40000, 40000) == MR_DISK_HOLDS);
}

int main(void)
{
    test_what_a_mount_can_promise();
    test_what_a_flush_took();
    test_the_longest_mount_that_fits();
    test_options();
    test_nothing_fits();
    test_the_real_one();
    (void)puts("disk: ok");
    return 0;
}
