/* topic.c - see topic.h for the contract.
 *
 * DESIGN
 *
 * Matching walks filter and name side by side, byte by byte, and never goes back:
 * '+' eats up to the next '/', '#' ends the walk.  A filter has no construct that
 * could match in two ways, so no recursion and no memory are needed.
 *
 * INVARIANTS
 *
 *   (1) At the head of the loop both positions are at the start of a level, or
 *       inside two levels that are equal so far.
 */
#include "codec/topic.h"

#include "base/text.h"

bool mr_topic_has_wildcard(struct mr_span topic)
{
    for (size_t i = 0; i < topic.len; i++) {
        if (topic.at[i] == '+' || topic.at[i] == '#') {
            return true;
        }
    }
    return false;
}

/* What names and filters have in common. */
static const char *topic_fault(struct mr_span topic)
{
    if (topic.len == 0) { /* [MQTT-4.7.3-1] */
        return "topic is empty";
    }
    if (topic.len > MR_TOPIC_BYTES_MAX) { /* [MQTT-4.7.3-3] */
        return "topic is longer than 65535 bytes";
    }
    if (!mr_utf8_valid(topic)) { /* [MQTT-1.5.4-1], [MQTT-4.7.3-2] */
        return "topic is not valid UTF-8 or contains U+0000";
    }
    return NULL;
}

const char *mr_topic_name_fault(struct mr_span name)
{
    const char *fault = topic_fault(name);

    if (fault == NULL && mr_topic_has_wildcard(name)) { /* [MQTT-4.7.0-1] */
        fault = "topic name contains a wildcard";
    }
    return fault;
}

const char *mr_topic_filter_fault(struct mr_span filter)
{
    const char *fault = topic_fault(filter);

    if (fault != NULL) {
        return fault;
    }
    for (size_t i = 0; i < filter.len; i++) {
        if (filter.at[i] != '+' && filter.at[i] != '#') {
            continue;
        }
        if (i != 0 && filter.at[i - 1] != '/') { /* [MQTT-4.7.1-1], [MQTT-4.7.1-2] */
            return "wildcard in topic filter does not begin its level";
        }
        if (filter.at[i] == '#' && i + 1 != filter.len) { /* [MQTT-4.7.1-1] */
            return "# is not the last character of the topic filter";
        }
        if (i + 1 != filter.len && filter.at[i + 1] != '/') { /* [MQTT-4.7.1-2] */
            return "+ does not fill its level of the topic filter";
        }
    }
    return NULL;
}

size_t mr_topic_level_count(struct mr_span topic)
{
    size_t count = 1;

    for (size_t i = 0; i < topic.len; i++) {
        count += topic.at[i] == '/';
    }
    return count;
}

struct mr_span mr_topic_level(struct mr_span topic, size_t index)
{
    struct mr_span rest = topic;
    struct mr_span level = {0};

    do {
        if (!mr_topic_level_next(&rest, &level)) {
            return (struct mr_span){0};
        }
    } while (index-- != 0);
    return level;
}

bool mr_topic_matches(struct mr_span filter, struct mr_span name)
{
    size_t f = 0;
    size_t n = 0;

    /* [MQTT-4.7.2-1] */
    if (name.len != 0 && name.at[0] == '$' && filter.len != 0 &&
        (filter.at[0] == '+' || filter.at[0] == '#')) {
        return false;
    }
    while (f < filter.len) {
        if (filter.at[f] == '#') {
            return true;
        }
        if (filter.at[f] == '+') {
            f += 1;
            while (n < name.len && name.at[n] != '/') {
                n += 1;
            }
        } else if (n < name.len && filter.at[f] == name.at[n]) {
            f += 1;
            n += 1;
        } else {
            break;
        }
    }
    if (n != name.len) {
        return false;
    }
    /* "sport/#" matches the parent "sport" too (4.7.1.2). */
    return f == filter.len ||
           (filter.len - f == 2 && filter.at[f] == '/' && filter.at[f + 1] == '#');
}

const char *mr_topic_first_match(const char *const *filters, size_t count, struct mr_span name)
{
    for (size_t i = 0; i < count; i++) {
        if (mr_topic_matches(mr_span_of(filters[i]), name)) {
            return filters[i];
        }
    }
    return NULL;
}

enum mr_err mr_topic_share_split(struct mr_span filter, struct mr_span *group,
                                 struct mr_span *inner)
{
    static const char prefix[] = "$share/";
    const size_t prefix_len = sizeof(prefix) - 1;

    *group = (struct mr_span){0};
    *inner = filter;
    if (filter.len == prefix_len - 1 && memcmp(filter.at, prefix, filter.len) == 0) {
        return MR_ERR_REJECT;
    }
    if (filter.len < prefix_len || memcmp(filter.at, prefix, prefix_len) != 0) {
        return MR_ERR_AGAIN;
    }
    struct mr_span rest = {.at = filter.at + prefix_len, .len = filter.len - prefix_len};
    struct mr_span name = mr_span_split(&rest, '/');
    if (name.len == 0 || mr_topic_has_wildcard(name) || rest.len == 0) {
        return MR_ERR_REJECT;
    }
    *group = name;
    *inner = rest;
    return MR_OK;
}
