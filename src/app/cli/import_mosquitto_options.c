/* import_mosquitto_options.c - the options of mosquitto.conf(5), 2.0 and 2.1, that become keys of
 * ours, or whose advice depends on their value; the others are in import_mosquitto_notes.c.
 */
#include "app/cli/import_mosquitto_internal.h"
#include "os/file.h"

#include <stdio.h>

enum how {
    HOW_TEXT,    /* `key` is the value, quoted */
    HOW_FLAG,    /* true, false */
    HOW_SECONDS, /* digits, which are seconds */
    HOW_BRIDGE,  /* no key: a line of a `connection` */
    HOW_CALL,    /* `call` */
};

struct option_row {
    const char *name;
    enum how how;
    bool of_listener; /* else of the whole broker */
    const char *key;  /* ours, or NULL */
    void (*call)(struct mosquitto *reader, const struct mosquitto_line *line);
};

/* ---- values ---- */

static bool is_true(const char *value)
{
    return strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
}

static bool number_of(const char *value, uint64_t *out)
{
    return mr_parse_u64(mr_span_of(value), UINT64_MAX, out) == MR_OK;
}

static void set_number(struct mosquitto *reader, const struct mosquitto_line *line, const char *key,
                       uint64_t number, const char *unit)
{
    char text[48];
    struct mr_text out = mr_text_over(text, sizeof(text));

    mr_text_fmt(&out, "%llu%s", (unsigned long long)number, unit);
    import_set(reader->import, NULL, key, IMPORT_PLAIN, text, line->place);
}

/* The number of `line`; false after a note. */
static bool line_number(struct mosquitto *reader, const struct mosquitto_line *line, uint64_t *out)
{
    if (number_of(line->value, out)) {
        return true;
    }
    import_note(reader->import, line->place, line->text, "'%s' is no number that can be taken over",
                line->value);
    return false;
}

/* ---- listeners ---- */

static void set_host(struct mosquitto_listener *listener, const char *host)
{
    struct mr_text text = mr_text_over(listener->host, sizeof(listener->host));

    mr_text_add(&text, host);
    listener->is_path = host[0] == '/';
}

static void on_listener(struct mosquitto *reader, const struct mosquitto_line *line)
{
    struct mosquitto_listener *listener = mosquitto_listener_new(reader, line->place);
    struct mr_span rest = mr_span_of(line->value);
    struct mr_span port = mr_span_split(&rest, ' ');
    uint64_t number = 0;

    listener->used = true;
    if (mr_parse_u64(port, 65535, &number) != MR_OK) {
        import_note(reader->import, line->place, line->text, "there is no port in it");
    }
    listener->port = (uint32_t)number;
    if (rest.at != NULL) {
        const char *host = (const char *)rest.at;
        set_host(listener, host + strspn(host, " \t"));
    }
}

static void on_port(struct mosquitto *reader, const struct mosquitto_line *line)
{
    uint64_t number = 0;

    if (line_number(reader, line, &number)) {
        reader->first->used = true;
        reader->first->place = line->place;
        reader->first->port = (uint32_t)number;
    }
}

static void on_bind_address(struct mosquitto *reader, const struct mosquitto_line *line)
{
    reader->first->used = true;
    if (reader->first->place.file == NULL) {
        reader->first->place = line->place;
    }
    set_host(reader->first, line->value);
}

static void on_protocol(struct mosquitto *reader, const struct mosquitto_line *line)
{
    if (strcmp(line->value, "websockets") == 0) {
        reader->last->web = true;
    } else if (strcmp(line->value, "mqtt") != 0) {
        reader->last->is_http = true;
        import_note(reader->import, line->place, line->text,
                    "this listener is left out; the gateway's own pages are at `admin.bind`");
    }
}

static void on_origin(struct mosquitto *reader, const struct mosquitto_line *line)
{
    import_add(reader->import, reader->last->node, "websocket_origins", line->value, line->place);
}

/* "true", or the version that is expected; both are understood. */
static void on_proxy_protocol(struct mosquitto *reader, const struct mosquitto_line *line)
{
    bool off = strcmp(line->value, "false") == 0 || strcmp(line->value, "0") == 0;

    import_set(reader->import, reader->last->node, "proxy_protocol", IMPORT_PLAIN,
               off ? "false" : "true", line->place);
}

