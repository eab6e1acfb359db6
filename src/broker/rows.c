/* rows.c - the rows of the session store: their keys and values (docs/SESSIONS.md).
 *
 * Written by checkpoints (checkpoint.c) and by a move to other lanes (rehome.c), read by
 * rows_load.c.  Keys are big-endian, so that rows are in their order.
 */
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"

static void put_be64(uint8_t *at, uint64_t v)
{
    mr_put_be32(at, (uint32_t)(v >> 32));
    mr_put_be32(at + 4, (uint32_t)v);
}

static size_t lengthed(struct mr_span span)
{
    return mr_varint_size(span.len) + span.len;
}

static uint8_t *put_lengthed(uint8_t *at, struct mr_span span)
{
    at = mr_put_varint(at, span.len);
    if (span.len != 0) {
        memcpy(at, span.at, span.len);
    }
    return at + span.len;
}

static uint8_t *put_ids(uint8_t *at, const struct inbound *inbound)
{
    uint32_t count = inbound_count(inbound);

    at = mr_put_varint(at, (uint64_t)count * 2);
    for (uint32_t i = 0; i < count; i++) {
        mr_put_u16(at, inbound->ids[i].id);
        at += 2;
    }
    return at;
}

/* ---- keys ---- */

void kept_key(uint32_t lane, uint64_t seq, uint8_t out[MESSAGE_KEY_BYTES])
{
    mr_put_be32(out, lane);
    put_be64(out + 4, seq);
}

void session_key(const struct keep *keep, uint8_t out[SESSION_KEY_BYTES])
{
    mr_put_be32(out, keep->lane);
    put_be64(out + 4, keep->number);
}

void delivery_key(const struct keep *keep, uint64_t ordinal, uint8_t out[DELIVERY_KEY_BYTES])
{
    session_key(keep, out);
    put_be64(out + SESSION_KEY_BYTES, ordinal);
}

void sub_key(const struct keep *keep, uint32_t row, uint8_t out[SUB_KEY_BYTES])
{
    session_key(keep, out);
    mr_put_be32(out + SESSION_KEY_BYTES, row);
}

/* ---- rows ---- */

/* Fixed: ordinal_next, ordinal_sent, closed (u64 each), expiry, delay, sub_next (u32),
 * window (u16), flags (u8); then client, user, ids, and the will.
 */
void row_session_put(struct mr_store *store, const struct keep *keep)
{
    const struct session *session = keep->session;
    const struct mr_message *will = session->will == NULL ? NULL : &session->will->message;
    size_t ids_bytes = (size_t)inbound_count(session->inbound) * 2;
    size_t len = SESSION_ROW_FIXED + lengthed(session_id(session)) +
                 lengthed(session_username(session)) + mr_varint_size(ids_bytes) + ids_bytes;
    uint8_t key[SESSION_KEY_BYTES];

    if (will != NULL) {
        len += 1 + lengthed(will->topic) + lengthed(will->props) + lengthed(will->payload) +
               lengthed(will->username);
    }
    session_key(keep, key);
    uint8_t *at = mr_store_put_room(store, MR_STORE_SESSIONS, mr_span_make(key, sizeof(key)), len);
    mr_put_u64(at, keep->ordinal_next);
    mr_put_u64(at + 8, keep->ordinal_sent);
    mr_put_u64(at + 16, (uint64_t)keep->closed_us);
    mr_put_u32(at + 24, keep->expiry_s);
    mr_put_u32(at + 28, keep->will_delay_s);
    mr_put_u32(at + 32, keep->sub_next);
    mr_put_u16(at + 36, keep->window);
    at[38] = will != NULL;
    at = put_lengthed(at + SESSION_ROW_FIXED, session_id(session));
    at = put_lengthed(at, session_username(session));
    at = put_ids(at, session->inbound);
    if (will != NULL) {
        *at++ = (uint8_t)(will->qos | (will->retain ? ROW_RETAIN : 0));
        at = put_lengthed(at, will->topic);
        at = put_lengthed(at, will->props);
        at = put_lengthed(at, will->payload);
        (void)put_lengthed(at, will->username);
    }
}

void row_sub_put(struct mr_store *store, const struct keep *keep, const struct mr_sub *sub)
{
    uint8_t key[SUB_KEY_BYTES];
    size_t len = mr_subtree_filter_len(sub);

    sub_key(keep, sub->row, key);
    uint8_t *at =
        mr_store_put_room(store, MR_STORE_SUBSCRIPTIONS, mr_span_make(key, sizeof(key)), 5 + len);
    at[0] = (uint8_t)(sub->qos | (sub->no_local ? ROW_NO_LOCAL : 0) |
                      (sub->retain_as_published ? ROW_RETAIN_AS_PUBLISHED : 0) |
                      (sub->brings ? ROW_BRINGS : 0));
    mr_put_u32(at + 1, sub->subscription_id);
    mr_subtree_filter_put(sub, at + 5);
}

