/* walk.h - read a lane's events from its files, whether a gateway runs or not.
 *
 *     segments (scan.h) ─▶ batches ─▶ records ─▶ events with their names
 *                             └─▶ damage: what was durable and does not read back
 *
 * For tools only.  It looks at files that another process may be writing: what
 * stands in the newest segment may be a moment away from being durable.
 *
 * Thread: one per walk.   Memory: a window of the file, the names of one segment.
 * Time:   the disk's.
 */
#ifndef MR_APP_CLI_WALK_H
#define MR_APP_CLI_WALK_H

#include "app/cli/cli.h"
#include "base/span.h"
#include "journal/format.h"

/* The folder with `meta`: --data itself (a journal, a bridge's dead letters), or
 * `journal` in it, into `buffer`.  Anything but MR_EXIT_OK: why was said, end with it.
 */
int mr_walk_journal_path(struct mr_cli *cli, char *buffer, size_t size);

/* Something was not found in `folder`: is it not there, or may we not look?  MR_EXIT_OK: it is not
 * there; else why was said, end with it.
 */
int mr_walk_may_look(struct mr_cli *cli, const char *folder);

/* Lane numbers of a journal folder, in order; release with mr_free(). */
enum mr_err mr_walk_lanes(const char *journal_path, uint32_t **lanes, size_t *count) MR_MUST_USE;

/* The folder of a lane. */
void mr_walk_lane_path(const char *journal_path, uint32_t lane, char *buffer, size_t size);

struct mr_walk;

struct mr_walk_event {
    uint64_t seq;
    uint64_t seq_last; /* of a GAP record: the last seq it stands for; else = seq */
    uint32_t lane;
    uint32_t epoch;
    struct mr_span client; /* "?" when damage took the name */
    struct mr_span username;
    struct mr_span topic;
    struct mr_record_raw raw; /* all else */
};

enum mr_walk_loss {
    MR_WALK_LOST,    /* seq_first to seq_last cannot be read */
    MR_WALK_RETIRED, /* they can not either, but are not missed: the gateway removed the
                        segment while we were reading it */
    MR_WALK_REWOUND, /* they come (again): the gateway was restarted after a crash, and
                        what we had read under these numbers was never acknowledged */
};

/* A range that is not there.  `path` and `what` are borrowed until the next call. */
struct mr_walk_damage {
    const char *path;
    const char *what;
    uint64_t pos;
    uint64_t seq_first;
    uint64_t seq_last; /* below seq_first: how many were lost is unknown */
    enum mr_walk_loss loss;
};

/* Begin at the first record with seq >= seq_from; older than the journal: at its
 * oldest.
 */
enum mr_err mr_walk_open(struct mr_walk **out, const char *lane_path, uint64_t seq_from,
                         struct mr_error *why) MR_MUST_USE;
void mr_walk_close(struct mr_walk *walk);

/* OK: `event`, valid until the next call.
 * AGAIN: nothing more now; a running gateway may write more, then call again.
 * CORRUPT: `damage`; the next call goes on behind it.
 * IO, CONFIG: `why`; it ends here.
 */
enum mr_err mr_walk_next(struct mr_walk *walk, struct mr_walk_event *event,
                         struct mr_walk_damage *damage, struct mr_error *why) MR_MUST_USE;

/* Records of one batch, one behind the other, that read back. */
struct mr_walk_run {
    uint32_t records;
    bool gap; /* the last of them is a GAP record */
    uint64_t seq_first;
    uint64_t seq_last;
};

/* The same as mr_walk_next() finds, of a walk from the very beginning, for who asks whether records
 * read back and not what they say: as many of a batch at once as do.  Names are not learnt.
 */
enum mr_err mr_walk_pass(struct mr_walk *walk, struct mr_walk_run *run,
                         struct mr_walk_damage *damage, struct mr_error *why) MR_MUST_USE;

/* After AGAIN, for a walk that ends here: is there something behind the end that
 * was durable once (CORRUPT, `damage`), or only the torn tail of a commit that
 * nobody was told about (AGAIN, *torn)?  Searches the rest of the segment.
 * IO: the disk refuses, so nobody knows; `why`.
 */
enum mr_err mr_walk_tail(struct mr_walk *walk, struct mr_walk_damage *damage, bool *torn,
                         struct mr_error *why) MR_MUST_USE;

/* The exit code for what ended a walk: MR_EXIT_DATA for CONFIG (a newer millrace wrote it), else
 * MR_EXIT_IO.
 */
int mr_walk_exit(enum mr_err err);

/* Pass over everything that stands before this point from now on; after AGAIN. */
void mr_walk_from_here(struct mr_walk *walk);

/* The next event will have at least this seq. */
uint64_t mr_walk_seq(const struct mr_walk *walk);

#endif
