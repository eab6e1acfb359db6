/* kafka.c - the producer's life: open, submit, tick, close; see plugin/sink.h.
 *
 * DESIGN
 *
 * Records are handed to librdkafka one by one with produceva, because only that
 * call takes a timestamp.  Values are borrowed, never copied: the pipeline keeps
 * them until the report.  The partition is ours (murmur2 of the key, as the Java
 * client), cached in the route.  Before the first record of a batch all its topics
 * are made sure of, so a batch is taken whole or not at all.
 *
 * Kafka away: what librdkafka has stays queued there without limit of time; what
 * it has not is refused with FULL as soon as the pipeline's bound is reached, and
 * waits in the journal.
 *
 * INVARIANTS
 *
 *   (1) `inflight` is the number of records produced whose report has not come.
 *   (2) While `failing` nothing is produced; it ends when `inflight` is 0, and a
 *       new producer is made before the next record.
 *   (3) When close() returns librdkafka holds no reference to any value.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/hash.h"
#include "os/clock.h"

enum {
    SUBMIT_BUDGET_MS = 600,
    PURGE_WAIT_MS = 1000,
    RENEW_EVERY_MS = 1000,
};

enum field {
    FIELD_TOPIC,
    FIELD_PARTITION,
    FIELD_VALUE,
    FIELD_KEY,
    FIELD_TIME,
    FIELD_OPAQUE,
    FIELD_HEADERS
};

static enum mr_err kafka_init(void *state, const void *conf, struct mr_sink_port *port,
                              struct mr_error *why)
{
    struct kafka *k = state;

    (void)why;
    k->conf = conf;
    k->port = port;
    mr_mutex_init(&k->certificate.mutex);
    if (mr_sink_stream(port)[0] == '\0') { /* said once */
        mr_kafka_security_warn(k->conf, mr_sink_bridge_name(port));
        mr_kafka_certificate_warn(k->conf, mr_sink_bridge_name(port));
    }
    mr_tx_init(k);
    k->batch_bytes = BATCH_BYTES_DEFAULT;
    k->fields[FIELD_TOPIC].vtype = RD_KAFKA_VTYPE_RKT;
    k->fields[FIELD_PARTITION].vtype = RD_KAFKA_VTYPE_PARTITION;
    k->fields[FIELD_VALUE].vtype = RD_KAFKA_VTYPE_VALUE;
    k->fields[FIELD_KEY].vtype = RD_KAFKA_VTYPE_KEY;
    k->fields[FIELD_TIME].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
    k->fields[FIELD_OPAQUE].vtype = RD_KAFKA_VTYPE_OPAQUE;
    for (int i = 0; i < HEADERS_MAX; i++) {
        k->fields[FIELD_HEADERS + i].vtype = RD_KAFKA_VTYPE_HEADER;
    }
    return MR_OK;
}

enum mr_err mr_kafka_producer_make(struct kafka *k, struct mr_error *why)
{
    static const uint64_t one = 1;
    char text[TEXT_MAX];

    rd_kafka_conf_t *rk_conf =
        mr_kafka_conf_make(k->conf, k->batch_bytes, k->tx.state == TX_OFF ? NULL : k->tx.id, why);
    if (rk_conf == NULL) {
        return MR_ERR_CONFIG;
    }
    mr_kafka_reports_to(rk_conf, k);
    mr_kafka_certificate_attach(rk_conf, k);
    mr_kafka_token_attach(rk_conf, k);
    k->rk = rd_kafka_new(RD_KAFKA_PRODUCER, rk_conf, text, sizeof(text));
    if (k->rk == NULL) {
        rd_kafka_conf_destroy(rk_conf);
        mr_kafka_token_free(k);
        return mr_error_set(why, MR_ERR_CONFIG, "librdkafka: %s", text);
    }
    mr_kafka_token_begin(k, k->rk);
    mr_kafka_admin_begin(k);
    k->queue = rd_kafka_queue_get_main(k->rk);
    rd_kafka_queue_io_event_enable(k->queue, mr_sink_wake_fd(k->port), &one, sizeof(one));
    k->generation += 1;
    k->inflight = 0;
    k->failing = false;
    k->purged = false;
    k->stale = false;
    k->renew = false;
    k->shrunk = false;
    k->away_since_ns = 0;
    k->answered = false;
    k->opened_ns = mr_clock_mono_ns();
    mr_kafka_watch_begin(k);
    if (k->tx.state != TX_OFF) {
        mr_tx_opened(k);
    }
    return MR_OK;
}

