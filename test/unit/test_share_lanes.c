/* test_share_lanes.c
 * links: broker net store journal codec config os base
 *
 * Goal:   an acknowledged message that a group wants is given to one member, once, also if the
 *         machine stops before its lane was read for groups: with the same, a smaller and a larger
 *         number of shards at the next start, before the first checkpoint, and if that start
 *         is cut short too.  What a session that ends at the start leaves goes to members in
 *         any shard.  So it is with what was given to a member that has left when its shard reads
 *         of it, with another number of shards; who takes its place gets it, and nobody else.
 *         A group gets nothing that was published before there was it, after a crash neither.
 *         What cannot be read of the lane for a while is given when it can; what is damaged costs
 *         nothing but itself.
 * Method: a journal that commits by hand, so that an event is durable and the record that gives
 *         it is not; crashes by a copy of the disk, whose reads by shards fail while a switch says
 * so.
 */
#include "broker/keep_internal.h"
#include "broker_peer.h"

#include <errno.h>
#include <sys/syscall.h>

enum { MESSAGES = 24, PATIENCE_NS = 500000, ALL = 1000 };

static const char shared[] = "$share/g/q/+";

/* ---- the disk ---- */

static _Thread_local bool is_test; /* which starts the broker, too */
static _Atomic bool reads_fail;
static _Atomic uint32_t reads_failed;

ssize_t pread(int fd, void *into, size_t len, off_t at)
{
    if (!is_test && atomic_load(&reads_fail)) {
        atomic_fetch_add(&reads_failed, 1);
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, into, len, at);
}

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

/* ---- steps ---- */

static void commit_all(struct kit *kit)
{
    for (uint32_t lane = 0; lane < mr_journal_lane_count(kit->journal); lane++) {
        (void)mr_lane_step_commit(mr_journal_lane(kit->journal, lane));
    }
    mr_journal_step_keeper(kit->journal);
}

/* The next packet, while what the broker hands over to `lane` (or ALL) is committed. */
static bool next_packet_of(struct kit *kit, struct peer *peer, struct mr_mqtt_frame *frame,
                           uint32_t lane)
{
    int64_t deadline = kit_deadline();

    while (mr_mqtt_frame(mr_span_make(peer->in + peer->begin, peer->end - peer->begin),
                         MR_MQTT_PACKET_MAX, frame) != MR_OK) {
        if (lane == ALL) {
            commit_all(kit);
        } else {
            (void)mr_lane_step_commit(mr_journal_lane(kit->journal, lane));
        }
        peer_receive(peer, PATIENCE_NS);
        kit_patience(deadline, "a packet");
    }
    return peer_frame(peer, frame);
}

static bool next_packet(struct kit *kit, struct peer *peer, struct mr_mqtt_frame *frame)
{
    return next_packet_of(kit, peer, frame, ALL);
}

/* "NAME-n", at home in `lane` of `lanes`. */
static void id_at(const struct kit *kit, char out[32], const char *name, uint32_t lanes,
                  uint32_t lane)
{
    for (int n = 0;; n++) {
        (void)snprintf(out, 32, "%s-%d", name, n);
        if (mr_journal_home_of(kit->journal, mr_span_of(out), lanes) == lane) {
            return;
        }
    }
}

static bool join(struct kit *kit, struct peer *peer, const char *id, uint32_t expiry_s)
{
    struct mr_mqtt_frame frame;
    struct mr_mqtt_connack connack;
    struct mr_mqtt_why why;

    peer_open(peer, kit);
    peer_send_connect(
        peer, &(struct peer_connect){
                  .client_id = id, .version = 5, .keep_session = true, .expiry_s = expiry_s});
    mr_assert(next_packet(kit, peer, &frame) && frame.type == MR_MQTT_CONNACK);
    mr_assert(mr_mqtt_connack_decode(&frame, 5, &connack, &why) == MR_OK && connack.reason == 0);
    return connack.session_present;
}

static void join_filter(struct kit *kit, struct peer *peer, const char *id, const char *filter)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(filter), .qos = 2};
    struct mr_mqtt_frame frame;

    mr_assert(!join(kit, peer, id, 3600));
    peer_send_subscribe(peer, &wanted, 0);
    mr_assert(next_packet(kit, peer, &frame) && frame.type == MR_MQTT_SUBACK);
    mr_assert(frame.body.at[frame.body.len - 1] == 2);
}

