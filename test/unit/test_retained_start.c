/* test_retained_start.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what another lane has with RETAIN, and a start could not read of it, is read afterwards
 *         by a shard that has nobody to read it for.
 * Method: a journal that commits by hand: the event is durable, and the copy of it in the other
 *         lane is not when the machine stops.  At the start reads of the lane fail, from a read on
 *         with which the start succeeds.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"
#include "fd_path.h"

#include <errno.h>
#include <sys/syscall.h>

enum { ALL_SUCCEED = INT32_MAX, READS_MAX = 100 };

static _Atomic int32_t reads_left = ALL_SUCCEED; /* of lane 1 */
static _Atomic uint32_t failed;

static bool is_lane_1(int fd)
{
    char name[FD_PATH_BYTES];

    fd_path(fd, name);
    return strstr(name, "lane-01") != NULL && strstr(name, "sessions") == NULL;
}

ssize_t pread(int fd, void *into, size_t len, off_t at)
{
    if (atomic_load(&reads_left) != ALL_SUCCEED && is_lane_1(fd)) {
        if (atomic_load(&reads_left) == 0) {
            atomic_fetch_add(&failed, 1);
            errno = EIO;
            return -1;
        }
        atomic_fetch_sub(&reads_left, 1);
    }
    return syscall(SYS_pread64, fd, into, len, at);
}

static void drop_line(const char *line, size_t len)
{
    (void)line;
    (void)len;
}

/* By somebody whose home is lane 1, and durable there. */
static void retain(struct kit *kit)
{
    const struct mr_mqtt_publish packet = {.topic = mr_span_of("state"),
                                           .payload = mr_span_of("on"),
                                           .qos = 1,
                                           .packet_id = 1,
                                           .retain = true};
    int64_t deadline = kit_deadline();
    struct peer pub;
    uint8_t bytes[128];
    char id[] = "a";

    while (mr_journal_home(kit->journal, mr_span_of(id)) != 1) {
        id[0] += 1;
    }
    peer_join(&pub, kit, id, 5);
    ptrdiff_t len = mr_mqtt_publish_encode(&packet, pub.version, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(&pub, bytes, (size_t)len);
    while (pub.begin == pub.end) {
        (void)mr_lane_step_commit(mr_journal_lane(kit->journal, 1));
        peer_receive(&pub, 1000000);
        kit_patience(deadline, "a PUBACK");
    }
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_close(&pub);
}

/* True: it has started, and some read failed. */
static bool started(struct kit *kit, int32_t reads)
{
    struct mr_broker_run run = {.listeners = &kit->listener,
                                .listener_count = 1,
                                .sessions_path = kit->sessions,
                                .limits = kit->limits};
    struct mr_error why = {.text = ""};

    kit_journal(kit);
    run.journal = kit->journal;
    atomic_store(&failed, 0);
    atomic_store(&reads_left, reads);
    enum mr_err err = mr_broker_open(&kit->broker, &run, &why);
    atomic_store(&reads_left, ALL_SUCCEED);
    if (err != MR_OK) {
        mr_assert(mr_journal_close(kit->journal) == MR_OK);
        return false;
    }
    mr_assert(atomic_load(&failed) != 0);
    mr_assert(mr_broker_start(kit->broker, &why) == MR_OK);
    return true;
}

static void ask_retained(struct mr_shard *shard, void *arg)
{
    *(uint64_t *)arg = shard->retained_count;
}

int main(void)
{
    struct kit kit;
    int32_t reads = 0;
    uint64_t count = 0;

    mr_log_set_writer(drop_line);
    kit_open(&kit, &(struct kit_options){.manual = true, .lanes = 2, .checkpoint_ms = 600000});
    retain(&kit);
    struct mr_listener_conf listener = kit.listener;
    struct mr_broker_limits limits = kit.limits;
    kit_stop_dead(&kit);
    kit.options.manual = false;
    kit.listener = listener;
    kit.limits = limits;
    (void)snprintf(kit.sessions, sizeof(kit.sessions), "%s/sessions", kit.folder);
    while (!started(&kit, reads)) {
        reads += 1;
        mr_assert(reads < READS_MAX);
    }
    int64_t deadline = kit_deadline();
    while (count == 0) {
        mr_assert(shard_call(kit.broker->shards[0], ask_retained, &count) == MR_OK);
        kit_patience(deadline, "the lane to be read");
    }
    kit_close(&kit);
    (void)printf("read after a start that succeeded with %d reads\n", reads);
    return 0;
}
