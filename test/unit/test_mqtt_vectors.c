/* test_mqtt_vectors.c
 *
 * links: codec base
 *
 * Goal:   the bytes are those of the specification, not merely ones on which our
 *         decoder and our encoder agree.
 * Method: packets written out by hand from the specification's own tables and
 *         figures, decoded, looked at field by field, and encoded again to the
 *         same bytes.
 */
#include "codec/mqtt.h"

#include <stdio.h>

#define BYTES(...) mr_span_make((const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

static const struct mr_mqtt_mode client_v4 = {MR_MQTT_311, MR_MQTT_FROM_CLIENT};
static const struct mr_mqtt_mode client_v5 = {MR_MQTT_5, MR_MQTT_FROM_CLIENT};
static const struct mr_mqtt_mode server_v5 = {MR_MQTT_5, MR_MQTT_FROM_SERVER};

static struct mr_mqtt_frame frame_of(struct mr_span bytes)
{
    struct mr_mqtt_frame frame;

    mr_assert(mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, &frame) == MR_OK);
    mr_assert(frame.total_bytes == bytes.len);
    return frame;
}

static void same(struct mr_span expected, const uint8_t *out, ptrdiff_t len)
{
    mr_assert(len == (ptrdiff_t)expected.len);
    mr_assert(memcmp(expected.at, out, expected.len) == 0);
}

/* Table 1-1 of 5.0, Table 2.4 of 3.1.1: both ends of each length. */
static void test_remaining_length(void)
{
    static const struct {
        uint32_t length;
        struct mr_span bytes;
    } cases[] = {
        {0, {(const uint8_t *)"\x30\x00", 2}},
        {127, {(const uint8_t *)"\x30\x7f", 2}},
        {128, {(const uint8_t *)"\x30\x80\x01", 3}},
        {16383, {(const uint8_t *)"\x30\xff\x7f", 3}},
        {16384, {(const uint8_t *)"\x30\x80\x80\x01", 4}},
        {2097151, {(const uint8_t *)"\x30\xff\xff\x7f", 4}},
        {2097152, {(const uint8_t *)"\x30\x80\x80\x80\x01", 5}},
        {268435455, {(const uint8_t *)"\x30\xff\xff\xff\x7f", 5}},
    };
    struct mr_mqtt_frame frame;

    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        uint32_t total = cases[i].length + (uint32_t)cases[i].bytes.len;
        enum mr_err expected = cases[i].length == 0 ? MR_OK : MR_ERR_AGAIN;
        mr_assert(mr_mqtt_frame(cases[i].bytes, MR_MQTT_PACKET_MAX, &frame) == expected);
        mr_assert(frame.total_bytes == total);
        mr_assert(!frame.padded);
        /* The limit is told before the body is there. */
        mr_assert(mr_mqtt_frame(cases[i].bytes, total, &frame) == expected);
        mr_assert(mr_mqtt_frame(cases[i].bytes, total - 1, &frame) == MR_ERR_FULL);
        mr_assert(frame.what != NULL);
        for (size_t cut = 0; cut < cases[i].bytes.len; cut++) {
            struct mr_span part = {.at = cases[i].bytes.at, .len = cut};
            mr_assert(mr_mqtt_frame(part, MR_MQTT_PACKET_MAX, &frame) == MR_ERR_AGAIN);
            mr_assert(frame.total_bytes == 0);
        }
    }
    mr_assert(mr_mqtt_frame(BYTES(0x30, 0xff, 0xff, 0xff, 0xff, 0x01), MR_MQTT_PACKET_MAX,
                            &frame) == MR_ERR_CORRUPT);
    mr_assert(mr_mqtt_frame(BYTES(0x30, 0x80, 0x80, 0x80, 0x80), MR_MQTT_PACKET_MAX, &frame) ==
              MR_ERR_CORRUPT);
    mr_assert(mr_mqtt_frame(BYTES(0xc0, 0x80, 0x00), MR_MQTT_PACKET_MAX, &frame) == MR_OK);
    mr_assert(frame.padded);
}

