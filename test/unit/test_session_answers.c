/* test_session_answers.c
 * links: broker net store journal codec config os base
 *
 * Goal:   whatever a subscriber answers, no message that it is owed is forgotten by an answer that
 *         does not fit it, and none that it has finished comes again: ids that are unknown, of
 *         another QoS, too early, twice, of the connection before; a negative PUBREC; and packets
 *         that do not parse.  So it is with a session that becomes another user's.
 * Method: a real broker; the subscriber's packets by hand; after each case it connects again, and
 *         what is owed comes.
 */
#include "broker_peer.h"

#include "broker/keep_internal.h"

enum { MANY = 260 };

static struct kit kit;
static struct peer pub;

/* The session of "sub", which stays; its window is `window`. */
static void join(struct peer *sub, uint16_t window, const char *username, bool present)
{
    struct mr_mqtt_connack connack;

    peer_open(sub, &kit);
    peer_send_connect(sub, &(struct peer_connect){.client_id = "sub",
                                                  .version = 5,
                                                  .keep_session = true,
                                                  .expiry_s = 3600,
                                                  .receive_max = window,
                                                  .username = username});
    peer_expect_connack(sub, &connack);
    mr_assert(connack.reason == 0 && connack.session_present == present);
}

static void send_reason(struct peer *peer, uint8_t type, uint16_t packet_id, uint8_t reason)
{
    struct mr_mqtt_ack ack = {.type = type, .packet_id = packet_id, .reason = reason};
    uint8_t bytes[16];
    ptrdiff_t len = mr_mqtt_ack_encode(&ack, 5, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

static void publish(const char *payload, uint8_t qos)
{
    peer_publish(&pub, "t", payload, qos, 1);
    if (qos == 1) {
        mr_assert(peer_expect_puback(&pub, 1) == 0);
    } else {
        mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 1) == 0);
        peer_send_ack(&pub, MR_MQTT_PUBREL, 1);
        mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBCOMP, 1) == 0);
    }
}

static uint16_t take(struct peer *sub, const char *payload, uint8_t qos, bool dup)
{
    struct mr_mqtt_publish got;

    peer_expect_publish(sub, "t", payload, qos, &got);
    mr_assert(got.dup == dup);
    return got.packet_id;
}

static void finish(struct peer *sub, uint16_t packet_id)
{
    peer_send_ack(sub, MR_MQTT_PUBREC, packet_id);
    mr_assert(peer_expect_ack(sub, MR_MQTT_PUBREL, packet_id) == 0);
    peer_send_ack(sub, MR_MQTT_PUBCOMP, packet_id);
}

/* An answer that belongs to nothing changes nothing. */
static void test_answers_that_do_not_fit(void)
{
    struct peer sub;

    join(&sub, 0, NULL, true);
    peer_send_ack(&sub, MR_MQTT_PUBACK, 9); /* nothing is owed at all */
    peer_send_ack(&sub, MR_MQTT_PUBREC, 9);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, 9) == MR_MQTT_PACKET_ID_NOT_FOUND);
    publish("one", 1);
    publish("two", 2);
    uint16_t one = take(&sub, "one", 1, false);
    uint16_t two = take(&sub, "two", 2, false);
    peer_send_ack(&sub, MR_MQTT_PUBACK, two); /* of another QoS */
    peer_send_ack(&sub, MR_MQTT_PUBCOMP, one);
    peer_send_ack(&sub, MR_MQTT_PUBCOMP, two); /* too early */
    peer_send_ack(&sub, MR_MQTT_PUBACK, (uint16_t)(two + 1));
    peer_send_ack(&sub, MR_MQTT_PUBREC, one);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, one) == MR_MQTT_PACKET_ID_NOT_FOUND);
    peer_quiet(&sub);
    peer_close(&sub);
    join(&sub, 0, NULL, true); /* both are still owed */
    mr_assert(take(&sub, "one", 1, true) == one && take(&sub, "two", 2, true) == two);
    peer_send_ack(&sub, MR_MQTT_PUBREC, two);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, two) == 0);
    finish(&sub, two); /* PUBREC twice: PUBREL twice */
    peer_ack(&sub, one);
    peer_ack(&sub, one); /* twice */
    peer_quiet(&sub);
    peer_close(&sub);
    join(&sub, 0, NULL, true);
    peer_quiet(&sub);
    peer_close(&sub);
}

