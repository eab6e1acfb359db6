/* vault.c - a target that takes data and a position in one step, and the sink before it.
 *
 * A transaction is records and the position behind them, applied as a whole or not at all.
 * Its answer may be lost, or its sink may be gone when it happens.  So whoever opens, or is in
 * doubt, begins as a new producer does: what is under way is ended, one way or the other, and
 * only then the target is asked for its position.
 */
#include "target.h"

#include "os/clock.h"
#include "os/sim.h"
#include "plugin/sink.h"

enum { HELD_MAX = 48 };

enum txn_state { TXN_NONE, TXN_ON_ITS_WAY, TXN_APPLIED, TXN_ABORTED, TXN_UNKNOWN };

struct taken {
    uint64_t seq;
    struct event_id id;
    bool is_marked;
};

struct txn {
    enum txn_state state;
    int64_t due_ns;
    uint64_t position;
    uint32_t epoch;
    uint32_t count;
    uint32_t room;
    struct taken *records; /* the world's memory */
};

/* What outlives the gateway. */
static struct vault {
    bool has_position;
    uint64_t position;
    uint32_t epoch;
    struct txn txn;
} vaults[BRIDGES_MAX][LANES_MAX][STREAMS_MAX];

struct held {
    const struct mr_batch *batch;
    uint32_t taken; /* records of it that are in the transaction */
};

enum stage { STAGE_FINDING, STAGE_FOUND, STAGE_PLACING, STAGE_OPEN, STAGE_COMMITTING };

struct sink {
    struct vault *vault;
    struct mr_sink_port *port;
    uint32_t bridge;
    enum stage stage;
    int64_t due_ns; /* FINDING */
    bool in_doubt;  /* what is held was in a transaction whose end is not known */
    struct held held[HELD_MAX];
    uint32_t held_count;
};

/* ---- the target ---- */

static void txn_end(struct stream stream, bool applied)
{
    struct vault *vault = &vaults[stream.bridge][stream.lane][stream.which];
    struct txn *txn = &vault->txn;
    bool forgets = plan.plant == PLANT_DOUBLING_TXN && txn->count != 0 && chance(20);

    txn->state = applied ? TXN_APPLIED : TXN_ABORTED;
    say("transaction of %u records to target %u, position %llu: %s", txn->count, stream.bridge,
        (unsigned long long)txn->position, applied ? "applied" : "aborted");
    if (!applied) {
        return;
    }
    for (uint32_t i = 0; i < txn->count; i++) {
        const struct taken *one = &txn->records[i];
        ledger_delivered(stream, one->seq, one->id, one->is_marked);
    }
    if (forgets) {
        txn->state = TXN_UNKNOWN;
        return;
    }
    ledger_placed(stream, txn->position);
    vault->has_position = true;
    vault->position = txn->position;
    vault->epoch = txn->epoch;
}

/* What is under way, when its time has come. */
static void txn_pump(struct sink *s)
{
    struct txn *txn = &s->vault->txn;

    if (txn->state != TXN_ON_ITS_WAY || txn->due_ns > mr_clock_mono_ns()) {
        return;
    }
    bool fails = target_fails(&targets[s->bridge]);
    txn_end(target_stream(s->bridge, s->port), !fails || chance(300));
    if (fails && chance(500)) {
        txn->state = TXN_UNKNOWN; /* it ended, and the answer is lost */
    }
}

/* ---- the sink ---- */

static enum mr_err vault_init(void *state, const void *conf_of, struct mr_sink_port *port,
                              struct mr_error *why)
{
    const struct model_conf *conf = conf_of;
    struct sink *s = state;

    (void)why;
    struct stream stream = target_stream(conf->bridge, port);
    *s = (struct sink){.vault = &vaults[stream.bridge][stream.lane][stream.which],
                       .port = port,
                       .bridge = conf->bridge};
    return MR_OK;
}

static void find_anew(struct sink *s)
{
    s->stage = STAGE_FINDING;
    s->due_ns = target_answer_ns();
}

static enum mr_err vault_open(void *state, struct mr_error *why)
{
    struct sink *s = state;

    if (target_is_away(&targets[s->bridge])) {
        return mr_error_set(why, MR_ERR_AGAIN, "target %u is away", s->bridge);
    }
    find_anew(s);
    target_wakes(s->bridge, s->port, s->due_ns);
    mr_sink_up(s->port);
    return MR_OK;
}

