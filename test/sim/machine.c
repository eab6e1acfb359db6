/* machine.c - the gateway as src/app/wire.c puts it together, in the simulated world.
 *
 * Its main thread opens and starts everything, waits for an order or a failure, stops.  A
 * crash takes it away at any point; the world starts it again, as a service manager would.
 */
#include "machine.h"

#include "base/log.h"
#include "broker/broker.h"
#include "config/config.h"
#include "journal/books.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/sim.h"

#include <stdio.h>
#include <string.h>

enum order {
    ORDER_NONE,
    ORDER_STOP,
    ORDER_PAUSE,
    ORDER_RESUME,
    ORDER_SEEK_BACK,
    ORDER_RELOAD,
    ORDER_RECONFIGURE,
};

static struct {
    struct mr_thread *thread; /* NULL: there is no process */
    bool up;
    bool ended;
    enum mr_err code; /* how it has ended */
    bool faulty;      /* a fault was in force when it began to start */
    enum order order;
    uint32_t order_bridge;
    struct mr_wake wake;
    struct mr_journal *journal;
    struct mr_broker *broker;
} machine;

static const char *const ack_names[ACK_KINDS] = {"disk", "memory", "first"};
static struct mr_listener_conf listeners[ACK_KINDS]; /* the broker does not copy these two */
static struct mr_broker_bridge ack_bridge;

static uint32_t lanes_now; /* outlives the gateway: the configuration says it */

/* ---- start ---- */

static enum mr_err start_journal(struct mr_error *why)
{
    return mr_journal_open(&machine.journal,
                           &(struct mr_journal_options){
                               .path = "data/journal",
                               .name = "journal",
                               .lane_count = lanes_now,
                               .max_bytes = plan.journal_bytes,
                               .when_full = (enum mr_when_full)plan.when_full,
                               .keep_ranges = true,
                               .segment_bytes = plan.segment_bytes,
                               .block_bytes = plan.block_bytes,
                               .block_count = 8,
                               .record_bytes_max = 8 << 10,
                               .commit_delay_us_max = plan.commit_delay_us,
                           },
                           NULL, why);
}

/* What the configuration says by default, but for what would be too large for so small a world. */
static struct mr_broker_limits limits(void)
{
    struct mr_broker_limits limits = {.max_packet_size = 0};
    const struct mr_fill fill = {.table = mr_broker_options, .into = &limits};
    mr_sim_own(true); /* no part of the gateway that is tried here */
    struct mr_config *config = mr_config_open_text("defaults", "");

    mr_config_fill(config, NULL, "mqtt", &fill, 1);
    mr_assert(mr_config_problem_count(config) == 0);
    mr_config_close(config);
    mr_sim_own(false);
    limits.max_packet_size = 4096;
    limits.receive_maximum = 100;
    limits.max_queued_messages = 100000;
    limits.sys_interval_us = 0; /* nobody looks at it, and it wakes the shard */
    return limits;
}

/* That of the bridge is the last one: a bridge that listeners wait for cannot go. */
static uint32_t listener_count(void)
{
    return plan.world < WORLD_BROKER ? 1 : plan.may_go[0] ? ACK_BRIDGE : ACK_KINDS;
}

static enum mr_err start_broker(struct mr_error *why)
{
    ack_bridge = (struct mr_broker_bridge){.name = bridge_names[0], .from = bridge_from};
    for (int i = 0; i < ACK_KINDS; i++) {
        listeners[i] = (struct mr_listener_conf){
            .name = ack_names[i], .bind = listener_addresses[i], .ack = ack_names[i]};
    }
    enum mr_err err = mr_broker_open(&machine.broker,
                                     &(struct mr_broker_run){
                                         .journal = machine.journal,
                                         .listeners = listeners,
                                         .listener_count = listener_count(),
                                         .bridges = &ack_bridge,
                                         .bridge_count = 1,
                                         .limits = limits(),
                                         .sessions_path = "data/sessions",
                                         .checkpoint_ms = plan.checkpoint_ms,
                                         .refuse_when_full = plan.when_full == FULL_REFUSES,
                                         .memory_bytes = (uint64_t)plan.lanes_max * (8 << 20),
                                         .failed_wake = &machine.wake,
                                     },
                                     why);

