/* test_journal_meta.c
 * links: journal os_sim base
 *
 * Goal:   a `meta` that says what cannot be is refused with a sentence, whatever its checksums say,
 *         and nothing is touched; an epoch is forgotten only when every bridge has passed it.
 * Method: fields of docs/JOURNAL.md are changed one by one on the simulated disk, and the checksums
 *         made to fit; the number of lanes is changed more often than epochs are remembered.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/log.h"
#include "crash_kit.h"
#include "journal/cursor.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

enum { META_BYTES = 128, EPOCHS = 64, SEGMENT = 64 << 10, FILE_MAX = 4096 };

static struct mr_journal *journal;
static struct mr_error why;

static enum mr_err open_with(uint32_t lanes, bool cursors_only)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "meta",
                                               .lane_count = lanes,
                                               .max_bytes = 16 * SEGMENT,
                                               .segment_bytes = SEGMENT,
                                               .block_bytes = 16384,
                                               .record_bytes_max = 8000,
                                               .cursors_only = cursors_only,
                                               .manual = true};

    why.text[0] = '\0';
    return mr_journal_open(&journal, &options, NULL, &why);
}

static void give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void append_to(uint32_t lane_index)
{
    struct mr_lane *lane = mr_journal_lane(journal, lane_index);
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT, .client = mr_span_of("c"), .topic = mr_span_of("t")};
    struct mr_appended out;

    mr_assert(mr_lane_append(lane, &record, NULL, &out) == MR_OK);
    lane_commit(lane, out.seq);
}

/* ---- fields ---- */

static size_t meta_get(uint8_t bytes[FILE_MAX])
{
    struct mr_file file;
    size_t got = 0;

    mr_assert(mr_file_open(&file, "/j/meta", MR_FILE_READ, NULL) == MR_OK);
    mr_assert(mr_file_read(&file, bytes, FILE_MAX, 0, &got) == MR_OK);
    mr_file_close(&file);
    return got;
}

