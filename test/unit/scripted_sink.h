/* scripted_sink.h - for test_pipeline.c: events that are functions of their seq, and a
 * sink that answers as a seeded die says.
 *
 * What the target has is kept as one byte per seq; deliver() checks each record
 * against what its seq says it must be, and the order of first deliveries.
 */
#ifndef MR_TEST_SCRIPTED_SINK_H
#define MR_TEST_SCRIPTED_SINK_H

#include "base/rng.h"
#include "os/clock.h"
#include "pipeline/bridge.h"

#include <stdio.h>

enum { EVENTS = 6000, DEVICES = 23, HELD_MAX = 64, PAYLOAD_MAX = 600 };

/* ---- the events: all a function of their seq ---- */

enum fate { FATE_SEND, FATE_SKIP, FATE_DEAD_ROUTE, FATE_DEAD_REJECT, FATE_DEAD_POISON };

static bool with_faults;       /* rejects and poison are among the events */
static uint64_t seq_to_reject; /* one more */

static uint64_t device_of(uint64_t seq)
{
    return seq * 2654435761u % DEVICES;
}

static enum fate fate_of(uint64_t seq)
{
    if (device_of(seq) == 3) {
        return FATE_SKIP; /* its topic does not match `from` */
    }
    if (device_of(seq) == 5) {
        return FATE_DEAD_ROUTE; /* its topic has no level 2 */
    }
    if (seq == seq_to_reject || (with_faults && seq % 389 == 7)) {
        return FATE_DEAD_REJECT;
    }
    return with_faults && seq % 977 == 11 ? FATE_DEAD_POISON : FATE_SEND;
}

static inline bool is_dead(uint64_t seq)
{
    return fate_of(seq) >= FATE_DEAD_ROUTE;
}

static size_t payload_of(uint64_t seq, uint8_t out[PAYLOAD_MAX])
{
    size_t len = seq % 101 == 0 ? 0 : 8 + seq * 31 % 500;

    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(i < 8 ? seq >> (8 * i) : seq * 7 + i);
    }
    return len;
}

static void names_of(uint64_t seq, char client[32], char topic[64])
{
    uint64_t device = device_of(seq);

    snprintf(client, 32, "device-%llu", (unsigned long long)device);
    if (device == 3) {
        snprintf(topic, 64, "debug/%llu", (unsigned long long)device);
    } else if (device == 5) {
        snprintf(topic, 64, "sensors/%llu", (unsigned long long)device);
    } else {
        snprintf(topic, 64, "sensors/%llu/kind%llu", (unsigned long long)device,
                 (unsigned long long)(device % 4));
    }
}

static struct mr_wake owner;

struct event_memory {
    uint8_t payload[PAYLOAD_MAX];
    char client[32];
    char topic[64];
};

static struct mr_record_raw event_of(uint64_t seq, struct event_memory *memory)
{
    names_of(seq, memory->client, memory->topic);
    return (struct mr_record_raw){
        .type = MR_RECORD_EVENT,
        .received_us = 1700000000000000 + (int64_t)seq * 1000,
        .client = mr_span_of(memory->client),
        .username = mr_span_of(device_of(seq) % 2 == 0 ? "operator" : ""),
        .topic = mr_span_of(memory->topic),
        .payload = mr_span_make(memory->payload, payload_of(seq, memory->payload)),
        .qos = 1,
    };
}

static inline void append_all(struct mr_lane *lane, uint64_t from, uint64_t to)
{
    struct event_memory memory;
    struct mr_appended out;

    for (uint64_t seq = from; seq <= to; seq++) {
        struct mr_record_raw record = event_of(seq, &memory);
        while (mr_lane_append(lane, &record, NULL, &out) == MR_ERR_FULL) {
            mr_lane_submit(lane, mr_clock_mono_ns());
            mr_wake_wait(&owner, 1000000);
            mr_lane_release(lane, mr_lane_durable(lane));
        }
        mr_assert(out.seq == seq);
        if (seq % 50 == 0) {
            mr_lane_submit(lane, mr_clock_mono_ns());
        }
    }
    while (mr_lane_durable(lane) < to) {
        mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
    }
    mr_lane_release(lane, to);
}

/* ---- the sink ---- */

/* What the target has, by seq; the model everything is checked against. */
static uint8_t delivered[EVENTS * 2 + 1];
static uint8_t backfilled[EVENTS * 2 + 1]; /* it came marked as of a backlog */
static uint64_t newest_of[2][DEVICES];     /* highest seq delivered of a device; [1]: as backfill */

struct scripted_conf {
    const char *topic;
    const char *key;
    uint32_t encoder;
    uint32_t headers;
    uint32_t dests_max;
    unsigned full_percent;
    unsigned retry_per_mille; /* of requests */
    bool hold;                /* settle nothing */
    bool varies;              /* the key ends in '/' and the receive time */
};

