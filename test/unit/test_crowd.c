/* test_crowd.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   an address has its maximum at each listener, some more are told so, further ones shut
 *         out; who leaves makes room; v6 counts by /64; thousands of addresses that come and go
 *         in any order are counted right.
 * Method: a model: an array of counts.
 */
#include "broker/crowd.h"

#include <stdio.h>
#include <stdlib.h>

enum { ADDRESSES = 3000, STEPS = 200000 };

static void test_a_maximum_for_each_address_and_listener(void)
{
    struct crowd *crowd = crowd_open();

    mr_assert(crowd_enter(crowd, 0, "10.0.0.7:1", 2) == CROWD_FITS);
    mr_assert(crowd_enter(crowd, 0, "10.0.0.7:2", 2) == CROWD_FITS);
    mr_assert(!crowd_is_beyond(crowd, 0, "10.0.0.7:2", 2));
    for (int i = 0; i < CROWD_SURPLUS; i++) {
        mr_assert(crowd_enter(crowd, 0, "10.0.0.7:3", 2) == CROWD_BEYOND);
    }
    mr_assert(crowd_enter(crowd, 0, "10.0.0.7:4", 2) == CROWD_SHUT);
    mr_assert(crowd_is_beyond(crowd, 0, "10.0.0.7:5", 2));
    mr_assert(crowd_enter(crowd, 1, "10.0.0.7:5", 2) == CROWD_FITS);
    mr_assert(crowd_enter(crowd, 0, "10.0.0.8:5", 2) == CROWD_FITS);
    for (int i = 0; i <= CROWD_SURPLUS; i++) {
        crowd_leave(crowd, 0, "10.0.0.7:1");
    }
    mr_assert(!crowd_is_beyond(crowd, 0, "10.0.0.7:2", 2));
    mr_assert(crowd_enter(crowd, 0, "10.0.0.7:1", 2) == CROWD_FITS);
    mr_assert(crowd_enter(crowd, 0, "unix/0:7", 1) == CROWD_NOBODY);
    mr_assert(crowd_enter(crowd, 0, "[2001:db8:1:2::7]:1", 1) == CROWD_FITS);
    mr_assert(crowd_enter(crowd, 0, "[2001:db8:1:2:3::8]:1", 1) == CROWD_BEYOND);
    mr_assert(crowd_enter(crowd, 0, "[2001:db8:1:3::7]:1", 1) == CROWD_FITS);
    crowd_close(crowd);
}

static const char *peer_of(int number, char out[32])
{
    (void)snprintf(out, 32, "10.1.%d.%d:5", number / 256, number % 256);
    return out;
}

static void test_many_come_and_go(void)
{
    static uint32_t counts[ADDRESSES];
    struct crowd *crowd = crowd_open();
    char peer[32];

    srand(7);
    for (int i = 0; i < STEPS; i++) {
        int number = rand() % ADDRESSES;
        bool enters = rand() % 8 < (i < STEPS / 2 ? 5 : 3);
        if (enters) {
            enum crowd_says says = crowd_enter(crowd, 3, peer_of(number, peer), 4);
            mr_assert(says == (counts[number] < 4                   ? CROWD_FITS
                               : counts[number] < 4 + CROWD_SURPLUS ? CROWD_BEYOND
                                                                    : CROWD_SHUT));
            counts[number] += says != CROWD_SHUT;
        } else if (counts[number] != 0) {
            crowd_leave(crowd, 3, peer_of(number, peer));
            counts[number] -= 1;
        }
    }
    for (int number = 0; number < ADDRESSES; number++) {
        mr_assert(crowd_is_beyond(crowd, 3, peer_of(number, peer), 1) == (counts[number] > 1));
        for (; counts[number] != 0; counts[number]--) {
            crowd_leave(crowd, 3, peer_of(number, peer));
        }
    }
    crowd_close(crowd);
}

int main(void)
{
    test_a_maximum_for_each_address_and_listener();
    test_many_come_and_go();
    printf("ok\n");
    return 0;
}
