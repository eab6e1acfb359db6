/* test_ring.c
 * links: os base
 *
 * Goal:   every entry arrives once, whole and in order, whatever its size; a full ring
 *         says so and loses nothing.
 * Method: a writer and a reader thread; length and bytes of each entry are a function of
 *         its number.
 */
#include "base/ring.h"
#include "os/thread.h"

#include <stdio.h>

enum { ENTRIES = 300000, SIZE = 4096, LONGEST = 700 };

static size_t length_of(uint32_t number)
{
    return 4 + number * 2654435761u % (LONGEST - 4);
}

static void write_all(void *arg)
{
    struct mr_ring *ring = arg;

    for (uint32_t number = 0; number < ENTRIES; number++) {
        size_t len = length_of(number);
        uint8_t *at = mr_ring_reserve(ring, len);

        while (at == NULL) {
            at = mr_ring_reserve(ring, len);
        }
        mr_assert((uintptr_t)at % 8 == 0);
        memset(at, (int)(number & 0xff), len);
        memcpy(at, &number, sizeof(number));
        mr_ring_publish(ring, len);
    }
}

static void test_everything_arrives_in_order(void)
{
    struct mr_ring *ring = mr_ring_open(SIZE);
    struct mr_thread *writer = NULL;
    uint32_t expected = 0;

    mr_assert(mr_thread_start(&writer, "writer", write_all, ring, NULL) == MR_OK);
    while (expected < ENTRIES) {
        struct mr_span entry = mr_ring_peek(ring);
        uint32_t number = 0;

        if (entry.at == NULL) {
            continue;
        }
        mr_assert(entry.len == length_of(expected));
        memcpy(&number, entry.at, sizeof(number));
        mr_assert(number == expected);
        for (size_t i = sizeof(number); i < entry.len; i++) {
            mr_assert(entry.at[i] == (uint8_t)number);
        }
        mr_ring_pop(ring);
        expected += 1;
    }
    mr_thread_join(writer);
    mr_assert(mr_ring_peek(ring).at == NULL);
    mr_ring_close(ring);
}

static void test_a_full_ring_says_so(void)
{
    struct mr_ring *ring = mr_ring_open(256);
    int count = 0;

    mr_assert(mr_ring_peek(ring).at == NULL);
    mr_assert(mr_ring_reserve(ring, 200) == NULL); /* more than half: never */
    while (mr_ring_reserve(ring, 24) != NULL) {
        mr_ring_publish(ring, 24);
        count += 1;
    }
    mr_assert(count == 256 / 32);
    mr_assert(mr_ring_peek(ring).len == 24);
    mr_ring_pop(ring);
    mr_assert(mr_ring_reserve(ring, 24) != NULL);
    mr_ring_publish(ring, 10); /* less than was reserved */
    mr_assert(mr_ring_reserve(ring, 1) == NULL);
    for (; count > 1; count--) {
        mr_assert(mr_ring_peek(ring).len == 24);
        mr_ring_pop(ring);
    }
    mr_assert(mr_ring_peek(ring).len == 10);
    mr_ring_pop(ring);
    mr_assert(mr_ring_peek(ring).at == NULL);
    mr_assert(mr_ring_reserve(ring, 120) != NULL); /* and all of it can be used again */
    mr_ring_close(ring);
    mr_ring_close(NULL);
}

int main(void)
{
    test_a_full_ring_says_so();
    test_everything_arrives_in_order();
    printf("ok\n");
    return 0;
}
