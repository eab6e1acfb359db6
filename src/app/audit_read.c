/* audit_read.c - the books and their ranges: beside a running gateway of /api/v1/ledger, without
 * one of the table of cursors, the file of ranges and the ends of the lanes.
 */
#include "app/audit.h"
#include "app/cli/ask.h"
#include "app/cli/ends.h"
#include "app/cli/walk.h"

#include <stdlib.h>

static bool is_wanted(const struct mr_audit *audit, const char *name)
{
    return audit->bridge == NULL || strcmp(audit->bridge, name) == 0;
}

static struct mr_ledger_row *row_add(struct mr_audit *audit, const char *name)
{
    if (!is_wanted(audit, name) || audit->count == MR_CURSORS_MAX) {
        return NULL;
    }
    struct mr_ledger_row *row = &audit->rows[audit->count++];
    struct mr_text text = mr_text_over(row->name, sizeof(row->name));

    mr_text_add(&text, name);
    return row;
}

/* As it stands there, negative ones too. */
static int64_t answer_i64(struct mr_span object, const char *name)
{
    struct mr_span value = mr_json_member(object, name);
    uint64_t magnitude = 0;
    bool negative = value.len != 0 && value.at[0] == '-';

    if (negative) {
        value = mr_span_make(value.at + 1, value.len - 1);
    }
    if (mr_parse_u64(value, INT64_MAX, &magnitude) != MR_OK) {
        return 0;
    }
    return negative ? -(int64_t)magnitude : (int64_t)magnitude;
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
    row->ahead = mr_answer_u64(object, "ahead");
    row->live_from = mr_answer_u64(object, "live_from");
    row->newest = mr_answer_u64(object, "durable");
    row->leads = mr_span_is(mr_json_member(object, "leads"), "true");
    row->books.begin = mr_answer_u64(object, "begin");
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        row->books.columns[i] = mr_answer_u64(object, mr_column_names[i]);
    }
    row->books.accepted = answer_i64(object, "accepted");
}

static struct mr_audit_range *range_add(struct mr_audit *audit, const char *name)
{
    if (!is_wanted(audit, name) || audit->range_count == MR_RANGES_MAX) {
        return NULL;
    }
    struct mr_audit_range *range = &audit->ranges[audit->range_count++];
    struct mr_text text = mr_text_over(range->name, sizeof(range->name));

    mr_text_add(&text, name);
    range->range.name = range->name;
    range->range.reason = range->reason;
    return range;
}

static void range_from_answer(struct mr_audit *audit, struct mr_span object)
{
    char name[MR_CURSOR_NAME_MAX + 1];
    char column[32];
    struct mr_audit_range *added =
        range_add(audit, mr_answer_text(object, "bridge", name, sizeof(name)));

    if (added == NULL) {
        return;
    }
    struct mr_range *range = &added->range;
    range->lane = (uint32_t)mr_answer_u64(object, "lane");
    range->from = mr_answer_u64(object, "from");
    range->to = mr_answer_u64(object, "to");
    range->accepted = answer_i64(object, "accepted");
    range->is_acceptance = mr_json_member(object, "accepted").len != 0;
    (void)mr_answer_text(object, "reason", added->reason, sizeof(added->reason));
    (void)mr_answer_text(object, "time", added->time, sizeof(added->time));
    (void)mr_answer_text(object, "column", column, sizeof(column));
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        if (strcmp(mr_column_names[i], column) == 0) {
            range->column = (enum mr_column)i;
        }
    }
}

static void range_from_file(void *arg, const struct mr_range *found)
{
    struct mr_audit_range *added = range_add(arg, found->name);

    if (added == NULL) {
        return;
    }
    struct mr_text reason = mr_text_over(added->reason, sizeof(added->reason));
    struct mr_text time = mr_text_over(added->time, sizeof(added->time));
    mr_text_add(&reason, found->reason);
    mr_text_time_us(&time, found->at_us);
    added->range = *found;
    added->range.name = added->name;
    added->range.reason = added->reason;
}

static void row_from_cursor(void *arg, const struct mr_books_row *found)
{
    struct mr_audit *audit = arg;
    struct mr_ledger_row *row = row_add(audit, found->name);

    if (row != NULL) {
        row->lane = found->lane_index;
        row->seq = found->seq;
        row->ahead = found->ahead;
        row->live_from = found->live_from;
        row->leads = mr_cursor_rule(found->cursor) == MR_CURSOR_LEADS;
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
    mr_ranges_list(journal, range_from_file, audit);
    mr_audit_drops_read(audit, journal);
    for (size_t i = 0; i < audit->count; i++) {
        struct mr_ledger_row *row = &audit->rows[i];
        uint64_t behind = 0;
        uint64_t known = 0; /* by any cursor, also where segments are missing */
        row->newest = mr_lane_newest(audit->path, row->lane);
        mr_cursors_known(journal, row->lane, &behind, &known);
        row->newest = row->newest < known ? known : row->newest;
        /* All of it was delivered, and retired. */
        uint64_t passed = row->ahead == 0 ? row->seq : row->live_from + row->ahead;
        row->newest = row->newest < passed ? passed : row->newest;
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
    audit->ranges = mr_alloc(MR_RANGES_MAX * sizeof(*audit->ranges));
    audit->range_count = 0;
    audit->drops = mr_alloc(MR_DROPS_MAX * sizeof(*audit->drops));
    audit->drop_count = 0;
    if (code == MR_EXIT_OK && running) {
        struct mr_span at = mr_json_member(answer.json, "ledger");
        (void)mr_answer_text(answer.json, "journal_id", audit->journal_id,
                             sizeof(audit->journal_id));
        while (mr_json_next(&at, &object)) {
            row_from_answer(audit, object);
        }
        at = mr_json_member(answer.json, "ranges");
        while (mr_json_next(&at, &object)) {
            range_from_answer(audit, object);
        }
        mr_audit_drops_take(audit, answer.json);
        mr_answer_free(&answer);
    } else if (code == MR_EXIT_OK) {
        code = mr_walk_journal_path(audit->cli, audit->path, sizeof(audit->path));
        code = code == MR_EXIT_OK ? rows_from_files(audit) : code;
    }
    qsort(audit->rows, audit->count, sizeof(*audit->rows), row_order);
    return code;
}

void mr_audit_free(struct mr_audit *audit)
{
    mr_free(audit->rows);
    mr_free(audit->ranges);
    mr_free(audit->drops);
    audit->rows = NULL;
    audit->ranges = NULL;
    audit->drops = NULL;
}
