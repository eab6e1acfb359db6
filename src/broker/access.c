/* access.c - who may do what: what the rules of the ACL files (auth/acl.h) say about the
 * clients and sessions of a shard, and to whom a client id belongs.
 *
 * DESIGN
 *
 * A shard has its own references to the files, one per file however many listeners use it,
 * so that a check takes no lock; a reload gives it new ones in a turn (reload.c).
 * `acl_version` counts them; it is 0 as long as no listener has had a file, and then nothing
 * below is asked.
 *
 *   publish    asked once per topic and client: the answer is in the client's topic cache,
 *              which a reload empties
 *   deliver    a subscription that may read all that it matches is marked with the version;
 *              others, and all after a reload, are asked for each message
 *   queued     asked again when it is sent, to sessions of whatever kind
 *   retained   asked too whether its publisher may still write there, on any listener: which
 *              one it came by is not known, nor what a login brought that is over
 *   will       asked at CONNECT, and when it is published
 *
 * What came with a login, a token's claim or a service's answer, is asked before the files, as
 * long as its client is connected (auth/rules.h).
 *
 * A session that was restored at the start, and whose client has not come since, is not known
 * to belong to a listener: it may only what the rules of all listeners allow.
 *
 * Rejected: leaving out what a session may not read when an event is applied at start.  The
 * ordinals of a queue follow from the journal alone (docs/SESSIONS.md); so live what may not
 * be read is counted and settled at once, and at start it is queued and asked when it is sent.
 */
#include "broker/keep_internal.h"

enum { FILTER_BYTES = 1024 }; /* longer ones are asked for each message */

/* The rules of a listener; NULL: it has none, everything is allowed. */
static const struct mr_acl *acl_of(const struct mr_shard *shard, uint32_t listener)
{
    uint32_t index = shard->policy.listeners[listener].acl;

    return index == ACL_NONE ? NULL : shard->policy.acls[index];
}

/* ---- asking ---- */

/* What came with its client's login, as long as that is connected (auth/grant.h); or NULL. */
static const struct mr_auth_grant *grant_of(const struct session *session)
{
    return session->client == NULL ? NULL : session->client->grant;
}

/* What that says of a topic, before any file is asked. */
static enum mr_rules_say grant_says(const struct mr_auth_grant *grant, struct mr_span topic,
                                    unsigned right)
{
    if (grant == NULL) {
        return MR_RULES_NOTHING;
    }
    if (grant->superuser) {
        return MR_RULES_ALLOW;
    }
    return grant->rules == NULL ? MR_RULES_NOTHING
                                : mr_rules_topic(grant->rules, topic, right == MR_ACL_WRITE);
}

static bool file_allows(const struct mr_acl *acl, struct mr_span client, struct mr_span username,
                        struct mr_span topic, unsigned right)
{
    if (acl == NULL) {
        return true;
    }
    struct mr_acl_who who = mr_acl_who(acl, client, username);
    return mr_acl_may(&who, topic, right);
}

bool access_may(const struct mr_shard *shard, const struct session *session, struct mr_span topic,
                unsigned right)
{
    struct mr_span client = session_id(session);
    struct mr_span username = session_username(session);

    if (shard->acl_version == 0) {
        return true;
    }
    enum mr_rules_say said = grant_says(grant_of(session), topic, right);
    if (said != MR_RULES_NOTHING) {
        return said == MR_RULES_ALLOW;
    }
    if (session->listener != LISTENER_UNKNOWN) {
        return file_allows(acl_of(shard, session->listener), client, username, topic, right);
    }
    for (uint32_t i = 0; i < shard->policy.acl_count; i++) {
        if (!file_allows(shard->policy.acls[i], client, username, topic, right)) {
            return false;
        }
    }
    return true;
}

/* Does whoever comes in there have rights that no ACL file tells? */
static bool listener_is_lenient(const struct mr_shard *shard, uint32_t listener)
{
    const struct mr_auth_conf *auth = &shard->policy.listeners[listener].conf->auth;

    return acl_of(shard, listener) == NULL || mr_jwt_is_configured(&auth->jwt) ||
           auth->http.url != NULL;
}

bool access_asks_sources(const struct mr_shard *shard, const struct session *session)
{
    if (shard->acl_version == 0 || session->listener == LISTENER_UNKNOWN ||
        !shard->policy.listeners[session->listener].conf->auth.check_retain_source) {
        return false;
    }
    for (uint32_t i = 0; i < shard->broker->run.listener_count; i++) {
        if (listener_is_lenient(shard, i)) {
            return false; /* there the publisher may have had, and may still have, the right */
        }
    }
    return true;
}

