/* test_answer_memory.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   a packet that finds no memory for what it asks or for its answer waits, or its connection
 *         ends; as soon as there is some it is answered, once, and what the answer says is so: a
 *         publish is delivered once, a refused one never, a subscription is there or not, also
 *         behind a crash.
 * Method: a client sends all of a packet but its last byte; the pool lends what it has to the test,
 *         but for a little more each time; the last byte comes; then there is memory again.
 */
#include "broker_peer.h"
#include "lent_kit.h"

enum { LEFT_MAX = 768, STEP = 64, TURNS = 3, EXPIRY_S = 3600, BYTES_MAX = 512 };

static struct kit kit;

/* ---- memory ---- */

static void on_shard(void (*run)(struct mr_shard *shard, void *arg), void *arg)
{
    mr_assert(shard_call(kit.broker->shards[0], run, arg) == MR_OK);
}

/* Let the shard do what it can with what has been sent. */
static void turns(void)
{
    for (int i = 0; i < TURNS; i++) {
        on_shard(nothing, NULL);
    }
}

/* ---- packets ---- */

struct packet {
    uint8_t bytes[BYTES_MAX];
    size_t len;
};

static struct packet publish_packet(const struct mr_mqtt_publish *publish)
{
    struct packet packet;
    ptrdiff_t len = mr_mqtt_publish_encode(publish, 5, packet.bytes, BYTES_MAX);

    mr_assert(len > 0);
    packet.len = (size_t)len;
    return packet;
}

static struct packet ack_packet(uint8_t type, uint16_t packet_id)
{
    struct packet packet = {.len = MR_MQTT_ACK_BYTES};

    (void)mr_mqtt_ack_put(packet.bytes, type, packet_id);
    return packet;
}

static struct packet filter_packet(bool subscribes, const char *filter)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = 1};
    uint8_t raw[BYTES_MAX / 2];
    struct packet packet;
    ptrdiff_t len = subscribes ? mr_mqtt_subscription_put(&wanted, raw, sizeof(raw))
                               : mr_mqtt_unsubscription_put(wanted.filter, raw, sizeof(raw));

    mr_assert(len > 0);
    const struct mr_mqtt_subscribe subscribe = {.packet_id = 7,
                                                .raw = mr_span_make(raw, (size_t)len)};
    len = (subscribes ? mr_mqtt_subscribe_encode
                      : mr_mqtt_unsubscribe_encode)(&subscribe, 5, packet.bytes, BYTES_MAX);
    mr_assert(len > 0);
    packet.len = (size_t)len;
    return packet;
}

static bool has_packet(const struct peer *peer, struct mr_mqtt_frame *frame)
{
    return mr_mqtt_frame(mr_span_make(peer->in + peer->begin, peer->end - peer->begin),
                         MR_MQTT_PACKET_MAX, frame) == MR_OK;
}

/* It comes while `left` bytes can be had.  True: it is answered, and *frame is that; false: the
 * connection has ended, perhaps with a DISCONNECT.
 */
static bool answered(struct peer *peer, const struct packet *packet, size_t left,
                     struct mr_mqtt_frame *frame)
{
    struct taking taking = {.left = left};
    int64_t deadline = kit_deadline();

    peer_write(peer, packet->bytes, packet->len - 1);
    turns();
    on_shard(take_all, &taking);
    peer_write(peer, packet->bytes + packet->len - 1, 1);
    turns();
    on_shard(give_all, &taking);
    while (!has_packet(peer, frame) && !peer->closed) {
        peer_receive(peer, 1000000);
        kit_patience(deadline, "an answer, or the end");
    }
    return peer_frame(peer, frame) && frame->type != MR_MQTT_DISCONNECT;
}

/* ---- clients ---- */

/* A persistent session. */
static void join(struct peer *peer, const char *id)
{
    (void)peer_join_as(
        peer, &kit,
        &(struct peer_connect){
            .client_id = id, .version = 5, .keep_session = true, .expiry_s = EXPIRY_S});
}

