/* test_session.c
 * links: broker net store journal codec config os base
 *
 * Goal:   persistent sessions as sections 3.1, 3.2, 3.3, 3.8, 3.14 and 4.1 of the
 *         specification have them: present or not, expiry, queues and their quotas,
 *         repetition with the same packet id, message expiry, retained messages, wills.
 * Method: a real broker and journal, peers that speak through the codec, crashes by a copy
 *         of the disk (broker_kit.h).
 */
#include "broker_peer.h"
#include "journal/cursor.h"
#include "peer_burst.h"

static void join_as(struct peer *peer, struct kit *kit, const struct peer_connect *how,
                    bool present)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(peer, how);
    peer_expect_connack(peer, &connack);
    if (connack.reason != 0 || connack.session_present != present) {
        fprintf(stderr, "CONNACK 0x%02x, session present %d\n", connack.reason,
                connack.session_present);
        abort();
    }
}

static void leave(struct peer *peer, uint32_t expiry_s)
{
    uint8_t bytes[32];
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_DISCONNECT};

    if (expiry_s != 0) {
        packet.props.session_expiry_s = expiry_s - 1;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    ptrdiff_t len = mr_mqtt_disconnect_encode(&packet, peer->version, bytes, sizeof(bytes));
    peer_write(peer, bytes, (size_t)len);
    peer_expect_closed(peer);
    peer_close(peer);
}

static void publish(struct peer *peer, const struct mr_mqtt_publish *packet)
{
    uint8_t bytes[1024];
    ptrdiff_t len = mr_mqtt_publish_encode(packet, peer->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

/* QoS 1, and wait for the PUBACK. */
static void tell(struct peer *peer, const char *topic, const char *payload)
{
    peer_publish(peer, topic, payload, 1, 1);
    mr_assert(peer_expect_puback(peer, 1) == 0);
}

static void retain(struct peer *peer, const char *topic, const char *payload, uint8_t qos)
{
    publish(peer, &(struct mr_mqtt_publish){.topic = mr_span_of(topic),
                                            .payload = mr_span_of(payload),
                                            .qos = qos,
                                            .packet_id = qos == 0 ? 0 : 1,
                                            .retain = true});
    if (qos == 1) {
        mr_assert(peer_expect_puback(peer, 1) == 0);
    } else {
        peer_quiet(peer);
    }
}

static uint8_t subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = qos};

    return peer_subscribe(peer, &wanted, 0);
}

static const struct peer_connect scada = {
    .client_id = "scada", .version = 5, .keep_session = true, .expiry_s = 3600};
static const struct peer_connect scada_311 = {
    .client_id = "scada", .version = 4, .keep_session = true};

static void test_session_present(void)
{
    struct peer_connect clean = scada;
    struct kit kit;
    struct peer peer;

    clean.keep_session = false;
    kit_open(&kit, &(struct kit_options){0});
    join_as(&peer, &kit, &scada, false);
    leave(&peer, 0);
    join_as(&peer, &kit, &scada, true);
    leave(&peer, 0);
    kit_crash(&kit);
    join_as(&peer, &kit, &scada, true);
    leave(&peer, 0);
    join_as(&peer, &kit, &clean, false); /* begins anew, and persists */
    leave(&peer, 0);
    join_as(&peer, &kit, &scada, true);
    leave(&peer, 1); /* DISCONNECT: expiry 0, it ends now */
    join_as(&peer, &kit, &scada, false);
    leave(&peer, 0);
    clean.expiry_s = 0;
    join_as(&peer, &kit, &clean, false); /* ends the old one, and is none itself */
    leave(&peer, 0);
    kit_crash(&kit);
    join_as(&peer, &kit, &scada_311, false);
    peer_close(&peer); /* vanishes */
    join_as(&peer, &kit, &scada_311, true);
    leave(&peer, 0);
    kit_close(&kit);
}

/* What a subscriber had not acknowledged comes again, same id, DUP; what it had not got
 * comes in its order.
 */
