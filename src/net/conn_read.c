/* conn_read.c - receive: one slab for all, parsed in place.
 *
 * DESIGN
 *
 * A read fills the shard's slab and the owner parses it there.  What remains is
 * the beginning of one packet; it is copied into a lent buffer, and before the
 * next read copied to the front of the slab, so that whatever follows it is
 * still received with one call.  For packets above CONN_DIRECT these copies
 * would cost more than the call: their remainder is read straight into a buffer
 * of their own, up to their last byte and no further.
 *
 * That buffer grows with what has really arrived (four times at once), so that
 * announcing a large packet does not claim its memory.
 *
 * Rejected: a buffer per connection.  4 KiB each is 4 GiB for a million idle
 * devices.
 *
 * INVARIANT: while a connection is open and not paused, `in` holds less than one
 * packet.
 */
#include "net/net_internal.h"
#include "net/tls_internal.h"
#include "net/ws_internal.h"

static void in_free(struct mr_conn *conn)
{
    if (conn->in != NULL) {
        if (MR_UNLIKELY(conn->secret != SECRET_NONE)) {
            mr_wipe(conn->in, conn->in_capacity);
        }
        mr_bufpool_give(conn->net->options.pool, conn->in, conn->in_capacity);
    }
    conn->in = NULL;
    conn->in_len = 0;
    conn->in_capacity = 0;
    conn->in_need = 0;
}

void conn_in_drop(struct mr_conn *conn)
{
    in_free(conn);
    partial_end(conn);
}

/* Keep `len` bytes at `at` (perhaps inside `in` itself), with room as they need. */
static bool in_keep(struct mr_conn *conn, const uint8_t *at, uint32_t len)
{
    uint32_t need = conn->in_need;
    uint32_t wanted = len;

    if (len == 0) {
        conn_in_drop(conn);
        return true;
    }
    if (need > CONN_DIRECT && !conn->paused) {
        wanted = len < CONN_DIRECT ? 4 * CONN_DIRECT : 4 * len;
        wanted = wanted > need ? need : wanted;
    }
    bool fits = conn->in != NULL && conn->in_capacity >= wanted;
    size_t capacity = 0;
    uint8_t *buffer = NULL;
    if (!fits || conn->in_capacity / 8 > wanted) { /* too small, or a waste */
        buffer = mr_bufpool_take(conn->net->options.pool, wanted, &capacity);
    }
    if (buffer == NULL && fits) {
        memmove(conn->in, at, len);
        conn->in_len = len;
        return true;
    }
    if (buffer == NULL) {
        return false;
    }
    mr_assert(at != NULL);
    memcpy(buffer, at, len);
    in_free(conn);
    conn->in = buffer;
    conn->in_capacity = (uint32_t)capacity;
    conn->in_len = len;
    conn->in_need = need;
    return true;
}

/* Nothing is left in the slab of what may have been secret; from the owner's word on nothing is. */
static void in_wipe(struct mr_conn *conn, const uint8_t *at, uint32_t len)
{
    struct mr_net *net = conn->net;

    if (at == net->slab) {
        mr_wipe(net->slab, len);
    }
    if (conn->secret == SECRET_ENDING) {
        conn->secret = SECRET_NONE;
    }
}

/* Let the owner parse, and keep what it leaves. */
static void in_offer(struct mr_conn *conn, const uint8_t *at, uint32_t len)
{
    struct mr_net *net = conn->net;
    bool secret = conn->secret != SECRET_NONE;

    conn->in_need = 0;
    conn->offering = true;
    size_t used = net->options.handler->on_bytes(net->options.arg, conn,
                                                 (struct mr_span){.at = at, .len = len});
    conn->offering = false;
    mr_assert(used <= len);
    if (conn->state != CONN_OPEN) {
        conn_in_drop(conn);
        in_wipe(conn, at, secret ? len : 0);
        return;
    }
    if (used != 0 || conn->in_need > CONN_DIRECT) {
        conn->heard = net->tick;
    }
    uint32_t left = len - (uint32_t)used;
    mr_assert(conn->paused || conn->in_need > left || left <= 16);
    bool kept = in_keep(conn, at + used, left);
    if (MR_UNLIKELY(secret)) {
        in_wipe(conn, at, len);
    }
    if (!kept) {
        conn_end(conn, MR_CLOSE_MEMORY);
        return;
    }
    if (MR_UNLIKELY(left != 0)) {
        partial_note(conn, used != 0);
    }
    conn_watch(conn);
}

enum mr_err conn_take_wire(struct mr_conn *conn, uint8_t *into, size_t len, size_t *got,
                           bool inside)
{
    if (conn->tls == NULL) {
        return mr_socket_read(conn->fd, into, len, got);
    }
    enum mr_err err = tls_read(conn->tls, into, len, got, inside, &conn->net->fault);
    bool stuck = tls_wants_room(conn->tls);
    if (stuck != conn->stuck) {
        conn->stuck = stuck;
        conn_watch(conn);
    }
    return err;
}

static enum mr_err in_take(struct mr_conn *conn, uint8_t *into, size_t len, size_t *got,
                           bool inside)
{
    if (MR_LIKELY(!conn->layered)) {
        return mr_socket_read(conn->fd, into, len, got);
    }
    return conn->ws != NULL ? ws_take(conn, into, len, got, inside)
                            : conn_take_wire(conn, into, len, got, inside);
}

