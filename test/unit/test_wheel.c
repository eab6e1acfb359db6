/* test_wheel.c
 * links: net base
 *
 * Goal:   every node comes up exactly once, not before its tick, and at the first
 *         look after it, however far ticks jump.
 * Method: edges by hand, then a seeded random walk against a plain array.  Replay
 *         with: ./test_wheel <seed>
 */
#include "base/rng.h"
#include "net/wheel.h"

#include <stdio.h>
#include <stdlib.h>

enum { NODES = 300 };

static void test_edges(void)
{
    struct mr_wheel wheel;
    struct mr_wheel_node a = {0};
    struct mr_wheel_node b = {0};

    mr_wheel_init(&wheel, 10);
    mr_assert(mr_wheel_expired(&wheel, 12) == NULL);
    mr_wheel_cancel(&wheel, &a); /* not set: nothing happens */
    mr_wheel_set(&wheel, &a, 3); /* past: comes up next */
    mr_wheel_set(&wheel, &b, 13 + MR_WHEEL_SLOTS);
    mr_assert(mr_wheel_expired(&wheel, 13) == &a && a.next == NULL);
    mr_assert(mr_wheel_expired(&wheel, 13 + MR_WHEEL_SLOTS - 1) ==
              NULL); /* same slot, next round */
    mr_assert(mr_wheel_expired(&wheel, 13 + MR_WHEEL_SLOTS) == &b);
    mr_assert(wheel.count == 0);
    mr_wheel_set(&wheel, &a, 2000);
    mr_wheel_set(&wheel, &a, 1990); /* moved, not doubled */
    mr_assert(wheel.count == 1);
    mr_assert(mr_wheel_expired(&wheel, 100000) == &a);
    mr_assert(mr_wheel_expired(&wheel, 100000) == NULL);
}

static void test_quiet(void)
{
    struct mr_wheel wheel;
    struct mr_wheel_node node = {0};

    mr_wheel_init(&wheel, UINT32_MAX - 5);
    mr_assert(mr_wheel_quiet(&wheel, 20) == 20 && mr_wheel_quiet(&wheel, 0) == 0);
    mr_wheel_set(&wheel, &node, UINT32_MAX - 5 + 7);
    mr_assert(mr_wheel_quiet(&wheel, 20) == 7 && mr_wheel_quiet(&wheel, 3) == 3);
    mr_assert(mr_wheel_expired(&wheel, UINT32_MAX - 5 + 6) == NULL);
    mr_assert(mr_wheel_quiet(&wheel, 20) == 0);
    mr_assert(mr_wheel_expired(&wheel, UINT32_MAX - 5 + 7) == &node);
    mr_assert(mr_wheel_quiet(&wheel, 20) == 20);
}

static void test_wraps(void)
{
    struct mr_wheel wheel;
    struct mr_wheel_node node = {0};

    mr_wheel_init(&wheel, UINT32_MAX - 5);
    mr_wheel_set(&wheel, &node, UINT32_MAX - 5 + 10);
    mr_assert(mr_wheel_expired(&wheel, UINT32_MAX) == NULL);
    mr_assert(mr_wheel_expired(&wheel, 3) == NULL);
    mr_assert(mr_wheel_expired(&wheel, 4) == &node);
}

static void test_random_walk(uint64_t seed)
{
    static struct mr_wheel_node nodes[NODES];
    uint32_t due[NODES] = {0}; /* 0: not set */
    struct mr_wheel wheel;
    struct mr_rng rng;
    uint32_t now = 1;

    mr_rng_seed(&rng, seed);
    mr_wheel_init(&wheel, now);
    for (int step = 0; step < 50000; step++) {
        size_t i = mr_rng_below(&rng, NODES);
        switch (mr_rng_below(&rng, 4)) {
        case 0:
        case 1:
            due[i] = now + 1 + (uint32_t)mr_rng_below(&rng, 3 * MR_WHEEL_SLOTS);
            mr_wheel_set(&wheel, &nodes[i], due[i]);
            break;
        case 2:
            due[i] = 0;
            mr_wheel_cancel(&wheel, &nodes[i]);
            break;
        default: {
            struct mr_wheel_node *node;
            now += (uint32_t)mr_rng_below(&rng, mr_rng_below(&rng, 50) == 0 ? 5000 : 20);
            while ((node = mr_wheel_expired(&wheel, now)) != NULL) {
                size_t at = (size_t)(node - nodes);
                mr_assert(due[at] != 0 && due[at] <= now);
                due[at] = 0;
            }
            for (size_t k = 0; k < NODES; k++) {
                mr_assert(due[k] == 0 || due[k] > now);
            }
        }
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_edges();
    test_quiet();
    test_wraps();
    test_random_walk(seed);
    return 0;
}
