/* import_emqx.c - emqx.conf (HOCON) of EMQX 5: listeners and limits; the rest has files of its own.
 */
#include "app/cli/import_emqx_internal.h"

#include <stdlib.h>

/* ---- listeners ---- */

/* "8883", ":8883", "0.0.0.0:8883". */
static void on_bind(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    char bind[300];
    struct mr_text text = mr_text_over(bind, sizeof(bind));
    const char *given = value->kind == HOCON_TEXT ? value->text : "";
    bool port_alone = given[0] != '\0' && strspn(given, "0123456789") == strlen(given);

    mr_text_fmt(&text, "%s%s", port_alone ? "0.0.0.0:" : given[0] == ':' ? "0.0.0.0" : "", given);
    import_set(emqx->import, into, "bind", IMPORT_TEXT, bind, value->place);
}

static void on_max_connections(struct emqx *emqx, const struct hocon_value *value,
                               struct import_node *into)
{
    if (value->kind == HOCON_TEXT && strcmp(value->text, "infinity") == 0) {
        emqx_note(emqx, value, "max_connections", "no bound is the default");
        return;
    }
    emqx_set(emqx, value, "max_connections", EMQX_PLAIN, into, "max_connections");
}

static void on_enable_authn(struct emqx *emqx, const struct hocon_value *value,
                            struct import_node *into)
{
    bool off = value->kind == HOCON_TEXT && strcmp(value->text, "false") == 0;

    if (off) {
        import_set(emqx->import, into, "allow_anonymous", IMPORT_PLAIN, "true", value->place);
    } else {
        emqx_note(emqx, value, "enable_authn", "`auth` holds for all listeners");
    }
}

/* verify_peer asks for a certificate, fail_if_no_peer_cert insists on it. */
static void on_verify(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    (void)into;
    emqx_note(emqx, value, "ssl_options.verify",
              "a client's certificate is asked for where it is required "
              "(`tls.require_certificate`), which fail_if_no_peer_cert decides");
}

static void on_fail_if_none(struct emqx *emqx, const struct hocon_value *value,
                            struct import_node *into)
{
    emqx_set(emqx, value, "ssl_options.fail_if_no_peer_cert", EMQX_PLAIN, into,
             "tls.require_certificate");
}

static void on_versions(struct emqx *emqx, const struct hocon_value *value,
                        struct import_node *into)
{
    bool has_1_2 = false;

    for (const struct hocon_value *item = value->first; item != NULL; item = item->next) {
        has_1_2 = has_1_2 || (item->text != NULL && strcmp(item->text, "tlsv1.3") != 0);
    }
    import_set(emqx->import, into, "tls.tls_version", IMPORT_PLAIN, has_1_2 ? "tlsv1.2" : "tlsv1.3",
               value->place);
}