/* Table 2-2: which flags each type must carry [MQTT-2.1.3-1]. */
static void test_fixed_header_flags(void)
{
    for (unsigned first = 0; first <= 0xff; first++) {
        const uint8_t bytes[] = {(uint8_t)first, 0};
        unsigned type = first >> 4;
        unsigned flags = first & 15;
        unsigned wanted = type == 6 || type == 8 || type == 10 ? 2 : 0;
        /* 3.1 sets DUP on those three; the decoders refuse it elsewhere. */
        bool ok = type == 3 || (type != 0 && (flags == wanted || (wanted == 2 && flags == 10)));
        struct mr_mqtt_frame frame;
        enum mr_err err = mr_mqtt_frame(mr_span_make(bytes, 2), 100, &frame);
        mr_assert(err == (ok ? MR_OK : MR_ERR_CORRUPT));
        mr_assert(frame.type == type && frame.flags == flags);
        /* Known with the first byte alone. */
        mr_assert(mr_mqtt_frame(mr_span_make(bytes, 1), 100, &frame) ==
                  (ok ? MR_ERR_AGAIN : MR_ERR_CORRUPT));
    }
}

/* Figure 3-6: the variable header example, with a payload for its flags. */
static void test_connect_v5(void)
{
    struct mr_span bytes = BYTES(0x10, 46, 0, 4, 'M', 'Q', 'T', 'T', 5, 0xCE, 0, 10, 5, 17, 0, 0, 0,
                                 10, 0, 2, 'i', 'd',                    /* client id */
                                 5, 0x18, 0, 0, 0, 7,                   /* will properties */
                                 0, 3, 'w', '/', 't', 0, 2, 0xff, 0x00, /* topic, payload */
                                 0, 4, 'u', 's', 'e', 'r', 0, 3, 'p', 0xff, 'w');
    struct mr_mqtt_frame frame = frame_of(bytes);
    struct mr_mqtt_connect connect;
    struct mr_mqtt_why why;
    uint8_t out[64];

    mr_assert(mr_mqtt_connect_decode(&frame, &connect, &why) == MR_OK);
    mr_assert(connect.version == MR_MQTT_5 && connect.keep_alive_s == 10);
    mr_assert(connect.clean_start && connect.has_will && connect.has_username);
    mr_assert(connect.has_password && connect.will_qos == 1 && !connect.will_retain);
    mr_assert(connect.props.present == (uint64_t)1 << MR_MQTT_PROP_SESSION_EXPIRY);
    mr_assert(connect.props.session_expiry_s == 10);
    mr_assert(connect.will_props.will_delay_s == 7 && connect.will_props_raw.len == 5);
    mr_assert(mr_span_is(connect.client_id, "id"));
    mr_assert(mr_span_is(connect.will_topic, "w/t") && connect.will_payload.len == 2);
    mr_assert(mr_span_is(connect.username, "user") && connect.password.len == 3);
    same(bytes, out, mr_mqtt_connect_encode(&connect, out, sizeof(out)));
    mr_assert(mr_mqtt_connect_size(&connect) == bytes.len);
}

/* Figure 3.6 of 3.1.1, and the same for MQIsdp. */
static void test_connect_v3(void)
{
    struct mr_span v4 = BYTES(0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x02, 0, 60, 0, 2, 'i', 'd');
    struct mr_span v3 =
        BYTES(0x10, 16, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 0x00, 0, 60, 0, 2, 'i', 'd');
    struct mr_span inputs[] = {v4, v3};

    for (size_t i = 0; i < 2; i++) {
        struct mr_mqtt_frame frame = frame_of(inputs[i]);
        struct mr_mqtt_connect connect;
        struct mr_mqtt_why why;
        uint8_t out[64];
        mr_assert(mr_mqtt_connect_decode(&frame, &connect, &why) == MR_OK);
        mr_assert(connect.version == (i == 0 ? MR_MQTT_311 : MR_MQTT_31));
        mr_assert(connect.clean_start == (i == 0) && !connect.has_will);
        mr_assert(connect.keep_alive_s == 60 && mr_span_is(connect.client_id, "id"));
        mr_assert(connect.props.present == 0);
        same(inputs[i], out, mr_mqtt_connect_encode(&connect, out, sizeof(out)));
    }
}

