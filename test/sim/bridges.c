/* bridges.c - the bridges of the simulated gateway, as src/app/wire.c and reload.c have them.
 *
 * What the configuration says of them outlives the gateway, and a reload may change it: one comes
 * or goes, or is another one.  Who is gone has its cursors still, and comes back at them.
 */
#include "machine.h"

#include "journal/drops.h"
#include "os/clock.h"

#include <stdio.h>

const char *const bridge_names[BRIDGES_MAX] = {"first", "second"};
static const char *from_items[] = {"s/#"};
const struct mr_list bridge_from = {.items = from_items, .count = 1};

struct workers workers;
static struct mr_bridge_group *groups[BRIDGES_MAX];
static struct model_conf sink_confs[BRIDGES_MAX][LANES_MAX];

/* In the configuration, as far as reloads have changed it. */
static struct wanted {
    bool is_set;
    bool absent;
    bool was_absent; /* then it is no reason to let publishers wait */
    uint32_t conf;   /* which of `confs` */
} wanted[BRIDGES_MAX];

enum { CONF_LIVE_FIRST = 1, CONF_OTHER = 2, CONFS = 4 };
static struct mr_bridge_conf confs[BRIDGES_MAX][CONFS]; /* bridges borrow from them */

/* Where one was that has gone. */
static struct place {
    bool is_known;
    uint64_t seq;
    uint64_t life;
} left_at[BRIDGES_MAX][LANES_MAX];

static void wanted_begin(uint32_t bridge)
{
    if (wanted[bridge].is_set) {
        return;
    }
    wanted[bridge].is_set = true;
    wanted[bridge].conf = plan.live_first[bridge] ? CONF_LIVE_FIRST : 0;
    for (uint32_t i = 0; i < CONFS; i++) {
        confs[bridge][i] = (struct mr_bridge_conf){
            .from = bridge_from,
            .drain = (i & CONF_LIVE_FIRST) != 0 ? MR_DRAIN_LIVE_FIRST : MR_DRAIN_ORDERED,
            .live_after_us = plan.live_after_us,
            .live_least = plan.live_least,
            .backfill_rate = plan.backfill_rate,
            .inflight_records = (i & CONF_OTHER) != 0 ? 100 : 1000,
            .priority = plan.priority[bridge],
            .may_drop = plan.may_drop[bridge],
            .retry_min_us = 10000,
            .retry_max_us = 200000,
        };
    }
}

bool bridge_is_wanted(uint32_t bridge)
{
    return !wanted[bridge].absent;
}

bool bridge_runs(uint32_t bridge)
{
    return groups[bridge] != NULL;
}

bool bridge_may_be_dropped(uint32_t bridge)
{
    return plan.may_drop[bridge] || wanted[bridge].was_absent;
}

void bridges_lose_places(void)
{
    memset(left_at, 0, sizeof(left_at));
}

void bridges_forget(void)
{
    workers.count = 0;
    memset(groups, 0, sizeof(groups));
}

/* ---- coming ---- */

static void check_place(struct mr_bridge *worker, uint32_t bridge, uint32_t lane)
{
    struct place *place = &left_at[bridge][lane];
    struct mr_bridge_stats stats;

    mr_bridge_stats(worker, &stats);
    if (place->is_known && place->life == ledger_life() && stats.cursor_seq != place->seq) {
        broken("bridge %s went at record %llu of lane %u, and has come back at %llu", stats.name,
               (unsigned long long)place->seq, lane, (unsigned long long)stats.cursor_seq);
    }
    place->is_known = false;
}

static enum mr_err start_lane(struct mr_journal *journal, uint32_t bridge, uint32_t lane,
                              struct mr_error *why)
{
    struct mr_bridge *worker = NULL;
    char path[64];

    (void)snprintf(path, sizeof(path), "data/dead-letters/%s", bridge_names[bridge]);
    sink_confs[bridge][lane] = (struct model_conf){.bridge = bridge, .lane = lane};
    enum mr_err err =
        mr_bridge_create(&worker,
                         &(struct mr_bridge_options_run){
                             .group = groups[bridge],
                             .name = bridge_names[bridge],
                             .gateway_name = "sim",
                             .journal = journal,
                             .lane = lane,
                             .conf = &confs[bridge][wanted[bridge].conf],
                             .sink = plan.exactly_once[bridge] ? &vault_sink : &plain_sink,
                             .sink_conf = &sink_confs[bridge][lane],
                             .dead_letters_path = path,
                             .dead_letters_bytes_max = 8 << 20,
                             .record_bytes_max = 8 << 10,
                         },
                         why);
    if (err != MR_OK) {
        return err;
    }
    check_place(worker, bridge, lane);
    workers.all[workers.count] = worker;
    workers.of[workers.count] = bridge;
    workers.count += 1;
    return mr_bridge_start(worker, why);
}