    return err == MR_OK ? mr_broker_start(machine.broker, why) : err;
}

static enum mr_err start(struct mr_error *why)
{
    enum mr_err err = mr_dir_create("data/dead-letters", why);

    if (err == MR_OK) {
        err = start_journal(why);
    }
    if (err == MR_OK) {
        err = scan_journal(machine.journal, why);
    }
    if (err == MR_OK) {
        scan_appends_of(machine.journal);
        err = bridges_start(machine.journal, why);
    }
    return err == MR_OK ? start_broker(why) : err;
}

/* ---- orders ---- */

static void seek_back(uint32_t index)
{
    struct mr_error why;
    uint64_t out = 0;

    for (uint32_t i = 0; i < workers.count; i++) {
        struct mr_bridge_stats stats;
        if (workers.of[i] != index) {
            continue;
        }
        mr_bridge_stats(workers.all[i], &stats);
        uint64_t to = stats.cursor_seq - roll(stats.cursor_seq < 50 ? stats.cursor_seq + 1 : 50);
        ledger_sought(index, stats.lane);
        enum mr_err err = mr_bridge_seek(workers.all[i], to, &out, &why);
        say("seek of bridge %u back to %llu: %s", index, (unsigned long long)to,
            err == MR_OK ? "done" : why.text);
    }
}

static void reload(void)
{
    const struct mr_listener_conf *const conf[ACK_KINDS] = {&listeners[0], &listeners[1],
                                                            &listeners[2]};
    struct mr_error why;
    enum mr_err err = mr_broker_reload(
        machine.broker, &(struct mr_broker_reloaded){.listeners = conf, .limits = limits()}, &why);

    say("reload: %s", err == MR_OK ? "done" : why.text);
}

static void reconfigure(uint32_t bridge)
{
    struct mr_error why;

    if (bridge_reconfigure(machine.journal, bridge, &why) != MR_OK) {
        say("bridge %s does not run: %s", bridge_names[bridge], why.text);
        if (!machine.faulty) {
            broken("bridge %s does not run behind a reload: %s", bridge_names[bridge], why.text);
        }
    }
}

static void obey(void)
{
    enum order order = machine.order;
    const char *name = bridge_names[machine.order_bridge];

    machine.order = ORDER_NONE;
    switch (order) {
    case ORDER_PAUSE:
    case ORDER_RESUME:
        say("bridge %s is to %s", name, order == ORDER_PAUSE ? "pause" : "resume");
        if (mr_cursor_pause(machine.journal, name, order == ORDER_PAUSE) != MR_OK) {
            say("it cannot be noted");
        }
        for (uint32_t i = 0; i < workers.count; i++) {
            mr_bridge_nudge(workers.all[i]);
        }
        break;
    case ORDER_SEEK_BACK:
        seek_back(machine.order_bridge);
        break;
    case ORDER_RELOAD:
        reload();
        break;
    case ORDER_RECONFIGURE:
        reconfigure(machine.order_bridge);
        break;
    case ORDER_STOP:
    case ORDER_NONE:
        break;
    }
}

/* ---- the main thread ---- */

static enum mr_err wait_for_end(struct mr_error *why)
{
    for (;;) {
        enum mr_err err = mr_broker_failed(machine.broker, why);
        if (err != MR_OK || machine.order == ORDER_STOP) {
            return err;
        }
        obey();
        if (machine.order == ORDER_NONE) {
            (void)mr_wake_wait(&machine.wake, -1);
        }
    }
}

static enum mr_err stop(void)
{
    int64_t patience_ns = (int64_t)roll(3) * 500 * NS_PER_MS;
    enum mr_err err = MR_OK;

    if (machine.broker != NULL) {
        mr_broker_stop(machine.broker, patience_ns);
    }
    bridges_stop(patience_ns);
    if (machine.broker != NULL) {
        mr_broker_close(machine.broker);
    }
    scan_appends_of(NULL);
    if (machine.journal != NULL) {
        err = mr_journal_close(machine.journal);
    }
    return err;
}

