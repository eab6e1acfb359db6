/* cost_kafka.c - records through the Kafka sink, for who counts instructions (cost.py).
 *
 *     journal ─▶ bridge ─▶ sink/kafka ─▶ librdkafka ─▶ its mock cluster ─▶ reports ─▶ settled
 *
 * librdkafka's threads and sockets are real, so what is counted of a whole run is not the same
 * each time.  What the sink does for each record is: cost.py looks at those functions alone.
 * One topic, 17 devices in turn; all records are in the journal before the bridge begins.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* this needs a part of the world */
#include "../unit/kafka_world.h"

int main(int argc, char **argv)
{
    struct world w;
    uint64_t count = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;

    if (count == 0) {
        (void)fprintf(stderr, "cost_kafka: RECORDS\n");
        return 64;
    }
    mr_log_set_writer(count_lines);
    world_open(&w);
    while (w.appended < count) {
        append_event(&w, "plant/kind0");
    }
    make_durable(&w);
    world_start(&w);
    wait_settled(&w);
    world_close(&w);
    (void)printf("%llu\n", (unsigned long long)count);
    return 0;
}
