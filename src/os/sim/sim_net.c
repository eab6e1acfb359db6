/* sim_net.c - loop.h in the simulated world: streams in memory.
 *
 * DESIGN
 *
 * A connection is two ends.  Each end keeps the bytes that are on their way to
 * it as a queue of pieces, each with the time from which it can be read; the
 * shape of the other end (delay, largest piece) says how a write becomes
 * pieces.  After each piece of a shaped stream one read says "nothing now", so
 * that code which reads until AGAIN meets every cut, and code that forgets the
 * rest of a packet between two wake-ups is found out.
 *
 * A wait never blocks and never moves the time: it reports what is ready, in an
 * order that the seed chooses, since epoll promises none either.
 *
 * INVARIANTS
 *
 *   (1) queued_bytes is the sum over the pieces not yet read, and at most
 *       WINDOW_BYTES.
 *   (2) The times of pieces do not decrease from first to last.
 *   (3) `arrived` counts the pieces before `late`, and those already read.
 *   (4) An end is freed when neither its handle nor its peer refers to it.
 */
#include "base/hash.h"
#include "os/loop.h"
#include "os/sim/sim_internal.h"

#include <stdio.h>

enum {
    WINDOW_BYTES = 64 * 1024, /* what fits between two ends, about a small socket buffer */
    FIRST_PORT = 40000,       /* given to listeners on port 0 and to clients */
};

struct piece {
    struct piece *next;
    int64_t readable_ns;
    size_t len;
    size_t taken;
    bool alone; /* of a shaped stream: a read ends with it */
    uint8_t bytes[];
};

struct end {
    struct end *next; /* list of all */
    struct end *peer; /* NULL: closed */
    int fd;           /* -1: closed */
    struct piece *first;
    struct piece *last;
    struct piece *late; /* the first that has not been seen to be readable */
    size_t queued_bytes;
    bool cut;          /* a piece was read since the last "nothing now" */
    bool finished;     /* the peer has sent all it will, after the pieces */
    bool broken;       /* reset */
    bool shutdown;     /* this end has sent all it will */
    int64_t finish_ns; /* when the end of the stream can be read */
    bool outlives;     /* a crash */
    uint64_t news;     /* what may be reported anew, beside bytes that arrive */
    uint64_t taken;    /* bytes read from it so far */
    uint64_t arrived;  /* ... and those that were seen to be readable */
    int64_t delay_ns;  /* shape of what this end writes */
    size_t piece_max;
    struct mr_address address;
};

struct listener {
    struct listener *next; /* list of all */
    int fd;
    struct mr_address address;
    struct end *waiting[64]; /* accepted by no one yet, oldest first */
    size_t waiting_count;
};

struct watch {
    int fd;
    struct listener *listener; /* NULL: it is an end */
    struct end *end;
    uint32_t what;
    uint64_t tag;
    uint64_t reported; /* EDGE: end_news() at the last report; UINT64_MAX: none yet */
};

struct mr_loop {
    struct mr_loop *next; /* list of all */
    struct watch *watches;
    size_t watch_count;
    size_t watches_max;
};

static struct end *ends;
static struct listener *listeners;
static struct mr_loop *loops;
static unsigned ports_given;

/* ---- ends ---- */

static struct end *end_of(int fd)
{
    return sim_handle_get(fd, SIM_STREAM);
}

static struct end *end_new(void)
{
    struct end *end = sim_alloc(sizeof(*end));

    end->fd = -1;
    end->next = ends;
    ends = end;
    return end;
}

static void end_discard(struct end *end)
{
    while (end->first != NULL) {
        struct piece *piece = end->first;
        end->first = piece->next;
        mr_free(piece);
    }
    end->last = NULL;
    end->late = NULL;
    end->arrived = end->taken;
    end->queued_bytes = 0;
}

static void end_free(struct end *end)
{
    struct end **link = &ends;

    while (*link != end) {
        link = &(*link)->next;
    }
    *link = end->next;
    end_discard(end);
    mr_free(end);
}

