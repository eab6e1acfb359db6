/* test_share_member.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what a member of a group gets, and what becomes of it: acknowledged in any order, only
 *         what was not goes on when it leaves; RETAIN comes as the subscription wants it; a filter
 *         may be long; with QoS 0 a member that stays has what comes while it is there, and no
 *         message of QoS 1 is lost by it; what was for one that leaves before the disk has said so
 *         goes to another; so does what no record can hold to nobody, without harm to the rest.
 * Method: a group of two, of which one leaves; where a moment is to be held, a journal that commits
 *         by hand.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

#include <fcntl.h>

enum { PATIENCE_NS = 500000, FILTER_BYTES = 400 };

static const char shared[] = "$share/g/q";

static struct kit kit;

/* ---- steps ---- */

/* Until a packet has come; what the broker hands over to `lane` is committed meanwhile. */
static void await_packet(struct peer *peer, uint32_t lane)
{
    int64_t deadline = kit_deadline();
    struct mr_mqtt_frame frame;

    while (mr_mqtt_frame(mr_span_make(peer->in + peer->begin, peer->end - peer->begin),
                         MR_MQTT_PACKET_MAX, &frame) != MR_OK) {
        if (kit.options.manual) {
            (void)mr_lane_step_commit(mr_journal_lane(kit.journal, lane));
        }
        peer_receive(peer, PATIENCE_NS);
        kit_patience(deadline, "a packet");
    }
}

static void send_connect(struct peer *peer, const char *id, bool persistent)
{
    peer_open(peer, &kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id,
                                                   .version = 5,
                                                   .keep_session = persistent,
                                                   .expiry_s = persistent ? 3600 : 0});
}

/* At home in `lane`. */
static bool join_in(struct peer *peer, const char *id, bool persistent, uint32_t lane)
{
    struct mr_mqtt_connack connack;

    send_connect(peer, id, persistent);
    await_packet(peer, lane);
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0);
    return connack.session_present;
}

static bool join(struct peer *peer, const char *id, bool persistent)
{
    return join_in(peer, id, persistent, 0);
}

static void subscribe_as(struct peer *peer, const struct mr_mqtt_subscription *wanted,
                         uint32_t lane)
{
    struct mr_mqtt_frame frame;

    peer_send_subscribe(peer, wanted, 0);
    await_packet(peer, lane);
    mr_assert(peer_frame(peer, &frame) && frame.type == MR_MQTT_SUBACK);
    mr_assert(frame.body.at[frame.body.len - 1] == wanted->qos);
}

static void subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    subscribe_as(peer, &(struct mr_mqtt_subscription){.filter = mr_span_of(filter), .qos = qos}, 0);
}

static void publish(struct peer *pub, const char *topic, const char *payload, uint8_t qos)
{
    peer_publish(pub, topic, payload, qos, qos == 0 ? 0 : 1);
    if (qos == 0) {
        peer_quiet(pub);
    } else {
        await_packet(pub, 0);
        mr_assert(peer_expect_puback(pub, 1) == 0);
    }
}

static uint16_t expect(struct peer *peer, const char *topic, const char *payload, uint8_t qos)
{
    struct mr_mqtt_publish got;

    await_packet(peer, 0);
    peer_expect_publish(peer, topic, payload, qos, &got);
    return got.packet_id;
}

static void quiet(struct peer *peer)
{
    for (uint32_t lane = 0; kit.options.manual && lane < mr_journal_lane_count(kit.journal);) {
        lane = mr_lane_step_commit(mr_journal_lane(kit.journal, lane)) ? 0 : lane + 1;
    }
    peer_quiet(peer);
}

/* Without a word; the broker knows of it when the end comes back. */
static void leave(struct peer *peer)
{
    int64_t deadline = kit_deadline();

    mr_socket_shutdown(peer->fd);
    while (!peer->closed) {
        peer->begin = peer->end;
        peer_receive(peer, PATIENCE_NS);
        kit_patience(deadline, "the end of a connection");
    }
    peer_close(peer);
}

/* ---- what it has not acknowledged ---- */

