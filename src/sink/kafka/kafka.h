/* kafka.h - the Kafka sink: an idempotent producer behind plugin/sink.h.
 *
 *     batch ─▶ rd_kafka_produceva (payload borrowed) ─▶ broker, acks=all
 *     mr_sink_settle ◀── delivery reports ◀─────────────┘
 *
 * What it promises is in README.md of this folder.
 *
 * Thread: as sink.h says; librdkafka brings its own.
 * Memory: librdkafka keeps about 200 bytes and the key per record in flight.
 * Time:   ~0.3 us a record inside librdkafka.
 */
#ifndef MR_SINK_KAFKA_KAFKA_H
#define MR_SINK_KAFKA_KAFKA_H

#include "plugin/sink.h"

/* As in the configuration; see the table in options.c. */
struct mr_kafka_conf {
    const char *servers;
    const char *topic;
    const char *message_key;
    const char *client_id;
    uint32_t value_encoder; /* enum mr_value_encoder */
    uint32_t compression;
    uint64_t linger_us;
    uint64_t max_topics;
    struct {
        bool enable;
        bool verify;
        const char *cacertfile;
        const char *certfile;
        const char *keyfile;
        const char *password;
    } ssl;
    struct mr_choice_or_pairs headers; /* enum mr_headers; LIST: its pairs */
    struct mr_pairs kafka_options;
};

extern const struct mr_sink_ops mr_kafka_sink;

#endif
