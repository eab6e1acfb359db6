/* test_tls.c
 * links: net os_sim base
 *
 * Goal:   TLS inside a connection changes nothing for whoever uses it: the same bytes in
 *         the same order, whatever the network does; and a reload touches nobody.
 * Method: the simulated network with pieces of any size; the client is OpenSSL over
 *         memory, its records go into the socket by hand.  Certificates are made here.
 */
#include "base/bytes.h"
#include "base/rng.h"
#include "net/net.h"
#include "net/tls.h"
#include "net_kit.h"
#include "os/file.h"
#include "os/sim.h"
#include "tls_kit.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The simulated world has to know the file too, by name at least. */
static void sim_touch(const char *path)
{
    struct mr_file file;
    struct mr_error why;
    enum mr_err err = mr_file_open(&file, path, MR_FILE_CREATE, &why);

    mr_assert(err == MR_OK);
    mr_file_close(&file);
}

static void certificate_use(const char *from)
{
    char crt[64];
    char key[64];

    (void)snprintf(crt, sizeof(crt), "%s.crt", from);
    (void)snprintf(key, sizeof(key), "%s.key", from);
    (void)unlink(tls_path("now.crt"));
    (void)unlink(tls_path("now.key"));
    mr_assert(link(tls_path(crt), tls_path("now.crt")) == 0);
    mr_assert(link(tls_path(key), tls_path("now.key")) == 0);
}

/* ---- the server ---- */

struct owner {
    struct mr_rng rng;
    uint64_t received; /* bytes, all of them the pattern */
    uint64_t last_id;
    uint32_t opened;
    uint32_t closed;
    bool pauses;
    enum mr_close_why why;
    char fault[256];
};

static bool owner_open(void *arg, struct mr_conn *conn)
{
    struct owner *owner = arg;

    owner->opened += 1;
    owner->last_id = mr_conn_id(conn);
    return true;
}

/* Takes blocks of 1 to 60,000 bytes as one packet each, and echoes each byte count. */
static size_t owner_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes)
{
    struct owner *owner = arg;
    size_t used = 0;

    for (;;) {
        size_t left = bytes.len - used;
        size_t block = owner->received % 7 == 0 ? 60000 : 1 + owner->received % 977;
        if (owner->pauses && mr_rng_below(&owner->rng, 16) == 0) {
            mr_conn_pause(conn);
            return used;
        }
        if (left < block) {
            if (left > 0) {
                mr_conn_need(conn, (uint32_t)block);
            }
            return used;
        }
        for (size_t i = 0; i < block; i++) {
            mr_assert(bytes.at[used + i] == net_pattern(owner->received + i));
        }
        owner->received += block;
        used += block;
        uint8_t answer[8];
        mr_put_u64(answer, owner->received);
        enum mr_err err = mr_rng_below(&owner->rng, 2) == 0
                              ? mr_conn_send(conn, answer, sizeof(answer))
                              : mr_conn_send_soon(conn, answer, sizeof(answer));
        mr_assert(err == MR_OK);
    }
}

static void owner_close(void *arg, struct mr_conn *conn, enum mr_close_why why)
{
    struct owner *owner = arg;

    owner->closed += 1;
    owner->why = why;
    if (why == MR_CLOSE_TLS) {
        (void)snprintf(owner->fault, sizeof(owner->fault), "%s", mr_conn_fault(conn));
    }
}

static const struct mr_net_handler handler = {.on_open = owner_open,
                                              .on_bytes = owner_bytes,
                                              .on_drained = net_nothing,
                                              .on_timer = net_nothing,
                                              .on_close = owner_close};

struct world {
    struct owner owner;
    struct net_side at;
    struct mr_tls *tls;
    struct mr_address address;
    char certfile[320]; /* as long as `tls` */
    char keyfile[320];
};

