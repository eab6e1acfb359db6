/* bench_retained.c - many retained messages, and what a wildcard subscription of them takes.
 *
 * With --publish they are made (QoS 1, so that all have arrived at the end); with --subscribe a
 * new client asks for all of them by one filter, and the time runs from its SUBSCRIBE to the last
 * one.  The caller looks at the server's memory in between.
 */
#include "bench.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20, SITES = 1000, WINDOW = 500, PATIENCE_MS = 300000, PACKET_MAX = 1024 };

struct retained {
    uint64_t port;
    uint64_t count;
    uint64_t payload_bytes;
    bool publish;
    bool subscribe;
    int fd;
    uint8_t input[READ_BYTES];
};

static void send_all(struct retained *retained, const uint8_t *at, size_t len)
{
    while (len != 0) {
        ssize_t put = send(retained->fd, at, len, MSG_NOSIGNAL);
        if (put > 0) {
            at += put;
            len -= (size_t)put;
        } else if (errno == EAGAIN) {
            struct pollfd wait = {.fd = retained->fd, .events = POLLOUT};
            (void)poll(&wait, 1, PATIENCE_MS);
        } else {
            bench_fail("cannot send: %s", bench_cause());
        }
    }
}

static size_t receive(struct retained *retained, size_t kept)
{
    struct pollfd wait = {.fd = retained->fd, .events = POLLIN};

    if (poll(&wait, 1, PATIENCE_MS) != 1) {
        bench_fail("nothing more comes");
    }
    ssize_t got = recv(retained->fd, retained->input + kept, READ_BYTES - kept, 0);
    if (got <= 0) {
        bench_fail("the server closed the connection: %s", got == 0 ? "end" : bench_cause());
    }
    return kept + (size_t)got;
}

static void publish_all(struct retained *retained)
{
    struct bench_acks acks = {.acked = 0};
    uint16_t id = 0;

    for (uint64_t sent = 0; acks.acked < retained->count;) {
        if (sent < retained->count && sent - acks.acked < WINDOW) {
            char topic[64];
            uint8_t packet[PACKET_MAX];
            size_t id_at = 0;
            size_t payload_at = 0;
            (void)snprintf(topic, sizeof(topic), "ret/site-%llu/dev-%llu/state",
                           (unsigned long long)(sent % SITES), (unsigned long long)(sent / SITES));
            size_t len = bench_mqtt_publish(packet, sizeof(packet), topic, retained->payload_bytes,
                                            &id_at, &payload_at);
            packet[0] |= 1; /* RETAIN */
            id = bench_id_next(id);
            mr_put_be16(packet + id_at, id);
            send_all(retained, packet, len);
            sent += 1;
            continue;
        }
        size_t got = receive(retained, 0);
        if (!bench_acks_take(&acks, retained->input, got)) {
            bench_fail("something else than PUBACKs in order");
        }
    }
}

/* The bytes of whole packets in `input`; counts PUBLISHes. */
static size_t packets_take(const uint8_t *at, size_t len, uint64_t *publishes)
{
    size_t done = 0;

    while (done < len) {
        size_t remaining = 0;
        size_t head = 1;
        unsigned shift = 0;
        while (done + head < len && at[done + head] >= 128) {
            remaining |= (size_t)(at[done + head] & 127) << shift;
            shift += 7;
            head += 1;
        }
        if (done + head >= len) {
            break;
        }
        remaining |= (size_t)at[done + head] << shift;
        head += 1;
        if (done + head + remaining > len) {
            break;
        }
        *publishes += at[done] >> 4 == 3 ? 1 : 0;
        done += head + remaining;
    }
    return done;
}

static uint64_t subscribe_all(struct retained *retained, int64_t *first_ns)
{
    static const uint8_t packet[] = {0x82, 10, 0, 1, 0, 5, 'r', 'e', 't', '/', '#', 0};
    uint64_t publishes = 0;
    size_t kept = 0;
    int64_t begin_ns = bench_mono_ns();

    send_all(retained, packet, sizeof(packet));
    while (publishes < retained->count) {
        size_t len = receive(retained, kept);
        size_t done = packets_take(retained->input, len, &publishes);
        if (*first_ns == 0 && publishes != 0) {
            *first_ns = bench_mono_ns() - begin_ns;
        }
        kept = len - done;
        memmove(retained->input, retained->input + done, kept);
    }
    return publishes;
}

int main(int argc, char **argv)
{
    static struct retained retained = {.count = 1000000, .payload_bytes = 100};
    const struct bench_option table[] = {
        {"port", BENCH_U64, &retained.port, "TCP port of the server on 127.0.0.1"},
        {"count", BENCH_U64, &retained.count, "retained messages"},
        {"bytes", BENCH_U64, &retained.payload_bytes, "payload of each, at most 512"},
        {"publish", BENCH_FLAG, &retained.publish, "make them"},
        {"subscribe", BENCH_FLAG, &retained.subscribe, "ask for all of them"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };
    int64_t first_ns = 0;
    uint64_t got = 0;

    bench_options(argc, argv, "many retained messages, and a wildcard subscription", table);
    if (retained.port == 0 || retained.port > UINT16_MAX || retained.payload_bytes > 512 ||
        retained.publish == retained.subscribe) {
        bench_fail("--port is needed, and one of --publish and --subscribe");
    }
    retained.fd =
        bench_mqtt_connect((uint16_t)retained.port, retained.publish ? "retain-pub" : "retain-sub");
    int64_t begin_ns = bench_mono_ns();
    if (retained.publish) {
        publish_all(&retained);
    } else {
        got = subscribe_all(&retained, &first_ns);
    }
    int64_t took_ns = bench_mono_ns() - begin_ns;
    struct bench_json json = bench_json_open("retained");
    bench_json_u64(&json, "count", retained.publish ? retained.count : got);
    bench_json_number(&json, "seconds", (double)took_ns / 1e9);
    bench_json_number(&json, "first_s", (double)first_ns / 1e9);
    bench_json_close(&json);
    return 0;
}
