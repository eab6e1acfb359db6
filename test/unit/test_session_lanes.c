/* test_session_lanes.c
 * links: broker net store journal codec config os base
 *
 * Goal:   persistent sessions and retained messages where publisher and subscriber are at
 *         home in different shards: nothing is lost, doubled or reordered per publisher,
 *         through crashes, with and without checkpoints.
 * Method: a broker of three shards; publishers and subscribers whose ids spread over them;
 *         crashes by a copy of the disk.
 */
#include "broker_peer.h"
#include "journal/cursor.h"

enum { LANES = 3, PUBLISHERS = 6, SUBSCRIBERS = 6, ROUNDS = 4, MESSAGES = 15 };

static void join_as(struct peer *peer, struct kit *kit, const char *id, bool present)
{
    struct mr_mqtt_connack connack;
    struct peer_connect how = {
        .client_id = id, .version = 5, .keep_session = true, .expiry_s = 3600};

    peer_open(peer, kit);
    peer_send_connect(peer, &how);
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0 && connack.session_present == present);
}

static void name(char out[16], char kind, int number)
{
    (void)snprintf(out, 16, "%c-%d", kind, number);
}

struct tally {
    int next[PUBLISHERS]; /* the message expected from each */
    uint16_t held;        /* a PUBREC was sent for it; 0: none */
};

/* Take messages until each publisher's `upto` have come. */
static void take_all(struct peer *peer, struct tally *tally, int upto)
{
    for (;;) {
        struct mr_mqtt_frame frame;
        struct mr_mqtt_publish got;
        struct mr_mqtt_why why;
        struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
        int done = 0;

        for (int i = 0; i < PUBLISHERS; i++) {
            done += tally->next[i] >= upto;
        }
        if (done == PUBLISHERS) {
            return;
        }
        mr_assert(peer_frame(peer, &frame));
        if (frame.type == MR_MQTT_PUBREL) {
            peer_send_ack(peer, MR_MQTT_PUBCOMP, mr_get_be16(frame.body.at));
            continue;
        }
        mr_assert(frame.type == MR_MQTT_PUBLISH);
        mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
        int from = got.payload.at[0] - '0';
        int number = (int)strtol((const char *)got.payload.at + 2, NULL, 10);
        if (number != tally->next[from]) {
            fprintf(stderr, "from %d: got %d, expected %d\n", from, number, tally->next[from]);
            abort();
        }
        tally->next[from] += 1;
        peer_send_ack(peer, got.qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC, got.packet_id);
    }
}

/* Let the handshakes end, so that everything is settled before the crash. */
static void finish(struct peer *subs, struct kit *kit)
{
    uint8_t ping[2];
    struct mr_mqtt_frame frame;
    struct mr_broker_stats stats;
    int64_t deadline = kit_deadline();

    (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
    do {
        for (int s = 0; s < SUBSCRIBERS; s++) {
            peer_write(&subs[s], ping, sizeof(ping));
            do {
                mr_assert(peer_frame(&subs[s], &frame));
                if (frame.type == MR_MQTT_PUBREL) {
                    peer_send_ack(&subs[s], MR_MQTT_PUBCOMP, mr_get_be16(frame.body.at));
                }
            } while (frame.type != MR_MQTT_PINGRESP);
        }
        mr_broker_stats(kit->broker, &stats);
        kit_patience(deadline, "everything to be settled");
    } while (stats.queued != 0);
}

static void publish_round(struct kit *kit, int first)
{
    for (int p = 0; p < PUBLISHERS; p++) {
        struct peer pub;
        char id[16];

        name(id, 'p', p);
        peer_join(&pub, kit, id, 5);
        for (int m = first; m < first + MESSAGES; m++) {
            char payload[16] = {0};
            uint8_t bytes[256];
            (void)snprintf(payload, sizeof(payload), "%d %d", p, m);
            uint16_t packet_id = (uint16_t)(m + 1);
            struct mr_mqtt_publish packet = {.topic = mr_span_of("all/x"),
                                             .payload = mr_span_make(payload, sizeof(payload)),
                                             .qos = m % 2 == 0 ? 1 : 2,
                                             .packet_id = packet_id};
            ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
            peer_write(&pub, bytes, (size_t)len);
            if (packet.qos == 1) {
                mr_assert(peer_expect_puback(&pub, packet_id) == 0);
            } else {
                mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, packet_id) == 0);
                peer_send_ack(&pub, MR_MQTT_PUBREL, packet_id);
                mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBCOMP, packet_id) == 0);
            }
        }
        peer_close(&pub);
    }
}

