/* cursor_epochs.c - has a bridge settled what is of earlier epochs, in all lanes? */
#include "journal/cursors_internal.h"

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
