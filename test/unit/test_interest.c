/* test_interest.c
 * links: broker codec base
 *
 * Goal:   what a shard shows of its filters never hides a match, shows little else, and
 *         forgets filters that are gone.
 * Method: random filters in a subscription tree and random topics, both of few levels so
 *         that they often match.  The seed is printed: ./test_interest <seed>
 */
#include "base/rng.h"
#include "base/text.h"
#include "broker/interest.h"
#include "broker/subtree.h"

#include "codec/topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct mr_interest interest;
static _Atomic uint32_t version;

static void random_name(struct mr_rng *rng, bool filter, char out[64])
{
    static const char *const levels[] = {"a", "b", "sensors", "", "7", "temperature"};
    uint64_t count = 1 + mr_rng_below(rng, 12);
    struct mr_text text = mr_text_over(out, 64);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t die = mr_rng_below(rng, 20);
        if (i != 0) {
            mr_text_add(&text, "/");
        }
        if (filter && die == 0) {
            mr_text_add(&text, "#");
            return;
        }
        mr_text_add(&text, filter && die < 4 ? "+" : levels[mr_rng_below(rng, 6)]);
    }
    if (text.len == 0) {
        mr_text_add(&text, "a");
    }
}

static void test_no_match_is_hidden(struct mr_rng *rng)
{
    enum { FILTERS = 3 };
    static const struct mr_hash_key key = {.k0 = 1, .k1 = 2};
    struct mr_bufpool pool;
    uint64_t matches = 0;
    uint64_t maybes = 0;

    mr_bufpool_init(&pool, 1 << 20, 0);
    for (int round = 0; round < 20000; round++) {
        struct mr_subtree *tree = mr_subtree_open(&pool, &key);
        struct mr_sub *owned = NULL;
        struct mr_sub *sub = NULL;
        char name[64];

        mr_subtree_show(tree, &interest);
        for (int i = 0; i < FILTERS; i++) {
            random_name(rng, true, name);
            mr_assert(mr_subtree_add(tree, mr_span_of(name), name, &owned, &sub) == MR_OK);
        }
        for (int i = 0; i < 10; i++) {
            random_name(rng, false, name);
            struct mr_interest_bits bits = mr_interest_of_topic(&interest.key, mr_span_of(name));
            bool matched = mr_subtree_has(tree, mr_span_of(name));
            bool maybe = mr_interest_has(&interest, &bits);
            mr_assert(maybe || !matched);
            matches += matched;
            maybes += maybe;
        }
        uint32_t before = version;
        while (owned != NULL) {
            mr_subtree_remove(tree, owned, &owned);
        }
        mr_assert(version > before);
        for (size_t i = 0; i < MR_INTEREST_BITS / 64; i++) {
            mr_assert(interest.bits[i] == 0);
        }
        mr_subtree_close(tree);
    }
    printf("%llu matches, %llu maybes\n", (unsigned long long)matches, (unsigned long long)maybes);
    mr_assert(matches != 0);
    mr_bufpool_fini(&pool);
}

static void test_other_devices_are_told_apart(void)
{
    struct mr_interest_bits bits;
    uint32_t maybes = 0;

    mr_interest_add(&interest, mr_interest_of_filter(&interest.key, mr_span_of("plant/7/#")));
    for (int i = 0; i < 1000; i++) {
        char topic[32];
        (void)snprintf(topic, sizeof(topic), "plant/%d/t", 100 + i);
        bits = mr_interest_of_topic(&interest.key, mr_span_of(topic));
        maybes += mr_interest_has(&interest, &bits);
    }
    mr_assert(maybes < 20);
    bits = mr_interest_of_topic(&interest.key, mr_span_of("plant/7/t"));
    mr_assert(mr_interest_has(&interest, &bits));
    mr_interest_drop(&interest, mr_interest_of_filter(&interest.key, mr_span_of("plant/7/#")));
    mr_assert(!mr_interest_has(&interest, &bits));
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
    struct mr_rng rng;

    printf("seed %llu\n", (unsigned long long)seed);
    mr_rng_seed(&rng, seed);
    interest.key = (struct mr_hash_key){.k0 = seed, .k1 = 7};
    interest.version = &version;
    test_no_match_is_hidden(&rng);
    test_other_devices_are_told_apart();
    printf("ok\n");
    return 0;
}
