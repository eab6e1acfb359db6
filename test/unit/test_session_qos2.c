/* test_session_qos2.c
 * links: broker net store journal codec config os base
 *
 * Goal:   QoS 2 is exactly once in both directions through a crash at every point of the
 *         handshake (docs/SESSIONS.md), and no step leaves before it is durable.
 * Method: a real broker whose journal commits by hand; a crash is a copy of what the disk
 *         has by then, and a new broker on it.  Every point is tried with the record in
 *         question durable and not, and with a checkpoint before it and none.
 */
#include "broker_peer.h"
#include "journal/cursor.h"

static const struct peer_connect device = {
    .client_id = "press-7", .version = 5, .keep_session = true, .expiry_s = 3600};

/* Connect with a persistent session; commits until the CONNACK is there. */
static void join_as(struct peer *peer, struct kit *kit, const struct peer_connect *how,
                    bool present)
{
    struct mr_mqtt_connack connack;
    int64_t deadline = kit_deadline();

    peer_open(peer, kit);
    peer_send_connect(peer, how);
    while (peer->begin == peer->end) {
        peer_receive(peer, 1000000);
        (void)mr_lane_step_commit(kit->lane);
        kit_patience(deadline, "a CONNACK");
    }
    peer_expect_connack(peer, &connack);
    if (connack.reason != 0 || connack.session_present != present) {
        fprintf(stderr, "CONNACK 0x%02x, session present %d\n", connack.reason,
                connack.session_present);
        abort();
    }
}

/* Until something has arrived, with commits meanwhile. */
static void commit_until_answer(struct kit *kit, struct peer *peer)
{
    int64_t deadline = kit_deadline();

    while (peer->begin == peer->end && !peer->closed) {
        (void)mr_lane_step_commit(kit->lane);
        peer_receive(peer, 1000000);
        kit_patience(deadline, "an answer");
    }
}

static void count_event(const struct mr_event *event, void *arg)
{
    (void)event;
    *(uint64_t *)arg += 1;
}

/* Events of the journal. */
static uint64_t events(struct kit *kit)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    uint64_t count = 0;

    mr_assert(mr_reader_open(&reader, kit->journal, 0, 1, NULL, NULL) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            count_event(&event, &count);
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    return count;
}

static void publish_dup(struct peer *peer, uint16_t packet_id, const char *payload, bool dup)
{
    uint8_t bytes[256];
    struct mr_mqtt_publish packet = {.topic = mr_span_of("t"),
                                     .payload = mr_span_of(payload),
                                     .qos = 2,
                                     .dup = dup,
                                     .packet_id = packet_id};
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, peer->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

/* ---- from a client ---- */

/* Shows 5.0: 4.3.3-8, 4.3.3-11; 3.1.1: 4.3.3-2. */
static void test_nothing_leaves_before_it_is_durable(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.manual = true});
    join_as(&peer, &kit, &device, false);
    publish_dup(&peer, 5, "one", false);
    peer_quiet(&peer); /* the PINGRESP overtakes: PUBREC is held */
    commit_until_answer(&kit, &peer);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 5) == 0);
    publish_dup(&peer, 5, "one", true); /* a repetition: PUBREC, no second event */
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 5) == 0);
    peer_send_ack(&peer, MR_MQTT_PUBREL, 5);
    peer_quiet(&peer);
    commit_until_answer(&kit, &peer);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, 5) == 0);
    peer_send_ack(&peer, MR_MQTT_PUBREL, 5);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, 5) == MR_MQTT_PACKET_ID_NOT_FOUND);
    mr_assert(events(&kit) == 1);
    publish_dup(&peer, 5, "two", false); /* the id is free again */
    commit_until_answer(&kit, &peer);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 5) == 0);
    mr_assert(events(&kit) == 2);
    peer_close(&peer);
    kit_close(&kit);
}

/* Points at which the machine stops, from the client's PUBLISH to its PUBCOMP. */
enum in_point {
    IN_PUBLISH_NOT_DURABLE,
    IN_PUBLISH_DURABLE,
    IN_PUBREL_NOT_DURABLE,
    IN_PUBREL_DURABLE,
    IN_DONE,
    IN_POINTS
};

/* Commit all that the peer has sent: what it publishes last is acknowledged when that is
 * durable, and so is what came before.  Nothing else may arrive.
 */
