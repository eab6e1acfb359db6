/* reload.c - other rules while clients are there: who may come in, what they may do, how much.
 *
 * DESIGN
 *
 * First everything is read: certificates, password files and keys, ACL files.  If anything of
 * it is wrong, all stays as it was.  Then nothing can fail any more: the authenticators change,
 * and each shard takes its copy of the policy in a turn of its own, so that no check takes a
 * lock.  In the same turn it looks at all its connections:
 *
 *     before CONNACK   whoever has said what about its login is asked again
 *     connected        whoever would not be let in any more is told 0x87 and leaves; what it
 *                      may publish and gets is asked by the new rules from here on
 *
 * Between the first shard and the last one both policies are in force, for some milliseconds.
 * Realms that have left (auth/realm.c) go when all shards have changed.
 *
 * What 5.0 clients were told at their CONNECT holds for them as long as they are connected.
 */
#include "broker/keep_internal.h"
#include "broker/login_internal.h"
#include "broker/realm_internal.h"
#include "broker/share_rights.h"

/* What is read before anything changes. */
struct change {
    struct mr_broker *broker;
    struct policy policy;
    const struct mr_broker_limits *limits;
    struct mr_auth_plan *plan; /* NULL: nobody asks, nor did */
    struct mr_auth *auth;      /* the first one, just opened; or NULL */
};

/* ---- reading ---- */

static bool auth_brings_rules(const struct mr_auth_conf *auth)
{
    return mr_jwt_is_configured(&auth->jwt) || auth->http.url != NULL;
}

/* Who asks whom, with numbers of realms as mr_auth_open() gives them. */
static enum mr_err logins_read(struct change *change, struct mr_error *why)
{
    struct mr_auth_realm realms[MR_AUTH_REALMS_MAX];
    struct mr_broker *broker = change->broker;
    uint32_t count = 0;
    enum mr_err err = MR_OK;

    _Static_assert((int)MR_NET_LISTENERS_MAX <= (int)MR_AUTH_REALMS_MAX,
                   "each may have one of its own");
    for (uint32_t i = 0; i < broker->run.listener_count && err == MR_OK; i++) {
        struct listener_policy *listener = &change->policy.listeners[i];
        const struct mr_listener_conf *start = &broker->run.listeners[i];

        err = realm_make(&listener->conf->auth, &realms[count], why);
        listener->asks = err == MR_OK && mr_auth_realm_asks(&realms[count]);
        listener->anonymous = listener_is_anonymous(listener->conf, start->bind, listener->asks);
        listener->realm = listener->asks ? count++ : 0;
        change->policy.knows_users |= listener->asks || start->tls.use_identity_as_username;
        change->policy.bring_rules |= auth_brings_rules(&listener->conf->auth);
    }
    if (err != MR_OK || (count == 0 && broker->auth == NULL)) {
        return err;
    }
    if (broker->auth == NULL) {
        err = mr_auth_open(&change->auth, realms, count, why);
    }
    struct mr_auth *auth = broker->auth == NULL ? change->auth : broker->auth;
    if (err == MR_OK) {
        err = mr_auth_plan(auth, realms, count, &change->plan, why);
    }
    for (uint32_t i = 0; i < broker->run.listener_count && err == MR_OK; i++) {
        struct listener_policy *listener = &change->policy.listeners[i];
        listener->realm = listener->asks ? mr_auth_plan_number(change->plan, listener->realm) : 0;
    }
    return err;
}

static void log_fault(void *arg, const char *text)
{
    (void)arg;
    mr_log(MR_LOG_ERROR, "mqtt", "%s", text);
}

/* Each ACL file once, however many listeners have it; all are read, for the faults of all. */
static enum mr_err acls_read(struct change *change, mr_acl_fault *fault, struct mr_error *why)
{
    const char *paths[MR_NET_LISTENERS_MAX];
    struct policy *policy = &change->policy;
    enum mr_err err = MR_OK;
    uint32_t count = 0;

    for (uint32_t i = 0; i < change->broker->run.listener_count; i++) {
        const char *path = policy->listeners[i].conf->auth.acl_file;
        uint32_t index = 0;
        struct mr_error local;

        while (path != NULL && index < count && strcmp(paths[index], path) != 0) {
            index += 1;
        }
        policy->listeners[i].acl = path == NULL ? ACL_NONE : index;
        if (path == NULL || index < count) {
            continue;
        }
        paths[count] = path;
        count += 1;
        policy->acl_count = count;
        if (mr_acl_read(&policy->acls[index], path, fault, NULL, &local) != MR_OK) {
            if (err == MR_OK && why != NULL) {
                *why = local;
            }
            err = MR_ERR_CONFIG;
        }
    }
    return err;
}

static void acls_drop(struct policy *policy)
{
    for (uint32_t i = 0; i < policy->acl_count; i++) {
        mr_acl_drop(policy->acls[i]);
        policy->acls[i] = NULL;
    }
    policy->acl_count = 0;
}

static void change_end(struct change *change)
{
    acls_drop(&change->policy);
    mr_auth_abandon(change->plan);
    mr_auth_close(change->auth);
}

