/* bench_batch.h - Kafka's record batches, written by ourselves.
 *
 * As little as an experiment needs: RecordBatch v2 without producer id, LZ4 frames.  The format
 * is Kafka's, "Record Batch" of its protocol guide.
 *
 *     begin ─▶ add, record by record ─▶ [compress ─▶] seal ─▶ bench_produce.h
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
    size_t header_name_len;
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

/* A bound of the bytes that bench_batch_compress() needs for a batch of `bytes`. */
size_t bench_batch_compressed_max(size_t bytes);

/* The records, compressed by LZ4, behind room for the header.  Returns the bytes of both. */
size_t bench_batch_compress(const struct bench_batch *batch, uint8_t *into, size_t room);

/* Write header and checksum of the batch whose `len` bytes are at `at`: its own, or what
 * bench_batch_compress() has written.
 */
void bench_batch_seal(const struct bench_batch *batch, uint8_t *at, size_t len);

#endif
