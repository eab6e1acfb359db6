/* test_broker_pressure.c
 * links: broker net store journal codec config os base
 *
 * Goal:   bytes may come in any pieces, the journal may be full, subscribers may
 *         sleep: publishers get back-pressure and no lie, others are served, memory
 *         stays bounded, and everything goes on by itself.
 * Method: real broker and journal; a cursor that stands still fills the journal,
 *         moving it makes room again.
 */
#include "broker_peer.h"
#include "journal/cursor.h"

/* A session's packets, cut in two at every byte, and sent byte by byte. */
static void test_split_at_every_byte(uint8_t version)
{
    struct kit kit;
    uint8_t bytes[1024];
    size_t len = 0;

    kit_open(&kit, &(struct kit_options){0});
    struct mr_mqtt_connect connect = {
        .version = version, .client_id = mr_span_of("pieces"), .clean_start = true};
    ptrdiff_t part = mr_mqtt_connect_encode(&connect, bytes, sizeof(bytes));
    mr_assert(part > 0);
    len += (size_t)part;
    len += put_publish(bytes + len, sizeof(bytes) - len, version, "plant/a", "first", 1, 1);
    len += put_publish(bytes + len, sizeof(bytes) - len, version, "plant/b",
                       "second, and long enough that its length takes two bytes "
                       "...............................................................",
                       1, 2);
    len += put_publish(bytes + len, sizeof(bytes) - len, version, "plant/a", "third", 1, 3);
    for (size_t cut = 1; cut <= len; cut++) {
        struct peer peer;
        struct mr_mqtt_connack connack;

        peer_open(&peer, &kit);
        peer.version = version;
        if (cut < len) {
            peer_write(&peer, bytes, cut);
            peer_receive(&peer, 1000000); /* let the broker see the first part alone */
            peer_write(&peer, bytes + cut, len - cut);
        } else {
            for (size_t i = 0; i < len; i++) {
                peer_write(&peer, bytes + i, 1);
                peer_receive(&peer, 100000);
            }
        }
        peer_expect_connack(&peer, &connack);
        for (uint16_t id = 1; id <= 3; id++) {
            mr_assert(peer_expect_puback(&peer, id) == 0);
        }
        peer_close(&peer);
    }
    mr_assert(mr_lane_durable(kit.lane) == 3 * len);
    kit_close(&kit);
}

static void check_large(const struct mr_event *event, void *arg)
{
    mr_assert(event->payload.len == *(size_t *)arg);
    for (size_t i = 0; i < event->payload.len; i++) {
        mr_assert(event->payload.at[i] == (uint8_t)(i * 31 + (i >> 8)));
    }
}

/* Larger than the slab, through a buffer that grows, followed by a small one. */
static void test_large_packets(void)
{
    static const size_t sizes[] = {15 << 10, 16 << 10, 17 << 10, 100000, 262144, 300000, 1000000};
    static uint8_t payload[1000000];
    static uint8_t bytes[1001024];
    struct kit kit;
    struct peer peer;
    uint64_t seq = 0;

    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)(i * 31 + (i >> 8));
    }
    kit_open(&kit, &(struct kit_options){0});
    peer_join(&peer, &kit, "camera", 4);
    for (size_t i = 0; i < MR_COUNT_OF(sizes); i++) {
        struct mr_mqtt_publish packet = {.topic = mr_span_of("image"),
                                         .payload = mr_span_make(payload, sizes[i]),
                                         .qos = 1,
                                         .packet_id = 1};
        size_t size = sizes[i];
        ptrdiff_t len = mr_mqtt_publish_encode(&packet, 4, bytes, sizeof(bytes));
        mr_assert(len > 0);
        len += (ptrdiff_t)put_publish(bytes + len, sizeof(bytes) - (size_t)len, 4, "t", "x", 1, 2);
        peer_write(&peer, bytes, (size_t)len);
        mr_assert(peer_expect_puback(&peer, 1) == 0);
        mr_assert(peer_expect_puback(&peer, 2) == 0);
        kit_read(&kit, ++seq, check_large, &size);
        seq += 1;
    }
    peer_close(&peer);
    kit_close(&kit);
}