static const struct emqx_row listener_rows[] = {
    {.name = "bind", .how = EMQX_CALL, .call = on_bind},
    {.name = "max_connections", .how = EMQX_CALL, .call = on_max_connections},
    {.name = "enable_authn", .how = EMQX_CALL, .call = on_enable_authn},
    {.name = "enable", .how = EMQX_NOTE, .advice = "a listener that is here is open"},
    {.name = "enabled", .how = EMQX_NOTE, .advice = "a listener that is here is open"},
    {.name = "ssl_options.certfile", .how = EMQX_TEXT, .key = "tls.certfile"},
    {.name = "ssl_options.keyfile", .how = EMQX_TEXT, .key = "tls.keyfile"},
    {.name = "ssl_options.cacertfile", .how = EMQX_TEXT, .key = "tls.cacertfile"},
    {.name = "ssl_options.verify", .how = EMQX_CALL, .call = on_verify},
    {.name = "ssl_options.fail_if_no_peer_cert", .how = EMQX_CALL, .call = on_fail_if_none},
    {.name = "ssl_options.versions", .how = EMQX_CALL, .call = on_versions},
    {.name = "ssl_options.ciphers",
     .how = EMQX_NOTE,
     .advice = "by default only ciphers with forward secrecy are spoken; others: `tls.ciphers`, in "
               "OpenSSL's words"},
    {.name = "ssl_options.password",
     .how = EMQX_NOTE,
     .advice = "the key must not be encrypted: openssl pkey -in KEY -out PLAIN, mode 0600"},
    {.name = "ssl_options.*", .how = EMQX_NOTE, .advice = "OpenSSL's defaults hold"},
    {.name = "mountpoint",
     .how = EMQX_NOTE,
     .advice = "topics are as the device names them; a bridge's `from` and `topic` can tell groups "
               "apart by their topics"},
    {.name = "proxy_protocol", .how = EMQX_PLAIN, .key = "proxy_protocol"},
    {.name = "access_rules",
     .how = EMQX_NOTE,
     .advice = "addresses are not looked at; let a packet filter do that"},
    {.name = "max_conn_rate", .how = EMQX_RATE, .key = "max_conn_rate"},
    {.name = "messages_rate", .how = EMQX_RATE, .key = "messages_rate"},
    {.name = "bytes_rate", .how = EMQX_RATE, .key = "bytes_rate"},
    {.name = "websocket.mqtt_path", .how = EMQX_TEXT, .key = "websocket"},
    {.name = "websocket.*",
     .how = EMQX_NOTE,
     .advice = "the subprotocol is mqtt; the other options of WebSocket have no equivalent"},
    {.name = "tcp_options.*",
     .how = EMQX_NOTE,
     .advice = "sockets are tuned by the gateway; nothing is to be set"},
    {.name = "acceptors", .how = EMQX_NOTE, .advice = "every shard accepts (`gateway.shards`)"},
    {.name = "zone", .how = EMQX_NOTE, .advice = "there are no zones; `mqtt` holds for everybody"},
    {.name = NULL}};

/* ssl_options without certificate and key: EMQX has some of its own, we have none. */
static void listener_finish(struct emqx *emqx, const struct hocon_value *listener, const char *type,
                            struct import_node *into)
{
    bool secure = strcmp(type, "ssl") == 0 || strcmp(type, "wss") == 0;
    static const struct {
        const char *type;
        const char *bind;
    } defaults[] = {{"tcp", "0.0.0.0:1883"},
                    {"ssl", "0.0.0.0:8883"},
                    {"ws", "0.0.0.0:8083"},
                    {"wss", "0.0.0.0:8084"}};

    for (size_t i = 0; i < MR_COUNT_OF(defaults); i++) {
        if (strcmp(defaults[i].type, type) == 0 && import_get(emqx->import, into, "bind") == NULL) {
            import_set(emqx->import, into, "bind", IMPORT_TEXT, defaults[i].bind, listener->place);
        }
    }
    if (strncmp(type, "ws", 2) == 0 && import_get(emqx->import, into, "websocket") == NULL) {
        import_set(emqx->import, into, "websocket", IMPORT_TEXT, "/mqtt", listener->place);
    }
    if (!secure && import_get(emqx->import, into, "tls") != NULL) {
        import_drop(into, "tls");
    }
    if (secure && (import_get(emqx->import, into, "tls.certfile") == NULL ||
                   import_get(emqx->import, into, "tls.keyfile") == NULL)) {
        import_note(emqx->import, listener->place, NULL,
                    "this listener has no certificate or key of yours (EMQX brings one for tests); "
                    "fill in `tls.certfile` and `tls.keyfile`");
        import_set(emqx->import, into, "tls.certfile", IMPORT_TEXT, "server.crt", listener->place);
        import_set(emqx->import, into, "tls.keyfile", IMPORT_TEXT, "server.key", listener->place);
    }
    if (import_get(emqx->import, into, "allow_anonymous") == NULL) {
        import_set(emqx->import, into, "allow_anonymous", IMPORT_PLAIN,
                   emqx->anonymous ? "true" : "false", listener->place);
    }
}

