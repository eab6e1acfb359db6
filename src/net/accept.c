/* accept.c - listeners.
 *
 * When no more connections can be taken (our limit, or the kernel has no
 * descriptor left) the listener is not watched any more: those who want in wait
 * in the kernel's backlog instead of being accepted and thrown out, and the
 * loop does not spin on a readiness it cannot serve.  It is watched again when
 * someone leaves, and after a second in any case.
 */
#include "net/net_internal.h"
#include "net/tls_internal.h"
#include "net/ws_internal.h"

enum { ACCEPT_PAUSE_TICKS = 1000000000 / MR_NET_TICK_NS };

static uint64_t listener_tag(uint32_t index)
{
    return index; /* generation 0: never a connection */
}

enum mr_err mr_net_listen(struct mr_net *net, int fd, uint32_t index, uint64_t connections_max,
                          struct mr_error *why)
{
    struct net_listener *listener = &net->listeners[index];

    mr_assert(index < MR_NET_LISTENERS_MAX && !listener->used);
    if (mr_loop_add(net->options.loop, fd, MR_READY_READ, listener_tag(index)) != MR_OK) {
        return mr_error_set(why, MR_ERR_FULL,
                            "the kernel refuses to watch a listener; raise its limits of "
                            "descriptors or memory");
    }
    *listener = (struct net_listener){
        .fd = fd, .connections_max = connections_max, .used = true, .watched = true};
    return MR_OK;
}

void mr_net_listen_end(struct mr_net *net)
{
    for (uint32_t i = 0; i < MR_NET_LISTENERS_MAX; i++) {
        struct net_listener *listener = &net->listeners[i];
        if (listener->used) {
            mr_loop_remove(net->options.loop, listener->fd);
            mr_socket_close(listener->fd);
            listener->used = false;
        }
    }
    /* Nobody knows of these yet, so nobody would end them. */
    for (uint32_t slot = 0; slot < net->slot_count; slot++) {
        struct mr_conn *conn = net_slot(net, slot);
        if (conn->state == CONN_GREET) {
            conn_free(conn);
        }
    }
}

/* Nets that share their limits wait for each other's places by looking again after a
 * second; within one net whoever leaves makes room at once.
 */
static bool listener_may_accept(const struct mr_net *net, const struct net_listener *listener)
{
    return net->accept_again == 0 && listener->again == 0 &&
           net->stats.open + net->stats.lingering < net->options.connections_max &&
           (net->options.shared != NULL || listener->connections_max == 0 ||
            listener->connections < listener->connections_max + listener->limits.surplus);
}

/* Taken before the accept, so that together the nets never exceed a limit. */
bool listener_reserve(struct mr_net *net, uint32_t index)
{
    struct mr_net_shared *shared = net->options.shared;
    struct net_listener *listener = &net->listeners[index];

    if (shared == NULL) {
        listener->connections += 1;
        return true;
    }
    uint32_t all = atomic_fetch_add_explicit(&shared->connections, 1, memory_order_relaxed);
    uint32_t of_listener =
        atomic_fetch_add_explicit(&shared->of_listener[index], 1, memory_order_relaxed);
    if (all < shared->connections_max &&
        (listener->connections_max == 0 ||
         of_listener < listener->connections_max + listener->limits.surplus)) {
        return true;
    }
    listener_leave(net, index);
    listener->again = net->tick + ACCEPT_PAUSE_TICKS;
    return false;
}

void listener_leave(struct mr_net *net, uint32_t index)
{
    struct mr_net_shared *shared = net->options.shared;

    if (shared == NULL) {
        net->listeners[index].connections -= 1;
        return;
    }
    atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&shared->of_listener[index], 1, memory_order_relaxed);
}

void listeners_watch(struct mr_net *net)
{
    net->stats.accept_waits = net->accept_again != 0;
    for (uint32_t i = 0; i < MR_NET_LISTENERS_MAX; i++) {
        struct net_listener *listener = &net->listeners[i];
        bool watch = listener_may_accept(net, listener);
        net->stats.accept_waits = net->stats.accept_waits || listener->again != 0;
        if (listener->used && watch != listener->watched) {
            listener->watched = watch;
            net->stats.refused += watch ? 0 : 1;
            mr_loop_change(net->options.loop, listener->fd, watch ? MR_READY_READ : 0,
                           listener_tag(i));
        }
    }
}

