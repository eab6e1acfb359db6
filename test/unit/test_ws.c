/* test_ws.c
 * links: net os_sim base
 *
 * Goal:   WebSocket inside a connection changes nothing for whoever uses it: the same bytes
 *         in the same order, however they are cut into frames and however the frames are cut
 *         by the network; each packet that is sent has a frame of its own; and what breaks RFC 6455
 * ends with the code that it names. Method: the simulated network with pieces of any size.  The
 * client is ours, frames by hand. Seeded; replay with: ./test_ws <seed>
 */
#include "base/bytes.h"
#include "base/rng.h"
#include "net/move.h"
#include "net/websocket.h"
#include "net/ws_frames_internal.h"
#include "net_kit.h"
#include "os/sim.h"

#include <stdio.h>
#include <stdlib.h>

enum { FRAME_MAX = 100000, STREAM = 400000, ANSWER_LEAST = 12, ANSWER_MAX = 80000 };

static const char good_head[] = "GET /mqtt?x=1 HTTP/1.1\r\nHost: gw\r\nUpgrade: websocket\r\n"
                                "Connection: keep-alive, Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                "Sec-WebSocket-Version: 13\r\n"
                                "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\r\n";

struct owner {
    struct mr_rng rng;
    uint64_t received;
    uint32_t opened;
    uint32_t closed;
    bool pauses;
    bool moves; /* give the connection to the other side */
    enum mr_close_why why;
    char fault[256];
};

struct side {
    struct owner owner;
    struct net_side at;
};

static struct side sides[2];
static struct mr_net_shared shared;
static struct mr_address address;
static struct mr_websocket_options websocket;
static const char *const origins[] = {"https://plant.example"};

static struct mr_conn_parcel parcel;
static uint8_t *unread;
static bool on_the_way;

static bool owner_open(void *arg, struct mr_conn *conn)
{
    (void)conn;
    ((struct owner *)arg)->opened += 1;
    return true;
}

/* Of every kind of header, and now and then more than is copied to be framed. */
static size_t answer_len(struct mr_rng *rng)
{
    static const size_t sizes[] = {ANSWER_LEAST, 125, 126, 300, 16384, 65535, 65536, ANSWER_MAX};

    return mr_rng_below(rng, 16) != 0 ? ANSWER_LEAST : sizes[mr_rng_below(rng, 8)];
}

static uint32_t answer_whole(struct mr_span bytes)
{
    return mr_get_u32(bytes.at + 8);
}

/* Blocks of 1 to 60,000 bytes are one packet each; each is answered by a packet that begins
 * with how many bytes there have been, and its own length.
 */
static size_t owner_bytes(void *arg, struct mr_conn *conn, struct mr_span bytes)
{
    struct owner *owner = arg;
    size_t used = 0;

    if (owner->moves && mr_conn_may_detach(conn)) {
        unread = mr_alloc(bytes.len);
        memcpy(unread, bytes.at, bytes.len);
        mr_conn_detach(conn, (uint32_t)bytes.len, &parcel);
        on_the_way = true;
        return 0;
    }
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
        static uint8_t answer[ANSWER_MAX];
        size_t len = answer_len(&owner->rng);
        mr_put_u64(answer, owner->received);
        mr_put_u32(answer + 8, (uint32_t)len);
        enum mr_err err = mr_rng_below(&owner->rng, 2) == 0 ? mr_conn_send(conn, answer, len)
                                                            : mr_conn_send_soon(conn, answer, len);
        mr_assert(err == MR_OK);
    }
}

static void owner_close(void *arg, struct mr_conn *conn, enum mr_close_why why)
{
    struct owner *owner = arg;

    owner->closed += 1;
    owner->why = why;
    if (why == MR_CLOSE_WEBSOCKET) {
        (void)snprintf(owner->fault, sizeof(owner->fault), "%s", mr_conn_fault(conn));
    }
}

static const struct mr_net_handler handler = {.on_open = owner_open,
                                              .on_bytes = owner_bytes,
                                              .on_drained = net_nothing,
                                              .on_timer = net_nothing,
                                              .on_close = owner_close};

static void world_open(uint64_t seed)
{
    mr_sim_start(seed);
    on_the_way = false;
    shared = (struct mr_net_shared){.connections_max = 100};
    websocket = (struct mr_websocket_options){.path = "/mqtt",
                                              .origins = origins,
                                              .origin_count = 1,
                                              .frame_max = FRAME_MAX,
                                              .packet_len = answer_whole};
    for (int i = 0; i < 2; i++) {
        struct side *side = &sides[i];
        *side = (struct side){0};
        mr_rng_seed(&side->owner.rng, seed + (uint64_t)i);
        net_side_open(&side->at, &handler, &side->owner, &shared);
    }
    net_side_listen(&sides[0].at, &address);
    mr_net_websocket(sides[0].at.net, 0, &websocket);
}

