/* cli.c - see cli.h for the contract.
 *
 * DESIGN
 *
 * One pass over the words.  A word that is no option names the command, then the
 * subcommand if there are any, and everything after that is an argument; options
 * may stand anywhere behind the command whose they are, the common ones anywhere.
 * `--` ends options.  --help wins over everything that is missing, not over what
 * is wrong: a typing error is said first.
 *
 * Values are checked here, by the parser the configuration uses (option.h), so
 * that a run() function has no way to be called with a bad one.
 *
 * Rejected: getopt_long.  It knows neither subcommands nor ranges, guesses
 * abbreviations, and prints its own messages.
 */
#include "app/cli/cli_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "os/process.h"

const char *(*mr_cli_settings_data_path)(const char *config_path, char *buffer, size_t size);

const struct mr_cli_option cli_common_options[] = {
    {.name = "config",
     .letter = 'c',
     .type = MR_OPT_PATH,
     .value = "FILE",
     .help = "The configuration, with the folder conf.d beside it."},
    {.name = "data",
     .type = MR_OPT_PATH,
     .value = "DIR",
     .help = "The gateway's data folder; goes before the configuration's."},
    {.name = "set",
     .type = MR_OPT_LIST,
     .value = "A.B=C",
     .help = "Replace one value of the configuration; may be repeated."},
    {.name = "verbose", .letter = 'v', .type = MR_OPT_BOOL, .help = "Say more; twice: much more."},
    {.name = "quiet", .letter = 'q', .type = MR_OPT_BOOL, .help = "Errors only."},
    {.name = "help", .letter = 'h', .type = MR_OPT_BOOL, .help = "This help."},
    {.name = NULL},
};

static const char default_data_path[] = "./millrace-data";

/* ---- messages ---- */

static void say(const struct mr_cli *cli, const char *fmt, va_list args)
{
    char text[1024];

    (void)vsnprintf(text, sizeof(text), fmt, args);
    (void)fflush(stdout); /* keep the order on a terminal */
    (void)fprintf(stderr, "millrace%s%s: %s\n", cli->name[0] == '\0' ? "" : " ", cli->name, text);
}

int mr_cli_fail(struct mr_cli *cli, int exit_code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(cli, fmt, args);
    va_end(args);
    return exit_code;
}

void mr_cli_note(struct mr_cli *cli, const char *fmt, ...)
{
    va_list args;

    if (mr_cli_quiet(cli)) {
        return;
    }
    va_start(args, fmt);
    say(cli, fmt, args);
    va_end(args);
}

/* ---- finding commands and options ---- */