static void test_connack(void)
{
    struct mr_span v5 =
        BYTES(0x20, 17, 1, 0, 14, 0x12, 0, 2, 'x', 'y', 0x21, 0, 20, 0x24, 1, 0x2A, 0, 0x25, 0);
    struct mr_mqtt_frame frame = frame_of(v5);
    struct mr_mqtt_connack connack;
    struct mr_mqtt_why why;
    uint8_t out[64];

    mr_assert(mr_mqtt_connack_decode(&frame, MR_MQTT_5, &connack, &why) == MR_OK);
    mr_assert(connack.session_present && connack.reason == 0);
    mr_assert(mr_span_is(connack.props.assigned_client_id, "xy"));
    mr_assert(connack.props.receive_max == 20 && connack.props.maximum_qos == 1);
    mr_assert(connack.props.shared_available == 0 && connack.props.retain_available == 0);
    /* Properties come out by rising identifier. */
    struct mr_span sorted =
        BYTES(0x20, 17, 1, 0, 14, 0x12, 0, 2, 'x', 'y', 0x21, 0, 20, 0x24, 1, 0x25, 0, 0x2A, 0);
    same(sorted, out, mr_mqtt_connack_encode(&connack, MR_MQTT_5, out, sizeof(out)));

    /* Table 3.1 of 3.1.1. */
    static const uint8_t reasons[] = {0, 0x84, 0x85, 0x88, 0x86, 0x87};
    for (uint8_t code = 0; code < 6; code++) {
        const uint8_t bytes[] = {0x20, 2, 0, code};
        frame = frame_of(mr_span_make(bytes, 4));
        mr_assert(mr_mqtt_connack_decode(&frame, MR_MQTT_311, &connack, &why) == MR_OK);
        mr_assert(connack.reason == reasons[code]);
        same(mr_span_make(bytes, 4), out,
             mr_mqtt_connack_encode(&connack, MR_MQTT_311, out, sizeof(out)));
    }
    /* What 3.x cannot say must not be sent [3.1.1: MQTT-3.2.2-6]. */
    connack = (struct mr_mqtt_connack){.reason = MR_MQTT_MALFORMED};
    mr_assert(mr_mqtt_connack_encode(&connack, MR_MQTT_311, out, sizeof(out)) == MR_ERR_REJECT);
    mr_assert(mr_mqtt_connack_code_v3(MR_MQTT_MALFORMED) == 0);
    mr_assert(mr_mqtt_connack_code_v3(MR_MQTT_SERVER_BUSY) == 3);
}

