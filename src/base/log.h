/* log.h - one line per thing a person should know.
 *
 *     mr_log(MR_LOG_WARN, "bridge", "kafka is away: %s; retrying", reason);
 *     ts=2026-11-23T17:56:01.123Z level=warn component=bridge msg="kafka is ..."
 *
 * Messages go to stderr, whole lines at a time, never data.  Not for the event
 * path: an event that is worth a line is worth a counter, and the first of
 * its kind a line (mr_log_limit).
 *
 * Thread: any.  Memory: a stack buffer.  Time: os/ installs the clock.
 */
#ifndef MR_BASE_LOG_H
#define MR_BASE_LOG_H

#include "base/base.h"

#include <stdatomic.h>

enum mr_log_level { MR_LOG_DEBUG, MR_LOG_INFO, MR_LOG_WARN, MR_LOG_ERROR };

void mr_log(enum mr_log_level level, const char *component, const char *fmt, ...) MR_PRINTF(3, 4);

/* Lines below `level` are dropped (default INFO). */
void mr_log_set_level(enum mr_log_level level);

/* Where the time of a line comes from: Unix microseconds.  Before this call
 * lines carry no time.
 */
void mr_log_set_clock(int64_t (*unix_us)(void));

/* Without time stamps, with <n> priorities: what journald wants. */
void mr_log_set_journald(bool on);

/* Send lines to `write_line` instead of stderr (tests, the simulator). */
void mr_log_set_writer(void (*write_line)(const char *line, size_t len));

/* "Say it once every `interval`": true when a line may be written now; then
 * *suppressed is how many were held back since the last one.
 * One static object per message: static struct mr_log_limit limit;
 */
struct mr_log_limit {
    _Atomic int64_t last_us;
    _Atomic uint64_t held_back;
};
bool mr_log_allowed(struct mr_log_limit *limit, int64_t interval_us, uint64_t *suppressed);

#endif
