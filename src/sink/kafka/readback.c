/* readback.c - see readback.h.
 *
 * The end of a partition is the high watermark of the moment in which all that could be read
 * had been.  At read_committed a transaction that is open there hides what is behind it; it is
 * waited for, and ends within its own timeout.  (Asked for its ends, Kafka names the one in front
 * of such a transaction; the watermark comes with what is fetched.)
 *
 * An error is no answer.  Brokers learn of a topic one after the other, so one that was made just
 * now may be unknown to the broker that is asked, for its partitions or its configuration: it is
 * asked again.  What could not be found out in time is said to be so.
 */
#include "sink/kafka/readback.h"

#include "os/clock.h"
#include "sink/kafka/kafka_internal.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    ASK_MS = 15000, /* metadata, watermarks, configuration */
    TRY_MS = 5000,  /* one question for a configuration */
    AGAIN_MS = 100,
    UNKNOWN_MS = 2000, /* until all brokers know a topic */
    POLL_MS = 200,     /* for a message */
    SILENT_S = 60,     /* without any progress: given up */
    TOPICS_READ_MAX = 1000,
};

struct part {
    int64_t end; /* to be reached; -1: not known yet */
    bool done;
};

struct source {
    rd_kafka_topic_t *rkt;
    uint32_t first; /* place of its partition 0 */
    int32_t partitions;
};

struct readback {
    struct kafka as; /* tokens belong to one */
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    struct source sources[TOPICS_READ_MAX];
    uint32_t source_count;
    struct part *parts; /* by place */
    uint32_t part_count;
    uint32_t left; /* not at their end */
    bool gave_up;  /* asking for configurations: there was no answer in time */
};

static enum mr_err fail(struct mr_error *why, enum mr_err err, const char *doing, const char *topic,
                        rd_kafka_resp_err_t cause)
{
    return mr_error_set(why, err, "%s%s%s: %s", doing, topic == NULL ? "" : " ",
                        topic == NULL ? "" : topic, rd_kafka_err2str(cause));
}

/* ---- life cycle ---- */

/* What goes wrong is said by who asks. */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    (void)facility;
    (void)text;
}

static enum mr_err open_reader(struct readback *r, const struct mr_kafka_conf *conf,
                               struct mr_error *why)
{
    char text[TEXT_MAX];
    rd_kafka_conf_t *rk_conf = mr_kafka_conf_make_reader(conf, why);

    if (rk_conf == NULL) {
        return MR_ERR_CONFIG;
    }
    r->as.conf = conf;
    rd_kafka_conf_set_opaque(rk_conf, &r->as); /* for tokens */
    rd_kafka_conf_set_log_cb(rk_conf, on_log);
    (void)rd_kafka_conf_set(rk_conf, "queued.max.messages.kbytes", "16384", text, sizeof(text));
    mr_kafka_token_attach(rk_conf, &r->as);
    r->rk = rd_kafka_new(RD_KAFKA_CONSUMER, rk_conf, text, sizeof(text));
    if (r->rk == NULL) {
        rd_kafka_conf_destroy(rk_conf);
        mr_kafka_token_free(&r->as);
        return mr_error_set(why, MR_ERR_CONFIG, "librdkafka: %s", text);
    }
    mr_kafka_token_begin(&r->as, r->rk);
    r->queue = rd_kafka_queue_new(r->rk);
    return MR_OK;
}

static void close_reader(struct readback *r)
{
    for (uint32_t i = 0; i < r->source_count; i++) {
        for (int32_t partition = 0; partition < r->sources[i].partitions; partition++) {
            (void)rd_kafka_consume_stop(r->sources[i].rkt, partition);
        }
        rd_kafka_topic_destroy(r->sources[i].rkt);
    }
    rd_kafka_queue_destroy(r->queue);
    mr_kafka_token_end(&r->as);
    rd_kafka_destroy(r->rk);
    mr_kafka_token_free(&r->as);
    mr_free(r->parts);
}

/* ---- beginning ---- */

static enum mr_err begin_part(struct readback *r, const struct source *source, int32_t partition,
                              uint32_t *cut, struct mr_error *why)
{
    const char *topic = rd_kafka_topic_name(source->rkt);
    struct part *part = &r->parts[source->first + (uint32_t)partition];
    int64_t low = 0;
    int64_t high = 0;

    rd_kafka_resp_err_t err =
        rd_kafka_query_watermark_offsets(r->rk, topic, partition, &low, &high, ASK_MS);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return fail(why, MR_ERR_AGAIN, "the ends cannot be asked for of topic", topic, err);
    }
    *cut += low > 0;
    part->end = -1;
    part->done = false;
    r->left += 1;
    if (rd_kafka_consume_start_queue(source->rkt, partition, low, r->queue) != 0) {
        return fail(why, MR_ERR_CONFIG, "cannot read topic", topic, rd_kafka_last_error());
    }
    return MR_OK;
}

