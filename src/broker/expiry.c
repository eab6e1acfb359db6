/* expiry.c - connections that end, and sessions and wills whose time comes.
 *
 * Each session that is not connected has one timer, for whatever comes next: its will, its
 * end, a record that the journal had no room for, or a look whether other members
 * of its groups have come.  Times are counted by the monotonic clock, so that nobody ends
 * because the wall clock was set; only what passed before the process started is known by
 * the wall clock alone.
 */
#include "broker/keep_internal.h"

enum {
    AHEAD_TICKS = 1 << 30, /* as far as a timer is set; then it is set again */
    SHIFT_NS = 100000000,  /* how often a member that is away looks for others */
    SHIFT_ANYWAY_NS = 1000000000,
};

/* Its close record; FULL: the scan tries again. */
static void close_append(struct mr_shard *shard, struct keep *keep, uint8_t flags)
{
    struct mr_control control = {.kind = MR_CONTROL_CLOSE,
                                 .flags = flags,
                                 .client = session_id(keep->session),
                                 .ordinal = keep->ordinal_sent,
                                 .expiry_s = keep->expiry_s};
    uint64_t seq;

    keep->close_owed = control_append(shard, &control, &seq) != MR_OK;
}

bool session_end(struct mr_shard *shard, struct session *session)
{
    struct mr_control end = {.kind = MR_CONTROL_END, .client = session_id(session)};
    uint64_t seq;

    if (!will_publish_kept(shard, session) || shard->stalled || !share_hand_over(shard, session) ||
        control_append(shard, &end, &seq) != MR_OK) {
        return false;
    }
    session_free(shard, session);
    return true;
}

void session_leave(struct mr_shard *shard, struct session *session, const struct client *client)
{
    struct keep *keep = session->keep;

    session->client = NULL;
    queue_attach(keep);
    if (client->will_dropped && session->will != NULL) {
        stored_free(&shard->pool, session->will);
        session->will = NULL;
    }
    keep_close(shard, keep, shard->wall_us);
    if (keep->expiry_s == 0 && session_end(shard, session)) {
        return;
    }
    close_append(shard, keep, client->will_dropped ? MR_CONTROL_WILL_REVOKED : 0);
    if (session->will != NULL && keep->will_ns <= shard->now_ns) {
        (void)will_publish_kept(shard, session); /* the scan tries again */
    }
    share_online(shard, session, false);
    if (session->share != NULL && !shard->stopping) {
        share_shift(shard, session, SHARE_CONNECTED);
    }
    expiry_arm(shard, keep);
}

/* The tick in which `due_ns` has passed, never an earlier one. */
static uint32_t tick_of(const struct mr_shard *shard, int64_t due_ns)
{
    int64_t ahead_ns = due_ns - shard->now_ns;

    if (ahead_ns <= 0) {
        return shard->tick + 1;
    }
    if (ahead_ns / MR_NET_TICK_NS >= AHEAD_TICKS) {
        return shard->tick + AHEAD_TICKS;
    }
    return (uint32_t)((due_ns - shard->start_ns + MR_NET_TICK_NS - 1) / MR_NET_TICK_NS) + 1;
}

void expiry_arm(struct mr_shard *shard, struct keep *keep)
{
    const struct session *session = keep->session;
    int64_t next_ns = keep->ends_ns;

    if (session->will != NULL && keep->will_ns < next_ns) {
        next_ns = keep->will_ns;
    }
    if (keep->close_owed) {
        next_ns = shard->now_ns;
    }
    if (session->share != NULL && keep->count != 0 && next_ns > shard->now_ns + SHIFT_NS) {
        next_ns = shard->now_ns + SHIFT_NS;
    }
    if (next_ns == INT64_MAX) {
        mr_wheel_cancel(&shard->expiries, &keep->timer);
    } else {
        mr_wheel_set(&shard->expiries, &keep->timer, tick_of(shard, next_ns));
    }
}

/* What it has of groups, to members who have come, or have room now. */
static void shift_if_useful(struct mr_shard *shard, struct session *session)
{
    struct keep *keep = session->keep;
    uint64_t online = shares_online(shard->broker->shares);

    if (keep->count != 0 &&
        (keep->shifted_online != online || shard->now_ns - keep->shifted_ns >= SHIFT_ANYWAY_NS)) {
        keep->shifted_online = online;
        keep->shifted_ns = shard->now_ns;
        share_shift(shard, session, SHARE_CONNECTED);
    }
}

/* Its timer has come.  What has no room in the journal is tried again in the next tick. */
static void session_look_at(struct mr_shard *shard, struct session *session)
{
    struct keep *keep = session->keep;

    if (!shard->stalled && keep->close_owed) {
        close_append(shard, keep, session->will == NULL ? MR_CONTROL_WILL_REVOKED : 0);
    }
    if (!shard->stalled && session->will != NULL && keep->will_ns <= shard->now_ns) {
        (void)will_publish_kept(shard, session);
    }
    if (!shard->stalled && session->share != NULL) {
        shift_if_useful(shard, session);
    }
    if (!shard->stalled && keep->ends_ns <= shard->now_ns && session_end(shard, session)) {
        shard->clients_expired += 1;
        return;
    }
    expiry_arm(shard, keep);
}

void expiry_tick(struct mr_shard *shard)
{
    struct mr_wheel_node *node;

    while ((node = mr_wheel_expired(&shard->expiries, shard->tick)) != NULL) {
        struct keep *keep = (struct keep *)(void *)((uint8_t *)node - offsetof(struct keep, timer));
        session_look_at(shard, keep->session);
    }
}
