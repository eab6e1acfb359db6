/* test_broker_chaos.c
 * links: broker net store journal codec config os base
 *
 * Goal:   whatever clients do to each other and to themselves, the broker goes on,
 *         acknowledges in order, stays within its memory, and has nothing left when
 *         they are gone.
 * Method: a seeded crowd that connects under few ids (so it takes itself over),
 *         publishes, subscribes, sends broken packets, cuts connections and reads
 *         or does not read.  Little memory, a small journal whose only cursor jumps
 *         ahead now and then.  Replay with: ./test_broker_chaos <seed>
 */
#include "base/rng.h"
#include "broker_peer.h"
#include "journal/cursor.h"

enum { CROWD = 24, STEPS = 20000 };

struct member {
    struct peer peer;
    bool open;
    uint16_t sent;  /* last packet id published */
    uint16_t acked; /* last packet id acknowledged */
};

static struct member crowd[CROWD];
static struct mr_rng rng;

static const char *const topics[] = {
    "a",
    "a/b",
    "a/b/c",
    "x/y",
    "will/1",
    "$own/t",
    "$SYS/x",
    ("long/topic/that/does/not/fit/the/connections/topic/cache/"
     "because/it/has/more/bytes/than/one/entry/can/ever/hold/at/all")};
static const char *const filters[] = {"#", "a/#", "+/b", "a/+/c", "x/y", "$own/#", "will/+"};

static const char *any(const char *const *of, size_t count)
{
    return of[mr_rng_below(&rng, count)];
}

static void leave(struct member *member)
{
    if (member->open) {
        peer_close(&member->peer);
        member->open = false;
    }
}

static void join(struct member *member, struct kit *kit)
{
    char id[8];
    struct peer_connect how = {.client_id = id, .version = (uint8_t)(3 + mr_rng_below(&rng, 3))};

    leave(member);
    (void)snprintf(id, sizeof(id), "c%u", (unsigned)mr_rng_below(&rng, 12));
    if (mr_rng_below(&rng, 2) == 0) {
        how.will_topic = "will/1";
        how.will_payload = "gone";
        how.will_qos = (uint8_t)mr_rng_below(&rng, 2);
    }
    if (how.version == 5 && mr_rng_below(&rng, 2) == 0) {
        how.receive_max = (uint16_t)(1 + mr_rng_below(&rng, 5));
    }
    peer_open(&member->peer, kit);
    member->open = true;
    member->sent = 0;
    member->acked = 0;
    peer_send_connect(&member->peer, &how);
}

/* Not peer_write(): a member that the broker does not read must not stop the test. */
static void push(struct member *member, const uint8_t *bytes, size_t len)
{
    size_t sent = 0;

    if (mr_socket_write(member->peer.fd, bytes, len, &sent) != MR_OK || sent != len) {
        leave(member); /* refused, or its packets are now cut: it gives up */
    }
}

static void publish(struct member *member)
{
    static uint8_t bytes[64 << 10];
    static char payload[20001];
    size_t len = 0;
    uint64_t count = 1 + mr_rng_below(&rng, 30);
    uint64_t size = mr_rng_below(&rng, mr_rng_below(&rng, 50) == 0 ? 20000 : 200);

    memset(payload, 'p', size);
    payload[size] = 0;
    for (uint64_t i = 0; i < count && len + size + 300 < sizeof(bytes); i++) {
        uint8_t qos = (uint8_t)mr_rng_below(&rng, 2);
        member->sent = (uint16_t)(member->sent + qos);
        if (member->sent == 0) {
            return leave(member);
        }
        len += put_publish(bytes + len, sizeof(bytes) - len, member->peer.version,
                           any(topics, MR_COUNT_OF(topics)), payload, qos, member->sent);
    }
    push(member, bytes, len);
}

static void subscribe(struct member *member)
{
    uint8_t raw[128];
    uint8_t bytes[256];
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(any(filters, MR_COUNT_OF(filters))),
                                          .qos = (uint8_t)mr_rng_below(&rng, 3)};
    ptrdiff_t len = mr_mqtt_subscription_put(&wanted, raw, sizeof(raw));
    struct mr_mqtt_subscribe packet = {.packet_id = 7, .raw = mr_span_make(raw, (size_t)len)};

    if (mr_rng_below(&rng, 3) == 0) {
        len = mr_mqtt_unsubscription_put(wanted.filter, raw, sizeof(raw));
        packet.raw.len = (size_t)len;
        len = mr_mqtt_unsubscribe_encode(&packet, member->peer.version, bytes, sizeof(bytes));
    } else {
        len = mr_mqtt_subscribe_encode(&packet, member->peer.version, bytes, sizeof(bytes));
    }
    push(member, bytes, (size_t)len);
}

