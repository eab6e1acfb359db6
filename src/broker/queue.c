/* queue.c - what a persistent session is owed, from the match to the last ack.
 *
 * DESIGN
 *
 * A ring of deliveries in the order of their ordinals.  A connection walks it with
 * `next`: what is in front of it was sent to this connection, what is behind waits for
 * the window, for the socket, or for the disk.  A new connection begins at the front
 * again; ordinals below `ordinal_sent` are repetitions and carry DUP.
 *
 * Nothing is sent before the record is durable that gave it its ordinal, which is the event's
 * or, for a retained message, the SUBSCRIBE's: pushing puts the session on the shard's
 * kick list, and the list is walked when durable_seq has risen.  Quotas are kept there
 * too, when it is known what did not go to the socket.
 *
 * What is settled leaves the ring at once and is noted in `runs`; one record per session
 * tells the journal at the end of the turn.  If a crash comes first, the delivery is made
 * again under the same id, which is what DUP is for.
 *
 * INVARIANTS (queue_check)
 *
 *   (1) ordinals ascend; next <= count <= ring_capacity.  There is room for one more, so that
 *       what is appended to the journal has its place; else reserve.c knows of it.
 *   (2) The first delivery of the ring is not DELIVERY_DONE.
 *   (3) under_way = deliveries in front of `next` that are not DONE.
 *   (4) The newest one sent is less than ORDINALS_MAX behind the first one owed, so no two
 *       owed deliveries that were sent have the same packet id.
 */
#include "broker/keep_internal.h"

enum { RING_FIRST = 8, RUNS_FIRST = 4 };

struct delivery *queue_at(const struct keep *keep, uint32_t index)
{
    return &keep->ring[(keep->begin + index) & (keep->ring_capacity - 1)];
}

static void queue_check(const struct keep *keep)
{
    mr_assert(keep->next <= keep->count && keep->count <= keep->ring_capacity); /* (1) */
    mr_assert(keep->under_way <= keep->next);
    mr_assert(keep->count == 0 || queue_at(keep, 0)->state != DELIVERY_DONE); /* (2) */
}

static uint16_t packet_id_of(uint64_t ordinal)
{
    return (uint16_t)(ordinal % ORDINALS_MAX + 1);
}

static void ring_free(struct mr_shard *shard, struct keep *keep)
{
    if (keep->ring != &keep->first) {
        mr_bufpool_give(&shard->pool, (uint8_t *)keep->ring, keep->ring_bytes);
    }
}

static bool ring_grow(struct mr_shard *shard, struct keep *keep)
{
    uint32_t wanted = keep->ring_capacity < RING_FIRST ? RING_FIRST : keep->ring_capacity * 2;
    size_t bytes = 0;

    if (keep->count < keep->ring_capacity) {
        return true;
    }
    struct delivery *ring = (struct delivery *)(void *)mr_bufpool_take(
        &shard->pool, wanted * sizeof(struct delivery), &bytes);
    if (ring == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < keep->count; i++) {
        ring[i] = *queue_at(keep, i);
    }
    ring_free(shard, keep);
    keep->ring = ring;
    keep->ring_bytes = bytes;
    keep->ring_capacity = wanted; /* rounded up to a power of two by the pool, used as asked */
    keep->begin = 0;
    return true;
}

bool queue_make_room(struct mr_shard *shard, struct keep *keep)
{
    return ring_grow(shard, keep) ||
           !mr_bufpool_fits(&shard->pool, 2 * keep->ring_capacity * sizeof(struct delivery));
}

bool queue_append(struct mr_shard *shard, struct keep *keep, struct kept *kept,
                  const struct delivery *delivery)
{
    if (!ring_grow(shard, keep)) {
        return false;
    }
    keep->count += 1;
    struct delivery *at = queue_at(keep, keep->count - 1);
    *at = *delivery;
    at->kept = kept;
    kept->refs += 1;
    keep->bytes += kept->bytes;
    shard->queued += 1;
    shard->unstored += !at->stored;
    if (MR_UNLIKELY(keep->count == keep->ring_capacity) && !queue_make_room(shard, keep)) {
        reserve_tight(shard, keep);
    }
    return true;
}

