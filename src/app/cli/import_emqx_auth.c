/* import_emqx_auth.c - authentication and authorization of emqx.conf: our auth. */
#include "app/cli/import_emqx_internal.h"

/* What EMQX has in its own database. */
static void built_in_users(struct emqx *emqx, const struct hocon_value *one)
{
    const char *file = emqx_text(one, "bootstrap_file");

    import_set(emqx->import, NULL, "auth.password_file", IMPORT_TEXT, "users.passwd", one->place);
    import_note(emqx->import, one->place, "authentication",
                "EMQX keeps its users in a database of its own, hashed in a way that cannot be "
                "carried over. Make `auth.password_file` with `millrace passwd -c users.passwd "
                "USER`%s%s%s",
                file == NULL ? "" : "; where the bootstrap_file (", file == NULL ? "" : file,
                file == NULL ? ""
                             : ") has plain passwords, write its lines as USER:PASSWORD and hash "
                               "them with `millrace passwd -U users.passwd`");
}

/* ---- tokens ---- */

/* A secret or key that stands in their file stands in one of its own here, which the person
 * has to make: nothing but the configuration is written.
 */
static void secret_apart(struct emqx *emqx, const struct hocon_value *value, const char *path,
                         struct import_node *into, const char *key, const char *file)
{
    struct emqx_path advice;
    struct mr_text text = mr_text_over(advice.text, sizeof(advice.text));

    import_set(emqx->import, into, key, IMPORT_TEXT, file, value->place);
    mr_text_fmt(&text, "put it into the file %s, mode 0600, which `auth.jwt.%s` names", file, key);
    emqx_note(emqx, value, path, advice.text);
}

static void on_jwt_secret(struct emqx *emqx, const struct hocon_value *value,
                          struct import_node *into)
{
    secret_apart(emqx, value, "authentication.secret", into, "secret_file", "jwt.secret");
}

/* A path, or the PEM itself. */
static void on_public_key(struct emqx *emqx, const struct hocon_value *value,
                          struct import_node *into)
{
    if (value->kind == HOCON_TEXT && strstr(value->text, "-----BEGIN") != NULL) {
        secret_apart(emqx, value, "authentication.public_key", into, "public_key_file", "jwt.pem");
    } else {
        emqx_set(emqx, value, "authentication.public_key", EMQX_TEXT, into, "public_key_file");
    }
}

static void on_jwks(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    import_set(emqx->import, into, "jwks_file", IMPORT_TEXT, "keys.jwks", value->place);
    emqx_note(emqx, value, "authentication.endpoint",
              "the keys are read from a file: fetch them now and then (`curl -fo keys.jwks URL`) "
              "and send SIGHUP");
}

/* What a claim has to be.  One that nobody would check here must not be lost: it kept people
 * out.
 */
static bool claim(struct emqx *emqx, const char *name, const struct hocon_value *value,
                  struct import_node *into)
{
    static const struct {
        const char *claim; /* NULL: any */
        const char *value; /* NULL: any that is fixed */
        const char *key;   /* ours, which is set to the claim or to the value */
    } rows[] = {{NULL, "${username}", "username_claim"},
                {NULL, "${clientid}", "clientid_claim"},
                {"iss", NULL, "issuer"},
                {"aud", NULL, "audience"}};
    const char *text = value->kind == HOCON_TEXT ? value->text : "";

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        bool named = rows[i].claim == NULL || strcmp(rows[i].claim, name) == 0;
        bool fixed = rows[i].value == NULL && text[0] != '\0' && strstr(text, "${") == NULL;
        if (named && (fixed || (rows[i].value != NULL && strcmp(rows[i].value, text) == 0))) {
            import_set(emqx->import, into, rows[i].key, IMPORT_TEXT, fixed ? text : name,
                       value->place);
            return true;
        }
    }
    struct emqx_path path;
    emqx_note(emqx, value, emqx_path(&path, "authentication.verify_claims", name),
              "this claim cannot be checked here, so tokens are not taken at all (`auth.jwt` is "
              "left out); issuer, audience, username_claim and clientid_claim are what there is");
    return false;
}

/* { name = value } or [{ name = …, value = … }]; false: something cannot be checked. */
static bool claims(struct emqx *emqx, const struct hocon_value *all, struct import_node *into)
{
    bool ok = true;

    for (const struct hocon_value *one = all == NULL ? NULL : all->first; one != NULL;
         one = one->next) {
        const struct hocon_value *value = one;
        const char *name = one->name;
        if (all->kind == HOCON_LIST) {
            name = emqx_text(one, "name");
            value = hocon_find(one, "value");
        }
        ok = name != NULL && value != NULL ? claim(emqx, name, value, into) && ok : false;
    }
    return ok;
}

