/* bench_batch.c - see bench_batch.h. */
#include "bench_batch.h"

#include "base/hash.h"

#include <lz4frame.h>

enum {
    LENGTH_AT = 8,
    MAGIC_AT = 16,
    CRC_AT = 17,
    ATTRIBUTES_AT = 21,
    LAST_OFFSET_AT = 23,
    FIRST_TIME_AT = 27,
    LAST_TIME_AT = 35,
    PRODUCER_AT = 43,
    COUNT_AT = 57,
    ATTRIBUTE_LZ4 = 3,
    RECORD_OVERHEAD_MAX = 64, /* varints and the like of one record */
};

static void be64_put(uint8_t *at, uint64_t number)
{
    mr_put_be32(at, (uint32_t)(number >> 32));
    mr_put_be32(at + 4, (uint32_t)number);
}

static size_t varint_put(uint8_t *at, int64_t number)
{
    uint64_t left = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63); /* zigzag */
    size_t len = 0;

    while (left >= 0x80) {
        at[len++] = (uint8_t)(left | 0x80);
        left >>= 7;
    }
    at[len++] = (uint8_t)left;
    return len;
}

static size_t varint_len(int64_t number)
{
    uint64_t left = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63);
    size_t len = 1;

    for (; left >= 0x80; left >>= 7) {
        len += 1;
    }
    return len;
}

static size_t bytes_put(uint8_t *at, const void *bytes, size_t len)
{
    size_t head = varint_put(at, (int64_t)len);

    memcpy(at + head, bytes, len);
    return head + len;
}

static size_t bytes_len(size_t len)
{
    return varint_len((int64_t)len) + len;
}

void bench_batch_begin(struct bench_batch *batch, uint8_t *at, size_t room)
{
    mr_assert(room > BENCH_BATCH_HEADER_BYTES);
    *batch = (struct bench_batch){.at = at, .room = room, .len = BENCH_BATCH_HEADER_BYTES};
}

bool bench_batch_add(struct bench_batch *batch, const struct bench_record *record)
{
    const size_t name_len = record->header_len == 0 ? 0 : strlen(record->header_name);
    size_t most = record->key_len + record->value_len + name_len + record->header_len;

    if (batch->len + most + RECORD_OVERHEAD_MAX > batch->room) {
        return false;
    }
    if (batch->count == 0) {
        batch->first_ms = record->time_ms;
    }
    int64_t time_delta = record->time_ms - batch->first_ms;
    size_t body = 1 + varint_len(time_delta) + varint_len(batch->count) +
                  bytes_len(record->key_len) + bytes_len(record->value_len) + 1;
    if (record->header_len > 0) {
        body += bytes_len(name_len) + bytes_len(record->header_len);
    }
    uint8_t *at = batch->at + batch->len;

    at += varint_put(at, (int64_t)body);
    *at++ = 0; /* attributes */
    at += varint_put(at, time_delta);
    at += varint_put(at, batch->count);
    at += bytes_put(at, record->key, record->key_len);
    at += bytes_put(at, record->value, record->value_len);
    at += varint_put(at, record->header_len > 0 ? 1 : 0);
    if (record->header_len > 0) {
        at += bytes_put(at, record->header_name, name_len);
        at += bytes_put(at, record->header, record->header_len);
    }
    batch->len = (size_t)(at - batch->at);
    batch->count += 1;
    batch->last_ms = record->time_ms > batch->last_ms ? record->time_ms : batch->last_ms;
    return true;
}

static void batch_header_put(const struct bench_batch *batch, uint8_t *at, size_t len,
                             uint16_t attributes)
{
    mr_assert(batch->count > 0);
    memset(at, 0, BENCH_BATCH_HEADER_BYTES); /* base offset and leader epoch are the broker's */
    mr_put_be32(at + LENGTH_AT, (uint32_t)(len - LENGTH_AT - 4));
    at[MAGIC_AT] = 2;
    mr_put_be16(at + ATTRIBUTES_AT, attributes);
    mr_put_be32(at + LAST_OFFSET_AT, batch->count - 1);
    be64_put(at + FIRST_TIME_AT, (uint64_t)batch->first_ms);
    be64_put(at + LAST_TIME_AT, (uint64_t)batch->last_ms);
    memset(at + PRODUCER_AT, 0xff, COUNT_AT - PRODUCER_AT); /* no producer: id, epoch, sequence */
    mr_put_be32(at + COUNT_AT, batch->count);
    mr_put_be32(at + CRC_AT, mr_crc32c(0, at + ATTRIBUTES_AT, len - ATTRIBUTES_AT));
}

size_t bench_batch_end(struct bench_batch *batch)
{
    batch_header_put(batch, batch->at, batch->len, 0);
    return batch->len;
}

size_t bench_batch_lz4_room(size_t bytes)
{
    return BENCH_BATCH_HEADER_BYTES + LZ4F_compressFrameBound(bytes, NULL);
}

size_t bench_batch_end_lz4(struct bench_batch *batch, uint8_t *into, size_t into_room)
{
    /* Kafka reads blocks that do not depend on each other. */
    const LZ4F_preferences_t how = {.frameInfo = {.blockMode = LZ4F_blockIndependent}};
    size_t done = LZ4F_compressFrame(
        into + BENCH_BATCH_HEADER_BYTES, into_room - BENCH_BATCH_HEADER_BYTES,
        batch->at + BENCH_BATCH_HEADER_BYTES, batch->len - BENCH_BATCH_HEADER_BYTES, &how);

    if (LZ4F_isError(done)) {
        bench_fail("LZ4: %s", LZ4F_getErrorName(done));
    }
    batch_header_put(batch, into, BENCH_BATCH_HEADER_BYTES + done, ATTRIBUTE_LZ4);
    return BENCH_BATCH_HEADER_BYTES + done;
}
