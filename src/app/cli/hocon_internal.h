/* hocon_internal.h - HOCON, as far as configurations of EMQX use it.
 *
 * Objects with and without commas, dotted keys, `=`, `:` and neither before an object, lists,
 * quoted, triple-quoted and unquoted text, comments, merging of what is said twice, `+=`.
 * Substitutions (${x}, ${?x}) and includes are recognised, and left to the reader of the tree.
 *
 * Thread: main.   Memory: mr_alloc, until hocon_close(); the text is bounded by its reader,
 *         objects and lists are at most HOCON_DEPTH_MAX deep.   Time: none.
 */
#ifndef MR_APP_CLI_HOCON_INTERNAL_H
#define MR_APP_CLI_HOCON_INTERNAL_H

#include "app/cli/import_internal.h"

enum { HOCON_DEPTH_MAX = 64 };

enum hocon_kind {
    HOCON_TEXT, /* numbers, true, false and null too */
    HOCON_OBJECT,
    HOCON_LIST,
};

struct hocon_value {
    struct hocon_value *next; /* of the same object or list */
    struct hocon_value *first;
    struct hocon_value *last;
    char *name; /* its key; NULL in a list */
    char *text; /* of HOCON_TEXT */
    enum hocon_kind kind;
    bool has_substitution; /* text has a ${...} */
    struct import_place place;
};

struct hocon {
    struct hocon_value root;      /* an object */
    struct hocon_value *includes; /* texts: what was to be included */
};

/* Read `text` into the tree; what was there is merged.  False: `why` says what is wrong at
 * `place` (its line is set).
 */
bool hocon_read(struct hocon *hocon, const char *text, struct import_place *place,
                const char **why);
void hocon_close(struct hocon *hocon);

/* The member `name` of an object, or NULL. */
struct hocon_value *hocon_find(const struct hocon_value *object, const char *name);

#endif
