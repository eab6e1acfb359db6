/* bench_subtree.c - how long it takes to find who wants a topic, among very many filters.
 *
 * In process: the subscription tree alone, without sockets, so it links what it measures.
 * Filters have a wildcard each; `--shape`:
 *
 *     own       plant/N/line/M/# and plant/N/line/M/+ : a topic meets one of them
 *     spread    +/N/line/M : half of the first levels are '+', so each look-up goes two ways
 */
#include "bench.h"

#include "broker/subtree.h"

enum { FILTER_MAX = 128, SECOND_LEVELS = 1000, TOPICS = 4096 };

struct found {
    uint64_t count;
};

static void found_one(void *arg, const struct mr_sub *sub)
{
    struct found *found = arg;

    (void)sub;
    found->count += 1;
}

static int filter_put(char *out, size_t size, bool spread, uint64_t i)
{
    unsigned long long n = i % SECOND_LEVELS;
    unsigned long long m = i / SECOND_LEVELS;

    if (spread) {
        return snprintf(out, size, "%s/%llu/line/%llu", i % 2 == 0 ? "+" : "plant", n, m);
    }
    return snprintf(out, size, "plant/%llu/line/%llu/%s", n, m, i % 2 == 0 ? "#" : "+");
}

static int topic_put(char *out, size_t size, bool spread, uint64_t i)
{
    return snprintf(out, size, spread ? "plant/%llu/line/%llu" : "plant/%llu/line/%llu/value",
                    (unsigned long long)(i % SECOND_LEVELS),
                    (unsigned long long)(i / SECOND_LEVELS));
}

int main(int argc, char **argv)
{
    static uint64_t filters = 1000000;
    static uint64_t matches = 2000000;
    static bool spread = false;
    static struct mr_bufpool pool;
    static char topics[TOPICS][FILTER_MAX];
    static int lens[TOPICS];
    const struct bench_option table[] = {
        {"filters", BENCH_U64, &filters, "subscriptions"},
        {"matches", BENCH_U64, &matches, "topics looked up"},
        {"spread", BENCH_FLAG, &spread, "half of the first levels are '+'"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };
    const struct mr_hash_key key = {.k0 = 1, .k1 = 2};
    struct mr_sub *owned = NULL;
    struct found found = {0};

    bench_options(argc, argv, "topics looked up among many subscriptions", table);
    mr_bufpool_init(&pool, (size_t)16 << 30, 0);
    struct mr_subtree *tree = mr_subtree_open(&pool, &key);
    int64_t begin_ns = bench_mono_ns();
    for (uint64_t i = 0; i < filters; i++) {
        char filter[FILTER_MAX];
        struct mr_sub *sub = NULL;
        int len = filter_put(filter, sizeof(filter), spread, i);
        if (mr_subtree_add(tree, mr_span_make(filter, (size_t)len), &found, &owned, &sub) !=
            MR_OK) {
            bench_fail("no room for subscription %llu", (unsigned long long)i);
        }
    }
    int64_t added_ns = bench_mono_ns();
    for (uint64_t i = 0; i < TOPICS; i++) {
        lens[i] = topic_put(topics[i], FILTER_MAX, spread,
                            i * UINT64_C(2654435761) % (filters == 0 ? 1 : filters));
    }
    int64_t match_ns = bench_mono_ns();
    for (uint64_t i = 0; i < matches; i++) {
        uint64_t at = i % TOPICS;
        mr_subtree_match(tree, mr_span_make(topics[at], (size_t)lens[at]), found_one, &found);
    }
    int64_t end_ns = bench_mono_ns();

    struct bench_json json = bench_json_open("subtree");
    bench_json_u64(&json, "filters", filters);
    bench_json_number(&json, "add_ns", (double)(added_ns - begin_ns) / (double)filters);
    bench_json_number(&json, "bytes_per_filter", (double)pool.lent_bytes / (double)filters);
    bench_json_number(&json, "match_ns", (double)(end_ns - match_ns) / (double)matches);
    bench_json_number(&json, "matches_per_s", (double)matches * 1e9 / (double)(end_ns - match_ns));
    bench_json_number(&json, "found_per_match", (double)found.count / (double)matches);
    bench_json_close(&json);
    while (owned != NULL) {
        mr_subtree_remove(tree, owned, &owned);
    }
    mr_subtree_close(tree);
    mr_bufpool_fini(&pool);
    return 0;
}
