/* test_broker_refuse.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what breaks a rule gets the reason code that the specification names, in
 *         CONNACK or DISCONNECT, and then the end; nobody else notices.
 * Method: a table of packets, each sent by a client of its own, beside a bystander
 *         who stays connected through all of it.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

static struct kit kit;

/* ---- before a session exists ---- */

static void test_connect_refused_with(const char *what, const void *bytes, size_t len,
                                      uint8_t version, int code)
{
    struct peer peer;
    struct mr_mqtt_frame frame;

    peer_open(&peer, &kit);
    peer.version = version;
    peer_write(&peer, bytes, len);
    if (code >= 0) {
        /* By hand: a 3.x CONNACK has the raw return code in its fourth byte. */
        if (!peer_frame(&peer, &frame) || frame.type != MR_MQTT_CONNACK ||
            frame.body.at[1] != code) {
            fprintf(stderr, "%s: expected CONNACK with %d\n", what, code);
            abort();
        }
    }
    peer_expect_closed(&peer);
    peer_close(&peer);
}

#define REFUSED(what_, bytes_, version_, code_) \
    test_connect_refused_with(what_, bytes_, sizeof(bytes_) - 1, version_, code_)

static void test_connects_refused(void)
{
    REFUSED("http", "GET / HTTP/1.1\r\n\r\n", 4, -1);
    REFUSED("not CONNECT first", "\xc0\x00", 4, -1);
    REFUSED("publish first",
            "\x30\x03\x00\x01"
            "a",
            4, -1);
    REFUSED("version 6", "\x10\x0d\x00\x04MQTT\x06\x02\x00\x00\x00\x01x", 5,
            MR_MQTT_UNSUPPORTED_VERSION);
    REFUSED("a bridge of Mosquitto", "\x10\x0d\x00\x04MQTT\x84\x02\x00\x00\x00\x01x", 4, 1);
    REFUSED("a bridge of 5.0", "\x10\x0e\x00\x04MQTT\x85\x02\x00\x00\x00\x00\x01x", 4, 1);
    REFUSED("version 2", "\x10\x0d\x00\x04MQTT\x02\x02\x00\x00\x00\x01x", 4, 1);
    REFUSED("another name, 3.1.1", "\x10\x0d\x00\x04mqtt\x04\x02\x00\x00\x00\x01x", 4, 1);
    REFUSED("another name, 5.0", "\x10\x0e\x00\x04mqtt\x05\x02\x00\x00\x00\x00\x01x", 5,
            MR_MQTT_UNSUPPORTED_VERSION);
    REFUSED("reserved flag of 5.0", "\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01x", 5,
            MR_MQTT_MALFORMED);
    REFUSED("empty id, 3.1.1, not clean", "\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00", 4, 2);
    REFUSED("authentication method",
            "\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01m\x00\x01x", 5,
            MR_MQTT_BAD_AUTH_METHOD);
}

static void test_anonymous_refused(void)
{
    struct kit closed;
    struct peer peer;
    struct mr_mqtt_connack connack;

    kit_open(&closed, &(struct kit_options){.allow_anonymous = MR_ANONYMOUS_FALSE});
    for (uint8_t version = 4; version <= 5; version++) {
        peer_open(&peer, &closed);
        peer_send_connect(&peer, &(struct peer_connect){.client_id = "x", .version = version});
        peer_expect_connack(&peer, &connack);
        mr_assert(connack.reason == MR_MQTT_NOT_AUTHORIZED);
        peer_expect_closed(&peer);
        peer_close(&peer);
    }
    kit_close(&closed);
}

static void test_silent_stranger(void)
{
    struct kit impatient;
    struct peer peer;

    kit_open(&impatient, &(struct kit_options){.connect_timeout_us = 300000});
    peer_open(&peer, &impatient);
    peer_write(&peer, "\x10\x0d\x00", 3); /* begins a CONNECT and falls silent */
    peer_expect_closed(&peer);
    peer_close(&peer);
    kit_close(&impatient);
}

/* ---- a session whose CONNACK waits for the disk ---- */

