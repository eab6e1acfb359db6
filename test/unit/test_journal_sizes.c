/* test_journal_sizes.c
 * links: journal os_sim base
 *
 * Goal:   whatever sizes, lanes and path a journal is given, it takes those that hold its promises,
 *         or says which is wrong and makes nothing; and what was chosen stays when it is opened
 *         again.
 * Method: journals on the simulated disk; the largest record that is accepted and the state of
 *         the lanes say what was chosen.
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/drops.h"
#include "journal/reader.h"
#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdlib.h>
#include <string.h>

enum { KIB = 1024, MIB = 1024 * KIB };

static struct mr_journal *journal;
static struct mr_error why;

static enum mr_err open_with(struct mr_journal_options options)
{
    options.path = options.path == NULL ? "/j" : options.path;
    options.manual = true;
    why.text[0] = '\0';
    return mr_journal_open(&journal, &options, NULL, &why);
}

static void take(struct mr_journal_options options)
{
    mr_assert(open_with(options) == MR_OK);
}

static void give(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
}

static void refused(struct mr_journal_options options, const char *says)
{
    mr_assert(open_with(options) == MR_ERR_CONFIG && strstr(why.text, says) != NULL);
}

/* Is a record with so much payload accepted? */
static bool accepts(size_t bytes)
{
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    uint8_t *payload = calloc(1, bytes);
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .client = mr_span_of("c"),
                                   .topic = mr_span_of("t"),
                                   .payload = mr_span_make(payload, bytes)};
    struct mr_appended out;

    mr_assert(payload != NULL);
    enum mr_err err = mr_lane_append(lane, &record, NULL, &out);
    mr_assert(err == MR_OK || err == MR_ERR_REJECT);
    if (err == MR_OK) {
        lane_commit(lane, out.seq);
        mr_journal_step_keeper(journal);
    }
    free(payload);
    return err == MR_OK;
}

/* Nothing is said: half of the disk, segments of an eighth of that, at most 64 MiB, records of half
 * a segment, at most 1 MiB.
 */
static void test_nothing_is_said(void)
{
    struct mr_lane_stats stats;

    mr_sim_start(1);
    mr_sim_disk_limit(8 * MIB);
    take((struct mr_journal_options){.name = NULL});
    mr_lane_stats(mr_journal_lane(journal, 0), &stats);
    mr_assert(stats.bytes_max > 3 * MIB && stats.bytes_max <= 4 * MIB);
    mr_assert(accepts(200 * KIB) && !accepts(300 * KIB));
    give();
    take((struct mr_journal_options){.name = NULL});
    struct mr_lane_stats again;
    mr_lane_stats(mr_journal_lane(journal, 0), &again);
    mr_assert(again.bytes_max == stats.bytes_max);
    give();
    mr_sim_stop();
}

static void test_large(void)
{
    mr_sim_start(2);
    take((struct mr_journal_options){.max_bytes = UINT64_C(1) << 30, .block_count = 100000});
    mr_assert(accepts(MIB - 200) && !accepts(MIB + 1));
    give();
    mr_sim_stop();
}

static void test_small(void)
{
    mr_sim_start(3);
    /* Segments are not smaller than 64 KiB, nor than a record with its pages. */
    take((struct mr_journal_options){.max_bytes = 200 * KIB, .segment_bytes = 100});
    mr_assert(accepts(32 * KIB - 200) && !accepts(32 * KIB + 1));
    give();
    mr_sim_stop();
    mr_sim_start(3);
    take((struct mr_journal_options){
        .max_bytes = MIB, .segment_bytes = 64 * KIB, .record_bytes_max = 100 * KIB});
    mr_assert(accepts(100 * KIB - 200) && !accepts(100 * KIB + 1));
    give();
    /* More lanes than segments of that size have room for: smaller ones. */
    take((struct mr_journal_options){
        .lane_count = 4, .max_bytes = MIB, .record_bytes_max = 4 * KIB});
    mr_assert(accepts(3 * KIB) && !accepts(5 * KIB));
    give();
    mr_sim_stop();
}

static void test_refused(void)
{
    static char path[2000];

    mr_sim_start(4);
    refused((struct mr_journal_options){.max_bytes = UINT64_C(1) << 40,
                                        .record_bytes_max = UINT32_C(1) << 30},
            "too large for a journal");
    refused((struct mr_journal_options){.max_bytes = 100 * KIB}, "is too small for 1 lanes");
    refused((struct mr_journal_options){.lane_count = 257}, "that many lanes");
    refused((struct mr_journal_options){.lane_count_new = 257}, "that many lanes");
    memset(path, 'p', sizeof(path) - 1);
    path[0] = '/';
    refused((struct mr_journal_options){.path = path}, "too long");
    refused((struct mr_journal_options){.path = "/none", .read_only = true},
            "there is no journal here");
    mr_sim_stop();
}

/* A tool may ask for what is not there. */
static void test_looking(void)
{
    struct mr_reader *reader;
    struct mr_cursor *cursor;
    bool is_new;

    mr_sim_start(5);
    take((struct mr_journal_options){.max_bytes = MIB, .segment_bytes = 64 * KIB});
    mr_assert(accepts(100));
    mr_assert(mr_reader_open(&reader, journal, 1, 1, NULL, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "no lane 1") != NULL);
    mr_assert(mr_journal_epoch_lanes(journal, 1) == 1 && mr_journal_epoch_lanes(journal, 2) == 0);
    mr_assert(mr_cursor_open(journal, "", 0, MR_START_NOW, &cursor, &is_new, &why) ==
              MR_ERR_CONFIG);
    mr_assert(strcmp(mr_lane_state_text(mr_journal_lane(journal, 0)), "journal lane 0 is open") ==
              0);
    give();
    take((struct mr_journal_options){.read_only = true, .lane_count = 7});
    mr_assert(mr_journal_lane_count(journal) == 1);
    mr_assert(mr_reader_open(&reader, journal, 0, 0, NULL, NULL) == MR_OK); /* 0: the first */
    mr_assert(mr_reader_seq(reader) == 1);
    mr_reader_close(reader);
    mr_assert(mr_cursor_open(journal, "nobody", 0, MR_START_NOW, &cursor, &is_new, &why) ==
              MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "no cursor \"nobody\"") != NULL);
    mr_assert(mr_drops_in(journal, "nobody", 0, 1, 1) == 0);
    give();
    mr_sim_stop();
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_nothing_is_said();
    test_large();
    test_small();
    test_refused();
    test_looking();
    return 0;
}
