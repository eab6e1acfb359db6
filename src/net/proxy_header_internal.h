/* proxy_header_internal.h - the header by which a proxy says for whom it connects.
 *
 * PROXY protocol of haproxy, version 1 (a line) and 2 (binary), as
 * https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt has it; strictly, so that bytes
 * of a client are never taken for words of the proxy.
 *
 * Thread: any.   Memory: the caller's.   Time: linear in the header.
 */
#ifndef MR_NET_PROXY_HEADER_INTERNAL_H
#define MR_NET_PROXY_HEADER_INTERNAL_H

#include "base/span.h"

enum {
    PROXY_HEADER_MAX = 4 << 10, /* with all that haproxy adds of a certificate */
    PROXY_IDENTITY_MAX = 256,   /* of a common name, with its NUL */
    PROXY_PEER_MAX = 56,
};

struct proxy_header {
    size_t len;                        /* bytes of it; what follows is the client's */
    char peer[PROXY_PEER_MAX];         /* "10.0.0.7:51812"; empty: the proxy speaks for itself */
    char identity[PROXY_IDENTITY_MAX]; /* common name of the certificate that the proxy has
                                          verified; empty: none */
};

/* Read the header at the beginning of `bytes`.  AGAIN: more bytes are needed.  REJECT: it is
 * none, *what says why (static text).
 */
enum mr_err proxy_header_read(struct mr_span bytes, struct proxy_header *out,
                              const char **what) MR_MUST_USE;

#endif
