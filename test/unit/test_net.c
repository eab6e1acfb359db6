/* test_net.c
 * links: net os base
 *
 * Goal:   bytes arrive once and in order however they are cut, read, paused and
 *         resumed; what is sent arrives; on_close comes once; buffers come back.
 * Method: an owner that understands records of [length u16][bytes], random sizes and
 *         pauses; loops and sockets are real, all in one thread, first without io_uring, then
 *         with it where it is to be had.  Seeded; replay
 *         with: ./test_net <seed>
 */
#include "base/bytes.h"
#include "base/rng.h"
#include "net/net.h"
#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { RECORD_MAX = 60000 };

struct owner {
    struct mr_rng rng;
    bool pauses;
    bool answers_drained; /* once for each connection */
    uint64_t received;    /* records */
    uint64_t opened;
    uint64_t closed;
    uint64_t drained;
    uint64_t timers;
    enum mr_close_why why;
    uint64_t last_id;
};

struct user {
    uint32_t next; /* number of the record expected */
    bool drained;
};

static uint8_t pattern(uint32_t record, size_t i)
{
    return (uint8_t)(record * 131 + i * 7 + i / 256);
}

static bool owner_open(void *arg, struct mr_conn *conn)
{
    struct owner *owner = arg;

    owner->opened += 1;
    owner->last_id = mr_conn_id(conn);
    mr_assert(((struct user *)mr_conn_user(conn))->next == 0);
    mr_assert(mr_conn_of_user(mr_conn_user(conn)) == conn);
    mr_assert(strncmp(mr_conn_peer(conn), "127.0.0.1:", 10) == 0 ||
              strncmp(mr_conn_peer(conn), "unix/", 5) == 0);
    return true;
}

static size_t owner_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes)
{
    struct owner *owner = arg;
    struct user *user = mr_conn_user(conn);
    size_t used = 0;

    for (;;) {
        size_t left = bytes.len - used;
        if (left < 2) {
            return used;
        }
        uint32_t len = mr_get_be16(bytes.at + used);
        if (left < 2 + len) {
            mr_conn_need(conn, 2 + len);
            return used;
        }
        if (owner->pauses && mr_rng_below(&owner->rng, 8) == 0) {
            mr_conn_pause(conn);
            return used;
        }
        for (size_t i = 0; i < len; i++) {
            mr_assert(bytes.at[used + 2 + i] == pattern(user->next, i));
        }
        uint8_t answer[4];
        mr_put_be32(answer, user->next);
        bool soon = !owner->answers_drained && mr_rng_below(&owner->rng, 2) == 0;
        mr_assert((soon ? mr_conn_send_soon(conn, answer, sizeof(answer))
                        : mr_conn_send(conn, answer, sizeof(answer))) == MR_OK);
        user->next += 1;
        owner->received += 1;
        used += 2 + len;
    }
}

static void owner_drained(void *arg, struct mr_conn *conn)
{
    struct owner *owner = arg;
    struct user *user = mr_conn_user(conn);

    owner->drained += 1;
    if (owner->answers_drained && !user->drained) {
        user->drained = true;
        mr_assert(mr_conn_send(conn, "more", 4) == MR_OK);
    }
}

static void owner_timer(void *arg, struct mr_conn *conn)
{
    ((struct owner *)arg)->timers += 1;
    mr_assert(mr_conn_send(conn, "bye", 3) == MR_OK);
    mr_conn_close(conn);
}

static void owner_close(void *arg, struct mr_conn *conn, enum mr_close_why why)
{
    struct owner *owner = arg;

    (void)conn;
    owner->closed += 1;
    owner->why = why;
}

static const struct mr_net_handler handler = {.on_open = owner_open,
                                              .on_bytes = owner_bytes,
                                              .on_drained = owner_drained,
                                              .on_timer = owner_timer,
                                              .on_close = owner_close};

struct world {
    struct owner owner;
    struct mr_bufpool pool;
    struct mr_loop *loop;
    struct mr_net *net;
    struct mr_address address;
    uint32_t tick;
};

static bool batched; /* do sends leave by io_uring? */