static void commit_all(struct kit *kit, struct peer *peer)
{
    peer_publish(peer, "the/last", "", 1, 99);
    commit_until_answer(kit, peer);
    mr_assert(peer_expect_puback(peer, 99) == 0);
}

static void sessions_cursor(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    (void)lane;
    if (strcmp(name, "$sessions") == 0) {
        *(uint64_t *)arg = seq;
    }
}

/* Until the store has everything that is durable. */
static void checkpoint_wait(struct kit *kit, struct peer *peer)
{
    int64_t deadline = kit_deadline();
    uint64_t seq = 0;

    for (;;) {
        mr_cursor_list(kit->journal, sessions_cursor, &seq);
        if (seq >= mr_lane_durable(kit->lane)) {
            return;
        }
        peer_receive(peer, 5000000);
        (void)mr_lane_step_commit(kit->lane);
        kit_patience(deadline, "a checkpoint");
    }
}

static void from_client(enum in_point point, bool checkpoint)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.manual = true, .checkpoint_ms = checkpoint ? 1 : 0});
    join_as(&peer, &kit, &device, false);
    publish_dup(&peer, 5, "one", false);
    peer_quiet(&peer);
    if (point >= IN_PUBLISH_DURABLE) {
        commit_until_answer(&kit, &peer);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 5) == 0);
        if (checkpoint) {
            checkpoint_wait(&kit, &peer);
        }
    }
    if (point >= IN_PUBREL_NOT_DURABLE) {
        peer_send_ack(&peer, MR_MQTT_PUBREL, 5);
        peer_quiet(&peer);
    }
    if (point >= IN_PUBREL_DURABLE) {
        commit_until_answer(&kit, &peer);
    }
    if (point == IN_DONE) {
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, 5) == 0);
    }
    kit_crash(&kit);
    peer_close(&peer);

    join_as(&peer, &kit, &device, true);
    if (point <= IN_PUBLISH_DURABLE) { /* it has no PUBREC: it sends again */
        publish_dup(&peer, 5, "one", true);
        commit_until_answer(&kit, &peer);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 5) == 0);
    }
    if (point != IN_DONE) {
        peer_send_ack(&peer, MR_MQTT_PUBREL, 5);
        commit_until_answer(&kit, &peer);
        uint8_t reason = peer_expect_ack(&peer, MR_MQTT_PUBCOMP, 5);
        mr_assert(reason == (point == IN_PUBREL_DURABLE ? MR_MQTT_PACKET_ID_NOT_FOUND : 0));
    }
    mr_assert(events(&kit) == 1);
    publish_dup(&peer, 5, "two", false); /* a new one under the old id is not swallowed */
    commit_until_answer(&kit, &peer);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 5) == 0);
    mr_assert(events(&kit) == 2);
    peer_close(&peer);
    kit_close(&kit);
}

/* ---- to a subscriber ---- */

enum out_point {
    OUT_EVENT_NOT_DURABLE,
    OUT_PUBLISHED,
    OUT_PUBREC_NOT_DURABLE,
    OUT_PUBREC_DURABLE,
    OUT_PUBCOMP_NOT_DURABLE,
    OUT_PUBCOMP_DURABLE,
    OUT_POINTS
};

/* A subscriber as the specification has it: delivers at PUBLISH of an id that it does not
 * hold, holds the id until PUBREL (4.3.3, method A).
 */
struct receiver {
    bool holds;
    uint16_t id;
    int delivered;
};

static void take_publish(struct receiver *receiver, struct peer *peer, bool dup_expected)
{
    struct mr_mqtt_publish got;

    peer_expect_publish(peer, "t", "one", 2, &got);
    mr_assert(!receiver->holds || (got.packet_id == receiver->id && got.dup));
    mr_assert(got.dup == dup_expected);
    receiver->delivered += !receiver->holds;
    receiver->holds = true;
    receiver->id = got.packet_id;
    peer_send_ack(peer, MR_MQTT_PUBREC, receiver->id);
}

static void take_pubrel(struct receiver *receiver, struct peer *peer)
{
    mr_assert(peer_expect_ack(peer, MR_MQTT_PUBREL, receiver->id) == 0);
    receiver->holds = false;
    peer_send_ack(peer, MR_MQTT_PUBCOMP, receiver->id);
}

static const struct peer_connect subscriber = {
    .client_id = "scada", .version = 5, .keep_session = true, .expiry_s = 3600};