static void listener(struct emqx *emqx, const char *type, const struct hocon_value *value)
{
    char safe[64];
    char name[96];
    struct mr_text text = mr_text_over(name, sizeof(name));
    struct emqx_path path;
    struct emqx_path outer;

    (void)emqx_path(&path, emqx_path(&outer, "listeners", type), value->name);
    if (strcmp(type, "quic") == 0) {
        emqx_note(emqx, value, path.text, "MQTT over QUIC is not served");
        return;
    }
    if (value->kind != HOCON_OBJECT || emqx_is_off(value)) {
        emqx_note(emqx, value, path.text, "switched off, so it is left out");
        return;
    }
    emqx_name(value->name, safe, sizeof(safe));
    mr_text_fmt(&text, "%s-%s", type, safe);
    struct import_node *into =
        import_child(emqx->import, import_child(emqx->import, NULL, "listeners"), name);
    emqx_rows(emqx, value, path.text, listener_rows, into, "it has no equivalent");
    listener_finish(emqx, value, type, into);
}

static void on_listeners(struct emqx *emqx, const struct hocon_value *value,
                         struct import_node *into)
{
    (void)into;
    for (const struct hocon_value *type = value->first; type != NULL; type = type->next) {
        for (const struct hocon_value *one = type->first; one != NULL; one = one->next) {
            listener(emqx, type->name, one);
        }
    }
}

/* ---- limits ---- */

static void set_at_most(struct emqx *emqx, const struct hocon_value *value, const char *path,
                        const char *key, uint64_t most)
{
    uint64_t number = 0;
    char text[32];
    struct mr_text out = mr_text_over(text, sizeof(text));
    bool infinite = value->kind == HOCON_TEXT && strcmp(value->text, "infinity") == 0;

    if (!infinite && (value->kind != HOCON_TEXT ||
                      mr_parse_u64(mr_span_of(value->text), UINT64_MAX, &number) != MR_OK)) {
        emqx_note(emqx, value, path, "this value cannot be taken over; the default holds");
        return;
    }
    if (infinite || number > most) {
        emqx_note(emqx, value, path, "more than is possible; the most is taken");
        number = most;
    }
    mr_text_fmt(&out, "%llu", (unsigned long long)number);
    import_set(emqx->import, NULL, key, IMPORT_PLAIN, text, value->place);
}

static void on_topic_levels(struct emqx *emqx, const struct hocon_value *value,
                            struct import_node *into)
{
    (void)into;
    set_at_most(emqx, value, "mqtt.max_topic_levels", "mqtt.max_topic_levels", 1000);
}

static void on_topic_alias(struct emqx *emqx, const struct hocon_value *value,
                           struct import_node *into)
{
    (void)into;
    set_at_most(emqx, value, "mqtt.max_topic_alias", "mqtt.topic_alias_maximum", 1000);
}

static void on_inflight(struct emqx *emqx, const struct hocon_value *value,
                        struct import_node *into)
{
    (void)into;
    set_at_most(emqx, value, "mqtt.max_inflight", "mqtt.max_inflight_messages", 1024);
}

static void on_queue(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    (void)into;
    set_at_most(emqx, value, "mqtt.max_mqueue_len", "mqtt.max_queued_messages", 1000000);
}

static void on_keepalive(struct emqx *emqx, const struct hocon_value *value,
                         struct import_node *into)
{
    char text[32];
    struct mr_text out = mr_text_over(text, sizeof(text));
    uint64_t seconds = 0;

    (void)into;
    if (value->kind != HOCON_TEXT ||
        mr_parse_u64(mr_span_of(value->text), 65535, &seconds) != MR_OK) {
        emqx_note(emqx, value, "mqtt.server_keepalive", "clients keep their own, the default");
        return;
    }
    mr_text_fmt(&out, "%llus", (unsigned long long)seconds);
    import_set(emqx->import, NULL, "mqtt.max_keepalive", IMPORT_PLAIN, text, value->place);
}

static void on_session_expiry(struct emqx *emqx, const struct hocon_value *value,
                              struct import_node *into)
{
    emqx_set(emqx, value, "mqtt.session_expiry_interval", EMQX_DURATION, into,
             "max_session_expiry");
    emqx_note(emqx, value, "mqtt.session_expiry_interval",
              "EMQX gives it to sessions of 3.1.1; here it bounds those of 5.0 as well");
}

