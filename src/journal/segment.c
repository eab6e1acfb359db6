/* segment.c - the files of a lane: prepared as a spare, used once, used again.
 *
 * DESIGN
 *
 * A segment's life:  spare-N.tmp (being zeroed) -> spare-N.seg -> taken by the
 * owner when the last one is full -> <first seq>.seg, named by the commit thread
 * after its first batches are on the medium -> retired -> spare again, or removed.
 *
 * The file gets its name only when header and first batch are synced.  So a file
 * with a name always has both, whatever moment the power fails, and no empty
 * segment can be left behind.
 *
 * Rejected: naming it when the owner takes it.  A crash in between would leave a
 * named file without content, which looks like a lost first batch.
 */
#include "journal/journal_internal.h"

#include "os/process.h"

static _Atomic uint64_t life_last;

void mr_segment_path(const struct mr_lane *lane, uint64_t seq_first, struct path *out)
{
    struct mr_text text = mr_text_over(out->text, sizeof(out->text));

    mr_text_fmt(&text, "%s/%020llu.seg", lane->folder.text, (unsigned long long)seq_first);
}

void mr_spare_path(const struct mr_lane *lane, uint32_t slot, struct path *out)
{
    struct mr_text text = mr_text_over(out->text, sizeof(out->text));

    mr_text_fmt(&text, "%s/spare-%u.seg", lane->folder.text, slot);
}

struct segment *mr_segment_new(const struct mr_lane *lane)
{
    struct segment *segment = mr_alloc(sizeof(*segment));

    segment->life = atomic_fetch_add_explicit(&life_last, 1, memory_order_relaxed) + 1;
    segment->file.fd = -1;
    segment->file_bytes = lane->segment_bytes;
    segment->header.journal_id = lane->journal->id;
    segment->header.lane = (uint16_t)lane->index;
    segment->header.epoch = lane->journal->epoch;
    segment->header.segment_bytes = lane->segment_bytes;
    mr_os_random(&segment->header.salt, sizeof(segment->header.salt));
    return segment;
}

void mr_segment_free(struct segment *segment)
{
    if (segment == NULL) {
        return;
    }
    if (segment->file.fd >= 0) {
        mr_file_close(&segment->file);
    }
    mr_free(segment);
}

struct segment *mr_segment_of(const struct mr_lane *lane, uint64_t seq)
{
    struct segment *found = NULL;

    if (lane->newest != NULL && seq >= lane->newest->header.seq_first) {
        return lane->newest;
    }
    for (struct segment *s = lane->oldest; s != NULL && s->header.seq_first <= seq; s = s->next) {
        found = s;
    }
    return found;
}

struct segment *mr_segment_of_life(const struct mr_lane *lane, uint64_t life)
{
    struct segment *segment = lane->oldest;

    while (segment != NULL && segment->life != life) {
        segment = segment->next;
    }
    return segment;
}

uint64_t mr_segments_bytes(const struct mr_lane *lane)
{
    uint64_t bytes = lane->left_bytes;

    bytes += lane->spare != NULL ? lane->spare->file_bytes : 0;
    for (const struct segment *s = lane->oldest; s != NULL; s = s->next) {
        bytes += s->file_bytes;
    }
    return bytes;
}

void mr_segment_leave(struct mr_lane *lane, uint64_t bytes)
{
    mr_mutex_lock(&lane->mutex);
    lane->left_bytes += bytes;
    mr_mutex_unlock(&lane->mutex);
}

/* Is the file of that slot the spare's, or of a segment that was taken but not named yet? */
static bool spare_slot_is_used(struct mr_lane *lane, uint32_t slot)
{
    mr_mutex_lock(&lane->mutex);
    bool used = lane->spare != NULL && lane->spare->spare_slot == slot;
    for (const struct segment *s = lane->oldest; s != NULL && !used; s = s->next) {
        used = !s->on_disk && s->spare_slot == slot;
    }
    mr_mutex_unlock(&lane->mutex);
    return used;
}

/* A slot whose file name is free.  While the disk is slow as many are in use as there are blocks.
 * The disk alone is not asked: one that cannot answer would have a file replaced that is in use.
 */
