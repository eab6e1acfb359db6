/* takeover.c - exactly once: a new producer, and what became of the one before.
 *
 *     any failure ─▶ CLOSED ─▶ INIT ─▶ FIND ─▶ FOUND ─▶ (transaction.c)
 *          └─ fenced ─▶ FENCED ─▶ CLOSED, or STOPPED
 *
 * DESIGN
 *
 * Whatever fails, the producer is dropped, and a new one with the same id begins by
 * rd_kafka_init_transactions(): that aborts what was open, finishes what was being
 * committed, and makes Kafka refuse everything that may still be on its way from the old one.
 * Then the position record says which of the two it was.  There is no other way back, hence
 * none that is less well tried; librdkafka's own (abort, go on with the same producer) would
 * leave late requests of the aborted transaction with a valid epoch (KIP-890).
 *
 * Fenced.  Kafka refuses a producer when a newer one has its id, and also when it has given
 * up a transaction that was open for too long (the machine was asleep).  It does not tell
 * the two apart, the position record does: every producer writes one when it begins.  If
 * the last one is by somebody else, a second gateway has our journal id: we stop, because
 * fencing it in turn would go on for ever.  If it is still ours after a while, nobody is there.
 *
 * A position behind the cursor may be an old one: a broker that has not heard yet that partitions
 * were added to the topic names the wrong one as the key's.  So it is looked once more, a little
 * later and by a new consumer, before that is believed.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    INIT_MS = 100,
    AGAIN_MIN_MS = 100,
    AGAIN_MAX_MS = 5000,
    FENCED_WAIT_MS = 5000, /* a newer producer has written its position record by then */
    FENCED_LOOK_MS = 500,
    LOOK_AGAIN_MS = 2000, /* all brokers know of new partitions by then */
    SLOW_S = 10,
};

/* ---- failures ---- */

void mr_tx_note(struct kafka *k, void *token, enum mr_verdict verdict, const char *reason)
{
    struct tx *tx = &k->tx;

    if (reason[0] != '\0' && tx->reason[0] == '\0') {
        snprintf(tx->reason, sizeof(tx->reason), "%s", reason);
    }
    for (uint32_t i = 0; i < tx->held_count && verdict == MR_VERDICT_SUSPECT; i++) {
        tx->held[i].suspect = tx->held[i].suspect || tx->held[i].token == token;
    }
}

