/* bench_encoder.c - what a producer of our own would cost: encode, checksum, compress, send.
 *
 * DESIGN
 *
 * An experiment, no part of the gateway: it answers how much of what an event costs is
 * librdkafka's record by record handling (an object, two locks and two clocks a record, allocation
 * and report), and how much is the work itself.  So it does only that work:
 *
 *     events in memory ─▶ one RecordBatch v2 per partition ─▶ CRC32C ─▶ LZ4 ─▶ Produce request
 *
 * on one thread, a round of events at a time, with at most INFLIGHT requests unanswered.  Each
 * stage is timed by the thread's CPU clock, once a batch.  The batches are accepted by a real
 * Kafka and can be read back (bench_consume with the ledger), so nothing was left out that
 * a broker would miss.  There is no producer id, hence no idempotence; that is 14 bytes a batch.
 *
 * Events, keys and their order are those of bench_rdkafka, to be measured beside it
 * (bench/encoder).
 */
#include "bench.h"

#include "base/hash.h"

#include <errno.h>
#include <lz4frame.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PARTITIONS_MAX = 64,
    KEY_MAX = 24,
    INFLIGHT = 5,
    BATCH_HEAD = 61,
    CRC_AT = 17,
    ATTRIBUTES_AT = 21, /* what the CRC covers begins here */
    RECORD_HEAD_MAX = 64,
    LZ4 = 3,
    PRODUCE = 0,
    PRODUCE_VERSION = 7,
    HEADER_MAX = 256,
};

static const char header_name[] = "millrace_id";

struct device {
    char key[KEY_MAX];
    uint32_t key_len;
    uint32_t partition;
    uint64_t seq;
};

/* An event as the journal would lend it. */
struct item {
    const struct device *device;
    const uint8_t *payload;
    int64_t time_ms;
};

struct part {
    struct item *items;
    uint32_t count;
    uint8_t *packed; /* the batch as it is sent */
    size_t packed_len;
};

enum stage { STAGE_FILL, STAGE_ENCODE, STAGE_CRC, STAGE_LZ4, STAGE_SEND, STAGE_SETTLE, STAGES };
static const char *const stage_names[STAGES] = {"fill", "encode", "crc", "lz4", "send", "settle"};

static struct encoder {
    const char *servers;
    const char *topic;
    const char *ledger;
    uint64_t device_count;
    uint64_t count;
    uint64_t burst;
    uint64_t bytes;
    uint64_t round; /* events of a round */
    uint64_t partitions;
    uint64_t header_bytes;

    int fd;
    int32_t correlation;
    uint32_t unanswered;
    struct device *devices;
    struct part parts[PARTITIONS_MAX];
    uint8_t *payloads;
    uint8_t *raw; /* records of one batch */
    size_t raw_size;
    uint8_t header_value[HEADER_MAX];
    uint64_t sent;
    uint64_t packed_bytes;
    int64_t spent_ns[STAGES];
} run = {
    .servers = "127.0.0.1:9092",
    .device_count = 100,
    .count = 1000000,
    .burst = 50,
    .bytes = 100,
    .round = 20000,
    .partitions = 4,
};

static int64_t thread_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void spend(enum stage stage, int64_t since_ns)
{
    run.spent_ns[stage] += thread_ns() - since_ns;
}

/* ---- wire ---- */

static uint8_t *put_be64(uint8_t *at, uint64_t v)
{
    mr_put_be32(at, (uint32_t)(v >> 32));
    mr_put_be32(at + 4, (uint32_t)v);
    return at + 8;
}

static uint8_t *put_be32(uint8_t *at, uint32_t v)
{
    mr_put_be32(at, v);
    return at + 4;
}

static uint8_t *put_be16(uint8_t *at, uint16_t v)
{
    mr_put_be16(at, v);
    return at + 2;
}

static uint8_t *put_bytes(uint8_t *at, const void *from, size_t len)
{
    memcpy(at, from, len);
    return at + len;
}

/* Kafka's lengths inside records are zigzag varints. */
static uint8_t *put_length(uint8_t *at, size_t len)
{
    return mr_put_varint(at, (uint64_t)len << 1);
}

static size_t length_size(size_t len)
{
    return mr_varint_size((uint64_t)len << 1);
}

/* ---- encode ---- */

