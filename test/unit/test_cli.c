/* test_cli.c
 *
 * links: cli journal codec config os base
 *
 * Goal:   every way to write an option is understood, every mistake is said with
 *         exit code 64, and a command is only run with values that are right.
 * Method: commands of our own, called through mr_cli_main() as main() does, with
 *         stdout and stderr in memory.
 */
#include "cli_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a command that writes down what it was given ---- */

static char seen[1024];
static int result;

static int probe_run(struct mr_cli *cli)
{
    const char *path = NULL;
    const char *value = NULL;
    size_t len = 0;

    len += (size_t)snprintf(seen + len, sizeof(seen) - len, "count=%llu size=%llu mode=%llu",
                            (unsigned long long)mr_cli_number(cli, "count"),
                            (unsigned long long)mr_cli_number(cli, "size"),
                            (unsigned long long)mr_cli_number(cli, "mode"));
    len += (size_t)snprintf(seen + len, sizeof(seen) - len, " json=%d given=%d v=%u q=%d",
                            mr_cli_flag(cli, "json"), mr_cli_given(cli, "count"),
                            mr_cli_verbose(cli), mr_cli_quiet(cli));
    for (size_t i = 0; i < mr_cli_list_count(cli, "topic"); i++) {
        len += (size_t)snprintf(seen + len, sizeof(seen) - len, " t=%s",
                                mr_cli_list_at(cli, "topic", i));
    }
    for (size_t i = 0; i < mr_cli_set_count(cli); i++) {
        mr_cli_set_at(cli, i, &path, &value);
        len += (size_t)snprintf(seen + len, sizeof(seen) - len, " set=%s:%s", path, value);
    }
    for (size_t i = 0; i < mr_cli_argument_count(cli); i++) {
        len += (size_t)snprintf(seen + len, sizeof(seen) - len, " a=%s", mr_cli_argument(cli, i));
    }
    if (mr_cli_config_path(cli) != NULL) {
        len += (size_t)snprintf(seen + len, sizeof(seen) - len, " c=%s", mr_cli_config_path(cli));
    }
    mr_assert(len < sizeof(seen));
    (void)mr_cli_out(cli, "ran\n");
    return result;
}

static int data_run(struct mr_cli *cli)
{
    const char *data = mr_cli_data_path(cli);

    return data == NULL ? MR_EXIT_CONFIG : (mr_cli_out(cli, "%s\n", data), MR_EXIT_OK);
}

static int json_run(struct mr_cli *cli)
{
    static const char odd[] = "a\"\\\n\x01\xff\xc3\xa4\0b";

    (void)mr_cli_out_json(cli, odd, sizeof(odd) - 1);
    return MR_EXIT_OK;
}

static const char *const modes[] = {"slow", "fast", NULL};

static const struct mr_cli_option probe_options[] = {
    {.name = "count",
     .letter = 'n',
     .type = MR_OPT_U64,
     .value = "COUNT",
     .min = 1,
     .max = 10,
     .default_text = "3",
     .help = "How many."},
    {.name = "size", .type = MR_OPT_SIZE, .value = "SIZE"},
    {.name = "mode", .type = MR_OPT_CHOICE, .value = "MODE", .choices = modes, .help = "How."},
    {.name = "topic", .letter = 't', .type = MR_OPT_LIST, .value = "FILTER"},
    {.name = "json", .type = MR_OPT_BOOL},
    {.name = NULL},
};

static const struct mr_command command_probe = {
    .name = "probe",
    .group = "Tests",
    .summary = "look",
    .arguments = "WHAT...",
    .options = probe_options,
    .arguments_min = 1,
    .arguments_max = 2,
    .run = probe_run,
};

static const struct mr_command command_data = {
    .name = "data", .group = "Tests", .summary = "where", .run = data_run};
static const struct mr_command command_json = {
    .name = "json", .summary = "write JSON", .run = json_run};
static const struct mr_command *const group_commands[] = {&command_json, NULL};
static const struct mr_command command_group = {
    .name = "group", .group = "More", .summary = "several", .subcommands = group_commands};

static const struct mr_command *const commands[] = {&command_probe, &command_data, &command_group,
                                                    &mr_command_version, NULL};

/* ---- running it ---- */

enum { WORDS_MAX = 16 };

