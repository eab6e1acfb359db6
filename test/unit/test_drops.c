/* test_drops.c
 *
 * Goal:   `when_full: drop_oldest`, the journal's side: nothing goes while there is room; the
 *         oldest segment goes if all who need it may drop it, else nobody drops anything; each
 *         range is on the medium before its segment goes, through a crash at any step; where
 *         there is a choice of lanes the one goes that costs the lower priority.
 * Method: manual steps on the simulated disk; cursors are moved by hand.
 *
 * links: journal os_sim base
 */
#include "base/log.h"
#include "crash_kit.h"
#include "journal/books.h"
#include "journal/drops.h"
#include "journal/reader.h"

#include "lane_commit.h"
#include "os/file.h"
#include "os/sim.h"
#include "power_cuts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 400, SEGMENT = 64 << 10 };

static struct mr_journal *journal;
static struct mr_lane *lane;
static uint64_t seq_next[2];

static void journal_take(enum mr_when_full when_full, uint32_t lanes)
{
    struct mr_journal_options options = {
        .path = "/j",
        .name = "drops",
        .lane_count = lanes,
        .max_bytes = (uint64_t)lanes * 6 * SEGMENT,
        .segment_bytes = SEGMENT,
        .block_bytes = 16384,
        .block_count = 12,
        .record_bytes_max = 8000,
        .when_full = when_full,
        .manual = true,
    };
    struct mr_error why = {.text = ""};

    if (mr_journal_open(&journal, &options, NULL, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    lane = mr_journal_lane(journal, 0);
    for (uint32_t i = 0; i < lanes; i++) {
        seq_next[i] = mr_lane_next_seq(mr_journal_lane(journal, i));
    }
}

static void start(uint32_t lanes)
{
    mr_sim_start(7);
    journal_take(MR_WHEN_FULL_DROP, lanes);
}

static void stop(void)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

static struct mr_cursor *cursor_of(const char *name, uint32_t in, uint32_t priority, bool may_drop)
{
    struct mr_cursor *cursor = NULL;
    bool is_new;

    mr_assert(mr_cursor_open(journal, name, in, MR_START_OLDEST, &cursor, &is_new, NULL) == MR_OK);
    mr_cursors_rank(journal, name,
                    &(struct mr_cursor_rank){.priority = priority, .may_drop = may_drop});
    return cursor;
}

static enum mr_err append_to(uint32_t in)
{
    static uint8_t payload[SMALL];
    struct mr_appended out = {0};
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .client = mr_span_of("c"),
        .topic = mr_span_of("t"),
        .payload = mr_span_make(payload, sizeof(payload)),
    };
    enum mr_err err = mr_lane_append(mr_journal_lane(journal, in), &record, NULL, &out);

    if (err == MR_OK) {
        mr_assert(out.seq == seq_next[in]);
        seq_next[in] += 1;
    }
    return err;
}

static void commit(uint32_t in)
{
    struct mr_lane *to = mr_journal_lane(journal, in);

    lane_commit(to, seq_next[in] - 1);
}

/* So many more events; false: the lane is full before. */
static bool put(uint32_t in, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        int tries = 0;
        while (append_to(in) != MR_OK) {
            commit(in);
            mr_journal_step_keeper(journal);
            if (++tries == 4) {
                return false;
            }
        }
        if (i % 16 == 0) {
            commit(in);
            mr_journal_step_keeper(journal);
        }
    }
    commit(in);
    mr_journal_step_keeper(journal);
    return true;
}

static uint64_t oldest(uint32_t in)
{
    struct mr_lane_stats stats;

    mr_lane_stats(mr_journal_lane(journal, in), &stats);
    return stats.seq_oldest;
}

/* ---- what the list says ---- */

static struct mr_drop listed[32];
static size_t listed_count;

static void on_drop(void *arg, const struct mr_drop *drop)
{
    (void)arg;
    mr_assert(listed_count < MR_COUNT_OF(listed));
    listed[listed_count++] = *drop;
}

