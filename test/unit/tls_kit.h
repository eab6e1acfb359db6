/* tls_kit.h - certificates for tests, made on the spot in a folder of the test's.
 *
 * For test_tls.c and test_broker_login.c.
 */
#ifndef MR_TEST_TLS_KIT_H
#define MR_TEST_TLS_KIT_H

#include "base/base.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char tls_folder[256];

static inline void tls_folder_make(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(tls_folder, sizeof(tls_folder), "%s/mr-tls-XXXXXX",
                   base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(tls_folder) != NULL);
}

/* A path in the folder; good for eight calls more. */
static inline const char *tls_path(const char *name)
{
    static char paths[8][320];
    static unsigned turn;
    char *path = paths[turn++ % 8];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", tls_folder, name);
    return path;
}

/* A key and a certificate that it has signed itself. */
static inline void tls_certificate_make(const char *name, long serial)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);
    char crt[64];
    char pem[64];

    (void)snprintf(crt, sizeof(crt), "%s.crt", name);
    (void)snprintf(pem, sizeof(pem), "%s.key", name);
    mr_assert(key != NULL && X509_set_version(cert, 2) == 1);
    mr_assert(ASN1_INTEGER_set(X509_get_serialNumber(cert), serial) == 1);
    mr_assert(X509_gmtime_adj(X509_getm_notBefore(cert), -60) != NULL);
    mr_assert(X509_gmtime_adj(X509_getm_notAfter(cert), 30L * 24 * 3600) != NULL);
    mr_assert(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                         (const unsigned char *)"localhost", -1, -1, 0) == 1);
    mr_assert(X509_set_issuer_name(cert, subject) == 1 && X509_set_pubkey(cert, key) == 1);
    mr_assert(X509_sign(cert, key, EVP_sha256()) > 0);

    FILE *file = fopen(tls_path(crt), "w");
    mr_assert(file != NULL && PEM_write_X509(file, cert) == 1 && fclose(file) == 0);
    file = fopen(tls_path(pem), "w");
    mr_assert(file != NULL && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 &&
              fclose(file) == 0);
    X509_free(cert);
    EVP_PKEY_free(key);
}

#endif
