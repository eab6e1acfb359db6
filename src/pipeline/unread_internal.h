/* unread_internal.h - a part of the journal that cannot be read just now.
 *
 *     EIO, EMFILE, ... ─▶ mr_unread(): said once ─ mr_unread_waits() for a while ─▶ it is tried
 * again something was read ─▶ mr_unread_over()
 *
 * Thread: the worker's.   Memory: inside the bridge.   Time: a comparison a view.
 */
#ifndef MR_PIPELINE_UNREAD_INTERNAL_H
#define MR_PIPELINE_UNREAD_INTERNAL_H

#include "pipeline/bridge.h"

struct unread {
    uint32_t attempt;      /* failures in a row; 0: none */
    uint64_t seq;          /* in front of which it waits */
    int64_t not_before_ns; /* tried again then */
};

/* Reading has just failed (mr_file_last_cause()): what is in flight goes on, nothing is passed
 * over, and it is tried again after a while.
 */
void mr_unread(struct mr_bridge *bridge, int64_t now_ns);
bool mr_unread_waits(const struct mr_bridge *bridge, int64_t now_ns);
void mr_unread_over(struct mr_bridge *bridge);

#endif
