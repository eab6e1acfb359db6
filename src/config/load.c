/* load.c - from files to a tree: reading, conf.d, libyaml's events.
 *
 * DESIGN
 *
 * libyaml's event parser is used, not its document loader: events carry marks
 * for keys and values, and a syntax error leaves us what was read before it.
 * Nodes are hung into the tree before their children are parsed, so nothing is
 * lost when parsing ends early.
 *
 * Each file is first checked for UTF-8; then positions in characters (libyaml's
 * marks) and positions in bytes can be turned into each other without surprises.
 *
 * Aliases are copies.  conf.d and --set change nodes in place, and a change in
 * one bridge must not reach another that shares a block with it.  The number of
 * nodes is bounded, so aliases of aliases cannot exhaust memory.
 *
 * INVARIANTS
 *
 *   (1) Every mapping entry has a name, no sequence entry has one.
 *   (2) After a problem that ended parsing early, config->broken is set.
 */
#include "config/config_internal.h"
#include "config/yaml_words_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

struct config_source *config_source_add(struct mr_config *config, const char *name,
                                        const char *text, size_t len)
{
    struct config_source *source = config_alloc(config, sizeof(*source));
    struct config_source **last = &config->sources;

    while (*last != NULL) {
        source->index += 1;
        last = &(*last)->next;
    }
    *last = source;
    source->name = config_copy(config, name, strlen(name));
    source->text = text;
    source->len = len;
    return source;
}

/* ---- events to nodes ---- */

struct anchor {
    struct anchor *next;
    const char *name;
    const struct mr_node *node;
};

struct builder {
    struct mr_config *config;
    const struct config_source *source;
    struct anchor *anchors;
    struct mr_node *last_parent; /* of the scalar that was just added; else NULL */
    yaml_parser_t parser;
};

static struct config_place place_of(const struct builder *build, yaml_mark_t start, yaml_mark_t end)
{
    struct config_place place = {
        .source = build->source,
        .line = (uint32_t)start.line + 1,
        .col = (uint32_t)start.column + 1,
        .len = 1,
        .end_line = (uint32_t)end.line + 1,
    };
    if (end.line == start.line && end.column > start.column) {
        place.len = (uint32_t)(end.column - start.column);
    }
    return place;
}

/* End parsing of this file with a problem. */
static void builder_stop(struct builder *build, struct config_place place, const char *text,
                         const char *hint)
{
    (void)config_problem_add(build->config, place, text, hint);
    build->config->broken = true;
}

/* A scalar right before a syntax error is dropped: often it ran on into the
 * line that is wrong ("servers "a"" and the next key make one text), and a
 * second problem about it would only confuse.
 */
static bool next_event(struct builder *build, yaml_event_t *event)
{
    if (yaml_parser_parse(&build->parser, event)) {
        return true;
    }
    if (build->last_parent != NULL) {
        build->last_parent->count -= 1;
    }
    struct config_words words = config_yaml_words(build->config, build->source, &build->parser);
    builder_stop(build, words.place, words.text, words.hint);
    return false;
}

static bool parse_node(struct builder *build, yaml_event_t *event, unsigned depth,
                       struct mr_node *parent, const char *name, struct config_place key);

static void remember_anchor(struct builder *build, const yaml_char_t *name,
                            const struct mr_node *node)
{
    if (name == NULL) {
        return;
    }
    struct anchor *anchor = config_alloc(build->config, sizeof(*anchor));
    anchor->next = build->anchors;
    anchor->name = config_copy(build->config, (const char *)name, strlen((const char *)name));
    anchor->node = node;
    build->anchors = anchor;
}

static struct mr_node *alias_copy(struct builder *build, const yaml_event_t *event,
                                  struct config_place place)
{
    const char *name = (const char *)event->data.alias.anchor;

    for (struct anchor *anchor = build->anchors; anchor != NULL; anchor = anchor->next) {
        if (strcmp(anchor->name, name) == 0) {
            struct mr_node *copy = config_node_copy(build->config, anchor->node);
            if (copy == NULL) {
                builder_stop(build, place, "the aliases multiply into too many values", NULL);
            }
            return copy;
        }
    }
    builder_stop(build, place, config_format(build->config, "nothing above is called '&%s'", name),
                 "'*' begins an alias in YAML; put the value in quotes if it is meant as text");
    return NULL;
}

