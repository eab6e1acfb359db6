/* test_share_window.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what a member of a group may have been sent before a crash stays with it, so that a
 *         message of QoS 2 comes to one member only; what it cannot have been sent goes to others.
 *         Also behind two crashes, where no record says how far the first connection had come, and
 *         the second one had a smaller window.
 * Method: a start that found no room for that record leaves the record of the next connection
 * alone; it is written here, between two lives of the gateway.
 */
#include "broker_peer.h"
#include "journal/control.h"

enum { LARGER = 5, SMALLER = 1, EXPIRY_S = 3600 };

static const char shared[] = "$share/g/q";
static const char *const texts[] = {"0", "1", "2", "3", "4", "5"};

static bool join(struct kit *kit, struct peer *peer, const char *id, uint16_t window)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id,
                                                   .version = 5,
                                                   .keep_session = true,
                                                   .expiry_s = EXPIRY_S,
                                                   .receive_max = window});
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0);
    return connack.session_present;
}

static void subscribe(struct peer *peer)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(shared), .qos = 2};

    mr_assert(peer_subscribe(peer, &wanted, 0) == 2);
}

/* The journal has that the member came again, with a smaller window; nothing else of that life. */
static void come_again(struct kit *kit, const char *id)
{
    const struct mr_control open = {
        .kind = MR_CONTROL_OPEN, .client = mr_span_of(id), .expiry_s = EXPIRY_S, .window = SMALLER};
    uint8_t body[256];
    struct mr_appended out;
    struct mr_wake owner;

    mr_assert(mr_control_size(&open) <= sizeof(body));
    size_t len = (size_t)(mr_control_put(body, &open) - body);
    struct mr_record_raw record = {.type = mr_control_record_type(MR_CONTROL_OPEN),
                                   .received_us = mr_clock_wall_us(),
                                   .body = mr_span_make(body, len)};
    mr_assert(mr_wake_open(&owner, NULL) == MR_OK);
    kit_journal(kit);
    mr_lane_set_owner(kit->lane, &owner);
    mr_assert(mr_lane_append(kit->lane, &record, NULL, &out) == MR_OK);
    while (mr_lane_durable(kit->lane) < out.seq) {
        (void)mr_lane_submit(kit->lane, mr_clock_mono_ns());
        (void)mr_wake_wait(&owner, 1000000);
    }
    mr_assert(mr_journal_close(kit->journal) == MR_OK);
    mr_wake_close(&owner);
}

static void test_behind_two_crashes(void)
{
    struct kit kit;
    struct peer member;
    struct peer other;
    struct peer pub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 60000});
    (void)join(&kit, &member, "member", LARGER);
    subscribe(&member);
    peer_join(&pub, &kit, "pub", 5);
    for (uint16_t i = 0; i <= LARGER; i++) {
        peer_publish(&pub, "q", texts[i], 2, (uint16_t)(i + 1));
        mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, (uint16_t)(i + 1)) == 0);
    }
    for (int i = 0; i < LARGER; i++) {
        peer_expect_publish(&member, "q", texts[i], 2, &got);
    }
    kit_stop_dead(&kit);
    peer_close(&member);
    peer_close(&pub);
    come_again(&kit, "member");
    kit_begin(&kit);
    (void)join(&kit, &other, "other", 0);
    subscribe(&other);
    peer_expect_publish(&other, "q", texts[LARGER], 2, &got);
    mr_assert(!got.dup);
    mr_assert(join(&kit, &member, "member", LARGER));
    for (int i = 0; i < LARGER; i++) {
        peer_expect_publish(&member, "q", texts[i], 2, &got);
        mr_assert(got.dup);
    }
    peer_quiet(&other);
    peer_close(&other);
    peer_close(&member);
    kit_close(&kit);
}

int main(void)
{
    test_behind_two_crashes();
    printf("ok\n");
    return 0;
}
