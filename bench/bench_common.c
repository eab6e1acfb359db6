/* bench_common.c - clocks, options, results; see bench.h. */
#include "bench.h"

#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { EXIT_USAGE = 64 };

static const char *program = "bench";
static volatile sig_atomic_t stop_asked;

static int64_t common_clock_ns(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t bench_mono_ns(void)
{
    return common_clock_ns(CLOCK_MONOTONIC);
}

int64_t bench_wall_ns(void)
{
    return common_clock_ns(CLOCK_REALTIME);
}

int64_t bench_cpu_ns(void)
{
    return common_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t bench_process_cpu_ns(uint64_t pid)
{
    char path[320];
    uint64_t total_ns = 0;

    if (pid == 0) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "/proc/%llu/task", (unsigned long long)pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        return 0;
    }
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        char line[64] = "";

        (void)snprintf(path, sizeof(path), "/proc/%llu/task/%s/schedstat", (unsigned long long)pid,
                       task->d_name);
        FILE *file = task->d_name[0] == '.' ? NULL : fopen(path, "re");
        if (file != NULL) {
            if (fgets(line, sizeof(line), file) != NULL) {
                total_ns += strtoull(line, NULL, 10);
            }
            (void)fclose(file);
        }
    }
    (void)closedir(tasks);
    return total_ns;
}

void bench_fail(const char *fmt, ...)
{
    va_list args;

    (void)fflush(stdout);
    (void)fprintf(stderr, "%s: ", program);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(EXIT_FAILURE);
}

const char *bench_cause(void)
{
    return strerror(errno);
}

static _Noreturn void common_help(const char *about, const struct bench_option *table)
{
    (void)printf("%s: %s\n\n", program, about);
    for (const struct bench_option *row = table; row->name != NULL; row++) {
        (void)printf("  --%-14s %s", row->name, row->help);
        if (row->type == BENCH_U64) {
            (void)printf(" [%llu]", (unsigned long long)*(const uint64_t *)row->into);
        } else if (row->type == BENCH_TEXT && *(const char *const *)row->into != NULL) {
            (void)printf(" [%s]", *(const char *const *)row->into);
        }
        (void)putchar('\n');
    }
    exit(EXIT_SUCCESS);
}

static _Noreturn void common_usage(const char *what, const char *name)
{
    (void)fprintf(stderr, "%s: %s '%s'; see --help\n", program, what, name);
    exit(EXIT_USAGE);
}

/* Set one row from argv[*at]; moves *at over the value. */
static void common_option_set(const struct bench_option *row, int argc, char **argv, int *at)
{
    const char *name = argv[*at];

    if (row->type == BENCH_FLAG) {
        *(bool *)row->into = true;
        return;
    }
    if (*at + 1 >= argc) {
        common_usage("a value is missing after", name);
    }
    *at += 1;
    if (row->type == BENCH_TEXT) {
        *(const char **)row->into = argv[*at];
    } else if (mr_parse_u64(mr_span_of(argv[*at]), UINT64_MAX, row->into) != MR_OK) {
        common_usage("not a number:", argv[*at]);
    }
}

void bench_options(int argc, char **argv, const char *about, const struct bench_option *table)
{
    const char *slash = strrchr(argv[0], '/');

    program = slash == NULL ? argv[0] : slash + 1;
    for (int at = 1; at < argc; at++) {
        const struct bench_option *row = table;

        if (strcmp(argv[at], "--help") == 0) {
            common_help(about, table);
        }
        while (row->name != NULL &&
               (strncmp(argv[at], "--", 2) != 0 || strcmp(argv[at] + 2, row->name) != 0)) {
            row += 1;
        }
        if (row->name == NULL) {
            common_usage("unknown option", argv[at]);
        }
        common_option_set(row, argc, argv, &at);
    }
}

static void common_stop(int signal_number)
{
    (void)signal_number;
    stop_asked = 1;
}

void bench_stop_on_signals(void)
{
    struct sigaction action = {.sa_handler = common_stop}; /* no SA_RESTART: end the wait */

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

bool bench_stopped(void)
{
    return stop_asked != 0;
}

void bench_descriptors(uint64_t needed)
{
    struct rlimit limit;

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < needed) {
        bench_fail("%llu descriptors are needed and %llu allowed; raise `ulimit -Hn` or take "
                   "fewer connections",
                   (unsigned long long)needed, (unsigned long long)limit.rlim_cur);
    }
}

/* ---- results ---- */

static void common_json_key(struct bench_json *json, const char *key)
{
    (void)fprintf(json->file, "%s\"%s\": ", json->any ? ", " : "", key);
    json->any = true;
}

struct bench_json bench_json_open(const char *name)
{
    struct bench_json json = {.file = stdout, .any = false};

    (void)fputc('{', json.file);
    bench_json_text(&json, "bench", name);
    return json;
}

void bench_json_u64(struct bench_json *json, const char *key, uint64_t value)
{
    common_json_key(json, key);
    (void)fprintf(json->file, "%llu", (unsigned long long)value);
}

void bench_json_number(struct bench_json *json, const char *key, double value)
{
    common_json_key(json, key);
    (void)fprintf(json->file, "%.3f", value);
}

void bench_json_text(struct bench_json *json, const char *key, const char *value)
{
    common_json_key(json, key);
    (void)fprintf(json->file, "\"%s\"", value); /* our own words: nothing to escape */
}

void bench_json_histogram(struct bench_json *json, const char *key,
                          const struct mr_histogram *histogram)
{
    static const struct {
        const char *suffix;
        double quantile;
    } rows[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1.0}};

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%s_us_%s", key, rows[i].suffix);
        bench_json_number(json, name,
                          (double)mr_histogram_quantile_ns(histogram, rows[i].quantile) / 1e3);
    }
}

void bench_json_close(struct bench_json *json)
{
    (void)fputs("}\n", json->file);
    if (fflush(json->file) != 0) {
        bench_fail("cannot write the result: %s", bench_cause());
    }
}