/* ---- settling ---- */

static bool runs_grow(struct mr_shard *shard, struct keep *keep)
{
    uint32_t wanted = keep->runs_capacity == 0 ? RUNS_FIRST : keep->runs_capacity * 2;
    size_t bytes = 0;

    if (keep->runs_count < keep->runs_capacity) {
        return true;
    }
    struct run *runs =
        (struct run *)(void *)mr_bufpool_take(&shard->pool, wanted * sizeof(struct run), &bytes);
    if (runs == NULL) {
        return false;
    }
    if (keep->runs != NULL) {
        memcpy(runs, keep->runs, keep->runs_count * sizeof(*runs));
        mr_bufpool_give(&shard->pool, (uint8_t *)keep->runs,
                        keep->runs_capacity * sizeof(*keep->runs));
    }
    keep->runs = runs;
    keep->runs_capacity = wanted;
    return true;
}

void queue_settle(struct mr_shard *shard, struct keep *keep, uint64_t ordinal)
{
    struct run *last = keep->runs_count == 0 ? NULL : &keep->runs[keep->runs_count - 1];

    if (last != NULL && last->first + last->count == ordinal) {
        last->count += 1;
    } else if (last != NULL && last->first == ordinal + 1) { /* a queue is trimmed from its end */
        last->first = ordinal;
        last->count += 1;
    } else if (runs_grow(shard, keep)) {
        mr_assert(keep->runs != NULL);
        keep->runs[keep->runs_count++] = (struct run){.first = ordinal, .count = 1};
    } /* else: it is delivered once more after a crash, no worse */
    if (!keep->settling) {
        keep->settling = true;
        keep->settle_next = shard->settling;
        shard->settling = keep;
    }
}

static int run_compare(const void *a, const void *b)
{
    uint64_t first_a = ((const struct run *)a)->first;
    uint64_t first_b = ((const struct run *)b)->first;

    return first_a < first_b ? -1 : first_a > first_b;
}

/* One record for what was settled.  FULL: again next turn. */
static enum mr_err settle_append(struct mr_shard *shard, struct keep *keep)
{
    size_t capacity = 0;
    uint64_t end = 0;
    uint64_t seq = 0;

    if (keep->runs_count == 0) {
        return MR_OK;
    }
    uint8_t *list = mr_bufpool_take(&shard->pool,
                                    (size_t)keep->runs_count * MR_CONTROL_RUN_BYTES_MAX, &capacity);
    if (list == NULL) {
        return MR_ERR_FULL;
    }
    qsort(keep->runs, keep->runs_count, sizeof(*keep->runs), run_compare);
    uint8_t *at = list;
    for (uint32_t i = 0; i < keep->runs_count; i++) {
        at = mr_control_run_put(at, &end, keep->runs[i].first, keep->runs[i].count);
    }
    struct mr_control control = {.kind = MR_CONTROL_SETTLE,
                                 .client = session_id(keep->session),
                                 .list = mr_span_make(list, (size_t)(at - list))};
    enum mr_err err = control_append(shard, &control, &seq);
    mr_bufpool_give(&shard->pool, list, capacity);
    if (err == MR_OK) {
        keep->runs_count = 0;
        keep_mark(shard, keep);
    }
    return err;
}

void queue_settle_flush(struct mr_shard *shard)
{
    struct keep *keep;

    while ((keep = shard->settling) != NULL && !shard->stalled) {
        if (keep->session != NULL && settle_append(shard, keep) != MR_OK) {
            return;
        }
        shard->settling = keep->settle_next;
        keep->settling = false;
        keep_let_go(shard, keep);
    }
}

/* ---- taking out ---- */

/* The first ones may be done by now. */
static void queue_pop(struct keep *keep)
{
    while (keep->count != 0 && queue_at(keep, 0)->state == DELIVERY_DONE) {
        keep->begin = (keep->begin + 1) & (keep->ring_capacity - 1);
        keep->count -= 1;
        keep->next -= keep->next != 0;
    }
    queue_check(keep);
}