static void test_queue(const struct peer_connect *how, bool crash)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish got;
    uint16_t ids[3];

    kit_open(&kit, &(struct kit_options){0});
    join_as(&sub, &kit, how, false);
    mr_assert(subscribe(&sub, "q/#", 1) == 1);
    peer_join(&pub, &kit, "pub", 5);
    static const char *const first[] = {"1", "2", "3"};
    for (int i = 0; i < 3; i++) {
        tell(&pub, "q/a", first[i]);
        peer_expect_publish(&sub, "q/a", first[i], 1, &got);
        mr_assert(!got.dup);
        ids[i] = got.packet_id;
    }
    peer_ack(&sub, ids[1]);
    peer_quiet(&sub);
    peer_close(&sub); /* vanishes */
    tell(&pub, "q/b", "4");
    publish(&pub, &(struct mr_mqtt_publish){.topic = mr_span_of("q/b"),
                                            .payload = mr_span_of("not queued")});
    tell(&pub, "q/b", "5");
    peer_quiet(&pub); /* a turn later: the settle is in the journal */
    tell(&pub, "elsewhere", "x");
    peer_close(&pub);
    if (crash) {
        kit_crash(&kit);
    }
    join_as(&sub, &kit, how, true);
    peer_expect_publish(&sub, "q/a", "1", 1, &got);
    mr_assert(got.dup && got.packet_id == ids[0]);
    peer_expect_publish(&sub, "q/a", "3", 1, &got);
    mr_assert(got.dup && got.packet_id == ids[2]);
    peer_expect_publish(&sub, "q/b", "4", 1, &got);
    mr_assert(!got.dup || crash);
    peer_expect_publish(&sub, "q/b", "5", 1, &got);
    peer_quiet(&sub);
    peer_ack(&sub, ids[0]);
    peer_ack(&sub, ids[2]);
    peer_ack(&sub, got.packet_id);
    leave(&sub, 0);
    join_as(&sub, &kit, how, true);
    peer_expect_publish(&sub, "q/b", "4", 1, &got);
    mr_assert(got.dup);
    peer_quiet(&sub);
    leave(&sub, 0);
    kit_close(&kit);
}

static void test_window_after_return(void)
{
    struct peer_connect narrow = scada;
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish got;
    char text[16];

    narrow.receive_max = 2;
    kit_open(&kit, &(struct kit_options){0});
    join_as(&sub, &kit, &scada, false);
    mr_assert(subscribe(&sub, "w", 1) == 1);
    leave(&sub, 0);
    peer_join(&pub, &kit, "pub", 4);
    for (int i = 0; i < 10; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        tell(&pub, "w", text);
    }
    join_as(&sub, &kit, &narrow, true);
    for (int i = 0; i < 10; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        peer_expect_publish(&sub, "w", text, 1, &got);
        if (i == 1) {
            peer_quiet(&sub); /* not a third */
        }
        if (i > 0) {
            peer_ack(&sub, got.packet_id - 1);
        }
    }
    peer_close(&pub);
    leave(&sub, 0);
    kit_close(&kit);
}

static void test_quota(void)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish got;
    struct mr_broker_stats stats;
    char text[16];

    kit_open(&kit, &(struct kit_options){.max_queued_messages = 5});
    join_as(&sub, &kit, &scada, false);
    mr_assert(subscribe(&sub, "f", 1) == 1);
    leave(&sub, 0);
    peer_join(&pub, &kit, "pub", 4);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        tell(&pub, "f", text);
    }
    peer_quiet(&pub);
    peer_quiet(&pub);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.queued == 5 && stats.messages_dropped == 15);
    tell(&pub, "x", "so that the settles are durable");
    kit_crash(&kit); /* what was dropped does not come back */
    peer_close(&pub);
    join_as(&sub, &kit, &scada, true);
    for (int i = 0; i < 5; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        peer_expect_publish(&sub, "f", text, 1, &got);
    }
    peer_quiet(&sub);
    leave(&sub, 0);
    kit_close(&kit);
}

static void test_max_sessions(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;
    struct peer_connect other = scada;

    other.client_id = "one too many";
    kit_open(&kit, &(struct kit_options){.max_sessions = 1, .max_session_expiry_us = 60000000});
    peer_open(&peer, &kit);
    peer_send_connect(&peer, &scada);
    peer_expect_connack(&peer, &connack);
    mr_assert(mr_mqtt_has(&connack.props, MR_MQTT_PROP_SESSION_EXPIRY));
    mr_assert(connack.props.session_expiry_s == 60); /* `max_session_expiry` */
    leave(&peer, 0);
    peer_open(&peer, &kit);
    peer_send_connect(&peer, &other);
    peer_expect_connack(&peer, &connack);
    mr_assert(connack.reason == MR_MQTT_QUOTA_EXCEEDED);
    peer_close(&peer);
    peer_join(&peer, &kit, "not persistent", 5);
    peer_close(&peer);
    join_as(&peer, &kit, &scada, true);
    leave(&peer, 0);
    kit_close(&kit);
}

