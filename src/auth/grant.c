/* grant.c - see grant.h for the contract. */
#include "auth/grant.h"

#include "codec/json_read.h"

struct mr_auth_grant *mr_auth_grant_make(struct mr_span username, struct mr_span acl)
{
    size_t size = username.len + 1 + acl.len; /* decoded a text is no longer than written */
    struct mr_auth_grant *grant = mr_alloc(sizeof(*grant) + size);
    struct mr_text text = mr_text_over(grant->text, username.len + 1);

    if (username.len != 0) {
        mr_json_text(&text, username);
    }
    grant->size = size;
    grant->username = mr_span_make(grant->text, text.len);
    if (!mr_utf8_valid(grant->username) || text.len > MR_AUTH_NAME_MAX) {
        mr_auth_grant_free(grant);
        return NULL;
    }
    if (acl.len != 0) {
        memcpy(grant->text + username.len + 1, acl.at, acl.len);
    }
    grant->acl = mr_span_make(grant->text + username.len + 1, acl.len);
    return grant;
}

void mr_auth_grant_free(struct mr_auth_grant *grant)
{
    if (grant != NULL) {
        mr_rules_free(grant->rules);
        mr_free(grant);
    }
}

const char *mr_auth_grant_rules(struct mr_auth_grant *grant, struct mr_span client_id,
                                struct mr_span user)
{
    mr_rules_free(grant->rules);
    grant->rules = NULL;
    return grant->acl.len == 0 ? NULL : mr_rules_read(&grant->rules, grant->acl, client_id, user);
}
