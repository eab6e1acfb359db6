/* position_internal.h - targets that keep a position of their own, beside the data.
 *
 *     the sink's found and stands ─▶ position.c ─▶ where the worker goes on, what may retire
 *
 * Thread: the worker's.   Memory: inside the bridge.   Time: one branch a turn once PLACED.
 */
#ifndef MR_PIPELINE_POSITION_INTERNAL_H
#define MR_PIPELINE_POSITION_INTERNAL_H

#include "pipeline/bridge.h"

enum position_state {
    POSITION_NONE,    /* this target keeps none, or none that counts */
    POSITION_LEFT,    /* it may have one, which is out of date; the cursor is to say so first */
    POSITION_ASKED,   /* the sink is finding out */
    POSITION_FOUND,   /* where to go on is to be decided */
    POSITION_PLACING, /* the target is told */
    POSITION_AGREED,  /* it agrees, the cursor is to follow it */
    POSITION_PLACED,  /* it does: what is submitted goes on from there */
};

struct position {
    enum position_state state;
    bool known; /* the target has one */
    bool said;  /* the log has where this bridge goes on */
    uint64_t found_seq;
    uint32_t found_epoch;
    char where[128];
    uint64_t placing_seq;
    uint64_t seq; /* where the target stands: nothing behind it retires */
};

void mr_position_asked(struct mr_bridge *bridge);                /* the sink was opened */
bool mr_position_turn(struct mr_bridge *bridge, int64_t now_ns); /* true: submit */
void mr_position_moved(struct mr_bridge *bridge); /* by the operator: the target must be told */

#endif
