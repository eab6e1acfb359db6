/* reload.c - SIGHUP: read the configuration again and put in force what can be.
 *
 * DESIGN
 *
 * The new configuration is read and checked as a whole first.  If anything is wrong with
 * it nothing is changed, the faults are reported as `millrace check` does, and a metric
 * says that what runs is not what stands in the file.
 *
 * Bridges are compared by name, key by key.  One that is the same is left alone; others
 * are stopped (within `gateway.drain`), and started as they are now.  Their cursors are
 * in the journal, so nothing is lost or passed over.  Of the rest what can be changed
 * while devices are connected is changed at once; every other changed key is named, and
 * waits for a restart.
 *
 * A bridge borrows from the configuration it was made from.  So configurations are
 * counted, and each goes with the last bridge that uses it.
 */
#include "app/gateway_internal.h"

#include "base/log.h"
#include "os/clock.h"

#include <inttypes.h>

static const char *const at_once[] = {
    "log.level",
    "log.connections",
    "mqtt.max_inflight_messages",
    "mqtt.max_queued_messages",
    "mqtt.max_queued_bytes",
    "mqtt.max_keepalive",
    "mqtt.connect_timeout",
};

static void conf_release(struct gateway *gateway, struct gateway_conf *conf)
{
    if (conf != NULL && conf->uses == 0 && conf != gateway->newest) {
        mr_settings_close(&conf->settings);
        mr_free(conf);
    }
}

void mr_reload_free(struct gateway *gateway)
{
    struct gateway_conf *newest = gateway->newest;

    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        struct gateway_conf *conf = gateway->bridge_confs[i];
        if (conf != NULL) {
            conf->uses -= 1;
            conf_release(gateway, conf);
        }
    }
    gateway->newest = NULL;
    conf_release(gateway, newest);
}

static const struct mr_settings *settings_now(const struct gateway *gateway)
{
    return gateway->newest != NULL ? &gateway->newest->settings : &gateway->settings;
}

/* ---- what has changed ---- */