static void join_group(struct kit *kit, struct peer *peer, const char *id)
{
    join_filter(kit, peer, id, shared);
}

static void nothing_waits(struct mr_shard *shard, void *arg)
{
    bool *quiet = arg;

    *quiet = *quiet && shard->settling == NULL &&
             mr_lane_next_seq(shard->lane) - 1 == mr_lane_durable(shard->lane);
}

/* Until all that has been appended is durable: twice, for a turn may append something at its end.
 */
static void commit_quiet(struct kit *kit)
{
    int64_t deadline = kit_deadline();

    for (int quiet_times = 0; quiet_times < 2;) {
        bool quiet = true;
        commit_all(kit);
        for (uint32_t i = 0; i < kit->broker->shard_count; i++) {
            mr_assert(shard_call(kit->broker->shards[i], nothing_waits, &quiet) == MR_OK);
        }
        quiet_times = quiet ? quiet_times + 1 : 0;
        kit_patience(deadline, "the lanes to be quiet");
    }
}

/* Its connection has ended for the broker, too, and the record that says so is durable. */
static void leave(struct kit *kit, struct peer *peer)
{
    int64_t deadline = kit_deadline();

    mr_socket_shutdown(peer->fd);
    while (!peer->closed) {
        peer->begin = peer->end;
        peer_receive(peer, PATIENCE_NS);
        kit_patience(deadline, "the end of a connection");
    }
    peer_close(peer);
    commit_quiet(kit);
}

/* Event `number` of a client of `lane`, acknowledged; only what was handed over up to the event
 * is committed, so that the record that gives it is not durable.
 */
static void publish_barely(struct kit *kit, uint32_t lane, int number)
{
    struct mr_lane *own = mr_journal_lane(kit->journal, lane);
    int64_t deadline = kit_deadline();
    struct mr_mqtt_frame frame;
    struct peer peer;
    char id[32];
    char payload[16];

    id_at(kit, id, "pub", mr_journal_lane_count(kit->journal), lane);
    peer_open(&peer, kit);
    peer_send_connect(&peer, &(struct peer_connect){.client_id = id, .version = 5});
    mr_assert(next_packet_of(kit, &peer, &frame, lane) && frame.type == MR_MQTT_CONNACK);
    while (mr_lane_step_commit(own)) { /* what came before */
    }
    (void)snprintf(payload, sizeof(payload), "%d event", number);
    peer_publish(&peer, "q/x", payload, 1, 1);
    while (!mr_lane_step_commit(own)) {
        peer_receive(&peer, PATIENCE_NS);
        kit_patience(deadline, "the event to be handed over");
    }
    mr_assert(peer_expect_puback(&peer, 1) == 0);
    peer_close(&peer);
}

/* The machine stops now; it starts with `lanes`. */
static void crash_to(struct kit *kit, uint32_t lanes)
{
    kit->options.lanes = lanes;
    kit_crash(kit);
}

/* All that `member` gets until it has `count`, each once. */
static void expect_all(struct kit *kit, struct peer *member, int count)
{
    int times[MESSAGES] = {0};
    int total = 0;

    while (total < count) {
        struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
        struct mr_mqtt_frame frame;
        struct mr_mqtt_publish got;
        struct mr_mqtt_why why;

        mr_assert(next_packet(kit, member, &frame) && frame.type == MR_MQTT_PUBLISH);
        mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
        int number = (int)strtol((const char *)got.payload.at, NULL, 10);
        mr_assert(number >= 0 && number < count);
        if (times[number]++ != 0) {
            fprintf(stderr, "message %d came twice\n", number);
            abort();
        }
        total += 1;
        peer_ack(member, got.packet_id);
    }
    peer_quiet(member);
    commit_quiet(kit); /* the acknowledgements, too */
}

/* One event of each lane that no group has been given, or that has not been copied to the lane of
 * the session that is owed it; then another number of shards.
 */
static void test_not_given(const char *filter, uint32_t before, uint32_t between, uint32_t after,
                           uint32_t home)
{
    struct kit kit;
    struct peer member;
    char id[32];

    printf("%s: %u shards, then %u, then %u; the member in %u\n", filter, before, between, after,
           home);
    kit_open(&kit, &(struct kit_options){.manual = true,
                                         .lanes = before,
                                         .segment_bytes = 1 << 20,
                                         .checkpoint_ms = 100000});
    id_at(&kit, id, "member", before, home);
    join_filter(&kit, &member, id, filter);
    leave(&kit, &member);
    for (uint32_t lane = 0; lane < before; lane++) {
        publish_barely(&kit, lane, (int)lane);
    }
    if (between != 0) {
        crash_to(&kit, between);
    }
    crash_to(&kit, after);
    mr_assert(join(&kit, &member, id, 3600));
    expect_all(&kit, &member, (int)before);
    crash_to(&kit, before);
    peer_close(&member);
    mr_assert(join(&kit, &member, id, 3600));
    peer_quiet(&member);
    peer_close(&member);
    commit_quiet(&kit);
    kit_close(&kit);
}