static void on_socket_domain(struct mosquitto *reader, const struct mosquitto_line *line)
{
    reader->last->ipv6 = strcmp(line->value, "ipv6") == 0;
    if (reader->last->host[0] != '\0') {
        import_note(reader->import, line->place, line->text,
                    "the address of the listener says it already");
    }
}

static void on_max_connections(struct mosquitto *reader, const struct mosquitto_line *line)
{
    uint64_t number = 0;

    if (line->value[0] == '-') {
        import_note(reader->import, line->place, line->text,
                    "no bound is the default: as many as descriptors allow");
    } else if (line_number(reader, line, &number)) {
        import_set(reader->import, reader->last->node, "max_connections", IMPORT_PLAIN, line->value,
                   line->place);
    }
}

static void on_tls_version(struct mosquitto *reader, const struct mosquitto_line *line)
{
    if (strcmp(line->value, "tlsv1.2") == 0 || strcmp(line->value, "tlsv1.3") == 0) {
        import_set(reader->import, reader->last->node, "tls.tls_version", IMPORT_PLAIN, line->value,
                   line->place);
        return;
    }
    import_note(reader->import, line->place, line->text,
                "TLS 1.2 is the oldest version that is spoken; devices that know only older ones "
                "cannot connect");
}

/* The user is the certificate's whole subject. */
static void on_subject(struct mosquitto *reader, const struct mosquitto_line *line)
{
    if (!is_true(line->value)) {
        import_note(reader->import, line->place, line->text, "it is the common name by default");
        return;
    }
    import_set(reader->import, reader->last->node, "tls.use_identity_as_username", IMPORT_PLAIN,
               "true", line->place);
    import_set(reader->import, reader->last->node, "tls.identity_from", IMPORT_PLAIN, "subject",
               line->place);
}

static void on_max_qos(struct mosquitto *reader, const struct mosquitto_line *line)
{
    import_note(reader->import, line->place, line->text, "%s",
                strcmp(line->value, "2") == 0
                    ? "QoS 2 is served on every listener"
                    : "QoS cannot be bounded; let devices use the lower one, subscriptions with a "
                      "higher QoS do no harm");
}

static void on_max_topic_alias(struct mosquitto *reader, const struct mosquitto_line *line)
{
    uint64_t number = 0;
    char value[24];
    struct mr_text out = mr_text_over(value, sizeof(value));

    if (!line_number(reader, line, &number)) {
        return;
    }
    if (number == 0) {
        import_note(reader->import, line->place, line->text,
                    "aliases cannot be forbidden on one listener; `mqtt.topic_alias_maximum: 0` "
                    "forbids them on all that give no number of their own");
        return;
    }
    if (number > 1000) {
        import_note(reader->import, line->place, line->text, "1,000 is the most");
        number = 1000;
    }
    mr_text_fmt(&out, "%llu", (unsigned long long)number);
    import_set(reader->import, reader->last->node, "topic_alias_maximum", IMPORT_PLAIN, value,
               line->place);
}

/* ---- who may come in ---- */

static void on_per_listener(struct mosquitto *reader, const struct mosquitto_line *line)
{
    reader->per_listener = is_true(line->value);
    import_note(reader->import, line->place, line->text, "%s",
                reader->per_listener
                    ? "what is said of one listener is below `listeners.NAME`, as it holds there"
                    : "`auth` holds for all listeners");
}

static void on_allow_anonymous(struct mosquitto *reader, const struct mosquitto_line *line)
{
    int anonymous = is_true(line->value) ? 1 : 0;

    if (reader->per_listener) {
        reader->last->anonymous = anonymous;
        reader->last->anonymous_place = line->place;
    } else {
        reader->anonymous = anonymous;
        reader->anonymous_place = line->place;
    }
}

static void on_listener_anonymous(struct mosquitto *reader, const struct mosquitto_line *line)
{
    reader->last->anonymous = is_true(line->value) ? 1 : 0;
    reader->last->anonymous_place = line->place;
}

/* `auth.KEY`, of all or of this listener. */
static void set_auth(struct mosquitto *reader, const struct mosquitto_line *line, const char *key)
{
    struct import_node *parent = reader->per_listener ? reader->last->node : NULL;

    import_set(reader->import, parent, key, IMPORT_TEXT, line->value, line->place);
}