static void look_joining(struct mr_shard *shard, void *arg)
{
    struct mr_span *id = arg;
    const struct session *session = session_find(shard, *id);

    if (session != NULL && session->client != NULL && session->client->joining) {
        id->len = 0; /* seen */
    }
}

/* Connect; nothing makes its session durable. */
static void join_unanswered(struct peer *peer, struct kit *unmade, const char *id)
{
    struct mr_span wanted = mr_span_of(id);
    int64_t deadline = kit_deadline();

    peer_open(peer, unmade);
    peer_send_connect(peer,
                      &(struct peer_connect){
                          .client_id = id, .version = 5, .keep_session = true, .expiry_s = 100});
    while (wanted.len != 0) {
        mr_assert(shard_call(unmade->broker->shards[0], look_joining, &wanted) == MR_OK);
        kit_patience(deadline, "the CONNECT to be read");
    }
}

/* Whatever ends it then: the connection is closed, and nothing is said. */
/* Shows 5.0: 3.14.0-1. */
static void test_no_disconnect_before_connack(void)
{
    struct kit unmade;
    struct peer first;
    struct peer second;
    struct peer kicked;
    bool found = false;

    kit_open(&unmade, &(struct kit_options){.manual = true});
    join_unanswered(&first, &unmade, "twice");
    join_unanswered(&kicked, &unmade, "kicked");
    peer_open(&second, &unmade);
    peer_send_connect(
        &second, &(struct peer_connect){
                     .client_id = "twice", .version = 5, .keep_session = true, .expiry_s = 100});
    peer_expect_closed(&first);
    mr_assert(mr_broker_kick(unmade.broker, mr_span_of("kicked"), &found) == MR_OK && found);
    peer_expect_closed(&kicked);
    kit_end(&unmade, 0); /* without patience for the disk */
    peer_expect_closed(&second);
    peer_close(&first);
    peer_close(&second);
    peer_close(&kicked);
    mr_assert(mr_dir_list(unmade.folder, kit_remove, unmade.folder) == MR_OK);
    mr_assert(rmdir(unmade.folder) == 0);
}

/* ---- in a session ---- */

struct refusal {
    const char *what;
    const char *bytes;
    size_t len;
    uint8_t reason;
};

#define ROW(what_, bytes_, reason_) \
    {.what = what_, .bytes = bytes_, .len = sizeof(bytes_) - 1, .reason = reason_}

static const struct refusal refusals[] = {
    ROW("second CONNECT", "\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01y",
        MR_MQTT_PROTOCOL_ERROR),
    ROW("reserved type 0", "\x00\x00", MR_MQTT_MALFORMED),
    ROW("reserved flags", "\xc1\x00", MR_MQTT_MALFORMED),
    ROW("length of five bytes", "\x30\xff\xff\xff\xff\x01", MR_MQTT_MALFORMED),
    ROW("too large, told before its body", "\x30\xff\xff\xff\x7f", MR_MQTT_PACKET_TOO_LARGE),
    ROW("QoS 3", "\x36\x07\x00\x01t\x00\x01\x00x", MR_MQTT_MALFORMED),
    ROW("packet id 0", "\x32\x07\x00\x01t\x00\x00\x00x", MR_MQTT_PROTOCOL_ERROR),
    ROW("wildcard in a topic", "\x30\x05\x00\x01+\x00x", MR_MQTT_TOPIC_NAME_INVALID),
    ROW("topic cut short", "\x30\x03\x00\x09t", MR_MQTT_MALFORMED),
    ROW("topic not UTF-8", "\x30\x05\x00\x01\xff\x00x", MR_MQTT_MALFORMED),
    ROW("alias unknown", "\x30\x07\x00\x00\x03\x23\x00\x01x", MR_MQTT_PROTOCOL_ERROR), /* 3.3.4 */
    ROW("alias too high", "\x30\x08\x00\x01t\x03\x23\x00\x0bx", MR_MQTT_TOPIC_ALIAS_INVALID),
    ROW("CONNACK from a client", "\x20\x03\x00\x00\x00", MR_MQTT_PROTOCOL_ERROR),
    ROW("AUTH without a method", "\xf0\x02\x18\x00", MR_MQTT_PROTOCOL_ERROR),
    ROW("SUBSCRIBE without filter", "\x82\x03\x00\x01\x00", MR_MQTT_PROTOCOL_ERROR),
    ROW("misplaced wildcard", "\x82\x08\x00\x01\x00\x00\x02#a\x00", MR_MQTT_TOPIC_FILTER_INVALID),
    ROW("PINGREQ with a body", "\xc0\x01\x00", MR_MQTT_MALFORMED),
};

