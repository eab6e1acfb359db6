/* metrics_internal.h - what a shard counts: for /metrics, and for mr_broker_stats().
 *
 * Thread: the shard's writes; metrics and stats are read by any (metrics.c).
 * Memory: handles of base/metric.h.   Time: none.
 */
#ifndef MR_BROKER_METRICS_INTERNAL_H
#define MR_BROKER_METRICS_INTERNAL_H

#include "base/metric.h"

#include <stdatomic.h>

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
    END_KICKED,    /* by the operator */
    END_TLS,       /* the handshake failed, or a record */
    END_WEBSOCKET, /* the upgrade was refused, or a frame */
    END_PROXY,     /* no PROXY header, or a wrong one */
    END_AUTH,      /* it did not prove again who it is, or may be that no longer */
    END_COUNT
};

struct shard_metrics {
    struct mr_metric *connections;
    struct mr_metric *connections_total;
    struct mr_metric *connections_refused;
    struct mr_metric *disconnects[END_COUNT];
    struct mr_metric *publish_received[3];
    struct mr_metric *publish_sent[3];
    struct mr_metric *packets_received[16];
    struct mr_metric *bytes_received;
    struct mr_metric *bytes_sent;
    struct mr_metric *dropped_slow;     /* subscriber's queue is full */
    struct mr_metric *dropped_memory;   /* the pool is used up */
    struct mr_metric *dropped_refused;  /* topic not allowed */
    struct mr_metric *dropped_large;    /* larger than the subscriber accepts, or expired */
    struct mr_metric *dropped_mailbox;  /* another shard does not keep up */
    struct mr_metric *dropped_damaged;  /* the session store has lost it */
    struct mr_metric *dropped_retained; /* delivered, not retained */
    struct mr_metric
        *refused_full[3]; /* by QoS: the journal was full, and publishers do not wait */
    struct mr_metric *refusing;
    struct mr_metric *sessions;
    struct mr_metric *queued;
    struct mr_metric *retained;
    struct mr_metric *denied_publish; /* by the rules of an ACL file */
    struct mr_metric *denied_subscribe;
    struct mr_metric *denied_deliver;
    struct mr_metric *denied_will;
    struct mr_metric *logins_accepted;
    struct mr_metric *logins_refused;
    struct mr_metric *logins_busy;
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
        subscriptions, sessions, queued, retained, withheld, paused, bytes_received, bytes_sent;
    /* What only $SYS tells. */
    _Atomic uint64_t clients, clients_online, clients_expired, payload_received, payload_sent,
        shared, kept, kept_bytes, memory;
};

#endif
