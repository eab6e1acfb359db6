/* broker.c - open, start, stop; see broker.h for the contract.
 *
 * One shard per lane of the journal.  All of them listen on every address, and the
 * kernel spreads the connections (SO_REUSEPORT); a connection moves to the shard of its
 * client id after CONNECT (mailbox.c).  What is in this file's structure is constant
 * while they run, the limits of connections and the mailboxes excepted.
 *
 * Memory is shared equally: the hash of the client ids spreads sessions evenly, and a
 * pool that several threads took from would need a lock.
 */
#include "broker/gates_internal.h"
#include "broker/keep_internal.h"
#include "broker/layout_internal.h"
#include "broker/login_internal.h"
#include "broker/outgoing_internal.h"

#include "os/clock.h"
#include "os/file.h"
#include "os/process.h"

enum {
    MEMORY_DEFAULT = 256 << 20,
    MEMORY_LEAST = 4 << 20,
    DESCRIPTORS_RESERVED = 128, /* journal, sinks, admin, logs */
    DESCRIPTORS_LEFT = 32,      /* ... even if they need more than that */
    CONNECTIONS_LEAST = 16,
    MOVING_SHARE = 16,       /* of a shard's memory, for connections on their way to others */
    GATE_ENTRY_SHARE = 4096, /* one entry per so many bytes of memory */
    GATE_ENTRIES_LEAST = 1024,
    GATE_ENTRIES_MOST = 1 << 20,
};

static uint32_t connections_max(void)
{
    uint64_t descriptors = mr_descriptors_raise();
    uint64_t most = descriptors > DESCRIPTORS_RESERVED + CONNECTIONS_LEAST
                        ? descriptors - DESCRIPTORS_RESERVED
                        : CONNECTIONS_LEAST;

    return most > 1 << 24 ? 1 << 24 : (uint32_t)most;
}

/* Whatever else takes descriptors, some are left for it: the number of a new one says how
 * many there are below it.
 */