static void on_username_as_clientid(struct emqx *emqx, const struct hocon_value *value,
                                    struct import_node *into)
{
    (void)into;
    emqx_set(emqx, value, "mqtt.use_username_as_clientid", EMQX_PLAIN, NULL,
             "auth.use_username_as_clientid");
}

static const struct emqx_row mqtt_rows[] = {
    {.name = "use_username_as_clientid", .how = EMQX_CALL, .call = on_username_as_clientid},
    {.name = "max_packet_size", .how = EMQX_SIZE, .key = "max_packet_size"},
    {.name = "max_topic_levels", .how = EMQX_CALL, .call = on_topic_levels},
    {.name = "max_topic_alias", .how = EMQX_CALL, .call = on_topic_alias},
    {.name = "max_clientid_len", .how = EMQX_PLAIN, .key = "max_clientid_len"},
    {.name = "max_subscriptions", .how = EMQX_RATE, .key = "max_subscriptions"},
    {.name = "max_inflight", .how = EMQX_CALL, .call = on_inflight},
    {.name = "max_mqueue_len", .how = EMQX_CALL, .call = on_queue},
    {.name = "server_keepalive", .how = EMQX_CALL, .call = on_keepalive},
    {.name = "session_expiry_interval", .how = EMQX_CALL, .call = on_session_expiry},
    {.name = "idle_timeout", .how = EMQX_DURATION, .key = "connect_timeout"},
    {.name = "max_awaiting_rel",
     .how = EMQX_NOTE,
     .advice = "`mqtt.receive_maximum` bounds what a client may have unacknowledged, QoS 1 and 2"},
    {.name = "await_rel_timeout",
     .how = EMQX_NOTE,
     .advice = "a packet id of QoS 2 is kept as long as its session, or messages could come twice"},
    {.name = "retry_interval",
     .how = EMQX_NOTE,
     .advice = "unacknowledged messages are sent again when a client comes back, as MQTT 5 has it"},
    {.name = "keepalive_backoff", .how = EMQX_NOTE, .advice = "1.5 times the keep alive, always"},
    {.name = "keepalive_multiplier",
     .how = EMQX_NOTE,
     .advice = "1.5 times the keep alive, always"},
    {.name = "mqueue_store_qos0",
     .how = EMQX_NOTE,
     .advice = "messages of QoS 0 are not queued for clients that are away"},
    {.name = "upgrade_qos",
     .how = EMQX_NOTE,
     .advice = "a message is sent with the lower QoS of the publish and of the subscription"},
    {.name = "peer_cert_as_username",
     .how = EMQX_NOTE,
     .advice = "cn is `tls.use_identity_as_username: true` of the listener"},
    {.name = "max_qos_allowed", .how = EMQX_NOTE, .advice = "QoS 0 to 2 are always served"},
    {.name = "retain_available",
     .how = EMQX_NOTE,
     .advice = "`mqtt.max_retained_messages: 0` retains none"},
    {.name = NULL}};

static void on_mqtt(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    (void)into;
    emqx_rows(emqx, value, "mqtt", mqtt_rows, import_child(emqx->import, NULL, "mqtt"),
              "it has no equivalent; docs/MQTT.md says how it is here");
}

static void on_max_retained(struct emqx *emqx, const struct hocon_value *value,
                            struct import_node *into)
{
    bool all = value->kind == HOCON_TEXT && strcmp(value->text, "0") == 0;

    if (all) {
        import_set(emqx->import, into, "max_retained_messages", IMPORT_PLAIN, "100000000",
                   value->place);
        return;
    }
    emqx_set(emqx, value, "retainer.backend.max_retained_messages", EMQX_PLAIN, into,
             "max_retained_messages");
}

static void on_retainer_enable(struct emqx *emqx, const struct hocon_value *value,
                               struct import_node *into)
{
    if (value->kind == HOCON_TEXT && strcmp(value->text, "false") == 0) {
        import_set(emqx->import, into, "max_retained_messages", IMPORT_PLAIN, "0", value->place);
    } else {
        emqx_note(emqx, value, "retainer.enable", "retained messages are on by default");
    }
}

