/* ledger.c - see ledger.h. */
#include "app/ledger.h"

#include "app/gateway_internal.h"
#include "codec/json.h"

#include <inttypes.h>

/* Modulo 2^64 where a journal was put back to an older state; then it does not balance. */
uint64_t mr_ledger_received(const struct mr_ledger_row *row)
{
    return row->newest - row->books.begin;
}

uint64_t mr_ledger_pending(const struct mr_ledger_row *row)
{
    uint64_t passed = row->seq + row->ahead;

    return row->newest > passed ? row->newest - passed : 0;
}

bool mr_ledger_is_of(const struct mr_ledger_row *row, const char *name, uint32_t lane)
{
    return row->lane == lane && strcmp(row->name, name) == 0;
}

int64_t mr_ledger_difference(const struct mr_ledger_row *row)
{
    return mr_books_difference(&row->books, row->seq + row->ahead);
}

/* `null` where the lane's end cannot be told. */
static void put_end(struct mr_text *out, const char *name, const struct mr_ledger_row *row,
                    uint64_t value)
{
    if (row->newest == UINT64_MAX) {
        mr_text_fmt(out, ",\"%s\":null", name);
    } else {
        mr_text_fmt(out, ",\"%s\":%" PRIu64, name, value);
    }
}

void mr_ledger_put(struct mr_text *out, const struct mr_ledger_row *row)
{
    int64_t difference = mr_ledger_difference(row);

    mr_text_add(out, "{\"bridge\":");
    mr_json_add_string(out, mr_span_of(row->name));
    mr_text_fmt(out, ",\"lane\":%" PRIu32 ",\"begin\":%" PRIu64 ",\"cursor\":%" PRIu64, row->lane,
                row->books.begin, row->seq);
    mr_text_fmt(out, ",\"live_from\":%" PRIu64 ",\"ahead\":%" PRIu64, row->live_from, row->ahead);
    mr_text_fmt(out, ",\"leads\":%s", row->leads ? "true" : "false");
    put_end(out, "durable", row, row->newest);
    put_end(out, "received", row, mr_ledger_received(row));
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        mr_text_fmt(out, ",\"%s\":%" PRIu64, mr_column_names[i], row->books.columns[i]);
    }
    put_end(out, "pending", row, mr_ledger_pending(row));
    mr_text_fmt(out, ",\"balanced\":%s,\"difference\":%" PRId64 ",\"accepted\":%" PRId64 "}",
                difference == 0 ? "true" : "false", difference, row->books.accepted);
}

void mr_ledger_put_range(struct mr_text *out, const struct mr_range *range, const char *time)
{
    mr_text_add(out, "{\"bridge\":");
    mr_json_add_string(out, mr_span_of(range->name));
    mr_text_fmt(out, ",\"lane\":%" PRIu32 ",\"time\":\"%s\",\"from\":%" PRIu64 ",\"to\":%" PRIu64,
                range->lane, time, range->from, range->to);
    if (range->is_acceptance) {
        mr_text_fmt(out, ",\"accepted\":%" PRId64 ",\"reason\":", range->accepted);
        mr_json_add_string(out, mr_span_of(range->reason));
        mr_text_add(out, "}");
    } else {
        mr_text_fmt(out, ",\"column\":\"%s\"}", mr_column_names[range->column]);
    }
}

void mr_ledger_put_drop(struct mr_text *out, const struct mr_drop *drop)
{
    mr_text_add(out, "{\"bridge\":");
    mr_json_add_string(out, mr_span_of(drop->name));
    mr_text_fmt(out,
                ",\"lane\":%" PRIu32 ",\"first\":%" PRIu64 ",\"last\":%" PRIu64
                ",\"since_us\":%" PRId64 ",\"until_us\":%" PRId64 ",\"reason\":\"%s\"}",
                drop->lane, drop->seq_first, drop->seq_last, drop->first_us, drop->last_us,
                mr_drop_reasons[drop->reason]);
}

