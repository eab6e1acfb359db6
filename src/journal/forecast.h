/* forecast.h - when will a lane be full, at the rate at which it fills?
 *
 *     keeper, every round ─▶ mr_forecast_step(now, held, room) ─▶ seconds, or MR_FORECAST_NEVER
 *                                     └─▶ mr_forecast_news() ─▶ a line worth a person's attention
 *
 * What counts is what somebody still needs, not what lies there because there is room.  The rate
 * is a mean over about a minute, so that neither a burst nor a pause makes the figure jump.
 *
 * Thread: the keeper's.   Memory: in the lane.   Time: ~20 ns a round.
 */
#ifndef MR_JOURNAL_FORECAST_H
#define MR_JOURNAL_FORECAST_H

#include "base/base.h"

enum { MR_FORECAST_NEVER = -1 };

struct mr_forecast {
    int64_t sample_ns; /* of the last sample; 0: none yet */
    uint64_t sample_held;
    double rate;      /* bytes a second */
    uint32_t samples; /* that `rate` is made of */
    int64_t seconds;  /* the last answer */
    uint8_t said;     /* thresholds whose line has been given */
};

/* Is it time for another sample?  Until then a step only gives the last answer again, and whoever
 * would have to find out what it asks for can save that.
 */
bool mr_forecast_is_due(const struct mr_forecast *forecast, int64_t now_ns);

/* `held`: bytes somebody needs; `room`: how many more there is place for.  The seconds until
 * there is none, MR_FORECAST_NEVER while it does not fill up or nobody can tell yet.
 */
int64_t mr_forecast_step(struct mr_forecast *forecast, int64_t now_ns, uint64_t held,
                         uint64_t room);

enum mr_forecast_news { MR_FORECAST_NO_NEWS, MR_FORECAST_WARN, MR_FORECAST_OVER };

/* After a step: WARN once when the answer falls below an hour, ten minutes, a minute; OVER once
 * when it is well above again.
 */
enum mr_forecast_news mr_forecast_news(struct mr_forecast *forecast);

#endif
