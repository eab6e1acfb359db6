/* cursor_put.c - cursors that go elsewhere than by settling, and books that are accepted as they
 * are.
 *
 * The ranges (ranges.h) say where; they are written first, and are void without the cursor's write.
 */
#include "journal/cursors_internal.h"
#include "journal/drops_internal.h"
#include "journal/live.h"

/* Where the cursor is put, in one or more steps; the mutex is held. */
struct moves {
    struct mr_range steps[2];
    size_t count;
};

static void moves_add(struct moves *moves, const struct mr_cursor *cursor, uint64_t from,
                      uint64_t to, enum mr_column column)
{
    moves->steps[moves->count++] = (struct mr_range){.name = cursor->name,
                                                     .lane = cursor->lane_index,
                                                     .column = column,
                                                     .from = from,
                                                     .to = to,
                                                     .reason = ""};
}

/* The ranges first: without the cursor's write they are void. */
static enum mr_err moves_write(struct mr_journal *journal, struct mr_cursor *cursor,
                               const struct moves *moves, const struct cursor_slot *slot)
{
    size_t written = 0;
    enum mr_err err = MR_OK;

    while (err == MR_OK && written < moves->count) {
        err = mr_range_write(journal, &moves->steps[written], cursor->generation + 1);
        written += err == MR_OK;
    }
    if (err == MR_OK) {
        err = mr_cursor_slot_write(journal, cursor, slot);
    }
    err = err == MR_OK ? mr_cursors_sync(journal) : err;
    for (size_t i = 0; err != MR_OK && i < written; i++) {
        mr_range_undo(journal);
    }
    if (err == MR_OK && written != 0) {
        mr_range_written(journal);
    }
    return err;
}

/* Of what a target's position has passed, all that was given up counts as dropped: which of it the
 * target has is known to nobody any more, and what it has not is never called confirmed.
 */
static void step_count(const struct mr_cursor *cursor, const struct mr_range *step,
                       struct mr_books *books)
{
    uint64_t count = step->to > step->from ? step->to - step->from : step->from - step->to;
    uint64_t dropped = 0;

    if (step->column == MR_COLUMN_CONFIRMED) {
        dropped = mr_drops_within(cursor->lane->journal, mr_cursor_bridge(cursor),
                                  cursor->lane_index, step->from + 1, step->to);
    }
    books->columns[step->column] += count - dropped;
    books->columns[MR_COLUMN_DROPPED] += dropped;
}

/* It says this from now on, and the disk does. */
static enum mr_err cursor_say(struct mr_cursor *cursor, const struct moves *moves,
                              const struct cursor_slot *slot)
{
    enum mr_err err = moves_write(cursor->lane->journal, cursor, moves, slot);

    if (err == MR_OK) {
        mr_mutex_lock(&cursor->books_mutex);
        atomic_store_explicit(&cursor->seq, slot->seq, memory_order_relaxed);
        cursor->books = slot->books;
        mr_mutex_unlock(&cursor->books_mutex);
        mr_cursor_slot_written(cursor, slot);
        mr_cursor_tell(cursor, slot->seq);
    } else {
        mr_cursor_doubt(cursor, slot->seq);
    }
    return err;
}

static enum mr_err cursor_move(struct mr_cursor *cursor, const struct moves *moves, uint64_t seq,
                               enum mr_cursor_rule rule)
{
    enum mr_cursor_rule before = mr_cursor_rule(cursor);
    struct cursor_slot slot = {.seq = seq, .split = cursor->split};

    (void)mr_cursor_books(cursor, &slot.books);
    for (size_t i = 0; i < moves->count; i++) {
        step_count(cursor, &moves->steps[i], &slot.books);
    }
    atomic_store_explicit(&cursor->rule, rule, memory_order_relaxed);
    enum mr_err err = cursor_say(cursor, moves, &slot);
    if (err != MR_OK) {
        atomic_store_explicit(&cursor->rule, before, memory_order_relaxed);
    }
    mr_drop_look(cursor);
    return err;
}

enum mr_err mr_cursor_put(struct mr_cursor *cursor, uint64_t seq, enum mr_cursor_rule rule)
{
    struct mr_journal *journal = cursor->lane->journal;
    struct moves moves = {.count = 0};

