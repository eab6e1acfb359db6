/* base.c - see base.h for the contract. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_NO_MEMORY = 71 }; /* EX_OSERR of sysexits */

enum mr_err mr_error_set(struct mr_error *why, enum mr_err code, const char *fmt, ...)
{
    if (why != NULL) {
        va_list args;

        va_start(args, fmt);
        (void)vsnprintf(why->text, sizeof(why->text), fmt, args);
        va_end(args);
        why->code = code;
    }
    return code;
}

void mr_assert_failed(const char *expr, const char *file, int line)
{
    /* Straight to stderr: the log may be what is broken. */
    (void)fprintf(stderr,
                  "millrace: assertion failed: %s (%s:%d); stopping at once, the journal "
                  "is recovered at the next start\n",
                  expr, file, line);
    abort();
}

enum mr_err mr_arena_open(struct mr_arena *arena, size_t size)
{
    /* calloc takes large sizes from fresh mappings, which are zero and not
     * backed by memory until touched.  A malloc with memset would touch all.
     */
    unsigned char *base = calloc(1, size == 0 ? 1 : size);

    *arena = (struct mr_arena){.base = base, .size = base == NULL ? 0 : size, .used = 0};
    return base == NULL ? MR_ERR_CONFIG : MR_OK;
}

void mr_arena_close(struct mr_arena *arena)
{
    free(arena->base);
    *arena = (struct mr_arena){.base = NULL, .size = 0, .used = 0};
}

void *mr_arena_alloc(struct mr_arena *arena, size_t size, size_t align)
{
    mr_assert(align != 0 && (align & (align - 1)) == 0);

    /* The address is aligned, not the offset: `base` may be any buffer. */
    uintptr_t next = (uintptr_t)arena->base + arena->used;
    size_t padding = (size_t)(-next & (align - 1));
    size_t left = arena->size - arena->used;

    if (padding > left || size > left - padding) {
        return NULL;
    }
    unsigned char *memory = arena->base + arena->used + padding;
    arena->used += padding + size;
    memset(memory, 0, size);
    return memory;
}

void mr_memory_refused(size_t size)
{
    (void)fprintf(stderr,
                  "millrace: the system refused %zu bytes of memory; "
                  "give the process more or lower gateway.memory\n",
                  size);
    _Exit(EXIT_NO_MEMORY); /* other threads still use what exit() would take down */
}

static void *memory_or_exit(void *memory, size_t size)
{
    if (memory == NULL) {
        mr_memory_refused(size);
    }
    return memory;
}

void *mr_alloc(size_t size)
{
    return memory_or_exit(calloc(1, size == 0 ? 1 : size), size);
}

void *mr_realloc(void *memory, size_t size)
{
    return memory_or_exit(realloc(memory, size == 0 ? 1 : size), size);
}

char *mr_strndup(const char *text, size_t len)
{
    char *copy = mr_alloc(len + 1);

    memcpy(copy, text, len);
    return copy;
}

char *mr_strdup(const char *text)
{
    return mr_strndup(text, strlen(text));
}

void mr_wipe(void *at, size_t len)
{
    explicit_bzero(at, len);
}

void mr_free(void *memory)
{
    free(memory);
}
