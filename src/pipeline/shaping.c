/* shaping.c - compile what a bridge's configuration says about its records.
 *
 * All faults are said, so that one `millrace check` shows all of them.
 */
#include "pipeline/bridge_internal.h"

#include "base/text.h"

#include <stdio.h>

enum {
    BYTES_MAX = 512 << 20,
    BYTES_BUSY = 32 << 20, /* something is written per record */
    BYTES_CALM = 8 << 20,
};

struct opening {
    struct shaping *shaping;
    const struct mr_bridge_conf *conf;
    const struct mr_shape *shape;
    void (*say)(void *arg, const char *fault);
    void *arg;
    uint32_t faults;
};

static void fault(struct opening *o, const struct mr_error *why)
{
    o->faults += 1;
    o->say(o->arg, why->text);
}

/* NULL after a fault. */
static struct mr_template *compile(struct opening *o, const char *option, const char *text,
                                   enum mr_template_use use)
{
    struct mr_template *tmpl = NULL;
    struct mr_error why;

    if (mr_template_compile(&tmpl, option, text, use, o->shaping->fields, &why) != MR_OK) {
        fault(o, &why);
        return NULL;
    }
    o->shaping->needs |= mr_template_needs(tmpl);
    return tmpl;
}

/* A literal destination is judged at once. */
static void open_dest(struct opening *o)
{
    const struct mr_shape *shape = o->shape;
    struct mr_error why;

    if (shape->dest_template == NULL) {
        return; /* that it is missing has been said */
    }
    struct mr_template *dest =
        compile(o, shape->dest_option, shape->dest_template, MR_TEMPLATE_DEST);
    if (dest == NULL) {
        return;
    }
    o->shaping->dest = dest;
    o->shaping->dest_varies = mr_template_needs(dest) != 0;
    const char *literal = mr_template_literal(dest);
    const char *refused = literal == NULL || shape->dest_refused == NULL
                              ? NULL
                              : shape->dest_refused(mr_span_of(literal));
    if (refused != NULL) {
        (void)mr_error_set(&why, MR_ERR_CONFIG, "%s: '%s': %s", shape->dest_option, literal,
                           refused);
        fault(o, &why);
    }
}

static void open_key(struct opening *o)
{
    if (o->shape->key_template == NULL || o->shape->key_template[0] == '\0') {
        return;
    }
    o->shaping->key = compile(o, o->shape->key_option, o->shape->key_template, MR_TEMPLATE_TEXT);
    o->shaping->key_varies = o->shaping->key != NULL && mr_template_needs(o->shaping->key) != 0;
}

static void open_time(struct opening *o)
{
    const struct mr_bridge_conf *conf = o->conf;
    struct shaping *shaping = o->shaping;
    struct mr_error why;

    if (conf->timestamp == NULL || strcmp(conf->timestamp, "received") == 0) {
        return;
    }
    shaping->time = compile(o, "timestamp", conf->timestamp, MR_TEMPLATE_TEXT);
    if (shaping->time != NULL && mr_template_literal(shaping->time) != NULL) {
        (void)mr_error_set(&why, MR_ERR_CONFIG,
                           "timestamp: '%s' is neither `received` nor a template, as "
                           "${payload.ts}",
                           conf->timestamp);
        fault(o, &why);
    }
    shaping->time_unit = (enum mr_time_unit)conf->timestamp_unit;
    shaping->time_past_us = (int64_t)conf->timestamp_max_past_us;
    shaping->time_future_us = (int64_t)conf->timestamp_max_future_us;
    shaping->time_or_dead = conf->timestamp_on_error == MR_TIMESTAMP_DEAD_LETTER;
}

static void open_headers(struct opening *o)
{
    const struct mr_pairs *list = &o->shape->header_list;
    struct shaping *shaping = o->shaping;

    if (o->shape->headers == MR_HEADERS_FULL) {
        shaping->needs |= MR_TEMPLATE_NEEDS_PROPS;
    }
    if (o->shape->headers != MR_HEADERS_LIST) {
        return;
    }
    shaping->headers = mr_alloc((list->count + 1) * sizeof(*shaping->headers));
    for (size_t i = 0; i < list->count && i < MR_RECORD_HEADERS_MAX; i++) {
        char option[160];
        struct mr_text text = mr_text_over(option, sizeof(option));
        mr_text_fmt(&text, "%s.%s", o->shape->header_option, list->items[i].name);
        struct mr_template *value = compile(o, option, list->items[i].value, MR_TEMPLATE_TEXT);
        if (value != NULL) {
            shaping->headers[shaping->header_count++] =
                (struct header_template){.name = list->items[i].name, .value = value};
        }
    }
}

uint32_t mr_shaping_open(struct shaping *out, const struct mr_bridge_conf *conf,
                         const struct mr_shape *shape, void (*say)(void *arg, const char *fault),
                         void *arg)
{
    struct opening o = {.shaping = out, .conf = conf, .shape = shape, .say = say, .arg = arg};

    *out = (struct shaping){.fields = mr_json_fields_new()};
    open_dest(&o);
    open_key(&o);
    open_time(&o);
    open_headers(&o);
    out->value_bytes_max = shape->value_bytes_max == 0 ? SIZE_MAX : shape->value_bytes_max;
    out->shaped = out->needs != 0 || out->time != NULL || shape->value_encoder == MR_VALUE_JSON ||
                  shape->headers != MR_HEADERS_NONE;
    if (o.faults != 0) {
        mr_shaping_close(out);
    }
    return o.faults;
}

void mr_shaping_close(struct shaping *shaping)
{
    for (uint32_t i = 0; i < shaping->header_count; i++) {
        mr_template_free(shaping->headers[i].value);
    }
    mr_free(shaping->headers);
    mr_template_free(shaping->dest);
    mr_template_free(shaping->key);
    mr_template_free(shaping->time);
    mr_json_fields_free(shaping->fields);
    *shaping = (struct shaping){.dest = NULL};
}

/* Room for what is written per record: a few of the largest values, and enough to keep
 * a target busy.
 */
size_t mr_shaping_bytes(const struct shaping *shaping, const struct mr_shape *shape)
{
    bool json = shape->value_encoder == MR_VALUE_JSON;
    bool busy =
        json || shape->headers != MR_HEADERS_NONE || shaping->dest_varies || shaping->key_varies;
    size_t size = busy ? BYTES_BUSY : BYTES_CALM;
    size_t values = json ? (size_t)shape->value_bytes_max * 4 : 0;

    if (values > BYTES_MAX) {
        values = BYTES_MAX;
    }
    return values > size ? values : size;
}
