/* options.c - the block of the configuration, and what librdkafka makes of it.
 *
 * Names are EMQX's where EMQX has one.  `kafka_options` passes everything else
 * through, except what would break a promise of this gateway; those are refused
 * with the reason, so nobody loses data by a setting that looks harmless.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const encoder_choices[] = {"raw", "json", NULL};
static const char *const header_choices[] = {"none", "id", "full", NULL};
_Static_assert(MR_HEADERS_LIST == MR_COUNT_OF(header_choices) - 1, "behind the last choice");
static const char *const compression_choices[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};

#define FIELD(field) .offset = offsetof(struct mr_kafka_conf, field)

static const char *const growth_choices[] = {
    [MR_KAFKA_PARTITIONS_KEEP] = "keep", [MR_KAFKA_PARTITIONS_FOLLOW] = "follow", NULL};

static const char *const delivery_choices[] = {
    [MR_KAFKA_AT_LEAST_ONCE] = "at_least_once", [MR_KAFKA_EXACTLY_ONCE] = "exactly_once", NULL};

#define CREATE_FIELD(field)                                       \
    .offset = offsetof(struct mr_kafka_conf, auto_create.field) - \
              offsetof(struct mr_kafka_conf, auto_create)

static const struct mr_option create_options[] = {
    {.name = "enable",
     .type = MR_OPT_BOOL,
     CREATE_FIELD(enable),
     .default_text = "false",
     .help = "Make topics that do not exist, before their first record."},
    {.name = "partitions",
     .type = MR_OPT_U64,
     CREATE_FIELD(partitions),
     .default_text = "0",
     .min = 0,
     .max = 100000,
     .help = "Partitions of a topic we make; 0: the brokers' default."},
    {.name = "replication_factor",
     .type = MR_OPT_U64,
     CREATE_FIELD(replication_factor),
     .default_text = "0",
     .min = 0,
     .max = 1000,
     .help = "Its replicas; 0: the brokers' default."},
    {.name = "options",
     .type = MR_OPT_PAIRS,
     CREATE_FIELD(options),
     .help = "Its configuration, by Kafka's own names, such as retention.ms."},
    {.name = NULL},
};

const struct mr_option mr_kafka_options[] = {
    {.name = "servers",
     .type = MR_OPT_STR,
     FIELD(servers),
     .required = true,
     .help = "Kafka brokers to begin with: host:port, several separated by commas."},
    {.name = "topic",
     .type = MR_OPT_STR,
     FIELD(topic),
     .required = true,
     .help = "Kafka topic; may be a template that begins with literal text, as "
             "sensor_${topic[1]}."},
    {.name = "message_key",
     .type = MR_OPT_STR,
     FIELD(message_key),
     .default_text = "${clientid}",
     .help = "Template of the record key; it chooses the partition, as the Java client does. "
             "Empty: no key."},
    {.name = "value_encoder",
     .type = MR_OPT_CHOICE,
     FIELD(value_encoder),
     .default_text = "raw",
     .choices = encoder_choices,
     .help = "raw: the payload as it came; json: an envelope with topic, client, time and "
             "payload."},
    {.name = "headers",
     .type = MR_OPT_CHOICE_OR_PAIRS,
     FIELD(headers),
     .default_text = "none",
     .choices = header_choices,
     .help = "id: a header millrace_id with journal id, lane and seq, for audits; full: also "
             "mqtt_topic, mqtt_qos, mqtt_retain, mqtt_client and the MQTT 5 properties; or names "
             "and templates of your own."},
    {.name = "compression",
     .type = MR_OPT_CHOICE,
     FIELD(compression),
     .default_text = "lz4",
     .choices = compression_choices,
     .help = "How batches are compressed."},
    {.name = "linger",
     .type = MR_OPT_DURATION,
     FIELD(linger_us),
     .default_text = "10ms",
     .min = 0,
     .max = 60000000,
     .help = "How long a batch may wait to fill."},
    {.name = "max_topics",
     .type = MR_OPT_U64,
     FIELD(max_topics),
     .default_text = "100",
     .min = 1,
     .max = 10000,
     .help = "How many Kafka topics a template may lead to; beyond, events are dead letters."},
    {.name = "client_id",
     .type = MR_OPT_STR,
     FIELD(client_id),
     .default_text = "millrace",
     .help = "The client id that the brokers see."},
    {.name = "partitions",
     .type = MR_OPT_CHOICE,
     FIELD(partitions),
     .default_text = "keep",
     .choices = growth_choices,
     .help =
         "What to do with partitions that a topic gets later: keep leaves every key where it is "
         "until the next start; follow uses them, which moves keys."},
    {.name = "delivery",
     .type = MR_OPT_CHOICE,
     FIELD(delivery),
     .default_text = "at_least_once",
     .choices = delivery_choices,
     .help = "at_least_once: after a failure some records may come twice; exactly_once: by "
             "transactions, for consumers that set isolation.level=read_committed."},
    {.name = "commit_interval",
     .type = MR_OPT_DURATION,
     FIELD(commit_interval_us),
     .default_text = "100ms",
     .min = 0,
     .max = 10000000,
     .help = "exactly_once: how long a transaction lasts while nothing is behind; with a backlog "
             "it is longer."},
    {.name = "commit_bytes",
     .type = MR_OPT_SIZE,
     FIELD(commit_bytes),
     .default_text = "64MiB",
     .min = 65536,
     .max = 1 << 30,
     .help = "exactly_once: a transaction with this many bytes of values is committed."},
    {.name = "positions_topic",
     .type = MR_OPT_STR,
     FIELD(positions_topic),
     .default_text = "millrace.positions",
     .help = "exactly_once: the compacted topic in which every transaction notes how far it goes."},
    {.name = "auto_create",
     .type = MR_OPT_SECTION,
     FIELD(auto_create),
     .table = create_options,
     .help = "Topics that do not exist."},
    {.name = "ssl",
     .type = MR_OPT_SECTION,
     FIELD(ssl),
     .table = mr_kafka_ssl_options,
     .help = "TLS."},
    {.name = "authentication",
     .type = MR_OPT_SECTION,
     FIELD(authentication),
     .table = mr_kafka_auth_options,
     .help = "SASL."},
    {.name = "kafka_options",
     .type = MR_OPT_PAIRS,
     FIELD(kafka_options),
     .help = "Any other property of librdkafka, by its own name."},
    {.name = NULL},
};

/* Properties that are not to be passed through, and why. */
static const struct {
    const char *name;
    const char *sentence;
} refused[] = {
    {"acks", "the gateway forgets an event when all replicas have it; this is always 'all'"},
    {"request.required.acks", "the gateway forgets an event when all replicas have it; this is "
                              "always 'all'"},
    {"enable.idempotence", "without it a retry doubles and reorders records; it is always on"},
    {"enable.gapless.guarantee", "without it records could overtake one that failed; it is always "
                                 "on"},
    {"message.timeout.ms", "a record must never time out, it waits in the journal; this is always "
                           "0"},
    {"delivery.timeout.ms", "a record must never time out, it waits in the journal; this is always "
                            "0"},
    {"retries", "a record is retried for ever"},
    {"message.send.max.retries", "a record is retried for ever"},
    {"transactional.id", "transactions are the gateway's own; see `delivery`"},
    {"isolation.level", "positions are read at read_committed; consumers of the data set it "
                        "themselves"},
    {"queue.buffering.max.messages", "use `inflight_records`"},
    {"queue.buffering.max.kbytes", "use `inflight_records`"},
    {"bootstrap.servers", "use `servers`"},
    {"metadata.broker.list", "use `servers`"},
    {"compression.codec", "use `compression`"},
    {"compression.type", "use `compression`"},
    {"linger.ms", "use `linger`"},
    {"queue.buffering.max.ms", "use `linger`"},
    {"client.id", "use `client_id`"},
    {"partitioner", "the partition is the Java client's murmur2 of the key"},
    {"delivery.report.only.error", "every record needs its report"},
    {"log.queue", "it would silence the log"},
};

