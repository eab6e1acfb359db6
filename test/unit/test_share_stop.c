/* test_share_stop.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what a member had not acknowledged when the gateway stops goes to another one whose
 *         session stays, also if the journal had no room a moment before.
 * Method: the shard is told that there is no room, and to stop, in one turn.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

static void stall_and_stop(struct mr_shard *shard, void *arg)
{
    (void)arg;
    shard_stall(shard);
    atomic_store(&shard->broker->stop_deadline_ns, kit_deadline());
    atomic_store(&shard->broker->stop, true);
}

static void join_group(struct peer *peer)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("$share/g/q"), .qos = 1};

    mr_assert(peer_subscribe(peer, &wanted, 0) == 1);
}

int main(void)
{
    struct kit kit;
    struct peer stays;
    struct peer goes;
    struct peer pub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 600000});
    peer_join_kept(&stays, &kit, false);
    join_group(&stays);
    peer_close(&stays);
    peer_join(&goes, &kit, "goes", 5);
    join_group(&goes);
    peer_join(&pub, &kit, "pub", 5);
    peer_publish(&pub, "q", "job", 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_expect_publish(&goes, "q", "job", 1, &got);
    mr_assert(shard_call(kit.broker->shards[0], stall_and_stop, NULL) == MR_OK);
    kit_end(&kit, 5000000000);
    peer_close(&goes);
    peer_close(&pub);
    kit_begin(&kit);
    peer_join_kept(&stays, &kit, true);
    peer_expect_publish(&stays, "q", "job", 1, &got);
    peer_ack(&stays, got.packet_id);
    peer_quiet(&stays);
    peer_close(&stays);
    kit_close(&kit);
    return 0;
}