static const struct mr_drop *range_of(const char *name, uint32_t in)
{
    const struct mr_drop *found = NULL;

    listed_count = 0;
    mr_drops_list(journal, on_drop, NULL);
    for (size_t i = 0; i < listed_count; i++) {
        if (strcmp(listed[i].name, name) == 0 && listed[i].lane == in) {
            mr_assert(found == NULL); /* those that follow each other are one */
            found = &listed[i];
        }
    }
    return found;
}

static void check_range(const char *name, uint32_t in, uint64_t first, uint64_t last)
{
    const struct mr_drop *drop = range_of(name, in);

    mr_assert(drop != NULL && drop->seq_first == first && drop->seq_last == last);
    mr_assert(drop->last_us >= drop->first_us && drop->reason == MR_DROP_MAX_SIZE);
    mr_assert(mr_drops_in(journal, name, in, 1, UINT64_MAX - 1) == last - first + 1);
    mr_assert(mr_drops_in(journal, name, in, first, first) == 1);
    mr_assert(mr_drops_in(journal, name, in, last + 1, last + 10) == 0);
    mr_assert(mr_drops_in(journal, "nobody", in, 1, last) == 0);
}

/* ---- one lane ---- */

/* Nothing is given up while there is room, and then never more than is needed. */
static void test_oldest_goes_when_full(void)
{
    start(1);
    struct mr_cursor *away = cursor_of("kafka", 0, 100, true);

    mr_assert(put(0, 300));
    mr_assert(range_of("kafka", 0) == NULL); /* not armed, and there is room */
    mr_drops_arm(journal);
    while (range_of("kafka", 0) == NULL) {
        uint64_t before = seq_next[0];
        mr_assert(put(0, 1));
        mr_assert(oldest(0) == 1 || seq_next[0] == before + 1);
    }
    struct mr_lane_stats stats;
    mr_lane_stats(lane, &stats);
    mr_assert(stats.bytes_used >= 6 * SEGMENT); /* all of it is in use */
    check_range("kafka", 0, 1, oldest(0) - 1);
    mr_assert(put(0, 1000));
    check_range("kafka", 0, 1, oldest(0) - 1);
    mr_assert(mr_cursor_get(away) == 0); /* it is the bridge that moves it */
    /* Once it is there again, the next range is another one. */
    uint64_t first = oldest(0);
    mr_cursor_set(away, first + 20);
    mr_journal_step_keeper(journal);
    mr_assert(put(0, 1000));
    listed_count = 0;
    mr_drops_list(journal, on_drop, NULL);
    mr_assert(listed_count == 2 && listed[1].seq_first == first + 21 &&
              listed[1].seq_last == oldest(0) - 1);
    stop();
}

/* Whoever may not drop holds the journal, and nobody gives up anything in vain. */
static void test_who_may_not_drop_holds(void)
{
    start(1);
    struct mr_cursor *history = cursor_of("history", 0, 1, true);
    struct mr_cursor *alarms = cursor_of("alarms", 0, 900, false);

    mr_drops_arm(journal);
    mr_assert(!put(0, 2000));
    mr_assert(mr_lane_state(lane) == MR_LANE_FULL);
    mr_assert(strstr(mr_lane_state_text(lane), "'alarms'") != NULL);
    mr_assert(strstr(mr_lane_state_text(lane), "may not drop") != NULL);
    mr_assert(range_of("history", 0) == NULL && oldest(0) == 1);
    mr_cursor_set(alarms, mr_lane_durable(lane));
    mr_journal_step_keeper(journal);
    mr_assert(put(0, 200));
    check_range("history", 0, 1, oldest(0) - 1);
    mr_assert(range_of("alarms", 0) == NULL);
    mr_assert(mr_cursor_get(history) == 0);
    stop();
}

/* A bridge that leaves the configuration is nobody's, and no reason to hold anybody back. */
static void test_who_is_gone_drops(void)
{
    start(1);
    (void)cursor_of("alarms", 0, 900, false);
    mr_drops_arm(journal);
    mr_assert(!put(0, 2000) && oldest(0) == 1);
    mr_cursors_rank(journal, "alarms", &mr_rank_of_nobody);
    mr_assert(put(0, 200));
    check_range("alarms", 0, 1, oldest(0) - 1);
    stop();
}

