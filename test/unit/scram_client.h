/* scram_client.h - what a client of SCRAM-SHA-256 answers (RFC 5802).
 *
 * For test_scram.c and test_broker_enhanced.c.
 */
#ifndef MR_TEST_SCRAM_CLIENT_H
#define MR_TEST_SCRAM_CLIENT_H

#include "auth/base64.h"
#include "auth/scram.h"
#include "codec/json.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void scram_hmac(const uint8_t key[32], const char *text, uint8_t out[32])
{
    unsigned len = 32;
    const uint8_t *done =
        HMAC(EVP_sha256(), key, 32, (const uint8_t *)text, strlen(text), out, &len);

    mr_assert(done != NULL);
}

static inline char *scram_value(char *message, const char *name)
{
    char *at = strstr(message, name);

    mr_assert(at != NULL);
    return at + strlen(name);
}

/* client-final of somebody who thinks that this is the password: `bare` is client-first without
 * its header, `gs2` that header in base64.
 */
static inline void scram_final(const char *bare, const char *challenge, const char *gs2,
                               const char *password, char out[MR_SCRAM_MESSAGE_MAX])
{
    char parts[MR_SCRAM_MESSAGE_MAX];
    char said[2048];
    uint8_t salt[MR_SCRAM_SALT_MAX];
    uint8_t salted[32];
    uint8_t client_key[32];
    uint8_t stored_key[32];
    uint8_t signature[32];
    char encoded[64];
    size_t salt_len = 0;

    (void)snprintf(parts, sizeof(parts), "%s", challenge);
    long iterations = strtol(scram_value(parts, ",i="), NULL, 10);
    *strstr(parts, ",i=") = 0;
    mr_assert(mr_base64_take(mr_span_of(scram_value(parts, ",s=")), MR_BASE64_PLAIN, salt,
                             sizeof(salt), &salt_len));
    *strstr(parts, ",s=") = 0;
    mr_assert(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, (int)salt_len,
                                (int)iterations, EVP_sha256(), 32, salted) == 1);
    scram_hmac(salted, "Client Key", client_key);
    mr_assert(EVP_Digest(client_key, 32, stored_key, NULL, EVP_sha256(), NULL) == 1);
    int len = snprintf(out, MR_SCRAM_MESSAGE_MAX, "c=%s,%s", gs2, parts);
    (void)snprintf(said, sizeof(said), "%s,%s,%s", bare, challenge, out);
    scram_hmac(stored_key, said, signature);
    for (int i = 0; i < 32; i++) {
        client_key[i] ^= signature[i];
    }
    *mr_base64_put(encoded, mr_span_make(client_key, 32)) = 0;
    (void)snprintf(out + len, MR_SCRAM_MESSAGE_MAX - (size_t)len, ",p=%s", encoded);
}

#endif