static const struct mr_command *command_find(const struct mr_command *const *commands,
                                             const char *name)
{
    for (size_t i = 0; commands[i] != NULL; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static const struct mr_cli_option *option_find(const struct mr_cli_option *table, const char *name,
                                               size_t name_len)
{
    for (; table != NULL && table->name != NULL; table++) {
        if (strlen(table->name) == name_len && memcmp(table->name, name, name_len) == 0) {
            return table;
        }
    }
    return NULL;
}

static const struct mr_cli_option *letter_find(const struct mr_cli_option *table, char letter)
{
    for (; table != NULL && table->name != NULL; table++) {
        if (table->letter == letter) {
            return table;
        }
    }
    return NULL;
}

static const struct mr_cli_option *own_options(const struct mr_cli *cli)
{
    return cli->command == NULL ? NULL : cli->command->options;
}

enum { NAMES_MAX = 64 };

/* "did you mean" over the names in `names`, else where to look. */
static int fail_unknown(struct mr_cli *cli, const char *what, const char *dashes, const char *wrong,
                        const char *const *names)
{
    const char *near = mr_config_nearest(wrong, names);

    if (near != NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "unknown %s '%s%s': did you mean '%s%s'?", what,
                           dashes, wrong, dashes, near);
    }
    return mr_cli_fail(cli, MR_EXIT_USAGE, "unknown %s '%s%s'; see 'millrace%s%s --help'", what,
                       dashes, wrong, cli->name[0] == '\0' ? "" : " ", cli->name);
}

static int fail_unknown_command(struct mr_cli *cli, const struct mr_command *const *commands,
                                const char *wrong)
{
    const char *names[NAMES_MAX + 1] = {NULL};

    for (size_t i = 0; commands[i] != NULL && i < NAMES_MAX; i++) {
        names[i] = commands[i]->name;
    }
    return fail_unknown(cli, "command", "", wrong, names);
}

static int fail_unknown_option(struct mr_cli *cli, const char *wrong)
{
    const struct mr_cli_option *tables[] = {own_options(cli), cli_common_options};
    const char *names[NAMES_MAX + 1] = {NULL};
    size_t count = 0;

    for (size_t t = 0; t < MR_COUNT_OF(tables); t++) {
        for (const struct mr_cli_option *row = tables[t];
             row != NULL && row->name != NULL && count < NAMES_MAX; row++) {
            names[count] = row->name;
            count += 1;
        }
    }
    return fail_unknown(cli, "option", "--", wrong, names);
}

/* ---- taking values ---- */

/* The row in the shape the configuration's parser takes. */
static struct mr_option option_of(const struct mr_cli_option *row)
{
    return (struct mr_option){.name = row->name,
                              .type = row->type,
                              .default_text = row->default_text,
                              .min = row->min,
                              .max = row->max,
                              .choices = row->choices};
}

static bool has_number(enum mr_option_type type)
{
    return type == MR_OPT_U64 || type == MR_OPT_SIZE || type == MR_OPT_DURATION ||
           type == MR_OPT_CHOICE;
}

/* Remember one option; MR_EXIT_OK or MR_EXIT_USAGE after a message. */
static int option_take(struct mr_cli *cli, const struct mr_cli_option *row, const char *text)
{
    uint64_t number = 0;

    if (has_number(row->type)) {
        struct mr_option option = option_of(row);
        struct mr_option_fault fault;
        if (mr_option_parse(&option, text, &number, &fault) != MR_OK) {
            return mr_cli_fail(cli, MR_EXIT_USAGE, "--%s: %s; %s", row->name, fault.problem,
                               fault.hint);
        }
    }
    struct cli_given given = {.row = row, .text = text, .number = number};
    if (row == &cli_common_options[CLI_COMMON_SET]) {
        const char *equals = strchr(text, '=');
        if (equals == NULL) {
            return mr_cli_fail(cli, MR_EXIT_USAGE,
                               "--set: '%s' has no '='; write --set section.key=value", text);
        }
        given.set_path = mr_strndup(text, (size_t)(equals - text));
        given.set_value = equals + 1;
    }
    cli->given[cli->given_count] = given;
    cli->given_count += 1;
    return MR_EXIT_OK;
}

static int fail_no_value(struct mr_cli *cli, const struct mr_cli_option *row)
{
    return mr_cli_fail(cli, MR_EXIT_USAGE, "--%s needs a value: --%s %s", row->name, row->name,
                       row->value == NULL ? "VALUE" : row->value);
}

/* "--name", "--name=value", "--name value"; `*index` moves over what was used. */
static int long_option_take(struct mr_cli *cli, char **words, int count, int *index)
{
    const char *name = words[*index] + 2;
    size_t name_len = strcspn(name, "=");
    const char *value = name[name_len] == '=' ? name + name_len + 1 : NULL;
    const struct mr_cli_option *row = option_find(own_options(cli), name, name_len);

    if (row == NULL) {
        row = option_find(cli_common_options, name, name_len);
    }
    if (row == NULL) {
        char wrong[128];
        struct mr_text text = mr_text_over(wrong, sizeof(wrong));
        mr_text_bytes(&text, name, name_len);
        return fail_unknown_option(cli, wrong);
    }
    if (row->type == MR_OPT_BOOL) {
        return value == NULL ? option_take(cli, row, "true")
                             : mr_cli_fail(cli, MR_EXIT_USAGE, "--%s takes no value", row->name);
    }
    if (value == NULL) {
        if (*index + 1 == count) {
            return fail_no_value(cli, row);
        }
        *index += 1;
        value = words[*index];
    }
    return option_take(cli, row, value);
}

/* "-v", "-vq", "-n5", "-n 5". */
static int short_options_take(struct mr_cli *cli, char **words, int count, int *index)
{
    for (const char *letter = words[*index] + 1; *letter != '\0'; letter++) {
        const struct mr_cli_option *row = letter_find(own_options(cli), *letter);
        if (row == NULL) {
            row = letter_find(cli_common_options, *letter);
        }
        if (row == NULL) {
            return mr_cli_fail(cli, MR_EXIT_USAGE,
                               "unknown option '-%c'; see 'millrace%s%s --help'", *letter,
                               cli->name[0] == '\0' ? "" : " ", cli->name);
        }
        if (row->type == MR_OPT_BOOL) {
            int failed = option_take(cli, row, "true");
            if (failed != MR_EXIT_OK) {
                return failed;
            }
            continue;
        }
        if (letter[1] != '\0') {
            return option_take(cli, row, letter + 1);
        }
        if (*index + 1 == count) {
            return fail_no_value(cli, row);
        }
        *index += 1;
        return option_take(cli, row, words[*index]);
    }
    return MR_EXIT_OK;
}

/* ---- words that are no options ---- */

static void name_set(struct mr_cli *cli)
{
    struct mr_text text = mr_text_over(cli->name, sizeof(cli->name));

    mr_text_add(&text, cli->group == NULL ? "" : cli->group->name);
    mr_text_add(&text, cli->group == NULL || cli->command == NULL ? "" : " ");
    mr_text_add(&text, cli->command == NULL ? "" : cli->command->name);
}

/* The command, then the subcommand, then arguments. */
static int word_take(struct mr_cli *cli, const char *word)
{
    if (cli->command != NULL) {
        cli->arguments[cli->argument_count] = word;
        cli->argument_count += 1;
        return MR_EXIT_OK;
    }
    if (cli->group == NULL && strcmp(word, "help") == 0) {
        cli->help = true;
        return MR_EXIT_OK;
    }

    const struct mr_command *const *commands =
        cli->group == NULL ? cli->commands : cli->group->subcommands;
    const struct mr_command *command = command_find(commands, word);
    if (command == NULL) {
        return fail_unknown_command(cli, commands, word);
    }
    if (command->subcommands != NULL) {
        cli->group = command;
    } else {
        cli->command = command;
    }
    name_set(cli);
    return MR_EXIT_OK;
}

static int words_take(struct mr_cli *cli, int count, char **words)
{
    bool options_ended = false;

    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        int failed = MR_EXIT_OK;

        if (options_ended || word[0] != '-' || word[1] == '\0') {
            failed = word_take(cli, word);
        } else if (strcmp(word, "--") == 0) {
            options_ended = true;
        } else if (cli->command == NULL && cli->group == NULL && strcmp(word, "--version") == 0) {
            failed = word_take(cli, "version");
        } else if (word[1] == '-') {
            failed = long_option_take(cli, words, count, &i);
        } else {
            failed = short_options_take(cli, words, count, &i);
        }
        if (failed != MR_EXIT_OK) {
            return failed;
        }
    }
    return MR_EXIT_OK;
}