#define KEYS_SAY "a key says itself what it verifies"
static const struct emqx_row jwt_rows[] = {
    {.name = "mechanism", .how = EMQX_CALL, .call = NULL},
    {.name = "enable", .how = EMQX_CALL, .call = NULL},
    {.name = "verify_claims", .how = EMQX_CALL, .call = NULL},
    {.name = "from", .how = EMQX_PLAIN, .key = "from"},
    {.name = "secret", .how = EMQX_CALL, .call = on_jwt_secret},
    {.name = "secret_base64_encoded", .how = EMQX_PLAIN, .key = "secret_base64_encoded"},
    {.name = "public_key", .how = EMQX_CALL, .call = on_public_key},
    {.name = "endpoint", .how = EMQX_CALL, .call = on_jwks},
    {.name = "acl_claim_name", .how = EMQX_TEXT, .key = "acl_claim"},
    {.name = "disconnect_after_expire", .how = EMQX_PLAIN, .key = "disconnect_after_expire"},
    {.name = "algorithm", .how = EMQX_NOTE, .advice = KEYS_SAY},
    {.name = "use_jwks", .how = EMQX_NOTE, .advice = KEYS_SAY},
    {.name = NULL}};

static bool tokens(struct emqx *emqx, const struct hocon_value *one, struct import_node *auth)
{
    struct import_node *into = import_child(emqx->import, auth, "jwt");

    if (!claims(emqx, hocon_find(one, "verify_claims"), into)) {
        import_drop(auth, "jwt");
        return false;
    }
    emqx_rows(emqx, one, "authentication", jwt_rows, into,
              "keys are read from files; nothing else is to be set");
    if (import_get(emqx->import, into, "username_claim") == NULL) {
        import_note(
            emqx->import, one->place, "authentication",
            "the user name of a client with a token is its claim `sub`, not what it says "
            "in CONNECT, which nobody has checked; `auth.jwt.username_claim` names another");
    }
    return true;
}

/* ---- a service ---- */

static void on_pool(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    emqx_set(emqx, value, "authentication.pool_size", EMQX_PLAIN, into, "max_requests");
}

static void on_method(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    (void)into;
    if (value->kind != HOCON_TEXT || strcmp(value->text, "post") != 0) {
        emqx_note(emqx, value, "authentication.method",
                  "the question is a POST with JSON; let the service take that");
    }
}

static const struct emqx_row http_rows[] = {
    {.name = "mechanism", .how = EMQX_CALL, .call = NULL},
    {.name = "backend", .how = EMQX_CALL, .call = NULL},
    {.name = "enable", .how = EMQX_CALL, .call = NULL},
    {.name = "method", .how = EMQX_CALL, .call = on_method},
    {.name = "url", .how = EMQX_TEXT, .key = "url"},
    {.name = "headers.authorization", .how = EMQX_TEXT, .key = "authorization"},
    {.name = "headers.Authorization", .how = EMQX_TEXT, .key = "authorization"},
    {.name = "headers.*",
     .how = EMQX_NOTE,
     .advice = "the question has Content-Type, Accept and what `authorization` says"},
    {.name = "body.*",
     .how = EMQX_NOTE,
     .advice = "the question has clientid, username, password, peerhost, peername, listener and "
               "protocol, under these names"},
    {.name = "request_timeout", .how = EMQX_DURATION, .key = "request_timeout"},
    {.name = "connect_timeout",
     .how = EMQX_NOTE,
     .advice = "`request_timeout` holds for all of it"},
    {.name = "pool_size", .how = EMQX_CALL, .call = on_pool},
    {.name = "ssl.cacertfile", .how = EMQX_TEXT, .key = "cacertfile"},
    {.name = "ssl.certfile", .how = EMQX_TEXT, .key = "certfile"},
    {.name = "ssl.keyfile", .how = EMQX_TEXT, .key = "keyfile"},
    {.name = "ssl.*",
     .how = EMQX_NOTE,
     .advice = "an https:// URL is TLS, and the service's certificate is always verified"},
    {.name = NULL}};

static bool service(struct emqx *emqx, const struct hocon_value *one, struct import_node *auth)
{
    const struct hocon_value *url = hocon_find(one, "url");

    if (url == NULL || url->kind != HOCON_TEXT || strstr(url->text, "${") != NULL) {
        emqx_note(emqx, url == NULL ? one : url, "authentication.url",
                  "what the URL tells of a client is in the body of the question here; let the "
                  "service take that, and write `auth.http.url`. Until then nobody comes in by it");
        return false;
    }
    emqx_rows(emqx, one, "authentication", http_rows, import_child(emqx->import, auth, "http"),
              "nothing is to be set");
    return true;
}

/* ---- the chain ---- */

/* Their keys that nobody has a use for. */
static void keys_noted(struct emqx *emqx, const struct hocon_value *one)
{
    for (const struct hocon_value *value = one->first; value != NULL; value = value->next) {
        struct emqx_path path;
        emqx_note(emqx, value, emqx_path(&path, "authentication", value->name),
                  "of the users: see `authentication`");
    }
}

