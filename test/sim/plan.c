/* plan.c - what a seed means: how large the world is, and what goes wrong in it. */
#include "world.h"

enum { STEPS_DEFAULT = 300 };

static uint64_t pick(struct mr_rng *rng, uint64_t low, uint64_t high)
{
    return low + mr_rng_below(rng, high - low + 1);
}

/* Each kind of fault is there in some seeds, rarely or often, and not at all in others, so
 * that every pair of them meets alone too.
 */
static unsigned rate(struct mr_rng *rng, unsigned often)
{
    switch (mr_rng_below(rng, 3)) {
    case 0:
        return 0;
    case 1:
        return 1 + often / 5;
    default:
        return often;
    }
}

/* Of its own dice, so that what the seed means in the first world stays. */
static void plan_lanes(struct plan *p)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, p->seed * 2 + 1000003);
    if (mr_rng_below(&rng, 2) == 0) {
        return;
    }
    p->lanes = (uint32_t)pick(&rng, 1, LANES_USUAL);
    p->relane = rate(&rng, 300);
    p->journal_bytes *= p->relane != 0 ? LANES_USUAL : p->lanes;
}

static void plan_broker(struct plan *p)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, p->seed * 2 + 2000003);
    p->members = mr_rng_below(&rng, 2) == 0 ? 0 : (uint32_t)pick(&rng, 1, MEMBERS_MAX);
    p->group_qos = (uint8_t)pick(&rng, 1, 2);
    p->boards = mr_rng_below(&rng, 2) == 0 ? 0 : (uint32_t)pick(&rng, 1, BOARDS_MAX);
    p->mortals = mr_rng_below(&rng, 2) == 0 ? 0 : (uint32_t)pick(&rng, 1, MORTALS_MAX);
    bool with_memory = mr_rng_below(&rng, 3) == 0;
    bool with_bridge = mr_rng_below(&rng, 3) == 0;
    for (uint32_t i = 0; i < p->devices; i++) {
        uint64_t which = mr_rng_below(&rng, 3);
        p->ack[i] = which == 0 && with_memory   ? ACK_MEMORY
                    : which == 1 && with_bridge ? ACK_BRIDGE
                                                : ACK_DISK;
    }
}

/* More shards, and little room for each: a lane for itself is full soon, and what one of them
 * still has to read of the others holds these.
 */
static void plan_room(struct plan *p, struct mr_rng *rng)
{
    if (mr_rng_below(rng, 3) != 0) {
        p->lanes = (uint32_t)pick(rng, 1, LANES_MAX);
        p->relane = rate(rng, 300);
        p->lanes_max = p->relane != 0 ? (uint32_t)pick(rng, p->lanes, LANES_MAX) : p->lanes;
    }
    uint32_t lanes = p->relane != 0 ? p->lanes_max : p->lanes;
    p->journal_bytes = (uint64_t)p->segment_bytes * lanes * pick(rng, 3, 6);
    if (mr_rng_below(rng, 3) == 0) {
        p->payload_max = PAYLOAD_MAX;
    }
    p->when_full = (enum full_kind)mr_rng_below(rng, FULL_KINDS);
}

static void plan_bridges(struct plan *p)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, p->seed * 2 + 3000003);
    plan_room(p, &rng);
    bool first_stays = mr_rng_below(&rng, 3) == 0; /* a listener's acknowledgements wait for it */
    for (uint32_t i = 0; i < p->devices && !first_stays; i++) {
        p->ack[i] = p->ack[i] == ACK_BRIDGE ? ACK_DISK : p->ack[i];
    }
    bool lives = mr_rng_below(&rng, 2) == 0;
    for (uint32_t i = 0; i < p->bridges; i++) {
        p->live_first[i] = lives && mr_rng_below(&rng, 3) != 0;
        p->may_go[i] = i != 0 || !first_stays;
        p->may_drop[i] = p->may_go[i] && mr_rng_below(&rng, 4) != 0;
        p->priority[i] = (uint32_t)pick(&rng, 0, 2);
    }
    p->live_after_us = (uint32_t)pick(&rng, 1, 300) * 1000;
    p->live_least = (uint32_t)pick(&rng, 2, 30);
    p->backfill_rate = mr_rng_below(&rng, 2) == 0 ? 0 : (uint32_t)pick(&rng, 20, 500);
    p->reconfigure = rate(&rng, 30);
}

/* Everybody is there, and nothing happens by chance but stops and lost connections. */
static void plan_nth(struct plan *p, uint32_t steps)
{
    enum { DICE = 7, STEPS_NTH = 60 };

    *p = (struct plan){
        .seed = p->seed, .dice = DICE, .world = p->world, .steps = steps != 0 ? steps : STEPS_NTH};
    p->nth = p->world == WORLD_CALLS ? (p->seed + 2) / 3 : p->seed;
    p->lanes = 2;
    p->lanes_max = LANES_USUAL;
    p->devices = 3;
    p->ack[1] = ACK_BRIDGE;
    p->subscribers = 1;
    p->members = 2;
    p->group_qos = 2;
    p->boards = 1;
    p->mortals = 1;
    p->bridges = 2;
    p->exactly_once[0] = true;
    p->with_rejects = true;
    p->segment_bytes = 64 << 10;
    p->journal_bytes = (uint64_t)p->segment_bytes * LANES_USUAL * 8;
    p->block_bytes = 32 << 10;
    p->payload_max = PAYLOAD_USUAL;
    p->commit_delay_us = 500;
    p->checkpoint_ms = 100;
    p->stop = 50;
    p->relane = 500;
    p->network = 50;
}

