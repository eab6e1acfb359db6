/* token.c - tokens for SASL OAUTHBEARER, from an identity provider (OIDC).
 *
 *     librdkafka wants a token ─▶ POST grant_type=client_credentials ─▶ provider
 *     rd_kafka_oauthbearer_set_token ◀── access_token, expires_in ◀───┘
 *
 * DESIGN
 *
 * librdkafka can do this by itself (sasl.oauthbearer.method=oidc), but not as Debian 12
 * builds it, and its own reads the client's secret only once.  So the gateway fetches
 * the token (OAuth 2, RFC 6749 section 4.4) and librdkafka says when: at 80 % of its
 * life, and 10 s after a failure.  The call blocks; it runs in librdkafka's background
 * thread, never in the bridge's worker, and ends within a second of token_end().
 *
 * Thread: on_refresh in librdkafka's background thread, which rd_kafka_destroy() joins;
 * it touches nothing but the configuration and the flag.
 * Memory: an answer has at most 64 KiB.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/bytes.h"
#include "codec/json.h"
#include "os/clock.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

enum {
    ANSWER_MAX = 65536,
    FETCH_TIMEOUT_MS = 10000,
    CONNECT_TIMEOUT_MS = 5000,
    EXTENSIONS_MAX = 32,
    LIFETIME_MAX_S = 366 * 86400,
};

struct token_source {
    const struct mr_kafka_auth *auth;
    _Atomic bool ending;
};

/* What one request is about. */
struct fetch {
    struct token_source *source;
    char *answer; /* ANSWER_MAX bytes */
    size_t len;
};

/* ---- the answer ---- */

/* The value of member `name` of the object `json`, which is valid JSON: a string without
 * its quotes, anything else as it stands.  at == NULL: there is none.
 */
static struct mr_span member(struct mr_span json, const char *name)
{
    const uint8_t *end = json.at + json.len;
    size_t name_len = strlen(name);
    bool found = false; /* the key was `name` */
    bool key = true;
    int depth = 0;

    for (const uint8_t *at = json.at; at < end; at++) {
        const uint8_t *begin = at;
        switch (*at) {
        case '{':
        case '[':
            depth += 1;
            break;
        case '}':
        case ']':
            depth -= 1;
            break;
        case ',':
            key = true;
            break;
        case ':':
            key = false;
            break;
        case '"':
            for (at++; *at != '"'; at++) {
                at += *at == '\\';
            }
            if (depth == 1 && key) {
                found =
                    (size_t)(at - begin - 1) == name_len && memcmp(begin + 1, name, name_len) == 0;
            } else if (depth == 1 && found) {
                return mr_span_make(begin + 1, (size_t)(at - begin - 1));
            }
            break;
        default:
            if (depth == 1 && !key && found && *at >= '0' && *at <= '9') {
                while (at < end && *at >= '0' && *at <= '9') {
                    at++;
                }
                return mr_span_make(begin, (size_t)(at - begin));
            }
            break;
        }
    }
    return (struct mr_span){0};
}

/* base64url (RFC 4648 section 5) without padding; returns the bytes written. */
static size_t base64url_take(struct mr_span text, uint8_t *out, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    unsigned count = 0;
    size_t len = 0;

    for (size_t i = 0; i < text.len && len < size; i++) {
        const char *digit = memchr(digits, text.at[i], sizeof(digits) - 1);
        if (digit == NULL) {
            return 0;
        }
        bits = bits << 6 | (uint32_t)(digit - digits);
        count += 6;
        if (count >= 8) {
            count -= 8;
            out[len++] = (uint8_t)(bits >> count);
        }
    }
    return len;
}

/* When a token ends by its own word: the claim "exp" of a JWT (RFC 7519).  0: unknown. */
static uint64_t token_exp(struct mr_span token)
{
    struct mr_span rest = token;
    uint8_t claims[8192];
    uint64_t exp_s = 0;

    (void)mr_span_split(&rest, '.');
    struct mr_span body = mr_span_split(&rest, '.');
    struct mr_span json = mr_span_make(claims, base64url_take(body, claims, sizeof(claims)));
    if (json.len == 0 || !mr_json_valid(json) ||
        mr_parse_u64(member(json, "exp"), UINT32_MAX * UINT64_C(16), &exp_s) != MR_OK) {
        return 0;
    }
    return exp_s;
}