static void test_refusals(uint8_t version)
{
    for (size_t i = 0; i < MR_COUNT_OF(refusals); i++) {
        const struct refusal *row = &refusals[i];
        struct peer peer;
        struct mr_mqtt_frame frame;

        if (version == 4 && strncmp(row->what, "alias", 5) == 0) {
            continue; /* no rule of 3.1.1 */
        }
        peer_join(&peer, &kit, "culprit", version);
        peer_write(&peer, row->bytes, row->len);
        if (version == 5 && (!peer_frame(&peer, &frame) || frame.type != MR_MQTT_DISCONNECT ||
                             frame.body.len == 0 || frame.body.at[0] != row->reason)) {
            fprintf(stderr, "%s: expected DISCONNECT 0x%02x, got %s 0x%02x\n", row->what,
                    row->reason, mr_mqtt_type_name(frame.type),
                    frame.body.len == 0 ? 0 : frame.body.at[0]);
            abort();
        }
        peer_expect_closed(&peer);
        peer_close(&peer);
    }
}

/* The reason of a topic we refuse is in the PUBACK, and the session goes on. */
static void test_sys_topic(void)
{
    struct peer peer;
    struct peer sub;
    struct mr_mqtt_publish got;

    peer_join(&peer, &kit, "five", 5);
    peer_join(&sub, &kit, "sub", 4);
    struct mr_mqtt_subscription all = {.filter = mr_span_of("#"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &all, 0) == 0);
    peer_publish(&peer, "$SYS/broker", "x", 1, 1);
    mr_assert(peer_expect_puback(&peer, 1) == MR_MQTT_NOT_AUTHORIZED);
    peer_publish(&peer, "$own/topic", "x", 1, 2); /* allowed, but '#' does not see it */
    mr_assert(peer_expect_puback(&peer, 2) == 0);
    peer_publish(&peer, "seen", "y", 0, 0);
    peer_expect_publish(&sub, "seen", "y", 0, &got);
    peer_close(&peer);
    peer_join(&peer, &kit, "four", 4);
    peer_publish(&peer, "$SYS/broker", "x", 1, 3);
    mr_assert(peer_expect_puback(&peer, 3) == 0);
    peer_quiet(&sub);
    peer_close(&peer);
    peer_close(&sub);
}

