/* net_internal.h - the insides of a connection; see net.h for the contract.
 *
 * Life of a connection:  FREE -> (GREET) -> OPEN -> (LINGER) -> FREE.  GREET: it waits for
 * its PROXY header.  OPEN: the owner knows it.  LINGER: the owner has been told of its end,
 * the last bytes are leaving.
 */
#ifndef MR_NET_NET_INTERNAL_H
#define MR_NET_NET_INTERNAL_H

#include "net/move.h"
#include "net/net.h"
#include "net/tls.h"
#include "net/websocket.h"
#include "net/wheel.h"

enum {
    CONN_CHUNK = 256,       /* connections allocated at once */
    CONN_SLAB = 256 << 10,  /* default slab */
    CONN_DIRECT = 16 << 10, /* a packet above it is read straight into its own buffer */
    CONN_DIRECT_FIRST = 4 * CONN_DIRECT, /* its first buffer */
    CONN_UNPROVEN_FIRST = 4 << 10,       /* the same of one that has not been let in */
    CONN_UNPROVEN_SHARE = 4,             /* of the pool, for all of those together */
    CONN_GREETINGS = 16,    /* steps of handshakes a turn: 20 ms of CPU with RSA, less with EC */
    CONN_ACCEPT_BURST = 64, /* per listener and turn, so that a storm starves no one */
    CONN_LITTLE = 4 << 10,  /* bytes per read of a connection that is often held */
    CONN_LINGER_TICKS = 2000000000 / MR_NET_TICK_NS, /* to take our last bytes and close */
    CONN_PEER_TEXT = 56,                             /* longest "[v6%scope]:port" that matters */
    CONN_PEER_NEAR = 24,                             /* any v4 address and port */
    NET_SENDS = 256,         /* sends made together; more do not make one cheaper */
    NET_SOON = 32 << 10,     /* bytes of those that are not queued */
    NET_SOON_ONE = 4 << 10,  /* ... of one connection; what has more is queued */
    CONN_SLOTS_MAX = 1 << 24 /* a guard against nonsense, not a tuning knob */
};

struct ws_reader;

enum conn_state { CONN_FREE, CONN_GREET, CONN_OPEN, CONN_LINGER };

/* May what it has sent hold a secret, so that no buffer may keep it? */
enum conn_secret { SECRET_MAYBE, SECRET_ENDING, SECRET_NONE };

/* What lies between the bytes and the socket, and what a proxy has said. */
struct conn_layers {
    struct conn_tls *tls; /* NULL: no TLS */
    struct conn_ws *ws;   /* NULL: no WebSocket */
    char *identity;       /* of proxy.h; NULL: none */
};

/* What was received and not consumed: lent, as its bytes are, while there is something. */
struct conn_in {
    uint8_t *bytes;
    uint32_t capacity; /* of bytes */
    uint32_t len;
    uint32_t need; /* of the packet that they begin; 0: not known */
    uint32_t next; /* slot + 1: list of those with a packet begun (partial.c) */
    uint32_t prev;
    uint32_t since;    /* tick */
    uint32_t len_then; /* `len` at that tick */
    bool listed;
    bool unproven; /* counted in net->unproven_bytes */
};

/* A million of them are idle at a time: what only some have, or all only for a while, is lent
 * or allocated beside it.
 */
