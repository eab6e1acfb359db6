/* test_gates.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   acknowledgements wait for what their listener says: the disk, nothing, or a bridge's
 *         cursor; in the order of the publishes whichever gates they wait at; a client can come,
 *         and subscribe, while the bridge's target is away.
 * Method: a journal that commits by hand and a cursor that is set by hand; between the steps a
 *         PINGRESP proves that nothing else was sent.
 */
#include "broker_peer.h"
#include "journal/live.h"

static void send_subscribe(struct peer *peer)
{
    peer_send_subscribe(peer, &(struct mr_mqtt_subscription){.filter = mr_span_of("s"), .qos = 1},
                        0);
}

static void expect_suback(struct peer *peer)
{
    struct mr_mqtt_frame frame;

    mr_assert(peer_frame(peer, &frame) && frame.type == MR_MQTT_SUBACK);
}

static void settle(struct kit *kit, uint64_t seq)
{
    mr_cursor_set(kit->cursor, seq);
}

static void test_disk(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.manual = true, .ack = "disk"});
    peer_join(&peer, &kit, "a", 4);
    peer_publish(&peer, "t", "1", 1, 5);
    peer_quiet(&peer);
    kit_commit(&kit, 1);
    mr_assert(peer_expect_puback(&peer, 5) == 0);
    peer_close(&peer);
    kit_close(&kit);
}

static void test_memory(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.manual = true, .ack = "memory"});
    peer_join(&peer, &kit, "a", 4);
    for (uint16_t i = 1; i <= 100; i++) {
        peer_publish(&peer, "t", "1", 1, i);
        mr_assert(peer_expect_puback(&peer, i) == 0);
    }
    mr_assert(mr_lane_durable(kit.lane) == 0);
    kit_commit(&kit, 100); /* it is in the journal all the same */
    peer_quiet(&peer);
    peer_close(&peer);
    kit_close(&kit);
}

static void quiet_end(struct kit *kit, struct peer *peer, uint64_t seq)
{
    peer_close(peer); /* its session's close record */
    kit_commit(kit, seq);
    kit_close(kit);
}

/* A session is the disk's, and what comes behind its SUBACK keeps its turn. */
static void test_memory_behind_a_session(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;

    kit_open(&kit, &(struct kit_options){.manual = true, .ack = "memory"});
    peer_open(&peer, &kit);
    peer_send_connect(
        &peer, &(struct peer_connect){.client_id = "keeps", .version = 4, .keep_session = true});
    kit_commit(&kit, 1);
    peer_expect_connack(&peer, &connack);
    peer_publish(&peer, "t", "1", 1, 1);
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    send_subscribe(&peer);
    peer_publish(&peer, "t", "2", 1, 2);
    peer_quiet(&peer);
    kit_commit(&kit, 4);
    expect_suback(&peer);
    mr_assert(peer_expect_puback(&peer, 2) == 0);
    peer_publish(&peer, "t", "3", 1, 3);
    mr_assert(peer_expect_puback(&peer, 3) == 0);
    quiet_end(&kit, &peer, 6);
}

static void test_bridge(void)
{
    struct kit kit;
    struct peer peer;
    struct peer other;

    kit_open(&kit, &(struct kit_options){
                       .manual = true, .ack = "kafka", .bridge = "kafka", .from = "plant/#"});
    peer_join(&peer, &kit, "a", 4);
    peer_publish(&peer, "plant/1", "1", 1, 1);
    peer_quiet(&peer); /* two reads: acks of one read leave together */
    peer_publish(&peer, "plant/1", "2", 1, 2);
    kit_commit(&kit, 2);
    peer_quiet(&peer); /* durable is not enough */
    settle(&kit, 1);
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    peer_quiet(&peer);

    /* What the bridge does not carry waits for the disk; of the same client, for its turn too. */
    peer_join(&other, &kit, "b", 4);
    peer_publish(&other, "else", "1", 1, 9);
    peer_publish(&peer, "else", "1", 1, 3);
    kit_commit(&kit, 4);
    mr_assert(peer_expect_puback(&other, 9) == 0);
    peer_quiet(&peer);
    settle(&kit, 4);
    mr_assert(peer_expect_puback(&peer, 2) == 0);
    mr_assert(peer_expect_puback(&peer, 3) == 0);
    peer_quiet(&peer);
    peer_close(&other);
    peer_close(&peer);
    kit_close(&kit);
}

