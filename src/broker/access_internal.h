/* access_internal.h - who may do what, and how that changes (access.c, reload.c).
 *
 * Thread: the shard's, but for opening.   Memory: none.   Time: see auth/acl.h.
 */
#ifndef MR_BROKER_ACCESS_INTERNAL_H
#define MR_BROKER_ACCESS_INTERNAL_H

#include "broker/shard_internal.h"

/* ---- access.c ---- */

/* Has the session's user this right (MR_ACL_…) to the topic?  Yes, without ACL files. */
bool access_may(const struct mr_shard *shard, const struct session *session, struct mr_span topic,
                unsigned right);
enum mr_acl_cover access_covers(const struct mr_shard *shard, const struct session *session,
                                struct mr_span filter); /* without $share */

/* Are retained messages to be kept from the session whose publishers may not publish there any
 * more (`auth.check_retain_source`)?  No, without ACL files.
 */
bool access_asks_sources(const struct mr_shard *shard, const struct session *session);
/* Then: may this one be shown? */
bool access_source_may(const struct mr_shard *shard, const struct mr_message *message);

/* May the owner of the subscription get what was published to `topic`? */
bool access_reads_slow(const struct mr_shard *shard, const struct mr_sub *sub,
                       struct mr_span topic);
static inline bool access_reads(const struct mr_shard *shard, const struct mr_sub *sub,
                                struct mr_span topic)
{
    return MR_LIKELY(sub->acl_free == shard->acl_version) || access_reads_slow(shard, sub, topic);
}

/* A will whose time has come; false: it is not published any more, and that was told. */
bool access_will(struct mr_shard *shard, const struct session *session, struct mr_span topic);

/* A PUBLISH or a SUBSCRIBE is refused by the rules: count it, and tell it now and then. */
void access_denied_publish(struct client *client, struct mr_span topic);
void access_denied_subscribe(struct client *client, struct mr_span filter);

/* 0: nothing speaks against this CONNECT of a client that is known now (`assigned`: its id is
 * ours).  Else the reason of the refusal, and *what says it.
 */
uint8_t access_connect(struct client *client, const struct mr_mqtt_connect *packet, bool assigned,
                       const char **what);

/* A client has come, by this listener, to its session. */
void access_joined(const struct mr_shard *shard, struct session *session, uint32_t listener);

/* ---- reload.c ---- */

/* What `run` says is in force; no shard runs yet.  CONFIG: `why` says which file is wrong. */
enum mr_err policy_open(struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;
void policy_close(struct mr_shard *shard);

#endif
