/* books.c - see books.h; docs/JOURNAL.md has the slot's bytes. */
#include "journal/cursors_internal.h"

const char *const mr_column_names[MR_COLUMNS] = {
    [MR_COLUMN_DELIVERED] = "delivered",       [MR_COLUMN_SKIPPED] = "skipped",
    [MR_COLUMN_DEAD_LETTERS] = "dead_letters", [MR_COLUMN_LOST] = "lost",
    [MR_COLUMN_GIVEN_UP] = "given_up",         [MR_COLUMN_CONTROL] = "control",
    [MR_COLUMN_CONFIRMED] = "confirmed",       [MR_COLUMN_REPEATED] = "repeated",
    [MR_COLUMN_DROPPED] = "dropped",
};

int64_t mr_books_difference(const struct mr_books *books, uint64_t seq)
{
    uint64_t sum = 0; /* modulo 2^64, as all of this */

    for (uint32_t i = 0; i < MR_COLUMNS; i++) {
        sum += i == MR_COLUMN_REPEATED ? 0 - books->columns[i] : books->columns[i];
    }
    return (int64_t)(sum - (seq - books->begin) - (uint64_t)books->accepted);
}

void mr_books_put(const struct mr_books *books, uint8_t *out)
{
    mr_put_u64(out, books->begin);
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        mr_put_u64(out + 8 * (i + 1), books->columns[i]);
    }
}

void mr_books_get(const uint8_t *in, struct mr_books *out)
{
    out->begin = mr_get_u64(in);
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        out->columns[i] = mr_get_u64(in + 8 * (i + 1));
    }
}

/* Of two positions the sum must: what was off at either, and accepted, is noted at the first. */
static bool both_balance(struct mr_cursor *cursor)
{
    struct mr_books books;
    uint64_t ahead = 0;
    uint64_t seq = mr_cursor_books_all(cursor, &books, &ahead);

    return mr_books_difference(&books, seq + ahead) == 0;
}

bool mr_cursor_settle(struct mr_cursor *cursor, uint64_t seq, const uint64_t add[MR_COLUMNS])
{
    mr_mutex_lock(&cursor->books_mutex);
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        cursor->books.columns[i] += add[i];
    }
    bool balances = mr_books_difference(&cursor->books, seq) == 0;
    bool is_one_of_two =
        cursor->live != NULL || atomic_load_explicit(&cursor->behind, memory_order_relaxed) != NULL;
    mr_cursor_set(cursor, seq);
    mr_mutex_unlock(&cursor->books_mutex);
    return is_one_of_two ? both_balance(cursor) : balances;
}

uint64_t mr_cursor_books(struct mr_cursor *cursor, struct mr_books *out)
{
    mr_mutex_lock(&cursor->books_mutex);
    uint64_t seq = mr_cursor_get(cursor);
    *out = cursor->books;
    mr_mutex_unlock(&cursor->books_mutex);
    return seq;
}

uint64_t mr_cursor_books_all(struct mr_cursor *cursor, struct mr_books *out, uint64_t *ahead)
{
    struct mr_cursor *first = atomic_load_explicit(&cursor->behind, memory_order_relaxed);

    cursor = first == NULL ? cursor : first;
    mr_mutex_lock(&cursor->books_mutex);
    uint64_t seq = mr_cursor_get(cursor);
    *out = cursor->books;
    *ahead = 0;
    if (cursor->live != NULL) {
        struct mr_books live;
        uint64_t live_seq = mr_cursor_books(cursor->live, &live);
        *ahead = live_seq - live.begin;
        for (size_t i = 0; i < MR_COLUMNS; i++) {
            out->columns[i] += live.columns[i];
        }
        out->accepted += live.accepted;
    }
    mr_mutex_unlock(&cursor->books_mutex);
    return seq;
}

void mr_books_list(struct mr_journal *journal,
                   void (*each)(void *arg, const struct mr_books_row *row), void *arg)
{
    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        struct mr_cursor *cursor = &journal->cursors[i];
        struct mr_books_row row = {.name = cursor->name, .cursor = cursor};

        if (cursor->used && cursor->name[0] != '$') {
            row.lane = cursor->lane;
            row.lane_index = cursor->lane_index;
            row.seq = mr_cursor_books_all(cursor, &row.books, &row.ahead);
            row.live_from = atomic_load_explicit(&cursor->ahead_from, memory_order_acquire);
            each(arg, &row);
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
}
