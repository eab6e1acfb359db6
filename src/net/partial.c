/* partial.c - packets that were begun and do not go on.
 *
 * A peer that sends half a packet and falls silent, or goes on byte by byte, holds a
 * buffer for as long as its keep alive allows, and with keep alive 0 for ever.  So the
 * connections that hold the beginning of a packet are in a list in the order in which it
 * began; a tick looks at the front of it.  Who has brought enough meanwhile, or is not
 * read by our own doing, goes to its end.
 *
 * A connection whose packets arrive whole is never in it.  One with a WebSocket is in it within
 * a frame too, and begins anew with each packet of that frame.
 */
#include "net/net_internal.h"

static void partial_unlink(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;
    struct conn_in *in = conn->in;

    if (in->prev != 0) {
        net_slot(net, in->prev - 1)->in->next = in->next;
    } else {
        net->partial_first = in->next;
    }
    if (in->next != 0) {
        net_slot(net, in->next - 1)->in->prev = in->prev;
    } else {
        net->partial_last = in->prev;
    }
    in->next = 0;
    in->prev = 0;
    in->listed = false;
}

static void partial_link(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;
    struct conn_in *in = conn->in;
    uint32_t mine = (uint32_t)conn->id + 1;

    in->next = 0;
    in->prev = net->partial_last;
    if (net->partial_last != 0) {
        net_slot(net, net->partial_last - 1)->in->next = mine;
    } else {
        net->partial_first = mine;
    }
    net->partial_last = mine;
    in->since = net->tick;
    in->len_then = in->len;
    in->listed = true;
}

void partial_note(struct mr_conn *conn, bool is_new)
{
    if (conn->in->listed && !is_new) {
        return;
    }
    partial_end(conn);
    partial_link(conn);
}

void partial_end(struct mr_conn *conn)
{
    if (conn->in->listed) {
        partial_unlink(conn);
    }
}

/* Is it us who do not read it, or has it brought enough? */
static bool partial_may_stay(const struct mr_conn *conn)
{
    bool full = conn->blocked && mr_conn_waiting(conn) > MR_NET_OUT_HIGH;

    return conn->paused || full || conn->in->len >= conn->in->len_then + MR_NET_PROGRESS;
}

void partial_tick(struct mr_net *net)
{
    /* Each once at most: those that stay go to the end with the tick of now. */
    while (net->patience_ticks != 0 && net->partial_first != 0) {
        struct mr_conn *conn = net_slot(net, net->partial_first - 1);

        if (net->tick - conn->in->since < net->patience_ticks) {
            return;
        }
        partial_unlink(conn);
        if (conn->state != CONN_OPEN || net->options.handler->on_stuck == NULL) {
            continue;
        }
        bool stays = partial_may_stay(conn);
        partial_link(conn);
        if (!stays) {
            net->options.handler->on_stuck(net->options.arg, conn);
        }
    }
}

void mr_net_set_patience(struct mr_net *net, uint32_t ticks)
{
    net->patience_ticks = ticks;
}
