/* import_mosquitto.c - mosquitto.conf: lines, included folders, listeners.
 *
 * A file is `key value` lines; those behind a `listener` are about it, up to the next one.
 * What a listener is (plain, TLS, WebSocket) is known when all of its lines have been read,
 * so its name is chosen at the end.
 */
#include "app/cli/import_mosquitto_internal.h"
#include "os/file.h"

#include <stdio.h>

enum { PATH_BYTES = 4096, DEPTH_MAX = 8 };

struct mosquitto_listener *mosquitto_listener_new(struct mosquitto *reader,
                                                  struct import_place place)
{
    struct mosquitto_listener *listener = mr_alloc(sizeof(*listener));
    struct mr_text name = mr_text_over(listener->name, sizeof(listener->name));

    mr_text_fmt(&name, "new-%u", reader->count);
    listener->node = import_child(reader->import, import_child(reader->import, NULL, "listeners"),
                                  listener->name);
    listener->place = place;
    listener->port = 1883;
    listener->anonymous = -1;
    if (reader->last != NULL) {
        reader->last->next = listener;
    } else {
        reader->first = listener;
    }
    reader->last = listener;
    reader->count += 1;
    return listener;
}

/* ---- lines ---- */

static char *skip_blanks(char *at)
{
    while (*at == ' ' || *at == '\t') {
        at += 1;
    }
    return at;
}

static void trim_end(char *text)
{
    size_t len = strlen(text);

    while (len != 0 && (text[len - 1] == ' ' || text[len - 1] == '\t' || text[len - 1] == '\r')) {
        len -= 1;
        text[len] = '\0';
    }
}

static void read_line(struct mosquitto *reader, char *at, struct import_place place)
{
    char shown[512];
    struct mr_text text = mr_text_over(shown, sizeof(shown));
    char *key = skip_blanks(at);

    trim_end(key);
    if (*key == '\0' || *key == '#') {
        return;
    }
    size_t key_len = strcspn(key, " \t");
    char *value = key + key_len;
    if (*value != '\0') {
        *value = '\0';
        value = skip_blanks(value + 1);
    }
    mr_text_add(&text, key);
    if (*value != '\0') {
        mr_text_fmt(&text, " %s", import_is_secret(key) ? "***" : value);
    }
    struct mosquitto_line line = {.key = key, .value = value, .text = shown, .place = place};
    mosquitto_option(reader, &line);
}

bool mosquitto_file(struct mosquitto *reader, const char *path)
{
    char folder[PATH_BYTES];
    struct mr_text text = mr_text_over(folder, sizeof(folder));
    const char *slash = strrchr(path, '/');
    const char *outer = reader->folder;

    if (reader->depth == DEPTH_MAX) {
        (void)mr_cli_fail(reader->import->cli, 0, "'%s': folders include each other", path);
        return false;
    }
    char *bytes = import_read(reader->import, path);
    if (bytes == NULL) {
        return false;
    }
    mr_text_bytes(&text, slash == NULL ? "." : path, slash == NULL ? 1 : (size_t)(slash - path));
    reader->folder = folder;
    reader->depth += 1;
    struct import_place place = {.file = import_file_name(reader->import, path), .line = 0};
    for (char *at = bytes; at != NULL;) {
        char *end = strchr(at, '\n');
        if (end != NULL) {
            *end = '\0';
        }
        place.line += 1;
        read_line(reader, at, place);
        at = end == NULL ? NULL : end + 1;
    }
    reader->depth -= 1;
    reader->folder = outer;
    mr_free(bytes);
    return true;
}

/* ---- at the end ---- */

static void listener_bind(struct import *import, const struct mosquitto_listener *listener)
{
    char bind[300];
    struct mr_text text = mr_text_over(bind, sizeof(bind));
    bool colons = strchr(listener->host, ':') != NULL;

    if (listener->is_path) {
        mr_text_fmt(&text, "unix:%s", listener->host);
    } else if (listener->host[0] == '\0') {
        mr_text_fmt(&text, "%s:%u", listener->ipv6 ? "[::]" : "0.0.0.0", listener->port);
    } else {
        mr_text_fmt(&text, "%s%s%s:%u", colons ? "[" : "", listener->host, colons ? "]" : "",
                    listener->port);
    }
    import_set(import, listener->node, "bind", IMPORT_TEXT, bind, listener->place);
}