bool access_source_may(const struct mr_shard *shard, const struct mr_message *message)
{
    bool may = message->client.len == 0; /* not known: of an older store */

    for (uint32_t i = 0; i < shard->policy.acl_count && !may; i++) {
        may = file_allows(shard->policy.acls[i], message->client, message->username, message->topic,
                          MR_ACL_WRITE);
    }
    return may;
}

/* What a login's own rules say of a filter; false: nothing. */
static bool grant_covers(const struct mr_auth_grant *grant, struct mr_span filter,
                         enum mr_acl_cover *cover)
{
    if (grant == NULL || (!grant->superuser && grant->rules == NULL)) {
        return false;
    }
    enum mr_rules_say said =
        grant->superuser ? MR_RULES_ALLOW : mr_rules_filter(grant->rules, filter);
    *cover = said == MR_RULES_ALLOW  ? MR_ACL_COVERS_ALL
             : said == MR_RULES_DENY ? MR_ACL_COVERS_NONE
                                     : MR_ACL_COVERS_SOME;
    return said != MR_RULES_NOTHING;
}

enum mr_acl_cover access_covers(const struct mr_shard *shard, const struct session *session,
                                struct mr_span filter)
{
    enum mr_acl_cover cover = MR_ACL_COVERS_ALL;

    if (shard->acl_version == 0 || grant_covers(grant_of(session), filter, &cover)) {
        return cover;
    }
    if (session->listener == LISTENER_UNKNOWN) {
        return MR_ACL_COVERS_SOME;
    }
    const struct mr_acl *acl = acl_of(shard, session->listener);
    if (acl == NULL) {
        return MR_ACL_COVERS_ALL;
    }
    struct mr_acl_who who = mr_acl_who(acl, session_id(session), session_username(session));
    return mr_acl_covers(&who, filter);
}

/* What the rules say about all that the subscription matches. */
static enum mr_acl_cover sub_cover(const struct mr_shard *shard, const struct mr_sub *sub)
{
    uint8_t bytes[FILTER_BYTES];
    size_t len = mr_subtree_filter_len(sub);
    struct mr_span group;
    struct mr_span inner;

    if (len > sizeof(bytes)) {
        return MR_ACL_COVERS_SOME;
    }
    mr_subtree_filter_put(sub, bytes);
    if (mr_topic_share_split(mr_span_make(bytes, len), &group, &inner) == MR_ERR_REJECT) {
        return MR_ACL_COVERS_SOME;
    }
    return access_covers(shard, sub->owner, inner);
}

bool access_reads_slow(const struct mr_shard *shard, const struct mr_sub *sub, struct mr_span topic)
{
    /* What is noted here is nothing that the tree or a walk in it depends on. */
    struct mr_sub *noted = (struct mr_sub *)(uintptr_t)sub;
    const struct session *session = sub->owner;

    if (session->client == NULL && session->had_rules) {
        return true; /* asked when it is sent, with the rules of the login it has then */
    }
    if (sub->acl_asked != shard->acl_version) {
        noted->acl_asked = shard->acl_version;
        if (sub_cover(shard, sub) == MR_ACL_COVERS_ALL) {
            noted->acl_free = shard->acl_version;
            return true;
        }
    }
    if (access_may(shard, session, topic, MR_ACL_READ)) {
        return true;
    }
    mr_metric_add(shard->metrics.denied_deliver, 1);
    return false;
}

void access_joined(const struct mr_shard *shard, struct session *session, uint32_t listener)
{
    const struct mr_auth_grant *grant = grant_of(session);

    session->listener = (uint16_t)listener;
    session->had_rules = grant != NULL && (grant->superuser || grant->rules != NULL);
    for (struct mr_sub *sub = shard->acl_version == 0 ? NULL : session->subs; sub != NULL;
         sub = sub->owner_next) {
        sub->acl_free = 0;
        sub->acl_asked = 0;
    }
}

bool access_will(struct mr_shard *shard, const struct session *session, struct mr_span topic)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (access_may(shard, session, topic, MR_ACL_WRITE)) {
        return true;
    }
    mr_metric_add(shard->metrics.denied_will, 1);
    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        struct mr_span id = session_id(session);
        mr_log(MR_LOG_WARN, "mqtt",
               "the will of client '%.*s' is not published: its user may not write to '%.*s' any "
               "more (%llu more such lines held back); see `auth.acl_file`",
               (int)(id.len < 100 ? id.len : 100), (const char *)id.at,
               (int)(topic.len < 100 ? topic.len : 100), (const char *)topic.at,
               (unsigned long long)held);
    }
    return false;
}

/* "client 'x' (…), user 'y', may not publish to 't' …", once in a while. */
static void denied_log(struct client *client, struct mr_log_limit *limit, const char *action,
                       struct mr_span topic)
{
    struct mr_span user = session_username(client->session);
    struct client_label label;
    uint64_t held = 0;

