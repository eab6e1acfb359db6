/* bench_blast.c - how fast Kafka takes produce requests that are already there; and an encoder.
 *
 * DESIGN
 *
 * The requests are built once: for each partition one batch of events as bench_rdkafka
 * sends them (key, time, 100 bytes of JSON, LZ4), all partitions in one request, acks=all.  They
 * are sent again and again over one connection, five in flight, and every answer is looked at.
 * This costs next to nothing on our side, so its rate is Kafka's own limit beside a client
 * that takes no CPU.  Without a producer id, so Kafka takes the same batch any number of times.
 *
 * --encode sends nothing.  It builds batches for --count records and says what a record
 * takes: what a producer of our own would cost beside librdkafka, with and without a header,
 * with and without LZ4.
 *
 * It talks to one broker, which has to lead all partitions: the Kafka of bench/run.
 */
#include "bench_batch.h"

#include "base/hash.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PARTITIONS_MAX = 16,
    IN_FLIGHT = 5,
    BATCH_BYTES = 1000000,
    REQUEST_HEAD_MAX = 512,
    ANSWER_MAX = 4096,
    HEADER_LEN = 24, /* as long as a millrace_id */
    PRODUCE_VERSION = 7,
};

struct blast_device {
    char key[24];
    size_t key_len;
    int32_t partition;
};

struct blast {
    const char *servers;
    const char *topic;
    uint64_t partitions;
    uint64_t device_count;
    uint64_t count;
    uint64_t bytes;
    bool encode;
    bool headers;
    bool plain; /* no LZ4 */

    struct blast_device *devices;
    uint64_t seq; /* of the last event */
    uint8_t *raw;
    uint8_t *compressed;
    size_t compressed_room;
    uint8_t *payload;
    uint8_t *request;
    size_t request_len;
    uint64_t request_events;
    uint64_t batch_bytes; /* of the last batch, as it is sent */
};

/* Events of the devices that belong to this partition, in turn, until the batch is full or
 * `most` are in it.  Returns the bytes; *batch is what is sent.
 */
static size_t blast_batch(struct blast *run, int32_t partition, uint64_t most,
                          const uint8_t **batch, uint32_t *count)
{
    const uint8_t header[HEADER_LEN] = "0123456789abcdef-0-00000";
    const int64_t wall_ns = bench_wall_ns();
    struct bench_batch out;
    bool room = true;

    bench_batch_begin(&out, run->raw, BATCH_BYTES);
    for (uint64_t i = 0; room && out.count < most; i = (i + 1) % run->device_count) {
        const struct blast_device *device = &run->devices[i];

        if (device->partition != partition) {
            continue;
        }
        run->seq += 1;
        bench_digits_write(run->payload + BENCH_DEVICE_AT, BENCH_DEVICE_DIGITS,
                           BENCH_DEVICE_BASE + i);
        bench_digits_write(run->payload + BENCH_SEQ_AT, BENCH_SEQ_DIGITS,
                           BENCH_SEQ_BASE + run->seq);
        bench_digits_write(run->payload + BENCH_TIME_AT, BENCH_TIME_DIGITS, (uint64_t)wall_ns);
        const struct bench_record record = {
            .time_ms = wall_ns / 1000000,
            .key = device->key,
            .key_len = device->key_len,
            .value = run->payload,
            .value_len = run->bytes,
            .header_name = "millrace_id",
            .header = header,
            .header_len = run->headers ? HEADER_LEN : 0,
        };
        room = bench_batch_add(&out, &record);
    }
    *count = out.count;
    *batch = run->plain ? run->raw : run->compressed;
    return run->plain ? bench_batch_end(&out)
                      : bench_batch_end_lz4(&out, run->compressed, run->compressed_room);
}

/* ---- the request ---- */

static size_t text_put(uint8_t *at, const char *text)
{
    size_t len = strlen(text);

    mr_put_be16(at, (uint16_t)len);
    memcpy(at + 2, text, len);
    return 2 + len;
}

