/* drops_internal.h - what the keeper and the journal ask of drops.c.
 *
 * Thread: open, close: as the journal's.  The others: the keeper's.
 * Memory: drops.h.   Time: a walk over the cursors.
 */
#ifndef MR_JOURNAL_DROPS_INTERNAL_H
#define MR_JOURNAL_DROPS_INTERNAL_H

#include "journal/journal_internal.h"

/* The cursors are open. */
enum mr_err mr_drops_open(struct mr_journal *journal, struct mr_error *why) MR_MUST_USE;
void mr_drops_close(struct mr_journal *journal);

/* May all who need something up to `last` give it up?  *price: the highest priority of them;
 * *refuser: who may not, if there is one.
 */
bool mr_drop_price(struct mr_lane *lane, uint64_t last, uint32_t *price, struct holder *refuser);

/* They do.  FULL: there is no room to write that down, and nobody did. */
enum mr_err mr_drop_do(struct mr_lane *lane, uint64_t last, enum mr_drop_reason reason) MR_MUST_USE;

#endif
