/* foreign_internal.h - another shard's lane, for foreign.c and rehome.c; the own lane and those
 * that have ended, for share_lanes.c.
 *
 * Thread: the reading shard's.   Memory: one for each lane, made at open.   Time: none.
 */
#ifndef MR_BROKER_FOREIGN_INTERNAL_H
#define MR_BROKER_FOREIGN_INTERNAL_H

#include "journal/cursor.h"
#include "journal/reader.h"

#define LANE_RETRY_NS INT64_C(1000000000) /* after a read that the disk refused */

/* A lane, as far as this shard has read it. */
struct foreign_lane {
    struct mr_reader *reader; /* NULL: there is nothing to look for */
    struct mr_cursor *cursor; /* of all shards that read it; NULL: no session store */
    uint64_t pos;             /* everything at or below has been dealt with */
    uint64_t pos_told;        /* ... as the own lane's records say it */
    uint64_t pos_sealed;      /* ... as of the checkpoint under way */
    uint64_t pos_stored;      /* ... as of the last one */
    struct mr_view view;      /* being walked, if `view_open` */
    struct mr_view_at at;
    int64_t retry_ns; /* the disk refused a read: not before this; 0: it did not */
    bool view_open;
};

/* True: the time to try again has come.  Once. */
static inline bool lane_retry_is_due(struct foreign_lane *foreign, int64_t now_ns)
{
    bool due = foreign->retry_ns != 0 && now_ns >= foreign->retry_ns;

    foreign->retry_ns = due ? 0 : foreign->retry_ns;
    return due;
}

/* A lane of a shard that is no more, in which there may be events that groups have not been given.
 */
struct ended_lane {
    struct foreign_lane route;
    uint32_t lane;
};

#endif
