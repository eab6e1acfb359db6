/* watch.c - is Kafka there, and does it take anything?  What the port, hence the operator, is told.
 *
 * DESIGN
 *
 * With records on their way their reports say that Kafka is there.  Without any, the cluster is
 * asked for its metadata every two seconds until it answers.
 *
 * Stalled.  A broker that is connected may yet confirm nothing: too few replicas in sync, a disk
 * that is full, a connection that is open on one side only.  librdkafka tries again for ever and
 * says nothing of it, so that an operator would only see the lag grow.  After half of what
 * librdkafka waits for an answer (socket.timeout.ms, a minute) the port is told, and stays down
 * until a record is confirmed: an answer about metadata, or a
 * transaction of nothing but the position, are no sign that events go through again.
 *
 * Refused.  A topic that is missing or forbidden keeps the port down until it can be had, or until
 * the cursor has passed what waited for it: the operator had it passed over (bridge seek).
 *
 * Thread: the bridge's worker.
 */
#include "sink/kafka/kafka_internal.h"

#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    AWAY_GRACE_MS = 1000, /* a broker that restarts or closes an idle connection is not away */
    PROBE_EVERY_MS = 2000,
    PROBE_WAIT_MS = 300,
    CAUSE_PATIENCE_MS = 3000,
    ANSWER_WAIT_MS = 60000, /* librdkafka's own default */
};

/* How long nothing need be confirmed: a transaction is quiet as long as it is meant to be open. */
static int64_t watch_patience_ns(const struct kafka *k)
{
    char text[32] = "";
    size_t size = sizeof(text);
    uint64_t wait_ms = ANSWER_WAIT_MS;

    if (rd_kafka_conf_get(rd_kafka_conf(k->rk), "socket.timeout.ms", text, &size) !=
            RD_KAFKA_CONF_OK ||
        mr_parse_u64(mr_span_of(text), UINT32_MAX, &wait_ms) != MR_OK) {
        wait_ms = ANSWER_WAIT_MS;
    }
    return (int64_t)wait_ms / 2 * NS_PER_MS +
           (k->tx.state == TX_OFF ? 0 : (int64_t)k->conf->commit_interval_us * 1000);
}

void mr_kafka_watch_begin(struct kafka *k)
{
    k->away_since_ns = 0;
    k->answered = false;
    k->progress_ns = k->opened_ns;
    k->stall_ns = watch_patience_ns(k);
    k->probe_at_ns = k->opened_ns + AWAY_GRACE_MS * NS_PER_MS;
}

/* ---- down ---- */

void mr_kafka_away(struct kafka *k)
{
    char text[TEXT_MAX];

    k->answered = false;
    if (k->broker_error[0] == '\0') {
        if (mr_clock_mono_ns() - k->opened_ns < CAUSE_PATIENCE_MS * NS_PER_MS) {
            return; /* librdkafka will say more than that nobody answers */
        }
        snprintf(text, sizeof(text),
                 "no broker of %s answers (TLS or SASL on one side only looks like this too; see "
                 "`ssl` and `authentication`)",
                 k->conf->servers);
        mr_sink_down(k->port, text);
    } else if (k->broker_refuses) {
        mr_sink_refused(k->port, k->broker_error);
        mr_kafka_certificate_look(k);
    } else {
        mr_sink_down(k->port, k->broker_error);
    }
}

static void watch_stalled(struct kafka *k)
{
    char text[2 * TEXT_MAX];

    snprintf(text, sizeof(text),
             "Kafka is connected, and has confirmed no event for %" PRId64
             " s: too few replicas in sync "
             "(min.insync.replicas), a broker's disk full or slow, or a connection that leads "
             "nowhere; look: kafka-topics.sh --bootstrap-server %s --describe "
             "--under-min-isr-partitions",
             k->stall_ns / NS_PER_S, k->conf->servers);
    k->stalled = true;
    k->answered = false;
    mr_sink_refused(k->port, text);
}

/* ---- refused ---- */

void mr_kafka_topic_missing(struct kafka *k, struct topic *topic)
{
    k->refused_seq = k->offered_seq;
    if (topic->missing_since_ns == 0) {
        topic->missing_since_ns = mr_clock_mono_ns();
    }
}

/* Is everything settled that had been offered when a topic was refused?  Then none of it waits for
 * that topic any more.
 */
static void watch_passed(struct kafka *k, int64_t now_ns)
{
    struct mr_reach reach;

    if (k->refused_seq == 0) {
        return;
    }
    mr_sink_reach(k->port, &reach);
    if (reach.cursor < k->refused_seq) {
        return;
    }
    k->refused_seq = 0;
    k->denied = NULL;
    for (struct topic *topic = k->topics; topic != NULL; topic = topic->next) {
        topic->missing_since_ns = 0;
    }
    k->probe_at_ns = now_ns;
}

/* ---- up ---- */

/* Only an answer is missing: no topic or permission, and Kafka takes what it is given. */
static bool watch_usable(const struct kafka *k)
{
    return k->denied == NULL && !k->may_write_nothing && !k->stalled;
}

/* What was said of connections before is no cause of what comes. */
static void watch_up(struct kafka *k)
{
    k->answered = true;
    k->broker_error[0] = '\0';
    mr_sink_up(k->port);
}

void mr_kafka_answered(struct kafka *k)
{
    if (watch_usable(k)) {
        watch_up(k);
    }
}

static void watch_heard(struct kafka *k, int64_t now_ns)
{
    k->heard = false;
    k->progress_ns = now_ns;
    if (k->tx.state == TX_OFF) { /* else a commit with records says so */
        k->stalled = false;
    }
    if (k->away_since_ns != 0) { /* which of the two was later?  The cluster is asked */
        (void)mr_kafka_probe(k, NULL, PROBE_WAIT_MS);
    }
    if (k->denied == NULL && !k->stalled && k->away_since_ns == 0) {
        watch_up(k);
    }
}

static void watch_probe(struct kafka *k, int64_t now_ns)
{
    k->probe_at_ns = now_ns + PROBE_EVERY_MS * NS_PER_MS;
    /* A topic that is missing or forbidden keeps us down until it is usable. */
    bool usable = watch_usable(k) && !k->tx.blocked;
    for (struct topic *t = k->topics; t != NULL; t = t->next) {
        usable = usable && t->missing_since_ns == 0;
    }
    if (usable && mr_kafka_probe(k, NULL, PROBE_WAIT_MS)) {
        mr_kafka_answered(k);
    }
}

void mr_kafka_watch(struct kafka *k, int64_t now_ns)
{
    watch_passed(k, now_ns);
    if (k->heard) {
        watch_heard(k, now_ns);
    }
    if (k->inflight == 0) {
        k->progress_ns = now_ns;
    }
    bool away = k->away_since_ns != 0 && now_ns - k->away_since_ns > AWAY_GRACE_MS * NS_PER_MS;
    if (away && k->inflight != 0) {
        mr_kafka_away(k);
    } else if (!k->stalled && now_ns - k->progress_ns > k->stall_ns) {
        watch_stalled(k);
    }
    if ((away || !k->answered) && k->inflight == 0 && now_ns >= k->probe_at_ns) {
        watch_probe(k, now_ns);
    }
}