/* Fresh events overtake a backlog: their acks go by the stream that carries them, and wait for
 * those of the backlog that stand before them.
 */
static void test_bridge_with_two_positions(void)
{
    static const uint64_t add[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = 1};
    struct mr_cursor *live = NULL;
    struct mr_error why;
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){
                       .manual = true, .ack = "kafka", .bridge = "kafka", .from = "plant/#"});
    peer_join(&peer, &kit, "a", 4);
    peer_publish(&peer, "plant/1", "1", 1, 1);
    peer_quiet(&peer);
    peer_publish(&peer, "plant/1", "2", 1, 2);
    kit_commit(&kit, 2);
    mr_assert(mr_cursor_live_begin(kit.cursor, 2, &live, &why) == MR_OK);
    peer_publish(&peer, "plant/1", "3", 1, 3);
    kit_commit(&kit, 3);
    mr_assert(mr_cursor_settle(live, 3, add));
    peer_quiet(&peer); /* 1 and 2 are of the backlog */
    mr_assert(mr_cursor_settle(kit.cursor, 1, add));
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    peer_quiet(&peer);
    mr_assert(mr_cursor_settle(kit.cursor, 2, add));
    mr_assert(peer_expect_puback(&peer, 2) == 0);
    mr_assert(peer_expect_puback(&peer, 3) == 0);
    peer_publish(&peer, "plant/1", "4", 1, 4);
    kit_commit(&kit, 4);
    peer_quiet(&peer);
    mr_assert(mr_cursor_settle(live, 4, add)); /* nobody waits for the backlog */
    mr_assert(peer_expect_puback(&peer, 4) == 0);
    mr_assert(mr_cursor_live_end(kit.cursor, 4, mr_cursor_rule(kit.cursor)) == MR_OK);
    peer_close(&peer);
    kit_close(&kit);
}

/* The target says itself how far it is, after a commit of unknown outcome: nobody else settles it.
 */
static void test_bridge_is_where_its_target_says(bool two)
{
    struct mr_cursor *live = NULL;
    struct mr_error why;
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){
                       .manual = true, .ack = "kafka", .bridge = "kafka", .from = "plant/#"});
    peer_join(&peer, &kit, "a", 4);
    if (two) {
        mr_assert(mr_cursor_live_begin(kit.cursor, 0, &live, &why) == MR_OK);
    }
    peer_publish(&peer, "plant/1", "1", 1, 1);
    kit_commit(&kit, 1);
    peer_quiet(&peer);
    mr_assert(mr_cursor_put(two ? live : kit.cursor, 1, MR_CURSOR_FOLLOWS) == MR_OK);
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    peer_close(&peer);
    kit_close(&kit);
}

/* Nothing is settled, and nothing of that is in the way of who comes. */
static void test_sessions_do_not_wait_for_the_bridge(void)
{
    struct kit kit;
    struct peer peer;
    struct peer late;
    struct mr_mqtt_connack connack;

    kit_open(&kit, &(struct kit_options){.manual = true, .ack = "kafka", .bridge = "kafka"});
    peer_join(&peer, &kit, "a", 4);
    peer_publish(&peer, "plant/1", "1", 1, 1);
    kit_commit(&kit, 1);
    peer_quiet(&peer);
    peer_open(&late, &kit);
    peer_send_connect(
        &late, &(struct peer_connect){.client_id = "keeps", .version = 4, .keep_session = true});
    kit_commit(&kit, 2);
    peer_expect_connack(&late, &connack);
    send_subscribe(&late);
    kit_commit(&kit, 3);
    expect_suback(&late);
    settle(&kit, 3);
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    peer_close(&peer);
    quiet_end(&kit, &late, 4);
}

