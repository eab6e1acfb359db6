/* certificate.c - certificates: why a broker's was refused, until when ours is good, and renewal.
 *
 *     librdkafka's thread: on_verify() ─▶ k->certificate.said ─▶ mr_kafka_certificate_text()
 *     the files of `ssl` are others  ─▶ mr_kafka_certificate_look() ─▶ a new producer
 *
 * DESIGN
 *
 * Of a handshake that failed librdkafka tells only that it did, whatever the cause was.  OpenSSL's
 * own verdict on each certificate comes by a callback; it is kept here and told in its place, with
 * the date, because most of the time that is what it is about.  Whether our own was refused only
 * the broker knows, which sends an alert; if ours has expired meanwhile, that is why.
 *
 * librdkafka reads the files when a producer is made.  While brokers refuse us, or we them, their
 * content is compared with what it was then; when it is another, a new producer reads it.  So a
 * renewed certificate needs no restart, and a connection that stands is not ended for one.
 *
 * Thread: the bridge's worker; on_verify() librdkafka's.   Memory: a file at a time, 64 KiB.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/hash.h"
#include "base/log.h"
#include "os/clock.h"
#include "os/file.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

enum {
    FILE_BYTES_MAX = 65536,
    DATE_CHARS = 14,
    LOOK_EVERY_MS = 1000,
    EXPIRES_SOON_S = 14 * 86400,
};

/* ---- words ---- */

static void put_date(struct mr_text *out, const ASN1_TIME *time)
{
    ASN1_GENERALIZEDTIME *general = ASN1_TIME_to_generalizedtime(time, NULL);

    if (general != NULL && ASN1_STRING_length(general) >= DATE_CHARS) { /* YYYYMMDDHHMMSSZ */
        const char *at = (const char *)ASN1_STRING_get0_data(general);
        mr_text_fmt(out, "%.4s-%.2s-%.2s %.2s:%.2s:%.2s UTC", at, at + 4, at + 6, at + 8, at + 10,
                    at + 12);
    }
    ASN1_GENERALIZEDTIME_free(general);
}

/* What OpenSSL has against a broker's certificate, and who can mend it. */
static void put_fault(struct mr_text *out, int fault, const X509 *cert, const char *cacertfile)
{
    switch (fault) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        mr_text_add(out, " expired at ");
        put_date(out, X509_get0_notAfter(cert));
        mr_text_add(out, "; renew it there, or set this machine's clock right");
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        mr_text_add(out, " is not valid before ");
        put_date(out, X509_get0_notBefore(cert));
        mr_text_add(out, "; set this machine's clock right, or wait");
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        mr_text_add(out, " is for another name than the one in `servers`, or that the broker "
                         "advertises; make one for that name");
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        mr_text_fmt(out, " is by no authority of %s; put its authority there (`ssl.cacertfile`)",
                    cacertfile == NULL ? "the system" : cacertfile);
        break;
    default:
        mr_text_fmt(out, ": %s; check `ssl`", X509_verify_cert_error_string(fault));
        break;
    }
}

/* ---- the broker's ---- */

static int on_verify(rd_kafka_t *rk, const char *broker_name, int32_t broker_id, int *x509_error,
                     int depth, const char *der, size_t size, char *reason, size_t reason_size,
                     void *opaque)
{
    const unsigned char *at = (const unsigned char *)der;
    struct kafka *k = opaque;
    char subject[128] = "?";

    (void)rk;
    (void)broker_id;
    (void)depth;
    if (*x509_error == X509_V_OK) {
        return 1;
    }
    X509 *cert = d2i_X509(NULL, &at, (long)size);
    if (cert == NULL) {
        return 0;
    }
    (void)X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof(subject));
    mr_mutex_lock(&k->certificate.mutex);
    struct mr_text out = mr_text_over(k->certificate.said, sizeof(k->certificate.said));
    mr_text_fmt(&out, "the certificate %s of broker %s", subject, broker_name);
    put_fault(&out, *x509_error, cert, k->conf->ssl.cacertfile);
    snprintf(reason, reason_size, "%s", k->certificate.said);
    mr_mutex_unlock(&k->certificate.mutex);
    X509_free(cert);
    return 0;
}

/* ---- our own ---- */