/* ---- damage ---- */

struct damaging {
    const char *folder;
    const char *text;
    int places;
};

/* A byte of `text` becomes another one, wherever it stands in this file. */
static void damage_file(void *arg, const char *name)
{
    static uint8_t bytes[2 << 20];
    struct damaging *damaging = arg;
    size_t len = strlen(damaging->text);
    char path[1024];

    (void)snprintf(path, sizeof(path), "%s/%s", damaging->folder, name);
    FILE *file = fopen(path, "r+b");
    mr_assert(file != NULL);
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    for (const uint8_t *at = bytes;
         (at = memmem(at, size - (size_t)(at - bytes), damaging->text, len)) != NULL; at += len) {
        mr_assert(fseek(file, at - bytes, SEEK_SET) == 0 && fputc('?', file) == '?');
        damaging->places += 1;
    }
    mr_assert(fclose(file) == 0);
}

/* The disk has changed the record in this lane; the machine is down. */
static void damage(const struct kit *kit, uint32_t lane, const char *text)
{
    char folder[300];
    struct damaging damaging = {.folder = folder, .text = text};

    (void)snprintf(folder, sizeof(folder), "%s/lane-%02u", kit->folder, lane);
    mr_assert(mr_dir_list(folder, damage_file, &damaging) == MR_OK && damaging.places == 1);
}

/* The second of three events is damaged before the session's shard has read them: it alone is lost.
 */
static void test_damaged(uint32_t before, uint32_t after)
{
    struct mr_mqtt_mode mode = {.version = 5, .from = MR_MQTT_FROM_SERVER};
    struct kit kit;
    struct peer member;
    char id[32];

    printf("one of three is damaged; %u shards, then %u\n", before, after);
    kit_open(&kit, &(struct kit_options){.manual = true,
                                         .lanes = before,
                                         .segment_bytes = 1 << 20,
                                         .checkpoint_ms = 100000});
    id_at(&kit, id, "member", before, before - 1);
    join_filter(&kit, &member, id, "q/+");
    leave(&kit, &member);
    for (int number = 0; number < 3; number++) {
        publish_barely(&kit, 0, number);
    }
    kit_stop_dead(&kit);
    damage(&kit, 0, "1 event");
    kit.options.lanes = after;
    kit_begin(&kit);
    mr_assert(join(&kit, &member, id, 3600));
    for (int number = 0; number < 3; number += 2) {
        struct mr_mqtt_frame frame;
        struct mr_mqtt_publish got;
        struct mr_mqtt_why why;

        mr_assert(next_packet(&kit, &member, &frame) && frame.type == MR_MQTT_PUBLISH);
        mr_assert(mr_mqtt_publish_decode(&frame, mode, &got, &why) == MR_OK);
        mr_assert(got.payload.at[0] == '0' + number);
        peer_ack(&member, got.packet_id);
    }
    peer_quiet(&member);
    commit_quiet(&kit);
    peer_close(&member);
    commit_quiet(&kit);
    kit_close(&kit);
}

/* ---- who has left ---- */

/* A session of expiry 0 was connected when the machine stopped: it ends at the start, and what it
 * has of groups goes to a member whose shard starts later.
 */
static void test_ended_at_start(void)
{
    struct kit kit;
    struct peer ends;
    struct peer stays;
    struct mr_mqtt_frame frame;
    char ends_id[32];
    char stays_id[32];

    kit_open(&kit,
             &(struct kit_options){
                 .manual = true, .lanes = 3, .segment_bytes = 1 << 20, .checkpoint_ms = 100000});
    id_at(&kit, ends_id, "ends", 3, 0);
    id_at(&kit, stays_id, "stays", 3, 2);
    join_group(&kit, &ends, ends_id);
    leave(&kit, &ends);
    mr_assert(join(&kit, &ends, ends_id, 0)); /* goes on, for as long as the connection */
    publish_barely(&kit, 1, 0);
    mr_assert(next_packet(&kit, &ends, &frame) && frame.type == MR_MQTT_PUBLISH);
    join_group(&kit, &stays, stays_id);
    leave(&kit, &stays);
    crash_to(&kit, 3);
    peer_close(&ends);
    mr_assert(join(&kit, &stays, stays_id, 3600));
    expect_all(&kit, &stays, 1);
    peer_close(&stays);
    commit_quiet(&kit);
    kit_close(&kit);
}

