/* broker.c - open, start, stop; see broker.h for the contract.
 *
 * One shard in this version: the journal must have one lane.  With several, a
 * connection moves to the shard of its client id after CONNECT; nothing here is
 * shared between shards but this file's structure, which is constant while they
 * run.
 */
#include "broker/broker_internal.h"

#include "os/clock.h"
#include "os/process.h"

enum {
    MEMORY_DEFAULT = 256 << 20,
    MEMORY_LEAST = 4 << 20,
    DESCRIPTORS_RESERVED = 128, /* journal, sinks, admin, logs */
    CONNECTIONS_LEAST = 16,
    GATE_ENTRY_SHARE = 4096, /* one entry per so many bytes of memory */
    GATE_ENTRIES_LEAST = 1024,
    GATE_ENTRIES_MOST = 1 << 20,
};

static bool address_is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0 ||
           strncmp(address, "localhost:", 10) == 0;
}

static uint32_t connections_max(void)
{
    uint64_t descriptors = mr_descriptors_raise();
    uint64_t most = descriptors > DESCRIPTORS_RESERVED + CONNECTIONS_LEAST
                        ? descriptors - DESCRIPTORS_RESERVED
                        : CONNECTIONS_LEAST;

    return most > 1 << 24 ? 1 << 24 : (uint32_t)most;
}

static uint32_t gate_entries(uint64_t memory_bytes)
{
    uint32_t entries = GATE_ENTRIES_LEAST;

    while (entries < GATE_ENTRIES_MOST && entries < memory_bytes / GATE_ENTRY_SHARE) {
        entries *= 2;
    }
    return entries;
}

static enum mr_err exclude_check(const struct mr_list *exclude, struct mr_error *why)
{
    for (size_t i = 0; i < exclude->count; i++) {
        const char *fault = mr_topic_filter_fault(mr_span_of(exclude->items[i]));
        if (fault != NULL) {
            return mr_error_set(why, MR_ERR_CONFIG, "journal.exclude: '%s' is no topic filter: %s",
                                exclude->items[i], fault);
        }
    }
    return MR_OK;
}

static enum mr_err listeners_open(struct mr_broker *broker, struct mr_error *why)
{
    struct mr_shard *shard = broker->shard;

    if (broker->run.listener_count > MR_NET_LISTENERS_MAX) {
        return mr_error_set(why, MR_ERR_CONFIG, "%zu listeners; at most %d are possible",
                            broker->run.listener_count, MR_NET_LISTENERS_MAX);
    }
    for (uint32_t i = 0; i < broker->run.listener_count; i++) {
        struct broker_listener *listener = &broker->listeners[i];
        struct mr_listen_options options = {.reuse_port = false};
        int fd = -1;

        listener->conf = &broker->run.listeners[i];
        listener->anonymous = listener->conf->allow_anonymous == MR_ANONYMOUS_TRUE ||
                              (listener->conf->allow_anonymous == MR_ANONYMOUS_AUTO &&
                               address_is_loopback(listener->conf->bind));
        enum mr_err err =
            mr_socket_listen(listener->conf->bind, &options, &fd, &listener->bound, why);
        if (err == MR_OK) {
            err = mr_net_listen(shard->net, fd, i, listener->conf->max_connections, why);
            if (err != MR_OK) {
                mr_socket_close(fd);
            }
        }
        if (err != MR_OK) {
            return err;
        }
        if (!listener->anonymous) {
            mr_log(MR_LOG_WARN, "mqtt",
                   "listener '%s' on %s refuses everyone: authentication is not configured and "
                   "`allow_anonymous` is not true",
                   listener->conf->name != NULL ? listener->conf->name : "mqtt",
                   listener->bound.text);
        }
    }
    return MR_OK;
}

static enum mr_err shard_open(struct mr_broker *broker, struct mr_error *why)
{
    struct mr_shard *shard = mr_alloc(sizeof(*shard));
    uint64_t memory = broker->run.memory_bytes;
    enum mr_err err;

    broker->shard = shard;
    shard->broker = broker;
    shard->limits = broker->limits;
    shard->wake.fd = -1;
    shard->lane = mr_journal_lane(broker->run.journal, 0);
    mr_bufpool_init(&shard->pool, memory, memory / 8);
    mr_os_random(&shard->key, sizeof(shard->key));
    shard->subtree =
        mr_subtree_open(&shard->pool, &shard->key, (uint32_t)broker->limits.max_topic_levels);
    shard_metrics_make(shard, 0);
    err = mr_ackgate_open(&shard->gate, &shard->pool, gate_entries(memory));
    mr_assert(err == MR_OK);
    err = mr_loop_open(&shard->loop, why);
    if (err != MR_OK) {
        return err;
    }
    err = mr_wake_open(&shard->wake, why);
    if (err != MR_OK) {
        shard->wake.fd = -1;
        return err;
    }
    struct mr_net_options options = {.loop = shard->loop,
                                     .pool = &shard->pool,
                                     .user_bytes = sizeof(struct client),
                                     .connections_max = connections_max(),
                                     .handler = &client_handler,
                                     .arg = shard};
    shard->seq_released = mr_lane_durable(shard->lane);
    shard->start_ns = mr_clock_mono_ns();
    shard->now_ns = shard->start_ns;
    shard->wall_us = mr_clock_wall_us();
    shard->tick = 1;
    return mr_net_open(&shard->net, &options, why);
}

