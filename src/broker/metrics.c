/* metrics.c - the shard's numbers.
 *
 * Counters of events are added to where they happen; what net counts itself and
 * all gauges are copied once per turn.
 */
#include "broker/gates_internal.h"

/* Each shard writes its own; `more` are labels beside the shard's number. */
static struct mr_metric *shard_metric(uint32_t index, enum mr_metric_kind kind, const char *name,
                                      const char *help, const char *more)
{
    char labels[80];
    struct mr_text text = mr_text_over(labels, sizeof(labels));

    mr_text_fmt(&text, "shard=\"%u\"%s%s", index, more[0] == '\0' ? "" : ",", more);
    return mr_metric_new(kind, name, help, labels);
}

static struct mr_metric *counter(uint32_t index, const char *name, const char *help,
                                 const char *more)
{
    return shard_metric(index, MR_METRIC_COUNTER, name, help, more);
}

static struct mr_metric *gauge(uint32_t index, const char *name, const char *help)
{
    return shard_metric(index, MR_METRIC_GAUGE, name, help, "");
}

static void packet_metrics_make(struct shard_metrics *m, uint32_t index)
{
    for (uint8_t type = 1; type < 16; type++) {
        char labels[48];
        struct mr_text text = mr_text_over(labels, sizeof(labels));
        mr_text_fmt(&text, "type=\"%s\"", mr_mqtt_type_name(type));
        m->packets_received[type] =
            counter(index, "millrace_mqtt_packets_received_total", "MQTT packets received", labels);
    }
    m->packets_received[0] = m->packets_received[1]; /* type 0 never gets this far */
}

static uint64_t sum_received(const struct shard_metrics *m)
{
    return (uint64_t)(mr_metric_get(m->publish_received[0]) +
                      mr_metric_get(m->publish_received[1]) +
                      mr_metric_get(m->publish_received[2]));
}

static uint64_t sum_sent(const struct shard_metrics *m)
{
    return (uint64_t)(mr_metric_get(m->publish_sent[0]) + mr_metric_get(m->publish_sent[1]) +
                      mr_metric_get(m->publish_sent[2]));
}

static uint64_t sum_dropped(const struct shard_metrics *m)
{
    return (uint64_t)(mr_metric_get(m->dropped_slow) + mr_metric_get(m->dropped_memory) +
                      mr_metric_get(m->dropped_large) + mr_metric_get(m->dropped_mailbox) +
                      mr_metric_get(m->dropped_damaged));
}

static const char *const ends[END_COUNT] = {
    [END_CLIENT] = "reason=\"client\"",
    [END_CLOSED] = "reason=\"closed\"",
    [END_TAKEN_OVER] = "reason=\"taken_over\"",
    [END_KEEP_ALIVE] = "reason=\"keep_alive\"",
    [END_REFUSED] = "reason=\"refused\"",
    [END_PROTOCOL] = "reason=\"protocol\"",
    [END_SHUTDOWN] = "reason=\"shutdown\"",
    [END_MEMORY] = "reason=\"memory\"",
    [END_TLS] = "reason=\"tls\"",
    [END_WEBSOCKET] = "reason=\"websocket\"",
    [END_PROXY] = "reason=\"proxy\"",
    [END_KICKED] = "reason=\"kicked\"",
    [END_AUTH] = "reason=\"auth\"",
};

/* What the rules of ACL files forbade. */
static void denied_metrics_make(struct shard_metrics *m, uint32_t index)
{
    static const char name[] = "millrace_mqtt_acl_denied_total";
    static const char help[] = "what the rules of ACL files forbade";

    m->denied_publish = counter(index, name, help, "action=\"publish\"");
    m->denied_subscribe = counter(index, name, help, "action=\"subscribe\"");
    m->denied_deliver = counter(index, name, help, "action=\"deliver\"");
    m->denied_will = counter(index, name, help, "action=\"will\"");
}

