/* vault_sink.h - a target that takes data and a position in one step, and answers as a seeded
 * die says: commits that fail, and commits of which nobody knows how they went.
 *
 *     vault_make() ─▶ bridges by bridge_make() ─▶ copies[seq], vaulted[]
 *
 * Thread: the test's.   Memory: static; it survives the bridges.
 */
#ifndef MR_TEST_VAULT_SINK_H
#define MR_TEST_VAULT_SINK_H

#include "pipeline_kit.h"

/* ---- the target: survives the bridge ---- */

/* A position; [1]: of the stream of fresh events that overtake a backlog. */
static struct vaulted {
    bool has;
    uint64_t seq;
    uint32_t epoch;
} vaulted[2];
static uint8_t copies[EVENTS * 2 + 1];

/* A transaction of fresh events whose answer does not come.  If its sink goes, it happens when the
 * next one of its stream opens, however late that is.
 */
static struct lingering {
    bool wanted; /* the next one shall be */
    bool is_under_way;
    uint64_t sought; /* it must not be any more when the other position is put there */
    uint64_t first;
    uint64_t last;
    uint32_t epoch;
} lingering;
static unsigned trouble_percent; /* of commits */
static bool is_silent;           /* it answers nothing */
static uint64_t commits;
static uint64_t places;

/* ---- the sink ---- */

struct vault {
    struct scripted scripted; /* for deliver() */
    const struct mr_batch *held[256];
    uint32_t taken[256]; /* records of it in the transaction */
    uint32_t held_count;
    bool finding;
    bool found; /* nothing before the pipeline has said where to go on */
    bool placing;
    bool in_doubt;
    bool waits; /* for the answer to what lingers */
    uint64_t place_seq;
    uint64_t pending;
};

static struct vaulted *vaulted_of(const struct vault *v)
{
    return &vaulted[mr_sink_stream(v->scripted.port)[0] != '\0'];
}

static enum mr_err vault_open(void *state, struct mr_error *why)
{
    struct vault *v = state;

    (void)why;
    v->finding = true;
    v->placing = false;
    v->waits = false;
    mr_sink_up(v->scripted.port);
    return MR_OK;
}

static bool is_rejected(uint64_t seq)
{
    return fate_of(seq) == FATE_DEAD_REJECT;
}

static void vault_settle(struct vault *v, enum mr_verdict verdict)
{
    for (uint32_t i = 0; i < v->held_count; i++) {
        if (v->taken[i] != 0) {
            mr_sink_settle(v->scripted.port, v->held[i]->token, v->taken[i], verdict, "the die");
        }
    }
    v->held_count = 0;
    v->in_doubt = false;
}

static bool vault_poisoned(struct vault *v)
{
    bool any = false;

    for (uint32_t i = 0; i < v->held_count; i++) {
        bool here = false;
        for (uint32_t j = 0; j < v->held[i]->record_count; j++) {
            here = here || fate_of(v->held[i]->records[j].seq) == FATE_DEAD_POISON;
        }
        if (here) {
            mr_sink_settle(v->scripted.port, v->held[i]->token, v->taken[i], MR_VERDICT_SUSPECT,
                           "poison");
            v->taken[i] = 0;
            any = true;
        }
    }
    return any;
}

/* What was held is the target's, together with the position. */
static void vault_apply(struct vault *v, const struct mr_reach *reach)
{
    for (uint32_t i = 0; i < v->held_count; i++) {
        for (uint32_t j = 0; j < v->held[i]->record_count; j++) {
            const struct mr_record *record = &v->held[i]->records[j];
            if (!is_rejected(record->seq)) {
                deliver(&v->scripted, record);
                copies[record->seq] += 1;
            }
        }
    }
    vaulted_of(v)->has = true;
    vaulted_of(v)->seq = reach->seq;
    vaulted_of(v)->epoch = reach->epoch;
    commits += 1;
}

static bool vault_lingers(struct vault *v, const struct mr_reach *reach)
{
    if (lingering.wanted && vaulted_of(v) == &vaulted[1] && v->held_count != 0) {
        lingering = (struct lingering){.is_under_way = true,
                                       .sought = lingering.sought,
                                       .first = v->held[0]->seq_first,
                                       .last = reach->seq,
                                       .epoch = reach->epoch};
        v->waits = true;
    }
    return v->waits;
}

/* A new sink is told how far the target is: nothing older may happen any more. */
static void vault_end_lingering(const struct vault *v)
{
    if (!lingering.is_under_way || vaulted_of(v) != &vaulted[1]) {
        return;
    }
    for (uint64_t seq = lingering.first; seq <= lingering.last; seq++) {
        copies[seq] = (uint8_t)(copies[seq] + (fate_of(seq) == FATE_SEND));
    }
    vaulted[1] = (struct vaulted){.has = true, .seq = lingering.last, .epoch = lingering.epoch};
    lingering.is_under_way = false;
}