/* Odd rounds: the subscribers are away while the messages come, and the machine stops
 * right after the last acknowledgement.
 */
static void test_exactly_once_across_shards(uint32_t checkpoint_ms)
{
    struct kit kit;
    struct peer subs[SUBSCRIBERS];
    struct tally tallies[SUBSCRIBERS] = {{.held = 0}};
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("all/#"), .qos = 2};
    char id[16];

    kit_open(&kit, &(struct kit_options){.lanes = LANES, .checkpoint_ms = checkpoint_ms});
    for (int s = 0; s < SUBSCRIBERS; s++) {
        name(id, 's', s);
        join_as(&subs[s], &kit, id, false);
        mr_assert(peer_subscribe(&subs[s], &filter, 0) == 2);
    }
    for (int round = 0; round < ROUNDS; round++) {
        bool away = round % 2 != 0;
        for (int s = 0; away && s < SUBSCRIBERS; s++) {
            peer_close(&subs[s]);
        }
        publish_round(&kit, round * MESSAGES);
        if (away) {
            kit_crash(&kit);
        }
        for (int s = 0; s < SUBSCRIBERS; s++) {
            if (away) {
                name(id, 's', s);
                join_as(&subs[s], &kit, id, true);
            }
            take_all(&subs[s], &tallies[s], (round + 1) * MESSAGES);
        }
        finish(subs, &kit);
    }
    for (int s = 0; s < SUBSCRIBERS; s++) {
        peer_close(&subs[s]);
    }
    kit_close(&kit);
}

/* Retained messages of every shard's publishers reach every shard's subscribers, and the
 * latest one of a topic counts, whoever sent it.
 */
static void test_retained_across_shards(void)
{
    struct kit kit;
    struct peer pub;
    struct peer sub;
    struct mr_mqtt_publish got;
    struct mr_broker_stats stats;
    char id[16];
    int64_t deadline = kit_deadline();

    kit_open(&kit, &(struct kit_options){.lanes = LANES});
    for (int p = 0; p < PUBLISHERS; p++) {
        char topic[16];
        uint8_t bytes[256];
        name(id, 'p', p);
        peer_join(&pub, &kit, id, 5);
        for (int i = 0; i < 2; i++) {
            (void)snprintf(topic, sizeof(topic), "r/%d", i == 0 ? p : 99);
            struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                             .payload = mr_span_of(id),
                                             .qos = 1,
                                             .packet_id = 1,
                                             .retain = true};
            ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
            peer_write(&pub, bytes, (size_t)len);
            mr_assert(peer_expect_puback(&pub, 1) == 0);
        }
        peer_close(&pub);
    }
    for (int crash = 0; crash < 2; crash++) {
        do {                    /* PUBLISHERS topics and one, in each shard */
            (void)usleep(1000); /* sleep: a replica tells nobody */
            peer_join(&pub, &kit, "look", 5);
            peer_quiet(&pub);
            peer_close(&pub);
            mr_broker_stats(kit.broker, &stats);
            kit_patience(deadline, "retained messages to be everywhere");
        } while (stats.retained != (PUBLISHERS + 1) * LANES);
        for (int s = 0; s < SUBSCRIBERS; s++) {
            struct mr_mqtt_subscription filter = {.filter = mr_span_of("r/99"), .qos = 1};
            name(id, 's', s);
            peer_join(&sub, &kit, id, 5);
            mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
            name(id, 'p', PUBLISHERS - 1);
            peer_expect_publish(&sub, "r/99", id, 1, &got);
            mr_assert(got.retain);
            filter.filter = mr_span_of("r/0");
            mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
            peer_expect_publish(&sub, "r/0", "p-0", 1, &got);
            peer_close(&sub);
        }
        kit_crash(&kit);
    }
    kit_close(&kit);
}

