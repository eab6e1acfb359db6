/* readback.h - read topics back from Kafka, connected as a bridge's configuration says.
 *
 *     mr_kafka_read_back(conf, reading) ─▶ wants(topic) ─▶ began(topic) ─▶
 *     took(message), over and over ─▶ every partition was read to its end
 *
 * For audits: everything from the oldest record on, at read_committed.  It needs no group, hence
 * no permission for one: Read on the topics, and DescribeConfigs, without which it is not known
 * whether they are compacted.
 *
 * Thread: the caller's, for as long as it takes.
 * Memory: what librdkafka fetches ahead, 16 MiB and a fetch a broker.   Time: the network's.
 */
#ifndef MR_SINK_KAFKA_READBACK_H
#define MR_SINK_KAFKA_READBACK_H

#include "base/span.h"
#include "sink/kafka/kafka.h"

struct mr_kafka_read {
    const char *topic;
    uint32_t place; /* of its partition, counted over all topics that are read */
    struct mr_span key;
    struct mr_span value;
    int64_t time_ms;   /* as Kafka has it; -1: not known */
    struct mr_span id; /* the header millrace_id; empty: there is none */
    bool backfill;     /* it has the header millrace_backfill: fresh records have overtaken it */
};

/* Of a topic, before its records. */
struct mr_kafka_began {
    const char *topic;
    uint32_t partitions;
    uint32_t cut;      /* so many begin behind their first record: retention removed some */
    bool compacted;    /* any record may be gone */
    const char *doubt; /* why that could not be found out, and what to do; NULL: it could */
};

struct mr_kafka_reading {
    void *arg;
    const char *topic; /* this one; NULL: of all that Kafka lets us see, those that it wants */
    bool (*wants)(void *arg, const char *topic);
    void (*began)(void *arg, const struct mr_kafka_began *began); /* of each; may be NULL */
    void (*took)(void *arg, const struct mr_kafka_read *read);
};

/* AGAIN: Kafka does not answer, or not to the end; CONFIG: it cannot be asked as configured, or
 * does not let us.  A topic that is not there does not begin, and is no error; nor is one that we
 * may not see, unless it was named.
 */
enum mr_err mr_kafka_read_back(const struct mr_kafka_conf *conf,
                               const struct mr_kafka_reading *reading,
                               struct mr_error *why) MR_MUST_USE;

#endif
