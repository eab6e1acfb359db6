/* transaction.c - exactly once: batches and the position, committed together.
 *
 *     (takeover.c) ─▶ FOUND ─▶ READY ◀──▶ OPEN ─▶ COMMIT ─▶ READY
 *                                          any failure ─▶ (takeover.c)
 *
 * DESIGN
 *
 * A transaction takes batches until it is `commit_interval` old and nothing is behind, or
 * until it is large or long enough, which is less where Kafka is slow to take it (a narrow link, a
 * quota): one that is not through within transaction.timeout.ms would be all for nothing.  Then a
 * record with the position goes in, and it is committed.  While that lasts nothing can be produced,
 * so that a backlog is carried in longer transactions.  Verdicts wait for the commit.
 *
 * A commit that takes long is asked about again on the same producer for as long as
 * librdkafka allows.  If it fails in the end its outcome is unknown, and its batches are
 * held until the position record is read (takeover.c).
 *
 * Where only events are passed over that the bridge does not carry, the position follows
 * once a second, in a transaction of its own.
 *
 * INVARIANTS
 *
 *   (1) No verdict of DONE before the commit is known to hold.
 *   (2) `held` is not empty in OPEN, COMMIT, and while `in_doubt` only.
 *   (3) A verdict is given only when librdkafka holds no reference to the batch's values.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/hash.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/process.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    FLUSH_MS = 200,
    COMMIT_MS = 400,
    ABORT_MS = 200,
    LONG_MS = 1000, /* with a backlog */
    POSITION_ONLY_MS = 1000,
    LETTERS_PATIENCE_MS = 20000,
    FIT_MS = 5000,        /* of flush and commit; a transaction may last 60 s */
    ROOM_FIRST = 1 << 20, /* until it is known what Kafka takes in time; doubles with each commit */
};

void mr_tx_init(struct kafka *k)
{
    struct tx *tx = &k->tx;
    const char *journal = mr_sink_journal_id(k->port);
    const char *bridge = mr_sink_bridge_name(k->port);
    uint32_t lane = mr_sink_lane(k->port);
    bool live = mr_sink_stream(k->port)[0] != '\0'; /* it has a position and producers of its own */
    uint64_t by;
    char labels[TX_NAME_MAX];

    mr_mutex_init(&tx->said_mutex);
    if (k->conf->delivery != MR_KAFKA_EXACTLY_ONCE) {
        return;
    }
    tx->state = TX_CLOSED;
    tx->room = k->conf->commit_bytes < ROOM_FIRST ? k->conf->commit_bytes : ROOM_FIRST;
    snprintf(tx->id, sizeof(tx->id), "millrace-%s-%s-%" PRIu32 "%s", journal, bridge, lane,
             live ? "-live" : "");
    snprintf(tx->key, sizeof(tx->key), "%s/%s/%" PRIu32 "%s", journal, bridge, lane,
             live ? "/live" : "");
    mr_os_random(&by, sizeof(by));
    snprintf(tx->by, sizeof(tx->by), "%016" PRIx64, by);
    tx->positions.name = k->conf->positions_topic;
    snprintf(labels, sizeof(labels), "bridge=\"%s\",lane=\"%" PRIu32 "\"%s", bridge, lane,
             live ? ",stream=\"live\"" : "");
    tx->committed = mr_metric_new(MR_METRIC_COUNTER, "millrace_sink_transactions_committed_total",
                                  "Transactions the target has committed.", labels);
    tx->aborted =
        mr_metric_new(MR_METRIC_COUNTER, "millrace_sink_transactions_aborted_total",
                      "Transactions that were given up; their records are offered again.", labels);
    tx->seconds = mr_metric_new(MR_METRIC_HISTOGRAM, "millrace_sink_transaction_seconds",
                                "From the first record of a transaction to its commit.", labels);
}

void mr_tx_fini(struct kafka *k)
{
    mr_mutex_fini(&k->tx.said_mutex);
}

void mr_tx_opened(struct kafka *k)
{
    struct tx *tx = &k->tx;

    tx->state = TX_INIT;
    tx->fenced = false;
    tx->place_wanted = false;
    tx->looked_again = false;
    tx->behind_ns = 0;
}

/* ---- committing ---- */

static bool tx_begin(struct kafka *k)
{
    rd_kafka_error_t *error = rd_kafka_begin_transaction(k->rk);

    if (error != NULL) {
        (void)mr_tx_failed(k, error, "a transaction could not be begun");
        mr_kafka_fail(k);
        return false;
    }
    k->tx.opened_ns = mr_clock_mono_ns();
    k->tx.flushed = false;
    return true;
}

