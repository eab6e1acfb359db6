/* settings.c - see settings.h.
 *
 * DESIGN
 *
 * The tree of the file is walked once.  Fixed sections are filled by one table
 * each.  `listeners` and `bridges` are maps whose keys are names chosen by the
 * user; a bridge's entry is filled by two tables at once, the common one and its
 * sink's, so that an unknown key is measured against both.
 *
 * A mistake never stops the walk: everything that is wrong is said in one go.
 */
#include "app/settings.h"

#include "app/wire.h"
#include "auth/acl.h"
#include "base/log.h"

static const char *const level_choices[] = {"debug", "info", "warn", "error", NULL};
static const char *const full_choices[] = {"backpressure", "reject", "drop_oldest", NULL};

#define OPT(conf, field, opt_name, opt_type, opt_default, opt_help)             \
    .name = opt_name, .type = opt_type, .offset = offsetof(struct conf, field), \
    .default_text = opt_default, .help = opt_help

static const char *const loop_choices[] = {
    [MR_LOOP_EPOLL] = "epoll", [MR_LOOP_AUTO] = "auto", [MR_LOOP_IO_URING] = "io_uring", NULL};

static const struct mr_option gateway_options[] = {
    {OPT(mr_gateway_conf, name, "name", MR_OPT_STR, "millrace",
         "Name of this gateway, in logs and as client.id at targets.")},
    {OPT(mr_gateway_conf, data, "data", MR_OPT_PATH, "millrace-data",
         "Folder of the journal, the cursors and the dead letters.")},
    {OPT(mr_gateway_conf, memory_bytes, "memory", MR_OPT_SIZE, "0",
         "Bound of the buffers; 0 is a quarter of the machine's memory.")},
    {OPT(mr_gateway_conf, shards, "shards", MR_OPT_U64, "auto",
         "Event loops, each with a lane of the journal; auto: half of the cores when the journal "
         "is made, later as it is. Another number than before takes effect at the next start: "
         "sessions move, and what is older is delivered first."),
     .min = 1, .max = 256, .zero_word = "auto"},
    {OPT(mr_gateway_conf, loop, "loop", MR_OPT_CHOICE, "auto",
         "How sockets are served: epoll, or io_uring for what is sent, a turn's acknowledgements "
         "in one system call; auto: io_uring where the kernel and the container allow it. The log "
         "says which it is, and why."),
     .choices = loop_choices},
    {OPT(mr_gateway_conf, drain_us, "drain", MR_OPT_DURATION, "5s",
         "How long bridges may go on delivering after SIGTERM."),
     .max = 600000000},
    {.name = NULL},
};

static const struct mr_option journal_options[] = {
    {OPT(mr_journal_conf, max_bytes, "max_size", MR_OPT_SIZE, "0",
         "Hard bound of the journal; 0 is half of the free space when it is made."),
     .max = 1ull << 60},
    {OPT(mr_journal_conf, when_full, "when_full", MR_OPT_CHOICE, "backpressure",
         "What happens at the bound, when nothing delivered is left to make room of: backpressure "
         "withholds acknowledgements and reads no more until there is room; reject says so to "
         "publishers of MQTT 5 (0x97), lets those of 3.x wait and drops QoS 0; drop_oldest gives "
         "up the oldest events that bridges (`priority`, `may_drop`) have not delivered, each "
         "range is in the ledger."),
     .choices = full_choices},
    {OPT(mr_journal_conf, keep_us, "keep", MR_OPT_DURATION, "24h",
         "Delivered events stay this long for replay, as far as there is room."),
     .max = 315360000000000ull},
    {OPT(mr_journal_conf, segment_bytes, "segment_size", MR_OPT_SIZE, "0",
         "Size of one segment file; 0 chooses by max_size (64 MiB at most)."),
     .max = 1ull << 30},
    {OPT(mr_journal_conf, commit_delay_us, "commit_delay", MR_OPT_DURATION, "500us",
         "How long a busy lane may gather before its next flush, and what comes may lie unread "
         "meanwhile; 0 switches gathering off."),
     .max = 100000},
    {OPT(mr_journal_conf, exclude, "exclude", MR_OPT_LIST, NULL,
         "Topic filters that are not journaled: live subscribers only, acknowledged at once.")},
    {OPT(mr_journal_conf, dead_letters_bytes_max, "dead_letters_size", MR_OPT_SIZE, "256MiB",
         "Bound of each bridge's dead letters."),
     .min = 4 << 20, .max = 1ull << 40},
    {.name = NULL},
};

