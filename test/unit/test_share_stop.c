/* test_share_stop.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what members had not acknowledged when the gateway stops goes to another one whose
 *         session stays, also if the journal had no room a moment before; it is not given to the
 *         next one whose session ends, in this shard or another.
 * Method: the shard is told that there is no room, and to stop, in one turn; two members leave
 *         at one stop, each with something.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

static void stop_begin(struct mr_shard *shard, void *arg)
{
    const bool *stalled = arg;

    if (*stalled) {
        shard_stall(shard);
    }
    atomic_store(&shard->broker->stop_deadline_ns, kit_deadline());
    shares_stop(shard->broker->shares);
    atomic_store(&shard->broker->stop, true);
}

/* As mr_broker_stop(), while connections are still read to their ends, so that it has nothing to
 * wait for.
 */
static void stop(struct kit *kit, bool stalled, struct peer *peers, int count)
{
    struct mr_mqtt_frame frame;

    mr_assert(shard_call(kit->broker->shards[0], stop_begin, &stalled) == MR_OK);
    for (uint32_t i = 1; i < kit->broker->shard_count; i++) {
        mr_wake_ring(&kit->broker->shards[i]->wake);
    }
    for (int i = 0; i < count; i++) {
        while (peer_frame(&peers[i], &frame)) {
            /* a DISCONNECT, perhaps a message */
        }
        peer_close(&peers[i]);
    }
    kit_end(kit, 5000000000);
}

static void join_group(struct peer *peer)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("$share/g/q"), .qos = 1};

    mr_assert(peer_subscribe(peer, &wanted, 0) == 1);
}

static void publish(struct peer *pub, const char *payload)
{
    peer_publish(pub, "q", payload, 1, 1);
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

/* There is one who is away, and whose session stays. */
static void begin(struct kit *kit, struct peer *pub, uint32_t lanes)
{
    struct peer stays;

    kit_open(kit, &(struct kit_options){.checkpoint_ms = 600000, .lanes = lanes});
    peer_join_kept(&stays, kit, false);
    join_group(&stays);
    peer_close(&stays);
    peer_join(pub, kit, "pub", 5);
}

static void expect_jobs(struct kit *kit, int count)
{
    struct peer stays;
    struct mr_mqtt_frame frame;
    int64_t deadline = kit_deadline();

    kit_begin(kit);
    peer_join_kept(&stays, kit, true);
    for (int i = 0; i < count; i++) {
        mr_assert(peer_frame(&stays, &frame) && frame.type == MR_MQTT_PUBLISH);
        kit_patience(deadline, "the jobs");
    }
    peer_quiet(&stays);
    peer_close(&stays);
    kit_close(kit);
}

static void test_no_room(void)
{
    struct kit kit;
    struct peer peers[2];
    struct mr_mqtt_publish got;

    begin(&kit, &peers[0], 1);
    peer_join(&peers[1], &kit, "goes", 5);
    join_group(&peers[1]);
    publish(&peers[0], "job");
    peer_expect_publish(&peers[1], "q", "job", 1, &got);
    stop(&kit, true, peers, 2);
    expect_jobs(&kit, 1);
}

/* Each in a shard of its own, if there are two. */
static void test_two_leave(uint32_t lanes)
{
    struct kit kit;
    struct peer peers[3];
    struct peer *goes = &peers[1];
    struct mr_mqtt_frame frame;
    char id[] = "a";

    begin(&kit, &peers[0], lanes);
    for (uint32_t i = 0; i < 2; i++) {
        while (mr_journal_home(kit.journal, mr_span_of(id)) != i % lanes) {
            id[0] += 1;
        }
        peer_join(&goes[i], &kit, id, 5);
        join_group(&goes[i]);
        id[0] += 1;
    }
    publish(&peers[0], "one"); /* they take turns */
    publish(&peers[0], "two");
    for (int i = 0; i < 2; i++) {
        mr_assert(peer_frame(&goes[i], &frame) && frame.type == MR_MQTT_PUBLISH);
    }
    stop(&kit, false, peers, 3);
    expect_jobs(&kit, 2);
}

static const struct share_client *chosen(struct shares *shares)
{
    struct share_target target;

    mr_assert(shares_choose_all(shares, mr_span_of("q"), 1, &target, 1) == 1);
    const struct share_client *client = target.client;
    shares_release(&target, 1);
    return client;
}

/* If none stays, who is there still has what comes. */
static void test_choice(void)
{
    const struct mr_span filter = mr_span_of("$share/g/q");
    struct shares *shares = shares_open(1 << 20);
    struct share_client *goes = share_client_new(mr_span_of("goes"), 0, false);
    struct share_client *stays = share_client_new(mr_span_of("stays"), 0, true);

    atomic_store(&goes->connected, true);
    mr_assert(shares_join(shares, goes, filter, 1) == MR_OK);
    shares_stop(shares);
    mr_assert(chosen(shares) == goes);
    mr_assert(shares_join(shares, stays, filter, 1) == MR_OK);
    mr_assert(chosen(shares) == stays && chosen(shares) == stays);
    shares_leave(shares, goes, filter);
    shares_leave(shares, stays, filter);
    share_client_drop(goes);
    share_client_drop(stays);
    shares_close(shares);
}

int main(void)
{
    test_choice();
    test_no_room();
    test_two_leave(1);
    test_two_leave(2);
    (void)puts("what was left at a stop was there at the next start");
    return 0;
}