enum mr_err mr_kafka_property_set(rd_kafka_conf_t *rk_conf, const char *name, const char *value,
                                  const char *option, struct mr_error *why)
{
    char text[TEXT_MAX];

    switch (rd_kafka_conf_set(rk_conf, name, value, text, sizeof(text))) {
    case RD_KAFKA_CONF_OK:
        return MR_OK;
    case RD_KAFKA_CONF_UNKNOWN:
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%s: librdkafka has no property '%s'; see its CONFIGURATION.md", option,
                            name);
    default:
        return mr_error_set(why, MR_ERR_CONFIG, "%s: librdkafka: %s", option, text);
    }
}

/* librdkafka from 2.5 sends its own metrics to brokers that ask for them.  Its
 * rd_kafka_destroy() then waits a second, now and then, for a signal that came before
 * it waited, and the bridge makes a new producer after each failure.  Older versions
 * do not know the property, and need not.  kafka_options may turn it on again.
 */
static void set_no_telemetry(rd_kafka_conf_t *rk_conf)
{
    char text[TEXT_MAX];

    (void)rd_kafka_conf_set(rk_conf, "enable.metrics.push", "false", text, sizeof(text));
}

struct property {
    const char *name;
    const char *value;
    const char *option; /* whose fault it would be */
};

static enum mr_err set_all(rd_kafka_conf_t *rk_conf, const struct property *rows, size_t count,
                           struct mr_error *why)
{
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < count && err == MR_OK; i++) {
        err = mr_kafka_property_set(rk_conf, rows[i].name, rows[i].value, rows[i].option, why);
    }
    return err;
}

