/* gates.c - at which gate an acknowledgement waits, and letting out what is due.
 *
 * DESIGN
 *
 * `ack` of a listener says what its clients' acknowledgements wait for: the disk, nothing, or a
 * bridge.  A shard has a gate (ackgate.h) for each of them that some listener uses; all that
 * differs is the seq up to which it is released: the durable one, any, or the bridge's cursor.
 *
 * The bytes of a client's answers lie in one buffer, in the order in which they leave, whichever
 * gate they wait at.  So a client may change from one gate to another while something is held only
 * where the first lets go of everything no later than the second, turn by turn: memory before
 * disk, disk before bridge (a cursor is never above what is durable, and its records were appended
 * later; a QoS 2 PUBLISH that came again has an older one, so it is not taken before nothing is
 * held at the disk's).  In the other direction it stays where it is until nothing is held.  Answers
 * that speak for a session (CONNACK, SUBACK, PUBCOMP) wait for the disk and no more, so that
 * clients can come while a bridge's target is away, unless they stand behind publishes that wait
 * for the bridge.
 *
 * An event that the bridge's `from` does not match waits for the disk.
 *
 * Rejected: a mode in each entry of one gate.  Entries would leave out of order, and the ring's
 * point is that it is sorted.
 */
#include "broker/gates_internal.h"

#include "codec/topic.h"
#include "journal/live.h"

static const char *const gate_names[GATE_BRIDGES] = {
    [GATE_DISK] = "disk", [GATE_MEMORY] = "memory"};

/* ---- open ---- */

static enum mr_err bridge_find(struct mr_broker *broker, const char *name, uint8_t *gate)
{
    const struct mr_broker_run *run = &broker->run;

    for (uint32_t i = 0; i < broker->ack_bridge_count; i++) {
        if (strcmp(broker->ack_bridges[i]->name, name) == 0) {
            *gate = (uint8_t)(GATE_BRIDGES + i);
            return MR_OK;
        }
    }
    for (size_t i = 0; i < run->bridge_count; i++) {
        if (strcmp(run->bridges[i].name, name) == 0) {
            if (broker->ack_bridge_count == GATES_MAX - GATE_BRIDGES) {
                return MR_ERR_FULL;
            }
            *gate = (uint8_t)(GATE_BRIDGES + broker->ack_bridge_count);
            broker->ack_bridges[broker->ack_bridge_count] = &run->bridges[i];
            broker->ack_bridge_count += 1;
            return MR_OK;
        }
    }
    return MR_ERR_REJECT;
}

enum mr_err gates_choose(struct mr_broker *broker, struct mr_error *why)
{
    for (size_t i = 0; i < broker->run.listener_count; i++) {
        const struct mr_listener_conf *conf = &broker->run.listeners[i];
        uint8_t gate = GATE_DISK;

        while (gate < GATE_BRIDGES && conf->ack != NULL &&
               strcmp(conf->ack, gate_names[gate]) != 0) {
            gate += 1;
        }
        enum mr_err err = MR_OK;
        if (gate == GATE_BRIDGES) {
            err = bridge_find(broker, conf->ack, &gate);
        }
        if (err != MR_OK) {
            return mr_error_set(why, MR_ERR_CONFIG,
                                err == MR_ERR_FULL
                                    ? "listener '%s': ack: %s is one bridge too many for "
                                      "acknowledgements to wait for"
                                    : "listener '%s': ack: there is no bridge '%s'",
                                conf->name, conf->ack);
        }
        broker->listeners[i].gate = gate;
    }
    return MR_OK;
}

static bool gate_is_used(const struct mr_broker *broker, uint32_t gate)
{
    bool used = gate == GATE_DISK;

    for (size_t i = 0; i < broker->run.listener_count; i++) {
        used = used || broker->listeners[i].gate == gate;
    }
    return used;
}

enum mr_err gates_open(struct mr_shard *shard, uint32_t entries, struct mr_error *why)
{
    struct mr_broker *broker = shard->broker;

