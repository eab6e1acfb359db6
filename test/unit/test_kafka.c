/* test_kafka.c
 * links: sink_kafka pipeline journal codec config os base
 *
 * Goal:   what the Kafka sink promises holds when brokers answer with errors, go
 *         away and come back: everything arrives, first deliveries of a device in
 *         its order, with key, partition, time and value as they should be.
 * Method: librdkafka's mock cluster with injected errors, a real journal, a bridge
 *         in its own thread; the topic is read back with librdkafka's consumer.
 */
#include "kafka_configs.h"
#include "kafka_world.h"

#include "sink/kafka/kafka_internal.h"

#include <threads.h>

/* ---- librdkafka's polls, which a test holds back ---- */

static _Atomic bool polls_held;
static _Atomic bool minute_passes;

static _Atomic int idle_minutes; /* that are to pass while nothing is asked */

/* On the bridge's worker: what waits to be tried again. */
static void pass_a_minute(struct kafka *k)
{
    for (struct topic *topic = k->topics; topic != NULL; topic = topic->next) {
        topic->create_at_ns -= 60 * NS_PER_S;
    }
    k->limits_at_ns -= 60 * NS_PER_S;
}

int rd_kafka_poll(rd_kafka_t *rk, int timeout_ms)
{
    static int (*_Atomic next)(rd_kafka_t *, int);

    if (next == NULL) {
        next = (int (*)(rd_kafka_t *, int))(uintptr_t)dlsym(RTLD_NEXT, "rd_kafka_poll");
    }
    struct kafka *k = rd_kafka_opaque(rk);
    if (minute_passes) {
        pass_a_minute(k);
        minute_passes = false;
    } else if (idle_minutes != 0 && k->admin_task == ADMIN_NONE) {
        pass_a_minute(k);
        idle_minutes -= 1;
    }
    return polls_held ? 0 : next(rk, timeout_ms);
}

/* ---- answers to CreateTopics, of which the mock cluster knows nothing ---- */

enum { SILENT_MS = 1000 };

static _Atomic int create_answer; /* rd_kafka_resp_err_t, instead of that there is none */
static _Atomic int answers_late;  /* that are not there when they are looked for first */
static _Atomic bool limits_kept;  /* answers to DescribeConfigs never come */
static _Atomic int limits_lost;   /* so many have not */

rd_kafka_event_t *rd_kafka_queue_poll(rd_kafka_queue_t *queue, int timeout_ms)
{
    static rd_kafka_event_t *(*_Atomic next)(rd_kafka_queue_t *, int);

    if (next == NULL) {
        next = (rd_kafka_event_t *
                (*)(rd_kafka_queue_t *, int))(uintptr_t)dlsym(RTLD_NEXT, "rd_kafka_queue_poll");
    }
    if (answers_late != 0) {
        answers_late -= 1;
        return NULL;
    }
    rd_kafka_event_t *event = next(queue, timeout_ms);
    if (limits_kept && rd_kafka_event_type(event) == RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT) {
        rd_kafka_event_destroy(event);
        event = NULL;
        limits_lost += 1;
    }
    return event;
}

