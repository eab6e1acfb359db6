/* test_retained_order.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   who subscribes while messages of a topic wait for the disk is left with the newest one:
 *         none that is older than the subscription comes live behind what it brings.  What another
 *         shard has on its way to the disk is not read up, however long that takes: until then it
 *         is not forgotten what was cleared (cleared.c).
 * Method: the journal commits by hand.  An earlier subscriber has the first message wait for its
 *         delivery; the second is retained with nobody there; then somebody else subscribes.  (The
 *         simulator found it: seed 1028596 of the third world.)
 */
#include "broker/foreign_internal.h"
#include "broker/keep_internal.h"
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

static void ask_read_up(struct mr_shard *shard, void *arg)
{
    *(bool *)arg = foreign_is_read_up(shard);
}

static bool is_read_up(const struct kit *kit)
{
    bool read_up = false;

    mr_assert(shard_call(kit->broker->shards[0], ask_read_up, &read_up) == MR_OK);
    return read_up;
}

static void test_under_way(void)
{
    struct kit kit;
    struct peer pub;
    char id[] = "a";

    kit_open(&kit, &(struct kit_options){.manual = true, .lanes = 2});
    while (mr_journal_home(kit.journal, mr_span_of(id)) != 1) {
        id[0] += 1;
    }
    peer_join(&pub, &kit, id, MR_MQTT_5);
    mr_assert(is_read_up(&kit));
    retain(&pub, "new", 1);
    mr_assert(!is_read_up(&kit));
    int64_t deadline = kit_deadline();
    while (!is_read_up(&kit)) {
        for (uint32_t lane = 0; lane < 2; lane++) {
            (void)mr_lane_step_commit(mr_journal_lane(kit.journal, lane));
        }
        kit_patience(deadline, "the lane to be read");
    }
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_close(&pub);
    kit_close(&kit);
}

int main(void)
{
    test_under_way();
    test_order(MR_OVERLAPPING_EACH);
    test_order(MR_OVERLAPPING_MERGED);
    (void)puts("retained order: ok");
    return 0;
}
