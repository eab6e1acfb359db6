/* bench_visit.c - connect, (TLS handshake,) CONNECT, CONNACK, close: how many a second.
 *
 * DESIGN
 *
 * --opening clients at a time, each a small state machine on one epoll loop; when one is
 * done the next begins.  The server's CPU time is read before and after, so the cost of a visit is
 * known whatever the client itself takes.  With --tls an answer may also be what was sent: the
 * floor of TLS is an echo server (bench_tls).
 *
 * A client id is used once.  The socket is closed by a reset (SO_LINGER 0): ports in TIME_WAIT
 * would run out, and for no visit is the end part of what is asked.
 */
#include "bench_tls_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, PACKET_MAX = 64, OPENING_MAX = 2000, PATIENCE_S = 120 };

enum visit_step { VISIT_CONNECT, VISIT_HANDSHAKE, VISIT_ANSWER };

struct visitor {
    int fd;
    SSL *ssl; /* NULL: plain */
    enum visit_step step;
    int64_t begin_ns;
    uint8_t packet[PACKET_MAX];
    size_t packet_len;
    uint8_t answer[4];
    size_t answer_len;
};

struct visit {
    uint64_t port;
    uint64_t count;
    uint64_t opening;
    uint64_t server_pid;
    bool tls;

    SSL_CTX *context;
    int epoll;
    struct visitor *visitors;
    uint64_t begun;
    uint64_t done;
    struct mr_histogram latency;
};

static void visit_begin(struct visit *visit, struct visitor *visitor)
{
    const int on = 1;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct sockaddr_in target = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)visit->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = visitor};
    char id[32];

    *visitor = (struct visitor){.begin_ns = bench_mono_ns()};
    (void)bench_client_id(id, sizeof(id), visit->begun);
    visitor->packet_len = bench_mqtt_connect_packet(visitor->packet, PACKET_MAX, id);
    visit->begun += 1;
    visitor->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (visitor->fd < 0) {
        bench_fail("no socket: %s", bench_cause());
    }
    (void)setsockopt(visitor->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(visitor->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    if (connect(visitor->fd, (const struct sockaddr *)&target, sizeof(target)) != 0 &&
        errno != EINPROGRESS) {
        bench_fail("cannot connect: %s; is the server running?", bench_cause());
    }
    visitor->ssl = visit->tls ? bench_tls_over(visit->context, visitor->fd) : NULL;
    if (epoll_ctl(visit->epoll, EPOLL_CTL_ADD, visitor->fd, &event) != 0) {
        bench_fail("cannot watch a connection: %s", bench_cause());
    }
}

/* False: later. */
static bool visit_handshake(struct visitor *visitor)
{
    int result = SSL_do_handshake(visitor->ssl);

    return result == 1 || !bench_tls_again(visitor->ssl, result);
}

static void visit_ask(struct visitor *visitor)
{
    int sent = visitor->ssl != NULL
                   ? SSL_write(visitor->ssl, visitor->packet, (int)visitor->packet_len)
                   : (int)send(visitor->fd, visitor->packet, visitor->packet_len, MSG_NOSIGNAL);

    if (sent != (int)visitor->packet_len) {
        bench_fail("cannot send a CONNECT: %s", bench_cause());
    }
}

/* Up to the four bytes of a CONNACK.  False: later. */
static bool visit_answer(struct visitor *visitor)
{
    while (visitor->answer_len < sizeof(visitor->answer)) {
        uint8_t *at = visitor->answer + visitor->answer_len;
        int room = (int)(sizeof(visitor->answer) - visitor->answer_len);
        int got = visitor->ssl != NULL ? SSL_read(visitor->ssl, at, room)
                                       : (int)recv(visitor->fd, at, (size_t)room, 0);
        if (got <= 0) {
            if (visitor->ssl != NULL ? bench_tls_again(visitor->ssl, got) : errno == EAGAIN) {
                return false;
            }
            bench_fail("no CONNACK: %s", got == 0 ? "the connection ended" : bench_cause());
        }
        visitor->answer_len += (size_t)got;
    }
    if (memcmp(visitor->answer, "\x20\x02\x00\x00", 4) != 0 &&
        (visitor->ssl == NULL || memcmp(visitor->answer, visitor->packet, 4) != 0)) {
        bench_fail("a CONNACK was expected, and %02x%02x%02x%02x came", visitor->answer[0],
                   visitor->answer[1], visitor->answer[2], visitor->answer[3]);
    }
    return true;
}

/* As far as it goes.  True: this visit is over. */
static bool visit_go_on(struct visitor *visitor, uint32_t what)
{
    if (visitor->step == VISIT_CONNECT && (what & EPOLLOUT) != 0) {
        visitor->step = VISIT_HANDSHAKE;
    }
    if (visitor->step == VISIT_HANDSHAKE && (visitor->ssl == NULL || visit_handshake(visitor))) {
        visit_ask(visitor);
        visitor->step = VISIT_ANSWER;
    }
    return visitor->step == VISIT_ANSWER && visit_answer(visitor);
}

static void visit_end(struct visit *visit, struct visitor *visitor)
{
    mr_histogram_add(&visit->latency, bench_mono_ns() - visitor->begin_ns);
    visit->done += 1;
    SSL_free(visitor->ssl);
    (void)close(visitor->fd);
    if (visit->begun < visit->count) {
        visit_begin(visit, visitor);
    }
}

static int64_t visit_run(struct visit *visit)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t begin_ns = bench_mono_ns();

    while (visit->begun < visit->opening) {
        visit_begin(visit, &visit->visitors[visit->begun]);
    }
    while (visit->done < visit->count && !bench_stopped()) {
        int count = epoll_wait(visit->epoll, events, EVENTS_MAX, 1000);

        for (int i = 0; i < count; i++) {
            if (visit_go_on(events[i].data.ptr, events[i].events)) {
                visit_end(visit, events[i].data.ptr);
            }
        }
        if (bench_mono_ns() - begin_ns > (int64_t)PATIENCE_S * 1000000000) {
            bench_fail("only %llu visits in %d s", (unsigned long long)visit->done, PATIENCE_S);
        }
    }
    return bench_mono_ns() - begin_ns;
}

