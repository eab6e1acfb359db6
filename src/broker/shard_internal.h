/* shard_internal.h - the broker's own structures.
 *
 *     mr_broker ── mr_shard (one thread each) ── client (one network connection)
 *                                        └─ session (one client id)
 *
 * A session ends with its connection, unless it is persistent: then it has a `keep`
 * (keep_internal.h) and outlives it.
 * Everything below a shard is touched by its thread only.  What works on them is
 * declared in broker_internal.h.
 */
#ifndef MR_BROKER_SHARD_INTERNAL_H
#define MR_BROKER_SHARD_INTERNAL_H

#include "auth/acl.h"
#include "auth/auth.h"
#include "auth/grant.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/ring.h"
#include "broker/ack_internal.h"
#include "broker/broker.h"
#include "broker/crowd.h"
#include "broker/foreign_internal.h"
#include "broker/limits_internal.h"
#include "broker/message.h"
#include "broker/metrics_internal.h"
#include "broker/policy_internal.h"
#include "broker/reserve_internal.h"
#include "broker/share.h"
#include "broker/subtree.h"
#include "codec/mqtt.h"
#include "codec/topic.h"
#include "journal/cursor.h"
#include "journal/reader.h"
#include "net/net.h"
#include "net/websocket.h"
#include "net/wheel.h"

/* What the session store has of its own lane, and what those of all other shards have. */
#define SESSIONS_CURSOR "$sessions"
#define FOREIGN_CURSOR SESSIONS_CURSOR "-others"

enum {
    SHARD_EVENTS = 256, /* per turn; the loop's own bound */
    SHARD_OWED = 1024,  /* acks' entries released at a time */
    SHARDS_MAX = 256,
    SHARD_READ_STALLED = 4 << 10,  /* bytes per read while the journal has no room */
    CLIENT_OUT_MAX = 256 << 10,    /* bytes waiting for a subscriber before it counts as slow */
    CLIENT_ACKS_MAX = 65535,       /* a 3.x client cannot have more packet ids in use */
    INFLIGHT_MAX = 1024,           /* towards a 5.0 subscriber, whatever it allows */
    LOG_EVERY_US = 10000000,       /* one line per kind in 10 s */
    LOG_CONNECTIONS_MAX = 50,      /* lines a second of clients that come and go */
    DISCONNECT_BYTES_MAX = 256,    /* our DISCONNECT with a reason string */
    TOPIC_CACHED_MAX = 100,        /* bytes of a topic that the cache can hold */
    LISTENER_SURPLUS = 64,         /* connections that are let in to be told that it is full */
    CLOCK_STEPS = 16,              /* of the wall clock that are remembered */
    TOPICS_MAX = 4,                /* entries of the cache once there are several topics */
    LISTENER_UNKNOWN = UINT16_MAX, /* of a session that was restored */
};

/* A topic that a client has published to: everything known about it. */
struct topic_entry {
    struct mr_name_ref name;
    uint64_t tree_version;     /* of tree and groups, for which the answers hold */
    uint32_t interest_version; /* for which `abroad` holds */
    uint16_t len;
    uint8_t refused; /* reason, 0 if allowed */
    bool subscribed; /* someone is listening */
    bool shared;     /* a group wants it */
    bool excluded;   /* not journaled */
    bool abroad;     /* someone may be listening in another shard */
    bool bridged;    /* its acknowledgement waits for the listener's bridge */
    uint8_t text[TOPIC_CACHED_MAX];
};
_Static_assert(sizeof(struct topic_entry) == 128, "fits a buffer class of the pool");

/* Topic aliases of a 5.0 client: lent at first use. */
struct alias {
    uint8_t *topic; /* lent */
    uint32_t len;
    uint32_t capacity;
};
struct aliases {
    uint32_t capacity;   /* as lent by the pool */
    struct alias each[]; /* client->aliases_max */
};

/* What a client with a rate has used of it (limits.c). */
struct client_rate {
    int64_t messages_due_ns; /* when what it has published is paid for */
    int64_t bytes_due_ns;
};

/* What a subscriber has not acknowledged. */
struct under_way {
    uint16_t packet_id;
    uint16_t awaits; /* the packet type that comes next: PUBACK, PUBREC or PUBCOMP */
};

/* QoS 1 and 2 towards a subscriber whose session is not persistent: lent at first need. */
struct outbound {
    struct stored *queue_first;
    struct stored *queue_last;
    struct stored *shared_first; /* of groups, sent with QoS 1 and not acknowledged */
    struct stored *shared_last;
    uint64_t queue_bytes;
    uint32_t queue_count;
    uint32_t capacity; /* as lent by the pool */
    uint16_t window;   /* ids that may be unacknowledged */
    uint16_t begin;    /* oldest id in the ring */
    uint16_t count;
    uint16_t id_last;
    struct under_way ids[]; /* ring of `window`, in cyclic ascending order */
};

