/* wire.c - see wire.h.
 *
 * DESIGN
 *
 * struct gateway owns every component; start() brings them up in the order of the
 * picture, stop() takes them down in the opposite one and may be called at any
 * stage of a failed start.  Between the two the main thread only waits for a
 * signal or for a component that has failed.
 */
#include "app/wire.h"

#include "admin/admin.h"
#include "app/settings.h"
#include "base/log.h"
#include "base/metric.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/process.h"
#include "sink/kafka/kafka.h"

#include <stdio.h>
#include <stdlib.h>

const struct mr_sink_ops *const mr_sinks[] = {&mr_kafka_sink, NULL};

enum { PATH_BYTES = 4096 };

struct gateway {
    struct mr_settings settings;
    struct mr_file lock;
    struct mr_journal *journal;
    struct mr_broker *broker;
    struct mr_bridge_group **groups; /* one per bridge */
    uint32_t group_count;
    struct mr_bridge **bridges; /* one per bridge and lane, those of a bridge in a row */
    uint32_t bridge_count;
    struct mr_admin *admin;
    struct mr_wake wake; /* signals, failures */
    int64_t started_ns;
    _Atomic bool ready;
    _Atomic bool stopping;
    struct {
        struct mr_metric *resident;
        struct mr_metric *cpu_us;
        struct mr_metric *descriptors;
        struct mr_metric *uptime;
    } metrics;
    char sessions_path[PATH_BYTES];
};

/* ---- settings, as run and check read them ---- */

static void write_stderr(void *arg, const char *text, size_t len)
{
    (void)arg;
    (void)fwrite(text, 1, len, stderr);
}

/* `warn` may be NULL: whoever goes on to run hears it then. */
static enum mr_err read_settings(struct mr_cli *cli, struct mr_settings *out, const char *data,
                                 void (*warn)(void *arg, const char *text))
{
    enum { SETS_MAX = 64 };
    const char *paths[SETS_MAX];
    const char *values[SETS_MAX];
    size_t count = mr_cli_set_count(cli);

    count = count > SETS_MAX ? SETS_MAX : count;
    for (size_t i = 0; i < count; i++) {
        mr_cli_set_at(cli, i, &paths[i], &values[i]);
    }
    enum mr_err err = mr_settings_open(out, &(struct mr_settings_source){
                                                .path = mr_cli_config_path(cli),
                                                .data = data,
                                                .set_paths = paths,
                                                .set_values = values,
                                                .set_count = count,
                                            });
    if (err == MR_OK) {
        err = mr_settings_check_files(out, warn, cli);
    }
    if (err != MR_OK) {
        mr_config_report(out->config, mr_cli_color_err(cli), write_stderr, NULL);
    }
    return err;
}

const char *mr_wire_data_path(const char *config_path, char *buffer, size_t size)
{
    struct mr_settings settings;
    struct mr_text path = mr_text_over(buffer, size);
    enum mr_err err =
        mr_settings_open(&settings, &(struct mr_settings_source){.path = config_path});

    if (err != MR_OK) {
        mr_config_report(settings.config, false, write_stderr, NULL);
    } else {
        mr_text_add(&path, settings.gateway.data);
    }
    mr_settings_close(&settings);
    return err == MR_OK && !path.truncated ? buffer : NULL;
}

/* ---- health ---- */

static bool on_health(void *arg, struct mr_text *page)
{
    struct gateway *gateway = arg;
    struct mr_error why = {.code = MR_OK};
    bool alive = mr_broker_failed(gateway->broker, &why) == MR_OK;

    mr_text_fmt(page, "{\"status\":\"%s\"}\n", alive ? "ok" : "the journal has failed");
    return alive;
}

/* One lane that takes nothing keeps the clients of its shard waiting. */
static bool is_writable(struct gateway *gateway)
{
    for (uint32_t lane = 0; lane < mr_journal_lane_count(gateway->journal); lane++) {
        enum mr_lane_state state = mr_lane_state(mr_journal_lane(gateway->journal, lane));
        if (state != MR_LANE_OPEN && state != MR_LANE_BEHIND) {
            return false;
        }
    }
    return true;
}

