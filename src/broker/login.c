/* login.c - who is it?  A CONNECT's name and password, or its certificate.
 *
 * DESIGN
 *
 * A password is checked by the workers of auth/.  Meanwhile the CONNECT stays unparsed and
 * its connection is held; when the answer is there the same CONNECT is handled again and
 * finds it in client->login_state.  So nothing of a CONNECT is kept beside its own bytes,
 * and whoever else wants to stop it half-way may do the same.
 *
 *     NONE ─▶ (DELAYED ─▶) ASKED ─▶ YES | NO | BUSY
 *
 * A connection that ends while its question is asked leaves the question behind, marked;
 * the answer brings its memory back.
 */
#include "broker/login_internal.h"

#include "net/proxy.h"
#include "net/tls.h"

#include <stdio.h>

enum { LOGIN_PEER_BYTES = 64 };

/* A question and the bytes it points to. */
struct login {
    struct mr_auth_request request;
    size_t capacity; /* as lent by the pool */
    bool waits;      /* there is no question, only a delay */
    bool is_stale;   /* a reload came meanwhile: it has to be asked anew */
    char peer[LOGIN_PEER_BYTES];
    uint8_t text[];
};

static void login_free(struct mr_shard *shard, struct login *login)
{
    mr_auth_forget(&login->request);
    mr_bufpool_give(&shard->pool, (uint8_t *)login, login->capacity);
}

/* It is decided, once per connection. */
static void login_decided(struct client *client, enum login_state state)
{
    struct shard_metrics *metrics = &client->shard->metrics;

    client->login_state = (uint8_t)state;
    mr_metric_add(state == LOGIN_YES  ? metrics->logins_accepted
                  : state == LOGIN_NO ? metrics->logins_refused
                                      : metrics->logins_busy, /* or down */
                  1);
}

static void login_ends(struct client *client, enum login_state state)
{
    struct mr_auth_request *request = &client->login->request;

    client->login_by = request->by;
    client->login_fault = state == LOGIN_NO ? request->fault : NULL;
    client->grant = state == LOGIN_YES ? request->grant : NULL;
    request->grant = client->grant == NULL ? request->grant : NULL; /* it is the client's now */
    login_free(client->shard, client->login);
    client->login = NULL;
    login_decided(client, state);
}

void login_set_timer(struct client *client, uint64_t ms)
{
    uint64_t ticks = ms * 1000000 / MR_NET_TICK_NS + 1;

    mr_conn_set_timer(client_conn(client), client->shard->tick + (uint32_t)ticks);
}

static void login_submit(struct client *client)
{
    struct mr_broker *broker = client->shard->broker;

    if (mr_auth_submit(broker->auth, &client->login->request) != MR_OK) {
        login_ends(client, LOGIN_BUSY);
        return;
    }
    client->login_state = LOGIN_ASKED;
    login_set_timer(client, client->shard->limits.connect_timeout_us / 1000);
}

static void login_look(struct client *client)
{
    struct mr_auth_request *request = &client->login->request;

    switch (mr_auth_look(client->shard->broker->auth, request)) {
    case MR_AUTH_YES:
        login_ends(client, LOGIN_YES);
        break;
    case MR_AUTH_LATER:
        if (bans_address(client)) {
            mr_auth_drop(client->shard->broker->auth, request);
            login_ends(client, LOGIN_BANNED);
        } else if (request->delay_ms == 0) {
            login_submit(client);
        } else {
            client->login_state = LOGIN_DELAYED;
            login_set_timer(client, request->delay_ms);
        }
        break;
    case MR_AUTH_NO:
    case MR_AUTH_BUSY:
    case MR_AUTH_DOWN:
        login_ends(client, LOGIN_BUSY);
        break;
    }
}

/* What is in force there; of its TLS, and its name, what was at the start. */
static const struct listener_policy *policy_of(struct client *client)
{
    return &client->shard->policy.listeners[mr_conn_listener(client_conn(client))];
}

static const struct mr_listener_conf *listener_of(struct client *client)
{
    return &client->shard->broker->run.listeners[mr_conn_listener(client_conn(client))];
}

bool login_asks(struct client *client)
{
    return policy_of(client)->asks;
}

uint32_t login_realm(struct client *client)
{
    return policy_of(client)->realm;
}

uint64_t login_address(struct client *client)
{
    return mr_auth_address(client->shard->broker->auth, mr_conn_peer(client_conn(client)));
}