/* ---- the journal is full ---- */

enum { BIG = 4000, FULL_PUBLISHES = 4000, FULL_FILLERS = 1000 };

static uint64_t paused_now(struct kit *kit)
{
    struct mr_broker_stats stats;

    mr_broker_stats(kit->broker, &stats);
    return stats.connections_paused;
}

/* Write until the broker stops reading for good, not only for a new segment; how much. */
static size_t fill_up(struct kit *kit, struct peer *pub, const uint8_t *bytes, size_t len)
{
    int64_t deadline = kit_deadline();
    size_t at = 0;

    while (paused_now(kit) == 0 || mr_lane_state(kit->lane) != MR_LANE_FULL) {
        size_t sent = 0;
        size_t piece = len - at < 65536 ? len - at : 65536;
        mr_assert(piece == 0 || mr_socket_write(pub->fd, bytes + at, piece, &sent) == MR_OK);
        at += sent;
        peer_receive(pub, 100000);
        kit_patience(deadline, "the journal to be full");
    }
    return at;
}

/* Then until there is no room for the least of records. */
static void fill_to_the_brim(struct kit *kit, struct peer *filler)
{
    const int64_t ticks_ns = 1000000000; /* a few, each of which tries again */

    peer_join(filler, kit, "filler", 4);
    for (uint16_t i = 1; i <= FULL_FILLERS; i++) {
        peer_publish(filler, "t", "", 1, i);
    }
    int64_t until = mr_clock_mono_ns() + ticks_ns;
    while (mr_clock_mono_ns() < until) {
        size_t before = filler->end;
        peer_receive(filler, 50000000);
        until = filler->end == before ? until : mr_clock_mono_ns() + ticks_ns;
    }
    mr_assert(paused_now(kit) == 2);
}

/* Those who waited beside the publisher go on as well. */
static void check_others_go_on(struct peer *keeper, struct peer *filler)
{
    struct mr_mqtt_connack connack;

    peer_expect_connack(keeper, &connack);
    mr_assert(connack.reason == 0);
    peer_quiet(keeper);
    for (uint16_t i = 1; i <= FULL_FILLERS; i++) {
        mr_assert(peer_expect_puback(filler, i) == 0);
    }
    peer_close(filler);
}

/* A while without room.  Who waits with a CONNECT is tried again at each tick, and what is made
 * for it and taken back is no change that the session store is written for.
 */
static void stay_full(struct kit *kit, struct peer *other)
{
    uint8_t before[8192];
    uint8_t now[8192];
    unsigned written = 0;
    int64_t until = mr_clock_mono_ns() + 2500000000;

    kit_store_head(kit, before);
    while (mr_clock_mono_ns() < until) {
        peer_quiet(other);
        peer_receive(other, 50000000);
        kit_store_head(kit, now);
        written += memcmp(before, now, sizeof(now)) != 0;
        memcpy(before, now, sizeof(now));
    }
    mr_assert(written <= 5);
}

