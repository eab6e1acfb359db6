/* import_internal.h - what the readers of other brokers' configurations share.
 *
 *     mosquitto.conf ─▶ import_mosquitto.c ─┐
 *                                           ├▶ tree of our keys, notes ─▶ YAML on stdout
 *     emqx.conf ─▶ hocon.c ─▶ import_emqx.c ┘                         └▶ notes on stderr
 *
 * Whatever stands in a foreign file ends in one of two ways: as a key of ours, with the line
 * it came from behind it, or as a note that names the line and says what to do instead.
 *
 * Thread: main.   Memory: mr_alloc, until import_close().   Time: none.
 */
#ifndef MR_APP_CLI_IMPORT_INTERNAL_H
#define MR_APP_CLI_IMPORT_INTERNAL_H

#include "app/cli/cli.h"
#include "base/text.h"

/* A line of a foreign file; `file` NULL: of none, something to know in general. */
struct import_place {
    const char *file; /* its name without folder, as long as the import */
    uint32_t line;
};

enum import_form {
    IMPORT_TEXT,  /* quoted */
    IMPORT_PLAIN, /* number, size, duration, true, false: as it is */
};

struct import_node;

/* What is being made. */
struct import {
    struct mr_cli *cli;
    struct import_node *root;
    struct import_note *note_first;
    struct import_note *note_last;
    struct mosquitto *mosquitto; /* between its begin and end */
    char **names;                /* of files, for places */
    size_t name_count;
};

/* ---- our keys ---- */

/* The mapping `name` below `parent` (NULL: the top), made if it is not there. */
struct import_node *import_child(struct import *import, struct import_node *parent,
                                 const char *name);

/* Set `key` below `parent`; dots in it are levels.  What was there gives way, with a note. */
void import_set(struct import *import, struct import_node *parent, const char *key,
                enum import_form form, const char *value, struct import_place place);

/* One more value of the list `key`. */
void import_add(struct import *import, struct import_node *parent, const char *key,
                const char *value, struct import_place place);

/* Is there such a key?  Its value, "" for a mapping; NULL: no. */
const char *import_get(const struct import *import, const struct import_node *parent,
                       const char *key);

/* Take `key` away again. */
void import_drop(struct import_node *parent, const char *key);

/* The same, with a note for each line that had made something of it. */
void import_drop_noting(struct import *import, struct import_node *parent, const char *key,
                        const char *advice);

void import_rename(struct import_node *node, const char *name);

/* ---- what has no key ---- */

/* `what`: the line as it stands there, or NULL.  Values of keys that hold secrets must have
 * been left out of it.
 */
void import_note(struct import *import, struct import_place place, const char *what,
                 const char *fmt, ...) MR_PRINTF(4, 5);

/* Does this key hold a secret? */
bool import_is_secret(const char *key);

/* ---- files ---- */

/* The bytes of a text file with a NUL behind them, at most 16 MiB; NULL after a note on stderr.
 * The caller frees them.
 */
char *import_read(struct import *import, const char *path);

/* `path` without its folders, for places. */
const char *import_file_name(struct import *import, const char *path);

/* Call `each` for the files of `folder` that end in ".conf", in the order of their names.
 * False: it cannot be listed.
 */
bool import_folder(const char *folder, bool (*each)(void *arg, const char *path), void *arg);

/* ---- the readers: false after having said why on stderr ---- */

bool import_mosquitto(struct import *import, const char *path);
void import_mosquitto_begin(struct import *import);
void import_mosquitto_end(struct import *import);

bool import_emqx(struct import *import, const char *const *paths, size_t count);

/* acl.conf of EMQX; the rules go to stdout as they are read, what has no equivalent is noted. */
bool import_acl(struct import *import, const char *path);

#endif