/* Is everything there that the command needs? */
static int arguments_check(struct mr_cli *cli)
{
    const struct mr_command *command = cli->command;

    if (cli->argument_count < command->arguments_min) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "%s is missing; see 'millrace %s --help'",
                           command->arguments, cli->name);
    }
    if (cli->argument_count > command->arguments_max) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "unexpected argument '%s'; see 'millrace %s --help'",
                           cli->arguments[command->arguments_max], cli->name);
    }
    return MR_EXIT_OK;
}

/* ---- main ---- */

static int cli_run(struct mr_cli *cli, int argc, char **argv)
{
    int failed = words_take(cli, argc, argv);

    if (failed != MR_EXIT_OK) {
        return failed;
    }
    if (cli->help || mr_cli_flag(cli, "help")) {
        cli_help(cli, stdout);
        return MR_EXIT_OK;
    }
    if (cli->command == NULL) {
        cli_help(cli, stderr);
        return MR_EXIT_USAGE;
    }
    failed = arguments_check(cli);
    return failed != MR_EXIT_OK ? failed : cli->command->run(cli);
}

int mr_cli_main(int argc, char **argv, const struct mr_command *const *commands)
{
    struct mr_cli *cli = mr_alloc(sizeof(*cli));

    mr_signals_ignore_pipe();
    cli->commands = commands;
    /* One word can be as many options as it has letters. */
    size_t words_max = 1;
    for (int i = 1; i < argc; i++) {
        words_max += 1 + strlen(argv[i]);
    }
    cli->given = mr_alloc(words_max * sizeof(*cli->given));
    cli->arguments = mr_alloc(words_max * sizeof(*cli->arguments));

    int code = cli_run(cli, argc, argv);
    (void)mr_cli_flush(cli);
    if (cli->out_error != 0 && cli->out_error != EPIPE) {
        code = mr_cli_fail(cli, MR_EXIT_IO, "cannot write to stdout: %s", strerror(cli->out_error));
    }
    for (size_t i = 0; i < cli->given_count; i++) {
        mr_free(cli->given[i].set_path);
    }
    mr_free(cli->given);
    mr_free(cli->arguments);
    mr_free(cli);
    return code;
}

/* ---- accessors ---- */

