/* test_broker_full.c
 * links: broker net store journal codec config os base
 *
 * Goal:   `when_full: reject`: at the bound publishers of MQTT 5 are told 0x97 at once, QoS 0 is
 *         dropped and counted, 3.x waits as ever; nothing of what was refused is journaled or
 *         delivered; sessions go on; and all of it ends by itself when there is room.
 * Method: real broker and journal; a cursor that stands still fills the journal, moving it makes
 *         room again.
 */
#include "base/metric.h"
#include "broker_peer.h"
#include "journal/cursor.h"

enum { BIG = 1500, OPEN_ID = 9 };

static char payload[BIG + 1];

static struct mr_cursor *full_open(struct kit *kit)
{
    struct mr_cursor *cursor = NULL;
    struct mr_error why;
    bool is_new;

    memset(payload, 'x', BIG);
    kit_open(kit, &(struct kit_options){.refuse_when_full = true,
                                        .journal_bytes = 512 << 10,
                                        .segment_bytes = 128 << 10,
                                        .exclude = "debug/#"});
    mr_assert(mr_cursor_open(kit->journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, &why) ==
              MR_OK);
    return cursor;
}

static uint64_t refused(uint8_t qos)
{
    char labels[32];

    (void)snprintf(labels, sizeof(labels), "shard=\"0\",qos=\"%u\"", qos);
    return (uint64_t)mr_metric_get(
        mr_metric_new(MR_METRIC_COUNTER, "millrace_mqtt_publish_refused_full_total", "", labels));
}

/* Publish until one is refused; how many were taken. */
static uint64_t publish_until_refused(struct peer *pub)
{
    int64_t deadline = kit_deadline();
    uint64_t taken = 0;

    for (;;) {
        peer_publish(pub, "plant/a", payload, 1, 1);
        uint8_t reason = peer_expect_puback(pub, 1);
        if (reason != 0) {
            mr_assert(reason == MR_MQTT_QUOTA_EXCEEDED);
            return taken;
        }
        taken += 1;
        kit_patience(deadline, "the journal to be full");
    }
}

static void subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    struct mr_mqtt_subscription one = {.filter = mr_span_of(filter), .qos = qos};

    mr_assert(peer_subscribe(peer, &one, 0) == qos);
}

static void join_persistent(struct peer *peer, struct kit *kit, const char *id)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id, .version = 5, .expiry_s = 60});
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0);
}

/* Every kind of publish, of both versions. */
static void check_refusals(struct peer *pub, struct peer *old)
{
    uint64_t before[3] = {refused(0), refused(1), refused(2)};

    peer_publish(pub, "plant/a", "1", 1, 2);
    mr_assert(peer_expect_puback(pub, 2) == MR_MQTT_QUOTA_EXCEEDED);
    for (int i = 0; i < 2; i++) { /* its id is free again: the same one is a new message */
        peer_publish(pub, "plant/a", "2", 2, 3);
        mr_assert(peer_expect_ack(pub, MR_MQTT_PUBREC, 3) == MR_MQTT_QUOTA_EXCEEDED);
    }
    peer_publish(pub, "plant/a", "0", 0, 0);
    peer_quiet(pub);
    mr_assert(refused(0) == before[0] + 1 && refused(1) == before[1] + 1 &&
              refused(2) == before[2] + 2);
    /* Not in the journal at all, so there is nothing to wait for. */
    peer_publish(pub, "debug/a", "not journaled", 1, 4);
    mr_assert(peer_expect_puback(pub, 4) == 0);
    /* 3.1.1: what can be dropped is, what cannot be refused waits. */
    peer_publish(old, "plant/a", "0", 0, 0);
    peer_quiet(old);
    mr_assert(refused(0) == before[0] + 2);
    peer_publish(old, "plant/old", "waits", 1, 1);
}

/* A session that comes, subscribes, ends an exchange and goes has room. */
static void check_sessions_go_on(struct kit *kit, struct peer *exchange)
{
    struct peer peer;

    peer_send_ack(exchange, MR_MQTT_PUBREL, OPEN_ID);
    mr_assert(peer_expect_ack(exchange, MR_MQTT_PUBCOMP, OPEN_ID) == 0);
    for (int i = 0; i < 20; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "new-%d", i);
        join_persistent(&peer, kit, id);
        subscribe(&peer, "else/#", 1);
        peer_close(&peer);
    }
}