static bool changes_at_once(const char *key)
{
    for (size_t i = 0; i < MR_COUNT_OF(at_once); i++) {
        if (strcmp(key, at_once[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void say_changed(void *arg, const struct mr_config_changed *changed)
{
    (void)arg;
    mr_log(changes_at_once(changed->key) ? MR_LOG_INFO : MR_LOG_WARN, "gateway",
           "reload: %s: %s, now %s%s", changed->key, changed->before, changed->after,
           changes_at_once(changed->key) ? "" : "; needs a restart");
}

static void say_bridge_changed(void *arg, const struct mr_config_changed *changed)
{
    (void)arg;
    mr_log(MR_LOG_INFO, "gateway", "reload: %s: %s, now %s", changed->key, changed->before,
           changed->after);
}

static const struct mr_bridge_settings *bridge_named(const struct mr_settings *settings,
                                                     const char *name)
{
    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        if (strcmp(settings->bridges[i].name, name) == 0) {
            return &settings->bridges[i];
        }
    }
    return NULL;
}

/* ---- bridges ---- */

struct bridge_set {
    struct mr_bridge **bridges;
    struct gateway_conf **confs;
    uint32_t count;
};

static const char *name_of(struct mr_bridge *bridge)
{
    struct mr_bridge_stats stats;

    mr_bridge_stats(bridge, &stats);
    return stats.name; /* the bridge's own */
}

/* Take those out that are gone or others now, and stop them. */
static void bridges_stop_changed(struct gateway *gateway, const struct mr_settings *before,
                                 const struct mr_settings *after)
{
    int64_t end_ns = mr_clock_mono_ns() + (int64_t)gateway->settings.gateway.drain_us * 1000;
    struct bridge_set leaving = {
        .bridges = mr_alloc((gateway->bridge_count + 1) * sizeof(struct mr_bridge *)),
        .confs = mr_alloc((gateway->bridge_count + 1) * sizeof(struct gateway_conf *)),
    };
    uint32_t kept = 0;

    mr_mutex_lock(&gateway->mutex);
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        struct mr_bridge *bridge = gateway->bridges[i];
        const struct mr_bridge_settings *old = bridge_named(before, name_of(bridge));
        const struct mr_bridge_settings *new = bridge_named(after, name_of(bridge));
        bool stays =
            old != NULL && new != NULL &&mr_settings_compare_bridge(old, new, NULL, NULL) == 0;
        if (stays) {
            gateway->bridges[kept] = bridge;
            gateway->bridge_confs[kept] = gateway->bridge_confs[i];
            kept += 1;
        } else {
            leaving.bridges[leaving.count] = bridge;
            leaving.confs[leaving.count] = gateway->bridge_confs[i];
            leaving.count += 1;
        }
    }
    gateway->bridge_count = kept;
    mr_mutex_unlock(&gateway->mutex);

    for (uint32_t i = 0; i < leaving.count; i++) {
        int64_t left_ns = end_ns - mr_clock_mono_ns();
        if (bridge_named(after, name_of(leaving.bridges[i])) == NULL) {
            mr_log(MR_LOG_WARN, "gateway",
                   "reload: bridge '%s' is gone; its cursor still holds the journal: configure it "
                   "again, or stop the gateway and give that up with `millrace journal forget`",
                   name_of(leaving.bridges[i]));
        }
        mr_bridge_stop(leaving.bridges[i], left_ns > 0 ? left_ns : 0);
        mr_bridge_destroy(leaving.bridges[i]);
        if (leaving.confs[i] != NULL) {
            leaving.confs[i]->uses -= 1;
            conf_release(gateway, leaving.confs[i]);
        }
    }
    mr_free(leaving.bridges);
    mr_free(leaving.confs);
}

static bool take_running(struct gateway *gateway, const char *name, struct bridge_set *into)
{
    bool found = false;

    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        if (strcmp(name_of(gateway->bridges[i]), name) == 0) {
            into->bridges[into->count] = gateway->bridges[i];
            into->confs[into->count] = gateway->bridge_confs[i];
            into->count += 1;
            found = true;
        }
    }
    return found;
}

/* All lanes of one bridge; false: it does not run, and why was said. */
static bool start_one(struct gateway *gateway, struct gateway_conf *conf,
                      const struct mr_bridge_settings *bridge, struct bridge_set *into)
{
    for (uint32_t lane = 0; lane < mr_journal_lane_count(gateway->journal); lane++) {
        struct mr_error why;
        if (mr_gateway_bridge_start(gateway, &conf->settings, bridge, lane,
                                    &into->bridges[into->count], &why) != MR_OK) {
            mr_log(MR_LOG_ERROR, "gateway", "reload: bridge '%s' does not run: %s", bridge->name,
                   why.text);
            return false;
        }
        into->confs[into->count] = conf;
        into->count += 1;
        conf->uses += 1;
    }
    return true;
}

/* In the order of the configuration; false: one does not run. */
static bool bridges_start_changed(struct gateway *gateway, struct gateway_conf *conf)
{
    const struct mr_settings *settings = &conf->settings;
    uint32_t lanes = mr_journal_lane_count(gateway->journal);
    size_t most = (size_t)settings->bridge_count * lanes + 1;
    struct bridge_set all = {
        .bridges = mr_alloc(most * sizeof(struct mr_bridge *)),
        .confs = mr_alloc(most * sizeof(struct gateway_conf *)),
    };
    bool ok = true;

    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        if (!take_running(gateway, settings->bridges[i].name, &all)) {
            ok = start_one(gateway, conf, &settings->bridges[i], &all) && ok;
        }
    }
    mr_mutex_lock(&gateway->mutex);
    mr_free(gateway->bridges);
    mr_free(gateway->bridge_confs);
    gateway->bridges = all.bridges;
    gateway->bridge_confs = all.confs;
    gateway->bridge_count = all.count;
    mr_mutex_unlock(&gateway->mutex);
    return ok;
}

static void say_bridges(const struct mr_settings *before, const struct mr_settings *after)
{
    for (uint32_t i = 0; i < after->bridge_count; i++) {
        const struct mr_bridge_settings *old = bridge_named(before, after->bridges[i].name);
        if (old == NULL) {
            mr_log(MR_LOG_INFO, "gateway", "reload: bridge '%s' is new", after->bridges[i].name);
        } else {
            (void)mr_settings_compare_bridge(old, &after->bridges[i], say_bridge_changed, NULL);
        }
    }
}

/* ---- the reload ---- */

static bool apply(struct gateway *gateway, struct gateway_conf *conf)
{
    const struct mr_settings *before = settings_now(gateway);
    const struct mr_settings *after = &conf->settings;
    struct gateway_conf *last = gateway->newest;

    if (mr_settings_compare(before, after, say_changed, NULL) == 0) {
        mr_log(MR_LOG_DEBUG, "gateway", "reload: nothing but bridges may have changed");
    }
    say_bridges(before, after);
    mr_log_set_level((enum mr_log_level)after->log.level);
    bool ok = mr_broker_reload(gateway->broker, &after->broker, after->log.connections) == MR_OK;
    bridges_stop_changed(gateway, before, after);
    ok = bridges_start_changed(gateway, conf) && ok;
    gateway->newest = conf;
    conf_release(gateway, last);
    return ok;
}

void mr_reload(struct gateway *gateway)
{
    struct gateway_conf *conf = mr_alloc(sizeof(*conf));

    mr_log(MR_LOG_INFO, "gateway", "reload: reading the configuration again");
    if (mr_wire_settings(gateway->cli, &conf->settings) != MR_OK) {
        mr_log(MR_LOG_ERROR, "gateway",
               "reload: the configuration has %zu faults and is not put in force; the old one runs "
               "on",
               mr_config_problem_count(conf->settings.config));
        mr_settings_close(&conf->settings);
        mr_free(conf);
        mr_metric_set(gateway->metrics.reload_ok, 0);
        return;
    }
    bool ok = apply(gateway, conf);
    mr_metric_set(gateway->metrics.reload_ok, ok);
    if (ok) {
        mr_metric_set(gateway->metrics.reload_time, mr_clock_wall_us() / 1000000);
    }
    mr_log(ok ? MR_LOG_INFO : MR_LOG_ERROR, "gateway", "reload: %s",
           ok ? "done" : "not all of it is in force, see above");
}
