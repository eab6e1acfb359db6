/* jwt.h - signed tokens instead of passwords: JWT (RFC 7519) as JWS (RFC 7515).
 *
 *     keys: a secret, a PEM, a JWK set ─▶ mr_jwt_keys, constant
 *     token ─▶ mr_jwt_verify() ─▶ claims, proven ─▶ mr_jwt_judge() ─▶ who, until when, what
 *
 * HS256/384/512, RS256/384/512, PS256/384/512, ES256/384/512 and EdDSA.  A key fits the
 * algorithms of its own kind alone, so a token can neither do without a signature (`none`) nor
 * pass a public key off as a secret.
 *
 * Why not a library: libjwt (1.10 in Debian 12) knows neither PS, EdDSA nor key sets, cjose and
 * jose no EdDSA, and rhonabwy, which knows all of it, brings a second TLS library into the
 * process and compares HMACs with strcmp in Debian 12 (CVE-2024-25714).  What is left to do
 * above OpenSSL is to cut at two dots, read base64 and look for members of an object.
 *
 * Thread: keys are constant and counted; any.
 * Memory: keys a few KiB; a check none but OpenSSL's.
 * Time:   HS256 2 us, RS256 (2,048 bits) 30 us, EdDSA 100 us, ES256 80 us.
 */
#ifndef MR_AUTH_JWT_H
#define MR_AUTH_JWT_H

#include "base/span.h"

enum {
    MR_JWT_BYTES_MAX = 16384, /* of a token; a longer one is refused */
    MR_JWT_KEYS_MAX = 64,     /* of a set */
    MR_JWT_TRIES_MAX = 8,     /* keys that are tried on a token that names none */
};

/* `auth.jwt`; rows in mr_auth_options.  Without one of the three files there is none. */
struct mr_jwt_conf {
    const char *secret_file;     /* of HS: its bytes, but a line end behind them */
    const char *public_key_file; /* PEM: RSA, EC or Ed; one or more */
    const char *jwks_file;
    const char *issuer;
    const char *audience;
    const char *username_claim;
    const char *clientid_claim;
    const char *acl_claim;
    uint64_t leeway_us;
    uint32_t from;              /* enum mr_jwt_from */
    bool secret_base64_encoded; /* the secret's bytes are base64 */
    bool disconnect_after_expire;
};
enum mr_jwt_from { MR_JWT_FROM_PASSWORD, MR_JWT_FROM_USERNAME };

static inline bool mr_jwt_is_configured(const struct mr_jwt_conf *conf)
{
    return conf->secret_file != NULL || conf->public_key_file != NULL || conf->jwks_file != NULL;
}

/* ---- keys ---- */

struct mr_jwt_keys;

/* Counted once.  CONFIG: a file cannot be read, or a key in it not be used; `why` says which,
 * and what to do.  `warn` (or NULL) gets what is worth knowing.
 */
enum mr_err mr_jwt_keys_read(struct mr_jwt_keys **out, const struct mr_jwt_conf *conf,
                             void (*warn)(void *arg, const char *text), void *arg,
                             struct mr_error *why) MR_MUST_USE;
struct mr_jwt_keys *mr_jwt_keys_hold(struct mr_jwt_keys *keys);
void mr_jwt_keys_drop(struct mr_jwt_keys *keys); /* NULL is allowed */
size_t mr_jwt_keys_count(const struct mr_jwt_keys *keys);
bool mr_jwt_keys_have(const struct mr_jwt_keys *keys, uint64_t key); /* *key of mr_jwt_verify() */

/* ---- tokens ---- */

enum mr_jwt_verdict {
    MR_JWT_OTHER, /* it does not look like a token */
    MR_JWT_GOOD,
    MR_JWT_BAD, /* a token, and *fault says what is wrong with it */
};

/* Is the signature right?  GOOD: *claims is a JSON object, in `scratch`, and by whoever holds
 * the key; *key is a mark of that, the same whenever it is read with the same `kid`.
 */
enum mr_jwt_verdict mr_jwt_verify(const struct mr_jwt_keys *keys, struct mr_span token,
                                  uint8_t scratch[MR_JWT_BYTES_MAX], struct mr_span *claims,
                                  uint64_t *key, const char **fault);

/* What proven claims say.  Spans are JSON values in them; empty: there is no such claim. */
struct mr_jwt_grant {
    struct mr_span username; /* a JSON string */
    struct mr_span acl;
    int64_t expires_s; /* Unix, leeway included; 0: never */
    bool superuser;    /* the claim is_superuser */
};

/* Do they hold now, here, for this client?  NULL, or what is wrong. */
const char *mr_jwt_judge(const struct mr_jwt_conf *conf, struct mr_span claims, int64_t now_s,
                         struct mr_span client_id, struct mr_jwt_grant *out);

#endif
