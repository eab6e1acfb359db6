/* cursors.c - `millrace journal cursors | forget`: who holds the journal.
 *
 * Both look at the table of cursors only, so neither recovers a journal nor needs the
 * time for it.  `cursors` works beside a running gateway.  `forget` takes the journal's
 * lock even for its dry run: what it then says is what --yes will do.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "app/cli/ends.h"
#include "app/cli/walk.h"
#include "base/text.h"
#include "config/config.h"
#include "journal/cursor.h"
#include "os/file.h"

enum { PATH_BYTES = 4096, LIST_BYTES = 1024 };

struct held {
    char name[MR_CURSOR_NAME_MAX + 1];
    uint32_t lane;
    uint64_t seq;
    uint64_t newest; /* seq on disk of its lane; MR_SEQ_UNKNOWN: that cannot be told */
};

struct table {
    struct mr_journal *journal;
    struct mr_file lock; /* of a dry run */
    struct held *rows;   /* by name and lane */
    size_t count;
    char path[PATH_BYTES]; /* the journal's folder */
};

/* ---- reading ---- */

static void table_add(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    struct table *table = arg;
    struct held *row = &table->rows[table->count];
    struct mr_text text = mr_text_over(row->name, sizeof(row->name));

    mr_assert(table->count < MR_CURSORS_MAX);
    mr_text_add(&text, name);
    row->lane = lane;
    row->seq = seq;
    table->count += 1;
}

static int held_order(const void *a, const void *b)
{
    const struct held *x = a;
    const struct held *y = b;
    int by_name = strcmp(x->name, y->name);

    if (by_name != 0) {
        return by_name;
    }
    return x->lane < y->lane ? -1 : x->lane > y->lane;
}

/* The cursors first and the segments then, so that a running gateway makes no cursor
 * look further than its lane.
 */
static void table_fill(struct table *table)
{
    uint32_t lane_count = mr_journal_lane_total(table->journal);
    uint64_t *newest = mr_alloc(lane_count * sizeof(*newest));

    table->rows = mr_alloc(MR_CURSORS_MAX * sizeof(*table->rows));
    mr_cursor_list(table->journal, table_add, table);
    qsort(table->rows, table->count, sizeof(*table->rows), held_order);
    for (uint32_t lane = 0; lane < lane_count; lane++) {
        newest[lane] = mr_lane_newest(table->path, lane);
    }
    for (size_t i = 0; i < table->count; i++) {
        table->rows[i].newest = newest[table->rows[i].lane];
    }
    mr_free(newest);
}

static void table_close(struct table *table)
{
    if (table->journal != NULL) {
        (void)mr_journal_close(table->journal); /* what was changed is synced */
    }
    mr_file_close(&table->lock);
    mr_free(table->rows);
}

static enum mr_err table_open(struct table *table, bool read_only, struct mr_error *why)
{
    struct mr_journal *journal = NULL;
    const struct mr_journal_options options = {
        .path = table->path,
        .name = "journal",
        .read_only = read_only,
        .cursors_only = true,
    };
    enum mr_err err = mr_journal_open(&journal, &options, NULL, why);

    if (err == MR_OK) {
        table->journal = journal;
        table_fill(table);
    }
    return err;
}

static int table_failed(struct mr_cli *cli, enum mr_err err, const struct mr_error *why)
{
    if (err == MR_ERR_AGAIN) {
        return mr_cli_fail(cli, MR_EXIT_TRY_AGAIN,
                           "a cursor can be forgotten only while the gateway is stopped: %s",
                           why->text);
    }
    return mr_cli_fail(cli, err == MR_ERR_CONFIG ? MR_EXIT_DATA : MR_EXIT_IO, "%s", why->text);
}

/* ---- cursors ---- */

/* Records behind it; "?" where its lane cannot tell. */
static void lag_text(const struct held *row, const char *unknown, struct mr_text *out)
{
    if (row->newest == MR_SEQ_UNKNOWN) {
        mr_text_add(out, unknown);
    } else {
        mr_text_fmt(out, "%" PRIu64, row->newest > row->seq ? row->newest - row->seq : 0);
    }
}

static void cursors_row(struct mr_cli *cli, const struct held *row)
{
    char lag_buffer[24];
    struct mr_text lag = mr_text_over(lag_buffer, sizeof(lag_buffer));

    if (mr_cli_flag(cli, "json")) {
        lag_text(row, "null", &lag);
        (void)mr_cli_out(cli, "{\"name\":");
        (void)mr_cli_out_json(cli, row->name, strlen(row->name));
        (void)mr_cli_out(cli, ",\"lane\":%" PRIu32 ",\"seq\":%" PRIu64 ",\"lag\":%s}\n", row->lane,
                         row->seq, lag_buffer);
        return;
    }
    lag_text(row, "?", &lag);
    (void)mr_cli_out(cli, "%-24s  %4" PRIu32 "  %12" PRIu64 "  %12s\n", row->name, row->lane,
                     row->seq, lag_buffer);
}

