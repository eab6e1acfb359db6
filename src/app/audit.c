/* audit.c - `millrace audit [BRIDGE]`: do the books balance?
 *
 * And what the operator has to say to it (--accept).
 */
#include "app/audit.h"

#include "app/cli/ends.h"
#include "app/gateway_internal.h"
#include "sink/kafka/kafka.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- showing ---- */

static const char *const headings[MR_COLUMNS] = {
    [MR_COLUMN_DELIVERED] = "DELIVERED", [MR_COLUMN_SKIPPED] = "SKIPPED",
    [MR_COLUMN_DEAD_LETTERS] = "DEAD",   [MR_COLUMN_LOST] = "LOST",
    [MR_COLUMN_GIVEN_UP] = "GIVEN UP",   [MR_COLUMN_CONTROL] = "CONTROL",
    [MR_COLUMN_CONFIRMED] = "CONFIRMED", [MR_COLUMN_REPEATED] = "-REPEATED",
    [MR_COLUMN_DROPPED] = "DROPPED",
};

static void put_heading(struct mr_cli *cli)
{
    (void)mr_cli_out(cli, "%-16s  %4s  %12s", "BRIDGE", "LANE", "RECEIVED");
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        (void)mr_cli_out(cli, "  %10s", headings[i]);
    }
    (void)mr_cli_out(cli, "  %10s  %s\n", "PENDING", "BALANCE");
}

static void put_row(struct mr_cli *cli, const struct mr_ledger_row *row)
{
    int64_t difference = mr_ledger_difference(row);
    bool known = row->newest != MR_SEQ_UNKNOWN;
    char received[24] = "?";
    char pending[24] = "?";
    struct mr_text text = mr_text_over(received, sizeof(received));

    if (known) {
        mr_text_fmt(&text, "%" PRIu64, mr_ledger_received(row));
        text = mr_text_over(pending, sizeof(pending));
        mr_text_fmt(&text, "%" PRIu64, mr_ledger_pending(row));
    }
    (void)mr_cli_out(cli, "%-16s  %4" PRIu32 "  %12s", row->name, row->lane, received);
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        (void)mr_cli_out(cli, "  %10" PRIu64, row->books.columns[i]);
    }
    if (difference == 0 && row->books.accepted == 0) {
        (void)mr_cli_out(cli, "  %10s  ok\n", pending);
    } else if (difference == 0) {
        (void)mr_cli_out(cli, "  %10s  off by %" PRId64 ", accepted\n", pending,
                         row->books.accepted);
    } else {
        (void)mr_cli_out(cli, "  %10s  off by %" PRId64 "\n", pending, difference);
    }
}

static void put_json(struct mr_cli *cli, const struct mr_ledger_row *row)
{
    char line[2048];
    struct mr_text text = mr_text_over(line, sizeof(line));

    mr_ledger_put(&text, row);
    (void)mr_cli_out(cli, "%s\n", line);
}

/* Where cursors were put, and what was accepted. */
static void ranges_show(const struct mr_audit *audit)
{
    struct mr_cli *cli = audit->cli;
    char line[2048];

    for (size_t i = 0; i < audit->range_count; i++) {
        const struct mr_audit_range *one = &audit->ranges[i];
        const struct mr_range *range = &one->range;
        uint64_t low = range->from < range->to ? range->from : range->to;
        uint64_t high = range->from < range->to ? range->to : range->from;
        if (mr_cli_flag(cli, "json")) {
            struct mr_text text = mr_text_over(line, sizeof(line));
            mr_ledger_put_range(&text, range, one->time);
            (void)mr_cli_out(cli, "{\"range\":%s}\n", line);
        } else if (range->is_acceptance && range->accepted == 0) {
            (void)mr_cli_out(cli,
                             "%s  %s, lane %" PRIu32 ": repetitions up to record %" PRIu64
                             ", accepted: %s\n",
                             one->time, one->name, range->lane, range->to, one->reason);
        } else if (range->is_acceptance) {
            (void)mr_cli_out(cli,
                             "%s  %s, lane %" PRIu32 ": off by %" PRId64 " at record %" PRIu64
                             ", accepted: %s\n",
                             one->time, one->name, range->lane, range->accepted, range->from,
                             one->reason);
        } else {
            (void)mr_cli_out(
                cli, "%s  %s, lane %" PRIu32 ": records %" PRIu64 " to %" PRIu64 " %s\n", one->time,
                one->name, range->lane, low + 1, high, mr_column_names[range->column]);
        }
    }
}

/* How many do not balance. */
static size_t rows_show(const struct mr_audit *audit)
{
    bool json = mr_cli_flag(audit->cli, "json");
    size_t unbalanced = 0;

    if (!json && audit->count != 0) {
        put_heading(audit->cli);
    }
    for (size_t i = 0; i < audit->count; i++) {
        const struct mr_ledger_row *row = &audit->rows[i];
        if (json) {
            put_json(audit->cli, row);
        } else {
            put_row(audit->cli, row);
        }
        unbalanced += mr_ledger_difference(row) != 0;
    }
    ranges_show(audit);
    mr_audit_drops_show(audit);
    return unbalanced;
}

