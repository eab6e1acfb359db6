/* main.c - the simulator's command line: ./dev sim, and the tests.
 *
 *     sim --seed N [--trace] [--steps S]     one run; --trace tells its story
 *     sim --seeds FROM..TO [--jobs J]        many; says which have failed, exit 1 if any has
 *     sim --seeds-of FILE                    world and number at the beginnings of its lines
 *         --world W                          an older world than the newest, with less in it
 *         --twice                            each twice, and both must be the same
 *         --plant NAME                       something is wrong on purpose: exit 1 is expected
 *         --expect-find                      exit 0 if a seed has failed, and stop there
 *
 * Each run has a process of its own, so a run begins in the same state whatever ran before,
 * and a run that breaks ends nothing but itself.
 */
#include "world.h"

#include "os/sim.h"
#include "os/thread.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { JOBS_MAX = 64, FAILED_SHOWN = 20 };

struct options {
    uint64_t *seeds; /* NULL: from `from` on */
    uint32_t *worlds;
    uint32_t world;
    uint64_t from;
    uint64_t count;
    uint32_t steps;
    uint32_t jobs;
    enum plant plant;
    bool trace;
    bool twice;
    bool expect_find;
    bool quiet;
};

static const char *const plant_names[PLANTS] = {
    [PLANT_NONE] = "none",
    [PLANT_LYING_DISK] = "lying-disk",
    [PLANT_LOSING_SINK] = "losing-sink",
    [PLANT_DOUBLING_TXN] = "doubling-transactions",
    [PLANT_SWAPPING_SINK] = "swapping-sink",
};

/* One running process. */
struct job {
    pid_t pid; /* 0: none */
    uint64_t seed;
    uint32_t world;
    bool again;          /* the second of two */
    struct tally *tally; /* shared with it */
    uint64_t hash;
};

static struct {
    struct options options;
    struct job jobs[JOBS_MAX];
    uint64_t next;
    uint64_t done;
    uint64_t failed;
    struct tally sum;
} sim;

static _Noreturn void usage(void)
{
    (void)fprintf(
        stderr,
        "sim: --seed N | --seeds FROM..TO | --seeds-of FILE, and --trace, --world W, --steps S, "
        "--jobs J, "
        "--twice, --plant NAME, --expect-find, --quiet\n");
    exit(64);
}

/* ---- one run ---- */

static void run(uint64_t seed, uint32_t world)
{
    struct plan with;

    plan_make(&with, seed, world, sim.options.steps, sim.options.plant);
    world_is_told = sim.options.trace;
    world_run(&with);
}

static void job_start(struct job *job, bool again)
{
    job->again = again;
    memset(job->tally, 0, sizeof(*job->tally));
    (void)fflush(NULL);
    job->pid = fork();
    mr_assert(job->pid >= 0);
    if (job->pid == 0) {
        if (sim.options.quiet) {
            mr_assert(freopen("/dev/null", "w", stderr) != NULL);
        }
        run(job->seed, job->world);
        *job->tally = tally;
        (void)fflush(stdout);
        _exit(0);
    }
}

static void sum_add(const struct tally *one)
{
    sim.sum.turns += one->turns;
    sim.sum.sent += one->sent;
    sim.sum.acked += one->acked;
    sim.sum.delivered += one->delivered;
    sim.sum.doubled += one->doubled;
    sim.sum.crashes += one->crashes;
    sim.sum.kills += one->kills;
    sim.sum.faults += one->faults;
    sim.sum.simulated_ms += one->simulated_ms;
}

static void job_failed(const struct job *job, const char *how)
{
    sim.failed += 1;
    if (!sim.options.quiet && sim.failed <= FAILED_SHOWN) {
        (void)fprintf(
            stderr, "sim: seed %llu %s; see it with: ./dev sim --world %u --seed %llu --trace\n",
            (unsigned long long)job->seed, how, job->world, (unsigned long long)job->seed);
    }
}

/* It has ended.  False: it is to run once more. */
static bool job_ended(struct job *job, int status)
{
    job->pid = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        job_failed(job, WIFSIGNALED(status) ? "was ended by a signal" : "has failed");
        return true;
    }
    if (sim.options.twice && !job->again) {
        job->hash = job->tally->hash;
        return false;
    }
    if (job->again && job->hash != job->tally->hash) {
        job_failed(job, "was another run the second time");
        return true;
    }
    sum_add(job->tally);
    return true;
}

/* ---- many ---- */

static bool more_to_do(void)
{
    return sim.next < sim.options.count && !(sim.options.expect_find && sim.failed != 0);
}

static struct job *job_of(pid_t pid)
{
    for (uint32_t i = 0; i < sim.options.jobs; i++) {
        if (sim.jobs[i].pid == pid) {
            return &sim.jobs[i];
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
            bool listed = sim.options.seeds != NULL;
            job->seed = listed ? sim.options.seeds[sim.next] : sim.options.from + sim.next;
            job->world = listed ? sim.options.worlds[sim.next] : sim.options.world;
            job_start(job, false);
            sim.next += 1;
            continue;
        }
        pid_t pid = wait(&status);
        if (pid < 0) {
            return; /* none is left */
        }
        job = job_of(pid);
        if (job == NULL) {
            continue;
        }
        if (job_ended(job, status)) {
            sim.done += 1;
        } else {
            job_start(job, true);
        }
    }
}