struct mr_conn {
    struct mr_net *net;
    uint64_t id; /* generation << 32 | slot */
    struct mr_wheel_node timer;
    struct conn_in *in;         /* NULL: nothing */
    uint8_t *out;               /* lent: bytes to send */
    struct conn_layers *layers; /* NULL: none, the bytes are those of the socket */
    uint32_t out_begin;
    uint32_t out_end;
    uint32_t out_capacity;
    uint32_t heard; /* tick */
    uint32_t next;  /* slot + 1: free list or paused list */
    uint32_t prev;
    uint32_t flush_next; /* slot + 1: queue of those to flush */
    int32_t fd;
    uint8_t state;
    uint8_t secret;   /* enum conn_secret */
    uint8_t watching; /* MR_READY_* as the loop knows it */
    uint8_t listener;
    bool layered; /* TLS, WebSocket or both: bytes are not those of the socket */
    bool paused;
    bool held;      /* paused, and not in the list of those */
    bool dirty;     /* to be flushed */
    bool queued;    /* in the queue of those to flush, perhaps from an earlier life */
    bool offering;  /* on_bytes is running on what may be our `in` */
    bool blocked;   /* the socket took less than there was */
    bool stuck;     /* TLS must write before it can read on */
    bool pushed;    /* all of it has left before the flush */
    bool gathered;  /* something of it is in net->sends */
    uint8_t failed; /* what became of a send, enum mr_close_why; flush ends it.  0: nothing */
    bool shut;      /* our direction has been ended */
    bool little;    /* read little at a time */
    bool surplus;   /* came when its listener was full */
    bool peer_is_far;
    union {
        char near[CONN_PEER_NEAR];
        char *far; /* mr_alloc: its text is longer */
    } peer;
};
_Static_assert(sizeof(struct mr_conn) <= 144, "docs/MEMORY.md, the idle connection");

/* What is about to be sent (sends.c). */
struct net_sends {
    uint32_t count;
    uint32_t soon_bytes; /* of `soon` */
    struct mr_send each[NET_SENDS];
    struct mr_conn *conn[NET_SENDS];
    uint8_t soon[NET_SOON];
};

struct net_listener {
    int fd;
    struct mr_tls *tls;                           /* NULL: no TLS */
    const struct mr_websocket_options *websocket; /* NULL: no WebSocket */
    uint64_t connections_max;
    uint64_t connections; /* unless the limits are shared */
    struct mr_net_limits limits;
    _Atomic int64_t accept_due_ns; /* the same */
    uint32_t again;                /* tick at which to look for a place again; 0: none is missing */
    bool used;
    bool watched;
    bool proxied; /* connections begin with a PROXY header */
};

struct mr_net {
    struct mr_net_options options;
    uint8_t *slab;
    uint32_t read_max;
    uint32_t tick;
    size_t conn_bytes; /* conn and user memory, a multiple of 16 */
    uint8_t **chunks;
    uint32_t slot_count; /* made so far */
    uint32_t free_first; /* slot + 1 */
    uint32_t paused_first;
    uint32_t paused_last;
    uint32_t flush_first; /* slot + 1 */
    uint32_t flush_last;
    uint32_t partial_first; /* slot + 1; the longest first */
    uint32_t partial_last;
    uint32_t patience_ticks; /* 0: for ever */
    uint32_t accept_again;   /* tick; 0: accepting */
    uint64_t unproven_bytes; /* lent for what those sent who have not been let in */
    uint32_t greetings;      /* of this turn */
    uint32_t need;           /* what on_bytes, which is running, has said by mr_conn_need() */
    struct mr_wheel wheel;
    struct net_listener listeners[MR_NET_LISTENERS_MAX];
    struct mr_net_stats stats;
    struct net_sends sends;
    struct ws_reader *ws_spare; /* for whoever is next within a frame; NULL: none */
    uint8_t *ws_out;            /* frames on their way to the wire; NULL: none was made yet */
    struct mr_error fault;      /* of the connection that ends with a fault of its transport */
};

/* The slot's connection, whatever its state. */
static inline struct mr_conn *net_slot(struct mr_net *net, uint32_t slot)
{
    return (struct mr_conn *)(void *)(net->chunks[slot / CONN_CHUNK] +
                                      (slot % CONN_CHUNK) * net->conn_bytes);
}

static inline struct conn_tls *conn_tls(const struct mr_conn *conn)
{
    return MR_LIKELY(conn->layers == NULL) ? NULL : conn->layers->tls;
}

static inline struct conn_ws *conn_ws(const struct mr_conn *conn)
{
    return MR_LIKELY(conn->layers == NULL) ? NULL : conn->layers->ws;
}

