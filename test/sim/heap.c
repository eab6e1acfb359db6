/* heap.c - malloc for the simulator: what a crash takes from the gateway comes back at once.
 *
 * DESIGN
 *
 * The gateway asks for much at each start and touches little of it, and most starts end in a
 * crash, after which nobody gives anything back.  With the C library's heap each of them touches
 * fresh pages, and the kernel's work for these is more than all the rest of a run.  So there are
 * three regions: the world's, the gateway's, and one for what the gateway asks for in large.
 * When the gateway is gone its two are empty again: the first keeps its pages for the next start,
 * of the other those that were touched go back to the system.
 *
 * Memory above a region's `clean` mark has never been touched: calloc() need not clear it.
 *
 * With AddressSanitizer, which brings a heap of its own, there is none of this; what our own code
 * asks for passes here all the same (by the linker's --wrap), and can be refused.
 *
 * INVARIANTS
 *
 *   (1) Bytes of a region at and above `clean` are zero, and used <= clean.
 *   (2) A block is given back in the life of the gateway in which it was taken, as its head
 *       says.  (Else something that outlives a crash holds memory of the gateway: a mistake of
 *       os_sim, of a model, or a static pointer of the gateway.)
 *
 * Thread: one.   Memory: the pages touched, of REGION_BYTES of address space a region.
 */
#include "world.h"

#include "os/sim.h"
#include "rewind.h"

_Noreturn void __real__Exit(int code);
_Noreturn void __wrap__Exit(int code);

/* So ends the gateway when the system refuses it memory. */
void __wrap__Exit(int code)
{
    if (!mr_sim_is_gateway()) {
        __real__Exit(code);
    }
    say("the gateway ends at once: %d", code);
    mr_sim_die();
}

/* Allocations of the gateway's. */
static uint64_t asked;
static uint64_t refused; /* from 1; 0: none is */

void heap_refuse(uint64_t nth)
{
    refused = asked + nth;
}

bool heap_has_refused(void)
{
    return asked >= refused;
}

#if defined(__SANITIZE_ADDRESS__)

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool is_refused(void)
{
    asked += mr_sim_is_gateway() ? 1 : 0;
    return mr_sim_is_gateway() && asked == refused;
}

void *__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return is_refused() ? NULL : __real_realloc(memory, size);
}

void heap_life_ends(void) {}

bool rewind_can(void)
{
    return false;
}

void rewind_mark(void) {}
void rewind_back(void) {}

#else

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGN = 16,
    SMALL_BYTES = 256, /* up to it a size of its own for each multiple of ALIGN */
    SMALLS = SMALL_BYTES / ALIGN,
    SMALL_LOG = 8,
    STEPS = 4, /* above: sizes between two powers of two */
    CLASSES = SMALLS + 1 + (64 - SMALL_LOG) * STEPS,
    PAGE = 4096,
    LARGE_BYTES = 640 << 10, /* the gateway touches little of what is so large */
};
#define REGION_BYTES ((size_t)16 << 30)

enum kind { KIND_WORLD, KIND_GATEWAY, KIND_LARGE, KINDS };

struct head {
    uint16_t class;
    uint16_t kind;
    uint32_t life;   /* 0: of the world */
    uint64_t before; /* bytes of the block before this head, for an alignment */
};

struct region {
    uint8_t *base; /* NULL: not used yet */
    size_t used;
    size_t clean;
    struct head *free[CLASSES]; /* behind the head of a free block: the next one */
};

static struct region regions[KINDS];
static uint32_t life = 1;

static _Noreturn void heap_is_wrong(void)
{
    abort(); /* whatever says why would take memory */
}

static void region_open(struct region *region)
{
    region->base = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region->base == MAP_FAILED) {
        heap_is_wrong();
    }
}