static void subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    const struct mr_mqtt_subscription wanted = {
        .filter = mr_span_of(filter), .qos = qos, .retain_handling = 2};

    mr_assert(peer_subscribe(peer, &wanted, 0) == qos);
}

static uint8_t ack_of(const struct mr_mqtt_frame *frame, uint8_t type, uint16_t packet_id)
{
    const struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_ack ack;
    struct mr_mqtt_why why;

    mr_assert(frame->type == type && mr_mqtt_ack_decode(frame, mode, &ack, &why) == MR_OK);
    mr_assert(ack.packet_id == packet_id);
    return ack.reason;
}

/* Another publish, behind what was asked for: its payload is all that comes, or comes next. */
static void publish_next(const char *topic)
{
    struct peer pub;

    peer_join(&pub, &kit, "next", 5);
    peer_publish(&pub, topic, "next", 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_close(&pub);
}

static void expect(struct peer *sub, const char *topic, const char *payload)
{
    struct mr_mqtt_publish got;

    peer_expect_publish(sub, topic, payload, 1, &got);
    peer_ack(sub, got.packet_id);
}

/* ---- PUBLISH ---- */

static int later; /* those that were answered, all in all */
static int ended;

static void count(bool was_answered)
{
    later += was_answered;
    ended += !was_answered;
}

static int64_t dropped(void)
{
    return mr_metric_get(kit.broker->shards[0]->metrics.dropped_memory);
}

/* Of a publish and the next one: does it come?  Once. */
static bool comes(struct peer *sub)
{
    struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_publish got;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;

    mr_assert(peer_frame(sub, &frame) && frame.type == MR_MQTT_PUBLISH);
    mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
    peer_ack(sub, got.packet_id);
    bool came = mr_span_is(got.payload, "this");
    if (came) {
        expect(sub, "t", "next");
    }
    peer_quiet(sub);
    return came;
}

/* To one that is away, in whose queue it is, unless it was dropped for lack of memory, and counted.
 */
static void test_publish(size_t left, uint8_t qos)
{
    const struct packet packet =
        publish_packet(&(struct mr_mqtt_publish){.topic = mr_span_of("t"),
                                                 .payload = mr_span_of("this"),
                                                 .qos = qos,
                                                 .packet_id = 5,
                                                 .retain = left % 128 == 0});
    struct mr_mqtt_frame frame;
    struct peer sub;
    struct peer pub;

    join(&sub, "sub");
    subscribe(&sub, "t", 1);
    peer_close(&sub);
    join(&pub, "pub");
    int64_t dropped_before = dropped();
    uint64_t before = mr_lane_next_seq(kit.lane);
    bool was = answered(&pub, &packet, left, &frame);
    count(was);
    if (was) {
        mr_assert(ack_of(&frame, qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC, 5) == 0);
        mr_assert(mr_lane_durable(kit.lane) >= before);
    }
    bool kept = dropped() == dropped_before;
    peer_close(&pub);
    publish_next("t");
    join(&sub, "sub");
    bool came = comes(&sub);
    mr_assert(!was || came == kept);
    peer_close(&sub);
}

/* To a group whose member is away, or there and keeps nothing: the record that gives it waits, too.
 */
static void test_publish_to_group(size_t left, bool away)
{
    const struct packet packet = publish_packet(&(struct mr_mqtt_publish){
        .topic = mr_span_of("t"), .payload = mr_span_of("this"), .qos = 1, .packet_id = 5});
    struct mr_mqtt_frame frame;
    struct peer keeps;
    struct peer live;
    struct peer pub;

    join(&keeps, "sub");
    subscribe(&keeps, "$share/g/t", 1);
    peer_close(&keeps);
    if (!away) {
        peer_join(&live, &kit, "live", 5);
        subscribe(&live, "$share/g/t", 1);
    }
    peer_join(&pub, &kit, "pub", 5);
    int64_t dropped_before = dropped();
    bool was = answered(&pub, &packet, left, &frame);
    count(was);
    if (was) {
        mr_assert(ack_of(&frame, MR_MQTT_PUBACK, 5) == 0);
    }
    peer_close(&pub);
    publish_next("t");
    if (away) {
        join(&keeps, "sub");
    }
    struct peer *sub = away ? &keeps : &live;
    bool came = comes(sub);
    mr_assert(!was || came == (dropped() == dropped_before));
    peer_close(sub);
}

/* The repetition of one that it has. */
static void test_publish_again(size_t left)
{
    struct mr_mqtt_publish publish = {
        .topic = mr_span_of("t"), .payload = mr_span_of("this"), .qos = 2, .packet_id = 5};
    struct packet packet = publish_packet(&publish);
    struct mr_mqtt_frame frame;
    struct peer sub;
    struct peer pub;

    join(&sub, "sub");
    subscribe(&sub, "t", 1);
    join(&pub, "pub");
    peer_write(&pub, packet.bytes, packet.len);
    mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 5) == 0);
    expect(&sub, "t", "this");
    publish.dup = true;
    packet = publish_packet(&publish);
    bool was = answered(&pub, &packet, left, &frame);
    count(was);
    if (was) {
        mr_assert(ack_of(&frame, MR_MQTT_PUBREC, 5) == 0);
    }
    peer_close(&pub);
    publish_next("t");
    expect(&sub, "t", "next");
    peer_quiet(&sub);
    peer_close(&sub);
}

