/* test_os_loop.c
 * links: os base
 *
 * Goal:   loop.h on the real kernel: bytes arrive whole, readiness is reported as
 *         promised, a wake ends a wait, and messages say what to do.
 * Method: sockets on 127.0.0.1 with ports the kernel chooses.
 */
#include "os/clock.h"
#include "os/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { TAG_LISTENER = 1, TAG_CLIENT, TAG_SERVER };

struct pair {
    struct mr_loop *loop;
    int listener;
    int client;
    int server;
    struct mr_address address;
};

/* Wait until `tag` reports something; its bits. */
static uint32_t wait_for(struct mr_loop *loop, uint64_t tag)
{
    for (;;) {
        struct mr_ready events[8];
        size_t count = mr_loop_wait(loop, events, MR_COUNT_OF(events), -1, NULL, NULL);
        for (size_t i = 0; i < count; i++) {
            if (events[i].tag == tag) {
                return events[i].what;
            }
        }
    }
}

static struct pair pair_open(void)
{
    struct pair pair = {.listener = -1};
    struct mr_listen_options options = {.reuse_port = false};
    struct mr_address peer;
    struct mr_error why;

    mr_assert(mr_loop_open(&pair.loop, &why) == MR_OK);
    mr_assert(mr_socket_listen("127.0.0.1:0", &options, &pair.listener, &pair.address, &why) ==
              MR_OK);
    mr_assert(mr_loop_add(pair.loop, pair.listener, MR_READY_READ, TAG_LISTENER) == MR_OK);
    mr_assert(mr_socket_accept(pair.listener, &pair.server, &peer) == MR_ERR_AGAIN);
    mr_assert(mr_socket_connect(pair.address.text, &pair.client, &why) == MR_OK);
    mr_assert(mr_loop_add(pair.loop, pair.client, MR_READY_WRITE, TAG_CLIENT) == MR_OK);

    mr_assert(wait_for(pair.loop, TAG_LISTENER) == MR_READY_READ);
    mr_assert(mr_socket_accept(pair.listener, &pair.server, &peer) == MR_OK);
    mr_assert(strncmp(peer.text, "127.0.0.1:", 10) == 0);
    mr_assert(wait_for(pair.loop, TAG_CLIENT) == MR_READY_WRITE);
    mr_assert(mr_socket_connected(pair.client, &why) == MR_OK);
    mr_loop_change(pair.loop, pair.client, 0, TAG_CLIENT);
    mr_assert(mr_loop_add(pair.loop, pair.server, MR_READY_READ, TAG_SERVER) == MR_OK);
    return pair;
}

static void pair_close(struct pair *pair)
{
    mr_socket_close(pair->client);
    mr_socket_close(pair->server);
    mr_socket_close(pair->listener);
    mr_loop_close(pair->loop);
}

static void test_a_megabyte_arrives_whole(void)
{
    enum { TOTAL = 1 << 22 };
    struct pair pair = pair_open();
    uint8_t piece[10000];
    size_t sent_total = 0;
    size_t got_total = 0;
    bool was_full = false;

    /* How much the kernel takes depends on its mood: on until a write was a partial one. */
    while (got_total < sent_total || sent_total < TOTAL || !was_full) {
        while (sent_total < TOTAL || !was_full) {
            size_t sent = 0;
            for (size_t i = 0; i < sizeof(piece); i++) {
                piece[i] = (uint8_t)((sent_total + i) % 251);
            }
            mr_assert(mr_socket_write(pair.client, piece, sizeof(piece), &sent) == MR_OK);
            sent_total += sent;
            if (sent < sizeof(piece)) {
                was_full = true;
                break;
            }
        }
        mr_assert((wait_for(pair.loop, TAG_SERVER) & MR_READY_READ) != 0);
        size_t got = 0;
        enum mr_err err = MR_OK;
        while ((err = mr_socket_read(pair.server, piece, sizeof(piece), &got)) == MR_OK) {
            for (size_t i = 0; i < got; i++) {
                mr_assert(piece[i] == (uint8_t)((got_total + i) % 251));
            }
            got_total += got;
        }
        mr_assert(err == MR_ERR_AGAIN && got == 0);
    }

    mr_socket_shutdown(pair.client);
    mr_assert((wait_for(pair.loop, TAG_SERVER) & MR_READY_READ) != 0);
    size_t got = 1;
    mr_assert(mr_socket_read(pair.server, piece, sizeof(piece), &got) == MR_OK && got == 0);
    pair_close(&pair);
}

