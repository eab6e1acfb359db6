/* http_body.c - what a service answers; see http.h. */
#include "auth/http.h"

#include "auth/grant.h"
#include "codec/json.h"
#include "codec/json_read.h"

enum http_answer http_body_read(struct mr_span body, struct mr_auth_grant **grant)
{
    *grant = NULL;
    if (!mr_json_valid(body)) {
        return HTTP_DOWN;
    }
    struct mr_span result = mr_json_member(body, "result");
    if (mr_span_is(result, "\"deny\"")) {
        return HTTP_DENY;
    }
    if (mr_span_is(result, "\"ignore\"")) {
        return HTTP_IGNORE;
    }
    if (!mr_span_is(result, "\"allow\"")) {
        return HTTP_DOWN;
    }
    struct mr_span acl = mr_json_member(body, "acl");
    struct mr_span expire = mr_json_member(body, "expire_at");
    bool superuser = mr_span_is(mr_json_member(body, "is_superuser"), "true");
    uint64_t expires_s = 0;
    if (expire.len != 0 && !mr_json_u64(expire, &expires_s)) {
        return HTTP_DOWN; /* a limit that is not understood is no reason to have none */
    }
    if (acl.len != 0 || superuser || expires_s != 0) {
        *grant = mr_auth_grant_make((struct mr_span){0}, acl);
        (*grant)->superuser = superuser;
        (*grant)->expires_s = (int64_t)(expires_s > INT64_MAX ? INT64_MAX : expires_s);
    }
    return HTTP_ALLOW;
}
