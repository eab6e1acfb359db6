/* live_internal.h - fresh events ahead of a backlog: a second worker in a lane.
 *
 *     the bridge ── far behind ─▶ begins a second position (journal/live.h) ─▶ its second
 *     worker goes on there; it carries the backlog at a limited rate, marked
 *     ── the backlog is through ─▶ the second one ends ─▶ one position again
 *
 * Thread: struct live is the first worker's.  The second one's own state is that of any bridge;
 *         who may touch it is said by its live_state, which changes hands with it.
 * Memory: a second bridge, made with the first where it may be needed; it is idle, and what
 *         it has reserved untouched, until then.
 * Time:   a branch a turn where there is none.
 */
#ifndef MR_PIPELINE_LIVE_INTERNAL_H
#define MR_PIPELINE_LIVE_INTERNAL_H

#include "pipeline/bridge.h"

/* Of the second worker. */
enum live_state {
    LIVE_IDLE,    /* the first one's to begin */
    LIVE_RUNS,    /* its own thread's */
    LIVE_JOINING, /* it shall end when the target has all that was offered */
    LIVE_LEAVING, /* it shall end soon, what is in flight may come again */
    LIVE_ENDED,   /* the first one's: its cursor is what it has settled, nothing is in flight */
    LIVE_FENCING, /* its own thread's: its position is gone, what it may have under way at the
                     target is to end before anything else is delivered */
};

/* Of a bridge that may have a second worker. */
struct live {
    struct mr_bridge *worker; /* NULL: it never has */
    bool open;                /* there are two positions */
    bool wanted;              /* there shall be, as soon as nothing is in flight */
    bool refused;             /* there cannot be; the log has it */
    uint64_t from;            /* the backlog ends here */
    int64_t since_ns;         /* that it is wanted; of the second worker: that it shall end */
    uint64_t tokens;          /* records of the backlog that may be offered now */
    int64_t refilled_ns;
    uint64_t per_second;
    uint64_t counted; /* what the second one had delivered then */
    int64_t counted_ns;
};

/* ---- the first worker's ---- */

/* The second position that the disk has, and a worker where one may be needed. */
enum mr_err mr_live_create(struct mr_bridge *bridge, struct mr_error *why) MR_MUST_USE;

/* Begin or join, if it is time for that.  True: nothing is to be offered in this turn. */
bool mr_live_turn(struct mr_bridge *bridge, int64_t now_ns);

/* Nothing more is to be offered while something is in flight. */
bool mr_live_waits(const struct mr_bridge *bridge);

/* The second one has ended, or there is none; false: it was told to, look again. */
bool mr_live_left(struct mr_bridge *bridge);
void mr_live_closed(struct mr_bridge *bridge); /* there is one position again, on disk */

/* Of a target that keeps a position: it shall end what the second one may have under way; then
 * nothing more comes of that.
 */
void mr_live_fence(struct mr_bridge *bridge);
bool mr_live_is_fenced(const struct mr_bridge *bridge);

/* How many records of the backlog may be offered now, of at most `records_max`; they were. */
uint32_t mr_live_allowed(struct mr_bridge *bridge, uint32_t records_max, int64_t now_ns);
void mr_live_spend(struct mr_bridge *bridge, uint32_t count);

/* ---- the second worker's ---- */

bool mr_live_is_idle(const struct mr_bridge *bridge);
bool mr_live_is_ending(const struct mr_bridge *bridge);
bool mr_live_is_fencing(const struct mr_bridge *bridge);
bool mr_live_ends(struct mr_bridge *bridge, int64_t now_ns); /* true: nothing is to be offered */

/* ---- either's ---- */

/* Held by the operator. */
bool mr_live_is_held(const struct mr_bridge *bridge);

#endif
