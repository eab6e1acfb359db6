/* tree.c - the tree of keys and values: look-up, copy, merge, --set.
 *
 * Mappings are small (a handful of keys, some hundred bridges at most), so they
 * are arrays in file order and are searched from the front.
 */
#include "config/config_internal.h"

struct mr_node *config_node_new(struct mr_config *config, enum config_kind kind,
                                struct config_place place)
{
    if (config->node_count >= CONFIG_NODES_MAX) {
        return NULL;
    }
    struct mr_node *node = config_alloc(config, sizeof(*node));

    config->node_count += 1;
    node->kind = kind;
    node->place = place;
    return node;
}

struct config_entry *config_entry_add(struct mr_config *config, struct mr_node *parent,
                                      const char *name, struct config_place key,
                                      struct mr_node *node)
{
    if (parent->count == parent->capacity) {
        /* The old array stays until the configuration is closed. */
        size_t capacity = parent->capacity == 0 ? 8 : parent->capacity * 2;
        struct config_entry *entries = config_alloc(config, capacity * sizeof(*entries));
        if (parent->count > 0) {
            memcpy(entries, parent->entries, parent->count * sizeof(*entries));
        }
        parent->entries = entries;
        parent->capacity = capacity;
    }

    struct config_entry *entry = &parent->entries[parent->count];
    parent->count += 1;
    *entry = (struct config_entry){.name = name, .place = key, .node = node};
    node->key = key;
    return entry;
}

struct config_entry *config_entry_find(struct mr_node *mapping, const char *name)
{
    if (mapping == NULL || mapping->kind != CONFIG_MAPPING) {
        return NULL;
    }
    for (size_t i = 0; i < mapping->count; i++) {
        if (strcmp(mapping->entries[i].name, name) == 0) {
            return &mapping->entries[i];
        }
    }
    return NULL;
}

struct mr_node *config_node_copy(struct mr_config *config, const struct mr_node *node)
{
    struct mr_node *copy = config_node_new(config, node->kind, node->place);

    if (copy == NULL) {
        return NULL;
    }
    copy->plain = node->plain;
    copy->raw = node->raw;
    for (size_t i = 0; i < node->count; i++) {
        struct mr_node *child = config_node_copy(config, node->entries[i].node);
        if (child == NULL) {
            return NULL;
        }
        (void)config_entry_add(config, copy, node->entries[i].name, node->entries[i].place, child);
    }
    return copy;
}

/* What `from` says is added to `into`; where both say something, mappings are
 * merged in turn and anything else is replaced.
 */
void config_merge(struct mr_config *config, struct mr_node *into, struct mr_node *from)
{
    for (size_t i = 0; i < from->count; i++) {
        struct config_entry *theirs = &from->entries[i];
        struct config_entry *ours = config_entry_find(into, theirs->name);

        if (ours == NULL) {
            (void)config_entry_add(config, into, theirs->name, theirs->place, theirs->node);
        } else if (ours->node->kind == CONFIG_MAPPING && theirs->node->kind == CONFIG_MAPPING) {
            config_merge(config, ours->node, theirs->node);
        } else {
            *ours = *theirs;
        }
    }
}