static void count_events(struct kit *kit, uint64_t *plant, uint64_t *old)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;

    mr_assert(mr_reader_open(&reader, kit->journal, 0, 1, NULL, NULL) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            mr_assert(event.payload.len > 2);
            *plant += mr_span_is(event.topic, "plant/a");
            *old += mr_span_is(event.topic, "plant/old");
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
}

static void test_refused_and_taken_again(void)
{
    struct kit kit;
    struct mr_cursor *cursor = full_open(&kit);
    struct peer pub;
    struct peer old;
    struct peer exchange;
    struct peer sub;
    struct mr_mqtt_publish got;
    uint64_t plant = 0;
    uint64_t waited = 0;

    join_persistent(&exchange, &kit, "exchange");
    peer_publish(&exchange, "plant/e", "open", 2, OPEN_ID);
    mr_assert(peer_expect_ack(&exchange, MR_MQTT_PUBREC, OPEN_ID) == 0);
    peer_join(&pub, &kit, "pub", 5);
    peer_join(&old, &kit, "old", 4);
    uint64_t taken = publish_until_refused(&pub);
    mr_assert(taken > 200 && mr_lane_state(kit.lane) == MR_LANE_FULL);
    peer_join(&sub, &kit, "sub", 5);
    subscribe(&sub, "plant/#", 0);
    subscribe(&sub, "debug/#", 0);
    check_refusals(&pub, &old);
    peer_expect_publish(&sub, "debug/a", "not journaled", 0, &got);
    check_sessions_go_on(&kit, &exchange);
    peer_quiet(&sub);
    mr_assert(mr_lane_state(kit.lane) == MR_LANE_FULL);
    count_events(&kit, &plant, &waited);
    mr_assert(plant == taken && waited == 0);

    /* Room: it goes on by itself, and who waited is first served. */
    mr_cursor_set(cursor, mr_lane_durable(kit.lane));
    mr_assert(peer_expect_puback(&old, 1) == 0);
    peer_publish(&pub, "plant/a", payload, 1, 5);
    mr_assert(peer_expect_puback(&pub, 5) == 0);
    peer_expect_publish(&sub, "plant/old", "waits", 0, &got);
    peer_expect_publish(&sub, "plant/a", payload, 0, &got);
    peer_close(&sub);
    peer_close(&exchange);
    peer_close(&old);
    peer_close(&pub);
    kit_close(&kit);
}

static bool somebody_waits(struct kit *kit)
{
    struct mr_broker_stats stats;

    mr_broker_stats(kit->broker, &stats);
    return stats.connections_paused != 0;
}

/* The end of the last segment is the sessions', also for an event that would just fit; and when
 * they have used all of it, they wait like everybody else, and go on.
 */
static void test_reserve_used_up(void)
{
    struct kit kit;
    struct mr_cursor *cursor = full_open(&kit);
    struct peer pub;
    struct peer last;
    struct peer peer;
    struct mr_mqtt_connack connack;
    int64_t deadline = kit_deadline();
    unsigned came = 0;

    peer_join(&pub, &kit, "pub", 5);
    (void)publish_until_refused(&pub);
    for (;; came++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "c%u", came);
        peer_open(&peer, &kit);
        peer_send_connect(&peer,
                          &(struct peer_connect){.client_id = id, .version = 5, .expiry_s = 60});
        int64_t until = mr_clock_mono_ns() + 500000000;
        while (peer.begin == peer.end && (mr_clock_mono_ns() < until || !somebody_waits(&kit))) {
            peer_receive(&peer, 10000000);
            kit_patience(deadline, "an answer, or none");
        }
        if (peer.begin == peer.end) {
            break;
        }
        peer_expect_connack(&peer, &connack);
        peer_publish(&pub, "plant/a", "", 1, 1); /* takes nothing of it */
        mr_assert(peer_expect_puback(&pub, 1) == MR_MQTT_QUOTA_EXCEEDED);
        peer_close(&peer);
        kit_patience(deadline, "the reserve to be used up");
    }
    mr_assert(came > 50);
    last = peer;
    mr_cursor_set(cursor, mr_lane_durable(kit.lane));
    peer_expect_connack(&last, &connack);
    mr_assert(connack.reason == 0);
    peer_close(&last);
    peer_close(&pub);
    kit_close(&kit);
}