/* How much of the file there is; 0: none that can be read. */
static size_t file_read(const char *path, char *bytes)
{
    struct mr_file file;
    size_t got = 0;

    if (path == NULL || mr_file_open(&file, path, MR_FILE_READ, NULL) != MR_OK) {
        return 0;
    }
    if (mr_file_read(&file, bytes, FILE_BYTES_MAX, 0, &got) != MR_OK) {
        got = 0;
    }
    mr_file_close(&file);
    return got;
}

static uint64_t files_hash(const struct mr_kafka_conf *conf)
{
    const char *paths[] = {conf->ssl.cacertfile, conf->ssl.certfile, conf->ssl.keyfile};
    char *bytes = mr_alloc(FILE_BYTES_MAX);
    uint64_t hash = 0;

    for (size_t i = 0; i < MR_COUNT_OF(paths); i++) {
        hash = hash * 31 + mr_murmur2(bytes, file_read(paths[i], bytes));
    }
    mr_free(bytes);
    return hash;
}

/* The first certificate of the file; NULL: there is none. */
static X509 *own_read(const char *path)
{
    char *bytes = mr_alloc(FILE_BYTES_MAX);
    BIO *bio = BIO_new_mem_buf(bytes, (int)file_read(path, bytes));
    X509 *cert = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);

    BIO_free(bio);
    ERR_clear_error();
    mr_free(bytes);
    return cert;
}

/* "our certificate FILE expired at ..."; false: it has not, within `within_s` from now. */
static bool own_expires(const struct mr_kafka_conf *conf, time_t within_s, struct mr_text *out)
{
    time_t then = (time_t)(mr_clock_wall_us() / 1000000) + within_s;
    X509 *cert = own_read(conf->ssl.certfile);
    bool expires = cert != NULL && X509_cmp_time(X509_get0_notAfter(cert), &then) < 0;

    if (expires) {
        bool expired = X509_cmp_current_time(X509_get0_notAfter(cert)) < 0;
        mr_text_fmt(out, "our certificate in %s %s at ", conf->ssl.certfile,
                    expired ? "expired" : "expires");
        put_date(out, X509_get0_notAfter(cert));
        mr_text_add(out,
                    "; put a renewed one there: it is read as soon as brokers refuse this one");
    }
    X509_free(cert);
    return expires;
}

/* ---- what the others call ---- */

void mr_kafka_certificate_warn(const struct mr_kafka_conf *conf, const char *bridge)
{
    char text[TEXT_MAX];
    struct mr_text out = mr_text_over(text, sizeof(text));

    if (conf->ssl.enable && own_expires(conf, EXPIRES_SOON_S, &out)) {
        mr_log(MR_LOG_WARN, "kafka", "%s: %s", bridge, text);
    }
}

void mr_kafka_certificate_attach(rd_kafka_conf_t *rk_conf, struct kafka *k)
{
    if (!k->conf->ssl.enable) {
        return;
    }
    k->certificate.files_hash = files_hash(k->conf);
    k->certificate.said[0] = '\0'; /* there is no producer, hence no thread of librdkafka */
    if (k->conf->ssl.verify) {
        (void)rd_kafka_conf_set_ssl_cert_verify_cb(rk_conf, on_verify);
    }
}

bool mr_kafka_certificate_text(struct kafka *k, struct mr_text *out)
{
    mr_mutex_lock(&k->certificate.mutex);
    bool said = k->certificate.said[0] != '\0';
    if (said) {
        mr_text_add(out, k->certificate.said);
    }
    mr_mutex_unlock(&k->certificate.mutex);
    return said || own_expires(k->conf, 0, out);
}

void mr_kafka_certificate_look(struct kafka *k)
{
    int64_t now_ns = mr_clock_mono_ns();

    if (!k->conf->ssl.enable || now_ns < k->certificate.look_at_ns || k->failing) {
        return;
    }
    k->certificate.look_at_ns = now_ns + LOOK_EVERY_MS * NS_PER_MS;
    if (files_hash(k->conf) == k->certificate.files_hash) {
        return;
    }
    mr_log(MR_LOG_INFO, "kafka", "%s: the files of `ssl` have changed; connecting anew with them",
           mr_sink_bridge_name(k->port));
    mr_tx_note(k, NULL, MR_VERDICT_RETRY, "the certificates were renewed");
    k->renew = true;
    mr_kafka_fail(k);
}
