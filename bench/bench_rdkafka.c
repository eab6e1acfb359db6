/* bench_rdkafka.c - librdkafka alone, producing the same events from memory.
 *
 * DESIGN
 *
 * What the gateway costs above this is what MQTT, the journal and the hand-over
 * cost; no gateway that uses librdkafka can be cheaper.  So it is configured and
 * called as the gateway's sink does it: idempotent, acks=all, the partition chosen
 * by us, payload borrowed (not copied), a timestamp per record (produceva).
 *
 * --api batch uses rd_kafka_produce_batch(), which takes no timestamp: a third
 * cheaper, and the figure published benches show.
 *
 * Payloads lie in a fixed set of slots.  A slot is taken for a record and returned
 * by its delivery report, and their number bounds what is in flight, so the
 * queue-full error cannot come.
 *
 * Events go device by device in turn, in runs of `burst`, as they come from a
 * connection of bench_load.
 */
#include "bench.h"

#include "base/hash.h"

#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <time.h>

enum { BURST_MAX = 1000, KEY_MAX = 24, HEADER_MAX = 256 };

struct rdkafka_device {
    char key[KEY_MAX];
    uint32_t key_len;
    int32_t partition;
    uint64_t seq;
    uint64_t delivered;
};

struct rdkafka {
    const char *servers;
    const char *topic_name;
    const char *api;
    const char *compression;
    const char *linger_ms;
    const char *batch_bytes;
    const char *ledger;
    uint64_t device_count;
    uint64_t device_first;
    uint64_t count;
    uint64_t burst;
    uint64_t bytes;
    uint64_t slot_count;
    uint64_t rate;
    uint64_t header_bytes;
    bool copy;

    rd_kafka_t *client;
    rd_kafka_topic_t *topic;
    int32_t partition_count;
    struct rdkafka_device *devices;
    uint8_t *slots;
    uint32_t *slot_device; /* whose event a slot holds */
    uint32_t *free;        /* a stack of free slots */
    uint64_t free_count;
    uint64_t produced;
    uint64_t delivered;
    uint64_t failed;
    int64_t begin_ns;
    int64_t end_ns;
};

/* Runs inside rd_kafka_poll(), that is in the main thread. */
static void rdkafka_delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    struct rdkafka *run = opaque;
    uint32_t slot = (uint32_t)(uintptr_t)message->_private;

    (void)client;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        run->failed += 1;
    } else {
        run->devices[run->slot_device[slot]].delivered += 1;
        run->delivered += 1;
    }
    run->free[run->free_count] = slot;
    run->free_count += 1;
}

static void rdkafka_option(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK) {
        bench_fail("librdkafka: %s", why);
    }
}

static void rdkafka_open(struct rdkafka *run)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    rdkafka_option(conf, "bootstrap.servers", run->servers);
    rdkafka_option(conf, "enable.idempotence", "true");
    rdkafka_option(conf, "acks", "all");
    rdkafka_option(conf, "compression.codec", run->compression);
    rdkafka_option(conf, "linger.ms", run->linger_ms);
    rdkafka_option(conf, "batch.size", run->batch_bytes);
    rdkafka_option(conf, "queue.buffering.max.messages", "10000000");
    rdkafka_option(conf, "queue.buffering.max.kbytes", "2000000");
    rd_kafka_conf_set_dr_msg_cb(conf, rdkafka_delivered);
    rd_kafka_conf_set_opaque(conf, run);
    run->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (run->client == NULL) {
        bench_fail("librdkafka: %s", why);
    }
    run->topic = rd_kafka_topic_new(run->client, run->topic_name, NULL);
    rd_kafka_resp_err_t err = rd_kafka_metadata(run->client, 0, run->topic, &metadata, 10000);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_fail("no metadata of '%s' from %s: %s", run->topic_name, run->servers,
                   rd_kafka_err2str(err));
    }
    run->partition_count = metadata->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
    if (run->partition_count <= 0) {
        bench_fail("topic '%s' has no partitions; does it exist?", run->topic_name);
    }
}

static void rdkafka_prepare(struct rdkafka *run)
{
    struct bench_event event = {0};

    run->devices = mr_alloc(run->device_count * sizeof(*run->devices));
    for (uint64_t i = 0; i < run->device_count; i++) {
        struct rdkafka_device *device = &run->devices[i];
        device->key_len =
            (uint32_t)bench_client_id(device->key, sizeof(device->key), run->device_first + i);
        device->partition = mr_kafka_partition(device->key, device->key_len, run->partition_count);
    }
    run->slots = mr_alloc(run->slot_count * run->bytes);
    run->slot_device = mr_alloc(run->slot_count * sizeof(*run->slot_device));
    run->free = mr_alloc(run->slot_count * sizeof(*run->free));
    for (uint64_t i = 0; i < run->slot_count; i++) {
        bench_event_write(run->slots + i * run->bytes, run->bytes, &event);
        run->free[run->slot_count - 1 - i] = (uint32_t)i;
    }
    run->free_count = run->slot_count;
}

