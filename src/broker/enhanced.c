/* enhanced.c - enhanced authentication; see enhanced_internal.h.  handle_auth.c has the packets.
 *
 * DESIGN
 *
 * An AUTH packet comes behind its CONNECT, so the CONNECT cannot wait unparsed in the stream as
 * for a password: its bytes are kept beside the exchange, and handled again when the client has
 * proven who it is.  Until then it has no session, and nothing of it is journaled.
 *
 * What it takes of us is some HMACs: the slow hash of SCRAM is the client's.  Guessing is as
 * slow as with passwords, because an address that guesses waits before its exchange begins.
 */
#include "broker/exchange_internal.h"

#include "auth/passhash.h"
#include "os/process.h"

struct exchange *exchange_new(struct client *client, size_t connect_len)
{
    struct mr_shard *shard = client->shard;
    size_t capacity = 0;
    struct exchange *exchange = (struct exchange *)(void *)mr_bufpool_take(
        &shard->pool, sizeof(*exchange) + connect_len, &capacity);

    if (exchange != NULL) {
        memset(exchange, 0, sizeof(*exchange));
        exchange->capacity = capacity;
        exchange->connect_len = (uint32_t)connect_len;
        client->exchange = exchange;
    }
    return exchange;
}

void exchange_drop(struct client *client)
{
    struct exchange *exchange = client->exchange;

    if (exchange != NULL) {
        size_t capacity = exchange->capacity;
        client->exchange = NULL;
        mr_secret_wipe(exchange, sizeof(*exchange) + exchange->connect_len);
        mr_bufpool_give(&client->shard->pool, (uint8_t *)exchange, capacity);
    }
}

const char *exchange_begin(struct client *client, struct mr_span data)
{
    struct exchange *exchange = client->exchange;
    struct mr_auth *auth = client->shard->broker->auth;
    struct mr_scram_keys keys;
    struct mr_span user;
    uint8_t nonce[MR_SCRAM_NONCE_BYTES];
    char message[MR_SCRAM_MESSAGE_MAX];
    const char *fault =
        mr_scram_first(&exchange->scram, data, exchange->user, sizeof(exchange->user), &user);

    if (fault != NULL) {
        return fault;
    }
    if (!login_asks(client) || !mr_auth_offers_scram(auth, login_realm(client))) {
        return "no password file has any user of SCRAM any more"; /* by a reload */
    }
    exchange->user_len = (uint16_t)user.len;
    bool known = mr_auth_scram_find(auth, login_realm(client), user, &keys);
    mr_os_random(nonce, sizeof(nonce));
    struct mr_span challenge = mr_scram_challenge(&exchange->scram, &keys, known, nonce, message);
    mr_secret_wipe(&keys, sizeof(keys));
    return send_auth(client, MR_MQTT_CONTINUE_AUTHENTICATION, mr_span_of(MR_SCRAM_METHOD),
                     challenge) == MR_OK
               ? NULL
               : "there is no room for an AUTH packet to it";
}

const char *exchange_end(struct client *client, struct mr_span data)
{
    struct exchange *exchange = client->exchange;
    struct mr_auth *auth = client->shard->broker->auth;
    struct mr_span proof;
    const char *fault = mr_scram_final(&exchange->scram, data, exchange->proof, &proof);

    if (fault != NULL) {
        mr_auth_note_failure(auth, login_address(client));
        mr_metric_add(client->shard->metrics.logins_refused, 1);
        return fault;
    }
    mr_auth_note_success(auth, login_address(client));
    mr_metric_add(client->shard->metrics.logins_accepted, 1);
    exchange->proof_len = (uint16_t)proof.len;
    exchange->proven = true;
    return NULL;
}

bool exchange_is_suspect(struct client *client)
{
    struct mr_auth_request request = {.address = login_address(client)};
    struct mr_auth *auth = client->shard->broker->auth;

    if (client->login_state == LOGIN_WAITED || mr_auth_scram_look(auth, &request) == MR_AUTH_YES) {
        return false;
    }
    mr_auth_drop(auth, &request);
    mr_metric_add(client->shard->metrics.logins_busy, 1);
    return true;
}

/* Are the keys that it has proven to know still those of its user?  The file may have been read
 * again since the exchange began, which is when others whose user is gone are sent away.
 */