/* Table 3-3 and its figure: topic a/b, packet identifier 10. */
static void test_publish(void)
{
    struct mr_span v4 = BYTES(0x3d, 9, 0, 3, 'a', '/', 'b', 0, 10, 'h', 'i');
    struct mr_span v5 = BYTES(0x32, 8, 0, 3, 'a', '/', 'b', 0, 10, 0);
    struct mr_span props = BYTES(0x30, 22, 0, 1, 't', 17, 0x01, 1, 0x23, 0, 9, 0x26, 0, 1, 'k', 0,
                                 1, 'v', 0x02, 0, 0, 1, 0, 'p');
    struct mr_mqtt_publish publish;
    struct mr_mqtt_why why;
    uint8_t out[64];

    struct mr_mqtt_frame frame = frame_of(v4);
    mr_assert(mr_mqtt_publish_decode(&frame, client_v4, &publish, &why) == MR_OK);
    mr_assert(publish.dup && publish.retain && publish.qos == 2 && publish.packet_id == 10);
    mr_assert(mr_span_is(publish.topic, "a/b") && mr_span_is(publish.payload, "hi"));
    mr_assert(publish.props.present == 0 && publish.props_raw.len == 0);
    same(v4, out, mr_mqtt_publish_encode(&publish, MR_MQTT_311, out, sizeof(out)));

    frame = frame_of(v5);
    mr_assert(mr_mqtt_publish_decode(&frame, client_v5, &publish, &why) == MR_OK);
    mr_assert(!publish.dup && !publish.retain && publish.qos == 1 && publish.packet_id == 10);
    mr_assert(publish.payload.len == 0 && publish.props.present == 0);
    same(v5, out, mr_mqtt_publish_encode(&publish, MR_MQTT_5, out, sizeof(out)));

    frame = frame_of(props);
    mr_assert(mr_mqtt_publish_decode(&frame, client_v5, &publish, &why) == MR_OK);
    mr_assert(publish.props_raw.len == 17 && publish.props_raw.at == props.at + 6);
    mr_assert(publish.props.payload_format == 1 && publish.props.topic_alias == 9);
    mr_assert(publish.props.message_expiry_s == 256 && mr_span_is(publish.payload, "p"));
    mr_assert(mr_mqtt_payload_format_holds(&publish.props, publish.payload));
    struct mr_span rest = publish.props.user_raw;
    struct mr_span name, value;
    mr_assert(mr_mqtt_user_property_next(&rest, &name, &value));
    mr_assert(mr_span_is(name, "k") && mr_span_is(value, "v"));
    mr_assert(!mr_mqtt_user_property_next(&rest, &name, &value));
    /* Verbatim keeps the sender's order of properties. */
    publish.props_verbatim = true;
    same(props, out, mr_mqtt_publish_encode(&publish, MR_MQTT_5, out, sizeof(out)));
    /* For a 3.1.1 subscriber they vanish. */
    struct mr_span plain = BYTES(0x30, 4, 0, 1, 't', 'p');
    same(plain, out, mr_mqtt_publish_encode(&publish, MR_MQTT_311, out, sizeof(out)));
    /* The head alone announces the payload that will follow. */
    mr_assert(mr_mqtt_publish_head_encode(&publish, MR_MQTT_311, out, sizeof(out)) == 5);
    mr_assert(memcmp(out, plain.at, 5) == 0);
}

static void test_payload_format(void)
{
    struct mr_mqtt_publish publish = {.props = {.payload_format = 1}};

    mr_mqtt_set(&publish.props, MR_MQTT_PROP_PAYLOAD_FORMAT);
    mr_assert(mr_mqtt_payload_format_holds(&publish.props, publish.payload)); /* empty is text */
    publish.payload = BYTES('a', 0, 0xc3, 0xa4, 0); /* U+0000 is text in a payload */
    mr_assert(mr_mqtt_payload_format_holds(&publish.props, publish.payload));
    publish.payload = BYTES('a', 0, 0xc3);
    mr_assert(!mr_mqtt_payload_format_holds(&publish.props, publish.payload));
    publish.props.payload_format = 0;
    mr_assert(mr_mqtt_payload_format_holds(&publish.props, publish.payload));
}

