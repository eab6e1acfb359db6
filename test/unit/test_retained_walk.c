/* test_retained_walk.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   a walk through the retained messages that goes on in later turns finds what a filter
 *         matches, whatever is retained and cleared in between: what is there all the time once,
 *         nothing twice, nothing that is not there; nodes do not outlive their last use.
 * Method: a seeded random history over a small alphabet of levels, with several walks under way,
 *         compared with mr_topic_matches() on a plain list.  Replay: ./test_retained_walk <seed>
 */
#include "base/rng.h"
#include "broker/retained_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { TOPICS = 220, WALKS = 6, ROUNDS = 60000, TEXT = 64 };

struct topic {
    char text[TEXT];
    uint64_t set;     /* number of the change that set it; 0: none is retained */
    uint64_t changed; /* the last change */
};

struct walker {
    struct retained_walk walk;
    char filter[TEXT];
    uint64_t begun; /* changes by then */
    bool open;
    bool found[TOPICS];
};

struct world {
    struct mr_shard *shard;
    struct mr_rng *rng;
    uint64_t changes;
    uint64_t found;
    struct topic topics[TOPICS];
    struct walker walkers[WALKS];
};

static uint64_t below(struct world *world, uint64_t n)
{
    return mr_rng_below(world->rng, n);
}

/* Levels as topics have, some empty, some with a `$`; with wildcards, a filter. */
static void random_name(struct world *world, char out[TEXT], bool filter)
{
    static const char *const levels[] = {"a", "b", "", "$x", "long-level", "c"};
    size_t depth = 1 + below(world, 4);
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < depth; i++) {
        const char *level = levels[below(world, sizeof(levels) / sizeof(levels[0]))];
        if (filter && below(world, 3) == 0) {
            level = below(world, 2) == 0 ? "+" : "#";
        }
        len += (size_t)snprintf(out + len, TEXT - len, "%s%s", i == 0 ? "" : "/", level);
        if (level[0] == '#') {
            return;
        }
    }
    if (len == 0) {
        (void)snprintf(out, TEXT, "a"); /* a name has one character at least */
    }
}

static void change(struct world *world, struct topic *topic, bool set)
{
    struct kept *kept = NULL;
    struct mr_message message = {.topic = mr_span_of(topic->text),
                                 .payload = mr_span_of(set ? "x" : ""),
                                 .qos = 1,
                                 .retain = true};

    world->changes += 1;
    topic->changed = world->changes;
    topic->set = set ? world->changes : 0;
    retained_apply(world->shard, &message, &kept, 0, world->changes, RETAINED_OWN);
    if (kept != NULL) {
        kept_unref(world->shard, kept);
    }
}

static void walker_begin(struct world *world, struct walker *walker)
{
    *walker = (struct walker){.begun = world->changes, .open = true};
    random_name(world, walker->filter, true);
    retained_walk_begin(world->shard, &walker->walk);
    retained_walk_pause(&walker->walk);
}

static void walker_check_end(const struct world *world, struct walker *walker)
{
    for (size_t i = 0; i < TOPICS; i++) {
        const struct topic *topic = &world->topics[i];
        bool stayed = topic->set != 0 && topic->changed <= walker->begun;
        bool matches = mr_topic_matches(mr_span_of(walker->filter), mr_span_of(topic->text));
        if (stayed && walker->found[i] != matches) {
            fprintf(stderr, "%s: '%s' was %sfound\n", walker->filter, topic->text,
                    matches ? "not " : "");
            abort();
        }
    }
    walker->open = false;
}

/* Some steps, perhaps to the end, or it is given up. */
static void walker_go(struct world *world, struct walker *walker)
{
    uint32_t steps = 1 + (uint32_t)below(world, 40);
    struct mr_span filter = mr_span_of(walker->filter);
    struct kept *kept;

    if (below(world, 50) == 0) {
        retained_walk_end(world->shard, &walker->walk);
        walker->open = false;
        return;
    }
    retained_walk_resume(&walker->walk);
    while ((kept = retained_walk_next(world->shard, &walker->walk, filter, &steps)) != NULL) {
        size_t i = 0;
        while (i < TOPICS && world->topics[i].set != kept->seq) {
            i += 1;
        }
        mr_assert(i < TOPICS && kept->is_retained); /* it is there now */
        mr_assert(mr_topic_matches(filter, mr_span_of(world->topics[i].text)));
        mr_assert(!walker->found[i]);
        walker->found[i] = true;
        world->found += 1;
    }
    retained_walk_pause(&walker->walk);
    if (walker->walk.at == NULL) {
        walker_check_end(world, walker);
    } else {
        mr_assert(steps == 0);
    }
}

