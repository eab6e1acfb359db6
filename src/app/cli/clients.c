/* clients.c - `millrace clients ls | kick`: who is connected, and sending one away. */
#include <inttypes.h>

#include "app/cli/ask.h"
#include "app/cli/show.h"

enum { TARGET_BYTES = 12 << 10, ID_BYTES = 8 << 10 };

/* A text of the answer, made harmless for a terminal. */
static void out_text(struct mr_cli *cli, struct mr_span client, const char *name)
{
    char buffer[ID_BYTES];
    struct mr_text text = mr_text_over(buffer, sizeof(buffer));

    mr_json_text(&text, mr_json_member(client, name));
    (void)mr_show_text(cli, mr_span_make(buffer, text.len));
}

static void ls_row(struct mr_cli *cli, struct mr_span client)
{
    char peer[64];
    char version[16];
    char connected[48];

    (void)mr_cli_out(cli, "%-21s  %-5s  %.19s  %10" PRIu64 "  %10" PRIu64 "  %6" PRIu64 "  ",
                     mr_answer_text(client, "peer", peer, sizeof(peer)),
                     mr_answer_text(client, "version", version, sizeof(version)),
                     mr_answer_text(client, "connected", connected, sizeof(connected)),
                     mr_answer_u64(client, "received"), mr_answer_u64(client, "sent"),
                     mr_answer_u64(client, "queued") + mr_answer_u64(client, "inflight"));
    out_text(cli, client, "client");
    if (mr_json_member(client, "username").len > 2) {
        (void)mr_cli_out(cli, "  ");
        out_text(cli, client, "username");
    }
    (void)mr_cli_out(cli, "\n");
}

/* One page; *after is where the next begins, UINT64_MAX: there is none. */
static int ls_page(struct mr_cli *cli, uint64_t *after, uint64_t *count)
{
    char *target = mr_alloc(TARGET_BYTES);
    struct mr_text text = mr_text_over(target, TARGET_BYTES);
    const char *filter = mr_cli_text(cli, "filter");
    struct mr_answer answer = {0};
    struct mr_span client;

    mr_text_fmt(&text, "clients?after=%" PRIu64, *after);
    if (filter != NULL) {
        mr_text_add(&text, "&filter=");
        mr_ask_escape(&text, mr_span_of(filter));
    }
    int code = text.truncated ? mr_cli_fail(cli, MR_EXIT_USAGE, "--filter is too long")
                              : mr_ask(cli, "GET", target, &answer);
    mr_free(target);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_span at = mr_json_member(answer.json, "clients");
    while (mr_json_next(&at, &client)) {
        if (mr_cli_flag(cli, "json")) {
            (void)mr_cli_out_bytes(cli, client.at, client.len);
            (void)mr_cli_out_bytes(cli, "\n", 1);
        } else {
            if (*count == 0) {
                (void)mr_cli_out(cli, "%-21s  %-5s  %-19s  %10s  %10s  %6s  %s\n", "PEER", "MQTT",
                                 "CONNECTED (UTC)", "RECEIVED", "SENT", "QUEUED", "CLIENT  USER");
            }
            ls_row(cli, client);
        }
        *count += 1;
    }
    if (!mr_json_u64(mr_json_member(answer.json, "next"), after)) {
        *after = UINT64_MAX;
    }
    mr_answer_free(&answer);
    return MR_EXIT_OK;
}

static int ls_run(struct mr_cli *cli)
{
    uint64_t after = 0;
    uint64_t count = 0;
    int code = MR_EXIT_OK;

    while (code == MR_EXIT_OK && after != UINT64_MAX) {
        code = ls_page(cli, &after, &count);
    }
    if (code == MR_EXIT_OK && count == 0 && !mr_cli_flag(cli, "json")) {
        mr_cli_note(cli, mr_cli_given(cli, "filter") ? "no client that matches is connected"
                                                     : "no client is connected");
    }
    return code;
}

static int kick_run(struct mr_cli *cli)
{
    char *target = mr_alloc(TARGET_BYTES);
    struct mr_text text = mr_text_over(target, TARGET_BYTES);
    struct mr_answer answer = {0};

    mr_text_add(&text, "clients/kick?client=");
    mr_ask_escape(&text, mr_span_of(mr_cli_argument(cli, 0)));
    int code = text.truncated ? mr_cli_fail(cli, MR_EXIT_USAGE, "that id is too long")
                              : mr_ask(cli, "POST", target, &answer);
    if (code == MR_EXIT_OK) {
        mr_cli_note(cli, "sent away; it may connect again");
        mr_answer_free(&answer);
    }
    mr_free(target);
    return code;
}

static const struct mr_cli_option ls_options[] = {
    {.name = "filter",
     .type = MR_OPT_STR,
     .value = "PATTERN",
     .help = "Only clients whose id matches; * stands for anything."},
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per client."},
    {.name = NULL},
};

static const struct mr_command command_ls = {
    .name = "ls",
    .summary = "list the clients that are connected",
    .help = "RECEIVED and SENT count publishes since the client connected. QUEUED: messages\n"
            "that wait for it to take them.\n",
    .options = ls_options,
    .run = ls_run,
};

static const struct mr_command command_kick = {
    .name = "kick",
    .arguments = "CLIENT",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "end the connection of a client",
    .help = "A client of MQTT 5.0 is told so (reason 0x98). Its will is published. Nothing keeps\n"
            "it from connecting again.\n",
    .run = kick_run,
};

static const struct mr_command *const clients_commands[] = {&command_ls, &command_kick, NULL};

const struct mr_command mr_command_clients = {
    .name = "clients",
    .group = "Look",
    .summary = "who is connected; send one away",
    .subcommands = clients_commands,
};
