/* sends.c - what many connections have to send is given to the kernel in one piece.
 *
 * DESIGN
 *
 * With one publish in flight per device, a send for each is three quarters of what an event
 * costs.  They are made one behind the other, after all has been read and parsed, and the
 * loop may have a cheaper way than a call for each (os/loop.h).
 *
 * There are two kinds: what was queued lies in the connection's own buffer; acks, which seldom
 * have to wait and of which there are many, lie in ours, and need nothing of the connection's
 * once they have left.
 *
 * INVARIANTS
 *
 *   (1) A connection is gathered once at most, and nothing is queued behind it meanwhile:
 *       whoever wants to queue, write or close makes the sends first.  So what a socket did not
 *       take is the first in the queue.
 *   (2) No one of the owner's is called from here.
 */
#include "net/net_internal.h"

static void sends_add(struct mr_conn *conn, const void *at, size_t len)
{
    struct net_sends *sends = &conn->net->sends;

    mr_assert(!conn->gathered && len != 0);
    conn->gathered = true;
    sends->conn[sends->count] = conn;
    sends->each[sends->count] = (struct mr_send){.at = at, .fd = conn->fd, .len = (uint32_t)len};
    sends->count += 1;
}

void sends_add_soon(struct mr_conn *conn, const void *at, size_t len)
{
    struct net_sends *sends = &conn->net->sends;

    mr_assert(len <= NET_SOON_ONE && conn->out_begin == conn->out_end);
    if (sends->count == NET_SENDS || sends->soon_bytes + len > NET_SOON) {
        sends_make(conn->net);
    }
    uint8_t *into = sends->soon + sends->soon_bytes;
    memcpy(into, at, len);
    sends->soon_bytes += (uint32_t)len;
    sends_add(conn, into, len);
}

void sends_add_queue(struct mr_conn *conn)
{
    mr_assert(conn->net->sends.count < NET_SENDS);
    sends_add(conn, conn->out + conn->out_begin, conn->out_end - conn->out_begin);
}

static void send_made(struct mr_conn *conn, const struct mr_send *send)
{
    struct mr_net_stats *stats = &conn->net->stats;

    conn->gathered = false;
    stats->writes += 1;
    stats->bytes_sent += send->sent;
    if (MR_UNLIKELY(send->err != MR_OK)) {
        conn->failed = MR_CLOSE_BROKEN;
        conn_mark(conn);
    } else if (conn->out_begin != conn->out_end) { /* by (1) it was the queue that was sent */
        conn->out_begin += send->sent;
        conn->pushed = conn->out_begin == conn->out_end;
    } else if (MR_UNLIKELY(send->sent != send->len)) {
        conn_keep_rest(conn, (const uint8_t *)send->at + send->sent,
                       send->len - send->sent); /* (1) */
    }
}

void sends_make(struct mr_net *net)
{
    struct net_sends *sends = &net->sends;
    uint32_t count = sends->count;

    if (count == 0) {
        return;
    }
    mr_loop_send(net->options.loop, sends->each, count);
    sends->count = 0;
    sends->soon_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        send_made(sends->conn[i], &sends->each[i]);
    }
}
