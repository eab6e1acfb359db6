/* test_text.c
 * links: base
 *
 * Goal:   text never overruns its buffer, numbers and sizes parse exactly or not
 *         at all, UTF-8 is judged as the Unicode standard does.
 * Method: edges by hand; the UTF-8 check against a decoder that is as plain as
 *         possible, over all sequences of up to three bytes and seeded random ones.
 */
#include "base/rng.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

static void test_text_is_cut_at_every_size(void)
{
    for (size_t size = 0; size <= 16; size++) {
        char guarded[18];
        memset(guarded, '#', sizeof(guarded));
        struct mr_text text = mr_text_over(guarded, size);

        mr_text_add(&text, "seq ");
        mr_text_u64(&text, 1234);
        mr_text_fmt(&text, "/%s", "xyz");
        mr_text_span(&text, mr_span_of("ab")); /* 14 characters in all */
        mr_assert(guarded[size] == '#');
        mr_assert(text.truncated == (size < 15));
        if (size > 0) {
            size_t len = size < 15 ? size - 1 : 14;
            mr_assert(text.len == len && strlen(guarded) == len);
            mr_assert(memcmp(guarded, "seq 1234/xyzab", len) == 0);
        }
    }
}

static const char *number(uint64_t v)
{
    static char buffer[32];
    struct mr_text text = mr_text_over(buffer, sizeof(buffer));
    mr_text_u64(&text, v);
    return buffer;
}

static const char *human(uint64_t bytes)
{
    static char buffer[32];
    struct mr_text text = mr_text_over(buffer, sizeof(buffer));
    mr_text_bytes_human(&text, bytes);
    return buffer;
}

static const char *stamp(int64_t unix_us)
{
    static char buffer[64];
    struct mr_text text = mr_text_over(buffer, sizeof(buffer));
    mr_text_time_us(&text, unix_us);
    mr_assert(!text.truncated);
    return buffer;
}

static void test_numbers_for_people(void)
{
    mr_assert(strcmp(number(0), "0") == 0);
    mr_assert(strcmp(number(UINT64_MAX), "18446744073709551615") == 0);
    mr_assert(strcmp(human(0), "0 B") == 0);
    mr_assert(strcmp(human(1023), "1023 B") == 0);
    mr_assert(strcmp(human(1536), "1.5 KiB") == 0);
    mr_assert(strcmp(human(1 << 20), "1 MiB") == 0);
    mr_assert(strcmp(human((1 << 20) - 1), "1023.9 KiB") == 0);
    mr_assert(strcmp(human(UINT64_MAX), "15.9 EiB") == 0);
}

static void test_times(void)
{
    mr_assert(strcmp(stamp(0), "1970-01-01T00:00:00.000000Z") == 0);
    mr_assert(strcmp(stamp(-1), "1969-12-31T23:59:59.999999Z") == 0);
    mr_assert(strcmp(stamp(INT64_C(1795456561123456)), "2026-11-23T17:56:01.123456Z") == 0);
    mr_assert(strcmp(stamp(INT64_C(951782400000000)), "2000-02-29T00:00:00.000000Z") == 0);
    mr_assert(strcmp(stamp(INT64_C(4107542400000000)), "2100-03-01T00:00:00.000000Z") == 0);
    mr_assert(strcmp(stamp(INT64_C(253402300799999999)), "9999-12-31T23:59:59.999999Z") == 0);
    (void)stamp(INT64_MAX);
    (void)stamp(INT64_MIN);
}

static void test_parse_u64(void)
{
    static const char *const refused[] = {
        "", "-1", "+1", " 1", "1 ", "1x", "0x1", "18446744073709551616", "99999999999999999999"};
    uint64_t v = 7;

    for (size_t i = 0; i < MR_COUNT_OF(refused); i++) {
        mr_assert(mr_parse_u64(mr_span_of(refused[i]), UINT64_MAX, &v) == MR_ERR_REJECT);
    }
    mr_assert(v == 7); /* untouched by refusals */
    mr_assert(mr_parse_u64(mr_span_of("18446744073709551615"), UINT64_MAX, &v) == MR_OK);
    mr_assert(v == UINT64_MAX);
    mr_assert(mr_parse_u64(mr_span_of("65535"), 65535, &v) == MR_OK && v == 65535);
    mr_assert(mr_parse_u64(mr_span_of("65536"), 65535, &v) == MR_ERR_REJECT);
    mr_assert(mr_parse_u64(mr_span_of("9"), 5, &v) == MR_ERR_REJECT);
    mr_assert(mr_parse_u64(mr_span_of("0"), 0, &v) == MR_OK && v == 0);
}

