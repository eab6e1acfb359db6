/* handle_unsubscribe.c - UNSUBSCRIBE and its UNSUBACK (sections 3.10, 3.11). */
#include "broker/broker_internal.h"

static uint8_t unsubscribe_one(struct client *client, struct mr_span filter)
{
    struct session *session = client->session;
    struct mr_subtree *tree = client->shard->subtree;
    struct mr_sub *sub = mr_subtree_find(tree, filter, &session->subs);

    if (sub == NULL) {
        return MR_MQTT_NO_SUBSCRIPTION_EXISTED;
    }
    mr_subtree_remove(tree, sub, &session->subs);
    return MR_MQTT_SUCCESS;
}

enum verdict handle_unsubscribe(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_shard *shard = client->shard;
    struct mr_mqtt_subscribe packet;
    struct mr_mqtt_why why;
    struct mr_span filter;
    size_t capacity = 0;

    if (mr_mqtt_unsubscribe_decode(frame, client->version, &packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    uint8_t *codes = mr_bufpool_take(&shard->pool, packet.filter_count, &capacity);
    if (codes == NULL) {
        return client_refuse(client, END_MEMORY, MR_MQTT_QUOTA_EXCEEDED,
                             "no memory to unsubscribe");
    }
    struct mr_span rest = packet.raw;
    size_t count = 0;
    while (mr_mqtt_unsubscription_next(&rest, &filter)) {
        codes[count++] = unsubscribe_one(client, filter);
    }
    struct mr_mqtt_suback answer = {.type = MR_MQTT_UNSUBACK,
                                    .packet_id = packet.packet_id,
                                    .codes = mr_span_make(codes, count)};
    enum verdict verdict = send_suback(client, &answer);
    mr_bufpool_give(&shard->pool, codes, capacity);
    return verdict;
}