/* One question.  NO_ERROR: *compacted is known. */
static rd_kafka_resp_err_t policy_ask(struct readback *r, const char *topic, int timeout_ms,
                                      bool *compacted)
{
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(r->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(r->rk);
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
    char text[TEXT_MAX];

    (void)rd_kafka_AdminOptions_set_request_timeout(options, TRY_MS, text, sizeof(text));
    rd_kafka_DescribeConfigs(r->rk, &resource, 1, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, timeout_ms);
    if (event != NULL) {
        const char *policy = mr_kafka_config_of(event, "cleanup.policy", &err);
        *compacted = policy != NULL && strstr(policy, "compact") != NULL;
        if (policy == NULL && err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            err = RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE;
        }
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy(resource);
    return err;
}

static void denied(const struct readback *r, const char *what, const char *operation,
                   const char *topic, struct mr_text *out)
{
    char principal[TEXT_MAX];

    mr_kafka_principal(r->as.conf, principal, sizeof(principal));
    mr_text_fmt(out, "'%s' may not %s; allow it: ", principal, what);
    mr_kafka_put_grant(r->as.conf, out, operation, topic);
}

static enum mr_err fail_denied(const struct readback *r, const char *topic, struct mr_error *why)
{
    char text[4 * TEXT_MAX];
    struct mr_text sentence = mr_text_over(text, sizeof(text));

    denied(r, "read it, or it is not there", "Read", topic, &sentence);
    return mr_error_set(why, MR_ERR_CONFIG, "topic %s: %s", topic, text);
}

/* Does Kafka take out what newer records of the same key replace?  False: `doubt` says why that
 * is not known.
 */
static bool policy_find(struct readback *r, const char *topic, bool *compacted,
                        struct mr_text *doubt)
{
    int64_t until_ns = mr_clock_mono_ns() + ASK_MS * NS_PER_MS;
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
    int64_t left_ms = r->gave_up ? 0 : ASK_MS;

    while (left_ms > 0) {
        err = policy_ask(r, topic, (int)left_ms, compacted);
        if (mr_kafka_is_final(err)) {
            break;
        }
        rd_kafka_poll(r->rk, AGAIN_MS);
        left_ms = (until_ns - mr_clock_mono_ns()) / NS_PER_MS;
    }
    r->gave_up = left_ms <= 0;
    if (err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) {
        denied(r, "ask for its configuration", "DescribeConfigs", topic, doubt);
    } else if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        mr_text_fmt(doubt, "asked for its configuration Kafka says: %s", rd_kafka_err2str(err));
    }
    return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void tell_began(struct readback *r, const struct source *source, uint32_t cut,
                       const struct mr_kafka_reading *reading)
{
    char text[4 * TEXT_MAX];
    struct mr_text doubt = mr_text_over(text, sizeof(text));
    struct mr_kafka_began began = {.topic = rd_kafka_topic_name(source->rkt),
                                   .partitions = (uint32_t)source->partitions,
                                   .cut = cut};

    if (!policy_find(r, began.topic, &began.compacted, &doubt)) {
        began.doubt = text;
    }
    reading->began(reading->arg, &began);
}

/* A place for what is read of the topic; NULL: there are too many. */
static struct source *source_add(struct readback *r, const char *topic, struct mr_error *why)
{
    if (r->source_count == TOPICS_READ_MAX) {
        (void)mr_error_set(why, MR_ERR_CONFIG, "more than %d topics match", TOPICS_READ_MAX);
        return NULL;
    }
    struct source *source = &r->sources[r->source_count++];
    *source = (struct source){.rkt = NULL, .first = r->part_count};
    rd_kafka_topic_conf_t *conf = rd_kafka_topic_conf_new();
    rd_kafka_topic_conf_set_opaque(conf, source);
    source->rkt = rd_kafka_topic_new(r->rk, topic, conf);
    mr_assert(source->rkt != NULL); /* Kafka has named it, or it was checked */
    return source;
}

static enum mr_err begin_topic(struct readback *r, struct source *source,
                               const struct rd_kafka_metadata_topic *topic,
                               const struct mr_kafka_reading *reading, struct mr_error *why)
{
    uint32_t cut = 0;
    enum mr_err err = MR_OK;

    source->partitions = topic->partition_cnt;
    r->part_count += (uint32_t)topic->partition_cnt;
    r->parts = mr_realloc(r->parts, r->part_count * sizeof(*r->parts));
    for (int32_t i = 0; i < topic->partition_cnt; i++) {
        r->parts[source->first + (uint32_t)i] = (struct part){.done = true};
    }
    for (int32_t i = 0; i < topic->partition_cnt && err == MR_OK; i++) {
        err = begin_part(r, source, i, &cut, why);
    }
    if (err == MR_OK && reading->began != NULL) {
        tell_began(r, source, cut, reading);
    }
    return err;
}

static const char cannot_ask[] = "Kafka cannot be asked for its topics";

/* Kafka said this of a topic, or of its topics, first asked at `begun_ns`: is it asked again? */
static bool is_asked_again(rd_kafka_resp_err_t said, int64_t begun_ns)
{
    int64_t patience_ms = said == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ? UNKNOWN_MS : ASK_MS;

    return !mr_kafka_is_final(said) && mr_clock_mono_ns() - begun_ns <= patience_ms * NS_PER_MS;
}

static enum mr_err topic_judge(const struct readback *r, const char *topic, rd_kafka_resp_err_t err,
                               struct mr_error *why)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return MR_OK; /* it is not there */
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        return fail_denied(r, topic, why);
    default:
        return fail(why, MR_ERR_AGAIN, "cannot look at topic", topic, err);
    }
}

