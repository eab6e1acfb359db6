/* grant.h - what a yes may bring beside the yes: a token's claims, a service's answer.
 *
 * Thread: values; whoever has it owns it.   Memory: one block, text included.   Time: none.
 */
#ifndef MR_AUTH_GRANT_H
#define MR_AUTH_GRANT_H

#include "auth/rules.h"

enum { MR_AUTH_NAME_MAX = 65535 };

struct mr_auth_grant {
    int64_t expires_s;       /* Unix: the connection ends then; 0: it may stay */
    uint64_t key;            /* of a token: what it is signed with (mr_auth_knows_key()) */
    bool superuser;          /* no rule holds for it */
    bool names_user;         /* `username` is who it is, whatever CONNECT said; it may be empty */
    struct mr_span username; /* in `text`, as `acl` */
    struct mr_span acl;      /* JSON: rules of its own, in EMQX's forms; empty: none */
    struct mr_rules *rules;  /* made from it, when the client id is known; or NULL */
    size_t size;
    char text[];
};

/* `username` and `acl` are JSON values, or empty; the name is decoded.  NULL: it is no name that
 * MQTT knows.  mr_auth_grant_free() frees it.
 */
struct mr_auth_grant *mr_auth_grant_make(struct mr_span username, struct mr_span acl);
void mr_auth_grant_free(struct mr_auth_grant *grant); /* NULL is allowed */

/* Make `rules` from `acl`, if there is any; anew, for a CONNECT without a client id that is handled
 * again gets another one.  NULL, or what is wrong
 * with it: then the client must not come in, because it might be denied something.
 */
const char *mr_auth_grant_rules(struct mr_auth_grant *grant, struct mr_span client_id,
                                struct mr_span user);

#endif
