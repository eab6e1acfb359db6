/* kafka.h - the Kafka sink: an idempotent producer behind plugin/sink.h.
 *
 *     batch ─▶ rd_kafka_produceva (payload borrowed) ─▶ broker, acks=all
 *     mr_sink_settle ◀── delivery reports ◀─────────────┘
 *
 * With `delivery: exactly_once` it is a transactional one: batches and a record of the
 * position are committed together, and settled when that is known.
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

enum mr_kafka_mechanism {
    MR_KAFKA_AUTH_NONE, /* or by certificate, or by kafka_options */
    MR_KAFKA_AUTH_PLAIN,
    MR_KAFKA_AUTH_SCRAM_SHA_256,
    MR_KAFKA_AUTH_SCRAM_SHA_512,
    MR_KAFKA_AUTH_OAUTHBEARER,
};

/* What becomes of partitions that a topic gets after it was first used. */
enum mr_kafka_growth { MR_KAFKA_PARTITIONS_KEEP, MR_KAFKA_PARTITIONS_FOLLOW };

enum mr_kafka_delivery { MR_KAFKA_AT_LEAST_ONCE, MR_KAFKA_EXACTLY_ONCE };

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
    uint32_t partitions; /* enum mr_kafka_growth */
    uint32_t delivery;   /* enum mr_kafka_delivery */
    uint64_t commit_interval_us;
    uint64_t commit_bytes;
    const char *positions_topic;
    struct mr_kafka_auth {
        uint32_t mechanism; /* enum mr_kafka_mechanism */
        const char *username;
        const char *password;
        const char *password_file; /* read again whenever Kafka refuses the password */
        const char *token_endpoint_url;
        const char *token_cacertfile;
        const char *client_id;
        const char *client_secret;
        const char *client_secret_file; /* read for each token */
        const char *scope;
        struct mr_pairs extensions;
    } authentication;
    struct {
        bool enable;
        uint64_t partitions;         /* 0: the brokers' default */
        uint64_t replication_factor; /* 0: the brokers' default */
        struct mr_pairs options;
    } auto_create;
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