static const struct mr_option admin_options[] = {
    {OPT(mr_admin_conf, enable, "enable", MR_OPT_BOOL, "true",
         "Serve /metrics, /healthz, /readyz and /api/; commands need it.")},
    {OPT(mr_admin_conf, bind, "bind", MR_OPT_STR, NULL,
         "Address of the HTTP server; loopback only (default 127.0.0.1:8080).")},
    {.name = NULL},
};

static const struct mr_option log_options[] = {
    {OPT(mr_log_conf, level, "level", MR_OPT_CHOICE, "info", "The least that is written."),
     .choices = level_choices, .live = true},
    {OPT(mr_log_conf, connections, "connections", MR_OPT_BOOL, "true",
         "A line when a client connects and when it goes, at most 50 a second."),
     .live = true},
    {.name = NULL},
};

static const char *const sections[] = {"gateway", "listeners", "auth",    "mqtt", "journal",
                                       "admin",   "log",       "bridges", NULL};

static bool is_loopback(const char *address)
{
    static const char *const prefixes[] = {"127.", "localhost:", "[::1]:", "unix:"};

    for (size_t i = 0; i < MR_COUNT_OF(prefixes); i++) {
        if (strncmp(address, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

static void fill(struct mr_settings *settings, const char *section, const struct mr_option *table,
                 void *into)
{
    struct mr_node *root = mr_config_root(settings->config);
    struct mr_node *node = root == NULL ? NULL : mr_node_child(root, section);

    mr_config_fill(settings->config, node, section, &(struct mr_fill){.table = table, .into = into},
                   1);
}

/* A port that should have been encrypted must not open without. */
static void check_listener(struct mr_settings *settings, struct mr_node *node,
                           const struct mr_listener_conf *listener)
{
    struct mr_node *tls = mr_node_is_mapping(node) ? mr_node_child(node, "tls") : NULL;

    bool of_proxy = listener->proxy_protocol && listener->tls.use_identity_as_username &&
                    listener->tls.certfile == NULL && listener->tls.keyfile == NULL;
    if (tls != NULL && !of_proxy &&
        (listener->tls.certfile == NULL || listener->tls.keyfile == NULL)) {
        mr_config_problem(settings->config, tls, NULL,
                          "listeners.%s.tls needs `certfile` and `keyfile`, both PEM; leave `tls` "
                          "out for a plain listener",
                          listener->name);
    }
    if (listener->websocket != NULL && listener->websocket[0] != '/') {
        mr_config_problem(settings->config, mr_node_child(node, "websocket"), NULL,
                          "listeners.%s.websocket is a path and begins with '/', as in /mqtt",
                          listener->name);
    }
}

/* What `auth` says holds for each listener, as far as that says nothing else.  Not if there is
 * something wrong with it, which would be said once more for every listener.
 */
static void inherit_auth(struct mr_settings *settings, struct mr_node *map)
{
    struct mr_node *root = mr_config_root(settings->config);
    struct mr_node *auth = root == NULL ? NULL : mr_node_child(root, "auth");
    size_t problems = mr_config_problem_count(settings->config);

    fill(settings, "auth", mr_auth_options, &settings->auth);
    for (size_t i = 0; problems == mr_config_problem_count(settings->config) &&
                       mr_node_is_mapping(map) && i < mr_node_count(map);
         i++) {
        mr_config_inherit(settings->config, mr_node_at(map, i, NULL), "auth", auth);
    }
}

static void fill_listeners(struct mr_settings *settings)
{
    struct mr_node *root = mr_config_root(settings->config);
    struct mr_node *map = root == NULL ? NULL : mr_node_child(root, "listeners");
    size_t count = map == NULL ? 0 : mr_node_count(map);

    if (map != NULL && !mr_node_is_mapping(map)) {
        mr_config_problem(settings->config, map, NULL,
                          "listeners is a mapping of names, as in `listeners: { mqtt: { bind: "
                          "\"0.0.0.0:1883\" } }`");
        count = 0;
    }
    if (map != NULL && mr_node_is_mapping(map) && count == 0) {
        mr_config_problem(settings->config, map, NULL,
                          "listeners is empty, so no device could connect; name one or leave the "
                          "key out");
    }
    inherit_auth(settings, map);
    settings->listener_count = (uint32_t)count;
    settings->listeners = mr_alloc((count + 1) * sizeof(*settings->listeners));
    for (uint32_t i = 0; i < settings->listener_count; i++) {
        const char *name = NULL;
        struct mr_node *node = mr_node_at(map, i, &name);
        struct mr_listener_conf *listener = &settings->listeners[i];
        char where[160];
        struct mr_text path = mr_text_over(where, sizeof(where));

        mr_text_fmt(&path, "listeners.%s", name);
        mr_config_fill(settings->config, node, where,
                       &(struct mr_fill){.table = mr_listener_options, .into = listener}, 1);
        listener->name = name;
        check_listener(settings, node, listener);
    }
}

/* The sink of a bridge: by `type`, else by the bridge's own name. */
static const struct mr_sink_ops *find_sink(struct mr_settings *settings, struct mr_node *node,
                                           const char *name)
{
    struct mr_node *type = mr_node_child(node, "type");
    const char *wanted = type == NULL ? name : mr_node_text(settings->config, type);
    const char *known[16] = {NULL};

    for (size_t i = 0; mr_sinks[i] != NULL; i++) {
        if (wanted != NULL && strcmp(mr_sinks[i]->name, wanted) == 0) {
            return mr_sinks[i];
        }
        known[i] = mr_sinks[i]->name;
    }
    const char *nearest = wanted == NULL ? NULL : mr_config_nearest(wanted, known);
    if (type == NULL) {
        mr_config_problem(settings->config, node, NULL,
                          "bridge '%s' has no type, and its name is not one; add `type: %s`", name,
                          nearest != NULL ? nearest : known[0]);
    } else {
        mr_config_problem(settings->config, type, NULL,
                          "there is no bridge of type '%s'; this version has: %s",
                          wanted == NULL ? "" : wanted, known[0]);
    }
    return NULL;
}

struct bridge_place {
    struct mr_settings *settings;
    struct mr_node *node;
    const char *name;
};

/* A fault begins with its option ("ssl.cacertfile: …"): point at that. */
static void on_bridge_fault(void *arg, const char *fault)
{
    const struct bridge_place *place = arg;
    struct mr_span rest = mr_span_of(fault);
    struct mr_span path = mr_span_split(&rest, ':');
    struct mr_node *node = place->node;

    while (path.at != NULL) {
        char name[64];
        struct mr_text text = mr_text_over(name, sizeof(name));
        mr_text_span(&text, mr_span_split(&path, '.'));
        struct mr_node *child = mr_node_is_mapping(node) ? mr_node_child(node, name) : NULL;
        if (child == NULL) {
            break; /* not in the file, or in a list: the nearest that is */
        }
        node = child;
    }
    mr_config_problem(place->settings->config, node, NULL, "bridges.%s.%s", place->name, fault);
}

static void fill_bridges(struct mr_settings *settings)
{
    struct mr_node *root = mr_config_root(settings->config);
    struct mr_node *map = root == NULL ? NULL : mr_node_child(root, "bridges");
    size_t count = map == NULL ? 0 : mr_node_count(map);

    if (map != NULL && !mr_node_is_mapping(map)) {
        mr_config_problem(
            settings->config, map, NULL,
            "bridges is a mapping of names, as in `bridges: { kafka: { servers: … } }`");
        return;
    }
    settings->bridges = mr_alloc((count + 1) * sizeof(*settings->bridges));
    for (size_t i = 0; i < count; i++) {
        struct mr_bridge_settings *bridge = &settings->bridges[settings->bridge_count];
        struct mr_node *node = mr_node_at(map, i, &bridge->name);
        char where[160];
        struct mr_text path = mr_text_over(where, sizeof(where));

        if (!mr_node_is_mapping(node)) {
            mr_config_problem(settings->config, node, NULL, "bridge '%s' needs a mapping of keys",
                              bridge->name);
            continue;
        }
        const char *fault = mr_bridge_name_fault(bridge->name);
        if (fault != NULL) {
            mr_config_problem(settings->config, node, NULL,
                              "bridge '%s' cannot have this name: %s; give it another one",
                              bridge->name, fault);
            continue;
        }
        bridge->sink = find_sink(settings, node, bridge->name);
        if (bridge->sink == NULL) {
            continue;
        }
        bridge->sink_conf = mr_alloc(bridge->sink->conf_size);
        mr_text_fmt(&path, "bridges.%s", bridge->name);
        struct mr_fill fills[] = {{.table = mr_bridge_options, .into = &bridge->conf},
                                  {.table = bridge->sink->options, .into = bridge->sink_conf}};
        mr_config_fill(settings->config, node, where, fills, MR_COUNT_OF(fills));
        settings->bridge_count += 1;
        mr_bridge_check(&bridge->conf, bridge->sink, bridge->sink_conf, on_bridge_fault,
                        &(struct bridge_place){settings, node, bridge->name});
    }
}

/* `ack` of a listener names a bridge, unless it is one of the two words. */
static void check_acks(struct mr_settings *settings)
{
    const char **names = mr_alloc((settings->bridge_count + 3) * sizeof(*names));
    struct mr_node *root = mr_config_root(settings->config);
    struct mr_node *map = root == NULL ? NULL : mr_node_child(root, "listeners");

    names[0] = "disk";
    names[1] = "memory";
    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        names[i + 2] = settings->bridges[i].name;
    }
    for (uint32_t i = 0; i < settings->listener_count; i++) {
        const struct mr_listener_conf *listener = &settings->listeners[i];
        size_t at = 0;
        while (listener->ack != NULL && names[at] != NULL &&
               strcmp(names[at], listener->ack) != 0) {
            at += 1;
        }
        if (listener->ack != NULL && names[at] == NULL) {
            const char *nearest = mr_config_nearest(listener->ack, names);
            mr_config_problem(
                settings->config, mr_node_child(mr_node_child(map, listener->name), "ack"), NULL,
                "listeners.%s.ack is disk, memory or the name of a bridge, and "
                "there is no bridge '%s'%s%s%s",
                listener->name, listener->ack, nearest == NULL ? "" : "; did you mean '",
                nearest == NULL ? "" : nearest, nearest == NULL ? "" : "'?");
        }
    }
    mr_free(names);
}

/* `ack: disk` means the disk, which is what listeners have without a word too: a bridge of such a
 * name would be taken for one that acknowledgements wait for.
 */
static void check_bridge_names(struct mr_settings *settings)
{
    struct mr_node *root = mr_config_root(settings->config);
    struct mr_node *map = root == NULL ? NULL : mr_node_child(root, "bridges");

    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        const char *name = settings->bridges[i].name;
        if (strcmp(name, "disk") != 0 && strcmp(name, "memory") != 0) {
            continue;
        }
        for (uint32_t at = 0; at < settings->listener_count; at++) {
            const struct mr_listener_conf *listener = &settings->listeners[at];
            if (listener->ack != NULL && strcmp(listener->ack, name) == 0) {
                mr_config_problem(settings->config, mr_node_child(map, name), NULL,
                                  "bridges.%s: `ack: %s` of listener '%s' means the %s, not a "
                                  "bridge of this name; give the bridge another one",
                                  name, name, listener->name, name);
                break;
            }
        }
    }
}

static void check_admin(struct mr_settings *settings)
{
    struct mr_node *root = mr_config_root(settings->config);
    struct mr_node *admin = root == NULL ? NULL : mr_node_child(root, "admin");

    if (settings->admin.bind != NULL && !is_loopback(settings->admin.bind)) {
        mr_config_problem(settings->config, mr_node_child(admin, "bind"), NULL,
                          "admin.bind must be a loopback address such as 127.0.0.1:8080: the admin "
                          "server asks nobody for a password");
    }
}

static void open_tree(struct mr_settings *out, const struct mr_settings_source *source)
{
    out->config = source->path != NULL ? mr_config_open(source->path)
                                       : mr_config_open_text("(no configuration file)", "");
    for (size_t i = 0; i < source->set_count; i++) {
        mr_config_set(out->config, source->set_paths[i], source->set_values[i]);
    }

    struct mr_node *root = mr_config_root(out->config);
    out->listeners_default = root == NULL || mr_node_child(root, "listeners") == NULL;
    if (out->listeners_default) {
        mr_config_set(out->config, "listeners.mqtt.bind", "127.0.0.1:1883");
    }
}

enum mr_err mr_settings_open(struct mr_settings *out, const struct mr_settings_source *source)
{
    memset(out, 0, sizeof(*out));
    open_tree(out, source);

    struct mr_node *root = mr_config_root(out->config);
    if (root != NULL) {
        mr_config_known(out->config, root, "", sections);
    }
    fill(out, "gateway", gateway_options, &out->gateway);
    fill(out, "journal", journal_options, &out->journal);
    fill(out, "admin", admin_options, &out->admin);
    fill(out, "log", log_options, &out->log);
    fill(out, "mqtt", mr_broker_options, &out->broker);
    fill_listeners(out);
    fill_bridges(out);
    check_acks(out);
    check_bridge_names(out);
    check_admin(out);
    if (source->data != NULL) {
        out->gateway.data = source->data;
        out->data_given = true;
    }
    return mr_config_problem_count(out->config) == 0 ? MR_OK : MR_ERR_CONFIG;
}

/* The key of `tls` that a message is about, to put the caret there; `tls` if none. */
static struct mr_node *tls_key_of(struct mr_node *tls, const char *message)
{
    for (size_t i = 0; i < mr_node_count(tls); i++) {
        const char *name = NULL;
        struct mr_node *node = mr_node_at(tls, i, &name);
        char key[64];
        struct mr_text text = mr_text_over(key, sizeof(key));

        mr_text_fmt(&text, "tls.%s ", name);
        if (strstr(message, key) != NULL) {
            return node;
        }
    }
    return tls;
}

static void check_tls_files(struct mr_settings *settings, struct mr_node *root,
                            void (*warn)(void *arg, const char *text), void *arg)
{
    struct mr_node *map = mr_node_child(root, "listeners");

    for (uint32_t i = 0; i < settings->listener_count; i++) {
        const struct mr_listener_conf *listener = &settings->listeners[i];
        struct mr_node *node = mr_node_child(map, listener->name);
        struct mr_node *tls = mr_node_is_mapping(node) ? mr_node_child(node, "tls") : NULL;
        struct mr_error why;

        if (tls != NULL && mr_listener_check(listener, warn, arg, &why) != MR_OK) {
            mr_config_problem(settings->config, tls_key_of(tls, why.text), NULL, "%s", why.text);
        }
    }
}

/* Has an earlier listener the same `auth`? */
static bool has_auth(const struct mr_settings *settings, uint32_t count,
                     const struct mr_auth_conf *auth)
{
    for (uint32_t i = 0; i < count; i++) {
        if (mr_auth_conf_equal(&settings->listeners[i].auth, auth)) {
            return true;
        }
    }
    return false;
}

static void check_auth_files(struct mr_settings *settings, struct mr_node *root,
                             void (*warn)(void *arg, const char *text), void *arg)
{
    struct mr_node *map = mr_node_child(root, "listeners");

    for (uint32_t i = 0; i < settings->listener_count; i++) {
        const struct mr_listener_conf *listener = &settings->listeners[i];
        struct mr_node *auth = mr_node_child(mr_node_child(map, listener->name), "auth");
        const char *key = NULL;
        struct mr_error why;

        if (!has_auth(settings, i, &listener->auth) &&
            mr_auth_conf_check(&listener->auth, &key, warn, arg, &why) != MR_OK) {
            mr_config_problem(settings->config, mr_node_child(auth, key), NULL, "%s", why.text);
        }
    }
}

/* Has an earlier listener the same rules? */
static bool has_acl_file(const struct mr_settings *settings, uint32_t count, const char *path)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *theirs = settings->listeners[i].auth.acl_file;
        if (theirs != NULL && strcmp(theirs, path) == 0) {
            return true;
        }
    }
    return false;
}

