/* test_session_overlap.c
 * links: broker net store journal codec config os base
 *
 * Goal:   another `overlapping` after a crash, or after a clean stop, changes nothing of what was
 * owed before: the same deliveries under the same packet ids; and it holds from then on. Method: a
 * client with two filters that match, away and back; crashes by a copy of the disk.
 */
#include "broker_peer.h"

static void join(struct kit *kit, struct peer *peer, bool present)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(peer,
                      &(struct peer_connect){
                          .client_id = "c", .version = 5, .keep_session = true, .expiry_s = 3600});
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0 && connack.session_present == present);
}

static void publish(struct kit *kit, const char *payload)
{
    struct peer pub;

    peer_join(&pub, kit, "pub", 5);
    peer_publish(&pub, "t/x", payload, 2, 1);
    mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 1) == 0);
    peer_close(&pub);
}

/* What it is owed from the beginning, and no more. */
static void expect_owed(struct kit *kit, const char *const *payloads, size_t count)
{
    struct peer peer;
    struct mr_mqtt_publish got;

    join(kit, &peer, true);
    for (size_t i = 0; i < count; i++) {
        peer_expect_publish(&peer, "t/x", payloads[i], 2, &got);
        mr_assert(got.packet_id == i + 1);
    }
    peer_quiet(&peer);
    peer_close(&peer);
}

static void stop(struct kit *kit, bool clean, uint32_t overlapping)
{
    kit->options.overlapping = overlapping;
    if (clean) {
        kit_end(kit, 5000000000);
        kit_begin(kit);
    } else {
        kit_crash(kit);
    }
}

static void test_change(uint32_t lanes, bool no_store, bool clean)
{
    static const char *const payloads[] = {"1", "1", "2", "2", "3", "4", "4"};
    struct mr_mqtt_subscription filters[] = {{.filter = mr_span_of("t/+"), .qos = 2},
                                             {.filter = mr_span_of("t/#"), .qos = 2}};
    struct kit kit;
    struct peer peer;

    kit_open(&kit,
             &(struct kit_options){.lanes = lanes, .no_store = no_store, .checkpoint_ms = 100000});
    join(&kit, &peer, false);
    mr_assert(peer_subscribe(&peer, &filters[0], 0) == 2);
    mr_assert(peer_subscribe(&peer, &filters[1], 0) == 2);
    peer_close(&peer);
    publish(&kit, "1");
    publish(&kit, "2");
    stop(&kit, clean, MR_OVERLAPPING_MERGED);
    expect_owed(&kit, payloads, 4);
    publish(&kit, "3");
    stop(&kit, clean, MR_OVERLAPPING_EACH);
    expect_owed(&kit, payloads, 5);
    publish(&kit, "4");
    stop(&kit, clean, MR_OVERLAPPING_MERGED);
    expect_owed(&kit, payloads, 7);
    kit_close(&kit);
}

/* One copy for all: with the highest QoS of those that want it, RETAIN if one wants that, and of
 * its own messages what the subscription without No Local brings.
 */
static void test_options_of_merged(bool persistent)
{
    struct mr_mqtt_subscription filters[] = {
        {.filter = mr_span_of("t/+"), .qos = 2, .no_local = true},
        {.filter = mr_span_of("t/#"), .qos = 1, .retain_as_published = true},
        {.filter = mr_span_of("own/#"), .qos = 1, .no_local = true}};
    struct mr_mqtt_publish got;
    struct mr_mqtt_connack connack;
    struct kit kit;
    struct peer peer;
    struct peer pub;
    uint8_t bytes[64];

    kit_open(&kit, &(struct kit_options){.overlapping = MR_OVERLAPPING_MERGED});
    peer_open(&peer, &kit);
    peer_send_connect(&peer, &(struct peer_connect){.client_id = "c",
                                                    .version = 5,
                                                    .keep_session = persistent,
                                                    .expiry_s = persistent ? 3600 : 0});
    peer_expect_connack(&peer, &connack);
    for (size_t i = 0; i < MR_COUNT_OF(filters); i++) {
        mr_assert(peer_subscribe(&peer, &filters[i], 0) == filters[i].qos);
    }
    peer_join(&pub, &kit, "pub", 5);
    const struct mr_mqtt_publish retained = {.topic = mr_span_of("t/x"),
                                             .payload = mr_span_of("other"),
                                             .qos = 2,
                                             .packet_id = 1,
                                             .retain = true};
    ptrdiff_t len = mr_mqtt_publish_encode(&retained, 5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(&pub, bytes, (size_t)len);
    mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 1) == 0);
    peer_expect_publish(&peer, "t/x", "other", 2, &got);
    mr_assert(got.retain);
    peer_publish(&peer, "own/x", "own", 1, 1); /* no copy at all */
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    peer_publish(&peer, "t/x", "own", 1, 1);
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    peer_expect_publish(&peer, "t/x", "own", 1, &got);
    mr_assert(!got.retain);
    peer_publish(&pub, "own/x", "other", 1, 2);
    mr_assert(peer_expect_puback(&pub, 2) == 0);
    peer_expect_publish(&peer, "own/x", "other", 1, &got);
    peer_quiet(&peer);
    peer_close(&pub);
    peer_close(&peer);
    kit_close(&kit);
}

int main(void)
{
    mr_log_set_level(MR_LOG_ERROR);
    test_options_of_merged(true);
    test_options_of_merged(false);
    for (uint32_t lanes = 1; lanes <= 3; lanes += 2) {
        test_change(lanes, false, false);
        test_change(lanes, false, true);
    }
    test_change(1, true, false);
    printf("ok\n");
    return 0;
}