static void vault_commit(struct vault *v)
{
    struct mr_reach reach;

    mr_sink_reach(v->scripted.port, &reach);
    if (reach.failing || vault_poisoned(v)) {
        vault_settle(v, MR_VERDICT_RETRY);
        v->finding = true;
        return;
    }
    if (v->held_count != 0 && reach.seq < v->held[v->held_count - 1]->seq_last) {
        return; /* dead letters are on their way to the disk */
    }
    if (v->held_count == 0 && (!vaulted_of(v)->has || reach.seq <= vaulted_of(v)->seq)) {
        return;
    }
    if (vault_lingers(v, &reach)) {
        return;
    }
    v->pending = reach.seq;
    if (mr_rng_below(&v->scripted.rng, 100) < trouble_percent) {
        v->finding = true;
        v->in_doubt = mr_rng_below(&v->scripted.rng, 3) != 0;
        if (!v->in_doubt) {
            vault_settle(v, MR_VERDICT_RETRY);
        } else if (mr_rng_below(&v->scripted.rng, 2) == 0) {
            vault_apply(v, &reach);
        }
        return;
    }
    vault_apply(v, &reach);
    vault_settle(v, MR_VERDICT_DONE);
    mr_sink_stands(v->scripted.port, reach.seq);
}

static void vault_find(struct vault *v)
{
    vault_end_lingering(v);
    const struct mr_position position = {
        .seq = vaulted_of(v)->seq, .epoch = vaulted_of(v)->epoch, .where = "the vault's position"};

    v->finding = false;
    v->found = true;
    if (v->in_doubt) {
        vault_settle(v, vaulted_of(v)->has && vaulted_of(v)->seq >= v->pending ? MR_VERDICT_DONE
                                                                               : MR_VERDICT_RETRY);
    }
    mr_sink_found(v->scripted.port, vaulted_of(v)->has ? &position : NULL);
}

static void vault_tick(void *state, int64_t now_ns)
{
    struct vault *v = state;

    (void)now_ns;
    if (is_silent || v->waits || mr_rng_below(&v->scripted.rng, 4) != 0) {
        return;
    }
    if (v->finding) {
        vault_find(v);
    } else if (v->placing) {
        v->placing = false;
        vaulted_of(v)->has = true;
        vaulted_of(v)->seq = v->place_seq;
        places += 1;
        mr_sink_stands(v->scripted.port, v->place_seq);
    } else if (!v->found) {
        vault_commit(v);
    }
}

static void vault_place(void *state, uint64_t seq, uint32_t epoch)
{
    struct vault *v = state;

    mr_assert(v->held_count == 0 && (!lingering.is_under_way || seq != lingering.sought));
    if (v->finding) {
        return; /* what is found then is answered anew */
    }
    v->found = false;
    v->placing = true;
    v->place_seq = seq;
    vaulted_of(v)->epoch = epoch;
}

static enum mr_err vault_submit(void *state, const struct mr_batch *batch)
{
    struct vault *v = state;

    mr_assert(!v->placing);
    if (v->finding || v->found || v->waits || v->held_count == MR_COUNT_OF(v->held)) {
        return MR_ERR_FULL;
    }
    mr_assert(batch->seq_first > vaulted_of(v)->seq); /* nothing that the position covers */
    v->held[v->held_count] = batch;
    v->taken[v->held_count] = 0;
    for (uint32_t i = 0; i < batch->record_count; i++) {
        if (is_rejected(batch->records[i].seq)) {
            mr_sink_reject(v->scripted.port, batch->token, batch->records[i].seq, "rejected");
        } else {
            v->taken[v->held_count] += 1;
        }
    }
    v->held_count += 1;
    return MR_OK;
}

static void vault_close(void *state, int64_t patience_ns)
{
    struct vault *v = state;

    (void)patience_ns;
    v->held_count = 0;
    v->in_doubt = false;
}

static void vault_shape(const void *conf, struct mr_shape *out)
{
    scripted_shape(conf, out);
    out->keeps_position = true;
}

static struct mr_sink_ops vault_sink;

static void vault_make(void)
{
    vault_sink = scripted_sink;
    vault_sink.state_size = sizeof(struct vault);
    vault_sink.shape = vault_shape;
    vault_sink.open = vault_open;
    vault_sink.place = vault_place;
    vault_sink.submit = vault_submit;
    vault_sink.tick = vault_tick;
    vault_sink.close = vault_close;
    sink_ops = &vault_sink;
}

/* Nobody has put anything into it yet. */
static void vault_empty(void)
{
    memset(vaulted, 0, sizeof(vaulted));
    memset(copies, 0, sizeof(copies));
    lingering = (struct lingering){.wanted = false};
    commits = 0;
    places = 0;
    trouble_percent = 0;
    is_silent = false;
}

/* ---- a seek from another thread, as the operator's is ---- */

struct asking {
    struct mr_bridge *bridge;
    uint64_t to;
    enum mr_err err;
    _Atomic bool over;
};

static void ask(void *arg)
{
    struct asking *asking = arg;
    struct mr_error why;
    uint64_t out;

    asking->err = mr_bridge_seek(asking->bridge, asking->to, &out, &why);
    atomic_store(&asking->over, true);
}

/* Until it is over, the bridge takes its turns. */
static inline void seek_running(struct mr_bridge *bridge, uint64_t to,
                                void (*turn)(struct mr_bridge *))
{
    struct asking asking = {.bridge = bridge, .to = to};
    struct mr_thread *thread = NULL;
    struct mr_error why;

    mr_assert(mr_thread_start(&thread, "asker", ask, &asking, &why) == MR_OK);
    while (!atomic_load(&asking.over)) {
        turn(bridge);
    }
    mr_thread_join(thread);
    mr_assert(asking.err == MR_OK);
}

#endif