struct inbound; /* inbound_internal.h */

/* What most sessions never have is lent when they get it: an idle device costs this and its
 * name, one buffer of 128 bytes as a rule (docs/MEMORY.md).
 */
struct session {
    struct session *table_next;
    struct client *client;
    struct mr_sub *subs;
    struct outbound *outbound;
    struct inbound *inbound;
    struct stored *will;
    struct keep *keep;          /* NULL: it ends with its connection */
    struct share_client *share; /* NULL: it is in no group */
    uint8_t *username;          /* lent; NULL: behind the client id in `text` */
    uint32_t username_capacity;
    uint32_t hash;
    uint32_t capacity; /* as lent by the pool */
    uint32_t merged;   /* what one message's matches come to (merge.c); 0: none */
    uint16_t id_len;
    uint16_t username_len;
    uint16_t listener; /* its client's, or LISTENER_UNKNOWN */
    bool had_rules;    /* its client's login brought rules, or may have: listener unknown */
    bool brings;       /* retained messages are on their way to it (bring.c) */
    uint8_t text[];    /* client id, user name */
};
_Static_assert(offsetof(struct session, text) + 32 <= 128, "an id of 32 bytes fits the buffer");

/* For a subscription identifier: several overlapping subscriptions have one, and it gets all. */
#define SUBSCRIPTION_IDS_ALL UINT32_MAX

/* A PUBLISH to a client. */
struct outgoing {
    const struct mr_message *message;
    const struct mr_mqtt_props *props; /* message's, decoded; NULL: none */
    struct share_group *group;         /* another member gets it if this one does not; or NULL */
    uint32_t subscription_id;
    uint16_t packet_id; /* 0 with QoS 0 */
    uint8_t qos;
    bool retain;
    bool dup;
};

struct login;
struct exchange;
struct alias_table;

/* A network connection; lies in its mr_conn.  As there, what only some have is beside it. */
struct client {
    struct mr_shard *shard;
    struct session *session;         /* NULL before CONNECT */
    struct topic_entry *topics;      /* lent: 1, then TOPICS_MAX; NULL: none yet (topics.c) */
    struct mr_acks acks;             /* its answers, until the journal has what they answer */
    uint32_t publishes_open;         /* QoS 1 and 2, over this connection; as 4.9 counts them */
    uint32_t received;               /* publishes */
    struct aliases *aliases;         /* NULL: none yet */
    struct alias_table *aliases_out; /* ours towards it; lent at first use */
    struct client_rate *rate;        /* NULL: neither messages nor bytes a second are limited */
    struct login *login;             /* its password is being checked, else NULL */
    struct exchange *exchange;   /* it proves who it is by AUTH packets, else NULL (enhanced.c) */
    struct mr_auth_grant *grant; /* what its login brought; NULL: nothing (auth/grant.h) */
    union {
        const char *login_fault; /* before its session: of a refused token, for the log; static */
        uint64_t join_seq;       /* joining: CONNACK waits for this record */
    };
    uint32_t keep_alive_ticks; /* 1.5 times what was asked, and one; 0: none */
    uint32_t expires_tick;     /* its login holds up to here; 0: for ever */
    uint32_t packet_max;       /* largest packet it accepts; 0: any */
    uint32_t packet_told;      /* largest one of its own, as its CONNACK said */
    uint32_t connected_tick;   /* of its CONNECT */
    uint32_t sent;
    uint16_t alias_max;    /* topic aliases it lets us use */
    uint16_t aliases_max;  /* ... and we let it: what its CONNACK said */
    uint16_t receive_told; /* of a 5.0 client: Receive Maximum, as that said */
    uint16_t receive_max;  /* QoS 1 and 2 publishes it accepts unacknowledged */
    uint16_t home;         /* of PACKET_AWAY: the shard to go to */
    uint8_t topics_room;   /* entries */
    uint8_t topics_used;
    uint8_t topics_last; /* the one that hit */
    uint8_t listener;
    uint8_t version;     /* 0 before CONNECT */
    uint8_t end;         /* enum end_kind, once known */
    uint8_t login_state; /* enum login_state */
    uint8_t login_by;    /* of LOGIN_YES: who said so, enum mr_authn */
    uint8_t turned_away; /* the reason why its CONNECT will be refused; 0: none */
    bool joining;        /* its CONNACK waits, or has waited, for the journal (connack_waits) */
    bool rate_waits;     /* it is held until it may go on */
    bool drain_again;    /* its queue waits for memory */
    bool will_dropped : 1;
    bool ends_at_once : 1; /* 5.0: CONNECT asked for Session Expiry Interval 0 */
    bool wants_detail : 1; /* 5.0: reason strings (problem information) */
    bool enhanced : 1;     /* 5.0: CONNECT had an Authentication Method: SCRAM-SHA-256 */
    bool in_crowd : 1;     /* it counts among those of its address (crowd.h) */
    bool is_surplus : 1;   /* ... and was too many when it came */
    uint8_t gate;          /* enum gate: where the newest of `acks` is held */
};
_Static_assert(sizeof(struct client) <= 144, "docs/MEMORY.md, the idle connection");