/* Sessions of the gateway's own are never dropped for; a bridge that nobody configured is. */
static void test_sessions_and_orphans(void)
{
    bool is_new;

    start(1);
    (void)cursor_of("gone", 0, 500, false);
    struct mr_cursor *sessions = NULL;
    mr_assert(mr_cursor_open(journal, "$sessions", 0, MR_START_OLDEST, &sessions, &is_new, NULL) ==
              MR_OK);
    mr_assert(put(0, 100));
    mr_assert(mr_journal_close(journal) == MR_OK);
    journal_take(MR_WHEN_FULL_DROP, 1);
    mr_assert(mr_cursor_open(journal, "$sessions", 0, MR_START_OLDEST, &sessions, &is_new, NULL) ==
              MR_OK);
    struct mr_cursor *kafka = cursor_of("kafka", 0, 1, true);
    mr_assert(!put(0, 2000)); /* not armed: it is not known yet who is configured */
    mr_drops_arm(journal);
    mr_journal_step_keeper(journal);
    mr_assert(!put(0, 1) && strstr(mr_lane_state_text(lane), "'$sessions'") != NULL);
    mr_cursor_set(sessions, mr_lane_durable(lane));
    mr_cursor_set(kafka, mr_lane_durable(lane));
    mr_journal_step_keeper(journal);
    mr_assert(put(0, 100));
    check_range("gone", 0, 1, oldest(0) - 1);
    mr_assert(range_of("kafka", 0) == NULL && range_of("$sessions", 0) == NULL);
    stop();
}

/* The other policies never do. */
static void test_only_where_chosen(void)
{
    static const enum mr_when_full others[] = {MR_WHEN_FULL_HOLD, MR_WHEN_FULL_REFUSE};

    for (size_t i = 0; i < MR_COUNT_OF(others); i++) {
        mr_sim_start(8);
        journal_take(others[i], 1);
        (void)cursor_of("kafka", 0, 100, true);
        mr_drops_arm(journal);
        mr_assert(!put(0, 2000));
        mr_assert(range_of("kafka", 0) == NULL && oldest(0) == 1);
        stop();
    }
}

/* ---- two lanes, one disk ---- */

/* There is no room for another file. */
static void disk_fill(void)
{
    const uint64_t large = UINT64_C(1) << 40;
    uint64_t bytes_free = 0;

    mr_sim_disk_limit(large);
    mr_assert(mr_disk_free("/j", &bytes_free) == MR_OK);
    mr_sim_disk_limit(large - bytes_free + SEGMENT / 2);
}

/* The journal's bound is each lane's own.  The disk is everybody's: there the range goes that
 * only the less important need.
 */
static void test_lower_price_goes_first(void)
{
    start(2);
    struct mr_cursor *low0 = cursor_of("history", 0, 10, true);
    struct mr_cursor *high0 = cursor_of("alarms", 0, 900, true);
    struct mr_cursor *low1 = cursor_of("history", 1, 10, true);
    struct mr_cursor *high1 = cursor_of("alarms", 1, 900, true);

    (void)low0;
    (void)high0;
    (void)low1;
    mr_drops_arm(journal);
    mr_assert(put(0, 500) && put(1, 500));
    mr_cursor_set(high1, mr_lane_durable(mr_journal_lane(journal, 1)));
    mr_journal_step_keeper(journal);
    disk_fill();
    while (range_of("history", 1) == NULL && range_of("alarms", 0) == NULL) {
        mr_assert(put(0, 1));
    }
    mr_assert(range_of("alarms", 0) == NULL && range_of("alarms", 1) == NULL);
    mr_assert(range_of("history", 1)->reason == MR_DROP_DISK);
    stop();
}

/* ---- power cuts ---- */

static uint64_t put_back_count;

static void fill_and_go_on(void *arg)
{
    (void)arg;
    mr_assert(put(0, 700));
}

/* So many that their ranges fill more than a sector of the list, and that in each round what one
 * of them lets go would be the next one's slot.
 */
enum { OTHERS = 20 };

static const char *other_name(uint32_t i)
{
    static char name[16];

    (void)snprintf(name, sizeof(name), "other-%u", i);
    return name;
}

