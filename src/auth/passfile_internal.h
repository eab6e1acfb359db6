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
    bool scram;            /* a comment to Mosquitto: user and secret are those of SCRAM */
    bool scram_key;        /* ... the key of decoys, in `secret` */
};

#define PASSFILE_SCRAM "#scram-sha-256:"
#define PASSFILE_SCRAM_KEY "#scram-decoy-key:"

/* The whole file; *out goes with mr_free().  REJECT: not there.  CONFIG: not readable. */
enum mr_err passfile_load(const char *path, uint8_t **out, size_t *out_len,
                          struct mr_error *why) MR_MUST_USE;

/* The next line of *rest; false: there is none. */
bool passfile_line(struct mr_span *rest, struct pass_line *out);

/* By bytes; below 0: a comes first. */
int passfile_name_order(struct mr_span a, struct mr_span b);

/* ---- passfile_scram.c: the lines of SCRAM of a file that is read ---- */

struct passfile_scrams;

/* Take a line that is `scram` or `scram_key`; at most `lines` of them will come, and the text
 * stays.  Makes *scrams at the first one.  NULL, or what is wrong with the line.
 */
const char *passfile_scram_take(struct passfile_scrams **scrams, size_t lines,
                                const struct pass_line *line);

/* All have been taken.  CONFIG: a user stands there twice.  NULL is allowed, here and below. */
enum mr_err passfile_scrams_sort(struct passfile_scrams *scrams, const char *path,
                                 struct mr_error *why) MR_MUST_USE;
void passfile_scrams_free(struct passfile_scrams *scrams);
size_t passfile_scrams_count(const struct passfile_scrams *scrams);

/* As mr_passfile_scram_find(). */
bool passfile_scrams_find(const struct passfile_scrams *scrams, struct mr_span user,
                          struct mr_scram_keys *out);

#endif
