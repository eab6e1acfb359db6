/* realm_internal.h - the authenticators of the listeners; see auth/auth.h.
 *
 * Thread: whoever opens the broker.   Memory: none.   Time: none.
 */
#ifndef MR_BROKER_REALM_INTERNAL_H
#define MR_BROKER_REALM_INTERNAL_H

#include "broker/shard_internal.h"

extern const struct mr_option mr_jwt_options[];
extern const struct mr_option mr_http_options[];

/* Open broker->auth with a realm for each `auth` that differs; each listener knows which one is
 * its own, and whether it asks at all.  CONFIG: as mr_auth_open().
 */
enum mr_err realms_open(struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;

#endif
