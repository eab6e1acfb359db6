/* test_broker_subscribe.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a SUBSCRIBE that is too much leaves nothing behind, in the tree as in groups; the bound
 * of subscriptions counts those there are and no second time those that are renewed; an answer that
 * the client does not take ends it before anything has been done. Method: requests built filter by
 * filter; messages that show who is subscribed.
 */
#include "broker_peer.h"

enum { MANY = 9900, RAW_BYTES = 64 << 10 };

struct request {
    uint8_t raw[RAW_BYTES];
    size_t len;
};

static struct request request;
static uint8_t packet_bytes[RAW_BYTES + 64];

static void wanted_add(const char *filter, uint8_t qos)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = qos};
    ptrdiff_t len = mr_mqtt_subscription_put(&wanted, request.raw + request.len,
                                             sizeof(request.raw) - request.len);

    mr_assert(len > 0);
    request.len += (size_t)len;
}

static void unwanted_add(const char *filter)
{
    ptrdiff_t len = mr_mqtt_unsubscription_put(mr_span_of(filter), request.raw + request.len,
                                               sizeof(request.raw) - request.len);

    mr_assert(len > 0);
    request.len += (size_t)len;
}

/* What was added, in one packet of this type; there is nothing added any more. */
static void request_send(struct peer *peer, uint8_t type, uint32_t subscription_id)
{
    struct mr_mqtt_subscribe packet = {.packet_id = 7,
                                       .raw = mr_span_make(request.raw, request.len)};

    if (subscription_id != 0) {
        packet.props.subscription_id = subscription_id;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_SUBSCRIPTION_ID);
    }
    ptrdiff_t len =
        type == MR_MQTT_SUBSCRIBE
            ? mr_mqtt_subscribe_encode(&packet, peer->version, packet_bytes, sizeof(packet_bytes))
            : mr_mqtt_unsubscribe_encode(&packet, peer->version, packet_bytes,
                                         sizeof(packet_bytes));
    mr_assert(len > 0);
    peer_write(peer, packet_bytes, (size_t)len);
    request.len = 0;
}

/* The codes of the next packet, a SUBACK or UNSUBACK. */
static struct mr_span codes_expect(struct peer *peer, uint8_t type)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_suback answer;
    struct mr_mqtt_why why;

    mr_assert(peer_frame(peer, &frame) && frame.type == type);
    mr_assert(mr_mqtt_suback_decode(&frame, peer->version, &answer, &why) == MR_OK);
    mr_assert(answer.packet_id == 7);
    return answer.codes;
}

static void join(struct kit *kit, struct peer *peer, const char *id, uint32_t packet_max)
{
    struct mr_mqtt_connect packet = {
        .version = MR_MQTT_5, .client_id = mr_span_of(id), .clean_start = true};
    struct mr_mqtt_connack connack;

    packet.props.session_expiry_s = 3600;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    if (packet_max != 0) {
        packet.props.packet_max = packet_max;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_PACKET_MAX);
    }
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, packet_bytes, sizeof(packet_bytes));
    mr_assert(len > 0);
    peer_open(peer, kit);
    peer->version = MR_MQTT_5;
    peer_write(peer, packet_bytes, (size_t)len);
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == MR_MQTT_SUCCESS);
}

static void publish(struct peer *pub, const char *topic, const char *payload)
{
    peer_publish(pub, topic, payload, 1, 1);
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

static void expect(struct peer *sub, const char *topic, const char *payload)
{
    struct mr_mqtt_publish got;

    peer_expect_publish(sub, topic, payload, 1, &got);
    peer_ack(sub, got.packet_id);
}

/* MANY filters of three letters: AAA, AAB ... */
static void many_add(void)
{
    enum { LETTERS = 22 };

    for (int i = 0; i < MANY; i++) {
        char filter[4] = {(char)('A' + i / LETTERS / LETTERS), (char)('A' + i / LETTERS % LETTERS),
                          (char)('A' + i % LETTERS), 0};
        wanted_add(filter, 1);
    }
}

/* Larger than a record: each filter is refused, and the member that it would have made of the
 * client takes no turn; what there was before stays as it was.
 */
static void test_more_filters_than_a_record_holds(void)
{
    struct kit kit;
    struct peer large;
    struct peer member;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.segment_bytes = 256 << 10, .max_packet_size = 60000});
    join(&kit, &large, "large", 0);
    join(&kit, &member, "member", 0);
    peer_join(&pub, &kit, "pub", 5);
    wanted_add("old", 1);
    request_send(&large, MR_MQTT_SUBSCRIBE, 0);
    mr_assert(codes_expect(&large, MR_MQTT_SUBACK).at[0] == 1);
    wanted_add("$share/g/job", 1);
    request_send(&member, MR_MQTT_SUBSCRIBE, 0);
    mr_assert(codes_expect(&member, MR_MQTT_SUBACK).at[0] == 1);

    wanted_add("$share/g/job", 1);
    wanted_add("old", 1);
    many_add();
    request_send(&large, MR_MQTT_SUBSCRIBE, 268435455);
    struct mr_span codes = codes_expect(&large, MR_MQTT_SUBACK);
    mr_assert(codes.len == MANY + 2);
    for (size_t i = 0; i < codes.len; i++) {
        mr_assert(codes.at[i] == MR_MQTT_QUOTA_EXCEEDED);
    }
    for (int i = 0; i < 4; i++) {
        publish(&pub, "job", "x");
        expect(&member, "job", "x");
    }
    publish(&pub, "NET", "new");
    publish(&pub, "old", "there");
    expect(&large, "old", "there");
    peer_quiet(&large);
    peer_close(&large);
    peer_close(&member);
    peer_close(&pub);
    kit_close(&kit);
}