static void test_acknowledged_in_any_order(void)
{
    static const char *const jobs[] = {"0", "1", "2", "3"};
    struct peer goes;
    struct peer stays;
    struct peer pub;
    uint16_t ids[MR_COUNT_OF(jobs)];

    kit_open(&kit, &(struct kit_options){0});
    (void)join(&goes, "goes", false);
    (void)join(&pub, "pub", false);
    subscribe(&goes, shared, 1);
    subscribe(&goes, "own", 1);
    for (size_t i = 0; i < MR_COUNT_OF(jobs); i++) {
        publish(&pub, "q", jobs[i], 1);
        ids[i] = expect(&goes, "q", jobs[i], 1);
    }
    publish(&pub, "own", "x", 1);
    peer_ack(&goes, expect(&goes, "own", "x", 1)); /* of no group */
    peer_ack(&goes, ids[1]);                       /* between others, then the last */
    peer_ack(&goes, ids[3]);
    publish(&pub, "q", "4", 1);
    peer_ack(&goes, expect(&goes, "q", "4", 1));
    quiet(&goes);
    (void)join(&stays, "stays", false);
    subscribe(&stays, shared, 1);
    leave(&goes);
    peer_ack(&stays, expect(&stays, "q", "0", 1));
    peer_ack(&stays, expect(&stays, "q", "2", 1));
    quiet(&stays);
    peer_close(&stays);
    peer_close(&pub);
    kit_close(&kit);
}

/* A subscription with the longest filter that a leaving member may have to name. */
static void test_long_filter(bool persistent)
{
    char filter[FILTER_BYTES + 1];
    struct peer goes;
    struct peer stays;
    struct peer pub;

    memset(filter, 'f', FILTER_BYTES);
    memcpy(filter, shared, strlen(shared));
    filter[FILTER_BYTES] = 0;
    const char *topic = filter + strlen("$share/g/");
    kit_open(&kit, &(struct kit_options){0});
    (void)join(&goes, "goes", persistent);
    (void)join(&pub, "pub", false);
    subscribe(&goes, filter, 1);
    publish(&pub, topic, "job", 1);
    (void)expect(&goes, topic, "job", 1);
    (void)join(&stays, "stays", false);
    subscribe(&stays, filter, 1);
    leave(&goes);
    peer_ack(&stays, expect(&stays, topic, "job", 1));
    publish(&pub, topic, "next", 1);
    peer_ack(&stays, expect(&stays, topic, "next", 1));
    quiet(&stays);
    peer_close(&stays);
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- how it comes ---- */

static void publish_retained(struct peer *pub, uint8_t qos)
{
    struct mr_mqtt_publish packet = {.topic = mr_span_of("q"),
                                     .payload = mr_span_of("job"),
                                     .qos = qos,
                                     .packet_id = qos == 0 ? 0 : 1,
                                     .retain = true};
    uint8_t bytes[64];
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(pub, bytes, (size_t)len);
    if (qos == 0) {
        peer_quiet(pub);
    } else {
        mr_assert(peer_expect_puback(pub, 1) == 0);
    }
}

/* Each group as its member wants it. */
static void test_retain_as_published(uint8_t qos, bool persistent)
{
    const struct mr_mqtt_subscription kept = {
        .filter = mr_span_of("$share/kept/q"), .qos = 1, .retain_as_published = true};
    struct mr_mqtt_publish got;
    struct peer with;
    struct peer without;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){0});
    (void)join(&with, "with", persistent);
    (void)join(&without, "without", persistent);
    (void)join(&pub, "pub", false);
    subscribe_as(&with, &kept, 0);
    subscribe(&without, shared, 1);
    publish_retained(&pub, qos);
    peer_expect_publish(&with, "q", "job", qos, &got);
    mr_assert(got.retain);
    peer_expect_publish(&without, "q", "job", qos, &got);
    mr_assert(!got.retain);
    publish(&pub, "q", "plain", qos);
    peer_expect_publish(&with, "q", "plain", qos, &got);
    mr_assert(!got.retain);
    peer_close(&with);
    peer_close(&without);
    peer_close(&pub);
    kit_close(&kit);
}

