/* test_share.c
 * links: broker net store journal codec config os base
 *
 * Goal:   shared subscriptions (4.8.2): each message goes to exactly one member of a group,
 *         balanced, in one shard and across three, for both versions; what a member leaves
 *         goes to another; offline persistent members are kept for; a crash neither loses
 *         nor doubles.
 * Method: members that count what they get by number; crashes by a copy of the disk.
 */
#include "broker_peer.h"

enum { MEMBERS = 6, MESSAGES_MAX = 256, LANES = 3 };

/* How often each message came, and to whom. */
struct tally {
    int times[MESSAGES_MAX];
    int by[MEMBERS];
    int total;
};

struct group {
    struct kit kit;
    struct peer members[MEMBERS];
    struct tally tally;
    uint8_t version;
    bool acks;   /* members answer QoS 1 and 2 */
    bool ponged; /* a PINGRESP has come */
};

static void member_id(char out[16], int number)
{
    (void)snprintf(out, 16, "m-%d", number);
}

static bool member_join(struct group *group, int number, bool persistent)
{
    struct mr_mqtt_connack connack;
    char id[16];

    member_id(id, number);
    peer_open(&group->members[number], &group->kit);
    peer_send_connect(
        &group->members[number],
        &(struct peer_connect){.client_id = id,
                               .version = group->version,
                               .keep_session = persistent,
                               .expiry_s = group->version == 5 && persistent ? 3600 : 0});
    peer_expect_connack(&group->members[number], &connack);
    mr_assert(connack.reason == 0);
    return connack.session_present;
}

static void member_subscribe(struct group *group, int number, const char *filter, uint8_t qos)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = qos};

    mr_assert(peer_subscribe(&group->members[number], &wanted, 0) == qos);
}

static void group_open(struct group *group, uint32_t lanes, uint8_t version)
{
    *group = (struct group){.version = version, .acks = true};
    kit_open(&group->kit, &(struct kit_options){.lanes = lanes, .checkpoint_ms = 5});
}

/* One packet, if there is one. */
static bool member_take(struct group *group, int number)
{
    struct peer *peer = &group->members[number];
    struct mr_mqtt_mode mode = {.version = group->version, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_frame frame;
    struct mr_mqtt_publish got;
    struct mr_mqtt_why why;
    struct mr_span bytes = {.at = peer->in + peer->begin, .len = peer->end - peer->begin};

    if (mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, &frame) != MR_OK) {
        return false;
    }
    peer->begin += frame.total_bytes;
    if (frame.type == MR_MQTT_PUBREL) {
        peer_send_ack(peer, MR_MQTT_PUBCOMP, mr_get_be16(frame.body.at));
        return true;
    }
    if (frame.type == MR_MQTT_PINGRESP) {
        group->ponged = true;
        return true;
    }
    mr_assert(frame.type == MR_MQTT_PUBLISH);
    mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
    int message = (int)strtol((const char *)got.payload.at, NULL, 10);
    mr_assert(message >= 0 && message < MESSAGES_MAX);
    group->tally.times[message] += 1;
    group->tally.by[number] += 1;
    group->tally.total += 1;
    if (group->acks && got.qos != 0) {
        peer_send_ack(peer, got.qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC, got.packet_id);
    }
    return true;
}

/* Until `total` messages have come to members [first, end). */
static void group_take(struct group *group, int first, int end, int total)
{
    int64_t deadline = kit_deadline();

    while (group->tally.total < total) {
        for (int i = first; i < end; i++) {
            peer_receive(&group->members[i], 1000000);
            while (member_take(group, i)) {
            }
        }
        if (mr_clock_mono_ns() > deadline) {
            struct mr_broker_stats stats;
            mr_broker_stats(group->kit.broker, &stats);
            fprintf(stderr,
                    "%d of %d messages; %llu queued, %llu dropped; by member:", group->tally.total,
                    total, (unsigned long long)stats.queued,
                    (unsigned long long)stats.messages_dropped);
            for (int i = 0; i < MEMBERS; i++) {
                fprintf(stderr, " %d", group->tally.by[i]);
            }
            fprintf(stderr, "\n");
            abort();
        }
    }
}

/* Publish messages [first, end), each acknowledged; from publishers of all shards. */
static void publish(struct group *group, int first, int end, uint8_t qos)
{
    for (int p = 0; p < 3; p++) {
        struct peer pub;
        char id[16];
        (void)snprintf(id, sizeof(id), "p-%d", p);
        peer_join(&pub, &group->kit, id, 5);
        for (int m = first; m < end; m++) {
            char payload[16];
            if (m % 3 != p) {
                continue;
            }
            (void)snprintf(payload, sizeof(payload), "%d ", m);
            peer_publish(&pub, "job/x", payload, qos, qos == 0 ? 0 : (uint16_t)(m + 1));
            if (qos == 1) {
                mr_assert(peer_expect_puback(&pub, (uint16_t)(m + 1)) == 0);
            } else if (qos == 2) {
                mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBREC, (uint16_t)(m + 1)) == 0);
                peer_send_ack(&pub, MR_MQTT_PUBREL, (uint16_t)(m + 1));
                mr_assert(peer_expect_ack(&pub, MR_MQTT_PUBCOMP, (uint16_t)(m + 1)) == 0);
            }
        }
        peer_quiet(&pub);
        peer_close(&pub);
    }
}

