/* acl.c - what somebody may; see acl.h.  acl_file.c reads, acl_tree.c matches. */
#include "auth/acl_internal.h"

struct mr_acl *mr_acl_hold(struct mr_acl *acl)
{
    atomic_fetch_add(&acl->holders, 1);
    return acl;
}

void mr_acl_drop(struct mr_acl *acl)
{
    if (acl != NULL && atomic_fetch_sub(&acl->holders, 1) == 1) {
        mr_free(acl->nodes.at);
        mr_free(acl->users);
        mr_free(acl->text);
        mr_free(acl);
    }
}

size_t mr_acl_rule_count(const struct mr_acl *acl)
{
    return acl->rule_count;
}

bool mr_acl_names_users(const struct mr_acl *acl)
{
    return acl->user_count > ACL_USERS_FIRST;
}

/* Its node; 0, which has no rights, if no line is about this user. */
static uint32_t root_of(const struct mr_acl *acl, struct mr_span user)
{
    uint32_t low = ACL_USERS_FIRST;
    uint32_t high = acl->user_count;

    if (user.len == 0) {
        return acl->users[ACL_NOBODY].root;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = acl_text_order(user, acl->users[middle].name);
        if (order == 0) {
            return acl->users[middle].root;
        }
        low = order > 0 ? middle + 1 : low;
        high = order > 0 ? high : middle;
    }
    return 0;
}

static bool has(struct mr_span name, const char *any)
{
    for (; *any != 0; any++) {
        if (name.len != 0 && memchr(name.at, *any, name.len) != NULL) {
            return true;
        }
    }
    return false;
}

struct mr_acl_who mr_acl_who(const struct mr_acl *acl, struct mr_span client, struct mr_span user)
{
    bool evades = (acl->denies_client && has(client, "/")) || (acl->denies_user && has(user, "/"));

    return (struct mr_acl_who){.acl = acl,
                               .client = client,
                               .user = user,
                               .own = root_of(acl, user),
                               .patterns = !evades && !has(client, "+#") && !has(user, "+#")};
}

bool mr_acl_may(const struct mr_acl_who *who, struct mr_span topic, unsigned right)
{
    const struct mr_acl *acl = who->acl;
    uint8_t found = acl_tree_match(&acl->nodes, who->own, who, topic);

    if ((found & (right | ACL_DENY)) == 0 && who->patterns) {
        found = acl_tree_match(&acl->nodes, acl->users[ACL_PATTERNS].root, who, topic);
    }
    return (found & ACL_DENY) == 0 && (found & right) != 0;
}

enum mr_acl_cover mr_acl_covers(const struct mr_acl_who *who, struct mr_span filter)
{
    const struct mr_acl *acl = who->acl;
    struct acl_found own = acl_tree_look(&acl->nodes, who->own, who, filter);
    struct acl_found more = {.some = 0};

    if ((own.all & ACL_DENY) != 0) {
        return MR_ACL_COVERS_NONE;
    }
    if ((own.all & MR_ACL_READ) != 0 && (own.some & ACL_DENY) == 0) {
        return MR_ACL_COVERS_ALL;
    }
    if (who->patterns) {
        more = acl_tree_look(&acl->nodes, acl->users[ACL_PATTERNS].root, who, filter);
    }
    if ((more.all & ACL_DENY) != 0) {
        more = (struct acl_found){.some = 0};
    }
    if ((more.all & MR_ACL_READ) != 0 && ((own.some | more.some) & ACL_DENY) == 0) {
        return MR_ACL_COVERS_ALL;
    }
    return ((own.some | more.some) & MR_ACL_SUBSCRIBE) != 0 ? MR_ACL_COVERS_SOME
                                                            : MR_ACL_COVERS_NONE;
}