static void test_full_journal(void)
{
    static uint8_t bytes[FULL_PUBLISHES * (BIG + 64)];
    static char payload[BIG + 1];
    struct kit kit;
    struct peer pub;
    struct peer other;
    struct peer filler;
    struct peer keeper;
    struct mr_cursor *cursor = NULL;
    struct mr_mqtt_connack connack;
    struct mr_error why;
    bool is_new;
    size_t len = 0;
    uint16_t acked = 0;

    kit_open(&kit, &(struct kit_options){.journal_bytes = 8 << 20,
                                         .segment_bytes = 1 << 20,
                                         .connect_timeout_us = 1000000});
    mr_assert(mr_cursor_open(kit.journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, &why) ==
              MR_OK);
    peer_open(&pub, &kit);
    peer_send_connect(&pub,
                      &(struct peer_connect){.client_id = "pub", .version = 4, .keep_alive_s = 1});
    peer_expect_connack(&pub, &connack);
    memset(payload, 'x', BIG);
    for (uint16_t i = 1; i <= FULL_PUBLISHES; i++) {
        payload[i % BIG] = (char)('a' + i % 26);
        len += put_publish(bytes + len, sizeof(bytes) - len, 4, "t", payload, 1, i);
    }
    int64_t deadline = kit_deadline();
    size_t at = fill_up(&kit, &pub, bytes, len);
    fill_to_the_brim(&kit, &filler);
    /* Others are served: connect, subscribe, ping.  Longer than the publisher's
     * keep alive, and than `connect_timeout` of one whose session needs a record:
     * neither is held against them.
     */
    peer_open(&keeper, &kit);
    peer_send_connect(&keeper,
                      &(struct peer_connect){.client_id = "keeper", .version = 5, .expiry_s = 60});
    peer_join(&other, &kit, "other", 5);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("else/#"), .qos = 0};
    mr_assert(peer_subscribe(&other, &filter, 0) == 0);
    stay_full(&kit, &other);
    mr_assert(paused_now(&kit) == 3 && mr_lane_state(kit.lane) == MR_LANE_FULL);
    uint64_t durable = mr_lane_durable(kit.lane);
    mr_assert(durable < FULL_PUBLISHES + FULL_FILLERS);
    peer_close(&other);

    /* Room returns by itself as the bridge goes on. */
    for (;;) {
        mr_cursor_set(cursor, mr_lane_durable(kit.lane));
        size_t sent = 0;
        if (at < len) {
            mr_assert(mr_socket_write(pub.fd, bytes + at, len - at, &sent) == MR_OK);
            at += sent;
        }
        peer_receive(&pub, 1000000);
        while (pub.end - pub.begin >= 4) {
            mr_assert(peer_expect_puback(&pub, (uint16_t)(acked + 1)) == 0);
            acked += 1;
        }
        if (acked == FULL_PUBLISHES) {
            break;
        }
        kit_patience(deadline + 40000000000, "the publisher to go on");
    }
    check_others_go_on(&keeper, &filler);
    /* One more is the session's; when it leaves there is another. */
    mr_assert(mr_lane_durable(kit.lane) == FULL_PUBLISHES + FULL_FILLERS + 1);
    peer_close(&keeper);
    peer_quiet(&pub);
    peer_close(&pub);
    kit_close(&kit);
}

/* ---- the journal fails ---- */

/* Without its spare the first commit cannot give the segment its name. */
/* Shows 3.1.1: 4.8.0-2. */
static void test_failed_journal(void)
{
    struct kit kit;
    struct peer pub;
    struct mr_error why;
    char lane[300];
    char gone[310];
    int64_t deadline = kit_deadline();

    /* Without its folder the first segment cannot get its name, and no other be made. */
    kit_open(&kit, &(struct kit_options){0});
    (void)snprintf(lane, sizeof(lane), "%s/lane-00", kit.folder);
    (void)snprintf(gone, sizeof(gone), "%s/gone-00", kit.folder);
    mr_assert(mr_path_rename(lane, gone) == MR_OK);
    peer_join(&pub, &kit, "pub", 5);
    mr_assert(mr_broker_failed(kit.broker, &why) == MR_OK);
    peer_publish(&pub, "t", "x", 1, 1);
    while (mr_broker_failed(kit.broker, &why) == MR_OK) {
        peer_receive(&pub, 1000000);
        kit_patience(deadline, "the broker to notice");
    }
    mr_assert(mr_broker_failed(kit.broker, &why) == MR_ERR_IO && strlen(why.text) > 10);
    mr_broker_stop(kit.broker, 1000000000); /* returns at once: the shard has ended */
    peer_receive(&pub, 100000000);
    mr_assert(pub.begin == pub.end); /* no PUBACK, ever */
    mr_broker_close(kit.broker);
    peer_expect_closed(&pub);
    mr_assert(mr_journal_close(kit.journal) == MR_ERR_IO);
    mr_assert(mr_dir_list(kit.folder, kit_remove, kit.folder) == MR_OK);
    mr_assert(rmdir(kit.folder) == 0);
    peer_close(&pub);
}

