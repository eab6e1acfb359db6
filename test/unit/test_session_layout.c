/* test_session_layout.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   whatever layout the session stores are of, a start finds what stores and journal have:
 *         stores that are away, or an older copy of some epochs ago; of a millrace that did not say
 *         of which epoch they were; a newer copy than the journal is, with as many shards as it had
 *         once.  With more than it ever had, the start says what to do, and that helps.  Rows that
 *         belong to nothing cost nobody anything.
 * Method: one session, and a message more at each number of shards; folders and rows are exchanged
 *         while the gateway does not run.
 */
#include "broker/foreign_internal.h"
#include "broker/keep_internal.h"
#include "broker_peer.h"

static struct kit kit;

/* ---- the gateway ---- */

/* A first start with so many shards; the session is there. */
static void begin(uint32_t lanes)
{
    const struct mr_mqtt_subscription wanted = {.filter = mr_span_of("d"), .qos = 1};
    struct peer sub;

    kit_open(&kit,
             &(struct kit_options){.lanes = lanes, .checkpoint_ms = 1, .segment_bytes = 64 << 10});
    peer_join_kept(&sub, &kit, false);
    mr_assert(peer_subscribe(&sub, &wanted, 0) == 1);
    peer_close(&sub);
}

static void publish(const char *payload)
{
    struct peer pub;

    peer_join(&pub, &kit, "pub", 5);
    peer_publish(&pub, "d", payload, 1, 1);
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    peer_close(&pub);
}

static void stop(void)
{
    kit_end(&kit, 5000000000);
}

static void start(uint32_t lanes)
{
    kit.options.lanes = lanes;
    kit_begin(&kit);
}

/* Each letter is the payload of a message that the session is owed, in this order. */
static void expect_owed(const char *letters)
{
    struct mr_mqtt_publish got;
    struct peer sub;

    peer_join_kept(&sub, &kit, true);
    for (; *letters != 0; letters++) {
        const char text[2] = {*letters, 0};
        peer_expect_publish(&sub, "d", text, 1, &got);
    }
    peer_quiet(&sub);
    peer_close(&sub);
}

/* The same, and it is settled. */
static void take(const char *letters)
{
    struct mr_mqtt_publish got;
    struct peer sub;

    peer_join_kept(&sub, &kit, true);
    for (; *letters != 0; letters++) {
        const char text[2] = {*letters, 0};
        peer_expect_publish(&sub, "d", text, 1, &got);
        peer_ack(&sub, got.packet_id);
    }
    peer_quiet(&sub);
    peer_close(&sub);
}

/* What has changed is in the stores, and the cursors say so. */
static void stored(void)
{
    int64_t deadline = mr_clock_mono_ns() + KIT_PATIENCE_S * INT64_C(1000000000);

    for (uint32_t lane = 0; lane < kit.options.lanes; lane++) {
        const struct mr_shard *shard = kit.broker->shards[lane];
        while (mr_cursor_get(shard->cursor) != mr_lane_durable(shard->lane)) {
            kit_patience(deadline, "the cursors");
            (void)usleep(1000); /* sleep: until the shard's turn */
        }
    }
}

/* ---- folders ---- */

static void folder_make(char out[64])
{
    (void)snprintf(out, 64, "/tmp/mr-layout-XXXXXX");
    mr_assert(mkdtemp(out) != NULL);
}

static void folder_remove(const char *folder)
{
    mr_assert(mr_dir_list(folder, kit_remove, (void *)(uintptr_t)folder) == MR_OK);
    mr_assert(rmdir(folder) == 0);
}

static void folder_copy(const char *from, const char *to)
{
    mr_assert(mr_dir_list(from, kit_copy, &(struct kit_copying){from, to}) == MR_OK);
}

static void sessions_copy(char out[64])
{
    folder_make(out);
    folder_copy(kit.sessions, out);
}

/* The stores are these now; NULL: there are none.  The copy goes. */
static void sessions_replace(const char *copy)
{
    folder_remove(kit.sessions);
    if (copy != NULL) {
        mr_assert(mr_dir_create(kit.sessions, NULL) == MR_OK);
        folder_copy(copy, kit.sessions);
        folder_remove(copy);
    }
}

/* The journal is this copy, and the stores stay as they are.  The copy goes. */
static void journal_replace(const char *copy)
{
    char sessions[64];

    sessions_copy(sessions);
    mr_assert(mr_dir_list(kit.folder, kit_remove, kit.folder) == MR_OK);
    folder_copy(copy, kit.folder);
    folder_remove(copy);
    sessions_replace(sessions);
}

