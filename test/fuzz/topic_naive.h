/* topic_naive.h - topic matching as the specification tells it, level by level and
 * recursively: the model that mr_topic_matches() is compared with.
 */
#ifndef MR_TEST_FUZZ_TOPIC_NAIVE_H
#define MR_TEST_FUZZ_TOPIC_NAIVE_H

#include "codec/topic.h"

/* Do the levels left in `filter` match those left in `name`?  .at == NULL: none. */
static inline bool naive_levels(struct mr_span filter, struct mr_span name)
{
    struct mr_span want;
    struct mr_span have;

    if (!mr_topic_level_next(&filter, &want)) {
        return name.at == NULL;
    }
    if (mr_span_is(want, "#")) {
        return true;
    }
    if (!mr_topic_level_next(&name, &have)) {
        return false;
    }
    return (mr_span_is(want, "+") || mr_span_equal(want, have)) && naive_levels(filter, name);
}

static inline bool naive_matches(struct mr_span filter, struct mr_span name)
{
    if (name.at[0] == '$' && filter.at[0] != '$') { /* [MQTT-4.7.2-1] and plain inequality */
        return false;
    }
    return naive_levels(filter, name);
}

#endif
