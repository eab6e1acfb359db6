/* json_read.h - look into JSON that has been proven valid.
 *
 *     mr_json_valid(text) ─▶ mr_json_member(text, "bridges") ─▶ mr_json_next() ─▶ ...
 *
 * For documents that we write ourselves: the answers of the admin API, read by the
 * commands.  Values are spans of the text; nothing is built.  A name is compared as
 * it is written, so one with escapes in it is not found.
 *
 * Thread: pure functions, no state.
 * Memory: none.   Time: linear in what is passed over.
 */
#ifndef MR_CODEC_JSON_READ_H
#define MR_CODEC_JSON_READ_H

#include "base/text.h"

/* The value of member `name` of the object `object`, the first of that name; empty
 * if there is none, or `object` is no object.
 */
struct mr_span mr_json_member(struct mr_span object, const char *name);

/* The next element of an array: `*at` is the array at first and is moved on.  False:
 * there is no further one, or it is no array.
 */
bool mr_json_next(struct mr_span *at, struct mr_span *element);

/* The text of a string, decoded, added to `out`; other values as they are written.
 * Half a surrogate pair becomes U+FFFD.
 */
void mr_json_text(struct mr_text *out, struct mr_span value);

/* A whole number; false if it is not one, or does not fit. */
bool mr_json_u64(struct mr_span value, uint64_t *out);

#endif
