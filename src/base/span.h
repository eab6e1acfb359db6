/* span.h - borrowed bytes: where they are and how many.
 *
 * A span never owns; whoever hands it out says until when the bytes stay.
 * Empty is {NULL or anything, 0}.  Text in a span has no terminating NUL.
 *
 * Thread: values; no state.   Memory: none.   Time: none.
 */
#ifndef MR_BASE_SPAN_H
#define MR_BASE_SPAN_H

#include "base/base.h"

#include <string.h>

struct mr_span {
    const uint8_t *at;
    size_t len;
};

/* A span over a C string, without its NUL.  `text` must outlive the span. */
static inline struct mr_span mr_span_of(const char *text)
{
    return (struct mr_span){.at = (const uint8_t *)text, .len = strlen(text)};
}

static inline struct mr_span mr_span_make(const void *at, size_t len)
{
    return (struct mr_span){.at = at, .len = len};
}

static inline bool mr_span_equal(struct mr_span a, struct mr_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool mr_span_is(struct mr_span span, const char *text)
{
    return mr_span_equal(span, mr_span_of(text));
}

/* Cut `span` at the first `separator`: returns what is before it and moves
 * `span` behind it.  Without a separator returns everything and leaves
 * `span->at` NULL, so `while (rest.at != NULL)` walks all parts, empty ones
 * included.
 */
static inline struct mr_span mr_span_split(struct mr_span *span, uint8_t separator)
{
    const uint8_t *hit = span->len == 0 ? NULL : memchr(span->at, separator, span->len);
    struct mr_span part = *span;

    if (hit == NULL) {
        *span = (struct mr_span){.at = NULL, .len = 0};
        return part;
    }
    part.len = (size_t)(hit - span->at);
    span->len -= part.len + 1;
    span->at = hit + 1;
    return part;
}

#endif