static void expect_once(const struct group *group, int count)
{
    for (int m = 0; m < count; m++) {
        if (group->tally.times[m] != 1) {
            fprintf(stderr, "message %d came %d times\n", m, group->tally.times[m]);
            abort();
        }
    }
    mr_assert(group->tally.total == count);
}

/* Whatever is on its way to the members comes, and is counted; handshakes end. */
static void all_quiet(struct group *group, int first, int end)
{
    int64_t deadline = kit_deadline();
    uint8_t ping[2];

    (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
    for (int i = first; i < end; i++) {
        peer_write(&group->members[i], ping, sizeof(ping));
        group->ponged = false;
        while (!group->ponged) {
            peer_receive(&group->members[i], 1000000);
            while (member_take(group, i)) {
            }
            kit_patience(deadline, "PINGRESP");
        }
    }
}

static void test_balance(uint32_t lanes, uint8_t version, uint8_t qos, bool persistent)
{
    struct group group;
    const int count = 120;

    group_open(&group, lanes, version);
    for (int i = 0; i < MEMBERS; i++) {
        mr_assert(!member_join(&group, i, persistent));
        member_subscribe(&group, i, "$share/workers/job/+", qos);
    }
    publish(&group, 0, count, qos);
    group_take(&group, 0, MEMBERS, count);
    expect_once(&group, count);
    for (int i = 0; i < MEMBERS; i++) {
        if (group.tally.by[i] < count / MEMBERS / 2) {
            fprintf(stderr, "member %d got %d of %d\n", i, group.tally.by[i], count);
            abort();
        }
        peer_close(&group.members[i]);
    }
    kit_close(&group.kit);
}

/* A group gets each message once beside ordinary subscribers and other groups. */
static void test_beside_others(void)
{
    struct group group;

    group_open(&group, LANES, 5);
    for (int i = 0; i < 4; i++) {
        (void)member_join(&group, i, false);
    }
    member_subscribe(&group, 0, "$share/a/job/#", 1);
    member_subscribe(&group, 1, "$share/a/job/#", 1);
    member_subscribe(&group, 2, "$share/b/#", 1);
    member_subscribe(&group, 3, "job/x", 1);
    publish(&group, 0, 30, 1);
    group_take(&group, 0, 4, 90);
    for (int m = 0; m < 30; m++) {
        mr_assert(group.tally.times[m] == 3);
    }
    mr_assert(group.tally.by[2] == 30 && group.tally.by[3] == 30);
    all_quiet(&group, 0, 4);
    struct mr_mqtt_subscribe leave = {.packet_id = 9};
    uint8_t bytes[64];
    uint8_t filter[2 + 14];
    mr_put_be16(filter, 14);
    memcpy(filter + 2, "$share/a/job/#", 14);
    leave.raw = mr_span_make(filter, sizeof(filter));
    ptrdiff_t len = mr_mqtt_unsubscribe_encode(&leave, 5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(&group.members[0], bytes, (size_t)len);
    struct mr_mqtt_frame frame;
    mr_assert(peer_frame(&group.members[0], &frame) && frame.type == MR_MQTT_UNSUBACK);
    publish(&group, 30, 36, 1);
    group_take(&group, 1, 4, 90 + 18);
    all_quiet(&group, 0, 4);
    for (int i = 0; i < 4; i++) {
        peer_close(&group.members[i]);
    }
    kit_close(&group.kit);
}

/* What one has and does not acknowledge goes to the other when it leaves. */
static void test_leave(uint32_t lanes, bool persistent)
{
    struct group group;
    const int count = 90; /* more than a window */

    group_open(&group, lanes, 4);
    for (int i = 0; i < MEMBERS; i++) {
        (void)member_join(&group, i, persistent);
        member_subscribe(&group, i, "$share/g/job/#", 1);
    }
    group.acks = false;
    publish(&group, 0, count, 1);
    for (int i = 0; i < 3; i++) {
        peer_receive(&group.members[i], 1000000);
        peer_close(&group.members[i]);
    }
    group.acks = true;
    group_take(&group, 3, MEMBERS, count);
    for (int m = 0; m < count; m++) {
        mr_assert(group.tally.times[m] >= 1);
    }
    for (int i = 3; i < MEMBERS; i++) {
        peer_close(&group.members[i]);
    }
    kit_close(&group.kit);
}

/* Nobody is there; then the machine stops; then they come back one after the other. */
static void test_offline_group(uint32_t lanes, uint8_t qos, int back)
{
    struct group group;
    const int count = 60;

    group_open(&group, lanes, 5);
    for (int i = 0; i < MEMBERS; i++) {
        (void)member_join(&group, i, true);
        member_subscribe(&group, i, "$share/g/job/#", qos);
        peer_close(&group.members[i]);
    }
    publish(&group, 0, count / 2, qos);
    kit_crash(&group.kit);
    publish(&group, count / 2, count, qos);
    kit_crash(&group.kit);
    for (int i = 0; i < back; i++) {
        mr_assert(member_join(&group, i, true));
    }
    group_take(&group, 0, back, count);
    expect_once(&group, count);
    all_quiet(&group, 0, back);
    expect_once(&group, count);
    for (int i = 0; i < back; i++) {
        peer_close(&group.members[i]);
    }
    kit_close(&group.kit);
}

/* The same while the number of shards changes: sessions and groups move. */
static void test_other_number(void)
{
    static const uint32_t lanes[] = {2, 1, 4};
    struct group group;
    const int each = 30;

    group_open(&group, LANES, 5);
    for (int i = 0; i < MEMBERS; i++) {
        (void)member_join(&group, i, true);
        member_subscribe(&group, i, "$share/g/job/#", 2);
        peer_close(&group.members[i]);
    }
    publish(&group, 0, each, 2);
    for (int round = 0; round < 3; round++) {
        kit_end(&group.kit, 5000000000);
        group.kit.options.lanes = lanes[round];
        kit_begin(&group.kit);
        publish(&group, each * (round + 1), each * (round + 2), 2);
    }
    for (int i = 0; i < 2; i++) {
        mr_assert(member_join(&group, i, true));
    }
    group_take(&group, 0, 2, each * 4);
    all_quiet(&group, 0, 2);
    expect_once(&group, each * 4);
    for (int i = 0; i < 2; i++) {
        peer_close(&group.members[i]);
    }
    kit_close(&group.kit);
}

/* QoS 2 in progress stays with its session, which may finish it. */
/* Shows 5.0: 4.8.2-4. */
static void test_qos2_in_progress(void)
{
    struct group group;

    group_open(&group, 1, 5);
    (void)member_join(&group, 0, true);
    member_subscribe(&group, 0, "$share/g/job/#", 2);
    group.acks = false;
    publish(&group, 0, 3, 2);
    group_take(&group, 0, 1, 3);
    (void)member_join(&group, 1, true);
    member_subscribe(&group, 1, "$share/g/job/#", 2);
    peer_close(&group.members[0]);
    all_quiet(&group, 1, 2);
    group.acks = true;
    mr_assert(member_join(&group, 0, true));
    group_take(&group, 0, 1, 6);
    all_quiet(&group, 1, 2);
    mr_assert(group.tally.by[0] == 6 && group.tally.by[1] == 0);
    peer_close(&group.members[0]);
    peer_close(&group.members[1]);
    kit_close(&group.kit);
}

/* QoS 2 in progress ends with its session; QoS 1 does not. */
/* Shows 5.0: 4.8.2-5. */
static void test_end_of_session(void)
{
    for (uint8_t qos = 1; qos <= 2; qos++) {
        struct group group;

        group_open(&group, 1, 5);
        (void)member_join(&group, 0, false);
        member_subscribe(&group, 0, "$share/g/job/#", qos);
        group.acks = false;
        publish(&group, 0, 3, qos);
        group_take(&group, 0, 1, 3);
        (void)member_join(&group, 1, false);
        member_subscribe(&group, 1, "$share/g/job/#", qos);
        peer_close(&group.members[0]);
        group.acks = true;
        publish(&group, 3, 6, qos);
        group_take(&group, 1, 2, qos == 1 ? 9 : 6);
        all_quiet(&group, 1, 2);
        mr_assert(group.tally.by[1] == (qos == 1 ? 6 : 3));
        peer_close(&group.members[1]);
        kit_close(&group.kit);
    }
}

/* What a member refuses goes to nobody else. */
/* Shows 5.0: 4.8.2-6. */
static void test_refused_by_member(void)
{
    struct group group;
    struct mr_mqtt_publish got;
    uint8_t bytes[16];

    group_open(&group, 1, 5);
    (void)member_join(&group, 0, false);
    member_subscribe(&group, 0, "$share/g/job/#", 2);
    for (uint8_t qos = 1; qos <= 2; qos++) {
        publish(&group, 0, 1, qos);
        peer_expect_publish(&group.members[0], "job/x", "0 ", qos, &got);
        struct mr_mqtt_ack no = {.type = qos == 1 ? MR_MQTT_PUBACK : MR_MQTT_PUBREC,
                                 .packet_id = got.packet_id,
                                 .reason = MR_MQTT_UNSPECIFIED};
        ptrdiff_t len = mr_mqtt_ack_encode(&no, 5, bytes, sizeof(bytes));
        peer_write(&group.members[0], bytes, (size_t)len);
        peer_quiet(&group.members[0]);
    }
    (void)member_join(&group, 1, false);
    member_subscribe(&group, 1, "$share/g/job/#", 2);
    peer_close(&group.members[0]);
    publish(&group, 1, 4, 1);
    group_take(&group, 1, 2, 3);
    all_quiet(&group, 1, 2);
    mr_assert(group.tally.times[0] == 0 && group.tally.by[1] == 3);
    peer_close(&group.members[1]);
    kit_close(&group.kit);
}

/* Each member has its own QoS. */
/* Shows 5.0: 4.8.2-3. */
static void test_own_qos(void)
{
    struct group group;
    struct mr_mqtt_publish got;

    group_open(&group, 1, 5);
    for (int i = 0; i < 3; i++) {
        (void)member_join(&group, i, false);
        member_subscribe(&group, i, "$share/g/job/#", (uint8_t)i);
    }
    for (int i = 0; i < 3; i++) {
        publish(&group, 0, 1, 2);
        peer_expect_publish(&group.members[i], "job/x", "0 ", (uint8_t)i, &got);
    }
    for (int i = 0; i < 3; i++) {
        peer_close(&group.members[i]);
    }
    kit_close(&group.kit);
}

/* Shows 5.0: 4.8.2-1, 4.8.2-2, 3.8.3-4. */
static void test_refused(void)
{
    static const char *const malformed[] = {"$share",      "$share/",     "$share/g",
                                            "$share//t",   "$share/g+/t", "$share/g/",
                                            "$share/g#/t", "$share/#/t"};
    struct group group;
    struct peer peer;

    group_open(&group, 1, 4);
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        struct mr_mqtt_subscription wanted = {.filter = mr_span_of(malformed[i]), .qos = 1};
        peer_join(&peer, &group.kit, "old", 4);
        mr_assert(peer_subscribe(&peer, &wanted, 0) == 0x80);
        peer_close(&peer);
        peer_join(&peer, &group.kit, "new", 5);
        mr_assert(peer_subscribe(&peer, &wanted, 0) == MR_MQTT_TOPIC_FILTER_INVALID);
        peer_close(&peer);
    }
    struct mr_mqtt_subscription local = {
        .filter = mr_span_of("$share/g/t"), .qos = 1, .no_local = true};
    peer_join(&peer, &group.kit, "new", 5);
    peer_send_subscribe(&peer, &local, 0);
    peer_expect_disconnect(&peer, MR_MQTT_PROTOCOL_ERROR); /* [MQTT-3.8.3-4] */
    peer_close(&peer);
    kit_close(&group.kit);
}

/* A shared subscription brings no retained messages (4.8.2); nobody publishes to $share. */
static void test_no_retained(void)
{
    struct group group;
    struct peer pub;
    uint8_t bytes[64];
    struct mr_mqtt_publish packet = {.topic = mr_span_of("job/x"),
                                     .payload = mr_span_of("1 "),
                                     .qos = 1,
                                     .packet_id = 1,
                                     .retain = true};

    group_open(&group, 1, 5);
    peer_join(&pub, &group.kit, "pub", 5);
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
    peer_write(&pub, bytes, (size_t)len);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    (void)member_join(&group, 0, false);
    member_subscribe(&group, 0, "$share/g/job/#", 1);
    peer_quiet(&group.members[0]);
    peer_publish(&pub, "$share/g/job/x", "x", 1, 2);
    mr_assert(peer_expect_puback(&pub, 2) == MR_MQTT_TOPIC_NAME_INVALID);
    peer_quiet(&group.members[0]);
    peer_close(&group.members[0]);
    peer_close(&pub);
    kit_close(&group.kit);
}

int main(void)
{
    for (uint32_t lanes = 1; lanes <= LANES; lanes += 2) {
        for (uint8_t qos = 0; qos <= 2; qos++) {
            test_balance(lanes, 5, qos, false);
            test_balance(lanes, 4, qos, true);
        }
        test_leave(lanes, false);
        test_leave(lanes, true);
        test_offline_group(lanes, 1, MEMBERS);
        test_offline_group(lanes, 2, MEMBERS);
        test_offline_group(lanes, 2, 1);
    }
    test_other_number();
    test_beside_others();
    test_qos2_in_progress();
    test_end_of_session();
    test_refused_by_member();
    test_own_qos();
    test_refused();
    test_no_retained();
    printf("ok\n");
    return 0;
}
