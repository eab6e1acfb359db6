/* conn_ws.c - WebSocket between a connection and its wire; see ws_internal.h.
 *
 * DESIGN
 *
 * Received: what the wire gives is decoded where it lies, in the slab or in the large
 * packet's own buffer; only the payload is left there and goes the way of all bytes.
 *
 * Sent: the queue holds packets.  They become frames (ws_pack_internal.h) in a buffer of the
 * net when they are flushed, and what the wire did not take of it is made once more the next
 * time; of a large packet only the beginning, the rest goes from where it lies.  Control
 * frames go between two frames.
 *
 * Rejected: a frame of all that is queued, whose header has room before it.  It costs no
 * copy, and clients by others wait for ever for its second packet.
 * Rejected: pieces by writev().  64 pairs of header and packet cost the kernel more than their
 * copy costs us, and TLS would make a record of each piece.
 *
 * INVARIANTS
 *
 *   (1) The queue begins with `pack.left` bytes that go as they are; none when it is empty.
 *   (2) Nothing is queued behind a close frame.
 *   (3) TLS that did not take everything is offered the same bytes next, and as many at least.
 */
#include "net/tls_internal.h"
#include "net/ws_frames_internal.h"
#include "net/ws_internal.h"
#include "net/ws_pack_internal.h"
#include "net/ws_upgrade_internal.h"

enum { OUT_BYTES = 16 << 10 }; /* a record of TLS; a multiple of it gained nothing */

struct conn_ws {
    struct ws_frames frames;
    struct ws_upgrade rules; /* until it is open */
    uint8_t *head;           /* lent: the request, while it is not complete */
    size_t head_capacity;
    uint32_t head_len;
    uint32_t offered; /* to the wire, which did not take it; TLS may have, without saying so */
    struct ws_pack pack;
    bool open;     /* the upgrade is done */
    bool over;     /* nothing more is read */
    bool memory;   /* it is over because there is none */
    bool answered; /* the request was refused; net->fault says why */
};

struct conn_ws *ws_accept(const struct mr_websocket_options *options)
{
    struct conn_ws *ws = mr_alloc(sizeof(*ws));

    ws->frames.frame_max = options->frame_max;
    ws->pack.packet_len = options->packet_len;
    ws->rules = (struct ws_upgrade){
        .path = options->path, .origins = options->origins, .origin_count = options->origin_count};
    return ws;
}

static void head_drop(struct conn_ws *ws, struct mr_bufpool *pool)
{
    if (ws->head != NULL) {
        mr_bufpool_give(pool, ws->head, ws->head_capacity);
    }
    ws->head = NULL;
    ws->head_len = 0;
}

void ws_free(struct conn_ws *ws, struct mr_bufpool *pool)
{
    head_drop(ws, pool);
    ws_reader_free(ws->frames.reader);
    mr_free(ws);
}

void mr_net_websocket(struct mr_net *net, uint32_t index,
                      const struct mr_websocket_options *options)
{
    mr_assert(index < MR_NET_LISTENERS_MAX && net->listeners[index].used);
    net->listeners[index].websocket = options;
}

static struct mr_span out_queue(const struct mr_conn *conn)
{
    return mr_span_make(conn->out + conn->out_begin, conn->out_end - conn->out_begin);
}

/* ---- the upgrade ---- */

/* Queue what is no frame. */
static void answer_queue(struct mr_conn *conn, const struct ws_answer *answer)
{
    if (answer->len == 0) {
        return;
    }
    if (mr_conn_send(conn, answer->text, answer->len) != MR_OK) {
        conn_ws(conn)->over = true;
        conn_ws(conn)->memory = true;
        return;
    }
    conn_ws(conn)->pack.left = answer->len;
}

static void refuse(struct mr_conn *conn, const struct ws_answer *answer)
{
    conn_ws(conn)->over = true;
    conn_ws(conn)->answered = true;
    answer_queue(conn, answer);
}

