/* test_lane_share.c
 * links: broker net store journal codec config os base
 *
 * Goal:   publishers that are faster than what sessions are owed of it can be read do not fill a
 *         lane with it: they wait, everybody gets every message once and in order, and they go
 *         on.  For a shared group, for sessions at home in another shard, in both directions, and
 *         for members of groups in many shards with the smallest lanes there can be, which all need
 *         room in each other.
 * Method: lanes that are committed only when nobody has anything to send or to read otherwise, and
 *         three times as many bytes of messages; no bridge holds the journal.
 */
#include "broker_peer.h"

enum {
    PAYLOAD = 1000,
    PEERS_MAX = 5,
    SOON_NS = 300000,
    DIGITS = 8,
};

struct setting {
    uint32_t lanes;
    uint32_t segments; /* of each lane */
    uint32_t segment_bytes;
    uint32_t peers; /* who publish to all who subscribe, as many */
    bool in_groups; /* subscribers are in one each */
};

struct flood {
    struct kit kit;
    uint32_t count; /* of messages from each publisher */
    uint32_t publishers;
    uint32_t subscribers;
    struct peer from[PEERS_MAX];
    struct peer to[PEERS_MAX];
    uint32_t sent[PEERS_MAX];
    uint32_t acked[PEERS_MAX];
    uint32_t got[PEERS_MAX][PEERS_MAX]; /* by subscriber and publisher */
    uint8_t packets[PEERS_MAX][PAYLOAD + 64];
    size_t packet_len[PEERS_MAX];
    size_t packet_sent[PEERS_MAX];
};

static bool step(struct flood *flood)
{
    bool any = false;

    for (uint32_t lane = 0; lane < mr_journal_lane_count(flood->kit.journal); lane++) {
        any |= mr_lane_step_commit(mr_journal_lane(flood->kit.journal, lane));
    }
    mr_journal_step_keeper(flood->kit.journal);
    return any;
}

/* The next packet, committing what it needs. */
static void frame_of(struct flood *flood, struct peer *peer, struct mr_mqtt_frame *frame)
{
    int64_t deadline = kit_deadline();

    while (mr_mqtt_frame(mr_span_make(peer->in + peer->begin, peer->end - peer->begin),
                         MR_MQTT_PACKET_MAX, frame) != MR_OK) {
        (void)step(flood);
        peer_receive(peer, SOON_NS);
        kit_patience(deadline, "a packet");
    }
    peer->begin += frame->total_bytes;
}

/* "NAME-n", at home in `lane`. */
static void id_at(const struct flood *flood, char out[32], const char *name, uint32_t lane)
{
    for (int n = 0;; n++) {
        (void)snprintf(out, 32, "%s-%d", name, n);
        if (mr_journal_home(flood->kit.journal, mr_span_of(out)) == lane) {
            return;
        }
    }
}

static void join(struct flood *flood, struct peer *peer, const char *name, uint32_t number,
                 const char *filter)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = 1};
    struct mr_mqtt_frame frame;
    char id[32];

    id_at(flood, id, name, number % mr_journal_lane_count(flood->kit.journal));
    peer_open(peer, &flood->kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id,
                                                   .version = 5,
                                                   .receive_max = 1000,
                                                   .keep_session = filter[0] != '\0',
                                                   .expiry_s = filter[0] != '\0' ? 3600 : 0});
    frame_of(flood, peer, &frame);
    mr_assert(frame.type == MR_MQTT_CONNACK && frame.body.at[1] == 0);
    if (filter[0] != '\0') {
        peer_send_subscribe(peer, &wanted, 0);
        frame_of(flood, peer, &frame);
        mr_assert(frame.type == MR_MQTT_SUBACK && frame.body.at[frame.body.len - 1] == 1);
    }
}

static void flood_open(struct flood *flood, const struct setting *setting)
{
    uint32_t lane_bytes = setting->segments * setting->segment_bytes;
    uint32_t peers = setting->peers;

    *flood = (struct flood){
        .publishers = peers, .subscribers = peers, .count = 3 * lane_bytes / PAYLOAD};
    kit_open(&flood->kit,
             &(struct kit_options){.manual = true,
                                   .lanes = setting->lanes,
                                   .journal_bytes = (uint64_t)setting->lanes * lane_bytes,
                                   .segment_bytes = setting->segment_bytes,
                                   .receive_maximum = 60000,
                                   .max_queued_messages = 100000,
                                   .checkpoint_ms = 5});
    for (uint32_t i = 0; i < peers; i++) {
        char filter[32] = "t";
        if (setting->in_groups) {
            (void)snprintf(filter, sizeof(filter), "$share/g%u/t", i);
        }
        join(flood, &flood->to[i], "to", i, filter);
    }
    for (uint32_t i = 0; i < peers; i++) {
        join(flood, &flood->from[i], "from", i, "");
    }
}

