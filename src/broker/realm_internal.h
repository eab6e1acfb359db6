/* realm_internal.h - the authenticators of the listeners; see auth/auth.h.
 *
 * Thread: any.   Memory: none.   Time: none.
 */
#ifndef MR_BROKER_REALM_INTERNAL_H
#define MR_BROKER_REALM_INTERNAL_H

#include "broker/shard_internal.h"

extern const struct mr_option mr_jwt_options[];
extern const struct mr_option mr_http_options[];

/* What `auth` says of who is asked.  CONFIG: `order` is wrong. */
enum mr_err realm_make(const struct mr_auth_conf *conf, struct mr_auth_realm *out,
                       struct mr_error *why) MR_MUST_USE;

#endif
