/* ledger.c - the books: what was sent, acknowledged, delivered, and what must hold of it.
 *
 * INVARIANTS, each checked when it could first be broken:
 *
 *   (1) What was acknowledged is in the journal after every start, or at every target
 *       (delivered, or refused for ever).
 *   (2) A target that is delivered to exactly once never gets a record twice, and of each
 *       lane only rising ones.
 *   (3) First deliveries of a device's events are in the order in which it sent them, at
 *       every target and every subscriber.
 *   (4) What a device of a session that outlives its connection sends with QoS 2 is one record.
 *   (5) Nothing arrives that was not sent, and nothing altered.
 *   (6) In the end everything acknowledged has arrived, everywhere; of a group at one member, and
 *       with QoS 2 at no other.
 *   (7) What was refused for want of room, and was sent once, is nowhere.
 *   (8) What the journal gave up is events of bridges that may drop them (or were taken out),
 *       with `when_full: drop_oldest`; outside of these ranges nothing is missing.
 *   (9) Fresh events that overtake a backlog are in order, and so is the backlog; what comes behind
 *       newer events of its device is marked.
 *   (10) What a listener acknowledges with `ack: memory` counts as acknowledged until a crash; with
 *       `ack: BRIDGE` the bridge's target has it, or has refused it for ever.
 */
#include "world.h"

#include "base/bytes.h"
#include "os/sim.h"

#include <string.h>

enum { MAGIC = 0x5eed1e55, HEAD_BYTES = 16, SEQS_MAX = 65536, SEQS_LEAST = 1024 };

/* What has become of a record. */
enum {
    FATE_DELIVERED = 1,
    FATE_REJECTED = 2,
    FATE_GIVEN_UP = 4,
    FATE_ONCE = 8, /* delivered since the operator has gone back over it */
};

struct entry {
    uint16_t sent; /* times */
    bool acked;
    bool doubtful;       /* acknowledged before it was durable, and then a crash */
    uint16_t in_journal; /* records, at the last scan */
    bool delivered[BRIDGES_MAX];
    bool rejected[BRIDGES_MAX];
    bool dropped[BRIDGES_MAX]; /* a record of it */
    bool refused;              /* for want of room, and not sent again */
    bool received[SUBSCRIBERS_MAX];
    bool due_group;
    bool received_group;
    bool due[SUBSCRIBERS_MAX]; /* first sent when this one was subscribed */
    uint64_t seq[BRIDGES_MAX]; /* of the first delivery */
    bool has_first;
    uint32_t first_lane; /* of the first record of it that the journal has or had */
    uint64_t first_seq;
    uint32_t found_lane; /* of what the last scan found, the first */
    uint64_t found_seq;
};

static struct entry entries[DEVICES_MAX][EVENTS_MAX];
static uint32_t newest[DEVICES_MAX]; /* number sent last, and one more */
static uint32_t first_at[BRIDGES_MAX][STREAMS_MAX][DEVICES_MAX]; /* ... of first deliveries */
static uint32_t first_to[SUBSCRIBERS_MAX][DEVICES_MAX];          /* ... and receptions */
static uint64_t position[BRIDGES_MAX][LANES_MAX][STREAMS_MAX];   /* newest seq, exactly once */
static uint32_t sought[BRIDGES_MAX][LANES_MAX]; /* how often the operator may still be obeyed */
static bool was_sought[BRIDGES_MAX];            /* ends a second position: no marks behind it */
static bool is_subscribed[SUBSCRIBERS_MAX];

/* By seq, of one lane: what the records are, and for each bridge what has become of them. */
struct record {
    struct event_id id;
    bool is_event;
    uint8_t fates[BRIDGES_MAX];
};
static struct records {
    struct record *all;
    uint64_t room;
} records[LANES_MAX];
static bool is_grouped;
static uint64_t crashes;
static uint64_t crashes_scanned; /* the journal was looked through behind so many */

static struct entry *entry_of(struct event_id id)
{
    mr_assert(id.device < DEVICES_MAX && id.number < EVENTS_MAX);
    return &entries[id.device][id.number];
}

