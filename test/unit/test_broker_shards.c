/* test_broker_shards.c
 * links: broker net journal codec config os base
 *
 * Goal:   with several shards a client is served as by one: its events are in the lane
 *         of its id whichever shard accepted it, bytes behind its CONNECT travel with
 *         it, takeovers keep order, the limits hold for all shards together, and
 *         subscribers get what is published in other shards.
 * Method: a broker with three shards and real sockets; the kernel spreads the
 *         connections, so that some of them have to move.
 */
#include "broker_peer.h"

enum { SHARDS = 3, CLIENTS = 60 };

static const struct kit_options three = {.lanes = SHARDS};

/* ---- what the journal has ---- */

/* Call `each` for every event of every lane. */
static void journal_each(struct kit *kit,
                         void (*each)(void *arg, uint32_t lane, const struct mr_event *event),
                         void *arg)
{
    for (uint32_t lane = 0; lane < SHARDS; lane++) {
        struct mr_reader *reader = NULL;
        struct mr_view view;

        mr_assert(mr_reader_open(&reader, kit->journal, lane, 1, NULL, NULL) == MR_OK);
        while (mr_reader_next(reader, &view) == MR_OK) {
            struct mr_view_at at = mr_view_begin(&view);
            struct mr_event event;
            while (mr_view_event(&view, &at, &event)) {
                each(arg, lane, &event);
            }
            mr_view_unpin(&view);
        }
        mr_reader_close(reader);
    }
}

struct seen {
    struct kit *kit;
    uint32_t count;
    uint32_t of_lane[SHARDS];
    unsigned next[CLIENTS]; /* number of the event that must come next */
};

static void see(void *arg, uint32_t lane, const struct mr_event *event)
{
    struct seen *seen = arg;
    char text[32] = "";
    unsigned client = 0;
    unsigned number = 0;

    mr_assert(mr_journal_home(seen->kit->journal, event->client) == lane);
    mr_assert(event->payload.len < sizeof(text));
    memcpy(text, event->payload.at, event->payload.len);
    mr_assert(sscanf(text, "%u:%u", &client, &number) == 2 && client < CLIENTS);
    mr_assert(seen->next[client] == number);
    seen->next[client] += 1;
    seen->count += 1;
    seen->of_lane[lane] += 1;
}

static void client_name(char name[32], unsigned client)
{
    (void)snprintf(name, 32, "device-%u", client);
}

static void publish(struct peer *peer, unsigned client, unsigned number)
{
    char payload[32];

    (void)snprintf(payload, sizeof(payload), "%u:%u", client, number);
    peer_publish(peer, "a/b", payload, 1, (uint16_t)(number + 1));
}

/* ---- the tests ---- */

static void test_events_are_in_the_lane_of_their_client(void)
{
    struct kit kit;
    static struct peer peers[CLIENTS];
    struct mr_broker_stats stats;
    char name[32];

    kit_open(&kit, &three);
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_name(name, i);
        peer_join(&peers[i], &kit, name, i % 2 == 0 ? MR_MQTT_5 : MR_MQTT_311);
    }
    for (unsigned number = 0; number < 5; number++) {
        for (unsigned i = 0; i < CLIENTS; i++) {
            publish(&peers[i], i, number);
        }
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        for (unsigned number = 0; number < 5; number++) {
            mr_assert(peer_expect_puback(&peers[i], (uint16_t)(number + 1)) <= 0x10);
        }
    }
    struct seen seen = {.kit = &kit};
    journal_each(&kit, see, &seen);
    mr_assert(seen.count == 5 * CLIENTS);
    mr_assert(seen.of_lane[0] != 0 && seen.of_lane[1] != 0 && seen.of_lane[2] != 0);
    int64_t deadline = kit_deadline();
    do { /* stored at the end of the shards' turns */
        kit_patience(deadline, "the statistics");
        mr_broker_stats(kit.broker, &stats);
    } while (stats.publishes_received != 5 * CLIENTS);
    mr_assert(stats.connections == CLIENTS && stats.connections_total == CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        peer_close(&peers[i]);
    }
    kit_close(&kit);
}