static uint32_t descriptors_max(void)
{
    uint64_t descriptors = mr_descriptors_raise();

    return descriptors <= 2 * DESCRIPTORS_LEFT || descriptors > UINT32_MAX
               ? 0
               : (uint32_t)descriptors - DESCRIPTORS_LEFT;
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

/* The shards' loops are of one kind, and a line says of which. */
static enum mr_err shard_loop_open(struct mr_shard *shard, struct mr_error *why)
{
    enum mr_loop_choice choice = shard->broker->run.loop;
    struct mr_error cause;
    enum mr_err err = mr_loop_open(&shard->loop, why);

    if (err != MR_OK || choice == MR_LOOP_EPOLL) {
        return err;
    }
    err = mr_loop_batch_sends(shard->loop, &cause);
    if (err != MR_OK && choice == MR_LOOP_IO_URING) {
        return mr_error_set(why, err, "gateway.loop: %s.  With auto it would do without",
                            cause.text);
    }
    if (shard->index == 0) {
        mr_log(MR_LOG_INFO, "net", "sockets are served by epoll%s%s",
               err == MR_OK ? ", and what is sent leaves by io_uring" : " alone: ",
               err == MR_OK ? "" : cause.text);
    }
    return MR_OK;
}

static enum mr_err shard_open(struct mr_broker *broker, uint32_t index, struct mr_error *why)
{
    struct mr_shard *shard = mr_alloc(sizeof(*shard));
    uint64_t memory = broker->run.memory_bytes / broker->shard_count;
    enum mr_err err;

    memory = memory < MEMORY_LEAST ? MEMORY_LEAST : memory;
    broker->shards[index] = shard;
    uint64_t moving = broker->shard_count > 1 ? memory / MOVING_SHARE : 0;
    shard_state_open(shard, broker, index, memory - moving);
    shard->refuses = broker->run.refuse_when_full;
    if (broker->shard_count > 1) {
        shard->moving_max = moving / (broker->shard_count - 1);
        shard->interest = mr_alloc(sizeof(*shard->interest));
        shard->interest->key = broker->interest_key;
        shard->interest->version = &broker->interest_version;
        mr_subtree_show(shard->subtree, shard->interest);
    }
    shard_metrics_make(shard, index);
    err = shard_loop_open(shard, why);
    if (err != MR_OK) {
        return err;
    }
    err = mr_wake_open(&shard->wake, why);
    if (err != MR_OK) {
        shard->wake.fd = -1;
        return err;
    }
    err = gates_open(shard, gate_entries(memory), why);
    if (err != MR_OK) {
        return err;
    }
    mr_auth_port_open(&shard->auth_port, &shard->wake);
    struct mr_net_options options = {.loop = shard->loop,
                                     .pool = &shard->pool,
                                     .user_bytes = sizeof(struct client),
                                     .connections_max = connections_max(),
                                     .descriptors_max = descriptors_max(),
                                     .shared = broker->shard_count > 1 ? &broker->net_shared : NULL,
                                     .handler = &client_handler,
                                     .arg = shard};
    shard->seq_released = mr_lane_durable(shard->lane);
    shard->seq_begin = shard->seq_released;
    shard->start_ns = mr_clock_mono_ns();
    clock_begin(shard);
    shard->tick = 1;
    systree_open(shard);
    return mr_net_open(&shard->net, &options, why);
}

/* The session store and its cursor, then what they and the own lane remember. */
static enum mr_err shard_load(struct mr_shard *shard, struct restored *out, struct mr_error *why)
{
    const struct mr_broker_run *run = &shard->broker->run;
    char path[SESSIONS_PATH_BYTES];
    bool is_new = false;

    if (run->sessions_path != NULL) {
        layout_path(path, run->sessions_path, false, shard->index);
        enum mr_err err = mr_store_open(
            &shard->store, &(struct mr_store_options){.path = path, .owner = &shard->wake}, why);
        if (err == MR_OK) {
            err = mr_cursor_open(run->journal, SESSIONS_CURSOR, shard->index, MR_START_OLDEST,
                                 &shard->cursor, &is_new, why);
        }
        if (err != MR_OK) {
            return err;
        }
        err = foreign_cursors_open(shard, why);
        if (err != MR_OK) {
            return err;
        }
    }
    return restore(shard, out, why);
}

/* The state of all shards; one step of all of them after the other (restore.c). */
static enum mr_err sessions_load(struct mr_broker *broker, struct mr_error *why)
{
    struct restored *restored = mr_alloc(broker->shard_count * sizeof(*restored));
    enum mr_err err = MR_OK;

    for (uint32_t i = 0; i < broker->shard_count && err == MR_OK; i++) {
        mr_lane_set_owner(broker->shards[i]->lane, &broker->shards[i]->wake);
        err = shard_load(broker->shards[i], &restored[i], why);
    }
    for (uint32_t i = 0; i < broker->shard_count && err == MR_OK; i++) {
        restore_others(broker->shards[i], &restored[i]);
    }
    for (uint32_t i = 0; i < broker->shard_count && err == MR_OK; i++) {
        restore_end(broker->shards[i], &restored[i]);
        shard_metrics_update(broker->shards[i]); /* true before the first turn, too */
    }
    mr_free(restored);
    return err;
}

/* Cursors of shards that are no more would hold the segments of their lanes, and of ours,
 * for ever.  Their sessions are elsewhere: rehome() has seen to that.
 */
static enum mr_err cursors_tidy(const struct mr_broker *broker, struct mr_error *why)
{
    if (broker->run.sessions_path == NULL ||
        mr_cursor_forget_unopened(broker->run.journal, SESSIONS_CURSOR) == MR_OK) {
        return MR_OK;
    }
    return mr_error_set(why, MR_ERR_IO,
                        "the journal's cursors cannot be written: %s; check the disk",
                        mr_file_last_cause());
}

enum mr_err mr_broker_open(struct mr_broker **out, const struct mr_broker_run *run,
                           struct mr_error *why)
{
    *out = NULL;
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
    broker->guard = mr_guard_open();
    broker->crowd = crowd_open();
    mr_guard_set(broker->guard, &broker->limits.ban, &broker->limits.flapping);
    broker->listeners = mr_alloc((run->listener_count + 1) * sizeof(*broker->listeners));
    broker->shard_count = mr_journal_lane_count(run->journal);
    broker->epoch = mr_journal_epoch(run->journal);
    mr_assert(broker->shard_count <= SHARDS_MAX);
    broker->shards = mr_alloc(broker->shard_count * sizeof(struct mr_shard *));
    broker->mailboxes =
        mr_alloc((size_t)broker->shard_count * broker->shard_count * sizeof(*broker->mailboxes));
    broker->foreign_stored = mr_alloc((size_t)broker->shard_count * broker->shard_count *
                                      sizeof(*broker->foreign_stored));
    mr_mutex_init(&broker->foreign_mutex);
    broker->cleared_mark = broker->shard_count > 1 ? cleared_mark_new() : NULL;
    mr_os_random(&broker->interest_key, sizeof(broker->interest_key));
    atomic_store(&broker->interest_version, 1);
    broker->shares = shares_open(broker->run.memory_bytes);
    broker->net_shared.connections_max = connections_max();
    err = gates_choose(broker, why);
    for (uint32_t i = 0; i < broker->shard_count && err == MR_OK; i++) {
        err = shard_open(broker, i, why);
    }
    if (err == MR_OK) {
        err = listeners_limit(broker, why);
    }
    if (err == MR_OK) {
        err = policy_open(broker, why);
    }
    if (err == MR_OK) {
        err = listeners_open(broker, why);
    }
    if (err == MR_OK) {
        err = rehome(broker, why);
    }
    if (err == MR_OK) {
        err = sessions_load(broker, why);
    }
    if (err == MR_OK) {
        err = cursors_tidy(broker, why);
    }
    if (err != MR_OK) {
        mr_broker_close(broker);
        return err;
    }
    *out = broker;
    return MR_OK;
}

enum mr_err mr_broker_start(struct mr_broker *broker, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    for (uint32_t i = 0; i < broker->shard_count && err == MR_OK; i++) {
        char name[16];
        struct mr_text text = mr_text_over(name, sizeof(name));

        mr_assert(broker->shards[i]->thread == NULL);
        mr_text_fmt(&text, "shard-%u", i);
        err = mr_thread_start(&broker->shards[i]->thread, name, shard_run, broker->shards[i], why);
    }
    return err;
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
    atomic_store(&broker->stop_deadline_ns, mr_clock_mono_ns() + patience_ns);
    shares_stop(broker->shares);
    atomic_store_explicit(&broker->stop, true, memory_order_release);
    for (uint32_t i = 0; i < broker->shard_count; i++) {
        if (broker->shards[i] != NULL && broker->shards[i]->thread != NULL) {
            mr_wake_ring(&broker->shards[i]->wake);
        }
    }
    for (uint32_t i = 0; i < broker->shard_count; i++) {
        if (broker->shards[i] != NULL && broker->shards[i]->thread != NULL) {
            mr_thread_join(broker->shards[i]->thread);
            broker->shards[i]->thread = NULL;
        }
    }
}

/* What connections that net closes without a word still hold. */
static void shard_forget(void *arg, struct mr_conn *conn)
{
    struct mr_shard *shard = arg;
    struct client *client = mr_conn_user(conn);

    mr_acks_drop(shard->gates[GATE_DISK], &client->acks);
    topics_drop(client);
    limits_end(client);
    aliases_drop(client);
    alias_out_drop(client);
    login_drop(client);
}

static void stored_free_all(struct mr_bufpool *pool, struct stored **first, struct stored **last)
{
    struct stored *stored;

    while ((stored = stored_pop(first, last)) != NULL) {
        if (stored->group != NULL) {
            share_group_drop(stored->group);
        }
        stored_free(pool, stored);
    }
}

static void shard_close(struct mr_shard *shard)
{
    if (shard == NULL) {
        return;
    }
    shard_calls_close(shard); /* of one that never ran */
    if (shard->net != NULL) {
        mr_net_each(shard->net, shard_forget, shard);
        shard->stopping = true;
        logins_take(shard);
        mr_net_close(shard->net);
    }
    shard_sessions_close(shard);
    if (shard->auth_port.wake != NULL) {
        mr_auth_port_close(&shard->auth_port);
    }
    share_lanes_close(shard);
    share_close(shard);
    stored_free_all(&shard->pool, &shard->pending_first, &shard->pending_last);
    stored_free_all(&shard->pool, &shard->wills_first, &shard->wills_last);
    foreign_close(shard);
    policy_close(shard);
    gates_close(shard);
    systree_close(shard);
    shard_state_close(shard);
    mr_free(shard->interest);
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
    if (broker->auth != NULL) {
        mr_auth_stop(broker->auth); /* what was asked goes back to the shards */
    }
    mailboxes_close(broker);
    for (uint32_t i = 0; i < broker->shard_count; i++) {
        shard_close(broker->shards[i]);
    }
    shares_close(broker->shares);
    mr_free(broker->shards);
    mr_free(broker->foreign_stored);
    mr_mutex_fini(&broker->foreign_mutex);
    cleared_mark_free(broker->cleared_mark);
    mr_auth_close(broker->auth);
    mr_guard_close(broker->guard);
    crowd_close(broker->crowd);
    listeners_close(broker);
    mr_free(broker);
}

static uint64_t stat_load(const _Atomic uint64_t *stat)
{
    return atomic_load_explicit(stat, memory_order_relaxed);
}

void mr_broker_stats(const struct mr_broker *broker, struct mr_broker_stats *out)
{
    *out = (struct mr_broker_stats){.connections = 0};
    for (uint32_t i = 0; i < broker->shard_count; i++) {
        const struct shard_stats *s = &broker->shards[i]->stats;

        out->connections += stat_load(&s->connections);
        out->connections_total += stat_load(&s->connections_total);
        out->publishes_received += stat_load(&s->publishes_received);
        out->publishes_sent += stat_load(&s->publishes_sent);
        out->messages_dropped += stat_load(&s->dropped);
        out->subscriptions += stat_load(&s->subscriptions);
        out->sessions += stat_load(&s->sessions);
        out->queued += stat_load(&s->queued);
        out->retained += stat_load(&s->retained);
        out->acks_withheld += stat_load(&s->withheld);
        out->connections_paused += stat_load(&s->paused);
        out->bytes_received += stat_load(&s->bytes_received);
        out->bytes_sent += stat_load(&s->bytes_sent);
    }
}
