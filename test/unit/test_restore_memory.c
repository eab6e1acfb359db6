/* test_restore_memory.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   a start whose memory does not suffice for what there is, wherever it runs out, says so
 * and has changed nothing: the next one finds all of it.  So it is with what the store has, with
 *         sessions that live in the journal alone, and with a move to another number of shards.
 * Method: sessions with everything that one can have; then a shard, without network and thread, is
 *         restored with a little more memory each time, until it is enough.
 */
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"
#include "broker_peer.h"
#include "net/net.h"

enum {
    MESSAGES = 12,
    IDS = 40, /* more than the first buffer for them has */
    MEMORY_FIRST = 1 << 10,
    STEP = 64,       /* the smallest buffer */
    STEP_MOVE = 192, /* a move takes some milliseconds of the disk */
    MEMORY_LAST = 1 << 20,
    PAYLOAD = 300
};

static struct kit kit;

/* Nothing is to outlive a power cut here: it is quicker so. */
int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

int fsync(int fd)
{
    (void)fd;
    return 0;
}

/* ---- what there is ---- */

/* Whatever comes last in a start is what runs out alone. */
enum content { SENDER, QUEUES, RETAINED, CONTENTS };

static enum content content;
static char payload[PAYLOAD + 1];

static void join(struct peer *peer, const char *id)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, &kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id,
                                                   .version = 5,
                                                   .keep_session = true,
                                                   .expiry_s = 3600,
                                                   .will_topic = "will",
                                                   .will_payload = payload,
                                                   .will_delay_s = 3600});
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0);
}

static void subscribe(struct peer *peer, const char *filter)
{
    mr_assert(peer_subscribe(peer,
                             &(struct mr_mqtt_subscription){.filter = mr_span_of(filter), .qos = 2},
                             0) == 2);
}

static void publish(struct peer *pub, const char *topic, uint16_t number, bool retain)
{
    uint8_t bytes[PAYLOAD + 64];

    (void)snprintf(payload, 8, "%06u", number);
    payload[6] = '.';
    const struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                           .payload = mr_span_of(payload),
                                           .qos = 2,
                                           .packet_id = number,
                                           .retain = retain};
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, 5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(pub, bytes, (size_t)len);
    mr_assert(peer_expect_ack(pub, MR_MQTT_PUBREC, number) == 0); /* and its id stays */
}

static void join_subscribers(void)
{
    struct peer sub;

    join(&sub, "sub");
    subscribe(&sub, "own/+/with/levels");
    subscribe(&sub, "$share/group/shared/of/some/levels");
    peer_close(&sub);
    join(&sub, "other");
    subscribe(&sub, "own/#");
    peer_close(&sub);
}

/* One who has sent; two who are away and owed messages, of their own and of a group; and one of
 * these messages is retained.
 */
static void fill(enum content with, bool stored, uint32_t lanes)
{
    struct peer pub;

    content = with;
    memset(payload, 'p', PAYLOAD);
    kit_open(&kit, &(struct kit_options){.lanes = lanes,
                                         .no_store = !stored,
                                         .checkpoint_ms = 1,
                                         .memory_bytes = 64 << 20});
    if (with != SENDER) {
        join_subscribers();
    }
    join(&pub, "pub");
    for (int i = 1; i <= IDS; i++) {
        publish(&pub,
                i > MESSAGES ? "to/nobody"
                : i % 3 == 0 ? "shared/of/some/levels"
                             : "own/x/with/levels",
                (uint16_t)i, with == RETAINED && i == 1);
    }
    peer_close(&pub);
}

static void expect_own(struct peer *sub)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_publish got;
    struct mr_mqtt_why why;
    struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    bool seen[MESSAGES + 1] = {false};

    for (int i = 0; i < MESSAGES; i++) {
        mr_assert(peer_frame(sub, &frame) && frame.type == MR_MQTT_PUBLISH);
        mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
        long number = strtol((const char *)got.payload.at, NULL, 10);
        mr_assert(number >= 1 && number <= MESSAGES && !seen[number]);
        mr_assert(got.payload.len == PAYLOAD);
        seen[number] = true;
    }
    peer_quiet(sub);
}

