/* cursor_epochs.c - cursors and the number of lanes: has a bridge settled what is of earlier
 * epochs, and who holds the new lanes for one that is not there?
 */
#include "journal/cursors_internal.h"

#include "base/log.h"

#include <string.h>

bool mr_cursors_past_epochs(struct mr_journal *journal, const char *name)
{
    uint32_t epoch = mr_journal_epoch(journal);
    bool past = true;

    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; epoch > 1 && past && i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];
        if (cursor->used && strcmp(cursor->name, name) == 0) {
            past = mr_cursor_get(cursor) >=
                   mr_journal_epoch_end(journal, epoch - 1, cursor->lane_index);
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return past;
}

/* As of a cursor that was found on the disk: nobody opens it, and it has no rank. */
static enum mr_err follow_in(struct mr_journal *journal, const struct mr_cursor *cursor,
                             uint32_t lane, struct mr_error *why)
{
    struct mr_cursor *unused;

    if (mr_cursor_slot_find(journal, cursor->name, lane, &unused) != NULL) {
        return MR_OK;
    }
    if (unused == NULL) {
        mr_log(MR_LOG_WARN, "journal",
               "%s: what comes in lane %u is not kept for '%s', which is not configured: all %d "
               "cursors are in use",
               journal->name, lane, cursor->name, MR_CURSORS_MAX);
        return MR_OK;
    }
    enum mr_err err = mr_cursor_slot_make(journal, unused, cursor->name, lane,
                                          mr_lane_floor(&journal->lanes[lane]), MR_CURSOR_NEW, why);
    unused->never_drops = false;
    return err;
}

enum mr_err mr_cursors_follow(struct mr_journal *journal, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    mr_mutex_lock(&journal->cursor_mutex);
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        const struct mr_cursor *cursor = &journal->cursors[i];
        bool left = cursor->used && !cursor->opened && cursor->name[0] != '$';
        for (uint32_t lane = 0; left && lane < journal->lane_count && err == MR_OK; lane++) {
            err = follow_in(journal, cursor, lane, why);
        }
    }
    mr_mutex_unlock(&journal->cursor_mutex);
    return err;
}