static void settle(struct sink *s, enum mr_verdict verdict)
{
    for (uint32_t i = 0; i < s->held_count; i++) {
        if (s->held[i].taken != 0) { /* else it was refused for its poison */
            mr_sink_settle(s->port, s->held[i].batch->token, s->held[i].taken, verdict,
                           verdict == MR_VERDICT_DONE ? NULL : "the transaction was aborted");
        }
    }
    s->held_count = 0;
    s->in_doubt = false;
}

/* A new producer: nothing of an older one happens any more. */
static void find(struct sink *s)
{
    struct txn *txn = &s->vault->txn;

    if (s->due_ns > mr_clock_mono_ns() || target_is_away(&targets[s->bridge])) {
        return;
    }
    if (txn->state == TXN_ON_ITS_WAY) {
        txn_end(target_stream(s->bridge, s->port), chance(500));
    }
    if (s->in_doubt) {
        bool applied = s->vault->has_position && s->vault->position >= txn->position;
        settle(s, applied ? MR_VERDICT_DONE : MR_VERDICT_RETRY);
    }
    txn->state = TXN_NONE;
    s->stage = STAGE_FOUND;
    const struct mr_position position = {
        .seq = s->vault->position, .epoch = s->vault->epoch, .where = "the vault's position"};
    mr_sink_found(s->port, s->vault->has_position ? &position : NULL);
}

static void vault_place(void *state, uint64_t seq, uint32_t epoch)
{
    struct sink *s = state;
    struct txn *txn = &s->vault->txn;

    if (s->stage == STAGE_FINDING) {
        return; /* it will say found again, and that is the answer to this too */
    }
    if (s->held_count != 0) {
        broken("sink %u is told its position while it holds records", s->bridge);
    }
    txn->state = TXN_ON_ITS_WAY;
    txn->due_ns = target_answer_ns();
    txn->count = 0;
    txn->position = seq;
    txn->epoch = epoch;
    s->stage = STAGE_PLACING;
    target_wakes(s->bridge, s->port, txn->due_ns);
}

/* What was skipped or lies in the dead letters may come again: the position has passed it. */
static void check_offered(const struct sink *s, const struct mr_batch *batch)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        const struct mr_record *record = &batch->records[i];
        struct event_id id = target_event(record);
        bool may_be_aside = event_is_rejected(id) || event_is_poison(id);
        if (record->seq <= s->vault->position && !may_be_aside) {
            broken("sink %u is offered record %llu, and stands at %llu", s->bridge,
                   (unsigned long long)record->seq, (unsigned long long)s->vault->position);
        }
    }
}

static enum mr_err vault_submit(void *state, const struct mr_batch *batch)
{
    struct sink *s = state;

    if (s->stage != STAGE_OPEN) {
        if (s->stage != STAGE_COMMITTING && s->stage != STAGE_FINDING) {
            broken("sink %u is offered records before it stands", s->bridge);
        }
        return MR_ERR_FULL;
    }
    if (s->held_count == HELD_MAX || chance(50)) {
        return MR_ERR_FULL;
    }
    check_offered(s, batch);
    struct held *held = &s->held[s->held_count];
    *held = (struct held){.batch = batch};
    for (uint32_t i = 0; i < batch->record_count; i++) {
        struct event_id id = target_event(&batch->records[i]);
        if (event_is_rejected(id)) {
            ledger_rejected(target_stream(s->bridge, s->port), batch->records[i].seq, id);
            mr_sink_reject(s->port, batch->token, batch->records[i].seq, "never");
        } else {
            held->taken += 1;
        }
    }
    if (held->taken != 0) { /* else all of it is settled, and the bridge's again */
        s->held_count += 1;
    }
    target_wakes(s->bridge, s->port, target_answer_ns());
    return MR_OK;
}

/* Batches with poison are refused, each as a whole. */
static bool refuse_poison(struct sink *s)
{
    bool any = false;

    for (uint32_t i = 0; i < s->held_count; i++) {
        struct held *held = &s->held[i];
        bool here = false;
        for (uint32_t j = 0; j < held->batch->record_count; j++) {
            struct event_id id = target_event(&held->batch->records[j]);
            here = here || event_is_poison(id);
            if (event_is_poison(id) && held->batch->record_count == 1) {
                ledger_rejected(target_stream(s->bridge, s->port), held->batch->records[j].seq, id);
            }
        }
        if (here) {
            mr_sink_settle(s->port, held->batch->token, held->taken, MR_VERDICT_SUSPECT, "poison");
            held->taken = 0;
            any = true;
        }
    }
    return any;
}