struct acl_place {
    struct mr_settings *settings;
    struct mr_node *node;
};

static void on_acl_fault(void *arg, const char *fault)
{
    const struct acl_place *place = arg;

    mr_config_problem(place->settings->config, place->node, NULL, "%s", fault);
}

/* Rules of users that nobody checks are rules of whoever says that name. */
static void warn_of_claims(const struct mr_listener_conf *listener, const struct mr_acl *acl,
                           void (*warn)(void *arg, const char *text), void *arg)
{
    char text[400];
    struct mr_text words = mr_text_over(text, sizeof(text));

    if (warn == NULL || !mr_acl_names_users(acl) || mr_auth_conf_asks(&listener->auth) ||
        listener->tls.use_identity_as_username) {
        return;
    }
    mr_text_fmt(&words,
                "listener '%s': %s has rules for users, but nothing checks who clients are; "
                "whoever gives a name has its rights; set `auth.password_file`",
                listener->name, listener->auth.acl_file);
    warn(arg, text);
}

static void check_acl_files(struct mr_settings *settings, struct mr_node *root,
                            void (*warn)(void *arg, const char *text), void *arg)
{
    struct mr_node *map = mr_node_child(root, "listeners");

    for (uint32_t i = 0; i < settings->listener_count; i++) {
        const struct mr_listener_conf *listener = &settings->listeners[i];
        const char *path = listener->auth.acl_file;
        struct mr_node *auth = mr_node_child(mr_node_child(map, listener->name), "auth");
        struct acl_place place = {settings, mr_node_child(auth, "acl_file")};
        struct mr_acl *acl = NULL;

        if (path != NULL && !has_acl_file(settings, i, path) &&
            mr_acl_read(&acl, path, on_acl_fault, &place, NULL) == MR_OK) {
            warn_of_claims(listener, acl, warn, arg);
        }
        mr_acl_drop(acl);
    }
}

