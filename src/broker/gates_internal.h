/* gates_internal.h - which gate an acknowledgement waits at (gates.c).
 *
 *     reserve at gate_of_publish() or gate_of_answer() ─▶ append ─▶ gate_hold() there
 *     durable, or settled by a bridge ─▶ gates_release() ─▶ one send each
 *
 * Thread: the shard's.   Memory: a ring of entries per gate.   Time: none.
 */
#ifndef MR_BROKER_GATES_INTERNAL_H
#define MR_BROKER_GATES_INTERNAL_H

#include "broker/broker_internal.h"

/* Each listener's gate.  CONFIG: one names a bridge that is not there. */
enum mr_err gates_choose(struct mr_broker *broker, struct mr_error *why) MR_MUST_USE;

/* `entries`: of each gate.  close() also after a failed open. */
enum mr_err gates_open(struct mr_shard *shard, uint32_t entries, struct mr_error *why) MR_MUST_USE;
void gates_close(struct mr_shard *shard);

/* Does what the client publishes to `topic` have to wait for its listener's bridge? */
bool gate_wants(const struct client *client, struct mr_span topic);

/* Where the ack of a PUBLISH, or any other answer of the client, is held now (enum gate). */
uint8_t gate_of_publish_other(const struct client *client, const struct topic_entry *topic);
static inline uint8_t gate_of_publish(const struct client *client, const struct topic_entry *topic)
{
    return MR_LIKELY(client_limits(client)->gate == GATE_DISK)
               ? GATE_DISK
               : gate_of_publish_other(client, topic);
}
uint8_t gate_of_answer(const struct client *client);

/* mr_ackgate_hold() of the client's buffer; room was reserved at the same gate. */
static inline void gate_hold(struct client *client, uint8_t gate, uint64_t seq, const void *bytes,
                             size_t len)
{
    client->gate = gate;
    mr_ackgate_hold(client->shard->gates[gate], &client->acks, mr_conn_id(client_conn(client)), seq,
                    bytes, (uint32_t)len);
}

/* What was held last at `gate` is for a QoS 2 PUBLISH that came again. */
void gate_note_again(struct mr_shard *shard, uint8_t gate);

void gates_cut(struct mr_shard *shard);                           /* the read is over */
void gates_release(struct mr_shard *shard, uint64_t durable_seq); /* send what is due */
uint64_t gates_held(const struct mr_shard *shard);                /* acks */

#endif
