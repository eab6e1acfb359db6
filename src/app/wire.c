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

#include "app/gateway_internal.h"
#include "base/log.h"
#include "journal/disk_promise.h"
#include "journal/drops.h"
#include "os/clock.h"
#include "os/process.h"
#include "sink/kafka/kafka.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>

const struct mr_sink_ops *const mr_sinks[] = {&mr_kafka_sink, NULL};

/* ---- settings, as run and check read them ---- */

static void write_stderr(void *arg, const char *text, size_t len)
{
    (void)arg;
    (void)fwrite(text, 1, len, stderr);
}

/* `warn` may be NULL: whoever goes on to run hears it then. */
enum mr_err mr_wire_settings(struct mr_cli *cli, struct mr_settings *out,
                             void (*warn)(void *arg, const char *text))
{
    enum { SETS_MAX = 64 };
    const char *data = mr_cli_given(cli, "data") ? mr_cli_text(cli, "data") : NULL;
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

/* ---- start ---- */

void mr_gateway_path(const struct gateway *gateway, const char *name, char out[GATEWAY_PATH_BYTES])
{
    struct mr_text text = mr_text_over(out, GATEWAY_PATH_BYTES);

    mr_text_fmt(&text, "%s/%s", gateway->settings.gateway.data, name);
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

/* Say so where the disk cannot keep what we promise, or where nobody can know. */
static void warn_of_disk(const char *data)
{
    char buffer[512];
    struct mr_text why = mr_text_over(buffer, sizeof(buffer));
    struct mr_disk disk;

    if (mr_disk_describe(data, &disk) == MR_OK && mr_disk_promise(&disk, &why) != MR_DISK_HOLDS) {
        mr_log(MR_LOG_WARN, "journal", "%s ('millrace prove' measures it)", buffer);
    }
}

static enum mr_err start_journal(struct gateway *gateway, struct mr_error *why)
{
    const struct mr_journal_conf *conf = &gateway->settings.journal;
    char path[GATEWAY_PATH_BYTES];

    enum mr_err err = mr_dir_create(gateway->settings.gateway.data, why);
    if (err == MR_OK) {
        err = mr_dir_lock(gateway->settings.gateway.data, &gateway->lock, why);
    }
    if (err != MR_OK) {
        return err;
    }
    warn_of_disk(gateway->settings.gateway.data);
    mr_gateway_path(gateway, "journal", path);
    err = mr_journal_open(
        &gateway->journal,
        &(struct mr_journal_options){
            .path = path,
            .name = "journal",
            .lane_count = (uint32_t)gateway->settings.gateway.shards,
            .lane_count_new = shards_auto(),
            .max_bytes = conf->max_bytes,
            .keep_us = conf->keep_us,
            .when_full = (enum mr_when_full)conf->when_full,
            .keep_ranges = true,
            .segment_bytes = (uint32_t)conf->segment_bytes,
            .record_bytes_max = (uint32_t)gateway->settings.broker.max_packet_size + 131072,
            .commit_delay_us_max =
                conf->commit_delay_us == 0 ? MR_COMMIT_AT_ONCE : (uint32_t)conf->commit_delay_us,
        },
        NULL, why);
    if (err == MR_OK) {
        mr_journal_id_text(mr_journal_identity(gateway->journal), gateway->journal_id);
    }
    return err;
}

/* The bridge in one lane. */
static enum mr_err bridge_lane_start(struct gateway *gateway, const struct mr_settings *settings,
                                     const struct mr_bridge_settings *bridge,
                                     struct mr_bridge_group *group, uint32_t lane,
                                     struct mr_bridge **out, struct mr_error *why)
{
    char name[MR_CURSOR_NAME_MAX + 32];
    char dead_letters[GATEWAY_PATH_BYTES];
    struct mr_text path = mr_text_over(name, sizeof(name));

    mr_text_fmt(&path, "dead-letters/%s", bridge->name);
    mr_gateway_path(gateway, name, dead_letters);
    enum mr_err err = mr_bridge_create(
        out,
        &(struct mr_bridge_options_run){
            .group = group,
            .name = bridge->name,
            .gateway_name = settings->gateway.name,
            .journal = gateway->journal,
            .lane = lane,
            .conf = &bridge->conf,
            .sink = bridge->sink,
            .sink_conf = bridge->sink_conf,
            .dead_letters_path = dead_letters,
            .dead_letters_bytes_max = gateway->settings.journal.dead_letters_bytes_max,
            .record_bytes_max = record_bytes_max(&gateway->settings),
            .packet_bytes_max = (uint32_t)gateway->settings.broker.max_packet_size,
        },
        why);
    if (err == MR_OK) {
        err = mr_bridge_start(*out, why);
        if (err != MR_OK) {
            mr_bridge_stop(*out, 0);
            mr_bridge_destroy(*out);
        }
    }
    return err;
}

void mr_gateway_bridges_stop(struct mr_bridge **bridges, struct mr_bridge_group **groups,
                             uint32_t count, int64_t patience_ns)
{
    int64_t end_ns = mr_clock_mono_ns() + patience_ns;

    /* All at once: in a changed layout one lane may wait for what another delivers. */
    for (uint32_t i = 0; i < count; i++) {
        int64_t left_ns = end_ns - mr_clock_mono_ns();
        mr_bridge_stop_begin(bridges[i], left_ns > 0 ? left_ns : 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        int64_t left_ns = end_ns - mr_clock_mono_ns();
        mr_bridge_stop(bridges[i], left_ns > 0 ? left_ns : 0);
        mr_bridge_destroy(bridges[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 == count || groups[i + 1] != groups[i]) {
            mr_bridge_group_close(groups[i]);
        }
    }
}

/* Nobody was told yet that an event is ours for whose acknowledgement this bridge is waited for:
 * dropped, it would be acknowledged and lost.
 */
static bool may_drop(const struct gateway *gateway, const struct mr_bridge_settings *bridge)
{
    const struct mr_settings *start = &gateway->settings; /* `ack` stays as it is until then */
    bool may = bridge->conf.may_drop;

    for (uint32_t i = 0; i < start->listener_count; i++) {
        const char *ack = start->listeners[i].ack;
        may = may && (ack == NULL || strcmp(ack, bridge->name) != 0);
    }
    return may;
}

enum mr_err mr_gateway_bridge_start(struct gateway *gateway, const struct mr_settings *settings,
                                    const struct mr_bridge_settings *bridge,
                                    struct mr_bridge **bridges, struct mr_bridge_group **groups,
                                    uint32_t *count, struct mr_error *why)
{
    uint32_t lanes = mr_journal_lane_total(gateway->journal);
    struct mr_bridge_group *group = NULL;
    uint32_t made = 0;
    enum mr_err err =
        mr_bridge_group_open(&group, gateway->journal, bridge->name, &bridge->conf, why);

    if (err != MR_OK) {
        return err;
    }
    mr_cursors_rank(gateway->journal, bridge->name,
                    &(struct mr_cursor_rank){.priority = (uint32_t)bridge->conf.priority,
                                             .may_drop = may_drop(gateway, bridge)});
    for (uint32_t lane = 0; lane < lanes && err == MR_OK; lane++) {
        if (mr_bridge_group_needs(group, lane)) {
            groups[made] = group;
            err = bridge_lane_start(gateway, settings, bridge, group, lane, &bridges[made], why);
            made += err == MR_OK ? 1 : 0;
        }
    }
    if (err != MR_OK && made == 0) {
        mr_bridge_group_close(group);
    } else if (err != MR_OK) {
        mr_gateway_bridges_stop(bridges, groups, made, 0);
    } else {
        *count += made;
    }
    return err;
}

/* A retry that the last run did not finish; by the worker of each bridge's first lane. */
static void resume_letters(struct gateway *gateway)
{
    struct mr_bridge_stats stats;
    struct mr_error why = {.text = ""};

    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        mr_bridge_stats(gateway->bridges[i], &stats);
        if (stats.lane == 0 && mr_letters_resume(gateway, gateway->bridges[i], &why) != MR_OK) {
            mr_log(MR_LOG_ERROR, "bridge",
                   "%s: what the last run retried of its dead letters cannot be told: %s; "
                   "`millrace dlq retry` tries again",
                   stats.name, why.text);
        }
    }
}

static enum mr_err start_bridges(struct gateway *gateway, struct mr_error *why)
{
    const struct mr_settings *settings = &gateway->settings;
    size_t most = (size_t)settings->bridge_count * mr_journal_lane_total(gateway->journal) + 1;
    enum mr_err err = MR_OK;

    gateway->bridges = mr_alloc(most * sizeof(struct mr_bridge *));
    gateway->bridge_groups = mr_alloc(most * sizeof(struct mr_bridge_group *));
    gateway->bridge_confs = mr_alloc(most * sizeof(struct gateway_conf *));
    for (uint32_t i = 0; i < settings->bridge_count && err == MR_OK; i++) {
        err = mr_gateway_bridge_start(
            gateway, settings, &settings->bridges[i], &gateway->bridges[gateway->bridge_count],
            &gateway->bridge_groups[gateway->bridge_count], &gateway->bridge_count, why);
    }
    if (err == MR_OK) {
        err = mr_cursors_follow(gateway->journal, why);
    }
    if (err == MR_OK) {
        resume_letters(gateway);
        mr_drops_arm(gateway->journal);
    }
    return err;
}

/* The bridges as the broker has to know them. */
static void name_bridges(struct gateway *gateway)
{
    const struct mr_settings *settings = &gateway->settings;

    gateway->ack_bridges = mr_alloc((settings->bridge_count + 1) * sizeof(*gateway->ack_bridges));
    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        gateway->ack_bridges[i] = (struct mr_broker_bridge){.name = settings->bridges[i].name,
                                                            .from = settings->bridges[i].conf.from};
    }
}

static enum mr_err start_broker(struct gateway *gateway, struct mr_error *why)
{
    const struct mr_settings *settings = &gateway->settings;
    uint64_t memory = settings->gateway.memory_bytes;

    mr_gateway_path(gateway, "sessions", gateway->sessions_path);
    name_bridges(gateway);
    enum mr_err err =
        mr_broker_open(&gateway->broker,
                       &(struct mr_broker_run){
                           .journal = gateway->journal,
                           .listeners = settings->listeners,
                           .listener_count = settings->listener_count,
                           .bridges = gateway->ack_bridges,
                           .bridge_count = settings->bridge_count,
                           .limits = settings->broker,
                           .refuse_when_full = settings->journal.when_full == MR_WHEN_FULL_REFUSE,
                           .journal_exclude = settings->journal.exclude,
                           .sessions_path = gateway->sessions_path,
                           .loop = (enum mr_loop_choice)settings->gateway.loop,
                           .memory_bytes = memory != 0 ? memory : mr_memory_total() / 4,
                           .log_connections = settings->log.connections,
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
                                         .identity = gateway->journal_id,
                                         .health = mr_status_health,
                                         .ready = mr_status_ready,
                                         .refresh = mr_status_refresh,
                                         .waits = mr_control_waits,
                                         .api = mr_control_answer,
                                         .arg = gateway,
                                     },
                                     &local);
    if (err == MR_OK) {
        mr_control_announce(gateway);
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
            mr_reload(gateway);
        } else {
            mr_reload_again(gateway);
        }
        if (signals & MR_SIGNAL_DUMP) {
            mr_status_log(gateway);
        }
        (void)mr_wake_wait(&gateway->wake, -1);
    }
}

static void stop_bridges(struct gateway *gateway)
{
    mr_gateway_bridges_stop(gateway->bridges, gateway->bridge_groups, gateway->bridge_count,
                            (int64_t)gateway->settings.gateway.drain_us * 1000);
    mr_free(gateway->bridges);
    mr_free(gateway->bridge_groups);
}

static enum mr_err stop(struct gateway *gateway)
{
    enum mr_err err = MR_OK;

    mr_turns_end(gateway);
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        mr_bridge_refuse(gateway->bridges[i]);
    }
    if (gateway->broker != NULL) {
        mr_broker_stop(gateway->broker, (int64_t)gateway->settings.gateway.drain_us * 1000);
    }
    mr_control_withdraw(gateway);
    mr_admin_stop(gateway->admin); /* its pages look at the others */
    stop_bridges(gateway);
    if (gateway->broker != NULL) {
        mr_broker_close(gateway->broker);
    }
    mr_free(gateway->ack_bridges);
    mr_reload_free(gateway);
    mr_free(gateway->bridge_confs);
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
    mr_status_make_metrics(gateway);
}

