/* explain.c - `millrace explain TOPIC [PAYLOAD]`: what each bridge would do with it.
 *
 * From the configuration alone: no gateway needs to run, nothing is sent, and the code
 * that decides is that of the running bridge (pipeline/explain.h).  Only how many partitions
 * a topic has is asked of the gateway, if one runs.
 */
#include "pipeline/explain.h"

#include "app/cli/ask.h"
#include "app/cli/show.h"
#include "app/gateway_internal.h"
#include "codec/topic.h"
#include "os/clock.h"

#include <inttypes.h>

static void put_line(struct mr_cli *cli, const char *what, struct mr_span text)
{
    (void)mr_cli_out(cli, "  %-10s  ", what);
    (void)mr_show_text(cli, text);
    (void)mr_cli_out(cli, "\n");
}

static const char *time_text(const struct mr_explained *explained, char *buffer, size_t size)
{
    static const char *const origins[] = {
        [MR_EXPLAINED_TIME_RECEIVED] = "when it is received",
        [MR_EXPLAINED_TIME_EVENT] = "the event's own",
        [MR_EXPLAINED_TIME_REPLACED] = "when it is received, because ",
    };
    struct mr_text text = mr_text_over(buffer, size);

    mr_text_time_us(&text, explained->time_ms * 1000);
    mr_text_fmt(&text, " (%s%s)", origins[explained->time_from],
                explained->time_reason == NULL ? "" : explained->time_reason);
    return buffer;
}

/* As given, or as the running gateway knows; 0: neither. */
static uint64_t partitions_of(struct mr_cli *cli, const char *bridge,
                              const struct mr_explained *explained)
{
    uint64_t given = mr_cli_number(cli, "partitions");
    char target[2048];
    struct mr_text text = mr_text_over(target, sizeof(target));
    struct mr_answer answer;
    bool running = false;

    if (given != 0 || explained->dest == NULL) {
        return given;
    }
    mr_text_add(&text, "bridges/partitions?name=");
    mr_ask_escape(&text, mr_span_of(bridge));
    mr_text_add(&text, "&topic=");
    mr_ask_escape(&text, mr_span_of(explained->dest));
    if (text.truncated || mr_ask_if_running(cli, "GET", target, &answer, &running) != MR_EXIT_OK ||
        !running) {
        return 0;
    }
    uint64_t known = mr_answer_u64(answer.json, "partitions");
    mr_answer_free(&answer);
    return known;
}

static void put_partition(struct mr_cli *cli, const struct mr_explained *explained,
                          uint64_t partitions)
{
    if (partitions == 0) {
        (void)mr_cli_out(cli,
                         "  %-10s  %" PRIu32 " modulo the number of partitions; a gateway that "
                         "runs and has sent to the topic knows it, or give --partitions N\n",
                         "partition", explained->partition_hash);
    } else {
        (void)mr_cli_out(cli, "  %-10s  %" PRIu64 " of 0 to %" PRIu64 "\n", "partition",
                         explained->partition_hash % partitions, partitions - 1);
    }
}

static void put_text(struct mr_cli *cli, const char *name, const struct mr_explained *explained)
{
    char buffer[512];

    if (explained->fate != MR_EXPLAINED_SEND) {
        (void)mr_cli_out(cli, "%s: %s: %s\n", name,
                         explained->fate == MR_EXPLAINED_SKIP ? "not carried" : "a dead letter",
                         explained->reason);
        return;
    }
    (void)mr_cli_out(cli, "%s: sent, matched by %s\n", name,
                     explained->filter == NULL ? "default (no `from`)" : explained->filter);
    put_line(cli, "topic", mr_span_of(explained->dest));
    put_line(cli, "key", explained->key.len == 0 ? mr_span_of("(none)") : explained->key);
    put_partition(cli, explained, partitions_of(cli, name, explained));
    put_line(cli, "time", mr_span_of(time_text(explained, buffer, sizeof(buffer))));
    for (uint16_t i = 0; i < explained->header_count; i++) {
        (void)mr_cli_out(cli, "  %-10s  ", i == 0 ? "headers" : "");
        (void)mr_show_text(cli, explained->headers[i].name);
        (void)mr_cli_out(cli, ": ");
        (void)mr_show_text(cli, explained->headers[i].value);
        (void)mr_cli_out(cli, "\n");
    }
    put_line(cli, "value", explained->value);
}

static void json_text(struct mr_cli *cli, const char *name, const char *text)
{
    (void)mr_cli_out(cli, ",\"%s\":", name);
    if (text == NULL) {
        (void)mr_cli_out(cli, "null");
    } else {
        (void)mr_cli_out_json(cli, text, strlen(text));
    }
}

static void json_span(struct mr_cli *cli, const char *name, struct mr_span text)
{
    (void)mr_cli_out(cli, ",\"%s\":", name);
    (void)mr_cli_out_json(cli, text.at, text.len);
}