/* Its session stays, and it asked for QoS 0: it gets what comes while it is there; another one
 * keeps what comes when nobody is.
 */
static void test_qos0_of_one_that_stays(void)
{
    struct peer light;
    struct peer keeps;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){0});
    (void)join(&light, "light", true);
    (void)join(&pub, "pub", false);
    subscribe(&light, shared, 0);
    publish(&pub, "q", "zero", 0);
    (void)expect(&light, "q", "zero", 0);
    publish(&pub, "q", "one", 1);
    (void)expect(&light, "q", "one", 0);
    (void)join(&keeps, "keeps", true);
    subscribe(&keeps, shared, 1);
    leave(&keeps);
    leave(&light);
    for (int i = 0; i < 3; i++) {
        publish(&pub, "q", "kept", 1);
    }
    mr_assert(join(&light, "light", true));
    quiet(&light);
    mr_assert(join(&keeps, "keeps", true));
    for (int i = 0; i < 3; i++) {
        peer_ack(&keeps, expect(&keeps, "q", "kept", 1));
    }
    quiet(&keeps);
    quiet(&light);
    peer_close(&keeps);
    peer_close(&light);
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- how much ---- */

/* Two who are away have as many as may wait for one; the next one is dropped, and is nobody's. */
static void test_queues_that_are_full(void)
{
    static const char *const jobs[] = {"0", "1", "2", "3", "4"};
    struct mr_broker_stats before;
    struct mr_broker_stats after;
    struct peer members[2];
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.max_queued_messages = 2});
    for (int i = 0; i < 2; i++) {
        (void)join(&members[i], i == 0 ? "left" : "right", true);
        subscribe(&members[i], shared, 1);
        leave(&members[i]);
    }
    (void)join(&pub, "pub", false);
    mr_broker_stats(kit.broker, &before);
    for (size_t i = 0; i < MR_COUNT_OF(jobs); i++) {
        publish(&pub, "q", jobs[i], 1);
    }
    for (int i = 0; i < 2; i++) { /* they took turns */
        mr_assert(join(&members[i], i == 0 ? "left" : "right", true));
        peer_ack(&members[i], expect(&members[i], "q", jobs[i], 1));
        peer_ack(&members[i], expect(&members[i], "q", jobs[i + 2], 1));
        quiet(&members[i]);
    }
    mr_broker_stats(kit.broker, &after);
    mr_assert(after.messages_dropped == before.messages_dropped + 1);
    peer_close(&members[0]);
    peer_close(&members[1]);
    peer_close(&pub);
    kit_close(&kit);
}

/* One that takes one at a time has one, and as many wait for it as may; then another one's window
 * has more room.
 */
static void test_window_of_one(void)
{
    static const char *const jobs[] = {"0", "1", "2", "3", "4"};
    struct mr_mqtt_connack connack;
    struct peer slow;
    struct peer other;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.max_queued_messages = 2});
    peer_open(&slow, &kit);
    peer_send_connect(&slow,
                      &(struct peer_connect){.client_id = "slow", .version = 5, .receive_max = 1});
    peer_expect_connack(&slow, &connack);
    subscribe(&slow, shared, 1);
    (void)join(&pub, "pub", false);
    for (int i = 0; i < 3; i++) {
        publish(&pub, "q", jobs[i], 1);
    }
    (void)expect(&slow, "q", jobs[0], 1);
    (void)join(&other, "other", true);
    subscribe(&other, shared, 1);
    for (int i = 3; i < 5; i++) {
        publish(&pub, "q", jobs[i], 1);
        peer_ack(&other, expect(&other, "q", jobs[i], 1));
    }
    quiet(&slow);
    leave(&slow); /* all that it did not acknowledge */
    for (int i = 0; i < 3; i++) {
        peer_ack(&other, expect(&other, "q", jobs[i], 1));
    }
    quiet(&other);
    peer_close(&other);
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- before the disk has said so ---- */