/* Wait until the broker has `count` sessions. */
static void wait_sessions(struct kit *kit, uint64_t count)
{
    int64_t deadline = kit_deadline();
    struct mr_broker_stats stats;

    do {
        (void)usleep(10000); /* sleep: an expiry tells nobody */
        mr_broker_stats(kit->broker, &stats);
        kit_patience(deadline, "a session to expire");
    } while (stats.sessions != count);
}

static void test_expiry(void)
{
    struct peer_connect brief = scada;
    struct kit kit;
    struct peer peer;

    brief.expiry_s = 1;
    kit_open(&kit, &(struct kit_options){0});
    join_as(&peer, &kit, &brief, false);
    peer_quiet(&peer);
    wait_sessions(&kit, 1);
    leave(&peer, 0);
    wait_sessions(&kit, 0);
    join_as(&peer, &kit, &brief, false);
    mr_assert(subscribe(&peer, "a", 1) == 1);
    kit_crash(&kit); /* connected: its second begins now */
    peer_close(&peer);
    wait_sessions(&kit, 0);
    join_as(&peer, &kit, &brief, false);
    leave(&peer, 3600 + 1); /* DISCONNECT prolongs it */
    kit_crash(&kit);
    join_as(&peer, &kit, &brief, true);
    leave(&peer, 0);
    kit_close(&kit);
}

static void test_message_expiry(void)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish packet = {.topic = mr_span_of("e"), .qos = 1, .packet_id = 1};
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){0});
    join_as(&sub, &kit, &scada, false);
    mr_assert(subscribe(&sub, "e", 2) == 2);
    peer_join(&pub, &kit, "pub", 5);
    packet.payload = mr_span_of("begun");
    packet.props.message_expiry_s = 1;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_MESSAGE_EXPIRY);
    packet.qos = 2;
    publish(&pub, &packet);
    mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 1) == 0);
    peer_expect_publish(&sub, "e", "begun", 2, &got);
    uint16_t id = got.packet_id;
    leave(&sub, 0); /* no PUBREC */
    packet.qos = 1;
    packet.packet_id = 2;
    packet.payload = mr_span_of("short");
    publish(&pub, &packet);
    mr_assert(peer_expect_puback(&pub, 2) == 0);
    packet.payload = mr_span_of("long");
    packet.props.message_expiry_s = 100;
    publish(&pub, &packet);
    mr_assert(peer_expect_puback(&pub, 2) == 0);
    peer_close(&pub);
    (void)usleep(1200000); /* sleep: the life of a message must pass */
    join_as(&sub, &kit, &scada, true);
    peer_expect_publish(&sub, "e", "begun", 2, &got); /* [MQTT-4.3.3-7] */
    mr_assert(got.dup && got.packet_id == id && got.props.message_expiry_s == 0);
    peer_send_ack(&sub, MR_MQTT_PUBREC, id);
    peer_expect_publish(&sub, "e", "long", 1, &got);
    mr_assert(got.props.message_expiry_s < 100 && got.props.message_expiry_s > 80);
    peer_ack(&sub, got.packet_id);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, id) == 0);
    peer_send_ack(&sub, MR_MQTT_PUBCOMP, id);
    leave(&sub, 0);
    join_as(&sub, &kit, &scada, true);
    peer_quiet(&sub); /* all are settled */
    leave(&sub, 0);
    kit_close(&kit);
}

/* ---- retained messages ---- */