/* The bridge whose first lane is bridges[*at]: all its lanes together; *at moves on. */
static void sum_bridge(struct gateway *gateway, uint32_t *at, struct mr_bridge_stats *sum,
                       uint64_t *lag)
{
    mr_bridge_stats(gateway->bridges[*at], sum);
    *lag = sum->durable_seq - sum->cursor_seq;
    for (*at += 1; *at < gateway->bridge_count; *at += 1) {
        struct mr_bridge_stats stats;

        mr_bridge_stats(gateway->bridges[*at], &stats);
        if (strcmp(stats.name, sum->name) != 0) {
            break;
        }
        *lag += stats.durable_seq - stats.cursor_seq;
        sum->inflight += stats.inflight;
        sum->dead_letters += stats.dead_letters;
        sum->up = sum->up && stats.up;
    }
}

static bool on_ready(void *arg, struct mr_text *page)
{
    struct gateway *gateway = arg;
    bool listening = atomic_load(&gateway->ready) && !atomic_load(&gateway->stopping);
    bool writable = is_writable(gateway);

    /* A target that is away is degraded, not unready: the journal is the product. */
    mr_text_fmt(page, "{\"ready\":%s,\"checks\":{\"listeners\":%s,\"journal\":%s},\"bridges\":{",
                listening && writable ? "true" : "false", listening ? "true" : "false",
                writable ? "true" : "false");
    for (uint32_t i = 0; i < gateway->bridge_count;) {
        struct mr_bridge_stats stats;
        uint64_t lag = 0;
        const char *comma = i == 0 ? "" : ",";
        sum_bridge(gateway, &i, &stats, &lag);
        mr_text_fmt(page, "%s\"%s\":{\"up\":%s,\"lag_records\":%llu}", comma, stats.name,
                    stats.up ? "true" : "false", (unsigned long long)lag);
    }
    mr_text_add(page, "}}\n");
    return listening && writable;
}

static void on_refresh(void *arg)
{
    struct gateway *gateway = arg;

    mr_metric_set(gateway->metrics.resident, (int64_t)mr_memory_resident());
    mr_metric_set(gateway->metrics.cpu_us, mr_clock_cpu_ns() / 1000);
    mr_metric_set(gateway->metrics.descriptors, (int64_t)mr_descriptors_open());
    mr_metric_set(gateway->metrics.uptime, (mr_clock_mono_ns() - gateway->started_ns) / 1000000000);
}

static void make_metrics(struct gateway *gateway)
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
    mr_metric_set(mr_metric_new(MR_METRIC_GAUGE, "millrace_build_info", "Always 1.",
                                "version=\"" MR_VERSION "\""),
                  1);
}

/* ---- start ---- */

static void join_path(char out[PATH_BYTES], const char *folder, const char *name)
{
    struct mr_text text = mr_text_over(out, PATH_BYTES);

    mr_text_fmt(&text, "%s/%s", folder, name);
}

/* The largest packet, and the names that a record adds to it. */
static uint32_t record_bytes_max(const struct mr_settings *settings)
{
    return (uint32_t)settings->broker.max_packet_size + 3 * 65536;
}

/* On 2 cores one shard beats two by a third: bridges and commits need the other half. */
static uint32_t shards_auto(void)
{
    unsigned half = mr_cpu_count() / 2;

    return half < 1 ? 1 : half > 256 ? 256 : half;
}

static enum mr_err start_journal(struct gateway *gateway, struct mr_error *why)
{
    const struct mr_journal_conf *conf = &gateway->settings.journal;
    char path[PATH_BYTES];

    enum mr_err err = mr_dir_create(gateway->settings.gateway.data, why);
    if (err == MR_OK) {
        err = mr_dir_lock(gateway->settings.gateway.data, &gateway->lock, why);
    }
    if (err != MR_OK) {
        return err;
    }
    join_path(path, gateway->settings.gateway.data, "journal");
    return mr_journal_open(
        &gateway->journal,
        &(struct mr_journal_options){
            .path = path,
            .name = "journal",
            .lane_count = (uint32_t)gateway->settings.gateway.shards,
            .lane_count_new = shards_auto(),
            .max_bytes = conf->max_bytes,
            .keep_us = conf->keep_us,
            .segment_bytes = (uint32_t)conf->segment_bytes,
            .record_bytes_max = (uint32_t)gateway->settings.broker.max_packet_size + 131072,
            .commit_delay_us_max =
                conf->commit_delay_us == 0 ? MR_COMMIT_AT_ONCE : (uint32_t)conf->commit_delay_us,
        },
        NULL, why);
}