struct page {
    struct mr_text *text;
    bool any;
    bool balances;
};

static void on_row(void *arg, const struct mr_books_row *found)
{
    struct page *page = arg;
    struct mr_ledger_row row = {.lane = found->lane_index,
                                .seq = found->seq,
                                .ahead = found->ahead,
                                .live_from = found->live_from,
                                .leads = mr_cursor_rule(found->cursor) == MR_CURSOR_LEADS,
                                .books = found->books};
    struct mr_text name = mr_text_over(row.name, sizeof(row.name));

    page->balances = page->balances && mr_ledger_difference(&row) == 0;
    mr_text_add(&name, found->name);
    row.newest = mr_lane_durable(found->lane); /* after the cursor, so not below it */
    mr_text_add(page->text, page->any ? "," : "");
    mr_ledger_put(page->text, &row);
    page->any = true;
}

static void on_range(void *arg, const struct mr_range *range)
{
    struct page *page = arg;
    char time[40];
    struct mr_text text = mr_text_over(time, sizeof(time));

    mr_text_time_us(&text, range->at_us);
    mr_text_add(page->text, page->any ? "," : "");
    mr_ledger_put_range(page->text, range, time);
    page->any = true;
}

static void on_drop(void *arg, const struct mr_drop *drop)
{
    struct page *page = arg;

    mr_text_add(page->text, page->any ? "," : "");
    mr_ledger_put_drop(page->text, drop);
    page->any = true;
}

void mr_ledger_page(struct gateway *gateway, struct mr_text *text)
{
    struct page page = {.text = text, .balances = true};

    mr_text_fmt(text, "{\"journal_id\":\"%s\",\"ledger\":[", gateway->journal_id);
    mr_books_list(gateway->journal, on_row, &page);
    mr_text_add(text, "],\"ranges\":[");
    page.any = false;
    mr_ranges_list(gateway->journal, on_range, &page);
    page.any = false;
    mr_text_add(text, "],\"dropped_ranges\":[");
    mr_drops_list(gateway->journal, on_drop, &page);
    mr_text_fmt(text, "],\"balanced\":%s}\n", page.balances ? "true" : "false");
}

/* Of the bridges that run: asking them waits for no disk, as the table of cursors may. */
bool mr_ledger_balances(struct gateway *gateway)
{
    struct mr_bridge_stats stats;
    bool balances = true;

    mr_mutex_lock(&gateway->mutex);
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        mr_bridge_stats(gateway->bridges[i], &stats);
        balances = balances && stats.balanced;
    }
    mr_mutex_unlock(&gateway->mutex);
    return balances;
}

struct wanted {
    const char *name;
    uint32_t lane;
    struct mr_cursor *cursor;
};

static void on_wanted(void *arg, const struct mr_books_row *found)
{
    struct wanted *wanted = arg;

    if (found->lane_index == wanted->lane && strcmp(found->name, wanted->name) == 0) {
        wanted->cursor = found->cursor;
    }
}

struct mr_cursor *mr_ledger_cursor(struct gateway *gateway, const char *name, uint32_t lane)
{
    struct wanted wanted = {.name = name, .lane = lane};

    mr_books_list(gateway->journal, on_wanted, &wanted);
    return wanted.cursor;
}

static void acceptance_count(void *arg, const struct mr_range *range)
{
    size_t *count = arg;

    *count += range->is_acceptance;
}

const char *mr_ledger_full(struct mr_journal *journal)
{
    _Static_assert(MR_RANGES_MAX == 1024, "as the sentence says");
    size_t count = 0;

    mr_ranges_list(journal, acceptance_count, &count);
    return count < MR_RANGES_MAX
               ? NULL
               : "the journal keeps 1,024 acceptances at most, and has as many; those of a bridge "
                 "that is gone make room when it is forgotten: see `millrace audit` for whose they "
                 "are, and `millrace journal forget NAME`";
}