/* One record, of whose size `header_len` is that of its headers. */
static uint8_t *record_put(uint8_t *at, const struct item *item, int64_t base_ms, uint32_t index,
                           size_t header_len)
{
    const struct device *device = item->device;
    uint64_t delta_ms = mr_zigzag(item->time_ms - base_ms);
    size_t size = 1 + mr_varint_size(delta_ms) + length_size(index) + length_size(device->key_len) +
                  device->key_len + length_size(run.bytes) + run.bytes + header_len;

    at = put_length(at, size);
    *at++ = 0; /* attributes */
    at = mr_put_varint(at, delta_ms);
    at = put_length(at, index);
    at = put_length(at, device->key_len);
    at = put_bytes(at, device->key, device->key_len);
    at = put_length(at, run.bytes);
    at = put_bytes(at, item->payload, run.bytes);
    if (run.header_bytes == 0) {
        *at++ = 0;
        return at;
    }
    at = put_length(at, 1);
    at = put_length(at, sizeof(header_name) - 1);
    at = put_bytes(at, header_name, sizeof(header_name) - 1);
    at = put_length(at, run.header_bytes);
    return put_bytes(at, run.header_value, run.header_bytes);
}

/* Bytes of the header part of each record. */
static size_t header_size(void)
{
    if (run.header_bytes == 0) {
        return 1;
    }
    return length_size(1) + length_size(sizeof(header_name) - 1) + sizeof(header_name) - 1 +
           length_size(run.header_bytes) + run.header_bytes;
}

static void batch_head_put(uint8_t *at, const struct part *part, size_t body_len)
{
    int64_t first_ms = part->items[0].time_ms;
    int64_t last_ms = part->items[part->count - 1].time_ms;

    at = put_be64(at, 0);
    at = put_be32(at, (uint32_t)(BATCH_HEAD - 12 + body_len));
    at = put_be32(at, UINT32_MAX);
    *at++ = 2;            /* magic */
    at = put_be32(at, 0); /* CRC, later */
    at = put_be16(at, LZ4);
    at = put_be32(at, part->count - 1);
    at = put_be64(at, (uint64_t)first_ms);
    at = put_be64(at, (uint64_t)last_ms);
    at = put_be64(at, UINT64_MAX); /* no producer id */
    at = put_be16(at, UINT16_MAX);
    at = put_be32(at, UINT32_MAX);
    (void)put_be32(at, part->count);
}

static void part_pack(struct part *part)
{
    const LZ4F_preferences_t how = {.frameInfo = {.blockMode = LZ4F_blockIndependent}};
    size_t header_len = header_size();
    int64_t at_ns = thread_ns();
    uint8_t *end = run.raw;

    for (uint32_t i = 0; i < part->count; i++) {
        end = record_put(end, &part->items[i], part->items[0].time_ms, i, header_len);
    }
    spend(STAGE_ENCODE, at_ns);

    at_ns = thread_ns();
    size_t raw_len = (size_t)(end - run.raw);
    size_t room = LZ4F_compressFrameBound(raw_len, &how);
    size_t body = LZ4F_compressFrame(part->packed + BATCH_HEAD, room, run.raw, raw_len, &how);
    if (LZ4F_isError(body)) {
        bench_fail("LZ4: %s", LZ4F_getErrorName(body));
    }
    spend(STAGE_LZ4, at_ns);

    at_ns = thread_ns();
    batch_head_put(part->packed, part, body);
    part->packed_len = BATCH_HEAD + body;
    mr_put_be32(part->packed + CRC_AT,
                mr_crc32c(0, part->packed + ATTRIBUTES_AT, part->packed_len - ATTRIBUTES_AT));
    spend(STAGE_CRC, at_ns);
    run.packed_bytes += part->packed_len;
}

/* ---- the connection ---- */

