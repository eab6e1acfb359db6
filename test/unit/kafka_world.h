/* kafka_world.h - a mock cluster of librdkafka, a journal and a bridge between them.
 *
 *     world_open() ─▶ world_start() ─▶ append_some() ─▶ wait_settled() ─▶ check_all() ─▶
 * world_close()
 *
 * Events are functions of their seq, so what is read back can be judged by itself.
 *
 * Thread: the test's; the bridge has its own.   Memory: a world on the test's stack.
 */
#ifndef MR_TEST_KAFKA_WORLD_H
#define MR_TEST_KAFKA_WORLD_H

#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "os/clock.h"
#include "os/file.h"
#include "pipeline/bridge.h"
#include "sink/kafka/kafka.h"

#include <dlfcn.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    DEVICES = 17,
    PARTITIONS = 4,
    SEQS_MAX = 20000,
    WAIT_S = 60,
    REFUSALS = 5000, /* more than a test comes to */
    MOCK_WAIT_MS = 20,
};

/* ---- the mock cluster's waits ---- */

/* librdkafka's mock cluster now and then misses that it was rung, and then sleeps on for a second.
 * Let it look more often.
 */
int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    static int (*_Atomic next)(struct pollfd *, nfds_t, int);
    char thread[16] = "";

    if (next == NULL) {
        next = (int (*)(struct pollfd *, nfds_t, int))(uintptr_t)dlsym(RTLD_NEXT, "poll");
    }
    if (timeout_ms > MOCK_WAIT_MS && prctl(PR_GET_NAME, thread) == 0 &&
        strcmp(thread, "rdk:mock") == 0) {
        timeout_ms = MOCK_WAIT_MS;
    }
    return next(fds, count, timeout_ms);
}

/* ---- the world: a cluster, a journal, a bridge ---- */

struct world {
    char folder[200];
    char dead_path[256];
    rd_kafka_t *holder; /* librdkafka's mock cluster needs an instance to live in */
    rd_kafka_mock_cluster_t *cluster;
    struct mr_journal *journal;
    struct mr_lane *lane;
    struct mr_wake owner;
    struct mr_kafka_conf kafka;
    struct mr_bridge *bridge;
    uint64_t appended;
};

static const struct mr_bridge_conf bridge_conf = {
    .inflight_records = 20000,
    .retry_min_us = 20000,
    .retry_max_us = 200000,
};

/* Lines of the log that matter here, counted. */
static _Atomic int lines_away;
static _Atomic int lines_back;
static _Atomic int lines_stalled;
static _Atomic int lines_limited;

static void count_lines(const char *line, size_t len)
{
    if (memmem(line, len, ": away: ", 8) != NULL) {
        lines_away += 1;
    }
    if (memmem(line, len, ": back after ", 13) != NULL) {
        lines_back += 1;
    }
    if (memmem(line, len, "has confirmed no event", 22) != NULL) {
        lines_stalled += 1;
    }
    if (memmem(line, len, "takes no record beyond 1000 (max.message.bytes)", 47) != NULL) {
        lines_limited += 1;
    }
    if (getenv("MR_TEST_LOG") != NULL) {
        fwrite(line, 1, len, stderr);
    }
}

static void remove_under(void *arg, const char *name)
{
    char path[1024];

    snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
    if (unlink(path) != 0) {
        mr_assert(mr_dir_list(path, remove_under, path) == MR_OK);
        mr_assert(rmdir(path) == 0);
    }
}

static void world_journal(struct world *w)
{
    const char *base = getenv("TMPDIR");
    struct mr_recovery recovery;
    struct mr_error why;
    char path[256];

    snprintf(w->folder, sizeof(w->folder), "%s/mr-kafka-XXXXXX", base == NULL ? "/tmp" : base);
    mr_assert(mkdtemp(w->folder) != NULL);
    snprintf(path, sizeof(path), "%s/journal", w->folder);
    snprintf(w->dead_path, sizeof(w->dead_path), "%s/dead-letters", w->folder);
    struct mr_journal_options options = {.path = path,
                                         .name = "test",
                                         .lane_count = 1,
                                         .max_bytes = 64 << 20,
                                         .segment_bytes = 4 << 20,
                                         .record_bytes_max = 2 << 20};
    mr_assert(mr_journal_open(&w->journal, &options, &recovery, &why) == MR_OK);
    w->lane = mr_journal_lane(w->journal, 0);
    mr_lane_set_owner(w->lane, &w->owner);
}

