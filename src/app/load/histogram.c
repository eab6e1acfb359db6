/* histogram.c - see histogram.h for the contract. */
#include "app/load/histogram.h"

#include <string.h>

/* The largest duration that add() puts into bucket `index`. */
static int64_t histogram_edge_ns(uint64_t index)
{
    const uint64_t sub = (uint64_t)1 << MR_HISTOGRAM_SUB_BITS;

    if (index < sub) {
        return (int64_t)index;
    }
    uint64_t shift = (index >> MR_HISTOGRAM_SUB_BITS) - 1;
    return (int64_t)((((index & (sub - 1)) + sub + 1) << shift) - 1);
}

int64_t mr_histogram_quantile_ns(const struct mr_histogram *histogram, double quantile)
{
    uint64_t seen = 0;

    if (histogram->count == 0) {
        return 0;
    }
    uint64_t rank = (uint64_t)(quantile * (double)histogram->count + 0.999999);
    rank = rank == 0 ? 1 : rank;
    for (uint64_t i = 0; i < MR_HISTOGRAM_BUCKETS - 1; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            int64_t edge = histogram_edge_ns(i);
            return edge < histogram->max_ns ? edge : histogram->max_ns;
        }
    }
    return histogram->max_ns; /* the last bucket has no upper edge */
}

void mr_histogram_clear(struct mr_histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
}
