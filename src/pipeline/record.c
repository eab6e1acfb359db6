/* record.c - shape one event as the bridge says: time, destination, key, value.
 *
 * DESIGN
 *
 * What follows from the names is in the route already.  Everything else is asked for
 * here, once per event and only if some template wants it: the payload is read as
 * JSON once for all fields of all templates, the properties are decoded once.
 *
 * A destination or key that varies stands in a route of the record's own, in the
 * span's memory; so sinks see no difference.
 *
 * Rejected: a route per (names, key) in a table.  Keys out of payloads may be without
 * number, and making a route costs less than finding one.
 */
#include "pipeline/bridge_internal.h"

#include "codec/envelope.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    DEST_BYTES_MAX = 1024, /* more than any target takes */
    TIME_BYTES_MAX = 64,
};

static enum put_result put_rejected(struct put_note *note, const char *reason)
{
    snprintf(note->reason, sizeof(note->reason), "%.250s", reason);
    return PUT_REJECTED;
}

/* Memory of the span, or why there is none. */
static enum put_result put_take(struct mr_bridge *b, size_t size, const char *what, uint8_t **out,
                                struct put_note *note)
{
    if (size > b->bytes.size / 2) {
        snprintf(note->reason, sizeof(note->reason),
                 "%s may need %zu bytes, more than the %zu there is room for", what, size,
                 b->bytes.size / 2);
        return PUT_REJECTED;
    }
    *out = mr_bytes_take(&b->bytes, size);
    return *out == NULL ? PUT_NO_ROOM : PUT_DONE;
}

/* ---- event time ---- */

/* NULL: *out_us is usable.  Else why not; `text` is what the template gave. */
static const char *time_fault(const struct shaping *shaping, struct mr_span text,
                              int64_t received_us, int64_t *out_us)
{
    const char *fault = mr_timestamp_read(text, shaping->time_unit, out_us);

    if (fault != NULL) {
        return fault;
    }
    if (*out_us < 1000) {
        return "is not after the beginning of 1970";
    }
    if (shaping->time_past_us != 0 && *out_us < received_us - shaping->time_past_us) {
        return "is further in the past than timestamp_max_past";
    }
    if (shaping->time_future_us != 0 && *out_us > received_us + shaping->time_future_us) {
        return "is further in the future than timestamp_max_future";
    }
    return NULL;
}

static bool time_read(const struct shaping *shaping, const struct mr_template_vars *vars,
                      int64_t received_us, int64_t *out_us, char reason[REASON_MAX])
{
    uint8_t text[TIME_BYTES_MAX];
    struct mr_error why;
    size_t len = 0;

    if (mr_template_size(shaping->time, vars) > sizeof(text)) {
        snprintf(reason, REASON_MAX, "timestamp: the text is too long to be a time");
        return false;
    }
    if (mr_template_render(shaping->time, vars, text, &len, &why) != MR_OK) {
        snprintf(reason, REASON_MAX, "timestamp: %.200s", why.text);
        return false;
    }
    const char *fault = time_fault(shaping, mr_span_make(text, len), received_us, out_us);
    if (fault != NULL) {
        snprintf(reason, REASON_MAX, "timestamp '%.*s' %s", (int)len, (const char *)text, fault);
        return false;
    }
    return true;
}

static enum put_result put_time(struct mr_bridge *b, const struct mr_template_vars *vars,
                                const struct mr_event *event, struct mr_record *record,
                                struct put_note *note)
{
    int64_t us = 0;

    if (time_read(&b->shaping, vars, event->received_us, &us, note->time_reason)) {
        record->time_ms = us / 1000;
        return PUT_DONE;
    }
    if (b->shaping.time_or_dead) {
        return put_rejected(note, note->time_reason);
    }
    note->time_replaced = true;
    return PUT_DONE;
}

/* ---- destination and key ---- */

static struct mr_dest *put_dest(struct mr_bridge *b, const struct mr_template_vars *vars,
                                struct mr_error *why)
{
    uint8_t name[DEST_BYTES_MAX];
    size_t size = mr_template_size(b->shaping.dest, vars);
    size_t len = 0;

    if (size > sizeof(name)) {
        (void)mr_error_set(why, MR_ERR_REJECT, "%s: the name would have %zu bytes",
                           b->shape.dest_option, size);
        return NULL;
    }
    if (mr_template_render(b->shaping.dest, vars, name, &len, why) != MR_OK) {
        return NULL;
    }
    return mr_dest_of(b, mr_span_make(name, len), why);
}

