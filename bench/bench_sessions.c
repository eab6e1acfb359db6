/* bench_sessions.c - how long until everyone is back: a storm of persistent sessions.
 *
 * DESIGN
 *
 * Each client connects without clean session, subscribes to a topic of its own with
 * QoS 1, and is cut off without DISCONNECT.  Then all come back at once, as after a
 * network that failed: every socket is opened before the first answer is read, and
 * the time of each client runs from that moment, so whoever waits in a queue is
 * charged for it.  An answer counts only if it says that the session was there.
 *
 * Opening stops while --opening clients (2,000) are without their CONNACK: the kernel's
 * accept queue is finite, and a SYN that it drops comes again after a second,
 * which would measure the kernel's timer.
 *
 * With --prepare the sessions are made and left, with --return they are expected to
 * be there: between the two runs the server may be restarted.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, PACKET_MAX = 160, PATIENCE_S = 120 };

struct storm_client {
    int fd;
    int64_t begin_ns;
    uint8_t answer[4];
    uint32_t answer_len;
    bool asked; /* its CONNECT has been written */
    bool back;
};

struct storm {
    uint64_t port;
    uint64_t count;
    uint64_t opening;
    bool prepare;
    bool come_back;

    struct storm_client *clients;
    int epoll;
    uint64_t opened;
    uint64_t back;
    struct mr_histogram latency;
};

/* ---- packets (MQTT 3.1.1, 3.1 and 3.8) ---- */

static size_t storm_connect_packet(uint8_t *at, uint64_t number)
{
    /* Level 4, clean session 0, no keep-alive. */
    static const uint8_t variable[] = {0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0};
    char id[32];
    size_t id_len = bench_client_id(id, sizeof(id), number);
    size_t len = 2 + sizeof(variable);

    at[0] = 0x10;
    memcpy(at + 2, variable, sizeof(variable));
    mr_put_be16(at + len, (uint16_t)id_len);
    memcpy(at + len + 2, id, id_len);
    len += 2 + id_len;
    at[1] = (uint8_t)(len - 2);
    return len;
}

static size_t storm_subscribe_packet(uint8_t *at, uint64_t number)
{
    char filter[64];
    int filter_len =
        snprintf(filter, sizeof(filter), "commands/%07llu/#", (unsigned long long)number);
    size_t len = 2;

    at[0] = 0x82;
    mr_put_be16(at + len, 1);
    mr_put_be16(at + len + 2, (uint16_t)filter_len);
    memcpy(at + len + 4, filter, (size_t)filter_len);
    len += 4 + (size_t)filter_len;
    at[len++] = 1; /* QoS */
    at[1] = (uint8_t)(len - 2);
    return len;
}

/* ---- sockets ---- */

static void storm_open(struct storm *storm, uint64_t number)
{
    const int on = 1;
    struct storm_client *client = &storm->clients[number];
    struct sockaddr_in target = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)storm->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = client};

    *client = (struct storm_client){.begin_ns = bench_mono_ns()};
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->fd < 0) {
        bench_fail("no socket: %s", bench_cause());
    }
    (void)setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(client->fd, (const struct sockaddr *)&target, sizeof(target)) != 0 &&
        errno != EINPROGRESS) {
        bench_fail("cannot connect: %s; is the server running?", bench_cause());
    }
    if (epoll_ctl(storm->epoll, EPOLL_CTL_ADD, client->fd, &event) != 0) {
        bench_fail("cannot watch a connection: %s", bench_cause());
    }
    storm->opened += 1;
}

static void storm_ask(struct storm *storm, struct storm_client *client)
{
    uint8_t packet[PACKET_MAX];
    uint64_t number = (uint64_t)(client - storm->clients);
    size_t len = storm_connect_packet(packet, number);

    if (!storm->come_back) {
        len += storm_subscribe_packet(packet + len, number);
    }
    if (send(client->fd, packet, len, MSG_NOSIGNAL) != (ssize_t)len) {
        bench_fail("client %llu cannot send its CONNECT: %s", (unsigned long long)number,
                   bench_cause());
    }
    client->asked = true;
}

