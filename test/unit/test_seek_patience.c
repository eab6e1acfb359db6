/* test_seek_patience.c
 * links: pipeline journal codec config os_sim base
 *
 * Goal:   whoever was told that nothing was changed by a seek, because the bridge was busy for too
 *         long, was told what is so: the seek is not made afterwards, not even by a worker that was
 *         at it.  Who asks next gets what that one wants.
 * Method: a bridge that is stepped by hand, and a target that answers nothing and whose closing
 *         takes longer than an asker waits.
 */
#include "base/log.h"
#include "lane_commit.h"
#include "os/sim.h"
#include "vault_sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEWEST = 300, PLACE = 200, OTHER = 100, TURNS = 1000000 };

static struct scripted_conf conf = {.topic = "t_${topic[2]}", .key = "${clientid}"};
static const char *filters[] = {"sensors/+/+"}; /* what has a destination: no dead letters */
static struct mr_bridge_conf conf_here;
static struct mr_sink_ops slow_sink;
static struct mr_journal *journal;
static struct mr_bridge *bridge;
static int64_t now_ns; /* the bridge's time */
static struct asking first;
static struct asking second;
static struct mr_thread *threads[2];
static bool second_asks; /* as soon as the first one has gone */

static void ask_for(struct asking *asking, struct mr_thread **thread, uint64_t to)
{
    *asking = (struct asking){.bridge = bridge, .to = to};
    mr_assert(mr_thread_start(thread, "asker", ask, asking, NULL) == MR_OK);
}

static void let_others_run(void)
{
    while (mr_sim_turn() == MR_SIM_RAN) {
    }
}

/* The asker's patience ends meanwhile. */
static void slow_close(void *state, int64_t patience_ns)
{
    mr_sim_advance((int64_t)20 * 1000000000);
    let_others_run();
    if (second_asks && !atomic_load(&second.over)) {
        ask_for(&second, &threads[1], OTHER);
        let_others_run();
    }
    scripted_sink.close(state, patience_ns);
}

static struct mr_bridge_stats step(void)
{
    return bridge_turn(bridge, &now_ns);
}

static void append(void)
{
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct event_memory memory;
    struct mr_appended out;

    for (uint64_t seq = 1; seq <= NEWEST; seq++) {
        struct mr_record_raw record = event_of(seq, &memory);
        while (mr_lane_append(lane, &record, NULL, &out) == MR_ERR_FULL) {
            lane_commit(lane, seq - 1);
            mr_journal_step_keeper(journal);
        }
    }
    lane_commit(lane, NEWEST);
}

static void begin(void)
{
    const struct mr_journal_options options = {.path = "/j",
                                               .name = "test",
                                               .lane_count = 1,
                                               .max_bytes = 1 << 20,
                                               .segment_bytes = 64 << 10,
                                               .block_bytes = 16 << 10,
                                               .record_bytes_max = 8 << 10,
                                               .manual = true};

    mr_sim_start(1);
    vault_empty();
    memset(delivered, 0, sizeof(delivered));
    memset(newest_of, 0, sizeof(newest_of));
    slow_sink = scripted_sink;
    slow_sink.close = slow_close;
    sink_ops = &slow_sink;
    conf_here = bridge_conf;
    conf_here.from.items = filters;
    conf_now = &conf_here;
    conf.hold = true;
    mr_assert(mr_journal_open(&journal, &options, NULL, NULL) == MR_OK);
    append();
    bridge = bridge_make(journal, &conf);
    for (uint64_t turns = 0; step().inflight == 0; turns++) {
        mr_assert(turns < TURNS);
    }
}

/* Until the asker has its answer. */
static void wait_for(struct asking *asking, struct mr_thread *thread)
{
    for (uint64_t turns = 0; !atomic_load(&asking->over); turns++) {
        mr_assert(turns < TURNS);
        let_others_run();
        (void)step();
    }
    mr_thread_join(thread);
}

static void finish(void)
{
    conf.hold = false;
    second_asks = false;
    for (uint64_t turns = 0; step().cursor_seq < NEWEST; turns++) {
        mr_assert(turns < TURNS);
    }
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_sim_stop();
}

static void check_delivered_behind(uint64_t place)
{
    for (uint64_t seq = 1; seq <= NEWEST; seq++) {
        mr_assert(delivered[seq] == (seq > place && fate_of(seq) == FATE_SEND));
    }
}

static void test_who_has_gone_has_changed_nothing(void)
{
    begin();
    ask_for(&first, &threads[0], PLACE);
    wait_for(&first, threads[0]);
    mr_assert(first.err == MR_ERR_AGAIN);
    finish();
    check_delivered_behind(0);
}

static void test_who_comes_next_gets_what_it_wants(void)
{
    begin();
    second_asks = true;
    ask_for(&first, &threads[0], PLACE);
    wait_for(&first, threads[0]);
    mr_assert(first.err == MR_ERR_AGAIN);
    wait_for(&second, threads[1]);
    mr_assert(second.err == MR_OK);
    finish();
    check_delivered_behind(OTHER);
}

static void drop_line(const char *line, size_t len)
{
    if (getenv("MR_TEST_LOG") != NULL) {
        (void)fwrite(line, 1, len, stderr);
    }
}

int main(void)
{
    mr_log_set_writer(drop_line);
    vault_make();
    test_who_has_gone_has_changed_nothing();
    test_who_comes_next_gets_what_it_wants();
    return 0;
}
