/* test_broker_v5.c
 * links: broker net store journal codec config os base
 *
 * Goal:   what MQTT 5 lets a server choose, and the switches for it: overlapping
 *         subscriptions in one copy or several, topic aliases towards clients, payload
 *         format, response information, server reference; names as long as they may be; and
 *         times that are never early and late by a tenth of a second at most.
 * Method: peers that decode what the broker sends; a monotonic clock for times, with
 *         lateness that allows for a busy machine.
 */
#include "broker_peer.h"

enum { LATE_NS = 2000000000 }; /* a busy machine; the broker's own share is 0.1 s */

static int64_t seconds(int64_t s)
{
    return s * 1000000000;
}

/* Connect with these properties too. */
static void join_with(struct peer *peer, struct kit *kit, const char *id,
                      const struct mr_mqtt_props *props, struct mr_mqtt_connack *connack)
{
    uint8_t bytes[512];
    struct mr_mqtt_connect packet = {
        .version = 5, .client_id = mr_span_of(id), .clean_start = true, .props = *props};

    peer_open(peer, kit);
    peer->version = 5;
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
    peer_expect_connack(peer, connack);
}

static void subscribe(struct peer *peer, const char *filter, uint8_t qos, uint32_t id)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = qos};

    mr_assert(peer_subscribe(peer, &wanted, id) == qos);
}

/* The next PUBLISH, whatever it is. */
static void take(struct peer *peer, struct mr_mqtt_publish *out)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;
    struct mr_mqtt_mode mode = {.version = peer->version, .from = MR_MQTT_FROM_SERVER};

    mr_assert(peer_frame(peer, &frame) && frame.type == MR_MQTT_PUBLISH);
    mr_assert(mr_mqtt_publish_decode(&frame, mode, out, &why) == MR_OK);
}

/* The sum of its subscription identifiers, which are powers of two here. */
static uint32_t ids_of(const struct mr_mqtt_publish *publish)
{
    struct mr_span rest = mr_mqtt_has(&publish->props, MR_MQTT_PROP_SUBSCRIPTION_ID)
                              ? publish->props.subscription_ids_raw
                              : (struct mr_span){0};
    uint32_t sum = 0;
    uint32_t id;

    while (mr_mqtt_subscription_id_next(&rest, &id)) {
        sum += id;
    }
    return sum;
}

/* ---- overlapping subscriptions ---- */

static void overlapping_join(struct peer *sub, struct kit *kit, bool persistent)
{
    struct mr_mqtt_connack connack;

    peer_open(sub, kit);
    peer_send_connect(sub, &(struct peer_connect){.client_id = "sub",
                                                  .version = 5,
                                                  .keep_session = persistent,
                                                  .expiry_s = persistent ? 100 : 0});
    peer_expect_connack(sub, &connack);
    mr_assert(connack.reason == 0);
    subscribe(sub, "a/#", 1, 1);
    subscribe(sub, "a/+", 2, 2);
    subscribe(sub, "a/b", 0, 4);
    subscribe(sub, "c", 2, 0);
}

static void test_overlapping(uint32_t overlapping, bool persistent)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish got;
    uint32_t ids = 0;
    uint16_t begun = 0;
    int copies = overlapping == MR_OVERLAPPING_MERGED ? 1 : 3;

    kit_open(&kit, &(struct kit_options){.overlapping = overlapping});
    overlapping_join(&sub, &kit, persistent);
    peer_join(&pub, &kit, "pub", 5);
    peer_publish(&pub, "a/b", "x", 2, 1);
    mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 1) == 0);
    for (int i = 0; i < copies; i++) {
        take(&sub, &got);
        ids += ids_of(&got);
        mr_assert(copies == 3 || got.qos == 2); /* the highest */
        if (got.qos == 1) {
            peer_ack(&sub, got.packet_id);
        } else if (got.qos == 2) {
            begun = got.packet_id;
        }
    }
    mr_assert(ids == 7 && begun != 0);
    peer_send_ack(&sub, MR_MQTT_PUBREC, begun);
    mr_assert(peer_expect_ack(&sub, MR_MQTT_PUBREL, begun) == 0);
    peer_publish(&pub, "c", "y", 0, 0);
    take(&sub, &got);
    mr_assert(ids_of(&got) == 0);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* One copy for all of them, and only of what may be read. */