static void on_password_file(struct mosquitto *reader, const struct mosquitto_line *line)
{
    set_auth(reader, line, "auth.password_file");
}

static void on_acl_file(struct mosquitto *reader, const struct mosquitto_line *line)
{
    set_auth(reader, line, "auth.acl_file");
}

static void on_clientid_prefixes(struct mosquitto *reader, const struct mosquitto_line *line)
{
    char pattern[256];
    struct mr_text text = mr_text_over(pattern, sizeof(pattern));
    struct import_node *parent = reader->per_listener ? reader->last->node : NULL;

    mr_text_fmt(&text, "%s*", line->value);
    if (text.truncated || strchr(line->value, '*') != NULL || strstr(line->value, "%u") != NULL) {
        import_note(reader->import, line->place, line->text,
                    "say in `auth.client_id_pattern` what client ids look like");
        return;
    }
    import_set(reader->import, parent, "auth.client_id_pattern", IMPORT_TEXT, pattern, line->place);
}

static void on_zero_length_clientid(struct mosquitto *reader, const struct mosquitto_line *line)
{
    import_note(reader->import, line->place, line->text, "%s",
                is_true(line->value)
                    ? "a client without an id is given one, always"
                    : "a client without an id cannot be refused for it; it is given one");
}

/* ---- limits ---- */

static void on_max_inflight(struct mosquitto *reader, const struct mosquitto_line *line)
{
    uint64_t number = 0;

    if (!line_number(reader, line, &number)) {
        return;
    }
    if (number == 0 || number > 1024) {
        import_note(reader->import, line->place, line->text, "1,024 is the most");
        number = 1024;
    }
    set_number(reader, line, "mqtt.max_inflight_messages", number, "");
}

static void on_max_queued(struct mosquitto *reader, const struct mosquitto_line *line)
{
    uint64_t number = 0;

    if (!line_number(reader, line, &number)) {
        return;
    }
    if (number == 0 || number > 1000000) {
        import_note(reader->import, line->place, line->text,
                    "a queue without a bound would fill the memory; 1,000,000 is the most");
        number = 1000000;
    }
    set_number(reader, line, "mqtt.max_queued_messages", number, "");
}

static void on_max_queued_bytes(struct mosquitto *reader, const struct mosquitto_line *line)
{
    uint64_t number = 0;

    if (!line_number(reader, line, &number)) {
        return;
    }
    if (number == 0) {
        import_note(reader->import, line->place, line->text,
                    "a queue always has a bound; the default is 16 MiB a client");
        return;
    }
    set_number(reader, line, "mqtt.max_queued_bytes", number, "");
}

static void on_max_packet_size(struct mosquitto *reader, const struct mosquitto_line *line)
{
    uint64_t number = 0;

    if (!line_number(reader, line, &number)) {
        return;
    }
    number = number == 0 || number > 256 << 20 ? 256 << 20 : number;
    set_number(reader, line, "mqtt.max_packet_size", number < 128 ? 128 : number, "");
}

/* Of the payload alone: a topic may come on top of it. */
static void on_message_size_limit(struct mosquitto *reader, const struct mosquitto_line *line)
{
    enum { TOPIC_ROOM = 64 << 10 };
    uint64_t number = 0;

    if (!line_number(reader, line, &number)) {
        return;
    }
    if (number == 0) {
        import_note(reader->import, line->place, line->text,
                    "packets always have a bound, `mqtt.max_packet_size`");
        return;
    }
    import_note(reader->import, line->place, line->text,
                "it bounds the payload; here the whole packet is bounded, so 64 KiB for the topic "
                "are added in `mqtt.max_packet_size`, and a larger one ends its connection");
    number = number > (256 << 20) - TOPIC_ROOM ? 256 << 20 : number + TOPIC_ROOM;
    set_number(reader, line, "mqtt.max_packet_size", number, "");
}

static void on_memory_limit(struct mosquitto *reader, const struct mosquitto_line *line)
{
    uint64_t number = 0;

    if (!line_number(reader, line, &number)) {
        return;
    }
    if (number == 0) {
        import_note(reader->import, line->place, line->text,
                    "memory is always bounded; the default is a quarter of the machine's");
        return;
    }
    set_number(reader, line, "gateway.memory", number, "");
}