bool config_node_is_empty(const struct mr_node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

    if (node->kind != CONFIG_SCALAR || !node->plain) {
        return false;
    }
    for (size_t i = 0; i < MR_COUNT_OF(nulls); i++) {
        if (strcmp(node->raw, nulls[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* One step of --set: the mapping below `parent` called by the `name_len`
 * characters at `name`, made if it is not there or is no mapping.
 */
static struct mr_node *set_descend(struct mr_config *config, struct mr_node *parent,
                                   const char *name, struct config_place key)
{
    struct config_entry *entry = config_entry_find(parent, name);

    if (entry != NULL && entry->node->kind == CONFIG_MAPPING) {
        return entry->node;
    }
    struct mr_node *node = config_node_new(config, CONFIG_MAPPING, key);
    if (node == NULL) {
        return NULL;
    }
    if (entry == NULL) {
        (void)config_entry_add(config, parent, name, key, node);
    } else {
        node->key = key;
        *entry = (struct config_entry){.name = name, .place = key, .node = node};
    }
    return node;
}

static void set_value(struct mr_config *config, struct mr_node *parent, const char *name,
                      struct config_place key, struct mr_node *value)
{
    struct config_entry *entry = config_entry_find(parent, name);

    if (entry == NULL) {
        (void)config_entry_add(config, parent, name, key, value);
        return;
    }
    value->key = key;
    *entry = (struct config_entry){.name = name, .place = key, .node = value};
}

void mr_config_set(struct mr_config *config, const char *dotted_path, const char *value)
{
    size_t path_len = strlen(dotted_path);
    size_t value_len = strlen(value);
    char *line = config_alloc(config, path_len + value_len + 2);

    memcpy(line, dotted_path, path_len);
    line[path_len] = '=';
    memcpy(line + path_len + 1, value, value_len);
    struct config_source *source =
        config_source_add(config, "--set", line, path_len + 1 + value_len);
    source->is_set = true;

    if (!mr_utf8_valid(mr_span_make(line, source->len)) || memchr(line, '\n', source->len)) {
        (void)config_problem_add(config, (struct config_place){.source = source},
                                 "the argument is not one line of UTF-8", NULL);
        return;
    }
    if (config->root == NULL) {
        config->root =
            config_node_new(config, CONFIG_MAPPING, (struct config_place){.source = source});
    }

    struct mr_node *parent = config->root;
    struct mr_span rest = mr_span_make(line, path_len);
    while (parent != NULL && rest.at != NULL) {
        size_t at = (size_t)(rest.at - (const uint8_t *)line);
        struct mr_span part = mr_span_split(&rest, '.');
        const char *name = config_copy(config, (const char *)part.at, part.len);
        struct config_place key = config_place_of(source, at);
        key.len = (uint32_t)part.len;

        if (part.len == 0) {
            (void)config_problem_add(config, config_place_of(source, at),
                                     "a name is missing in the path",
                                     "write it as section.key=value");
            return;
        }
        if (rest.at != NULL) {
            parent = set_descend(config, parent, name, key);
            continue;
        }
        struct config_place place = config_place_of(source, path_len + 1);
        place.len = value_len == 0 ? 1 : (uint32_t)value_len;
        struct mr_node *node = config_node_new(config, CONFIG_SCALAR, place);
        if (node != NULL) {
            node->raw = line + path_len + 1;
            set_value(config, parent, name, key, node);
        }
    }
}

/* Nodes are shared: nothing changes them once files are read and --set is done. */
void mr_config_inherit(struct mr_config *config, struct mr_node *parent, const char *name,
                       struct mr_node *base)
{
    struct mr_node *own = mr_node_child(parent, name);

    if (base == NULL || base->kind != CONFIG_MAPPING || !mr_node_is_mapping(parent)) {
        return;
    }
    if (own == NULL) {
        (void)config_entry_add(config, parent, name, base->key, base);
        return;
    }
    for (size_t i = 0; own->kind == CONFIG_MAPPING && i < base->count; i++) {
        const struct config_entry *theirs = &base->entries[i];
        if (config_entry_find(own, theirs->name) == NULL) {
            (void)config_entry_add(config, own, theirs->name, theirs->place, theirs->node);
        }
    }
}

struct mr_node *mr_config_root(struct mr_config *config)
{
    return config->root;
}

struct mr_node *mr_node_child(struct mr_node *mapping, const char *name)
{
    struct config_entry *entry = config_entry_find(mapping, name);

    return entry == NULL ? NULL : entry->node;
}

size_t mr_node_count(struct mr_node *mapping)
{
    return mapping == NULL ? 0 : mapping->count;
}

struct mr_node *mr_node_at(struct mr_node *mapping, size_t index, const char **name)
{
    mr_assert(index < mapping->count);
    if (name != NULL) {
        *name = mapping->entries[index].name;
    }
    return mapping->entries[index].node;
}

bool mr_node_is_mapping(const struct mr_node *node)
{
    return node != NULL && node->kind == CONFIG_MAPPING;
}
