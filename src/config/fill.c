/* fill.c - walk option tables and mappings together.
 *
 * DESIGN
 *
 * A field first gets its default, then the file's value if that is right; so
 * after any number of mistakes the struct is whole, and the walk goes on to find
 * all of them.  Defaults pass the same parser; one that does not is our bug.
 *
 * Missing required keys are not reported when a file could not be read to its
 * end: the key may well be in the part that is missing.
 *
 * Several tables may describe one mapping.  A name in two of them fills both.
 */
#include "config/config_internal.h"

#include <stdlib.h>

struct filling {
    struct mr_config *config;
    const char *where;                  /* dotted path of the mapping, "" at the top */
    const struct config_source *source; /* for what has no place of its own */
};

static const char *dotted(struct mr_config *config, const char *where, const char *name)
{
    return where[0] == '\0' ? name : config_format(config, "%s.%s", where, name);
}

/* Mappings and lists are shown by their key: that is the line one looks for. */
static struct config_place place_to_show(const struct mr_node *node)
{
    return node->kind != CONFIG_SCALAR && node->key.line != 0 ? node->key : node->place;
}

static const char *kind_noun(const struct mr_node *node)
{
    switch (node->kind) {
    case CONFIG_MAPPING:
        return "a group of keys";
    case CONFIG_SEQUENCE:
        return "a list";
    default:
        return "a text";
    }
}

static void problem_kind(const struct filling *fill, const char *name, const struct mr_node *node,
                         const char *expected, const char *hint)
{
    (void)config_problem_add(fill->config, place_to_show(node),
                             config_format(fill->config, "%s: %s is expected, not %s",
                                           dotted(fill->config, fill->where, name), expected,
                                           kind_noun(node)),
                             hint);
}

/* `key:` without a value.  Often the value began with '#'. */
static void problem_empty(const struct filling *fill, const char *name, const struct mr_node *node)
{
    const struct config_source *source = node->place.source;
    struct config_place place = node->key.line != 0 ? node->key : node->place;
    size_t begin = config_byte_of(source, place.line, place.col);
    size_t end = config_byte_of(source, place.line + 1, 1);
    bool comment = memchr(source->text + begin, '#', end - begin) != NULL;
    const char *hint = "give it one, write \"\" for the empty text, or remove the line";

    if (comment) {
        hint = "what follows a '#' is a comment: put the value in quotes";
    } else if (node->raw[0] != '\0') {
        hint = "a bare null or ~ means no value: put it in quotes if the word is meant";
    }
    (void)config_problem_add(
        fill->config, place,
        config_format(fill->config, "%s has no value", dotted(fill->config, fill->where, name)),
        hint);
}

/* The text of a scalar that must have one; NULL after a problem. */
static const char *scalar_text(const struct filling *fill, const char *name, struct mr_node *node)
{
    if (node->kind != CONFIG_SCALAR) {
        problem_kind(fill, name, node, "a text", NULL);
        return NULL;
    }
    if (config_node_is_empty(node)) {
        problem_empty(fill, name, node);
        return NULL;
    }
    const char *text = mr_node_text(fill->config, node);
    return node->failed ? NULL : text;
}

static void number_store(const struct mr_option *option, void *field, uint64_t value)
{
    switch (option->type) {
    case MR_OPT_BOOL:
        *(bool *)field = value != 0;
        break;
    case MR_OPT_CHOICE:
    case MR_OPT_CHOICE_OR_PAIRS: /* its first member */
        *(uint32_t *)field = (uint32_t)value;
        break;
    default:
        *(uint64_t *)field = value;
        break;
    }
}

static void number_fill(const struct filling *fill, const struct mr_option *option, void *field,
                        struct mr_node *node)
{
    struct mr_option_fault fault;
    uint64_t value = 0;