/* An answer for a session takes nothing with it that stands in front of it and waits for the
 * bridge.
 */
static void test_an_answer_keeps_its_turn(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;

    kit_open(&kit, &(struct kit_options){.manual = true, .ack = "kafka", .bridge = "kafka"});
    peer_open(&peer, &kit);
    peer_send_connect(
        &peer, &(struct peer_connect){.client_id = "keeps", .version = 4, .keep_session = true});
    kit_commit(&kit, 1);
    peer_expect_connack(&peer, &connack);
    peer_publish(&peer, "plant/1", "1", 1, 1);
    kit_commit(&kit, 2);
    send_subscribe(&peer);
    kit_commit(&kit, 3);
    peer_quiet(&peer);
    settle(&kit, 3);
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    expect_suback(&peer);
    quiet_end(&kit, &peer, 4);
}

/* PUBREC waits for the bridge, PUBCOMP for the disk; a cursor put back takes nothing back. */
static void test_qos2(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.manual = true, .ack = "kafka", .bridge = "kafka"});
    peer_join(&peer, &kit, "a", 4);
    peer_publish(&peer, "plant/1", "1", 2, 1);
    kit_commit(&kit, 1);
    peer_quiet(&peer);
    settle(&kit, 1);
    peer_expect_ack(&peer, MR_MQTT_PUBREC, 1);
    mr_assert(mr_cursor_seek(kit.cursor, 0) == MR_OK);
    peer_send_ack(&peer, MR_MQTT_PUBREL, 1);
    peer_expect_ack(&peer, MR_MQTT_PUBCOMP, 1);
    peer_publish(&peer, "plant/1", "2", 1, 2);
    kit_commit(&kit, 2);
    settle(&kit, 1);
    peer_quiet(&peer);
    settle(&kit, 2);
    mr_assert(peer_expect_puback(&peer, 2) == 0);
    peer_close(&peer);
    kit_close(&kit);
}

/* Nothing may arrive, nor was on its way behind that. */
static void quiet_for_long(struct peer *peer)
{
    peer_quiet(peer);
    peer_quiet(peer);
}

/* Commit what there is, and take what has come for `peer`. */
static void step(struct kit *kit, struct peer *peer, int64_t deadline)
{
    (void)mr_lane_step_commit(kit->lane);
    mr_journal_step_keeper(kit->journal);
    peer_receive(peer, 200000);
    kit_patience(deadline, "an acknowledgement");
}

/* A persistent session, which makes a record when it comes. */
static bool come_back(struct peer *peer, struct kit *kit)
{
    int64_t deadline = kit_deadline();
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(
        peer, &(struct peer_connect){.client_id = "keeps", .version = 4, .keep_session = true});
    while (peer->begin == peer->end) {
        step(kit, peer, deadline);
    }
    peer_expect_connack(peer, &connack);
    return connack.session_present;
}

/* Who comes back and sends it once more waits for what the first one waits for; after a crash,
 * too.
 */
