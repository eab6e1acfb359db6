/* admin.c - topics that are made, looked at for their limits, and seen to grow.
 *
 * DESIGN
 *
 * Requests to the cluster's administration are rare and slow, so there is one at a
 * time, asked with librdkafka's own time limit and picked up by a later tick.  Only
 * the making of a topic holds up its first record; it is waited for a moment, because
 * it mostly takes no longer than that, and it waits for no other: limits are asked for
 * again behind it.
 *
 *   make     CreateTopics before the first question for its metadata, which would make
 *            it with the brokers' defaults.  "There already" is as good; "not allowed"
 *            too, for the topic may be there.  A name that Kafka refuses for what it is
 *            (a.b beside a_b) must not hold the bridge: its records are dead letters.
 *   limits   DescribeConfigs, once per topic: does max.message.bytes hold what devices
 *            may send?  Only a warning: events that fit are delivered, the others are
 *            dead letters with a reason.  Is the topic of positions compacted?  A broker may
 *            not know yet what was made just now: it is asked again, the topic that failed
 *            longest ago first.  While there are errors only, the pauses between all such
 *            questions grow, because a target may never tell.
 *   growth   the metadata of our topics, every topic.metadata.refresh.interval.ms.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ADMIN_TIMEOUT_MS = 5000,
    CREATE_WAIT_MS = 200,
    CREATE_AGAIN_MS = 2000,
    IMPOSSIBLE_AGAIN_MS = 60000, /* what it collides with may have been removed */
    LIMITS_AGAIN_MS = 2000,
    LIMITS_AGAIN_MAX_MS = 300000,
    GROWTH_WAIT_MS = 300,
};

void mr_kafka_admin_begin(struct kafka *k)
{
    char text[32] = "";
    size_t size = sizeof(text);
    uint64_t every_ms = 0;

    k->admin_queue = rd_kafka_queue_new(k->rk);
    k->admin_task = ADMIN_NONE;
    (void)rd_kafka_conf_get(rd_kafka_conf(k->rk), "topic.metadata.refresh.interval.ms", text,
                            &size);
    if (mr_parse_u64(mr_span_of(text), UINT32_MAX, &every_ms) != MR_OK) {
        every_ms = 0; /* -1: never */
    }
    k->growth_every_ns = (int64_t)every_ms * NS_PER_MS;
    k->growth_at_ns = every_ms == 0 ? 0 : mr_clock_mono_ns() + k->growth_every_ns;
}

/* Those of the topic that was asked for last are not known. */
static void limits_lost(struct kafka *k)
{
    k->admin_topic->limits_asked = false;
    k->limits_wanted = true;
}

void mr_kafka_admin_end(struct kafka *k)
{
    if (k->admin_queue != NULL) {
        rd_kafka_queue_destroy(k->admin_queue); /* an answer on its way is dropped */
        k->admin_queue = NULL;
    }
    if (k->admin_task == ADMIN_LIMITS) {
        limits_lost(k);
    }
    k->admin_task = ADMIN_NONE;
}

static rd_kafka_AdminOptions_t *admin_options(struct kafka *k, rd_kafka_admin_op_t op)
{
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(k->rk, op);
    char text[TEXT_MAX];

    (void)rd_kafka_AdminOptions_set_request_timeout(options, ADMIN_TIMEOUT_MS, text, sizeof(text));
    return options;
}

/* ---- making a topic ---- */