static void put_cause(struct mr_text *out, struct mr_span json)
{
    struct mr_span error = member(json, "error");
    struct mr_span more = member(json, "error_description");

    if (error.len != 0) {
        mr_text_fmt(out, " (%.*s%s%.*s)", (int)(error.len < 64 ? error.len : 64),
                    (const char *)error.at, more.len != 0 ? ": " : "",
                    (int)(more.len < 160 ? more.len : 160), (const char *)more.at);
    }
}

/* ---- the request ---- */

static size_t on_answer(char *bytes, size_t size, size_t count, void *arg)
{
    struct fetch *fetch = arg;
    size_t len = size * count;
    bool fits = mr_append(fetch->answer, ANSWER_MAX, &fetch->len, bytes, len);

    return fits ? len : 0; /* then curl ends the request */
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct fetch *fetch = arg;

    (void)a, (void)b, (void)c, (void)d;
    return atomic_load(&fetch->source->ending);
}

static void request_shape(CURL *curl, const struct mr_kafka_auth *auth, struct fetch *fetch,
                          const char *secret, const char *form)
{
    curl_easy_setopt(curl, CURLOPT_URL, auth->token_endpoint_url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)FETCH_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    curl_easy_setopt(curl, CURLOPT_USERNAME, auth->client_id);
    curl_easy_setopt(curl, CURLOPT_PASSWORD, secret);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, form);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, fetch);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (auth->token_cacertfile != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, auth->token_cacertfile);
    }
}

static enum mr_err request_send(CURL *curl, const struct mr_kafka_auth *auth, struct fetch *fetch,
                                struct mr_error *why)
{
    char secret[KAFKA_SECRET_MAX];
    char form[4096] = "grant_type=client_credentials";
    char cause[CURL_ERROR_SIZE] = "";
    long status = 0;

    enum mr_err err = mr_kafka_secret_read("client_secret_file", auth->client_secret,
                                           auth->client_secret_file, secret, why);
    if (err != MR_OK) {
        return err;
    }
    if (auth->scope != NULL) {
        struct mr_text text = mr_text_over(form, sizeof(form));
        char *scope = curl_easy_escape(curl, auth->scope, 0);
        mr_text_fmt(&text, "grant_type=client_credentials&scope=%s", scope == NULL ? "" : scope);
        curl_free(scope);
    }
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, cause);
    request_shape(curl, auth, fetch, secret, form);
    CURLcode code = curl_easy_perform(curl);
    explicit_bzero(secret, sizeof(secret));
    if (code != CURLE_OK) {
        return mr_error_set(why, MR_ERR_AGAIN,
                            "%s: %s; check authentication.token_endpoint_url and token_cacertfile",
                            auth->token_endpoint_url,
                            cause[0] != '\0' ? cause : curl_easy_strerror(code));
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    struct mr_span json = mr_span_make(fetch->answer, fetch->len);
    if (status != 200) {
        char text[TEXT_MAX];
        struct mr_text out = mr_text_over(text, sizeof(text));
        mr_text_fmt(&out, "%s answers with HTTP status %ld", auth->token_endpoint_url, status);
        if (mr_json_valid(json)) {
            put_cause(&out, json);
        }
        mr_text_add(&out, "; check authentication.client_id, client_secret and scope");
        return mr_error_set(why, MR_ERR_AGAIN, "%s", text);
    }
    return mr_json_valid(json) ? MR_OK
                               : mr_error_set(why, MR_ERR_AGAIN,
                                              "%s answers with something that "
                                              "is not JSON; is it the address "
                                              "of a token endpoint?",
                                              auth->token_endpoint_url);
}

