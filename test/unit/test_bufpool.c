/* test_bufpool.c
 * links: base
 *
 * Goal:   what is lent never exceeds the limit, what is kept never exceeds keep,
 *         a buffer is never lent twice, nothing leaks (AddressSanitizer looks).
 * Method: edges by hand; a seeded random walk in which every lent buffer is
 *         filled with its own pattern, and checked when it goes back.
 */
#include "base/bufpool.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_classes(void)
{
    struct mr_bufpool pool;
    size_t capacity = 0;

    mr_bufpool_init(&pool, (size_t)1 << 30, 0);
    static const struct {
        size_t size;
        size_t capacity;
    } classes[] = {{0, 64}, {1, 64}, {64, 64}, {65, 128}, {4096, 4096}, {4097, 8192}};
    for (size_t i = 0; i < MR_COUNT_OF(classes); i++) {
        uint8_t *buffer = mr_bufpool_take(&pool, classes[i].size, &capacity);
        mr_assert(buffer != NULL && capacity == classes[i].capacity);
        mr_bufpool_give(&pool, buffer, capacity);
    }
    uint8_t *largest = mr_bufpool_take(&pool, (size_t)1 << 28, &capacity);
    mr_assert(largest != NULL && capacity == (size_t)1 << 28);
    mr_bufpool_give(&pool, largest, capacity);
    mr_assert(mr_bufpool_take(&pool, ((size_t)1 << 28) + 1, &capacity) == NULL);
    mr_assert(pool.lent_bytes == 0 && pool.kept_bytes == 0);
    mr_bufpool_fini(&pool);
}

static void test_limit_and_reuse(void)
{
    struct mr_bufpool pool;
    size_t capacity = 0;

    mr_bufpool_init(&pool, 256, 128);
    uint8_t *a = mr_bufpool_take(&pool, 128, &capacity);
    uint8_t *b = mr_bufpool_take(&pool, 128, &capacity);
    mr_assert(a != NULL && b != NULL && mr_bufpool_take(&pool, 1, &capacity) == NULL);
    mr_bufpool_give(&pool, a, 128); /* kept */
    mr_bufpool_give(&pool, b, 128); /* one too many: goes back to the system */
    mr_assert(pool.kept_bytes == 128 && pool.lent_bytes == 0);
    mr_assert(mr_bufpool_take(&pool, 100, &capacity) == a && pool.kept_bytes == 0);
    mr_bufpool_give(&pool, a, 128);
    mr_bufpool_fini(&pool);
}

struct lent {
    uint8_t *buffer;
    size_t capacity;
    uint8_t pattern;
};

static void lent_check(const struct lent *lent)
{
    mr_assert(lent->buffer[0] == lent->pattern);
    mr_assert(lent->buffer[lent->capacity / 2] == lent->pattern);
    mr_assert(lent->buffer[lent->capacity - 1] == lent->pattern);
}

static void test_random_walk(uint64_t seed)
{
    struct mr_bufpool pool;
    struct lent lent[64] = {0};
    struct mr_rng rng;
    size_t lent_bytes = 0;
    unsigned refused = 0;

    mr_rng_seed(&rng, seed);
    mr_bufpool_init(&pool, 200000, 50000);
    for (unsigned step = 0; step < 100000; step++) {
        struct lent *one = &lent[mr_rng_below(&rng, MR_COUNT_OF(lent))];
        if (one->buffer != NULL) {
            lent_check(one);
            mr_bufpool_give(&pool, one->buffer, one->capacity);
            lent_bytes -= one->capacity;
            one->buffer = NULL;
        } else {
            size_t size = (size_t)1 << mr_rng_below(&rng, 16);
            one->buffer = mr_bufpool_take(&pool, size, &one->capacity);
            if (one->buffer == NULL) {
                refused += 1;
                mr_assert(lent_bytes + (size < 64 ? 64 : size) > 200000);
                continue;
            }
            mr_assert(one->capacity >= size);
            lent_bytes += one->capacity;
            one->pattern = (uint8_t)step;
            memset(one->buffer, one->pattern, one->capacity);
        }
        mr_assert(pool.lent_bytes == lent_bytes && pool.kept_bytes <= 50000);
    }
    mr_assert(refused > 0); /* else the walk never met the limit */
    for (size_t i = 0; i < MR_COUNT_OF(lent); i++) {
        if (lent[i].buffer != NULL) {
            lent_check(&lent[i]);
            mr_bufpool_give(&pool, lent[i].buffer, lent[i].capacity);
        }
    }
    mr_bufpool_fini(&pool);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_classes();
    test_limit_and_reuse();
    test_random_walk(seed);
    return 0;
}
