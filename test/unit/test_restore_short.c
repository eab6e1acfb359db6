/* test_restore_short.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a start that says that memory is too small has changed nothing: with more, the next one
 *         finds every message that was acknowledged.
 * Method: many sessions are owed many messages that only the journal has; a start with little
 *         memory, then one with as much as before.
 */
#include "broker_peer.h"

enum { SESSIONS = 20, MESSAGES = 6000, AT_ONCE = 200, BYTES = 100 };

static struct kit kit;

static void join(struct peer *peer, int number, bool present)
{
    char id[16];

    (void)snprintf(id, sizeof(id), "s-%d", number);
    mr_assert(
        peer_join_as(peer, &kit,
                     &(struct peer_connect){
                         .client_id = id, .version = 5, .keep_session = true, .expiry_s = 3600}) ==
        present);
}

static void owe(void)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("d"), .qos = 1};
    struct peer peer;
    char payload[BYTES + 1];

    memset(payload, 'x', BYTES);
    payload[BYTES] = 0;
    for (int i = 0; i < SESSIONS; i++) {
        join(&peer, i, false);
        mr_assert(peer_subscribe(&peer, &wanted, 0) == 1);
        peer_close(&peer);
    }
    peer_join(&peer, &kit, "pub", 5);
    for (int i = 0; i < MESSAGES; i += AT_ONCE) {
        for (int id = 1; id <= AT_ONCE; id++) {
            peer_publish(&peer, "d", payload, 1, (uint16_t)id);
        }
        for (int id = 1; id <= AT_ONCE; id++) {
            mr_assert(peer_expect_puback(&peer, (uint16_t)id) == 0);
        }
    }
    peer_close(&peer);
}

int main(void)
{
    struct mr_broker_stats stats;
    struct mr_error why = {.text = ""};

    kit_open(&kit, &(struct kit_options){.no_store = true,
                                         .memory_bytes = 64 << 20,
                                         .checkpoint_ms = 3600000,
                                         .max_queued_messages = 2 * MESSAGES});
    owe();
    kit_stop_dead(&kit);
    kit.options.no_store = false;
    kit.options.memory_bytes = 4 << 20;
    kit_journal(&kit);
    mr_assert(kit_broker(&kit, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "set a larger `gateway.memory`") != NULL);
    mr_assert(mr_journal_close(kit.journal) == MR_OK);
    kit.options.memory_bytes = 64 << 20;
    kit_begin(&kit);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.queued == (uint64_t)SESSIONS * MESSAGES);
    kit_close(&kit);
    return 0;
}
