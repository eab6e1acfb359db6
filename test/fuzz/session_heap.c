/* session_heap.c - what a crash takes from the simulated machine is given back.
 *
 * Our own code's malloc() passes here (by the linker's --wrap); what threads of the machine take
 * is written down until it is freed, and freed when they are no more.  So a broker that is killed
 * thousands of times leaks nothing, and one that is stopped in order must have left nothing.
 *
 * AddressSanitizer asks the kernel for the signal stack whenever a thread of os_sim stops, of which
 * there are a hundred in a run: here it is told without a system call.
 */
#include "session_machine.h"

#include "os/sim.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __real_free(void *memory);
void __wrap_free(void *memory);

/* A set: open addressing, a power of two of slots, at most half of them used. */
static void **slots;
static size_t slot_count;
static size_t used;

static size_t home_of(const void *memory)
{
    return (size_t)(((uintptr_t)memory >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20) &
           (slot_count - 1);
}

static void insert(void *memory)
{
    size_t at = home_of(memory);

    while (slots[at] != NULL) {
        at = (at + 1) & (slot_count - 1);
    }
    slots[at] = memory;
    used += 1;
}

static void grow(void)
{
    void **old = slots;
    size_t old_count = slot_count;

    slot_count = old_count == 0 ? 4096 : 2 * old_count;
    slots = __real_calloc(slot_count, sizeof(*slots));
    mr_assert(slots != NULL);
    used = 0;
    for (size_t i = 0; i < old_count; i++) {
        if (old[i] != NULL) {
            insert(old[i]);
        }
    }
    __real_free(old);
}

static void *note(void *memory)
{
    if (memory != NULL && mr_sim_is_gateway()) {
        if (2 * (used + 1) > slot_count) {
            grow();
        }
        insert(memory);
    }
    return memory;
}

static void forget(const void *memory)
{
    size_t at = memory == NULL || slot_count == 0 ? 0 : home_of(memory);

    if (memory == NULL || slot_count == 0) {
        return;
    }
    while (slots[at] != memory) {
        if (slots[at] == NULL) {
            return; /* the world's */
        }
        at = (at + 1) & (slot_count - 1);
    }
    used -= 1;
    for (size_t next = at;;) { /* close the gap */
        next = (next + 1) & (slot_count - 1);
        if (slots[next] == NULL) {
            break;
        }
        size_t home = home_of(slots[next]);
        if (((next - home) & (slot_count - 1)) >= ((next - at) & (slot_count - 1))) {
            slots[at] = slots[next];
            at = next;
        }
    }
    slots[at] = NULL;
}

void *__wrap_malloc(size_t size)
{
    return note(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return note(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    forget(memory);
    return note(__real_realloc(memory, size));
}

void __wrap_free(void *memory)
{
    forget(memory);
    __real_free(memory);
}

size_t heap_blocks(void)
{
    return used;
}

void heap_life_ends(void)
{
    for (size_t i = 0; i < slot_count; i++) {
        __real_free(slots[i]);
    }
    __real_free(slots);
    slots = NULL;
    slot_count = 0;
    used = 0;
}

#if defined(__SANITIZE_ADDRESS__)

int sigaltstack(const stack_t *set, stack_t *was)
{
    static stack_t now = {.ss_flags = SS_DISABLE};

    if (was != NULL) {
        *was = now;
    }
    if (set != NULL) {
        now = *set;
        return (int)syscall(SYS_sigaltstack, set, NULL);
    }
    return 0;
}
#endif
