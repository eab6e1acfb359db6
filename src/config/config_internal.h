/* config_internal.h - the tree, its sources and the list of problems.
 *
 *     source (text of one file) ──load.c──▶ nodes ──fill.c──▶ structs
 *                                   └──────── problems ◀────────┘ ──report.c──▶ person
 *
 * Every node knows where its value and its key stand, so that whatever is found
 * wrong later can be pointed at.
 *
 * Thread: one.
 * Memory: everything hangs on config->memory and goes with mr_config_close().
 */
#ifndef MR_CONFIG_CONFIG_INTERNAL_H
#define MR_CONFIG_CONFIG_INTERNAL_H

#include "config/config.h"

enum {
    CONFIG_FILE_BYTES_MAX = 16 << 20,
    CONFIG_SECRET_BYTES_MAX = 64 << 10,
    CONFIG_DEPTH_MAX = 64,     /* of nested mappings and lists */
    CONFIG_NODES_MAX = 200000, /* aliases may multiply nodes; this bounds them */
    CONFIG_PROBLEMS_MAX = 200, /* more would not be read */
};

struct config_source {
    struct config_source *next;
    const char *name; /* as in messages */
    const char *text; /* without byte order mark, NUL-terminated; may be "" */
    size_t len;
    unsigned index; /* order of reading = order of reporting */
    bool is_set;    /* a --set argument, not a file */
};

/* Where something stands.  Lines and columns count from 1, columns in
 * characters; line 0: the file as a whole.
 */
struct config_place {
    const struct config_source *source;
    uint32_t line;
    uint32_t col;
    uint32_t len; /* characters to underline, at least 1 */
    uint32_t end_line;
};

enum config_kind { CONFIG_SCALAR, CONFIG_MAPPING, CONFIG_SEQUENCE };

struct config_entry {
    const char *name;          /* NULL in a sequence */
    struct config_place place; /* of the key */
    struct mr_node *node;
};

struct mr_node {
    enum config_kind kind;
    bool plain; /* a scalar without quotes: it may be empty or null */
    struct config_place place;
    struct config_place key; /* of its own key; line 0 at the root */
    const char *raw;         /* scalar: as parsed */
    const char *text;        /* scalar: after interpolation, once it was asked for */
    bool failed;             /* interpolation had a problem: `text` is not what was meant */
    struct config_entry *entries;
    size_t count;
    size_t capacity;
};

struct config_problem {
    struct config_place place;
    const char *text;
    const char *hint; /* NULL: none; may have several lines */
    unsigned order;   /* of being found */
    bool hide;        /* the line shows a secret */
};

struct mr_config {
    void *memory; /* list of blocks */
    struct config_source *sources;
    struct config_source *main_source;
    struct mr_node *root;
    size_t node_count;
    struct config_problem *problems;
    size_t problem_count;
    size_t problem_capacity;
    size_t problems_dropped;
    struct config_problem dropped; /* takes the writes to those beyond the limit */
    bool broken; /* a file could not be read to its end: "missing" means nothing */
};

/* ---- memory.c ---- */

void *config_alloc(struct mr_config *config, size_t size) MR_MUST_USE; /* zeroed, 16-aligned */
const char *config_copy(struct mr_config *config, const char *text, size_t len);
const char *config_format(struct mr_config *config, const char *fmt, ...) MR_PRINTF(2, 3);

/* Read a file as a whole; *text is NUL-terminated.  NULL: fine, else why not. */
const char *config_read_file(struct mr_config *config, const char *path, size_t bytes_max,
                             const char **text, size_t *len);

/* "folder/name", of a folder of `folder_len` characters. */
const char *config_join(struct mr_config *config, const char *folder, size_t folder_len,
                        const char *name);

/* `path` as seen from the folder of the file `source`. */
const char *config_path_from(struct mr_config *config, const struct config_source *source,
                             const char *path);

/* ---- load.c ---- */

struct config_source *config_source_add(struct mr_config *config, const char *name,
                                        const char *text, size_t len);

/* Parse `source` into a tree of its own; NULL if it is empty. */
struct mr_node *config_parse(struct mr_config *config, const struct config_source *source);

/* ---- tree.c ---- */

/* NULL when there are too many nodes. */
struct mr_node *config_node_new(struct mr_config *config, enum config_kind kind,
                                struct config_place place);
struct config_entry *config_entry_add(struct mr_config *config, struct mr_node *parent,
                                      const char *name, struct config_place key,
                                      struct mr_node *node);
struct config_entry *config_entry_find(struct mr_node *mapping, const char *name);
struct mr_node *config_node_copy(struct mr_config *config, const struct mr_node *node);
void config_merge(struct mr_config *config, struct mr_node *into, struct mr_node *from);

/* Is it `key:` with nothing behind it, or YAML's null? */
bool config_node_is_empty(const struct mr_node *node);

/* ---- report.c ---- */

struct config_problem *config_problem_add(struct mr_config *config, struct config_place place,
                                          const char *text, const char *hint);

/* Byte position in the text of a line and column, and the other way round. */
size_t config_byte_of(const struct config_source *source, uint32_t line, uint32_t col);
struct config_place config_place_of(const struct config_source *source, size_t byte);

/* ---- option.c ---- */

void config_value_describe(const struct mr_option *option, uint64_t value, struct mr_text *out);
void config_range_describe(const struct mr_option *option, struct mr_text *out);
void config_choices_describe(const struct mr_option *option, struct mr_text *out);

/* How to go on after an unknown name: the near one, else all there are. */
const char *config_names_hint(struct mr_config *config, const char *wrong,
                              const char *const *candidates);

#endif
