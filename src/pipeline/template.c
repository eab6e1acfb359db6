/* template.c - see template.h for the contract.
 *
 * DESIGN
 *
 * A template is compiled to a short array of parts.  Literal parts point into one
 * copy of the text in which `$${` has become `${`.
 *
 * Rejected: cutting a destination at the length its target allows.  Two topics
 * would silently share one name; a name that is too long is a dead letter with a
 * reason instead.
 */
#include "pipeline/template.h"

#include "codec/topic.h"

#include <stdio.h>

enum part_kind { PART_LITERAL, PART_CLIENT, PART_USERNAME, PART_TOPIC, PART_LEVEL };

enum { PARTS_MAX = 32, LEVEL_MAX = 65535 };

struct part {
    enum part_kind kind;
    uint32_t level;         /* PART_LEVEL */
    struct mr_span literal; /* PART_LITERAL; borrows mr_template.text */
};

struct mr_template {
    enum mr_template_use use;
    size_t part_count;
    struct part parts[PARTS_MAX];
    char *text; /* all literal bytes, one NUL at the end */
};

/* Where the compiler stands; columns are told from `from`. */
struct compile {
    struct mr_template *tmpl;
    const char *option;
    const char *from;
    const char *at;
    char *text_end;
    struct mr_error *why;
};

static const struct {
    const char *name;
    enum part_kind kind;
} variables[] = {
    {"clientid", PART_CLIENT},
    {"username", PART_USERNAME},
    {"topic", PART_TOPIC},
};

#define AVAILABLE "${clientid}, ${username}, ${topic}, ${topic[n]} with n from 0"

static unsigned compile_column(const struct compile *c, const char *at)
{
    return (unsigned)(at - c->from) + 1;
}

static enum mr_err compile_full(const struct compile *c)
{
    return mr_error_set(c->why, MR_ERR_CONFIG, "%s: '%s' has more than %d parts; make it shorter",
                        c->option, c->from, PARTS_MAX);
}

/* The variable nearest to what was written, or NULL. */
static const char *compile_nearest(const char *name)
{
    const char *best = NULL;
    unsigned best_distance = 4; /* farther is not a slip of the finger */

    for (size_t i = 0; i < MR_COUNT_OF(variables); i++) {
        unsigned distance = mr_text_distance(name, variables[i].name);
        if (distance < best_distance) {
            best_distance = distance;
            best = variables[i].name;
        }
    }
    return best;
}

static enum mr_err compile_unknown(const struct compile *c, struct mr_span name)
{
    char text[64];
    unsigned column = compile_column(c, (const char *)name.at);

    snprintf(text, sizeof(text), "%.*s", (int)(name.len < 60 ? name.len : 60),
             (const char *)name.at);
    const char *nearest = compile_nearest(text);
    if (nearest != NULL) {
        return mr_error_set(c->why, MR_ERR_CONFIG,
                            "%s: column %u of '%s': there is no '${%s}'; did you mean '${%s}'?",
                            c->option, column, c->from, text, nearest);
    }
    return mr_error_set(c->why, MR_ERR_CONFIG,
                        "%s: column %u of '%s': there is no '${%s}'; available are " AVAILABLE,
                        c->option, column, c->from, text);
}

/* `name` is what stands between `${` and `}`. */
static enum mr_err compile_variable(const struct compile *c, struct mr_span name, struct part *out)
{
    const uint8_t *bracket = name.len == 0 ? NULL : memchr(name.at, '[', name.len);
    struct mr_span base = name;
    struct mr_span index;
    uint64_t level;

    if (bracket != NULL) {
        base.len = (size_t)(bracket - name.at);
    }
    for (size_t i = 0; i < MR_COUNT_OF(variables); i++) {
        if (bracket == NULL && mr_span_is(base, variables[i].name)) {
            *out = (struct part){.kind = variables[i].kind};
            return MR_OK;
        }
    }
    if (bracket == NULL || !mr_span_is(base, "topic")) {
        return compile_unknown(c, base);
    }
    index = mr_span_make(bracket + 1, name.len - base.len - 1);
    if (index.len < 2 || index.at[index.len - 1] != ']' ||
        mr_parse_u64(mr_span_make(index.at, index.len - 1), LEVEL_MAX, &level) != MR_OK) {
        return mr_error_set(c->why, MR_ERR_CONFIG,
                            "%s: column %u of '%s': a topic level is written ${topic[n]} with n "
                            "from 0 to %d",
                            c->option, compile_column(c, (const char *)bracket), c->from,
                            LEVEL_MAX);
    }
    *out = (struct part){.kind = PART_LEVEL, .level = (uint32_t)level};
    return MR_OK;
}

/* Copy literal bytes up to the next variable or the end. */
static void compile_literal(struct compile *c, struct part *out)
{
    char *begin = c->text_end;

    while (*c->at != '\0') {
        if (strncmp(c->at, "$${", 3) == 0) {
            memcpy(c->text_end, "${", 2);
            c->text_end += 2;
            c->at += 3;
        } else if (strncmp(c->at, "${", 2) == 0) {
            break;
        } else {
            *c->text_end++ = *c->at++;
        }
    }
    *out = (struct part){.kind = PART_LITERAL,
                         .literal = mr_span_make(begin, (size_t)(c->text_end - begin))};
}

static enum mr_err compile_parts(struct compile *c)
{
    struct mr_template *tmpl = c->tmpl;

