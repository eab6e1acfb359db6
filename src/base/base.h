/* base.h - what every other file is allowed to assume.
 *
 * Layer 0.  Includes nothing of ours.  If a thing here needs a second
 * paragraph of explanation it belongs in its own header.
 */
#ifndef MR_BASE_BASE_H
#define MR_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_MUST_USE __attribute__((warn_unused_result))
#define MR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MR_LIKELY(expr) __builtin_expect(!!(expr), 1)
#define MR_UNLIKELY(expr) __builtin_expect(!!(expr), 0)
#define MR_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* What went wrong, as a caller must react to it - not where it happened.
 * Negative, so that a count or a size may share the return value.
 */
enum mr_err {
    MR_OK = 0,
    MR_ERR_FULL = -1,    /* a fixed limit is reached; apply back-pressure */
    MR_ERR_AGAIN = -2,   /* nothing now, or the remote side is away; try later */
    MR_ERR_REJECT = -3,  /* this input can never succeed; dead-letter it */
    MR_ERR_CORRUPT = -4, /* bytes on disk or wire do not parse */
    MR_ERR_IO = -5,      /* the storage under us failed; stop acknowledging */
    MR_ERR_CONFIG = -6,  /* the operator must change something */
};

/* A human sentence for the control plane (start-up, config, connect).
 * Data-plane functions return enum mr_err alone and never format text.
 * Convention: the thing, the cause, the next step.
 */
struct mr_error {
    enum mr_err code;
    char text[508];
};

/* Fill `why` (may be NULL) and return `code`, so a function can end with
 * `return mr_error_set(why, MR_ERR_IO, "...", ...)`.  Truncates, never fails.
 */
enum mr_err mr_error_set(struct mr_error *why, enum mr_err code, const char *fmt, ...)
    MR_PRINTF(3, 4);

/* Programmer errors.  Compiled into release builds: a gateway that has lost
 * track of its own state must stop acknowledging, and stopping is the only
 * way to be sure of that.  Environment errors (disk, peer, operator) are
 * never asserted; they are returned.
 */
_Noreturn void mr_assert_failed(const char *expr, const char *file, int line);
#define mr_assert(expr) (MR_LIKELY(expr) ? (void)0 : mr_assert_failed(#expr, __FILE__, __LINE__))

/* Memory that is handed out at start-up and lives as long as its owner.
 * There is no free: the arena goes as a whole (docs/MEMORY.md).
 */
struct mr_arena {
    unsigned char *base;
    size_t size;
    size_t used;
};

/* Allocate the arena's memory (lazily backed by the kernel).  MR_ERR_CONFIG
 * when the machine refuses `size` bytes.  Undone by mr_arena_close().
 */
enum mr_err mr_arena_open(struct mr_arena *arena, size_t size) MR_MUST_USE;
void mr_arena_close(struct mr_arena *arena);

/* Zeroed, `align`-aligned.  NULL when the arena is used up; the caller turns
 * that into MR_ERR_CONFIG ("raise gateway.memory").
 */
void *mr_arena_alloc(struct mr_arena *arena, size_t size, size_t align) MR_MUST_USE;

/* Ends the process with a message and 71 (EX_OSERR): the system has no `size` bytes for what
 * cannot be done without.  Nothing is flushed; the journal is recovered at the next start.
 */
_Noreturn void mr_memory_refused(size_t size);

/* Start-up and control-plane memory.  Never NULL: a process that cannot get
 * start-up memory ends with a message.  Not for the event path (lint checks).
 * Release with mr_free().
 */
void *mr_alloc(size_t size) MR_MUST_USE; /* zeroed */
void *mr_realloc(void *memory, size_t size) MR_MUST_USE;
char *mr_strdup(const char *text) MR_MUST_USE;
char *mr_strndup(const char *text, size_t len) MR_MUST_USE;
void mr_free(void *memory);

/* Zero a secret, even where the compiler sees that nobody reads it again. */
void mr_wipe(void *at, size_t len);

#endif
