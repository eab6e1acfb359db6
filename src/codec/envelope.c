/* envelope.c - see envelope.h for the contract.
 *
 * Everything is bounded first and then written without looking at the end again:
 * mr_envelope_size_max() counts six bytes for each byte of text, the most that an
 * escape can need, and a fixed number for names and punctuation.
 */
#include "codec/envelope.h"

#include "codec/json.h"
#include "codec/mqtt_props.h"

#include "base/text.h"

/* {"ts":-9223372036854775808,"received":-9223372036854775808,"client":,"topic":,
 * "qos":2,"retain":false,"payload":,"encoding":"base64","props":} is 145 bytes.
 */
enum { ENVELOPE_FRAME_MAX = 160 };

/* {"content_type":,"response_topic":,"correlation_data":"","payload_format_indicator":1,
 * "message_expiry_interval":4294967295,"user_properties":{}} is 147 bytes.
 */
enum { ENVELOPE_PROPS_MAX = 160 };

/* A user property takes at least five bytes of props_raw and, beside its escaped
 * text, at most `,"":[""]` eight: covered by six times its raw size, since the
 * five raw bytes that are no text already give thirty.
 */

void mr_envelope_classify(struct mr_envelope *envelope)
{
    if (mr_json_valid(envelope->payload)) {
        envelope->encoding = MR_ENVELOPE_JSON;
    } else if (mr_utf8_valid(envelope->payload)) {
        envelope->encoding = MR_ENVELOPE_TEXT;
    } else {
        envelope->encoding = MR_ENVELOPE_BASE64;
    }
}

static size_t envelope_payload_size(const struct mr_envelope *envelope)
{
    switch ((enum mr_envelope_encoding)envelope->encoding) {
    case MR_ENVELOPE_JSON:
        return envelope->payload.len;
    case MR_ENVELOPE_TEXT:
        return mr_json_string_size(envelope->payload);
    default:
        return MR_BASE64_SIZE(envelope->payload.len) + 2;
    }
}

size_t mr_envelope_size_max(const struct mr_envelope *envelope)
{
    return ENVELOPE_FRAME_MAX + MR_JSON_STRING_MAX(envelope->client.len) +
           MR_JSON_STRING_MAX(envelope->topic.len) + envelope_payload_size(envelope) +
           ENVELOPE_PROPS_MAX + 6 * envelope->props_raw.len;
}

/* A literal piece of the document. */
#define ENVELOPE_PUT(at, literal) envelope_put(at, literal, sizeof(literal) - 1)

static char *envelope_put(char *at, const char *literal, size_t len)
{
    memcpy(at, literal, len);
    return at + len;
}

static char *envelope_put_base64(char *at, struct mr_span bytes)
{
    *at++ = '"';
    at = mr_base64_put(at, bytes);
    *at++ = '"';
    return at;
}

static char *envelope_put_payload(char *at, const struct mr_envelope *envelope)
{
    at = ENVELOPE_PUT(at, ",\"payload\":");
    switch ((enum mr_envelope_encoding)envelope->encoding) {
    case MR_ENVELOPE_JSON:
        memcpy(at, envelope->payload.at, envelope->payload.len);
        at += envelope->payload.len;
        return ENVELOPE_PUT(at, ",\"encoding\":\"json\"");
    case MR_ENVELOPE_TEXT:
        at = mr_json_put_string(at, envelope->payload);
        return ENVELOPE_PUT(at, ",\"encoding\":\"text\"");
    default:
        at = envelope_put_base64(at, envelope->payload);
        return ENVELOPE_PUT(at, ",\"encoding\":\"base64\"");
    }
}

/* Has a property before `until` (a position in `raw`) this name? */
static bool envelope_is_repeat(struct mr_span raw, const uint8_t *until, struct mr_span name)
{
    struct mr_span rest = raw;
    struct mr_span other;
    struct mr_span value;

    while (mr_mqtt_user_property_next(&rest, &other, &value) && rest.at < until) {
        if (mr_span_equal(other, name)) {
            return true;
        }
    }
    return false;
}

/* The value of `name`, and those of the same name in `rest` behind it. */
static char *envelope_put_values(char *at, struct mr_span name, struct mr_span first,
                                 struct mr_span rest)
{
    char *start = at;
    struct mr_span other;
    struct mr_span value;
    bool is_array = false;

    *at++ = '['; /* becomes the value's place if it stays alone */
    at = mr_json_put_string(at, first);
    while (mr_mqtt_user_property_next(&rest, &other, &value)) {
        if (mr_span_equal(other, name)) {
            *at++ = ',';
            at = mr_json_put_string(at, value);
            is_array = true;
        }
    }
    if (is_array) {
        *at++ = ']';
        return at;
    }
    memmove(start, start + 1, (size_t)(at - start) - 1);
    return at - 1;
}

