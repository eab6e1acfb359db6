/* sim.c - the simulated machine: its seed, its time, its faults, its end.
 *
 * DESIGN
 *
 * One generator, seeded once, takes every decision in the order in which the
 * program asks for them; the program has one thread; so a seed is a complete
 * description of a run.
 *
 * A crash inside a call leaves by longjmp to mr_sim_run().  Nothing of the
 * program's stack is unwound, as nothing would be by a power cut.
 *
 * Rejected: a process per run, killed with SIGKILL.  It would be more real and
 * four orders of magnitude slower, and the page cache would survive it.
 */
#include "os/file.h"
#include "os/sim/sim_internal.h"

#include <setjmp.h>
#include <string.h>

enum { RULES_MAX = 32 };

struct rule {
    enum mr_sim_call call;
    enum mr_sim_fault fault;
    uint64_t first; /* calls [first, last] of its kind, counted from 1 */
    uint64_t last;
};

struct handle {
    enum sim_kind kind;
    void *object;
};

static struct {
    bool started;
    bool running; /* inside mr_sim_run() */
    bool spared;  /* mr_sim_spare() */
    struct mr_rng rng;
    int64_t mono_ns;
    int64_t wall_us;
    uint64_t calls[MR_SIM_CALLS + 1]; /* the last: MR_SIM_ANY */
    enum mr_err cause;                /* of the last call that failed */
    struct rule rules[RULES_MAX];
    size_t rule_count;
    struct handle *handles;
    size_t handle_count;
    size_t handles_max;
    unsigned pause_percent; /* of the calls to the disk */
    int64_t sync_ns_max;
    unsigned lies_per_mille;
    bool no_descriptors;
    uint64_t trace;
    jmp_buf machine;
} sim;

static int owned; /* allocations are the world's, not the gateway's */

/* Descriptors begin here, so that none is taken for one of the kernel's. */
#define HANDLE_BASE 1000

void mr_sim_start(uint64_t seed)
{
    mr_assert(!sim.started);
    memset(&sim, 0, sizeof(sim));
    mr_rng_seed(&sim.rng, seed);
    sim.started = true;
    sim.mono_ns = INT64_C(1000000000000);    /* up for 1000 s */
    sim.wall_us = INT64_C(1767225600000000); /* 2026-01-01 */
    sim_disk_set_limit(0);
}

void mr_sim_stop(void)
{
    mr_assert(sim.started && !sim.running);
    mr_sim_crash();
    sim_threads_stop();
    sim_net_stop();
    sim_names_stop();
    mr_free(sim.handles);
    sim.handles = NULL;
    sim.started = false;
}

bool mr_sim_is_gateway(void)
{
    return owned == 0 && sim_in_thread();
}

void mr_sim_own(bool on)
{
    owned += on ? 1 : -1;
    mr_assert(owned >= 0);
}

void *sim_alloc(size_t size)
{
    mr_sim_own(true);
    void *memory = mr_alloc(size);
    mr_sim_own(false);
    return memory;
}

void *sim_realloc(void *memory, size_t size)
{
    mr_sim_own(true);
    memory = mr_realloc(memory, size);
    mr_sim_own(false);
    return memory;
}

struct mr_rng *sim_rng(void)
{
    mr_assert(sim.started);
    return &sim.rng;
}

bool sim_coin(void)
{
    return mr_rng_below(sim_rng(), 2) == 1;
}

int64_t sim_now_ns(void)
{
    mr_assert(sim.started);
    return sim.mono_ns;
}

int64_t sim_wall_us(void)
{
    mr_assert(sim.started);
    return sim.wall_us + sim.mono_ns / 1000;
}

void mr_sim_advance(int64_t ns)
{
    mr_assert(ns >= 0);
    sim.mono_ns += ns;
}

void mr_sim_wall_jump(int64_t us)
{
    sim.wall_us += us;
}

void mr_sim_disk_limit(uint64_t bytes)
{
    sim_disk_set_limit(bytes);
}

void mr_sim_disk_pace(unsigned percent, int64_t sync_ns_max)
{
    sim.pause_percent = percent;
    sim.sync_ns_max = sync_ns_max;
}

void mr_sim_sync_lie(unsigned per_mille)
{
    sim.lies_per_mille = per_mille;
}

bool sim_sync_lies(void)
{
    return sim.lies_per_mille != 0 && !sim.spared &&
           mr_rng_below(&sim.rng, 1000) < sim.lies_per_mille;
}

void sim_trace(enum sim_trace what, uint64_t value)
{
    sim.trace = (sim.trace ^ value ^ (uint64_t)what << 56) * UINT64_C(0x9e3779b97f4a7c15);
    sim.trace ^= sim.trace >> 29;
}

uint64_t mr_sim_trace_hash(void)
{
    return sim.trace;
}

/* ---- handles ---- */

int sim_handle_open(enum sim_kind kind, void *object)
{
    mr_assert(sim.started && kind != SIM_CLOSED);
    if (sim.handle_count == sim.handles_max) {
        sim.handles_max = sim.handles_max == 0 ? 64 : 2 * sim.handles_max;
        sim.handles = sim_realloc(sim.handles, sim.handles_max * sizeof(sim.handles[0]));
    }
    sim.handles[sim.handle_count] = (struct handle){.kind = kind, .object = object};
    sim.handle_count += 1;
    return (int)(HANDLE_BASE + sim.handle_count - 1);
}

enum sim_kind sim_handle_kind(int fd)
{
    bool known = fd >= HANDLE_BASE && (size_t)(fd - HANDLE_BASE) < sim.handle_count;

    return known ? sim.handles[fd - HANDLE_BASE].kind : SIM_CLOSED;
}

