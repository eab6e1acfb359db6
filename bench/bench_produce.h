/* bench_produce.h - produce requests of our own: one connection to one broker.
 *
 * As little as an experiment needs: Produce v7, acks=all, one topic, a broker that leads all of its
 * partitions.  The format is Kafka's, "Produce API" of its protocol guide.  What goes wrong ends
 * the process with its cause.
 *
 * Thread: one.  Memory: the caller's buffers.
 */
#ifndef MR_BENCH_BENCH_PRODUCE_H
#define MR_BENCH_BENCH_PRODUCE_H

#include "bench.h"

enum {
    BENCH_PRODUCE_HEAD_MAX = 512,
    BENCH_PRODUCE_PART_BYTES = 8,
    BENCH_PRODUCE_PARTITIONS_MAX = 64,
    BENCH_PRODUCE_IN_FLIGHT = 5, /* requests, as librdkafka has by default */
    BENCH_PRODUCE_TOPIC_MAX = 249,
};

/* A connection to the broker at `servers` (host:port). */
int bench_produce_connect(const char *servers);

/* What stands before the batches of `parts` partitions, which take `batches` bytes with what
 * stands before each of them.  Returns its bytes.  Answers come in the order of requests.
 */
size_t bench_produce_head(uint8_t *at, const char *topic, uint32_t parts, size_t batches);

/* What stands before the batch of one partition: BENCH_PRODUCE_PART_BYTES. */
void bench_produce_part(uint8_t *at, uint32_t partition, size_t batch_bytes);

void bench_produce_send(int fd, const void *bytes, size_t len);

/* Wait for one answer: each of its partitions took its batch.  Returns how many they are. */
uint32_t bench_produce_answer(int fd);

#endif
