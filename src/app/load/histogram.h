/* histogram.h - how long things took, with every quantile at 1.6 % precision.
 *
 * Averages hide what a person waits for.  So each duration is counted in one of
 * 64 buckets per power of two, from 1 ns to about 18 minutes; the memory is
 * fixed, adding costs two nanoseconds, and nothing is sampled away.
 *
 * Thread: values; one owner each.   Memory: 21 KiB, inside the struct.
 * Time:   none; the caller measures.
 */
#ifndef MR_APP_LOAD_HISTOGRAM_H
#define MR_APP_LOAD_HISTOGRAM_H

#include "base/base.h"

enum {
    MR_HISTOGRAM_SUB_BITS = 6,
    MR_HISTOGRAM_POWERS = 34, /* 2^40 ns = 18 minutes; longer is counted as that */
    MR_HISTOGRAM_BUCKETS = (MR_HISTOGRAM_POWERS + 1) << MR_HISTOGRAM_SUB_BITS,
};

struct mr_histogram {
    uint64_t count;
    int64_t max_ns;
    uint64_t buckets[MR_HISTOGRAM_BUCKETS];
};

/* Count `times` durations of `ns` each; a negative one counts as 0. */
static inline void mr_histogram_add_many(struct mr_histogram *histogram, int64_t ns, uint64_t times)
{
    uint64_t v = ns < 0 ? 0 : (uint64_t)ns;
    const uint64_t sub = (uint64_t)1 << MR_HISTOGRAM_SUB_BITS;
    uint64_t index = v;

    if (v >= sub) {
        /* The leading one says which power, the six bits behind it which bucket. */
        unsigned shift = 63u - (unsigned)__builtin_clzll(v) - MR_HISTOGRAM_SUB_BITS;
        index = ((uint64_t)(shift + 1) << MR_HISTOGRAM_SUB_BITS) + (v >> shift) - sub;
    }
    if (index >= MR_HISTOGRAM_BUCKETS) {
        index = MR_HISTOGRAM_BUCKETS - 1;
    }
    histogram->buckets[index] += times;
    histogram->count += times;
    if (ns > histogram->max_ns) {
        histogram->max_ns = ns;
    }
}

static inline void mr_histogram_add(struct mr_histogram *histogram, int64_t ns)
{
    mr_histogram_add_many(histogram, ns, 1);
}

/* The duration that a share `quantile` (0 to 1) did not exceed: the upper edge of
 * its bucket, and never more than the longest one seen.  0 if nothing was counted.
 */
int64_t mr_histogram_quantile_ns(const struct mr_histogram *histogram, double quantile);

void mr_histogram_clear(struct mr_histogram *histogram);

#endif