/* "14d", "2m", "1y": hours, days, weeks, months, years. */
static void on_expiration(struct mosquitto *reader, const struct mosquitto_line *line)
{
    static const struct unit {
        char letter;
        uint64_t hours;
    } units[] = {{'h', 1}, {'d', 24}, {'w', 168}, {'m', 720}, {'y', 8760}};
    size_t len = strlen(line->value);
    uint64_t number = 0;

    for (size_t i = 0; i < MR_COUNT_OF(units) && len > 1; i++) {
        if (line->value[len - 1] == units[i].letter &&
            mr_parse_u64(mr_span_make(line->value, len - 1), 1 << 20, &number) == MR_OK) {
            set_number(reader, line, "mqtt.max_session_expiry", number * units[i].hours, "h");
            return;
        }
    }
    import_note(reader->import, line->place, line->text, "'%s' is no duration such as 14d",
                line->value);
}

static void on_retain_available(struct mosquitto *reader, const struct mosquitto_line *line)
{
    if (is_true(line->value)) {
        import_note(reader->import, line->place, line->text, "retained messages are on by default");
        return;
    }
    set_number(reader, line, "mqtt.max_retained_messages", 0, "");
    import_note(reader->import, line->place, line->text,
                "`mqtt.max_retained_messages: 0` retains none; a message with RETAIN is delivered "
                "all the same, its client is not sent away");
}

/* Of several subscriptions that match: a copy each, or one. */
static void on_duplicates(struct mosquitto *reader, const struct mosquitto_line *line)
{
    import_set(reader->import, NULL, "mqtt.overlapping", IMPORT_PLAIN,
               is_true(line->value) ? "each" : "merged", line->place);
}

static void on_persistence(struct mosquitto *reader, const struct mosquitto_line *line)
{
    import_note(reader->import, line->place, line->text, "%s",
                is_true(line->value)
                    ? "always so here: what is acknowledged is on disk; nothing is to be set"
                    : "what is acknowledged is always on disk; topics that need not be can be "
                      "named in `journal.exclude`");
}

/* ---- logs ---- */

/* The lowest of all levels is taken; the other lines are contained in it. */
static void log_type_take(struct mosquitto *reader, const struct mosquitto_line *line, int level)
{
    static const char contained[] = "contained in the lowest level, `log.level`";

    if (reader->log_level >= 0 && level >= reader->log_level) {
        import_note(reader->import, line->place, line->text, "%s", contained);
        return;
    }
    if (reader->log_level >= 0) {
        import_note(reader->import, reader->log_place, reader->log_text, "%s", contained);
    }
    struct mr_text text = mr_text_over(reader->log_text, sizeof(reader->log_text));
    mr_text_add(&text, line->text);
    reader->log_level = level;
    reader->log_place = line->place;
}

static void on_log_type(struct mosquitto *reader, const struct mosquitto_line *line)
{
    static const struct type {
        const char *name;
        int level;
    } types[] = {{"all", 0},    {"debug", 0},   {"information", 1},
                 {"notice", 1}, {"warning", 2}, {"error", 3}};

    for (size_t i = 0; i < MR_COUNT_OF(types); i++) {
        if (strcmp(types[i].name, line->value) == 0) {
            log_type_take(reader, line, types[i].level);
            return;
        }
    }
    import_note(reader->import, line->place, line->text,
                "this kind of line cannot be chosen; `log.level` is the least that is written");
}

static void on_log_dest(struct mosquitto *reader, const struct mosquitto_line *line)
{
    import_note(reader->import, line->place, line->text, "%s",
                strcmp(line->value, "stderr") == 0
                    ? "always so: the log goes to stderr"
                    : "the log goes to stderr: systemd puts it into its journal (and from there to "
                      "syslog), a shell into a file with 2>>FILE");
}

static void on_include_dir(struct mosquitto *reader, const struct mosquitto_line *line);

/* ---- bridges ---- */

static void on_connection(struct mosquitto *reader, const struct mosquitto_line *line)
{
    import_note(reader->import, line->place, line->text,
                "there are no bridges to other MQTT brokers yet. Either that broker's own bridge "
                "connects here, or a Mosquitto with this `connection` alone stays beside the "
                "gateway, with `address` for its own side set to a listener of it; what is to go "
                "to Kafka goes by `bridges.kafka`, without another broker");
}

#define OF_LISTENER .of_listener = true