static void flood_close(struct flood *flood)
{
    for (uint32_t i = 0; i < flood->publishers; i++) {
        peer_close(&flood->from[i]);
        peer_close(&flood->to[i]);
    }
    kit_close(&flood->kit);
}

/* As much as the broker reads.  True: it was something. */
static bool publish_some(struct flood *flood, uint32_t p)
{
    char payload[PAYLOAD + 1];
    size_t sent = 0;

    if (flood->packet_sent[p] == flood->packet_len[p]) {
        if (flood->sent[p] == flood->count) {
            return false;
        }
        (void)snprintf(payload, sizeof(payload), "%u %0*u", p % 10, PAYLOAD - 2, flood->sent[p]);
        flood->sent[p] += 1;
        flood->packet_len[p] = put_publish(flood->packets[p], sizeof(flood->packets[p]), 5, "t",
                                           payload, 1, (uint16_t)flood->sent[p]);
        flood->packet_sent[p] = 0;
    }
    mr_assert(mr_socket_write(flood->from[p].fd, flood->packets[p] + flood->packet_sent[p],
                              flood->packet_len[p] - flood->packet_sent[p], &sent) == MR_OK);
    flood->packet_sent[p] += sent;
    return sent != 0;
}

static bool next_frame(struct peer *peer, struct mr_mqtt_frame *frame)
{
    if (mr_mqtt_frame(mr_span_make(peer->in + peer->begin, peer->end - peer->begin),
                      MR_MQTT_PACKET_MAX, frame) != MR_OK) {
        return false;
    }
    peer->begin += frame->total_bytes;
    return true;
}

static bool take_acks(struct flood *flood, uint32_t p)
{
    struct mr_mqtt_frame frame;
    bool any = false;

    peer_receive(&flood->from[p], 0);
    while (next_frame(&flood->from[p], &frame)) {
        flood->acked[p] += 1;
        mr_assert(frame.type == MR_MQTT_PUBACK);
        mr_assert(mr_get_be16(frame.body.at) == flood->acked[p]);
        any = true;
    }
    return any;
}

static bool take_messages(struct flood *flood, uint32_t s)
{
    struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_frame frame;
    struct mr_mqtt_publish got;
    struct mr_mqtt_why why;
    bool any = false;

    peer_receive(&flood->to[s], SOON_NS);
    while (next_frame(&flood->to[s], &frame)) {
        char digits[DIGITS + 1];
        mr_assert(frame.type == MR_MQTT_PUBLISH);
        mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
        mr_assert(got.payload.len == PAYLOAD && !got.dup);
        memcpy(digits, got.payload.at + PAYLOAD - DIGITS, DIGITS);
        digits[DIGITS] = '\0';
        uint32_t from = (uint32_t)(got.payload.at[0] - '0');
        uint32_t number = (uint32_t)strtoul(digits, NULL, 10);
        mr_assert(from < flood->publishers && number == flood->got[s][from]);
        flood->got[s][from] += 1;
        peer_ack(&flood->to[s], got.packet_id);
        any = true;
    }
    return any;
}

static bool is_done(const struct flood *flood)
{
    bool done = true;

    for (uint32_t p = 0; p < flood->publishers; p++) {
        done = done && flood->acked[p] == flood->count;
        for (uint32_t s = 0; s < flood->subscribers; s++) {
            done = done && flood->got[s][p] == flood->count;
        }
    }
    return done;
}

static void flood_run(struct flood *flood)
{
    int64_t deadline = kit_deadline();

    while (!is_done(flood)) {
        bool any = false;
        mr_journal_step_keeper(flood->kit.journal); /* a segment is not what they wait for */
        for (uint32_t i = 0; i < flood->publishers; i++) {
            any |= publish_some(flood, i);
            any |= take_acks(flood, i);
            any |= take_messages(flood, i);
        }
        if (any) {
            deadline = kit_deadline();
        } else {
            (void)step(flood);
        }
        kit_patience(deadline, "publishers or subscribers to go on");
    }
}

static void test_flood(const struct setting *setting)
{
    struct flood flood;

    flood_open(&flood, setting);
    flood_run(&flood);
    flood_close(&flood);
}

int main(void)
{
    test_flood(&(struct setting){
        .lanes = 1, .segments = 4, .segment_bytes = 256 << 10, .peers = 1, .in_groups = true});
    test_flood(
        &(struct setting){.lanes = 2, .segments = 4, .segment_bytes = 256 << 10, .peers = 2});
    test_flood(&(struct setting){
        .lanes = 5, .segments = 3, .segment_bytes = 64 << 10, .peers = 5, .in_groups = true});
    return 0;
}