static char *envelope_put_user(char *at, struct mr_span raw)
{
    struct mr_span rest = raw;
    struct mr_span name;
    struct mr_span value;
    char separator = '{';

    at = ENVELOPE_PUT(at, "\"user_properties\":");
    while (mr_mqtt_user_property_next(&rest, &name, &value)) {
        if (envelope_is_repeat(raw, rest.at, name)) {
            continue;
        }
        *at++ = separator;
        separator = ',';
        at = mr_json_put_string(at, name);
        *at++ = ':';
        at = envelope_put_values(at, name, value, rest);
    }
    *at++ = '}';
    return at;
}

/* The object behind "props":.  Each part writes a comma behind itself, and the last
 * comma becomes the closing brace.
 */
static char *envelope_put_props(char *at, const struct mr_mqtt_props *props)
{
    *at++ = '{';
    if (props->present == 0) {
        *at++ = '}';
        return at;
    }
    char *start = at;
    if (mr_mqtt_has(props, MR_MQTT_PROP_CONTENT_TYPE)) {
        at = ENVELOPE_PUT(at, "\"content_type\":");
        at = mr_json_put_string(at, props->content_type);
        *at++ = ',';
    }
    if (mr_mqtt_has(props, MR_MQTT_PROP_RESPONSE_TOPIC)) {
        at = ENVELOPE_PUT(at, "\"response_topic\":");
        at = mr_json_put_string(at, props->response_topic);
        *at++ = ',';
    }
    if (mr_mqtt_has(props, MR_MQTT_PROP_CORRELATION_DATA)) {
        at = ENVELOPE_PUT(at, "\"correlation_data\":");
        at = envelope_put_base64(at, props->correlation_data);
        *at++ = ',';
    }
    if (mr_mqtt_has(props, MR_MQTT_PROP_PAYLOAD_FORMAT)) {
        at = ENVELOPE_PUT(at, "\"payload_format_indicator\":");
        at = mr_json_put_i64(at, props->payload_format);
        *at++ = ',';
    }
    if (mr_mqtt_has(props, MR_MQTT_PROP_MESSAGE_EXPIRY)) {
        at = ENVELOPE_PUT(at, "\"message_expiry_interval\":");
        at = mr_json_put_i64(at, props->message_expiry_s);
        *at++ = ',';
    }
    if (mr_mqtt_has(props, MR_MQTT_PROP_USER)) {
        at = envelope_put_user(at, props->user_raw);
        *at++ = ',';
    }
    if (at == start) { /* only properties of the connection */
        *at++ = '}';
    } else {
        at[-1] = '}';
    }
    return at;
}

static bool envelope_too_many(struct mr_span raw)
{
    struct mr_span rest = raw;
    struct mr_span name;
    struct mr_span value;
    unsigned count = 0;

    while (mr_mqtt_user_property_next(&rest, &name, &value)) {
        count += 1;
        if (count > MR_ENVELOPE_USER_PROPS_MAX) {
            return true;
        }
    }
    return false;
}

ptrdiff_t mr_envelope_write(const struct mr_envelope *envelope, char *out, size_t out_size)
{
    struct mr_mqtt_props props;
    struct mr_mqtt_why why;
    char *at = out;

    if (out_size < mr_envelope_size_max(envelope)) {
        return MR_ERR_FULL;
    }
    /* From either side: an upstream broker's PUBLISH has subscription identifiers. */
    if (mr_mqtt_props_decode(envelope->props_raw, MR_MQTT_PUBLISH, MR_MQTT_FROM_SERVER, &props,
                             &why) != MR_OK) {
        return MR_ERR_CORRUPT;
    }
    if (mr_mqtt_has(&props, MR_MQTT_PROP_USER) && envelope_too_many(props.user_raw)) {
        return MR_ERR_REJECT;
    }
    at = ENVELOPE_PUT(at, "{\"ts\":");
    at = mr_json_put_i64(at, envelope->ts_ms);
    at = ENVELOPE_PUT(at, ",\"received\":");
    at = mr_json_put_i64(at, envelope->received_ms);
    at = ENVELOPE_PUT(at, ",\"client\":");
    at = mr_json_put_string(at, envelope->client);
    at = ENVELOPE_PUT(at, ",\"topic\":");
    at = mr_json_put_string(at, envelope->topic);
    at = ENVELOPE_PUT(at, ",\"qos\":");
    at = mr_json_put_i64(at, envelope->qos);
    at = envelope->retain ? ENVELOPE_PUT(at, ",\"retain\":true")
                          : ENVELOPE_PUT(at, ",\"retain\":false");
    at = envelope_put_payload(at, envelope);
    at = ENVELOPE_PUT(at, ",\"props\":");
    at = envelope_put_props(at, &props);
    *at++ = '}';
    mr_assert((size_t)(at - out) <= out_size);
    return at - out;
}