/* Set by a client of one shard and cleared by one of another, at the same time: all shards end
 * with the same, whatever the order in which they came to know of it.
 */
static void test_set_and_cleared_at_once(void)
{
    struct kit kit;
    struct peer pubs[PUBLISHERS];
    struct mr_broker_stats stats;
    char id[16];

    kit_open(&kit, &(struct kit_options){.lanes = LANES, .checkpoint_ms = 5});
    for (int p = 0; p < PUBLISHERS; p++) {
        name(id, 'p', p);
        peer_join(&pubs[p], &kit, id, 5);
    }
    for (int round = 0; round < 100; round++) {
        for (int p = 0; p < PUBLISHERS; p++) {
            uint8_t bytes[256];
            struct mr_mqtt_publish packet = {.topic = mr_span_of("both"),
                                             .payload = mr_span_of((p + round) % 2 ? "set" : ""),
                                             .qos = 1,
                                             .packet_id = (uint16_t)(round + 1),
                                             .retain = true};
            ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
            peer_write(&pubs[p], bytes, (size_t)len);
        }
        for (int p = 0; p < PUBLISHERS; p++) {
            mr_assert(peer_expect_puback(&pubs[p], (uint16_t)(round + 1)) == 0);
        }
        if (round % 20 == 19) {
            int64_t deadline = kit_deadline();
            do {
                peer_quiet(&pubs[0]);
                mr_broker_stats(kit.broker, &stats);
                kit_patience(deadline, "all shards to have the same");
            } while (stats.retained != 0 && stats.retained != LANES);
        }
    }
    for (int p = 0; p < PUBLISHERS; p++) {
        peer_close(&pubs[p]);
    }
    kit_close(&kit);
}

/* A message that was refused, because there were as many as may be, is not retained by the
 * start that reads its record again.
 */
static void test_quota_holds_in_replay(void)
{
    struct kit kit;
    struct peer pub;
    struct mr_broker_stats stats;

    kit_open(&kit, &(struct kit_options){.max_retained_messages = 2, .checkpoint_ms = 100000});
    peer_join(&pub, &kit, "p", 5);
    for (uint16_t i = 0; i < 4; i++) {
        char topic[16];
        uint8_t bytes[256];
        (void)snprintf(topic, sizeof(topic), "q/%u", i);
        struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                         .payload = mr_span_of("x"),
                                         .qos = 1,
                                         .packet_id = (uint16_t)(i + 1),
                                         .retain = true};
        ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
        peer_write(&pub, bytes, (size_t)len);
        mr_assert(peer_expect_puback(&pub, (uint16_t)(i + 1)) == 0);
    }
    peer_close(&pub);
    kit_crash(&kit);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.retained == 2);
    kit_close(&kit);
}

/* ---- another number of shards ---- */

static void count_cursor(void *arg, const char *cursor, uint32_t lane, uint64_t seq)
{
    (void)lane;
    (void)seq;
    *(int *)arg += strncmp(cursor, "$sessions", strlen("$sessions")) == 0;
}

/* Two in each lane, and no others: those would hold segments for ever, and with one of each
 * shard in each lane there were too few for the shards of a large machine.
 */
static void test_cursors_of_fewer_shards(void)
{
    struct kit kit;

    kit_open(&kit, &(struct kit_options){.lanes = 33, .block_count = 4, .segment_bytes = 64 << 10});
    for (int lanes = 33; lanes > 0; lanes /= 11) {
        int cursors = 0;
        mr_cursor_list(kit.journal, count_cursor, &cursors);
        if (cursors != 2 * lanes) {
            fprintf(stderr, "%d shards, %d cursors\n", lanes, cursors);
            abort();
        }
        if (lanes > 3) {
            kit_end(&kit, 0);
            kit.options.lanes = (uint32_t)lanes / 11;
            kit_begin(&kit);
        }
    }
    kit_close(&kit);
}

struct stored_upto {
    uint32_t lane;
    uint64_t seq;
};

