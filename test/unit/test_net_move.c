/* test_net_move.c
 * links: net os base
 *
 * Goal:   a connection that moves from one net to another loses no byte and tells nobody
 *         of an end; the limits that nets share count it once, wherever it is.
 * Method: two nets with loops and pools of their own, in one thread, and real sockets.
 *         The first gives away whoever begins with 'm'; the second checks the stream.
 */
#include "net/move.h"
#include "os/clock.h"

#include <stdio.h>

enum { STREAM = 300000 };

struct side {
    struct mr_bufpool pool;
    struct mr_loop *loop;
    struct mr_net *net;
    uint32_t tick;
    uint64_t opened;
    uint64_t closed;
    uint64_t received;
    bool moves; /* gives away what begins with 'm' */
};

static struct side sides[2];
static struct mr_net_shared shared;
static struct mr_address address;
static struct mr_conn_parcel parcel; /* on its way */
static uint8_t *unread;
static bool on_the_way;

static uint8_t byte_of(uint64_t at)
{
    return at == 0 ? 'm' : (uint8_t)(at * 31 + at / 251);
}

static bool on_open(void *arg, struct mr_conn *conn)
{
    (void)conn;
    ((struct side *)arg)->opened += 1;
    return true;
}

static size_t on_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes)
{
    struct side *side = arg;

    if (side->moves && bytes.at[0] == 'm') {
        mr_assert(!on_the_way);
        unread = mr_alloc(bytes.len);
        memcpy(unread, bytes.at, bytes.len);
        mr_conn_detach(conn, (uint32_t)bytes.len, &parcel);
        on_the_way = true;
        return 0;
    }
    for (size_t i = 0; i < bytes.len; i++) {
        mr_assert(bytes.at[i] == byte_of(side->received + i));
    }
    side->received += bytes.len;
    return bytes.len;
}

static void on_nothing(void *arg, struct mr_conn *conn)
{
    (void)arg;
    (void)conn;
}

static void on_close(void *arg, struct mr_conn *conn, enum mr_close_why why)
{
    (void)conn;
    mr_assert(why == MR_CLOSE_BY_PEER || why == MR_CLOSE_BROKEN);
    ((struct side *)arg)->closed += 1;
}

static const struct mr_net_handler handler = {.on_open = on_open,
                                              .on_bytes = on_bytes,
                                              .on_drained = on_nothing,
                                              .on_timer = on_nothing,
                                              .on_close = on_close};

static void sides_open(uint32_t connections_max)
{
    struct mr_error why;
    int fd = -1;

    shared = (struct mr_net_shared){.connections_max = connections_max};
    on_the_way = false;
    for (int i = 0; i < 2; i++) {
        struct side *side = &sides[i];
        *side = (struct side){.tick = 1, .moves = i == 0};
        mr_bufpool_init(&side->pool, 16 << 20, 1 << 20);
        mr_assert(mr_loop_open(&side->loop, &why) == MR_OK);
        struct mr_net_options options = {.loop = side->loop,
                                         .pool = &side->pool,
                                         .slab_bytes = 64 << 10,
                                         .user_bytes = 8,
                                         .connections_max = 100,
                                         .shared = &shared,
                                         .handler = &handler,
                                         .arg = side};
        mr_assert(mr_net_open(&side->net, &options, &why) == MR_OK);
    }
    mr_assert(mr_socket_listen("127.0.0.1:0", &(struct mr_listen_options){0}, &fd, &address,
                               &why) == MR_OK);
    mr_assert(mr_net_listen(sides[0].net, fd, 0, 0, &why) == MR_OK);
}

static void sides_close(void)
{
    for (int i = 0; i < 2; i++) {
        mr_net_close(sides[i].net);
        mr_loop_close(sides[i].loop);
        mr_bufpool_fini(&sides[i].pool);
    }
    mr_assert(shared.connections == 0 && shared.of_listener[0] == 0);
}

