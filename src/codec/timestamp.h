/* timestamp.h - what devices send as a time, as Unix microseconds.
 *
 *     1763920561            seconds       1763920561123456      microseconds
 *     1763920561.25         seconds       1763920561123456789   nanoseconds
 *     1763920561123         milliseconds  2025-11-23T17:56:01.123Z
 *
 * The unit of a number is told by its size: below 10^11 it is seconds (until the year
 * 5138), below 10^14 milliseconds, below 10^17 microseconds, else nanoseconds.  So
 * milliseconds before March 1973 would pass for seconds; who has such times names the
 * unit.  Numbers are read digit by digit: no rounding, whatever their length.
 *
 * Thread: pure functions.   Memory: none.   Time: ~10 ns.
 */
#ifndef MR_CODEC_TIMESTAMP_H
#define MR_CODEC_TIMESTAMP_H

#include "base/span.h"

enum mr_time_unit {
    MR_TIME_AUTO, /* a number of any unit, or RFC 3339 */
    MR_TIME_S,
    MR_TIME_MS,
    MR_TIME_US,
    MR_TIME_NS,
    MR_TIME_RFC3339,
};

/* NULL, and *out_us is the time; what is finer is cut off.  Else static text that
 * goes on after the value: "is not a number".
 *
 * A number is one of JSON (sign, fraction, exponent).  RFC 3339 with the usual
 * liberties: a blank or a small letter for T, an offset without its colon; a time
 * without an offset is refused, because it says nothing.
 */
const char *mr_timestamp_read(struct mr_span text, enum mr_time_unit unit,
                              int64_t *out_us) MR_MUST_USE;

#endif
