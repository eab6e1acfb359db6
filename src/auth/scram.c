/* scram.c - see scram.h for the contract.
 *
 * AuthMessage is client-first-bare "," server-first "," client-final-without-proof.  It grows in
 * `said` as the messages come; nothing else is kept of them.
 */
#include "auth/scram.h"

#include "auth/base64.h"
#include "auth/passhash.h"
#include "codec/json.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { PROOF_TEXT = MR_BASE64_SIZE(MR_SCRAM_KEY_BYTES), NONCE_MIN = 8, NONCE_MAX = 256 };

static void hmac(const uint8_t key[MR_SCRAM_KEY_BYTES], size_t key_len, const void *at, size_t len,
                 uint8_t out[MR_SCRAM_KEY_BYTES])
{
    unsigned out_len = MR_SCRAM_KEY_BYTES;
    const uint8_t *done = HMAC(EVP_sha256(), key, (int)key_len, at, len, out, &out_len);

    mr_assert(done != NULL);
}

static void sha256(const uint8_t in[MR_SCRAM_KEY_BYTES], uint8_t out[MR_SCRAM_KEY_BYTES])
{
    int done = EVP_Digest(in, MR_SCRAM_KEY_BYTES, out, NULL, EVP_sha256(), NULL);

    mr_assert(done == 1);
}

/* ---- keys ---- */

void mr_scram_make(struct mr_span password, uint32_t iterations,
                   const uint8_t salt[MR_SCRAM_SALT_BYTES], struct mr_scram_keys *out)
{
    uint8_t salted[MR_SCRAM_KEY_BYTES];
    uint8_t client_key[MR_SCRAM_KEY_BYTES];
    int done =
        PKCS5_PBKDF2_HMAC((const char *)password.at, (int)password.len, salt, MR_SCRAM_SALT_BYTES,
                          (int)iterations, EVP_sha256(), MR_SCRAM_KEY_BYTES, salted);

    mr_assert(done == 1);
    *out = (struct mr_scram_keys){.iterations = iterations, .salt_len = MR_SCRAM_SALT_BYTES};
    memcpy(out->salt, salt, MR_SCRAM_SALT_BYTES);
    hmac(salted, sizeof(salted), "Client Key", 10, client_key);
    hmac(salted, sizeof(salted), "Server Key", 10, out->server_key);
    sha256(client_key, out->stored_key);
    mr_secret_wipe(salted, sizeof(salted));
    mr_secret_wipe(client_key, sizeof(client_key));
}

static void base64_add(struct mr_text *text, const uint8_t *at, size_t len)
{
    char encoded[MR_BASE64_SIZE(MR_SCRAM_SALT_MAX)];

    mr_assert(len <= MR_SCRAM_SALT_MAX);
    mr_text_bytes(text, encoded, (size_t)(mr_base64_put(encoded, mr_span_make(at, len)) - encoded));
}

void mr_scram_write(const struct mr_scram_keys *keys, char out[MR_SCRAM_TEXT_MAX])
{
    struct mr_text text = mr_text_over(out, MR_SCRAM_TEXT_MAX);

    mr_text_fmt(&text, "%u:", keys->iterations);
    base64_add(&text, keys->salt, keys->salt_len);
    mr_text_add(&text, ":");
    base64_add(&text, keys->stored_key, sizeof(keys->stored_key));
    mr_text_add(&text, ":");
    base64_add(&text, keys->server_key, sizeof(keys->server_key));
    mr_assert(!text.truncated);
}

static bool key_take(struct mr_span text, uint8_t out[MR_SCRAM_KEY_BYTES])
{
    size_t len = 0;

    return mr_base64_take(text, MR_BASE64_PLAIN, out, MR_SCRAM_KEY_BYTES, &len) &&
           len == MR_SCRAM_KEY_BYTES;
}

