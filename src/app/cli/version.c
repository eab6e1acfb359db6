/* version.c - `millrace version`: what this program is made of. */
#include "app/cli/cli.h"

static int version_run(struct mr_cli *cli)
{
    if (mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli, "{\"version\": \"%s\", \"compiler\": ", MR_VERSION);
        (void)mr_cli_out_json(cli, __VERSION__, sizeof(__VERSION__) - 1);
        (void)mr_cli_out(cli, "}\n");
        return MR_EXIT_OK;
    }
    (void)mr_cli_out(cli, "millrace %s\n", MR_VERSION);
    if (mr_cli_verbose(cli) > 0) {
        (void)mr_cli_out(cli, "compiled by %s\n", __VERSION__);
    }
    return MR_EXIT_OK;
}

static const struct mr_cli_option version_options[] = {
    {.name = "json", .type = MR_OPT_BOOL, .help = "As a JSON object."},
    {.name = NULL},
};

const struct mr_command mr_command_version = {
    .name = "version",
    .group = "Tools",
    .summary = "print the version",
    .options = version_options,
    .run = version_run,
};