bool login_delay(struct client *client, const struct mr_auth_request *request)
{
    struct mr_shard *shard = client->shard;
    size_t capacity = 0;
    struct login *login =
        (struct login *)(void *)mr_bufpool_take(&shard->pool, sizeof(*login), &capacity);

    if (login == NULL) {
        return false;
    }
    *login = (struct login){.request = *request, .capacity = capacity, .waits = true};
    client->login = login;
    client->login_state = LOGIN_DELAYED;
    login_set_timer(client, request->delay_ms);
    mr_conn_hold(client_conn(client));
    return true;
}

/* The delay before an exchange is over. */
static void login_waited(struct client *client)
{
    mr_auth_drop(client->shard->broker->auth, &client->login->request);
    login_free(client->shard, client->login);
    client->login = NULL;
    client->login_state = LOGIN_WAITED;
}

/* A copy of `from` at *at, which is moved on. */
static struct mr_span text_keep(uint8_t **at, struct mr_span from)
{
    struct mr_span kept = mr_span_make(*at, from.len);

    if (from.len != 0) {
        memcpy(*at, from.at, from.len);
    }
    *at += from.len;
    return kept;
}

/* False: no memory. */
static bool login_begin(struct client *client, const struct mr_mqtt_connect *packet)
{
    struct mr_shard *shard = client->shard;
    struct mr_conn *conn = client_conn(client);
    const char *name = listener_of(client)->name;
    size_t text_len = packet->username.len + packet->password.len + packet->client_id.len;
    size_t capacity = 0;
    struct login *login =
        (struct login *)(void *)mr_bufpool_take(&shard->pool, sizeof(*login) + text_len, &capacity);

    if (login == NULL) {
        return false;
    }
    *login = (struct login){
        .request = {.port = &shard->auth_port,
                    .conn_id = mr_conn_id(conn),
                    .has_user = packet->has_username,
                    .has_password = packet->has_password,
                    .listener = name == NULL ? "" : name,
                    .address = login_address(client),
                    .realm = login_realm(client)},
        .capacity = capacity,
    };
    /* The connection may be gone before the answer is there. */
    (void)snprintf(login->peer, sizeof(login->peer), "%s", mr_conn_peer(conn));
    uint8_t *at = login->text;
    login->request.peer = login->peer;
    login->request.user = text_keep(&at, packet->username);
    login->request.password = text_keep(&at, packet->password);
    login->request.client_id = text_keep(&at, packet->client_id);
    client->login = login;
    login_look(client);
    return true;
}

/* Whether the name or the password is wrong, nobody learns; of a token the log says more. */
static const char *wrong_say(struct client *client, struct mr_span user,
                             char words[LOGIN_WORDS_BYTES])
{
    struct mr_text text = mr_text_over(words, LOGIN_WORDS_BYTES);

    if (client->login_fault != NULL) {
        mr_text_fmt(&text, "its token is refused: %s", client->login_fault);
    } else {
        mr_text_add(&text, "wrong user name or password");
    }
    if (!mr_auth_name_is_secret(client->shard->broker->auth, login_realm(client))) {
        mr_text_add(&text, ", as '");
        mr_text_bytes(&text, user.at, user.len < 100 ? user.len : 100);
        mr_text_add(&text, "'");
    }
    return words;
}

/* It may come in; who is it?  The file may have been read again since its password was checked,
 * which is when others whose user is gone are sent away: so it is asked for once more.
 */
static uint8_t login_admit(struct client *client, struct mr_mqtt_connect *packet, const char **what)
{
    const struct mr_auth_grant *grant = client->grant;

    if (client->login_by == MR_AUTHN_PASSWORD_FILE &&
        !mr_auth_knows(client->shard->broker->auth, login_realm(client), packet->username)) {
        *what = "its user has been removed meanwhile";
        return MR_MQTT_BAD_CREDENTIALS;
    }
    if (grant != NULL && grant->names_user) {
        packet->has_username = grant->username.len != 0;
        packet->username = grant->username;
    }
    return 0;
}