/* Give librdkafka what the provider answered. */
static enum mr_err token_take(rd_kafka_t *rk, const struct mr_kafka_auth *auth, struct mr_span json,
                              struct mr_error *why)
{
    struct mr_span token = member(json, "access_token");
    const char *extensions[2 * EXTENSIONS_MAX];
    size_t extension_count = 0;
    char principal[TEXT_MAX];
    char text[TEXT_MAX];
    uint64_t left_s = 0;
    int64_t end_ms = 0;

    if (token.len == 0) {
        return mr_error_set(why, MR_ERR_AGAIN, "%s: the answer has no access_token",
                            auth->token_endpoint_url);
    }
    if (mr_parse_u64(member(json, "expires_in"), LIFETIME_MAX_S, &left_s) == MR_OK) {
        end_ms = mr_clock_wall_us() / 1000 + (int64_t)left_s * 1000;
    } else {
        end_ms = (int64_t)token_exp(token) * 1000;
    }
    if (end_ms == 0) {
        return mr_error_set(why, MR_ERR_AGAIN,
                            "%s: neither expires_in nor the token's exp says how long it is valid",
                            auth->token_endpoint_url);
    }
    for (size_t i = 0; i < auth->extensions.count && i < EXTENSIONS_MAX; i++) {
        extensions[extension_count++] = auth->extensions.items[i].name;
        extensions[extension_count++] = auth->extensions.items[i].value;
    }
    snprintf(principal, sizeof(principal), "%s", auth->client_id);
    char *copy = mr_strndup((const char *)token.at, token.len);
    rd_kafka_resp_err_t err = rd_kafka_oauthbearer_set_token(
        rk, copy, end_ms, principal, extensions, extension_count, text, sizeof(text));
    explicit_bzero(copy, token.len);
    mr_free(copy);
    return err == RD_KAFKA_RESP_ERR_NO_ERROR
               ? MR_OK
               : mr_error_set(why, MR_ERR_AGAIN, "librdkafka does not take the token: %s", text);
}

static void on_refresh(rd_kafka_t *rk, const char *config, void *opaque)
{
    const struct kafka *k = opaque;
    struct fetch fetch = {.source = k->token, .answer = mr_alloc(ANSWER_MAX)};
    const struct mr_kafka_auth *auth = k->token->auth;
    CURL *curl = curl_easy_init();
    struct mr_error why;

    (void)config;
    mr_assert(curl != NULL);
    enum mr_err err = request_send(curl, auth, &fetch, &why);
    if (err == MR_OK) {
        err = token_take(rk, auth, mr_span_make(fetch.answer, fetch.len), &why);
    }
    if (err != MR_OK) {
        (void)rd_kafka_oauthbearer_set_token_failure(rk, why.text);
    }
    curl_easy_cleanup(curl);
    explicit_bzero(fetch.answer, fetch.len);
    mr_free(fetch.answer);
}

/* ---- life cycle ---- */

void mr_kafka_token_attach(rd_kafka_conf_t *rk_conf, struct kafka *k)
{
    if (k->conf->authentication.mechanism != MR_KAFKA_AUTH_OAUTHBEARER) {
        return;
    }
    if (k->token == NULL) {
        CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT); /* counted; safe from any thread */
        mr_assert(code == CURLE_OK);
        k->token = mr_alloc(sizeof(*k->token));
        k->token->auth = &k->conf->authentication;
    }
    rd_kafka_conf_enable_sasl_queue(rk_conf, 1);
    rd_kafka_conf_set_oauthbearer_token_refresh_cb(rk_conf, on_refresh);
}

void mr_kafka_token_begin(struct kafka *k, rd_kafka_t *rk)
{
    if (k->token != NULL) {
        rd_kafka_error_t *error = rd_kafka_sasl_background_callbacks_enable(rk);
        mr_assert(error == NULL);
    }
}

void mr_kafka_token_end(struct kafka *k)
{
    if (k->token != NULL) {
        atomic_store(&k->token->ending, true);
    }
}

void mr_kafka_token_free(struct kafka *k)
{
    if (k->token != NULL) {
        mr_free(k->token);
        k->token = NULL;
        curl_global_cleanup();
    }
}