/* The configuration was checked before the start, so what fails now may pass: a thread or a
 * descriptor that is not to be had, a file that is just being replaced.
 */
static enum mr_err kafka_open(void *state, struct mr_error *why)
{
    return mr_kafka_producer_make(state, why) == MR_OK ? MR_OK : MR_ERR_AGAIN;
}

void mr_kafka_producer_drop(struct kafka *k)
{
    if (k->rk == NULL) {
        return;
    }
    mr_kafka_flush_told(k);
    rd_kafka_queue_io_event_enable(k->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(k->queue);
    mr_kafka_topics_release(k);
    mr_kafka_admin_end(k);
    mr_kafka_token_end(k);
    rd_kafka_destroy(k->rk);
    mr_kafka_token_free(k);
    k->rk = NULL;
    k->queue = NULL;
}

/* ---- submit ---- */

static bool kafka_renew(struct kafka *k)
{
    struct mr_error why;

    mr_kafka_producer_drop(k);
    if (mr_kafka_producer_make(k, &why) == MR_OK) {
        return true;
    }
    mr_sink_down(k->port, why.text);
    return false;
}

/* All topics of the batch are known, so that none of its records has to wait. */
static bool kafka_topics_ready(struct kafka *k, const struct mr_batch *batch)
{
    const struct mr_dest *last = NULL;
    int64_t begin_ns = 0;

    for (uint32_t i = 0; i < batch->record_count; i++) {
        struct mr_dest *dest = batch->records[i].route->dest;
        if (dest == last) {
            continue;
        }
        last = dest;
        const struct topic *topic = dest->sink_data;
        if (topic != NULL && topic->generation == k->generation && topic->partitions != 0) {
            continue;
        }
        if (begin_ns == 0) {
            begin_ns = mr_clock_mono_ns();
        }
        if (!mr_kafka_topic_ready(k, dest) ||
            mr_clock_mono_ns() - begin_ns > SUBMIT_BUDGET_MS * NS_PER_MS) {
            return false;
        }
    }
    return true;
}

/* A route remembers its partition together with the age of the topic's count, so that
 * a new count makes it choose anew: `route->partition` is age << 24 | partition, and -1
 * at first.  (Kafka's controller gives up far below 2^24 partitions.)
 */
enum { PARTITION_BITS = 24, AGE_MASK = 0x7f };

static bool kafka_partition_known(const struct mr_route *route, const struct topic *topic)
{
    return route->partition >> PARTITION_BITS == (int32_t)(topic->count_age & AGE_MASK);
}

/* Records without a key go where their client's would, so its order holds. */
static int32_t kafka_partition(const struct mr_route *route, const struct topic *topic)
{
    struct mr_span by = route->key.len != 0 ? route->key : route->client;

    return (int32_t)(topic->count_age & AGE_MASK) << PARTITION_BITS |
           mr_kafka_partition(by.at, by.len, topic->partitions);
}

static struct topic *topic_of(const struct mr_record *record)
{
    return record->route->dest->sink_data;
}

static rd_kafka_resp_err_t kafka_produce(struct kafka *k, const struct mr_record *record)
{
    struct mr_route *route = record->route;
    struct topic *topic = topic_of(record);
    rd_kafka_vu_t *f = k->fields;
    size_t field_count = FIELD_HEADERS;

    if (MR_UNLIKELY(topic->partitions == 0)) {
        return RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION; /* impossible: else it would not be ready */
    }
    if (MR_UNLIKELY(!kafka_partition_known(route, topic))) {
        route->partition = kafka_partition(route, topic);
    }
    f[FIELD_TOPIC].u.rkt = topic->rkt;
    f[FIELD_PARTITION].u.i32 = route->partition & ((1 << PARTITION_BITS) - 1);
    /* An empty payload is an empty value; only NULL would be a tombstone. */
    f[FIELD_VALUE].u.mem.ptr =
        (void *)(uintptr_t)(record->value.len == 0 ? (const void *)"" : record->value.at);
    f[FIELD_VALUE].u.mem.size = record->value.len;
    f[FIELD_KEY].u.mem.ptr = route->key.len == 0 ? NULL : (void *)(uintptr_t)route->key.at;
    f[FIELD_KEY].u.mem.size = route->key.len;
    f[FIELD_TIME].u.i64 = record->time_ms;
    for (uint16_t i = 0; i < record->header_count && i < HEADERS_MAX; i++) {
        f[field_count].u.header.name = (const char *)record->headers[i].name.at;
        f[field_count].u.header.val = record->headers[i].value.at;
        f[field_count].u.header.size = (ssize_t)record->headers[i].value.len;
        field_count += 1;
    }

    rd_kafka_error_t *error = rd_kafka_produceva(k->rk, f, field_count);
    if (MR_LIKELY(error == NULL)) {
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    rd_kafka_resp_err_t err = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    return err;
}

/* The batch is ours, but this record and those behind it were not produced. */
static void kafka_break_off(struct kafka *k, const struct mr_batch *batch, uint32_t from,
                            rd_kafka_resp_err_t err)
{
    const struct mr_dest *dest = batch->records[from].route->dest;
    struct topic *topic = dest->sink_data;
    char text[TEXT_MAX];

    mr_kafka_refusal(k, err, topic, dest->name, text, sizeof(text));
    if (mr_kafka_is_refusal(err)) {
        mr_kafka_refused(k, err, topic, dest->name);
    }
    mr_kafka_fail(k);
    mr_sink_settle(k->port, batch->token, batch->record_count - from, MR_VERDICT_RETRY,
                   mr_kafka_is_consequence(err) ? NULL : text);
}

/* At least once: there is a producer, or a new one can be made. */
static bool kafka_takes(struct kafka *k)
{
    return !k->failing && ((!k->stale && k->rk != NULL) || kafka_renew(k));
}

static enum mr_err kafka_submit(void *state, const struct mr_batch *batch)
{
    struct kafka *k = state;
    bool exactly = k->tx.state != TX_OFF;

    k->offered_seq = batch->seq_last;
    if (!(exactly ? mr_tx_takes(k) : kafka_takes(k)) || !kafka_topics_ready(k, batch) ||
        (exactly && !mr_tx_enter(k, batch))) {
        return MR_ERR_FULL;
    }
    uint64_t before = k->inflight;
    k->fields[FIELD_OPAQUE].u.ptr = batch->token;
    for (uint32_t i = 0; i < batch->record_count; i++) {
        rd_kafka_resp_err_t err = kafka_produce(k, &batch->records[i]);
        if (MR_LIKELY(err == RD_KAFKA_RESP_ERR_NO_ERROR)) {
            k->inflight += 1;
        } else if (err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
            mr_sink_reject(k->port, batch->token, batch->records[i].seq,
                           "key, value and headers together are larger than librdkafka's "
                           "message.max.bytes");
        } else if (topic_of(&batch->records[i])->partitions == 0) {
            mr_sink_reject(k->port, batch->token, batch->records[i].seq,
                           topic_of(&batch->records[i])->impossible);
        } else {
            kafka_break_off(k, batch, i, err);
            break;
        }
    }
    if (exactly) {
        mr_tx_entered(k, batch, (uint32_t)(k->inflight - before));
    }
    return MR_OK;
}

/* ---- tick ---- */

/* At least once: after a failure everything is given back, then this producer is done for. */
static void kafka_give_back(struct kafka *k, int64_t now_ns)
{
    if (k->failing) {
        if (!k->purged) {
            k->purged = true;
            rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
            rd_kafka_poll(k->rk, 0);
            mr_kafka_flush_told(k);
        }
        if (k->inflight == 0) {
            k->failing = false;
            k->stale = true;
        }
    }
    /* Certificate and key may be replaced one after the other: not at once again. */
    if (k->renew && k->stale && now_ns >= k->certificate.look_at_ns) {
        k->certificate.look_at_ns = now_ns + RENEW_EVERY_MS * NS_PER_MS;
        (void)kafka_renew(k);
    }
}

static void kafka_tick(void *state, int64_t now_ns)
{
    struct kafka *k = state;

    if (k->rk != NULL) {
        rd_kafka_poll(k->rk, 0);
        mr_kafka_flush_told(k);
    }
    if (k->tx.state != TX_OFF) {
        mr_tx_tick(k, now_ns);
    } else {
        kafka_give_back(k, now_ns);
    }
    if (k->rk == NULL) {
        return;
    }
    mr_kafka_watch(k, now_ns);
    mr_kafka_admin_tick(k, now_ns);
}

/* ---- end ---- */

static void kafka_close(void *state, int64_t patience_ns)
{
    struct kafka *k = state;

    if (k->tx.state != TX_OFF) {
        mr_tx_close(k, patience_ns);
        return;
    }
    if (k->rk == NULL) {
        return;
    }
    if (!k->failing && k->inflight != 0 && patience_ns > 0) {
        rd_kafka_flush(k->rk,
                       (int)(patience_ns / NS_PER_MS < 600000 ? patience_ns / NS_PER_MS : 600000));
    }
    if (k->inflight != 0) {
        int64_t until_ns = mr_clock_mono_ns() + PURGE_WAIT_MS * NS_PER_MS;
        rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        while (k->inflight != 0 && mr_clock_mono_ns() < until_ns) {
            rd_kafka_poll(k->rk, 10);
        }
    }
    mr_kafka_producer_drop(k); /* joins librdkafka's threads: (3) */
}

static void kafka_fini(void *state)
{
    struct kafka *k = state;

    mr_finder_end(k);
    mr_kafka_producer_drop(k);
    mr_tx_fini(k); /* librdkafka's threads have ended */
    mr_kafka_topics_free(k);
    mr_mutex_fini(&k->certificate.mutex);
}

static void kafka_shape(const void *conf_of, struct mr_shape *out)
{
    const struct mr_kafka_conf *conf = conf_of;

    *out = (struct mr_shape){
        .dest_template = conf->topic,
        .dest_option = "topic",
        .key_template = conf->message_key,
        .key_option = "message_key",
        .value_encoder = (enum mr_value_encoder)conf->value_encoder,
        .headers = (enum mr_headers)conf->headers.choice,
        .header_option = "headers",
        .header_list = conf->headers.pairs,
        .keeps_position = conf->delivery == MR_KAFKA_EXACTLY_ONCE,
        .dests_max = (uint32_t)conf->max_topics,
        .value_bytes_max = mr_kafka_message_bytes_max(conf),
        .dest_refused = mr_kafka_topic_refused,
    };
}

static uint32_t kafka_partitions(const void *state, const char *name)
{
    const struct kafka *k = state;
    const struct topic *topic = k->topics;

    while (topic != NULL && strcmp(topic->name, name) != 0) {
        topic = topic->next;
    }
    return topic == NULL ? 0 : (uint32_t)topic->partitions;
}

const struct mr_sink_ops mr_kafka_sink = {
    .name = "kafka",
    .state_size = sizeof(struct kafka),
    .conf_size = sizeof(struct mr_kafka_conf),
    .options = mr_kafka_options,
    .check = mr_kafka_check,
    .shape = kafka_shape,
    .init = kafka_init,
    .open = kafka_open,
    .place = mr_tx_place,
    .submit = kafka_submit,
    .tick = kafka_tick,
    .partitions = kafka_partitions,
    .close = kafka_close,
    .fini = kafka_fini,
};
