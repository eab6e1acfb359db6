/* bench_kafka.h - a Kafka client that reads, and what it asks about one topic.
 *
 * Every function ends the process with a message if it does not work.
 * Thread: one.  Memory: bench_kafka_close() returns it.
 */
#ifndef MR_BENCH_BENCH_KAFKA_H
#define MR_BENCH_BENCH_KAFKA_H

#include "bench.h"

#include <librdkafka/rdkafka.h>

enum { BENCH_PARTITIONS_MAX = 256, BENCH_KAFKA_MS = 30000 };

struct bench_kafka {
    rd_kafka_t *client; /* a consumer at read_committed, without a group */
    const char *topic;
    int32_t partition_count;
};

/* `topic` is borrowed until the end of the process. */
void bench_kafka_open(struct bench_kafka *kafka, const char *servers, const char *topic);
void bench_kafka_close(struct bench_kafka *kafka);

/* Make the topic and wait until every partition has a leader. */
void bench_kafka_create(struct bench_kafka *kafka, uint64_t partitions);
void bench_kafka_delete(struct bench_kafka *kafka);

/* Ask how many partitions it has: 1 to BENCH_PARTITIONS_MAX, in partition_count. */
void bench_kafka_partitions(struct bench_kafka *kafka);

/* The end (or beginning) of every partition, after bench_kafka_partitions(). */
void bench_kafka_offsets(struct bench_kafka *kafka, bool end, int64_t *offsets);

#endif
