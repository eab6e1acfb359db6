/* options.c - the broker's rows of the configuration. */
#include "broker/realm_internal.h"
#include "net/tls.h"

static const char *const anonymous_choices[] = {"auto", "true", "false", NULL};

static const char *const mode_choices[] = {[MR_UNIX_MODE_GROUP] = "group",
                                           [MR_UNIX_MODE_OWNER] = "user",
                                           [MR_UNIX_MODE_ALL] = "all",
                                           NULL};

static const char *const overlapping_choices[] = {"each", "merged", NULL};

static const char *const version_choices[] = {
    [MR_TLS_1_2] = "tlsv1.2", [MR_TLS_1_3] = "tlsv1.3", NULL};

static const char *const identity_choices[] = {
    [MR_TLS_CN] = "cn",           [MR_TLS_SUBJECT] = "subject",
    [MR_TLS_SAN_DNS] = "san_dns", [MR_TLS_SAN_EMAIL] = "san_email",
    [MR_TLS_SAN_URI] = "san_uri", NULL};

#define TLS_ROW(field_, type_, default_, help_)          \
    {.name = #field_,                                    \
     .type = type_,                                      \
     .offset = offsetof(struct mr_listener_tls, field_), \
     .default_text = default_,                           \
     .help = help_}

static const struct mr_option tls_options[] = {
    TLS_ROW(certfile, MR_OPT_PATH, NULL,
            "PEM: the gateway's certificate, then its intermediates; makes this a TLS listener."),
    TLS_ROW(keyfile, MR_OPT_PATH, NULL, "PEM: the certificate's private key, not encrypted."),
    {.name = "certificates",
     .type = MR_OPT_PAIRS,
     .offset = offsetof(struct mr_listener_tls, certificates),
     .paths = true,
     .help = "More certificates with their keys, as in { b.crt: b.key }: a client that asks for a "
             "server name (SNI) gets the one that is made for it, else certfile."},
    TLS_ROW(cacertfile, MR_OPT_PATH, NULL, "PEM: who signs the clients' certificates."),
    TLS_ROW(crlfile, MR_OPT_PATH, NULL, "PEM: the clients' certificates that were revoked."),
    TLS_ROW(require_certificate, MR_OPT_BOOL, "false",
            "Admit only clients with a certificate signed by cacertfile."),
    TLS_ROW(use_identity_as_username, MR_OPT_BOOL, "false",
            "Take a name in the certificate as user name and ask for no password."),
    {.name = "identity_from",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_listener_tls, identity_from),
     .default_text = "cn",
     .choices = identity_choices,
     .help = "Which name that is: the common name, the whole subject, or the first alternative "
             "name of a kind."},
    {.name = "tls_version",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_listener_tls, tls_version),
     .default_text = "tlsv1.2",
     .choices = version_choices,
     .help = "The oldest version that is spoken."},
    TLS_ROW(ciphers, MR_OPT_STR, NULL,
            "Ciphers of TLS 1.2 in OpenSSL's words; by default those with forward secrecy."),
    {0}};

static const char *const takeover_choices[] = {
    [MR_TAKEOVER_SAME_USER] = "same_user", [MR_TAKEOVER_ANYONE] = "anyone", NULL};

