/* report.c - what librdkafka tells us: delivery reports, errors, log lines.
 *
 * DESIGN
 *
 * A report's opaque is the token of its batch.  Reports of one batch mostly follow
 * each other, so they are counted and told to the pipeline as one verdict.
 *
 * The first failure ends this producer's life: everything it holds is given back
 * (purged) and a new one is made.  Why not go on with it?  After a failed batch an
 * idempotent producer either renumbers (and what was queued behind the failure
 * would be delivered in front of its repetition) or, with the gapless guarantee,
 * which we set, declares itself broken.  With several requests on the way the
 * broker helps: a later batch of the same partition carries a sequence number
 * behind the gap and is refused.  So nothing overtakes what failed, and first
 * deliveries stay in order.
 *
 * Repetitions by a new producer have a new producer id; the broker cannot know
 * them.  That is the "at least once" of this sink.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    THROTTLE_MS = 100, /* less than that nobody notices */
    THROTTLE_SAY_US = 600 * 1000000,
};

/* Tell the pipeline what was counted. */
void mr_kafka_flush_told(struct kafka *k)
{
    if (k->told_count != 0) {
        uint32_t count = k->told_count;
        k->told_count = 0;
        mr_sink_settle(k->port, k->told_token, count, MR_VERDICT_DONE, NULL);
    }
}

void mr_kafka_fail(struct kafka *k)
{
    k->failing = true;
}

void mr_kafka_refused(struct kafka *k, rd_kafka_resp_err_t err, struct topic *topic,
                      const char *name)
{
    char text[TEXT_MAX];

    mr_kafka_refusal(k, err, topic, name, text, sizeof(text));
    if (err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED) {
        k->may_write_nothing = true;
    } else if (topic != NULL) {
        topic->partitions = 0; /* look again before the next record */
        k->denied = topic;
        k->refused_seq = k->offered_seq;
    }
    mr_sink_refused(k->port, text);
    k->answered = false;
}

/* Refused for the time of its receipt: the clock is wrong, here or there, and not the record. */
static bool is_clock(struct kafka *k, rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP && mr_sink_times_are_ours(k->port);
}

/* Refused for what a record is, not for the state of the cluster? */
static bool is_poison(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
        return true;
    default:
        return false;
    }
}

/* Not a cause: what follows from an earlier failure, or from our giving up. */
bool mr_kafka_is_consequence(rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ||
           err == RD_KAFKA_RESP_ERR__FATAL || err == RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE ||
           err == RD_KAFKA_RESP_ERR__STATE; /* of a transaction that has failed */
}

/* The broker may have refused the batch, not a record: smaller batches from now on. */
static void shrink_batches(struct kafka *k, rd_kafka_resp_err_t err)
{
    if ((err != RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE &&
         err != RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE) ||
        k->shrunk || k->inflight == 0 || k->batch_bytes <= BATCH_BYTES_MIN) {
        return;
    }
    k->shrunk = true;
    k->batch_bytes /= 2;
    mr_log(MR_LOG_INFO, "kafka",
           "%s: a broker finds a batch too large (max.message.bytes of the topic?); batches are at "
           "most %" PRIu32 " bytes from now on",
           mr_sink_bridge_name(k->port), k->batch_bytes);
}

static bool is_of(const rd_kafka_message_t *message, const struct topic *topic)
{
    return topic->rkt != NULL &&
           strcmp(rd_kafka_topic_name(topic->rkt), rd_kafka_topic_name(message->rkt)) == 0;
}

static void report_failure(struct kafka *k, const rd_kafka_message_t *message)
{
    bool clock = is_clock(k, message->err);
    enum mr_verdict verdict =
        is_poison(message->err) && !clock ? MR_VERDICT_SUSPECT : MR_VERDICT_RETRY;
    const char *name = rd_kafka_topic_name(message->rkt);
    char text[TEXT_MAX] = "";

    if (!mr_kafka_is_consequence(message->err)) {
        struct topic *t = k->topics;
        while (t != NULL && !is_of(message, t)) {
            t = t->next;
        }
        mr_kafka_refusal(k, message->err, t, name, text, sizeof(text));
        if (mr_kafka_is_refusal(message->err) || clock) {
            mr_kafka_refused(k, message->err, t, name);
        } else {
            shrink_batches(k, message->err);
        }
    }
    mr_kafka_fail(k);
    if (k->tx.state != TX_OFF) {
        if (message->_private == NULL) { /* the position's: it was never counted */
            k->inflight += 1;
            k->tx.blocked = mr_kafka_is_refusal(message->err) || clock;
        }
        mr_tx_note(k, message->_private, verdict, text);
        mr_tx_note_error(k, message->err);
        return;
    }
    mr_sink_settle(k->port, message->_private, 1, verdict, text[0] == '\0' ? NULL : text);
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    struct kafka *k = opaque;

    (void)rk;
    k->inflight -= 1;
    if (MR_UNLIKELY(message->err != RD_KAFKA_RESP_ERR_NO_ERROR)) {
        mr_kafka_flush_told(k);
        report_failure(k, message);
        return;
    }
    if (MR_UNLIKELY(k->denied != NULL) && is_of(message, k->denied)) {
        k->denied = NULL;
    }
    k->may_write_nothing = false;
    mr_kafka_heard(k);
    if (MR_UNLIKELY(message->_private != k->told_token)) {
        mr_kafka_flush_told(k);
        k->told_token = message->_private;
    }
    k->told_count += 1;
}

