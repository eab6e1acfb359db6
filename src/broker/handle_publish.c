/* handle_publish.c - PUBLISH from a client (section 3.3): the hot path.
 *
 * The order of the steps matters.  Everything that can be refused or has to wait
 * is decided before the append, because an appended record cannot be taken back,
 * and its ack must then be held.
 *
 *     decode ▸ alias ▸ what was agreed ▸ topic ▸ room for the ack and for the
 *     delivery ▸ append ▸ hold the ack ▸ deliver
 *
 * PACKET_LATER leaves no trace: the packet is parsed again from its beginning.
 * If it is memory of the shard that lacks, all publishers wait (shard_stall): whoever
 * was read in full meanwhile would have to be kept in that same memory.
 */
#include "broker/gates_internal.h"
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"
#include "broker/retained.h"

enum { ACK_BYTES_MAX = 8 }; /* PUBACK or PUBREC with a reason: 4 + reason + property length */

static enum verdict publish_later(struct mr_shard *shard)
{
    shard_stall(shard);
    return PACKET_LATER;
}

/* Rules that need the session: 0, or the reason of the refusal.  A QoS 2 PUBLISH that comes again
 * over the same connection is not one more.
 */
static uint8_t publish_check(const struct client *client, const struct mr_mqtt_publish *packet)
{
    if (client->version == MR_MQTT_5 && packet->qos != 0 &&
        client->publishes_open >= client->receive_told &&
        !(packet->qos == 2 && inbound_has_here(client->session->inbound, packet->packet_id))) {
        return MR_MQTT_RECEIVE_MAX_EXCEEDED; /* [MQTT-3.3.4-7] */
    }
    return 0;
}

static const char *publish_check_text(uint8_t reason)
{
    switch (reason) {
    case MR_MQTT_TOPIC_ALIAS_INVALID:
        return "a topic alias that was not offered";
    case MR_MQTT_PROTOCOL_ERROR:
        return "a topic alias that no topic was named for";
    default:
        return "more unacknowledged publishes than Receive Maximum allows";
    }
}

/* Hold the ack that says no, behind everything held before it.  False: later. */
static bool refusal_hold(struct client *client, const struct mr_mqtt_publish *packet,
                         uint8_t reason)
{
    struct mr_shard *shard = client->shard;
    struct mr_mqtt_ack ack = {.type = packet->qos == 2 ? MR_MQTT_PUBREC : MR_MQTT_PUBACK,
                              .packet_id = packet->packet_id,
                              .reason = client->version == MR_MQTT_5 ? reason : 0};
    uint8_t bytes[ACK_BYTES_MAX];

    if (packet->qos != 0) {
        uint8_t gate = gate_of_answer(client);
        if (mr_ackgate_reserve(shard->gates[gate], &client->acks, sizeof(bytes)) != MR_OK) {
            return false;
        }
        ptrdiff_t len = mr_mqtt_ack_encode(&ack, client->version, bytes, sizeof(bytes));
        mr_assert(len > 0);
        gate_hold(client, gate, mr_ackgate_seq_last(shard->gates[gate]), bytes, (size_t)len);
        client->publishes_open += 1;
    }
    return true;
}

/* A topic that this client may not publish to, or a payload that is not what it says.
 * 5.0 is told so, 3.x has no way to be told but the end of its connection, so it gets a PUBACK as
 * from Mosquitto; the drop is counted.
 */
static enum verdict publish_refuse(struct client *client, const struct mr_mqtt_publish *packet,
                                   uint8_t reason)
{
    struct mr_shard *shard = client->shard;

    if (!refusal_hold(client, packet, reason)) {
        return publish_later(shard);
    }
    mr_metric_add(shard->metrics.dropped_refused, 1);
    if (reason == MR_MQTT_NOT_AUTHORIZED && topic_refused(shard, packet->topic) == 0) {
        access_denied_publish(client, packet->topic);
    }
    return PACKET_DONE;
}

/* The journal is full, and publishers do not wait for it.  A PUBACK of 3.x would say that the
 * message is ours, so with QoS 1 and 2 that client waits all the same.
 */
static enum verdict publish_no_room(struct client *client, const struct mr_mqtt_publish *packet)
{
    if (packet->qos != 0 &&
        (client->version != MR_MQTT_5 || !refusal_hold(client, packet, MR_MQTT_QUOTA_EXCEEDED))) {
        return PACKET_LATER;
    }
    mr_metric_add(client->shard->metrics.refused_full[packet->qos], 1);
    return PACKET_DONE;
}

