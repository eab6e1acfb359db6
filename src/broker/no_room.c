/* no_room.c - what publishers notice of a journal that has no room.
 *
 *     append says FULL ─▶ shard_stall: all publishers wait, nothing is lost
 *                     └─▶ shard_refuses (when_full: reject): 5.0 is told so, QoS 0 is dropped
 *
 * Refusing begins when the lane itself says that it is full, not when it only waits for the disk:
 * a commit of some milliseconds is no reason to send anybody away.  It ends when the lane says so,
 * looked at once per turn.  A lane that waits for a shard to read it is full, too, when that
 * shard's own lane is.  Who speaks 3.x cannot be told, since its PUBACK has no reason: it would
 * forget the message.  So it waits, as everybody does otherwise.
 */
#include "broker/broker_internal.h"

static const int64_t lasts_ns = INT64_C(2000000000);

/* A shard with nobody to serve sleeps for ever, and its position in the other lanes with it: a
 * lane that has no room asks it to move on, for that may be what holds the segments.
 */
static void wake_idle_others(const struct mr_shard *shard)
{
    const struct mr_broker *broker = shard->broker;

    for (uint32_t i = 0; i < broker->shard_count; i++) {
        if (i != shard->index && broker->shards[i] != NULL && broker->shards[i]->thread != NULL) {
            mr_wake_ring(&broker->shards[i]->wake);
        }
    }
}

static void ask_others(struct mr_shard *shard)
{
    if (shard->stall_tick != shard->tick) { /* once: two that are stalled would wake each other */
        shard->stall_tick = shard->tick;
        wake_idle_others(shard);
    }
}

void shard_stall(struct mr_shard *shard)
{
    ask_others(shard);
    shard->stalled = true;
    mr_net_set_read_max(shard->net, SHARD_READ_STALLED);
}

/* Say that publishers wait, and that they go on; a journal at its brim may do so
 * many times a second, then one pair of lines in a while is enough.
 */
void stall_note(struct mr_shard *shard)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (!shard->stalled || shard->stall_ns == 0) {
        shard->stall_ns = shard->stalled ? shard->now_ns : 0;
    }
    if (shard->stalled == shard->stall_logged || shard->refusing) {
        return;
    }
    if (!shard->stalled) {
        shard->stall_logged = false;
        mr_log(MR_LOG_INFO, "mqtt", "the journal has room again; publishers go on");
        return;
    }
    /* BEHIND is a matter of milliseconds and the disk's, not the operator's, unless it lasts. */
    enum mr_lane_state state = mr_lane_state(shard->lane);
    bool lasts = state == MR_LANE_BEHIND && shard->now_ns - shard->stall_ns > lasts_ns;
    if ((state == MR_LANE_FULL || lasts) && mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        shard->stall_logged = true;
        mr_log(MR_LOG_WARN, "mqtt", "publishers wait, nothing is lost: %s",
               mr_lane_state_text(shard->lane));
    }
}

/* Publishes that were refused, of all QoS. */
static uint64_t refused_count(const struct mr_shard *shard)
{
    uint64_t count = 0;

    for (size_t qos = 0; qos < MR_COUNT_OF(shard->metrics.refused_full); qos++) {
        count += (uint64_t)mr_metric_get(shard->metrics.refused_full[qos]);
    }
    return count;
}

/* The same of those who do not wait. */
static void refusing_note(struct mr_shard *shard)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    mr_metric_set(shard->metrics.refusing, shard->refusing);
    if (!shard->refusing && shard->stall_logged) {
        shard->stall_logged = false;
        mr_log(MR_LOG_INFO, "mqtt",
               "the journal has room again; publishes are taken (refused or dropped since the "
               "start: %llu)",
               (unsigned long long)refused_count(shard));
    } else if (shard->refusing && mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        shard->stall_logged = true;
        mr_log(
            MR_LOG_WARN, "mqtt",
            "publishes are refused until there is room (QoS 1 and 2 of MQTT 5: 0x97, of 3.x they "
            "wait; QoS 0 is dropped): %s",
            mr_lane_state_text(shard->lane));
    }
}

bool shard_refuses(struct mr_shard *shard)
{
    bool full = shard->refuses && mr_lane_state(shard->lane) == MR_LANE_FULL;

    if (MR_UNLIKELY(full)) {
        ask_others(shard);
    }
    if (MR_UNLIKELY(full != shard->refusing)) {
        shard->refusing = full;
        refusing_note(shard);
    }
    return full;
}