    for (uint32_t gate = 0; gate < GATES_MAX; gate++) {
        if (!gate_is_used(broker, gate)) {
            continue;
        }
        enum mr_err err = mr_ackgate_open(&shard->gates[gate], &shard->pool, entries);
        mr_assert(err == MR_OK);
    }
    for (uint32_t i = 0; i < broker->ack_bridge_count; i++) {
        if (mr_cursor_watch(broker->run.journal, broker->ack_bridges[i]->name, shard->index,
                            &shard->wake, &shard->settled[i].cursor) != MR_OK) {
            return mr_error_set(why, MR_ERR_CONFIG,
                                "bridge '%s', for which acknowledgements are to wait, does not run",
                                broker->ack_bridges[i]->name);
        }
    }
    return MR_OK;
}

void gates_close(struct mr_shard *shard)
{
    for (uint32_t i = 0; i < shard->broker->ack_bridge_count; i++) {
        if (shard->settled[i].cursor != NULL) {
            mr_cursor_unwatch(shard->settled[i].cursor);
        }
    }
    for (uint32_t gate = 0; gate < GATES_MAX; gate++) {
        mr_ackgate_close(shard->gates[gate]);
    }
}

/* ---- holding ---- */

bool gate_wants(const struct client *client, struct mr_span topic)
{
    const struct mr_broker *broker = client->shard->broker;
    uint8_t gate = client_limits(client)->gate;

    if (gate < GATE_BRIDGES) {
        return false;
    }
    const struct mr_list *from = &broker->ack_bridges[gate - GATE_BRIDGES]->from;
    return from->count == 0 || mr_topic_first_match(from->items, from->count, topic) != NULL;
}

uint8_t gate_of_publish_other(const struct client *client, const struct topic_entry *topic)
{
    uint8_t gate = client_limits(client)->gate;
    bool held = mr_acks_held(&client->acks) != 0;

    if (gate == GATE_MEMORY) {
        return held && client->gate == GATE_DISK ? GATE_DISK : GATE_MEMORY;
    }
    return topic->bridged || (held && client->gate == gate) ? gate : GATE_DISK;
}

uint8_t gate_of_answer(const struct client *client)
{
    bool held = mr_acks_held(&client->acks) != 0;

    return held && client->gate >= GATE_BRIDGES ? client->gate : GATE_DISK;
}

void gates_cut(struct mr_shard *shard)
{
    uint32_t count = GATE_BRIDGES + shard->broker->ack_bridge_count;

    for (uint32_t gate = 0; gate < count; gate++) {
        if (shard->gates[gate] != NULL) {
            mr_ackgate_cut(shard->gates[gate]);
        }
    }
}

uint64_t gates_held(const struct mr_shard *shard)
{
    uint64_t held = 0;

    for (uint32_t gate = 0; gate < GATES_MAX; gate++) {
        held += shard->gates[gate] == NULL ? 0 : mr_ackgate_held(shard->gates[gate]);
    }
    return held;
}

/* ---- letting out ---- */

/* A PUBACK, a PUBCOMP, a PUBREC that refuses: one PUBLISH less is open.  Not below none: a PUBCOMP
 * may be for one of an earlier connection, and raises nothing above what the CONNACK said (4.9).
 */
static void publishes_end(struct client *client, const struct mr_owed *owed)
{
    uint32_t ended = owed->acks - owed->plain;

    client->publishes_open -= ended < client->publishes_open ? ended : client->publishes_open;
}

/* Connections of one release, seen twice: first allow all, then send once each. */
static void gate_release(struct mr_shard *shard, struct mr_ackgate *gate, uint64_t seq)
{
    size_t count;

    do {
        count = mr_ackgate_release(gate, seq, shard->owed, SHARD_OWED);
        for (size_t i = 0; i < count; i++) {
            struct mr_conn *conn = mr_net_find(shard->net, shard->owed[i].conn_id);
            if (conn != NULL) {
                struct client *client = mr_conn_user(conn);
                mr_acks_allow(&client->acks, &shard->owed[i]);
                publishes_end(client, &shard->owed[i]);
            }
        }
        for (size_t i = 0; i < count; i++) {
            struct mr_conn *conn = mr_net_find(shard->net, shard->owed[i].conn_id);
            struct client *client = conn == NULL ? NULL : mr_conn_user(conn);
            struct mr_span due = client == NULL ? (struct mr_span){0} : mr_acks_due(&client->acks);
            if (due.len == 0) {
                continue; /* gone, or sent with an earlier entry */
            }
            if (mr_conn_send_soon(conn, due.at, due.len) == MR_OK) {
                mr_acks_left(gate, &client->acks);
            } else {
                client_end(client, END_MEMORY);
            }
        }
    } while (count == SHARD_OWED);
}