static bool is_fence(rd_kafka_resp_err_t err)
{
    return err == RD_KAFKA_RESP_ERR__FENCED || err == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
           err == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

void mr_tx_note_error(struct kafka *k, rd_kafka_resp_err_t err)
{
    k->tx.fenced = k->tx.fenced || is_fence(err);
}

/* Which partition it was is only to be had from the log. */
void mr_tx_note_partition(struct kafka *k, const char *text)
{
    mr_mutex_lock(&k->tx.said_mutex);
    snprintf(k->tx.said, sizeof(k->tx.said), "%s", text);
    mr_mutex_unlock(&k->tx.said_mutex);
}

/* A topic that may not be written to keeps its partitions out of every transaction, and of
 * its records only the abort is reported.
 */
static void tx_explain(struct kafka *k)
{
    char said[TEXT_MAX];
    char *name = said;
    struct topic *topic = k->topics;

    mr_mutex_lock(&k->tx.said_mutex);
    memcpy(said, k->tx.said, sizeof(said));
    k->tx.said[0] = '\0';
    mr_mutex_unlock(&k->tx.said_mutex);
    if (said[0] == '\0') {
        return;
    }
    mr_tx_note(k, NULL, MR_VERDICT_RETRY, said);
    (void)strsep(&name, "\"");
    const char *quoted = strsep(&name, "\"");
    if (quoted == NULL || name == NULL ||
        strstr(name, rd_kafka_err2str(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)) == NULL) {
        return;
    }
    while (topic != NULL && strcmp(topic->name, quoted) != 0) {
        topic = topic->next;
    }
    k->tx.blocked = k->tx.blocked || topic == NULL;
    mr_kafka_refused(k, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, topic, quoted);
}

/* For the operator, until a transaction can be begun again. */
static void tx_blocked(struct kafka *k, const char *why)
{
    k->tx.blocked = true;
    k->answered = false;
    mr_sink_refused(k->port, why);
}

static void say_not_allowed(struct kafka *k)
{
    char principal[TEXT_MAX];
    char text[2 * TEXT_MAX];
    struct mr_text out = mr_text_over(text, sizeof(text));

    mr_kafka_principal(k->conf, principal, sizeof(principal));
    mr_text_fmt(&out,
                "'%s' may not use the transactional id '%s'; allow it: kafka-acls.sh "
                "--bootstrap-server %s --add --allow-principal '%s' --operation Write "
                "--transactional-id millrace- --resource-pattern-type prefixed",
                principal, k->tx.id, k->conf->servers, principal);
    tx_blocked(k, text);
}

/* librdkafka's call did not succeed; takes `error`.  False: call it again later. */
bool mr_tx_failed(struct kafka *k, rd_kafka_error_t *error, const char *doing)
{
    rd_kafka_resp_err_t err = rd_kafka_error_code(error);
    bool again = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error) &&
                 !rd_kafka_error_txn_requires_abort(error);
    char text[TEXT_MAX];

    if (!again) {
        snprintf(text, sizeof(text), "%s: %s", doing, rd_kafka_error_string(error));
        mr_tx_note(k, NULL, MR_VERDICT_RETRY, text);
        mr_tx_note_error(k, err);
        if (rd_kafka_error_is_fatal(error)) {
            mr_tx_note_error(k, rd_kafka_fatal_error(k->rk, text, sizeof(text)));
        }
        if (err == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED) {
            say_not_allowed(k);
        }
        mr_kafka_fail(k);
    }
    rd_kafka_error_destroy(error);
    return !again;
}

/* librdkafka has nothing of them: (3). */
void mr_tx_settle(struct kafka *k, bool done)
{
    struct tx *tx = &k->tx;
    const char *reason = tx->reason[0] == '\0' ? NULL : tx->reason;

    for (uint32_t i = 0; i < tx->held_count; i++) {
        const struct held *held = &tx->held[i];
        enum mr_verdict verdict = held->suspect ? MR_VERDICT_SUSPECT : MR_VERDICT_RETRY;
        if (held->count != 0) {
            mr_sink_settle(k->port, held->token, held->count, done ? MR_VERDICT_DONE : verdict,
                           done ? NULL : reason);
        }
    }
    tx->held_count = 0;
    tx->bytes = 0;
    tx->in_doubt = false;
    tx->reason[0] = '\0';
}

static void tx_again(struct kafka *k, int64_t now_ns)
{
    struct tx *tx = &k->tx;
    int64_t pause_ms = tx->failures == 0 ? 0 : AGAIN_MIN_MS;

    for (uint32_t i = 1; i < tx->failures && pause_ms < AGAIN_MAX_MS; i++) {
        pause_ms *= 2;
    }
    tx->failures += 1;
    tx->state = TX_CLOSED;
    tx->again_at_ns = now_ns + (pause_ms < AGAIN_MAX_MS ? pause_ms : AGAIN_MAX_MS) * NS_PER_MS;
}

/* One that did not get through in a long time was perhaps too large for it. */
static void tx_shrink(struct tx *tx, int64_t now_ns)
{
    uint64_t had = tx->bytes < tx->room ? tx->bytes : tx->room;

    if (now_ns - tx->opened_ns > SLOW_S * NS_PER_S) {
        tx->room = had / 8 < TX_ROOM_MIN ? TX_ROOM_MIN : had / 8;
    }
}