/* Nobody waits for CONNACK: CONNECT and publishes in one piece. */
static void test_bytes_behind_connect_travel_along(void)
{
    struct kit kit;
    uint8_t bytes[8192];

    kit_open(&kit, &three);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct mr_mqtt_connect packet = {.version = MR_MQTT_311, .clean_start = true};
        struct mr_mqtt_connack connack;
        struct peer peer;
        char name[32];

        client_name(name, i);
        packet.client_id = mr_span_of(name);
        ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
        mr_assert(len > 0);
        size_t used = (size_t)len;
        for (unsigned number = 0; number < 50; number++) {
            char payload[32];
            (void)snprintf(payload, sizeof(payload), "%u:%u", i, number);
            used += put_publish(bytes + used, sizeof(bytes) - used, MR_MQTT_311, "a/b", payload, 1,
                                (uint16_t)(number + 1));
        }
        peer_open(&peer, &kit);
        peer.version = MR_MQTT_311;
        peer_write(&peer, bytes, used - 5); /* the last one is not complete yet */
        peer_expect_connack(&peer, &connack);
        peer_write(&peer, bytes + used - 5, 5);
        for (unsigned number = 0; number < 50; number++) {
            (void)peer_expect_puback(&peer, (uint16_t)(number + 1));
        }
        peer_close(&peer);
    }
    struct seen seen = {.kit = &kit};
    journal_each(&kit, see, &seen);
    mr_assert(seen.count == 50 * CLIENTS);
    kit_close(&kit);
}

/* The same id again and again: the older connection goes, order stays. */
static void test_takeovers_keep_order(void)
{
    struct kit kit;
    struct peer old;
    unsigned number = 0;

    kit_open(&kit, &three);
    peer_join(&old, &kit, "device-0", MR_MQTT_5);
    for (int life = 0; life < 40; life++) {
        struct peer next;

        publish(&old, 0, number);
        (void)peer_expect_puback(&old, (uint16_t)(number + 1));
        number += 1;
        peer_join(&next, &kit, "device-0", MR_MQTT_5);
        peer_expect_disconnect(&old, MR_MQTT_SESSION_TAKEN_OVER);
        peer_close(&old);
        old = next;
    }
    struct seen seen = {.kit = &kit};
    journal_each(&kit, see, &seen);
    mr_assert(seen.count == 40);
    peer_close(&old);
    kit_close(&kit);
}

/* An id that we choose is at home where the connection is. */
static void test_assigned_ids(void)
{
    struct kit kit;

    kit_open(&kit, &three);
    for (int i = 0; i < 30; i++) {
        struct mr_mqtt_connack connack;
        struct peer peer;

        peer_open(&peer, &kit);
        peer_send_connect(&peer, &(struct peer_connect){.client_id = "", .version = MR_MQTT_5});
        peer_expect_connack(&peer, &connack);
        mr_assert(connack.reason == 0 && connack.props.assigned_client_id.len > 5);
        peer_close(&peer);
    }
    kit_close(&kit);
}

/* One more client: the reason of its CONNACK; it leaves again. */
static uint8_t join_late(struct kit *kit, const char *name)
{
    struct mr_mqtt_connack connack;
    struct peer late;

    peer_open(&late, kit);
    peer_send_connect(&late, &(struct peer_connect){.client_id = name, .version = MR_MQTT_5});
    peer_expect_connack(&late, &connack);
    peer_close(&late);
    return connack.reason;
}

/* `max_connections` is of the listener, however many shards accept for it. */
static void test_limits_hold_for_all_shards(void)
{
    enum { LIMIT = 20 };
    struct kit_options options = three;
    static struct peer peers[LIMIT];
    struct kit kit;
    char name[32];

    options.max_connections = LIMIT;
    kit_open(&kit, &options);
    for (unsigned i = 0; i < LIMIT; i++) {
        client_name(name, i);
        peer_join(&peers[i], &kit, name, MR_MQTT_5);
    }
    for (unsigned i = 0; i < LIMIT; i++) { /* whichever shard accepts, and is home */
        client_name(name, LIMIT + i);
        mr_assert(join_late(&kit, name) == MR_MQTT_QUOTA_EXCEEDED);
    }
    client_name(name, 1); /* who is there may come back */
    mr_assert(join_late(&kit, name) == 0);
    for (unsigned i = 2; i < LIMIT; i++) {
        peer_quiet(&peers[i]);
    }
    peer_close(&peers[0]);
    int64_t deadline_ns = kit_deadline();
    while (join_late(&kit, "late") != 0) { /* a place was left, by whichever shard */
        kit_patience(deadline_ns, "a place");
    }
    for (unsigned i = 1; i < LIMIT; i++) {
        peer_close(&peers[i]);
    }
    kit_close(&kit);
}

