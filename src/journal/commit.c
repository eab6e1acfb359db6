/* commit.c - from sealed batches to durable_seq.
 *
 * DESIGN
 *
 * All sealed batches of one segment go out in one write and one sync; those of
 * the next segment after that, so that the disk always holds a prefix.  Blocks
 * mirror the file, so a write is one part per block, plus zeroes up to the page:
 * the kernel then never has to read the rest of a page of a recycled file.
 *
 * The first write of a segment carries its header.  After its sync the file gets
 * its name, the folder is synced, and only then durable_seq rises.
 *
 * No room (ENOSPC, EDQUOT): the batches stay queued and the same write is tried
 * again, whether it was the write that found none or its sync (file systems that copy on
 * write, quotas, thin pools).  Anything else: the lane has failed.  A sync alone is never
 * repeated after it failed, because the kernel forgets the dirty pages when it reports the
 * error and the second sync would succeed over nothing.  With the write it is sound: all that
 * this file has got since its last good sync is this one write, and its bytes are still in
 * the blocks.  The cause is kept with the lane; the owner says it once, together with what it
 * means.
 *
 * Rejected: O_DIRECT, O_DSYNC.  Measured: no gain on a preallocated file.
 *
 * INVARIANTS
 *
 *   (1) durable_seq = last seq of the entry before queue_tail.
 *   (2) Entries in [queue_tail, queue_head) are touched by this file only.
 *   (3) After mr_lane_fail() durable_seq never changes again.
 */
#include "journal/journal_internal.h"

#include "os/clock.h"

enum {
    PARTS_MAX = 64,
    RETRY_MS = 100,
};

static const uint8_t zero_page[PAGE_BYTES];

struct commit_run {
    struct segment *segment;
    uint64_t first; /* queue positions [first, end) */
    uint64_t end;
    uint64_t pos;     /* where the write begins */
    uint64_t seq_end; /* one past its last seq */
    uint64_t bytes;   /* of its batches */
    struct mr_span parts[PARTS_MAX];
    size_t part_count;
    uint8_t header[PAGE_BYTES];
};

static void run_add(struct commit_run *run, const void *at, size_t len)
{
    if (run->part_count != 0) {
        struct mr_span *last = &run->parts[run->part_count - 1];
        if (last->at + last->len == at) {
            last->len += len;
            return;
        }
    }
    mr_assert(run->part_count < PARTS_MAX);
    run->parts[run->part_count++] = (struct mr_span){.at = at, .len = len};
}

static void run_prepare_batch(const struct mr_lane *lane, struct sealed *sealed)
{
    if (sealed->prepared) {
        return;
    }
    sealed->header.durable_seq = atomic_load_explicit(&lane->durable_seq, memory_order_relaxed);
    mr_batch_header_put(&sealed->header, sealed->at);
    sealed->prepared = true;
}

/* Gather the batches from `first` on that can go out in one write. */
static void run_gather(struct mr_lane *lane, struct commit_run *run, uint64_t head)
{
    struct sealed *sealed = &lane->queue[run->first % lane->queue_size];
    uint64_t pos = sealed->pos;

    run->segment = sealed->segment;
    run->part_count = 0;
    run->pos = pos;
    run->bytes = 0;
    if (!run->segment->on_disk) {
        mr_assert(pos == MR_SEGMENT_HEADER_BYTES);
        memset(run->header, 0, sizeof(run->header));
        mr_segment_header_put(&run->segment->header, run->header);
        run_add(run, run->header, sizeof(run->header));
        run->pos = 0;
    }
    run->end = run->first;
    run->seq_end = sealed->header.seq_first;
    /* One part each for the header and the zeroes. */
    while (run->end < head && run->part_count < PARTS_MAX - 2) {
        sealed = &lane->queue[run->end % lane->queue_size];
        if (sealed->segment != run->segment) {
            break;
        }
        mr_assert(sealed->pos == pos);
        run_prepare_batch(lane, sealed);
        uint64_t next = mr_batch_next_pos(pos, sealed->header.byte_length);
        run_add(run, sealed->at, (size_t)(next - pos));
        run->bytes += next - pos;
        run->seq_end = sealed->header.seq_first + sealed->header.record_count;
        pos = next;
        run->end += 1;
    }
    if (pos % PAGE_BYTES != 0) {
        run_add(run, zero_page, (size_t)(PAGE_BYTES - pos % PAGE_BYTES));
    }
}

/* The segment's header and first batches are synced: give the file its name. */
static enum mr_err commit_name(struct mr_lane *lane, struct segment *segment)
{
    struct path from;
    struct path to;
    enum mr_err err;

    mr_spare_path(lane, segment->spare_slot, &from);
    mr_segment_path(lane, segment->header.seq_first, &to);
    err = mr_path_rename(from.text, to.text);
    if (err != MR_OK) {
        return err == MR_ERR_FULL ? MR_ERR_FULL : MR_ERR_IO;
    }
    if (mr_dir_flush(&lane->dir) != MR_OK) {
        return MR_ERR_IO;
    }
    mr_mutex_lock(&lane->mutex);
    segment->on_disk = true;
    mr_mutex_unlock(&lane->mutex);
    return MR_OK;
}