/* Take a slot and write the device's next event into it. */
static uint32_t rdkafka_fill(struct rdkafka *run, uint64_t index, int64_t wall_ns)
{
    struct rdkafka_device *device = &run->devices[index];

    run->free_count -= 1;
    uint32_t slot = run->free[run->free_count];
    uint8_t *at = run->slots + slot * run->bytes;

    device->seq += 1;
    run->slot_device[slot] = (uint32_t)index;
    bench_digits_write(at + BENCH_DEVICE_AT, BENCH_DEVICE_DIGITS,
                       BENCH_DEVICE_BASE + run->device_first + index);
    bench_digits_write(at + BENCH_SEQ_AT, BENCH_SEQ_DIGITS, BENCH_SEQ_BASE + device->seq);
    bench_digits_write(at + BENCH_TIME_AT, BENCH_TIME_DIGITS, (uint64_t)wall_ns);
    return slot;
}

static void rdkafka_burst_va(struct rdkafka *run, uint64_t index, int64_t wall_ns)
{
    const struct rdkafka_device *device = &run->devices[index];
    const int flags = run->copy ? RD_KAFKA_MSG_F_COPY : 0;
    static const char header_value[HEADER_MAX];

    for (uint64_t i = 0; i < run->burst; i++) {
        uint32_t slot = rdkafka_fill(run, index, wall_ns);
        rd_kafka_vu_t fields[] = {
            {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = run->topic},
            {.vtype = RD_KAFKA_VTYPE_PARTITION, .u.i32 = device->partition},
            {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = flags},
            {.vtype = RD_KAFKA_VTYPE_VALUE,
             .u.mem = {.ptr = run->slots + slot * run->bytes, .size = run->bytes}},
            {.vtype = RD_KAFKA_VTYPE_KEY,
             .u.mem = {.ptr = (void *)(uintptr_t)device->key, .size = device->key_len}},
            {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = wall_ns / 1000000},
            {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = (void *)(uintptr_t)slot},
            {.vtype = RD_KAFKA_VTYPE_HEADER,
             .u.header = {.name = "millrace_id",
                          .val = header_value,
                          .size = (ssize_t)run->header_bytes}},
        };
        size_t field_count = MR_COUNT_OF(fields) - (run->header_bytes == 0);
        rd_kafka_error_t *error = rd_kafka_produceva(run->client, fields, field_count);
        if (error != NULL) {
            bench_fail("produceva: %s", rd_kafka_error_string(error));
        }
    }
}

static void rdkafka_burst_batch(struct rdkafka *run, uint64_t index, int64_t wall_ns)
{
    static rd_kafka_message_t messages[BURST_MAX];
    const struct rdkafka_device *device = &run->devices[index];

    for (uint64_t i = 0; i < run->burst; i++) {
        uint32_t slot = rdkafka_fill(run, index, wall_ns);
        messages[i] = (rd_kafka_message_t){
            .payload = run->slots + slot * run->bytes,
            .len = run->bytes,
            .key = (void *)(uintptr_t)device->key,
            .key_len = device->key_len,
            ._private = (void *)(uintptr_t)slot,
        };
    }
    int done =
        rd_kafka_produce_batch(run->topic, device->partition, run->copy ? RD_KAFKA_MSG_F_COPY : 0,
                               messages, (int)run->burst);
    if (done != (int)run->burst) {
        bench_fail("produce_batch took %d of %llu: %s", done, (unsigned long long)run->burst,
                   rd_kafka_err2str(messages[done].err));
    }
}

/* Open loop: serve delivery reports until the burst is due.  Returns its due time,
 * which is now in a closed loop.
 */
static int64_t rdkafka_due_ns(struct rdkafka *run)
{
    if (run->rate == 0) {
        return bench_mono_ns();
    }
    int64_t due_ns = run->begin_ns + (int64_t)((double)run->produced * 1e9 / (double)run->rate);
    for (int64_t left_ns = due_ns - bench_mono_ns(); left_ns > 0;
         left_ns = due_ns - bench_mono_ns()) {
        struct timespec pause = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
        (void)rd_kafka_poll(run->client, 0);
        (void)nanosleep(&pause, NULL);
    }
    return due_ns;
}

static void rdkafka_produce(struct rdkafka *run)
{
    const bool batch = strcmp(run->api, "batch") == 0;
    const int64_t wall_offset_ns = bench_wall_ns() - bench_mono_ns();

    run->begin_ns = bench_mono_ns();
    for (uint64_t turn = 0; run->produced + run->burst <= run->count && !bench_stopped(); turn++) {
        int64_t due_ns = rdkafka_due_ns(run);

        while (run->free_count < run->burst) {
            (void)rd_kafka_poll(run->client, 10);
        }
        if (batch) {
            rdkafka_burst_batch(run, turn % run->device_count, due_ns + wall_offset_ns);
        } else {
            rdkafka_burst_va(run, turn % run->device_count, due_ns + wall_offset_ns);
        }
        run->produced += run->burst;
        (void)rd_kafka_poll(run->client, 0);
    }
    while (run->free_count < run->slot_count && !bench_stopped()) {
        (void)rd_kafka_poll(run->client, 100);
    }
    run->end_ns = bench_mono_ns();
}