static enum mr_err bridge_start(struct mr_journal *journal, uint32_t bridge, struct mr_error *why)
{
    const struct mr_bridge_conf *conf = &confs[bridge][wanted[bridge].conf];
    enum mr_err err =
        mr_bridge_group_open(&groups[bridge], journal, bridge_names[bridge], conf, why);

    if (err == MR_OK) {
        mr_cursors_rank(journal, bridge_names[bridge],
                        &(struct mr_cursor_rank){.priority = (uint32_t)conf->priority,
                                                 .may_drop = conf->may_drop});
    }
    for (uint32_t lane = 0; lane < mr_journal_lane_total(journal) && err == MR_OK; lane++) {
        if (mr_bridge_group_needs(groups[bridge], lane)) {
            err = start_lane(journal, bridge, lane, why);
        }
    }
    return err;
}

enum mr_err bridges_start(struct mr_journal *journal, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    for (uint32_t i = 0; i < plan.bridges && err == MR_OK; i++) {
        wanted_begin(i);
        if (!wanted[i].absent) {
            err = bridge_start(journal, i, why);
        }
    }
    if (err == MR_OK) {
        err = mr_cursors_follow(journal, why);
    }
    if (err == MR_OK) {
        mr_drops_arm(journal);
    }
    return err;
}

/* ---- going ---- */

static void workers_stop(struct workers *leaving, int64_t patience_ns)
{
    for (uint32_t i = 0; i < leaving->count; i++) {
        mr_bridge_stop_begin(leaving->all[i], patience_ns);
    }
    for (uint32_t i = 0; i < leaving->count; i++) {
        struct mr_bridge_stats stats;
        mr_bridge_stop(leaving->all[i], patience_ns);
        mr_bridge_stats(leaving->all[i], &stats);
        /* One that could not write its cursor does not know what the disk has of it. */
        left_at[leaving->of[i]][stats.lane] =
            (struct place){.is_known = stats.state != MR_BRIDGE_STOPPED,
                           .seq = stats.cursor_seq,
                           .life = ledger_life()};
        mr_bridge_destroy(leaving->all[i]);
    }
}

void bridges_stop(int64_t patience_ns)
{
    struct workers leaving = workers;

    workers.count = 0;
    workers_stop(&leaving, patience_ns);
    for (uint32_t i = 0; i < plan.bridges; i++) {
        mr_bridge_group_close(groups[i]);
        groups[i] = NULL;
    }
}

/* It is not among the workers before it stops: whoever looks at them meanwhile does not find it. */
static void bridge_stop(uint32_t bridge)
{
    struct workers leaving = {.count = 0};
    uint32_t kept = 0;

    for (uint32_t i = 0; i < workers.count; i++) {
        struct workers *to = workers.of[i] == bridge ? &leaving : &workers;
        uint32_t at = to == &leaving ? leaving.count++ : kept++;
        to->all[at] = workers.all[i];
        to->of[at] = workers.of[i];
    }
    workers.count = kept;
    workers_stop(&leaving, (int64_t)roll(3) * 500 * NS_PER_MS);
    mr_bridge_group_close(groups[bridge]);
    groups[bridge] = NULL;
}

enum mr_err bridge_reconfigure(struct mr_journal *journal, uint32_t bridge, struct mr_error *why)
{
    struct wanted *now = &wanted[bridge];
    bool comes = now->absent || !bridge_runs(bridge);

    if (comes) {
        now->absent = false;
    } else if (plan.may_go[bridge] && !world_is_calm && roll(2) == 0) {
        now->absent = true;
    } else {
        now->conf = (now->conf + 1 + (uint32_t)roll(CONFS - 1)) % CONFS;
    }
    say("the configuration has bridge %s %s", bridge_names[bridge],
        now->absent ? "no more"
        : comes     ? "again"
                    : "with other keys");
    if (now->absent) {
        now->was_absent = true;
        mr_cursors_rank(journal, bridge_names[bridge], &mr_rank_of_nobody);
    }
    if (!comes) {
        bridge_stop(bridge);
    }
    enum mr_err err = now->absent ? MR_OK : bridge_start(journal, bridge, why);
    if (err != MR_OK) {
        bridge_stop(bridge);
    }
    return err;
}
