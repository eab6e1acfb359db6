/* forecast.c - see forecast.h.
 *
 * DESIGN
 *
 * One sample a second.  The rate is an exponential mean with a time constant of a minute, and the
 * plain mean of all samples until there are so many, so that it is right from the first ones on.
 * Ten samples are asked for before anything is said.
 *
 * Rejected: a straight line through a window of samples.  It needs the samples, and says the same.
 */
#include "journal/forecast.h"

enum { SAMPLE_NS = 1000000000, MEAN_SAMPLES = 60, SAMPLES_LEAST = 10, OVER_SECONDS = 7200 };

static const int64_t thresholds[] = {3600, 600, 60}; /* seconds, said one after the other */

static void sample_take(struct mr_forecast *forecast, int64_t now_ns, uint64_t held)
{
    double seconds = (double)(now_ns - forecast->sample_ns) / 1e9;
    double rate = ((double)held - (double)forecast->sample_held) / seconds;
    uint32_t of = forecast->samples < MEAN_SAMPLES ? forecast->samples + 1 : MEAN_SAMPLES;

    forecast->rate += (rate - forecast->rate) / of;
    forecast->samples += 1;
    forecast->sample_ns = now_ns;
    forecast->sample_held = held;
}

bool mr_forecast_is_due(const struct mr_forecast *forecast, int64_t now_ns)
{
    return forecast->sample_ns == 0 || now_ns - forecast->sample_ns >= SAMPLE_NS;
}

int64_t mr_forecast_step(struct mr_forecast *forecast, int64_t now_ns, uint64_t held, uint64_t room)
{
    if (forecast->sample_ns == 0) {
        forecast->sample_ns = now_ns;
        forecast->sample_held = held;
        forecast->seconds = MR_FORECAST_NEVER;
    }
    if (now_ns - forecast->sample_ns >= SAMPLE_NS) {
        sample_take(forecast, now_ns, held);
        bool fills = forecast->samples >= SAMPLES_LEAST && forecast->rate >= 1;
        double seconds = fills ? (double)room / forecast->rate : 0;
        forecast->seconds =
            fills && seconds < (double)INT32_MAX ? (int64_t)seconds : MR_FORECAST_NEVER;
    }
    return forecast->seconds;
}

enum mr_forecast_news mr_forecast_news(struct mr_forecast *forecast)
{
    uint8_t reached = 0;

    if (forecast->said != 0 &&
        (forecast->seconds == MR_FORECAST_NEVER || forecast->seconds > OVER_SECONDS)) {
        forecast->said = 0;
        return MR_FORECAST_OVER;
    }
    while (forecast->seconds != MR_FORECAST_NEVER && reached < MR_COUNT_OF(thresholds) &&
           forecast->seconds < thresholds[reached]) {
        reached += 1;
    }
    if (reached > forecast->said) {
        forecast->said = reached;
        return MR_FORECAST_WARN;
    }
    return MR_FORECAST_NO_NEWS;
}