static void world_close(void)
{
    for (int i = 0; i < 2; i++) {
        net_side_close(&sides[i].at);
    }
    mr_assert(shared.connections == 0);
    mr_sim_stop();
}

static void world_turn(void)
{
    mr_sim_advance(100000);
    net_side_turn(&sides[0].at);
    net_side_turn(&sides[1].at);
}

/* ---- the client ---- */

static int client_connect(void)
{
    struct mr_error why;
    int fd = -1;

    mr_assert(mr_socket_connect(address.text, &fd, &why) == MR_OK);
    return fd;
}

static void client_send(int fd, const void *at, size_t len)
{
    size_t begin = 0;

    while (begin < len) {
        size_t sent = 0;
        if (mr_socket_write(fd, (const uint8_t *)at + begin, len - begin, &sent) != MR_OK) {
            return; /* it has been closed: the test looks at what was said */
        }
        begin += sent;
        world_turn();
    }
}

/* Everything up to the end of the stream. */
static size_t client_read_all(int fd, uint8_t *into, size_t size)
{
    size_t all = 0;

    for (int turn = 0; turn < 100000; turn++) {
        size_t got = 0;
        enum mr_err err = mr_socket_read(fd, into + all, size - all, &got);
        if (err == MR_ERR_IO || (err == MR_OK && got == 0)) {
            return all;
        }
        all += err == MR_OK ? got : 0;
        world_turn();
    }
    mr_assert(false);
    return 0;
}

static size_t frame_put(uint8_t *into, uint8_t first, bool masked, const uint8_t *payload,
                        size_t len)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t at = 2;

    into[0] = first;
    if (len < 126) {
        into[1] = (uint8_t)len;
    } else if (len <= UINT16_MAX) {
        into[1] = 126;
        mr_put_be16(into + 2, (uint16_t)len);
        at = 4;
    } else {
        into[1] = 127;
        mr_put_be32(into + 2, 0);
        mr_put_be32(into + 6, (uint32_t)len);
        at = 10;
    }
    if (masked) {
        into[1] |= 0x80;
        memcpy(into + at, mask, 4);
        at += 4;
    }
    for (size_t i = 0; i < len; i++) {
        into[at + i] = (uint8_t)(payload[i] ^ (masked ? mask[i % 4] : 0));
    }
    return at + len;
}

/* A server's frame at `at`: its length, and where its payload begins; 0: not complete. */
static size_t frame_get(const uint8_t *at, size_t len, size_t *head)
{
    if (len < 2) {
        return 0;
    }
    mr_assert((at[1] & 0x80) == 0); /* a server does not mask */
    *head = at[1] < 126 ? 2 : at[1] == 126 ? 4 : 10;
    if (len < *head) {
        return 0;
    }
    size_t payload = at[1] < 126 ? at[1] : at[1] == 126 ? mr_get_be16(at + 2) : mr_get_be32(at + 6);
    return len < *head + payload ? 0 : *head + payload;
}

/* ---- tests ---- */

struct stream {
    struct mr_rng rng;
    uint8_t out[1 << 20];
    size_t out_begin;
    size_t out_end;
    uint64_t made;
    uint64_t pings;
    bool in_message;
    uint8_t in[1 << 17];
    size_t in_len;
    uint64_t answered; /* the last count that came back */
    uint64_t pongs;
    bool upgraded;
    bool closed;
};

/* One more frame of the stream, now and then a ping between the fragments. */
static void stream_make(struct stream *stream)
{
    static uint8_t payload[FRAME_MAX];
    static const size_t sizes[] = {1, 5, 125, 126, 300, 65535, 65536, FRAME_MAX};
    size_t len = mr_rng_below(&stream->rng, sizes[mr_rng_below(&stream->rng, 8)] + 1);
    bool last = mr_rng_below(&stream->rng, 3) != 0;

    if (mr_rng_below(&stream->rng, 3) == 0) {
        len = mr_rng_below(&stream->rng, 126);
        memset(payload, 'p', len);
        stream->out_end += frame_put(stream->out + stream->out_end, 0x89, true, payload, len);
        stream->pings += 1;
        return;
    }
    len = len < STREAM - stream->made ? len : STREAM - stream->made;
    for (size_t i = 0; i < len; i++) {
        payload[i] = net_pattern(stream->made + i);
    }
    stream->made += len;
    uint8_t first = (uint8_t)((last ? 0x80 : 0) | (stream->in_message ? 0 : 2));
    stream->in_message = !last;
    stream->out_end += frame_put(stream->out + stream->out_end, first, true, payload, len);
}