    if (option->default_text != NULL) {
        enum mr_err err = mr_option_parse(option, option->default_text, &value, &fault);
        mr_assert(err == MR_OK);
    }
    number_store(option, field, value);
    if (node == NULL) {
        return;
    }

    const char *text = scalar_text(fill, option->name, node);
    if (text == NULL) {
        return;
    }
    if (mr_option_parse(option, text, &value, &fault) != MR_OK) {
        (void)config_problem_add(fill->config, node->place,
                                 config_format(fill->config, "%s: %s",
                                               dotted(fill->config, fill->where, option->name),
                                               fault.problem),
                                 config_copy(fill->config, fault.hint, strlen(fault.hint)));
        return;
    }
    number_store(option, field, value);
}

static void text_fill(const struct filling *fill, const struct mr_option *option, void *field,
                      struct mr_node *node)
{
    const char **into = field;

    *into = option->default_text;
    const char *text = node == NULL ? NULL : scalar_text(fill, option->name, node);
    if (text != NULL) {
        *into = option->type == MR_OPT_PATH
                    ? config_path_from(fill->config, node->place.source, text)
                    : text;
    }
}

/* ---- secrets ---- */

/* About where a secret is to be found, never about the secret itself. */
static void problem_secret(const struct filling *fill, struct config_place place, const char *name,
                           const char *text, const char *hint)
{
    (void)config_problem_add(
        fill->config, place,
        config_format(fill->config, "%s: %s", dotted(fill->config, fill->where, name), text), hint);
}

/* The path that {file: PATH} or {credential: NAME} stands for; NULL after a problem. */
static const char *secret_path(const struct filling *fill, const char *name, struct mr_node *node)
{
    static const char *const known[] = {"file", "credential", NULL};
    struct filling inner = *fill;
    struct mr_node *file = mr_node_child(node, "file");
    struct mr_node *credential = mr_node_child(node, "credential");

    inner.where = dotted(fill->config, fill->where, name);
    mr_config_known(fill->config, node, inner.where, known);
    if (node->count != 1 || (file == NULL && credential == NULL)) {
        if (node->count != 1) {
            problem_secret(fill, place_to_show(node), name,
                           "one of file and credential is expected", NULL);
        }
        return NULL;
    }
    if (file != NULL) {
        const char *path = scalar_text(&inner, "file", file);
        return path == NULL ? NULL : config_path_from(fill->config, file->place.source, path);
    }

    const char *wanted = scalar_text(&inner, "credential", credential);
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (wanted == NULL) {
        return NULL;
    }
    if (wanted[0] == '\0' || wanted[0] == '.' || strchr(wanted, '/') != NULL) {
        problem_secret(fill, credential->place, name, "a credential's name is a file name", NULL);
        return NULL;
    }
    if (folder == NULL) {
        problem_secret(fill, credential->place, name, "$CREDENTIALS_DIRECTORY is not set",
                       config_format(fill->config,
                                     "systemd sets it when the unit has LoadCredential=%s:/path",
                                     wanted));
        return NULL;
    }
    return config_join(fill->config, folder, strlen(folder), wanted);
}

static const char *secret_of_file(const struct filling *fill, const char *name,
                                  struct mr_node *node)
{
    const char *path = secret_path(fill, name, node);
    const char *text = NULL;
    size_t len = 0;

    if (path == NULL) {
        return NULL;
    }
    const char *why = config_read_file(fill->config, path, CONFIG_SECRET_BYTES_MAX, &text, &len);
    if (why == NULL) {
        if (len > 0 && text[len - 1] == '\n') {
            len -= len > 1 && text[len - 2] == '\r' ? 2 : 1;
        }
        if (len == 0) {
            why = "it is empty";
        } else if (memchr(text, '\0', len) != NULL) {
            why = "it holds the character NUL";
        }
    }
    if (why != NULL) {
        problem_secret(fill, node->entries[0].node->place, name,
                       config_format(fill->config, "cannot use %s: %s", path, why), NULL);
        return NULL;
    }
    return config_copy(fill->config, text, len);
}

