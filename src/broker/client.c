/* client.c - a connection from accept to its end.
 *
 * Whatever ends it, client_closed() is where it is undone: the acks it will not
 * get any more, its session with its subscriptions unless it is persistent, and its will,
 * which is published unless a DISCONNECT has revoked it [MQTT-3.1.2-8].
 */
#include "broker/enhanced_internal.h"
#include "broker/keep_internal.h"
#include "broker/login_internal.h"
#include "broker/outgoing_internal.h"

#include "net/tls.h"

struct mr_conn *client_conn(struct client *client)
{
    return mr_conn_of_user(client);
}

const char *client_label(struct client *client, struct client_label *label)
{
    struct mr_text text = mr_text_over(label->text, sizeof(label->text));

    if (client->session != NULL) {
        struct mr_span id = session_id(client->session);
        mr_text_add(&text, "client '");
        mr_text_bytes(&text, id.at, id.len < 100 ? id.len : 100);
        mr_text_fmt(&text, "' (%s)", mr_conn_peer(client_conn(client)));
    } else {
        mr_text_fmt(&text, "a client from %s", mr_conn_peer(client_conn(client)));
    }
    return label->text;
}

/* ---- the log of connections ---- */

/* A storm of clients that come back must not drown what else there is to say. */
static bool log_has_room(struct mr_shard *shard)
{
    int64_t second = shard->now_ns / 1000000000;

    if (!atomic_load_explicit(&shard->broker->log_connections, memory_order_relaxed)) {
        return false;
    }
    if (second != shard->log_second) {
        shard->log_second = second;
        shard->log_lines = 0;
    }
    if (shard->log_lines == LOG_CONNECTIONS_MAX) {
        shard->log_held += 1;
        return false;
    }
    shard->log_lines += 1;
    return true;
}

void client_log_held(struct mr_shard *shard)
{
    if (MR_UNLIKELY(shard->log_held != 0) && shard->now_ns / 1000000000 != shard->log_second) {
        mr_log(MR_LOG_INFO, "mqtt", "%u more clients came or went within that second",
               shard->log_held);
        shard->log_held = 0;
    }
}

void client_log_connected(struct client *client, bool session_present, uint16_t keep_alive_s)
{
    struct mr_shard *shard = client->shard;
    struct mr_span username = session_username(client->session);
    uint32_t listener = mr_conn_listener(client_conn(client));
    const char *name = shard->broker->run.listeners[listener].name;
    struct client_label label;

    if (log_has_room(shard)) {
        mr_log(MR_LOG_INFO, "mqtt", "%s connected: MQTT %s%s%.*s%s, keep alive %u s, listener %s%s",
               client_label(client, &label),
               client->version == MR_MQTT_5     ? "5.0"
               : client->version == MR_MQTT_311 ? "3.1.1"
                                                : "3.1",
               username.len == 0 ? "" : ", user '", (int)(username.len < 64 ? username.len : 64),
               username.len == 0 ? "" : (const char *)username.at, username.len == 0 ? "" : "'",
               keep_alive_s, name == NULL ? "mqtt" : name,
               session_present ? ", goes on with its session" : "");
    }
}

static void log_gone(struct client *client)
{
    static const char *const whys[END_COUNT] = {
        [END_CLIENT] = "it said so",
        [END_CLOSED] = "its connection ended without DISCONNECT",
        [END_TAKEN_OVER] = "a newer connection has its id",
        [END_KEEP_ALIVE] = "it was silent for 1.5 times its keep alive",
        [END_REFUSED] = "it was refused",
        [END_PROTOCOL] = "it broke the protocol",
        [END_SHUTDOWN] = "the gateway ends",
        [END_MEMORY] = "there is no memory for it",
        [END_TLS] = "its TLS failed",
        [END_WEBSOCKET] = "its WebSocket failed",
        [END_PROXY] = "its PROXY header was wrong",
        [END_KICKED] = "the operator sent it away",
        [END_AUTH] = "who it is was not proven, or holds no longer",
    };
    struct mr_shard *shard = client->shard;
    struct client_label label;

    if (log_has_room(shard)) {
        uint64_t ms = (uint64_t)(shard->tick - client->connected_tick) * MR_NET_TICK_NS / 1000000;
        mr_log(MR_LOG_INFO, "mqtt", "%s disconnected after %llu.%llu s: %s; %u received, %u sent",
               client_label(client, &label), (unsigned long long)(ms / 1000),
               (unsigned long long)(ms % 1000 / 100), whys[client->end], client->received,
               client->sent);
    }
}

