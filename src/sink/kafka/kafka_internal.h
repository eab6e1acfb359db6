/* kafka_internal.h - what the files of this folder share; never leaves it.
 *
 *     options.c   the table, checks, librdkafka's configuration
 *     kafka.c     life cycle of the producer, submit, tick, close
 *     report.c    delivery reports, errors, up and down
 *     topic.c     topics: legal names, partitions
 *
 * Thread: everything on the bridge's worker, except the log callback.
 */
#ifndef MR_SINK_KAFKA_KAFKA_INTERNAL_H
#define MR_SINK_KAFKA_KAFKA_INTERNAL_H

#include "sink/kafka/kafka.h"

#include <librdkafka/rdkafka.h>

enum {
    TEXT_MAX = 256,
    HEADERS_MAX = MR_RECORD_HEADERS_MAX,
    BATCH_BYTES_DEFAULT = 1000000,
    BATCH_BYTES_MIN = 2048,
    MESSAGE_BYTES_DEFAULT = 1000000, /* librdkafka's message.max.bytes */
};

#define NS_PER_MS ((int64_t)1000000)
#define NS_PER_S ((int64_t)1000000000)

/* A topic we produce to: dest->sink_data. */
struct topic {
    struct topic *next;
    rd_kafka_topic_t *rkt;
    uint64_t generation; /* of the producer `rkt` belongs to */
    int32_t partitions;  /* 0: not read yet */
    int64_t missing_since_ns;
};

struct kafka {
    const struct mr_kafka_conf *conf;
    struct mr_sink_port *port;
    rd_kafka_t *rk; /* NULL: closed */
    rd_kafka_queue_t *queue;
    uint64_t generation; /* of rk; rises with each */
    struct topic *topics;
    struct topic *denied; /* records of it were refused, none delivered since */
    uint64_t inflight;    /* produced, no report yet */
    uint32_t batch_bytes; /* batch.size; halves when a broker finds it too large */

    /* one after the other, on a failure */
    bool failing; /* give back all there is, take nothing */
    bool purged;  /* librdkafka was told */
    bool shrunk;  /* batch_bytes, for the next producer; once in each one's life */
    bool stale;   /* a new producer before the next record */

    /* reports of one batch that follow each other, told as one verdict */
    void *told_token;
    uint32_t told_count;

    bool heard;                  /* a broker answered since the last tick */
    bool answered;               /* the last thing known of the cluster is that it answers */
    int64_t away_since_ns;       /* all brokers down; 0: no */
    int64_t probe_at_ns;         /* when to look again */
    int64_t now_ns;              /* of the last tick */
    char broker_error[TEXT_MAX]; /* the last thing librdkafka said of a connection */

    rd_kafka_vu_t fields[6 + HEADERS_MAX]; /* of produceva, patched per record */
};

/* options.c */
extern const struct mr_option mr_kafka_options[];
enum mr_err mr_kafka_check(const void *conf, struct mr_error *why) MR_MUST_USE;
rd_kafka_conf_t *mr_kafka_conf_make(const struct mr_kafka_conf *conf, uint32_t batch_bytes,
                                    struct mr_error *why);
uint32_t mr_kafka_message_bytes_max(const struct mr_kafka_conf *conf);

/* topic.c */
const char *mr_kafka_topic_refused(struct mr_span name);
bool mr_kafka_topic_ready(struct kafka *k, struct mr_dest *dest);
void mr_kafka_topics_release(struct kafka *k); /* before the producer goes */
void mr_kafka_topics_free(struct kafka *k);
bool mr_kafka_probe(struct kafka *k, rd_kafka_topic_t *rkt, int timeout_ms);

/* report.c */
void mr_kafka_reports_to(rd_kafka_conf_t *rk_conf, struct kafka *k);
void mr_kafka_flush_told(struct kafka *k);
bool mr_kafka_is_consequence(rd_kafka_resp_err_t err);
void mr_kafka_fail(struct kafka *k);
void mr_kafka_away_reason(const struct kafka *k, char *out, size_t size);
const char *mr_kafka_topic_sentence(rd_kafka_resp_err_t err); /* NULL: not about a topic */

#endif
