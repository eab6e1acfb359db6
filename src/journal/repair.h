/* repair.h - make a damaged journal whole again, without destroying anything.
 *
 *     each segment ─▶ valid batches │ ranges that are lost ─▶ none: it is left as it is
 *                                                          └▶ a new file: the batches, and a gap
 *                        record for each lost range; the old file goes to `damaged`
 *
 * A gateway lives with damage too: it reports it at each start and passes over it.  After a repair
 * the journal says itself what is missing, so `journal verify` is content and the next damage is
 * seen as such.  The files taken out lie as they were in JOURNAL/damaged/lane-NN/, to be looked
 * into, or deleted, by hand.
 *
 * Thread: one.   Memory: a few MiB.   Time: the disk's, three times the size of what is damaged.
 */
#ifndef MR_JOURNAL_REPAIR_H
#define MR_JOURNAL_REPAIR_H

#include "journal/journal.h"

/* A range of a lane that cannot be read any more.  Borrowed for the call. */
struct mr_repair_loss {
    const char *path;
    uint64_t pos; /* 0: the header, or the whole file */
    uint64_t seq_first;
    uint64_t seq_last;
    uint32_t lane;
    bool names; /* the events read back, but not who sent them and to which topic */
};

struct mr_repair {
    bool dry_run; /* only look */
    void (*lost)(void *arg, const struct mr_repair_loss *loss);
    void *arg;

    /* What was found; out. */
    uint64_t segments;         /* looked at */
    uint64_t segments_damaged; /* written anew, unless it is a dry run */
    uint64_t seqs_lost;
};

/* Look at every lane and repair what is damaged.  `journal` was opened with `cursors_only` and, to
 * keep everybody else out, not `read_only`.  May be called again after any end, a crash included.
 * MR_ERR_IO, MR_ERR_FULL: the disk, and nothing is worse than before; MR_ERR_CONFIG: a segment of
 * a newer version, or of another journal.
 */
enum mr_err mr_journal_repair(struct mr_journal *journal, struct mr_repair *repair,
                              struct mr_error *why) MR_MUST_USE;

#endif
