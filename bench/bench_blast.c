/* bench_blast.c - how fast Kafka takes produce requests that are already there.
 *
 * DESIGN
 *
 * The requests are built once: for each partition one batch of events as bench_rdkafka
 * sends them (key, time, 100 bytes of JSON, LZ4), all partitions in one request, acks=all.  They
 * are sent again and again over one connection, five in flight, and every answer is looked at.
 * This costs next to nothing on our side, so its rate is Kafka's own limit beside a client
 * that takes no CPU.  Without a producer id, so Kafka takes the same batch any number of times.
 *
 * It talks to one broker, which has to lead all partitions: the Kafka of bench/run.
 */
#include "bench_batch.h"
#include "bench_produce.h"

#include "base/hash.h"

#include <stdlib.h>
#include <unistd.h>

enum { BATCH_BYTES = 1000000 };

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

/* Events of the devices that belong to this partition, in turn, until the batch is full; as it
 * is sent, in `compressed`.  Returns its bytes.
 */
static size_t blast_batch(struct blast *run, int32_t partition)
{
    const int64_t wall_ns = bench_wall_ns();
    struct bench_batch batch;
    bool room = true;

    bench_batch_begin(&batch, run->raw, BATCH_BYTES);
    for (uint64_t i = 0; room; i = (i + 1) % run->device_count) {
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
        room = bench_batch_add(&batch, &(struct bench_record){.time_ms = wall_ns / 1000000,
                                                              .key = device->key,
                                                              .key_len = device->key_len,
                                                              .value = run->payload,
                                                              .value_len = run->bytes});
    }
    size_t len = bench_batch_compress(&batch, run->compressed, run->compressed_room);
    bench_batch_seal(&batch, run->compressed, len);
    run->request_events += batch.count;
    run->batch_bytes = len;
    return len;
}

static void blast_request_build(struct blast *run)
{
    size_t each = BENCH_PRODUCE_PART_BYTES + run->compressed_room;
    uint8_t *at = mr_alloc(BENCH_PRODUCE_HEAD_MAX + run->partitions * each);
    size_t head_len = bench_produce_head(at, run->topic, (uint32_t)run->partitions, 0);
    size_t len = head_len;

    for (uint64_t p = 0; p < run->partitions; p++) {
        size_t batch_bytes = blast_batch(run, (int32_t)p);

        bench_produce_part(at + len, (uint32_t)p, batch_bytes);
        memcpy(at + len + BENCH_PRODUCE_PART_BYTES, run->compressed, batch_bytes);
        len += BENCH_PRODUCE_PART_BYTES + batch_bytes;
    }
    /* Now that their bytes are known. */
    (void)bench_produce_head(at, run->topic, (uint32_t)run->partitions, len - head_len);
    run->request = at;
    run->request_len = len;
}

static uint64_t blast_run(struct blast *run)
{
    uint64_t sent = 0;
    uint64_t answered = 0;
    int fd = bench_produce_connect(run->servers);

    while (answered < run->count && !bench_stopped()) {
        if (sent < run->count && sent - answered < BENCH_PRODUCE_IN_FLIGHT * run->request_events) {
            bench_produce_send(fd, run->request, run->request_len);
            sent += run->request_events;
        } else {
            uint32_t parts = bench_produce_answer(fd);
            if (parts != run->partitions) {
                bench_fail("%u partitions answered, not %llu", parts,
                           (unsigned long long)run->partitions);
            }
            answered += run->request_events;
        }
    }
    (void)close(fd);
    return answered;
}

static void blast_prepare(struct blast *run)
{
    const struct bench_event event = {0};

    run->devices = mr_alloc(run->device_count * sizeof(*run->devices));
    for (uint64_t i = 0; i < run->device_count; i++) {
        struct blast_device *device = &run->devices[i];
        device->key_len = bench_client_id(device->key, sizeof(device->key), i);
        device->partition =
            mr_kafka_partition(device->key, device->key_len, (int32_t)run->partitions);
    }
    run->raw = mr_alloc(BATCH_BYTES);
    run->compressed_room = bench_batch_compressed_max(BATCH_BYTES);
    run->compressed = mr_alloc(run->compressed_room);
    run->payload = mr_alloc(run->bytes);
    bench_event_write(run->payload, run->bytes, &event);
    blast_request_build(run);
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
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "prebuilt produce requests, sent again and again", table);
    if (run.topic == NULL || strlen(run.topic) > BENCH_PRODUCE_TOPIC_MAX || run.partitions == 0 ||
        run.partitions > BENCH_PRODUCE_PARTITIONS_MAX || run.device_count < run.partitions ||
        run.bytes < BENCH_EVENT_MIN || run.bytes > BENCH_EVENT_MAX) {
        bench_fail("--topic is needed, at most %d partitions, not more than devices; --bytes "
                   "within %d and %d",
                   BENCH_PRODUCE_PARTITIONS_MAX, BENCH_EVENT_MIN, BENCH_EVENT_MAX);
    }
    bench_stop_on_signals();
    blast_prepare(&run);
    int64_t began_ns = bench_mono_ns();
    int64_t cpu_ns = bench_cpu_ns();
    uint64_t done = blast_run(&run);
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
