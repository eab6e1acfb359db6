/* test_generator.c
 *
 * Goal:   the simulator itself loses nothing: whatever a server does to its
 *         connections, every reading of every sensor arrives, in order, and is
 *         acknowledged; and it stops when it said it would.
 * Method: a server in the same thread, on a free port, that accepts, acknowledges late,
 *         closes connections with acknowledgements owed, and goes away altogether
 *         for a while.  It checks the "n" of every sensor: a gap is a failure, a
 *         repetition must carry DUP.  Replay with: ./test_generator <seed>
 * links: load codec os base
 */
#include "app/load/generator.h"
#include "codec/mqtt.h"
#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { PEERS_MAX = 64, SENSORS = 20, INPUT_BYTES = 16384, OWED_MAX = 256 };

/* One accepted connection. */
struct peer {
    int fd; /* -1: free */
    uint8_t input[INPUT_BYTES];
    size_t input_len;
    uint16_t owed[OWED_MAX]; /* packet ids whose PUBACK has not been sent */
    size_t owed_count;
};

struct server {
    struct mr_loop *loop;
    struct mr_address address;
    int listener;
    struct peer peers[PEERS_MAX];
    uint64_t last[SENSORS]; /* highest "n" of each sensor */
    uint64_t received;      /* readings, repetitions not counted */
    uint64_t repeated;
    uint64_t greeted;      /* CONNECTs */
    uint64_t goodbyes;     /* DISCONNECTs */
    unsigned close_one_in; /* of so many publishes, one closes its connection; 0: never */
    struct mr_rng rng;
};

static void server_listen(struct server *server, const char *address)
{
    struct mr_listen_options options = {.reuse_port = false};
    struct mr_error why;

    if (mr_socket_listen(address, &options, &server->listener, &server->address, &why) != MR_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        abort();
    }
    mr_assert(mr_loop_add(server->loop, server->listener, MR_READY_READ, PEERS_MAX) == MR_OK);
}

static void server_open(struct server *server, uint64_t seed)
{
    memset(server, 0, sizeof(*server));
    mr_rng_seed(&server->rng, seed);
    for (size_t i = 0; i < PEERS_MAX; i++) {
        server->peers[i].fd = -1;
    }
    mr_assert(mr_loop_open(&server->loop, NULL) == MR_OK);
    server_listen(server, "127.0.0.1:0");
}

static void peer_close(struct server *server, struct peer *peer)
{
    mr_loop_remove(server->loop, peer->fd);
    mr_socket_close(peer->fd);
    *peer = (struct peer){.fd = -1};
}

/* The gateway goes away, with everything it owes. */
static void server_vanish(struct server *server)
{
    if (server->listener >= 0) {
        mr_loop_remove(server->loop, server->listener);
        mr_socket_close(server->listener);
        server->listener = -1;
    }
    for (size_t i = 0; i < PEERS_MAX; i++) {
        if (server->peers[i].fd >= 0) {
            peer_close(server, &server->peers[i]);
        }
    }
}

static void server_close(struct server *server)
{
    server_vanish(server);
    mr_loop_close(server->loop);
}

static void server_accept(struct server *server)
{
    int fd = -1;

    while (mr_socket_accept(server->listener, &fd, NULL) == MR_OK) {
        size_t i = 0;
        while (server->peers[i].fd >= 0) {
            i += 1;
            mr_assert(i < PEERS_MAX);
        }
        server->peers[i].fd = fd;
        mr_assert(mr_loop_add(server->loop, fd, MR_READY_READ, i) == MR_OK);
    }
}

static void peer_send(struct peer *peer, const uint8_t *bytes, size_t len)
{
    size_t sent = 0;

    if (mr_socket_write(peer->fd, bytes, len, &sent) == MR_OK) {
        mr_assert(sent == len); /* a few bytes into an empty buffer */
    }
}

/* plant/<kind>/<place>/<id>, {"t":…,"n":<n>,…: the reading must be the next one, or an old
 * one that says so.
 */