/* conn.c: a slot for what the parcel has; NULL if the limit is reached (then all of it stays
 * the caller's).
 */
struct mr_conn *conn_take(struct mr_net *net, const struct mr_conn_parcel *parcel);
struct conn_layers *conn_layers(struct mr_conn *conn); /* its own; made if it has none */
void conn_layered(struct mr_conn *conn);               /* its TLS or WebSocket were set */
void layers_free(struct conn_layers *layers, struct mr_bufpool *pool);
void conn_peer_set(struct mr_conn *conn, const char *peer);
void conn_free(struct mr_conn *conn);
void conn_slot_free(struct mr_conn *conn); /* the same for one whose descriptor has gone */
void conn_end(struct mr_conn *conn, enum mr_close_why why); /* it is over: tell the owner, free */
void conn_linger(struct mr_conn *conn, enum mr_close_why why); /* as above, but first send */
void conn_watch(struct mr_conn *conn); /* tell the loop what we now wait for */
void conn_rearm(struct mr_conn *conn); /* there may be more to read */
void conn_mark(struct mr_conn *conn);  /* flush it at the end of the turn */
void conn_pause_end(struct mr_conn *conn);

struct mr_conn *net_conn(struct mr_net *net, uint64_t conn_id); /* net.c; NULL: it is free */

/* sends.c */
void sends_add_soon(struct mr_conn *conn, const void *at, size_t len); /* copied; NET_SOON_ONE */
void sends_add_queue(struct mr_conn *conn); /* all that it has queued, which is something */
void sends_make(struct mr_net *net);        /* calls nobody; a failure is the flush's to tell */

/* conn_read.c, conn_write.c: react to readiness. */
void conn_read(struct mr_conn *conn);
void conn_write(struct mr_conn *conn);

/* The same two: as mr_socket_read() and mr_socket_write(), by TLS if there is any.  `inside`:
 * only what it has received already.
 */
enum mr_err conn_take_wire(struct mr_conn *conn, uint8_t *into, size_t len, size_t *got,
                           bool inside) MR_MUST_USE;
enum mr_err conn_put_wire(struct mr_conn *conn, const void *at, size_t len,
                          size_t *sent) MR_MUST_USE;
bool conn_in_fill(struct mr_conn *conn, const uint8_t *at, uint32_t len); /* false: no memory */
void conn_in_drop(struct mr_conn *conn);
/* First in the queue: what the socket did not take of more.  Without memory for it the connection
 * ends at the flush, for what has left cannot be taken back.
 */
void conn_keep_rest(struct mr_conn *conn, const uint8_t *at, size_t len);
void conn_out_drop(struct mr_conn *conn);

/* accept.c: the connection gets the TLS and the WebSocket of its listener; false: no memory. */
bool conn_dress(struct mr_conn *conn);
bool conn_announce(struct mr_conn *conn); /* to the owner; false: he refuses, it is free */

/* conn_proxy.c: wait for the header; react to readiness, and to the end of patience. */
void proxy_begin(struct mr_conn *conn);
void proxy_read(struct mr_conn *conn);
void proxy_late(struct mr_conn *conn);

/* partial.c */
void partial_note(struct mr_conn *conn, bool is_new); /* `in` holds the beginning of a packet */
void partial_end(struct mr_conn *conn);               /* `in` is about to go */
void partial_tick(struct mr_net *net);

/* accept_rate.c: may one more come now?  False: not before a later tick. */
bool accept_rate_take(struct mr_net *net, uint32_t index);
void accept_rate_return(struct mr_net *net, uint32_t index); /* nobody came */

/* accept.c: a place at the limits for one more connection, and back. */
bool listener_reserve(struct mr_net *net, uint32_t index);
void listener_leave(struct mr_net *net, uint32_t index);
void listener_accept(struct mr_net *net, uint32_t index);
void listeners_watch(struct mr_net *net);
void listeners_tick(struct mr_net *net); /* who waited long enough looks again */

#endif
