/* import_emqx_internal.h - what the files that read emqx.conf share.
 *
 *     import_emqx.c        listeners, limits
 *     import_emqx_auth.c   authentication, authorization
 *     import_emqx_kafka.c  connectors, actions, rules: our bridges
 *     import_emqx_row.c    tables of keys
 *
 * Thread: main.   Memory: during import_emqx().   Time: none.
 */
#ifndef MR_APP_CLI_IMPORT_EMQX_INTERNAL_H
#define MR_APP_CLI_IMPORT_EMQX_INTERNAL_H

#include "app/cli/hocon_internal.h"

struct emqx {
    struct import *import;
    struct hocon hocon;
    bool anonymous; /* no authentication: everybody is admitted */
};

enum emqx_how {
    EMQX_TEXT,     /* `key` is the value, quoted */
    EMQX_PLAIN,    /* as it is: numbers, flags, words */
    EMQX_SIZE,     /* 1MB is our 1MiB */
    EMQX_DURATION, /* 1h30m is our 90m */
    EMQX_RATE,     /* 1000/s is our 1000; 5MB/10s our 524288 */
    EMQX_NOTE,     /* no key: `advice` */
    EMQX_CALL,
};

/* A key below the object that a table is about.  The name may end in ".*": all below it. */
struct emqx_row {
    const char *name;
    enum emqx_how how;
    const char *key; /* ours, below `into` */
    const char *advice;
    void (*call)(struct emqx *emqx, const struct hocon_value *value, struct import_node *into);
};

/* Every value below `object` by its row; what has none gets a note with `otherwise`. `path` is
 * where the object stands, for notes.
 */
void emqx_rows(struct emqx *emqx, const struct hocon_value *object, const char *path,
               const struct emqx_row *rows, struct import_node *into, const char *otherwise);

/* A note for `value`, which stands at `path`. */
void emqx_note(struct emqx *emqx, const struct hocon_value *value, const char *path,
               const char *advice);

/* Set `key` by `how`; a value that cannot be taken over gets a note. */
void emqx_set(struct emqx *emqx, const struct hocon_value *value, const char *path,
              enum emqx_how how, struct import_node *into, const char *key);

/* The text of a member, or NULL. */
const char *emqx_text(const struct hocon_value *object, const char *name);
bool emqx_is(const struct hocon_value *object, const char *name, const char *text);

/* Is there an `enable` or `enabled` that says false? */
bool emqx_is_off(const struct hocon_value *object);

/* "listeners" and "tcp" make "listeners.tcp". */
struct emqx_path {
    char text[512];
};
const char *emqx_path(struct emqx_path *path, const char *outer, const char *name);

/* A name as our keys may have: others' characters become '_'. */
void emqx_name(const char *name, char *out, size_t size);

/* Who may come in, and who may do what. */
void emqx_authentication(struct emqx *emqx, const struct hocon_value *value,
                         struct import_node *into);
void emqx_authorization(struct emqx *emqx, const struct hocon_value *value,
                        struct import_node *into);
bool emqx_has_authentication(const struct hocon_value *root); /* is anybody asked? */

/* connectors, actions, bridges, rule_engine. */
void emqx_kafka(struct emqx *emqx);

#endif