/* What came of a full journal where publishers do not wait for it. */
static void refused_metrics_make(struct shard_metrics *m, uint32_t index)
{
    static const char name[] = "millrace_mqtt_publish_refused_full_total";
    static const char help[] =
        "publishes that were not taken because the journal was full (QoS 0: dropped)";

    m->refused_full[0] = counter(index, name, help, "qos=\"0\"");
    m->refused_full[1] = counter(index, name, help, "qos=\"1\"");
    m->refused_full[2] = counter(index, name, help, "qos=\"2\"");
    m->refusing = gauge(index, "millrace_mqtt_publish_refusing",
                        "1 while publishes are refused because the journal is full");
}

void shard_metrics_make(struct mr_shard *shard, uint32_t index)
{
    static const char *const logins_help = "passwords checked, by what came of it";
    static const char *const drop_help = "messages not delivered to a subscriber";
    struct shard_metrics *m = &shard->metrics;

    m->connections = gauge(index, "millrace_mqtt_connections", "MQTT connections now");
    m->connections_total =
        counter(index, "millrace_mqtt_connections_total", "MQTT connections accepted", "");
    m->connections_refused = counter(index, "millrace_mqtt_accept_pauses_total",
                                     "times accepting waited for a place", "");
    for (int i = 0; i < END_COUNT; i++) {
        m->disconnects[i] =
            counter(index, "millrace_mqtt_disconnects_total", "MQTT connections ended", ends[i]);
    }
    m->publish_received[0] = counter(index, "millrace_mqtt_publish_received_total",
                                     "publishes accepted from clients", "qos=\"0\"");
    m->publish_received[1] = counter(index, "millrace_mqtt_publish_received_total",
                                     "publishes accepted from clients", "qos=\"1\"");
    m->publish_received[2] = counter(index, "millrace_mqtt_publish_received_total",
                                     "publishes accepted from clients", "qos=\"2\"");
    m->publish_sent[0] = counter(index, "millrace_mqtt_publish_sent_total",
                                 "publishes sent to subscribers", "qos=\"0\"");
    m->publish_sent[1] = counter(index, "millrace_mqtt_publish_sent_total",
                                 "publishes sent to subscribers", "qos=\"1\"");
    m->publish_sent[2] = counter(index, "millrace_mqtt_publish_sent_total",
                                 "publishes sent to subscribers", "qos=\"2\"");
    packet_metrics_make(m, index);
    m->bytes_received =
        counter(index, "millrace_mqtt_bytes_received_total", "bytes from clients", "");
    m->bytes_sent = counter(index, "millrace_mqtt_bytes_sent_total", "bytes to clients", "");
    m->dropped_slow = counter(index, "millrace_mqtt_messages_dropped_total", drop_help,
                              "reason=\"slow_subscriber\"");
    m->dropped_memory =
        counter(index, "millrace_mqtt_messages_dropped_total", drop_help, "reason=\"memory\"");
    m->dropped_refused = counter(index, "millrace_mqtt_messages_dropped_total", drop_help,
                                 "reason=\"topic_refused\"");
    m->dropped_large =
        counter(index, "millrace_mqtt_messages_dropped_total", drop_help, "reason=\"too_large\"");
    m->dropped_mailbox =
        counter(index, "millrace_mqtt_messages_dropped_total", drop_help, "reason=\"shard_busy\"");
    m->dropped_damaged =
        counter(index, "millrace_mqtt_messages_dropped_total", drop_help, "reason=\"damaged\"");
    denied_metrics_make(m, index);
    refused_metrics_make(m, index);
    m->dropped_retained = counter(index, "millrace_mqtt_retained_dropped_total",
                                  "messages delivered but not retained for lack of room", "");
    m->sessions = gauge(index, "millrace_mqtt_sessions", "persistent sessions, connected or not");
    m->queued =
        gauge(index, "millrace_mqtt_queued_messages", "messages owed to persistent sessions");
    m->retained = gauge(index, "millrace_mqtt_retained_messages", "topics with a retained message");
    m->logins_accepted =
        counter(index, "millrace_mqtt_logins_total", logins_help, "result=\"accepted\"");
    m->logins_refused =
        counter(index, "millrace_mqtt_logins_total", logins_help, "result=\"refused\"");
    m->logins_busy = counter(index, "millrace_mqtt_logins_total", logins_help, "result=\"busy\"");
    m->subscriptions = gauge(index, "millrace_mqtt_subscriptions", "live subscriptions");
    m->acks_withheld = gauge(index, "millrace_mqtt_acks_withheld", "acks waiting for the journal");
    m->paused = gauge(index, "millrace_mqtt_connections_paused",
                      "connections not read because the journal or memory is full");
    m->buffers_lent = gauge(index, "millrace_mqtt_buffer_bytes", "memory lent to connections");
    m->puback_latency = shard_metric(index, MR_METRIC_HISTOGRAM, "millrace_mqtt_puback_seconds",
                                     "from append to PUBACK sent, sampled once per commit", "");
    shard->stats.publishes_received_before = sum_received(m);
    shard->stats.publishes_sent_before = sum_sent(m);
    shard->stats.dropped_before = sum_dropped(m);
}