rd_kafka_resp_err_t rd_kafka_event_error(rd_kafka_event_t *event)
{
    static rd_kafka_resp_err_t (*_Atomic next)(rd_kafka_event_t *);

    if (next == NULL) {
        next = (rd_kafka_resp_err_t(*)(rd_kafka_event_t *))(uintptr_t)dlsym(RTLD_NEXT,
                                                                            "rd_kafka_event_error");
    }
    if (is_configs_answer(event)) {
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    return rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT
               ? (rd_kafka_resp_err_t)create_answer
               : next(event);
}

/* ---- the tests ---- */

static void test_delivers_in_order_and_exactly_what_came(void)
{
    struct world w;

    world_open(&w);
    w.kafka.headers.choice = MR_HEADERS_ID;
    world_start(&w);
    append_some(&w, 5000);
    wait_settled(&w);
    mr_assert(stats_of(&w).delivered == 5000 && stats_of(&w).up);
    mr_assert(check_all(&w, true) == 0);
    world_close(&w);
    mr_assert(lines_away == 0);
}

/* Errors that librdkafka repeats by itself, and those after which we start over. */
static void test_survives_errors_of_brokers(rd_kafka_resp_err_t err, bool repeats)
{
    struct world w;

    world_open(&w);
    world_start(&w);
    append_some(&w, 1000);
    wait_settled(&w);
    rd_kafka_mock_push_request_errors(w.cluster, 0 /* Produce */, 3, err, err, err);
    append_some(&w, 4000);
    wait_settled(&w);
    append_some(&w, 1000);
    wait_settled(&w);
    struct mr_bridge_stats stats = stats_of(&w);
    mr_assert(stats.delivered == 6000 && stats.dead_letters == 0);
    mr_assert((stats.retries != 0) == repeats);
    mr_assert(lines_away <= 1 && lines_away == lines_back); /* said once, however often tried */
    printf("%s: went back %llu times, %llu records repeated\n", rd_kafka_err2name(err),
           (unsigned long long)stats.retries, (unsigned long long)check_all(&w, false));
    world_close(&w);
}

/* Everything is refused for a while.  How many requests an attempt makes is
 * librdkafka's choice, so the refusals end by what they led to, not by number.  The
 * bridge goes on in order: the letters are the first records, all others arrive.
 */
static void test_condemns_what_is_refused_alone(void)
{
    static bool refused[SEQS_MAX];
    struct world w;

    world_open(&w);
    world_start(&w);
    append_some(&w, 100);
    wait_settled(&w);
    for (int i = 0; i < REFUSALS; i++) {
        rd_kafka_mock_push_request_errors(w.cluster, 0 /* Produce */, 1,
                                          RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    }
    append_some(&w, 300);
    for (int i = 0; i < WAIT_S * 1000 && stats_of(&w).dead_letters < 3; i++) {
        usleep(1000); /* sleep: the state tells nobody when it changes */
    }
    rd_kafka_mock_clear_request_errors(w.cluster, 0);
    wait_settled(&w);
    struct mr_bridge_stats stats = stats_of(&w);
    printf("refused for a while: %llu dead letters, went back %llu times\n",
           (unsigned long long)stats.dead_letters, (unsigned long long)stats.retries);
    mr_assert(stats.dead_letters >= 3 && stats.dead_letters < 300);
    mr_assert(stats.delivered + stats.dead_letters == w.appended);
    memset(refused, 0, sizeof(refused));
    memset(refused + 101, true, stats.dead_letters);
    check_but(&w, false, refused);
    world_close(&w);
}

/* The records of one topic, among others, are refused each time: those become dead
 * letters, and no others.  Its leader is a broker of its own, which refuses all.
 */
static void test_condemns_only_what_is_refused(void)
{
    static bool refused[SEQS_MAX];
    struct world w;
    uint64_t count = 0;

    world_open_brokers(&w, 2);
    mr_assert(rd_kafka_mock_topic_create(w.cluster, "t_bad", 1, 1) == 0);
    mr_assert(rd_kafka_mock_partition_set_leader(w.cluster, "t_bad", 0, 2) == 0);
    for (int i = 0; i < PARTITIONS; i++) {
        mr_assert(rd_kafka_mock_partition_set_leader(w.cluster, "t_kind0", i, 1) == 0);
        mr_assert(rd_kafka_mock_partition_set_leader(w.cluster, "t_kind1", i, 1) == 0);
    }
    for (int i = 0; i < REFUSALS; i++) {
        mr_assert(
            rd_kafka_mock_broker_push_request_error_rtts(w.cluster, 2, 0 /* Produce */, (size_t)1,
                                                         RD_KAFKA_RESP_ERR_INVALID_RECORD, 0) == 0);
    }
    world_start(&w);
    memset(refused, 0, sizeof(refused));
    while (w.appended < 600) {
        bool bad = (w.appended + 1) % 41 < 2; /* two neighbours */
        append_event(&w, bad ? "plant/bad" : next_topic(&w));
        refused[w.appended] = bad;
        count += bad;
    }
    make_durable(&w);
    wait_settled(&w);
    struct mr_bridge_stats stats = stats_of(&w);
    printf("%llu refused of 600: %llu dead letters, went back %llu times\n",
           (unsigned long long)count, (unsigned long long)stats.dead_letters,
           (unsigned long long)stats.retries);
    mr_assert(stats.dead_letters == count && stats.delivered == w.appended - count);
    check_but(&w, false, refused);
    world_close(&w);
}

enum refused_by { REFUSED_METADATA, REFUSED_PRODUCE };

/* A topic that the bridge may not write to, with a leader of its own; the others have theirs. */
static void world_open_refusing(struct world *w, enum refused_by by)
{
    const rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;

    world_open_brokers(w, 2);
    mr_assert(rd_kafka_mock_topic_create(w->cluster, "t_bad", 1, 1) == 0);
    mr_assert(rd_kafka_mock_partition_set_leader(w->cluster, "t_bad", 0, 2) == 0);
    for (int i = 0; i < PARTITIONS * 2; i++) {
        mr_assert(rd_kafka_mock_partition_set_leader(w->cluster, topic_at(i), i / 2, 1) == 0);
    }
    if (by == REFUSED_METADATA) {
        rd_kafka_mock_topic_set_error(w->cluster, "t_bad", err);
    }
    for (int i = 0; i < REFUSALS; i++) {
        mr_assert(rd_kafka_mock_broker_push_request_error_rtts(w->cluster, 2, 0 /* Produce */,
                                                               (size_t)1, err, 0) == 0);
    }
}

/* What is refused holds the bridge until the operator has it passed over, and no longer. */
static void test_what_is_passed_over_is_refused_no_longer(enum refused_by by)
{
    struct world w;
    struct mr_error why;
    uint64_t out = 0;

    world_open_refusing(&w, by);
    world_start(&w);
    append_some(&w, 100);
    wait_settled(&w);
    append_event(&w, "plant/bad");
    make_durable(&w);
    wait_up(&w, false);
    mr_assert(strstr(stats_of(&w).last_error, "topic 't_bad' may not be written to") != NULL);
    mr_assert(mr_bridge_seek(w.bridge, w.appended, &out, &why) == MR_OK && out == w.appended);
    wait_up(&w, true);
    append_some(&w, 100);
    wait_settled(&w);
    mr_assert(stats_of(&w).up && stats_of(&w).delivered == 200);
    world_close(&w);
    mr_assert(lines_away == 1 && lines_back == 1);
}

/* A topic that Kafka would not make, and makes in the end, while another is asked for.  What comes
 * of it before is a dead letter, and nothing after.
 */
static void test_the_impossible_becomes_possible(void)
{
    static bool refused[SEQS_MAX] = {[1] = true};
    struct world w;

    world_open(&w);
    w.kafka.auto_create.enable = true;
    world_start(&w);
    create_answer = RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
    append_event(&w, "plant/kind0");
    make_durable(&w);
    wait_settled(&w);
    mr_assert(stats_of(&w).dead_letters == 1);
    create_answer = RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
    minute_passes = true;
    while (minute_passes) {
        usleep(1000); /* sleep: the worker tells nobody when it has looked */
    }
    answers_late = 1;
    append_some(&w, 2); /* of t_kind0, and of t_kind1, which is new */
    wait_settled(&w);
    mr_assert(answers_late == 0);
    mr_assert(stats_of(&w).dead_letters == 1 && stats_of(&w).delivered == 2);
    mr_assert(check_but(&w, false, refused) == 0);
    world_close(&w);
}

/* The broker is there and answers late, which a topic that is new has to find out: what was said of
 * connections before is not the cause.
 */
static void then_it_is_silent(struct world *w)
{
    mr_assert(rd_kafka_mock_broker_set_rtt(w->cluster, 1, SILENT_MS) == 0);
    append_event(w, "plant/new");
    make_durable(w);
    wait_up(w, false);
    mr_assert(strncmp(stats_of(w).last_error, "no broker of ", 13) == 0);
    mr_assert(rd_kafka_mock_broker_set_rtt(w->cluster, 1, 0) == 0);
    wait_settled(w);
    wait_up(w, true);
}

/* The broker that is asked for the limits of a topic does not know it yet: it is asked again, and
 * what devices may send is compared then.
 */
static void test_a_limit_that_is_not_told_is_asked_for_again(void)
{
    int64_t stop_ns = mr_clock_mono_ns() + WAIT_S * NS_PER_S;
    struct world w;

    configs_say(&(struct configs){.name = "max.message.bytes",
                                  .value = "1000",
                                  .errors = 2,
                                  .err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART});
    world_open(&w);
    world_start(&w);
    append_some(&w, 2); /* of two topics */
    wait_settled(&w);
    while (lines_limited != 2) {
        mr_assert(mr_clock_mono_ns() < stop_ns);
        minute_passes = true;
        mr_bridge_nudge(w.bridge);
        usleep(1000); /* sleep: the log wakes nobody */
    }
    minute_passes = false;
    world_close(&w);
    configs_say(&(struct configs){.name = NULL});
}

/* A target that never tells is asked less and less, however many topics there are. */
static void test_a_limit_that_is_never_told_is_asked_for_less(void)
{
    enum { TOPICS = 2, MINUTES = 60, ASKED_MAX = 20 };
    struct world w;

    configs_say(&(struct configs){.name = "max.message.bytes",
                                  .errors = REFUSALS,
                                  .err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART});
    world_open(&w);
    world_start(&w);
    append_some(&w, TOPICS);
    wait_settled(&w);
    idle_minutes = MINUTES;
    while (idle_minutes != 0) {
        mr_bridge_nudge(w.bridge);
        usleep(1000); /* sleep: the worker tells nobody when it has looked */
    }
    printf("asked %d times within an hour\n", configs_asked);
    mr_assert(configs_asked > TOPICS && configs_asked <= ASKED_MAX);
    world_close(&w);
    configs_say(&(struct configs){.name = NULL});
}

/* What is made waits for no answer about limits. */
static void test_a_topic_is_made_before_limits_are_known(void)
{
    struct world w;

    limits_kept = true;
    limits_lost = 0;
    world_open(&w);
    w.kafka.auto_create.enable = true;
    create_answer = RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
    world_start(&w);
    append_event(&w, "plant/kind0");
    make_durable(&w);
    wait_settled(&w);
    while (limits_lost == 0) {
        usleep(1000); /* sleep: the worker tells nobody when it has looked */
    }
    append_event(&w, "plant/kind1");
    make_durable(&w);
    wait_settled(&w);
    world_close(&w);
    limits_kept = false;
}

static void test_waits_while_brokers_are_down(void)
{
    struct world w;

    world_open(&w);
    mr_assert(rd_kafka_mock_topic_create(w.cluster, "t_new", 1, 1) == 0);
    world_start(&w);
    append_some(&w, 1000);
    wait_settled(&w);
    mr_assert(rd_kafka_mock_broker_set_down(w.cluster, 1) == 0);
    append_some(&w, 3000);
    wait_up(&w, false);
    mr_assert(stats_of(&w).cursor_seq < w.appended);
    usleep(1500000); /* sleep: time to say it again, which it must not */
    mr_assert(rd_kafka_mock_broker_set_up(w.cluster, 1) == 0);
    wait_settled(&w);
    mr_assert(stats_of(&w).up);
    check_all(&w, false);
    mr_assert(lines_away == 1 && lines_back == 1);
    then_it_is_silent(&w);
    world_close(&w);
    mr_assert(lines_away == 2 && lines_back == 2);
}

/* Until both topics hold all that was appended. */
static void wait_written(const struct world *w)
{
    rd_kafka_t *reader = reader_open(w);
    int64_t written;

    do {
        written = 0;
        for (int i = 0; i < PARTITIONS * 2; i++) {
            int64_t low = 0;
            int64_t high = 0;
            mr_assert(rd_kafka_query_watermark_offsets(reader, topic_at(i), i / 2, &low, &high,
                                                       WAIT_S * 1000) == 0);
            written += high;
        }
    } while (written < (int64_t)w->appended);
    reader_close(reader);
}

/* A busy machine: that records were confirmed, and that all brokers are gone since, is heard in one
 * turn.  librdkafka does not say it again.
 */
static void test_confirmed_and_gone_in_one_turn(void)
{
    struct world w;

    world_open(&w);
    world_start(&w);
    append_some(&w, 1000);
    wait_settled(&w);
    polls_held = true;
    append_some(&w, 500);
    wait_written(&w);
    mr_assert(rd_kafka_mock_broker_set_down(w.cluster, 1) == 0);
    append_some(&w, 500);
    usleep(500000); /* sleep: what librdkafka notices only a poll would tell */
    polls_held = false;
    wait_up(&w, false);
    mr_assert(lines_away == 1 && lines_stalled == 0);
    mr_assert(rd_kafka_mock_broker_set_up(w.cluster, 1) == 0);
    wait_settled(&w);
    wait_up(&w, true);
    check_all(&w, false);
    world_close(&w);
}

static void test_waits_for_brokers_that_are_down_at_start(void)
{
    struct world w;

    world_open(&w);
    mr_assert(rd_kafka_mock_broker_set_down(w.cluster, 1) == 0);
    world_start(&w);
    append_some(&w, 500);
    for (int i = 0; i < WAIT_S * 100 && lines_away == 0; i++) {
        usleep(10000); /* sleep: the state tells nobody when it changes */
    }
    mr_assert(lines_away == 1 && stats_of(&w).last_error[0] != '\0');
    mr_assert(rd_kafka_mock_broker_set_up(w.cluster, 1) == 0);
    wait_settled(&w);
    mr_assert(check_all(&w, false) == 0);
    world_close(&w);
    mr_assert(lines_away == 1 && lines_back == 1);
}

/* Without a single event: it still notices both. */
static void test_notices_absence_when_idle(void)
{
    struct world w;

    world_open(&w);
    mr_assert(rd_kafka_mock_broker_set_down(w.cluster, 1) == 0);
    world_start(&w);
    for (int i = 0; i < WAIT_S * 100 && lines_away == 0; i++) {
        usleep(10000); /* sleep: the state tells nobody when it changes */
    }
    mr_assert(lines_away == 1);
    mr_assert(rd_kafka_mock_broker_set_up(w.cluster, 1) == 0);
    wait_up(&w, true);
    world_close(&w);
    mr_assert(lines_away == 1 && lines_back == 1);
}

/* Stopped while Kafka is away, started again when it is back. */
static void test_goes_on_after_a_restart(void)
{
    struct world w;

    world_open(&w);
    world_start(&w);
    append_some(&w, 2000);
    wait_settled(&w);
    mr_assert(rd_kafka_mock_broker_set_down(w.cluster, 1) == 0);
    append_some(&w, 2000);
    wait_up(&w, false);
    int64_t begin_ns = mr_clock_mono_ns();
    world_stop(&w);
    mr_assert(mr_clock_mono_ns() - begin_ns < (int64_t)5 * 1000000000);
    mr_assert(rd_kafka_mock_broker_set_up(w.cluster, 1) == 0);
    world_start(&w);
    wait_settled(&w);
    check_all(&w, false);
    world_close(&w);
}

/* Too large, and a topic that Kafka could not have: dead letters, the rest goes on. */
static void test_puts_the_impossible_aside(void)
{
    static uint8_t large[1500000];
    struct world w;

    world_open(&w);
    world_start(&w);
    append_some(&w, 100);
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .client = mr_span_of("device-1"),
        .topic = mr_span_of("plant/kind0"),
        .payload = mr_span_make(large, sizeof(large)),
    };
    append_record(&w, &record); /* 101: the pipeline sees that it is too large */
    record.payload.len = 1048580;
    append_record(&w, &record); /* 102: with its key it is, which only librdkafka sees */
    record.payload.len = 1;
    record.topic = mr_span_of("nolevel");
    append_record(&w, &record); /* 103 */
    append_some(&w, 100);
    wait_settled(&w);
    struct mr_bridge_stats stats = stats_of(&w);
    mr_assert(stats.dead_letters == 3 && stats.delivered == 200);
    mr_assert(stats.retries == 0);
    world_close(&w);
}

static const struct {
    const char *name;
    const char *value;
    const char *part;
} bad_options[] = {
    {"acks", "1", "kafka_options: 'acks' cannot be set: the gateway forgets an event"},
    {"enable.idempotence", "false", "cannot be set"},
    {"message.timeout.ms", "1000", "cannot be set: a record must never time out"},
    {"delivery.timeout.ms", "1000", "cannot be set"},
    {"transactional.id", "x", "cannot be set"},
    {"linger.ms", "1", "use `linger`"},
    {"no.such.property", "1", "librdkafka has no property 'no.such.property'"},
    {"socket.timeout.ms", "abc", "librdkafka: "},
};

enum { FAULT_BYTES = 512 };

static void keep_fault(void *arg, const char *fault)
{
    struct mr_text text = mr_text_over(arg, FAULT_BYTES);

    mr_text_add(&text, fault);
}

static void test_checks_the_configuration(void)
{
    struct mr_kafka_conf good = {.servers = "127.0.0.1:1",
                                 .topic = "t",
                                 .message_key = "${clientid}",
                                 .client_id = "x",
                                 .max_topics = 1};
    char fault[FAULT_BYTES];

    for (size_t i = 0; i < MR_COUNT_OF(bad_options); i++) {
        struct mr_kafka_conf conf = good;
        struct mr_pair pair = {.name = bad_options[i].name, .value = bad_options[i].value};
        conf.kafka_options = (struct mr_pairs){.items = &pair, .count = 1};
        mr_assert(mr_bridge_check(&bridge_conf, &mr_kafka_sink, &conf, keep_fault, fault) == 1);
        if (strstr(fault, bad_options[i].part) == NULL) {
            printf("%s: %s\n", bad_options[i].name, fault);
            mr_assert(false);
        }
    }
    struct mr_kafka_conf conf = good;
    conf.topic = "sensor data";
    mr_assert(mr_bridge_check(&bridge_conf, &mr_kafka_sink, &conf, keep_fault, fault) == 1);
    mr_assert(strstr(fault, "topic: 'sensor data': a Kafka topic consists of") != NULL);
    conf = good;
    conf.ssl.enable = true;
    conf.ssl.cacertfile = "/nowhere/ca.crt";
    mr_assert(mr_bridge_check(&bridge_conf, &mr_kafka_sink, &conf, keep_fault, fault) == 1);
    mr_assert(strcmp(fault, "ssl.cacertfile: there is no file /nowhere/ca.crt") == 0);
    conf.ssl.cacertfile = "/dev/null"; /* there, but no certificate */
    mr_assert(mr_bridge_check(&bridge_conf, &mr_kafka_sink, &conf, keep_fault, fault) == 1);
    mr_assert(strncmp(fault, "ssl: librdkafka: ssl.ca.location failed", 39) == 0);
}

static void test_says_that_nothing_is_confirmed(void)
{
    struct world w;

    world_open(&w);
    world_is_impatient(&w);
    world_start(&w);
    world_stalls(&w);
    world_close(&w);
    mr_assert(lines_back == 1);
}

/* librdkafka's timed waits are those of os/posix/thread.c. */
static void test_whose_waits(void)
{
    mr_assert(dlsym(RTLD_DEFAULT, "cnd_timedwait") == (void *)(uintptr_t)cnd_timedwait);
}

int main(void)
{
    mr_log_set_writer(count_lines);
    test_whose_waits();
    test_checks_the_configuration();
    test_delivers_in_order_and_exactly_what_came();
    test_survives_errors_of_brokers(RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, false);
    test_survives_errors_of_brokers(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, true);
    test_survives_errors_of_brokers(RD_KAFKA_RESP_ERR_INVALID_RECORD, true);
    test_survives_errors_of_brokers(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, true);
    test_survives_errors_of_brokers(RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, true);
    test_puts_the_impossible_aside();
    test_condemns_what_is_refused_alone();
    test_condemns_only_what_is_refused();
    test_what_is_passed_over_is_refused_no_longer(REFUSED_PRODUCE);
    test_what_is_passed_over_is_refused_no_longer(REFUSED_METADATA);
    test_the_impossible_becomes_possible();
    test_a_limit_that_is_not_told_is_asked_for_again();
    test_a_limit_that_is_never_told_is_asked_for_less();
    test_a_topic_is_made_before_limits_are_known();
    test_waits_while_brokers_are_down();
    test_confirmed_and_gone_in_one_turn();
    test_waits_for_brokers_that_are_down_at_start();
    test_notices_absence_when_idle();
    test_goes_on_after_a_restart();
    test_says_that_nothing_is_confirmed();
    return 0;
}