static void stream_read_frames(struct stream *stream)
{
    size_t head = 0;
    size_t used = 0;
    size_t len;

    while ((len = frame_get(stream->in + used, stream->in_len - used, &head)) != 0) {
        const uint8_t *frame = stream->in + used;
        if (frame[0] == 0x8a) {
            stream->pongs += 1;
        } else if (frame[0] == 0x88) {
            mr_assert(len == 4 && mr_get_be16(frame + head) == 1000 && !stream->closed);
            stream->closed = true;
        } else {
            mr_assert(frame[0] == 0x82 && len >= head + ANSWER_LEAST); /* one packet a frame */
            mr_assert(len == head + mr_get_u32(frame + head + 8));
            uint64_t count = mr_get_u64(frame + head);
            mr_assert(count > stream->answered);
            stream->answered = count;
        }
        used += len;
    }
    memmove(stream->in, stream->in + used, stream->in_len - used);
    stream->in_len -= used;
}

static void stream_read(struct stream *stream, int fd)
{
    size_t got = 0;
    enum mr_err err =
        mr_socket_read(fd, stream->in + stream->in_len, sizeof(stream->in) - stream->in_len, &got);

    mr_assert(err == MR_ERR_AGAIN || (err == MR_OK && (got != 0 || stream->closed)));
    stream->in_len += err == MR_OK ? got : 0;
    if (!stream->upgraded) {
        uint8_t *end = memmem(stream->in, stream->in_len, "\r\n\r\n", 4);
        if (end == NULL) {
            return;
        }
        stream->in[stream->in_len] = 0;
        mr_assert(strstr((char *)stream->in, "HTTP/1.1 101 ") == (char *)stream->in);
        /* RFC 6455 section 1.3 has this very example. */
        mr_assert(strstr((char *)stream->in,
                         "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") != NULL);
        mr_assert(strstr((char *)stream->in, "\r\nSec-WebSocket-Protocol: mqtt\r\n") != NULL);
        size_t len = (size_t)(end - stream->in) + 4;
        memmove(stream->in, stream->in + len, stream->in_len - len);
        stream->in_len -= len;
        stream->upgraded = true;
    }
    stream_read_frames(stream);
}

static void parcel_arrives(void)
{
    struct mr_conn *conn = mr_net_attach(sides[1].at.net, &parcel, unread);

    mr_assert(conn != NULL);
    mr_free(unread);
    on_the_way = false;
    mr_conn_resume(conn);
}

static void test_stream(uint64_t seed, bool pauses, bool moves, size_t piece_max)
{
    static struct stream stream;
    struct owner *owner = &sides[moves ? 1 : 0].owner;

    world_open(seed);
    memset(&stream, 0, sizeof(stream));
    mr_rng_seed(&stream.rng, seed);
    sides[0].owner.moves = moves;
    owner->pauses = pauses;
    int fd = client_connect();
    world_turn();
    mr_sim_stream_shape(fd, 0, piece_max);
    memcpy(stream.out, good_head, sizeof(good_head) - 1);
    stream.out_end = sizeof(good_head) - 1; /* frames follow without waiting for the answer */
    for (int turn = 0; owner->received < STREAM - 60000 || stream.answered != owner->received;
         turn++) {
        size_t sent = 0;
        while (stream.made < STREAM && stream.out_end + FRAME_MAX + 14 < sizeof(stream.out)) {
            stream_make(&stream);
        }
        if (stream.out_begin != stream.out_end) {
            size_t piece = 1 + mr_rng_below(&stream.rng, 4000);
            piece = piece < stream.out_end - stream.out_begin ? piece
                                                              : stream.out_end - stream.out_begin;
            mr_assert(mr_socket_write(fd, stream.out + stream.out_begin, piece, &sent) == MR_OK);
            stream.out_begin += sent;
        }
        if (stream.out_begin == stream.out_end) {
            stream.out_begin = 0;
            stream.out_end = 0;
        }
        world_turn();
        if (on_the_way) {
            parcel_arrives();
        }
        stream_read(&stream, fd);
        mr_assert(turn < 4000000);
    }
    mr_assert(stream.pongs <= stream.pings && (stream.pongs != 0 || stream.pings == 0));
    uint8_t bye[16];
    size_t len = frame_put(bye, 0x88, true, (const uint8_t *)"\x03\xe8", 2);
    client_send(fd, stream.out + stream.out_begin, stream.out_end - stream.out_begin);
    client_send(fd, bye, len);
    for (int turn = 0; owner->closed == 0 || !stream.closed; turn++) {
        world_turn();
        stream_read(&stream, fd);
        mr_assert(turn < 100000);
    }
    mr_assert(owner->why == MR_CLOSE_BY_PEER && owner->closed == 1);
    mr_socket_close(fd);
    world_close();
}