/* ---- a subscriber that sleeps ---- */

static void test_slow_subscriber(void)
{
    enum { COUNT = 3000, QUEUE = 50 };
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_publish got;
    struct mr_broker_stats stats;
    uint8_t bytes[256];

    kit_open(&kit, &(struct kit_options){.max_queued_messages = QUEUE});
    peer_join(&sub, &kit, "sleeper", 4);
    peer_join(&pub, &kit, "pub", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 1};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
    for (uint16_t i = 1; i <= COUNT; i++) {
        char payload[16];
        (void)snprintf(payload, sizeof(payload), "%u", i);
        peer_write(&pub, bytes, put_publish(bytes, sizeof(bytes), 4, "t", payload, 1, i));
    }
    for (uint16_t i = 1; i <= COUNT; i++) { /* the publisher is not slowed */
        mr_assert(peer_expect_puback(&pub, i) == 0);
    }
    peer_quiet(&pub);
    peer_quiet(&pub);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.messages_dropped == COUNT - 20 - QUEUE);
    /* It wakes: the window, then the queue, in order, then nothing. */
    for (uint16_t i = 1; i <= 20 + QUEUE; i++) {
        char payload[16];
        (void)snprintf(payload, sizeof(payload), "%u", i);
        peer_expect_publish(&sub, "t", payload, 1, &got);
        mr_assert(got.packet_id == i);
        peer_ack(&sub, got.packet_id);
    }
    peer_quiet(&sub);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* A subscriber whose socket is full: QoS 0 is dropped beyond a bound. */
