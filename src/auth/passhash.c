/* passhash.c - see passhash.h for the contract.
 *
 * argon2id is fetched by name when a file has it: a build against OpenSSL 3.0 uses it
 * where it runs with 3.2 or later.
 */
#include "auth/passhash.h"

#include "auth/base64.h"
#include "base/text.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

enum {
    SHA512_BYTES = 64,
    ARGON2_MEMORY_KIB_MAX = 1 << 20, /* 1 GiB: more is a mistake, or an attack by file */
    ARGON2_PASSES_MAX = 1000,
    ARGON2_LANES_MAX = 64,
    BASE64_TEXT_MAX = 128,
};

void mr_secret_wipe(void *at, size_t len)
{
    OPENSSL_cleanse(at, len);
}

/* ---- reading ---- */

/* Base64, at least one byte of it. */
static bool base64_take(struct mr_span text, uint8_t *into, size_t size, uint32_t *out_len)
{
    size_t len = 0;
    bool good = mr_base64_take(text, MR_BASE64_PLAIN, into, size, &len);

    *out_len = (uint32_t)len;
    return good && len != 0;
}

/* The two last parts of every kind. */
static bool salt_and_hash_take(struct mr_span *rest, struct mr_passhash *out)
{
    struct mr_span salt = mr_span_split(rest, '$');

    return rest->at != NULL && base64_take(salt, out->salt, sizeof(out->salt), &out->salt_len) &&
           base64_take(*rest, out->hash, sizeof(out->hash), &out->hash_len);
}

static bool number_take(struct mr_span text, uint64_t max, uint32_t *out)
{
    uint64_t number = 0;

    if (mr_parse_u64(text, max, &number) != MR_OK || number == 0) {
        return false;
    }
    *out = (uint32_t)number;
    return true;
}

/* "m=47104,t=1,p=1" */
static bool argon2_costs_take(struct mr_span text, struct mr_passhash *out)
{
    bool known = true;

    while (known && text.at != NULL) {
        struct mr_span value = mr_span_split(&text, ',');
        struct mr_span name = mr_span_split(&value, '=');
        if (mr_span_is(name, "m")) {
            known = number_take(value, ARGON2_MEMORY_KIB_MAX, &out->memory_kib);
        } else if (mr_span_is(name, "t")) {
            known = number_take(value, ARGON2_PASSES_MAX, &out->iterations);
        } else {
            known = mr_span_is(name, "p") && number_take(value, ARGON2_LANES_MAX, &out->lanes);
        }
    }
    return known && out->memory_kib != 0 && out->iterations != 0 && out->lanes != 0;
}

static bool argon2_is_offered(void)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "ARGON2ID", NULL);

    EVP_KDF_free(kdf);
    return kdf != NULL;
}

static bool argon2_take(struct mr_span *rest, struct mr_passhash *out, const char **fault)
{
    struct mr_span version = mr_span_split(rest, '$');
    struct mr_span costs = rest->at == NULL ? (struct mr_span){0} : mr_span_split(rest, '$');

    *fault = "its argon2id hash is not complete";
    if (rest->at == NULL || !mr_span_is(version, "v=19") || !argon2_costs_take(costs, out) ||
        !salt_and_hash_take(rest, out)) {
        return false;
    }
    *fault = "its hash is argon2id, which needs OpenSSL 3.2 or later; give the user a new password "
             "with `millrace passwd`";
    return argon2_is_offered();
}

enum mr_err mr_passhash_parse(struct mr_span text, struct mr_passhash *out, const char **fault)
{
    struct mr_span rest = text;
    bool good = false;

    memset(out, 0, sizeof(*out));
    *fault = "its password is plain text; `millrace passwd -U FILE` makes hashes of all of them";
    if (text.len == 0 || text.at[0] != '$') {
        return MR_ERR_REJECT;
    }
    (void)mr_span_split(&rest, '$');
    struct mr_span kind = mr_span_split(&rest, '$');
    *fault = "its hash is not complete";
    if (rest.at != NULL && mr_span_is(kind, "7")) {
        out->kind = MR_PASSHASH_PBKDF2;
        good =
            number_take(mr_span_split(&rest, '$'), MR_PASSHASH_ITERATIONS_MAX, &out->iterations) &&
            rest.at != NULL && salt_and_hash_take(&rest, out) && out->hash_len == SHA512_BYTES;
    } else if (rest.at != NULL && mr_span_is(kind, "6")) {
        out->kind = MR_PASSHASH_SHA512;
        out->iterations = 1;
        good = salt_and_hash_take(&rest, out) && out->hash_len == SHA512_BYTES;
    } else if (rest.at != NULL && mr_span_is(kind, "argon2id")) {
        out->kind = MR_PASSHASH_ARGON2ID;
        good = argon2_take(&rest, out, fault);
    } else {
        *fault = "its hash is of no known kind; $7$, $6$ and $argon2id$ are";
    }
    return good ? MR_OK : MR_ERR_REJECT;
}