static void secret_fill(const struct filling *fill, const struct mr_option *option, void *field,
                        struct mr_node *node)
{
    const char **into = field;
    const char *text = NULL;

    *into = option->default_text;
    if (node == NULL) {
        return;
    }
    if (node->kind == CONFIG_MAPPING) {
        text = secret_of_file(fill, option->name, node);
    } else {
        size_t before = fill->config->problem_count;
        text = scalar_text(fill, option->name, node);
        for (size_t i = before; i < fill->config->problem_count; i++) {
            fill->config->problems[i].hide = true;
        }
    }
    if (text != NULL) {
        *into = text;
    }
}

/* ---- lists and pairs ---- */

static void list_fill(const struct filling *fill, const struct mr_option *option, void *field,
                      struct mr_node *node)
{
    struct mr_list *list = field;
    size_t count = node == NULL || node->kind == CONFIG_SCALAR ? 1 : node->count;
    const char **items = config_alloc(fill->config, (count + 1) * sizeof(*items));

    *list = (struct mr_list){.items = items, .count = 0};
    if (node == NULL || node->kind == CONFIG_MAPPING) {
        if (option->default_text != NULL) {
            items[0] = option->default_text;
            list->count = 1;
        }
        if (node != NULL) {
            problem_kind(fill, option->name, node, "a list of texts",
                         "write [\"a\", \"b\"], or '- a' in lines of their own");
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct mr_node *item = node->kind == CONFIG_SCALAR ? node : node->entries[i].node;
        const char *text = scalar_text(fill, option->name, item);
        if (text != NULL) {
            items[list->count] = text;
            list->count += 1;
        }
    }
}

static size_t leaf_count(const struct mr_node *mapping)
{
    size_t count = 0;

    for (size_t i = 0; i < mapping->count; i++) {
        const struct mr_node *child = mapping->entries[i].node;
        count += child->kind == CONFIG_MAPPING ? leaf_count(child) : 1;
    }
    return count;
}

/* `linger: {ms: 5}` and `linger.ms: 5` are the same pair: --set a.b.c=v cannot
 * tell a dot in a name from a level.
 */
static void pairs_add(const struct filling *fill, struct mr_node *mapping, const char *prefix,
                      struct mr_pairs *pairs)
{
    for (size_t i = 0; i < mapping->count; i++) {
        struct mr_node *child = mapping->entries[i].node;
        const char *name = dotted(fill->config, prefix, mapping->entries[i].name);

        if (child->kind == CONFIG_MAPPING) {
            pairs_add(fill, child, name, pairs);
            continue;
        }
        const char *text = scalar_text(fill, name, child);
        if (text != NULL) {
            pairs->items[pairs->count] = (struct mr_pair){.name = name, .value = text};
            pairs->count += 1;
        }
    }
}

static void pairs_fill(const struct filling *fill, const struct mr_option *option, void *field,
                       struct mr_node *node)
{
    struct mr_pairs *pairs = field;
    struct filling inner = *fill;

