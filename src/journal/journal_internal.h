/* journal_internal.h - what the files of this folder share; never leaves it.
 *
 * WHO TOUCHES WHAT
 *
 *   owner    the lane's shard: mr_lane fields under "owner", the current block
 *            beyond the last sealed batch
 *   commit   one thread per lane: the queue's tail, batch headers, durable_seq
 *   keeper   one thread per journal: spares, cursors on disk, retirement
 *   readers  any number, one thread each: pins, their own position
 *
 * `mutex` of the lane guards the lists and hand-overs (segments, blocks' labels,
 * queue, readers).  It is taken per batch, view or segment, never per event, and
 * no I/O happens under it.
 */
#ifndef MR_JOURNAL_JOURNAL_INTERNAL_H
#define MR_JOURNAL_JOURNAL_INTERNAL_H

#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/text.h"
#include "journal/books.h"
#include "journal/cursor.h"
#include "journal/drops.h"
#include "journal/forecast.h"
#include "journal/gather_internal.h"
#include "journal/journal.h"
#include "journal/names_internal.h"
#include "journal/owed_internal.h"
#include "journal/ranges.h"
#include "journal/reader.h"
#include "journal/scan.h"
#include "journal/storage_internal.h"

/* ---- a lane ---- */

/* A sealed batch on its way to the disk. */
struct sealed {
    struct block *block;
    struct segment *segment;
    uint8_t *at;
    uint64_t pos;
    struct mr_batch_header header;
    bool prepared; /* header and checksum stand in the block */
};

struct lane_metrics {
    struct mr_metric *appended_records; /* owner */
    struct mr_metric *appended_bytes;
    struct mr_metric *next_seq;
    struct mr_metric *written_bytes; /* commit */
    struct mr_metric *commits;
    struct mr_metric *commit_seconds;
    struct mr_metric *durable_seq;
    struct mr_metric *bytes; /* keeper */
    struct mr_metric *max_bytes;
    struct mr_metric *segments;
    struct mr_metric *corrupt_ranges;
    struct mr_metric *state;
    struct mr_metric *seconds_to_full;
    struct mr_metric *dropped_records;
    struct mr_metric *dropped_ranges;
};

struct mr_lane {
    /* ---- owner ---- */
    uint64_t seq_next;
    uint8_t *at;    /* where the next record goes */
    uint8_t *limit; /* end of the block or of the segment */
    uint8_t *batch; /* header of the batch being gathered; NULL: none */
    int64_t time_base_us;
    uint64_t batch_seq; /* first seq of that batch */
    uint64_t payload_bytes;
    size_t record_bytes_max;
    struct block *block;
    struct segment *segment;
    struct gather gather; /* when that batch goes */
    struct writer_names names;
    struct owed owed;

    /* ---- read by many, written seldom ---- */
    _Alignas(64) struct mr_journal *journal;
    uint32_t index;
    bool dropped; /* not of the present epoch: only read, until it is empty */
    uint64_t max_bytes;
    uint32_t segment_bytes;
    uint32_t reserve_bytes; /* of the last segment, for the records of sessions; 0: none */
    uint32_t block_bytes;
    uint32_t block_count;
    struct path folder;
    struct mr_file dir; /* that folder, to flush the names in it */
    struct lane_metrics metrics;
    struct mr_forecast forecast; /* keeper, as what follows */
    int64_t relieved_ns;         /* when the full disk last got something back */
    struct mr_thread *thread;
    struct mr_wake commit_wake;
    _Atomic bool stopping;
    _Atomic bool failed;
    _Atomic bool disk_full;  /* the commit waits for room */
    _Atomic int blocked;     /* enum blocked: why append last said FULL */
    _Atomic int spare_state; /* enum spare_state */
    _Atomic bool fail_said;  /* somebody has asked for fail_text */
    char fail_text[512];     /* written once, before `failed` */
    char spare_text[512];    /* under the mutex */

    /* ---- published by the owner per batch ---- */
    _Alignas(64) _Atomic uint64_t released_seq;
    _Atomic uint64_t seq_next_seen;
    _Atomic uint64_t payload_bytes_seen;