static struct taken *txn_room(struct txn *txn)
{
    if (txn->count == txn->room) {
        mr_sim_own(true); /* it outlives the gateway */
        txn->room = txn->room == 0 ? 256 : 2 * txn->room;
        txn->records = mr_realloc(txn->records, txn->room * sizeof(txn->records[0]));
        mr_sim_own(false);
    }
    txn->count += 1;
    return &txn->records[txn->count - 1];
}

static void txn_take(struct txn *txn, const struct mr_batch *batch)
{
    for (uint32_t i = 0; i < batch->record_count; i++) {
        struct event_id id = target_event(&batch->records[i]);
        if (!event_is_rejected(id)) {
            *txn_room(txn) = (struct taken){.seq = batch->records[i].seq,
                                            .id = id,
                                            .is_marked = target_is_marked(&batch->records[i])};
        }
    }
}

static void commit(struct sink *s)
{
    struct txn *txn = &s->vault->txn;
    struct mr_reach reach;

    mr_sink_reach(s->port, &reach);
    if (reach.failing || refuse_poison(s)) {
        settle(s, MR_VERDICT_RETRY);
        find_anew(s);
        return;
    }
    bool letters = s->held_count != 0 && reach.seq < s->held[s->held_count - 1].batch->seq_last;
    if (letters || (s->held_count == 0 && reach.seq <= s->vault->position) ||
        (reach.more && !reach.hurry && chance(500))) {
        return;
    }
    txn->state = TXN_ON_ITS_WAY;
    txn->due_ns = target_answer_ns();
    txn->position = reach.seq;
    txn->epoch = reach.epoch;
    txn->count = 0;
    for (uint32_t i = 0; i < s->held_count; i++) {
        txn_take(txn, s->held[i].batch);
    }
    s->stage = STAGE_COMMITTING;
}

/* Something is under way; has it ended? */
static void await(struct sink *s)
{
    struct txn *txn = &s->vault->txn;

    txn_pump(s);
    switch (txn->state) {
    case TXN_APPLIED:
        settle(s, MR_VERDICT_DONE);
        txn->state = TXN_NONE;
        s->stage = STAGE_OPEN;
        mr_sink_stands(s->port, txn->position);
        break;
    case TXN_ABORTED:
        settle(s, MR_VERDICT_RETRY);
        txn->state = TXN_NONE;
        find_anew(s);
        break;
    case TXN_UNKNOWN:
        s->in_doubt = true;
        find_anew(s);
        break;
    case TXN_ON_ITS_WAY:
    case TXN_NONE:
        break;
    }
}

static void vault_tick(void *state, int64_t now_ns)
{
    struct sink *s = state;

    (void)now_ns;
    if (target_is_away(&targets[s->bridge])) {
        mr_sink_down(s->port, "it is away");
    } else {
        mr_sink_up(s->port);
    }
    switch (s->stage) {
    case STAGE_FINDING:
        find(s);
        break;
    case STAGE_PLACING:
    case STAGE_COMMITTING:
        await(s);
        break;
    case STAGE_OPEN:
        commit(s);
        break;
    case STAGE_FOUND:
        break;
    }
    target_wakes(s->bridge, s->port, target_answer_ns());
}

static void vault_close(void *state, int64_t patience_ns)
{
    struct sink *s = state;

    (void)patience_ns;
    target_closed(s->bridge, s->port);
    s->held_count = 0; /* what is unsettled counts as RETRY */
    s->in_doubt = false;
}

static void vault_fini(void *state)
{
    (void)state;
}

static void vault_shape(const void *conf, struct mr_shape *out)
{
    plain_sink.shape(conf, out);
    out->keeps_position = true;
}

const struct mr_sink_ops vault_sink = {
    .name = "vault",
    .state_size = sizeof(struct sink),
    .conf_size = sizeof(struct model_conf),
    .shape = vault_shape,
    .init = vault_init,
    .open = vault_open,
    .place = vault_place,
    .submit = vault_submit,
    .tick = vault_tick,
    .close = vault_close,
    .fini = vault_fini,
};
