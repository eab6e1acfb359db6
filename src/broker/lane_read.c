/* lane_read.c - a shard's reader of a lane; see foreign_internal.h.
 *
 * What it has not read is held: copies of it may have to be appended, and there must be room for
 * them (journal/owed.c).  So while a read that the disk refused waits to be tried again, a new
 * reader holds the place.
 */
#include "broker/foreign_internal.h"
#include "broker/shard_internal.h"

enum { VIEW_BYTES = 64 << 10 };

#define RETRY_NS INT64_C(1000000000)

void lane_read_open(struct mr_shard *shard, struct foreign_lane *foreign, uint32_t lane)
{
    struct mr_reader_options options = {
        .pins_max = 1, .view_bytes_max = VIEW_BYTES, .wake = &shard->wake, .holds = true};
    enum mr_err err = mr_reader_open(&foreign->reader, shard->broker->run.journal, lane,
                                     foreign->pos + 1, &options, NULL);

    mr_assert(err == MR_OK); /* there is such a lane */
}

void lane_read_close(struct foreign_lane *foreign)
{
    if (foreign->view_open) {
        mr_view_unpin(&foreign->view);
        foreign->view_open = false;
    }
    if (foreign->reader != NULL) {
        mr_reader_close(foreign->reader);
        foreign->reader = NULL;
    }
}

void lane_read_wait(struct mr_shard *shard, struct foreign_lane *foreign, uint32_t lane)
{
    struct mr_reader *failed = foreign->reader;

    lane_read_open(shard, foreign, lane);
    mr_reader_close(failed);
    foreign->retry_ns = shard->now_ns + RETRY_NS;
}

bool lane_read_is_due(struct foreign_lane *foreign, int64_t now_ns)
{
    bool due = foreign->retry_ns != 0 && now_ns >= foreign->retry_ns;

    foreign->retry_ns = due ? 0 : foreign->retry_ns;
    return due;
}
