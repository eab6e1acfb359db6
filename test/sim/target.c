/* target.c - the model sink, and the target behind it.
 *
 * AT LEAST ONCE.  The sink sends records in requests, one behind the other as a pipeline;
 * each is answered later, and answers overtake each other.  A request that fails may have
 * arrived all the same.  Behind one that fails nothing new is sent.
 *
 * EXACTLY ONCE.  The sink sends a transaction: records and the position behind them, which the
 * target applies as a whole or not at all.  It may happen while nobody listens any more:
 * then the next sink, at open, ends what is under way (as a new producer fences an old one)
 * and asks for the position.
 */
#include "world.h"

#include "os/clock.h"
#include "plugin/sink.h"

#include <string.h>

enum { HELD_MAX = 32, REQUESTS_MAX = 64, TXN_RECORDS_MAX = 4096, WAKE_NS = 2 * NS_PER_MS };

enum txn_state { TXN_NONE, TXN_ON_ITS_WAY, TXN_APPLIED, TXN_ABORTED };

struct txn {
    enum txn_state state;
    int64_t due_ns;
    uint32_t count;
    uint64_t position; /* its last seq */
    uint64_t seqs[TXN_RECORDS_MAX];
    struct event_id ids[TXN_RECORDS_MAX];
};

struct sink;

/* What outlives the gateway. */
static struct target {
    bool away;
    bool trouble; /* requests fail now and then */
    uint64_t position[LANES_MAX];
    struct txn txn[LANES_MAX];
    struct sink *sinks[LANES_MAX]; /* of the gateway that runs; NULL: none is open */
} targets[BRIDGES_MAX];

struct held {
    const struct mr_batch *batch;
    uint32_t next; /* the first record that was not sent */
};

struct request {
    void *token;
    uint32_t count;
    enum mr_verdict verdict;
    int64_t due_ns;
};

struct sink {
    struct target *target;
    struct mr_sink_port *port;
    uint32_t bridge;
    uint32_t lane;
    bool exactly_once;
    bool failing; /* something has failed: nothing new is sent */
    bool told;    /* ... and the pipeline knows */
    struct held held[HELD_MAX];
    uint32_t held_count;
    struct request requests[REQUESTS_MAX];
    uint32_t request_count;
    int64_t wake_ns; /* not again before that */
};

void target_turn(uint32_t bridge)
{
    struct target *target = &targets[bridge];

    if (chance(300)) {
        target->away = !target->away && chance(500);
    }
    if (chance(300)) {
        target->trouble = chance(500);
    }
}

/* ---- the target ---- */

static void txn_end(uint32_t bridge, uint32_t lane, bool applied)
{
    struct target *target = &targets[bridge];
    struct txn *txn = &target->txn[lane];

    txn->state = applied ? TXN_APPLIED : TXN_ABORTED;
    say("transaction of %u records to target %u: %s", txn->count, bridge,
        applied ? "applied" : "aborted");
    for (uint32_t i = 0; applied && i < txn->count; i++) {
        ledger_delivered(bridge, lane, txn->seqs[i], txn->ids[i]);
    }
    if (applied && !(plan.plant == PLANT_DOUBLING_TXN && chance(20))) {
        target->position[lane] = txn->position;
    }
}

/* ---- the sink: life ---- */

static enum mr_err sink_init(void *state, const void *conf_of, struct mr_sink_port *port,
                             struct mr_error *why)
{
    const struct model_conf *conf = conf_of;
    struct sink *s = state;

    (void)why;
    *s = (struct sink){.target = &targets[conf->bridge],
                       .port = port,
                       .bridge = conf->bridge,
                       .lane = conf->lane,
                       .exactly_once = plan.exactly_once[conf->bridge]};
    return MR_OK;
}

static enum mr_err sink_open(void *state, struct mr_error *why)
{
    struct sink *s = state;
    struct txn *txn = &s->target->txn[s->lane];

    if (s->target->away && !world_is_calm) {
        return mr_error_set(why, MR_ERR_AGAIN, "target %u is away", s->bridge);
    }
    if (s->exactly_once) {
        if (txn->state == TXN_ON_ITS_WAY) { /* of a sink that is no more */
            txn_end(s->bridge, s->lane, chance(500));
        }
        txn->state = TXN_NONE;
        if (s->target->position[s->lane] != 0) {
            mr_sink_resume(s->port, s->lane, s->target->position[s->lane]);
        }
    }
    s->target->sinks[s->lane] = s;
    mr_sink_up(s->port);
    return MR_OK;
}

static enum mr_err sink_submit(void *state, const struct mr_batch *batch)
{
    struct sink *s = state;

    if (s->failing && s->held_count + s->request_count != 0) {
        if (s->told) {
            broken("sink %u is offered records before it has given back what it held", s->bridge);
        }
        return MR_ERR_FULL;
    }
    s->failing = false;
    s->told = false;
    if (s->held_count == HELD_MAX || chance(50)) {
        return MR_ERR_FULL;
    }
    s->held[s->held_count++] = (struct held){.batch = batch};
    return MR_OK;
}