/* A valid packet with a few bytes changed, or plain noise. */
static void garbage(struct member *member)
{
    uint8_t bytes[300];
    size_t len = put_publish(bytes, sizeof(bytes), member->peer.version, "a/b", "payload", 1, 9);

    for (uint64_t i = mr_rng_below(&rng, 4); i > 0; i--) {
        bytes[mr_rng_below(&rng, len)] = (uint8_t)mr_rng_u64(&rng);
    }
    push(member, bytes, 1 + mr_rng_below(&rng, len));
    member->sent = UINT16_MAX; /* its acks are no longer predictable */
}

/* Look at what has come.  PUBACKs of good members are in order, none invented. */
static void look(struct member *member)
{
    struct peer *peer = &member->peer;
    struct mr_mqtt_frame frame;

    peer_receive(peer, 0);
    for (;;) {
        struct mr_span bytes = {.at = peer->in + peer->begin, .len = peer->end - peer->begin};
        enum mr_err err = mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, &frame);
        mr_assert(err == MR_OK || err == MR_ERR_AGAIN);
        if (err != MR_OK) {
            break;
        }
        peer->begin += frame.total_bytes;
        if (frame.type == MR_MQTT_PUBACK && member->sent != UINT16_MAX) {
            member->acked += 1;
            mr_assert(mr_get_be16(frame.body.at) == member->acked);
            mr_assert(member->acked <= member->sent);
        } else if (frame.type == MR_MQTT_PUBLISH && (frame.flags & 6) != 0) {
            size_t at = 2 + mr_get_be16(frame.body.at);
            uint8_t ack[MR_MQTT_ACK_BYTES];
            (void)mr_mqtt_ack_put(ack, MR_MQTT_PUBACK, mr_get_be16(frame.body.at + at));
            if (mr_rng_below(&rng, 4) != 0) {
                size_t sent = 0;
                (void)!mr_socket_write(peer->fd, ack, sizeof(ack), &sent);
            }
        }
    }
    if (peer->closed) {
        leave(member);
    }
}

static void step(struct member *member, struct kit *kit)
{
    uint8_t ping[2];

    if (!member->open) {
        join(member, kit);
        return;
    }
    switch (mr_rng_below(&rng, 12)) {
    case 0:
        if (mr_rng_below(&rng, 4) == 0) {
            join(member, kit);
        }
        return;
    case 1:
        if (mr_rng_below(&rng, 4) == 0) {
            leave(member);
        }
        return;
    case 2:
        if (mr_rng_below(&rng, 4) == 0) {
            garbage(member);
        }
        return;
    case 3:
    case 4:
        subscribe(member);
        return;
    case 5:
        (void)mr_mqtt_ping_put(ping, MR_MQTT_PINGREQ);
        push(member, ping, sizeof(ping));
        return;
    case 6:
    case 7:
    case 8:
        publish(member);
        return;
    default:
        look(member);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    struct kit kit;
    struct peer last;
    struct mr_cursor *cursor = NULL;
    struct mr_broker_stats stats;
    struct mr_error why;
    bool is_new;

    printf("seed %llu\n", (unsigned long long)seed);
    mr_rng_seed(&rng, seed);
    mr_log_set_level(MR_LOG_ERROR);
    kit_open(&kit, &(struct kit_options){.journal_bytes = 8 << 20,
                                         .segment_bytes = 1 << 20,
                                         .memory_bytes = 4 << 20,
                                         .receive_maximum = 100,
                                         .max_queued_messages = 30});
    mr_assert(mr_cursor_open(kit.journal, "bridge", 0, MR_START_OLDEST, &cursor, &is_new, &why) ==
              MR_OK);
    for (int i = 0; i < STEPS; i++) {
        step(&crowd[mr_rng_below(&rng, CROWD)], &kit);
        if (mr_rng_below(&rng, 200) == 0) {
            mr_cursor_set(cursor, mr_lane_durable(kit.lane));
        }
    }
    for (size_t i = 0; i < CROWD; i++) {
        leave(&crowd[i]);
    }
    int64_t deadline = kit_deadline();
    peer_join(&last, &kit, "last", 5);
    do {
        mr_cursor_set(cursor, mr_lane_durable(kit.lane));
        peer_quiet(&last);
        mr_broker_stats(kit.broker, &stats);
        kit_patience(deadline, "everybody to be forgotten");
    } while (stats.connections != 1 || stats.subscriptions != 0 || stats.acks_withheld != 0);
    mr_assert(stats.connections_paused == 0);
    peer_publish(&last, "a", "still here", 1, 1);
    mr_assert(peer_expect_puback(&last, 1) == 0);
    printf("%llu connections, %llu publishes, %llu deliveries, %llu dropped\n",
           (unsigned long long)stats.connections_total,
           (unsigned long long)stats.publishes_received, (unsigned long long)stats.publishes_sent,
           (unsigned long long)stats.messages_dropped);
    peer_close(&last);
    kit_close(&kit);
    return 0;
}