/* A whole gateway finds all of it. */
static void expect_all(void)
{
    struct mr_broker_stats stats;
    struct peer peer;

    kit_begin(&kit);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.sessions == (content == SENDER ? 1 : 3));
    mr_assert(stats.retained == (content == RETAINED ? kit.broker->shard_count : 0));
    join(&peer, "pub"); /* its ids are still in use: nothing is taken twice */
    uint64_t before = mr_lane_durable(kit.lane);
    publish(&peer, "own/x/with/levels", IDS, false);
    mr_assert(mr_lane_durable(kit.lane) == before);
    peer_close(&peer);
    if (content != SENDER) {
        join(&peer, "sub");
        expect_own(&peer);
        peer_close(&peer);
    }
    kit_close(&kit);
}

/* ---- with little memory ---- */

static void broker_bare(struct mr_broker *broker, uint64_t memory)
{
    *broker = (struct mr_broker){
        .run = {.journal = kit.journal, .memory_bytes = memory, .sessions_path = kit.sessions},
        .limits = kit_limits(&kit.options),
        .shard_count = mr_journal_lane_count(kit.journal),
        .epoch = mr_journal_epoch(kit.journal)};
    broker->shares = shares_open(memory);
}

/* All of it is there, in memory. */
static void expect_restored(struct mr_shard *shard)
{
    const struct session *pub = session_find(shard, mr_span_of("pub"));

    const bool queues = content != SENDER;

    mr_assert(shard->keeps_count == (queues ? 3 : 1));
    mr_assert(shard->queued == (queues ? MESSAGES + MESSAGES / 3 * 2 : 0)); /* `sub`, `other` */
    mr_assert(shard->retained_count == (content == RETAINED ? 1 : 0));
    mr_assert(mr_subtree_count(shard->subtree) == (queues ? 3 : 0));
    mr_assert(pub != NULL && inbound_count(pub->inbound) == IDS);
    mr_assert(pub->will != NULL && pub->will->message.payload.len == PAYLOAD);
}

static enum mr_err restore_with(uint64_t memory, struct mr_error *why)
{
    struct mr_shard *shard = mr_alloc(sizeof(*shard));
    struct mr_broker broker;
    struct restored restored;
    char path[400];

    (void)snprintf(path, sizeof(path), "%s/lane-00", kit.sessions);
    broker_bare(&broker, memory);
    shard_state_open(shard, &broker, 0, memory);
    shard_metrics_make(shard, 0);
    mr_assert(mr_wake_open(&shard->wake, why) == MR_OK);
    mr_assert(kit.options.no_store ||
              mr_store_open(&shard->store,
                            &(struct mr_store_options){.path = path, .owner = &shard->wake},
                            why) == MR_OK);
    enum mr_err err = restore_state(shard, 0, UINT64_MAX, &restored, why);
    if (err == MR_OK) {
        expect_restored(shard);
    }
    shard_sessions_close(shard);
    share_lanes_close(shard);
    shard_state_close(shard); /* what was lent has been given back */
    mr_wake_close(&shard->wake);
    mr_free(shard);
    shares_close(broker.shares);
    return err;
}

static enum mr_err move_with(uint64_t memory, struct mr_error *why)
{
    struct mr_broker broker;

    broker_bare(&broker, memory);
    enum mr_err err = rehome(&broker, why);
    shares_close(broker.shares);
    return err;
}

/* Until it is enough. */
static void test_with_ever_more(enum mr_err (*start)(uint64_t memory, struct mr_error *why),
                                uint64_t step)
{
    struct mr_error why = {.text = ""};
    enum mr_err err = MR_ERR_CONFIG;
    uint64_t memory = MEMORY_FIRST;
    int refused = 0;

    (void)snprintf(kit.sessions, sizeof(kit.sessions), "%s/sessions", kit.folder);
    kit_journal(&kit);
    for (; err != MR_OK; memory += step) {
        err = start(memory, &why);
        if (err != MR_OK) {
            mr_assert(err == MR_ERR_CONFIG);
            mr_assert(strstr(why.text, "set a larger `gateway.memory`") != NULL);
            refused += 1;
        }
        mr_assert(memory < MEMORY_LAST);
    }
    mr_assert(refused > 3);
    mr_assert(mr_journal_close(kit.journal) == MR_OK);
    expect_all();
}