static const struct emqx_row retainer_rows[] = {
    {.name = "backend.max_retained_messages", .how = EMQX_CALL, .call = on_max_retained},
    {.name = "enable", .how = EMQX_CALL, .call = on_retainer_enable},
    {.name = "max_payload_size",
     .how = EMQX_NOTE,
     .advice = "`mqtt.max_packet_size` bounds every message, `mqtt.max_retained_bytes` all "
               "retained ones together"},
    {.name = "msg_expiry_interval",
     .how = EMQX_NOTE,
     .advice = "a retained message stays until it is cleared, or its own Message Expiry is over"},
    {.name = NULL}};

static void on_retainer(struct emqx *emqx, const struct hocon_value *value,
                        struct import_node *into)
{
    (void)into;
    emqx_rows(emqx, value, "retainer", retainer_rows, import_child(emqx->import, NULL, "mqtt"),
              "retained messages are on disk, and sent at once; nothing is to be set");
}

static void on_sys_interval(struct emqx *emqx, const struct hocon_value *value,
                            struct import_node *into)
{
    if (value->kind == HOCON_TEXT && strcmp(value->text, "disabled") == 0) {
        import_set(emqx->import, into, "sys_interval", IMPORT_PLAIN, "0", value->place);
    } else {
        emqx_set(emqx, value, "sys_topics.sys_msg_interval", EMQX_DURATION, into, "sys_interval");
    }
}

static void on_sys_topics(struct emqx *emqx, const struct hocon_value *value,
                          struct import_node *into)
{
    static const struct emqx_row rows[] = {
        {.name = "sys_msg_interval", .how = EMQX_CALL, .call = on_sys_interval}, {.name = NULL}};

    (void)into;
    emqx_rows(emqx, value, "sys_topics", rows, import_child(emqx->import, NULL, "mqtt"),
              "$SYS/broker has the topics of Mosquitto, not those of EMQX ($SYS/brokers)");
}

static void on_log_level(struct emqx *emqx, const struct hocon_value *value,
                         struct import_node *into)
{
    static const char *const levels[][2] = {
        {"debug", "debug"}, {"info", "info"},   {"notice", "info"},   {"warning", "warn"},
        {"warn", "warn"},   {"error", "error"}, {"critical", "error"}};

    (void)into;
    for (size_t i = 0; i < MR_COUNT_OF(levels); i++) {
        if (value->kind == HOCON_TEXT && strcmp(value->text, levels[i][0]) == 0) {
            import_set(emqx->import, NULL, "log.level", IMPORT_PLAIN, levels[i][1], value->place);
            return;
        }
    }
    emqx_note(emqx, value, "log.console.level", "`log.level` is debug, info, warn or error");
}

static void on_log(struct emqx *emqx, const struct hocon_value *value, struct import_node *into)
{
    static const struct emqx_row rows[] = {
        {.name = "console.level", .how = EMQX_CALL, .call = on_log_level}, {.name = NULL}};

    emqx_rows(emqx, value, "log", rows, into,
              "the log goes to stderr: systemd puts it into its journal, a shell into a file with "
              "2>>FILE");
}

static void on_flapping(struct emqx *emqx, const struct hocon_value *value,
                        struct import_node *into)
{
    static const struct emqx_row rows[] = {
        {.name = "enable", .how = EMQX_PLAIN, .key = "flapping_detect.enable"},
        {.name = "max_count", .how = EMQX_PLAIN, .key = "flapping_detect.max_count"},
        {.name = "window_time", .how = EMQX_DURATION, .key = "flapping_detect.window_time"},
        {.name = "ban_time", .how = EMQX_DURATION, .key = "flapping_detect.ban_time"},
        {.name = NULL}};

    (void)into;
    emqx_rows(emqx, value, "flapping_detect", rows, import_child(emqx->import, NULL, "mqtt"),
              "it has no equivalent");
}

/* ---- the whole ---- */

