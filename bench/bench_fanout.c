/* bench_fanout.c - one message to many subscribers, and many filters beside it.
 *
 *     publishers ──QoS 0 or 1──▶ server ──▶ subscribers, each counts and times what it gets
 *
 * DESIGN
 *
 * Closed loop: `window` publishes may be under way, which means that not all of their copies
 * have arrived.  So no queue of the server overflows, the rate is what it can deliver, and
 * everything is counted: a run in which a copy is missing has no figures.
 *
 * Each publish has its time in its payload; a copy's latency runs from there.
 *
 * Three shapes:
 *     fan-out          --publishers 1 or many, all subscribers have the filter of all topics
 *     --filters N      each subscriber has N filters of its own, with wildcards, and no common
 *                      one; a publish meets exactly one of all of them
 */
#include "bench.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 256,
    READ_BYTES = 256 << 10,
    PACKET_MAX = 256,
    FILTERS_A_PACKET = 100,
    SUBSCRIBE_MAX = 8192,
    PATIENCE_S = 60,
    PAYLOAD_LEAST = 8, /* the time */
};

struct fan_conn {
    int fd;
    uint32_t number;
    uint32_t head_len;
    uint8_t head[512]; /* the beginning of a packet that is not complete */
    uint8_t acks[4096];
    uint32_t acks_len;
};

struct fan {
    uint64_t port;
    uint64_t publishers;
    uint64_t subscribers;
    uint64_t count;
    uint64_t window;
    uint64_t qos;
    uint64_t payload_bytes;
    uint64_t filters;
    uint64_t server_pid;

    struct fan_conn *conns; /* subscribers, then publishers */
    int epoll;
    uint64_t sent;
    uint64_t copies;      /* arrived */
    uint64_t per_publish; /* copies that each publish has */
    uint64_t subacks;
    uint64_t acked;
    uint16_t *ids; /* per publisher */
    struct mr_histogram latency;
    uint8_t input[READ_BYTES];
};

/* ---- packets ---- */

static size_t length_put(uint8_t *at, size_t remaining)
{
    size_t len = 0;

    do {
        at[len++] = (uint8_t)(remaining % 128 + (remaining >= 128 ? 128 : 0));
        remaining /= 128;
    } while (remaining > 0);
    return len;
}

/* The topic of publish `sequence`; with filters, one that a single filter meets. */
static int topic_put(const struct fan *fan, char *out, size_t size, uint64_t sequence)
{
    if (fan->filters == 0) {
        return snprintf(out, size, "fan/%llu/value",
                        (unsigned long long)(sequence % fan->publishers));
    }
    uint64_t any = sequence * UINT64_C(2654435761) % (fan->subscribers * fan->filters);
    return snprintf(
        out, size, "plant/%llu/line/%llu/t%llu", (unsigned long long)(any % fan->subscribers),
        (unsigned long long)(any / fan->subscribers), (unsigned long long)(sequence % 7));
}

static int filter_put(const struct fan *fan, char *out, size_t size, uint64_t subscriber,
                      uint64_t filter)
{
    if (fan->filters == 0) {
        return snprintf(out, size, "fan/+/value");
    }
    /* Every other one ends in '#', the others in '+'. */
    return snprintf(out, size, "plant/%llu/line/%llu/%s", (unsigned long long)subscriber,
                    (unsigned long long)filter, filter % 2 == 0 ? "#" : "+");
}

static void write_all(int fd, const uint8_t *at, size_t len)
{
    while (len != 0) {
        ssize_t put = send(fd, at, len, MSG_NOSIGNAL);
        if (put > 0) {
            at += put;
            len -= (size_t)put;
        } else if (errno != EAGAIN) {
            bench_fail("cannot send: %s", bench_cause());
        }
    }
}

/* ---- what comes ---- */

static void copy_arrived(struct fan *fan, const uint8_t *payload)
{
    int64_t sent_ns = (int64_t)mr_get_u64(payload);

    mr_histogram_add(&fan->latency, bench_mono_ns() - sent_ns);
    fan->copies += 1;
}

static void ack_put(struct fan_conn *conn, uint16_t id)
{
    uint8_t *at = conn->acks + conn->acks_len;

    at[0] = 0x40;
    at[1] = 2;
    mr_put_be16(at + 2, id);
    conn->acks_len += 4;
    if (conn->acks_len == sizeof(conn->acks)) {
        write_all(conn->fd, conn->acks, conn->acks_len);
        conn->acks_len = 0;
    }
}

