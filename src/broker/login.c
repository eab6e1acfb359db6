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

/* A question and the bytes it points to. */
struct login {
    struct mr_auth_request request;
    size_t capacity; /* as lent by the pool */
    bool waits;      /* there is no question, only a delay */
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
                                      : metrics->logins_busy,
                  1);
}

static void login_ends(struct client *client, enum login_state state)
{
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
        login_ends(client, LOGIN_BUSY);
        break;
    }
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

/* False: no memory. */
static bool login_begin(struct client *client, const struct mr_mqtt_connect *packet)
{
    struct mr_shard *shard = client->shard;
    struct mr_conn *conn = client_conn(client);
    size_t capacity = 0;
    struct login *login = (struct login *)(void *)mr_bufpool_take(
        &shard->pool, sizeof(*login) + packet->username.len + packet->password.len, &capacity);

    if (login == NULL) {
        return false;
    }
    uint8_t *password = login->text + packet->username.len;
    *login = (struct login){
        .request = {.port = &shard->auth_port,
                    .conn_id = mr_conn_id(conn),
                    .user = mr_span_make(login->text, packet->username.len),
                    .password = mr_span_make(password, packet->password.len),
                    .address = mr_auth_address(shard->broker->auth, mr_conn_peer(conn)),
                    .file = shard->broker->listeners[mr_conn_listener(conn)].passfile},
        .capacity = capacity,
    };
    memcpy(login->text, packet->username.at, packet->username.len);
    if (packet->password.len != 0) {
        memcpy(password, packet->password.at, packet->password.len);
    }
    client->login = login;
    login_look(client);
    return true;
}

/* Whether the name or the password is wrong, nobody learns. */
static const char *wrong_say(struct mr_span user, char words[LOGIN_WORDS_BYTES])
{
    struct mr_text text = mr_text_over(words, LOGIN_WORDS_BYTES);

    mr_text_add(&text, "wrong user name or password, as '");
    mr_text_bytes(&text, user.at, user.len < 100 ? user.len : 100);
    mr_text_add(&text, "'");
    return words;
}

/* Does the password belong to the name?  0, or the reason of the refusal. */
static uint8_t password_check(struct client *client, const struct mr_mqtt_connect *packet,
                              char words[LOGIN_WORDS_BYTES], const char **what)
{
    struct mr_auth *auth = client->shard->broker->auth;

    if (client->login_state == LOGIN_NONE && !packet->has_password) {
        mr_auth_note_failure(auth, login_address(client));
        login_decided(client, LOGIN_NO);
    } else if (client->login_state == LOGIN_NONE && !login_begin(client, packet)) {
        login_decided(client, LOGIN_BUSY);
    }
    switch ((enum login_state)client->login_state) {
    case LOGIN_YES:
        return 0;
    case LOGIN_NO:
        *what = wrong_say(packet->username, words);
        return MR_MQTT_BAD_CREDENTIALS;
    case LOGIN_BUSY:
        *what = "too many passwords wait to be checked, or its address has sent too many wrong "
                "ones";
        return MR_MQTT_SERVER_BUSY;
    case LOGIN_BANNED:
        *what = "its address is banned for a while";
        return MR_MQTT_BANNED;
    case LOGIN_NONE:
    case LOGIN_DELAYED:
    case LOGIN_WAITED:
    case LOGIN_ASKED:
        break;
    }
    mr_conn_hold(client_conn(client));
    return LOGIN_LATER;
}

uint8_t login_check(struct client *client, struct mr_mqtt_connect *packet,
                    char words[LOGIN_WORDS_BYTES], const char **what)
{
    const struct mr_broker *broker = client->shard->broker;
    const struct broker_listener *listener =
        &broker->listeners[mr_conn_listener(client_conn(client))];

    if (listener->conf->tls.use_identity_as_username) {
        if (!mr_conn_tls_identity(client_conn(client), words, LOGIN_WORDS_BYTES) &&
            !mr_conn_proxy_identity(client_conn(client), words, LOGIN_WORDS_BYTES)) {
            *what = "neither a certificate nor a proxy gives a usable common name to be its user "
                    "name";
            return MR_MQTT_BAD_CREDENTIALS;
        }
        packet->has_username = true;
        packet->username = mr_span_of(words);
        return 0;
    }
    if (packet->has_username && listener->asks) {
        return password_check(client, packet, words, what);
    }
    if (listener->anonymous) {
        return 0;
    }
    *what = listener->asks
                ? "it gives no user name, and `allow_anonymous` is not true on this listener"
                : "authentication is not configured; give `auth.password_file`, or set "
                  "`allow_anonymous: true` on this listener to admit everyone";
    return MR_MQTT_NOT_AUTHORIZED;
}

uint8_t login_client_id(struct client *client, struct mr_mqtt_connect *packet,
                        char words[LOGIN_WORDS_BYTES], const char **what)
{
    struct mr_conn *conn = client_conn(client);
    const struct mr_listener_conf *conf =
        client->shard->broker->listeners[mr_conn_listener(conn)].conf;

    if (!conf->auth.use_username_as_clientid) {
        return 0;
    }
    if (conf->tls.use_identity_as_username) {
        if (mr_conn_tls_identity(conn, words, LOGIN_WORDS_BYTES)) {
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

bool login_user_is_gone(struct client *client)
{
    const struct mr_broker *broker = client->shard->broker;
    const struct broker_listener *listener =
        &broker->listeners[mr_conn_listener(client_conn(client))];

    return client->session != NULL && listener->asks &&
           (client->enhanced || client->login_state == LOGIN_YES) &&
           !mr_auth_knows(broker->auth, listener->passfile, session_username(client->session));
}

/* An answer for a connection that still is that one. */
static void login_answered(struct client *client)
{
    enum mr_auth_answer answer = client->login->request.answer;

    if (answer == MR_AUTH_LATER) {
        login_look(client);
    } else {
        login_ends(client, answer == MR_AUTH_YES ? LOGIN_YES : LOGIN_NO);
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
    if (client->login_state == LOGIN_DELAYED) {
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