bool mr_scram_read(struct mr_span text, struct mr_scram_keys *out)
{
    struct mr_span parts[4];
    uint64_t iterations = 0;
    size_t salt_len = 0;

    memset(out, 0, sizeof(*out));
    for (int i = 0; i < 4; i++) {
        if (text.at == NULL) {
            return false;
        }
        parts[i] = mr_span_split(&text, ':');
    }
    if (text.at != NULL ||
        mr_parse_u64(parts[0], MR_PASSHASH_ITERATIONS_MAX, &iterations) != MR_OK ||
        iterations == 0 ||
        !mr_base64_take(parts[1], MR_BASE64_PLAIN, out->salt, MR_SCRAM_SALT_MAX, &salt_len) ||
        salt_len == 0 || !key_take(parts[2], out->stored_key) ||
        !key_take(parts[3], out->server_key)) {
        return false;
    }
    out->iterations = (uint32_t)iterations;
    out->salt_len = (uint32_t)salt_len;
    return true;
}

/* ---- messages ---- */

static bool said_add(struct mr_scram *scram, const void *at, size_t len)
{
    if (len > sizeof(scram->said) - scram->said_len) {
        return false;
    }
    memcpy(scram->said + scram->said_len, at, len);
    scram->said_len = (uint16_t)(scram->said_len + len);
    return true;
}

/* "n=" of "n=press-7,r=...": the value of the next attribute, which must be `name`. */
static bool attribute_take(struct mr_span *rest, char name, struct mr_span *value)
{
    if (rest->at == NULL) {
        return false;
    }
    *value = mr_span_split(rest, ',');
    if (value->len < 2 || value->at[0] != (uint8_t)name || value->at[1] != '=') {
        return false;
    }
    value->at += 2;
    value->len -= 2;
    return true;
}

/* "=2C" is a comma and "=3D" an equals sign (section 5.1). */
static bool name_decode(struct mr_span value, char *name, size_t name_size, struct mr_span *out)
{
    size_t len = 0;

    for (size_t i = 0; i < value.len; i++) {
        char c = (char)value.at[i];
        if (c == '=') {
            bool comma = value.len - i >= 3 && memcmp(value.at + i, "=2C", 3) == 0;
            bool equals = value.len - i >= 3 && memcmp(value.at + i, "=3D", 3) == 0;
            if (!comma && !equals) {
                return false;
            }
            c = comma ? ',' : '=';
            i += 2;
        }
        if (len == name_size) {
            return false;
        }
        name[len++] = c;
    }
    *out = mr_span_make(name, len);
    return len != 0 && mr_utf8_valid(*out);
}

/* Printable ASCII without the comma (section 7). */
static bool nonce_is_valid(struct mr_span nonce)
{
    for (size_t i = 0; i < nonce.len; i++) {
        if (nonce.at[i] < 0x21 || nonce.at[i] > 0x7e) {
            return false;
        }
    }
    return nonce.len >= NONCE_MIN && nonce.len <= NONCE_MAX;
}

const char *mr_scram_first(struct mr_scram *scram, struct mr_span message, char *name,
                           size_t name_size, struct mr_span *user)
{
    struct mr_span rest = message;
    struct mr_span flag = mr_span_split(&rest, ',');
    struct mr_span authzid = rest.at == NULL ? rest : mr_span_split(&rest, ',');
    struct mr_span bare = rest;
    struct mr_span value;

    *scram = (struct mr_scram){.known = false};
    if (flag.len >= 1 && flag.at[0] == 'p') {
        return "it wants channel binding, which is not offered";
    }
    if (rest.at == NULL || (!mr_span_is(flag, "n") && !mr_span_is(flag, "y"))) {
        return "its SCRAM message has no header";
    }
    if (authzid.len != 0) {
        return "it wants to act for another user";
    }
    if (!attribute_take(&rest, 'n', &value) || !name_decode(value, name, name_size, user)) {
        return "its SCRAM message has no valid user name";
    }
    if (!attribute_take(&rest, 'r', &value) || !nonce_is_valid(value)) {
        return "its SCRAM message has no valid nonce";
    }
    scram->nonce = (uint16_t)(value.at - bare.at);
    scram->nonce_len = (uint16_t)value.len;
    char *end = mr_base64_put(scram->gs2, mr_span_make(message.at, 3)); /* "n,," */
    *end = 0;
    if (!said_add(scram, bare.at, bare.len) || !said_add(scram, ",", 1)) {
        return "its SCRAM message is too long";
    }
    scram->bare = (uint16_t)bare.len;
    return NULL;
}