static void world_open(struct world *world, uint64_t seed, uint32_t connections_max)
{
    struct mr_error why;
    int fd = -1;

    *world = (struct world){.tick = 1};
    mr_rng_seed(&world->owner.rng, seed);
    mr_bufpool_init(&world->pool, 64 << 20, 1 << 20);
    mr_assert(mr_loop_open(&world->loop, &why) == MR_OK);
    if (batched && mr_loop_batch_sends(world->loop, &why) != MR_OK) {
        printf("not by io_uring here: %s\n", why.text);
        batched = false;
    }
    struct mr_net_options options = {.loop = world->loop,
                                     .pool = &world->pool,
                                     .slab_bytes = 64 << 10,
                                     .user_bytes = sizeof(struct user),
                                     .connections_max = connections_max,
                                     .handler = &handler,
                                     .arg = &world->owner};
    mr_assert(mr_net_open(&world->net, &options, &why) == MR_OK);
    mr_assert(mr_socket_listen("127.0.0.1:0", &(struct mr_listen_options){0}, &fd, &world->address,
                               &why) == MR_OK);
    mr_assert(mr_net_listen(world->net, fd, 0, 0, &why) == MR_OK);
}

static void world_close(struct world *world)
{
    mr_net_close(world->net);
    mr_assert(world->pool.lent_bytes == 0);
    mr_bufpool_fini(&world->pool);
    mr_loop_close(world->loop);
}

static void world_turn(struct world *world)
{
    struct mr_ready events[64];
    size_t count = mr_loop_wait(world->loop, events, 64, 1000000, NULL, NULL);

    for (size_t i = 0; i < count; i++) {
        mr_net_event(world->net, &events[i]);
    }
    struct mr_conn *conn = mr_net_paused_first(world->net);
    if (conn != NULL) {
        mr_conn_resume(conn);
    }
    mr_net_flush(world->net);
}

static int connect_to(struct world *world)
{
    struct mr_error why;
    int fd = -1;

    mr_assert(mr_socket_connect(world->address.text, &fd, &why) == MR_OK);
    return fd;
}

static void test_stream(uint64_t seed, bool pauses)
{
    enum { RECORDS = 3000 };
    static uint8_t out[1 << 20];
    struct world world;
    struct mr_rng rng;
    uint32_t made = 0;
    uint32_t answered = 0;
    uint8_t in[4096];
    size_t in_len = 0;
    size_t out_begin = 0;
    size_t out_end = 0;

    world_open(&world, seed, 100);
    world.owner.pauses = pauses;
    mr_rng_seed(&rng, seed + 1);
    int fd = connect_to(&world);
    while (world.owner.opened == 0) {
        world_turn(&world);
    }
    while (answered < RECORDS) {
        size_t moved = 0;
        while (made < RECORDS && out_end + 2 + RECORD_MAX < sizeof(out)) {
            size_t len = mr_rng_below(&rng, mr_rng_below(&rng, 20) == 0 ? RECORD_MAX : 200);
            mr_put_be16(out + out_end, (uint16_t)len);
            for (size_t i = 0; i < len; i++) {
                out[out_end + 2 + i] = pattern(made, i);
            }
            out_end += 2 + len;
            made += 1;
        }
        if (out_begin != out_end) {
            size_t piece = 1 + mr_rng_below(&rng, mr_rng_below(&rng, 2) == 0 ? 50 : 100000);
            piece = piece < out_end - out_begin ? piece : out_end - out_begin;
            mr_assert(mr_socket_write(fd, out + out_begin, piece, &moved) == MR_OK);
            out_begin += moved;
            if (out_begin == out_end) {
                out_begin = 0;
                out_end = 0;
            }
        }
        world_turn(&world);
        enum mr_err err = mr_socket_read(fd, in + in_len, sizeof(in) - in_len, &moved);
        mr_assert(err == MR_ERR_AGAIN || (err == MR_OK && moved != 0));
        in_len += err == MR_OK ? moved : 0;
        size_t used = 0;
        for (; in_len - used >= 4; used += 4) {
            mr_assert(mr_get_be32(in + used) == answered);
            answered += 1;
        }
        memmove(in, in + used, in_len - used);
        in_len -= used;
    }
    mr_assert(world.pool.lent_bytes == 0); /* an idle connection owns no buffer */
    mr_socket_close(fd);
    while (world.owner.closed == 0) {
        world_turn(&world);
    }
    mr_assert(world.owner.why == MR_CLOSE_BY_PEER);
    mr_assert(mr_net_find(world.net, world.owner.last_id) == NULL);
    world_close(&world);
}

