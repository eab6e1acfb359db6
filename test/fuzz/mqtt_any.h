/* mqtt_any.h - any MQTT packet as one value, for fuzzers and random tests.
 *
 * any_check() is the invariant: what decodes must encode to exactly the promised
 * size, in no more bytes than it came in, and decode again to the same packet.  What a
 * client may send, another reading of the specification says too (mqtt_naive.h).
 */
#ifndef MR_TEST_FUZZ_MQTT_ANY_H
#define MR_TEST_FUZZ_MQTT_ANY_H

#include "codec/mqtt.h"

#include <stdlib.h>
#include <string.h>

#include "mqtt_naive.h"

struct any {
    uint8_t type;
    struct mr_mqtt_mode mode;
    struct mr_mqtt_connect connect;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish publish;
    struct mr_mqtt_ack ack;
    struct mr_mqtt_subscribe subscribe;
    struct mr_mqtt_suback suback;
    struct mr_mqtt_disconnect disconnect;
};

static inline enum mr_err any_decode(const struct mr_mqtt_frame *frame, struct mr_mqtt_mode mode,
                                     struct any *out, struct mr_mqtt_why *why)
{
    out->type = frame->type;
    out->mode = mode;
    switch ((enum mr_mqtt_type)frame->type) {
    case MR_MQTT_CONNECT:
        return mr_mqtt_connect_decode(frame, &out->connect, why);
    case MR_MQTT_CONNACK:
        return mr_mqtt_connack_decode(frame, mode.version, &out->connack, why);
    case MR_MQTT_PUBLISH:
        return mr_mqtt_publish_decode(frame, mode, &out->publish, why);
    case MR_MQTT_PUBACK:
    case MR_MQTT_PUBREC:
    case MR_MQTT_PUBREL:
    case MR_MQTT_PUBCOMP:
        return mr_mqtt_ack_decode(frame, mode, &out->ack, why);
    case MR_MQTT_SUBSCRIBE:
        return mr_mqtt_subscribe_decode(frame, mode.version, &out->subscribe, why);
    case MR_MQTT_UNSUBSCRIBE:
        return mr_mqtt_unsubscribe_decode(frame, mode.version, &out->subscribe, why);
    case MR_MQTT_SUBACK:
    case MR_MQTT_UNSUBACK:
        return mr_mqtt_suback_decode(frame, mode.version, &out->suback, why);
    case MR_MQTT_PINGREQ:
    case MR_MQTT_PINGRESP:
        return mr_mqtt_ping_decode(frame, mode.version, why);
    case MR_MQTT_DISCONNECT:
    case MR_MQTT_AUTH:
        return mr_mqtt_disconnect_decode(frame, mode, &out->disconnect, why);
    default:
        mr_assert(frame->type != 0); /* mr_mqtt_frame lets no reserved type pass */
        return MR_ERR_CORRUPT;
    }
}

static inline ptrdiff_t any_encode(const struct any *any, uint8_t *out, size_t out_size)
{
    const uint8_t version = any->mode.version;

    switch ((enum mr_mqtt_type)any->type) {
    case MR_MQTT_CONNECT:
        return mr_mqtt_connect_encode(&any->connect, out, out_size);
    case MR_MQTT_CONNACK:
        return mr_mqtt_connack_encode(&any->connack, version, out, out_size);
    case MR_MQTT_PUBLISH:
        return mr_mqtt_publish_encode(&any->publish, version, out, out_size);
    case MR_MQTT_SUBSCRIBE:
        return mr_mqtt_subscribe_encode(&any->subscribe, version, out, out_size);
    case MR_MQTT_UNSUBSCRIBE:
        return mr_mqtt_unsubscribe_encode(&any->subscribe, version, out, out_size);
    case MR_MQTT_SUBACK:
    case MR_MQTT_UNSUBACK:
        return mr_mqtt_suback_encode(&any->suback, version, out, out_size);
    case MR_MQTT_PINGREQ:
    case MR_MQTT_PINGRESP:
        return out_size < MR_MQTT_PING_BYTES ? MR_ERR_FULL : mr_mqtt_ping_put(out, any->type) - out;
    case MR_MQTT_DISCONNECT:
    case MR_MQTT_AUTH:
        return mr_mqtt_disconnect_encode(&any->disconnect, version, out, out_size);
    default:
        return mr_mqtt_ack_encode(&any->ack, version, out, out_size);
    }
}

