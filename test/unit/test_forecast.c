/* test_forecast.c
 * links: journal os base
 *
 * Goal:   the time until a lane is full is right at a steady rate, follows a change within
 *         minutes, does not jump with a burst, and is never while nothing grows; each threshold
 *         is said once, and the end of the danger too.
 * Method: the clock and the bytes are numbers.
 */
#include "journal/forecast.h"

#include <stdio.h>

#define SECOND ((int64_t)1000000000)
#define MIB ((uint64_t)1 << 20)

static struct mr_forecast forecast;
static int64_t now_ns;
static uint64_t held;
static unsigned warned;
static unsigned over;

static void begin(void)
{
    forecast = (struct mr_forecast){0};
    now_ns = SECOND;
    held = 0;
    warned = 0;
    over = 0;
}

/* So many seconds at `rate` in a lane of `size`, ten rounds a second; the last answer. */
static int64_t run(unsigned seconds, int64_t rate, uint64_t size)
{
    int64_t answer = 0;

    for (unsigned i = 0; i < seconds * 10; i++) {
        now_ns += SECOND / 10;
        held = (uint64_t)((int64_t)held + rate / 10);
        answer = mr_forecast_step(&forecast, now_ns, held, size > held ? size - held : 0);
        enum mr_forecast_news news = mr_forecast_news(&forecast);
        warned += news == MR_FORECAST_WARN;
        over += news == MR_FORECAST_OVER;
    }
    return answer;
}

static bool about(int64_t seconds, int64_t expected)
{
    return seconds >= expected - expected / 10 - 1 && seconds <= expected + expected / 10 + 1;
}

static void test_steady(void)
{
    begin();
    mr_assert(run(5, (int64_t)MIB, 1000 * MIB) == MR_FORECAST_NEVER); /* too early to say */
    mr_assert(about(run(15, (int64_t)MIB, 1000 * MIB), 980));
    mr_assert(about(run(480, (int64_t)MIB, 1000 * MIB), 500));
    mr_assert(warned == 2); /* an hour, ten minutes */
    mr_assert(about(run(460, (int64_t)MIB, 1000 * MIB), 40));
    mr_assert(warned == 3 && over == 0);
    mr_assert(run(60, 0, 1000 * MIB) != 0);
}

static void test_nothing_grows(void)
{
    begin();
    held = 500 * MIB;
    mr_assert(run(200, 0, 1000 * MIB) == MR_FORECAST_NEVER);
    mr_assert(run(200, -(int64_t)MIB, 1000 * MIB) == MR_FORECAST_NEVER);
    mr_assert(warned == 0 && over == 0);
}

static void test_a_burst_does_not_alarm(void)
{
    begin();
    (void)run(120, 1000, 100000 * MIB);
    int64_t calm = run(1, 1000, 100000 * MIB);
    int64_t burst = run(1, 10 * (int64_t)MIB, 100000 * MIB);
    mr_assert(calm > 3600 && burst > 3600 && warned == 0);
}

static void test_the_danger_ends_and_returns(void)
{
    begin();
    (void)run(60, (int64_t)MIB, 1000 * MIB);
    mr_assert(warned == 1);
    mr_assert(run(600, -(int64_t)MIB / 20, 1000 * MIB) == MR_FORECAST_NEVER);
    mr_assert(over == 1);
    (void)run(120, (int64_t)MIB, 1000 * MIB);
    mr_assert(warned >= 2 && over == 1);
}

static void test_full(void)
{
    begin();
    mr_assert(run(60, (int64_t)MIB, 10 * MIB) == 0);
    mr_assert(warned == 1); /* all three at once are one line */
}

/* A size that grows a thousandfold: longer than can be said is never, and a danger that is hours
 * away is over.
 */
static void test_far_away(void)
{
    begin();
    mr_assert(run(30, 10, UINT64_C(1) << 60) == MR_FORECAST_NEVER && warned == 0);
    begin();
    mr_assert(run(30, (int64_t)MIB, 1000 * MIB) > 0 && warned == 1 && over == 0);
    mr_assert(run(1, (int64_t)MIB, 1000000 * MIB) > 7200 && over == 1);
}

int main(void)
{
    test_far_away();
    test_steady();
    test_nothing_grows();
    test_a_burst_does_not_alarm();
    test_the_danger_ends_and_returns();
    test_full();
    (void)puts("forecast: ok");
    return 0;
}
