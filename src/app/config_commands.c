/* config_commands.c - `millrace config docs | schema | show`: the option tables, and
 * what a configuration makes of them.
 */
#include "app/gateway_internal.h"

static void write_stdout(void *arg, const char *text, size_t len)
{
    (void)mr_cli_out_bytes(arg, text, len);
}

static int docs_run(struct mr_cli *cli)
{
    mr_settings_document(write_stdout, cli);
    return MR_EXIT_OK;
}

static int schema_run(struct mr_cli *cli)
{
    mr_settings_schema(write_stdout, cli);
    return MR_EXIT_OK;
}

static void out_json(struct mr_cli *cli, const char *text)
{
    (void)mr_cli_out_json(cli, text, strlen(text));
}

static void show_value(void *arg, const struct mr_config_shown *shown)
{
    struct mr_cli *cli = arg;

    if (mr_cli_flag(cli, "changed") && shown->is_default) {
        return;
    }
    if (!mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli, "%-36s  %-28s  %s\n", shown->key,
                         shown->value == NULL ? "-" : shown->value, shown->origin);
        return;
    }
    (void)mr_cli_out(cli, "{\"key\":");
    out_json(cli, shown->key);
    (void)mr_cli_out(cli, ",\"value\":");
    if (shown->value == NULL) {
        (void)mr_cli_out(cli, "null");
    } else {
        out_json(cli, shown->value);
    }
    (void)mr_cli_out(cli, ",\"origin\":");
    out_json(cli, shown->origin);
    (void)mr_cli_out(cli, ",\"default\":%s}\n", shown->is_default ? "true" : "false");
}

static int show_run(struct mr_cli *cli)
{
    struct mr_settings settings;
    int code = MR_EXIT_CONFIG;

    if (mr_wire_settings(cli, &settings, NULL) == MR_OK) {
        code = MR_EXIT_OK;
        if (!mr_cli_flag(cli, "json")) {
            (void)mr_cli_out(cli, "%-36s  %-28s  %s\n", "KEY", "VALUE", "ORIGIN");
        }
        mr_settings_show(&settings, show_value, cli);
    }
    mr_settings_close(&settings);
    return code;
}

static const struct mr_cli_option show_options[] = {
    {.name = "changed", .type = MR_OPT_BOOL, .help = "Only what is not the default."},
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per value."},
    {.name = NULL},
};

static const struct mr_command command_docs = {
    .name = "docs",
    .summary = "print every option as Markdown (docs/CONFIG.md)",
    .run = docs_run,
};

static const struct mr_command command_schema = {
    .name = "schema",
    .summary = "print a JSON schema of the configuration file, for editors",
    .run = schema_run,
};

static const struct mr_command command_show = {
    .name = "show",
    .summary = "show every value that would be in force, and where it comes from",
    .help = "As `millrace run` with the same -c, --set and --data would have it. ORIGIN is\n"
            "\"default\", file:line, --set or --data, and the environment variables in it.\n"
            "Secrets are shown as ***.\n",
    .options = show_options,
    .run = show_run,
};

static const struct mr_command *const config_commands[] = {&command_docs, &command_schema,
                                                           &command_show, NULL};

const struct mr_command mr_command_config = {
    .name = "config",
    .group = "Gateway",
    .summary = "the options that exist, and the values in force",
    .subcommands = config_commands,
};
