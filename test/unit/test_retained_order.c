/* test_retained_order.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   who subscribes while messages of a topic wait for the disk is left with the newest one:
 *         none that is older than the subscription comes live behind what it brings.
 * Method: the journal commits by hand.  An earlier subscriber has the first message wait for its
 *         delivery; the second is retained with nobody there; then somebody else subscribes.  (The
 *         simulator found it: seed 1028596 of the third world.)
 */
#include "broker_peer.h"

static void retain(struct peer *peer, const char *payload, uint16_t packet_id)
{
    uint8_t bytes[128];
    const struct mr_mqtt_publish packet = {.topic = mr_span_of("state"),
                                           .payload = mr_span_of(payload),
                                           .qos = 1,
                                           .packet_id = packet_id,
                                           .retain = true};
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, peer->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
    peer_quiet(peer);
}

static void test_order(enum mr_overlapping overlapping)
{
    const struct mr_mqtt_subscription all = {.filter = mr_span_of("#"), .qos = 1};
    struct kit kit;
    struct peer pub;
    struct peer early;
    struct peer late;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.manual = true, .overlapping = overlapping});
    peer_join(&pub, &kit, "pub", MR_MQTT_5);
    peer_join(&early, &kit, "early", MR_MQTT_5);
    mr_assert(peer_subscribe(&early, &all, 0) == 1);
    retain(&pub, "old", 1);
    peer_close(&early);
    peer_quiet(&pub);
    retain(&pub, "new", 2);
    peer_join(&late, &kit, "late", MR_MQTT_5);
    mr_assert(peer_subscribe(&late, &all, 0) == 1);
    peer_expect_publish(&late, "state", "new", 1, &got);
    mr_assert(got.retain);
    peer_ack(&late, got.packet_id);
    retain(&pub, "newest", 3); /* the subscription is older: it comes live */
    kit_commit(&kit, mr_lane_next_seq(kit.lane) - 1);
    for (uint16_t id = 1; id <= 3; id++) {
        mr_assert(peer_expect_puback(&pub, id) == 0);
    }
    peer_expect_publish(&late, "state", "newest", 1, &got);
    mr_assert(!got.retain);
    peer_ack(&late, got.packet_id);
    peer_quiet(&late);
    peer_close(&pub);
    peer_close(&late);
    kit_close(&kit);
}

int main(void)
{
    test_order(MR_OVERLAPPING_EACH);
    test_order(MR_OVERLAPPING_MERGED);
    (void)puts("retained order: ok");
    return 0;
}
