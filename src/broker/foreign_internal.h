/* foreign_internal.h - another shard's lane, for foreign.c and rehome.c; the own lane and those
 * that have ended, for share_lanes.c.
 *
 * Thread: the reading shard's.   Memory: one for each lane, made at open.   Time: none.
 */
#ifndef MR_BROKER_FOREIGN_INTERNAL_H
#define MR_BROKER_FOREIGN_INTERNAL_H

#include "journal/cursor.h"
#include "journal/reader.h"

struct mr_shard;

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

/* A lane of a shard that is no more, in which there may be events that groups have not been given.
 */
struct ended_lane {
    struct foreign_lane route;
    uint32_t lane;
};

/* ---- reading it (lane_read.c) ---- */

/* From behind `pos` on; what is not read is held. */
void lane_read_open(struct mr_shard *shard, struct foreign_lane *foreign, uint32_t lane);
void lane_read_close(struct foreign_lane *foreign);

/* The disk has refused a read of it: to be tried again at the same place, a little later. */
void lane_read_wait(struct mr_shard *shard, struct foreign_lane *foreign, uint32_t lane);

/* True: the time to try again has come.  Once. */
bool lane_read_is_due(struct foreign_lane *foreign, int64_t now_ns);

#endif
