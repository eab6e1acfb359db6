/* readback.h - read topics back from Kafka, connected as a bridge's configuration says.
 *
 *     mr_kafka_read_back(conf, reading) ─▶ wants(topic) ─▶ began(topic, partitions) ─▶
 *     took(message), over and over ─▶ every partition was read to its end
 *
 * For audits: everything from the oldest record on, at read_committed.  It needs no group, hence
 * no permission for one: Read and Describe on the topics.
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

struct mr_kafka_reading {
    void *arg;
    bool (*wants)(void *arg, const char *topic);
    /* Of each that it wants: how many partitions, how many of them begin behind their first
     * record, because retention removed some, and whether it is compacted, so that any may be
     * gone.  May be NULL.
     */
    void (*began)(void *arg, uint32_t partitions, uint32_t cut, bool compacted);
    void (*took)(void *arg, const struct mr_kafka_read *read);
};

/* AGAIN: Kafka does not answer, or not to the end; CONFIG: it cannot be asked as configured, or
 * does not let us.  Topics that are not there are none that it wants.
 */
enum mr_err mr_kafka_read_back(const struct mr_kafka_conf *conf,
                               const struct mr_kafka_reading *reading,
                               struct mr_error *why) MR_MUST_USE;

#endif