static double now_s(void)
{
    struct timespec at;

    mr_assert(clock_gettime(CLOCK_MONOTONIC, &at) == 0);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int run_many(void)
{
    double begin_s = now_s();

    for (uint32_t i = 0; i < sim.options.jobs; i++) {
        sim.jobs[i].tally = mmap(NULL, sizeof(struct tally), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        mr_assert(sim.jobs[i].tally != MAP_FAILED);
    }
    run_all();
    const struct tally *sum = &sim.sum;
    double took_s = now_s() - begin_s;
    (void)printf(
        "sim: %llu seeds, %llu failed, %.0f a second; %llu events sent, %llu acknowledged, "
        "%llu delivered, %llu more than once; %llu power cuts, %llu kills, %llu disk "
        "faults, %llu turns, %.1f hours simulated\n",
        (unsigned long long)sim.done, (unsigned long long)sim.failed,
        (double)sim.done / (took_s > 0 ? took_s : 1), (unsigned long long)sum->sent,
        (unsigned long long)sum->acked, (unsigned long long)sum->delivered,
        (unsigned long long)sum->doubled, (unsigned long long)sum->crashes,
        (unsigned long long)sum->kills, (unsigned long long)sum->faults,
        (unsigned long long)sum->turns, (double)sum->simulated_ms / 3600000.0);
    return sim.options.expect_find ? sim.failed == 0 : sim.failed != 0;
}

/* ---- options ---- */

static uint64_t number(const char *text, char **end)
{
    uint64_t value = strtoull(text, end, 10);

    if (*end == text) {
        usage();
    }
    return value;
}

static void take_seeds(const char *text)
{
    char *end;

    sim.options.from = number(text, &end);
    if (strncmp(end, "..", 2) != 0) {
        usage();
    }
    uint64_t to = number(end + 2, &end);
    if (to < sim.options.from) {
        usage();
    }
    sim.options.count = to - sim.options.from + 1;
}

static void take_seeds_of(const char *path)
{
    enum { SEEDS_MAX = 1000 };
    FILE *file = fopen(path, "r");
    char line[256];

    if (file == NULL) {
        (void)fprintf(stderr, "sim: %s cannot be read\n", path);
        exit(66);
    }
    sim.options.seeds = mr_alloc(SEEDS_MAX * sizeof(uint64_t));
    sim.options.worlds = mr_alloc(SEEDS_MAX * sizeof(uint32_t));
    while (fgets(line, sizeof(line), file) != NULL) {
        char *end;
        if (line[0] != '#' && line[0] != '\n') {
            mr_assert(sim.options.count < SEEDS_MAX);
            sim.options.worlds[sim.options.count] = (uint32_t)number(line, &end);
            sim.options.seeds[sim.options.count] = number(end, &end);
            sim.options.count += 1;
        }
    }
    (void)fclose(file);
}

static void take_plant(const char *name)
{
    for (int i = 0; i < PLANTS; i++) {
        if (strcmp(plant_names[i], name) == 0) {
            sim.options.plant = (enum plant)i;
            return;
        }
    }
    (void)fprintf(stderr, "sim: there is no plant '%s'\n", name);
    usage();
}

static void take_options(int argc, char **argv)
{
    sim.options = (struct options){.from = 1, .jobs = 1, .world = WORLD_NEWEST};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        bool has_value = i + 1 < argc;
        char *end;

        if (strcmp(name, "--trace") == 0) {
            sim.options.trace = true;
        } else if (strcmp(name, "--twice") == 0) {
            sim.options.twice = true;
        } else if (strcmp(name, "--expect-find") == 0) {
            sim.options.expect_find = true;
        } else if (strcmp(name, "--quiet") == 0) {
            sim.options.quiet = true;
        } else if (strcmp(name, "--seed") == 0 && has_value) {
            sim.options.from = number(argv[++i], &end);
            sim.options.count = 1;
        } else if (strcmp(name, "--seeds") == 0 && has_value) {
            take_seeds(argv[++i]);
        } else if (strcmp(name, "--seeds-of") == 0 && has_value) {
            take_seeds_of(argv[++i]);
        } else if (strcmp(name, "--world") == 0 && has_value) {
            sim.options.world = (uint32_t)number(argv[++i], &end);
        } else if (strcmp(name, "--steps") == 0 && has_value) {
            sim.options.steps = (uint32_t)number(argv[++i], &end);
        } else if (strcmp(name, "--jobs") == 0 && has_value) {
            sim.options.jobs = (uint32_t)number(argv[++i], &end);
        } else if (strcmp(name, "--plant") == 0 && has_value) {
            take_plant(argv[++i]);
        } else {
            usage();
        }
    }
    if (sim.options.count == 0 || sim.options.jobs == 0 || sim.options.jobs > JOBS_MAX) {
        usage();
    }
}

/* Whatever is done only once in a process, by us or the sanitizer, is done before the forks. */
static void nothing(void *arg)
{
    (void)arg;
}

static void warm_up(void)
{
    struct mr_thread *thread = NULL;

    /* The gateway takes much more memory than it touches in so short a life, and takes it anew
     * with every start: as fresh mappings it costs nothing.
     */
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 10);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 4 << 20);
    mr_sim_start(0);
    mr_assert(mr_thread_start(&thread, "warm", nothing, NULL, NULL) == MR_OK);
    mr_assert(mr_sim_turn() == MR_SIM_RAN);
    mr_sim_stop();
}

int main(int argc, char **argv)
{
    take_options(argc, argv);
    warm_up();
    return run_many();
}
