/* text.h - build text in a fixed buffer without ever overflowing it.
 *
 *     struct mr_text text = mr_text_over(buffer, sizeof(buffer));
 *     mr_text_add(&text, "events ");
 *     mr_text_u64(&text, count);
 *     if (text.truncated) ...
 *
 * The buffer is NUL-terminated after every call (if it has room for one byte).
 * What does not fit is cut off and remembered in `truncated`.
 *
 * Thread: values; no state.   Memory: the caller's buffer.   Time: none.
 */
#ifndef MR_BASE_TEXT_H
#define MR_BASE_TEXT_H

#include "base/span.h"

struct mr_text {
    char *at;       /* the caller's buffer */
    size_t size;    /* its size, NUL included */
    size_t len;     /* bytes written, NUL excluded */
    bool truncated; /* something did not fit */
};

struct mr_text mr_text_over(char *buffer, size_t size);
void mr_text_add(struct mr_text *text, const char *more);
void mr_text_bytes(struct mr_text *text, const void *at, size_t len);
void mr_text_span(struct mr_text *text, struct mr_span span);
void mr_text_u64(struct mr_text *text, uint64_t number);
void mr_text_fmt(struct mr_text *text, const char *fmt, ...) MR_PRINTF(2, 3);

/* 1536 -> "1.5 KiB"; for people, never for files. */
void mr_text_bytes_human(struct mr_text *text, uint64_t bytes);

/* Unix microseconds -> "2026-11-23T17:56:01.123456Z" (UTC). */
void mr_text_time_us(struct mr_text *text, int64_t unix_us);

/* The whole of `span` as a decimal number within [0, max]; MR_ERR_REJECT if
 * it is anything else (sign, blanks, overflow).
 */
enum mr_err mr_parse_u64(struct mr_span span, uint64_t max, uint64_t *out) MR_MUST_USE;

/* "64MiB", "100GiB", "10k", "512": bytes; KiB, MiB … are powers of 1024, k, kB,
 * MB … of 1000, capitals or not.  MR_ERR_REJECT if not a size.
 */
enum mr_err mr_parse_size(struct mr_span span, uint64_t *out_bytes) MR_MUST_USE;

/* "10ms", "5s", "24h", "7d" (us, ms, s, m, h, d); a bare number is refused unless it is 0.
 * MR_ERR_REJECT if not a duration.
 */
enum mr_err mr_parse_duration(struct mr_span span, uint64_t *out_us) MR_MUST_USE;

/* Is it well-formed UTF-8?  MQTT adds: no U+0000 ([MQTT-1.5.4-2]), refused
 * here too.  Surrogates and overlong forms are refused ([MQTT-1.5.4-1]).
 */
bool mr_utf8_valid(struct mr_span span);

/* Number of edits (insert, delete, replace, swap of neighbours) from a to b,
 * for "did you mean"; at most 64 characters are compared.
 */
unsigned mr_text_distance(const char *a, const char *b);

/* Does the whole of `text` match?  `*` in the pattern stands for anything, nothing included. */
bool mr_text_glob(const char *pattern, struct mr_span text);

#endif