static void held_remove_first(struct sink *s)
{
    s->held_count -= 1;
    memmove(&s->held[0], &s->held[1], s->held_count * sizeof(s->held[0]));
}

static struct event_id event_of(const struct mr_record *record)
{
    return event_read(record->route->topic, record->payload, record->qos);
}

static int64_t answer_ns(void)
{
    return mr_clock_mono_ns() + (int64_t)roll(world_is_calm ? NS_PER_MS : 50 * NS_PER_MS);
}

/* ---- at least once ---- */

static void request_put(struct sink *s, void *token, uint32_t count, enum mr_verdict verdict)
{
    s->requests[s->request_count++] =
        (struct request){.token = token, .count = count, .verdict = verdict, .due_ns = answer_ns()};
    s->failing = s->failing || verdict != MR_VERDICT_DONE;
}

static void deliver(const struct sink *s, const struct mr_record *records, uint32_t count)
{
    bool swap = plan.plant == PLANT_SWAPPING_SINK && count > 1 && chance(100);

    for (uint32_t i = 0; i < count; i++) {
        const struct mr_record *record = &records[swap ? count - 1 - i : i];
        ledger_delivered(s->bridge, s->lane, record->seq, event_of(record));
    }
}

/* The next records of the oldest batch, in one request. */
static void request_send(struct sink *s)
{
    struct held *held = &s->held[0];
    const struct mr_batch *batch = held->batch;
    const struct mr_record *records = &batch->records[held->next];
    uint32_t left = batch->record_count - held->next;
    uint32_t count = 1 + (uint32_t)roll(left);
    bool poison = false;
    bool reject = event_is_rejected(event_of(&records[0]));

    for (uint32_t i = 0; i < count; i++) {
        if (event_is_rejected(event_of(&records[i]))) {
            count = i == 0 ? 1 : i;
        } else {
            poison = poison || event_is_poison(event_of(&records[i]));
        }
    }
    held->next += count;
    if (held->next == batch->record_count) {
        held_remove_first(s);
    }
    if (reject) {
        ledger_rejected(s->bridge, event_of(&records[0]));
        mr_sink_reject(s->port, batch->token, records[0].seq, "it can never be delivered");
    } else if (poison) {
        if (count == 1) {
            ledger_rejected(s->bridge, event_of(&records[0]));
        }
        request_put(s, batch->token, count, MR_VERDICT_SUSPECT);
    } else if (!world_is_calm && (s->target->away || (s->target->trouble && chance(200)))) {
        if (chance(300)) {
            deliver(s, records, count); /* it has arrived, and the answer will not */
        }
        request_put(s, batch->token, count, MR_VERDICT_RETRY);
    } else {
        if (!(plan.plant == PLANT_LOSING_SINK && chance(20))) {
            deliver(s, records, count);
        }
        request_put(s, batch->token, count, MR_VERDICT_DONE);
    }
}

/* Answers that have come, in any order. */
static void requests_settle(struct sink *s)
{
    uint32_t at = s->request_count == 0 ? 0 : (uint32_t)roll(s->request_count);

    for (uint32_t looked = s->request_count; looked > 0; looked--) {
        at = at >= s->request_count ? 0 : at;
        struct request request = s->requests[at];
        if (request.due_ns > mr_clock_mono_ns()) {
            at += 1;
            continue;
        }
        s->request_count -= 1;
        s->requests[at] = s->requests[s->request_count];
        s->told = s->told || request.verdict != MR_VERDICT_DONE;
        mr_sink_settle(s->port, request.token, request.count, request.verdict,
                       request.verdict == MR_VERDICT_DONE ? NULL : "the dice say no");
    }
}

/* Behind a failure: what was not sent goes back. */
static void give_back(struct sink *s)
{
    while (s->held_count != 0) {
        struct held held = s->held[0];
        held_remove_first(s);
        s->told = true;
        mr_sink_settle(s->port, held.batch->token, held.batch->record_count - held.next,
                       MR_VERDICT_RETRY, NULL);
    }
}

static void plain_tick(struct sink *s)
{
    requests_settle(s);
    if (s->failing) {
        if (chance(500)) {
            give_back(s);
        }
        return;
    }
    for (uint64_t n = roll(8); n != 0 && s->held_count != 0 && !s->failing; n--) {
        if (s->request_count < REQUESTS_MAX) {
            request_send(s);
        }
    }
}

/* ---- exactly once ---- */

static bool txn_takes(struct sink *s, struct txn *txn, const struct mr_batch *batch)
{
    if (txn->count + batch->record_count > TXN_RECORDS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < batch->record_count; i++) {
        txn->seqs[txn->count] = batch->records[i].seq;
        txn->ids[txn->count] = event_of(&batch->records[i]);
        txn->count += 1;
    }
    txn->position = batch->records[batch->record_count - 1].seq;
    request_put(s, batch->token, batch->record_count, MR_VERDICT_DONE);
    return true;
}

