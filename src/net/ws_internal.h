/* ws_internal.h - one connection's WebSocket, for conn*.c.
 *
 * Like the TLS below it, it has no tie to a net and is handed to another one as a pointer.
 *
 * Thread: the connection's.   Memory: see websocket.h.   Time: see websocket.h.
 */
#ifndef MR_NET_WS_INTERNAL_H
#define MR_NET_WS_INTERNAL_H

#include "net/net_internal.h"
#include "net/websocket.h"

/* Begins with the HTTP request. */
struct conn_ws *ws_accept(const struct mr_websocket_options *options);
void ws_free(struct conn_ws *ws, struct mr_bufpool *pool);

/* As mr_socket_read(), from what the connection's wire (TCP or TLS) gives.  REJECT: it is
 * over, ws_close_why() says why and what is to be said to the peer is queued.
 */
enum mr_err ws_take(struct mr_conn *conn, uint8_t *into, size_t len, size_t *got,
                    bool inside) MR_MUST_USE;
bool ws_is_within(const struct conn_ws *ws); /* a frame has begun and not ended */
bool ws_has_more(const struct conn_ws *ws);  /* the next ws_take() has something to say */
enum mr_close_why ws_close_why(struct mr_conn *conn);

/* Send from the queue of the connection, control frames first; *sent counts both. */
enum mr_err ws_send(struct mr_conn *conn, size_t *sent) MR_MUST_USE;
bool ws_waits(const struct conn_ws *ws); /* a control frame is to be sent */

/* Everything has been sent: queue the close frame.  False: there is none to be sent. */
bool ws_say_close(struct conn_ws *ws);

#endif
