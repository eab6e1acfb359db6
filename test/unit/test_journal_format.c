/* test_journal_format.c
 *
 * Goal:   the bytes are those of docs/JOURNAL.md, what is put is got, and the
 *         predicate refuses everything that is not a whole valid batch.
 * Method: vectors written out by hand; a batch with each of its bits flipped and
 *         cut at each byte; random records of every type, round trip and truncated.
 *
 * links: journal os base
 */
#include "base/hash.h"
#include "base/rng.h"
#include "journal/format.h"

#include <stdio.h>
#include <stdlib.h>

static const struct mr_segment_header segment = {
    .journal_id = {{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x47, 0x08, 0x89, 0x0a, 0x0b, 0x0c, 0x0d,
                    0x0e, 0x0f, 0x10}},
    .seq_first = 524289,
    .created_us = 1700000000000000,
    .epoch = 2,
    .salt = 0xdeadbeef,
    .segment_bytes = 65536,
    .lane = 3,
};

/* ---- vectors ---- */

static void test_id_text(void)
{
    char text[37];

    mr_journal_id_text(&segment.journal_id, text);
    mr_assert(strcmp(text, "01020304-0506-4708-890a-0b0c0d0e0f10") == 0);
}

static void test_segment_header_vector(void)
{
    static const uint8_t head[60] = {
        'M',  'R',  'S',  'E',  'G',  'M',  'N',  'T',  1,    0,    3,    0,    2,    0,    0,
        0,    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x47, 0x08, 0x89, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e,
        0x0f, 0x10, 1,    0,    8,    0,    0,    0,    0,    0,    0x00, 0x40, 0x1e, 0x18, 0x24,
        0x0a, 0x06, 0x00, 0xef, 0xbe, 0xad, 0xde, 0,    0,    1,    0,    0,    0,    0,    0,
    };
    uint8_t bytes[64];
    struct mr_segment_header got;

    mr_segment_header_put(&segment, bytes);
    mr_assert(memcmp(bytes, head, sizeof(head)) == 0);
    mr_assert(mr_get_u32(bytes + 60) == mr_crc32c(0, bytes, 60));
    mr_assert(mr_segment_header_get(bytes, &got) == MR_OK);
    mr_assert(got.seq_first == segment.seq_first && got.created_us == segment.created_us);
    mr_assert(got.epoch == 2 && got.lane == 3 && got.salt == segment.salt);
    mr_assert(got.segment_bytes == 65536);
    mr_assert(memcmp(&got.journal_id, &segment.journal_id, sizeof(got.journal_id)) == 0);
    for (unsigned bit = 0; bit < 64 * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        mr_assert(mr_segment_header_get(bytes, &got) == MR_ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_newer_version_is_refused_politely(void)
{
    uint8_t bytes[64];
    struct mr_segment_header got;

    mr_segment_header_put(&segment, bytes);
    mr_put_u16(bytes + 8, MR_FORMAT_VERSION + 1);
    mr_put_u32(bytes + 60, mr_crc32c(0, bytes, 60));
    mr_assert(mr_segment_header_get(bytes, &got) == MR_ERR_CONFIG);
}

static void test_record_vector(void)
{
    static const uint8_t define[] = {
        24,  1,   0x1d, /* length; event; QoS 1, RETAIN, properties, define */
        4,              /* 2 us after the time base */
        5,              /* name id */
        2,   'd', '7',  0,   3,   't', '/', '1', /* client, no user, topic */
        3,   1,   2,    3,                       /* properties */
        '{', '"', 'v',  '"', ':', '1', '}', ' ',
    };
    static const uint8_t reference[] = {
        8, 1,    0x42, /* QoS 2 with its packet id; reference */
        3,             /* 2 us before */
        5, 0x34, 0x12, 'h', 'i',
    };
    struct mr_record_raw record = {
        .type = MR_RECORD_EVENT,
        .received_us = 102,
        .client = mr_span_of("d7"),
        .username = mr_span_of(""),
        .topic = mr_span_of("t/1"),
        .properties = mr_span_make("\1\2\3", 3),
        .payload = mr_span_of("{\"v\":1} "),
        .naming = MR_NAMING_DEFINE,
        .name_id = 5,
        .qos = 1,
        .retain = true,
    };
    uint8_t bytes[64];
    const uint8_t *payload;

    mr_assert(mr_record_size(&record, 100) == sizeof(define));
    uint8_t *end = mr_record_put(bytes, &record, 100, &payload);
    mr_assert((size_t)(end - bytes) == sizeof(define));
    mr_assert(memcmp(bytes, define, sizeof(define)) == 0);
    mr_assert(payload == bytes + sizeof(define) - 8);

    record = (struct mr_record_raw){
        .type = MR_RECORD_EVENT,
        .received_us = 98,
        .payload = mr_span_of("hi"),
        .naming = MR_NAMING_REFERENCE,
        .name_id = 5,
        .packet_id = 0x1234,
        .qos = 2,
    };
    end = mr_record_put(bytes, &record, 100, NULL);
    mr_assert((size_t)(end - bytes) == sizeof(reference));
    mr_assert(memcmp(bytes, reference, sizeof(reference)) == 0);
}

/* ---- batches ---- */

enum { BATCH_POS = 4096, BATCH_SEQ = 1000 };

/* A batch of three events at `bytes`; returns its length. */
static uint32_t batch_make(uint8_t *bytes)
{
    uint8_t *at = bytes + MR_BATCH_HEADER_BYTES;

    for (uint32_t i = 0; i < 3; i++) {
        struct mr_record_raw record = {
            .type = MR_RECORD_EVENT,
            .received_us = 5000 + i,
            .payload = mr_span_of("payload"),
            .naming = MR_NAMING_REFERENCE,
            .name_id = i,
            .qos = 1,
        };
        at = mr_record_put(at, &record, 5000, NULL);
    }
    struct mr_batch_header header = {
        .seq_first = BATCH_SEQ,
        .durable_seq = 990,
        .time_base_us = 5000,
        .byte_length = (uint32_t)(at - bytes),
        .record_count = 3,
        .salt = segment.salt,
        .epoch = segment.epoch,
    };
    mr_batch_header_put(&header, bytes);
    return header.byte_length;
}

static enum mr_err check(const uint8_t *bytes, size_t len, uint64_t pos, uint64_t seq)
{
    struct mr_batch_header header;

    return mr_batch_check(mr_span_make(bytes, len), pos, &segment, seq, &header);
}

static void test_predicate_accepts_and_describes(void)
{
    uint8_t bytes[256] = {0};
    uint32_t len = batch_make(bytes);
    struct mr_batch_header header;

    mr_assert(mr_batch_check(mr_span_make(bytes, sizeof(bytes)), BATCH_POS, &segment, BATCH_SEQ,
                             &header) == MR_OK);
    mr_assert(memcmp(bytes, "MRB1", 4) == 0);
    mr_assert(header.byte_length == len && header.record_count == 3);
    mr_assert(header.seq_first == BATCH_SEQ && header.durable_seq == 990);
    mr_assert(header.time_base_us == 5000 && header.salt == segment.salt && header.epoch == 2);
    mr_assert(mr_batch_next_pos(BATCH_POS, len) == BATCH_POS + (len + 7) / 8 * 8);
}

static void test_predicate_refuses_every_flipped_bit(void)
{
    uint8_t bytes[256] = {0};
    uint32_t len = batch_make(bytes);

    for (unsigned bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        /* A longer byte_length may ask for more; given all there is, it is refused. */
        struct mr_batch_header header;
        static uint8_t whole[65536];
        memcpy(whole, bytes, len);
        mr_assert(mr_batch_check(mr_span_make(whole, sizeof(whole) - BATCH_POS), BATCH_POS,
                                 &segment, BATCH_SEQ, &header) == MR_ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    mr_assert(check(bytes, len, BATCH_POS, BATCH_SEQ) == MR_OK);
}

static void test_predicate_asks_for_what_is_missing(void)
{
    uint8_t bytes[256] = {0};
    uint32_t len = batch_make(bytes);

    for (size_t have = 0; have < len; have++) {
        uint8_t *exact = have == 0 ? NULL : malloc(have); /* so that reading on is noticed */
        struct mr_batch_header header;
        if (exact != NULL) {
            memcpy(exact, bytes, have);
        }
        mr_assert(mr_batch_check(mr_span_make(exact, have), BATCH_POS, &segment, BATCH_SEQ,
                                 &header) == MR_ERR_AGAIN);
        mr_assert(header.byte_length ==
                  (have < MR_BATCH_HEADER_BYTES ? MR_BATCH_HEADER_BYTES : len));
        free(exact);
    }
}

static void test_predicate_rules(void)
{
    uint8_t bytes[256] = {0};
    uint32_t len = batch_make(bytes);

    mr_assert(check(bytes, len, BATCH_POS + 4, BATCH_SEQ) == MR_ERR_CORRUPT);
    mr_assert(check(bytes, len, BATCH_POS - 8, BATCH_SEQ) == MR_ERR_CORRUPT);
    mr_assert(check(bytes, len, 65536 - 48, BATCH_SEQ) == MR_ERR_CORRUPT);
    mr_assert(check(bytes, len, 65536 - 40, BATCH_SEQ) == MR_ERR_CORRUPT);
    mr_assert(check(bytes, len, UINT64_MAX - 7, BATCH_SEQ) == MR_ERR_CORRUPT);
    mr_assert(check(bytes, len, BATCH_POS, BATCH_SEQ + 1) == MR_ERR_CORRUPT);
    mr_assert(check(bytes, len, BATCH_POS, 0) == MR_OK);
    mr_assert(check(bytes, len, 8192, BATCH_SEQ) == MR_OK);

    /* Counts and lengths that lie, with a checksum that agrees. */
    struct mr_batch_header header;
    mr_batch_header_read(bytes, &header);
    header.record_count = 0;
    mr_batch_header_put(&header, bytes);
    mr_assert(check(bytes, len, BATCH_POS, BATCH_SEQ) == MR_ERR_CORRUPT);
    header.record_count = 1000000;
    mr_batch_header_put(&header, bytes);
    mr_assert(check(bytes, len, BATCH_POS, BATCH_SEQ) == MR_ERR_CORRUPT);

    /* Whole, but of an earlier life of the file, or of another layout. */
    header.record_count = 3;
    header.salt = segment.salt + 1;
    mr_batch_header_put(&header, bytes);
    mr_assert(check(bytes, len, BATCH_POS, BATCH_SEQ) == MR_ERR_CORRUPT);
    header.salt = segment.salt;
    header.epoch = segment.epoch + 1;
    mr_batch_header_put(&header, bytes);
    mr_assert(check(bytes, len, BATCH_POS, BATCH_SEQ) == MR_ERR_CORRUPT);
    header.epoch = segment.epoch;
    mr_batch_header_put(&header, bytes);
    mr_assert(check(bytes, len, BATCH_POS, BATCH_SEQ) == MR_OK);
}

/* A gap is one record for many seqs: rule 3 asks for one record only. */
static void test_predicate_accepts_a_gap(void)
{
    uint8_t bytes[128] = {0};
    uint8_t body[16];
    struct mr_record_raw gap = {.type = MR_RECORD_GAP, .received_us = 7};
    struct mr_record_raw got;

    gap.body = mr_span_make(body, (size_t)(mr_put_varint(body, 1000000) - body) + 1);
    body[gap.body.len - 1] = 2;
    uint8_t *end = mr_record_put(bytes + MR_BATCH_HEADER_BYTES, &gap, 7, NULL);
    struct mr_batch_header header = {
        .seq_first = 50,
        .byte_length = (uint32_t)(end - bytes),
        .record_count = 1000000,
        .salt = segment.salt,
        .epoch = segment.epoch,
    };
    mr_batch_header_put(&header, bytes);
    mr_assert(check(bytes, sizeof(bytes), BATCH_POS, 50) == MR_OK);
    struct mr_take take = mr_take_from(
        mr_span_make(bytes + MR_BATCH_HEADER_BYTES, (size_t)(end - bytes) - MR_BATCH_HEADER_BYTES));
    mr_assert(mr_record_get(&take, 7, &got) == MR_OK);
    mr_assert(got.type == MR_RECORD_GAP && mr_span_equal(got.body, gap.body));
}

/* ---- random records ---- */

static uint8_t noise[2048];

static struct mr_span random_span(struct mr_rng *rng, size_t max)
{
    size_t len = (size_t)mr_rng_below(rng, max + 1);

    return mr_span_make(noise + mr_rng_below(rng, sizeof(noise) - len), len);
}

static struct mr_record_raw random_record(struct mr_rng *rng)
{
    static const uint8_t types[] = {1, 1, 1, 2, 3, 4, 5, 5, 99};
    struct mr_record_raw record = {
        .type = types[mr_rng_below(rng, sizeof(types))],
        .received_us = (int64_t)mr_rng_u64(rng) >> mr_rng_below(rng, 63),
    };

    if (record.type != MR_RECORD_EVENT && record.type != MR_RECORD_DEAD_LETTER) {
        record.body = random_span(rng, 300);
        return record;
    }
    record.naming = (uint8_t)mr_rng_below(rng, 3);
    if (record.naming != MR_NAMING_INLINE) {
        record.name_id = (uint32_t)mr_rng_below(rng, MR_NAMES_MAX);
    }
    if (record.naming != MR_NAMING_REFERENCE) {
        record.client = random_span(rng, 200);
        record.username = random_span(rng, 20);
        record.topic = random_span(rng, 200);
    }
    record.properties = random_span(rng, 150);
    record.payload = random_span(rng, 1000);
    record.qos = (uint8_t)mr_rng_below(rng, 3);
    record.packet_id = record.qos == 2 ? (uint16_t)mr_rng_u64(rng) : 0;
    record.retain = mr_rng_below(rng, 2) == 0;
    record.will = mr_rng_below(rng, 2) == 0;
    if (record.type == MR_RECORD_DEAD_LETTER) {
        record.dead_lane = (uint32_t)mr_rng_u64(rng);
        record.dead_epoch = (uint32_t)mr_rng_u64(rng);
        record.dead_seq = mr_rng_u64(rng);
        record.dead_bridge = random_span(rng, 50);
        record.dead_reason = random_span(rng, 300);
    }
    return record;
}

static void check_same(const struct mr_record_raw *a, const struct mr_record_raw *b)
{
    mr_assert(a->type == b->type && a->received_us == b->received_us);
    mr_assert(mr_span_equal(a->body, b->body));
    mr_assert(a->naming == b->naming && a->name_id == b->name_id && a->qos == b->qos);
    mr_assert(a->retain == b->retain && a->will == b->will && a->packet_id == b->packet_id);
    mr_assert(mr_span_equal(a->client, b->client) && mr_span_equal(a->username, b->username));
    mr_assert(mr_span_equal(a->topic, b->topic) && mr_span_equal(a->properties, b->properties));
    mr_assert(mr_span_equal(a->payload, b->payload));
    if (a->type == MR_RECORD_DEAD_LETTER) {
        mr_assert(a->dead_lane == b->dead_lane && a->dead_epoch == b->dead_epoch);
        mr_assert(a->dead_seq == b->dead_seq);
        mr_assert(mr_span_equal(a->dead_bridge, b->dead_bridge));
        mr_assert(mr_span_equal(a->dead_reason, b->dead_reason));
    }
}

static void test_random_records(uint64_t seed)
{
    struct mr_rng rng;

    mr_rng_seed(&rng, seed);
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = (uint8_t)mr_rng_u64(&rng);
    }
    for (int i = 0; i < 20000; i++) {
        struct mr_record_raw record = random_record(&rng);
        struct mr_record_raw got;
        int64_t base = (int64_t)mr_rng_u64(&rng) >> mr_rng_below(&rng, 63);
        uint8_t bytes[4096];
        size_t size = mr_record_size(&record, base);

        mr_assert(size <= sizeof(bytes));
        mr_assert(mr_record_put(bytes, &record, base, NULL) == bytes + size);
        struct mr_take take = mr_take_from(mr_span_make(bytes, size));
        mr_assert(mr_record_get(&take, base, &got) == MR_OK && take.at == take.end);
        check_same(&record, &got);

        /* Cut anywhere it does not parse; any bytes at all never read outside. */
        take = mr_take_from(mr_span_make(bytes, (size_t)mr_rng_below(&rng, size)));
        mr_assert(mr_record_get(&take, base, &got) == MR_ERR_CORRUPT);
        bytes[mr_rng_below(&rng, size)] ^= (uint8_t)(1u << mr_rng_below(&rng, 8));
        uint8_t *exact = malloc(size);
        memcpy(exact, bytes, size);
        take = mr_take_from(mr_span_make(exact, size));
        while (take.at != take.end && mr_record_get(&take, base, &got) == MR_OK) {
        }
        free(exact);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_id_text();
    test_segment_header_vector();
    test_newer_version_is_refused_politely();
    test_record_vector();
    test_predicate_accepts_and_describes();
    test_predicate_refuses_every_flipped_bit();
    test_predicate_asks_for_what_is_missing();
    test_predicate_rules();
    test_predicate_accepts_a_gap();
    test_random_records(seed);
    return 0;
}
