/* test_share_late.c
 * links: broker net store journal codec config os base
 *
 * Goal:   who joins a group is given nothing that others of it had before, after a crash neither,
 *         also if they were members for as long as they were connected, of whom no record tells.
 * Method: a crash by a copy of the disk, before any checkpoint.
 */
#include "broker_peer.h"

static void join_group(struct peer *peer)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("$share/g/q"), .qos = 2};

    mr_assert(peer_subscribe(peer, &wanted, 0) == 2);
}

int main(void)
{
    struct kit kit;
    struct peer early;
    struct peer late;
    struct peer pub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 600000});
    peer_join(&early, &kit, "early", 5);
    join_group(&early);
    peer_join(&pub, &kit, "pub", 5);
    peer_publish(&pub, "q", "had", 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_expect_publish(&early, "q", "had", 1, &got);
    peer_ack(&early, got.packet_id);
    peer_quiet(&early);
    peer_join_kept(&late, &kit, false);
    join_group(&late);
    peer_close(&early);
    peer_quiet(&late);
    peer_close(&late);
    kit_crash(&kit);
    peer_close(&pub);
    peer_join_kept(&late, &kit, true);
    peer_join(&pub, &kit, "pub", 5);
    peer_publish(&pub, "q", "new", 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_expect_publish(&late, "q", "new", 1, &got);
    peer_ack(&late, got.packet_id);
    peer_quiet(&late);
    peer_close(&late);
    peer_close(&pub);
    kit_close(&kit);
    return 0;
}