enum mr_err mr_settings_check_files(struct mr_settings *settings,
                                    void (*warn)(void *arg, const char *text), void *arg)
{
    struct mr_node *root = mr_config_root(settings->config);

    if (root == NULL) {
        return MR_OK;
    }
    check_tls_files(settings, root, warn, arg);
    check_auth_files(settings, root, warn, arg);
    check_acl_files(settings, root, warn, arg);
    return mr_config_problem_count(settings->config) == 0 ? MR_OK : MR_ERR_CONFIG;
}

void mr_settings_close(struct mr_settings *settings)
{
    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        mr_free(settings->bridges[i].sink_conf);
    }
    mr_free(settings->bridges);
    mr_free(settings->listeners);
    mr_config_close(settings->config);
    memset(settings, 0, sizeof(*settings));
}

/* ---- walking the tables ---- */

static const struct {
    const char *name;
    const struct mr_option *table;
    size_t offset; /* in struct mr_settings */
} fixed_sections[] = {
    {"gateway", gateway_options, offsetof(struct mr_settings, gateway)},
    {"auth", mr_auth_options, offsetof(struct mr_settings, auth)},
    {"mqtt", mr_broker_options, offsetof(struct mr_settings, broker)},
    {"journal", journal_options, offsetof(struct mr_settings, journal)},
    {"admin", admin_options, offsetof(struct mr_settings, admin)},
    {"log", log_options, offsetof(struct mr_settings, log)},
};