static void delivery_end(struct mr_shard *shard, struct keep *keep, struct delivery *delivery)
{
    delivery_forget(shard, keep, delivery);
    keep->bytes -= delivery->kept->bytes;
    kept_unref(shard, delivery->kept);
    delivery->kept = NULL;
    delivery->state = DELIVERY_DONE;
    shard->queued -= 1;
}

/* It has been dealt with: the journal learns of it, the ring forgets it. */
static void queue_done(struct mr_shard *shard, struct keep *keep, uint32_t index)
{
    struct delivery *delivery = queue_at(keep, index);

    queue_settle(shard, keep, delivery->ordinal);
    delivery_end(shard, keep, delivery);
    if (index == 0) {
        queue_pop(keep);
    }
}

/* The delivery of `ordinal`, by halving; count: there is none. */
static uint32_t queue_find(const struct keep *keep, uint64_t ordinal)
{
    uint32_t low = 0;
    uint32_t high = keep->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (queue_at(keep, middle)->ordinal < ordinal) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void queue_forget(struct mr_shard *shard, struct keep *keep, uint64_t first, uint64_t count)
{
    for (uint32_t i = queue_find(keep, first); i < keep->count; i++) {
        struct delivery *delivery = queue_at(keep, i);
        if (delivery->ordinal - first >= count) {
            break;
        }
        if (delivery->state != DELIVERY_DONE) {
            delivery_end(shard, keep, delivery);
        }
    }
    queue_pop(keep);
}

void queue_release(struct mr_shard *shard, struct keep *keep, uint64_t first, uint64_t count)
{
    for (uint32_t i = queue_find(keep, first); i < keep->count; i++) {
        struct delivery *delivery = queue_at(keep, i);
        if (delivery->ordinal - first >= count) {
            break;
        }
        if (delivery->state == DELIVERY_OWED) {
            delivery->state = DELIVERY_RELEASED;
            if (delivery->stored) {
                delivery_write(shard, keep, delivery);
            }
        }
    }
}

void queue_drop(struct mr_shard *shard, struct keep *keep)
{
    for (uint32_t i = 0; i < keep->count; i++) {
        struct delivery *delivery = queue_at(keep, i);
        if (delivery->state != DELIVERY_DONE) {
            delivery_end(shard, keep, delivery);
        }
    }
    keep->count = 0;
    keep->next = 0;
    ring_free(shard, keep);
    if (keep->runs != NULL) {
        mr_bufpool_give(&shard->pool, (uint8_t *)keep->runs,
                        keep->runs_capacity * sizeof(*keep->runs));
    }
}

/* ---- in ---- */

void queue_wake(struct mr_shard *shard, struct keep *keep)
{
    if (!keep->kicked) {
        keep->kicked = true;
        keep->kick_next = shard->kicked;
        shard->kicked = keep;
    }
}

void queue_push(struct mr_shard *shard, struct keep *keep, struct kept *kept,
                const struct delivery *how)
{
    struct delivery delivery = *how;

    delivery.ordinal = keep->ordinal_next++;
    keep_mark(shard, keep);
    if (kept == NULL || !queue_append(shard, keep, kept, &delivery)) {
        shard->restore_short = true; /* at start that is an error */
        queue_settle(shard, keep, delivery.ordinal);
        mr_metric_add(shard->metrics.dropped_memory, 1);
        return;
    }
    queue_wake(shard, keep);
}

void queue_skip(struct mr_shard *shard, struct keep *keep)
{
    keep_mark(shard, keep);
    queue_settle(shard, keep, keep->ordinal_next++);
}

/* Not durable yet: the last ones. */
static uint32_t queue_young(const struct mr_shard *shard, const struct keep *keep,
                            uint64_t durable_seq)
{
    uint32_t young = 0;

    while (young < keep->count) {
        const struct delivery *delivery = queue_at(keep, keep->count - 1 - young);
        if (delivery->state == DELIVERY_DONE || delivery->kept->lane != shard->index ||
            delivery->kept->seq <= durable_seq) {
            break;
        }
        young += 1;
    }
    return young;
}

static void queue_say_full(const struct keep *keep)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        struct mr_span id = session_id(keep->session);
        mr_log(MR_LOG_WARN, "mqtt",
               "the queue of client '%.*s' is full (%u messages, %llu bytes) and new ones are "
               "dropped (%llu more such lines held back); see `max_queued_messages`",
               (int)(id.len < 100 ? id.len : 100), (const char *)id.at, keep->count,
               (unsigned long long)keep->bytes, (unsigned long long)held);
    }
}

