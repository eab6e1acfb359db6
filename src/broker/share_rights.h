/* share_rights.h - what a member of groups may read, for all shards to see.
 *
 *     home of the member ─▶ share_rights_renew() ─▶ share_client.rights ─▶ whoever chooses
 *
 * A member of a group that may not read a message is not chosen for it: else the message would
 * go to it, be dropped, and be lost to the others.  So its rights lie with it in the registry of
 * groups (share.h), renewed when it joins, connects, leaves, and after a reload.
 *
 * Thread: made by the member's shard, asked by any, under the mutex of the registry.
 * Memory: none without an ACL file and rules of a login; else some 50 bytes and the user name,
 *         and a copy of the login's rules.
 * Time:   a look into the ACL file (acl.h) for each member that is asked.
 */
#ifndef MR_BROKER_SHARE_RIGHTS_H
#define MR_BROKER_SHARE_RIGHTS_H

#include "base/span.h"

struct mr_shard;
struct session;
struct share_rights;

/* Its rights are as they are now.  Nothing if it is in no group. */
void share_rights_renew(const struct mr_shard *shard, const struct session *session);

/* May it?  NULL: all; or it is asked when it is sent. */
bool share_rights_may(const struct share_rights *rights, struct mr_span client_id,
                      struct mr_span topic);
void share_rights_free(struct share_rights *rights); /* NULL is allowed */

#endif
