/* pipeline_kit.h - a journal in a folder of its own, and bridges from it to the scripted sink.
 *
 *     journal_make() ─▶ bridge_make() ... mr_bridge_destroy() ─▶ journal_remove()
 *
 * Thread: the test's.   Memory: static; one folder and one journal at a time.
 */
#ifndef MR_TEST_PIPELINE_KIT_H
#define MR_TEST_PIPELINE_KIT_H

#include "journal_folder.h"
#include "scripted_sink.h"

static uint64_t journal_keep_us; /* 0, unless a test wants what is settled to stay */

static inline struct mr_journal *journal_open(void)
{
    struct mr_journal *journal = folder_journal(&(struct mr_journal_options){
        .lane_count = 1,
        .max_bytes = 64 << 20,
        .keep_us = journal_keep_us,
        .keep_ranges = true,
        .segment_bytes = 512 << 10,
        .block_bytes = 64 << 10,
        .record_bytes_max = 64 << 10,
    });

    mr_lane_set_owner(mr_journal_lane(journal, 0), &owner);
    return journal;
}

/* One that is full soon, and drops what is oldest; some 1,800 events. */
static inline struct mr_journal *journal_small(struct mr_recovery *recovery)
{
    struct mr_error why = {.text = ""};
    struct mr_journal *journal = NULL;
    const struct mr_journal_options options = {
        .path = journal_path,
        .name = "test",
        .lane_count = 1,
        .max_bytes = 512 << 10,
        .segment_bytes = 64 << 10,
        .block_bytes = 16 << 10,
        .record_bytes_max = 8 << 10,
        .when_full = MR_WHEN_FULL_DROP,
    };

    if (mr_journal_open(&journal, &options, recovery, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    mr_lane_set_owner(mr_journal_lane(journal, 0), &owner);
    return journal;
}

static inline struct mr_journal *journal_make(void)
{
    folder_make();
    struct mr_journal *journal = journal_open();
    memset(delivered, 0, sizeof(delivered));
    memset(backfilled, 0, sizeof(backfilled));
    memset(newest_of, 0, sizeof(newest_of));
    return journal;
}

static inline void journal_remove(struct mr_journal *journal)
{
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

static const char *from_items[] = {"sensors/#"};
static const struct mr_sink_ops *sink_ops = &scripted_sink; /* of the bridges made */

static const struct mr_bridge_conf bridge_conf = {
    .from = {.items = from_items, .count = 1},
    .inflight_records = 1500,
    .retry_min_us = 1000,
    .retry_max_us = 4000,
};

/* Of the bridges made, unless a test wants others. */
static const struct mr_bridge_conf *conf_now = &bridge_conf;
static const char *name_now = "test";

static struct mr_bridge_options_run run_options(struct mr_journal *journal,
                                                const struct scripted_conf *conf)
{
    return (struct mr_bridge_options_run){
        .name = name_now,
        .gateway_name = "here",
        .journal = journal,
        .conf = conf_now,
        .sink = sink_ops,
        .sink_conf = conf,
        .dead_letters_path = dead_path,
        .dead_letters_bytes_max = 16 << 20,
        .record_bytes_max = 64 << 10,
    };
}

static inline struct mr_bridge *bridge_make(struct mr_journal *journal,
                                            const struct scripted_conf *conf)
{
    struct mr_bridge *bridge = NULL;
    struct mr_error why;
    struct mr_bridge_options_run options = run_options(journal, conf);

    enum mr_err err = mr_bridge_create(&bridge, &options, &why);
    if (err != MR_OK) {
        printf("%s\n", why.text);
    }
    mr_assert(err == MR_OK);
    return bridge;
}

/* One turn of its worker, after which *now_ns is when it wants the next one, 5 ms on at most; its
 * books balance, and it has not stopped.
 */
static inline struct mr_bridge_stats bridge_turn(struct mr_bridge *bridge, int64_t *now_ns)
{
    struct mr_bridge_stats stats;
    int64_t sleep_ns = mr_bridge_step(bridge, *now_ns);

    *now_ns += sleep_ns > 5000000 ? 5000000 : sleep_ns + 1000;
    mr_bridge_stats(bridge, &stats);
    mr_assert(stats.balanced && stats.state != MR_BRIDGE_STOPPED);
    return stats;
}

#endif