enum checkpoint_state { CHECKPOINT_NONE, CHECKPOINT_SEALED, CHECKPOINT_WRITING };

struct shard_call; /* call.c */

/* The wall clock was set: both are the same moment.  Equal at the start: before it nobody knows. */
struct clock_step {
    int64_t before_us;
    int64_t after_us;
};

struct mr_shard {
    struct mr_broker *broker;
    struct mr_broker_limits limits; /* its own copy, so that a reload is the shard's to make */
    struct client_limits listener_limits[MR_NET_LISTENERS_MAX];
    uint32_t index; /* its lane's too */
    struct mr_loop *loop;
    struct mr_wake wake;
    struct mr_auth_port auth_port;
    uint32_t acl_version; /* of its rules; 0: there never were any (access.c) */
    struct policy policy;
    struct mr_net *net;
    struct mr_lane *lane;
    struct mr_ackgate *gates[GATES_MAX]; /* NULL: no listener wants it */
    struct settled settled[GATES_MAX - GATE_BRIDGES];
    struct mr_subtree *subtree;
    struct mr_bufpool pool;
    struct mr_thread *thread;
    struct shard_call *_Atomic calls; /* pushed by any thread */

    int64_t start_ns;
    int64_t now_ns;                       /* of this turn */
    int64_t wall_us;                      /* of this turn */
    int64_t wall_offset_us;               /* of the wall clock from the monotonic one */
    struct clock_step steps[CLOCK_STEPS]; /* the last ones first; after_us 0: there are no more */
    bool steps_new;                       /* the store does not have all of them */
    uint32_t tick;
    uint64_t seq_released; /* acks and deliveries up to here are done */
    uint64_t seq_begin;    /* the lane's last record when this run began */
    uint32_t stall_tick;   /* at which the others were last woken for its stall */
    bool stalled;          /* the journal said FULL; publishers are paused */
    int64_t stall_ns;      /* since when they wait; 0: they do not */
    bool stall_logged;
    bool refuses;  /* when the journal is full: publishers do not wait (no_room.c) */
    bool refusing; /* ... and it is */
    bool stopping;
    bool drain_again;        /* some client's queue waits for memory */
    bool posted[SHARDS_MAX]; /* to whom something was sent in this turn */
    bool posted_any;
    uint64_t moving_max;          /* bytes on their way to another shard, beyond one connection's */
    struct mr_interest *interest; /* of its subscribers, for the others; NULL: one shard */
    struct foreign_lane *foreign; /* what was read of the other lanes; NULL: one shard */
    _Atomic uint64_t retained_seq; /* of the last event with RETAIN in its lane */
    bool foreign_left;             /* more was read there than a turn takes */
    bool mail_left;                /* more came from other shards than a turn takes */

    struct mr_hash_key key;
    struct session **sessions; /* table by client id, mr_alloc */
    size_t sessions_mask;
    size_t sessions_count;

    struct stored *pending_first; /* QoS 1 for live subscribers, until durable */
    struct stored *pending_last;
    struct stored *wills_first; /* wills that the journal could not take yet */
    struct stored *wills_last;
    struct stored *shared_first; /* for a member of a group, which the journal could not take yet */
    struct stored *shared_last;
    struct foreign_lane route; /* the own lane, read for groups (share_lanes.c) */
    struct ended_lane *ended;  /* lanes that are none any more; mr_alloc */
    uint32_t ended_count;
    uint64_t route_version; /* of the groups of which the own lane knows where they begin */
    bool route_left;        /* more was read there than a turn takes */
    bool closing;           /* sessions go without a record */

