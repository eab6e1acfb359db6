/* share_rights.c - see share_rights.h for the contract. */
#include "broker/share_rights.h"

#include "broker/broker_internal.h"

struct share_rights {
    struct mr_rules *rules; /* of its login; NULL: none */
    struct mr_span user;    /* behind the files */
    uint32_t count;
    struct mr_acl *acls[]; /* all of which must allow it; references of its own */
};

/* The file of its listener; of all, if that is not known (access.c). */
static uint32_t acls_of(const struct mr_shard *shard, const struct session *session,
                        struct mr_acl *acls[MR_NET_LISTENERS_MAX])
{
    const struct policy *policy = &shard->policy;

    if (session->listener == LISTENER_UNKNOWN) {
        memcpy(acls, policy->acls, policy->acl_count * sizeof(*acls));
        return policy->acl_count;
    }
    uint32_t index = policy->listeners[session->listener].acl;
    acls[0] = index == ACL_NONE ? NULL : policy->acls[index];
    return index == ACL_NONE ? 0 : 1;
}

/* NULL: there is nothing to ask now. */
static struct share_rights *rights_make(const struct mr_shard *shard, const struct session *session)
{
    const struct mr_auth_grant *grant = session->client == NULL ? NULL : session->client->grant;
    struct mr_span user = session_username(session);
    struct mr_acl *acls[MR_NET_LISTENERS_MAX];
    struct mr_rules *rules = NULL;

    if (shard->acl_version == 0 || (grant != NULL && grant->superuser) ||
        (session->client == NULL && session->had_rules)) {
        return NULL;
    }
    uint32_t count = acls_of(shard, session, acls);
    if (grant != NULL &&
        grant->rules != NULL) { /* they were read at its CONNECT, so they are good */
        (void)mr_rules_read(&rules, grant->acl, session_id(session), user);
    }
    if (count == 0 && rules == NULL) {
        return NULL;
    }
    struct share_rights *rights =
        mr_alloc(sizeof(*rights) + count * sizeof(rights->acls[0]) + user.len);
    uint8_t *name = (uint8_t *)(rights->acls + count);
    *rights =
        (struct share_rights){.rules = rules, .user = mr_span_make(name, user.len), .count = count};
    for (uint32_t i = 0; i < count; i++) {
        rights->acls[i] = mr_acl_hold(acls[i]);
    }
    if (user.len != 0) {
        memcpy(name, user.at, user.len);
    }
    return rights;
}

void share_rights_free(struct share_rights *rights)
{
    if (rights == NULL) {
        return;
    }
    for (uint32_t i = 0; i < rights->count; i++) {
        mr_acl_drop(rights->acls[i]);
    }
    mr_rules_free(rights->rules);
    mr_free(rights);
}

bool share_rights_may(const struct share_rights *rights, struct mr_span client_id,
                      struct mr_span topic)
{
    enum mr_rules_say said = MR_RULES_NOTHING;

    if (rights == NULL) {
        return true;
    }
    if (rights->rules != NULL) {
        said = mr_rules_topic(rights->rules, topic, false);
    }
    bool may = said != MR_RULES_DENY;
    for (uint32_t i = 0; i < rights->count && may && said == MR_RULES_NOTHING; i++) {
        struct mr_acl_who who = mr_acl_who(rights->acls[i], client_id, rights->user);
        may = mr_acl_may(&who, topic, MR_ACL_READ);
    }
    return may;
}

void share_rights_renew(const struct mr_shard *shard, const struct session *session)
{
    if (session->share != NULL && shard->acl_version != 0) {
        shares_set_rights(shard->broker->shares, session->share, rights_make(shard, session));
    }
}