/* ---- checking ---- */

static bool pbkdf2_of(const struct mr_passhash *hash, struct mr_span password, uint8_t *out)
{
    return PKCS5_PBKDF2_HMAC((const char *)password.at, (int)password.len, hash->salt,
                             (int)hash->salt_len, (int)hash->iterations, EVP_sha512(),
                             (int)hash->hash_len, out) == 1;
}

static bool sha512_of(const struct mr_passhash *hash, struct mr_span password, uint8_t *out)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool done = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha512(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, password.at, password.len) == 1 &&
                EVP_DigestUpdate(ctx, hash->salt, hash->salt_len) == 1 &&
                EVP_DigestFinal_ex(ctx, out, NULL) == 1;

    EVP_MD_CTX_free(ctx);
    return done;
}

static bool argon2_of(const struct mr_passhash *hash, struct mr_span password, uint8_t *out)
{
    struct mr_passhash costs = *hash; /* the parameters are not const */
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "ARGON2ID", NULL);
    EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string("pass", (void *)(uintptr_t)password.at, password.len),
        OSSL_PARAM_construct_octet_string("salt", costs.salt, costs.salt_len),
        OSSL_PARAM_construct_uint32("iter", &costs.iterations),
        OSSL_PARAM_construct_uint32("memcost", &costs.memory_kib),
        OSSL_PARAM_construct_uint32("lanes", &costs.lanes),
        OSSL_PARAM_construct_end(),
    };
    bool done = ctx != NULL && EVP_KDF_derive(ctx, out, hash->hash_len, params) == 1;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return done;
}

bool mr_passhash_verify(const struct mr_passhash *hash, struct mr_span password)
{
    uint8_t made[MR_PASSHASH_BYTES_MAX] = {0};
    struct mr_span given = password.at != NULL ? password : mr_span_of("");
    bool done = hash->kind == MR_PASSHASH_PBKDF2   ? pbkdf2_of(hash, given, made)
                : hash->kind == MR_PASSHASH_SHA512 ? sha512_of(hash, given, made)
                                                   : argon2_of(hash, given, made);
    bool same = CRYPTO_memcmp(made, hash->hash, hash->hash_len) == 0;

    mr_secret_wipe(made, sizeof(made));
    return done && same && hash->hash_len != 0;
}

uint64_t mr_passhash_cost(const struct mr_passhash *hash)
{
    /* A KiB of argon2id is mixed in about the time of two iterations of PBKDF2. */
    return hash->kind == MR_PASSHASH_ARGON2ID ? 2 * (uint64_t)hash->memory_kib * hash->iterations
                                              : hash->iterations;
}

/* ---- making ---- */

static void base64_add(struct mr_text *text, const uint8_t *at, size_t len)
{
    uint8_t encoded[BASE64_TEXT_MAX];

    mr_text_bytes(text, encoded, (size_t)EVP_EncodeBlock(encoded, at, (int)len));
}

void mr_passhash_make(struct mr_span password, uint32_t iterations,
                      const uint8_t salt[MR_PASSHASH_SALT_BYTES], char out[MR_PASSHASH_TEXT_MAX])
{
    struct mr_text text = mr_text_over(out, MR_PASSHASH_TEXT_MAX);
    struct mr_passhash hash = {.kind = MR_PASSHASH_PBKDF2,
                               .iterations = iterations,
                               .salt_len = MR_PASSHASH_SALT_BYTES,
                               .hash_len = SHA512_BYTES};

    memcpy(hash.salt, salt, MR_PASSHASH_SALT_BYTES);
    bool done = pbkdf2_of(&hash, password, hash.hash);
    mr_assert(done);
    mr_text_fmt(&text, "$7$%u$", iterations);
    base64_add(&text, hash.salt, hash.salt_len);
    mr_text_add(&text, "$");
    base64_add(&text, hash.hash, hash.hash_len);
    mr_assert(!text.truncated);
}
