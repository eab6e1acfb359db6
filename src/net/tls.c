/* tls.c - certificates, keys, contexts; see tls.h.  tls_conn.c has the connections.
 *
 * DESIGN
 *
 * An SSL_CTX is never changed once connections use it: a reload makes another one and
 * exchanges the pointer under a lock.  Connections hold a reference to theirs, so the
 * old one goes with the last of them.  The keys of session tickets belong to the
 * context too, hence a client whose certificate was revoked cannot come back with a
 * ticket from before the reload.
 *
 * Files are opened by us first: what the operating system says about a missing file is
 * clearer than what OpenSSL makes of it.
 */
#include "net/net_internal.h"
#include "net/tls_openssl_internal.h"

#include "os/clock.h"
#include "os/file.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>

enum { EXPIRES_SOON_S = 14 * 24 * 3600 };

/* Forward secrecy and authenticated encryption; AES first, it has instructions of its
 * own nearly everywhere, and a device that has none puts ChaCha20 first itself.
 */
static const char ciphers_default[] = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!PSK";

/* ---- messages ---- */

const char *tls_reason(void)
{
    unsigned long code = ERR_peek_error(); /* the first: the others say who called it */
    const char *reason = NULL;

    if (code != 0 && !ERR_SYSTEM_ERROR(code)) {
        reason = ERR_reason_error_string(code);
    }
    return reason != NULL ? reason : "no reason given";
}

MR_PRINTF(2, 3)
static void tls_warn(const struct mr_tls_options *options, const char *fmt, ...)
{
    struct mr_error text;
    va_list args;

    if (options->warn == NULL) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text.text, sizeof(text.text), fmt, args);
    va_end(args);
    options->warn(options->warn_arg, text.text);
}

/* "listener 'mqtts': " and so on; every refusal begins with it. */
static enum mr_err tls_refuse(const struct mr_tls_options *options, struct mr_error *why,
                              const char *key, const char *path, const char *cause,
                              const char *hint)
{
    return mr_error_set(why, MR_ERR_CONFIG, "listener '%s': tls.%s %s: %s; %s", options->name, key,
                        path, cause, hint);
}

static enum mr_err file_check(const struct mr_tls_options *options, const char *key,
                              const char *path, struct mr_error *why)
{
    struct mr_file file = {.fd = -1};

    if (path == NULL) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "listener '%s': tls needs `%s`; give certfile and keyfile, both PEM",
                            options->name, key);
    }
    if (mr_file_open(&file, path, MR_FILE_READ, NULL) != MR_OK) {
        return tls_refuse(options, why, key, path, mr_file_last_cause(),
                          "give a PEM file that the gateway's user may read");
    }
    mr_file_close(&file);
    return MR_OK;
}

/* ---- our side: certificate and key ---- */

/* An encrypted key must not make the gateway ask its terminal. */
static int no_passphrase(char *into, int size, int writing, void *arg)
{
    (void)into;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static void dates_check(const struct mr_tls_options *options, const char *path, const X509 *cert)
{
    time_t soon = (time_t)(mr_clock_wall_us() / 1000000) + EXPIRES_SOON_S;

    if (cert == NULL) {
        return;
    }
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0) {
        tls_warn(options,
                 "listener '%s': the certificate in %s is not valid yet, so clients will refuse "
                 "it; check this machine's clock",
                 options->name, path);
    }
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0) {
        tls_warn(options,
                 "listener '%s': the certificate in %s has expired, so clients will refuse it; "
                 "renew it and reload",
                 options->name, path);
    } else if (X509_cmp_time(X509_get0_notAfter(cert), &soon) < 0) {
        tls_warn(options, "listener '%s': the certificate in %s expires within 14 days; renew it",
                 options->name, path);
    }
}

/* `key`: of the configuration, for messages. */
static enum mr_err certificate_load(SSL_CTX *ctx, const struct mr_tls_options *options,
                                    const char *key, const char *path, struct mr_error *why)
{
    enum mr_err err = file_check(options, key, path, why);

    if (err == MR_OK && SSL_CTX_use_certificate_chain_file(ctx, path) != 1) {
        return tls_refuse(options, why, key, path, tls_reason(),
                          "it must be PEM and begin with the gateway's own certificate");
    }
    return err;
}

static enum mr_err key_load(SSL_CTX *ctx, const struct mr_tls_options *options, const char *key,
                            const char *path, struct mr_error *why)
{
    enum mr_err err = file_check(options, key, path, why);

    if (err != MR_OK) {
        return err;
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) != 1) {
        int reason = ERR_GET_REASON(ERR_peek_last_error());
        if (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH) {
            return tls_refuse(options, why, key, path, "the key does not match the certificate",
                              "certfile must begin with the certificate made for this key");
        }
        return tls_refuse(options, why, key, path, tls_reason(),
                          "it must be a PEM private key without a passphrase (openssl pkey removes "
                          "one)");
    }
    if (SSL_CTX_check_private_key(ctx) != 1) {
        return tls_refuse(options, why, key, path, "the key does not match the certificate",
                          "certfile must begin with the certificate made for this key");
    }
    if (mr_path_is_open_to_others(path)) {
        tls_warn(options,
                 "listener '%s': every user of this machine may read the key %s; chmod 600 it",
                 options->name, path);
    }
    return MR_OK;
}