static inline size_t any_size(const struct any *any)
{
    const uint8_t version = any->mode.version;

    switch ((enum mr_mqtt_type)any->type) {
    case MR_MQTT_CONNECT:
        return mr_mqtt_connect_size(&any->connect);
    case MR_MQTT_CONNACK:
        return mr_mqtt_connack_size(&any->connack, version);
    case MR_MQTT_PUBLISH:
        return mr_mqtt_publish_size(&any->publish, version);
    case MR_MQTT_SUBSCRIBE:
        return mr_mqtt_subscribe_size(&any->subscribe, version);
    case MR_MQTT_UNSUBSCRIBE:
        return mr_mqtt_unsubscribe_size(&any->subscribe, version);
    case MR_MQTT_SUBACK:
    case MR_MQTT_UNSUBACK:
        return mr_mqtt_suback_size(&any->suback, version);
    case MR_MQTT_PINGREQ:
    case MR_MQTT_PINGRESP:
        return MR_MQTT_PING_BYTES;
    case MR_MQTT_DISCONNECT:
    case MR_MQTT_AUTH:
        return mr_mqtt_disconnect_size(&any->disconnect, version);
    default:
        return mr_mqtt_ack_size(&any->ack, version);
    }
}

/* The repeatable properties, one against one. */
static inline bool props_lists_equal(const struct mr_mqtt_props *a, const struct mr_mqtt_props *b)
{
    struct mr_span rest_a = a->user_raw;
    struct mr_span rest_b = b->user_raw;
    struct mr_span name_a, name_b, value_a, value_b;
    uint32_t id_a = 0;
    uint32_t id_b = 0;

    if (mr_mqtt_has(a, MR_MQTT_PROP_USER)) {
        bool more_a, more_b;
        do {
            more_a = mr_mqtt_user_property_next(&rest_a, &name_a, &value_a);
            more_b = mr_mqtt_user_property_next(&rest_b, &name_b, &value_b);
            if (more_a != more_b ||
                (more_a && (!mr_span_equal(name_a, name_b) || !mr_span_equal(value_a, value_b)))) {
                return false;
            }
        } while (more_a);
    }
    if (mr_mqtt_has(a, MR_MQTT_PROP_SUBSCRIPTION_ID)) {
        rest_a = a->subscription_ids_raw;
        rest_b = b->subscription_ids_raw;
        bool more_a, more_b;
        do {
            more_a = mr_mqtt_subscription_id_next(&rest_a, &id_a);
            more_b = mr_mqtt_subscription_id_next(&rest_b, &id_b);
            if (more_a != more_b || (more_a && id_a != id_b)) {
                return false;
            }
        } while (more_a);
    }
    return true;
}