static void stored_upto(void *arg, const char *cursor, uint32_t lane, uint64_t seq)
{
    struct stored_upto *upto = arg;

    if (lane == upto->lane && strcmp(cursor, "$sessions") == 0) {
        upto->seq = seq;
    }
}

/* A session of the last shard, of which the first one's store knows nothing, has a will and a
 * message waiting; it goes to one shard, and to three again, and is the same.
 */
static void test_session_of_a_shard_that_goes(void)
{
    struct kit kit;
    struct peer peer;
    struct peer pub;
    char id[16];
    int number = 0;
    struct stored_upto upto = {.lane = LANES - 1};
    int64_t deadline = kit_deadline();
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("all/#"), .qos = 1};
    struct mr_mqtt_publish got;

    kit_open(&kit, &(struct kit_options){.lanes = LANES, .checkpoint_ms = 1});
    do {
        name(id, 'x', number++);
    } while (mr_journal_home(kit.journal, mr_span_of(id)) != LANES - 1);
    join_as(&peer, &kit, id, false);
    mr_assert(peer_subscribe(&peer, &filter, 0) == 1);
    do {
        (void)usleep(1000); /* sleep: a checkpoint tells nobody */
        mr_cursor_list(kit.journal, stored_upto, &upto);
        kit_patience(deadline, "a checkpoint");
    } while (upto.seq == 0);
    peer_close(&peer);
    for (uint32_t lanes = LANES - 1; lanes <= LANES; lanes++) {
        peer_join(&pub, &kit, "publisher", 5);
        peer_publish(&pub, "all/x", lanes == LANES ? "second" : "first", 1, 1);
        mr_assert(peer_expect_puback(&pub, 1) == 0);
        peer_close(&pub);
        kit_end(&kit, 0);
        kit.options.lanes = lanes;
        kit_begin(&kit);
    }
    join_as(&peer, &kit, id, true);
    peer_expect_publish(&peer, "all/x", "first", 1, &got);
    mr_assert(got.packet_id == 1); /* ordinals 0 and 1 */
    peer_expect_publish(&peer, "all/x", "second", 1, &got);
    mr_assert(got.packet_id == 2);
    peer_close(&peer);
    kit_close(&kit);
}

/* Clearing topics that never were, with names as long as can be, does not take the memory. */
static void test_cleared_topics_are_bounded(void)
{
    enum { TOPICS = 200, TOPIC_BYTES = 60000 };
    static char topic[TOPIC_BYTES + 1];
    static uint8_t bytes[TOPIC_BYTES + 64];
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("q"), .qos = 1};
    struct mr_mqtt_publish got;
    struct kit kit;
    struct peer pub;
    struct peer sub;

    kit_open(&kit, &(struct kit_options){.lanes = 2, .memory_bytes = 8 << 20});
    peer_join(&pub, &kit, "pub", 5);
    memset(topic, 't', TOPIC_BYTES);
    for (int i = 0; i < TOPICS; i++) {
        (void)snprintf(topic, 16, "%06d", i);
        topic[6] = 't';
        struct mr_mqtt_publish packet = {
            .topic = mr_span_of(topic), .qos = 1, .packet_id = 1, .retain = true};
        ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
        mr_assert(len > 0);
        peer_write(&pub, bytes, (size_t)len);
        mr_assert(peer_expect_puback(&pub, 1) == 0);
    }
    peer_join(&sub, &kit, "sub", 5);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_publish(&pub, "q", "served", 1, 2);
    mr_assert(peer_expect_puback(&pub, 2) == 0);
    peer_expect_publish(&sub, "q", "served", 1, &got);
    peer_close(&pub);
    peer_close(&sub);
    kit_close(&kit);
}

int main(void)
{
    test_cursors_of_fewer_shards();
    test_session_of_a_shard_that_goes();
    test_exactly_once_across_shards(1);
    test_exactly_once_across_shards(100000);
    test_retained_across_shards();
    test_cleared_topics_are_bounded();
    test_set_and_cleared_at_once();
    test_quota_holds_in_replay();
    printf("ok\n");
    return 0;
}