struct settings_showing {
    const struct mr_settings *settings;
    void (*each)(void *arg, const struct mr_config_shown *shown);
    void *arg;
};

/* What did not come from the tree: --data, and the listener there is without one. */
static void show_one(void *arg, const struct mr_config_shown *shown)
{
    const struct settings_showing *showing = arg;
    struct mr_config_shown changed = *shown;
    char value[4200];
    struct mr_text text = mr_text_over(value, sizeof(value));

    if (showing->settings->data_given && strcmp(shown->key, "gateway.data") == 0) {
        mr_text_fmt(&text, "\"%s\"", showing->settings->gateway.data);
        changed.value = value;
        changed.origin = "--data";
        changed.is_default = false;
    } else if (showing->settings->listeners_default &&
               strcmp(shown->key, "listeners.mqtt.bind") == 0) {
        changed.origin = "default";
        changed.is_default = true;
    }
    showing->each(showing->arg, &changed);
}

static void show_named(struct mr_settings *settings, const char *map, const char *name,
                       const struct mr_fill *fills, size_t fill_count,
                       struct settings_showing *showing)
{
    struct mr_node *node = mr_node_child(mr_config_root(settings->config), map);
    char where[160];
    struct mr_text path = mr_text_over(where, sizeof(where));

    mr_text_fmt(&path, "%s.%s", map, name);
    mr_config_show(settings->config, mr_node_child(node, name), where, fills, fill_count, show_one,
                   showing);
}

