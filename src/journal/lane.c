/* lane.c - a lane as a whole: opening, closing, and what it says of itself. */
#include "journal/journal_internal.h"

/* Of the last segment, kept for sessions: a PUBREL takes some 40 bytes. */
enum { RESERVE_SHARE = 8, RESERVE_BYTES_MAX = 1 << 20 };

static void lane_metrics_open(struct mr_lane *lane)
{
    struct lane_metrics *m = &lane->metrics;
    char labels[128];
    struct mr_text text = mr_text_over(labels, sizeof(labels));

    mr_text_fmt(&text, "journal=\"%s\",lane=\"%u\"", lane->journal->name, lane->index);
    m->appended_records =
        mr_metric_new(MR_METRIC_COUNTER, "millrace_journal_appended_records_total",
                      "Records handed to the journal.", labels);
    m->appended_bytes = mr_metric_new(MR_METRIC_COUNTER, "millrace_journal_appended_bytes_total",
                                      "Payload bytes handed to the journal.", labels);
    m->next_seq = mr_metric_new(MR_METRIC_GAUGE, "millrace_journal_next_seq",
                                "Seq that the next record gets.", labels);
    m->written_bytes = mr_metric_new(MR_METRIC_COUNTER, "millrace_journal_written_bytes_total",
                                     "Bytes of durable batches.", labels);
    m->commits = mr_metric_new(MR_METRIC_COUNTER, "millrace_journal_commits_total",
                               "Flushes that made batches durable.", labels);
    m->commit_seconds = mr_metric_new(MR_METRIC_HISTOGRAM, "millrace_journal_commit_seconds",
                                      "Time of one write and flush.", labels);
    m->durable_seq = mr_metric_new(MR_METRIC_GAUGE, "millrace_journal_durable_seq",
                                   "Everything at or below it survives power loss.", labels);
    m->bytes = mr_metric_new(MR_METRIC_GAUGE, "millrace_journal_bytes",
                             "Bytes of all segment files, spare included.", labels);
    m->max_bytes = mr_metric_new(MR_METRIC_GAUGE, "millrace_journal_max_bytes",
                                 "Bound of millrace_journal_bytes.", labels);
    m->segments = mr_metric_new(MR_METRIC_GAUGE, "millrace_journal_segments",
                                "Segment files that hold events.", labels);
    m->seconds_to_full =
        mr_metric_new(MR_METRIC_GAUGE, "millrace_journal_seconds_to_full",
                      "Until the lane is full at the present rate; -1: never.", labels);
    m->dropped_records = mr_metric_new(
        MR_METRIC_COUNTER, "millrace_journal_dropped_records_total",
        "Records that bridges gave up because the journal was full, over restarts.", labels);
    m->dropped_ranges = mr_metric_new(MR_METRIC_COUNTER, "millrace_journal_dropped_ranges_total",
                                      "How often one did; alert on it.", labels);
    m->corrupt_ranges = mr_metric_new(MR_METRIC_COUNTER, "millrace_journal_corrupt_ranges_total",
                                      "Ranges of durable events that do not read back.", labels);
    m->state = mr_metric_new(MR_METRIC_GAUGE, "millrace_journal_state",
                             "0 open, 1 behind, 2 full, 3 failed.", labels);
}

static enum mr_err lane_open_writer(struct mr_lane *lane, struct mr_error *why)
{
    mr_blocks_open(lane);
    mr_writer_names_open(&lane->names);
    lane->queue_size = lane->block_count + 2 * OVERSIZE_BLOCKS;
    lane->queue = mr_alloc(lane->queue_size * sizeof(*lane->queue));
    return mr_wake_open(&lane->commit_wake, why);
}

enum mr_err mr_lane_open(struct mr_lane *lane, struct mr_error *why)
{
    const struct mr_journal *journal = lane->journal;
    struct mr_text text = mr_text_over(lane->folder.text, sizeof(lane->folder.text));

