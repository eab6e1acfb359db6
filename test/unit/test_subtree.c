/* test_subtree.c
 * links: broker codec base
 *
 * Goal:   a topic reaches exactly the subscriptions whose filter matches it, after
 *         any history of subscribing and unsubscribing; memory comes back.
 * Method: rules of section 4.7 by hand, then a seeded random walk over a small
 *         alphabet of levels, compared with mr_topic_matches() on a plain list.
 *         Replay with: ./test_subtree <seed>
 */
#include "base/rng.h"
#include "base/text.h"
#include "broker/subtree.h"
#include "codec/topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { OWNERS = 8, SUBS_MAX = 400, TEXT_MAX = 64 };

static struct mr_bufpool pool;
static const struct mr_hash_key key = {.k0 = 1, .k1 = 2};

static void count_found(void *arg, const struct mr_sub *sub)
{
    (void)sub;
    *(size_t *)arg += 1;
}

static size_t matches(const struct mr_subtree *tree, const char *topic)
{
    size_t count = 0;

    mr_subtree_match(tree, mr_span_of(topic), count_found, &count);
    mr_assert(mr_subtree_has(tree, mr_span_of(topic)) == (count != 0));
    return count;
}

static void test_rules(void)
{
    static const struct {
        const char *filter;
        const char *topic;
        size_t found;
    } rules[] = {
        {"sport/tennis/player1/#", "sport/tennis/player1", 1},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", 1},
        {"sport/#", "sport", 1},
        {"#", "a/b/c", 1},
        {"#", "$SYS/a", 0},
        {"+/a", "$SYS/a", 0},
        {"$SYS/#", "$SYS/a", 1},
        {"$SYS/+", "$SYS/a", 1},
        {"sport/+", "sport", 0},
        {"sport/+", "sport/", 1},
        {"+/+", "/finance", 1},
        {"/+", "/finance", 1},
        {"+", "/finance", 0},
        {"+", "", 0},
        {"a//b", "a//b", 1},
        {"a//b", "a/b", 0},
        {"a/+/c", "a/b/c/d", 0},
    };

    for (size_t i = 0; i < MR_COUNT_OF(rules); i++) {
        struct mr_subtree *tree = mr_subtree_open(&pool, &key);
        struct mr_sub *owned = NULL;
        struct mr_sub *sub = NULL;
        if (rules[i].topic[0] != 0) {
            mr_assert(mr_subtree_add(tree, mr_span_of(rules[i].filter), &owned, &owned, &sub) ==
                      MR_OK);
            if (matches(tree, rules[i].topic) != rules[i].found) {
                fprintf(stderr, "'%s' and '%s'\n", rules[i].filter, rules[i].topic);
                abort();
            }
            mr_subtree_remove(tree, sub, &owned);
        }
        mr_subtree_close(tree);
    }
}

/* "a/a/…/a", or "a/a/…/#": so many levels. */
static void levels_put(char *out, size_t levels, char last)
{
    for (size_t i = 0; i < levels; i++) {
        out[2 * i] = i + 1 == levels ? last : 'a';
        out[2 * i + 1] = '/';
    }
    out[2 * levels - 1] = '\0';
}

static void test_limits(void)
{
    char deepest[2 * MR_SUBTREE_LEVELS_MAX];
    char deeper[2 * MR_SUBTREE_LEVELS_MAX + 2];
    char filter[2 * MR_SUBTREE_LEVELS_MAX];
    struct mr_subtree *tree = mr_subtree_open(&pool, &key);
    struct mr_sub *owned = NULL;
    struct mr_sub *sub = NULL;
    uint64_t version = mr_subtree_version(tree);

    levels_put(deepest, MR_SUBTREE_LEVELS_MAX, 'a');
    levels_put(deeper, MR_SUBTREE_LEVELS_MAX + 1, 'a');
    levels_put(filter, MR_SUBTREE_LEVELS_MAX, '#');
    mr_assert(mr_subtree_add(tree, mr_span_of(deeper), NULL, &owned, &sub) == MR_ERR_REJECT);
    mr_assert(mr_subtree_version(tree) == version);
    mr_assert(mr_subtree_add(tree, mr_span_of(filter), NULL, &owned, &sub) == MR_OK);
    mr_assert(mr_subtree_version(tree) != version);
    mr_assert(matches(tree, deeper) == 0); /* too deep for a tree */
    mr_assert(matches(tree, deepest) == 1);
    mr_subtree_remove(tree, sub, &owned);
    mr_subtree_close(tree);
}

static void test_full_pool(void)
{
    struct mr_bufpool small;
    struct mr_sub *owned = NULL;
    struct mr_sub *sub = NULL;
    char filter[TEXT_MAX];
    int made = 0;

    mr_bufpool_init(&small, 16 << 10, 0);
    struct mr_subtree *tree = mr_subtree_open(&small, &key);
    for (;; made++) {
        (void)snprintf(filter, sizeof(filter), "a/b/c/%d/+/e", made);
        size_t before = small.lent_bytes;
        if (mr_subtree_add(tree, mr_span_of(filter), NULL, &owned, &sub) != MR_OK) {
            mr_assert(small.lent_bytes == before); /* nothing half-made stays */
            break;
        }
    }
    mr_assert(made > 5 && mr_subtree_count(tree) == (uint64_t)made);
    while (owned != NULL) {
        mr_subtree_remove(tree, owned, &owned);
    }
    mr_subtree_close(tree);
    mr_assert(small.lent_bytes == 0);
    mr_bufpool_fini(&small);
}

