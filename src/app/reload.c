/* reload.c - SIGHUP: read the configuration again and put in force what can be.
 *
 * DESIGN
 *
 * The new configuration is read and checked as a whole first.  If anything is wrong with
 * it nothing is changed, the faults are reported as `millrace check` does, and a metric
 * says that what runs is not what stands in the file.
 *
 * Then the broker takes what is said of listeners, logins, rights and limits, and reads the
 * files of that again: all of it, or nothing if a file is wrong, and then nothing else is
 * changed either.
 *
 * Bridges are compared by name, key by key.  One that is the same is left alone; others
 * are stopped (within `gateway.drain`), and started as they are now.  Their cursors are
 * in the journal, so nothing is lost or passed over.  An operator's command that is under way
 * keeps its bridge: the reload is made when that has ended (turns.c).
 *
 * Which keys can change while devices are connected is said by their rows (option.h).  Each
 * other one that is not what the gateway was started with is named by every reload, and waits
 * for a restart.  Listeners come and go at a restart alone; one that is not in the file any
 * more keeps its rules until then.
 *
 * Bridges and listeners borrow from the configuration they were made from.  So
 * configurations are counted, and each goes with the last one that uses it.
 */
#include "app/gateway_internal.h"

#include "base/log.h"
#include "journal/drops.h"
#include "os/clock.h"

#include <inttypes.h>

static void conf_release(struct gateway *gateway, struct gateway_conf *conf)
{
    while (conf != NULL && conf->uses == 0 && conf != gateway->newest) {
        struct gateway_conf *older = conf->older;
        mr_settings_close(&conf->settings);
        mr_free(conf);
        conf = older;
    }
}

/* One use less. */
static void conf_drop(struct gateway *gateway, struct gateway_conf *conf)
{
    if (conf != NULL) {
        conf->uses -= 1;
        conf_release(gateway, conf);
    }
}

void mr_reload_free(struct gateway *gateway)
{
    struct gateway_conf *newest = gateway->newest;

    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        conf_drop(gateway, gateway->bridge_confs[i]);
    }
    for (uint32_t i = 0; i < MR_COUNT_OF(gateway->listeners); i++) {
        conf_drop(gateway, gateway->listeners[i].from);
    }
    gateway->newest = NULL;
    conf_release(gateway, newest);
}

static const struct mr_settings *settings_now(const struct gateway *gateway)
{
    return gateway->newest != NULL ? &gateway->newest->settings : &gateway->settings;
}

/* ---- what has changed ---- */

static void say_live(void *arg, const struct mr_config_changed *changed)
{
    (void)arg;
    if (changed->live) {
        mr_log(MR_LOG_INFO, "gateway", "reload: %s: %s, now %s", changed->key, changed->before,
               changed->after);
    }
}

static void say_needs_restart(void *arg, const struct mr_config_changed *changed)
{
    (void)arg;
    if (!changed->live) {
        mr_log(MR_LOG_WARN, "gateway", "reload: %s: %s, now %s; needs a restart", changed->key,
               changed->before, changed->after);
    }
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
    struct mr_bridge_group **groups;
    struct gateway_conf **confs;
    uint32_t count;
};

static struct bridge_set set_make(size_t most)
{
    return (struct bridge_set){
        .bridges = mr_alloc((most + 1) * sizeof(struct mr_bridge *)),
        .groups = mr_alloc((most + 1) * sizeof(struct mr_bridge_group *)),
        .confs = mr_alloc((most + 1) * sizeof(struct gateway_conf *)),
    };
}

static void set_free(struct bridge_set *set)
{
    mr_free(set->bridges);
    mr_free(set->groups);
    mr_free(set->confs);
}

static void set_add(struct bridge_set *set, const struct gateway *gateway, uint32_t index)
{
    set->bridges[set->count] = gateway->bridges[index];
    set->groups[set->count] = gateway->bridge_groups[index];
    set->confs[set->count] = gateway->bridge_confs[index];
    set->count += 1;
}

static const char *name_of(struct mr_bridge *bridge)
{
    struct mr_bridge_stats stats;

    mr_bridge_stats(bridge, &stats);
    return stats.name; /* the bridge's own */
}

/* Nobody delivers for those that are gone: they are no reason to let publishers wait. */
static void bridges_forget_ranks(struct gateway *gateway, const struct mr_settings *before,
                                 const struct mr_settings *after)
{
    for (uint32_t i = 0; i < before->bridge_count; i++) {
        const char *name = before->bridges[i].name;
        if (bridge_named(after, name) == NULL) {
            mr_cursors_rank(gateway->journal, name, &mr_rank_of_nobody);
        }
    }
}

