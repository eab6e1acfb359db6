/* proxy.h - listeners of net.h behind a proxy that says for whom it connects.
 *
 *     mr_net_proxied(net, listener)
 *         └▶ every connection accepted there begins with a PROXY header, version 1 or 2,
 *            before TLS and before anything else
 *
 * The owner hears of a connection when its header is there, so for him the client's address is
 * the peer from the beginning.  Whoever brings no header within MR_PROXY_PATIENCE_MS, or a
 * wrong one, is closed (handler.on_stranger).  Anybody who reaches such a listener may claim
 * any address: it is for networks where only the proxy does.
 *
 * Thread: the net's.   Memory: a name of at most 255 bytes, if the proxy gives one.
 * Time:   one more system call a connection.
 */
#ifndef MR_NET_PROXY_H
#define MR_NET_PROXY_H

#include "base/base.h"

struct mr_conn;
struct mr_net;

enum { MR_PROXY_PATIENCE_MS = 3000 };

/* From now on connections of listener `index` begin with a PROXY header. */
void mr_net_proxied(struct mr_net *net, uint32_t index);

/* The common name of the client's certificate that the proxy has verified, with a NUL; else
 * as mr_conn_tls_identity().
 */
bool mr_conn_proxy_identity(const struct mr_conn *conn, char *into, size_t size) MR_MUST_USE;

#endif