    *pairs = (struct mr_pairs){0};
    if (node == NULL) {
        return;
    }
    if (node->kind != CONFIG_MAPPING) {
        problem_kind(fill, option->name, node, "a group of keys", "write 'name: value' below it");
        return;
    }
    size_t count = leaf_count(node);
    pairs->items = config_alloc(fill->config, (count + 1) * sizeof(*pairs->items));
    inner.where = dotted(fill->config, fill->where, option->name);
    pairs_add(&inner, node, "", pairs);
    for (size_t i = 0; option->paths && i < pairs->count; i++) {
        struct mr_pair *pair = &pairs->items[i];
        pair->name = config_path_from(fill->config, node->place.source, pair->name);
        pair->value = config_path_from(fill->config, node->place.source, pair->value);
    }
}

/* One of the choices, or a mapping, or a list of mappings. */
static void choice_or_pairs_fill(const struct filling *fill, const struct mr_option *option,
                                 void *field, struct mr_node *node)
{
    struct mr_choice_or_pairs *into = field;
    struct mr_pairs *pairs = &into->pairs;
    struct filling inner = *fill;
    size_t count = 0;

    *pairs = (struct mr_pairs){0};
    if (node == NULL || node->kind == CONFIG_SCALAR) {
        number_fill(fill, option, field, node);
        return;
    }
    number_fill(fill, option, field, NULL);
    bool list = node->kind == CONFIG_SEQUENCE;
    for (size_t i = 0; list && i < node->count; i++) {
        const struct mr_node *item = node->entries[i].node;
        if (item->kind != CONFIG_MAPPING) {
            problem_kind(fill, option->name, item, "a list of 'name: value'",
                         "write '- name: value' in lines of their own");
            return;
        }
        count += leaf_count(item);
    }
    count = list ? count : leaf_count(node);
    if (count == 0) {
        problem_kind(fill, option->name, node, "at least one 'name: value'",
                     "write 'name: value' below it");
        return;
    }
    pairs->items = config_alloc(fill->config, (count + 1) * sizeof(*pairs->items));
    inner.where = dotted(fill->config, fill->where, option->name);
    for (size_t i = 0; list && i < node->count; i++) {
        pairs_add(&inner, node->entries[i].node, "", pairs);
    }
    if (!list) {
        pairs_add(&inner, node, "", pairs);
    }
    for (into->choice = 0; option->choices[into->choice] != NULL; into->choice++) {
    }
}

/* ---- tables ---- */

static void table_fill(const struct filling *fill, const struct mr_option *table, void *into,
                       struct mr_node *mapping, bool missing_counts);

static void section_fill(const struct filling *fill, const struct mr_option *option, void *field,
                         struct mr_node *node)
{
    struct filling inner = *fill;
    struct mr_fill self = {.table = option->table, .into = field};

