/* acl_tree.c - rules as a tree of levels, and what in it matches.
 *
 * DESIGN
 *
 * The rules of a user are sorted by their levels; then those that begin alike lie together
 * and become the nodes of a tree, level by level, in one array.  A node's literal children
 * are found by halving, so a user with ten thousand rules costs little more than one with
 * three.  Levels of patterns that have %c or %u in them are compared as they are, the name
 * being put in on the way: nothing is compiled per client, and nothing has to be kept for one.
 *
 * A topic and a filter are looked up by the same walk; for a topic every rule that matches
 * contains it.
 *
 * The walk goes down no deeper than the longest rule (MR_ACL_LEVELS_MAX), whatever a client
 * asks for, and visits no node twice; so its stack and time are bounded by the file.
 */
#include "auth/acl_internal.h"

#include <stdlib.h>

/* ---- building ---- */

int acl_text_order(struct mr_span a, struct mr_span b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.at, b.at, shorter);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

bool acl_level_is_template(struct mr_span level)
{
    for (size_t i = 0; i + 1 < level.len; i++) {
        if (level.at[i] == '%' && (level.at[i + 1] == 'c' || level.at[i + 1] == 'u')) {
            return true;
        }
    }
    return false;
}

/* Kinds of levels, in the order of a node's children; ENDS: there is none. */
enum level_kind { LEVEL_ENDS, LEVEL_HASH, LEVEL_LITERAL, LEVEL_TEMPLATE, LEVEL_PLUS };

static enum level_kind kind_of(struct mr_span level, bool patterns)
{
    if (level.at == NULL) {
        return LEVEL_ENDS;
    }
    if (level.len == 1 && (level.at[0] == '#' || level.at[0] == '+')) {
        return level.at[0] == '#' ? LEVEL_HASH : LEVEL_PLUS;
    }
    return patterns && acl_level_is_template(level) ? LEVEL_TEMPLATE : LEVEL_LITERAL;
}

static int rule_order(const struct acl_rule *a, const struct acl_rule *b, bool patterns)
{
    struct mr_span rest_a = a->filter;
    struct mr_span rest_b = b->filter;

    while (rest_a.at != NULL && rest_b.at != NULL) {
        struct mr_span level_a = mr_span_split(&rest_a, '/');
        struct mr_span level_b = mr_span_split(&rest_b, '/');
        int order = (int)kind_of(level_a, patterns) - (int)kind_of(level_b, patterns);
        order = order != 0 ? order : acl_text_order(level_a, level_b);
        if (order != 0) {
            return order;
        }
    }
    return (rest_a.at != NULL) - (rest_b.at != NULL);
}

static int topic_rule_order(const void *a, const void *b)
{
    return rule_order(a, b, false);
}

static int pattern_rule_order(const void *a, const void *b)
{
    return rule_order(a, b, true);
}

static uint32_t node_new(struct acl_nodes *nodes, struct mr_span level)
{
    if (nodes->count == nodes->capacity) {
        nodes->capacity = nodes->capacity == 0 ? 64 : nodes->capacity * 2;
        nodes->at = mr_realloc(nodes->at, nodes->capacity * sizeof(*nodes->at));
    }
    nodes->at[nodes->count] = (struct acl_node){.level = level};
    return nodes->count++;
}

/* The rules that a node is still to be made of; one per node, in their order. */
struct range {
    size_t begin;
    size_t end;
};

/* The next level; .at is NULL when there is none. */
static struct mr_span level_take(struct mr_span *rest)
{
    return rest->at == NULL ? *rest : mr_span_split(rest, '/');
}

static bool level_same(struct mr_span a, struct mr_span b)
{
    return a.at == NULL || b.at == NULL ? a.at == b.at : mr_span_equal(a, b);
}

/* Its rules that end in it, and a child for each level that others go on with. */
static void node_fill(struct acl_nodes *nodes, uint32_t index, struct acl_rule *rules,
                      struct range *ranges, struct range range, bool patterns)
{
    struct acl_node filled = nodes->at[index];
    size_t i = range.begin;

