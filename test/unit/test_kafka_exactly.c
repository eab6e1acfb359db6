/* test_kafka_exactly.c
 * links: sink_kafka pipeline journal codec config os base
 *
 * Goal:   with exactly_once a broker's error at any step of a transaction is either overcome by
 *         the same producer, or the transaction is offered again by the next one: everything
 *         arrives, first deliveries in order, nothing is given up.
 * Method: librdkafka's mock cluster, one error after the other.  It shows records of aborted
 *         transactions too, so that "once" is shown against a real Kafka elsewhere
 *         (test/behaviour/test_kafka_exactly.py); here a repetition tells that we started over.
 *         A commit that did not hold looks like one that did, until the test writes the position
 *         before it behind it, which is what a reader at read_committed would find.
 */
#include "kafka_world.h"

#include "journal/format.h"
#include "sink/kafka/kafka_internal.h"

enum {
    MOCK_PARTITIONS = 4,
    POSITION_MAX = 256,
    WITHHELD_MS = 3000,
    WITHHELD_ONCE_MS = 600,
    REFUSED_STARTS = 1000
};

enum api { API_PRODUCE = 0, API_INIT_PRODUCER_ID = 22, API_ADD_PARTITIONS = 24, API_END_TXN = 26 };

static const struct {
    enum api api;
    rd_kafka_resp_err_t err;
    bool overcome; /* without offering anything again */
} cases[] = {
    {API_END_TXN, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, true},
    {API_END_TXN, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, true},
    {API_END_TXN, RD_KAFKA_RESP_ERR__TRANSPORT, true}, /* the connection breaks */
    /* A new producer asks how the commit went; the mock shows the position as if it held. */
    {API_END_TXN, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, true},
    {API_END_TXN, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING, true},
    {API_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, true},
    {API_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, true},
    {API_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, false},
    {API_PRODUCE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, true},
    {API_PRODUCE, RD_KAFKA_RESP_ERR__TRANSPORT, true},
    {API_PRODUCE, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, false},
    {API_PRODUCE, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, false},
};

/* ---- the worker, which a test holds up between two looks at a commit ---- */

static _Atomic bool commit_holds;
static _Atomic bool polls_held;

int rd_kafka_poll(rd_kafka_t *rk, int timeout_ms)
{
    static int (*_Atomic next)(rd_kafka_t *, int);

    if (next == NULL) {
        next = (int (*)(rd_kafka_t *, int))(uintptr_t)dlsym(RTLD_NEXT, "rd_kafka_poll");
    }
    while (polls_held) {
        usleep(1000); /* sleep: a worker that does not get its turn */
    }
    return next(rk, timeout_ms);
}

rd_kafka_error_t *rd_kafka_commit_transaction(rd_kafka_t *rk, int timeout_ms)
{
    static rd_kafka_error_t *(*_Atomic next)(rd_kafka_t *, int);

    if (next == NULL) {
        next = (rd_kafka_error_t *
                (*)(rd_kafka_t *, int))(uintptr_t)dlsym(RTLD_NEXT, "rd_kafka_commit_transaction");
    }
    rd_kafka_error_t *error = next(rk, timeout_ms);
    if (error != NULL && commit_holds) {
        commit_holds = false;
        polls_held = true;
    }
    return error;
}

/* ---- how far a partition of the mock cluster goes ---- */

enum { CUT_OFF = 7 };

static _Atomic bool log_was_longer; /* when it is asked for next */

rd_kafka_resp_err_t rd_kafka_get_watermark_offsets(rd_kafka_t *rk, const char *topic,
                                                   int32_t partition, int64_t *low, int64_t *high)
{
    static rd_kafka_resp_err_t (*_Atomic next)(rd_kafka_t *, const char *, int32_t, int64_t *,
                                               int64_t *);

    if (next == NULL) {
        next = (rd_kafka_resp_err_t(*)(rd_kafka_t *, const char *, int32_t, int64_t *, int64_t *))(
            uintptr_t)dlsym(RTLD_NEXT, "rd_kafka_get_watermark_offsets");
    }
    rd_kafka_resp_err_t err = next(rk, topic, partition, low, high);
    *high += log_was_longer ? CUT_OFF : 0;
    log_was_longer = false;
    return err;
}