static void test_acks(void)
{
    static const struct {
        uint8_t bytes[8];
        size_t len;
        uint8_t type;
        uint8_t reason;
    } cases[] = {
        {{0x40, 2, 0, 10}, 4, MR_MQTT_PUBACK, 0},
        {{0x50, 2, 0, 10}, 4, MR_MQTT_PUBREC, 0},
        {{0x62, 2, 0, 10}, 4, MR_MQTT_PUBREL, 0},
        {{0x70, 2, 0, 10}, 4, MR_MQTT_PUBCOMP, 0},
        {{0x40, 3, 0, 10, 0x10}, 5, MR_MQTT_PUBACK, 0x10},
        {{0x62, 3, 0, 10, 0x92}, 5, MR_MQTT_PUBREL, 0x92},
        {{0x50, 3, 0, 10, 0x97}, 5, MR_MQTT_PUBREC, 0x97},
    };
    struct mr_mqtt_why why;
    struct mr_mqtt_ack ack;
    uint8_t out[64];

    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        struct mr_span bytes = mr_span_make(cases[i].bytes, cases[i].len);
        struct mr_mqtt_frame frame = frame_of(bytes);
        mr_assert(mr_mqtt_ack_decode(&frame, client_v5, &ack, &why) == MR_OK);
        mr_assert(ack.type == cases[i].type && ack.packet_id == 10);
        mr_assert(ack.reason == cases[i].reason);
        same(bytes, out, mr_mqtt_ack_encode(&ack, MR_MQTT_5, out, sizeof(out)));
        if (ack.reason == 0) {
            same(bytes, out, mr_mqtt_ack_put(out, ack.type, 10) - out);
        }
    }
    /* Long forms of "success, nothing to add" are understood (3.4.2.2.1). */
    struct mr_span longer[] = {BYTES(0x40, 3, 0, 10, 0), BYTES(0x40, 4, 0, 10, 0, 0)};
    for (size_t i = 0; i < 2; i++) {
        struct mr_mqtt_frame frame = frame_of(longer[i]);
        mr_assert(mr_mqtt_ack_decode(&frame, client_v5, &ack, &why) == MR_OK && ack.reason == 0);
    }
    struct mr_span text = BYTES(0x40, 9, 0, 10, 0x80, 5, 0x1F, 0, 2, 'n', 'o');
    struct mr_mqtt_frame frame = frame_of(text);
    mr_assert(mr_mqtt_ack_decode(&frame, client_v5, &ack, &why) == MR_OK);
    mr_assert(ack.reason == 0x80 && mr_span_is(ack.props.reason_string, "no"));
    same(text, out, mr_mqtt_ack_encode(&ack, MR_MQTT_5, out, sizeof(out)));
}

/* Figures 3-20 to 3-23: a/b with QoS 1, c/d with QoS 2. */
static void test_subscribe(void)
{
    struct mr_span v4 = BYTES(0x82, 14, 0, 10, 0, 3, 'a', '/', 'b', 1, 0, 3, 'c', '/', 'd', 2);
    struct mr_span v5 = BYTES(0x82, 11, 0, 10, 2, 0x0B, 7, 0, 3, 'a', '/', '#', 0x2D);
    struct mr_mqtt_subscription item;
    struct mr_mqtt_subscribe subscribe;
    struct mr_mqtt_why why;
    uint8_t out[64];

    struct mr_mqtt_frame frame = frame_of(v4);
    mr_assert(mr_mqtt_subscribe_decode(&frame, MR_MQTT_311, &subscribe, &why) == MR_OK);
    mr_assert(subscribe.packet_id == 10 && subscribe.filter_count == 2);
    struct mr_span rest = subscribe.raw;
    mr_assert(mr_mqtt_subscription_next(&rest, &item));
    mr_assert(mr_span_is(item.filter, "a/b") && item.qos == 1 && !item.no_local);
    mr_assert(mr_mqtt_subscription_next(&rest, &item));
    mr_assert(mr_span_is(item.filter, "c/d") && item.qos == 2);
    mr_assert(!mr_mqtt_subscription_next(&rest, &item));
    same(v4, out, mr_mqtt_subscribe_encode(&subscribe, MR_MQTT_311, out, sizeof(out)));

    frame = frame_of(v5);
    mr_assert(mr_mqtt_subscribe_decode(&frame, MR_MQTT_5, &subscribe, &why) == MR_OK);
    mr_assert(subscribe.props.subscription_id == 7 && subscribe.filter_count == 1);
    rest = subscribe.raw;
    mr_assert(mr_mqtt_subscription_next(&rest, &item));
    mr_assert(item.qos == 1 && item.no_local && item.retain_as_published);
    mr_assert(item.retain_handling == 2);
    same(v5, out, mr_mqtt_subscribe_encode(&subscribe, MR_MQTT_5, out, sizeof(out)));
    /* Building the list by hand gives the same bytes. */
    mr_assert(mr_mqtt_subscription_put(&item, out, 5) == MR_ERR_FULL);
    mr_assert(mr_mqtt_subscription_put(&item, out, 4) == MR_ERR_FULL);
    same(mr_span_make(v5.at + 7, 6), out, mr_mqtt_subscription_put(&item, out, 6));
}