static int cursors_run(struct mr_cli *cli)
{
    struct table table = {.lock = {.fd = -1}};
    struct mr_error why = {.text = ""};
    int code = mr_walk_journal_path(cli, table.path, sizeof(table.path));

    if (code != MR_EXIT_OK) {
        return code;
    }
    enum mr_err err = table_open(&table, true, &why);
    if (err != MR_OK) {
        code = table_failed(cli, err, &why);
    } else if (table.count == 0) {
        mr_cli_note(cli, "no bridge has a cursor in %s", table.path);
    } else if (!mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli, "%-24s  %4s  %12s  %12s\n", "NAME", "LANE", "SEQ", "LAG");
    }
    for (size_t i = 0; i < table.count; i++) {
        cursors_row(cli, &table.rows[i]);
    }
    table_close(&table);
    return code;
}

/* ---- forget ---- */

static int forget_unknown(struct mr_cli *cli, const struct table *table, const char *name)
{
    const char **names = mr_alloc((table->count + 1) * sizeof(*names));
    char list_buffer[LIST_BYTES];
    struct mr_text list = mr_text_over(list_buffer, sizeof(list_buffer));
    size_t count = 0;
    int code;

    for (size_t i = 0; i < table->count; i++) {
        if (count == 0 || strcmp(names[count - 1], table->rows[i].name) != 0) {
            mr_text_fmt(&list, "%s'%s'", count == 0 ? "" : ", ", table->rows[i].name);
            names[count] = table->rows[i].name;
            count += 1;
        }
    }
    const char *near = mr_config_nearest(name, names);
    if (count == 0) {
        code = mr_cli_fail(cli, MR_EXIT_NO_INPUT, "no bridge has a cursor in %s", table->path);
    } else if (near != NULL) {
        code = mr_cli_fail(cli, MR_EXIT_NO_INPUT, "there is no cursor '%s': did you mean '%s'?",
                           name, near);
    } else {
        code = mr_cli_fail(cli, MR_EXIT_NO_INPUT, "there is no cursor '%s'; there are: %s", name,
                           list_buffer);
    }
    mr_free(names);
    return code;
}

/* What the cursors called `name` hold. */
static void forget_show(struct mr_cli *cli, const struct table *table, const char *name,
                        const char *verb)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct held *row = &table->rows[i];
        char lag_buffer[24];
        struct mr_text lag = mr_text_over(lag_buffer, sizeof(lag_buffer));

        if (strcmp(row->name, name) == 0) {
            lag_text(row, "?", &lag);
            (void)mr_cli_out(cli,
                             "%s '%s': lane %" PRIu32 ", seq %" PRIu64
                             ", %s records behind it that it has not delivered\n",
                             verb, name, row->lane, row->seq, lag_buffer);
        }
    }
}

static bool table_has(const struct table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->rows[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int forget_do(struct mr_cli *cli, struct table *table, const char *name, bool yes)
{
    if (!table_has(table, name)) {
        return forget_unknown(cli, table, name);
    }
    if (!yes) {
        forget_show(cli, table, name, "would forget");
        mr_cli_note(cli, "nothing was changed; add --yes to do it");
        return MR_EXIT_OK;
    }
    if (mr_cursor_forget(table->journal, name) != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_IO, "%s/cursors cannot be written: %s; check the disk",
                           table->path, mr_file_last_cause());
    }
    forget_show(cli, table, name, "forgot");
    mr_cli_note(cli, "the gateway frees the room when it runs");
    return MR_EXIT_OK;
}

static int forget_run(struct mr_cli *cli)
{
    struct table table = {.lock = {.fd = -1}};
    struct mr_error why = {.text = ""};
    bool yes = mr_cli_flag(cli, "yes");
    int code = mr_walk_journal_path(cli, table.path, sizeof(table.path));

    if (code != MR_EXIT_OK) {
        return code;
    }
    /* A dry run writes nothing, so the journal does not take the lock for it. */
    enum mr_err err = yes ? MR_OK : mr_dir_lock(table.path, &table.lock, &why);
    if (err == MR_OK) {
        err = table_open(&table, !yes, &why);
    }
    code = err == MR_OK ? forget_do(cli, &table, mr_cli_argument(cli, 0), yes)
                        : table_failed(cli, err, &why);
    table_close(&table);
    return code;
}

/* ---- tables ---- */

static const struct mr_cli_option cursors_options[] = {
    {.name = "json", .type = MR_OPT_BOOL, .help = "One JSON object per cursor."},
    {.name = NULL},
};

static const struct mr_cli_option forget_options[] = {
    {.name = "yes", .type = MR_OPT_BOOL, .help = "Do it; without this it only says what it would."},
    {.name = NULL},
};

const struct mr_command mr_command_journal_cursors = {
    .name = "cursors",
    .summary = "list how far each bridge is",
    .help = "SEQ: everything up to it is delivered; LAG: records on disk behind it. A cursor\n"
            "holds the journal from its SEQ on. Works beside a running gateway and without\n"
            "one.\n",
    .options = cursors_options,
    .run = cursors_run,
};

const struct mr_command mr_command_journal_forget = {
    .name = "forget",
    .arguments = "NAME",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "free the journal from a bridge that is gone",
    .help = "For a bridge that was taken out of the configuration: its cursor would hold the\n"
            "journal until it is full. A bridge of that name begins anew when there is one\n"
            "again. Only while the gateway is stopped (exit code 75: it is not).\n",
    .options = forget_options,
    .run = forget_run,
};
