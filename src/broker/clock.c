/* clock.c - a shard's clocks, and how long something has waited that is known by wall time.
 *
 *     steps:   [start of this process]   [set by +1 h]   [set by -1 y] ...    the last ones first
 *
 * DESIGN
 *
 * What expires is told by when it came or closed, in wall time, for that is what survives a
 * restart.  Somebody may set the wall clock meanwhile.  Each time is one more stretch of time
 * in which the clock ran true; a stretch begins with what the clock was set to, and ends with
 * what it showed when it was set again.  What something has waited is the sum of the stretches
 * since then.  The steps are rows of the session store, so that this holds for the runs before
 * as well.
 *
 * A clock that was set back shows some hours twice.  What came in one of them is taken for
 * having come in the later: so nothing ends early, and what was there before may stay for as
 * long as the clock was set back.
 *
 * Before the start nobody looked: the clock is believed to have run on, if it shows no earlier
 * time than what waits; else none of the time that we were away counts.
 */
#include "broker/broker_internal.h"

#include "os/clock.h"

enum {
    STEP_US = 500000,      /* more than a correction: somebody has set the clock */
    NOTICED_US = 10000000, /* other shards may see it so much earlier: we sleep until their
                            * events, which we get, are on the disk */
    AHEAD_US = 1000000, /* and what came in their turn, or was rounded, is so far ahead of ours */
};

static void steps_push(struct mr_shard *shard, int64_t before_us, int64_t after_us)
{
    memmove(&shard->steps[1], &shard->steps[0], sizeof(shard->steps) - sizeof(shard->steps[0]));
    shard->steps[0] = (struct clock_step){.before_us = before_us, .after_us = after_us};
}

void clock_begin(struct mr_shard *shard)
{
    shard->now_ns = shard->start_ns;
    shard->wall_us = mr_clock_wall_us();
    shard->wall_offset_us = shard->wall_us - shard->now_ns / 1000;
    steps_push(shard, shard->wall_us, shard->wall_us);
}

void clock_turn(struct mr_shard *shard)
{
    shard->now_ns = mr_clock_mono_ns();
    shard->wall_us = mr_clock_wall_us();
    int64_t offset_us = shard->wall_us - shard->now_ns / 1000;
    int64_t step_us = offset_us - shard->wall_offset_us;

    shard->wall_offset_us = offset_us; /* small corrections are followed silently */
    if (MR_LIKELY(step_us < STEP_US && step_us > -STEP_US)) {
        return;
    }
    steps_push(shard, shard->wall_us - step_us, shard->wall_us);
    shard->steps_new = true;
    if (shard->index == 0) {
        mr_log(MR_LOG_WARN, "mqtt",
               "the clock was set by %lld ms; expiry and delays go on as if it had not been",
               (long long)(step_us / 1000));
    }
}

static int64_t positive(int64_t us)
{
    return us > 0 ? us : 0;
}

int64_t shard_waited_us(const struct mr_shard *shard, int64_t at_us)
{
    int64_t waited_us = 0;
    int64_t end_us = shard->wall_us;

    for (int i = 0; i < CLOCK_STEPS && shard->steps[i].after_us != 0; i++) {
        const struct clock_step *step = &shard->steps[i];
        int64_t noticed_us = step->after_us < step->before_us ? NOTICED_US : 0;
        if (at_us >= step->after_us - noticed_us && at_us <= end_us + AHEAD_US) {
            break;
        }
        waited_us += positive(end_us - step->after_us);
        end_us = step->before_us;
    }
    return waited_us + positive(end_us - at_us);
}