static void test_unsubscribe_and_subacks(void)
{
    struct mr_span unsubscribe = BYTES(0xA2, 12, 0, 10, 0, 3, 'a', '/', 'b', 0, 3, 'c', '/', 'd');
    struct mr_span suback_v4 = BYTES(0x90, 5, 0, 10, 0, 2, 0x80);
    struct mr_span unsuback_v4 = BYTES(0xB0, 2, 0, 10);
    struct mr_span unsuback_v5 = BYTES(0xB0, 5, 0, 10, 0, 0x00, 0x11);
    struct mr_mqtt_subscribe packet;
    struct mr_mqtt_suback ack;
    struct mr_mqtt_why why;
    uint8_t out[64];

    struct mr_mqtt_frame frame = frame_of(unsubscribe);
    mr_assert(mr_mqtt_unsubscribe_decode(&frame, MR_MQTT_311, &packet, &why) == MR_OK);
    mr_assert(packet.packet_id == 10 && packet.filter_count == 2);
    struct mr_span rest = packet.raw;
    struct mr_span filter;
    mr_assert(mr_mqtt_unsubscription_next(&rest, &filter) && mr_span_is(filter, "a/b"));
    mr_assert(mr_mqtt_unsubscription_next(&rest, &filter) && mr_span_is(filter, "c/d"));
    mr_assert(!mr_mqtt_unsubscription_next(&rest, &filter));
    same(unsubscribe, out, mr_mqtt_unsubscribe_encode(&packet, MR_MQTT_311, out, sizeof(out)));

    frame = frame_of(suback_v4);
    mr_assert(mr_mqtt_suback_decode(&frame, MR_MQTT_311, &ack, &why) == MR_OK);
    mr_assert(ack.codes.len == 3 && ack.codes.at[2] == MR_MQTT_UNSPECIFIED);
    same(suback_v4, out, mr_mqtt_suback_encode(&ack, MR_MQTT_311, out, sizeof(out)));
    /* Any failure is 0x80 in 3.1.1 [3.1.1: MQTT-3.9.3-2]. */
    ack.codes = BYTES(0, 2, MR_MQTT_NOT_AUTHORIZED);
    same(suback_v4, out, mr_mqtt_suback_encode(&ack, MR_MQTT_311, out, sizeof(out)));

    frame = frame_of(unsuback_v4);
    mr_assert(mr_mqtt_suback_decode(&frame, MR_MQTT_311, &ack, &why) == MR_OK);
    same(unsuback_v4, out, mr_mqtt_suback_encode(&ack, MR_MQTT_311, out, sizeof(out)));
    frame = frame_of(unsuback_v5);
    mr_assert(mr_mqtt_suback_decode(&frame, MR_MQTT_5, &ack, &why) == MR_OK);
    mr_assert(ack.codes.len == 2 && ack.codes.at[1] == MR_MQTT_NO_SUBSCRIPTION_EXISTED);
    same(unsuback_v5, out, mr_mqtt_suback_encode(&ack, MR_MQTT_5, out, sizeof(out)));
    same(unsuback_v4, out, mr_mqtt_suback_encode(&ack, MR_MQTT_311, out, sizeof(out)));
}