/* Which size of blocks serves `size`, and how much is in one. */
static uint16_t class_of(size_t size, size_t *bytes)
{
    size_t rounded = size == 0 ? ALIGN : (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);

    if (rounded <= SMALL_BYTES) {
        *bytes = rounded;
        return (uint16_t)(rounded / ALIGN);
    }
    unsigned log = 63 - (unsigned)__builtin_clzll(rounded - 1);
    size_t step = ((size_t)1 << log) / STEPS;
    size_t steps = (rounded - 1 - ((size_t)1 << log)) / step + 1;
    *bytes = ((size_t)1 << log) + steps * step;
    return (uint16_t)(SMALLS + (log - SMALL_LOG) * STEPS + steps);
}

static size_t class_bytes(uint16_t class)
{
    if (class <= SMALLS) {
        return (size_t)class * ALIGN;
    }
    size_t power = (size_t)1 << (SMALL_LOG + (class - SMALLS - 1) / STEPS);
    return power + ((class - SMALLS - 1) % STEPS + 1) * (power / STEPS);
}

static struct head **next_of(struct head *head)
{
    return (struct head **)(head + 1);
}

static enum kind kind_for(size_t size)
{
    if (!mr_sim_is_gateway()) {
        return KIND_WORLD;
    }
    return size >= LARGE_BYTES ? KIND_LARGE : KIND_GATEWAY;
}

/* A block for `size` bytes.  The first *dirty of them may not be zero. */
static struct head *block_take(size_t size, size_t *dirty)
{
    enum kind kind = kind_for(size);
    struct region *region = &regions[kind];
    size_t bytes;

    asked += kind == KIND_WORLD ? 0 : 1;
    if (kind != KIND_WORLD && asked == refused) {
        errno = ENOMEM;
        return NULL;
    }
    uint16_t class = class_of(size, &bytes);
    struct head *head = region->free[class];

    if (head != NULL) {
        region->free[class] = *next_of(head);
        *dirty = kind == KIND_LARGE ? sizeof(struct head *) : size;
    } else {
        if (region->base == NULL) {
            region_open(region);
        }
        if (REGION_BYTES - region->used < sizeof(*head) + bytes) {
            heap_is_wrong();
        }
        head = (struct head *)(region->base + region->used);
        size_t begin = region->used + sizeof(*head);
        region->used = begin + bytes;
        *dirty = region->clean <= begin ? 0 : region->clean - begin;
        *dirty = *dirty < size ? *dirty : size;
        region->clean = region->clean < region->used ? region->used : region->clean;
    }
    *head = (struct head){.class = class, .kind = kind, .life = kind == KIND_WORLD ? 0 : life};
    return head;
}

