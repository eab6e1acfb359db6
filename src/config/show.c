/* show.c - every value that is in force, and where it comes from.
 *
 * Values are taken from the structs that were filled, not from the files: what is shown
 * is what runs.  Only the origin is the tree's.
 */
#include "config/config_internal.h"

enum { VALUE_BYTES = 4096, ORIGIN_BYTES = 1024 };

struct showing {
    struct mr_config *config;
    void (*each)(void *arg, const struct mr_config_shown *shown);
    void *arg;
};

/* A property of a library that holds a secret, by its name. */
static bool name_is_secret(const char *name)
{
    static const char *const parts[] = {"password",   "secret", "token",
                                        "credential", ".pem",   "oauthbearer.config"};

    for (size_t i = 0; i < MR_COUNT_OF(parts); i++) {
        if (strstr(name, parts[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* A text in quotes, as YAML and JSON both read it. */
static void put_quoted(struct mr_text *out, const char *text)
{
    mr_text_add(out, "\"");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            mr_text_fmt(out, "\\%c", *text);
        } else if ((unsigned char)*text < 0x20) {
            mr_text_fmt(out, "\\x%02x", (unsigned char)*text);
        } else {
            mr_text_bytes(out, text, 1);
        }
    }
    mr_text_add(out, "\"");
}

static void put_list(struct mr_text *out, const struct mr_list *list)
{
    mr_text_add(out, "[");
    for (size_t i = 0; i < list->count; i++) {
        mr_text_add(out, i == 0 ? "" : ", ");
        put_quoted(out, list->items[i]);
    }
    mr_text_add(out, "]");
}

static void put_pairs(struct mr_text *out, const struct mr_pairs *pairs)
{
    mr_text_add(out, "{");
    for (size_t i = 0; i < pairs->count; i++) {
        const struct mr_pair *pair = &pairs->items[i];
        mr_text_add(out, i == 0 ? "" : ", ");
        put_quoted(out, pair->name);
        mr_text_add(out, ": ");
        put_quoted(out, name_is_secret(pair->name) ? "***" : pair->value);
    }
    mr_text_add(out, "}");
}

static bool text_is_missing(const void *field)
{
    return *(const char *const *)field == NULL;
}

/* False: there is no value. */
static bool value_put(const struct mr_option *option, const void *field, bool is_default,
                      struct mr_text *out)
{
    switch (option->type) {
    case MR_OPT_STR:
    case MR_OPT_PATH:
        if (text_is_missing(field)) {
            return false;
        }
        put_quoted(out, *(const char *const *)field);
        return true;
    case MR_OPT_SECRET:
        mr_text_add(out, "***");
        return !text_is_missing(field);
    case MR_OPT_BOOL:
        mr_text_add(out, *(const bool *)field ? "true" : "false");
        return true;
    case MR_OPT_CHOICE:
        mr_text_add(out, option->choices[*(const uint32_t *)field]);
        return true;
    case MR_OPT_LIST:
        put_list(out, field);
        return ((const struct mr_list *)field)->count != 0;
    case MR_OPT_PAIRS:
        put_pairs(out, field);
        return ((const struct mr_pairs *)field)->count != 0;
    default:
        if (is_default && option->default_text != NULL) { /* 24h, not 1d */
            mr_text_add(out, option->default_text);
        } else {
            config_value_describe(option, *(const uint64_t *)field, out);
        }
        return true;
    }
}

/* ", environment NAME" for each variable in the text of a scalar. */
static void put_environment(const struct mr_node *node, struct mr_text *out)
{
    static const char opening[] = "${env:";
    const char *at = node->kind == CONFIG_SCALAR && node->raw != NULL ? node->raw : "";

    while ((at = strstr(at, opening)) != NULL) {
        bool escaped = at > node->raw && at[-1] == '$';
        at += sizeof(opening) - 1;
        if (!escaped) {
            mr_text_add(out, ", environment ");
            mr_text_bytes(out, at, strcspn(at, ":}"));
        }
    }
}

static void origin_put(const struct mr_node *node, struct mr_text *out)
{
    if (node == NULL) {
        mr_text_add(out, "default");
        return;
    }
    struct config_place place = node->key.line != 0 ? node->key : node->place;
    mr_text_add(out, place.source->name);
    if (!place.source->is_set) {
        mr_text_fmt(out, ":%u", place.line);
    }
    put_environment(node, out);
}

static void table_show(const struct showing *showing, const char *where,
                       const struct mr_option *table, const void *from, struct mr_node *mapping)
{
    char *value_buffer = mr_alloc(VALUE_BYTES);
    char origin_buffer[ORIGIN_BYTES];

    for (const struct mr_option *option = table; option->name != NULL; option++) {
        const void *field = (const char *)from + option->offset;
        struct mr_node *node = mapping == NULL ? NULL : mr_node_child(mapping, option->name);
        const char *key = where[0] == '\0'
                              ? option->name
                              : config_format(showing->config, "%s.%s", where, option->name);
        if (option->type == MR_OPT_SECTION) {
            table_show(showing, key, option->table, field, node);
            continue;
        }
        struct mr_text value = mr_text_over(value_buffer, VALUE_BYTES);
        struct mr_text origin = mr_text_over(origin_buffer, sizeof(origin_buffer));
        bool has = value_put(option, field, node == NULL, &value);
        origin_put(node, &origin);
        showing->each(showing->arg, &(struct mr_config_shown){.key = key,
                                                              .value = has ? value_buffer : NULL,
                                                              .origin = origin_buffer,
                                                              .is_default = node == NULL});
    }
    mr_free(value_buffer);
}

void mr_config_show(struct mr_config *config, struct mr_node *mapping, const char *where,
                    const struct mr_fill *fills, size_t fill_count,
                    void (*each)(void *arg, const struct mr_config_shown *shown), void *arg)
{
    struct showing showing = {.config = config, .each = each, .arg = arg};

    for (size_t i = 0; i < fill_count; i++) {
        table_show(&showing, where, fills[i].table, fills[i].into,
                   mr_node_is_mapping(mapping) ? mapping : NULL);
    }
}

/* ---- comparing ---- */

static bool text_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool list_same(const struct mr_list *a, const struct mr_list *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++) {
        same = text_same(a->items[i], b->items[i]);
    }
    return same;
}

static bool pairs_same(const struct mr_pairs *a, const struct mr_pairs *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++) {
        same = text_same(a->items[i].name, b->items[i].name) &&
               text_same(a->items[i].value, b->items[i].value);
    }
    return same;
}

static bool value_same(const struct mr_option *option, const void *a, const void *b)
{
    switch (option->type) {
    case MR_OPT_STR:
    case MR_OPT_PATH:
    case MR_OPT_SECRET:
        return text_same(*(const char *const *)a, *(const char *const *)b);
    case MR_OPT_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case MR_OPT_CHOICE:
        return *(const uint32_t *)a == *(const uint32_t *)b;
    case MR_OPT_LIST:
        return list_same(a, b);
    case MR_OPT_PAIRS:
        return pairs_same(a, b);
    default:
        return *(const uint64_t *)a == *(const uint64_t *)b;
    }
}

struct comparing {
    void (*each)(void *arg, const struct mr_config_changed *changed);
    void *arg;
    size_t count;
};

static void tell_changed(const struct comparing *comparing, const struct mr_option *option,
                         const char *key, const void *before, const void *after, bool live)
{
    char *buffers = mr_alloc(2 * (size_t)VALUE_BYTES);
    struct mr_text before_text = mr_text_over(buffers, VALUE_BYTES);
    struct mr_text after_text = mr_text_over(buffers + VALUE_BYTES, VALUE_BYTES);
    bool had = value_put(option, before, false, &before_text);
    bool has = value_put(option, after, false, &after_text);

    comparing->each(comparing->arg,
                    &(struct mr_config_changed){.key = key,
                                                .before = had ? buffers : "none",
                                                .after = has ? buffers + VALUE_BYTES : "none",
                                                .live = live});
    mr_free(buffers);
}

/* `live`: all of the table is. */
static void table_compare(struct comparing *comparing, const struct mr_option *table,
                          const char *where, const void *before, const void *after, bool live)
{
    for (const struct mr_option *option = table; option->name != NULL; option++) {
        const void *a = (const char *)before + option->offset;
        const void *b = (const char *)after + option->offset;
        char key[256];
        struct mr_text text = mr_text_over(key, sizeof(key));

        mr_text_fmt(&text, "%s.%s", where, option->name);
        if (option->type == MR_OPT_SECTION) {
            table_compare(comparing, option->table, key, a, b, live || option->live);
        } else if (!value_same(option, a, b)) {
            comparing->count += 1;
            if (comparing->each != NULL) {
                tell_changed(comparing, option, key, a, b, live || option->live);
            }
        }
    }
}

size_t mr_config_compare(const struct mr_option *table, const char *where, const void *before,
                         const void *after,
                         void (*each)(void *arg, const struct mr_config_changed *changed),
                         void *arg)
{
    struct comparing comparing = {.each = each, .arg = arg};

    table_compare(&comparing, table, where, before, after, false);
    return comparing.count;
}
