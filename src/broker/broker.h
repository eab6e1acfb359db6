/* broker.h - MQTT in: devices connect, publish, subscribe.
 *
 *     listeners ─▶ shard: parse ─▶ mr_lane_append ─▶ ack gate ─▶ PUBACK
 *                               └▶ subscription tree ─▶ live subscribers
 *
 * Every QoS 1 publish is in the journal, durable, before its PUBACK leaves
 * (docs/ACKGATE.md), unless its listener says otherwise.  The broker knows neither bridges
 * nor sinks; they read the journal, and their cursors say how far they are.
 *
 * There is one shard per lane of the journal.  A client belongs to the shard that its
 * id hashes to, so its events are in one lane, in order; a connection that was accepted
 * elsewhere moves there after its CONNECT.
 *
 * Thread: open/start/stop/close by one thread.  Each shard runs on its own
 *         thread; what they have for each other goes through rings (mailbox.c).
 * Memory: at most memory_bytes, nothing beyond 512 bytes for an idle connection.
 * Time:   a pipelined QoS 1 publish of 100 bytes ~100 ns of the shard's CPU, kernel
 *         and append included; with one publish per read the kernel's 3 to 4 us.
 */
#ifndef MR_BROKER_BROKER_H
#define MR_BROKER_BROKER_H

#include "broker/auth_conf.h"
#include "broker/guard.h"
#include "broker/listener_conf.h"
#include "config/option.h"
#include "journal/journal.h"
#include "os/loop.h"

struct mr_broker;

/* Several subscriptions of one session that match a message: a copy for each, or one. */
enum mr_overlapping { MR_OVERLAPPING_EACH, MR_OVERLAPPING_MERGED };

/* Limits of all listeners; rows in mr_broker_options. */
struct mr_broker_limits {
    uint64_t max_packet_size;       /* bytes; a larger packet ends its connection with 0x95 */
    uint64_t max_connect_size;      /* the same of a CONNECT, and of all before it is let in */
    uint64_t receive_maximum;       /* QoS 1 and 2 publishes a client may have unacknowledged */
    uint64_t max_inflight_messages; /* ... and we towards a 3.x subscriber */
    uint64_t max_queued_messages;   /* per subscriber; beyond it new ones are dropped */
    uint64_t max_queued_bytes;      /* per subscriber; topics and properties too */
    uint64_t max_sessions;          /* persistent ones; a further one is refused */
    uint64_t max_session_expiry_us; /* 0: what the client wants */
    uint64_t max_retained_messages; /* topics; beyond it a message is not retained */
    uint64_t max_retained_bytes;    /* of their topics, properties and payloads */
    uint64_t max_topic_levels;
    uint64_t max_topic_length;  /* bytes, of topics and filters */
    uint64_t max_clientid_len;  /* bytes */
    uint64_t max_subscriptions; /* per client; 0: no limit, as for all that follow but one */
    uint64_t messages_rate;     /* per client, publishes a second */
    uint64_t messages_burst;    /* ... and at once; 0: those of one second */
    uint64_t bytes_rate;        /* per client, a second */
    uint64_t bytes_burst;       /* ... and at once; 0: those of one second */
    uint64_t max_conn_rate;     /* per listener, a second */
    uint64_t max_conn_burst;    /* ... and at once; 0: those of one second */
    uint64_t max_conn_rate_per_address;
    uint64_t max_connections_per_address;
    uint64_t packet_timeout_us; /* for a packet that was begun */
    struct mr_ban_conf ban;
    struct mr_flapping_conf flapping;
    uint64_t topic_alias_maximum;
    uint64_t max_topic_alias_broker; /* of the gateway, towards a client; 0: it uses none */
    uint32_t overlapping;            /* enum mr_overlapping */
    bool validate_payload_format;
    const char *response_information; /* to 5.0 clients that ask; %c: the client id; or NULL */
    const char *server_reference;     /* where 5.0 clients are sent at the end; or NULL */
    uint64_t max_keepalive_us;        /* 0: what the client wants; 5.0 clients are told */
    uint64_t connect_timeout_us;      /* from accept to CONNECT */
    uint64_t sys_interval_us;         /* between updates of $SYS/broker; 0: there is none */
};
extern const struct mr_option mr_broker_options[];

/* Somebody whose cursor in the journal acknowledgements may wait for (a listener's `ack`). */
struct mr_broker_bridge {
    const char *name;    /* of the bridge, hence of its cursors */
    struct mr_list from; /* topic filters of what it carries; empty: everything */
};

struct mr_broker_run {
    struct mr_journal *journal;               /* open; stays the caller's */
    const struct mr_listener_conf *listeners; /* these and their strings outlive the broker */
    size_t listener_count;
    struct mr_broker_limits limits;
    const struct mr_broker_bridge *bridges; /* they run already, in this journal; outlive it too */
    size_t bridge_count;
    bool refuse_when_full; /* publishes for which the journal has no room do not wait for it */
    struct mr_list journal_exclude; /* topic filters of events that are not journaled */
    const char *sessions_path;      /* the session store; NULL: the journal alone */
    uint32_t checkpoint_ms;         /* how often the store is written; 0: 2,000 */
    uint64_t memory_bytes;          /* for connections, queues, subscriptions; 0: 256 MiB */
    enum mr_loop_choice loop;       /* may sends go by io_uring? */
    bool log_connections;           /* a line when a client connects and when it goes */
    struct mr_wake *failed_wake;    /* rung when mr_broker_failed() changes; may be NULL */
};

/* Listen on all addresses, but accept no one yet.
 * CONFIG: an address is in use or wrong, a filter is not valid; `why` says so and
 * nothing is left open.
 */
