/* share_internal.h - what shared subscriptions are for the rest of a shard.
 *
 *     share_member.c  a session as a member: joins, gets busy, leaves
 *     share_route.c   messages to members, by record or at once
 *     share_lanes.c   which messages: the own lane's, read behind the commit
 *
 * Thread: the shard's.   Memory: copies of what is under way, from the shard's pool.
 */
#ifndef MR_BROKER_SHARE_INTERNAL_H
#define MR_BROKER_SHARE_INTERNAL_H

#include "broker/broker_internal.h"
#include "journal/control.h"

/* ---- share_member.c ---- */

bool share_is(struct mr_span filter); /* "$share/group/filter" */

/* `sub` is the session's subscription to the shared `filter`: 0, or the reason why not (a
 * persistent session has 255 of them at most).
 */
uint8_t share_join(struct mr_shard *shard, struct session *session, struct mr_sub *sub,
                   struct mr_span filter, uint8_t qos);
void share_leave(struct mr_shard *shard, struct session *session, struct mr_span filter);
void share_online(const struct mr_shard *shard, struct session *session, bool connected);

/* How much it has to do has changed.  Nothing if it is in no group. */
void share_load(const struct mr_shard *shard, struct session *session);

/* A persistent session is about to end: what it leaves goes to others, away or not, before the
 * record that ends it, so that after a crash in between it is still owed it.  Its connection
 * has gone.  False: the journal has no room for all of it, or some cannot be read now, and the
 * session may not end yet; paused connections and timers of sessions ask again at the next tick.
 */
bool share_hand_over(struct mr_shard *shard, struct session *session) MR_MUST_USE;

/* It is about to unsubscribe: what it was not sent goes to others, away or not, if there are any;
 * what it was sent stays with it, for it may be acknowledging it.  False: not yet, as above.
 */
bool share_leaving(struct mr_shard *shard, struct session *session,
                   const struct mr_sub *sub) MR_MUST_USE;

/* The session ends: out of its groups; one that is not persistent leaves what it has to others. */
void share_end(struct mr_shard *shard, struct session *session);

/* It is away: what it was not sent, or sent with QoS 1, to others who are there. */
void share_shift(struct mr_shard *shard, struct session *session, enum share_who who);

/* The row of a new subscription of a persistent session, and the slot that follows. */
void sub_number(struct session *session, struct mr_sub *sub);
uint8_t sub_slot(const struct mr_sub *sub);

/* A session that is not persistent was sent `outgoing` of a group; it acknowledged. */
void share_sent(struct client *client, const struct outgoing *outgoing);
void share_acked(struct mr_shard *shard, struct outbound *outbound, uint16_t packet_id);

/* ---- share_route.c ---- */

enum { SHARE_TARGETS_MAX = 128 }; /* groups that get one message */

/* One message for members of groups. */
struct giving {
    const struct mr_message *message;
    const struct share_target *targets;
    size_t count;
    struct mr_span from; /* the session that had it as `ordinal`; empty: none */
    uint64_t ordinal;
    uint64_t seq; /* the record of `lane` that brings it about; 0: none */
    uint32_t lane;
    bool recorded; /* a record of another lane says already that nothing is kept for them */
};

/* Give it, with a record where one is needed.  FULL: nothing has happened. */
enum mr_err share_give(struct mr_shard *shard, const struct giving *giving) MR_MUST_USE;

/* A GIVE was appended, or is read at start.  Of another lane: only what it means for takers
 * of here, without a record (rehome.c).
 */
void share_apply(struct mr_shard *shard, const struct mr_control *give, uint32_t lane,
                 uint64_t seq);
bool share_get(const struct mr_event *record, struct mr_control *give); /* is it one? */

/* The subscription that a taker with `keeps` has here.  NULL: it is at home elsewhere, or gone. */
struct mr_sub *share_taker(struct mr_shard *shard, const struct mr_control_taker *taker);

/* A record of another lane, in case it is a GIVE.  FULL: not now. */
enum mr_err share_take(struct mr_shard *shard, uint32_t lane, const struct mr_event *record,
                       bool live) MR_MUST_USE;

/* To another member than the one that has gone, now or when there is room.  It is taken over: so
 * what waits needs no memory.
 */
void share_pass_on(struct mr_shard *shard, struct stored *stored);
void share_retry(struct mr_shard *shard);
void share_stop_say(struct mr_shard *shard); /* at the end: what waits still is lost */

/* Its record is durable; it is taken over. */
void share_pending(struct mr_shard *shard, struct stored *pending);

/* QoS 0, or not journaled: to one member of each group, now or never. */
void share_deliver(struct mr_shard *shard, const struct mr_message *message);
void share_deliver_to(struct mr_shard *shard, const struct mr_message *message,
                      struct mr_span client_id, struct mr_span filter);
void share_close(struct mr_shard *shard);

/* ---- share_lanes.c ---- */

/* The record `seq` of `lane` has been dealt with. */
void share_passed(struct mr_shard *shard, uint32_t lane, uint64_t seq);

/* Read the own lane, or end it, as groups came or went; in front of every SUBACK and at
 * the end of each turn.
 */
void share_follow(struct mr_shard *shard);
void share_route(struct mr_shard *shard);       /* at most a turn's worth */
void share_route_again(struct mr_shard *shard); /* there may be room again */

/* It has stopped at an event for which there is no room. */
bool share_route_waits(const struct mr_shard *shard);
void share_lanes_close(struct mr_shard *shard);

/* A lane that is none any more, given to groups up to `pos`; mr_alloc. */
void share_ended_add(struct mr_shard *shard, uint32_t lane, uint64_t pos);
struct ended_lane *share_ended_lane(const struct mr_shard *shard, uint32_t lane); /* or NULL */

/* At start: its cursor, which holds it; then, when all groups are known, what is left of it. */
enum mr_err share_ended_open(struct mr_shard *shard, struct mr_error *why) MR_MUST_USE;
void share_ended_catch_up(struct mr_shard *shard);

/* A delta is closed, as far as the lanes have been given; it is written. */
void share_lanes_sealed(struct mr_shard *shard);
void share_lanes_checkpointed(struct mr_shard *shard);

#endif