void listeners_tick(struct mr_net *net)
{
    bool due = net->accept_again != 0 && (int32_t)(net->tick - net->accept_again) >= 0;

    net->accept_again = due ? 0 : net->accept_again;
    for (uint32_t i = 0; i < MR_NET_LISTENERS_MAX; i++) {
        struct net_listener *listener = &net->listeners[i];
        if (listener->again != 0 && (int32_t)(net->tick - listener->again) >= 0) {
            listener->again = 0;
            due = true;
        }
    }
    if (due) {
        listeners_watch(net);
    }
}

/* More connections than its maximum: some are there to be refused. */
static bool listener_is_over(const struct mr_net *net, uint32_t index)
{
    const struct net_listener *listener = &net->listeners[index];
    const struct mr_net_shared *shared = net->options.shared;
    uint64_t count = listener->connections;

    if (shared != NULL) {
        count = atomic_load_explicit(&shared->of_listener[index], memory_order_relaxed);
    }
    return listener->connections_max != 0 && count > listener->connections_max;
}

bool mr_conn_is_surplus(const struct mr_conn *conn)
{
    return conn->surplus && listener_is_over(conn->net, conn->listener);
}

bool conn_dress(struct mr_conn *conn)
{
    const struct net_listener *listener = &conn->net->listeners[conn->listener];

    if (listener->tls != NULL) {
        struct conn_tls *tls = tls_accept(listener->tls, conn->fd);
        if (tls == NULL) {
            return false;
        }
        conn_layers(conn)->tls = tls;
    }
    if (listener->websocket != NULL) {
        conn_layers(conn)->ws = ws_accept(listener->websocket);
    }
    conn_layered(conn);
    return true;
}

bool conn_announce(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;

    if (net->options.handler->on_open(net->options.arg, conn)) {
        return true;
    }
    conn->state = CONN_LINGER;
    net->stats.open -= 1;
    net->stats.lingering += 1;
    conn_free(conn);
    return false;
}

/* Some descriptors are left for those who cannot wait: the journal, the sinks, the log. */
static bool descriptors_run_out(const struct mr_net *net, int fd)
{
    return net->options.descriptors_max != 0 && (uint32_t)fd >= net->options.descriptors_max;
}

/* A descriptor was accepted.  False: there is no slot for it, or no memory. */
static bool accept_take(struct mr_net *net, int fd, uint32_t index, const char *peer)
{
    struct mr_conn_parcel parcel = {.fd = fd, .listener = index};

    memcpy(parcel.peer, peer, strnlen(peer, sizeof(parcel.peer) - 1));
    struct mr_conn *conn = descriptors_run_out(net, fd) ? NULL : conn_take(net, &parcel);
    if (conn == NULL) {
        mr_socket_close(fd);
        listener_leave(net, index);
        return false;
    }
    conn->surplus = listener_is_over(net, index);
    net->stats.accepted += 1;
    if (net->listeners[index].proxied) {
        proxy_begin(conn);
        return true;
    }
    if (!conn_dress(conn)) {
        conn->state = CONN_LINGER;
        net->stats.open -= 1;
        net->stats.lingering += 1;
        conn_free(conn);
        return false;
    }
    (void)conn_announce(conn);
    return true;
}

void listener_accept(struct mr_net *net, uint32_t index)
{
    struct net_listener *listener = &net->listeners[index];

    for (int i = 0; i < CONN_ACCEPT_BURST && listener->used; i++) {
        struct mr_address peer = {.text = ""};
        int fd = -1;

        if (!listener_may_accept(net, listener) || !listener_reserve(net, index)) {
            break;
        }
        if (!accept_rate_take(net, index)) {
            listener_leave(net, index);
            break;
        }
        enum mr_err err = mr_socket_accept(listener->fd, &fd, &peer);
        if (err != MR_OK) {
            listener_leave(net, index);
            accept_rate_return(net, index);
        }
        if (err == MR_ERR_AGAIN) {
            return;
        }
        if (err != MR_OK) {
            net->accept_again = net->tick + ACCEPT_PAUSE_TICKS;
            break;
        }
        if (!accept_take(net, fd, index, peer.text)) {
            net->accept_again = net->tick + ACCEPT_PAUSE_TICKS;
            break;
        }
    }
    listeners_watch(net);
}