static enum mr_err change_read(struct change *change, mr_acl_fault *fault, struct mr_error *why)
{
    enum mr_err err = logins_read(change, why);

    if (err == MR_OK) {
        err = acls_read(change, fault, why);
    }
    return err;
}

/* ---- putting it in force ---- */

/* The authenticators change; from here on nothing fails. */
static void change_commit(struct change *change)
{
    if (change->auth != NULL) {
        change->broker->auth = change->auth; /* shards learn of it by their policies */
        change->auth = NULL;
    }
    if (change->plan != NULL) {
        mr_auth_commit(change->plan);
        change->plan = NULL;
    }
}

/* A shard's own copy, with references of its own. */
static void policy_take(struct mr_shard *shard, const struct policy *policy)
{
    struct policy before = shard->policy;

    shard->policy = *policy;
    for (uint32_t i = 0; i < policy->acl_count; i++) {
        (void)mr_acl_hold(policy->acls[i]);
    }
    acls_drop(&before);
    if (shard->acl_version != 0 || policy->acl_count != 0 || policy->bring_rules) {
        shard->acl_version += 1;
    }
}

/* What memory, journal and ordinals were laid out by stays as it was at the start. */
static void limits_take(struct mr_shard *shard, const struct mr_broker_limits *limits)
{
    struct mr_broker_limits before = shard->limits;

    shard->limits = *limits;
    shard->limits.max_packet_size = before.max_packet_size;
    shard->limits.max_topic_levels = before.max_topic_levels;
    shard->limits.overlapping = before.overlapping;
    limits_set(shard);
}

static void client_reloaded(void *arg, struct mr_conn *conn)
{
    const struct policy *before = arg;
    struct client *client = mr_conn_user(conn);

    topics_drop(client);
    crowd_reloaded(client);
    if (client->session == NULL) {
        login_reloaded(client);
        return;
    }
    const char *what = login_lapsed(client, &before->listeners[mr_conn_listener(conn)]);
    if (what != NULL) {
        (void)client_refuse(client, END_AUTH, MR_MQTT_NOT_AUTHORIZED, what);
    }
}

/* Sessions that are in groups, also of clients that are away. */
static void members_renew(const struct mr_shard *shard)
{
    size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;

    for (size_t i = 0; i < slots; i++) {
        for (const struct session *session = shard->sessions[i]; session != NULL;
             session = session->table_next) {
            share_rights_renew(shard, session);
        }
    }
}

static void change_run(struct mr_shard *shard, void *arg)
{
    const struct change *change = arg;
    struct policy before = shard->policy;

    policy_take(shard, &change->policy);
    limits_take(shard, change->limits);
    members_renew(shard);
    mr_net_each(shard->net, client_reloaded, &before);
}

/* Read it all, and change what the shards have in common. */
static enum mr_err change_begin(struct change *change, const struct mr_broker_reloaded *now,
                                struct mr_error *why)
{
    struct mr_broker *broker = change->broker;

    for (uint32_t i = 0; i < broker->run.listener_count; i++) {
        change->policy.listeners[i].conf = now->listeners[i];
    }
    enum mr_err err = listeners_tls_begin(broker, why);
    if (err == MR_OK) {
        err = change_read(change, log_fault, why);
    }
    listeners_tls_end(broker, err == MR_OK);
    if (err == MR_OK) {
        change_commit(change);
        atomic_store(&broker->log_connections, now->log_connections);
        mr_guard_set(broker->guard, &now->limits.ban, &now->limits.flapping);
    }
    return err;
}

enum mr_err mr_broker_reload(struct mr_broker *broker, const struct mr_broker_reloaded *now,
                             struct mr_error *why)
{
    struct change change = {.broker = broker, .limits = &now->limits};
    struct mr_wake done;
    enum mr_err err = mr_wake_open(&done, why); /* first: behind the reading nothing may fail */

    if (err != MR_OK) {
        return err;
    }
    err = change_begin(&change, now, why);
    for (uint32_t i = 0; i < broker_shard_count(broker) && err == MR_OK; i++) {
        if (shard_call_by(broker_shard(broker, i), &done, change_run, &change) != MR_OK) {
            err = mr_error_set(why, MR_ERR_AGAIN, "the gateway is ending");
        }
    }
    mr_wake_close(&done);
    if (err == MR_OK && broker->auth != NULL) {
        mr_auth_settle(broker->auth);
    }
    change_end(&change);
    return err;
}

enum mr_err policy_open(struct mr_broker *broker, struct mr_error *why)
{
    struct change change = {.broker = broker};

    for (uint32_t i = 0; i < broker->run.listener_count; i++) {
        change.policy.listeners[i].conf = &broker->run.listeners[i];
    }
    enum mr_err err = change_read(&change, NULL, why);
    if (err == MR_OK) {
        change_commit(&change);
        for (uint32_t i = 0; i < broker->shard_count; i++) {
            policy_take(broker->shards[i], &change.policy);
        }
    }
    change_end(&change);
    return err;
}

void policy_close(struct mr_shard *shard)
{
    acls_drop(&shard->policy);
}
