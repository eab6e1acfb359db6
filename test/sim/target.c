/* target.c - the target of a bridge that delivers at least once, and the sink before it.
 *
 * The sink sends records in requests, one behind the other as a pipeline; each is answered
 * later, and answers overtake each other.  A request that fails may have arrived all the
 * same.  Behind one that fails nothing new is sent.
 */
#include "target.h"

#include "os/clock.h"
#include "pipeline/bridge.h"
#include "plugin/sink.h"

#include <string.h>

enum { HELD_MAX = 32, REQUESTS_MAX = 64 };

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
    bool failing; /* something has failed: nothing new is sent */
    bool told;    /* ... and the pipeline knows */
    struct held held[HELD_MAX];
    uint32_t held_count;
    struct request requests[REQUESTS_MAX];
    uint32_t request_count;
};

/* ---- targets of both kinds ---- */

struct target targets[BRIDGES_MAX];

bool target_is_away(const struct target *target)
{
    return target->away && !world_is_calm;
}

bool target_fails(const struct target *target)
{
    return !world_is_calm && (target->away || (target->trouble && chance(200)));
}

int64_t target_answer_ns(void)
{
    return mr_clock_mono_ns() + (int64_t)roll(world_is_calm ? NS_PER_MS : 50 * NS_PER_MS);
}

bool target_is_marked(const struct mr_record *record)
{
    bool marked = false;

    for (uint16_t i = 0; i < record->header_count; i++) {
        marked = marked || mr_span_is(record->headers[i].name, MR_BACKFILL_HEADER);
    }
    return marked;
}

struct event_id target_event(const struct mr_record *record)
{
    return event_read(record->route->topic, record->payload, record->qos);
}

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

/* What a client library does when an answer has come: wake the worker. */
void targets_pump(void)
{
    for (uint32_t b = 0; b < plan.bridges; b++) {
        for (uint32_t i = 0; i < LANES_MAX * STREAMS_MAX; i++) {
            struct waiting *waiting = &targets[b].waiting[i / STREAMS_MAX][i % STREAMS_MAX];
            if (waiting->port != NULL && waiting->due_ns <= mr_clock_mono_ns()) {
                waiting->due_ns = INT64_MAX;
                mr_sink_wake(waiting->port);
            }
        }
    }
}

void targets_forget(void)
{
    for (uint32_t b = 0; b < BRIDGES_MAX; b++) {
        memset(targets[b].waiting, 0, sizeof(targets[b].waiting));
    }
}

struct stream target_stream(uint32_t bridge, struct mr_sink_port *port)
{
    return (struct stream){.bridge = bridge,
                           .lane = mr_sink_lane(port),
                           .which = mr_sink_stream(port)[0] != '\0' ? 1 : 0};
}

static struct waiting *waiting_of(struct stream stream)
{
    return &targets[stream.bridge].waiting[stream.lane][stream.which];
}

void target_wakes(uint32_t bridge, struct mr_sink_port *port, int64_t due_ns)
{
    struct waiting *waiting = waiting_of(target_stream(bridge, port));

    if (waiting->port != port || due_ns < waiting->due_ns) {
        *waiting = (struct waiting){.port = port, .due_ns = due_ns};
    }
}

void target_closed(uint32_t bridge, struct mr_sink_port *port)
{
    waiting_of(target_stream(bridge, port))->port = NULL;
}

/* ---- life ---- */

static enum mr_err sink_init(void *state, const void *conf_of, struct mr_sink_port *port,
                             struct mr_error *why)
{
    const struct model_conf *conf = conf_of;
    struct sink *s = state;

    (void)why;
    *s = (struct sink){.target = &targets[conf->bridge], .port = port, .bridge = conf->bridge};
    return MR_OK;
}

static enum mr_err sink_open(void *state, struct mr_error *why)
{
    struct sink *s = state;

    if (target_is_away(s->target)) {
        return mr_error_set(why, MR_ERR_AGAIN, "target %u is away", s->bridge);
    }
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
    target_wakes(s->bridge, s->port, target_answer_ns());
    return MR_OK;
}

static void held_remove_first(struct sink *s)
{
    s->held_count -= 1;
    memmove(&s->held[0], &s->held[1], s->held_count * sizeof(s->held[0]));
}

/* ---- at least once ---- */

static void request_put(struct sink *s, void *token, uint32_t count, enum mr_verdict verdict)
{
    int64_t due_ns = target_answer_ns();

    s->requests[s->request_count++] =
        (struct request){.token = token, .count = count, .verdict = verdict, .due_ns = due_ns};
    s->failing = s->failing || verdict != MR_VERDICT_DONE;
    target_wakes(s->bridge, s->port, due_ns);
}

static void deliver(const struct sink *s, const struct mr_record *records, uint32_t count)
{
    bool swap = plan.plant == PLANT_SWAPPING_SINK && count > 1 && chance(100);

    for (uint32_t i = 0; i < count; i++) {
        const struct mr_record *record = &records[swap ? count - 1 - i : i];
        ledger_delivered(target_stream(s->bridge, s->port), record->seq, target_event(record),
                         target_is_marked(record));
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
    bool reject = event_is_rejected(target_event(&records[0]));

    for (uint32_t i = 0; i < count; i++) {
        if (event_is_rejected(target_event(&records[i]))) {
            count = i == 0 ? 1 : i;
        } else {
            poison = poison || event_is_poison(target_event(&records[i]));
        }
    }
    held->next += count;
    if (held->next == batch->record_count) {
        held_remove_first(s);
    }
    if (reject) {
        ledger_rejected(target_stream(s->bridge, s->port), records[0].seq,
                        target_event(&records[0]));
        mr_sink_reject(s->port, batch->token, records[0].seq, "it can never be delivered");
    } else if (poison) {
        if (count == 1) {
            ledger_rejected(target_stream(s->bridge, s->port), records[0].seq,
                            target_event(&records[0]));
        }
        request_put(s, batch->token, count, MR_VERDICT_SUSPECT);
    } else if (target_fails(s->target)) {
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

static void sink_go_on(struct sink *s)
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

static void sink_tick(void *state, int64_t now_ns)
{
    struct sink *s = state;

    (void)now_ns;
    if (target_is_away(s->target)) {
        mr_sink_down(s->port, "it is away");
    } else {
        mr_sink_up(s->port);
    }
    sink_go_on(s);
    if (s->held_count + s->request_count != 0) {
        target_wakes(s->bridge, s->port, target_answer_ns());
    }
}

static void sink_close(void *state, int64_t patience_ns)
{
    struct sink *s = state;

    (void)patience_ns;
    target_closed(s->bridge, s->port);
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

const struct mr_sink_ops plain_sink = {
    .name = "plain",
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
