/* hash.h - the three hashes, each for one purpose.
 *
 * crc32c     is it what was written?  (journal batches; CRC-32C, Castagnoli)
 * siphash    tables whose keys an attacker chooses; keyed, never on disk
 *            except where the key is kept beside it
 * murmur2    which Kafka partition?  bit-identical to the Java client's
 *            org.apache.kafka.common.utils.Utils.murmur2
 *
 * Thread: pure functions.   Memory: none.
 * Time:   crc32c ~0.1 ns per byte (ISA-L); siphash ~1 ns per byte.
 */
#ifndef MR_BASE_HASH_H
#define MR_BASE_HASH_H

#include "base/span.h"

/* CRC-32C of `len` bytes, going on from `crc` (0 to begin). */
uint32_t mr_crc32c(uint32_t crc, const void *at, size_t len);

struct mr_hash_key {
    uint64_t k0;
    uint64_t k1;
};

/* SipHash-1-3. */
uint64_t mr_siphash(const struct mr_hash_key *key, const void *at, size_t len);

/* The Java client's murmur2 with its fixed seed 0x9747b28c. */
uint32_t mr_murmur2(const void *at, size_t len);

/* toPositive(murmur2(key)) % partitions, as BuiltInPartitioner does. */
static inline int32_t mr_kafka_partition(const void *key, size_t len, int32_t partition_count)
{
    return (int32_t)((mr_murmur2(key, len) & 0x7fffffffu) % (uint32_t)partition_count);
}

#endif