/* Produce, version 7, request header version 1. */
static void blast_request_build(struct blast *run)
{
    size_t each = run->plain ? BATCH_BYTES : run->compressed_room;
    uint8_t *at = mr_alloc(REQUEST_HEAD_MAX + run->partitions * (each + 8));

    run->request = at;
    at += 4; /* the length comes last */
    mr_put_be16(at, 0);
    mr_put_be16(at + 2, PRODUCE_VERSION);
    mr_put_be32(at + 4, 0); /* correlation id: answers come in order */
    at += 8;
    at += text_put(at, "bench_blast");
    mr_put_be16(at, UINT16_MAX);     /* no transaction */
    mr_put_be16(at + 2, UINT16_MAX); /* acks = -1: all */
    mr_put_be32(at + 4, 30000);
    mr_put_be32(at + 8, 1);
    at += 12;
    at += text_put(at, run->topic);
    mr_put_be32(at, (uint32_t)run->partitions);
    at += 4;
    for (uint64_t p = 0; p < run->partitions; p++) {
        const uint8_t *batch = NULL;
        uint32_t count = 0;
        size_t len = blast_batch(run, (int32_t)p, UINT64_MAX, &batch, &count);

        mr_put_be32(at, (uint32_t)p);
        mr_put_be32(at + 4, (uint32_t)len);
        memcpy(at + 8, batch, len);
        at += 8 + len;
        run->request_events += count;
        run->batch_bytes = len;
    }
    run->request_len = (size_t)(at - run->request);
    mr_put_be32(run->request, (uint32_t)(run->request_len - 4));
}

/* ---- the broker ---- */

static int blast_connect(const struct blast *run)
{
    char host[128];
    const char *colon = strrchr(run->servers, ':');
    const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const int on = 1;

    if (colon == NULL || (size_t)(colon - run->servers) >= sizeof(host)) {
        bench_fail("--servers is host:port");
    }
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon - run->servers), run->servers);
    if (getaddrinfo(host, colon + 1, &wanted, &found) != 0) {
        bench_fail("no address of '%s'", host);
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        bench_fail("cannot connect to %s: %s", run->servers, bench_cause());
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    freeaddrinfo(found);
    return fd;
}

static void blast_send(const struct blast *run, int fd)
{
    for (size_t sent = 0; sent < run->request_len;) {
        ssize_t done = send(fd, run->request + sent, run->request_len - sent, MSG_NOSIGNAL);
        if (done < 0) {
            bench_fail("the broker does not take it: %s", bench_cause());
        }
        sent += (size_t)done;
    }
}

static void blast_read(int fd, uint8_t *into, size_t len)
{
    ssize_t got = recv(fd, into, len, MSG_WAITALL);

    if (got != (ssize_t)len) {
        bench_fail("the broker ended the connection: %s", got < 0 ? bench_cause() : "end");
    }
}

/* Every partition took its batch, or the process ends. */
static void blast_answer(const struct blast *run, int fd)
{
    uint8_t answer[ANSWER_MAX];

    blast_read(fd, answer, 4);
    size_t len = mr_get_be32(answer);
    if (len > sizeof(answer) || len < 10) {
        bench_fail("an answer of %zu bytes", len);
    }
    blast_read(fd, answer, len);
    /* correlation id, one topic with its name, partitions */
    const uint8_t *at = answer + 8;
    at += 2 + mr_get_be16(at);
    uint32_t count = mr_get_be32(at);
    at += 4;
    for (uint32_t i = 0; i < count && at + 30 <= answer + len; i++, at += 30) {
        if (mr_get_be16(at + 4) != 0) {
            bench_fail("partition %u: Kafka's error %u", mr_get_be32(at), mr_get_be16(at + 4));
        }
    }
    if (count != run->partitions) {
        bench_fail("%u partitions answered, not %llu", count, (unsigned long long)run->partitions);
    }
}