struct mr_span mr_scram_challenge(struct mr_scram *scram, const struct mr_scram_keys *keys,
                                  bool known, const uint8_t nonce[MR_SCRAM_NONCE_BYTES],
                                  char out[MR_SCRAM_MESSAGE_MAX])
{
    struct mr_text text = mr_text_over(out, MR_SCRAM_MESSAGE_MAX);

    scram->keys = *keys;
    scram->known = known;
    mr_text_add(&text, "r=");
    mr_text_bytes(&text, scram->said + scram->nonce, scram->nonce_len);
    base64_add(&text, nonce, MR_SCRAM_NONCE_BYTES);
    size_t nonce_end = text.len;
    mr_text_add(&text, ",s=");
    base64_add(&text, keys->salt, keys->salt_len);
    mr_text_fmt(&text, ",i=%u", keys->iterations);
    /* From here on the nonce is that of both sides, where server-first has it. */
    scram->nonce = (uint16_t)(scram->said_len + 2);
    scram->nonce_len = (uint16_t)(nonce_end - 2);
    if (text.truncated || !said_add(scram, out, text.len) || !said_add(scram, ",", 1)) {
        scram->known = false; /* a client-first too long to go on with: it will fail */
    }
    return mr_span_make(out, text.len);
}

/* ClientProof is ClientKey XOR ClientSignature, and StoredKey is H(ClientKey). */
static bool proof_is_right(const struct mr_scram *scram, const uint8_t proof[MR_SCRAM_KEY_BYTES])
{
    uint8_t client_key[MR_SCRAM_KEY_BYTES];
    uint8_t made[MR_SCRAM_KEY_BYTES];

    hmac(scram->keys.stored_key, MR_SCRAM_KEY_BYTES, scram->said, scram->said_len, client_key);
    for (int i = 0; i < MR_SCRAM_KEY_BYTES; i++) {
        client_key[i] ^= proof[i];
    }
    sha256(client_key, made);
    bool same = CRYPTO_memcmp(made, scram->keys.stored_key, MR_SCRAM_KEY_BYTES) == 0;
    mr_secret_wipe(client_key, sizeof(client_key));
    return same;
}

const char *mr_scram_final(struct mr_scram *scram, struct mr_span message,
                           char out[MR_SCRAM_MESSAGE_MAX], struct mr_span *server_final)
{
    struct mr_span rest = message;
    struct mr_span binding;
    struct mr_span nonce;
    uint8_t proof[MR_SCRAM_KEY_BYTES];
    uint8_t signature[MR_SCRAM_KEY_BYTES];
    struct mr_text text = mr_text_over(out, MR_SCRAM_MESSAGE_MAX);

    if (!attribute_take(&rest, 'c', &binding) || !mr_span_is(binding, scram->gs2)) {
        return "its SCRAM message binds another channel";
    }
    if (!attribute_take(&rest, 'r', &nonce) ||
        !mr_span_equal(nonce, mr_span_make(scram->said + scram->nonce, scram->nonce_len))) {
        return "its SCRAM message has another nonce";
    }
    /* The proof is the last attribute; extensions may stand before it. */
    if (message.len < PROOF_TEXT + 3 ||
        memcmp(message.at + message.len - PROOF_TEXT - 3, ",p=", 3) != 0 ||
        !key_take(mr_span_make(message.at + message.len - PROOF_TEXT, PROOF_TEXT), proof)) {
        return "its SCRAM message has no proof";
    }
    if (!said_add(scram, message.at, message.len - PROOF_TEXT - 3)) {
        return "its SCRAM message is too long";
    }
    bool right = proof_is_right(scram, proof);
    if (!right || !scram->known) {
        return "wrong user name or password";
    }
    hmac(scram->keys.server_key, MR_SCRAM_KEY_BYTES, scram->said, scram->said_len, signature);
    mr_text_add(&text, "v=");
    base64_add(&text, signature, sizeof(signature));
    *server_final = mr_span_make(out, text.len);
    return NULL;
}