static void test_overlapping_with_rules(void)
{
    const char *base = getenv("TMPDIR");
    char path[256];
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish got;

    (void)snprintf(path, sizeof(path), "%s/mr-acl-XXXXXX", base == NULL ? "/tmp" : base);
    int fd = mkstemp(path);
    mr_assert(fd >= 0 && dprintf(fd, "topic readwrite a/b\ntopic write a/hidden\n") > 0);
    mr_assert(close(fd) == 0);
    kit_open(&kit, &(struct kit_options){.overlapping = MR_OVERLAPPING_MERGED, .acl_file = path});
    peer_join(&sub, &kit, "sub", 5);
    peer_join(&pub, &kit, "pub", 5);
    subscribe(&sub, "a/#", 1, 1);
    subscribe(&sub, "a/+", 1, 2);
    for (uint16_t round = 1; round <= 2; round++) {
        peer_publish(&pub, "a/hidden", "x", 0, 0);
        peer_publish(&pub, "a/b", "x", 1, round);
        (void)peer_expect_puback(&pub, round);
        take(&sub, &got);
        mr_assert(mr_span_is(got.topic, "a/b") && ids_of(&got) == 3);
    }
    peer_quiet(&sub);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
    mr_assert(unlink(path) == 0);
}

/* More sessions than the first buffer of merge.c has room for: each gets its one copy. */
static void test_overlapping_many(void)
{
    struct kit kit;
    struct peer pub;
    struct mr_mqtt_publish got;
    static struct peer subs[100];

    kit_open(&kit, &(struct kit_options){.overlapping = MR_OVERLAPPING_MERGED});
    peer_join(&pub, &kit, "pub", 5);
    for (size_t i = 0; i < MR_COUNT_OF(subs); i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "sub-%zu", i);
        peer_join(&subs[i], &kit, id, 5);
        subscribe(&subs[i], "a/#", 0, 1);
        subscribe(&subs[i], "a/+", 1, 2);
    }
    for (uint16_t round = 1; round <= 2; round++) {
        peer_publish(&pub, "a/b", "x", 1, round);
        mr_assert(peer_expect_puback(&pub, round) == 0);
        for (size_t i = 0; i < MR_COUNT_OF(subs); i++) {
            take(&subs[i], &got);
            mr_assert(got.qos == 1 && ids_of(&got) == 3);
        }
    }
    for (size_t i = 0; i < MR_COUNT_OF(subs); i++) {
        peer_quiet(&subs[i]);
        peer_close(&subs[i]);
    }
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- topic aliases of ours ---- */

/* Takes a message and says which topic it means. */
static const char *take_topic(struct peer *sub, char topics[][32], struct mr_mqtt_publish *got)
{
    take(sub, got);
    if (!mr_mqtt_has(&got->props, MR_MQTT_PROP_TOPIC_ALIAS)) {
        topics[0][0] = '\0';
        (void)snprintf(topics[0], 32, "%.*s", (int)got->topic.len, (const char *)got->topic.at);
        return topics[0];
    }
    uint16_t alias = got->props.topic_alias;
    mr_assert(alias >= 1 && alias <= 3);
    if (got->topic.len != 0) {
        (void)snprintf(topics[alias], 32, "%.*s", (int)got->topic.len, (const char *)got->topic.at);
    }
    return topics[alias];
}

