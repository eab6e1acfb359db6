/* test_broker_idle.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what docs/MEMORY.md says of one idle connection: nothing is lent but its session, one
 *         buffer of 128 bytes with an id of up to 32 bytes; and its topic, once it has published.
 * Method: the shard's pool is asked what it has lent, at two counts of connections.
 */
#include "broker/broker_internal.h"
#include "broker_peer.h"
#include "net/net_internal.h"

enum {
    FEW = 20,
    MANY = 220,
    SESSION_BYTES = 128,
    CONNECTION_BYTES = 288, /* of the net, in chunks: conn and client */
    TOPIC_BYTES = 128,      /* what a publisher's topic is known by */
};

static void look(struct mr_shard *shard, void *arg)
{
    *(size_t *)arg = shard->pool.lent_bytes;
}

static size_t lent_bytes(struct kit *kit)
{
    size_t lent = 0;

    mr_assert(shard_call(broker_shard(kit->broker, 0), look, &lent) == MR_OK);
    return lent;
}

static void test_idle(bool busy_before)
{
    struct kit kit;
    static struct peer peers[MANY];
    size_t few = 0;

    kit_open(&kit, &(struct kit_options){0});
    for (int i = 0; i < MANY; i++) {
        char id[40];

        if (i == FEW) {
            few = lent_bytes(&kit);
        }
        (void)snprintf(id, sizeof(id), "device-%025d", i); /* 32 bytes */
        peer_join(&peers[i], &kit, id, i % 2 == 0 ? 4 : 5);
        if (busy_before) {
            peer_publish(&peers[i], "plant/1", "x", 1, 1);
            mr_assert(peer_expect_puback(&peers[i], 1) == 0);
            peer_quiet(&peers[i]);
        }
    }
    size_t each = (lent_bytes(&kit) - few) / (MANY - FEW);
    mr_assert(each == SESSION_BYTES + (busy_before ? TOPIC_BYTES : 0));
    for (int i = 0; i < MANY; i++) {
        peer_close(&peers[i]);
    }
    kit_close(&kit);
}

int main(void)
{
    mr_assert(sizeof(struct mr_conn) + sizeof(struct client) <= CONNECTION_BYTES);
    test_idle(false);
    test_idle(true);
    return 0;
}
