/* bench_batch.h - Kafka's record batches and produce requests, written by ourselves.
 *
 * As little as an experiment needs: RecordBatch v2 without producer id, Produce v7, LZ4 frames.
 * The format is Kafka's, "Record Batch" and "Produce API" of its protocol guide.
 *
 * Thread: one.  Memory: the caller's buffers.
 */
#ifndef MR_BENCH_BENCH_BATCH_H
#define MR_BENCH_BENCH_BATCH_H

#include "bench.h"

enum { BENCH_BATCH_HEADER_BYTES = 61 };

/* A record; `header_len` 0: none. */
struct bench_record {
    int64_t time_ms;
    const void *key;
    size_t key_len;
    const void *value;
    size_t value_len;
    const char *header_name;
    const void *header;
    size_t header_len;
};

/* A batch that is being written into `at`, which has `room` bytes. */
struct bench_batch {
    uint8_t *at;
    size_t room;
    size_t len; /* with the header's room */
    uint32_t count;
    int64_t first_ms;
    int64_t last_ms;
};

void bench_batch_begin(struct bench_batch *batch, uint8_t *at, size_t room);

/* False: there is no room for it. */
bool bench_batch_add(struct bench_batch *batch, const struct bench_record *record);

/* Header and checksum.  Returns the bytes of the whole batch. */
size_t bench_batch_end(struct bench_batch *batch);

/* The same with the records compressed by LZ4 into `into`, of `into_room` bytes. */
size_t bench_batch_end_lz4(struct bench_batch *batch, uint8_t *into, size_t into_room);

/* A bound of what bench_batch_end_lz4() needs for a batch of `bytes`. */
size_t bench_batch_lz4_room(size_t bytes);

#endif
