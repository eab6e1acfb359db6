/* status.c - what a running gateway tells about itself.
 *
 * Everything here is read from other threads' counters as they are in this moment;
 * nothing waits, and nothing is asked of a shard or a bridge.
 */
#include "app/gateway_internal.h"
#include "app/ledger.h"

#include "base/log.h"
#include "codec/json.h"
#include "os/clock.h"
#include "os/process.h"

#include <inttypes.h>

static const char *const lane_states[] = {
    [MR_LANE_OPEN] = "open",
    [MR_LANE_BEHIND] = "behind",
    [MR_LANE_FULL] = "full",
    [MR_LANE_FAILED] = "failed",
};

static const char *yes_no(bool yes)
{
    return yes ? "true" : "false";
}

static void put_member(struct mr_text *page, const char *name, const char *text)
{
    mr_text_fmt(page, "\"%s\":", name);
    mr_json_add_string(page, mr_span_of(text));
}

/* ---- health ---- */

bool mr_status_health(void *arg, struct mr_text *page)
{
    struct gateway *gateway = arg;
    struct mr_error why = {.code = MR_OK};
    bool alive = mr_broker_failed(gateway->broker, &why) == MR_OK;

    mr_text_fmt(page, "{\"status\":\"%s\"}\n", alive ? "ok" : "the journal has failed");
    return alive;
}

static bool is_listening(struct gateway *gateway)
{
    return atomic_load(&gateway->ready) && !atomic_load(&gateway->stopping);
}

static bool is_writable(struct gateway *gateway)
{
    bool writable = true;

    for (uint32_t i = 0; i < mr_journal_lane_total(gateway->journal); i++) {
        enum mr_lane_state state = mr_lane_state(mr_journal_lane(gateway->journal, i));
        writable = writable && (state == MR_LANE_OPEN || state == MR_LANE_BEHIND);
    }
    return writable;
}

/* A bridge is up when it is in all its lanes; its lags add up. */
struct bridge_sum {
    struct mr_bridge_stats stats; /* of its first lane */
    uint64_t lag_records;
    bool up;
};

/* The bridge of `index` with the others of its name behind it; *index moves on. */
static struct bridge_sum bridge_sum(struct gateway *gateway, uint32_t *index)
{
    struct bridge_sum sum = {.up = true};
    struct mr_bridge_stats stats;

    mr_bridge_stats(gateway->bridges[*index], &sum.stats);
    stats = sum.stats;
    do {
        sum.lag_records += stats.lag_records;
        sum.up = sum.up && stats.up;
        *index += 1;
        if (*index < gateway->bridge_count) {
            mr_bridge_stats(gateway->bridges[*index], &stats);
        }
    } while (*index < gateway->bridge_count && strcmp(stats.name, sum.stats.name) == 0);
    return sum;
}

bool mr_status_ready(void *arg, struct mr_text *page)
{
    struct gateway *gateway = arg;
    bool listening = is_listening(gateway);
    bool writable = is_writable(gateway);

    /* A target that is away is degraded, not unready: the journal is the product.  Nor is a
     * gateway whose books do not balance: turning devices away would lose more.
     */
    mr_text_fmt(page,
                "{\"ready\":%s,\"checks\":{\"listeners\":%s,\"journal\":%s,\"ledger\":%s},"
                "\"bridges\":{",
                yes_no(listening && writable), yes_no(listening), yes_no(writable),
                yes_no(mr_ledger_balances(gateway)));
    mr_mutex_lock(&gateway->mutex);
    for (uint32_t i = 0; i < gateway->bridge_count;) {
        bool first = i == 0;
        struct bridge_sum sum = bridge_sum(gateway, &i);
        mr_text_add(page, first ? "" : ",");
        mr_json_add_string(page, mr_span_of(sum.stats.name));
        mr_text_fmt(page, ":{\"up\":%s,\"lag_records\":%" PRIu64 "}", yes_no(sum.up),
                    sum.lag_records);
    }
    mr_mutex_unlock(&gateway->mutex);
    mr_text_add(page, "}}\n");
    return listening && writable;
}

/* ---- metrics ---- */