static void rdkafka_ledger_write(const struct rdkafka *run)
{
    FILE *file = fopen(run->ledger, "we");

    if (file == NULL) {
        bench_fail("cannot write '%s': %s", run->ledger, bench_cause());
    }
    for (uint64_t i = 0; i < run->device_count; i++) {
        (void)fprintf(file, "%llu %llu %llu\n", (unsigned long long)(run->device_first + i),
                      (unsigned long long)run->devices[i].seq,
                      (unsigned long long)run->devices[i].delivered);
    }
    if (fclose(file) != 0) {
        bench_fail("cannot write '%s': %s", run->ledger, bench_cause());
    }
}

static void rdkafka_report(const struct rdkafka *run, int64_t cpu_ns)
{
    struct bench_json json = bench_json_open("rdkafka");
    double seconds = (double)(run->end_ns - run->begin_ns) / 1e9;
    double events = (double)(run->delivered == 0 ? 1 : run->delivered);

    bench_json_text(&json, "api", run->api);
    bench_json_text(&json, "librdkafka", rd_kafka_version_str());
    bench_json_u64(&json, "delivered", run->delivered);
    bench_json_u64(&json, "failed", run->failed);
    bench_json_number(&json, "seconds", seconds);
    bench_json_number(&json, "events_per_s", (double)run->delivered / seconds);
    bench_json_number(&json, "cpu_ns_per_event", (double)cpu_ns / events);
    bench_json_close(&json);
}

int main(int argc, char **argv)
{
    static struct rdkafka run = {
        .servers = "127.0.0.1:9092",
        .api = "va",
        .compression = "lz4",
        .linger_ms = "10",
        .batch_bytes = "1000000",
        .device_count = 100,
        .count = 1000000,
        .burst = 50,
        .bytes = 100,
        .slot_count = 200000,
    };
    const struct bench_option table[] = {
        {"servers", BENCH_TEXT, &run.servers, "Kafka bootstrap servers"},
        {"topic", BENCH_TEXT, &run.topic_name, "topic to produce to"},
        {"api", BENCH_TEXT, &run.api, "va (with timestamp) or batch (without)"},
        {"compression", BENCH_TEXT, &run.compression, "compression.codec"},
        {"linger", BENCH_TEXT, &run.linger_ms, "linger.ms"},
        {"batch-bytes", BENCH_TEXT, &run.batch_bytes, "batch.size"},
        {"devices", BENCH_U64, &run.device_count, "keys"},
        {"device-first", BENCH_U64, &run.device_first, "number of the first device"},
        {"count", BENCH_U64, &run.count, "events in all"},
        {"burst", BENCH_U64, &run.burst, "events of one device in a row"},
        {"bytes", BENCH_U64, &run.bytes, "payload bytes"},
        {"outstanding", BENCH_U64, &run.slot_count, "events in flight at most"},
        {"rate", BENCH_U64, &run.rate, "events/s, open loop; 0: as fast as possible"},
        {"header-bytes", BENCH_U64, &run.header_bytes,
         "value of a header of each record (api va); 0: there is none"},
        {"ledger", BENCH_TEXT, &run.ledger, "file for `device sent acked` lines"},
        {"copy", BENCH_FLAG, &run.copy, "let librdkafka copy payloads"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "librdkafka alone, producing the same events from memory", table);
    if (run.topic_name == NULL || run.burst == 0 || run.burst > BURST_MAX ||
        run.slot_count < run.burst || run.slot_count > UINT32_MAX || run.device_count == 0 ||
        run.header_bytes > HEADER_MAX || run.bytes < BENCH_EVENT_MIN ||
        run.bytes > BENCH_EVENT_MAX) {
        bench_fail("--topic is needed; --burst within 1 and %d; --outstanding at least --burst; "
                   "--bytes within %d and %d; --header-bytes at most %d",
                   BURST_MAX, BENCH_EVENT_MIN, BENCH_EVENT_MAX, HEADER_MAX);
    }
    bench_stop_on_signals();
    rdkafka_open(&run);
    rdkafka_prepare(&run);
    int64_t cpu_ns = -bench_cpu_ns();
    rdkafka_produce(&run);
    cpu_ns += bench_cpu_ns();
    if (run.ledger != NULL) {
        rdkafka_ledger_write(&run);
    }
    rdkafka_report(&run, cpu_ns);
    rd_kafka_topic_destroy(run.topic);
    rd_kafka_destroy(run.client);
    return run.failed == 0 && run.delivered == run.produced ? 0 : 1;
}
