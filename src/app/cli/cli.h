/* cli.h - the command line: commands are a table, their options are tables.
 *
 *     millrace [global options] COMMAND [SUBCOMMAND] [options] [arguments]
 *
 *     mr_cli_main(argc, argv, commands)
 *        ── finds the command, checks every option and argument by its row ──▶
 *     command->run(cli)        reads them with the accessors below; they are valid
 *
 * A mistake on the command line never reaches run(): it is said on stderr, with
 * "did you mean", and the exit code is 64.  --help is made from the tables.
 *
 * Every command takes -c/--config FILE, --data DIR, --set a.b=c, -v, -q, -h.
 * Data goes to stdout, messages to stderr.
 *
 * Thread: main.   Memory: lives until mr_cli_main() returns.   Time: start-up.
 */
#ifndef MR_APP_CLI_CLI_H
#define MR_APP_CLI_CLI_H

#include "config/option.h"

struct mr_cli;

/* What a shell and systemd make of our end (sysexits.h). */
enum mr_exit {
    MR_EXIT_OK = 0,
    MR_EXIT_FAILED = 1,       /* ran, and the answer is "no": damage found, a check failed */
    MR_EXIT_USAGE = 64,       /* the command line is wrong */
    MR_EXIT_DATA = 65,        /* input is not what it should be */
    MR_EXIT_NO_INPUT = 66,    /* a file or folder is not there */
    MR_EXIT_UNAVAILABLE = 69, /* a service we need does not answer */
    MR_EXIT_SOFTWARE = 70,    /* our bug */
    MR_EXIT_IO = 74,          /* the disk or stdout failed */
    MR_EXIT_TRY_AGAIN = 75,   /* busy now, e.g. the data folder is locked */
    MR_EXIT_CONFIG = 78,      /* the configuration is wrong; systemd must not restart us */
};

/* One option of a command.  The name stands without its dashes. */
struct mr_cli_option {
    const char *name;         /* "from-start"; NULL ends the table */
    char letter;              /* 'n' for -n; 0: none */
    enum mr_option_type type; /* BOOL is a flag without value; STR, PATH, U64, SIZE, DURATION and
                                 CHOICE take one; LIST may be given several times */
    const char *value;        /* what help calls the value: "COUNT"; NULL for flags */
    const char *default_text; /* NULL: none; checked like a given one */
    uint64_t min;             /* numbers, sizes, durations (us); both 0: no range */
    uint64_t max;
    const char *const *choices; /* CHOICE: NULL-terminated */
    const char *help;           /* one sentence */
};

/* A command, or a group of commands ("journal": ls, cat, ...). */
struct mr_command {
    const char *name;
    const char *group;     /* heading in the top-level help: "Gateway", "Look", "Tools" */
    const char *summary;   /* one line, no full stop */
    const char *arguments; /* as in the usage line: "FILTER..."; NULL: none */
    const char *help;      /* further paragraphs and examples; may be NULL */
    const struct mr_cli_option *options;         /* may be NULL */
    const struct mr_command *const *subcommands; /* NULL-terminated; then run is NULL */
    uint32_t arguments_min;
    uint32_t arguments_max;         /* UINT32_MAX: any number */
    int (*run)(struct mr_cli *cli); /* returns enum mr_exit */
};

/* The whole of main(): parse, run, flush stdout.  `commands` is NULL-terminated.
 * Returns the exit code of the process: that of run(), MR_EXIT_USAGE, or
 * MR_EXIT_IO when stdout could not take everything.  A reader that went away
 * (EPIPE) is no error.
 */
int mr_cli_main(int argc, char **argv, const struct mr_command *const *commands);

/* ---- options by name; asking for one that no table has is a bug (asserted) ---- */

bool mr_cli_flag(const struct mr_cli *cli, const char *name);
bool mr_cli_given(const struct mr_cli *cli, const char *name); /* on the command line */

