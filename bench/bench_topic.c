/* bench_topic.c - make, delete or watch a topic.
 *
 * DESIGN
 *
 * --watch reads nothing: it asks for the ends of the partitions every 2 ms (--every), which
 * costs little, and says when the topic had grown by so many events.  How many that are is given
 * (--watch N), or comes from the ledger that bench_load leaves when its time is over
 * (--watch-ledger FILE).  Offsets are counted, so the markers of transactions are too: at
 * a few hundred a second beside a million events that is less than 0.1 %.
 *
 * Two more things are taken from the same answers: when the topic began to grow (behind an
 * outage that is when the target is back), and the slowest five seconds, because a mean hides a
 * pause.
 */
#include "bench_kafka.h"

#include <stdlib.h>
#include <time.h>

enum { SAMPLES_MAX = 3600, WINDOW_S = 5 };

struct watch {
    struct bench_kafka kafka;
    const char *ledger;
    uint64_t wanted;
    uint64_t timeout_s; /* without growth */
    uint64_t every_ms;

    int64_t begin[BENCH_PARTITIONS_MAX];
    uint64_t grown;
    uint64_t first_grown; /* at the first growth that was seen */
    int64_t first_wall_ns;
    int64_t grown_ns; /* when it grew last */
    int64_t grown_wall_ns;
    int64_t begin_ns;
    uint64_t samples[SAMPLES_MAX]; /* grown, second by second */
    uint64_t sample_count;
};

static void topic_print_offsets(struct watch *run)
{
    bench_kafka_offsets(&run->kafka, true, run->begin);
    for (int32_t p = 0; p < run->kafka.partition_count; p++) {
        (void)printf("%s%d:%lld", p == 0 ? "" : ",", p, (long long)run->begin[p]);
    }
    (void)printf("\n");
}

/* The acknowledged events of all devices, once the ledger is there. */
static void watch_ledger(struct watch *run)
{
    FILE *file = run->ledger == NULL || run->wanted > 0 ? NULL : fopen(run->ledger, "re");
    char line[128];

    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        char *at = line;
        (void)strtoull(at, &at, 10); /* device */
        (void)strtoull(at, &at, 10); /* sent */
        run->wanted += strtoull(at, &at, 10);
    }
    (void)fclose(file);
    if (run->wanted == 0) {
        bench_fail("the ledger '%s' says that nothing was acknowledged", run->ledger);
    }
}

static void watch_look(struct watch *run)
{
    int64_t now[BENCH_PARTITIONS_MAX] = {0};
    uint64_t grown = 0;

    bench_kafka_offsets(&run->kafka, true, now);
    for (int32_t p = 0; p < run->kafka.partition_count; p++) {
        grown += (uint64_t)(now[p] - run->begin[p]);
    }
    int64_t now_ns = bench_mono_ns();
    if (grown != run->grown) {
        run->grown_ns = now_ns;
        run->grown_wall_ns = bench_wall_ns();
        if (run->grown == 0) {
            run->first_grown = grown;
            run->first_wall_ns = run->grown_wall_ns;
        }
    }
    run->grown = grown;
    while (run->sample_count < SAMPLES_MAX &&
           run->begin_ns + (int64_t)run->sample_count * 1000000000 <= now_ns) {
        run->samples[run->sample_count++] = grown;
    }
}

/* Events a second in the slowest window between the first growth and the end; 0: too short. */
static double watch_slowest(const struct watch *run)
{
    uint64_t slowest = UINT64_MAX;
    uint64_t first = 0;

    while (first < run->sample_count && run->samples[first] == 0) {
        first += 1;
    }
    for (uint64_t i = first; i + WINDOW_S < run->sample_count; i++) {
        uint64_t grown = run->samples[i + WINDOW_S] - run->samples[i];
        slowest = grown < slowest ? grown : slowest;
    }
    return slowest == UINT64_MAX ? 0 : (double)slowest / WINDOW_S;
}

static int topic_watch(struct watch *run)
{
    const struct timespec pause = {.tv_sec = (time_t)(run->every_ms / 1000),
                                   .tv_nsec = (long)(run->every_ms % 1000) * 1000000};

    bench_kafka_offsets(&run->kafka, true, run->begin);
    run->begin_ns = bench_mono_ns();
    run->grown_ns = run->begin_ns;
    (void)fprintf(stderr, "watching\n"); /* now the load may begin */
    while (!bench_stopped() && (run->wanted == 0 || run->grown < run->wanted) &&
           bench_mono_ns() - run->grown_ns < (int64_t)run->timeout_s * 1000000000) {
        (void)nanosleep(&pause, NULL);
        watch_look(run);
        watch_ledger(run);
    }
    struct bench_json json = bench_json_open("watch");
    bench_json_u64(&json, "wanted", run->wanted);
    bench_json_u64(&json, "grown", run->grown);
    bench_json_u64(&json, "first_grown", run->first_grown);
    bench_json_u64(&json, "first_wall_ns", (uint64_t)run->first_wall_ns);
    bench_json_u64(&json, "grown_wall_ns", (uint64_t)run->grown_wall_ns);
    bench_json_u64(&json, "end_wall_ns", (uint64_t)bench_wall_ns());
    bench_json_number(&json, "slowest_per_s", watch_slowest(run));
    bench_json_close(&json);
    return run->wanted > 0 && run->grown >= run->wanted ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct watch run = {.timeout_s = 120, .every_ms = 2};
    const char *servers = "127.0.0.1:9092";
    const char *topic = NULL;
    uint64_t create = 0;
    bool remove = false;
    bool offsets = false;
    const struct bench_option table[] = {
        {"servers", BENCH_TEXT, &servers, "Kafka bootstrap servers"},
        {"topic", BENCH_TEXT, &topic, "the topic"},
        {"create", BENCH_U64, &create, "make it with so many partitions"},
        {"delete", BENCH_FLAG, &remove, "delete it"},
        {"offsets", BENCH_FLAG, &offsets, "print the ends of its partitions"},
        {"watch", BENCH_U64, &run.wanted, "wait until it has grown by so many events"},
        {"watch-ledger", BENCH_TEXT, &run.ledger, "the same; the number is in this ledger to come"},
        {"every", BENCH_U64, &run.every_ms, "look once in so many milliseconds"},
        {"timeout", BENCH_U64, &run.timeout_s, "give up after so many seconds without growth"},
        {NULL, BENCH_FLAG, NULL, NULL},
    };
    int code = 0;

    bench_options(argc, argv, "make, delete or watch a topic", table);
    if (topic == NULL ||
        (create == 0) + !remove + !offsets + (run.wanted == 0 && run.ledger == NULL) != 3) {
        bench_fail("--topic is needed, and one of --create, --delete, --offsets and --watch");
    }
    bench_stop_on_signals();
    bench_kafka_open(&run.kafka, servers, topic);
    if (create > 0) {
        bench_kafka_create(&run.kafka, create);
    } else if (remove) {
        bench_kafka_delete(&run.kafka);
    } else {
        bench_kafka_partitions(&run.kafka);
        if (offsets) {
            topic_print_offsets(&run);
        } else {
            code = topic_watch(&run);
        }
    }
    bench_kafka_close(&run.kafka);
    return code;
}
