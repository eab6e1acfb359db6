/* handle_unsubscribe.c - UNSUBSCRIBE and its UNSUBACK (sections 3.10, 3.11). */
#include "broker/keep_internal.h"

static uint8_t unsubscribe_one(struct client *client, struct mr_span filter)
{
    struct session *session = client->session;
    struct mr_subtree *tree = client->shard->subtree;
    struct mr_sub *sub = mr_subtree_find(tree, filter, &session->subs);

    if (sub == NULL) {
        return MR_MQTT_NO_SUBSCRIPTION_EXISTED;
    }
    if (sub->is_shared) {
        share_leave(client->shard, session, filter);
    }
    if (session->keep != NULL) {
        sub_forget(client->shard, session->keep, sub);
    }
    bring_cancel(client->shard, sub);
    mr_subtree_remove(tree, sub, &session->subs);
    return MR_MQTT_SUCCESS;
}

/* What it has of the groups that it leaves.  False: not yet. */
static bool groups_leave(struct client *client, const struct mr_mqtt_subscribe *packet)
{
    struct session *session = client->session;
    struct mr_span rest = packet->raw;
    struct mr_span filter;
    bool done = true;

    while (done && session->share != NULL && mr_mqtt_unsubscription_next(&rest, &filter)) {
        const struct mr_sub *sub = mr_subtree_find(client->shard->subtree, filter, &session->subs);
        done = sub == NULL || share_leaving(client->shard, session, sub);
    }
    return done;
}

/* The record of a persistent session: all filters, whether there are such or not. */
static enum mr_err unsubscribe_record(struct client *client, const struct mr_mqtt_subscribe *packet,
                                      uint8_t *list, uint64_t *seq)
{
    struct mr_span rest = packet->raw;
    struct mr_control_filter filter = {.qos = 0};
    uint8_t *at = list;

    while (mr_mqtt_unsubscription_next(&rest, &filter.filter)) {
        at = mr_control_filter_put(at, MR_CONTROL_UNSUBSCRIBE, &filter);
    }
    struct mr_control control = {.kind = MR_CONTROL_UNSUBSCRIBE,
                                 .client = session_id(client->session),
                                 .list = mr_span_make(list, (size_t)(at - list))};
    return control_append(client->shard, &control, seq);
}

enum verdict handle_unsubscribe(struct client *client, const struct mr_mqtt_frame *frame)
{
    struct mr_shard *shard = client->shard;
    struct mr_mqtt_subscribe packet;
    struct mr_mqtt_why why;
    struct mr_span filter;
    size_t capacity = 0;
    uint64_t seq = 0;

    if (mr_mqtt_unsubscribe_decode(frame, client->version, &packet, &why) != MR_OK) {
        return client_refuse(client, END_PROTOCOL, why.reason, why.what);
    }
    if (client->session->keep != NULL && shard->stalled) {
        return PACKET_LATER;
    }
    uint8_t *codes =
        mr_bufpool_take(&shard->pool, packet.raw.len + packet.filter_count * (size_t)4, &capacity);
    if (codes == NULL) {
        return client_refuse(client, END_MEMORY, MR_MQTT_QUOTA_EXCEEDED,
                             "no memory to unsubscribe");
    }
    struct mr_mqtt_suback answer = {.type = MR_MQTT_UNSUBACK,
                                    .packet_id = packet.packet_id,
                                    .codes = mr_span_make(codes, packet.filter_count)};
    enum verdict verdict = PACKET_DONE;
    if (suback_is_beyond(client, &answer)) {
        verdict = client_refuse(client, END_PROTOCOL, MR_MQTT_PACKET_TOO_LARGE,
                                "its UNSUBACK would be larger than its Maximum Packet Size");
    } else if (client->session->keep != NULL) {
        if (answer_reserve(client, suback_size(client, &answer)) != MR_OK) {
            shard_stall(shard);
            verdict = PACKET_LATER;
        } else if (!groups_leave(client, &packet) ||
                   unsubscribe_record(client, &packet, codes + packet.filter_count, &seq) !=
                       MR_OK) {
            verdict = PACKET_LATER;
        }
    }
    if (verdict == PACKET_DONE) {
        struct mr_span rest = packet.raw;
        size_t count = 0;
        while (mr_mqtt_unsubscription_next(&rest, &filter)) {
            codes[count++] = unsubscribe_one(client, filter);
        }
        verdict = send_suback(client, &answer, seq);
    }
    mr_bufpool_give(&shard->pool, codes, capacity);
    return verdict;
}
