/* block.c - memory between append and disk, shared with readers that keep up.
 *
 * DESIGN
 *
 * A block mirrors a range of one segment and holds many small batches or a part
 * of the flow at high rate.  Whoever still needs it is known without a list:
 *
 *   writer   it is lane->block, or its last seq is above released_seq
 *   commit   its last seq is above durable_seq
 *   readers  pins > 0; and, as a wish only, a reader has not passed it yet
 *
 * When the writer needs a block it takes, in this order: the one used last among
 * those that everybody has passed (it is still in the cache), else the oldest that
 * nobody holds (a reader that wanted it will read the disk), else none: BEHIND.
 * There are a few dozen blocks and this happens once per megabyte, so a walk over
 * all of them is cheaper than any list kept on the way.
 *
 * Rejected: a free list filled by unpin.  Unpin would need the mutex, and it runs
 * in the threads of client libraries.
 *
 * INVARIANTS
 *
 *   (1) Labels (pos, life, seq_first, seq_end) change only under the mutex and only
 *       while pins == 0, except seq_end of the block that is left.
 *   (2) Blocks that readers pin are at most block_count - BLOCKS_FOR_WRITER, so
 *       commit and release always bring back one.  Those of large records are too
 *       few to lend: readers copy them.
 */
#include "journal/journal_internal.h"

static uint32_t blocks_all(const struct mr_lane *lane)
{
    return lane->block_count + OVERSIZE_BLOCKS;
}

void mr_blocks_open(struct mr_lane *lane)
{
    /* Backed by the system when touched: a lane with little to do uses few blocks. */
    lane->block_memory = mr_alloc((size_t)lane->block_count * lane->block_bytes + PAGE_BYTES);
    uint8_t *at = lane->block_memory + (-(uintptr_t)lane->block_memory & (PAGE_BYTES - 1));

    lane->blocks = mr_alloc(blocks_all(lane) * sizeof(*lane->blocks));
    for (uint32_t i = 0; i < blocks_all(lane); i++) {
        struct block *block = &lane->blocks[i];

        block->oversize = i >= lane->block_count;
        if (!block->oversize) {
            block->memory = at + (size_t)i * lane->block_bytes;
            block->capacity = lane->block_bytes;
        }
    }
}

void mr_blocks_close(struct mr_lane *lane)
{
    for (uint32_t i = 0; lane->blocks != NULL && i < blocks_all(lane); i++) {
        mr_assert(atomic_load(&lane->blocks[i].pins) == 0);
        if (lane->blocks[i].oversize) {
            mr_free(lane->blocks[i].memory);
        }
    }
    mr_free(lane->blocks);
    lane->blocks = NULL;
    mr_free(lane->block_memory);
}

static uint64_t readers_lowest(const struct mr_lane *lane)
{
    uint64_t lowest = UINT64_MAX;

    for (const struct mr_reader *r = lane->readers; r != NULL; r = r->next) {
        uint64_t seq = atomic_load_explicit(&r->seq_next, memory_order_relaxed);
        lowest = seq < lowest ? seq : lowest;
    }
    return lowest;
}

/* Nobody holds it.  `end`: one past what is both durable and released. */
static bool block_idle(const struct mr_lane *lane, const struct block *block, uint64_t end)
{
    return block != lane->block && block->seq_end <= end &&
           atomic_load_explicit(&block->pins, memory_order_acquire) == 0;
}

static struct block *block_choose(struct mr_lane *lane, bool oversize)
{
    uint64_t durable = atomic_load_explicit(&lane->durable_seq, memory_order_acquire);
    uint64_t released = atomic_load_explicit(&lane->released_seq, memory_order_relaxed);
    uint64_t end = (durable < released ? durable : released) + 1;
    uint64_t passed = readers_lowest(lane);
    struct block *warm = NULL;
    struct block *oldest = NULL;

    for (uint32_t i = 0; i < blocks_all(lane); i++) {
        struct block *block = &lane->blocks[i];

        if (block->oversize != oversize || !block_idle(lane, block, end)) {
            continue;
        }
        if (block->seq_end <= passed) {
            warm = warm == NULL || block->seq_end > warm->seq_end ? block : warm;
        } else {
            oldest = oldest == NULL || block->seq_first < oldest->seq_first ? block : oldest;
        }
    }
    return warm != NULL ? warm : oldest;
}

/* Memory of large records goes back to the system as soon as nobody holds it. */
static void oversize_trim(struct mr_lane *lane)
{
    uint64_t durable = atomic_load_explicit(&lane->durable_seq, memory_order_acquire);
    uint64_t released = atomic_load_explicit(&lane->released_seq, memory_order_relaxed);
    uint64_t end = (durable < released ? durable : released) + 1;

    for (uint32_t i = lane->block_count; i < blocks_all(lane); i++) {
        struct block *block = &lane->blocks[i];

        if (block->memory != NULL && block_idle(lane, block, end)) {
            mr_free(block->memory);
            block->memory = NULL;
            block->capacity = 0;
            block->life = 0;
        }
    }
}

enum mr_err mr_block_take(struct mr_lane *lane, size_t bytes, uint64_t pos)
{
    bool oversize = bytes > lane->block_bytes;

    mr_mutex_lock(&lane->mutex);
    oversize_trim(lane);
    struct block *block = block_choose(lane, oversize);
    if (block == NULL) {
        mr_mutex_unlock(&lane->mutex);
        return MR_ERR_FULL;
    }
    if (oversize) {
        block->capacity = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
        block->memory = mr_realloc(block->memory, block->capacity);
    }
    if (lane->block != NULL) {
        lane->block->seq_end = lane->seq_next;
    }
    block->pos = pos;
    block->life = lane->segment->life;
    block->seq_first = lane->seq_next;
    block->seq_end = UINT64_MAX;
    atomic_store_explicit(&block->has_names, 0, memory_order_relaxed);
    lane->block = block;
    mr_mutex_unlock(&lane->mutex);
    return MR_OK;
}

struct block *mr_block_pin(struct mr_lane *lane, uint64_t life, uint64_t seq, uint64_t *seq_end,
                           bool *copy_only)
{
    struct block *found = NULL;
    uint32_t pinned = 0;

    mr_mutex_lock(&lane->mutex);
    for (uint32_t i = 0; i < blocks_all(lane); i++) {
        struct block *block = &lane->blocks[i];

        pinned += atomic_load_explicit(&block->pins, memory_order_relaxed) != 0;
        if (block->life == life && block->seq_first <= seq && seq < block->seq_end) {
            found = block;
        }
    }
    if (found != NULL) {
        uint32_t before = atomic_fetch_add_explicit(&found->pins, 1, memory_order_relaxed);
        *seq_end = found->seq_end;
        *copy_only =
            found->oversize || (before == 0 && pinned >= lane->block_count - BLOCKS_FOR_WRITER);
    }
    mr_mutex_unlock(&lane->mutex);
    return found;
}

void mr_block_unpin(struct block *block)
{
    uint32_t before = atomic_fetch_sub_explicit(&block->pins, 1, memory_order_release);

    mr_assert(before != 0);
}