    mr_mutex_lock(&journal->cursor_mutex);
    uint64_t from = mr_cursor_get(cursor);
    if (seq < from && seq < mr_lane_floor(cursor->lane)) {
        mr_mutex_unlock(&journal->cursor_mutex);
        return MR_ERR_AGAIN;
    }
    if (seq < from) {
        moves_add(&moves, cursor, from, seq, MR_COLUMN_REPEATED);
    } else if (seq > from) {
        moves_add(&moves, cursor, from, seq,
                  rule == MR_CURSOR_LEADS ? MR_COLUMN_GIVEN_UP : MR_COLUMN_CONFIRMED);
    }
    enum mr_err err = cursor_move(cursor, &moves, seq, rule);
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}

enum mr_err mr_cursor_back(struct mr_cursor *cursor, uint64_t seq)
{
    struct mr_journal *journal = cursor->lane->journal;
    const struct moves none = {.count = 0};
    struct mr_lane_stats stats;

    mr_mutex_lock(&journal->cursor_mutex);
    mr_lane_stats(cursor->lane, &stats);
    seq = seq > stats.seq_oldest - 1 ? seq : stats.seq_oldest - 1;
    seq = seq < mr_cursor_get(cursor) ? seq : mr_cursor_get(cursor);
    const struct cursor_slot slot = {.seq = seq, .books = {.begin = seq}};
    enum mr_err err = cursor_say(cursor, &none, &slot);
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}

enum mr_err mr_cursor_lose(struct mr_cursor *cursor, uint64_t seq, uint64_t oldest)
{
    struct mr_journal *journal = cursor->lane->journal;
    struct moves moves = {.count = 0};

    mr_mutex_lock(&journal->cursor_mutex);
    uint64_t at = mr_cursor_get(cursor);
    mr_assert(seq <= at && seq <= oldest);
    if (oldest < at && oldest < mr_lane_floor(cursor->lane)) {
        mr_mutex_unlock(&journal->cursor_mutex);
        return MR_ERR_AGAIN;
    }
    moves_add(&moves, cursor, at, seq, MR_COLUMN_REPEATED);
    moves_add(&moves, cursor, seq, oldest, MR_COLUMN_LOST);
    enum mr_err err = cursor_move(cursor, &moves, oldest, mr_cursor_rule(cursor));
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}

/* The operator's word, with the cursor at `seq`; the mutex is held. */
static enum mr_err acceptance_write(struct mr_cursor *cursor, uint64_t seq, int64_t difference,
                                    const char *reason)
{
    struct mr_journal *journal = cursor->lane->journal;
    const struct mr_range range = {.name = cursor->name,
                                   .lane = cursor->lane_index,
                                   .is_acceptance = true,
                                   .from = seq,
                                   .to = seq,
                                   .accepted = difference,
                                   .reason = reason};
    struct mr_error why;
    enum mr_err err = MR_OK;

    if (journal->ranges == NULL) {
        err = mr_ranges_open(journal, true, &why);
    }
    err = err == MR_OK ? mr_range_write(journal, &range, 0) : err;
    if (err == MR_OK) {
        mr_range_written(journal);
    }
    return err;
}

enum mr_err mr_cursor_accept(struct mr_cursor *cursor, const char *reason, int64_t *difference)
{
    struct mr_journal *journal = cursor->lane->journal;
    struct mr_books books;
    uint64_t ahead = 0;

    mr_mutex_lock(&journal->cursor_mutex);
    uint64_t seq = mr_cursor_books_all(cursor, &books, &ahead);
    *difference = mr_books_difference(&books, seq + ahead);
    enum mr_err err =
        *difference == 0 ? MR_ERR_REJECT : acceptance_write(cursor, seq, *difference, reason);
    if (err == MR_OK) {
        mr_mutex_lock(&cursor->books_mutex);
        cursor->books.accepted += *difference;
        mr_mutex_unlock(&cursor->books_mutex);
        cursor->books_on_disk.accepted += *difference;
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}

enum mr_err mr_cursor_accept_repeated(struct mr_cursor *cursor, const char *reason, uint64_t *seq)
{
    struct mr_journal *journal = cursor->lane->journal;

    mr_mutex_lock(&journal->cursor_mutex);
    *seq = mr_cursor_get(cursor);
    enum mr_err err = acceptance_write(cursor, *seq, 0, reason);
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}

enum mr_err mr_cursor_seek(struct mr_cursor *cursor, uint64_t seq)
{
    return cursor->split ? mr_cursor_live_end(cursor, seq, MR_CURSOR_LEADS)
                         : mr_cursor_put(cursor, seq, MR_CURSOR_LEADS);
}