void row_delivery_put(struct mr_store *store, const struct keep *keep,
                      const struct delivery *delivery)
{
    uint8_t key[DELIVERY_KEY_BYTES];

    delivery_key(keep, delivery->ordinal, key);
    uint8_t *at =
        mr_store_put_room(store, MR_STORE_DELIVERIES, mr_span_make(key, sizeof(key)),
                          delivery->share != 0 ? DELIVERY_ROW_SHARED_BYTES : DELIVERY_ROW_BYTES);
    mr_put_u32(at, delivery->kept->lane);
    mr_put_u64(at + 4, delivery->kept->seq);
    mr_put_u32(at + 12, delivery->subscription_id);
    mr_put_u32(at + 16, delivery->kept->bytes);
    at[20] = (uint8_t)(delivery->qos | (delivery->retain ? ROW_RETAIN : 0) |
                       (delivery->state == DELIVERY_RELEASED ? ROW_RELEASED : 0));
    if (delivery->share != 0) {
        at[21] = delivery->share;
    }
}

/* Time (u64), flags (u8), topic, properties; if ROW_NAMES, who published it; the payload.  A row
 * without them is of a message that is not retained, or of a millrace that did not keep them.
 */
void row_message_put(struct mr_store *store, uint32_t lane, uint64_t seq,
                     const struct mr_message *m)
{
    const bool names = m->retain && m->client.len != 0;
    uint8_t key[MESSAGE_KEY_BYTES];

    kept_key(lane, seq, key);
    uint8_t *at = mr_store_put_room(store, MR_STORE_MESSAGES, mr_span_make(key, sizeof(key)),
                                    9 + lengthed(m->topic) + lengthed(m->props) + m->payload.len +
                                        (names ? lengthed(m->client) + lengthed(m->username) : 0));
    mr_put_u64(at, (uint64_t)m->received_us);
    at[8] = (uint8_t)(m->qos | (m->retain ? ROW_RETAIN : 0) | (names ? ROW_NAMES : 0));
    at = put_lengthed(at + 9, m->topic);
    at = put_lengthed(at, m->props);
    if (names) {
        at = put_lengthed(at, m->client);
        at = put_lengthed(at, m->username);
    }
    if (m->payload.len != 0) {
        memcpy(at, m->payload.at, m->payload.len);
    }
}

bool message_decode(struct mr_span bytes, struct mr_message *message)
{
    struct mr_take take = mr_take_from(bytes);
    struct mr_span received = mr_take_bytes(&take, sizeof(uint64_t));
    uint8_t flags = mr_take_u8(&take);

    *message = (struct mr_message){.qos = flags & ROW_QOS, .retain = (flags & ROW_RETAIN) != 0};
    message->topic = mr_take_bytes(&take, mr_take_varint(&take));
    message->props = mr_take_bytes(&take, mr_take_varint(&take));
    if ((flags & ROW_NAMES) != 0) {
        message->client = mr_take_bytes(&take, mr_take_varint(&take));
        message->username = mr_take_bytes(&take, mr_take_varint(&take));
    }
    message->payload = mr_take_bytes(&take, mr_take_left(&take));
    if (take.failed) {
        return false;
    }
    message->received_us = (int64_t)mr_get_u64(received.at);
    return true;
}

void row_retained_put(struct mr_store *store, uint32_t lane, uint64_t seq)
{
    uint8_t key[MESSAGE_KEY_BYTES];

    kept_key(lane, seq, key);
    mr_store_put(store, MR_STORE_RETAINED, mr_span_make(key, sizeof(key)), (struct mr_span){0});
}

void row_cleared_put(struct mr_store *store, uint32_t lane, uint64_t seq, struct mr_span topic,
                     int64_t received_us)
{
    uint8_t key[MESSAGE_KEY_BYTES];

    kept_key(lane, seq, key);
    uint8_t *at = mr_store_put_room(store, MR_STORE_RETAINED, mr_span_make(key, sizeof(key)),
                                    CLEARED_ROW_FIXED + topic.len);
    mr_put_u64(at, (uint64_t)received_us);
    memcpy(at + CLEARED_ROW_FIXED, topic.at, topic.len);
}

void row_cleared_delete(struct mr_store *store, uint32_t lane, uint64_t seq)
{
    uint8_t key[MESSAGE_KEY_BYTES];

    kept_key(lane, seq, key);
    mr_store_delete(store, MR_STORE_RETAINED, mr_span_make(key, sizeof(key)));
}

