/* ledger.h - what became of every record, per bridge and lane: for /api/v1/ledger and audit.
 *
 *     cursors and their books (journal/books.h) ─▶ rows ─▶ JSON, a table
 *
 * Thread: any.   Memory: the caller's.   Time: a look at each cursor.
 */
#ifndef MR_APP_LEDGER_H
#define MR_APP_LEDGER_H

#include "base/text.h"
#include "journal/books.h"
#include "journal/drops.h"
#include "journal/ranges.h"

struct mr_ledger_row {
    char name[MR_CURSOR_NAME_MAX + 1];
    uint32_t lane;
    uint64_t seq;   /* the cursor */
    uint64_t ahead; /* so many records behind `live_from` are settled ahead of it */
    uint64_t live_from;
    uint64_t newest; /* durable in the lane; UINT64_MAX: cannot be told */
    bool leads;      /* it was put elsewhere, and its target's position is not written anew yet */
    struct mr_books books;
};

uint64_t mr_ledger_received(const struct mr_ledger_row *row);
uint64_t mr_ledger_pending(const struct mr_ledger_row *row);

bool mr_ledger_is_of(const struct mr_ledger_row *row, const char *name, uint32_t lane);

/* What the columns say more than what was passed; 0: they balance. */
int64_t mr_ledger_difference(const struct mr_ledger_row *row);

/* One JSON object. */
void mr_ledger_put(struct mr_text *out, const struct mr_ledger_row *row);
void mr_ledger_put_range(struct mr_text *out, const struct mr_range *range, const char *time);
void mr_ledger_put_drop(struct mr_text *out, const struct mr_drop *drop);

struct gateway;

/* /api/v1/ledger */
void mr_ledger_page(struct gateway *gateway, struct mr_text *page);
bool mr_ledger_balances(struct gateway *gateway);

/* Why no acceptance fits the journal's list any more, and what to do; NULL: there is room. */
const char *mr_ledger_full(struct mr_journal *journal);

/* Of a bridge, whether it runs or not; NULL: there is none. */
struct mr_cursor *mr_ledger_cursor(struct gateway *gateway, const char *name, uint32_t lane);

#endif
