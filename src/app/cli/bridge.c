/* bridge.c - `millrace bridge ls | pause | resume`: what each bridge does, and holding it.
 *
 * pause and resume work beside a running gateway, by its admin server, and without one,
 * in the table of cursors; `seek` has a file of its own.
 */
#include <inttypes.h>

#include "app/cli/ask.h"
#include "app/cli/bridge_internal.h"
#include "app/cli/walk.h"
#include "journal/cursor.h"

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

/* Fresh events that overtake the backlog of the row above. */
static void ls_live_row(struct mr_cli *cli, struct mr_span live)
{
    char age[32];

    if (mr_answer_u64(live, "cursor") != 0) {
        (void)mr_cli_out(cli, "%-20s  %4s  %-8s  %12" PRIu64 "  %10" PRIu64 "  %10s  %7s\n",
                         "  fresh events", "", "", mr_answer_u64(live, "cursor"),
                         mr_answer_u64(live, "lag_records"), "",
                         age_text(mr_answer_u64(live, "lag_seconds"), age, sizeof(age)));
    }
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
        ls_live_row(cli, mr_json_member(bridge, "live"));
    }
    mr_answer_free(&answer);
    if (!any && !json) {
        mr_cli_note(cli, "the gateway has no bridges; its journal is all there is");
    }
    return MR_EXIT_OK;
}

/* ---- pause, resume ---- */

/* No gateway runs: the cursors are ours to change. */
int mr_bridge_cursors_open(struct mr_cli *cli, struct mr_journal **out)
{
    char path[4096];
    struct mr_error why;
    int code = mr_walk_journal_path(cli, path, sizeof(path));

    if (code != MR_EXIT_OK) {
        return code;
    }
    const struct mr_journal_options options = {
        .path = path, .name = "journal", .cursors_only = true};
    enum mr_err err = mr_journal_open(out, &options, NULL, &why);
    if (err == MR_ERR_AGAIN) {
        return mr_cli_fail(cli, MR_EXIT_TRY_AGAIN,
                           "a gateway runs there, but its admin server does not answer: %s; set "
                           "`admin.enable: true`, or stop it first",
                           why.text);
    }
    return err == MR_OK
               ? MR_EXIT_OK
               : mr_cli_fail(cli, err == MR_ERR_CONFIG ? MR_EXIT_DATA : MR_EXIT_IO, "%s", why.text);
}

static int pause_stopped(struct mr_cli *cli, const char *name, bool paused)
{
    struct mr_journal *journal = NULL;
    int code = mr_bridge_cursors_open(cli, &journal);

    if (code != MR_EXIT_OK) {
        return code;
    }
    enum mr_err err = mr_cursor_pause(journal, name, paused);
    if (err == MR_ERR_REJECT) {
        code = mr_cli_fail(cli, MR_EXIT_NO_INPUT,
                           "there is no bridge '%s' in this journal; `millrace journal cursors` "
                           "lists them",
                           name);
    } else if (err != MR_OK) {
        code = mr_cli_fail(cli, MR_EXIT_IO, "the cursors cannot be written; check the disk");
    } else {
        mr_cli_note(cli, "'%s' %s when the gateway runs", name,
                    paused ? "will be paused" : "will go on");
    }
    (void)mr_journal_close(journal); /* what was changed is synced */
    return code;
}

static int pause_do(struct mr_cli *cli, bool paused)
{
    const char *name = mr_cli_argument(cli, 0);
    char target[1024];
    struct mr_text text = mr_text_over(target, sizeof(target));
    struct mr_answer answer;
    bool running;

    mr_text_fmt(&text, "bridges/%s?name=", paused ? "pause" : "resume");
    mr_ask_escape(&text, mr_span_of(name));
    int code = mr_ask_if_running(cli, "POST", target, &answer, &running);
    if (code != MR_EXIT_OK) {
        return code;
    }
    if (!running) {
        return pause_stopped(cli, name, paused);
    }
    mr_cli_note(cli, "'%s' is %s", name, paused ? "paused; its events stay in the journal" : "on");
    mr_answer_free(&answer);
    return MR_EXIT_OK;
}

static int pause_run(struct mr_cli *cli)
{
    return pause_do(cli, true);
}

static int resume_run(struct mr_cli *cli)
{
    return pause_do(cli, false);
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

static const struct mr_command command_pause = {
    .name = "pause",
    .arguments = "NAME",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "deliver nothing more until it is resumed",
    .help = "What is on its way is settled. The bridge keeps its place, holds the journal from\n"
            "there on, and stays paused through restarts.\n",
    .run = pause_run,
};

static const struct mr_command command_resume = {
    .name = "resume",
    .arguments = "NAME",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "go on where it was paused",
    .run = resume_run,
};

static const struct mr_command *const bridge_commands[] = {
    &command_ls, &command_pause, &command_resume, &mr_command_bridge_seek, NULL};

const struct mr_command mr_command_bridge = {
    .name = "bridge",
    .group = "Look",
    .summary = "what the bridges do; pause them, or let them go on elsewhere",
    .subcommands = bridge_commands,
};
