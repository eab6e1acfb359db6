/* drops_internal.h - what the keeper and the journal ask of drops.c and drops_file.c.
 *
 * Thread: open, close: as the journal's.  The others: the keeper's.
 * Memory: drops.h.   Time: a walk over the cursors.
 */
#ifndef MR_JOURNAL_DROPS_INTERNAL_H
#define MR_JOURNAL_DROPS_INTERNAL_H

#include "journal/cursors_internal.h"
#include "journal/drops.h"

/* A slot of the file; number 0: free. */
struct drop_slot {
    struct mr_drop drop;
    uint64_t number; /* goes up with each that is written */
    bool replaced;   /* by a larger one that is not on the medium yet: until then this one counts */
};

struct drops {
    struct drop_slot slots[MR_DROPS_MAX];
    uint64_t number_last;
    struct mr_file file;
    bool failed; /* a sync of it did, and so does each after that */
};

/* ---- the file (drops_file.c) ---- */

/* The cursors are open. */
enum mr_err mr_drops_open(struct mr_journal *journal, struct mr_error *why) MR_MUST_USE;
void mr_drops_close(struct mr_journal *journal);
void mr_drops_path(const struct mr_journal *journal, struct path *out);

/* Write a slot of the table where it lies in the file; not synced. */
enum mr_err mr_drop_slot_write(struct drops *drops, const struct drop_slot *slot) MR_MUST_USE;

/* ---- giving up (drops.c) ---- */

bool mr_drop_is_of(const struct mr_drop *drop, const char *name, uint32_t lane);

/* May all who need something up to `last` give it up?  *price: the highest priority of them;
 * *refuser: who may not, if there is one.
 */
bool mr_drop_price(struct mr_lane *lane, uint64_t last, uint32_t *price, struct holder *refuser);

/* They do.  FULL: there is no room to write that down, and nobody did. */
enum mr_err mr_drop_do(struct mr_lane *lane, uint64_t last, enum mr_drop_reason reason) MR_MUST_USE;

/* As mr_drops_in(), under cursor_mutex. */
uint64_t mr_drops_within(const struct mr_journal *journal, const char *name, uint32_t lane,
                         uint64_t first, uint64_t last);

/* What it has given up, seen from where the cursor stands on the medium, or may: it was put
 * elsewhere, or the ranges were read.  Under cursor_mutex.
 */
void mr_drop_look(struct mr_cursor *cursor);

#endif
