/* template.c - compile templates; see template.h for the contract.
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
#include "pipeline/template_internal.h"

#include <stdio.h>

enum { LEVEL_MAX = 65535 };

/* Where the compiler stands; columns are told from `from`. */
struct compile {
    struct mr_template *tmpl;
    struct mr_json_fields *fields;
    const char *option;
    const char *from;
    const char *at;
    char *text_end;
    struct mr_error *why;
};

static const struct {
    const char *name;
    enum part_kind kind;
    unsigned needs;
} variables[] = {
    {"clientid", PART_CLIENT, 0},
    {"username", PART_USERNAME, 0},
    {"topic", PART_TOPIC, 0},
    {"qos", PART_QOS, MR_TEMPLATE_NEEDS_EVENT},
    {"retain", PART_RETAIN, MR_TEMPLATE_NEEDS_EVENT},
    {"received", PART_RECEIVED, MR_TEMPLATE_NEEDS_RECEIVED},
    {"payload", PART_PAYLOAD, MR_TEMPLATE_NEEDS_EVENT},
    /* alone it is nothing; here for "did you mean" */
    {"props", PART_USER_PROP, MR_TEMPLATE_NEEDS_PROPS},
};

/* Names as in the JSON envelope; any other is a user property's. */
static const struct {
    const char *name;
    enum mr_mqtt_prop prop;
} properties[] = {
    {"content_type", MR_MQTT_PROP_CONTENT_TYPE},
    {"response_topic", MR_MQTT_PROP_RESPONSE_TOPIC},
    {"correlation_data", MR_MQTT_PROP_CORRELATION_DATA},
    {"payload_format_indicator", MR_MQTT_PROP_PAYLOAD_FORMAT},
    {"message_expiry_interval", MR_MQTT_PROP_MESSAGE_EXPIRY},
};

#define AVAILABLE                                                                 \
    "${clientid}, ${username}, ${topic}, ${topic[n]} with n from 0, ${payload}, " \
    "${payload.field}, ${props.name}, ${qos}, ${retain}, ${received}"

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

/* `name` is all that stands there; what is near is told by its first word. */
static enum mr_err compile_unknown(const struct compile *c, struct mr_span name)
{
    char text[64];
    char word[64];
    unsigned column = compile_column(c, (const char *)name.at);

    snprintf(text, sizeof(text), "%.*s", (int)(name.len < 60 ? name.len : 60),
             (const char *)name.at);
    snprintf(word, sizeof(word), "%.*s", (int)strcspn(text, ".["), text);
    const char *nearest = compile_nearest(word);
    if (nearest != NULL) {
        return mr_error_set(c->why, MR_ERR_CONFIG,
                            "%s: column %u of '%s': there is no '${%s}'; did you mean '${%s%s}'?",
                            c->option, column, c->from, text, nearest, text + strlen(word));
    }
    return mr_error_set(c->why, MR_ERR_CONFIG,
                        "%s: column %u of '%s': there is no '${%s}'; available are " AVAILABLE,
                        c->option, column, c->from, text);
}

static struct mr_span span_from(struct mr_span span, size_t from)
{
    return mr_span_make(span.at + from, span.len - from);
}

static bool has_prefix(struct mr_span span, const char *prefix)
{
    size_t len = strlen(prefix);

    return span.len >= len && memcmp(span.at, prefix, len) == 0;
}

/* `index` is what follows `topic`. */
static enum mr_err compile_level(const struct compile *c, struct mr_span index, struct part *out)
{
    uint64_t level;

    if (index.len < 3 || index.at[index.len - 1] != ']' ||
        mr_parse_u64(mr_span_make(index.at + 1, index.len - 2), LEVEL_MAX, &level) != MR_OK) {
        return mr_error_set(c->why, MR_ERR_CONFIG,
                            "%s: column %u of '%s': a topic level is written ${topic[n]} with n "
                            "from 0 to %d",
                            c->option, compile_column(c, (const char *)index.at), c->from,
                            LEVEL_MAX);
    }
    *out = (struct part){.kind = PART_LEVEL, .index = (uint32_t)level};
    return MR_OK;
}

/* `path` is what follows `payload`. */
static enum mr_err compile_field(const struct compile *c, struct mr_span path, struct part *out)
{
    uint32_t index;
    const char *fault = mr_json_fields_add(c->fields, path, &index);

