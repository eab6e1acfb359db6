/* cursor_pause.c - a bridge that the operator has stopped, as its cursors say.
 *
 * The flag is written with what is on the disk; a pause that cannot be written is none: the flags
 * are as they were, and the keeper writes the cursors again, because the failed write may be there.
 */
#include "journal/cursors_internal.h"

static void pause_set(struct mr_cursor *cursor, bool paused)
{
    atomic_store_explicit(&cursor->paused, paused, memory_order_relaxed);
}

static bool is_of(const struct mr_cursor *cursor, const char *name)
{
    return cursor->used && strcmp(cursor->name, name) == 0;
}

/* With the seq that is on disk: what is newer is the keeper's to write. */
static enum mr_err pause_write(struct mr_journal *journal, struct mr_cursor *cursor)
{
    const struct cursor_slot slot = {
        .seq = atomic_load_explicit(&cursor->seq_on_disk, memory_order_relaxed),
        .books = cursor->books_on_disk,
        .split = cursor->split};

    return mr_cursor_slot_write(journal, cursor, &slot);
}

/* All of the name are as they were, and what was written of them is written over. */
static void pause_undo(struct mr_journal *journal, const char *name, const bool *before)
{
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];

        if (is_of(cursor, name)) {
            pause_set(cursor, before[i]);
            mr_cursor_doubt(cursor,
                            atomic_load_explicit(&cursor->seq_on_disk, memory_order_relaxed));
        }
    }
}

enum mr_err mr_cursor_pause(struct mr_journal *journal, const char *name, bool paused)
{
    bool before[MR_CURSORS_MAX];
    enum mr_err err = MR_OK;
    bool any = false;

    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];

        before[i] = mr_cursor_is_paused(cursor);
        if (is_of(cursor, name)) {
            pause_set(cursor, paused);
            err = err == MR_OK ? pause_write(journal, cursor) : err;
            any = true;
        }
    }
    if (err == MR_OK && any) {
        err = mr_cursors_sync(journal);
    }
    if (err != MR_OK) {
        pause_undo(journal, name, before);
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return err == MR_OK && !any ? MR_ERR_REJECT : err;
}