/* One whole packet; false: it is not whole. */
static bool packet_take(struct fan *fan, struct fan_conn *conn, const uint8_t *at, size_t len,
                        size_t *took)
{
    size_t remaining = 0;
    size_t head = 1;

    for (unsigned shift = 0;; shift += 7) {
        if (head >= len) {
            return false;
        }
        remaining |= (size_t)(at[head] & 127) << shift;
        head += 1;
        if (at[head - 1] < 128) {
            break;
        }
    }
    if (head + remaining > len) {
        return false;
    }
    *took = head + remaining;
    uint8_t type = at[0] >> 4;
    if (type == 3) {
        size_t payload = head + 2 + mr_get_be16(at + head);
        if ((at[0] & 6) != 0) {
            ack_put(conn, mr_get_be16(at + payload));
            payload += 2;
        }
        copy_arrived(fan, at + payload);
    } else if (type == 9) {
        fan->subacks += 1;
    } else if (type == 4) {
        fan->acked += 1;
    } else if (type != 13) {
        bench_fail("an unexpected packet of type %u", type);
    }
    return true;
}

static void conn_read(struct fan *fan, struct fan_conn *conn)
{
    for (;;) {
        memcpy(fan->input, conn->head, conn->head_len);
        ssize_t got =
            recv(conn->fd, fan->input + conn->head_len, sizeof(fan->input) - conn->head_len, 0);
        if (got < 0 && errno == EAGAIN) {
            break;
        }
        if (got <= 0) {
            bench_fail("the server closed a connection: %s", got == 0 ? "end" : bench_cause());
        }
        size_t len = conn->head_len + (size_t)got;
        size_t at = 0;
        size_t took = 0;
        while (at < len && packet_take(fan, conn, fan->input + at, len - at, &took)) {
            at += took;
        }
        conn->head_len = (uint32_t)(len - at);
        if (conn->head_len > sizeof(conn->head)) {
            bench_fail("a packet of more than %zu bytes", sizeof(conn->head));
        }
        memcpy(conn->head, fan->input + at, conn->head_len);
    }
    if (conn->acks_len != 0) {
        write_all(conn->fd, conn->acks, conn->acks_len);
        conn->acks_len = 0;
    }
}

/* ---- set-up ---- */

static void watch(struct fan *fan, struct fan_conn *conn)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};

    if (epoll_ctl(fan->epoll, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        bench_fail("cannot watch a connection: %s", bench_cause());
    }
}

static void wait_some(struct fan *fan, int64_t deadline_ns)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(fan->epoll, events, EVENTS_MAX, 1000);

    for (int i = 0; i < count; i++) {
        conn_read(fan, events[i].data.ptr);
    }
    if (bench_mono_ns() > deadline_ns || bench_stopped()) {
        bench_fail("%llu of %llu copies and %llu SUBACKs have come within %d s",
                   (unsigned long long)fan->copies,
                   (unsigned long long)(fan->count * fan->per_publish),
                   (unsigned long long)fan->subacks, PATIENCE_S);
    }
}

/* Filters [from, from + FILTERS_A_PACKET) of a subscriber: one SUBSCRIBE. */
static void subscribe_some(struct fan *fan, struct fan_conn *conn, uint64_t from, uint64_t count)
{
    uint8_t body[SUBSCRIBE_MAX];
    uint8_t packet[SUBSCRIBE_MAX + 5];
    size_t len = 2;

    mr_put_be16(body, 1);
    for (uint64_t i = from; i < from + count; i++) {
        char filter[PACKET_MAX];
        int filter_len = filter_put(fan, filter, sizeof(filter), conn->number, i);
        mr_put_be16(body + len, (uint16_t)filter_len);
        memcpy(body + len + 2, filter, (size_t)filter_len);
        len += 2 + (size_t)filter_len;
        body[len++] = (uint8_t)fan->qos;
    }
    packet[0] = 0x82;
    size_t head = 1 + length_put(packet + 1, len);
    memcpy(packet + head, body, len);
    write_all(conn->fd, packet, head + len);
}

static void subscribe_all(struct fan *fan, int64_t deadline_ns)
{
    uint64_t filters = fan->filters == 0 ? 1 : fan->filters;
    uint64_t packets = 0;

    for (uint64_t i = 0; i < fan->subscribers; i++) {
        for (uint64_t from = 0; from < filters; from += FILTERS_A_PACKET) {
            uint64_t left = filters - from;
            subscribe_some(fan, &fan->conns[i], from,
                           left < FILTERS_A_PACKET ? left : FILTERS_A_PACKET);
            packets += 1;
        }
        while (fan->subacks + 100 < packets) {
            wait_some(fan, deadline_ns);
        }
    }
    while (fan->subacks < packets) {
        wait_some(fan, deadline_ns);
    }
}

static void connect_all(struct fan *fan)
{
    uint64_t count = fan->subscribers + fan->publishers;

    fan->conns = mr_alloc(count * sizeof(*fan->conns));
    fan->ids = mr_alloc(fan->publishers * sizeof(*fan->ids));
    for (uint64_t i = 0; i < count; i++) {
        char id[32];
        (void)bench_client_id(id, sizeof(id), i);
        fan->conns[i].number = (uint32_t)i;
        fan->conns[i].fd = bench_mqtt_connect((uint16_t)fan->port, id);
        watch(fan, &fan->conns[i]);
    }
}