/* STR, PATH and the text of any other: the last one given, else the default, else NULL. */
const char *mr_cli_text(const struct mr_cli *cli, const char *name);

/* U64, SIZE (bytes), DURATION (us), CHOICE (index): the value or the default; 0
 * without either.
 */
uint64_t mr_cli_number(const struct mr_cli *cli, const char *name);

/* LIST: how often it was given, and the index-th in order. */
size_t mr_cli_list_count(const struct mr_cli *cli, const char *name);
const char *mr_cli_list_at(const struct mr_cli *cli, const char *name, size_t index);

/* ---- positional arguments ---- */

size_t mr_cli_argument_count(const struct mr_cli *cli);
const char *mr_cli_argument(const struct mr_cli *cli, size_t index);

/* ---- what every command has ---- */

const char *mr_cli_config_path(const struct mr_cli *cli); /* -c; NULL: not given */
size_t mr_cli_set_count(const struct mr_cli *cli);

/* The index-th --set, taken apart.  Borrowed. */
void mr_cli_set_at(const struct mr_cli *cli, size_t index, const char **dotted_path,
                   const char **value);

unsigned mr_cli_verbose(const struct mr_cli *cli); /* how many -v */
bool mr_cli_quiet(const struct mr_cli *cli);

/* May stderr (stdout) be coloured?  A terminal, and NO_COLOR is not set. */
bool mr_cli_color_err(const struct mr_cli *cli);
bool mr_cli_color_out(const struct mr_cli *cli);

/* The gateway's data folder: --data, else gateway.data of the configuration,
 * else ./millrace-data.  Borrowed.  NULL: the configuration could not be read,
 * which has been said on stderr; return MR_EXIT_CONFIG.
 */
const char *mr_cli_data_path(struct mr_cli *cli);

/* How mr_cli_data_path() asks the configuration: the path of gateway.data in
 * `buffer`, or NULL after having said why on stderr.  main() sets it before
 * mr_cli_main(); without it -c is not asked.
 */
extern const char *(*mr_cli_settings_data_path)(const char *config_path, char *buffer, size_t size);

/* ---- saying ---- */

/* Data: to stdout.  False when stdout is gone (the reader left, disk full): end
 * quietly, mr_cli_main() says what is to be said.
 */
bool mr_cli_out(struct mr_cli *cli, const char *fmt, ...) MR_PRINTF(2, 3);
bool mr_cli_out_bytes(struct mr_cli *cli, const void *at, size_t len);
bool mr_cli_flush(struct mr_cli *cli); /* for live output */

/* `text` as a JSON string, quotes included, to stdout.  Bytes that are not
 * UTF-8 become U+FFFD.
 */
bool mr_cli_out_json(struct mr_cli *cli, const void *at, size_t len);

/* A message: "millrace journal ls: ..." and a line end, to stderr.  `exit_code`
 * is returned, so that run() can end with `return mr_cli_fail(...)`.
 */
int mr_cli_fail(struct mr_cli *cli, int exit_code, const char *fmt, ...) MR_PRINTF(3, 4);

/* The same for what is worth knowing but no failure; silent under -q. */
void mr_cli_note(struct mr_cli *cli, const char *fmt, ...) MR_PRINTF(2, 3);

/* ---- the commands (src/main.c lists them) ---- */

extern const struct mr_command mr_command_version;
extern const struct mr_command mr_command_journal;
extern const struct mr_command mr_command_tap;
extern const struct mr_command mr_command_bridge;
extern const struct mr_command mr_command_bans;
extern const struct mr_command mr_command_clients;
extern const struct mr_command mr_command_dlq;
extern const struct mr_command mr_command_passwd;
extern const struct mr_command mr_command_import;
extern const struct mr_command mr_command_prove;

/* Of `journal`, in a file of their own. */
extern const struct mr_command mr_command_journal_cursors;
extern const struct mr_command mr_command_journal_forget;
extern const struct mr_command mr_command_journal_repair;
extern const struct mr_command mr_command_journal_verify;

#endif
