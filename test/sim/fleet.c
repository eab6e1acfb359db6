/* fleet.c - many runs, in several processes.
 *
 * DESIGN
 *
 * A run begins in the same state whatever ran before, and a run that breaks ends nothing but
 * itself.  So each job is a process that takes seed after seed; before each it puts its static
 * data and its heap back to where they were (rewind.h), and if a run ends it, the next process
 * goes on behind that seed.  With AddressSanitizer, whose heap cannot be put back, each run has
 * a process of its own.
 *
 * What the processes have to tell lies in memory that they share with the one that waits for
 * them, one `job` each; nobody but the two looks at it.
 */
#include "fleet.h"

#include "os/sim.h"
#include "os/thread.h"
#include "rewind.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    FAILED_SHOWN = 20,
    THREADS_WARM = 128,
    RUN_CPU_S = 120, /* thousands of usual runs: a thread that never waits is ended, and found */
};

/* One process after the other. */
struct job {
    pid_t pid;        /* 0: none; the waiting process's alone */
    bool runs;        /* the run `index` has begun and not ended */
    uint64_t index;   /* of the run */
    uint64_t done;    /* runs that have ended */
    struct tally sum; /* of those that held */
};

struct shared {
    _Atomic uint64_t next; /* index of a run that nobody has begun */
    _Atomic uint64_t failed;
    struct job jobs[FLEET_JOBS_MAX];
};

static struct fleet_options options;
static struct shared *shared; /* outlives every rewind: the pointer is the same again */

static uint64_t seed_of(uint64_t index)
{
    return options.seeds != NULL ? options.seeds[index] : options.from + index;
}

static uint32_t world_of(uint64_t index)
{
    return options.seeds != NULL ? options.worlds[index] : options.world;
}

static bool more_to_do(void)
{
    return atomic_load(&shared->next) < options.count &&
           !(options.expect_find && atomic_load(&shared->failed) != 0);
}

/* ---- in a job's process ---- */

static void sum_add(struct tally *sum, const struct tally *one)
{
    sum->hash ^= one->hash;
    sum->turns += one->turns;
    sum->sent += one->sent;
    sum->acked += one->acked;
    sum->delivered += one->delivered;
    sum->doubled += one->doubled;
    sum->crashes += one->crashes;
    sum->kills += one->kills;
    sum->faults += one->faults;
    sum->simulated_ms += one->simulated_ms;
}

static void run_failed(uint64_t index, const char *how)
{
    uint64_t before = atomic_fetch_add(&shared->failed, 1);
    unsigned long long seed = seed_of(index);

    if (!options.quiet && before < FAILED_SHOWN) {
        (void)fprintf(stderr,
                      "sim: seed %llu %s; see it with: ./dev sim --world %u --seed %llu --trace\n",
                      seed, how, world_of(index), seed);
    }
}

/* One run; its hash. */
static uint64_t run(uint64_t index)
{
    const struct itimerval limit = {.it_value.tv_sec = RUN_CPU_S};
    struct plan with;

    mr_assert(setitimer(ITIMER_PROF, &limit, NULL) == 0);
    plan_make(&with, seed_of(index), world_of(index), options.steps, options.plant);
    world_is_told = options.trace;
    world_run(&with);
    (void)fflush(stdout);
    return tally.hash;
}

/* Run after run, until there are no more, or this one cannot be put back. */
static void job_run(struct job *job)
{
    rewind_mark();
    do {
        job->index = atomic_fetch_add(&shared->next, 1);
        if (job->index >= options.count) {
            return;
        }
        job->runs = true;
        uint64_t hash = run(job->index);
        struct tally result = tally;
        if (options.twice && rewind_can()) {
            rewind_back();
            if (run(job->index) != hash) {
                run_failed(job->index, "was another run the second time");
            }
        }
        sum_add(&job->sum, &result);
        job->done += 1;
        job->runs = false;
        rewind_back();
    } while (rewind_can() && more_to_do());
}

/* ---- in the process that waits for them ---- */

static void job_start(struct job *job)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    mr_assert(pid >= 0);
    if (pid == 0) {
        if (options.quiet) {
            mr_assert(freopen("/dev/null", "w", stderr) != NULL);
        }
        job_run(job);
        _exit(0);
    }
    job->pid = pid;
}

static void job_ended(struct job *job, int status)
{
    job->pid = 0;
    if (job->runs) { /* it has ended in the middle of one */
        run_failed(job->index, WIFSIGNALED(status) ? "was ended by a signal" : "has failed");
        job->runs = false;
        job->done += 1;
    }
}

static struct job *job_of(pid_t pid)
{
    for (uint32_t i = 0; i < options.jobs; i++) {
        if (shared->jobs[i].pid == pid) {
            return &shared->jobs[i];
        }
    }
    return NULL;
}

static void run_all(void)
{
    for (;;) {
        struct job *job = more_to_do() ? job_of(0) : NULL;
        int status = 0;

        if (job != NULL) {
            job_start(job);
            continue;
        }
        pid_t pid = wait(&status);
        if (pid < 0) {
            return; /* none is left */
        }
        job = job_of(pid);
        if (job != NULL) {
            job_ended(job, status);
        }
    }
}

static double now_s(void)
{
    struct timespec at;

    mr_assert(clock_gettime(CLOCK_MONOTONIC, &at) == 0);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void tell(double took_s)
{
    struct tally sum = {.hash = 0};
    uint64_t done = 0;

    for (uint32_t i = 0; i < options.jobs; i++) {
        sum_add(&sum, &shared->jobs[i].sum);
        done += shared->jobs[i].done;
    }
    (void)printf(
        "sim: %llu seeds, %llu failed, %.0f a second; %llu events sent, %llu acknowledged, "
        "%llu delivered, %llu more than once; %llu power cuts, %llu kills, %llu disk "
        "faults, %llu turns, %.1f hours simulated; hash %016llx\n",
        (unsigned long long)done, (unsigned long long)atomic_load(&shared->failed),
        (double)done / (took_s > 0 ? took_s : 1), (unsigned long long)sum.sent,
        (unsigned long long)sum.acked, (unsigned long long)sum.delivered,
        (unsigned long long)sum.doubled, (unsigned long long)sum.crashes,
        (unsigned long long)sum.kills, (unsigned long long)sum.faults,
        (unsigned long long)sum.turns, (double)sum.simulated_ms / 3600000.0,
        (unsigned long long)sum.hash);
}

/* Whatever is done only once in a process, by us or the sanitizer, is done before the forks;
 * stacks of threads are kept for the runs.
 */
static void nothing(void *arg)
{
    (void)arg;
}

static void warm_up(void)
{
    struct mr_thread *threads[THREADS_WARM];

    mr_sim_start(0);
    for (int i = 0; i < THREADS_WARM; i++) {
        mr_assert(mr_thread_start(&threads[i], "warm", nothing, NULL, NULL) == MR_OK);
    }
    while (mr_sim_turn() == MR_SIM_RAN) {
    }
    mr_sim_stop();
}

int fleet_run(const struct fleet_options *with)
{
    static char out[1 << 16]; /* else the C library takes one, in the middle of a run */

    options = *with;
    (void)setvbuf(stdout, out, _IOFBF, sizeof(out));
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    mr_assert(shared != MAP_FAILED);
    warm_up();
    double begin_s = now_s();
    run_all();
    tell(now_s() - begin_s);
    bool found = atomic_load(&shared->failed) != 0;
    return options.expect_find ? !found : found;
}