void mr_settings_show(struct mr_settings *settings,
                      void (*each)(void *arg, const struct mr_config_shown *shown), void *arg)
{
    struct settings_showing showing = {.settings = settings, .each = each, .arg = arg};
    struct mr_node *root = mr_config_root(settings->config);

    for (size_t i = 0; i < MR_COUNT_OF(fixed_sections); i++) {
        const char *name = fixed_sections[i].name;
        struct mr_fill self = {.table = fixed_sections[i].table,
                               .into = (char *)settings + fixed_sections[i].offset};
        mr_config_show(settings->config, root == NULL ? NULL : mr_node_child(root, name), name,
                       &self, 1, show_one, &showing);
    }
    for (uint32_t i = 0; i < settings->listener_count; i++) {
        struct mr_listener_conf *listener = &settings->listeners[i];
        struct mr_fill self = {.table = mr_listener_options, .into = listener};
        show_named(settings, "listeners", listener->name, &self, 1, &showing);
    }
    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        struct mr_bridge_settings *bridge = &settings->bridges[i];
        struct mr_fill fills[] = {{.table = mr_bridge_options, .into = &bridge->conf},
                                  {.table = bridge->sink->options, .into = bridge->sink_conf}};
        show_named(settings, "bridges", bridge->name, fills, MR_COUNT_OF(fills), &showing);
    }
}

