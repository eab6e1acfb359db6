/* topic.h - topic names and topic filters (MQTT section 4.7).
 *
 *     name:    plant/line4/temp          a device publishes to it
 *     filter:  plant/+/temp, plant/#     a subscription or a bridge asks for it
 *     shared:  $share/group/plant/#      one member of the group gets each message
 *
 * Thread: pure functions, no state.   Memory: none.   Time: none.
 */
#ifndef MR_CODEC_TOPIC_H
#define MR_CODEC_TOPIC_H

#include "base/span.h"

enum { MR_TOPIC_BYTES_MAX = 65535 }; /* [MQTT-4.7.3-3] */

/* Why a name or a filter is not valid: NULL if it is, else static text. */
const char *mr_topic_name_fault(struct mr_span name);
const char *mr_topic_filter_fault(struct mr_span filter);

/* A name: 1 to 65535 bytes of UTF-8 without U+0000, '+' and '#'
 * ([MQTT-4.7.3-1], -2, -3, [MQTT-4.7.0-1]).  Empty levels are levels.
 */
static inline bool mr_topic_name_valid(struct mr_span name)
{
    return mr_topic_name_fault(name) == NULL;
}

/* A filter: as a name, but '#' may be the whole last level [MQTT-4.7.1-1] and '+' any
 * whole level [MQTT-4.7.1-2].
 */
static inline bool mr_topic_filter_valid(struct mr_span filter)
{
    return mr_topic_filter_fault(filter) == NULL;
}

/* Does it contain '+' or '#'? */
bool mr_topic_has_wildcard(struct mr_span topic);

/* Levels, first to last, empty ones included:
 *     struct mr_span rest = topic, level;
 *     while (mr_topic_level_next(&rest, &level)) ...
 * rest.at becomes NULL after the last level.  "a//b" has the levels a, "", b.
 */
static inline bool mr_topic_level_next(struct mr_span *rest, struct mr_span *level)
{
    if (rest->at == NULL) {
        return false;
    }
    *level = mr_span_split(rest, '/');
    return true;
}

/* How many levels; level `index` (from 0), or a span with .at == NULL. */
size_t mr_topic_level_count(struct mr_span topic);
struct mr_span mr_topic_level(struct mr_span topic, size_t index);

/* Does a valid filter match a valid name?  Wildcards in the first level do not
 * match a name that begins with '$' [MQTT-4.7.2-1]; "sport/#" matches "sport" too.
 * One pass, no recursion: a filter has at most one '#', at its end.
 * A "$share" filter must have been split before.
 */
bool mr_topic_matches(struct mr_span filter, struct mr_span name);

/* The first of `count` filters that matches; NULL: none does.  Borrowed from the list. */
const char *mr_topic_first_match(const char *const *filters, size_t count, struct mr_span name);

/* Take "$share/<group>/<filter>" apart ([MQTT-4.8.2-1], [MQTT-4.8.2-2]).
 *
 * MR_OK           shared: *group and *inner are set.
 * MR_ERR_AGAIN    not a shared filter at all: *inner is `filter`, *group is empty.
 * MR_ERR_REJECT   begins with "$share/" but the group is missing, empty or has a wildcard,
 *                 or no filter follows it.
 */
enum mr_err mr_topic_share_split(struct mr_span filter, struct mr_span *group,
                                 struct mr_span *inner) MR_MUST_USE;

#endif
