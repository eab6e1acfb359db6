/* session.c - who is connected, by client id.
 *
 * A chained hash table keyed with random bits, because devices choose their ids.
 * It doubles when it is full on average and does not shrink.  A session and its
 * client id and user name are one buffer of the pool.
 */
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"

enum { SESSIONS_FIRST = 256 };

struct mr_span session_id(const struct session *session)
{
    return (struct mr_span){.at = session->text, .len = session->id_len};
}

struct mr_span session_username(const struct session *session)
{
    return (struct mr_span){.at = session->username != NULL ? session->username
                                                            : session->text + session->id_len,
                            .len = session->username_len};
}

bool session_set_username(struct mr_shard *shard, struct session *session, struct mr_span username)
{
    size_t capacity = 0;
    uint8_t *copy = NULL;

    if (mr_span_equal(session_username(session), username)) {
        return true;
    }
    if (username.len != 0) {
        copy = mr_bufpool_take(&shard->pool, username.len, &capacity);
        if (copy == NULL) {
            return false;
        }
        memcpy(copy, username.at, username.len);
    }
    if (session->username != NULL) {
        mr_bufpool_give(&shard->pool, session->username, session->username_capacity);
    }
    session->username = copy;
    session->username_capacity = (uint32_t)capacity;
    session->username_len = (uint16_t)username.len;
    return true;
}

struct session *session_find(struct mr_shard *shard, struct mr_span client_id)
{
    if (shard->sessions == NULL) {
        return NULL;
    }
    uint32_t hash = (uint32_t)mr_siphash(&shard->key, client_id.at, client_id.len);
    struct session *session = shard->sessions[hash & shard->sessions_mask];

    while (session != NULL &&
           (session->hash != hash || !mr_span_equal(session_id(session), client_id))) {
        session = session->table_next;
    }
    return session;
}

static void sessions_grow(struct mr_shard *shard)
{
    size_t before = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;
    size_t slots = before == 0 ? SESSIONS_FIRST : before * 2;
    struct session **table = mr_alloc(slots * sizeof(*table));

    for (size_t i = 0; i < before; i++) {
        struct session *session = shard->sessions[i];
        while (session != NULL) {
            struct session *next = session->table_next;
            session->table_next = table[session->hash & (slots - 1)];
            table[session->hash & (slots - 1)] = session;
            session = next;
        }
    }
    mr_free(shard->sessions);
    shard->sessions = table;
    shard->sessions_mask = slots - 1;
}

struct session *session_new(struct mr_shard *shard, struct client *client, struct mr_span client_id,
                            struct mr_span username)
{
    size_t capacity = 0;
    struct session *session = (struct session *)(void *)mr_bufpool_take(
        &shard->pool, sizeof(*session) + client_id.len + username.len, &capacity);

    if (session == NULL) {
        return NULL;
    }
    *session = (struct session){
        .client = client,
        .capacity = (uint32_t)capacity,
        .id_len = (uint16_t)client_id.len,
        .username_len = (uint16_t)username.len,
        .listener =
            client == NULL ? LISTENER_UNKNOWN : (uint16_t)mr_conn_listener(client_conn(client)),
        .had_rules = client == NULL && shard->policy.bring_rules,
        .hash = (uint32_t)mr_siphash(&shard->key, client_id.at, client_id.len)};
    memcpy(session->text, client_id.at, client_id.len);
    if (username.len != 0) {
        memcpy(session->text + client_id.len, username.at, username.len);
    }
    if (shard->sessions == NULL || shard->sessions_count > shard->sessions_mask) {
        sessions_grow(shard);
    }
    struct session **slot = &shard->sessions[session->hash & shard->sessions_mask];
    session->table_next = *slot;
    *slot = session;
    shard->sessions_count += 1;
    return session;
}

void session_free(struct mr_shard *shard, struct session *session)
{
    struct session **at = &shard->sessions[session->hash & shard->sessions_mask];

    if (session->will != NULL) {
        stored_free(&shard->pool, session->will);
    }
    share_end(shard, session);
    bring_drop(shard, session);
    keep_free(shard, session);
    inbound_drop(&shard->pool, &session->inbound);
    if (session->username != NULL) {
        mr_bufpool_give(&shard->pool, session->username, session->username_capacity);
    }
    while (*at != session) {
        at = &(*at)->table_next;
    }
    *at = session->table_next;
    shard->sessions_count -= 1;
    while (session->subs != NULL) {
        mr_subtree_remove(shard->subtree, session->subs, &session->subs);
    }
    outbound_drop(shard, session);
    mr_bufpool_give(&shard->pool, (uint8_t *)session, session->capacity);
}