static void test_retained(bool crash)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&pub, &kit, "pub", 5);
    retain(&pub, "r/a", "old", 1);
    retain(&pub, "r/a", "new", 1);
    retain(&pub, "r/b/c", "two", 0);
    retain(&pub, "r/gone", "x", 1);
    retain(&pub, "r/gone", "", 1);
    retain(&pub, "$r/hidden", "x", 1);
    tell(&pub, "r/a", "not retained");
    if (crash) {
        kit_crash(&kit);
        peer_close(&pub);
        peer_join(&pub, &kit, "pub", 5);
    }
    peer_join(&sub, &kit, "sub", 4);
    mr_assert(subscribe(&sub, "r/a", 1) == 1);
    peer_expect_publish(&sub, "r/a", "new", 1, &got);
    mr_assert(got.retain);
    peer_ack(&sub, got.packet_id);
    mr_assert(subscribe(&sub, "r/#", 0) == 0);
    peer_expect_publish(&sub, "r/a", "new", 0, &got);
    peer_expect_publish(&sub, "r/b/c", "two", 0, &got);
    mr_assert(got.retain);
    mr_assert(subscribe(&sub, "r/+/c", 0) == 0);
    peer_expect_publish(&sub, "r/b/c", "two", 0, &got);
    mr_assert(subscribe(&sub, "#", 0) == 0);
    peer_expect_publish(&sub, "r/a", "new", 0, &got);
    peer_expect_publish(&sub, "r/b/c", "two", 0, &got);
    peer_quiet(&sub);
    peer_close(&sub);
    /* A live subscriber gets it without the flag, unless it asked for it. */
    peer_join(&sub, &kit, "sub", 5);
    struct mr_mqtt_subscription filter = {
        .filter = mr_span_of("r/a"), .qos = 0, .retain_handling = 2};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    peer_quiet(&sub);
    retain(&pub, "r/a", "newer", 0);
    peer_expect_publish(&sub, "r/a", "newer", 0, &got);
    mr_assert(!got.retain);
    filter.retain_as_published = true;
    filter.retain_handling = 1; /* not new: nothing */
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    peer_quiet(&sub);
    retain(&pub, "r/a", "newest", 0);
    peer_expect_publish(&sub, "r/a", "newest", 0, &got);
    mr_assert(got.retain);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

static void test_retained_limit_and_persistent_subscriber(void)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.max_retained_messages = 2});
    peer_join(&pub, &kit, "pub", 5);
    retain(&pub, "r/1", "a", 1);
    retain(&pub, "r/2", "b", 1);
    retain(&pub, "r/3", "c", 1); /* delivered, not retained */
    retain(&pub, "r/1", "d", 1); /* replaced */
    join_as(&sub, &kit, &scada, false);
    mr_assert(subscribe(&sub, "r/#", 1) == 1);
    peer_expect_publish(&sub, "r/2", "b", 1, &got);
    uint16_t id = got.packet_id;
    peer_expect_publish(&sub, "r/1", "d", 1, &got);
    retain(&pub, "r/2", "", 1); /* cleared, and owed all the same */
    peer_expect_publish(&sub, "r/2", "", 1, &got);
    peer_close(&pub);
    kit_crash(&kit);
    peer_close(&sub);
    join_as(&sub, &kit, &scada, true);
    peer_expect_publish(&sub, "r/2", "b", 1, &got);
    mr_assert(got.packet_id == id && got.dup && got.retain);
    peer_expect_publish(&sub, "r/1", "d", 1, &got);
    peer_expect_publish(&sub, "r/2", "", 1, &got);
    leave(&sub, 0);
    kit_close(&kit);
}

/* ---- wills ---- */

