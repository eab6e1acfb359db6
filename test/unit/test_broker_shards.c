/* test_broker_shards.c
 * links: broker net journal codec config os base
 *
 * Goal:   with several shards a client is served as by one: its events are in the lane
 *         of its id whichever shard accepted it, bytes behind its CONNECT travel with
 *         it, takeovers keep order, and the limits hold for all shards together.
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

/* `max_connections` is of the listener, however many shards accept for it. */
static void test_limits_hold_for_all_shards(void)
{
    enum { LIMIT = 20 };
    struct kit_options options = three;
    static struct peer peers[LIMIT];
    struct kit kit;
    struct peer late;
    struct mr_mqtt_connack connack;
    struct mr_broker_stats stats;
    char name[32];

    options.max_connections = LIMIT;
    kit_open(&kit, &options);
    for (unsigned i = 0; i < LIMIT; i++) {
        client_name(name, i);
        peer_join(&peers[i], &kit, name, MR_MQTT_5);
    }
    peer_open(&late, &kit); /* waits in the kernel's backlog */
    peer_send_connect(&late, &(struct peer_connect){.client_id = "late", .version = MR_MQTT_5});
    for (unsigned i = 0; i < LIMIT; i++) {
        peer_quiet(&peers[i]);
    }
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.connections <= LIMIT && late.begin == late.end);
    peer_close(&peers[0]);
    peer_expect_connack(&late, &connack); /* a place was left, by whichever shard */
    mr_assert(connack.reason == 0);
    peer_close(&late);
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

int main(void)
{
    test_events_are_in_the_lane_of_their_client();
    test_bytes_behind_connect_travel_along();
    test_takeovers_keep_order();
    test_assigned_ids();
    test_limits_hold_for_all_shards();
    test_stops_with_connections_on_the_way();
    printf("ok\n");
    return 0;
}