size_t mr_settings_compare_bridge(const struct mr_bridge_settings *before,
                                  const struct mr_bridge_settings *after,
                                  void (*each)(void *arg, const struct mr_config_changed *changed),
                                  void *arg)
{
    char where[160];
    struct mr_text path = mr_text_over(where, sizeof(where));

    mr_text_fmt(&path, "bridges.%s", after->name);
    if (before->sink != after->sink) { /* its own keys are others: only the type is told */
        return 1 +
               mr_config_compare(mr_bridge_options, where, &before->conf, &after->conf, each, arg);
    }
    return mr_config_compare(mr_bridge_options, where, &before->conf, &after->conf, each, arg) +
           mr_config_compare(before->sink->options, where, before->sink_conf, after->sink_conf,
                             each, arg);
}

const struct mr_listener_conf *mr_settings_listener(const struct mr_settings *settings,
                                                    const char *name)
{
    for (uint32_t i = 0; i < settings->listener_count; i++) {
        if (strcmp(settings->listeners[i].name, name) == 0) {
            return &settings->listeners[i];
        }
    }
    return NULL;
}

/* Listeners that are in `one` and not in `other`. */
static size_t listeners_missing(const struct mr_settings *one, const struct mr_settings *other,
                                const char *before, const char *after,
                                void (*each)(void *arg, const struct mr_config_changed *changed),
                                void *arg)
{
    size_t count = 0;

    for (uint32_t i = 0; i < one->listener_count; i++) {
        char where[160];
        struct mr_text path = mr_text_over(where, sizeof(where));

        if (mr_settings_listener(other, one->listeners[i].name) == NULL) {
            mr_text_fmt(&path, "listeners.%s", one->listeners[i].name);
            each(arg, &(struct mr_config_changed){.key = where, .before = before, .after = after});
            count += 1;
        }
    }
    return count;
}

