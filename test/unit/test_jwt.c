/* test_jwt.c
 * links: auth codec os base
 *
 * Goal:   tokens of every algorithm are checked with keys from every kind of file, and no
 *         token passes that is not signed by one of these keys, for its own algorithm.
 * Method: keys made here, tokens signed with OpenSSL, each byte of one changed in turn; the
 *         attacks by name.
 */
#include "auth/jwt.h"
#include "codec/json.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[256];
static const char secret[] = "0123456789abcdef0123456789abcdef";

enum { RSA2048, P256, P384, P521, ED25519, ED448, KEYS };
static EVP_PKEY *keys_made[KEYS];

static const char *path_of(const char *name)
{
    static char path[300];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void file_put(const char *name, const void *at, size_t len)
{
    FILE *file = fopen(path_of(name), "w");

    mr_assert(file != NULL && fwrite(at, 1, len, file) == len && fclose(file) == 0);
}

static size_t url64(const void *at, size_t len, char *out)
{
    char *end = mr_base64_put(out, mr_span_make(at, len));

    for (char *c = out; c < end; c++) {
        *c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
    }
    while (end > out && end[-1] == '=') {
        end--;
    }
    *end = 0;
    return (size_t)(end - out);
}

/* ---- signing ---- */

struct alg {
    const char *name;
    int key; /* -1: HMAC */
    const char *digest;
    bool pss;
    size_t half;
};

static const struct alg algs[] = {
    {"HS256", -1, "SHA256", false, 0},      {"HS384", -1, "SHA384", false, 0},
    {"HS512", -1, "SHA512", false, 0},      {"RS256", RSA2048, "SHA256", false, 0},
    {"RS384", RSA2048, "SHA384", false, 0}, {"RS512", RSA2048, "SHA512", false, 0},
    {"PS256", RSA2048, "SHA256", true, 0},  {"PS384", RSA2048, "SHA384", true, 0},
    {"PS512", RSA2048, "SHA512", true, 0},  {"ES256", P256, "SHA256", false, 32},
    {"ES384", P384, "SHA384", false, 48},   {"ES512", P521, "SHA512", false, 66},
    {"EdDSA", ED25519, NULL, false, 0},     {"EdDSA", ED448, NULL, false, 0},
    {"Ed25519", ED25519, NULL, false, 0},   {"Ed448", ED448, NULL, false, 0},
};
enum { ALGS = sizeof(algs) / sizeof(algs[0]) };

static size_t sign(const struct alg *alg, const char *text, uint8_t *out, size_t size)
{
    size_t len = size;
    EVP_PKEY_CTX *ctx = NULL;

    if (alg->key < 0) {
        unsigned mac = 0;
        mr_assert(HMAC(EVP_get_digestbyname(alg->digest), secret, sizeof(secret) - 1,
                       (const uint8_t *)text, strlen(text), out, &mac) != NULL);
        return mac;
    }
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    mr_assert(EVP_DigestSignInit(md, &ctx,
                                 alg->digest == NULL ? NULL : EVP_get_digestbyname(alg->digest),
                                 NULL, keys_made[alg->key]) == 1);
    if (alg->pss) {
        mr_assert(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
                  EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1);
    }
    mr_assert(EVP_DigestSign(md, out, &len, (const uint8_t *)text, strlen(text)) == 1);
    EVP_MD_CTX_free(md);
    if (alg->half != 0) {
        const uint8_t *at = out;
        ECDSA_SIG *both = d2i_ECDSA_SIG(NULL, &at, (long)len);
        mr_assert(both != NULL);
        mr_assert(BN_bn2binpad(ECDSA_SIG_get0_r(both), out, (int)alg->half) > 0);
        mr_assert(BN_bn2binpad(ECDSA_SIG_get0_s(both), out + alg->half, (int)alg->half) > 0);
        ECDSA_SIG_free(both);
        len = 2 * alg->half;
    }
    return len;
}

static void token_with(char *out, const struct alg *alg, const char *header, const char *claims)
{
    uint8_t signature[2048];
    size_t len = url64(header, strlen(header), out);

    out[len++] = '.';
    len += url64(claims, strlen(claims), out + len);
    size_t signature_len = sign(alg, out, signature, sizeof(signature));
    out[len++] = '.';
    (void)url64(signature, signature_len, out + len);
}

static void token(char *out, const struct alg *alg, const char *claims)
{
    char header[128];

    (void)snprintf(header, sizeof(header), "{\"typ\":\"JWT\",\"alg\":\"%s\"}", alg->name);
    token_with(out, alg, header, claims);
}

/* ---- keys ---- */

static size_t put_number(EVP_PKEY *key, const char *param, size_t size, const char *name, char *out)
{
    uint8_t bytes[1024];
    char text[2048];
    BIGNUM *number = NULL;

    mr_assert(EVP_PKEY_get_bn_param(key, param, &number) == 1);
    int len = size == 0 ? BN_bn2bin(number, bytes) : BN_bn2binpad(number, bytes, (int)size);
    BN_free(number);
    (void)url64(bytes, (size_t)len, text);
    return (size_t)sprintf(out, ",\"%s\":\"%s\"", name, text);
}

static size_t put_jwk(char *out, int which, const char *more)
{
    static const char *const heads[KEYS] = {
        "\"kty\":\"RSA\"",
        "\"kty\":\"EC\",\"crv\":\"P-256\"",
        "\"kty\":\"EC\",\"crv\":\"P-384\"",
        "\"kty\":\"EC\",\"crv\":\"P-521\"",
        "\"kty\":\"OKP\",\"crv\":\"Ed25519\"",
        "\"kty\":\"OKP\",\"crv\":\"Ed448\"",
    };
    static const size_t halves[KEYS] = {0, 32, 48, 66, 0, 0};
    EVP_PKEY *key = keys_made[which];
    size_t len = (size_t)sprintf(out, "{%s%s", heads[which], more);

    if (which == RSA2048) {
        len += put_number(key, OSSL_PKEY_PARAM_RSA_N, 0, "n", out + len);
        len += put_number(key, OSSL_PKEY_PARAM_RSA_E, 0, "e", out + len);
    } else if (halves[which] != 0) {
        len += put_number(key, OSSL_PKEY_PARAM_EC_PUB_X, halves[which], "x", out + len);
        len += put_number(key, OSSL_PKEY_PARAM_EC_PUB_Y, halves[which], "y", out + len);
    } else {
        uint8_t raw[64];
        char text[128];
        size_t raw_len = sizeof(raw);
        mr_assert(EVP_PKEY_get_raw_public_key(key, raw, &raw_len) == 1);
        (void)url64(raw, raw_len, text);
        len += (size_t)sprintf(out + len, ",\"x\":\"%s\"", text);
    }
    out[len++] = '}';
    out[len] = 0;
    return len;
}

static void keys_make(void)
{
    static char jwks[16384];
    size_t len = 0;
    FILE *pem = fopen(path_of("keys.pem"), "w");

    keys_made[RSA2048] = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    keys_made[P256] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    keys_made[P384] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    keys_made[P521] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521");
    keys_made[ED25519] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    keys_made[ED448] = EVP_PKEY_Q_keygen(NULL, NULL, "ED448");
    mr_assert(pem != NULL);
    len += (size_t)sprintf(jwks, "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"s\",\"k\":\"");
    len += url64(secret, sizeof(secret) - 1, jwks + len);
    len += (size_t)sprintf(jwks + len, "\"}");
    for (int i = 0; i < KEYS; i++) {
        char more[64];
        mr_assert(keys_made[i] != NULL && PEM_write_PUBKEY(pem, keys_made[i]) == 1);
        (void)snprintf(more, sizeof(more), ",\"kid\":\"k%d\",\"use\":\"sig\"", i);
        jwks[len++] = ',';
        len += put_jwk(jwks + len, i, more);
    }
    len += (size_t)sprintf(jwks + len, ",{\"kty\":\"RSA\",\"use\":\"enc\",\"n\":\"AQ\"},"
                                       "{\"kty\":\"later\"}]}");
    mr_assert(fclose(pem) == 0);
    file_put("keys.jwks", jwks, len);
    file_put("secret", secret, sizeof(secret) - 1);
}

static struct mr_jwt_keys *keys_read(const char *secret_name, const char *pem, const char *jwks)
{
    static char paths[3][300];
    struct mr_jwt_conf conf = {0};
    struct mr_jwt_keys *keys = NULL;
    struct mr_error why = {.text = ""};

    (void)snprintf(paths[0], sizeof(paths[0]), "%s",
                   path_of(secret_name == NULL ? "" : secret_name));
    (void)snprintf(paths[1], sizeof(paths[1]), "%s", path_of(pem == NULL ? "" : pem));
    (void)snprintf(paths[2], sizeof(paths[2]), "%s", path_of(jwks == NULL ? "" : jwks));
    conf.secret_file = secret_name == NULL ? NULL : paths[0];
    conf.public_key_file = pem == NULL ? NULL : paths[1];
    conf.jwks_file = jwks == NULL ? NULL : paths[2];
    if (mr_jwt_keys_read(&keys, &conf, NULL, NULL, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    return keys;
}

/* ---- tests ---- */

static enum mr_jwt_verdict verify(const struct mr_jwt_keys *keys, const char *text)
{
    static uint8_t scratch[MR_JWT_BYTES_MAX];
    struct mr_span claims;
    const char *fault = NULL;
    uint64_t key = 0;

    /* From memory of exactly its size, so that a look beyond it is found. */
    size_t len = strlen(text);
    uint8_t *copy = mr_alloc(len + 1);
    memcpy(copy, text, len);
    enum mr_jwt_verdict verdict =
        mr_jwt_verify(keys, mr_span_make(copy, len), scratch, &claims, &key, &fault);
    mr_assert((verdict == MR_JWT_BAD) == (fault != NULL) || verdict == MR_JWT_OTHER);
    mr_assert(verdict != MR_JWT_GOOD || mr_json_valid(claims));
    mr_free(copy);
    return verdict;
}

static void test_every_algorithm_with_every_kind_of_file(void)
{
    struct mr_jwt_keys *files = keys_read("secret", "keys.pem", NULL);
    struct mr_jwt_keys *set = keys_read(NULL, NULL, "keys.jwks");
    char text[4096];

    mr_assert(mr_jwt_keys_count(files) == 7 && mr_jwt_keys_count(set) == 7);
    for (int i = 0; i < ALGS; i++) {
        token(text, &algs[i], "{\"sub\":\"press-7\"}");
        mr_assert(verify(files, text) == MR_JWT_GOOD);
        mr_assert(verify(set, text) == MR_JWT_GOOD);
    }
    mr_jwt_keys_drop(files);
    mr_jwt_keys_drop(set);
}

static void test_a_key_is_found_by_its_id(void)
{
    struct mr_jwt_keys *set = keys_read(NULL, NULL, "keys.jwks");
    char text[4096];

    token_with(text, &algs[9], "{\"alg\":\"ES256\",\"kid\":\"k1\"}", "{}");
    mr_assert(verify(set, text) == MR_JWT_GOOD);
    token_with(text, &algs[9], "{\"alg\":\"ES256\",\"kid\":\"k2\"}", "{}");
    mr_assert(verify(set, text) == MR_JWT_BAD);
    token_with(text, &algs[9], "{\"alg\":\"ES256\",\"kid\":\"../../secret\"}", "{}");
    mr_assert(verify(set, text) == MR_JWT_BAD);
    token_with(text, &algs[9], "{\"alg\":\"ES256\",\"kid\":1}", "{}");
    mr_assert(verify(set, text) == MR_JWT_BAD);
    mr_jwt_keys_drop(set);
}

static void test_every_changed_byte_is_noticed(void)
{
    struct mr_jwt_keys *files = keys_read("secret", "keys.pem", NULL);
    static const int some[] = {0, 9, 12};
    char text[4096];

    for (size_t n = 0; n < 3; n++) {
        token(text, &algs[some[n]], "{\"sub\":\"press-7\",\"exp\":1}");
        size_t len = strlen(text);
        for (size_t i = 0; i < len; i++) {
            char was = text[i];
            /* Not the lowest bits: in the last character of a part they say nothing. */
            text[i] = (char)(was == 'Q' ? 'h' : 'Q');
            mr_assert(verify(files, text) != MR_JWT_GOOD);
            text[i] = 0;
            mr_assert(verify(files, text) != MR_JWT_GOOD);
            text[i] = was;
        }
        mr_assert(verify(files, text) == MR_JWT_GOOD);
    }
    mr_jwt_keys_drop(files);
}

/* A public key as the secret of an HMAC: if a PEM were taken for one, this would pass. */
static void test_a_public_key_is_no_secret(void)
{
    struct mr_jwt_keys *pem = keys_read(NULL, "keys.pem", NULL);
    static char file[16384];
    uint8_t mac[64];
    unsigned mac_len = 0;
    char text[4096];
    FILE *from = fopen(path_of("keys.pem"), "r");

    mr_assert(from != NULL);
    size_t file_len = fread(file, 1, sizeof(file), from);
    (void)fclose(from);
    size_t len = url64("{\"alg\":\"HS256\"}", 15, text);
    text[len++] = '.';
    len += url64("{}", 2, text + len);
    text[len] = 0;
    mr_assert(HMAC(EVP_sha256(), file, (int)file_len, (const uint8_t *)text, len, mac, &mac_len) !=
              NULL);
    text[len++] = '.';
    (void)url64(mac, mac_len, text + len);
    mr_assert(verify(pem, text) == MR_JWT_BAD);
    token(text, &algs[0], "{}"); /* nor is any other secret */
    mr_assert(verify(pem, text) == MR_JWT_BAD);
    mr_jwt_keys_drop(pem);
}

static void test_attacks_and_nonsense(void)
{
    struct mr_jwt_keys *files = keys_read("secret", "keys.pem", NULL);
    static const char *const bad_headers[] = {
        "{\"alg\":\"none\"}",
        "{\"alg\":\"None\"}",
        "{\"alg\":\"\"}",
        "{\"alg\":null}",
        "{\"alg\":[\"HS256\"]}",
        "{}",
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}",
        "{\"alg\":\"HS256\",\"b64\":false}",
        "{\"alg\":\"hs256\"}",
        "{\"alg\":\"HS256\"",
        "{\"alg\":\"RS256\"}",
        "{\"alg\":\"HS512\"}",
        "{\"al\\u0067\":\"HS256\"}",
    };
    static const char *const bad_claims[] = {"", "[]", "1", "{\"a\":}", "{\"a\":\"\xff\"}", "\"\""};
    char text[65536];

    for (size_t i = 0; i < sizeof(bad_headers) / sizeof(bad_headers[0]); i++) {
        token_with(text, &algs[0], bad_headers[i], "{}");
        mr_assert(verify(files, text) == MR_JWT_BAD);
        *(strrchr(text, '.') + 1) = 0; /* without any signature */
        mr_assert(verify(files, text) == MR_JWT_BAD);
    }
    for (size_t i = 0; i < sizeof(bad_claims) / sizeof(bad_claims[0]); i++) {
        token(text, &algs[0], bad_claims[i]);
        mr_assert(verify(files, text) == MR_JWT_BAD);
    }
    static const char *const others[] = {"",        "secret",           ".",   "..", "a.b",
                                         "a.b.c.d", "s3cret.with.dots", "...."};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        mr_assert(verify(files, others[i]) == MR_JWT_OTHER);
    }
    char claims[20000] = "{\"a\":\"";
    memset(claims + 6, 'x', sizeof(claims) - 10);
    memcpy(claims + sizeof(claims) - 4, "\"}", 3);
    token(text, &algs[0], claims);
    mr_assert(verify(files, text) == MR_JWT_BAD); /* too long */
    mr_jwt_keys_drop(files);
}

static const char *judge(const struct mr_jwt_conf *conf, const char *claims,
                         struct mr_jwt_grant *grant)
{
    return mr_jwt_judge(conf, mr_span_of(claims), 1000, mr_span_of("press-7"), grant);
}

static void test_claims_are_judged(void)
{
    struct mr_jwt_conf conf = {.username_claim = "sub", .acl_claim = "acl"};
    struct mr_jwt_grant grant;

    mr_assert(judge(&conf, "{}", &grant) == NULL && grant.expires_s == 0 && !grant.superuser);
    mr_assert(judge(&conf, "{\"exp\":1001,\"nbf\":1000,\"iat\":999}", &grant) == NULL);
    mr_assert(grant.expires_s == 1001);
    mr_assert(judge(&conf, "{\"exp\":1000.5}", &grant) != NULL); /* whole seconds, downwards */
    static const char *const bad[] = {
        "{\"exp\":1000}",
        "{\"exp\":0}",
        "{\"exp\":-5}",
        "{\"exp\":\"2000\"}",
        "{\"exp\":1e9}",
        "{\"exp\":null}",
        "{\"nbf\":1001}",
        "{\"iat\":1001}",
        "{\"nbf\":\"soon\"}",
        "{\"exp\":2000.x}",
        "{\"exp\":99999999999999999999}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        mr_assert(judge(&conf, bad[i], &grant) != NULL);
    }
    conf.leeway_us = 5000000;
    mr_assert(judge(&conf, "{\"exp\":996}", &grant) == NULL && grant.expires_s == 1001);
    mr_assert(judge(&conf, "{\"nbf\":1005}", &grant) == NULL);
    mr_assert(judge(&conf, "{\"exp\":995}", &grant) != NULL);
    mr_assert(judge(&conf, "{\"nbf\":1006}", &grant) != NULL);

    conf.issuer = "plant";
    mr_assert(judge(&conf, "{}", &grant) != NULL);
    mr_assert(judge(&conf, "{\"iss\":\"plants\"}", &grant) != NULL);
    mr_assert(judge(&conf, "{\"iss\":\"plant\"}", &grant) == NULL);
    conf.issuer = NULL;
    conf.audience = "mqtt";
    mr_assert(judge(&conf, "{\"aud\":[\"http\",7]}", &grant) != NULL);
    mr_assert(judge(&conf, "{\"aud\":[\"http\",\"mqtt\"]}", &grant) == NULL);
    mr_assert(judge(&conf, "{\"aud\":\"mqtt\"}", &grant) == NULL);
    conf.audience = NULL;
    conf.clientid_claim = "cid";
    mr_assert(judge(&conf, "{\"cid\":\"press-8\"}", &grant) != NULL);
    mr_assert(judge(&conf, "{}", &grant) != NULL);
    mr_assert(judge(&conf, "{\"cid\":\"press-7\",\"sub\":\"u\",\"is_superuser\":true}", &grant) ==
              NULL);
    mr_assert(grant.superuser && mr_span_is(grant.username, "\"u\""));
}

static void expect_fault(struct mr_jwt_conf conf, const char *content, const char *words)
{
    struct mr_jwt_keys *keys = NULL;
    struct mr_error why = {.text = ""};

    file_put("bad", content, strlen(content));
    if (mr_jwt_keys_read(&keys, &conf, NULL, NULL, &why) == MR_OK ||
        strstr(why.text, words) == NULL) {
        fprintf(stderr, "'%s' lacks '%s'\n", why.text, words);
        abort();
    }
}

static void warned(void *arg, const char *text)
{
    mr_assert(strstr(text, "can be guessed") != NULL);
    *(int *)arg += 1;
}

static void test_files_with_faults(void)
{
    char bad[300];
    char weak[2048];
    int warnings = 0;
    struct mr_error why;
    struct mr_jwt_keys *keys = NULL;

    (void)snprintf(bad, sizeof(bad), "%s", path_of("bad"));
    expect_fault((struct mr_jwt_conf){.secret_file = bad}, "\n", "no secret");
    expect_fault((struct mr_jwt_conf){.secret_file = bad, .secret_base64_encoded = true}, "!!",
                 "not base64");
    expect_fault((struct mr_jwt_conf){.secret_file = "/nowhere/secret"}, "", "/nowhere/secret: ");
    expect_fault((struct mr_jwt_conf){.public_key_file = bad}, "x", "BEGIN PUBLIC KEY");
    expect_fault((struct mr_jwt_conf){.jwks_file = bad}, "{}", "no JWK set");
    expect_fault((struct mr_jwt_conf){.jwks_file = bad}, "{\"keys\":[", "no JWK set");
    expect_fault((struct mr_jwt_conf){.jwks_file = bad},
                 "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQ\",\"y\":\"AQ\"}]}",
                 "key 1: its numbers");
    (void)snprintf(weak, sizeof(weak),
                   "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}]}",
                   "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE",
                   "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE");
    expect_fault((struct mr_jwt_conf){.jwks_file = bad}, weak, "key 1: its numbers"); /* no point */
    expect_fault((struct mr_jwt_conf){.jwks_file = bad},
                 "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "2,048 bits");
    expect_fault((struct mr_jwt_conf){.jwks_file = bad},
                 "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AQAB\",\"alg\":\"RS256\"}]}", "`alg`");
    file_put("bad", "short", 5);
    enum mr_err err =
        mr_jwt_keys_read(&keys, &(struct mr_jwt_conf){.secret_file = bad}, warned, &warnings, &why);
    mr_assert(err == MR_OK && warnings == 1);
    mr_jwt_keys_drop(keys);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(folder, sizeof(folder), "%s/jwt-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    mr_assert(mkdtemp(folder) != NULL);
    keys_make();
    test_every_algorithm_with_every_kind_of_file();
    test_a_key_is_found_by_its_id();
    test_every_changed_byte_is_noticed();
    test_a_public_key_is_no_secret();
    test_attacks_and_nonsense();
    test_claims_are_judged();
    test_files_with_faults();
    static const char *const names[] = {"keys.pem", "keys.jwks", "secret", "bad"};
    for (size_t i = 0; i < 4; i++) {
        mr_assert(unlink(path_of(names[i])) == 0);
    }
    mr_assert(rmdir(folder) == 0);
    for (int i = 0; i < KEYS; i++) {
        EVP_PKEY_free(keys_made[i]);
    }
    return 0;
}
