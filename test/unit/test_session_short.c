/* test_session_short.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a start with less memory than the journal's tail has messages that are owed loses none:
 *         without a store it is refused and says what to set, and with that all is there; with one
 *         it writes to the store on the way, and begins.
 * Method: a real broker with much memory, whose machine stops before a checkpoint.
 */
#include "broker_peer.h"

enum { BATCHES = 6, BATCH = 500, BYTES = 1500, MUCH = 64 << 20, LITTLE = 4 << 20 };

static char payload[BYTES + 1];

static void publish_all(struct kit *kit)
{
    struct peer pub;

    peer_join(&pub, kit, "pub", 5);
    for (int batch = 0; batch < BATCHES; batch++) {
        for (uint16_t i = 1; i <= BATCH; i++) {
            peer_publish(&pub, "t", payload, 1, i);
        }
        for (uint16_t i = 1; i <= BATCH; i++) {
            mr_assert(peer_expect_puback(&pub, i) == 0);
        }
    }
    peer_close(&pub);
}

static void take_all(struct kit *kit)
{
    struct mr_mqtt_publish got;
    struct peer sub;

    peer_join_kept(&sub, kit, true);
    for (int i = 0; i < BATCHES * BATCH; i++) {
        peer_expect_publish(&sub, "t", payload, 1, &got);
        peer_ack(&sub, got.packet_id);
    }
    peer_quiet(&sub);
    peer_close(&sub);
}

static void test_start(bool no_store)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("t"), .qos = 1};
    struct mr_error why = {.text = ""};
    struct peer sub;
    struct kit kit;

    kit_open(&kit, &(struct kit_options){.no_store = no_store,
                                         .memory_bytes = MUCH,
                                         .checkpoint_ms = 1000000,
                                         .max_queued_messages = 10000});
    peer_join_kept(&sub, &kit, false);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_close(&sub);
    publish_all(&kit);
    kit_stop_dead(&kit);
    kit.options.memory_bytes = LITTLE;
    kit_journal(&kit);
    enum mr_err err = kit_broker(&kit, &why);
    if (no_store) {
        mr_assert(err == MR_ERR_CONFIG && strstr(why.text, "gateway.memory") != NULL);
        mr_assert(mr_journal_close(kit.journal) == MR_OK);
        kit.options.memory_bytes = MUCH;
        kit_begin(&kit);
    } else {
        mr_assert(err == MR_OK && mr_broker_start(kit.broker, &why) == MR_OK);
    }
    take_all(&kit);
    kit_close(&kit);
}

int main(void)
{
    mr_log_set_level(MR_LOG_ERROR);
    memset(payload, 'x', BYTES);
    test_start(true);
    test_start(false);
    return 0;
}
