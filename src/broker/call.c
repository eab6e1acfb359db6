/* call.c - the control plane's questions, answered by the shard that knows.
 *
 * DESIGN
 *
 * A call is a function and its argument on the asker's stack.  The asker pushes it on
 * the shard's stack of calls (one exchange of a pointer), rings the shard and sleeps
 * until it was run.  The shard looks at that pointer only in a turn in which it was
 * woken, so the event path pays nothing for what is not asked.
 *
 * What a call does on the shard is bounded: a page of clients, one client, a batch of
 * records.
 *
 * When a shard ends it closes its stack: calls that were waiting, and those that come
 * later, are told so at once.  Nobody waits for a thread that is gone.
 *
 * Rejected: a mutex around the tables of the shard.  Reading fifteen thousand clients
 * would hold up every device of the shard for as long as the reader takes.
 */
#include "broker/broker_internal.h"
#include "broker/keep_internal.h"

/* ---- the stack ---- */

/* A question of the control plane, on the asker's stack. */
enum call_state { CALL_WAITS, CALL_DONE, CALL_LEFT };
struct shard_call {
    struct shard_call *next;
    void (*run)(struct mr_shard *shard, void *arg);
    void *arg;
    struct mr_wake *done;
    enum mr_err err;
    _Atomic int state; /* LEFT: the shard will not touch it again */
};

static struct shard_call closed_mark;

enum mr_err shard_call_by(struct mr_shard *shard, struct mr_wake *done,
                          void (*run)(struct mr_shard *shard, void *arg), void *arg)
{
    struct shard_call call = {.run = run, .arg = arg, .done = done};
    struct shard_call *first = atomic_load(&shard->calls);

    do {
        if (first == &closed_mark) {
            return MR_ERR_IO;
        }
        call.next = first;
    } while (!atomic_compare_exchange_weak(&shard->calls, &first, &call));
    mr_wake_ring(&shard->wake);
    while (atomic_load_explicit(&call.state, memory_order_acquire) == CALL_WAITS) {
        (void)mr_wake_wait(done, -1);
    }
    /* The ringer may still be inside its ring: it says when it is not. */
    while (atomic_load_explicit(&call.state, memory_order_acquire) < CALL_LEFT) {
    }
    return call.err;
}

enum mr_err shard_call(struct mr_shard *shard, void (*run)(struct mr_shard *shard, void *arg),
                       void *arg)
{
    struct mr_wake done;
    struct mr_error why;

    if (mr_wake_open(&done, &why) != MR_OK) {
        return MR_ERR_AGAIN;
    }
    enum mr_err err = shard_call_by(shard, &done, run, arg);
    mr_wake_close(&done);
    return err;
}

static void call_answer(struct shard_call *call, enum mr_err err)
{
    call->err = err;
    atomic_store_explicit(&call->state, CALL_DONE, memory_order_release);
    mr_wake_ring(call->done);
    atomic_store_explicit(&call->state, CALL_LEFT, memory_order_release);
}

void shard_calls_run(struct mr_shard *shard)
{
    if (MR_LIKELY(atomic_load_explicit(&shard->calls, memory_order_relaxed) == NULL)) {
        return;
    }
    struct shard_call *call = atomic_exchange(&shard->calls, NULL);
    while (call != NULL) {
        struct shard_call *next = call->next;
        call->run(shard, call->arg);
        call_answer(call, MR_OK);
        call = next;
    }
}

void shard_calls_close(struct mr_shard *shard)
{
    struct shard_call *call = atomic_exchange(&shard->calls, &closed_mark);

    while (call != NULL && call != &closed_mark) {
        struct shard_call *next = call->next;
        call_answer(call, MR_ERR_IO);
        call = next;
    }
}

/* ---- clients ---- */

struct clients_page {
    uint32_t slot; /* next to look at; UINT32_MAX: that was the last */
    uint32_t max;
    void (*each)(void *arg, const struct mr_client_info *info);
    void *arg;
};