static void test_qos2_again(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){
                       .manual = true, .ack = "kafka", .bridge = "kafka", .from = "plant/#"});
    mr_assert(!come_back(&peer, &kit));
    peer_publish(&peer, "plant/1", "1", 2, 1);
    kit_commit(&kit, 2);
    quiet_for_long(&peer);
    peer_close(&peer);
    kit_commit(&kit, 3);
    mr_assert(come_back(&peer, &kit));
    peer_publish(&peer, "plant/1", "1", 2, 1);
    quiet_for_long(&peer);
    kit_crash(&kit);
    peer_close(&peer);
    mr_assert(come_back(&peer, &kit));
    peer_publish(&peer, "plant/1", "1", 2, 1);
    quiet_for_long(&peer);
    settle(&kit, mr_lane_durable(kit.lane));
    peer_expect_ack(&peer, MR_MQTT_PUBREC, 1);

    /* Nothing that the bridge does not carry is in its way. */
    uint64_t seq = mr_lane_durable(kit.lane) + 1;
    peer_publish(&peer, "plant/1", "2", 2, 2);
    kit_commit(&kit, seq);
    peer_close(&peer);
    mr_assert(come_back(&peer, &kit));
    peer_publish(&peer, "plant/1", "2", 2, 2);
    quiet_for_long(&peer);
    settle(&kit, seq);
    peer_expect_ack(&peer, MR_MQTT_PUBREC, 2);
    settle(&kit, mr_lane_durable(kit.lane));
    quiet_end(&kit, &peer, mr_lane_durable(kit.lane) + 1);
}

/* It may have been settled long ago: it takes nothing with it that stands in front of it and waits
 * for the disk.  What `other` is answered says that the gateway has looked at all of it.
 */
static void test_qos2_again_behind_an_answer(void)
{
    struct kit kit;
    struct peer peer;
    struct peer other;

    kit_open(&kit, &(struct kit_options){
                       .manual = true, .ack = "kafka", .bridge = "kafka", .from = "plant/#"});
    mr_assert(!come_back(&peer, &kit));
    peer_join(&other, &kit, "b", 4);
    peer_publish(&peer, "plant/1", "1", 2, 1);
    peer_publish(&peer, "plant/1", "2", 2, 2);
    kit_commit(&kit, 3);
    settle(&kit, 3);
    peer_expect_ack(&peer, MR_MQTT_PUBREC, 1);
    peer_expect_ack(&peer, MR_MQTT_PUBREC, 2);
    peer_send_ack(&peer, MR_MQTT_PUBREL, 1);
    peer_publish(&peer, "plant/1", "2", 2, 2);
    quiet_for_long(&other);
    peer_receive(&peer, 0);
    mr_assert(peer.begin == peer.end);
    kit_commit(&kit, 4);
    peer_expect_ack(&peer, MR_MQTT_PUBCOMP, 1);
    peer_expect_ack(&peer, MR_MQTT_PUBREC, 2);
    peer_close(&other);
    quiet_end(&kit, &peer, 5);
}

/* `cursor` settles all up to `seq`, delivered. */
static void settle_books(struct mr_cursor *cursor, uint64_t seq)
{
    uint64_t add[MR_COLUMNS] = {[MR_COLUMN_DELIVERED] = seq - mr_cursor_get(cursor)};

    mr_assert(mr_cursor_settle(cursor, seq, add));
}

/* Acks of one read leave together: so they wait for the first of them too, if that is the last
 * of the backlog.
 */
static void test_one_read_at_the_end_of_a_backlog(void)
{
    struct mr_cursor *live = NULL;
    struct mr_error why;
    struct kit kit;
    struct peer peer;
    uint8_t bytes[128];

    kit_open(&kit, &(struct kit_options){
                       .manual = true, .ack = "kafka", .bridge = "kafka", .from = "plant/#"});
    peer_join(&peer, &kit, "a", 4);
    size_t len = put_publish(bytes, sizeof(bytes), 4, "plant/1", "1", 1, 1);
    len += put_publish(bytes + len, sizeof(bytes) - len, 4, "plant/1", "2", 1, 2);
    peer_write(&peer, bytes, len);
    kit_commit(&kit, 2);
    mr_assert(mr_cursor_live_begin(kit.cursor, 1, &live, &why) == MR_OK);
    settle_books(live, 2);
    quiet_for_long(&peer);
    settle_books(kit.cursor, 1);
    mr_assert(mr_cursor_live_end(kit.cursor, 2, mr_cursor_rule(kit.cursor)) == MR_OK);
    mr_cursor_ring(kit.cursor);
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    mr_assert(peer_expect_puback(&peer, 2) == 0);
    peer_close(&peer);
    kit_close(&kit);
}