/* A QoS 2 PUBLISH whose id awaits PUBREL is the one we have [MQTT-4.3.3-10]; its PUBREC
 * waits behind whatever the first one waits for, which may have come over a connection before
 * this one: so behind the last of its gate; or in a run before this one: behind all of that.  Not
 * behind all that is in the lane: a bridge whose target keeps its position passes records that it
 * does not carry with the next one that it does.  What the disk alone holds up of this client has
 * later records, and stands in front: that leaves first, and the packet is parsed again.
 */
static enum verdict publish_again(struct client *client, const struct topic_entry *topic,
                                  uint16_t packet_id)
{
    struct mr_shard *shard = client->shard;
    uint8_t gate = gate_of_publish(client, topic);
    uint8_t ack[MR_MQTT_ACK_BYTES];

    if (gate >= GATE_BRIDGES && client->gate != gate && mr_acks_held(&client->acks) != 0) {
        return PACKET_LATER;
    }
    if (mr_ackgate_reserve(shard->gates[gate], &client->acks, sizeof(ack)) != MR_OK) {
        return publish_later(shard);
    }
    (void)mr_mqtt_ack_put(ack, MR_MQTT_PUBREC, packet_id);
    answer_hold_at(client, gate, shard->seq_begin, ack, sizeof(ack));
    gate_note_again(shard, gate);
    client->publishes_open += inbound_set_here(client->session->inbound, packet_id);
    return PACKET_DONE;
}

/* The ack of an accepted PUBLISH, held at `gate` behind `seq`. */
static void publish_hold(struct client *client, const struct mr_message *message, uint8_t gate,
                         uint64_t seq, uint16_t packet_id)
{
    struct mr_shard *shard = client->shard;
    uint8_t ack[MR_MQTT_ACK_BYTES];

    client->publishes_open += 1;
    if (MR_LIKELY(message->qos == 1)) {
        (void)mr_mqtt_ack_put(ack, MR_MQTT_PUBACK, packet_id);
        gate_hold(client, gate, seq, ack, sizeof(ack));
        return;
    }
    (void)mr_mqtt_ack_put(ack, MR_MQTT_PUBREC, packet_id);
    answer_hold_at(client, gate, seq, ack, sizeof(ack));
    inbound_add(client->session->inbound, packet_id);
    if (client->session->keep != NULL) {
        keep_mark(shard, client->session->keep);
    }
}

/* Journal it, hold its ack, deliver it. */
static enum verdict publish_accept(struct client *client, const struct mr_message *message,
                                   struct topic_entry *topic, uint16_t packet_id)
{
    struct mr_shard *shard = client->shard;
    struct stored *pending = NULL;
    struct mr_appended at;

    uint8_t gate = gate_of_publish(client, topic);
    if (MR_UNLIKELY(gate >= GATE_BRIDGES) && message->qos != 0 &&
        mr_ackgate_is_crowded(shard->gates[gate])) {
        return PACKET_LATER; /* what a bridge holds up is nobody else's */
    }
    if (message->qos != 0 &&
        mr_ackgate_reserve(shard->gates[gate], &client->acks, MR_MQTT_ACK_BYTES) != MR_OK) {
        return publish_later(shard);
    }
    if (MR_UNLIKELY(message->qos == 2 &&
                    !inbound_reserve(&shard->pool, &client->session->inbound))) {
        return publish_later(shard);
    }
    bool waits = topic->subscribed && message->qos != 0 && !topic->excluded;
    if (MR_UNLIKELY(message->retain || (waits && shard->keeps_count != 0)) && !topic->excluded &&
        !reserve_for(shard, message)) {
        return publish_later(shard);
    }
    if (waits && (MR_UNLIKELY(checkpoint_is_behind(shard, message)) ||
                  pending_new(shard, message, &pending) != MR_OK)) {
        return publish_later(shard);
    }
    at.seq = mr_ackgate_seq_last(shard->gates[gate]); /* excluded: nothing to wait for */
    if (MR_LIKELY(!topic->excluded)) {
        enum mr_err err = message_append(shard, message, &topic->name, &at);
        if (MR_UNLIKELY(err != MR_OK)) {
            if (pending != NULL) {
                stored_free(&shard->pool, pending);
            }
            return err == MR_ERR_REJECT
                       ? client_refuse(client, END_PROTOCOL, MR_MQTT_PACKET_TOO_LARGE,
                                       "PUBLISH larger than a journal record may be")
                       : PACKET_LATER;
        }
    }
    if (message->qos != 0) {
        publish_hold(client, message, gate, at.seq, packet_id);
    }
    mr_metric_add(shard->metrics.publish_received[message->qos], 1);
    client->received += 1;
    shard->payload_received += message->payload.len;
    if (pending != NULL) {
        pending_push(shard, pending, &at);
    } else if (topic->subscribed && !waits) {
        deliver_now(shard, message, !topic->excluded);
    }
    if (MR_UNLIKELY(message->retain || (topic->subscribed && shard->keeps_count != 0))) {
        message_apply(shard, message, topic->excluded ? 0 : at.seq);
    }
    if (MR_UNLIKELY(topic->abroad) && (message->qos == 0 || topic->excluded)) {
        mailbox_send_message(shard, message);
    }
    if (MR_UNLIKELY(topic->shared) && (message->qos == 0 || topic->excluded)) {
        share_deliver(shard, message); /* what is in the journal goes behind the commit */
    }
    return PACKET_DONE;
}