static void exactly_open(struct world *w)
{
    world_open(w);
    mr_assert(rd_kafka_mock_topic_create(w->cluster, "millrace.positions", MOCK_PARTITIONS, 1) ==
              0);
    w->kafka.delivery = MR_KAFKA_EXACTLY_ONCE;
    w->kafka.commit_interval_us = 20000;
    w->kafka.commit_bytes = 1 << 20;
    w->kafka.positions_topic = "millrace.positions";
}

static void test_every_step_may_fail(void)
{
    struct world w;
    uint64_t retries = 0;

    exactly_open(&w);
    world_start(&w);
    append_some(&w, 500);
    wait_settled(&w);
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        rd_kafka_mock_push_request_errors(w.cluster, (int16_t)cases[i].api, 1, cases[i].err);
        append_some(&w, 200);
        wait_settled(&w);
        bool over = stats_of(&w).retries == retries;
        printf("%d %s: %s\n", cases[i].api, rd_kafka_err2name(cases[i].err),
               over ? "overcome" : "began anew");
        mr_assert(over == cases[i].overcome);
        retries = stats_of(&w).retries;
    }
    append_some(&w, 500);
    wait_settled(&w);
    mr_assert(stats_of(&w).delivered == w.appended && stats_of(&w).dead_letters == 0);
    printf("%llu records seen twice\n", (unsigned long long)check_all(&w, false));
    world_close(&w);
}

/* The first producer id may be refused for a while; nothing is sent before. */
static void test_the_beginning_may_fail(void)
{
    static const rd_kafka_resp_err_t refusals[] = {
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
        RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED};
    struct world w;

    exactly_open(&w);
    for (size_t i = 0; i < MR_COUNT_OF(refusals); i++) {
        rd_kafka_mock_push_request_errors(w.cluster, API_INIT_PRODUCER_ID, 1, refusals[i]);
    }
    append_some(&w, 500);
    world_start(&w);
    wait_settled(&w);
    wait_up(&w, true);
    mr_assert(stats_of(&w).delivered == 500);
    world_close(&w);
}

/* Wait until the bridge's last error has `part`. */
static void wait_error(struct world *w, const char *part)
{
    int64_t until_ns = mr_clock_mono_ns() + WAIT_S * (int64_t)1000000000;

    while (strstr(stats_of(w).last_error, part) == NULL) {
        mr_assert(mr_clock_mono_ns() < until_ns);
        usleep(10000); /* sleep: the state tells nobody when it changes */
    }
}

/* The cluster is there, and the partition with the position is not. */
static void test_says_that_the_position_cannot_be_read(void)
{
    struct world w;

    exactly_open(&w);
    for (int i = 0; i < MOCK_PARTITIONS; i++) {
        rd_kafka_mock_partition_set_leader(w.cluster, "millrace.positions", i, -1);
    }
    append_some(&w, 100);
    world_start(&w);
    wait_error(&w, "has it no leader?");
    mr_assert(!stats_of(&w).up);
    for (int i = 0; i < MOCK_PARTITIONS; i++) {
        rd_kafka_mock_partition_set_leader(w.cluster, "millrace.positions", i, 1);
    }
    wait_settled(&w);
    wait_up(&w, true);
    world_close(&w);
}

/* Nor is its topic, and why is for the operator to see: it need not be a right that lacks. */
static void test_says_what_is_wrong_with_the_topic_of_positions(void)
{
    struct world w;

    exactly_open(&w);
    rd_kafka_mock_topic_set_error(w.cluster, "millrace.positions",
                                  RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR);
    append_some(&w, 100);
    world_start(&w);
    wait_error(&w, "topic 'millrace.positions'");
    printf("%s\n", stats_of(&w).last_error);
    mr_assert(strstr(stats_of(&w).last_error, "Disk error when trying to access log") != NULL);
    mr_assert(strstr(stats_of(&w).last_error, "may not be read") == NULL);
    rd_kafka_mock_topic_set_error(w.cluster, "millrace.positions", RD_KAFKA_RESP_ERR_NO_ERROR);
    wait_settled(&w);
    wait_up(&w, true);
    world_close(&w);
}

