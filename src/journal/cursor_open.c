/* cursor_open.c - a cursor by its name: found in the table, or made; see cursor.h.
 *
 * A new one is on the disk before anybody may rely on it, and whoever is refused leaves none there:
 * one that is on the disk and not in the table would hold nothing, and stand in front of what has
 * gone behind the next power cut.
 */
#include "journal/keeper_internal.h"

static uint64_t cursor_start(struct mr_lane *lane, enum mr_cursor_start start)
{
    struct mr_lane_stats stats;

    mr_lane_stats(lane, &stats);
    return start == MR_START_NOW ? stats.durable_seq : stats.seq_oldest - 1;
}

static bool name_is_paused(const struct mr_journal *journal, const char *name)
{
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];

        if (cursor->used && strcmp(cursor->name, name) == 0 && mr_cursor_is_paused(cursor)) {
            return true;
        }
    }
    return false;
}

static enum mr_err copy_make(struct mr_journal *journal, struct mr_cursor *cursor,
                             const struct cursor_slot *slot)
{
    enum mr_err err = mr_cursor_slot_write(journal, cursor, slot);

    return err == MR_OK ? mr_cursors_sync(journal) : err;
}

/* Both copies, the second one when the first is certain: so no power cut tears both, and whatever
 * happens to one of them later, there is the other.
 *
 * What failed may be on the disk all the same, and holds nothing: so it is taken back at once, and
 * if that fails too the keeper ends it all, as for its own.  Without room for the first nothing was
 * written; for the second, the keeper writes that when there is.
 */
static enum mr_err slot_make_certain(struct mr_journal *journal, struct mr_cursor *cursor,
                                     const struct cursor_slot *slot)
{
    struct cursor_slot back = *slot;
    enum mr_err err = copy_make(journal, cursor, slot);

    if (err == MR_ERR_FULL) {
        return err;
    }
    if (err == MR_OK) {
        mr_cursor_slot_written(cursor, slot);
        err = copy_make(journal, cursor, slot);
        if (err == MR_ERR_FULL) {
            mr_cursor_doubt(cursor, slot->seq);
            err = MR_OK;
        }
    }
    back.forgotten = true;
    if (err != MR_OK && copy_make(journal, cursor, &back) != MR_OK) {
        journal->cursors_failed = true;
    }
    return err;
}

enum mr_err mr_cursor_slot_make(struct mr_journal *journal, struct mr_cursor *cursor,
                                const char *name, uint32_t lane, uint64_t seq,
                                enum mr_cursor_rule rule, struct mr_error *why)
{
    enum mr_err err;

    memcpy(cursor->name, name, strlen(name) + 1);
    cursor->lane = &journal->lanes[lane];
    cursor->lane_index = lane;
    cursor->epoch = journal->epoch;
    cursor->split = false;
    cursor->live = NULL;
    atomic_store_explicit(&cursor->behind, NULL, memory_order_relaxed);
    atomic_store_explicit(&cursor->ahead_to, 0, memory_order_relaxed);
    cursor->never_drops = true; /* until it has a rank */
    atomic_store_explicit(&cursor->given_up, 0, memory_order_relaxed);
    atomic_store_explicit(&cursor->paused, name_is_paused(journal, name), memory_order_relaxed);
    atomic_store_explicit(&cursor->rule, (uint8_t)rule, memory_order_relaxed);
    const struct cursor_slot slot = {.seq = seq, .books = {.begin = seq}};
    atomic_store_explicit(&cursor->seq, seq, memory_order_relaxed);
    cursor->books = slot.books;
    err = slot_make_certain(journal, cursor, &slot);
    if (err != MR_OK) {
        return mr_error_set(why, err,
                            "%s: the cursor of '%s' cannot be written: %s; check the disk",
                            journal->name, name, mr_file_last_cause());
    }
    cursor->used = true;
    return MR_OK;
}

enum mr_err mr_cursor_open(struct mr_journal *journal, const char *name, uint32_t lane,
                           enum mr_cursor_start start, struct mr_cursor **out, bool *is_new,
                           struct mr_error *why)
{
    mr_assert(lane < journal->lane_total);
    return mr_cursor_open_behind(journal, name, lane, cursor_start(&journal->lanes[lane], start),
                                 out, is_new, why);
}

enum mr_err mr_cursor_open_behind(struct mr_journal *journal, const char *name, uint32_t lane,
                                  uint64_t seq, struct mr_cursor **out, bool *is_new,
                                  struct mr_error *why)
{
    struct mr_cursor *unused;
    struct mr_cursor *cursor;
    enum mr_err err = MR_OK;

    mr_assert(lane < journal->lane_total);
    if (name[0] == '\0' || strlen(name) > MR_CURSOR_NAME_MAX) {
        return mr_error_set(why, MR_ERR_CONFIG, "\"%s\" cannot name a cursor; use 1 to %d bytes",
                            name, MR_CURSOR_NAME_MAX);
    }
    mr_mutex_lock(&journal->cursor_mutex);
    cursor = mr_cursor_slot_find(journal, name, lane, &unused);
    *is_new = cursor == NULL;
    if (cursor == NULL && journal->read_only) {
        err =
            mr_error_set(why, MR_ERR_CONFIG, "%s: there is no cursor \"%s\"", journal->name, name);
    } else if (cursor == NULL && unused == NULL) {
        err = mr_error_set(
            why, MR_ERR_FULL,
            "%s: all %d cursors are in use; stop the gateway and free those of bridges "
            "that are gone: millrace journal forget NAME --data %s",
            journal->name, MR_CURSORS_MAX, journal->folder.text);
    } else if (cursor == NULL) {
        uint64_t oldest = mr_lane_floor(&journal->lanes[lane]); /* since `seq` was chosen */
        seq = seq < oldest ? oldest : seq;
        cursor = unused;
        err = mr_cursor_slot_make(journal, cursor, name, lane, seq, MR_CURSOR_NEW, why);
    }
    if (err == MR_OK) {
        mr_assert(cursor != NULL);
        cursor->opened = true;
        *out = cursor;
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}
