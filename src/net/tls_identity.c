/* tls_identity.c - whose certificate is it?  See mr_conn_tls_identity(). */
#include "net/tls_openssl_internal.h"

#include "base/text.h"

#include <openssl/bio.h>
#include <openssl/x509v3.h>

/* A name as it stands in a certificate, as one that MQTT knows, or not at all: a NUL inside
 * must not end it earlier than its signer meant.
 */
static bool name_take(const void *text, int len, char *into, size_t size)
{
    bool usable = len > 0 && (size_t)len < size && memchr(text, 0, (size_t)len) == NULL &&
                  mr_utf8_valid(mr_span_make(text, (size_t)len));

    if (usable) {
        memcpy(into, text, (size_t)len);
        into[len] = 0;
    }
    return usable;
}

static bool common_name(const X509 *cert, char *into, size_t size)
{
    const X509_NAME *name = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    unsigned char *text = NULL;
    int len = -1;

    if (at >= 0) {
        len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    }
    bool usable = name_take(text, len, into, size);
    OPENSSL_free(text);
    return usable;
}

static bool subject(const X509 *cert, char *into, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *text = NULL;
    bool usable = false;

    /* UTF-8 stays, separators and control characters are escaped. */
    if (bio != NULL &&
        X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0,
                           XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0) {
        long len = BIO_get_mem_data(bio, &text);
        usable = len <= INT32_MAX && name_take(text, (int)len, into, size);
    }
    BIO_free(bio);
    return usable;
}

static bool alternative(const X509 *cert, int kind, char *into, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool usable = false;
    bool found = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        found = name->type == kind;
        if (found) {
            const ASN1_IA5STRING *text = name->d.ia5;
            usable = name_take(ASN1_STRING_get0_data(text), ASN1_STRING_length(text), into, size);
        }
    }
    GENERAL_NAMES_free(names);
    return usable;
}

bool tls_certificate_names(const X509 *cert, enum mr_tls_identity from, char *into, size_t size)
{
    switch (from) {
    case MR_TLS_CN:
        return common_name(cert, into, size);
    case MR_TLS_SUBJECT:
        return subject(cert, into, size);
    case MR_TLS_SAN_DNS:
        return alternative(cert, GEN_DNS, into, size);
    case MR_TLS_SAN_EMAIL:
        return alternative(cert, GEN_EMAIL, into, size);
    case MR_TLS_SAN_URI:
        return alternative(cert, GEN_URI, into, size);
    }
    return false;
}
