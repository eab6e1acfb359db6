/* explain.c - see explain.h for the contract.
 *
 * A bridge of which only the shaping half exists: no journal, cursor, thread or sink
 * state.  Routing and shaping are the functions that the worker calls.
 */
#include "pipeline/explain.h"

#include "base/hash.h"
#include "pipeline/bridge_internal.h"

#include <stdio.h>

struct mr_explain {
    struct mr_bridge bridge;
    struct mr_record record;
    struct put_note note;
};

static const char no_journal[] = "00000000-0000-0000-0000-000000000000";

enum mr_err mr_explain_open(struct mr_explain **out, const struct mr_explain_options *options,
                            struct mr_error *why)
{
    struct mr_explain *explain = mr_alloc(sizeof(*explain));
    struct mr_bridge *b = &explain->bridge;
    struct mr_bridge_options_run run = {
        .name = options->name,
        .lane = options->lane,
        .conf = options->conf,
        .sink = options->sink,
        .sink_conf = options->sink_conf,
    };
    enum mr_err err = mr_bridge_shape_init(b, &run, why);

    if (err != MR_OK) {
        mr_explain_close(explain);
        return err;
    }
    mr_bridge_id_prefix(b, options->journal_id != NULL ? options->journal_id : no_journal);
    *out = explain;
    return MR_OK;
}

void mr_explain_close(struct mr_explain *explain)
{
    if (explain != NULL) {
        mr_bridge_shape_fini(&explain->bridge);
        mr_free(explain);
    }
}

static void explain_send(struct mr_explain *explain, struct mr_explained *out)
{
    const struct mr_record *record = &explain->record;
    const struct mr_route *route = record->route;

    out->fate = MR_EXPLAINED_SEND;
    out->dest = route->dest->name;
    out->key = route->key;
    out->partition_by = route->key.len != 0 ? route->key : route->client;
    out->partition_hash = mr_murmur2(out->partition_by.at, out->partition_by.len) & 0x7fffffffu;
    out->time_ms = record->time_ms;
    out->time_from = explain->bridge.shaping.time == NULL ? MR_EXPLAINED_TIME_RECEIVED
                     : explain->note.time_replaced        ? MR_EXPLAINED_TIME_REPLACED
                                                          : MR_EXPLAINED_TIME_EVENT;
    out->time_reason = explain->note.time_replaced ? explain->note.time_reason : NULL;
    out->headers = record->headers;
    out->header_count = record->header_count;
    out->value = record->value;
}

void mr_explain(struct mr_explain *explain, const struct mr_explain_event *given,
                struct mr_explained *out)
{
    struct mr_bridge *b = &explain->bridge;
    struct mr_event event = {
        .seq = given->seq,
        .received_us = given->received_us,
        .client = given->client,
        .username = given->username,
        .topic = given->topic,
        .properties = given->properties,
        .payload = given->payload,
        .name_id = MR_NAME_NONE, /* its route is made in the span's memory */
        .type = MR_RECORD_EVENT,
        .qos = given->qos,
        .retain = given->retain,
    };
    bool matches;

    b->bytes.head = 0; /* what the last answer borrowed */
    *out = (struct mr_explained){
        .filter = mr_route_filter(&b->options.conf->from, given->topic, &matches)};
    struct route *route = mr_route_of(b, NULL, &event);
    if (route != NULL && route->kind == ROUTE_SKIP) {
        out->fate = MR_EXPLAINED_SKIP;
        out->reason = "no filter of `from` matches the topic";
        return;
    }
    enum put_result result = PUT_NO_ROOM;
    if (route != NULL && route->kind == ROUTE_SEND) {
        explain->record = (struct mr_record){
            .seq = event.seq,
            .time_ms = event.received_us / 1000,
            .route = &route->pub,
            .value = event.payload,
            .payload = event.payload,
            .qos = event.qos,
            .retain = event.retain,
        };
        result = mr_shape_record(b, &event, &explain->record, &explain->note);
    }
    if (result == PUT_DONE) {
        explain_send(explain, out);
        return;
    }
    out->fate = MR_EXPLAINED_DEAD;
    out->reason = route != NULL && route->kind == ROUTE_DEAD ? route->reason
                  : result == PUT_REJECTED                   ? explain->note.reason
                                                             : "it needs more memory than there is";
}
