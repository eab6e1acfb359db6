/* net.h - connections: bytes in, bytes out, nothing about what they mean.
 *
 *     loop event ─▶ mr_net_event ─▶ read into the slab ─▶ handler.on_bytes(span)
 *     handler ─▶ mr_conn_send / mr_conn_send_soon ─▶ socket, rest when it has room
 *
 * All connections of a shard share one receive slab and are parsed in place.  A
 * connection borrows memory from the buffer pool only while a packet is
 * incomplete, while bytes wait to be sent, or while it is paused.
 *
 * A connection has an id of slot and generation: an id that outlives its
 * connection matches no one (mr_net_find() says NULL).
 *
 * Thread: owned by one event loop.
 * Memory: conn + user bytes per connection, in chunks that are kept; buffers
 *         from the pool given.
 * Time:   ticks of MR_NET_TICK_NS since mr_net_open(), passed on by the owner.
 */
#ifndef MR_NET_NET_H
#define MR_NET_NET_H

#include "base/bufpool.h"
#include "base/span.h"
#include "os/loop.h"

#include <stdatomic.h>

struct mr_net;
struct mr_conn;

#define MR_NET_TICK_NS 25000000 /* so that nothing is late by more than a tenth of a second */

enum mr_close_why {
    MR_CLOSE_BY_OWNER,  /* mr_conn_close() */
    MR_CLOSE_BY_PEER,   /* end of stream */
    MR_CLOSE_BROKEN,    /* reset, or any other error of the socket */
    MR_CLOSE_MEMORY,    /* the pool has no buffer for what was read, or for what could not leave */
    MR_CLOSE_TLS,       /* the handshake or a record; mr_conn_fault() says what */
    MR_CLOSE_WEBSOCKET, /* the upgrade or a frame; mr_conn_fault() says what */
};

struct mr_net_handler {
    /* A connection was accepted; its user memory is zeroed.  False: refuse it. */
    bool (*on_open)(void *arg, struct mr_conn *conn);

    /* Bytes arrived behind those not consumed before.  Returns how many were
     * consumed; the rest comes again with more behind it.  Before returning it
     * may say how many are wanted (mr_conn_need), pause or close.
     */
    size_t (*on_bytes)(void *arg, struct mr_conn *conn, struct mr_span bytes);

    /* Everything queued has left. */
    void (*on_drained)(void *arg, struct mr_conn *conn);

    /* The tick set by mr_conn_set_timer() has come. */
    void (*on_timer)(void *arg, struct mr_conn *conn);

    /* A packet was begun and does not go on (mr_net_set_patience); end it, or wait longer.
     * NULL: nobody asks.
     */
    void (*on_stuck)(void *arg, struct mr_conn *conn);

    /* Called exactly once per opened connection, in the moment it stops being
     * open (so from inside mr_conn_close() too).  Its id matches no one now; the
     * user memory may be used until this returns.
     */
    void (*on_close)(void *arg, struct mr_conn *conn, enum mr_close_why why);

    /* A connection to a proxied listener ends before it was opened: its header is wrong or did
     * not come (proxy.h).  Its user memory is not to be used.  May be NULL.
     */
    void (*on_stranger)(void *arg, const struct mr_conn *conn, const char *what);
};

/* Connections of several nets that share their listeners' limits.  All zero at first but
 * for the maximum; touched when a connection comes or goes.
 */
enum { MR_NET_LISTENERS_MAX = 64 };
struct mr_net_shared {
    uint32_t connections_max; /* of all of them */
    _Atomic uint32_t connections;
    _Atomic uint32_t of_listener[MR_NET_LISTENERS_MAX];
    _Atomic int64_t accept_due_ns[MR_NET_LISTENERS_MAX]; /* accept_rate.c */
};

struct mr_net_options {
    struct mr_loop *loop;         /* outlives the net */
    struct mr_bufpool *pool;      /* outlives the net */
    uint32_t slab_bytes;          /* 0: 256 KiB */
    uint32_t user_bytes;          /* of the owner's memory in each connection */
    uint32_t connections_max;     /* beyond it nobody is accepted until someone leaves */
    uint32_t descriptors_max;     /* nor with a descriptor from this number on; 0: no matter */
    struct mr_net_shared *shared; /* outlives the net; NULL: it is alone */
    const struct mr_net_handler *handler;
    void *arg;
};

enum mr_err mr_net_open(struct mr_net **out, const struct mr_net_options *options,
                        struct mr_error *why) MR_MUST_USE;

/* Closes what is still open, without on_close and without waiting. */
void mr_net_close(struct mr_net *net);

/* Accept from `fd` (which the net closes) as listener `index`, at most
 * `connections_max` at a time (0: no limit of its own).
 */
enum mr_err mr_net_listen(struct mr_net *net, int fd, uint32_t index, uint64_t connections_max,
                          struct mr_error *why) MR_MUST_USE;

/* Accept nobody any more; those whose PROXY header has not come are closed. */
void mr_net_listen_end(struct mr_net *net);

/* Further limits of a listener; from now on, at any time.  Nets that share have the same. */
struct mr_net_limits {
    uint32_t surplus; /* connections beyond its maximum that are accepted to be refused politely */
    uint32_t rate;    /* connections a second, of all nets together; 0: as they come */
    uint32_t burst;   /* ... and at once; 0: those of one second */
};
void mr_net_limit(struct mr_net *net, uint32_t index, const struct mr_net_limits *limits);
void mr_net_set_max(struct mr_net *net, uint32_t index, uint64_t connections_max); /* likewise */

/* ---- a turn of the owner's loop ---- */