/* ---- of another epoch ---- */

/* A start, one message more, and a start behind that. */
static void end_with(uint32_t lanes, const char *message, const char *owed)
{
    start(lanes);
    publish(message);
    expect_owed(owed);
    stop();
    start(lanes);
    expect_owed(owed);
    kit_close(&kit);
}

/* The journal has all of it, of all epochs.  Away once more: how far the stores were that are gone
 * is no word about what is in these.
 */
static void test_away(bool again)
{
    begin(1);
    publish("a");
    stop();
    sessions_replace(NULL);
    start(2);
    publish("b");
    expect_owed("ab");
    stop();
    if (again) {
        sessions_replace(NULL);
    }
    end_with(3, "c", "abc");
}

/* A copy of the stores as they were some starts ago, with these numbers of shards. */
static void test_older_epoch(uint32_t copied, uint32_t later, uint32_t last)
{
    char copy[64];

    begin(copied);
    publish("a");
    stop();
    sessions_copy(copy);
    start(copied);
    publish("b");
    stop();
    start(later);
    publish("c");
    stop();
    sessions_replace(copy);
    end_with(last, "d", "abcd");
}

/* An older copy with as many shards.  What was settled since stays so. */
static void test_older_copy(uint32_t lanes)
{
    char copy[64];

    begin(lanes);
    publish("a");
    stop();
    sessions_copy(copy);
    start(lanes);
    take("a");
    publish("b");
    stored();
    stop();
    sessions_replace(copy);
    end_with(lanes, "c", "bc");
}

/* From the start on the journal holds what the copy lacks, on the disk, until it is stored: this
 * start goes no further.
 */
static void test_held(void)
{
    uint64_t copied_seq;
    uint64_t with;
    char copy[64];

    begin(1);
    publish("a");
    stored();
    copied_seq = kit.broker->shards[0]->store_seq;
    stop();
    sessions_copy(copy);
    start(1);
    publish("b");
    stored();
    stop();
    sessions_replace(copy);
    kit_ready(&kit);
    kit_end(&kit, 0);
    kit_journal(&kit);
    struct mr_cursor *cursor = mr_cursor_find(kit.journal, SESSIONS_CURSOR, 0);
    uint64_t seq = mr_cursor_get_with(cursor, &with);
    mr_assert(seq >= copied_seq && seq == with && seq < mr_lane_durable(kit.lane));
    mr_assert(mr_journal_close(kit.journal) == MR_OK);
    start(1);
    expect_owed("ab");
    kit_close(&kit);
}

/* What a shard was owed from another lane when the machine stopped, and had not copied yet, is in
 * the stores alone behind the move; the lane has it, for a move that is made once more.
 */
static void test_not_copied(void)
{
    uint32_t home;
    char id[8] = "pub-0";
    struct peer pub;

    begin(2);
    home = mr_journal_home_of(kit.journal, mr_span_of("scada"), 2);
    publish("a");
    stop();
    kit.options.manual = true;
    start(2);
    while (mr_journal_home_of(kit.journal, mr_span_of(id), 2) == home) {
        id[4] += 1;
    }
    struct mr_lane *lane = mr_journal_lane(kit.journal, 1 - home);
    uint64_t before = mr_lane_durable(lane);
    int64_t deadline = mr_clock_mono_ns() + KIT_PATIENCE_S * INT64_C(1000000000);
    peer_join(&pub, &kit, id, 5);
    peer_publish(&pub, "d", "b", 1, 1);
    while (mr_lane_durable(lane) == before) {
        (void)mr_lane_step_commit(lane);
        kit_patience(deadline, "the commit");
    }
    mr_assert(peer_expect_puback(&pub, 1) == 0);
    kit_stop_dead(&kit);
    peer_close(&pub);
    kit.options.manual = false;
    start(3);
    publish("c");
    stored();
    stop();
    sessions_replace(NULL);
    start(2);
    expect_owed("abc");
    kit_close(&kit);
}

/* ---- what the journal has not either ---- */

static bool told;

static void look_for_gone(const char *line, size_t len)
{
    (void)len;
    told |= strstr(line, "level=error component=sessions") != NULL &&
            strstr(line, "the journal has no records 1 to ") != NULL;
}

