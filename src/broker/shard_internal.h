/* shard_internal.h - the broker's own structures.
 *
 *     mr_broker ── mr_shard (one thread) ── client (one network connection)
 *                                        └─ session (one client id)
 *
 * A session lives as long as its connection in this version; they are two
 * structures because persistent sessions will outlive it.
 *
 * Everything below a shard is touched by its thread only.  What works on them is
 * declared in broker_internal.h.
 */
#ifndef MR_BROKER_SHARD_INTERNAL_H
#define MR_BROKER_SHARD_INTERNAL_H

#include "base/hash.h"
#include "base/log.h"
#include "base/metric.h"
#include "broker/ackgate.h"
#include "broker/broker.h"
#include "broker/message.h"
#include "broker/subtree.h"
#include "codec/mqtt.h"
#include "codec/topic.h"
#include "net/net.h"

enum {
    SHARD_EVENTS = 256,           /* per turn; the loop's own bound */
    SHARD_OWED = 1024,            /* acks' entries released at a time */
    SHARD_READ_STALLED = 4 << 10, /* bytes per read while the journal has no room */
    CLIENT_OUT_MAX = 256 << 10,   /* bytes waiting for a subscriber before it counts as slow */
    CLIENT_ACKS_MAX = 65535,      /* a 3.x client cannot have more packet ids in use */
    INFLIGHT_MAX = 1024,          /* towards a 5.0 subscriber, whatever it allows */
    LOG_EVERY_US = 10000000,      /* one line per kind in 10 s */
    LOG_CONNECTIONS_MAX = 50,     /* lines a second of clients that come and go */
    DISCONNECT_BYTES_MAX = 256,   /* our DISCONNECT with a reason string */
    TOPIC_CACHED_MAX = 107,       /* bytes of a topic that the cache can hold */
    TOPICS_MAX = 4,               /* entries of the cache once there are several topics */
};

/* A topic that a client has published to: everything known about it. */
struct topic_entry {
    struct mr_name_ref name;
    uint64_t tree_version; /* for which `subscribed` holds */
    uint16_t len;
    uint8_t refused; /* reason, 0 if allowed */
    bool subscribed; /* someone is listening */
    bool excluded;   /* not journaled */
    uint8_t text[TOPIC_CACHED_MAX];
};
_Static_assert(sizeof(struct topic_entry) == 128, "fits a buffer class of the pool");

struct topic_cache {
    struct topic_entry *entries; /* lent: 1, then TOPICS_MAX */
    uint8_t count;
    uint8_t used;
    uint8_t last; /* the one that hit */
};

/* Topic aliases of a 5.0 client: lent at first use. */
struct alias {
    uint8_t *topic; /* lent */
    uint32_t len;
    uint32_t capacity;
};

/* QoS 1 towards a subscriber: lent at first need. */
struct outbound {
    struct stored *queue_first;
    struct stored *queue_last;
    uint64_t queue_bytes;
    uint32_t queue_count;
    uint32_t capacity; /* as lent by the pool */
    uint16_t window;   /* ids that may be unacknowledged */
    uint16_t begin;    /* oldest id in the ring */
    uint16_t count;
    uint16_t id_last;
    uint16_t ids[]; /* ring of `window`, in cyclic ascending order */
};

struct session {
    struct session *table_next;
    uint64_t hash;
    struct client *client;
    struct mr_sub *subs;
    struct outbound *outbound;
    struct stored *will;
    uint32_t capacity; /* as lent by the pool */
    uint16_t id_len;
    uint16_t username_len;
    uint8_t text[]; /* client id, user name */
};

/* Why a connection ended, for the metric; MR_END_COUNT kinds. */
enum end_kind {
    END_CLIENT,     /* DISCONNECT */
    END_CLOSED,     /* without DISCONNECT */
    END_TAKEN_OVER, /* another connection with the same id */
    END_KEEP_ALIVE,
    END_REFUSED,  /* CONNECT was not accepted */
    END_PROTOCOL, /* the client broke a rule */
    END_SHUTDOWN,
    END_MEMORY,
    END_KICKED, /* by the operator */
    END_COUNT
};

