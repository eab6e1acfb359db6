/* policy_internal.h - who may come in by a listener, and what for, as it is in force (reload.c).
 *
 *     configuration ─▶ policy_make() ─▶ struct policy ─▶ a copy for each shard, in a turn of its
 *
 * Thread: made by the main thread; each shard's own from then on.
 * Memory: 3 KiB a shard; texts are the configuration's, ACL files are counted.   Time: none.
 */
#ifndef MR_BROKER_POLICY_INTERNAL_H
#define MR_BROKER_POLICY_INTERNAL_H

#include "auth/acl.h"
#include "broker/listener_conf.h"
#include "net/net.h"

enum { ACL_NONE = UINT32_MAX };

struct listener_policy {
    const struct mr_listener_conf *conf; /* of which `auth`, limits and allow_anonymous hold */
    uint32_t realm;                      /* who knows its clients, if it asks (auth/auth.h) */
    uint32_t acl;                        /* index of its rules, or ACL_NONE */
    bool asks;
    bool anonymous;
};

struct policy {
    struct listener_policy listeners[MR_NET_LISTENERS_MAX];
    struct mr_acl *acls[MR_NET_LISTENERS_MAX]; /* each file once; references of its own */
    uint32_t acl_count;
    bool knows_users; /* some listener checks who its clients are */
    bool bring_rules; /* ... by tokens or a service, which may send rules along */
};

#endif