#define CLUSTER "one gateway is one machine; there is no cluster to join"
static const struct emqx_row top_rows[] = {
    {.name = "listeners", .how = EMQX_CALL, .call = on_listeners},
    {.name = "authentication", .how = EMQX_CALL, .call = emqx_authentication},
    {.name = "authorization", .how = EMQX_CALL, .call = emqx_authorization},
    {.name = "mqtt", .how = EMQX_CALL, .call = on_mqtt},
    {.name = "retainer", .how = EMQX_CALL, .call = on_retainer},
    {.name = "sys_topics", .how = EMQX_CALL, .call = on_sys_topics},
    {.name = "log", .how = EMQX_CALL, .call = on_log},
    {.name = "node.*", .how = EMQX_NOTE, .advice = CLUSTER},
    {.name = "cluster.*", .how = EMQX_NOTE, .advice = CLUSTER},
    {.name = "rpc.*", .how = EMQX_NOTE, .advice = CLUSTER},
    {.name = "dashboard.*",
     .how = EMQX_NOTE,
     .advice = "there is no page to click on; `admin.bind` serves /metrics and /api/"},
    {.name = "api_key.*",
     .how = EMQX_NOTE,
     .advice = "`admin.bind` is on loopback, and asks for no key"},
    {.name = "prometheus.*",
     .how = EMQX_NOTE,
     .advice = "/metrics of `admin.bind` is there to be read; nothing is pushed"},
    {.name = "zones.*", .how = EMQX_NOTE, .advice = "there are no zones"},
    {.name = "flapping_detect", .how = EMQX_CALL, .call = on_flapping},
    {.name = "limiter.*",
     .how = EMQX_NOTE,
     .advice = "see the limits of listeners in docs/CONFIG.md"},
    {.name = "gateway.*", .how = EMQX_NOTE, .advice = "other protocols than MQTT are not served"},
    {.name = "exhook.*", .how = EMQX_NOTE, .advice = "there are no hooks"},
    {.name = "plugins.*", .how = EMQX_NOTE, .advice = "there are no plugins"},
    {.name = "rewrite",
     .how = EMQX_NOTE,
     .advice = "topics are not rewritten; a bridge's `topic` "
               "template can name others in Kafka"},
    {.name = "delayed.*", .how = EMQX_NOTE, .advice = "$delayed topics are topics like others"},
    {.name = "auto_subscribe.*",
     .how = EMQX_NOTE,
     .advice = "clients subscribe by themselves; let the devices do it"},
    {.name = "connectors", .how = EMQX_CALL, .call = NULL},
    {.name = "actions", .how = EMQX_CALL, .call = NULL},
    {.name = "bridges", .how = EMQX_CALL, .call = NULL},
    {.name = "sources.*",
     .how = EMQX_NOTE,
     .advice = "events come in over MQTT alone; there are no sources of other kinds"},
    {.name = "rule_engine", .how = EMQX_CALL, .call = NULL},
    {.name = NULL}};

/* EMQX listens on four ports unless it is told otherwise; we take the plain one. */
static void listeners_default(struct emqx *emqx)
{
    static const struct import_place none = {.file = NULL};

    if (import_get(emqx->import, NULL, "listeners") != NULL) {
        return;
    }
    import_set(emqx->import, NULL, "listeners.tcp-default.bind", IMPORT_TEXT, "0.0.0.0:1883", none);
    import_set(emqx->import, NULL, "listeners.tcp-default.allow_anonymous", IMPORT_PLAIN,
               emqx->anonymous ? "true" : "false", none);
    import_note(emqx->import, none, NULL,
                "no listener is named, so the one of port 1883 is taken over that EMQX opens by "
                "itself; those of 8883, 8083 and 8084 need a certificate of yours, or "
                "`websocket`");
}

bool import_emqx(struct import *import, const char *const *paths, size_t count)
{
    struct emqx emqx = {.import = import, .hocon = {.import = import}};
    bool ok = true;

    for (size_t i = 0; i < count && ok; i++) {
        ok = hocon_read(&emqx.hocon, paths[i]);
    }
    if (ok) {
        hocon_follow(&emqx.hocon);
        emqx.anonymous = !emqx_has_authentication(&emqx.hocon.root);
        emqx_rows(&emqx, &emqx.hocon.root, "", top_rows, NULL, "it has no equivalent");
        emqx_kafka(&emqx);
        listeners_default(&emqx);
    }
    hocon_close(&emqx.hocon);
    return ok;
}