static uint32_t spare_slot_free(struct mr_lane *lane)
{
    struct path path;
    uint32_t slot = 0;

    mr_spare_path(lane, slot, &path);
    while (spare_slot_is_used(lane, slot) || mr_path_exists(path.text)) {
        slot += 1;
        mr_assert(slot < SPARE_SLOTS);
        mr_spare_path(lane, slot, &path);
    }
    return slot;
}

/* Whatever a flush says (it may find no room, too) it cannot be repeated: what it did is not known.
 */
static enum mr_err folder_sync(struct mr_lane *lane)
{
    return mr_dir_flush(&lane->dir) == MR_OK ? MR_OK : MR_ERR_IO;
}

/* The process, or the machine, has no descriptor or memory left: the call has done nothing, and
 * that passes.
 */
static enum mr_err or_shortage(enum mr_err err)
{
    return err == MR_ERR_IO && mr_file_last_was_shortage() ? MR_ERR_AGAIN : err;
}

static enum mr_err spare_open(struct segment *spare, const char *path, enum mr_file_mode mode)
{
    enum mr_err err = mr_file_open(&spare->file, path, mode, NULL);

    if (err != MR_OK) {
        spare->file.fd = -1;
    }
    return or_shortage(err);
}

enum mr_err mr_spare_create(struct mr_lane *lane, struct segment **out, struct mr_error *why)
{
    struct segment *spare = mr_segment_new(lane);
    struct path unfinished;
    struct path path;
    enum mr_err err;

    spare->spare_slot = spare_slot_free(lane);
    mr_spare_path(lane, spare->spare_slot, &path);
    struct mr_text text = mr_text_over(unfinished.text, sizeof(unfinished.text));
    mr_text_fmt(&text, "%s/spare.tmp", lane->folder.text);

    err = or_shortage(mr_path_remove(unfinished.text));
    if (err != MR_OK && err != MR_ERR_REJECT) {
        goto out;
    }
    err = spare_open(spare, unfinished.text, MR_FILE_CREATE);
    if (err != MR_OK) {
        goto out;
    }
    err = or_shortage(mr_file_fill_zero(&spare->file, lane->segment_bytes));
    if (err == MR_OK) {
        err = or_shortage(mr_path_rename(unfinished.text, path.text));
    }
    if (err == MR_OK) {
        err = folder_sync(lane);
    } else if (or_shortage(mr_path_remove(unfinished.text)) == MR_ERR_IO) {
        err = MR_ERR_IO;
    }
out:
    if (err != MR_OK) {
        mr_segment_free(spare);
        if (err == MR_ERR_AGAIN) {
            return MR_ERR_AGAIN;
        }
        return mr_error_set(why, err == MR_ERR_FULL ? MR_ERR_FULL : MR_ERR_IO,
                            "the next segment in %s cannot be prepared: %s", lane->folder.text,
                            err == MR_ERR_FULL ? "the disk is full; make room on it"
                                               : mr_file_last_cause());
    }
    *out = spare;
    return MR_OK;
}

enum mr_err mr_spare_recycle(struct mr_lane *lane, struct segment *segment)
{
    struct path from;
    struct path to;
    enum mr_err err;

    mr_segment_path(lane, segment->header.seq_first, &from);
    /* First, because it may find no descriptor, and then the name stays. */
    err = segment->file.fd < 0 ? spare_open(segment, from.text, MR_FILE_READ_WRITE) : MR_OK;
    if (err != MR_OK) {
        return err;
    }
    segment->spare_slot = spare_slot_free(lane);
    mr_spare_path(lane, segment->spare_slot, &to);
    err = or_shortage(mr_path_rename(from.text, to.text));
    /* The old name must be gone for certain before the bytes under it change. */
    if (err == MR_OK) {
        err = folder_sync(lane);
    }
    if (err != MR_OK) {
        return err;
    }
    segment->life = atomic_fetch_add_explicit(&life_last, 1, memory_order_relaxed) + 1;
    segment->on_disk = false;
    segment->next = NULL;
    segment->seq_end = 0;
    segment->header.epoch = lane->journal->epoch;
    mr_os_random(&segment->header.salt, sizeof(segment->header.salt));
    return MR_OK;
}