static void test_parse_sizes_and_durations(void)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {
        {"512", 512},         {"0", 0},       {"64MiB", 64 << 20}, {"100GiB", 100ull << 30},
        {"10k", 10000},       {"10K", 10000}, {"1 MiB", 1 << 20},  {"2mb", 2000000},
        {"3TiB", 3ull << 40}, {"7B", 7},
    };
    static const char *const not_sizes[] = {"",      "MiB", "-1k", "1.5GiB", "1  MiB",
                                            "1MiBs", "1 ",  "1x",  "1kibi",  "20000000TiB"};
    static const struct {
        const char *text;
        uint64_t us;
    } durations[] = {
        {"0", 0},       {"10ms", 10000},       {"5s", 5000000},
        {"0s", 0},      {"24h", 86400000000u}, {"7d", 604800000000u},
        {"250us", 250}, {"1m", 60000000},
    };
    static const char *const not_durations[] = {
        "", "10", "s", "-1s", "1M", "5S", "1w", "1s ", "999999999999999999d"};
    uint64_t v = 0;

    for (size_t i = 0; i < MR_COUNT_OF(sizes); i++) {
        mr_assert(mr_parse_size(mr_span_of(sizes[i].text), &v) == MR_OK && v == sizes[i].bytes);
    }
    for (size_t i = 0; i < MR_COUNT_OF(not_sizes); i++) {
        mr_assert(mr_parse_size(mr_span_of(not_sizes[i]), &v) == MR_ERR_REJECT);
    }
    for (size_t i = 0; i < MR_COUNT_OF(durations); i++) {
        mr_assert(mr_parse_duration(mr_span_of(durations[i].text), &v) == MR_OK);
        mr_assert(v == durations[i].us);
    }
    for (size_t i = 0; i < MR_COUNT_OF(not_durations); i++) {
        mr_assert(mr_parse_duration(mr_span_of(not_durations[i]), &v) == MR_ERR_REJECT);
    }
}

/* The plain model: decode, then ask what is wrong with the number. */
static bool utf8_plain(const uint8_t *at, size_t len)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};

    for (size_t i = 0; i < len;) {
        uint8_t lead = at[i];
        size_t size = lead < 0x80             ? 1
                      : (lead & 0xe0) == 0xc0 ? 2
                      : (lead & 0xf0) == 0xe0 ? 3
                      : (lead & 0xf8) == 0xf0 ? 4
                                              : 0;
        if (size == 0 || size > len - i) {
            return false;
        }
        uint32_t v = size == 1 ? lead : lead & (0xffu >> (size + 1));
        for (size_t j = 1; j < size; j++) {
            if ((at[i + j] & 0xc0) != 0x80) {
                return false;
            }
            v = v << 6 | (at[i + j] & 0x3fu);
        }
        if (v == 0 || v < smallest[size] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff)) {
            return false;
        }
        i += size;
    }
    return true;
}

static void utf8_compare(const uint8_t *at, size_t len)
{
    mr_assert(mr_utf8_valid(mr_span_make(at, len)) == utf8_plain(at, len));
}

/* Shows 5.0: 1.5.4-1, 1.5.4-2; 3.1.1: 1.5.3-1, 1.5.3-2. */
static void test_utf8_all_short_sequences(void)
{
    uint8_t at[11] = "aaaaaaaa"; /* eight letters before: the fast path ends right there */

    for (uint32_t v = 0; v < 1u << 24; v++) {
        at[8] = (uint8_t)(v >> 16);
        at[9] = (uint8_t)(v >> 8);
        at[10] = (uint8_t)v;
        utf8_compare(at, 11);
    }
    for (uint32_t v = 0; v < 1u << 16; v++) {
        at[8] = (uint8_t)(v >> 8);
        at[9] = (uint8_t)v;
        utf8_compare(at + 8, 2);
        utf8_compare(at + 8, 1);
    }
}

static void test_utf8_random(uint64_t seed)
{
    /* Bytes at which something changes, so that random text is often valid. */
    static const uint8_t edges[] = {'a',  'z',  0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1,
                                    0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0x00, '/'};
    struct mr_rng rng;
    uint8_t at[24];

    mr_rng_seed(&rng, seed);
    for (unsigned round = 0; round < 300000; round++) {
        size_t len = mr_rng_below(&rng, sizeof(at) + 1);
        for (size_t i = 0; i < len; i++) {
            at[i] = mr_rng_below(&rng, 4) == 0 ? edges[mr_rng_below(&rng, sizeof(edges))] : 'm';
        }
        utf8_compare(at, len);
    }
    mr_assert(mr_utf8_valid(mr_span_make(NULL, 0)));
    mr_assert(mr_utf8_valid(mr_span_of("fabrik/öfen/温度/🌡")));
    mr_assert(mr_utf8_valid(mr_span_of("\xf4\x8f\xbf\xbf")));  /* U+10FFFF */
    mr_assert(!mr_utf8_valid(mr_span_of("\xf4\x90\x80\x80"))); /* one beyond */
    mr_assert(!mr_utf8_valid(mr_span_of("\xed\xa0\x80")));     /* U+D800 */
    mr_assert(!mr_utf8_valid(mr_span_make("abcdefg\0", 8)));
}

static void test_distance(void)
{
    mr_assert(mr_text_distance("", "") == 0);
    mr_assert(mr_text_distance("", "abc") == 3);
    mr_assert(mr_text_distance("abc", "") == 3);
    mr_assert(mr_text_distance("message_key", "mesage_key") == 1);
    mr_assert(mr_text_distance("servers", "serves") == 1);
    mr_assert(mr_text_distance("topic", "tpoic") == 1); /* neighbours swapped */
    mr_assert(mr_text_distance("kitten", "sitting") == 3);
    mr_assert(mr_text_distance("ca", "abc") == 3); /* no edit inside a swapped pair */

    char a[100];
    char b[100];
    memset(a, 'a', sizeof(a));
    memset(b, 'b', sizeof(b));
    a[99] = b[99] = '\0';
    mr_assert(mr_text_distance(a, b) == 64);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    printf("seed %llu\n", (unsigned long long)seed);
    test_text_is_cut_at_every_size();
    test_numbers_for_people();
    test_times();
    test_parse_u64();
    test_parse_sizes_and_durations();
    test_utf8_all_short_sequences();
    test_utf8_random(seed);
    test_distance();
    return 0;
}
