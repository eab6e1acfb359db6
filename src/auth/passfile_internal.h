/* passfile_internal.h - the lines of a password file, for its reader and its writer.
 *
 * Thread: values.   Memory: passfile_load()'s text is the caller's.   Time: none.
 */
#ifndef MR_AUTH_PASSFILE_INTERNAL_H
#define MR_AUTH_PASSFILE_INTERNAL_H

#include "auth/passfile.h"

enum { PASSFILE_BYTES_MAX = 64 << 20 };

struct pass_line {
    struct mr_span whole;  /* without its end */
    struct mr_span user;   /* before the colon */
    struct mr_span secret; /* behind it; `at` is NULL if there is no colon */
    bool says;             /* it is neither empty nor a comment */
};

/* The whole file; *out goes with mr_free().  REJECT: not there.  CONFIG: not readable. */
enum mr_err passfile_load(const char *path, uint8_t **out, size_t *out_len,
                          struct mr_error *why) MR_MUST_USE;

/* The next line of *rest; false: there is none. */
bool passfile_line(struct mr_span *rest, struct pass_line *out);

#endif