const struct mr_option mr_auth_options[] = {
    {.name = "password_file",
     .type = MR_OPT_PATH,
     .offset = offsetof(struct mr_auth_conf, password_file),
     .live = true,
     .help = "Users and hashes as mosquitto_passwd and `millrace passwd` write them; with it "
             "allow_anonymous: auto means false."},
    {.name = "acl_file",
     .type = MR_OPT_PATH,
     .offset = offsetof(struct mr_auth_conf, acl_file),
     .live = true,
     .help = "Who may publish and subscribe to what, as Mosquitto's acl_file; with it everything "
             "that no line grants is denied."},
    {.name = "check_retain_source",
     .type = MR_OPT_BOOL,
     .offset = offsetof(struct mr_auth_conf, check_retain_source),
     .default_text = "true",
     .live = true,
     .help =
         "Where an ACL file is in force: do not show a retained message to new subscribers whose "
         "publisher may not publish to its topic any more."},
    {.name = "use_username_as_clientid",
     .type = MR_OPT_BOOL,
     .offset = offsetof(struct mr_auth_conf, use_username_as_clientid),
     .default_text = "false",
     .live = true,
     .help = "Take the user name as client id, whatever the client says; without a name it is "
             "refused."},
    {.name = "client_id_pattern",
     .type = MR_OPT_STR,
     .offset = offsetof(struct mr_auth_conf, client_id_pattern),
     .live = true,
     .help = "What a client id must look like, %u being the user name and * anything, as in "
             "\"%u-*\"; where it has %u, nobody without a user name fits."},
    {.name = "session_takeover",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_auth_conf, session_takeover),
     .default_text = "same_user",
     .choices = takeover_choices,
     .live = true,
     .help = "Who may go on with the session of a client id, or take over its connection; matters "
             "only where users are checked. A session of nobody is anybody's."},
    {.name = "order",
     .type = MR_OPT_LIST,
     .offset = offsetof(struct mr_auth_conf, order),
     .live = true,
     .help = "Who is asked first; one that does not know the client leaves it to the next. "
             "Without it: jwt, password_file, http."},
    {.name = "jwt",
     .type = MR_OPT_SECTION,
     .offset = offsetof(struct mr_auth_conf, jwt),
     .table = mr_jwt_options,
     .live = true,
     .help = "Signed tokens instead of passwords (RFC 7519)."},
    {.name = "http",
     .type = MR_OPT_SECTION,
     .offset = offsetof(struct mr_auth_conf, http),
     .table = mr_http_options,
     .live = true,
     .help = "A service that says who may come in."},
    {0}};

enum { RATE_MAX = 1000000 }; /* events a second */

