/* headers.c - the headers of a record: none, id, full, or a list of templates.
 *
 * full: millrace_id, mqtt_topic, mqtt_qos, mqtt_retain, mqtt_client; mqtt_content_type,
 * mqtt_response_topic and mqtt_correlation_data if the publisher sent them; then the
 * user properties in its order, under their own names.  What begins with `mqtt_` or
 * `millrace_` is ours: a user property of such a name gets `user_` in front, so that
 * no device can pass something off as said by the gateway.
 *
 * What is delivered of a backlog behind fresh events says so in a header more, whatever the
 * configuration wants (live.c).
 *
 * Names and values are borrowed where they lie (route, journal, configuration); only
 * what has no NUL behind it, or is made here, is written into the span's memory.
 */
#include "pipeline/bridge_internal.h"

#include "codec/envelope.h"

#include <stdio.h>
#include <strings.h>

enum {
    FULL_OWN_MAX = 9,
    SEQ_DIGITS_MAX = 20,
};

_Static_assert(FULL_OWN_MAX + MR_ENVELOPE_USER_PROPS_MAX <= MR_RECORD_HEADERS_MAX,
               "a sink is told how many headers there may be");

static const char renamed[] = "user_";

static const struct mr_header backfill = {
    .name = {.at = (const uint8_t *)MR_BACKFILL_HEADER, .len = sizeof(MR_BACKFILL_HEADER) - 1},
    .value = {.at = (const uint8_t *)"1", .len = 1},
};

void mr_mark_backfill(struct mr_record *records, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        records[i].headers = &backfill;
        records[i].header_count = 1;
    }
}

/* Being written: headers first, their texts behind them. */
struct put_headers {
    struct mr_header *headers;
    uint16_t count;
    uint8_t *at;
};

static enum put_result headers_begin(struct mr_bridge *b, struct put_headers *out, size_t count,
                                     size_t text_bytes, struct put_note *note)
{
    count += b->live.open; /* headers_end() */
    size_t size = count * sizeof(struct mr_header) + text_bytes;

    if (size > b->bytes.size / 2) {
        snprintf(note->reason, sizeof(note->reason),
                 "the headers may need %zu bytes, more than the %zu there is room for", size,
                 b->bytes.size / 2);
        return PUT_REJECTED;
    }
    uint8_t *at = mr_bytes_take(&b->bytes, size);
    if (at == NULL) {
        return PUT_NO_ROOM;
    }
    *out = (struct put_headers){.headers = (void *)at, .at = at + count * sizeof(struct mr_header)};
    return PUT_DONE;
}

static enum put_result headers_end(struct mr_bridge *b, struct put_headers *put,
                                   struct mr_record *record)
{
    if (MR_UNLIKELY(b->live.open)) {
        put->headers[put->count++] = backfill;
    }
    mr_bytes_shorten(&b->bytes, put->at);
    record->headers = put->headers;
    record->header_count = put->count;
    return PUT_DONE;
}

static void put_one(struct put_headers *put, struct mr_span name, struct mr_span value)
{
    put->headers[put->count++] = (struct mr_header){.name = name, .value = value};
}

#define PUT_OWN(put, literal, value) put_one(put, mr_span_make(literal, sizeof(literal) - 1), value)

static size_t id_bytes_max(const struct mr_bridge *b)
{
    return b->id_prefix_len + SEQ_DIGITS_MAX;
}

/* Write <journal id>-<lane>-<seq>; the byte behind it. */
static uint8_t *put_id_text(const struct mr_bridge *b, uint8_t *at, uint64_t seq)
{
    char digits[SEQ_DIGITS_MAX];
    size_t count = 0;

    memcpy(at, b->id_prefix, b->id_prefix_len);
    at += b->id_prefix_len;
    do {
        digits[count++] = (char)('0' + seq % 10);
        seq /= 10;
    } while (seq != 0);
    while (count != 0) {
        *at++ = (uint8_t)digits[--count];
    }
    return at;
}

static void put_id(const struct mr_bridge *b, struct put_headers *put, uint64_t seq)
{
    uint8_t *begin = put->at;

    put->at = put_id_text(b, begin, seq);
    PUT_OWN(put, "millrace_id", mr_span_make(begin, (size_t)(put->at - begin)));
}

/* Of a backlog: the id, and that it is one. */
static enum put_result headers_id_backfill(struct mr_bridge *b, struct mr_record *record,
                                           struct put_note *note)
{
    struct put_headers put;
    enum put_result result = headers_begin(b, &put, 1, id_bytes_max(b), note);

    if (result != PUT_DONE) {
        return result;
    }
    put_id(b, &put, record->seq);
    return headers_end(b, &put, record);
}

/* The one that bridges have by the million: nothing between it and the memory. */
static enum put_result headers_id(struct mr_bridge *b, struct mr_record *record)
{
    uint8_t *at = mr_bytes_take(&b->bytes, sizeof(struct mr_header) + id_bytes_max(b));

    if (at == NULL) {
        return PUT_NO_ROOM;
    }
    struct mr_header *header = (void *)at;
    uint8_t *text = at + sizeof(*header);
    uint8_t *end = put_id_text(b, text, record->seq);
    *header = (struct mr_header){.name = mr_span_make("millrace_id", sizeof("millrace_id") - 1),
                                 .value = mr_span_make(text, (size_t)(end - text))};
    mr_bytes_shorten(&b->bytes, end);
    record->headers = header;
    record->header_count = 1;
    return PUT_DONE;
}

/* ---- full ---- */