static void test_subscriber_without_reading(void)
{
    enum { COUNT = 4000, BYTES = 8000 };
    static char payload[BYTES + 1];
    static uint8_t bytes[BYTES + 64];
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_broker_stats stats;

    kit_open(&kit, &(struct kit_options){0});
    peer_join(&sub, &kit, "deaf", 4);
    peer_join(&pub, &kit, "pub", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    memset(payload, 'y', BYTES);
    size_t len = put_publish(bytes, sizeof(bytes), 4, "t", payload, 0, 0);
    for (int i = 0; i < COUNT; i++) {
        peer_write(&pub, bytes, len);
    }
    peer_quiet(&pub);
    peer_quiet(&pub);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.messages_dropped > 0 && stats.messages_dropped < COUNT);
    peer_quiet(&pub);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

static uint64_t connections_now(struct kit *kit)
{
    struct mr_broker_stats stats;

    mr_broker_stats(kit->broker, &stats);
    return stats.connections;
}

/* So much waits for a client that it is not read: its keep alive counts all the same. */
static void test_keep_alive_of_the_deaf(void)
{
    enum { COUNT = 3000, BYTES = 8000 };
    static char payload[BYTES + 1];
    static uint8_t bytes[BYTES + 64];
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_mqtt_connack connack;

    kit_open(&kit, &(struct kit_options){0});
    peer_open(&sub, &kit);
    peer_send_connect(&sub,
                      &(struct peer_connect){.client_id = "deaf", .version = 4, .keep_alive_s = 1});
    peer_expect_connack(&sub, &connack);
    peer_join(&pub, &kit, "pub", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    memset(payload, 'z', BYTES);
    size_t len = put_publish(bytes, sizeof(bytes), 4, "t", payload, 0, 0);
    for (int i = 0; i < COUNT; i++) {
        peer_write(&pub, bytes, len);
    }
    int64_t until = mr_clock_mono_ns() + 4000000000;
    while (mr_clock_mono_ns() < until) { /* it pings, and cannot know the answers */
        peer_write(&sub, "\xc0\x00", 2);
        peer_quiet(&pub);
        peer_receive(&pub, 300000000);
    }
    mr_assert(connections_now(&kit) == 2);
    int64_t deadline = kit_deadline();
    while (connections_now(&kit) != 1) { /* silent now */
        peer_quiet(&pub);
        kit_patience(deadline, "the silent client to be closed");
    }
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* Begin a packet of nearly 1 MiB: the broker must lend it a buffer of that size. */
static void hog_memory(struct peer *peer, struct kit *kit, const char *id)
{
    static uint8_t zeros[600 << 10];

    peer_join(peer, kit, id, 4);
    peer_write(peer, "\x30\xf0\xff\x3f\x00\x01x", 7);
    peer_write(peer, zeros, sizeof(zeros));
}

/* Acks come while memory is short, so none is left to call the queue again. */
static void test_queue_goes_on_when_memory_returns(void)
{
    enum { COUNT = 50, WINDOW = 20, HOGS = 3 };
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct peer hogs[HOGS];
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.memory_bytes = 4 << 20});
    peer_join(&sub, &kit, "sub", 4);
    peer_join(&pub, &kit, "pub", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 1};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
    for (uint16_t i = 1; i <= COUNT; i++) {
        peer_publish(&pub, "t", "x", 1, i);
        mr_assert(peer_expect_puback(&pub, i) == 0);
    }
    for (int i = 0; i < HOGS; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "hog%d", i);
        hog_memory(&hogs[i], &kit, id);
    }
    int64_t until = mr_clock_mono_ns() + 300000000;
    while (mr_clock_mono_ns() < until) { /* until the broker has read them */
        peer_quiet(&pub);
    }
    for (uint16_t i = 1; i <= WINDOW; i++) {
        peer_expect_publish(&sub, "t", "x", 1, &got);
        peer_ack(&sub, got.packet_id);
    }
    peer_quiet(&sub); /* no room for more now */
    for (int i = 0; i < HOGS; i++) {
        peer_close(&hogs[i]);
    }
    for (uint16_t i = WINDOW + 1; i <= COUNT; i++) {
        peer_expect_publish(&sub, "t", "x", 1, &got);
        peer_ack(&sub, got.packet_id);
    }
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* The disk stands still and a subscribed topic is published to without end: the
 * deliveries that wait do not take the memory of everyone else.
 */
static void test_waiting_deliveries_are_bounded(void)
{
    enum { COUNT = 30000 };
    static uint8_t bytes[COUNT * 16];
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct peer other;
    size_t len = 0;
    size_t at = 0;
    uint16_t acked = 0;

    kit_open(&kit, &(struct kit_options){.manual = true, .memory_bytes = 4 << 20});
    peer_join(&sub, &kit, "sub", 4);
    peer_join(&pub, &kit, "pub", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 0};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 0);
    for (uint16_t i = 1; i <= COUNT; i++) {
        len += put_publish(bytes + len, sizeof(bytes) - len, 4, "t", "x", 1, i);
    }
    int64_t deadline = kit_deadline();
    while (paused_now(&kit) == 0) {
        size_t sent = 0;
        mr_assert(mr_socket_write(pub.fd, bytes + at, len - at, &sent) == MR_OK);
        at += sent;
        peer_receive(&pub, 1000000);
        mr_assert(!pub.closed);
        kit_patience(deadline, "the publisher to be paused");
    }
    peer_join(&other, &kit, "other", 5);
    static uint8_t zeros[200 << 10];
    peer_write(&other, "\x30\x80\xc0\x0c\x00\x01x\x00", 8); /* 200 KiB in a packet */
    peer_write(&other, zeros, (200 << 10) - 4);
    peer_quiet(&sub);
    for (;;) {
        size_t sent = 0;
        if (at < len) {
            mr_assert(mr_socket_write(pub.fd, bytes + at, len - at, &sent) == MR_OK);
            at += sent;
        }
        (void)mr_lane_step_commit(kit.lane);
        mr_journal_step_keeper(kit.journal);
        peer_receive(&pub, 1000000);
        peer_receive(&sub, 0);
        sub.begin = sub.end;
        mr_assert(!pub.closed && !sub.closed);
        while (pub.end - pub.begin >= 4) {
            acked += 1;
            mr_assert(peer_expect_puback(&pub, acked) == 0);
        }
        if (acked == COUNT) {
            break;
        }
        kit_patience(deadline, "the publisher to go on");
    }
    mr_assert(connections_now(&kit) == 3);
    peer_close(&other);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* While the journal has no room devices come and go, and leave their wills. */
static void test_waiting_wills_are_bounded(void)
{
    enum { DEVICES = 3000 };
    static char text[901];
    static uint8_t bytes[200 << 10];
    struct kit kit;
    struct peer pub;
    struct peer peer;
    struct mr_mqtt_connack connack;
    struct mr_broker_stats stats;
    int64_t deadline = kit_deadline();

    kit_open(&kit,
             &(struct kit_options){.manual = true, .memory_bytes = 4 << 20, .block_count = 4});
    peer_join(&pub, &kit, "pub", 4);
    memcpy(bytes, "\x30\xfc\xbf\x0c\x00\x01x", 7); /* 200 KiB in all */
    while (paused_now(&kit) == 0) {
        size_t sent = 0;
        mr_assert(mr_socket_write(pub.fd, bytes, sizeof(bytes), &sent) == MR_OK);
        peer_write(&pub, bytes + sent, sent == 0 ? 0 : sizeof(bytes) - sent);
        peer_receive(&pub, 1000000);
        kit_patience(deadline, "the publisher to be paused");
    }
    memset(text, 'w', sizeof(text) - 1);
    for (int i = 0; i < DEVICES; i++) {
        peer_open(&peer, &kit);
        peer_send_connect(
            &peer, &(struct peer_connect){
                       .client_id = "flap", .version = 4, .will_topic = "w", .will_payload = text});
        peer_expect_connack(&peer, &connack);
        mr_assert(connack.reason == 0);
        peer_close(&peer);
    }
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.messages_dropped > 0 && stats.messages_dropped < DEVICES);
    peer_close(&pub);
    kit_close(&kit);
}

