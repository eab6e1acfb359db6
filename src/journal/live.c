/* live.c - see live.h; docs/JOURNAL.md has the slot's bytes.
 *
 * DESIGN
 *
 * Two slots cannot be written in one step, so one of them decides.  Begin: the second slot is
 * on disk before the flag of the first is.  End: the first is on disk, without the flag and
 * with the books of both, before the second is freed.  In between a second slot without the
 * flag of a first is nobody's.  It holds the journal until the disk knows that it is free, which
 * the keeper sees to: at once if it can, else in each of its rounds.
 */
#include "journal/live.h"

#include "journal/cursors_internal.h"
#include "journal/drops_internal.h"

static bool live_name(const char *name, char out[MR_CURSOR_NAME_MAX + 1])
{
    struct mr_text text = mr_text_over(out, MR_CURSOR_NAME_MAX + 1);

    mr_text_add(&text, MR_LIVE_PREFIX);
    mr_text_add(&text, name);
    return strlen(name) + strlen(MR_LIVE_PREFIX) <= MR_CURSOR_NAME_MAX;
}

bool mr_cursor_is_live(const struct mr_cursor *cursor)
{
    return strncmp(cursor->name, MR_LIVE_PREFIX, strlen(MR_LIVE_PREFIX)) == 0;
}

const char *mr_cursor_bridge(const struct mr_cursor *cursor)
{
    return mr_cursor_is_live(cursor) ? cursor->name + strlen(MR_LIVE_PREFIX) : cursor->name;
}

uint64_t mr_cursor_live_from(const struct mr_cursor *live)
{
    return live->books.begin;
}

/* `to` before `from` while it is begun, so that who looks in between sees nothing settled. */
static void ahead_set(struct mr_cursor *cursor, uint64_t from, uint64_t to)
{
    atomic_store_explicit(&cursor->ahead_to, 0, memory_order_release);
    atomic_store_explicit(&cursor->ahead_from, from, memory_order_release);
    atomic_store_explicit(&cursor->ahead_to, to, memory_order_release);
}

bool mr_cursor_ahead(const struct mr_cursor *cursor, uint64_t *from, uint64_t *to)
{
    *to = atomic_load_explicit(&cursor->ahead_to, memory_order_acquire);
    *from = atomic_load_explicit(&cursor->ahead_from, memory_order_acquire);
    return *to != 0 && *from <= *to;
}

/* The two know each other from here on. */
static void link(struct mr_cursor *cursor, struct mr_cursor *live)
{
    mr_mutex_lock(&cursor->books_mutex);
    cursor->live = live;
    cursor->split = true;
    mr_mutex_unlock(&cursor->books_mutex);
    atomic_store_explicit(&live->behind, cursor, memory_order_relaxed);
    ahead_set(cursor, live->books.begin, mr_cursor_get(live));
}

void mr_cursors_link_live(struct mr_journal *journal)
{
    char name[MR_CURSOR_NAME_MAX + 1];
    struct mr_cursor *unused;

    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];
        struct mr_cursor *live = NULL;
        if (cursor->used && cursor->split && live_name(cursor->name, name)) {
            live = mr_cursor_slot_find(journal, name, cursor->lane_index, &unused);
        }
        if (live != NULL) {
            link(cursor, live);
        } else if (cursor->used && cursor->split) {
            mr_log(MR_LOG_ERROR, "journal",
                   "%s: the second position of '%s' in lane %u cannot be read; it goes on behind "
                   "record %llu alone, and what was delivered ahead of that comes again",
                   journal->name, cursor->name, cursor->lane_index,
                   (unsigned long long)mr_cursor_get(cursor));
            cursor->split = false;
        }
    }
}

/* Free a slot that is nobody's; the mutex is held.  FULL, IO: the keeper tries again.  A sync that
 * failed is not repeated: then the keeper ends it all, as for its own.
 */
static enum mr_err live_free(struct mr_journal *journal, struct mr_cursor *live)
{
    enum mr_err err = mr_cursor_slot_free(journal, live);