static void meta_put(const uint8_t *bytes, size_t len)
{
    struct mr_span part = mr_span_make(bytes, len);
    struct mr_file file;

    mr_assert(mr_path_remove("/j/meta") == MR_OK);
    mr_assert(mr_file_open(&file, "/j/meta", MR_FILE_CREATE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &part, 1, 0) == MR_OK && mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
}

/* One field is `value`, all checksums fit.  `at` from 128 on: of the entries of earlier epochs. */
static void refused_with(const uint8_t *whole, size_t len, size_t at, uint32_t value,
                         const char *says)
{
    uint8_t bytes[FILE_MAX];

    memcpy(bytes, whole, len);
    mr_put_u32(bytes + at, value);
    mr_put_u32(bytes + META_BYTES - 4, mr_crc32c(0, bytes, META_BYTES - 4));
    uint32_t past_len = mr_get_u32(bytes + 84);
    if (past_len <= len - META_BYTES - 4) {
        mr_put_u32(bytes + META_BYTES + past_len, mr_crc32c(0, bytes + META_BYTES, past_len));
    }
    meta_put(bytes, len);
    uint64_t written = mr_sim_calls(MR_SIM_WRITE);
    mr_assert(open_with(0, true) == MR_ERR_CORRUPT && strstr(why.text, says) != NULL);
    mr_assert(mr_sim_calls(MR_SIM_WRITE) == written);
}

static void test_fields(void)
{
    static const char entries[] = "where it names earlier epochs";
    uint8_t bytes[FILE_MAX];

    mr_sim_start(1);
    for (uint32_t lanes = 2; lanes >= 1; lanes--) {
        mr_assert(open_with(lanes, false) == MR_OK);
        append_to(0);
        give();
    }
    mr_assert(open_with(3, false) == MR_OK);
    give();
    size_t len = meta_get(bytes);
    mr_assert(mr_get_u32(bytes + 80) == 2 && mr_get_u32(bytes + 84) == len - META_BYTES - 4);
    refused_with(bytes, len, 60, 0, "names 0 lanes");
    refused_with(bytes, len, 60, 257, "names 257 lanes");
    refused_with(bytes, len, 76, 2, entries);   /* lanes in all, fewer than are written */
    refused_with(bytes, len, 76, 257, entries); /* ... and more than there can be */
    refused_with(bytes, len, 80, 65, entries);  /* earlier epochs */
    refused_with(bytes, len, 80, 1, entries);   /* ... fewer than there are entries */
    refused_with(bytes, len, 80, 3, entries);   /* ... and more */
    refused_with(bytes, len, 84, 1 << 30, entries);
    refused_with(bytes, len, 84, 100, entries); /* bytes of them, more than the file has */
    refused_with(bytes, len, 84, 8, entries);   /* ... and less than one takes */
    refused_with(bytes, len, 84, 16, entries);  /* ... and without where its lanes ended */
    refused_with(bytes, len, 128, 3, entries);  /* an earlier epoch that is the present one */
    refused_with(bytes, len, 132, 3, entries);  /* with more lanes than it had in all */
    refused_with(bytes, len, 136, 9, entries);  /* ... than the journal has */
    meta_put(bytes, len);
    mr_assert(mr_sim_file_damage("/j/meta", META_BYTES + 20, 1) == MR_OK);
    mr_assert(open_with(0, true) == MR_ERR_CORRUPT && strstr(why.text, entries) != NULL);
    meta_put(bytes, len);
    mr_assert(open_with(0, true) == MR_OK);
    mr_assert(mr_journal_epoch(journal) == 3 && mr_journal_lane_total(journal) == 3);
    mr_assert(mr_journal_epoch_lanes(journal, 1) == 2 && mr_journal_epoch_lanes(journal, 2) == 1);
    mr_assert(mr_journal_epoch_lanes(journal, 3) == 3 && mr_journal_epoch_lanes(journal, 4) == 0);
    mr_assert(mr_journal_epoch_end(journal, 1, 0) == 1 && mr_journal_epoch_end(journal, 2, 0) == 2);
    mr_assert(mr_journal_epoch_end(journal, 1, 2) == 0 && mr_journal_epoch_end(journal, 0, 0) == 0);
    give();
    mr_sim_stop();
}

/* ---- epochs ---- */

static struct mr_cursor *bridge(void)
{
    struct mr_cursor *cursor;
    bool is_new;

    mr_assert(mr_cursor_open(journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    return cursor;
}

static void test_more_than_are_remembered(void)
{
    mr_sim_start(2);
    mr_assert(open_with(1, false) == MR_OK);
    struct mr_cursor *cursor = bridge();
    append_to(0);
    give();
    for (uint32_t i = 0; i < EPOCHS; i++) {
        mr_assert(open_with(1 + (i + 1) % 2, false) == MR_OK);
        mr_assert(mr_cursors_past_epochs(journal, "nobody"));
        give();
    }
    mr_assert(open_with(2, false) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "let it catch up before the next change") != NULL);
    mr_assert(open_with(0, false) == MR_OK);
    mr_assert(mr_journal_epoch(journal) == EPOCHS + 1 && mr_journal_lane_count(journal) == 1);
    cursor = bridge();
    mr_assert(mr_cursor_get(cursor) == 0 && !mr_cursors_past_epochs(journal, "bridge"));
    mr_cursor_set(cursor, 1);
    mr_assert(mr_cursors_past_epochs(journal, "bridge"));
    give();
    mr_assert(open_with(2, false) == MR_OK);
    mr_assert(mr_journal_epoch(journal) == EPOCHS + 2);
    mr_assert(mr_journal_epoch_lanes(journal, 1) == 0); /* forgotten */
    mr_assert(mr_journal_epoch_lanes(journal, 2) == 2);
    give();
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_fields();
    test_more_than_are_remembered();
    return 0;
}
