/* test_base.c
 * links: base
 *
 * Goal:   errors, arenas, memory, spans, byte readers and random numbers do
 *         what their headers say at the edges.
 * Method: edges by hand; varints also round trip over seeded random numbers.
 *         The seed is printed; ./test_base <seed> repeats a run.
 */
#include "base/bytes.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

static void test_error_text_is_cut_not_overrun(void)
{
    struct mr_error why;
    char text[1000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    mr_assert(mr_error_set(&why, MR_ERR_CONFIG, "%s", text) == MR_ERR_CONFIG);
    mr_assert(why.code == MR_ERR_CONFIG && strlen(why.text) == sizeof(why.text) - 1);
    mr_assert(mr_error_set(NULL, MR_ERR_IO, "no one listens") == MR_ERR_IO);
}

static void test_arena_aligns_and_ends(void)
{
    static unsigned char memory[256];
    struct mr_arena arena = {.base = memory + 1, .size = 200};

    memset(memory, 0xaa, sizeof(memory));
    unsigned char *first = mr_arena_alloc(&arena, 3, 1);
    uint64_t *second = mr_arena_alloc(&arena, sizeof(uint64_t), _Alignof(uint64_t));
    unsigned char *third = mr_arena_alloc(&arena, 64, 64);
    mr_assert(first != NULL && second != NULL && third != NULL);
    mr_assert((uintptr_t)second % _Alignof(uint64_t) == 0 && (uintptr_t)third % 64 == 0);
    mr_assert(first[0] == 0 && *second == 0 && third[63] == 0); /* zeroed */

    size_t used = arena.used;
    mr_assert(mr_arena_alloc(&arena, 200, 1) == NULL);
    mr_assert(mr_arena_alloc(&arena, SIZE_MAX, 8) == NULL);
    mr_assert(arena.used == used); /* a refusal takes nothing */
    mr_assert(mr_arena_alloc(&arena, arena.size - used, 1) != NULL);
    mr_assert(mr_arena_alloc(&arena, 1, 1) == NULL);
    mr_assert(mr_arena_alloc(&arena, 0, 1) != NULL);
}

static void test_arena_opens_lazily_and_closes(void)
{
    struct mr_arena arena;

    mr_assert(mr_arena_open(&arena, (size_t)1 << 30) == MR_OK);
    unsigned char *memory = mr_arena_alloc(&arena, 4096, 4096);
    mr_assert(memory != NULL && memory[4095] == 0);
    mr_arena_close(&arena);
    mr_assert(arena.base == NULL && mr_arena_alloc(&arena, 1, 1) == NULL);
}

static void test_memory(void)
{
    char *copy = mr_strndup("journal", 3);

    mr_assert(strcmp(copy, "jou") == 0);
    copy = mr_realloc(copy, 100);
    mr_assert(strcmp(copy, "jou") == 0);
    mr_free(copy);
    copy = mr_strdup("");
    mr_assert(copy[0] == '\0');
    mr_free(copy);
    uint8_t *zeroed = mr_alloc(64);
    mr_assert(zeroed[0] == 0 && zeroed[63] == 0);
    mr_free(zeroed);
    mr_free(NULL);
}

static void test_split_walks_all_parts(void)
{
    static const char *const parts[] = {"", "a", "", "bc", ""};
    struct mr_span rest = mr_span_of("/a//bc/");
    size_t count = 0;

    while (rest.at != NULL) {
        struct mr_span part = mr_span_split(&rest, '/');
        mr_assert(count < MR_COUNT_OF(parts) && mr_span_is(part, parts[count]));
        count += 1;
    }
    mr_assert(count == MR_COUNT_OF(parts));
    mr_assert(mr_span_equal(mr_span_make(NULL, 0), mr_span_of("")));
    mr_assert(!mr_span_is(mr_span_of("a"), "b"));
}

static void test_numbers_keep_their_order_of_bytes(void)
{
    uint8_t at[8];

    mr_put_be32(at, 0x01020304);
    mr_assert(at[0] == 1 && at[3] == 4 && mr_get_be32(at) == 0x01020304);
    mr_put_be16(at, 0xfffe);
    mr_assert(at[0] == 0xff && mr_get_be16(at) == 0xfffe);
    mr_put_u64(at, 0x0102030405060708u);
    mr_assert(at[0] == 8 && mr_get_u64(at) == 0x0102030405060708u);
    mr_assert(mr_get_u32(at) == 0x05060708u && mr_get_u16(at + 1) == 0x0607u);
}

static void varint_round_trip(uint64_t v)
{
    uint8_t bytes[MR_VARINT_MAX];
    size_t len = (size_t)(mr_put_varint(bytes, v) - bytes);

    mr_assert(len == mr_varint_size(v) && len <= MR_VARINT_MAX);
    struct mr_take take = mr_take_from(mr_span_make(bytes, len));
    mr_assert(mr_take_varint(&take) == v && !take.failed && mr_take_left(&take) == 0);
    for (size_t cut = 0; cut < len; cut++) { /* every prefix is refused */
        struct mr_take torn = mr_take_from(mr_span_make(bytes, cut));
        mr_assert(mr_take_varint(&torn) == 0 && torn.failed);
    }
    mr_assert(mr_unzigzag(mr_zigzag((int64_t)v)) == (int64_t)v);
}

static void test_varints(uint64_t seed)
{
    static const uint8_t too_long[11] = {0x80, 0x80, 0x80, 0x80, 0x80,
                                         0x80, 0x80, 0x80, 0x80, 0x02};
    struct mr_rng rng;

    for (unsigned bit = 0; bit < 64; bit++) {
        varint_round_trip((uint64_t)1 << bit);
        varint_round_trip(((uint64_t)1 << bit) - 1);
    }
    varint_round_trip(UINT64_MAX);
    mr_rng_seed(&rng, seed);
    for (unsigned i = 0; i < 10000; i++) {
        varint_round_trip(mr_rng_u64(&rng) >> mr_rng_below(&rng, 64));
    }

    struct mr_take take = mr_take_from(mr_span_make(too_long, sizeof(too_long)));
    mr_assert(mr_take_varint(&take) == 0 && take.failed); /* the 65th bit */
    mr_assert(mr_zigzag(-1) == 1 && mr_zigzag(1) == 2 && mr_zigzag(INT64_MIN) == UINT64_MAX);
}

static void test_take_fails_once_and_for_all(void)
{
    struct mr_take take = mr_take_from(mr_span_of("abc"));

    mr_assert(mr_span_is(mr_take_bytes(&take, 2), "ab"));
    mr_assert(mr_take_bytes(&take, 2).len == 0 && take.failed);
    mr_assert(mr_take_u8(&take) == 0 && mr_take_bytes(&take, SIZE_MAX).len == 0);
    mr_assert(take.failed && mr_take_left(&take) == 0);
}

static void test_rng_repeats_and_stays_inside(uint64_t seed)
{
    struct mr_rng a, b, other;
    unsigned same = 0;
    unsigned seen[7] = {0};

    mr_rng_seed(&a, seed);
    mr_rng_seed(&b, seed);
    mr_rng_seed(&other, seed + 1);
    for (unsigned i = 0; i < 7000; i++) {
        uint64_t drawn = mr_rng_u64(&a);
        mr_assert(drawn == mr_rng_u64(&b));
        same += drawn == mr_rng_u64(&other);
    }
    mr_assert(same == 0);
    for (unsigned i = 0; i < 7000; i++) {
        seen[mr_rng_below(&a, 7)] += 1;
        double unit = mr_rng_unit(&a);
        mr_assert(unit >= 0.0 && unit < 1.0);
    }
    for (unsigned i = 0; i < 7; i++) {
        mr_assert(seen[i] > 800 && seen[i] < 1200); /* 1000 ± 6.8 standard deviations */
    }
    mr_assert(mr_rng_below(&a, 1) == 0);
}

static void test_rng_is_the_published_one(void)
{
    /* From the state {1, 2, 3, 4} the first step gives rotl(2 * 5, 7) * 9 and the
     * second, after the state became {7, 0, 262146, 211106232532992}, 0.
     */
    struct mr_rng rng = {.state = {1, 2, 3, 4}};

    mr_assert(mr_rng_u64(&rng) == 11520);
    mr_assert(rng.state[0] == 7 && rng.state[1] == 0 && rng.state[2] == 262146);
    mr_assert(rng.state[3] == 211106232532992u);
    mr_assert(mr_rng_u64(&rng) == 0);
    mr_assert(mr_rng_u64(&rng) == 1509978240);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_error_text_is_cut_not_overrun();
    test_arena_aligns_and_ends();
    test_arena_opens_lazily_and_closes();
    test_memory();
    test_split_walks_all_parts();
    test_numbers_keep_their_order_of_bytes();
    test_varints(seed);
    test_take_fails_once_and_for_all();
    test_rng_repeats_and_stays_inside(seed);
    test_rng_is_the_published_one();
    return 0;
}
