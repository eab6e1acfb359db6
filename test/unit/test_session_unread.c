/* test_session_unread.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   a session store that cannot be read at a start is no store without sessions: the start
 *         says so and the next one finds all of them, also with another number of shards.  So it
 *         is with a journal that cannot be read.  A message that the store has lost is counted,
 *         once, and costs no other.
 * Method: a real broker, journal and LMDB, whose cursors fail while a switch says so; rows are
 *         taken out of the store while nobody has it open.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>

enum { MESSAGES = 4, LOST = 2 };

static _Atomic bool store_fails;

/* The broker's walks find this before LMDB's own. */
int mdb_cursor_get(void *cursor, void *key, void *value, int op);
int mdb_cursor_get(void *cursor, void *key, void *value, int op)
{
    static int (*real)(void *cursor, void *key, void *value, int op);

    if (atomic_load(&store_fails)) {
        return EIO;
    }
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "mdb_cursor_get");
    }
    return real(cursor, key, value, op);
}

static void drop_line(const char *line, size_t len)
{
    (void)line;
    (void)len;
}

/* The start is refused while the store cannot be read. */
static void expect_refused(struct kit *kit)
{
    char folder[sizeof(kit->sessions)];
    struct mr_error why = {.text = ""};
    struct mr_broker *broker = NULL;
    struct mr_listener_conf listener = {.name = "test", .bind = "127.0.0.1:0"};

    (void)snprintf(folder, sizeof(folder), "%s/sessions", kit->folder);
    kit_journal(kit);
    struct mr_broker_run run = {.journal = kit->journal,
                                .listeners = &listener,
                                .listener_count = 1,
                                .sessions_path = folder,
                                .limits = kit_limits(&kit->options)};
    atomic_store(&store_fails, true);
    mr_assert(mr_broker_open(&broker, &run, &why) != MR_OK);
    atomic_store(&store_fails, false);
    mr_assert(strstr(why.text, "check the disk and start again") != NULL);
    mr_assert(mr_journal_close(kit->journal) == MR_OK);
}

static void publish(struct peer *pub, const char *topic, int i, bool retain)
{
    uint8_t bytes[128];
    char text[16];

    (void)snprintf(text, sizeof(text), "%d", i);
    const struct mr_mqtt_publish packet = {.topic = mr_span_of(topic),
                                           .payload = mr_span_of(text),
                                           .qos = 1,
                                           .packet_id = 1,
                                           .retain = retain};
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, pub->version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(pub, bytes, (size_t)len);
    mr_assert(peer_expect_puback(pub, 1) == 0);
}

/* A subscriber who is away is owed messages. */
static void owe(struct kit *kit, uint32_t checkpoint_ms)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("d"), .qos = 1};
    struct peer sub;
    struct peer pub;

    kit_open(kit, &(struct kit_options){.checkpoint_ms = checkpoint_ms});
    peer_join_kept(&sub, kit, false);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_close(&sub);
    peer_join(&pub, kit, "pub", 5);
    publish(&pub, "r", MESSAGES, true);
    for (int i = 0; i < MESSAGES; i++) {
        publish(&pub, "d", i, false);
    }
    peer_close(&pub);
}

static void owe_and_stop(struct kit *kit)
{
    owe(kit, 1);
    kit_end(kit, 5000000000);
}

/* What is owed comes, all but the one that is lost (-1: none is). */
static void expect_owed(struct kit *kit, int lost)
{
    struct peer sub;
    struct mr_mqtt_publish got;
    char text[16];

    peer_join_kept(&sub, kit, true);
    for (int i = 0; i < MESSAGES; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        if (i != lost) {
            peer_expect_publish(&sub, "d", text, 1, &got);
        }
    }
    peer_quiet(&sub);
    peer_close(&sub);
}

static void test_cannot_be_read(uint32_t lanes)
{
    struct kit kit;

    owe_and_stop(&kit);
    kit.options.lanes = lanes;
    expect_refused(&kit);
    kit_begin(&kit);
    expect_owed(&kit, -1);
    kit_close(&kit);
}

/* ---- the journal ---- */

/* Of the thread that starts the broker: reads until all fail; negative: none does. */
static _Thread_local int journal_reads = -1;

ssize_t pread(int fd, void *into, size_t len, off_t at)
{
    if (journal_reads == 0) {
        errno = EIO;
        return -1;
    }
    journal_reads -= journal_reads > 0;
    return syscall(SYS_pread64, fd, into, len, at);
}

/* A start whose disk fails behind so many reads.  False: it was refused. */
static bool start_behind(struct kit *kit, int reads)
{
    struct mr_error why = {.text = ""};

    kit_journal(kit);
    journal_reads = reads;
    enum mr_err err = kit_broker(kit, &why);
    journal_reads = -1;
    if (err == MR_OK) {
        kit_end(kit, 0);
        return true;
    }
    mr_assert(err == MR_ERR_IO && why.text[0] != 0);
    mr_assert(mr_journal_close(kit->journal) == MR_OK);
    return false;
}

/* Only the journal has what is owed when the machine stops, and its disk fails for a while. */
static void test_journal_cannot_be_read(uint32_t lanes)
{
    struct kit kit;
    int reads = 0;

    owe(&kit, 3600000);
    kit_stop_dead(&kit);
    kit.options.lanes = lanes;
    while (!start_behind(&kit, reads)) {
        reads += 1;
    }
    mr_assert(reads > 1);
    kit_begin(&kit);
    expect_owed(&kit, -1);
    kit_close(&kit);
}

/* ---- what is lost ---- */

static struct mr_store *taking;

static bool take_message(void *arg, struct mr_span key, struct mr_span value)
{
    const char *payload = arg;
    struct mr_message message;

    mr_assert(message_decode(value, &message));
    if (mr_span_is(message.payload, payload)) {
        mr_store_delete(taking, MR_STORE_MESSAGES, key);
    }
    return true;
}

static void take_messages(const struct kit *kit)
{
    char path[400];
    char lost[] = "2";
    char retained[] = "4";

    (void)snprintf(path, sizeof(path), "%s/lane-00", kit->sessions);
    mr_assert(mr_store_open(&taking, &(struct mr_store_options){.path = path, .manual = true},
                            NULL) == MR_OK);
    mr_assert(mr_store_each(taking, MR_STORE_MESSAGES, take_message, lost));
    mr_assert(mr_store_each(taking, MR_STORE_MESSAGES, take_message, retained));
    mr_assert(mr_store_gathered(taking) != 0);
    mr_store_seal(taking);
    mr_store_submit(taking);
    mr_assert(mr_store_take_written(taking));
    mr_store_close(taking);
}

static uint64_t dropped(const struct kit *kit)
{
    return (uint64_t)mr_metric_get(kit->broker->shards[0]->metrics.dropped_damaged);
}

static void test_lost(void)
{
    struct kit kit;

    owe_and_stop(&kit);
    take_messages(&kit);
    kit_begin(&kit);
    uint64_t before = dropped(&kit);
    mr_assert(before == 2); /* one that is owed, one that was retained */
    expect_owed(&kit, LOST);
    kit_end(&kit, 5000000000);
    kit_begin(&kit);
    mr_assert(dropped(&kit) == before);
    expect_owed(&kit, LOST);
    kit_close(&kit);
}

int main(void)
{
    mr_log_set_writer(drop_line);
    test_cannot_be_read(1);
    test_cannot_be_read(2);
    test_journal_cannot_be_read(1);
    test_journal_cannot_be_read(2);
    test_lost();
    (void)puts("a store that could not be read was read later");
    return 0;
}