/* One frame, or what claims to be one, behind a good upgrade. */
static void test_frame(const char *frame, size_t len, uint16_t code, const char *fault)
{
    uint8_t said[4096];

    world_open(1);
    int fd = client_connect();
    client_send(fd, good_head, sizeof(good_head) - 1);
    client_send(fd, frame, len);
    size_t all = client_read_all(fd, said, sizeof(said));
    mr_assert(all > 4 && said[all - 4] == 0x88 && said[all - 3] == 2);
    mr_assert(mr_get_be16(said + all - 2) == code);
    mr_assert(sides[0].owner.closed == 1);
    if (fault == NULL) {
        mr_assert(sides[0].owner.why == MR_CLOSE_BY_PEER);
    } else {
        mr_assert(sides[0].owner.why == MR_CLOSE_WEBSOCKET);
        mr_assert(strstr(sides[0].owner.fault, fault) != NULL);
    }
    mr_socket_close(fd);
    world_close();
}

#define FRAME(bytes, code, fault) test_frame(bytes, sizeof(bytes) - 1, code, fault)

static void test_frames_that_break_the_rules(void)
{
    FRAME("\x82\x01\x10", 1002, "not masked");
    FRAME("\x81\x81mask\x10", 1003, "text frame");
    FRAME("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask\x10", 1009, "larger");
    FRAME("\x82\xff\x00\x00\x00\x00\x00\x01\x86\xa1mask\x10", 1009, "larger"); /* one too many */
    FRAME("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x01mask\x10", 1002, "header is not valid");
    FRAME("\x82\xfe\x00\x05mask\x10", 1002, "header is not valid"); /* not the shortest */
    FRAME("\xc2\x81mask\x10", 1002, "extension");
    FRAME("\x83\x81mask\x10", 1002, "unknown kind");
    FRAME("\x8b\x81mask\x10", 1002, "unknown kind");
    FRAME("\x80\x81mask\x10", 1002, "continuation of nothing");
    FRAME("\x02\x81mask\x10\x82\x81mask\x10", 1002, "within another");
    FRAME("\x89\xfe\x00\x7emask", 1002, "header is not valid"); /* a control frame of 126 */
    FRAME("\x09\x81mask\x10", 1002, "header is not valid");     /* and one in fragments */
    FRAME("\x88\x81mask\x10", 1002, "close frame");
    FRAME("\x88\x82\x00\x00\x00\x00\x03\xed", 1002, "close frame"); /* 1005 is never sent */
    FRAME("\x88\x80mask", 1000, NULL);
    FRAME("\x88\x82\x00\x00\x00\x00\x0f\xa0", 4000, NULL);
}

/* What TLS was asked to send it may have made a record of: the next ping's pong is not told as
 * the rest of it.
 */
static void test_a_pong_on_its_way_stays(void)
{
    struct ws_frames frames = {.frame_max = FRAME_MAX};
    struct ws_reader *spare = NULL;
    uint8_t pings[] = "\x89\x82\0\0\0\0ab\x89\x83\0\0\0\0xyz";

    mr_assert(ws_frames_read(&frames, &spare, pings, 8) == 0 && frames.control_len == 4);
    mr_assert(ws_frames_read(&frames, &spare, pings + 8, 9) == 0);
    mr_assert(frames.control_len == 5 && memcmp(frames.control, "\x8a\x03xyz", 5) == 0);
    frames.control_begun = true;
    mr_assert(ws_frames_read(&frames, &spare, pings, 8) == 0);
    ws_frames_close(&frames, WS_CLOSE_NORMAL);
    mr_assert(frames.control_len == 5 && memcmp(frames.control, "\x8a\x03xyz", 5) == 0);
    mr_assert(!frames.closing && frames.reader == NULL);
    ws_reader_free(spare);
}

/* A request that is no good one; what comes back begins with `status` and has `words`. */
static void test_request(const char *head, const char *status, const char *words)
{
    static uint8_t said[4096];

    world_open(1);
    int fd = client_connect();
    client_send(fd, head, strlen(head));
    size_t all = client_read_all(fd, said, sizeof(said) - 1);
    said[all] = 0;
    mr_assert(strncmp((char *)said, status, strlen(status)) == 0);
    mr_assert(words[0] == 0 || strstr((char *)said, words) != NULL);
    mr_assert(sides[0].owner.closed == 1 && sides[0].owner.why == MR_CLOSE_WEBSOCKET);
    mr_assert(sides[0].owner.fault[0] != 0);
    mr_socket_close(fd);
    world_close();
}

