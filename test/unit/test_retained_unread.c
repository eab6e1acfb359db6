/* test_retained_unread.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   a SUBSCRIBE that brings what the rules have to be asked for misses nothing because the
 *         session store cannot be read at that moment: it comes when the store can be read.
 * Method: a real broker, journal and LMDB, whose look-ups fail while a switch says so.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

#include <dlfcn.h>
#include <errno.h>

enum { TOPICS = 3 };

static _Atomic bool store_fails;
static _Atomic uint32_t failed;

/* The broker's look-ups find this before LMDB's own. */
int mdb_get(void *txn, unsigned table, void *key, void *value);
int mdb_get(void *txn, unsigned table, void *key, void *value)
{
    static int (*real)(void *txn, unsigned table, void *key, void *value);

    if (atomic_load(&store_fails)) {
        atomic_fetch_add(&failed, 1);
        return EIO;
    }
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "mdb_get");
    }
    return real(txn, table, key, value);
}

static void retain(struct peer *pub, const char *topic)
{
    uint8_t bytes[256];
    struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                     .payload = mr_span_of(topic),
                                     .qos = 1,
                                     .packet_id = 1,
                                     .retain = true};
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, pub->version, bytes, sizeof(bytes));

    mr_assert(len > 0);
    peer_write(pub, bytes, (size_t)len);
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

static void has_left_memory(struct mr_shard *shard, void *arg)
{
    *(bool *)arg = shard->fresh == NULL && shard->writing == NULL;
}

static void wait_for_store(struct kit *kit)
{
    int64_t deadline = kit_deadline();
    bool stored = false;

    while (!stored) {
        mr_assert(shard_call(kit->broker->shards[0], has_left_memory, &stored) == MR_OK);
        kit_patience(deadline, "a checkpoint");
    }
}

static void expect_late(struct kit *kit, bool persistent)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("r/#"), .qos = 1};
    struct mr_mqtt_connack connack;
    struct mr_mqtt_publish got;
    struct peer sub;
    char topic[16];

    peer_open(&sub, kit);
    peer_send_connect(&sub, &(struct peer_connect){.client_id = "sub",
                                                   .version = 5,
                                                   .keep_session = persistent,
                                                   .expiry_s = persistent ? 3600 : 0});
    peer_expect_connack(&sub, &connack);
    uint32_t before = atomic_load(&failed);
    atomic_store(&store_fails, true);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_quiet(&sub);
    mr_assert(atomic_load(&failed) != before);
    atomic_store(&store_fails, false);
    for (int i = 0; i < TOPICS; i++) {
        (void)snprintf(topic, sizeof(topic), "r/%d", i);
        peer_expect_publish(&sub, topic, topic, 1, &got);
        mr_assert(got.retain);
        peer_ack(&sub, got.packet_id);
    }
    peer_quiet(&sub);
    peer_close(&sub);
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    char path[256];
    struct kit kit;
    struct peer pub;
    char topic[16];

    (void)snprintf(path, sizeof(path), "%s/mr-acl-XXXXXX", base == NULL ? "/tmp" : base);
    int fd = mkstemp(path);
    mr_assert(fd >= 0 && dprintf(fd, "topic readwrite r/+\ntopic write r/hidden/x\n") > 0);
    mr_assert(close(fd) == 0);
    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 1, .acl_file = path});
    peer_join(&pub, &kit, "pub", 5);
    retain(&pub, "r/hidden/x");
    for (int i = 0; i < TOPICS; i++) {
        (void)snprintf(topic, sizeof(topic), "r/%d", i);
        retain(&pub, topic);
    }
    wait_for_store(&kit);
    expect_late(&kit, false);
    expect_late(&kit, true);
    peer_close(&pub);
    kit_close(&kit);
    mr_assert(unlink(path) == 0);
    return 0;
}
