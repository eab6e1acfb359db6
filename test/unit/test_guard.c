/* test_guard.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   an address that keeps failing is banned, longer each time, and no other; success
 *         and time forgive; v6 counts by /64 and mapped v4 as v4; flapping clients are
 *         banned; tables that overflow keep the bans; what is cleared is let in.
 * Method: the clock is a number.
 */
#include "base/text.h"
#include "broker/guard.h"

#include <stdio.h>

#define SECOND ((int64_t)1000000000)

static const struct mr_ban_conf bans = {
    .max_failures = 10, .time_us = 10000000, .max_time_us = 60000000};
static const struct mr_flapping_conf flapping = {
    .enable = true, .max_count = 3, .window_time_us = 60000000, .ban_time_us = 300000000};

static struct mr_guard *guard_open(void)
{
    struct mr_guard *guard = mr_guard_open();

    mr_guard_set(guard, &bans, &flapping);
    return guard;
}

/* Fail until a ban begins; its seconds. */
static uint32_t fail_until_banned(struct mr_guard *guard, const char *peer, int64_t now_ns)
{
    for (int i = 0; i < 1000; i++) {
        uint32_t seconds = mr_guard_failed(guard, peer, now_ns);
        if (seconds != 0) {
            return seconds;
        }
    }
    return 0;
}

static void test_bans_get_longer(void)
{
    static const uint32_t expected[] = {10, 20, 40, 60, 60};
    struct mr_guard *guard = guard_open();
    int64_t now_ns = SECOND;

    mr_assert(!mr_guard_bans_address(guard, "10.0.0.7:1", now_ns));
    for (size_t i = 0; i < MR_COUNT_OF(expected); i++) {
        mr_assert(fail_until_banned(guard, "10.0.0.7:1", now_ns) == expected[i]);
        mr_assert(mr_guard_bans_address(guard, "10.0.0.7:999", now_ns));
        mr_assert(!mr_guard_bans_address(guard, "10.0.0.8:1", now_ns));
        mr_assert(mr_guard_failed(guard, "10.0.0.7:1", now_ns) == 0); /* it does not count now */
        now_ns += expected[i] * SECOND;
        mr_assert(!mr_guard_bans_address(guard, "10.0.0.7:1", now_ns));
    }
    now_ns += 61 * SECOND; /* as long without one as the longest is: all is forgotten */
    mr_assert(fail_until_banned(guard, "10.0.0.7:1", now_ns) == 10);
    mr_guard_close(guard);
}

static void test_success_and_time_forgive(void)
{
    struct mr_guard *guard = guard_open();

    for (int i = 0; i < 500; i++) { /* a site where every second login is wrong */
        mr_assert(mr_guard_failed(guard, "10.0.0.7:1", SECOND) == 0);
        mr_guard_succeeded(guard, "10.0.0.7:1", SECOND);
    }
    for (int i = 0; i < 500; i++) { /* one failure in 6 s */
        mr_assert(mr_guard_failed(guard, "10.0.0.9:1", SECOND + 6 * i * SECOND) == 0);
    }
    mr_guard_close(guard);
}

static void test_networks(void)
{
    struct mr_guard *guard = guard_open();

    mr_assert(fail_until_banned(guard, "[2001:db8:1:2:aaaa::1]:5", SECOND) != 0);
    mr_assert(mr_guard_bans_address(guard, "[2001:db8:1:2::9]:1", SECOND));
    mr_assert(mr_guard_bans_address(guard, "[2001:db8:1:2:3:4:5:6]:1", SECOND));
    mr_assert(!mr_guard_bans_address(guard, "[2001:db8:1:3::9]:1", SECOND));
    mr_assert(fail_until_banned(guard, "[2001::5:6:7:8:9]:5", SECOND) != 0); /* 2001:0:0:5 */
    mr_assert(mr_guard_bans_address(guard, "[2001:0:0:5::1]:1", SECOND));
    mr_assert(!mr_guard_bans_address(guard, "[2001::6:0:0:0:1]:1", SECOND));
    mr_assert(fail_until_banned(guard, "[::ffff:10.1.2.3]:5", SECOND) != 0);
    mr_assert(mr_guard_bans_address(guard, "10.1.2.3:77", SECOND));
    mr_assert(fail_until_banned(guard, "127.0.0.1:5", SECOND) == 0);
    mr_assert(fail_until_banned(guard, "[::1]:5", SECOND) == 0);
    mr_assert(fail_until_banned(guard, "/run/millrace.sock", SECOND) == 0);
    mr_guard_close(guard);
}