static void create_ask(struct kafka *k, struct topic *topic)
{
    bool positions = topic == &k->tx.positions;
    uint64_t partitions = positions ? POSITIONS_PARTITIONS : k->conf->auto_create.partitions;
    uint64_t replicas = k->conf->auto_create.replication_factor;
    char text[TEXT_MAX];

    rd_kafka_NewTopic_t *wanted =
        rd_kafka_NewTopic_new(topic->name, partitions == 0 ? -1 : (int)partitions,
                              replicas == 0 ? -1 : (int)replicas, text, sizeof(text));
    mr_assert(wanted != NULL); /* name and ranges were checked */
    if (positions) {
        (void)rd_kafka_NewTopic_set_config(wanted, "cleanup.policy", "compact");
        /* Only what is not written to any more is compacted, and all of the rest is read when
         * a record is not among the newest: small segments keep that short. */
        (void)rd_kafka_NewTopic_set_config(wanted, "segment.bytes", "8388608");
    }
    for (size_t i = 0; i < k->conf->auto_create.options.count && !positions; i++) {
        const struct mr_pair *pair = &k->conf->auto_create.options.items[i];
        (void)rd_kafka_NewTopic_set_config(wanted, pair->name, pair->value);
    }
    rd_kafka_AdminOptions_t *options = admin_options(k, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_CreateTopics(k->rk, &wanted, 1, options, k->admin_queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(wanted);
    k->admin_task = ADMIN_CREATE;
    k->admin_topic = topic;
}

static void create_judge(struct kafka *k, struct topic *topic, rd_kafka_resp_err_t err,
                         const char *reason)
{
    char text[TEXT_MAX];

    topic->may_not_create = false;
    topic->impossible[0] = '\0';
    topic->create_at_ns = mr_clock_mono_ns() + CREATE_AGAIN_MS * NS_PER_MS;
    switch (err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        mr_log(MR_LOG_INFO, "kafka", "%s: topic '%s' did not exist and was created",
               mr_sink_bridge_name(k->port), topic->name);
        topic->created = true;
        topic->missing_since_ns = 0; /* it takes a moment until all brokers know */
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS:
        topic->created = true;
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        topic->created = true; /* the metadata tells whether it is there all the same */
        topic->may_not_create = true;
        break;
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TRANSPORT:
        mr_kafka_away(k);
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        snprintf(topic->impossible, sizeof(topic->impossible),
                 "Kafka cannot make the topic '%.100s': %.100s", topic->name, reason);
        topic->create_at_ns = mr_clock_mono_ns() + IMPOSSIBLE_AGAIN_MS * NS_PER_MS;
        topic->missing_since_ns = 0;
        break;
    default:
        snprintf(text, sizeof(text), "topic '%s' cannot be created: %s; see auto_create",
                 topic->name, reason);
        mr_sink_refused(k->port, text);
        k->answered = false;
        mr_kafka_topic_missing(k, topic);
        break;
    }
}

static void create_answer(struct kafka *k, rd_kafka_event_t *event)
{
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    rd_kafka_resp_err_t err = rd_kafka_event_error(event);
    const char *reason = rd_kafka_event_error_string(event);
    size_t count = 0;

    if (err == RD_KAFKA_RESP_ERR_NO_ERROR && result != NULL) {
        const rd_kafka_topic_result_t **topics =
            rd_kafka_CreateTopics_result_topics(result, &count);
        if (count == 1) {
            err = rd_kafka_topic_result_error(topics[0]);
            reason = rd_kafka_topic_result_error_string(topics[0]);
        }
    }
    create_judge(k, k->admin_topic, err, reason == NULL ? rd_kafka_err2str(err) : reason);
}

/* ---- limits ---- */

static void limits_ask(struct kafka *k, struct topic *topic)
{
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic->name);
    rd_kafka_AdminOptions_t *options = admin_options(k, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);

    rd_kafka_DescribeConfigs(k->rk, &resource, 1, options, k->admin_queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy(resource);
    topic->limits_asked = true;
    k->admin_task = ADMIN_LIMITS;
    k->admin_topic = topic;
}

static void limits_judge(struct kafka *k, const struct topic *topic, uint64_t topic_bytes)
{
    uint32_t packet_bytes = mr_sink_packet_bytes_max(k->port);
    uint32_t our_bytes = mr_kafka_message_bytes_max(k->conf);

    if (packet_bytes > topic_bytes) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: devices may send %" PRIu32 " bytes (mqtt.max_packet_size), but topic '%s' "
               "takes no record beyond %" PRIu64 " (max.message.bytes): larger events will be dead "
               "letters; lower the one, or raise the other: kafka-configs.sh --bootstrap-server "
               "%s --alter --topic %s --add-config max.message.bytes=%" PRIu64,
               mr_sink_bridge_name(k->port), packet_bytes, topic->name, topic_bytes,
               k->conf->servers, topic->name, (uint64_t)packet_bytes + packet_bytes / 2);
    } else if (packet_bytes > our_bytes) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: devices may send %" PRIu32 " bytes (mqtt.max_packet_size), but this bridge "
               "takes no record beyond %" PRIu32 " (message.max.bytes of kafka_options): larger "
               "events will be dead letters; lower the one, or raise the other",
               mr_sink_bridge_name(k->port), packet_bytes, our_bytes);
    }
}

