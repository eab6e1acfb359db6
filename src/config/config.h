/* config.h - read YAML files, fill structs by tables, report every mistake.
 *
 *     mr_config_open(files) ─▶ tree with file:line:col on every node
 *     mr_config_fill(node, table, struct) ─▶ checks types, ranges, unknown keys
 *     mr_config_report() ─▶ all problems at once, with caret and "did you mean"
 *
 *     millrace.yaml:7:5: unknown key 'mesage_key' in bridges.kafka
 *         7 |     mesage_key: "${clientid}"
 *           |     ^^^^^^^^^^
 *       did you mean 'message_key'?
 *
 * `${env:NAME}` and `${env:NAME:-default}` are put in per scalar after parsing,
 * so a value can never add keys; an unset variable is an error.  Other `${…}`
 * belong to templates and stay.  `$${env:` is a literal `${env:`; any other `$${` is
 * left to the template it stands in.  A later file of conf.d adds to or replaces
 * keys of an earlier one.  Scalars are text until a table says what they are:
 * there is no norway problem and no octal.
 *
 * Thread: one.   Memory: everything filled lives until mr_config_close().
 */
#ifndef MR_CONFIG_CONFIG_H
#define MR_CONFIG_CONFIG_H

#include "base/text.h"
#include "config/option.h"

struct mr_config;
struct mr_node; /* a mapping, sequence or scalar with its place */

/* Read `path` and, if there is a folder `conf.d` beside it, its *.yaml in name
 * order.  Syntax errors and unreadable files become problems, not results: the
 * tree is then what could be read.  Never fails otherwise.
 */
struct mr_config *mr_config_open(const char *path);

/* The same from text in memory; `name` stands for the file in messages, and its
 * folder is the one relative paths are relative to.
 */
struct mr_config *mr_config_open_text(const char *name, const char *text);
void mr_config_close(struct mr_config *config);

/* Replace or add one value, as `--set a.b.c=value` does.  Before the first fill. */
void mr_config_set(struct mr_config *config, const char *dotted_path, const char *value);

/* Keys that mapping `parent` does not have below its key `name` become those of `base`
 * (NULL: nothing happens): what one place says for all, each may say for itself.  A value
 * of another kind stays as it is, to be refused by the fill.
 */
void mr_config_inherit(struct mr_config *config, struct mr_node *parent, const char *name,
                       struct mr_node *base);

struct mr_node *mr_config_root(struct mr_config *config); /* NULL: an empty file */

/* Child of a mapping by name, NULL if absent; its entries in file order. */
struct mr_node *mr_node_child(struct mr_node *mapping, const char *name);
size_t mr_node_count(struct mr_node *mapping); /* of a sequence too; 0 for a scalar */
struct mr_node *mr_node_at(struct mr_node *mapping, size_t index, const char **name);
bool mr_node_is_mapping(const struct mr_node *node);

/* A scalar's text after interpolation; NULL if it is not a scalar. */
const char *mr_node_text(struct mr_config *config, struct mr_node *node);

/* Fill `into` from `mapping` (NULL: all defaults).  `where` is the dotted path
 * for messages.  Several tables may share one mapping (a bridge's common keys
 * and its sink's): give them together, so that "unknown key" knows all of them.
 * Problems are collected; what is wrong keeps its default.
 */
struct mr_fill {
    const struct mr_option *table;
    void *into;
};
void mr_config_fill(struct mr_config *config, struct mr_node *mapping, const char *where,
                    const struct mr_fill *fills, size_t fill_count);

/* Report unknown keys of a mapping whose keys are fixed but have no table (the
 * top level): `known` is NULL-terminated.
 */
void mr_config_known(struct mr_config *config, struct mr_node *mapping, const char *where,
                     const char *const *known);

/* Add a problem at `node` (its value) or at key `name` of mapping `node`.
 * For checks the tables cannot express.
 */
void mr_config_problem(struct mr_config *config, struct mr_node *node, const char *name,
                       const char *fmt, ...) MR_PRINTF(4, 5);

size_t mr_config_problem_count(const struct mr_config *config);

/* All problems, in order of file and line, as the picture above; `color` for
 * terminals.  Written through `write`, piece by piece.
 */
void mr_config_report(struct mr_config *config, bool color,
                      void (*write)(void *arg, const char *text, size_t len), void *arg);

/* Documentation of a table: one Markdown table row per option (docs/CONFIG.md). */
void mr_config_document(const char *title, const struct mr_option *table,
                        void (*write)(void *arg, const char *text, size_t len), void *arg);

/* One value as it is in force, and where it comes from.  Borrowed for the call. */
struct mr_config_shown {
    const char *key;    /* "bridges.kafka.topic" */
    const char *value;  /* as one would write it in the file; secrets: ***; NULL: none */
    const char *origin; /* "default", "/etc/millrace.yaml:7", "--set", and, when it was put
                           together from them, "environment NAME" behind it */
    bool is_default;
};

/* Show every value of what mr_config_fill() filled, with the same arguments. */
void mr_config_show(struct mr_config *config, struct mr_node *mapping, const char *where,
                    const struct mr_fill *fills, size_t fill_count,
                    void (*each)(void *arg, const struct mr_config_shown *shown), void *arg);

/* How many values of two structs filled by `table` differ; `each` (may be NULL) is told
 * of every one, secrets as ***.  `where` as in mr_config_fill().
 */
struct mr_config_changed {
    const char *key; /* "bridges.kafka.topic" */
    const char *before;
    const char *after; /* "none": there is no value */
    bool live;         /* a reload puts it in force */
};
size_t mr_config_compare(const struct mr_option *table, const char *where, const void *before,
                         const void *after,
                         void (*each)(void *arg, const struct mr_config_changed *changed),
                         void *arg);

/* The properties of tables as the inside of a JSON schema's object: "properties",
 * "required" and "additionalProperties".
 */
void mr_config_schema(const struct mr_option *const *tables, size_t table_count,
                      void (*write)(void *arg, const char *text, size_t len), void *arg);

/* The one of `candidates` (NULL-terminated) that `wrong` was probably meant to be,
 * or NULL if none is near.
 */
const char *mr_config_nearest(const char *wrong, const char *const *candidates);

#endif