/* Connections on their way when the broker stops are closed, and nothing leaks. */
static void test_stops_with_connections_on_the_way(void)
{
    static struct peer peers[CLIENTS];
    struct kit kit;
    char name[32];

    kit_open(&kit, &three);
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_name(name, i);
        peer_open(&peers[i], &kit);
        peer_send_connect(&peers[i],
                          &(struct peer_connect){.client_id = name, .version = MR_MQTT_311});
    }
    kit_close(&kit);
    for (unsigned i = 0; i < CLIENTS; i++) {
        peer_close(&peers[i]);
    }
}

/* ---- subscribers in other shards ---- */

/* Members in every shard: so many that no shard is without one. */
enum { MEMBERS = 12 };

static void members_join(struct kit *kit, struct peer *peers, const char *kind, const char *filter,
                         uint8_t qos)
{
    uint32_t homes[SHARDS] = {0};

    for (unsigned i = 0; i < MEMBERS; i++) {
        struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = qos};
        char name[32];

        (void)snprintf(name, sizeof(name), "%s-%u", kind, i);
        homes[mr_journal_home(kit->journal, mr_span_of(name))] += 1;
        peer_join(&peers[i], kit, name, MR_MQTT_5);
        if (filter != NULL && filter[0] != '\0') {
            mr_assert(peer_subscribe(&peers[i], &wanted, 0) == qos);
        }
    }
    /* The key is random: twelve members miss one of three shards once in 130 runs, and
     * then the test only says less.
     */
    if (homes[0] == 0 || homes[1] == 0 || homes[2] == 0) {
        printf("no member of '%s' in some shard\n", kind);
    }
}

static void members_leave(struct peer *peers)
{
    for (unsigned i = 0; i < MEMBERS; i++) {
        peer_close(&peers[i]);
    }
}

/* Every subscriber gets every publish, once and in the publisher's order. */
static void everybody_gets_everything(uint8_t qos, const struct kit_options *options,
                                      const char *topic)
{
    enum { ROUNDS = 40 };
    static struct peer subscribers[MEMBERS];
    static struct peer publishers[MEMBERS];
    struct mr_broker_stats stats;
    struct kit kit;

    kit_open(&kit, options);
    members_join(&kit, subscribers, "subscriber", "plant/+/temperature", qos);
    members_join(&kit, publishers, "publisher", "", 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < MEMBERS; i++) {
            char payload[32];
            (void)snprintf(payload, sizeof(payload), "%u:%u", i, round);
            peer_publish(&publishers[i], topic, payload, qos, qos == 0 ? 0 : (uint16_t)(round + 1));
        }
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        unsigned next[MEMBERS] = {0};
        for (unsigned n = 0; n < ROUNDS * MEMBERS; n++) {
            struct mr_mqtt_frame frame;
            struct mr_mqtt_publish publish;
            struct mr_mqtt_why why;
            struct mr_mqtt_mode mode = {.version = MR_MQTT_5, .from = MR_MQTT_FROM_SERVER};
            unsigned from = 0;
            unsigned round = 0;
            char text[32] = "";

            mr_assert(peer_frame(&subscribers[i], &frame) && frame.type == MR_MQTT_PUBLISH);
            mr_assert(mr_mqtt_publish_decode(&frame, mode, &publish, &why) == MR_OK);
            mr_assert(mr_span_is(publish.topic, topic) && publish.qos == qos);
            memcpy(text, publish.payload.at, publish.payload.len);
            mr_assert(sscanf(text, "%u:%u", &from, &round) == 2 && from < MEMBERS);
            mr_assert(next[from] == round);
            next[from] += 1;
            if (qos != 0) {
                peer_ack(&subscribers[i], publish.packet_id);
            }
        }
        peer_quiet(&subscribers[i]);
    }
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.messages_dropped == 0);
    members_leave(subscribers);
    members_leave(publishers);
    kit_close(&kit);
}