static void storm_back(struct storm *storm, struct storm_client *client)
{
    const uint8_t present = storm->come_back ? 1 : client->answer[2];

    if (client->answer[0] != 0x20 || client->answer[3] != 0 || client->answer[2] != present) {
        bench_fail("client %llu: CONNACK 0x%02x with session present %u, code %u",
                   (unsigned long long)(client - storm->clients), client->answer[0],
                   client->answer[2], client->answer[3]);
    }
    client->back = true;
    storm->back += 1;
    mr_histogram_add(&storm->latency, bench_mono_ns() - client->begin_ns);
}

/* CONNACK, and when preparing a SUBACK behind it: 4 and 5 bytes. */
static void storm_read(struct storm *storm, struct storm_client *client)
{
    uint8_t input[64];

    for (;;) {
        ssize_t got = recv(client->fd, input, sizeof(input), 0);
        if (got < 0 && errno == EAGAIN) {
            return;
        }
        if (got <= 0) {
            bench_fail("client %llu was cut off: %s", (unsigned long long)(client - storm->clients),
                       got == 0 ? "end" : bench_cause());
        }
        for (ssize_t i = 0; i < got; i++) {
            if (client->answer_len < sizeof(client->answer)) {
                client->answer[client->answer_len] = input[i];
            }
            client->answer_len += 1;
        }
        if (!client->back && client->answer_len >= (storm->come_back ? 4u : 9u)) {
            storm_back(storm, client);
        }
    }
}

static void storm_event(struct storm *storm, const struct epoll_event *event)
{
    struct storm_client *client = event->data.ptr;

    if ((event->events & EPOLLOUT) != 0 && !client->asked) {
        storm_ask(storm, client);
    }
    if ((event->events & ~(uint32_t)EPOLLOUT) != 0) {
        storm_read(storm, client);
    }
}

/* Everyone in; returns how long it took. */
static int64_t storm_run(struct storm *storm)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t begin_ns = bench_mono_ns();
    int64_t deadline_ns = begin_ns + (int64_t)PATIENCE_S * 1000000000;

    storm->epoll = epoll_create1(EPOLL_CLOEXEC);
    while (storm->back < storm->count && !bench_stopped()) {
        while (storm->opened < storm->count && storm->opened - storm->back < storm->opening) {
            storm_open(storm, storm->opened);
        }
        int count = epoll_wait(storm->epoll, events, EVENTS_MAX, 1000);
        for (int i = 0; i < count; i++) {
            storm_event(storm, &events[i]);
        }
        if (bench_mono_ns() > deadline_ns) {
            bench_fail("only %llu of %llu are back after %d s", (unsigned long long)storm->back,
                       (unsigned long long)storm->count, PATIENCE_S);
        }
    }
    int64_t took_ns = bench_mono_ns() - begin_ns;
    for (uint64_t i = 0; i < storm->opened; i++) {
        (void)close(storm->clients[i].fd);
    }
    (void)close(storm->epoll);
    return took_ns;
}

int main(int argc, char **argv)
{
    static struct storm storm = {.count = 15000, .opening = 2000};
    const struct bench_option table[] = {
        {"port", BENCH_U64, &storm.port, "TCP port of the server on 127.0.0.1"},
        {"clients", BENCH_U64, &storm.count, "sessions"},
        {"opening", BENCH_U64, &storm.opening, "clients without a CONNACK at a time"},
        {"prepare", BENCH_FLAG, &storm.prepare, "make the sessions and leave them"},
        {"return", BENCH_FLAG, &storm.come_back, "come back to sessions that are there"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "persistent sessions that come back all at once", table);
    if (storm.port == 0 || storm.port > UINT16_MAX || storm.prepare == storm.come_back) {
        bench_fail("--port is needed, and one of --prepare and --return");
    }
    bench_descriptors(storm.count + 16);
    bench_stop_on_signals();
    storm.clients = mr_alloc(storm.count * sizeof(*storm.clients));
    int64_t took_ns = storm_run(&storm);

    struct bench_json json = bench_json_open("sessions");
    bench_json_u64(&json, "clients", storm.back);
    bench_json_number(&json, "seconds", (double)took_ns / 1e9);
    bench_json_histogram(&json, "connack", &storm.latency);
    bench_json_close(&json);
    return storm.back == storm.count ? 0 : 1;
}
