/* jwt_internal.h - algorithms and keys of tokens, for jwt.c, jwt_keys.c and jwk.c.
 *
 * Thread: values; keys are constant once they are read.   Memory: see jwt.h.   Time: none.
 */
#ifndef MR_AUTH_JWT_INTERNAL_H
#define MR_AUTH_JWT_INTERNAL_H

#include "auth/jwt.h"

#include <openssl/evp.h>

/* What a key is; an algorithm asks for one kind. */
enum jwt_kind {
    JWT_NONE,
    JWT_HMAC,
    JWT_RSA,
    JWT_P256,
    JWT_P384,
    JWT_P521,
    JWT_ED, /* Ed25519 and Ed448 */
};

struct jwt_algorithm {
    const char *name;
    const char *digest; /* NULL: the algorithm has its own */
    uint8_t kind;       /* enum jwt_kind */
    bool pss;
    uint8_t half; /* bytes of R and S of ES */
};

/* NULL: none that we know, `none` among them. */
const struct jwt_algorithm *jwt_algorithm_find(struct mr_span name);

enum { JWT_KID_MAX = 256, JWT_RSA_BITS_MIN = 2048, JWT_RSA_BITS_MAX = 8192 };

struct jwt_key {
    const struct jwt_algorithm *only; /* the one its set allows; NULL: all of its kind */
    EVP_PKEY *public_key;             /* NULL with HMAC */
    uint8_t *secret;                  /* of HMAC */
    size_t secret_len;
    uint64_t mark;    /* of what it is: see mr_jwt_verify() */
    uint16_t kid_len; /* 0: it has none */
    uint8_t kind;     /* enum jwt_kind */
    uint8_t kid[JWT_KID_MAX];
};

/* Take over a public key.  NULL, or why it cannot be used; then it is the caller's. */
const char *jwt_key_public(struct jwt_key *key, EVP_PKEY *public_key);

/* One JWK (RFC 7517), a valid JSON object.  *skipped: it is for something else than checking
 * signatures.  NULL, or why it cannot be used.
 */
const char *jwk_take(struct mr_span jwk, struct jwt_key *key, bool *skipped);

/* The text of a JSON string without escapes, which is all that keys have; false: another one. */
bool jwt_plain(struct mr_span value, struct mr_span *text);

struct mr_jwt_keys {
    _Atomic uint32_t holders;
    size_t count;
    struct jwt_key keys[MR_JWT_KEYS_MAX];
};

#endif
