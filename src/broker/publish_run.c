/* publish_run.c - what a gateway gets most: publishes of one client, one behind the other.
 *
 * DESIGN
 *
 * One read of a busy connection brings many publishes, nearly all to the topic of the one
 * before.  Most of what handle_publish() asks has the same answer for all of them: whether the
 * journal takes anything, who may publish there and who listens, at which gate the acks wait, how
 * many there may be.  Here that is asked once.  What is left for each packet is its
 * head, its place in the batch, and its ack.
 *
 * Nothing is refused, and nothing waits here.  Whatever is not just the plain case (another
 * topic or QoS, a property, a subscriber, no room, a packet that is not whole) ends the run in
 * front of that packet, and handle_publish() does what has to be done.  So there is one place
 * that knows the rules; this file knows only when none of them has anything to say.
 *
 * What other threads change meanwhile (groups, interests of other shards) counts from the next
 * read on, as if it had come a moment later: whoever was told that he is subscribed was told
 * before these bytes were received, or need not get them.
 *
 * INVARIANT: a run leaves what handle_publish() would have left, packet by packet
 * (test/unit/test_publish_run.c sends the same bytes both ways).
 */
#include "broker/gates_internal.h"

enum { FIRST_BYTE = MR_MQTT_PUBLISH << 4 | 1 << 1 }; /* QoS 1, neither DUP nor RETAIN */

/* What holds for each packet of the run. */
struct run {
    struct client *client;
    uint64_t conn_id;
    const struct topic_entry *topic;
    struct mr_event_again again;
    uint32_t left;  /* so many more acks may be held */
    uint32_t count; /* publishes accepted */
    uint64_t payload_bytes;
};

struct run_packet {
    struct mr_span payload;
    uint16_t packet_id;
    uint32_t total_bytes;
};

/* How many QoS 1 publishes may come before a limit is to be looked at. */
static uint32_t acks_left(const struct client *client)
{
    uint32_t held = mr_acks_held(&client->acks);
    uint32_t left = held < CLIENT_ACKS_MAX ? CLIENT_ACKS_MAX - held : 0;

    if (client->version == MR_MQTT_5) {
        uint32_t told = client->receive_told - client->publishes_open;
        left = told < left ? told : left;
    }
    return left;
}

/* Does the newest topic, to which a publish has just been accepted, need nothing but the journal?
 */
static bool topic_is_plain(const struct client *client, const struct topic_entry *topic)
{
    return topic->len != 0 && topic->refused == 0 && !topic->excluded && !topic->subscribed &&
           topic->tree_version == topics_version(client->shard);
}

static bool run_begin(struct client *client, struct run *run)
{
    const struct mr_shard *shard = client->shard;

    if (shard->stalled || shard->refusing || client->rate != NULL || client->topics_used == 0 ||
        client_limits(client)->gate != GATE_DISK) {
        return false;
    }
    const struct topic_entry *topic = &client->topics[client->topics_last];
    *run = (struct run){
        .client = client,
        .conn_id = mr_conn_id(client_conn(client)),
        .topic = topic,
        .again = {.name = &topic->name,
                  .names_bytes = session_id(client->session).len +
                                 session_username(client->session).len + topic->len,
                  .received_us = shard->wall_us,
                  .qos = 1},
        .left = acks_left(client),
    };
    return topic_is_plain(client, topic);
}

/* Cut the next packet, if it is one of the run. */
static inline bool run_cut(const struct run *run, struct mr_span rest, struct run_packet *out)
{
    const uint8_t *at = rest.at;
    size_t topic_len = run->topic->len;
    bool is_v5 = run->client->version == MR_MQTT_5;
    size_t head = 2;

    if (rest.len < 4 || at[0] != FIRST_BYTE) {
        return false;
    }
    size_t length = at[1];
    if (length >= 0x80) {
        if (at[2] >= 0x80 || at[2] == 0) {
            return false; /* large, or not in its shortest form */
        }
        length = (length & 0x7f) | (size_t)at[2] << 7;
        head = 3;
    }
    size_t total = head + length;
    size_t before = 2 + topic_len + 2 + is_v5; /* of the payload */
    if (rest.len < total || total > run->client->packet_told || length < before) {
        return false;
    }
    at += head;
    out->packet_id = mr_get_be16(at + 2 + topic_len);
    if (mr_get_be16(at) != topic_len || out->packet_id == 0 || (is_v5 && at[before - 1] != 0) ||
        !mr_bytes_equal(at + 2, run->topic->text, topic_len)) {
        return false;
    }
    out->payload = mr_span_make(at + before, length - before);
    out->total_bytes = (uint32_t)total;
    return true;
}

/* Journal it and hold its ack.  False: nothing has happened. */
static inline bool run_accept(struct run *run, const struct run_packet *packet)
{
    struct client *client = run->client;
    struct mr_ackgate *gate = client->shard->gates[GATE_DISK];
    uint8_t ack[MR_MQTT_ACK_BYTES];

    if (mr_ackgate_reserve(gate, &client->acks, sizeof(ack)) != MR_OK) {
        return false;
    }
    uint64_t seq = mr_lane_append_again(client->shard->lane, &run->again, packet->payload);
    if (MR_UNLIKELY(seq == 0)) {
        return false;
    }
    (void)mr_mqtt_ack_put(ack, MR_MQTT_PUBACK, packet->packet_id);
    mr_ackgate_hold(gate, &client->acks, run->conn_id, seq, ack, sizeof(ack));
    run->count += 1;
    run->payload_bytes += packet->payload.len;
    return true;
}

size_t publish_run(struct client *client, struct mr_span bytes)
{
    struct mr_shard *shard = client->shard;
    struct mr_span rest = bytes;
    struct run_packet packet;
    struct run run;

    if (!run_begin(client, &run)) {
        return 0;
    }
    while (run.count < run.left && run_cut(&run, rest, &packet) && run_accept(&run, &packet)) {
        rest.at += packet.total_bytes;
        rest.len -= packet.total_bytes;
    }
    mr_metric_add(shard->metrics.packets_received[MR_MQTT_PUBLISH], run.count);
    mr_metric_add(shard->metrics.publish_received[1], run.count);
    shard->payload_received += run.payload_bytes;
    client->received += run.count;
    client->publishes_open += run.count;
    client->gate = run.count != 0 ? GATE_DISK : client->gate;
    return bytes.len - rest.len;
}
