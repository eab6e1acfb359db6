/* jwt.c - see jwt.h for the contract. */
#include "auth/jwt_internal.h"

#include "auth/base64.h"
#include "codec/json.h"
#include "codec/json_read.h"

#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

enum {
    HEADER_MAX = 1024,
    SIGNATURE_MAX = 1024, /* RSA of 8,192 bits */
    HALF_MAX = 66,        /* of P-521 */
    DER_MAX = 2 * (HALF_MAX + 4) + 8,
};

static const struct jwt_algorithm algorithms[] = {
    {.name = "HS256", .kind = JWT_HMAC, .digest = "SHA256"},
    {.name = "HS384", .kind = JWT_HMAC, .digest = "SHA384"},
    {.name = "HS512", .kind = JWT_HMAC, .digest = "SHA512"},
    {.name = "RS256", .kind = JWT_RSA, .digest = "SHA256"},
    {.name = "RS384", .kind = JWT_RSA, .digest = "SHA384"},
    {.name = "RS512", .kind = JWT_RSA, .digest = "SHA512"},
    {.name = "PS256", .kind = JWT_RSA, .digest = "SHA256", .pss = true},
    {.name = "PS384", .kind = JWT_RSA, .digest = "SHA384", .pss = true},
    {.name = "PS512", .kind = JWT_RSA, .digest = "SHA512", .pss = true},
    {.name = "ES256", .kind = JWT_P256, .digest = "SHA256", .half = 32},
    {.name = "ES384", .kind = JWT_P384, .digest = "SHA384", .half = 48},
    {.name = "ES512", .kind = JWT_P521, .digest = "SHA512", .half = HALF_MAX},
    {.name = "EdDSA", .kind = JWT_ED},
    {.name = "Ed25519", .kind = JWT_ED}, /* RFC 9864's names for the same */
    {.name = "Ed448", .kind = JWT_ED},
};

const struct jwt_algorithm *jwt_algorithm_find(struct mr_span name)
{
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        if (mr_span_is(name, algorithms[i].name)) {
            return &algorithms[i];
        }
    }
    return NULL;
}

bool jwt_plain(struct mr_span value, struct mr_span *text)
{
    if (value.len < 2 || value.at[0] != '"' || memchr(value.at, '\\', value.len) != NULL) {
        return false;
    }
    *text = mr_span_make(value.at + 1, value.len - 2);
    return true;
}

/* ---- signatures ---- */

/* "header.payload" and what is said to be its signature. */
struct signed_text {
    struct mr_span text;
    uint8_t signature[SIGNATURE_MAX];
    size_t signature_len;
};

static bool hmac_is_right(const struct jwt_key *key, const struct jwt_algorithm *algorithm,
                          const struct signed_text *what)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    const EVP_MD *digest = EVP_get_digestbyname(algorithm->digest);

    return HMAC(digest, key->secret, (int)key->secret_len, what->text.at, what->text.len, mac,
                &len) != NULL &&
           len == what->signature_len && CRYPTO_memcmp(mac, what->signature, len) == 0;
}

/* R and S side by side, as JWS has them, in DER, as OpenSSL wants them.  0: they are not. */
static size_t ecdsa_der(const struct signed_text *what, size_t half, uint8_t out[DER_MAX])
{
    ECDSA_SIG *both = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(what->signature, (int)half, NULL);
    BIGNUM *s = BN_bin2bn(what->signature + half, (int)half, NULL);
    uint8_t *at = out;
    int len = 0;

    if (both == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(both, r, s) != 1) {
        BN_free(r);
        BN_free(s);
    } else if (i2d_ECDSA_SIG(both, NULL) <= DER_MAX) {
        len = i2d_ECDSA_SIG(both, &at);
    }
    ECDSA_SIG_free(both);
    return len > 0 ? (size_t)len : 0;
}

