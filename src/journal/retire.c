/* retire.c - which segments of a lane nobody needs any more, and how one goes.
 *
 * DESIGN
 *
 * A segment is settled when cursors (as they are on disk), the owner's release, readers
 * that hold and durable_seq have passed its last seq.  When it goes is the keeper's to say; here is
 * whether it may, and what becomes of its file: the next spare, if there is none, else nothing.
 *
 * A round of the keeper takes its time (it fills files), and a cursor may be put back meanwhile. So
 * what was settled at its beginning is only a hint: the last look is in oldest_unlink().
 *
 * INVARIANT
 *
 *   Segments go oldest first, and the newest that has a name always stays: it is where
 *   the numbering goes on after a restart.
 */
#include "journal/keeper_internal.h"

#include "os/clock.h"

/* The mutex is held. */
static uint64_t passed_now(const struct mr_lane *lane)
{
    uint64_t settled = atomic_load_explicit(&lane->durable_seq, memory_order_acquire);
    uint64_t released = atomic_load_explicit(&lane->released_seq, memory_order_relaxed);

    settled = released < settled ? released : settled;
    for (const struct mr_reader *r = lane->readers; r != NULL; r = r->next) {
        uint64_t passed = mr_reader_seq(r) - 1;
        settled = r->holds && passed < settled ? passed : settled;
    }
    return settled;
}

uint64_t mr_lane_passed(struct mr_lane *lane)
{
    mr_mutex_lock(&lane->mutex);
    uint64_t passed = passed_now(lane);
    mr_mutex_unlock(&lane->mutex);
    return passed;
}

uint64_t mr_lane_settled(struct mr_lane *lane, bool *has_cursors)
{
    uint64_t settled = mr_lane_passed(lane);
    uint64_t cursors = mr_cursors_lowest(lane->journal, lane->index, NULL);

    *has_cursors = mr_cursors_has_bridge(lane->journal, lane->index);
    return cursors < settled ? cursors : settled;
}

/* Has everybody who has passed `settled` passed the whole segment? */
static bool is_settled(const struct segment *segment, uint64_t settled)
{
    return segment->seq_end != 0 && segment->seq_end <= settled + 1;
}

struct segment *mr_oldest_settled(struct mr_lane *lane, uint64_t settled)
{
    mr_mutex_lock(&lane->mutex);
    struct segment *oldest = lane->oldest;
    if (oldest == NULL || oldest->next == NULL || !oldest->next->on_disk ||
        !is_settled(oldest, settled)) {
        oldest = NULL;
    }
    mr_mutex_unlock(&lane->mutex);
    return oldest;
}

bool mr_keep_is_over(const struct mr_lane *lane, const struct segment *segment, bool has_cursors)
{
    uint64_t keep_us = lane->journal->keep_us;

    if (keep_us == 0) {
        return has_cursors; /* without any bridge history stays while there is room */
    }
    int64_t age_us = mr_clock_wall_us() - segment->closed_us;
    return age_us > 0 && (uint64_t)age_us >= keep_us;
}

/* Take the oldest segment off the list.  NULL: somebody has begun to need it since it was looked at
 * (a cursor that was put back, or is new; a reader that holds).  Looked at again and taken off in
 * one step: who came before finds it whole, and who comes now finds that it is gone.
 */
static struct segment *oldest_unlink(struct mr_lane *lane)
{
    struct mr_journal *journal = lane->journal;
    struct segment *segment = lane->oldest;

    mr_mutex_lock(&journal->cursor_mutex);
    uint64_t cursors = mr_cursors_held(journal, lane->index);
    mr_mutex_lock(&lane->mutex);
    uint64_t passed = passed_now(lane);
    if (is_settled(segment, cursors < passed ? cursors : passed)) {
        lane->oldest = segment->next;
    } else {
        segment = NULL;
    }
    mr_mutex_unlock(&lane->mutex);
    mr_mutex_unlock(&journal->cursor_mutex);
    return segment;
}

/* It could not go after all. */
static void oldest_relink(struct mr_lane *lane, struct segment *segment)
{
    mr_mutex_lock(&lane->mutex);
    segment->next = lane->oldest;
    lane->oldest = segment;
    mr_mutex_unlock(&lane->mutex);
}

static void say_no_cursors(struct mr_lane *lane)
{
    struct mr_journal *journal = lane->journal;

    if (!journal->said_no_cursors) {
        journal->said_no_cursors = true;
        mr_log(MR_LOG_INFO, "journal",
               "%s: no bridge reads it, so the oldest events make room for new ones at %llu bytes",
               journal->name, (unsigned long long)journal->max_bytes);
    }
}

/* May its file be written anew as it is? */
static bool is_of_use(struct mr_lane *lane, const struct segment *segment)
{
    return !lane->dropped && !mr_lane_has_spare(lane) && !segment->damaged &&
           segment->file_bytes == lane->segment_bytes &&
           segment->header.segment_bytes == lane->segment_bytes;
}

static enum mr_err become_spare(struct mr_lane *lane, struct segment *segment)
{
    struct path path;
    enum mr_err err = mr_spare_recycle(lane, segment);

    if (err == MR_OK) {
        mr_spare_publish(lane, segment);
        return MR_OK;
    }
    if (err == MR_ERR_FULL) {
        return MR_ERR_FULL;
    }
    if (err == MR_ERR_AGAIN) {
        mr_spare_say_shortage(lane);
        return MR_ERR_AGAIN;
    }
    if (err == MR_ERR_REJECT) {
        mr_log(MR_LOG_WARN, "journal",
               "%s: the segment of record %llu in %s was removed by somebody else; no bridge "
               "needs it any more",
               lane->journal->name, (unsigned long long)segment->header.seq_first,
               lane->folder.text);
    } else {
        mr_segment_path(lane, segment->header.seq_first, &path);
        mr_segment_leave(lane, segment->file_bytes);
        mr_lane_fail(lane, path.text, "cannot be made the next segment");
    }
    mr_segment_free(segment);
    return MR_OK;
}

/* Synced one by one: a power cut must not bring back an older segment without the one behind it,
 * which would look like lost events.
 */
static enum mr_err be_removed(struct mr_lane *lane, struct segment *segment)
{
    struct path path;

    mr_segment_path(lane, segment->header.seq_first, &path);
    enum mr_err err = mr_path_remove(path.text);
    if (err == MR_ERR_FULL) {
        return MR_ERR_FULL;
    }
    if (err == MR_ERR_IO || mr_dir_flush(&lane->dir) != MR_OK) {
        mr_segment_leave(lane, segment->file_bytes);
        mr_lane_fail(lane, path.text, "cannot be removed");
    }
    mr_segment_free(segment);
    return MR_OK;
}

enum mr_err mr_oldest_retire(struct mr_lane *lane, bool has_cursors, bool for_room)
{
    struct segment *segment = oldest_unlink(lane);

    if (segment == NULL) {
        return MR_ERR_AGAIN;
    }
    if (for_room && !has_cursors) {
        say_no_cursors(lane);
    }
    enum mr_err err =
        is_of_use(lane, segment) ? become_spare(lane, segment) : be_removed(lane, segment);
    if (err != MR_OK) {
        oldest_relink(lane, segment);
    }
    return err;
}
