/* test_proxy.c
 * links: net os_sim base
 *
 * Goal:   a PROXY header gives the client's address and nothing else: however it is cut, what
 *         follows it is the client's from the first byte; whoever brings none, a wrong one or
 *         half of one is never shown to the owner.
 * Method: the simulated network; headers by hand, each also cut at every byte.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "net/net.h"
#include "net/proxy.h"
#include "os/sim.h"

#include <stdio.h>

static struct mr_bufpool pool;
static struct mr_loop *loop;
static struct mr_net *net;
static struct mr_address address;
static uint32_t tick;

static struct {
    uint32_t opened;
    uint32_t closed;
    uint32_t strangers;
    char peer[64];
    char identity[300];
    char what[128];
    char bytes[64];
    size_t len;
} seen;

static bool on_open(void *arg, struct mr_conn *conn)
{
    (void)arg;
    seen.opened += 1;
    (void)snprintf(seen.peer, sizeof(seen.peer), "%s", mr_conn_peer(conn));
    if (!mr_conn_proxy_identity(conn, seen.identity, sizeof(seen.identity))) {
        seen.identity[0] = 0;
    }
    return true;
}

static size_t on_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes)
{
    (void)arg;
    (void)conn;
    mr_assert(seen.len + bytes.len <= sizeof(seen.bytes));
    memcpy(seen.bytes + seen.len, bytes.at, bytes.len);
    seen.len += bytes.len;
    return bytes.len;
}

static void on_nothing(void *arg, struct mr_conn *conn)
{
    (void)arg;
    (void)conn;
}

static void on_close(void *arg, struct mr_conn *conn, enum mr_close_why why)
{
    (void)arg;
    (void)conn;
    (void)why;
    seen.closed += 1;
}

static void on_stranger(void *arg, const struct mr_conn *conn, const char *what)
{
    (void)arg;
    seen.strangers += 1;
    mr_assert(strncmp(mr_conn_peer(conn), "127.0.0.1:", 10) == 0);
    (void)snprintf(seen.what, sizeof(seen.what), "%s", what);
}

static const struct mr_net_handler handler = {.on_open = on_open,
                                              .on_bytes = on_bytes,
                                              .on_drained = on_nothing,
                                              .on_timer = on_nothing,
                                              .on_close = on_close,
                                              .on_stranger = on_stranger};

static void world_open(void)
{
    struct mr_error why = {.text = ""};
    int fd = -1;

    memset(&seen, 0, sizeof(seen));
    tick = 1;
    mr_sim_start(1);
    mr_bufpool_init(&pool, 16 << 20, 1 << 20);
    mr_assert(mr_loop_open(&loop, &why) == MR_OK);
    struct mr_net_options options = {
        .loop = loop, .pool = &pool, .connections_max = 10, .handler = &handler};
    mr_assert(mr_net_open(&net, &options, &why) == MR_OK);
    mr_assert(mr_socket_listen("127.0.0.1:0", &(struct mr_listen_options){0}, &fd, &address,
                               &why) == MR_OK);
    mr_assert(mr_net_listen(net, fd, 0, 0, &why) == MR_OK);
    mr_net_proxied(net, 0);
}

static void world_close(void)
{
    mr_net_close(net);
    mr_assert(pool.lent_bytes == 0);
    mr_bufpool_fini(&pool);
    mr_loop_close(loop);
    mr_sim_stop();
}

static void turn(void)
{
    struct mr_ready events[4];

    mr_sim_advance(100000);
    size_t count = mr_loop_wait(loop, events, 4, 0, NULL, NULL);
    for (size_t i = 0; i < count; i++) {
        mr_net_event(net, &events[i]);
    }
    mr_net_flush(net);
}

static int say(const void *at, size_t len, size_t cut)
{
    struct mr_error why;
    size_t sent = 0;
    int fd = -1;

    mr_assert(mr_socket_connect(address.text, &fd, &why) == MR_OK);
    if (cut != 0) {
        mr_assert(mr_socket_write(fd, at, cut, &sent) == MR_OK && sent == cut);
        turn();
        turn();
    }
    if (cut != len && seen.strangers == 0) {
        mr_assert(mr_socket_write(fd, (const uint8_t *)at + cut, len - cut, &sent) == MR_OK);
    }
    turn();
    turn();
    return fd;
}

/* A good header, with the client's first bytes right behind it; cut everywhere. */
static void test_good(const void *header, size_t len, const char *peer, const char *identity)
{
    uint8_t bytes[5000];

    memcpy(bytes, header, len);
    memcpy(bytes + len, "PROXY me", 8);
    for (size_t cut = 0; cut <= len + 8; cut++) {
        world_open();
        int fd = say(bytes, len + 8, cut);
        mr_assert(seen.opened == 1 && seen.strangers == 0);
        mr_assert(strncmp(seen.peer, peer, strlen(peer)) == 0);
        mr_assert(strcmp(seen.identity, identity) == 0);
        mr_assert(seen.len == 8 && memcmp(seen.bytes, "PROXY me", 8) == 0);
        mr_socket_close(fd);
        world_close();
    }
}