    filled.first = nodes->count;
    while (i < range.end) {
        struct mr_span rest = rules[i].rest;
        struct mr_span level = level_take(&rest);
        enum level_kind kind = kind_of(level, patterns);
        size_t begin = i;

        for (; i < range.end; i++) {
            struct mr_span next = rules[i].rest;
            if (!level_same(level_take(&next), level)) {
                break;
            }
            rules[i].rest = next;
            filled.ends |= kind == LEVEL_ENDS ? rules[i].rights : 0;
            filled.hash |= kind == LEVEL_HASH ? rules[i].rights : 0;
        }
        if (kind != LEVEL_ENDS && kind != LEVEL_HASH) {
            uint32_t child = node_new(nodes, level);
            ranges[child] = (struct range){begin, i};
            filled.literals += kind == LEVEL_LITERAL;
            filled.templates += kind == LEVEL_TEMPLATE;
            filled.plus = filled.plus || kind == LEVEL_PLUS;
        }
    }
    nodes->at[index] = filled;
}

static size_t levels_of(const struct acl_rule *rules, size_t count)
{
    size_t levels = 1;

    for (size_t i = 0; i < count; i++) {
        levels += 1;
        for (size_t at = 0; at < rules[i].filter.len; at++) {
            levels += rules[i].filter.at[at] == '/';
        }
    }
    return levels;
}

static uint32_t children_of(const struct acl_node *node)
{
    return node->literals + node->templates + node->plus;
}

uint32_t acl_tree_build(struct acl_nodes *nodes, struct acl_rule *rules, size_t count,
                        bool patterns)
{
    uint32_t root = nodes->count;
    /* By node: no more than there are levels. */
    struct range *ranges = mr_alloc((root + levels_of(rules, count)) * sizeof(*ranges));

    if (count != 0) {
        qsort(rules, count, sizeof(*rules), patterns ? pattern_rule_order : topic_rule_order);
    }
    for (size_t i = 0; i < count; i++) {
        rules[i].rest = rules[i].filter;
    }
    (void)node_new(nodes, (struct mr_span){.at = NULL});
    ranges[root] = (struct range){0, count};
    for (uint32_t i = root; i < nodes->count; i++) {
        node_fill(nodes, i, rules, ranges, ranges[i], patterns);
    }
    for (uint32_t i = nodes->count; i-- > root;) { /* children have higher indices */
        struct acl_node *node = &nodes->at[i];
        node->below = node->ends | node->hash;
        node->varies = node->templates != 0;
        for (uint32_t child = 0; child < children_of(node); child++) {
            node->below |= nodes->at[node->first + child].below;
            node->varies = node->varies || nodes->at[node->first + child].varies;
        }
    }
    mr_free(ranges);
    return root;
}

/* ---- looking ---- */

struct look {
    const struct acl_node *nodes;
    const struct mr_acl_who *who;
    struct acl_found found;
};

static bool begins_with(struct mr_span text, struct mr_span prefix)
{
    return text.len >= prefix.len &&
           (prefix.len == 0 || memcmp(text.at, prefix.at, prefix.len) == 0);
}

/* Is `level` the pattern's level, with the names put in?  A level has no '/', so a name that
 * has one never fits.
 */
static bool template_fits(const struct mr_acl_who *who, struct mr_span template,
                          struct mr_span level)
{
    while (template.len != 0) {
        bool puts = template.len >= 2 && template.at[0] == '%' &&
                    (template.at[1] == 'c' || template.at[1] == 'u');
        struct mr_span part = puts ? (template.at[1] == 'c' ? who->client : who->user)
                                   : (struct mr_span){.at = template.at, .len = 1};
        size_t used = puts ? 2 : 1;
        if ((puts && part.len == 0) || !begins_with(level, part)) {
            return false;
        }
        level.at += part.len;
        level.len -= part.len;
        template.at += used;
        template.len -= used;
    }
    return level.len == 0;
}

/* Can any level be it?  Not with a user name that there is none of, nor one with '/'. */
static bool template_is_usable(const struct mr_acl_who *who, struct mr_span template)
{
    for (size_t i = 0; i + 1 < template.len; i++) {
        const uint8_t *at = template.at + i;
        if (at[0] == '%' && (at[1] == 'c' || at[1] == 'u')) {
            struct mr_span name = at[1] == 'c' ? who->client : who->user;
            if (name.len == 0 || memchr(name.at, '/', name.len) != NULL) {
                return false;
            }
        }
    }
    return true;
}

