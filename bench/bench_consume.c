/* bench_consume.c - read a topic back and hold it against the ledger.
 *
 * DESIGN
 *
 * A throughput figure means nothing if an event is missing, so every run is read
 * back: each event carries its device and sequence number (bench.h), and the ledger
 * of bench_load says how many each device sent and how many were acknowledged.
 *
 *   missing     acknowledged, and not in the topic
 *   twice       a sequence number seen before
 *   reordered   lower than one seen before, and not seen before itself
 *   moved       a device seen in a second partition: its order cannot be judged
 *   unknown     not an event of ours, or of a device that is not in the ledger
 *
 * A gap is counted when the device jumps ahead, and taken back if the number
 * still comes (then it is a reordered one).  For this each device remembers which
 * numbers it has seen, one bit each.
 *
 * Two ways to use it:
 *
 *   --follow      start before the load at the end of the topic and measure how long each
 *                 event took from its send time to this process.  Costs CPU beside
 *                 the gateway: for latencies at a fixed rate.
 *   (otherwise)   read from the offsets given, afterwards.
 *
 * librdkafka reads read_committed, so an aborted transaction is not seen and its
 * markers do not count as events.
 */
#include "bench.h"
#include "bench_kafka.h"

#include <stdlib.h>

enum { MESSAGES_MAX = 10000 };

struct consume_device {
    uint64_t sent;
    uint64_t acked;
    uint64_t seq_max; /* the highest seen */
    uint64_t seen_count;
    uint8_t *seen; /* one bit per sequence number from 1 to sent */
    int32_t partition;
    bool known; /* in the ledger */
};

struct consume {
    const char *ledger;
    const char *from; /* "begin", "end", or "p:offset,p:offset,..." */
    uint64_t timeout_s;
    bool follow;

    struct bench_kafka kafka;
    int64_t begin[BENCH_PARTITIONS_MAX];

    struct consume_device *devices; /* BENCH_DEVICES_MAX, backed as far as touched */
    uint64_t expected;              /* acknowledged, by the ledger */
    uint64_t wanted_seen;           /* of those, how many have been read */
    uint64_t read;
    uint64_t twice;
    uint64_t reordered;
    uint64_t moved;
    uint64_t unknown;
    uint64_t broken; /* errors of the consumer itself */
    int64_t first_ns;
    int64_t last_ns;
    struct mr_histogram latency;
};

/* ---- set-up ---- */

/* "0:12,1:7" as bench_topic --offsets prints it. */
static void consume_from_text(struct consume *run)
{
    const char *at = run->from;

    while (*at != '\0') {
        char *after = NULL;
        long partition = strtol(at, &after, 10);
        if (after == at || *after != ':' || partition < 0 ||
            partition >= run->kafka.partition_count) {
            bench_fail("--from '%s' is not begin, end or partition:offset,...", run->from);
        }
        at = after + 1;
        run->begin[partition] = strtoll(at, &after, 10);
        at = *after == ',' ? after + 1 : after;
    }
}

static void consume_begin(struct consume *run)
{
    if (run->follow || strcmp(run->from, "end") == 0) {
        bench_kafka_offsets(&run->kafka, true, run->begin);
    } else {
        bench_kafka_offsets(&run->kafka, false, run->begin);
        if (strcmp(run->from, "begin") != 0) {
            consume_from_text(run);
        }
    }
}

static void consume_assign(struct consume *run)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new(run->kafka.partition_count);

    for (int32_t p = 0; p < run->kafka.partition_count; p++) {
        rd_kafka_topic_partition_list_add(list, run->kafka.topic, p)->offset = run->begin[p];
    }
    rd_kafka_resp_err_t err = rd_kafka_assign(run->kafka.client, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        bench_fail("cannot read '%s': %s", run->kafka.topic, rd_kafka_err2str(err));
    }
}

/* "device sent acked" per line.  In --follow the ledger is written only when the
 * load has ended, so it may come later.  False: not there (yet).
 */