static void connect_to(const char *servers)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *port = strrchr(servers, ':');
    int one = 1;

    to.sin_port = htons((uint16_t)strtoul(port == NULL ? "0" : port + 1, NULL, 10));
    run.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (run.fd < 0 || connect(run.fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
        bench_fail("cannot connect to a broker at %s, on this machine: %s", servers, bench_cause());
    }
    (void)setsockopt(run.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void send_all(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    while (len != 0) {
        ssize_t sent = send(run.fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            bench_fail("send: %s", bench_cause());
        }
        at += sent < 0 ? 0 : sent;
        len -= sent < 0 ? 0 : (size_t)sent;
    }
}

static void receive_all(uint8_t *into, size_t len)
{
    while (len != 0) {
        ssize_t got = recv(run.fd, into, len, 0);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            bench_fail("the broker has closed the connection: %s", bench_cause());
        }
        into += got < 0 ? 0 : got;
        len -= got < 0 ? 0 : (size_t)got;
    }
}

/* One Produce request with the batches of all partitions. */
static void request_send(void)
{
    uint8_t head[512];
    size_t topic_len = strlen(run.topic);
    size_t batches = 0;
    uint32_t parts = 0;

    for (uint64_t p = 0; p < run.partitions; p++) {
        parts += run.parts[p].count != 0;
        batches += run.parts[p].count != 0 ? 8 + run.parts[p].packed_len : 0;
    }
    uint8_t *at = head + 4;
    at = put_be16(at, PRODUCE);
    at = put_be16(at, PRODUCE_VERSION);
    at = put_be32(at, (uint32_t)run.correlation++);
    at = put_be16(at, UINT16_MAX); /* no client id */
    at = put_be16(at, UINT16_MAX); /* no transaction */
    at = put_be16(at, UINT16_MAX); /* acks: all */
    at = put_be32(at, 30000);
    at = put_be32(at, 1);
    at = put_be16(at, (uint16_t)topic_len);
    at = put_bytes(at, run.topic, topic_len);
    at = put_be32(at, parts);
    (void)put_be32(head, (uint32_t)((size_t)(at - head) - 4 + batches));
    send_all(head, (size_t)(at - head));
    for (uint32_t p = 0; p < run.partitions; p++) {
        const struct part *part = &run.parts[p];
        if (part->count != 0) {
            (void)put_be32(put_be32(head, p), (uint32_t)part->packed_len);
            send_all(head, 8);
            send_all(part->packed, part->packed_len);
        }
    }
    run.unanswered += 1;
}

static void answer_take(void)
{
    uint8_t bytes[8192];
    const size_t part_bytes = 4 + 2 + 8 + 8 + 8;

    receive_all(bytes, 4);
    size_t len = mr_get_be32(bytes);
    if (len > sizeof(bytes)) {
        bench_fail("an answer of %zu bytes", len);
    }
    receive_all(bytes, len);
    size_t at = 4 + 4 + 2 + strlen(run.topic);
    uint32_t parts = mr_get_be32(bytes + at);
    for (uint32_t i = 0; i < parts; i++) {
        uint16_t error = mr_get_be16(bytes + at + 4 + i * part_bytes + 4);
        if (error != 0) {
            bench_fail("partition %u: the broker answers with error %u",
                       mr_get_be32(bytes + at + 4 + i * part_bytes), error);
        }
    }
    run.unanswered -= 1;
}

/* ---- events ---- */

static void prepare(void)
{
    const LZ4F_preferences_t how = {.frameInfo = {.blockMode = LZ4F_blockIndependent}};
    struct bench_event event = {0};
    size_t record_max = run.bytes + KEY_MAX + header_size() + RECORD_HEAD_MAX;

    run.devices = mr_alloc(run.device_count * sizeof(*run.devices));
    for (uint64_t i = 0; i < run.device_count; i++) {
        struct device *device = &run.devices[i];
        device->key_len = (uint32_t)bench_client_id(device->key, sizeof(device->key), i);
        device->partition =
            (uint32_t)mr_kafka_partition(device->key, device->key_len, (int32_t)run.partitions);
    }
    run.payloads = mr_alloc(run.round * run.bytes);
    for (uint64_t i = 0; i < run.round; i++) {
        bench_event_write(run.payloads + i * run.bytes, run.bytes, &event);
    }
    memset(run.header_value, 'x', sizeof(run.header_value));
    run.raw_size = run.round * record_max;
    run.raw = mr_alloc(run.raw_size);
    for (uint64_t p = 0; p < run.partitions; p++) {
        run.parts[p].items = mr_alloc(run.round * sizeof(*run.parts[p].items));
        run.parts[p].packed = mr_alloc(BATCH_HEAD + LZ4F_compressFrameBound(run.raw_size, &how));
    }
}

/* The next events, each to its partition, as a bridge would find them in the journal. */
static void round_fill(uint64_t *turn)
{
    int64_t at_ns = thread_ns();
    int64_t wall_ns = bench_wall_ns();

    for (uint64_t p = 0; p < run.partitions; p++) {
        run.parts[p].count = 0;
    }
    for (uint64_t i = 0; i < run.round; i++) {
        struct device *device = &run.devices[(*turn + i / run.burst) % run.device_count];
        struct part *part = &run.parts[device->partition];
        uint8_t *payload = run.payloads + i * run.bytes;

        device->seq += 1;
        bench_digits_write(payload + BENCH_DEVICE_AT, BENCH_DEVICE_DIGITS,
                           BENCH_DEVICE_BASE + (uint64_t)(device - run.devices));
        bench_digits_write(payload + BENCH_SEQ_AT, BENCH_SEQ_DIGITS, BENCH_SEQ_BASE + device->seq);
        bench_digits_write(payload + BENCH_TIME_AT, BENCH_TIME_DIGITS, (uint64_t)wall_ns);
        part->items[part->count++] =
            (struct item){.device = device, .payload = payload, .time_ms = wall_ns / 1000000};
    }
    *turn += run.round / run.burst;
    spend(STAGE_FILL, at_ns);
}

static void produce(void)
{
    uint64_t turn = 0;

    while (run.sent + run.round <= run.count) {
        round_fill(&turn);
        for (uint64_t p = 0; p < run.partitions; p++) {
            if (run.parts[p].count != 0) {
                part_pack(&run.parts[p]);
            }
        }
        int64_t at_ns = thread_ns();
        request_send();
        spend(STAGE_SEND, at_ns);
        at_ns = thread_ns();
        if (run.unanswered == INFLIGHT) {
            answer_take();
        }
        spend(STAGE_SETTLE, at_ns);
        run.sent += run.round;
    }
    while (run.unanswered != 0) {
        answer_take();
    }
}

static void ledger_write(const char *path)
{
    FILE *file = fopen(path, "we");

    if (file == NULL) {
        bench_fail("cannot write '%s': %s", path, bench_cause());
    }
    for (uint64_t i = 0; i < run.device_count; i++) {
        (void)fprintf(file, "%llu %llu %llu\n", (unsigned long long)i,
                      (unsigned long long)run.devices[i].seq,
                      (unsigned long long)run.devices[i].seq);
    }
    if (fclose(file) != 0) {
        bench_fail("cannot write '%s': %s", path, bench_cause());
    }
}

static void report(void)
{
    struct bench_json json = bench_json_open("encoder");
    double events = (double)(run.sent == 0 ? 1 : run.sent);
    double total = 0;

    bench_json_u64(&json, "sent", run.sent);
    bench_json_number(&json, "bytes_per_event", (double)run.packed_bytes / events);
    for (int i = 0; i < STAGES; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "%s_ns", stage_names[i]);
        bench_json_number(&json, key, (double)run.spent_ns[i] / events);
        total += (double)run.spent_ns[i] / events;
    }
    bench_json_number(&json, "cpu_ns_per_event", total);
    bench_json_close(&json);
}

