/* test_share_rights.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a group gives a message to a member that may read its topic, whoever's turn it is, of any
 *         QoS and in any shard; what nobody may read goes to nobody; what a member leaves goes to
 *         one that may read it; rules that are read again hold for groups, too.
 * Method: members whose rights follow from their client ids, and messages to topics that the one,
 *         the other, both or none may read.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

enum { ROUNDS = 5 };

static const char rules[] = "pattern read job/%c\n"
                            "topic read job/both\n"
                            "topic write job/#\n";

static char path[256];
static struct kit kit;
static struct peer alice;
static struct peer bob;
static struct peer pub;

static void rules_write(const char *text)
{
    FILE *file = fopen(path, "w");

    mr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void rules_now(const char *text)
{
    struct mr_error why = {.text = ""};

    rules_write(text);
    mr_assert(kit_reload(&kit, &why) == MR_OK);
}

static void join(struct peer *peer, const char *id, bool persistent, bool present)
{
    mr_assert(peer_join_as(peer, &kit,
                           &(struct peer_connect){.client_id = id,
                                                  .version = 5,
                                                  .keep_session = persistent,
                                                  .expiry_s = persistent ? 3600 : 0}) == present);
}

static uint8_t subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    return peer_subscribe(
        peer, &(struct mr_mqtt_subscription){.filter = mr_span_of(filter), .qos = qos}, 0);
}

/* A broker with the rules, and who publishes. */
static void begin(uint32_t lanes)
{
    rules_write(rules);
    kit_open(&kit, &(struct kit_options){.lanes = lanes, .acl_file = path, .checkpoint_ms = 5});
    join(&pub, "pub", false, false);
}

/* And the group's two members. */
static void begin_with_both(uint32_t lanes, uint8_t qos, bool alice_persistent, bool bob_persistent)
{
    begin(lanes);
    join(&alice, "alice", alice_persistent, false);
    join(&bob, "bob", bob_persistent, false);
    mr_assert(subscribe(&alice, "$share/g/job/+", qos) == qos);
    mr_assert(subscribe(&bob, "$share/g/job/+", qos) == qos);
}

static void end(void)
{
    peer_close(&pub);
    kit_close(&kit);
}

static void end_with_both(void)
{
    peer_close(&alice);
    peer_close(&bob);
    end();
}

/* Whoever may read it gets it, though it may be another one's turn; `job/none` is nobody's.  The
 * next message that the same member may read comes after it would have come.
 */
static void test_the_member_that_may_read_it(uint32_t lanes, uint8_t qos, bool persistent)
{
    begin_with_both(lanes, qos, persistent, persistent);
    mr_assert(subscribe(&alice, "$share/g/secret/+", qos) == MR_MQTT_NOT_AUTHORIZED);
    for (int round = 0; round < ROUNDS; round++) {
        peer_tell(&pub, "job/none", qos);
        peer_tell(&pub, "job/alice", qos);
        peer_tell(&pub, "job/alice", qos);
        peer_tell(&pub, "job/bob", qos);
        peer_hear(&alice, "job/alice", qos);
        peer_hear(&alice, "job/alice", qos);
        peer_hear(&bob, "job/bob", qos);
    }
    peer_quiet(&alice);
    peer_quiet(&bob);
    end_with_both();
}

/* One that is away keeps what only it may read, although another one is there. */
static void test_who_is_away_keeps_what_only_it_may_read(uint32_t lanes)
{
    begin_with_both(lanes, 1, true, false);
    peer_leave(&alice);
    for (int round = 0; round < ROUNDS; round++) {
        peer_tell(&pub, "job/alice", 1);
        peer_tell(&pub, "job/bob", 1);
        peer_tell(&pub, "job/both", 1); /* who is there goes first */
        peer_hear(&bob, "job/bob", 1);
        peer_hear(&bob, "job/both", 1);
    }
    peer_quiet(&bob);
    join(&alice, "alice", true, true);
    for (int round = 0; round < ROUNDS; round++) {
        peer_hear(&alice, "job/alice", 1);
    }
    peer_quiet(&alice);
    end_with_both();
}

