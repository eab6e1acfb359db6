/* world.c - the driver: what happens next, and whether what was promised still holds. */
#include "world.h"

#include "base/log.h"
#include "os/clock.h"
#include "os/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    TURNS_MAX = 200000,   /* without a moment of rest: something runs in a circle */
    CALM_MS_MAX = 120000, /* by then everything has to have come to an end, or to a subscriber */
    CALM_TIMES_MAX = 5,   /* who takes one message at a time may need that long for what waits */
    PUMP_EVERY = 8,       /* turns */
};

struct plan plan;
struct tally tally;
bool world_is_told;
bool world_is_calm;

static struct mr_rng rng;
static uint32_t step;
static uint64_t restless; /* turns since time has moved */
static bool faults;
static bool disk_is_full;

uint64_t roll(uint64_t below)
{
    return below <= 1 ? 0 : mr_rng_below(&rng, below);
}

bool chance(unsigned per_mille)
{
    return per_mille != 0 && mr_rng_below(&rng, 1000) < per_mille;
}

void say(const char *fmt, ...)
{
    va_list args;

    if (!world_is_told) {
        return;
    }
    int64_t us = mr_clock_wall_us() % 1000000000; /* the other clock moves when it is looked at */
    (void)printf("%5u %3lld.%06lld  ", step, (long long)(us / 1000000), (long long)(us % 1000000));
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)putchar('\n');
}

void broken(const char *fmt, ...)
{
    va_list args;

    (void)fflush(stdout);
    (void)fprintf(stderr, "seed %llu, step %u: ", (unsigned long long)plan.seed, step);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
    _exit(1);
}

static void tell_log(const char *line, size_t len)
{
    if (world_is_told) {
        (void)printf("%5u             %.*s", step, (int)len, line);
    }
}

/* Where one thing goes wrong, and has not yet. */
static bool nth_is_to_come(void)
{
    return (plan.world == WORLD_CALLS && mr_sim_calls(MR_SIM_ANY) < plan.nth) ||
           (plan.world == WORLD_MEMORY && !heap_has_refused());
}

bool world_has_faults(void)
{
    return faults || disk_is_full || nth_is_to_come();
}

/* ---- turns ---- */

static void pump(void)
{
    targets_pump();
    devices_pump();
    subscribers_pump();
    boards_pump();
    mortals_pump();
    machine_check_bounds();
    machine_check_books();
}

/* One turn of the machine, or what time brings before `until_ns`.  False: there is nothing. */
static bool turn(int64_t until_ns)
{
    switch (mr_sim_turn()) {
    case MR_SIM_RAN:
        tally.turns += 1;
        restless += 1;
        if (restless > TURNS_MAX) {
            broken("stuck: %u turns without a moment of rest", TURNS_MAX);
        }
        return true;
    case MR_SIM_CRASHED:
        say("power cut in the middle of a call");
        tally.crashes += 1;
        machine_is_gone();
        return true;
    case MR_SIM_DIED:
        tally.kills += 1;
        machine_is_gone();
        return true;
    case MR_SIM_IDLE:
        break;
    }
    int64_t now_ns = mr_clock_mono_ns();
    int64_t next_ns = mr_sim_next_ns();
    restless = 0;
    if (now_ns >= until_ns) {
        return false;
    }
    next_ns = next_ns < until_ns ? next_ns : until_ns;
    mr_sim_advance(next_ns > now_ns ? next_ns - now_ns : 0);
    return true;
}

static void go_for(int64_t ns)
{
    int64_t until_ns = mr_clock_mono_ns() + ns;

    for (uint64_t turns = 1; turn(until_ns); turns++) {
        if (turns % PUMP_EVERY == 0 || mr_clock_mono_ns() >= until_ns) {
            pump();
        }
    }
    pump();
}

/* Only so many turns: whatever comes next finds everything half done. */
static void go_turns(uint64_t count)
{
    for (uint64_t i = 1; i <= count && turn(0); i++) {
        if (i % PUMP_EVERY == 0) {
            pump();
        }
    }
    pump();
}

/* ---- faults ---- */

static void power_cut(void)
{
    if (machine_is_there()) {
        say("power cut");
        mr_sim_crash();
        machine_is_gone();
        tally.crashes += 1;
    }
}

static void kill_9(void)
{
    if (machine_is_there()) {
        say("kill -9");
        mr_sim_kill();
        machine_is_gone();
        tally.kills += 1;
    }
}

static void disk_fault(void)
{
    static const char *const names[] = {"write", "sync",   "read",   "create",
                                        "fill",  "rename", "remove", "folder sync"};
    static const char *const kinds[] = {"", "no space", "I/O error", "power cut"};
    enum mr_sim_call call = (enum mr_sim_call)roll(MR_SIM_CALLS);
    enum mr_sim_fault fault = (enum mr_sim_fault)(1 + roll(3));
    uint64_t nth = 1 + roll(12);
    uint64_t count = fault == MR_SIM_FAULT_FULL ? 1 + roll(20) : 1 + roll(3);

    mr_sim_inject_clear();
    store_model_fail(false);
    if (chance(300)) {
        faults = false;
        return;
    }
    say("disk: %s at %s %llu from now, %llu times", kinds[fault], names[call],
        (unsigned long long)nth, (unsigned long long)count);
    mr_sim_inject(call, nth, count, fault);
    faults = true;
    machine_note_fault();
    tally.faults += 1;
    store_model_fail(chance(200));
}

static void disk_full(void)
{
    disk_is_full = !disk_is_full;
    say(disk_is_full ? "disk: something else fills it" : "disk: there is room again");
    /* The journal's own bound and a little: it comes to the end before, or not. */
    mr_sim_disk_limit(disk_is_full ? 1 + roll(plan.journal_bytes * 5 / 4) : 0);
    machine_note_fault();
}

