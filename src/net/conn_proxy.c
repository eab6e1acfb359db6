/* conn_proxy.c - the time between accept and the end of the PROXY header; see proxy.h.
 *
 * DESIGN
 *
 * The header is looked at where it lies, in the socket, and taken out to its last byte: so
 * what follows it, a TLS handshake perhaps, is read by whoever reads ever after, and nothing
 * has to be handed on.  A header that comes in pieces is looked at again from its beginning
 * with each of them; it is 4 KiB at most.
 *
 * GREET is the state of a connection that the owner does not know yet.  The wheel holds our
 * own deadline then.
 */
#include "net/net_internal.h"
#include "net/proxy.h"
#include "net/proxy_header_internal.h"
#include "net/tls_internal.h"
#include "net/ws_internal.h"

enum { PATIENCE_TICKS = (int)(MR_PROXY_PATIENCE_MS * 1000000LL / MR_NET_TICK_NS) + 1 };

_Static_assert((int)PROXY_PEER_MAX == (int)CONN_PEER_TEXT, "the same text");

void mr_net_proxied(struct mr_net *net, uint32_t index)
{
    mr_assert(index < MR_NET_LISTENERS_MAX && net->listeners[index].used);
    net->listeners[index].proxied = true;
}

void proxy_begin(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;

    conn->state = CONN_GREET;
    net->stats.open -= 1;
    net->stats.lingering += 1;
    mr_wheel_set(&net->wheel, &conn->timer, net->tick + PATIENCE_TICKS);
}

static void stranger(struct mr_conn *conn, const char *what)
{
    struct mr_net *net = conn->net;

    if (net->options.handler->on_stranger != NULL) {
        net->options.handler->on_stranger(net->options.arg, conn, what);
    }
    conn_free(conn);
}

void proxy_late(struct mr_conn *conn)
{
    stranger(conn, "no PROXY header within 3 s");
}

/* The header is over: what comes now is the client's. */
static void greeted(struct mr_conn *conn, const struct proxy_header *header)
{
    struct mr_net *net = conn->net;

    mr_wheel_cancel(&net->wheel, &conn->timer);
    if (header->peer[0] != 0) {
        conn_peer_set(conn, header->peer);
    }
    if (header->identity[0] != 0) {
        conn_layers(conn)->identity = mr_strdup(header->identity);
    }
    if (!conn_dress(conn)) {
        conn_free(conn);
        return;
    }
    conn->state = CONN_OPEN;
    conn->heard = net->tick;
    net->stats.open += 1;
    net->stats.lingering -= 1;
    if (conn_announce(conn)) {
        conn_read(conn);
    }
}

void proxy_read(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;
    struct proxy_header header;
    const char *what = NULL;
    size_t got = 0;

    enum mr_err err = mr_socket_peek(conn->fd, net->slab, PROXY_HEADER_MAX, &got);
    if (err == MR_ERR_AGAIN) {
        return;
    }
    if (err != MR_OK || got == 0) {
        conn_free(conn); /* a proxy that looks whether we live says nothing more */
        return;
    }
    err = proxy_header_read(mr_span_make(net->slab, got), &header, &what);
    if (err == MR_ERR_AGAIN) {
        return;
    }
    if (err != MR_OK) {
        struct mr_error why;
        (void)mr_error_set(&why, MR_ERR_REJECT, "it has sent no valid PROXY header: %s", what);
        stranger(conn, why.text);
        return;
    }
    size_t taken = 0;
    while (taken < header.len) {
        err = mr_socket_read(conn->fd, net->slab, header.len - taken, &got);
        if (err != MR_OK || got == 0) {
            conn_free(conn);
            return;
        }
        taken += got;
    }
    greeted(conn, &header);
}

bool mr_conn_proxy_identity(const struct mr_conn *conn, char *into, size_t size)
{
    const char *identity = conn->layers == NULL ? NULL : conn->layers->identity;
    size_t len = identity == NULL ? 0 : strlen(identity);

    if (len == 0 || len >= size) {
        return false;
    }
    memcpy(into, identity, len + 1);
    return true;
}