static int run(struct mr_cli *cli)
{
    struct gateway *gateway = mr_alloc(sizeof(*gateway));
    struct mr_error why = {.code = MR_OK};
    int code = MR_EXIT_CONFIG;

    gateway->lock.fd = -1;
    gateway->cli = cli;
    mr_mutex_init(&gateway->mutex);
    mr_signals_route(NULL); /* first: one that comes while we start must not end us, but wait */
    if (mr_wire_settings(cli, &gateway->settings, NULL) != MR_OK) {
        goto out;
    }
    prepare_process(gateway);
    enum mr_err err = mr_wake_open(&gateway->wake, &why);
    if (err != MR_OK) {
        code = mr_cli_fail(cli, MR_EXIT_CONFIG, "%s", why.text);
        goto out;
    }
    err = mr_turns_open(gateway, &why);
    if (err != MR_OK) {
        mr_wake_close(&gateway->wake);
        code = mr_cli_fail(cli, MR_EXIT_CONFIG, "%s", why.text);
        goto out;
    }
    mr_signals_route(&gateway->wake);
    mr_map_faults_tell("/data.mdb", "start again; if it stays so, " MR_STORE_MOVE_AWAY, MR_EXIT_IO);

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
    mr_signals_route(NULL);
    mr_turns_close(gateway);
    mr_wake_close(&gateway->wake);
out:
    mr_settings_close(&gateway->settings);
    mr_mutex_fini(&gateway->mutex);
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
    if (mr_wire_settings(cli, &settings, note_warning) != MR_OK) {
        code = MR_EXIT_CONFIG;
    } else {
        mr_cli_note(cli, "%s is fine: %u listeners, %u bridges", mr_cli_config_path(cli),
                    settings.listener_count, settings.bridge_count);
    }
    mr_settings_close(&settings);
    return code;
}

const struct mr_command mr_command_run = {
    .name = "run",
    .group = "Gateway",
    .summary = "run the gateway",
    .help = "Without -c it listens on 127.0.0.1:1883 and keeps its journal in ./millrace-data.\n"
            "SIGTERM stops it cleanly; SIGUSR1 writes its state to the log; SIGHUP reads the\n"
            "configuration again: a faulty one is reported, and the old one runs on.\n",
    .run = run,
};

const struct mr_command mr_command_check = {
    .name = "check",
    .group = "Gateway",
    .summary = "check a configuration file and report every mistake",
    .help = "Exit code 0: the file is fine; 78: it is not, and stderr says where and why.\n",
    .run = check,
};
