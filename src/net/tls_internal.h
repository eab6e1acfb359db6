/* tls_internal.h - one connection's TLS, for conn*.c; no type of OpenSSL in sight.
 *
 * A conn_tls knows its descriptor and nothing of the connection or the net around it:
 * it can be handed to another net, of another thread, as a pointer.  What has been
 * received and not been read goes along inside, and no readiness will tell of it: the new
 * net begins with mr_conn_resume(), which looks.
 *
 * Thread: the connection's.   Memory: OpenSSL's own.   Time: see tls.h.
 */
#ifndef MR_NET_TLS_INTERNAL_H
#define MR_NET_TLS_INTERNAL_H

#include "net/tls.h"

struct conn_tls;

/* NULL: OpenSSL has no memory.  `fd` stays the caller's. */
struct conn_tls *tls_accept(struct mr_tls *tls, int fd);
void tls_free(struct conn_tls *tls);

/* As mr_socket_read(), with the handshake before the first byte.  `inside`: only from
 * what has been received, without asking the socket.  REJECT: the handshake or a
 * record is wrong, `why` is for people.  What comes behind `len` may be inside and
 * then no readiness tells of it: ask tls_has_more().
 */
enum mr_err tls_read(struct conn_tls *tls, void *into, size_t len, size_t *got, bool inside,
                     struct mr_error *why) MR_MUST_USE;
bool tls_has_greeted(const struct conn_tls *tls); /* the handshake is over */
bool tls_has_more(const struct conn_tls *tls);    /* perhaps: the beginning of a record counts */
bool tls_wants_room(const struct conn_tls *tls);  /* reading goes on when the socket has room */

/* As mr_socket_write().  After *sent < len the next call must begin with the bytes that
 * were not taken.
 */
enum mr_err tls_write(struct conn_tls *tls, const void *from, size_t len, size_t *sent) MR_MUST_USE;

/* Say that nothing more comes, if that can be said. */
void tls_end(struct conn_tls *tls);

#endif