static void test_reset_is_gone(void)
{
    struct pair pair = pair_open();
    size_t done = 0;
    uint8_t byte = 1;

    mr_loop_change(pair.loop, pair.server, 0, TAG_SERVER); /* even if nothing is asked for */
    mr_assert(mr_socket_write(pair.server, &byte, 1, &done) == MR_OK && done == 1);
    mr_loop_change(pair.loop, pair.client, MR_READY_READ, TAG_CLIENT);
    mr_assert((wait_for(pair.loop, TAG_CLIENT) & MR_READY_READ) != 0);
    mr_loop_remove(pair.loop, pair.client);
    mr_socket_close(pair.client); /* with a byte unread: TCP sends a reset */
    pair.client = -1;
    mr_assert((wait_for(pair.loop, TAG_SERVER) & MR_READY_GONE) != 0);
    mr_assert(mr_socket_read(pair.server, &byte, 1, &done) == MR_ERR_IO);
    mr_assert(mr_socket_write(pair.server, &byte, 1, &done) == MR_ERR_IO); /* and no SIGPIPE */
    pair_close(&pair);
}

static void test_refused_connection_says_so(void)
{
    struct pair pair = pair_open();
    struct mr_error why;
    int fd = -1;

    mr_socket_close(pair.listener);
    pair.listener = -1;
    enum mr_err err = mr_socket_connect(pair.address.text, &fd, &why);
    if (err == MR_OK) {
        mr_assert(mr_loop_add(pair.loop, fd, MR_READY_WRITE, 9) == MR_OK);
        mr_assert(wait_for(pair.loop, 9) != 0);
        err = mr_socket_connected(fd, &why);
        mr_socket_close(fd);
    }
    mr_assert(err == MR_ERR_AGAIN && strstr(why.text, "connection refused") != NULL);
    pair_close(&pair);
}

static void test_listen_explains_itself(void)
{
    static const char *const wrong[] = {"",      "1883",      "host",         "127.0.0.1:",
                                        ":1883", "::1:1883",  "127.0.0.1:x",  "127.0.0.1:65536",
                                        "[::1]", "[::1:1883", "127.0.0.1:-1", "127.0.0.1:123456"};
    struct mr_listen_options options = {.reuse_port = false};
    struct mr_address bound;
    struct mr_error why;
    int first = -1;
    int second = -1;

    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        mr_assert(mr_socket_listen(wrong[i], &options, &first, NULL, &why) == MR_ERR_CONFIG);
        mr_assert(wrong[i][0] == '\0' || strstr(why.text, wrong[i]) != NULL);
    }
    mr_assert(mr_socket_listen("127.0.0.1:0", &options, &first, &bound, &why) == MR_OK);
    mr_assert(mr_socket_listen(bound.text, &options, &second, NULL, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, bound.text) != NULL);
    mr_assert(strstr(why.text, "address already in use; is another broker running?") != NULL);
    mr_socket_close(first);

    options.reuse_port = true;
    mr_assert(mr_socket_listen("127.0.0.1:0", &options, &first, &bound, &why) == MR_OK);
    mr_assert(mr_socket_listen(bound.text, &options, &second, NULL, &why) == MR_OK);
    mr_socket_close(first);
    mr_socket_close(second);

    if (mr_socket_listen("[::1]:0", &options, &first, &bound, &why) == MR_OK) {
        mr_assert(strncmp(bound.text, "[::1]:", 6) == 0);
        mr_socket_close(first);
    } else {
        printf("no IPv6 here: %s\n", why.text);
    }
}

/* One send for each of many sockets; one is full before, one is broken. */
static void sends_are_as_calls(bool batched)
{
    enum { PAIRS = 300, FULL = 7, BROKEN = 270 }; /* more than go to the kernel at once */
    static int ends[PAIRS][2];
    static struct mr_send sends[PAIRS];
    static uint8_t piece[4096];
    struct mr_error why = {.text = ""};
    struct mr_loop *loop = NULL;
    size_t done = 0;

    mr_assert(mr_loop_open(&loop, &why) == MR_OK);
    if (batched && mr_loop_batch_sends(loop, &why) != MR_OK) {
        printf("not by io_uring here: %s\n", why.text);
        mr_loop_close(loop);
        return;
    }
    for (size_t i = 0; i < PAIRS; i++) {
        mr_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends[i]) == 0);
        sends[i] = (struct mr_send){.at = &sends[i].fd, .fd = ends[i][0], .len = sizeof(int)};
    }
    do {
        mr_assert(mr_socket_write(ends[FULL][0], piece, sizeof(piece), &done) == MR_OK);
    } while (done != 0);
    mr_socket_close(ends[BROKEN][1]);

    mr_loop_send(loop, sends, 0);
    mr_loop_send(loop, sends, 1); /* one alone, too */
    mr_loop_send(loop, sends + 1, PAIRS - 1);
    for (size_t i = 0; i < PAIRS; i++) {
        int got = 0;
        mr_assert(sends[i].err == (i == BROKEN ? MR_ERR_IO : MR_OK));
        mr_assert(sends[i].sent == (i == FULL || i == BROKEN ? 0 : sizeof(int)));
        if (i != FULL && i != BROKEN) {
            mr_assert(mr_socket_read(ends[i][1], &got, sizeof(got), &done) == MR_OK);
            mr_assert(done == sizeof(got) && got == ends[i][0]);
        }
        mr_socket_close(ends[i][0]);
        mr_socket_close(i == BROKEN ? -1 : ends[i][1]);
    }
    mr_loop_close(loop);
}