const char *mr_kafka_config_of(rd_kafka_event_t *event, const char *name, rd_kafka_resp_err_t *err)
{
    const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
    size_t count = 0;

    *err = rd_kafka_event_error(event);
    if (*err != RD_KAFKA_RESP_ERR_NO_ERROR || result == NULL) {
        return NULL;
    }
    const rd_kafka_ConfigResource_t **resources =
        rd_kafka_DescribeConfigs_result_resources(result, &count);
    if (count != 1) {
        return NULL;
    }
    *err = rd_kafka_ConfigResource_error(resources[0]);
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resources[0], &count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0) {
            return rd_kafka_ConfigEntry_value(entries[i]);
        }
    }
    return NULL;
}

/* A topic that forgets by time or size forgets the positions of bridges that rest. */
static void policy_judge(const struct kafka *k, const char *policy)
{
    if (policy != NULL && strstr(policy, "compact") == NULL) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: topic '%s' has cleanup.policy=%s, so that the position of a bridge that rests "
               "is forgotten after a while; correct it: kafka-configs.sh --bootstrap-server %s "
               "--alter --topic %s --add-config cleanup.policy=compact",
               mr_sink_bridge_name(k->port), k->conf->positions_topic, policy, k->conf->servers,
               k->conf->positions_topic);
    }
}

static void limits_pause(struct kafka *k, struct topic *topic)
{
    int64_t pause_ns = 2 * k->limits_pause_ns;

    pause_ns = pause_ns > LIMITS_AGAIN_MS * NS_PER_MS ? pause_ns : LIMITS_AGAIN_MS * NS_PER_MS;
    k->limits_pause_ns =
        pause_ns < LIMITS_AGAIN_MAX_MS * NS_PER_MS ? pause_ns : LIMITS_AGAIN_MAX_MS * NS_PER_MS;
    topic->limits_failed_ns = mr_clock_mono_ns();
    k->limits_at_ns = topic->limits_failed_ns + k->limits_pause_ns;
}

/* Without the permission to ask (DescribeConfigs) nothing is wrong. */
static void limits_answer(struct kafka *k, rd_kafka_event_t *event)
{
    struct topic *topic = k->admin_topic;
    bool positions = topic == &k->tx.positions;
    rd_kafka_resp_err_t err;
    uint64_t bytes = 0;
    const char *value =
        mr_kafka_config_of(event, positions ? "cleanup.policy" : "max.message.bytes", &err);

    if (positions) {
        policy_judge(k, value);
    } else if (value != NULL && mr_parse_u64(mr_span_of(value), UINT32_MAX, &bytes) == MR_OK) {
        limits_judge(k, topic, bytes);
    } else {
        mr_log(MR_LOG_DEBUG, "kafka",
               "%s: topic '%s': max.message.bytes cannot be compared with mqtt.max_packet_size: %s",
               mr_sink_bridge_name(k->port), topic->name, rd_kafka_err2str(err));
    }
    if (mr_kafka_is_final(err)) {
        k->limits_pause_ns = 0;
    } else {
        limits_lost(k);
        limits_pause(k, topic);
    }
}

/* Make way for a topic that is to be made: the answer on its way is dropped. */
static void limits_drop(struct kafka *k)
{
    rd_kafka_queue_destroy(k->admin_queue);
    k->admin_queue = rd_kafka_queue_new(k->rk);
    k->admin_task = ADMIN_NONE;
    limits_lost(k);
}

/* ---- one request at a time ---- */

/* Take the answer that is awaited, within `timeout_ms`.  False: it has not come. */
static bool admin_take(struct kafka *k, int timeout_ms)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(k->admin_queue, timeout_ms);

    if (event == NULL) {
        return false;
    }
    if (k->admin_task == ADMIN_CREATE) {
        create_answer(k, event);
    } else {
        limits_answer(k, event);
    }
    k->admin_task = ADMIN_NONE;
    rd_kafka_event_destroy(event);
    return true;
}

