/* test_share_slots.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a persistent session has at most 255 shared subscriptions, whatever it had before; and
 *         what it is still owed of a group that it left never goes to another group, however many
 *         subscriptions come and go meanwhile, and after a crash; what it was not sent goes to the
 *         others of the group that it leaves.
 * Method: one member that subscribes and unsubscribes, one of another group that must get nothing.
 */
#include "broker_peer.h"

enum { MOST = 255 };

static bool join(struct kit *kit, struct peer *peer, const char *id, uint32_t expiry_s)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id,
                                                   .version = 5,
                                                   .keep_session = expiry_s != 0,
                                                   .expiry_s = expiry_s});
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0);
    return connack.session_present;
}

static uint8_t subscribe(struct peer *peer, const char *filter)
{
    return peer_subscribe(
        peer, &(struct mr_mqtt_subscription){.filter = mr_span_of(filter), .qos = 1}, 0);
}

static void unsubscribe(struct peer *peer, const char *filter)
{
    uint8_t filters[64];
    uint8_t bytes[128];
    struct mr_mqtt_frame frame;
    ptrdiff_t len = mr_mqtt_unsubscription_put(mr_span_of(filter), filters, sizeof(filters));
    struct mr_mqtt_subscribe packet = {.packet_id = 3, .raw = mr_span_make(filters, (size_t)len)};

    len = mr_mqtt_unsubscribe_encode(&packet, 5, bytes, sizeof(bytes));
    peer_write(peer, bytes, (size_t)len);
    mr_assert(peer_frame(peer, &frame) && frame.type == MR_MQTT_UNSUBACK);
}

static void filter_of(char out[32], int number)
{
    (void)snprintf(out, 32, "$share/s/%d", number);
}

static void test_most(uint32_t expiry_s)
{
    struct kit kit;
    struct peer peer;
    char filter[32];

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 5});
    (void)join(&kit, &peer, "many", expiry_s);
    for (int i = 0; i < MOST; i++) {
        filter_of(filter, i);
        mr_assert(subscribe(&peer, filter) == 1);
    }
    if (expiry_s == 0) {
        mr_assert(subscribe(&peer, "$share/s/more") == 1);
    } else {
        mr_assert(subscribe(&peer, "$share/s/more") == MR_MQTT_QUOTA_EXCEEDED);
        mr_assert(subscribe(&peer, filter) == 1); /* it has that one */
        mr_assert(subscribe(&peer, "ordinary") == 1);
        unsubscribe(&peer, "$share/s/7");
        mr_assert(subscribe(&peer, "$share/s/more") == 1);
        mr_assert(subscribe(&peer, "$share/s/7") == MR_MQTT_QUOTA_EXCEEDED);
    }
    peer_close(&peer);
    kit_close(&kit);
}

static void test_left_group(bool crashes)
{
    struct kit kit;
    struct peer keeps;
    struct peer other;
    struct peer pub;
    struct mr_mqtt_publish got;
    char filter[32];

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = crashes ? 100000 : 5});
    (void)join(&kit, &keeps, "keeps", 3600);
    mr_assert(subscribe(&keeps, "$share/g/q") == 1);
    peer_join(&pub, &kit, "pub", 5);
    peer_publish(&pub, "q", "of g", 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_close(&pub);
    peer_expect_publish(&keeps, "q", "of g", 1, &got);
    unsubscribe(&keeps, "$share/g/q");
    for (int i = 0; i < MOST - 1; i++) {
        filter_of(filter, i);
        mr_assert(subscribe(&keeps, filter) == 1);
        unsubscribe(&keeps, filter);
    }
    mr_assert(subscribe(&keeps, "$share/h/r") == 1);
    if (crashes) {
        kit_crash(&kit);
    }
    (void)join(&kit, &other, "other", 0);
    mr_assert(subscribe(&other, "$share/h/r") == 1);
    peer_close(&keeps);
    mr_assert(join(&kit, &keeps, "keeps", 3600));
    peer_expect_publish(&keeps, "q", "of g", 1, &got);
    peer_quiet(&other);
    peer_close(&other);
    peer_close(&keeps);
    kit_close(&kit);
}

/* A member that reads slowly leaves the group, and then its session ends: others have what it was
 * not sent.
 */
static void test_leaves_and_ends(bool crashes)
{
    struct kit kit;
    struct peer leaves;
    struct peer stays;
    struct peer pub;
    struct mr_mqtt_publish got;
    struct mr_mqtt_connack connack;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = crashes ? 100000 : 5});
    (void)join(&kit, &stays, "stays", 3600);
    mr_assert(subscribe(&stays, "$share/g/q") == 1);
    peer_close(&stays);
    peer_open(&leaves, &kit);
    peer_send_connect(&leaves, &(struct peer_connect){.client_id = "leaves",
                                                      .version = 5,
                                                      .keep_session = true,
                                                      .expiry_s = 3600,
                                                      .receive_max = 1});
    peer_expect_connack(&leaves, &connack);
    mr_assert(subscribe(&leaves, "$share/g/q") == 1);
    peer_join(&pub, &kit, "pub", 5);
    peer_publish(&pub, "q", "sent", 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_publish(&pub, "q", "not sent", 1, 2);
    mr_assert(peer_expect_puback(&pub, 2) == 0);
    peer_close(&pub);
    peer_expect_publish(&leaves, "q", "sent", 1, &got);
    peer_quiet(&leaves);
    unsubscribe(&leaves, "$share/g/q");
    if (crashes) {
        kit_crash(&kit);
    }
    peer_close(&leaves);
    peer_join(&leaves, &kit, "leaves", 5);
    mr_assert(join(&kit, &stays, "stays", 3600));
    peer_expect_publish(&stays, "q", "not sent", 1, &got);
    peer_quiet(&stays);
    peer_close(&stays);
    peer_close(&leaves);
    kit_close(&kit);
}

int main(void)
{
    test_most(0);
    test_most(3600);
    test_left_group(false);
    test_left_group(true);
    test_leaves_and_ends(false);
    test_leaves_and_ends(true);
    printf("ok\n");
    return 0;
}
