/* test_broker.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what a device does on an ordinary day: connect in every version, publish
 *         and be acknowledged only when it is on the disk, subscribe, be taken
 *         over, leave a will.
 * Method: a real broker and journal, and a client that speaks through the codec.
 *         Where "not before" matters the journal commits by hand.
 */
#include "broker_peer.h"

static void test_connects_in_every_version(void)
{
    static const uint8_t versions[] = {MR_MQTT_31, MR_MQTT_311, MR_MQTT_5};
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;

    kit_open(&kit, &(struct kit_options){0});
    for (size_t i = 0; i < MR_COUNT_OF(versions); i++) {
        peer_open(&peer, &kit);
        peer_send_connect(&peer, &(struct peer_connect){.client_id = "press-7",
                                                        .version = versions[i],
                                                        .keep_session = versions[i] == 4});
        peer_expect_connack(&peer, &connack);
        mr_assert(connack.reason == 0 && !connack.session_present);
        peer_quiet(&peer);
        peer_close(&peer);
    }
    mr_assert(mr_mqtt_has(&connack.props, MR_MQTT_PROP_RECEIVE_MAX));
    mr_assert(connack.props.receive_max == 1000 && connack.props.packet_max == 1 << 20);
    mr_assert(!mr_mqtt_has(&connack.props, MR_MQTT_PROP_MAXIMUM_QOS)); /* 2 */
    mr_assert(!mr_mqtt_has(&connack.props, MR_MQTT_PROP_RETAIN_AVAILABLE));
    mr_assert(connack.props.topic_alias_max == 10 && connack.props.shared_available == 1);
    mr_assert(!mr_mqtt_has(&connack.props, MR_MQTT_PROP_SERVER_KEEP_ALIVE));
    mr_assert(!mr_mqtt_has(&connack.props, MR_MQTT_PROP_ASSIGNED_CLIENT_ID));
    kit_close(&kit);
}

static void test_assigns_a_client_id(void)
{
    struct kit kit;
    struct peer peers[2];
    struct mr_mqtt_connack connack;
    char first[64];

    kit_open(&kit, &(struct kit_options){0});
    peer_open(&peers[0], &kit);
    peer_send_connect(&peers[0], &(struct peer_connect){.client_id = "", .version = 5});
    peer_expect_connack(&peers[0], &connack);
    mr_assert(mr_mqtt_has(&connack.props, MR_MQTT_PROP_ASSIGNED_CLIENT_ID));
    (void)snprintf(first, sizeof(first), "%.*s", (int)connack.props.assigned_client_id.len,
                   (const char *)connack.props.assigned_client_id.at);
    peer_open(&peers[1], &kit);
    peer_send_connect(&peers[1], &(struct peer_connect){.client_id = "", .version = 5});
    peer_expect_connack(&peers[1], &connack);
    mr_assert(!mr_span_is(connack.props.assigned_client_id, first));
    peer_quiet(&peers[0]); /* not taken over */
    peer_close(&peers[0]);
    peer_close(&peers[1]);
    kit_close(&kit);
}

static void check_event(const struct mr_event *event, void *arg)
{
    (void)arg;
    mr_assert(mr_span_is(event->client, "press-7") && mr_span_is(event->topic, "plant/press/7"));
    mr_assert(mr_span_is(event->payload, "{\"t\":21}") && event->qos == 1 && !event->will);
    mr_assert(mr_span_is(event->username, "operator"));
}

/* Shows 5.0: 4.3.2-4; 3.1.1: 4.3.2-2. */
static void test_puback_only_after_durable(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;

    kit_open(&kit, &(struct kit_options){.manual = true});
    peer_open(&peer, &kit);
    peer_send_connect(&peer, &(struct peer_connect){
                                 .client_id = "press-7", .version = 4, .username = "operator"});
    peer_expect_connack(&peer, &connack);
    peer_publish(&peer, "plant/press/7", "{\"t\":21}", 1, 77);
    peer_quiet(&peer); /* the PINGRESP overtakes: the PUBACK is held */
    peer_quiet(&peer);
    mr_assert(mr_lane_durable(kit.lane) == 0);
    kit_commit(&kit, 1);
    mr_assert(peer_expect_puback(&peer, 77) == 0);
    kit_read(&kit, 1, check_event, NULL);
    peer_close(&peer);
    kit_close(&kit);
}

