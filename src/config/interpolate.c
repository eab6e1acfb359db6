/* interpolate.c - ${env:NAME} in scalars.
 *
 *     ${env:NAME}             the variable; a problem if it is unset
 *     ${env:NAME:-default}    `default` if it is unset or empty, as in a shell
 *     $${env:                 a literal ${env:
 *     ${anything else}        stays; templates own it
 *
 * It happens after parsing and per scalar, so a value can never become a key,
 * a list or a second value, whatever characters it has.
 *
 * The column of a problem is found by looking for the n-th "${env:" in the
 * source between the scalar's first and last line: that holds for every way to
 * quote a scalar, since none of them can hide these characters without an
 * escape, and an escaped one only means that the scalar's beginning is shown.
 */
#include "config/config_internal.h"

#include <stdlib.h>

static const char opening[] = "${env:";
enum { OPENING_LEN = sizeof(opening) - 1 };

/* Where the `nth` (from 0) "${env:" of the scalar stands in its file. */
static struct config_place place_of_nth(const struct mr_node *node, unsigned nth, size_t name_len)
{
    struct config_place place = node->place;
    const struct config_source *source = place.source;
    size_t from = config_byte_of(source, place.line, place.col);
    size_t to = config_byte_of(source, place.end_line + 1, 1);

    for (size_t at = from; at + OPENING_LEN <= to; at++) {
        if (memcmp(source->text + at, opening, OPENING_LEN) == 0) {
            if (nth == 0) {
                place = config_place_of(source, at);
                place.len = (uint32_t)(OPENING_LEN + name_len + 1);
                return place;
            }
            nth -= 1;
        }
    }
    return place;
}

static bool name_valid(struct mr_span name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        bool digit = c >= '0' && c <= '9';
        if (!letter && !(digit && i > 0)) {
            return false;
        }
    }
    return name.len > 0;
}

/* What stands between "${env:" and "}" becomes a value; NULL after a problem. */
static const char *variable_value(struct mr_config *config, const struct mr_node *node,
                                  struct mr_span body, unsigned nth)
{
    struct mr_span name = body;
    const char *fallback = NULL;
    const uint8_t *dash = body.len < 2 ? NULL : memmem(body.at, body.len, ":-", 2);

    if (dash != NULL) {
        name.len = (size_t)(dash - body.at);
        fallback = config_copy(config, (const char *)dash + 2, body.len - name.len - 2);
    }
    const char *name_text = config_copy(config, (const char *)name.at, name.len);
    if (!name_valid(name)) {
        (void)config_problem_add(
            config, place_of_nth(node, nth, name.len),
            config_format(config, "'%s' is not the name of an environment variable", name_text),
            "write ${env:NAME} or ${env:NAME:-default}; names are letters, digits and '_'");
        return NULL;
    }

    const char *value = getenv(name_text);
    if (value != NULL && !mr_utf8_valid(mr_span_of(value))) {
        (void)config_problem_add(
            config, place_of_nth(node, nth, name.len),
            config_format(config, "environment variable %s is not UTF-8 text", name_text), NULL);
        return NULL;
    }
    if (fallback != NULL) {
        return value == NULL || value[0] == '\0' ? fallback : value;
    }
    if (value == NULL) {
        (void)config_problem_add(
            config, place_of_nth(node, nth, name.len),
            config_format(config, "environment variable %s is not set", name_text),
            config_format(config, "set it, or give a default: ${env:%s:-default}", name_text));
    }
    return value;
}

/* Text under construction on the heap, since values have any length. */
struct growing {
    char *at;
    size_t len;
    size_t capacity;
};

static void growing_add(struct growing *text, const void *at, size_t len)
{
    if (text->len + len > text->capacity) {
        text->capacity = (text->len + len) * 2 + 64;
        text->at = mr_realloc(text->at, text->capacity);
    }
    if (len > 0) {
        memcpy(text->at + text->len, at, len);
        text->len += len;
    }
}

static const char *interpolate(struct mr_config *config, struct mr_node *node)
{
    struct growing out = {0};
    const char *at = node->raw;
    unsigned nth = 0;

    for (;;) {
        const char *open = strstr(at, opening);
        if (open == NULL) {
            break;
        }
        if (open > at && open[-1] == '$') { /* the escape: drop one of the dollars */
            growing_add(&out, at, (size_t)(open - at) - 1);
            growing_add(&out, opening, OPENING_LEN);
            at = open + OPENING_LEN;
            nth += 1;
            continue;
        }
        growing_add(&out, at, (size_t)(open - at));
        const char *body = open + OPENING_LEN;
        const char *close = strchr(body, '}');
        if (close == NULL) {
            (void)config_problem_add(config, place_of_nth(node, nth, 0), "'${env:' is not closed",
                                     "a '}' is missing");
            node->failed = true;
            at = open;
            break;
        }
        const char *value =
            variable_value(config, node, mr_span_make(body, (size_t)(close - body)), nth);
        if (value == NULL) {
            node->failed = true;
        } else {
            growing_add(&out, value, strlen(value));
        }
        at = close + 1;
        nth += 1;
    }
    growing_add(&out, at, strlen(at));

    const char *text = config_copy(config, out.at == NULL ? "" : out.at, out.len);
    mr_free(out.at);
    return text;
}

const char *mr_node_text(struct mr_config *config, struct mr_node *node)
{
    if (node == NULL || node->kind != CONFIG_SCALAR) {
        return NULL;
    }
    if (node->text == NULL) {
        node->text = strstr(node->raw, opening) == NULL ? node->raw : interpolate(config, node);
    }
    return node->text;
}