/* What is left of the handshake after the crash. */
static void go_on(struct kit *kit, enum out_point point, struct peer *sub,
                  struct receiver *receiver)
{
    struct peer pub;

    switch (point) {
    case OUT_EVENT_NOT_DURABLE: /* nobody has been told of it; the device sends again */
        peer_join(&pub, kit, "pub", 4);
        publish_dup(&pub, 1, "one", true);
        commit_until_answer(kit, sub);
        take_publish(receiver, sub, false);
        peer_close(&pub);
        break;
    case OUT_PUBLISHED:
    case OUT_PUBREC_NOT_DURABLE:
        commit_until_answer(kit, sub);
        take_publish(receiver, sub, true);
        break;
    default:
        break;
    }
    if (point <= OUT_PUBCOMP_NOT_DURABLE) {
        commit_until_answer(kit, sub);
        take_pubrel(receiver, sub);
    }
}

static void to_subscriber(enum out_point point, bool checkpoint)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct receiver receiver = {.holds = false};
    struct mr_mqtt_frame frame;
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 2};

    kit_open(&kit, &(struct kit_options){.manual = true, .checkpoint_ms = checkpoint ? 1 : 0});
    join_as(&sub, &kit, &subscriber, false);
    peer_send_subscribe(&sub, &filter, 0);
    peer_quiet(&sub); /* SUBACK of a persistent session waits for its record */
    commit_until_answer(&kit, &sub);
    mr_assert(peer_frame(&sub, &frame) && frame.type == MR_MQTT_SUBACK);
    peer_join(&pub, &kit, "pub", 4);
    publish_dup(&pub, 1, "one", false);
    peer_quiet(&pub);
    peer_quiet(&sub); /* nothing yet: it is not durable */
    if (point >= OUT_PUBLISHED) {
        commit_until_answer(&kit, &sub);
        if (checkpoint) {
            checkpoint_wait(&kit, &pub);
        }
        take_publish(&receiver, &sub, false);
    }
    if (point >= OUT_PUBREC_NOT_DURABLE) {
        peer_quiet(&sub); /* PUBREL is held */
    }
    if (point >= OUT_PUBREC_DURABLE) {
        commit_until_answer(&kit, &sub);
    }
    if (point >= OUT_PUBCOMP_NOT_DURABLE) {
        take_pubrel(&receiver, &sub);
        peer_quiet(&sub);
    }
    if (point >= OUT_PUBCOMP_DURABLE) {
        commit_all(&kit, &sub);
    }
    kit_crash(&kit);
    peer_close(&sub);
    peer_close(&pub);

    join_as(&sub, &kit, &subscriber, true);
    go_on(&kit, point, &sub, &receiver);
    commit_all(&kit, &sub);
    mr_assert(receiver.delivered == 1 && !receiver.holds);
    kit_crash(&kit); /* it is settled: nothing comes again */
    peer_close(&sub);
    join_as(&sub, &kit, &subscriber, true);
    peer_quiet(&sub);
    peer_close(&sub);
    kit_close(&kit);
}

/* A session that is not persistent has the handshake too, while it lasts. */
static void test_not_persistent(uint8_t version)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct receiver receiver = {.holds = false};
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 2};

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&sub, &kit, "sub", version);
    peer_join(&pub, &kit, "pub", version);
    mr_assert(peer_subscribe(&sub, &filter, 0) == 2);
    for (int i = 0; i < 100; i++) {
        publish_dup(&pub, 9, "one", false);
        mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 9) == 0);
        take_publish(&receiver, &sub, false);
        take_pubrel(&receiver, &sub);
        peer_send_ack(&pub, MR_MQTT_PUBREL, 9);
        mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBCOMP, 9) == 0);
    }
    mr_assert(receiver.delivered == 100);
    peer_send_ack(&sub, MR_MQTT_PUBREC, 77);
    uint8_t reason = peer_expect_ack(&sub, MR_MQTT_PUBREL, 77);
    mr_assert(reason == (version == 5 ? MR_MQTT_PACKET_ID_NOT_FOUND : 0));
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

