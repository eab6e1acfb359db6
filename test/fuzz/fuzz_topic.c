/* fuzz_topic.c - topic matching beside the naive matcher, and the other readers
 * of topics beside each other.
 *
 * Input: a filter, a line feed, a name.
 */
#include "fuzz.h"
#include "topic_naive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_span name = mr_span_make(data, size);
    struct mr_span filter = mr_span_split(&name, '\n');
    struct mr_span group;
    struct mr_span inner;

    /* A name is a filter without wildcards, and matches itself. */
    bool is_filter = mr_topic_filter_valid(filter);
    mr_assert(mr_topic_name_valid(filter) == (is_filter && !mr_topic_has_wildcard(filter)));
    if (mr_topic_name_valid(filter)) {
        mr_assert(mr_topic_matches(filter, filter));
    }
    /* Levels: as many as counted, and joined by '/' they are the topic again. */
    struct mr_span rest = filter;
    struct mr_span level;
    size_t count = 0;
    size_t bytes = 0;
    while (mr_topic_level_next(&rest, &level)) {
        if (count < 8) {
            mr_assert(mr_span_equal(mr_topic_level(filter, count), level));
        }
        count += 1;
        bytes += level.len + 1;
    }
    mr_assert(count == 0 || (count == mr_topic_level_count(filter) && bytes == filter.len + 1));

    enum mr_err shared = mr_topic_share_split(filter, &group, &inner);
    if (shared == MR_OK) {
        mr_assert(group.len != 0 && inner.len != 0 && group.len + inner.len + 8 == filter.len);
        mr_assert(!is_filter || mr_topic_filter_valid(inner));
    } else {
        mr_assert(mr_span_equal(inner, filter));
    }
    if (is_filter && mr_topic_name_valid(name)) {
        mr_assert(mr_topic_matches(filter, name) == naive_matches(filter, name));
    }
    return 0;
}