    if (fault != NULL) {
        return mr_error_set(c->why, MR_ERR_CONFIG,
                            "%s: column %u of '%s': %s; a field is written ${payload.a.b}, "
                            "${payload.list[0]} or ${payload[\"any name\"]}",
                            c->option, compile_column(c, (const char *)path.at), c->from, fault);
    }
    *out = (struct part){.kind = PART_FIELD,
                         .index = index,
                         .literal = path.at[0] == '.' ? span_from(path, 1) : path};
    c->tmpl->needs |= MR_TEMPLATE_NEEDS_FIELDS;
    return MR_OK;
}

/* `name` is what follows `props.`. */
static enum mr_err compile_prop(const struct compile *c, struct mr_span name, struct part *out)
{
    static const char user[] = "user_properties.";

    *out = (struct part){.kind = PART_USER_PROP, .literal = name};
    for (size_t i = 0; i < MR_COUNT_OF(properties); i++) {
        if (mr_span_is(name, properties[i].name)) {
            out->kind = PART_PROP;
            out->index = properties[i].prop;
        }
    }
    if (has_prefix(name, user)) {
        out->literal = span_from(name, sizeof(user) - 1);
    }
    if (out->literal.len == 0) {
        return mr_error_set(c->why, MR_ERR_CONFIG,
                            "%s: column %u of '%s': a property is written ${props.name}", c->option,
                            compile_column(c, (const char *)name.at), c->from);
    }
    c->tmpl->needs |= MR_TEMPLATE_NEEDS_PROPS;
    return MR_OK;
}

/* Cut `:-text` off the name; the span of the text, or none.  Between quotes stands a
 * field's name.
 */
static struct mr_span cut_fallback(struct mr_span *name)
{
    bool quoted = false;

    for (size_t i = 0; i + 1 < name->len; i++) {
        quoted = quoted != (name->at[i] == '"');
        if (!quoted && name->at[i] == ':' && name->at[i + 1] == '-') {
            struct mr_span text = span_from(*name, i + 2);
            name->len = i;
            return text;
        }
    }
    return (struct mr_span){.at = NULL};
}

/* `name` is what stands between `${` and `}`, without its fallback. */
static enum mr_err compile_variable(const struct compile *c, struct mr_span name, struct part *out)
{
    for (size_t i = 0; i + 1 < MR_COUNT_OF(variables); i++) { /* the last is `props` */
        if (mr_span_is(name, variables[i].name)) {
            *out = (struct part){.kind = variables[i].kind};
            c->tmpl->needs |= variables[i].needs;
            return MR_OK;
        }
    }
    if (has_prefix(name, "topic[")) {
        return compile_level(c, span_from(name, 5), out);
    }
    if (has_prefix(name, "payload.") || has_prefix(name, "payload[")) {
        return compile_field(c, span_from(name, 7), out);
    }
    if (has_prefix(name, "props.")) {
        return compile_prop(c, span_from(name, 6), out);
    }
    return compile_unknown(c, name);
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
            struct mr_span name = mr_span_make(c->at + 2, (size_t)(end - c->at) - 2);
            struct mr_span fallback = cut_fallback(&name);
            enum mr_err err = compile_variable(c, name, part);
            if (err != MR_OK) {
                return err;
            }
            part->fallback = fallback;
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
                                enum mr_template_use use, struct mr_json_fields *fields,
                                struct mr_error *why)
{
    struct mr_template *tmpl = mr_alloc(sizeof(*tmpl));

    tmpl->use = use;
    tmpl->text = mr_alloc(strlen(text) + 1);
    tmpl->source = mr_strdup(text);
    struct compile c = {.tmpl = tmpl,
                        .fields = fields,
                        .option = option,
                        .from = tmpl->source,
                        .at = tmpl->source,
                        .why = why};
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
        mr_free(tmpl->source);
        mr_free(tmpl);
    }
}

const char *mr_template_literal(const struct mr_template *tmpl)
{
    return tmpl->part_count == 1 && tmpl->parts[0].kind == PART_LITERAL ? tmpl->text : NULL;
}

unsigned mr_template_needs(const struct mr_template *tmpl)
{
    return tmpl->needs;
}
