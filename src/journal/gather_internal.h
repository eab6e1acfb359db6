/* gather_internal.h - when the batch that gathers goes to the disk; see gather.c.
 *
 * Pure: sequence numbers and times in, a time to wait out.
 *
 * Thread: the lane's owner.   Memory: the struct.   Time: ~5 ns a call.
 */
#ifndef MR_JOURNAL_GATHER_INTERNAL_H
#define MR_JOURNAL_GATHER_INTERNAL_H

#include "base/base.h"

/* All zero, and `seq_next` of the lane in the first three: nothing was appended yet. */
struct gather {
    uint64_t seq_arrived; /* seq_next at the last look */
    uint64_t seq_handed;  /* seq_next when the last batch was handed over */
    uint64_t seq_before;  /* and the one before that */
    int64_t arrived_ns;   /* when seq_arrived was new */
    int64_t handed_ns;
    int64_t done_ns;       /* when the last commit was seen to be done */
    uint64_t busy_records; /* that arrived while it ran */
    int64_t busy_ns_sum;   /* how long commits ran, and what arrived meanwhile: sums that fade */
    uint64_t busy_records_sum;
    uint32_t records_ewma; /* records per batch, times 8 */
    int64_t nap_lead_ns;   /* so long before a batch goes is reading begun, at present */
    enum { COMMIT_COUNTED, COMMIT_RUNS, COMMIT_DONE } commit;
    bool napped; /* since the last batch was handed over */
};

void mr_gather_start(struct gather *gather, uint64_t seq_next);

/* A batch of `count` records was sealed, for whatever reason. */
void mr_gather_sealed(struct gather *gather, uint32_t count);

/* Look at what has arrived; `busy`: the disk has not finished what it was given. */
void mr_gather_look(struct gather *gather, uint64_t seq_next, bool busy, int64_t now_ns);

/* Behind a look, the disk being free and a batch open: how long it goes on gathering, at
 * most `limit_ns` after the last one was handed over.  0: it goes now.
 */
int64_t mr_gather_left_ns(const struct gather *gather, int64_t limit_ns, int64_t now_ns);

/* Do events come in such a way that they may be left unread for a while? */
bool mr_gather_naps(const struct gather *gather, int64_t limit_ns);

/* If so, for how long, because what is read would only wait: 0, or some 50 us and more.  May
 * be asked while the disk is busy.
 */
int64_t mr_gather_nap_ns(struct gather *gather, int64_t limit_ns, int64_t now_ns);

/* Everything up to there goes to the disk now. */
void mr_gather_handed(struct gather *gather, int64_t limit_ns, int64_t now_ns);

#endif