    /* ---- commit ---- */
    _Alignas(64) _Atomic uint64_t durable_seq;
    _Atomic bool busy; /* set by the owner, cleared by the commit when idle */
    _Atomic uint64_t written_bytes;
    _Atomic uint64_t segment_used_bytes; /* of the segment of the last commit */
    _Atomic uint64_t commits;
    _Atomic uint64_t corrupt_ranges;

    /* ---- under the mutex ---- */
    struct mr_mutex mutex;
    struct mr_wake *owner; /* NULL: nobody wants to be rung */
    struct segment *oldest;
    struct segment *newest;
    struct segment *spare;
    uint64_t left_bytes; /* of files that a failed call may have left, on no list any more */
    struct sealed *queue;
    uint64_t queue_head; /* pushed by the owner */
    uint64_t queue_tail; /* taken off by the commit when durable */
    uint32_t queue_size;
    struct block *blocks; /* block_count and then OVERSIZE_BLOCKS */
    uint8_t *block_memory;
    struct mr_reader *readers;
};

enum blocked { BLOCKED_NOT, BLOCKED_BY_BLOCKS, BLOCKED_BY_READER, BLOCKED_BY_SEGMENT };
enum spare_state {
    SPARE_PREPARING,
    SPARE_READY,
    SPARE_NO_QUOTA,
    SPARE_NO_DISK,
    SPARE_NO_DESCRIPTOR, /* its file cannot be opened just now */
};

enum mr_err mr_lane_open(struct mr_lane *lane, struct mr_error *why) MR_MUST_USE;
enum mr_err mr_lane_start(struct mr_lane *lane, struct mr_error *why) MR_MUST_USE;
enum mr_err mr_lane_close(struct mr_lane *lane);

/* To be called where it happened, so that the cause is known.  The owner is rung, and
 * says it; without one, closing does.
 */
void mr_lane_fail(struct mr_lane *lane, const char *path, const char *what);
void mr_lane_ring_owner(struct mr_lane *lane);
void mr_lane_corrupt(struct mr_lane *lane, uint64_t seq_first, uint64_t seq_last,
                     const struct path *path, uint64_t pos);
void mr_lane_missing(struct mr_lane *lane, uint64_t seq_first, uint64_t seq_last,
                     const struct path *path);

/* Seal what is being gathered and queue it for the commit thread. */
void mr_lane_seal(struct mr_lane *lane);
void mr_lane_commit_run(void *lane); /* the commit thread */

/* ---- readers (reader.c) ---- */

struct mr_reader {
    struct mr_reader *next; /* in lane->readers */
    struct mr_lane *lane;
    _Atomic uint64_t seq_next;
    _Atomic uint64_t seq_done; /* of one that holds: dealt with up to here */
    uint64_t seq_from;
    uint64_t seq_to;
    struct mr_wake *wake;
    bool holds;
    uint32_t pins_max;
    uint32_t pin_hint;
    size_t view_bytes_max;
    struct view_pin *pins;

    /* where seq_next is: in the batch at `pos` of segment `life` */
    uint64_t life; /* 0: not known */
    uint64_t pos;
    uint64_t pos_seq;   /* first seq of that batch */
    uint64_t seq_limit; /* one past what this segment can hold, as far as we know */
    struct mr_segment_header segment;
    struct path path;
    struct mr_scan *scan; /* of that segment, once a file had to be read */
    struct mr_names *names;
    struct mr_names *left; /* names whose views are still pinned */
};

/* ---- recovery, journal ---- */

enum mr_err mr_lane_recover(struct mr_lane *lane, struct mr_recovery *recovery,
                            struct mr_error *why) MR_MUST_USE;

enum { LANES_MAX = 256, EPOCHS_PAST_MAX = 64 };

/* An epoch that has ended. */
struct epoch_past {
    uint32_t number;
    uint32_t lane_count; /* that were written in it */
    uint32_t lane_total; /* that there were */
    uint64_t *ends;      /* per lane: its last seq then */
};