/* ---- events ---- */

static uint32_t mix(struct event_id id, uint32_t salt)
{
    uint32_t x = id.device * 0x9e3779b9u ^ id.number * 0x85ebca6bu ^ salt * 0xc2b2ae35u;

    x ^= x >> 15;
    x *= 0x2c1b3c6du;
    x ^= x >> 12;
    return x;
}

/* Bytes of which each is 7 more than the one before, from `first` on. */
static const uint8_t *pattern_from(uint8_t first)
{
    enum { STEP = 7, BACK = 183 }; /* BACK * STEP = 1, modulo 256 */
    static uint8_t pattern[256 + PAYLOAD_MAX];

    if (pattern[1] == 0) {
        for (size_t i = 0; i < sizeof(pattern); i++) {
            pattern[i] = (uint8_t)(i * STEP);
        }
    }
    return pattern + (uint8_t)(first * BACK);
}

size_t event_payload(struct event_id id, uint8_t out[PAYLOAD_MAX])
{
    size_t len = HEAD_BYTES + mix(id, 1) % (plan.payload_max - HEAD_BYTES);

    mr_put_u32(out, MAGIC);
    mr_put_u32(out + 4, id.device);
    mr_put_u32(out + 8, id.number);
    mr_put_u32(out + 12, (uint32_t)len);
    memcpy(out + HEAD_BYTES, pattern_from((uint8_t)(mix(id, 2) + HEAD_BYTES * 7)),
           len - HEAD_BYTES);
    return len;
}

void event_topic(struct event_id id, char out[32])
{
    char name[] = {event_is_wanted(id) ? 's' : 'x', '/', (char)('0' + id.device), '/', 'k',
                   (char)('0' + mix(id, 3) % 3),    '\0'};

    memcpy(out, name, sizeof(name));
}

uint8_t event_qos(struct event_id id)
{
    return device_qos(id.device, mix(id, 4) % 100);
}

bool event_is_wanted(struct event_id id)
{
    return mix(id, 5) % 11 != 0;
}

bool event_is_rejected(struct event_id id)
{
    return plan.with_rejects && mix(id, 6) % 23 == 0;
}

bool event_is_poison(struct event_id id)
{
    return plan.with_rejects && !event_is_rejected(id) && mix(id, 7) % 31 == 0;
}

bool event_is_in(struct mr_span payload, struct event_id *out)
{
    if (payload.len < HEAD_BYTES || mr_get_u32(payload.at) != MAGIC) {
        return false;
    }
    *out = (struct event_id){.device = mr_get_u32(payload.at + 4),
                             .number = mr_get_u32(payload.at + 8)};
    return out->device < plan.devices && out->number < EVENTS_MAX;
}

struct event_id event_read(struct mr_span topic, struct mr_span payload, uint8_t qos)
{
    uint8_t expected[PAYLOAD_MAX];
    char name[32];

    if (payload.len < HEAD_BYTES || mr_get_u32(payload.at) != MAGIC) {
        broken("phantom: %zu bytes that no device has sent", payload.len);
    }
    struct event_id id = {.device = mr_get_u32(payload.at + 4),
                          .number = mr_get_u32(payload.at + 8)};
    if (id.device >= plan.devices || id.number >= EVENTS_MAX || entry_of(id)->sent == 0) {
        broken("phantom: event %u of device %u was not sent", id.number, id.device);
    }
    event_topic(id, name);
    size_t len = event_payload(id, expected);
    if (!mr_span_equal(payload, mr_span_make(expected, len)) || !mr_span_is(topic, name) ||
        qos > event_qos(id)) {
        broken("corrupt: event %u of device %u: '%.*s', %zu bytes, QoS %u", id.number, id.device,
               (int)topic.len, (const char *)topic.at, payload.len, qos);
    }
    return id;
}

/* Sent with QoS 2 in a session that outlives its connection: one record. */
static bool is_once(struct event_id id)
{
    return event_qos(id) == 2 && device_is_persistent(id.device);
}