static void check_listed(const char *name)
{
    struct mr_cursor *cursor = cursor_of(name, 0, 100, true);
    uint64_t from = mr_cursor_get(cursor) + 1;

    mr_assert(from >= oldest(0) ||
              mr_drops_in(journal, name, 0, from, oldest(0) - 1) == oldest(0) - from);
}

/* Ranges of a bridge that touch are one. */
static void check_apart(const char *name)
{
    listed_count = 0;
    mr_drops_list(journal, on_drop, NULL);
    for (size_t i = 0; i < listed_count; i++) {
        for (size_t k = 0; k < listed_count; k++) {
            mr_assert(i == k || strcmp(listed[i].name, name) != 0 ||
                      strcmp(listed[k].name, name) != 0 ||
                      listed[i].seq_first > listed[k].seq_last + 1 ||
                      listed[k].seq_first > listed[i].seq_last + 1);
        }
    }
}

/* Whatever the cut hits: what a cursor had not passed is there, or in the list. */
static void check_after_cut(void)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;

    check_listed("kafka");
    for (uint32_t i = 0; i < OTHERS; i++) {
        check_listed(other_name(i));
    }
    mr_assert(mr_reader_open(&reader, journal, 0, oldest(0), NULL, NULL) == MR_OK);
    uint64_t next = oldest(0);
    while (mr_reader_next(reader, &view) == MR_OK) {
        mr_assert(view.seq_first == next);
        next = view.seq_last + 1;
        mr_view_unpin(&view);
    }
    mr_assert(next == mr_lane_durable(lane) + 1);
    mr_reader_close(reader);
}

/* In front of a range whose records are there yet, if so it is: what lies between was not given up.
 */
static void put_back(void)
{
    struct mr_cursor *cursor = cursor_of("kafka", 0, 100, true);

    if (oldest(0) - 1 < mr_cursor_get(cursor)) {
        mr_assert(mr_cursor_seek(cursor, oldest(0) - 1) == MR_OK);
        put_back_count += 1;
    }
}

static bool cut_at(enum mr_sim_call call, uint64_t nth)
{
    mr_sim_start(nth * MR_SIM_CALLS + (uint64_t)call + 1);
    journal_take(MR_WHEN_FULL_DROP, 1);
    struct mr_cursor *cursor = cursor_of("kafka", 0, 100, true);
    for (uint32_t i = 0; i < OTHERS; i++) {
        (void)cursor_of(other_name(i), 0, 100, true);
    }
    mr_drops_arm(journal);
    mr_assert(put(0, 900));
    mr_cursor_set(cursor, oldest(0) + 20);
    mr_journal_step_keeper(journal);
    mr_sim_inject(call, nth, 1, MR_SIM_FAULT_CRASH);
    bool whole = mr_sim_run(fill_and_go_on, NULL);
    mr_sim_inject_clear();
    if (!whole) {
        struct mr_recovery found;
        mr_assert(mr_journal_open(&journal,
                                  &(struct mr_journal_options){.path = "/j",
                                                               .name = "drops",
                                                               .block_bytes = 16384,
                                                               .block_count = 12,
                                                               .record_bytes_max = 8000,
                                                               .when_full = MR_WHEN_FULL_DROP,
                                                               .manual = true},
                                  &found, NULL) == MR_OK);
        mr_assert(found.seqs_lost == 0 && found.corrupt_ranges == 0);
        lane = mr_journal_lane(journal, 0);
        seq_next[0] = mr_lane_next_seq(lane);
    }
    check_after_cut();
    put_back();
    mr_drops_arm(journal);
    mr_assert(put(0, 600)); /* and it goes on */
    check_after_cut();
    mr_assert(mr_drops_in(journal, "kafka", 0, oldest(0) - 1, oldest(0) - 1) == 1);
    check_apart("kafka");
    stop();
    return !whole;
}

int main(void)
{
    mr_log_set_level(getenv("MR_TEST_LOG") != NULL ? MR_LOG_DEBUG : MR_LOG_ERROR + 1);
    test_oldest_goes_when_full();
    test_who_may_not_drop_holds();
    test_who_is_gone_drops();
    test_sessions_and_orphans();
    test_only_where_chosen();
    test_lower_price_goes_first();
    power_cuts(cut_at);
    mr_assert(put_back_count != 0);
    return 0;
}
