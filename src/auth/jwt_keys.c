/* jwt_keys.c - the keys that tokens are checked with; see jwt.h. */
#include "auth/jwt_internal.h"

#include "auth/base64.h"
#include "auth/passhash.h"
#include "base/text.h"
#include "codec/json.h"
#include "codec/json_read.h"
#include "os/file.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdatomic.h>

enum { KEY_FILE_MAX = 1 << 20, SECRET_BYTES_GOOD = 32, SECRET_BYTES_MIN = 1 };

static enum mr_err file_load(const char *path, uint8_t **out, size_t *out_len, struct mr_error *why)
{
    struct mr_file file = {.fd = -1};
    uint64_t size = 0;

    *out = NULL;
    *out_len = 0;
    if (mr_file_open(&file, path, MR_FILE_READ, NULL) != MR_OK) {
        return mr_error_set(why, MR_ERR_CONFIG, "%s: %s", path, mr_file_last_cause());
    }
    enum mr_err err = mr_file_size(&file, &size);
    if (err == MR_OK && (size == 0 || size > KEY_FILE_MAX)) {
        mr_file_close(&file);
        return mr_error_set(why, MR_ERR_CONFIG, "%s: %s", path,
                            size == 0 ? "the file is empty" : "larger than 1 MiB");
    }
    uint8_t *text = mr_alloc(size + 1);
    err = err == MR_OK ? mr_file_read(&file, text, size, 0, out_len) : err;
    mr_file_close(&file);
    if (err != MR_OK) {
        mr_free(text);
        return mr_error_set(why, MR_ERR_CONFIG, "%s: %s", path, mr_file_last_cause());
    }
    *out = text;
    return MR_OK;
}

/* ---- one key ---- */

static uint8_t kind_of(const EVP_PKEY *key)
{
    char group[32] = "";
    size_t len = 0;

    if (EVP_PKEY_is_a(key, "RSA") == 1) {
        return JWT_RSA;
    }
    if (EVP_PKEY_is_a(key, "ED25519") == 1 || EVP_PKEY_is_a(key, "ED448") == 1) {
        return JWT_ED;
    }
    if (EVP_PKEY_is_a(key, "EC") != 1 ||
        EVP_PKEY_get_group_name((EVP_PKEY *)(uintptr_t)key, group, sizeof(group), &len) != 1) {
        return JWT_NONE;
    }
    return strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0  ? JWT_P256
           : strcmp(group, "secp384r1") == 0 || strcmp(group, "P-384") == 0 ? JWT_P384
           : strcmp(group, "secp521r1") == 0 || strcmp(group, "P-521") == 0 ? JWT_P521
                                                                            : JWT_NONE;
}

const char *jwt_key_public(struct jwt_key *key, EVP_PKEY *public_key)
{
    int bits = EVP_PKEY_get_bits(public_key);

    key->kind = kind_of(public_key);
    if (key->kind == JWT_NONE) {
        return "its key is of no kind that tokens are signed with: RSA, P-256, P-384, P-521, "
               "Ed25519 and Ed448 are";
    }
    if (key->kind == JWT_RSA && (bits < JWT_RSA_BITS_MIN || bits > JWT_RSA_BITS_MAX)) {
        return "its RSA key has fewer than 2,048 bits, or more than 8,192";
    }
    key->public_key = public_key;
    return NULL;
}

static void key_free(struct jwt_key *key)
{
    EVP_PKEY_free(key->public_key);
    if (key->secret != NULL) {
        mr_secret_wipe(key->secret, key->secret_len);
        mr_free(key->secret);
    }
}

/* ---- the three files ---- */

static enum mr_err secret_take(struct mr_jwt_keys *keys, const struct mr_jwt_conf *conf,
                               uint8_t *text, size_t len, void (*warn)(void *arg, const char *text),
                               void *arg, struct mr_error *why)
{
    struct jwt_key *key = &keys->keys[keys->count];

    if (len != 0 && text[len - 1] == '\n') {
        len -= 1;
        len -= len != 0 && text[len - 1] == '\r';
    }
    key->kind = JWT_HMAC;
    key->secret = mr_alloc(len + 1);
    key->secret_len = len;
    memcpy(key->secret, text, len);
    if (conf->secret_base64_encoded && !mr_base64_take(mr_span_make(text, len), MR_BASE64_PLAIN,
                                                       key->secret, len, &key->secret_len)) {
        key->secret_len = 0;
    }
    keys->count += 1;
    if (key->secret_len < SECRET_BYTES_MIN) {
        return mr_error_set(why, MR_ERR_CONFIG, "%s: %s", conf->secret_file,
                            conf->secret_base64_encoded
                                ? "not base64, which `secret_base64_encoded` says it is"
                                : "there is no secret in it");
    }
    if (key->secret_len < SECRET_BYTES_GOOD && warn != NULL) {
        char line[256];
        struct mr_text said = mr_text_over(line, sizeof(line));
        mr_text_fmt(&said,
                    "auth.jwt.secret_file %s: a secret of %zu bytes can be guessed from any "
                    "token; take 32 random ones (RFC 7518 section 3.2)",
                    conf->secret_file, key->secret_len);
        warn(arg, line);
    }
    return MR_OK;
}