/* The end of the stream, a broken one, or nothing at all: true if there are bytes. */
static bool in_got(struct mr_conn *conn, enum mr_err err, size_t asked, size_t got)
{
    if (err == MR_ERR_AGAIN) {
        return false;
    }
    if (err == MR_ERR_REJECT) { /* what tells the peer why may still be on its way */
        conn_in_drop(conn);
        conn_linger(conn, conn->ws != NULL ? ws_close_why(conn) : MR_CLOSE_TLS);
        return false;
    }
    if (err != MR_OK || got == 0) {
        conn_end(conn, err == MR_OK ? MR_CLOSE_BY_PEER : MR_CLOSE_BROKEN);
        return false;
    }
    if (got == asked) {
        conn_rearm(conn);
    }
    conn->net->stats.reads += 1;
    conn->net->stats.bytes_received += got;
    return true;
}

/* A large packet: into its own buffer, not beyond its end. */
static bool in_read_direct(struct mr_conn *conn, bool inside)
{
    size_t got = 0;

    if (conn->in_len == conn->in_capacity && !in_keep(conn, conn->in, conn->in_len)) {
        conn_end(conn, MR_CLOSE_MEMORY);
        return false;
    }
    uint32_t end = conn->in_need < conn->in_capacity ? conn->in_need : conn->in_capacity;
    enum mr_err err = in_take(conn, conn->in + conn->in_len, end - conn->in_len, &got, inside);
    if (!in_got(conn, err, end - conn->in_len, got)) {
        return false;
    }
    conn->in_len += (uint32_t)got;
    conn->heard = conn->net->tick; /* nothing else can come before its last byte */
    if (conn->in_len == conn->in_need) {
        in_offer(conn, conn->in, conn->in_len);
    }
    return true;
}

/* One read of an open connection.  False: there was nothing, or it has ended. */
static bool in_read(struct mr_conn *conn, uint32_t max, bool inside)
{
    struct mr_net *net = conn->net;
    size_t got = 0;

    if (conn->in_need > CONN_DIRECT) {
        return in_read_direct(conn, inside);
    }
    mr_assert(conn->in_len <= CONN_DIRECT);
    if (conn->in_len != 0) {
        memcpy(net->slab, conn->in, conn->in_len);
    }
    enum mr_err err = in_take(conn, net->slab + conn->in_len, max, &got, inside);
    if (!in_got(conn, err, max, got)) {
        return false;
    }
    in_offer(conn, net->slab, conn->in_len + (uint32_t)got);
    return true;
}

static bool layers_have_more(const struct mr_conn *conn)
{
    return (conn->ws != NULL && ws_has_more(conn->ws)) ||
           (conn->tls != NULL && tls_has_more(conn->tls));
}

/* No readiness tells of what TLS has received and not been read, or of a WebSocket that is
 * over: take all of it.
 */
static void in_read_inside(struct mr_conn *conn, uint32_t max)
{
    while (conn->state == CONN_OPEN && !conn->paused && layers_have_more(conn)) {
        if (!in_read(conn, max, true)) {
            break;
        }
    }
}

/* Not open: what comes has nowhere to go, or is a PROXY header. */
static void read_other(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;
    size_t got = 0;

    if (conn->state == CONN_GREET) {
        proxy_read(conn);
        return;
    }
    enum mr_err err = mr_socket_read(conn->fd, net->slab, net->options.slab_bytes, &got);
    if (err != MR_ERR_AGAIN && (err != MR_OK || got == 0)) {
        conn_free(conn);
    } else if (err == MR_OK && got == net->options.slab_bytes) {
        conn_rearm(conn);
    }
}

static void conn_read_some(struct mr_conn *conn, uint32_t max)
{
    if (MR_UNLIKELY(conn->state != CONN_OPEN)) {
        read_other(conn);
        return;
    }
    if (conn->paused) {
        return; /* paused in this very turn */
    }
    (void)in_read(conn, max, false);
    if (MR_UNLIKELY(conn->layered)) {
        in_read_inside(conn, max);
    }
}

static uint32_t read_max(const struct mr_conn *conn)
{
    uint32_t max = conn->net->read_max;

    return MR_UNLIKELY(conn->little) && max > CONN_LITTLE ? CONN_LITTLE : max;
}

void mr_conn_read_little(struct mr_conn *conn, bool little)
{
    conn->little = little;
}

/* When a whole site comes back at once its handshakes are seconds of CPU; a turn does a few
 * of them, so that those who are in get their acks meanwhile.
 */
static bool greeting_waits(struct mr_conn *conn)
{
    struct mr_net *net = conn->net;

    if (conn->state != CONN_OPEN || tls_has_greeted(conn->tls)) {
        return false;
    }
    if (net->greetings == CONN_GREETINGS) {
        conn_rearm(conn);
        return true;
    }
    net->greetings += 1;
    return false;
}

void conn_read(struct mr_conn *conn)
{
    if (MR_UNLIKELY(conn->tls != NULL) && greeting_waits(conn)) {
        return;
    }
    conn_read_some(conn, read_max(conn));
}

void mr_conn_listen(struct mr_conn *conn)
{
    uint32_t max = read_max(conn);

    conn_read_some(conn, max < CONN_DIRECT ? max : CONN_DIRECT);
}

void mr_conn_secrets_end(struct mr_conn *conn)
{
    conn->secret = SECRET_ENDING;
}

void mr_conn_need(struct mr_conn *conn, uint32_t bytes)
{
    conn->in_need = bytes;
}

void mr_conn_resume(struct mr_conn *conn)
{
    if (!conn->paused) {
        return;
    }
    conn_pause_end(conn);
    conn->heard = conn->net->tick; /* the silence was ours */
    if (conn->in_len != 0) {
        in_offer(conn, conn->in, conn->in_len);
    } else {
        conn_watch(conn);
    }
    if (conn->layered) {
        in_read_inside(conn, read_max(conn));
    }
}