/* The last record of a transaction. */
static bool tx_put_position(struct kafka *k, uint64_t seq, uint32_t epoch)
{
    struct topic *topic = &k->tx.positions;
    char text[TEXT_MAX];
    struct mr_text value = mr_text_over(text, sizeof(text));
    size_t key_len = strlen(k->tx.key);

    k->tx.number += 1;
    mr_finder_put(k, seq, epoch, &value);
    if (topic->generation != k->generation) {
        topic->rkt = rd_kafka_topic_new(k->rk, topic->name, NULL);
        topic->generation = k->generation;
    }
    rd_kafka_resp_err_t err = rd_kafka_producev(
        k->rk, RD_KAFKA_V_RKT(topic->rkt),
        RD_KAFKA_V_PARTITION(mr_kafka_partition(k->tx.key, key_len, topic->partitions)),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(k->tx.key, key_len),
        RD_KAFKA_V_VALUE(text, value.len), RD_KAFKA_V_END);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        mr_tx_note(k, NULL, MR_VERDICT_RETRY, rd_kafka_err2str(err));
        mr_kafka_fail(k);
        return false;
    }
    return true;
}

uint64_t mr_tx_room(uint64_t room, uint64_t most, uint64_t bytes, int64_t took_ns)
{
    uint64_t fits =
        took_ns > FIT_MS * NS_PER_MS ? bytes * FIT_MS / (uint64_t)(took_ns / NS_PER_MS) : room * 2;

    fits = fits < TX_ROOM_MIN ? TX_ROOM_MIN : fits;
    return fits > most ? most : fits;
}

static void tx_committed(struct kafka *k)
{
    struct tx *tx = &k->tx;
    bool with_records = tx->held_count != 0;
    int64_t now_ns = mr_clock_mono_ns();

    mr_log(MR_LOG_DEBUG, "kafka",
           "%s: lane %" PRIu32 ": committed %" PRIu64 " messages up to record %" PRIu64 ", open "
           "for %" PRId64 " ms, of which the commit took %" PRId64,
           mr_sink_bridge_name(k->port), mr_sink_lane(k->port), k->inflight, tx->pending,
           (now_ns - tx->opened_ns) / NS_PER_MS, (now_ns - tx->commit_ns) / NS_PER_MS);

    k->inflight = 0;
    k->heard = true; /* since it held, all brokers may have gone, which was said before we came */
    k->may_write_nothing = false;
    if (with_records) {
        k->denied = NULL;
        k->stalled = false;
        tx->room = mr_tx_room(tx->room, k->conf->commit_bytes, tx->bytes, now_ns - tx->commit_ns);
        tx->failures = 0;
        mr_metric_observe_us(tx->seconds, (uint64_t)((now_ns - tx->opened_ns) / 1000));
    }
    mr_metric_add(tx->committed, 1);
    tx->position = tx->pending;
    tx->behind_ns = 0;
    tx->claimed = true;
    tx->blocked = false;
    tx->state = TX_READY;
    mr_tx_settle(k, true);
    mr_sink_stands(k->port, tx->position);
}

static void tx_commit_step(struct kafka *k)
{
    struct tx *tx = &k->tx;

    mr_sink_tick_at(k->port, mr_clock_mono_ns());
    if (!tx->flushed) {
        tx->flushed = rd_kafka_flush(k->rk, FLUSH_MS) == RD_KAFKA_RESP_ERR_NO_ERROR;
        if (!tx->flushed || k->failing) {
            return; /* a record that failed is told by its report */
        }
    }
    tx->in_doubt = true;
    rd_kafka_error_t *error = rd_kafka_commit_transaction(k->rk, COMMIT_MS);
    if (error == NULL) {
        tx_committed(k);
    } else {
        (void)mr_tx_failed(k, error, "the commit failed");
    }
}

static void tx_commit_begin(struct kafka *k, uint64_t seq, uint32_t epoch)
{
    k->tx.pending = seq;
    k->tx.commit_ns = mr_clock_mono_ns();
    k->tx.state = TX_COMMIT;
    if (tx_put_position(k, seq, epoch)) {
        tx_commit_step(k);
    }
}

/* A transaction of nothing but the position. */
static void tx_commit_position(struct kafka *k, uint64_t seq, uint32_t epoch)
{
    if (tx_begin(k)) {
        tx_commit_begin(k, seq, epoch);
    }
}

static void tx_ready_step(struct kafka *k, int64_t now_ns)
{
    struct tx *tx = &k->tx;
    struct mr_reach reach;

    if (tx->place_wanted) {
        tx->place_wanted = false;
        tx_commit_position(k, tx->place_seq, tx->place_epoch);
        return;
    }
    if (tx->state != TX_READY) {
        return;
    }
    mr_sink_reach(k->port, &reach);
    if (reach.failing || reach.seq <= tx->position) {
        return;
    }
    tx->behind_ns = tx->behind_ns == 0 ? now_ns : tx->behind_ns;
    int64_t at_ns = tx->behind_ns + POSITION_ONLY_MS * NS_PER_MS;
    if (reach.hurry || now_ns >= at_ns) {
        tx_commit_position(k, reach.seq, reach.epoch);
    } else {
        mr_sink_tick_at(k->port, at_ns);
    }
}

