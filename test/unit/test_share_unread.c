/* test_share_unread.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what a member of a group leaves behind is not lost because the session store cannot be
 *         read at that moment: the session ends, or is unsubscribed, when it can, and another
 * member has it.  What the store has lost for good is counted, and keeps nobody. Method: a real
 * broker, journal and LMDB, whose look-ups fail while a switch says so.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

#include <dlfcn.h>
#include <errno.h>

enum { NOT_FOUND = -30798 }; /* MDB_NOTFOUND */

static const char shared[] = "$share/g/q";

static _Atomic int lookup_rc; /* 0: they succeed */
static _Atomic uint32_t failed;

/* The broker's look-ups find this before LMDB's own. */
int mdb_get(void *txn, unsigned table, void *key, void *value);
int mdb_get(void *txn, unsigned table, void *key, void *value)
{
    static int (*real)(void *txn, unsigned table, void *key, void *value);
    int rc = atomic_load(&lookup_rc);

    if (rc != 0) {
        atomic_fetch_add(&failed, 1);
        return rc;
    }
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "mdb_get");
    }
    return real(txn, table, key, value);
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

/* So many look-ups more have failed. */
static void wait_for_failures(uint32_t count)
{
    uint32_t before = atomic_load(&failed);
    int64_t deadline = kit_deadline();

    while (atomic_load(&failed) - before < count) {
        (void)usleep(1000); /* sleep: until the shard has tried */
        kit_patience(deadline, "look-ups that fail");
    }
}

static void join(struct kit *kit, struct peer *peer, const char *id, uint16_t receive_max)
{
    struct mr_mqtt_connack connack;

    peer_open(peer, kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id,
                                                   .version = 5,
                                                   .keep_session = true,
                                                   .expiry_s = 3600,
                                                   .receive_max = receive_max});
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0);
}

static void join_group(struct kit *kit, struct peer *peer, const char *id, uint16_t receive_max)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of(shared), .qos = 1};

    join(kit, peer, id, receive_max);
    mr_assert(peer_subscribe(peer, &wanted, 0) == 1);
}

static void publish(struct kit *kit, const char *payload)
{
    struct peer pub;

    peer_join(&pub, kit, "pub", 5);
    peer_publish(&pub, "q", payload, 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_close(&pub);
    wait_for_store(kit);
}

/* DISCONNECT, by which the session ends. */
static void end_session(struct peer *peer)
{
    static const uint8_t bytes[] = {0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0};

    peer_write(peer, bytes, sizeof(bytes));
    peer_expect_closed(peer);
    peer_close(peer);
}

static void sessions_count(struct mr_shard *shard, void *arg)
{
    *(uint64_t *)arg = shard->keeps_count;
}

static void wait_for_sessions(struct kit *kit, uint64_t count)
{
    int64_t deadline = kit_deadline();
    uint64_t now = UINT64_MAX;

    while (now != count) {
        mr_assert(shard_call(kit->broker->shards[0], sessions_count, &now) == MR_OK);
        kit_patience(deadline, "a session's end");
    }
}

/* A job for `goes`, who is away, lies in the store, which fails from then on; `stays` is there. */
static void job_begin(struct kit *kit, struct peer *stays)
{
    struct peer goes;

    kit_open(kit, &(struct kit_options){.checkpoint_ms = 1});
    join_group(kit, &goes, "goes", 0);
    peer_close(&goes);
    publish(kit, "job");
    atomic_store(&lookup_rc, EIO);
    join_group(kit, stays, "stays", 0);
}

static void job_end(struct kit *kit, struct peer *stays, struct peer *goes)
{
    struct mr_mqtt_publish got;

    atomic_store(&lookup_rc, 0);
    peer_expect_publish(stays, "q", "job", 1, &got);
    peer_ack(stays, got.packet_id);
    peer_quiet(stays);
    peer_close(stays);
    if (goes != NULL) {
        peer_close(goes);
    }
    kit_close(kit);
}

static void test_session_ends(void)
{
    struct kit kit;
    struct peer stays;
    struct peer goes;

    job_begin(&kit, &stays);
    join(&kit, &goes, "goes", 0);
    end_session(&goes);
    wait_for_failures(3);
    job_end(&kit, &stays, NULL);
}

/* A CONNECT that begins anew. */
static void test_session_begins_anew(void)
{
    struct kit kit;
    struct peer stays;
    struct peer goes;

    job_begin(&kit, &stays);
    peer_open(&goes, &kit);
    peer_send_connect(&goes, &(struct peer_connect){.client_id = "goes", .version = 5});
    wait_for_failures(5);
    job_end(&kit, &stays, &goes);
}

/* The window is full, so the second job was not sent when it leaves the group. */
static void test_unsubscribe(void)
{
    static const uint8_t unsubscribe[] = {0xA2, 15,  0,   9,   0,   0,   10,  '$', 's',
                                          'h',  'a', 'r', 'e', '/', 'g', '/', 'q'};
    struct kit kit;
    struct peer stays;
    struct peer goes;
    struct mr_mqtt_publish got;
    struct mr_mqtt_frame frame;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 1});
    join_group(&kit, &goes, "goes", 1);
    publish(&kit, "sent");
    peer_expect_publish(&goes, "q", "sent", 1, &got);
    publish(&kit, "job");
    join_group(&kit, &stays, "stays", 0);
    atomic_store(&lookup_rc, EIO);
    peer_write(&goes, unsubscribe, sizeof(unsubscribe));
    wait_for_failures(2);
    atomic_store(&lookup_rc, 0);
    mr_assert(peer_frame(&goes, &frame) && frame.type == MR_MQTT_UNSUBACK);
    job_end(&kit, &stays, &goes);
}

static uint64_t dropped(const struct kit *kit)
{
    return (uint64_t)mr_metric_get(kit->broker->shards[0]->metrics.dropped_damaged);
}

/* It is not in the store any more: nothing waits for it. */
static void test_lost(void)
{
    struct kit kit;
    struct peer stays;
    struct peer goes;

    job_begin(&kit, &stays);
    uint64_t before = dropped(&kit);
    join(&kit, &goes, "goes", 0);
    end_session(&goes);
    atomic_store(&lookup_rc, NOT_FOUND);
    wait_for_sessions(&kit, 1);
    mr_assert(dropped(&kit) == before + 1);
    atomic_store(&lookup_rc, 0);
    peer_quiet(&stays);
    peer_close(&stays);
    kit_close(&kit);
}

int main(void)
{
    test_session_ends();
    test_session_begins_anew();
    test_unsubscribe();
    test_lost();
    (void)puts("what the store could not give was given later");
    return 0;
}
