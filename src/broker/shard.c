/* shard.c - one thread, one loop, one lane; the others are reached by mailbox.c.
 *
 * DESIGN
 *
 * A turn: wait; if the journal rang, hand over what gathered first, so that the
 * disk never idles, then let out the acks and deliveries that became durable;
 * read, parse and append what came; send; timers; hand over.  Everything ready
 * in one turn is in one commit, so load makes commits larger, not more.
 *
 * When the journal has no room (FULL), or the pool or the gate has none for what a
 * PUBLISH needs, the shard is `stalled`: the PUBLISH that
 * did not fit stays unparsed and its connection is paused; others are read in
 * small pieces, served, and paused at their first PUBLISH.  The wake, or the next
 * tick, ends the stall and resumes the paused ones in the order they paused (no_room.c).
 *
 * INVARIANTS
 *
 *   (1) seq_released <= durable; acks and deliveries of everything up to
 *       seq_released have been handed to their connections.
 *   (2) After a failure of the lane nothing is released any more.
 */
#include "broker/gates_internal.h"
#include "broker/keep_internal.h"
#include "broker/login_internal.h"
#include "broker/outgoing_internal.h"
#include "broker/retained.h"

#include "os/clock.h"

enum {
    TURN_BYTES = 1 << 20, /* read before acks are looked at again; a journal block */
    QUIET_TICKS = 20,     /* half a second: a wall clock that was set is noticed within one */
};

void shard_fail(struct mr_shard *shard)
{
    struct mr_broker *broker = shard->broker;

    shard->stalled = true; /* nothing more is appended */
    if (atomic_exchange(&broker->failing, true)) {
        return;
    }
    (void)mr_error_set(&broker->failure, MR_ERR_IO, "%s", mr_lane_state_text(shard->lane));
    atomic_store(&broker->failed, MR_ERR_IO);
    mr_log(MR_LOG_ERROR, "mqtt", "no publish is acknowledged any more: %s", broker->failure.text);
    if (broker->run.failed_wake != NULL) {
        mr_wake_ring(broker->run.failed_wake);
    }
    for (uint32_t i = 0; i < broker->shard_count; i++) {
        mr_wake_ring(&broker->shards[i]->wake);
    }
}

static bool shard_has_failed(struct mr_shard *shard)
{
    if (MR_UNLIKELY(mr_lane_state(shard->lane) == MR_LANE_FAILED)) {
        shard_fail(shard);
        return true;
    }
    return atomic_load_explicit(&shard->broker->failed, memory_order_relaxed) != MR_OK;
}

/* What became durable: acks first, they are what most wait for. */
static void shard_release(struct mr_shard *shard)
{
    uint64_t durable_seq = mr_lane_durable(shard->lane);

    if (MR_UNLIKELY(shard_has_failed(shard))) {
        return; /* (2): an append may have found out in this very turn */
    }
    gates_release(shard, durable_seq);
    if (durable_seq == shard->seq_released) {
        return;
    }
    pending_deliver(shard, durable_seq);
    if (shard->kicked != NULL) {
        queue_kick(shard, durable_seq);
    }
    checkpoint_durable(shard, durable_seq);
    if (shard->sample_ns != 0 && shard->sample_seq <= durable_seq) {
        int64_t took_ns = mr_clock_mono_ns() - shard->sample_ns;
        mr_metric_observe_us(shard->metrics.puback_latency, (uint64_t)took_ns / 1000);
        shard->sample_ns = 0;
    }
    shard->seq_released = durable_seq;
    mr_lane_release(shard->lane, durable_seq);
}

/* There may be room again.  What sessions are owed comes first: publishers alone would fill the
 * lane with what nobody can be given.
 */
static void shard_unstall(struct mr_shard *shard)
{
    if (shard->stalled) {
        shard->stalled = false;
        shard->foreign_left = shard->foreign != NULL; /* it may have stopped in a view */
        share_route_again(shard);
        merge_follow(shard);
        mr_net_set_read_max(shard->net, 0);
    }
}

/* Try again those who were paused, in the order in which they were. */
static void shard_resume(struct mr_shard *shard)
{
    uint64_t count = mr_net_stats(shard->net)->paused;

    wills_retry(shard);
    share_retry(shard);
    while (count > 0 && !shard->stalled) {
        struct mr_conn *conn = mr_net_paused_first(shard->net);
        if (conn == NULL) {
            break;
        }
        mr_conn_resume(conn);
        count -= 1;
    }
    stall_note(shard);
}

/* True: it is time to try again what was paused. */
static bool shard_clock(struct mr_shard *shard)
{
    bool again = false;

    clock_turn(shard);
    uint32_t tick = (uint32_t)((shard->now_ns - shard->start_ns) / MR_NET_TICK_NS) + 1;

    if (tick != shard->tick) {
        shard->tick = tick;
        mr_net_tick(shard->net, tick);
        outbound_drain_waiting(shard);
        client_log_held(shard);
        systree_tick(shard);
        if (!shard->stopping) {
            expiry_tick(shard);
            cleared_expire(shard);
            retained_expire(shard);
        }
        again = shard->stalled || mr_net_stats(shard->net)->paused != 0;
    }
    return again;
}

