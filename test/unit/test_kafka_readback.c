/* test_kafka_readback.c
 * links: sink_kafka pipeline journal codec config os base
 *
 * Goal:   reading back, an error is no answer: a topic that a broker does not know yet is asked for
 *         again, for its partitions and for its configuration; what cannot be found out is told
 *         with its cause, and never taken for "it is not compacted" or "it is not there".
 * Method: librdkafka's mock cluster, with answers of ours to DescribeConfigs, and errors put into
 *         those to Metadata.
 */
#include "kafka_configs.h"
#include "sink/kafka/readback.h"

#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <string.h>

enum { PARTITIONS = 4, FOR_EVER = 1000000 };

/* ---- what Kafka says ---- */

static int metadata_errors; /* in so many answers */
static rd_kafka_resp_err_t metadata_err;

rd_kafka_resp_err_t rd_kafka_event_error(rd_kafka_event_t *event)
{
    static rd_kafka_resp_err_t (*next)(rd_kafka_event_t *);

    if (next == NULL) {
        next = (rd_kafka_resp_err_t(*)(rd_kafka_event_t *))(uintptr_t)dlsym(RTLD_NEXT,
                                                                            "rd_kafka_event_error");
    }
    return is_configs_answer(event) ? RD_KAFKA_RESP_ERR_NO_ERROR : next(event);
}

rd_kafka_resp_err_t rd_kafka_metadata(rd_kafka_t *rk, int all, rd_kafka_topic_t *only,
                                      const struct rd_kafka_metadata **out, int timeout_ms)
{
    static rd_kafka_resp_err_t (*next)(rd_kafka_t *, int, rd_kafka_topic_t *,
                                       const struct rd_kafka_metadata **, int);

    if (next == NULL) {
        next = (rd_kafka_resp_err_t(*)(rd_kafka_t *, int, rd_kafka_topic_t *,
                                       const struct rd_kafka_metadata **,
                                       int))(uintptr_t)dlsym(RTLD_NEXT, "rd_kafka_metadata");
    }
    rd_kafka_resp_err_t err = next(rk, all, only, out, timeout_ms);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR && metadata_errors != 0) {
        metadata_errors -= 1;
        for (int i = 0; i < (*out)->topic_cnt; i++) {
            (*out)->topics[i].err = metadata_err;
        }
    }
    return err;
}

static void policy_is(const char *policy, int errors, rd_kafka_resp_err_t err)
{
    configs_say(
        &(struct configs){.name = "cleanup.policy", .value = policy, .errors = errors, .err = err});
}

static void topic_is(int errors, rd_kafka_resp_err_t err)
{
    policy_is("compact", 0, RD_KAFKA_RESP_ERR_NO_ERROR);
    metadata_errors = errors;
    metadata_err = err;
}

/* ---- reading ---- */

static rd_kafka_t *holder; /* the mock cluster needs an instance to live in */
static rd_kafka_mock_cluster_t *cluster;
static struct mr_kafka_conf conf;
static struct mr_error why;

static int began;
static bool compacted;
static char doubt[2048];

static void on_began(void *arg, const struct mr_kafka_began *topic)
{
    (void)arg;
    began += 1;
    mr_assert(strcmp(topic->topic, "readings") == 0 && topic->partitions == PARTITIONS &&
              topic->cut == 0);
    compacted = topic->compacted;
    snprintf(doubt, sizeof(doubt), "%s", topic->doubt == NULL ? "" : topic->doubt);
}

static bool wants(void *arg, const char *topic)
{
    (void)arg;
    return strcmp(topic, "readings") == 0;
}

static void took(void *arg, const struct mr_kafka_read *read)
{
    (void)arg;
    (void)read;
    mr_assert(false); /* there are none */
}

static enum mr_err read_back(bool named)
{
    const struct mr_kafka_reading reading = {
        .topic = named ? "readings" : NULL, .wants = wants, .began = on_began, .took = took};

    began = 0;
    compacted = false;
    doubt[0] = '\0';
    why.text[0] = '\0';
    return mr_kafka_read_back(&conf, &reading, &why);
}