/* Messages that are nothing but user properties count as much as any others. */
static void test_queue_counts_properties(void)
{
    enum { COUNT = 50, PAIRS = 13, TEXT = 32000, SIZE = PAIRS * (2 * TEXT + 5) };
    static uint8_t props[SIZE];
    static uint8_t bytes[SIZE + 64];
    struct kit kit;
    struct peer sub;
    struct peer pub;
    struct mr_broker_stats stats;

    memset(props, 'p', sizeof(props));
    for (size_t i = 0; i < PAIRS; i++) {
        uint8_t *at = props + i * (2 * TEXT + 5);
        at[0] = MR_MQTT_PROP_USER;
        mr_put_be16(at + 1, TEXT);
        mr_put_be16(at + 3 + TEXT, TEXT);
    }
    kit_open(&kit, &(struct kit_options){0});
    peer_join(&sub, &kit, "sleeper", 4);
    peer_join(&pub, &kit, "pub", 5);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 1};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
    for (uint16_t i = 1; i <= COUNT; i++) {
        struct mr_mqtt_publish packet = {.topic = mr_span_of("t"),
                                         .props_raw = mr_span_make(props, sizeof(props)),
                                         .props_verbatim = true,
                                         .qos = 1,
                                         .packet_id = i};
        ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
        mr_assert(len > 0);
        peer_write(&pub, bytes, (size_t)len);
        mr_assert(peer_expect_puback(&pub, i) == 0);
    }
    peer_quiet(&pub);
    peer_quiet(&pub);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.messages_dropped == COUNT - 20 - (16 << 20) / (SIZE + 1));
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* The copies of a large message for many subscribers are not all there at once. */
static void test_large_fan_out(void)
{
    enum { SUBS = 24, BYTES = 200 << 10 };
    static char payload[BYTES + 1];
    static uint8_t bytes[BYTES + 64];
    struct kit kit;
    struct peer subs[SUBS];
    struct peer pub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.memory_bytes = 4 << 20});
    for (int i = 0; i < SUBS; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "sub%d", i);
        peer_join(&subs[i], &kit, id, 4);
        struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = (uint8_t)(i % 2)};
        mr_assert(peer_subscribe(&subs[i], &filter, 0) == i % 2);
    }
    peer_join(&pub, &kit, "pub", 4);
    memset(payload, 'f', BYTES);
    peer_write(&pub, bytes, put_publish(bytes, sizeof(bytes), 4, "t", payload, 1, 1));
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    for (int i = 0; i < SUBS; i++) {
        peer_expect_publish(&subs[i], "t", payload, (uint8_t)(i % 2), &got);
        peer_close(&subs[i]);
    }
    peer_close(&pub);
    kit_close(&kit);
}

