/* bans.c - `millrace bans ls | clear`: who has to stay outside for a while. */
#include <inttypes.h>

#include "app/cli/ask.h"
#include "app/cli/show.h"

enum { TARGET_BYTES = 12 << 10, WHO_BYTES = 512 };

static void ls_row(struct mr_cli *cli, struct mr_span ban)
{
    char kind[16];
    char buffer[WHO_BYTES];
    struct mr_text text = mr_text_over(buffer, sizeof(buffer));

    (void)mr_cli_out(cli, "%-7s  %7" PRIu64 "  %5" PRIu64 "  ",
                     mr_answer_text(ban, "kind", kind, sizeof(kind)), mr_answer_u64(ban, "seconds"),
                     mr_answer_u64(ban, "times"));
    mr_json_text(&text, mr_json_member(ban, "who"));
    (void)mr_show_text(cli, mr_span_make(buffer, text.len));
    (void)mr_cli_out(cli, "\n");
}

static int ls_run(struct mr_cli *cli)
{
    struct mr_answer answer = {0};
    struct mr_span ban;
    uint64_t count = 0;
    int code = mr_ask(cli, "GET", "bans", &answer);

    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_span at = mr_json_member(answer.json, "bans");
    while (mr_json_next(&at, &ban)) {
        if (mr_cli_flag(cli, "json")) {
            (void)mr_cli_out_bytes(cli, ban.at, ban.len);
            (void)mr_cli_out_bytes(cli, "\n", 1);
        } else {
            if (count == 0) {
                (void)mr_cli_out(cli, "%-7s  %7s  %5s  %s\n", "KIND", "SECONDS", "TIMES", "WHO");
            }
            ls_row(cli, ban);
        }
        count += 1;
    }
    if (count == 0 && !mr_cli_flag(cli, "json")) {
        mr_cli_note(cli, "nobody is banned");
    }
    mr_answer_free(&answer);
    return MR_EXIT_OK;
}

static int clear_run(struct mr_cli *cli)
{
    char *target = mr_alloc(TARGET_BYTES);
    struct mr_text text = mr_text_over(target, TARGET_BYTES);
    const char *who = mr_cli_argument_count(cli) == 0 ? NULL : mr_cli_argument(cli, 0);
    struct mr_answer answer = {0};

    mr_text_add(&text, "bans/clear");
    if (who != NULL) {
        mr_text_add(&text, "?who=");
        mr_ask_escape(&text, mr_span_of(who));
    }
    int code = text.truncated ? mr_cli_fail(cli, MR_EXIT_USAGE, "that name is too long")
                              : mr_ask(cli, "POST", target, &answer);
    if (code == MR_EXIT_OK) {
        mr_cli_note(cli, "%" PRIu64 " may come in again", mr_answer_u64(answer.json, "count"));
        mr_answer_free(&answer);
    }
    mr_free(target);
    return code;
}

static const struct mr_cli_option ls_options[] = {
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per ban."},
    {.name = NULL},
};

static const struct mr_command command_ls = {
    .name = "ls",
    .summary = "list the addresses and client ids that are banned",
    .help = "SECONDS: how long it lasts. TIMES: how often so far, each time for longer.\n"
            "Addresses of IPv6 are networks of 64 bits.\n",
    .options = ls_options,
    .run = ls_run,
};

static const struct mr_command command_clear = {
    .name = "clear",
    .arguments = "[WHO]",
    .arguments_max = 1,
    .summary = "let an address or a client in again, or all of them",
    .help = "WHO as `millrace bans ls` shows it; without it all bans end. What led to them is\n"
            "forgotten.\n",
    .run = clear_run,
};

static const struct mr_command *const bans_commands[] = {&command_ls, &command_clear, NULL};

const struct mr_command mr_command_bans = {
    .name = "bans",
    .group = "Look",
    .summary = "who has to stay outside; let them in again",
    .subcommands = bans_commands,
};