/* Every Kafka bridge that is asked for. */
static int audit_kafka(const struct mr_audit *audit)
{
    struct mr_settings settings;
    bool any = false;
    int code = MR_EXIT_CONFIG;

    if (mr_wire_settings(audit->cli, &settings, NULL) == MR_OK) {
        code = MR_EXIT_OK;
        for (uint32_t i = 0; i < settings.bridge_count; i++) {
            const struct mr_bridge_settings *bridge = &settings.bridges[i];
            if (bridge->sink == &mr_kafka_sink &&
                (audit->bridge == NULL || strcmp(audit->bridge, bridge->name) == 0)) {
                int one = mr_audit_kafka(audit, &settings, bridge);
                code = one > code ? one : code;
                any = true;
            }
        }
        if (!any) {
            code =
                mr_cli_fail(audit->cli, MR_EXIT_NO_INPUT,
                            "the configuration has no such bridge to Kafka; give it with -c FILE");
        }
    }
    mr_settings_close(&settings);
    return code;
}

static int audit_do(struct mr_audit *audit)
{
    int code = mr_audit_read(audit);

    if (code != MR_EXIT_OK) {
        return code;
    }
    if (audit->count == 0 && audit->bridge != NULL) {
        return mr_cli_fail(audit->cli, MR_EXIT_NO_INPUT,
                           "there is no bridge '%s' in this journal; `millrace journal cursors` "
                           "lists them",
                           audit->bridge);
    }
    if (audit->count == 0) {
        mr_cli_note(audit->cli, "no bridge has a cursor; the journal is all there is");
    }
    if (mr_cli_flag(audit->cli, "accept")) {
        return mr_audit_accept(audit);
    }
    size_t unbalanced = rows_show(audit);
    if (unbalanced != 0) {
        return mr_cli_fail(audit->cli, MR_EXIT_FAILED,
                           "%zu of %zu do not balance: records were passed without a verdict, or "
                           "counted twice; look at the gateway's log, and report it; when you "
                           "know what it was: millrace audit BRIDGE --accept --reason \"...\"",
                           unbalanced, audit->count);
    }
    return mr_cli_flag(audit->cli, "kafka") ? audit_kafka(audit) : MR_EXIT_OK;
}

static int audit_run(struct mr_cli *cli)
{
    struct mr_audit audit = {
        .cli = cli,
        .bridge = mr_cli_argument_count(cli) == 0 ? NULL : mr_cli_argument(cli, 0),
    };
    bool accept = mr_cli_flag(cli, "accept");

    if (!accept && (mr_cli_argument_count(cli) > 1 || mr_cli_given(cli, "reason"))) {
        return mr_cli_fail(cli, MR_EXIT_USAGE,
                           "LANE and --reason go with --accept; without it all lanes are shown");
    }
    int code = audit_do(&audit);

    mr_audit_free(&audit);
    return code;
}

static const struct mr_cli_option audit_options[] = {
    {.name = "kafka",
     .type = MR_OPT_BOOL,
     .help = "Read the topics back and compare; needs the configuration (-c FILE)."},
    {.name = "json",
     .type = MR_OPT_BOOL,
     .help = "One JSON object per bridge and lane, then one per range."},
    {.name = "accept",
     .type = MR_OPT_BOOL,
     .help = "What does not balance now (with --kafka: what is there twice) was looked at."},
    {.name = "reason", .type = MR_OPT_STR, .help = "With --accept: what it was."},
    {.name = NULL},
};

const struct mr_command mr_command_audit = {
    .name = "audit",
    .group = "Look",
    .arguments = "[BRIDGE [LANE]]",
    .arguments_max = 2,
    .summary = "balance the books: what became of every record",
    .help = "RECEIVED = DELIVERED + SKIPPED + DEAD + LOST + GIVEN UP + CONTROL + CONFIRMED\n"
            "+ DROPPED - REPEATED + PENDING, since the bridge began, per bridge and lane. GIVEN "
            "UP: a seek\n"
            "passed over them. CONTROL: no events. CONFIRMED: the target's own position said so\n"
            "after a crash (exactly_once). REPEATED: a seek went back over them. DROPPED: passed\n"
            "over for want of room. Below stands where cursors were put by hand or by a target.\n"
            "Works beside a running gateway and without one. Exit code 1: they do not balance.\n"
            "--accept (of one lane with LANE): it was looked at; that is noted with the reason.\n"
            "With --kafka: repetitions up to here are of at_least_once, before exactly_once.\n\n"
            "--kafka reads everything back at read_committed. With `headers: id` (or full) each\n"
            "event is looked for by its millrace_id: FOUND must be what the books say, none\n"
            "unknown, all in order, with exactly_once none twice. Without ids the records are\n"
            "counted. With exactly_once the position record is compared too. What could not be\n"
            "checked is said, with the reason.\n\n"
            "  millrace audit -c millrace.yaml --kafka\n",
    .options = audit_options,
    .run = audit_run,
};