static int64_t max_ns(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The stream towards `end` ends after what is on its way. */
static void end_finish(struct end *end, int64_t delay_ns)
{
    if (!end->finished) {
        end->finished = true;
        end->finish_ns =
            max_ns(sim_now_ns() + delay_ns, end->last == NULL ? 0 : end->last->readable_ns);
    }
}

static void end_break(struct end *end)
{
    end_discard(end);
    end->broken = true;
    end->news += 1;
}

static bool end_readable(const struct end *end)
{
    if (end->first != NULL) {
        return end->first->readable_ns <= sim_now_ns();
    }
    return end->finished && end->finish_ns <= sim_now_ns();
}

static void end_look(struct end *end)
{
    int64_t now_ns = sim_now_ns();

    while (end->late != NULL && end->late->readable_ns <= now_ns) {
        end->arrived += end->late->len;
        end->late = end->late->next;
    }
}

/* Grows with everything that EDGE reports: bytes that can be read, the end, room. */
static uint64_t end_news(struct end *end)
{
    end_look(end);
    return end->news + end->arrived + (end->finished && end->finish_ns <= sim_now_ns() ? 1 : 0);
}

static size_t end_room(const struct end *end)
{
    return end->peer == NULL ? WINDOW_BYTES : WINDOW_BYTES - end->peer->queued_bytes;
}

/* Send `len` bytes from `end` towards its peer, as one piece. */
static void end_send(const struct end *from_end, const uint8_t *from, size_t len)
{
    struct end *end = from_end->peer;
    int64_t readable_ns = sim_now_ns() + from_end->delay_ns;
    struct piece *piece = sim_alloc(sizeof(*piece) + len);

    sim_trace(SIM_TRACE_SEND, mr_crc32c(0, from, len));
    piece->len = len;
    piece->alone = from_end->piece_max > 0;
    piece->readable_ns = max_ns(readable_ns, end->last == NULL ? 0 : end->last->readable_ns);
    memcpy(piece->bytes, from, len);
    if (end->last == NULL) {
        end->first = piece;
    } else {
        end->last->next = piece;
    }
    end->last = piece;
    end->late = end->late == NULL ? piece : end->late;
    end->queued_bytes += len;
}

/* ---- loops ---- */

enum mr_err mr_loop_open(struct mr_loop **out, struct mr_error *why)
{
    struct mr_loop *loop = sim_alloc(sizeof(*loop));

    (void)why;
    loop->next = loops;
    loops = loop;
    *out = loop;
    return MR_OK;
}

void mr_loop_close(struct mr_loop *loop)
{
    struct mr_loop **link = &loops;

    while (*link != loop) {
        mr_assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = loop->next;
    mr_free(loop->watches);
    mr_free(loop);
}

static struct watch *loop_find(struct mr_loop *loop, int fd)
{
    for (size_t i = 0; i < loop->watch_count; i++) {
        if (loop->watches[i].fd == fd) {
            return &loop->watches[i];
        }
    }
    return NULL;
}

enum mr_err mr_loop_add(struct mr_loop *loop, int fd, uint32_t what, uint64_t tag)
{
    enum sim_kind kind = sim_handle_kind(fd);

    mr_assert(tag != UINT64_MAX && loop_find(loop, fd) == NULL);
    mr_assert(kind == SIM_STREAM || kind == SIM_LISTENER);
    if (loop->watch_count == loop->watches_max) {
        loop->watches_max = loop->watches_max == 0 ? 16 : 2 * loop->watches_max;
        loop->watches = sim_realloc(loop->watches, loop->watches_max * sizeof(loop->watches[0]));
    }
    loop->watches[loop->watch_count] = (struct watch){
        .fd = fd,
        .listener = kind == SIM_LISTENER ? sim_handle_get(fd, SIM_LISTENER) : NULL,
        .end = kind == SIM_STREAM ? end_of(fd) : NULL,
        .what = what,
        .tag = tag,
        .reported = UINT64_MAX,
    };
    loop->watch_count += 1;
    return MR_OK;
}

void mr_loop_change(struct mr_loop *loop, int fd, uint32_t what, uint64_t tag)
{
    struct watch *watch = loop_find(loop, fd);

    mr_assert(tag != UINT64_MAX && watch != NULL);
    watch->what = what;
    watch->tag = tag;
    watch->reported = UINT64_MAX;
}

void mr_loop_remove(struct mr_loop *loop, int fd)
{
    struct watch *watch = loop_find(loop, fd);

    mr_assert(watch != NULL);
    *watch = loop->watches[loop->watch_count - 1];
    loop->watch_count -= 1;
}

/* What is watched is there: a descriptor that is closed is watched no more. */
static uint32_t watch_ready(const struct watch *watch)
{
    struct end *end = watch->end;
    uint32_t ready = 0;

    if (watch->listener != NULL) {
        return watch->listener->waiting_count > 0 ? MR_READY_READ & watch->what : 0;
    }
    if ((watch->what & MR_READY_EDGE) != 0 && watch->reported == end_news(end)) {
        return 0;
    }
    ready |= end->broken || end_readable(end) ? MR_READY_READ : 0u;
    ready |= end->broken || end_room(end) > 0 ? MR_READY_WRITE : 0u;
    ready &= watch->what;
    if ((ready & MR_READY_READ) != 0 && end->finished && end->finish_ns <= sim_now_ns()) {
        ready |= MR_READY_END;
    }
    ready |= end->broken ? MR_READY_GONE : 0u;
    return ready;
}

bool sim_loop_is_ready(const struct mr_loop *loop)
{
    for (size_t i = 0; i < loop->watch_count; i++) {
        if (watch_ready(&loop->watches[i]) != 0) {
            return true;
        }
    }
    return false;
}

int64_t sim_net_next_ns(void)
{
    int64_t next_ns = INT64_MAX;

    for (const struct end *end = ends; end != NULL; end = end->next) {
        int64_t at_ns = end->first != NULL ? end->first->readable_ns
                        : end->finished    ? end->finish_ns
                                           : INT64_MAX;
        if (at_ns > sim_now_ns() && at_ns < next_ns) {
            next_ns = at_ns;
        }
    }
    return next_ns;
}

size_t mr_loop_wait(struct mr_loop *loop, struct mr_ready *events, size_t max, int64_t timeout_ns,
                    struct mr_wake *wake, bool *woken)
{
    size_t count = 0;

    mr_assert(max > 0);
    sim_thread_wait_loop(loop, wake, timeout_ns);
    size_t start = loop->watch_count == 0 ? 0 : mr_rng_below(sim_rng(), loop->watch_count);
    for (size_t step = 0; step < loop->watch_count && count < max; step++) {
        struct watch *watch = &loop->watches[(start + step) % loop->watch_count];
        uint32_t ready = watch_ready(watch);
        if (ready != 0) {
            if ((watch->what & MR_READY_EDGE) != 0) {
                watch->reported = end_news(watch->end);
            }
            events[count] = (struct mr_ready){.tag = watch->tag, .what = ready};
            count += 1;
        }
    }
    if (wake != NULL) {
        *woken = atomic_exchange(&wake->rung, 0) != 0;
    }
    return count;
}

/* ---- sockets ---- */

/* One of those who listen there, as the seed says: with several shards it is the kernel's
 * choice.
 */
static struct listener *listener_at(const char *address)
{
    struct listener *found = NULL;
    uint64_t count = 0;

    for (struct listener *one = listeners; one != NULL; one = one->next) {
        if (strcmp(one->address.text, address) == 0) {
            count += 1;
            found = count == 1 || mr_rng_below(sim_rng(), count) == 0 ? one : found;
        }
    }
    return found;
}

static unsigned port_next(void)
{
    ports_given += 1;
    return FIRST_PORT + ports_given;
}

enum mr_err mr_socket_listen(const char *address, const struct mr_listen_options *options, int *fd,
                             struct mr_address *bound, struct mr_error *why)
{
    const char *colon = strrchr(address, ':');
    struct mr_address name;

    if (colon == NULL || colon[1] == '\0' || strlen(address) >= sizeof(name.text) - 8) {
        return mr_error_set(why, MR_ERR_CONFIG, "'%s' is no address; write host:port", address);
    }
    if (strcmp(colon, ":0") == 0) {
        (void)snprintf(name.text, sizeof(name.text), "%.*s:%u", (int)(colon - address), address,
                       port_next());
    } else {
        (void)snprintf(name.text, sizeof(name.text), "%s", address);
    }
    if (listener_at(name.text) != NULL && !options->reuse_port) {
        return mr_error_set(why, MR_ERR_CONFIG, "cannot listen on %s: address already in use",
                            name.text);
    }

    struct listener *listener = sim_alloc(sizeof(*listener));
    listener->address = name;
    listener->fd = sim_handle_open(SIM_LISTENER, listener);
    listener->next = listeners;
    listeners = listener;
    if (bound != NULL) {
        *bound = name;
    }
    *fd = listener->fd;
    return MR_OK;
}

bool mr_address_is_unix(const char *address)
{
    return strncmp(address, "unix:", 5) == 0;
}

enum mr_err mr_socket_share(int listener, int *fd, struct mr_error *why)
{
    (void)listener;
    (void)fd;
    return mr_error_set(why, MR_ERR_CONFIG, "in the simulated world a listener is not shared");
}

void mr_socket_unlink(const char *address)
{
    (void)address;
}

enum mr_err mr_socket_accept(int listener_fd, int *fd, struct mr_address *peer)
{
    struct listener *listener = sim_handle_get(listener_fd, SIM_LISTENER);

    if (listener->waiting_count == 0) {
        return MR_ERR_AGAIN;
    }
    struct end *end = listener->waiting[0];
    listener->waiting_count -= 1;
    memmove(listener->waiting, listener->waiting + 1,
            listener->waiting_count * sizeof(listener->waiting[0]));
    end->fd = sim_handle_open(SIM_STREAM, end);
    if (peer != NULL) {
        *peer = end->address;
    }
    *fd = end->fd;
    return MR_OK;
}

enum mr_err mr_socket_connect(const char *address, int *fd, struct mr_error *why)
{
    struct listener *listener = listener_at(address);

    if (listener == NULL || listener->waiting_count == MR_COUNT_OF(listener->waiting)) {
        return mr_error_set(why, MR_ERR_AGAIN, "cannot connect to %s: connection refused", address);
    }
    struct end *client = end_new();
    struct end *server = end_new();
    client->peer = server;
    server->peer = client;
    client->fd = sim_handle_open(SIM_STREAM, client);
    (void)snprintf(server->address.text, sizeof(server->address.text), "127.0.0.1:%u", port_next());
    listener->waiting[listener->waiting_count] = server;
    listener->waiting_count += 1;
    *fd = client->fd;
    return MR_OK;
}

enum mr_err mr_socket_connected(int fd, struct mr_error *why)
{
    return end_of(fd)->broken ? mr_error_set(why, MR_ERR_AGAIN, "cannot connect: connection reset")
                              : MR_OK;
}

enum mr_err mr_socket_read(int fd, void *into, size_t len, size_t *got)
{
    struct end *end = end_of(fd);
    struct piece *piece = end->first;

    mr_assert(len > 0);
    *got = 0;
    end_look(end); /* what is read is freed */
    if (end->broken) {
        return MR_ERR_IO;
    }
    if (end->cut || !end_readable(end)) {
        end->news += end->cut ? 1 : 0; /* the next piece may have been there all the time */
        end->cut = false;
        return MR_ERR_AGAIN;
    }
    if (piece == NULL) {
        return MR_OK; /* the end of the stream */
    }

    /* Unshaped streams hand out as much as fits; shaped ones a piece at a time. */
    while (piece != NULL && *got < len && piece->readable_ns <= sim_now_ns() && !end->cut) {
        size_t left = piece->len - piece->taken;
        size_t count = left < len - *got ? left : len - *got;
        memcpy((uint8_t *)into + *got, piece->bytes + piece->taken, count);
        piece->taken += count;
        *got += count;
        if (piece->taken < piece->len) {
            break;
        }
        end->cut = piece->alone;
        end->news += end->cut ? 1 : 0; /* the read is short, and yet there may be more */
        end->first = piece->next;
        end->last = end->first == NULL ? NULL : end->last;
        mr_free(piece);
        piece = end->first;
    }
    if (end->peer != NULL && *got > 0) {
        end->peer->news += end_room(end->peer) == 0 ? 1 : 0;
    }
    end->taken += *got;
    end->queued_bytes -= *got;
    return MR_OK;
}

enum mr_err mr_socket_peek(int fd, void *into, size_t len, size_t *got)
{
    const struct end *end = end_of(fd);

    *got = 0;
    if (end->broken) {
        return MR_ERR_IO;
    }
    if (!end_readable(end)) {
        return MR_ERR_AGAIN;
    }
    for (const struct piece *piece = end->first; piece != NULL && *got < len; piece = piece->next) {
        size_t left = piece->len - piece->taken;
        size_t count = left < len - *got ? left : len - *got;
        if (piece->readable_ns > sim_now_ns()) {
            break;
        }
        memcpy((uint8_t *)into + *got, piece->bytes + piece->taken, count);
        *got += count;
    }
    return MR_OK;
}

enum mr_err mr_socket_write(int fd, const void *from, size_t len, size_t *sent)
{
    struct end *end = end_of(fd);
    const uint8_t *bytes = from;

    *sent = 0;
    if (end->broken || end->shutdown) {
        return MR_ERR_IO;
    }
    if (end->peer == NULL) {
        end_break(end); /* TCP answers bytes for a closed socket with a reset */
        return MR_ERR_IO;
    }
    size_t room = end_room(end);
    size_t total = len < room ? len : room;
    while (*sent < total) {
        size_t count = total - *sent;
        count = end->piece_max > 0 && end->piece_max < count ? end->piece_max : count;
        end_send(end, bytes + *sent, count);
        *sent += count;
    }
    return MR_OK;
}

enum mr_err mr_loop_batch_sends(struct mr_loop *loop, struct mr_error *why)
{
    (void)loop;
    return mr_error_set(why, MR_ERR_CONFIG, "io_uring: there is none in the simulator");
}

void mr_loop_send(struct mr_loop *loop, struct mr_send *sends, size_t count)
{
    (void)loop;
    for (size_t i = 0; i < count; i++) {
        size_t sent = 0;
        sends[i].err = mr_socket_write(sends[i].fd, sends[i].at, sends[i].len, &sent);
        sends[i].sent = (uint32_t)sent;
    }
}

void mr_socket_shutdown(int fd)
{
    struct end *end = end_of(fd);

    end->shutdown = true;
    if (end->peer != NULL) {
        end_finish(end->peer, end->delay_ns);
    }
}

/* `end` will not be used any more; its peer lives on. */
static void end_leave(struct end *end)
{
    struct end *peer = end->peer;

    if (peer != NULL) {
        if (end->queued_bytes > 0) {
            end_break(peer); /* unread bytes: TCP resets */
        } else {
            end_finish(peer, end->delay_ns);
        }
        peer->peer = NULL;
    }
    end_free(end);
}

static void listener_close(struct listener *listener)
{
    struct listener **link = &listeners;

    for (size_t i = 0; i < listener->waiting_count; i++) {
        if (listener->waiting[i]->peer != NULL) {
            end_break(listener->waiting[i]->peer);
        }
        end_leave(listener->waiting[i]);
    }
    while (*link != listener) {
        link = &(*link)->next;
    }
    *link = listener->next;
    mr_free(listener);
}

void mr_socket_close(int fd)
{
    enum sim_kind kind = sim_handle_kind(fd);

    if (kind == SIM_CLOSED) {
        return; /* -1, or closed by a crash */
    }
    for (struct mr_loop *loop = loops; loop != NULL; loop = loop->next) {
        if (loop_find(loop, fd) != NULL) {
            mr_loop_remove(loop, fd); /* as the kernel does with a closed descriptor */
        }
    }
    void *object = sim_handle_get(fd, kind);
    sim_handle_close(fd);
    if (kind == SIM_LISTENER) {
        listener_close(object);
    } else {
        mr_assert(kind == SIM_STREAM);
        end_leave(object);
    }
}

void mr_sim_stream_shape(int fd, int64_t delay_ns, size_t piece_max)
{
    struct end *end = end_of(fd);

    end->delay_ns = delay_ns;
    end->piece_max = piece_max;
}

void mr_sim_stream_shape_peer(int fd, int64_t delay_ns, size_t piece_max)
{
    struct end *peer = end_of(fd)->peer;

    if (peer != NULL) {
        peer->delay_ns = delay_ns;
        peer->piece_max = piece_max;
    }
}

void mr_sim_stream_break(int fd)
{
    struct end *end = end_of(fd);

    end_break(end);
    if (end->peer != NULL) {
        end_break(end->peer);
    }
}

void mr_sim_stream_outlives(int fd)
{
    end_of(fd)->outlives = true;
}

/* ---- the end of the world ---- */

static void listener_crash(struct listener *listener)
{
    listeners = listener->next;
    sim_handle_close(listener->fd);
    mr_free(listener);
}

/* Of the peer, which is no more, it learns after what is on its way. */
static void end_crash(struct end *end)
{
    if (end->fd >= 0) {
        sim_handle_close(end->fd);
    }
    if (end->peer != NULL) {
        if (end->peer->outlives) {
            end_finish(end->peer, end->delay_ns);
        }
        end->peer->peer = NULL;
    }
    end_free(end);
}

void sim_net_crash(bool with_loops)
{
    struct end *next;

    while (listeners != NULL) {
        listener_crash(listeners);
    }
    for (struct end *end = ends; end != NULL; end = next) {
        next = end->next;
        if (!end->outlives) {
            end_crash(end);
        }
    }
    for (struct mr_loop *loop = loops; loop != NULL; loop = loop->next) {
        loop->watch_count = 0;
    }
    while (with_loops && loops != NULL) {
        mr_loop_close(loops);
    }
}

void sim_net_stop(void)
{
    while (ends != NULL) {
        end_crash(ends);
    }
    while (loops != NULL) {
        mr_loop_close(loops);
    }
    ports_given = 0;
}