    inner.where = dotted(fill->config, fill->where, option->name);
    if (node == NULL) { /* what is required in it is so only when it is there */
        table_fill(&inner, option->table, field, NULL, option->required);
        return;
    }
    mr_config_fill(fill->config, node, inner.where, &self, 1);
}

static void option_fill(const struct filling *fill, const struct mr_option *option, void *field,
                        struct mr_node *node)
{
    switch (option->type) {
    case MR_OPT_STR:
    case MR_OPT_PATH:
        text_fill(fill, option, field, node);
        break;
    case MR_OPT_SECRET:
        secret_fill(fill, option, field, node);
        break;
    case MR_OPT_LIST:
        list_fill(fill, option, field, node);
        break;
    case MR_OPT_PAIRS:
        pairs_fill(fill, option, field, node);
        break;
    case MR_OPT_CHOICE_OR_PAIRS:
        choice_or_pairs_fill(fill, option, field, node);
        break;
    case MR_OPT_SECTION:
        section_fill(fill, option, field, node);
        break;
    default:
        number_fill(fill, option, field, node);
        break;
    }
}

static void problem_missing(const struct filling *fill, const struct mr_option *option,
                            const struct mr_node *mapping)
{
    struct config_place place = {.source = fill->source};
    const char *hint = NULL;

    if (mapping != NULL) {
        place = mapping->key.line != 0 ? mapping->key : mapping->place;
    }
    if (option->help != NULL) {
        hint = config_format(fill->config, "%s: %s", option->name, option->help);
    }
    (void)config_problem_add(fill->config, place,
                             config_format(fill->config, "missing key '%s' in %s", option->name,
                                           fill->where[0] == '\0' ? "the file" : fill->where),
                             hint);
}

static void table_fill(const struct filling *fill, const struct mr_option *table, void *into,
                       struct mr_node *mapping, bool missing_counts)
{
    for (const struct mr_option *option = table; option->name != NULL; option++) {
        struct mr_node *node = mr_node_child(mapping, option->name);

        option_fill(fill, option, (char *)into + option->offset, node);
        if (node == NULL && option->required && missing_counts && !fill->config->broken) {
            problem_missing(fill, option, mapping);
        }
    }
}

/* ---- unknown keys ---- */

static const struct mr_option *row_of(const struct mr_fill *fills, size_t fill_count,
                                      const char *name)
{
    for (size_t i = 0; i < fill_count; i++) {
        for (const struct mr_option *row = fills[i].table; row->name != NULL; row++) {
            if (strcmp(row->name, name) == 0) {
                return row;
            }
        }
    }
    return NULL;
}

static const char *const *names_of(struct mr_config *config, const struct mr_fill *fills,
                                   size_t fill_count)
{
    size_t count = 0;

    for (size_t i = 0; i < fill_count; i++) {
        for (const struct mr_option *row = fills[i].table; row->name != NULL; row++) {
            count += 1;
        }
    }
    const char **names = config_alloc(config, (count + 1) * sizeof(*names));
    count = 0;
    for (size_t i = 0; i < fill_count; i++) {
        for (const struct mr_option *row = fills[i].table; row->name != NULL; row++) {
            names[count] = row->name;
            count += 1;
        }
    }
    return names;
}

static struct config_problem *problem_unknown(struct mr_config *config,
                                              const struct config_entry *entry, const char *where,
                                              const char *const *names)
{
    const char *text = where[0] == '\0'
                           ? config_format(config, "unknown key '%s'", entry->name)
                           : config_format(config, "unknown key '%s' in %s", entry->name, where);

    return config_problem_add(config, entry->place, text,
                              config_names_hint(config, entry->name, names));
}

void mr_config_fill(struct mr_config *config, struct mr_node *mapping, const char *where,
                    const struct mr_fill *fills, size_t fill_count)
{
    struct filling fill = {.config = config, .where = where, .source = config->main_source};
    const char *const *names = names_of(config, fills, fill_count);

    if (mapping != NULL && mapping->kind != CONFIG_MAPPING) {
        const char *text = config_node_is_empty(mapping)
                               ? config_format(config, "%s has no keys", where)
                               : config_format(config, "%s: a group of keys is expected, not %s",
                                               where, kind_noun(mapping));
        (void)config_problem_add(
            config, mapping->key.line != 0 ? mapping->key : mapping->place, text,
            "write them indented below it, or {} if all shall have their defaults");
        for (size_t i = 0; i < fill_count; i++) {
            table_fill(&fill, fills[i].table, fills[i].into, NULL, false);
        }
        return;
    }

    for (size_t i = 0; i < fill_count; i++) {
        table_fill(&fill, fills[i].table, fills[i].into, mapping, true);
    }
    for (size_t i = 0; mapping != NULL && i < mapping->count; i++) {
        const struct config_entry *entry = &mapping->entries[i];
        if (row_of(fills, fill_count, entry->name) == NULL) {
            struct config_problem *problem = problem_unknown(config, entry, where, names);
            const char *near = mr_config_nearest(entry->name, names);
            const struct mr_option *row = near == NULL ? NULL : row_of(fills, fill_count, near);
            problem->hide = row != NULL && row->type == MR_OPT_SECRET;
        }
    }
}

void mr_config_known(struct mr_config *config, struct mr_node *mapping, const char *where,
                     const char *const *known)
{
    for (size_t i = 0; mapping != NULL && mapping->kind == CONFIG_MAPPING && i < mapping->count;
         i++) {
        const struct config_entry *entry = &mapping->entries[i];
        bool found = false;
        for (size_t k = 0; known[k] != NULL; k++) {
            found = found || strcmp(known[k], entry->name) == 0;
        }
        if (!found) {
            (void)problem_unknown(config, entry, where, known);
        }
    }
}
