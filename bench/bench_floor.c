/* bench_floor.c - the least that this kernel allows a QoS 1 server to cost.
 *
 * DESIGN
 *
 * One epoll loop that frames packets, writes a PUBACK for each QoS 1 PUBLISH, and
 * does nothing else: no topic, no session, no journal.  One read per wake-up of a
 * connection, one send per read.  What a gateway costs above this is its own
 * doing; gateway / floor is the figure to watch.
 *
 * The receive buffer is shared by all connections; the beginning of a packet that
 * is not complete is kept with its connection until the rest is there.
 *
 * Rejected: io_uring.  It is cheaper for un-pipelined loads, but the gateway is an
 * epoll program and the floor has to be the floor of what it does.
 *
 * The CPU time counted begins at the first PUBLISH and ends at the last one: the
 * connects before and the closes after are not part of it.  No clock is read in
 * between.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 1024,
    READ_BYTES = 128 * 1024,
    PACKET_MAX = 128 * 1024,
    ANSWER_BYTES_MAX = 256 * 1024, /* 4 bytes for at least 2 read: never outgrown */
};

struct floor_conn {
    int fd;
    uint8_t *part; /* the beginning of an incomplete packet; lent until it is complete */
    size_t part_len;
    uint8_t *unsent; /* what the socket did not take */
    size_t unsent_len;
};

struct floor_server {
    int epoll;
    int listener;
    uint8_t *input;  /* PACKET_MAX for a kept beginning, READ_BYTES behind it */
    uint8_t *answer; /* of one read */
    size_t answer_len;
    uint64_t publishes;
    uint64_t reads;
    uint64_t sends;
    uint64_t conns;
    int64_t first_cpu_ns; /* at the first PUBLISH */
    int64_t first_ns;
    uint64_t busy_poll_us; /* what was tried, and is not the floor: busy polling of the socket, */
    bool spin;             /* an epoll that never sleeps, */
    bool zerocopy;         /* and answers that the kernel does not copy */
    uint64_t counted;      /* publishes that the next two cover */
    int64_t last_cpu_ns;   /* when the first connection left after them */
    int64_t last_ns;
};

static void floor_watch(struct floor_server *server, int op, struct floor_conn *conn, uint32_t what)
{
    struct epoll_event event = {.events = what, .data.ptr = conn};

    if (epoll_ctl(server->epoll, op, conn->fd, &event) != 0) {
        bench_fail("cannot watch a connection: %s", bench_cause());
    }
}

static void floor_count(struct floor_server *server)
{
    if (server->counted != server->publishes) {
        server->counted = server->publishes;
        server->last_cpu_ns = bench_cpu_ns();
        server->last_ns = bench_mono_ns();
    }
}

static void floor_close(struct floor_server *server, struct floor_conn *conn)
{
    floor_count(server);
    (void)close(conn->fd);
    mr_free(conn->part);
    mr_free(conn->unsent);
    mr_free(conn);
}

/* What is to be tried with the socket of a connection. */
static void floor_try(const struct floor_server *server, int fd)
{
    const int on = 1;
    const int us = (int)server->busy_poll_us;

    if ((us != 0 && setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL, &us, sizeof(us)) != 0) ||
        (server->zerocopy && setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) != 0)) {
        bench_fail("this kernel does not let us try that: %s", bench_cause());
    }
}

/* The kernel's word that it has sent what it did not copy: to be taken, or it accumulates. */
static void floor_take_notices(int fd)
{
    char notice[512];
    struct msghdr message = {.msg_control = notice, .msg_controllen = sizeof(notice)};

    while (recvmsg(fd, &message, MSG_ERRQUEUE) >= 0) {
        message.msg_controllen = sizeof(notice);
    }
}

static void floor_accept(struct floor_server *server)
{
    const int on = 1;

    for (;;) {
        int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        floor_try(server, fd);
        struct floor_conn *conn = mr_alloc(sizeof(*conn));
        conn->fd = fd;
        server->conns += 1;
        floor_watch(server, EPOLL_CTL_ADD, conn, EPOLLIN);
    }
}

