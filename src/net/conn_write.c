/* conn_write.c - send: queue in a lent buffer, flush once per turn.
 *
 * DESIGN
 *
 * Answers of a turn gather in the connection's lent buffer.  What the owner has gathered
 * itself (acks) goes without one.  Either leaves together with what others have to send
 * (sends.c), unless there is TLS or a WebSocket between.  The loop watches for room only
 * after the socket took less than there was.
 *
 * An error while sending is remembered and acted on by flush, never inside the
 * owner's call: the owner may go on using its connection until it returns to us.
 */
#include "net/net_internal.h"
#include "net/tls_internal.h"
#include "net/ws_internal.h"

void conn_out_drop(struct mr_conn *conn)
{
    if (conn->out != NULL) {
        mr_bufpool_give(conn->net->options.pool, conn->out, conn->out_capacity);
    }
    conn->out = NULL;
    conn->out_begin = 0;
    conn->out_end = 0;
    conn->out_capacity = 0;
}

enum mr_err conn_put_wire(struct mr_conn *conn, const void *at, size_t len, size_t *sent)
{
    struct conn_tls *tls = conn_tls(conn);

    if (MR_LIKELY(tls == NULL)) {
        return mr_socket_write(conn->fd, at, len, sent);
    }
    return tls_write(tls, at, len, sent);
}

/* Send from the queue, once.  What has not left when *sent is 0 waits for room. */
static enum mr_err out_send(struct mr_conn *conn, size_t *sent)
{
    enum mr_err err;

    if (MR_UNLIKELY(conn_ws(conn) != NULL)) {
        err = ws_send(conn, sent);
    } else {
        err =
            conn_put_wire(conn, conn->out + conn->out_begin, conn->out_end - conn->out_begin, sent);
        conn->out_begin += (uint32_t)*sent;
    }
    conn->net->stats.writes += 1;
    conn->net->stats.bytes_sent += *sent;
    return err;
}

static bool out_waits(const struct mr_conn *conn)
{
    return conn->out_begin != conn->out_end || (conn_ws(conn) != NULL && ws_waits(conn_ws(conn)));
}

size_t mr_conn_waiting(const struct mr_conn *conn)
{
    return conn->out_end - conn->out_begin;
}

uint8_t *mr_conn_reserve(struct mr_conn *conn, size_t len)
{
    if (MR_UNLIKELY(conn->gathered)) {
        sends_make(conn->net); /* it is before this, and may not leave whole */
    }
    uint32_t waiting = conn->out_end - conn->out_begin;

    if (conn->out_end + len <= conn->out_capacity) {
        return conn->out + conn->out_end;
    }
    if (waiting + len > UINT32_MAX / 4) {
        return NULL;
    }
    if (waiting + len <= conn->out_capacity && waiting <= conn->out_begin) {
        memcpy(conn->out, conn->out + conn->out_begin, waiting);
    } else {
        size_t capacity = 0;
        size_t wanted = waiting + len + waiting / 2; /* by half, then by class */
        uint8_t *buffer = mr_bufpool_take(conn->net->options.pool, wanted, &capacity);
        if (buffer == NULL) {
            return NULL;
        }
        if (waiting != 0) {
            memcpy(buffer, conn->out + conn->out_begin, waiting);
        }
        conn_out_drop(conn);
        conn->out = buffer;
        conn->out_capacity = (uint32_t)capacity;
    }
    conn->out_begin = 0;
    conn->out_end = waiting;
    return conn->out + conn->out_end;
}

void mr_conn_commit(struct mr_conn *conn, size_t len)
{
    mr_assert(conn->out_end + len <= conn->out_capacity);
    conn->out_end += (uint32_t)len;
    if (!conn->blocked) {
        conn_mark(conn);
    }
}

enum mr_err mr_conn_send(struct mr_conn *conn, const void *at, size_t len)
{
    uint8_t *room = conn->state == CONN_OPEN ? mr_conn_reserve(conn, len) : NULL;

    if (room == NULL) {
        return MR_ERR_FULL;
    }
    memcpy(room, at, len);
    mr_conn_commit(conn, len);
    return MR_OK;
}

void conn_keep_rest(struct mr_conn *conn, const uint8_t *at, size_t len)
{
    uint8_t *room = mr_conn_reserve(conn, len);

    if (room == NULL) {
        conn->failed = MR_CLOSE_MEMORY;
        conn_mark(conn);
        return;
    }
    memcpy(room, at, len);
    mr_conn_commit(conn, len);
}

/* What lies between it and the socket has to see it, so it cannot wait for the others. */
static enum mr_err send_layered(struct mr_conn *conn, const void *at, size_t len)
{
    size_t sent = 0;

