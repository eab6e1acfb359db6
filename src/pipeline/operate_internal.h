/* operate_internal.h - what the operator may want of a worker.
 *
 *     control plane ─▶ seek (seek.c), letters done (letters.c) ─▶ the worker, between two
 *     turns (call.c) ─▶ the asker, who has waited
 *
 * Thread: asked by threads of the control plane, done by the worker.
 * Memory: calls lie on the asker's stack.   Time: one load a turn while nothing is asked.
 */
#ifndef MR_PIPELINE_OPERATE_INTERNAL_H
#define MR_PIPELINE_OPERATE_INTERNAL_H

#include "pipeline/bridge.h"

/* What the control plane wants of the worker; seek.c. */
enum seek_state {
    SEEK_NONE,
    SEEK_WANTED, /* the asker may still go */
    SEEK_TAKEN,  /* it is being made: the asker waits however long that takes */
    SEEK_DONE,
};
struct seek {
    enum seek_state state;
    uint64_t seq;     /* wanted, then where it went */
    int64_t since_ns; /* when the worker first saw it; 0: not yet */
    enum mr_err err;
    struct mr_wake *asker;
};

/* Something else the worker shall do between two turns, on the asker's stack. */
struct bridge_call {
    bool (*run)(struct mr_bridge *bridge, struct bridge_call *call); /* true: it is over */
    enum mr_err err;
    struct bridge_call *next; /* one that came before, and is not over */
    bool over;                /* under the mutex */
    bool refused;
    struct mr_wake wake;
};

/* seek.c: do what is wanted, if it can be done now; false: nothing is wanted. */
bool mr_seek_turn(struct mr_bridge *bridge, int64_t now_ns);

/* seek.c: all that was in flight is forgotten, the bridge goes on behind *seq, or behind what
 * the lane lacks; on disk when this returns.  FULL: the disk has no room for the cursor, nothing
 * was changed.  Else not OK: it had to stop.
 */
enum mr_err mr_worker_move(struct mr_bridge *bridge, uint64_t *seq,
                           enum mr_cursor_rule rule) MR_MUST_USE;

/* seek.c: the cursor was put to `seq`, as above. */
enum mr_err mr_worker_moved(struct mr_bridge *bridge, uint64_t seq) MR_MUST_USE;

/* letters.c */
struct seqs {
    struct mr_seq_range *items;
    size_t count;
    size_t room;
};
void mr_seqs_add(struct seqs *set, uint64_t first, uint64_t last);
bool mr_seqs_has(const struct seqs *set, uint64_t seq); /* of one in order */
void mr_seqs_free(struct seqs *set);

/* Every letter that is still there. */
enum mr_err mr_letters_each(struct mr_bridge *bridge,
                            void (*each)(struct mr_bridge *bridge, const struct mr_event *letter),
                            struct mr_error *why) MR_MUST_USE;

/* call.c: have the worker do it, and wait. */
enum mr_err mr_worker_call(struct mr_bridge *bridge, struct bridge_call *call,
                           struct mr_error *why) MR_MUST_USE;
void mr_call_turn(struct mr_bridge *bridge);

#endif