enum mr_err mr_broker_open(struct mr_broker **out, const struct mr_broker_run *run,
                           struct mr_error *why) MR_MUST_USE;

/* Start the shard threads: from here on devices are served. */
enum mr_err mr_broker_start(struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;

/* MR_OK while all is well.  MR_ERR_IO: the journal has failed, no ack has left
 * since and none will; the process should end with `why`.  Any thread.
 */
enum mr_err mr_broker_failed(struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;

/* Accept no one, read no more, let what was read become durable (at most
 * `patience_ns`), send the acks that are due, tell 5.0 clients 0x8B, close, end
 * the threads.  Wills of clients that were still there are in the journal, but
 * durable only when the journal is closed.
 */
void mr_broker_stop(struct mr_broker *broker, int64_t patience_ns);

/* Stops first, without patience, if that has not happened. */
void mr_broker_close(struct mr_broker *broker);

/* Where listener `index` really listens ("127.0.0.1:37113" for port 0). */
const char *mr_broker_bound_address(const struct mr_broker *broker, size_t index);

/* ---- asked of the shards while they run; any thread, each call waits for one turn ----
 *
 * IO: the broker is ending.
 */

/* One client that is connected.  Borrowed for the call, which runs in the shard. */
struct mr_client_info {
    struct mr_span client; /* its id */
    struct mr_span username;
    const char *peer;     /* "10.0.0.7:51812" */
    const char *listener; /* its name */
    int64_t connected_us; /* Unix */
    uint32_t received;    /* publishes, since it connected */
    uint32_t sent;        /* to it */
    uint32_t inflight;    /* QoS 1 to it, not acknowledged */
    uint32_t queued;      /* waiting behind them */
    uint32_t acks_held;   /* its publishes that wait for the disk */
    uint8_t version;      /* 3, 4 or 5, as in CONNECT */
    bool paused;          /* not read because there is no room */
};

/* Show clients, looking at `max` connections at most.  *at is 0 at first, and
 * MR_CLIENTS_END when all have been shown.  Who connects or leaves meanwhile may be
 * missing.
 */
#define MR_CLIENTS_END UINT64_MAX
enum mr_err mr_broker_clients(struct mr_broker *broker, uint64_t *at, uint32_t max,
                              void (*each)(void *arg, const struct mr_client_info *info),
                              void *arg) MR_MUST_USE;

/* End the connection of a client: 5.0 is told Administrative action (0x98).  Its will is
 * published.
 */
enum mr_err mr_broker_kick(struct mr_broker *broker, struct mr_span client,
                           bool *found) MR_MUST_USE;

/* What a reloaded configuration says.  `listeners`: as many as at the start, in their order; of
 * each `auth`, the limits, `max_connections` and `allow_anonymous` are put in force.  Of `limits`
 * all but max_packet_size, max_topic_levels and overlapping.  Texts are borrowed until the next
 * reload that succeeds, or the end.
 */
struct mr_broker_reloaded {
    const struct mr_listener_conf *const *listeners;
    struct mr_broker_limits limits;
    bool log_connections;
};

/* Put it in force, and with it what the files say now that it names: certificates, keys and
 * revocation lists (of the paths at the start), passwords, keys of tokens, ACL files.  It holds
 * for those who are connected, too: who would not be let in any more is disconnected (0x87); what
 * is published and delivered is checked by the new rules.  What 5.0 clients were told at their
 * CONNECT (Maximum Packet Size, Receive Maximum, Topic Alias Maximum) holds as long as they are
 * connected.
 * CONFIG: something is wrong with a file, `why` says what, faults of ACL files were logged; nothing
 * has changed.  AGAIN: the broker is ending, and some shards may go by the old one.  Any one
 * thread.
 */
enum mr_err mr_broker_reload(struct mr_broker *broker, const struct mr_broker_reloaded *now,
                             struct mr_error *why) MR_MUST_USE;

/* Append records of the control plane to `lane`, in order; *done of them are in, the
 * last one with seq *seq_last.  FULL: no room for the rest now.  REJECT: there is no
 * such lane, or the next record is too large.
 */
enum mr_err mr_broker_append(struct mr_broker *broker, uint32_t lane, struct mr_record_raw *records,
                             size_t count, size_t *done, uint64_t *seq_last) MR_MUST_USE;

/* Who is banned; `each` runs under a mutex and must not call the broker.  Any thread. */
void mr_broker_bans(struct mr_broker *broker,
                    void (*each)(void *arg, const struct mr_ban_info *info), void *arg);

/* Let `who` in again, as mr_broker_bans() names it, or everyone if `who.at` is NULL.  How
 * many that were.  Any thread.
 */
uint64_t mr_broker_bans_clear(struct mr_broker *broker, struct mr_span who);

struct mr_broker_stats {
    uint64_t connections;
    uint64_t connections_total;
    uint64_t publishes_received; /* accepted, all QoS */
    uint64_t publishes_sent;     /* to live subscribers */
    uint64_t messages_dropped;   /* not delivered to a subscriber that was too slow */
    uint64_t subscriptions;
    uint64_t sessions;           /* persistent ones, connected or not */
    uint64_t queued;             /* messages owed to them */
    uint64_t retained;           /* topics with a retained message */
    uint64_t acks_withheld;      /* waiting for the disk now */
    uint64_t connections_paused; /* not read because the journal has no room */
    uint64_t bytes_received;
    uint64_t bytes_sent;
};

/* As of the shards' last turns.  Any thread. */
void mr_broker_stats(const struct mr_broker *broker, struct mr_broker_stats *out);

#endif