static void patience_begin(const struct mr_shard *shard, struct mr_conn *conn)
{
    uint64_t patience_ticks = shard->limits.connect_timeout_us * 1000 / MR_NET_TICK_NS + 1;

    mr_conn_set_timer(conn, shard->tick + (uint32_t)patience_ticks);
}

void client_begin(struct mr_shard *shard, struct mr_conn *conn)
{
    struct client *client = mr_conn_user(conn);

    client->shard = shard;
    client->listener = (uint8_t)mr_conn_listener(conn);
    client->packet_told = client_limits(client)->connect_max;
    client->end = END_CLOSED;
    patience_begin(shard, conn);
}

static bool client_opened(void *arg, struct mr_conn *conn)
{
    struct mr_shard *shard = arg;

    client_begin(shard, conn);
    mr_metric_add(shard->metrics.connections_total, 1);
    return !shard->stopping && bans_let_in(mr_conn_user(conn));
}

/* A handshake failed, a record or a frame: not seldom a door that somebody tries. */
static void transport_note(struct client *client, enum end_kind end)
{
    static struct mr_log_limit limit;
    struct client_label label;
    uint64_t held = 0;

    client->end = (uint8_t)end;
    if (client->session == NULL) {
        bans_note_refused(client, MR_MQTT_NOT_AUTHORIZED);
    }
    if (mr_log_allowed(&limit, LOG_EVERY_US / 10, &held)) {
        mr_log(MR_LOG_INFO, "mqtt", "%s: %s; closed%s", client_label(client, &label),
               mr_conn_fault(client_conn(client)),
               held != 0 ? "; more such lines were held back" : "");
    }
}

/* Somebody reached a listener for proxies and is none, or a proxy that does not say it. */
static void client_stranger(void *arg, const struct mr_conn *conn, const char *what)
{
    static struct mr_log_limit limit;
    struct mr_shard *shard = arg;
    const char *name = shard->broker->run.listeners[mr_conn_listener(conn)].name;
    uint64_t held = 0;

    mr_metric_add(shard->metrics.disconnects[END_PROXY], 1);
    if (mr_log_allowed(&limit, LOG_EVERY_US / 10, &held)) {
        mr_log(MR_LOG_INFO, "mqtt",
               "a client from %s: %s, and listener '%s' has `proxy_protocol: true`; closed%s",
               mr_conn_peer(conn), what, name == NULL ? "mqtt" : name,
               held != 0 ? "; more such lines were held back" : "");
    }
}

/* Its session ends with it, or stays, and its will is due. */
static void session_closed(struct mr_shard *shard, struct session *session, struct client *client)
{
    log_gone(client);
    bans_note_left(client);
    client->session = NULL;
    shard->clients_online -= 1;
    if (session->keep != NULL) {
        session_leave(shard, session, client);
        return;
    }
    struct stored *will = session->will;
    bool published =
        will != NULL && !client->will_dropped && access_will(shard, session, will->message.topic);
    session->will = NULL;
    session_free(shard, session);
    if (published) {
        will_publish(shard, will);
    } else if (will != NULL) {
        stored_free(&shard->pool, will);
    }
}

static void client_closed(void *arg, struct mr_conn *conn, enum mr_close_why why)
{
    struct mr_shard *shard = arg;
    struct client *client = mr_conn_user(conn);
    struct session *session = client->session;

    if (why == MR_CLOSE_MEMORY) {
        client->end = END_MEMORY;
    } else if (why == MR_CLOSE_TLS) {
        transport_note(client, END_TLS);
    } else if (why == MR_CLOSE_WEBSOCKET) {
        transport_note(client, END_WEBSOCKET);
    }
    login_drop(client);
    exchange_drop(client);
    crowd_drop(client);
    mr_metric_add(shard->metrics.disconnects[client->end], 1);
    mr_acks_drop(shard->gates[GATE_DISK], &client->acks);
    topics_drop(client);
    limits_end(client);
    aliases_drop(client);
    alias_out_drop(client);
    if (session != NULL) {
        session_closed(shard, session, client);
    }
    mr_auth_grant_free(client->grant); /* its will was asked for by it */
    client->grant = NULL;
}

/* The tick at which it will have been silent for too long [MQTT-3.1.2-22].  A client
 * that we do not read cannot be blamed.
 */
static uint32_t client_due(const struct client *client, struct mr_conn *conn)
{
    uint32_t since = mr_conn_is_paused(conn) ? client->shard->tick : mr_conn_heard(conn);

    return since + client->keep_alive_ticks;
}

static bool client_was_silent(const struct client *client, struct mr_conn *conn)
{
    return client->keep_alive_ticks != 0 &&
           (int32_t)(client_due(client, conn) - client->shard->tick) <= 0;
}

