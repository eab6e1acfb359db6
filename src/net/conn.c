/* conn.c - slots of connections, their life and what the loop watches for them.
 *
 * DESIGN
 *
 * Connections lie in chunks that are never moved or returned, so a pointer to
 * one is good as long as its id is; free slots form a list.  The paused ones
 * form another through the same two links, in the order in which they paused,
 * because a connection is never free and paused at once.
 *
 * A connection that the owner closes LINGERs: close() with unread input makes
 * the kernel send a reset, which may overtake our last packet (the DISCONNECT
 * that says why).  So we send, end our direction, and read into the void until
 * the peer ends his, or two seconds are over.
 *
 * INVARIANTS
 *
 *   (1) on_close is called exactly once for each successful on_open, in the
 *       moment the state leaves OPEN.
 *   (2) A generation is never 0 and never UINT32_MAX, so that no id collides with
 *       a listener's tag (generation 0) or with the loop's own tag.
 */
#include "net/net_internal.h"
#include "net/tls_internal.h"
#include "net/ws_internal.h"

/* Make CONN_CHUNK more slots.  False: the limit is reached. */
static bool slots_grow(struct mr_net *net)
{
    if (net->slot_count >= net->options.connections_max) {
        return false;
    }
    uint32_t chunk = net->slot_count / CONN_CHUNK;
    net->chunks = mr_realloc(net->chunks, (chunk + 1) * sizeof(*net->chunks));
    net->chunks[chunk] = mr_alloc(CONN_CHUNK * net->conn_bytes);
    net->slot_count += CONN_CHUNK;
    for (uint32_t i = CONN_CHUNK; i > 0; i--) {
        uint32_t slot = chunk * CONN_CHUNK + i - 1;
        struct mr_conn *conn = net_slot(net, slot);
        conn->net = net;
        conn->id = (uint64_t)1 << 32 | slot;
        conn->fd = -1;
        conn->next = net->free_first;
        net->free_first = slot + 1;
    }
    return true;
}

struct conn_layers *conn_layers(struct mr_conn *conn)
{
    if (conn->layers == NULL) {
        conn->layers = mr_alloc(sizeof(*conn->layers));
    }
    return conn->layers;
}

void conn_layered(struct mr_conn *conn)
{
    conn->layered = conn_tls(conn) != NULL || conn_ws(conn) != NULL;
}

void layers_free(struct conn_layers *layers, struct mr_bufpool *pool)
{
    if (layers == NULL) {
        return;
    }
    if (layers->tls != NULL) {
        tls_free(layers->tls);
    }
    if (layers->ws != NULL) {
        ws_free(layers->ws, pool);
    }
    mr_free(layers->identity);
    mr_free(layers);
}

static void peer_drop(struct mr_conn *conn)
{
    if (conn->peer_is_far) {
        mr_free(conn->peer.far);
        conn->peer_is_far = false;
    }
}

void conn_peer_set(struct mr_conn *conn, const char *peer)
{
    size_t bytes = strlen(peer) + 1;

    peer_drop(conn);
    conn->peer_is_far = bytes > sizeof(conn->peer.near);
    if (conn->peer_is_far) {
        conn->peer.far = mr_strdup(peer);
    } else {
        memcpy(conn->peer.near, peer, bytes);
    }
}

struct mr_conn *conn_take(struct mr_net *net, const struct mr_conn_parcel *parcel)
{
    if (net->free_first == 0 && !slots_grow(net)) {
        return NULL;
    }
    struct mr_conn *conn = net_slot(net, net->free_first - 1);

    if (mr_loop_add(net->options.loop, parcel->fd, MR_READY_READ | MR_READY_EDGE, conn->id) !=
        MR_OK) {
        return NULL;
    }
    conn->layers = parcel->layers;
    conn_layered(conn);
    net->free_first = conn->next;
    conn->next = 0;
    conn->prev = 0;
    conn->fd = parcel->fd;
    conn->state = CONN_OPEN;
    conn->secret = SECRET_MAYBE;
    conn->watching = MR_READY_READ | MR_READY_EDGE;
    conn->listener = (uint8_t)parcel->listener;
    conn->heard = net->tick;
    conn_peer_set(conn, parcel->peer);
    memset(mr_conn_user(conn), 0, net->options.user_bytes);
    net->stats.open += 1;
    return conn;
}

void conn_free(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;

    mr_assert(conn->state != CONN_OPEN);
    if (conn->state != CONN_FREE) {
        net->stats.lingering -= 1;
    }
    if (conn->gathered) {
        sends_make(net); /* the next one with this descriptor must not get it */
    }
    mr_loop_remove(net->options.loop, conn->fd);
    mr_socket_close(conn->fd);
    listener_leave(net, conn->listener);
    conn_slot_free(conn);
    listeners_watch(net);
}

void conn_slot_free(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;
    uint32_t slot = (uint32_t)conn->id;
    uint32_t generation = (uint32_t)(conn->id >> 32) + 1;

    mr_assert(!conn->paused);
    conn_in_drop(conn);
    conn_out_drop(conn);
    layers_free(conn->layers, net->options.pool);
    conn->layers = NULL;
    peer_drop(conn);
    mr_wheel_cancel(&net->wheel, &conn->timer);
    conn->fd = -1;
    conn->state = CONN_FREE;
    conn->dirty = false;
    conn->blocked = false;
    conn->stuck = false;
    conn->pushed = false;
    conn->failed = 0;
    conn->shut = false;
    conn->little = false;
    conn->surplus = false;
    conn->id = (uint64_t)(generation == UINT32_MAX ? 1 : generation) << 32 | slot;
    conn->prev = 0;
    conn->next = net->free_first;
    net->free_first = slot + 1;
}