/* ---- against the plain list ---- */

struct plain {
    char filter[TEXT_MAX];
    int owner;
    bool used;
};

struct found {
    uint32_t seen[SUBS_MAX];
};

/* A sub's identity is in its subscription_id. */
static void mark_found(void *arg, const struct mr_sub *sub)
{
    struct found *found = arg;

    found->seen[sub->subscription_id] += 1;
}

static void random_text(struct mr_rng *rng, char *out, bool filter)
{
    static const char *const levels[] = {"a", "b", "", "cc", "$x", "+", "+", "#"};
    uint64_t count = 1 + mr_rng_below(rng, 5);
    struct mr_text text = mr_text_over(out, TEXT_MAX);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t pick = mr_rng_below(rng, filter ? 8 : 5);
        if (i != 0) {
            mr_text_add(&text, "/");
        }
        mr_text_add(&text, levels[pick]);
        if (pick == 7) {
            return;
        }
    }
    if (text.len == 0) {
        mr_text_add(&text, "a");
    }
}

static void check_topic(const struct mr_subtree *tree, const struct plain *plain, const char *topic)
{
    struct found found = {{0}};

    mr_subtree_match(tree, mr_span_of(topic), mark_found, &found);
    for (uint32_t i = 0; i < SUBS_MAX; i++) {
        bool expected =
            plain[i].used && mr_topic_matches(mr_span_of(plain[i].filter), mr_span_of(topic));
        if (found.seen[i] != (expected ? 1u : 0u)) {
            fprintf(stderr, "'%s' and '%s': %u times, expected %d\n", plain[i].filter, topic,
                    found.seen[i], expected);
            abort();
        }
    }
}

static void test_random_walk(uint64_t seed)
{
    static struct plain plain[SUBS_MAX];
    struct mr_sub *owned[OWNERS] = {NULL};
    struct mr_subtree *tree = mr_subtree_open(&pool, &key);
    struct mr_rng rng;
    char text[TEXT_MAX];
    uint64_t count = 0;

    mr_rng_seed(&rng, seed);
    for (int step = 0; step < 20000; step++) {
        uint32_t slot = (uint32_t)mr_rng_below(&rng, SUBS_MAX);
        struct plain *at = &plain[slot];
        struct mr_sub *sub = NULL;

        if (at->used && mr_rng_below(&rng, 2) == 0) {
            sub = mr_subtree_find(tree, mr_span_of(at->filter), &owned[at->owner]);
            mr_assert(sub != NULL && sub->subscription_id == slot);
            mr_subtree_remove(tree, sub, &owned[at->owner]);
            at->used = false;
            count -= 1;
        } else if (!at->used) {
            random_text(&rng, at->filter, true);
            at->owner = (int)mr_rng_below(&rng, OWNERS);
            if (mr_subtree_find(tree, mr_span_of(at->filter), &owned[at->owner]) == NULL) {
                mr_assert(mr_subtree_add(tree, mr_span_of(at->filter), &owned[at->owner],
                                         &owned[at->owner], &sub) == MR_OK);
                sub->subscription_id = slot;
                at->used = true;
                count += 1;
            }
        }
        mr_assert(mr_subtree_count(tree) == count);
        random_text(&rng, text, false);
        check_topic(tree, plain, text);
    }
    for (int i = 0; i < OWNERS; i++) {
        while (owned[i] != NULL) {
            mr_subtree_remove(tree, owned[i], &owned[i]);
        }
    }
    mr_subtree_close(tree);
}

/* Two clients with the same tens of thousands of filters, one of which subscribes to
 * all of them again: not a walk over its whole list for each.
 */
static void test_many_filters_again(void)
{
    enum { FILTERS = 50000 };
    struct mr_subtree *tree = mr_subtree_open(&pool, &key);
    struct mr_sub *owned[2] = {NULL, NULL};
    static const char names[2][2] = {"a", "b"};
    clock_t began = clock();

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < FILTERS; i++) {
            int who = round % 2;
            char filter[16];
            struct mr_sub *sub = NULL;
            (void)snprintf(filter, sizeof(filter), "f/%d", i);
            mr_assert(mr_subtree_add(tree, mr_span_of(filter), (void *)(uintptr_t)names[who],
                                     &owned[who], &sub) == MR_OK);
            mr_assert(mr_subtree_find(tree, mr_span_of(filter), &owned[who]) == sub);
            mr_assert(mr_subtree_find(tree, mr_span_of(filter), &owned[1 - who]) != sub);
        }
    }
    mr_assert(mr_subtree_count(tree) == 2 * FILTERS);
    mr_assert(clock() - began < 10 * CLOCKS_PER_SEC); /* CPU time */
    for (int who = 0; who < 2; who++) {
        while (owned[who] != NULL) {
            mr_subtree_remove(tree, owned[who], &owned[who]);
        }
    }
    mr_subtree_close(tree);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    mr_bufpool_init(&pool, 16 << 20, 1 << 20);
    test_rules();
    test_limits();
    test_full_pool();
    test_random_walk(seed);
    mr_assert(pool.lent_bytes == 0);
    mr_bufpool_fini(&pool);
    mr_bufpool_init(&pool, 64 << 20, 1 << 20);
    test_many_filters_again();
    mr_assert(pool.lent_bytes == 0);
    mr_bufpool_fini(&pool);
    return 0;
}