/* Topics that are the same name would be one: each is there once. */
static void topics_make(struct world *world)
{
    for (size_t i = 0; i < TOPICS;) {
        bool known = false;
        random_name(world, world->topics[i].text, false);
        for (size_t other = 0; other < i; other++) {
            known |= strcmp(world->topics[i].text, world->topics[other].text) == 0;
        }
        i += !known;
    }
}

static void shard_make(struct world *world)
{
    world->shard = mr_alloc(sizeof(*world->shard));
    world->shard->key = (struct mr_hash_key){.k0 = 1, .k1 = 2};
    world->shard->limits.max_retained_messages = TOPICS;
    world->shard->limits.max_retained_bytes = 1 << 20;
    mr_bufpool_init(&world->shard->pool, 8 << 20, 0);
}

static void history(struct world *world)
{
    for (size_t round = 0; round < ROUNDS; round++) {
        struct walker *walker = &world->walkers[below(world, WALKS)];
        uint64_t what = below(world, 10);
        if (what < 4) {
            /* Now and then much goes at once, so that whole branches do. */
            size_t count = below(world, 40) == 0 ? TOPICS / 2 : 1;
            for (size_t i = 0; i < count; i++) {
                change(world, &world->topics[below(world, TOPICS)], count == 1 && what < 3);
            }
        } else if (walker->open) {
            walker_go(world, walker);
        } else {
            walker_begin(world, walker);
        }
    }
}

/* Names that `#` does not stand for cost steps too. */
static void test_shut(struct world *world)
{
    enum { SHUT = 500 };
    struct retained_walk walk;
    struct topic topic;
    uint32_t steps = 10;

    retained_walk_begin(world->shard, &walk);
    world->shard->limits.max_retained_messages += SHUT;
    for (unsigned i = 0; i < SHUT; i++) {
        (void)snprintf(topic.text, TEXT, "$shut-%u", i);
        change(world, &topic, true);
    }
    mr_assert(retained_walk_next(world->shard, &walk, mr_span_of("#"), &steps) == NULL);
    mr_assert(steps == 0 && walk.at != NULL);
    for (unsigned i = 0; i < SHUT; i++) {
        (void)snprintf(topic.text, TEXT, "$shut-%u", i);
        change(world, &topic, false);
    }
}

/* The same by record, as at a start. */
static void test_index(struct world *world)
{
    for (size_t round = 0; round < 2000; round++) {
        struct topic *topic = &world->topics[below(world, TOPICS)];
        change(world, topic, below(world, 3) != 0);
        topic = &world->topics[below(world, TOPICS)];
        const struct kept *kept = retained_find(world->shard, 0, topic->changed);
        mr_assert((kept != NULL) == (topic->set != 0));
        mr_assert(kept == NULL || kept->seq == topic->set);
        mr_assert(retained_find(world->shard, 1, topic->changed) == NULL);
    }
    retained_find_end(world->shard);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 20261126;
    struct mr_rng rng;
    struct world *world = mr_alloc(sizeof(*world));

    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    mr_rng_seed(&rng, seed);
    world->rng = &rng;
    shard_make(world);
    topics_make(world);
    history(world);
    mr_assert(world->found > ROUNDS / 2);
    for (size_t i = 0; i < WALKS; i++) {
        if (world->walkers[i].open) {
            retained_walk_end(world->shard, &world->walkers[i].walk);
        }
    }
    test_shut(world);
    test_index(world);
    for (size_t i = 0; i < TOPICS; i++) {
        change(world, &world->topics[i], false);
    }
    mr_assert(world->shard->retained_count == 0);
    mr_assert(world->shard->pool.lent_bytes == 0); /* no node is left */
    retained_close(world->shard);
    mr_bufpool_fini(&world->shard->pool);
    mr_free(world->shard);
    mr_free(world);
    return 0;
}