static const struct mr_cli_option *row_of(const struct mr_cli *cli, const char *name)
{
    size_t len = strlen(name);
    const struct mr_cli_option *row = option_find(own_options(cli), name, len);

    if (row == NULL) {
        row = option_find(cli_common_options, name, len);
    }
    mr_assert(row != NULL);
    return row;
}

/* The last one given wins; NULL: none was. */
static const struct cli_given *given_last(const struct mr_cli *cli, const struct mr_cli_option *row)
{
    for (size_t i = cli->given_count; i > 0; i--) {
        if (cli->given[i - 1].row == row) {
            return &cli->given[i - 1];
        }
    }
    return NULL;
}

bool mr_cli_given(const struct mr_cli *cli, const char *name)
{
    return given_last(cli, row_of(cli, name)) != NULL;
}

bool mr_cli_flag(const struct mr_cli *cli, const char *name)
{
    return mr_cli_given(cli, name);
}

const char *mr_cli_text(const struct mr_cli *cli, const char *name)
{
    const struct mr_cli_option *row = row_of(cli, name);
    const struct cli_given *given = given_last(cli, row);

    return given == NULL ? row->default_text : given->text;
}

uint64_t mr_cli_number(const struct mr_cli *cli, const char *name)
{
    const struct mr_cli_option *row = row_of(cli, name);
    const struct cli_given *given = given_last(cli, row);
    uint64_t number = 0;

    mr_assert(has_number(row->type));
    if (given != NULL) {
        return given->number;
    }
    if (row->default_text != NULL) {
        struct mr_option option = option_of(row);
        struct mr_option_fault fault;
        enum mr_err err = mr_option_parse(&option, row->default_text, &number, &fault);
        mr_assert(err == MR_OK);
    }
    return number;
}

size_t mr_cli_list_count(const struct mr_cli *cli, const char *name)
{
    const struct mr_cli_option *row = row_of(cli, name);
    size_t count = 0;

    for (size_t i = 0; i < cli->given_count; i++) {
        count += cli->given[i].row == row ? 1 : 0;
    }
    return count;
}

const char *mr_cli_list_at(const struct mr_cli *cli, const char *name, size_t index)
{
    const struct mr_cli_option *row = row_of(cli, name);

    for (size_t i = 0; i < cli->given_count; i++) {
        if (cli->given[i].row == row) {
            if (index == 0) {
                return cli->given[i].text;
            }
            index -= 1;
        }
    }
    mr_assert(false);
    return NULL;
}

size_t mr_cli_argument_count(const struct mr_cli *cli)
{
    return cli->argument_count;
}

const char *mr_cli_argument(const struct mr_cli *cli, size_t index)
{
    mr_assert(index < cli->argument_count);
    return cli->arguments[index];
}

const char *mr_cli_config_path(const struct mr_cli *cli)
{
    return mr_cli_text(cli, "config");
}

size_t mr_cli_set_count(const struct mr_cli *cli)
{
    return mr_cli_list_count(cli, "set");
}

void mr_cli_set_at(const struct mr_cli *cli, size_t index, const char **dotted_path,
                   const char **value)
{
    const struct mr_cli_option *row = &cli_common_options[CLI_COMMON_SET];

    for (size_t i = 0; i < cli->given_count; i++) {
        const struct cli_given *given = &cli->given[i];
        if (given->row == row && index-- == 0) {
            *dotted_path = given->set_path;
            *value = given->set_value;
            return;
        }
    }
    mr_assert(false);
}

unsigned mr_cli_verbose(const struct mr_cli *cli)
{
    return (unsigned)mr_cli_list_count(cli, "verbose");
}

bool mr_cli_quiet(const struct mr_cli *cli)
{
    return mr_cli_flag(cli, "quiet");
}

/* https://no-color.org: set and not empty. */
static bool color_wanted(int fd)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return (no_color == NULL || no_color[0] == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0) && mr_is_terminal(fd);
}

bool mr_cli_color_err(const struct mr_cli *cli)
{
    (void)cli;
    return color_wanted(2);
}

bool mr_cli_color_out(const struct mr_cli *cli)
{
    (void)cli;
    return color_wanted(1);
}

const char *mr_cli_data_path(struct mr_cli *cli)
{
    const char *given = mr_cli_text(cli, "data");
    const char *config_path = mr_cli_config_path(cli);

    if (given != NULL) {
        return given;
    }
    if (config_path != NULL && mr_cli_settings_data_path != NULL) {
        return mr_cli_settings_data_path(config_path, cli->data_path, sizeof(cli->data_path));
    }
    return default_data_path;
}
