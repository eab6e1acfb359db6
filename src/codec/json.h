/* json.h - the little JSON a gateway needs: check it, and write it.
 *
 * Payloads are embedded in envelopes as they are, so they must be proven to be
 * JSON first; nothing here builds a tree.
 *
 * Thread: pure functions, no state.
 * Memory: the validator's stack is 16 bytes; writers fill the caller's buffer.
 * Time:   none.
 */
#ifndef MR_CODEC_JSON_H
#define MR_CODEC_JSON_H

#include "base/text.h"

enum { MR_JSON_DEPTH_MAX = 128 }; /* arrays and objects inside each other */

/* Is `text` one JSON value with nothing but white space around it, by RFC 8259,
 * in valid UTF-8?  Deeper nesting than MR_JSON_DEPTH_MAX is answered with false.
 * An escape may name half a surrogate pair: the grammar allows it.
 */
bool mr_json_valid(struct mr_span text);

/* The most bytes that `len` bytes of UTF-8 become, quotes included: every byte
 * may be a control character, written as \u00XX.
 */
#define MR_JSON_STRING_MAX(len) (6 * (len) + 2)

/* Characters of base64 with padding, without quotes. */
#define MR_BASE64_SIZE(len) (((len) + 2) / 3 * 4)

/* Write `text`, which must be UTF-8, as a JSON string with quotes.  Escapes are the
 * shortest of RFC 8259 section 7; '/' and characters beyond ASCII stay.
 * Needs MR_JSON_STRING_MAX(text.len) bytes; returns the byte after the last.
 */
char *mr_json_put_string(char *at, struct mr_span text);

/* Exactly how many bytes that will be; reads the text. */
size_t mr_json_string_size(struct mr_span text);

/* The same without the quotes, to join several pieces into one string. */
char *mr_json_put_escaped(char *at, struct mr_span text);

/* The same with quotes, added to `out`; for pages and messages, not for events.  Bytes
 * that are not UTF-8 become '?'.  What does not fit is left out, `out->truncated` says so.
 */
void mr_json_add_string(struct mr_text *out, struct mr_span text);

/* Write `bytes` in base64 (RFC 4648 section 4, with padding), without quotes.
 * Needs MR_BASE64_SIZE(bytes.len); returns the byte after the last.
 */
char *mr_base64_put(char *at, struct mr_span bytes);

/* Write a number in decimal; needs 20 bytes; returns the byte after the last. */
char *mr_json_put_i64(char *at, int64_t number);

#endif
