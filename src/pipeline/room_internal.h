/* room_internal.h - a write of the bridge's cursor that found no room on the disk.
 *
 *     FULL ─▶ mr_room_missing(): said once ─ mr_room_is_awaited() for a while ─▶ it is tried again
 *     OK ─▶ mr_room_found()
 *
 * Thread: the worker's.   Memory: inside the bridge.   Time: a comparison.
 */
#ifndef MR_PIPELINE_ROOM_INTERNAL_H
#define MR_PIPELINE_ROOM_INTERNAL_H

#include "pipeline/bridge.h"

struct room {
    bool said;             /* the log has that there is none */
    int64_t not_before_ns; /* tried again then */
};

/* Its cursor could not be written, and `what` (the end of the sentence "lane 0 ...") waits for it.
 */
void mr_room_missing(struct mr_bridge *bridge, const char *what, int64_t now_ns);
bool mr_room_is_awaited(const struct mr_bridge *bridge, int64_t now_ns);
void mr_room_found(struct mr_bridge *bridge);

#endif
