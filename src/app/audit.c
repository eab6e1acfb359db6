/* audit.c - `millrace audit [BRIDGE]`: do the books balance?
 *
 * Beside a running gateway it asks /api/v1/ledger, without one it reads the table of cursors
 * and the ends of the lanes.
 */
#include "app/audit.h"

#include "app/cli/ask.h"
#include "app/cli/ends.h"
#include "app/cli/walk.h"
#include "app/gateway_internal.h"
#include "sink/kafka/kafka.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- reading ---- */

static struct mr_ledger_row *row_add(struct mr_audit *audit, const char *name)
{
    if ((audit->bridge != NULL && strcmp(audit->bridge, name) != 0) ||
        audit->count == MR_CURSORS_MAX) {
        return NULL;
    }
    struct mr_ledger_row *row = &audit->rows[audit->count++];
    struct mr_text text = mr_text_over(row->name, sizeof(row->name));

    mr_text_add(&text, name);
    return row;
}

static void row_from_answer(struct mr_audit *audit, struct mr_span object)
{
    char name[MR_CURSOR_NAME_MAX + 1];
    struct mr_ledger_row *row =
        row_add(audit, mr_answer_text(object, "bridge", name, sizeof(name)));

    if (row == NULL) {
        return;
    }
    row->lane = (uint32_t)mr_answer_u64(object, "lane");
    row->seq = mr_answer_u64(object, "cursor");
    row->newest = mr_answer_u64(object, "durable");
    row->books.begin = mr_answer_u64(object, "begin");
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        row->books.columns[i] = mr_answer_u64(object, mr_column_names[i]);
    }
}

static void row_from_cursor(void *arg, const struct mr_books_row *found)
{
    struct mr_audit *audit = arg;
    struct mr_ledger_row *row = row_add(audit, found->name);

    if (row != NULL) {
        row->lane = found->lane_index;
        row->seq = found->seq;
        row->books = found->books;
    }
}

static int row_order(const void *a, const void *b)
{
    const struct mr_ledger_row *x = a;
    const struct mr_ledger_row *y = b;
    int by_name = strcmp(x->name, y->name);

    if (by_name != 0) {
        return by_name;
    }
    return x->lane < y->lane ? -1 : x->lane > y->lane;
}

/* No gateway answers: the files.  The cursors first and the lanes then. */
static int rows_from_files(struct mr_audit *audit)
{
    struct mr_journal *journal = NULL;
    struct mr_error why;
    const struct mr_journal_options options = {
        .path = audit->path, .name = "journal", .read_only = true, .cursors_only = true};
    enum mr_err err = mr_journal_open(&journal, &options, NULL, &why);

    if (err != MR_OK) {
        return mr_cli_fail(audit->cli, err == MR_ERR_CONFIG ? MR_EXIT_DATA : MR_EXIT_IO, "%s",
                           why.text);
    }
    mr_journal_id_text(mr_journal_identity(journal), audit->journal_id);
    mr_books_list(journal, row_from_cursor, audit);
    for (size_t i = 0; i < audit->count; i++) {
        struct mr_ledger_row *row = &audit->rows[i];
        row->newest = mr_lane_newest(audit->path, row->lane);
        /* All of it was delivered, and retired. */
        row->newest = row->newest < row->seq ? row->seq : row->newest;
    }
    (void)mr_journal_close(journal); /* nothing was written */
    return MR_EXIT_OK;
}

int mr_audit_read(struct mr_audit *audit)
{
    struct mr_answer answer;
    struct mr_span object;
    bool running = false;
    int code = mr_ask_if_running(audit->cli, "GET", "ledger", &answer, &running);

    audit->rows = mr_alloc(MR_CURSORS_MAX * sizeof(*audit->rows));
    audit->count = 0;
    if (code == MR_EXIT_OK && running) {
        struct mr_span at = mr_json_member(answer.json, "ledger");
        (void)mr_answer_text(answer.json, "journal_id", audit->journal_id,
                             sizeof(audit->journal_id));
        while (mr_json_next(&at, &object)) {
            row_from_answer(audit, object);
        }
        mr_answer_free(&answer);
    } else if (code == MR_EXIT_OK) {
        code = mr_walk_journal_path(audit->cli, audit->path, sizeof(audit->path));
        code = code == MR_EXIT_OK ? rows_from_files(audit) : code;
    }
    qsort(audit->rows, audit->count, sizeof(*audit->rows), row_order);
    return code;
}

/* ---- showing ---- */

static const char *const headings[MR_COLUMNS] = {
    [MR_COLUMN_DELIVERED] = "DELIVERED", [MR_COLUMN_SKIPPED] = "SKIPPED",
    [MR_COLUMN_DEAD_LETTERS] = "DEAD",   [MR_COLUMN_LOST] = "LOST",
    [MR_COLUMN_GIVEN_UP] = "GIVEN UP",   [MR_COLUMN_CONTROL] = "CONTROL",
    [MR_COLUMN_CONFIRMED] = "CONFIRMED", [MR_COLUMN_REPEATED] = "-REPEATED",
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
    int64_t difference = mr_books_difference(&row->books, row->seq);
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
    if (difference == 0) {
        (void)mr_cli_out(cli, "  %10s  ok\n", pending);
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
        unbalanced += mr_books_difference(&row->books, row->seq) != 0;
    }
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
    size_t unbalanced = rows_show(audit);
    if (unbalanced != 0) {
        return mr_cli_fail(audit->cli, MR_EXIT_FAILED,
                           "%zu of %zu do not balance: records were passed without a verdict, or "
                           "counted twice; look at the gateway's log, and report it",
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
    int code = audit_do(&audit);

    mr_free(audit.rows);
    return code;
}

static const struct mr_cli_option audit_options[] = {
    {.name = "kafka",
     .type = MR_OPT_BOOL,
     .help = "Read the topics back and compare; needs the configuration (-c FILE)."},
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per bridge and lane."},
    {.name = NULL},
};

const struct mr_command mr_command_audit = {
    .name = "audit",
    .group = "Look",
    .arguments = "[BRIDGE]",
    .arguments_max = 1,
    .summary = "balance the books: what became of every record",
    .help = "RECEIVED = DELIVERED + SKIPPED + DEAD + LOST + GIVEN UP + CONTROL + CONFIRMED\n"
            "- REPEATED + PENDING, since the bridge began, per bridge and lane. GIVEN UP: a seek\n"
            "passed over them. CONTROL: no events. CONFIRMED: the target's own position said so\n"
            "after a crash (exactly_once). REPEATED: a seek went back over them. Works beside a\n"
            "running gateway and without one. Exit code 1: they do not balance.\n\n"
            "--kafka reads everything back at read_committed. With `headers: id` (or full) each\n"
            "event is looked for by its millrace_id: FOUND must be what the books say, none\n"
            "unknown, all in order, with exactly_once none twice. Without ids the records are\n"
            "counted. With exactly_once the position record is compared too. What could not be\n"
            "checked is said, with the reason.\n\n"
            "  millrace audit -c millrace.yaml --kafka\n",
    .options = audit_options,
    .run = audit_run,
};
