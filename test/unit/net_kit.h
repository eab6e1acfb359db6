/* net_kit.h - a net on the simulated network, with its loop and pool, for test_ws.c and test_tls.c.
 */
#ifndef MR_TEST_NET_KIT_H
#define MR_TEST_NET_KIT_H

#include "net/net.h"
#include "os/sim.h"

struct net_side {
    struct mr_bufpool pool;
    struct mr_loop *loop;
    struct mr_net *net;
};

/* `shared`: with other sides; NULL: it is alone. */
static inline void net_side_open(struct net_side *side, const struct mr_net_handler *handler,
                                 void *arg, struct mr_net_shared *shared)
{
    struct mr_error why = {.text = ""};

    mr_bufpool_init(&side->pool, 64 << 20, 1 << 20);
    mr_assert(mr_loop_open(&side->loop, &why) == MR_OK);
    struct mr_net_options options = {.loop = side->loop,
                                     .pool = &side->pool,
                                     .slab_bytes = 64 << 10,
                                     .connections_max = 100,
                                     .shared = shared,
                                     .handler = handler,
                                     .arg = arg};
    mr_assert(mr_net_open(&side->net, &options, &why) == MR_OK);
}

/* Listener 0, at *address from then on. */
static inline void net_side_listen(struct net_side *side, struct mr_address *address)
{
    struct mr_error why = {.text = ""};
    int fd = -1;

    mr_assert(mr_socket_listen("127.0.0.1:0", &(struct mr_listen_options){0}, &fd, address, &why) ==
              MR_OK);
    mr_assert(mr_net_listen(side->net, fd, 0, 0, &why) == MR_OK);
}

/* What is ready, the longest paused connection, and what that made to be sent. */
static inline void net_side_turn(struct net_side *side)
{
    struct mr_ready events[16];
    size_t count = mr_loop_wait(side->loop, events, 16, 0, NULL, NULL);

    for (size_t i = 0; i < count; i++) {
        mr_net_event(side->net, &events[i]);
    }
    struct mr_conn *conn = mr_net_paused_first(side->net);
    if (conn != NULL) {
        mr_conn_resume(conn);
    }
    mr_net_flush(side->net);
}

/* Everything that was lent has come back. */
static inline void net_side_close(struct net_side *side)
{
    mr_net_close(side->net);
    mr_assert(side->pool.lent_bytes == 0);
    mr_bufpool_fini(&side->pool);
    mr_loop_close(side->loop);
}

/* What clients send: byte number `at` of it. */
static inline uint8_t net_pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) + (at >> 16) * 7);
}

static inline void net_nothing(void *arg, struct mr_conn *conn)
{
    (void)arg;
    (void)conn;
}

#endif
