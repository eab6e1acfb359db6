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
 * (bench/encoder).  --dry sends nothing and needs no Kafka: its batches are thrown away.
 */
#include "bench_batch.h"
#include "bench_produce.h"

#include "base/hash.h"

#include <stdlib.h>
#include <time.h>

enum { KEY_MAX = 24, RECORD_HEAD_MAX = 64, HEADER_MAX = 256 };

static const char header_name[] = "millrace_id";

struct device {
    char key[KEY_MAX];
    size_t key_len;
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
    size_t batch_len;
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
    bool dry;
    bool plain; /* no LZ4 */

    int fd;
    uint32_t unanswered;
    struct device *devices;
    struct part parts[BENCH_PRODUCE_PARTITIONS_MAX];
    uint8_t *payloads;
    uint8_t *raw; /* one batch, before it is compressed */
    size_t raw_room;
    size_t packed_room;
    uint8_t header_value[HEADER_MAX];
    uint64_t sent;
    uint64_t batch_bytes;
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

/* ---- encode ---- */

static void part_encode(struct part *part, struct bench_batch *batch)
{
    struct bench_record record = {
        .value_len = run.bytes,
        .header_name = header_name,
        .header_name_len = sizeof(header_name) - 1,
        .header = run.header_value,
        .header_len = run.header_bytes,
    };

    bench_batch_begin(batch, run.plain ? part->packed : run.raw,
                      run.plain ? run.packed_room : run.raw_room);
    for (uint32_t i = 0; i < part->count; i++) {
        const struct item *item = &part->items[i];

        record.time_ms = item->time_ms;
        record.key = item->device->key;
        record.key_len = item->device->key_len;
        record.value = item->payload;
        mr_assert(bench_batch_add(batch, &record)); /* the room is for a whole round */
    }
}

static void part_pack(struct part *part)
{
    struct bench_batch batch;
    int64_t at_ns = thread_ns();

    part_encode(part, &batch);
    spend(STAGE_ENCODE, at_ns);

    at_ns = thread_ns();
    part->batch_len =
        run.plain ? batch.len : bench_batch_compress(&batch, part->packed, run.packed_room);
    spend(STAGE_LZ4, at_ns);

    at_ns = thread_ns();
    bench_batch_seal(&batch, part->packed, part->batch_len);
    spend(STAGE_CRC, at_ns);
    run.batch_bytes += part->batch_len;
}

/* ---- send ---- */

/* One Produce request with the batches of all partitions. */
static void request_send(void)
{
    uint8_t head[BENCH_PRODUCE_HEAD_MAX];
    size_t batches = 0;
    uint32_t parts = 0;

    for (uint64_t p = 0; p < run.partitions; p++) {
        if (run.parts[p].count != 0) {
            parts += 1;
            batches += BENCH_PRODUCE_PART_BYTES + run.parts[p].batch_len;
        }
    }
    bench_produce_send(run.fd, head, bench_produce_head(head, run.topic, parts, batches));
    for (uint32_t p = 0; p < run.partitions; p++) {
        const struct part *part = &run.parts[p];
        if (part->count != 0) {
            bench_produce_part(head, p, part->batch_len);
            bench_produce_send(run.fd, head, BENCH_PRODUCE_PART_BYTES);
            bench_produce_send(run.fd, part->packed, part->batch_len);
        }
    }
    run.unanswered += 1;
}

static void answer_take(void)
{
    (void)bench_produce_answer(run.fd);
    run.unanswered -= 1;
}

/* ---- events ---- */

static void prepare(void)
{
    const struct bench_event event = {0};
    const size_t record_max =
        run.bytes + KEY_MAX + sizeof(header_name) + run.header_bytes + RECORD_HEAD_MAX;

    run.devices = mr_alloc(run.device_count * sizeof(*run.devices));
    for (uint64_t i = 0; i < run.device_count; i++) {
        struct device *device = &run.devices[i];
        device->key_len = bench_client_id(device->key, sizeof(device->key), i);
        device->partition =
            (uint32_t)mr_kafka_partition(device->key, device->key_len, (int32_t)run.partitions);
    }
    run.payloads = mr_alloc(run.round * run.bytes);
    for (uint64_t i = 0; i < run.round; i++) {
        bench_event_write(run.payloads + i * run.bytes, run.bytes, &event);
    }
    memset(run.header_value, 'x', sizeof(run.header_value));
    run.raw_room = BENCH_BATCH_HEADER_BYTES + run.round * record_max;
    run.raw = mr_alloc(run.raw_room);
    run.packed_room = bench_batch_compressed_max(run.raw_room);
    for (uint64_t p = 0; p < run.partitions; p++) {
        run.parts[p].items = mr_alloc(run.round * sizeof(*run.parts[p].items));
        run.parts[p].packed = mr_alloc(run.packed_room);
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

static void round_send(void)
{
    int64_t at_ns = thread_ns();

    request_send();
    spend(STAGE_SEND, at_ns);
    at_ns = thread_ns();
    if (run.unanswered == BENCH_PRODUCE_IN_FLIGHT) {
        answer_take();
    }
    spend(STAGE_SETTLE, at_ns);
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
        if (!run.dry) {
            round_send();
        }
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
    bench_json_number(&json, "bytes_per_event", (double)run.batch_bytes / events);
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
        {"plain", BENCH_FLAG, &run.plain, "without LZ4"},
        {"dry", BENCH_FLAG, &run.dry, "send nothing"},
        {"ledger", BENCH_TEXT, &run.ledger, "file for `device sent acked` lines"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "what a Kafka producer of our own would cost", table);
    if ((run.topic == NULL && !run.dry) ||
        (run.topic != NULL && strlen(run.topic) > BENCH_PRODUCE_TOPIC_MAX) || run.partitions == 0 ||
        run.partitions > BENCH_PRODUCE_PARTITIONS_MAX || run.burst == 0 ||
        run.round % run.burst != 0 || run.bytes < BENCH_EVENT_MIN || run.bytes > BENCH_EVENT_MAX ||
        run.header_bytes > HEADER_MAX || run.device_count == 0) {
        bench_fail(
            "--topic is needed, or --dry; --round a multiple of --burst; --partitions at most %d, "
            "--header-bytes at most %d; --bytes within %d and %d",
            BENCH_PRODUCE_PARTITIONS_MAX, HEADER_MAX, BENCH_EVENT_MIN, BENCH_EVENT_MAX);
    }
    if (!run.dry) {
        run.fd = bench_produce_connect(run.servers);
    }
    prepare();
    produce();
    if (run.ledger != NULL) {
        ledger_write(run.ledger);
    }
    report();
    return 0;
}
