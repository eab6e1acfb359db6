/* test_broker_grants.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what a login brings beside its yes holds for what comes to its client: rules of its own
 *         go before the ACL file, also where a member of a group is chosen; who is away gets what
 *         it may read when it is back, behind a restart too; a login that is over ends the
 *         connection, no sooner than was promised.
 * Method: a service that is asked by HTTP; members whose rights differ, and messages to topics
 *         that one of them may read.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"
#include "login_service.h"

enum { ROUNDS = 4, LATE_S = 3 * 366 * 86400 };

static const char rules[] = "pattern read job/%u\n"
                            "pattern write job/#\n";

static char expires_soon[64];
static char expires_late[64];
static const struct service_line lines[] = {
    {"ann",
     "\"acl\": [{\"permission\": \"deny\", \"action\": \"subscribe\", \"topic\": \"job/ann\"},"
     "{\"permission\": \"allow\", \"action\": \"subscribe\", \"topic\": \"job/one\"}]"},
    {"bob",
     "\"acl\": [{\"permission\": \"deny\", \"action\": \"subscribe\", \"topic\": \"job/bob\"},"
     "{\"permission\": \"allow\", \"action\": \"subscribe\", \"topic\": \"job/two\"}]"},
    {"root", "\"is_superuser\": true"},
    {"past", "\"expire_at\": 1"},
    {"soon", expires_soon},
    {"late", expires_late},
    {NULL, NULL}};

static char path[256];
static struct login_service service;
static struct kit kit;
static struct peer pub;

static void rules_write(void)
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(path, sizeof(path), "%s/mr-acl-XXXXXX", base == NULL ? "/tmp" : base);
    int fd = mkstemp(path);
    mr_assert(fd >= 0 && write(fd, rules, sizeof(rules) - 1) == (ssize_t)sizeof(rules) - 1);
    mr_assert(close(fd) == 0);
}

/* As user `name`, which is the client id, too. */
static void join(struct peer *peer, const char *name, bool persistent, bool present)
{
    mr_assert(peer_join_as(peer, &kit,
                           &(struct peer_connect){.client_id = name,
                                                  .version = 5,
                                                  .keep_session = persistent,
                                                  .expiry_s = persistent ? 3600 : 0,
                                                  .username = name,
                                                  .password = "word"}) == present);
}

static void subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    mr_assert(peer_subscribe(
                  peer, &(struct mr_mqtt_subscription){.filter = mr_span_of(filter), .qos = qos},
                  0) == qos);
}

static void join_group(struct peer *peer, const char *name, uint8_t qos)
{
    join(peer, name, false, false);
    subscribe(peer, "$share/g/job/+", qos);
}

static void begin(uint32_t lanes, bool has_file)
{
    kit_open(&kit, &(struct kit_options){.lanes = lanes,
                                         .acl_file = has_file ? path : NULL,
                                         .login_url = service.url,
                                         .checkpoint_ms = 5});
    join(&pub, "pub", false, false);
}

static void end(void)
{
    peer_close(&pub);
    kit_close(&kit);
}

/* `job/ann` and `job/bob` are of those whom the file would let read them, and their rules do not.
 */
static void test_rules_before_the_file(uint32_t lanes, uint8_t qos)
{
    struct peer ann;
    struct peer bob;
    struct peer cat;
    struct peer root;

    begin(lanes, true);
    join_group(&ann, "ann", qos);
    join_group(&bob, "bob", qos);
    join_group(&cat, "cat", qos);
    for (int round = 0; round < ROUNDS; round++) {
        peer_tell(&pub, "job/ann", qos);
        peer_tell(&pub, "job/bob", qos);
        peer_tell(&pub, "job/one", qos);
        peer_tell(&pub, "job/two", qos);
        peer_tell(&pub, "job/cat", qos);
        peer_hear(&ann, "job/one", qos);
        peer_hear(&bob, "job/two", qos);
        peer_hear(&cat, "job/cat", qos);
    }
    join_group(&root, "root", qos);
    for (int round = 0; round < ROUNDS; round++) {
        peer_tell(&pub, "job/ann", qos);
        peer_tell(&pub, "job/bob", qos);
        peer_hear(&root, "job/ann", qos);
        peer_hear(&root, "job/bob", qos);
    }
    struct peer *const all[] = {&ann, &bob, &cat, &root};
    for (size_t i = 0; i < MR_COUNT_OF(all); i++) {
        peer_quiet(all[i]);
        peer_close(all[i]);
    }
    end();
}

static void test_rules_without_a_file(void)
{
    struct peer ann;
    struct peer cat;

    begin(1, false);
    join_group(&ann, "ann", 1);
    join_group(&cat, "cat", 1);
    for (int round = 0; round < ROUNDS; round++) {
        peer_tell(&pub, "job/ann", 1); /* whoever's turn it is */
        peer_hear(&cat, "job/ann", 1);
    }
    peer_quiet(&ann);
    peer_close(&ann);
    peer_close(&cat);
    end();
}

static uint64_t denied(void)
{
    return (uint64_t)mr_metric_get(kit.broker->shards[0]->metrics.denied_deliver);
}