/* "NAME-n", at home in `lane`. */
static void id_at(const struct kit *kit, char out[32], const char *name, uint32_t lane)
{
    for (int n = 0;; n++) {
        (void)snprintf(out, 32, "%s-%d", name, n);
        if (mr_journal_home(kit->journal, mr_span_of(out)) == lane) {
            return;
        }
    }
}

static void publish_until(struct peer *pub, const char *topic, uint8_t wanted, const char *what)
{
    int64_t deadline = kit_deadline();

    do {
        peer_publish(pub, topic, payload, 1, 1);
        kit_patience(deadline, what);
    } while (peer_expect_puback(pub, 1) != wanted);
}

/* A lane that has room, of which a session is owed more than its own lane, which is full, can take:
 * publishers are told so there, too.
 */
static void test_another_lane_is_full(void)
{
    struct kit kit;
    struct mr_cursor *cursor = NULL;
    struct peer sub;
    struct peer there;
    struct peer here;
    char id[32];
    bool is_new;

    memset(payload, 'x', BIG);
    kit_open(&kit, &(struct kit_options){.refuse_when_full = true,
                                         .lanes = 2,
                                         .journal_bytes = 2 << 20,
                                         .segment_bytes = 128 << 10,
                                         .max_queued_messages = 10000});
    mr_assert(mr_cursor_open(kit.journal, "bridge", 1, MR_START_OLDEST, &cursor, &is_new, NULL) ==
              MR_OK);
    id_at(&kit, id, "sub", 1);
    join_persistent(&sub, &kit, id);
    subscribe(&sub, "here/#", 1);
    id_at(&kit, id, "there", 1);
    peer_join(&there, &kit, id, 5);
    id_at(&kit, id, "here", 0);
    peer_join(&here, &kit, id, 5);
    peer_close(&sub);
    publish_until(&there, "there", MR_MQTT_QUOTA_EXCEEDED, "lane 1 to be full");
    publish_until(&here, "here/a", MR_MQTT_QUOTA_EXCEEDED, "lane 0 to refuse, too");
    mr_assert(strstr(mr_lane_state_text(mr_journal_lane(kit.journal, 0)), "lane 1 is full") !=
              NULL);
    mr_cursor_set(cursor, mr_lane_durable(mr_journal_lane(kit.journal, 1)));
    publish_until(&there, "there", 0, "lane 1 to have room");
    publish_until(&here, "here/a", 0, "lane 0 to take events again");
    peer_close(&here);
    peer_close(&there);
    kit_close(&kit);
}

static _Atomic unsigned said;

static void count_said(const char *line, size_t len)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), "%.*s", (int)len, line);
    said += strstr(text, "publishers wait") != NULL && strstr(text, "waits for the disk") != NULL;
}

/* Waiting for the disk is told when it lasts, once. */
static void test_a_long_wait_is_told(void)
{
    int64_t deadline = kit_deadline();
    uint8_t packet[BIG + 64];
    struct kit kit;
    struct peer pub;
    size_t at = 0;

    memset(payload, 'x', BIG);
    mr_log_set_writer(count_said);
    kit_open(&kit, &(struct kit_options){.manual = true, .block_count = 10});
    peer_join(&pub, &kit, "pub", 5);
    size_t len = put_publish(packet, sizeof(packet), 5, "plant/a", payload, 0, 0);
    while (said == 0) { /* nobody commits */
        size_t sent = 0;
        mr_assert(mr_socket_write(pub.fd, packet + at, len - at, &sent) == MR_OK);
        at = (at + sent) % len;
        kit_patience(deadline, "the log");
    }
    mr_assert(said == 1);
    peer_close(&pub);
    kit_close(&kit);
}

int main(void)
{
    test_refused_and_taken_again();
    test_reserve_used_up();
    test_another_lane_is_full();
    test_a_long_wait_is_told();
    return 0;
}
