/* lanes_kit.h - several lanes that are committed by hand, and when they have nothing to do.
 *
 *     lanes_commit(kit) ─▶ what gathered is on the disk
 *     lanes_wait(kit, commit, is_quiet) ─▶ no shard waits for the disk or has another lane to read
 *
 * Every wait has a limit (broker_kit.h).
 */
#ifndef MR_TEST_LANES_KIT_H
#define MR_TEST_LANES_KIT_H

#include "broker/foreign_internal.h"
#include "broker/keep_internal.h"
#include "broker_kit.h"

/* What gathered in all lanes is on the disk; false: there was nothing. */
static inline bool lanes_commit(const struct kit *kit)
{
    bool any = false;

    for (uint32_t lane = 0; lane < mr_journal_lane_count(kit->journal); lane++) {
        any |= mr_lane_step_commit(mr_journal_lane(kit->journal, lane));
    }
    return any;
}

/* Nothing of this shard's waits for the disk, and it has read all that the others' lanes have. */
static inline bool shard_has_read_all(const struct mr_shard *shard)
{
    struct mr_journal *journal = shard->broker->run.journal;
    bool all = mr_lane_next_seq(shard->lane) - 1 == mr_lane_durable(shard->lane);

    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        all = all && (lane == shard->index ||
                      shard->foreign[lane].pos >= mr_lane_durable(mr_journal_lane(journal, lane)));
    }
    return all;
}

/* Until `is_quiet` (in each shard's thread; `arg` is a bool that it may take away) leaves it at
 * that.  What one lane has for another may go on to a third: twice quiet.
 */
static inline void lanes_wait(const struct kit *kit, bool (*commit)(void),
                              void (*is_quiet)(struct mr_shard *shard, void *arg))
{
    int64_t deadline = kit_deadline();

    for (int quiet_times = 0; quiet_times < 2;) {
        bool quiet = !commit();
        for (uint32_t i = 0; i < kit->broker->shard_count; i++) {
            mr_assert(shard_call(kit->broker->shards[i], is_quiet, &quiet) == MR_OK);
        }
        quiet_times = quiet ? quiet_times + 1 : 0;
        kit_patience(deadline, "the lanes to be quiet");
    }
}

#endif