/* By the store alone, or by the journal alone. */
static void test_of_a_shard(enum content with, bool stored)
{
    fill(with, stored, 1);
    kit_end(&kit, 5000000000);
    test_with_ever_more(restore_with, STEP);
}

static void test_of_a_move(uint32_t before, uint32_t after)
{
    fill(RETAINED, true, before);
    kit_end(&kit, 5000000000);
    kit.options.lanes = after;
    test_with_ever_more(move_with, STEP_MOVE);
}

/* ---- groups, which have memory of their own ---- */

enum { GROUPS = 40, FILTER_BYTES = 40000, LITTLE = 16 << 20, MUCH = 64 << 20 };

/* "$share/g/NNffff…"; those that were granted, the first ones. */
static uint64_t join_groups(struct peer *peer)
{
    uint64_t granted = 0;
    static char filter[FILTER_BYTES + 1];
    static uint8_t raw[FILTER_BYTES + 8];
    static uint8_t bytes[FILTER_BYTES + 64];

    memset(filter, 'f', FILTER_BYTES);
    for (int i = 0; i < GROUPS; i++) {
        struct mr_mqtt_frame frame;
        (void)snprintf(filter, 24, "$share/g/%02d", i);
        filter[strlen("$share/g/00")] = 'f';
        const struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = 1};
        ptrdiff_t len = mr_mqtt_subscription_put(&wanted, raw, sizeof(raw));
        mr_assert(len > 0);
        const struct mr_mqtt_subscribe packet = {.packet_id = 7,
                                                 .raw = mr_span_make(raw, (size_t)len)};
        len = mr_mqtt_subscribe_encode(&packet, 5, bytes, sizeof(bytes));
        mr_assert(len > 0);
        peer_write(peer, bytes, (size_t)len);
        mr_assert(peer_frame(peer, &frame) && frame.type == MR_MQTT_SUBACK);
        uint8_t code = frame.body.at[frame.body.len - 1];
        mr_assert(code == (granted == (uint64_t)i && code == 1 ? 1 : MR_MQTT_QUOTA_EXCEEDED));
        granted += code == 1;
    }
    return granted;
}

static void expect_subscriptions(uint64_t count)
{
    struct mr_broker_stats stats;

    kit_begin(&kit);
    mr_broker_stats(kit.broker, &stats);
    mr_assert(stats.sessions == 1 && stats.subscriptions == count);
    kit_close(&kit);
}

static void groups_open(uint64_t memory, uint64_t *granted)
{
    struct peer sub;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 1, .memory_bytes = memory});
    join(&sub, "sub");
    *granted = join_groups(&sub);
    peer_close(&sub);
    kit_end(&kit, 5000000000);
}

static void test_of_groups(void)
{
    struct mr_error why = {.text = ""};
    uint64_t granted = 0;

    groups_open(LITTLE, &granted);
    mr_assert(granted != 0 && granted < GROUPS);
    expect_subscriptions(granted);
    groups_open(MUCH, &granted);
    mr_assert(granted == GROUPS);
    kit.options.memory_bytes = LITTLE;
    kit_journal(&kit);
    mr_assert(kit_broker(&kit, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "set a larger `gateway.memory`") != NULL);
    mr_assert(mr_journal_close(kit.journal) == MR_OK);
    kit.options.memory_bytes = MUCH;
    expect_subscriptions(granted);
}

int main(void)
{
    test_of_groups();
    for (int with = SENDER; with < CONTENTS; with++) {
        test_of_a_shard((enum content)with, true);
        test_of_a_shard((enum content)with, false);
    }
    test_of_a_move(1, 2);
    test_of_a_move(2, 1);
    (void)puts("what had no room was there when there was some");
    return 0;
}
