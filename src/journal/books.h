/* books.h - what became of every record that a cursor has passed, counted.
 *
 *     cursor - begin = delivered + skipped + dead letters + lost + given up + control
 *                      + confirmed + dropped - repeated
 *
 * The counts stand in the cursor's slot and change in the same write as its seq, so a crash
 * finds cursor and counts of the same moment.  They come from the verdict on each record, not
 * from the cursor: that the sum agrees says that no record was passed without one, and none
 * counted twice.
 *
 * Thread: settle: the bridge's.  Look, list: any.
 * Memory: inside the cursors.   Time: a few additions per turn of a bridge.
 */
#ifndef MR_JOURNAL_BOOKS_H
#define MR_JOURNAL_BOOKS_H

#include "journal/cursor.h"

/* In the order of the slot (docs/JOURNAL.md). */
enum mr_column {
    MR_COLUMN_DELIVERED,    /* confirmed by the target, record by record */
    MR_COLUMN_SKIPPED,      /* no filter of `from` matches */
    MR_COLUMN_DEAD_LETTERS, /* kept aside, with the reason */
    MR_COLUMN_LOST,         /* the journal cannot read them back */
    MR_COLUMN_GIVEN_UP,     /* the operator's seek passed over them */
    MR_COLUMN_CONTROL,      /* no events, or letters addressed to another bridge */
    MR_COLUMN_CONFIRMED,    /* the target's own position says that it had them before a crash */
    MR_COLUMN_REPEATED,     /* gone back over; counted once more when they come again */
    MR_COLUMN_DROPPED,      /* given up because the journal was full (drops.h) */
    MR_COLUMNS,
};

extern const char *const mr_column_names[MR_COLUMNS]; /* "dead_letters" */

struct mr_books {
    uint64_t begin; /* the counts are of what is behind this seq */
    uint64_t columns[MR_COLUMNS];
    int64_t accepted; /* by how much they are off, and the operator knows (ranges.h) */
};

/* What the columns say the cursor has passed, less what it has and what was accepted: 0 when they
 * balance.
 */
int64_t mr_books_difference(const struct mr_books *books, uint64_t seq);

/* Move the cursor to `seq` (as mr_cursor_set(): never backwards, never beyond durable) and
 * add to its books, in one step.  False: they, or where there are two positions (live.h) those of
 * both, do not balance.
 */
bool mr_cursor_settle(struct mr_cursor *cursor, uint64_t seq, const uint64_t add[MR_COLUMNS]);

/* The cursor and its books at the same moment. */
uint64_t mr_cursor_books(struct mr_cursor *cursor, struct mr_books *out);

/* The same of both its positions (live.h), by either: the first one's seq, and *ahead records that
 * the second one has settled ahead of it.  They balance when mr_books_difference(out, seq + *ahead)
 * is 0.  Of a second position: who settles it.
 */
uint64_t mr_cursor_books_all(struct mr_cursor *cursor, struct mr_books *out, uint64_t *ahead);

/* Of all bridges, whether they run or not. */
struct mr_books_row {
    const char *name;
    struct mr_cursor *cursor;
    struct mr_lane *lane; /* closed where only the cursors were opened */
    uint32_t lane_index;
    uint64_t seq;
    uint64_t ahead; /* so many records behind `live_from` are settled by its second position */
    uint64_t live_from;
    struct mr_books books;
};
void mr_books_list(struct mr_journal *journal,
                   void (*each)(void *arg, const struct mr_books_row *row), void *arg);

#endif