/* The properties without topic alias, which is between this client and us
 * ([MQTT-3.3.2-10]: aliases are per connection), and with the life of one with RETAIN as it counts
 * from its receive time on.  *buffer, if lent, goes back.
 */
static bool props_take(struct client *client, const struct mr_mqtt_publish *packet,
                       struct mr_message *message, uint8_t **buffer, size_t *capacity)
{
    struct mr_mqtt_props rest = packet->props;
    bool lengthened = message->retain && retained_lengthen(client->shard, message, &rest);

    *buffer = NULL;
    message->props = packet->props_raw;
    if (!mr_mqtt_has(&rest, MR_MQTT_PROP_TOPIC_ALIAS) && !lengthened) {
        return true;
    }
    mr_mqtt_unset(&rest, MR_MQTT_PROP_TOPIC_ALIAS);
    return publish_props(client->shard, &rest, packet->props_raw.len, &message->props, buffer,
                         capacity);
}

enum verdict handle_publish(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_shard *shard = client->shard;
    const struct mr_mqtt_mode mode = {.version = client->version, .from = MR_MQTT_FROM_CLIENT};
    struct mr_mqtt_publish packet;
    struct mr_mqtt_why why;
    uint8_t *buffer = NULL;
    size_t capacity = 0;
    bool no_room = false;

    if (MR_UNLIKELY(shard->stalled) && !shard->refusing) {
        return PACKET_LATER;
    }
    if (MR_UNLIKELY(mr_mqtt_publish_decode(frame, mode, &packet, &why) != MR_OK)) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    uint8_t reason = publish_check(client, &packet);
    if (reason == 0 && packet.props.present != 0 &&
        mr_mqtt_has(&packet.props, MR_MQTT_PROP_TOPIC_ALIAS)) {
        reason = alias_resolve(client, &packet, &no_room);
    }
    if (MR_UNLIKELY(reason != 0)) {
        return client_refuse(client, END_PROTOCOL, reason, publish_check_text(reason));
    }
    if (MR_UNLIKELY(no_room)) {
        return publish_later(shard);
    }
    if (MR_UNLIKELY(mr_acks_held(&client->acks) >= CLIENT_ACKS_MAX)) {
        return PACKET_LATER;
    }
    struct topic_entry *topic = topic_look_up(client, packet.topic);
    if (MR_UNLIKELY(packet.qos == 2 && inbound_has(client->session->inbound, packet.packet_id))) {
        return publish_again(client, topic, packet.packet_id);
    }
    if (MR_UNLIKELY(topic->refused != 0)) {
        return publish_refuse(client, &packet, topic->refused);
    }
    if (MR_UNLIKELY(shard->limits.validate_payload_format) && packet.props.present != 0 &&
        !mr_mqtt_payload_format_holds(&packet.props, packet.payload)) {
        return publish_refuse(client, &packet, MR_MQTT_PAYLOAD_FORMAT_INVALID);
    }
    if (MR_UNLIKELY(shard->refusing) && !topic->excluded) {
        return publish_no_room(client, &packet);
    }
    struct mr_message message = {.topic = packet.topic,
                                 .payload = packet.payload,
                                 .client = session_id(client->session),
                                 .username = session_username(client->session),
                                 .publisher = mr_conn_id(client_conn(client)),
                                 .received_us = shard->wall_us,
                                 .packet_id = packet.packet_id,
                                 .qos = packet.qos,
                                 .retain = packet.retain};
    if (MR_UNLIKELY(message.retain)) {
        message.received_us = retained_time(shard, message.topic);
    }
    if (packet.props.present != 0 && !props_take(client, &packet, &message, &buffer, &capacity)) {
        return publish_later(shard);
    }
    enum verdict verdict = publish_accept(client, &message, topic, packet.packet_id);
    if (buffer != NULL) {
        mr_bufpool_give(&shard->pool, buffer, capacity);
    }
    if (MR_UNLIKELY(verdict == PACKET_LATER) && shard->refusing && !topic->excluded) {
        return publish_no_room(client, &packet); /* it was the first that found no room */
    }
    return verdict;
}