/* Mock brokers come back in a moment; do not wait for them longer than that. */
static struct mr_pair quick[] = {{.name = "reconnect.backoff.max.ms", .value = "200"},
                                 {.name = "socket.timeout.ms", .value = "1000"}};

static void world_open_brokers(struct world *w, int brokers)
{
    struct mr_error why;
    char text[256];

    *w = (struct world){.appended = 0};
    lines_away = 0;
    lines_back = 0;
    lines_stalled = 0;
    lines_limited = 0;
    mr_assert(mr_wake_open(&w->owner, &why) == MR_OK);
    world_journal(w);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    mr_assert(rd_kafka_conf_set(conf, "log_level", "0", text, sizeof(text)) == RD_KAFKA_CONF_OK);
    w->holder = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    mr_assert(w->holder != NULL);
    w->cluster = rd_kafka_mock_cluster_new(w->holder, brokers);
    mr_assert(w->cluster != NULL);
    mr_assert(rd_kafka_mock_topic_create(w->cluster, "t_kind0", PARTITIONS, 1) == 0);
    mr_assert(rd_kafka_mock_topic_create(w->cluster, "t_kind1", PARTITIONS, 1) == 0);
    w->kafka = (struct mr_kafka_conf){
        .servers = rd_kafka_mock_cluster_bootstraps(w->cluster),
        .topic = "t_${topic[1]}",
        .message_key = "${clientid}",
        .client_id = "test",
        .compression = 3, /* lz4 */
        .linger_us = 5000,
        .max_topics = 10,
        .kafka_options = {.items = quick, .count = 1},
    };
}

/* An answer is not waited for longer than a second, either. */
static void world_is_impatient(struct world *w)
{
    w->kafka.kafka_options.count = MR_COUNT_OF(quick);
}

static void world_open(struct world *w)
{
    world_open_brokers(w, 1);
}

static void world_start(struct world *w)
{
    struct mr_error why = {.text = ""};
    struct mr_bridge_options_run options = {
        .name = "kafka",
        .gateway_name = "here",
        .journal = w->journal,
        .conf = &bridge_conf,
        .sink = &mr_kafka_sink,
        .sink_conf = &w->kafka,
        .dead_letters_path = w->dead_path,
        .dead_letters_bytes_max = 32 << 20,
        .record_bytes_max = 2 << 20,
        .packet_bytes_max = 1 << 20,
    };
    mr_assert(mr_bridge_create(&w->bridge, &options, &why) == MR_OK);
    mr_assert(mr_bridge_start(w->bridge, &why) == MR_OK);
}

static void world_stop(struct world *w)
{
    mr_bridge_stop(w->bridge, (int64_t)2 * 1000000000);
    mr_bridge_destroy(w->bridge);
    w->bridge = NULL;
}

static void world_close(struct world *w)
{
    if (w->bridge != NULL) {
        world_stop(w);
    }
    mr_assert(mr_journal_close(w->journal) == MR_OK);
    rd_kafka_mock_cluster_destroy(w->cluster);
    rd_kafka_destroy(w->holder);
    mr_assert(mr_dir_list(w->folder, remove_under, w->folder) == MR_OK);
    mr_assert(rmdir(w->folder) == 0);
    mr_wake_close(&w->owner);
}

/* The payload of record `seq` is its number; each 100th is empty. */
static struct mr_span payload_of(uint64_t seq, char text[32])
{
    return mr_span_make(
        text, seq % 100 == 0 ? 0 : (size_t)snprintf(text, 32, "%llu", (unsigned long long)seq));
}