    if (mr_log_allowed(limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_WARN, "mqtt",
               "%s, user '%.*s', may not %s '%.*s' (%llu more such lines held back); see "
               "`auth.acl_file`",
               client_label(client, &label), (int)(user.len < 64 ? user.len : 64),
               (const char *)user.at, action, (int)(topic.len < 100 ? topic.len : 100),
               (const char *)topic.at, (unsigned long long)held);
    }
}

void access_denied_publish(struct client *client, struct mr_span topic)
{
    static struct mr_log_limit limit;

    mr_metric_add(client->shard->metrics.denied_publish, 1);
    denied_log(client, &limit, "publish to", topic);
}

void access_denied_subscribe(struct client *client, struct mr_span filter)
{
    static struct mr_log_limit limit;

    mr_metric_add(client->shard->metrics.denied_subscribe, 1);
    denied_log(client, &limit, "subscribe to", filter);
}

/* ---- CONNECT ---- */

/* Does the client id fit the pattern?  `%u` is the user name, `*` anything. */
static bool pattern_fits(const char *pattern, struct mr_span user, struct mr_span id)
{
    const char *star = NULL; /* behind the last one, and what it has taken so far */
    struct mr_span star_id = id;

    for (;;) {
        bool puts = pattern[0] == '%' && pattern[1] == 'u';
        struct mr_span part = puts ? user : mr_span_make(pattern, 1);

        if (pattern[0] == '*') {
            pattern += 1;
            star = pattern;
            star_id = id;
            continue;
        }
        if (pattern[0] == 0 && id.len == 0) {
            return true;
        }
        if (pattern[0] != 0 && id.len >= part.len &&
            mr_span_equal(part, mr_span_make(id.at, part.len))) {
            pattern += puts ? 2 : 1;
            id.at += part.len;
            id.len -= part.len;
            continue;
        }
        if (star == NULL || star_id.len == 0) {
            return false;
        }
        star_id.at += 1;
        star_id.len -= 1;
        id = star_id;
        pattern = star;
    }
}

static bool will_may(struct client *client, const struct mr_mqtt_connect *packet,
                     struct mr_span user)
{
    enum mr_rules_say said = grant_says(client->grant, packet->will_topic, MR_ACL_WRITE);

    return said == MR_RULES_ALLOW ||
           (said == MR_RULES_NOTHING &&
            file_allows(acl_of(client->shard, mr_conn_listener(client_conn(client))),
                        packet->client_id, user, packet->will_topic, MR_ACL_WRITE));
}

uint8_t access_connect(struct client *client, const struct mr_mqtt_connect *packet, bool assigned,
                       const char **what)
{
    struct mr_shard *shard = client->shard;
    uint32_t index = mr_conn_listener(client_conn(client));
    const struct mr_auth_conf *conf = &shard->policy.listeners[index].conf->auth;
    struct mr_span user = packet->has_username ? packet->username : (struct mr_span){0};
    const struct session *session = session_find(shard, packet->client_id);

    if (conf->use_username_as_clientid && !mr_span_equal(packet->client_id, user)) {
        *what = "it gave another user name than the one that was checked, which is to be its "
                "client id";
        return MR_MQTT_NOT_AUTHORIZED; /* its home was chosen by what it gave */
    }
    if (conf->client_id_pattern != NULL && !assigned &&
        ((user.len == 0 && strstr(conf->client_id_pattern, "%u") != NULL) ||
         !pattern_fits(conf->client_id_pattern, user, packet->client_id))) {
        *what = "its client id does not fit `auth.client_id_pattern`";
        return MR_MQTT_NOT_AUTHORIZED;
    }
    if (session != NULL && conf->session_takeover == MR_TAKEOVER_SAME_USER &&
        shard->policy.knows_users && session_username(session).len != 0 &&
        !mr_span_equal(session_username(session), user)) {
        *what = "the session of its client id belongs to another user, see `auth.session_takeover`";
        return MR_MQTT_NOT_AUTHORIZED;
    }
    if (client->grant != NULL) {
        *what = mr_auth_grant_rules(client->grant, packet->client_id, user);
        if (*what != NULL) {
            return MR_MQTT_NOT_AUTHORIZED;
        }
    }
    if (shard->acl_version != 0 && packet->has_will &&
        topic_refused(shard, packet->will_topic) == 0 && /* such a one is dropped, later */
        !will_may(client, packet, user)) {
        mr_metric_add(shard->metrics.denied_will, 1);
        *what = "it may not write to the topic of its will, see `auth.acl_file`";
        return MR_MQTT_NOT_AUTHORIZED;
    }
    return 0;
}
