/* ranges.h - where cursors were put other than by settling, kept on disk.
 *
 *     begin ══settled══▶ from ──put──▶ to ══settled══▶ from ──put──▶ to ══settled══▶ cursor
 *
 * A seek, a position of the target that was ahead: each is an entry of the range that was passed
 * over or gone back over, with the column of the books (books.h) in which it counts.  With the
 * entries of a cursor it is known how often each record was settled: what lies in a gap was not,
 * what was gone back over was twice.  An entry is written in front of the cursor, names the write
 * of the cursor that it belongs to, and is void without it.
 *
 * The operator's word that an imbalance was looked at and is accepted is an entry too, and that the
 * target may have records up to the cursor more often than they were settled.
 *
 * Thread: any, under the journal's mutex for cursors.
 * Memory: 256 KiB on disk (MR_RANGES_MAX entries, the oldest goes), about 200 bytes an entry.
 * Time:   a write and a flush more where a cursor is put; settling costs nothing.
 */
#ifndef MR_JOURNAL_RANGES_H
#define MR_JOURNAL_RANGES_H

#include "journal/books.h"

enum { MR_RANGES_MAX = 1024, MR_RANGE_REASON_MAX = 160 };

struct mr_range {
    const char *name; /* of the cursor */
    uint32_t lane;
    uint64_t number; /* in the order in which it came about */
    int64_t at_us;
    bool is_acceptance;
    enum mr_column column; /* of what lies between; not of an acceptance */
    uint64_t from;         /* the cursor stood behind this record ... */
    uint64_t to;           /* ... and was put behind this one; of an acceptance the same */
    int64_t accepted;      /* by how much the books were off; 0: repetitions up to `to` are */
    const char *reason;    /* of an acceptance, else "" */
};

/* All, in the order of their numbers; what `each` is given lives as long as the call. */
void mr_ranges_list(struct mr_journal *journal,
                    void (*each)(void *arg, const struct mr_range *range), void *arg);

/* What lies behind `seq` up to the cursor was counted as settled, and the target has lost it.  The
 * cursor goes back to `oldest`, behind which the journal has records; what is between the two is
 * lost.  As mr_cursor_put() else.
 */
enum mr_err mr_cursor_lose(struct mr_cursor *cursor, uint64_t seq, uint64_t oldest) MR_MUST_USE;

/* The books are off by so much (*difference tells), the operator has looked, and accepts it:
 * from now on they balance.  Of two positions (live.h) those of both are, and it is noted at the
 * first, given here.  REJECT: they balance already.  FULL: the list is full of such.
 */
enum mr_err mr_cursor_accept(struct mr_cursor *cursor, const char *reason,
                             int64_t *difference) MR_MUST_USE;

/* The target has records up to the cursor more often than they were settled (the bridge has
 * delivered at least once, and is to deliver exactly once), and the operator accepts it: *seq tells
 * up to where.  What was accepted so before is one with it.  FULL: as above.
 */
enum mr_err mr_cursor_accept_repeated(struct mr_cursor *cursor, const char *reason,
                                      uint64_t *seq) MR_MUST_USE;

#endif