static void test_aliases(uint64_t ours, uint16_t theirs)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct mr_mqtt_props props = {.topic_alias_max = theirs};
    char topics[4][32] = {"", "", "", ""};
    int bare = 0;

    mr_mqtt_set(&props, MR_MQTT_PROP_TOPIC_ALIAS_MAX);
    kit_open(&kit, &(struct kit_options){.topic_aliases = ours});
    join_with(&sub, &kit, "sub", &props, &connack);
    subscribe(&sub, "plant/#", 2, 0);
    peer_join(&pub, &kit, "pub", 5);
    for (int i = 0; i < 120; i++) {
        char topic[32];
        uint8_t qos = (uint8_t)(i % 2);
        /* Few topics, then more than there are aliases, then others. */
        (void)snprintf(topic, sizeof(topic), "plant/sensor/%d",
                       i < 40   ? i % 2
                       : i < 80 ? i % 9
                                : 9);
        peer_publish(&pub, topic, "x", qos, qos == 0 ? 0 : (uint16_t)(i + 1));
        if (qos != 0) {
            mr_assert(peer_expect_puback(&pub, (uint16_t)(i + 1)) == 0);
        }
        mr_assert(strcmp(take_topic(&sub, topics, &got), topic) == 0);
        bare += got.topic.len == 0;
        mr_assert((ours != 0 && theirs != 0) || !mr_mqtt_has(&got.props, MR_MQTT_PROP_TOPIC_ALIAS));
        if (qos != 0) {
            peer_ack(&sub, got.packet_id);
        }
    }
    mr_assert((bare > 70) == (ours != 0 && theirs != 0));
    peer_publish(&pub,
                 "plant/a/very/long/topic/that/is/longer/than/what/the/table/of/aliases/"
                 "takes/plant/a/very/long/topic/that/is/longer/than/what/the/table/of/"
                 "aliases/takes/plant/a/very/long/topic/that/is/longer/than/what/the/table/"
                 "of/aliases/takes/plant/a/very/long/topic",
                 "x", 0, 0);
    take(&sub, &got);
    mr_assert(got.topic.len > 240 && !mr_mqtt_has(&got.props, MR_MQTT_PROP_TOPIC_ALIAS));
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* What is as large as the client takes comes, although an alias defined with it would be more. */
static void test_alias_and_packet_max(void)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    static const char most[] = "as much as fits; its CONNACK has to be no larger, so this is more "
                               "than a few words";
    struct mr_mqtt_publish packet = {
        .topic = mr_span_of("plant/1"), .payload = mr_span_of(most), .packet_id = 1, .qos = 1};
    struct mr_mqtt_props props = {.topic_alias_max = 3};

    props.packet_max = (uint32_t)mr_mqtt_publish_size(&packet, 5);
    mr_mqtt_set(&props, MR_MQTT_PROP_TOPIC_ALIAS_MAX);
    mr_mqtt_set(&props, MR_MQTT_PROP_PACKET_MAX);
    kit_open(&kit, &(struct kit_options){.topic_aliases = 10});
    join_with(&sub, &kit, "sub", &props, &connack);
    subscribe(&sub, "plant/#", 1, 0);
    peer_join(&pub, &kit, "pub", 5);
    for (uint16_t i = 1; i <= 3; i++) {
        static const char *const payloads[] = {most, "little", most};
        peer_publish(&pub, "plant/1", payloads[i - 1], 1, i);
        mr_assert(peer_expect_puback(&pub, i) == 0);
        take(&sub, &got);
        mr_assert(mr_span_is(got.payload, payloads[i - 1]));
        mr_assert(mr_mqtt_has(&got.props, MR_MQTT_PROP_TOPIC_ALIAS) == (i != 1));
        mr_assert((got.topic.len == 0) == (i == 3));
        peer_ack(&sub, got.packet_id);
    }
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* A repetition begins a connection, and so with the whole topic. */
static void test_alias_and_repetition(void)
{
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct mr_mqtt_connect packet = {.version = 5, .client_id = mr_span_of("sub")};
    uint8_t bytes[128];

    packet.props.session_expiry_s = 100;
    packet.props.topic_alias_max = 3;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_SESSION_EXPIRY);
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_TOPIC_ALIAS_MAX);
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
    kit_open(&kit, &(struct kit_options){.topic_aliases = 10});
    peer_join(&pub, &kit, "pub", 5);
    for (int round = 0; round < 3; round++) {
        peer_open(&sub, &kit);
        sub.version = 5;
        peer_write(&sub, bytes, (size_t)len);
        peer_expect_connack(&sub, &connack);
        mr_assert(connack.session_present == (round != 0));
        if (round == 0) {
            subscribe(&sub, "plant/#", 1, 0);
            for (uint16_t i = 1; i <= 3; i++) {
                peer_publish(&pub, "plant/1", "x", 1, i);
                mr_assert(peer_expect_puback(&pub, i) == 0);
            }
        }
        for (int i = 0; i < 3; i++) {
            take(&sub, &got);
            mr_assert(got.props.topic_alias == 1 && (got.topic.len == 0) == (i != 0));
            mr_assert(got.dup == (round != 0));
        }
        peer_close(&sub);
    }
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- payload format, response information, server reference ---- */

