/* bench_tls_client.h - the client's side of TLS, for the programs that visit a server.
 *
 * Certificates are not checked: what is measured is the server, and it is our own.
 * Thread: one.
 */
#ifndef MR_BENCH_BENCH_TLS_CLIENT_H
#define MR_BENCH_BENCH_TLS_CLIENT_H

#include "bench.h"

#include <openssl/ssl.h>

/* Never NULL; ends the process if OpenSSL has none. */
SSL_CTX *bench_tls_context(void);

/* On a connected, non-blocking socket, before its handshake.  SSL_free() leaves the socket open. */
SSL *bench_tls_over(SSL_CTX *context, int fd);

/* What a call that returned `result` means: true, try again when the socket is ready; else the
 * process ends with a message.
 */
bool bench_tls_again(const SSL *ssl, int result);

#endif