static void test_subscribers_of_other_shards_get_everything(void)
{
    struct kit_options excluded = three;

    excluded.exclude = "plant/9/#";
    everybody_gets_everything(1, &three, "plant/7/temperature");
    everybody_gets_everything(0, &three, "plant/7/temperature");
    everybody_gets_everything(1, &excluded, "plant/9/temperature");
}

/* Filters that do not match see nothing of it; No Local holds. */
static void test_only_who_subscribed(void)
{
    static struct peer strangers[MEMBERS];
    static struct peer selfish[MEMBERS];
    struct mr_mqtt_publish got;
    struct kit kit;

    kit_open(&kit, &three);
    members_join(&kit, strangers, "stranger", "other/#", 1);
    for (unsigned i = 0; i < MEMBERS; i++) {
        struct mr_mqtt_subscription wanted = {
            .filter = mr_span_of("talk"), .qos = 1, .no_local = true};
        char name[32];
        (void)snprintf(name, sizeof(name), "selfish-%u", i);
        peer_join(&selfish[i], &kit, name, MR_MQTT_5);
        mr_assert(peer_subscribe(&selfish[i], &wanted, 0) == 1);
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        peer_publish(&selfish[i], "talk", "hello", 1, 1);
        (void)peer_expect_puback(&selfish[i], 1);
        for (unsigned other = 0; other < MEMBERS; other++) {
            if (other != i) {
                peer_expect_publish(&selfish[other], "talk", "hello", 1, &got);
                peer_ack(&selfish[other], got.packet_id);
            }
        }
        peer_publish(&selfish[i], "talk", "psst", 0, 0);
        for (unsigned other = 0; other < MEMBERS; other++) {
            if (other != i) {
                peer_expect_publish(&selfish[other], "talk", "psst", 0, &got);
            }
        }
        peer_quiet(&selfish[i]);
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        peer_quiet(&strangers[i]);
    }
    members_leave(strangers);
    members_leave(selfish);
    kit_close(&kit);
}

/* Larger than what the ring holds; and a will. */
static void test_large_messages_and_wills_travel(void)
{
    enum { LARGE = 700 << 10 };
    static struct peer subscribers[MEMBERS];
    static char payload[LARGE + 1];
    static uint8_t bytes[LARGE + 100];
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct peer publisher;
    struct kit kit;

    memset(payload, 'x', LARGE);
    kit_open(&kit, &three);
    members_join(&kit, subscribers, "subscriber", "#", 1);
    for (uint8_t qos = 0; qos < 2; qos++) {
        peer_open(&publisher, &kit);
        peer_send_connect(&publisher, &(struct peer_connect){.client_id = "publisher",
                                                             .version = MR_MQTT_5,
                                                             .will_topic = "gone",
                                                             .will_payload = "bye",
                                                             .will_qos = qos});
        peer_expect_connack(&publisher, &connack);
        size_t len =
            put_publish(bytes, sizeof(bytes), MR_MQTT_5, "large", payload, qos, qos == 0 ? 0 : 1);
        peer_write(&publisher, bytes, len);
        for (unsigned i = 0; i < MEMBERS; i++) {
            peer_expect_publish(&subscribers[i], "large", payload, qos, &got);
            if (qos != 0) {
                peer_ack(&subscribers[i], got.packet_id);
            }
        }
        peer_close(&publisher);
        for (unsigned i = 0; i < MEMBERS; i++) {
            peer_expect_publish(&subscribers[i], "gone", "bye", qos, &got);
            if (qos != 0) {
                peer_ack(&subscribers[i], got.packet_id);
            }
        }
    }
    members_leave(subscribers);
    kit_close(&kit);
}

int main(void)
{
    test_events_are_in_the_lane_of_their_client();
    test_bytes_behind_connect_travel_along();
    test_takeovers_keep_order();
    test_assigned_ids();
    test_limits_hold_for_all_shards();
    test_stops_with_connections_on_the_way();
    test_subscribers_of_other_shards_get_everything();
    test_only_who_subscribed();
    test_large_messages_and_wills_travel();
    printf("ok\n");
    return 0;
}