enum mr_err mr_broker_open(struct mr_broker **out, const struct mr_broker_run *run,
                           struct mr_error *why)
{
    uint32_t lanes = mr_journal_lane_count(run->journal);

    *out = NULL;
    if (lanes != 1) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "the journal has %u lanes and this version runs one shard; set "
                            "`gateway.shards: 1` with a new journal",
                            lanes);
    }
    enum mr_err err = exclude_check(&run->journal_exclude, why);
    if (err != MR_OK) {
        return err;
    }
    struct mr_broker *broker = mr_alloc(sizeof(*broker));
    broker->run = *run;
    broker->limits = run->limits;
    atomic_store(&broker->log_connections, run->log_connections);
    if (broker->run.memory_bytes == 0) {
        broker->run.memory_bytes = MEMORY_DEFAULT;
    }
    if (broker->run.memory_bytes < MEMORY_LEAST) {
        broker->run.memory_bytes = MEMORY_LEAST;
    }
    broker->listeners = mr_alloc((run->listener_count + 1) * sizeof(*broker->listeners));
    err = shard_open(broker, why);
    if (err == MR_OK) {
        err = listeners_open(broker, why);
    }
    if (err != MR_OK) {
        mr_broker_close(broker);
        return err;
    }
    mr_lane_set_owner(broker->shard->lane, &broker->shard->wake);
    *out = broker;
    return MR_OK;
}

enum mr_err mr_broker_start(struct mr_broker *broker, struct mr_error *why)
{
    mr_assert(broker->shard->thread == NULL);
    return mr_thread_start(&broker->shard->thread, "shard-0", shard_run, broker->shard, why);
}

enum mr_err mr_broker_failed(struct mr_broker *broker, struct mr_error *why)
{
    enum mr_err err = (enum mr_err)atomic_load(&broker->failed);

    if (err != MR_OK && why != NULL) {
        *why = broker->failure;
    }
    return err;
}

void mr_broker_stop(struct mr_broker *broker, int64_t patience_ns)
{
    struct mr_shard *shard = broker->shard;

    if (shard->thread == NULL) {
        return;
    }
    atomic_store(&broker->stop_deadline_ns, mr_clock_mono_ns() + patience_ns);
    atomic_store_explicit(&broker->stop, true, memory_order_release);
    mr_wake_ring(&shard->wake);
    mr_thread_join(shard->thread);
    shard->thread = NULL;
}

/* What connections that net closes without a word still hold. */
static void shard_forget(void *arg, struct mr_conn *conn)
{
    struct mr_shard *shard = arg;
    struct client *client = mr_conn_user(conn);

    mr_acks_drop(shard->gate, &client->acks);
    topics_drop(client);
    aliases_drop(client);
    if (client->session != NULL) {
        if (client->session->will != NULL) {
            stored_free(&shard->pool, client->session->will);
            client->session->will = NULL;
        }
        session_free(shard, client->session);
    }
}

static void stored_free_all(struct mr_bufpool *pool, struct stored **first, struct stored **last)
{
    struct stored *stored;

    while ((stored = stored_pop(first, last)) != NULL) {
        stored_free(pool, stored);
    }
}

static void shard_close(struct mr_shard *shard)
{
    shard_calls_close(shard); /* of one that never ran */
    if (shard->net != NULL) {
        mr_net_each(shard->net, shard_forget, shard);
        mr_net_close(shard->net);
    }
    stored_free_all(&shard->pool, &shard->pending_first, &shard->pending_last);
    stored_free_all(&shard->pool, &shard->wills_first, &shard->wills_last);
    mr_ackgate_close(shard->gate);
    mr_subtree_close(shard->subtree);
    mr_free(shard->sessions);
    mr_bufpool_fini(&shard->pool);
    if (shard->loop != NULL) {
        mr_loop_close(shard->loop);
    }
    if (shard->wake.fd >= 0) {
        mr_lane_set_owner(shard->lane, NULL);
        mr_wake_close(&shard->wake);
    }
    mr_free(shard);
}

void mr_broker_close(struct mr_broker *broker)
{
    if (broker == NULL) {
        return;
    }
    mr_broker_stop(broker, 0);
    shard_close(broker->shard);
    mr_free(broker->listeners);
    mr_free(broker);
}

const char *mr_broker_bound_address(const struct mr_broker *broker, size_t index)
{
    mr_assert(index < broker->run.listener_count);
    return broker->listeners[index].bound.text;
}

static uint64_t stat_load(const _Atomic uint64_t *stat)
{
    return atomic_load_explicit(stat, memory_order_relaxed);
}

void mr_broker_stats(const struct mr_broker *broker, struct mr_broker_stats *out)
{
    const struct shard_stats *s = &broker->shard->stats;

    *out = (struct mr_broker_stats){.connections = stat_load(&s->connections),
                                    .connections_total = stat_load(&s->connections_total),
                                    .publishes_received = stat_load(&s->publishes_received),
                                    .publishes_sent = stat_load(&s->publishes_sent),
                                    .messages_dropped = stat_load(&s->dropped),
                                    .subscriptions = stat_load(&s->subscriptions),
                                    .acks_withheld = stat_load(&s->withheld),
                                    .connections_paused = stat_load(&s->paused),
                                    .bytes_received = stat_load(&s->bytes_received),
                                    .bytes_sent = stat_load(&s->bytes_sent)};
}