struct mr_journal {
    struct path folder;
    char name[64];
    struct mr_journal_id id;
    struct mr_hash_key hash_key;
    int64_t created_us;
    uint64_t max_bytes;
    uint64_t keep_us;
    uint32_t segment_bytes;
    uint32_t block_bytes;
    uint32_t block_count;
    uint32_t record_bytes_max;
    enum mr_when_full when_full;
    uint16_t meta_version;
    struct drops *drops; /* NULL: nothing was ever dropped, or may be */
    _Atomic bool drops_armed;
    uint32_t epoch;
    uint32_t lane_count; /* of the present epoch */
    uint32_t lane_total;
    struct epoch_past past[EPOCHS_PAST_MAX]; /* oldest first */
    uint32_t past_count;
    bool room_wanted; /* keeper: what dropped lanes keep stands in the way */
    int64_t commit_delay_ns_max;
    bool read_only;
    bool cursors_only;
    bool manual;
    bool said_no_cursors;
    bool said_orphans;
    int64_t opened_ns;
    struct mr_lane *lanes;
    struct mr_file lock;
    struct mr_mutex cursor_mutex; /* the table and its file */
    struct mr_mutex watch_mutex;  /* the cursors' watchers */
    struct mr_cursor *cursors;
    struct mr_file cursor_file;
    bool cursors_certain;  /* the medium has what was read at the start */
    bool cursors_failed;   /* a write or sync of the file failed: never again */
    bool cursors_wait;     /* for room: the last round did not write them all */
    struct ranges *ranges; /* NULL: none are kept */
    bool keep_ranges;
    struct mr_thread *keeper;
    struct mr_wake keeper_wake;
    _Atomic bool stopping;
};

/* ---- meta.c ---- */

bool mr_meta_exists(const struct mr_journal *journal);
enum mr_err mr_meta_read(struct mr_journal *journal, struct mr_error *why) MR_MUST_USE;
enum mr_err mr_meta_write(const struct mr_journal *journal, struct mr_error *why) MR_MUST_USE;
void mr_meta_close(struct mr_journal *journal);

/* From here on `lane_count` lanes are written.  All lanes have been recovered, and
 * nothing was appended.
 */
enum mr_err mr_epoch_begin(struct mr_journal *journal, uint32_t lane_count,
                           struct mr_error *why) MR_MUST_USE;

/* The last seq that `lane` had when the epoch before this one ended. */
uint64_t mr_epoch_floor(const struct mr_journal *journal, uint32_t lane);

/* ---- keeper.c ---- */

void mr_keeper_run(void *journal);
void mr_lane_keep(struct mr_lane *lane); /* one lane's part of the keeper's round */

/* ---- recover.c ---- */

enum tail {
    TAIL_TORN,    /* nobody was thanked for what is behind */
    TAIL_DAMAGED, /* it was durable; the scan stands at the first batch behind it */
    TAIL_GREW,    /* another process was writing: it is whole now */
};

/* After the scan stopped in the last segment: does a later batch prove that what
 * is missing was durable?  It does if it was sealed after that, or in the segment's
 * first commit: the file got its name only when that was on the medium.
 */
enum mr_err mr_recover_proof(struct mr_scan *scan, const struct mr_segment_header *segment,
                             enum tail *tail) MR_MUST_USE;

/* Of a last segment of which nothing reads: records of the first batch if its header can be
 * believed, else as many as the segment could hold.  `scan` may be NULL.
 */
uint64_t mr_records_possible(struct mr_scan *scan, const struct mr_segment_header *segment);

/* ---- scan.c, beyond scan.h ---- */

enum mr_err mr_scan_open_known(struct mr_scan **out, const char *path,
                               const struct mr_segment_header *header,
                               struct mr_error *why) MR_MUST_USE;
uint64_t mr_scan_expected(const struct mr_scan *scan);
uint64_t mr_scan_pos(const struct mr_scan *scan);
void mr_scan_seek(struct mr_scan *scan, uint64_t pos, uint64_t seq_expected);
uint64_t mr_scan_file_bytes(const struct mr_scan *scan);
enum mr_err mr_scan_read(struct mr_scan *scan, void *into, size_t len, uint64_t pos,
                         size_t *got) MR_MUST_USE;

#endif