static const struct option_row rows[] = {
    /* listeners */
    {.name = "listener", .how = HOW_CALL, .call = on_listener},
    {.name = "port", .how = HOW_CALL, .call = on_port},
    {.name = "bind_address", .how = HOW_CALL, .call = on_bind_address},
    {.name = "protocol", .how = HOW_CALL, OF_LISTENER, .call = on_protocol},
    {.name = "socket_domain", .how = HOW_CALL, OF_LISTENER, .call = on_socket_domain},
    {.name = "max_connections", .how = HOW_CALL, OF_LISTENER, .call = on_max_connections},
    {.name = "max_qos", .how = HOW_CALL, OF_LISTENER, .call = on_max_qos},
    {.name = "max_topic_alias", .how = HOW_CALL, OF_LISTENER, .call = on_max_topic_alias},
    {.name = "certfile", .how = HOW_TEXT, OF_LISTENER, .key = "tls.certfile"},
    {.name = "keyfile", .how = HOW_TEXT, OF_LISTENER, .key = "tls.keyfile"},
    {.name = "cafile", .how = HOW_TEXT, OF_LISTENER, .key = "tls.cacertfile"},
    {.name = "crlfile", .how = HOW_TEXT, OF_LISTENER, .key = "tls.crlfile"},
    {.name = "ciphers", .how = HOW_TEXT, OF_LISTENER, .key = "tls.ciphers"},
    {.name = "require_certificate", .how = HOW_FLAG, OF_LISTENER, .key = "tls.require_certificate"},
    {.name = "use_identity_as_username",
     .how = HOW_FLAG,
     OF_LISTENER,
     .key = "tls.use_identity_as_username"},
    {.name = "websockets_origin", .how = HOW_CALL, OF_LISTENER, .call = on_origin},
    {.name = "enable_proxy_protocol", .how = HOW_CALL, OF_LISTENER, .call = on_proxy_protocol},
    {.name = "use_subject_as_username", .how = HOW_CALL, OF_LISTENER, .call = on_subject},
    {.name = "tls_version", .how = HOW_CALL, OF_LISTENER, .call = on_tls_version},

    /* who may come in */
    {.name = "per_listener_settings", .how = HOW_CALL, .call = on_per_listener},
    {.name = "allow_anonymous", .how = HOW_CALL, .call = on_allow_anonymous},
    {.name = "listener_allow_anonymous",
     .how = HOW_CALL,
     OF_LISTENER,
     .call = on_listener_anonymous},
    {.name = "password_file", .how = HOW_CALL, .call = on_password_file},
    {.name = "acl_file", .how = HOW_CALL, .call = on_acl_file},
    {.name = "use_username_as_clientid",
     .how = HOW_FLAG,
     OF_LISTENER,
     .key = "auth.use_username_as_clientid"},
    {.name = "clientid_prefixes", .how = HOW_CALL, .call = on_clientid_prefixes},
    {.name = "allow_zero_length_clientid", .how = HOW_CALL, .call = on_zero_length_clientid},

    /* limits */
    {.name = "max_inflight_messages", .how = HOW_CALL, .call = on_max_inflight},
    {.name = "max_queued_messages", .how = HOW_CALL, .call = on_max_queued},
    {.name = "max_queued_bytes", .how = HOW_CALL, .call = on_max_queued_bytes},
    {.name = "max_packet_size", .how = HOW_CALL, .call = on_max_packet_size},
    {.name = "message_size_limit", .how = HOW_CALL, .call = on_message_size_limit},
    {.name = "memory_limit", .how = HOW_CALL, .call = on_memory_limit},
    {.name = "max_keepalive", .how = HOW_SECONDS, .key = "mqtt.max_keepalive"},
    {.name = "persistent_client_expiration", .how = HOW_CALL, .call = on_expiration},
    {.name = "allow_duplicate_messages", .how = HOW_CALL, .call = on_duplicates},
    {.name = "retain_available", .how = HOW_CALL, .call = on_retain_available},
    {.name = "sys_interval", .how = HOW_SECONDS, .key = "mqtt.sys_interval"},

    /* disk */
    {.name = "persistence", .how = HOW_CALL, .call = on_persistence},

    /* logs and the service */
    {.name = "log_type", .how = HOW_CALL, .call = on_log_type},
    {.name = "log_dest", .how = HOW_CALL, .call = on_log_dest},
    {.name = "connection_messages", .how = HOW_FLAG, .key = "log.connections"},
    {.name = "check_retain_source", .how = HOW_FLAG, .key = "auth.check_retain_source"},
    {.name = "include_dir", .how = HOW_CALL, .call = on_include_dir},

    /* bridges */
    {.name = "connection", .how = HOW_CALL, .call = on_connection},
};

