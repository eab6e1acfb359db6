/* test_journal_control.c
 * links: journal os base
 *
 * Goal:   session records are the bytes of docs/JOURNAL.md, what is put is got, and
 *         nothing that is cut short is taken for whole.
 * Method: vectors written out by hand; every kind round trip, then truncated at each
 *         byte; random bytes.
 */
#include "base/rng.h"
#include "journal/control.h"
#include "journal/format.h"

#include <stdio.h>
#include <stdlib.h>

static void expect(const struct mr_control *control, const void *bytes, size_t len)
{
    uint8_t out[256];
    uint8_t *end = mr_control_put(out, control);

    mr_assert((size_t)(end - out) == len && mr_control_size(control) == len);
    mr_assert(memcmp(out, bytes, len) == 0);
}

static void test_vectors(void)
{
    static const uint8_t pubrel[] = {2, 'd', '7', 0x34, 0x12};
    static const uint8_t open[] = {1,   2 | 4 | 16, 2,  'd', '7', 1,
                                   'u', 60,         20, 0,   5, /* will delay */
                                   1,   'w',        0,  'b', 'y', 'e'};
    static const uint8_t close[] = {2, 32, 2, 'd', '7', 60, 0x80, 0x01};
    static const uint8_t settle[] = {6, 0, 2, 'd', '7', 3, 2, 1, 1};
    uint8_t list[64];
    uint64_t end = 0;

    expect(&(struct mr_control){.kind = MR_CONTROL_PUBREL,
                                .client = mr_span_of("d7"),
                                .packet_id = 0x1234},
           pubrel, sizeof(pubrel));
    mr_assert(mr_control_record_type(MR_CONTROL_PUBREL) == MR_RECORD_PUBREL);
    mr_assert(mr_control_record_type(MR_CONTROL_OPEN) == MR_RECORD_SESSION);
    expect(&(struct mr_control){.kind = MR_CONTROL_OPEN,
                                .flags = MR_CONTROL_HAS_WILL | MR_CONTROL_WILL_RETAIN |
                                         2 << MR_CONTROL_WILL_QOS_SHIFT,
                                .client = mr_span_of("d7"),
                                .username = mr_span_of("u"),
                                .expiry_s = 60,
                                .window = 20,
                                .will_delay_s = 5,
                                .will_topic = mr_span_of("w"),
                                .will_payload = mr_span_of("bye")},
           open, sizeof(open));
    expect(&(struct mr_control){.kind = MR_CONTROL_CLOSE,
                                .flags = MR_CONTROL_WILL_REVOKED,
                                .client = mr_span_of("d7"),
                                .expiry_s = 60,
                                .ordinal = 128},
           close, sizeof(close));
    uint8_t *at = mr_control_run_put(list, &end, 3, 2); /* 3, 4 */
    at = mr_control_run_put(at, &end, 6, 1);
    expect(&(struct mr_control){.kind = MR_CONTROL_SETTLE,
                                .client = mr_span_of("d7"),
                                .list = mr_span_make(list, (size_t)(at - list))},
           settle, sizeof(settle));
}

static void test_lists(void)
{
    static const struct mr_control_filter filters[] = {
        {.filter = {(const uint8_t *)"a/#", 3}, .subscription_id = 300, .qos = 2, .no_local = true},
        {.filter = {(const uint8_t *)"+", 1}, .qos = 1, .retain_as_published = true},
    };
    struct mr_control_filter filter;
    struct mr_control_ref ref = {.seq = 1234567, .lane = 3, .qos = 2};
    struct mr_control_ref got_ref;
    uint8_t list[256];
    uint64_t end = 0;
    uint64_t first;
    uint64_t count;

    for (uint8_t kind = MR_CONTROL_SUBSCRIBE; kind <= MR_CONTROL_UNSUBSCRIBE; kind++) {
        uint8_t *at = list;
        for (size_t i = 0; i < MR_COUNT_OF(filters); i++) {
            uint8_t *before = at;
            at = mr_control_filter_put(at, kind, &filters[i]);
            mr_assert((size_t)(at - before) == mr_control_filter_size(kind, &filters[i]));
        }
        struct mr_take take = mr_take_from(mr_span_make(list, (size_t)(at - list)));
        for (size_t i = 0; i < MR_COUNT_OF(filters); i++) {
            mr_assert(mr_control_filter_next(&take, kind, &filter));
            mr_assert(mr_span_equal(filter.filter, filters[i].filter));
            if (kind == MR_CONTROL_SUBSCRIBE) {
                mr_assert(filter.qos == filters[i].qos && filter.no_local == filters[i].no_local);
                mr_assert(filter.subscription_id == filters[i].subscription_id);
                mr_assert(filter.retain_as_published == filters[i].retain_as_published);
            }
        }
        mr_assert(!mr_control_filter_next(&take, kind, &filter) && !take.failed);
    }
    uint8_t *at = mr_control_ref_put(list, &ref);
    mr_assert((size_t)(at - list) <= MR_CONTROL_REF_BYTES_MAX);
    struct mr_take take = mr_take_from(mr_span_make(list, (size_t)(at - list)));
    mr_assert(mr_control_ref_next(&take, &got_ref));
    mr_assert(got_ref.seq == ref.seq && got_ref.lane == 3 && got_ref.qos == 2);
    mr_assert(!mr_control_ref_next(&take, &got_ref) && !take.failed);

    /* A run that would overflow is refused. */
    at = mr_put_varint(mr_put_varint(list, UINT64_MAX), 2);
    take = mr_take_from(mr_span_make(list, (size_t)(at - list)));
    mr_assert(!mr_control_run_next(&take, &end, &first, &count) && take.failed);
    at = mr_put_varint(mr_put_varint(list, 1), 0);
    take = mr_take_from(mr_span_make(list, (size_t)(at - list)));
    mr_assert(!mr_control_run_next(&take, &end, &first, &count) && take.failed);
}

