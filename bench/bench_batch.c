/* bench_batch.c - see bench_batch.h. */
#include "bench_batch.h"

#include "base/hash.h"

#include <lz4frame.h>

enum {
    LENGTH_AT = 8,
    MAGIC_AT = 16,
    CRC_AT = 17,
    ATTRIBUTES_AT = 21, /* what the checksum covers begins here */
    LAST_OFFSET_AT = 23,
    FIRST_TIME_AT = 27,
    LAST_TIME_AT = 35,
    PRODUCER_AT = 43,
    COUNT_AT = 57,
    ATTRIBUTE_LZ4 = 3,
    RECORD_OVERHEAD_MAX = 64, /* varints and the like of one record */
};

/* Kafka reads blocks that do not depend on each other. */
static const LZ4F_preferences_t how = {.frameInfo = {.blockMode = LZ4F_blockIndependent}};

static void put_be64(uint8_t *at, uint64_t number)
{
    mr_put_be32(at, (uint32_t)(number >> 32));
    mr_put_be32(at + 4, (uint32_t)number);
}

/* Lengths inside records are zigzag varints. */
static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t len)
{
    at = mr_put_varint(at, (uint64_t)len << 1);
    memcpy(at, bytes, len);
    return at + len;
}

static size_t bytes_size(size_t len)
{
    return mr_varint_size((uint64_t)len << 1) + len;
}

void bench_batch_begin(struct bench_batch *batch, uint8_t *at, size_t room)
{
    mr_assert(room > BENCH_BATCH_HEADER_BYTES);
    *batch = (struct bench_batch){.at = at, .room = room, .len = BENCH_BATCH_HEADER_BYTES};
}

bool bench_batch_add(struct bench_batch *batch, const struct bench_record *record)
{
    const bool headed = record->header_len != 0;
    const size_t most = record->key_len + record->value_len + record->header_name_len +
                        record->header_len + RECORD_OVERHEAD_MAX;

    if (batch->len + most > batch->room) {
        return false;
    }
    if (batch->count == 0) {
        batch->first_ms = record->time_ms;
    }
    uint64_t time_delta = mr_zigzag(record->time_ms - batch->first_ms);
    uint64_t index = (uint64_t)batch->count << 1;
    size_t size = 1 + mr_varint_size(time_delta) + mr_varint_size(index) +
                  bytes_size(record->key_len) + bytes_size(record->value_len) + 1;
    if (headed) {
        size += bytes_size(record->header_name_len) + bytes_size(record->header_len);
    }
    uint8_t *at = mr_put_varint(batch->at + batch->len, (uint64_t)size << 1);

    *at++ = 0; /* attributes */
    at = mr_put_varint(at, time_delta);
    at = mr_put_varint(at, index);
    at = put_bytes(at, record->key, record->key_len);
    at = put_bytes(at, record->value, record->value_len);
    *at++ = headed ? 1 << 1 : 0; /* how many headers */
    if (headed) {
        at = put_bytes(at, record->header_name, record->header_name_len);
        at = put_bytes(at, record->header, record->header_len);
    }
    batch->len = (size_t)(at - batch->at);
    batch->count += 1;
    batch->last_ms = record->time_ms > batch->last_ms ? record->time_ms : batch->last_ms;
    return true;
}

size_t bench_batch_compressed_max(size_t bytes)
{
    return BENCH_BATCH_HEADER_BYTES + LZ4F_compressFrameBound(bytes, &how);
}

size_t bench_batch_compress(const struct bench_batch *batch, uint8_t *into, size_t room)
{
    size_t done = LZ4F_compressFrame(
        into + BENCH_BATCH_HEADER_BYTES, room - BENCH_BATCH_HEADER_BYTES,
        batch->at + BENCH_BATCH_HEADER_BYTES, batch->len - BENCH_BATCH_HEADER_BYTES, &how);

    if (LZ4F_isError(done)) {
        bench_fail("LZ4: %s", LZ4F_getErrorName(done));
    }
    return BENCH_BATCH_HEADER_BYTES + done;
}

void bench_batch_seal(const struct bench_batch *batch, uint8_t *at, size_t len)
{
    mr_assert(batch->count > 0);
    memset(at, 0, BENCH_BATCH_HEADER_BYTES); /* base offset and leader epoch are the broker's */
    mr_put_be32(at + LENGTH_AT, (uint32_t)(len - LENGTH_AT - 4));
    at[MAGIC_AT] = 2;
    mr_put_be16(at + ATTRIBUTES_AT, at == batch->at ? 0 : ATTRIBUTE_LZ4);
    mr_put_be32(at + LAST_OFFSET_AT, batch->count - 1);
    put_be64(at + FIRST_TIME_AT, (uint64_t)batch->first_ms);
    put_be64(at + LAST_TIME_AT, (uint64_t)batch->last_ms);
    memset(at + PRODUCER_AT, 0xff, COUNT_AT - PRODUCER_AT); /* no producer: id, epoch, sequence */
    mr_put_be32(at + COUNT_AT, batch->count);
    mr_put_be32(at + CRC_AT, mr_crc32c(0, at + ATTRIBUTES_AT, len - ATTRIBUTES_AT));
}