/* A limit of this listener alone. */
#define LIMIT_ROW(field_, type_, max_, zero_)                    \
    {.name = #field_,                                            \
     .type = type_,                                              \
     .offset = offsetof(struct mr_listener_conf, limits.field_), \
     .default_text = "0",                                        \
     .live = true,                                               \
     .max = max_,                                                \
     .help = "As `mqtt." #field_ "`, for this listener; " zero_ "."}

const struct mr_option mr_listener_options[] = {
    {.name = "bind",
     .type = MR_OPT_STR,
     .offset = offsetof(struct mr_listener_conf, bind),
     .required = true,
     .help = "Address and port to listen on, as in 0.0.0.0:1883, [::]:1883 (v4 too), or "
             "unix:/run/millrace.sock."},
    {.name = "ack",
     .type = MR_OPT_STR,
     .offset = offsetof(struct mr_listener_conf, ack),
     .default_text = "disk",
     .help =
         "When a publish is acknowledged: disk: it is durable; memory: it was received, and may "
         "be lost; the name of a bridge: that bridge has delivered it."},
    {.name = "allow_anonymous",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_listener_conf, allow_anonymous),
     .default_text = "auto",
     .choices = anonymous_choices,
     .live = true,
     .help = "Admit clients without checking who they are; auto: only on "
             "loopback addresses, and only without auth.password_file."},
    {.name = "max_connections",
     .type = MR_OPT_U64,
     .offset = offsetof(struct mr_listener_conf, max_connections),
     .default_text = "0",
     .live = true,
     .help = "Connections at a time; a further one is refused (5.0: 0x97) unless its client is "
             "there already; 0: as many as descriptors allow."},
    LIMIT_ROW(max_packet_size, MR_OPT_SIZE, 256 << 20, "the smaller of both holds"),
    LIMIT_ROW(max_connect_size, MR_OPT_SIZE, 256 << 20, "0: that one"),
    LIMIT_ROW(max_topic_length, MR_OPT_U64, 65535, "0: that one"),
    LIMIT_ROW(max_topic_levels, MR_OPT_U64, 1000, "the smaller of both holds"),
    LIMIT_ROW(max_subscriptions, MR_OPT_U64, 100000000, "0: that one"),
    LIMIT_ROW(topic_alias_maximum, MR_OPT_U64, 1000, "0: that one"),
    LIMIT_ROW(messages_rate, MR_OPT_U64, RATE_MAX, "0: that one"),
    LIMIT_ROW(messages_burst, MR_OPT_U64, RATE_MAX, "0: that one"),
    LIMIT_ROW(bytes_rate, MR_OPT_SIZE, (uint64_t)1 << 40, "0: that one"),
    LIMIT_ROW(bytes_burst, MR_OPT_SIZE, (uint64_t)1 << 40, "0: that one"),
    LIMIT_ROW(max_conn_rate, MR_OPT_U64, RATE_MAX, "0: that one"),
    LIMIT_ROW(max_conn_burst, MR_OPT_U64, RATE_MAX, "0: that one"),
    LIMIT_ROW(max_conn_rate_per_address, MR_OPT_U64, RATE_MAX, "0: that one"),
    LIMIT_ROW(max_connections_per_address, MR_OPT_U64, 1 << 24, "0: that one"),
    {.name = "proxy_protocol",
     .type = MR_OPT_BOOL,
     .offset = offsetof(struct mr_listener_conf, proxy_protocol),
     .default_text = "false",
     .help = "Connections begin with a PROXY header, v1 or v2, within 3 s; only where nobody but "
             "the proxy can connect."},
    {.name = "tcp_keepalive",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_listener_conf, tcp_keepalive_us),
     .default_text = "5m",
     .max = 32767000000u,
     .help = "Silence after which the kernel asks whether the peer is there, and half of it "
             "until it gives up; 0: as the kernel has it."},
    {.name = "unix_mode",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_listener_conf, unix_mode),
     .default_text = "group",
     .choices = mode_choices,
     .help = "Who may connect to a Unix socket: the gateway's user and its group (0660), the user "
             "alone (0600), or everybody (0666)."},
    {.name = "websocket",
     .type = MR_OPT_STR,
     .offset = offsetof(struct mr_listener_conf, websocket),
     .help = "MQTT over WebSocket, at this path, as in /mqtt; with tls it is wss."},
    {.name = "websocket_origins",
     .type = MR_OPT_LIST,
     .offset = offsetof(struct mr_listener_conf, websocket_origins),
     .help = "Web pages that may connect, as in https://plant.example; whoever sends no Origin "
             "may. By default all."},
    {.name = "tls",
     .type = MR_OPT_SECTION,
     .offset = offsetof(struct mr_listener_conf, tls),
     .table = tls_options,
     .help = "TLS on this listener."},
    {.name = "auth",
     .type = MR_OPT_SECTION,
     .offset = offsetof(struct mr_listener_conf, auth),
     .table = mr_auth_options,
     .live = true,
     .help = "As `auth`, for this listener alone: a key that is not given here is that of `auth`."},
    {0}};

#define ROW_LIVE(live_, field_, type_, default_, min_, max_, help_) \
    {.name = #field_,                                               \
     .type = type_,                                                 \
     .offset = offsetof(struct mr_broker_limits, field_),           \
     .default_text = default_,                                      \
     .min = min_,                                                   \
     .max = max_,                                                   \
     .live = live_,                                                 \
     .help = help_}
#define ROW(...) ROW_LIVE(true, __VA_ARGS__)
#define ROW_AT_START(...) ROW_LIVE(false, __VA_ARGS__)

