/* unread.c - see unread_internal.h.
 *
 * A call to the disk may fail for a while only: the process has no descriptor left, a cable or a
 * controller has a bad moment, a network disk is away.  The reader is where it was, so the bridge
 * asks it again, with pauses from retry_min to retry_max, and needs no restart.
 */
#include "pipeline/bridge_internal.h"

#include "os/file.h"

#include <inttypes.h>
#include <stdio.h>

void mr_unread(struct mr_bridge *b, int64_t now_ns)
{
    char why[REASON_MAX];

    snprintf(why, sizeof(why), "the journal cannot be read: %s", mr_file_last_cause());
    if (b->unread.attempt == 0) {
        mr_log(MR_LOG_ERROR, "bridge",
               "%s: waits in front of record %" PRIu64
               " of lane %u: %s; nothing is lost, it is tried again; check the disk, or raise "
               "LimitNOFILE= if the descriptors have run out",
               b->name, mr_reader_seq(b->reader), b->options.lane, why);
    }
    mr_port_error(b, why);
    b->unread.seq = mr_reader_seq(b->reader);
    b->unread.not_before_ns = now_ns + mr_worker_pause_ns(b, b->unread.attempt);
    b->unread.attempt += 1;
}

bool mr_unread_waits(const struct mr_bridge *b, int64_t now_ns)
{
    return now_ns < b->unread.not_before_ns;
}

void mr_unread_over(struct mr_bridge *b)
{
    mr_log(MR_LOG_INFO, "bridge", "%s: lane %u: the journal can be read again", b->name,
           b->options.lane);
    mr_port_error(b, "");
    b->unread = (struct unread){.attempt = 0};
}