static void test_receive_maximum_counts_qos_2(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.receive_maximum = 3});
    peer_join(&peer, &kit, "keen", 5);
    for (uint16_t round = 0; round < 50; round++) {
        for (uint16_t id = 1; id <= 3; id++) {
            publish_dup(&peer, id, "x", false);
            mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, id) == 0);
        }
        publish_dup(&peer, 2, "x", true); /* a repetition is not one more */
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 2) == 0);
        for (uint16_t id = 1; id <= 3; id++) {
            peer_send_ack(&peer, MR_MQTT_PUBREL, id);
            mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, id) == 0);
        }
    }
    for (uint16_t id = 1; id <= 3; id++) {
        publish_dup(&peer, id, "x", false);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, id) == 0);
    }
    peer_publish(&peer, "t", "y", 1, 4);
    peer_expect_disconnect(&peer, MR_MQTT_RECEIVE_MAX_EXCEEDED);
    peer_close(&peer);
    kit_close(&kit);
}

/* ---- Receive Maximum and what earlier connections of the session have left ---- */

/* A kept session, over whose last connection the ids 1 to 3 were published and not released. */
static void open_left_three(struct kit *kit, struct peer *peer)
{
    kit_open(kit, &(struct kit_options){.receive_maximum = 3});
    peer_join_kept(peer, kit, false);
    for (uint16_t id = 1; id <= 3; id++) {
        publish_dup(peer, id, "x", false);
        mr_assert(peer_expect_ack(peer, MR_MQTT_PUBREC, id) == 0);
    }
    peer_close(peer);
    peer_join_kept(peer, kit, true);
}

/* Three may be open; the fourth is one too many. */
static void expect_three_more(struct peer *peer)
{
    for (uint16_t id = 11; id <= 13; id++) {
        publish_dup(peer, id, "new", false);
        mr_assert(peer_expect_ack(peer, MR_MQTT_PUBREC, id) == 0);
    }
    peer_publish(peer, "t", "y", 1, 14);
    peer_expect_disconnect(peer, MR_MQTT_RECEIVE_MAX_EXCEEDED);
}

/* Shows 5.0: 4.9.0-1. */
static void test_receive_maximum_begins_anew(void)
{
    struct kit kit;
    struct peer peer;

    open_left_three(&kit, &peer);
    peer_publish(&peer, "t", "y", 1, 4);
    mr_assert(peer_expect_puback(&peer, 4) == 0);
    expect_three_more(&peer);
    peer_close(&peer);
    peer_join_kept(&peer, &kit, true); /* six are left now */
    expect_three_more(&peer);
    peer_close(&peer);
    kit_close(&kit);
}

static void test_what_comes_again_counts(void)
{
    struct kit kit;
    struct peer peer;

    open_left_three(&kit, &peer);
    for (int round = 0; round < 2; round++) { /* once, however often it comes */
        for (uint16_t id = 1; id <= 3; id++) {
            publish_dup(&peer, id, "x", true);
            mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, id) == 0);
        }
    }
    for (uint16_t id = 1; id <= 3; id++) {
        peer_send_ack(&peer, MR_MQTT_PUBREL, id);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, id) == 0);
    }
    expect_three_more(&peer);
    peer_close(&peer);
    peer_join_kept(&peer, &kit, true);
    publish_dup(&peer, 12, "new", true);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 12) == 0);
    for (uint16_t id = 1; id <= 2; id++) {
        publish_dup(&peer, id, "x", false);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, id) == 0);
    }
    publish_dup(&peer, 13, "new", true); /* one too many, although it is known */
    peer_expect_disconnect(&peer, MR_MQTT_RECEIVE_MAX_EXCEEDED);
    peer_close(&peer);
    kit_close(&kit);
}

/* Neither do those of ids that nobody knows. */
static void test_pubcomps_of_earlier_ones_raise_nothing(void)
{
    struct kit kit;
    struct peer peer;

    open_left_three(&kit, &peer);
    for (uint16_t id = 1; id <= 6; id++) {
        peer_send_ack(&peer, MR_MQTT_PUBREL, id);
        uint8_t reason = peer_expect_ack(&peer, MR_MQTT_PUBCOMP, id);
        mr_assert(reason == (id <= 3 ? 0 : MR_MQTT_PACKET_ID_NOT_FOUND));
    }
    expect_three_more(&peer);
    peer_close(&peer);
    kit_close(&kit);
}