static bool users(struct emqx *emqx, const struct hocon_value *one, struct import_node *auth)
{
    (void)auth;
    built_in_users(emqx, one);
    keys_noted(emqx, one);
    return true;
}

static const struct kind {
    const char *mechanism;
    const char *backend; /* NULL: it has none */
    const char *ours;
    bool (*take)(struct emqx *emqx, const struct hocon_value *one, struct import_node *auth);
} kinds[] = {{"jwt", NULL, "jwt", tokens},
             {"password_based", "http", "http", service},
             {"password_based", "built_in_database", "password_file", users}};

static void authenticator(struct emqx *emqx, const struct hocon_value *one)
{
    struct import_node *auth = import_child(emqx->import, NULL, "auth");

    if (emqx_is_off(one)) {
        emqx_note(emqx, one, "authentication", "switched off, so it is left out");
        return;
    }
    for (size_t i = 0; i < MR_COUNT_OF(kinds); i++) {
        const struct kind *kind = &kinds[i];
        if (!emqx_is(one, "mechanism", kind->mechanism) ||
            (kind->backend != NULL && !emqx_is(one, "backend", kind->backend))) {
            continue;
        }
        if (import_get(emqx->import, auth, kind->ours) != NULL) {
            emqx_note(emqx, one, "authentication",
                      "there is one of this kind already, and that holds");
        } else if (kind->take(emqx, one, auth)) {
            import_add(emqx->import, auth, "order", kind->ours, one->place);
        }
        return;
    }
    const char *mechanism = emqx_text(one, "mechanism");
    const char *backend = emqx_text(one, "backend");
    import_note(emqx->import, one->place, "authentication",
                "users of this kind (%s%s%s) are not taken over, and until `auth` says who may "
                "come in nobody may: docs/CONFIG.md has what there is",
                mechanism == NULL ? "?" : mechanism, backend == NULL ? "" : ", ",
                backend == NULL ? "" : backend);
    keys_noted(emqx, one);
}

void emqx_authentication(struct emqx *emqx, const struct hocon_value *value,
                         struct import_node *into)
{
    (void)into;
    if (value->kind == HOCON_OBJECT) {
        authenticator(emqx, value);
        return;
    }
    for (const struct hocon_value *one = value->first; one != NULL; one = one->next) {
        authenticator(emqx, one);
    }
}

/* Is there anybody who is asked? */
bool emqx_has_authentication(const struct hocon_value *root)
{
    const struct hocon_value *value = hocon_find(root, "authentication");

    if (value == NULL || value->kind == HOCON_TEXT) {
        return false;
    }
    if (value->kind == HOCON_OBJECT) {
        return value->first != NULL && !emqx_is_off(value);
    }
    for (const struct hocon_value *one = value->first; one != NULL; one = one->next) {
        if (!emqx_is_off(one)) {
            return true;
        }
    }
    return false;
}

/* Their file becomes one of ours by a command of its own. */
static void rules_source(struct emqx *emqx, const struct hocon_value *one)
{
    const char *type = emqx_text(one, "type");
    const char *path = emqx_text(one, "path");

    if (emqx_is_off(one)) {
        emqx_note(emqx, one, "authorization.sources", "switched off, so it is left out");
    } else if (type != NULL && strcmp(type, "file") == 0) {
        import_set(emqx->import, NULL, "auth.acl_file", IMPORT_TEXT, "rules.acl", one->place);
        import_note(
            emqx->import, one->place, "authorization.sources",
            "the rules are terms of Erlang; make the ACL file that `auth.acl_file` names "
            "with `millrace import --format emqx-acl %s > rules.acl`, and read what it says",
            path == NULL ? "acl.conf" : path);
    } else {
        import_note(emqx->import, one->place, "authorization.sources",
                    "rules of this kind are not looked up there from here: %s; write them as an "
                    "ACL file (user, topic, pattern), `auth.acl_file`: see docs/MIGRATING.md",
                    type == NULL ? "?" : type);
    }
}

void emqx_authorization(struct emqx *emqx, const struct hocon_value *value,
                        struct import_node *into)
{
    const struct hocon_value *sources = hocon_find(value, "sources");

    (void)into;
    for (const struct hocon_value *one = sources == NULL ? NULL : sources->first; one != NULL;
         one = one->next) {
        rules_source(emqx, one);
    }
    for (const struct hocon_value *one = value->first; one != NULL; one = one->next) {
        struct emqx_path at;
        if (one != sources) {
            emqx_note(emqx, one, emqx_path(&at, "authorization", one->name),
                      "with an ACL file what no rule allows is denied; without one everybody who "
                      "is in may publish and subscribe everywhere");
        }
    }
}
