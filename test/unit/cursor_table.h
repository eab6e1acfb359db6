/* cursor_table.h - the table of cursors of the test's journal, copied and put back: what a crash
 * finds is the table as it was on disk.
 *
 * Thread: the test's.   Memory: static; one table at a time.
 */
#ifndef MR_TEST_CURSOR_TABLE_H
#define MR_TEST_CURSOR_TABLE_H

#include "journal/cursor.h"
#include "journal/format.h"
#include "journal_folder.h"

enum { TABLE_BYTES = 2 * MR_CURSORS_MAX * MR_CURSOR_SLOT_BYTES };
static uint8_t table_then[TABLE_BYTES];

/* The table of cursors as it is on disk, or put back. */
static void table_file(bool put_back)
{
    struct mr_file file;
    char path[300];
    size_t got = 0;
    struct mr_span part = mr_span_make(table_then, TABLE_BYTES);

    snprintf(path, sizeof(path), "%s/cursors", journal_path);
    mr_assert(mr_file_open(&file, path, put_back ? MR_FILE_READ_WRITE : MR_FILE_READ, NULL) ==
              MR_OK);
    if (put_back) {
        mr_assert(mr_file_write(&file, &part, 1, 0) == MR_OK);
    } else {
        mr_assert(mr_file_read(&file, table_then, TABLE_BYTES, 0, &got) == MR_OK);
        mr_assert(got == TABLE_BYTES);
    }
    mr_file_close(&file);
}

#endif