/* Keep `len` bytes more of the request, as many as fit; false: no memory. */
static bool head_keep(struct mr_conn *conn, const uint8_t *at, size_t len)
{
    struct conn_ws *ws = conn_ws(conn);

    if (ws->head == NULL) {
        ws->head = mr_bufpool_take(conn->net->options.pool, WS_HEAD_MAX, &ws->head_capacity);
    }
    if (ws->head == NULL) {
        ws->over = true;
        ws->memory = true;
        return false;
    }
    size_t room = WS_HEAD_MAX - ws->head_len;
    len = len < room ? len : room;
    memcpy(ws->head + ws->head_len, at, len);
    ws->head_len += (uint32_t)len;
    return true;
}

/* The request, or more of it; returns how many of the bytes lie behind its end, now at `at`. */
static size_t head_take(struct mr_conn *conn, uint8_t *at, size_t len)
{
    struct conn_ws *ws = conn_ws(conn);
    struct mr_span head = mr_span_make(at, len < WS_HEAD_MAX ? len : WS_HEAD_MAX);
    size_t before = ws->head_len;
    struct ws_answer answer = {.len = 0};

    if (before != 0) {
        if (!head_keep(conn, at, len)) {
            return 0;
        }
        head = mr_span_make(ws->head, ws->head_len);
    }
    size_t end = ws_head_len(head);
    if (end == 0) {
        if (!ws_head_may_begin(head) || head.len == WS_HEAD_MAX) {
            enum mr_err err = ws_upgrade_refuse_head(head, &answer, &conn->net->fault);
            mr_assert(err != MR_OK);
            refuse(conn, &answer);
        } else if (before == 0) {
            (void)head_keep(conn, at, len);
        }
        return 0;
    }
    head.len = end;
    if (ws_upgrade(&ws->rules, head, &answer, &conn->net->fault) != MR_OK) {
        refuse(conn, &answer);
        return 0;
    }
    head_drop(ws, conn->net->options.pool);
    ws->open = true;
    answer_queue(conn, &answer);
    size_t used = end - before;
    memmove(at, at + used, len - used);
    return len - used;
}

/* ---- reading ---- */

/* Bytes of the queue that are of frames begun, or in what TLS may have taken. */
static uint32_t begun_bytes(const struct mr_conn *conn)
{
    struct ws_pack pack = conn_ws(conn)->pack;
    struct mr_span queue = out_queue(conn);
    uint64_t all = queue.len;

    (void)ws_pack(&pack, &queue, NULL, conn_ws(conn)->offered);
    while (queue.len != 0 && !ws_pack_is_between(&pack)) {
        (void)ws_pack(&pack, &queue, NULL, pack.left == 0 ? 1 : pack.left);
    }
    return (uint32_t)(all - queue.len);
}

/* What frames ask to be said; nothing of which no frame has begun is sent behind a close frame. */
static void frames_answer(struct mr_conn *conn)
{
    struct conn_ws *ws = conn_ws(conn);

    if (ws->frames.ended && !ws->over) {
        ws->over = true;
        ws_frames_close(&ws->frames, ws->frames.close_code);
        conn->out_end = conn->out_begin + begun_bytes(conn);
    }
    if (ws->frames.control_len != 0) {
        conn_mark(conn);
    }
}

/* Payload of what the wire gave, now at `at`. */
static size_t ws_decode(struct mr_conn *conn, uint8_t *at, size_t len)
{
    struct conn_ws *ws = conn_ws(conn);

    if (MR_UNLIKELY(!ws->open)) {
        len = head_take(conn, at, len);
        if (!ws->open || ws->over) {
            return 0;
        }
    }
    size_t got = ws_frames_read(&ws->frames, &conn->net->ws_spare, at, len);
    frames_answer(conn);
    return got;
}

enum mr_err ws_take(struct mr_conn *conn, uint8_t *into, size_t len, size_t *got, bool inside)
{
    struct conn_ws *ws = conn_ws(conn);