/* What a device sends again with QoS 2 may be a record of another lane, from an epoch before: so
 * nothing is settled here, not even seq 0, before all of these are.
 */
static bool is_past_epochs(struct mr_shard *shard, uint32_t bridge)
{
    const struct mr_broker *broker = shard->broker;
    struct settled *settled = &shard->settled[bridge];

    if (MR_UNLIKELY(!settled->past_epochs)) {
        settled->past_epochs =
            mr_cursors_past_epochs(broker->run.journal, broker->ack_bridges[bridge]->name);
    }
    return settled->past_epochs;
}

void gate_note_again(struct mr_shard *shard, uint8_t gate)
{
    if (gate >= GATE_BRIDGES) {
        shard->settled[gate - GATE_BRIDGES].again = mr_ackgate_seq_last(shard->gates[gate]);
    }
}

/* A QoS 2 PUBLISH that came again may have its record in a backlog that fresh events overtake, or
 * did until an operator put the bridge back; its ack is held behind the last of them.  So nothing
 * leaves before the bridge is through with all that was overtaken.
 */
static bool backlog_is_through(struct settled *settled)
{
    uint64_t seq = mr_cursor_get(settled->cursor);

    if (MR_LIKELY(settled->again == 0)) {
        return true;
    }
    if (seq >= settled->again && seq >= settled->ahead) {
        settled->again = 0;
    }
    return seq >= settled->ahead;
}

/* How far the bridge is; an operator may put its cursor back, which takes nothing back here.
 * Where fresh events overtake a backlog (live.h), theirs counts as soon as nobody in the gate
 * waits for the backlog: acks leave in the order in which their events came.  Of a PUBLISH that
 * came again nobody knows whether it does.
 */
static uint64_t settled_seq(struct settled *settled, const struct mr_ackgate *gate,
                            uint64_t durable_seq)
{
    uint64_t seq = mr_cursor_get(settled->cursor);
    uint64_t from;
    uint64_t to;

    if (MR_UNLIKELY(mr_cursor_ahead(settled->cursor, &from, &to)) && settled->again == 0 &&
        !mr_ackgate_is_awaited(gate, from) && to > seq) {
        seq = to;
        settled->ahead = to > settled->ahead ? to : settled->ahead;
    }

    seq = seq < durable_seq ? seq : durable_seq;
    settled->seq = seq > settled->seq ? seq : settled->seq;
    return settled->seq;
}

void gates_release(struct mr_shard *shard, uint64_t durable_seq)
{
    struct mr_ackgate *memory = shard->gates[GATE_MEMORY];
    struct mr_ackgate *disk = shard->gates[GATE_DISK];

    if (MR_UNLIKELY(memory != NULL) && mr_ackgate_held(memory) != 0) {
        gate_release(shard, memory, UINT64_MAX);
    }
    if (mr_ackgate_is_due(disk, durable_seq)) {
        gate_release(shard, disk, durable_seq);
    }
    for (uint32_t i = 0; i < shard->broker->ack_bridge_count; i++) {
        struct mr_ackgate *gate = shard->gates[GATE_BRIDGES + i];
        if (!backlog_is_through(&shard->settled[i])) {
            continue;
        }
        uint64_t seq = settled_seq(&shard->settled[i], gate, durable_seq);
        if (mr_ackgate_is_due(gate, seq) && is_past_epochs(shard, i)) {
            gate_release(shard, gate, seq);
        }
    }
    mr_net_send_soon(shard->net);
}
