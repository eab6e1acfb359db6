/* test_broker_connect.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what a listener bounds is refused at CONNECT with the reason that says which bound, in
 *         both versions; what is agreed (keep alive, expiry, response information) is what CONNACK
 *         tells, and no more of it than the client takes.
 * Method: one broker whose limits are changed and read again; the fields of each CONNACK.
 */
#include "broker_peer.h"

static struct kit kit;

static void limits_now(struct mr_broker_limits limits)
{
    struct mr_error why = {.text = ""};

    kit.limits = limits;
    mr_assert(kit_reload(&kit, &why) == MR_OK);
}

static struct mr_mqtt_connect connect_of(const char *id)
{
    return (struct mr_mqtt_connect){
        .version = MR_MQTT_5, .client_id = mr_span_of(id), .clean_start = true};
}

/* Send it; the CONNACK, whose spans stay until the peer reads again. */
static void connect_with(struct peer *peer, const struct mr_mqtt_connect *packet,
                         struct mr_mqtt_connack *connack)
{
    static uint8_t bytes[1024];
    ptrdiff_t len = mr_mqtt_connect_encode(packet, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_open(peer, &kit);
    peer->version = packet->version;
    peer_write(peer, bytes, (size_t)len);
    peer_expect_connack(peer, connack);
}

static void refused_with(const struct mr_mqtt_connect *packet, uint8_t reason)
{
    struct peer peer;
    struct mr_mqtt_connack connack;

    connect_with(&peer, packet, &connack);
    if (connack.reason != reason) {
        fprintf(stderr, "CONNACK 0x%02x, expected 0x%02x\n", connack.reason, reason);
        abort();
    }
    peer_expect_closed(&peer);
    peer_close(&peer);
}

static void accepted(const struct mr_mqtt_connect *packet)
{
    struct peer peer;
    struct mr_mqtt_connack connack;

    connect_with(&peer, packet, &connack);
    mr_assert(connack.reason == MR_MQTT_SUCCESS);
    peer_close(&peer);
}

/* ---- what is refused ---- */

static void test_a_client_id_that_is_too_long(void)
{
    struct mr_broker_limits limits = kit.limits;
    struct mr_mqtt_connect packet = connect_of("12345678");

    limits.max_clientid_len = 8;
    limits_now(limits);
    accepted(&packet);
    packet.client_id = mr_span_of("123456789");
    refused_with(&packet, MR_MQTT_CLIENT_ID_INVALID);
    packet.version = MR_MQTT_311;
    refused_with(&packet, MR_MQTT_CLIENT_ID_INVALID);
    limits.max_clientid_len = 0;
    limits_now(limits);
    accepted(&packet);
}

static void test_a_will_whose_topic_is_too_long_or_deep(void)
{
    struct mr_broker_limits before = kit.limits;
    struct mr_broker_limits limits = before;
    struct mr_mqtt_connect packet = connect_of("will");

    limits.max_topic_length = 10;
    kit.listener.limits.max_topic_levels = 3; /* for all of them it is read at the start only */
    limits_now(limits);
    packet.has_will = true;
    packet.will_payload = mr_span_of("x");
    packet.will_topic = mr_span_of("a/b/cdefgh");
    accepted(&packet);
    packet.will_topic = mr_span_of("a/b/cdefghi");
    refused_with(&packet, MR_MQTT_TOPIC_NAME_INVALID);
    packet.will_topic = mr_span_of("a/b/c/d");
    refused_with(&packet, MR_MQTT_TOPIC_NAME_INVALID);
    kit.listener.limits.max_topic_levels = 0;
    limits_now(before);
}

static void test_a_will_that_is_not_the_text_it_says(void)
{
    struct mr_broker_limits before = kit.limits;
    struct mr_broker_limits limits = before;
    struct mr_mqtt_connect packet = connect_of("text");

    limits.validate_payload_format = true;
    limits_now(limits);
    packet.has_will = true;
    packet.will_topic = mr_span_of("t");
    packet.will_payload = mr_span_of("\xff");
    accepted(&packet); /* it says nothing of it */
    packet.will_props.payload_format = 1;
    mr_mqtt_set(&packet.will_props, MR_MQTT_PROP_PAYLOAD_FORMAT);
    refused_with(&packet, MR_MQTT_PAYLOAD_FORMAT_INVALID);
    packet.will_payload = mr_span_of("text");
    accepted(&packet);
    limits_now(before);
}

/* Smaller than the CONNACK it would get: nothing that it may not have [MQTT-3.1.2-24]. */
static void test_a_packet_size_below_that_of_the_connack(void)
{
    static const char *const ids[] = {"small", ""};
    uint8_t bytes[256];

    for (size_t i = 0; i < MR_COUNT_OF(ids); i++) {
        struct mr_mqtt_connect packet = connect_of(ids[i]);
        uint32_t least = 0;
        for (uint32_t max = 1; least == 0; max++) {
            struct peer peer;
            struct mr_mqtt_frame frame;
            packet.props.packet_max = max;
            mr_mqtt_set(&packet.props, MR_MQTT_PROP_PACKET_MAX);
            ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
            mr_assert(len > 0 && max < 200);
            peer_open(&peer, &kit);
            peer.version = MR_MQTT_5;
            peer_write(&peer, bytes, (size_t)len);
            if (peer_frame(&peer, &frame)) {
                mr_assert(frame.type == MR_MQTT_CONNACK && frame.total_bytes <= max);
                if (frame.body.at[1] == MR_MQTT_SUCCESS) {
                    least = max;
                } else {
                    mr_assert(frame.body.at[1] == MR_MQTT_IMPLEMENTATION_ERROR);
                    peer_expect_closed(&peer);
                }
            }
            peer_close(&peer);
        }
        mr_assert(ids[i][0] != 0 ? least > 20 : least > 45); /* an assigned id is told besides */
    }
}

static void test_an_address_with_too_many_connections(void)
{
    struct mr_broker_limits before = kit.limits;
    struct mr_broker_limits limits = before;
    struct mr_mqtt_connect packet = connect_of("third");
    struct peer first;
    struct peer second;
    struct peer again;
    struct mr_mqtt_connack connack;

    limits.max_connections_per_address = 2;
    limits_now(limits);
    peer_join(&first, &kit, "first", 5);
    peer_join(&second, &kit, "second", 4);
    refused_with(&packet, MR_MQTT_QUOTA_EXCEEDED);
    packet.client_id = mr_span_of("second"); /* it frees a place itself */
    connect_with(&again, &packet, &connack);
    mr_assert(connack.reason == MR_MQTT_SUCCESS);
    peer_expect_closed(&second);
    peer_quiet(&first);
    peer_close(&second);
    limits_now(before);
    packet.client_id = mr_span_of("third");
    accepted(&packet);
    peer_close(&first);
    peer_close(&again);
}

/* ---- what is agreed ---- */

/* The keep alive that holds: what CONNACK says, or else what was asked for. */
static uint16_t keep_alive_of(uint16_t wanted_s)
{
    struct mr_mqtt_connect packet = connect_of("alive");
    struct peer peer;
    struct mr_mqtt_connack connack;

    packet.keep_alive_s = wanted_s;
    connect_with(&peer, &packet, &connack);
    mr_assert(connack.reason == MR_MQTT_SUCCESS);
    bool told = mr_mqtt_has(&connack.props, MR_MQTT_PROP_SERVER_KEEP_ALIVE);
    uint16_t agreed_s = told ? connack.props.server_keep_alive : wanted_s;
    mr_assert(told == (agreed_s != wanted_s)); /* [MQTT-3.1.2-21], and nothing needless */
    peer_close(&peer);
    return agreed_s;
}

static void test_keep_alive(void)
{
    struct mr_broker_limits before = kit.limits;
    struct mr_broker_limits limits = before;

    mr_assert(keep_alive_of(0) == 0 && keep_alive_of(60000) == 60000);
    limits.max_keepalive_us = 30000000;
    limits_now(limits);
    mr_assert(keep_alive_of(0) == 30 && keep_alive_of(29) == 29);
    mr_assert(keep_alive_of(30) == 30 && keep_alive_of(31) == 30);
    limits.max_keepalive_us = 500000; /* less than the protocol can say */
    limits_now(limits);
    mr_assert(keep_alive_of(0) == 1 && keep_alive_of(10) == 1);
    limits.max_keepalive_us = 70000000000; /* more than it can say */
    limits_now(limits);
    mr_assert(keep_alive_of(0) == UINT16_MAX && keep_alive_of(UINT16_MAX) == UINT16_MAX);
    limits_now(before);
}

/* DISCONNECT may lengthen what CONNECT asked for, but not beyond what the operator allows. */
static void test_an_expiry_that_disconnect_lengthens(void)
{
    struct mr_broker_limits before = kit.limits;
    struct mr_broker_limits limits = before;
    struct mr_mqtt_disconnect bye = {.type = MR_MQTT_DISCONNECT};
    struct mr_mqtt_connect packet = connect_of("longer");
    struct mr_mqtt_connack connack;
    struct peer peer;
    uint8_t bytes[64];

    limits.max_session_expiry_us = 1000000;
    limits_now(limits);
    packet.props.session_expiry_s = 1000;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    connect_with(&peer, &packet, &connack);
    mr_assert(mr_mqtt_has(&connack.props, MR_MQTT_PROP_SESSION_EXPIRY));
    mr_assert(connack.props.session_expiry_s == 1); /* [MQTT-3.2.2-21] */
    bye.props.session_expiry_s = 1000;
    mr_mqtt_set(&bye.props, MR_MQTT_PROP_SESSION_EXPIRY);
    ptrdiff_t len = mr_mqtt_disconnect_encode(&bye, MR_MQTT_5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(&peer, bytes, (size_t)len);
    peer_expect_closed(&peer);
    peer_close(&peer);
    packet.clean_start = false;
    int64_t deadline = kit_deadline();
    do {                       /* had it got its 1,000 s, each of these would find it */
        (void)usleep(1200000); /* sleep: a second is the shortest life of a session */
        packet.props.session_expiry_s = 1;
        connect_with(&peer, &packet, &connack);
        mr_assert(connack.reason == MR_MQTT_SUCCESS);
        peer_write(&peer, "\xe0\x00", 2);
        peer_expect_closed(&peer);
        peer_close(&peer);
        kit_patience(deadline, "a session to end");
    } while (connack.session_present);
    limits_now(before);
}

/* Of a session that ends with its connection DISCONNECT may say that once more, and nothing else.
 */
static void test_an_expiry_of_none(uint32_t at_the_end)
{
    struct mr_mqtt_disconnect bye = {.type = MR_MQTT_DISCONNECT};
    struct mr_mqtt_connect packet = connect_of("brief");
    struct mr_mqtt_connack connack;
    struct peer peer;
    uint8_t bytes[64];

    packet.clean_start = false;
    packet.props.session_expiry_s = 0;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    connect_with(&peer, &packet, &connack);
    mr_assert(connack.reason == MR_MQTT_SUCCESS && !connack.session_present);
    bye.props.session_expiry_s = at_the_end;
    mr_mqtt_set(&bye.props, MR_MQTT_PROP_SESSION_EXPIRY);
    ptrdiff_t len = mr_mqtt_disconnect_encode(&bye, MR_MQTT_5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(&peer, bytes, (size_t)len);
    if (at_the_end == 0) {
        peer_expect_closed(&peer);
    } else {
        peer_expect_disconnect(&peer, MR_MQTT_PROTOCOL_ERROR); /* 3.14.2.2.2 */
    }
    peer_close(&peer);
}

/* The response information, or NULL. */
static const char *response_of(const char *id, bool asks, uint32_t packet_max)
{
    static char text[300];
    struct mr_mqtt_connect packet = connect_of(id);
    struct peer peer;
    struct mr_mqtt_connack connack;

    packet.props.request_response_info = asks;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_REQUEST_RESPONSE_INFO);
    if (packet_max != 0) {
        packet.props.packet_max = packet_max;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_PACKET_MAX);
    }
    connect_with(&peer, &packet, &connack);
    mr_assert(connack.reason == MR_MQTT_SUCCESS);
    (void)snprintf(text, sizeof(text), "%.*s", (int)connack.props.response_info.len,
                   (const char *)connack.props.response_info.at);
    bool told = mr_mqtt_has(&connack.props, MR_MQTT_PROP_RESPONSE_INFO);
    peer_close(&peer);
    return told ? text : NULL;
}

static void test_response_information(void)
{
    struct mr_broker_limits before = kit.limits;
    struct mr_broker_limits limits = before;
    char long_id[121];

    limits.response_information = "100%/%c/to-%c";
    limits_now(limits);
    mr_assert(response_of("press", false, 0) == NULL); /* [MQTT-3.1.2-28] */
    mr_assert(strcmp(response_of("press", true, 0), "100%/press/to-press") == 0);
    mr_assert(strcmp(response_of("press", true, 1000), "100%/press/to-press") == 0);
    mr_assert(response_of("press", true, 36) == NULL); /* it takes no packet so long */
    memset(long_id, 'x', sizeof(long_id) - 1);
    long_id[sizeof(long_id) - 1] = 0;
    mr_assert(response_of(long_id, true, 0) == NULL); /* nothing rather than a part */
    limits.response_information = "%c%c%c%c";
    limits_now(limits);
    long_id[80] = 0;
    mr_assert(response_of(long_id, true, 0) == NULL);
    long_id[60] = 0;
    const char *four = response_of(long_id, true, 0);
    mr_assert(four != NULL && strlen(four) == 240);
    limits_now(before);
}

/* Its client said that it wants no words: the reason is all it gets [MQTT-3.1.2-29]. */
static void test_no_problem_information(void)
{
    for (int wanted = 0; wanted < 2; wanted++) {
        struct mr_mqtt_connect packet = {
            .version = 5, .client_id = mr_span_of("terse"), .clean_start = true};
        const struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
        struct mr_mqtt_disconnect why_not;
        struct mr_mqtt_connack connack;
        struct mr_mqtt_frame frame;
        struct mr_mqtt_why why;
        struct peer peer;
        uint8_t bytes[64];

        packet.props.request_problem_info = (uint8_t)wanted;
        mr_mqtt_set(&packet.props, MR_MQTT_PROP_REQUEST_PROBLEM_INFO);
        ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
        mr_assert(len > 0);
        peer_open(&peer, &kit);
        peer.version = 5;
        peer_write(&peer, bytes, (size_t)len);
        peer_expect_connack(&peer, &connack);
        mr_assert(connack.reason == 0);
        peer_publish(&peer, "no/+/wildcards", "x", 1, 1);
        mr_assert(peer_frame(&peer, &frame) && frame.type == MR_MQTT_DISCONNECT);
        mr_assert(mr_mqtt_disconnect_decode(&frame, mode, &why_not, &why) == MR_OK);
        mr_assert(why_not.reason >= MR_MQTT_UNSPECIFIED);
        mr_assert(mr_mqtt_has(&why_not.props, MR_MQTT_PROP_REASON_STRING) == (wanted != 0));
        peer_expect_closed(&peer);
        peer_close(&peer);
    }
}

int main(void)
{
    kit_open(&kit, &(struct kit_options){.allow_anonymous = MR_ANONYMOUS_TRUE});
    test_a_client_id_that_is_too_long();
    test_a_will_whose_topic_is_too_long_or_deep();
    test_a_will_that_is_not_the_text_it_says();
    test_a_packet_size_below_that_of_the_connack();
    test_an_address_with_too_many_connections();
    test_keep_alive();
    test_an_expiry_that_disconnect_lengthens();
    test_an_expiry_of_none(0);
    test_an_expiry_of_none(60);
    test_response_information();
    test_no_problem_information();
    kit_close(&kit);
    return 0;
}