static void listener_tls(struct import *import, const struct mosquitto_listener *listener)
{
    if (import_get(import, listener->node, "tls") == NULL ||
        (import_get(import, listener->node, "tls.certfile") != NULL &&
         import_get(import, listener->node, "tls.keyfile") != NULL)) {
        return;
    }
    import_drop_noting(import, listener->node, "tls",
                       "its listener has not both of certfile and keyfile, so Mosquitto serves it "
                       "without TLS, and so it is here; give `tls.certfile` and `tls.keyfile` to "
                       "encrypt it");
}

/* "mqtts", or "mqtts-8884" if there is one. */
static void listener_name(struct import *import, struct mosquitto_listener *listener)
{
    bool tls = import_get(import, listener->node, "tls") != NULL;
    const char *base = listener->is_path ? "unix"
                       : listener->web   ? (tls ? "wss" : "ws")
                                         : (tls ? "mqtts" : "mqtt");
    struct import_node *all = import_child(import, NULL, "listeners");
    char name[64];

    for (unsigned i = 0;; i++) {
        struct mr_text text = mr_text_over(name, sizeof(name));
        mr_text_add(&text, base);
        if (i != 0) {
            mr_text_fmt(&text, "-%u", listener->port);
        }
        if (i > 1) {
            mr_text_fmt(&text, "-%u", i);
        }
        if (import_get(import, all, name) == NULL) {
            break;
        }
    }
    import_rename(listener->node, name);
}

/* Mosquitto admits nobody without a name unless it is told to, but for the listener on
 * loopback that it has when it was told of none.
 */
static void listener_anonymous(struct mosquitto *reader, const struct mosquitto_listener *listener)
{
    bool alone = listener->anonymous >= 0 || reader->per_listener;
    int said = alone ? listener->anonymous : reader->anonymous;
    struct import_place place = said < 0 ? listener->place
                                : alone  ? listener->anonymous_place
                                         : reader->anonymous_place;

    import_set(reader->import, listener->node, "allow_anonymous", IMPORT_PLAIN,
               said == 1 ? "true" : "false", place);
}

static void listener_end(struct mosquitto *reader, struct mosquitto_listener *listener)
{
    struct import *import = reader->import;

    if (listener->is_http || !listener->used) {
        import_drop(import_child(import, NULL, "listeners"), listener->name);
        return;
    }
    listener_bind(import, listener);
    if (listener->web) {
        import_set(import, listener->node, "websocket", IMPORT_TEXT, "/mqtt", listener->place);
        import_note(import, listener->place, NULL,
                    "Mosquitto takes WebSockets on every path, this listener on that of "
                    "`websocket`: see which one your pages use");
    }
    listener_tls(import, listener);
    listener_anonymous(reader, listener);
    listener_name(import, listener);
}

static void log_level_end(struct mosquitto *reader)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    if (reader->log_level >= 0) {
        import_set(reader->import, NULL, "log.level", IMPORT_PLAIN, names[reader->log_level],
                   reader->log_place);
    }
}

/* What differs though no line says anything about it. */
static void note_defaults(struct import *import)
{
    static const struct import_place none = {.file = NULL};

    if (import_get(import, NULL, "mqtt.max_packet_size") == NULL) {
        import_note(import, none, NULL,
                    "Mosquitto takes packets of up to 256 MiB unless told otherwise; here the "
                    "bound is 1 MiB. If devices send more, set `mqtt.max_packet_size`");
    }
    import_note(import, none, NULL,
                "Mosquitto's database (mosquitto.db: sessions, queued and retained messages) is "
                "not read; docs/MIGRATING.md says how to bring retained messages over");
}

void import_mosquitto_begin(struct import *import)
{
    struct mosquitto *reader = mr_alloc(sizeof(*reader));

    reader->import = import;
    reader->anonymous = -1;
    reader->log_level = -1;
    reader->ok = true;
    import->mosquitto = reader;
    (void)mosquitto_listener_new(reader, (struct import_place){.file = NULL});
}

bool import_mosquitto(struct import *import, const char *path)
{
    return mosquitto_file(import->mosquitto, path) && import->mosquitto->ok;
}

void import_mosquitto_end(struct import *import)
{
    struct mosquitto *reader = import->mosquitto;
    struct mosquitto_listener *first = reader->first;

    if (reader->count == 1 && !first->used) { /* "local only" */
        first->used = true;
        (void)snprintf(first->host, sizeof(first->host), "127.0.0.1");
        if (reader->anonymous < 0 && first->anonymous < 0) {
            first->anonymous = 1;
        }
    }
    while (reader->first != NULL) {
        struct mosquitto_listener *listener = reader->first;

        listener_end(reader, listener);
        reader->first = listener->next;
        mr_free(listener);
    }
    log_level_end(reader);
    note_defaults(import);
    mr_free(reader);
    import->mosquitto = NULL;
}