/* The bridge in one lane. */
static enum mr_err start_bridge(struct gateway *gateway, const struct mr_bridge_settings *bridge,
                                uint32_t lane, struct mr_error *why)
{
    const struct mr_settings *settings = &gateway->settings;
    struct mr_bridge *made = NULL;
    char dead_letters[PATH_BYTES];
    struct mr_text path = mr_text_over(dead_letters, sizeof(dead_letters));

    mr_text_fmt(&path, "%s/dead-letters/%s", settings->gateway.data, bridge->name);
    enum mr_err err =
        mr_bridge_create(&made,
                         &(struct mr_bridge_options_run){
                             .group = gateway->groups[gateway->group_count - 1],
                             .name = bridge->name,
                             .gateway_name = settings->gateway.name,
                             .journal = gateway->journal,
                             .lane = lane,
                             .conf = &bridge->conf,
                             .sink = bridge->sink,
                             .sink_conf = bridge->sink_conf,
                             .dead_letters_path = dead_letters,
                             .dead_letters_bytes_max = settings->journal.dead_letters_bytes_max,
                             .record_bytes_max = record_bytes_max(settings),
                             .packet_bytes_max = (uint32_t)settings->broker.max_packet_size,
                         },
                         why);
    if (err != MR_OK) {
        return err;
    }
    gateway->bridges[gateway->bridge_count++] = made;
    return mr_bridge_start(made, why);
}

static enum mr_err start_bridges(struct gateway *gateway, struct mr_error *why)
{
    const struct mr_settings *settings = &gateway->settings;
    uint32_t lanes = mr_journal_lane_total(gateway->journal);
    enum mr_err err = MR_OK;

    gateway->groups = mr_alloc((settings->bridge_count + 1) * sizeof(struct mr_bridge_group *));
    gateway->bridges =
        mr_alloc(((size_t)settings->bridge_count * lanes + 1) * sizeof(struct mr_bridge *));
    for (uint32_t i = 0; i < settings->bridge_count && err == MR_OK; i++) {
        const struct mr_bridge_settings *bridge = &settings->bridges[i];
        struct mr_bridge_group *group = NULL;

        err = mr_bridge_group_open(&group, gateway->journal, bridge->name, &bridge->conf, why);
        if (err != MR_OK) {
            return err;
        }
        gateway->groups[gateway->group_count++] = group;
        for (uint32_t lane = 0; lane < lanes && err == MR_OK; lane++) {
            if (mr_bridge_group_needs(group, lane)) {
                err = start_bridge(gateway, bridge, lane, why);
            }
        }
    }
    return err;
}

static enum mr_err start_broker(struct gateway *gateway, struct mr_error *why)
{
    const struct mr_settings *settings = &gateway->settings;
    uint64_t memory = settings->gateway.memory_bytes;

    join_path(gateway->sessions_path, settings->gateway.data, "sessions");
    enum mr_err err =
        mr_broker_open(&gateway->broker,
                       &(struct mr_broker_run){
                           .journal = gateway->journal,
                           .listeners = settings->listeners,
                           .listener_count = settings->listener_count,
                           .limits = settings->broker,
                           .auth = settings->auth,
                           .journal_exclude = settings->journal.exclude,
                           .sessions_path = gateway->sessions_path,
                           .memory_bytes = memory != 0 ? memory : mr_memory_total() / 4,
                           .failed_wake = &gateway->wake,
                       },
                       why);
    if (err == MR_OK) {
        err = mr_broker_start(gateway->broker, why);
    }
    if (err != MR_OK) {
        return err;
    }
    for (uint32_t i = 0; i < settings->listener_count; i++) {
        mr_log(MR_LOG_INFO, "listener", "listening on %s (%s)",
               mr_broker_bound_address(gateway->broker, i), settings->listeners[i].name);
    }
    if (settings->listeners_default) {
        mr_log(MR_LOG_INFO, "listener",
               "only this machine can connect; for devices add `listeners: { mqtt: { bind: "
               "\"0.0.0.0:1883\", allow_anonymous: true } }`");
    }
    return MR_OK;
}

static enum mr_err start_admin(struct gateway *gateway, struct mr_error *why)
{
    const struct mr_admin_conf *conf = &gateway->settings.admin;
    struct mr_error local;

    if (!conf->enable) {
        return MR_OK;
    }
    enum mr_err err = mr_admin_start(&gateway->admin,
                                     &(struct mr_admin_options){
                                         .bind = conf->bind != NULL ? conf->bind : "127.0.0.1:8080",
                                         .health = on_health,
                                         .ready = on_ready,
                                         .refresh = on_refresh,
                                         .arg = gateway,
                                     },
                                     &local);
    if (err == MR_OK) {
        mr_log(MR_LOG_INFO, "admin", "listening on http://%s", mr_admin_address(gateway->admin));
        return MR_OK;
    }
    if (conf->bind != NULL) {
        return mr_error_set(why, err, "%s", local.text);
    }
    /* Nobody asked for this address; another service on it must not stop the gateway. */
    mr_log(MR_LOG_WARN, "admin", "%s; going on without metrics, set admin.bind to have them",
           local.text);
    return MR_OK;
}