static bool consume_ledger_read(struct consume *run)
{
    FILE *file = fopen(run->ledger, "re");
    char line[128];

    if (file == NULL) {
        return false;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        char *at = line;
        uint64_t device = strtoull(at, &at, 10);
        uint64_t sent = strtoull(at, &at, 10);
        uint64_t acked = strtoull(at, &at, 10);

        if (device >= BENCH_DEVICES_MAX || acked > sent) {
            bench_fail("'%s' is not a ledger: %s", run->ledger, line);
        }
        struct consume_device *entry = &run->devices[device];
        entry->known = true;
        entry->sent = sent;
        entry->acked = acked;
        run->expected += acked;
    }
    (void)fclose(file);
    return true;
}

/* ---- one event ---- */

enum { SEEN_STEP_BYTES = 8192 };

/* Was this number seen before?  Remembers it. */
static bool consume_seen(struct consume_device *device, uint64_t seq)
{
    uint64_t byte = seq / 8;
    uint8_t bit = (uint8_t)(1u << (seq % 8));

    /* Grows in steps, as numbers come: `sent` is not known while following. */
    uint64_t have = device->seq_max / 8 / SEEN_STEP_BYTES + 1;
    uint64_t need = byte / SEEN_STEP_BYTES + 1;
    if (device->seen == NULL || need > have) {
        have = device->seen == NULL ? 0 : have;
        device->seen = mr_realloc(device->seen, need * SEEN_STEP_BYTES);
        memset(device->seen + have * SEEN_STEP_BYTES, 0, (need - have) * SEEN_STEP_BYTES);
    }
    bool seen = (device->seen[byte] & bit) != 0;
    device->seen[byte] |= bit;
    return seen;
}

static void consume_event(struct consume *run, const struct bench_event *event, int32_t partition)
{
    struct consume_device *device = &run->devices[event->device];

    if (!run->follow && !device->known) {
        run->unknown += 1;
        return;
    }
    if (device->seen == NULL) {
        device->partition = partition;
    }
    run->moved += device->partition != partition ? 1 : 0;
    if (consume_seen(device, event->seq)) {
        run->twice += 1;
        return;
    }
    device->seen_count += 1;
    if (event->seq <= device->seq_max) {
        run->reordered += 1;
    } else {
        device->seq_max = event->seq;
    }
    if (device->known && event->seq <= device->acked) {
        run->wanted_seen += 1;
    }
}

/* The record's value is the event, or (value_encoder: json) has it inside. */
static bool consume_parse(const rd_kafka_message_t *message, struct bench_event *event)
{
    const uint8_t *at = message->payload;
    const uint8_t *end = at + message->len;
    const uint8_t *inside = NULL;

    if (at == NULL || bench_event_read(at, message->len, event)) {
        return at != NULL;
    }
    for (; inside == NULL && at + BENCH_EVENT_MIN <= end; at++) {
        inside = memcmp(at, "{\"d\":", BENCH_DEVICE_AT) == 0 ? at : NULL;
    }
    return inside != NULL && bench_event_read(inside, (size_t)(end - inside), event);
}

static void consume_message(struct consume *run, const rd_kafka_message_t *message, int64_t wall_ns)
{
    struct bench_event event;

    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        (void)fprintf(stderr, "bench_consume: %s\n", rd_kafka_message_errstr(message));
        run->broken += 1;
        return;
    }
    if (!consume_parse(message, &event) || event.seq == 0) {
        run->unknown += 1;
        return;
    }
    run->read += 1;
    consume_event(run, &event, message->partition);
    if (run->follow) {
        mr_histogram_add(&run->latency, wall_ns - event.wall_ns);
    }
}

/* ---- the two ways ---- */

/* While following, the ledger appears after the fact: count again what was seen. */
static void consume_ledger_late(struct consume *run)
{
    for (uint64_t d = 0; d < BENCH_DEVICES_MAX; d++) {
        struct consume_device *device = &run->devices[d];
        if (!device->known || device->seen == NULL) {
            continue;
        }
        for (uint64_t seq = 1; seq <= device->acked && seq <= device->seq_max; seq++) {
            run->wanted_seen += device->seen[seq / 8] >> (seq % 8) & 1;
        }
    }
}