/* Lines of a `connection`, beside those that begin with "bridge_". */
static const char *const bridge_options[] = {
    "address",
    "addresses",
    "topic",
    "cleansession",
    "local_cleansession",
    "clientid",
    "remote_clientid",
    "local_clientid",
    "username",
    "remote_username",
    "local_username",
    "password",
    "remote_password",
    "local_password",
    "keepalive_interval",
    "idle_timeout",
    "notifications",
    "notifications_local_only",
    "notification_topic",
    "restart_timeout",
    "round_robin",
    "start_type",
    "threshold",
    "try_private",
    "bridge_",
};

static bool include_file(void *arg, const char *path)
{
    return mosquitto_file(arg, path);
}

static void on_include_dir(struct mosquitto *reader, const struct mosquitto_line *line)
{
    enum { PATH_BYTES = 4096 };
    char path[PATH_BYTES];
    struct mr_text text = mr_text_over(path, sizeof(path));
    size_t len = strlen(line->value);

    while (len > 1 && line->value[len - 1] == '/') {
        len -= 1;
    }
    mr_text_bytes(&text, line->value, len);
    if (!mr_path_exists(path)) { /* a copy of /etc/mosquitto: beside the file */
        const char *slash = strrchr(path, '/');
        char name[PATH_BYTES];
        struct mr_text copy = mr_text_over(name, sizeof(name));

        mr_text_add(&copy, slash == NULL ? path : slash + 1);
        text = mr_text_over(path, sizeof(path));
        mr_text_fmt(&text, "%s/%s", reader->folder, name);
    }
    if (text.truncated || !mr_path_exists(path)) {
        import_note(reader->import, line->place, line->text,
                    "the folder is not there; give its files as further arguments");
        return;
    }
    import_note(reader->import, line->place, line->text, "its .conf files have been read");
    reader->ok = import_folder(path, include_file, reader) && reader->ok;
}

/* ---- the line ---- */

static const struct option_row *row_of(const char *key)
{
    static const struct option_row bridge = {.name = "bridge_", .how = HOW_BRIDGE};

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        if (strcmp(rows[i].name, key) == 0) {
            return &rows[i];
        }
    }
    for (size_t i = 0; i < MR_COUNT_OF(bridge_options); i++) {
        if (strcmp(bridge_options[i], key) == 0) {
            return &bridge;
        }
    }
    if (strncmp(key, "bridge_", 7) == 0) {
        return &bridge;
    }
    return NULL;
}

static void option_seconds(struct mosquitto *reader, const struct mosquitto_line *line,
                           const struct option_row *row)
{
    uint64_t number = 0;

    if (line_number(reader, line, &number)) {
        set_number(reader, line, row->key, number, "s");
    }
}

void mosquitto_option(struct mosquitto *reader, struct mosquitto_line *line)
{
    const struct option_row *row = row_of(line->key);
    struct import *import = reader->import;

    if (row == NULL) {
        const char *advice = mosquitto_advice(line->key);
        import_note(import, line->place, line->text, "%s",
                    advice != NULL ? advice : "no option of mosquitto.conf(5) that is known here");
        return;
    }
    struct import_node *parent = row->of_listener ? reader->last->node : NULL;
    if (row->of_listener) {
        reader->last->used = true;
        if (reader->last->place.file == NULL) {
            reader->last->place = line->place;
        }
    }
    switch (row->how) {
    case HOW_TEXT:
        import_set(import, parent, row->key, IMPORT_TEXT, line->value, line->place);
        break;
    case HOW_FLAG:
        import_set(import, parent, row->key, IMPORT_PLAIN, is_true(line->value) ? "true" : "false",
                   line->place);
        break;
    case HOW_SECONDS:
        option_seconds(reader, line, row);
        break;
    case HOW_BRIDGE:
        import_note(import, line->place, line->text, "of a bridge: see its `connection`");
        break;
    case HOW_CALL:
        row->call(reader, line);
        break;
    }
}