static void append_record(struct world *w, struct mr_record_raw *record)
{
    struct mr_appended out;

    while (mr_lane_append(w->lane, record, NULL, &out) == MR_ERR_FULL) {
        mr_lane_submit(w->lane, mr_clock_mono_ns());
        mr_wake_wait(&w->owner, 1000000);
        mr_lane_release(w->lane, mr_lane_durable(w->lane));
    }
    w->appended = out.seq;
}

static void make_durable(struct world *w)
{
    while (mr_lane_durable(w->lane) < w->appended) {
        mr_lane_submit(w->lane, mr_clock_mono_ns());
        mr_wake_wait(&w->owner, 1000000);
    }
    mr_lane_release(w->lane, w->appended);
}

/* The next event, from the device and with the payload that follow from its seq. */
static void append_event(struct world *w, const char *topic)
{
    uint64_t seq = w->appended + 1;
    char text[32];
    char client[32];

    snprintf(client, sizeof(client), "device-%llu", (unsigned long long)(seq % DEVICES));
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .received_us = 1700000000000000 + (int64_t)seq * 1000,
        .client = mr_span_of(client),
        .topic = mr_span_of(topic),
        .payload = payload_of(seq, text),
        .qos = 1,
    };
    append_record(w, &record);
}

/* The topic of the device whose turn is next. */
static const char *next_topic(const struct world *w)
{
    return (w->appended + 1) % DEVICES % 2 == 0 ? "plant/kind0" : "plant/kind1";
}

static void append_some(struct world *w, uint64_t count)
{
    for (uint64_t to = w->appended + count; w->appended < to;) {
        append_event(w, next_topic(w));
    }
    make_durable(w);
}

static struct mr_bridge_stats stats_of(struct world *w)
{
    struct mr_bridge_stats stats;

    mr_bridge_stats(w->bridge, &stats);
    return stats;
}

/* Wait until the cursor has passed everything appended. */
static void wait_settled(struct world *w)
{
    for (int i = 0; i < WAIT_S * 100 && stats_of(w).cursor_seq < w->appended; i++) {
        usleep(10000); /* sleep: the state tells nobody when it changes */
    }
    if (stats_of(w).cursor_seq != w->appended) {
        printf("cursor %llu of %llu: %s\n", (unsigned long long)stats_of(w).cursor_seq,
               (unsigned long long)w->appended, stats_of(w).last_error);
    }
    mr_assert(stats_of(w).cursor_seq == w->appended);
}

static void wait_up(struct world *w, bool up)
{
    for (int i = 0; i < WAIT_S * 100 && stats_of(w).up != up; i++) {
        usleep(10000); /* sleep: the state tells nobody when it changes */
    }
    mr_assert(stats_of(w).up == up);
}

/* ---- reading back ---- */

struct read_back {
    uint8_t times[SEQS_MAX]; /* how often each seq is there, by its number */
    uint64_t newest_of[DEVICES];
    uint64_t empty;
    uint64_t records;
    bool headers;
};

static void check_message(struct read_back *back, const rd_kafka_message_t *m)
{
    int64_t time_ms = rd_kafka_message_timestamp(m, NULL);
    uint64_t seq = (uint64_t)(time_ms - 1700000000000);
    char text[32];
    char client[32];

    mr_assert(seq >= 1 && seq < SEQS_MAX);
    struct mr_span payload = payload_of(seq, text);
    mr_assert(m->payload != NULL || payload.len == 0);
    mr_assert(m->len == payload.len && memcmp(m->payload, payload.at, m->len) == 0);
    snprintf(client, sizeof(client), "device-%llu", (unsigned long long)(seq % DEVICES));
    mr_assert(mr_span_is(mr_span_make(m->key, m->key_len), client));
    mr_assert(m->partition == mr_kafka_partition(m->key, m->key_len, PARTITIONS));
    mr_assert(strcmp(rd_kafka_topic_name(m->rkt), seq % DEVICES % 2 == 0 ? "t_kind0" : "t_kind1") ==
              0);
    if (back->times[seq]++ == 0) {
        mr_assert(seq > back->newest_of[seq % DEVICES]); /* first deliveries in order */
        back->newest_of[seq % DEVICES] = seq;
    }
    if (back->headers) {
        rd_kafka_headers_t *headers = NULL;
        const void *value;
        size_t size;
        char tail[32];
        int len = snprintf(tail, sizeof(tail), "-0-%llu", (unsigned long long)seq);
        mr_assert(rd_kafka_message_headers(m, &headers) == 0);
        mr_assert(rd_kafka_header_get_last(headers, "millrace_id", &value, &size) == 0);
        mr_assert(size == 36 + (size_t)len &&
                  memcmp((const char *)value + 36, tail, (size_t)len) == 0);
    }
    back->empty += m->len == 0;
    back->records += 1;
}

