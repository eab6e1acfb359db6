/* test_kafka_exactly.c
 * links: sink_kafka pipeline journal codec config os base
 *
 * Goal:   with exactly_once a broker's error at any step of a transaction is either overcome by
 *         the same producer, or the transaction is offered again by the next one: everything
 *         arrives, first deliveries in order, nothing is given up.
 * Method: librdkafka's mock cluster, one error after the other.  It shows records of aborted
 *         transactions too, so that "once" is shown against a real Kafka elsewhere
 *         (test/behaviour/test_kafka_exactly.py); here a repetition tells that we started over.
 */
#include "kafka_world.h"

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

static void exactly_open(struct world *w)
{
    world_open(w);
    mr_assert(rd_kafka_mock_topic_create(w->cluster, "millrace.positions", 4, 1) == 0);
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

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    mr_log_set_writer(count_lines);
    test_the_beginning_may_fail();
    test_goes_on_at_the_position();
    test_every_step_may_fail();
    mr_assert(lines_back <= lines_away);
    return 0;
}