static bool is_ours(struct mr_span name)
{
    static const char *const prefixes[] = {"mqtt_", "millrace_"};

    for (size_t i = 0; i < MR_COUNT_OF(prefixes); i++) {
        size_t len = strlen(prefixes[i]);
        if (name.len >= len && strncasecmp((const char *)name.at, prefixes[i], len) == 0) {
            return true;
        }
    }
    return false;
}

static struct mr_span user_properties(const struct mr_mqtt_props *props)
{
    return mr_mqtt_has(props, MR_MQTT_PROP_USER) ? props->user_raw
                                                 : (struct mr_span){.at = NULL, .len = 0};
}

/* How many there are, and what their names will need. */
static size_t user_count(const struct mr_mqtt_props *props, size_t *text_bytes)
{
    struct mr_span rest = user_properties(props);
    struct mr_span name;
    struct mr_span value;
    size_t count = 0;

    *text_bytes = 0;
    while (mr_mqtt_user_property_next(&rest, &name, &value)) {
        *text_bytes += sizeof(renamed) + name.len;
        count += 1;
    }
    return count;
}

static void put_user(struct put_headers *put, const struct mr_mqtt_props *props)
{
    struct mr_span rest = user_properties(props);
    struct mr_span name;
    struct mr_span value;

    while (mr_mqtt_user_property_next(&rest, &name, &value)) {
        uint8_t *begin = put->at;
        if (is_ours(name)) {
            memcpy(put->at, renamed, sizeof(renamed) - 1);
            put->at += sizeof(renamed) - 1;
        }
        memcpy(put->at, name.at, name.len);
        put->at += name.len;
        put_one(put, mr_span_make(begin, (size_t)(put->at - begin)), value);
        *put->at++ = '\0';
    }
}

static void put_own(struct put_headers *put, const struct mr_record *record,
                    const struct mr_mqtt_props *props)
{
    static const char *const qos[] = {"0", "1", "2"};

    PUT_OWN(put, "mqtt_topic", record->route->topic);
    PUT_OWN(put, "mqtt_qos", mr_span_make(qos[record->qos < 2 ? record->qos : 2], 1));
    PUT_OWN(put, "mqtt_retain", mr_span_of(record->retain ? "true" : "false"));
    PUT_OWN(put, "mqtt_client", record->route->client);
    if (mr_mqtt_has(props, MR_MQTT_PROP_CONTENT_TYPE)) {
        PUT_OWN(put, "mqtt_content_type", props->content_type);
    }
    if (mr_mqtt_has(props, MR_MQTT_PROP_RESPONSE_TOPIC)) {
        PUT_OWN(put, "mqtt_response_topic", props->response_topic);
    }
    if (mr_mqtt_has(props, MR_MQTT_PROP_CORRELATION_DATA)) {
        PUT_OWN(put, "mqtt_correlation_data", props->correlation_data);
    }
}

static enum put_result headers_full(struct mr_bridge *b, struct mr_record *record,
                                    struct put_note *note)
{
    const struct mr_mqtt_props *props = &b->facts.props;
    struct put_headers put;
    size_t text_bytes;
    size_t count = user_count(props, &text_bytes);

    if (count > MR_ENVELOPE_USER_PROPS_MAX) {
        snprintf(note->reason, sizeof(note->reason),
                 "more than %d user properties cannot be shown as headers",
                 MR_ENVELOPE_USER_PROPS_MAX);
        return PUT_REJECTED;
    }
    enum put_result result =
        headers_begin(b, &put, FULL_OWN_MAX + count, id_bytes_max(b) + text_bytes, note);
    if (result != PUT_DONE) {
        return result;
    }
    put_id(b, &put, record->seq);
    put_own(&put, record, props);
    put_user(&put, props);
    return headers_end(b, &put, record);
}

/* ---- a list of templates ---- */

/* A header says something beside the event: what the event does not have is left
 * out.  Destination, key and time decide where it goes: there it is a reason.
 */
static enum put_result headers_list(struct mr_bridge *b, const struct mr_event *event,
                                    struct mr_record *record, struct put_note *note)
{
    const struct shaping *shaping = &b->shaping;
    struct mr_template_vars vars = {.client = event->client,
                                    .username = event->username,
                                    .topic = event->topic,
                                    .facts = &b->facts};
    struct put_headers put;
    size_t text_bytes = 0;

    for (uint32_t i = 0; i < shaping->header_count; i++) {
        text_bytes += mr_template_size(shaping->headers[i].value, &vars);
    }
    enum put_result result = headers_begin(b, &put, shaping->header_count, text_bytes, note);
    if (result != PUT_DONE) {
        return result;
    }
    for (uint32_t i = 0; i < shaping->header_count; i++) {
        const struct header_template *header = &shaping->headers[i];
        size_t len = 0;
        if (mr_template_render(header->value, &vars, put.at, &len, NULL) == MR_OK) {
            put_one(&put, mr_span_of(header->name), mr_span_make(put.at, len));
            put.at += len;
        }
    }
    return headers_end(b, &put, record);
}

enum put_result mr_shape_headers(struct mr_bridge *b, const struct mr_event *event,
                                 struct mr_record *record, struct put_note *note)
{
    switch (b->shape.headers) {
    case MR_HEADERS_ID:
        return MR_UNLIKELY(b->live.open) ? headers_id_backfill(b, record, note)
                                         : headers_id(b, record);
    case MR_HEADERS_FULL:
        return headers_full(b, record, note);
    case MR_HEADERS_LIST:
        return headers_list(b, event, record, note);
    case MR_HEADERS_NONE:
        break;
    }
    return PUT_DONE;
}