void row_vector_put(struct mr_store *store, const struct vector *vector,
                    uint64_t (*seq_of)(void *arg, uint32_t lane), void *arg)
{
    uint8_t key[4];

    mr_put_be32(key, vector->home);
    uint8_t *at = mr_store_put_room(
        store, MR_STORE_VECTOR, mr_span_make(key, sizeof(key)),
        VECTOR_ROW_FIXED + (size_t)(vector->lanes + vector->ended_count + 2) * VECTOR_ROW_LANE);
    memcpy(at, vector->journal.bytes, sizeof(vector->journal.bytes));
    mr_put_u32(at + sizeof(vector->journal.bytes), vector->epoch);
    at += VECTOR_ROW_FIXED;
    for (uint32_t lane = 0; lane < vector->lanes; lane++) {
        mr_put_u32(at, lane);
        mr_put_u64(at + 4, seq_of(arg, lane));
        at += VECTOR_ROW_LANE;
    }
    for (uint32_t i = 0; i < vector->ended_count; i++) {
        mr_put_u32(at, vector->ended[i].lane | VECTOR_LANE_ENDED);
        mr_put_u64(at + 4, vector->ended[i].seq);
        at += VECTOR_ROW_LANE;
    }
    mr_put_u32(at, VECTOR_LANE_OVERLAP);
    mr_put_u64(at + 4, vector->overlap);
    at += VECTOR_ROW_LANE;
    mr_put_u32(at, VECTOR_LANE_ROUTE);
    mr_put_u64(at + 4, vector->route);
}

void row_steps_put(struct mr_store *store, const struct clock_step steps[CLOCK_STEPS])
{
    const uint8_t key[STEPS_KEY_BYTES] = {0};
    uint8_t value[CLOCK_STEPS * STEP_ROW_BYTES];
    size_t len = 0;

    for (int i = 0; i < CLOCK_STEPS && steps[i].after_us != 0; i++) {
        if (steps[i].before_us != steps[i].after_us) {
            mr_put_u64(value + len, (uint64_t)steps[i].before_us);
            mr_put_u64(value + len + 8, (uint64_t)steps[i].after_us);
            len += STEP_ROW_BYTES;
        }
    }
    if (len != 0) {
        mr_store_put(store, MR_STORE_VECTOR, mr_span_make(key, sizeof(key)),
                     mr_span_make(value, len));
    }
}

bool row_is_steps(struct mr_span key)
{
    return key.len == STEPS_KEY_BYTES;
}

void row_steps_get(struct mr_span value, struct clock_step steps[CLOCK_STEPS])
{
    int count = 0;

    while (count < CLOCK_STEPS && steps[count].after_us != 0) {
        count += 1;
    }
    for (size_t at = 0; count < CLOCK_STEPS && at + STEP_ROW_BYTES <= value.len;
         at += STEP_ROW_BYTES) {
        steps[count++] = (struct clock_step){.before_us = (int64_t)mr_get_u64(value.at + at),
                                             .after_us = (int64_t)mr_get_u64(value.at + at + 8)};
    }
}

/* The entries in front of `end` that are not of lanes that there are.  Returns where they begin. */
static const uint8_t *vector_more_get(const uint8_t *begin, const uint8_t *end, struct vector *out)
{
    out->ended_count = 0;
    out->overlap = OVERLAP_UNKNOWN;
    for (; end > begin; end -= VECTOR_ROW_LANE) {
        uint32_t lane = mr_get_u32(end - VECTOR_ROW_LANE);
        uint64_t value = mr_get_u64(end - VECTOR_ROW_LANE + 4);

        if (lane == VECTOR_LANE_OVERLAP) {
            out->overlap = value == OVERLAP_MERGED ? OVERLAP_MERGED : OVERLAP_EACH;
        } else if ((lane & VECTOR_LANE_ENDED) != 0 && out->ended_count < SHARDS_MAX) {
            out->ended[out->ended_count++] =
                (struct ended_pos){.lane = lane & ~VECTOR_LANE_ENDED, .seq = value};
        } else {
            break;
        }
    }
    return end;
}

/* A row without the epoch is of a millrace whose layout could not change, one without route
 * of one without groups, one that says nothing of overlaps of one that knew its configuration
 * alone.
 */
bool row_vector_get(struct mr_span key, struct mr_span value, struct vector *out,
                    struct mr_span *lanes)
{
    size_t fixed = value.len % VECTOR_ROW_LANE == sizeof(out->journal.bytes) % VECTOR_ROW_LANE
                       ? sizeof(out->journal.bytes)
                       : VECTOR_ROW_FIXED;

    if (key.len != 4 || value.len < fixed + VECTOR_ROW_LANE ||
        (value.len - fixed) % VECTOR_ROW_LANE != 0) {
        return false;
    }
    memcpy(out->journal.bytes, value.at, sizeof(out->journal.bytes));
    out->home = mr_get_be32(key.at);
    out->epoch = fixed == VECTOR_ROW_FIXED ? mr_get_u32(value.at + sizeof(out->journal.bytes)) : 0;
    const uint8_t *last = value.at + value.len - VECTOR_ROW_LANE;
    bool has_route = mr_get_u32(last) == VECTOR_LANE_ROUTE;
    const uint8_t *end = has_route ? last : last + VECTOR_ROW_LANE;
    end = vector_more_get(value.at + fixed, end, out);
    size_t len = (size_t)(end - value.at) - fixed;
    out->lanes = (uint32_t)(len / VECTOR_ROW_LANE);
    out->route = has_route ? mr_get_u64(last + 4) : UINT64_MAX;
    *lanes = mr_span_make(value.at + fixed, len);
    return true;
}
