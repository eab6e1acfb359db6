/* start_internal.h - where a new bridge begins: start.c.
 *
 *     start: oldest | now | TIME ─▶ struct start ─▶ a cursor in each lane
 *
 * Thread: the main thread, before a worker runs.   Memory: the caller's.
 * Time:   a TIME is looked for by halving the lane, a view read each time.
 */
#ifndef MR_PIPELINE_START_INTERNAL_H
#define MR_PIPELINE_START_INTERNAL_H

#include "journal/cursor.h"

struct start {
    enum mr_cursor_start kind;
    bool is_time;
    int64_t time_us;
};
enum mr_err mr_start_parse(const char *text, struct start *out, struct mr_error *why) MR_MUST_USE;
struct start_at {
    struct mr_journal *journal;
    const char *name; /* the bridge's */
    uint32_t lane;
};
/* The bridge's cursor in this lane; a new one begins as `start` says, and a log line says so. */
enum mr_err mr_start_cursor(const struct start_at *at, const struct start *start,
                            struct mr_cursor **out, struct mr_error *why) MR_MUST_USE;

/* bridge.c: what shaping needs, without a journal or a sink; undone by _fini(). */

#endif