static bool pss_set(EVP_PKEY_CTX *ctx)
{
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

static bool public_is_right(const struct jwt_key *key, const struct jwt_algorithm *algorithm,
                            const struct signed_text *what)
{
    uint8_t der[DER_MAX];
    const uint8_t *signature = what->signature;
    size_t len = what->signature_len;
    EVP_PKEY_CTX *ctx = NULL;

    if (algorithm->half != 0) {
        len = len == (size_t)2 * algorithm->half ? ecdsa_der(what, algorithm->half, der) : 0;
        signature = der;
    }
    EVP_MD_CTX *md = len == 0 ? NULL : EVP_MD_CTX_new();
    const EVP_MD *digest =
        algorithm->digest == NULL ? NULL : EVP_get_digestbyname(algorithm->digest);
    bool right = md != NULL && EVP_DigestVerifyInit(md, &ctx, digest, NULL, key->public_key) == 1 &&
                 (!algorithm->pss || pss_set(ctx)) &&
                 EVP_DigestVerify(md, signature, len, what->text.at, what->text.len) == 1;
    EVP_MD_CTX_free(md);
    return right;
}

/* Ed25519 and Ed448 share a kind; RFC 9864's names say which one is meant. */
static bool key_fits(const struct jwt_key *key, const struct jwt_algorithm *algorithm,
                     struct mr_span kid)
{
    if (key->kind != algorithm->kind || (key->only != NULL && key->only != algorithm)) {
        return false;
    }
    if (algorithm->kind == JWT_ED && strcmp(algorithm->name, "EdDSA") != 0 &&
        EVP_PKEY_is_a(key->public_key, algorithm->name) != 1) {
        return false;
    }
    return kid.len == 0 || key->kid_len == 0 ||
           mr_span_equal(kid, mr_span_make(key->kid, key->kid_len));
}

/* The key whose signature it is; NULL: of none. */
static const struct jwt_key *signed_by(const struct mr_jwt_keys *keys,
                                       const struct jwt_algorithm *algorithm, struct mr_span kid,
                                       const struct signed_text *what)
{
    int tries = 0;

    for (size_t i = 0; i < keys->count && tries < MR_JWT_TRIES_MAX; i++) {
        const struct jwt_key *key = &keys->keys[i];
        if (!key_fits(key, algorithm, kid)) {
            continue;
        }
        tries += 1;
        if (key->kind == JWT_HMAC ? hmac_is_right(key, algorithm, what)
                                  : public_is_right(key, algorithm, what)) {
            return key;
        }
    }
    return NULL;
}

/* ---- tokens ---- */

/* What the header says: the algorithm, and perhaps which key. */
static const char *header_take(struct mr_span part, uint8_t header[HEADER_MAX],
                               const struct jwt_algorithm **algorithm, struct mr_span *kid)
{
    size_t len = 0;
    struct mr_span name;

    if (!mr_base64_take(part, MR_BASE64_URL, header, HEADER_MAX, &len) || len == 0 ||
        header[0] != '{' || !mr_json_valid(mr_span_make(header, len))) {
        return "its header is no JSON object";
    }
    struct mr_span json = mr_span_make(header, len);
    struct mr_span given = mr_json_member(json, "kid");
    *algorithm = jwt_plain(mr_json_member(json, "alg"), &name) ? jwt_algorithm_find(name) : NULL;
    if (*algorithm == NULL) {
        return "its algorithm is none of HS, RS, PS, ES or EdDSA";
    }
    if (mr_json_member(json, "crit").len != 0 || mr_json_member(json, "b64").len != 0) {
        return "it asks for extensions, and there are none"; /* RFC 7515 section 4.1.11 */
    }
    *kid = (struct mr_span){0};
    if (given.len != 0 && (!jwt_plain(given, kid) || kid->len == 0)) {
        return "its key id cannot be one of ours";
    }
    return NULL;
}

enum mr_jwt_verdict mr_jwt_verify(const struct mr_jwt_keys *keys, struct mr_span token,
                                  uint8_t scratch[MR_JWT_BYTES_MAX], struct mr_span *claims,
                                  uint64_t *key, const char **fault)
{
    struct mr_span rest = token;
    struct mr_span header = mr_span_split(&rest, '.');
    struct mr_span payload = rest.at == NULL ? rest : mr_span_split(&rest, '.');
    struct signed_text what = {.text = {.at = token.at}};
    const struct jwt_algorithm *algorithm = NULL;
    struct mr_span kid;
    uint8_t text[HEADER_MAX];
    size_t len = 0;

    *fault = NULL;
    if (rest.at == NULL || header.len == 0 || memchr(rest.at, '.', rest.len) != NULL) {
        return MR_JWT_OTHER;
    }
    *fault = token.len > MR_JWT_BYTES_MAX ? "it is longer than 16 KiB"
                                          : header_take(header, text, &algorithm, &kid);
    if (*fault != NULL) {
        return algorithm == NULL && token.len <= MR_JWT_BYTES_MAX && header.at[0] != 'e'
                   ? MR_JWT_OTHER /* no JSON object begins so in base64 */
                   : MR_JWT_BAD;
    }
    what.text.len = (size_t)(payload.at + payload.len - token.at);
    *fault = "its signature is wrong, or by another key";
    const struct jwt_key *by = mr_base64_take(rest, MR_BASE64_URL, what.signature,
                                              sizeof(what.signature), &what.signature_len)
                                   ? signed_by(keys, algorithm, kid, &what)
                                   : NULL;
    if (by == NULL) {
        return MR_JWT_BAD;
    }
    *key = by->mark;
    *fault = "its claims are no JSON object";
    if (!mr_base64_take(payload, MR_BASE64_URL, scratch, MR_JWT_BYTES_MAX, &len) || len == 0 ||
        scratch[0] != '{' || !mr_json_valid(mr_span_make(scratch, len))) {
        return MR_JWT_BAD;
    }
    *claims = mr_span_make(scratch, len);
    *fault = NULL;
    return MR_JWT_GOOD;
}

/* ---- claims ---- */

/* NumericDate (RFC 7519 section 2): seconds, perhaps with a fraction.  False: it is none. */
static bool date_take(struct mr_span value, int64_t *out)
{
    struct mr_span rest = value;
    struct mr_span whole = mr_span_split(&rest, '.');
    uint64_t seconds = 0;

    for (size_t i = 0; i < rest.len; i++) {
        if (rest.at[i] < '0' || rest.at[i] > '9') {
            return false;
        }
    }
    if (mr_parse_u64(whole, (uint64_t)1 << 60, &seconds) != MR_OK) {
        return false;
    }
    *out = (int64_t)seconds;
    return true;
}

/* Is a claim that may be a string or an array of them this one? */
static bool says(struct mr_span value, const char *wanted)
{
    struct mr_span element;
    struct mr_span text;

    if (value.len != 0 && value.at[0] == '[') {
        while (mr_json_next(&value, &element)) {
            if (jwt_plain(element, &text) && mr_span_is(text, wanted)) {
                return true;
            }
        }
        return false;
    }
    return jwt_plain(value, &text) && mr_span_is(text, wanted);
}

/* exp, nbf and iat. */
static const char *times_judge(const struct mr_jwt_conf *conf, struct mr_span claims, int64_t now_s,
                               int64_t *expires_s)
{
    int64_t leeway_s = (int64_t)(conf->leeway_us / 1000000);
    struct mr_span exp = mr_json_member(claims, "exp");
    int64_t at = 0;

    *expires_s = 0;
    if (exp.len != 0) {
        if (!date_take(exp, &at)) {
            return "its `exp` is no time";
        }
        *expires_s = at + leeway_s;
        if (now_s >= *expires_s) {
            return "it has expired";
        }
    }
    static const char *const starts[] = {"nbf", "iat"};
    for (size_t i = 0; i < 2; i++) {
        struct mr_span value = mr_json_member(claims, starts[i]);
        if (value.len != 0 && !date_take(value, &at)) {
            return "its `nbf` or `iat` is no time";
        }
        if (value.len != 0 && now_s + leeway_s < at) {
            return "it holds only later; is a clock wrong?";
        }
    }
    return NULL;
}

const char *mr_jwt_judge(const struct mr_jwt_conf *conf, struct mr_span claims, int64_t now_s,
                         struct mr_span client_id, struct mr_jwt_grant *out)
{
    *out = (struct mr_jwt_grant){.expires_s = 0};
    const char *fault = times_judge(conf, claims, now_s, &out->expires_s);
    if (fault != NULL) {
        return fault;
    }
    if (conf->issuer != NULL && !says(mr_json_member(claims, "iss"), conf->issuer)) {
        return "its `iss` is not `issuer`";
    }
    if (conf->audience != NULL && !says(mr_json_member(claims, "aud"), conf->audience)) {
        return "its `aud` is not `audience`";
    }
    if (conf->clientid_claim != NULL) {
        struct mr_span text;
        if (!jwt_plain(mr_json_member(claims, conf->clientid_claim), &text) ||
            !mr_span_equal(text, client_id)) {
            return "it is for another client id";
        }
    }
    struct mr_span username = mr_json_member(claims, conf->username_claim);
    if (username.len != 0 && username.at[0] == '"') {
        out->username = username;
    }
    out->acl = mr_json_member(claims, conf->acl_claim);
    out->superuser = mr_span_is(mr_json_member(claims, "is_superuser"), "true");
    return NULL;
}