static bool queue_is_beyond(const struct mr_shard *shard, const struct keep *keep, uint32_t waiting)
{
    return waiting != 0 && (waiting > shard->limits.max_queued_messages ||
                            keep->bytes > shard->limits.max_queued_bytes);
}

/* Those in front have been sent, to this connection or to one before: they are under way, no
 * more than a window of them, and come again [MQTT-4.4.0-1].
 */
static uint32_t queue_sent(const struct keep *keep)
{
    uint32_t sent = queue_find(keep, keep->ordinal_sent);

    return sent > keep->next ? sent : keep->next;
}

/* Beyond the quotas the newest ones go.  `young` of them are not durable and stay. */
static void queue_trim(struct mr_shard *shard, struct keep *keep, uint32_t young)
{
    uint32_t old = keep->count - young;
    uint32_t end = old;
    uint32_t sent = keep->next;

    if (queue_is_beyond(shard, keep, old > sent ? old - sent : 0)) {
        sent = queue_sent(keep);
    }
    while (end > sent && queue_is_beyond(shard, keep, end - sent)) {
        struct delivery *delivery = queue_at(keep, end - 1);
        if (delivery->state != DELIVERY_DONE) {
            queue_settle(shard, keep, delivery->ordinal);
            delivery_end(shard, keep, delivery);
            mr_metric_add(shard->metrics.dropped_slow, 1);
        }
        end -= 1;
    }
    if (end == old) {
        return;
    }
    queue_say_full(keep);
    for (uint32_t i = 0; i < young; i++) {
        *queue_at(keep, end + i) = *queue_at(keep, old + i);
    }
    keep->count = end + young;
    queue_pop(keep);
}

void queue_kick(struct mr_shard *shard, uint64_t durable_seq)
{
    struct keep *keep = shard->kicked;

    shard->kicked = NULL;
    while (keep != NULL) {
        struct keep *next = keep->kick_next;

        keep->kicked = false;
        if (keep->session == NULL) {
            keep_let_go(shard, keep);
            keep = next;
            continue;
        }
        struct client *client = keep->session->client;
        if (client != NULL) {
            queue_drain(client, durable_seq);
            bring_wake(shard, keep->session);
        }
        uint32_t young = queue_young(shard, keep, durable_seq);
        queue_trim(shard, keep, young);
        share_load(shard, keep->session);
        if (young != 0 || keep->brought_seq > durable_seq ||
            (client != NULL && client->joining && client->join_seq > durable_seq)) {
            queue_wake(shard, keep);
        }
        keep = next;
    }
}

/* ---- out ---- */

void queue_attach(struct keep *keep)
{
    keep->next = 0;
    keep->under_way = 0;
}

/* The acknowledgements that made room for more may be lost, those of QoS 1 at least: only of
 * QoS 2, whose PUBREC is durable before its id is free, it is known how many there can be.
 */
void queue_may_have_sent(struct keep *keep)
{
    uint32_t unanswered = 0;

    for (uint32_t i = 0; i < keep->count && unanswered < keep->window; i++) {
        const struct delivery *delivery = queue_at(keep, i);
        if (delivery->state == DELIVERY_DONE) {
            continue;
        }
        unanswered += delivery->qos == 2 && delivery->state == DELIVERY_OWED;
        if (delivery->ordinal >= keep->ordinal_sent) {
            keep->ordinal_sent = delivery->ordinal + 1;
        }
    }
}

static enum mr_err send_pubrel(struct client *client, uint16_t packet_id, uint64_t seq)
{
    uint8_t bytes[MR_MQTT_ACK_BYTES];

