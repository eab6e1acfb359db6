/* test_broker_excluded.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what `journal.exclude` matches leaves nothing in the journal and reaches who is there:
 * each subscriber, one member of a group, and, retained, whoever subscribes until it is replaced,
 *         cleared or the gateway ends; persistent sessions get it with QoS 0.
 * Method: a topic that is excluded beside one that is not.
 */
#include "broker_peer.h"

static struct kit kit;

static void join(struct peer *peer, const char *id, bool persistent)
{
    (void)peer_join_as(peer, &kit,
                       &(struct peer_connect){.client_id = id,
                                              .version = 5,
                                              .keep_session = persistent,
                                              .expiry_s = persistent ? 3600 : 0});
}

static void subscribe(struct peer *peer, const char *filter)
{
    mr_assert(peer_subscribe(peer,
                             &(struct mr_mqtt_subscription){.filter = mr_span_of(filter), .qos = 1},
                             0) == 1);
}

static void publish(struct peer *pub, const char *topic, const char *payload, bool retain)
{
    struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                     .payload = mr_span_of(payload),
                                     .qos = 1,
                                     .packet_id = 1,
                                     .retain = retain};
    uint8_t bytes[128];
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(pub, bytes, (size_t)len);
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

static void expect(struct peer *sub, const char *topic, const char *payload, uint8_t qos)
{
    struct mr_mqtt_publish got;

    peer_expect_publish(sub, topic, payload, qos, &got);
    if (qos != 0) {
        peer_ack(sub, got.packet_id);
    }
}

/* Who subscribes now gets this one, retained; NULL: nothing.  It may come before the SUBACK, which
 * waits for the record of a persistent session.
 */
static void expect_retained(const char *payload, bool persistent)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("x/a"), .qos = 1};
    const struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_publish got;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;
    struct peer sub;

    join(&sub, persistent ? "keeps" : "looks", persistent);
    peer_send_subscribe(&sub, &wanted, 0);
    for (int packets = payload == NULL ? 1 : 2; packets > 0; packets--) {
        mr_assert(peer_frame(&sub, &frame));
        if (frame.type == MR_MQTT_SUBACK) {
            mr_assert(frame.body.at[frame.body.len - 1] == 1);
            continue;
        }
        mr_assert(frame.type == MR_MQTT_PUBLISH && payload != NULL);
        mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
        mr_assert(mr_span_is(got.payload, payload) && got.retain);
        mr_assert(got.qos == (persistent ? 0 : 1));
    }
    peer_quiet(&sub);
    peer_close(&sub);
}

static void test_retained(void)
{
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.exclude = "x/#", .checkpoint_ms = 1});
    join(&pub, "pub", false);
    publish(&pub, "x/a", "one", true);
    expect_retained("one", false);
    publish(&pub, "x/a", "two", true);
    mr_assert(mr_lane_next_seq(kit.lane) == 1); /* the journal is empty */
    expect_retained("two", false);
    expect_retained("two", true);
    publish(&pub, "x/a", "", true);
    expect_retained(NULL, false);
    publish(&pub, "x/a", "three", true);
    expect_retained("three", false);
    peer_close(&pub);
    kit_end(&kit, 5000000000);
    kit_begin(&kit);
    expect_retained(NULL, false);
    kit_close(&kit);
}

static void test_group(bool persistent)
{
    struct peer members[2];
    struct peer pub;
    int came = 0;

    kit_open(&kit, &(struct kit_options){.exclude = "x/#"});
    for (int i = 0; i < 2; i++) {
        join(&members[i], i == 0 ? "left" : "right", persistent);
        subscribe(&members[i], "$share/g/+/q");
    }
    join(&pub, "pub", false);
    uint64_t before = mr_lane_next_seq(kit.lane);
    for (int i = 0; i < 4; i++) {
        publish(&pub, "x/q", "job", false);
    }
    mr_assert(mr_lane_next_seq(kit.lane) == before);
    for (int i = 0; i < 2; i++) { /* they take turns */
        for (int job = 0; job < 2; job++) {
            expect(&members[i], "x/q", "job", persistent ? 0 : 1);
            came += 1;
        }
        peer_quiet(&members[i]);
    }
    publish(&pub, "y/q", "job", false);                          /* as ever */
    mr_assert(came == 4 && mr_lane_durable(kit.lane) >= before); /* it is a record */
    peer_close(&pub);
    peer_close(&members[0]);
    peer_close(&members[1]);
    kit_close(&kit);
}

int main(void)
{
    test_retained();
    test_group(false);
    test_group(true);
    (void)puts("what is excluded left nothing behind");
    return 0;
}