static uint64_t blast_run(struct blast *run)
{
    uint64_t sent = 0;
    uint64_t answered = 0;
    int fd = blast_connect(run);

    while (answered < run->count && !bench_stopped()) {
        if (sent < run->count && sent - answered < IN_FLIGHT * run->request_events) {
            blast_send(run, fd);
            sent += run->request_events;
        } else {
            blast_answer(run, fd);
            answered += run->request_events;
        }
    }
    (void)close(fd);
    return answered;
}

static uint64_t encode_run(struct blast *run)
{
    uint64_t encoded = 0;

    while (encoded < run->count && !bench_stopped()) {
        const uint8_t *batch = NULL;
        uint32_t count = 0;

        run->batch_bytes = blast_batch(run, 0, run->count - encoded, &batch, &count);
        encoded += count;
    }
    return encoded;
}

static void blast_prepare(struct blast *run)
{
    const struct bench_event event = {0};

    run->partitions = run->encode ? 1 : run->partitions;
    run->devices = mr_alloc(run->device_count * sizeof(*run->devices));
    for (uint64_t i = 0; i < run->device_count; i++) {
        struct blast_device *device = &run->devices[i];
        device->key_len = bench_client_id(device->key, sizeof(device->key), i);
        device->partition =
            mr_kafka_partition(device->key, device->key_len, (int32_t)run->partitions);
    }
    run->raw = mr_alloc(BATCH_BYTES);
    run->compressed_room = bench_batch_lz4_room(BATCH_BYTES);
    run->compressed = mr_alloc(run->compressed_room);
    run->payload = mr_alloc(run->bytes);
    bench_event_write(run->payload, run->bytes, &event);
    if (!run->encode) {
        blast_request_build(run);
    }
}

int main(int argc, char **argv)
{
    static struct blast run = {.servers = "127.0.0.1:9092",
                               .partitions = 4,
                               .device_count = 100,
                               .count = 1000000,
                               .bytes = 100};
    const struct bench_option table[] = {
        {"servers", BENCH_TEXT, &run.servers, "the broker, host:port"},
        {"topic", BENCH_TEXT, &run.topic, "topic to produce to"},
        {"partitions", BENCH_U64, &run.partitions, "how many it has"},
        {"devices", BENCH_U64, &run.device_count, "keys"},
        {"count", BENCH_U64, &run.count, "events, rounded up to whole requests"},
        {"bytes", BENCH_U64, &run.bytes, "payload bytes"},
        {"encode", BENCH_FLAG, &run.encode, "send nothing: what does encoding take?"},
        {"headers", BENCH_FLAG, &run.headers, "one header of 24 bytes a record"},
        {"plain", BENCH_FLAG, &run.plain, "without LZ4"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "prebuilt produce requests, sent again and again", table);
    if ((run.topic == NULL && !run.encode) || run.partitions == 0 ||
        run.partitions > PARTITIONS_MAX || run.device_count < run.partitions ||
        run.bytes < BENCH_EVENT_MIN || run.bytes > BENCH_EVENT_MAX) {
        bench_fail("--topic is needed (or --encode), at most %d partitions, not more than devices",
                   PARTITIONS_MAX);
    }
    bench_stop_on_signals();
    blast_prepare(&run);
    int64_t began_ns = bench_mono_ns();
    int64_t cpu_ns = bench_cpu_ns();
    uint64_t done = run.encode ? encode_run(&run) : blast_run(&run);
    cpu_ns = bench_cpu_ns() - cpu_ns;
    double seconds = (double)(bench_mono_ns() - began_ns) / 1e9;

    struct bench_json json = bench_json_open("blast");
    bench_json_u64(&json, "events", done);
    bench_json_u64(&json, "batch_bytes", run.batch_bytes);
    bench_json_number(&json, "seconds", seconds);
    bench_json_number(&json, "events_per_s", (double)done / seconds);
    bench_json_number(&json, "cpu_ns_per_event", (double)cpu_ns / (double)done);
    bench_json_close(&json);
    return 0;
}