    if (answer_reserve(client, sizeof(bytes)) != MR_OK) {
        return MR_ERR_FULL;
    }
    (void)mr_mqtt_ack_put(bytes, MR_MQTT_PUBREL, packet_id);
    answer_hold(client, seq, bytes, sizeof(bytes));
    return MR_OK;
}

/* REJECT: it cannot or need not be sent, ever.   FULL: not now.   CONFIG: the rules forbid it.
 * CORRUPT: the store has lost it, as has been counted.
 */
static enum mr_err delivery_send(struct client *client, const struct keep *keep,
                                 const struct delivery *delivery)
{
    struct mr_shard *shard = client->shard;
    struct mr_message message;
    struct mr_mqtt_props props;
    struct outgoing outgoing = {.message = &message,
                                .subscription_id = delivery->subscription_id,
                                .packet_id = packet_id_of(delivery->ordinal),
                                .qos = delivery->qos,
                                .retain = delivery->retain,
                                .dup = delivery->ordinal < keep->ordinal_sent};

    if (delivery->state == DELIVERY_RELEASED) {
        return send_pubrel(client, outgoing.packet_id, 0);
    }
    enum mr_err err = kept_read(shard, delivery->kept, &message);
    if (MR_UNLIKELY(err != MR_OK)) {
        kept_read_end(shard);
        return err == MR_ERR_IO ? MR_ERR_FULL : MR_ERR_CORRUPT;
    }
    if (MR_UNLIKELY(!access_may(shard, client->session, message.topic, MR_ACL_READ))) {
        kept_read_end(shard);
        return MR_ERR_CONFIG;
    }
    outgoing.props = message_props(&message, &props);
    err = send_publish(client, &outgoing);
    kept_read_end(shard);
    return err;
}

/* Is the record durable that gave the delivery its ordinal?  Of a retained message that is
 * the SUBSCRIBE, long behind the event; those that carry RETAIN for another reason wait for
 * it too, which is one commit.
 */
static bool delivery_is_durable(const struct mr_shard *shard, const struct keep *keep,
                                const struct delivery *delivery, uint64_t durable_seq)
{
    if (delivery->retain && keep->brought_seq > durable_seq) {
        return false;
    }
    return delivery->kept->lane != shard->index || delivery->kept->seq <= durable_seq;
}

/* May the next one be sent now? */
static bool queue_may_send(const struct client *client, const struct keep *keep,
                           const struct delivery *delivery, uint64_t durable_seq)
{
    uint16_t window = client->receive_max < INFLIGHT_MAX ? client->receive_max : INFLIGHT_MAX;

    return keep->under_way < window &&
           delivery->ordinal - queue_at(keep, 0)->ordinal < ORDINALS_MAX && /* (4) */
           delivery_is_durable(client->shard, keep, delivery, durable_seq);
}

void queue_drain(struct client *client, uint64_t durable_seq)
{
    struct mr_shard *shard = client->shard;
    struct keep *keep = client->session->keep;

    if (client->joining && client->join_seq > durable_seq) {
        return; /* its CONNACK has not left */
    }
    while (keep->next < keep->count) {
        struct delivery *delivery = queue_at(keep, keep->next);
        if (delivery->state == DELIVERY_DONE) {
            keep->next += 1;
            continue;
        }
        if (!queue_may_send(client, keep, delivery, durable_seq)) {
            return;
        }
        if (!client_has_room(client)) {
            if (!deliver_has_memory(shard, 0)) {
                outbound_drain_later(client);
            }
            return;
        }
        enum mr_err err = delivery_send(client, keep, delivery);
        if (err == MR_ERR_FULL) {
            outbound_drain_later(client);
            return;
        }
        if (err == MR_OK) {
            if (delivery->ordinal >= keep->ordinal_sent) {
                keep->ordinal_sent = delivery->ordinal + 1;
            }
            keep->under_way += 1;
            keep->next += 1;
        } else {
            if (err != MR_ERR_CORRUPT) {
                mr_metric_add(err == MR_ERR_CONFIG ? shard->metrics.denied_deliver
                                                   : shard->metrics.dropped_large,
                              1);
            }
            keep->next += 1;
            queue_done(shard, keep, keep->next - 1);
        }
    }
}