/* What only the operator can change is said, and it goes on when that is done. */
static void test_says_why_it_cannot_begin(void)
{
    static rd_kafka_resp_err_t refusals[REFUSED_STARTS];
    struct world w;

    exactly_open(&w);
    for (int i = 0; i < REFUSED_STARTS; i++) {
        refusals[i] = RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT;
    }
    rd_kafka_mock_push_request_errors_array(w.cluster, API_INIT_PRODUCER_ID, REFUSED_STARTS,
                                            refusals);
    world_start(&w);
    wait_error(&w, "transaction.timeout.ms");
    mr_assert(!stats_of(&w).up && lines_away == 1);
    append_some(&w, 100);
    rd_kafka_mock_clear_request_errors(w.cluster, API_INIT_PRODUCER_ID);
    wait_settled(&w);
    wait_up(&w, true);
    world_close(&w);
}

/* The position is read from the leader, whatever rack the options name: what a follower calls the
 * end may lack the last commits.
 */
static void test_reads_of_the_leader(void)
{
    struct mr_pair options[] = {{.name = "client.rack", .value = "here"}};
    char text[64] = "?";
    size_t size = sizeof(text);
    struct mr_error why;
    struct world w;

    exactly_open(&w);
    w.kafka.kafka_options.items = options;
    w.kafka.kafka_options.count = MR_COUNT_OF(options);
    rd_kafka_conf_t *conf = mr_kafka_conf_make_reader(&w.kafka, &why);
    mr_assert(conf != NULL);
    mr_assert(rd_kafka_conf_get(conf, "client.rack", text, &size) == RD_KAFKA_CONF_OK);
    mr_assert(text[0] == '\0');
    rd_kafka_conf_destroy(conf);
    world_close(&w);
}

/* After a stop the position is found, and what is settled does not come again. */
static void test_goes_on_at_the_position(void)
{
    struct world w;

    exactly_open(&w);
    append_some(&w, 500);
    for (int run = 0; run < 3; run++) {
        world_start(&w);
        append_some(&w, 300);
        wait_settled(&w);
        world_stop(&w);
    }
    mr_assert(check_all(&w, false) == 0);
    world_close(&w);
}

static _Atomic unsigned lines_shorter;

/* The end that the log of positions had is not there any more when all else has been read. */
static void test_the_log_becomes_shorter(void)
{
    struct world w;

    exactly_open(&w);
    world_is_impatient(&w);
    world_start(&w);
    append_some(&w, 300);
    wait_settled(&w);
    world_stop(&w);
    log_was_longer = true;
    world_start(&w);
    append_some(&w, 300);
    wait_settled(&w);
    mr_assert(!log_was_longer && lines_shorter == 1);
    mr_assert(check_all(&w, false) == 0);
    world_close(&w);
}

static void test_says_that_nothing_is_confirmed(void)
{
    struct world w;

    exactly_open(&w);
    world_is_impatient(&w);
    world_start(&w);
    world_stalls(&w);
    world_close(&w);
}

/* A link that carries `rate` bytes a second: how the transactions become, with a backlog. */
static void link_of(uint64_t rate)
{
    static const uint64_t most = 64 << 20;
    uint64_t room = most;

    for (int i = 0; i < 30; i++) {
        int64_t took_ns = (int64_t)(room * 1000000 / rate) * 1000;
        room = mr_tx_room(room, most, room, took_ns);
        mr_assert(room >= 65536 && room <= most);
    }
    printf("%llu bytes a second: transactions of %llu\n", (unsigned long long)rate,
           (unsigned long long)room);
    mr_assert(room == most || room / rate <= 10);
    for (int i = 0; i < 30; i++) { /* and when the link is wide again */
        room = mr_tx_room(room, most, room, 1000000);
    }
    mr_assert(room == most);
}

