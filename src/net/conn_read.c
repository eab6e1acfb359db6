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

enum { IN_LENT = 1 << MR_BUFPOOL_CLASS_MIN }; /* the buffer of a struct conn_in */

static void bytes_free(struct mr_conn *conn)
{
    struct conn_in *in = conn->in;

    if (MR_UNLIKELY(conn->secret != SECRET_NONE)) {
        mr_wipe(in->bytes, in->capacity);
    }
    if (in->unproven) {
        conn->net->unproven_bytes -= in->capacity;
        in->unproven = false;
    }
    mr_bufpool_give(conn->net->options.pool, in->bytes, in->capacity);
    in->bytes = NULL;
    in->capacity = 0;
}

/* Let `bytes` be where it has what was received, in place of what it had. */
static void bytes_set(struct mr_conn *conn, uint8_t *bytes, size_t capacity)
{
    struct conn_in *in = conn->in;

    if (in->bytes != NULL) {
        bytes_free(conn);
    }
    in->bytes = bytes;
    in->capacity = (uint32_t)capacity;
    in->unproven = conn->secret == SECRET_MAYBE;
    conn->net->unproven_bytes += in->unproven ? capacity : 0;
}

/* A buffer for what it sends.  NULL: there is none, or not for one more that has not been let
 * in: those who only begin packets must not take the memory of everybody.
 */
static uint8_t *bytes_take(struct mr_conn *conn, size_t size, size_t *capacity)
{
    struct mr_net *net = conn->net;
    size_t share = net->options.pool->limit_bytes / CONN_UNPROVEN_SHARE;

    if (conn->secret == SECRET_MAYBE && net->unproven_bytes + size > share) {
        return NULL;
    }
    return mr_bufpool_take(net->options.pool, size, capacity);
}

void conn_in_drop(struct mr_conn *conn)
{
    if (conn->in == NULL) {
        return;
    }
    partial_end(conn);
    if (conn->in->bytes != NULL) {
        bytes_free(conn);
    }
    mr_bufpool_give(conn->net->options.pool, (uint8_t *)conn->in, IN_LENT);
    conn->in = NULL;
}

static bool in_begin(struct mr_conn *conn)
{
    size_t capacity = 0;

    if (conn->in == NULL) {
        conn->in = (struct conn_in *)(void *)mr_bufpool_take(conn->net->options.pool,
                                                             sizeof(*conn->in), &capacity);
        if (conn->in == NULL) {
            return false;
        }
        mr_assert(capacity == IN_LENT);
        *conn->in = (struct conn_in){.len = 0};
    }
    return true;
}

/* Room for how many bytes, if `len` of `need` are here? */
static uint32_t in_wanted(const struct mr_conn *conn, uint32_t len, uint32_t need)
{
    if (need <= CONN_DIRECT || conn->paused) {
        return len;
    }
    uint32_t first = conn->secret == SECRET_MAYBE ? CONN_UNPROVEN_FIRST : CONN_DIRECT_FIRST;
    uint32_t wanted = len < first / 4 ? first : 4 * len;
    return wanted > need ? need : wanted;
}

/* Keep `len` bytes at `at` (perhaps of `in` itself) of a packet of `need`.  False: no memory. */
static bool in_keep(struct mr_conn *conn, const uint8_t *at, uint32_t len, uint32_t need)
{
    size_t capacity = 0;
    uint8_t *bytes = NULL;

    if (len == 0) {
        conn_in_drop(conn);
        return true;
    }
    if (!in_begin(conn)) {
        return false;
    }
    struct conn_in *in = conn->in;
    uint32_t wanted = in_wanted(conn, len, need);
    bool fits = in->capacity >= wanted;
    if (!fits || in->capacity / 8 > wanted) { /* too small, or a waste */
        bytes = bytes_take(conn, wanted, &capacity);
    }
    if (bytes == NULL && !fits) {
        return false; /* the connection ends, and `in` with it */
    }
    mr_assert(at != NULL);
    if (bytes == NULL) {
        memmove(in->bytes, at, len);
    } else {
        memcpy(bytes, at, len);
        bytes_set(conn, bytes, capacity);
    }
    in->len = len;
    in->need = need;
    return true;
}

