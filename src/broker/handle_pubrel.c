/* handle_pubrel.c - PUBREL from a publisher (section 3.6): its exchange ends, and the
 * packet id is free again, once that is durable.
 */
#include "broker/gates_internal.h"
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"

enum { PUBCOMP_BYTES_MAX = 8 };

/* Of a persistent session the journal must know that the id is free, or a new message
 * under it would be taken for the old one after a crash.
 */
static enum mr_err pubrel_record(struct client *client, uint16_t packet_id, uint64_t *seq)
{
    struct mr_control control = {
        .kind = MR_CONTROL_PUBREL, .client = session_id(client->session), .packet_id = packet_id};

    return control_append(client->shard, &control, seq);
}

enum verdict handle_pubrel(struct client *client, const struct mr_mqtt_frame *frame)
{
    const struct mr_mqtt_mode mode = {.version = client->version, .from = MR_MQTT_FROM_CLIENT};
    struct mr_shard *shard = client->shard;
    struct session *session = client->session;
    struct mr_mqtt_ack packet;
    struct mr_mqtt_why why;
    uint8_t bytes[PUBCOMP_BYTES_MAX];
    uint64_t seq = 0;

    if (mr_mqtt_ack_decode(frame, mode, &packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    bool known = inbound_has(session->inbound, packet.packet_id);
    if (known && session->keep != NULL && shard->stalled) {
        return PACKET_LATER;
    }
    if (answer_reserve(client, sizeof(bytes)) != MR_OK) {
        shard_stall(shard);
        return PACKET_LATER;
    }
    if (known && session->keep != NULL) {
        if (pubrel_record(client, packet.packet_id, &seq) != MR_OK) {
            return PACKET_LATER;
        }
        keep_mark(shard, session->keep);
    }
    (void)inbound_remove(session->inbound, packet.packet_id);
    struct mr_mqtt_ack answer = {.type = MR_MQTT_PUBCOMP,
                                 .packet_id = packet.packet_id,
                                 .reason = known || client->version != MR_MQTT_5
                                               ? MR_MQTT_SUCCESS
                                               : MR_MQTT_PACKET_ID_NOT_FOUND};
    ptrdiff_t len = mr_mqtt_ack_encode(&answer, client->version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    uint8_t gate = gate_of_answer(client);
    uint64_t last = mr_ackgate_seq_last(shard->gates[gate]);
    gate_hold(client, gate, seq < last ? last : seq, bytes, (size_t)len);
    return PACKET_DONE;
}