    if (conn_ws(conn) != NULL) { /* a frame's header goes with it */
        enum mr_err err = mr_conn_send(conn, at, len);
        mr_conn_push(conn);
        return err;
    }
    conn->net->stats.writes += 1;
    if (conn_put_wire(conn, at, len, &sent) != MR_OK) {
        conn->failed = MR_CLOSE_BROKEN;
        conn_mark(conn);
        return MR_OK;
    }
    conn->net->stats.bytes_sent += sent;
    if (sent != len) {
        conn_keep_rest(conn, (const uint8_t *)at + sent, len - sent);
    }
    return MR_OK;
}

enum mr_err mr_conn_send_soon(struct mr_conn *conn, const void *at, size_t len)
{
    if (conn->state != CONN_OPEN) {
        return MR_ERR_FULL;
    }
    if (MR_UNLIKELY(conn->failed != 0)) {
        return MR_OK; /* flush will tell */
    }
    if (conn->out_begin != conn->out_end || conn->gathered || len > NET_SOON_ONE) {
        return mr_conn_send(conn, at, len);
    }
    if (MR_UNLIKELY(conn->layered)) {
        return send_layered(conn, at, len);
    }
    sends_add_soon(conn, at, len);
    return MR_OK;
}

void mr_conn_push(struct mr_conn *conn)
{
    size_t sent = 0;

    if (conn->out_begin == conn->out_end || conn->blocked || conn->failed != 0) {
        return;
    }
    if (out_send(conn, &sent) != MR_OK) {
        conn->failed = MR_CLOSE_BROKEN; /* flush ends it: what is queued is marked */
        return;
    }
    if (conn->out_begin == conn->out_end) {
        conn_out_drop(conn);
        conn->pushed = true;
    }
}

void conn_write(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;

    if (MR_UNLIKELY(conn->gathered)) {
        sends_make(net);
    }
    bool had = conn->out_begin != conn->out_end || conn->pushed;
    conn->pushed = false;
    while (out_waits(conn) && conn->failed == 0) {
        size_t sent = 0;
        if (out_send(conn, &sent) != MR_OK) {
            conn->failed = MR_CLOSE_BROKEN;
            break;
        }
        if (sent == 0) {
            conn->blocked = true;
            conn_watch(conn);
            return;
        }
    }
    if (conn->failed != 0) {
        conn_end(conn, (enum mr_close_why)conn->failed);
        return;
    }
    conn_out_drop(conn);
    conn->blocked = false;
    if (conn->state == CONN_LINGER && conn_ws(conn) != NULL && ws_say_close(conn_ws(conn))) {
        conn_mark(conn);
    } else if (conn->state == CONN_LINGER && !conn->shut) {
        conn->shut = true;
        if (conn_tls(conn) != NULL) {
            tls_end(conn_tls(conn));
        }
        mr_socket_shutdown(conn->fd);
    }
    conn_watch(conn);
    if (had && conn->state == CONN_OPEN) {
        net->options.handler->on_drained(net->options.arg, conn);
    }
}

void mr_net_send_soon(struct mr_net *net)
{
    sends_make(net);
}

/* The first in the queue of those to flush, taken out of it; NULL: it is empty. */
static struct mr_conn *flush_take(struct mr_net *net)
{
    while (net->flush_first != 0) {
        struct mr_conn *conn = net_slot(net, net->flush_first - 1);
        net->flush_first = conn->flush_next;
        net->flush_last = net->flush_first == 0 ? 0 : net->flush_last;
        conn->queued = false;
        if (conn->dirty) {
            conn->dirty = false;
            return conn;
        }
    }
    return NULL;
}

/* Some of them: first all sends together, then whatever follows from them, which may end any. */
static void flush_some(struct mr_net *net)
{
    struct mr_conn *conn;
    uint64_t ids[NET_SENDS];
    uint32_t count = 0;

    sends_make(net);
    while (count < NET_SENDS && (conn = flush_take(net)) != NULL) {
        ids[count] = conn->id;
        count += 1;
        if (conn->out_begin != conn->out_end && conn->failed == 0 && !conn->layered) {
            sends_add_queue(conn);
        }
    }
    sends_make(net);
    for (uint32_t i = 0; i < count; i++) {
        conn = net_conn(net, ids[i]);
        if (conn != NULL) {
            conn_write(conn);
        }
    }
}

void mr_net_flush(struct mr_net *net)
{
    net->greetings = 0;
    /* on_drained may mark more; they come up at the end. */
    do {
        flush_some(net);
    } while (net->flush_first != 0);
}