/* What is owed under `packet_id`, with `qos`, of those that were sent; count: nothing.  By (4) only
 * one ordinal behind the first has this id.  It lies as far behind unless some were skipped or
 * trimmed; then by halving, for a subscriber that leaves its first message without an ack has
 * 65,534 others to ask for.
 */
static uint32_t queue_find_id(const struct keep *keep, uint16_t packet_id, uint8_t qos)
{
    if (keep->count == 0) {
        return 0;
    }
    uint64_t first = queue_at(keep, 0)->ordinal;
    uint64_t ahead = (packet_id - 1 + ORDINALS_MAX - first % ORDINALS_MAX) % ORDINALS_MAX;
    uint32_t index = (uint32_t)ahead;

    if (index >= keep->count || queue_at(keep, index)->ordinal != first + ahead) {
        index = queue_find(keep, first + ahead);
    }
    if (index == keep->count) {
        return index;
    }
    const struct delivery *delivery = queue_at(keep, index);
    bool is_it = delivery->ordinal == first + ahead && delivery->state != DELIVERY_DONE &&
                 delivery->qos == qos;
    return is_it ? index : keep->count;
}

static void queue_finish(struct mr_shard *shard, struct keep *keep, uint32_t index)
{
    keep->under_way -= 1;
    queue_done(shard, keep, index);
    share_load(shard, keep->session);
}

bool queue_acked(struct client *client, uint16_t packet_id)
{
    struct keep *keep = client->session->keep;
    uint32_t index = queue_find_id(keep, packet_id, 1);

    if (index >= keep->next) {
        return false;
    }
    queue_finish(client->shard, keep, index);
    return true;
}

bool queue_completed(struct client *client, uint16_t packet_id)
{
    struct keep *keep = client->session->keep;
    uint32_t index = queue_find_id(keep, packet_id, 2);

    if (index >= keep->next || queue_at(keep, index)->state != DELIVERY_RELEASED) {
        return false;
    }
    queue_finish(client->shard, keep, index);
    return true;
}

/* What was sent with QoS 2 under `packet_id`, to this connection or an earlier one: a
 * PUBREC may be the answer to what we have not repeated yet.  count: nothing.
 */
static uint32_t queue_find_sent(const struct keep *keep, uint16_t packet_id)
{
    uint32_t index = queue_find_id(keep, packet_id, 2);
    bool sent = index < keep->next ||
                (index < keep->count && queue_at(keep, index)->ordinal < keep->ordinal_sent);

    return sent ? index : keep->count;
}

enum verdict queue_received(struct client *client, const struct mr_mqtt_ack *packet)
{
    struct mr_shard *shard = client->shard;
    struct keep *keep = client->session->keep;
    uint32_t index = queue_find_sent(keep, packet->packet_id);
    uint8_t list[MR_CONTROL_RUN_BYTES_MAX];
    uint64_t end = 0;
    uint64_t seq = 0;

    if (index == keep->count) {
        return pubrel_unknown(client, packet->packet_id);
    }
    struct delivery *delivery = queue_at(keep, index);
    if (packet->reason >= MR_MQTT_UNSPECIFIED && index < keep->next) {
        queue_finish(shard, keep, index); /* 4.3.3: over, the id is free */
        queue_drain(client, shard->seq_released);
        return PACKET_DONE;
    }
    if (shard->stalled || answer_reserve(client, MR_MQTT_ACK_BYTES) != MR_OK) {
        shard_stall(shard);
        return PACKET_LATER;
    }
    if (delivery->state != DELIVERY_RELEASED) {
        uint8_t *at = mr_control_run_put(list, &end, delivery->ordinal, 1);
        struct mr_control control = {.kind = MR_CONTROL_RELEASE,
                                     .client = session_id(client->session),
                                     .list = mr_span_make(list, (size_t)(at - list))};
        if (control_append(shard, &control, &seq) != MR_OK) {
            return PACKET_LATER;
        }
        queue_release(shard, keep, delivery->ordinal, 1);
        keep_mark(shard, keep);
    }
    (void)!send_pubrel(client, packet->packet_id, seq); /* reserved above */
    return PACKET_DONE;
}