static void world_open(struct world *world, uint64_t seed)
{
    struct mr_error why = {.text = ""};

    *world = (struct world){0};
    mr_sim_start(seed);
    mr_assert(mr_dir_create(tls_folder, &why) == MR_OK);
    sim_touch(tls_path("now.crt"));
    sim_touch(tls_path("now.key"));
    mr_rng_seed(&world->owner.rng, seed);
    net_side_open(&world->at, &handler, &world->owner, NULL);
    net_side_listen(&world->at, &world->address);
    (void)snprintf(world->certfile, sizeof(world->certfile), "%s", tls_path("now.crt"));
    (void)snprintf(world->keyfile, sizeof(world->keyfile), "%s", tls_path("now.key"));
    struct mr_tls_options tls = {
        .name = "test", .certfile = world->certfile, .keyfile = world->keyfile};
    if (mr_tls_open(&world->tls, &tls, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    mr_net_secure(world->at.net, 0, world->tls);
}

static void world_close(struct world *world)
{
    net_side_close(&world->at);
    mr_tls_close(world->tls);
    mr_sim_stop();
}

static void world_turn(struct world *world)
{
    mr_sim_advance(100000);
    net_side_turn(&world->at);
}

/* ---- the client ---- */

struct peer {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    uint8_t out[1 << 17]; /* records that the socket has not taken */
    size_t out_len;
    bool ended;
};

static void peer_open(struct peer *peer, struct world *world, int version)
{
    struct mr_error why;

    memset(peer, 0, sizeof(*peer));
    mr_assert(mr_socket_connect(world->address.text, &peer->fd, &why) == MR_OK);
    peer->ctx = SSL_CTX_new(TLS_client_method());
    mr_assert(SSL_CTX_set_max_proto_version(peer->ctx, version) == 1);
    peer->ssl = SSL_new(peer->ctx);
    SSL_set_bio(peer->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(peer->ssl);
}

static void peer_close(struct peer *peer)
{
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->ctx);
    mr_socket_close(peer->fd);
}

/* Carry records in both directions, as far as they go now. */
static void peer_move(struct peer *peer)
{
    uint8_t in[4096];
    size_t moved = 0;
    int more;

    while (peer->out_len < sizeof(peer->out) &&
           (more = BIO_read(SSL_get_wbio(peer->ssl), peer->out + peer->out_len,
                            (int)(sizeof(peer->out) - peer->out_len))) > 0) {
        peer->out_len += (size_t)more;
    }
    if (peer->out_len != 0 &&
        mr_socket_write(peer->fd, peer->out, peer->out_len, &moved) == MR_OK) {
        peer->out_len -= moved;
        memmove(peer->out, peer->out + moved, peer->out_len);
    }
    enum mr_err err;
    while ((err = mr_socket_read(peer->fd, in, sizeof(in), &moved)) == MR_OK && moved != 0) {
        mr_assert(BIO_write(SSL_get_rbio(peer->ssl), in, (int)moved) == (int)moved);
    }
    peer->ended = peer->ended || err == MR_ERR_IO || (err == MR_OK && moved == 0);
}

static void peer_greet(struct peer *peer, struct world *world)
{
    for (int i = 0; SSL_do_handshake(peer->ssl) != 1; i++) {
        peer_move(peer);
        world_turn(world);
        mr_assert(i < 100000 && !peer->ended);
    }
}

static long peer_serial(const struct peer *peer)
{
    const X509 *cert = SSL_get0_peer_certificate(peer->ssl);

    return ASN1_INTEGER_get(X509_get0_serialNumber(cert));
}

/* ---- the tests ---- */

static void test_stream(uint64_t seed, int version, bool pauses)
{
    enum { ALL = 2000000, MOST = 40000 };
    struct world world;
    static struct peer peer;
    static uint8_t block[MOST];
    struct mr_rng rng;
    uint64_t made = 0;
    uint64_t answered = 0;
    uint8_t answer[8];
    size_t answer_len = 0;

    world_open(&world, seed);
    world.owner.pauses = pauses;
    mr_rng_seed(&rng, seed + 1);
    peer_open(&peer, &world, version);
    mr_sim_stream_shape(peer.fd, 0, 1 + mr_rng_below(&rng, 3000));
    peer_greet(&peer, &world);
    for (int i = 0; answered < ALL; i++) {
        size_t got = 0;
        mr_assert(i < 3000000 && !peer.ended);
        if (made < ALL + MOST && peer.out_len < sizeof(peer.out) / 2 &&
            BIO_ctrl_pending(SSL_get_wbio(peer.ssl)) < MOST) {
            size_t len = 1 + mr_rng_below(&rng, mr_rng_below(&rng, 4) == 0 ? MOST : 300);
            for (size_t at = 0; at < len; at++) {
                block[at] = net_pattern(made + at);
            }
            mr_assert(SSL_write_ex(peer.ssl, block, len, &got) == 1 && got == len);
            made += len;
        }
        peer_move(&peer);
        world_turn(&world);
        while (SSL_read_ex(peer.ssl, answer + answer_len, sizeof(answer) - answer_len, &got) == 1) {
            answer_len += got;
            if (answer_len == sizeof(answer)) {
                mr_assert(mr_get_u64(answer) > answered);
                answered = mr_get_u64(answer);
                answer_len = 0;
            }
        }
    }
    (void)SSL_shutdown(peer.ssl);
    for (int i = 0; world.owner.closed == 0; i++) {
        peer_move(&peer);
        world_turn(&world);
        mr_assert(i < 100000);
    }
    mr_assert(world.owner.why == MR_CLOSE_BY_PEER);
    peer_close(&peer);
    world_close(&world);
}

static void test_reload_touches_nobody(void)
{
    struct world world;
    static struct peer before;
    static struct peer after;
    struct mr_error why = {.text = ""};

    certificate_use("one");
    world_open(&world, 1);
    peer_open(&before, &world, TLS1_3_VERSION);
    peer_greet(&before, &world);
    mr_assert(peer_serial(&before) == 1);

    certificate_use("two");
    mr_assert(mr_tls_reload_begin(world.tls, &why) == MR_OK);
    mr_tls_reload_end(world.tls, true);
    peer_open(&after, &world, TLS1_3_VERSION);
    peer_greet(&after, &world);
    mr_assert(peer_serial(&after) == 2);
    peer_close(&after);

    (void)unlink(
        tls_path("now.key")); /* the key of another certificate: refused, nothing changes */
    mr_assert(link(tls_path("one.key"), tls_path("now.key")) == 0);
    mr_assert(mr_tls_reload_begin(world.tls, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "does not match") != NULL);
    mr_tls_reload_end(world.tls, true);
    peer_open(&after, &world, TLS1_2_VERSION);
    peer_greet(&after, &world);
    mr_assert(peer_serial(&after) == 2);

    uint8_t byte = net_pattern(0);
    size_t got = 0;
    mr_assert(SSL_write_ex(before.ssl, &byte, 1, &got) == 1); /* still there, still works */
    for (int i = 0; i < 20; i++) {
        peer_move(&before);
        world_turn(&world);
    }
    mr_assert(!before.ended && world.owner.closed <= 1);
    peer_close(&before);
    peer_close(&after);
    world_close(&world);
}

/* Many at once: a turn answers some of them, and in the end all are in. */
static void test_greetings_take_turns(void)
{
    enum { ALL = 50, A_TURN = 16 };
    static struct peer peers[ALL];
    struct world world;
    int answered = 0;

    certificate_use("one");
    world_open(&world, 1);
    for (int i = 0; i < ALL; i++) {
        peer_open(&peers[i], &world, TLS1_3_VERSION);
    }
    while (world.owner.opened != ALL) {
        world_turn(&world);
    }
    for (int i = 0; i < ALL; i++) {
        mr_assert(SSL_do_handshake(peers[i].ssl) != 1);
        peer_move(&peers[i]);
    }
    world_turn(&world);
    for (int i = 0; i < ALL; i++) {
        peer_move(&peers[i]);
        answered += BIO_ctrl_pending(SSL_get_rbio(peers[i].ssl)) != 0;
    }
    mr_assert(answered > 0 && answered <= A_TURN);
    for (int i = 0; i < ALL; i++) {
        peer_greet(&peers[i], &world);
        peer_close(&peers[i]);
    }
    world_close(&world);
}

static void test_plain_text_is_told(void)
{
    struct world world;
    struct mr_error why;
    int fd = -1;
    size_t sent = 0;

    certificate_use("one");
    world_open(&world, 1);
    mr_assert(mr_socket_connect(world.address.text, &fd, &why) == MR_OK);
    world_turn(&world);
    mr_assert(mr_socket_write(fd, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c", 12, &sent) == MR_OK);
    for (int i = 0; world.owner.closed == 0 && i < 1000; i++) {
        world_turn(&world);
    }
    mr_assert(world.owner.why == MR_CLOSE_TLS);
    mr_assert(strstr(world.owner.fault, "plain text (first byte 0x10)") != NULL);
    mr_socket_close(fd);
    world_close(&world);
}

/* There is no memory for what the socket does not take: what it took cannot be taken back, so
 * nobody is told that nothing was.  A small device has records of 512 bytes, of which some may
 * leave.
 */
static void test_no_memory_for_the_rest(int version)
{
    static struct peer peer;
    static uint8_t block[60000];
    struct world world;
    size_t got = 0;

    world_open(&world, 1);
    peer_open(&peer, &world, version);
    mr_assert(SSL_set_tlsext_max_fragment_length(peer.ssl, TLSEXT_max_fragment_length_512) == 1);
    peer_greet(&peer, &world);
    for (size_t at = 0; at < sizeof(block); at++) {
        block[at] = net_pattern(at);
    }
    mr_assert(SSL_write_ex(peer.ssl, block, sizeof(block), &got) == 1);
    for (int i = 0; world.owner.received != sizeof(block); i++) {
        peer_move(&peer);
        world_turn(&world);
        mr_assert(i < 100000);
    }
    struct mr_conn *conn = mr_net_find(world.at.net, world.owner.last_id);
    world.at.pool.limit_bytes = world.at.pool.lent_bytes;
    while (world.owner.closed == 0) { /* the peer does not read */
        mr_assert(mr_conn_send_soon(conn, block, 4096) == MR_OK);
        world_turn(&world);
    }
    mr_assert(world.owner.why == MR_CLOSE_MEMORY);
    peer_close(&peer);
    world_close(&world);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    tls_folder_make();
    tls_certificate_make("one", 1);
    tls_certificate_make("two", 2);
    certificate_use("one");
    test_stream(seed, TLS1_2_VERSION, false);
    test_stream(seed + 1, TLS1_2_VERSION, true);
    test_stream(seed + 2, TLS1_3_VERSION, false);
    test_stream(seed + 3, TLS1_3_VERSION, true);
    test_reload_touches_nobody();
    test_greetings_take_turns();
    test_plain_text_is_told();
    test_no_memory_for_the_rest(TLS1_2_VERSION);
    test_no_memory_for_the_rest(TLS1_3_VERSION);
    static const char *const files[] = {"one.crt", "one.key", "two.crt",
                                        "two.key", "now.crt", "now.key"};
    for (size_t i = 0; i < MR_COUNT_OF(files); i++) {
        (void)unlink(tls_path(files[i]));
    }
    mr_assert(rmdir(tls_folder) == 0);
    return 0;
}
