/* live.h - a cursor's second position: fresh records ahead of a backlog.
 *
 *     ─ settled ─▶ cursor ─ backlog ─▶ from ─ settled ahead ─▶ live ─ to come ─▶ newest
 *
 * A bridge that is far behind may go on in two places: behind its cursor, up to `from`, and
 * behind `from`, which was the newest record when the second position was begun.  That one is
 * a cursor of its own with a slot of its own, named `$live-` and the bridge; its books begin at
 * `from`.  Whether it counts is said by a flag in the slot of the first, which is written in one
 * step with that one's seq and books: so a crash at any moment finds two positions or one,
 * and each record in the books of exactly one.
 *
 * Thread: begin, end, found: the bridge's, or who alone has the journal.  The others: any.
 * Memory: a slot of the table.   Time: begin and end write and sync it.
 */
#ifndef MR_JOURNAL_LIVE_H
#define MR_JOURNAL_LIVE_H

#include "journal/books.h"

#define MR_LIVE_PREFIX "$live-"

/* The second position that the disk has, opened; NULL: there is none.  One that a crash left
 * half made or half given up is forgotten, now or by the keeper.  IO: that cannot be written.
 */
enum mr_err mr_cursor_live_found(struct mr_cursor *cursor, struct mr_cursor **out,
                                 struct mr_error *why) MR_MUST_USE;

/* Begin one behind `from` (<= durable, >= the cursor); it leads (cursor.h).  On disk when this
 * returns.  The cursor has none yet.
 * FULL: no slot is free; CONFIG: the name would be too long; AGAIN: the disk has no room for it
 * now; IO.
 */
enum mr_err mr_cursor_live_begin(struct mr_cursor *cursor, uint64_t from, struct mr_cursor **out,
                                 struct mr_error *why) MR_MUST_USE;

/* Give it up: the cursor is put to `seq` under `rule`, and its books take over the other's.
 * Backlog that is passed over is given up; what either had settled behind `seq` is repeated.
 * With `seq` = live, when the cursor has come to `from`, the two are joined and nothing is
 * either.  On disk when this returns; nobody sets either of them meanwhile.  AGAIN: as
 * mr_cursor_put(); FULL, IO: there are two as before.  The slot of the second is free when the disk
 * has taken that, which the keeper tries until it does; it holds the journal until then.
 */
enum mr_err mr_cursor_live_end(struct mr_cursor *cursor, uint64_t seq,
                               enum mr_cursor_rule rule) MR_MUST_USE;

/* Where it was begun. */
uint64_t mr_cursor_live_from(const struct mr_cursor *live);

/* Is this a second position? */
bool mr_cursor_is_live(const struct mr_cursor *cursor);

/* The name of the bridge it is of, first position or second. */
const char *mr_cursor_bridge(const struct mr_cursor *cursor);

/* Is there one?  Then (*from, *to] is settled ahead of `cursor`. */
bool mr_cursor_ahead(const struct mr_cursor *cursor, uint64_t *from, uint64_t *to);

#endif
