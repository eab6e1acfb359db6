/* world.h - one simulated run: a gateway, its disk, devices, subscribers, targets.
 *
 *     seed ─▶ plan ─▶ world: actions, faults, turns of the machine's threads
 *                       │
 *         devices ══ os_sim streams ══ gateway (the real journal, broker, bridges)
 *                       │                        │
 *                    ledger ◀── what was sent, acknowledged, delivered ── model targets
 *
 * Everything random comes from the seed; nothing runs beside the driver.  One process
 * lives one run (main.c forks), so the state of a run is static.
 *
 * Thread: one.   Memory: static; what the gateway had in a crash is lost.   Time: os/sim.h.
 */
#ifndef MR_TEST_SIM_WORLD_H
#define MR_TEST_SIM_WORLD_H

#include "base/base.h"
#include "base/rng.h"
#include "base/span.h"

enum {
    DEVICES_MAX = 5,
    SUBSCRIBERS_MAX = 2,
    MEMBERS_MAX = 3,
    BOARDS_MAX = 2,
    MORTALS_MAX = 2,
    BRIDGES_MAX = 2,
    LANES_MAX = 8,
    LANES_USUAL = 3,   /* in the worlds before WORLD_ROOM */
    STREAMS_MAX = 2,   /* of a bridge in a lane: all, or its backlog; fresh events ahead of it */
    EVENTS_MAX = 2048, /* of one device */
    PAYLOAD_MAX = 3500,
    PAYLOAD_USUAL = 1400,
    NS_PER_MS = 1000000,
};

/* What is wrong on purpose, to see that it is found. */
enum plant {
    PLANT_NONE,
    PLANT_LYING_DISK,    /* some syncs do nothing */
    PLANT_LOSING_SINK,   /* a sink settles DONE what the target never had: the cursor is too far */
    PLANT_DOUBLING_TXN,  /* a target applies a transaction and forgets the position */
    PLANT_SWAPPING_SINK, /* a sink sends two records in the wrong order */
    PLANTS
};

/* A world has more in it than those before; a seed means the same in its world for ever. */
enum {
    WORLD_FIRST = 1,
    WORLD_LANES = 2,  /* several shards, and another number of them at a start */
    WORLD_BROKER = 3, /* groups, retained messages, wills, listeners with another `ack` */
    WORLD_ROOM = 4,   /* `when_full`, `drain: live_first`, bridges that reloads add, remove and
                       * change, and more shards with few segments each */
    WORLD_NEWEST = WORLD_ROOM,

    /* The same run again and again, in which nothing goes wrong but one thing, which the seed
     * numbers: the n-th call to the disk fails (each in three ways), or the n-th allocation.
     */
    WORLD_CALLS = 100,
    WORLD_MEMORY = 101,
};

/* What the acknowledgements of a listener wait for. */
enum ack_kind { ACK_DISK, ACK_MEMORY, ACK_BRIDGE, ACK_KINDS };

/* `journal.when_full` */
enum full_kind { FULL_WAITS, FULL_REFUSES, FULL_DROPS, FULL_KINDS };

/* What a seed means.  Made by plan_make(), shown by plan_say(). */
struct plan {
    uint64_t seed;
    uint64_t dice; /* what everything follows from: the seed, where there is no `nth` */
    uint64_t nth;  /* WORLD_CALLS, WORLD_MEMORY: which one fails */
    uint32_t world;
    uint32_t steps;
    enum plant plant;
    uint32_t lanes;
    uint32_t devices;
    uint32_t subscribers;
    uint32_t bridges;
    bool exactly_once[BRIDGES_MAX];
    enum ack_kind ack[DEVICES_MAX];
    uint32_t members; /* of a group */
    uint8_t group_qos;
    uint32_t boards;
    uint32_t mortals;
    bool with_rejects; /* some events can never be delivered */
    enum full_kind when_full;
    uint32_t lanes_max;           /* a start may find another number, up to it */
    bool live_first[BRIDGES_MAX]; /* at first; a reload may change it */
    uint32_t live_after_us;
    uint32_t live_least; /* records behind, before fresh events overtake */
    uint32_t backfill_rate;
    bool may_drop[BRIDGES_MAX];
    uint32_t priority[BRIDGES_MAX];
    bool may_go[BRIDGES_MAX]; /* a reload may take it out of the configuration */
    uint64_t journal_bytes;
    uint32_t segment_bytes;
    uint32_t block_bytes;
    uint32_t payload_max;
    uint32_t commit_delay_us;
    uint32_t checkpoint_ms;
    /* per 1,000 steps */
    unsigned crash;
    unsigned kill;
    unsigned stop;
    unsigned disk_fault;
    unsigned disk_full;
    unsigned network;
    unsigned operator_;
    unsigned clock_jump;
    unsigned reconfigure;   /* a bridge comes, goes or changes */
    unsigned relane;        /* per 1,000 starts: with another number of lanes */
    unsigned pause_percent; /* of calls to the disk */
    int64_t sync_ns_max;
    int64_t delay_ns_max; /* of bytes on the network */
};
void plan_make(struct plan *plan, uint64_t seed, uint32_t world, uint32_t steps, enum plant plant);
void plan_say(const struct plan *plan);

