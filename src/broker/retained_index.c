/* retained_index.c - retained messages by (lane, seq), as records of a SUBSCRIBE name them.
 *
 * Made when a start comes to the first such record, kept in step until the start is over,
 * and dropped then: a table with linear probing, at most half full.
 */
#include "broker/retained_internal.h"

enum { INDEX_FIRST = 1024 };

struct retained_index {
    struct kept **slots;
    size_t mask;
    size_t count;
};

static size_t slot_of(const struct retained_index *index, uint32_t lane, uint64_t seq)
{
    uint64_t mixed = (seq ^ (uint64_t)lane << 40) * UINT64_C(0x9E3779B97F4A7C15);

    return (size_t)(mixed >> 20) & index->mask;
}

static void index_grow(struct retained_index *index)
{
    size_t before = index->slots == NULL ? 0 : index->mask + 1;
    struct kept **slots = index->slots;

    index->mask = before == 0 ? INDEX_FIRST - 1 : before * 2 - 1;
    index->slots = mr_alloc((index->mask + 1) * sizeof(struct kept *));
    index->count = 0;
    for (size_t i = 0; i < before; i++) {
        if (slots[i] != NULL) {
            retained_index_add(index, slots[i]);
        }
    }
    mr_free(slots);
}

void retained_index_add(struct retained_index *index, struct kept *kept)
{
    if (index->slots == NULL || index->count > index->mask / 2) {
        index_grow(index);
    }
    size_t at = slot_of(index, kept->lane, kept->seq);
    while (index->slots[at] != NULL) {
        at = (at + 1) & index->mask;
    }
    index->slots[at] = kept;
    index->count += 1;
}

void retained_index_remove(struct retained_index *index, const struct kept *kept)
{
    size_t at = slot_of(index, kept->lane, kept->seq);

    while (index->slots[at] != kept) {
        mr_assert(index->slots[at] != NULL);
        at = (at + 1) & index->mask;
    }
    /* Close the gap: whoever is behind it and belongs at it or in front of it moves there. */
    for (size_t next = (at + 1) & index->mask; index->slots[next] != NULL;
         next = (next + 1) & index->mask) {
        size_t home = slot_of(index, index->slots[next]->lane, index->slots[next]->seq);
        if (((next - home) & index->mask) >= ((next - at) & index->mask)) {
            index->slots[at] = index->slots[next];
            at = next;
        }
    }
    index->slots[at] = NULL;
    index->count -= 1;
}

void retained_index_free(struct retained_index *index)
{
    if (index != NULL) {
        mr_free(index->slots);
        mr_free(index);
    }
}

static void index_each(void *arg, struct kept *kept)
{
    retained_index_add(arg, kept);
}

struct kept *retained_find(struct mr_shard *shard, uint32_t lane, uint64_t seq)
{
    struct retained *tree = shard->retained;

    if (tree == NULL) {
        return NULL;
    }
    if (tree->index == NULL) {
        tree->index = mr_alloc(sizeof(*tree->index));
        index_grow(tree->index);
        retained_each(shard, index_each, tree->index);
    }
    size_t at = slot_of(tree->index, lane, seq);
    struct kept *kept = tree->index->slots[at];
    while (kept != NULL && (kept->lane != lane || kept->seq != seq)) {
        at = (at + 1) & tree->index->mask;
        kept = tree->index->slots[at];
    }
    return kept;
}

void retained_find_end(struct mr_shard *shard)
{
    if (shard->retained != NULL) {
        retained_index_free(shard->retained->index);
        shard->retained->index = NULL;
    }
}
