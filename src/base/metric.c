/* metric.c - see metric.h for the contract.
 *
 * DESIGN
 *
 * A table that only grows.  Prometheus wants all samples of one name together
 * behind one HELP and TYPE, but components register in any order; so slots of
 * the same name form a chain, begun by the first of that name.  A renderer
 * walks the first ones and their chains without a lock: a slot is filled
 * before the release store that makes it reachable, and never changes again
 * but for its numbers.
 *
 * Rejected: a mutex around everything.  The renderer would then hold up a
 * component that is starting, for no gain.
 *
 * INVARIANTS
 *
 *   (1) Slots [0, slot_count) are complete.
 *   (2) Every one of them is in exactly one chain, the one of its name; the
 *       name's bytes are shared by the chain.
 */
#include "base/metric.h"
#include "base/log.h"

#include <inttypes.h>

struct metric_slot {
    struct mr_metric metric;
    struct metric_slot *_Atomic next_of_name; /* NULL: last of its chain */
    bool first_of_name;
};

static struct metric_slot slots[MR_METRICS_MAX];
static _Atomic size_t slot_count;
static struct mr_metric overflow = {.name = "overflow", .help = "", .labels = ""};

/* Registration is rare and short: a spin lock needs nothing from the system. */
static atomic_flag table_busy = ATOMIC_FLAG_INIT;

static void table_lock(void)
{
    while (atomic_flag_test_and_set_explicit(&table_busy, memory_order_acquire)) {
    }
}

static void table_unlock(void)
{
    atomic_flag_clear_explicit(&table_busy, memory_order_release);
}

static struct metric_slot *table_first(const char *name)
{
    size_t count = atomic_load(&slot_count);

    for (size_t i = 0; i < count; i++) {
        if (slots[i].first_of_name && strcmp(slots[i].metric.name, name) == 0) {
            return &slots[i];
        }
    }
    return NULL;
}

/* Find it, or append it; NULL when the table is full. */
static struct mr_metric *table_take(enum mr_metric_kind kind, const char *name, const char *help,
                                    const char *labels)
{
    struct metric_slot *first = table_first(name);
    struct metric_slot *last = NULL;

    for (struct metric_slot *slot = first; slot != NULL; slot = atomic_load(&slot->next_of_name)) {
        mr_assert(slot->metric.kind == kind);
        if (strcmp(slot->metric.labels, labels) == 0) {
            return &slot->metric;
        }
        last = slot;
    }

    size_t count = atomic_load(&slot_count);
    if (count == MR_METRICS_MAX) {
        return NULL;
    }
    struct metric_slot *slot = &slots[count];
    slot->metric.kind = kind;
    slot->metric.name = first != NULL ? first->metric.name : mr_strdup(name);
    slot->metric.help = first != NULL ? first->metric.help : mr_strdup(help);
    slot->metric.labels = mr_strdup(labels);
    slot->first_of_name = first == NULL;
    if (last != NULL) {
        atomic_store_explicit(&last->next_of_name, slot, memory_order_release);
    }
    atomic_store_explicit(&slot_count, count + 1, memory_order_release);
    return &slot->metric;
}

struct mr_metric *mr_metric_new(enum mr_metric_kind kind, const char *name, const char *help,
                                const char *labels)
{
    table_lock();
    struct mr_metric *metric = table_take(kind, name, help, labels);
    table_unlock();

    if (metric == NULL) {
        mr_log(MR_LOG_WARN, "metrics",
               "the table of %d metrics is full: %s{%s} and what comes after it is not shown; "
               "fewer bridges or listeners would help",
               MR_METRICS_MAX, name, labels);
        return &overflow;
    }
    return metric;
}

static void cell_add(_Atomic uint64_t *cell, uint64_t n)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void mr_metric_observe_us(struct mr_metric *histogram, uint64_t us)
{
    /* The first bucket whose bound 1 << i is not below `us`. */
    unsigned bucket = us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(us - 1);

    if (bucket < MR_METRIC_BUCKETS) { /* longer ones count in +Inf only */
        cell_add(&histogram->buckets[bucket], 1);
    }
    cell_add(&histogram->sum_us, us);
    cell_add(&histogram->value, 1);
}

static void render_head(struct mr_text *out, const struct mr_metric *metric)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    mr_text_fmt(out, "# HELP %s ", metric->name);
    for (const char *c = metric->help; *c != '\0'; c++) {
        if (*c == '\\') {
            mr_text_add(out, "\\\\");
        } else if (*c == '\n') {
            mr_text_add(out, "\\n");
        } else {
            mr_text_bytes(out, c, 1);
        }
    }
    mr_text_fmt(out, "\n# TYPE %s %s\n", metric->name, kinds[metric->kind]);
}

static void render_seconds(struct mr_text *out, uint64_t us)
{
    mr_text_fmt(out, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
}

/* `name` + `suffix`, the labels if any, and a blank. */
static void render_name(struct mr_text *out, const struct mr_metric *metric, const char *suffix)
{
    const char *labels = metric->labels;

    mr_text_add(out, metric->name);
    mr_text_add(out, suffix);
    if (*labels != '\0') {
        mr_text_fmt(out, "{%s}", labels);
    }
    mr_text_add(out, " ");
}

static void render_histogram(struct mr_text *out, const struct mr_metric *metric)
{
    const char *comma = *metric->labels == '\0' ? "" : ",";
    uint64_t below = 0;

    for (unsigned i = 0; i < MR_METRIC_BUCKETS; i++) {
        below += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        mr_text_fmt(out, "%s_bucket{%s%sle=\"", metric->name, metric->labels, comma);
        render_seconds(out, (uint64_t)1 << i);
        mr_text_fmt(out, "\"} %" PRIu64 "\n", below);
    }

    /* The owner goes on counting while we read: the total must not come out
     * below the last bucket, or rates computed from it turn negative.
     */
    uint64_t count = atomic_load_explicit(&metric->value, memory_order_relaxed);
    count = count < below ? below : count;
    mr_text_fmt(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", metric->name, metric->labels,
                comma, count);
    render_name(out, metric, "_sum");
    render_seconds(out, atomic_load_explicit(&metric->sum_us, memory_order_relaxed));
    mr_text_add(out, "\n");
    render_name(out, metric, "_count");
    mr_text_fmt(out, "%" PRIu64 "\n", count);
}

static void render_sample(struct mr_text *out, const struct mr_metric *metric)
{
    switch (metric->kind) {
    case MR_METRIC_COUNTER:
        render_name(out, metric, "");
        mr_text_fmt(out, "%" PRIu64 "\n", (uint64_t)mr_metric_get(metric));
        break;
    case MR_METRIC_GAUGE:
        render_name(out, metric, "");
        mr_text_fmt(out, "%" PRId64 "\n", mr_metric_get(metric));
        break;
    case MR_METRIC_HISTOGRAM:
        render_histogram(out, metric);
        break;
    }
}

enum mr_err mr_metric_render(struct mr_text *out)
{
    size_t count = atomic_load_explicit(&slot_count, memory_order_acquire);

    for (size_t i = 0; i < count; i++) {
        if (!slots[i].first_of_name) {
            continue;
        }
        render_head(out, &slots[i].metric);
        for (struct metric_slot *slot = &slots[i]; slot != NULL;
             slot = atomic_load_explicit(&slot->next_of_name, memory_order_acquire)) {
            render_sample(out, &slot->metric);
        }
    }
    return out->truncated ? MR_ERR_FULL : MR_OK;
}