/* This producer is done for: drop it, and give back what it certainly did not deliver. */
void mr_tx_fail_over(struct kafka *k, int64_t now_ns)
{
    struct tx *tx = &k->tx;

    if (tx->state == TX_OPEN || tx->state == TX_COMMIT) {
        mr_metric_add(tx->aborted, 1);
        tx_explain(k);
        tx_shrink(tx, now_ns);
    }
    mr_log(MR_LOG_DEBUG, "kafka", "%s: lane %" PRIu32 ": a new producer%s: %s",
           mr_sink_bridge_name(k->port), mr_sink_lane(k->port),
           tx->in_doubt ? ", which will tell how the last commit went" : "",
           tx->reason[0] == '\0' ? "no reason given" : tx->reason);
    mr_finder_end(k);
    if (k->inflight != 0) { /* else librdkafka warns that something is still in its queue */
        rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_poll(k->rk, 0);
    }
    mr_kafka_producer_drop(k);
    k->failing = false;
    k->inflight = 0;
    if (!tx->in_doubt) {
        mr_tx_settle(k, false);
    }
    if (tx->fenced) {
        tx->state = TX_FENCED;
        tx->fenced_ns = now_ns;
        tx->again_at_ns = now_ns;
    } else {
        tx_again(k, now_ns);
    }
}

/* ---- beginning ---- */

static void tx_reopen(struct kafka *k, int64_t now_ns)
{
    struct mr_error why;

    if (now_ns < k->tx.again_at_ns) {
        mr_sink_tick_at(k->port, k->tx.again_at_ns);
    } else if (mr_kafka_producer_make(k, &why) != MR_OK) {
        tx_blocked(k, why.text);
        tx_again(k, now_ns);
    }
}

/* Why no transaction can be begun, unless that was said: nothing else fails, so nobody would. */
static void say_not_begun(struct kafka *k, rd_kafka_resp_err_t err)
{
    char text[TEXT_MAX];

    if (err == RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT) {
        snprintf(text, sizeof(text),
                 "transaction.timeout.ms in kafka_options is more than the brokers allow "
                 "(transaction.max.timeout.ms, 15 minutes by default); lower the one, or raise the "
                 "other");
        tx_blocked(k, text);
    } else if (!k->tx.fenced && !k->may_write_nothing &&
               err != RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED) {
        tx_blocked(k, k->tx.reason);
    }
}

static void tx_init_step(struct kafka *k, int64_t now_ns)
{
    struct mr_error why;

    rd_kafka_error_t *error = rd_kafka_init_transactions(k->rk, INIT_MS);
    mr_sink_tick_at(k->port, now_ns);
    if (error != NULL) {
        rd_kafka_resp_err_t err = rd_kafka_error_code(error);
        if (mr_tx_failed(k, error, "the transactions could not be initialised")) {
            say_not_begun(k, err);
        }
        return;
    }
    if (mr_finder_begin(k, &why) != MR_OK) {
        tx_blocked(k, why.text);
        mr_kafka_fail(k);
        return;
    }
    k->tx.state = TX_FIND;
}

static void tx_stop_fenced(struct kafka *k, const struct found *found)
{
    char why[2 * TEXT_MAX];

    snprintf(why, sizeof(why),
             "another process delivers under the same transactional id, '%s' (its position record "
             "is by gateway '%s'): a copy of this data folder is in use elsewhere. End one of the "
             "two for good; then restart this gateway if it is the one that stays",
             k->tx.id, found->gateway);
    mr_finder_end(k);
    mr_kafka_producer_drop(k);
    mr_tx_settle(k, false);
    k->tx.state = TX_STOPPED;
    mr_sink_stop(k->port, why);
}

static bool is_by_another(const struct kafka *k, const struct found *found)
{
    return k->tx.claimed && found->is && strcmp(found->by, k->tx.by) != 0;
}

/* What was in doubt is known now, and where to go on is the pipeline's to say. */
static void tx_found(struct kafka *k, const struct found *found)
{
    struct tx *tx = &k->tx;
    char where[TX_NAME_MAX];

    mr_finder_end(k);
    snprintf(where, sizeof(where), "position record in %.200s", k->conf->positions_topic);
    const struct mr_position position = {.seq = found->seq, .epoch = found->epoch, .where = where};
    tx->position = found->is ? found->seq : 0;
    tx->number = found->number; /* behind a tombstone, too: others may lie elsewhere */
    mr_tx_settle(k, tx->in_doubt && found->is && found->seq >= tx->pending);
    tx->state = TX_FOUND;
    tx->place_wanted = false; /* what was said before this is out of date */
    mr_sink_found(k->port, found->is ? &position : NULL);
}

