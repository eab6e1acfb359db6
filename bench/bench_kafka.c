/* bench_kafka.c - see bench_kafka.h. */
#include "bench_kafka.h"

#include <time.h>

static void kafka_option(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK) {
        bench_fail("librdkafka: %s", why);
    }
}

void bench_kafka_open(struct bench_kafka *kafka, const char *servers, const char *topic)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    kafka_option(conf, "bootstrap.servers", servers);
    kafka_option(conf, "group.id", "millrace-bench"); /* needed, never joined or committed */
    kafka_option(conf, "enable.auto.commit", "false");
    kafka_option(conf, "enable.auto.offset.store", "false");
    kafka_option(conf, "isolation.level", "read_committed");
    kafka_option(conf, "check.crcs", "true");
    kafka_option(conf, "fetch.wait.max.ms", "10");
    kafka_option(conf, "queued.max.messages.kbytes", "131072");
    *kafka = (struct bench_kafka){.topic = topic};
    kafka->client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (kafka->client == NULL) {
        bench_fail("librdkafka: %s", why);
    }
    (void)rd_kafka_poll_set_consumer(kafka->client);
}

void bench_kafka_close(struct bench_kafka *kafka)
{
    (void)rd_kafka_consumer_close(kafka->client);
    rd_kafka_destroy(kafka->client);
}

/* How many partitions have a leader. */
static int32_t kafka_partitions_led(struct bench_kafka *kafka)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(kafka->client, kafka->topic, NULL);
    rd_kafka_resp_err_t err = rd_kafka_metadata(kafka->client, 0, topic, &metadata, BENCH_KAFKA_MS);
    int32_t led = 0;

    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_fail("no metadata of '%s': %s", kafka->topic, rd_kafka_err2str(err));
    }
    for (int i = 0; metadata->topic_cnt == 1 && i < metadata->topics[0].partition_cnt; i++) {
        led += metadata->topics[0].partitions[i].leader >= 0 ? 1 : 0;
    }
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(topic);
    return led;
}

/* A topic that was just created is not yet known to every part of the broker. */
static void kafka_await_leaders(struct bench_kafka *kafka, uint64_t partitions)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = 20000000};
    int64_t deadline_ns = bench_mono_ns() + BENCH_KAFKA_MS * INT64_C(1000000);

    while (kafka_partitions_led(kafka) < (int32_t)partitions) {
        if (bench_mono_ns() > deadline_ns) {
            bench_fail("topic '%s' has no leaders after %d s", kafka->topic, BENCH_KAFKA_MS / 1000);
        }
        (void)nanosleep(&pause, NULL);
    }
}

void bench_kafka_partitions(struct bench_kafka *kafka)
{
    kafka->partition_count = kafka_partitions_led(kafka);
    if (kafka->partition_count <= 0 || kafka->partition_count > BENCH_PARTITIONS_MAX) {
        bench_fail("topic '%s' has %d partitions; does it exist?", kafka->topic,
                   kafka->partition_count);
    }
}

/* The answer of an admin request; `request` starts it on a queue. */
static rd_kafka_event_t *kafka_admin(struct bench_kafka *kafka, rd_kafka_admin_op_t op,
                                     void (*request)(struct bench_kafka *kafka, void *what,
                                                     rd_kafka_AdminOptions_t *options,
                                                     rd_kafka_queue_t *queue),
                                     void *what)
{
    char why[256];
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka->client, op);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka->client);

    (void)rd_kafka_AdminOptions_set_operation_timeout(options, BENCH_KAFKA_MS, why, sizeof(why));
    request(kafka, what, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 2 * BENCH_KAFKA_MS);
    if (event == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_fail("topic '%s': %s", kafka->topic,
                   event == NULL ? "no answer" : rd_kafka_event_error_string(event));
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    return event;
}

static void kafka_ask_create(struct bench_kafka *kafka, void *what,
                             rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *queue)
{
    rd_kafka_NewTopic_t *topic = what;

    rd_kafka_CreateTopics(kafka->client, &topic, 1, options, queue);
}

static void kafka_ask_delete(struct bench_kafka *kafka, void *what,
                             rd_kafka_AdminOptions_t *options, rd_kafka_queue_t *queue)
{
    rd_kafka_DeleteTopic_t *topic = what;

    rd_kafka_DeleteTopics(kafka->client, &topic, 1, options, queue);
}

void bench_kafka_create(struct bench_kafka *kafka, uint64_t partitions)
{
    char why[256];
    size_t count = 0;
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(kafka->topic, (int)partitions, 1, why, sizeof(why));

    if (topic == NULL) {
        bench_fail("cannot create '%s': %s", kafka->topic, why);
    }
    rd_kafka_event_t *event =
        kafka_admin(kafka, RD_KAFKA_ADMIN_OP_CREATETOPICS, kafka_ask_create, topic);
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    if (count != 1 || rd_kafka_topic_result_error(results[0]) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_fail("cannot create '%s': %s", kafka->topic,
                   count == 1 ? rd_kafka_err2name(rd_kafka_topic_result_error(results[0])) : "?");
    }
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
    kafka_await_leaders(kafka, partitions);
}

void bench_kafka_delete(struct bench_kafka *kafka)
{
    rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(kafka->topic);

    rd_kafka_event_destroy(
        kafka_admin(kafka, RD_KAFKA_ADMIN_OP_DELETETOPICS, kafka_ask_delete, topic));
    rd_kafka_DeleteTopic_destroy(topic);
}

void bench_kafka_offsets(struct bench_kafka *kafka, bool end, int64_t *offsets)
{
    for (int32_t p = 0; p < kafka->partition_count; p++) {
        int64_t deadline_ns = bench_mono_ns() + BENCH_KAFKA_MS * INT64_C(1000000);
        int64_t low = 0;
        int64_t high = 0;
        rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

        do { /* A leader that was just elected may deny it for a moment. */
            err = rd_kafka_query_watermark_offsets(kafka->client, kafka->topic, p, &low, &high,
                                                   BENCH_KAFKA_MS);
        } while (err == RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION &&
                 bench_mono_ns() < deadline_ns);
        if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            bench_fail("no offsets of '%s' [%d]: %s", kafka->topic, p, rd_kafka_err2str(err));
        }
        offsets[p] = end ? high : low;
    }
}
