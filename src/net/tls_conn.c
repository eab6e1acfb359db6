/* tls_conn.c - one connection's TLS; see tls_internal.h for the contract.
 *
 * DESIGN
 *
 * OpenSSL reaches the socket through a BIO of our own over mr_socket_read() and
 * mr_socket_write(), so it runs over os_sim as well, and knows nothing but the
 * descriptor.  With read-ahead it takes 16 KiB at a time; what it decrypts goes
 * straight to where the caller wants it, the shard's slab.
 *
 * What OpenSSL holds no readiness will report.  So after each read the caller reads on
 * `inside`, until nothing whole is left; that is one buffer of OpenSSL at most.
 *
 * A read that ends with an error after it has given bytes gives the bytes and keeps
 * the error for the next call.
 *
 * Rejected: kernel TLS.  It would save a copy, but the handshake, TLS 1.3's key updates
 * and whatever the kernel has not been built with would still need all of this.
 */
#include "net/net_internal.h"
#include "net/tls_openssl_internal.h"

#include "base/text.h"
#include "os/loop.h"

#include <openssl/err.h>
#include <openssl/x509.h>

enum { RECORD_HANDSHAKE = 0x16 };

struct conn_tls {
    SSL *ssl;
    int fd;
    uint8_t first; /* the first byte received; 0: none yet */
    bool greeted;  /* the handshake is over */
    bool inside;   /* the socket is not to be asked */
    bool dry;      /* it gave less than was asked for */
    bool eof;
    bool broken;     /* it failed */
    bool wants_room; /* reading needs to write first */
    bool over;       /* `end` holds for all reads to come */
    bool failed;     /* not even goodbye can be said */
    enum mr_err end;
};

/* ---- the socket, as OpenSSL sees it ---- */

static int bio_read(BIO *bio, char *into, size_t len, size_t *got)
{
    struct conn_tls *tls = BIO_get_data(bio);
    enum mr_err err = MR_ERR_AGAIN;

    BIO_clear_retry_flags(bio);
    *got = 0;
    if (!tls->inside && !tls->dry && !tls->eof) {
        err = mr_socket_read(tls->fd, into, len, got);
        tls->dry = err != MR_OK || *got < len;
        tls->eof = err == MR_OK && *got == 0;
        tls->broken = err != MR_OK && err != MR_ERR_AGAIN;
    }
    if (tls->eof || tls->broken) {
        return 0;
    }
    if (err != MR_OK) {
        BIO_set_retry_read(bio);
        return 0;
    }
    if (tls->first == 0) {
        tls->first = (uint8_t)into[0];
    }
    return 1;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *sent)
{
    struct conn_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    *sent = 0;
    if (tls->broken || mr_socket_write(tls->fd, from, len, sent) != MR_OK) {
        tls->broken = true;
        return 0;
    }
    if (*sent == 0) {
        BIO_set_retry_write(bio);
        return 0;
    }
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *arg)
{
    const struct conn_tls *tls = BIO_get_data(bio);

    (void)number;
    (void)arg;
    switch (command) {
    case BIO_CTRL_FLUSH: /* nothing is held back here */
        return 1;
    case BIO_CTRL_EOF:
        return tls->eof;
    default:
        return 0;
    }
}

BIO_METHOD *tls_method_new(void)
{
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "millrace");

    mr_assert(method != NULL);
    (void)BIO_meth_set_read_ex(method, bio_read);
    (void)BIO_meth_set_write_ex(method, bio_write);
    (void)BIO_meth_set_ctrl(method, bio_ctrl);
    return method;
}

/* ---- life ---- */

struct conn_tls *tls_accept(struct mr_tls *tls, int fd)
{
    mr_mutex_lock(&tls->mutex);
    SSL *ssl = SSL_new(tls->ctx);
    mr_mutex_unlock(&tls->mutex);

    BIO *bio = ssl == NULL ? NULL : BIO_new(tls->method);
    if (bio == NULL) {
        SSL_free(ssl);
        return NULL;
    }
    struct conn_tls *made = mr_alloc(sizeof(*made));
    made->ssl = ssl;
    made->fd = fd;
    BIO_set_data(bio, made);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    return made;
}

void tls_free(struct conn_tls *tls)
{
    SSL_free(tls->ssl);
    mr_free(tls);
}

/* ---- reading ---- */