/* What does not fit is not sent, and the beginning that was is told. */
static void a_short_send_is_told(bool batched)
{
    enum { TOTAL = 32 << 20 };
    struct pair pairs[2] = {pair_open(), pair_open()};
    uint8_t *bytes = mr_alloc(TOTAL);
    struct mr_error why = {.text = ""};

    if (!batched || mr_loop_batch_sends(pairs[0].loop, &why) == MR_OK) {
        struct mr_send sends[2] = {{.at = bytes, .fd = pairs[0].server, .len = TOTAL},
                                   {.at = bytes, .fd = pairs[1].server, .len = 10}};
        mr_loop_send(pairs[0].loop, sends, 2);
        mr_assert(sends[0].err == MR_OK && sends[0].sent > 0 && sends[0].sent < TOTAL);
        mr_assert(sends[1].err == MR_OK && sends[1].sent == 10);
        mr_socket_shutdown(pairs[0].server);
        uint64_t got_total = 0;
        size_t got = 1;
        mr_loop_change(pairs[0].loop, pairs[0].client, MR_READY_READ, TAG_CLIENT);
        while (got != 0) {
            (void)wait_for(pairs[0].loop, TAG_CLIENT);
            enum mr_err err = mr_socket_read(pairs[0].client, bytes, TOTAL, &got);
            mr_assert(err == MR_OK || err == MR_ERR_AGAIN);
            got_total += err == MR_OK ? got : 0;
            got = err == MR_OK ? got : 1;
        }
        mr_assert(got_total == sends[0].sent);
    }
    mr_free(bytes);
    pair_close(&pairs[0]);
    pair_close(&pairs[1]);
}

struct ringer {
    struct mr_wake wake;
    struct mr_wake answered;
    _Atomic unsigned rung;
};

enum { RINGS = 5000 };

static void ring_and_wait(void *arg)
{
    struct ringer *ringer = arg;

    for (unsigned i = 1; i <= RINGS; i++) {
        atomic_store_explicit(&ringer->rung, i, memory_order_relaxed);
        mr_wake_ring(&ringer->wake);
        (void)mr_wake_wait(&ringer->answered, i % 2 == 0 ? -1 : 0); /* answered, or at full speed */
    }
}

static void test_wake_ends_a_wait(void)
{
    struct pair pair = pair_open();
    struct ringer ringer = {.rung = 0};
    struct mr_thread *thread = NULL;
    struct mr_ready events[4];
    bool woken = false;

    mr_assert(mr_wake_open(&ringer.wake, NULL) == MR_OK);
    mr_assert(mr_wake_open(&ringer.answered, NULL) == MR_OK);
    mr_assert(mr_loop_wait(pair.loop, events, 4, 0, &ringer.wake, &woken) == 0 && !woken);
    mr_wake_ring(&ringer.wake);
    mr_assert(mr_loop_wait(pair.loop, events, 4, -1, &ringer.wake, &woken) == 0 && woken);
    mr_assert(mr_loop_wait(pair.loop, events, 4, 0, &ringer.wake, &woken) == 0 && !woken);

    int64_t before = mr_clock_mono_ns();
    mr_assert(mr_loop_wait(pair.loop, events, 4, 300000, &ringer.wake, &woken) == 0 && !woken);
    mr_assert(mr_clock_mono_ns() - before >= 300000);

    /* A lost ring would leave both threads asleep for ever. */
    mr_assert(mr_thread_start(&thread, "ringer", ring_and_wait, &ringer, NULL) == MR_OK);
    while (atomic_load_explicit(&ringer.rung, memory_order_relaxed) < RINGS) {
        mr_assert(mr_loop_wait(pair.loop, events, 4, -1, &ringer.wake, &woken) == 0 && woken);
        mr_wake_ring(&ringer.answered);
    }
    mr_wake_ring(&ringer.answered);
    mr_thread_join(thread);
    mr_wake_close(&ringer.wake);
    mr_wake_close(&ringer.answered);
    pair_close(&pair);
}

int main(void)
{
    test_a_megabyte_arrives_whole();
    test_reset_is_gone();
    test_refused_connection_says_so();
    test_listen_explains_itself();
    test_wake_ends_a_wait();
    sends_are_as_calls(false);
    sends_are_as_calls(true);
    a_short_send_is_told(false);
    a_short_send_is_told(true);
    return 0;
}