/* Run `line`: words separated by single blanks. */
static int run(const char *line)
{
    char copy[512];
    char *words[WORDS_MAX + 1] = {copy};
    int count = 1;

    seen[0] = '\0';
    (void)snprintf(copy, sizeof(copy), "millrace %s", line);
    for (char *blank = strchr(copy, ' '); blank != NULL && blank[1] != '\0';
         blank = strchr(blank + 1, ' ')) {
        *blank = '\0';
        mr_assert(count < WORDS_MAX);
        words[count] = blank + 1;
        count += 1;
    }
    return cli_run(count, words, commands);
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static void expect_text(const char *got, const char *wanted, const char *line)
{
    if (strcmp(got, wanted) != 0) {
        (void)fprintf(stderr, "'%s': wanted:\n%s\n---- got:\n%s\n----\n", line, wanted, got);
        mr_assert(false);
    }
}

static void expect_seen(const char *line, const char *wanted)
{
    mr_assert(run(line) == MR_EXIT_OK);
    expect_text(err_text, "", line);
    expect_text(seen, wanted, line);
}

static void expect_usage(const char *line, const char *wanted)
{
    int code = run(line);

    expect_text(err_text, wanted, line);
    mr_assert(code == MR_EXIT_USAGE);
    expect_text(out_text, "", line);
    mr_assert(seen[0] == '\0');
}

static void test_ways_to_write(void)
{
#define REST " mode=0 json=0 given=1 v=0 q=0 a=x"
    expect_seen("probe x", "count=3 size=0 mode=0 json=0 given=0 v=0 q=0 a=x");
    expect_seen("probe --count 5 x", "count=5 size=0" REST);
    expect_seen("probe --count=5 x", "count=5 size=0" REST);
    expect_seen("probe -n5 x", "count=5 size=0" REST);
    expect_seen("probe x -n 5", "count=5 size=0" REST);
    expect_seen("probe -n 5 --count 6 x", "count=6 size=0" REST);
    expect_seen("probe --size 64KiB -n1 x", "count=1 size=65536" REST);
    expect_seen("probe -vvqn2 x --json --mode fast",
                "count=2 size=0 mode=1 json=1 given=1 v=2 q=1 a=x");
    expect_seen("probe -t a -t b --topic=c x y",
                "count=3 size=0 mode=0 json=0 given=0 v=0 q=0 t=a t=b t=c a=x a=y");
    expect_seen("-v -c f.yaml probe --set a.b=c=d --set e= x",
                "count=3 size=0 mode=0 json=0 given=0 v=1 q=0 set=a.b:c=d set=e: a=x c=f.yaml");
    expect_seen("probe -- -x --json", "count=3 size=0 mode=0 json=0 given=0 v=0 q=0 a=-x a=--json");
    expect_seen("probe -", "count=3 size=0 mode=0 json=0 given=0 v=0 q=0 a=-");
#undef REST
}

static void test_mistakes(void)
{
    expect_usage("prob x", "millrace: unknown command 'prob': did you mean 'probe'?\n");
    expect_usage("elsewhere", "millrace: unknown command 'elsewhere'; see 'millrace --help'\n");
    expect_usage("group jsno", "millrace group: unknown command 'jsno': did you mean 'json'?\n");
    expect_usage("probe --cuont 1 x",
                 "millrace probe: unknown option '--cuont': did you mean '--count'?\n");
    expect_usage("probe --confg x",
                 "millrace probe: unknown option '--confg': did you mean '--config'?\n");
    expect_usage("probe --zzz=1 x",
                 "millrace probe: unknown option '--zzz'; see 'millrace probe --help'\n");
    expect_usage("probe -z x",
                 "millrace probe: unknown option '-z'; see 'millrace probe --help'\n");
    expect_usage("probe x --count", "millrace probe: --count needs a value: --count COUNT\n");
    expect_usage("probe x -n", "millrace probe: --count needs a value: --count COUNT\n");
    expect_usage("probe --json=yes x", "millrace probe: --json takes no value\n");
    expect_usage("probe --count eleven x",
                 "millrace probe: --count: 'eleven' is not a number; write digits only; 1 to 10\n");
    expect_usage("probe --count 11 x",
                 "millrace probe: --count: '11' is out of range; allowed: 1 to 10\n");
    expect_usage("probe --mode fsat x",
                 "millrace probe: --mode: 'fsat' is not one of the choices; did you mean 'fast'? "
                 "choose one of: slow, fast\n");
    expect_usage("probe --set abc x",
                 "millrace probe: --set: 'abc' has no '='; write --set section.key=value\n");
    expect_usage("probe", "millrace probe: WHAT... is missing; see 'millrace probe --help'\n");
    expect_usage("probe a b c",
                 "millrace probe: unexpected argument 'c'; see 'millrace probe --help'\n");
    expect_usage("data x", "millrace data: unexpected argument 'x'; see 'millrace data --help'\n");
}

static void test_help(void)
{
    static const char *const lines[] = {"--help", "-h", "help", "--help --count"};

    for (size_t i = 0; i < 3; i++) {
        mr_assert(run(lines[i]) == MR_EXIT_OK);
        mr_assert(strstr(out_text, "\nTests:\n  probe       look\n  data        where\n") != NULL);
        mr_assert(strstr(out_text, "\nMore:\n  group       several\n") != NULL);
        mr_assert(err_text[0] == '\0');
    }
    mr_assert(run(lines[3]) == MR_EXIT_USAGE); /* a mistake is not hidden by --help */

    mr_assert(run("probe --help") == MR_EXIT_OK); /* WHAT is missing: no matter */
    mr_assert(strstr(out_text, "Usage:\n  millrace probe [OPTION]... WHAT...\n") != NULL);
    mr_assert(strstr(out_text, "  -n, --count COUNT   How many. [3]\n") != NULL);
    mr_assert(strstr(out_text, "      --mode MODE     How. One of: slow, fast.\n") != NULL);
    mr_assert(strstr(out_text, "  -c, --config FILE   ") != NULL);

    mr_assert(run("group -h") == MR_EXIT_OK);
    mr_assert(strstr(out_text, "Commands:\n  json        write JSON\n") != NULL);
    mr_assert(run("help group json") == MR_EXIT_OK);
    mr_assert(strstr(out_text, "millrace group json: write JSON\n") != NULL);

    mr_assert(run("") == MR_EXIT_USAGE); /* nothing said: the help, but on stderr */
    mr_assert(out_text[0] == '\0' && strstr(err_text, "Usage:\n") != NULL);
    mr_assert(run("group") == MR_EXIT_USAGE);
    mr_assert(out_text[0] == '\0' && strstr(err_text, "Commands:\n") != NULL);
}

static void test_version(void)
{
    static const char *const lines[] = {"version", "--version"};

    for (size_t i = 0; i < MR_COUNT_OF(lines); i++) {
        mr_assert(run(lines[i]) == MR_EXIT_OK);
        expect_text(out_text, "millrace " MR_VERSION "\n", lines[i]);
    }
    mr_assert(run("version --json") == MR_EXIT_OK);
    mr_assert(begins(out_text, "{\"version\": \"" MR_VERSION "\""));
}

static const char *configured(const char *config_path, char *buffer, size_t size)
{
    if (strcmp(config_path, "bad.yaml") == 0) {
        return NULL;
    }
    (void)snprintf(buffer, size, "of-%s", config_path);
    return buffer;
}

static void test_data_path(void)
{
    mr_assert(run("data") == MR_EXIT_OK);
    expect_text(out_text, "./millrace-data\n", "data");
    mr_cli_settings_data_path = configured;
    mr_assert(run("data -c a.yaml") == MR_EXIT_OK);
    expect_text(out_text, "of-a.yaml\n", "data");
    mr_assert(run("data -c a.yaml --data d") == MR_EXIT_OK);
    expect_text(out_text, "d\n", "data");
    mr_assert(run("data -c bad.yaml") == MR_EXIT_CONFIG);
    mr_cli_settings_data_path = NULL;
}

static void test_exit_code_is_the_commands(void)
{
    result = MR_EXIT_UNAVAILABLE;
    mr_assert(run("probe x") == MR_EXIT_UNAVAILABLE);
    expect_text(out_text, "ran\n", "probe x");
    result = MR_EXIT_OK;
}

static void test_json_strings(void)
{
    mr_assert(run("group json") == MR_EXIT_OK);
    expect_text(out_text, "\"a\\\"\\\\\\n\\u0001\\ufffd\xc3\xa4\\u0000b\"", "json");
}

/* /dev/full takes nothing: a full disk behind a redirection. */
static void test_full_stdout(void)
{
    char probe[] = "millrace";
    char version[] = "version";
    char *words[] = {probe, version, NULL};
    FILE *out = stdout;
    FILE *err = stderr;
    size_t err_len = 0;

    free(err_text);
    stdout = fopen("/dev/full", "w");
    stderr = open_memstream(&err_text, &err_len);
    mr_assert(stdout != NULL);
    int code = mr_cli_main(2, words, commands);
    (void)fclose(stdout);
    (void)fclose(stderr);
    stdout = out;
    stderr = err;
    mr_assert(code == MR_EXIT_IO);
    expect_text(err_text, "millrace version: cannot write to stdout: No space left on device\n",
                "version");
}

int main(void)
{
    test_ways_to_write();
    test_mistakes();
    test_help();
    test_version();
    test_data_path();
    test_exit_code_is_the_commands();
    test_json_strings();
    test_full_stdout();
    free(out_text);
    free(err_text);
    return 0;
}