/* Does what its login brought hold no longer? */
static bool client_expired(const struct client *client)
{
    return client->expires_tick != 0 && (int32_t)(client->expires_tick - client->shard->tick) <= 0;
}

void client_timer_set(struct client *client, uint32_t due)
{
    uint32_t at = client->keep_alive_ticks == 0 ? 0 : due;

    if (client->expires_tick != 0 && (at == 0 || (int32_t)(client->expires_tick - at) < 0)) {
        at = client->expires_tick;
    }
    mr_conn_set_timer(client_conn(client), at);
}

void client_watch_silence(struct client *client)
{
    client_timer_set(client, client_due(client, client_conn(client)));
}

/* Its CONNECT is here and waits, for its password's check or for room: that is us. */
static bool connect_waits(struct client *client, struct mr_conn *conn)
{
    if (client->session != NULL || !mr_conn_is_paused(conn)) {
        return false;
    }
    if (client->login == NULL) { /* else login.c has set the timer */
        patience_begin(client->shard, conn);
    }
    return true;
}

/* Silence: before CONNECT nobody may stay long, afterwards 1.5 times the keep alive.
 * Before the verdict a look into the socket, for it may be us who were late.
 */
static void client_timer(void *arg, struct mr_conn *conn)
{
    struct mr_shard *shard = arg;
    struct client *client = mr_conn_user(conn);
    uint64_t id = mr_conn_id(conn);
    bool joined = client->session != NULL;

    if (joined && client_expired(client)) { /* first: also if it is us who let it wait */
        (void)client_refuse(client, END_AUTH, MR_MQTT_NOT_AUTHORIZED, "its login has expired");
        return;
    }
    if (login_timer(client) || rate_timer(client)) {
        return;
    }
    if (!joined || client_was_silent(client, conn)) {
        mr_conn_listen(conn);
        if (mr_net_find(shard->net, id) == NULL) {
            return;
        }
    }
    if (connect_waits(client, conn)) {
        return;
    }
    if (client->exchange != NULL && client->session == NULL) {
        (void)connect_refuse(client, MR_MQTT_5, MR_MQTT_NOT_AUTHORIZED,
                             "no AUTH packet within `connect_timeout`");
        return;
    }
    if (client->session == NULL) {
        (void)client_refuse(client, END_REFUSED, MR_MQTT_MAXIMUM_CONNECT_TIME,
                            "no CONNECT within `connect_timeout`");
        return;
    }
    if (!joined) {
        return; /* its CONNECT has set the timer */
    }
    if (client_was_silent(client, conn)) {
        (void)client_refuse(client, END_KEEP_ALIVE, MR_MQTT_KEEP_ALIVE_TIMEOUT,
                            "silent for 1.5 times its keep alive");
    } else {
        client_watch_silence(client);
    }
}

/* Half a packet, and no more of it. */
static void client_stuck(void *arg, struct mr_conn *conn)
{
    struct client *client = mr_conn_user(conn);

    (void)arg;
    if (client->session != NULL) { /* else `connect_timeout` ends it */
        (void)client_refuse(client, END_PROTOCOL, MR_MQTT_KEEP_ALIVE_TIMEOUT,
                            "a packet that it began did not arrive within `packet_timeout`");
    }
}

static void client_drained(void *arg, struct mr_conn *conn)
{
    (void)arg;
    outbound_drain(mr_conn_user(conn));
}

const struct mr_net_handler client_handler = {
    .on_open = client_opened,
    .on_bytes = dispatch_bytes,
    .on_drained = client_drained,
    .on_timer = client_timer,
    .on_stuck = client_stuck,
    .on_close = client_closed,
    .on_stranger = client_stranger,
};

void client_end(struct client *client, enum end_kind kind)
{
    client->end = (uint8_t)kind;
    mr_conn_close(client_conn(client));
}

enum verdict client_refuse(struct client *client, enum end_kind kind, uint8_t reason,
                           const char *what)
{
    static struct mr_log_limit limit;
    struct client_label label;
    uint64_t held = 0;

    if (mr_log_allowed(&limit, LOG_EVERY_US / 10, &held)) {
        mr_log(MR_LOG_INFO, "mqtt", "%s: %s (%s, 0x%02X); closed%s", client_label(client, &label),
               what, mr_mqtt_reason_name(reason), reason,
               held != 0 ? "; more such lines were held back" : "");
    }
    if (client->session == NULL) {
        bans_note_refused(client, reason);
    } else if (client->version == MR_MQTT_5) {
        send_disconnect(client, reason, what);
    }
    client_end(client, kind);
    return PACKET_END;
}
