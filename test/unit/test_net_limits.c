/* test_net_limits.c
 * links: net os base
 *
 * Goal:   a packet that was begun has to go on, and is never hurried while it does; what we
 *         do not read is not blamed; a full listener lets some in to tell them, and no more;
 *         beyond its rate connections wait and none is lost.
 * Method: an owner that wants 100,000 bytes before it consumes any; ticks by hand.
 */
#include "net/net.h"
#include "os/clock.h"

#include <stdio.h>

enum { WHOLE = 100000, PATIENCE = 10 };

struct owner {
    uint64_t opened;
    uint64_t stuck;
    uint64_t surplus;
    uint64_t last_id;
};

struct world {
    struct owner owner;
    struct mr_bufpool pool;
    struct mr_loop *loop;
    struct mr_net *net;
    struct mr_address address;
    uint32_t tick;
};

static bool owner_open(void *arg, struct mr_conn *conn)
{
    struct owner *owner = arg;

    owner->opened += 1;
    owner->surplus += mr_conn_is_surplus(conn);
    owner->last_id = mr_conn_id(conn);
    return true;
}

static size_t owner_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes)
{
    (void)arg;
    mr_conn_need(conn, WHOLE);
    return bytes.len < WHOLE ? 0 : WHOLE;
}

static void owner_stuck(void *arg, struct mr_conn *conn)
{
    ((struct owner *)arg)->stuck += 1;
    mr_conn_close(conn);
}

static void owner_drained(void *arg, struct mr_conn *conn)
{
    (void)arg;
    (void)conn;
}

static void owner_close(void *arg, struct mr_conn *conn, enum mr_close_why why)
{
    (void)arg;
    (void)conn;
    (void)why;
}

static const struct mr_net_handler handler = {.on_open = owner_open,
                                              .on_bytes = owner_bytes,
                                              .on_stuck = owner_stuck,
                                              .on_drained = owner_drained,
                                              .on_close = owner_close};

static void world_open(struct world *world, uint64_t connections_max)
{
    struct mr_error why;
    int fd = -1;

    *world = (struct world){.tick = 1};
    mr_bufpool_init(&world->pool, 64 << 20, 1 << 20);
    mr_assert(mr_loop_open(&world->loop, &why) == MR_OK);
    struct mr_net_options options = {.loop = world->loop,
                                     .pool = &world->pool,
                                     .connections_max = 1024,
                                     .handler = &handler,
                                     .arg = &world->owner};
    mr_assert(mr_net_open(&world->net, &options, &why) == MR_OK);
    mr_assert(mr_socket_listen("127.0.0.1:0", &(struct mr_listen_options){0}, &fd, &world->address,
                               &why) == MR_OK);
    mr_assert(mr_net_listen(world->net, fd, 0, connections_max, &why) == MR_OK);
    mr_net_set_patience(world->net, PATIENCE);
}

static void world_close(struct world *world)
{
    mr_net_close(world->net);
    mr_assert(world->pool.lent_bytes == 0);
    mr_bufpool_fini(&world->pool);
    mr_loop_close(world->loop);
}

static void world_turns(struct world *world, int count)
{
    struct mr_ready events[64];

    for (int turn = 0; turn < count; turn++) {
        size_t ready = mr_loop_wait(world->loop, events, 64, 1000000, NULL, NULL);
        for (size_t i = 0; i < ready; i++) {
            mr_net_event(world->net, &events[i]);
        }
        mr_net_flush(world->net);
    }
}

static void world_ticks(struct world *world, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        world->tick += 1;
        mr_net_tick(world->net, world->tick);
        world_turns(world, 1);
    }
}

static int connect_to(struct world *world)
{
    struct mr_error why;
    int fd = -1;

    mr_assert(mr_socket_connect(world->address.text, &fd, &why) == MR_OK);
    world_turns(world, 3);
    return fd;
}

static void say(struct world *world, int fd, size_t len)
{
    static const uint8_t bytes[WHOLE];
    uint64_t before = mr_net_stats(world->net)->bytes_received;
    size_t sent = 0;

    while (len != 0) {
        mr_assert(mr_socket_write(fd, bytes, len, &sent) == MR_OK);
        len -= sent;
        before += sent;
        while (mr_net_stats(world->net)->bytes_received != before) {
            world_turns(world, 1);
        }
    }
}