static void stat_store(_Atomic uint64_t *stat, uint64_t value)
{
    atomic_store_explicit(stat, value, memory_order_relaxed);
}

void shard_metrics_update(struct mr_shard *shard)
{
    const struct mr_net_stats *net = mr_net_stats(shard->net);
    struct shard_metrics *m = &shard->metrics;
    struct shard_stats *s = &shard->stats;
    uint64_t held = gates_held(shard);
    uint64_t subscriptions = mr_subtree_count(shard->subtree);

    mr_metric_set(m->connections, (int64_t)net->open);
    mr_metric_set(m->connections_refused, (int64_t)net->refused);
    mr_metric_set(m->bytes_received, (int64_t)net->bytes_received);
    mr_metric_set(m->bytes_sent, (int64_t)net->bytes_sent);
    mr_metric_set(m->subscriptions, (int64_t)subscriptions);
    mr_metric_set(m->acks_withheld, (int64_t)held);
    mr_metric_set(m->sessions, (int64_t)shard->keeps_count);
    mr_metric_set(m->queued, (int64_t)shard->queued);
    mr_metric_set(m->retained, (int64_t)shard->retained_count);
    mr_metric_set(m->paused, (int64_t)net->paused);
    mr_metric_set(m->buffers_lent, (int64_t)shard->pool.lent_bytes);
    stat_store(&s->connections, net->open);
    stat_store(&s->connections_total, net->accepted);
    stat_store(&s->publishes_received, sum_received(m) - s->publishes_received_before);
    stat_store(&s->publishes_sent, sum_sent(m) - s->publishes_sent_before);
    stat_store(&s->dropped, sum_dropped(m) - s->dropped_before);
    stat_store(&s->subscriptions, subscriptions);
    stat_store(&s->withheld, held);
    stat_store(&s->sessions, shard->keeps_count);
    stat_store(&s->queued, shard->queued);
    stat_store(&s->retained, shard->retained_count);
    stat_store(&s->paused, net->paused);
    stat_store(&s->bytes_received, net->bytes_received);
    stat_store(&s->bytes_sent, net->bytes_sent);
    stat_store(&s->clients, shard->sessions_count);
    stat_store(&s->clients_online, shard->clients_online);
    stat_store(&s->clients_expired, shard->clients_expired);
    stat_store(&s->payload_received, shard->payload_received);
    stat_store(&s->payload_sent, shard->payload_sent);
    stat_store(&s->shared, mr_subtree_shared_count(shard->subtree));
    stat_store(&s->kept, shard->kept_count);
    stat_store(&s->kept_bytes, shard->kept_bytes);
    stat_store(&s->memory, shard->pool.lent_bytes);
}