/* Bridge `bridge` needs it no more. */
static bool is_done_by(const struct entry *entry, uint32_t bridge)
{
    return entry->delivered[bridge] || entry->rejected[bridge] || entry->dropped[bridge];
}

/* ---- devices ---- */

void ledger_sent(struct event_id id)
{
    struct entry *entry = entry_of(id);

    if (entry->sent == 0) {
        mr_assert(id.number == newest[id.device]);
        newest[id.device] = id.number + 1;
        memcpy(entry->due, is_subscribed, sizeof(entry->due));
        entry->due_group = is_grouped;
        tally.sent += 1;
    }
    entry->sent += 1;
}

/* The acknowledgement was sent in a life of the gateway that has crashed since: what it was not
 * durable for is lost.
 */
static void acked_before_crash(struct entry *entry)
{
    if (crashes_scanned == crashes) {
        entry->acked = entry->in_journal != 0;
    } else {
        entry->doubtful = true;
    }
}

void ledger_refused(struct event_id id)
{
    struct entry *entry = entry_of(id);

    if (plan.when_full != FULL_REFUSES) {
        broken("event %u of device %u is refused, and nobody said that it may be", id.number,
               id.device);
    }
    entry->refused = entry->sent == 1; /* else it may have come in before */
    if (entry->refused && entry->in_journal != 0) {
        broken("refused: event %u of device %u, which is in the journal", id.number, id.device);
    }
}

/* It has come to somebody, or is in the journal. */
static void check_taken(const struct entry *entry, struct event_id id, const char *where)
{
    if (entry->refused) {
        broken("refused: event %u of device %u %s all the same", id.number, id.device, where);
    }
}

void ledger_acked(struct event_id id, uint64_t life)
{
    struct entry *entry = entry_of(id);

    mr_assert(entry->sent != 0);
    say("event %u of device %u is acknowledged", id.number, id.device);
    tally.acked += entry->acked ? 0 : 1;
    entry->acked = true;
    if (plan.ack[id.device] == ACK_MEMORY && life != crashes) {
        acked_before_crash(entry);
    }
    if (plan.ack[id.device] == ACK_BRIDGE && event_is_wanted(id) && !entry->delivered[0] &&
        !entry->rejected[0]) {
        broken("early: event %u of device %u was acknowledged before target 0 had it", id.number,
               id.device);
    }
}

uint64_t ledger_life(void)
{
    return crashes;
}

void ledger_crashed(void)
{
    crashes += 1;
    for (uint32_t d = 0; d < plan.devices; d++) {
        for (uint32_t n = 0; n < newest[d] && plan.ack[d] == ACK_MEMORY; n++) {
            entries[d][n].doubtful = entries[d][n].acked;
        }
    }
}

bool ledger_is_acked(struct event_id id)
{
    return entry_of(id)->acked;
}

/* ---- targets ---- */

static struct record *record_of(uint32_t lane, uint64_t seq)
{
    mr_assert(lane < LANES_MAX && seq < SEQS_MAX);
    struct records *of = &records[lane];

    if (seq >= of->room) {
        uint64_t room = of->room == 0 ? SEQS_LEAST : of->room;
        while (room <= seq) {
            room *= 2;
        }
        mr_sim_own(true); /* it outlives the gateway */
        struct record *larger = mr_alloc(room * sizeof(*larger));
        mr_sim_own(false);
        if (of->room != 0) {
            memcpy(larger, of->all, of->room * sizeof(*larger));
        }
        mr_free(of->all);
        of->all = larger;
        of->room = room;
    }
    return &of->all[seq];
}

void ledger_appended_other(uint32_t lane, uint64_t seq)
{
    struct record *record = record_of(lane, seq);

    if (record->is_event) { /* what had this number before was lost in a crash, or is this one */
        struct entry *before = entry_of(record->id);
        before->has_first =
            before->has_first && (before->first_lane != lane || before->first_seq != seq);
    }
    record->is_event = false;
}

void ledger_appended(uint32_t lane, uint64_t seq, struct event_id id)
{
    struct entry *entry = entry_of(id);

    check_taken(entry, id, "was appended");
    ledger_appended_other(lane, seq);
    struct record *record = record_of(lane, seq);
    record->id = id;
    record->is_event = true;
    if (!entry->has_first) {
        entry->has_first = true;
        entry->first_lane = lane;
        entry->first_seq = seq;
    }
}

