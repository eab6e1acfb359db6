/* template_value.c - render compiled templates; see template.h for the contract. */
#include "pipeline/template_internal.h"

#include "codec/json.h"
#include "codec/topic.h"

static const struct mr_span nothing = {.at = NULL, .len = 0};
static const uint8_t empty[1];

enum mr_err mr_template_facts_work_out(struct mr_template_facts *facts, unsigned needs,
                                       struct mr_span properties, struct mr_json_fields *fields)
{
    struct mr_mqtt_why why;

    if (needs & MR_TEMPLATE_NEEDS_FIELDS) {
        facts->fields = mr_json_fields_read(fields, facts->payload);
    }
    if (needs & MR_TEMPLATE_NEEDS_RECEIVED) {
        char *end = mr_json_put_i64(facts->received, facts->received_ms);
        facts->received_len = (uint8_t)(end - facts->received);
    }
    if ((needs & MR_TEMPLATE_NEEDS_PROPS) == 0) {
        return MR_OK;
    }
    /* From either side, as in envelope.c. */
    if (mr_mqtt_props_decode(properties, MR_MQTT_PUBLISH, MR_MQTT_FROM_SERVER, &facts->props,
                             &why) != MR_OK) {
        return MR_ERR_REJECT;
    }
    if (mr_mqtt_has(&facts->props, MR_MQTT_PROP_MESSAGE_EXPIRY)) {
        char *end = mr_json_put_i64(facts->expiry, facts->props.message_expiry_s);
        facts->expiry_len = (uint8_t)(end - facts->expiry);
    }
    return MR_OK;
}

/* What is there may be empty, what is not there has no address. */
static struct mr_span there(struct mr_span value)
{
    return mr_span_make(value.len == 0 ? empty : value.at, value.len);
}

static struct mr_span prop_value(enum mr_mqtt_prop prop, const struct mr_template_facts *facts)
{
    const struct mr_mqtt_props *props = &facts->props;

    if (!mr_mqtt_has(props, prop)) {
        return nothing;
    }
    switch (prop) {
    case MR_MQTT_PROP_CONTENT_TYPE:
        return there(props->content_type);
    case MR_MQTT_PROP_RESPONSE_TOPIC:
        return there(props->response_topic);
    case MR_MQTT_PROP_CORRELATION_DATA:
        return there(props->correlation_data);
    case MR_MQTT_PROP_PAYLOAD_FORMAT:
        return mr_span_of(props->payload_format == 0 ? "0" : "1");
    case MR_MQTT_PROP_MESSAGE_EXPIRY:
        return mr_span_make(facts->expiry, facts->expiry_len);
    default:
        return nothing;
    }
}

static struct mr_span user_prop_value(struct mr_span wanted, const struct mr_mqtt_props *props)
{
    struct mr_span rest = mr_mqtt_has(props, MR_MQTT_PROP_USER) ? props->user_raw : nothing;
    struct mr_span name;
    struct mr_span value;

    while (mr_mqtt_user_property_next(&rest, &name, &value)) {
        if (mr_span_equal(name, wanted)) {
            return there(value);
        }
    }
    return nothing;
}

/* Of the parts that follow from more than the names. */
static struct mr_span fact_value(const struct part *part, const struct mr_template_facts *facts)
{
    switch (part->kind) {
    case PART_QOS:
        return mr_span_of(facts->qos == 0 ? "0" : facts->qos == 1 ? "1" : "2");
    case PART_RETAIN:
        return mr_span_of(facts->retain ? "true" : "false");
    case PART_RECEIVED:
        return mr_span_make(facts->received, facts->received_len);
    case PART_PAYLOAD:
        return there(facts->payload);
    case PART_FIELD: {
        const struct mr_json_field *field = &facts->fields[part->index];
        return field->found == MR_JSON_FOUND ? there(field->value) : nothing;
    }
    case PART_PROP:
        return prop_value((enum mr_mqtt_prop)part->index, facts);
    case PART_USER_PROP:
        return user_prop_value(part->literal, &facts->props);
    default:
        return nothing;
    }
}

/* The bytes a part stands for; .at is NULL if the event has no such thing. */
static struct mr_span part_value(const struct part *part, const struct mr_template_vars *vars)
{
    struct mr_span value;

    switch (part->kind) {
    case PART_LITERAL:
        return part->literal;
    case PART_CLIENT:
        value = vars->client.len == 0 ? nothing : vars->client;
        break;
    case PART_USERNAME:
        value = vars->username.len == 0 ? nothing : vars->username;
        break;
    case PART_TOPIC:
        value = vars->topic;
        break;
    case PART_LEVEL:
        value = mr_topic_level(vars->topic, part->index);
        break;
    default:
        value = fact_value(part, vars->facts);
        break;
    }
    return value.at == NULL ? part->fallback : value;
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

/* `name` as a device or an operator wrote it, cut to what a message holds. */
#define NAME(span) (int)((span).len < 128 ? (span).len : 128), (const char *)(span).at

static enum mr_err missing_field(const struct part *part, const struct mr_template_vars *vars,
                                 struct mr_error *why)
{
    switch (vars->facts->fields[part->index].found) {
    case MR_JSON_NULL:
        return mr_error_set(why, MR_ERR_REJECT, "the payload's field '%.*s' is null",
                            NAME(part->literal));
    case MR_JSON_NOT_JSON:
        return mr_error_set(why, MR_ERR_REJECT,
                            "the payload is not JSON, so it has no field '%.*s'",
                            NAME(part->literal));
    default:
        return mr_error_set(why, MR_ERR_REJECT, "the payload has no field '%.*s'",
                            NAME(part->literal));
    }
}

static enum mr_err render_missing(const struct part *part, const struct mr_template_vars *vars,
                                  struct mr_error *why)
{
    switch (part->kind) {
    case PART_LEVEL:
        return mr_error_set(why, MR_ERR_REJECT, "the topic has no level %u (it has %zu, from 0)",
                            part->index, mr_topic_level_count(vars->topic));
    case PART_USERNAME:
        return mr_error_set(why, MR_ERR_REJECT, "the device has no user name");
    case PART_CLIENT:
        return mr_error_set(why, MR_ERR_REJECT, "the event has no client id");
    case PART_FIELD:
        return missing_field(part, vars, why);
    case PART_PROP:
        return mr_error_set(why, MR_ERR_REJECT, "the event has no property '%.*s'",
                            NAME(part->literal));
    case PART_USER_PROP:
        return mr_error_set(why, MR_ERR_REJECT, "the event has no user property '%.*s'",
                            NAME(part->literal));
    default:
        return mr_error_set(why, MR_ERR_REJECT, "the event has no topic");
    }
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
