/* base64.h - read base64, strictly: RFC 4648 section 4, and section 5 for tokens.
 *
 * Writing is codec/json.h's mr_base64_put().
 *
 * Thread: pure functions, no state.   Memory: none.   Time: linear.
 */
#ifndef MR_AUTH_BASE64_H
#define MR_AUTH_BASE64_H

#include "base/span.h"

enum mr_base64_kind {
    MR_BASE64_PLAIN, /* + and /; padded or not */
    MR_BASE64_URL,   /* - and _; never padded, as JWS wants it */
};

/* False: another character, an impossible length, or more than `size` bytes.  The empty text
 * is no bytes.
 */
bool mr_base64_take(struct mr_span text, enum mr_base64_kind kind, uint8_t *into, size_t size,
                    size_t *out_len) MR_MUST_USE;

#endif
