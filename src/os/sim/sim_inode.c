/* sim_inode.c - the content of a simulated file.
 *
 * DESIGN
 *
 * Two images: `seen` is what reads return (the page cache), `medium` is what a
 * power cut leaves.  A write changes `seen` and marks its sectors dirty; a sync
 * copies the dirty sectors and cleans them.  A crash lets each dirty sector
 * reach the medium or not, which is how a write tears and a later write
 * survives an earlier one.
 *
 * A failed sync cleans the sectors without having copied all of them, as Linux
 * does: from then on no sync will ever write them again, though they may still
 * be seen (ext4, XFS) or may not (btrfs); the seed decides which.
 *
 * A sector occupies the disk from its first write on.  Extending a file by
 * resize makes a hole, which occupies nothing: that is the difference that
 * preallocation is about.
 *
 * INVARIANTS
 *
 *   (1) Bytes of `seen` at and beyond seen_bytes are zero, and those of
 *       `medium` at and beyond medium_bytes after every sync and crash.
 *   (2) A sector whose images differ is dirty, or was dropped by a failed sync.
 *   (3) occupied_bytes = SIM_SECTOR * the number of OCCUPIED flags.
 *   (4) A sector without DATA is zero in both images, and no one has touched their memory there.
 *   (5) Dirty sectors lie in [dirty_from, dirty_to).
 */
#include "os/sim/sim_internal.h"

#include <string.h>

enum { FLAG_DIRTY = 1, FLAG_OCCUPIED = 2, FLAG_DATA = 4 };

struct sim_inode {
    struct sim_inode *next; /* list of all, for the disk's fill */
    unsigned refs;
    unsigned shown; /* seen names and handles */
    uint8_t *seen;
    uint8_t *medium;
    uint8_t *flags;    /* one byte a sector */
    uint64_t capacity; /* bytes of each image; whole sectors */
    uint64_t seen_bytes;
    uint64_t medium_bytes;
    uint64_t occupied_bytes;
    uint64_t dirty_from;
    uint64_t dirty_to;
};

static struct sim_inode *inodes;
static uint64_t disk_limit;

struct sim_inode *sim_inode_new(void)
{
    struct sim_inode *inode = sim_alloc(sizeof(*inode));

    inode->refs = 1;
    inode->dirty_from = UINT64_MAX;
    inode->next = inodes;
    inodes = inode;
    return inode;
}

void sim_inode_hold(struct sim_inode *inode)
{
    inode->refs += 1;
}

void sim_inode_drop(struct sim_inode *inode)
{
    mr_assert(inode->refs > 0);
    inode->refs -= 1;
    if (inode->refs > 0) {
        return;
    }
    mr_assert(inode->shown == 0);
    struct sim_inode **link = &inodes;
    while (*link != inode) {
        link = &(*link)->next;
    }
    *link = inode->next;
    mr_free(inode->seen);
    mr_free(inode->medium);
    mr_free(inode->flags);
    mr_free(inode);
}

void sim_inode_show(struct sim_inode *inode)
{
    inode->shown += 1;
}

void sim_inode_hide(struct sim_inode *inode)
{
    mr_assert(inode->shown > 0);
    inode->shown -= 1;
}

unsigned sim_inode_shown(const struct sim_inode *inode)
{
    return inode->shown;
}

void sim_disk_set_limit(uint64_t bytes)
{
    disk_limit = bytes;
}

uint64_t sim_disk_free_bytes(void)
{
    uint64_t occupied = 0;

    if (disk_limit == 0) {
        return (uint64_t)1 << 40;
    }
    for (const struct sim_inode *inode = inodes; inode != NULL; inode = inode->next) {
        occupied += inode->shown > 0 ? inode->occupied_bytes : 0;
    }
    return occupied < disk_limit ? disk_limit - occupied : 0;
}

static uint8_t *image_grow(uint8_t *image, uint64_t from, uint64_t to)
{
    uint8_t *larger = sim_alloc(to);

    if (from != 0) {
        memcpy(larger, image, from);
    }
    mr_free(image);
    return larger;
}