static inline bool props_equal(const struct mr_mqtt_props *a, const struct mr_mqtt_props *b)
{
#define SAME(prop, field) (!mr_mqtt_has(a, MR_MQTT_PROP_##prop) || a->field == b->field)
#define SAME_SPAN(prop, field) \
    (!mr_mqtt_has(a, MR_MQTT_PROP_##prop) || mr_span_equal(a->field, b->field))
    return a->present == b->present && props_lists_equal(a, b) &&
           SAME_SPAN(CONTENT_TYPE, content_type) && SAME_SPAN(RESPONSE_TOPIC, response_topic) &&
           SAME_SPAN(CORRELATION_DATA, correlation_data) &&
           SAME_SPAN(ASSIGNED_CLIENT_ID, assigned_client_id) &&
           SAME_SPAN(AUTH_METHOD, auth_method) && SAME_SPAN(AUTH_DATA, auth_data) &&
           SAME_SPAN(RESPONSE_INFO, response_info) &&
           SAME_SPAN(SERVER_REFERENCE, server_reference) &&
           SAME_SPAN(REASON_STRING, reason_string) && SAME(MESSAGE_EXPIRY, message_expiry_s) &&
           SAME(SESSION_EXPIRY, session_expiry_s) && SAME(WILL_DELAY, will_delay_s) &&
           SAME(PACKET_MAX, packet_max) && SAME(SUBSCRIPTION_ID, subscription_id) &&
           SAME(SERVER_KEEP_ALIVE, server_keep_alive) && SAME(RECEIVE_MAX, receive_max) &&
           SAME(TOPIC_ALIAS_MAX, topic_alias_max) && SAME(TOPIC_ALIAS, topic_alias) &&
           SAME(PAYLOAD_FORMAT, payload_format) && SAME(MAXIMUM_QOS, maximum_qos) &&
           SAME(REQUEST_PROBLEM_INFO, request_problem_info) &&
           SAME(REQUEST_RESPONSE_INFO, request_response_info) &&
           SAME(RETAIN_AVAILABLE, retain_available) &&
           SAME(WILDCARD_AVAILABLE, wildcard_available) &&
           SAME(SUBSCRIPTION_ID_AVAILABLE, subscription_id_available) &&
           SAME(SHARED_AVAILABLE, shared_available);
#undef SAME
#undef SAME_SPAN
}

static inline bool connect_equal(const struct mr_mqtt_connect *a, const struct mr_mqtt_connect *b)
{
    return a->version == b->version && a->clean_start == b->clean_start &&
           a->has_will == b->has_will && a->will_qos == b->will_qos &&
           a->will_retain == b->will_retain && a->has_username == b->has_username &&
           a->has_password == b->has_password && a->keep_alive_s == b->keep_alive_s &&
           mr_span_equal(a->client_id, b->client_id) &&
           mr_span_equal(a->will_topic, b->will_topic) &&
           mr_span_equal(a->will_payload, b->will_payload) &&
           mr_span_equal(a->username, b->username) && mr_span_equal(a->password, b->password) &&
           props_equal(&a->props, &b->props) && props_equal(&a->will_props, &b->will_props);
}

static inline bool publish_equal(const struct mr_mqtt_publish *a, const struct mr_mqtt_publish *b)
{
    return a->qos == b->qos && a->dup == b->dup && a->retain == b->retain &&
           a->packet_id == b->packet_id && mr_span_equal(a->topic, b->topic) &&
           mr_span_equal(a->payload, b->payload) && props_equal(&a->props, &b->props);
}

static inline bool any_equal(const struct any *a, const struct any *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch ((enum mr_mqtt_type)a->type) {
    case MR_MQTT_CONNECT:
        return connect_equal(&a->connect, &b->connect);
    case MR_MQTT_CONNACK:
        return a->connack.session_present == b->connack.session_present &&
               a->connack.reason == b->connack.reason &&
               props_equal(&a->connack.props, &b->connack.props);
    case MR_MQTT_PUBLISH:
        return publish_equal(&a->publish, &b->publish);
    case MR_MQTT_SUBSCRIBE:
    case MR_MQTT_UNSUBSCRIBE:
        return a->subscribe.packet_id == b->subscribe.packet_id &&
               mr_span_equal(a->subscribe.raw, b->subscribe.raw) &&
               a->subscribe.filter_count == b->subscribe.filter_count &&
               props_equal(&a->subscribe.props, &b->subscribe.props);
    case MR_MQTT_SUBACK:
    case MR_MQTT_UNSUBACK:
        return a->suback.packet_id == b->suback.packet_id &&
               mr_span_equal(a->suback.codes, b->suback.codes) &&
               props_equal(&a->suback.props, &b->suback.props);
    case MR_MQTT_PINGREQ:
    case MR_MQTT_PINGRESP:
        return true;
    case MR_MQTT_DISCONNECT:
    case MR_MQTT_AUTH:
        return a->disconnect.reason == b->disconnect.reason &&
               props_equal(&a->disconnect.props, &b->disconnect.props);
    default:
        return a->ack.packet_id == b->ack.packet_id && a->ack.reason == b->ack.reason &&
               props_equal(&a->ack.props, &b->ack.props);
    }
}

/* The inline decoder of PUBLISH and the full one must not disagree. */
static inline void publish_check(const struct mr_mqtt_frame *frame, struct mr_mqtt_mode mode)
{
    struct mr_mqtt_publish fast;
    struct mr_mqtt_publish full;
    struct mr_mqtt_why why_fast = {0};
    struct mr_mqtt_why why_full = {0};
    enum mr_err err_fast = mr_mqtt_publish_decode(frame, mode, &fast, &why_fast);
    enum mr_err err_full = mr_mqtt_publish_decode_full(frame, mode, &full, &why_full);

    mr_assert(err_fast == err_full);
    mr_assert(why_fast.reason == why_full.reason && why_fast.what == why_full.what);
    mr_assert(err_fast != MR_OK || publish_equal(&fast, &full));
}

/* The iterators must find what the decoder counted. */
static inline void filters_check(const struct any *any)
{
    struct mr_span rest = any->subscribe.raw;
    struct mr_mqtt_subscription subscription;
    struct mr_span filter;
    uint32_t count = 0;

    while (any->type == MR_MQTT_SUBSCRIBE ? mr_mqtt_subscription_next(&rest, &subscription)
                                          : mr_mqtt_unsubscription_next(&rest, &filter)) {
        count += 1;
    }
    mr_assert(count == any->subscribe.filter_count && count != 0);
}

/* Decode the first packet of `bytes` and check the invariant.  True if it was a
 * valid packet.
 */
/* A length that is not in its shortest form is a matter of the version alone. */
static inline void naive_check(const struct mr_mqtt_frame *frame, uint8_t first,
                               struct mr_mqtt_mode mode, enum mr_err err)
{
    if (mode.from == MR_MQTT_FROM_CLIENT && mr_mqtt_may_send(mode.from, frame->type) &&
        !frame->padded) {
        mr_assert(naive_accepts(first, frame->body, mode.version) == (err == MR_OK));
    }
}

static inline bool any_check(struct mr_span bytes, struct mr_mqtt_mode mode)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why = {0};
    struct any first;
    struct any second;

    enum mr_err err = mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, &frame);
    if (err != MR_OK) {
        mr_assert(err == MR_ERR_AGAIN || (err == MR_ERR_CORRUPT && frame.what != NULL));
        return false;
    }
    if (frame.type == MR_MQTT_PUBLISH) {
        publish_check(&frame, mode);
    }
    err = any_decode(&frame, mode, &first, &why);
    naive_check(&frame, bytes.at[0], mode, err);
    if (err != MR_OK) {
        mr_assert(err == MR_ERR_CORRUPT || err == MR_ERR_REJECT);
        mr_assert(why.reason >= 0x80 && why.what != NULL);
        mr_assert((err == MR_ERR_CORRUPT) == (why.reason == MR_MQTT_MALFORMED));
        return false;
    }
    if (frame.type == MR_MQTT_SUBSCRIBE || frame.type == MR_MQTT_UNSUBSCRIBE) {
        filters_check(&first);
    }
    size_t size = any_size(&first);
    mr_assert(size <= frame.total_bytes);
    uint8_t *out = malloc(size);
    mr_assert(out != NULL);
    mr_assert(any_encode(&first, out, size - 1) == MR_ERR_FULL);
    mr_assert(any_encode(&first, out, size) == (ptrdiff_t)size);
    mr_assert(mr_mqtt_frame(mr_span_make(out, size), (uint32_t)size, &frame) == MR_OK);
    mr_assert(frame.total_bytes == size);
    mr_assert(any_decode(&frame, mode, &second, &why) == MR_OK);
    mr_assert(any_equal(&first, &second));
    free(out);
    return true;
}

#endif