static enum mr_err pem_take(struct mr_jwt_keys *keys, const struct mr_jwt_conf *conf,
                            const uint8_t *text, size_t len, struct mr_error *why)
{
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    const char *fault = NULL;
    EVP_PKEY *public_key = NULL;
    size_t before = keys->count;

    mr_assert(bio != NULL);
    while (fault == NULL && (public_key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL)) != NULL) {
        fault = keys->count == MR_JWT_KEYS_MAX
                    ? "more than 64 keys"
                    : jwt_key_public(&keys->keys[keys->count], public_key);
        if (fault != NULL) {
            EVP_PKEY_free(public_key);
        } else {
            keys->count += 1;
        }
    }
    BIO_free(bio);
    ERR_clear_error();
    if (fault == NULL && keys->count == before) {
        fault = "no public key in PEM (`-----BEGIN PUBLIC KEY-----`) is in it";
    }
    return fault == NULL ? MR_OK
                         : mr_error_set(why, MR_ERR_CONFIG, "%s: %s", conf->public_key_file, fault);
}

static enum mr_err jwks_take(struct mr_jwt_keys *keys, const struct mr_jwt_conf *conf,
                             const uint8_t *text, size_t len, struct mr_error *why)
{
    struct mr_span json = mr_span_make(text, len);
    struct mr_span set = mr_json_valid(json) ? mr_json_member(json, "keys") : (struct mr_span){0};
    struct mr_span jwk;
    const char *fault = NULL;
    size_t before = keys->count;
    unsigned number = 0;

    while (set.len != 0 && fault == NULL && mr_json_next(&set, &jwk)) {
        bool skipped = false;
        number += 1;
        fault = keys->count == MR_JWT_KEYS_MAX ? "the set has more than 64 keys"
                                               : jwk_take(jwk, &keys->keys[keys->count], &skipped);
        keys->count += fault == NULL && !skipped;
    }
    if (fault == NULL && keys->count == before) {
        fault = "no JWK set (`{\"keys\": [...]}`), or none of its keys checks signatures";
    }
    return fault == NULL
               ? MR_OK
               : mr_error_set(why, MR_ERR_CONFIG, "%s, key %u: %s", conf->jwks_file, number, fault);
}

/* SHA-256 over kind, `kid` and key, as far as it goes. */
static void key_mark(struct jwt_key *key)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char *der = NULL;
    int der_len = key->public_key == NULL ? 0 : i2d_PUBKEY(key->public_key, &der);

    mr_assert(ctx != NULL && der_len >= 0);
    bool done =
        EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
        EVP_DigestUpdate(ctx, &key->kind, sizeof(key->kind)) == 1 &&
        EVP_DigestUpdate(ctx, &key->kid_len, sizeof(key->kid_len)) == 1 &&
        EVP_DigestUpdate(ctx, key->kid, key->kid_len) == 1 &&
        (key->secret_len == 0 || EVP_DigestUpdate(ctx, key->secret, key->secret_len) == 1) &&
        (der_len == 0 || EVP_DigestUpdate(ctx, der, (size_t)der_len) == 1) &&
        EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    mr_assert(done);
    memcpy(&key->mark, digest, sizeof(key->mark));
    OPENSSL_free(der);
    EVP_MD_CTX_free(ctx);
}

enum mr_err mr_jwt_keys_read(struct mr_jwt_keys **out, const struct mr_jwt_conf *conf,
                             void (*warn)(void *arg, const char *text), void *arg,
                             struct mr_error *why)
{
    const char *const paths[] = {conf->secret_file, conf->public_key_file, conf->jwks_file};
    struct mr_jwt_keys *keys = mr_alloc(sizeof(*keys));
    enum mr_err err = MR_OK;

    *out = NULL;
    atomic_init(&keys->holders, 1);
    for (int i = 0; i < 3 && err == MR_OK; i++) {
        uint8_t *text = NULL;
        size_t len = 0;
        if (paths[i] == NULL) {
            continue;
        }
        err = file_load(paths[i], &text, &len, why);
        if (err == MR_OK) {
            mr_assert(text != NULL);
            err = i == 0   ? secret_take(keys, conf, text, len, warn, arg, why)
                  : i == 1 ? pem_take(keys, conf, text, len, why)
                           : jwks_take(keys, conf, text, len, why);
            mr_secret_wipe(text, len);
            mr_free(text);
        }
    }
    if (err != MR_OK) {
        mr_jwt_keys_drop(keys);
        return err;
    }
    for (size_t i = 0; i < keys->count; i++) {
        key_mark(&keys->keys[i]);
    }
    *out = keys;
    return MR_OK;
}

struct mr_jwt_keys *mr_jwt_keys_hold(struct mr_jwt_keys *keys)
{
    atomic_fetch_add(&keys->holders, 1);
    return keys;
}

void mr_jwt_keys_drop(struct mr_jwt_keys *keys)
{
    if (keys != NULL && atomic_fetch_sub(&keys->holders, 1) == 1) {
        for (size_t i = 0; i < MR_JWT_KEYS_MAX; i++) {
            key_free(&keys->keys[i]); /* a key that was refused may have begun */
        }
        mr_free(keys);
    }
}

bool mr_jwt_keys_have(const struct mr_jwt_keys *keys, uint64_t key)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (keys->keys[i].mark == key) {
            return true;
        }
    }
    return false;
}

size_t mr_jwt_keys_count(const struct mr_jwt_keys *keys)
{
    return keys->count;
}