static void test_will_delay(void)
{
    struct peer_connect mortal = {.client_id = "mortal",
                                  .version = 5,
                                  .keep_session = true,
                                  .expiry_s = 3600,
                                  .will_topic = "will",
                                  .will_payload = "gone",
                                  .will_qos = 1,
                                  .will_delay_s = 1,
                                  .will_retain = true};
    struct kit kit;
    struct peer peer;
    struct peer watch;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&watch, &kit, "watch", 4);
    mr_assert(subscribe(&watch, "will", 1) == 1);
    join_as(&peer, &kit, &mortal, false);
    peer_close(&peer);
    join_as(&peer, &kit, &mortal, true); /* back in time: no will */
    int64_t began_ns = mr_clock_mono_ns();
    peer_close(&peer);
    peer_expect_publish(&watch, "will", "gone", 1, &got);
    mr_assert(mr_clock_mono_ns() - began_ns > 900000000);
    peer_ack(&watch, got.packet_id);
    peer_quiet(&watch); /* one only */
    peer_close(&watch);
    peer_join(&watch, &kit, "late", 4); /* it is retained */
    mr_assert(subscribe(&watch, "will", 1) == 1);
    peer_expect_publish(&watch, "will", "gone", 1, &got);
    peer_close(&watch);
    /* Through a crash while connected, and again: once. */
    join_as(&peer, &kit, &mortal, true);
    kit_crash(&kit);
    peer_close(&peer);
    peer_join(&watch, &kit, "watch", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("will"), .qos = 1};
    mr_assert(peer_subscribe(&watch, &filter, 0) == 1);
    peer_expect_publish(&watch, "will", "gone", 1, &got); /* the retained one */
    mr_assert(got.retain);
    peer_expect_publish(&watch, "will", "gone", 1, &got); /* and the crash's */
    mr_assert(!got.retain);
    tell(&watch, "x", "so that it is durable");
    kit_crash(&kit);
    peer_close(&watch);
    join_as(&watch, &kit, &scada, false);
    filter.filter = mr_span_of("#");
    filter.retain_handling = 2;
    mr_assert(peer_subscribe(&watch, &filter, 0) == 1);
    (void)usleep(1500000); /* sleep: a second will would come now */
    peer_quiet(&watch);
    leave(&watch, 0);
    kit_close(&kit);
}

/* A delayed will of a session that ends earlier comes with the end (3.1.3.2.2). */
static void test_will_comes_with_the_end(void)
{
    struct peer_connect mortal = {.client_id = "mortal",
                                  .version = 5,
                                  .keep_session = true,
                                  .expiry_s = 3600,
                                  .will_topic = "will",
                                  .will_payload = "gone",
                                  .will_qos = 2,
                                  .will_delay_s = 3000};
    struct kit kit;
    struct peer peer;
    struct peer watch;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&watch, &kit, "watch", 4);
    mr_assert(subscribe(&watch, "will", 1) == 1);
    join_as(&peer, &kit, &mortal, false);
    peer_close(&peer);
    mortal.keep_session = false;
    join_as(&peer, &kit, &mortal, false); /* clean start ends the old session */
    peer_expect_publish(&watch, "will", "gone", 1, &got);
    leave(&peer, 0); /* DISCONNECT 0x00: none */
    mortal.expiry_s = 1;
    join_as(&peer, &kit, &mortal, false);
    peer_close(&peer);
    peer_expect_publish(&watch, "will", "gone", 1, &got); /* after its second */
    peer_close(&watch);
    kit_close(&kit);
}

static void sessions_cursor(void *arg, const char *cursor, uint32_t lane, uint64_t seq)
{
    (void)lane;
    if (strcmp(cursor, "$sessions") == 0) {
        *(uint64_t *)arg = seq;
    }
}

/* A will that was published after its delay is published once, also if the start finds its
 * event behind the checkpoint and the session in the store.
 */
static void test_will_once_through_a_checkpoint(void)
{
    struct peer_connect mortal = {.client_id = "mortal",
                                  .version = 5,
                                  .keep_session = true,
                                  .expiry_s = 3600,
                                  .will_topic = "will",
                                  .will_payload = "gone",
                                  .will_qos = 1,
                                  .will_delay_s = 1};
    struct kit kit;
    struct peer peer;
    struct peer watch;
    struct mr_mqtt_publish got;
    uint64_t stored = 0;
    int64_t deadline = kit_deadline();

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 20});
    join_as(&watch, &kit, &scada, false);
    mr_assert(subscribe(&watch, "will", 1) == 1);
    join_as(&peer, &kit, &mortal, false);
    peer_close(&peer);
    peer_expect_publish(&watch, "will", "gone", 1, &got);
    peer_ack(&watch, got.packet_id);
    leave(&watch, 0);
    do {
        (void)usleep(1000); /* sleep: a checkpoint tells nobody */
        mr_cursor_list(kit.journal, sessions_cursor, &stored);
        kit_patience(deadline, "a checkpoint");
    } while (stored < mr_lane_durable(kit.lane));
    kit_crash(&kit);
    join_as(&watch, &kit, &scada, true);
    mortal.client_id = "another";
    mortal.will_payload = "later";
    join_as(&peer, &kit, &mortal, false);
    peer_close(&peer);
    peer_expect_publish(&watch, "will", "later", 1, &got);
    peer_ack(&watch, got.packet_id);
    leave(&watch, 0);
    kit_close(&kit);
}