    while (*c->at != '\0') {
        if (tmpl->part_count == PARTS_MAX) {
            return compile_full(c);
        }
        struct part *part = &tmpl->parts[tmpl->part_count];
        if (strncmp(c->at, "${", 2) != 0) {
            compile_literal(c, part);
        } else {
            const char *end = strchr(c->at, '}');
            if (end == NULL) {
                return mr_error_set(c->why, MR_ERR_CONFIG,
                                    "%s: column %u of '%s': '${' is not closed; add '}', or write "
                                    "'$${' for a literal '${'",
                                    c->option, compile_column(c, c->at), c->from);
            }
            enum mr_err err =
                compile_variable(c, mr_span_make(c->at + 2, (size_t)(end - c->at) - 2), part);
            if (err != MR_OK) {
                return err;
            }
            c->at = end + 1;
        }
        tmpl->part_count += 1;
    }
    return MR_OK;
}

static enum mr_err compile_check(const struct compile *c)
{
    if (c->tmpl->part_count == 0) {
        return mr_error_set(c->why, MR_ERR_CONFIG, "%s: is empty; give it a text", c->option);
    }
    if (c->tmpl->use == MR_TEMPLATE_DEST && c->tmpl->parts[0].kind != PART_LITERAL) {
        return mr_error_set(
            c->why, MR_ERR_CONFIG,
            "%s: column 1 of '%s': begin with literal text, as in 'mqtt_%s', so that "
            "no device can choose an arbitrary destination",
            c->option, c->from, c->from);
    }
    return MR_OK;
}

enum mr_err mr_template_compile(struct mr_template **out, const char *option, const char *text,
                                enum mr_template_use use, struct mr_error *why)
{
    struct mr_template *tmpl = mr_alloc(sizeof(*tmpl));
    struct compile c = {.tmpl = tmpl, .option = option, .from = text, .at = text, .why = why};

    tmpl->use = use;
    tmpl->text = mr_alloc(strlen(text) + 1);
    c.text_end = tmpl->text;

    enum mr_err err = compile_parts(&c);
    if (err == MR_OK) {
        err = compile_check(&c);
    }
    if (err != MR_OK) {
        mr_template_free(tmpl);
        return err;
    }
    *out = tmpl;
    return MR_OK;
}

void mr_template_free(struct mr_template *tmpl)
{
    if (tmpl != NULL) {
        mr_free(tmpl->text);
        mr_free(tmpl);
    }
}

const char *mr_template_literal(const struct mr_template *tmpl)
{
    return tmpl->part_count == 1 && tmpl->parts[0].kind == PART_LITERAL ? tmpl->text : NULL;
}

/* The bytes a part stands for; .at is NULL if the event has no such thing. */
static struct mr_span part_value(const struct part *part, const struct mr_template_vars *vars)
{
    struct mr_span nothing = {.at = NULL, .len = 0};

    switch (part->kind) {
    case PART_LITERAL:
        return part->literal;
    case PART_CLIENT:
        return vars->client.len == 0 ? nothing : vars->client;
    case PART_USERNAME:
        return vars->username.len == 0 ? nothing : vars->username;
    case PART_TOPIC:
        return vars->topic;
    case PART_LEVEL:
        return mr_topic_level(vars->topic, part->level);
    }
    return nothing;
}

size_t mr_template_size(const struct mr_template *tmpl, const struct mr_template_vars *vars)
{
    size_t size = 0;

    for (size_t i = 0; i < tmpl->part_count; i++) {
        size += part_value(&tmpl->parts[i], vars).len;
    }
    return size;
}

static bool is_tame(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/* One `_` per character, not per byte: bytes that continue a UTF-8 character vanish. */
static uint8_t *put_tamed(uint8_t *out, struct mr_span value)
{
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.at[i];
        if (is_tame(c)) {
            *out++ = c;
        } else if ((c & 0xc0) != 0x80) {
            *out++ = '_';
        }
    }
    return out;
}

static enum mr_err render_missing(const struct part *part, const struct mr_template_vars *vars,
                                  struct mr_error *why)
{
    switch (part->kind) {
    case PART_LEVEL:
        return mr_error_set(why, MR_ERR_REJECT, "the topic has no level %u (it has %zu, from 0)",
                            part->level, mr_topic_level_count(vars->topic));
    case PART_USERNAME:
        return mr_error_set(why, MR_ERR_REJECT, "the device has no user name");
    case PART_CLIENT:
        return mr_error_set(why, MR_ERR_REJECT, "the event has no client id");
    case PART_LITERAL:
    case PART_TOPIC:
        break;
    }
    return mr_error_set(why, MR_ERR_REJECT, "the event has no topic");
}

enum mr_err mr_template_render(const struct mr_template *tmpl, const struct mr_template_vars *vars,
                               uint8_t *out, size_t *len, struct mr_error *why)
{
    uint8_t *at = out;

    for (size_t i = 0; i < tmpl->part_count; i++) {
        const struct part *part = &tmpl->parts[i];
        struct mr_span value = part_value(part, vars);
        if (value.at == NULL) {
            return render_missing(part, vars, why);
        }
        if (tmpl->use == MR_TEMPLATE_DEST && part->kind != PART_LITERAL) {
            at = put_tamed(at, value);
        } else if (value.len != 0) {
            memcpy(at, value.at, value.len);
            at += value.len;
        }
    }
    *len = (size_t)(at - out);
    return MR_OK;
}