/* What does not parse ends a list, and the list stays ended. */
static void test_lists_that_fail(void)
{
    static const uint8_t no_number[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                        0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t qos_3[] = {1, 'a', 3, 0, 1, 'b', 0, 0};
    const struct mr_take of_no_number = mr_take_from(mr_span_make(no_number, sizeof(no_number)));
    struct mr_control_filter filter;
    struct mr_control_taker taker;
    struct mr_control_ref ref;
    uint64_t values[3] = {0};
    uint32_t lane;

    for (int round = 0; round < 2; round++) {
        static struct mr_take takes[6];
        if (round == 0) {
            for (size_t i = 0; i < MR_COUNT_OF(takes); i++) {
                takes[i] = of_no_number;
            }
            takes[0] = mr_take_from(mr_span_make(qos_3, sizeof(qos_3)));
        }
        mr_assert(!mr_control_filter_next(&takes[0], MR_CONTROL_SUBSCRIBE, &filter));
        mr_assert(!mr_control_filter_next(&takes[1], MR_CONTROL_UNSUBSCRIBE, &filter));
        mr_assert(!mr_control_taker_next(&takes[2], &taker));
        mr_assert(!mr_control_ref_next(&takes[3], &ref));
        mr_assert(!mr_control_position_next(&takes[4], &lane, &values[0]));
        mr_assert(!mr_control_run_next(&takes[5], &values[0], &values[1], &values[2]));
        for (size_t i = 0; i < MR_COUNT_OF(takes); i++) {
            mr_assert(takes[i].failed);
        }
    }
}

/* Runs end where 64 bits do. */
static void test_runs_that_overflow(void)
{
    uint8_t bytes[2 * MR_VARINT_MAX];
    uint64_t end = 10;
    uint64_t first;
    uint64_t count;

    uint8_t *at = mr_put_varint(mr_put_varint(bytes, UINT64_MAX - 9), 1);
    struct mr_take take = mr_take_from(mr_span_make(bytes, (size_t)(at - bytes)));
    mr_assert(!mr_control_run_next(&take, &end, &first, &count) && take.failed && end == 10);
    at = mr_put_varint(mr_put_varint(bytes, 5), UINT64_MAX - 14);
    take = mr_take_from(mr_span_make(bytes, (size_t)(at - bytes)));
    mr_assert(!mr_control_run_next(&take, &end, &first, &count) && take.failed && end == 10);
    at = mr_put_varint(mr_put_varint(bytes, 5), UINT64_MAX - 15);
    take = mr_take_from(mr_span_make(bytes, (size_t)(at - bytes)));
    mr_assert(mr_control_run_next(&take, &end, &first, &count) && first == 15);
    mr_assert(end == UINT64_MAX);
}

static struct mr_control random_control(struct mr_rng *rng, uint8_t kind, const uint8_t *noise)
{
    struct mr_control c = {.kind = kind, .client = mr_span_make(noise, mr_rng_below(rng, 20))};

    switch (kind) {
    case MR_CONTROL_PUBREL:
        c.packet_id = (uint16_t)mr_rng_below(rng, 65536);
        break;
    case MR_CONTROL_OPEN:
        c.flags = (uint8_t)mr_rng_below(rng, 32);
        c.username = mr_span_make(noise + 1, mr_rng_below(rng, 20));
        c.expiry_s = (uint32_t)mr_rng_below(rng, UINT32_MAX);
        c.window = (uint16_t)mr_rng_below(rng, 65536);
        if ((c.flags & MR_CONTROL_HAS_WILL) != 0) {
            c.will_delay_s = (uint32_t)mr_rng_below(rng, UINT32_MAX);
            c.will_topic = mr_span_make(noise + 2, mr_rng_below(rng, 20));
            c.will_props = mr_span_make(noise + 3, mr_rng_below(rng, 20));
            c.will_payload = mr_span_make(noise + 4, mr_rng_below(rng, 20));
        }
        break;
    case MR_CONTROL_CLOSE:
        c.expiry_s = (uint32_t)mr_rng_below(rng, UINT32_MAX);
        c.ordinal = mr_rng_below(rng, UINT64_MAX);
        break;
    case MR_CONTROL_COPY:
        c.flags = (uint8_t)mr_rng_below(rng, 8);
        c.username = mr_span_make(noise + 1, mr_rng_below(rng, 20));
        c.lane = (uint32_t)mr_rng_below(rng, UINT32_MAX);
        c.seq = mr_rng_u64(rng);
        c.received_us = (int64_t)mr_rng_u64(rng);
        c.will_topic = mr_span_make(noise + 2, mr_rng_below(rng, 20));
        c.will_props = mr_span_make(noise + 3, mr_rng_below(rng, 20));
        c.will_payload = mr_span_make(noise + 4, mr_rng_below(rng, 20));
        break;
    case MR_CONTROL_SUBSCRIBE:
        c.retained = mr_span_make(noise + 5, mr_rng_below(rng, 20));
        c.list = mr_span_make(noise + 6, mr_rng_below(rng, 20));
        break;
    default:
        c.list = mr_span_make(noise + 7, mr_rng_below(rng, 20));
        break;
    }
    return c;
}

static void test_round_trip(void)
{
    uint64_t seed = 4711;
    struct mr_rng rng;
    uint8_t noise[64];
    uint8_t bytes[256];

    mr_rng_seed(&rng, seed);
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = (uint8_t)mr_rng_below(&rng, 256);
    }
    for (int round = 0; round < 20000; round++) {
        uint8_t kind = (uint8_t)mr_rng_below(&rng, MR_CONTROL_KINDS);
        struct mr_control c = random_control(&rng, kind, noise);
        struct mr_control got;
        size_t len = (size_t)(mr_control_put(bytes, &c) - bytes);

        mr_assert(len == mr_control_size(&c));
        mr_assert(mr_control_get(mr_control_record_type(kind), mr_span_make(bytes, len), &got) ==
                  MR_OK);
        mr_assert(got.kind == kind && got.flags == c.flags && got.expiry_s == c.expiry_s);
        mr_assert(mr_span_equal(got.client, c.client) && mr_span_equal(got.list, c.list));
        mr_assert(mr_span_equal(got.username, c.username) && got.window == c.window);
        mr_assert(got.lane == c.lane && got.seq == c.seq && got.received_us == c.received_us);
        mr_assert(mr_span_equal(got.will_topic, c.will_topic) && got.ordinal == c.ordinal);
        mr_assert(mr_span_equal(got.will_props, c.will_props) && got.packet_id == c.packet_id);
        mr_assert(mr_span_equal(got.will_payload, c.will_payload));
        mr_assert(mr_span_equal(got.retained, c.retained) && got.will_delay_s == c.will_delay_s);
        for (size_t cut = 0; cut < len; cut++) { /* never reads beyond: asan would tell */
            uint8_t *exact = malloc(cut == 0 ? 1 : cut);
            memcpy(exact, bytes, cut);
            (void)!mr_control_get(mr_control_record_type(kind), mr_span_make(exact, cut), &got);
            free(exact);
        }
    }
    static const uint8_t later[] = {99, 0, 1, 'x'};
    struct mr_control got;
    mr_assert(mr_control_get(MR_RECORD_SESSION, mr_span_make(later, 4), &got) == MR_ERR_AGAIN);
    mr_assert(mr_control_get(MR_RECORD_SESSION, mr_span_make(later, 2), &got) == MR_ERR_CORRUPT);
    static const uint8_t kind_0[] = {MR_CONTROL_PUBREL, 0, 1, 'x'}; /* it has a type of its own */
    mr_assert(mr_control_get(MR_RECORD_SESSION, mr_span_make(kind_0, 4), &got) == MR_ERR_CORRUPT);
    mr_assert(mr_control_get(MR_RECORD_GAP, mr_span_make(later, 4), &got) == MR_ERR_AGAIN);
}

int main(void)
{
    test_vectors();
    test_lists();
    test_lists_that_fail();
    test_runs_that_overflow();
    test_round_trip();
    printf("ok\n");
    return 0;
}