static void check_position(struct stream from, uint64_t seq)
{
    uint64_t *at = &position[from.bridge][from.lane][from.which];
    uint8_t *fate = &record_of(from.lane, seq)->fates[from.bridge];

    if (seq <= *at || (*fate & FATE_ONCE) != 0) {
        broken("doubled: record %llu of lane %u came to target %u again, behind %llu",
               (unsigned long long)seq, from.lane, from.bridge, (unsigned long long)*at);
    }
    *fate |= FATE_ONCE;
    *at = seq;
}

/* The refusal may have been lost, and others sent before it comes again. */
static bool was_perhaps_refused(const struct entry *entry)
{
    return plan.when_full == FULL_REFUSES && entry->sent > 1;
}

/* What was dropped, or waits in the backlog, and is sent again, comes first with its copy. */
static bool is_a_copy(struct stream from, uint64_t seq, const struct entry *entry)
{
    bool may_be =
        plan.when_full == FULL_DROPS || plan.live_first[from.bridge] || plan.reconfigure != 0;

    return was_perhaps_refused(entry) ||
           (may_be && (from.lane != entry->first_lane || seq != entry->first_seq));
}

static void check_order(struct stream from, struct event_id id, bool is_marked)
{
    uint32_t(*first)[DEVICES_MAX] = first_at[from.bridge];

    if (id.number < first[from.which][id.device]) {
        broken("reordered: event %u of device %u came to target %u behind event %u", id.number,
               id.device, from.bridge, first[from.which][id.device] - 1);
    }
    if (!is_marked && !was_sought[from.bridge] && id.number < first[!from.which][id.device]) {
        broken("reordered: event %u of device %u came to target %u behind event %u, and is not "
               "marked",
               id.number, id.device, from.bridge, first[!from.which][id.device] - 1);
    }
    first[from.which][id.device] = id.number + 1;
}

void ledger_delivered(struct stream from, uint64_t seq, struct event_id id, bool is_marked)
{
    struct entry *entry = entry_of(id);
    uint32_t bridge = from.bridge;

    say("bridge %u has record %llu%s: event %u of device %u", bridge, (unsigned long long)seq,
        from.which != 0 ? " ahead of its backlog"
        : is_marked     ? " of its backlog"
                        : "",
        id.number, id.device);
    check_taken(entry, id, "came to a target");
    if (is_marked && from.which != 0) {
        broken("event %u of device %u is fresh, and marked as of the backlog", id.number,
               id.device);
    }
    record_of(from.lane, seq)->fates[bridge] |= FATE_DELIVERED;
    if (plan.exactly_once[bridge]) {
        check_position(from, seq);
    }
    if (!entry->delivered[bridge]) {
        if (!is_a_copy(from, seq, entry)) {
            check_order(from, id, is_marked);
        }
        entry->seq[bridge] = seq;
        entry->delivered[bridge] = true;
        tally.delivered += 1;
        return;
    }
    tally.doubled += 1;
    if (seq != entry->seq[bridge] && is_once(id)) {
        broken("doubled: event %u of device %u, QoS 2, is records %llu and %llu", id.number,
               id.device, (unsigned long long)entry->seq[bridge], (unsigned long long)seq);
    }
}

void ledger_rejected(struct stream from, uint64_t seq, struct event_id id)
{
    mr_assert(event_is_rejected(id) || event_is_poison(id));
    entry_of(id)->rejected[from.bridge] = true;
    record_of(from.lane, seq)->fates[from.bridge] |= FATE_REJECTED;
}

void ledger_dropped(uint32_t bridge, uint32_t lane, uint64_t first, uint64_t last)
{
    if (plan.when_full != FULL_DROPS) {
        broken("records %llu to %llu of lane %u are given up, and nobody said that they may be",
               (unsigned long long)first, (unsigned long long)last, lane);
    }
    for (uint64_t seq = first; seq <= last; seq++) {
        struct record *record = record_of(lane, seq);
        record->fates[bridge] |= FATE_GIVEN_UP;
        if (record->is_event) {
            entry_of(record->id)->dropped[bridge] = true;
        }
    }
}