/* Take those out that are gone or others now, and stop them. */
static void bridges_stop_changed(struct gateway *gateway, const struct mr_settings *before,
                                 const struct mr_settings *after)
{
    struct bridge_set leaving = set_make(gateway->bridge_count);
    uint32_t kept = 0;

    mr_mutex_lock(&gateway->mutex);
    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        struct mr_bridge *bridge = gateway->bridges[i];
        const struct mr_bridge_settings *old = bridge_named(before, name_of(bridge));
        const struct mr_bridge_settings *new = bridge_named(after, name_of(bridge));
        bool stays =
            old != NULL && new != NULL &&mr_settings_compare_bridge(old, new, NULL, NULL) == 0;
        if (!stays) {
            set_add(&leaving, gateway, i);
            continue;
        }
        gateway->bridges[kept] = bridge;
        gateway->bridge_groups[kept] = gateway->bridge_groups[i];
        gateway->bridge_confs[kept] = gateway->bridge_confs[i];
        kept += 1;
    }
    gateway->bridge_count = kept;
    mr_mutex_unlock(&gateway->mutex);

    for (uint32_t i = 0; i < leaving.count; i++) {
        bool first = i == 0 || leaving.groups[i] != leaving.groups[i - 1];
        if (first && bridge_named(after, name_of(leaving.bridges[i])) == NULL) {
            mr_log(MR_LOG_WARN, "gateway",
                   "reload: bridge '%s' is gone; its cursor still holds the journal: configure it "
                   "again, or stop the gateway and give that up with `millrace journal forget`",
                   name_of(leaving.bridges[i]));
        }
    }
    mr_gateway_bridges_stop(leaving.bridges, leaving.groups, leaving.count,
                            (int64_t)gateway->settings.gateway.drain_us * 1000);
    bridges_forget_ranks(gateway, before, after);
    for (uint32_t i = 0; i < leaving.count; i++) {
        conf_drop(gateway, leaving.confs[i]);
    }
    set_free(&leaving);
}

static bool take_running(struct gateway *gateway, const char *name, struct bridge_set *into)
{
    bool found = false;

    for (uint32_t i = 0; i < gateway->bridge_count; i++) {
        if (strcmp(name_of(gateway->bridges[i]), name) == 0) {
            set_add(into, gateway, i);
            found = true;
        }
    }
    return found;
}

/* All lanes of one bridge; false: it does not run, and why was said. */
static bool start_one(struct gateway *gateway, struct gateway_conf *conf,
                      const struct mr_bridge_settings *bridge, struct bridge_set *into)
{
    uint32_t before = into->count;
    struct mr_error why;

    if (mr_gateway_bridge_start(gateway, &conf->settings, bridge, &into->bridges[before],
                                &into->groups[before], &into->count, &why) != MR_OK) {
        mr_log(MR_LOG_ERROR, "gateway", "reload: bridge '%s' does not run: %s", bridge->name,
               why.text);
        return false;
    }
    for (uint32_t i = before; i < into->count; i++) {
        into->confs[i] = conf;
        conf->uses += 1;
    }
    return true;
}

/* In the order of the configuration; false: one does not run. */
static bool bridges_start_changed(struct gateway *gateway, struct gateway_conf *conf)
{
    const struct mr_settings *settings = &conf->settings;
    struct bridge_set all =
        set_make((size_t)settings->bridge_count * mr_journal_lane_total(gateway->journal));
    bool ok = true;

    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        if (!take_running(gateway, settings->bridges[i].name, &all)) {
            ok = start_one(gateway, conf, &settings->bridges[i], &all) && ok;
        }
    }
    mr_mutex_lock(&gateway->mutex);
    mr_free(gateway->bridges);
    mr_free(gateway->bridge_groups);
    mr_free(gateway->bridge_confs);
    gateway->bridges = all.bridges;
    gateway->bridge_groups = all.groups;
    gateway->bridge_confs = all.confs;
    gateway->bridge_count = all.count;
    mr_mutex_unlock(&gateway->mutex);
    return ok;
}