/* ---- world.c ---- */

extern struct plan plan;

/* The world's own dice: not those of os_sim, so that both can be followed alone. */
uint64_t roll(uint64_t below);
bool chance(unsigned per_mille);

/* A line of the story, if somebody listens. */
void say(const char *fmt, ...) MR_PRINTF(1, 2);
extern bool world_is_told;

/* The run has failed: what was promised did not hold. */
_Noreturn void broken(const char *fmt, ...) MR_PRINTF(1, 2);

/* Everything is calm from now on: no faults, and all have to come to an end. */
extern bool world_is_calm;

/* What came out of a run. */
struct tally {
    uint64_t hash;
    uint64_t turns;
    uint64_t sent;
    uint64_t acked;
    uint64_t delivered;
    uint64_t doubled; /* deliveries of what had been delivered, by sinks that may */
    uint64_t crashes;
    uint64_t kills;
    uint64_t faults;
    uint64_t simulated_ms;
};
extern struct tally tally;

bool world_has_faults(void); /* something is in force that may end a process */

void world_run(const struct plan *with);

/* ---- ledger.c: what was sent, acknowledged, delivered; and what must hold ---- */

struct event_id {
    uint32_t device;
    uint32_t number;
};

/* The bytes and names of an event follow from its id. */
size_t event_payload(struct event_id id, uint8_t out[PAYLOAD_MAX]);
void event_topic(struct event_id id, char out[32]);
uint8_t event_qos(struct event_id id);
bool event_is_wanted(struct event_id id);   /* by the bridges */
bool event_is_rejected(struct event_id id); /* by every target, for ever */
bool event_is_poison(struct event_id id);   /* the whole request with it */

/* Is it of a device, and if so which event? */
bool event_is_in(struct mr_span payload, struct event_id *out);

/* Which event has these bytes; the run ends if they are of none that was sent. */
struct event_id event_read(struct mr_span topic, struct mr_span payload, uint8_t qos);

void ledger_sent(struct event_id id);
void ledger_refused(struct event_id id);              /* by the gateway, for want of room */
void ledger_acked(struct event_id id, uint64_t life); /* ledger_life() of the connection */
bool ledger_is_acked(struct event_id id);

/* One of the streams of a bridge in a lane, as its sinks are made. */
struct stream {
    uint32_t bridge;
    uint32_t lane;
    uint32_t which; /* 1: fresh events, ahead of a backlog */
};

/* It has it at its target, as record `seq` of the lane; `is_marked` as of the backlog. */
void ledger_delivered(struct stream from, uint64_t seq, struct event_id id, bool is_marked);
void ledger_rejected(struct stream from, uint64_t seq, struct event_id id);

/* Records of the lane that are at the target, others that it has refused for ever, and those that
 * the journal gave up: all, and of them events for the bridge that are neither.
 */
struct outcome {
    uint64_t delivered;
    uint64_t rejected;
    uint64_t given_up;
    uint64_t missing;
};
struct outcome ledger_outcome(uint32_t bridge, uint32_t lane);

/* The target's position is `seq` now.  It goes back only if the operator has said so. */
void ledger_placed(struct stream of, uint64_t seq);
void ledger_sought(uint32_t bridge, uint32_t lane);

/* The record was appended; what it is called from now on.  `other`: it is no event of a device. */
void ledger_appended(uint32_t lane, uint64_t seq, struct event_id id);
void ledger_appended_other(uint32_t lane, uint64_t seq);

/* The journal says that it gave these records of `bridge` up. */
void ledger_dropped(uint32_t bridge, uint32_t lane, uint64_t first, uint64_t last);

/* The journal was opened: begin(), each event that it holds, end(). */
void ledger_scan_begin(void);
void ledger_scan_event(uint32_t lane, uint64_t seq, struct event_id id);
void ledger_scan_lane_end(uint32_t lane, uint64_t seq_last); /* a crash took what was behind it */
void ledger_scan_end(void);

/* Nothing is known any more of what was acknowledged before it was durable. */
void ledger_crashed(void);
uint64_t ledger_life(void);

/* A subscriber has been told that it is subscribed; what is sent from now on is its. */
void ledger_subscribed(uint32_t subscriber);
void ledger_subscribers(bool now[SUBSCRIBERS_MAX]);