/* Whole pages of it go back to the system, which has zeroes for them. */
static void pages_give(uint8_t *begin, size_t bytes)
{
    uintptr_t first = ((uintptr_t)begin + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    uintptr_t end = ((uintptr_t)begin + bytes) & ~(uintptr_t)(PAGE - 1);

    if (first >= end) {
        memset(begin, 0, bytes);
        return;
    }
    memset(begin, 0, first - (uintptr_t)begin);
    memset((void *)end, 0, (uintptr_t)begin + bytes - end);
    if (madvise((void *)first, end - first, MADV_DONTNEED) != 0) {
        heap_is_wrong();
    }
}

void heap_life_ends(void)
{
    struct region *gateway = &regions[KIND_GATEWAY];
    struct region *large = &regions[KIND_LARGE];

    if (large->base != NULL) {
        pages_give(large->base, large->used);
        large->clean = 0;
    }
    large->used = 0;
    gateway->used = 0;
    memset(large->free, 0, sizeof(large->free));
    memset(gateway->free, 0, sizeof(gateway->free));
    life += 1;
}

/* ---- rewind.h ---- */

/* What the linker calls the beginning and the end of what is static and not constant. */
extern uint8_t __data_start[];
extern uint8_t _end[];

/* Pointers into fresh mappings, so the copies are no part of what is copied. */
static uint8_t *saved_data;
static uint8_t *saved_heap;

static uint8_t *pages_take(size_t bytes)
{
    uint8_t *pages =
        mmap(NULL, bytes + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED) {
        heap_is_wrong();
    }
    return pages;
}

bool rewind_can(void)
{
    return true;
}

/* All that is static, `regions` among it; the compiler would take them for two things, and what
 * it knows of the one for untouched by a copy into the other.
 */
static uint8_t *static_data(void)
{
    uint8_t *data = __data_start;

    __asm__ volatile("" : "+r"(data) : "r"(regions) : "memory");
    return data;
}

void rewind_mark(void)
{
    size_t data_bytes = (size_t)(_end - __data_start);

    heap_life_ends();
    saved_data = pages_take(data_bytes);
    saved_heap = pages_take(regions[KIND_WORLD].used);
    memcpy(saved_heap, regions[KIND_WORLD].base, regions[KIND_WORLD].used);
    memcpy(saved_data, static_data(), data_bytes);
}

void rewind_back(void)
{
    const uint8_t *heap = saved_heap;
    size_t world_clean = regions[KIND_WORLD].clean;
    size_t gateway_clean;
    uint8_t *bases[KINDS];

    heap_life_ends();
    gateway_clean = regions[KIND_GATEWAY].clean;
    for (int i = 0; i < KINDS; i++) {
        bases[i] = regions[i].base;
    }
    memcpy(static_data(), saved_data, (size_t)(_end - __data_start));
    for (int i = 0; i < KINDS; i++) { /* what was touched stays so */
        regions[i].base = bases[i];
    }
    regions[KIND_WORLD].clean = world_clean;
    regions[KIND_GATEWAY].clean = gateway_clean;
    memcpy(regions[KIND_WORLD].base, heap, regions[KIND_WORLD].used);
}

/* ---- what the C library would do ---- */

void *malloc(size_t size)
{
    size_t dirty;
    struct head *head = block_take(size, &dirty);

    return head == NULL ? NULL : head + 1;
}

void *calloc(size_t count, size_t size)
{
    size_t total;
    size_t dirty;

    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    struct head *head = block_take(total, &dirty);
    return head == NULL ? NULL : memset(head + 1, 0, dirty);
}

void free(void *memory)
{
    if (memory == NULL) {
        return;
    }
    struct head *head = (struct head *)memory - 1;
    head = (struct head *)((uint8_t *)head - head->before);
    struct region *region = &regions[head->kind];
    if (head->life != 0 && head->life != life) {
        heap_is_wrong();
    }
    if (head->kind == KIND_LARGE) {
        pages_give((uint8_t *)(head + 1), class_bytes(head->class));
    }
    *next_of(head) = region->free[head->class];
    region->free[head->class] = head;
}

size_t malloc_usable_size(void *memory)
{
    const struct head *head = memory == NULL ? NULL : (struct head *)memory - 1;

    return head == NULL ? 0 : class_bytes(head->class) - head->before;
}

void *realloc(void *memory, size_t size)
{
    size_t room = malloc_usable_size(memory);

    if (memory != NULL && size <= room) {
        return memory;
    }
    void *larger = malloc(size);
    if (larger != NULL && memory != NULL) {
        memcpy(larger, memory, room);
        free(memory);
    }
    return larger;
}

void *memalign(size_t align, size_t size)
{
    size_t dirty;
    struct head *block = block_take(size + align, &dirty);

    if (block == NULL) {
        return NULL;
    }
    uintptr_t begin = ((uintptr_t)(block + 1) + align - 1) & ~(uintptr_t)(align - 1);
    struct head *head = (struct head *)begin - 1;

    if (head != block) { /* at least ALIGN further on, so neither is part of the other */
        *head = *block;
        head->before = (uintptr_t)head - (uintptr_t)block;
    }
    return (void *)begin;
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

int posix_memalign(void **memory, size_t align, size_t size)
{
    *memory = memalign(align, size);
    return *memory == NULL ? ENOMEM : 0;
}

#endif
