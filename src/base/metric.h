/* metric.h - numbers for /metrics, written without locks.
 *
 *     component start:  events = mr_metric_new(MR_METRIC_COUNTER, "millrace_…_total",
 *                                              "help", "bridge=\"kafka\"");
 *     event path:       mr_metric_add(events, 1);
 *     admin thread:     mr_metric_render(...)
 *
 * A metric has ONE writing thread; others only read.  So add and set are a
 * plain relaxed store, a nanosecond.  Names follow Prometheus: base units,
 * `_total` for counters.  The registry is bounded (MR_METRICS_MAX) and metrics
 * live until the process ends: labels must come from configuration, never from
 * devices.
 *
 * Thread: new() at start-up or control plane (locked); add/set by the owner;
 *         render by anyone.
 * Memory: a static table.   Time: none.
 */
#ifndef MR_BASE_METRIC_H
#define MR_BASE_METRIC_H

#include "base/text.h"

#include <stdatomic.h>

enum { MR_METRICS_MAX = 4096, MR_METRIC_BUCKETS = 28 };

enum mr_metric_kind {
    MR_METRIC_COUNTER,
    MR_METRIC_GAUGE,
    MR_METRIC_HISTOGRAM, /* of durations; rendered in seconds */
};

struct mr_metric {
    _Atomic uint64_t value; /* counter, gauge (as int64); histogram: count */
    _Atomic uint64_t sum_us;
    _Atomic uint64_t buckets[MR_METRIC_BUCKETS]; /* <= 1 us << i */
    const char *name;
    const char *help;
    const char *labels; /* `bridge="x"` or "" */
    enum mr_metric_kind kind;
};

/* Create, or find the one with the same name and labels.  Strings are copied.
 * Never NULL: beyond MR_METRICS_MAX everything shares one overflow metric, and
 * a log line says so.
 */
struct mr_metric *mr_metric_new(enum mr_metric_kind kind, const char *name, const char *help,
                                const char *labels);

static inline void mr_metric_add(struct mr_metric *metric, uint64_t n)
{
    atomic_store_explicit(&metric->value,
                          atomic_load_explicit(&metric->value, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void mr_metric_set(struct mr_metric *metric, int64_t v)
{
    atomic_store_explicit(&metric->value, (uint64_t)v, memory_order_relaxed);
}

static inline int64_t mr_metric_get(const struct mr_metric *metric)
{
    return (int64_t)atomic_load_explicit(&metric->value, memory_order_relaxed);
}

void mr_metric_observe_us(struct mr_metric *histogram, uint64_t us);

/* All metrics in Prometheus text format 0.0.4.  MR_ERR_FULL if `out` was too
 * small (what fits is there).
 */
enum mr_err mr_metric_render(struct mr_text *out) MR_MUST_USE;

#endif