/* ---- the run ---- */

static void publish(struct fan *fan)
{
    uint8_t packet[1024];
    char topic[PACKET_MAX];
    uint64_t publisher = fan->sent % fan->publishers;
    int topic_len = topic_put(fan, topic, sizeof(topic), fan->sent);
    size_t remaining = 2 + (size_t)topic_len + (fan->qos != 0 ? 2 : 0) + fan->payload_bytes;
    size_t len = 1;

    packet[0] = (uint8_t)(0x30 | fan->qos << 1);
    len += length_put(packet + len, remaining);
    mr_put_be16(packet + len, (uint16_t)topic_len);
    memcpy(packet + len + 2, topic, (size_t)topic_len);
    len += 2 + (size_t)topic_len;
    if (fan->qos != 0) {
        fan->ids[publisher] = bench_id_next(fan->ids[publisher]);
        mr_put_be16(packet + len, fan->ids[publisher]);
        len += 2;
    }
    memset(packet + len, 'x', fan->payload_bytes);
    mr_put_u64(packet + len, (uint64_t)bench_mono_ns());
    len += fan->payload_bytes;
    write_all(fan->conns[fan->subscribers + publisher].fd, packet, len);
    fan->sent += 1;
}

static void run(struct fan *fan, int64_t deadline_ns)
{
    while (fan->copies < fan->count * fan->per_publish) {
        while (fan->sent < fan->count && fan->sent - fan->copies / fan->per_publish < fan->window) {
            publish(fan);
        }
        wait_some(fan, deadline_ns);
    }
}

static void report(const struct fan *fan, int64_t subscribe_ns, int64_t took_ns, uint64_t cpu_ns)
{
    struct bench_json json = bench_json_open("fanout");

    bench_json_u64(&json, "publishes", fan->sent);
    bench_json_u64(&json, "copies", fan->copies);
    bench_json_number(&json, "subscribe_s", (double)subscribe_ns / 1e9);
    bench_json_number(&json, "seconds", (double)took_ns / 1e9);
    bench_json_number(&json, "copies_per_s", (double)fan->copies * 1e9 / (double)took_ns);
    bench_json_number(&json, "server_cpu_ns_per_copy", (double)cpu_ns / (double)fan->copies);
    bench_json_histogram(&json, "copy", &fan->latency);
    bench_json_close(&json);
}

int main(int argc, char **argv)
{
    static struct fan fan = {
        .publishers = 1, .subscribers = 1000, .count = 2000, .window = 10, .payload_bytes = 100};
    const struct bench_option table[] = {
        {"port", BENCH_U64, &fan.port, "TCP port of the server on 127.0.0.1"},
        {"publishers", BENCH_U64, &fan.publishers, "connections that publish, in turn"},
        {"subscribers", BENCH_U64, &fan.subscribers, "connections that subscribe"},
        {"count", BENCH_U64, &fan.count, "publishes"},
        {"window", BENCH_U64, &fan.window, "publishes whose copies have not all arrived"},
        {"qos", BENCH_U64, &fan.qos, "of publishes and subscriptions, 0 or 1"},
        {"bytes", BENCH_U64, &fan.payload_bytes, "payload, 8 to 256"},
        {"filters", BENCH_U64, &fan.filters, "wildcard filters a subscriber; 0: one for all"},
        {"server-pid", BENCH_U64, &fan.server_pid, "count the CPU time of this process"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "one message to many subscribers, or past many filters", table);
    if (fan.port == 0 || fan.port > UINT16_MAX || fan.qos > 1 || fan.payload_bytes > 256 ||
        fan.payload_bytes < PAYLOAD_LEAST || fan.publishers == 0 || fan.subscribers == 0) {
        bench_fail("--port is needed; --qos is 0 or 1, --bytes 8 to 256; see --help");
    }
    bench_descriptors(fan.publishers + fan.subscribers + 16);
    bench_stop_on_signals();
    fan.epoll = epoll_create1(EPOLL_CLOEXEC);
    fan.per_publish = fan.filters == 0 ? fan.subscribers : 1;
    connect_all(&fan);
    int64_t begin_ns = bench_mono_ns();
    int64_t deadline_ns = begin_ns + (int64_t)PATIENCE_S * 1000000000;
    subscribe_all(&fan, deadline_ns);
    int64_t subscribed_ns = bench_mono_ns();
    uint64_t cpu_ns = bench_process_cpu_ns(fan.server_pid);
    run(&fan, deadline_ns);
    int64_t end_ns = bench_mono_ns();
    cpu_ns = bench_process_cpu_ns(fan.server_pid) - cpu_ns;
    report(&fan, subscribed_ns - begin_ns, end_ns - subscribed_ns, cpu_ns);
    return 0;
}