/* What its login will say is not known while it is away: it is asked when it is back. */
static void test_away(const char *filter, bool restarts)
{
    struct peer ann;

    begin(1, true);
    join(&ann, "ann", true, false);
    subscribe(&ann, filter, 1);
    peer_leave(&ann);
    if (restarts) {
        peer_close(&pub);
        kit_crash(&kit);
        join(&pub, "pub", false, false);
    }
    uint64_t before = denied();
    peer_tell(&pub, "job/two", 1);
    peer_tell(&pub, "job/one", 1);
    join(&ann, "ann", true, true);
    peer_hear(&ann, "job/one", 1);
    peer_quiet(&ann);
    mr_assert(denied() == before + 1);
    peer_leave(&ann);
    join(&ann, "ann", true, true); /* it is not asked for again */
    peer_quiet(&ann);
    mr_assert(denied() == before + 1);
    peer_close(&ann);
    end();
}

/* What a subscriber of its own may not read takes its turn all the same: the packet ids behind it
 * are those that a restart counts.
 */
static void test_not_read(void)
{
    struct mr_mqtt_publish got;
    struct peer cat;

    begin(1, true);
    join(&cat, "cat", true, false);
    subscribe(&cat, "job/+", 1);
    peer_tell(&pub, "job/cat", 1);
    peer_tell(&pub, "job/one", 1);
    peer_tell(&pub, "job/cat", 1);
    for (int life = 0; life < 2; life++) {
        for (uint16_t id = 1; id <= 3; id += 2) {
            peer_expect_publish(&cat, "job/cat", "job/cat", 1, &got);
            mr_assert(got.packet_id == id && got.dup == (life != 0));
        }
        peer_quiet(&cat);
        peer_close(&cat);
        if (life == 0) {
            peer_close(&pub);
            kit_crash(&kit);
            join(&pub, "pub", false, false);
            join(&cat, "cat", true, true);
        }
    }
    end();
}

/* ---- what it may not ---- */

static uint8_t connect_as(const char *id, const char *user, const char *will_topic)
{
    struct mr_mqtt_connack connack;
    struct peer peer;

    peer_open(&peer, &kit);
    peer_send_connect(&peer, &(struct peer_connect){.client_id = id,
                                                    .version = 5,
                                                    .username = user,
                                                    .password = "word",
                                                    .will_topic = will_topic,
                                                    .will_payload = "gone"});
    peer_expect_connack(&peer, &connack);
    peer_close(&peer);
    return connack.reason;
}

static void test_refused(void)
{
    struct peer cat;

    kit_open(&kit, &(struct kit_options){
                       .acl_file = path, .login_url = service.url, .client_id_pattern = "%u*"});
    mr_assert(connect_as("dog", "cat", NULL) == MR_MQTT_NOT_AUTHORIZED);
    mr_assert(connect_as("cat", "cat", "other/will") == MR_MQTT_NOT_AUTHORIZED);
    mr_assert(connect_as("cat-7", "cat", NULL) == 0);
    join(&cat, "cat", false, false);
    peer_publish(&cat, "other/topic", "x", 1, 1);
    mr_assert(peer_expect_puback(&cat, 1) == MR_MQTT_NOT_AUTHORIZED);
    mr_assert(mr_lane_durable(kit.lane) == 0);
    peer_publish(&cat, "job/topic", "x", 1, 1);
    mr_assert(peer_expect_puback(&cat, 1) == 0);
    peer_close(&cat);
    mr_assert(connect_as("cat", "cat", "job/will") == 0);
    kit_close(&kit);
}

/* ---- how long a login holds ---- */

static void test_expires(void)
{
    struct peer late;
    struct peer soon;
    struct peer past;
    int64_t soon_s = mr_clock_wall_us() / 1000000 + 2;

    (void)snprintf(expires_soon, sizeof(expires_soon), "\"expire_at\": %lld", (long long)soon_s);
    (void)snprintf(expires_late, sizeof(expires_late), "\"expire_at\": %lld",
                   (long long)(soon_s + LATE_S));
    begin(1, false);
    join(&late, "late", false, false);
    join(&soon, "soon", false, false);
    join(&past, "past", false, false);
    peer_expect_disconnect(&past, MR_MQTT_NOT_AUTHORIZED);
    peer_quiet(&soon);
    peer_expect_disconnect(&soon, MR_MQTT_NOT_AUTHORIZED);
    mr_assert(mr_clock_wall_us() >= soon_s * 1000000);
    subscribe(&late, "$share/g/job/+", 1); /* what it may is not less for that */
    peer_tell(&pub, "job/late", 1);
    peer_hear(&late, "job/late", 1);
    peer_quiet(&late);
    peer_close(&late);
    peer_close(&soon);
    peer_close(&past);
    end();
}

int main(void)
{
    service_open(&service, lines);
    rules_write();
    for (uint32_t lanes = 1; lanes <= 3; lanes += 2) {
        test_rules_before_the_file(lanes, 0);
        test_rules_before_the_file(lanes, 1);
    }
    test_rules_without_a_file();
    test_away("$share/g/job/+", false);
    test_away("$share/g/job/+", true);
    test_away("job/+", false);
    test_not_read();
    test_refused();
    test_expires();
    mr_assert(unlink(path) == 0);
    service_close(&service);
    (void)puts("each got what it may read");
    return 0;
}