int main(int argc, char **argv)
{
    const struct bench_option table[] = {
        {"servers", BENCH_TEXT, &run.servers, "a Kafka of one broker on this machine"},
        {"topic", BENCH_TEXT, &run.topic, "topic to produce to"},
        {"partitions", BENCH_U64, &run.partitions, "it has"},
        {"devices", BENCH_U64, &run.device_count, "keys"},
        {"count", BENCH_U64, &run.count, "events in all"},
        {"burst", BENCH_U64, &run.burst, "events of one device in a row"},
        {"bytes", BENCH_U64, &run.bytes, "payload bytes"},
        {"round", BENCH_U64, &run.round, "events of one request"},
        {"header-bytes", BENCH_U64, &run.header_bytes, "value of a header; 0: there is none"},
        {"ledger", BENCH_TEXT, &run.ledger, "file for `device sent acked` lines"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "what a Kafka producer of our own would cost", table);
    if (run.topic == NULL || strlen(run.topic) > 249 || run.partitions == 0 ||
        run.partitions > PARTITIONS_MAX || run.burst == 0 || run.round % run.burst != 0 ||
        run.bytes < BENCH_EVENT_MIN || run.bytes > BENCH_EVENT_MAX ||
        run.header_bytes > HEADER_MAX || run.device_count == 0) {
        bench_fail("--topic is needed; --round a multiple of --burst; --partitions at most %d, "
                   "--header-bytes at most %d; --bytes within %d and %d",
                   PARTITIONS_MAX, HEADER_MAX, BENCH_EVENT_MIN, BENCH_EVENT_MAX);
    }
    connect_to(run.servers);
    prepare();
    produce();
    if (run.ledger != NULL) {
        ledger_write(run.ledger);
    }
    report();
    return 0;
}