struct outcome ledger_outcome(uint32_t bridge, uint32_t lane)
{
    struct outcome outcome = {.delivered = 0};

    for (uint64_t seq = 0; seq < records[lane].room; seq++) {
        const struct record *record = &records[lane].all[seq];
        uint8_t fate = record->fates[bridge];
        bool came = (fate & (FATE_DELIVERED | FATE_REJECTED)) != 0;
        bool gone = (fate & FATE_GIVEN_UP) != 0;
        outcome.delivered += (fate & FATE_DELIVERED) != 0 ? 1 : 0;
        outcome.rejected += (fate & (FATE_DELIVERED | FATE_REJECTED)) == FATE_REJECTED ? 1 : 0;
        outcome.given_up += gone ? 1 : 0;
        outcome.missing += gone && !came && record->is_event && event_is_wanted(record->id) ? 1 : 0;
    }
    return outcome;
}

void ledger_sought(uint32_t bridge, uint32_t lane)
{
    sought[bridge][lane] += 1;
    was_sought[bridge] = true;
}

void ledger_placed(struct stream of, uint64_t seq)
{
    uint64_t *at = &position[of.bridge][of.lane][of.which];
    uint32_t *orders = &sought[of.bridge][of.lane];

    for (uint64_t i = seq + 1; *orders != 0 && i < records[of.lane].room; i++) {
        records[of.lane].all[i].fates[of.bridge] &= (uint8_t)~FATE_ONCE;
    }
    if (seq < *at) {
        if (*orders == 0) {
            broken("target %u is sent back from record %llu to %llu of lane %u by nobody",
                   of.bridge, (unsigned long long)*at, (unsigned long long)seq, of.lane);
        }
        *orders -= 1;
    }
    *at = seq;
}

static bool is_done_by_all(const struct entry *entry, struct event_id id)
{
    bool done = true;

    for (uint32_t i = 0; i < plan.bridges && event_is_wanted(id); i++) {
        done = done && is_done_by(entry, i);
    }
    return done;
}

/* ---- the journal ---- */

void ledger_scan_begin(void)
{
    for (uint32_t d = 0; d < plan.devices; d++) {
        for (uint32_t n = 0; n < newest[d]; n++) {
            entries[d][n].in_journal = 0;
        }
    }
}

void ledger_scan_event(uint32_t lane, uint64_t seq, struct event_id id)
{
    struct entry *entry = entry_of(id);

    ledger_appended(lane, seq, id);
    if (entry->in_journal == 0) {
        entry->found_lane = lane;
        entry->found_seq = seq;
    }
    entry->in_journal += 1;
    if (entry->in_journal > (is_once(id) ? 1 : entry->sent)) {
        broken("doubled: event %u of device %u, sent %u times with QoS %u, is in the journal %u "
               "times",
               id.number, id.device, entry->sent, event_qos(id), entry->in_journal);
    }
}

void ledger_scan_lane_end(uint32_t lane, uint64_t seq_last)
{
    for (uint64_t seq = seq_last + 1; seq < records[lane].room; seq++) {
        ledger_appended_other(lane, seq);
    }
}

void ledger_scan_end(void)
{
    crashes_scanned = crashes;
    for (uint32_t d = 0; d < plan.devices; d++) {
        for (uint32_t n = 0; n < newest[d]; n++) {
            struct entry *entry = &entries[d][n];
            struct event_id id = {.device = d, .number = n};
            if (entry->doubtful) { /* of `ack: memory` */
                entry->doubtful = false;
                entry->acked = entry->in_journal != 0; /* else nobody knows: it may be retired */
            }
            if (!entry->has_first && entry->in_journal != 0) {
                entry->has_first = true;
                entry->first_lane = entry->found_lane;
                entry->first_seq = entry->found_seq;
            }
            /* What no bridge wants may have been retired. */
            if (entry->acked && entry->in_journal == 0 && event_is_wanted(id) &&
                !is_done_by_all(entry, id)) {
                broken("lost: event %u of device %u, QoS %u, was acknowledged; it is not in the "
                       "journal, and not at every target",
                       n, d, event_qos(id));
            }
        }
    }
}