static void machine_main(void *arg)
{
    struct mr_error why = {.code = MR_OK};

    (void)arg;
    mr_assert(mr_wake_open(&machine.wake, &why) == MR_OK);
    enum mr_err err = start(&why);
    if (err == MR_OK) {
        say("the gateway is up");
        machine.up = true;
        err = wait_for_end(&why);
        machine.up = false;
    } else if (err == MR_ERR_CORRUPT || err == MR_ERR_REJECT || !machine.faulty) {
        broken("the gateway does not start: %s", why.text);
    }
    say("the gateway stops%s%s", err == MR_OK ? "" : ": ", err == MR_OK ? "" : why.text);
    enum mr_err closed = stop();
    machine.code = err == MR_OK ? closed : err;
    mr_wake_close(&machine.wake);
    machine.ended = true;
}

/* ---- the world's side ---- */

static void machine_forget(void)
{
    struct mr_thread *thread = machine.thread;

    memset(&machine, 0, sizeof(machine));
    machine.thread = thread;
    bridges_forget();
    scan_appends_of(NULL);
}

void machine_start(void)
{
    mr_assert(!machine_is_there());
    machine_forget();
    machine.faulty = world_has_faults();
    if (lanes_now == 0) {
        lanes_now = plan.lanes;
    } else if (chance(plan.relane)) {
        lanes_now = 1 + (uint32_t)roll(plan.lanes_max);
        say("the configuration wants %u lanes now", lanes_now);
    }
    say("the gateway starts");
    mr_assert(mr_thread_start(&machine.thread, "main", machine_main, NULL, NULL) == MR_OK);
}

bool machine_is_there(void)
{
    if (machine.thread != NULL && machine.ended) {
        mr_thread_join(machine.thread);
        machine.thread = NULL;
        say("the gateway has ended: %d", machine.code);
        if (machine.code != MR_OK) {
            bridges_lose_places();
        }
        mr_sim_kill(); /* what the end of a process closes */
        heap_life_ends();
        if (machine.code != MR_OK) {
            ledger_crashed();
        }
    }
    return machine.thread != NULL;
}

void machine_note_fault(void)
{
    machine.faulty = true;
}

bool machine_is_up(void)
{
    return machine_is_there() && machine.up && machine.order != ORDER_STOP;
}

void machine_is_gone(void)
{
    ledger_crashed();
    targets_forget();
    machine.thread = NULL;
    machine_forget();
    heap_life_ends();
}

static void give_order(enum order order, uint32_t bridge)
{
    if (machine_is_up() && machine.order == ORDER_NONE) {
        machine.order = order;
        machine.order_bridge = bridge;
        mr_wake_ring(&machine.wake);
    }
}

void machine_wants_stop(void)
{
    give_order(ORDER_STOP, 0);
}

void machine_operate(void)
{
    uint32_t bridge = (uint32_t)roll(plan.bridges);

    switch (roll(4)) {
    case 0:
        give_order(ORDER_PAUSE, bridge);
        break;
    case 1:
        give_order(ORDER_RESUME, bridge);
        break;
    case 2:
        give_order(ORDER_SEEK_BACK, bridge);
        break;
    default:
        give_order(ORDER_RELOAD, bridge);
        break;
    }
}

void machine_reconfigure(void)
{
    give_order(ORDER_RECONFIGURE, (uint32_t)roll(plan.bridges));
}

/* A bridge that waits for the operator, as after an I/O error of its dead letters, goes on with
 * the next start; one that he has paused, when he resumes it.
 */
void machine_calm(uint32_t bridge)
{
    for (uint32_t i = 0; machine_is_up() && i < workers.count; i++) {
        struct mr_bridge_stats stats;
        mr_bridge_stats(workers.all[i], &stats);
        if (stats.state == MR_BRIDGE_STOPPED) {
            say("bridge %s has stopped: %s", stats.name, stats.last_error);
            machine_wants_stop();
        }
        if (stats.state == MR_BRIDGE_PAUSED && workers.of[i] == bridge) {
            give_order(ORDER_RESUME, bridge);
        }
    }
    if (!bridge_is_wanted(bridge) || (machine_is_up() && !bridge_runs(bridge))) {
        give_order(ORDER_RECONFIGURE, bridge);
    }
}

