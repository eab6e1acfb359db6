/* explain.h - what a bridge would do with one event, without sending it.
 *
 *     settings ─▶ mr_explain_open(bridge) ─▶ mr_explain(event) ─▶ skip | dead letter | record
 *
 * The same code decides as in the running bridge (route.c, fill.c): filters of `from`,
 * destination, key, timestamp, headers, value, and every reason for which an event
 * becomes a dead letter before its target sees it.  What only the target can know
 * (does the topic exist, how many partitions has it) is not here.
 *
 * Nothing is opened: no journal, no cursor, no connection.  Several may be open at
 * once, also beside a running bridge of the same name.
 *
 * `max_topics` counts from mr_explain_open() on, as a bridge counts from its start.
 *
 * Thread: one per object.   Memory: a few MiB until close.   Time: ~1 us an event.
 */
#ifndef MR_PIPELINE_EXPLAIN_H
#define MR_PIPELINE_EXPLAIN_H

#include "pipeline/bridge.h"

struct mr_explain;

/* Everything here must stay until mr_explain_close(). */
struct mr_explain_options {
    const char *name; /* the bridge's, as in the configuration */
    const struct mr_bridge_conf *conf;
    const struct mr_sink_ops *sink;
    const void *sink_conf;
    const char *journal_id; /* for the header millrace_id; NULL: a UUID of zeros */
    uint32_t lane;
};

/* CONFIG: the configuration has a fault, `why` says which (mr_bridge_check() would
 * have said it too).
 */
enum mr_err mr_explain_open(struct mr_explain **out, const struct mr_explain_options *options,
                            struct mr_error *why) MR_MUST_USE;
void mr_explain_close(struct mr_explain *explain); /* NULL is fine */

/* As a device would publish it. */
struct mr_explain_event {
    struct mr_span client;
    struct mr_span username;   /* empty: the device gave none */
    struct mr_span topic;      /* a valid topic name */
    struct mr_span properties; /* MQTT 5.0 section as mr_mqtt_props_encode() writes it; or empty */
    struct mr_span payload;
    int64_t received_us; /* Unix */
    uint64_t seq;        /* for the header millrace_id */
    uint8_t qos;
    bool retain;
};

enum mr_explained_fate {
    MR_EXPLAINED_SEND,
    MR_EXPLAINED_SKIP, /* no filter of `from` matches */
    MR_EXPLAINED_DEAD, /* it would be a dead letter: `reason` */
};

enum mr_explained_time {
    MR_EXPLAINED_TIME_RECEIVED, /* `timestamp: received` */
    MR_EXPLAINED_TIME_EVENT,    /* from the template of `timestamp` */
    MR_EXPLAINED_TIME_REPLACED, /* the template gave none that is usable: `time_reason` */
};

/* All texts are borrowed from the event and the explain object, until the next call. */
struct mr_explained {
    enum mr_explained_fate fate;
    const char *filter; /* the filter of `from` that matched; NULL: none, or `from` is empty */
    const char *reason; /* SKIP and DEAD: a sentence without a full stop; else NULL */

    /* SEND only, from here on */
    const char *dest;   /* Kafka topic */
    struct mr_span key; /* empty: none */
    /* The partition is partition_hash % (number of partitions). */
    struct mr_span partition_by; /* the key, without one the client id */
    uint32_t partition_hash;
    enum mr_explained_time time_from;
    const char *time_reason; /* REPLACED: why; else NULL */
    int64_t time_ms;         /* of the record, Unix */
    const struct mr_header *headers;
    uint16_t header_count;
    struct mr_span value;
};

void mr_explain(struct mr_explain *explain, const struct mr_explain_event *event,
                struct mr_explained *out);

#endif