/* Leave OPEN: (1). */
static void conn_leave(struct mr_conn *conn, enum mr_close_why why)
{
    struct mr_net *net = conn->net;

    mr_assert(conn->state == CONN_OPEN);
    conn_pause_end(conn);
    conn->state = CONN_LINGER;
    net->stats.open -= 1;
    net->stats.lingering += 1;
    net->options.handler->on_close(net->options.arg, conn, why);
}

void conn_end(struct mr_conn *conn, enum mr_close_why why)
{
    if (conn->state == CONN_OPEN) {
        conn_leave(conn, why);
    }
    conn_free(conn);
}

void mr_conn_close(struct mr_conn *conn)
{
    if (conn->state == CONN_OPEN) {
        conn_linger(conn, MR_CLOSE_BY_OWNER);
    }
}

void conn_linger(struct mr_conn *conn, enum mr_close_why why)
{
    conn_leave(conn, why);
    mr_wheel_set(&conn->net->wheel, &conn->timer, conn->net->tick + CONN_LINGER_TICKS);
    if (!conn->offering) {
        conn_in_drop(conn);
    }
    conn_mark(conn);
}

/* A slot that is freed while queued stays in the queue and is passed over, or
 * serves its next life: so each slot is in the queue once at most, and marking
 * never has to flush, which would end other connections in the owner's hands.
 */
void conn_mark(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;
    uint32_t mine = (uint32_t)conn->id + 1;

    conn->dirty = true;
    if (conn->queued) {
        return;
    }
    conn->queued = true;
    conn->flush_next = 0;
    if (net->flush_last != 0) {
        net_slot(net, net->flush_last - 1)->flush_next = mine;
    } else {
        net->flush_first = mine;
    }
    net->flush_last = mine;
}

/* Sockets are watched edge-triggered: with 1,000 devices of one publish in flight
 * each, that is 6 % of the shard's CPU (median of 10 pairs).  The price is to say when a
 * read may have left something.
 */
void conn_rearm(struct mr_conn *conn)
{
    mr_loop_change(conn->net->options.loop, conn->fd, conn->watching, conn->id);
}

void conn_watch(struct mr_conn *conn)
{
    uint8_t what = (uint8_t)(MR_READY_EDGE | (conn->blocked || conn->stuck ? MR_READY_WRITE : 0));
    bool full = conn->blocked && mr_conn_waiting(conn) > MR_NET_OUT_HIGH;

    if (conn->state == CONN_LINGER || (!conn->paused && !full)) {
        what |= MR_READY_READ;
    }
    if (what != conn->watching) {
        conn->watching = what;
        mr_loop_change(conn->net->options.loop, conn->fd, what, conn->id);
    }
}

void mr_conn_pause(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;
    uint32_t mine = (uint32_t)conn->id + 1;

    if (conn->paused || conn->state != CONN_OPEN) {
        return;
    }
    conn->paused = true;
    conn->next = 0;
    conn->prev = net->paused_last;
    if (net->paused_last != 0) {
        net_slot(net, net->paused_last - 1)->next = mine;
    } else {
        net->paused_first = mine;
    }
    net->paused_last = mine;
    net->stats.paused += 1;
    conn_watch(conn);
}

void mr_conn_hold(struct mr_conn *conn)
{
    if (!conn->paused && conn->state == CONN_OPEN) {
        conn->paused = true;
        conn->held = true;
        conn_watch(conn);
    }
}

void conn_pause_end(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;

    if (!conn->paused) {
        return;
    }
    conn->paused = false;
    if (conn->held) {
        conn->held = false;
        return;
    }
    if (conn->prev != 0) {
        net_slot(net, conn->prev - 1)->next = conn->next;
    } else {
        net->paused_first = conn->next;
    }
    if (conn->next != 0) {
        net_slot(net, conn->next - 1)->prev = conn->prev;
    } else {
        net->paused_last = conn->prev;
    }
    conn->next = 0;
    conn->prev = 0;
    net->stats.paused -= 1;
}

struct mr_conn *mr_net_paused_first(struct mr_net *net)
{
    return net->paused_first == 0 ? NULL : net_slot(net, net->paused_first - 1);
}

bool mr_conn_is_paused(const struct mr_conn *conn)
{
    return conn->paused;
}

uint64_t mr_conn_id(const struct mr_conn *conn)
{
    return conn->id;
}

uint32_t mr_conn_listener(const struct mr_conn *conn)
{
    return conn->listener;
}

const char *mr_conn_peer(const struct mr_conn *conn)
{
    return conn->peer_is_far ? conn->peer.far : conn->peer.near;
}

void *mr_conn_user(struct mr_conn *conn)
{
    return conn + 1;
}

struct mr_conn *mr_conn_of_user(void *user)
{
    return (struct mr_conn *)user - 1;
}

const char *mr_conn_fault(const struct mr_conn *conn)
{
    return conn->net->fault.text;
}

uint32_t mr_conn_heard(const struct mr_conn *conn)
{
    return conn->heard;
}

void mr_conn_set_timer(struct mr_conn *conn, uint32_t tick)
{
    mr_assert(conn->state == CONN_OPEN);
    if (tick == 0) {
        mr_wheel_cancel(&conn->net->wheel, &conn->timer);
    } else {
        mr_wheel_set(&conn->net->wheel, &conn->timer, tick);
    }
}