static void plan_by_chance(struct plan *p, uint64_t seed, uint32_t world, uint32_t steps,
                           enum plant plant)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, seed * 2 + 1);
    *p = (struct plan){.seed = seed,
                       .dice = seed,
                       .world = world,
                       .steps = steps != 0 ? steps : STEPS_DEFAULT,
                       .plant = plant};
    p->lanes = 1;
    p->lanes_max = LANES_USUAL;
    p->devices = (uint32_t)pick(&rng, 1, DEVICES_MAX);
    p->subscribers = (uint32_t)pick(&rng, 0, SUBSCRIBERS_MAX);
    p->bridges = (uint32_t)pick(&rng, 1, BRIDGES_MAX);
    for (uint32_t i = 0; i < p->bridges; i++) {
        p->exactly_once[i] = mr_rng_below(&rng, 2) == 0;
    }
    p->with_rejects = mr_rng_below(&rng, 4) == 0;
    p->segment_bytes = 64 << 10;
    p->journal_bytes = (uint64_t)p->segment_bytes * p->lanes * pick(&rng, 4, 16);
    p->block_bytes = mr_rng_below(&rng, 2) == 0 ? 4 << 10 : 32 << 10;
    p->payload_max = mr_rng_below(&rng, 2) == 0 ? 100 : PAYLOAD_USUAL;
    p->commit_delay_us = (uint32_t)pick(&rng, 1, 3000);
    p->checkpoint_ms = (uint32_t)pick(&rng, 50, 2000);
    p->crash = rate(&rng, 30);
    p->kill = rate(&rng, 30);
    p->stop = rate(&rng, 10);
    p->disk_fault = rate(&rng, 60);
    p->disk_full = rate(&rng, 20);
    p->network = rate(&rng, 100);
    p->operator_ = rate(&rng, 30);
    p->clock_jump = rate(&rng, 20);
    p->pause_percent = mr_rng_below(&rng, 2) == 0 ? 0 : 50;
    p->sync_ns_max = (int64_t)(mr_rng_below(&rng, 3) * 30 * NS_PER_MS);
    p->delay_ns_max = (int64_t)(mr_rng_below(&rng, 3) * 20 * NS_PER_MS);
    if (world >= WORLD_LANES) {
        plan_lanes(p);
    }
    if (world >= WORLD_BROKER) {
        plan_broker(p);
    }
    if (world >= WORLD_ROOM) {
        plan_bridges(p);
    }
}

void plan_make(struct plan *p, uint64_t seed, uint32_t world, uint32_t steps, enum plant plant)
{
    if (world >= WORLD_CALLS) {
        *p = (struct plan){.seed = seed, .world = world};
        plan_nth(p, steps);
    } else {
        plan_by_chance(p, seed, world, steps, plant);
    }
}

void plan_say(const struct plan *p)
{
    say("plan: %u steps, %u lanes, %u devices, %u subscribers, %u bridges (%s, %s)%s", p->steps,
        p->lanes, p->devices, p->subscribers, p->bridges,
        p->exactly_once[0] ? "exactly once" : "at least once",
        p->exactly_once[1] ? "exactly once" : "at least once", p->with_rejects ? ", rejects" : "");
    say("plan: journal %llu bytes, blocks %u, payloads to %u, syncs to %lld ms, network to %lld ms",
        (unsigned long long)p->journal_bytes, p->block_bytes, p->payload_max,
        (long long)p->sync_ns_max / NS_PER_MS, (long long)p->delay_ns_max / NS_PER_MS);
    say("plan: per 1,000 steps %u crashes, %u kills, %u stops, %u disk faults, %u full disks, %u "
        "network faults, %u orders, %u clock jumps; per 1,000 starts %u with another number of "
        "lanes",
        p->crash, p->kill, p->stop, p->disk_fault, p->disk_full, p->network, p->operator_,
        p->clock_jump, p->relane);
    if (p->world >= WORLD_BROKER) {
        say("plan: %u members of a group with QoS %u, %u boards, %u mortals; ack of the devices "
            "%d %d %d %d %d",
            p->members, p->group_qos, p->boards, p->mortals, p->ack[0], p->ack[1], p->ack[2],
            p->ack[3], p->ack[4]);
    }
    if (p->world >= WORLD_ROOM && p->world < WORLD_CALLS) {
        static const char *const kinds[FULL_KINDS] = {"waits", "refuses", "drops"};
        say("plan: a full journal %s; up to %u lanes; fresh events first %d %d, behind %u ms and "
            "%u "
            "records, backlog %u a second; may drop %d %d; per 1,000 steps %u reloads of bridges",
            kinds[p->when_full], p->lanes_max, p->live_first[0], p->live_first[1],
            p->live_after_us / 1000, p->live_least, p->backfill_rate, p->may_drop[0],
            p->may_drop[1], p->reconfigure);
    }
}
