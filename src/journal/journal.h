/* journal.h - the durable log of this gateway: lanes of segments on disk.
 *
 *     broker ──mr_lane_append──▶ block ──commit thread──▶ segment
 *                                   │                        │
 *                                   └── durable_seq ──▶ ack gate, readers (reader.h)
 *
 * The journal owns its folder (docs/JOURNAL.md), a commit thread per lane, and
 * one keeper thread that prepares the next segment, writes cursors and retires
 * what nobody needs any more.
 *
 * Thread: open/close by the main thread.  Each lane is appended to by ONE
 *         thread (its shard).  Readers and cursors: reader.h, cursor.h.
 * Memory: block_count blocks of block_bytes per lane, taken at open; larger
 *         records borrow a block of their own size.
 * Time:   append ~40 ns + copy; a commit is one write and one fdatasync.
 */
#ifndef MR_JOURNAL_JOURNAL_H
#define MR_JOURNAL_JOURNAL_H

#include "journal/format.h"
#include "os/thread.h"

struct mr_journal;
struct mr_lane;

/* commit_delay_us_max: no gathering, each batch goes when the disk is free. */
#define MR_COMMIT_AT_ONCE UINT32_MAX

/* What happens when there is no room for another segment. */
enum mr_when_full {
    MR_WHEN_FULL_HOLD,   /* append says FULL, and whoever appends waits */
    MR_WHEN_FULL_REFUSE, /* ... and refuses events: the end of the last segment is kept for the
                          * records of sessions, so that these go on */
    MR_WHEN_FULL_DROP,   /* the oldest segment goes, if all who need it may drop it (drops.h) */
};

struct mr_journal_options {
    const char *path;             /* the folder of `meta` */
    const char *name;             /* for logs and metrics: "journal", "dead letters of x" */
    uint32_t lane_count;          /* 0: as it is; another count than before begins an epoch */
    uint32_t lane_count_new;      /* of a new journal when lane_count is 0; 0: 1 */
    uint64_t max_bytes;           /* hard bound; 0: half of the free space when made */
    uint64_t keep_us;             /* settled segments stay this long, room permitting */
    uint32_t segment_bytes;       /* 0: 64 MiB, less for a small max_bytes */
    uint32_t block_bytes;         /* 0: 1 MiB */
    uint32_t block_count;         /* per lane; 0: 32 */
    uint32_t record_bytes_max;    /* larger appends are refused with REJECT */
    uint32_t commit_delay_us_max; /* how long a busy lane may gather; 0: 500 */
    enum mr_when_full when_full;
    bool keep_ranges;  /* of cursors that were put elsewhere (ranges.h) */
    bool read_only;    /* tools: no lock, no recovery writes, no threads */
    bool cursors_only; /* tools: lanes stay closed, no recovery; cursor.h works */
    bool manual;       /* tests: no threads; the steps below are called by hand */
};

/* What recovery found; also what `journal verify` prints. */
struct mr_recovery {
    uint64_t segments;
    uint64_t records_scanned;
    uint64_t bytes_scanned;
    uint64_t torn_bytes;     /* cut from tails that were never acknowledged */
    uint64_t corrupt_ranges; /* damage to what had been durable; each is logged */
    uint64_t seqs_lost;
    int64_t took_us;
};

/* Open or make the journal, recover, flush what was accepted, start threads.
 * Afterwards every lane can be appended to and read.
 * CONFIG: newer format, foreign files, not writable; AGAIN: locked by another
 * process; FULL: no room for the first segments; IO, CORRUPT: as `why` says.
 */
enum mr_err mr_journal_open(struct mr_journal **out, const struct mr_journal_options *options,
                            struct mr_recovery *recovery, struct mr_error *why) MR_MUST_USE;

/* Commit what was appended, write cursors, cut the last segments, stop threads,
 * free.  Readers must be closed before.  IO: the last commit did not succeed, and a
 * log line says why, unless the owner of the failed lane has asked.  FULL: the disk had no room for
 * the last cursors, so bridges begin where they were before; it is logged.
 */
enum mr_err mr_journal_close(struct mr_journal *journal);

const struct mr_journal_id *mr_journal_identity(const struct mr_journal *journal);

/* Lanes of the present epoch: 0 to count - 1 are appended to.  Those from there to
 * total - 1 are of earlier epochs: they can be read, and nothing else.
 */
uint32_t mr_journal_lane_count(const struct mr_journal *journal);
uint32_t mr_journal_lane_total(const struct mr_journal *journal);
struct mr_lane *mr_journal_lane(struct mr_journal *journal, uint32_t lane);

/* The lane of a client's events in the present epoch: a hash with the journal's key. */
uint32_t mr_journal_home(const struct mr_journal *journal, struct mr_span client_id);

/* ... and in an epoch of `lane_count` lanes. */
uint32_t mr_journal_home_of(const struct mr_journal *journal, struct mr_span client_id,
                            uint32_t lane_count);

/* Number of the present epoch, from 1. */
uint32_t mr_journal_epoch(const struct mr_journal *journal);

/* The last seq of `lane` when `epoch` ended; UINT64_MAX: it has not.  0: the lane held
 * nothing then, or the epoch is so old that it is not remembered.
 */
