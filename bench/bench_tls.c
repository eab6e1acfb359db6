/* bench_tls.c - the least that a TLS connection costs with this OpenSSL: an echo server.
 *
 * DESIGN
 *
 * One epoll loop; a connection is a descriptor and an SSL object, which gives its buffers
 * back while nothing happens (SSL_MODE_RELEASE_BUFFERS).  What is read is written back.  TLS 1.3,
 * one ticket, no session cache, as the gateway does it.  What a gateway holds for an idle
 * connection, and spends for a handshake, above this is its own doing.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, READ_BYTES = 16384 };

struct echo_conn {
    int fd;
    SSL *ssl;
    struct echo_conn *next;
    struct echo_conn **link; /* what points to it */
};

struct echo_server {
    int epoll;
    int listener;
    SSL_CTX *context;
    struct echo_conn *conns;
    uint64_t handshakes;
};

static void echo_context(struct echo_server *server, const char *cert, const char *key)
{
    server->context = SSL_CTX_new(TLS_server_method());
    if (server->context == NULL || SSL_CTX_use_certificate_chain_file(server->context, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(server->context, key, SSL_FILETYPE_PEM) != 1) {
        bench_fail("the certificate '%s' and the key '%s' cannot be used", cert, key);
    }
    (void)SSL_CTX_set_mode(server->context, SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(server->context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(server->context, 1);
}

static uint16_t echo_listen(struct echo_server *server, uint16_t port)
{
    const int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t address_len = sizeof(address);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = server};

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
    (void)epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->listener, &event);
    return ntohs(address.sin_port);
}

static void echo_accept(struct echo_server *server)
{
    const int on = 1;

    for (;;) {
        int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        struct echo_conn *conn = mr_alloc(sizeof(*conn));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
        conn->fd = fd;
        conn->ssl = SSL_new(server->context);
        if (conn->ssl == NULL || SSL_set_fd(conn->ssl, fd) != 1 ||
            epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
            bench_fail("cannot take a connection: %s", bench_cause());
        }
        SSL_set_accept_state(conn->ssl);
        conn->next = server->conns;
        conn->link = &server->conns;
        if (conn->next != NULL) {
            conn->next->link = &conn->next;
        }
        server->conns = conn;
    }
}

static void echo_close(struct echo_conn *conn)
{
    *conn->link = conn->next;
    if (conn->next != NULL) {
        conn->next->link = conn->link;
    }
    SSL_free(conn->ssl);
    (void)close(conn->fd);
    mr_free(conn);
}

/* False: it is over. */
static bool echo_serve(struct echo_server *server, struct echo_conn *conn)
{
    static uint8_t input[READ_BYTES];
    bool fresh = !SSL_is_init_finished(conn->ssl);
    int got = SSL_read(conn->ssl, input, sizeof(input)); /* does the handshake first */

    if (fresh && SSL_is_init_finished(conn->ssl)) {
        server->handshakes += 1;
    }
    while (got > 0) {
        if (SSL_write(conn->ssl, input, got) != got) {
            return false; /* a peer that does not read is none of ours */
        }
        got = SSL_read(conn->ssl, input, sizeof(input));
    }
    return SSL_get_error(conn->ssl, got) == SSL_ERROR_WANT_READ;
}

static void echo_loop(struct echo_server *server)
{
    struct epoll_event events[EVENTS_MAX];

    while (!bench_stopped()) {
        int count = epoll_wait(server->epoll, events, EVENTS_MAX, -1);

        for (int i = 0; i < count; i++) {
            struct echo_conn *conn = events[i].data.ptr;
            if (events[i].data.ptr == server) {
                echo_accept(server);
            } else if (!echo_serve(server, conn)) {
                echo_close(conn);
            }
        }
    }
    while (server->conns != NULL) {
        echo_close(server->conns);
    }
}

int main(int argc, char **argv)
{
    struct echo_server server = {0};
    uint64_t port = 0;
    const char *cert = NULL;
    const char *key = NULL;
    const struct bench_option table[] = {
        {"port", BENCH_U64, &port, "TCP port on 127.0.0.1; 0: any free one, said on stderr"},
        {"cert", BENCH_TEXT, &cert, "PEM: the certificate"},
        {"key", BENCH_TEXT, &key, "PEM: its key"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "a TLS server that writes back what it reads", table);
    if (cert == NULL || key == NULL) {
        bench_fail("--cert and --key are needed");
    }
    bench_stop_on_signals();
    bench_descriptors(1024);
    echo_context(&server, cert, key);
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    (void)fprintf(stderr, "listening on %u\n", echo_listen(&server, (uint16_t)port));
    echo_loop(&server);
    struct bench_json json = bench_json_open("tls");
    bench_json_u64(&json, "handshakes", server.handshakes);
    bench_json_close(&json);
    SSL_CTX_free(server.context);
    return 0;
}
