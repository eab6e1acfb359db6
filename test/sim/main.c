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
 * How many are run: fleet.c.
 */
#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const plant_names[PLANTS] = {
    [PLANT_NONE] = "none",
    [PLANT_LYING_DISK] = "lying-disk",
    [PLANT_LOSING_SINK] = "losing-sink",
    [PLANT_DOUBLING_TXN] = "doubling-transactions",
    [PLANT_SWAPPING_SINK] = "swapping-sink",
};

static struct fleet_options options;

static _Noreturn void usage(void)
{
    (void)fprintf(
        stderr,
        "sim: --seed N | --seeds FROM..TO | --seeds-of FILE, and --trace, --world W, --steps S, "
        "--jobs J, "
        "--twice, --plant NAME, --expect-find, --quiet\n");
    exit(64);
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

    options.from = number(text, &end);
    if (strncmp(end, "..", 2) != 0) {
        usage();
    }
    uint64_t to = number(end + 2, &end);
    if (to < options.from) {
        usage();
    }
    options.count = to - options.from + 1;
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
    options.seeds = mr_alloc(SEEDS_MAX * sizeof(uint64_t));
    options.worlds = mr_alloc(SEEDS_MAX * sizeof(uint32_t));
    while (fgets(line, sizeof(line), file) != NULL) {
        char *end;
        if (line[0] != '#' && line[0] != '\n') {
            mr_assert(options.count < SEEDS_MAX);
            options.worlds[options.count] = (uint32_t)number(line, &end);
            options.seeds[options.count] = number(end, &end);
            options.count += 1;
        }
    }
    (void)fclose(file);
}

static void take_plant(const char *name)
{
    for (int i = 0; i < PLANTS; i++) {
        if (strcmp(plant_names[i], name) == 0) {
            options.plant = (enum plant)i;
            return;
        }
    }
    (void)fprintf(stderr, "sim: there is no plant '%s'\n", name);
    usage();
}

static void take_options(int argc, char **argv)
{
    options = (struct fleet_options){.from = 1, .jobs = 1, .world = WORLD_NEWEST};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        bool has_value = i + 1 < argc;
        char *end;

        if (strcmp(name, "--trace") == 0) {
            options.trace = true;
        } else if (strcmp(name, "--twice") == 0) {
            options.twice = true;
        } else if (strcmp(name, "--expect-find") == 0) {
            options.expect_find = true;
        } else if (strcmp(name, "--quiet") == 0) {
            options.quiet = true;
        } else if (strcmp(name, "--seed") == 0 && has_value) {
            options.from = number(argv[++i], &end);
            options.count = 1;
        } else if (strcmp(name, "--seeds") == 0 && has_value) {
            take_seeds(argv[++i]);
        } else if (strcmp(name, "--seeds-of") == 0 && has_value) {
            take_seeds_of(argv[++i]);
        } else if (strcmp(name, "--world") == 0 && has_value) {
            options.world = (uint32_t)number(argv[++i], &end);
        } else if (strcmp(name, "--steps") == 0 && has_value) {
            options.steps = (uint32_t)number(argv[++i], &end);
        } else if (strcmp(name, "--jobs") == 0 && has_value) {
            options.jobs = (uint32_t)number(argv[++i], &end);
        } else if (strcmp(name, "--plant") == 0 && has_value) {
            take_plant(argv[++i]);
        } else {
            usage();
        }
    }
    if (options.count == 0 || options.jobs == 0 || options.jobs > FLEET_JOBS_MAX) {
        usage();
    }
}

int main(int argc, char **argv)
{
    take_options(argc, argv);
    return fleet_run(&options);
}
