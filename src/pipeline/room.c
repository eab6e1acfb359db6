/* room.c - a write of the bridge's cursor that found no room on the disk.
 *
 * Nothing is broken then: nothing was changed, the bridge stays where it is, and tries again after
 * a while, until there is room.  The log has it once, with what waits for it.
 */
#include "pipeline/bridge_internal.h"

static const int64_t pause_ns = NS_PER_S;

void mr_room_missing(struct mr_bridge *b, const char *what, int64_t now_ns)
{
    mr_log(b->room.said ? MR_LOG_DEBUG : MR_LOG_WARN, "bridge",
           "%s: lane %u %s as soon as the disk of the journal has room to write its cursor; make "
           "room on it",
           b->name, b->options.lane, what);
    b->room.said = true;
    b->room.not_before_ns = now_ns + pause_ns;
}

bool mr_room_is_awaited(const struct mr_bridge *b, int64_t now_ns)
{
    return now_ns < b->room.not_before_ns;
}

void mr_room_found(struct mr_bridge *b)
{
    if (b->room.said) {
        mr_log(MR_LOG_INFO, "bridge", "%s: lane %u: there is room on the disk again", b->name,
               b->options.lane);
    }
    b->room = (struct room){.said = false};
}