static void client_show(struct mr_shard *shard, struct mr_conn *conn,
                        const struct clients_page *page)
{
    const struct client *client = mr_conn_user(conn);
    const struct session *session = client->session;

    if (session == NULL) { /* before its CONNECT it is nobody */
        return;
    }
    const struct keep *keep = session->keep;
    const struct outbound *outbound = session->outbound;
    uint64_t age_ticks = shard->tick - client->connected_tick;
    page->each(page->arg,
               &(struct mr_client_info){
                   .client = session_id(session),
                   .username = session_username(session),
                   .peer = mr_conn_peer(conn),
                   .listener = shard->broker->run.listeners[mr_conn_listener(conn)].name,
                   .version = client->version,
                   .connected_us = shard->wall_us - (int64_t)(age_ticks * MR_NET_TICK_NS / 1000),
                   .received = client->received,
                   .sent = client->sent,
                   .inflight = keep != NULL       ? keep->under_way
                               : outbound != NULL ? outbound->count
                                                  : 0,
                   .queued = keep != NULL       ? keep->count - keep->under_way
                             : outbound != NULL ? outbound->queue_count
                                                : 0,
                   .acks_held = mr_acks_held(&client->acks),
                   .paused = mr_conn_is_paused(conn),
               });
}

static void clients_run(struct mr_shard *shard, void *arg)
{
    struct clients_page *page = arg;

    for (uint32_t i = 0; i < page->max; i++) {
        struct mr_conn *conn = mr_net_next(shard->net, &page->slot);
        if (conn == NULL) {
            page->slot = UINT32_MAX;
            return;
        }
        client_show(shard, conn, page);
    }
}

enum mr_err mr_broker_clients(struct mr_broker *broker, uint64_t *at, uint32_t max,
                              void (*each)(void *arg, const struct mr_client_info *info), void *arg)
{
    uint32_t index = (uint32_t)(*at >> 32);
    struct clients_page page = {.slot = (uint32_t)*at, .max = max, .each = each, .arg = arg};

    if (index >= broker_shard_count(broker)) {
        *at = MR_CLIENTS_END;
        return MR_OK;
    }
    enum mr_err err = shard_call(broker_shard(broker, index), clients_run, &page);
    *at = page.slot == UINT32_MAX ? (uint64_t)(index + 1) << 32 : (uint64_t)index << 32 | page.slot;
    if (*at >> 32 == broker_shard_count(broker)) {
        *at = MR_CLIENTS_END;
    }
    return err;
}

/* ---- kick ---- */

struct kick {
    struct mr_span client;
    bool found;
};

static void kick_run(struct mr_shard *shard, void *arg)
{
    struct kick *kick = arg;
    struct session *session = session_find(shard, kick->client);
    struct client_label label;

    if (session == NULL || session->client == NULL) {
        return;
    }
    kick->found = true;
    mr_log(MR_LOG_INFO, "mqtt", "%s is sent away by the operator",
           client_label(session->client, &label));
    if (session->client->version == MR_MQTT_5) {
        send_disconnect(session->client, MR_MQTT_ADMINISTRATIVE_ACTION, NULL);
    }
    client_end(session->client, END_KICKED);
}

enum mr_err mr_broker_kick(struct mr_broker *broker, struct mr_span client, bool *found)
{
    struct kick kick = {.client = client};
    enum mr_err err = MR_OK;

    for (uint32_t i = 0; i < broker_shard_count(broker) && err == MR_OK && !kick.found; i++) {
        err = shard_call(broker_shard(broker, i), kick_run, &kick);
    }
    *found = kick.found;
    return err;
}

/* ---- records of the control plane ---- */

struct appending {
    struct mr_record_raw *records;
    size_t count;
    size_t done;
    uint64_t seq_last;
    enum mr_err err;
};

static void append_run(struct mr_shard *shard, void *arg)
{
    struct appending *appending = arg;
    struct mr_appended at;

    appending->err = shard->stalled || shard->stopping ? MR_ERR_FULL : MR_OK;
    while (appending->done < appending->count && appending->err == MR_OK) {
        appending->err =
            mr_lane_append(shard->lane, &appending->records[appending->done], NULL, &at);
        if (appending->err == MR_OK) {
            appending->done += 1;
            appending->seq_last = at.seq;
        }
    }
}

enum mr_err mr_broker_append(struct mr_broker *broker, uint32_t lane, struct mr_record_raw *records,
                             size_t count, size_t *done, uint64_t *seq_last)
{
    struct appending appending = {.records = records, .count = count};
    enum mr_err err = lane < broker_shard_count(broker)
                          ? shard_call(broker_shard(broker, lane), append_run, &appending)
                          : MR_ERR_REJECT;

    *done = appending.done;
    *seq_last = appending.seq_last;
    return err == MR_OK ? appending.err : err;
}
