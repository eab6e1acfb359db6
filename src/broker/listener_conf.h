/* listener_conf.h - what the configuration says of one listener.
 *
 * Thread: constant.   Memory: the configuration's.   Time: none.
 */
#ifndef MR_BROKER_LISTENER_CONF_H
#define MR_BROKER_LISTENER_CONF_H

#include "broker/auth_conf.h"
#include "config/option.h"

/* `allow_anonymous: auto` is true on loopback addresses and false elsewhere. */
enum mr_anonymous { MR_ANONYMOUS_AUTO, MR_ANONYMOUS_TRUE, MR_ANONYMOUS_FALSE };

/* Who may connect to a Unix socket: the file's owner, its group too, or everybody. */
enum mr_unix_mode { MR_UNIX_MODE_GROUP, MR_UNIX_MODE_OWNER, MR_UNIX_MODE_ALL };

/* `tls:` of a listener; certfile NULL: plain TCP.  See net/tls.h. */
struct mr_listener_tls {
    const char *certfile;
    const char *keyfile;
    struct mr_pairs certificates; /* more of them, certfile and keyfile each, by server name */
    const char *cacertfile;
    const char *crlfile;
    const char *ciphers;
    uint32_t tls_version; /* the least: enum mr_tls_version */
    bool require_certificate;
    uint32_t identity_from;        /* enum mr_tls_identity */
    bool use_identity_as_username; /* that name is the user, no password is asked */
};

/* What the clients of one listener may; 0: what `mqtt` says for all. */
struct mr_listener_limits {
    uint64_t max_packet_size;
    uint64_t max_connect_size;
    uint64_t max_topic_length;
    uint64_t max_topic_levels;
    uint64_t max_subscriptions;
    uint64_t topic_alias_maximum;
    uint64_t messages_rate;
    uint64_t messages_burst;
    uint64_t bytes_rate;
    uint64_t bytes_burst;
    uint64_t max_conn_rate;
    uint64_t max_conn_burst;
    uint64_t max_conn_rate_per_address;
    uint64_t max_connections_per_address;
};

/* One listener; rows in mr_listener_options. */
struct mr_listener_conf {
    const char *name;         /* its key under `listeners`; set by the caller, not by the table */
    const char *bind;         /* "127.0.0.1:1883"; port 0: any free one */
    const char *ack;          /* disk (or NULL), memory, or the name of a bridge */
    uint32_t allow_anonymous; /* enum mr_anonymous */
    uint64_t max_connections; /* 0: as many as descriptors allow */
    struct mr_listener_limits limits;
    bool proxy_protocol; /* connections begin with a PROXY header, version 1 or 2 */
    uint32_t unix_mode;  /* of a Unix socket's file: enum mr_unix_mode */
    uint64_t tcp_keepalive_us;
    const char *websocket; /* the path of its HTTP upgrade, "/mqtt"; NULL: no WebSocket */
    struct mr_list websocket_origins; /* pages that may connect; empty: all */
    struct mr_listener_tls tls;
    struct mr_auth_conf auth; /* as it is in force here */
};
extern const struct mr_option mr_listener_options[];

/* Can the files of this listener's `tls` be used, and do they fit?  CONFIG: `why` names the
 * listener, the key and what to do.  `warn` (or NULL) gets what is worth knowing.
 */
enum mr_err mr_listener_check(const struct mr_listener_conf *listener,
                              void (*warn)(void *arg, const char *text), void *arg,
                              struct mr_error *why) MR_MUST_USE;

#endif
