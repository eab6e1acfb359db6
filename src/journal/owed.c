/* owed.c - see owed_internal.h.
 *
 * DESIGN
 *
 * A shard that reads lanes for its sessions and groups appends to its own lane what these are owed.
 * Until it has read a record, that holds the record's segment.  So lanes can wait for each other in
 * a circle: each is full, and what would free it has to be appended to another one.  It does not
 * come to that if what all lanes together still owe finds room in each of them.  Hence of `n` lanes
 * each admits events only while copies of what is not read yet take less than 1/(8 n) of it.  What
 * a group is given is read by other shards once more, so a lane takes up to a quarter of its size
 * in copies since the oldest record that holds it; the rest is for segments that are held in part.
 *
 * The copy of a record names client and topic in full and may be several times as large, so its own
 * size is counted.  How much is owed behind a reader's position is known to a mark, each some
 * sixteenth of the limit, or a batch, from the next; always too much, never too little.  Of what
 * was in the lane at the start only the files' sizes are known.
 */
#include "journal/journal_internal.h"

enum {
    PART_OF_LANE = 8,
    MARK_PART = 16,
};

static uint64_t owed_limit(const struct mr_lane *lane)
{
    return lane->max_bytes / PART_OF_LANE / lane->journal->lane_count;
}

void mr_owed_start(struct mr_lane *lane, uint64_t seq_next)
{
    lane->owed = (struct owed){.seq_start = seq_next};
    lane->owed.mark[0].seq = seq_next;
    lane->owed.marks = 1;
}

void mr_owed_mark(struct mr_lane *lane, uint64_t seq_next)
{
    struct owed *owed = &lane->owed;

    if (owed->bytes - owed->marked >= owed_limit(lane) / MARK_PART) {
        owed->mark[owed->marks % OWED_MARKS].seq = seq_next;
        owed->mark[owed->marks % OWED_MARKS].bytes = owed->bytes;
        owed->marked = owed->bytes;
        owed->marks += 1;
    }
}

/* First record that somebody who holds the lane has not dealt with; UINT64_MAX: nobody does. */
static uint64_t first_unread(const struct mr_lane *lane)
{
    uint64_t first = UINT64_MAX;

    for (const struct mr_reader *r = lane->readers; r != NULL; r = r->next) {
        uint64_t next = atomic_load_explicit(&r->seq_done, memory_order_acquire) + 1;
        first = r->holds && next < first ? next : first;
    }
    return first;
}

/* Size of the files with records from `first` to in front of `end`. */
static uint64_t file_bytes(const struct mr_lane *lane, uint64_t first, uint64_t end)
{
    uint64_t bytes = 0;

    for (const struct segment *s = lane->oldest; s != NULL; s = s->next) {
        uint64_t seq_end = s->seq_end != 0 ? s->seq_end : lane->seq_next;
        bytes += first < seq_end && s->header.seq_first < end ? s->file_bytes : 0;
    }
    return bytes;
}

/* What copies of all in front of `first` take, as far as marks tell. */
static uint64_t bytes_before(const struct owed *owed, uint64_t first)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < owed->marks && i < OWED_MARKS; i++) {
        bytes =
            owed->mark[i].seq <= first && owed->mark[i].bytes > bytes ? owed->mark[i].bytes : bytes;
    }
    return bytes;
}

bool mr_owed_has_room(struct mr_lane *lane)
{
    struct owed *owed = &lane->owed;
    uint64_t stop = UINT64_MAX;

    mr_mutex_lock(&lane->mutex);
    uint64_t first = first_unread(lane);
    if (first >= lane->seq_next && first != UINT64_MAX) {
        stop = owed->bytes + owed_limit(lane);
    } else if (first != UINT64_MAX) {
        uint64_t old = first < owed->seq_start ? file_bytes(lane, first, owed->seq_start) : 0;
        uint64_t limit = owed_limit(lane);
        stop = bytes_before(owed, first) + (old < limit ? limit - old : 0);
    }
    atomic_store_explicit(&owed->stop, stop, memory_order_relaxed);
    mr_mutex_unlock(&lane->mutex);
    return owed->bytes < stop;
}
