/* move.c - a connection leaves one net and enters another.
 *
 * DESIGN
 *
 * What a connection is, is little before its first packet has been answered: the
 * descriptor, the listener it came by, the peer's name, what was read and not consumed,
 * and the state of its transport.  So it is moved whole and then begins anew: the new
 * owner parses the same bytes from their beginning.
 *
 * Edge-triggered watching makes it safe: what arrives between the two loops is reported
 * when the second one begins to watch.
 *
 * The states of TLS and WebSocket are in the parcel, as the pointers that they are: they
 * have no tie to a thread or a loop.  What they have received and nobody has read travels
 * inside them.
 *
 * The place at the limits (struct mr_net_shared) moves along: it is given back by
 * whoever closes the descriptor.
 */
#include "net/net_internal.h"
#include "net/tls_internal.h"
#include "net/ws_internal.h"

#include <stdio.h>

_Static_assert(sizeof(((struct mr_conn_parcel *)0)->peer) == CONN_PEER_TEXT, "the same text");

bool mr_conn_may_detach(const struct mr_conn *conn)
{
    return conn->out_begin == conn->out_end && !conn->gathered &&
           (conn_ws(conn) == NULL || !ws_waits(conn_ws(conn)));
}

void mr_conn_detach(struct mr_conn *conn, uint32_t unread_bytes, struct mr_conn_parcel *parcel)
{
    struct mr_net *net = conn->net;

    mr_assert(net->options.shared != NULL && conn->state == CONN_OPEN);
    mr_assert(mr_conn_may_detach(conn) && conn->failed == 0);
    *parcel = (struct mr_conn_parcel){.fd = conn->fd,
                                      .layers = conn->layers,
                                      .listener = conn->listener,
                                      .unread_bytes = unread_bytes,
                                      .surplus = conn->surplus};
    (void)snprintf(parcel->peer, sizeof(parcel->peer), "%s", mr_conn_peer(conn));
    conn->layers = NULL;
    conn_pause_end(conn);
    mr_loop_remove(net->options.loop, conn->fd);
    net->stats.open -= 1;
    conn_slot_free(conn);
    listeners_watch(net);
}

struct mr_conn *mr_net_attach(struct mr_net *net, const struct mr_conn_parcel *parcel,
                              const uint8_t *unread)
{
    struct mr_conn *conn = conn_take(net, parcel);

    if (conn == NULL) {
        mr_conn_parcel_close(parcel, net->options.shared);
        return NULL;
    }
    conn->surplus = parcel->surplus;
    conn->stuck = conn_tls(conn) != NULL && tls_wants_room(conn_tls(conn));
    mr_conn_pause(conn); /* what comes is read after what is unread */
    if (parcel->unread_bytes == 0) {
        return conn;
    }
    if (!conn_in_fill(conn, unread, parcel->unread_bytes)) {
        conn_pause_end(conn);
        conn->state = CONN_LINGER;
        net->stats.open -= 1;
        net->stats.lingering += 1;
        conn_free(conn);
        return NULL;
    }
    return conn;
}

void mr_conn_parcel_close(const struct mr_conn_parcel *parcel, struct mr_net_shared *shared)
{
    layers_free(parcel->layers, NULL); /* a WebSocket is open, so it has nothing of a pool */
    mr_socket_close(parcel->fd);
    atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&shared->of_listener[parcel->listener], 1, memory_order_relaxed);
}
