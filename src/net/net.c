/* net.c - a shard's connections as a whole; see net.h for the contract. */
#include "net/net_internal.h"
#include "net/ws_frames_internal.h"

enum mr_err mr_net_open(struct mr_net **out, const struct mr_net_options *options,
                        struct mr_error *why)
{
    if (options->connections_max == 0 || options->connections_max > CONN_SLOTS_MAX) {
        return mr_error_set(why, MR_ERR_CONFIG, "a shard can have 1 to %d connections, not %u",
                            CONN_SLOTS_MAX, options->connections_max);
    }
    struct mr_net *net = mr_alloc(sizeof(*net));

    net->options = *options;
    if (net->options.slab_bytes == 0) {
        net->options.slab_bytes = CONN_SLAB;
    }
    net->read_max = net->options.slab_bytes;
    net->slab = mr_alloc(net->options.slab_bytes + CONN_DIRECT);
    net->conn_bytes = (sizeof(struct mr_conn) + options->user_bytes + 15) & ~(size_t)15;
    net->tick = 1;
    mr_wheel_init(&net->wheel, net->tick);
    *out = net;
    return MR_OK;
}

void mr_net_close(struct mr_net *net)
{
    if (net == NULL) {
        return;
    }
    mr_net_listen_end(net);
    for (uint32_t slot = 0; slot < net->slot_count; slot++) {
        struct mr_conn *conn = net_slot(net, slot);
        if (conn->state == CONN_OPEN) {
            conn_pause_end(conn);
            conn->state = CONN_LINGER;
            net->stats.open -= 1;
            net->stats.lingering += 1;
        }
        if (conn->state != CONN_FREE) {
            conn_free(conn);
        }
    }
    for (uint32_t chunk = 0; chunk < net->slot_count / CONN_CHUNK; chunk++) {
        mr_free(net->chunks[chunk]);
    }
    ws_reader_free(net->ws_spare);
    mr_free(net->ws_out);
    mr_free(net->chunks);
    mr_free(net->slab);
    mr_free(net);
}

/* The connection an id means, if it still is that one. */
struct mr_conn *net_conn(struct mr_net *net, uint64_t conn_id)
{
    uint32_t slot = (uint32_t)conn_id;

    if (slot >= net->slot_count) {
        return NULL;
    }
    struct mr_conn *conn = net_slot(net, slot);
    return conn->id == conn_id && conn->state != CONN_FREE ? conn : NULL;
}

struct mr_conn *mr_net_find(struct mr_net *net, uint64_t conn_id)
{
    struct mr_conn *conn = net_conn(net, conn_id);

    return conn != NULL && conn->state == CONN_OPEN ? conn : NULL;
}

void mr_net_each(struct mr_net *net, void (*each)(void *arg, struct mr_conn *conn), void *arg)
{
    for (uint32_t slot = 0; slot < net->slot_count; slot++) {
        struct mr_conn *conn = net_slot(net, slot);
        if (conn->state == CONN_OPEN) {
            each(arg, conn);
        }
    }
}

struct mr_conn *mr_net_next(struct mr_net *net, uint32_t *slot)
{
    while (*slot < net->slot_count) {
        struct mr_conn *conn = net_slot(net, *slot);
        *slot += 1;
        if (conn->state == CONN_OPEN) {
            return conn;
        }
    }
    return NULL;
}

void mr_net_event(struct mr_net *net, const struct mr_ready *ready)
{
    if (ready->tag < MR_NET_LISTENERS_MAX) {
        listener_accept(net, (uint32_t)ready->tag);
        return;
    }
    if ((ready->what & MR_READY_WRITE) != 0) {
        struct mr_conn *conn = net_conn(net, ready->tag);
        if (conn != NULL) {
            conn_write(conn);
            conn = net_conn(net, ready->tag);
        }
        if (conn != NULL && conn->stuck) {
            conn_read(conn);
        }
    }
    /* Each step may end the connection, so each looks it up again. */
    struct mr_conn *conn = net_conn(net, ready->tag);
    if (conn == NULL) {
        return;
    }
    if ((ready->what & MR_READY_READ) != 0) {
        conn_read(conn); /* reports the end by itself, after the last bytes */
        if ((ready->what & (MR_READY_END | MR_READY_GONE)) != 0) {
            conn = net_conn(net, ready->tag);
            if (conn != NULL) {
                conn_rearm(conn);
            }
        }
    } else if ((ready->what & MR_READY_GONE) != 0) {
        conn_end(conn, MR_CLOSE_BROKEN);
    }
}

void mr_net_tick(struct mr_net *net, uint32_t tick)
{
    struct mr_wheel_node *node;

    net->tick = tick;
    if (net->stats.accept_waits) {
        listeners_tick(net);
    }
    partial_tick(net);
    while ((node = mr_wheel_expired(&net->wheel, tick)) != NULL) {
        struct mr_conn *conn =
            (struct mr_conn *)(void *)((uint8_t *)node - offsetof(struct mr_conn, timer));
        if (conn->state == CONN_LINGER) {
            conn_free(conn);
        } else if (conn->state == CONN_GREET) {
            proxy_late(conn);
        } else {
            net->options.handler->on_timer(net->options.arg, conn);
        }
    }
}

uint32_t mr_net_quiet(const struct mr_net *net, uint32_t most)
{
    if (net->stats.accept_waits || net->stats.paused != 0 || net->partial_first != 0) {
        return 0;
    }
    return mr_wheel_quiet(&net->wheel, most);
}

void mr_net_set_read_max(struct mr_net *net, uint32_t bytes)
{
    net->read_max = bytes == 0 || bytes > net->options.slab_bytes ? net->options.slab_bytes : bytes;
}

const struct mr_net_stats *mr_net_stats(const struct mr_net *net)
{
    return &net->stats;
}