static void test_publish_refused(size_t left)
{
    const struct packet packet = publish_packet(&(struct mr_mqtt_publish){
        .topic = mr_span_of("$SYS/mine"), .payload = mr_span_of("this"), .qos = 1, .packet_id = 5});
    struct mr_mqtt_frame frame;
    struct peer pub;

    join(&pub, "pub");
    bool was = answered(&pub, &packet, left, &frame);
    count(was);
    if (was) {
        mr_assert(ack_of(&frame, MR_MQTT_PUBACK, 5) >= MR_MQTT_UNSPECIFIED);
        peer_quiet(&pub);
    }
    peer_close(&pub);
}

/* Its alias is defined by it; what else it says of itself goes on. */
static void test_publish_with_alias(size_t left)
{
    struct mr_mqtt_publish publish = {.topic = mr_span_of("t"),
                                      .payload = mr_span_of("this"),
                                      .qos = 1,
                                      .packet_id = 5,
                                      .props = {.topic_alias = 3}};
    struct mr_mqtt_frame frame;
    struct mr_mqtt_publish got;
    struct peer sub;
    struct peer pub;

    mr_mqtt_set(&publish.props, MR_MQTT_PROP_TOPIC_ALIAS);
    publish.props.content_type = mr_span_of("text");
    mr_mqtt_set(&publish.props, MR_MQTT_PROP_CONTENT_TYPE);
    struct packet packet = publish_packet(&publish);
    join(&sub, "sub");
    subscribe(&sub, "t", 1);
    join(&pub, "pub");
    int64_t dropped_before = dropped();
    bool was = answered(&pub, &packet, left, &frame);
    count(was);
    if (was) {
        bool kept = dropped() == dropped_before;
        mr_assert(ack_of(&frame, MR_MQTT_PUBACK, 5) == 0);
        publish.topic = mr_span_of("");
        publish.payload = mr_span_of("that");
        packet = publish_packet(&publish);
        peer_write(&pub, packet.bytes, packet.len);
        mr_assert(peer_expect_puback(&pub, 5) == 0);
        if (kept) {
            peer_expect_publish(&sub, "t", "this", 1, &got);
            mr_assert(mr_span_is(got.props.content_type, "text"));
        }
        peer_expect_publish(&sub, "t", "that", 1, &got);
        mr_assert(mr_span_is(got.props.content_type, "text"));
    }
    peer_close(&pub);
    peer_close(&sub);
}

/* ---- the rest of QoS 2 ---- */