static void server_publish(struct server *server, const struct mr_mqtt_publish *packet)
{
    char topic[64];
    char payload[MR_SENSOR_PAYLOAD_MAX + 1];

    mr_assert(packet->topic.len < sizeof(topic) && packet->payload.len < sizeof(payload));
    memcpy(topic, packet->topic.at, packet->topic.len);
    topic[packet->topic.len] = '\0';
    memcpy(payload, packet->payload.at, packet->payload.len);
    payload[packet->payload.len] = '\0';
    mr_assert(strncmp(topic, "plant/", 6) == 0);

    const char *n_at = strstr(payload, "\"n\":");
    mr_assert(n_at != NULL);
    uint64_t n = strtoull(n_at + 4, NULL, 10);
    uint64_t sensor = strtoull(strrchr(topic, '/') + 1, NULL, 10);
    mr_assert(sensor < SENSORS && n >= 1 && n <= server->last[sensor] + 1);
    if (n == server->last[sensor] + 1) {
        server->last[sensor] = n;
        server->received += 1;
    } else {
        mr_assert(packet->qos == 1 && packet->dup);
        server->repeated += 1;
    }
}

static void server_connect(struct server *server, struct peer *peer,
                           const struct mr_mqtt_frame *frame)
{
    struct mr_mqtt_connect packet;
    struct mr_mqtt_why why;
    uint8_t bytes[64];

    mr_assert(mr_mqtt_connect_decode(frame, &packet, &why) == MR_OK);
    mr_assert(packet.client_id.len > 0 && packet.version == MR_MQTT_5);
    mr_assert(packet.clean_start);
    struct mr_mqtt_connack answer = {.props = {.receive_max = 9}};
    mr_mqtt_set(&answer.props, MR_MQTT_PROP_RECEIVE_MAX);
    ptrdiff_t len = mr_mqtt_connack_encode(&answer, MR_MQTT_5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_send(peer, bytes, (size_t)len);
    server->greeted += 1;
}

/* False: the peer was closed. */
static bool server_packet(struct server *server, struct peer *peer,
                          const struct mr_mqtt_frame *frame)
{
    const struct mr_mqtt_mode mode = {.version = MR_MQTT_5, .from = MR_MQTT_FROM_CLIENT};
    struct mr_mqtt_publish packet;
    struct mr_mqtt_why why;

    switch (frame->type) {
    case MR_MQTT_CONNECT:
        server_connect(server, peer, frame);
        return true;
    case MR_MQTT_PUBLISH:
        mr_assert(mr_mqtt_publish_decode(frame, mode, &packet, &why) == MR_OK);
        server_publish(server, &packet);
        if (packet.qos == 1) {
            peer->owed[peer->owed_count++] = packet.packet_id;
            mr_assert(peer->owed_count <= 9); /* Receive Maximum */
        }
        if (server->close_one_in != 0 && mr_rng_below(&server->rng, server->close_one_in) == 0) {
            peer_close(server, peer);
            return false;
        }
        return true;
    case MR_MQTT_DISCONNECT:
        server->goodbyes += 1;
        peer_close(server, peer);
        return false;
    default:
        mr_assert(frame->type == MR_MQTT_PINGREQ);
        return true;
    }
}

static void server_read(struct server *server, struct peer *peer)
{
    size_t got = 0;
    size_t at = 0;
    /* Sometimes only a little: packets arrive in pieces. */
    size_t room = INPUT_BYTES - peer->input_len;
    size_t want = mr_rng_below(&server->rng, 2) == 0 ? 7 : room;
    enum mr_err err =
        mr_socket_read(peer->fd, peer->input + peer->input_len, want < room ? want : room, &got);

    if (err == MR_ERR_AGAIN) {
        return;
    }
    if (err != MR_OK || got == 0) {
        peer_close(server, peer);
        return;
    }
    peer->input_len += got;
    for (;;) {
        struct mr_mqtt_frame frame;
        struct mr_span rest = mr_span_make(peer->input + at, peer->input_len - at);
        if (mr_mqtt_frame(rest, INPUT_BYTES, &frame) != MR_OK) {
            break;
        }
        at += frame.total_bytes;
        if (!server_packet(server, peer, &frame)) {
            return;
        }
    }
    memmove(peer->input, peer->input + at, peer->input_len - at);
    peer->input_len -= at;
}

/* Acknowledge some of what is owed, in order. */
static void peer_ack(struct server *server, struct peer *peer)
{
    uint8_t bytes[OWED_MAX * MR_MQTT_ACK_BYTES];
    size_t count = mr_rng_below(&server->rng, peer->owed_count + 1);

    for (size_t i = 0; i < count; i++) {
        (void)mr_mqtt_ack_put(bytes + i * MR_MQTT_ACK_BYTES, MR_MQTT_PUBACK, peer->owed[i]);
    }
    if (count > 0) {
        peer_send(peer, bytes, count * MR_MQTT_ACK_BYTES);
        peer->owed_count -= count;
        memmove(peer->owed, peer->owed + count, peer->owed_count * sizeof(peer->owed[0]));
    }
}

static void server_step(struct server *server)
{
    struct mr_ready ready[32];
    size_t count = mr_loop_wait(server->loop, ready, MR_COUNT_OF(ready), 0, NULL, NULL);

    for (size_t i = 0; i < count; i++) {
        if (ready[i].tag == PEERS_MAX) {
            server_accept(server);
        } else if (server->peers[ready[i].tag].fd >= 0) {
            server_read(server, &server->peers[ready[i].tag]);
        }
    }
    for (size_t i = 0; i < PEERS_MAX; i++) {
        if (server->peers[i].fd >= 0 && server->peers[i].owed_count > 0) {
            peer_ack(server, &server->peers[i]);
        }
    }
}

static struct mr_generator *generator_of(struct server *server, struct mr_generator_options options)
{
    struct mr_generator *generator = NULL;
    struct mr_error why;

    options.address = server->address.text;
    options.prefix = "plant";
    options.sensors = SENSORS;
    options.connections = 7;
    options.seed = 5;
    if (mr_generator_open(&generator, &options, &why) != MR_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        abort();
    }
    return generator;
}

/* Both ends, until the generator is done. */
static void run_until_done(struct server *server, struct mr_generator *generator)
{
    while (mr_generator_step(generator, 100000, NULL)) {
        server_step(server);
    }
}

static void close_both(struct server *server, struct mr_generator *generator)
{
    mr_generator_close(generator);
    for (int64_t end_ns = mr_clock_mono_ns() + INT64_C(2000000000);
         server->goodbyes < 7 && mr_clock_mono_ns() < end_ns;) {
        server_step(server);
    }
    mr_assert(server->goodbyes == 7); /* nothing remains on the server */
    server_close(server);
}

static void test_nothing_is_lost_when_connections_break(uint64_t seed)
{
    static struct server server;
    struct mr_generator_stats stats;

    server_open(&server, seed);
    server.close_one_in = 200;
    struct mr_generator *generator =
        generator_of(&server, (struct mr_generator_options){.qos = 1, .window = 40, .count = 5000});
    run_until_done(&server, generator);
    mr_generator_stats(generator, &stats);
    mr_assert(stats.made == 5000 && stats.acked == 5000 && server.received == 5000);
    mr_assert(stats.lost > 5 && server.greeted == stats.lost + 7);
    mr_assert(server.repeated > 0 && stats.resent >= server.repeated);
    mr_assert(mr_generator_latency(generator)->count == 5000);
    close_both(&server, generator);
}

static void test_what_fell_due_while_the_server_was_away_comes_late(uint64_t seed)
{
    static struct server server;
    struct mr_generator_stats stats;
    char address[sizeof(server.address.text)];

    server_open(&server, seed);
    struct mr_generator *generator = generator_of(
        &server,
        (struct mr_generator_options){.qos = 1, .window = 40, .count = 4000, .rate = 4000});
    memcpy(address, server.address.text, sizeof(address));
    while (server.received < 1000) {
        mr_assert(mr_generator_step(generator, 100000, NULL));
        server_step(&server);
    }
    server_vanish(&server);
    for (int64_t end_ns = mr_clock_mono_ns() + INT64_C(500000000); mr_clock_mono_ns() < end_ns;) {
        mr_assert(mr_generator_step(generator, 1000000, NULL));
    }
    mr_generator_stats(generator, &stats);
    mr_assert(stats.up == 0 && stats.trouble[0] != '\0');
    server_listen(&server, address);
    run_until_done(&server, generator);
    mr_generator_stats(generator, &stats);
    mr_assert(stats.made == 4000 && stats.acked == 4000 && server.received == 4000);
    /* Charged from when they were due: the absence is in the latencies. */
    mr_assert(mr_histogram_quantile_ns(mr_generator_latency(generator), 1) > 400000000);
    close_both(&server, generator);
}

/* Every device drops its connection again and again; all readings arrive all the same. */
static void test_unreliable_devices_lose_nothing(uint64_t seed)
{
    static struct server server;
    struct mr_generator_stats stats;

    server_open(&server, seed);
    struct mr_generator *generator =
        generator_of(&server, (struct mr_generator_options){.qos = 1,
                                                            .window = 40,
                                                            .count = 1500,
                                                            .rate = 1500,
                                                            .profile = MR_PROFILE_TRAINS,
                                                            .disconnect_pct = 100,
                                                            .disconnect_every_us = 300000});
    run_until_done(&server, generator);
    mr_generator_stats(generator, &stats);
    mr_assert(stats.made == 1500 && stats.acked == 1500 && server.received == 1500);
    mr_assert(stats.dropped > 3 && stats.lost == 0 && stats.trouble[0] == '\0');
    mr_assert(server.greeted >= 7 && server.greeted <= 7 + stats.dropped);
    mr_generator_close(generator);
    server_close(&server);
}

static void test_qos_0_is_done_when_written(uint64_t seed)
{
    static struct server server;
    struct mr_generator_stats stats;

    server_open(&server, seed);
    struct mr_generator *generator =
        generator_of(&server, (struct mr_generator_options){.qos = 0, .window = 40, .count = 3000});
    run_until_done(&server, generator);
    mr_generator_stats(generator, &stats);
    mr_assert(stats.made == 3000 && stats.acked == 3000 && stats.resent == 0);
    while (server.received < 3000) {
        server_step(&server);
    }
    close_both(&server, generator);
}

static void test_stop_makes_no_more_and_waits_for_the_rest(uint64_t seed)
{
    static struct server server;
    struct mr_generator_stats before;
    struct mr_generator_stats after;

    server_open(&server, seed);
    struct mr_generator *generator =
        generator_of(&server, (struct mr_generator_options){.qos = 1, .window = 40});
    while (server.received < 500) {
        mr_assert(mr_generator_step(generator, 100000, NULL));
        server_step(&server);
    }
    mr_generator_stop(generator);
    mr_generator_stats(generator, &before);
    run_until_done(&server, generator);
    mr_generator_stats(generator, &after);
    mr_assert(after.made == before.made && after.acked == after.made);
    mr_assert(server.received == after.made);
    close_both(&server, generator);
}

static void test_impossible_options_are_refused(void)
{
    struct mr_generator_options good = {
        .address = "127.0.0.1:1", .prefix = "plant", .sensors = 2, .connections = 2, .window = 1};
    struct mr_generator *generator = NULL;
    struct mr_generator_options bad = good;
    struct mr_error why;

    bad.connections = 3;
    mr_assert(mr_generator_open(&generator, &bad, &why) == MR_ERR_CONFIG);
    bad = good;
    bad.prefix = "a/#";
    mr_assert(mr_generator_open(&generator, &bad, &why) == MR_ERR_CONFIG);
    bad = good;
    bad.sensors = 0;
    mr_assert(mr_generator_open(&generator, &bad, &why) == MR_ERR_CONFIG);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    (void)printf("seed %llu\n", (unsigned long long)seed);
    test_impossible_options_are_refused();
    test_nothing_is_lost_when_connections_break(seed);
    test_what_fell_due_while_the_server_was_away_comes_late(seed);
    test_unreliable_devices_lose_nothing(seed);
    test_qos_0_is_done_when_written(seed);
    test_stop_makes_no_more_and_waits_for_the_rest(seed);
    return 0;
}