/* All of it is stored, and no segment has to stay for that. */
static void publish_until_gone(void)
{
    uint64_t stored_seq = mr_lane_durable(kit.lane);
    struct mr_lane_stats stats = {.seq_oldest = 0};
    int64_t deadline = mr_clock_mono_ns() + KIT_PATIENCE_S * INT64_C(1000000000);
    char payload[1500];
    struct peer pub;

    memset(payload, 'x', sizeof(payload) - 1);
    payload[sizeof(payload) - 1] = '\0';
    peer_join(&pub, &kit, "pub", 5);
    while (stats.seq_oldest <= stored_seq) {
        peer_publish(&pub, "e", payload, 1, 1);
        mr_assert(peer_expect_puback(&pub, 1) == 0);
        mr_lane_stats(kit.lane, &stats);
        kit_patience(deadline, "the oldest segment to go");
    }
    peer_close(&pub);
}

/* Neither stores nor journal have the session: it is told. */
static void test_gone(void)
{
    struct peer sub;

    begin(1);
    publish("a");
    publish_until_gone();
    stop();
    sessions_replace(NULL);
    mr_log_set_writer(look_for_gone);
    start(1);
    mr_log_set_writer(NULL);
    mr_assert(told);
    peer_join_kept(&sub, &kit, false);
    peer_close(&sub);
    kit_close(&kit);
}

/* ---- of another copy ---- */

/* The journal is a copy made with `copied` shards, and the stores are of a later start with
 * `later`.
 */
static void newer_stores(uint32_t copied, uint32_t later)
{
    char journal[64];

    begin(copied);
    publish("a");
    stop();
    folder_make(journal);
    folder_copy(kit.folder, journal);
    start(later);
    publish("b");
    stored();
    stop();
    journal_replace(journal);
}

static void test_newer_copy(uint32_t copied, uint32_t later)
{
    newer_stores(copied, later);
    start(copied);
    expect_owed("ab");
    kit_close(&kit);
}

static void test_more_shards_than_ever(void)
{
    struct mr_error why = {.text = ""};

    newer_stores(1, 3);
    kit.options.lanes = 1;
    kit_journal(&kit);
    mr_assert(kit_broker(&kit, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "set `gateway.shards: 3` for one start") != NULL);
    mr_assert(mr_journal_close(kit.journal) == MR_OK);
    start(3);
    expect_owed("ab");
    stop();
    start(1);
    expect_owed("ab");
    kit_close(&kit);
}

/* ---- rows ---- */

static struct mr_store *store;

static void store_open(uint32_t lane)
{
    char path[400];

    (void)snprintf(path, sizeof(path), "%s/lane-%02u", kit.sessions, lane);
    mr_assert(mr_store_open(&store, &(struct mr_store_options){.path = path, .manual = true},
                            NULL) == MR_OK);
}

static void store_close(void)
{
    mr_store_seal(store);
    mr_store_submit(store);
    mr_assert(mr_store_take_written(store));
    mr_store_close(store);
}

/* A vector as it was before there were epochs, groups and a word of overlaps. */
static bool vector_put_old(void *arg, struct mr_span key, struct mr_span value)
{
    uint8_t bytes[512];
    struct vector vector;
    struct mr_span lanes;

    (void)arg;
    if (row_is_steps(key)) {
        return true;
    }
    mr_assert(row_vector_get(key, value, &vector, &lanes) && vector.epoch != 0);
    size_t len = sizeof(vector.journal.bytes);
    memcpy(bytes, value.at, len);
    memcpy(bytes + len, lanes.at, lanes.len);
    mr_store_put(store, MR_STORE_VECTOR, key, mr_span_make(bytes, len + lanes.len));
    return true;
}

/* Of which epoch they are follows from how many there are. */
static void test_before_epochs(uint32_t lanes)
{
    begin(1);
    publish("a");
    stop();
    start(2);
    publish("b");
    stop();
    for (uint32_t lane = 0; lane < 2; lane++) {
        store_open(lane);
        mr_assert(mr_store_each(store, MR_STORE_VECTOR, vector_put_old, NULL));
        store_close();
    }
    end_with(lanes, "c", "abc");
}

/* The vector of the second shard cannot be read; the first one's says which layout it is. */
static bool vector_put_short(void *arg, struct mr_span key, struct mr_span value)
{
    size_t *cut = arg;

    if (!row_is_steps(key)) {
        mr_store_put(store, MR_STORE_VECTOR, key, mr_span_make(value.at, value.len - *cut));
    }
    return true;
}

static void test_vector_of_one_shard(void)
{
    struct mr_error why = {.text = ""};
    size_t cut = 5;
    char copy[64];

    begin(2);
    publish("a");
    stop();
    sessions_copy(copy);
    store_open(1);
    mr_assert(mr_store_each(store, MR_STORE_VECTOR, vector_put_short, &cut));
    store_close();
    kit_journal(&kit);
    mr_assert(kit_broker(&kit, &why) == MR_ERR_CORRUPT);
    mr_assert(strstr(why.text, "cannot be read") != NULL);
    mr_assert(mr_journal_close(kit.journal) == MR_OK);
    sessions_replace(copy);
    start(2);
    expect_owed("a");
    kit_close(&kit);
}