static bool exchange_holds(struct client *client)
{
    const struct exchange *exchange = client->exchange;
    const struct mr_scram_keys *used = &exchange->scram.keys;
    struct mr_scram_keys now;
    bool known = mr_auth_scram_find(client->shard->broker->auth, login_realm(client),
                                    exchange_user(exchange), &now);
    bool same = memcmp(now.stored_key, used->stored_key, sizeof(now.stored_key)) == 0;

    mr_secret_wipe(&now, sizeof(now));
    return known && same;
}

struct mr_span exchange_user(const struct exchange *exchange)
{
    return mr_span_make(exchange->user, exchange->user_len);
}

struct mr_span exchange_proof(const struct exchange *exchange)
{
    return mr_span_make(exchange->proof, exchange->proof_len);
}

/* ---- CONNECT ---- */

/* May its address begin now?  0, LOGIN_LATER, or the reason of the refusal. */
static uint8_t begin_look(struct client *client, const char **what)
{
    struct mr_auth_request request = {.address = login_address(client)};
    struct mr_auth *auth = client->shard->broker->auth;

    *what = "its address has sent too many wrong passwords, and too many of its clients wait";
    switch (mr_auth_scram_look(auth, &request)) {
    case MR_AUTH_YES:
        return 0;
    case MR_AUTH_LATER:
        if (login_delay(client, &request)) {
            return LOGIN_LATER;
        }
        mr_auth_drop(auth, &request);
        break;
    case MR_AUTH_NO:
    case MR_AUTH_BUSY:
    case MR_AUTH_DOWN:
        break;
    }
    mr_metric_add(client->shard->metrics.logins_busy, 1);
    return MR_MQTT_SERVER_BUSY;
}

/* Keep the CONNECT, ask for more. */
static uint8_t connect_begin(struct client *client, const struct mr_mqtt_frame *frame,
                             const struct mr_mqtt_connect *packet, const char **what)
{
    const uint8_t *end = frame->body.at + frame->body.len;
    struct exchange *exchange = exchange_new(client, frame->total_bytes);

    *what = "there is no memory for its authentication";
    if (exchange == NULL) {
        return MR_MQTT_SERVER_BUSY;
    }
    memcpy(exchange->connect, end - frame->total_bytes, frame->total_bytes);
    *what = exchange_begin(client, packet->props.auth_data);
    if (*what != NULL) {
        mr_auth_note_failure(client->shard->broker->auth, login_address(client));
        return MR_MQTT_NOT_AUTHORIZED;
    }
    login_set_timer(client, client->shard->limits.connect_timeout_us / 1000);
    return LOGIN_ASKS;
}

uint8_t enhanced_check(struct client *client, const struct mr_mqtt_frame *frame,
                       struct mr_mqtt_connect *packet, const char **what)
{
    struct mr_auth *auth = client->shard->broker->auth;
    const struct exchange *exchange = client->exchange;

    if (auth == NULL || !mr_span_is(packet->props.auth_method, MR_SCRAM_METHOD) ||
        !login_asks(client) || !mr_auth_offers_scram(auth, login_realm(client))) {
        *what = "its authentication method is not offered; SCRAM-SHA-256 is, to users of "
                "`millrace passwd --scram`";
        return MR_MQTT_BAD_AUTH_METHOD; /* [MQTT-4.12.0-1] */
    }
    if (exchange == NULL) {
        uint8_t reason = client->login_state == LOGIN_WAITED ? 0 : begin_look(client, what);
        return reason != 0 ? reason : connect_begin(client, frame, packet, what);
    }
    if (!exchange_holds(client)) {
        *what = "its user or its password has changed meanwhile";
        return MR_MQTT_NOT_AUTHORIZED;
    }
    /* It has proven a name; another one beside it would be a claim without a proof. */
    if (packet->has_username && !mr_span_equal(packet->username, exchange_user(exchange))) {
        *what = "its user name is another than the one it has proven";
        return MR_MQTT_NOT_AUTHORIZED;
    }
    packet->has_username = true;
    packet->username = exchange_user(exchange);
    return 0;
}

void enhanced_answer(struct client *client, struct mr_mqtt_props *props)
{
    client->enhanced = client->exchange != NULL;
    if (client->enhanced) {
        props->auth_method = mr_span_of(MR_SCRAM_METHOD);
        mr_mqtt_set(props, MR_MQTT_PROP_AUTH_METHOD);
        props->auth_data = exchange_proof(client->exchange);
        mr_mqtt_set(props, MR_MQTT_PROP_AUTH_DATA);
    }
}