/* The good request with `from` replaced by `to`. */
static void test_changed(const char *from, const char *to, const char *status, const char *words)
{
    char head[9000];
    const char *at = strstr(good_head, from);

    mr_assert(at != NULL);
    (void)snprintf(head, sizeof(head), "%.*s%s%s", (int)(at - good_head), good_head, to,
                   at + strlen(from));
    test_request(head, status, words);
}

static void test_requests_that_are_refused(void)
{
    static char large[9000];

    test_changed("GET", "PUT", "HTTP/1.1 400 ", "GET");
    test_changed("/mqtt", "/other", "HTTP/1.1 404 ", "MQTT is at /mqtt");
    test_changed("HTTP/1.1", "HTTP/1.0", "HTTP/1.1 400 ", "HTTP/1.1");
    test_changed("Host: gw\r\n", "", "HTTP/1.1 400 ", "Host");
    test_changed("Host: gw\r\n", "Host: gw\r\nHost: gw\r\n", "HTTP/1.1 400 ", "two Host");
    test_changed("Host: gw\r\n", "Host: gw\n", "HTTP/1.1 400 ", "CR LF");
    test_changed("Host: gw\r\n", "Host: gw\r\n folded\r\n", "HTTP/1.1 400 ", "name: value");
    test_changed("Host: gw", "Host : gw", "HTTP/1.1 400 ", "name: value");
    test_changed("Host: gw\r\n", "Host: gw\r\nContent-Length: 5\r\n", "HTTP/1.1 400 ", "body");
    test_changed("Upgrade: websocket\r\n", "", "HTTP/1.1 400 ", "Upgrade: websocket");
    test_changed("keep-alive, Upgrade", "keep-alive", "HTTP/1.1 400 ", "Connection: Upgrade");
    test_changed("Version: 13", "Version: 8", "HTTP/1.1 426 ", "Sec-WebSocket-Version: 13");
    test_changed("ub25jZQ", "ub25", "HTTP/1.1 400 ", "16 bytes");
    test_changed("mqttv3.1, mqtt", "chat", "HTTP/1.1 400 ", "subprotocol `mqtt`");
    test_changed("Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n", "", "HTTP/1.1 400 ", "subprotocol");
    test_changed("Host: gw\r\n", "Host: gw\r\nOrigin: https://evil.example\r\n", "HTTP/1.1 403 ",
                 "websocket_origins");
    memset(large, 'x', sizeof(large) - 1);
    memcpy(large, "GET /", 5);
    test_request(large, "HTTP/1.1 431 ", "8192");
    test_request("POST /mqtt HTTP/1.1\r\n", "HTTP/1.1 400 ", "GET");
    test_request("\x10\x0c", "", ""); /* plain MQTT: no answer in a language it does not know */
}

/* The old subprotocol alone is echoed; an Origin of the list may come; the request may come
 * byte by byte.
 */
static void test_old_clients_and_pages_of_the_list(void)
{
    static const char head[] = "GET /mqtt HTTP/1.1\r\nhost: gw\r\nORIGIN: HTTPS://plant.example\r\n"
                               "UPGRADE: WebSocket\r\nConnection: upgrade\r\n"
                               "Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==  \r\n"
                               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1\r\n"
                               "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    uint8_t said[4096];
    uint8_t bye[16];

    world_open(1);
    int fd = client_connect();
    mr_sim_stream_shape(fd, 0, 1);
    client_send(fd, head, sizeof(head) - 1);
    client_send(fd, bye, frame_put(bye, 0x88, true, NULL, 0));
    size_t all = client_read_all(fd, said, sizeof(said) - 1);
    said[all] = 0;
    mr_assert(strncmp((char *)said, "HTTP/1.1 101 ", 13) == 0);
    mr_assert(strstr((char *)said, "\r\nSec-WebSocket-Protocol: mqttv3.1\r\n") != NULL);
    mr_assert(strstr((char *)said, "Extensions") == NULL);
    mr_socket_close(fd);
    world_close();
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_requests_that_are_refused();
    test_old_clients_and_pages_of_the_list();
    test_a_pong_on_its_way_stays();
    test_frames_that_break_the_rules();
    test_stream(seed, false, false, 0);
    test_stream(seed + 1, true, false, 700);
    test_stream(seed + 2, false, true, 3000);
    test_stream(seed + 3, true, true, 0);
    return 0;
}