static void test_qos0_is_journaled_and_not_answered(void)
{
    struct kit kit;
    struct peer peer;

    kit_open(&kit, &(struct kit_options){.manual = true});
    peer_join(&peer, &kit, "a", 4);
    peer_publish(&peer, "t", "1", 0, 0);
    peer_quiet(&peer);
    kit_commit(&kit, 1);
    peer_quiet(&peer);
    peer_close(&peer);
    kit_close(&kit);
}

/* A thousand publishes in one write, acknowledged in order. */
static void test_pipelined(uint8_t version)
{
    enum { COUNT = 1000 };
    static uint8_t bytes[COUNT * 200];
    struct kit kit;
    struct peer peer;
    size_t len = 0;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&peer, &kit, "gateway-1", version);
    for (int round = 0; round < 20; round++) {
        len = 0;
        for (uint16_t i = 1; i <= COUNT; i++) {
            char topic[64];
            char payload[64];
            (void)snprintf(topic, sizeof(topic), "plant/line/%d", i % 6);
            (void)snprintf(payload, sizeof(payload), "value %d of round %d", i, round);
            len += put_publish(bytes + len, sizeof(bytes) - len, version, topic, payload, 1, i);
        }
        peer_write(&peer, bytes, len);
        for (uint16_t i = 1; i <= COUNT; i++) {
            mr_assert(peer_expect_puback(&peer, i) == 0);
        }
    }
    mr_assert(mr_lane_durable(kit.lane) == 20 * COUNT);
    struct mr_broker_stats stats;
    peer_quiet(&peer);
    peer_quiet(&peer);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.acks_withheld == 0 && stats.connections == 1);
    peer_close(&peer);
    kit_close(&kit);
}

static void test_subscribers_receive(void)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.manual = true});
    peer_join(&sub, &kit, "sub", 5);
    peer_join(&pub, &kit, "pub", 4);
    struct mr_mqtt_subscription plus = {.filter = mr_span_of("plant/+/temp"), .qos = 1};
    struct mr_mqtt_subscription hash = {.filter = mr_span_of("plant/#"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &plus, 42) == 1);
    /* QoS 0: at once, whatever the journal does. */
    peer_publish(&pub, "plant/line4/temp", "now", 0, 0);
    peer_expect_publish(&sub, "plant/line4/temp", "now", 0, &got);
    mr_assert(got.props.subscription_id == 42);
    /* QoS 1: when it is durable. */
    peer_publish(&pub, "plant/line4/temp", "later", 1, 1);
    peer_quiet(&pub);
    peer_quiet(&sub);
    kit_commit(&kit, 2);
    peer_expect_publish(&sub, "plant/line4/temp", "later", 1, &got);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_ack(&sub, got.packet_id);
    /* A second filter: one copy for each. */
    mr_assert(peer_subscribe(&sub, &hash, 0) == 0);
    peer_publish(&pub, "plant/line4/temp", "both", 0, 0);
    peer_expect_publish(&sub, "plant/line4/temp", "both", 0, &got);
    peer_expect_publish(&sub, "plant/line4/temp", "both", 0, &got);
    peer_publish(&pub, "plant/line4/speed", "one", 1, 2);
    peer_quiet(&pub);
    kit_commit(&kit, 4);
    peer_expect_publish(&sub, "plant/line4/speed", "one", 0, &got); /* min(1, 0) */
    mr_assert(peer_expect_puback(&pub, 2) == 0);
    peer_publish(&pub, "elsewhere", "none", 0, 0);
    peer_quiet(&pub);
    peer_quiet(&sub);
    kit_commit(&kit, 5);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

static void test_unsubscribe(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_suback unsuback;
    struct mr_mqtt_why why;
    struct mr_mqtt_publish got;
    uint8_t filters[64];
    uint8_t bytes[128];

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&peer, &kit, "x", 5);
    struct mr_mqtt_subscription sub = {.filter = mr_span_of("a/b"), .qos = 0};
    mr_assert(peer_subscribe(&peer, &sub, 0) == 0);
    peer_publish(&peer, "a/b", "mine", 0, 0);
    peer_expect_publish(&peer, "a/b", "mine", 0, &got);
    ptrdiff_t len = mr_mqtt_unsubscription_put(mr_span_of("a/b"), filters, sizeof(filters));
    len +=
        mr_mqtt_unsubscription_put(mr_span_of("a/c"), filters + len, sizeof(filters) - (size_t)len);
    struct mr_mqtt_subscribe packet = {.packet_id = 9, .raw = mr_span_make(filters, (size_t)len)};
    len = mr_mqtt_unsubscribe_encode(&packet, 5, bytes, sizeof(bytes));
    peer_write(&peer, bytes, (size_t)len);
    mr_assert(peer_frame(&peer, &frame) && frame.type == MR_MQTT_UNSUBACK);
    mr_assert(mr_mqtt_suback_decode(&frame, 5, &unsuback, &why) == MR_OK);
    mr_assert(unsuback.codes.len == 2 && unsuback.codes.at[0] == 0 &&
              unsuback.codes.at[1] == MR_MQTT_NO_SUBSCRIPTION_EXISTED);
    peer_publish(&peer, "a/b", "gone", 0, 0);
    peer_quiet(&peer);
    peer_close(&peer);
    kit_close(&kit);
}