    if (err == MR_OK && mr_cursors_sync(journal) != MR_OK) {
        journal->cursors_failed = true;
        err = MR_ERR_IO;
    }
    return err;
}

enum mr_err mr_cursors_free_live(struct mr_journal *journal)
{
    enum mr_err err = MR_OK;

    for (uint32_t i = 0; i < MR_CURSORS_MAX && err == MR_OK; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->used && mr_cursor_is_live(cursor) &&
            atomic_load_explicit(&cursor->behind, memory_order_relaxed) == NULL) {
            err = live_free(journal, cursor);
        }
    }
    return err;
}

enum mr_err mr_cursor_live_found(struct mr_cursor *cursor, struct mr_cursor **out,
                                 struct mr_error *why)
{
    struct mr_journal *journal = cursor->lane->journal;
    char name[MR_CURSOR_NAME_MAX + 1];
    struct mr_cursor *unused;
    enum mr_err err = MR_OK;

    mr_mutex_lock(&journal->cursor_mutex);
    struct mr_cursor *live = NULL;
    if (live_name(cursor->name, name)) {
        live = mr_cursor_slot_find(journal, name, cursor->lane_index, &unused);
    }
    if (live != NULL && !cursor->split && !journal->read_only) {
        err = live_free(journal, live);
        err = err == MR_ERR_FULL ? MR_OK : err;
    }
    *out = cursor->split ? live : NULL;
    if (*out != NULL) {
        live->opened = true;
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return err == MR_OK
               ? MR_OK
               : mr_error_set(why, err, "%s: the cursors cannot be written: %s; check the disk",
                              journal->name, mr_file_last_cause());
}

/* As it is now, with the flag. */
static enum mr_err flag_write(struct mr_journal *journal, struct mr_cursor *cursor)
{
    struct cursor_slot slot = {.split = true};

    slot.seq = mr_cursor_books(cursor, &slot.books);
    enum mr_err err = mr_cursor_slot_write(journal, cursor, &slot);
    err = err == MR_OK ? mr_cursors_sync(journal) : err;
    if (err == MR_OK) {
        mr_cursor_slot_written(cursor, &slot);
    }
    return err;
}

/* A slot for `name`: a free one, or its last one, which could not be freed until now. */
static enum mr_err slot_take(struct mr_cursor *cursor, const char *name, struct mr_cursor **out,
                             struct mr_error *why)
{
    struct mr_journal *journal = cursor->lane->journal;
    struct mr_cursor *unused;
    struct mr_cursor *last = mr_cursor_slot_find(journal, name, cursor->lane_index, &unused);

    *out = last != NULL ? last : unused;
    if (*out == NULL) {
        return mr_error_set(why, MR_ERR_FULL, "%s: all %d cursors are in use", journal->name,
                            MR_CURSORS_MAX);
    }
    enum mr_err err = last == NULL ? MR_OK : live_free(journal, last);
    if (err != MR_OK) {
        return mr_error_set(why, err == MR_ERR_FULL ? MR_ERR_AGAIN : err,
                            "%s: the last second position of '%s' cannot be given up: %s",
                            journal->name, cursor->name, mr_file_last_cause());
    }
    return MR_OK;
}

/* Both slots on disk, the second one first.  AGAIN: there is no room now. */
static enum mr_err slots_write(struct mr_cursor *cursor, struct mr_cursor *live, const char *name,
                               uint64_t from, struct mr_error *why)
{
    struct mr_journal *journal = cursor->lane->journal;
    enum mr_err err =
        mr_cursor_slot_make(journal, live, name, cursor->lane_index, from, MR_CURSOR_LEADS, why);

    if (err == MR_OK) {
        live->opened = true;
        err = flag_write(journal, cursor);
        if (err != MR_OK) {
            (void)mr_error_set(why, err, "%s: the cursor of '%s' cannot be written: %s",
                               journal->name, cursor->name, mr_file_last_cause());
            (void)!live_free(journal, live); /* else the keeper does */
        }
    }
    return err == MR_ERR_FULL ? MR_ERR_AGAIN : err;
}

enum mr_err mr_cursor_live_begin(struct mr_cursor *cursor, uint64_t from, struct mr_cursor **out,
                                 struct mr_error *why)
{
    struct mr_journal *journal = cursor->lane->journal;
    char name[MR_CURSOR_NAME_MAX + 1];
    struct mr_cursor *live = NULL;