/* 4.9 has the client count each PUBCOMP as one that it may send more. */
static void test_pubcomps_of_earlier_ones_count(void)
{
    struct kit kit;
    struct peer peer;

    open_left_three(&kit, &peer);
    publish_dup(&peer, 11, "new", false);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 11) == 0);
    peer_send_ack(&peer, MR_MQTT_PUBREL, 1);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, 1) == 0);
    peer_send_ack(&peer, MR_MQTT_PUBREL, 9); /* its PUBCOMP may have been lost */
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, 9) == MR_MQTT_PACKET_ID_NOT_FOUND);
    for (uint16_t id = 21; id <= 23; id++) {
        publish_dup(&peer, id, "new", false);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, id) == 0);
    }
    publish_dup(&peer, 24, "new", false);
    peer_expect_disconnect(&peer, MR_MQTT_RECEIVE_MAX_EXCEEDED);
    peer_close(&peer);
    kit_close(&kit);
}

/* A PUBREC ends nothing, and when it has left it is no reason to allow one more. */
static void test_a_pubrec_hides_nothing(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.manual = true, .receive_maximum = 3});
    peer_join(&peer, &kit, "keen", 5);
    publish_dup(&peer, 1, "x", false);
    commit_until_answer(&kit, &peer);
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 1) == 0);
    peer_publish(&peer, "t", "y", 1, 2); /* held, as the next one */
    peer_publish(&peer, "t", "y", 1, 3);
    peer_publish(&peer, "t", "y", 1, 4);
    peer_expect_disconnect(&peer, MR_MQTT_RECEIVE_MAX_EXCEEDED);
    peer_close(&peer);
    kit_close(&kit);
}

/* One that was refused is over, with either QoS. */
static void test_refused_ones_do_not_stay(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.receive_maximum = 3});
    peer_join(&peer, &kit, "keen", 5);
    for (uint16_t id = 1; id <= 8; id++) {
        uint8_t qos = id % 2 == 0 ? 2 : 1;
        peer_publish(&peer, "$SYS/no", "x", qos, id);
        mr_assert(peer_expect_ack(&peer, qos == 2 ? MR_MQTT_PUBREC : MR_MQTT_PUBACK, id) ==
                  MR_MQTT_NOT_AUTHORIZED);
    }
    expect_three_more(&peer);
    peer_close(&peer);
    kit_close(&kit);
}

/* Between the ids that it uses, and of a version that cannot be told. */
static void test_pubrel_of_another_id(uint8_t version)
{
    struct kit kit;
    struct peer peer;
    uint8_t reason = version == 5 ? MR_MQTT_PACKET_ID_NOT_FOUND : MR_MQTT_SUCCESS;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&peer, &kit, "keen", version);
    for (uint16_t id = 5; id <= 9; id += 2) {
        peer_publish(&peer, "t", "x", 2, id);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, id) == 0);
    }
    for (uint16_t id = 4; id <= 10; id += 2) {
        peer_send_ack(&peer, MR_MQTT_PUBREL, id);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, id) == reason);
    }
    peer_publish(&peer, "t", "x", 2, 6); /* a new one, between them too */
    mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBREC, 6) == 0);
    for (uint16_t id = 5; id <= 9; id += 2) {
        peer_send_ack(&peer, MR_MQTT_PUBREL, id);
        mr_assert(peer_expect_ack(&peer, MR_MQTT_PUBCOMP, id) == 0);
    }
    mr_assert(mr_lane_durable(kit.lane) == 4); /* events, and nothing else of such a session */
    peer_close(&peer);
    kit_close(&kit);
}

/* It comes again with a smaller window, and refuses what it got before and has not been sent again:
 * it is told to forget the id, and the message never comes again.
 */
static void test_refused_before_it_comes_again(void)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("t"), .qos = 2};
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got[2];
    struct kit kit;
    struct peer sub;
    struct peer pub;
    uint8_t bytes[16];

    kit_open(&kit, &(struct kit_options){0});
    peer_join_kept(&sub, &kit, false);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 2);
    peer_join(&pub, &kit, "pub", 5);
    for (uint16_t id = 1; id <= 2; id++) {
        peer_publish(&pub, "t", id == 1 ? "one" : "two", 2, id);
        mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, id) == 0);
    }
    peer_expect_publish(&sub, "t", "one", 2, &got[0]);
    peer_expect_publish(&sub, "t", "two", 2, &got[1]);
    peer_close(&sub);
    peer_open(&sub, &kit);
    peer_send_connect(&sub, &(struct peer_connect){.client_id = "scada",
                                                   .version = 5,
                                                   .keep_session = true,
                                                   .expiry_s = 3600,
                                                   .receive_max = 1});
    peer_expect_connack(&sub, &connack);
    mr_assert(connack.session_present);
    peer_expect_publish(&sub, "t", "one", 2, &got[0]);
    const struct mr_mqtt_ack no = {
        .type = MR_MQTT_PUBREC, .packet_id = got[1].packet_id, .reason = MR_MQTT_UNSPECIFIED};
    ptrdiff_t len = mr_mqtt_ack_encode(&no, 5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(&sub, bytes, (size_t)len);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, got[1].packet_id) == 0);
    peer_send_ack(&sub, MR_MQTT_PUBREC, got[0].packet_id);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, got[0].packet_id) == 0);
    peer_send_ack(&sub, MR_MQTT_PUBCOMP, got[0].packet_id);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, got[1].packet_id) == 0); /* its turn */
    peer_send_ack(&sub, MR_MQTT_PUBCOMP, got[1].packet_id);
    peer_quiet(&sub);
    peer_close(&sub);
    peer_join_kept(&sub, &kit, true);
    peer_quiet(&sub);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- what a SUBSCRIBE brings ---- */