static bool key_take(void *arg, struct mr_span key, struct mr_span value)
{
    (void)value;
    mr_assert(key.len == SESSION_KEY_BYTES);
    memcpy(arg, key.at, key.len);
    return true;
}

/* A subscription and a delivery of a session with this key. */
static void orphan_put(const uint8_t session[SESSION_KEY_BYTES], uint64_t seq)
{
    static const uint8_t sub[] = {1, 0, 0, 0, 0, 'd'};
    uint8_t key[DELIVERY_KEY_BYTES] = {0};
    uint8_t delivery[DELIVERY_ROW_BYTES] = {0};

    memcpy(key, session, SESSION_KEY_BYTES);
    mr_store_put(store, MR_STORE_SUBSCRIPTIONS, mr_span_make(key, SUB_KEY_BYTES),
                 mr_span_make(sub, sizeof(sub)));
    mr_put_u64(delivery + 4, seq);
    delivery[20] = 1;
    mr_store_put(store, MR_STORE_DELIVERIES, mr_span_make(key, DELIVERY_KEY_BYTES),
                 mr_span_make(delivery, sizeof(delivery)));
}

static int64_t damaged(void)
{
    return mr_metric_get(kit.broker->shards[0]->metrics.dropped_damaged);
}

/* Of sessions that there are not, in front of the one that there is and behind it. */
static void test_rows_of_nobody(void)
{
    uint8_t key[SESSION_KEY_BYTES];
    int64_t before;

    begin(1);
    publish("a");
    before = damaged();
    stop();
    store_open(0);
    mr_assert(mr_store_each(store, MR_STORE_SESSIONS, key_take, key));
    for (int step = -1; step <= 1; step += 2) {
        uint8_t other[SESSION_KEY_BYTES];
        memcpy(other, key, sizeof(key));
        other[SESSION_KEY_BYTES - 1] = (uint8_t)(key[SESSION_KEY_BYTES - 1] + step);
        orphan_put(other, 1);
    }
    memset(key, 0xff, 4); /* of a lane behind all others */
    orphan_put(key, 1);
    store_close();
    start(1);
    mr_assert(damaged() == before + 3); /* each delivery of nobody is told, once */
    publish("b");
    expect_owed("ab");
    stop();
    start(1);
    mr_assert(damaged() == before + 3);
    expect_owed("ab");
    kit_close(&kit);
}

/* ---- how the clock was set ---- */

static const int64_t hours_us = INT64_C(2) * 3600 * 1000000;

static bool session_put_closed(void *arg, struct mr_span key, struct mr_span value)
{
    uint8_t bytes[512];
    const int64_t *closed_us = arg;

    mr_assert(value.len <= sizeof(bytes));
    memcpy(bytes, value.at, value.len);
    mr_put_u64(bytes + 16, (uint64_t)*closed_us);
    mr_store_put(store, MR_STORE_SESSIONS, key, mr_span_make(bytes, value.len));
    return true;
}

/* By the wall clock its hour is over, and that was set since. */
static void test_clock_was_set(bool known)
{
    int64_t now_us = mr_clock_wall_us();
    int64_t closed_us = now_us - hours_us - 1000000;
    const struct clock_step steps[CLOCK_STEPS] = {
        {.before_us = now_us - hours_us, .after_us = now_us}};
    struct peer sub;

    begin(1);
    stop();
    store_open(0);
    mr_assert(mr_store_each(store, MR_STORE_SESSIONS, session_put_closed, &closed_us));
    if (known) {
        row_steps_put(store, steps);
    }
    store_close();
    start(1);
    peer_join_kept(&sub, &kit, known);
    peer_close(&sub);
    kit_close(&kit);
}

int main(void)
{
    test_away(false);
    test_away(true);
    test_older_epoch(1, 2, 3);
    test_older_epoch(3, 1, 2);
    test_older_epoch(2, 1, 1);
    test_older_copy(1);
    test_older_copy(2);
    test_held();
    test_not_copied();
    test_gone();
    test_newer_copy(2, 2);
    test_newer_copy(2, 1);
    test_more_shards_than_ever();
    test_before_epochs(2);
    test_before_epochs(3);
    test_vector_of_one_shard();
    test_rows_of_nobody();
    test_clock_was_set(true);
    test_clock_was_set(false);
    (void)puts("what stores and journal had was found");
    return 0;
}
