/* test_broker_memory.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   whatever buffer cannot be had, in whatever moment: nothing crashes, leaks or
 *         hangs, no publish is acknowledged that is not in the journal, and others go on.
 * Method: the shard's pool is given room for a little more each round, while a client
 *         connects, subscribes, publishes and leaves in one go; then it has room again, and
 *         the client is answered or closed.  What is lent at the end is asserted to be
 *         nothing by the pool itself.
 */
#include "broker/broker_internal.h"
#include "broker_peer.h"

enum { ROUNDS = 240, ROUND_STEP = 64, COARSE_STEP = 512, PUBLISHES = 6, LAST_ID = 99 };

struct room {
    size_t more; /* bytes beyond what is lent now; SIZE_MAX: as much as at first */
    size_t limit_bytes;
};

static void set_room(struct mr_shard *shard, void *arg)
{
    struct room *room = arg;

    if (room->limit_bytes == 0) {
        room->limit_bytes = shard->pool.limit_bytes;
    }
    shard->pool.limit_bytes =
        room->more == SIZE_MAX ? room->limit_bytes : shard->pool.lent_bytes + room->more;
}

static void look(struct mr_shard *shard, void *arg)
{
    (void)shard;
    (void)arg;
}

static void room_set(struct kit *kit, struct room *room, size_t more)
{
    room->more = more;
    mr_assert(shard_call(broker_shard(kit->broker, 0), set_room, room) == MR_OK);
}

/* Let the shard do what it can with what has been sent. */
static void turns(struct kit *kit, int count)
{
    for (int i = 0; i < count; i++) {
        mr_assert(shard_call(broker_shard(kit->broker, 0), look, NULL) == MR_OK);
    }
}

/* Everything a device does, in one buffer; how many bytes. */
static size_t put_all(uint8_t *out, size_t size, uint8_t version, int round)
{
    char client_id[32];
    uint8_t filters[256];
    struct mr_mqtt_subscription subscription = {.filter = mr_span_of("memory/+/#"), .qos = 2};

    (void)snprintf(client_id, sizeof(client_id), "hungry-%d", round % 7);
    struct mr_mqtt_connect connect = {.version = version,
                                      .client_id = mr_span_of(client_id),
                                      .clean_start = round % 3 != 0,
                                      .keep_alive_s = 60,
                                      .has_will = true,
                                      .will_topic = mr_span_of("memory/will"),
                                      .will_payload = mr_span_of("gone"),
                                      .has_username = round % 2 == 0,
                                      .username = mr_span_of("somebody")};
    if (version == 5 && round % 3 == 0) {
        connect.props.session_expiry_s = 30;
        mr_mqtt_set(&connect.props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    size_t len = (size_t)mr_mqtt_connect_encode(&connect, out, size);
    ptrdiff_t raw = mr_mqtt_subscription_put(&subscription, filters, sizeof(filters));
    subscription.filter = mr_span_of("memory/of/many/levels/that/are/new/+");
    raw += mr_mqtt_subscription_put(&subscription, filters + raw, sizeof(filters) - (size_t)raw);
    struct mr_mqtt_subscribe subscribe = {.packet_id = 7,
                                          .raw = mr_span_make(filters, (size_t)raw)};
    len += (size_t)mr_mqtt_subscribe_encode(&subscribe, version, out + len, size - len);
    for (uint8_t i = 1; i <= PUBLISHES; i++) {
        char topic[32];
        (void)snprintf(topic, sizeof(topic), "memory/%d/t", i);
        struct mr_mqtt_publish publish = {.topic = mr_span_of(topic),
                                          .payload = mr_span_of("0123456789012345678901234567890"),
                                          .qos = (uint8_t)(i % 3),
                                          .packet_id = i % 3 == 0 ? 0 : i,
                                          .retain = i == 2};
        len += (size_t)mr_mqtt_publish_encode(&publish, version, out + len, size - len);
    }
    return len;
}

/* Read until the end, or the ack of the last publish; those that were accepted. */
static uint64_t read_all(struct peer *peer)
{
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;
    struct mr_mqtt_ack ack;
    uint64_t accepted = 0;

    while (peer_frame(peer, &frame)) {
        if (frame.type == MR_MQTT_PUBACK || frame.type == MR_MQTT_PUBREC) {
            mr_assert(mr_mqtt_ack_decode(&frame, mode, &ack, &why) == MR_OK);
            accepted += ack.reason < MR_MQTT_UNSPECIFIED;
            if (ack.packet_id == LAST_ID) {
                break;
            }
        }
    }
    return accepted;
}

static uint64_t one_round(struct kit *kit, struct room *room, int round)
{
    static uint8_t bytes[4096];
    size_t more = round < ROUNDS / 2 ? (size_t)round * ROUND_STEP
                                     : (size_t)round * COARSE_STEP - ROUNDS / 2 * COARSE_STEP;
    struct peer peer;

    peer_open(&peer, kit);
    peer.version = round % 2 == 0 ? 5 : 4;
    size_t len = put_all(bytes, sizeof(bytes), peer.version, round);
    room_set(kit, room, more);
    peer_write(&peer, bytes, len);
    turns(kit, 6);
    room_set(kit, room, SIZE_MAX);
    peer_publish(&peer, "memory/last", "x", 1, LAST_ID);
    uint64_t accepted = read_all(&peer);
    peer_close(&peer);
    return accepted;
}

int main(void)
{
    struct kit kit;
    struct peer healthy;
    struct room room = {0};
    uint64_t accepted = 0;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&healthy, &kit, "healthy", 5);
    for (int round = 0; round < ROUNDS; round++) {
        accepted += one_round(&kit, &room, round);
        if (round % 8 == 0) {
            peer_publish(&healthy, "healthy", "x", 1, 1);
            mr_assert(peer_expect_puback(&healthy, 1) == 0);
            accepted += 1;
        }
        mr_assert(mr_lane_durable(kit.lane) >= accepted); /* each is a record of its own */
    }
    printf("%llu publishes accepted\n", (unsigned long long)accepted);
    mr_assert(accepted > ROUNDS);
    peer_close(&healthy);
    kit_close(&kit);
    return 0;
}