static const struct mr_option ban_options[] = {
    {.name = "max_failures",
     .type = MR_OPT_U64,
     .offset = offsetof(struct mr_ban_conf, max_failures),
     .default_text = "100",
     .max = 1000000,
     .help = "Failures of an address (wrong password, no MQTT, no CONNECT in time, TLS that "
             "fails) beyond its successes, one forgiven every 6 s, after which it is banned: "
             "CONNACK 0x8A, or closed. 0: never."},
    {.name = "time",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_ban_conf, time_us),
     .default_text = "10s",
     .min = 1000000,
     .max = 86400000000u,
     .help = "For so long; each further time twice as long."},
    {.name = "max_time",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_ban_conf, max_time_us),
     .default_text = "10m",
     .min = 1000000,
     .max = 2592000000000u,
     .help = "The longest; after as long without a ban it begins anew."},
    {.name = "loopback",
     .type = MR_OPT_BOOL,
     .offset = offsetof(struct mr_ban_conf, loopback),
     .default_text = "false",
     .help = "Ban addresses of this machine too; a proxy on it would be one address."},
    {0}};

static const struct mr_option flapping_options[] = {
    {.name = "enable",
     .type = MR_OPT_BOOL,
     .offset = offsetof(struct mr_flapping_conf, enable),
     .default_text = "false",
     .help = "Ban client ids that connect and leave again and again (CONNACK 0x8A)."},
    {.name = "max_count",
     .type = MR_OPT_U64,
     .offset = offsetof(struct mr_flapping_conf, max_count),
     .default_text = "15",
     .min = 1,
     .max = 1000000,
     .help = "So many ends of a connection within the window."},
    {.name = "window_time",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_flapping_conf, window_time_us),
     .default_text = "1m",
     .min = 1000000,
     .max = 86400000000u,
     .help = "The window."},
    {.name = "ban_time",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_flapping_conf, ban_time_us),
     .default_text = "5m",
     .min = 1000000,
     .max = 2592000000000u,
     .help = "For so long."},
    {0}};