/* A network connection; lies in its mr_conn. */
struct client {
    struct mr_shard *shard;
    struct session *session; /* NULL before CONNECT */
    struct mr_acks acks;
    struct topic_cache topics;
    struct alias *aliases;
    uint32_t aliases_capacity;
    uint32_t keep_alive_ticks; /* 1.5 times what was asked, and one */
    uint32_t packet_max;       /* largest packet it accepts; 0: any */
    uint32_t connected_tick;   /* of its CONNECT */
    uint32_t received;         /* publishes */
    uint32_t sent;
    uint16_t receive_max; /* QoS 1 publishes it accepts unacknowledged */
    uint8_t version;      /* 0 before CONNECT */
    uint8_t end;          /* enum end_kind, once known */
    bool will_dropped;
    bool drain_again;  /* its queue waits for memory */
    bool ends_at_once; /* 5.0: CONNECT asked for Session Expiry Interval 0 */
    bool wants_detail; /* 5.0: reason strings (problem information) */
};

struct shard_metrics {
    struct mr_metric *connections;
    struct mr_metric *connections_total;
    struct mr_metric *connections_refused;
    struct mr_metric *disconnects[END_COUNT];
    struct mr_metric *publish_received[3];
    struct mr_metric *publish_sent[2];
    struct mr_metric *packets_received[16];
    struct mr_metric *bytes_received;
    struct mr_metric *bytes_sent;
    struct mr_metric *dropped_slow;    /* subscriber's queue is full */
    struct mr_metric *dropped_memory;  /* the pool is used up */
    struct mr_metric *dropped_refused; /* topic not allowed */
    struct mr_metric *dropped_large;   /* larger than the subscriber accepts */
    struct mr_metric *subscriptions;
    struct mr_metric *acks_withheld;
    struct mr_metric *paused;
    struct mr_metric *puback_latency;
    struct mr_metric *buffers_lent;
};

/* What mr_broker_stats() reads; stored at the end of each turn. */
struct shard_stats {
    /* Metrics go on for the life of the process; these are theirs at open. */
    uint64_t publishes_received_before, publishes_sent_before, dropped_before;
    _Atomic uint64_t connections, connections_total, publishes_received, publishes_sent, dropped,
        subscriptions, withheld, paused, bytes_received, bytes_sent;
};

/* A question of the control plane, on the asker's stack (call.c). */
enum call_state { CALL_WAITS, CALL_DONE, CALL_LEFT };
struct shard_call {
    struct shard_call *next;
    void (*run)(struct mr_shard *shard, void *arg);
    void *arg;
    struct mr_wake done;
    enum mr_err err;
    _Atomic int state; /* LEFT: the shard will not touch it again */
};

struct mr_shard {
    struct mr_broker *broker;
    struct mr_broker_limits limits; /* its own copy, so that a reload is the shard's to make */
    struct mr_loop *loop;
    struct mr_wake wake;
    struct mr_net *net;
    struct mr_lane *lane;
    struct mr_ackgate *gate;
    struct mr_subtree *subtree;
    struct mr_bufpool pool;
    struct mr_thread *thread;
    struct shard_call *_Atomic calls; /* pushed by any thread */

    int64_t start_ns;
    int64_t now_ns;  /* of this turn */
    int64_t wall_us; /* of this turn */
    uint32_t tick;
    uint64_t seq_released; /* acks and deliveries up to here are done */
    bool stalled;          /* the journal said FULL; publishers are paused */
    bool stall_logged;
    bool stopping;
    bool drain_again; /* some client's queue waits for memory */

    struct mr_hash_key key;
    struct session **sessions; /* table by client id, mr_alloc */
    size_t sessions_mask;
    size_t sessions_count;

    struct stored *pending_first; /* QoS 1 for live subscribers, until durable */
    struct stored *pending_last;
    struct stored *wills_first; /* wills that the journal could not take yet */
    struct stored *wills_last;

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

struct broker_listener {
    const struct mr_listener_conf *conf;
    struct mr_address bound;
    bool anonymous;
};

struct mr_broker {
    struct mr_broker_run run;
    struct mr_broker_limits limits;
    struct broker_listener *listeners;
    struct mr_shard *shard;  /* one now; an array with the shard count later */
    _Atomic int failed;      /* enum mr_err */
    struct mr_error failure; /* written before `failed` */
    _Atomic bool stop;
    _Atomic bool log_connections;
    _Atomic int64_t stop_deadline_ns;
};

static inline uint32_t broker_shard_count(const struct mr_broker *broker)
{
    return broker->shard == NULL ? 0 : 1;
}

static inline struct mr_shard *broker_shard(struct mr_broker *broker, uint32_t index)
{
    mr_assert(index == 0);
    return broker->shard;
}

#endif