bool machine_has_settled(void)
{
    bool settled = machine_is_up();

    for (uint32_t i = 0; i < plan.bridges; i++) {
        settled = settled && bridge_is_wanted(i) && bridge_runs(i);
    }
    for (uint32_t i = 0; settled && i < workers.count; i++) {
        struct mr_bridge_stats stats;
        mr_bridge_stats(workers.all[i], &stats);
        settled = stats.cursor_seq >= stats.durable_seq;
    }
    return settled;
}

void machine_check_bounds(void)
{
    uint64_t used = 0;

    for (uint32_t i = 0; machine_is_up() && i < mr_journal_lane_total(machine.journal); i++) {
        struct mr_lane_stats stats;
        mr_lane_stats(mr_journal_lane(machine.journal, i), &stats);
        used += stats.bytes_used;
    }
    if (used > plan.journal_bytes) {
        broken("the journal occupies %llu bytes, allowed are %llu", (unsigned long long)used,
               (unsigned long long)plan.journal_bytes);
    }
}

void machine_check_books(void)
{
    for (uint32_t i = 0; machine_is_up() && i < workers.count; i++) {
        struct mr_bridge_stats stats;
        mr_bridge_stats(workers.all[i], &stats);
        if (!stats.balanced) {
            broken("the books of bridge %s do not balance in lane %u at record %llu", stats.name,
                   stats.lane, (unsigned long long)stats.cursor_seq);
        }
    }
}

void machine_look_for_drops(void)
{
    if (machine_is_up()) {
        scan_drops(machine.journal);
    }
}

/* Exactly, unless something was gone back over, or the target's own position told; else between
 * two bounds.
 */
static void compare_row(void *arg, const struct mr_books_row *row)
{
    const uint64_t *c = row->books.columns;
    uint32_t bridge = 0;

    (void)arg;
    while (bridge < plan.bridges && strcmp(row->name, bridge_names[bridge]) != 0) {
        bridge += 1;
    }
    if (bridge == plan.bridges) {
        return; /* a cursor of the broker's */
    }
    struct outcome was = ledger_outcome(bridge, row->lane_index);
    uint64_t repeated = c[MR_COLUMN_REPEATED];
    /* A seek back may come to be one forward, if the cursor went back further meanwhile. */
    uint64_t confirmed = c[MR_COLUMN_CONFIRMED] + c[MR_COLUMN_GIVEN_UP];
    uint64_t told = c[MR_COLUMN_DELIVERED] + c[MR_COLUMN_DEAD_LETTERS];
    uint64_t dropped = c[MR_COLUMN_DROPPED];
    bool exact = repeated == 0 && confirmed == 0 && dropped == 0;
    bool right =
        exact ? c[MR_COLUMN_DELIVERED] == was.delivered && c[MR_COLUMN_DEAD_LETTERS] == was.rejected
              : told <= was.delivered + was.rejected + repeated &&
                    told + confirmed + dropped >= was.delivered + was.rejected;
    right = right && dropped <= was.given_up + repeated && dropped + confirmed >= was.missing;
    if (!right || c[MR_COLUMN_LOST] != 0) {
        broken("books of bridge %s, lane %u: %llu delivered, %llu dead letters, %llu lost, %llu "
               "given up, %llu confirmed, %llu repeated, %llu dropped; the target has %llu and has "
               "refused %llu; the ranges have %llu, of which %llu came to nothing",
               row->name, row->lane_index, (unsigned long long)c[MR_COLUMN_DELIVERED],
               (unsigned long long)c[MR_COLUMN_DEAD_LETTERS], (unsigned long long)c[MR_COLUMN_LOST],
               (unsigned long long)c[MR_COLUMN_GIVEN_UP], (unsigned long long)confirmed,
               (unsigned long long)repeated, (unsigned long long)dropped,
               (unsigned long long)was.delivered, (unsigned long long)was.rejected,
               (unsigned long long)was.given_up, (unsigned long long)was.missing);
    }
}

void machine_compare_books(void)
{
    mr_books_list(machine.journal, compare_row, NULL);
}
