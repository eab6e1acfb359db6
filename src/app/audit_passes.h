/* audit_passes.h - how often the books say that each record of a lane was settled.
 *
 *     begin, ranges, drops, cursor ─▶ pieces: [first, last], so many times settled, so many loose
 *
 * A record that the cursor has passed once was settled once: delivered, or skipped, or one of the
 * other columns.  What a seek gave up was not; what was gone back over was again.  Of what was
 * dropped nobody knows which had been settled before; the column says how many were not.
 *
 * Thread: main.   Memory: two pieces a range.   Time: the square of the ranges at worst.
 */
#ifndef MR_APP_AUDIT_PASSES_H
#define MR_APP_AUDIT_PASSES_H

#include "app/audit.h"

struct mr_piece {
    uint64_t first;
    uint64_t last;
    uint32_t settled;
    uint32_t loose; /* confirmed by the target's position, or in a range that was dropped: it is
                     * there, or not */
};

struct mr_passes {
    struct mr_piece *pieces; /* in order, without a hole; mr_free() */
    size_t count;
    uint64_t lost; /* of the column: known by ranges, not by a verdict on each */
};

/* Of the row's bridge and lane.  False: the ranges are not all that its books are of (an older
 * version put the cursor, or there were too many); `out` is empty.
 */
bool mr_passes_of(const struct mr_audit *audit, const struct mr_ledger_row *row,
                  struct mr_passes *out);

#endif