static bool from_equal(const struct mr_list *a, const struct mr_list *b)
{
    bool equal = a->count == b->count;

    for (size_t i = 0; equal && i < a->count; i++) {
        equal = strcmp(a->items[i], b->items[i]) == 0;
    }
    return equal;
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

/* Acknowledgements wait for these bridges, for the events of their `from`: neither can change
 * while devices are connected.
 */
static bool acks_hold(const struct gateway *gateway, const struct mr_settings *after)
{
    const struct mr_settings *start = &gateway->settings;
    bool hold = true;

    for (uint32_t i = 0; i < start->listener_count; i++) {
        const struct mr_listener_conf *listener = &start->listeners[i];
        const char *name = listener->ack == NULL ? "disk" : listener->ack;
        const struct mr_bridge_settings *was = bridge_named(start, name);
        const struct mr_bridge_settings *is = bridge_named(after, name);
        if (was != NULL && (is == NULL || !from_equal(&was->conf.from, &is->conf.from))) {
            mr_log(MR_LOG_ERROR, "gateway",
                   "reload: acknowledgements of listener '%s' wait for bridge '%s', which %s; that "
                   "needs a restart",
                   listener->name, name,
                   is == NULL ? "is gone from the configuration" : "has another `from`");
            hold = false;
        }
    }
    return hold;
}

/* ---- the reload ---- */

/* What the broker is to go by: each listener as it is in the new configuration. */
static void broker_now(const struct gateway *gateway, struct gateway_conf *conf,
                       struct gateway_listener now[MR_NET_LISTENERS_MAX])
{
    const struct mr_settings *start = &gateway->settings;

    for (uint32_t i = 0; i < start->listener_count; i++) {
        now[i].conf = mr_settings_listener(&conf->settings, start->listeners[i].name);
        now[i].from = conf;
        if (now[i].conf == NULL) {
            now[i] = gateway->listeners[i];
            now[i].conf = now[i].from == NULL ? &start->listeners[i] : now[i].conf;
        }
    }
}

/* False: nothing has changed, and why was said. */
static bool broker_reload(struct gateway *gateway, struct gateway_conf *conf)
{
    struct gateway_listener now[MR_NET_LISTENERS_MAX] = {{.conf = NULL}};
    const struct mr_listener_conf *listeners[MR_NET_LISTENERS_MAX];
    struct mr_broker_reloaded reloaded = {.listeners = listeners,
                                          .limits = conf->settings.broker,
                                          .log_connections = conf->settings.log.connections};
    struct mr_error why;

    broker_now(gateway, conf, now);
    for (uint32_t i = 0; i < MR_NET_LISTENERS_MAX; i++) {
        listeners[i] = now[i].conf;
    }
    enum mr_err err = mr_broker_reload(gateway->broker, &reloaded, &why);
    if (err == MR_ERR_CONFIG) {
        mr_metric_set(gateway->metrics.reload_ok, 0);
        mr_log(MR_LOG_ERROR, "gateway", "reload: nothing is changed, the old rules hold: %s",
               why.text);
        return false;
    }
    if (err != MR_OK) { /* some of its threads may go by the old one until they end */
        mr_log(MR_LOG_WARN, "gateway", "reload: %s", why.text);
        conf->older = gateway->newest;
    }
    for (uint32_t i = 0; i < MR_NET_LISTENERS_MAX; i++) {
        struct gateway_conf *before = gateway->listeners[i].from;
        gateway->listeners[i] = now[i];
        if (now[i].from != NULL) {
            now[i].from->uses += 1;
        }
        if (err == MR_OK) {
            conf_drop(gateway, before);
        } else if (before != NULL) {
            before->uses -= 1;
        }
    }
    return true;
}

static bool apply(struct gateway *gateway, struct gateway_conf *conf)
{
    const struct mr_settings *before = settings_now(gateway);
    const struct mr_settings *after = &conf->settings;
    struct gateway_conf *last = gateway->newest;

    mr_log_set_level((enum mr_log_level)after->log.level);
    (void)mr_settings_compare(before, after, say_live, NULL);
    (void)mr_settings_compare(&gateway->settings, after, say_needs_restart, NULL);
    say_bridges(before, after);
    bridges_stop_changed(gateway, before, after);
    bool ok = bridges_start_changed(gateway, conf);
    gateway->newest = conf;
    if (conf->older == NULL) {
        conf_release(gateway, last);
    }
    return ok;
}

static void reload_refuse(struct gateway_conf *conf)
{
    mr_settings_close(&conf->settings);
    mr_free(conf);
}

/* The turn is ours. */
static void reload(struct gateway *gateway)
{
    struct gateway_conf *conf = mr_alloc(sizeof(*conf));

    mr_log(MR_LOG_INFO, "gateway", "reload: reading the configuration again");
    if (mr_wire_settings(gateway->cli, &conf->settings, NULL) != MR_OK) {
        mr_metric_set(gateway->metrics.reload_ok, 0);
        mr_log(MR_LOG_ERROR, "gateway",
               "reload: the configuration has %zu faults and is not put in force; the old one runs "
               "on",
               mr_config_problem_count(conf->settings.config));
        reload_refuse(conf);
        return;
    }
    if (!acks_hold(gateway, &conf->settings)) {
        mr_metric_set(gateway->metrics.reload_ok, 0);
        mr_log(MR_LOG_ERROR, "gateway", "reload: nothing of it is put in force");
        reload_refuse(conf);
        return;
    }
    if (!broker_reload(gateway, conf)) {
        reload_refuse(conf);
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

void mr_reload(struct gateway *gateway)
{
    if (mr_turn_reload(gateway)) {
        reload(gateway);
        mr_turn_over(gateway);
    } else {
        mr_log(MR_LOG_WARN, "gateway",
               "reload: waits for an operator's command that is under way; the old configuration "
               "runs on until that has ended");
    }
}

void mr_reload_again(struct gateway *gateway)
{
    if (gateway->turns.reload_waits && mr_turn_reload(gateway)) {
        reload(gateway);
        mr_turn_over(gateway);
    }
}