static size_t compare_listeners(const struct mr_settings *before, const struct mr_settings *after,
                                void (*each)(void *arg, const struct mr_config_changed *changed),
                                void *arg)
{
    size_t count = listeners_missing(before, after, "it is there", "gone", each, arg) +
                   listeners_missing(after, before, "none", "a new one", each, arg);

    for (uint32_t i = 0; i < before->listener_count; i++) {
        const struct mr_listener_conf *old = &before->listeners[i];
        const struct mr_listener_conf *new = mr_settings_listener(after, old->name);
        char where[160];
        struct mr_text path = mr_text_over(where, sizeof(where));

        if (new != NULL) {
            mr_text_fmt(&path, "listeners.%s", old->name);
            count += mr_config_compare(mr_listener_options, where, old, new, each, arg);
        }
    }
    return count;
}

size_t mr_settings_compare(const struct mr_settings *before, const struct mr_settings *after,
                           void (*each)(void *arg, const struct mr_config_changed *changed),
                           void *arg)
{
    size_t count = 0;

    for (size_t i = 0; i < MR_COUNT_OF(fixed_sections); i++) {
        count += mr_config_compare(fixed_sections[i].table, fixed_sections[i].name,
                                   (const char *)before + fixed_sections[i].offset,
                                   (const char *)after + fixed_sections[i].offset, each, arg);
    }
    return count + compare_listeners(before, after, each, arg);
}

static void put(void (*write)(void *arg, const char *text, size_t len), void *arg, const char *text)
{
    write(arg, text, strlen(text));
}

void mr_settings_schema(void (*write)(void *arg, const char *text, size_t len), void *arg)
{
    const struct mr_option *listener = mr_listener_options;

    put(write, arg,
        "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"millrace\","
        "\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    for (size_t i = 0; i < MR_COUNT_OF(fixed_sections); i++) {
        char head[64];
        struct mr_text text = mr_text_over(head, sizeof(head));
        mr_text_fmt(&text, "%s\"%s\":{\"type\":\"object\",", i == 0 ? "" : ",",
                    fixed_sections[i].name);
        put(write, arg, head);
        mr_config_schema(&fixed_sections[i].table, 1, write, arg);
        put(write, arg, "}");
    }
    put(write, arg,
        ",\"listeners\":{\"type\":\"object\",\"minProperties\":1,"
        "\"additionalProperties\":{\"type\":\"object\",");
    mr_config_schema(&listener, 1, write, arg);
    put(write, arg, "}},\"bridges\":{\"type\":\"object\",\"additionalProperties\":{\"anyOf\":[");
    for (size_t i = 0; mr_sinks[i] != NULL; i++) {
        const struct mr_option *tables[] = {mr_bridge_options, mr_sinks[i]->options};
        put(write, arg, i == 0 ? "{\"type\":\"object\"," : ",{\"type\":\"object\",");
        mr_config_schema(tables, MR_COUNT_OF(tables), write, arg);
        put(write, arg, "}");
    }
    put(write, arg, "]}}}}\n");
}

void mr_settings_document(void (*write)(void *arg, const char *text, size_t len), void *arg)
{
    mr_config_document("gateway", gateway_options, write, arg);
    mr_config_document("listeners.NAME", mr_listener_options, write, arg);
    mr_config_document("auth", mr_auth_options, write, arg);
    mr_config_document("mqtt", mr_broker_options, write, arg);
    mr_config_document("journal", journal_options, write, arg);
    mr_config_document("admin", admin_options, write, arg);
    mr_config_document("log", log_options, write, arg);
    mr_config_document("bridges.NAME (every type)", mr_bridge_options, write, arg);
    for (size_t i = 0; mr_sinks[i] != NULL; i++) {
        char title[96];
        struct mr_text text = mr_text_over(title, sizeof(title));
        mr_text_fmt(&text, "bridges.NAME (type: %s)", mr_sinks[i]->name);
        mr_config_document(title, mr_sinks[i]->options, write, arg);
    }
}
