/* fuzz_identity.c
 *
 * Goal:   nothing that a stranger sends before it has come in, and nothing that a service
 *         answers, makes us read or write where we must not; and a token passes only with the
 *         right signature.
 * Method: the first byte says what the rest is: a token, claims that we sign ourselves, a key of
 *         a set, a service's answer, the rules of a login, or the messages of SCRAM.  A filter that
 *         rules allow as a whole may bring nothing that they deny.
 */
#include "auth/base64.h"
#include "auth/grant.h"
#include "auth/http.h"
#include "auth/jwt_internal.h"
#include "auth/rules.h"
#include "auth/scram.h"
#include "codec/json.h"
#include "codec/topic.h"
#include "fuzz.h"

#include <openssl/hmac.h>

static uint8_t secret[] = "0123456789abcdef0123456789abcdef";
enum { SECRET_BYTES = sizeof(secret) - 1 };

static struct mr_jwt_keys *keys_make(void)
{
    static struct mr_jwt_keys keys;

    keys.count = 1;
    keys.keys[0] = (struct jwt_key){.kind = JWT_HMAC, .secret = secret, .secret_len = SECRET_BYTES};
    return &keys;
}

/* The signature of "header.payload", by the dumbest means. */
static bool is_signed(struct mr_span token)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    uint8_t given[EVP_MAX_MD_SIZE];
    static const char *const digests[] = {"SHA256", "SHA384", "SHA512"};
    const uint8_t *dot = token.at + token.len;
    size_t given_len = 0;

    while (dot[-1] != '.') {
        dot -= 1;
    }
    struct mr_span signature = mr_span_make(dot, (size_t)(token.at + token.len - dot));
    if (!mr_base64_take(signature, MR_BASE64_URL, given, sizeof(given), &given_len)) {
        return false;
    }
    for (int i = 0; i < 3; i++) {
        unsigned len = 0;
        (void)HMAC(EVP_get_digestbyname(digests[i]), secret, SECRET_BYTES, token.at,
                   (size_t)(dot - 1 - token.at), mac, &len);
        if (len == given_len && memcmp(mac, given, len) == 0) {
            return true;
        }
    }
    return false;
}

static void judge(struct mr_span claims)
{
    static const struct mr_jwt_conf conf = {.issuer = "plant",
                                            .audience = "mqtt",
                                            .username_claim = "sub",
                                            .clientid_claim = "cid",
                                            .acl_claim = "acl",
                                            .leeway_us = 5000000};
    static const struct mr_jwt_conf plain = {.username_claim = "sub", .acl_claim = "acl"};
    struct mr_jwt_grant said;

    (void)mr_jwt_judge(&conf, claims, 1000, mr_span_of("press-7"), &said);
    if (mr_jwt_judge(&plain, claims, 1000, mr_span_of("press-7"), &said) == NULL) {
        mr_assert(said.expires_s == 0 || said.expires_s > 1000);
        struct mr_auth_grant *grant = mr_auth_grant_make(said.username, said.acl);
        mr_assert(grant == NULL || mr_utf8_valid(grant->username));
        mr_auth_grant_free(grant);
    }
}

static void try_token(struct mr_span token)
{
    static uint8_t scratch[MR_JWT_BYTES_MAX];
    struct mr_span claims;
    const char *fault = NULL;
    uint64_t key = 0;

    if (mr_jwt_verify(keys_make(), token, scratch, &claims, &key, &fault) == MR_JWT_GOOD) {
        mr_assert(is_signed(token) && mr_json_valid(claims));
        judge(claims);
    }
}

static void try_key(struct mr_span text)
{
    struct jwt_key key = {.kind = JWT_NONE};
    bool skipped = false;

    if (mr_json_valid(text) && jwk_take(text, &key, &skipped) == NULL && !skipped) {
        mr_assert((key.kind == JWT_HMAC) == (key.public_key == NULL));
    }
    EVP_PKEY_free(key.public_key);
    mr_free(key.secret);
}

static void try_rules(struct mr_span text)
{
    static const char *const topics[] = {"a", "a/b", "b", "$s/a", "c1/x", "u1/x/y"};
    static const char *const filters[] = {"#", "+", "a/#", "+/b", "$s/#", "c1/x", "+/+/+"};
    struct mr_rules *rules = NULL;

    if (!mr_json_valid(text) ||
        mr_rules_read(&rules, text, mr_span_of("c1"), mr_span_of("u1")) != NULL) {
        return;
    }
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        struct mr_span filter = mr_span_of(filters[i]);
        bool whole = mr_rules_filter(rules, filter) == MR_RULES_ALLOW;
        for (size_t k = 0; k < sizeof(topics) / sizeof(topics[0]); k++) {
            struct mr_span topic = mr_span_of(topics[k]);
            mr_assert(!whole || !mr_topic_matches(filter, topic) ||
                      mr_rules_topic(rules, topic, false) == MR_RULES_ALLOW ||
                      memmem(text.at, text.len, "eq ", 3) != NULL);
        }
    }
    mr_rules_free(rules);
}

static void try_scram(struct mr_span text)
{
    static const uint8_t nonce[MR_SCRAM_NONCE_BYTES];
    struct mr_span first = mr_span_split(&text, '\n');
    struct mr_scram_keys keys = {.iterations = 4096, .salt_len = MR_SCRAM_SALT_BYTES};
    struct mr_scram scram;
    struct mr_span user;
    struct mr_span proof;
    char name[64];
    char message[MR_SCRAM_MESSAGE_MAX];

    if (mr_scram_first(&scram, first, name, sizeof(name), &user) == NULL) {
        (void)mr_scram_challenge(&scram, &keys, true, nonce, message);
        /* Nobody knows what StoredKey of zeroes is the hash of. */
        mr_assert(mr_scram_final(&scram, text, message, &proof) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_auth_grant *grant = NULL;

    if (size == 0) {
        return 0;
    }
    struct mr_span text = mr_span_make(data + 1, size - 1);
    switch (data[0]) {
    case 't':
        try_token(text);
        break;
    case 'c':
        if (mr_json_valid(text)) {
            judge(text);
        }
        break;
    case 'k':
        try_key(text);
        break;
    case 'r':
        try_rules(text);
        break;
    case 'h':
        mr_assert(http_body_read(text, &grant) == HTTP_ALLOW || grant == NULL);
        mr_auth_grant_free(grant);
        break;
    default:
        try_scram(text);
        break;
    }
    return 0;
}