/* From a publisher: PUBREL, of an id that it used or did not. */
static void test_pubrel(size_t left, bool known)
{
    const struct packet packet = ack_packet(MR_MQTT_PUBREL, 5);
    struct mr_mqtt_frame frame;
    struct peer pub;

    join(&pub, "pub");
    if (known) {
        peer_publish(&pub, "t", "this", 2, 5);
        mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 5) == 0);
    }
    bool was = answered(&pub, &packet, left, &frame);
    count(was);
    if (was) {
        mr_assert(ack_of(&frame, MR_MQTT_PUBCOMP, 5) ==
                  (known ? MR_MQTT_SUCCESS : MR_MQTT_PACKET_ID_NOT_FOUND));
        peer_quiet(&pub);
    }
    peer_close(&pub);
}

/* From a subscriber: PUBREC, of what it was sent or was not. */
static void test_pubrec(size_t left, bool known)
{
    struct mr_mqtt_publish got = {.packet_id = 5};
    struct mr_mqtt_frame frame;
    struct peer sub;
    struct peer pub;

    join(&sub, "sub");
    if (known) {
        subscribe(&sub, "t", 2);
        peer_join(&pub, &kit, "pub", 5);
        peer_publish(&pub, "t", "this", 2, 1);
        mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 1) == 0);
        peer_close(&pub);
        peer_expect_publish(&sub, "t", "this", 2, &got);
    }
    const struct packet packet = ack_packet(MR_MQTT_PUBREC, got.packet_id);
    bool was = answered(&sub, &packet, left, &frame);
    count(was);
    if (!was) { /* again */
        peer_close(&sub);
        join(&sub, "sub");
        if (known) {
            peer_expect_publish(&sub, "t", "this", 2, &got);
        }
        peer_send_ack(&sub, MR_MQTT_PUBREC, got.packet_id);
        mr_assert(peer_frame(&sub, &frame));
    }
    mr_assert(ack_of(&frame, MR_MQTT_PUBREL, got.packet_id) ==
              (known ? MR_MQTT_SUCCESS : MR_MQTT_PACKET_ID_NOT_FOUND));
    peer_send_ack(&sub, MR_MQTT_PUBCOMP, got.packet_id);
    peer_quiet(&sub);
    peer_close(&sub);
    join(&sub, "sub"); /* it is settled */
    peer_quiet(&sub);
    peer_close(&sub);
}

/* ---- acknowledgements with holes ---- */

/* Every other one is acknowledged while the journal cannot be told: behind a crash those come again
 * of which it knows nothing, and none is missing.
 */