/* A route of the record's own. */
static enum put_result put_route(struct mr_bridge *b, const struct mr_template_vars *vars,
                                 struct mr_record *record, struct put_note *note)
{
    const struct shaping *shaping = &b->shaping;
    struct mr_dest *dest = record->route->dest;
    size_t key_size = shaping->key_varies ? mr_template_size(shaping->key, vars) : 0;
    struct mr_error why;
    uint8_t *at = NULL;

    if (shaping->dest_varies) {
        dest = put_dest(b, vars, &why);
        if (dest == NULL) {
            return put_rejected(note, why.text);
        }
    }
    enum put_result result = put_take(b, sizeof(struct mr_route) + key_size, "the key", &at, note);
    if (result != PUT_DONE) {
        return result;
    }
    struct mr_route *own = (void *)at;
    *own = *record->route;
    own->dest = dest;
    own->partition = -1;
    if (shaping->key_varies) {
        size_t len = 0;
        if (mr_template_render(shaping->key, vars, at + sizeof(*own), &len, &why) != MR_OK) {
            mr_bytes_shorten(&b->bytes, at);
            return put_rejected(note, why.text);
        }
        own->key = mr_span_make(at + sizeof(*own), len);
    }
    record->route = own;
    return PUT_DONE;
}

/* What a template wants of more than the names. */
static enum put_result put_varying(struct mr_bridge *b, const struct mr_event *event,
                                   struct mr_record *record, struct put_note *note)
{
    const struct shaping *shaping = &b->shaping;
    struct mr_template_vars vars = {.client = event->client,
                                    .username = event->username,
                                    .topic = event->topic,
                                    .facts = &b->facts};

    b->facts.payload = event->payload;
    b->facts.received_ms = event->received_us / 1000;
    b->facts.qos = event->qos;
    b->facts.retain = event->retain;
    if (mr_template_facts_work_out(&b->facts, shaping->needs, event->properties, shaping->fields) !=
        MR_OK) {
        return put_rejected(note, "the MQTT properties do not parse");
    }
    if (shaping->time != NULL) {
        enum put_result result = put_time(b, &vars, event, record, note);
        if (result != PUT_DONE) {
            return result;
        }
    }
    return shaping->dest_varies || shaping->key_varies ? put_route(b, &vars, record, note)
                                                       : PUT_DONE;
}

/* ---- value ---- */

static enum put_result put_json(struct mr_bridge *b, const struct mr_event *event,
                                struct mr_record *record, struct put_note *note)
{
    struct mr_envelope envelope = {
        .ts_ms = record->time_ms,
        .received_ms = event->received_us / 1000,
        .client = event->client,
        .topic = event->topic,
        .payload = event->payload,
        .props_raw = event->properties,
        .qos = event->qos,
        .retain = event->retain,
    };
    uint8_t *at = NULL;

    mr_envelope_classify(&envelope);
    size_t size = mr_envelope_size_max(&envelope);
    enum put_result result = put_take(b, size, "the JSON value", &at, note);
    if (result != PUT_DONE) {
        return result;
    }
    ptrdiff_t len = mr_envelope_write(&envelope, (char *)at, size);
    if (len < 0) {
        mr_bytes_shorten(&b->bytes, at);
        snprintf(note->reason, sizeof(note->reason),
                 len == MR_ERR_REJECT ? "more than %d user properties cannot be shown as JSON"
                                      : "the MQTT properties do not parse (limit %d)",
                 MR_ENVELOPE_USER_PROPS_MAX);
        return PUT_REJECTED;
    }
    mr_bytes_shorten(&b->bytes, at + len);
    record->value = mr_span_make(at, (size_t)len);
    return PUT_DONE;
}

enum put_result mr_shape_record(struct mr_bridge *b, const struct mr_event *event,
                                struct mr_record *record, struct put_note *note)
{
    enum put_result result = PUT_DONE;

    note->time_replaced = false;
    if (b->shaping.needs != 0 || b->shaping.time != NULL) {
        result = put_varying(b, event, record, note);
    }
    if (result == PUT_DONE && b->shape.value_encoder == MR_VALUE_JSON) {
        result = put_json(b, event, record, note);
    }
    if (result != PUT_DONE) {
        return result;
    }
    if (record->value.len > b->shaping.value_bytes_max) {
        snprintf(note->reason, sizeof(note->reason),
                 "the value has %zu bytes, more than the %zu allowed", record->value.len,
                 b->shaping.value_bytes_max);
        return PUT_REJECTED;
    }
    return b->shape.headers == MR_HEADERS_NONE ? PUT_DONE
                                               : mr_shape_headers(b, event, record, note);
}