static void test_transactions_fit_the_link(void)
{
    link_of(15000);
    link_of(125000);
    link_of(1250000);
    link_of(125000000);
}

/* Something was delivered, and the next commit is answered so late. */
static void withhold_open(struct world *w, int ms)
{
    exactly_open(w);
    world_start(w);
    append_some(w, 300);
    wait_settled(w);
    mr_assert(rd_kafka_mock_broker_push_request_error_rtts(w->cluster, 1, API_END_TXN, 1,
                                                           RD_KAFKA_RESP_ERR_NO_ERROR, ms) == 0);
}

/* A commit holds when Kafka says so, and not while it says nothing. */
static void test_an_answer_that_takes_long(void)
{
    struct world w;

    withhold_open(&w, WITHHELD_MS);
    int64_t asked_ns = mr_clock_mono_ns();
    append_some(&w, 300);
    wait_settled(&w);
    mr_assert(mr_clock_mono_ns() - asked_ns >= WITHHELD_MS * (int64_t)1000000);
    mr_assert(stats_of(&w).retries == 0);
    mr_assert(check_all(&w, false) == 0);
    world_close(&w);
}

/* A busy machine: that all brokers are gone is heard before one looks again at a commit, which had
 * held before.  librdkafka says it once.
 */
static void test_committed_and_gone_in_one_turn(void)
{
    struct world w;

    withhold_open(&w, WITHHELD_ONCE_MS);
    commit_holds = true;
    append_some(&w, 300);
    for (int i = 0; i < WAIT_S * 100 && !polls_held; i++) {
        usleep(10000); /* sleep: the state tells nobody when it changes */
    }
    mr_assert(polls_held);
    usleep(WITHHELD_ONCE_MS * 1000); /* sleep: the answer comes, and only a poll would tell */
    mr_assert(rd_kafka_mock_broker_set_down(w.cluster, 1) == 0);
    usleep(500000); /* sleep: what librdkafka notices only a poll would tell */
    polls_held = false;
    wait_settled(&w);
    wait_up(&w, false);
    mr_assert(rd_kafka_mock_broker_set_up(w.cluster, 1) == 0);
    wait_up(&w, true);
    mr_assert(stats_of(&w).retries == 0);
    world_close(&w);
}

/* ---- a commit that did not hold ---- */

struct positions {
    rd_kafka_t *rk;
    int32_t partition; /* of the last one */
    char key[POSITION_MAX];
    char value[POSITION_MAX];
};

static rd_kafka_t *client(const struct world *w, rd_kafka_type_t type)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256];

    rd_kafka_conf_set(conf, "bootstrap.servers", w->kafka.servers, text, sizeof(text));
    if (type == RD_KAFKA_CONSUMER) {
        rd_kafka_conf_set(conf, "group.id", "test", text, sizeof(text));
    }
    rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof(text));
    mr_assert(rk != NULL);
    return rk;
}

static void positions_open(struct positions *p, const struct world *w)
{
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(MOCK_PARTITIONS);

    *p = (struct positions){.rk = client(w, RD_KAFKA_CONSUMER)};
    rd_kafka_poll_set_consumer(p->rk);
    for (int i = 0; i < MOCK_PARTITIONS; i++) {
        rd_kafka_topic_partition_list_add(all, w->kafka.positions_topic, i)->offset = 0;
    }
    mr_assert(rd_kafka_assign(p->rk, all) == 0);
    rd_kafka_topic_partition_list_destroy(all);
}

static void positions_close(struct positions *p)
{
    rd_kafka_consumer_close(p->rk);
    rd_kafka_destroy(p->rk);
}

/* Wait for the position of `seq`. */
static void positions_await(struct positions *p, uint64_t seq)
{
    char wanted[64];
    bool is = false;

    snprintf(wanted, sizeof(wanted), "\"seq\":%llu,", (unsigned long long)seq);
    while (!is) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(p->rk, WAIT_S * 1000);
        mr_assert(m != NULL);
        if (m->err == 0) {
            mr_assert(m->key_len < POSITION_MAX && m->len < POSITION_MAX);
            snprintf(p->key, sizeof(p->key), "%.*s", (int)m->key_len, (const char *)m->key);
            snprintf(p->value, sizeof(p->value), "%.*s", (int)m->len, (const char *)m->payload);
            p->partition = m->partition;
            is = strstr(p->value, wanted) != NULL;
        }
        rd_kafka_message_destroy(m);
    }
}