static void test_a_banned_address_that_hammers_is_shut_out(void)
{
    struct mr_guard *guard = guard_open();
    int answered = 0;

    mr_assert(mr_guard_knock(guard, "10.0.0.7:1", 0, SECOND) == MR_GUARD_GO);
    mr_assert(fail_until_banned(guard, "10.0.0.7:1", SECOND) != 0);
    for (int i = 0; i < 1000; i++) { /* a second of it */
        answered +=
            mr_guard_knock(guard, "10.0.0.7:1", 0, SECOND + i * SECOND / 1000) != MR_GUARD_SHUT;
        mr_assert(mr_guard_knock(guard, "10.0.0.8:1", 0, SECOND) == MR_GUARD_GO);
    }
    mr_assert(answered >= 50 && answered <= 65);
    mr_guard_close(guard);
}

static void test_a_rate_holds_for_each_address(void)
{
    struct mr_guard *guard = guard_open();
    int gone = 0;

    for (int i = 0; i < 10000; i++) { /* ten seconds, twice as many as allowed */
        int64_t now_ns = SECOND + i * SECOND / 1000;
        gone += mr_guard_knock(guard, "10.0.0.7:1", 500, now_ns) == MR_GUARD_GO;
        if (i % 4 == 0) {
            mr_assert(mr_guard_knock(guard, "10.0.0.8:1", 500, now_ns) == MR_GUARD_GO);
        }
    }
    mr_assert(gone >= 5000 && gone <= 5501);
    mr_guard_close(guard);
}

static void test_flapping(void)
{
    struct mr_guard *guard = guard_open();
    struct mr_span id = mr_span_of("press-7");

    mr_assert(mr_guard_client_left(guard, id, SECOND) == 0);
    mr_assert(mr_guard_client_left(guard, id, 40 * SECOND) == 0);
    mr_assert(mr_guard_client_left(guard, id, 70 * SECOND) == 0); /* another window */
    mr_assert(mr_guard_client_left(guard, id, 71 * SECOND) == 0);
    mr_assert(!mr_guard_bans_client(guard, id, 71 * SECOND));
    mr_assert(mr_guard_client_left(guard, id, 72 * SECOND) == 300);
    mr_assert(mr_guard_bans_client(guard, id, 371 * SECOND));
    mr_assert(!mr_guard_bans_client(guard, mr_span_of("press-8"), 72 * SECOND));
    mr_assert(!mr_guard_bans_client(guard, id, 373 * SECOND));
    mr_guard_close(guard);
}

static void count_one(void *arg, const struct mr_ban_info *info)
{
    mr_assert(info->left_ns > 0 && info->times == 1 && info->who.len != 0);
    *(int *)arg += 1;
}

static void test_a_full_table_keeps_the_bans(void)
{
    struct mr_guard *guard = guard_open();
    int shown = 0;

    mr_assert(fail_until_banned(guard, "10.0.0.7:1", SECOND) != 0);
    for (uint32_t i = 0; i < 100000; i++) {
        char peer[64];
        struct mr_text text = mr_text_over(peer, sizeof(peer));
        mr_text_fmt(&text, "[2001:db8:%x:%x::1]:1", i >> 16, i & 0xffff);
        mr_assert(mr_guard_failed(guard, peer, SECOND + i) == 0);
    }
    mr_assert(mr_guard_bans_address(guard, "10.0.0.7:1", 2 * SECOND));
    mr_guard_each(guard, 2 * SECOND, count_one, &shown);
    mr_assert(shown == 1);
    mr_assert(mr_guard_clear(guard, mr_span_of("10.0.0.8"), 2 * SECOND) == 0);
    mr_assert(mr_guard_clear(guard, mr_span_of("10.0.0.7"), 2 * SECOND) == 1);
    mr_assert(!mr_guard_bans_address(guard, "10.0.0.7:1", 2 * SECOND));
    mr_assert(fail_until_banned(guard, "10.0.0.9:1", SECOND) == 10);
    mr_assert(mr_guard_clear(guard, (struct mr_span){.at = NULL}, 2 * SECOND) == 1);
    mr_guard_close(guard);
}

int main(void)
{
    test_bans_get_longer();
    test_success_and_time_forgive();
    test_networks();
    test_a_banned_address_that_hammers_is_shut_out();
    test_a_rate_holds_for_each_address();
    test_flapping();
    test_a_full_table_keeps_the_bans();
    printf("ok\n");
    return 0;
}