struct held {
    const struct mr_batch *batch;
    uint32_t next; /* record to deliver next */
};

struct scripted {
    const struct scripted_conf *conf;
    struct mr_sink_port *port;
    struct mr_rng rng;
    struct held held[HELD_MAX];
    uint32_t held_count;
    bool failing;
    uint64_t refusals;
};

static uint64_t die_seed;
static struct scripted *scripted_now; /* for the tests to look into */

static enum mr_err scripted_init(void *state, const void *conf, struct mr_sink_port *port,
                                 struct mr_error *why)
{
    struct scripted *s = state;

    (void)why;
    s->conf = conf;
    s->port = port;
    mr_rng_seed(&s->rng, die_seed);
    scripted_now = s;
    return MR_OK;
}

static enum mr_err scripted_open(void *state, struct mr_error *why)
{
    struct scripted *s = state;

    (void)why;
    mr_sink_up(s->port);
    return MR_OK;
}

static void check_json(const struct mr_record *record)
{
    char expected[128];
    int len = snprintf(expected, sizeof(expected), "{\"ts\":%lld,\"received\":%lld,\"client\":\"",
                       (long long)record->time_ms, (long long)record->time_ms);

    mr_assert(record->value.len > (size_t)len);
    mr_assert(memcmp(record->value.at, expected, (size_t)len) == 0);
    mr_assert(record->value.at[record->value.len - 1] == '}');
}

/* Is it marked as of a backlog that fresh events have overtaken?  That is the last header. */
static bool is_backfill(const struct mr_record *record)
{
    const struct mr_header *last = record->headers;

    if (record->header_count == 0) {
        return false;
    }
    last += record->header_count - 1;
    bool is = mr_span_is(last->name, MR_BACKFILL_HEADER);
    mr_assert(!is || mr_span_is(last->value, "1"));
    return is;
}

static void check_headers(const struct scripted *s, const struct mr_record *record, bool backfill)
{
    uint16_t own = record->header_count - backfill;

    if (s->conf->headers == MR_HEADERS_FULL) {
        char client[32];
        char topic[64];
        names_of(record->seq, client, topic);
        mr_assert(own == 5);
        mr_assert(mr_span_is(record->headers[1].value, topic));
        mr_assert(mr_span_is(record->headers[4].value, client));
    }
    if (s->conf->headers == MR_HEADERS_ID || s->conf->headers == MR_HEADERS_FULL) {
        char tail[32];
        int tail_len = snprintf(tail, sizeof(tail), "-0-%llu", (unsigned long long)record->seq);
        mr_assert(own == (s->conf->headers == MR_HEADERS_ID ? 1 : 5));
        mr_assert(strcmp((const char *)record->headers[0].name.at, "millrace_id") == 0);
        struct mr_span value = record->headers[0].value;
        mr_assert(value.len == 36 + (size_t)tail_len);
        mr_assert(memcmp(value.at + 36, tail, (size_t)tail_len) == 0);
    }
}

/* Is the record what its seq says?  Then the target has it. */
static void deliver(struct scripted *s, const struct mr_record *record)
{
    uint8_t payload[PAYLOAD_MAX];
    char client[32];
    char topic[64];
    char dest[64];
    uint64_t device = device_of(record->seq);
    size_t len = payload_of(record->seq, payload);

    names_of(record->seq, client, topic);
    snprintf(dest, sizeof(dest), "t_kind%llu", (unsigned long long)(device % 4));
    mr_assert(record->time_ms == 1700000000000 + (int64_t)record->seq);
    mr_assert(strcmp(record->route->dest->name, dest) == 0);
    char key[64];
    snprintf(key, sizeof(key), "%s/%llu", client, 1700000000000 + (unsigned long long)record->seq);
    mr_assert(mr_span_is(record->route->key, s->conf->varies ? key : client));
    mr_assert(!s->conf->varies || record->route->partition == -1);
    mr_assert(mr_span_is(record->route->client, client));
    mr_assert(mr_span_is(record->route->topic, topic));
    mr_assert(mr_span_equal(record->payload, mr_span_make(payload, len)));
    if (s->conf->encoder == MR_VALUE_JSON) {
        check_json(record);
    } else {
        mr_assert(mr_span_equal(record->value, record->payload));
    }
    bool backfill = is_backfill(record);
    check_headers(s, record, backfill);
    if (!delivered[record->seq]) {
        mr_assert(record->seq > newest_of[backfill][device]); /* first deliveries in order */
        newest_of[backfill][device] = record->seq;
        delivered[record->seq] = 1;
        backfilled[record->seq] = backfill;
    }
}