/* `p` as a record of then (Unix time, 0: now); with an empty value it is a tombstone. */
static void positions_write(const struct positions *p, const struct world *w, int64_t time_ms)
{
    rd_kafka_t *rk = client(w, RD_KAFKA_PRODUCER);
    size_t len = strlen(p->value);

    mr_assert(rd_kafka_producev(
                  rk, RD_KAFKA_V_TOPIC(w->kafka.positions_topic),
                  RD_KAFKA_V_PARTITION(p->partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                  RD_KAFKA_V_KEY(p->key, strlen(p->key)),
                  RD_KAFKA_V_VALUE(len == 0 ? NULL : (void *)(uintptr_t)p->value, len),
                  RD_KAFKA_V_TIMESTAMP(time_ms), RD_KAFKA_V_END) == 0);
    mr_assert(rd_kafka_flush(rk, WAIT_S * 1000) == 0);
    rd_kafka_destroy(rk);
}

/* From now on `last` is the newest position, as if what came behind it were aborted. */
static void positions_put(const struct positions *last, const struct world *w)
{
    positions_write(last, w, 0);
}

/* Kafka is asked how the commit went, and what it has not is offered again. */
static void test_a_commit_that_did_not_hold(void)
{
    enum { LOST = 200 };
    struct positions positions;
    struct positions last;
    struct world w;

    exactly_open(&w);
    world_start(&w);
    positions_open(&positions, &w);
    append_some(&w, 300);
    wait_settled(&w);
    positions_await(&positions, w.appended);
    last = positions;

    rd_kafka_mock_push_request_errors(w.cluster, API_END_TXN, 1,
                                      RD_KAFKA_RESP_ERR_INVALID_TXN_STATE);
    for (int i = 0; i < REFUSED_STARTS; i++) { /* nobody asks before the test is ready */
        rd_kafka_mock_push_request_errors(w.cluster, API_INIT_PRODUCER_ID, 1,
                                          RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    }
    append_some(&w, LOST);
    positions_await(&positions, w.appended);
    positions_put(&last, &w);
    mr_assert(stats_of(&w).delivered == 300);
    rd_kafka_mock_clear_request_errors(w.cluster, API_INIT_PRODUCER_ID);
    wait_settled(&w);
    mr_assert(stats_of(&w).retries != 0 && stats_of(&w).delivered == w.appended);
    mr_assert(check_all(&w, false) == LOST); /* the mock shows the aborted ones too */
    positions_close(&positions);
    world_close(&w);
}

/* ---- partitions were added to the topic of positions ---- */

static unsigned lines_again;

static void on_line(const char *line, size_t len)
{
    static const char again[] = "looking once more";
    static const char shorter[] = "has become shorter";

    lines_again += memmem(line, len, again, sizeof(again) - 1) != NULL;
    lines_shorter += memmem(line, len, shorter, sizeof(shorter) - 1) != NULL;
    count_lines(line, len);
}

/* `p` as it was written when there were so many partitions, into another one, long ago by the clock
 * of then.
 */
static void positions_rewrite(struct positions *p, const struct world *w, int partitions, int step)
{
    char *of = strstr(p->value, "\"of\":");

    if (of != NULL) {
        of[5] = (char)('0' + partitions);
    }
    struct positions then = *p;
    then.partition = (p->partition + step) % MOCK_PARTITIONS;
    positions_write(&then, w, 1000000000000 - step);
}

/* `p` as a version wrote it that knew neither numbers nor how many partitions there were. */
static void positions_put_old(const struct positions *p, const struct world *w)
{
    struct positions old = *p;

    snprintf(old.value, sizeof(old.value),
             "{\"v\":1,\"seq\":%llu,\"epoch\":1,\"by\":\"0123456789abcdef\",\"gateway\":\"here\"}",
             (unsigned long long)w->appended);
    positions_put(&old, w);
}

/* 300 more; the last position is in `p` then. */
static void one_run(struct world *w, struct positions *p)
{
    world_start(w);
    append_some(w, 300);
    wait_settled(w);
    positions_await(p, w->appended);
    world_stop(w);
}

static void test_partitions_were_added(void)
{
    struct positions first;
    struct positions second;
    struct positions p;
    struct world w;

    exactly_open(&w);
    positions_open(&p, &w);
    one_run(&w, &p);
    first = p;
    positions_put_old(&p, &w);
    one_run(&w, &p);
    second = p;
    /* Twice: the key's own partition has an older record again, and the clock was set back. */
    positions_rewrite(&first, &w, 2, 0);
    positions_rewrite(&second, &w, 3, 1);
    one_run(&w, &p);
    mr_assert(lines_again == 0 && check_all(&w, false) == 0);
    /* A position that is behind the cursor is believed when it was found a second time. */
    positions_put(&second, &w);
    one_run(&w, &p);
    mr_assert(lines_again == 1 && check_all(&w, false) == 300);
    positions_close(&p);
    world_close(&w);
}

/* The position of a bridge that had gone far when there were two partitions, in the key's own. */
static void positions_of_then(struct positions *p, const struct world *w, int number)
{
    char id[37];

    mr_journal_id_text(mr_journal_identity(w->journal), id);
    snprintf(p->key, sizeof(p->key), "%s/kafka/0", id);
    snprintf(p->value, sizeof(p->value),
             "{\"v\":1,\"seq\":100,\"epoch\":1,\"n\":%d,\"of\":2,\"by\":\"0123456789abcdef\","
             "\"gateway\":\"here\"}",
             number);
    p->partition = mr_kafka_partition(p->key, strlen(p->key), MOCK_PARTITIONS);
}

/* A tombstone in the key's own partition, and an older position in another one, which may have a
 * later time if what the tombstone took away is there still.  What is written behind the tombstone
 * is newer than either, also when partitions are added once more.
 */
static void test_partitions_were_added_around_a_tombstone(bool compacted)
{
    enum { FAR = 5000, HOUR_MS = 3600000 };
    struct positions old;
    struct positions taken;
    struct positions p;
    struct world w;

    exactly_open(&w);
    positions_open(&p, &w);
    append_some(&w, 300);
    positions_of_then(&old, &w, FAR);
    struct positions elsewhere = old;
    elsewhere.partition = (old.partition + 1) % MOCK_PARTITIONS;
    positions_write(&elsewhere, &w, mr_clock_wall_us() / 1000 + (compacted ? -HOUR_MS : HOUR_MS));
    positions_of_then(&taken, &w, FAR + 1);
    if (!compacted) {
        positions_put(&taken, &w);
    }
    taken.value[0] = '\0';
    positions_put(&taken, &w);
    one_run(&w, &p);
    mr_assert(p.partition == old.partition && check_all(&w, false) == 0);

    positions_rewrite(&old, &w, 2, 0);
    positions_rewrite(&p, &w, 3, 1);
    one_run(&w, &p);
    mr_assert(lines_again == 0 && check_all(&w, false) == 0);
    positions_close(&p);
    world_close(&w);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    mr_log_set_writer(on_line);
    test_the_beginning_may_fail();
    test_says_why_it_cannot_begin();
    test_says_that_the_position_cannot_be_read();
    test_says_what_is_wrong_with_the_topic_of_positions();
    test_reads_of_the_leader();
    test_goes_on_at_the_position();
    test_the_log_becomes_shorter();
    test_partitions_were_added_around_a_tombstone(true);
    test_partitions_were_added_around_a_tombstone(false);
    test_partitions_were_added();
    test_an_answer_that_takes_long();
    test_committed_and_gone_in_one_turn();
    test_a_commit_that_did_not_hold();
    test_every_step_may_fail();
    test_says_that_nothing_is_confirmed();
    test_transactions_fit_the_link();
    mr_assert(lines_back <= lines_away);
    return 0;
}