static void floor_answer(struct floor_server *server, const void *bytes, size_t len)
{
    mr_assert(server->answer_len + len <= ANSWER_BYTES_MAX);
    memcpy(server->answer + server->answer_len, bytes, len);
    server->answer_len += len;
}

/* One packet; `body` is what follows the fixed header.  False: close. */
static bool floor_packet(struct floor_server *server, uint8_t first, const uint8_t *body,
                         size_t body_len)
{
    switch (first >> 4) {
    case 3: /* PUBLISH */
        server->publishes += 1;
        if ((first & 6) != 0) {
            size_t topic_len = body_len < 2 ? 0 : mr_get_be16(body);
            if (body_len < topic_len + 4) {
                return false;
            }
            uint8_t ack[4] = {0x40, 2, body[2 + topic_len], body[3 + topic_len]};
            floor_answer(server, ack, sizeof(ack));
        }
        return true;
    case 1: /* CONNECT -> CONNACK, accepted */
        floor_answer(server, "\x20\x02\x00\x00", 4);
        return true;
    case 12: /* PINGREQ -> PINGRESP */
        floor_answer(server, "\xd0\x00", 2);
        return true;
    default:
        return false; /* DISCONNECT, or what a publisher does not send */
    }
}

/* All complete packets of [at, end).  Returns where the first incomplete one
 * begins, or NULL: close.
 */
static const uint8_t *floor_frames(struct floor_server *server, const uint8_t *at,
                                   const uint8_t *end)
{
    while (end - at >= 2) {
        size_t remaining = 0;
        unsigned shift = 0;
        const uint8_t *body = at + 1;

        do {
            if (body == end) {
                return at;
            }
            remaining |= (size_t)(*body & 0x7f) << shift;
            shift += 7;
        } while ((*body++ & 0x80) != 0 && shift < 28);
        if (remaining > PACKET_MAX - 5) {
            return NULL;
        }
        if ((size_t)(end - body) < remaining) {
            return at;
        }
        if (!floor_packet(server, *at, body, remaining)) {
            return NULL;
        }
        at = body + remaining;
    }
    return at;
}

/* One send per read.  False: the connection is broken. */
static bool floor_send(struct floor_server *server, struct floor_conn *conn)
{
    size_t sent = 0;

    if (conn->unsent_len == 0) {
        ssize_t done = send(conn->fd, server->answer, server->answer_len,
                            MSG_NOSIGNAL | (server->zerocopy ? MSG_ZEROCOPY : 0));
        server->sends += 1;
        if (done < 0 && errno != EAGAIN) {
            return false;
        }
        sent = done < 0 ? 0 : (size_t)done;
    }
    if (sent < server->answer_len) {
        size_t more = server->answer_len - sent;
        conn->unsent = mr_realloc(conn->unsent, conn->unsent_len + more);
        memcpy(conn->unsent + conn->unsent_len, server->answer + sent, more);
        conn->unsent_len += more;
        floor_watch(server, EPOLL_CTL_MOD, conn, EPOLLIN | EPOLLOUT);
    }
    return true;
}

static bool floor_flush(struct floor_server *server, struct floor_conn *conn)
{
    ssize_t done = send(conn->fd, conn->unsent, conn->unsent_len, MSG_NOSIGNAL);

    server->sends += 1;
    if (done < 0) {
        return errno == EAGAIN;
    }
    conn->unsent_len -= (size_t)done;
    memmove(conn->unsent, conn->unsent + done, conn->unsent_len);
    if (conn->unsent_len == 0) {
        floor_watch(server, EPOLL_CTL_MOD, conn, EPOLLIN);
    }
    return true;
}

