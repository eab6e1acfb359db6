/* jwk.c - one key of a JWK set (RFC 7517, RFC 7518 section 6, RFC 8037). */
#include "auth/jwt_internal.h"

#include "auth/base64.h"
#include "auth/passhash.h"
#include "codec/json.h"
#include "codec/json_read.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

enum { NUMBER_MAX = 1024, POINT_MAX = 1 + 2 * 66, ED_MAX = 57, SECRET_MAX = 1024 };

/* A member that is base64url. */
static bool bytes_take(struct mr_span jwk, const char *name, uint8_t *into, size_t size,
                       size_t *len)
{
    struct mr_span text;

    return jwt_plain(mr_json_member(jwk, name), &text) &&
           mr_base64_take(text, MR_BASE64_URL, into, size, len) && *len != 0;
}

static bool member_is(struct mr_span jwk, const char *name, const char *wanted)
{
    struct mr_span text;

    return jwt_plain(mr_json_member(jwk, name), &text) && mr_span_is(text, wanted);
}

/* A public key of `type` from what `build` holds; NULL: it is none. */
static EVP_PKEY *key_from(const char *type, OSSL_PARAM_BLD *build)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;

    if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        key = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    ERR_clear_error();
    return key;
}

static EVP_PKEY *rsa_take(struct mr_span jwk)
{
    uint8_t bytes[NUMBER_MAX];
    size_t len = 0;
    EVP_PKEY *key = NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *n =
        bytes_take(jwk, "n", bytes, sizeof(bytes), &len) ? BN_bin2bn(bytes, (int)len, NULL) : NULL;
    BIGNUM *e = bytes_take(jwk, "e", bytes, 8, &len) ? BN_bin2bn(bytes, (int)len, NULL) : NULL;

    if (build != NULL && n != NULL && e != NULL && BN_is_odd(e) && !BN_is_one(e) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1) {
        key = key_from("RSA", build);
    }
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    return key;
}

static EVP_PKEY *ec_take(struct mr_span jwk)
{
    static const struct {
        const char *crv;
        const char *group;
        size_t half;
    } curves[] = {
        {"P-256", "prime256v1", 32}, {"P-384", "secp384r1", 48}, {"P-521", "secp521r1", 66}};
    uint8_t point[POINT_MAX] = {4}; /* uncompressed */
    EVP_PKEY *key = NULL;

    for (size_t i = 0; i < 3; i++) {
        size_t half = curves[i].half;
        size_t x_len = 0;
        size_t y_len = 0;
        if (!member_is(jwk, "crv", curves[i].crv) ||
            !bytes_take(jwk, "x", point + 1, half, &x_len) || x_len != half ||
            !bytes_take(jwk, "y", point + 1 + half, half, &y_len) || y_len != half) {
            continue;
        }
        OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
        if (build != NULL &&
            OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, curves[i].group,
                                            0) == 1 &&
            OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * half) ==
                1) {
            key = key_from("EC", build);
        }
        OSSL_PARAM_BLD_free(build);
    }
    return key;
}

static EVP_PKEY *okp_take(struct mr_span jwk)
{
    uint8_t bytes[ED_MAX];
    size_t len = 0;
    const char *type = member_is(jwk, "crv", "Ed25519") ? "ED25519"
                       : member_is(jwk, "crv", "Ed448") ? "ED448"
                                                        : NULL;

    if (type == NULL || !bytes_take(jwk, "x", bytes, sizeof(bytes), &len)) {
        return NULL;
    }
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key_ex(NULL, type, NULL, bytes, len);
    ERR_clear_error();
    return key;
}

static const char *oct_take(struct mr_span jwk, struct jwt_key *key)
{
    uint8_t bytes[SECRET_MAX];
    size_t len = 0;

    if (!bytes_take(jwk, "k", bytes, sizeof(bytes), &len)) {
        return "its `k` is not base64url of 1 to 1,024 bytes";
    }
    key->kind = JWT_HMAC;
    key->secret = mr_alloc(len);
    key->secret_len = len;
    memcpy(key->secret, bytes, len);
    mr_secret_wipe(bytes, sizeof(bytes));
    return NULL;
}

/* kid and alg, which every kind may have. */
static const char *common_take(struct mr_span jwk, struct jwt_key *key)
{
    struct mr_span kid = mr_json_member(jwk, "kid");
    struct mr_span alg = mr_json_member(jwk, "alg");
    struct mr_span text;

    if (kid.len != 0) {
        if (!jwt_plain(kid, &text) || text.len == 0 || text.len > JWT_KID_MAX) {
            return "its `kid` is no text of 1 to 256 bytes without escapes";
        }
        memcpy(key->kid, text.at, text.len);
        key->kid_len = (uint16_t)text.len;
    }
    if (alg.len != 0) {
        key->only = jwt_plain(alg, &text) ? jwt_algorithm_find(text) : NULL;
        if (key->only == NULL || key->only->kind != key->kind) {
            return "its `alg` does not fit its key";
        }
    }
    return NULL;
}

const char *jwk_take(struct mr_span jwk, struct jwt_key *key, bool *skipped)
{
    struct mr_span use = mr_json_member(jwk, "use");
    EVP_PKEY *public_key = NULL;

    *skipped = use.len != 0 && !member_is(jwk, "use", "sig");
    if (*skipped) {
        return NULL;
    }
    if (member_is(jwk, "kty", "oct")) {
        const char *fault = oct_take(jwk, key);
        return fault != NULL ? fault : common_take(jwk, key);
    }
    if (member_is(jwk, "kty", "RSA")) {
        public_key = rsa_take(jwk);
    } else if (member_is(jwk, "kty", "EC")) {
        public_key = ec_take(jwk);
    } else if (member_is(jwk, "kty", "OKP")) {
        public_key = okp_take(jwk);
    } else {
        *skipped = true; /* a kind that only others know */
        return NULL;
    }
    if (public_key == NULL) {
        return "its numbers are no key of its kind";
    }
    const char *fault = jwt_key_public(key, public_key);
    if (fault != NULL) {
        EVP_PKEY_free(public_key);
        return fault;
    }
    return common_take(jwk, key);
}