/* It is behind the cursor, and was not looked for again yet. */
static bool tx_looks_again(struct kafka *k, const struct found *found, int64_t now_ns)
{
    struct tx *tx = &k->tx;
    struct mr_reach reach;

    mr_sink_reach(k->port, &reach);
    if (tx->looked_again || !found->is || found->seq >= reach.cursor) {
        return false;
    }
    mr_log(MR_LOG_INFO, "kafka",
           "%s: lane %" PRIu32 ": the position found, %" PRIu64 ", is behind record %" PRIu64
           ", which was confirmed; looking once more, in case partitions were added to %s",
           mr_sink_bridge_name(k->port), mr_sink_lane(k->port), found->seq, reach.cursor,
           k->conf->positions_topic);
    tx->looked_again = true;
    tx->again_at_ns = now_ns + LOOK_AGAIN_MS * NS_PER_MS;
    mr_finder_end(k);
    return true;
}

/* True: it is not time to look again yet. */
static bool tx_find_waits(struct kafka *k, int64_t now_ns)
{
    struct mr_error why;

    if (k->tx.finder != NULL) {
        return false;
    }
    mr_sink_tick_at(k->port, k->tx.again_at_ns);
    if (now_ns < k->tx.again_at_ns) {
        return true;
    }
    if (mr_finder_begin(k, &why) != MR_OK) {
        tx_blocked(k, why.text);
        mr_kafka_fail(k);
        return true;
    }
    return false;
}

static void tx_find_step(struct kafka *k, int64_t now_ns)
{
    struct found found = {.is = false};
    struct mr_error why;

    if (tx_find_waits(k, now_ns)) {
        return;
    }
    switch (mr_finder_step(k, &found, &why)) {
    case FIND_MORE:
        mr_sink_tick_at(k->port, now_ns);
        break;
    case FIND_BLOCKED:
        tx_blocked(k, why.text);
        mr_kafka_fail(k);
        break;
    case FIND_DONE:
        if (is_by_another(k, &found)) {
            tx_stop_fenced(k, &found);
        } else if (tx_looks_again(k, &found, now_ns)) {
            mr_sink_tick_at(k->port, k->tx.again_at_ns);
        } else {
            tx_found(k, &found);
        }
        break;
    }
}

/* Who has fenced us, if anybody? */
static void tx_fenced_step(struct kafka *k, int64_t now_ns)
{
    struct tx *tx = &k->tx;
    struct found found = {.is = false};
    struct mr_error why;

    mr_sink_tick_at(k->port, tx->again_at_ns);
    if (now_ns < tx->again_at_ns) {
        return;
    }
    if (tx->finder == NULL && mr_finder_begin(k, &why) != MR_OK) {
        tx->again_at_ns = now_ns + FENCED_LOOK_MS * NS_PER_MS;
        return;
    }
    enum find_result result = mr_finder_step(k, &found, &why);
    if (result == FIND_MORE) {
        return;
    }
    mr_finder_end(k);
    if (result == FIND_DONE && is_by_another(k, &found)) {
        tx_stop_fenced(k, &found);
    } else if (now_ns - tx->fenced_ns > FENCED_WAIT_MS * NS_PER_MS) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: lane %" PRIu32 ": Kafka gave up a transaction that was open for too long (was "
               "the machine asleep?); going on with a new producer",
               mr_sink_bridge_name(k->port), mr_sink_lane(k->port));
        tx_again(k, now_ns);
    } else {
        tx->again_at_ns = now_ns + FENCED_LOOK_MS * NS_PER_MS;
    }
}

void mr_tx_take_over(struct kafka *k, int64_t now_ns)
{
    switch (k->tx.state) {
    case TX_CLOSED:
        tx_reopen(k, now_ns);
        break;
    case TX_INIT:
        tx_init_step(k, now_ns);
        break;
    case TX_FIND:
        tx_find_step(k, now_ns);
        break;
    case TX_FENCED:
        tx_fenced_step(k, now_ns);
        break;
    default: /* transaction.c's, or there is nothing to do */
        break;
    }
}