/* The store gone, the journal has all; the journal's old segments gone, the store has. */
static void test_store_and_journal(void)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish got;
    struct mr_lane_stats stats;
    char payload[1001];
    int64_t deadline = kit_deadline();

    kit_open(&kit, &(struct kit_options){
                       .checkpoint_ms = 20, .segment_bytes = 256 << 10, .journal_bytes = 1 << 20});
    join_as(&sub, &kit, &scada, false);
    mr_assert(subscribe(&sub, "keep", 1) == 1);
    leave(&sub, 0);
    peer_join(&pub, &kit, "pub", 4);
    tell(&pub, "keep", "from long ago");
    memset(payload, 'x', sizeof(payload) - 1);
    payload[sizeof(payload) - 1] = '\0';
    do { /* until the segment of that message has been retired */
        tell(&pub, "flood", payload);
        mr_lane_stats(kit.lane, &stats);
        kit_patience(deadline, "a segment to retire");
    } while (stats.seq_oldest < 5);
    peer_close(&pub);
    kit_crash(&kit);
    join_as(&sub, &kit, &scada, true);
    peer_expect_publish(&sub, "keep", "from long ago", 1, &got);
    peer_ack(&sub, got.packet_id);
    peer_quiet(&sub);
    leave(&sub, 0);
    kit_close(&kit);
}

/* The journal was wiped, the store was not: its seqs would be taken for new ones. */
static void test_store_of_another_journal(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 1});
    join_as(&peer, &kit, &scada, false);
    retain(&peer, "r", "old", 1);
    leave(&peer, 0);
    int64_t deadline = kit_deadline();
    uint64_t stored = 0;
    do {
        (void)usleep(1000); /* sleep: a checkpoint tells nobody */
        mr_cursor_list(kit.journal, sessions_cursor, &stored);
        kit_patience(deadline, "a checkpoint");
    } while (stored < mr_lane_durable(kit.lane));
    kit_end(&kit, 0);
    kit_remove(kit.folder, "lane-00");
    kit_remove(kit.folder, "meta");
    kit_remove(kit.folder, "cursors");
    kit_begin(&kit);
    join_as(&peer, &kit, &scada, false);
    mr_assert(subscribe(&peer, "#", 1) == 1);
    peer_quiet(&peer);
    leave(&peer, 0);
    kit_crash(&kit);
    join_as(&peer, &kit, &scada, true);
    leave(&peer, 0);
    kit_close(&kit);
}

/* ---- a SUBSCRIBE of several filters ---- */

/* One SUBSCRIBE; the code of each filter must be `code`. */
static void subscribe_many(struct peer *peer, const struct mr_mqtt_subscription *wanted,
                           size_t count, uint8_t code)
{
    uint8_t filters[4096];
    uint8_t bytes[4096 + 64];
    size_t used = 0;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_suback suback;
    struct mr_mqtt_why why;

    for (size_t i = 0; i < count; i++) {
        ptrdiff_t len =
            mr_mqtt_subscription_put(&wanted[i], filters + used, sizeof(filters) - used);
        mr_assert(len > 0);
        used += (size_t)len;
    }
    struct mr_mqtt_subscribe packet = {.packet_id = 7, .raw = mr_span_make(filters, used)};
    ptrdiff_t len = mr_mqtt_subscribe_encode(&packet, peer->version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
    do { /* retained messages of QoS 0 may come first */
        mr_assert(peer_frame(peer, &frame));
    } while (frame.type == MR_MQTT_PUBLISH);
    mr_assert(frame.type == MR_MQTT_SUBACK);
    mr_assert(mr_mqtt_suback_decode(&frame, peer->version, &suback, &why) == MR_OK);
    mr_assert(suback.codes.len == count);
    for (size_t i = 0; i < count; i++) {
        mr_assert(suback.codes.at[i] == (code != 0 ? code : wanted[i].qos));
    }
}

/* What one filter finds and does not bring is brought by the other, after a crash too. */
static void test_retained_of_two_filters(void)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;
    struct mr_mqtt_publish got;
    const struct mr_mqtt_subscription wanted[] = {{.filter = mr_span_of("a/#"), .qos = 0},
                                                  {.filter = mr_span_of("#"), .qos = 1}};

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 60000});
    peer_join(&pub, &kit, "pub", 5);
    retain(&pub, "b", "1", 1);
    retain(&pub, "a/b", "2", 1);
    retain(&pub, "c", "3", 1);
    peer_close(&pub);
    join_as(&sub, &kit, &scada, false);
    subscribe_many(&sub, wanted, 2, 0);
    peer_close(&sub);
    kit_crash(&kit);
    join_as(&sub, &kit, &scada, true);
    peer_expect_publish(&sub, "b", "1", 1, &got);
    mr_assert(got.retain);
    peer_expect_publish(&sub, "a/b", "2", 1, &got);
    peer_expect_publish(&sub, "c", "3", 1, &got);
    leave(&sub, 0);
    kit_close(&kit);
}