/* May the client come in with what it says?  0, or the reason of the refusal. */
static uint8_t password_check(struct client *client, struct mr_mqtt_connect *packet,
                              char words[LOGIN_WORDS_BYTES], const char **what)
{
    struct mr_auth *auth = client->shard->broker->auth;

    if (client->login_state == LOGIN_NONE && !packet->has_password &&
        !mr_auth_needs_no_password(auth, login_realm(client))) {
        mr_auth_note_failure(auth, login_address(client));
        login_decided(client, LOGIN_NO);
    } else if (client->login_state == LOGIN_NONE && !login_begin(client, packet)) {
        login_decided(client, LOGIN_BUSY);
    }
    switch ((enum login_state)client->login_state) {
    case LOGIN_YES:
        return login_admit(client, packet, what);
    case LOGIN_NO:
        *what = wrong_say(client, packet->username, words);
        return MR_MQTT_BAD_CREDENTIALS;
    case LOGIN_BUSY:
        *what = "too many passwords wait to be checked, or its address has sent too many wrong "
                "ones";
        return MR_MQTT_SERVER_BUSY;
    case LOGIN_BANNED:
        *what = "its address is banned for a while";
        return MR_MQTT_BANNED;
    case LOGIN_DOWN:
        *what = "the service of `auth.http` does not answer, so nobody can say who it is";
        return MR_MQTT_SERVER_UNAVAILABLE;
    case LOGIN_NONE:
    case LOGIN_DELAYED:
    case LOGIN_WAITED:
    case LOGIN_ASKED:
        break;
    }
    mr_conn_hold(client_conn(client));
    return LOGIN_LATER;
}

/* Does it say anything that could be checked?  A password alone may be a token. */
static bool says_who(struct client *client, const struct mr_mqtt_connect *packet)
{
    const struct mr_auth_conf *auth = &policy_of(client)->conf->auth;

    return packet->has_username ||
           (packet->has_password && (mr_jwt_is_configured(&auth->jwt) || auth->http.url != NULL));
}

/* Who its certificate says it is, to us or to a proxy, which passes the common name on. */
static bool certificate_name(struct client *client, char words[LOGIN_WORDS_BYTES])
{
    uint32_t from = listener_of(client)->tls.identity_from;

    return mr_conn_tls_identity(client_conn(client), from, words, LOGIN_WORDS_BYTES) ||
           (from == MR_TLS_CN &&
            mr_conn_proxy_identity(client_conn(client), words, LOGIN_WORDS_BYTES));
}

uint8_t login_check(struct client *client, struct mr_mqtt_connect *packet,
                    char words[LOGIN_WORDS_BYTES], const char **what)
{
    const struct listener_policy *policy = policy_of(client);

    if (listener_of(client)->tls.use_identity_as_username) {
        if (!certificate_name(client, words)) {
            *what =
                "neither a certificate nor a proxy gives a usable name of `identity_from` to be "
                "its user name";
            return MR_MQTT_BAD_CREDENTIALS;
        }
        packet->has_username = true;
        packet->username = mr_span_of(words);
        return 0;
    }
    if (policy->asks && says_who(client, packet)) {
        return password_check(client, packet, words, what);
    }
    if (policy->anonymous) {
        return 0;
    }
    *what = policy->asks
                ? "it gives no user name, and `allow_anonymous` is not true on this listener"
                : "authentication is not configured; give `auth.password_file`, or set "
                  "`allow_anonymous: true` on this listener to admit everyone";
    return MR_MQTT_NOT_AUTHORIZED;
}

uint8_t login_client_id(struct client *client, struct mr_mqtt_connect *packet,
                        char words[LOGIN_WORDS_BYTES], const char **what)
{
    if (!policy_of(client)->conf->auth.use_username_as_clientid) {
        return 0;
    }
    if (listener_of(client)->tls.use_identity_as_username) {
        if (certificate_name(client, words)) {
            packet->client_id = mr_span_of(words);
            return 0;
        }
    } else if (packet->has_username && packet->username.len != 0) {
        packet->client_id = packet->username;
        return 0;
    }
    *what = "it has no user name to be its client id, see `auth.use_username_as_clientid`";
    return MR_MQTT_NOT_AUTHORIZED;
}

/* ---- after a reload ---- */

void login_reloaded(struct client *client)
{
    if (client->login != NULL) {
        client->login->is_stale = !client->login->waits;
    } else if (client->exchange == NULL && client->login_state != LOGIN_WAITED) {
        mr_auth_grant_free(client->grant); /* decided, and its CONNECT waits for something else */
        client->grant = NULL;
        client->login_state = LOGIN_NONE;
    }
}