/* *what: the step that did not succeed. */
static enum mr_err commit_write(struct mr_lane *lane, struct commit_run *run, const char **what)
{
    int64_t began_ns = mr_clock_mono_ns();
    enum mr_err err = mr_file_write(&run->segment->file, run->parts, run->part_count, run->pos);

    *what = "cannot be written";
    if (err == MR_OK) {
        *what = "cannot be flushed";
        err = mr_file_sync(&run->segment->file);
    }
    if (err == MR_OK && !run->segment->on_disk) {
        *what = "cannot be given its name";
        err = commit_name(lane, run->segment);
    }
    if (err == MR_OK) {
        mr_metric_observe_us(lane->metrics.commit_seconds,
                             (uint64_t)(mr_clock_mono_ns() - began_ns) / 1000);
    }
    return err;
}

static void ring_readers(struct mr_lane *lane)
{
    mr_mutex_lock(&lane->mutex);
    for (struct mr_reader *r = lane->readers; r != NULL; r = r->next) {
        if (r->wake != NULL) {
            mr_wake_ring(r->wake);
        }
    }
    mr_mutex_unlock(&lane->mutex);
}

/* What was written is durable; the queue moves on. */
static void commit_done(struct mr_lane *lane, const struct commit_run *run)
{
    uint64_t written =
        atomic_load_explicit(&lane->written_bytes, memory_order_relaxed) + run->bytes;

    atomic_store_explicit(&lane->written_bytes, written, memory_order_relaxed);
    atomic_store_explicit(&lane->commits,
                          atomic_load_explicit(&lane->commits, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&lane->segment_used_bytes, run->pos + run->bytes, memory_order_relaxed);
    mr_metric_add(lane->metrics.written_bytes, run->bytes);
    mr_metric_add(lane->metrics.commits, 1);
    mr_metric_set(lane->metrics.durable_seq, (int64_t)(run->seq_end - 1));
    atomic_store_explicit(&lane->durable_seq, run->seq_end - 1, memory_order_release);

    mr_mutex_lock(&lane->mutex);
    lane->queue_tail = run->end;
    if (lane->queue_tail == lane->queue_head) {
        atomic_store_explicit(&lane->busy, false, memory_order_release);
    }
    mr_mutex_unlock(&lane->mutex);
    mr_lane_ring_owner(lane);
    ring_readers(lane);
}

static void commit_failed(struct mr_lane *lane, const struct segment *segment, const char *what)
{
    struct path path;

    mr_segment_path(lane, segment->header.seq_first, &path);
    mr_lane_fail(lane, path.text, what);
}

static void commit_no_room(struct mr_lane *lane)
{
    if (!atomic_exchange_explicit(&lane->disk_full, true, memory_order_relaxed)) {
        mr_log(MR_LOG_ERROR, "journal",
               "%s: the disk that holds %s is full; nothing is acknowledged until there is room",
               lane->journal->name, lane->folder.text);
        mr_lane_ring_owner(lane);
    }
}

bool mr_lane_step_commit(struct mr_lane *lane)
{
    struct commit_run run;
    uint64_t head;

    mr_mutex_lock(&lane->mutex);
    run.end = lane->queue_tail;
    head = lane->queue_head;
    mr_mutex_unlock(&lane->mutex);

    if (run.end == head || atomic_load_explicit(&lane->failed, memory_order_relaxed)) {
        return false;
    }
    while (run.end != head) {
        run.first = run.end;
        run_gather(lane, &run, head);
        const char *what;
        enum mr_err err = commit_write(lane, &run, &what);
        if (err == MR_ERR_FULL) {
            commit_no_room(lane);
            return true;
        }
        if (err != MR_OK) {
            commit_failed(lane, run.segment, what);
            return true;
        }
        if (atomic_exchange_explicit(&lane->disk_full, false, memory_order_relaxed)) {
            mr_log(MR_LOG_INFO, "journal", "%s: there is room on the disk again",
                   lane->journal->name);
        }
        commit_done(lane, &run);
    }
    return true;
}

void mr_lane_commit_run(void *arg)
{
    struct mr_lane *lane = arg;

    for (;;) {
        bool worked = mr_lane_step_commit(lane);

        if (atomic_load_explicit(&lane->failed, memory_order_relaxed)) {
            return;
        }
        if (atomic_load_explicit(&lane->disk_full, memory_order_relaxed)) {
            if (atomic_load_explicit(&lane->stopping, memory_order_acquire)) {
                return; /* close reports that the last commit did not succeed */
            }
            mr_wake_wait(&lane->commit_wake, RETRY_MS * (int64_t)NS_PER_MS);
        } else if (!worked) {
            if (atomic_load_explicit(&lane->stopping, memory_order_acquire)) {
                return;
            }
            mr_wake_wait(&lane->commit_wake, -1);
        }
    }
}
