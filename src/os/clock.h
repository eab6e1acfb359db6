/* clock.h - the two clocks.
 *
 * mono   never jumps; for time-outs, intervals, latencies
 * wall   Unix time; for time stamps people and Kafka see; may jump
 *
 * Thread: any.   Memory: none.   Time: ~20 ns a call (vDSO); loops read it once
 * per wake-up and pass it on.
 */
#ifndef MR_OS_CLOCK_H
#define MR_OS_CLOCK_H

#include "base/base.h"

int64_t mr_clock_mono_ns(void);
int64_t mr_clock_wall_us(void);

/* CPU time of this process so far, all threads; for benches and metrics. */
int64_t mr_clock_cpu_ns(void);

#endif