int main(int argc, char **argv)
{
    static struct visit visit = {.count = 20000, .opening = 100};
    const struct bench_option table[] = {
        {"port", BENCH_U64, &visit.port, "TCP port of the server on 127.0.0.1"},
        {"count", BENCH_U64, &visit.count, "visits"},
        {"opening", BENCH_U64, &visit.opening, "visitors at a time"},
        {"tls", BENCH_FLAG, &visit.tls, "with TLS"},
        {"server-pid", BENCH_U64, &visit.server_pid, "read this process's CPU before and after"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "connect, CONNECT, CONNACK, close, again and again", table);
    if (visit.port == 0 || visit.port > UINT16_MAX || visit.opening == 0 ||
        visit.opening > OPENING_MAX || visit.count < visit.opening) {
        bench_fail("--port is needed; --opening within 1 and %d, and not above --count",
                   OPENING_MAX);
    }
    bench_descriptors(visit.opening + 16);
    bench_stop_on_signals();
    visit.visitors = mr_alloc(visit.opening * sizeof(*visit.visitors));
    visit.epoll = epoll_create1(EPOLL_CLOEXEC);
    visit.context = visit.tls ? bench_tls_context() : NULL;
    uint64_t cpu_ns = bench_process_cpu_ns(visit.server_pid);
    int64_t took_ns = visit_run(&visit);
    cpu_ns = bench_process_cpu_ns(visit.server_pid) - cpu_ns;

    struct bench_json json = bench_json_open("visit");
    bench_json_u64(&json, "visits", visit.done);
    bench_json_number(&json, "seconds", (double)took_ns / 1e9);
    bench_json_number(&json, "visits_per_s", (double)visit.done * 1e9 / (double)took_ns);
    bench_json_number(&json, "server_cpu_ns_per_visit", (double)cpu_ns / (double)visit.done);
    bench_json_histogram(&json, "visit", &visit.latency);
    bench_json_close(&json);
    SSL_CTX_free(visit.context);
    mr_free(visit.visitors);
    return visit.done == visit.count ? 0 : 1;
}