/* With nobody to serve, only $SYS has a time: that of the tick at which it is due. */
static int64_t idle_patience(const struct mr_shard *shard, int64_t tick_ns)
{
    int64_t due_ns = systree_due_ns(shard);

    if (due_ns == INT64_MAX) {
        return -1;
    }
    int64_t left_ns = due_ns - shard->now_ns - tick_ns;
    return left_ns <= 0
               ? tick_ns
               : tick_ns + (left_ns + MR_NET_TICK_NS - 1) / MR_NET_TICK_NS * MR_NET_TICK_NS;
}

/* Ticks that may pass without a look, because no timer is due in them and nothing waits for one.
 * Asked where a turn found nothing to do, so that it costs those nothing that do.
 */
static uint32_t quiet_ticks(const struct mr_shard *shard)
{
    bool waits = shard->wills_first != NULL || shard->shared_first != NULL ||
                 shard->bringing_first != NULL || shard->drain_again || shard->stalled ||
                 shard->stopping || checkpoint_pends(shard) || shard->log_held != 0;

    return waits ? 0 : mr_wheel_quiet(&shard->expiries, mr_net_quiet(shard->net, QUIET_TICKS - 1));
}

/* With connections that say nothing: until the first timer, and not very long. */
static int64_t quiet_patience(const struct mr_shard *shard, int64_t tick_ns)
{
    int64_t wait_ns = tick_ns + (int64_t)quiet_ticks(shard) * MR_NET_TICK_NS;
    int64_t idle_ns = idle_patience(shard, tick_ns);

    return idle_ns >= 0 && idle_ns < wait_ns ? idle_ns : wait_ns;
}

/* How long the loop may sleep.  `quiet`: it has just woken for nothing. */
static int64_t shard_patience(const struct mr_shard *shard, int64_t submit_ns, bool quiet)
{
    const struct mr_net_stats *net = mr_net_stats(shard->net);
    int64_t tick_ns = MR_NET_TICK_NS - (shard->now_ns - shard->start_ns) % MR_NET_TICK_NS;
    bool idle = net->open + net->lingering == 0 && shard->wills_first == NULL &&
                shard->shared_first == NULL && !shard->stalled && !net->accept_waits &&
                shard->keeps_count == 0 && !checkpoint_pends(shard) && shard->log_held == 0;
    int64_t wait_ns = tick_ns;

    if (idle && !shard->stopping) {
        wait_ns = idle_patience(shard, tick_ns);
    } else if (MR_UNLIKELY(quiet)) {
        wait_ns = quiet_patience(shard, tick_ns);
    }
    if (MR_UNLIKELY(shard->mail_left || shard->foreign_left || shard->route_left ||
                    (shard->bring_left && !shard->stopping))) {
        return 0;
    }

    return submit_ns >= 0 && (wait_ns < 0 || submit_ns < wait_ns) ? submit_ns : wait_ns;
}

/* What the loop reported.  256 connections with a slab each are 64 MiB: in such a
 * turn the disk is kept busy and acks leave in between.
 */
static void turn_events(struct mr_shard *shard, size_t count)
{
    const struct mr_net_stats *net = mr_net_stats(shard->net);
    uint64_t pause_at = net->bytes_received + TURN_BYTES;

    for (size_t i = 0; i < count; i++) {
        mr_net_event(shard->net, &shard->events[i]);
        if (MR_UNLIKELY(net->bytes_received >= pause_at)) {
            pause_at = net->bytes_received + TURN_BYTES;
            (void)mr_lane_submit(shard->lane, mr_clock_mono_ns());
            if (shard_has_failed(shard)) {
                return;
            }
            shard_release(shard);
        }
    }
}

/* What came from other shards and what became durable, for sessions and groups.  The own lane
 * first: what is not given of it holds it, and copies from other lanes would take the room for
 * that.
 */
static void turn_owed(struct mr_shard *shard, bool woken)
{
    const bool others = shard->broker->shard_count > 1;

    if (others && (woken || shard->mail_left)) {
        mailbox_take_all(shard);
    }
    if (woken || shard->route_left) {
        share_route(shard);
    }
    if (share_route_waits(shard)) {
        shard->foreign_left = false; /* the end of the stall calls again */
    } else if (others && (woken || shard->foreign_left)) {
        foreign_deliver(shard);
    }
}

/* Wait for what a turn is about.  Where events come so fast that a batch gathers them, they are
 * let gather in the sockets first (mr_lane_nap_ns): one wake-up for many.
 */