/* Poison and rejects among the first batch: those are found out before the transaction. */
static bool first_is_refused(struct sink *s)
{
    const struct mr_batch *batch = s->held[0].batch;
    bool poison = false;

    for (uint32_t i = 0; i < batch->record_count; i++) {
        struct event_id id = event_of(&batch->records[i]);
        poison = poison || event_is_poison(id) || event_is_rejected(id);
    }
    if (!poison) {
        return false;
    }
    if (batch->record_count == 1) {
        ledger_rejected(s->bridge, event_of(&batch->records[0]));
    }
    held_remove_first(s);
    request_put(s, batch->token, batch->record_count, MR_VERDICT_SUSPECT);
    return true;
}

static void txn_begin(struct sink *s)
{
    struct txn *txn = &s->target->txn[s->lane];

    if (first_is_refused(s)) {
        return;
    }
    *txn = (struct txn){.state = TXN_NONE};
    for (uint64_t n = 1 + roll(HELD_MAX); n != 0 && s->held_count != 0; n--) {
        if (s->request_count != 0 && plan.with_rejects) {
            break;
        }
        if (!txn_takes(s, txn, s->held[0].batch)) {
            break;
        }
        held_remove_first(s);
    }
    txn->state = TXN_ON_ITS_WAY;
    txn->due_ns = answer_ns();
}

/* Its outcome is known: the same for all its records. */
static void txn_settle(struct sink *s, enum mr_verdict verdict)
{
    s->target->txn[s->lane].state = TXN_NONE;
    for (uint32_t i = 0; i < s->request_count; i++) {
        struct request *request = &s->requests[i];
        mr_sink_settle(s->port, request->token, request->count, verdict,
                       verdict == MR_VERDICT_DONE ? NULL : "the transaction was aborted");
    }
    s->request_count = 0;
    s->failing = verdict != MR_VERDICT_DONE;
    s->told = s->failing;
}

static void exactly_tick(struct sink *s)
{
    struct txn *txn = &s->target->txn[s->lane];

    switch (txn->state) {
    case TXN_ON_ITS_WAY:
        return;
    case TXN_APPLIED:
        txn_settle(s, MR_VERDICT_DONE);
        return;
    case TXN_ABORTED:
        txn_settle(s, MR_VERDICT_RETRY);
        return;
    case TXN_NONE:
        break;
    }
    requests_settle(s);
    if (s->failing) {
        give_back(s);
    } else if (s->held_count != 0 && s->request_count == 0 && chance(500)) {
        txn_begin(s);
    }
}

static void sink_tick(void *state, int64_t now_ns)
{
    struct sink *s = state;

    (void)now_ns;
    if (s->target->away && !world_is_calm) {
        mr_sink_down(s->port, "it is away");
    } else {
        mr_sink_up(s->port);
    }
    if (s->exactly_once) {
        exactly_tick(s);
    } else {
        plain_tick(s);
    }
}

static void sink_close(void *state, int64_t patience_ns)
{
    struct sink *s = state;

    (void)patience_ns;
    s->target->sinks[s->lane] = NULL;
    s->held_count = 0; /* what is unsettled counts as RETRY */
    s->request_count = 0;
    s->failing = false;
    s->told = false;
}

static void sink_fini(void *state)
{
    (void)state;
}

static void sink_shape(const void *conf, struct mr_shape *out)
{
    (void)conf;
    *out = (struct mr_shape){.dest_template = "t",
                             .dest_option = "topic",
                             .key_template = "${clientid}",
                             .key_option = "key",
                             .value_encoder = MR_VALUE_RAW,
                             .headers = MR_HEADERS_NONE,
                             .dests_max = 4};
}

const struct mr_sink_ops model_sink = {
    .name = "model",
    .state_size = sizeof(struct sink),
    .conf_size = sizeof(struct model_conf),
    .shape = sink_shape,
    .init = sink_init,
    .open = sink_open,
    .submit = sink_submit,
    .tick = sink_tick,
    .close = sink_close,
    .fini = sink_fini,
};

/* ---- the world's side ---- */

/* What a client library does when an answer has come. */
static void sink_wake(struct sink *s)
{
    int64_t now_ns = mr_clock_mono_ns();

    if (s != NULL && s->held_count + s->request_count != 0 && s->wake_ns <= now_ns) {
        s->wake_ns = now_ns + WAKE_NS;
        mr_sink_wake(s->port);
    }
}

void targets_pump(void)
{
    for (uint32_t b = 0; b < plan.bridges; b++) {
        for (uint32_t lane = 0; lane < plan.lanes; lane++) {
            struct txn *txn = &targets[b].txn[lane];
            sink_wake(targets[b].sinks[lane]);
            if (txn->state == TXN_ON_ITS_WAY && txn->due_ns <= mr_clock_mono_ns()) {
                txn_end(b, lane,
                        world_is_calm || (!targets[b].trouble && !targets[b].away) || chance(500));
            }
        }
    }
}

void targets_forget(void)
{
    for (uint32_t b = 0; b < BRIDGES_MAX; b++) {
        memset(targets[b].sinks, 0, sizeof(targets[b].sinks));
    }
}
