/* test_session_flight.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what a persistent session was sent and has not acknowledged is not what waits for it:
 *         `max_queued_messages` drops nothing of it while the client is away [MQTT-4.4.0-1].
 * Method: a real broker and journal with a short queue, a subscriber that vanishes with more under
 *         way than the queue holds, with and without a crash (broker_kit.h).
 */
#include "broker_peer.h"

enum { QUEUE = 5, FLIGHT = 12, MORE = 8 };

/* Number `i` to the topic, and acknowledged. */
static void tell(struct peer *pub, int i)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "%d", i);
    peer_publish(pub, "f", text, 1, 1);
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

static uint16_t expect(struct peer *sub, int i, uint8_t qos, bool dup)
{
    struct mr_mqtt_publish got;
    char text[16];

    (void)snprintf(text, sizeof(text), "%d", i);
    peer_expect_publish(sub, "f", text, qos, &got);
    mr_assert(got.dup == dup);
    return got.packet_id;
}

static void begin(struct kit *kit, struct peer *sub, struct peer *pub, uint8_t qos)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("f"), .qos = qos};

    kit_open(kit, &(struct kit_options){.max_queued_messages = QUEUE});
    peer_join_kept(sub, kit, false);
    mr_assert(peer_subscribe(sub, &wanted, 0) == qos);
    peer_join(pub, kit, "pub", 5);
}

/* The subscriber vanishes, more comes, and perhaps the machine stops. */
static void away(struct kit *kit, struct peer *sub, struct peer *pub, bool crash)
{
    peer_close(sub);
    for (int i = FLIGHT; i < FLIGHT + MORE; i++) {
        tell(pub, i);
    }
    peer_quiet(pub); /* a turn later: what was dropped is in the journal, with the next */
    peer_publish(pub, "elsewhere", "x", 1, 1);
    mr_assert(peer_expect_puback(pub, 1) == 0);
    peer_close(pub);
    if (crash) {
        kit_crash(kit);
    }
}

/* Sent with QoS 1: all of it again, and then as many as may wait. */
static void test_sent(bool crash)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    uint16_t ids[FLIGHT];

    begin(&kit, &sub, &pub, 1);
    for (int i = 0; i < FLIGHT; i++) {
        tell(&pub, i);
        ids[i] = expect(&sub, i, 1, false);
    }
    away(&kit, &sub, &pub, crash);
    peer_join_kept(&sub, &kit, true);
    for (int i = 0; i < FLIGHT; i++) {
        mr_assert(expect(&sub, i, 1, true) == ids[i]);
    }
    for (int i = FLIGHT; i < FLIGHT + QUEUE; i++) {
        (void)expect(&sub, i, 1, false);
    }
    peer_quiet(&sub);
    peer_close(&sub);
    kit_close(&kit);
}

/* Each PUBREL again, in order, and those that waited, in order; one kind may pass the other. */
static void expect_rest(struct peer *sub, const uint16_t *ids)
{
    int released = 0;
    int sent = FLIGHT;

    while (released < FLIGHT || sent < FLIGHT + QUEUE) {
        struct mr_mqtt_frame frame;
        mr_assert(peer_frame(sub, &frame));
        sub->begin -= frame.total_bytes; /* it is looked at again */
        if (frame.type == MR_MQTT_PUBREL) {
            mr_assert(released < FLIGHT);
            (void)peer_expect_ack(sub, MR_MQTT_PUBREL, ids[released]);
            peer_send_ack(sub, MR_MQTT_PUBCOMP, ids[released]);
            released += 1;
        } else {
            mr_assert(sent < FLIGHT + QUEUE);
            (void)expect(sub, sent, 1, false);
            sent += 1;
        }
    }
}

/* QoS 2, with PUBREC and without PUBCOMP: a subscriber that hands a message on when PUBREL comes
 * would lose those of which none came.
 */
static void test_released(bool crash)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    uint16_t ids[FLIGHT];

    begin(&kit, &sub, &pub, 2);
    for (int i = 0; i < FLIGHT; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", i);
        peer_publish(&pub, "f", text, 2, 1);
        (void)peer_expect_ack(&pub, MR_MQTT_PUBREC, 1);
        peer_send_ack(&pub, MR_MQTT_PUBREL, 1);
        (void)peer_expect_ack(&pub, MR_MQTT_PUBCOMP, 1);
        ids[i] = expect(&sub, i, 2, false);
        peer_send_ack(&sub, MR_MQTT_PUBREC, ids[i]);
        (void)peer_expect_ack(&sub, MR_MQTT_PUBREL, ids[i]);
    }
    away(&kit, &sub, &pub, crash);
    peer_join_kept(&sub, &kit, true);
    expect_rest(&sub, ids);
    peer_quiet(&sub);
    peer_close(&sub);
    kit_close(&kit);
}

int main(void)
{
    test_sent(false);
    test_sent(true);
    test_released(false);
    test_released(true);
    return 0;
}