static size_t turn_wait(struct mr_shard *shard, int64_t wait_ns, bool *woken)
{
    bool rung = false;

    if (wait_ns != 0 && !shard->stalled && !shard->stopping) {
        int64_t nap_ns = mr_lane_nap_ns(shard->lane);
        if (nap_ns > 0) {
            rung = mr_wake_wait(&shard->wake, nap_ns);
            wait_ns = 0;
        }
    }
    size_t count =
        mr_loop_wait(shard->loop, shard->events, SHARD_EVENTS, wait_ns, &shard->wake, woken);
    *woken |= rung;
    return count;
}

/* One turn.  False: the journal has failed. */
static bool shard_turn(struct mr_shard *shard, int64_t wait_ns, int64_t *next_ns)
{
    bool woken = false;
    bool again;
    size_t count = turn_wait(shard, wait_ns, &woken);

    if (woken) {
        (void)mr_lane_submit(shard->lane, mr_clock_mono_ns());
    }
    if (shard_has_failed(shard)) {
        return false;
    }
    again = (shard_clock(shard) || woken) && !shard->stopping;
    shard_release(shard);
    if (MR_UNLIKELY(shard->refuses)) {
        (void)shard_refuses(shard);
    }
    if (again) {
        shard_unstall(shard);
    }
    turn_owed(shard, woken);
    if (again) {
        shard_resume(shard);
    }
    if (woken && !shard->stopping) {
        logins_take(shard);
    }
    if (woken) {
        shard_calls_run(shard);
    }
    turn_events(shard, count);
    if (MR_UNLIKELY(shard_has_failed(shard))) {
        return false;
    }
    shard_release(shard); /* what waited only for its turn */
    if (MR_UNLIKELY(shard->bringing_first != NULL) && !shard->stopping) {
        bring_turn(shard);
    }
    shard->bring_steps = BRING_STEPS;
    foreign_follow(shard);
    share_follow(shard);
    mailbox_ring(shard);
    queue_settle_flush(shard);
    mr_net_flush(shard->net);
    checkpoint_turn(shard);
    stall_note(shard);
    int64_t submit_ns = mr_lane_submit(shard->lane, shard->now_ns);
    *next_ns = shard_patience(shard, submit_ns, count == 0 && !woken);
    shard_metrics_update(shard);
    return true;
}

/* ---- the end ---- */

static void stop_reading(void *arg, struct mr_conn *conn)
{
    (void)arg;
    mr_conn_pause(conn);
}

static void stop_saying_so(void *arg, struct mr_conn *conn)
{
    struct client *client = mr_conn_user(conn);

    (void)arg;
    if (client->session != NULL && client->version == MR_MQTT_5) {
        send_disconnect(client,
                        client->shard->limits.server_reference != NULL
                            ? MR_MQTT_USE_ANOTHER_SERVER
                            : MR_MQTT_SERVER_SHUTTING_DOWN,
                        NULL);
    }
    client_end(client, END_SHUTDOWN);
}

static bool all_gone(const struct mr_shard *shard)
{
    return mr_net_stats(shard->net)->open + mr_net_stats(shard->net)->lingering == 0;
}

/* Let what was read become durable and its acks leave, then close everyone. */
static void shard_stop(struct mr_shard *shard)
{
    int64_t deadline_ns = atomic_load(&shard->broker->stop_deadline_ns);
    int64_t next_ns = 0;

    shard->stopping = true;
    mr_net_listen_end(shard->net);
    mr_net_each(shard->net, stop_reading, shard);
    while (gates_held(shard) != 0 || shard->pending_first != NULL) {
        int64_t left_ns = deadline_ns - mr_clock_mono_ns();
        if (left_ns <= 0) {
            mr_log(MR_LOG_WARN, "mqtt",
                   "stopped before %llu publishes could be acknowledged; they were not",
                   (unsigned long long)gates_held(shard));
            break;
        }
        if (!shard_turn(shard, next_ns >= 0 && next_ns < left_ns ? next_ns : left_ns, &next_ns)) {
            return;
        }
    }
    mr_net_each(shard->net, stop_saying_so, shard);
    next_ns = 0;
    while (!all_gone(shard)) {
        int64_t left_ns = deadline_ns - mr_clock_mono_ns();
        if (left_ns <= 0 || !shard_turn(shard, next_ns < left_ns ? next_ns : left_ns, &next_ns)) {
            break;
        }
    }
    shard->stalled = false; /* room may have come back since; an append says so */
    wills_retry(shard);
    share_retry(shard); /* what the members who have just gone did not acknowledge */
    if (shard->wills_first != NULL) {
        mr_log(MR_LOG_WARN, "mqtt", "some wills could not be journaled: no room");
    }
    share_stop_say(shard);
    queue_settle_flush(shard);
    (void)mr_lane_submit(shard->lane, mr_clock_mono_ns());
    checkpoint_last(shard);
}

void shard_run(void *arg)
{
    struct mr_shard *shard = arg;
    int64_t next_ns = 0;

    while (!atomic_load_explicit(&shard->broker->stop, memory_order_acquire)) {
        if (!shard_turn(shard, next_ns, &next_ns)) {
            shard_calls_close(shard);
            return;
        }
    }
    shard_stop(shard);
    shard_calls_close(shard);
}
