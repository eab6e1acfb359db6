/* listeners.c - the doors: addresses, and what is spoken at each of them below MQTT.
 *
 * All shards listen on every address and the kernel spreads the connections
 * (SO_REUSEPORT).  A Unix socket is one for all of them: each shard has a descriptor of it
 * in its own loop, all of them wake and the quickest accepts.
 */
#include "broker/broker_internal.h"

#include "net/proxy.h"
#include "net/tls.h"

enum {
    FRAME_LEAST = 64 << 10, /* of WebSocket: one may hold many small packets */
};

static bool address_is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]", 5) == 0 ||
           strncmp(address, "localhost:", 10) == 0 || mr_address_is_unix(address);
}

static struct mr_tls_options tls_options_of(const struct mr_listener_conf *conf)
{
    return (struct mr_tls_options){.name = conf->name != NULL ? conf->name : "mqtt",
                                   .certfile = conf->tls.certfile,
                                   .keyfile = conf->tls.keyfile,
                                   .cacertfile = conf->tls.cacertfile,
                                   .crlfile = conf->tls.crlfile,
                                   .ciphers = conf->tls.ciphers,
                                   .version_min = conf->tls.tls_version,
                                   .require_certificate = conf->tls.require_certificate};
}

static bool listener_has_tls(const struct mr_listener_conf *conf)
{
    const struct mr_listener_tls *tls = &conf->tls;

    return tls->certfile != NULL || tls->keyfile != NULL || tls->cacertfile != NULL ||
           tls->require_certificate || (tls->use_identity_as_username && !conf->proxy_protocol);
}

/* *out is NULL for a plain listener. */
static enum mr_err listener_tls_open(struct mr_tls **out, const struct mr_listener_conf *conf,
                                     void (*warn)(void *arg, const char *text), void *arg,
                                     struct mr_error *why)
{
    struct mr_tls_options options = tls_options_of(conf);
    const struct mr_pairs *more = &conf->tls.certificates;

    *out = NULL;
    if (!listener_has_tls(conf)) {
        return MR_OK;
    }
    if (conf->tls.use_identity_as_username && !conf->tls.require_certificate &&
        !conf->proxy_protocol) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "listener '%s': tls.use_identity_as_username needs "
                            "`require_certificate: true`, or a client could come without identity",
                            options.name);
    }
    options.warn = warn;
    options.warn_arg = arg;
    struct mr_tls_certificate *certificates = mr_alloc((more->count + 1) * sizeof(*certificates));
    for (size_t i = 0; i < more->count; i++) {
        certificates[i] = (struct mr_tls_certificate){.certfile = more->items[i].name,
                                                      .keyfile = more->items[i].value};
    }
    options.more = certificates;
    options.more_count = more->count;
    enum mr_err err = mr_tls_open(out, &options, why);
    mr_free(certificates);
    return err;
}

enum mr_err mr_listener_check(const struct mr_listener_conf *listener,
                              void (*warn)(void *arg, const char *text), void *arg,
                              struct mr_error *why)
{
    struct mr_tls *tls = NULL;
    enum mr_err err = listener_tls_open(&tls, listener, warn, arg, why);

    mr_tls_close(tls);
    return err;
}

static void log_warning(void *arg, const char *text)
{
    (void)arg;
    mr_log(MR_LOG_WARN, "listener", "%s", text);
}

bool listener_is_anonymous(const struct mr_listener_conf *conf, const char *bind, bool asks)
{
    return conf->allow_anonymous == MR_ANONYMOUS_TRUE ||
           (conf->allow_anonymous == MR_ANONYMOUS_AUTO && !asks && address_is_loopback(bind));
}

static void listener_note_closed(const struct mr_broker *broker, uint32_t index)
{
    const struct listener_policy *policy = &broker->shards[0]->policy.listeners[index];
    const struct mr_listener_conf *conf = &broker->run.listeners[index];

    if (!policy->anonymous && !policy->asks && !conf->tls.use_identity_as_username) {
        mr_log(MR_LOG_WARN, "mqtt",
               "listener '%s' on %s refuses everyone: authentication is not configured and "
               "`allow_anonymous` is not true; give `auth: { password_file: … }` (see `millrace "
               "passwd --help`), or set `allow_anonymous: true` to admit everyone",
               conf->name != NULL ? conf->name : "mqtt", broker->listeners[index].bound.text);
    }
}

static struct mr_listen_options listen_options(const struct mr_broker *broker,
                                               const struct mr_listener_conf *conf)
{
    static const uint32_t modes[] = {
        [MR_UNIX_MODE_GROUP] = 0660, [MR_UNIX_MODE_OWNER] = 0600, [MR_UNIX_MODE_ALL] = 0666};

    return (struct mr_listen_options){.reuse_port = broker->shard_count > 1,
                                      .keepalive_s = (uint32_t)(conf->tcp_keepalive_us / 1000000),
                                      .mode = modes[conf->unix_mode]};
}

/* The address of a listener: with several shards the kernel would let another broker
 * share it unnoticed, so it is asked for alone first.
 */
static enum mr_err listener_address(const struct mr_broker *broker, uint32_t index,
                                    struct mr_error *why)
{
    const char *bind = broker->run.listeners[index].bind;
    struct mr_listen_options alone = {.reuse_port = false};
    int fd = -1;