/* What a member was sent and has not acknowledged goes to the other, as far as that may read it. */
static void test_what_a_member_leaves(uint32_t lanes, bool persistent)
{
    struct mr_mqtt_publish got;

    begin(lanes);
    join(&bob, "bob", persistent, false);
    mr_assert(subscribe(&bob, "$share/g/job/+", 1) == 1);
    peer_tell(&pub, "job/bob", 1);
    peer_expect_publish(&bob, "job/bob", "job/bob", 1, &got);
    peer_tell(&pub, "job/both", 1);
    peer_expect_publish(&bob, "job/both", "job/both", 1, &got);
    join(&alice, "alice", false, false);
    mr_assert(subscribe(&alice, "$share/g/job/+", 1) == 1);
    peer_leave(&bob);
    peer_hear(&alice, "job/both", 1);
    peer_tell(&pub, "job/alice", 1);
    peer_hear(&alice, "job/alice", 1);
    peer_quiet(&alice);
    peer_close(&alice);
    if (persistent) { /* what nobody else may read has stayed with it */
        join(&bob, "bob", true, true);
        peer_hear(&bob, "job/bob", 1);
        peer_quiet(&bob);
        peer_close(&bob);
    }
    end();
}

static int64_t denied(void)
{
    int64_t count = 0;

    for (uint32_t i = 0; i < kit.broker->shard_count; i++) {
        count += mr_metric_get(kit.broker->shards[i]->metrics.denied_deliver);
    }
    return count;
}

/* Behind a restart nobody knows by which listener they came, until they come again. */
static void test_behind_a_restart(uint32_t lanes)
{
    begin_with_both(lanes, 1, true, true);
    peer_leave(&alice);
    peer_leave(&bob);
    peer_close(&pub);
    kit_crash(&kit);
    join(&pub, "pub", false, false);
    int64_t before = denied();
    for (int round = 0; round < ROUNDS; round++) {
        peer_tell(&pub, "job/none", 1);
        peer_tell(&pub, "job/alice", 1);
        peer_tell(&pub, "job/bob", 1);
    }
    join(&alice, "alice", true, true);
    join(&bob, "bob", true, true);
    for (int round = 0; round < ROUNDS; round++) {
        peer_hear(&alice, "job/alice", 1);
        peer_hear(&bob, "job/bob", 1);
    }
    peer_quiet(&alice);
    peer_quiet(&bob);
    mr_assert(denied() == before); /* `job/none` was given to nobody */
    end_with_both();
}

static void test_rules_that_are_read_again(uint32_t lanes)
{
    begin_with_both(lanes, 1, false, false);
    peer_tell(&pub, "job/alice", 1);
    peer_hear(&alice, "job/alice", 1);
    rules_now("topic write job/#\npattern read other/%c\n");
    peer_tell(&pub, "job/alice", 1); /* nobody may read anything any more */
    rules_now("topic write job/#\ntopic read job/alice\ntopic read job/bob\n");
    for (int round = 0; round < ROUNDS; round++) { /* both may read both now, and take turns */
        peer_tell(&pub, "job/both", 1);
        peer_tell(&pub, "job/alice", 1);
        peer_tell(&pub, "job/alice", 1);
        peer_hear(&alice, "job/alice", 1);
        peer_hear(&bob, "job/alice", 1);
    }
    peer_quiet(&alice);
    peer_quiet(&bob);
    end_with_both();
}

int main(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(path, sizeof(path), "%s/mr-acl-XXXXXX", base == NULL ? "/tmp" : base);
    int fd = mkstemp(path);
    mr_assert(fd >= 0 && close(fd) == 0);
    for (uint32_t lanes = 1; lanes <= 3; lanes += 2) {
        test_the_member_that_may_read_it(lanes, 0, false);
        test_the_member_that_may_read_it(lanes, 1, false);
        test_the_member_that_may_read_it(lanes, 1, true);
        test_who_is_away_keeps_what_only_it_may_read(lanes);
        test_what_a_member_leaves(lanes, false);
        test_what_a_member_leaves(lanes, true);
        test_behind_a_restart(lanes);
        test_rules_that_are_read_again(lanes);
    }
    mr_assert(unlink(path) == 0);
    return 0;
}