static enum mr_err start(struct gateway *gateway, struct mr_error *why)
{
    enum mr_err err = start_journal(gateway, why);

    if (err == MR_OK) {
        err = start_bridges(gateway, why);
    }
    if (err == MR_OK) {
        err = start_broker(gateway, why);
    }
    if (err == MR_OK) {
        err = start_admin(gateway, why);
    }
    if (err == MR_OK) {
        atomic_store(&gateway->ready, true);
        mr_log(MR_LOG_INFO, "gateway", "ready");
    }
    return err;
}

/* ---- wait, stop ---- */

static void dump_state(struct gateway *gateway)
{
    for (uint32_t i = 0; i < mr_journal_lane_total(gateway->journal); i++) {
        struct mr_lane_stats lane;

        mr_lane_stats(mr_journal_lane(gateway->journal, i), &lane);
        mr_log(MR_LOG_INFO, "journal",
               "lane %u: seq %llu to %llu, durable %llu, %llu of %llu bytes", i,
               (unsigned long long)lane.seq_oldest, (unsigned long long)(lane.seq_next - 1),
               (unsigned long long)lane.durable_seq, (unsigned long long)lane.bytes_used,
               (unsigned long long)lane.bytes_max);
    }
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        struct mr_bridge_stats stats;
        mr_bridge_stats(gateway->bridges[i], &stats);
        mr_log(MR_LOG_INFO, "bridge",
               "%s: lane %u, %s, cursor %llu, in flight %llu, dead letters %llu", stats.name,
               stats.lane, stats.up ? "up" : "down", (unsigned long long)stats.cursor_seq,
               (unsigned long long)stats.inflight, (unsigned long long)stats.dead_letters);
    }
}

/* Until a signal says stop (MR_OK) or a component has failed. */
static enum mr_err wait_for_end(struct gateway *gateway, struct mr_error *why)
{
    for (;;) {
        unsigned signals = mr_signals_take();

        enum mr_err err = mr_broker_failed(gateway->broker, why);

        if (err != MR_OK) {
            return err;
        }
        if (signals & MR_SIGNAL_TERMINATE) {
            return MR_OK;
        }
        if (signals & MR_SIGNAL_RELOAD) {
            mr_log(MR_LOG_WARN, "gateway",
                   "SIGHUP: this version reads its configuration at start only; restart to apply "
                   "changes (nothing is lost)");
        }
        if (signals & MR_SIGNAL_DUMP) {
            dump_state(gateway);
        }
        (void)mr_wake_wait(&gateway->wake, -1);
    }
}

/* All at once: in a changed layout one lane may wait for what another delivers. */
static void stop_bridges(struct gateway *gateway)
{
    int64_t end_ns = mr_clock_mono_ns() + (int64_t)gateway->settings.gateway.drain_us * 1000;

    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        int64_t left_ns = end_ns - mr_clock_mono_ns();
        mr_bridge_stop_begin(gateway->bridges[i], left_ns > 0 ? left_ns : 0);
    }
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        int64_t left_ns = end_ns - mr_clock_mono_ns();
        mr_bridge_stop(gateway->bridges[i], left_ns > 0 ? left_ns : 0);
        mr_bridge_destroy(gateway->bridges[i]);
    }
    for (uint32_t i = 0; i < gateway->group_count; i++) {
        mr_bridge_group_close(gateway->groups[i]);
    }
    mr_free(gateway->bridges);
    mr_free(gateway->groups);
}

static enum mr_err stop(struct gateway *gateway)
{
    enum mr_err err = MR_OK;

    atomic_store(&gateway->stopping, true);
    if (gateway->broker != NULL) {
        mr_broker_stop(gateway->broker, (int64_t)gateway->settings.gateway.drain_us * 1000);
    }
    mr_admin_stop(gateway->admin); /* its pages look at the others */
    stop_bridges(gateway);
    if (gateway->broker != NULL) {
        mr_broker_close(gateway->broker);
    }
    if (gateway->journal != NULL) {
        err = mr_journal_close(gateway->journal);
    }
    mr_file_close(&gateway->lock);
    return err;
}

/* ---- the commands ---- */

