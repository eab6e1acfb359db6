/* tls_openssl_internal.h - what tls.c and tls_conn.c share of OpenSSL; nobody else
 * includes it.
 *
 * Thread: see tls.h.   Memory: see tls.h.   Time: none.
 */
#ifndef MR_NET_TLS_OPENSSL_INTERNAL_H
#define MR_NET_TLS_OPENSSL_INTERNAL_H

#include "net/tls_internal.h"
#include "os/thread.h"

#include <openssl/ssl.h>

struct mr_tls {
    struct mr_tls_options options;
    struct mr_tls_certificate *more; /* options.more */
    struct mr_mutex mutex;           /* over ctx */
    SSL_CTX *ctx;
    SSL_CTX *next;      /* prepared by a reload */
    BIO_METHOD *method; /* sockets as os/ has them */
};

/* tls_conn.c: how OpenSSL reads and writes our sockets. */
BIO_METHOD *tls_method_new(void);

/* tls.c: why OpenSSL's last call in this thread failed; a string of its own. */
const char *tls_reason(void);

/* tls_identity.c: as mr_conn_tls_identity(), of a certificate that has been verified. */
bool tls_certificate_names(const X509 *cert, enum mr_tls_identity from, char *into, size_t size);

#endif