const struct mr_option mr_broker_options[] = {
    ROW_AT_START(max_packet_size, MR_OPT_SIZE, "1MiB", 128, 256 << 20,
                 "Largest packet a client may send; a larger one ends its connection."),
    ROW(max_connect_size, MR_OPT_SIZE, "128KiB", 128, 256 << 20,
        "Largest CONNECT, and largest packet of a client that has not been let in; a larger one "
        "ends its connection."),
    ROW(receive_maximum, MR_OPT_U64, "1000", 1, 65535,
        "QoS 1 and 2 publishes that a 5.0 client may have unacknowledged."),
    ROW(max_inflight_messages, MR_OPT_U64, "20", 1, 1024,
        "QoS 1 and 2 publishes to a 3.x subscriber that it has not acknowledged."),
    ROW(max_queued_messages, MR_OPT_U64, "1000", 0, 1000000,
        "Messages that wait for a subscriber, slow or offline; beyond it new ones are dropped."),
    ROW(max_queued_bytes, MR_OPT_SIZE, "16MiB", 0, (uint64_t)1 << 40,
        "Bytes of topics, properties and payloads that wait for a subscriber."),
    ROW(max_sessions, MR_OPT_U64, "1000000", 0, 100000000,
        "Persistent sessions, connected or not; a further one is refused."),
    {.name = "max_session_expiry",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_broker_limits, max_session_expiry_us),
     .default_text = "0",
     .live = true,
     .help = "Longest that a session outlives its connection; 0: as the client wants."},
    ROW(max_retained_messages, MR_OPT_U64, "100000", 0, 100000000,
        "Topics with a retained message; beyond it a message is delivered and not retained."),
    ROW(max_retained_bytes, MR_OPT_SIZE, "256MiB", 0, (uint64_t)1 << 40,
        "Bytes of topics, properties and payloads that are retained."),
    ROW_AT_START(max_topic_levels, MR_OPT_U64, "200", 1, 1000,
                 "Levels that a topic or filter may have."),
    ROW(max_topic_length, MR_OPT_U64, "65535", 1, 65535,
        "Bytes that a topic or filter may have; PUBACK 0x90, SUBACK 0x8F."),
    ROW(max_clientid_len, MR_OPT_U64, "65535", 1, 65535,
        "Bytes that a client id may have; CONNACK 0x85."),
    {.name = "ban",
     .type = MR_OPT_SECTION,
     .offset = offsetof(struct mr_broker_limits, ban),
     .table = ban_options,
     .live = true,
     .help = "Addresses that keep failing to connect."},
    {.name = "flapping_detect",
     .type = MR_OPT_SECTION,
     .offset = offsetof(struct mr_broker_limits, flapping),
     .table = flapping_options,
     .live = true,
     .help = "Clients that connect and leave again and again."},
    ROW(max_subscriptions, MR_OPT_U64, "0", 0, 100000000,
        "Subscriptions of one client, SUBACK 0x97 beyond; 0: no limit."),
    ROW(messages_rate, MR_OPT_U64, "0", 0, RATE_MAX,
        "PUBLISHes a second from one client; beyond, it is read more slowly and nothing is lost; "
        "0: no limit."),
    ROW(messages_burst, MR_OPT_U64, "0", 0, RATE_MAX,
        "... and so many at once, after a pause; 0: those of one second."),
    ROW(bytes_rate, MR_OPT_SIZE, "0", 0, (uint64_t)1 << 40,
        "Bytes a second from one client; beyond, it is read more slowly; 0: no limit."),
    ROW(bytes_burst, MR_OPT_SIZE, "0", 0, (uint64_t)1 << 40,
        "... and so many at once, after a pause; 0: those of one second."),
    ROW(max_conn_rate, MR_OPT_U64, "0", 0, RATE_MAX,
        "New connections a second of one listener, more wait; 0: no limit."),
    ROW(max_conn_burst, MR_OPT_U64, "0", 0, RATE_MAX,
        "... and so many at once, after a pause; 0: those of one second."),
    ROW(max_conn_rate_per_address, MR_OPT_U64, "0", 0, RATE_MAX,
        "New connections a second from one address (v6: one /64), CONNACK 0x9F beyond; 0: no "
        "limit."),
    ROW(max_connections_per_address, MR_OPT_U64, "0", 0, 1 << 24,
        "Connections of one address (v6: one /64) to one listener at a time, CONNACK 0x97 beyond; "
        "0: no limit."),
    {.name = "packet_timeout",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_broker_limits, packet_timeout_us),
     .default_text = "10s",
     .max = 3600000000u,
     .live = true,
     .help = "For a packet to arrive once it has begun; a large one has it again for every 640 "
             "bytes; 0: for ever."},
    ROW(topic_alias_maximum, MR_OPT_U64, "10", 0, 1000,
        "Topic aliases that a 5.0 client may define."),
    ROW(max_topic_alias_broker, MR_OPT_U64, "10", 0, 100,
        "Topic aliases that the gateway uses towards a client that offers them; 0: none."),
    {.name = "overlapping",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_broker_limits, overlapping),
     .default_text = "each",
     .choices = overlapping_choices,
     .help = "Several subscriptions of a client match: a copy for each, or one merged copy with "
             "the highest QoS and all subscription identifiers."},
    ROW(validate_payload_format, MR_OPT_BOOL, "false", 0, 0,
        "Refuse a payload that says it is UTF-8 and is not (0x99)."),
    ROW(response_information, MR_OPT_STR, NULL, 0, 0,
        "Response Information for 5.0 clients that ask for it; %c is the client id."),
    ROW(server_reference, MR_OPT_STR, NULL, 0, 0,
        "When the gateway ends, 5.0 clients are told to use this other server (0x9C)."),
    {.name = "max_keepalive",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_broker_limits, max_keepalive_us),
     .default_text = "0",
     .live = true,
     .help = "Longest keep alive; 0: as the client wants."},
    {.name = "connect_timeout",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_broker_limits, connect_timeout_us),
     .default_text = "10s",
     .min = 100000,
     .max = 3600000000u,
     .live = true,
     .help = "From accepting a connection to its CONNECT."},
    {.name = "sys_interval",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_broker_limits, sys_interval_us),
     .default_text = "10s",
     .max = 86400000000u,
     .live = true,
     .help = "How often the $SYS/broker topics are updated; 0: there are none."},
    {0}};
