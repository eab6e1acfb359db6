/* bridge.c - `millrace bridge ls`: what each bridge does. */
#include <inttypes.h>

#include "app/cli/ask.h"

enum { NAME_BYTES = 160, ERROR_BYTES = 512 };

/* "3.2 s", "12 min", "5 h", "3 d": how old. */
static const char *age_text(uint64_t seconds, char *buffer, size_t size)
{
    static const struct {
        uint64_t unit_s;
        const char *name;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    struct mr_text text = mr_text_over(buffer, size);

    for (size_t i = 0; i < MR_COUNT_OF(units); i++) {
        if (seconds >= 2 * units[i].unit_s || units[i].unit_s == 1) {
            mr_text_fmt(&text, "%" PRIu64 " %s", seconds / units[i].unit_s, units[i].name);
            break;
        }
    }
    return buffer;
}

static void ls_row(struct mr_cli *cli, struct mr_span bridge)
{
    char name[NAME_BYTES];
    char state[32];
    char age[32];
    char bytes_buffer[32];
    char error[ERROR_BYTES];
    struct mr_text bytes = mr_text_over(bytes_buffer, sizeof(bytes_buffer));

    mr_text_bytes_human(&bytes, mr_answer_u64(bridge, "lag_bytes"));
    (void)mr_cli_out(
        cli,
        "%-20s  %4" PRIu64 "  %-8s  %12" PRIu64 "  %10" PRIu64 "  %10s  %7s  %10" PRIu64 "  %s\n",
        mr_answer_text(bridge, "name", name, sizeof(name)), mr_answer_u64(bridge, "lane"),
        mr_answer_text(bridge, "state", state, sizeof(state)), mr_answer_u64(bridge, "cursor"),
        mr_answer_u64(bridge, "lag_records"), bytes_buffer,
        age_text(mr_answer_u64(bridge, "lag_seconds"), age, sizeof(age)),
        mr_answer_u64(bridge, "dead_letters"),
        mr_answer_text(bridge, "last_error", error, sizeof(error)));
}

static int ls_run(struct mr_cli *cli)
{
    struct mr_answer answer;
    struct mr_span bridge;
    bool json = mr_cli_flag(cli, "json");
    bool any = false;
    int code = mr_ask(cli, "GET", "bridges", &answer);

    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_span at = mr_json_member(answer.json, "bridges");
    while (mr_json_next(&at, &bridge)) {
        if (json) {
            (void)mr_cli_out_bytes(cli, bridge.at, bridge.len);
            (void)mr_cli_out_bytes(cli, "\n", 1);
            continue;
        }
        if (!any) {
            (void)mr_cli_out(cli, "%-20s  %4s  %-8s  %12s  %10s  %10s  %7s  %10s  %s\n", "NAME",
                             "LANE", "STATE", "SEQ", "LAG", "BYTES", "AGE", "DEAD", "LAST ERROR");
        }
        any = true;
        ls_row(cli, bridge);
    }
    mr_answer_free(&answer);
    if (!any && !json) {
        mr_cli_note(cli, "the gateway has no bridges; its journal is all there is");
    }
    return MR_EXIT_OK;
}

/* ---- tables ---- */

static const struct mr_cli_option ls_options[] = {
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per bridge and lane."},
    {.name = NULL},
};

static const struct mr_command command_ls = {
    .name = "ls",
    .summary = "list the bridges of the running gateway and how far each is",
    .help = "SEQ: everything up to it is settled. LAG: records behind it, BYTES: about what\n"
            "they take in the journal, AGE: of the oldest of them. DEAD: dead letters since\n"
            "the start. Exit code 69: no gateway runs there.\n",
    .options = ls_options,
    .run = ls_run,
};

static const struct mr_command *const bridge_commands[] = {&command_ls, NULL};

const struct mr_command mr_command_bridge = {
    .name = "bridge",
    .group = "Look",
    .summary = "what the bridges of the running gateway do",
    .subcommands = bridge_commands,
};