static bool sector_has(const struct sim_inode *inode, uint64_t sector, uint8_t flag)
{
    return (inode->flags[sector] & flag) != 0;
}

static void sector_soil(struct sim_inode *inode, uint64_t sector)
{
    inode->flags[sector] |= FLAG_DIRTY;
    inode->dirty_from = inode->dirty_from < sector ? inode->dirty_from : sector;
    inode->dirty_to = inode->dirty_to > sector ? inode->dirty_to : sector + 1;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Zeroes in [from, to) of an image, where there may be anything else. */
static void image_clear(const struct sim_inode *inode, uint8_t *image, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint64_t sector = from / SIM_SECTOR;
        uint64_t end = (sector + 1) * SIM_SECTOR < to ? (sector + 1) * SIM_SECTOR : to;

        if (sector_has(inode, sector, FLAG_DATA)) {
            memset(image + from, 0, end - from);
        }
        from = end;
    }
}

static void inode_reserve(struct sim_inode *inode, uint64_t bytes)
{
    uint64_t capacity = inode->capacity == 0 ? (uint64_t)8 * SIM_SECTOR : inode->capacity;

    while (capacity < bytes) {
        capacity *= 2;
    }
    if (capacity > inode->capacity) {
        inode->seen = image_grow(inode->seen, inode->capacity, capacity);
        inode->medium = image_grow(inode->medium, inode->capacity, capacity);
        inode->flags =
            image_grow(inode->flags, inode->capacity / SIM_SECTOR, capacity / SIM_SECTOR);
        inode->capacity = capacity;
    }
}

uint64_t sim_inode_write(struct sim_inode *inode, const uint8_t *from, uint64_t len, uint64_t pos)
{
    uint64_t free_bytes = sim_disk_free_bytes();
    uint64_t done = 0;

    inode_reserve(inode, pos + len);
    while (done < len) {
        uint64_t at = pos + done;
        uint64_t sector = at / SIM_SECTOR;
        uint64_t piece = SIM_SECTOR - at % SIM_SECTOR;
        piece = piece < len - done ? piece : len - done;

        if (!sector_has(inode, sector, FLAG_OCCUPIED)) {
            if (free_bytes < SIM_SECTOR) {
                break;
            }
            free_bytes -= SIM_SECTOR;
            inode->occupied_bytes += SIM_SECTOR;
        }
        inode->flags[sector] |= FLAG_OCCUPIED;
        sector_soil(inode, sector);
        if (from == NULL) {
            image_clear(inode, inode->seen, at, at + piece);
        } else if (sector_has(inode, sector, FLAG_DATA) || !is_zero(from + done, piece)) {
            inode->flags[sector] |= FLAG_DATA;
            memcpy(inode->seen + at, from + done, piece);
        }
        done += piece;
    }
    if (done > 0 && pos + done > inode->seen_bytes) {
        inode->seen_bytes = pos + done;
    }
    return done;
}

size_t sim_inode_read(const struct sim_inode *inode, uint8_t *into, size_t len, uint64_t pos)
{
    if (pos >= inode->seen_bytes) {
        return 0;
    }
    uint64_t left = inode->seen_bytes - pos;
    size_t count = left < len ? (size_t)left : len;
    memcpy(into, inode->seen + pos, count);
    return count;
}

uint64_t sim_inode_bytes(const struct sim_inode *inode)
{
    return inode->seen_bytes;
}

/* Sectors that begin at or behind `bytes` give their place on the disk back. */
static void inode_release_from(struct sim_inode *inode, uint64_t bytes)
{
    uint64_t first = (bytes + SIM_SECTOR - 1) / SIM_SECTOR;

    for (uint64_t sector = first; sector < inode->capacity / SIM_SECTOR; sector++) {
        if (sector_has(inode, sector, FLAG_OCCUPIED)) {
            inode->flags[sector] &= (uint8_t)~FLAG_OCCUPIED;
            inode->occupied_bytes -= SIM_SECTOR;
        }
    }
}

