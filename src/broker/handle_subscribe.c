/* handle_subscribe.c - SUBSCRIBE and its SUBACK (sections 3.8, 3.9). */
#include "broker/broker_internal.h"

/* One filter: the code it gets in the SUBACK. */
static uint8_t subscribe_one(struct client *client, const struct mr_mqtt_subscription *wanted,
                             uint32_t subscription_id)
{
    struct session *session = client->session;
    struct mr_span group;
    struct mr_span inner;
    struct mr_sub *sub = NULL;

    if (mr_topic_share_split(wanted->filter, &group, &inner) != MR_ERR_AGAIN) {
        return MR_MQTT_SHARED_NOT_SUPPORTED; /* CONNACK said so */
    }
    enum mr_err err =
        mr_subtree_add(client->shard->subtree, wanted->filter, session, &session->subs, &sub);
    if (err != MR_OK) {
        return err == MR_ERR_FULL ? MR_MQTT_QUOTA_EXCEEDED : MR_MQTT_TOPIC_FILTER_INVALID;
    }
    /* An existing subscription is replaced [MQTT-3.8.4-3]. */
    sub->qos = wanted->qos > 1 ? 1 : wanted->qos;
    sub->no_local = wanted->no_local;
    sub->retain_as_published = wanted->retain_as_published;
    sub->subscription_id = subscription_id;
    return sub->qos;
}

enum verdict handle_subscribe(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_shard *shard = client->shard;
    struct mr_mqtt_subscribe packet;
    struct mr_mqtt_subscription wanted;
    struct mr_mqtt_why why;
    size_t capacity = 0;

    if (mr_mqtt_subscribe_decode(frame, client->version, &packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    uint32_t subscription_id = 0;
    if (mr_mqtt_has(&packet.props, MR_MQTT_PROP_SUBSCRIPTION_ID)) {
        subscription_id = packet.props.subscription_id;
    }
    uint8_t *codes = mr_bufpool_take(&shard->pool, packet.filter_count, &capacity);
    if (codes == NULL) {
        return client_refuse(client, END_MEMORY, MR_MQTT_QUOTA_EXCEEDED,
                             "no memory for a subscription");
    }
    struct mr_span rest = packet.raw;
    size_t count = 0;
    while (mr_mqtt_subscription_next(&rest, &wanted)) {
        codes[count++] = subscribe_one(client, &wanted, subscription_id);
    }
    struct mr_mqtt_suback answer = {
        .type = MR_MQTT_SUBACK, .packet_id = packet.packet_id, .codes = mr_span_make(codes, count)};
    foreign_follow(shard);
    enum verdict verdict = send_suback(client, &answer);
    mr_bufpool_give(&shard->pool, codes, capacity);
    return verdict;
}
