/* test_hash.c
 * links: base
 *
 * Goal:   the three hashes are the published ones, bit for bit: crc32c because
 *         files outlive programs, murmur2 because Kafka Streams computes it too.
 * Method: vectors of RFC 3720 (appendix B.4), of the Java client
 *         (UtilsTest.testMurmur2), and of the SipHash-1-3 that Rust's library
 *         tests itself with; then chaining and unaligned starts.
 */
#include "base/hash.h"
#include "base/rng.h"

static void test_crc32c_rfc3720(void)
{
    static const uint8_t read_pdu[48] = {
        0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02,
    };
    uint8_t bytes[32] = {0};

    mr_assert(mr_crc32c(0, bytes, 0) == 0);
    mr_assert(mr_crc32c(0, "123456789", 9) == 0xe3069283u);
    mr_assert(mr_crc32c(0, bytes, 32) == 0x8a9136aau);
    memset(bytes, 0xff, sizeof(bytes));
    mr_assert(mr_crc32c(0, bytes, 32) == 0x62a8ab43u);
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)i;
    }
    mr_assert(mr_crc32c(0, bytes, 32) == 0x46dd794eu);
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)(31 - i);
    }
    mr_assert(mr_crc32c(0, bytes, 32) == 0x113fdb5cu);
    mr_assert(mr_crc32c(0, read_pdu, sizeof(read_pdu)) == 0xd9963a56u);
}

static void test_crc32c_chains_at_every_cut(void)
{
    uint8_t bytes[300];
    struct mr_rng rng;

    mr_rng_seed(&rng, 1);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)mr_rng_u64(&rng);
    }
    uint32_t whole = mr_crc32c(0, bytes, sizeof(bytes));
    for (size_t cut = 0; cut <= sizeof(bytes); cut++) {
        uint32_t first = mr_crc32c(0, bytes, cut);
        mr_assert(mr_crc32c(first, bytes + cut, sizeof(bytes) - cut) == whole);
    }
    bytes[150] ^= 0x10;
    mr_assert(mr_crc32c(0, bytes, sizeof(bytes)) != whole);
}

static void test_murmur2_is_the_java_client_s(void)
{
    static const struct {
        const char *key;
        int32_t hash;
    } vectors[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
        {"", 275646681},
    };

    for (size_t i = 0; i < MR_COUNT_OF(vectors); i++) {
        const char *key = vectors[i].key;
        mr_assert((int32_t)mr_murmur2(key, strlen(key)) == vectors[i].hash);
    }
    /* toPositive clears the sign bit; it does not negate. */
    mr_assert(mr_kafka_partition("21", 2, 12) == (int32_t)((-973932308 & 0x7fffffff) % 12));
    mr_assert(mr_kafka_partition("abc", 3, 7) == 479470107 % 7);
}

static void test_siphash_1_3(void)
{
    static const struct {
        size_t len;
        uint64_t hash;
    } vectors[] = {
        {0, 0xabac0158050fc4dcu},  {1, 0xc9f49bf37d57ca93u},  {4, 0xcf75576088d38328u},
        {7, 0xd3927d989bb11140u},  {8, 0x369095118d299a8eu},  {9, 0x25a48eb36c063de4u},
        {15, 0xd320d86d2a519956u}, {16, 0xcc4fdd1a7d908b66u}, {63, 0x9d199062b7bbb3a8u},
    };
    struct mr_hash_key key = {.k0 = 0x0706050403020100u, .k1 = 0x0f0e0d0c0b0a0908u};
    uint8_t message[72];

    for (size_t shift = 0; shift < 8; shift++) { /* at every alignment */
        for (unsigned i = 0; i < 64; i++) {
            message[shift + i] = (uint8_t)i;
        }
        for (size_t i = 0; i < MR_COUNT_OF(vectors); i++) {
            mr_assert(mr_siphash(&key, message + shift, vectors[i].len) == vectors[i].hash);
        }
    }
    key.k1 ^= 1;
    mr_assert(mr_siphash(&key, message, 0) != vectors[0].hash);
}

int main(void)
{
    test_crc32c_rfc3720();
    test_crc32c_chains_at_every_cut();
    test_murmur2_is_the_java_client_s();
    test_siphash_1_3();
    return 0;
}
