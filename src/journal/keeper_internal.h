/* keeper_internal.h - between the keeper's rounds (keeper.c) and the segments that go (retire.c).
 *
 * Thread: the keeper's.
 * Memory: none.   Time: a walk over readers and cursors; what goes costs a rename or a removal and
 * a flush of the folder.
 */
#ifndef MR_JOURNAL_KEEPER_INTERNAL_H
#define MR_JOURNAL_KEEPER_INTERNAL_H

#include "journal/cursors_internal.h"

bool mr_lane_has_spare(struct mr_lane *lane);
void mr_spare_publish(struct mr_lane *lane, struct segment *spare);

/* There is none because its file cannot be opened just now, as the last call of os/file.h says. */
void mr_spare_say_shortage(struct mr_lane *lane);

/* What everybody but the cursors has passed; what everybody has.  *has_cursors: of a bridge. */
uint64_t mr_lane_passed(struct mr_lane *lane);
uint64_t mr_lane_settled(struct mr_lane *lane, bool *has_cursors);

/* Behind which record the lowest cursor (on disk) of `lane` holds; UINT64_MAX: there is none. Under
 * cursor_mutex.
 */
uint64_t mr_cursors_held(const struct mr_journal *journal, uint32_t lane);

/* The oldest segment if it is settled and not the last one with a name.  Only the
 * keeper takes segments off, so what is returned stays.
 */
struct segment *mr_oldest_settled(struct mr_lane *lane, uint64_t settled);

/* ... and it need not stay for `keep`. */
bool mr_keep_is_over(const struct mr_lane *lane, const struct segment *segment, bool has_cursors);

/* Retire the oldest segment, which was found settled: as the spare if there is none, else its file
 * goes.  AGAIN: it stays, somebody has begun to need it, or there is no descriptor for it.   FULL:
 * it stays, there is no room to rename or to remove it (file systems that copy on write need some).
 */
enum mr_err mr_oldest_retire(struct mr_lane *lane, bool has_cursors, bool for_room) MR_MUST_USE;

#endif