static void test_ping_disconnect_auth(void)
{
    struct mr_span disconnect_v5 = BYTES(0xE0, 7, 0x04, 5, 0x11, 0, 0, 0, 9);
    struct mr_span auth = BYTES(0xF0, 12, 0x18, 10, 0x15, 0, 2, 'm', '1', 0x16, 0, 2, 0xff, 0);
    struct mr_span empty[] = {BYTES(0xE0, 0), BYTES(0xE0, 1, 0), BYTES(0xE0, 2, 0, 0)};
    struct mr_mqtt_disconnect packet;
    struct mr_mqtt_why why;
    uint8_t out[64];

    struct mr_mqtt_frame frame = frame_of(BYTES(0xC0, 0));
    mr_assert(mr_mqtt_ping_decode(&frame, MR_MQTT_5, &why) == MR_OK);
    frame = frame_of(BYTES(0xD0, 0));
    mr_assert(mr_mqtt_ping_decode(&frame, MR_MQTT_311, &why) == MR_OK);
    same(BYTES(0xD0, 0), out, mr_mqtt_ping_put(out, MR_MQTT_PINGRESP) - out);

    for (size_t i = 0; i < MR_COUNT_OF(empty); i++) {
        frame = frame_of(empty[i]);
        mr_assert(mr_mqtt_disconnect_decode(&frame, client_v5, &packet, &why) == MR_OK);
        mr_assert(packet.reason == MR_MQTT_SUCCESS);
        same(empty[0], out, mr_mqtt_disconnect_encode(&packet, MR_MQTT_5, out, sizeof(out)));
    }
    frame = frame_of(empty[0]);
    mr_assert(mr_mqtt_disconnect_decode(&frame, client_v4, &packet, &why) == MR_OK);
    frame = frame_of(disconnect_v5);
    mr_assert(mr_mqtt_disconnect_decode(&frame, client_v5, &packet, &why) == MR_OK);
    mr_assert(packet.reason == 0x04 && packet.props.session_expiry_s == 9);
    same(disconnect_v5, out, mr_mqtt_disconnect_encode(&packet, MR_MQTT_5, out, sizeof(out)));

    frame = frame_of(auth);
    mr_assert(mr_mqtt_disconnect_decode(&frame, server_v5, &packet, &why) == MR_OK);
    mr_assert(packet.type == MR_MQTT_AUTH && packet.reason == MR_MQTT_CONTINUE_AUTHENTICATION);
    mr_assert(mr_span_is(packet.props.auth_method, "m1") && packet.props.auth_data.len == 2);
    same(auth, out, mr_mqtt_disconnect_encode(&packet, MR_MQTT_5, out, sizeof(out)));
    mr_assert(mr_mqtt_disconnect_encode(&packet, MR_MQTT_311, out, sizeof(out)) == MR_ERR_REJECT);
}

/* Several subscription identifiers in one PUBLISH (3.3.2.3.8). */
static void test_subscription_ids(void)
{
    struct mr_span bytes = BYTES(0x30, 9, 0, 1, 't', 5, 0x0B, 5, 0x0B, 0x80, 0x01);
    struct mr_mqtt_publish publish;
    struct mr_mqtt_why why;
    uint8_t raw[8];
    uint8_t out[64];
    uint32_t id;

    struct mr_mqtt_frame frame = frame_of(bytes);
    mr_assert(mr_mqtt_publish_decode(&frame, server_v5, &publish, &why) == MR_OK);
    mr_assert(publish.props.subscription_id == 5);
    struct mr_span rest = publish.props.subscription_ids_raw;
    mr_assert(mr_mqtt_subscription_id_next(&rest, &id) && id == 5);
    mr_assert(mr_mqtt_subscription_id_next(&rest, &id) && id == 128);
    mr_assert(!mr_mqtt_subscription_id_next(&rest, &id));
    /* As the broker builds it. */
    ptrdiff_t len = mr_mqtt_subscription_id_put(5, raw, sizeof(raw));
    mr_assert(len == 2);
    len += mr_mqtt_subscription_id_put(128, raw + len, sizeof(raw) - (size_t)len);
    publish.props.subscription_ids_raw = mr_span_make(raw, (size_t)len);
    same(bytes, out, mr_mqtt_publish_encode(&publish, MR_MQTT_5, out, sizeof(out)));
    mr_assert(mr_mqtt_subscription_id_put(0, raw, sizeof(raw)) == MR_ERR_REJECT);
    mr_assert(mr_mqtt_subscription_id_put(268435456, raw, sizeof(raw)) == MR_ERR_REJECT);
    mr_assert(mr_mqtt_subscription_id_put(128, raw, 2) == MR_ERR_FULL);
    mr_assert(mr_mqtt_user_property_put(mr_span_of("k"), mr_span_of("v"), out, 6) == MR_ERR_FULL);
    same(BYTES(0x26, 0, 1, 'k', 0, 1, 'v'), out,
         mr_mqtt_user_property_put(mr_span_of("k"), mr_span_of("v"), out, 7));
}