void mr_net_event(struct mr_net *net, const struct mr_ready *ready);
void mr_net_send_soon(struct mr_net *net);           /* what mr_conn_send_soon() has gathered */
void mr_net_flush(struct mr_net *net);               /* send what was queued in this turn */
void mr_net_tick(struct mr_net *net, uint32_t tick); /* timers; accept again; close lingerers */

/* So many ticks from the next one on, at most `most`, in which mr_net_tick() has nothing to do
 * and no paused connection waits to be resumed.
 */
uint32_t mr_net_quiet(const struct mr_net *net, uint32_t most);

/* Bytes read at once from a connection (0: the slab).  Small while the owner
 * cannot take more, so that what it refuses is small too.
 */
void mr_net_set_read_max(struct mr_net *net, uint32_t bytes);

/* How long a packet may take to arrive: so many ticks, and as many again whenever
 * MR_NET_PROGRESS bytes of it came meanwhile; 0: for ever.  Then on_stuck is called.
 */
enum { MR_NET_PROGRESS = 640 };
void mr_net_set_patience(struct mr_net *net, uint32_t ticks);

/* ---- connections ---- */

struct mr_conn *mr_net_find(struct mr_net *net, uint64_t conn_id); /* NULL: not open any more */
void mr_net_each(struct mr_net *net, void (*each)(void *arg, struct mr_conn *conn), void *arg);

/* The next open connection from slot *slot on, which moves behind it; NULL: none. */
struct mr_conn *mr_net_next(struct mr_net *net, uint32_t *slot);

uint64_t mr_conn_id(const struct mr_conn *conn);
uint32_t mr_conn_listener(const struct mr_conn *conn);
const char *mr_conn_peer(const struct mr_conn *conn); /* "10.0.0.7:51812"; lives as long as it */
void *mr_conn_user(struct mr_conn *conn);
struct mr_conn *mr_conn_of_user(void *user);

/* Is its listener beyond its maximum still, and did it come when it was? */
bool mr_conn_is_surplus(const struct mr_conn *conn);

/* Read little at a time: of a connection that is often held, little waits in memory. */
void mr_conn_read_little(struct mr_conn *conn, bool little);

/* What it sends from now on holds no secret: until then, no buffer keeps what was received.
 * From on_bytes.
 */
void mr_conn_secrets_end(struct mr_conn *conn);

/* How many bytes the packet needs that on_bytes could not consume. */
void mr_conn_need(struct mr_conn *conn, uint32_t bytes);

/* Queue `len` bytes; they leave at the next flush, in order.  FULL: the pool has
 * no room, nothing was queued.
 */
enum mr_err mr_conn_send(struct mr_conn *conn, const void *at, size_t len) MR_MUST_USE;

/* Room for `len` bytes at the end of the queue, to be written in place; then
 * mr_conn_commit() says how many were.  NULL: the pool has none.
 */
uint8_t *mr_conn_reserve(struct mr_conn *conn, size_t len) MR_MUST_USE;
void mr_conn_commit(struct mr_conn *conn, size_t len);

/* As mr_conn_send(), but if nothing waits before it, it leaves with mr_net_send_soon(): before
 * all that is queued, and without on_drained.
 */
enum mr_err mr_conn_send_soon(struct mr_conn *conn, const void *at, size_t len) MR_MUST_USE;

/* Let the socket take now what it has room for, so that its memory is free again
 * before the turn ends.  on_drained comes at the flush as ever.
 */
void mr_conn_push(struct mr_conn *conn);
size_t mr_conn_waiting(const struct mr_conn *conn); /* bytes queued */

/* Do not read, and keep what was not consumed, until resumed.  Allowed inside
 * on_bytes.  While more than MR_NET_OUT_HIGH bytes wait to be sent a
 * connection is not read either, without being paused.
 */
enum { MR_NET_OUT_HIGH = 256 << 10 };
void mr_conn_pause(struct mr_conn *conn);
void mr_conn_hold(struct mr_conn *conn);   /* pause, but not among mr_net_paused_first()'s */
void mr_conn_resume(struct mr_conn *conn); /* offers what was kept, then reads again */
bool mr_conn_is_paused(const struct mr_conn *conn);
struct mr_conn *mr_net_paused_first(struct mr_net *net); /* the longest paused one, or NULL */

/* The tick at which on_timer is called; 0: never. */
void mr_conn_set_timer(struct mr_conn *conn, uint32_t tick);

/* Inside on_close() with MR_CLOSE_TLS or MR_CLOSE_WEBSOCKET: what went wrong, for people. */
const char *mr_conn_fault(const struct mr_conn *conn);

/* Tick of its last sign of life: bytes were consumed, or a large packet went on. */
uint32_t mr_conn_heard(const struct mr_conn *conn);

/* A last look before it is called silent: read a little now, unless it is paused.
 * What it said may lie in the socket because we were late, or because too much
 * waits to be sent.  May end it, so find it again by its id.
 */
void mr_conn_listen(struct mr_conn *conn);

/* End it: what is queued still leaves (for two seconds at most), then the peer
 * sees the end of the stream.  Calls on_close(MR_CLOSE_BY_OWNER) unless the
 * connection had ended already.
 */
void mr_conn_close(struct mr_conn *conn);

/* ---- for metrics ---- */

struct mr_net_stats {
    uint64_t open;      /* connections now */
    uint64_t lingering; /* closed, sending their last bytes; or before their PROXY header */
    uint64_t paused;
    uint64_t accepted; /* since start */
    uint64_t refused;  /* accept had to wait for a free place */
    bool accept_waits; /* it does now, for a tick */
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t reads;
    uint64_t writes;
};
const struct mr_net_stats *mr_net_stats(const struct mr_net *net);

#endif