static void test_close_lingers(void)
{
    struct world world;
    uint8_t in[16];
    size_t got = 0;
    size_t all = 0;
    size_t moved = 0;

    world_open(&world, 1, 100);
    int fd = connect_to(&world);
    while (world.owner.opened == 0) {
        world_turn(&world);
    }
    uint64_t first = world.owner.last_id;
    mr_conn_set_timer(mr_net_find(world.net, first), 5);
    /* Unread bytes of the peer must not turn our last words into a reset. */
    mr_assert(mr_socket_write(fd, "\xff", 1, &moved) == MR_OK && moved == 1);
    mr_net_tick(world.net, 4);
    mr_assert(world.owner.timers == 0);
    mr_net_tick(world.net, 5);
    mr_assert(world.owner.timers == 1 && world.owner.closed == 1);
    mr_assert(world.owner.why == MR_CLOSE_BY_OWNER && mr_net_find(world.net, first) == NULL);
    for (;;) {
        world_turn(&world);
        enum mr_err err = mr_socket_read(fd, in + all, sizeof(in) - all, &got);
        if (err == MR_OK && got == 0) {
            break;
        }
        mr_assert(err == MR_OK || err == MR_ERR_AGAIN);
        all += err == MR_OK ? got : 0;
    }
    mr_assert(all == 3 && memcmp(in, "bye", 3) == 0);
    mr_assert(mr_net_stats(world.net)->lingering == 1);
    /* The peer never closes: our patience ends. */
    mr_net_tick(world.net, 50 + 2000000000 / MR_NET_TICK_NS);
    mr_assert(mr_net_stats(world.net)->lingering == 0 && world.owner.closed == 1);
    mr_socket_close(fd);

    fd = connect_to(&world); /* the same slot, another id */
    while (world.owner.opened == 1) {
        world_turn(&world);
    }
    mr_assert((uint32_t)world.owner.last_id == (uint32_t)first && world.owner.last_id != first);
    mr_socket_close(fd);
    world_close(&world);
}

static void test_limit_lets_others_wait(void)
{
    enum { LIMIT = 256, MORE = 5 };
    struct world world;
    int fds[LIMIT + MORE];

    world_open(&world, 1, LIMIT);
    for (int i = 0; i < LIMIT + MORE; i++) {
        fds[i] = connect_to(&world);
        world_turn(&world);
    }
    for (int i = 0; i < 20; i++) {
        world_turn(&world);
    }
    mr_assert(world.owner.opened == LIMIT);
    for (int i = 0; i < MORE; i++) {
        mr_socket_close(fds[i]);
    }
    for (int i = 0; i < 1000 && world.owner.opened != LIMIT + MORE; i++) {
        world_turn(&world);
    }
    mr_assert(world.owner.opened == LIMIT + MORE && world.owner.closed == MORE);
    for (int i = MORE; i < LIMIT + MORE; i++) {
        mr_socket_close(fds[i]);
    }
    world_close(&world);
}