static void tx_open_step(struct kafka *k, int64_t now_ns)
{
    struct tx *tx = &k->tx;
    int64_t interval_ns = (int64_t)k->conf->commit_interval_us * 1000;
    int64_t long_ns = interval_ns > LONG_MS * NS_PER_MS ? interval_ns : LONG_MS * NS_PER_MS;
    int64_t age_ns = now_ns - tx->opened_ns;
    struct mr_reach reach;

    mr_sink_reach(k->port, &reach);
    if (reach.failing || tx->place_wanted) { /* the latter: all it held were dead letters */
        mr_kafka_fail(k);
        return;
    }
    bool full = reach.hurry || tx->bytes >= tx->room || tx->held_count == TX_HELD_MAX;
    int64_t due_ns = reach.more ? long_ns : interval_ns;
    if (!full && age_ns < due_ns) {
        mr_sink_tick_at(k->port, tx->opened_ns + due_ns);
        return;
    }
    if (reach.seq >= tx->seq_last) {
        tx_commit_begin(k, reach.seq, reach.epoch);
    } else if (k->inflight != 0 && age_ns > LETTERS_PATIENCE_MS * NS_PER_MS) {
        mr_tx_note(k, NULL, MR_VERDICT_RETRY, "its dead letters are not on the disk yet");
        mr_kafka_fail(k);
    } else {
        mr_sink_tick_at(k->port, now_ns + 10 * NS_PER_MS);
    }
}

/* ---- what the sink calls ---- */

bool mr_tx_takes(const struct kafka *k)
{
    return (k->tx.state == TX_READY || k->tx.state == TX_OPEN) && !k->failing &&
           !k->tx.place_wanted && k->tx.held_count < TX_HELD_MAX && k->tx.bytes < k->tx.room;
}

bool mr_tx_enter(struct kafka *k, const struct mr_batch *batch)
{
    if (k->tx.state == TX_READY && !tx_begin(k)) {
        return false;
    }
    k->tx.state = TX_OPEN;
    k->tx.held[k->tx.held_count++] = (struct held){.token = batch->token};
    return true;
}

void mr_tx_entered(struct kafka *k, const struct mr_batch *batch, uint32_t count)
{
    struct tx *tx = &k->tx;

    tx->held[tx->held_count - 1].count = count;
    tx->seq_last = batch->seq_last;
    for (uint32_t i = 0; i < batch->record_count; i++) {
        tx->bytes += batch->records[i].value.len;
    }
}

void mr_tx_place(void *state, uint64_t seq, uint32_t epoch)
{
    struct kafka *k = state;

    k->tx.place_wanted = true;
    k->tx.place_seq = seq;
    k->tx.place_epoch = epoch;
    mr_sink_wake(k->port);
}

static void tx_step(struct kafka *k, int64_t now_ns)
{
    switch (k->tx.state) {
    case TX_FOUND:
    case TX_READY:
        tx_ready_step(k, now_ns);
        break;
    case TX_OPEN:
        tx_open_step(k, now_ns);
        break;
    case TX_COMMIT:
        tx_commit_step(k);
        break;
    default:
        mr_tx_take_over(k, now_ns);
        break;
    }
}

void mr_tx_tick(struct kafka *k, int64_t now_ns)
{
    mr_sink_tick_at(k->port, 0);
    if (!k->failing) {
        tx_step(k, now_ns);
    }
    if (k->failing) {
        mr_tx_fail_over(k, now_ns);
        mr_sink_tick_at(k->port, k->tx.again_at_ns);
    }
}

/* Commit what is open if that can be done in time; else abort it, so that no reader has to
 * wait until Kafka does.
 */
void mr_tx_close(struct kafka *k, int64_t patience_ns)
{
    struct tx *tx = &k->tx;
    int64_t until_ns = mr_clock_mono_ns() + patience_ns;
    struct mr_reach reach;

    if (tx->state == TX_OPEN && !k->failing && patience_ns > 0) {
        mr_sink_reach(k->port, &reach);
        if (reach.seq >= tx->seq_last && !reach.failing) {
            tx_commit_begin(k, reach.seq, reach.epoch);
        }
    }
    while (tx->state == TX_COMMIT && !k->failing && mr_clock_mono_ns() < until_ns) {
        tx_commit_step(k);
    }
    if ((tx->state == TX_OPEN || tx->state == TX_COMMIT) && !k->failing) {
        rd_kafka_error_t *error = rd_kafka_abort_transaction(k->rk, ABORT_MS);
        rd_kafka_error_destroy(error); /* if it could not be: the next one with our id does */
        mr_metric_add(tx->aborted, 1);
    }
    mr_finder_end(k);
    mr_kafka_producer_drop(k);
    tx->held_count = 0; /* what is unsettled counts as RETRY; the position record tells */
    tx->bytes = 0;
    tx->in_doubt = false;
    tx->reason[0] = '\0';
    tx->blocked = false;
    k->failing = false;
    k->inflight = 0;
    tx->state = tx->state == TX_STOPPED ? TX_STOPPED : TX_CLOSED;
}