void *sim_handle_get(int fd, enum sim_kind kind)
{
    mr_assert(sim_handle_kind(fd) == kind);
    return sim.handles[fd - HANDLE_BASE].object;
}

void sim_handle_close(int fd)
{
    mr_assert(sim_handle_kind(fd) != SIM_CLOSED);
    sim.handles[fd - HANDLE_BASE].kind = SIM_CLOSED;
}

/* ---- faults ---- */

void mr_sim_inject(enum mr_sim_call call, uint64_t nth, uint64_t count, enum mr_sim_fault fault)
{
    mr_assert(sim.started && nth >= 1 && sim.rule_count < RULES_MAX);
    uint64_t first = sim.calls[call] + nth;

    sim.rules[sim.rule_count] = (struct rule){
        .call = call,
        .fault = fault,
        .first = first,
        .last = count == 0 ? UINT64_MAX : first + count - 1,
    };
    sim.rule_count += 1;
}

void mr_sim_inject_clear(void)
{
    sim.rule_count = 0;
}

uint64_t mr_sim_calls(enum mr_sim_call call)
{
    return sim.calls[call];
}

void mr_sim_spare(bool on)
{
    mr_assert(sim.spared != on); /* no turn is given up in between, so it is one thread's */
    sim.spared = on;
}

static void disk_takes_time(enum mr_sim_call call)
{
    if (!sim_in_thread()) {
        return;
    }
    if (sim.sync_ns_max != 0 && call == MR_SIM_SYNC) {
        sim_thread_pause((int64_t)mr_rng_below(&sim.rng, (uint64_t)sim.sync_ns_max));
    } else if (sim.pause_percent != 0 && mr_rng_below(&sim.rng, 100) < sim.pause_percent) {
        sim_thread_pause(0);
    }
}

enum mr_sim_fault sim_fault_of(enum mr_sim_call call)
{
    mr_assert(sim.started);
    sim_trace(SIM_TRACE_CALL, (uint64_t)call);
    if (sim.spared) {
        return MR_SIM_FAULT_NONE;
    }
    sim.calls[call] += 1;
    sim.calls[MR_SIM_ANY] += 1;
    disk_takes_time(call);
    for (size_t i = 0; i < sim.rule_count; i++) {
        const struct rule *rule = &sim.rules[i];
        uint64_t count = sim.calls[rule->call];
        if ((rule->call == call || rule->call == MR_SIM_ANY) && rule->first <= count &&
            count <= rule->last) {
            sim_note_cause(rule->fault == MR_SIM_FAULT_FULL ? MR_ERR_FULL : MR_ERR_IO);
            return rule->fault;
        }
    }
    return MR_SIM_FAULT_NONE;
}

enum mr_err sim_note_cause(enum mr_err err)
{
    sim.cause = err;
    return err;
}

void mr_sim_descriptors(bool left)
{
    sim.no_descriptors = !left;
}

bool sim_descriptors_ran_out(const char *path, struct mr_error *why)
{
    if (sim.no_descriptors && !sim.spared) {
        (void)mr_error_set(why, sim_note_cause(MR_ERR_AGAIN), "cannot open %s: too many open files",
                           path);
        return true;
    }
    return false;
}

bool mr_file_last_was_shortage(void)
{
    return sim.cause == MR_ERR_AGAIN;
}

const char *mr_file_last_cause(void)
{
    switch (sim.cause) {
    case MR_ERR_AGAIN:
        return "too many open files";
    case MR_ERR_FULL:
        return "no space left on device";
    case MR_ERR_REJECT:
        return "no such file or directory";
    default:
        return "input/output error";
    }
}

/* ---- the crash ---- */

bool mr_sim_run(void (*step)(void *arg), void *arg)
{
    mr_assert(sim.started && !sim.running);
    sim.running = true;
    if (setjmp(sim.machine) != 0) {
        sim.running = false;
        mr_sim_crash();
        return false;
    }
    step(arg);
    sim.running = false;
    return true;
}

void sim_crash_here(void)
{
    if (sim_in_thread()) {
        sim_thread_crash();
    }
    mr_assert(sim.running); /* MR_SIM_FAULT_CRASH needs mr_sim_run() around it */
    longjmp(sim.machine, 1);
}

/* What belongs to the process is gone. */
static void process_ends(void)
{
    for (size_t i = 0; i < sim.handle_count; i++) {
        struct handle *handle = &sim.handles[i];
        if (handle->kind == SIM_FILE || handle->kind == SIM_FILE_READ || handle->kind == SIM_LOCK) {
            sim_inode_hide(handle->object);
            sim_inode_drop(handle->object);
            handle->kind = SIM_CLOSED;
        } else if (handle->kind == SIM_WAKE || handle->kind == SIM_DIR) {
            handle->kind = SIM_CLOSED;
        }
    }
    sim_net_crash(sim_threads_forget());
}

void mr_sim_kill(void)
{
    mr_assert(!sim_in_thread());
    sim_trace(SIM_TRACE_CRASH, 1);
    process_ends();
}

void mr_sim_crash(void)
{
    /* The extremes, nothing and everything, are worth as much as all between. */
    unsigned keep_of_4 = (unsigned)mr_rng_below(sim_rng(), 5);
    size_t kept = 0;

    sim_trace(SIM_TRACE_CRASH, keep_of_4);
    /* A machine that crashed for a rule must not crash for it again. */
    for (size_t i = 0; i < sim.rule_count; i++) {
        if (sim.rules[i].fault != MR_SIM_FAULT_CRASH) {
            sim.rules[kept] = sim.rules[i];
            kept += 1;
        }
    }
    sim.rule_count = kept;
    process_ends();
    sim_names_crash(keep_of_4);
}