    /* persistent sessions and retained messages (keep_internal.h) */
    struct mr_store *store; /* NULL: the journal alone */
    struct mr_cursor *cursor;
    struct retained *retained; /* NULL: none yet */
    uint64_t retained_count;
    uint64_t retained_bytes;
    uint64_t retained_stamp;         /* goes up with each that is set */
    struct bringing *bringing_first; /* those that may go on */
    struct bringing *bringing_last;
    struct bringing **bringing_table; /* by session; NULL: there was none yet */
    uint64_t bringing_count;          /* sessions */
    uint32_t bring_steps;             /* that SUBSCRIBEs may still go in this turn */
    bool bring_left;                  /* there is more than a turn's worth */
    struct cleared *cleared_first;    /* cleared lately (cleared.c) */
    struct cleared *cleared_last;
    struct cleared *cleared_new; /* the first that is not in the store */
    uint32_t cleared_count;
    uint64_t cleared_bytes; /* of their memory, nodes included */
    uint64_t keeps_count;
    uint64_t queued;    /* deliveries owed */
    uint64_t unstored;  /* of these, not in the store */
    struct kept *fresh; /* messages that only memory and journal have */
    struct kept *writing;
    uint64_t fresh_bytes;
    uint64_t writing_bytes;
    struct keep *kicked;   /* something was pushed */
    struct keep *settling; /* something was settled in this turn */
    struct keep *dirty;    /* differs from the store */
    struct reserve reserve;
    uint64_t checkpoint_seq;
    uint64_t store_seq; /* the last record of which the store has the state */
    int64_t checkpoint_ns;
    struct mr_wheel expiries; /* keep.timer */
    uint8_t checkpoint;       /* enum checkpoint_state */
    bool checkpoint_empty;
    bool restoring;
    bool restore_short; /* no memory for something */
    bool merges;        /* overlapping subscriptions: one copy for all (merge.c) */
    bool merges_new;    /* ... and the store does not know it */

    struct systree *systree;
    uint64_t clients_online;   /* sessions with a connection */
    uint64_t clients_expired;  /* sessions that ended by their expiry, since start */
    uint64_t payload_received; /* bytes of accepted publishes' payloads, since start */
    uint64_t payload_sent;
    uint64_t kept_count; /* messages that somebody is owed, or that are retained */
    uint64_t kept_bytes;

    struct mr_record_raw record;   /* scratch of append */
    struct topic_entry long_topic; /* scratch for topics the cache cannot hold */
    int64_t log_second;            /* of log_lines: connections that had a line of their own */
    uint32_t log_lines;
    uint32_t log_held; /* that had none */
    int64_t sample_ns; /* when the sampled record was appended; 0: none */
    uint64_t sample_seq;
    struct shard_metrics metrics;
    struct shard_stats stats;
    struct mr_ready events[SHARD_EVENTS];
    struct mr_owed owed[SHARD_OWED];
};

/* What the clients of its listener may. */
static inline const struct client_limits *client_limits(const struct client *client)
{
    return &client->shard->listener_limits[client->listener];
}

struct broker_listener {
    struct mr_address bound;
    struct mr_tls *tls;                    /* NULL: no TLS */
    struct mr_websocket_options websocket; /* path NULL: no WebSocket */
    bool unlink;                           /* a Unix socket's file is ours */
    uint8_t gate;                          /* enum gate */
};

struct mailbox; /* broker_internal.h */
struct mr_broker {
    struct mr_broker_run run;
    struct mr_broker_limits limits;
    struct broker_listener *listeners;
    struct mr_auth *auth; /* NULL: no listener has ever asked who its clients are */
    struct mr_guard *guard;
    const struct mr_broker_bridge *ack_bridges[GATES_MAX - GATE_BRIDGES];
    uint32_t ack_bridge_count;
    struct crowd *crowd;
    struct shares *shares;
    struct cleared_mark *cleared_mark; /* NULL: one shard */
    struct mr_shard **shards;
    uint32_t shard_count;
    uint32_t epoch;                    /* of the journal: with so many lanes */
    struct mr_net_shared net_shared;   /* of several shards */
    _Atomic uint32_t interest_version; /* of the interests of all shards */
    struct mr_hash_key interest_key;
    struct mailbox *mailboxes; /* [to * shard_count + from] */
    struct mr_mutex foreign_mutex;
    uint64_t *foreign_stored; /* [lane * shard_count + shard]: pos_stored; under the mutex */
    _Atomic bool failing;     /* somebody writes `failure` */
    _Atomic int failed;       /* enum mr_err */
    struct mr_error failure;  /* written before `failed` */
    _Atomic bool stop;
    _Atomic bool log_connections;
    _Atomic int64_t stop_deadline_ns;
};

/* Room for what is kept (kept.c): thirteen sixteenths of the memory.  One more than what waits for
 * subscribers (deliver_has_memory()), who may never read it; one less than what the disk is to do.
 */
static inline bool kept_has_memory(const struct mr_shard *shard, size_t bytes)
{
    return shard->pool.lent_bytes + bytes < shard->pool.limit_bytes / 16 * 13;
}

#endif
