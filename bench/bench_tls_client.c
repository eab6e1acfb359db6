/* bench_tls_client.c - see bench_tls_client.h. */
#include "bench_tls_client.h"

#include <openssl/err.h>

SSL_CTX *bench_tls_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (context == NULL) {
        bench_fail("OpenSSL has no client");
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    return context;
}

SSL *bench_tls_over(SSL_CTX *context, int fd)
{
    SSL *ssl = SSL_new(context);

    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        bench_fail("OpenSSL: no connection");
    }
    SSL_set_connect_state(ssl);
    return ssl;
}

bool bench_tls_again(const SSL *ssl, int result)
{
    int why = SSL_get_error(ssl, result);

    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        return true;
    }
    bench_fail("TLS: %s", why == SSL_ERROR_SSL ? ERR_reason_error_string(ERR_peek_last_error())
                                               : "the server ended the connection");
}