static void test_a_packet_that_stops(void)
{
    struct world world;

    world_open(&world, 0);
    int fd = connect_to(&world);
    world_ticks(&world, 5 * PATIENCE); /* silence between packets is nobody's fault */
    mr_assert(world.owner.stuck == 0);
    say(&world, fd, 10);
    world_ticks(&world, PATIENCE - 1);
    say(&world, fd, 10); /* too little to count */
    mr_assert(world.owner.stuck == 0);
    world_ticks(&world, 2);
    mr_assert(world.owner.stuck == 1 && mr_net_find(world.net, world.owner.last_id) == NULL);
    mr_socket_close(fd);
    world_close(&world);
}

static void test_a_packet_that_goes_on(void)
{
    struct world world;

    world_open(&world, 0);
    int fd = connect_to(&world);
    for (int i = 0; i < WHOLE / 1000; i++) {
        say(&world, fd, 1000);
        world_ticks(&world, PATIENCE - 1);
    }
    mr_assert(world.owner.stuck == 0); /* and it has ended: nothing is begun now */
    world_ticks(&world, 5 * PATIENCE);
    mr_assert(world.owner.stuck == 0);
    say(&world, fd, 1000);
    mr_conn_pause(mr_net_find(world.net, world.owner.last_id));
    world_ticks(&world, 5 * PATIENCE); /* our own doing */
    mr_assert(world.owner.stuck == 0);
    mr_conn_resume(mr_net_find(world.net, world.owner.last_id));
    world_ticks(&world, 2 * PATIENCE);
    mr_assert(world.owner.stuck == 1);
    mr_socket_close(fd);
    world_close(&world);
}

static void test_many_that_stop_at_once(void)
{
    enum { MANY = 300 };
    struct world world;
    int fds[MANY];

    world_open(&world, 0);
    for (int i = 0; i < MANY; i++) {
        fds[i] = connect_to(&world);
        say(&world, fds[i], 10);
        world_ticks(&world, i % 50 == 0);
    }
    world_ticks(&world, PATIENCE + 1);
    mr_assert(world.owner.stuck == MANY);
    for (int i = 0; i < MANY; i++) {
        mr_socket_close(fds[i]);
    }
    world_close(&world);
}

static void test_surplus(void)
{
    enum { FULL = 5, SURPLUS = 3, ALL = FULL + SURPLUS + 2 };
    struct world world;
    int fds[ALL];

    world_open(&world, FULL);
    mr_net_limit(world.net, 0, &(struct mr_net_limits){.surplus = SURPLUS});
    for (int i = 0; i < ALL; i++) {
        fds[i] = connect_to(&world);
    }
    mr_assert(world.owner.opened == FULL + SURPLUS && world.owner.surplus == SURPLUS);
    for (int i = 0; i < SURPLUS; i++) { /* so the last one is none any more */
        mr_assert(mr_conn_is_surplus(mr_net_find(world.net, world.owner.last_id)));
        mr_socket_close(fds[i]);
        while (world.owner.opened < (uint64_t)(FULL + SURPLUS + (i < 2 ? i + 1 : 2))) {
            world_turns(&world, 1);
        }
    }
    for (int i = SURPLUS; i < ALL; i++) {
        mr_socket_close(fds[i]);
    }
    world_close(&world);
}

/* Whatever the machine lets pass between two lines: the burst comes at once, then one each
 * interval, and in the end all of them.
 */
static void test_a_rate_lets_others_wait(void)
{
    enum { ALL = 20, RATE = 20, BURST = 5, INTERVAL_NS = 1000000000 / RATE };
    struct world world;
    int fds[ALL];

    world_open(&world, 0);
    mr_net_limit(world.net, 0, &(struct mr_net_limits){.rate = RATE, .burst = BURST});
    int64_t begin_ns = mr_clock_mono_ns();
    for (int i = 0; i < ALL; i++) {
        fds[i] = connect_to(&world);
    }
    int64_t connected_ns = mr_clock_mono_ns() - begin_ns;
    mr_assert(world.owner.opened >= BURST);
    mr_assert(world.owner.opened <= BURST + (uint64_t)(connected_ns / INTERVAL_NS));
    while (world.owner.opened != ALL) { /* as real time goes on */
        world_ticks(&world, 1);
        mr_assert(mr_clock_mono_ns() < begin_ns + 60000000000);
    }
    mr_assert(mr_clock_mono_ns() - begin_ns >= (int64_t)(ALL - BURST) * INTERVAL_NS);
    for (int i = 0; i < ALL; i++) {
        mr_socket_close(fds[i]);
    }
    world_close(&world);
}

int main(void)
{
    test_a_packet_that_stops();
    test_a_packet_that_goes_on();
    test_many_that_stop_at_once();
    test_surplus();
    test_a_rate_lets_others_wait();
    printf("ok\n");
    return 0;
}
