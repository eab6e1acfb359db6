/* storage_internal.h - a lane's files (segment.c) and the memory in front of them
 * (block.c).
 *
 *     append ──▶ block ──commit──▶ segment ──retired──▶ spare ──▶ segment ...
 *                  └── views of readers that keep up
 *
 * Thread: lists and labels under the lane's mutex, except where said.
 * Memory: a segment ~150 bytes; blocks as configured, taken at open.
 * Time:   block_take once per block, pin once per view.
 */
#ifndef MR_JOURNAL_STORAGE_INTERNAL_H
#define MR_JOURNAL_STORAGE_INTERNAL_H

#include "journal/journal.h"
#include "os/file.h"

enum {
    PAGE_BYTES = 4096,
    PATH_BYTES = 1024,
    OVERSIZE_BLOCKS = 4, /* larger records in memory at once; then BEHIND */
    BLOCKS_FOR_WRITER = 8,
    RECORD_OVERHEAD_MAX = 96, /* every length, id and number of a record */
    BLOCKS_MAX = 1000,
    SPARE_SLOTS = 1024, /* more than there can be blocks, hence segments not named yet */
    KEEPER_INTERVAL_MS = 100,
    NS_PER_MS = 1000000,
};

struct path {
    char text[PATH_BYTES];
};

/* ---- segments (segment.c) ---- */

struct segment {
    struct segment *next; /* newer */
    uint64_t life;        /* unique in this process, so a recycled file is another */
    struct mr_segment_header header;
    uint64_t seq_end;    /* one past the last; 0: still being written */
    uint64_t file_bytes; /* as it counts against max_bytes */
    int64_t closed_us;   /* wall time of the last write, for `keep` */
    uint32_t spare_slot; /* while not on_disk: the file is spare-<slot>.seg */
    bool on_disk;        /* has its name; until the first commit it has not */
    bool damaged;        /* header unreadable: all of it is lost */
    struct mr_file file; /* open while it is a spare or being written */
};

void mr_segment_path(const struct mr_lane *lane, uint64_t seq_first, struct path *out);
void mr_spare_path(const struct mr_lane *lane, uint32_t slot, struct path *out);
struct segment *mr_segment_new(const struct mr_lane *lane);
void mr_segment_free(struct segment *segment);

/* The newest segment that begins at or below `seq`; the mutex is held. */
struct segment *mr_segment_of(const struct mr_lane *lane, uint64_t seq);
struct segment *mr_segment_of_life(const struct mr_lane *lane, uint64_t life);

/* Behind which record the oldest one of the lane stands, 0 if it has no segment.  Under the
 * journal's cursor_mutex none goes, so a cursor may be put there.
 */
uint64_t mr_lane_floor(struct mr_lane *lane);

/* Bytes of all files of the lane; the mutex is held. */
uint64_t mr_segments_bytes(const struct mr_lane *lane);

/* The lane is about to fail over a file of so many bytes, which no list has.  The next start may
 * find it, so it counts until then: the other lanes go on meanwhile, and must not take its room.
 */
void mr_segment_leave(struct mr_lane *lane, uint64_t bytes);

/* Make a zeroed spare file.   FULL, AGAIN (no descriptor or memory for it just now): nothing is
 * left of it.   IO: the lane must fail.
 */
enum mr_err mr_spare_create(struct mr_lane *lane, struct segment **out,
                            struct mr_error *why) MR_MUST_USE;

/* Turn a retired segment into one.   FULL, AGAIN (as above): it has its name still, as before.
 * REJECT: somebody else has removed it.   IO: the lane must fail.
 */
enum mr_err mr_spare_recycle(struct mr_lane *lane, struct segment *segment) MR_MUST_USE;

/* ---- blocks (block.c) ---- */

/* Memory that mirrors [pos, pos + capacity) of one segment.  Labels change under
 * the lane's mutex; `pins` falls without it.
 */
struct block {
    uint8_t *memory;
    size_t capacity;
    uint64_t pos;
    uint64_t life;              /* of the segment it mirrors; 0: never used */
    uint64_t seq_first;         /* of its first batch */
    uint64_t seq_end;           /* one past its last; UINT64_MAX: being written */
    _Atomic uint32_t pins;      /* views that borrow it */
    _Atomic uint32_t has_names; /* some record in it defines a name */
    bool oversize;
};

void mr_blocks_open(struct mr_lane *lane);
void mr_blocks_close(struct mr_lane *lane);

/* A block for `bytes` at `pos` of the lane's current segment, now lane->block; the
 * last one is left.  FULL: all are waiting for the disk, acks or readers.
 */
enum mr_err mr_block_take(struct mr_lane *lane, size_t bytes, uint64_t pos) MR_MUST_USE;

/* Pin the block that holds `seq` of segment `life`; NULL: none does.  *seq_end as
 * in the block; *copy_only when no more blocks may be borrowed: copy, and unpin at
 * once.
 */
struct block *mr_block_pin(struct mr_lane *lane, uint64_t life, uint64_t seq, uint64_t *seq_end,
                           bool *copy_only);
void mr_block_unpin(struct block *block);

#endif