/* What the protocol cannot express is refused, not cut. */
static void test_too_long(void)
{
    static uint8_t big[70000];
    struct mr_mqtt_publish publish = {.topic = mr_span_make(big, 65536)};

    mr_assert(mr_mqtt_publish_encode(&publish, MR_MQTT_5, big, sizeof(big)) == MR_ERR_REJECT);
    publish.topic.len = 1;
    publish.payload.len = MR_MQTT_LENGTH_MAX - 3;
    mr_assert(mr_mqtt_publish_encode(&publish, MR_MQTT_5, big, sizeof(big)) == MR_ERR_REJECT);
    publish.payload.len = MR_MQTT_LENGTH_MAX - 4;
    mr_assert(mr_mqtt_publish_encode(&publish, MR_MQTT_5, big, sizeof(big)) == MR_ERR_FULL);
    mr_assert(mr_mqtt_publish_size(&publish, MR_MQTT_5) == MR_MQTT_PACKET_MAX);
    mr_assert(mr_mqtt_user_property_put(mr_span_make(big, 65536), mr_span_of(""), big,
                                        sizeof(big)) == MR_ERR_REJECT);
}

static void test_names(void)
{
    mr_assert(strcmp(mr_mqtt_type_name(MR_MQTT_PUBLISH), "PUBLISH") == 0);
    mr_assert(strcmp(mr_mqtt_type_name(MR_MQTT_AUTH), "AUTH") == 0);
    mr_assert(strcmp(mr_mqtt_type_name(16), "?") == 0);
    mr_assert(strcmp(mr_mqtt_reason_name(0x95), "packet too large") == 0);
    mr_assert(strcmp(mr_mqtt_reason_name(0x9B), "QoS not supported") == 0);
    mr_assert(strcmp(mr_mqtt_reason_name(0xA2), "wildcard subscriptions not supported") == 0);
    mr_assert(strcmp(mr_mqtt_reason_name(0xA3), "unknown reason") == 0);
    for (uint8_t type = 1; type <= 15; type++) {
        bool client = type != 2 && type != 9 && type != 11 && type != 13;
        bool server = type != 1 && type != 8 && type != 10 && type != 12;
        mr_assert(mr_mqtt_may_send(MR_MQTT_FROM_CLIENT, type) == client);
        mr_assert(mr_mqtt_may_send(MR_MQTT_FROM_SERVER, type) == server);
    }
}

int main(void)
{
    test_remaining_length();
    test_fixed_header_flags();
    test_connect_v5();
    test_connect_v3();
    test_connack();
    test_publish();
    test_payload_format();
    test_acks();
    test_subscribe();
    test_unsubscribe_and_subacks();
    test_ping_disconnect_auth();
    test_subscription_ids();
    test_too_long();
    test_names();
    printf("mqtt vectors: ok\n");
    return 0;
}
