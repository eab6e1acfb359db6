/* move.h - a connection goes to another net, hence another thread.
 *
 *     mr_conn_detach() ─▶ parcel, unread bytes ─▶ mr_net_attach(), mr_conn_resume()
 *
 * It takes along what it is: descriptor, listener, peer, limits, the states of TLS and
 * WebSocket.  Who has the parcel owns all of it.
 *
 * Thread: each call by the owner of its net; a parcel by one thread at a time.
 * Memory: the parcel is the caller's.   Time: two calls of the kernel.
 */
#ifndef MR_NET_MOVE_H
#define MR_NET_MOVE_H

#include "net/net.h"

struct conn_layers; /* the net's own */

/* A connection between two nets: whoever has the parcel owns it. */
struct mr_conn_parcel {
    struct conn_layers *layers; /* TLS, WebSocket, what a proxy said; NULL: none of them */
    int32_t fd;
    uint32_t listener;
    uint32_t unread_bytes; /* received and not consumed; they travel beside the parcel */
    bool surplus;          /* as mr_conn_is_surplus() */
    char peer[56];
};

/* Does nothing wait to be sent?  Else it cannot move yet. */
bool mr_conn_may_detach(const struct mr_conn *conn);

/* Take the open connection out of its net, which forgets it without on_close and
 * without a word to the peer.  Nothing may wait to be sent.  Allowed inside on_bytes,
 * whose result is then ignored: the caller has copied the bytes it leaves unread.
 */
void mr_conn_detach(struct mr_conn *conn, uint32_t unread_bytes, struct mr_conn_parcel *parcel);

/* Take it in, with zeroed user memory and without on_open; the caller sets up its user
 * memory and calls mr_conn_resume(), which offers the unread bytes and then reads.
 * NULL: no slot, or the pool has no room for them; the connection has been closed.
 */
struct mr_conn *mr_net_attach(struct mr_net *net, const struct mr_conn_parcel *parcel,
                              const uint8_t *unread) MR_MUST_USE;

/* Close a parcel that will not arrive; `shared` as its nets have it. */
void mr_conn_parcel_close(const struct mr_conn_parcel *parcel, struct mr_net_shared *shared);

#endif
