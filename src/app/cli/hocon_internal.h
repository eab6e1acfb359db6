/* hocon_internal.h - HOCON, as far as configurations of EMQX use it.
 *
 * Objects with and without commas, dotted keys, `=`, `:` and neither before an object, lists,
 * quoted, triple-quoted and unquoted text, comments, merging of what is said twice, `+=`.
 * Includes are read where they stand, relative to the file that they are in; one that is not
 * there, is further away than a file, or includes itself is noted.  Substitutions (${x}, ${?x})
 * are followed when all files have been read: what has that path in the tree, else the
 * environment.
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
    char *name;   /* its key; NULL in a list */
    char *text;   /* of HOCON_TEXT */
    char *before; /* what holds if the ${?x} that is all of the text means nothing */
    enum hocon_kind kind;
    bool has_substitution; /* text has a ${...} that means nothing, or was not followed yet */
    bool following;        /* it is being followed */
    bool followed;         /* what is left of it means nothing */
    struct import_place place;
};

struct hocon {
    struct import *import;
    struct hocon_value root; /* an object */
};

/* Read the file `path` into the tree; what was there is merged.  False after having said on
 * stderr what is wrong, and in which line.
 */
bool hocon_read(struct hocon *hocon, const char *path);

/* Follow the substitutions, once, when everything has been read. */
void hocon_follow(struct hocon *hocon);
void hocon_close(struct hocon *hocon);

/* For hocon*.c: the marker before a ${...} that is none of a quoted text; and trees. */
enum { HOCON_MARK = 1 };
struct hocon_value *hocon_add(struct hocon_value *parent, const char *name,
                              struct import_place place);
void hocon_empty(struct hocon_value *value);

/* The member `name` of an object, or NULL. */
struct hocon_value *hocon_find(const struct hocon_value *object, const char *name);

#endif