static void start(void)
{
    rd_kafka_conf_t *quiet = rd_kafka_conf_new();
    char text[256];

    mr_assert(rd_kafka_conf_set(quiet, "log_level", "0", text, sizeof(text)) == RD_KAFKA_CONF_OK);
    holder = rd_kafka_new(RD_KAFKA_PRODUCER, quiet, text, sizeof(text));
    mr_assert(holder != NULL);
    cluster = rd_kafka_mock_cluster_new(holder, 1);
    mr_assert(rd_kafka_mock_topic_create(cluster, "readings", PARTITIONS, 1) == 0);
    mr_assert(rd_kafka_mock_topic_create(cluster, "others", PARTITIONS, 1) == 0);
    conf = (struct mr_kafka_conf){.servers = rd_kafka_mock_cluster_bootstraps(cluster),
                                  .topic = "readings",
                                  .client_id = "test"};
}

static void stop(void)
{
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(holder);
}

/* ---- is it compacted? ---- */

static void test_an_error_is_asked_again(bool named)
{
    policy_is("compact", 3, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    mr_assert(read_back(named) == MR_OK && began == 1 && configs_asked == 4);
    mr_assert(compacted && doubt[0] == '\0');
    policy_is("compact,delete", 1, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
    mr_assert(read_back(named) == MR_OK && began == 1 && configs_asked == 2);
    mr_assert(compacted && doubt[0] == '\0');
    policy_is("delete", 1, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    mr_assert(read_back(named) == MR_OK && began == 1 && configs_asked == 2);
    mr_assert(!compacted && doubt[0] == '\0');
}

static void test_a_refusal_is_told_with_the_permission(bool named)
{
    policy_is("compact", FOR_EVER, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    mr_assert(read_back(named) == MR_OK && began == 1 && configs_asked == 1);
    mr_assert(!compacted);
    mr_assert(strstr(doubt, "'User:ANONYMOUS' may not ask for its configuration; allow it: ") !=
              NULL);
    mr_assert(strstr(doubt, "--operation DescribeConfigs --topic readings") != NULL);
}

/* An answer without it is none, either. */
static void test_what_is_not_said_is_not_known(void)
{
    configs_say(&(struct configs){.name = "retention.ms", .value = "1"});
    mr_assert(read_back(true) == MR_OK && began == 1 && configs_asked == 1);
    mr_assert(!compacted && strstr(doubt, "asked for its configuration Kafka says: ") != NULL);
}

/* ---- is it there? ---- */

static void test_a_topic_is_looked_for_again(void)
{
    static const rd_kafka_resp_err_t passing[] = {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
                                                  RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE};

    for (size_t i = 0; i < 2 * MR_COUNT_OF(passing); i++) {
        topic_is(3, passing[i / 2]);
        mr_assert(read_back(i % 2 != 0) == MR_OK && began == 1 && compacted);
        mr_assert(metadata_errors == 0);
    }
}

/* It is believed when Kafka has said so for a while. */
static void test_a_topic_that_is_not_there_does_not_begin(void)
{
    topic_is(FOR_EVER, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    mr_assert(read_back(true) == MR_OK && began == 0);
    mr_assert(metadata_errors < FOR_EVER - 1);
}

static void test_a_topic_that_may_not_be_seen_is_an_error(void)
{
    topic_is(FOR_EVER, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    mr_assert(read_back(true) == MR_ERR_CONFIG && began == 0);
    mr_assert(metadata_errors == FOR_EVER - 1);
    mr_assert(strstr(why.text, "may not read it, or it is not there; allow it: ") != NULL);
    mr_assert(strstr(why.text, "--operation Read --topic readings") != NULL);
}

int main(void)
{
    start();
    for (int named = 0; named < 2; named++) {
        test_an_error_is_asked_again(named != 0);
        test_a_refusal_is_told_with_the_permission(named != 0);
    }
    test_what_is_not_said_is_not_known();
    test_a_topic_is_looked_for_again();
    test_a_topic_that_is_not_there_does_not_begin();
    test_a_topic_that_may_not_be_seen_is_an_error();
    stop();
    return 0;
}
