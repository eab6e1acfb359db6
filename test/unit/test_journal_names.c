/* test_journal_names.c
 * links: journal os base
 *
 * Goal:   what a tool finds in the folder of a journal that is not as it was listed: a segment that
 *         went meanwhile is passed over by who only looks, and refuses a start and a repair; a lane
 *         without a folder is empty for who only looks; one that cannot be listed is said to be so;
 *         files that only look like segments or spares are no matter.
 * Method: a real folder; a name that leads nowhere is a file that is gone when it is opened.
 */
#include "base/log.h"
#include "journal/reader.h"
#include "journal/repair.h"
#include "journal_folder.h"
#include "lane_commit.h"

#include <string.h>
#include <sys/stat.h>

enum { SEGMENT = 64 << 10, RECORDS = 20, HALF = RECORDS / 2 };

static struct mr_journal *journal;
static struct mr_error why;

static void drop_lines(const char *line, size_t len)
{
    (void)line;
    (void)len;
}

static struct mr_journal_options options_of(bool read_only, bool cursors_only)
{
    return (struct mr_journal_options){.path = journal_path,
                                       .name = "names",
                                       .max_bytes = 16 * SEGMENT,
                                       .segment_bytes = SEGMENT,
                                       .block_bytes = 16384,
                                       .record_bytes_max = 8000,
                                       .keep_us = UINT64_C(3600000000),
                                       .when_full = MR_WHEN_FULL_DROP,
                                       .keep_ranges = true,
                                       .read_only = read_only,
                                       .cursors_only = cursors_only,
                                       .manual = true};
}

static enum mr_err open_as(bool read_only, bool cursors_only)
{
    const struct mr_journal_options options = options_of(read_only, cursors_only);

    why.text[0] = '\0';
    return mr_journal_open(&journal, &options, NULL, &why);
}

static void give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static const char *path_of(const char *name)
{
    static char path[2][512];
    static int turn;

    turn = !turn;
    (void)snprintf(path[turn], sizeof(path[turn]), "%s/%s", journal_path, name);
    return path[turn];
}

static void make(void)
{
    const struct mr_journal_options options = options_of(false, false);

    folder_make();
    for (uint64_t seq = 1; seq <= RECORDS; seq++) {
        struct mr_appended out;
        struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                       .received_us = INT64_C(4000000000000000), /* kept */
                                       .client = mr_span_of("c"),
                                       .topic = mr_span_of("t")};
        if (seq % HALF == 1) {
            journal = folder_journal(&options);
        }
        struct mr_lane *lane = mr_journal_lane(journal, 0);
        mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK && out.seq == seq);
        lane_commit(lane, seq);
        if (seq % HALF == 0) {
            give();
        }
    }
}

/* Read by somebody who only looks. */
static uint64_t look(void)
{
    struct mr_reader *reader;
    struct mr_view view;
    struct mr_event event;
    uint64_t count = 0;
    enum mr_err err;

    mr_assert(open_as(true, false) == MR_OK);
    mr_assert(mr_reader_open(&reader, journal, 0, 1, NULL, NULL) == MR_OK);
    while ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT) {
        if (err == MR_ERR_CORRUPT) {
            continue;
        }
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            count += 1;
        }
        mr_view_unpin(&view);
    }
    mr_assert(err == MR_ERR_AGAIN);
    mr_reader_close(reader);
    give();
    return count;
}

static void on_lost(void *arg, const struct mr_repair_loss *loss)
{
    (void)arg;
    (void)loss;
}

static enum mr_err repair(void)
{
    struct mr_repair how = {.lost = on_lost, .dry_run = true};

    mr_assert(open_as(false, true) == MR_OK);
    why.text[0] = '\0';
    enum mr_err err = mr_journal_repair(journal, &how, &why);
    give();
    return err;
}

/* The first one goes between the listing and the opening. */
static void test_gone_when_opened(void)
{
    make();
    mr_assert(look() == RECORDS);
    mr_assert(unlink(path_of("lane-00/00000000000000000001.seg")) == 0);
    mr_assert(symlink("nowhere", path_of("lane-00/00000000000000000001.seg")) == 0);
    mr_assert(look() == HALF);
    mr_assert(open_as(false, false) != MR_OK && why.text[0] != '\0');
    mr_assert(repair() != MR_OK && why.text[0] != '\0');
    folder_remove();
}

static void test_no_folder(void)
{
    make();
    mr_assert(rename(path_of("lane-00"), path_of("lane-away")) == 0);
    mr_assert(look() == 0);
    mr_assert(repair() == MR_ERR_IO && strstr(why.text, "cannot be listed") != NULL);
    mr_assert(symlink("meta", path_of("lane-00")) == 0); /* a file, not a folder */
    mr_assert(open_as(true, false) == MR_ERR_IO && strstr(why.text, "cannot be listed") != NULL);
    mr_assert(open_as(false, false) != MR_OK && why.text[0] != '\0');
    mr_assert(unlink(path_of("lane-00")) == 0);
    mr_assert(rename(path_of("lane-away"), path_of("lane-00")) == 0);
    mr_assert(look() == RECORDS);
    folder_remove();
}

/* A folder stands where a file should, or a file where the folder of all should. */
static void test_no_file(const char *name)
{
    char away[64];

    make();
    (void)snprintf(away, sizeof(away), "%s.away", name);
    mr_assert(rename(path_of(name), path_of(away)) == 0);
    mr_assert(mkdir(path_of(name), 0700) == 0);
    mr_assert(open_as(false, false) != MR_OK && why.text[0] != '\0');
    mr_assert(open_as(false, true) != MR_OK && why.text[0] != '\0');
    mr_assert(rmdir(path_of(name)) == 0 && rename(path_of(away), path_of(name)) == 0);
    mr_assert(look() == RECORDS);
    folder_remove();
}

static void test_no_journal(void)
{
    struct mr_journal_options options = options_of(false, false);

    make();
    options.path = path_of("meta/journal");
    mr_assert(mr_journal_open(&journal, &options, NULL, &why) != MR_OK && why.text[0] != '\0');
    folder_remove();
}

/* Names of neither, and spares of any number. */
static void test_other_names(void)
{
    static const char *const names[] = {"00000000000000000001.sex",
                                        "0000000000000000000x.seg",
                                        "spare-.seg",
                                        "spare-1.sex",
                                        "spare-99999.seg",
                                        "spare-x.seg",
                                        "spore-1.seg",
                                        "1.seg"};

    make();
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        char name[64];
        struct mr_file file;
        (void)snprintf(name, sizeof(name), "lane-00/%s", names[i]);
        mr_assert(mr_file_open(&file, path_of(name), MR_FILE_CREATE, NULL) == MR_OK);
        mr_file_close(&file);
    }
    mr_assert(look() == RECORDS);
    mr_assert(open_as(false, false) == MR_OK);
    give();
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "lane-00/%s", names[i]);
        mr_assert(mr_path_exists(path_of(name)));
    }
    folder_remove();
}

int main(void)
{
    mr_log_set_writer(drop_lines);
    test_gone_when_opened();
    test_no_folder();
    test_no_file("meta");
    test_no_file("cursors");
    test_no_file("ranges");
    test_no_file("drops");
    test_no_journal();
    test_other_names();
    return 0;
}