/* At least once: nothing behind a failed record can overtake it, and none times out.
 * In a transaction the abort sees to the order, and records wait as long as it may last
 * (librdkafka takes message.timeout.ms from transaction.timeout.ms); of single records only
 * failures are told, the commit speaks for the others.
 */
static enum mr_err set_delivery(rd_kafka_conf_t *rk_conf, const char *transactional_id,
                                struct mr_error *why)
{
    const struct property plain[] = {
        /* A failed record ends this producer: nothing behind it can overtake. */
        {"enable.gapless.guarantee", "true", "kafka"},
        {"message.timeout.ms", "0", "kafka"},
    };
    const struct property exact[] = {
        {"transactional.id", transactional_id, "kafka"},
        {"delivery.report.only.error", "true", "kafka"},
    };

    return transactional_id == NULL ? set_all(rk_conf, plain, MR_COUNT_OF(plain), why)
                                    : set_all(rk_conf, exact, MR_COUNT_OF(exact), why);
}

/* What every producer of ours has, whatever the operator says. */
static enum mr_err set_fixed(rd_kafka_conf_t *rk_conf, const struct mr_kafka_conf *conf,
                             uint32_t batch_bytes, struct mr_error *why)
{
    char linger[32];
    char batch[16];
    char message[16];

    snprintf(linger, sizeof(linger), "%" PRIu64 ".%03" PRIu64, conf->linger_us / 1000,
             conf->linger_us % 1000);
    snprintf(batch, sizeof(batch), "%" PRIu32, batch_bytes);
    snprintf(message, sizeof(message), "%d", MESSAGE_BYTES_DEFAULT);
    const struct property rows[] = {
        {"bootstrap.servers", conf->servers, "servers"},
        {"client.id", conf->client_id, "client_id"},
        {"compression.codec", compression_choices[conf->compression], "compression"},
        {"linger.ms", linger, "linger"},
        {"acks", "all", "kafka"},
        {"enable.idempotence", "true", "kafka"},
        /* The pipeline bounds what is in flight, so that a full queue never splits
         * a batch in the middle. */
        {"queue.buffering.max.messages", "10000000", "kafka"},
        {"queue.buffering.max.kbytes", "2097151", "kafka"},
        {"batch.num.messages", "10000", "kafka"},
        {"batch.size", batch, "kafka"},
        {"message.max.bytes", message, "kafka"},
        {"socket.keepalive.enable", "true", "kafka"},
        {"socket.nagle.disable", "true", "kafka"},
        {"reconnect.backoff.ms", "100", "kafka"},
        {"reconnect.backoff.max.ms", "5000", "kafka"},
        {"statistics.interval.ms", "0", "kafka"},
        {"log.connection.close", "false", "kafka"},
    };

    set_no_telemetry(rk_conf);
    return set_all(rk_conf, rows, MR_COUNT_OF(rows), why);
}

static enum mr_err set_passed(rd_kafka_conf_t *rk_conf, const struct mr_kafka_conf *conf,
                              struct mr_error *why)
{
    for (size_t i = 0; i < conf->kafka_options.count; i++) {
        const struct mr_pair *pair = &conf->kafka_options.items[i];
        for (size_t j = 0; j < MR_COUNT_OF(refused); j++) {
            if (strcmp(pair->name, refused[j].name) == 0) {
                return mr_error_set(why, MR_ERR_CONFIG, "kafka_options: '%s' cannot be set: %s",
                                    pair->name, refused[j].sentence);
            }
        }
        enum mr_err err =
            mr_kafka_property_set(rk_conf, pair->name, pair->value, "kafka_options", why);
        if (err != MR_OK) {
            return err;
        }
    }
    return MR_OK;
}

/* librdkafka's configuration for `conf`; NULL: `why` says what is wrong.  The
 * caller's until rd_kafka_new() takes it.  Without a transactional id: at least once.
 */
rd_kafka_conf_t *mr_kafka_conf_make(const struct mr_kafka_conf *conf, uint32_t batch_bytes,
                                    const char *transactional_id, struct mr_error *why)
{
    rd_kafka_conf_t *rk_conf = rd_kafka_conf_new();

    if (set_fixed(rk_conf, conf, batch_bytes, why) != MR_OK ||
        set_delivery(rk_conf, transactional_id, why) != MR_OK ||
        mr_kafka_security_set(rk_conf, conf, why) != MR_OK ||
        set_passed(rk_conf, conf, why) != MR_OK) {
        rd_kafka_conf_destroy(rk_conf);
        return NULL;
    }
    return rk_conf;
}