/* The same of the group, when its first member has been told. */
void ledger_grouped(void);
void ledger_group_received(uint32_t member, struct event_id id, bool is_repeat);
void ledger_received(uint32_t subscriber, struct event_id id, bool is_repeat);

/* Has everything arrived?  Else say what lacks, if `tell`. */
bool ledger_is_settled(bool tell);

/* ---- link.c: the client's end of a connection ---- */

enum { LINK_BYTES = 64 << 10 };

struct link {
    int fd;            /* -1: none */
    enum ack_kind ack; /* of the listener */
    uint64_t life;     /* of the gateway, as the ledger counts */
    bool cut_soon;     /* what is being sent is its last, and not all of it */
    size_t in_len;
    size_t out_len;
    uint8_t in[LINK_BYTES];
    uint8_t out[LINK_BYTES];
};

extern const char *const listener_addresses[ACK_KINDS];
bool link_open(struct link *link); /* false: nobody listens */
void link_cut(struct link *link, const char *why);
bool link_has_room(const struct link *link, size_t bytes);
void link_put(struct link *link, const uint8_t *bytes, size_t len);
void link_flush(struct link *link);

struct mr_mqtt_frame;
/* Take what came, packet by packet.  False: the connection is over. */
bool link_read(struct link *link, void (*each)(void *arg, const struct mr_mqtt_frame *frame),
               void *arg);

/* ---- device.c, subscriber.c ---- */

void devices_open(void);
uint8_t device_qos(uint32_t index, uint32_t percent); /* of an event whose dice say `percent` */
bool device_is_persistent(uint32_t index);            /* its session outlives its connection */
void device_act(uint32_t index);                      /* something a device does, as the dice say */
void devices_pump(void);                              /* take what came, send what waits */
void devices_calm(void);                              /* connect, and finish what was begun */
bool devices_are_done(void);

void subscribers_open(void);
uint8_t subscriber_qos(uint32_t index);
void subscriber_act(uint32_t index);
void subscribers_pump(void);
void subscribers_calm(void);
bool subscribers_got_some(void); /* since the last time that this was asked */

/* ---- board.c: retained messages; mortal.c: wills ---- */

void boards_open(void);
void board_act(uint32_t index);
void looker_act(void);
void boards_pump(void);
void boards_calm(void);
bool boards_are_done(void);
bool looker_is_right(bool tell);
void looker_again(void);
bool board_has_topic(struct mr_span topic);
void board_check(struct mr_span topic, struct mr_span payload); /* it was sent so */

void mortals_open(void);
void mortal_act(uint32_t index);
void mortals_pump(void);
void mortals_calm(void);
bool mortals_are_done(bool tell);
bool mortal_has_topic(struct mr_span topic);
void mortal_received(uint32_t subscriber, struct mr_span topic, struct mr_span payload,
                     bool is_repeat);
void mortals_scan_begin(void);
void mortals_scan_will(struct mr_span topic, struct mr_span payload);

/* ---- target.c, vault.c: where the bridges deliver to ---- */

extern const struct mr_sink_ops plain_sink; /* at least once */
extern const struct mr_sink_ops vault_sink; /* exactly once */
struct model_conf {
    uint32_t bridge;
    uint32_t lane;
};
void target_turn(uint32_t bridge); /* its state changes, as the dice say */
void targets_forget(void);         /* a crash has taken the sinks */
void targets_pump(void);           /* what is on its way to them arrives */

/* ---- store_model.c: the session store of the machine ---- */

void store_model_fail(bool on); /* no transaction succeeds */
void store_model_end(void);     /* the machine is no more: nothing is stored, no store is open */

/* ---- heap.c ---- */

void heap_life_ends(void); /* what the gateway had is free again */

/* The `nth` allocation of the gateway is refused.  Has it been? */
void heap_refuse(uint64_t nth);
bool heap_has_refused(void);

/* ---- machine.c: the gateway ---- */

void machine_start(void);
bool machine_is_up(void);    /* it serves */
bool machine_is_there(void); /* its process runs */
void machine_wants_stop(void);
void machine_note_fault(void);      /* something is in force from now on that may end it */
void machine_is_gone(void);         /* a crash has taken it */
void machine_operate(void);         /* what an operator does, as the dice say */
void machine_reconfigure(void);     /* ... to the bridges in the configuration */
void machine_calm(uint32_t bridge); /* the operator takes back what he did */
bool machine_has_settled(void);     /* cursors have reached the end */
void machine_look_for_drops(void);  /* has the journal given something up? */
void machine_check_bounds(void);
void machine_check_books(void);   /* of the bridges that run: do they balance? */
void machine_compare_books(void); /* do they say what the ledger says? */

#endif
