/* audit_passes.c - see audit_passes.h. */
#include "app/audit_passes.h"

#include <stdlib.h>

struct edge {
    uint64_t seq; /* from here on */
    int settled;
    int confirmed;
};

struct edges {
    struct edge *items;
    size_t count;
};

static void edges_add(struct edges *edges, uint64_t from, uint64_t to, bool confirmed)
{
    if (to > from) {
        edges->items[edges->count++] =
            (struct edge){.seq = from + 1, .settled = !confirmed, .confirmed = confirmed};
        edges->items[edges->count++] =
            (struct edge){.seq = to + 1, .settled = -!confirmed, .confirmed = -confirmed};
    }
}

static int edge_order(const void *a, const void *b)
{
    const struct edge *x = a;
    const struct edge *y = b;

    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* Follow the cursor from where the books begin.  False: it is not its whole way. */
static bool walk(const struct mr_audit *audit, const struct mr_ledger_row *row, struct edges *edges,
                 uint64_t *lost)
{
    uint64_t sums[MR_COLUMNS] = {0};
    uint64_t at = row->books.begin;

    for (size_t i = 0; i < audit->range_count; i++) {
        const struct mr_range *range = &audit->ranges[i].range;
        if (range->is_acceptance || range->lane != row->lane ||
            strcmp(range->name, row->name) != 0) {
            continue;
        }
        if (range->from < at) {
            return false;
        }
        edges_add(edges, at, range->from, false);
        if (range->column == MR_COLUMN_CONFIRMED) {
            edges_add(edges, range->from, range->to, true);
        }
        sums[range->column] +=
            range->to > range->from ? range->to - range->from : range->from - range->to;
        at = range->to;
    }
    edges_add(edges, at, row->seq, false);
    *lost = sums[MR_COLUMN_LOST];
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        bool by_range = i == MR_COLUMN_GIVEN_UP || i == MR_COLUMN_CONFIRMED ||
                        i == MR_COLUMN_REPEATED || i == MR_COLUMN_DROPPED;
        if (by_range && sums[i] != row->books.columns[i]) {
            return false;
        }
    }
    return at <= row->seq && sums[MR_COLUMN_LOST] <= row->books.columns[MR_COLUMN_LOST];
}

static void pieces_make(const struct mr_ledger_row *row, struct edges *edges, struct mr_passes *out)
{
    uint64_t first = row->books.begin + 1;
    int settled = 0;
    int confirmed = 0;

    out->pieces = mr_alloc((edges->count + 2) * sizeof(*out->pieces));
    if (edges->count > 1) {
        qsort(edges->items, edges->count, sizeof(*edges->items), edge_order);
    }
    for (size_t i = 0; i < edges->count; i++) {
        const struct edge *edge = &edges->items[i];
        if (edge->seq > first) {
            out->pieces[out->count++] = (struct mr_piece){.first = first,
                                                          .last = edge->seq - 1,
                                                          .settled = (uint32_t)settled,
                                                          .confirmed = (uint32_t)confirmed};
            first = edge->seq;
        }
        settled += edge->settled;
        confirmed += edge->confirmed;
    }
    if (first <= row->seq) { /* the last ones were given up */
        out->pieces[out->count++] = (struct mr_piece){.first = first, .last = row->seq};
    }
}

bool mr_passes_of(const struct mr_audit *audit, const struct mr_ledger_row *row,
                  struct mr_passes *out)
{
    struct edges edges = {.items = mr_alloc((4 * audit->range_count + 4) * sizeof(*edges.items))};

    *out = (struct mr_passes){.pieces = NULL};
    /* Of two positions (journal/live.h) the columns are both's, and cannot be told apart. */
    bool whole = row->ahead == 0 && walk(audit, row, &edges, &out->lost);
    if (whole) {
        pieces_make(row, &edges, out);
    }
    mr_free(edges.items);
    return whole;
}