/* Not through a will either; a bridge of Mosquitto has one and is admitted. */
static void test_sys_will(void)
{
    struct mr_mqtt_connack connack;
    struct peer peer;
    struct peer sub;

    peer_join(&sub, &kit, "watcher", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("$SYS/#"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    for (uint8_t version = 4; version <= 5; version++) {
        peer_open(&peer, &kit);
        peer_send_connect(&peer, &(struct peer_connect){.client_id = "bridge",
                                                        .version = version,
                                                        .will_topic = "$SYS/broker/uptime",
                                                        .will_payload = "x"});
        peer_expect_connack(&peer, &connack);
        mr_assert(connack.reason == 0);
        peer_write(&peer, "\x00\x00", 2); /* not a packet: its will would be published */
        peer_receive(&peer, 1000000000);
        peer_close(&peer);
        peer_quiet(&sub);
    }
    peer_close(&sub);
}

/* 3.14.2.2.2: and so it does not revoke the will. */
static void test_disconnect_prolongs(void)
{
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct peer peer;
    struct peer sub;

    peer_join(&sub, &kit, "heir", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("w"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    peer_open(&peer, &kit);
    peer_send_connect(
        &peer, &(struct peer_connect){
                   .client_id = "longer", .version = 5, .will_topic = "w", .will_payload = "bye"});
    peer_expect_connack(&peer, &connack);
    peer_write(&peer, "\xe0\x07\x00\x05\x11\x00\x00\x00\x05", 9);
    peer_expect_disconnect(&peer, MR_MQTT_PROTOCOL_ERROR);
    peer_expect_publish(&sub, "w", "bye", 0, &got);
    peer_close(&peer);
    peer_close(&sub);
}

static void test_too_many_levels(void)
{
    struct peer peer;
    char deep[402];

    for (size_t i = 0; i < sizeof(deep) - 1; i++) {
        deep[i] = i % 2 == 0 ? 'a' : '/';
    }
    deep[sizeof(deep) - 1] = 0;
    peer_join(&peer, &kit, "deep", 5);
    peer_publish(&peer, deep, "x", 1, 1);
    mr_assert(peer_expect_puback(&peer, 1) == MR_MQTT_TOPIC_NAME_INVALID);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of(deep), .qos = 0};
    mr_assert(peer_subscribe(&peer, &filter, 0) == MR_MQTT_TOPIC_FILTER_INVALID);
    peer_quiet(&peer);
    peer_close(&peer);
}

/* More in flight than was agreed. */
/* Shows 5.0: 3.3.4-7. */
static void test_receive_maximum(void)
{
    struct kit slow;
    struct peer peer;
    uint8_t bytes[512];
    size_t len = 0;

    kit_open(&slow, &(struct kit_options){.manual = true, .receive_maximum = 5});
    peer_join(&peer, &slow, "eager", 5);
    for (uint16_t i = 1; i <= 6; i++) {
        len += put_publish(bytes + len, sizeof(bytes) - len, 5, "t", "x", 1, i);
    }
    peer_write(&peer, bytes, len);
    peer_expect_disconnect(&peer, MR_MQTT_RECEIVE_MAX_EXCEEDED);
    kit_commit(&slow, 5); /* the five are in the journal all the same */
    peer_close(&peer);
    kit_close(&slow);
}

static void test_topic_alias(void)
{
    struct peer peer;
    struct peer sub;
    struct mr_mqtt_publish got;

    peer_join(&sub, &kit, "sub", 5);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("aliased"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    peer_join(&peer, &kit, "short", 5);
    /* Defines alias 3 with a user property, then uses it alone. */
    peer_write(&peer,
               "\x30\x15\x00\x07"
               "aliased\x0a\x23\x00\x03\x26\x00\x01k\x00\x01v1",
               23);
    peer_expect_publish(&sub, "aliased", "1", 0, &got);
    struct mr_span rest = got.props.user_raw;
    struct mr_span name;
    struct mr_span value;
    mr_assert(mr_mqtt_has(&got.props, MR_MQTT_PROP_USER));
    mr_assert(mr_mqtt_user_property_next(&rest, &name, &value));
    mr_assert(mr_span_is(name, "k") && mr_span_is(value, "v"));
    mr_assert(!mr_mqtt_has(&got.props, MR_MQTT_PROP_TOPIC_ALIAS));
    peer_write(&peer,
               "\x30\x07\x00\x00\x03\x23\x00\x03"
               "2",
               9);
    peer_expect_publish(&sub, "aliased", "2", 0, &got);
    peer_close(&peer);
    peer_close(&sub);
}

int main(void)
{
    struct peer bystander;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&bystander, &kit, "bystander", 5);
    test_connects_refused();
    test_refusals(5);
    test_refusals(4);
    test_sys_topic();
    test_sys_will();
    test_disconnect_prolongs();
    test_too_many_levels();
    test_topic_alias();
    peer_quiet(&bystander);
    peer_close(&bystander);
    kit_close(&kit);
    test_anonymous_refused();
    test_silent_stranger();
    test_no_disconnect_before_connack();
    test_receive_maximum();
    return 0;
}