static void test_no_local_and_shared(void)
{
    struct kit kit;
    struct peer a;
    struct peer b;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&a, &kit, "a", 5);
    peer_join(&b, &kit, "b", 5);
    struct mr_mqtt_subscription sub = {.filter = mr_span_of("t"), .qos = 0, .no_local = true};
    mr_assert(peer_subscribe(&a, &sub, 0) == 0);
    mr_assert(peer_subscribe(&b, &sub, 0) == 0);
    peer_publish(&a, "t", "x", 0, 0);
    peer_expect_publish(&b, "t", "x", 0, &got);
    peer_quiet(&a);
    struct mr_mqtt_subscription shared = {.filter = mr_span_of("$share/g/t"), .qos = 1};
    mr_assert(peer_subscribe(&a, &shared, 0) == 1);
    struct mr_mqtt_subscription qos2 = {.filter = mr_span_of("q"), .qos = 2};
    mr_assert(peer_subscribe(&a, &qos2, 0) == 2);
    peer_close(&a);
    peer_close(&b);
    kit_close(&kit);
}

static void test_takeover_and_will(uint8_t version)
{
    struct kit kit;
    struct peer sub;
    struct peer old;
    struct peer new;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&sub, &kit, "sub", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("will/#"), .qos = 1};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
    peer_open(&old, &kit);
    struct peer_connect how = {.client_id = "same",
                               .version = version,
                               .will_topic = "will/same",
                               .will_payload = "gone",
                               .will_qos = 1};
    peer_send_connect(&old, &how);
    peer_expect_connack(&old, &connack);
    peer_open(&new, &kit);
    how.will_topic = NULL;
    peer_send_connect(&new, &how);
    peer_expect_connack(&new, &connack);
    if (version == 5) {
        peer_expect_disconnect(&old, MR_MQTT_SESSION_TAKEN_OVER);
    } else {
        peer_expect_closed(&old);
    }
    peer_expect_publish(&sub, "will/same", "gone", 1, &got);
    peer_quiet(&new);
    peer_close(&sub);
    peer_close(&old);
    peer_close(&new);
    kit_close(&kit);
}

static void send_disconnect(struct peer *peer, uint8_t reason)
{
    uint8_t bytes[16];
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_DISCONNECT, .reason = reason};
    ptrdiff_t len = mr_mqtt_disconnect_encode(&packet, peer->version, bytes, sizeof(bytes));

    peer_write(peer, bytes, (size_t)len);
    peer_expect_closed(peer);
}

static void test_will_by_kind_of_end(void)
{
    static const struct {
        uint8_t version;
        int disconnect; /* -1: just closes */
        bool published;
    } cases[] = {{4, 0, false}, {4, -1, true}, {5, 0, false}, {5, 4, true}, {5, -1, true}};
    struct kit kit;
    struct peer sub;
    struct peer peer;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&sub, &kit, "sub", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("w"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        peer_open(&peer, &kit);
        peer_send_connect(&peer, &(struct peer_connect){.client_id = "dying",
                                                        .version = cases[i].version,
                                                        .will_topic = "w",
                                                        .will_payload = "bye",
                                                        .will_qos = 0});
        peer_expect_connack(&peer, &connack);
        if (cases[i].disconnect >= 0) {
            send_disconnect(&peer, (uint8_t)cases[i].disconnect);
        }
        peer_close(&peer);
        if (cases[i].published) {
            peer_expect_publish(&sub, "w", "bye", 0, &got);
        } else {
            peer_quiet(&sub);
        }
    }
    peer_close(&sub);
    kit_close(&kit);
}