/* The pairs of a mapping up to its end event. */
static bool parse_mapping(struct builder *build, struct mr_node *mapping, unsigned depth)
{
    for (;;) {
        yaml_event_t event;
        if (!next_event(build, &event)) {
            return false;
        }
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            build->last_parent = NULL;
            return true;
        }

        struct config_place key = place_of(build, event.start_mark, event.end_mark);
        if (event.type != YAML_SCALAR_EVENT) {
            yaml_event_delete(&event);
            builder_stop(build, key, "a key must be a word",
                         "put it in quotes if it begins with one of * & [ { ?");
            return false;
        }
        const char *name = config_copy(build->config, (const char *)event.data.scalar.value,
                                       event.data.scalar.length);
        yaml_event_delete(&event);
        build->last_parent = NULL;

        struct config_entry *first = config_entry_find(mapping, name);
        if (first != NULL) {
            (void)config_problem_add(
                build->config, key, config_format(build->config, "duplicate key '%s'", name),
                config_format(build->config, "it is already set in line %u; keep one of the two",
                              first->place.line));
        }
        if (!next_event(build, &event) ||
            !parse_node(build, &event, depth + 1, mapping, name, key)) {
            return false;
        }
    }
}

static bool parse_sequence(struct builder *build, struct mr_node *sequence, unsigned depth)
{
    for (;;) {
        yaml_event_t event;
        if (!next_event(build, &event)) {
            return false;
        }
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            build->last_parent = NULL;
            return true;
        }
        struct config_place place = place_of(build, event.start_mark, event.end_mark);
        if (!parse_node(build, &event, depth + 1, sequence, NULL, place)) {
            return false;
        }
    }
}

/* The node that `event` begins; NULL: parsing of this file has ended. */
static struct mr_node *node_of_event(struct builder *build, const yaml_event_t *event,
                                     struct config_place place)
{
    struct mr_node *node = NULL;

    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return alias_copy(build, event, place);
    case YAML_SCALAR_EVENT:
        node = config_node_new(build->config, CONFIG_SCALAR, place);
        if (node != NULL) {
            node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
            node->raw = config_copy(build->config, (const char *)event->data.scalar.value,
                                    event->data.scalar.length);
            if (strlen(node->raw) != event->data.scalar.length) {
                builder_stop(build, place, "a value cannot contain the character NUL", NULL);
                return NULL;
            }
        }
        break;
    case YAML_MAPPING_START_EVENT:
        node = config_node_new(build->config, CONFIG_MAPPING, place);
        break;
    default:
        node = config_node_new(build->config, CONFIG_SEQUENCE, place);
        break;
    }
    if (node == NULL) {
        builder_stop(build, place, "there are too many values", NULL);
    }
    return node;
}

static const yaml_char_t *anchor_of_event(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor;
    default:
        return NULL;
    }
}

/* Consumes `event`.  False: parsing of this file has ended. */
static bool parse_node(struct builder *build, yaml_event_t *event, unsigned depth,
                       struct mr_node *parent, const char *name, struct config_place key)
{
    struct config_place place = place_of(build, event->start_mark, event->end_mark);
    yaml_event_type_t type = event->type;
    bool ok = true;

    if (depth > CONFIG_DEPTH_MAX) {
        yaml_event_delete(event);
        builder_stop(build, place, "values are nested too deeply", NULL);
        return false;
    }
    struct mr_node *node = node_of_event(build, event, place);
    if (node == NULL) {
        yaml_event_delete(event);
        return false;
    }
    struct config_entry *twin = name == NULL ? NULL : config_entry_find(parent, name);
    build->last_parent = NULL;
    if (twin == NULL) { /* of duplicate keys, which were reported, the first counts */
        (void)config_entry_add(build->config, parent, name, key, node);
        build->last_parent = type == YAML_SCALAR_EVENT ? parent : NULL;
    }

    if (type == YAML_MAPPING_START_EVENT) {
        ok = parse_mapping(build, node, depth);
    } else if (type == YAML_SEQUENCE_START_EVENT) {
        ok = parse_sequence(build, node, depth);
    }
    if (ok) {
        remember_anchor(build, anchor_of_event(event), node);
    }
    yaml_event_delete(event);
    return ok;
}

/* The documents of the stream: none or one is right. */
static void parse_stream(struct builder *build, struct mr_node *top)
{
    for (;;) {
        yaml_event_t event;
        if (!next_event(build, &event)) {
            return;
        }
        struct config_place place = place_of(build, event.start_mark, event.end_mark);
        yaml_event_type_t type = event.type;

        switch (type) {
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT:
            yaml_event_delete(&event);
            break;
        case YAML_STREAM_END_EVENT:
            yaml_event_delete(&event);
            return;
        case YAML_DOCUMENT_START_EVENT:
            yaml_event_delete(&event);
            if (top->count > 0) {
                builder_stop(build, place, "a second document begins here",
                             "a file holds one document: remove the line '---'");
                return;
            }
            break;
        default:
            if (!parse_node(build, &event, 0, top, NULL, (struct config_place){0})) {
                return;
            }
            break;
        }
    }
}

struct mr_node *config_parse(struct mr_config *config, const struct config_source *source)
{
    struct builder build = {.config = config, .source = source};
    struct mr_node top = {.kind = CONFIG_SEQUENCE};