    *got = 0;
    while (!ws->over) {
        size_t wire = 0;
        enum mr_err err = conn_take_wire(conn, into, len, &wire, inside);
        if (err != MR_OK || wire == 0) {
            return err;
        }
        if (wire == len) { /* of which only the payload is counted by whoever asked */
            conn_rearm(conn);
        }
        *got = ws_decode(conn, into, wire);
        if (*got != 0) {
            return MR_OK;
        }
        if (!ws->over && (conn_tls(conn) == NULL || !tls_has_more(conn_tls(conn)))) {
            return MR_ERR_AGAIN;
        }
        inside = true;
    }
    return MR_ERR_REJECT;
}

bool ws_is_within(const struct conn_ws *ws)
{
    return ws->frames.reader != NULL;
}

bool ws_has_more(const struct conn_ws *ws)
{
    return ws->over;
}

enum mr_close_why ws_close_why(struct mr_conn *conn)
{
    const struct conn_ws *ws = conn_ws(conn);

    if (!ws->over) {
        return MR_CLOSE_TLS; /* what lies below has failed */
    }
    if (ws->memory) {
        return MR_CLOSE_MEMORY;
    }
    if (ws->answered) {
        return MR_CLOSE_WEBSOCKET;
    }
    if (ws->frames.fault == NULL) {
        return MR_CLOSE_BY_PEER;
    }
    (void)mr_error_set(&conn->net->fault, MR_ERR_REJECT, "WebSocket: %s (%u)", ws->frames.fault,
                       ws->frames.close_code);
    return MR_CLOSE_WEBSOCKET;
}

/* ---- writing ---- */

static enum mr_err control_send(struct mr_conn *conn, size_t *sent)
{
    struct ws_frames *frames = &conn_ws(conn)->frames;

    frames->control_begun = true;
    enum mr_err err = conn_put_wire(conn, frames->control + frames->control_sent,
                                    frames->control_len - frames->control_sent, sent);

    frames->control_sent = (uint8_t)(frames->control_sent + *sent);
    if (frames->control_sent == frames->control_len) {
        frames->control_sent = 0;
        frames->control_len = 0;
        frames->control_begun = false;
    }
    return err;
}

/* Some of the queue as frames; *whole: the wire took all that was offered. */
static enum mr_err frames_send(struct mr_conn *conn, size_t *sent, bool *whole)
{
    struct conn_ws *ws = conn_ws(conn);
    struct mr_net *net = conn->net;
    struct ws_pack after = ws->pack;
    struct mr_span rest = out_queue(conn);

    if (net->ws_out == NULL) {
        net->ws_out = mr_alloc(OUT_BYTES);
    }
    const uint8_t *from = net->ws_out;
    size_t len = 0;
    if (after.left >= OUT_BYTES) { /* of a large packet; it goes from where it lies */
        from = rest.at;
        len = ws_pack(&after, &rest, NULL, after.left);
    } else {
        len = ws_pack(&after, &rest, net->ws_out, OUT_BYTES);
    }
    enum mr_err err = conn_put_wire(conn, from, len, sent);
    *whole = *sent == len;
    if (*whole) {
        ws->pack = after;
    } else {
        rest = out_queue(conn);
        (void)ws_pack(&ws->pack, &rest, NULL, *sent);
    }
    ws->offered = (uint32_t)(len - *sent);
    conn->out_begin = conn->out_end - (uint32_t)rest.len;
    return err;
}

enum mr_err ws_send(struct mr_conn *conn, size_t *sent)
{
    const struct conn_ws *ws = conn_ws(conn);
    enum mr_err err = MR_OK;
    bool whole = true;

    *sent = 0;
    if (ws_waits(ws) && ws->offered == 0 && ws_pack_is_between(&ws->pack)) {
        return control_send(conn, sent);
    }
    while (err == MR_OK && whole && conn->out_begin != conn->out_end) {
        size_t some = 0;
        err = frames_send(conn, &some, &whole);
        *sent += some;
    }
    return err;
}

bool ws_waits(const struct conn_ws *ws)
{
    return ws->frames.control_len != 0;
}

bool ws_say_close(struct conn_ws *ws)
{
    if (!ws->open || ws->frames.closing) {
        return false;
    }
    ws_frames_close(&ws->frames, WS_CLOSE_NORMAL);
    return true;
}