/* A turn of both; a tick each, so that pauses of accepting end soon. */
static void sides_turn(void)
{
    for (int i = 0; i < 2; i++) {
        struct side *side = &sides[i];
        struct mr_ready events[16];
        size_t count = mr_loop_wait(side->loop, events, 16, 1000000, NULL, NULL);

        mr_net_tick(side->net, ++side->tick);
        for (size_t n = 0; n < count; n++) {
            mr_net_event(side->net, &events[n]);
        }
        mr_net_flush(side->net);
    }
}

static void wait_until(const bool *condition, const uint64_t *value, uint64_t wanted)
{
    int64_t deadline_ns = mr_clock_mono_ns() + 20000000000;

    while (condition != NULL ? !*condition : *value != wanted) {
        sides_turn();
        mr_assert(mr_clock_mono_ns() < deadline_ns);
    }
}

static int client_connect(void)
{
    struct mr_error why;
    int fd = -1;

    mr_assert(mr_socket_connect(address.text, &fd, &why) == MR_OK);
    return fd;
}

/* Send [from, to) of the stream, while both sides run. */
static void client_send(int fd, uint64_t from, uint64_t to)
{
    static uint8_t bytes[STREAM];
    int64_t deadline_ns = mr_clock_mono_ns() + 20000000000;

    for (uint64_t at = from; at < to; at++) {
        bytes[at] = byte_of(at);
    }
    while (from < to) {
        size_t sent = 0;
        if (mr_socket_write(fd, bytes + from, (size_t)(to - from), &sent) != MR_OK) {
            sent = 0; /* not connected yet */
        }
        from += sent;
        sides_turn();
        mr_assert(mr_clock_mono_ns() < deadline_ns);
    }
}

static void parcel_arrives(void)
{
    struct mr_conn *conn = mr_net_attach(sides[1].net, &parcel, unread);

    mr_assert(conn != NULL && strncmp(mr_conn_peer(conn), "127.0.0.1:", 10) == 0);
    mr_free(unread);
    on_the_way = false;
    mr_conn_resume(conn);
}

static void test_no_byte_is_lost(void)
{
    sides_open(10);
    int fd = client_connect();
    client_send(fd, 0, 5000);
    wait_until(&on_the_way, NULL, 0);
    client_send(fd, 5000, 60000); /* nobody watches the socket now */
    mr_assert(mr_net_stats(sides[0].net)->open == 0 && shared.connections == 1);
    parcel_arrives();
    client_send(fd, 60000, STREAM);
    wait_until(NULL, &sides[1].received, STREAM);
    mr_assert(sides[0].opened == 1 && sides[0].closed == 0);
    mr_assert(sides[1].opened == 0 && mr_net_stats(sides[1].net)->open == 1);
    mr_socket_close(fd);
    wait_until(NULL, &sides[1].closed, 1);
    mr_assert(shared.connections == 0);
    sides_close();
}

/* The place of one that moved is free when it has gone, or its parcel was closed. */
static void test_shared_limits(void)
{
    sides_open(1);
    int first = client_connect();
    client_send(first, 0, 1);
    wait_until(&on_the_way, NULL, 0);
    int second = client_connect();
    for (int i = 0; i < 20; i++) {
        sides_turn();
    }
    mr_assert(sides[0].opened == 1 && mr_net_stats(sides[0].net)->accept_waits);
    parcel_arrives();
    mr_socket_close(first);
    wait_until(NULL, &sides[1].closed, 1);
    wait_until(NULL, &sides[0].opened, 2);
    client_send(second, 0, 1);
    wait_until(&on_the_way, NULL, 0);
    mr_conn_parcel_close(&parcel, &shared);
    mr_free(unread);
    mr_assert(shared.connections == 0);
    mr_socket_close(second);
    sides_close();
}

int main(void)
{
    test_no_byte_is_lost();
    test_shared_limits();
    printf("ok\n");
    return 0;
}