static void test_the_bound_of_subscriptions(void)
{
    struct kit kit;
    struct mr_error why = {.text = ""};
    struct peer sub;

    kit_open(&kit, &(struct kit_options){0});
    kit.limits.max_subscriptions = 3;
    mr_assert(kit_reload(&kit, &why) == MR_OK);
    join(&kit, &sub, "sub", 0);
    wanted_add("a", 1);
    wanted_add("$share/g/b", 1);
    wanted_add("a", 0); /* the same again is none more */
    wanted_add("c", 1);
    wanted_add("d", 1);
    request_send(&sub, MR_MQTT_SUBSCRIBE, 0);
    struct mr_span codes = codes_expect(&sub, MR_MQTT_SUBACK);
    mr_assert(codes.len == 5 && codes.at[0] == 1 && codes.at[1] == 1 && codes.at[2] == 0);
    mr_assert(codes.at[3] == 1 && codes.at[4] == MR_MQTT_QUOTA_EXCEEDED);
    unwanted_add("$share/g/b");
    unwanted_add("d");
    request_send(&sub, MR_MQTT_UNSUBSCRIBE, 0);
    codes = codes_expect(&sub, MR_MQTT_UNSUBACK);
    mr_assert(codes.len == 2 && codes.at[0] == 0 && codes.at[1] == MR_MQTT_NO_SUBSCRIPTION_EXISTED);
    wanted_add("d", 1);
    wanted_add("e", 1);
    request_send(&sub, MR_MQTT_SUBSCRIBE, 0);
    codes = codes_expect(&sub, MR_MQTT_SUBACK);
    mr_assert(codes.at[0] == 1 && codes.at[1] == MR_MQTT_QUOTA_EXCEEDED);
    peer_close(&sub);
    kit_close(&kit);
}

/* Its answer would be larger than what it takes: the end, and nothing has been done, for its
 * session has what it had when it comes back.
 */
static void test_answers_that_the_client_does_not_take(uint8_t type)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_connack connack;
    char filter[16];

    kit_open(&kit, &(struct kit_options){0});
    join(&kit, &sub, "sub", 100);
    peer_join(&pub, &kit, "pub", 5);
    wanted_add("kept", 1);
    request_send(&sub, MR_MQTT_SUBSCRIBE, 0);
    mr_assert(codes_expect(&sub, MR_MQTT_SUBACK).at[0] == 1);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(filter, sizeof(filter), "f/%d", i);
        if (type == MR_MQTT_SUBSCRIBE) {
            wanted_add(filter, 1);
        } else {
            unwanted_add(i == 0 ? "kept" : filter);
        }
    }
    request_send(&sub, type, 0);
    peer_expect_disconnect(&sub, MR_MQTT_PACKET_TOO_LARGE);
    peer_close(&sub);
    publish(&pub, "f/1", "x");
    publish(&pub, "kept", "y");
    peer_open(&sub, &kit);
    peer_send_connect(
        &sub, &(struct peer_connect){
                  .client_id = "sub", .version = 5, .keep_session = true, .expiry_s = 3600});
    peer_expect_connack(&sub, &connack);
    mr_assert(connack.session_present);
    expect(&sub, "kept", "y");
    peer_quiet(&sub);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

static void test_an_unsubscribe_that_is_none(void)
{
    struct kit kit;
    struct peer sub;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&sub, &kit, "sub", 5);
    peer_write(&sub, "\xa2\x03\x00\x07\x00", 5); /* no filter [MQTT-3.10.3-2] */
    peer_expect_disconnect(&sub, MR_MQTT_PROTOCOL_ERROR);
    peer_close(&sub);
    kit_close(&kit);
}

int main(void)
{
    test_more_filters_than_a_record_holds();
    test_the_bound_of_subscriptions();
    test_answers_that_the_client_does_not_take(MR_MQTT_SUBSCRIBE);
    test_answers_that_the_client_does_not_take(MR_MQTT_UNSUBSCRIBE);
    test_an_unsubscribe_that_is_none();
    return 0;
}