/* The same for reading the positions: the connection as for producing. */
rd_kafka_conf_t *mr_kafka_conf_make_reader(const struct mr_kafka_conf *conf, struct mr_error *why)
{
    rd_kafka_conf_t *rk_conf = rd_kafka_conf_new();
    const struct property rows[] = {
        {"bootstrap.servers", conf->servers, "servers"},
        {"client.id", conf->client_id, "client_id"},
        {"isolation.level", "read_committed", "kafka"},
        {"enable.partition.eof", "true", "kafka"},
        {"enable.auto.commit", "false", "kafka"},
        {"auto.offset.reset", "earliest", "kafka"},
        {"allow.auto.create.topics", "false", "kafka"},
        {"client.rack", "", "kafka"}, /* of the leader: a follower may not have the end yet */
        {"fetch.wait.max.ms", "10", "kafka"},
        {"reconnect.backoff.ms", "100", "kafka"},
        {"reconnect.backoff.max.ms", "1000", "kafka"},
        {"log.connection.close", "false", "kafka"},
    };

    set_no_telemetry(rk_conf);
    if (set_passed(rk_conf, conf, why) != MR_OK ||
        set_all(rk_conf, rows, MR_COUNT_OF(rows), why) != MR_OK ||
        mr_kafka_security_set(rk_conf, conf, why) != MR_OK) {
        rd_kafka_conf_destroy(rk_conf);
        return NULL;
    }
    return rk_conf;
}

/* A transaction must be over long before the brokers give it up. */
static enum mr_err interval_check(const struct mr_kafka_conf *conf, rd_kafka_conf_t *rk_conf,
                                  struct mr_error *why)
{
    char text[32] = "";
    size_t size = sizeof(text);
    uint64_t timeout_ms = 0;

    (void)rd_kafka_conf_get(rk_conf, "transaction.timeout.ms", text, &size);
    if (mr_parse_u64(mr_span_of(text), UINT32_MAX, &timeout_ms) != MR_OK ||
        conf->commit_interval_us <= timeout_ms * 1000 / 2) {
        return MR_OK;
    }
    return mr_error_set(why, MR_ERR_CONFIG,
                        "commit_interval: is more than half of transaction.timeout.ms (%" PRIu64
                        " ms), after which Kafka gives a transaction up",
                        timeout_ms);
}

static enum mr_err exactly_check(const struct mr_kafka_conf *conf, rd_kafka_conf_t *rk_conf,
                                 struct mr_error *why)
{
    if (conf->delivery != MR_KAFKA_EXACTLY_ONCE) {
        return MR_OK;
    }
    const char *fault = mr_kafka_topic_refused(mr_span_of(conf->positions_topic));
    if (fault != NULL) {
        return mr_error_set(why, MR_ERR_CONFIG, "positions_topic: '%s' cannot be: %s",
                            conf->positions_topic, fault);
    }
    return interval_check(conf, rk_conf, why);
}

enum mr_err mr_kafka_check(const void *conf_of, struct mr_error *why)
{
    const struct mr_kafka_conf *conf = conf_of;

    if (conf->headers.pairs.count > HEADERS_MAX) {
        return mr_error_set(why, MR_ERR_CONFIG, "headers: has %zu headers, more than %d",
                            conf->headers.pairs.count, HEADERS_MAX);
    }
    if (conf->servers == NULL) {
        return MR_OK; /* the option table has said that it is missing */
    }
    if (conf->servers[0] == '\0') {
        return mr_error_set(why, MR_ERR_CONFIG, "servers: is empty; name a broker, as kafka:9092");
    }
    enum mr_err err = mr_kafka_security_check(conf, why);
    if (err != MR_OK) {
        return err;
    }
    rd_kafka_conf_t *rk_conf =
        mr_kafka_conf_make(conf, BATCH_BYTES_DEFAULT,
                           conf->delivery == MR_KAFKA_EXACTLY_ONCE ? "millrace" : NULL, why);
    if (rk_conf == NULL) {
        return MR_ERR_CONFIG;
    }
    err = exactly_check(conf, rk_conf, why);
    rd_kafka_conf_destroy(rk_conf);
    return err;
}

/* What produceva accepts of key, value and headers together. */
uint32_t mr_kafka_message_bytes_max(const struct mr_kafka_conf *conf)
{
    uint64_t bytes = MESSAGE_BYTES_DEFAULT;

    for (size_t i = 0; i < conf->kafka_options.count; i++) {
        const struct mr_pair *pair = &conf->kafka_options.items[i];
        if (strcmp(pair->name, "message.max.bytes") == 0 &&
            mr_parse_u64(mr_span_of(pair->value), UINT32_MAX, &bytes) != MR_OK) {
            bytes = MESSAGE_BYTES_DEFAULT; /* librdkafka refuses it with its own words */
        }
    }
    return (uint32_t)bytes;
}