static void put_json(struct mr_cli *cli, const char *name, const struct mr_explained *explained)
{
    static const char *const fates[] = {"send", "skip", "dead_letter"};

    (void)mr_cli_out(cli, "{\"fate\":\"%s\"", fates[explained->fate]);
    json_text(cli, "bridge", name);
    json_text(cli, "filter", explained->filter);
    json_text(cli, "reason", explained->reason);
    if (explained->fate == MR_EXPLAINED_SEND) {
        json_text(cli, "topic", explained->dest);
        json_span(cli, "key", explained->key);
        uint64_t partitions = partitions_of(cli, name, explained);
        if (partitions != 0) {
            (void)mr_cli_out(cli, ",\"partition\":%" PRIu64,
                             explained->partition_hash % partitions);
        }
        (void)mr_cli_out(cli, ",\"hash\":%" PRIu32 ",\"time\":%" PRId64 ",\"headers\":{",
                         explained->partition_hash, explained->time_ms);
        for (uint16_t i = 0; i < explained->header_count; i++) {
            const struct mr_header *header = &explained->headers[i];
            (void)mr_cli_out(cli, "%s", i == 0 ? "" : ",");
            (void)mr_cli_out_json(cli, header->name.at, header->name.len);
            (void)mr_cli_out(cli, ":");
            (void)mr_cli_out_json(cli, header->value.at, header->value.len);
        }
        (void)mr_cli_out(cli, "}");
        json_span(cli, "value", explained->value);
    }
    (void)mr_cli_out(cli, "}\n");
}

static struct mr_explain_event event_of(struct mr_cli *cli)
{
    const char *client = mr_cli_text(cli, "client");
    const char *username = mr_cli_text(cli, "username");
    bool has_payload = mr_cli_argument_count(cli) > 1;

    return (struct mr_explain_event){
        .client = mr_span_of(client),
        .username = mr_span_of(username == NULL ? "" : username),
        .topic = mr_span_of(mr_cli_argument(cli, 0)),
        .payload = mr_span_of(has_payload ? mr_cli_argument(cli, 1) : ""),
        .received_us = mr_clock_wall_us(),
        .seq = 1,
        .qos = (uint8_t)mr_cli_number(cli, "qos"),
        .retain = mr_cli_flag(cli, "retain"),
    };
}

/* MR_EXIT_FAILED: it would be a dead letter. */
static int explain_bridge(struct mr_cli *cli, const struct mr_bridge_settings *bridge,
                          const struct mr_explain_event *event)
{
    const struct mr_explain_options options = {.name = bridge->name,
                                               .conf = &bridge->conf,
                                               .sink = bridge->sink,
                                               .sink_conf = bridge->sink_conf};
    struct mr_explain *explain = NULL;
    struct mr_explained explained;
    struct mr_error why;

    if (mr_explain_open(&explain, &options, &why) != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_CONFIG, "%s", why.text);
    }
    mr_explain(explain, event, &explained);
    if (mr_cli_flag(cli, "json")) {
        put_json(cli, bridge->name, &explained);
    } else {
        put_text(cli, bridge->name, &explained);
        if (explained.fate == MR_EXPLAINED_SEND && bridge->conf.drain == MR_DRAIN_LIVE_FIRST) {
            put_line(cli, "drain",
                     mr_span_of("live_first; overtaken by fresh events it carries the "
                                "header " MR_BACKFILL_HEADER ": 1 besides"));
        }
    }
    mr_explain_close(explain);
    return explained.fate == MR_EXPLAINED_DEAD ? MR_EXIT_FAILED : MR_EXIT_OK;
}

static int explain_all(struct mr_cli *cli, struct mr_settings *settings)
{
    struct mr_explain_event event = event_of(cli);
    const char *fault = mr_topic_name_fault(event.topic);
    int code = MR_EXIT_OK;

    if (fault != NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "'%s' is no topic to publish to: %s",
                           mr_cli_argument(cli, 0), fault);
    }
    if (settings->bridge_count == 0) {
        mr_cli_note(cli, "there are no bridges; the event stays in the journal");
    }
    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        int one = explain_bridge(cli, &settings->bridges[i], &event);
        code = one > code ? one : code;
    }
    return code;
}

static int explain_run(struct mr_cli *cli)
{
    struct mr_settings settings;
    int code = MR_EXIT_CONFIG;

    if (mr_wire_settings(cli, &settings, NULL) == MR_OK) {
        code = explain_all(cli, &settings);
    }
    mr_settings_close(&settings);
    return code;
}

static const struct mr_cli_option explain_options[] = {
    {.name = "client",
     .type = MR_OPT_STR,
     .value = "ID",
     .default_text = "client",
     .help = "Client id of the device."},
    {.name = "username", .type = MR_OPT_STR, .value = "NAME", .help = "Its user name."},
    {.name = "qos",
     .type = MR_OPT_U64,
     .value = "N",
     .default_text = "1",
     .max = 2,
     .help = "QoS of the PUBLISH."},
    {.name = "retain", .type = MR_OPT_BOOL, .help = "With RETAIN."},
    {.name = "partitions",
     .type = MR_OPT_U64,
     .value = "N",
     .min = 1,
     .max = 1000000,
     .help = "Partitions of the Kafka topic, to name the one; else a running gateway is asked."},
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per bridge."},
    {.name = NULL},
};

const struct mr_command mr_command_explain = {
    .name = "explain",
    .group = "Look",
    .arguments = "TOPIC [PAYLOAD]",
    .arguments_min = 1,
    .arguments_max = 2,
    .summary = "show what each bridge would do with an event, and why",
    .help =
        "From the configuration alone (-c FILE); nothing is sent, and only how many partitions\n"
        "a topic has is asked of the gateway, if one runs. Exit code 1: some bridge\n"
        "would make it a dead letter.\n\n"
        "  millrace explain -c millrace.yaml plant/temp/7 '{\"v\":21.5}' --client press-7\n",
    .options = explain_options,
    .run = explain_run,
};