static void publish_format(struct peer *pub, const char *payload, uint8_t qos)
{
    uint8_t bytes[128];
    struct mr_mqtt_publish packet = {.topic = mr_span_of("t"),
                                     .payload = mr_span_of(payload),
                                     .qos = qos,
                                     .packet_id = qos == 0 ? 0 : 1};

    packet.props.payload_format = 1;
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_PAYLOAD_FORMAT);
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(pub, bytes, (size_t)len);
}

static void test_payload_format(bool validate)
{
    struct kit kit;
    struct peer pub;
    struct mr_mqtt_connack connack;
    uint8_t wrong = validate ? MR_MQTT_PAYLOAD_FORMAT_INVALID : 0;
    uint8_t bytes[128];
    struct mr_mqtt_connect will = {.version = 5,
                                   .client_id = mr_span_of("will"),
                                   .clean_start = true,
                                   .has_will = true,
                                   .will_topic = mr_span_of("w"),
                                   .will_payload = mr_span_of("\xff")};

    kit_open(&kit, &(struct kit_options){.validate_payload_format = validate});
    peer_join(&pub, &kit, "pub", 5);
    publish_format(&pub, "gr\xc3\xbcn", 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    publish_format(&pub, "gr\xfcn", 1);
    mr_assert(peer_expect_puback(&pub, 1) == wrong);
    publish_format(&pub, "gr\xfcn", 2);
    mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, 1) == wrong);
    publish_format(&pub, "gr\xfcn", 0);
    peer_quiet(&pub);
    peer_close(&pub);
    will.will_props.payload_format = 1;
    mr_mqtt_set(&will.will_props, MR_MQTT_PROP_PAYLOAD_FORMAT);
    ptrdiff_t len = mr_mqtt_connect_encode(&will, bytes, sizeof(bytes));
    peer_open(&pub, &kit);
    pub.version = 5;
    peer_write(&pub, bytes, (size_t)len);
    peer_expect_connack(&pub, &connack);
    mr_assert(connack.reason == wrong);
    peer_close(&pub);
    kit_close(&kit);
}

static void test_response_information(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_props props = {.request_response_info = 1};

    kit_open(&kit, &(struct kit_options){.response_information = "reply/%c/"});
    join_with(&peer, &kit, "press-7", &props, &connack);
    mr_assert(!mr_mqtt_has(&connack.props, MR_MQTT_PROP_RESPONSE_INFO)); /* [MQTT-3.1.2-28] */
    peer_close(&peer);
    mr_mqtt_set(&props, MR_MQTT_PROP_REQUEST_RESPONSE_INFO);
    join_with(&peer, &kit, "press-7", &props, &connack);
    mr_assert(mr_mqtt_has(&connack.props, MR_MQTT_PROP_RESPONSE_INFO));
    mr_assert(mr_span_is(connack.props.response_info, "reply/press-7/"));
    peer_close(&peer);
    kit_close(&kit);
}

