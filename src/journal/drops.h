/* drops.h - what bridges gave up because the journal was full (when_full: drop_oldest).
 *
 *     keeper: no room ─▶ who needs the oldest segment, and may each of them drop it?
 *        ─▶ a range per cursor, durable ─▶ these cursors hold the segment no more ─▶ recycled
 *     bridge: reads on ─▶ a gap in front of the oldest record ─▶ mr_drops_in() ─▶ its books
 *
 * A range is what was given up: the records that the bridge had not settled when it was.  Those
 * of them that it had read already may still be delivered; the column `dropped` of its books
 * counts the others, one by one, when the bridge gets there.
 *
 * Thread: rank, arm: control plane.  in, list: any.
 * Memory: a table of MR_DROPS_MAX where the mode is in use.   Time: a walk over the table, once
 *         per gap; nothing per record.
 */
#ifndef MR_JOURNAL_DROPS_H
#define MR_JOURNAL_DROPS_H

#include "journal/cursor.h"

enum { MR_DROPS_MAX = 1024 };

/* How important what stands behind a cursor is: the higher, the later it is given up. */
struct mr_cursor_rank {
    uint32_t priority;
    bool may_drop; /* false: never; the journal rather holds back whoever publishes */
};

/* Of all cursors of `name`, and of their second positions (live.h).  Cursors that never had a rank
 * are of nobody who is configured, and given up first; other names with a `$` never.
 */
void mr_cursors_rank(struct mr_journal *journal, const char *name,
                     const struct mr_cursor_rank *rank);

/* For a bridge that is not configured any more. */
extern const struct mr_cursor_rank mr_rank_of_nobody;

/* Everybody who is configured has its rank: from here on ranges may be given up. */
void mr_drops_arm(struct mr_journal *journal);

enum mr_drop_reason {
    MR_DROP_MAX_SIZE = 1, /* the journal had reached its bound */
    MR_DROP_DISK = 2,     /* the disk was full */
};

struct mr_drop {
    char name[MR_CURSOR_NAME_MAX + 1]; /* of the bridge */
    uint32_t lane;
    uint64_t seq_first;
    uint64_t seq_last;
    int64_t first_us; /* when it began, and when it was last added to */
    int64_t last_us;
    enum mr_drop_reason reason; /* of the last addition */
};

extern const char *const mr_drop_reasons[]; /* "max_size" */

/* How many of the records from `first` to `last` were given up by `name`. */
uint64_t mr_drops_in(struct mr_journal *journal, const char *name, uint32_t lane, uint64_t first,
                     uint64_t last);

/* All ranges, as they were given up; `each` runs under a mutex. */
void mr_drops_list(struct mr_journal *journal, void (*each)(void *arg, const struct mr_drop *drop),
                   void *arg);

#endif