    mr_text_fmt(&text, "%s/lane-%02u", journal->folder.text, lane->index);
    lane->segment_bytes = journal->segment_bytes;
    if (journal->when_full == MR_WHEN_FULL_REFUSE) {
        lane->reserve_bytes = lane->segment_bytes / RESERVE_SHARE;
        lane->reserve_bytes =
            lane->reserve_bytes < RESERVE_BYTES_MAX ? lane->reserve_bytes : RESERVE_BYTES_MAX;
    }
    lane->block_bytes = journal->block_bytes;
    lane->block_count = journal->block_count;
    lane->record_bytes_max = journal->record_bytes_max;
    lane_metrics_open(lane);
    if (journal->read_only) {
        return MR_OK;
    }
    enum mr_err err = mr_dir_create(lane->folder.text, why);
    if (err == MR_OK && mr_dir_sync(journal->folder.text) != MR_OK) {
        err = mr_error_set(why, MR_ERR_IO, "%s: cannot be flushed: %s; check the disk",
                           journal->folder.text, mr_file_last_cause());
    }
    if (err == MR_OK) {
        err = mr_dir_open(lane->folder.text, &lane->dir, why) == MR_OK ? MR_OK : MR_ERR_IO;
    }
    return err == MR_OK && !lane->dropped ? lane_open_writer(lane, why) : err;
}

enum mr_err mr_lane_start(struct mr_lane *lane, struct mr_error *why)
{
    char name[16];
    struct mr_text text = mr_text_over(name, sizeof(name));

    mr_text_fmt(&text, "commit-%u", lane->index);
    return mr_thread_start(&lane->thread, name, mr_lane_commit_run, lane, why);
}

/* Cut the segment that was being written to what it holds. */
static enum mr_err lane_cut_last(struct mr_lane *lane)
{
    struct segment *last = lane->segment;

    if (last == NULL || !last->on_disk || lane->block == NULL ||
        atomic_load_explicit(&lane->failed, memory_order_relaxed) ||
        atomic_load_explicit(&lane->durable_seq, memory_order_relaxed) + 1 != lane->seq_next) {
        return MR_OK;
    }
    uint64_t used = lane->block->pos + (uint64_t)(lane->at - lane->block->memory);
    if (mr_file_truncate(&last->file, used) != MR_OK || mr_file_sync(&last->file) != MR_OK) {
        struct path path;

        mr_segment_path(lane, last->header.seq_first, &path);
        mr_log(MR_LOG_ERROR, "journal", "%s cannot be cut to what it holds: %s; check the disk",
               path.text, mr_file_last_cause());
        return MR_ERR_IO;
    }
    return MR_OK;
}

/* Was everything committed?  If not, it is said here unless the owner did. */
static enum mr_err lane_end(struct mr_lane *lane)
{
    if (atomic_load_explicit(&lane->failed, memory_order_relaxed)) {
        if (!atomic_load_explicit(&lane->fail_said, memory_order_relaxed)) {
            mr_log(MR_LOG_ERROR, "journal", "%s", lane->fail_text);
        }
        return MR_ERR_IO;
    }
    if (lane->queue_tail != lane->queue_head) {
        mr_log(MR_LOG_ERROR, "journal",
               "%s lane %u: there was no room for the last records, which were not acknowledged",
               lane->journal->name, lane->index);
        return MR_ERR_IO;
    }
    return lane_cut_last(lane);
}

enum mr_err mr_lane_close(struct mr_lane *lane)
{
    mr_assert(lane->readers == NULL);
    if (lane->batch != NULL && !atomic_load_explicit(&lane->failed, memory_order_relaxed)) {
        mr_lane_seal(lane);
    }
    if (lane->thread != NULL) {
        atomic_store_explicit(&lane->stopping, true, memory_order_release);
        mr_wake_ring(&lane->commit_wake);
        mr_thread_join(lane->thread);
        lane->thread = NULL;
    } else if (lane->queue != NULL) {
        (void)mr_lane_step_commit(lane); /* takes all; what stays is told below */
    }
    enum mr_err err = lane_end(lane);
    while (lane->oldest != NULL) {
        struct segment *next = lane->oldest->next;
        mr_segment_free(lane->oldest);
        lane->oldest = next;
    }
    mr_segment_free(lane->spare);
    if (lane->blocks != NULL) {
        mr_blocks_close(lane);
    }
    mr_writer_names_close(&lane->names);
    if (lane->commit_wake.fd >= 0) {
        mr_wake_close(&lane->commit_wake);
    }
    mr_file_close(&lane->dir);
    mr_free(lane->queue);
    mr_mutex_fini(&lane->mutex);
    return err;
}

