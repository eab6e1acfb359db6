/* test_share_end.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what a member of a group leaves behind at the end of its session goes to another one,
 *         also what it was given a moment before; a group's queue that is larger than the
 *         memory loses nothing; what was in a window with holes at a crash counts as sent.
 * Method: a journal that commits by hand, so that "a moment before" can be held; a small
 *         gateway; a crash by a copy of the disk.
 */
#include "broker_peer.h"
#include "peer_burst.h"

static const char shared[] = "$share/g/q";

static void expect_suback(struct peer *peer, uint8_t qos)
{
    struct mr_mqtt_frame frame;

    mr_assert(peer_frame(peer, &frame) && frame.type == MR_MQTT_SUBACK);
    mr_assert(frame.body.at[frame.body.len - 1] == qos);
}

/* Until a packet has come; commits by hand go on meanwhile. */
static void commit_until_packet(struct kit *kit, struct peer *peer)
{
    int64_t deadline = kit_deadline();
    struct mr_mqtt_frame frame;

    while (mr_mqtt_frame(mr_span_make(peer->in + peer->begin, peer->end - peer->begin),
                         MR_MQTT_PACKET_MAX, &frame) != MR_OK) {
        (void)mr_lane_step_commit(kit->lane);
        mr_journal_step_keeper(kit->journal);
        peer_receive(peer, 1000000);
        kit_patience(deadline, "a packet");
    }
}

static void join(struct kit *kit, struct peer *peer, const char *id)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(peer,
                      &(struct peer_connect){
                          .client_id = id, .version = 5, .keep_session = true, .expiry_s = 3600});
    commit_until_packet(kit, peer);
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0);
}

static void join_group(struct kit *kit, struct peer *peer, const char *id, uint8_t qos)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(shared), .qos = qos};

    join(kit, peer, id);
    peer_send_subscribe(peer, &wanted, 0);
    commit_until_packet(kit, peer);
    expect_suback(peer, qos);
}

/* DISCONNECT, by which the session ends. */
static void end_session(struct peer *peer)
{
    static const uint8_t bytes[] = {0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0};

    peer_write(peer, bytes, sizeof(bytes));
    peer_expect_closed(peer);
    peer_close(peer);
}

/* It was given a message, that is not durable yet, and its session ends. */
static void test_end_before_durable(uint8_t qos)
{
    struct kit kit;
    struct peer stays;
    struct peer goes;
    struct peer pub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.manual = true, .checkpoint_ms = 60000});
    join_group(&kit, &stays, "stays", qos);
    peer_close(&stays);
    join_group(&kit, &goes, "goes", qos); /* connected, so it is chosen */
    peer_join(&pub, &kit, "pub", 5);
    peer_publish(&pub, "q", "job", qos, 1);
    commit_until_packet(&kit, &pub);
    mr_assert(peer_expect_ack(&pub, qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC, 1) == 0);
    end_session(&goes);
    join(&kit, &stays, "stays");
    commit_until_packet(&kit, &stays);
    peer_expect_publish(&stays, "q", "job", qos, &got);
    peer_close(&stays);
    peer_close(&pub);
    kit_close(&kit);
}

/* A group whose only member is away is owed more than the memory holds. */
static void test_larger_than_memory(void)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(shared), .qos = 1};
    const struct peer_connect how = {
        .client_id = "away", .version = 5, .keep_session = true, .expiry_s = 3600};

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 60000,
                                         .memory_bytes = 4 << 20,
                                         .max_queued_messages = 5000});
    peer_open(&sub, &kit);
    peer_send_connect(&sub, &how);
    peer_expect_connack(&sub, &connack);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_close(&sub);
    peer_join(&pub, &kit, "pub", 5);
    peer_publish_burst(&pub, "q");
    peer_close(&pub);
    peer_open(&sub, &kit);
    peer_send_connect(&sub, &how);
    peer_expect_connack(&sub, &connack);
    peer_expect_burst(&sub, "q");
    peer_close(&sub);
    kit_close(&kit);
}

/* Of a window of two, the second was acknowledged and the third sent; then it stops. */
static void test_window_with_holes(void)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;
    struct mr_mqtt_publish got;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("q"), .qos = 1};
    const struct peer_connect how = {
        .client_id = "sub", .version = 5, .keep_session = true, .expiry_s = 3600, .receive_max = 2};
    static const char *const texts[] = {"0", "1", "2", "3"};

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 60000});
    peer_open(&sub, &kit);
    peer_send_connect(&sub, &how);
    peer_expect_connack(&sub, &connack);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_join(&pub, &kit, "pub", 5);
    for (uint16_t i = 0; i < 3; i++) {
        peer_publish(&pub, "q", texts[i], 1, (uint16_t)(i + 1));
        mr_assert(peer_expect_puback(&pub, (uint16_t)(i + 1)) == 0);
    }
    peer_expect_publish(&sub, "q", "0", 1, &got);
    peer_expect_publish(&sub, "q", "1", 1, &got);
    peer_ack(&sub, got.packet_id);
    peer_expect_publish(&sub, "q", "2", 1, &got);
    mr_assert(!got.dup);
    peer_publish(&pub, "q", texts[3], 1, 4); /* behind the settle record */
    mr_assert(peer_expect_puback(&pub, 4) == 0);
    kit_crash(&kit);
    peer_close(&sub);
    peer_close(&pub);
    peer_open(&sub, &kit);
    peer_send_connect(&sub, &how);
    peer_expect_connack(&sub, &connack);
    peer_expect_publish(&sub, "q", "0", 1, &got);
    mr_assert(got.dup);
    peer_ack(&sub, got.packet_id);
    peer_expect_publish(&sub, "q", "2", 1, &got);
    mr_assert(got.dup);
    peer_close(&sub);
    kit_close(&kit);
}

int main(void)
{
    test_end_before_durable(1);
    test_end_before_durable(2);
    test_larger_than_memory();
    test_window_with_holes();
    printf("ok\n");
    return 0;
}