/* The first error of those that are wanted for which Kafka is asked again. */
static rd_kafka_resp_err_t wanted_error(const struct rd_kafka_metadata *metadata,
                                        const struct mr_kafka_reading *reading)
{
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];
        if (!mr_kafka_is_final(topic->err) && reading->wants(reading->arg, topic->topic)) {
            return topic->err;
        }
    }
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static enum mr_err begin_all(struct readback *r, const struct rd_kafka_metadata *metadata,
                             const struct mr_kafka_reading *reading, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    for (int i = 0; i < metadata->topic_cnt && err == MR_OK; i++) {
        const struct rd_kafka_metadata_topic *topic = &metadata->topics[i];
        if (!reading->wants(reading->arg, topic->topic)) {
            continue;
        }
        if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            err = topic_judge(r, topic->topic, topic->err, why);
        } else {
            struct source *source = source_add(r, topic->topic, why);
            err = source == NULL ? MR_ERR_CONFIG : begin_topic(r, source, topic, reading, why);
        }
    }
    return err;
}

/* Of all topics, those that are wanted.  Kafka leaves out what we may not see. */
static enum mr_err begin_wanted(struct readback *r, const struct mr_kafka_reading *reading,
                                struct mr_error *why)
{
    const struct rd_kafka_metadata *metadata = NULL;
    int64_t begun_ns = mr_clock_mono_ns();

    for (;;) {
        rd_kafka_resp_err_t asked = rd_kafka_metadata(r->rk, 1, NULL, &metadata, ASK_MS);
        if (asked != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return fail(why, MR_ERR_AGAIN, cannot_ask, NULL, asked);
        }
        bool again = is_asked_again(wanted_error(metadata, reading), begun_ns);
        enum mr_err err = again ? MR_OK : begin_all(r, metadata, reading, why);
        rd_kafka_metadata_destroy(metadata);
        if (!again) {
            return err;
        }
        rd_kafka_poll(r->rk, AGAIN_MS);
    }
}

/* What Kafka says of the topic; *out is NULL where it does not answer. */
static rd_kafka_resp_err_t named_ask(struct readback *r, const struct source *source,
                                     const struct rd_kafka_metadata **out)
{
    rd_kafka_resp_err_t err = rd_kafka_metadata(r->rk, 0, source->rkt, out, ASK_MS);

    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        *out = NULL;
        return err;
    }
    return (*out)->topic_cnt == 1 ? (*out)->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN;
}

static enum mr_err begin_named(struct readback *r, const struct mr_kafka_reading *reading,
                               struct mr_error *why)
{
    const struct rd_kafka_metadata *metadata = NULL;
    struct source *source = source_add(r, reading->topic, why);
    int64_t begun_ns = mr_clock_mono_ns();