void mr_lane_fail(struct mr_lane *lane, const char *path, const char *what)
{
    bool first = false;

    mr_mutex_lock(&lane->mutex);
    if (!atomic_load_explicit(&lane->failed, memory_order_relaxed)) {
        struct mr_text text = mr_text_over(lane->fail_text, sizeof(lane->fail_text));
        mr_text_fmt(&text, "%s lane %u: %s %s: %s; check the disk and restart", lane->journal->name,
                    lane->index, path, what, mr_file_last_cause());
        atomic_store_explicit(&lane->failed, true, memory_order_release);
        first = true;
    }
    mr_mutex_unlock(&lane->mutex);
    if (first) {
        mr_lane_ring_owner(lane);
    }
}

void mr_lane_ring_owner(struct mr_lane *lane)
{
    /* Under the mutex, so that an owner who has taken its wake back may close it. */
    mr_mutex_lock(&lane->mutex);
    if (lane->owner != NULL) {
        mr_wake_ring(lane->owner);
    }
    mr_mutex_unlock(&lane->mutex);
}

void mr_lane_corrupt(struct mr_lane *lane, uint64_t seq_first, uint64_t seq_last,
                     const struct path *path, uint64_t pos)
{
    atomic_fetch_add_explicit(&lane->corrupt_ranges, 1, memory_order_relaxed);
    mr_log(MR_LOG_ERROR, "journal",
           "%s: events %llu to %llu of lane %u were durable and are lost: %s is damaged at byte "
           "%llu; check the disk",
           lane->journal->name, (unsigned long long)seq_first, (unsigned long long)seq_last,
           lane->index, path->text, (unsigned long long)pos);
}

void mr_lane_missing(struct mr_lane *lane, uint64_t seq_first, uint64_t seq_last,
                     const struct path *path)
{
    atomic_fetch_add_explicit(&lane->corrupt_ranges, 1, memory_order_relaxed);
    mr_log(MR_LOG_ERROR, "journal",
           "%s: events %llu to %llu of lane %u were durable and are lost: %s is not there any "
           "more; was it removed by hand?",
           lane->journal->name, (unsigned long long)seq_first, (unsigned long long)seq_last,
           lane->index, path->text);
}

uint64_t mr_lane_durable(const struct mr_lane *lane)
{
    return atomic_load_explicit(&lane->durable_seq, memory_order_acquire);
}

void mr_lane_set_owner(struct mr_lane *lane, struct mr_wake *owner)
{
    mr_mutex_lock(&lane->mutex);
    lane->owner = owner;
    mr_mutex_unlock(&lane->mutex);
}

/* The lane by itself, whatever the others are. */
static enum mr_lane_state own_state(const struct mr_lane *lane)
{
    int blocked = atomic_load_explicit(&lane->blocked, memory_order_relaxed);
    int spare = atomic_load_explicit(&lane->spare_state, memory_order_relaxed);

    if (atomic_load_explicit(&lane->failed, memory_order_acquire)) {
        return MR_LANE_FAILED;
    }
    if (atomic_load_explicit(&lane->disk_full, memory_order_relaxed)) {
        return MR_LANE_FULL;
    }
    if (blocked == BLOCKED_BY_SEGMENT && spare == SPARE_READY) {
        return MR_LANE_OPEN; /* whoever was refused has only not tried again yet */
    }
    if (blocked == BLOCKED_BY_SEGMENT) {
        return spare == SPARE_PREPARING ? MR_LANE_BEHIND : MR_LANE_FULL;
    }
    return blocked == BLOCKED_NOT ? MR_LANE_OPEN : MR_LANE_BEHIND;
}

/* A lane that is full and so keeps its shard from reading this one, which waits for that; NULL:
 * there is none, or it waits for something else.
 */
static struct mr_lane *held_up_by(const struct mr_lane *lane)
{
    const struct mr_journal *journal = lane->journal;

    if (atomic_load_explicit(&lane->blocked, memory_order_relaxed) != BLOCKED_BY_READER) {
        return NULL;
    }
    for (uint32_t i = 0; i < journal->lane_count; i++) {
        if (i != lane->index && own_state(&journal->lanes[i]) == MR_LANE_FULL) {
            return &journal->lanes[i];
        }
    }
    return NULL;
}

enum mr_lane_state mr_lane_state(const struct mr_lane *lane)
{
    enum mr_lane_state state = own_state(lane);

    return state == MR_LANE_BEHIND && held_up_by(lane) != NULL ? MR_LANE_FULL : state;
}