    if (broker->shard_count == 1 || mr_address_is_unix(bind)) {
        return MR_OK;
    }
    enum mr_err err = mr_socket_listen(bind, &alone, &fd, &broker->listeners[index].bound, why);
    if (err == MR_OK) {
        mr_socket_close(fd);
    }
    return err;
}

/* One more socket for the same address; the kernel spreads connections over them.  A Unix
 * socket is one for all, and whoever is quicker accepts.
 */
static enum mr_err listener_socket(const struct mr_broker *broker, uint32_t index, int first,
                                   int *fd, struct mr_error *why)
{
    struct broker_listener *listener = &broker->listeners[index];
    const struct mr_listener_conf *conf = &broker->run.listeners[index];
    struct mr_listen_options options = listen_options(broker, conf);
    bool in_files = mr_address_is_unix(conf->bind);
    struct mr_address address = listener->bound;

    if (in_files && first >= 0) {
        return mr_socket_share(first, fd, why);
    }
    bool anew = broker->shard_count == 1 || in_files;
    enum mr_err err =
        mr_socket_listen(anew ? conf->bind : address.text, &options, fd, &listener->bound, why);
    listener->unlink = err == MR_OK && in_files;
    return err;
}

/* Let every shard accept for listener `index`. */
static enum mr_err listener_open(struct mr_broker *broker, uint32_t index, struct mr_error *why)
{
    const struct mr_listener_conf *conf = &broker->run.listeners[index];
    enum mr_err err = listener_address(broker, index, why);
    int first = -1;

    for (uint32_t i = 0; i < broker->shard_count && err == MR_OK; i++) {
        int fd = -1;

        err = listener_socket(broker, index, first, &fd, why);
        if (err == MR_OK) {
            err = mr_net_listen(broker->shards[i]->net, fd, index, conf->max_connections, why);
            if (err != MR_OK) {
                mr_socket_close(fd);
            }
        }
        first = i == 0 ? fd : first;
    }
    return err;
}

/* For WebSocket, whose frames hold one packet each. */
static uint32_t packet_len(struct mr_span bytes)
{
    struct mr_mqtt_frame frame = {.total_bytes = 0};

    (void)!mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, &frame); /* AGAIN: its end is not queued */
    return frame.total_bytes;
}

/* What its connections speak below MQTT. */
static void listener_dress(const struct mr_broker *broker, uint32_t index)
{
    struct broker_listener *listener = &broker->listeners[index];
    const struct mr_listener_conf *conf = &broker->run.listeners[index];
    uint64_t packet = broker->limits.max_packet_size;

    listener->websocket = (struct mr_websocket_options){
        .path = conf->websocket,
        .origins = conf->websocket_origins.items,
        .origin_count = conf->websocket_origins.count,
        .frame_max = packet < FRAME_LEAST ? FRAME_LEAST : packet,
        .packet_len = packet_len,
    };
    for (uint32_t shard = 0; shard < broker->shard_count; shard++) {
        struct mr_net *net = broker->shards[shard]->net;
        mr_net_secure(net, index, listener->tls);
        if (conf->proxy_protocol) {
            mr_net_proxied(net, index);
        }
        if (conf->websocket != NULL) {
            mr_net_websocket(net, index, &listener->websocket);
        }
    }
}

enum mr_err listeners_limit(const struct mr_broker *broker, struct mr_error *why)
{
    if (broker->run.listener_count > MR_NET_LISTENERS_MAX) {
        return mr_error_set(why, MR_ERR_CONFIG, "%zu listeners; at most %d are possible",
                            broker->run.listener_count, MR_NET_LISTENERS_MAX);
    }
    return MR_OK;
}

enum mr_err listeners_open(struct mr_broker *broker, struct mr_error *why)
{
    for (uint32_t i = 0; i < broker->run.listener_count; i++) {
        struct broker_listener *listener = &broker->listeners[i];

        enum mr_err err =
            listener_tls_open(&listener->tls, &broker->run.listeners[i], log_warning, NULL, why);
        if (err == MR_OK) {
            err = listener_open(broker, i, why);
        }
        if (err != MR_OK) {
            return err;
        }
        listener_dress(broker, i);
        listener_note_closed(broker, i);
    }
    for (uint32_t shard = 0; shard < broker->shard_count; shard++) {
        limits_set(broker->shards[shard]);
    }
    return MR_OK;
}

void listeners_close(struct mr_broker *broker)
{
    for (size_t i = 0; i < broker->run.listener_count; i++) {
        mr_tls_close(broker->listeners[i].tls);
        if (broker->listeners[i].unlink) {
            mr_socket_unlink(broker->run.listeners[i].bind);
        }
    }
    mr_free(broker->listeners);
    broker->listeners = NULL;
}

enum mr_err listeners_tls_begin(struct mr_broker *broker, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    for (size_t i = 0; i < broker->run.listener_count && err == MR_OK; i++) {
        if (broker->listeners[i].tls != NULL) {
            err = mr_tls_reload_begin(broker->listeners[i].tls, why);
        }
    }
    return err;
}

void listeners_tls_end(struct mr_broker *broker, bool good)
{
    for (size_t i = 0; i < broker->run.listener_count; i++) {
        if (broker->listeners[i].tls != NULL) {
            mr_tls_reload_end(broker->listeners[i].tls, good);
        }
    }
}

const char *mr_broker_bound_address(const struct mr_broker *broker, size_t index)
{
    mr_assert(index < broker->run.listener_count);
    return broker->listeners[index].bound.text;
}
