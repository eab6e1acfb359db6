/* journal_folder.h - a folder of its own for a journal and its dead letters.
 *
 *     folder_make() ─▶ folder_journal(options) ... mr_journal_close() ─▶ folder_remove()
 *
 * Thread: the test's.   Memory: static; one folder at a time.
 */
#ifndef MR_TEST_JOURNAL_FOLDER_H
#define MR_TEST_JOURNAL_FOLDER_H

#include "journal/journal.h"
#include "os/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[200];
static char journal_path[256];
static char dead_path[256];

static void folder_make(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof(folder), "%s/mr-pipeline-XXXXXX", base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(folder) != NULL);
    snprintf(journal_path, sizeof(journal_path), "%s/journal", folder);
    snprintf(dead_path, sizeof(dead_path), "%s/dead-letters", folder);
}

static void folder_remove_under(void *arg, const char *name)
{
    char path[1024];

    snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    if (unlink(path) != 0) {
        mr_assert(mr_dir_list(path, folder_remove_under, path) == MR_OK);
        mr_assert(rmdir(path) == 0);
    }
}

static void folder_remove(void)
{
    mr_assert(mr_dir_list(folder, folder_remove_under, folder) == MR_OK);
    mr_assert(rmdir(folder) == 0);
}

/* The folder's journal; the test ends if it cannot be opened. */
static struct mr_journal *folder_journal(const struct mr_journal_options *options)
{
    struct mr_journal *journal = NULL;
    struct mr_journal_options here = *options;
    struct mr_recovery recovery;
    struct mr_error why = {.text = ""};

    here.path = journal_path;
    here.name = "test";
    if (mr_journal_open(&journal, &here, &recovery, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    return journal;
}

#endif