static void publish_plain(struct peer *peer, const char *topic, const char *payload, bool retain)
{
    uint8_t bytes[256];
    struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                     .payload = mr_span_of(payload),
                                     .qos = 1,
                                     .packet_id = 9,
                                     .retain = retain};
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, peer->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

/* A retained message takes an ordinal, hence a packet id, by the record of the SUBSCRIBE:
 * before that is durable it may not leave, or the id would be given again after a crash.
 * What came in front of it, and was not durable when it was looked at, leaves too (`behind`).
 */
static void test_retained_waits_for_its_subscribe(bool behind)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;
    struct mr_mqtt_publish got;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_subscription live = {.filter = mr_span_of("q"), .qos = 1};
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("r"), .qos = 2};

    kit_open(&kit, &(struct kit_options){.manual = true});
    peer_join(&pub, &kit, "pub", 5);
    publish_plain(&pub, "r", "retained", true);
    commit_until_answer(&kit, &pub);
    mr_assert(peer_expect_puback(&pub, 9) == 0);
    join_as(&sub, &kit, &device, false);
    peer_send_subscribe(&sub, &live, 0);
    commit_until_answer(&kit, &sub);
    mr_assert(peer_frame(&sub, &frame) && frame.type == MR_MQTT_SUBACK);
    publish_plain(&pub, "other", "x", false);
    peer_quiet(&pub); /* handed over: the next ones are in a later commit */
    if (behind) {
        publish_plain(&pub, "q", "live", false);
        peer_quiet(&pub);
    }
    peer_send_subscribe(&sub, &wanted, 0);
    peer_quiet(&sub);
    uint64_t other_seq = mr_lane_durable(kit.lane) + 1;
    kit_commit(&kit, other_seq);
    mr_assert(mr_lane_durable(kit.lane) == other_seq);
    mr_assert(peer_expect_puback(&pub, 9) == 0);
    peer_quiet(&sub); /* neither of them */
    kit_commit(&kit, other_seq + (behind ? 2 : 1));
    mr_assert(peer_frame(&sub, &frame) && frame.type == MR_MQTT_SUBACK);
    if (behind) {
        peer_expect_publish(&sub, "q", "live", 1, &got);
    }
    peer_expect_publish(&sub, "r", "retained", 1, &got);
    peer_close(&pub);
    peer_close(&sub);
    kit_close(&kit);
}

int main(void)
{
    test_retained_waits_for_its_subscribe(false);
    test_retained_waits_for_its_subscribe(true);
    test_nothing_leaves_before_it_is_durable();
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        for (int point = 0; point < IN_POINTS; point++) {
            from_client((enum in_point)point, checkpoint != 0);
        }
        for (int point = 0; point < OUT_POINTS; point++) {
            to_subscriber((enum out_point)point, checkpoint != 0);
        }
    }
    test_not_persistent(4);
    test_not_persistent(5);
    test_receive_maximum_counts_qos_2();
    test_receive_maximum_begins_anew();
    test_what_comes_again_counts();
    test_pubcomps_of_earlier_ones_raise_nothing();
    test_pubcomps_of_earlier_ones_count();
    test_a_pubrec_hides_nothing();
    test_refused_ones_do_not_stay();
    test_pubrel_of_another_id(4);
    test_pubrel_of_another_id(5);
    test_refused_before_it_comes_again();
    printf("ok\n");
    return 0;
}