static rd_kafka_t *reader_open(const struct world *w)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256];

    rd_kafka_conf_set(conf, "bootstrap.servers", w->kafka.servers, text, sizeof(text));
    rd_kafka_conf_set(conf, "group.id", "test", text, sizeof(text));
    rd_kafka_conf_set(conf, "enable.partition.eof", "true", text, sizeof(text));
    rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", text, sizeof(text));
    rd_kafka_t *consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
    mr_assert(consumer != NULL);
    rd_kafka_poll_set_consumer(consumer);
    return consumer;
}

static void reader_close(rd_kafka_t *consumer)
{
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
}

static const char *topic_at(int i)
{
    return i % 2 == 0 ? "t_kind0" : "t_kind1";
}

/* Read both topics to their ends. */
static void read_back(struct world *w, struct read_back *back)
{
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(PARTITIONS * 2);
    rd_kafka_t *consumer = reader_open(w);
    int ends = 0;

    for (int i = 0; i < PARTITIONS * 2; i++) {
        /* A number: for a name such as "beginning" librdkafka may wait for half a second. */
        rd_kafka_topic_partition_list_add(all, topic_at(i), i / 2)->offset = 0;
    }
    mr_assert(rd_kafka_assign(consumer, all) == 0);
    rd_kafka_topic_partition_list_destroy(all);
    while (ends < PARTITIONS * 2) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(consumer, WAIT_S * 1000);
        mr_assert(m != NULL);
        if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            ends += 1;
        } else if (m->err == 0) {
            check_message(back, m);
        }
        rd_kafka_message_destroy(m);
    }
    reader_close(consumer);
}

/* Every record is there but the refused ones (NULL: none were), which never arrived;
 * returns how many are there more than once.
 */
static uint64_t check_but(struct world *w, bool headers, const bool refused[SEQS_MAX])
{
    static struct read_back back;
    uint64_t repeated = 0;

    memset(&back, 0, sizeof(back));
    back.headers = headers;
    read_back(w, &back);
    for (uint64_t seq = 1; seq <= w->appended; seq++) {
        mr_assert((back.times[seq] == 0) == (refused != NULL && refused[seq]));
        repeated += back.times[seq] > 1;
    }
    return repeated;
}

static uint64_t check_all(struct world *w, bool headers)
{
    return check_but(w, headers, NULL);
}

/* Brokers answer, but too few replicas are in sync: an operator would only see the lag grow. */
static void world_stalls(struct world *w)
{
    enum { PRODUCE = 0 };
    static rd_kafka_resp_err_t errors[REFUSALS];

    for (int i = 0; i < REFUSALS; i++) {
        errors[i] = RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    }
    append_some(w, 500);
    wait_settled(w);
    rd_kafka_mock_push_request_errors_array(w->cluster, PRODUCE, REFUSALS, errors);
    append_some(w, 500);
    wait_up(w, false);
    mr_assert(strstr(stats_of(w).last_error, "min.insync.replicas") != NULL);
    rd_kafka_mock_clear_request_errors(w->cluster, PRODUCE);
    wait_settled(w);
    wait_up(w, true);
    mr_assert(check_all(w, false) == 0);
    mr_assert(lines_stalled == 1);
}

#endif