/* Behind a crash nobody knows what a PUBLISH that comes again waits for: it may be of the backlog,
 * however far fresh events are.
 */
static void test_qos2_again_of_a_backlog(void)
{
    struct mr_cursor *live = NULL;
    struct mr_error why;
    struct kit kit;
    struct peer peer;
    struct peer other;

    kit_open(&kit, &(struct kit_options){
                       .manual = true, .ack = "kafka", .bridge = "kafka", .from = "plant/#"});
    mr_assert(!come_back(&peer, &kit));
    peer_publish(&peer, "plant/1", "1", 2, 1);
    kit_commit(&kit, 2);
    kit_crash(&kit);
    peer_close(&peer);
    mr_assert(come_back(&peer, &kit));
    uint64_t from = mr_lane_durable(kit.lane);
    mr_assert(mr_cursor_live_begin(kit.cursor, from, &live, &why) == MR_OK);
    peer_join(&other, &kit, "b", 4);
    peer_publish(&other, "plant/1", "2", 1, 9);
    kit_commit(&kit, from + 1);
    settle_books(live, from + 1);
    mr_assert(peer_expect_puback(&other, 9) == 0);

    peer_publish(&peer, "plant/1", "1", 2, 1);
    quiet_for_long(&peer);
    peer_publish(&other, "plant/1", "3", 1, 10);
    kit_commit(&kit, from + 2);
    settle_books(live, from + 2);
    quiet_for_long(&peer);
    settle_books(kit.cursor, from);
    mr_assert(mr_cursor_live_end(kit.cursor, from + 2, mr_cursor_rule(kit.cursor)) == MR_OK);
    mr_cursor_ring(kit.cursor);
    peer_expect_ack(&peer, MR_MQTT_PUBREC, 1);
    mr_assert(peer_expect_puback(&other, 10) == 0);
    peer_close(&other);
    quiet_end(&kit, &peer, from + 3);
}

/* However much a bridge that stands still holds up: what waits for the disk alone goes on. */
static void test_bridge_holds_up_nobody_else(void)
{
    enum { BEYOND = 1100 }; /* a gate's entries, and more */
    struct kit kit;
    struct peer peer;
    struct peer other;
    int64_t deadline = kit_deadline();

    kit_open(&kit, &(struct kit_options){.manual = true,
                                         .ack = "kafka",
                                         .bridge = "kafka",
                                         .from = "plant/#",
                                         .memory_bytes = 4 << 20});
    peer_join(&peer, &kit, "a", 4);
    peer_join(&other, &kit, "b", 4);
    for (uint16_t id = 1; id <= BEYOND; id++) {
        peer_publish(&peer, "plant/1", "1", 1, id);
        peer_publish(&other, "else", "1", 1, id);
        while (other.begin == other.end) {
            step(&kit, &other, deadline);
        }
        mr_assert(peer_expect_puback(&other, id) == 0);
    }
    for (uint16_t id = 1; id <= BEYOND; id++) {
        while (peer.begin == peer.end) {
            settle(&kit, mr_lane_durable(kit.lane));
            step(&kit, &peer, deadline);
        }
        mr_assert(peer_expect_puback(&peer, id) == 0);
    }
    peer_close(&other);
    peer_close(&peer);
    kit_close(&kit);
}

int main(void)
{
    test_disk();
    test_memory();
    test_memory_behind_a_session();
    test_bridge();
    test_bridge_with_two_positions();
    test_bridge_is_where_its_target_says(false);
    test_bridge_is_where_its_target_says(true);
    test_sessions_do_not_wait_for_the_bridge();
    test_an_answer_keeps_its_turn();
    test_qos2();
    test_qos2_again();
    test_qos2_again_behind_an_answer();
    test_one_read_at_the_end_of_a_backlog();
    test_qos2_again_of_a_backlog();
    test_bridge_holds_up_nobody_else();
    (void)puts("gates: ok");
    return 0;
}