static void has_pending(struct mr_shard *shard, void *arg)
{
    *(bool *)arg = shard->pending_first != NULL && shard->pending_first->group != NULL;
}

static char light_id[] = "light-?"; /* at home in lane 1 */

static void joins(struct mr_shard *shard, void *arg)
{
    const struct session *session = session_find(shard, mr_span_of(light_id));

    *(bool *)arg = session != NULL && session->client != NULL && session->client->joining;
}

static void has_waiting(struct mr_shard *shard, void *arg)
{
    has_pending(shard, arg); /* with a record of its own by now, or without */
    *(bool *)arg |= shard->shared_first != NULL;
}

static bool is_so(uint32_t lane, void (*look)(struct mr_shard *shard, void *arg))
{
    bool is = false;

    mr_assert(shard_call(kit.broker->shards[lane], look, &is) == MR_OK);
    return is;
}

static void await(uint32_t lane, void (*look)(struct mr_shard *shard, void *arg), const char *what)
{
    int64_t deadline = kit_deadline();

    while (!is_so(lane, look)) {
        kit_patience(deadline, what);
    }
}

/* Closes it. */
static void rules_write(int fd, const char *text)
{
    mr_assert(fd >= 0);
    mr_assert(write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

/* The record that gives it to one whose session ends with its connection is not durable when that
 * leaves.
 */
static void test_leaves_before_it_is_durable(void)
{
    struct peer keeps;
    struct peer goes;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.manual = true});
    (void)join(&keeps, "keeps", true);
    subscribe(&keeps, shared, 1);
    leave(&keeps);
    (void)join(&goes, "goes", false);
    subscribe(&goes, shared, 1);
    (void)join(&pub, "pub", false);
    publish(&pub, "q", "job", 1); /* who is there is chosen */
    await(0, has_pending, "the record that gives it");
    leave(&goes);
    mr_assert(join(&keeps, "keeps", true));
    peer_ack(&keeps, expect(&keeps, "q", "job", 1));
    quiet(&keeps);
    peer_close(&keeps);
    peer_close(&pub);
    kit_close(&kit);
}

/* ... and then it may not read it any more. */
static void test_rights_end_before_it_is_durable(void)
{
    char path[] = "/tmp/mr-acl-XXXXXX";
    struct mr_error why = {.text = ""};
    struct peer keeps;
    struct peer live;
    struct peer pub;
    int64_t deadline = kit_deadline();

    rules_write(mkstemp(path), "topic readwrite q\n");
    kit_open(&kit, &(struct kit_options){.manual = true, .acl_file = path});
    (void)join(&keeps, "keeps", true);
    subscribe(&keeps, shared, 1);
    leave(&keeps);
    (void)join(&live, "live", false);
    subscribe(&live, shared, 1);
    (void)join(&pub, "pub", false);
    publish(&pub, "q", "job", 1);
    await(0, has_pending, "the record that gives it");
    rules_write(open(path, O_WRONLY | O_TRUNC), "topic write q\n");
    mr_assert(kit_reload(&kit, &why) == MR_OK);
    const struct mr_metric *denied = kit.broker->shards[0]->metrics.denied_deliver;
    int64_t before = mr_metric_get(denied);
    while (mr_metric_get(denied) == before) {
        (void)mr_lane_step_commit(kit.lane);
        kit_patience(deadline, "a message that may not be read");
    }
    quiet(&live);
    rules_write(open(path, O_WRONLY | O_TRUNC), "topic readwrite q\n");
    mr_assert(kit_reload(&kit, &why) == MR_OK);
    publish(&pub, "q", "next", 1);
    peer_ack(&live, expect(&live, "q", "next", 1));
    quiet(&live);
    peer_close(&live);
    peer_close(&pub);
    kit_close(&kit);
    mr_assert(unlink(path) == 0);
}

/* Its last letter becomes one with which it is at home in `lane`. */
static void id_at(char *id, uint32_t lane)
{
    char *last = id + strlen(id) - 1;

    for (*last = 'a'; mr_journal_home(kit.journal, mr_span_of(id)) != lane;) {
        *last += 1;
    }
}