static void check_will(const struct mr_event *event, void *arg)
{
    struct mr_mqtt_props props;
    struct mr_mqtt_why why;

    (void)arg;
    mr_assert(event->will && event->qos == 1 && mr_span_is(event->topic, "w"));
    mr_assert(mr_mqtt_props_decode(event->properties, MR_MQTT_PUBLISH, MR_MQTT_FROM_CLIENT, &props,
                                   &why) == MR_OK);
    mr_assert(mr_mqtt_has(&props, MR_MQTT_PROP_CONTENT_TYPE));
}

/* A will becomes a PUBLISH: its properties travel, its delay does not. */
static void test_will_properties(void)
{
    struct kit kit;
    struct peer sub;
    struct peer peer;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    uint8_t bytes[256];

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&sub, &kit, "sub", 5);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("w"), .qos = 1};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
    struct mr_mqtt_connect connect = {.version = 5,
                                      .client_id = mr_span_of("dying"),
                                      .clean_start = true,
                                      .has_will = true,
                                      .will_qos = 1,
                                      .will_topic = mr_span_of("w"),
                                      .will_payload = mr_span_of("bye")};
    connect.will_props.will_delay_s = 60;
    mr_mqtt_set(&connect.will_props, MR_MQTT_PROP_WILL_DELAY);
    connect.will_props.content_type = mr_span_of("text/plain");
    mr_mqtt_set(&connect.will_props, MR_MQTT_PROP_CONTENT_TYPE);
    ptrdiff_t len = mr_mqtt_connect_encode(&connect, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_open(&peer, &kit);
    peer.version = 5;
    peer_write(&peer, bytes, (size_t)len);
    peer_expect_connack(&peer, &connack);
    peer_close(&peer);
    peer_expect_publish(&sub, "w", "bye", 1, &got);
    mr_assert(mr_span_is(got.props.content_type, "text/plain"));
    mr_assert(!mr_mqtt_has(&got.props, MR_MQTT_PROP_WILL_DELAY));
    kit_read(&kit, 1, check_will, NULL);
    peer_close(&sub);
    kit_close(&kit);
}

static void test_keep_alive(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;
    int64_t began = mr_clock_mono_ns();

    kit_open(&kit, &(struct kit_options){0});
    peer_open(&peer, &kit);
    peer_send_connect(
        &peer, &(struct peer_connect){.client_id = "sleepy", .version = 5, .keep_alive_s = 1});
    peer_expect_connack(&peer, &connack);
    peer_expect_disconnect(&peer, MR_MQTT_KEEP_ALIVE_TIMEOUT);
    int64_t took_ms = (mr_clock_mono_ns() - began) / 1000000;
    mr_assert(took_ms >= 1500 && took_ms < 5000);
    peer_close(&peer);
    kit_close(&kit);
}

static void test_server_keep_alive_and_session_expiry(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;

    kit_open(&kit, &(struct kit_options){.max_keepalive_us = 30000000});
    peer_open(&peer, &kit);
    peer_send_connect(&peer,
                      &(struct peer_connect){.client_id = "x", .version = 5, .keep_alive_s = 600});
    peer_expect_connack(&peer, &connack);
    mr_assert(mr_mqtt_has(&connack.props, MR_MQTT_PROP_SERVER_KEEP_ALIVE));
    mr_assert(connack.props.server_keep_alive == 30);
    peer_close(&peer);
    kit_close(&kit);
}

static void test_stop_says_so(void)
{
    struct kit kit;
    struct peer peers[2];

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&peers[0], &kit, "five", 5);
    peer_join(&peers[1], &kit, "four", 4);
    peer_publish(&peers[1], "t", "last", 1, 5);
    mr_assert(peer_expect_puback(&peers[1], 5) == 0);
    mr_broker_stop(kit.broker, 100000000);
    peer_expect_disconnect(&peers[0], MR_MQTT_SERVER_SHUTTING_DOWN);
    peer_expect_closed(&peers[1]);
    peer_close(&peers[0]);
    peer_close(&peers[1]);
    kit_close(&kit);
}

int main(void)
{
    test_connects_in_every_version();
    test_assigns_a_client_id();
    test_puback_only_after_durable();
    test_qos0_is_journaled_and_not_answered();
    test_pipelined(4);
    test_pipelined(5);
    test_subscribers_receive();
    test_unsubscribe();
    test_no_local_and_shared();
    test_takeover_and_will(4);
    test_takeover_and_will(5);
    test_will_by_kind_of_end();
    test_will_properties();
    test_keep_alive();
    test_server_keep_alive_and_session_expiry();
    test_stop_says_so();
    return 0;
}