static bool texts_equal(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Do the claims that a token must have, or that say who it is, mean the same as before? */
static bool claims_equal(const struct mr_jwt_conf *a, const struct mr_jwt_conf *b)
{
    return texts_equal(a->issuer, b->issuer) && texts_equal(a->audience, b->audience) &&
           texts_equal(a->username_claim, b->username_claim) &&
           texts_equal(a->clientid_claim, b->clientid_claim) &&
           texts_equal(a->acl_claim, b->acl_claim);
}

const char *login_lapsed(struct client *client, const struct listener_policy *before)
{
    const struct listener_policy *now = policy_of(client);
    struct mr_auth *auth = client->shard->broker->auth;
    const struct mr_auth_conf *conf = &now->conf->auth;
    bool proven = client->enhanced || client->login_state == LOGIN_YES;
    uint8_t by = client->enhanced ? MR_AUTHN_PASSWORD_FILE : client->login_by;

    if (listener_of(client)->tls.use_identity_as_username || (!now->asks && now->anonymous)) {
        return NULL;
    }
    if (!proven) {
        return now->anonymous ? NULL : "clients have to say who they are from now on";
    }
    if (by == MR_AUTHN_PASSWORD_FILE) {
        return now->asks && mr_auth_knows(auth, now->realm, session_username(client->session))
                   ? NULL
                   : "its user is not in the password file any more";
    }
    if (by == MR_AUTHN_HTTP) {
        return texts_equal(conf->http.url, before->conf->auth.http.url)
                   ? NULL
                   : "the service that admitted it is not asked any more";
    }
    if (!now->asks || client->grant == NULL ||
        !mr_auth_knows_key(auth, now->realm, client->grant->key)) {
        return "the key of its token is not among those of `auth.jwt` any more";
    }
    return claims_equal(&conf->jwt, &before->conf->auth.jwt) ? NULL
                                                             : "what tokens must claim has changed";
}

/* What was asked is nothing any more: its CONNECT begins again. */
static void login_restart(struct client *client)
{
    mr_auth_drop(client->shard->broker->auth, &client->login->request);
    login_free(client->shard, client->login);
    client->login = NULL;
    client->login_state = LOGIN_NONE;
    mr_conn_resume(client_conn(client));
}

/* An answer for a connection that still is that one. */
static void login_answered(struct client *client)
{
    enum mr_auth_answer answer = client->login->request.answer;

    if (client->login->is_stale) {
        login_restart(client);
        return;
    }
    if (answer == MR_AUTH_LATER) {
        login_look(client);
    } else {
        login_ends(client, answer == MR_AUTH_YES    ? LOGIN_YES
                           : answer == MR_AUTH_NO   ? LOGIN_NO
                           : answer == MR_AUTH_BUSY ? LOGIN_BUSY
                                                    : LOGIN_DOWN);
    }
    if (client->login == NULL) {
        mr_conn_resume(client_conn(client));
    }
}

void logins_take(struct mr_shard *shard)
{
    struct mr_auth_request *request;

    while (mr_auth_has_some(&shard->auth_port) &&
           (request = mr_auth_take(&shard->auth_port)) != NULL) {
        struct login *login = (struct login *)(void *)request; /* its first member */
        struct mr_conn *conn = mr_net_find(shard->net, request->conn_id);
        struct client *client = conn == NULL ? NULL : mr_conn_user(conn);
        if (client != NULL && client->login == login && !shard->stopping) {
            login_answered(client);
        } else {
            if (client != NULL && client->login == login) {
                client->login = NULL;
            }
            login_free(shard, login);
        }
    }
}

bool login_timer(struct client *client)
{
    if (client->login == NULL) {
        return false;
    }
    if (client->login_state == LOGIN_DELAYED && client->login->is_stale) {
        login_restart(client);
    } else if (client->login_state == LOGIN_DELAYED) {
        if (client->login->waits) {
            login_waited(client);
        } else {
            login_submit(client);
        }
        if (client->login == NULL) {
            mr_conn_resume(client_conn(client));
        }
    } else { /* it is us who let it wait */
        login_set_timer(client, client->shard->limits.connect_timeout_us / 1000);
    }
    return true;
}

void login_drop(struct client *client)
{
    struct login *login = client->login;

    if (login == NULL) {
        return;
    }
    client->login = NULL;
    if (client->login_state == LOGIN_ASKED) {
        atomic_store(&login->request.cancel, true);
    } else {
        mr_auth_drop(client->shard->broker->auth, &login->request);
        login_free(client->shard, login);
    }
}