/* ---- little memory ---- */

/* A queue larger than the memory, in a small gateway: it goes to the store in time, and
 * the start does not need more memory for the same than there was.
 */
static void test_queue_larger_than_memory(void)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 60000,
                                         .memory_bytes = 4 << 20,
                                         .max_queued_messages = 5000});
    join_as(&sub, &kit, &scada, false);
    mr_assert(subscribe(&sub, "q", 1) == 1);
    leave(&sub, 0);
    peer_join(&pub, &kit, "pub", 5);
    peer_publish_burst(&pub, "q");
    peer_close(&pub);
    kit_crash(&kit);
    join_as(&sub, &kit, &scada, true);
    peer_expect_burst(&sub, "q");
    leave(&sub, 0);
    kit_close(&kit);
}

/* ---- a full journal ---- */

/* Has a whole packet arrived? */
static bool has_packet(const struct peer *peer)
{
    struct mr_span bytes = {.at = peer->in + peer->begin, .len = peer->end - peer->begin};
    struct mr_mqtt_frame frame;

    return mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, &frame) == MR_OK;
}

/* What a session has acknowledged and the full journal has no room to record must not
 * keep the checkpoint back that makes room.
 */
static void test_full_with_acks_waiting(void)
{
    enum { MESSAGES = 20000 };
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_frame frame;
    char payload[1001];
    uint8_t bytes[1100];
    int64_t deadline = kit_deadline();
    int acked = 0;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 60000,
                                         .segment_bytes = 256 << 10,
                                         .journal_bytes = 1 << 20});
    join_as(&peer, &kit, &scada, false);
    mr_assert(subscribe(&peer, "q", 1) == 1);
    memset(payload, 'x', sizeof(payload) - 1);
    payload[sizeof(payload) - 1] = '\0';
    for (int sent = 0; acked < MESSAGES;) {
        if (sent < MESSAGES && sent - acked < 900) {
            size_t len =
                put_publish(bytes, sizeof(bytes), 5, "q", payload, 1, (uint16_t)(sent % 30000 + 1));
            peer_write(&peer, bytes, len);
            sent += 1;
        }
        peer_receive(&peer, sent - acked < 900 && sent < MESSAGES ? 0 : 1000000);
        while (has_packet(&peer) && peer_frame(&peer, &frame)) {
            if (frame.type == MR_MQTT_PUBACK) {
                acked += 1;
            } else if (frame.type == MR_MQTT_PUBLISH) {
                struct mr_mqtt_publish got;
                struct mr_mqtt_why why;
                struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
                mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
                peer_ack(&peer, got.packet_id);
            }
        }
        kit_patience(deadline, "the journal to have room again");
    }
    peer_close(&peer);
    kit_close(&kit);
}

int main(void)
{
    test_store_of_another_journal();
    test_session_present();
    test_queue(&scada, false);
    test_queue(&scada, true);
    test_queue(&scada_311, true);
    test_window_after_return();
    test_quota();
    test_max_sessions();
    test_expiry();
    test_message_expiry();
    test_retained(false);
    test_retained(true);
    test_retained_limit_and_persistent_subscriber();
    test_will_delay();
    test_will_comes_with_the_end();
    test_will_once_through_a_checkpoint();
    test_store_and_journal();
    test_retained_of_two_filters();
    test_queue_larger_than_memory();
    test_full_with_acks_waiting();
    printf("ok\n");
    return 0;
}