/* 4.3.3: a negative PUBREC is the end of the message, and makes room in the window. */
static void test_negative_pubrec(void)
{
    struct peer sub;

    join(&sub, 1, NULL, true);
    publish("refused", 2);
    publish("next", 2);
    uint16_t refused = take(&sub, "refused", 2, false);
    peer_quiet(&sub);
    send_reason(&sub, MR_MQTT_PUBREC, refused, MR_MQTT_QUOTA_EXCEEDED);
    uint16_t next = take(&sub, "next", 2, false);
    finish(&sub, next);
    peer_quiet(&sub);
    peer_close(&sub);
    join(&sub, 0, NULL, true);
    peer_quiet(&sub);
    peer_close(&sub);
}

/* A PUBREC for what the connection before was sent, and this one not yet. */
static void test_pubrec_of_the_connection_before(void)
{
    struct peer sub;

    join(&sub, 2, NULL, true);
    publish("first", 2);
    publish("second", 2);
    uint16_t first = take(&sub, "first", 2, false);
    uint16_t second = take(&sub, "second", 2, false);
    peer_close(&sub);
    join(&sub, 1, NULL, true);
    mr_assert(take(&sub, "first", 2, true) == first);
    peer_send_ack(&sub, MR_MQTT_PUBREC, second);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, second) == 0);
    finish(&sub, first);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, second) == 0); /* in its turn */
    peer_send_ack(&sub, MR_MQTT_PUBCOMP, second);
    peer_quiet(&sub);
    peer_close(&sub);
    join(&sub, 0, NULL, true);
    peer_quiet(&sub);
    peer_close(&sub);
}

/* Each ends the connection, and nothing is forgotten by it. */
static void test_packets_that_do_not_parse(void)
{
    static const uint8_t types[] = {0x40, 0x50, 0x62, 0x70, 0xe0, 0xf0};
    struct mr_mqtt_frame frame;
    struct peer sub;

    for (size_t i = 0; i < sizeof(types); i++) {
        uint8_t bytes[] = {types[i], 4, 0, 1, 0xee, 0};

        publish("stays", 1);
        join(&sub, 0, NULL, true);
        uint16_t id = take(&sub, "stays", 1, false);
        peer_write(&sub, bytes, sizeof(bytes));
        mr_assert(peer_frame(&sub, &frame) && frame.type == MR_MQTT_DISCONNECT);
        peer_expect_closed(&sub);
        peer_close(&sub);
        join(&sub, 0, NULL, true);
        mr_assert(take(&sub, "stays", 1, true) == id);
        peer_ack(&sub, id);
        peer_quiet(&sub);
        peer_close(&sub);
    }
}

static void look_at_user(struct mr_shard *shard, void *arg)
{
    const struct session *session = session_find(shard, mr_span_of("sub"));

    mr_assert(session != NULL && mr_span_is(session_username(session), arg));
}

static void user_is(const char *name)
{
    mr_assert(shard_call(kit.broker->shards[0], look_at_user, (void *)(uintptr_t)name) == MR_OK);
}

/* A session goes on with the user of its last connection, also behind a crash. */
static void test_another_user(void)
{
    static const char *const names[] = {"ann", "somebody-with-a-much-longer-name", "ann", "bo"};
    struct peer sub;

    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        join(&sub, 0, names[i], true);
        user_is(names[i]);
        peer_close(&sub);
    }
    peer_close(&pub);
    kit_crash(&kit);
    user_is("bo");
    peer_join(&pub, &kit, "pub", 5);
    join(&sub, 0, NULL, true);
    user_is("");
    peer_close(&sub);
}

static void find(struct mr_shard *shard, void *arg)
{
    mr_assert(session_find(shard, mr_span_of(arg)) != NULL);
}

/* More sessions than the table begins with: each is found. */
static void test_many(void)
{
    static struct peer peers[MANY];
    char name[24];

    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "many-%d", i);
        peer_open(&peers[i], &kit);
        peer_send_connect(&peers[i], &(struct peer_connect){.client_id = name, .version = 5});
    }
    for (int i = 0; i < MANY; i++) {
        struct mr_mqtt_connack connack;
        peer_expect_connack(&peers[i], &connack);
        mr_assert(connack.reason == 0);
    }
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "many-%d", i);
        mr_assert(shard_call(kit.broker->shards[0], find, name) == MR_OK);
    }
    for (int i = 0; i < MANY; i++) {
        peer_close(&peers[i]);
    }
}

int main(void)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("t"), .qos = 2};
    struct peer sub;

    mr_log_set_level(MR_LOG_ERROR);
    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 1});
    peer_join(&pub, &kit, "pub", 5);
    join(&sub, 0, NULL, false);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 2);
    peer_close(&sub);
    test_answers_that_do_not_fit();
    test_negative_pubrec();
    test_pubrec_of_the_connection_before();
    test_packets_that_do_not_parse();
    test_another_user();
    test_many();
    peer_close(&pub);
    kit_close(&kit);
    return 0;
}