static void test_bad(const void *header, size_t len, const char *what)
{
    for (size_t cut = 0; cut <= len; cut += len / 3 + 1) {
        world_open();
        int fd = say(header, len, cut);
        mr_assert(seen.opened == 0 && seen.closed == 0 && seen.strangers == 1);
        mr_assert(strstr(seen.what, what) != NULL);
        mr_assert(mr_net_stats(net)->open == 0 && mr_net_stats(net)->lingering == 0);
        mr_socket_close(fd);
        world_close();
    }
}

#define GOOD(text, peer) test_good(text, sizeof(text) - 1, peer, "")
#define BAD(text, what) test_bad(text, sizeof(text) - 1, what)
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static void test_version_1(void)
{
    GOOD("PROXY TCP4 192.0.2.7 10.0.0.1 51812 1883\r\n", "192.0.2.7:51812");
    GOOD("PROXY TCP6 2001:db8::7 ::1 51812 1883\r\n", "[2001:db8::7]:51812");
    GOOD("PROXY UNKNOWN\r\n", "127.0.0.1:");
    GOOD("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", "127.0.0.1:");
    BAD("PROXY TCP4 192.0.2.7 10.0.0.1 51812 1883\n", "CR LF");
    BAD("PROXY TCP4 192.0.2.7 10.0.0.1 51812\r\n", "addresses");
    BAD("PROXY TCP4 192.0.2.7 10.0.0.1 51812 65536\r\n", "addresses");
    BAD("PROXY TCP4 192.0.2.7 10.0.0.1 0051812 1883\r\n", "addresses");
    BAD("PROXY TCP4 192.0.2.7  10.0.0.1 51812 1883\r\n", "addresses");
    BAD("PROXY TCP4 192.0.2.700 10.0.0.1 51812 1883\r\n", "addresses");
    BAD("PROXY TCP4 2001:db8::7 ::1 51812 1883\r\n", "addresses");
    BAD("PROXY TCP4 192.0.2.7 10.0.0.1 51812 1883 \r\n", "addresses");
    BAD("PROXY UNKNOWNX\r\n", "addresses");
    BAD("PROXY UNKNOWN "
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
        "longer than 107");
    BAD("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "there is none");
    BAD("\r\n\r\n\0\r\nQUIX\n xxxx", "there is none");
}

/* A version 2 header of version and command, family, addresses and values. */
static size_t v2_make(uint8_t *into, uint8_t command, uint8_t family, const void *rest, size_t len)
{
    memcpy(into, SIGNATURE, 12);
    into[12] = command;
    into[13] = family;
    mr_put_be16(into + 14, (uint16_t)len);
    memcpy(into + 16, rest, len);
    return 16 + len;
}

#define ADDRESSES "\xc0\0\x02\x07\x0a\0\0\x01\xca\x64\x07\x5b"
#define SSL_CN "\x20\0\x0f\x07\0\0\0\0\x22\0\x07press-7"

static void test_v2(const void *rest, size_t len, uint8_t command, uint8_t family, const char *peer,
                    const char *identity)
{
    uint8_t header[5000];
    size_t all = v2_make(header, command, family, rest, len);

    test_good(header, all, peer, identity);
}

static void test_v2_bad(const void *rest, size_t len, uint8_t command, uint8_t family,
                        const char *what)
{
    uint8_t header[5000];
    size_t all = v2_make(header, command, family, rest, len);

    test_bad(header, all, what);
}

#define V2(rest, command, family, peer, identity) \
    test_v2(rest, sizeof(rest) - 1, command, family, peer, identity)
#define V2_BAD(rest, command, family, what) \
    test_v2_bad(rest, sizeof(rest) - 1, command, family, what)

static void test_version_2(void)
{
    uint8_t header[64];

    V2(ADDRESSES, 0x21, 0x11, "192.0.2.7:51812", "");
    V2(ADDRESSES SSL_CN, 0x21, 0x11, "192.0.2.7:51812", "press-7");
    V2(ADDRESSES "\x04\0\x03"
                 "abc" SSL_CN,
       0x21, 0x11, "192.0.2.7:51812", "press-7");
    /* Verified it must be, and of the client. */
    V2(ADDRESSES "\x20\0\x0f\x07\0\0\0\x01\x22\0\x07press-7", 0x21, 0x11, "192.0.2.7:51812", "");
    V2(ADDRESSES "\x20\0\x0f\x01\0\0\0\0\x22\0\x07press-7", 0x21, 0x11, "192.0.2.7:51812", "");
    V2(ADDRESSES "\x20\0\x0f\x07\0\0\0\0\x22\0\x07pre\0s-7", 0x21, 0x11, "192.0.2.7:51812", "");
    V2("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xca\x64\x07"
       "\x5b",
       0x21, 0x21, "[2001:db8::7]:51812", "");
    V2("", 0x20, 0x00, "127.0.0.1:", "");
    V2(ADDRESSES, 0x20, 0x11, "127.0.0.1:", ""); /* LOCAL: the addresses do not count */
    V2("anything", 0x21, 0x00, "127.0.0.1:", "");
    V2_BAD(ADDRESSES, 0x22, 0x11, "command");
    V2_BAD(ADDRESSES, 0x11, 0x11, "version");
    V2_BAD(ADDRESSES, 0x21, 0x12, "family");
    V2_BAD("\xc0\0\x02\x07\x0a\0\0\x01\xca\x64\x07", 0x21, 0x11, "do not fit");
    V2_BAD(ADDRESSES "\x04\0\x04"
                     "abc",
           0x21, 0x11, "does not fit");
    V2_BAD(ADDRESSES "\x04\0", 0x21, 0x11, "does not fit");
    V2_BAD(ADDRESSES "\x20\0\x0f\x07\0\0\0\0\x22\0\x08press-7", 0x21, 0x11, "does not fit");
    V2_BAD(ADDRESSES "\x20\0\x02\x07\0", 0x21, 0x11, "does not fit");
    V2_BAD(ADDRESSES "\x03\0\x04"
                     "abcd",
           0x21, 0x11, "checksum");
    BAD(SIGNATURE "\x21\x11\xff\xff", "longer than 4 KiB");

    size_t len = v2_make(header, 0x21, 0x11, ADDRESSES "\x03\0\x04\0\0\0\0", 19);
    mr_put_be32(header + len - 4, mr_crc32c(0, header, len));
    test_good(header, len, "192.0.2.7:51812", "");
}

/* Nothing, or half a header, and then silence: 3 s, not the owner's time. */
static void test_silence(const char *begin)
{
    const int ticks = (int)(3000000000 / MR_NET_TICK_NS);

    world_open();
    int fd = say(begin, strlen(begin), strlen(begin));
    for (int i = 0; i < ticks; i++) {
        mr_net_tick(net, ++tick);
    }
    mr_assert(seen.strangers == 0);
    for (int i = 0; i < 2; i++) {
        mr_net_tick(net, ++tick);
    }
    mr_assert(seen.opened == 0 && seen.strangers == 1 && strstr(seen.what, "3 s") != NULL);
    mr_assert(mr_net_stats(net)->lingering == 0);
    mr_socket_close(fd);
    world_close();
}

/* A gateway that ends does not wait for headers. */
static void test_the_end(void)
{
    world_open();
    int fd = say("PROXY", 5, 5);
    mr_assert(mr_net_stats(net)->lingering == 1);
    mr_net_listen_end(net);
    mr_assert(mr_net_stats(net)->lingering == 0 && seen.opened == 0);
    mr_socket_close(fd);
    world_close();
}

/* A proxy that looks whether we live is no stranger. */
static void test_health_check(void)
{
    world_open();
    int fd = say("", 0, 0);
    mr_socket_close(fd);
    turn();
    turn();
    mr_assert(seen.opened == 0 && seen.strangers == 0 && mr_net_stats(net)->lingering == 0);
    world_close();
}

int main(void)
{
    test_version_1();
    test_version_2();
    test_silence("");
    test_silence("PROXY TCP4 192.0.2.7");
    test_health_check();
    test_the_end();
    printf("ok\n");
    return 0;
}