static bool is_dollar(struct mr_span level)
{
    return level.len != 0 && level.at[0] == '$';
}

/* The literal child with this text, by halving; NULL: there is none. */
static const struct acl_node *literal_find(const struct look *look, const struct acl_node *node,
                                           struct mr_span level)
{
    uint32_t low = 0;
    uint32_t high = node->literals;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct acl_node *child = &look->nodes[node->first + middle];
        int order = acl_text_order(level, child->level);
        if (order == 0) {
            return child;
        }
        low = order > 0 ? middle + 1 : low;
        high = order > 0 ? high : middle;
    }
    return NULL;
}

static void note(struct look *look, uint8_t rights, bool contains)
{
    look->found.some |= rights;
    look->found.all |= contains ? rights : 0;
}

static void walk(struct look *look, const struct acl_node *node, struct mr_span rest, bool contains,
                 bool first);

/* The filter's level is a literal one. */
static void walk_literal(struct look *look, const struct acl_node *node, struct mr_span level,
                         struct mr_span rest, bool contains, bool first)
{
    const struct acl_node *child = literal_find(look, node, level);
    bool dollar = first && is_dollar(level);

    if (child != NULL) {
        walk(look, child, rest, contains, false);
    }
    child = &look->nodes[node->first + node->literals];
    for (uint32_t i = 0; i < node->templates; i++, child++) {
        if ((!dollar || is_dollar(child->level)) && template_fits(look->who, child->level, level)) {
            walk(look, child, rest, contains, false);
        }
    }
    if (node->plus && !dollar) {
        walk(look, child, rest, contains, false);
    }
}

/* Everything from here on, whatever it is called. */
static void note_below(struct look *look, const struct acl_node *node)
{
    const struct acl_node *child = &look->nodes[node->first];

    if (!node->varies) {
        note(look, node->below, false);
        return;
    }
    note(look, node->ends | node->hash, false);
    for (uint32_t i = 0; i < children_of(node); i++, child++) {
        bool template = i >= node->literals && i < node->literals + node->templates;
        if (!template || template_is_usable(look->who, child->level)) {
            note_below(look, child);
        }
    }
}

/* The filter's level is `+`: it shares something with every child, and only `+` has all of
 * it.  `#`: with everything below.
 */
static void walk_wild(struct look *look, const struct acl_node *node, bool hash,
                      struct mr_span rest, bool contains, bool first)
{
    const struct acl_node *child = &look->nodes[node->first];
    uint32_t named = node->literals + node->templates;

    for (uint32_t i = 0; i < named; i++, child++) {
        if ((first && is_dollar(child->level)) ||
            (i >= node->literals && !template_is_usable(look->who, child->level))) {
            continue;
        }
        if (hash) {
            note_below(look, child);
        } else {
            walk(look, child, rest, false, false);
        }
    }
    if (node->plus && hash) {
        note_below(look, child);
    } else if (node->plus) {
        walk(look, child, rest, contains, false);
    }
    if (hash) {
        note(look, node->ends, false);
    }
}

static void walk(struct look *look, const struct acl_node *node, struct mr_span rest, bool contains,
                 bool first)
{
    if (rest.at == NULL) {
        note(look, node->ends | node->hash, contains); /* "a/#" has "a" too: 4.7.1.2 */
        return;
    }
    struct mr_span level = mr_span_split(&rest, '/');
    bool wild = level.len == 1 && (level.at[0] == '+' || level.at[0] == '#');
    if (!first || !is_dollar(level)) { /* [MQTT-4.7.2-1] */
        note(look, node->hash, contains);
    }
    if (wild) {
        walk_wild(look, node, level.at[0] == '#', rest, contains, first);
    } else {
        walk_literal(look, node, level, rest, contains, first);
    }
}

struct acl_found acl_tree_look(const struct acl_nodes *nodes, uint32_t root,
                               const struct mr_acl_who *who, struct mr_span filter)
{
    struct look look = {.nodes = nodes->at, .who = who};

    walk(&look, &nodes->at[root], filter, true, true);
    return look.found;
}

uint8_t acl_tree_match(const struct acl_nodes *nodes, uint32_t root, const struct mr_acl_who *who,
                       struct mr_span topic)
{
    return acl_tree_look(nodes, root, who, topic).some;
}