/* ---- subscribers ---- */

void ledger_subscribed(uint32_t subscriber)
{
    is_subscribed[subscriber] = true;
}

void ledger_received(uint32_t subscriber, struct event_id id, bool is_repeat)
{
    struct entry *entry = entry_of(id);
    uint32_t *first = &first_to[subscriber][id.device];

    check_taken(entry, id, "came to a subscriber");
    if (is_repeat) {
        return;
    }
    if (entry->received[subscriber]) {
        if (event_qos(id) == 2 && is_once(id) && subscriber_qos(subscriber) == 2) {
            broken("doubled: event %u of device %u, QoS 2, came to subscriber %u twice", id.number,
                   id.device, subscriber);
        }
        return;
    }
    entry->received[subscriber] = true;
    /* QoS 0 overtakes: it waits for no disk.  And of what was sent before the subscription, the
     * first copy that comes may be a second one.
     */
    if (event_qos(id) == 0 || !entry->due[subscriber] || was_perhaps_refused(entry)) {
        return;
    }
    if (id.number < *first) {
        broken("reordered: event %u of device %u came to subscriber %u behind event %u", id.number,
               id.device, subscriber, *first - 1);
    }
    *first = id.number + 1;
}

void ledger_subscribers(bool now[SUBSCRIBERS_MAX])
{
    memcpy(now, is_subscribed, sizeof(is_subscribed));
}

/* ---- the group ---- */

void ledger_grouped(void)
{
    is_grouped = true;
}

void ledger_group_received(uint32_t member, struct event_id id, bool is_repeat)
{
    struct entry *entry = entry_of(id);

    check_taken(entry, id, "came to the group");
    if (!event_is_wanted(id)) {
        broken("member %u gets event %u of device %u, which its group does not want", member,
               id.number, id.device);
    }
    if (is_repeat) {
        return;
    }
    if (entry->received_group && is_once(id) && plan.group_qos == 2) {
        broken("doubled: event %u of device %u, QoS 2, came to the group twice, now to member %u",
               id.number, id.device, member);
    }
    entry->received_group = true;
}

/* ---- the end ---- */

static bool is_at_targets(const struct entry *entry, struct event_id id, bool tell)
{
    for (uint32_t i = 0; i < plan.bridges && event_is_wanted(id); i++) {
        if (!is_done_by(entry, i)) {
            if (tell) {
                say("event %u of device %u has not come to target %u", id.number, id.device, i);
            }
            return false;
        }
    }
    return true;
}

static bool is_at_subscribers(const struct entry *entry, struct event_id id, bool tell)
{
    for (uint32_t i = 0; i < plan.subscribers; i++) {
        if (entry->due[i] && event_qos(id) != 0 && !entry->received[i]) {
            if (tell) {
                say("event %u of device %u has not come to subscriber %u", id.number, id.device, i);
            }
            return false;
        }
    }
    if (entry->due_group && event_is_wanted(id) && event_qos(id) != 0 && !entry->received_group) {
        if (tell) {
            say("event %u of device %u has not come to the group", id.number, id.device);
        }
        return false;
    }
    return true;
}

/* When the system refuses memory, a queue is without that one message, which is counted
 * (docs/SESSIONS.md): so something may lack at subscribers then, and never at a target.
 */
bool ledger_is_settled(bool tell)
{
    for (uint32_t d = 0; d < plan.devices; d++) {
        for (uint32_t n = 0; n < newest[d]; n++) {
            const struct entry *entry = &entries[d][n];
            struct event_id id = {.device = d, .number = n};
            if (entry->acked &&
                (!is_at_targets(entry, id, tell) ||
                 (plan.world != WORLD_MEMORY && !is_at_subscribers(entry, id, tell)))) {
                return false;
            }
        }
    }
    return true;
}
