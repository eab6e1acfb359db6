/* cursors_internal.h - what the files of the cursors know of each other: the table, what is on disk
 * of it, books and ranges.
 *
 * Thread: a cursor's `seq` and books are its bridge's; the table is whoever's has cursor_mutex.
 * Memory: the table of MR_CURSORS_MAX.   Time: set ~1 ns, a walk over the table else.
 */
#ifndef MR_JOURNAL_CURSORS_INTERNAL_H
#define MR_JOURNAL_CURSORS_INTERNAL_H

#include "journal/journal_internal.h"

struct mr_cursor {
    struct mr_lane *lane;
    _Atomic uint64_t seq;
    _Atomic uint64_t seq_on_disk;
    _Atomic uint64_t in_doubt; /* less 1: a write of this seq failed and may be there; 0: none */
    _Atomic uint64_t given_up; /* up to here it holds nothing (drops.c) */
    struct mr_mutex books_mutex;
    struct mr_books books;         /* of `seq`, changed with it under books_mutex */
    struct mr_books books_on_disk; /* of `seq_on_disk`; under the journal's cursor_mutex */
    uint64_t generation;           /* of the newer copy on disk; keeper, under the mutex */
    uint32_t lane_index;
    uint32_t epoch;
    uint8_t newer_copy; /* of those on the medium */
    bool written;       /* the other one was, and is not certain yet */
    bool used;
    bool opened;                      /* in this life: its bridge runs */
    bool split;                       /* it has a second position; under the mutex, as that */
    struct mr_cursor *live;           /* it; changed under books_mutex too */
    struct mr_cursor *_Atomic behind; /* of a second position: whose */
    _Atomic uint64_t ahead_from;      /* (ahead_from, ahead_to] is settled by the second one */
    _Atomic uint64_t ahead_to;
    bool never_drops;
    uint32_t priority;
    _Atomic bool paused;
    _Atomic uint8_t rule;            /* enum mr_cursor_rule */
    struct mr_wake *_Atomic watcher; /* changed and rung under watch_mutex */
    char name[MR_CURSOR_NAME_MAX + 1];
};

/* The last record that a cursor needs for itself: what its second position has begun behind is
 * that one's to hold.  Under the journal's cursor_mutex, as the next.
 */
static inline uint64_t mr_cursor_needs_to(const struct mr_cursor *cursor)
{
    return cursor->live == NULL ? UINT64_MAX : cursor->live->books.begin;
}

/* Where a power cut finds it at the earliest. */
static inline uint64_t mr_cursor_stands(const struct mr_cursor *cursor)
{
    uint64_t seq = atomic_load_explicit(&cursor->seq_on_disk, memory_order_relaxed);
    uint64_t in_doubt = atomic_load_explicit(&cursor->in_doubt, memory_order_relaxed);

    return in_doubt != 0 && in_doubt - 1 < seq ? in_doubt - 1 : seq;
}

/* UINT64_MAX: it holds nothing. */
static inline uint64_t mr_cursor_holds_behind(const struct mr_cursor *cursor)
{
    uint64_t seq = mr_cursor_stands(cursor);
    uint64_t given_up = atomic_load_explicit(&cursor->given_up, memory_order_relaxed);
    uint64_t behind = seq > given_up ? seq : given_up;

    return behind < mr_cursor_needs_to(cursor) ? behind : UINT64_MAX;
}

/* A write of `seq` failed: until it is written again a power cut may find the cursor there, or
 * where an earlier one that failed would have put it, and what is behind the lowest must be there
 * too.  Under cursor_mutex.
 */
static inline void mr_cursor_doubt(struct mr_cursor *cursor, uint64_t seq)
{
    uint64_t before = atomic_load_explicit(&cursor->in_doubt, memory_order_relaxed);

    if (before == 0 || seq + 1 < before) {
        atomic_store_explicit(&cursor->in_doubt, seq + 1, memory_order_relaxed);
    }
}

/* ---- books.c ---- */

/* The 80 bytes of a slot. */
void mr_books_put(const struct mr_books *books, uint8_t *out);
void mr_books_get(const uint8_t *in, struct mr_books *out);

/* ---- ranges.c; all under the journal's cursor_mutex ---- */

