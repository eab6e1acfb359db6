/* template.h - small texts made from an event: destinations, keys, headers, times.
 *
 *     "sensor_${topic[1]}"  +  plant/temp/7  ─▶  "sensor_temp"
 *
 *     ${clientid} ${username} ${topic} ${topic[n]}    follow from the event's names
 *     ${qos} ${retain} ${received} ${props.x}         from the rest of the PUBLISH
 *     ${payload} ${payload.a.b[0]} ${payload["a.b"]}  from the payload
 *
 * Levels and array elements count from 0; ${received} is in Unix milliseconds.
 * ${props.x} is one of the five properties of a PUBLISH by its name in the JSON
 * envelope, else the first user property x; ${props.user_properties.x} is always one.
 * `${name:-text}` is the text where the event lacks the thing.  `$${` is a literal
 * `${`; any other `$` stands for itself.
 *
 * A destination (MR_TEMPLATE_DEST) is a name at the target that a device must not
 * be able to choose freely: it begins with literal text (or has nothing else), and
 * each character of a substituted part outside [a-zA-Z0-9._-] becomes `_`.
 *
 * What an event does not have (a level, a user name, a field) is never rendered as
 * nothing: the caller gets the reason.
 *
 * Thread: compiled templates are constant.   Memory: control plane, freed by free().
 * Time:   what follows from names alone is rendered once per name and segment; the
 *         rest once per event, see mr_template_needs().
 */
#ifndef MR_PIPELINE_TEMPLATE_H
#define MR_PIPELINE_TEMPLATE_H

#include "base/text.h"
#include "codec/json_fields.h"
#include "codec/mqtt_props.h"

struct mr_template;

enum mr_template_use {
    MR_TEMPLATE_TEXT, /* bytes as they come */
    MR_TEMPLATE_DEST, /* begins with literal text, substituted parts are tamed */
};

/* CONFIG: `why` names `option`, the column (from 1) and, if one is near, what was
 * probably meant.  Fields of the payload are added to `fields`, which several
 * templates share, so that one reading serves them all.
 */
enum mr_err mr_template_compile(struct mr_template **out, const char *option, const char *text,
                                enum mr_template_use use, struct mr_json_fields *fields,
                                struct mr_error *why) MR_MUST_USE;
void mr_template_free(struct mr_template *tmpl); /* NULL is fine */

/* Without variables the result is known beforehand: its text, else NULL. */
const char *mr_template_literal(const struct mr_template *tmpl);

/* What rendering asks of the event beside its names; 0: nothing, so the result may
 * be kept for all events of the same names.
 */
enum {
    MR_TEMPLATE_NEEDS_EVENT = 1,    /* QoS, retain, payload as a whole */
    MR_TEMPLATE_NEEDS_RECEIVED = 2, /* the time as text */
    MR_TEMPLATE_NEEDS_FIELDS = 4,   /* the payload read as JSON */
    MR_TEMPLATE_NEEDS_PROPS = 8,    /* the MQTT properties decoded */
};
unsigned mr_template_needs(const struct mr_template *tmpl);

/* What templates may ask of one event; filled once, for all of them. */
struct mr_template_facts {
    struct mr_span payload;
    int64_t received_ms;
    const struct mr_json_field *fields; /* FIELDS only */
    struct mr_mqtt_props props;         /* PROPS only */
    char received[24];                  /* RECEIVED only */
    char expiry[16];                    /* PROPS only */
    uint8_t received_len;
    uint8_t expiry_len;
    uint8_t qos;
    bool retain;
};

/* Work out what `needs` (of all templates together) says; payload, received_ms, qos
 * and retain are set already.  REJECT: the properties do not parse.
 */
enum mr_err mr_template_facts_work_out(struct mr_template_facts *facts, unsigned needs,
                                       struct mr_span properties,
                                       struct mr_json_fields *fields) MR_MUST_USE;

struct mr_template_vars {
    struct mr_span client;
    struct mr_span username;
    struct mr_span topic;
    const struct mr_template_facts *facts; /* NULL where no template needs any */
};

/* An upper bound of the rendered length. */
size_t mr_template_size(const struct mr_template *tmpl, const struct mr_template_vars *vars);

/* Write the result at `out`, which has room for mr_template_size(); *len is its
 * length.  REJECT: the event lacks a part; `why` (may be NULL) says which.
 */
enum mr_err mr_template_render(const struct mr_template *tmpl, const struct mr_template_vars *vars,
                               uint8_t *out, size_t *len, struct mr_error *why) MR_MUST_USE;

#endif