    if (yaml_parser_initialize(&build.parser) == 0) {
        builder_stop(&build, (struct config_place){.source = source}, "no memory to read it", NULL);
        return NULL;
    }
    yaml_parser_set_encoding(&build.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&build.parser, (const unsigned char *)source->text, source->len);
    parse_stream(&build, &top);
    yaml_parser_delete(&build.parser);

    struct mr_node *root = top.count == 0 ? NULL : top.entries[0].node;
    if (root == NULL || config_node_is_empty(root)) {
        return NULL;
    }
    if (root->kind != CONFIG_MAPPING) {
        builder_stop(&build, root->place, "the file must begin with a key",
                     "such as 'bridges:' at the beginning of a line, and what belongs to it "
                     "indented below");
        return NULL;
    }
    return root;
}

/* ---- files ---- */

/* Position of the first byte that is no UTF-8; `len` if all is well. */
static size_t first_bad_byte(const char *text, size_t len)
{
    enum { CHARACTER_BYTES_MAX = 4 };
    size_t at = 0;

    while (at < len) {
        size_t size = 1;
        while (size <= CHARACTER_BYTES_MAX && at + size <= len &&
               !mr_utf8_valid(mr_span_make(text + at, size))) {
            size += 1;
        }
        if (size > CHARACTER_BYTES_MAX || at + size > len) {
            return at;
        }
        at += size;
    }
    return len;
}

/* Check the bytes of one file and merge what they say into the tree. */
static void load_text(struct mr_config *config, const char *name, const char *text, size_t len)
{
    static const char bom[] = "\xef\xbb\xbf"; /* Windows editors write it */

    if (len >= 3 && memcmp(text, bom, 3) == 0) {
        text += 3;
        len -= 3;
    }
    struct config_source *source = config_source_add(config, name, text, len);
    if (config->main_source == NULL) {
        config->main_source = source;
    }
    if (!mr_utf8_valid(mr_span_make(text, len))) {
        size_t at = first_bad_byte(text, len);
        (void)config_problem_add(
            config, config_place_of(source, at),
            config_format(config, "byte 0x%02x is not UTF-8 text", (unsigned char)text[at]),
            "save the file as UTF-8 (it may be Latin-1, UTF-16 or not a text file)");
        config->broken = true;
        return;
    }

    struct mr_node *root = config_parse(config, source);
    if (root == NULL) {
        return;
    }
    if (config->root == NULL) {
        config->root = root;
    } else {
        config_merge(config, config->root, root);
    }
}

static void unreadable(struct mr_config *config, const char *path, const char *why)
{
    struct config_source *source = config_source_add(config, path, "", 0);

    if (config->main_source == NULL) {
        config->main_source = source;
    }
    (void)config_problem_add(config, (struct config_place){.source = source},
                             config_format(config, "cannot be read: %s", why), NULL);
    config->broken = true;
}

static void load_file(struct mr_config *config, const char *path)
{
    const char *text = "";
    size_t len = 0;
    const char *why = config_read_file(config, path, CONFIG_FILE_BYTES_MAX, &text, &len);

    if (why != NULL) {
        unreadable(config, path, why);
        return;
    }
    load_text(config, path, text, len);
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Does `name` end in .yaml and is not hidden (editors leave such copies)? */
static bool is_part(const char *name)
{
    size_t len = strlen(name);

    return name[0] != '.' && len > 5 && strcmp(name + len - 5, ".yaml") == 0;
}

static void load_folder(struct mr_config *config, const char *folder)
{
    const char **names = NULL;
    size_t count = 0;
    DIR *dir = opendir(folder);

    if (dir == NULL) {
        if (errno != ENOENT && errno != ENOTDIR) { /* most have none */
            unreadable(config, folder, strerror(errno));
        }
        return;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (is_part(entry->d_name)) {
            names = mr_realloc(names, (count + 1) * sizeof(*names));
            names[count] = config_copy(config, entry->d_name, strlen(entry->d_name));
            count += 1;
        }
    }
    (void)closedir(dir);
    if (count > 0) {
        qsort(names, count, sizeof(*names), name_order);
    }
    for (size_t i = 0; i < count; i++) {
        load_file(config, config_join(config, folder, strlen(folder), names[i]));
    }
    mr_free(names);
}

struct mr_config *mr_config_open(const char *path)
{
    struct mr_config *config = mr_alloc(sizeof(*config));

    load_file(config, path);
    load_folder(config, config_path_from(config, config->main_source, "conf.d"));
    return config;
}

struct mr_config *mr_config_open_text(const char *name, const char *text)
{
    struct mr_config *config = mr_alloc(sizeof(*config));

    load_text(config, name, config_copy(config, text, strlen(text)), strlen(text));
    return config;
}
