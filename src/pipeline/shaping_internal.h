/* shaping_internal.h - the templates and rules that records of a bridge follow, compiled.
 *
 *     configuration, the sink's shape ─▶ struct shaping ─▶ route.c, record.c, headers.c
 *
 * Thread: constant after create.   Memory: the bridge's.   Time: none.
 */
#ifndef MR_PIPELINE_SHAPING_INTERNAL_H
#define MR_PIPELINE_SHAPING_INTERNAL_H

#include "codec/timestamp.h"
#include "pipeline/bridge.h"
#include "pipeline/template.h"

struct header_template {
    const char *name;
    struct mr_template *value;
};

/* Constant after create. */
struct shaping {
    struct mr_template *dest;
    struct mr_template *key;       /* NULL: no key */
    struct mr_template *time;      /* NULL: the receive time */
    struct mr_json_fields *fields; /* all that templates want of payloads; NULL: nothing */
    struct header_template *headers;
    uint32_t header_count;
    unsigned needs;         /* of all templates: MR_TEMPLATE_NEEDS_… */
    size_t value_bytes_max; /* SIZE_MAX: no limit */
    bool shaped;            /* something is to be done beside taking the payload as it is */
    bool dest_varies;       /* from event to event of the same names */
    bool key_varies;
    bool time_or_dead; /* without a usable time: a dead letter */
    enum mr_time_unit time_unit;
    int64_t time_past_us; /* 0: no bound */
    int64_t time_future_us;
};

/* shaping.c: every fault is said; 0: none, and `out` is the caller's to close. */
uint32_t mr_shaping_open(struct shaping *out, const struct mr_bridge_conf *conf,
                         const struct mr_shape *shape, void (*say)(void *arg, const char *fault),
                         void *arg);
void mr_shaping_close(struct shaping *shaping);
size_t mr_shaping_bytes(const struct shaping *shaping, const struct mr_shape *shape);

#endif