static void test_server_reference(void)
{
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_disconnect packet;
    struct mr_mqtt_why why;
    struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};

    kit_open(&kit, &(struct kit_options){.server_reference = "other.plant:1883"});
    peer_join(&peer, &kit, "a", 5);
    mr_broker_stop(kit.broker, seconds(5));
    mr_assert(peer_frame(&peer, &frame) && frame.type == MR_MQTT_DISCONNECT);
    mr_assert(mr_mqtt_disconnect_decode(&frame, mode, &packet, &why) == MR_OK);
    mr_assert(packet.reason == MR_MQTT_USE_ANOTHER_SERVER);
    mr_assert(mr_span_is(packet.props.server_reference, "other.plant:1883"));
    peer_close(&peer);
    kit_close(&kit);
}

/* ---- names of 65,535 bytes, topics of many levels ---- */

enum { LONGEST = 65535, LONG_ROOM = 3 * LONGEST };

/* A client whose id is as long as it may be publishes to a topic as long as it may be, to a
 * subscriber with such a filter, of either version; its session is found again.
 */
static void test_longest(uint8_t version, uint32_t lanes)
{
    static uint8_t name[LONGEST];
    static uint8_t bytes[LONG_ROOM];
    struct kit kit;
    struct peer peer;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct mr_mqtt_frame frame;
    struct mr_span longest = mr_span_make(name, sizeof(name));
    struct mr_mqtt_connect connect = {.version = version, .client_id = longest};
    struct mr_mqtt_subscription wanted = {.filter = longest, .qos = 1};
    struct mr_mqtt_subscribe subscribe = {.packet_id = 1};
    struct mr_mqtt_publish publish = {
        .topic = longest, .payload = mr_span_of("x"), .qos = 1, .packet_id = 2};
    static uint8_t filters[LONG_ROOM];

    memset(name, 'n', sizeof(name));
    if (version == 5) {
        connect.props.session_expiry_s = 100;
        mr_mqtt_set(&connect.props, MR_MQTT_PROP_SESSION_EXPIRY);
    }
    kit_open(&kit, &(struct kit_options){.lanes = lanes});
    for (int round = 0; round < 2; round++) {
        peer_open(&peer, &kit);
        peer.version = version;
        ptrdiff_t len = mr_mqtt_connect_encode(&connect, bytes, sizeof(bytes));
        mr_assert(len > LONGEST);
        peer_write(&peer, bytes, (size_t)len);
        peer_expect_connack(&peer, &connack);
        mr_assert(connack.reason == 0 && connack.session_present == (round != 0));
        if (round == 0) {
            len = mr_mqtt_subscription_put(&wanted, filters, sizeof(filters));
            subscribe.raw = mr_span_make(filters, (size_t)len);
            len = mr_mqtt_subscribe_encode(&subscribe, version, bytes, sizeof(bytes));
            mr_assert(len > LONGEST);
            peer_write(&peer, bytes, (size_t)len);
            mr_assert(peer_frame(&peer, &frame) && frame.type == MR_MQTT_SUBACK);
        }
        len = mr_mqtt_publish_encode(&publish, version, bytes, sizeof(bytes));
        mr_assert(len > LONGEST);
        peer_write(&peer, bytes, (size_t)len);
        mr_assert(peer_expect_puback(&peer, 2) == 0);
        take(&peer, &got);
        mr_assert(mr_span_equal(got.topic, longest) && mr_span_is(got.payload, "x"));
        peer_ack(&peer, got.packet_id);
        peer_quiet(&peer);
        peer_close(&peer);
        kit_crash(&kit);
    }
    kit_close(&kit);
}