static void clock_jump(void)
{
    int64_t us = (int64_t)roll(7200000000) - 3600000000;

    say("the clock is set by %lld s", (long long)us / 1000000);
    mr_sim_wall_jump(us);
}

/* ---- a step ---- */

static void act_of_others(void)
{
    if (plan.members != 0 && chance(400)) {
        subscriber_act(plan.subscribers + (uint32_t)roll(plan.members));
    }
    if (plan.boards != 0 && chance(300)) {
        board_act((uint32_t)roll(plan.boards));
    }
    if (plan.boards != 0 && chance(100)) {
        looker_act();
    }
    if (plan.mortals != 0 && chance(200)) {
        mortal_act((uint32_t)roll(plan.mortals));
    }
}

static void act(void)
{
    if (chance(plan.crash)) {
        power_cut();
    } else if (chance(plan.kill)) {
        kill_9();
    } else if (chance(plan.stop)) {
        machine_wants_stop();
    }
    if (chance(plan.disk_fault)) {
        disk_fault();
    }
    if (chance(plan.disk_full)) {
        disk_full();
    }
    if (chance(plan.clock_jump)) {
        clock_jump();
    }
    if (chance(plan.operator_)) {
        machine_operate();
    }
    if (chance(plan.reconfigure)) {
        machine_reconfigure();
    }
    if (chance(100)) {
        target_turn((uint32_t)roll(plan.bridges));
    }
    device_act((uint32_t)roll(plan.devices));
    if (plan.subscribers != 0 && chance(400)) {
        subscriber_act((uint32_t)roll(plan.subscribers));
    }
    act_of_others();
    if (!machine_is_there() && chance(500)) {
        machine_start();
    }
}

static void go(void)
{
    switch (roll(4)) {
    case 0:
        go_turns(roll(10));
        break;
    case 1:
        go_turns(roll(100));
        break;
    case 2:
        go_for((int64_t)roll(5 * NS_PER_MS));
        break;
    default:
        go_for((int64_t)roll(300 * NS_PER_MS));
        break;
    }
}

/* ---- the end ---- */

/* What has not come to its end; NULL: nothing. */
static const char *lacks(bool tell)
{
    return !machine_is_up()             ? "the gateway does not serve"
           : !devices_are_done()        ? "not every device has its acknowledgements"
           : !machine_has_settled()     ? "a bridge has not reached the end"
           : !ledger_is_settled(tell)   ? "something has not arrived"
           : !boards_are_done()         ? "not every board has its acknowledgements"
           : plan.world == WORLD_MEMORY ? NULL /* see ledger_is_settled() */
           : !mortals_are_done(tell)    ? "a will has not come"
           : !looker_is_right(tell)     ? "something else is retained than was written last"
                                        : NULL;
}

static void wait_for_the_end(void)
{
    const int64_t patience_ns = CALM_MS_MAX * (int64_t)NS_PER_MS;
    int64_t end_ns = mr_clock_mono_ns() + patience_ns;
    int times = 1;

    do {
        if (!machine_is_there()) {
            machine_start();
        }
        for (uint32_t i = 0; i < plan.bridges; i++) {
            machine_calm(i);
            go_for(NS_PER_MS);
        }
        devices_calm();
        subscribers_calm();
        boards_calm();
        mortals_calm();
        go_for(200 * NS_PER_MS);
        machine_look_for_drops();
        if (mr_clock_mono_ns() > end_ns && times < CALM_TIMES_MAX && subscribers_got_some()) {
            times += 1;
            end_ns += patience_ns;
        }
        if (mr_clock_mono_ns() > end_ns) {
            world_is_told = true;
            broken("stuck: after %d s of calm %s", CALM_MS_MAX / 1000, lacks(true));
        }
    } while (lacks(false) != NULL);
}

/* No more faults: everything has to come to its end, by itself; and once more after a kill. */
static void calm_down(void)
{
    say("calm");
    world_is_calm = true;
    if (plan.world != WORLD_CALLS) {
        mr_sim_inject_clear();
    }
    mr_sim_disk_limit(0);
    mr_sim_disk_pace(0, 0);
    faults = false;
    disk_is_full = false;
    wait_for_the_end();
    if (plan.world >= WORLD_BROKER) {
        kill_9();
        looker_again();
        wait_for_the_end();
        machine_compare_books();
    }
}

void world_run(const struct plan *with)
{
    int64_t begin_ns;

    plan = *with;
    mr_rng_seed(&rng, plan.dice);
    mr_sim_start(plan.dice);
    mr_log_set_clock(mr_clock_wall_us);
    mr_log_set_writer(tell_log);
    plan_say(&plan);
    begin_ns = mr_clock_mono_ns();
    mr_sim_disk_pace(plan.pause_percent, plan.sync_ns_max);
    mr_sim_sync_lie(plan.plant == PLANT_LYING_DISK ? 200 : 0);
    if (plan.world == WORLD_CALLS) {
        mr_sim_inject(MR_SIM_ANY, plan.nth, 1, (enum mr_sim_fault)(1 + plan.seed % 3));
    } else if (plan.world == WORLD_MEMORY) {
        heap_refuse(plan.nth);
    }
    devices_open();
    subscribers_open();
    boards_open();
    mortals_open();
    machine_start();
    for (step = 0; step < plan.steps; step++) {
        act();
        go();
    }
    calm_down();
    if (plan.nth != 0) {
        tally.faults = nth_is_to_come() ? 0 : 1;
    }
    tally.hash = mr_sim_trace_hash();
    tally.simulated_ms = (uint64_t)(mr_clock_mono_ns() - begin_ns) / NS_PER_MS;
}
