/* template_internal.h - what template.c (compile) and template_value.c (render) share.
 *
 * Thread: constant once compiled.
 */
#ifndef MR_PIPELINE_TEMPLATE_INTERNAL_H
#define MR_PIPELINE_TEMPLATE_INTERNAL_H

#include "pipeline/template.h"

enum part_kind {
    PART_LITERAL,
    PART_CLIENT,
    PART_USERNAME,
    PART_TOPIC,
    PART_LEVEL,
    PART_QOS,
    PART_RETAIN,
    PART_RECEIVED,
    PART_PAYLOAD,
    PART_FIELD,
    PART_PROP,
    PART_USER_PROP,
};

enum { PARTS_MAX = 32 };

/* Spans borrow mr_template.text. */
struct part {
    enum part_kind kind;
    uint32_t index;         /* LEVEL: of the topic; FIELD: of the fields; PROP: enum mr_mqtt_prop */
    struct mr_span literal; /* LITERAL: its bytes; else what was written, for messages:
                               FIELD: a.b, PROP and USER_PROP: the name */
    struct mr_span fallback; /* behind `:-`; .at is NULL without one */
};

struct mr_template {
    enum mr_template_use use;
    unsigned needs;
    size_t part_count;
    struct part parts[PARTS_MAX];
    char *text;   /* all literal bytes, one NUL at the end */
    char *source; /* as it was written; names and fallbacks point into it */
};

#endif