/* The producer declared itself broken; mostly after a failure whose report tells more. */
static void on_fatal(struct kafka *k, rd_kafka_t *rk)
{
    char text[TEXT_MAX];
    rd_kafka_resp_err_t err = rd_kafka_fatal_error(rk, text, sizeof(text));

    mr_log(MR_LOG_DEBUG, "kafka", "%s: the producer gave up: %s (%s)", mr_sink_bridge_name(k->port),
           text, rd_kafka_err2name(err));
    if (err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED) {
        struct topic *topic = k->topics;
        mr_kafka_refused(k, err, topic, topic != NULL ? topic->name : k->conf->topic);
    }
    mr_tx_note(k, NULL, MR_VERDICT_RETRY, text);
    mr_tx_note_error(k, err);
    mr_kafka_fail(k);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct kafka *k = opaque;
    rd_kafka_resp_err_t err = (rd_kafka_resp_err_t)code;

    switch (err) {
    case RD_KAFKA_RESP_ERR__FATAL:
        on_fatal(k, rk);
        break;
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        if (k->away_since_ns == 0) {
            k->away_since_ns = mr_clock_mono_ns();
        }
        break;
    default:
        mr_kafka_connection_text(k, err, reason, k->broker_error, sizeof(k->broker_error));
        k->broker_refuses =
            err == RD_KAFKA_RESP_ERR__AUTHENTICATION || mr_kafka_is_tls(err, reason);
        if (err == RD_KAFKA_RESP_ERR__AUTHENTICATION) {
            mr_kafka_password_look(k);
        }
        break;
    }
}

/* A quota holds us up: nobody else would say why the lag grows. */
static void on_throttle(rd_kafka_t *rk, const char *broker, int32_t id, int ms, void *opaque)
{
    struct kafka *k = opaque;
    uint64_t held_back;

    (void)rk;
    (void)id;
    if (ms >= THROTTLE_MS && mr_log_allowed(&k->throttle_limit, THROTTLE_SAY_US, &held_back)) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: %s throttles us, now by %d ms: a quota on what producers may send; what does "
               "not go through waits in the journal. Look: kafka-configs.sh --bootstrap-server %s "
               "--describe --entity-type clients --entity-type users",
               mr_sink_bridge_name(k->port), broker, ms, k->conf->servers);
    }
}

/* Called by librdkafka's own threads.  Lost connections, and what was asked over them (2.8 says
 * so too of questions under way while a new token is shown), are told by up and down; what is left
 * is rare and worth a line, but not many.
 */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    static struct mr_log_limit limit;
    uint64_t held_back;
    bool connection = strcmp(facility, "FAIL") == 0 || strcmp(facility, "ERROR") == 0 ||
                      strcmp(facility, "FATAL") == 0 || strcmp(facility, "REQTMOUT") == 0 ||
                      strcmp(facility, "CERTVERIFY") == 0 || strcmp(facility, "METADATA") == 0;
    /* It calls our own choice experimental each time; and a Kafka that has just started
     * gives no producer id for a moment, which is tried again. */
    bool known = strstr(text, "enable.gapless.guarantee") != NULL ||
                 (strcmp(facility, "GETPID") == 0 && strstr(text, "retrying") != NULL);

    if (strcmp(facility, "ADDPARTS") == 0) {
        mr_tx_note_partition(rd_kafka_opaque(rk), text);
    }
    if (level > 4 || connection || known) {
        mr_log(MR_LOG_DEBUG, "kafka", "librdkafka: %s: %s", facility, text);
    } else if (mr_log_allowed(&limit, 60 * (int64_t)1000000, &held_back)) {
        mr_log(MR_LOG_WARN, "kafka", "librdkafka: %s: %s (%" PRIu64 " more lines held back)",
               facility, text, held_back);
    }
}

void mr_kafka_reports_to(rd_kafka_conf_t *rk_conf, struct kafka *k)
{
    rd_kafka_conf_set_opaque(rk_conf, k);
    rd_kafka_conf_set_dr_msg_cb(rk_conf, on_report);
    rd_kafka_conf_set_error_cb(rk_conf, on_error);
    rd_kafka_conf_set_throttle_cb(rk_conf, on_throttle);
    rd_kafka_conf_set_log_cb(rk_conf, on_log);
}