bool conn_in_fill(struct mr_conn *conn, const uint8_t *at, uint32_t len)
{
    return in_keep(conn, at, len, 0);
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
    uint32_t need_outside = net->need; /* the owner may resume another one inside */

    net->need = 0;
    conn->offering = true;
    size_t used = net->options.handler->on_bytes(net->options.arg, conn,
                                                 (struct mr_span){.at = at, .len = len});
    conn->offering = false;
    uint32_t need = net->need;
    net->need = need_outside;
    mr_assert(used <= len);
    if (conn->state != CONN_OPEN) {
        conn_in_drop(conn);
        in_wipe(conn, at, secret ? len : 0);
        return;
    }
    if (used != 0 || need > CONN_DIRECT) {
        conn->heard = net->tick;
    }
    uint32_t left = len - (uint32_t)used;
    mr_assert(conn->paused || need > left || left <= 16);
    bool kept = in_keep(conn, at + used, left, need);
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
    struct conn_tls *tls = conn_tls(conn);

    if (tls == NULL) {
        return mr_socket_read(conn->fd, into, len, got);
    }
    enum mr_err err = tls_read(tls, into, len, got, inside, &conn->net->fault);
    bool stuck = tls_wants_room(tls);
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
    return conn_ws(conn) != NULL ? ws_take(conn, into, len, got, inside)
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
        conn_linger(conn, conn_ws(conn) != NULL ? ws_close_why(conn) : MR_CLOSE_TLS);
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

    if (conn->in->len == conn->in->capacity &&
        !in_keep(conn, conn->in->bytes, conn->in->len, conn->in->need)) {
        conn_end(conn, MR_CLOSE_MEMORY);
        return false;
    }
    struct conn_in *in = conn->in;
    uint32_t end = in->need < in->capacity ? in->need : in->capacity;
    enum mr_err err = in_take(conn, in->bytes + in->len, end - in->len, &got, inside);
    if (!in_got(conn, err, end - in->len, got)) {
        return false;
    }
    in->len += (uint32_t)got;
    conn->heard = conn->net->tick; /* nothing else can come before its last byte */
    if (in->len == in->need) {
        in_offer(conn, in->bytes, in->len);
    }
    return true;
}

/* One read of an open connection.  False: there was nothing, or it has ended. */
static bool in_read(struct mr_conn *conn, uint32_t max, bool inside)
{
    struct mr_net *net = conn->net;
    uint32_t len = conn->in == NULL ? 0 : conn->in->len;
    size_t got = 0;

    if (conn->in != NULL && conn->in->need > CONN_DIRECT) {
        return in_read_direct(conn, inside);
    }
    mr_assert(len <= CONN_DIRECT);
    if (len != 0) {
        memcpy(net->slab, conn->in->bytes, len);
    }
    enum mr_err err = in_take(conn, net->slab + len, max, &got, inside);
    if (!in_got(conn, err, max, got)) {
        return false;
    }
    in_offer(conn, net->slab, len + (uint32_t)got);
    return true;
}

static bool layers_have_more(const struct mr_conn *conn)
{
    return (conn_ws(conn) != NULL && ws_has_more(conn_ws(conn))) ||
           (conn_tls(conn) != NULL && tls_has_more(conn_tls(conn)));
}

/* A WebSocket within a frame, of which there is no packet begun, is watched like one within a
 * packet (partial.c): its frame holds memory too.
 */
static void frame_watch(struct mr_conn *conn)
{
    const struct conn_ws *ws = conn_ws(conn);

    if (conn->state != CONN_OPEN || ws == NULL || (conn->in != NULL && conn->in->len != 0)) {
        return;
    }
    if (!ws_is_within(ws)) {
        conn_in_drop(conn);
    } else if (in_begin(conn)) {
        partial_note(conn, false);
    } else {
        conn_end(conn, MR_CLOSE_MEMORY);
    }
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
    frame_watch(conn);
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

    if (conn->state != CONN_OPEN || tls_has_greeted(conn_tls(conn))) {
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
    if (MR_UNLIKELY(conn_tls(conn) != NULL) && greeting_waits(conn)) {
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
    conn->net->need = bytes;
}

void mr_conn_resume(struct mr_conn *conn)
{
    if (!conn->paused) {
        return;
    }
    conn_pause_end(conn);
    conn->heard = conn->net->tick; /* the silence was ours */
    if (conn->in != NULL && conn->in->len != 0) {
        in_offer(conn, conn->in->bytes, conn->in->len);
    } else {
        conn_watch(conn);
    }
    if (conn->layered) {
        in_read_inside(conn, read_max(conn));
    }
}
