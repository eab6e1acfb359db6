/* audit_passes.c - see audit_passes.h. */
#include "app/audit_passes.h"

#include <stdlib.h>

enum kind { SETTLED, CONFIRMED, DROPPED, KINDS };

struct edge {
    uint64_t seq; /* from here on one more, or one less */
    enum kind kind;
    int step;
};

struct edges {
    struct edge *items;
    size_t count;
};

/* The records behind `from` up to `to`. */
static void edges_add(struct edges *edges, uint64_t from, uint64_t to, enum kind kind)
{
    if (to > from) {
        edges->items[edges->count++] = (struct edge){.seq = from + 1, .kind = kind, .step = 1};
        edges->items[edges->count++] = (struct edge){.seq = to + 1, .kind = kind, .step = -1};
    }
}

static int edge_order(const void *a, const void *b)
{
    const struct edge *x = a;
    const struct edge *y = b;

    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* What was dropped of what the cursor has passed: so many records. */
static uint64_t drops_add(const struct mr_audit *audit, const struct mr_ledger_row *row,
                          struct edges *edges)
{
    uint64_t count = 0;

    for (size_t i = 0; i < audit->drop_count; i++) {
        const struct mr_drop *drop = &audit->drops[i];
        uint64_t first =
            drop->seq_first > row->books.begin ? drop->seq_first : row->books.begin + 1;
        uint64_t last = drop->seq_last < row->seq ? drop->seq_last : row->seq;
        if (mr_ledger_is_of(row, drop->name, drop->lane) && last >= first) {
            edges_add(edges, first - 1, last, DROPPED);
            count += last - first + 1;
        }
    }
    return count;
}

/* Are the sums of the ranges those of the columns?  Dropped records may have been passed one by
 * one, or by a position of the target.
 */
static bool sums_agree(const struct mr_books *books, const uint64_t sums[MR_COLUMNS],
                       uint64_t dropped)
{
    uint64_t confirmed = books->columns[MR_COLUMN_CONFIRMED];

    return sums[MR_COLUMN_GIVEN_UP] == books->columns[MR_COLUMN_GIVEN_UP] &&
           sums[MR_COLUMN_REPEATED] == books->columns[MR_COLUMN_REPEATED] &&
           sums[MR_COLUMN_LOST] <= books->columns[MR_COLUMN_LOST] &&
           sums[MR_COLUMN_CONFIRMED] >= confirmed &&
           sums[MR_COLUMN_CONFIRMED] <= confirmed + books->columns[MR_COLUMN_DROPPED] &&
           dropped >= books->columns[MR_COLUMN_DROPPED];
}

/* Follow the cursor from where the books begin.  False: it is not its whole way. */
static bool walk(const struct mr_audit *audit, const struct mr_ledger_row *row, struct edges *edges,
                 uint64_t *lost)
{
    uint64_t sums[MR_COLUMNS] = {0};
    uint64_t at = row->books.begin;

    for (size_t i = 0; i < audit->range_count; i++) {
        const struct mr_range *range = &audit->ranges[i].range;
        if (range->is_acceptance || !mr_ledger_is_of(row, range->name, range->lane)) {
            continue;
        }
        if (range->from < at) {
            return false;
        }
        edges_add(edges, at, range->from, SETTLED);
        if (range->column == MR_COLUMN_CONFIRMED) {
            edges_add(edges, range->from, range->to, CONFIRMED);
        }
        sums[range->column] +=
            range->to > range->from ? range->to - range->from : range->from - range->to;
        at = range->to;
    }
    edges_add(edges, at, row->seq, SETTLED);
    *lost = sums[MR_COLUMN_LOST];
    return at <= row->seq && sums_agree(&row->books, sums, drops_add(audit, row, edges));
}

static struct mr_piece piece_of(uint64_t first, uint64_t last, const int depth[KINDS])
{
    uint32_t settled = (uint32_t)depth[SETTLED];
    uint32_t confirmed = (uint32_t)depth[CONFIRMED];

    return depth[DROPPED] == 0
               ? (struct mr_piece){.first = first,
                                   .last = last,
                                   .settled = settled,
                                   .loose = confirmed}
               : (struct mr_piece){.first = first, .last = last, .loose = settled + confirmed};
}

static void pieces_make(const struct mr_ledger_row *row, struct edges *edges, struct mr_passes *out)
{
    uint64_t first = row->books.begin + 1;
    int depth[KINDS] = {0};

    out->pieces = mr_alloc((edges->count + 2) * sizeof(*out->pieces));
    if (edges->count > 1) {
        qsort(edges->items, edges->count, sizeof(*edges->items), edge_order);
    }
    for (size_t i = 0; i < edges->count; i++) {
        const struct edge *edge = &edges->items[i];
        if (edge->seq > first) {
            out->pieces[out->count++] = piece_of(first, edge->seq - 1, depth);
            first = edge->seq;
        }
        depth[edge->kind] += edge->step;
    }
    if (first <= row->seq) { /* the last ones were given up */
        out->pieces[out->count++] = (struct mr_piece){.first = first, .last = row->seq};
    }
}

bool mr_passes_of(const struct mr_audit *audit, const struct mr_ledger_row *row,
                  struct mr_passes *out)
{
    size_t edges_max = 4 * audit->range_count + 2 * audit->drop_count + 4;
    struct edges edges = {.items = mr_alloc(edges_max * sizeof(*edges.items))};

    *out = (struct mr_passes){.pieces = NULL};
    /* Of two positions (journal/live.h) the columns are both's, and cannot be told apart. */
    bool whole = row->ahead == 0 && walk(audit, row, &edges, &out->lost);
    if (whole) {
        pieces_make(row, &edges, out);
    }
    mr_free(edges.items);
    return whole;
}