static void test_acked_with_holes(size_t left)
{
    enum { MESSAGES = 24 };
    static const char letters[] = "abcdefghijklmnopqrstuvwx";
    struct taking taking = {.left = left};
    const struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    uint16_t ids[MESSAGES];
    struct mr_mqtt_publish got;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;
    struct peer sub;
    struct peer pub;
    int again = 0;

    join(&sub, "sub");
    subscribe(&sub, "t", 1);
    peer_join(&pub, &kit, "pub", 5);
    for (int i = 0; i < MESSAGES; i++) {
        const char text[2] = {letters[i], 0};
        peer_publish(&pub, "t", text, 1, 1);
        mr_assert(peer_expect_puback(&pub, 1) == 0);
        peer_expect_publish(&sub, "t", text, 1, &got);
        ids[i] = got.packet_id;
    }
    on_shard(take_all, &taking);
    for (int i = 1; i < MESSAGES; i += 2) {
        peer_ack(&sub, ids[i]);
    }
    turns();
    on_shard(give_all, &taking);
    peer_quiet(&sub);
    peer_publish(&pub, "behind", "x", 1, 1); /* what the acknowledgements left is durable, too */
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    kit_crash(&kit);
    peer_close(&sub);
    peer_close(&pub);
    join(&sub, "sub");
    for (int i = 0; i < MESSAGES;) {
        mr_assert(peer_frame(&sub, &frame) && frame.type == MR_MQTT_PUBLISH);
        mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
        if (i % 2 == 1 && !mr_span_equal(got.payload, mr_span_make(letters + i, 1))) {
            i += 1; /* it had been noted */
        }
        mr_assert(mr_span_equal(got.payload, mr_span_make(letters + i, 1)) &&
                  got.packet_id == ids[i] && got.dup);
        again += i % 2;
        i += i == MESSAGES - 2 ? 2 : 1;
    }
    mr_assert(left != 0 || again != 0);
    mr_assert(left < LEFT_MAX || again == 0);
    peer_close(&sub);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ---- */

/* The last code of a SUBACK or UNSUBACK. */
static uint8_t code_of(const struct mr_mqtt_frame *frame, uint8_t type)
{
    mr_assert(frame->type == type);
    return frame->body.at[frame->body.len - 1];
}

static void expect_subscribed(struct peer *sub, bool is, const char *topic)
{
    publish_next(topic);
    if (is) {
        expect(sub, topic, "next");
    }
    peer_quiet(sub);
}

static void test_subscribe(size_t left, const char *filter, const char *topic)
{
    const struct packet packet = filter_packet(true, filter);
    struct mr_mqtt_frame frame;
    struct peer sub;

    join(&sub, "sub");
    bool was = answered(&sub, &packet, left, &frame);
    count(was);
    bool is = was && code_of(&frame, MR_MQTT_SUBACK) == 1;
    if (!was) {
        peer_close(&sub);
        join(&sub, "sub");
    } else {
        mr_assert(is || code_of(&frame, MR_MQTT_SUBACK) == MR_MQTT_QUOTA_EXCEEDED);
    }
    expect_subscribed(&sub, is, topic);
    peer_close(&sub);
}

static void test_unsubscribe(size_t left, const char *filter, const char *topic)
{
    const struct packet packet = filter_packet(false, filter);
    struct mr_mqtt_frame frame;
    struct peer sub;

    join(&sub, "sub");
    subscribe(&sub, filter, 1);
    bool was = answered(&sub, &packet, left, &frame);
    count(was);
    if (was) {
        mr_assert(code_of(&frame, MR_MQTT_UNSUBACK) == MR_MQTT_SUCCESS);
    } else {
        peer_close(&sub);
        join(&sub, "sub");
    }
    expect_subscribed(&sub, !was, topic);
    peer_close(&sub);
}

/* ---- all of them ---- */

/* Nobody has a session any more. */
static void forget(void)
{
    static const char *const ids[] = {"sub", "pub"};
    struct peer peer;

    for (size_t i = 0; i < MR_COUNT_OF(ids); i++) {
        struct mr_mqtt_connack connack;
        peer_open(&peer, &kit);
        peer_send_connect(&peer, &(struct peer_connect){.client_id = ids[i], .version = 5});
        peer_expect_connack(&peer, &connack);
        mr_assert(connack.reason == 0);
        peer_close(&peer);
    }
}

static void test_all(size_t left)
{
    test_publish(left, 1);
    forget();
    test_publish(left, 2);
    forget();
    test_publish_again(left);
    forget();
    test_publish_refused(left);
    forget();
    test_publish_to_group(left, true);
    forget();
    test_publish_to_group(left, false);
    forget();
    test_publish_with_alias(left);
    forget();
    test_pubrel(left, true);
    test_pubrel(left, false);
    forget();
    test_pubrec(left, true);
    forget();
    test_pubrec(left, false);
    forget();
    test_subscribe(left, "some/filter/+", "some/filter/x");
    forget();
    test_subscribe(left, "$share/g/some/+", "some/x");
    forget();
    test_unsubscribe(left, "some/filter/+", "some/filter/x");
    forget();
    test_unsubscribe(left, "$share/g/some/+", "some/x");
    forget();
}

int main(void)
{
    mr_log_set_level(MR_LOG_ERROR);
    kit_open(&kit, &(struct kit_options){.memory_bytes = 8 << 20, .checkpoint_ms = 600000});
    for (size_t left = 0; left <= LEFT_MAX; left += STEP) {
        test_all(left);
    }
    for (size_t left = 0; left <= LEFT_MAX; left += LEFT_MAX / 4) {
        test_acked_with_holes(left);
        forget();
    }
    printf("%d were answered later, of %d the connection ended\n", later, ended);
    mr_assert(later > ended && ended != 0);
    kit_close(&kit);
    return 0;
}