    mr_assert(!cursor->split && from >= mr_cursor_get(cursor) &&
              from <= mr_lane_durable(cursor->lane));
    if (!live_name(cursor->name, name)) {
        return mr_error_set(
            why, MR_ERR_CONFIG,
            "the name '%s' is too long for a second position; use at most %zu bytes", cursor->name,
            MR_CURSOR_NAME_MAX - strlen(MR_LIVE_PREFIX));
    }
    mr_mutex_lock(&journal->cursor_mutex);
    enum mr_err err = slot_take(cursor, name, &live, why);
    err = err == MR_OK ? slots_write(cursor, live, name, from, why) : err;
    if (err == MR_OK) {
        link(cursor, live);
        *out = live;
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}

/* How many of the records (from, to] lie at or below `seq`. */
static uint64_t up_to(uint64_t from, uint64_t to, uint64_t seq)
{
    return seq <= from ? 0 : (seq < to ? seq : to) - from;
}

/* The books of both, with the cursor put to `seq`. */
static void books_join(const struct mr_cursor *cursor, uint64_t seq, struct mr_books *books)
{
    const struct mr_books *live = &cursor->live->books;
    uint64_t first = mr_cursor_get(cursor);
    uint64_t second = mr_cursor_get(cursor->live);
    uint64_t from = live->begin;

    *books = cursor->books;
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        books->columns[i] += live->columns[i];
    }
    books->accepted += live->accepted;
    books->columns[MR_COLUMN_GIVEN_UP] +=
        up_to(first, from, seq) + (seq > second ? seq - second : 0);
    books->columns[MR_COLUMN_REPEATED] +=
        (seq < first ? first - seq : 0) + (second - from - up_to(from, second, seq));
}

enum mr_err mr_cursor_live_end(struct mr_cursor *cursor, uint64_t seq, enum mr_cursor_rule rule)
{
    struct mr_journal *journal = cursor->lane->journal;
    struct mr_cursor *live = cursor->live;
    struct cursor_slot slot = {.seq = seq};

    mr_mutex_lock(&journal->cursor_mutex);
    if (seq < mr_cursor_get(live) && seq < mr_lane_floor(cursor->lane)) {
        mr_mutex_unlock(&journal->cursor_mutex);
        return MR_ERR_AGAIN;
    }
    books_join(cursor, seq, &slot.books);
    enum mr_cursor_rule before = mr_cursor_rule(cursor);
    atomic_store_explicit(&cursor->rule, rule, memory_order_relaxed);
    enum mr_err err = mr_cursor_slot_write(journal, cursor, &slot);
    err = err == MR_OK ? mr_cursors_sync(journal) : err;
    if (err == MR_OK) {
        mr_mutex_lock(&cursor->books_mutex);
        atomic_store_explicit(&cursor->seq, seq, memory_order_release);
        cursor->books = slot.books;
        cursor->live = NULL;
        cursor->split = false;
        mr_mutex_unlock(&cursor->books_mutex);
        mr_cursor_slot_written(cursor, &slot);
        atomic_store_explicit(&cursor->ahead_to, 0, memory_order_release);
        atomic_store_explicit(&live->behind, NULL, memory_order_relaxed);
        mr_cursor_tell(cursor, seq);
        (void)!live_free(journal, live); /* else the keeper does */
    } else {
        atomic_store_explicit(&cursor->rule, before, memory_order_relaxed);
        mr_cursor_doubt(cursor, seq);
    }
    mr_drop_look(cursor);
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}