static void full_text(struct mr_lane *lane, struct mr_text *text)
{
    if (atomic_load_explicit(&lane->disk_full, memory_order_relaxed)) {
        mr_text_fmt(text, "the disk that holds %s is full; make room on it", lane->folder.text);
        return;
    }
    mr_mutex_lock(&lane->mutex);
    mr_text_add(text, lane->spare_text);
    mr_mutex_unlock(&lane->mutex);
}

/* What it waits for, and what to look at if that lasts. */
static void behind_text(const struct mr_lane *lane, struct mr_text *text)
{
    bool reader = atomic_load_explicit(&lane->blocked, memory_order_relaxed) == BLOCKED_BY_READER;

    mr_text_fmt(text,
                reader ? "%s lane %u waits until sessions have what they are owed of it; look for "
                         "a shard that is overloaded, or whose sessions cannot be stored"
                       : "%s lane %u waits for the disk; look whether it is slow or overloaded",
                lane->journal->name, lane->index);
}

const char *mr_lane_state_text(const struct mr_lane *lane)
{
    static _Thread_local char answer[512];
    struct mr_text text = mr_text_over(answer, sizeof(answer));
    struct mr_lane *guarded = (struct mr_lane *)lane; /* for its mutex and `fail_said` */
    struct mr_lane *other = held_up_by(lane);

    switch (mr_lane_state(lane)) {
    case MR_LANE_FAILED:
        mr_text_add(&text, lane->fail_text);
        atomic_store_explicit(&guarded->fail_said, true, memory_order_relaxed);
        break;
    case MR_LANE_FULL:
        if (own_state(lane) != MR_LANE_FULL && other != NULL) {
            mr_text_fmt(&text,
                        "sessions cannot be given what they are owed of lane %u, for lane "
                        "%u is full: ",
                        lane->index, other->index);
            guarded = other;
        }
        full_text(guarded, &text);
        break;
    case MR_LANE_BEHIND:
        behind_text(lane, &text);
        break;
    case MR_LANE_OPEN:
        mr_text_fmt(&text, "%s lane %u is open", lane->journal->name, lane->index);
        break;
    }
    return answer;
}

void mr_lane_stats(struct mr_lane *lane, struct mr_lane_stats *out)
{
    *out = (struct mr_lane_stats){.bytes_max = lane->max_bytes};
    out->seq_next = atomic_load_explicit(&lane->seq_next_seen, memory_order_relaxed);
    out->durable_seq = mr_lane_durable(lane);
    out->payload_bytes = atomic_load_explicit(&lane->payload_bytes_seen, memory_order_relaxed);
    out->written_bytes = atomic_load_explicit(&lane->written_bytes, memory_order_relaxed);
    out->commits = atomic_load_explicit(&lane->commits, memory_order_relaxed);
    mr_mutex_lock(&lane->mutex);
    out->bytes_used = mr_segments_bytes(lane);
    for (const struct segment *s = lane->oldest; s != NULL; s = s->next) {
        out->segments += 1;
    }
    if (lane->oldest != NULL) {
        out->seq_oldest = lane->oldest->header.seq_first;
        out->oldest_us = lane->oldest->header.created_us;
    } else {
        out->seq_oldest = out->seq_next;
    }
    mr_mutex_unlock(&lane->mutex);
}

uint64_t mr_lane_floor(struct mr_lane *lane)
{
    mr_mutex_lock(&lane->mutex);
    uint64_t floor = lane->oldest == NULL ? 0 : lane->oldest->header.seq_first - 1;
    mr_mutex_unlock(&lane->mutex);
    return floor;
}

uint64_t mr_lane_bytes_behind(struct mr_lane *lane, uint64_t seq)
{
    uint64_t durable_seq = mr_lane_durable(lane);
    uint64_t bytes = 0;

    if (seq >= durable_seq) {
        return 0;
    }
    mr_mutex_lock(&lane->mutex);
    for (const struct segment *s = lane->oldest; s != NULL; s = s->next) {
        uint64_t first = s->header.seq_first;
        uint64_t end = s->seq_end != 0 ? s->seq_end : durable_seq + 1;
        /* Of the one being written only what has been committed. */
        uint64_t used = s->seq_end != 0
                            ? s->file_bytes
                            : atomic_load_explicit(&lane->segment_used_bytes, memory_order_relaxed);
        if (end <= first || end <= seq + 1) {
            continue;
        }
        uint64_t left = seq + 1 > first ? end - (seq + 1) : end - first;
        bytes += (uint64_t)((double)used * (double)left / (double)(end - first));
    }
    mr_mutex_unlock(&lane->mutex);
    return bytes;
}