static void consume_read(struct consume *run)
{
    static rd_kafka_message_t *messages[MESSAGES_MAX];
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(run->kafka.client);
    bool ledger = !run->follow && consume_ledger_read(run);

    if (!run->follow && !ledger) {
        bench_fail("cannot read the ledger '%s': %s", run->ledger, bench_cause());
    }
    int64_t last_ns = bench_mono_ns();
    while (!bench_stopped()) {
        /* What is there, at once; else wait for one.  The call returns when the batch is
         * full or the 100 ms are over, so a larger batch would measure its own waiting.
         */
        ssize_t count = rd_kafka_consume_batch_queue(queue, 0, messages, MESSAGES_MAX);
        if (count == 0) {
            count = rd_kafka_consume_batch_queue(queue, 100, messages, 1);
        }
        int64_t now_ns = bench_mono_ns();
        int64_t wall_ns = bench_wall_ns();

        for (ssize_t i = 0; i < count; i++) {
            consume_message(run, messages[i], wall_ns);
            rd_kafka_message_destroy(messages[i]);
        }
        if (count > 0) {
            run->first_ns = run->first_ns == 0 ? now_ns : run->first_ns;
            run->last_ns = now_ns;
            last_ns = now_ns;
        } else if (!ledger && consume_ledger_read(run)) {
            ledger = true;
            consume_ledger_late(run);
        }
        /* All there: stay for a moment, a duplicate would come after it. */
        int64_t limit_ns = ledger && run->wanted_seen >= run->expected
                               ? 500000000
                               : (int64_t)run->timeout_s * 1000000000;
        if (now_ns - last_ns > limit_ns) {
            break;
        }
    }
    rd_kafka_queue_destroy(queue);
}

static int consume_read_report(const struct consume *run)
{
    struct bench_json json = bench_json_open("consume");
    uint64_t missing = run->expected - run->wanted_seen;
    bool good = missing == 0 && run->twice == 0 && run->reordered == 0 && run->moved == 0 &&
                run->unknown == 0 && run->broken == 0 && run->expected > 0;
    double seconds = (double)(run->last_ns - run->first_ns) / 1e9;

    bench_json_text(&json, "verdict", good ? "every acknowledged event once, in order" : "WRONG");
    bench_json_u64(&json, "acked", run->expected);
    bench_json_u64(&json, "read", run->read);
    bench_json_u64(&json, "missing", missing);
    bench_json_u64(&json, "twice", run->twice);
    bench_json_u64(&json, "reordered", run->reordered);
    bench_json_u64(&json, "moved", run->moved);
    bench_json_u64(&json, "unknown", run->unknown);
    bench_json_u64(&json, "errors", run->broken);
    bench_json_number(&json, "seconds", seconds);
    if (run->follow) {
        bench_json_histogram(&json, "publish_to_consumer", &run->latency);
    }
    bench_json_close(&json);
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct consume run = {.from = "begin", .timeout_s = 30};
    const char *servers = "127.0.0.1:9092";
    const char *topic = NULL;
    const struct bench_option table[] = {
        {"servers", BENCH_TEXT, &servers, "Kafka bootstrap servers"},
        {"topic", BENCH_TEXT, &topic, "topic to read"},
        {"ledger", BENCH_TEXT, &run.ledger, "what bench_load wrote"},
        {"from", BENCH_TEXT, &run.from, "begin, end, or what bench_topic --offsets printed"},
        {"timeout", BENCH_U64, &run.timeout_s, "give up after so many seconds without an event"},
        {"follow", BENCH_FLAG, &run.follow, "read from the end on, measure publish to consumer"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };

    bench_options(argc, argv, "read a topic back and compare it with the ledger", table);
    if (topic == NULL || run.ledger == NULL) {
        bench_fail("--topic and --ledger are needed");
    }
    bench_stop_on_signals();
    bench_kafka_open(&run.kafka, servers, topic);
    bench_kafka_partitions(&run.kafka);
    run.devices = mr_alloc(BENCH_DEVICES_MAX * sizeof(*run.devices));
    consume_begin(&run);
    consume_assign(&run);
    if (run.follow) {
        (void)fprintf(stderr, "following\n");
    }
    consume_read(&run);
    int code = consume_read_report(&run);
    bench_kafka_close(&run.kafka);
    return code;
}