static void test_levels(void)
{
    char topic[2 * 201 + 1] = {0};
    struct kit kit;
    struct peer peer;

    for (size_t i = 0; i + 1 < sizeof(topic); i++) {
        topic[i] = i % 2 == 0 ? 'l' : '/';
    }
    kit_open(&kit, &(struct kit_options){0});
    for (int more = 0; more <= 1; more++) {
        topic[2 * (200 + more) - 1] = '\0';
        struct mr_mqtt_subscription wanted = {.filter = mr_span_of(topic), .qos = 1};
        peer_join(&peer, &kit, "peer", 5);
        peer_publish(&peer, topic, "x", 1, 1);
        mr_assert(peer_expect_puback(&peer, 1) == (more ? MR_MQTT_TOPIC_NAME_INVALID : 0));
        uint8_t code = peer_subscribe(&peer, &wanted, 0);
        mr_assert(code == (more ? MR_MQTT_TOPIC_FILTER_INVALID : 1));
        peer_close(&peer);
        topic[2 * (200 + more) - 1] = '/';
    }
    kit_close(&kit);
}

/* ---- times ---- */

static void expect_after(int64_t began_ns, int64_t due_ns, const char *what)
{
    int64_t late_ns = mr_clock_mono_ns() - began_ns - due_ns;

    if (late_ns < 0 || late_ns > LATE_NS) {
        fprintf(stderr, "%s: %lld ms late\n", what, (long long)(late_ns / 1000000));
        abort();
    }
    printf("%s: %lld ms late\n", what, (long long)(late_ns / 1000000));
}

/* Will delay, the end of the session before it, keep alive: none early. */
static void test_times(void)
{
    struct kit kit;
    struct peer watch;
    struct peer dead;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct peer_connect how = {.client_id = "dead",
                               .version = 5,
                               .will_topic = "w",
                               .will_payload = "gone",
                               .keep_session = true,
                               .expiry_s = 100,
                               .will_delay_s = 1};

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&watch, &kit, "watch", 5);
    subscribe(&watch, "w", 0, 0);
    for (int round = 0; round < 2; round++) {
        how.expiry_s = round == 0 ? 100 : 1;
        how.will_delay_s = round == 0 ? 1 : 100;
        peer_open(&dead, &kit);
        peer_send_connect(&dead, &how);
        peer_expect_connack(&dead, &connack);
        int64_t began_ns = mr_clock_mono_ns();
        peer_close(&dead);
        peer_expect_publish(&watch, "w", "gone", 0, &got);
        expect_after(began_ns, seconds(1), round == 0 ? "will delay" : "session expiry");
    }
    how.keep_alive_s = 1;
    how.will_delay_s = 0;
    peer_open(&dead, &kit);
    peer_send_connect(&dead, &how);
    int64_t began_ns = mr_clock_mono_ns();
    peer_expect_connack(&dead, &connack);
    peer_expect_disconnect(&dead, MR_MQTT_KEEP_ALIVE_TIMEOUT);
    expect_after(began_ns, 1500000000, "keep alive");
    peer_expect_publish(&watch, "w", "gone", 0, &got);
    peer_close(&dead);
    peer_close(&watch);
    kit_close(&kit);
}

int main(void)
{
    for (int persistent = 0; persistent <= 1; persistent++) {
        test_overlapping(MR_OVERLAPPING_EACH, persistent != 0);
        test_overlapping(MR_OVERLAPPING_MERGED, persistent != 0);
    }
    test_overlapping_with_rules();
    test_overlapping_many();
    test_aliases(10, 3);
    test_aliases(0, 3);
    test_aliases(10, 0);
    test_alias_and_packet_max();
    test_alias_and_repetition();
    test_payload_format(true);
    test_payload_format(false);
    test_response_information();
    test_server_reference();
    test_longest(4, 1);
    test_longest(5, 3);
    test_levels();
    test_times();
    printf("ok\n");
    return 0;
}
