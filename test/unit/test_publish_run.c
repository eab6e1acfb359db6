/* test_publish_run.c
 * links: broker net store journal codec config os base
 *
 * Goal:   publishes that come many in a read leave what they leave one by one: the same records in
 *         the journal, the same acknowledgements in the same order, the same end of the connection.
 * Method: the same random packets go to two brokers; to the second with a PINGREQ behind each,
 * which ends every run (publish_run.c).  PINGRESP, which no acknowledgement waits for, is left out.
 */
#include "base/hash.h"
#include "base/rng.h"
#include "broker_peer.h"

enum { PACKETS = 300, ROUNDS = 40, STREAM_MAX = 4 << 20, FACTS_MAX = PACKETS + 4 };

/* What came of one way: a hash of each record, and of each packet that came back. */
struct outcome {
    uint32_t records[FACTS_MAX];
    size_t record_count;
    uint32_t answers[FACTS_MAX];
    size_t answer_count;
    bool closed;
};

static uint8_t stream[STREAM_MAX];
static size_t ends[PACKETS]; /* of each packet in the stream */
static size_t expected;      /* answers, if nothing ends the connection */

/* ---- the packets ---- */

static size_t put_random(struct mr_rng *rng, uint8_t *out, size_t size, uint8_t version,
                         uint16_t packet_id)
{
    static const char *const topics[] = {
        "s/1",
        "sensors/temp/17",
        "sensors/temp/18",
        "sensors/caf\xc3\xa9/17",
        "watched/a",
        "a/very/long/topic/that/no/cache/holds/because/it/has/more/than/a/hundred/bytes/which/few/"
        "devices/have/but/some/do"};
    static uint8_t payload[20000];
    uint64_t dice = mr_rng_below(rng, 100);
    size_t len = dice == 0 ? sizeof(payload) : mr_rng_below(rng, dice < 50 ? 101 : 300);
    struct mr_mqtt_publish packet = {
        /* mostly the one before */
        .topic = mr_span_of(topics[dice < 85 ? packet_id / 40 % 3 : mr_rng_below(rng, 6)]),
        .payload = mr_span_make(payload, len),
        .qos = (uint8_t)(mr_rng_below(rng, 12) == 0 ? mr_rng_below(rng, 3) : 1),
        .retain = mr_rng_below(rng, 30) == 0,
    };

    packet.packet_id = packet.qos == 0 ? 0 : packet_id;
    packet.dup = packet.qos != 0 && mr_rng_below(rng, 30) == 0;
    expected += packet.qos != 0;
    if (version == MR_MQTT_5 && mr_rng_below(rng, 20) == 0) {
        packet.props.message_expiry_s = 1000;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_MESSAGE_EXPIRY);
    }
    ptrdiff_t put = mr_mqtt_publish_encode(&packet, version, out, size);
    mr_assert(put > 0);
    return (size_t)put;
}

/* A packet that ends the connection: its id is 0. */
static void spoil(uint8_t *packet, size_t len)
{
    struct mr_mqtt_frame frame;

    mr_assert(mr_mqtt_frame(mr_span_make(packet, len), MR_MQTT_PACKET_MAX, &frame) == MR_OK);
    uint8_t *body = packet + (frame.body.at - packet);
    memset(body + 2 + mr_get_be16(body), 0, 2);
}

static void stream_make(uint64_t seed, uint8_t version)
{
    struct mr_rng rng;
    size_t at = 0;

    mr_rng_seed(&rng, seed);
    expected = 0;
    for (int i = 0; i < PACKETS; i++) {
        size_t len = put_random(&rng, stream + at, STREAM_MAX - at, version, (uint16_t)(i + 1));
        if (seed % 5 == 0 && i == PACKETS - 3 && (stream[at] >> 1 & 3) != 0) {
            spoil(stream + at, len);
        }
        at += len;
        ends[i] = at;
    }
}

/* ---- the two ways ---- */

static void note_record(const struct mr_event *event, void *arg)
{
    struct outcome *out = arg;
    uint8_t facts[3] = {event->qos, event->retain, (uint8_t)event->type};
    uint32_t hash = mr_crc32c(0, facts, sizeof(facts));

    hash = mr_crc32c(hash, event->client.at, event->client.len);
    hash = mr_crc32c(hash, event->topic.at, event->topic.len);
    hash = mr_crc32c(hash, event->properties.at, event->properties.len);
    hash = mr_crc32c(hash, event->payload.at, event->payload.len);
    out->records[out->record_count++] = hash;
}