static int exit_code_of(enum mr_err err)
{
    switch (err) {
    case MR_OK:
        return MR_EXIT_OK;
    case MR_ERR_IO:
    case MR_ERR_CORRUPT:
    case MR_ERR_FULL:
        return MR_EXIT_IO;
    case MR_ERR_AGAIN:
        return MR_EXIT_TRY_AGAIN;
    case MR_ERR_CONFIG:
    case MR_ERR_REJECT:
        break;
    }
    return MR_EXIT_CONFIG;
}

static void prepare_process(struct gateway *gateway)
{
    mr_log_set_clock(mr_clock_wall_us);
    mr_log_set_journald(getenv("JOURNAL_STREAM") != NULL);
    mr_log_set_level((enum mr_log_level)gateway->settings.log.level);
    gateway->started_ns = mr_clock_mono_ns();
    mr_log(MR_LOG_INFO, "gateway", "millrace " MR_VERSION ", pid %lld, %llu descriptors",
           (long long)mr_process_id(), (unsigned long long)mr_descriptors_raise());
    make_metrics(gateway);
}

static int run(struct mr_cli *cli)
{
    struct gateway *gateway = mr_alloc(sizeof(*gateway));
    struct mr_error why = {.code = MR_OK};
    int code = MR_EXIT_CONFIG;

    gateway->lock.fd = -1;
    if (read_settings(cli, &gateway->settings,
                      mr_cli_given(cli, "data") ? mr_cli_text(cli, "data") : NULL, NULL) != MR_OK) {
        goto out;
    }
    prepare_process(gateway);
    enum mr_err err = mr_wake_open(&gateway->wake, &why);
    if (err != MR_OK) {
        code = mr_cli_fail(cli, MR_EXIT_CONFIG, "%s", why.text);
        goto out;
    }
    mr_signals_route(&gateway->wake);

    err = start(gateway, &why);
    if (err != MR_OK) {
        mr_log(MR_LOG_ERROR, "gateway", "%s", why.text);
    } else {
        err = wait_for_end(gateway, &why);
        mr_log(MR_LOG_INFO, "gateway", "%s", /* the broker has said what failed */
               err == MR_OK ? "stopping" : "stopping, because the journal has failed");
    }
    enum mr_err closed = stop(gateway);
    err = err == MR_OK ? closed : err;
    code = exit_code_of(err);
    mr_log(MR_LOG_INFO, "gateway", "stopped, exit %d", code);
    mr_wake_close(&gateway->wake);
out:
    mr_settings_close(&gateway->settings);
    mr_free(gateway);
    return code;
}

static void note_warning(void *arg, const char *text)
{
    mr_cli_note(arg, "warning: %s", text);
}

static int check(struct mr_cli *cli)
{
    struct mr_settings settings;
    int code = MR_EXIT_OK;

    if (mr_cli_config_path(cli) == NULL) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "which file? give it with -c FILE");
    }
    if (read_settings(cli, &settings, NULL, note_warning) != MR_OK) {
        code = MR_EXIT_CONFIG;
    } else {
        mr_cli_note(cli, "%s is fine: %u listeners, %u bridges", mr_cli_config_path(cli),
                    settings.listener_count, settings.bridge_count);
    }
    mr_settings_close(&settings);
    return code;
}

static void write_stdout(void *arg, const char *text, size_t len)
{
    (void)mr_cli_out_bytes(arg, text, len);
}

static int config_docs(struct mr_cli *cli)
{
    mr_settings_document(write_stdout, cli);
    return MR_EXIT_OK;
}

const struct mr_command mr_command_run = {
    .name = "run",
    .group = "Gateway",
    .summary = "run the gateway",
    .help = "Without -c it listens on 127.0.0.1:1883 and keeps its journal in ./millrace-data.\n"
            "SIGTERM stops it cleanly; SIGUSR1 writes its state to the log.\n",
    .run = run,
};

const struct mr_command mr_command_check = {
    .name = "check",
    .group = "Gateway",
    .summary = "check a configuration file and report every mistake",
    .help = "Exit code 0: the file is fine; 78: it is not, and stderr says where and why.\n",
    .run = check,
};

static const struct mr_command command_config_docs = {
    .name = "docs",
    .summary = "print every option as Markdown (docs/CONFIG.md)",
    .run = config_docs,
};

static const struct mr_command *const config_commands[] = {&command_config_docs, NULL};

const struct mr_command mr_command_config = {
    .name = "config",
    .group = "Gateway",
    .summary = "the options that exist",
    .subcommands = config_commands,
};
