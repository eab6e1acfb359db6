/* owed_internal.h - how much of a lane has still to be appended again by those who read it.
 *
 *     append: bytes += what a copy of the record takes ─▶ beyond `stop`: owed_has_room()?
 *     seal:   owed_mark()                                   no: events wait, BLOCKED_BY_READER
 *     mr_reader_done() ─▶ rings the owner if it waits for readers
 *
 * Thread: the owner's; `stop` is written under the lane's mutex.
 * Memory: inside the lane.   Time: an addition and a comparison per event.
 */
#ifndef MR_JOURNAL_OWED_INTERNAL_H
#define MR_JOURNAL_OWED_INTERNAL_H

#include "journal/journal.h"

enum { OWED_MARKS = 32 };

struct owed {
    uint64_t bytes;        /* that copies of all records since the start would take */
    _Atomic uint64_t stop; /* not beyond that without a look; UINT64_MAX: nobody holds the lane */
    uint64_t seq_start;    /* first record since the start */
    uint64_t marked;       /* `bytes` at the newest mark */
    uint32_t marks;        /* ever made */
    struct {
        uint64_t seq;
        uint64_t bytes; /* of what is in front of `seq` */
    } mark[OWED_MARKS];
};

/* `seq_next` is the first record to come. */
void mr_owed_start(struct mr_lane *lane, uint64_t seq_next);

/* A batch ends in front of `seq_next`. */
void mr_owed_mark(struct mr_lane *lane, uint64_t seq_next);

/* May another event be appended?  Sets `stop`. */
bool mr_owed_has_room(struct mr_lane *lane);

#endif
