/* test_rate_reload.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a reload that takes a rate away, or raises it, lets go on at once who is held by the old
 *         one, however long that would have been.
 * Method: a real broker, whose limits are exchanged while a publisher is held for an hour.
 */
#include "broker_peer.h"

enum { BIG = 1500, COUNT = 20 };

static void reload(struct kit *kit, uint64_t bytes_rate)
{
    struct mr_error why = {.text = ""};

    kit->limits.bytes_rate = bytes_rate;
    kit->limits.bytes_burst = bytes_rate;
    if (kit_reload(kit, &why) != MR_OK) {
        kit_fail("reload", &why);
    }
}

static uint64_t received(const struct kit *kit)
{
    struct mr_broker_stats stats;

    mr_broker_stats(kit->broker, &stats);
    return stats.publishes_received;
}

int main(void)
{
    static char payload[BIG + 1];
    struct kit kit;
    struct peer pub;

    memset(payload, 'x', BIG);
    kit_open(&kit, &(struct kit_options){0});
    peer_join(&pub, &kit, "pub", 4);
    reload(&kit, 1); /* the second one has to wait for 25 minutes */
    for (uint16_t id = 1; id <= COUNT; id++) {
        peer_publish(&pub, "plant/a", payload, 1, id);
    }
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    mr_assert(received(&kit) < COUNT);
    reload(&kit, 0);
    for (uint16_t id = 2; id <= COUNT; id++) {
        mr_assert(peer_expect_puback(&pub, id) == 0);
    }
    peer_close(&pub);
    kit_close(&kit);
    return 0;
}