void mr_status_make_metrics(struct gateway *gateway)
{
    gateway->metrics.resident = mr_metric_new(MR_METRIC_GAUGE, "process_resident_memory_bytes",
                                              "Resident memory of the gateway.", "");
    gateway->metrics.cpu_us =
        mr_metric_new(MR_METRIC_COUNTER, "millrace_process_cpu_microseconds_total",
                      "CPU time used by all threads, in microseconds.", "");
    gateway->metrics.descriptors =
        mr_metric_new(MR_METRIC_GAUGE, "process_open_fds", "Open descriptors.", "");
    gateway->metrics.uptime =
        mr_metric_new(MR_METRIC_GAUGE, "millrace_uptime_seconds", "Since the start.", "");
    gateway->metrics.reload_ok =
        mr_metric_new(MR_METRIC_GAUGE, "millrace_config_last_reload_successful",
                      "1 if the configuration in force is the one that was read last.", "");
    gateway->metrics.reload_time =
        mr_metric_new(MR_METRIC_GAUGE, "millrace_config_last_reload_success_timestamp_seconds",
                      "When a configuration was last put in force, Unix.", "");
    mr_metric_set(gateway->metrics.reload_ok, 1);
    mr_metric_set(gateway->metrics.reload_time, mr_clock_wall_us() / 1000000);
    mr_metric_set(mr_metric_new(MR_METRIC_GAUGE, "millrace_build_info", "Always 1.",
                                "version=\"" MR_VERSION "\""),
                  1);
}

static int64_t uptime_ns(const struct gateway *gateway)
{
    return mr_clock_mono_ns() - gateway->started_ns;
}

void mr_status_refresh(void *arg)
{
    struct gateway *gateway = arg;

    mr_metric_set(gateway->metrics.resident, (int64_t)mr_memory_resident());
    mr_metric_set(gateway->metrics.cpu_us, mr_clock_cpu_ns() / 1000);
    mr_metric_set(gateway->metrics.descriptors, (int64_t)mr_descriptors_open());
    mr_metric_set(gateway->metrics.uptime, uptime_ns(gateway) / 1000000000);
    mr_mutex_lock(&gateway->mutex);
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        mr_bridge_refresh(gateway->bridges[i]);
    }
    mr_mutex_unlock(&gateway->mutex);
}

/* ---- /api/v1/status ---- */

static void put_lane(struct gateway *gateway, uint32_t index, struct mr_text *page)
{
    struct mr_lane *lane = mr_journal_lane(gateway->journal, index);
    enum mr_lane_state state = mr_lane_state(lane);
    struct mr_lane_stats stats;

    mr_lane_stats(lane, &stats);
    mr_text_fmt(page,
                "%s{\"lane\":%" PRIu32 ",\"state\":\"%s\",\"oldest\":%" PRIu64
                ",\"durable\":%" PRIu64 ",\"next\":%" PRIu64 ",\"segments\":%" PRIu64
                ",\"bytes\":%" PRIu64 ",\"bytes_max\":%" PRIu64,
                index == 0 ? "" : ",", index, lane_states[state], stats.seq_oldest,
                stats.durable_seq, stats.seq_next, stats.segments, stats.bytes_used,
                stats.bytes_max);
    if (state == MR_LANE_FULL) { /* of a failed one the owner tells */
        mr_text_add(page, ",");
        put_member(page, "why", mr_lane_state_text(lane));
    }
    mr_text_add(page, "}");
}

static void put_bridge(struct mr_bridge *bridge, struct mr_text *page)
{
    struct mr_bridge_stats stats;

    mr_bridge_stats(bridge, &stats);
    mr_text_add(page, "{");
    put_member(page, "name", stats.name);
    mr_text_add(page, ",");
    put_member(page, "type", stats.type);
    mr_text_fmt(page,
                ",\"lane\":%" PRIu32 ",\"state\":\"%s\",\"cursor\":%" PRIu64
                ",\"lag_records\":%" PRIu64 ",\"lag_bytes\":%" PRIu64 ",\"lag_seconds\":%" PRIu64
                ",\"inflight\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"skipped\":%" PRIu64
                ",\"dead_letters\":%" PRIu64 ",\"retries\":%" PRIu64 ",",
                stats.lane, mr_bridge_state_name(stats.state), stats.cursor_seq, stats.lag_records,
                stats.lag_bytes, stats.lag_s, stats.inflight, stats.delivered, stats.skipped,
                stats.dead_letters, stats.retries);
    if (stats.live.open) {
        mr_text_fmt(page,
                    "\"live\":{\"from\":%" PRIu64 ",\"cursor\":%" PRIu64 ",\"lag_records\":%" PRIu64
                    ",\"lag_seconds\":%" PRIu64 "},",
                    stats.live.from, stats.live.seq, stats.live.lag_records, stats.live.lag_s);
    } else {
        mr_text_add(page, "\"live\":null,");
    }
    put_member(page, "last_error", stats.last_error);
    mr_text_add(page, "}");
}