/* False: close. */
static bool floor_read(struct floor_server *server, struct floor_conn *conn)
{
    uint8_t *fresh = server->input + PACKET_MAX;
    const uint8_t *begin = fresh - conn->part_len;
    ssize_t got = recv(conn->fd, fresh, READ_BYTES, 0);

    server->reads += 1;
    if (got <= 0) {
        return got < 0 && errno == EAGAIN;
    }
    if (conn->part_len > 0) {
        memcpy(fresh - conn->part_len, conn->part, conn->part_len);
    }
    server->answer_len = 0;
    const uint8_t *rest = floor_frames(server, begin, fresh + got);
    if (rest == NULL) {
        return false;
    }
    conn->part_len = (size_t)(fresh + got - rest);
    if (conn->part_len > 0) {
        if (conn->part == NULL) {
            conn->part = mr_alloc(PACKET_MAX);
        }
        memcpy(conn->part, rest, conn->part_len);
    }
    return server->answer_len == 0 || floor_send(server, conn);
}

static void floor_serve(struct floor_server *server, struct floor_conn *conn, uint32_t what)
{
    if ((what & EPOLLERR) != 0 && server->zerocopy) {
        floor_take_notices(conn->fd);
    }
    bool alive = (what & EPOLLOUT) == 0 || floor_flush(server, conn);

    if (alive && (what & ~(uint32_t)EPOLLOUT) != 0) {
        alive = floor_read(server, conn);
    }
    if (!alive) {
        floor_close(server, conn);
    }
}

static uint16_t floor_listen(struct floor_server *server, uint16_t port)
{
    const int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t address_len = sizeof(address);

    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->listener < 0) {
        bench_fail("no socket: %s", bench_cause());
    }
    (void)setsockopt(server->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(server->listener, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(server->listener, 4096) != 0 ||
        getsockname(server->listener, (struct sockaddr *)&address, &address_len) != 0) {
        bench_fail("cannot listen on 127.0.0.1:%u: %s", port, bench_cause());
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = server};
    (void)epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->listener, &event);
    return ntohs(address.sin_port);
}

static void floor_loop(struct floor_server *server)
{
    struct epoll_event events[EVENTS_MAX];

    while (!bench_stopped()) {
        int count = epoll_wait(server->epoll, events, EVENTS_MAX, server->spin ? 0 : -1);

        if (server->publishes == 0) {
            server->first_cpu_ns = bench_cpu_ns();
            server->first_ns = bench_mono_ns();
        }
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == server) {
                floor_accept(server);
            } else {
                floor_serve(server, events[i].data.ptr, events[i].events);
            }
        }
    }
    floor_count(server);
}

static void floor_report(const struct floor_server *server)
{
    struct bench_json json = bench_json_open("floor");
    double cpu_ns = (double)(server->last_cpu_ns - server->first_cpu_ns);
    double events = server->publishes == 0 ? 1 : (double)server->publishes;

    bench_json_u64(&json, "events", server->publishes);
    bench_json_u64(&json, "connections", server->conns);
    bench_json_number(&json, "seconds", (double)(server->last_ns - server->first_ns) / 1e9);
    bench_json_number(&json, "cpu_ns_per_event", cpu_ns / events);
    bench_json_number(&json, "events_per_read", events / (double)(server->reads + 1));
    bench_json_u64(&json, "sends", server->sends);
    bench_json_close(&json);
}

int main(int argc, char **argv)
{
    uint64_t port = 0;
    struct floor_server server = {0};
    const struct bench_option table[] = {
        {"port", BENCH_U64, &port, "TCP port on 127.0.0.1; 0: any free one, said on stderr"},
        {"busy-poll", BENCH_U64, &server.busy_poll_us, "SO_BUSY_POLL of connections, microseconds"},
        {"spin", BENCH_FLAG, &server.spin, "never sleep"},
        {"zerocopy", BENCH_FLAG, &server.zerocopy, "MSG_ZEROCOPY"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "an MQTT server that only frames packets and writes PUBACKs", table);
    bench_stop_on_signals();
    bench_descriptors(1024);
    server.input = mr_alloc(PACKET_MAX + READ_BYTES);
    server.answer = mr_alloc(ANSWER_BYTES_MAX);
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    (void)fprintf(stderr, "listening on %u\n", floor_listen(&server, (uint16_t)port));
    floor_loop(&server);
    floor_report(&server);
    mr_free(server.input);
    mr_free(server.answer);
    return 0;
}
