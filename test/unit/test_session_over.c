/* test_session_over.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a session whose time was over while the journal had no room to say so does not go on:
 *         its client is told Session Present 0, and gets nothing of it [MQTT-3.1.2-23].
 * Method: a real broker and journal; a cursor that stands still fills the journal, moving it
 *         makes room again.
 */
#include "broker_peer.h"
#include "journal/cursor.h"

enum { BIG = 1500, EXPIRY_S = 1 };

static char payload[BIG + 1];

static const struct peer_connect mortal = {
    .client_id = "mortal", .version = 5, .keep_session = true, .expiry_s = EXPIRY_S};

/* Until so many connections are there, and so many of them wait. */
static void wait_for(const struct kit *kit, uint64_t connections, uint64_t waiting)
{
    int64_t deadline = kit_deadline();
    struct mr_broker_stats stats;

    do {
        (void)usleep(1000); /* sleep: until the shard's turn */
        mr_broker_stats(kit->broker, &stats);
        kit_patience(deadline, "connections to come, go and wait");
    } while (stats.connections != connections || stats.connections_paused != waiting);
}

/* Publish until nothing more is read. */
static void fill(struct kit *kit, struct peer *pub)
{
    struct mr_broker_stats stats;
    int64_t deadline = kit_deadline();

    do {
        peer_publish(pub, "plant/a", payload, 0, 0);
        peer_receive(pub, 0);
        mr_broker_stats(kit->broker, &stats);
        kit_patience(deadline, "the journal to be full");
    } while (mr_lane_state(kit->lane) != MR_LANE_FULL || stats.connections_paused == 0);
}

int main(void)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("news"), .qos = 1};
    struct mr_mqtt_connack connack;
    struct mr_cursor *cursor = NULL;
    struct kit kit;
    struct peer peer;
    struct peer pub;
    bool is_new;

    memset(payload, 'x', BIG);
    kit_open(&kit, &(struct kit_options){.journal_bytes = 512 << 10, .segment_bytes = 128 << 10});
    mr_assert(mr_cursor_open(kit.journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    peer_open(&peer, &kit);
    peer_send_connect(&peer, &mortal);
    peer_expect_connack(&peer, &connack);
    mr_assert(peer_subscribe(&peer, &wanted, 0) == 1);
    peer_join(&pub, &kit, "pub", 4);
    fill(&kit, &pub);
    peer_close(&peer);
    wait_for(&kit, 1, 1);
    int64_t over_ns = mr_clock_mono_ns() + EXPIRY_S * INT64_C(1200000000);
    while (mr_clock_mono_ns() < over_ns) {
        (void)usleep(10000); /* sleep: until its time is over */
    }
    peer_open(&peer, &kit);
    peer_send_connect(&peer, &mortal);
    wait_for(&kit, 2, 2);
    mr_cursor_set(cursor, mr_lane_durable(kit.lane));
    peer_expect_connack(&peer, &connack);
    mr_assert(connack.reason == 0 && !connack.session_present);
    peer_close(&pub);
    peer_join(&pub, &kit, "pub", 4);
    peer_publish(&pub, "news", "for nobody", 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_quiet(&peer);
    peer_close(&peer);
    peer_close(&pub);
    kit_close(&kit);
    return 0;
}
