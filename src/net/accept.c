/* accept.c - listeners.
 *
 * When no more connections can be taken (our limit, or the kernel has no
 * descriptor left) the listener is not watched any more: those who want in wait
 * in the kernel's backlog instead of being accepted and thrown out, and the
 * loop does not spin on a readiness it cannot serve.  It is watched again when
 * someone leaves, and after a second in any case.
 */
#include "net/net_internal.h"

enum { ACCEPT_PAUSE_TICKS = 4 };

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
}

static bool listener_may_accept(const struct mr_net *net, const struct net_listener *listener)
{
    return net->accept_again == 0 &&
           net->stats.open + net->stats.lingering < net->options.connections_max &&
           (listener->connections_max == 0 || listener->connections < listener->connections_max);
}

void listeners_watch(struct mr_net *net)
{
    for (uint32_t i = 0; i < MR_NET_LISTENERS_MAX; i++) {
        struct net_listener *listener = &net->listeners[i];
        bool watch = listener_may_accept(net, listener);
        if (listener->used && watch != listener->watched) {
            listener->watched = watch;
            net->stats.refused += watch ? 0 : 1;
            mr_loop_change(net->options.loop, listener->fd, watch ? MR_READY_READ : 0,
                           listener_tag(i));
        }
    }
}

void listener_accept(struct mr_net *net, uint32_t index)
{
    struct net_listener *listener = &net->listeners[index];

    for (int i = 0; i < CONN_ACCEPT_BURST && listener->used; i++) {
        struct mr_address peer = {.text = ""};
        int fd = -1;

        if (!listener_may_accept(net, listener)) {
            break;
        }
        enum mr_err err = mr_socket_accept(listener->fd, &fd, &peer);
        if (err == MR_ERR_AGAIN) {
            return;
        }
        if (err != MR_OK) {
            net->accept_again = net->tick + ACCEPT_PAUSE_TICKS;
            break;
        }
        struct mr_conn *conn = conn_take(net, fd, index, peer.text);
        if (conn == NULL) {
            mr_socket_close(fd);
            net->accept_again = net->tick + ACCEPT_PAUSE_TICKS;
            break;
        }
        if (!conn_secure(conn, listener->tls) ||
            !net->options.handler->on_open(net->options.arg, conn)) {
            conn->state = CONN_LINGER;
            net->stats.open -= 1;
            net->stats.lingering += 1;
            conn_free(conn);
        }
    }
    listeners_watch(net);
}
