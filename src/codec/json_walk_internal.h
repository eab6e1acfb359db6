/* json_walk_internal.h - the C face of simdjson, for json_fields.c alone.
 *
 * simdjson is C++; everything that is C++ stays in json_walk.cpp, and nothing of
 * ours is included there, so that no header has to be valid in two languages.
 *
 * Thread: one per walk.   Memory: simdjson's own buffers, grown by mr_json_walk_begin().
 * Time:   none.
 */
#ifndef MR_CODEC_JSON_WALK_INTERNAL_H
#define MR_CODEC_JSON_WALK_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* So many bytes behind a document must be readable; their content is of no account.
 * Keys are compared where they lie, so the longest name of a path must fit as well.
 */
enum { MR_JSON_WALK_NAME_MAX = 255, MR_JSON_WALK_PADDING = 320 };

struct mr_json_walk;

/* One step of a path: into an object by name, or into an array by index. */
struct mr_json_step {
    const char *name; /* NULL: an index */
    size_t name_len;
    size_t index;
};

enum mr_json_walked {
    MR_JSON_WALKED_STRING,  /* text between quotes, without escapes: as it lies */
    MR_JSON_WALKED_DECODED, /* the same with escapes, decoded; valid until the next walk */
    MR_JSON_WALKED_SCALAR,  /* number, true, false, null: not validated yet */
    MR_JSON_WALKED_NESTED,  /* object or array: not validated */
    MR_JSON_WALKED_ABSENT,  /* there is no such place, if it is JSON at all */
    MR_JSON_WALKED_BROKEN,  /* it is not JSON, and that matters for this path */
};

struct mr_json_walk *mr_json_walk_new(void); /* NULL: no memory */
void mr_json_walk_free(struct mr_json_walk *walk);

/* Stand in front of a document; `at` must stay while it is walked.  False: it is
 * not JSON (quotes, UTF-8, control characters), or there is no memory.
 */
bool mr_json_walk_begin(struct mr_json_walk *walk, const char *at, size_t len);

/* Follow one path from the top.  *value and *len: what is there, white space cut. */
enum mr_json_walked mr_json_walk_to(struct mr_json_walk *walk, const struct mr_json_step *steps,
                                    size_t step_count, const char **value, size_t *len);

#ifdef __cplusplus
}
#endif

#endif