/* Lane 0 gives it to a member of lane 1 that does not keep it, whose connection begins anew just
 * then: it comes behind its CONNACK.
 */
static void test_comes_again_meanwhile(void)
{
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct peer light;
    struct peer pub;
    char pub_id[] = "pub-?";
    int64_t deadline = kit_deadline();

    kit_open(&kit, &(struct kit_options){.manual = true, .lanes = 2, .checkpoint_ms = 100000});
    id_at(pub_id, 0);
    id_at(light_id, 1);
    (void)join_in(&light, light_id, true, 1);
    subscribe_as(&light, &(struct mr_mqtt_subscription){.filter = mr_span_of(shared)}, 1);
    (void)join(&pub, pub_id, false);
    leave(&light);
    send_connect(&light, light_id, true);
    await(1, joins, "the connection that begins");
    publish(&pub, "q", "job", 1);
    while (!is_so(1, has_waiting)) { /* by the record that gives it, which is durable then */
        (void)mr_lane_step_commit(mr_journal_lane(kit.journal, 0));
        kit_patience(deadline, "what waits for it");
    }
    await_packet(&light, 1);
    peer_expect_connack(&light, &connack);
    mr_assert(connack.reason == 0 && connack.session_present);
    await_packet(&light, 1);
    peer_expect_publish(&light, "q", "job", 0, &got);
    quiet(&light);
    peer_close(&light);
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- a record that cannot hold it ---- */

static int64_t dropped_large(void)
{
    return mr_metric_get(kit.broker->shards[0]->metrics.dropped_large);
}

/* Either it comes, or it is dropped. */
static bool comes(struct peer *peer)
{
    int64_t deadline = kit_deadline();

    while (peer->begin == peer->end && dropped_large() == 0) {
        peer_receive(peer, PATIENCE_NS);
        kit_patience(deadline, "a large message");
    }
    return peer->begin != peer->end;
}

/* The event is about as large as a record may be, and the one that gives it names its taker
 * besides.
 */
static void test_larger_than_a_record(void)
{
    enum { SEGMENT_BYTES = 64 << 10, RECORD_BYTES = SEGMENT_BYTES / 4, NAMES_BYTES = 120 };
    static char payload[RECORD_BYTES];
    static uint8_t bytes[RECORD_BYTES + 64];
    struct peer keeps;
    struct peer pub;
    size_t len = RECORD_BYTES - NAMES_BYTES;

    kit_open(&kit, &(struct kit_options){.segment_bytes = SEGMENT_BYTES});
    (void)join(&keeps, "keeps", true);
    subscribe(&keeps, shared, 1);
    (void)join(&pub, "pub", false);
    memset(payload, 'x', len);
    for (bool came = true; came; len++) {
        payload[len] = 'x';
        peer_write(&pub, bytes, put_publish(bytes, sizeof(bytes), 5, "q", payload, 1, 1));
        mr_assert(peer_expect_puback(&pub, 1) == 0); /* the event has its record */
        came = comes(&keeps);
        if (came) {
            peer_ack(&keeps, expect(&keeps, "q", payload, 1));
        }
    }
    mr_assert(len > RECORD_BYTES - NAMES_BYTES + 1 && dropped_large() == 1);
    publish(&pub, "q", "next", 1);
    peer_ack(&keeps, expect(&keeps, "q", "next", 1));
    quiet(&keeps);
    peer_close(&pub);
    peer_close(&keeps);
    kit_close(&kit);
}

int main(void)
{
    test_acknowledged_in_any_order();
    test_long_filter(false);
    test_long_filter(true);
    for (uint8_t qos = 0; qos <= 1; qos++) {
        test_retain_as_published(qos, false);
        test_retain_as_published(qos, true);
    }
    test_qos0_of_one_that_stays();
    test_queues_that_are_full();
    test_window_of_one();
    test_leaves_before_it_is_durable();
    test_rights_end_before_it_is_durable();
    test_comes_again_meanwhile();
    test_larger_than_a_record();
    (void)puts("each member had what was its own");
    return 0;
}
