/* share.h - shared subscriptions: which groups there are, and whose turn it is (4.8.2).
 *
 *     "$share/press/plant/#" ─▶ group ── members: sessions, in any shard
 *     topic ─▶ shares_choose_all() ─▶ one member of each group that matches
 *
 * One registry for all shards, because a message must go to one member wherever that is
 * at home, and the shard that the message came in at is the one that chooses.  What is
 * then done with the choice is in share_route.c.
 *
 * Thread: any shard's; a mutex, held for some hundred nanoseconds, for messages that a
 *         group wants and for no others.
 * Memory: mr_alloc per group and member, the tree of filters from a pool of its own
 *         (a sixteenth of the broker's memory).
 * Time:   choosing is one step a member that has no room, as a rule one step.
 */
#ifndef MR_BROKER_SHARE_H
#define MR_BROKER_SHARE_H

#include "base/hash.h"
#include "base/span.h"

#include <stdatomic.h>

struct shares;
struct share_group;
struct share_rights;

/* How much waits for a member already; the least goes first. */
enum share_load {
    SHARE_FREE,   /* its window has room */
    SHARE_QUEUES, /* one more would wait in its queue */
    SHARE_FULL    /* one more would be dropped */
};

/* A session that is in some group, as all shards see it. */
struct share_client {
    _Atomic uint32_t refs;
    uint32_t shard; /* where it is at home */
    bool persistent;
    struct share_rights *rights; /* under the registry's mutex (share_rights.h); NULL: all */
    _Atomic bool connected;
    _Atomic uint8_t load; /* enum share_load */
    uint16_t id_len;
    uint8_t id[];
};

/* One member chosen out of one group; both are held until shares_release(). */
struct share_target {
    struct share_group *group;
    struct share_client *client;
    uint8_t qos;  /* of its subscription */
    bool lasting; /* some member's session outlives its connection */
};

struct shares *shares_open(uint64_t memory_bytes);

/* Connections are about to end: from now on sessions that stay are chosen first, so that what one
 * leaves is not given to the next one that goes.
 */
void shares_stop(struct shares *shares);
void shares_close(struct shares *shares);

/* Changes whenever a group comes or goes, or has its first member that outlives its connection:
 * what others had of it until then, no record tells.  Never 0.
 */
uint64_t shares_version(const struct shares *shares);
bool shares_any(const struct shares *shares);

/* How often a member has come, by joining or by connecting. */
uint64_t shares_online(const struct shares *shares);
void shares_came_online(struct shares *shares);
bool shares_has(struct shares *shares, struct mr_span topic);

struct share_client *share_client_new(struct mr_span id, uint32_t shard, bool persistent);
void share_client_hold(struct share_client *client);
void share_client_drop(struct share_client *client);

/* What it may read from now on; takes `rights` over. */
void shares_set_rights(struct shares *shares, struct share_client *client,
                       struct share_rights *rights);

/* `filter` is the whole "$share/group/filter", and valid.  Joining twice sets the QoS.
 * FULL: no memory.   REJECT: too many levels.
 */
enum mr_err shares_join(struct shares *shares, struct share_client *client, struct mr_span filter,
                        uint8_t qos) MR_MUST_USE;
void shares_leave(struct shares *shares, struct share_client *client, struct mr_span filter);

/* A member of each group that wants `topic` and has one that may read it, at most `max` of
 * them.  With QoS 0 only those who are connected count.
 */
size_t shares_choose_all(struct shares *shares, struct mr_span topic, uint8_t qos,
                         struct share_target *targets, size_t max);

enum share_who { SHARE_ANYONE, SHARE_CONNECTED };

/* Another member of the group with this filter, for what was published to `topic` and `but` (or
 * nobody) was to have.
 */
bool shares_choose(struct shares *shares, struct mr_span filter, struct mr_span topic,
                   const struct share_client *but, enum share_who who, struct share_target *target);

/* A target made of what is known already.  False: `client` is no member. */
bool shares_find(struct shares *shares, struct mr_span filter, struct share_client *client,
                 struct share_target *target);

void shares_release(const struct share_target *targets, size_t count);

struct mr_span share_filter(const struct share_group *group);
struct mr_span share_client_id(const struct share_client *client);
void share_group_hold(struct share_group *group);
void share_group_drop(struct share_group *group);

#endif