static void is_appended(struct mr_shard *shard, void *arg)
{
    *(bool *)arg = mr_lane_next_seq(shard->lane) - 1 > mr_lane_durable(shard->lane);
}

/* Until there is a record in the lane that is not durable. */
static void wait_for_record(struct kit *kit, uint32_t lane)
{
    int64_t deadline = kit_deadline();
    bool appended = false;

    while (!appended) {
        mr_assert(shard_call(kit->broker->shards[lane], is_appended, &appended) == MR_OK);
        kit_patience(deadline, "a record");
    }
}

static void unsubscribe(struct kit *kit, struct peer *peer, uint32_t lane)
{
    uint8_t filters[32];
    uint8_t bytes[64];
    struct mr_mqtt_frame frame;
    ptrdiff_t len = mr_mqtt_unsubscription_put(mr_span_of(shared), filters, sizeof(filters));
    struct mr_mqtt_subscribe packet = {.packet_id = 3, .raw = mr_span_make(filters, (size_t)len)};

    len = mr_mqtt_unsubscribe_encode(&packet, 5, bytes, sizeof(bytes));
    peer_write(peer, bytes, (size_t)len);
    mr_assert(next_packet_of(kit, peer, &frame, lane) && frame.type == MR_MQTT_UNSUBACK);
}

/* A new session takes the place of the one that it had. */
static void end_session(struct kit *kit, struct peer *peer, const char *id, uint32_t lane)
{
    struct mr_mqtt_frame frame;

    peer_close(peer);
    peer_open(peer, kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id, .version = 5});
    mr_assert(next_packet_of(kit, peer, &frame, lane) && frame.type == MR_MQTT_CONNACK);
}

/* Lane 2 gives a message to a member at home in lane 1, which leaves before its shard reads that;
 * the one that stays is at home in a shard that is moved before that one, with it or after it.
 */
static void test_taker_has_left(uint32_t home, bool ends, uint32_t lanes)
{
    struct kit kit;
    struct peer leaves;
    struct peer stays;
    char leaves_id[32];
    char stays_id[32];

    printf("a taker has left; the other member in %u; then %u shards\n", home, lanes);
    kit_open(&kit,
             &(struct kit_options){
                 .manual = true, .lanes = 3, .segment_bytes = 1 << 20, .checkpoint_ms = 100000});
    id_at(&kit, leaves_id, "leaves", 3, 1);
    id_at(&kit, stays_id, "stays", 3, home);
    join_group(&kit, &stays, stays_id);
    leave(&kit, &stays);
    join_group(&kit, &leaves, leaves_id);
    publish_barely(&kit, 2, 0);
    wait_for_record(&kit, 2);
    if (ends) {
        end_session(&kit, &leaves, leaves_id, 1);
    } else {
        unsubscribe(&kit, &leaves, 1);
    }
    while (!mr_lane_step_commit(mr_journal_lane(kit.journal, 2))) {
    }
    crash_to(&kit, lanes);
    peer_close(&leaves);
    mr_assert(join(&kit, &stays, stays_id, 3600));
    expect_all(&kit, &stays, 1);
    peer_close(&stays);
    commit_quiet(&kit);
    kit_close(&kit);
}

/* Who takes its place has no persistent session, and acknowledges; then the machine stops: nobody
 * gets it again.
 */