/* Answers that waited for the journal, until all are there or the connection is over. */
static void take_answers(struct peer *peer, struct outcome *out)
{
    struct mr_mqtt_frame frame;

    while (out->answer_count < expected) {
        if (!peer_frame(peer, &frame)) {
            out->closed = true;
            return;
        }
        if (frame.type != MR_MQTT_PINGRESP) {
            uint32_t hash = mr_crc32c(0, &frame.type, 1);
            out->answers[out->answer_count++] = mr_crc32c(hash, frame.body.at, frame.body.len);
        }
    }
}

/* What is QoS 0 behind the last answer has been read too, when something behind it is answered. */
static void ends_are_read(struct peer *peer)
{
    struct mr_mqtt_frame frame;
    uint8_t topic[64];
    size_t len = put_publish(topic, sizeof(topic), peer->version, "end", "", 1, 999);

    peer_write(peer, topic, len);
    do {
        mr_assert(peer_frame(peer, &frame));
    } while (frame.type != MR_MQTT_PUBACK);
}

/* A broker, and who looks on: a subscriber, and a publisher whose PUBACK says that all before it is
 * durable.
 */
struct side {
    struct kit kit;
    struct peer watcher;
    struct peer last;
    uint64_t seq; /* the next record to look at */
};

static void side_open(struct side *side)
{
    struct mr_mqtt_subscription watched = {.filter = mr_span_of("watched/#"), .qos = 0};

    kit_open(&side->kit, &(struct kit_options){.no_store = true});
    peer_join(&side->watcher, &side->kit, "watcher", MR_MQTT_311);
    mr_assert(peer_subscribe(&side->watcher, &watched, 0) == 0);
    peer_join(&side->last, &side->kit, "last", MR_MQTT_311);
    side->seq = 1;
}

static void side_close(struct side *side)
{
    peer_close(&side->last);
    peer_close(&side->watcher);
    kit_close(&side->kit);
}

static void note_records(struct side *side, struct outcome *out)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    struct mr_error why;

    mr_assert(mr_reader_open(&reader, side->kit.journal, 0, side->seq,
                             &(struct mr_reader_options){0}, &why) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            note_record(&event, out);
        }
        side->seq = view.seq_last + 1;
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
}

static void go(struct side *side, struct outcome *out, uint8_t version, bool one_by_one)
{
    struct peer peer;
    uint8_t ping[2];

    *out = (struct outcome){.closed = false};
    (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
    peer_join(&peer, &side->kit, "press-7", version);
    if (one_by_one) {
        for (int i = 0; i < PACKETS; i++) {
            size_t begin = i == 0 ? 0 : ends[i - 1];
            peer_write(&peer, stream + begin, ends[i] - begin);
            peer_write(&peer, ping, sizeof(ping));
        }
    } else {
        peer_write(&peer, stream, ends[PACKETS - 1]);
    }
    take_answers(&peer, out);
    if (!out->closed) {
        ends_are_read(&peer);
    }
    peer_close(&peer);
    peer_publish(&side->last, "end", "", 1, 1);
    mr_assert(peer_expect_puback(&side->last, 1) == 0);
    note_records(side, out);
}

static void test_both_ways(uint8_t version)
{
    static struct outcome together;
    static struct outcome apart;
    struct side sides[2];
    size_t closed = 0;

    side_open(&sides[0]);
    side_open(&sides[1]);
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        stream_make(seed, version);
        go(&sides[0], &together, version, false);
        go(&sides[1], &apart, version, true);
        bool same = together.closed == apart.closed &&
                    together.record_count == apart.record_count &&
                    memcmp(together.records, apart.records, sizeof(apart.records)) == 0 &&
                    (together.closed ||
                     (together.answer_count == apart.answer_count &&
                      memcmp(together.answers, apart.answers, sizeof(apart.answers)) == 0));
        if (!same) {
            fprintf(stderr,
                    "version %u, seed %llu: %zu records and %zu answers, one by one %zu and %zu\n",
                    version, (unsigned long long)seed, together.record_count, together.answer_count,
                    apart.record_count, apart.answer_count);
            abort();
        }
        mr_assert(together.record_count > PACKETS / 2);
        closed += together.closed;
    }
    mr_assert(closed != 0 && closed < ROUNDS); /* the streams were of both kinds */
    side_close(&sides[0]);
    side_close(&sides[1]);
}

int main(void)
{
    test_both_ways(MR_MQTT_311);
    test_both_ways(MR_MQTT_5);
    return 0;
}