/* ---- their side: who signs clients ---- */

static enum mr_err trust_load(SSL_CTX *ctx, const struct mr_tls_options *options,
                              struct mr_error *why)
{
    if (options->cacertfile == NULL) {
        return MR_OK;
    }
    enum mr_err err = file_check(options, "cacertfile", options->cacertfile, why);
    if (err != MR_OK) {
        return err;
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->cacertfile);
    if (names == NULL || SSL_CTX_load_verify_locations(ctx, options->cacertfile, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return tls_refuse(options, why, "cacertfile", options->cacertfile, tls_reason(),
                          "it must hold the PEM certificates of those who sign clients");
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    return MR_OK;
}

/* With a list whose time is over nobody's certificate counts as good. */
static void lists_check(const struct mr_tls_options *options, X509_STORE *store)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        const X509_CRL *list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
        const ASN1_TIME *next = list == NULL ? NULL : X509_CRL_get0_nextUpdate(list);

        if (next != NULL && X509_cmp_current_time(next) < 0) {
            tls_warn(options,
                     "listener '%s': the revocation list in %s has expired, so every client "
                     "certificate is refused; get the next one from the CA and reload",
                     options->name, options->crlfile);
        }
    }
}

static enum mr_err revoked_load(SSL_CTX *ctx, const struct mr_tls_options *options,
                                struct mr_error *why)
{
    if (options->crlfile == NULL) {
        return MR_OK;
    }
    enum mr_err err = file_check(options, "crlfile", options->crlfile, why);
    if (err != MR_OK) {
        return err;
    }
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (lookup == NULL || X509_load_crl_file(lookup, options->crlfile, X509_FILETYPE_PEM) < 1) {
        return tls_refuse(options, why, "crlfile", options->crlfile, tls_reason(),
                          "it must be a PEM revocation list of the CA in cacertfile");
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    lists_check(options, store);
    return MR_OK;
}

static enum mr_err verify_set(SSL_CTX *ctx, const struct mr_tls_options *options,
                              struct mr_error *why)
{
    if (!options->require_certificate) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
        return MR_OK;
    }
    if (options->cacertfile == NULL) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "listener '%s': tls.require_certificate needs `cacertfile`, the "
                            "certificates of those who sign clients",
                            options->name);
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return MR_OK;
}

/* ---- the context ---- */

static enum mr_err rules_set(SSL_CTX *ctx, const struct mr_tls_options *options,
                             struct mr_error *why)
{
    static const unsigned char purpose[] = "millrace";
    const char *ciphers = options->ciphers != NULL ? options->ciphers : ciphers_default;
    int version = options->version_min == MR_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;

    (void)SSL_CTX_set_min_proto_version(ctx, version);
    /* Devices often just hang up, and MQTT has its own way of saying goodbye. */
    (void)SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                       SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_IGNORE_UNEXPECTED_EOF);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1); /* one call for a record's header, body and what follows */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets hold the state */
    (void)SSL_CTX_set_session_id_context(ctx, purpose, sizeof(purpose) - 1);
    (void)SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    (void)SSL_CTX_set_dh_auto(ctx, 1);
    if (SSL_CTX_set_cipher_list(ctx, ciphers) != 1) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "listener '%s': tls.ciphers '%s' names no cipher; `openssl ciphers` "
                            "lists them",
                            options->name, ciphers);
    }
    return MR_OK;
}

/* ---- more certificates: the client's wish chooses (RFC 6066, server name) ---- */

/* Contexts that only have a certificate and its key; they live as long as the first one. */
struct tls_more {
    size_t count;
    SSL_CTX *ctx[];
};

static int more_index = -1; /* of the first context's ex_data */

static void more_free(void *parent, void *held, CRYPTO_EX_DATA *data, int index, long number,
                      void *arg)
{
    struct tls_more *more = held;

    (void)parent;
    (void)data;
    (void)index;
    (void)number;
    (void)arg;
    for (size_t i = 0; more != NULL && i < more->count; i++) {
        SSL_CTX_free(more->ctx[i]);
    }
    mr_free(more);
}

static bool is_made_for(const SSL_CTX *ctx, const char *name)
{
    return X509_check_host(SSL_CTX_get0_certificate(ctx), name, 0, 0, NULL) == 1;
}