/* Behind the cursors; `make`: if there is no file yet.  Without one none are kept. */
enum mr_err mr_ranges_open(struct mr_journal *journal, bool make, struct mr_error *why) MR_MUST_USE;
void mr_ranges_close(struct mr_journal *journal);

/* Note `range` for the cursor's write of that generation, which follows; then one of the next. */
enum mr_err mr_range_write(struct mr_journal *journal, const struct mr_range *range,
                           uint64_t generation) MR_MUST_USE;
void mr_range_written(struct mr_journal *journal); /* it was written */
void mr_range_undo(struct mr_journal *journal);    /* it was not */
void mr_ranges_forget(struct mr_journal *journal, const char *name, uint32_t lane); /* it is gone */

/* In front of each write of a cursor: what was undone or forgotten is not on the medium any more.
 * FULL, IO: it may be.
 */
enum mr_err mr_ranges_settle(struct mr_journal *journal) MR_MUST_USE;

/* ---- cursor.c ---- */

enum mr_err mr_cursors_open(struct mr_journal *journal, struct mr_error *why) MR_MUST_USE;
void mr_cursors_close(struct mr_journal *journal);
void mr_cursors_path(const struct mr_journal *journal, struct path *out);
enum mr_err mr_cursors_file_make(struct mr_journal *journal, const char *path, uint64_t bytes,
                                 struct mr_error *why) MR_MUST_USE;
enum mr_err mr_cursors_write(struct mr_journal *journal) MR_MUST_USE; /* those that changed */

/* What a slot says beside what stays. */
struct cursor_slot {
    uint64_t seq;
    struct mr_books books;
    bool forgotten;
    bool split; /* there is a second position */
};

/* Write it to the older copy, again and again until a sync makes it the newer one: as long as it is
 * not certain, the other is all there is.  Then: it is on the disk.
 */
enum mr_err mr_cursor_slot_write(struct mr_journal *journal, struct mr_cursor *cursor,
                                 const struct cursor_slot *said) MR_MUST_USE;
enum mr_err mr_cursors_sync(struct mr_journal *journal) MR_MUST_USE; /* all that were written */
void mr_cursor_slot_written(struct mr_cursor *cursor, const struct cursor_slot *slot);

/* Slots of the table, under cursor_mutex. */
struct mr_cursor *mr_cursor_slot_find(struct mr_journal *journal, const char *name, uint32_t lane,
                                      struct mr_cursor **unused);
/* cursor_open.c; both copies, synced.  Not OK: the disk has none, or the keeper ends it all. */
enum mr_err mr_cursor_slot_make(struct mr_journal *journal, struct mr_cursor *cursor,
                                const char *name, uint32_t lane, uint64_t seq,
                                enum mr_cursor_rule rule, struct mr_error *why) MR_MUST_USE;
enum mr_err mr_cursor_slot_free(struct mr_journal *journal,
                                struct mr_cursor *cursor) MR_MUST_USE; /* not synced */

/* The cursor is at `seq` now: tell whom it concerns, its first position and who watches. */
void mr_cursor_tell(struct mr_cursor *cursor, uint64_t seq);

/* live.c: after the table was read. */
void mr_cursors_link_live(struct mr_journal *journal);

/* Free slots of second positions that are nobody's; under cursor_mutex.  FULL, IO: another time. */
enum mr_err mr_cursors_free_live(struct mr_journal *journal) MR_MUST_USE;

/* Does anybody but the gateway itself (names with a `$`) have a cursor? */
bool mr_cursors_has_bridge(struct mr_journal *journal, uint32_t lane);

/* Lowest cursor on disk of `lane`; UINT64_MAX: it has none.  *highest: of memory. */
uint64_t mr_cursors_lowest(struct mr_journal *journal, uint32_t lane, uint64_t *highest);

/* Of a cursor: the name of its bridge, what it holds behind, and whether its bridge runs. */
struct holder {
    char name[MR_CURSOR_NAME_MAX + 1];
    uint64_t seq;
    bool opened;
};
void mr_holder_of(const struct mr_cursor *cursor, struct holder *out); /* under cursor_mutex */

/* The one that holds `lane` back most; false: none does. */
bool mr_cursors_holder(struct mr_journal *journal, uint32_t lane, struct holder *out);

/* Cursors that nobody has opened since the start hold the journal for ever. */
void mr_cursors_say_orphans(struct mr_journal *journal);

#endif