/* Descriptors that somebody else needs are left to him, and taken when he has enough. */
static void test_descriptors_are_left_for_others(void)
{
    struct world world;
    struct mr_net_options options;
    struct mr_error why;
    int fds[8];
    int fd = -1;

    world_open(&world, 1, 100);
    mr_net_close(world.net);
    for (int i = 0; i < 8; i++) {
        fds[i] = -1;
    }
    options = (struct mr_net_options){.loop = world.loop,
                                      .pool = &world.pool,
                                      .user_bytes = sizeof(struct user),
                                      .connections_max = 100,
                                      .handler = &handler,
                                      .arg = &world.owner};
    mr_assert(mr_socket_listen("127.0.0.1:0", &(struct mr_listen_options){0}, &fd, &world.address,
                               &why) == MR_OK);
    options.descriptors_max = (uint32_t)fd + 7; /* theirs and ours come in turn */
    mr_assert(mr_net_open(&world.net, &options, &why) == MR_OK);
    mr_assert(mr_net_listen(world.net, fd, 0, 0, &why) == MR_OK);
    for (int i = 0; i < 8; i++) {
        fds[i] = connect_to(&world);
        for (int turn = 0; turn < 5; turn++) {
            world_turn(&world);
        }
    }
    uint64_t opened = world.owner.opened;
    mr_assert(opened != 0 && opened <= 3 && mr_net_stats(world.net)->accept_waits);
    for (int i = 0; i < 8; i++) {
        mr_socket_close(fds[i]);
    }
    for (uint32_t tick = 2; world.owner.closed != opened; tick++) {
        mr_net_tick(world.net, tick);
        world_turn(&world);
    }
    world_close(&world);
}

static void say_some(void *arg, struct mr_conn *conn)
{
    (void)arg;
    mr_assert(mr_conn_send(conn, "some", 4) == MR_OK);
}

/* Every slot has something to send, and more as soon as that has left. */
static void test_everyone_drains_and_goes_on(void)
{
    enum { ALL = 256 }; /* a whole chunk of slots */
    struct world world;
    int fds[ALL];
    uint8_t in[16];

    world_open(&world, 1, ALL);
    world.owner.answers_drained = true;
    for (int i = 0; i < ALL; i++) {
        fds[i] = connect_to(&world);
        world_turn(&world);
    }
    while (world.owner.opened != ALL) {
        world_turn(&world);
    }
    mr_net_each(world.net, say_some, NULL);
    mr_net_flush(world.net);
    mr_assert(world.owner.drained == 2 * ALL);
    mr_net_each(world.net, say_some, NULL);
    mr_net_flush(world.net);
    for (int i = 0; i < ALL; i++) {
        size_t got = 0;
        mr_assert(mr_socket_read(fds[i], in, sizeof(in), &got) == MR_OK);
        mr_assert(got == 12 && memcmp(in, "somemoresome", 12) == 0);
        mr_socket_close(fds[i]);
    }
    world_close(&world);
}

/* A Unix socket says that the peer has gone even to those who do not read; what he has sent
 * before is still there.
 */
static void test_gone_while_paused(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct mr_address address;
    struct mr_error why;
    struct world world;
    char bind_to[64];
    int fd = -1;

    world_open(&world, 1, 100);
    (void)snprintf(bind_to, sizeof(bind_to), "unix:test_net.%d.sock", (int)getpid());
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", bind_to + 5);
    mr_assert(mr_socket_listen(bind_to, &(struct mr_listen_options){0}, &fd, &address, &why) ==
              MR_OK);
    mr_assert(mr_net_listen(world.net, fd, 1, 0, &why) == MR_OK);
    int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    mr_assert(connect(peer, (const struct sockaddr *)&name, sizeof(name)) == 0);
    mr_socket_unlink(bind_to);
    while (world.owner.opened == 0) {
        world_turn(&world);
    }
    mr_conn_hold(mr_net_find(world.net, world.owner.last_id));
    uint8_t record[] = {0, 1, pattern(0, 0)};
    mr_assert(write(peer, record, sizeof(record)) == (ssize_t)sizeof(record));
    mr_socket_close(peer);
    for (int i = 0; i < 3; i++) {
        world_turn(&world);
    }
    mr_assert(world.owner.closed == 0);
    mr_conn_resume(mr_net_find(world.net, world.owner.last_id));
    while (world.owner.closed == 0) {
        world_turn(&world);
    }
    mr_assert(world.owner.received == 1);
    world_close(&world);
}

static void test_all(uint64_t seed)
{
    test_stream(seed, false);
    test_stream(seed, true);
    test_close_lingers();
    test_limit_lets_others_wait();
    test_descriptors_are_left_for_others();
    test_everyone_drains_and_goes_on();
    test_gone_while_paused();
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_all(seed);
    batched = true;
    test_all(seed);
    return 0;
}