static int more_choose(SSL *ssl, int *alert, void *arg)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const SSL_CTX *first = SSL_get_SSL_CTX(ssl);
    const struct tls_more *more = SSL_CTX_get_ex_data(first, more_index);

    (void)alert;
    (void)arg;
    if (name == NULL) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    if (is_made_for(first, name)) {
        return SSL_TLSEXT_ERR_OK;
    }
    for (size_t i = 0; i < more->count; i++) {
        if (is_made_for(more->ctx[i], name)) {
            (void)SSL_set_SSL_CTX(ssl, more->ctx[i]);
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_OK; /* the first one; the client judges it */
}

static enum mr_err more_load(SSL_CTX *first, const struct mr_tls_options *options,
                             struct mr_error *why)
{
    enum mr_err err = MR_OK;

    if (options->more_count == 0) {
        return MR_OK;
    }
    if (more_index < 0) {
        more_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, more_free);
    }
    struct tls_more *more = mr_alloc(sizeof(*more) + options->more_count * sizeof(more->ctx[0]));
    int kept = SSL_CTX_set_ex_data(first, more_index, more);
    mr_assert(more_index >= 0 && kept == 1);
    for (size_t i = 0; i < options->more_count && err == MR_OK; i++) {
        const struct mr_tls_certificate *one = &options->more[i];
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        mr_assert(ctx != NULL);
        more->ctx[more->count++] = ctx;
        SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
        err = certificate_load(ctx, options, "certificates", one->certfile, why);
        if (err == MR_OK) {
            err = key_load(ctx, options, "certificates", one->keyfile, why);
        }
        if (err == MR_OK) {
            dates_check(options, one->certfile, SSL_CTX_get0_certificate(ctx));
        }
    }
    (void)SSL_CTX_set_tlsext_servername_callback(first, more_choose);
    return err;
}

/* A context from the files as they are now. */
static enum mr_err context_make(SSL_CTX **out, const struct mr_tls_options *options,
                                struct mr_error *why)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "listener '%s': OpenSSL cannot be used: %s; check its installation",
                            options->name, tls_reason());
    }
    enum mr_err err = rules_set(ctx, options, why);
    if (err == MR_OK) {
        err = certificate_load(ctx, options, "certfile", options->certfile, why);
    }
    if (err == MR_OK) {
        err = key_load(ctx, options, "keyfile", options->keyfile, why);
    }
    if (err == MR_OK) {
        err = more_load(ctx, options, why);
    }
    if (err == MR_OK) {
        err = trust_load(ctx, options, why);
    }
    if (err == MR_OK) {
        err = revoked_load(ctx, options, why);
    }
    if (err == MR_OK) {
        err = verify_set(ctx, options, why);
    }
    if (err != MR_OK) {
        SSL_CTX_free(ctx);
        return err;
    }
    dates_check(options, options->certfile, SSL_CTX_get0_certificate(ctx));
    *out = ctx;
    return MR_OK;
}

enum mr_err mr_tls_open(struct mr_tls **out, const struct mr_tls_options *options,
                        struct mr_error *why)
{
    SSL_CTX *ctx = NULL;
    enum mr_err err = context_make(&ctx, options, why);

    *out = NULL;
    if (err != MR_OK) {
        return err;
    }
    struct mr_tls *tls = mr_alloc(sizeof(*tls));
    tls->options = *options;
    tls->more = mr_alloc((options->more_count + 1) * sizeof(*tls->more));
    for (size_t i = 0; i < options->more_count; i++) {
        tls->more[i] = options->more[i];
    }
    tls->options.more = tls->more;
    tls->ctx = ctx;
    tls->method = tls_method_new();
    mr_mutex_init(&tls->mutex);
    *out = tls;
    return MR_OK;
}

void mr_tls_close(struct mr_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    SSL_CTX_free(tls->next);
    SSL_CTX_free(tls->ctx);
    BIO_meth_free(tls->method);
    mr_free(tls->more);
    mr_mutex_fini(&tls->mutex);
    mr_free(tls);
}

enum mr_err mr_tls_reload_begin(struct mr_tls *tls, struct mr_error *why)
{
    mr_tls_reload_end(tls, false);
    return context_make(&tls->next, &tls->options, why);
}

void mr_tls_reload_end(struct mr_tls *tls, bool use)
{
    SSL_CTX *unused = tls->next;

    if (use && tls->next != NULL) {
        mr_mutex_lock(&tls->mutex);
        unused = tls->ctx;
        tls->ctx = tls->next;
        mr_mutex_unlock(&tls->mutex);
    }
    tls->next = NULL;
    SSL_CTX_free(unused);
}

void mr_net_secure(struct mr_net *net, uint32_t index, struct mr_tls *tls)
{
    mr_assert(index < MR_NET_LISTENERS_MAX && net->listeners[index].used);
    net->listeners[index].tls = tls;
}