uint64_t mr_journal_epoch_end(const struct mr_journal *journal, uint32_t epoch, uint32_t lane);

/* How many lanes were appended to in `epoch`; 0: it is not remembered, or has not begun. */
uint32_t mr_journal_epoch_lanes(const struct mr_journal *journal, uint32_t epoch);

/* ---- appending: by the lane's owner only ---- */

/* Where a client's topic was last named; kept by the caller beside the topic, all
 * zero at first.  Saves the journal the look-up.
 */
struct mr_name_ref {
    uint32_t generation; /* of the segment's names; 0: none */
    uint32_t id;
};

struct mr_appended {
    uint64_t seq;
    const uint8_t *payload; /* stays until mr_lane_release(seq) */
};

/* Append one record.  `record->naming` is decided here from the spans and
 * `name` (may be NULL).  After MR_OK the record has its seq and will be in the
 * next batch; it is durable when mr_lane_durable() >= seq.  A `name` that was
 * filled here must be given back only with the same client, user and topic.
 * FULL: nothing was appended (mr_lane_state_text() says why); stop reading
 * PUBLISH and try again when the owner's wake rings, or after a release.
 * REJECT: larger than record_bytes_max.   IO: the lane has failed.
 */
enum mr_err mr_lane_append(struct mr_lane *lane, struct mr_record_raw *record,
                           struct mr_name_ref *name, struct mr_appended *out) MR_MUST_USE;

/* An event of a client and topic that the lane has just had, with a payload and nothing else. */
struct mr_event_again {
    const struct mr_name_ref *name; /* as mr_lane_append() has left it */
    size_t names_bytes;             /* of client id, user name and topic together */
    int64_t received_us;
    uint8_t qos; /* 0 or 1 */
};

/* Append it: its seq.  0: nothing was done, and it is mr_lane_append() that makes room, names it
 * anew or says why not.
 */
uint64_t mr_lane_append_again(struct mr_lane *lane, const struct mr_event_again *again,
                              struct mr_span payload) MR_MUST_USE;

/* Call at the end of each turn of the owner's loop: hands over what gathered if
 * the commit thread is free and it is time.  Returns in how many ns to call
 * again (-1: when the wake rings).
 */
int64_t mr_lane_submit(struct mr_lane *lane, int64_t now_ns);

/* How long the owner may leave unread what comes, as it would only wait for its batch to go
 * (0: not at all; half a millisecond at most).  Its wake is to be heeded meanwhile.
 */
int64_t mr_lane_nap_ns(struct mr_lane *lane);

/* The seq that the next append gets.  The owner only. */
uint64_t mr_lane_next_seq(const struct mr_lane *lane);

/* Everything at or below it survives power loss.  Any thread. */
uint64_t mr_lane_durable(const struct mr_lane *lane);

/* The owner needs no payload pointer at or below `seq` any more, and has sent
 * its acks: blocks and segments up to there are no longer held for it.
 */
void mr_lane_release(struct mr_lane *lane, uint64_t seq);

/* Rung when durable rises, when room returns, when the lane fails.  That it has failed
 * is for the owner to say (mr_lane_state_text()); the journal does so at close only if
 * nobody has asked.  NULL takes the wake back: it is not touched after this returns.
 */
void mr_lane_set_owner(struct mr_lane *lane, struct mr_wake *owner);

enum mr_lane_state {
    MR_LANE_OPEN,
    MR_LANE_BEHIND, /* waits for the disk, or for those who read it for sessions; not for long */
    MR_LANE_FULL,   /* max_size or the disk is full, or one is whose shard must read it; waits for a
                     * bridge or an operator */
    MR_LANE_FAILED, /* I/O error: no ack for it or after it; the process must end */
};
enum mr_lane_state mr_lane_state(const struct mr_lane *lane); /* any thread */

/* The sentence for logs, /readyz and exit messages; valid until the next call. */
const char *mr_lane_state_text(const struct mr_lane *lane);

struct mr_lane_stats {
    uint64_t seq_oldest; /* first seq still in the journal */
    uint64_t seq_next;   /* the next append gets it */
    uint64_t durable_seq;
    uint64_t bytes_used; /* of all segments, as they count against max_size */
    uint64_t bytes_max;
    uint64_t payload_bytes; /* appended since start */
    uint64_t written_bytes; /* committed since start */
    uint64_t commits;
    uint64_t segments;
    int64_t oldest_us; /* created time of the oldest segment */
};
void mr_lane_stats(struct mr_lane *lane, struct mr_lane_stats *out); /* any thread */

/* About how many bytes of segments lie behind record `seq`: exact but for the segment
 * in which it stands, of which the share of its records counts.  Any thread.
 */
uint64_t mr_lane_bytes_behind(struct mr_lane *lane, uint64_t seq);

/* ---- manual mode (tests, simulator): what the threads would do ---- */

/* One commit of all that was submitted.  True: there was something. */
bool mr_lane_step_commit(struct mr_lane *lane);

/* One round of the keeper: cursors, spare, retirement. */
void mr_journal_step_keeper(struct mr_journal *journal);

#endif