void mr_status_bridges(struct gateway *gateway, struct mr_text *page)
{
    mr_text_add(page, "\"bridges\":[");
    mr_mutex_lock(&gateway->mutex);
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        mr_text_add(page, i == 0 ? "" : ",");
        put_bridge(gateway->bridges[i], page);
    }
    mr_mutex_unlock(&gateway->mutex);
    mr_text_add(page, "]");
}

static void put_listeners(struct gateway *gateway, struct mr_text *page)
{
    mr_text_add(page, "\"listeners\":[");
    for (uint32_t i = 0; i < gateway->settings.listener_count; i++) {
        mr_text_add(page, i == 0 ? "{" : ",{");
        put_member(page, "name", gateway->settings.listeners[i].name);
        mr_text_add(page, ",");
        put_member(page, "bind", mr_broker_bound_address(gateway->broker, i));
        mr_text_add(page, "}");
    }
    mr_text_add(page, "]");
}

static void put_clients(struct gateway *gateway, struct mr_text *page)
{
    struct mr_broker_stats stats;

    mr_broker_stats(gateway->broker, &stats);
    mr_text_fmt(page,
                "\"clients\":{\"connected\":%" PRIu64 ",\"connections_total\":%" PRIu64
                ",\"paused\":%" PRIu64 ",\"subscriptions\":%" PRIu64
                ",\"publishes_received\":%" PRIu64 ",\"publishes_sent\":%" PRIu64
                ",\"messages_dropped\":%" PRIu64 ",\"acks_withheld\":%" PRIu64 "}",
                stats.connections, stats.connections_total, stats.connections_paused,
                stats.subscriptions, stats.publishes_received, stats.publishes_sent,
                stats.messages_dropped, stats.acks_withheld);
}

static void count_ban(void *arg, const struct mr_ban_info *info)
{
    (void)info;
    *(uint64_t *)arg += 1;
}

static void put_bans(struct gateway *gateway, struct mr_text *page)
{
    uint64_t count = 0;

    mr_broker_bans(gateway->broker, count_ban, &count);
    mr_text_fmt(page, ",\"bans\":%" PRIu64, count); /* who: /api/v1/bans */
}

void mr_status_page(struct gateway *gateway, struct mr_text *page)
{
    int64_t up_ms = uptime_ns(gateway) / 1000000;

    mr_text_add(page, "{");
    put_member(page, "version", MR_VERSION);
    mr_text_add(page, ",");
    put_member(page, "name", gateway->settings.gateway.name);
    mr_text_fmt(page,
                ",\"journal_id\":\"%s\",\"pid\":%" PRId64 ",\"uptime_seconds\":%" PRId64
                ".%03" PRId64 ",\"ready\":%s,\"lanes\":[",
                gateway->journal_id, mr_process_id(), up_ms / 1000, up_ms % 1000,
                yes_no(is_listening(gateway) && is_writable(gateway)));
    for (uint32_t i = 0; i < mr_journal_lane_total(gateway->journal); i++) {
        put_lane(gateway, i, page);
    }
    mr_text_add(page, "],");
    mr_status_bridges(gateway, page);
    mr_text_add(page, ",");
    put_listeners(gateway, page);
    mr_text_add(page, ",");
    put_clients(gateway, page);
    put_bans(gateway, page);
    mr_text_fmt(page,
                ",\"config\":{\"last_reload_successful\":%s,\"in_force_since\":%" PRId64 "}}\n",
                yes_no(mr_metric_get(gateway->metrics.reload_ok) != 0),
                mr_metric_get(gateway->metrics.reload_time));
}

/* ---- SIGUSR1 ---- */

void mr_status_log(struct gateway *gateway)
{
    for (uint32_t i = 0; i < mr_journal_lane_total(gateway->journal); i++) {
        struct mr_lane_stats lane;
        mr_lane_stats(mr_journal_lane(gateway->journal, i), &lane);
        mr_log(MR_LOG_INFO, "journal",
               "lane %" PRIu32 ": seq %" PRIu64 " to %" PRIu64 ", durable %" PRIu64 ", %" PRIu64
               " of %" PRIu64 " bytes",
               i, lane.seq_oldest, lane.seq_next - 1, lane.durable_seq, lane.bytes_used,
               lane.bytes_max);
    }
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        struct mr_bridge_stats stats;
        mr_bridge_stats(gateway->bridges[i], &stats);
        mr_log(MR_LOG_INFO, "bridge",
               "%s: %s, lane %" PRIu32 ", cursor %" PRIu64 ", %" PRIu64 " records behind, in "
               "flight %" PRIu64 ", dead letters %" PRIu64,
               stats.name, mr_bridge_state_name(stats.state), stats.lane, stats.cursor_seq,
               stats.lag_records, stats.inflight, stats.dead_letters);
    }
}