bool mr_kafka_topic_create(struct kafka *k, struct topic *topic)
{
    if (topic->created) {
        return true;
    }
    if (topic->impossible[0] != '\0' && mr_clock_mono_ns() < topic->create_at_ns) {
        return false;
    }
    if (k->admin_task == ADMIN_CREATE && k->admin_topic != topic) {
        return false; /* taken by a tick: a batch counts on what was known of that topic */
    }
    if (k->admin_task == ADMIN_CREATE && !admin_take(k, CREATE_WAIT_MS)) {
        return false;
    }
    if (!topic->created && mr_clock_mono_ns() >= topic->create_at_ns) {
        if (k->admin_task == ADMIN_LIMITS) {
            limits_drop(k);
        }
        create_ask(k, topic);
        (void)admin_take(k, CREATE_WAIT_MS);
    }
    return topic->created;
}

/* ---- growth ---- */

static void growth_judge(struct kafka *k, struct topic *topic, int32_t count)
{
    if (topic->partitions == 0 || count <= topic->grown_to) {
        return;
    }
    topic->grown_to = count;
    if (k->conf->partitions == MR_KAFKA_PARTITIONS_FOLLOW) {
        mr_log(MR_LOG_INFO, "kafka",
               "%s: topic '%s' has grown from %d to %d partitions; using them (partitions: "
               "follow), so that keys move",
               mr_sink_bridge_name(k->port), topic->name, topic->partitions, count);
        topic->partitions = count;
        topic->count_age += 1;
        return;
    }
    mr_log(MR_LOG_WARN, "kafka",
           "%s: topic '%s' has grown from %d to %d partitions; every key stays where it is and the "
           "new ones stay empty (partitions: keep) until the gateway is started again, or set "
           "`partitions: follow`",
           mr_sink_bridge_name(k->port), topic->name, topic->partitions, count);
}

/* The metadata of all topics this producer knows. */
static void growth_look(struct kafka *k)
{
    const struct rd_kafka_metadata *metadata = NULL;

    if (rd_kafka_metadata(k->rk, 0, NULL, &metadata, GROWTH_WAIT_MS) !=
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        return; /* whether Kafka is away is judged elsewhere */
    }
    for (struct topic *topic = k->topics; topic != NULL; topic = topic->next) {
        for (int i = 0; i < metadata->topic_cnt; i++) {
            if (metadata->topics[i].err == RD_KAFKA_RESP_ERR_NO_ERROR &&
                strcmp(metadata->topics[i].topic, topic->name) == 0) {
                growth_judge(k, topic, metadata->topics[i].partition_cnt);
            }
        }
    }
    rd_kafka_metadata_destroy(metadata);
}

static bool limits_lack(const struct topic *topic)
{
    return !topic->limits_asked && topic->partitions != 0;
}

/* Of the topics whose limits are not known the one that failed longest ago, or never. */
static void limits_look(struct kafka *k)
{
    struct topic *next = limits_lack(&k->tx.positions) ? &k->tx.positions : NULL;

    for (struct topic *topic = k->topics; topic != NULL; topic = topic->next) {
        if (limits_lack(topic) &&
            (next == NULL || topic->limits_failed_ns < next->limits_failed_ns)) {
            next = topic;
        }
    }
    k->limits_wanted = next != NULL;
    if (next != NULL) {
        limits_ask(k, next);
    }
}

void mr_kafka_admin_tick(struct kafka *k, int64_t now_ns)
{
    if (k->admin_task != ADMIN_NONE) {
        (void)admin_take(k, 0);
    } else if ((k->limits_wanted || limits_lack(&k->tx.positions)) && k->answered &&
               now_ns >= k->limits_at_ns) {
        limits_look(k);
    }
    if (k->growth_at_ns != 0 && now_ns >= k->growth_at_ns && k->topics != NULL) {
        k->growth_at_ns = now_ns + k->growth_every_ns;
        if (k->answered) {
            growth_look(k);
        }
    }
}
