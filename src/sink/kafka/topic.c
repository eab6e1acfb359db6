/* topic.c - Kafka topics: which names are legal, how many partitions there are.
 *
 * The partition count is read when a topic is first used and kept: a growth of the
 * topic would send a key elsewhere, in front of its own earlier records.  A new
 * count is read only after the bridge went back (the old one turned out wrong), or
 * a restart, or when `partitions: follow` asks for it (admin.c).
 */
#include "sink/kafka/kafka_internal.h"

#include "os/clock.h"

#include <stdio.h>

enum {
    TOPIC_NAME_MAX = 249,
    METADATA_WAIT_MS = 400,
    MISSING_PATIENCE_S = 3, /* a topic that is being created looks missing */
};

const char *mr_kafka_topic_refused(struct mr_span name)
{
    if (name.len == 0) {
        return "a Kafka topic needs a name";
    }
    if (name.len > TOPIC_NAME_MAX) {
        return "a Kafka topic has at most 249 characters";
    }
    if (mr_span_is(name, ".") || mr_span_is(name, "..")) {
        return "Kafka does not allow this name";
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-')) {
            return "a Kafka topic consists of a-z, A-Z, 0-9, '.', '_' and '-'";
        }
    }
    return NULL;
}

/* Judge the answer about one topic.  True: its partitions are known. */
static bool topic_learn(struct kafka *k, struct topic *topic,
                        const struct rd_kafka_metadata_topic *answer)
{
    if (answer->err == RD_KAFKA_RESP_ERR_NO_ERROR && answer->partition_cnt > 0) {
        topic->partitions = answer->partition_cnt;
        topic->grown_to = answer->partition_cnt;
        topic->count_age += 1;
        topic->missing_since_ns = 0;
        k->limits_wanted |= !topic->limits_asked;
        return true;
    }
    topic->created = false; /* it may have been deleted: make it again */
    mr_kafka_topic_missing(k, topic);
    bool certain =
        answer->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED || topic->may_not_create;
    if (certain || mr_clock_mono_ns() - topic->missing_since_ns > MISSING_PATIENCE_S * NS_PER_S) {
        char text[TEXT_MAX];
        mr_kafka_refusal(k, answer->err, topic, topic->name, text, sizeof(text));
        mr_sink_refused(k->port, text);
        k->answered = false;
    }
    return false;
}

/* Ask the cluster: about `rkt`, or (NULL) only whether it answers.  False: it does
 * not, within `timeout_ms`; the port knows.
 */
static const struct rd_kafka_metadata *ask(struct kafka *k, rd_kafka_topic_t *rkt, int timeout_ms)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_resp_err_t err = rd_kafka_metadata(k->rk, 0, rkt, &metadata, timeout_ms);

    if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        k->away_since_ns = 0;
        return metadata;
    }
    rd_kafka_poll(k->rk, 0); /* the cause, if librdkafka has told it by now */
    mr_kafka_away(k);
    return NULL;
}

bool mr_kafka_probe(struct kafka *k, rd_kafka_topic_t *rkt, int timeout_ms)
{
    const struct rd_kafka_metadata *metadata = ask(k, rkt, timeout_ms);

    if (metadata == NULL) {
        return false;
    }
    rd_kafka_metadata_destroy(metadata);
    return true;
}

static struct topic *topic_of(struct kafka *k, struct mr_dest *dest)
{
    struct topic *topic = dest->sink_data;

    if (topic == NULL) {
        topic = mr_alloc(sizeof(*topic));
        topic->next = k->topics;
        topic->name = dest->name;
        k->topics = topic;
        dest->sink_data = topic;
    }
    if (topic->generation != k->generation) {
        topic->rkt = rd_kafka_topic_new(k->rk, dest->name, NULL);
        mr_assert(topic->rkt != NULL); /* the name was checked, the producer is alive */
        topic->generation = k->generation;
    }
    return topic;
}

/* Can records for `dest` be produced now, or is it certain that they never can (`impossible`)?
 * False: try again later.
 */
bool mr_kafka_topic_ready(struct kafka *k, struct mr_dest *dest)
{
    struct topic *topic = topic_of(k, dest);

    if (topic->partitions != 0) {
        return true;
    }
    if (k->conf->auto_create.enable && !mr_kafka_topic_create(k, topic)) {
        return topic->impossible[0] != '\0';
    }

    const struct rd_kafka_metadata *metadata = ask(k, topic->rkt, METADATA_WAIT_MS);
    if (metadata == NULL) {
        return false;
    }
    bool ready = false;
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (strcmp(metadata->topics[i].topic, dest->name) == 0) {
            ready = topic_learn(k, topic, &metadata->topics[i]);
        }
    }
    rd_kafka_metadata_destroy(metadata);
    if (ready) {
        mr_kafka_answered(k);
    }
    return ready;
}

static void topic_release(struct kafka *k, struct topic *topic)
{
    if (topic->generation == k->generation && topic->rkt != NULL) {
        rd_kafka_topic_destroy(topic->rkt);
        topic->generation = 0;
        topic->rkt = NULL;
    }
}

void mr_kafka_topics_release(struct kafka *k)
{
    for (struct topic *topic = k->topics; topic != NULL; topic = topic->next) {
        topic_release(k, topic);
    }
    topic_release(k, &k->tx.positions);
}

void mr_kafka_topics_free(struct kafka *k)
{
    while (k->topics != NULL) {
        struct topic *next = k->topics->next;
        mr_free(k->topics);
        k->topics = next;
    }
}