    for (;;) {
        rd_kafka_resp_err_t said = named_ask(r, source, &metadata);
        bool again = is_asked_again(said, begun_ns);
        enum mr_err err = MR_OK;
        if (metadata == NULL) {
            err = fail(why, MR_ERR_AGAIN, cannot_ask, NULL, said);
        } else {
            err = said == RD_KAFKA_RESP_ERR_NO_ERROR
                      ? begin_topic(r, source, &metadata->topics[0], reading, why)
                      : topic_judge(r, reading->topic, said, why);
            rd_kafka_metadata_destroy(metadata);
        }
        if (!again) {
            return err;
        }
        rd_kafka_poll(r->rk, AGAIN_MS);
    }
}

/* ---- reading ---- */

static void take(const rd_kafka_message_t *message, const struct mr_kafka_reading *reading)
{
    const struct source *source = rd_kafka_topic_opaque(message->rkt);
    struct mr_kafka_read read = {
        .topic = rd_kafka_topic_name(message->rkt),
        .place = source->first + (uint32_t)message->partition,
        .key = mr_span_make(message->key, message->key_len),
        .value = mr_span_make(message->payload, message->len),
        .time_ms = rd_kafka_message_timestamp(message, NULL),
    };
    rd_kafka_headers_t *headers = NULL;
    const void *id = NULL;
    size_t len = 0;

    if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (rd_kafka_header_get_last(headers, "millrace_id", &id, &len) ==
            RD_KAFKA_RESP_ERR_NO_ERROR) {
            read.id = mr_span_make(id, len);
        }
        read.backfill = rd_kafka_header_get_last(headers, "millrace_backfill", &id, &len) ==
                        RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    reading->took(reading->arg, &read);
}

/* Everything before `offset` was given, and at an end nothing more can be read now. */
static void reached(struct readback *r, const rd_kafka_message_t *message, bool end, int64_t offset)
{
    const struct source *source = rd_kafka_topic_opaque(message->rkt);
    struct part *part = &r->parts[source->first + (uint32_t)message->partition];
    int64_t low = -1;
    int64_t high = -1;

    if (end && part->end < 0 &&
        rd_kafka_get_watermark_offsets(r->rk, rd_kafka_topic_name(message->rkt), message->partition,
                                       &low, &high) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        part->end = high;
    }
    if (!part->done && part->end >= 0 && offset >= part->end) {
        part->done = true;
        r->left -= 1;
    }
}

/* True: it is no reason to end. */
static bool passes(rd_kafka_resp_err_t err)
{
    return err != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED &&
           err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART &&
           err != RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC && err != RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
}

static enum mr_err read_judge(const struct readback *r, const rd_kafka_message_t *message,
                              struct mr_error *why)
{
    const char *topic = message->rkt == NULL ? NULL : rd_kafka_topic_name(message->rkt);

    return message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED && topic != NULL
               ? fail_denied(r, topic, why)
               : fail(why, MR_ERR_CONFIG, "cannot be read to the end", topic, message->err);
}

static enum mr_err read_all(struct readback *r, const struct mr_kafka_reading *reading,
                            struct mr_error *why)
{
    int64_t silent_ns = mr_clock_mono_ns();

    while (r->left != 0) {
        rd_kafka_poll(r->rk, 0);
        rd_kafka_message_t *message = rd_kafka_consume_queue(r->queue, POLL_MS);
        if (message == NULL) {
            if (mr_clock_mono_ns() - silent_ns > SILENT_S * NS_PER_S) {
                return mr_error_set(why, MR_ERR_AGAIN,
                                    "nothing has come for %d s, and %" PRIu32
                                    " partitions are not read to their end: Kafka is away, or a "
                                    "producer's transaction is open there",
                                    SILENT_S, r->left);
            }
            continue;
        }
        rd_kafka_resp_err_t err = message->err;
        if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            take(message, reading);
            reached(r, message, false, message->offset + 1);
            silent_ns = mr_clock_mono_ns();
        } else if (err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            reached(r, message, true, message->offset);
        }
        enum mr_err judged = passes(err) ? MR_OK : read_judge(r, message, why);
        rd_kafka_message_destroy(message);
        if (judged != MR_OK) {
            return judged;
        }
    }
    return MR_OK;
}

enum mr_err mr_kafka_read_back(const struct mr_kafka_conf *conf,
                               const struct mr_kafka_reading *reading, struct mr_error *why)
{
    struct readback *r = mr_alloc(sizeof(*r));
    enum mr_err err = open_reader(r, conf, why);

    if (err == MR_OK) {
        err = reading->topic == NULL ? begin_wanted(r, reading, why) : begin_named(r, reading, why);
        if (err == MR_OK) {
            err = read_all(r, reading, why);
        }
        close_reader(r);
    }
    mr_free(r);
    return err;
}
