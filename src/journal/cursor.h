/* cursor.h - how far each bridge is, per lane, kept on disk.
 *
 * Everything at or below a cursor has been settled; segments above the lowest
 * cursor stay.  set() is memory only; the keeper writes changed cursors at most
 * every 100 ms, and close writes all.  A crash may bring an older one back, never
 * a newer.  Names with a `$` in front are the gateway's own: they hold the journal as
 * others do, and do not count as somebody who reads it.
 *
 * A cursor may be paused by the operator: its bridge then delivers nothing, and it
 * holds the journal as ever.  That outlives a restart.
 *
 * Thread: open/forget/list/pause: control plane (locked).  set, seek: the bridge's
 *         thread.  get, is_paused: any.
 * Memory: a table of MR_CURSORS_MAX.   Time: set ~1 ns.
 */
#ifndef MR_JOURNAL_CURSOR_H
#define MR_JOURNAL_CURSOR_H

#include "journal/journal.h"

enum { MR_CURSORS_MAX = 1024, MR_CURSOR_NAME_MAX = 128 };

struct mr_cursor;

enum mr_cursor_start { MR_START_OLDEST, MR_START_NOW };

/* Find the cursor of `name` (a bridge) in `lane`, or make it where `start` says;
 * *is_new tells.  A new one is on disk when this returns.
 * FULL: MR_CURSORS_MAX; CONFIG: bad name.
 */
enum mr_err mr_cursor_open(struct mr_journal *journal, const char *name, uint32_t lane,
                           enum mr_cursor_start start, struct mr_cursor **out, bool *is_new,
                           struct mr_error *why) MR_MUST_USE;

/* The same, but a new one has settled everything up to `seq` (<= durable), or what the lane does
 * not hold any more.
 */
enum mr_err mr_cursor_open_behind(struct mr_journal *journal, const char *name, uint32_t lane,
                                  uint64_t seq, struct mr_cursor **out, bool *is_new,
                                  struct mr_error *why) MR_MUST_USE;

/* Its bridge is gone from the configuration: from now on the journal says so when the
 * cursor stands in its way.  It holds what it holds.
 */
void mr_cursor_close(struct mr_cursor *cursor);

uint64_t mr_cursor_get(const struct mr_cursor *cursor);

/* Look at the cursor of somebody else: `wake` is rung whenever it is set, until unwatch().  One
 * watcher a cursor.  REJECT: there is no cursor of that name in `lane`, or it is watched.
 */
enum mr_err mr_cursor_watch(struct mr_journal *journal, const char *name, uint32_t lane,
                            struct mr_wake *wake, struct mr_cursor **out) MR_MUST_USE;
void mr_cursor_unwatch(struct mr_cursor *cursor);
void mr_cursor_ring(struct mr_cursor *cursor); /* its watcher, if there is one */

/* Has `name` settled, in all lanes, what is of earlier epochs than the present one?  Yes stays
 * yes, but for a seek.  Any thread; looks through the table.
 */
bool mr_cursors_past_epochs(struct mr_journal *journal, const char *name);

/* Never backwards (asserted), never beyond durable. */
void mr_cursor_set(struct mr_cursor *cursor, uint64_t seq);

/* One of the gateway's own keeps no counts; in their place stands what its seq holds together
 * with: something kept elsewhere, as of record `with`.  A power cut finds both of one moment.
 * Set as above.  Get: `with` is where it was made, until it is set.  Back: to `seq`, or to where
 * the lane begins if that is later, and `with` is that too; on disk when it returns, and from then
 * on the lane holds what is behind it.
 */
void mr_cursor_set_with(struct mr_cursor *cursor, uint64_t seq, uint64_t with);
uint64_t mr_cursor_get_with(struct mr_cursor *cursor, uint64_t *with);
enum mr_err mr_cursor_back(struct mr_cursor *cursor, uint64_t seq) MR_MUST_USE;

/* As it is, without opening it.  NULL: there is none. */
struct mr_cursor *mr_cursor_find(struct mr_journal *journal, const char *name, uint32_t lane);

/* Whose word counts when the target keeps a position of its own (plugin/sink.h). */
enum mr_cursor_rule {
    MR_CURSOR_NEW,     /* the target was never asked */
    MR_CURSOR_LEADS,   /* the cursor's: what the target says is out of date */
    MR_CURSOR_FOLLOWS, /* the target's: the cursor may be a little behind it */
};
enum mr_cursor_rule mr_cursor_rule(const struct mr_cursor *cursor);

/* Put it anywhere, backwards too, together with the rule; on disk when this returns.  Its books
 * (books.h) say what was passed over: given up if it leads, else confirmed, or dropped where it
 * was (drops.h); or repeated.  The caller knows that nobody sets it meanwhile.
 * AGAIN: backwards, and the lane does not hold what is behind `seq` any more (mr_lane_stats() says
 * from where on it does); nothing was changed.
 */
enum mr_err mr_cursor_put(struct mr_cursor *cursor, uint64_t seq,
                          enum mr_cursor_rule rule) MR_MUST_USE;

/* The same as the operator's word: it leads. */
enum mr_err mr_cursor_seek(struct mr_cursor *cursor, uint64_t seq) MR_MUST_USE;

/* Pause the cursors of `name` in all lanes, or take that back; on disk when this
 * returns.  A cursor that is made later in another lane is paused like the others.
 * REJECT: there is none of that name.
 */
enum mr_err mr_cursor_pause(struct mr_journal *journal, const char *name, bool paused) MR_MUST_USE;
bool mr_cursor_is_paused(const struct mr_cursor *cursor);

/* Who has a cursor, and has not opened it since the journal was, gets one in each lane of the
 * present epoch too: a bridge that is not in the configuration now, and comes back, finds what
 * came meanwhile, also behind another number of lanes.  Not those with a `$`.  For the start, when
 * all that are configured are open.  IO; without a free slot it is logged, and holds what it holds.
 */
enum mr_err mr_cursors_follow(struct mr_journal *journal, struct mr_error *why) MR_MUST_USE;

/* Forget a removed bridge's cursors: they no longer hold anything. */
enum mr_err mr_cursor_forget(struct mr_journal *journal, const char *name) MR_MUST_USE;

/* Forget the cursors whose names begin with `prefix` and which nobody has opened since the
 * journal was.
 */
enum mr_err mr_cursor_forget_unopened(struct mr_journal *journal, const char *prefix) MR_MUST_USE;

/* What there must be of a lane, as far as cursors, what was dropped, and ends of epochs tell: all
 * records behind *behind (UINT64_MAX: nobody needs any), at least up to *to.
 */
void mr_cursors_known(struct mr_journal *journal, uint32_t lane, uint64_t *behind, uint64_t *to);

void mr_cursor_list(struct mr_journal *journal,
                    void (*each)(void *arg, const char *name, uint32_t lane, uint64_t seq),
                    void *arg);

#endif