/* Not journaled: acknowledged and delivered without a commit, in order with others. */
static void test_excluded_topic(void)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.manual = true, .exclude = "debug/#"});
    peer_join(&pub, &kit, "pub", 4);
    peer_join(&sub, &kit, "sub", 4);
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("debug/x"), .qos = 1};
    mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
    peer_publish(&pub, "debug/x", "1", 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_expect_publish(&sub, "debug/x", "1", 1, &got);
    peer_ack(&sub, got.packet_id);
    mr_assert(mr_lane_durable(kit.lane) == 0);
    /* Behind one that must wait, its ack waits too [MQTT-4.6.0-2]. */
    peer_publish(&pub, "kept", "2", 1, 2);
    peer_publish(&pub, "debug/y", "3", 1, 3);
    peer_quiet(&pub);
    kit_commit(&kit, 1);
    mr_assert(peer_expect_puback(&pub, 2) == 0);
    mr_assert(peer_expect_puback(&pub, 3) == 0);
    peer_close(&sub);
    peer_close(&pub);
    kit_close(&kit);
}

/* Hundreds come, publish and vanish at once, with acks still owed. */
static void test_vanishing_clients(void)
{
    struct kit kit;
    struct peer peer;
    struct peer stays;
    uint64_t seq = 0;

    kit_open(&kit, &(struct kit_options){.manual = true});
    peer_join(&stays, &kit, "stays", 4);
    for (uint16_t i = 1; i <= 300; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "c%u", i);
        peer_join(&peer, &kit, id, i % 2 == 0 ? 4 : 5);
        peer_publish(&peer, "t", "x", 1, i);
        peer_quiet(&peer);
        peer_close(&peer);
        seq += 1;
        peer_publish(&stays, "t", "y", 1, i);
        peer_quiet(&stays);
        seq += 1;
    }
    kit_commit(&kit, seq);
    for (uint16_t i = 1; i <= 300; i++) {
        mr_assert(peer_expect_puback(&stays, i) == 0);
    }
    struct mr_broker_stats stats;
    int64_t deadline = kit_deadline();
    do {
        peer_quiet(&stays);
        mr_broker_stats(kit.broker, &stats);
        kit_patience(deadline, "the others to be gone");
    } while (stats.connections != 1 || stats.acks_withheld != 0);
    peer_close(&stays);
    kit_close(&kit);
}

int main(void)
{
    test_split_at_every_byte(4);
    test_split_at_every_byte(5);
    test_large_packets();
    test_excluded_topic();
    test_vanishing_clients();
    test_slow_subscriber();
    test_subscriber_without_reading();
    test_keep_alive_of_the_deaf();
    test_queue_goes_on_when_memory_returns();
    test_waiting_deliveries_are_bounded();
    test_queue_counts_properties();
    test_waiting_wills_are_bounded();
    test_large_fan_out();
    test_full_journal();
    test_failed_journal();
    return 0;
}