static void test_taker_replaced(void)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of(shared), .qos = 2};
    struct kit kit;
    struct peer leaves;
    struct peer stays;
    struct peer live;
    struct mr_mqtt_frame frame;
    char leaves_id[32];
    char stays_id[32];
    char live_id[32];

    kit_open(&kit,
             &(struct kit_options){
                 .manual = true, .lanes = 3, .segment_bytes = 1 << 20, .checkpoint_ms = 100000});
    id_at(&kit, leaves_id, "leaves", 3, 1);
    id_at(&kit, live_id, "live", 3, 1);
    id_at(&kit, stays_id, "stays", 3, 0);
    join_group(&kit, &stays, stays_id);
    leave(&kit, &stays);
    join_group(&kit, &leaves, leaves_id);
    mr_assert(!join(&kit, &live, live_id, 0));
    publish_barely(&kit, 2, 0);
    wait_for_record(&kit, 2);
    unsubscribe(&kit, &leaves, 1);
    peer_send_subscribe(&live, &wanted, 0);
    mr_assert(next_packet_of(&kit, &live, &frame, 1) && frame.type == MR_MQTT_SUBACK);
    expect_all(&kit, &live, 1);
    crash_to(&kit, 3);
    peer_close(&leaves);
    peer_close(&live);
    mr_assert(join(&kit, &stays, stays_id, 3600));
    for (int lane = 0; lane < 3; lane++) { /* from one to the next, were there anything */
        commit_quiet(&kit);
    }
    peer_quiet(&stays);
    peer_close(&stays);
    commit_quiet(&kit);
    kit_close(&kit);
}

/* What was published before there was the group is not for it, after a crash neither: of each lane,
 * with another group in between that wants nothing of it, and without.
 */
static void test_older_than_the_group(bool other)
{
    struct mr_mqtt_subscription wanted = {.filter = mr_span_of("$share/other/r"), .qos = 1};
    struct kit kit;
    struct peer member;
    struct peer peer;
    struct mr_mqtt_frame frame;
    char id[32];

    kit_open(&kit,
             &(struct kit_options){
                 .manual = true, .lanes = 2, .segment_bytes = 1 << 20, .checkpoint_ms = 100000});
    if (other) {
        mr_assert(!join(&kit, &peer, "other", 3600));
        peer_send_subscribe(&peer, &wanted, 0);
        mr_assert(next_packet(&kit, &peer, &frame) && frame.type == MR_MQTT_SUBACK);
        leave(&kit, &peer);
    }
    publish_barely(&kit, 0, 0);
    publish_barely(&kit, 1, 1);
    commit_quiet(&kit);
    id_at(&kit, id, "member", 2, 1);
    join_group(&kit, &member, id);
    leave(&kit, &member);
    crash_to(&kit, 2);
    mr_assert(join(&kit, &member, id, 3600));
    commit_quiet(&kit);
    commit_quiet(&kit);
    peer_quiet(&member);
    peer_close(&member);
    commit_quiet(&kit);
    kit_close(&kit);
}

/* Nothing is published or committed when the disk gives it back: that alone must be enough. */
static void test_unread_for_a_while(void)
{
    int64_t deadline = kit_deadline();
    struct kit kit;
    struct peer member;

    kit_open(&kit, &(struct kit_options){.manual = true, .lanes = 1, .checkpoint_ms = 100000});
    join_group(&kit, &member, "member");
    leave(&kit, &member);
    publish_barely(&kit, 0, 0);
    atomic_store(&reads_fail, true);
    crash_to(&kit, 1);
    mr_assert(join(&kit, &member, "member", 3600));
    commit_quiet(&kit);
    while (atomic_load(&reads_failed) == 0) {
        peer_quiet(&member);
        kit_patience(deadline, "a read that fails");
    }
    peer_quiet(&member);
    atomic_store(&reads_fail, false);
    expect_all(&kit, &member, 1);
    peer_close(&member);
    commit_quiet(&kit);
    kit_close(&kit);
}

int main(void)
{
    is_test = true;
    mr_log_set_level(MR_LOG_ERROR);
    test_not_given(shared, 1, 0, 1, 0);
    test_not_given(shared, 3, 0, 3, 0);
    test_not_given(shared, 3, 0, 1, 2);
    test_not_given(shared, 3, 1, 2, 0);
    test_not_given(shared, 5, 2, 3, 4);
    test_not_given(shared, 3, 1, 5, 1);
    test_not_given("q/+", 3, 0, 1, 2);
    test_not_given("q/+", 3, 1, 2, 0);
    for (uint32_t before = 1; before <= 2; before++) {
        test_damaged(before, 1);
        test_damaged(before, 2);
    }
    test_ended_at_start();
    test_taker_has_left(0, false, 2);
    test_taker_has_left(1, true, 2);
    test_taker_has_left(2, true, 2);
    test_taker_has_left(0, true, 3);
    test_taker_has_left(2, false, 3);
    test_taker_replaced();
    test_older_than_the_group(false);
    test_older_than_the_group(true);
    test_unread_for_a_while();
    printf("ok\n");
    return 0;
}
