/* cli_internal.h - what cli.c, cli_help.c and cli_out.c share.
 *
 * Thread: main.   Memory: one object per process.   Time: none.
 */
#ifndef MR_APP_CLI_CLI_INTERNAL_H
#define MR_APP_CLI_CLI_INTERNAL_H

#include "app/cli/cli.h"

#include <stdio.h>

enum { CLI_COMMON_SET = 2 }; /* index of --set in cli_common_options */

extern const struct mr_cli_option cli_common_options[];

/* One option as it was given. */
struct cli_given {
    const struct mr_cli_option *row;
    const char *text;
    char *set_path;        /* of --set: before the '=', owned; else NULL */
    const char *set_value; /* of --set: behind it */
    uint64_t number;
};

struct mr_cli {
    const struct mr_command *const *commands;
    const struct mr_command *group;   /* "journal" of "journal ls"; NULL: none */
    const struct mr_command *command; /* NULL until its name was read */
    struct cli_given *given;          /* in the order of the command line */
    size_t given_count;
    const char **arguments;
    size_t argument_count;
    bool help;     /* "millrace help ..." */
    int out_error; /* errno of the first failed write to stdout */
    char name[64]; /* "journal ls" */
    char data_path[4096];
};

/* The help of what was named so far. */
void cli_help(const struct mr_cli *cli, FILE *to);

#endif