static void held_remove(struct scripted *s, uint32_t index)
{
    s->held_count -= 1;
    memmove(&s->held[index], &s->held[index + 1], (s->held_count - index) * sizeof(s->held[0]));
}

/* Send the next few records of one batch as one request. */
static void scripted_request(struct scripted *s, uint32_t index)
{
    struct held *held = &s->held[index];
    const struct mr_batch *batch = held->batch;
    uint32_t left = batch->record_count - held->next;
    uint32_t count = 1 + (uint32_t)mr_rng_below(&s->rng, left);
    const struct mr_record *records = &batch->records[held->next];
    bool poison = false;

    for (uint32_t i = 0; i < count; i++) {
        poison = poison || fate_of(records[i].seq) == FATE_DEAD_POISON;
        if (fate_of(records[i].seq) == FATE_DEAD_REJECT) {
            count = i == 0 ? 1 : i;
        }
    }
    held->next += count;
    bool last = held->next == batch->record_count;
    if (fate_of(records[0].seq) == FATE_DEAD_REJECT) {
        mr_sink_reject(s->port, batch->token, records[0].seq, "rejected by the die");
    } else if (poison) {
        s->failing = true;
        s->refusals += 1;
        mr_sink_settle(s->port, batch->token, count, MR_VERDICT_SUSPECT, "poison");
    } else if (mr_rng_below(&s->rng, 1000) < s->conf->retry_per_mille) {
        s->failing = true;
        mr_sink_settle(s->port, batch->token, count, MR_VERDICT_RETRY, "the die says no");
    } else {
        for (uint32_t i = 0; i < count; i++) {
            deliver(s, &records[i]);
        }
        mr_sink_settle(s->port, batch->token, count, MR_VERDICT_DONE, NULL);
    }
    if (last) {
        held_remove(s, index);
    }
}

/* After a failure: give everything back. */
static void scripted_give_back(struct scripted *s)
{
    while (s->held_count != 0) {
        uint32_t index = (uint32_t)mr_rng_below(&s->rng, s->held_count);
        const struct held *held = &s->held[index];
        mr_sink_settle(s->port, held->batch->token, held->batch->record_count - held->next,
                       MR_VERDICT_RETRY, NULL);
        held_remove(s, index);
    }
    s->failing = false;
}

static enum mr_err scripted_submit(void *state, const struct mr_batch *batch)
{
    struct scripted *s = state;

    mr_assert(!s->failing || s->held_count == 0); /* nothing new until all is given back */
    s->failing = false;
    if (s->held_count == HELD_MAX || mr_rng_below(&s->rng, 100) < s->conf->full_percent) {
        return MR_ERR_FULL;
    }
    mr_assert(batch->record_count > 0 && batch->lane == 0);
    mr_assert(batch->records[0].seq >= batch->seq_first);
    mr_assert(batch->records[batch->record_count - 1].seq <= batch->seq_last);
    s->held[s->held_count++] = (struct held){.batch = batch};
    return MR_OK;
}

static void scripted_tick(void *state, int64_t now_ns)
{
    struct scripted *s = state;

    (void)now_ns;
    if (s->failing) {
        if (mr_rng_below(&s->rng, 2) == 0) {
            scripted_give_back(s);
        }
        return;
    }
    /* The oldest batch goes first, so a device's records stay in order. */
    for (uint64_t n = mr_rng_below(&s->rng, 6);
         n != 0 && s->held_count != 0 && !s->failing && !s->conf->hold; n--) {
        scripted_request(s, 0);
    }
}

static void scripted_close(void *state, int64_t patience_ns)
{
    struct scripted *s = state;

    (void)patience_ns;
    s->held_count = 0; /* what is unsettled counts as RETRY */
    s->failing = false;
}

static void scripted_fini(void *state)
{
    (void)state;
}

static const char *scripted_refused(struct mr_span name)
{
    return name.len > 40 ? "is too long" : NULL;
}

static void scripted_shape(const void *conf_of, struct mr_shape *out)
{
    const struct scripted_conf *conf = conf_of;

    *out = (struct mr_shape){
        .dest_template = conf->topic,
        .dest_option = "topic",
        .key_template = conf->key,
        .key_option = "key",
        .value_encoder = (enum mr_value_encoder)conf->encoder,
        .headers = (enum mr_headers)conf->headers,
        .dests_max = conf->dests_max == 0 ? 10 : conf->dests_max,
        .dest_refused = scripted_refused,
    };
}

static const struct mr_sink_ops scripted_sink = {
    .name = "scripted",
    .state_size = sizeof(struct scripted),
    .conf_size = sizeof(struct scripted_conf),
    .shape = scripted_shape,
    .init = scripted_init,
    .open = scripted_open,
    .submit = scripted_submit,
    .tick = scripted_tick,
    .close = scripted_close,
    .fini = scripted_fini,
};

#endif
