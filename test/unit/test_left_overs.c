/* test_left_overs.c
 * links: journal os_sim base
 *
 * Goal:   what an earlier life left unfinished is in nobody's way: a start takes it away, whatever
 *         stands in it; where it cannot, it says so, and the next one can.
 * Method: files of the names that are only used until something is whole, on the simulated disk,
 *         which refuses to remove one after the other.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/drops.h"
#include "journal/ranges.h"
#include "journal/repair.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mr_journal *journal;
static struct mr_error why;
static size_t refused;

static enum mr_err open_as(bool cursors_only)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "left",
                                               .max_bytes = 1 << 20,
                                               .segment_bytes = 64 << 10,
                                               .block_bytes = 16384,
                                               .record_bytes_max = 8000,
                                               .when_full = MR_WHEN_FULL_DROP,
                                               .keep_ranges = true,
                                               .cursors_only = cursors_only,
                                               .manual = true};

    why.text[0] = '\0';
    return mr_journal_open(&journal, &options, NULL, &why);
}

static void give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void leave(const char *path)
{
    struct mr_span part = mr_span_of("half of something");
    struct mr_file file;

    mr_assert(mr_file_open(&file, path, MR_FILE_CREATE, NULL) == MR_OK);
    mr_assert(mr_file_write(&file, &part, 1, 0) == MR_OK && mr_file_sync(&file) == MR_OK);
    mr_file_close(&file);
}

/* Spares of a size of their own, and some of the right one: one of these is used. */
static void leave_spares(void)
{
    for (int i = 2; i < 5; i++) {
        char path[64];
        struct mr_file file;
        (void)snprintf(path, sizeof(path), "/j/lane-00/spare-%d.seg", i);
        leave(path);
        if (i != 2) {
            mr_assert(mr_file_open(&file, path, MR_FILE_READ_WRITE, NULL) == MR_OK);
            mr_assert(mr_file_fill_zero(&file, 64 << 10) == MR_OK);
            mr_file_close(&file);
        }
    }
}

static const char *const unfinished[] = {"/j/meta.tmp", "/j/cursors.tmp", "/j/ranges.tmp",
                                         "/j/drops.tmp", "/j/lane-00/spare.tmp"};

static void make_anew(void)
{
    mr_assert(mr_dir_create("/j/lane-00", NULL) == MR_OK);
    for (size_t i = 0; i < MR_COUNT_OF(unfinished); i++) {
        leave(unfinished[i]);
    }
    leave_spares();
}

static bool start_refused_at(uint64_t nth)
{
    mr_sim_start(nth);
    make_anew();
    mr_sim_inject(MR_SIM_REMOVE, nth, 1, MR_SIM_FAULT_IO);
    enum mr_err err = open_as(false);
    bool met = mr_sim_calls(MR_SIM_REMOVE) >= nth;
    mr_sim_inject_clear();
    mr_assert(err == MR_OK || (err == MR_ERR_IO && why.text[0] != '\0'));
    refused += err != MR_OK;
    if (err != MR_OK) {
        mr_assert(open_as(false) == MR_OK);
    }
    for (size_t i = 0; i < MR_COUNT_OF(unfinished); i++) {
        mr_assert(!mr_path_exists(unfinished[i]));
    }
    mr_assert(!mr_path_exists("/j/lane-00/spare-2.seg"));
    mr_assert(!mr_path_exists("/j/lane-00/spare-3.seg") ||
              !mr_path_exists("/j/lane-00/spare-4.seg"));
    mr_assert(mr_lane_state(mr_journal_lane(journal, 0)) == MR_LANE_OPEN);
    give();
    mr_sim_stop();
    return met;
}

/* ---- of repairs ---- */

static void on_lost(void *arg, const struct mr_repair_loss *loss)
{
    (void)arg;
    (void)loss;
}

static enum mr_err repair(void)
{
    struct mr_repair how = {.lost = on_lost};

    mr_assert(open_as(true) == MR_OK);
    why.text[0] = '\0';
    enum mr_err err = mr_journal_repair(journal, &how, &why);
    give();
    return err;
}

static bool repair_refused_at(uint64_t nth)
{
    static const char segment[] = "/j/lane-00/00000000000000000001.seg";
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT, .client = mr_span_of("c"), .topic = mr_span_of("t")};
    struct mr_appended out;

    mr_sim_start(nth);
    mr_assert(open_as(false) == MR_OK);
    mr_assert(mr_lane_append(mr_journal_lane(journal, 0), &record, NULL, &out) == MR_OK);
    lane_commit(mr_journal_lane(journal, 0), 1);
    give();
    mr_assert(mr_sim_file_damage(segment, 20, 1) == MR_OK);
    mr_assert(mr_dir_create("/j/damaged/lane-00", NULL) == MR_OK);
    leave("/j/damaged/lane-00/copy.tmp");
    leave("/j/lane-00/repair.tmp");
    uint64_t calls = mr_sim_calls(MR_SIM_REMOVE);
    mr_sim_inject(MR_SIM_REMOVE, nth, 1, MR_SIM_FAULT_IO);
    enum mr_err err = repair();
    bool met = mr_sim_calls(MR_SIM_REMOVE) - calls >= nth;
    mr_sim_inject_clear();
    mr_assert(err == (met ? MR_ERR_IO : MR_OK) && (err == MR_OK || why.text[0] != '\0'));
    mr_assert(err == MR_OK || repair() == MR_OK);
    mr_assert(!mr_path_exists("/j/damaged/lane-00/copy.tmp"));
    mr_assert(!mr_path_exists("/j/lane-00/repair.tmp"));
    mr_assert(mr_path_exists("/j/damaged/lane-00/00000000000000000001.seg"));
    mr_sim_stop();
    return met;
}

int main(void)
{
    uint64_t nth = 1;

    mr_log_set_writer(drop_line);
    while (start_refused_at(nth)) {
        nth += 1;
    }
    mr_assert(refused > MR_COUNT_OF(unfinished)); /* each of them, and spares */
    nth = 1;
    while (repair_refused_at(nth)) {
        nth += 1;
    }
    mr_assert(nth > 2);
    return 0;
}