void sim_inode_resize(struct sim_inode *inode, uint64_t bytes)
{
    inode_reserve(inode, bytes);
    if (bytes < inode->seen_bytes) {
        uint64_t last = (inode->seen_bytes - 1) / SIM_SECTOR;

        image_clear(inode, inode->seen, bytes, inode->seen_bytes);
        for (uint64_t sector = bytes / SIM_SECTOR; sector <= last; sector++) {
            sector_soil(inode, sector); /* the zeroes, should it grow again */
        }
        inode_release_from(inode, bytes);
    }
    inode->seen_bytes = bytes;
}

/* Let each dirty sector reach the medium with probability keep_of_4 / 4. */
static void inode_flush(struct sim_inode *inode, unsigned keep_of_4)
{
    for (uint64_t sector = inode->dirty_from; sector < inode->dirty_to; sector++) {
        if (!sector_has(inode, sector, FLAG_DIRTY)) {
            continue;
        }
        inode->flags[sector] &= (uint8_t)~FLAG_DIRTY;
        bool kept = keep_of_4 == 4 || mr_rng_below(sim_rng(), 4) < keep_of_4;
        if (kept && sector_has(inode, sector, FLAG_DATA)) {
            memcpy(inode->medium + sector * SIM_SECTOR, inode->seen + sector * SIM_SECTOR,
                   SIM_SECTOR);
        }
    }
    inode->dirty_from = UINT64_MAX;
    inode->dirty_to = 0;
}

/* What is seen is what the medium has, from [0, bytes). */
static void inode_look_again(struct sim_inode *inode, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += SIM_SECTOR) {
        uint64_t piece = bytes - at < SIM_SECTOR ? bytes - at : SIM_SECTOR;
        if (sector_has(inode, at / SIM_SECTOR, FLAG_DATA)) {
            memcpy(inode->seen + at, inode->medium + at, piece);
        }
    }
}

void sim_inode_sync(struct sim_inode *inode)
{
    inode_flush(inode, 4);
    inode->medium_bytes = inode->seen_bytes;
    /* Sectors that a failed sync dropped may lie behind the end. */
    image_clear(inode, inode->medium, inode->medium_bytes, inode->capacity);
}

void sim_inode_sync_failed(struct sim_inode *inode)
{
    inode_flush(inode, (unsigned)mr_rng_below(sim_rng(), 4)); /* at least some are lost */
    if (sim_coin()) {
        inode_look_again(inode, inode->seen_bytes); /* not even seen any more */
    }
}

void sim_inode_crash(struct sim_inode *inode, unsigned keep_of_4)
{
    uint64_t low =
        inode->seen_bytes < inode->medium_bytes ? inode->seen_bytes : inode->medium_bytes;
    uint64_t high = inode->seen_bytes + inode->medium_bytes - low;

    if (inode->capacity == 0) {
        return;
    }
    inode_flush(inode, keep_of_4);
    /* An unsynced size is the old one, the new one, or one on the way. */
    switch (low == high ? 3 : mr_rng_below(sim_rng(), 3)) {
    case 0:
        inode->medium_bytes = inode->seen_bytes;
        break;
    case 1:
        inode->medium_bytes = low + mr_rng_below(sim_rng(), high - low + 1);
        break;
    default:
        break;
    }
    image_clear(inode, inode->medium, inode->medium_bytes, inode->capacity);
    inode_look_again(inode, inode->capacity);
    inode->seen_bytes = inode->medium_bytes;
    inode_release_from(inode, inode->seen_bytes);
}

void sim_inode_damage(struct sim_inode *inode, uint64_t pos, uint8_t xor_with)
{
    mr_assert(pos < inode->seen_bytes && pos < inode->medium_bytes); /* bytes that are there */
    inode->flags[pos / SIM_SECTOR] |= FLAG_DATA;
    inode->seen[pos] ^= xor_with;
    inode->medium[pos] ^= xor_with;
}