/* What a client's alert, or our own refusal, means to the operator. */
static const char *fault_hint(void)
{
    switch (ERR_GET_REASON(ERR_peek_last_error())) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        return "; the client does not trust this gateway's certificate, give it the CA";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return "; the client refuses this gateway's certificate: expired, or made for another name";
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return "; `require_certificate` is true and the client has none";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
        return "; the client is too old for `tls_version`";
    case SSL_R_NO_SHARED_CIPHER:
        return "; client and `ciphers` have none in common";
    default:
        return "";
    }
}

static void fault_say(const struct conn_tls *tls, struct mr_error *why)
{
    long verified = SSL_get_verify_result(tls->ssl);
    bool greeting = !tls->greeted; /* OpenSSL has forgotten it after an error */

    if (greeting && tls->first != RECORD_HANDSHAKE) {
        (void)mr_error_set(why, MR_ERR_REJECT,
                           "it speaks plain text (first byte 0x%02X) and this listener TLS; tell "
                           "the client to use TLS, or give it the plain port",
                           tls->first);
    } else if (greeting && verified != X509_V_OK) {
        (void)mr_error_set(why, MR_ERR_REJECT, "the client's certificate is refused: %s",
                           X509_verify_cert_error_string(verified));
    } else {
        (void)mr_error_set(why, MR_ERR_REJECT, "%s failed: %s%s",
                           greeting ? "the TLS handshake" : "TLS", tls_reason(), fault_hint());
    }
}

/* Reading is over; what every further read says. */
static void read_ends(struct conn_tls *tls, int ssl_error, struct mr_error *why)
{
    tls->over = true;
    if (ssl_error == SSL_ERROR_ZERO_RETURN || (tls->eof && !tls->broken)) {
        tls->end = MR_OK; /* close_notify, or the end of the stream without it */
        tls->failed = !tls->greeted;
        return;
    }
    tls->failed = true;
    tls->end = MR_ERR_IO;
    if (!tls->broken) {
        tls->end = MR_ERR_REJECT;
        fault_say(tls, why);
    }
}

enum mr_err tls_read(struct conn_tls *tls, void *into, size_t len, size_t *got, bool inside,
                     struct mr_error *why)
{
    *got = 0;
    tls->inside = inside;
    tls->dry = false;
    tls->wants_room = false;
    while (!tls->over && *got < len) {
        size_t some = 0;
        ERR_clear_error();
        int done = SSL_read_ex(tls->ssl, (uint8_t *)into + *got, len - *got, &some);
        if (done == 1) {
            tls->greeted = true;
            *got += some;
            continue;
        }
        int ssl_error = SSL_get_error(tls->ssl, done);
        tls->greeted = tls->greeted || SSL_is_init_finished(tls->ssl);
        if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE) {
            tls->wants_room = ssl_error == SSL_ERROR_WANT_WRITE;
            return *got != 0 ? MR_OK : MR_ERR_AGAIN;
        }
        read_ends(tls, ssl_error, why);
    }
    return *got != 0 ? MR_OK : tls->end;
}

bool tls_has_greeted(const struct conn_tls *tls)
{
    return tls->greeted;
}

bool tls_has_more(const struct conn_tls *tls)
{
    return tls->over || SSL_has_pending(tls->ssl) == 1;
}

bool tls_wants_room(const struct conn_tls *tls)
{
    return tls->wants_room;
}

/* ---- writing ---- */

enum mr_err tls_write(struct conn_tls *tls, const void *from, size_t len, size_t *sent)
{
    *sent = 0;
    if (tls->failed || !tls->greeted) {
        return MR_ERR_IO;
    }
    while (*sent < len) {
        size_t some = 0;
        ERR_clear_error();
        int done = SSL_write_ex(tls->ssl, (const uint8_t *)from + *sent, len - *sent, &some);
        if (done == 1) {
            *sent += some;
            continue;
        }
        int ssl_error = SSL_get_error(tls->ssl, done);
        if (ssl_error == SSL_ERROR_WANT_WRITE) {
            return MR_OK;
        }
        tls->failed = true;
        return MR_ERR_IO;
    }
    return MR_OK;
}

void tls_end(struct conn_tls *tls)
{
    if (!tls->failed && tls->greeted) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl); /* says close_notify and waits for nothing */
    }
}

/* ---- who is it? ---- */

bool mr_conn_tls_identity(const struct mr_conn *conn, enum mr_tls_identity from, char *into,
                          size_t size)
{
    const struct conn_tls *tls = conn_tls(conn);
    const X509 *cert = tls == NULL ? NULL : SSL_get0_peer_certificate(tls->ssl);

    return cert != NULL && SSL_get_verify_result(tls->ssl) == X509_V_OK &&
           tls_certificate_names(cert, from, into, size);
}
