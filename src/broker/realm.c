/* realm.c - see realm_internal.h; and the rows of `auth.jwt` and `auth.http`. */
#include "broker/realm_internal.h"

/* ---- rows ---- */

static const char *const from_choices[] = {
    [MR_JWT_FROM_PASSWORD] = "password", [MR_JWT_FROM_USERNAME] = "username", NULL};

#define JWT_ROW(field_, type_, default_, help_)      \
    {.name = #field_,                                \
     .type = type_,                                  \
     .offset = offsetof(struct mr_jwt_conf, field_), \
     .default_text = default_,                       \
     .help = help_}

const struct mr_option mr_jwt_options[] = {
    JWT_ROW(secret_file, MR_OPT_PATH, NULL,
            "The secret of HS256, HS384 and HS512: the bytes of this file but a line end."),
    JWT_ROW(secret_base64_encoded, MR_OPT_BOOL, "false", "The secret's file is base64."),
    JWT_ROW(public_key_file, MR_OPT_PATH, NULL,
            "PEM: the public keys of RS, PS, ES and EdDSA, one or more."),
    JWT_ROW(jwks_file, MR_OPT_PATH, NULL, "A JWK set: keys, told apart by `kid`."),
    {.name = "from",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_jwt_conf, from),
     .default_text = "password",
     .choices = from_choices,
     .help = "Where in CONNECT the token stands."},
    JWT_ROW(issuer, MR_OPT_STR, NULL, "The claim `iss` has to be this."),
    JWT_ROW(audience, MR_OPT_STR, NULL, "The claim `aud` has to be this, or have it."),
    {.name = "leeway",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_jwt_conf, leeway_us),
     .default_text = "5s",
     .max = 3600000000u,
     .help = "How far clocks may differ: a token is taken so much earlier and longer."},
    JWT_ROW(username_claim, MR_OPT_STR, "sub",
            "This claim is the client's user name; without it the client has none."),
    JWT_ROW(clientid_claim, MR_OPT_STR, NULL, "This claim has to be the client id."),
    JWT_ROW(acl_claim, MR_OPT_STR, "acl", "This claim has rules for this client, as with EMQX."),
    JWT_ROW(disconnect_after_expire, MR_OPT_BOOL, "true",
            "The connection ends when its token expires."),
    {0}};

#define HTTP_ROW(field_, type_, help_) \
    {.name = #field_, .type = type_, .offset = offsetof(struct mr_http_conf, field_), .help = help_}

const struct mr_option mr_http_options[] = {
    HTTP_ROW(url, MR_OPT_STR, "Where to POST the question, as JSON; http:// or https://."),
    HTTP_ROW(authorization, MR_OPT_SECRET,
             "The header Authorization of the question, as in `Bearer ...`."),
    HTTP_ROW(cacertfile, MR_OPT_PATH, "PEM: who signs the service's certificate."),
    HTTP_ROW(certfile, MR_OPT_PATH, "PEM: a certificate to show to the service."),
    HTTP_ROW(keyfile, MR_OPT_PATH, "PEM: its private key, not encrypted."),
    {.name = "request_timeout",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_http_conf, request_timeout_us),
     .default_text = "5s",
     .min = 100000,
     .max = 60000000,
     .help = "How long an answer may take; then the service is down, and the client is refused."},
    {.name = "max_requests",
     .type = MR_OPT_U64,
     .offset = offsetof(struct mr_http_conf, max_requests),
     .default_text = "32",
     .min = 1,
     .max = 1024,
     .help = "Questions open at a time; more wait."},
    {.name = "cache_ttl",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_http_conf, cache_ttl_us),
     .default_text = "60s",
     .max = 86400000000u,
     .help = "How long a plain yes holds for the same client with the same password; 0: not."},
    {0}};

/* ---- realms ---- */

static const char *const names[MR_AUTHN_COUNT] = {
    [MR_AUTHN_JWT] = "jwt",
    [MR_AUTHN_PASSWORD_FILE] = "password_file",
    [MR_AUTHN_HTTP] = "http",
};

/* The number of an authenticator; MR_AUTHN_COUNT: it is none. */
static uint8_t authn_of(const char *name)
{
    uint8_t found = 0;

    while (found < MR_AUTHN_COUNT && strcmp(names[found], name) != 0) {
        found += 1;
    }
    return found;
}

enum mr_err realm_make(const struct mr_auth_conf *conf, struct mr_auth_realm *out,
                       struct mr_error *why)
{
    *out = (struct mr_auth_realm){
        .password_file = conf->password_file, .jwt = conf->jwt, .http = conf->http};
    for (uint8_t i = 0; conf->order.count == 0 && i < MR_AUTHN_COUNT; i++) {
        out->order[out->order_count++] = i;
    }
    for (size_t i = 0; i < conf->order.count; i++) {
        uint8_t who = authn_of(conf->order.items[i]);
        if (who == MR_AUTHN_COUNT || memchr(out->order, who, out->order_count) != NULL) {
            return mr_error_set(why, MR_ERR_CONFIG,
                                "auth.order: '%s' %s; it is a list of jwt, password_file and http",
                                conf->order.items[i],
                                who == MR_AUTHN_COUNT ? "is nobody to be asked" : "is there twice");
        }
        out->order[out->order_count++] = who;
    }
    return MR_OK;
}

enum mr_err mr_auth_conf_check(const struct mr_auth_conf *conf, const char **key,
                               void (*warn)(void *arg, const char *text), void *arg,
                               struct mr_error *why)
{
    struct mr_auth_realm realm;

    *key = "order";
    enum mr_err err = realm_make(conf, &realm, why);
    return err == MR_OK ? mr_auth_realm_check(&realm, key, warn, arg, why) : err;
}

bool mr_auth_conf_asks(const struct mr_auth_conf *conf)
{
    struct mr_auth_realm realm;
    struct mr_error why;

    return realm_make(conf, &realm, &why) == MR_OK && mr_auth_realm_asks(&realm);
}

bool mr_auth_conf_equal(const struct mr_auth_conf *a, const struct mr_auth_conf *b)
{
    struct mr_auth_realm x;
    struct mr_auth_realm y;
    struct mr_error why;
    bool good = realm_make(a, &x, &why) == MR_OK;

    return good == (realm_make(b, &y, &why) == MR_OK) && mr_auth_realm_equal(&x, &y);
}
